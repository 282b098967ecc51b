//! Level 3: controllers bring objects to what other objects want. May use `api` and `registry`; never `engine`, `node`, `net`, `server`.
//!
//! To add a controller: 1. its file or folder here, implementing [`runtime::Controller`]; 2. its `mod` line; 3. its line in
//! [`CONTROLLERS`]; 4. tables for its `decide`; 5. a case in `tests.rs` that runs it on a registry.

pub mod certificate_signing;
pub mod cluster_objects;
pub mod cluster_role_aggregation;
pub mod cron_job;
pub mod daemon_set;
pub mod data_plane;
pub mod deployer;
pub mod deployment;
pub mod deployment_config;
pub mod disruption;
pub mod endpoints;
mod entries;
pub mod expiry;
pub mod garbage_collector;
pub mod horizontal_pod_autoscaler;
pub mod image_stream;
pub mod image_trigger;
pub mod job;
mod leader;
pub mod namespace;
pub mod node_status;
mod paused;
pub mod persistent_volume;
pub mod pod_gc;
mod pods;
pub mod replica_set;
pub mod resource_quota;
mod revisions;
pub mod router_certificates;
pub mod runtime;
pub mod scheduler;
pub mod service_account;
pub mod service_account_token;
pub mod stateful_set;
pub mod taint_eviction;
mod taints;
mod template_hash;
#[cfg(test)]
mod tests;

use crate::{
    api::kinds::{replica_set::ReplicaSets, replication_controller::ReplicationControllers},
    base::task::{self, Drain, drain_signal},
    identity::Tokens,
    registry::Registry,
};
use cluster_objects::ApiPlace;
use data_plane::DataPlane;
use futures::future::{BoxFuture, join_all};
use leader::{Leader, Since};
pub use leader::{LeaseTimes, tell_of_takeover};
use runtime::{Controller, Metrics};
use std::{fmt, sync::Arc};
use tokio::sync::watch;

/// What the controllers must know of the cluster.
#[derive(Clone, Default)]
pub struct ControllersConfig {
    /// The certificate (PEM) by which pods check the API server.
    pub root_ca: String,
    /// Where the API is for pods; `None`: nothing says so to them.
    pub api: Option<ApiPlace>,
    /// The data plane, once it is known; `None`: there is none.
    pub data_plane: Option<watch::Receiver<Option<DataPlane>>>,
    /// skiff's own image, once it is known, for deployers; `None`: there are none.
    pub image: Option<watch::Receiver<Option<String>>>,
    /// Who signs the tokens that Secrets hold; `None`: nobody does.
    pub tokens: Option<Tokens>,
    /// Who signs requests for certificates; `None`: nobody does.
    pub signer: Option<Arc<dyn certificate_signing::Signer>>,
    /// Who makes certificates for the router; `None`: nobody does.
    pub issuer: Option<Arc<dyn router_certificates::Issuer>>,
    /// Who measures what pods use; `None`: nobody does, and nothing is scaled by it.
    pub measures: Option<Arc<dyn horizontal_pod_autoscaler::Measures>>,
    /// How many pods that have ended may stay before the oldest go; 0: all.
    pub terminated_pod_gc_threshold: usize,
    /// As whom they hold the Lease under which they run; `None`: they run under none.
    pub identity: Option<String>,
    /// How that Lease is kept.
    pub lease: LeaseTimes,
    /// Where the controllers count.
    pub metrics: Metrics,
}

impl fmt::Debug for ControllersConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ControllersConfig").field("api", &self.api).finish_non_exhaustive()
    }
}

/// What a controller is started with.
#[derive(Clone, Debug)]
pub struct Start {
    registry: Registry,
    config: ControllersConfig,
    drain: Drain,
}

impl Start {
    /// The loop of a controller.
    fn run<C: Controller>(&self, controller: C) -> BoxFuture<'static, ()> {
        let (registry, metrics) = (self.registry.clone(), self.config.metrics.clone());
        Box::pin(runtime::run(controller, registry, metrics, self.drain.clone()))
    }

    /// No loop: there is nothing for it here.
    fn rest(&self) -> BoxFuture<'static, ()> {
        let drain = self.drain.clone();
        Box::pin(async move { drain.drained().await })
    }
}

/// A controller that needs something which is not known from the start.
async fn once_known<T: Clone, C: Controller>(
    start: Start,
    wanted: Option<watch::Receiver<Option<T>>>,
    controller: impl FnOnce(T) -> C,
) {
    let Some(mut wanted) = wanted else { return start.drain.drained().await };
    let known = tokio::select! {
        biased;
        () = start.drain.drained() => return,
        known = wanted.wait_for(Option::is_some) => known.ok().and_then(|wanted| wanted.clone()),
    };
    match known {
        Some(known) => start.run(controller(known)).await,
        // The start failed: it is about to drain.
        None => start.drain.drained().await,
    }
}

/// A controller's name and how it is started.
pub type Row = (&'static str, fn(&Start) -> BoxFuture<'static, ()>);

