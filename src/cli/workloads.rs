//! The kinds of workloads: what runs pods and says how many are ready.
//!
//! `skiff up -f` waits for them (`up/progress`), `skiff status` tells of them; each has its own measure of how far one is.

use crate::api::{
    kind::{ErasedKind, KindInfo, TypedKind as _},
    kinds::{
        daemon_set::DaemonSets, deployment::Deployments, deployment_config::DeploymentConfigs, job::Jobs,
        replica_set::ReplicaSets, replication_controller::ReplicationControllers, stateful_set::StatefulSets,
    },
};

/// The kinds, in the order in which people are told of them.
pub(super) fn workloads() -> [&'static KindInfo<'static>; 7] {
    [
        Deployments::erased(),
        StatefulSets::erased(),
        DaemonSets::erased(),
        DeploymentConfigs::erased(),
        ReplicaSets::erased(),
        ReplicationControllers::erased(),
        Jobs::erased(),
    ]
    .map(ErasedKind::info)
}
