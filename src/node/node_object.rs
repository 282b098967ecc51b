//! The node's own object and Lease: what the cluster is told of this machine. A machine that is shown as several nodes has several.
//!
//! Started by `agent`; one task for each node.
//!
//! The Lease is renewed once a minute, not every ten seconds as a kubelet does: the agent lives in the process that serves the API,
//! so that a late Lease could tell no more than an API that does not answer, and every renewal is a disk flush on an idle machine.
//! The same minute is the health check of the engine when nothing else asks it.
//!
//! The disk is under pressure when less than [`DISK_LEAST`] is free, or a twentieth of a small one: the kubelet's tenth would make a
//! node of many a developer's machine that takes no pods, whose disk is as good as full and has room for days. New pods wait then (the
//! taint is `controllers::node_status`'s). None is evicted: what fills such a disk is as a rule not the pods, and would fill it again.
//!
//! **Invariants**: the node is `Ready` exactly while the engine answers and the cluster is not paused; pods keep their last status while it does not.
//! **Source**: `pkg/kubelet/nodestatus/setters.go`, `pkg/kubelet/kubelet_node_status.go`, v1.37.

use super::{
    context::{Context, ImageFollower},
    status::seconds,
    translate::NodeFacts,
};
use crate::{
    api::{
        agreements::{CONTROL_PLANE_ROLE, PAUSED_REASON},
        kind::Erased,
        kinds::{image_stream::ImageStreams, lease::Leases, node::Nodes},
        meta::ObjectKey,
        status::{ApiError, ErrorClass},
    },
    base::{
        backoff::Backoff,
        chain::chain,
        ordered::{CollectOrdered as _, SortList as _},
        task::Drain,
    },
    engine::{EngineInfo, Image},
    registry::events::Severity,
};
use k8s_openapi::{
    api::{
        coordination::v1::{Lease, LeaseSpec},
        core::v1::{ContainerImage, Node, NodeAddress, NodeCondition, NodeStatus, NodeSystemInfo},
    },
    apimachinery::pkg::{
        api::resource::Quantity as Text,
        apis::meta::v1::{MicroTime, ObjectMeta, OwnerReference},
    },
};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::time::Instant;
use tracing::{info, warn};

/// See the module's header.
const LEASE_PERIOD: Duration = Duration::from_mins(1);
/// Five times the period, as a kubelet's 40 s are four times its own.
const LEASE_SECS: i32 = 300;
/// Source: `NodeStatusReportFrequency`, `pkg/kubelet/apis/config`, v1.37.
const HEARTBEAT: Duration = Duration::from_mins(5);
/// Images change in bursts (a build tags several): the first change is told at once, for image streams follow it, and the rest together.
const IMAGES_SETTLE: Duration = Duration::from_millis(100);
/// Looking whether an engine that is away is back.
const AWAY_BACKOFF: Backoff = Backoff { base: Duration::from_millis(500), cap: Duration::from_secs(5) };
/// See the module's header; in bytes.
const DISK_LEAST: u64 = 1 << 30;
/// The part of a disk that is enough, where it is less than that.
const DISK_PART: u64 = 20;
const LEASE_NAMESPACE: &str = "kube-node-lease";
const KUBELET_VERSION: &str = "v1.37.0";

/// Starts the tasks that keep the nodes' objects.
pub(super) fn start(context: &Arc<Context>, drain: &Drain) {
    for name in context.config.node_names() {
        let (context, ended) = (Arc::clone(context), drain.clone());
        let supervisor = context.config.supervisor.clone();
        let begin = move || keep(name.clone(), Arc::clone(&context), ended.clone());
        supervisor.keep("node-object", drain.clone(), begin);
    }
}

async fn keep(name: String, context: Arc<Context>, drain: Drain) {
    let keeper = Keeper { name, context, info: EngineInfo::default(), images: Vec::new(), was_ready: None, disk: None };
    tokio::select! {
        biased;
        () = drain.drained() => {}
        () = keeper.run() => {}
    }
}

/// Why a node is not ready.
struct Unready {
    reason: &'static str,
    message: String,
}

struct Keeper {
    name: String,
    context: Arc<Context>,
    info: EngineInfo,
    images: Vec<ContainerImage>,
    was_ready: Option<bool>,
    /// Whether the disk is under pressure, once that is known.
    disk: Option<bool>,
}

