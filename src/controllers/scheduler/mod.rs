//! The scheduler: gives every pod that waits a node, if a node can take it, and says why not otherwise.
//!
//! One pass looks at all waiting pods at once, the most important first, and writes all bindings together: no pod is counted twice
//! against a node, and one flush makes a whole Deployment's bindings durable.
//!
//! - [`fit`]: whether a node can take a pod, filter by filter. [`score`]: which of those it gets. [`affinity`]: what pods want of nodes and
//!   of each other. [`claims`]: what their volumes say. [`preemption`]: which pods of lower priority make room.
//!
//! A pod for which others go has their node in its `nominatedNodeName`, and counts there until it gets it, so that nobody less important takes
//! the room meanwhile.
//!
//! **Not here**: the condition `PodScheduled=True`, which the node agent writes with its first status.
//!
//! **Source**: `pkg/scheduler`, v1.37.

pub(super) mod affinity;
mod candidate;
mod claims;
mod fit;
mod preemption;
mod score;
#[cfg(test)]
mod tests;

use super::runtime::{Action, Controller, Decision, EventDraft, Moved, Planned, Report, Step, Trigger, stamp};
use crate::{
    api::{
        kinds::{namespace::Namespaces, node::Nodes, pod::Pods, pod_disruption_budget::PodDisruptionBudgets},
        meta::ObjectKey,
        pod_state::{self, POD_SCHEDULED},
    },
    base::ordered::{Map, SortList as _},
    registry::Registry,
};
use candidate::{Candidate, candidates};
use claims::Claim;
use fit::Unfit;
use jiff::Timestamp;
use k8s_openapi::api::{
    core::v1::{Node, Pod, PodCondition},
    policy::v1::PodDisruptionBudget,
};
use preemption::{Verdict, nominated, priority};
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
    pub namespaces: Map<String, BTreeMap<String, String>>,
    /// The budgets of every namespace.
    pub budgets: Vec<Arc<PodDisruptionBudget>>,
    /// How it is with the claims of the pods that wait.
    claims: Map<ObjectKey, Claim>,
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
            budgets: registry.api::<PodDisruptionBudgets>().list("").items,
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
        (Reverse(priority(pod)), pod.metadata.creation_timestamp.as_ref().map(|t| t.0), ObjectKey::of(&pod.metadata))
    });
    let mut plan = Plan::default();
    for pod in waiting {
        if is_gated(pod) {
            plan.writes.extend(gated(pod, observed.now));
        } else {
            let writes = place(pod, &mut candidates, observed, &mut plan.deletions);
            plan.writes.extend(writes);
        }
    }
    let steps = [plan.writes, plan.deletions].into_iter().filter(|planned| !planned.is_empty());
    Decision { steps: steps.map(Step::Parallel).collect(), ..Decision::default() }
}

/// What a pass does.
#[derive(Default)]
struct Plan {
    writes: Vec<Planned>,
    /// Once it is noted why they go, and for whom.
    deletions: Vec<Planned>,
}

/// Gives the pod a node, or notes why it cannot have one; perhaps others go for it.
fn place<'a>(
    pod: &'a Pod,
    candidates: &mut Vec<Candidate<'a>>,
    observed: &'a Observed,
    deletions: &mut Vec<Planned>,
) -> Vec<Planned> {
    if let Some(why) = claims::obstacle(pod, &observed.claims, &observed.pods) {
        let n = candidates.len();
        let all = |why: &str| format!("0/{n} nodes are available: {why}.");
        let text = if n == 0 { NO_NODES.to_owned() } else { refused(&all(&why), &all(&format!("{n} {NO_HELP}"))) };
        return unschedulable(pod, &text, None, observed.now).into_iter().collect();
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
        None => make_room(pod, verdicts, candidates, observed, deletions),
    }
}

/// Notes why no node can take the pod, and lets others go for it where that helps.
fn make_room<'a>(
    pod: &'a Pod,
    verdicts: Vec<Result<(), Unfit>>,
    candidates: &mut Vec<Candidate<'a>>,
    observed: &'a Observed,
    deletions: &mut Vec<Planned>,
) -> Vec<Planned> {
    let unfit: Vec<Unfit> = verdicts.into_iter().filter_map(Result::err).collect();
    if unfit.is_empty() {
        return unschedulable(pod, NO_NODES, None, observed.now).into_iter().collect();
    }
    let found = preemption::find(pod, &unfit, candidates, observed);
    let reasons = available(unfit.len(), unfit.into_iter().flat_map(|unfit| unfit.reasons));
    let (at, text, victims) = match found {
        Verdict::Room(room) => (Some(room.at), reasons, room.victims),
        Verdict::Waits(at) => {
            let why = "not eligible due to a terminating pod on the nominated node.";
            (Some(at), refused(&reasons, why), Vec::new())
        }
        Verdict::Nothing(why) => (None, refused(&reasons, &why), Vec::new()),
    };
    let node = at.map(|at| candidates[at].name());
    let mut writes: Vec<Planned> = unschedulable(pod, &text, node, observed.now).into_iter().collect();
    for victim in &victims {
        writes.extend(disrupted(victim, observed.now));
        deletions.push(preempted(victim, pod, node.unwrap_or_default()));
    }
    if let Some(at) = at {
        let left = candidates[at].pods.iter().copied();
        let left = left.filter(|other| !victims.iter().any(|victim| victim.metadata.uid == other.metadata.uid));
        candidates[at] = candidates[at].with_only(left.collect());
        candidates[at].assume(pod);
    }
    writes
}

