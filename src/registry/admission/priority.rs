//! A pod gets the priority of its class. The class must exist, and the pod may not claim another priority than it gives; a pod without a
//! class gets the one that is the default, if there is one.
//!
//! **Source**: `plugin/pkg/admission/priority/admission.go`, v1.37.

use super::{shown_name, untyped};
use crate::{
    api::{
        kind::KindInfo,
        kinds::{
            priority::of_class,
            priority_class::{self, PRIORITY_CLASSES},
        },
        meta::ObjectKey,
        object::{DynObject, Untyped},
        status::ApiError,
    },
    registry::{Registry, options::Selection},
};
use k8s_openapi::api::core::v1::{Pod, PodSpec};

const PREEMPT_LOWER_PRIORITY: &str = "PreemptLowerPriority";

/// What a class gives.
struct Class {
    name: String,
    priority: i32,
    policy: String,
}

impl Class {
    /// What pods without a class get where none is the default.
    fn none() -> Self {
        Self { name: String::new(), priority: 0, policy: PREEMPT_LOWER_PRIORITY.to_owned() }
    }

    fn of(obj: &Untyped) -> Self {
        Self {
            name: obj.metadata.name.clone().unwrap_or_default(),
            priority: i32::try_from(priority_class::value(obj)).unwrap_or(i32::MAX),
            policy: priority_class::preemption_policy(obj),
        }
    }

    fn named(registry: &Registry, name: &str) -> Option<Self> {
        if let Some(priority) = of_class(name) {
            return Some(Self { name: name.to_owned(), priority, ..Self::none() });
        }
        untyped(&PRIORITY_CLASSES, &*registry.entry(&PRIORITY_CLASSES, &ObjectKey::new("", name))?, Self::of)
    }

    /// The default class; of several, that of the least priority.
    fn by_default(registry: &Registry) -> Option<Self> {
        let all = registry.snapshot(&PRIORITY_CLASSES, "", &Selection::default()).entries;
        let defaults = all.iter().filter_map(|entry| {
            let of = |obj: &Untyped| priority_class::is_global_default(obj).then(|| Self::of(obj));
            untyped(&PRIORITY_CLASSES, entry, of).flatten()
        });
        defaults.min_by_key(|class| class.priority)
    }
}

pub(super) fn review(registry: &Registry, info: &KindInfo<'_>, obj: &mut dyn DynObject) -> Result<(), ApiError> {
    let Some(pod) = obj.as_any_mut().downcast_mut::<Pod>() else { return Ok(()) };
    let Some(spec) = &mut pod.spec else { return Ok(()) };
    let name = spec.priority_class_name.clone().unwrap_or_default();
    let class = match name.as_str() {
        "" => Ok(Class::by_default(registry).unwrap_or_else(Class::none)),
        name => Class::named(registry, name).ok_or_else(|| format!("no PriorityClass with name {name} was found")),
    };
    let refusal = match class.and_then(|class| give(spec, class)) {
        Ok(()) => return Ok(()),
        Err(refusal) => refusal,
    };
    Err(ApiError::Forbidden { resource: info.resource(), name: shown_name(&pod.metadata), why: refusal })
}

/// Gives the pod what its class says, or says what the pod claims that its class does not.
fn give(spec: &mut PodSpec, class: Class) -> Result<(), String> {
    const TAIL: &str = "from the given PriorityClass name";
    let Class { name, priority, policy } = class;
    if let Some(claimed) = spec.priority.filter(|claimed| *claimed != priority) {
        return Err(format!(
            "the integer value of priority ({claimed}) must not be provided in pod spec; priority admission controller computed \
             {priority} {TAIL}"
        ));
    }
    // What defaults put there is no claim.
    if let Some(claimed) = spec.preemption_policy.as_ref().filter(|c| **c != policy && *c != PREEMPT_LOWER_PRIORITY) {
        return Err(format!(
            "the string value of PreemptionPolicy ({claimed}) must not be provided in pod spec; priority admission controller \
             computed {policy} {TAIL}"
        ));
    }
    if !name.is_empty() {
        spec.priority_class_name = Some(name);
    }
    (spec.priority, spec.preemption_policy) = (Some(priority), Some(policy));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        api::{kind::ErasedKind as _, kinds::pod::Pods},
        registry::pipeline::WriteOptions,
        testing,
    };
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
    async fn class(registry: &Registry, name: &str, value: i32, more: Value) {
        let mut class = json!({ "metadata": { "name": name }, "value": value });
        class.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let class = PRIORITY_CLASSES.decode(class).unwrap();
        registry.create(&PRIORITY_CLASSES, "", class, &WriteOptions::default()).await.unwrap();
    }

    #[tokio::test]
    async fn a_pod_gets_what_its_class_or_the_default_class_says() {
        let registry = testing::registry().await;
        class(&registry, "high", 1000, json!({ "preemptionPolicy": "Never" })).await;
        let made = async |name: &str, spec: Value| {
            let mut pod = json!({ "metadata": { "name": name, "namespace": "default" },
                "spec": { "containers": [{ "name": "c", "image": "i" }] } });
            pod["spec"].as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
            let spec = registry
                .api::<Pods>()
                .create(serde_json::from_value(pod).unwrap())
                .await
                .unwrap()
                .spec
                .clone()
                .unwrap();
            (spec.priority_class_name.unwrap_or_default(), spec.priority.unwrap(), spec.preemption_policy.unwrap())
        };
        let of = |class: &str, priority, policy: &str| (class.to_owned(), priority, policy.to_owned());
        assert_eq!(made("a", json!({ "priorityClassName": "high" })).await, of("high", 1000, "Never"));
        assert_eq!(made("b", json!({})).await, of("", 0, PREEMPT_LOWER_PRIORITY));
        class(&registry, "usual", 7, json!({ "globalDefault": true })).await;
        class(&registry, "more", 9, json!({ "globalDefault": true })).await;
        assert_eq!(made("c", json!({})).await, of("usual", 7, PREEMPT_LOWER_PRIORITY));
    }
}
