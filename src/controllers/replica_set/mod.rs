//! The ReplicaSet controller, which is the ReplicationController controller too: as many pods of a template as are wanted.
//!
//! One implementation serves both kinds through [`adapter::PodSet`]; [`rank`] says which pods go first, [`status`] what is told.
//!
//! **Invariants**: only pods that the set owns are deleted; no more than [`BURST_MAX`] pods are made or deleted in a pass; there are
//! no expectations, because reads are exact and a key never runs twice at once.
//!
//! **Source**: `pkg/controller/replicaset`, v1.37.

pub mod adapter;
pub(super) mod rank;
mod status;
#[cfg(test)]
mod tests;

use super::{
    namespace::namespace_goes,
    pods,
    runtime::{Action, Claim, Controller, Decision, Done, Planned, Report, Step, Trigger, claim, is_selected},
};
use crate::{
    api::{kind::Kind, kinds::pod::Pods, meta::ObjectKey, object::Object as _, pod_state, selector::LabelSelector},
    registry::{Registry, events::reference},
};
use adapter::PodSet;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use std::{fmt, marker::PhantomData, sync::Arc};

/// The most pods that are made or deleted in a pass. Source: `BurstReplicas`.
const BURST_MAX: usize = 500;
/// Why pods are created and deleted; `conclude` asks for it.
const TOO_FEW: &str = "there are too few pods";
const TOO_MANY: &str = "there are too many pods";

/// All that a pass over a set depends on.
pub struct Observed<K: Kind> {
    /// The set.
    pub set: Arc<K::Object>,
    /// The set's selector.
    pub selector: LabelSelector,
    /// The pods that it owns or may adopt, in key order.
    pub pods: Vec<Arc<Pod>>,
    /// Whether the namespace is going away, so that nothing can be created in it.
    pub namespace_goes: bool,
    /// The time.
    pub now: Timestamp,
}

impl<K: Kind> fmt::Debug for Observed<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Observed").field("set", &self.set).field("pods", &self.pods).finish_non_exhaustive()
    }
}

/// The controller of the sets of one kind.
#[derive(Clone, Copy, Debug)]
pub struct PodSetController<K>(PhantomData<fn() -> K>);

impl<K> PodSetController<K> {
    /// The controller.
    pub const NEW: Self = Self(PhantomData);
}

impl<K: PodSet> Controller for PodSetController<K> {
    type Key = ObjectKey;
    type Observed = Observed<K>;

    const CONCLUDES: bool = true;

    fn name(&self) -> &'static str {
        K::NAME
    }

    fn event_source(&self) -> &'static str {
        K::EVENT_SOURCE
    }

    fn triggers(&self) -> Vec<Trigger<ObjectKey>> {
        vec![
            Trigger::itself::<K>(),
            Trigger::on::<Pods>(|registry, moved, keys| pods::wake_owner::<K>(registry, moved, keys, K::selector)),
            pods::on_more_quota::<K>(),
        ]
    }

    fn observe(&self, registry: &Registry, key: &ObjectKey) -> Option<Observed<K>> {
        let set = registry.api::<K>().get(key)?;
        let selector = K::selector(&set);
        let pods = pods::of_owner(registry, set.meta(), &selector);
        Some(Observed {
            set,
            selector,
            pods,
            namespace_goes: namespace_goes(registry, &key.namespace),
            now: registry.clock().now(),
        })
    }

    fn weight(&self, observed: &Observed<K>) -> usize {
        observed.pods.len()
    }

    fn decide(&self, observed: &Observed<K>) -> Decision {
        decide(observed)
    }

    fn conclude(&self, observed: &Observed<K>, done: &Done) -> Decision {
        status::conclude(observed, done)
    }
}

impl<K: PodSet> Observed<K> {
    /// The pods that are owned, selected, and neither ended nor going.
    fn active(&self) -> impl Iterator<Item = &Arc<Pod>> {
        self.pods.iter().filter(|pod| pod_state::is_active(pod) && self.claim(pod) == Claim::Mine)
    }

    fn claim(&self, pod: &Pod) -> Claim {
        claim(self.set.meta(), &pod.metadata, is_selected(&self.selector, &pod.metadata))
    }
}

fn decide<K: PodSet>(observed: &Observed<K>) -> Decision {
    let is_ours = |pod: &Pod| is_selected(&observed.selector, &pod.metadata);
    let claims = pods::claims::<K>(observed.set.meta(), &observed.pods, is_ours);
    if !claims.is_empty() {
        // The pods wake this key when they have changed hands, and everything else follows then.
        return Decision { steps: vec![Step::Parallel(claims)], ..Decision::default() };
    }
    let set = &*observed.set;
    let active: Vec<&Pod> = observed.active().map(|pod| &**pod).collect();
    let wanted = usize::try_from(K::replicas(set)).unwrap_or(0);
    let mut decision = Decision::default();
    if set.meta().deletion_timestamp.is_some() {
        return decision;
    }
    if active.len() < wanted && !observed.namespace_goes {
        decision.then(Step::SlowStart(creations::<K>(set, (wanted - active.len()).min(BURST_MAX))));
    } else if active.len() > wanted {
        let surplus = (active.len() - wanted).min(BURST_MAX);
        decision.then(Step::Parallel(deletions::<K>(set, rank::first_to_go(active, surplus, observed.now))));
    }
    decision
}

fn creations<K: PodSet>(set: &K::Object, n: usize) -> Vec<Planned> {
    let Some(template) = K::template(set) else { return Vec::new() };
    let pod = pods::from_template::<K>(set.meta(), template);
    let report = Report::Creation(Box::new(reference::<K>(set)));
    std::iter::repeat_with(|| Action::create::<Pods>(pod.clone()).because(TOO_FEW).telling(report.clone()))
        .take(n)
        .collect()
}

fn deletions<K: PodSet>(set: &K::Object, pods: Vec<&Pod>) -> Vec<Planned> {
    let report = Report::Deletion(Box::new(reference::<K>(set)));
    pods.into_iter().map(|pod| Action::delete::<Pods>(pod).because(TOO_MANY).telling(report.clone())).collect()
}
