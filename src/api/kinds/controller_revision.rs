//! `ControllerRevision`, apps/v1: a state of a StatefulSet or DaemonSet that is kept.
//!
//! **Source**: `pkg/apis/apps/validation/validation.go` (`ValidateControllerRevision`), v1.37.

use super::json::{self, Errors};
use crate::api::{
    field::FieldError,
    json_kind::{JsonKind, Rules, at, typed_json_kind},
    kind::{KindInfo, Scope},
    meta::controller_of,
    object::Untyped,
    table::{self, Column, NONE},
};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::ControllerRevision;
use serde_json::{Value, json};

/// The kind `ControllerRevision`.
pub static CONTROLLER_REVISIONS: JsonKind = JsonKind::new(
    KindInfo {
        columns: &[
            Column::name(),
            Column::text("Controller", "What it is a state of."),
            Column::text("Revision", "Its number."),
            Column::age(),
        ],
        ..KindInfo::of(
            ("apps", "v1", "ControllerRevision"),
            ("controllerrevisions", "controllerrevision"),
            Scope::Namespaced,
            "io.k8s.api.apps.v1.ControllerRevision",
        )
    },
    Rules {
        validate,
        validate_update: |new, old| json::immutable(&new.rest, &old.rest, "data", "field is immutable"),
        row,
        ..Rules::PLAIN
    },
);

typed_json_kind! {
    /// Revisions as the controllers of StatefulSets and DaemonSets have them.
    pub CONTROLLER_REVISIONS => ControllerRevisions: ControllerRevision
}

fn validate(obj: &Untyped) -> Errors {
    let mut errs = Errors::new();
    if at(&obj.rest, "revision").and_then(Value::as_i64).unwrap_or(0) < 0 {
        errs.push(FieldError::invalid("revision", at(&obj.rest, "revision"), "must be greater than or equal to 0"));
    }
    if !json::has(&obj.rest, "data") {
        errs.push(FieldError::required("data", "data is mandatory"));
    }
    errs
}

fn row(obj: &Untyped, now: Timestamp) -> Vec<Value> {
    let controller = controller_of(&obj.metadata).map(|owner| {
        let group = owner.api_version.split_once('/').map_or("", |(group, _)| group);
        let dot = if group.is_empty() { "" } else { "." };
        format!("{}{dot}{group}/{}", owner.kind.to_lowercase(), owner.name)
    });
    vec![
        table::name(&obj.metadata),
        json!(controller.unwrap_or_else(|| NONE.to_owned())),
        json::number(&obj.rest, "revision"),
        table::age(&obj.metadata, now),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::kinds::testing::json::{causes, row, update_causes};
    use expect_test::expect;

    #[test]
    fn what_is_wrong_is_named() {
        expect![[r#"
            revision: Invalid value: -1: must be greater than or equal to 0
            data: Required value: data is mandatory
        "#]]
        .assert_eq(&causes(&CONTROLLER_REVISIONS, "revision: -1"));
        expect![[r#"
            data: Invalid value: {"a":2}: field is immutable
        "#]]
        .assert_eq(&update_causes(&CONTROLLER_REVISIONS, "revision: 1\ndata: {a: 1}", "revision: 2\ndata: {a: 2}"));
    }

    #[test]
    fn a_row_reads_as_in_kubernetes() {
        let owned = "metadata: {name: r, ownerReferences: [{apiVersion: apps/v1, kind: StatefulSet, name: db, uid: u, controller: true}]}\nrevision: 3";
        assert_eq!(row(&CONTROLLER_REVISIONS, owned), "r | statefulset.apps/db | 3 | <unknown>");
    }
}
