//! The StatefulSet controller: pods with names that stay, made and replaced in order, each with its own volume claims.
//!
//! - [`decide`]: one pass, in order; [`slots`]: which ordinals have which pods.
//! - [`pods`]: what a pod of an ordinal looks like; [`claims`]: its volume claims, and whose they are.
//! - [`status`]: numbers and revisions, concluded after the pass.
//!
//! **Invariants**: an ordinal has one pod at most, because its name is made of it; with `OrderedReady` one pod changes at a time, and none
//! before those below it are available.
//!
//! **Not here**: what becomes of a claim (whoever binds claims to volumes).
//!
//! **Source**: `pkg/controller/statefulset`, v1.37. One thing differs: a pod of an earlier template that cannot start does not hold an update
//! up (upstream's "forced rollback" by hand, kubernetes#67250): it is replaced, because nothing is lost with it.

mod claims;
mod decide;
mod pods;
mod slots;
mod status;
#[cfg(test)]
mod tests;

use super::{
    namespace::namespace_goes,
    pods::{of_owner, on_more_quota, wake_owner},
    revisions,
    runtime::{Controller, Decision, Done, Moved, Trigger, selector_of},
};
use crate::{
    api::{
        kinds::{controller_revision::ControllerRevisions, pod::Pods, stateful_set::StatefulSets},
        meta::ObjectKey,
    },
    registry::Registry,
};
use claims::Claims;
use jiff::Timestamp;
use k8s_openapi::api::{
    apps::v1::{ControllerRevision, StatefulSet},
    core::v1::{PersistentVolumeClaim, Pod},
};
use std::sync::Arc;

/// All that a pass over a set depends on.
#[derive(Clone, Debug)]
pub struct Observed {
    /// The set.
    pub set: Arc<StatefulSet>,
    /// The revisions that it owns or may adopt.
    pub revisions: Vec<Arc<ControllerRevision>>,
    /// The pods that it owns or may adopt.
    pub pods: Vec<Arc<Pod>>,
    /// The claims that are named as those of its pods.
    pub claims: Vec<Arc<PersistentVolumeClaim>>,
    /// Whether the namespace is going away, so that nothing can be created in it.
    pub namespace_goes: bool,
    /// The time.
    pub now: Timestamp,
}

/// The controller.
#[derive(Clone, Copy, Debug)]
pub struct StatefulSetController;

impl Controller for StatefulSetController {
    type Key = ObjectKey;
    type Observed = Observed;

    const CONCLUDES: bool = true;

    fn name(&self) -> &'static str {
        "statefulset"
    }

    fn event_source(&self) -> &'static str {
        "statefulset-controller"
    }

    fn triggers(&self) -> Vec<Trigger<ObjectKey>> {
        let selector = |set: &StatefulSet| selector_of(&set.spec.selector);
        vec![
            Trigger::itself::<StatefulSets>(),
            Trigger::on::<Pods>(move |registry, moved, keys| {
                wake_owner::<StatefulSets>(registry, moved, keys, selector);
            }),
            Trigger::controller::<ControllerRevisions, StatefulSets>(),
            Trigger::on::<Claims>(wake_for_claim),
            on_more_quota::<StatefulSets>(),
        ]
    }

    fn observe(&self, registry: &Registry, key: &ObjectKey) -> Option<Observed> {
        let set = registry.api::<StatefulSets>().get(key)?;
        let selector = selector_of(&set.spec.selector);
        Some(Observed {
            revisions: revisions::of_owner(registry, &set.metadata, &selector),
            pods: of_owner(registry, &set.metadata, &selector),
            claims: claims::of_set(registry, &set),
            namespace_goes: namespace_goes(registry, &key.namespace),
            now: registry.clock().now(),
            set,
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

/// A pod may wait for a claim that goes, and a claim that was deleted is missed.
fn wake_for_claim(registry: &Registry, moved: &Moved<PersistentVolumeClaim>, keys: &mut Vec<ObjectKey>) {
    let Some(claim) = moved.last().filter(|_| moved.after.is_none()) else { return };
    let namespace = claim.metadata.namespace.as_deref().unwrap_or_default();
    for set in registry.api::<StatefulSets>().list(namespace).items {
        if claims::is_of(&set, claim.metadata.name.as_deref().unwrap_or_default()) {
            keys.push(ObjectKey::of(&set.metadata));
        }
    }
}
