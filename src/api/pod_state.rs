//! Questions about a pod that many ask: is it ready, available, active; what is its quality-of-service class.
//!
//! Called by the kinds, controllers, the scheduler and the node agent, so that all give the same answer.
//!
//! **Source**: `pkg/api/v1/pod/util.go`, `pkg/apis/core/v1/helper/qos/qos.go` and `pkg/controller/controller_utils.go`, v1.37.

use super::quantity::Quantity;
use crate::base::ordered::Map;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{
    api::core::v1::{Container, Pod, PodCondition, PodSpec, PodStatus, ResourceRequirements},
    apimachinery::pkg::{api::resource::Quantity as Text, apis::meta::v1::Time},
};
use std::collections::BTreeMap;

/// Condition: all containers (and readiness gates) are ready.
pub const READY: &str = "Ready";
/// Condition: all containers are ready.
pub const CONTAINERS_READY: &str = "ContainersReady";
/// Condition: init containers are done.
pub const INITIALIZED: &str = "Initialized";
/// Condition: the pod has a node.
pub const POD_SCHEDULED: &str = "PodScheduled";

/// The pod's phase; empty when it has none yet.
pub fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|s| s.phase.as_deref()).unwrap_or_default()
}

/// Whether the pod has ended for good.
pub fn is_terminal(pod: &Pod) -> bool {
    matches!(phase(pod), "Succeeded" | "Failed")
}

/// Whether the pod counts for its owner: it has not ended and is not being deleted.
pub fn is_active(pod: &Pod) -> bool {
    !is_terminal(pod) && pod.metadata.deletion_timestamp.is_none()
}

/// A condition of the pod.
pub fn condition<'a>(pod: &'a Pod, kind: &str) -> Option<&'a PodCondition> {
    pod.status.as_ref()?.conditions.iter().flatten().find(|c| c.type_ == kind)
}

/// Whether a condition of the pod is `True`.
pub fn is_condition_true(pod: &Pod, kind: &str) -> bool {
    condition(pod, kind).is_some_and(|c| c.status == "True")
}

/// Whether the pod is ready.
pub fn is_pod_ready(pod: &Pod) -> bool {
    is_condition_true(pod, READY)
}

/// When the pod is (or was) ready for `min_ready_seconds`: `None` when it is not ready.
pub fn available_at(pod: &Pod, min_ready_seconds: i32) -> Option<Timestamp> {
    let ready = condition(pod, READY).filter(|c| c.status == "True")?;
    let since = ready.last_transition_time.as_ref().map(|t| t.0);
    if min_ready_seconds == 0 {
        return Some(since.unwrap_or(Timestamp::MIN));
    }
    since?.checked_add(SignedDuration::from_secs(i64::from(min_ready_seconds))).ok()
}

/// Whether the pod has been ready for at least `min_ready_seconds`.
pub fn is_pod_available(pod: &Pod, min_ready_seconds: i32, now: Timestamp) -> bool {
    available_at(pod, min_ready_seconds).is_some_and(|at| at <= now)
}

/// Sets a condition, keeping the time of its last transition when its status stays. Returns whether anything changed.
pub fn set_condition(status: &mut PodStatus, mut condition: PodCondition, now: Timestamp) -> bool {
    let all = status.conditions.get_or_insert_default();
    let Some(old) = all.iter_mut().find(|c| c.type_ == condition.type_) else {
        condition.last_transition_time.get_or_insert(Time(now));
        all.push(condition);
        return true;
    };
    if old.status == condition.status {
        condition.last_transition_time.clone_from(&old.last_transition_time);
    } else {
        condition.last_transition_time.get_or_insert(Time(now));
    }
    let changed = *old != condition;
    *old = condition;
    changed
}

/// Whether an init container runs beside the others (a sidecar).
pub fn is_sidecar(init_container: &Container) -> bool {
    init_container.restart_policy.as_deref() == Some("Always")
}

/// Whether something looks at a container of the pod before the pod counts as ready.
pub fn is_probed(pod: &Pod) -> bool {
    let spec = pod.spec.as_ref();
    let sidecars = spec.into_iter().flat_map(|s| s.init_containers.iter().flatten()).filter(|c| is_sidecar(c));
    let all = spec.into_iter().flat_map(|s| &s.containers).chain(sidecars);
    all.into_iter().any(|c| c.readiness_probe.is_some() || c.startup_probe.is_some())
}