impl Keeper {
    async fn run(mut self) {
        let mut away = self.context.watch_away();
        let mut paused = self.context.watch_paused();
        let mut images = self.context.watch_images(ImageFollower::NodeObject);
        self.look().await;
        self.write().await;
        self.renew().await;
        let mut lease_at = self.context.clock().mono() + LEASE_PERIOD;
        let mut heartbeat_at = self.context.clock().mono() + HEARTBEAT;
        let mut images_at = None;
        let mut images_rest_until = self.context.clock().mono();
        let mut failures = 0;
        loop {
            let is_away = away.borrow().is_some();
            failures = if is_away { failures + 1 } else { 0 };
            let look_at = is_away.then(|| self.context.clock().mono() + AWAY_BACKOFF.delay(failures));
            tokio::select! {
                biased;
                changed = away.changed() => if changed.is_err() { return },
                changed = paused.changed() => if changed.is_err() { return },
                changed = images.changed() => {
                    if changed.is_err() { return }
                    images_at = Some(images_rest_until);
                    continue;
                }
                () = sleep_until(images_at) => {
                    images_at = None;
                    images.mark_unchanged();
                    self.look_at_images().await;
                    images_rest_until = self.context.clock().mono() + IMAGES_SETTLE;
                }
                () = sleep_until(look_at) => self.look().await,
                () = tokio::time::sleep_until(lease_at) => {
                    lease_at = self.context.clock().mono() + LEASE_PERIOD;
                    self.look().await;
                    // Not every change of an image has an event, so whoever follows images gets a look now and then too.
                    if self.context.registry.has_any(&Erased::<ImageStreams>::NEW, "") {
                        self.look_at_images().await;
                    }
                    self.renew().await;
                }
                () = tokio::time::sleep_until(heartbeat_at) => {}
            }
            let now = self.context.clock().mono();
            heartbeat_at = if now >= heartbeat_at { now + HEARTBEAT } else { heartbeat_at };
            self.write().await;
        }
    }

    /// Asks the engine how it is.
    async fn look(&mut self) {
        match self.context.ask(self.context.engine.info()).await {
            Ok(info) => {
                let ip = self.context.config.node_ip;
                let EngineInfo { cpus, memory_bytes, disk_bytes, .. } = info;
                self.context.set_facts(NodeFacts { ip, cpus, memory_bytes, disk_bytes });
                let was_unknown = self.info.version.is_empty();
                self.info = info;
                self.look_at_disk();
                self.context.note_back();
                if was_unknown {
                    self.look_at_images().await;
                }
            }
            Err(error) => self.context.note_away(&error.to_string()),
        }
    }

    /// Source of the reasons: `DiskPressureCondition`, `pkg/kubelet/nodestatus/setters.go`.
    fn look_at_disk(&mut self) {
        let was = self.disk.unwrap_or_else(|| self.told_of_disk());
        let is = has_disk_pressure(&self.info, was);
        if was != is {
            let reason = if is { "NodeHasDiskPressure" } else { "NodeHasNoDiskPressure" };
            let message = format!("Node {} status is now: {reason}", self.name());
            self.context.tell_node(self.name(), Severity::Normal, reason, &message);
        }
        self.disk = Some(is);
    }

    /// Whether the process before this one said that the disk is under pressure.
    fn told_of_disk(&self) -> bool {
        let node = self.context.registry.api::<Nodes>().get(&ObjectKey::new("", self.name()));
        let conditions = node.as_ref().and_then(|node| node.status.as_ref()?.conditions.as_ref());
        conditions.into_iter().flatten().any(|c| c.type_ == "DiskPressure" && c.status == "True")
    }

    async fn look_at_images(&mut self) {
        match self.context.ask(self.context.engine.images()).await {
            Ok(images) => {
                self.context.images.note_all(&images);
                self.images = listed_images(images);
            }
            Err(error) => warn!(component = "node", err = chain(&error), "cannot list images"),
        }
    }

    fn name(&self) -> &str {
        &self.name
    }

    /// Writes the node's object and status, where they differ from what is stored.
    async fn write(&mut self) {
        let unready = self.unready();
        if let Err(error) = self.try_write(unready.as_ref()).await {
            warn!(component = "node", err = chain(&error), "cannot write the node");
            return;
        }
        let is_ready = unready.is_none();
        if self.was_ready.is_some_and(|was| was != is_ready) || (self.was_ready.is_none() && is_ready) {
            let reason = if is_ready { "NodeReady" } else { "NodeNotReady" };
            let message = format!("Node {} status is now: {reason}", self.name());
            self.context.tell_node(self.name(), Severity::Normal, reason, &message);
            info!(component = "node", name = self.name(), ready = is_ready, "node status changed");
        }
        self.was_ready = Some(is_ready);
    }

