//! Room for a pod that matters more: which pods of lower priority would go, and from which node. Pure.
//!
//! Called for a pod that no node can take. On each node where others are in the way, all pods of lower priority are taken away, and those
//! that may stay are put back: first those whose disruption a budget forbids, the most important first. Of all nodes that one is taken where
//! least is lost.
//!
//! **Not here**: their deletion and what is told (`mod`). Budgets are honoured as far as there is a choice, as upstream does: a pod that
//! matters more gets its room.
//!
//! **Source**: `pkg/scheduler/framework/preemption/preemption.go`, `plugins/defaultpreemption/default_preemption.go`, v1.37.

use super::{
    Observed,
    candidate::Candidate,
    fit::{self, Unfit},
};
use crate::{base::ordered::SortList as _, registry::disruption};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use std::cmp::Reverse;

/// The policy of a pod for which no other goes.
const NEVER: &str = "Never";

/// Pods that go, so that another gets their node.
#[derive(Clone, Debug)]
pub(super) struct Room<'a> {
    /// Which candidate.
    pub(super) at: usize,
    /// The most important first.
    pub(super) victims: Vec<&'a Pod>,
    /// How many of them a budget would keep.
    violations: usize,
}

/// Whether there can be room.
pub(super) enum Verdict<'a> {
    /// These pods go.
    Room(Room<'a>),
    /// Others go already, from this candidate.
    Waits(usize),
    /// Nothing is done about it, for this reason.
    Nothing(String),
}

pub(super) fn priority(pod: &Pod) -> i32 {
    pod.spec.as_ref().and_then(|spec| spec.priority).unwrap_or(0)
}

/// The node that was promised to a pod, once its room is free.
pub(super) fn nominated(pod: &Pod) -> Option<&str> {
    pod.status.as_ref()?.nominated_node_name.as_deref().filter(|name| !name.is_empty())
}

/// Looks for room, given why each node cannot take the pod.
pub(super) fn find<'a>(pod: &Pod, unfit: &[Unfit], candidates: &[Candidate<'a>], observed: &Observed) -> Verdict<'a> {
    if pod.spec.as_ref().and_then(|spec| spec.preemption_policy.as_deref()) == Some(NEVER) {
        return Verdict::Nothing("not eligible due to preemptionPolicy=Never.".to_owned());
    }
    if let Some(at) = waits_for_room(pod, candidates) {
        return Verdict::Waits(at);
    }
    let mut world = candidates.to_vec();
    let found: Vec<Result<Room<'a>, String>> = (0..candidates.len())
        .map(|at| {
            if !unfit[at].others_are_in_the_way {
                return Err(super::NO_HELP.to_owned());
            }
            let room = on_node(pod, at, &mut world, observed);
            world[at] = candidates[at].clone();
            room
        })
        .collect();
    match found.iter().filter_map(|room| room.as_ref().ok()).min_by_key(|room| loss(room, observed.now)) {
        Some(room) => Verdict::Room(room.clone()),
        None => Verdict::Nothing(super::available(found.len(), found.into_iter().filter_map(Result::err))),
    }
}

/// The candidate from which pods go already so that this one gets their place. Source: `PodEligibleToPreemptOthers`.
fn waits_for_room(pod: &Pod, candidates: &[Candidate<'_>]) -> Option<usize> {
    let node = nominated(pod)?;
    let goes = |other: &&Pod| other.metadata.deletion_timestamp.is_some() && priority(other) < priority(pod);
    let at = candidates.iter().position(|candidate| candidate.name() == node)?;
    candidates[at].pods.iter().any(goes).then_some(at)
}

/// The pods that would go from a node. Source: `SelectVictimsOnNode`.
fn on_node<'a>(pod: &Pod, at: usize, world: &mut [Candidate<'a>], observed: &Observed) -> Result<Room<'a>, String> {
    let is_less = |other: &&&Pod| priority(other) < priority(pod);
    let (mut less, others): (Vec<&Pod>, Vec<&Pod>) = world[at].pods.iter().partition(|other| is_less(other));
    if less.is_empty() {
        return Err("No preemption victims found for incoming pod".to_owned());
    }
    less.sort_list_by_key(|other| importance(other, observed.now));
    world[at] = world[at].with_only(others);
    fits(pod, at, world, observed).map_err(|unfit| unfit.reasons.join(", "))?;
    let (kept, free) = protected(less, observed);
    let n_kept = kept.len();
    let (mut victims, mut violations) = (Vec::new(), 0);
    for (i, other) in kept.into_iter().chain(free).enumerate() {
        let without = world[at].clone();
        world[at].assume(other);
        if fits(pod, at, world, observed).is_err() {
            world[at] = without;
            victims.push(other);
            violations += usize::from(i < n_kept);
        }
    }
    victims.sort_list_by_key(|other| importance(other, observed.now));
    Ok(Room { at, victims, violations })
}

fn fits(pod: &Pod, at: usize, world: &[Candidate<'_>], observed: &Observed) -> Result<(), Unfit> {
    fit::check(pod, &world[at], world, observed)
}

fn started(pod: &Pod, now: Timestamp) -> Timestamp {
    pod.status.as_ref().and_then(|status| status.start_time.as_ref()).map_or(now, |time| time.0)
}

/// The most important first. Source: `MoreImportantPod`.
fn importance(pod: &Pod, now: Timestamp) -> (Reverse<i32>, Timestamp) {
    (Reverse(priority(pod)), started(pod, now))
}

/// Pods whose disruption a budget does not allow, and the others; both in their order. Source: `filterPodsWithPDBViolation`.
fn protected<'a>(pods: Vec<&'a Pod>, observed: &Observed) -> (Vec<&'a Pod>, Vec<&'a Pod>) {
    let mut left: Vec<i32> = Vec::new();
    for budget in &observed.budgets {
        left.push(budget.status.as_ref().and_then(|status| status.disruptions_allowed).unwrap_or(0));
    }
    pods.into_iter().partition(|pod| {
        let (name, labels) = (pod.metadata.name.as_deref().unwrap_or_default(), pod.metadata.labels.as_ref());
        let mut violates = false;
        for (budget, left) in observed.budgets.iter().zip(&mut left) {
            let is_its = budget.metadata.namespace == pod.metadata.namespace
                && labels.is_some_and(|labels| disruption::selector(budget).matches(labels));
            let disrupted = budget.status.as_ref().and_then(|status| status.disrupted_pods.as_ref());
            if is_its && !disrupted.is_some_and(|pods| pods.contains_key(name)) {
                *left -= 1;
                violates |= *left < 0;
            }
        }
        violates
    })
}

/// What is lost on a node; the least is best. Source: `pickOneNodeForPreemption`.
fn loss(room: &Room<'_>, now: Timestamp) -> (usize, i32, i64, usize, Reverse<Timestamp>) {
    let highest = room.victims.first().map_or(i32::MIN, |pod| priority(pod));
    // Each counts, whatever its priority: five of a negative one are not less than four.
    let sum = room.victims.iter().map(|pod| i64::from(priority(pod)) + i64::from(i32::MAX) + 1).sum();
    let oldest = room.victims.iter().filter(|pod| priority(pod) == highest).map(|pod| started(pod, now)).min();
    (room.violations, highest, sum, room.victims.len(), Reverse(oldest.unwrap_or(now)))
}
