//! Level 3: the node agent. It brings containers to what Pods want.
//!
//! `app` makes an [`Agent`] and runs it; `server` asks it for byte streams through [`streams::PodStreams`], for
//! images through [`local_images::LocalImages`] and for what pods use through [`usage::Usages`]. It may use `api`,
//! `registry` and `engine`; never `controllers`, `server` or `net`: it meets them in objects.
//!
//! ```text
//!  store changes ─┐                        ┌─▶ decide ─▶ actions ─▶ execute ─▶ Engine
//!  engine events ─┼─▶ agent ─▶ worker ─────┤            (pure)
//!  probe results ─┤   (routes) (one per    └─▶ status ─▶ PodStatus, when it differs
//!  timers ────────┘             pod UID)                (pure)
//! ```
//!
//! **Invariants**: one worker per pod UID owns all that is known of the pod, so nothing is locked; a worker never polls;
//! identity is in names and labels, so that a restart of skiff finds everything again; a status write never delays a container.

pub mod agent;
mod claims;
mod context;
pub mod credentials;
pub mod decide;
mod execute;
pub mod forward;
mod hooks;
pub mod identity;
mod image_volumes;
mod images;
mod imports;
pub mod kept_images;
pub mod lifecycle;
pub mod local_images;
pub mod net_probe;
mod node_object;
pub mod observe;
pub mod overdue;
mod pause;
mod probes;
pub mod resize;
mod rotation;
pub mod sandbox;
pub mod status;
pub mod streams;
mod sweep;
pub mod termination;
#[cfg(test)]
mod tests;
mod text;
mod timeline;
pub mod translate;
pub mod usage;
pub mod volumes;
mod worker;

pub use agent::Agent;
pub use context::NodeReport;
pub use net_probe::{NetProbe, SystemNetProbe};

use crate::{
    api::logical_node,
    base::{backoff::Backoff, supervise::Supervisor},
};
use k8s_openapi::api::core::v1::{Pod, ServiceAccountTokenProjection};
use std::{
    fmt,
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
    sync::Arc,
};
use tokio::sync::watch;

/// Issues tokens of service accounts for projected volumes.
pub trait TokenSource: Send + Sync + 'static {
    /// A token of the pod's service account.
    ///
    /// # Errors
    /// When there is no such account; the text is that of the Event `FailedMount`.
    fn token(&self, pod: &Pod, projection: &ServiceAccountTokenProjection) -> Result<String, String>;
}

/// How many pods a node takes when nobody says. Source: `maxPods`, `pkg/kubelet/apis/config/v1beta1/defaults.go`, v1.37.
pub const PODS_MAX: u32 = 110;

/// The group of processes that pods are in, by the engine's cgroup driver: one of the machine's own, so that all pods together weigh as
/// much as all other containers together do, and each among them as Kubernetes says. Source: the kubelet's `kubepods`, v1.37.
pub fn pods_cgroup(driver: &str) -> &'static str {
    match driver {
        "cgroupfs" => "/skiff",
        "systemd" => "skiff.slice",
        _ => "",
    }
}

/// What the agent is told about its node.
#[derive(Clone)]
pub struct NodeConfig {
    /// The node's name: the cluster's.
    pub node_name: String,
    /// How many nodes this machine is shown as (`api::logical_node`); the agent is that of them all.
    pub nodes: u32,
    /// The cluster's name, in labels and volume names.
    pub cluster: String,
    /// The image that sandboxes are made from, once it is known: importing it runs beside the start.
    pub sandbox_image: watch::Receiver<Option<String>>,
    /// The engine's network that pods get their addresses from.
    pub network: String,
    /// The node's address, as pods see it.
    pub node_ip: Ipv4Addr,
    /// The address of the cluster DNS.
    pub dns_ip: Ipv4Addr,
    /// E.g. `cluster.local`.
    pub cluster_domain: String,
    /// Where host ports are bound when a pod names no address.
    pub host_port_address: IpAddr,
    /// How many containers are created, started or removed at the same time.
    pub parallel_calls: usize,
    /// The folder of Docker's own file of credentials for registries; `None`: it is not read.
    pub docker_config: Option<PathBuf>,
    /// The folder of the profiles of seccomp that containers may name.
    pub seccomp: PathBuf,
    /// Whether the engine's host has AppArmor.
    pub has_app_armor: bool,
    /// The delays between crashes of a container.
    pub restart_backoff: Backoff,
    /// How many pods the node takes.
    pub pods_max: u32,
    /// The group of processes that pods are in; empty: where the engine has its own.
    pub pods_cgroup: String,
    /// Who begins the agent's loops again when they panic.
    pub supervisor: Supervisor,
    /// How network probes are made.
    pub net_probe: Arc<dyn NetProbe>,
    /// Who issues tokens; `None`: nobody does.
    pub tokens: Option<Arc<dyn TokenSource>>,
}

impl fmt::Debug for NodeConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeConfig")
            .field("node_name", &self.node_name)
            .field("network", &self.network)
            .finish_non_exhaustive()
    }
}

impl NodeConfig {
    /// The names of the nodes that this machine is shown as.
    pub fn node_names(&self) -> impl Iterator<Item = String> {
        (1..=self.nodes.max(1)).map(|number| logical_node::name(&self.node_name, number))
    }

    /// Whether the pods of a node of this name are the agent's; those of one that is shown no more are, until they are gone.
    pub fn has_node(&self, name: &str) -> bool {
        logical_node::number(&self.node_name, name).is_some()
    }

    /// A node for tests and the simulator: everything is named `skiff`, and network probes always succeed.
    pub fn for_test() -> Self {
        let (image, sandbox_image) = watch::channel(Some("skiff:test".to_owned()));
        drop(image);
        Self {
            node_name: "skiff".into(),
            nodes: 1,
            cluster: "skiff".into(),
            sandbox_image,
            network: "skiff".into(),
            node_ip: Ipv4Addr::new(10, 244, 0, 1),
            dns_ip: Ipv4Addr::new(10, 245, 0, 10),
            cluster_domain: "cluster.local".into(),
            host_port_address: IpAddr::V4(Ipv4Addr::LOCALHOST),
            parallel_calls: 16,
            docker_config: None,
            seccomp: PathBuf::from("/var/lib/kubelet/seccomp"),
            has_app_armor: false,
            restart_backoff: lifecycle::CRASH_BACKOFF,
            pods_max: PODS_MAX,
            pods_cgroup: pods_cgroup("cgroupfs").to_owned(),
            supervisor: Supervisor::default(),
            net_probe: Arc::new(net_probe::AlwaysReachable),
            tokens: None,
        }
    }
}
