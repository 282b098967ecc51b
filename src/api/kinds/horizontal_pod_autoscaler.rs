//! `HorizontalPodAutoscaler`, autoscaling/v2.
//!
//! **Source**: `pkg/apis/autoscaling/validation/validation.go`, `pkg/apis/autoscaling/v2/defaults.go`, v1.37.

use super::json::{self, Errors};
use crate::api::{
    field::FieldError,
    json_kind::{JsonKind, Rules, at, default_at, set_at, text_at},
    kind::{KindInfo, STATUS, Scope},
    object::Untyped,
    table::{self, Column, NONE, UNKNOWN},
};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

/// The share of the requested processor time that is aimed at when no metric is given.
const CPU_PERCENT: i32 = 80;
/// How many targets a row names.
const TARGETS_MAX: usize = 2;
/// The columns of both versions.
pub(super) const COLUMNS: &[Column<'static>] = &[
    Column::name(),
    Column::text("Reference", "What it scales."),
    Column::text("Targets", "What it aims at, and what is."),
    Column::text("MinPods", "The least number of pods."),
    Column::text("MaxPods", "The greatest number of pods."),
    Column::text("Replicas", "How many pods there are."),
    Column::age(),
];
/// What is said of every write.
pub(super) const NO_LOAD: &str = "skiff measures no load yet: this autoscaler is stored and scales nothing";

/// The kind `HorizontalPodAutoscaler`.
pub static HORIZONTAL_POD_AUTOSCALERS: JsonKind = JsonKind::new(
    KindInfo {
        short_names: &["hpa"],
        categories: &["all"],
        subresources: &[STATUS],
        columns: COLUMNS,
        ..KindInfo::of(
            ("autoscaling", "v2", "HorizontalPodAutoscaler"),
            ("horizontalpodautoscalers", "horizontalpodautoscaler"),
            Scope::Namespaced,
            "io.k8s.api.autoscaling.v2.HorizontalPodAutoscaler",
        )
    },
    Rules { set_defaults, validate, row, warnings: |_| vec![NO_LOAD.to_owned()], ..Rules::PLAIN },
);

fn set_defaults(obj: &mut Untyped) {
    default_at(&mut obj.rest, "spec.minReplicas", 1);
    if json::items(&obj.rest, "spec.metrics").is_empty() {
        let cpu = json!([{
            "type": "Resource",
            "resource": { "name": "cpu", "target": { "type": "Utilization", "averageUtilization": CPU_PERCENT } },
        }]);
        set_at(&mut obj.rest, "spec.metrics", cpu);
    }
}

pub(super) fn validate(obj: &Untyped) -> Errors {
    let mut errs = Errors::new();
    let fields = &obj.rest;
    let number = |path| at(fields, path).and_then(Value::as_i64);
    let (min, max) = (number("spec.minReplicas").unwrap_or(1), number("spec.maxReplicas").unwrap_or(0));
    if min < 1 {
        errs.push(FieldError::invalid("spec.minReplicas", min, "must be greater than or equal to 1"));
    }
    if max < 1 {
        errs.push(FieldError::invalid("spec.maxReplicas", max, "must be greater than 0"));
    }
    if max < min {
        errs.push(FieldError::invalid("spec.maxReplicas", max, "must be greater than or equal to `minReplicas`"));
    }
    for field in ["spec.scaleTargetRef.kind", "spec.scaleTargetRef.name"] {
        json::required(&mut errs, fields, field);
    }
    for (i, metric) in json::objects(fields, "spec.metrics").enumerate() {
        check_metric(&mut errs, metric, &format!("spec.metrics[{i}]"));
    }
    errs
}

fn check_metric(errs: &mut Errors, metric: &Map<String, Value>, path: &str) {
    let kinds = &["ContainerResource", "External", "Object", "Pods", "Resource"];
    let kind = text_at(metric, "type");
    if kind.is_empty() {
        errs.push(FieldError::required(format!("{path}.type"), "must specify a metric source type"));
        return;
    }
    if !kinds.contains(&&*kind) {
        errs.push(FieldError::not_supported(format!("{path}.type"), kind, kinds));
        return;
    }
    let field = kind[..1].to_lowercase() + &kind[1..];
    if !metric.contains_key(&field) {
        let why = format!("must populate information for the given metric source: {kind:?} source");
        errs.push(FieldError::required(format!("{path}.{field}"), why));
    }
}

