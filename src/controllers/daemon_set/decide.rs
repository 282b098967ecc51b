//! One pass over a DaemonSet.
//!
//! **Source**: `syncDaemonSet`, `manage`, `podsShouldBeOnNode` and `syncNodes`, pkg/controller/daemon/daemon_controller.go, v1.37.

use super::{
    Observed,
    nodes::{fit, pod},
    update::{is_rolling, is_updated, roll, surges},
};
use crate::{
    api::{
        kinds::{daemon_set::DaemonSets, pod::Pods},
        pod_state,
    },
    base::ordered::{Set, SortList as _},
    controllers::{
        pods::claims,
        revisions::{self, POD_REVISION},
        runtime::{Action, Decision, EventDraft, Planned, Report, Step, is_selected, selector_of},
    },
    registry::events::reference,
};
use jiff::SignedDuration;
use k8s_openapi::api::{
    apps::v1::{ControllerRevision, DaemonSet},
    core::v1::Pod,
};
use std::time::Duration;

/// How old a pod that has failed must be to be replaced: nodes that refuse pods are not asked more often.
pub(super) const FAILED_FOR: SignedDuration = SignedDuration::from_secs(10);
/// The most pods that are made or deleted in a pass. Source: `BurstReplicas`.
const BURST_MAX: usize = 250;

/// What a pass wants.
#[derive(Debug, Default)]
pub(super) struct Wanted<'a> {
    pub(super) delete: Vec<&'a Pod>,
    /// The nodes on which pods are made.
    pub(super) create: Vec<&'a str>,
    events: Vec<EventDraft>,
    wait: Option<Duration>,
}

/// What to do.
pub(super) fn decide(observed: &Observed) -> Decision {
    let set = &*observed.set;
    let selector = selector_of(&set.spec.selector);
    if selector.is_empty() {
        let message = "This daemon set is selecting all pods. A non-empty selector is required.";
        let event = EventDraft::warning::<DaemonSets>(set, "SelectingAll", message);
        return Decision { events: vec![event], ..Decision::default() };
    }
    let is_ours = |pod: &Pod| is_selected(&selector, &pod.metadata);
    let mut claims = claims::<DaemonSets>(&set.metadata, &observed.pods, is_ours);
    claims.extend(revisions::claims::<DaemonSets>(&set.metadata, &selector, &observed.revisions));
    if !claims.is_empty() {
        // What has changed hands wakes this key, and everything else follows then.
        return Decision { steps: vec![Step::Parallel(claims)], ..Decision::default() };
    }
    if set.metadata.deletion_timestamp.is_some() {
        return Decision::rest();
    }
    let mut revisions = observed.revisions();
    let hash = hash_of(&revisions.latest).to_owned();
    let mut decision = Decision::default();
    if let Some(write) = revisions.write.take().filter(|_| !observed.namespace_goes) {
        decision.then(write);
    }
    let wanted = wanted(observed, &hash);
    carry(observed, &hash, wanted, &mut decision);
    let is_used = |revision: &ControllerRevision| {
        observed.pods.iter().any(|pod| is_updated(pod, hash_of(revision)) && is_ours(pod))
    };
    let old = revisions.beyond(set.spec.revision_history_limit, is_used);
    if !old.is_empty() {
        decision.then(Step::Parallel(old));
    }
    decision
}

/// The hash that a revision's pods are labelled with.
pub(super) fn hash_of(revision: &ControllerRevision) -> &str {
    revision.metadata.labels.as_ref().and_then(|labels| labels.get(POD_REVISION)).map_or("", String::as_str)
}

/// How many nodes should have a pod.
pub(super) fn desired(observed: &Observed) -> i32 {
    let desired = observed.nodes.iter().filter(|node| fit(&observed.set, node).should_run).count();
    i32::try_from(desired).expect("there are fewer than 2^31 nodes")
}

fn wanted<'a>(observed: &'a Observed, hash: &str) -> Wanted<'a> {
    let desired = desired(observed);
    let mut wanted = manage(observed, hash, surges(&observed.set, desired));
    // What is missing or too much comes first; the pods that it moves wake this key.
    if wanted.delete.is_empty() && wanted.create.is_empty() && is_rolling(&observed.set) {
        roll(observed, hash, desired, &mut wanted);
    }
    wanted
}

