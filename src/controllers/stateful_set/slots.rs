//! Which ordinals a StatefulSet is to have, which pods have them, and of which revisions pods are to be.

use super::{
    Observed,
    pods::{ordinal_of, revision_of},
};
use crate::{
    api::{kinds::stateful_set::StatefulSets, pod_state, selector::LabelSelector},
    base::ordered::Map,
    controllers::{
        revisions::{Owner, Revisions, name, template_of},
        runtime::{Claim, claim, is_selected, selector_of},
    },
};
use k8s_openapi::api::{
    apps::v1::StatefulSet,
    core::v1::{Pod, PodTemplateSpec},
};
use std::ops::Range;

/// What a pass over a set knows.
#[derive(Debug)]
pub(super) struct Slots<'a> {
    pub(super) set: &'a StatefulSet,
    /// The pods of the ordinals that there are to be.
    pub(super) members: Map<i32, &'a Pod>,
    /// The pods of other ordinals.
    pub(super) condemned: Map<i32, &'a Pod>,
    pub(super) revisions: Revisions<'a>,
    /// The name of the revision that pods below the partition are of.
    pub(super) current: String,
}

impl<'a> Slots<'a> {
    pub(super) fn of(observed: &'a Observed) -> Self {
        let set = &*observed.set;
        let selector = selector_of(&set.spec.selector);
        let collisions = set.status.as_ref().and_then(|s| s.collision_count);
        let owner = Owner {
            meta: &set.metadata,
            template: &set.spec.template,
            collisions,
            hash_label: "controller.kubernetes.io/hash",
        };
        let revisions = Revisions::of::<StatefulSets>(owner, &selector, &observed.revisions);
        let told = set.status.as_ref().and_then(|s| s.current_revision.as_deref());
        let current = told.filter(|told| revisions.named(told).is_some()).unwrap_or_else(|| name(&revisions.latest));
        let current = current.to_owned();
        let ordinals = ordinals(set);
        let ours = observed
            .pods
            .iter()
            .filter(|pod| claim(&set.metadata, &pod.metadata, selects(set, &selector, pod)) == Claim::Mine);
        let of_ordinal = ours.filter_map(|pod| Some((ordinal_of(set, pod)?, &**pod)));
        let (members, condemned) = of_ordinal.partition(|(ordinal, _)| ordinals.contains(ordinal));
        Self { set, members, condemned, revisions, current }
    }

    /// The name of the revision that the set's template is.
    pub(super) fn update(&self) -> &str {
        name(&self.revisions.latest)
    }

    /// How many of the first ordinals keep the current revision.
    pub(super) fn partition(&self) -> i32 {
        let strategy = self.set.spec.update_strategy.as_ref();
        strategy.and_then(|s| s.rolling_update.as_ref()?.partition).unwrap_or(0)
    }

    /// Whether an ordinal is to be of the newest revision.
    pub(super) fn is_to_update(&self, ordinal: i32) -> bool {
        ordinal.saturating_sub(ordinals(self.set).start) >= self.partition()
    }

    /// The revision of which a new pod of this ordinal is, and its template.
    pub(super) fn revision_for(&self, ordinal: i32) -> (&str, PodTemplateSpec) {
        let current = (!self.is_to_update(ordinal)).then(|| self.revisions.named(&self.current)).flatten();
        match current.and_then(|revision| Some((name(revision), template_of(revision)?))) {
            Some(current) => current,
            None => (self.update(), self.set.spec.template.clone()),
        }
    }

    /// Whether a pod is of the newest revision.
    pub(super) fn is_updated(&self, pod: &Pod) -> bool {
        revision_of(pod) == self.update()
    }

    pub(super) fn min_ready_secs(&self) -> i32 {
        self.set.spec.min_ready_seconds.unwrap_or(0)
    }

    /// Every pod of the set.
    pub(super) fn all(&self) -> impl Iterator<Item = &'a Pod> {
        self.members.values().chain(self.condemned.values()).copied()
    }
}

/// Whether a pod is one for the set, which takes only pods of its own naming.
pub(super) fn selects(set: &StatefulSet, selector: &LabelSelector, pod: &Pod) -> bool {
    is_selected(selector, &pod.metadata) && ordinal_of(set, pod).is_some()
}

/// The ordinals that there are to be.
pub(super) fn ordinals(set: &StatefulSet) -> Range<i32> {
    let start = set.spec.ordinals.as_ref().and_then(|o| o.start).unwrap_or(0);
    start..start.saturating_add(set.spec.replicas.unwrap_or(1))
}

/// Whether a pod is there to serve. Source: `isUnavailable`.
pub(super) fn is_available(pod: &Pod, min_ready_secs: i32, now: jiff::Timestamp) -> bool {
    pod_state::phase(pod) == "Running"
        && pod.metadata.deletion_timestamp.is_none()
        && pod_state::is_pod_available(pod, min_ready_secs, now)
}
