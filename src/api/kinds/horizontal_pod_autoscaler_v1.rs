//! `HorizontalPodAutoscaler`, autoscaling/v1: a view of the same objects as autoscaling/v2. What it has no field for is in annotations.
//!
//! **Source**: `pkg/apis/autoscaling/v1/conversion.go`, v1.37; there the annotations hold the metrics in a form of their own.

use super::horizontal_pod_autoscaler::{self as v2, COLUMNS};
use crate::api::{
    json_kind::{JsonKind, Rules, View, at, default_at, set_at},
    kind::{KindInfo, STATUS, Scope},
    object::Untyped,
    selector::Fields,
};
use crate::base::json;
use serde_json::{Map, Value, json};

/// Annotations, and what of `spec` or `status` is in them.
const ANNOTATED: [(&str, &str); 4] = [
    ("autoscaling.alpha.kubernetes.io/metrics", "spec.metrics"),
    ("autoscaling.alpha.kubernetes.io/behavior", "spec.behavior"),
    ("autoscaling.alpha.kubernetes.io/conditions", "status.conditions"),
    ("autoscaling.alpha.kubernetes.io/current-metrics", "status.currentMetrics"),
];
const TARGET_CPU: &str = "spec.targetCPUUtilizationPercentage";
const CURRENT_CPU: &str = "status.currentCPUUtilizationPercentage";

/// The kind `HorizontalPodAutoscaler` of autoscaling/v1.
pub static HORIZONTAL_POD_AUTOSCALERS_V1: JsonKind = JsonKind::new(
    KindInfo {
        short_names: &["hpa"],
        categories: &["all"],
        subresources: &[STATUS],
        columns: COLUMNS,
        stored_as: Some(("autoscaling", "horizontalpodautoscalers")),
        ..KindInfo::of(
            ("autoscaling", "v1", "HorizontalPodAutoscaler"),
            ("horizontalpodautoscalers", "horizontalpodautoscaler"),
            Scope::Namespaced,
            "io.k8s.api.autoscaling.v1.HorizontalPodAutoscaler",
        )
    },
    Rules {
        set_defaults: |obj| default_at(&mut obj.rest, "spec.minReplicas", 1),
        validate: |obj| v2::validate(&as_v2(obj)),
        row: |obj, now| v2::row(&as_v2(obj), now),
        view: Some(View { to_stored, from_stored, fields: |_| Fields::new() }),
        ..Rules::PLAIN
    },
);

fn as_v2(obj: &Untyped) -> Untyped {
    let json = serde_json::to_value(obj).expect("an object has string keys only");
    json::typed(to_stored(json)).expect("what was an object is one")
}

fn is_cpu(metric: &Value, part: &str) -> Option<Value> {
    let is_cpu = metric["type"] == "Resource" && metric["resource"]["name"] == "cpu";
    let percent = metric["resource"][part].get("averageUtilization")?;
    is_cpu.then(|| percent.clone())
}

fn to_stored(mut json: Value) -> Value {
    let Some(fields) = json.as_object_mut() else { return json };
    fields.insert("apiVersion".to_owned(), json!("autoscaling/v2"));
    for (annotation, path) in ANNOTATED {
        if let Some(text) = annotations(fields).and_then(|all| all.remove(annotation)) {
            let value = text.as_str().and_then(|text| serde_json::from_slice::<Value>(text.as_bytes()).ok());
            value.into_iter().for_each(|value| set_at(fields, path, value));
        }
    }
    if annotations(fields).is_some_and(|all| all.is_empty()) {
        take(fields, "metadata.annotations");
    }
    for (v1, list, part) in [(TARGET_CPU, "spec.metrics", "target"), (CURRENT_CPU, "status.currentMetrics", "current")]
    {
        let Some(percent) = take(fields, v1) else { continue };
        let mut usage = json!({ "averageUtilization": percent });
        if part == "target" {
            usage["type"] = json!("Utilization");
        }
        let mut all = at(fields, list).and_then(Value::as_array).cloned().unwrap_or_default();
        all.insert(0, json!({ "type": "Resource", "resource": { "name": "cpu", part: usage } }));
        set_at(fields, list, json!(all));
    }
    json
}

fn from_stored(mut json: Value) -> Value {
    let Some(fields) = json.as_object_mut() else { return json };
    fields.insert("apiVersion".to_owned(), json!("autoscaling/v1"));
    for (v1, list, part) in [(TARGET_CPU, "spec.metrics", "target"), (CURRENT_CPU, "status.currentMetrics", "current")]
    {
        let mut all = at(fields, list).and_then(Value::as_array).cloned().unwrap_or_default();
        let first = all.iter().position(|metric| is_cpu(metric, part).is_some());
        if let Some(percent) = first.and_then(|i| is_cpu(&all.remove(i), part)) {
            set_at(fields, v1, percent);
        }
        take(fields, list);
        if !all.is_empty() {
            set_at(fields, list, json!(all));
        }
    }
    for (annotation, path) in ANNOTATED {
        if let Some(value) = take(fields, path) {
            default_at(fields, "metadata.annotations", json!({}));
            annotations(fields)
                .into_iter()
                .for_each(|all| drop(all.insert(annotation.to_owned(), json!(value.to_string()))));
        }
    }
    json
}

fn annotations(fields: &mut Map<String, Value>) -> Option<&mut Map<String, Value>> {
    fields.get_mut("metadata")?.get_mut("annotations")?.as_object_mut()
}

/// Takes a value out from below an object of the top.
fn take(fields: &mut Map<String, Value>, path: &str) -> Option<Value> {
    let (first, rest) = path.split_once('.')?;
    fields.get_mut(first)?.as_object_mut()?.remove(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn yaml(text: &str) -> Value {
        crate::api::schema::read::parse_yaml(text.as_bytes()).unwrap().value
    }

    #[test]
    fn what_v1_has_no_field_for_is_in_annotations_and_comes_back() {
        let stored = yaml(
            "{apiVersion: autoscaling/v2, kind: HorizontalPodAutoscaler, metadata: {name: a}, spec: {maxReplicas: 3, behavior: {scaleUp: {}}, \
             metrics: [{type: Resource, resource: {name: memory, target: {type: AverageValue, averageValue: 1Gi}}}, \
             {type: Resource, resource: {name: cpu, target: {type: Utilization, averageUtilization: 70}}}]}, \
             status: {conditions: [{type: AbleToScale, status: 'True'}]}}",
        );
        let v1 = from_stored(stored.clone());
        assert_eq!((&v1["spec"]["targetCPUUtilizationPercentage"], v1["spec"].get("metrics")), (&json!(70), None));
        assert!(
            v1["metadata"]["annotations"]["autoscaling.alpha.kubernetes.io/metrics"]
                .as_str()
                .unwrap()
                .contains("memory")
        );
        let mut back = to_stored(v1);
        let metrics = back["spec"]["metrics"].as_array_mut().unwrap();
        metrics.reverse();
        assert_eq!(back, stored);
    }

    #[test]
    fn an_autoscaler_of_kubectl_aims_at_the_processor() {
        let v1 = yaml(
            "{apiVersion: autoscaling/v1, metadata: {name: a}, spec: {maxReplicas: 5, targetCPUUtilizationPercentage: 50}}",
        );
        let v2 = to_stored(v1.clone());
        assert_eq!(
            v2["spec"]["metrics"][0]["resource"]["target"],
            json!({ "averageUtilization": 50, "type": "Utilization" })
        );
        assert_eq!(from_stored(v2), v1);
    }
}
