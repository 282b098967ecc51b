//! `ResourceQuota`, core/v1.
//!
//! **Source**: `pkg/apis/core/validation/validation.go` (`ValidateResourceQuota`), `printResourceQuota` in printers.go, v1.37.

use super::json::{self, Errors};
use crate::api::{
    field::FieldError,
    json_kind::{JsonKind, Rules, at},
    kind::{KindInfo, STATUS, Scope},
    names,
    object::Untyped,
    quantity::Quantity,
    table::{self, Column},
};
use jiff::Timestamp;
use serde_json::{Value, json};

const SCOPES: &[&str] = &[
    "BestEffort",
    "CrossNamespacePodAffinity",
    "NotBestEffort",
    "NotTerminating",
    "PriorityClass",
    "Terminating",
    "VolumeAttributesClass",
];

/// The kind `ResourceQuota`.
pub static RESOURCE_QUOTAS: JsonKind = JsonKind::new(
    KindInfo {
        short_names: &["quota"],
        subresources: &[STATUS],
        columns: &[
            Column::name(),
            Column::text("Request", "What may be requested, and what is."),
            Column::text("Limit", "What may be set as limits, and what is."),
            Column::age(),
        ],
        ..KindInfo::of(
            ("", "v1", "ResourceQuota"),
            ("resourcequotas", "resourcequota"),
            Scope::Namespaced,
            "io.k8s.api.core.v1.ResourceQuota",
        )
    },
    Rules {
        validate,
        validate_update: |new, old| json::immutable(&new.rest, &old.rest, "spec.scopes", "field is immutable"),
        row,
        warnings: |_| vec!["skiff does not enforce ResourceQuotas yet: this one counts and refuses nothing".to_owned()],
        ..Rules::PLAIN
    },
);

fn validate(obj: &Untyped) -> Errors {
    let mut errs = Errors::new();
    for (name, amount) in at(&obj.rest, "spec.hard").and_then(Value::as_object).into_iter().flatten() {
        let path = format!("spec.hard[{name}]");
        errs.extend(names::qualified_name(name).into_iter().map(|why| FieldError::invalid(&path, name, why)));
        let is_negative = amount.as_str().is_some_and(|text| text.starts_with('-'));
        if is_negative || amount.as_str().is_some_and(|text| Quantity::parse(text).is_err()) {
            errs.push(FieldError::invalid(path, amount, "must be greater than or equal to 0"));
        }
    }
    json::all_of(&mut errs, &obj.rest, "spec.scopes", SCOPES);
    errs
}

fn row(obj: &Untyped, now: Timestamp) -> Vec<Value> {
    let hard = at(&obj.rest, "status.hard").and_then(Value::as_object);
    let used = |name: &str| {
        at(&obj.rest, "status.used").and_then(|u| u.get(name)).and_then(Value::as_str).unwrap_or("0").to_owned()
    };
    let cell = |is_limit: bool| {
        let of = hard.into_iter().flatten().filter(|(name, _)| name.starts_with("limits.") == is_limit);
        let parts = of.map(|(name, amount)| format!("{name}: {}/{}", used(name), amount.as_str().unwrap_or_default()));
        json!(parts.collect::<Vec<_>>().join(", "))
    };
    vec![table::name(&obj.metadata), cell(false), cell(true), table::age(&obj.metadata, now)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::kinds::testing::json::{causes, row};
    use expect_test::expect;

    #[test]
    fn what_is_wrong_is_named() {
        assert_eq!(causes(&RESOURCE_QUOTAS, "spec: {hard: {pods: '4', requests.cpu: '1'}, scopes: [BestEffort]}"), "");
        expect![[r#"
            spec.hard[a b]: Invalid value: "a b": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')
            spec.hard[pods]: Invalid value: "-1": must be greater than or equal to 0
            spec.scopes[0]: Unsupported value: "Mine": supported values: "BestEffort", "CrossNamespacePodAffinity", "NotBestEffort", "NotTerminating", "PriorityClass", "Terminating", "VolumeAttributesClass"
        "#]].assert_eq(&causes(&RESOURCE_QUOTAS, "spec: {hard: {'a b': '1', pods: '-1'}, scopes: [Mine]}"));
    }

    #[test]
    fn a_row_reads_as_in_kubernetes() {
        let quota = "metadata: {name: q}\nstatus: {hard: {limits.cpu: '2', pods: '4'}, used: {pods: '1'}}";
        assert_eq!(row(&RESOURCE_QUOTAS, quota), "q | pods: 1/4 | limits.cpu: 0/2 | <unknown>");
    }
}
