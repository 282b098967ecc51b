//! What users are told of a pod: [`ObservedPod`](super::observe::ObservedPod) and a decision → `PodStatus`.
//!
//! Called by the worker after every decision. Pure; the worker writes the result when it differs from what is stored.
//!
//! **Invariants**: a phase that is `Succeeded` or `Failed` never changes; a condition's transition time moves only with its status;
//! conditions and fields that others own stay as they are; the same inputs give the same status, so that nothing is written at rest.
//! **Source**: `pkg/kubelet/kubelet_pods.go` (`getPhase`, `generateAPIPodStatus`, `convertToAPIContainerStatuses`),
//! `pkg/kubelet/status/generate.go`, `pkg/kubelet/prober/prober_manager.go` `UpdatePodStatus`, v1.37.

mod conditions;
mod containers;
mod restarts;
mod starts;
#[cfg(test)]
mod tests;

use super::{
    decide::{Decision, Memory},
    lifecycle::{Role, role_of},
    observe::ObservedPod,
    resize::Pending,
    sandbox::is_on_host,
};
use crate::{
    api::{ephemeral::as_container, pod_state::qos_class},
    base::{clock::whole_seconds, ordered::SortList as _},
};
use conditions::{READY_TO_START, conditions};
use containers::container_statuses;
use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{Container, ContainerState, ContainerStatus, HostIP, Pod, PodIP, PodSpec, PodStatus},
    apimachinery::pkg::apis::meta::v1::Time,
};
pub use restarts::restarts;
use std::{collections::BTreeMap, net::Ipv4Addr};

/// What a status needs to know beside the pod.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// What the engine has.
    pub observed: &'a ObservedPod,
    /// What is under way.
    pub memory: &'a Memory,
    /// What was decided.
    pub decision: &'a Decision,
    /// Why containers keep the resources that they have.
    pub pending: Option<&'a Pending>,
    /// The node's address.
    pub node_ip: Ipv4Addr,
    /// A repository digest of each image that has one, by image ID.
    pub digests: &'a BTreeMap<String, String>,
    /// The time.
    pub now: Timestamp,
}

/// The time in whole seconds, which is what the API stores.
pub(super) fn seconds(at: Timestamp) -> Time {
    Time(whole_seconds(at))
}

/// The status that a pod should have.
pub fn pod_status(pod: &Pod, facts: Facts<'_>) -> PodStatus {
    let Some(spec) = &pod.spec else { return PodStatus::default() };
    let old = pod.status.clone().unwrap_or_default();
    let mut init = container_statuses(pod, spec.init_containers.iter().flatten(), |spec| role_of(spec, true), facts);
    let mut main = container_statuses(pod, &spec.containers, |spec| role_of(spec, false), facts);
    let ephemeral: Vec<Container> = spec.ephemeral_containers.iter().flatten().map(as_container).collect();
    let mut ephemeral = container_statuses(pod, &ephemeral, |_| Role::Ephemeral, facts);
    let told = [&old.init_container_statuses, &old.container_statuses, &old.ephemeral_container_statuses];
    let told = told.into_iter().flatten().flatten();
    for statuses in [&mut init, &mut main, &mut ephemeral] {
        starts::keep(told.clone(), statuses);
    }
    let lists = (&init[..], &main[..], &ephemeral[..]);
    let phase = phase(pod, spec, lists, facts);
    main.sort_list_by(|a, b| a.name.cmp(&b.name));
    let mut status = PodStatus {
        host_ip: Some(facts.node_ip.to_string()),
        host_ips: Some(vec![HostIP { ip: facts.node_ip.to_string() }]),
        start_time: Some(old.start_time.clone().unwrap_or_else(|| seconds(facts.now))),
        qos_class: Some(old.qos_class.clone().unwrap_or_else(|| qos_class(spec).to_owned())),
        observed_generation: pod.metadata.generation,
        init_container_statuses: (!init.is_empty()).then_some(init),
        container_statuses: Some(main),
        ephemeral_container_statuses: (!ephemeral.is_empty()).then_some(ephemeral),
        phase: Some(phase.to_owned()),
        ..old
    };
    set_addresses(&mut status, pod, facts);
    set_reason(&mut status, facts);
    status.conditions = Some(conditions(pod, &status, facts));
    status
}

/// Whether a status is worth a write. Of a pod that is about to go nobody will read that its deletion was observed, or that its sandbox
/// has gone before it.
pub fn is_news(stored: &Pod, wanted: &PodStatus) -> bool {
    let Some(before) = stored.status.as_ref() else { return true };
    if before == wanted {
        return false;
    }
    let is_kept = stored.metadata.finalizers.as_ref().is_some_and(|f| !f.is_empty());
    if stored.metadata.deletion_timestamp.is_none() || is_kept {
        return true;
    }
    lasting(before) != lasting(wanted)
}

/// A status without what changes only because the pod goes.
fn lasting(status: &PodStatus) -> PodStatus {
    let mut status = PodStatus { observed_generation: None, ..status.clone() };
    let conditions = status.conditions.get_or_insert_default();
    conditions.retain(|c| c.type_ != READY_TO_START);
    conditions.iter_mut().for_each(|c| c.observed_generation = None);
    status
}

