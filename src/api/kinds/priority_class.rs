//! `PriorityClass`, scheduling.k8s.io/v1.
//!
//! **Source**: `pkg/apis/scheduling/validation/validation.go`, `pkg/apis/scheduling/v1/defaults.go`, v1.37.

use super::{json::Errors, priority};
use crate::api::{
    field::FieldError,
    json_kind::{JsonKind, Rules, at, default_at, text_at},
    kind::{KindInfo, Scope},
    object::Untyped,
    table::{self, Column},
};
use jiff::Timestamp;
use serde_json::{Value, json};

/// The highest value of a class that is not the system's.
const VALUE_MAX: i64 = 1_000_000_000;
const SYSTEM_PREFIX: &str = "system-";

/// The kind `PriorityClass`.
pub static PRIORITY_CLASSES: JsonKind = JsonKind::new(
    KindInfo {
        short_names: &["pc"],
        columns: &[
            Column::name(),
            Column::number("Value", "The priority of its pods."),
            Column {
                kind: "boolean",
                ..Column::text("Global-Default", "Whether pods without a class are of this one.")
            },
            Column::age(),
            Column::text("PreemptionPolicy", "Whether its pods may take the place of others."),
        ],
        ..KindInfo::of(
            ("scheduling.k8s.io", "v1", "PriorityClass"),
            ("priorityclasses", "priorityclass"),
            Scope::Cluster,
            "io.k8s.api.scheduling.v1.PriorityClass",
        )
    },
    Rules {
        set_defaults,
        validate,
        validate_update,
        row,
        has_generation: true,
        creates_on_update: true,
        ..Rules::PLAIN
    },
);

fn set_defaults(obj: &mut Untyped) {
    default_at(&mut obj.rest, "preemptionPolicy", "PreemptLowerPriority");
}

fn validate(obj: &Untyped) -> Errors {
    let mut errs = Errors::new();
    let (name, value) = (obj.metadata.name.as_deref().unwrap_or_default(), value(obj));
    if name.starts_with(SYSTEM_PREFIX) {
        // Source: `IsKnownSystemPriorityClass`.
        if priority::of_class(name).is_none_or(|known| i64::from(known) != value) {
            let why = "priority class names with 'system-' prefix are reserved for system use only";
            errs.push(FieldError::forbidden("metadata.name", why));
        }
    } else if value > VALUE_MAX {
        let why = format!("maximum allowed value of a user defined priority is {VALUE_MAX}");
        errs.push(FieldError::forbidden("value", why));
    }
    let policy = text_at(&obj.rest, "preemptionPolicy");
    if !matches!(&*policy, "PreemptLowerPriority" | "Never") {
        let policies = &["PreemptLowerPriority", "Never"];
        errs.push(FieldError::not_supported("preemptionPolicy", policy, policies));
    }
    errs
}

fn validate_update(new: &Untyped, old: &Untyped) -> Errors {
    let mut errs = Errors::new();
    for (field, why) in
        [("value", "may not be changed in an update."), ("preemptionPolicy", "may not be changed in an update.")]
    {
        if at(&new.rest, field) != at(&old.rest, field) {
            errs.push(FieldError::forbidden(field, why));
        }
    }
    errs
}

/// The priority of a class's pods.
pub fn value(obj: &Untyped) -> i64 {
    at(&obj.rest, "value").and_then(Value::as_i64).unwrap_or(0)
}

/// Whether pods without a class are of this one.
pub fn is_global_default(obj: &Untyped) -> bool {
    at(&obj.rest, "globalDefault").and_then(Value::as_bool).unwrap_or(false)
}

/// Whether pods of a class may take the place of others: `PreemptLowerPriority` or `Never`.
pub fn preemption_policy(obj: &Untyped) -> String {
    text_at(&obj.rest, "preemptionPolicy")
}

fn row(obj: &Untyped, now: Timestamp) -> Vec<Value> {
    vec![
        table::name(&obj.metadata),
        json!(value(obj)),
        json!(is_global_default(obj)),
        table::age(&obj.metadata, now),
        json!(preemption_policy(obj)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::kinds::testing::json::{causes, row};
    use expect_test::expect;

    #[test]
    fn what_is_wrong_is_named() {
        expect![[r#"
            metadata.name: Forbidden: priority class names with 'system-' prefix are reserved for system use only
            preemptionPolicy: Unsupported value: "Maybe": supported values: "PreemptLowerPriority", "Never"
        "#]]
        .assert_eq(&causes(&PRIORITY_CLASSES, "metadata: {name: system-mine}\nvalue: 5\npreemptionPolicy: Maybe"));
        expect![[r#"
            value: Forbidden: maximum allowed value of a user defined priority is 1000000000
        "#]]
        .assert_eq(&causes(&PRIORITY_CLASSES, "metadata: {name: high}\nvalue: 1000000001"));
        assert_eq!(causes(&PRIORITY_CLASSES, "metadata: {name: system-node-critical}\nvalue: 2000001000"), "");
    }

    #[test]
    fn a_row_reads_as_in_kubernetes() {
        let class = "metadata: {name: a}\nvalue: 7\nglobalDefault: true\npreemptionPolicy: Never";
        assert_eq!(row(&PRIORITY_CLASSES, class), "a | 7 | true | <unknown> | Never");
    }
}