/// Makes what is missing and deletes what is too much.
fn manage<'a>(observed: &'a Observed, hash: &str, surges: bool) -> Wanted<'a> {
    let mut wanted = Wanted::default();
    let mut by_node = observed.pods_by_node();
    for node in &observed.nodes {
        let name = node.metadata.name.as_deref().unwrap_or_default();
        let (fit, pods) = (fit(&observed.set, node), by_node.remove(name).unwrap_or_default());
        if fit.should_run && pods.is_empty() {
            wanted.create.push(name);
        } else if fit.may_stay {
            on_node(observed, name, &pods, hash, surges, &mut wanted);
        } else {
            wanted.delete.extend(pods.into_iter().filter(|pod| pod.metadata.deletion_timestamp.is_none()));
        }
    }
    // The nodes that are left are gone: pods that run there are the garbage collector's, and the others will never run.
    let waits = |pod: &&Pod| {
        let is_placed = pod.spec.as_ref().and_then(|s| s.node_name.as_deref()).is_some_and(|node| !node.is_empty());
        !is_placed && pod.metadata.deletion_timestamp.is_none()
    };
    wanted.delete.extend(by_node.into_values().flatten().filter(waits));
    wanted
}

/// Which of a node's pods are too many.
fn on_node<'a>(observed: &Observed, node: &str, pods: &[&'a Pod], hash: &str, surges: bool, wanted: &mut Wanted<'a>) {
    let mut running: Vec<&Pod> = Vec::new();
    for pod in pods.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none()) {
        if pod_state::is_terminal(pod) {
            ended(observed, node, pod, wanted);
        } else {
            running.push(pod);
        }
    }
    // The oldest stays; those that run already before those that do not.
    running.sort_list_by_key(|pod| pod_state::phase(pod) != "Running");
    if !surges {
        wanted.delete.extend(running.into_iter().skip(1));
        return;
    }
    if running.len() < 2 {
        return;
    }
    let (mut new, mut old) = (None, None);
    for pod in running {
        let place = if is_updated(pod, hash) { &mut new } else { &mut old };
        match place {
            None => *place = Some(pod),
            Some(_) => wanted.delete.push(pod),
        }
    }
    let (Some(new), Some(old)) = (new, old) else { return };
    let min_ready = observed.set.spec.min_ready_seconds.unwrap_or(0);
    if !pod_state::is_pod_ready(old) || pod_state::is_pod_available(new, min_ready, observed.now) {
        wanted.delete.push(old);
    }
}

/// A pod that ended is deleted, so that the next pass makes another.
fn ended<'a>(observed: &Observed, node: &str, pod: &'a Pod, wanted: &mut Wanted<'a>) {
    let of = |field: &Option<String>| field.clone().unwrap_or_default();
    let (namespace, name) = (of(&pod.metadata.namespace), of(&pod.metadata.name));
    let is_failed = pod_state::phase(pod) == "Failed";
    let created = pod.metadata.creation_timestamp.as_ref().map(|time| time.0);
    let due = created.filter(|_| is_failed).and_then(|at| at.checked_add(FAILED_FOR).ok());
    let left = due.and_then(|due| Duration::try_from(due.duration_since(observed.now)).ok());
    if let Some(left) = left.filter(|left| !left.is_zero()) {
        wanted.wait = Some(wanted.wait.map_or(left, |wait| wait.min(left)));
        return;
    }
    wanted.events.push(if is_failed {
        let message = format!("Found failed daemon pod {namespace}/{name} on node {node}, will try to kill it");
        EventDraft::warning::<DaemonSets>(&observed.set, "FailedDaemonPod", message)
    } else {
        let message = format!("Found succeeded daemon pod {namespace}/{name} on node {node}, will try to delete it");
        EventDraft::normal::<DaemonSets>(&observed.set, "SucceededDaemonPod", message)
    });
    wanted.delete.push(pod);
}

fn carry(observed: &Observed, hash: &str, wanted: Wanted<'_>, decision: &mut Decision) {
    let set: &DaemonSet = &observed.set;
    decision.events.extend(wanted.events);
    wanted.wait.into_iter().for_each(|wait| decision.look_again_after(wait));
    let about = reference::<DaemonSets>(set);
    let create = |node: &&str| {
        let report = Report::Creation(Box::new(about.clone()));
        Action::create::<Pods>(pod(set, node, hash)).because("a node has no pod").telling(report)
    };
    let nodes: Set<&str> = wanted.create.into_iter().filter(|_| !observed.namespace_goes).collect();
    if !nodes.is_empty() {
        decision.then(Step::SlowStart(nodes.iter().take(BURST_MAX).map(create).collect()));
    }
    let delete = |pod: &Pod| {
        let report = Report::Deletion(Box::new(about.clone()));
        Action::delete::<Pods>(pod).because("it is not to be there").telling(report)
    };
    let deletions: Vec<Planned> = wanted.delete.into_iter().take(BURST_MAX).map(delete).collect();
    if !deletions.is_empty() {
        decision.then(Step::Parallel(deletions));
    }
}
