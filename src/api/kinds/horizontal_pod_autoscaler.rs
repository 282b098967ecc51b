//! `HorizontalPodAutoscaler`, autoscaling/v2.
//!
//! **Source**: `pkg/apis/autoscaling/validation/validation.go`, `pkg/apis/autoscaling/v2/defaults.go`, v1.37.

use super::json::{self, Errors};
use crate::api::{
    field::FieldError,
    json_kind::{JsonKind, Rules, at, default_at, set_at, text_at, typed_json_kind},
    kind::{KindInfo, STATUS, Scope},
    object::Untyped,
    quantity::Quantity,
    table::{self, Column, NONE, UNKNOWN},
};
use jiff::Timestamp;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
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
    Rules { set_defaults, validate, row, ..Rules::PLAIN },
);

typed_json_kind! {
    /// Autoscalers as their controller has them.
    pub HORIZONTAL_POD_AUTOSCALERS => HorizontalPodAutoscalers: HorizontalPodAutoscaler
}

fn set_defaults(obj: &mut Untyped) {
    default_at(&mut obj.rest, "spec.minReplicas", 1);
    if json::items(&obj.rest, "spec.metrics").is_empty() {
        let cpu = json!([{
            "type": "Resource",
            "resource": { "name": "cpu", "target": { "type": "Utilization", "averageUtilization": CPU_PERCENT } },
        }]);
        set_at(&mut obj.rest, "spec.metrics", cpu);
    }
    if at(&obj.rest, "spec.behavior").is_some_and(Value::is_object) {
        let of_pods = json!({ "type": "Pods", "value": 4, "periodSeconds": 15 });
        let double = json!({ "type": "Percent", "value": 100, "periodSeconds": 15 });
        default_rules(obj, "spec.behavior.scaleUp", json!([of_pods, double]));
        default_at(&mut obj.rest, "spec.behavior.scaleUp.stabilizationWindowSeconds", 0);
        default_rules(obj, "spec.behavior.scaleDown", json!([double]));
    }
}

/// Source: `GenerateHPAScaleUpRules` and `GenerateHPAScaleDownRules` in pkg/apis/autoscaling/v2/defaults.go.
fn default_rules(obj: &mut Untyped, path: &str, policies: Value) {
    default_at(&mut obj.rest, &format!("{path}.selectPolicy"), "Max");
    default_at(&mut obj.rest, &format!("{path}.policies"), policies);
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
    for direction in ["scaleUp", "scaleDown"] {
        let path = format!("spec.behavior.{direction}");
        if let Some(rules) = at(fields, &path).and_then(Value::as_object) {
            check_rules(&mut errs, rules, &path);
        }
    }
    errs
}

/// The longest that a window of stabilization may be, and the longest period of a policy.
const WINDOW_SECS_MAX: i64 = 3600;
const PERIOD_SECS_MAX: i64 = 1800;

/// Source: `validateScalingRules`.
fn check_rules(errs: &mut Errors, rules: &Map<String, Value>, path: &str) {
    let mut number = |of: &Map<String, Value>, path: &str, field: &str, least: i64, most: i64| {
        let Some(n) = at(of, field).and_then(Value::as_i64) else { return };
        let why = match (least, n < least, n > most) {
            (0, true, _) => "must be greater than or equal to zero".to_owned(),
            (_, true, _) => "must be greater than zero".to_owned(),
            (_, _, true) => format!("must be less than or equal to {most}"),
            _ => return,
        };
        errs.push(FieldError::invalid(format!("{path}.{field}"), n, why));
    };
    number(rules, path, "stabilizationWindowSeconds", 0, WINDOW_SECS_MAX);
    for (i, policy) in json::objects(rules, "policies").enumerate() {
        let path = format!("{path}.policies[{i}]");
        number(policy, &path, "value", 1, i64::from(i32::MAX));
        number(policy, &path, "periodSeconds", 1, PERIOD_SECS_MAX);
    }
    for (i, policy) in json::objects(rules, "policies").enumerate() {
        let (kinds, kind) = (&["Percent", "Pods"], text_at(policy, "type"));
        if !kinds.contains(&&*kind) {
            errs.push(FieldError::not_supported(format!("{path}.policies[{i}].type"), kind, kinds));
        }
    }
    let (words, word) = (&["Disabled", "Max", "Min"], text_at(rules, "selectPolicy"));
    if !word.is_empty() && !words.contains(&&*word) {
        errs.push(FieldError::not_supported(format!("{path}.selectPolicy"), word, words));
    }
    if json::items(rules, "policies").is_empty() {
        errs.push(FieldError::required(format!("{path}.policies"), "must specify at least one Policy"));
    }
    let tolerance = text_at(rules, "tolerance");
    if Quantity::parse(&tolerance).is_ok_and(Quantity::is_negative) {
        errs.push(FieldError::invalid(format!("{path}.tolerance"), tolerance, "must be greater or equal to 0"));
    }
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
        return;
    }
    if matches!(&*kind, "Resource" | "ContainerResource") {
        check_resource_target(errs, metric, &field, path);
    }
}

/// Source: `validateResourceSource`, `validateMetricTarget`.
fn check_resource_target(errs: &mut Errors, metric: &Map<String, Value>, field: &str, path: &str) {
    let percent = at(metric, &format!("{field}.target.averageUtilization")).and_then(Value::as_i64);
    let amount = text_at(metric, &format!("{field}.target.averageValue"));
    let path = format!("{path}.{field}.target");
    if let Some(n) = percent.filter(|n| *n < 1) {
        errs.push(FieldError::invalid(format!("{path}.averageUtilization"), n, "must be greater than 0"));
    }
    let is_amount = Quantity::parse(&amount).is_ok();
    if is_amount && Quantity::parse(&amount).is_ok_and(|q| q.is_negative() || q.is_zero()) {
        errs.push(FieldError::invalid(format!("{path}.averageValue"), amount, "must be positive"));
    }
    match (percent.is_some(), is_amount) {
        (true, true) => {
            errs.push(FieldError::forbidden(
                path + ".averageValue",
                "may not set both a target raw value and a target utilization",
            ));
        }
        (false, false) => {
            errs.push(FieldError::required(
                path + ".averageUtilization",
                "must set either a target raw value or a target utilization",
            ));
        }
        _ => {}
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
            status:
              desiredReplicas: 0
        "#]]
        .assert_eq(&made);
        assert_eq!(
            row(&HORIZONTAL_POD_AUTOSCALERS, &made),
            "w | Deployment/web | cpu: <unknown>/80% | 1 | 5 | 0 | <unknown>"
        );
    }
}