/// Takes a status over into what is stored by now: fields and conditions that others own stay as they are.
pub fn merge(stored: &mut Pod, wanted: &PodStatus) {
    let own = wanted.conditions.iter().flatten().filter(|c| conditions::is_own(&c.type_)).cloned();
    let current = stored.status.take().unwrap_or_default();
    let others = current.conditions.iter().flatten().filter(|c| !conditions::is_own(&c.type_)).cloned();
    stored.status = Some(PodStatus {
        conditions: Some(others.chain(own).collect()),
        container_statuses: wanted.container_statuses.clone(),
        ephemeral_container_statuses: wanted.ephemeral_container_statuses.clone(),
        init_container_statuses: wanted.init_container_statuses.clone(),
        host_ip: wanted.host_ip.clone(),
        host_ips: wanted.host_ips.clone(),
        message: wanted.message.clone(),
        observed_generation: wanted.observed_generation,
        phase: wanted.phase.clone(),
        pod_ip: wanted.pod_ip.clone(),
        pod_ips: wanted.pod_ips.clone(),
        qos_class: wanted.qos_class.clone(),
        reason: wanted.reason.clone(),
        start_time: wanted.start_time.clone(),
        ..current
    });
}

/// The pod's address is its sandbox's. A pod that ended keeps its last.
fn set_addresses(status: &mut PodStatus, pod: &Pod, facts: Facts<'_>) {
    let is_ending = facts.decision.over.is_some() || pod.metadata.deletion_timestamp.is_some();
    match pod_ip(pod, facts.observed, facts.node_ip) {
        Some(ip) => {
            status.pod_ip = Some(ip.to_string());
            status.pod_ips = Some(vec![PodIP { ip: ip.to_string() }]);
        }
        None if is_ending => {}
        None => {
            status.pod_ip = None;
            status.pod_ips = None;
        }
    }
}

/// The pod's address, while it has a running sandbox.
pub fn pod_ip(pod: &Pod, observed: &ObservedPod, node_ip: Ipv4Addr) -> Option<Ipv4Addr> {
    let sandbox = observed.sandbox().filter(|s| s.is_running() && !s.is_gone)?;
    if is_on_host(pod) { Some(node_ip) } else { sandbox.ip }
}

fn set_reason(status: &mut PodStatus, facts: Facts<'_>) {
    if let Some(over) = &facts.decision.over {
        let text = |t: &String| (!t.is_empty()).then(|| t.clone());
        status.reason = text(&over.reason);
        status.message = text(&over.message);
    }
}

/// The phase, from the container statuses.
fn phase(
    pod: &Pod,
    spec: &PodSpec,
    (init, main, ephemeral): (&[ContainerStatus], &[ContainerStatus], &[ContainerStatus]),
    facts: Facts<'_>,
) -> &'static str {
    match pod.status.as_ref().and_then(|s| s.phase.as_deref()) {
        Some("Succeeded") => return "Succeeded",
        Some("Failed") => return "Failed",
        _ => {}
    }
    let runs =
        init.iter().chain(main).chain(ephemeral).any(|s| s.state.as_ref().is_some_and(|state| state.running.is_some()));
    if let Some(over) = &facts.decision.over
        && (!runs || over.reason == "DeadlineExceeded")
    {
        return if over.succeeded { "Succeeded" } else { "Failed" };
    }
    let is_deleted = pod.metadata.deletion_timestamp.is_some();
    if is_deleted && !runs && !facts.memory.is_starting() && has_run(main) {
        return if main.iter().all(|s| exit_code(s) == Some(0)) { "Succeeded" } else { "Failed" };
    }
    running_phase(spec, init, main)
}

fn has_run(statuses: &[ContainerStatus]) -> bool {
    statuses.iter().all(|s| exit_code(s).is_some()) && !statuses.is_empty()
}

fn exit_code(status: &ContainerStatus) -> Option<i32> {
    let terminated = |state: &Option<ContainerState>| Some(state.as_ref()?.terminated.as_ref()?.exit_code);
    terminated(&status.state).or_else(|| terminated(&status.last_state))
}

/// The phase of a pod that is not over.
fn running_phase(spec: &PodSpec, init: &[ContainerStatus], main: &[ContainerStatus]) -> &'static str {
    let state = |s: &ContainerStatus| s.state.clone().unwrap_or_default();
    let is_waiting = |s: &ContainerStatus| state(s).waiting.is_some() && exit_code(s).is_none();
    let any_ran = main.iter().any(|s| state(s).running.is_some() || exit_code(s).is_some());
    let inits = spec.init_containers.iter().flatten().zip(init);
    let init_pending = !any_ran && inits.into_iter().any(|(spec, status)| !is_initialized(spec, status));
    if init_pending || main.iter().any(is_waiting) || !any_ran { "Pending" } else { "Running" }
}

/// Whether an init container has done its part.
pub(super) fn is_initialized(spec: &Container, status: &ContainerStatus) -> bool {
    match role_of(spec, true) {
        Role::Sidecar => status.started == Some(true),
        Role::Init | Role::Main | Role::Ephemeral => status.ready,
    }
}