/// Every controller.
pub static CONTROLLERS: &[Row] = &[
    ("cluster-objects", |s| match s.config.api {
        Some(place) => s.run(cluster_objects::ClusterObjects { place }),
        None => s.rest(),
    }),
    ("data-plane", |s| Box::pin(once_known(s.clone(), s.config.data_plane.clone(), |plane: DataPlane| plane))),
    ("deployer", |s| Box::pin(once_known(s.clone(), s.config.image.clone(), |image| deployer::Deployer { image }))),
    ("deployment", |s| s.run(deployment::DeploymentController)),
    ("deploymentconfig", |s| s.run(deployment_config::DeploymentConfigController)),
    ("replicaset", |s| s.run(replica_set::PodSetController::<ReplicaSets>::NEW)),
    ("replicationcontroller", |s| s.run(replica_set::PodSetController::<ReplicationControllers>::NEW)),
    ("scheduler", |s| s.run(scheduler::Scheduler)),
    ("endpoints", |s| s.run(endpoints::EndpointsController)),
    ("endpoints-mirror", |s| s.run(endpoints::mirror::MirrorController)),
    ("job", |s| s.run(job::JobController)),
    ("cronjob", |s| s.run(cron_job::CronJobController)),
    ("daemonset", |s| s.run(daemon_set::DaemonSetController)),
    ("horizontalpodautoscaler", |s| match s.config.measures.clone() {
        Some(measures) => {
            let (registry, metrics) = (s.registry.clone(), s.config.metrics.clone());
            Box::pin(horizontal_pod_autoscaler::run(measures, registry, metrics, s.drain.clone()))
        }
        None => s.rest(),
    }),
    ("disruption", |s| s.run(disruption::DisruptionController)),
    ("statefulset", |s| s.run(stateful_set::StatefulSetController)),
    ("garbagecollector", |s| s.run(garbage_collector::GarbageCollector)),
    ("podgc", |s| s.run(pod_gc::PodGc::new(s.config.terminated_pod_gc_threshold))),
    ("namespace", |s| s.run(namespace::NamespaceController)),
    ("certificatesigningrequest-signing-controller", |s| match s.config.signer.clone() {
        Some(signer) => s.run(certificate_signing::CertificateSigning { signer }),
        None => s.rest(),
    }),
    ("certificatesigningrequest-cleaner-controller", |s| s.run(expiry::CERTIFICATES)),
    ("clusterrole-aggregation-controller", |s| s.run(cluster_role_aggregation::ClusterRoleAggregation)),
    ("serviceaccount-token", |s| match s.config.tokens.clone() {
        Some(tokens) => s.run(service_account_token::SecretTokens { tokens, root_ca: s.config.root_ca.clone() }),
        None => s.rest(),
    }),
    ("router-certificates", |s| match s.config.issuer.clone() {
        Some(issuer) => s.run(router_certificates::RouterCertificates { issuer }),
        None => s.rest(),
    }),
    ("resourcequota", |s| s.run(resource_quota::ResourceQuotaController)),
    ("serviceaccount", |s| s.run(service_account::NamespaceDefaults { root_ca: s.config.root_ca.clone() })),
    ("nodelifecycle", |s| s.run(node_status::NodeStatusController::default())),
    ("taint-eviction-controller", |s| s.run(taint_eviction::TaintEviction::default())),
    ("image-import", |s| s.run(image_stream::ImageStreamController)),
    ("image-trigger", |s| s.run(image_trigger::ImageTriggerController)),
    ("persistentvolumeclaim", |s| s.run(persistent_volume::ClaimController)),
    ("persistentvolume", |s| s.run(persistent_volume::VolumeController)),
    ("ephemeral-volume", |s| s.run(persistent_volume::ephemeral::EphemeralController)),
    ("events-ttl", |s| s.run(expiry::EVENTS)),
];

/// Runs every controller, each in a task of its own, until drained; under the controllers' Lease, if they have an identity.
pub async fn run_all(registry: Registry, config: ControllersConfig, drain: Drain) {
    let Some(identity) = config.identity.clone() else { return run_each(registry, config, drain).await };
    let mut since = Since::Start;
    while let Some(leader) = Leader::acquire(&registry, (&identity, config.lease), since, &drain).await {
        let (trigger, term) = drain_signal();
        let held = async {
            let is_lost = leader.hold(&drain).await;
            trigger.fire();
            is_lost
        };
        let ((), is_lost) = tokio::join!(run_each(leader.registry(), config.clone(), term), held);
        if !is_lost {
            return leader.release().await;
        }
        since = Since::Lost;
    }
}

async fn run_each(registry: Registry, config: ControllersConfig, drain: Drain) {
    let start = Start { registry, config, drain };
    let tasks = CONTROLLERS.iter().map(|(name, run)| task::spawn(name, run(&start)));
    for ended in join_all(tasks).await {
        // A task's panic is caught inside, so that only the runtime's own end is left.
        drop(ended);
    }
}
