//! Which pods of an earlier template are replaced in a rolling update, and where pods are made beside them.
//!
//! **Source**: `rollingUpdate` and `findUpdatedPodsOnNode`, pkg/controller/daemon/update.go, v1.37.

use super::{Observed, decide::Wanted, nodes::fit};
use crate::{api::fence::scaled, api::pod_state, controllers::revisions::POD_REVISION};
use k8s_openapi::api::{apps::v1::DaemonSet, core::v1::Pod};

/// How many pods may be missing, and how many more than nodes there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pace {
    pub(super) surge: i32,
    pub(super) unavailable: i32,
}

impl Pace {
    /// Shares are of the nodes that should have a pod, rounded up.
    pub(super) fn of(set: &DaemonSet, desired: i32) -> Self {
        let rolling = set.spec.update_strategy.as_ref().and_then(|s| s.rolling_update.as_ref());
        let surge = scaled(rolling.and_then(|r| r.max_surge.as_ref()), desired, true);
        let unavailable = rolling.and_then(|r| r.max_unavailable.as_ref());
        let unavailable = unavailable.map_or(1, |n| scaled(Some(n), desired, true));
        Self { surge, unavailable: if surge == 0 && unavailable == 0 { 1 } else { unavailable } }
    }
}

/// Whether a set replaces its pods by itself.
pub(super) fn is_rolling(set: &DaemonSet) -> bool {
    set.spec.update_strategy.as_ref().is_none_or(|s| s.type_.as_deref() != Some("OnDelete"))
}

/// Whether a set has pods of two templates beside each other on a node.
pub(super) fn surges(set: &DaemonSet, desired: i32) -> bool {
    is_rolling(set) && Pace::of(set, desired).surge > 0
}

/// Whether a pod is of the template with this hash.
pub(super) fn is_updated(pod: &Pod, hash: &str) -> bool {
    pod.metadata.labels.as_ref().and_then(|labels| labels.get(POD_REVISION)).is_some_and(|label| label == hash)
}

/// The pod of the newest template and the one of an earlier, on one node.
struct OnNode<'a> {
    new: Option<&'a Pod>,
    old: Option<&'a Pod>,
}

impl<'a> OnNode<'a> {
    /// `None`: there are two of one of them, which are to be cleared away first.
    fn of(pods: &[&'a Pod], hash: &str) -> Option<Self> {
        let mut found = Self { new: None, old: None };
        for pod in pods.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none()) {
            let place = if is_updated(pod, hash) { &mut found.new } else { &mut found.old };
            if place.replace(pod).is_some() {
                return None;
            }
        }
        Some(found)
    }
}

/// Adds to what is wanted what the update wants.
pub(super) fn roll<'a>(observed: &'a Observed, hash: &str, desired: i32, wanted: &mut Wanted<'a>) {
    let pace = Pace::of(&observed.set, desired);
    if pace.surge > 0 {
        surge(observed, hash, pace.surge, wanted);
    } else {
        replace(observed, hash, pace.unavailable, wanted);
    }
}

fn is_available(observed: &Observed, pod: &Pod) -> bool {
    pod_state::is_pod_available(pod, observed.set.spec.min_ready_seconds.unwrap_or(0), observed.now)
}

/// Deletes pods of earlier templates; the next pass makes new ones on their nodes.
fn replace<'a>(observed: &'a Observed, hash: &str, unavailable_max: i32, wanted: &mut Wanted<'a>) {
    let by_node = observed.pods_by_node();
    let (mut unavailable, mut free, mut candidates) = (0i32, Vec::new(), Vec::new());
    for node in observed.nodes.iter().filter(|node| fit(&observed.set, node).should_run) {
        let pods = by_node.get(node.metadata.name.as_deref().unwrap_or_default());
        match OnNode::of(pods.map_or(&[][..], Vec::as_slice), hash) {
            Some(OnNode { new: Some(new), old: None }) => unavailable += i32::from(!is_available(observed, new)),
            // What does not serve is not missed.
            Some(OnNode { new: None, old: Some(old) }) if !is_available(observed, old) => free.push(old),
            Some(OnNode { new: None, old: Some(old) }) => candidates.push(old),
            Some(OnNode { .. }) | None => unavailable += 1,
        }
    }
    let more = usize::try_from(unavailable_max.saturating_sub(unavailable)).unwrap_or(0);
    wanted.delete.extend(free.into_iter().chain(candidates.into_iter().take(more)));
}

/// Makes pods of the newest template beside those of earlier ones, which go once the new one serves.
fn surge<'a>(observed: &'a Observed, hash: &str, surge_max: i32, wanted: &mut Wanted<'a>) {
    let by_node = observed.pods_by_node();
    let (mut surging, mut free, mut candidates) = (0i32, Vec::new(), Vec::new());
    for node in observed.nodes.iter().filter(|node| fit(&observed.set, node).should_run) {
        let name = node.metadata.name.as_deref().unwrap_or_default();
        let pods = by_node.get(name);
        match OnNode::of(pods.map_or(&[][..], Vec::as_slice), hash) {
            Some(OnNode { old: None, .. }) => {}
            Some(OnNode { new: None, old: Some(old) }) if !is_available(observed, old) => free.push(name),
            Some(OnNode { new: None, old: Some(_) }) => candidates.push(name),
            Some(OnNode { new: Some(new), old: Some(old) }) if is_available(observed, new) => wanted.delete.push(old),
            Some(OnNode { .. }) | None => surging += 1,
        }
    }
    let more = usize::try_from(surge_max.saturating_sub(surging)).unwrap_or(0);
    wanted.create.extend(free.into_iter().chain(candidates.into_iter().take(more)));
}
