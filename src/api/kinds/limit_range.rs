//! `LimitRange`, core/v1.
//!
//! **Source**: `pkg/apis/core/validation/validation.go` (`ValidateLimitRange`), v1.37.

use super::json::{self, Errors};
use crate::{
    api::{
        field::FieldError,
        json_kind::{JsonKind, Rules, at, text_at},
        kind::{KindInfo, Scope},
        object::Untyped,
        quantity::Quantity,
        table::{self, Column},
    },
    base::ordered::Set,
};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

/// The kind `LimitRange`.
pub static LIMIT_RANGES: JsonKind = JsonKind::new(
    KindInfo {
        short_names: &["limits"],
        columns: &[
            Column::name(),
            Column { kind: "date", ..Column::text("Created At", "When the object was created.") },
        ],
        ..KindInfo::of(
            ("", "v1", "LimitRange"),
            ("limitranges", "limitrange"),
            Scope::Namespaced,
            "io.k8s.api.core.v1.LimitRange",
        )
    },
    Rules {
        set_defaults,
        validate,
        row: |obj, _now: Timestamp| vec![table::name(&obj.metadata), json!(obj.metadata.creation_timestamp)],
        ..Rules::PLAIN
    },
);

/// What is left out follows from what is there. Source: `SetDefaults_LimitRangeItem`.
fn set_defaults(obj: &mut Untyped) {
    for limit in json::objects_mut(&mut obj.rest, "spec.limits").filter(|limit| text_at(limit, "type") == "Container") {
        let of = |limit: &Map<String, Value>, field: &str| {
            at(limit, field).and_then(Value::as_object).cloned().unwrap_or_default()
        };
        let mut default = of(limit, "max");
        default.extend(of(limit, "default"));
        let mut request = of(limit, "min");
        request.extend(default.clone());
        request.extend(of(limit, "min").into_iter().filter(|(name, _)| !default.contains_key(name)));
        request.extend(of(limit, "defaultRequest"));
        for (field, amounts) in [("default", default), ("defaultRequest", request)] {
            if !amounts.is_empty() {
                limit.insert(field.to_owned(), Value::Object(amounts));
            }
        }
    }
}

fn validate(obj: &Untyped) -> Errors {
    let mut errs = Errors::new();
    let mut seen = Vec::new();
    for (i, limit) in json::objects(&obj.rest, "spec.limits").enumerate() {
        let (path, kind) = (format!("spec.limits[{i}]"), text_at(limit, "type"));
        if seen.contains(&kind) {
            errs.push(FieldError::duplicate(format!("{path}.type"), &kind));
        }
        let has = |field| json::has(limit, field);
        if kind == "Pod" {
            for field in ["default", "defaultRequest"].into_iter().filter(|field| has(field)) {
                errs.push(FieldError::forbidden(
                    format!("{path}.{field}"),
                    "may not be specified when `type` is 'Pod'",
                ));
            }
        }
        if kind == "PersistentVolumeClaim" && !json::has(limit, "min.storage") && !json::has(limit, "max.storage") {
            let why = "either minimum or maximum storage value is required, but neither was provided";
            errs.push(FieldError::required(&path, why));
        }
        check_order(&mut errs, limit, &path);
        seen.push(kind);
    }
    errs
}

/// The amounts of one resource must not contradict each other.
fn check_order(errs: &mut Errors, limit: &Map<String, Value>, path: &str) {
    let amount = |field: &str, name: &str| {
        let text = at(limit, field)?.as_object()?.get(name)?.as_str()?;
        Some((text.to_owned(), Quantity::parse(text).ok()?))
    };
    let names = ["default", "defaultRequest", "max", "min"].into_iter().filter_map(|f| at(limit, f)?.as_object());
    let names: Set<&String> = names.flat_map(Map::keys).collect();
    let pairs = [
        ("min", "max", "min"),
        ("min", "defaultRequest", "min"),
        ("defaultRequest", "max", "defaultRequest"),
        ("defaultRequest", "default", "defaultRequest"),
        ("default", "max", "default"),
    ];
    for name in names {
        for (low, high, blamed) in pairs {
            let (Some((low_text, low_amount)), Some((high_text, high_amount))) =
                (amount(low, name), amount(high, name))
            else {
                continue;
            };
            if low_amount > high_amount {
                let word = |field: &str| match field {
                    "min" => "min",
                    "max" => "max",
                    "default" => "default",
                    _ => "default request",
                };
                let why = format!("{} value {low_text} is greater than {} value {high_text}", word(low), word(high));
                errs.push(FieldError::invalid(format!("{path}.{blamed}[{name}]"), low_text, why));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::kinds::testing::json::{causes, created_yaml};
    use expect_test::expect;

    #[test]
    fn what_is_wrong_is_named() {
        expect![[r#"
            spec.limits[0].default: Forbidden: may not be specified when `type` is 'Pod'
            spec.limits[0].min[cpu]: Invalid value: "2": min value 2 is greater than max value 1
            spec.limits[1].type: Duplicate value: "Pod"
            spec.limits[2]: Required value: either minimum or maximum storage value is required, but neither was provided
        "#]].assert_eq(&causes(&LIMIT_RANGES, "spec: {limits: [{type: Pod, default: {cpu: 1}, min: {cpu: 2}, max: {cpu: 1}}, {type: Pod}, {type: PersistentVolumeClaim}]}"));
    }

    #[test]
    fn defaults_follow_from_what_is_there() {
        expect![[r#"
            metadata: {}
            spec:
              limits:
              - default:
                  cpu: '2'
                defaultRequest:
                  cpu: '2'
                  memory: 1Mi
                max:
                  cpu: '2'
                min:
                  cpu: 100m
                  memory: 1Mi
                type: Container
        "#]]
        .assert_eq(&created_yaml(
            &LIMIT_RANGES,
            "spec: {limits: [{type: Container, max: {cpu: '2'}, min: {cpu: 100m, memory: 1Mi}}]}",
        ));
    }
}
