//! The agent on the fake engine, under paused time.

mod disk;
mod ephemeral;
mod faults;
mod image_volumes;
mod last_words;
mod lives;
mod outside;
mod pause;
mod poison;
mod resizes;
mod restarts;

use super::{Agent, NetProbe, NodeConfig, TokenSource, net_probe::HttpTarget};
use crate::{
    api::{
        kinds::{
            event::Events, lease::Leases, namespace::Namespaces, node::Nodes, pod::Pods,
            service_account::ServiceAccounts,
        },
        meta::ObjectKey,
    },
    base::{
        clock::Clock,
        rng::Rng,
        task::{self, DrainTrigger, drain_signal},
    },
    engine::{
        Container, Engine as _, NetworkSpec, Phase,
        fake::{Behaviour, FakeConfig, FakeEngine, Latencies},
    },
    registry::{Registry, pipeline::DeleteOptions},
    testing::registry_with,
};
use async_trait::async_trait;
use k8s_openapi::api::core::v1::{ContainerStatus, Namespace, Node, Pod, ServiceAccountTokenProjection};
use std::{
    collections::BTreeMap,
    net::Ipv4Addr,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};
use tokio::task::JoinHandle;

/// The longest that a test waits, in simulated time.
const BOUND: Duration = Duration::from_secs(1200);

/// Network probes reach the fake's containers.
struct FakeProbe(FakeEngine);

/// Issues tokens, and panics at these.
struct Panics(Range<u32>, AtomicU32);

impl TokenSource for Panics {
    fn token(&self, _: &Pod, _: &ServiceAccountTokenProjection) -> Result<String, String> {
        let n = self.1.fetch_add(1, Ordering::SeqCst);
        assert!(!self.0.contains(&n), "planned");
        Ok(format!("token-{n}"))
    }
}

/// A pod with a token that is replaced after eight minutes.
const WITH_TOKEN: &str = "{containers: [{name: app, image: 'web:1'}], \
    volumes: [{name: t, projected: {sources: [{serviceAccountToken: {path: token, expirationSeconds: 600}}]}}]}";

/// Issues numbered tokens.
#[derive(Default)]
struct Numbered(AtomicU32);

impl TokenSource for Numbered {
    fn token(&self, _: &Pod, _: &ServiceAccountTokenProjection) -> Result<String, String> {
        Ok(format!("token-{}", self.0.fetch_add(1, Ordering::SeqCst)))
    }
}

#[async_trait]
impl NetProbe for FakeProbe {
    async fn http(&self, target: &HttpTarget, timeout: Duration) -> Result<(), String> {
        self.tcp(&target.host, target.port, timeout).await
    }
    async fn tcp(&self, host: &str, port: u16, _: Duration) -> Result<(), String> {
        let ip: Ipv4Addr = host.parse().map_err(|_| format!("no such host: {host}"))?;
        if self.0.answers(ip, port) {
            Ok(())
        } else {
            Err(format!("dial tcp {host}:{port}: connect: connection refused"))
        }
    }
}

/// A node with its agent, registry and engine.
struct World {
    registry: Registry,
    engine: FakeEngine,
    config: NodeConfig,
    agent: Option<(DrainTrigger, JoinHandle<()>)>,
    _events: DrainTrigger,
}

impl World {
    /// A world whose engine takes as long as Docker.
    async fn new() -> Self {
        Self::with(Latencies::DOCKER, 1).await
    }

    async fn with(latencies: Latencies, seed: u64) -> Self {
        let clock = Clock::simulated("2026-01-01T00:00:00Z".parse().unwrap());
        let registry = registry_with(clock.clone(), Rng::seeded(seed)).await;
        let namespace: Namespace = crate::testing::from_yaml("metadata: {name: kube-node-lease}").unwrap();
        registry.api::<Namespaces>().create(namespace).await.unwrap();
        // Pods that want a token say so.
        let account = "{metadata: {name: default, namespace: default}, automountServiceAccountToken: false}";
        registry.api::<ServiceAccounts>().create(crate::testing::from_yaml(account).unwrap()).await.unwrap();
        let engine = FakeEngine::new(clock, Rng::seeded(seed + 1), FakeConfig { latencies, ..FakeConfig::default() });
        let network = NetworkSpec {
            name: "skiff".into(),
            labels: BTreeMap::new(),
            subnet: "10.244.0.0/15".into(),
            ip_range: "10.244.0.0/16".into(),
            gateway: Ipv4Addr::new(10, 244, 0, 1),
            bridge: "skiff0".into(),
        };
        engine.create_network(&network).await.unwrap();
        engine.add_image("skiff:test", Behaviour::pause());
        engine.add_image("web:1", Behaviour::server());
        let config = NodeConfig { net_probe: Arc::new(FakeProbe(engine.clone())), ..NodeConfig::for_test() };
        let (events, drain) = drain_signal();
        task::spawn("events", registry.clone().run_events(drain));
        let mut world = Self { registry, engine, config, agent: None, _events: events };
        world.start_agent();
        world
    }

    fn start_agent(&mut self) {
        let (trigger, drain) = drain_signal();
        let agent = Agent::new(self.registry.clone(), Arc::new(self.engine.clone()), self.config.clone());
        self.agent = Some((trigger, task::spawn("agent", agent.run(drain))));
    }

