//! The Deployment controller: keeps ReplicaSets so that pods of the wanted template replace the others at the wanted pace.
//!
//! - [`decide`]: one pass, in order; [`rolling`], [`recreate`], [`scale`]: the three ways in which sizes change.
//! - [`status`]: numbers, conditions and the progress deadline, concluded after the pass.
//! - [`history`]: revisions, annotations, the clean-up of old sets; [`sets`]: which set is which.
//!
//! **Invariants**: pods ≤ replicas + maxSurge and available ≥ replicas − maxUnavailable, once reached; one pass either grows the new
//! set or shrinks old ones, and a set's size only changes together with its annotations.
//!
//! **Not here**: pods (the ReplicaSet controller makes and deletes them).
//! **Source**: `pkg/controller/deployment`, v1.37.

mod decide;
mod history;
mod plan;
mod recreate;
mod rolling;
mod scale;
mod sets;
mod status;
#[cfg(test)]
mod tests;

use super::{
    namespace::namespace_goes,
    runtime::{Claim, Controller, Decision, Done, Moved, Trigger, claim, controller_key, is_selected, selector_of},
};
use crate::{
    api::{
        kinds::{deployment::Deployments, pod::Pods, replica_set::ReplicaSets},
        meta::{ObjectKey, controller_of},
        pod_state,
        selector::{FieldSelector, LabelSelector},
    },
    base::ordered::SortList as _,
    registry::{Registry, pipeline::Selection},
};
use jiff::Timestamp;
use k8s_openapi::api::{
    apps::v1::{Deployment, ReplicaSet},
    core::v1::Pod,
};
use std::sync::Arc;

/// All that a pass over a Deployment depends on.
#[derive(Clone, Debug)]
pub struct Observed {
    /// The Deployment.
    pub deployment: Arc<Deployment>,
    /// The ReplicaSets that it owns or may adopt, oldest first.
    pub replica_sets: Vec<Arc<ReplicaSet>>,
    /// The pods of the ReplicaSets that it owns; only for the Recreate strategy.
    pub pods: Vec<Arc<Pod>>,
    /// Whether the namespace is going away, so that nothing can be created in it.
    pub namespace_goes: bool,
    /// The time.
    pub now: Timestamp,
}

/// The controller.
#[derive(Clone, Copy, Debug)]
pub struct DeploymentController;

impl Controller for DeploymentController {
    type Key = ObjectKey;
    type Observed = Observed;

    const CONCLUDES: bool = true;

    fn name(&self) -> &'static str {
        "deployment"
    }

    fn event_source(&self) -> &'static str {
        "deployment-controller"
    }

    fn triggers(&self) -> Vec<Trigger<ObjectKey>> {
        vec![
            Trigger::itself::<Deployments>(),
            Trigger::on::<ReplicaSets>(wake_for_replica_set),
            Trigger::on::<Pods>(wake_for_pod),
        ]
    }

    fn observe(&self, registry: &Registry, key: &ObjectKey) -> Option<Observed> {
        let deployment = registry.api::<Deployments>().get(key)?;
        let replica_sets = replica_sets_of(registry, &deployment);
        let pods =
            if sets::is_recreate(&deployment) { pods_of(registry, &deployment, &replica_sets) } else { Vec::new() };
        Some(Observed {
            deployment,
            replica_sets,
            pods,
            namespace_goes: namespace_goes(registry, &key.namespace),
            now: registry.clock().now(),
        })
    }

    fn weight(&self, observed: &Observed) -> usize {
        observed.pods.len()
    }

    fn decide(&self, observed: &Observed) -> Decision {
        decide::decide(observed)
    }

    fn conclude(&self, observed: &Observed, done: &Done) -> Decision {
        status::conclude(observed, done)
    }
}

/// The sets that the Deployment owns, whatever their labels, and those without an owner that it selects.
fn replica_sets_of(registry: &Registry, deployment: &Deployment) -> Vec<Arc<ReplicaSet>> {
    let api = registry.api::<ReplicaSets>();
    let uid = deployment.metadata.uid.as_deref().unwrap_or_default();
    let mut found = api.owned_by(uid);
    let labels = selector_of(&deployment.spec.selector);
    let selection = Selection { labels, fields: FieldSelector::everything() };
    let namespace = deployment.metadata.namespace.as_deref().unwrap_or_default();
    let orphans = api.select(namespace, &selection).items;
    found.extend(orphans.into_iter().filter(|rs| controller_of(&rs.metadata).is_none()));
    found.sort_list_by(|a, b| sets::by_age(a, b));
    found
}

fn pods_of(registry: &Registry, deployment: &Deployment, replica_sets: &[Arc<ReplicaSet>]) -> Vec<Arc<Pod>> {
    let uid = deployment.metadata.uid.as_deref().unwrap_or_default();
    let owned = replica_sets.iter().filter(|rs| controller_of(&rs.metadata).is_some_and(|o| o.uid == uid));
    owned.flat_map(|rs| registry.api::<Pods>().owned_by(rs.metadata.uid.as_deref().unwrap_or_default())).collect()
}

/// How a set stands to a Deployment.
fn claim_of(deployment: &Deployment, selector: &LabelSelector, set: &ReplicaSet) -> Claim {
    claim(&deployment.metadata, &set.metadata, is_selected(selector, &set.metadata))
}

/// The owner of a changed set, before and after; a set without one wakes every Deployment that might adopt it.
fn wake_for_replica_set(registry: &Registry, moved: &Moved<ReplicaSet>, keys: &mut Vec<ObjectKey>) {
    keys.extend(moved.states().filter_map(|rs| controller_key::<Deployments>(&rs.metadata)));
    let Some(orphan) = moved.after.as_ref().filter(|rs| controller_of(&rs.metadata).is_none()) else { return };
    for deployment in registry.api::<Deployments>().list(orphan.metadata.namespace.as_deref().unwrap_or_default()).items
    {
        let selects = is_selected(&selector_of(&deployment.spec.selector), &orphan.metadata);
        if selects {
            keys.push(ObjectKey::of(&deployment.metadata));
        }
    }
}

/// A pod that ended or is gone may be what a Recreate waits for.
fn wake_for_pod(registry: &Registry, moved: &Moved<Pod>, keys: &mut Vec<ObjectKey>) {
    if moved.after.as_ref().is_some_and(|pod| !pod_state::is_terminal(pod)) {
        return;
    }
    let Some(pod) = moved.last() else { return };
    let Some(owner) = controller_key::<ReplicaSets>(&pod.metadata) else { return };
    let Some(set) = registry.api::<ReplicaSets>().get(&owner) else { return };
    let Some(key) = controller_key::<Deployments>(&set.metadata) else { return };
    if registry.api::<Deployments>().get(&key).is_some_and(|d| sets::is_recreate(&d)) {
        keys.push(key);
    }
}