/// The pod's quality-of-service class: `Guaranteed`, `Burstable` or `BestEffort`.
pub fn qos_class(spec: &PodSpec) -> &'static str {
    let (mut requests, mut limits) = (Map::new(), Map::new());
    let mut all_limited = true;
    let containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    // What the pod as a whole says counts alone.
    let of_pod = spec.resources.as_ref().filter(|r| r.requests.is_some() || r.limits.is_some());
    let told: Vec<_> = match of_pod {
        Some(resources) => vec![resources.clone()],
        None => containers.map(|container| container.resources.clone().unwrap_or_default()).collect(),
    };
    for resources in told {
        add_compute(&mut requests, &resources, |r| r.requests.as_ref());
        let limited = add_compute(&mut limits, &resources, |r| r.limits.as_ref());
        all_limited &= limited == 2;
    }
    if requests.is_empty() && limits.is_empty() {
        return "BestEffort";
    }
    let is_guaranteed = all_limited && requests.iter().all(|(name, amount)| limits.get(name) == Some(amount));
    if is_guaranteed && requests.len() == limits.len() { "Guaranteed" } else { "Burstable" }
}

type Amounts = Map<&'static str, Quantity>;
type ResourceList = BTreeMap<String, Text>;

/// Adds a container's CPU and memory to a sum; says how many of the two it has.
fn add_compute(
    sum: &mut Amounts,
    resources: &ResourceRequirements,
    list: impl Fn(&ResourceRequirements) -> Option<&ResourceList>,
) -> usize {
    let mut n = 0;
    for name in ["cpu", "memory"] {
        let amount = list(resources).and_then(|l| l.get(name)).and_then(|q| Quantity::of(q).ok());
        if let Some(amount) = amount.filter(|q| !q.is_zero()) {
            let total = sum.entry(name).or_insert(Quantity::ZERO);
            *total = total.plus(amount);
            n += 1;
        }
    }
    n
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(yaml: &str) -> Pod {
        crate::testing::from_yaml(yaml).unwrap()
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    #[test]
    fn a_pod_is_available_when_it_was_ready_long_enough() {
        let ready =
            pod("status: {conditions: [{type: Ready, status: 'True', lastTransitionTime: '1970-01-01T00:01:40Z'}]}");
        assert!(is_pod_ready(&ready));
        assert!(is_pod_available(&ready, 0, at(100)));
        assert!(!is_pod_available(&ready, 10, at(109)));
        assert!(is_pod_available(&ready, 10, at(110)));
        let unready = pod("status: {conditions: [{type: Ready, status: 'False'}]}");
        assert!(!is_pod_available(&unready, 0, at(100)));
    }

    #[test]
    fn the_quality_of_service_follows_requests_and_limits() {
        for (resources, class) in [
            ("{}", "BestEffort"),
            ("{requests: {cpu: '0'}}", "BestEffort"),
            ("{requests: {cpu: 100m}}", "Burstable"),
            ("{limits: {cpu: '1', memory: 1Gi}, requests: {cpu: 1000m, memory: 1024Mi}}", "Guaranteed"),
            ("{limits: {cpu: '1', memory: 1Gi}, requests: {cpu: 500m, memory: 1Gi}}", "Burstable"),
            ("{limits: {cpu: '1'}, requests: {cpu: '1'}}", "Burstable"),
        ] {
            let single = pod(&format!("spec: {{containers: [{{name: a, resources: {resources}}}]}}"));
            assert_eq!(qos_class(&single.spec.unwrap()), class, "{resources}");
            let whole = pod(&format!("spec: {{resources: {resources}, containers: [{{name: a}}, {{name: b}}]}}"));
            assert_eq!(qos_class(&whole.spec.unwrap()), class, "of the whole: {resources}");
        }
    }

    #[test]
    fn a_condition_keeps_its_transition_time_while_its_status_stays() {
        let mut status = PodStatus::default();
        let ready = |status: &str, reason: &str| PodCondition {
            type_: READY.into(),
            status: status.into(),
            reason: Some(reason.into()),
            ..PodCondition::default()
        };
        assert!(set_condition(&mut status, ready("False", "a"), at(1)));
        assert!(set_condition(&mut status, ready("False", "b"), at(2)));
        assert!(!set_condition(&mut status, ready("False", "b"), at(3)));
        let kept = status.conditions.as_ref().unwrap()[0].last_transition_time.clone();
        assert_eq!(kept, Some(Time(at(1))));
        assert!(set_condition(&mut status, ready("True", "b"), at(4)));
        assert_eq!(status.conditions.unwrap()[0].last_transition_time, Some(Time(at(4))));
    }
}