/// A pod that goes for another, with the reason. Source: `prepareCandidate`, preemption.go.
fn disrupted(victim: &Pod, now: Timestamp) -> Option<Planned> {
    let mut marked = victim.clone();
    let condition = PodCondition {
        type_: "DisruptionTarget".to_owned(),
        status: "True".to_owned(),
        reason: Some("PreemptionByScheduler".to_owned()),
        message: Some(format!("{NAME}: preempting to accommodate a higher priority pod")),
        ..PodCondition::default()
    };
    let is_new = pod_state::set_condition(marked.status.get_or_insert_default(), condition, stamp(now).0);
    is_new.then(|| Action::update_status::<Pods>(marked).because("another pod matters more"))
}

fn preempted(victim: &Pod, by: &Pod, node: &str) -> Planned {
    let uid = by.metadata.uid.as_deref().unwrap_or_default();
    let event = EventDraft::normal::<Pods>(victim, "Preempted", format!("Preempted by pod {uid} on node {node}"));
    let delete = Action::delete::<Pods>(victim).because("another pod matters more");
    delete.telling(Report::OnSuccess(Box::new(event)))
}

/// Why none of so many nodes can take a pod. Source: `FitError.Error`, pkg/scheduler/framework/types.go.
fn available(n: usize, reasons: impl Iterator<Item = String>) -> String {
    let mut counts: Map<String, usize> = Map::new();
    reasons.for_each(|reason| *counts.entry(reason).or_default() += 1);
    let mut texts: Vec<String> = counts.into_iter().map(|(reason, n)| format!("{n} {reason}")).collect();
    texts.sort_list();
    format!("0/{n} nodes are available: {}.", texts.join(", "))
}

/// Source of the event's text: `frameworkImpl.RunBindPlugins` and `schedule_one.go`.
fn bind(pod: &Pod, node: &str) -> Planned {
    let mut bound = pod.clone();
    bound.spec.get_or_insert_default().node_name = Some(node.to_owned());
    let text = format!("Successfully assigned {} to {node}", ObjectKey::of(&pod.metadata));
    let event = EventDraft::normal::<Pods>(pod, "Scheduled", text);
    Action::update::<Pods>(bound).because("a node can take it").telling(Report::OnSuccess(Box::new(event)))
}

/// What upstream's preemption says where no pod is in the way.
const NO_HELP: &str = "Preemption is not helpful for scheduling";

const NO_NODES: &str = "no nodes available to schedule pods";

/// With what the plugins say that could have helped.
fn refused(reasons: &str, preemption: &str) -> String {
    format!("{reasons} no new claims to deallocate, preemption: {preemption}")
}

/// Notes why no node can take the pod, and which one it gets once there is room.
fn unschedulable(pod: &Pod, message: &str, node: Option<&str>, now: Timestamp) -> Option<Planned> {
    let event = EventDraft::warning::<Pods>(pod, "FailedScheduling", message);
    let planned = not_scheduled(pod, ("Unschedulable", message), node, now)?;
    Some(planned.telling(Report::OnSuccess(Box::new(event))))
}

fn gated(pod: &Pod, now: Timestamp) -> Option<Planned> {
    let why = ("SchedulingGated", "Scheduling is blocked due to non-empty scheduling gates");
    not_scheduled(pod, why, None, now)
}

/// Notes that the pod has no node, unless that is noted already.
fn not_scheduled(pod: &Pod, (reason, message): (&str, &str), node: Option<&str>, now: Timestamp) -> Option<Planned> {
    let mut noted = pod.clone();
    noted.status.get_or_insert_default().nominated_node_name = node.map(str::to_owned);
    let condition = PodCondition {
        type_: POD_SCHEDULED.to_owned(),
        status: "False".to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        ..PodCondition::default()
    };
    let changed = pod_state::set_condition(noted.status.get_or_insert_default(), condition, stamp(now).0);
    (changed || nominated(pod) != node).then(|| Action::update_status::<Pods>(noted).because("no node can take it"))
}
