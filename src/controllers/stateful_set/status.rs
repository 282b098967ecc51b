//! The status of a StatefulSet after a pass.
//!
//! **Source**: `computeReplicaStatus`, `completeRollingUpdate`, pkg/controller/statefulset, v1.37.

use super::{
    Observed,
    pods::{is_going, is_running_and_ready, revision_of},
    slots::{Slots, is_available},
};
use crate::{
    api::{kinds::stateful_set::StatefulSets, pod_state, status::ApiError},
    controllers::{
        revisions::NEW_REVISION,
        runtime::{Action, Decision, Done},
    },
};
use k8s_openapi::api::{
    apps::v1::{StatefulSet, StatefulSetStatus},
    core::v1::Pod,
};
use std::time::Duration;

/// Writes the status, when it has changed, and looks again when the next pod becomes available.
pub(super) fn conclude(observed: &Observed, done: &Done) -> Decision {
    let set = &*observed.set;
    let slots = Slots::of(observed);
    let before = set.status.clone().unwrap_or_default();
    let status = complete(
        &slots,
        StatefulSetStatus { collision_count: Some(collisions(&before, done)), ..numbers(observed, &slots) },
    );
    let mut decision = Decision::default();
    if status != before {
        let set = StatefulSet { status: Some(status), ..set.clone() };
        decision.then(Action::update_status::<StatefulSets>(set).because("the status changed"));
    }
    let times = slots.all().filter_map(|pod| pod_state::available_at(pod, slots.min_ready_secs()));
    let next = times.filter(|at| *at > observed.now).min();
    let wait = next.and_then(|at| Duration::try_from(at.duration_since(observed.now)).ok());
    wait.into_iter().for_each(|wait| decision.look_again_after(wait));
    decision
}

fn numbers(observed: &Observed, slots: &Slots<'_>) -> StatefulSetStatus {
    let created = |pod: &&Pod| !pod_state::phase(pod).is_empty();
    let count = |is: &dyn Fn(&Pod) -> bool| {
        i32::try_from(slots.all().filter(created).filter(|pod| is(pod)).count())
            .expect("a set has fewer than 2^31 pods")
    };
    let update = slots.update();
    StatefulSetStatus {
        replicas: count(&|_| true),
        ready_replicas: some(count(&is_running_and_ready)),
        available_replicas: Some(count(&|pod| is_available(pod, slots.min_ready_secs(), observed.now))),
        current_replicas: some(count(&|pod| !is_going(pod) && revision_of(pod) == slots.current)),
        updated_replicas: some(count(&|pod| !is_going(pod) && revision_of(pod) == update)),
        current_revision: Some(slots.current.clone()),
        update_revision: Some(update.to_owned()),
        observed_generation: observed.set.metadata.generation,
        collision_count: None,
        conditions: observed.set.status.as_ref().and_then(|s| s.conditions.clone()),
    }
}

fn some(n: i32) -> Option<i32> {
    (n != 0).then_some(n)
}

/// A revision's name that another has makes the next hash another.
fn collisions(before: &StatefulSetStatus, done: &Done) -> i32 {
    let has_collided = matches!(done.error_of(NEW_REVISION), Some(ApiError::AlreadyExists { .. }));
    let former = before.collision_count.unwrap_or(0);
    if has_collided { former.saturating_add(1) } else { former }
}

/// A rolling update is complete when every pod is of the newest revision and ready: that is the current one then.
fn complete(slots: &Slots<'_>, mut status: StatefulSetStatus) -> StatefulSetStatus {
    let strategy = slots.set.spec.update_strategy.as_ref();
    let is_rolling = strategy.is_none_or(|s| s.type_.as_deref() != Some("OnDelete"));
    let wanted = slots.set.spec.replicas.unwrap_or(1);
    let all = [status.updated_replicas.unwrap_or(0), status.ready_replicas.unwrap_or(0), status.replicas];
    if is_rolling && all.iter().all(|n| *n == wanted) {
        status.current_replicas = status.updated_replicas;
        status.current_revision.clone_from(&status.update_revision);
    }
    status
}