pub(super) fn row(obj: &Untyped, now: Timestamp) -> Vec<Value> {
    let fields = &obj.rest;
    let text = |path| text_at(fields, path);
    let min = text("spec.minReplicas");
    vec![
        table::name(&obj.metadata),
        json!(format!("{}/{}", text("spec.scaleTargetRef.kind"), text("spec.scaleTargetRef.name"))),
        json!(targets(fields)),
        json!(if min.is_empty() { "<unset>".to_owned() } else { min }),
        json!(at(fields, "spec.maxReplicas")),
        json::number(fields, "status.currentReplicas"),
        table::age(&obj.metadata, now),
    ]
}

/// Source: `formatHPAMetrics` in printers.go, for what a user sees of each: `cpu: 12%/80%`.
fn targets(fields: &Map<String, Value>) -> String {
    let metrics: Vec<&Map<String, Value>> = json::objects(fields, "spec.metrics").collect();
    if metrics.is_empty() {
        return NONE.to_owned();
    }
    let of = |(i, metric): (usize, &&Map<String, Value>)| {
        let kind = text_at(metric, "type");
        let field =
            kind.chars().next().map_or_else(String::new, |c| c.to_lowercase().to_string() + &kind[c.len_utf8()..]);
        let current = json::objects(fields, "status.currentMetrics").nth(i);
        let amount = |of: &Map<String, Value>, part: &str| {
            let percent = text_at(of, &format!("{field}.{part}.averageUtilization"));
            if !percent.is_empty() {
                return Some(percent + "%");
            }
            ["averageValue", "value"]
                .into_iter()
                .map(|f| text_at(of, &format!("{field}.{part}.{f}")))
                .find(|t| !t.is_empty())
        };
        let now = current.and_then(|c| amount(c, "current")).unwrap_or_else(|| UNKNOWN.to_owned());
        let wanted = amount(metric, "target").unwrap_or_else(|| "<auto>".to_owned());
        let name = text_at(metric, &format!("{field}.name"));
        let name = if name.is_empty() { name } else { name + ": " };
        format!("{name}{now}/{wanted}")
    };
    let shown: Vec<String> = metrics.iter().enumerate().take(TARGETS_MAX).map(of).collect();
    let more = metrics.len().saturating_sub(TARGETS_MAX);
    if more > 0 { format!("{} + {more} more...", shown.join(", ")) } else { shown.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::kinds::testing::json::{causes, created_yaml, row};
    use expect_test::expect;

    const WEB: &str = "metadata: {name: w}\nspec: {maxReplicas: 5, scaleTargetRef: {kind: Deployment, name: web, apiVersion: apps/v1}}";

    #[test]
    fn what_is_wrong_is_named() {
        assert_eq!(causes(&HORIZONTAL_POD_AUTOSCALERS, WEB), "");
        expect![[r#"
            spec.minReplicas: Invalid value: 0: must be greater than or equal to 1
            spec.maxReplicas: Invalid value: -1: must be greater than 0
            spec.maxReplicas: Invalid value: -1: must be greater than or equal to `minReplicas`
            spec.scaleTargetRef.kind: Required value
            spec.scaleTargetRef.name: Required value
            spec.metrics[0].type: Required value: must specify a metric source type
            spec.metrics[1].type: Unsupported value: "Odd": supported values: "ContainerResource", "External", "Object", "Pods", "Resource"
            spec.metrics[2].pods: Required value: must populate information for the given metric source: "Pods" source
        "#]].assert_eq(&causes(
            &HORIZONTAL_POD_AUTOSCALERS,
            "spec: {minReplicas: 0, maxReplicas: -1, metrics: [{}, {type: Odd}, {type: Pods}]}",
        ));
    }

    #[test]
    fn defaults_are_filled_in_and_a_row_reads_as_in_kubernetes() {
        let made = created_yaml(&HORIZONTAL_POD_AUTOSCALERS, WEB);
        expect![[r#"
            metadata:
              name: w
            spec:
              maxReplicas: 5
              metrics:
              - resource:
                  name: cpu
                  target:
                    averageUtilization: 80
                    type: Utilization
                type: Resource
              minReplicas: 1
              scaleTargetRef:
                apiVersion: apps/v1
                kind: Deployment
                name: web
        "#]]
        .assert_eq(&made);
        assert_eq!(
            row(&HORIZONTAL_POD_AUTOSCALERS, &made),
            "w | Deployment/web | cpu: <unknown>/80% | 1 | 5 | 0 | <unknown>"
        );
    }
}