    /// Why the node is not ready.
    fn unready(&self) -> Option<Unready> {
        let away = self.context.watch_away().borrow().clone();
        if let Some(why) = away {
            return Some(Unready { reason: "KubeletNotReady", message: format!("container runtime is down: {why}") });
        }
        let message = "the cluster is paused: `skiff resume` starts its containers again".to_owned();
        let is_paused = *self.context.watch_paused().borrow();
        is_paused.then_some(Unready { reason: PAUSED_REASON, message })
    }

    async fn try_write(&self, unready: Option<&Unready>) -> Result<(), ApiError> {
        let api = self.context.registry.api::<Nodes>();
        let key = ObjectKey::new("", self.name());
        let is_first = self.name == self.context.config.node_name;
        let labels = labels(self.name(), is_first, &self.info.architecture);
        if api.get(&key).is_none() {
            let metadata = ObjectMeta { name: Some(key.name.clone()), labels: Some(labels), ..ObjectMeta::default() };
            match api.create(Node { metadata, ..Node::default() }).await {
                Err(error) if error.class() != ErrorClass::Conflict => return Err(error),
                Ok(_) | Err(_) => {}
            }
        } else {
            let change = |node: &mut Node| node.metadata.labels.get_or_insert_default().extend(labels.clone());
            api.modify(&key, change).await?;
        }
        let change =
            |node: &mut Node| node.status = Some(self.status(node.status.clone().unwrap_or_default(), unready));
        api.modify_status(&key, change).await.map(drop)
    }

    fn status(&self, old: NodeStatus, unready: Option<&Unready>) -> NodeStatus {
        if self.info.version.is_empty() && !old.conditions.iter().flatten().any(|c| c.type_ == "Ready") {
            // Nothing is known of the machine yet.
            return NodeStatus { conditions: Some(self.conditions(&old, unready)), ..old };
        }
        let resources = if self.info.version.is_empty() {
            old.capacity.clone()
        } else {
            Some(resources(&self.info, self.context.config.pods_max))
        };
        let node_info =
            if self.info.version.is_empty() { old.node_info.clone() } else { Some(system_info(&self.info)) };
        NodeStatus {
            addresses: Some(vec![
                NodeAddress { type_: "InternalIP".into(), address: self.context.config.node_ip.to_string() },
                NodeAddress { type_: "Hostname".into(), address: self.name().to_owned() },
            ]),
            capacity: resources.clone(),
            allocatable: resources,
            node_info,
            images: if self.images.is_empty() { old.images.clone() } else { Some(self.images.clone()) },
            conditions: Some(self.conditions(&old, unready)),
            ..old
        }
    }

    fn conditions(&self, old: &NodeStatus, unready: Option<&Unready>) -> Vec<NodeCondition> {
        let ready = match unready {
            None => ("True", "KubeletReady", "kubelet is posting ready status"),
            Some(unready) => ("False", unready.reason, unready.message.as_str()),
        };
        let full = format!(
            "kubelet has disk pressure: {} of {} MiB are free where the engine keeps images and containers, so new pods wait; \
             `docker system df` shows what is there",
            self.info.disk_free_bytes >> 20,
            self.info.disk_bytes >> 20
        );
        let disk = if self.disk == Some(true) {
            ("True", "KubeletHasDiskPressure", full.as_str())
        } else {
            ("False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure")
        };
        let pressures = [
            ("MemoryPressure", ("False", "KubeletHasSufficientMemory", "kubelet has sufficient memory available")),
            ("DiskPressure", disk),
            ("PIDPressure", ("False", "KubeletHasSufficientPID", "kubelet has sufficient PID available")),
        ];
        let now = self.context.now();
        let condition = |(type_, (status, reason, message)): (&str, (&str, &str, &str))| {
            let before = old.conditions.iter().flatten().find(|c| c.type_ == type_);
            let same = before.filter(|c| c.status == status);
            // A heartbeat alone is written every few minutes, as a kubelet does.
            let is_fresh = |c: &&NodeCondition| {
                let at = c.last_heartbeat_time.as_ref().map(|t| t.0);
                let age = at.map(|at| now.duration_since(at));
                c.reason.as_deref() == Some(reason)
                    && age.is_some_and(|age| Duration::try_from(age).is_ok_and(|a| a < HEARTBEAT))
            };
            NodeCondition {
                type_: type_.to_owned(),
                status: status.to_owned(),
                reason: Some(reason.to_owned()),
                message: Some(message.to_owned()),
                last_transition_time: same.and_then(|c| c.last_transition_time.clone()).or_else(|| Some(seconds(now))),
                last_heartbeat_time: same
                    .filter(is_fresh)
                    .map_or_else(|| Some(seconds(now)), |c| c.last_heartbeat_time.clone()),
            }
        };
        pressures.into_iter().chain([("Ready", ready)]).map(condition).collect()
    }

