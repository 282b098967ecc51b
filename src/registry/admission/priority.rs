//! A pod's priority class must exist, and the pod may not claim another priority than the class gives. There are only the classes that
//! every cluster has; the kinds know what they give.
//!
//! **Source**: `plugin/pkg/admission/priority/admission.go`, v1.37.

use crate::{
    api::{kind::KindInfo, kinds::priority::of_class, object::DynObject, status::ApiError},
    registry::Registry,
};
use k8s_openapi::api::core::v1::{Pod, PodSpec};

const PREEMPT_LOWER_PRIORITY: &str = "PreemptLowerPriority";

pub(super) fn review(_registry: &Registry, info: &KindInfo<'_>, obj: &mut dyn DynObject) -> Result<(), ApiError> {
    let Some(pod) = obj.as_any_mut().downcast_mut::<Pod>() else { return Ok(()) };
    let class = pod.spec.as_ref().and_then(|spec| spec.priority_class_name.as_deref()).unwrap_or_default();
    let refusal = match of_class(class) {
        None if !class.is_empty() => format!("no PriorityClass with name {class} was found"),
        given => match pod.spec.as_ref().and_then(|spec| contradiction(spec, given.unwrap_or(0))) {
            Some(contradiction) => contradiction,
            None => return Ok(()),
        },
    };
    let meta = &pod.metadata;
    let named = meta.name.clone().filter(|name| !name.is_empty());
    Err(ApiError::Forbidden {
        resource: info.resource(),
        // A name that is still to be made is shown by its beginning, as in Kubernetes.
        name: named.or_else(|| meta.generate_name.clone()).unwrap_or_default(),
        why: refusal,
    })
}

/// What the pod says that its class does not.
fn contradiction(spec: &PodSpec, priority: i32) -> Option<String> {
    const TAIL: &str = "from the given PriorityClass name";
    // Both have their values by now; the classes that there are preempt lower ones.
    let policy = spec.preemption_policy.as_deref().unwrap_or(PREEMPT_LOWER_PRIORITY);
    match spec.priority {
        Some(claimed) if claimed != priority => Some(format!(
            "the integer value of priority ({claimed}) must not be provided in pod spec; priority admission controller computed \
             {priority} {TAIL}"
        )),
        _ if policy != PREEMPT_LOWER_PRIORITY => Some(format!(
            "the string value of PreemptionPolicy ({policy}) must not be provided in pod spec; priority admission controller \
             computed {PREEMPT_LOWER_PRIORITY} {TAIL}"
        )),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{api::kinds::pod::Pods, testing};
    use serde_json::{Value, json};

    async fn refusal(claims: Value) -> String {
        let registry = testing::registry().await;
        let mut spec = json!({ "containers": [{ "name": "c", "image": "i" }] });
        spec.as_object_mut().unwrap().extend(claims.as_object().unwrap().clone());
        let pod = json!({ "metadata": { "name": "p", "namespace": "default" }, "spec": spec });
        let pod: Pod = serde_json::from_value(pod).unwrap();
        let made = registry.api::<Pods>().create(pod).await;
        made.map_or_else(|err| format!("{} {err}", err.code()), |_| "made".to_owned())
    }

    #[tokio::test]
    async fn a_pod_claims_no_other_priority_than_its_class_gives() {
        let critical = "system-node-critical";
        assert_eq!(refusal(json!({})).await, "made");
        assert_eq!(refusal(json!({ "priority": 0 })).await, "made");
        assert_eq!(refusal(json!({ "priority": 2_000_001_000, "priorityClassName": critical })).await, "made");
        let head = "403 pods \"p\" is forbidden: ";
        let of = |priority: &str, computed: &str| {
            format!(
                "{head}the integer value of priority ({priority}) must not be provided in pod spec; priority admission controller \
                 computed {computed} from the given PriorityClass name"
            )
        };
        assert_eq!(refusal(json!({ "priority": 5 })).await, of("5", "0"));
        assert_eq!(refusal(json!({ "priority": 5, "priorityClassName": critical })).await, of("5", "2000001000"));
        assert_eq!(
            refusal(json!({ "priorityClassName": "mine" })).await,
            format!("{head}no PriorityClass with name mine was found")
        );
        assert_eq!(
            refusal(json!({ "preemptionPolicy": "Never" })).await,
            format!(
                "{head}the string value of PreemptionPolicy (Never) must not be provided in pod spec; priority admission controller \
                 computed PreemptLowerPriority from the given PriorityClass name"
            )
        );
    }
}
