//! The Node object: what the cluster knows of the machine below it, and whether pods can be started there.
//!
//! `app` runs [`run`] as one task; it may read the engine and write the Node and its Lease. [`node_object`] is pure.
//!
//! **Invariants**: labels, annotations, taints and `spec.unschedulable` that others set stay as they are; a condition's transition
//! time moves only with its status; nothing is written while nothing changes, apart from the Lease. A Node that somebody deleted
//! comes back.
//! **Not here**: which pods fit (`controllers`), what happens to pods while the engine is away (the workers).
//! **Source**: `pkg/kubelet/kubelet_node_status.go`, `pkg/kubelet/nodestatus/setters.go`,
//! `k8s.io/component-helpers/apimachinery/lease/controller.go`, v1.37.

use crate::{
    api::{
        kinds::{lease::Leases, node::Nodes},
        meta::ObjectKey,
        status::{ApiError, ErrorClass},
    },
    base::{backoff::Backoff, chain::chain, task::Drain},
    engine::{Engine, EngineError, EngineEvent, EngineInfo, Image},
    registry::{
        Registry,
        events::{Recorder, Severity, reference},
    },
};
use futures::StreamExt as _;
use jiff::Timestamp;
use k8s_openapi::{
    api::{
        coordination::v1::{Lease, LeaseSpec},
        core::v1::{ContainerImage, Node, NodeAddress, NodeCondition, NodeSpec, NodeStatus, NodeSystemInfo},
    },
    apimachinery::pkg::{
        api::resource::Quantity,
        apis::meta::v1::{MicroTime, ObjectMeta, OwnerReference, Time},
    },
};
use sha2::{Digest as _, Sha256};
use std::{cmp::Reverse, collections::BTreeMap, fmt::Write as _, net::Ipv4Addr, sync::Arc, time::Duration};
use tokio::time::Instant;
use tracing::{info, warn};

/// What `kubectl get nodes` shows as the version: the Kubernetes that is spoken, and who speaks it.
const KUBELET_VERSION: &str = concat!("v1.37.0+skiff-", env!("CARGO_PKG_VERSION"));
/// Pods on the node at most. More than the kubelet's 110, because this node is all there is; fewer than the addresses of a /24.
const PODS_MAX: u32 = 250;
/// Images in the status at most. Source: kubelet `nodeStatusMaxImages`.
const IMAGES_MAX: usize = 50;
/// Names of an image in the status at most. Source: `maxNamesPerImageInNodeStatus`, pkg/kubelet/nodestatus.
const IMAGE_NAMES_MAX: usize = 5;
/// How long the engine's images may go on changing before they are listed: one build or pull tells several changes.
const IMAGES_SETTLE: Duration = Duration::from_secs(2);
/// How often the engine is asked whether it is there. Its event stream only tells when it is back, so somebody must ask. One ping
/// costs the two processes well under a millisecond, so at this pace they stay below a ten-thousandth of a core.
const CHECK_PERIOD: Duration = Duration::from_secs(10);
/// How soon an engine that did not answer is asked again.
const CHECK_AGAIN: Backoff = Backoff { base: Duration::from_secs(1), cap: CHECK_PERIOD };
/// A call can fail by itself; only so many failures in a row mean that the engine is not there. A refused connection means it at once.
const FAILURES_MAX: u32 = 3;
/// How often the Lease is renewed. The kubelet's 10 seconds let the control plane notice that another machine died; here both are
/// one process, and nobody but a curious user reads the Lease. Every renewal is a write with a disk flush and wakes all who watch
/// Leases, so it is rare: 288 a day. `leaseDurationSeconds` is four times as long, as in Kubernetes, so the Lease is never stale.
const LEASE_PERIOD: Duration = Duration::from_mins(5);
const LEASE_DURATION_SECS: i32 = 1200;
const LEASE_NAMESPACE: &str = "kube-node-lease";
/// Why the node is not ready.
const ENGINE_AWAY: &str = "ContainerRuntimeNotReady";