    async fn renew(&self) {
        if let Err(error) = self.try_renew().await {
            warn!(component = "node", err = chain(&error), "cannot renew the node's lease");
        }
    }

    async fn try_renew(&self) -> Result<(), ApiError> {
        let api = self.context.registry.api::<Leases>();
        let key = ObjectKey::new(LEASE_NAMESPACE, self.name());
        let now = MicroTime(self.context.now());
        if api.get(&key).is_some() {
            let change = |lease: &mut Lease| lease.spec.get_or_insert_default().renew_time = Some(now.clone());
            return api.modify(&key, change).await.map(drop);
        }
        let spec = LeaseSpec {
            holder_identity: Some(self.name().to_owned()),
            lease_duration_seconds: Some(LEASE_SECS),
            renew_time: Some(now),
            ..LeaseSpec::default()
        };
        let metadata = ObjectMeta {
            name: Some(key.name.clone()),
            namespace: Some(key.namespace.clone()),
            owner_references: self.owner(),
            ..ObjectMeta::default()
        };
        api.create(Lease { metadata, spec: Some(spec) }).await.map(drop)
    }

    fn owner(&self) -> Option<Vec<OwnerReference>> {
        let node = self.context.registry.api::<Nodes>().get(&ObjectKey::new("", self.name()))?;
        let uid = node.metadata.uid.clone()?;
        let name = self.name().to_owned();
        Some(vec![OwnerReference {
            api_version: "v1".into(),
            kind: "Node".into(),
            name,
            uid,
            ..OwnerReference::default()
        }])
    }
}

/// Whether the disk has too little room; once it had, it needs twice as much to have enough again.
fn has_disk_pressure(info: &EngineInfo, was: bool) -> bool {
    let enough = DISK_LEAST.min(info.disk_bytes / DISK_PART);
    let enough = if was { enough * 2 } else { enough };
    info.disk_bytes > 0 && info.disk_free_bytes < enough
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

fn labels(name: &str, is_first: bool, architecture: &str) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::from([
        ("kubernetes.io/hostname".to_owned(), name.to_owned()),
        ("kubernetes.io/os".to_owned(), "linux".to_owned()),
        ("beta.kubernetes.io/os".to_owned(), "linux".to_owned()),
    ]);
    if is_first {
        labels.insert(CONTROL_PLANE_ROLE.to_owned(), String::new());
    }
    if !architecture.is_empty() {
        labels.insert("kubernetes.io/arch".to_owned(), architecture.to_owned());
        labels.insert("beta.kubernetes.io/arch".to_owned(), architecture.to_owned());
    }
    labels
}

fn resources(info: &EngineInfo, pods_max: u32) -> BTreeMap<String, Text> {
    let quantity = |name: &str, text: String| (name.to_owned(), Text(text));
    let disk = (info.disk_bytes > 0).then(|| quantity("ephemeral-storage", format!("{}Ki", info.disk_bytes / 1024)));
    let known = [
        quantity("cpu", info.cpus.to_string()),
        quantity("memory", format!("{}Ki", info.memory_bytes / 1024)),
        quantity("pods", pods_max.to_string()),
    ];
    known.into_iter().chain(disk).collect_ordered()
}

fn system_info(info: &EngineInfo) -> NodeSystemInfo {
    NodeSystemInfo {
        architecture: info.architecture.clone(),
        container_runtime_version: format!("docker://{}", info.version),
        kernel_version: info.kernel.clone(),
        kubelet_version: KUBELET_VERSION.to_owned(),
        operating_system: "linux".to_owned(),
        os_image: info.os.clone(),
        ..NodeSystemInfo::default()
    }
}

/// The images as the API lists them: digests, tags, and the ID, which tells a rebuilt image from the one before.
fn listed_images(mut images: Vec<Image>) -> Vec<ContainerImage> {
    images.retain(|image| !image.tags.is_empty() || !image.digests.is_empty());
    images.sort_list_by(|a, b| b.size_bytes.cmp(&a.size_bytes).then_with(|| a.id.cmp(&b.id)));
    let names = |image: &Image| image.digests.iter().chain(&image.tags).cloned().chain([image.id.clone()]).collect();
    images
        .iter()
        .map(|image| ContainerImage { names: Some(names(image)), size_bytes: Some(image.size_bytes) })
        .collect()
}
