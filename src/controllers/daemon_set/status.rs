//! The status of a DaemonSet after a pass.
//!
//! **Source**: `updateDaemonSetStatus`, pkg/controller/daemon/daemon_controller.go, v1.37.

use super::{
    Observed,
    decide::{desired, hash_of},
    nodes::fit,
    update::is_updated,
};
use crate::{
    api::{kinds::daemon_set::DaemonSets, pod_state, status::ApiError},
    controllers::{
        revisions::NEW_REVISION,
        runtime::{Action, Decision, Done},
    },
};
use k8s_openapi::api::apps::v1::{DaemonSet, DaemonSetStatus};
use std::time::Duration;

/// Writes the status, when it has changed, and looks again when the next pod becomes available.
pub(super) fn conclude(observed: &Observed, done: &Done) -> Decision {
    let set = &*observed.set;
    let before = set.status.clone().unwrap_or_default();
    let has_collided = matches!(done.error_of(NEW_REVISION), Some(ApiError::AlreadyExists { .. }));
    let former = before.collision_count;
    let collision_count = if has_collided { Some(former.unwrap_or(0).saturating_add(1)) } else { former };
    let status = DaemonSetStatus { collision_count, ..numbers(observed) };
    let mut decision = Decision::default();
    if status != before {
        let set = DaemonSet { status: Some(status), ..set.clone() };
        decision.then(Action::update_status::<DaemonSets>(set).because("the status changed"));
    }
    let min_ready = set.spec.min_ready_seconds.unwrap_or(0);
    let times = observed.pods.iter().filter_map(|pod| pod_state::available_at(pod, min_ready));
    let next = times.filter(|at| *at > observed.now).min();
    let wait = next.and_then(|at| Duration::try_from(at.duration_since(observed.now)).ok());
    wait.into_iter().for_each(|wait| decision.look_again_after(wait));
    decision
}

fn numbers(observed: &Observed) -> DaemonSetStatus {
    let set = &*observed.set;
    let (by_node, revisions) = (observed.pods_by_node(), observed.revisions());
    let (hash, min_ready) = (hash_of(&revisions.latest), set.spec.min_ready_seconds.unwrap_or(0));
    let (mut current, mut misscheduled, mut ready, mut available, mut updated) = (0, 0, 0, 0, 0);
    for node in &observed.nodes {
        let Some(pods) = by_node.get(node.metadata.name.as_deref().unwrap_or_default()) else { continue };
        if !fit(set, node).should_run {
            misscheduled += 1;
            continue;
        }
        current += 1;
        // Where there are two, the older one serves.
        let Some(pod) = pods.first() else { continue };
        ready += i32::from(pod_state::is_pod_ready(pod));
        available += i32::from(pod_state::is_pod_available(pod, min_ready, observed.now));
        updated += i32::from(is_updated(pod, hash));
    }
    let desired = desired(observed);
    let some = |n: i32| (n != 0).then_some(n);
    DaemonSetStatus {
        desired_number_scheduled: desired,
        current_number_scheduled: current,
        number_misscheduled: misscheduled,
        number_ready: ready,
        number_available: some(available),
        number_unavailable: some(desired - available),
        updated_number_scheduled: some(updated),
        observed_generation: set.metadata.generation,
        collision_count: None,
        conditions: set.status.as_ref().and_then(|s| s.conditions.clone()),
    }
}
