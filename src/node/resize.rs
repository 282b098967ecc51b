//! In-place resizes of containers: whether the node has room for what a pod asks for now, and what of it has been given. Pure.
//!
//! What a pod was given is in its status, so that another process goes by it; what a container has is the engine's to say.
//! Called by the worker, `decide` and `status`.
//!
//! **Source**: `canResizePod` and `handlePodResourcesResize`, `pkg/kubelet/allocation/allocation_manager.go`, v1.37.

use super::{observe::ObservedContainer, translate::resources};
use crate::{
    api::{
        pod_resources::{Amounts, Side, add, amounts, of_pod},
        quantity::Quantity,
    },
    engine::Resources,
};
use k8s_openapi::{
    api::core::v1::{Container, ContainerStatus, Pod, ResourceRequirements},
    apimachinery::pkg::api::resource::Quantity as Text,
};
use std::collections::BTreeMap;

/// The node may have room later.
pub const DEFERRED: &str = "Deferred";
/// The node is too small.
pub const INFEASIBLE: &str = "Infeasible";
/// What can be resized, in the order in which it is looked at.
const RESIZABLE: [&str; 2] = ["memory", "cpu"];

/// Why a resize has to wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    /// [`INFEASIBLE`] or [`DEFERRED`].
    pub reason: &'static str,
    /// What users read.
    pub message: String,
}

/// What the status tells of a container's resources.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Given {
    /// What it has.
    pub resources: Option<ResourceRequirements>,
    /// What of its requests the node has given it.
    pub allocated: Option<BTreeMap<String, Text>>,
}

/// Key of what blocks the resize of a container, among all that is blocked.
pub fn resize_key(container: &str) -> String {
    format!("/resize/{container}")
}

fn status_of<'a>(pod: &'a Pod, name: &str) -> Option<&'a ContainerStatus> {
    let status = pod.status.as_ref()?;
    let lists = [&status.container_statuses, &status.init_container_statuses];
    lists.into_iter().flatten().flatten().find(|status| status.name == name)
}

/// Whether a container of a pod asks for other CPU or memory than its pod was given for it.
pub fn is_asked(pod: &Pod) -> bool {
    let spec = pod.spec.iter();
    let mut containers = spec.flat_map(|spec| spec.containers.iter().chain(spec.init_containers.iter().flatten()));
    containers.any(|container| {
        let Some(status) = status_of(pod, &container.name).filter(|status| status.resources.is_some()) else {
            return false;
        };
        let wanted = container.resources.as_ref();
        let requests = resizable(wanted.and_then(|r| r.requests.as_ref()));
        let limits = resizable(wanted.and_then(|r| r.limits.as_ref()));
        requests != resizable(status.allocated_resources.as_ref())
            || limits != resizable(status.resources.as_ref().and_then(|r| r.limits.as_ref()))
    })
}

fn resizable(written: Option<&BTreeMap<String, Text>>) -> Amounts {
    let mut amounts = amounts(written);
    amounts.retain(|name, _| RESIZABLE.contains(&name.as_str()));
    amounts
}

/// Why a pod cannot have what it asks for, on a node of this size with these others.
pub fn pending<'a>(pod: &Pod, allocatable: &Amounts, others: impl IntoIterator<Item = &'a Pod>) -> Option<Pending> {
    let wanted = of_pod(pod.spec.as_ref()?, Side::Requests);
    let of = |amounts: &Amounts, name: &str| amounts.get(name).copied().unwrap_or(Quantity::ZERO);
    let number = |name: &str, amount: Quantity| if name == "cpu" { amount.millis() } else { amount.whole() };
    let shown = |name: &str, amounts: &Amounts| number(name, of(amounts, name));
    for name in RESIZABLE {
        let (wants, has) = (shown(name, &wanted), shown(name, allocatable));
        if wants > has {
            let message = format!("Node didn't have enough capacity: {name}, requested: {wants}, capacity: {has}");
            return Some(Pending { reason: INFEASIBLE, message });
        }
    }
    let mut taken = Amounts::new();
    for other in others {
        add(&mut taken, &other.spec.as_ref().map(|spec| of_pod(spec, Side::Requests)).unwrap_or_default());
    }
    for name in RESIZABLE {
        let (wants, others, has) = (shown(name, &wanted), shown(name, &taken), shown(name, allocatable));
        if wants.saturating_add(others) > has {
            let message = format!(
                "Node didn't have enough resource: {name}, requested: {wants}, used: {others}, capacity: {has}"
            );
            return Some(Pending { reason: DEFERRED, message });
        }
    }
    None
}

