//! The scheduler: gives every pod that waits a node, if a node can take it, and says why not otherwise.
//!
//! One pass looks at all waiting pods at once, the most important first, and writes all bindings together: no pod is counted twice
//! against a node, and one flush makes a whole Deployment's bindings durable.
//!
//! - [`fit`]: whether a node can take a pod, filter by filter. [`score`]: which of those it gets. [`affinity`]: what pods want of nodes and
//!   of each other. [`claims`]: what their volumes say.
//!
//! **Not here**: preemption (a pod never makes room for another), the condition `PodScheduled=True`, which the node agent writes with its first status.
//!
//! **Source**: `pkg/scheduler`, v1.37.

pub(super) mod affinity;
mod candidate;
mod claims;
mod fit;
mod score;
#[cfg(test)]
mod tests;

use super::runtime::{Action, Controller, Decision, EventDraft, Moved, Planned, Report, Step, Trigger, stamp};
use crate::{
    api::{
        kinds::{namespace::Namespaces, node::Nodes, pod::Pods},
        meta::ObjectKey,
        pod_state::{self, POD_SCHEDULED},
    },
    registry::Registry,
};
use candidate::{Candidate, candidates};
use claims::Claim;
use fit::Unfit;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod, PodCondition};
use std::{cmp::Reverse, collections::BTreeMap, sync::Arc};

/// The scheduler's name in pods.
const NAME: &str = "default-scheduler";

/// All that a pass depends on.
#[derive(Clone, Debug)]
pub struct Observed {
    /// Every pod that has not ended, in key order.
    pub pods: Vec<Arc<Pod>>,
    /// Every node, by name.
    pub nodes: Vec<Arc<Node>>,
    /// The labels of every namespace.
    pub namespaces: BTreeMap<String, BTreeMap<String, String>>,
    /// How it is with the claims of the pods that wait.
    claims: BTreeMap<ObjectKey, Claim>,
    /// The time.
    pub now: Timestamp,
}

/// The controller.
#[derive(Clone, Copy, Debug)]
pub struct Scheduler;

impl Controller for Scheduler {
    /// There is one key: all waiting pods.
    type Key = ();
    type Observed = Observed;

    fn name(&self) -> &'static str {
        "scheduler"
    }

    fn event_source(&self) -> &'static str {
        NAME
    }

    fn triggers(&self) -> Vec<Trigger<()>> {
        let mut all = vec![Trigger::on::<Pods>(wake_for_pod), Trigger::on::<Nodes>(wake_for_node)];
        all.extend(claims::kinds().map(|kind| Trigger::on_erased(kind, |_, _, _, keys| keys.push(()))));
        all
    }

    fn observe(&self, registry: &Registry, (): &()) -> Option<Observed> {
        let mut pods = registry.api::<Pods>().list("").items;
        pods.retain(|pod| !pod_state::is_terminal(pod));
        if !pods.iter().any(|pod| waits(pod)) {
            return None;
        }
        let namespaces = registry.api::<Namespaces>().list("").items;
        let labels = |n: &k8s_openapi::api::core::v1::Namespace| {
            (n.metadata.name.clone().unwrap_or_default(), n.metadata.labels.clone().unwrap_or_default())
        };
        Some(Observed {
            claims: claims::of_waiting(registry, &pods),
            pods,
            nodes: registry.api::<Nodes>().list("").items,
            namespaces: namespaces.iter().map(|n| labels(n)).collect(),
            now: registry.clock().now(),
        })
    }

    fn decide(&self, observed: &Observed) -> Decision {
        decide(observed)
    }
}

/// The node that the pod has been given.
fn node_of(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref().filter(|n| !n.is_empty())
}

/// Whether the pod waits for this scheduler.
fn waits(pod: &Pod) -> bool {
    let scheduler = pod.spec.as_ref().and_then(|s| s.scheduler_name.as_deref());
    pod_state::is_active(pod) && node_of(pod).is_none() && matches!(scheduler, None | Some("" | NAME))
}

fn is_gated(pod: &Pod) -> bool {
    pod.spec.as_ref().is_some_and(|s| s.scheduling_gates.iter().flatten().next().is_some())
}

/// A pod that waits wakes the scheduler; so does one that gives up its place, or finds one that others want to be near.
fn wake_for_pod(_: &Registry, moved: &Moved<Pod>, keys: &mut Vec<()>) {
    let holds = |pod: Option<&Arc<Pod>>| pod.is_some_and(|p| node_of(p).is_some() && !pod_state::is_terminal(p));
    let starts_to_wait = moved.after.as_ref().is_some_and(|pod| waits(pod));
    if starts_to_wait || holds(moved.before.as_ref()) != holds(moved.after.as_ref()) {
        keys.push(());
    }
}

/// A heartbeat of a node wakes no one.
fn wake_for_node(_: &Registry, moved: &Moved<Node>, keys: &mut Vec<()>) {
    let offers = |node: &Node| {
        let allocatable = node.status.as_ref().and_then(|s| s.allocatable.clone());
        (node.metadata.labels.clone(), node.spec.clone(), allocatable)
    };
    if moved.before.as_ref().map(|n| offers(n)) != moved.after.as_ref().map(|n| offers(n)) {
        keys.push(());
    }
}

