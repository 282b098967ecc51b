//! The conditions of a pod. Called by `status` only.
//! **Source**: `pkg/kubelet/status/generate.go`, v1.37.

use super::{Facts, is_initialized, pod_ip, seconds};
use crate::node::{
    lifecycle::{Role, role_of},
    text::go_list,
};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodCondition, PodSpec, PodStatus};

pub(super) const READY_TO_START: &str = "PodReadyToStartContainers";
pub(super) const RESIZE_PENDING: &str = "PodResizePending";
pub(super) const RESIZE_IN_PROGRESS: &str = "PodResizeInProgress";
const INITIALIZED: &str = "Initialized";
const READY: &str = "Ready";
const CONTAINERS_READY: &str = "ContainersReady";
const SCHEDULED: &str = "PodScheduled";
const OWN: [&str; 7] =
    [READY_TO_START, INITIALIZED, READY, CONTAINERS_READY, SCHEDULED, RESIZE_PENDING, RESIZE_IN_PROGRESS];

/// Whether the kubelet owns a condition.
pub(super) fn is_own(type_: &str) -> bool {
    OWN.contains(&type_)
}

/// A condition's status, reason and message.
struct Claim {
    holds: bool,
    reason: &'static str,
    message: String,
}

impl Claim {
    fn holds() -> Self {
        Self { holds: true, reason: "", message: String::new() }
    }

    fn fails(reason: &'static str, message: String) -> Self {
        Self { holds: false, reason, message }
    }
}

/// All conditions: those of others first, as the kubelet orders them.
pub(super) fn conditions(pod: &Pod, status: &PodStatus, facts: Facts<'_>) -> Vec<PodCondition> {
    let old = pod.status.as_ref().and_then(|s| s.conditions.clone()).unwrap_or_default();
    let spec = pod.spec.as_ref().expect("a pod with a status has a spec");
    let containers_ready = containers_ready(spec, status);
    let claims = [
        (READY_TO_START, ready_to_start(pod, facts)),
        (INITIALIZED, initialized(spec, status)),
        (READY, ready(spec, &old, &containers_ready)),
        (CONTAINERS_READY, containers_ready),
        (SCHEDULED, Claim::holds()),
    ];
    let mut all: Vec<PodCondition> = old.iter().filter(|c| !is_own(&c.type_)).cloned().collect();
    all.extend(claims.map(|(type_, claim)| condition(pod, &old, type_, claim, facts)));
    all.extend(resize(facts).map(|(type_, claim)| condition(pod, &old, type_, claim, facts)));
    all
}

/// What is there only while a resize is. Source: `pkg/kubelet/status/status_manager.go`, v1.37.
fn resize(facts: Facts<'_>) -> Option<(&'static str, Claim)> {
    let holds = |reason: &'static str, message: &str| Claim { holds: true, reason, message: message.to_owned() };
    match (facts.pending, &facts.decision.resizing) {
        (Some(pending), _) => Some((RESIZE_PENDING, holds(pending.reason, &pending.message))),
        (None, Some(error)) if !error.is_empty() => Some((RESIZE_IN_PROGRESS, holds("Error", error))),
        (None, Some(_)) => Some((RESIZE_IN_PROGRESS, Claim::holds())),
        (None, None) => None,
    }
}

fn condition(pod: &Pod, old: &[PodCondition], type_: &str, claim: Claim, facts: Facts<'_>) -> PodCondition {
    let status = if claim.holds { "True" } else { "False" };
    let before = old.iter().find(|c| c.type_ == type_ && c.status == status);
    let text = |t: String| (!t.is_empty()).then_some(t);
    PodCondition {
        type_: type_.to_owned(),
        status: status.to_owned(),
        reason: text(claim.reason.to_owned()),
        message: text(claim.message),
        observed_generation: pod.metadata.generation,
        last_transition_time: before.and_then(|c| c.last_transition_time.clone()).or_else(|| Some(seconds(facts.now))),
        last_probe_time: None,
    }
}

fn ready_to_start(pod: &Pod, facts: Facts<'_>) -> Claim {
    match pod_ip(pod, facts.observed, facts.node_ip) {
        Some(_) => Claim::holds(),
        None => Claim::fails("", String::new()),
    }
}

fn names(statuses: &[&ContainerStatus]) -> String {
    go_list(&statuses.iter().map(|s| s.name.clone()).collect::<Vec<_>>())
}

fn initialized(spec: &PodSpec, status: &PodStatus) -> Claim {
    if status.phase.as_deref() == Some("Succeeded") {
        return Claim { holds: true, reason: "PodCompleted", message: String::new() };
    }
    let any_started = status.container_statuses.iter().flatten().any(|s| {
        let state = s.state.clone().unwrap_or_default();
        state.running.is_some()
            || state.terminated.is_some()
            || s.last_state.as_ref().is_some_and(|l| l.terminated.is_some())
    });
    let pairs = spec.init_containers.iter().flatten().zip(status.init_container_statuses.iter().flatten());
    let incomplete: Vec<_> = pairs.filter(|(spec, s)| !is_initialized(spec, s)).map(|(_, s)| s).collect();
    if any_started || incomplete.is_empty() {
        return Claim::holds();
    }
    Claim::fails("ContainersNotInitialized", format!("containers with incomplete status: {}", names(&incomplete)))
}

fn containers_ready(spec: &PodSpec, status: &PodStatus) -> Claim {
    match status.phase.as_deref() {
        Some("Succeeded") => return Claim::fails("PodCompleted", String::new()),
        Some("Failed") => return Claim::fails("PodFailed", String::new()),
        _ => {}
    }
    let sidecars = spec.init_containers.iter().flatten().filter(|c| role_of(c, true) == Role::Sidecar);
    let specs = sidecars.chain(&spec.containers);
    let statuses: Vec<_> =
        status.init_container_statuses.iter().flatten().chain(status.container_statuses.iter().flatten()).collect();
    let unready: Vec<_> =
        specs.filter_map(|c| statuses.iter().find(|s| s.name == c.name && !s.ready)).copied().collect();
    if unready.is_empty() {
        return Claim::holds();
    }
    Claim::fails("ContainersNotReady", format!("containers with unready status: {}", names(&unready)))
}

fn ready(spec: &PodSpec, old: &[PodCondition], containers_ready: &Claim) -> Claim {
    if !containers_ready.holds {
        return Claim::fails(containers_ready.reason, containers_ready.message.clone());
    }
    let complaint = |gate: &k8s_openapi::api::core::v1::PodReadinessGate| {
        let type_ = &gate.condition_type;
        match old.iter().find(|c| c.type_ == *type_) {
            None => Some(format!("corresponding condition of pod readiness gate {type_:?} does not exist.")),
            Some(c) if c.status != "True" => {
                Some(format!("the status of pod readiness gate {type_:?} is not \"True\", but {}", c.status))
            }
            Some(_) => None,
        }
    };
    let complaints: Vec<String> = spec.readiness_gates.iter().flatten().filter_map(complaint).collect();
    if complaints.is_empty() { Claim::holds() } else { Claim::fails("ReadinessGatesNotReady", complaints.join(", ")) }
}
