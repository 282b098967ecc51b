//! Which of the nodes that can take a pod it gets: Kubernetes' scores with Kubernetes' weights, each from 0 to 100.
//!
//! **Not here**: BalancedAllocation and ImageLocality: the nodes of a cluster are one machine, with the same images.
//! **Source**: `pkg/scheduler/framework/plugins/{tainttoleration,nodeaffinity,interpodaffinity,podtopologyspread,noderesources}`,
//! `pkg/scheduler/apis/config/v1/default_plugins.go`, v1.37. Where a pod has no constraint of its own, upstream spreads by the Services and
//! controllers that select it; here pods of one controller are spread.

use super::{
    Observed, affinity,
    candidate::{Candidate, requests},
};
use crate::{
    api::{meta::controller_of, pod_resources::Amounts, quantity::Quantity},
    controllers::taints::is_tolerated,
};
use k8s_openapi::api::core::v1::Pod;

/// The best score.
const MAX: i64 = 100;
/// Weights of the scores.
const TAINTS: i64 = 3;
const NODE_AFFINITY: i64 = 2;
const POD_AFFINITY: i64 = 2;
const SPREAD: i64 = 2;
const ROOM: i64 = 1;
/// What counts for a pod that asks for nothing. Source: `DefaultMilliCPURequest`, `DefaultMemoryRequest`.
const ROOM_OF: [(&str, i64); 2] = [("cpu", 100), ("memory", 200 * 1024 * 1024 * 1000)];

/// The best of these nodes for the pod: the index, among all. Of equal ones that with the fewest pods, the first by name.
pub(super) fn best(pod: &Pod, fitting: &[usize], all: &[Candidate<'_>], observed: &Observed) -> Option<usize> {
    let nodes: Vec<&Candidate<'_>> = fitting.iter().map(|i| &all[*i]).collect();
    if nodes.len() < 2 {
        return fitting.first().copied();
    }
    let of = |score: &dyn Fn(&Candidate<'_>) -> i64| nodes.iter().map(|node| score(node)).collect::<Vec<i64>>();
    let parts = [
        (TAINTS, fewest(&of(&|node| shunned(pod, node)))),
        (NODE_AFFINITY, share(&of(&|node| affinity::preference_for(pod, node.node)))),
        (POD_AFFINITY, between(&of(&|node| affinity::preference_near(pod, node, all, observed)))),
        (SPREAD, fewest(&of(&|node| crowd(pod, node, all)))),
        (ROOM, of(&|node| room(pod, node))),
    ];
    let total = |at: usize| parts.iter().map(|(weight, scores)| weight * scores[at]).sum::<i64>();
    let order = |at: &usize| (-total(*at), nodes[*at].pods.len());
    (0..nodes.len()).min_by_key(order).map(|at| fitting[at])
}

/// The greatest is the best.
fn share(of: &[i64]) -> Vec<i64> {
    let most = of.iter().copied().max().unwrap_or(0);
    of.iter().map(|n| if most > 0 { n * MAX / most } else { 0 }).collect()
}

/// The least is the best.
fn fewest(of: &[i64]) -> Vec<i64> {
    share(of).into_iter().map(|n| MAX - n).collect()
}

/// From the least to the greatest.
fn between(of: &[i64]) -> Vec<i64> {
    let (least, most) = (of.iter().copied().min().unwrap_or(0), of.iter().copied().max().unwrap_or(0));
    of.iter().map(|n| if most > least { (n - least) * MAX / (most - least) } else { 0 }).collect()
}

/// How many taints of the node say that it would rather not have the pod.
fn shunned(pod: &Pod, node: &Candidate<'_>) -> i64 {
    let taints = node.node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
    let n = taints.filter(|taint| taint.effect == "PreferNoSchedule" && !is_tolerated(pod, taint)).count();
    i64::try_from(n).unwrap_or(i64::MAX)
}

/// How many pods like this one there are where the node is.
fn crowd(pod: &Pod, node: &Candidate<'_>, all: &[Candidate<'_>]) -> i64 {
    if let Some(n) = affinity::crowd(pod, node, all) {
        return n;
    }
    let Some(owner) = controller_of(&pod.metadata) else { return 0 };
    let is_sibling = |other: &&&Pod| controller_of(&other.metadata).is_some_and(|of| of.uid == owner.uid);
    i64::try_from(node.pods.iter().filter(is_sibling).count()).unwrap_or(i64::MAX)
}

/// How much of the node would be free, in percent.
fn room(pod: &Pod, node: &Candidate<'_>) -> i64 {
    let of = |amounts: &Amounts, name: &str| amounts.get(name).copied().unwrap_or(Quantity::ZERO).millis();
    let asked = |pod: &Pod, name: &str, otherwise: i64| match of(&requests(pod), name) {
        0 => otherwise,
        asked => asked,
    };
    let free = |(name, otherwise): (&str, i64)| {
        let whole = of(&node.allocatable, name);
        let pods = node.pods.iter().copied().chain([pod]);
        let used = pods.fold(0_i64, |sum, pod| sum.saturating_add(asked(pod, name, otherwise)));
        if whole > 0 { (whole - used).max(0) / (whole / MAX).max(1) } else { 0 }
    };
    ROOM_OF.into_iter().map(free).sum::<i64>() / 2
}
