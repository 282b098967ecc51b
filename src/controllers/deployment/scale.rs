//! The scale step: what happens when the wanted number of pods changed, also in the middle of a rollout or while paused.
//!
//! **Source**: `isScalingEvent` and `scale`, pkg/controller/deployment/sync.go, `GetReplicaSetProportion`, deployment_util.go, v1.37.

use super::{
    history::{DESIRED_REPLICAS, MAX_REPLICAS, number},
    plan::Plan,
    recreate::old_pods_run,
    sets::{available, by_age, is_active, is_recreate, size},
};
use crate::base::ordered::SortList as _;
use k8s_openapi::api::apps::v1::ReplicaSet;
use std::cmp::{Ordering, Reverse};

/// Whether some set's size was decided for another number of replicas.
///
/// With the Recreate strategy it is the rollout's business while there is anything old: old sets end, whatever their size, and the new
/// one must not grow until their pods are gone. Upstream scales first, and so lets pods of two templates run side by side.
pub(super) fn is_due(plan: &Plan<'_>) -> bool {
    let has_old = || plan.old_sets().any(|i| is_active(&plan.sets[i].set));
    if is_recreate(plan.deployment) && (has_old() || old_pods_run(plan)) {
        return false;
    }
    let desired = |rs: &ReplicaSet| number(&rs.metadata, DESIRED_REPLICAS).is_some_and(|n| n != plan.replicas);
    plan.sets.iter().any(|s| is_active(&s.set) && desired(&s.set))
}

/// Brings the sets to sizes that fit the wanted number of pods.
pub(super) fn scale(plan: &mut Plan<'_>) {
    let active: Vec<usize> = (0..plan.sets.len()).filter(|i| is_active(&plan.sets[*i].set)).collect();
    if let Some(only) = only_or_newest(plan, &active) {
        // A set that has the right size by chance still learns for which replicas that is, or this would come up for ever.
        if is_active(&plan.sets[only].set) || size(&plan.sets[only].set) != plan.replicas {
            plan.resize_and_annotate(only, plan.replicas);
        }
    } else if is_saturated(plan) {
        let new = plan.new;
        for i in active.into_iter().filter(|i| Some(*i) != new) {
            plan.resize(i, 0);
        }
    } else {
        scale_proportionally(plan, active);
    }
}

/// The only active set, or without any the new one, or the newest. `None` when several are active, or there is none at all.
fn only_or_newest(plan: &Plan<'_>, active: &[usize]) -> Option<usize> {
    match active {
        [] => plan.new.or_else(|| plan.old_sets().last()),
        [only] => Some(*only),
        _ => None,
    }
}

/// Whether the new set has all the pods that are wanted, and they are available.
fn is_saturated(plan: &Plan<'_>) -> bool {
    plan.new.is_some_and(|i| {
        let rs = &plan.sets[i].set;
        size(rs) == plan.replicas
            && number(&rs.metadata, DESIRED_REPLICAS) == Some(plan.replicas)
            && available(rs) == plan.replicas
    })
}

/// Shares what is to be added or taken away among the active sets, in proportion to their sizes.
fn scale_proportionally(plan: &mut Plan<'_>, mut active: Vec<usize>) {
    let allowed = if plan.replicas > 0 { plan.ceiling() } else { 0 };
    let to_add = allowed.saturating_sub(plan.total());
    active.sort_list_by(|a, b| by_size(&plan.sets[*a].set, &plan.sets[*b].set, to_add > 0));
    let mut sizes: Vec<i32> = active.iter().map(|i| size(&plan.sets[*i].set)).collect();
    let mut added = 0;
    for (wanted, i) in sizes.iter_mut().zip(&active) {
        let share = proportion(plan, &plan.sets[*i].set, to_add.saturating_sub(added));
        *wanted = wanted.saturating_add(share);
        added = added.saturating_add(share);
    }
    if let Some(largest) = sizes.first_mut() {
        *largest = largest.saturating_add(to_add.saturating_sub(added)).max(0);
    }
    for (wanted, i) in sizes.into_iter().zip(active) {
        plan.resize_and_annotate(i, wanted);
    }
}

/// Larger sets first; of the same size the newer first when growing, and the older first when shrinking.
fn by_size(a: &ReplicaSet, b: &ReplicaSet, is_growing: bool) -> Ordering {
    let age = by_age(a, b);
    Reverse(size(a)).cmp(&Reverse(size(b))).then(if is_growing { age.reverse() } else { age })
}

/// How many pods a set gets (or loses) of what is left to share.
///
/// Upstream lets a set grow in spite when the others shrink, and the other way round, if its annotations are of another Deployment
/// or by hand: then it goes far above the surge for a moment.
fn proportion(plan: &Plan<'_>, rs: &ReplicaSet, left: i32) -> i32 {
    let share = fraction(plan, rs);
    share.clamp(left.min(0), left.max(0))
}

/// How much a set would grow if it grew as the Deployment does.
fn fraction(plan: &Plan<'_>, rs: &ReplicaSet) -> i32 {
    let has = size(rs);
    if plan.replicas == 0 {
        return -has;
    }
    let status = plan.deployment.status.as_ref();
    // Without a note of how large the Deployment could get, its present size stands in.
    let was_max = number(&rs.metadata, MAX_REPLICAS)
        .filter(|n| *n != 0)
        .unwrap_or_else(|| status.and_then(|s| s.replicas).unwrap_or(0));
    if was_max == 0 {
        return 0;
    }
    round_half_away(i64::from(has) * i64::from(plan.ceiling()), i64::from(was_max)).saturating_sub(has)
}

/// `a / b`, rounded to the nearest whole number, halves away from zero.
fn round_half_away(a: i64, b: i64) -> i32 {
    let (magnitude, is_negative) = (2 * i128::from(a).abs() / i128::from(b).abs(), (a < 0) != (b < 0));
    let rounded = i32::try_from((magnitude + 1) / 2).unwrap_or(i32::MAX);
    if is_negative { -rounded } else { rounded }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_are_rounded_away_from_zero() {
        for (a, b, expected) in
            [(8 * 18, 13, 11), (5 * 18, 13, 7), (1, 2, 1), (-1, 2, -1), (1, 3, 0), (2, 3, 1), (0, 5, 0)]
        {
            assert_eq!(round_half_away(a, b), expected, "{a}/{b}");
        }
    }
}
