//! `PodDisruptionBudget`, policy/v1.
//!
//! **Source**: `pkg/apis/policy/validation/validation.go`, v1.37.

use super::json::{self, Errors};
use crate::api::{
    field::FieldError,
    json_kind::{JsonKind, Rules, at, typed_json_kind},
    kind::{KindInfo, STATUS, Scope},
    object::Untyped,
    table::{self, Column},
};
use jiff::Timestamp;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use serde_json::{Value, json};

/// The kind `PodDisruptionBudget`.
pub static POD_DISRUPTION_BUDGETS: JsonKind = JsonKind::new(
    KindInfo {
        short_names: &["pdb"],
        subresources: &[STATUS],
        columns: &[
            Column::name(),
            Column::text("Min Available", "How many pods must stay available."),
            Column::text("Max Unavailable", "How many pods may be unavailable."),
            Column::number("Allowed Disruptions", "How many pods may be disrupted now."),
            Column::age(),
        ],
        ..KindInfo::of(
            ("policy", "v1", "PodDisruptionBudget"),
            ("poddisruptionbudgets", "poddisruptionbudget"),
            Scope::Namespaced,
            "io.k8s.api.policy.v1.PodDisruptionBudget",
        )
    },
    Rules { validate, row, has_generation: true, ..Rules::PLAIN },
);

typed_json_kind! {
    /// Budgets as their controller and evictions have them.
    pub POD_DISRUPTION_BUDGETS => PodDisruptionBudgets: PodDisruptionBudget
}

fn validate(obj: &Untyped) -> Errors {
    let mut errs = Errors::new();
    let fields = &obj.rest;
    if json::has(fields, "spec.minAvailable") && json::has(fields, "spec.maxUnavailable") {
        errs.push(FieldError::invalid("spec", "", "minAvailable and maxUnavailable cannot be both set"));
    }
    for field in ["spec.minAvailable", "spec.maxUnavailable"] {
        if let Some(value) = at(fields, field) {
            json::count_or_percent(&mut errs, field, value);
        }
    }
    json::label_selector(&mut errs, fields, "spec.selector");
    json::one_of(&mut errs, fields, "spec.unhealthyPodEvictionPolicy", &["AlwaysAllow", "IfHealthyBudget"]);
    errs
}

fn row(obj: &Untyped, now: Timestamp) -> Vec<Value> {
    let amount = |path| match at(&obj.rest, path) {
        None => json!("N/A"),
        Some(value) => json!(value.as_str().map_or_else(|| value.to_string(), str::to_owned)),
    };
    vec![
        table::name(&obj.metadata),
        amount("spec.minAvailable"),
        amount("spec.maxUnavailable"),
        json::number(&obj.rest, "status.disruptionsAllowed"),
        table::age(&obj.metadata, now),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::kinds::testing::json::{causes, row};
    use expect_test::expect;

    #[test]
    fn what_is_wrong_is_named() {
        let wrong = "spec: {minAvailable: -1, maxUnavailable: 120%, unhealthyPodEvictionPolicy: Never}";
        expect![[r#"
            spec: Invalid value: "": minAvailable and maxUnavailable cannot be both set
            spec.minAvailable: Invalid value: -1: must be greater than or equal to 0
            spec.maxUnavailable: Invalid value: "120%": must not be greater than 100%
            spec.unhealthyPodEvictionPolicy: Unsupported value: "Never": supported values: "AlwaysAllow", "IfHealthyBudget"
        "#]].assert_eq(&causes(&POD_DISRUPTION_BUDGETS, wrong));
        assert_eq!(causes(&POD_DISRUPTION_BUDGETS, "spec: {minAvailable: 50%, selector: {matchLabels: {a: b}}}"), "");
    }

    #[test]
    fn a_row_reads_as_in_kubernetes() {
        let budget = "metadata: {name: a}\nspec: {maxUnavailable: 1}\nstatus: {disruptionsAllowed: 2}";
        assert_eq!(row(&POD_DISRUPTION_BUDGETS, budget), "a | N/A | 1 | 2 | <unknown>");
    }
}
