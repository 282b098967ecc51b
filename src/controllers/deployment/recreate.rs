//! Recreate: all old pods end, and only then the first new one is made.
//!
//! **Source**: `pkg/controller/deployment/recreate.go`, v1.37.

use super::{
    plan::Plan,
    sets::{actual, is_active},
};
use crate::api::{meta::is_controlled_by, pod_state};

/// One step of the rollout.
pub(super) fn roll(plan: &mut Plan<'_>) {
    let active: Vec<usize> = plan.old_sets().filter(|i| is_active(&plan.sets[*i].set)).collect();
    if !active.is_empty() {
        for i in active {
            plan.resize(i, 0);
        }
        return;
    }
    if old_pods_run(plan) {
        return;
    }
    let new = plan.new_set();
    plan.resize(new, plan.replicas);
    plan.clean_up_when_complete();
}

/// Whether a pod of an old set is, or may still be, running.
pub(super) fn old_pods_run(plan: &Plan<'_>) -> bool {
    if plan.old_sets().any(|i| actual(&plan.sets[i].set) > 0) {
        return true;
    }
    let new_uid = plan.new.and_then(|i| plan.sets[i].set.metadata.uid.as_deref());
    plan.observed.pods.iter().any(|pod| {
        let is_new = new_uid.is_some_and(|uid| is_controlled_by(&pod.metadata, uid));
        !is_new && !pod_state::is_terminal(pod)
    })
}
