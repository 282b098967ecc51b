//! One pass over a StatefulSet: first what is missing, then what is too much, then what is out of date.
//!
//! **Source**: `updateStatefulSet`, `processReplica`, `processCondemned` and `updateStatefulSetAfterInvariantEstablished`,
//! pkg/controller/statefulset/stateful_set_control.go, v1.37.

use super::{
    Observed,
    pods::{cannot_start, creation, deletion, identified, is_going, is_running_and_ready, pod, revision_of},
    slots::{Slots, is_available, ordinals, selects},
};
use crate::{
    api::{fence::scaled, kinds::stateful_set::StatefulSets, pod_state},
    controllers::{
        pods::claims,
        revisions,
        runtime::{Decision, EventDraft, Planned, Step, selector_of},
    },
};
use k8s_openapi::api::core::v1::Pod;

/// The most pods that are made in a pass. Source: `MaxBatchSize`.
const BURST_MAX: usize = 500;

/// What to do.
pub(super) fn decide(observed: &Observed) -> Decision {
    let set = &*observed.set;
    let selector = selector_of(&set.spec.selector);
    let is_ours = |pod: &Pod| selects(set, &selector, pod);
    let mut claims = claims::<StatefulSets>(&set.metadata, &observed.pods, is_ours);
    claims.extend(revisions::claims::<StatefulSets>(&set.metadata, &selector, &observed.revisions));
    if !claims.is_empty() {
        // What has changed hands wakes this key, and everything else follows then.
        return Decision { steps: vec![Step::Parallel(claims)], ..Decision::default() };
    }
    if set.metadata.deletion_timestamp.is_some() {
        return Decision::rest();
    }
    let mut slots = Slots::of(observed);
    let mut decision = Decision::default();
    if let Some(write) = slots.revisions.write.take().filter(|_| !observed.namespace_goes) {
        decision.then(write);
    }
    let mut pass = Pass { observed, slots: &slots, is_ordered: is_ordered(observed), writes: Writes::default() };
    pass.run();
    pass.writes.into_steps(&mut decision);
    let is_used = |r: &_| {
        let name = revisions::name(r);
        name == slots.current || slots.all().any(|pod| revision_of(pod) == name)
    };
    let old = slots.revisions.beyond(set.spec.revision_history_limit, is_used);
    if !old.is_empty() {
        decision.then(Step::Parallel(old));
    }
    decision
}

fn is_ordered(observed: &Observed) -> bool {
    observed.set.spec.pod_management_policy.as_deref() != Some("Parallel")
}

/// What a pass writes.
#[derive(Default)]
struct Writes {
    claims: Vec<Planned>,
    updates: Vec<Planned>,
    creations: Vec<Planned>,
    deletions: Vec<Planned>,
    events: Vec<EventDraft>,
}

impl Writes {
    fn into_steps(self, decision: &mut Decision) {
        decision.events.extend(self.events);
        for step in [self.claims, self.updates] {
            if !step.is_empty() {
                decision.then(Step::Parallel(step));
            }
        }
        if !self.creations.is_empty() {
            decision.then(Step::SlowStart(self.creations));
        }
        if !self.deletions.is_empty() {
            decision.then(Step::Parallel(self.deletions));
        }
    }
}

struct Pass<'a> {
    observed: &'a Observed,
    slots: &'a Slots<'a>,
    is_ordered: bool,
    writes: Writes,
}