/// What a container had been given, as the status tells it.
pub fn was_given(pod: &Pod, spec: &Container) -> Option<ResourceRequirements> {
    status_of(pod, &spec.name)?.resources.clone()
}

/// What the status tells of a container that runs: what it has is what it asks for, unless the engine has not given it yet.
pub fn given(pod: &Pod, spec: &Container, shown: Option<&ObservedContainer>, pending: Option<&Pending>) -> Given {
    let before = status_of(pod, &spec.name).filter(|status| status.resources.is_some());
    let wanted = spec.resources.clone().unwrap_or_default();
    let (Some(before), Some(pod_spec)) = (before, pod.spec.as_ref()) else {
        return Given { allocated: wanted.requests.clone(), resources: Some(wanted) };
    };
    if pending.is_some() {
        return Given { resources: before.resources.clone(), allocated: before.allocated_resources.clone() };
    }
    let has_it = shown.and_then(|c| c.resources).is_none_or(|has| has == resources(pod_spec, spec));
    let allocated = wanted.requests.clone();
    Given { resources: if has_it { Some(wanted) } else { before.resources.clone() }, allocated }
}

/// Whether a container has to be started anew for what it gets.
pub fn needs_restart(spec: &Container, wanted: Resources, has: Resources) -> bool {
    let cpu = (wanted.nano_cpus, wanted.cpu_shares) != (has.nano_cpus, has.cpu_shares);
    let memory = wanted.memory_bytes != has.memory_bytes;
    let restarts = |name: &str| {
        let mut policies = spec.resize_policy.iter().flatten();
        policies.any(|policy| policy.resource_name == name && policy.restart_policy == "RestartContainer")
    };
    (cpu && restarts("cpu")) || (memory && restarts("memory"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(requests: &str, given: &str) -> Pod {
        crate::testing::from_yaml(&format!(
            "{{metadata: {{name: web}}, spec: {{containers: [{{name: app, resources: {{requests: {requests}}}}}]}}, \
             status: {{containerStatuses: [{{name: app, image: i, imageID: '', ready: true, restartCount: 0, \
             resources: {{requests: {given}}}, allocatedResources: {given}}}]}}}}"
        ))
        .unwrap()
    }

    fn node() -> Amounts {
        amounts(Some(&crate::testing::from_yaml("{cpu: '2', memory: 1Gi}").unwrap()))
    }

    #[test]
    fn a_resize_is_asked_for_when_amounts_differ() {
        assert!(!is_asked(&pod("{cpu: 100m}", "{cpu: '0.1'}")), "the same, in other words");
        assert!(is_asked(&pod("{cpu: 200m}", "{cpu: 100m}")));
        let fresh: Pod =
            crate::testing::from_yaml("{spec: {containers: [{name: app, resources: {requests: {cpu: 1}}}]}}").unwrap();
        assert!(!is_asked(&fresh), "nothing was given yet");
    }

    #[test]
    fn a_node_has_room_or_may_have_or_never_has() {
        let other = pod("{cpu: 1500m}", "{cpu: 1500m}");
        let why = |requests: &str| pending(&pod(requests, "{cpu: 100m}"), &node(), [&other]);
        assert_eq!(why("{cpu: 500m, memory: 1Gi}"), None);
        let told = |reason, text: &str| Some(Pending { reason, message: text.to_owned() });
        let text = "Node didn't have enough resource: cpu, requested: 501, used: 1500, capacity: 2000";
        assert_eq!(why("{cpu: 501m}"), told(DEFERRED, text));
        let text = "Node didn't have enough capacity: memory, requested: 2147483648, capacity: 1073741824";
        assert_eq!(why("{cpu: 3, memory: 2Gi}"), told(INFEASIBLE, text));
    }

    #[test]
    fn only_what_changes_needs_a_restart() {
        let spec: Container = crate::testing::from_yaml(
            "{name: app, resizePolicy: [{resourceName: memory, restartPolicy: RestartContainer}]}",
        )
        .unwrap();
        let has = Resources { memory_bytes: Some(1), ..Resources::default() };
        assert!(needs_restart(&spec, Resources::default(), has));
        assert!(!needs_restart(&spec, Resources { nano_cpus: Some(1), ..has }, has));
    }
}
