//! The ReplicaSet controller, which is the ReplicationController controller too: as many pods of a template as are wanted.
//!
//! One implementation serves both kinds through [`adapter::PodSet`]; [`rank`] says which pods go first, [`status`] what is told.
//!
//! **Invariants**: only pods that the set owns are deleted; no more than [`BURST_MAX`] pods are made or deleted in a pass; there are
//! no expectations, because reads are exact and a key never runs twice at once.
//!
//! **Source**: `pkg/controller/replicaset`, v1.37.

pub mod adapter;
mod rank;
mod status;
#[cfg(test)]
mod tests;

use super::{
    namespace::namespace_goes,
    runtime::{
        Action, Claim, Controller, Decision, Done, Moved, Planned, Report, Step, Trigger, claim, controller_key,
        controller_reference, is_selected,
    },
};
use crate::{
    api::{
        kind::{ErasedKind as _, Kind, KindRef},
        kinds::{pod::Pods, resource_quota::RESOURCE_QUOTAS},
        meta::{ObjectKey, controller_of},
        object::Object as _,
        pod_state,
        selector::{FieldSelector, LabelSelector},
    },
    registry::{Registry, events::reference, keys, pipeline::Selection, quota},
};
use adapter::PodSet;
use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{Pod, PodTemplateSpec},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
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
        let quotas =
            Trigger::on_erased(KindRef::BuiltIn(&RESOURCE_QUOTAS), |registry: &Registry, before, after, keys| {
                if quota::leaves_more(before, after) {
                    let key = after.or(before).and_then(|entry| keys::object_key(RESOURCE_QUOTAS.info(), &entry.key));
                    let all = key.map(|key| registry.api::<K>().list(&key.namespace).items).unwrap_or_default();
                    keys.extend(all.iter().map(|set| ObjectKey::of(set.meta())));
                }
            });
        vec![Trigger::itself::<K>(), Trigger::on::<Pods>(wake_for_pod::<K>), quotas]
    }

    fn observe(&self, registry: &Registry, key: &ObjectKey) -> Option<Observed<K>> {
        let set = registry.api::<K>().get(key)?;
        let selector = K::selector(&set);
        let pods = pods_of(registry, set.meta(), &selector);
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

/// The pods that the set owns, whatever their labels, and those without an owner that it selects.
fn pods_of(registry: &Registry, set: &ObjectMeta, selector: &LabelSelector) -> Vec<Arc<Pod>> {
    let api = registry.api::<Pods>();
    let mut found = api.owned_by(set.uid.as_deref().unwrap_or_default());
    let selection = Selection { labels: selector.clone(), fields: FieldSelector::everything() };
    let selected = api.select(set.namespace.as_deref().unwrap_or_default(), &selection).items;
    found.extend(selected.into_iter().filter(|pod| controller_of(&pod.metadata).is_none()));
    found
}

/// The owner of a changed pod, before and after; a pod without one wakes every set that might adopt it.
fn wake_for_pod<K: PodSet>(registry: &Registry, moved: &Moved<Pod>, keys: &mut Vec<ObjectKey>) {
    keys.extend(moved.states().filter_map(|pod| controller_key::<K>(&pod.metadata)));
    let Some(orphan) = moved.after.as_ref().filter(|pod| controller_of(&pod.metadata).is_none()) else { return };
    for set in registry.api::<K>().list(orphan.metadata.namespace.as_deref().unwrap_or_default()).items {
        if is_selected(&K::selector(&set), &orphan.metadata) {
            keys.push(ObjectKey::of(set.meta()));
        }
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
    let claims = claims(observed);
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

fn claims<K: PodSet>(observed: &Observed<K>) -> Vec<Planned> {
    let owner = controller_reference(&K::INFO, observed.set.meta());
    let planned = |pod: &Pod| match observed.claim(pod) {
        Claim::Adopt => Some(Action::adopt::<Pods>(pod, owner.clone()).because("the selector selects an orphan")),
        Claim::Release => Some(Action::release::<Pods>(pod, &owner.uid).because("the selector no longer selects it")),
        Claim::Mine | Claim::NotMine => None,
    };
    observed.pods.iter().filter(|pod| pod_state::is_active(pod)).filter_map(|pod| planned(pod)).collect()
}

fn creations<K: PodSet>(set: &K::Object, n: usize) -> Vec<Planned> {
    let Some(template) = K::template(set) else { return Vec::new() };
    let pod = pod_from_template::<K>(set, template);
    let report = Report::Creation(Box::new(reference::<K>(set)));
    std::iter::repeat_with(|| Action::create::<Pods>(pod.clone()).because(TOO_FEW).telling(report.clone()))
        .take(n)
        .collect()
}

fn deletions<K: PodSet>(set: &K::Object, pods: Vec<&Pod>) -> Vec<Planned> {
    let report = Report::Deletion(Box::new(reference::<K>(set)));
    pods.into_iter().map(|pod| Action::delete::<Pods>(pod).because(TOO_MANY).telling(report.clone())).collect()
}

/// Source: `GetPodFromTemplate`, pkg/controller/controller_utils.go.
fn pod_from_template<K: PodSet>(set: &K::Object, template: &PodTemplateSpec) -> Pod {
    let meta = set.meta();
    let from = template.metadata.clone().unwrap_or_default();
    Pod {
        metadata: ObjectMeta {
            generate_name: Some(format!("{}-", meta.name.as_deref().unwrap_or_default())),
            namespace: meta.namespace.clone(),
            labels: from.labels,
            annotations: from.annotations,
            finalizers: from.finalizers,
            owner_references: Some(vec![controller_reference(&K::INFO, meta)]),
            ..ObjectMeta::default()
        },
        spec: template.spec.clone(),
        status: None,
    }
}