/// What the node is, beside what the engine says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeFacts {
    /// Its name: the cluster's.
    pub node_name: String,
    /// Its address: the host's on the cluster's network.
    pub node_ip: Ipv4Addr,
    /// The range of its pods' addresses in CIDR form.
    pub pod_cidr: String,
}

/// The Node object of a machine whose engine answers. Images are added by [`run`].
pub fn node_object(facts: &NodeFacts, info: &EngineInfo, now: Timestamp) -> Node {
    Node {
        metadata: ObjectMeta {
            name: Some(facts.node_name.clone()),
            labels: Some(labels(facts, info)),
            ..Default::default()
        },
        spec: Some(NodeSpec {
            pod_cidr: Some(facts.pod_cidr.clone()),
            pod_cidrs: Some(vec![facts.pod_cidr.clone()]),
            provider_id: Some(format!("skiff://{}", facts.node_name)),
            ..Default::default()
        }),
        status: Some(NodeStatus {
            addresses: Some(addresses(facts)),
            capacity: Some(capacity(info)),
            allocatable: Some(capacity(info)),
            conditions: Some(conditions(now)),
            node_info: Some(system_info(facts, info)),
            ..Default::default()
        }),
    }
}

fn labels(facts: &NodeFacts, info: &EngineInfo) -> BTreeMap<String, String> {
    let pairs = [
        ("beta.kubernetes.io/arch", info.architecture.as_str()),
        ("beta.kubernetes.io/os", "linux"),
        ("kubernetes.io/arch", &info.architecture),
        ("kubernetes.io/hostname", &facts.node_name),
        ("kubernetes.io/os", "linux"),
        ("node-role.kubernetes.io/control-plane", ""),
    ];
    pairs.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

fn addresses(facts: &NodeFacts) -> Vec<NodeAddress> {
    let address = |kind: &str, address: String| NodeAddress { type_: kind.to_owned(), address };
    vec![address("InternalIP", facts.node_ip.to_string()), address("Hostname", facts.node_name.clone())]
}

fn capacity(info: &EngineInfo) -> BTreeMap<String, Quantity> {
    let amounts = [
        ("cpu", info.cpus.to_string()),
        ("memory", format!("{}Ki", info.memory_bytes / 1024)),
        ("pods", PODS_MAX.to_string()),
    ];
    amounts.into_iter().map(|(name, amount)| (name.to_owned(), Quantity(amount))).collect()
}

/// The node is a name in a cluster rather than a machine, and the engine may be on another one: what must be unique and
/// lasting follows from the name.
fn system_info(facts: &NodeFacts, info: &EngineInfo) -> NodeSystemInfo {
    NodeSystemInfo {
        architecture: info.architecture.clone(),
        boot_id: uuid_of("boot", &facts.node_name),
        container_runtime_version: format!("docker://{}", info.version),
        kernel_version: info.kernel.clone(),
        kube_proxy_version: String::new(),
        kubelet_version: KUBELET_VERSION.to_owned(),
        machine_id: uuid_of("machine", &facts.node_name).replace('-', ""),
        operating_system: "linux".to_owned(),
        os_image: info.os.clone(),
        running_in_user_namespace: info.rootless.then_some(true),
        swap: None,
        system_uuid: uuid_of("system", &facts.node_name),
    }
}

/// A UUID that follows from a name.
fn uuid_of(what: &str, name: &str) -> String {
    let digest = Sha256::digest(format!("skiff {what} {name}"));
    let mut hex = String::new();
    for (i, byte) in digest.iter().take(16).enumerate() {
        if matches!(i, 4 | 6 | 8 | 10) {
            hex.push('-');
        }
        write!(hex, "{byte:02x}").expect("writing to a String cannot fail");
    }
    hex
}

/// The time in whole seconds, which is what the API stores.
fn seconds(at: Timestamp) -> Time {
    Time(Timestamp::from_second(at.as_second()).expect("a time without its fraction is a time"))
}

fn condition(kind: &str, status: &str, reason: &str, message: &str, now: Timestamp) -> NodeCondition {
    NodeCondition {
        type_: kind.to_owned(),
        status: status.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        last_heartbeat_time: Some(seconds(now)),
        last_transition_time: Some(seconds(now)),
    }
}

fn conditions(now: Timestamp) -> Vec<NodeCondition> {
    let fine = |kind: &str, reason: &str, message: &str| condition(kind, "False", reason, message, now);
    vec![
        fine("MemoryPressure", "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
        fine("DiskPressure", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
        fine("PIDPressure", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
        condition("Ready", "True", "KubeletReady", "kubelet is posting ready status", now),
    ]
}

/// Whether a Node's `Ready` condition is true.
fn is_ready(node: &Node) -> bool {
    let mut all = node.status.iter().flat_map(|s| s.conditions.iter().flatten());
    all.any(|c| c.type_ == "Ready" && c.status == "True")
}

/// Puts conditions among those that are there; a transition time moves only with the status.
fn set_conditions(all: &mut Vec<NodeCondition>, new: &[NodeCondition]) {
    for wanted in new {
        match all.iter_mut().find(|c| c.type_ == wanted.type_) {
            None => all.push(wanted.clone()),
            Some(old) if old.status == wanted.status => {
                let since = old.last_transition_time.clone();
                *old = NodeCondition { last_transition_time: since, ..wanted.clone() };
            }
            Some(old) => *old = wanted.clone(),
        }
    }
}

/// Takes over into a stored Node what this task owns of its labels and spec.
fn merge_main(old: &mut Node, wanted: &Node) {
    let labels = old.metadata.labels.get_or_insert_default();
    labels.extend(wanted.metadata.labels.clone().unwrap_or_default());
    let (spec, wanted) = (old.spec.get_or_insert_default(), wanted.spec.clone().unwrap_or_default());
    spec.pod_cidr = wanted.pod_cidr;
    spec.pod_cidrs = wanted.pod_cidrs;
    spec.provider_id = wanted.provider_id;
}

/// Takes over into a stored Node what this task owns of its status.
fn merge_status(old: &mut Node, wanted: &Node) {
    let (status, wanted) = (old.status.get_or_insert_default(), wanted.status.clone().unwrap_or_default());
    status.addresses = wanted.addresses;
    status.capacity = wanted.capacity;
    status.allocatable = wanted.allocatable;
    status.node_info = wanted.node_info;
    set_conditions(status.conditions.get_or_insert_default(), &wanted.conditions.unwrap_or_default());
}

/// The biggest images, with some of their names. Source: `nodestatus.Images`, pkg/kubelet/nodestatus/setters.go.
fn image_list(mut images: Vec<Image>) -> Vec<ContainerImage> {
    images.retain(|image| !image.tags.is_empty() || !image.digests.is_empty());
    images.sort_by(|a, b| Reverse(a.size_bytes).cmp(&Reverse(b.size_bytes)).then_with(|| a.id.cmp(&b.id)));
    images.truncate(IMAGES_MAX);
    let shown = images.into_iter().map(|image| {
        let names = image.digests.into_iter().chain(image.tags).take(IMAGE_NAMES_MAX).collect();
        ContainerImage { names: Some(names), size_bytes: Some(image.size_bytes) }
    });
    shown.collect()
}

/// Keeps the Node object and its Lease true until drained.
pub async fn run(registry: Registry, engine: Arc<dyn Engine>, facts: NodeFacts, drain: Drain) {
    let mut events = engine.events();
    let mut keeper = Keeper::new(registry, engine, facts);
    loop {
        let wake = keeper.wake_at();
        tokio::select! {
            biased;
            () = drain.drained() => return,
            event = events.next() => match event {
                Some(event) => keeper.note(&event),
                None => return warn!(component = "node", "the engine's event stream ended; the Node is not kept any more"),
            },
            () = tokio::time::sleep_until(wake) => {}
        }
        tokio::select! {
            biased;
            () = drain.drained() => return,
            () = keeper.do_what_is_due() => {}
        }
    }
}

/// What [`run`] remembers: when to do what, and what it wrote.
struct Keeper {
    registry: Registry,
    engine: Arc<dyn Engine>,
    facts: NodeFacts,
    key: ObjectKey,
    check_at: Instant,
    lease_at: Instant,
    images_at: Option<Instant>,
    /// How often in a row the engine did not answer.
    failures: u32,
    /// What the Node was written from; none when it must be written.
    written: Option<EngineInfo>,
}

impl Keeper {
    fn new(registry: Registry, engine: Arc<dyn Engine>, facts: NodeFacts) -> Self {
        let now = registry.clock().mono();
        let key = ObjectKey::new("", &facts.node_name);
        Self {
            registry,
            engine,
            facts,
            key,
            check_at: now,
            lease_at: now,
            images_at: Some(now),
            failures: 0,
            written: None,
        }
    }

    fn now(&self) -> Instant {
        self.registry.clock().mono()
    }

    fn wake_at(&self) -> Instant {
        let first = self.check_at.min(self.lease_at);
        self.images_at.map_or(first, |at| at.min(first))
    }

    /// What an event makes due. After an interruption everything may be different; changes of images come in groups.
    fn note(&mut self, event: &EngineEvent) {
        let now = self.now();
        match event {
            EngineEvent::Container { .. } => {}
            EngineEvent::Resync => {
                self.check_at = now;
                self.images_at = Some(now);
            }
            EngineEvent::Images => {
                self.images_at.get_or_insert(now + IMAGES_SETTLE);
            }
        }
    }

    async fn do_what_is_due(&mut self) {
        if self.check_at <= self.now() {
            self.check().await;
        }
        if self.failures == 0 && self.images_at.is_some_and(|at| at <= self.now()) {
            self.refresh_images().await;
        }
        if self.lease_at <= self.now() {
            self.renew_lease().await;
        }
        // An engine that does not answer tells no images; they are asked for when it is back.
        if self.failures > 0 {
            self.images_at = self.images_at.map(|at| at.max(self.check_at));
        }
    }

    /// Asks the engine whether it is there, and lets the Node say so.
    async fn check(&mut self) {
        let written = match self.engine.info().await {
            Ok(info) => {
                self.failures = 0;
                self.publish(info).await
            }
            Err(err) => {
                self.failures = self.failures.saturating_add(1);
                let is_certain = matches!(err, EngineError::Unreachable(_)) || self.failures >= FAILURES_MAX;
                if is_certain { self.say_not_ready(&err).await } else { Ok(()) }
            }
        };
        if let Err(err) = written {
            warn!(component = "node", name = self.facts.node_name, err = chain(&err), "the Node cannot be written");
            self.written = None;
        }
        let pause = if self.failures == 0 { CHECK_PERIOD } else { CHECK_AGAIN.delay(self.failures) };
        self.check_at = self.now() + pause;
    }

    /// Writes the Node unless it says already what it should.
    async fn publish(&mut self, info: EngineInfo) -> Result<(), ApiError> {
        let nodes = self.registry.api::<Nodes>();
        let stored = nodes.get(&self.key);
        let was_ready = stored.as_deref().is_some_and(is_ready);
        if was_ready && self.written.as_ref() == Some(&info) {
            return Ok(());
        }
        let wanted = node_object(&self.facts, &info, self.registry.clock().now());
        let node = if stored.is_some() {
            nodes.modify(&self.key, |node| merge_main(node, &wanted)).await?;
            nodes.modify_status(&self.key, |node| merge_status(node, &wanted)).await?
        } else {
            self.images_at = Some(self.now());
            self.lease_at = self.now();
            nodes.create(wanted).await?
        };
        self.written = Some(info);
        if !was_ready {
            self.announce(&node, "NodeReady");
        }
        Ok(())
    }

    /// Lets a Node that exists say that its engine is away.
    async fn say_not_ready(&mut self, err: &EngineError) -> Result<(), ApiError> {
        let nodes = self.registry.api::<Nodes>();
        let Some(stored) = nodes.get(&self.key) else {
            return Ok(());
        };
        let message = format!("container runtime is down: {err}");
        let away = [condition("Ready", "False", ENGINE_AWAY, &message, self.registry.clock().now())];
        let says_so =
            |c: &NodeCondition| c.type_ == "Ready" && c.status == "False" && c.message.as_ref() == Some(&message);
        if stored.status.iter().flat_map(|s| s.conditions.iter().flatten()).any(says_so) {
            return Ok(());
        }
        let change = |node: &mut Node| {
            set_conditions(node.status.get_or_insert_default().conditions.get_or_insert_default(), &away);
        };
        let node = nodes.modify_status(&self.key, change).await?;
        if is_ready(&stored) {
            self.announce(&node, "NodeNotReady");
        }
        Ok(())
    }

    /// Source of the text: `recordNodeStatusEvent`, pkg/kubelet/kubelet_node_status.go.
    fn announce(&self, node: &Node, reason: &'static str) {
        info!(component = "node", name = self.facts.node_name, reason, "node status changed");
        let message = format!("Node {} status is now: {reason}", self.facts.node_name);
        let recorder = Recorder::new(self.registry.clone(), "kubelet");
        recorder.record(&reference::<Nodes>(node), Severity::Normal, reason, &message);
    }

    async fn refresh_images(&mut self) {
        self.images_at = None;
        let images = match self.engine.images().await {
            Ok(images) => image_list(images),
            Err(err) => {
                warn!(component = "node", err = chain(&err), "the engine's images cannot be listed; trying again");
                self.images_at = Some(self.now() + CHECK_PERIOD);
                return;
            }
        };
        let change = |node: &mut Node| node.status.get_or_insert_default().images = Some(images.clone());
        match self.registry.api::<Nodes>().modify_status(&self.key, change).await {
            // Without a Node there is nothing to show; its creation makes the images due again.
            Ok(_) => {}
            Err(err) if err.class() == ErrorClass::NotFound => {}
            Err(err) => {
                warn!(component = "node", err = chain(&err), "the Node's images cannot be written; trying again");
                self.images_at = Some(self.now() + CHECK_PERIOD);
            }
        }
    }

    /// Renews the Lease of a Node that exists, whatever the engine does: it tells that the node agent lives.
    async fn renew_lease(&mut self) {
        self.lease_at = self.now() + LEASE_PERIOD;
        let Some(node) = self.registry.api::<Nodes>().get(&self.key) else {
            return;
        };
        let leases = self.registry.api::<Leases>();
        let key = ObjectKey::new(LEASE_NAMESPACE, &self.facts.node_name);
        let wanted = lease(&node, self.registry.clock().now());
        let renewed = if leases.get(&key).is_some() {
            leases.modify(&key, |old| renew(old, &wanted)).await
        } else {
            leases.create(wanted).await
        };
        if let Err(err) = renewed {
            warn!(component = "node", err = chain(&err), "the node's Lease cannot be renewed; trying again");
            self.lease_at = self.now() + CHECK_PERIOD;
        }
    }
}

/// The Lease of a node.
fn lease(node: &Node, now: Timestamp) -> Lease {
    let name = node.metadata.name.clone().unwrap_or_default();
    Lease {
        metadata: ObjectMeta {
            name: Some(name.clone()),
            namespace: Some(LEASE_NAMESPACE.to_owned()),
            owner_references: Some(vec![OwnerReference {
                api_version: "v1".to_owned(),
                kind: "Node".to_owned(),
                name: name.clone(),
                uid: node.metadata.uid.clone().unwrap_or_default(),
                ..Default::default()
            }]),
            ..Default::default()
        },
        spec: Some(LeaseSpec {
            holder_identity: Some(name),
            lease_duration_seconds: Some(LEASE_DURATION_SECS),
            renew_time: Some(MicroTime(now)),
            ..Default::default()
        }),
    }
}

fn renew(old: &mut Lease, wanted: &Lease) {
    old.metadata.owner_references.clone_from(&wanted.metadata.owner_references);
    let (spec, wanted) = (old.spec.get_or_insert_default(), wanted.spec.clone().unwrap_or_default());
    spec.holder_identity = wanted.holder_identity;
    spec.lease_duration_seconds = wanted.lease_duration_seconds;
    spec.renew_time = wanted.renew_time;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        api::kinds::namespace::Namespaces,
        base::{
            clock::Clock,
            rng::Rng,
            task::{self, DrainTrigger, drain_signal},
        },
        engine::fake::{Behaviour, CallKind, FakeEngine, Fault},
        testing,
    };
    use expect_test::expect;
    use serde_json::json;

    fn facts() -> NodeFacts {
        NodeFacts { node_name: "skiff".into(), node_ip: Ipv4Addr::new(10, 244, 0, 1), pod_cidr: "10.244.0.0/24".into() }
    }

    fn docker() -> EngineInfo {
        EngineInfo {
            version: "20.10.24".into(),
            api_version: "1.41".into(),
            os: "Debian GNU/Linux 12 (bookworm)".into(),
            kernel: "6.1.0-18-amd64".into(),
            architecture: "amd64".into(),
            cpus: 2,
            memory_bytes: 8_344_039_424,
            rootless: false,
        }
    }

    #[test]
    fn a_node_tells_what_the_engine_and_the_cluster_are() {
        let node = node_object(&facts(), &docker(), "2026-01-01T00:00:00.5Z".parse().unwrap());
        expect![[r#"
            apiVersion: v1
            kind: Node
            metadata:
              labels:
                beta.kubernetes.io/arch: amd64
                beta.kubernetes.io/os: linux
                kubernetes.io/arch: amd64
                kubernetes.io/hostname: skiff
                kubernetes.io/os: linux
                node-role.kubernetes.io/control-plane: ''
              name: skiff
            spec:
              podCIDR: 10.244.0.0/24
              podCIDRs:
              - 10.244.0.0/24
              providerID: skiff://skiff
            status:
              addresses:
              - address: 10.244.0.1
                type: InternalIP
              - address: skiff
                type: Hostname
              allocatable:
                cpu: '2'
                memory: 8148476Ki
                pods: '250'
              capacity:
                cpu: '2'
                memory: 8148476Ki
                pods: '250'
              conditions:
              - lastHeartbeatTime: 2026-01-01T00:00:00Z
                lastTransitionTime: 2026-01-01T00:00:00Z
                message: kubelet has sufficient memory available
                reason: KubeletHasSufficientMemory
                status: 'False'
                type: MemoryPressure
              - lastHeartbeatTime: 2026-01-01T00:00:00Z
                lastTransitionTime: 2026-01-01T00:00:00Z
                message: kubelet has no disk pressure
                reason: KubeletHasNoDiskPressure
                status: 'False'
                type: DiskPressure
              - lastHeartbeatTime: 2026-01-01T00:00:00Z
                lastTransitionTime: 2026-01-01T00:00:00Z
                message: kubelet has sufficient PID available
                reason: KubeletHasSufficientPID
                status: 'False'
                type: PIDPressure
              - lastHeartbeatTime: 2026-01-01T00:00:00Z
                lastTransitionTime: 2026-01-01T00:00:00Z
                message: kubelet is posting ready status
                reason: KubeletReady
                status: 'True'
                type: Ready
              nodeInfo:
                architecture: amd64
                bootID: 770cd5bc-b3ec-d0a3-99f4-3b81082a9897
                containerRuntimeVersion: docker://20.10.24
                kernelVersion: 6.1.0-18-amd64
                kubeProxyVersion: ''
                kubeletVersion: v1.37.0+skiff-0.1.0
                machineID: 562feaa90a52aa3b445157d904f09d92
                operatingSystem: linux
                osImage: Debian GNU/Linux 12 (bookworm)
                systemUUID: 6a9919d2-1f2d-b787-c7d9-259c0b0e9fde
        "#]]
        .assert_eq(&serde_yaml::to_string(&node).unwrap());
    }

    #[test]
    fn the_biggest_fifty_images_that_have_a_name_are_shown() {
        let image = |n: i64| Image {
            id: format!("sha256:{n}"),
            tags: (0..7).map(|t| format!("app{n}:{t}")).collect(),
            digests: vec![format!("app{n}@sha256:0")],
            size_bytes: n,
            ..Image::default()
        };
        let mut images: Vec<Image> = (0..60).map(image).collect();
        images.push(Image { size_bytes: 1000, ..Image::default() });
        let shown = image_list(images);
        assert_eq!(shown.len(), 50);
        assert_eq!(shown[0].size_bytes, Some(59));
        let names = shown[0].names.clone().unwrap();
        assert_eq!(names, ["app59@sha256:0", "app59:0", "app59:1", "app59:2", "app59:3"]);
    }

    struct World {
        registry: Registry,
        engine: FakeEngine,
        _drain: DrainTrigger,
    }

    async fn registry() -> (Registry, FakeEngine) {
        let clock = Clock::simulated("2026-01-01T00:00:00Z".parse().unwrap());
        let registry = testing::registry_with(clock.clone(), Rng::seeded(1)).await;
        let namespace = serde_json::from_value(json!({"metadata": {"name": LEASE_NAMESPACE}})).unwrap();
        registry.api::<Namespaces>().create(namespace).await.unwrap();
        (registry, FakeEngine::new(clock, Rng::seeded(1), Default::default()))
    }

    fn start((registry, engine): (Registry, FakeEngine)) -> World {
        let (trigger, drain) = drain_signal();
        task::spawn("node-object", run(registry.clone(), Arc::new(engine.clone()), facts(), drain));
        World { registry, engine, _drain: trigger }
    }

    async fn pass(seconds: u64) {
        tokio::time::sleep(Duration::from_secs(seconds)).await;
    }

    impl World {
        fn node(&self) -> Option<Arc<Node>> {
            self.registry.api::<Nodes>().get(&ObjectKey::new("", "skiff"))
        }

        /// Status, reason, message and transition time of `Ready`.
        fn ready(&self) -> String {
            let node = self.node().expect("the Node exists");
            let all = node.status.clone().unwrap_or_default().conditions.unwrap_or_default();
            let c = all.iter().find(|c| c.type_ == "Ready").expect("there is a Ready condition");
            let text = |t: &Option<String>| t.clone().unwrap_or_default();
            let since = c.last_transition_time.as_ref().map(|t| t.0.to_string()).unwrap_or_default();
            format!("{} {} ({}) since {since}", c.status, text(&c.reason), text(&c.message))
        }

        fn version(&self) -> String {
            self.node().expect("the Node exists").metadata.resource_version.clone().unwrap_or_default()
        }

        fn lease(&self) -> Arc<Lease> {
            self.registry.api::<Leases>().get(&ObjectKey::new(LEASE_NAMESPACE, "skiff")).expect("the Lease exists")
        }

        fn images(&self) -> Vec<String> {
            let status = self.node().expect("the Node exists").status.clone().unwrap_or_default();
            status.images.unwrap_or_default().into_iter().flat_map(|i| i.names.unwrap_or_default()).collect()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_node_follows_the_engine_away_and_back() {
        let world = start(registry().await);
        pass(1).await;
        let up = "True KubeletReady (kubelet is posting ready status) since ";
        assert_eq!(world.ready(), format!("{up}2026-01-01T00:00:00Z"));
        pass(100).await;
        world.engine.daemon_down(false);
        pass(11).await;
        let away = "container runtime is down: ask the engine for its version: the fake engine is not running";
        assert_eq!(world.ready(), format!("False ContainerRuntimeNotReady ({away}) since 2026-01-01T00:01:50Z"));
        let version = world.version();
        pass(100).await;
        assert_eq!(world.version(), version, "an engine that stays away is written once");
        world.engine.daemon_up();
        pass(1).await;
        assert_eq!(world.ready(), format!("{up}2026-01-01T00:03:32Z"));
    }

    #[tokio::test(start_paused = true)]
    async fn one_failed_call_does_not_make_the_node_unready() {
        let world = start(registry().await);
        pass(9).await;
        let version = world.version();
        world.engine.fail_nth_call(1, Fault::FailBefore);
        pass(5).await;
        assert!(!world.engine.nth_call_is_pending());
        assert_eq!(world.version(), version);
    }

    #[tokio::test(start_paused = true)]
    async fn at_rest_nothing_is_written_but_the_lease_every_five_minutes() {
        let world = start(registry().await);
        pass(1).await;
        let (node, first) = (world.version(), world.lease());
        assert_eq!(
            first.metadata.owner_references.as_ref().unwrap()[0].uid,
            world.node().unwrap().metadata.uid.clone().unwrap()
        );
        let revision = world.registry.store().revision();
        pass(290).await;
        assert_eq!(world.registry.store().revision(), revision);
        pass(20).await;
        assert_eq!(world.version(), node);
        let renewed = world.lease().spec.clone().unwrap().renew_time.unwrap().0;
        assert_eq!(renewed.to_string(), "2026-01-01T00:05:00Z");
    }

    #[tokio::test(start_paused = true)]
    async fn changes_of_images_are_shown_together() {
        let world = start(registry().await);
        pass(1).await;
        world.engine.take_calls();
        world.engine.add_image("a:1", Behaviour::server());
        world.engine.add_image("b:1", Behaviour::server());
        pass(3).await;
        assert_eq!(world.images(), ["a:1", "b:1"]);
        let lists = world.engine.take_calls().iter().filter(|c| c.kind == CallKind::Images).count();
        assert_eq!(lists, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn what_others_set_on_the_node_stays_and_a_deleted_node_comes_back() {
        let (registry, engine) = registry().await;
        let old = json!({"metadata": {"name": "skiff", "labels": {"disk": "ssd", "kubernetes.io/arch": "mips"}},
                         "spec": {"unschedulable": true}});
        registry.api::<Nodes>().create(serde_json::from_value(old).unwrap()).await.unwrap();
        let world = start((registry, engine));
        pass(1).await;
        let node = world.node().unwrap();
        let labels = node.metadata.labels.clone().unwrap();
        assert_eq!((labels["disk"].as_str(), labels["kubernetes.io/arch"].as_str()), ("ssd", "amd64"));
        let spec = node.spec.clone().unwrap();
        assert_eq!((spec.unschedulable, spec.pod_cidr.as_deref()), (Some(true), Some("10.244.0.0/24")));
        let nodes = world.registry.api::<Nodes>();
        nodes.delete(&ObjectKey::new("", "skiff"), &Default::default()).await.unwrap();
        assert!(world.node().is_none());
        pass(11).await;
        assert!(is_ready(&world.node().expect("it is back")));
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_of_before_is_not_ready_while_the_engine_has_not_answered() {
        let (registry, engine) = registry().await;
        let now = registry.clock().now();
        registry.api::<Nodes>().create(node_object(&facts(), &docker(), now)).await.unwrap();
        engine.daemon_down(false);
        let world = start((registry, engine));
        pass(1).await;
        assert!(world.ready().starts_with("False ContainerRuntimeNotReady"));
    }
}