impl Pass<'_> {
    fn run(&mut self) {
        if self.members() && self.condemned() {
            self.update();
        }
    }

    fn is_available(&self, pod: &Pod) -> bool {
        is_available(pod, self.slots.min_ready_secs(), self.observed.now)
    }

    /// Sees to the ordinals that there are to be, lowest first. Says whether the pass goes on to what is too much.
    fn members(&mut self) -> bool {
        let mut goes_on = true;
        for ordinal in ordinals(self.slots.set) {
            let is_settled = match self.slots.members.get(&ordinal) {
                None => self.create(ordinal),
                Some(pod) => self.member(ordinal, pod),
            };
            goes_on &= is_settled;
            let is_stopped = !is_settled && (self.is_ordered || self.observed.namespace_goes);
            if is_stopped || self.writes.creations.len() >= BURST_MAX {
                return false;
            }
        }
        goes_on
    }

    /// Makes the pod of an ordinal. In order, whatever comes after it waits.
    fn create(&mut self, ordinal: i32) -> bool {
        if self.observed.namespace_goes || self.observed.has_stale_claim(ordinal) {
            return false;
        }
        let (revision, template) = self.slots.revision_for(ordinal);
        self.writes.claims.extend(self.observed.missing_claims(ordinal));
        let pod = pod(self.slots.set, ordinal, revision, &template);
        self.writes.creations.push(creation(self.slots.set, pod));
        !self.is_ordered
    }

    /// Sees to a pod of an ordinal. Says whether those after it may be looked at.
    fn member(&mut self, ordinal: i32, pod: &Pod) -> bool {
        if pod_state::is_terminal(pod) {
            self.recreate(pod);
            return false;
        }
        if is_going(pod) {
            return !self.is_ordered;
        }
        if pod_state::phase(pod) == "Pending" {
            self.writes.claims.extend(self.observed.missing_claims(ordinal));
        }
        if self.is_ordered && !self.is_available(pod) {
            if self.holds_update_up(ordinal, pod) {
                self.writes.deletions.push(deletion(self.slots.set, pod, "it cannot start, and is to be replaced"));
            }
            return false;
        }
        self.writes.updates.extend(identified(self.slots.set, ordinal, pod));
        self.writes.claims.extend(self.observed.claims_to_own(ordinal, pod, false));
        true
    }

    /// Whether a pod that is not available is of an earlier template and will not get well.
    fn holds_update_up(&self, ordinal: i32, pod: &Pod) -> bool {
        let slots = self.slots;
        let is_abandoned = revision_of(pod) != slots.current;
        !self.is_on_delete()
            && slots.is_to_update(ordinal)
            && !slots.is_updated(pod)
            && (is_abandoned || cannot_start(pod))
    }

    /// A pod that ended is replaced, however it ended.
    fn recreate(&mut self, pod: &Pod) {
        if is_going(pod) {
            return;
        }
        let (set, meta) = (self.slots.set, &pod.metadata);
        let of = |field: &Option<String>| field.clone().unwrap_or_default();
        let told = |word: &str| {
            let (namespace, name) = (of(&set.metadata.namespace), of(&set.metadata.name));
            format!("StatefulSet {namespace}/{name} is recreating {word} Pod {}", of(&meta.name))
        };
        self.writes.events.push(if pod_state::phase(pod) == "Failed" {
            EventDraft::warning::<StatefulSets>(set, "RecreatingFailedPod", told("failed"))
        } else {
            EventDraft::normal::<StatefulSets>(set, "RecreatingTerminatedPod", told("terminated"))
        });
        self.writes.deletions.push(deletion(set, pod, "it has ended"));
    }

    /// Deletes the pods of ordinals that there are not to be, highest first. Says whether there are none.
    fn condemned(&mut self) -> bool {
        let first_unavailable = self.first_unavailable();
        for (ordinal, pod) in self.slots.condemned.iter().rev() {
            if is_going(pod) {
                if self.is_ordered {
                    return false;
                }
                continue;
            }
            let is_well = self.is_available(pod) && is_running_and_ready(pod);
            // One that has ended never gets well, and nothing is lost with it: upstream would wait for ever.
            let may_get_well = !is_well && !pod_state::is_terminal(pod);
            if self.is_ordered && may_get_well && first_unavailable != Some(*ordinal) {
                return false;
            }
            self.writes.claims.extend(self.observed.claims_to_own(*ordinal, pod, true));
            self.writes.deletions.push(deletion(self.slots.set, pod, "there are too many pods"));
            if self.is_ordered {
                return false;
            }
        }
        self.slots.condemned.is_empty()
    }

    /// The first ordinal whose pod does not serve: in order, others are not taken away while it is so.
    fn first_unavailable(&self) -> Option<i32> {
        let mut all = self.slots.members.iter().chain(&self.slots.condemned);
        all.find(|(_, pod)| !self.is_available(pod)).map(|(ordinal, _)| *ordinal)
    }

    fn is_on_delete(&self) -> bool {
        self.slots.set.spec.update_strategy.as_ref().is_some_and(|s| s.type_.as_deref() == Some("OnDelete"))
    }

    /// Replaces pods of earlier revisions, highest first, as many at once as may be missing.
    fn update(&mut self) {
        if self.is_on_delete() {
            return;
        }
        let set = self.slots.set;
        let wanted = set.spec.replicas.unwrap_or(1);
        let rolling = set.spec.update_strategy.as_ref().and_then(|s| s.rolling_update.as_ref());
        let max = rolling.and_then(|r| r.max_unavailable.as_ref());
        let max = max.map_or(1, |max| scaled(Some(max), wanted, false)).max(1);
        let available = self.slots.members.values().filter(|pod| self.is_available(pod)).count();
        let missing = wanted.saturating_sub(i32::try_from(available).unwrap_or(i32::MAX));
        let mut may_go = max.saturating_sub(missing);
        for (ordinal, pod) in self.slots.members.iter().rev().filter(|(ordinal, _)| self.slots.is_to_update(**ordinal))
        {
            let is_due = !self.slots.is_updated(pod) && !is_going(pod);
            debug_assert!(ordinals(set).contains(ordinal), "members are those that are to be");
            // What does not serve is not missed.
            let is_free = !self.is_available(pod);
            if is_due && (is_free || may_go > 0) {
                may_go -= i32::from(!is_free);
                self.writes.deletions.push(deletion(set, pod, "it is of an earlier revision"));
            }
        }
    }
}
