//! Which pods go first when there are too many.
//!
//! Upstream also prefers nodes with more pods of the same owner, which on one node is no preference. Where upstream falls back to
//! UIDs within a bucket of times, this first asks the criteria that follow, so that the order is total.
//!
//! **Source**: `ActivePodsWithRanks`, pkg/controller/controller_utils.go, v1.37.

use crate::api::pod_state::{self, READY};
use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{ContainerStatus, Pod},
    apimachinery::pkg::apis::meta::v1::Time,
};
use std::cmp::Reverse;

/// The annotation that makes a pod's deletion cheaper or dearer.
const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

/// What pods are compared by: the lowest goes first.
type Rank = (bool, u8, bool, i32, i32, Reverse<i32>, Reverse<i32>, i32, String);

/// The `n` pods that go first.
pub(in crate::controllers) fn first_to_go(mut active: Vec<&Pod>, n: usize, now: Timestamp) -> Vec<&Pod> {
    active.sort_by_cached_key(|pod| rank(pod, now));
    active.truncate(n);
    active
}

fn rank(pod: &Pod, now: Timestamp) -> Rank {
    let is_assigned = pod.spec.as_ref().and_then(|s| s.node_name.as_deref()).is_some_and(|node| !node.is_empty());
    let ready = pod_state::condition(pod, READY).filter(|c| c.status == "True");
    let ready_for = ready.map_or(0, |c| bucket(c.last_transition_time.as_ref(), now));
    let (restarts, sidecar_restarts) = most_restarts(pod);
    let age = bucket(pod.metadata.creation_timestamp.as_ref(), now);
    let uid = pod.metadata.uid.clone().unwrap_or_default();
    let cost = deletion_cost(pod);
    (is_assigned, phase(pod), ready.is_some(), cost, ready_for, Reverse(restarts), Reverse(sidecar_restarts), age, uid)
}

fn phase(pod: &Pod) -> u8 {
    match pod.status.as_ref().and_then(|s| s.phase.as_deref()) {
        Some("Unknown") => 1,
        Some("Running") => 2,
        _ => 0,
    }
}

/// The annotated cost; what cannot be read counts as none. Source: `GetDeletionCostFromPodAnnotations`.
fn deletion_cost(pod: &Pod) -> i32 {
    let text = pod.metadata.annotations.as_ref().and_then(|a| a.get(DELETION_COST));
    // A sign or a leading zero is refused, as upstream does, because it is more likely a mistake than a number.
    let is_plain =
        |t: &&String| !t.starts_with('+') && (t.as_str() == "0" || !t.trim_start_matches('-').starts_with('0'));
    text.filter(is_plain).and_then(|t| t.parse().ok()).unwrap_or(0)
}

/// The binary logarithm of the nanoseconds since then: times of a kind are alike, and which of them goes is chance.
fn bucket(since: Option<&Time>, now: Timestamp) -> i32 {
    let Some(Time(since)) = since else { return -2 };
    let nanos = now.duration_since(*since).as_nanos();
    if nanos <= 0 { -1 } else { i32::try_from(nanos.ilog2()).unwrap_or(i32::MAX) }
}

/// The most restarts of a container, and of a sidecar.
fn most_restarts(pod: &Pod) -> (i32, i32) {
    let most = |statuses: Option<&Vec<ContainerStatus>>, counts: &dyn Fn(&str) -> bool| {
        let counted = statuses.into_iter().flatten().filter(|s| counts(&s.name));
        counted.map(|s| s.restart_count).max().unwrap_or(0)
    };
    let status = pod.status.as_ref();
    let init = pod.spec.as_ref().and_then(|s| s.init_containers.as_ref());
    let is_sidecar = |name: &str| {
        init.into_iter().flatten().any(|c| c.name == name && c.restart_policy.as_deref() == Some("Always"))
    };
    (
        most(status.and_then(|s| s.container_statuses.as_ref()), &|_| true),
        most(status.and_then(|s| s.init_container_statuses.as_ref()), &is_sidecar),
    )
}
