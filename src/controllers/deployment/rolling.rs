//! RollingUpdate: first grow the new set as far as the surge allows, then shrink old sets as far as availability allows.
//!
//! **Source**: `pkg/controller/deployment/rolling.go` and `NewRSNewReplicas`, v1.37.

use super::{
    plan::Plan,
    sets::{is_active, lasting, size},
};

/// One step of the rollout.
pub(super) fn roll(plan: &mut Plan<'_>) {
    let new = plan.new_set();
    if grow_new(plan, new) || shrink_old(plan, new) {
        return;
    }
    plan.clean_up_when_complete();
}

fn grow_new(plan: &mut Plan<'_>, new: usize) -> bool {
    let has = size(&plan.sets[new].set);
    if has > plan.replicas {
        return plan.resize(new, plan.replicas);
    }
    plan.resize(new, plan.new_size(has))
}

fn shrink_old(plan: &mut Plan<'_>, new: usize) -> bool {
    let old: Vec<usize> = plan.old_sets().filter(|i| is_active(&plan.sets[*i].set)).collect();
    let min_available = plan.replicas.saturating_sub(plan.fence.unavailable);
    let new_set = &plan.sets[new].set;
    // Pods of the new set that are not available yet must not make more of the old ones go.
    let not_yet = size(new_set).saturating_sub(lasting(new_set));
    let spare = plan.total().saturating_sub(min_available).saturating_sub(not_yet);
    if old.is_empty() || spare <= 0 {
        return false;
    }
    let unhealthy = shrink_unhealthy(plan, &old, spare);
    let healthy = shrink_healthy(plan, &old, min_available);
    unhealthy || healthy
}

/// Takes away what is not available anyhow: it would only hold up the rollout.
fn shrink_unhealthy(plan: &mut Plan<'_>, old: &[usize], mut spare: i32) -> bool {
    let mut changed = false;
    for i in old {
        let has = size(&plan.sets[*i].set);
        let fewer = spare.min(has.saturating_sub(lasting(&plan.sets[*i].set)));
        if fewer > 0 {
            changed |= plan.resize(*i, has - fewer);
            spare -= fewer;
        }
    }
    changed
}

/// Takes away as many available pods as are above the least number.
fn shrink_healthy(plan: &mut Plan<'_>, old: &[usize], min_available: i32) -> bool {
    let all = plan.sets.iter().map(|s| lasting(&s.set)).fold(0, i32::saturating_add);
    let mut spare = all.saturating_sub(min_available);
    let mut changed = false;
    for i in old {
        let has = size(&plan.sets[*i].set);
        let fewer = spare.min(has);
        if fewer > 0 {
            changed |= plan.resize(*i, has - fewer);
            spare -= fewer;
        }
    }
    changed
}