    /// Ends the agent, as a restart of skiff does; containers stay.
    async fn stop_agent(&mut self) {
        let (trigger, handle) = self.agent.take().unwrap();
        trigger.fire();
        handle.await.unwrap();
        // Workers end with the agent.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }

    /// Creates a pod that is bound to the node.
    async fn create(&self, name: &str, spec: &str) -> Arc<Pod> {
        let text = format!("{{metadata: {{name: {name}, namespace: default}}, spec: {spec}}}");
        let mut pod: Pod = crate::testing::from_yaml(&text).unwrap();
        pod.spec.as_mut().unwrap().node_name = Some("skiff".into());
        self.registry.api::<Pods>().create(pod).await.unwrap()
    }

    fn pod(&self, name: &str) -> Option<Arc<Pod>> {
        self.registry.api::<Pods>().get(&ObjectKey::new("default", name))
    }

    fn status(&self, name: &str) -> ContainerStatus {
        let statuses = self.pod(name).and_then(|p| p.status.as_ref()?.container_statuses.clone()).unwrap_or_default();
        statuses.into_iter().next().unwrap_or_default()
    }

    fn phase(&self, name: &str) -> String {
        self.pod(name).and_then(|p| p.status.as_ref()?.phase.clone()).unwrap_or_default()
    }

    fn is_ready(&self, name: &str) -> bool {
        let pod = self.pod(name);
        let conditions = pod.iter().filter_map(|p| p.status.as_ref()).flat_map(|s| s.conditions.iter().flatten());
        conditions.into_iter().any(|c| c.type_ == "Ready" && c.status == "True")
    }

    fn ip(&self, name: &str) -> String {
        self.pod(name).and_then(|p| p.status.as_ref()?.pod_ip.clone()).unwrap_or_default()
    }

    fn restarts(&self, name: &str) -> i32 {
        self.status(name).restart_count
    }

    /// Why the pod's container waits; empty when it does not.
    fn waits(&self, name: &str) -> String {
        self.status(name).state.and_then(|s| s.waiting?.reason).unwrap_or_default()
    }

    async fn delete(&self, name: &str, grace: Option<i64>) {
        let options = DeleteOptions { grace_period_secs: grace, ..DeleteOptions::default() };
        self.registry.api::<Pods>().delete(&ObjectKey::new("default", name), &options).await.unwrap();
    }

    /// The running container of this name in a pod.
    fn running(&self, pod: &str, container: &str) -> Option<Container> {
        let prefix = format!("k8s_{container}_{pod}_default_");
        self.engine.containers().into_iter().find(|c| c.name.starts_with(&prefix) && c.phase == Phase::Running)
    }

    /// The names of a pod's containers, UIDs left out.
    fn names(&self, pod: &str) -> Vec<String> {
        let of_pod = format!("_{pod}_default_");
        let short = |name: &str| {
            let (container, rest) = name.strip_prefix("k8s_").unwrap().split_once(&of_pod).unwrap();
            format!("{container}/{}", rest.rsplit('_').next().unwrap())
        };
        self.engine.containers().iter().filter(|c| c.name.contains(&of_pod)).map(|c| short(&c.name)).collect()
    }

    /// Waits until something holds; returns how long it took.
    async fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) -> Duration {
        let begin = self.registry.clock().mono();
        while !holds(self) {
            let took = self.registry.clock().mono() - begin;
            assert!(took < BOUND, "not within {BOUND:?}: {what}\n{}", self.describe());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        self.registry.clock().mono() - begin
    }

    async fn until_ready(&self, name: &str) -> Duration {
        self.until("ready", |w| w.is_ready(name)).await
    }

    async fn sleep(&self, secs: u64) {
        tokio::time::sleep(Duration::from_secs(secs)).await;
    }

    /// The reasons and messages of the events about a pod.
    fn events(&self, name: &str) -> Vec<String> {
        let all = self.registry.api::<Events>().list("default").items;
        let about = all.iter().filter(|e| e.involved_object.name.as_deref() == Some(name));
        let text = |t: &Option<String>| t.clone().unwrap_or_default();
        let mut events: Vec<String> = about.map(|e| format!("{}: {}", text(&e.reason), text(&e.message))).collect();
        events.sort();
        events
    }

    fn node(&self) -> Option<Arc<Node>> {
        self.registry.api::<Nodes>().get(&ObjectKey::new("", "skiff"))
    }

    fn node_is_ready(&self) -> bool {
        let node = self.node();
        let conditions = node.iter().filter_map(|n| n.status.as_ref()).flat_map(|s| s.conditions.iter().flatten());
        conditions.into_iter().any(|c| c.type_ == "Ready" && c.status == "True")
    }

    fn has_lease(&self) -> bool {
        self.registry.api::<Leases>().get(&ObjectKey::new("kube-node-lease", "skiff")).is_some()
    }

    /// What there is, for a test that failed.
    fn describe(&self) -> String {
        let pods = self.registry.api::<Pods>().list("").items;
        let pods: Vec<String> = pods
            .iter()
            .map(|p| format!("{:?}: {}", p.metadata.name, serde_json::to_string(&p.status).unwrap()))
            .collect();
        let line = |c: Container| format!("{} {:?} {}", c.name, c.phase, c.exit_code);
        let containers: Vec<String> = self.engine.containers().into_iter().map(line).collect();
        format!("{}\n{}", pods.join("\n"), containers.join("\n"))
    }
}

const WEB: &str = "{containers: [{name: app, image: 'web:1'}]}";