fn decide(observed: &Observed) -> Decision {
    let mut candidates = candidates(observed);
    let mut waiting: Vec<&Pod> = observed.pods.iter().map(|pod| &**pod).filter(|pod| waits(pod)).collect();
    waiting.sort_by_cached_key(|pod| {
        let priority = pod.spec.as_ref().and_then(|s| s.priority).unwrap_or(0);
        (Reverse(priority), pod.metadata.creation_timestamp.as_ref().map(|t| t.0), ObjectKey::of(&pod.metadata))
    });
    let mut planned = Vec::new();
    for pod in waiting {
        if is_gated(pod) {
            planned.extend(gated(pod, observed.now));
        } else {
            planned.extend(place(pod, &mut candidates, observed));
        }
    }
    let steps = if planned.is_empty() { Vec::new() } else { vec![Step::Parallel(planned)] };
    Decision { steps, ..Decision::default() }
}

/// Gives the pod a node, or notes why it cannot have one.
fn place<'a>(pod: &'a Pod, candidates: &mut [Candidate<'a>], observed: &'a Observed) -> Vec<Planned> {
    if let Some(why) = claims::obstacle(pod, &observed.claims, &observed.pods) {
        let n = candidates.len();
        let reason = if n == 0 { message(Vec::new()) } else { refused(n, &why, &format!("{n} {NO_HELP}")) };
        return unschedulable(pod, &reason, observed.now).into_iter().collect();
    }
    let verdicts: Vec<Result<(), Unfit>> =
        candidates.iter().map(|c| fit::check(pod, c, candidates, observed)).collect();
    let fitting: Vec<usize> = (0..candidates.len()).filter(|i| verdicts[*i].is_ok()).collect();
    match score::best(pod, &fitting, candidates, observed) {
        Some(i) => {
            candidates[i].assume(pod);
            let node = candidates[i].name();
            // Its volumes are made first; then it is looked at again.
            claims::prepare(pod, node, &observed.claims).unwrap_or_else(|| vec![bind(pod, node)])
        }
        None => unschedulable(pod, &message(verdicts), observed.now).into_iter().collect(),
    }
}

/// Source of the event's text: `frameworkImpl.RunBindPlugins` and `schedule_one.go`.
fn bind(pod: &Pod, node: &str) -> Planned {
    let mut bound = pod.clone();
    bound.spec.get_or_insert_default().node_name = Some(node.to_owned());
    let text = format!("Successfully assigned {} to {node}", ObjectKey::of(&pod.metadata));
    let event = EventDraft::normal::<Pods>(pod, "Scheduled", text);
    Action::update::<Pods>(bound).because("a node can take it").telling(Report::OnSuccess(Box::new(event)))
}

/// Why no node can take a pod. Source: `FitError.Error`, pkg/scheduler/framework/types.go.
fn message(verdicts: Vec<Result<(), Unfit>>) -> String {
    if verdicts.is_empty() {
        return "no nodes available to schedule pods".to_owned();
    }
    let n = verdicts.len();
    let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
    let mut preemption: BTreeMap<&str, usize> = BTreeMap::new();
    for unfit in verdicts.into_iter().filter_map(Result::err) {
        *preemption.entry(unfit.preemption()).or_default() += 1;
        for reason in unfit.reasons {
            *reasons.entry(reason).or_default() += 1;
        }
    }
    let join = |counted: Vec<String>| {
        let mut counted = counted;
        counted.sort();
        counted.join(", ")
    };
    let reasons = join(reasons.iter().map(|(reason, n)| format!("{n} {reason}")).collect());
    let preemption = join(preemption.iter().map(|(reason, n)| format!("{n} {reason}")).collect());
    refused(n, &reasons, &preemption)
}

/// What upstream's preemption says where no pod is in the way.
const NO_HELP: &str = "Preemption is not helpful for scheduling";

fn refused(n: usize, reasons: &str, preemption: &str) -> String {
    format!(
        "0/{n} nodes are available: {reasons}. no new claims to deallocate, \
         preemption: 0/{n} nodes are available: {preemption}."
    )
}

fn unschedulable(pod: &Pod, message: &str, now: Timestamp) -> Option<Planned> {
    let event = EventDraft::warning::<Pods>(pod, "FailedScheduling", message);
    let planned = not_scheduled(pod, "Unschedulable", message, now)?;
    Some(planned.telling(Report::OnSuccess(Box::new(event))))
}

fn gated(pod: &Pod, now: Timestamp) -> Option<Planned> {
    not_scheduled(pod, "SchedulingGated", "Scheduling is blocked due to non-empty scheduling gates", now)
}

/// Notes that the pod has no node, unless that is noted already.
fn not_scheduled(pod: &Pod, reason: &str, message: &str, now: Timestamp) -> Option<Planned> {
    let mut noted = pod.clone();
    let condition = PodCondition {
        type_: POD_SCHEDULED.to_owned(),
        status: "False".to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        ..PodCondition::default()
    };
    let changed = pod_state::set_condition(noted.status.get_or_insert_default(), condition, stamp(now).0);
    changed.then(|| Action::update_status::<Pods>(noted).because("no node can take it"))
}
