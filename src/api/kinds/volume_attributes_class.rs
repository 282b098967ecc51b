//! `VolumeAttributesClass`, storage.k8s.io/v1.
//!
//! **Source**: `pkg/apis/storage/validation/validation.go`, v1.37.

use super::json::{self, Errors};
use crate::api::{
    json_kind::{JsonKind, Rules, text_at},
    kind::{KindInfo, Scope},
    object::Untyped,
    table::{self, Column},
};
use jiff::Timestamp;
use serde_json::{Value, json};

/// The kind `VolumeAttributesClass`.
pub static VOLUME_ATTRIBUTES_CLASSES: JsonKind = JsonKind::new(
    KindInfo {
        short_names: &["vac"],
        columns: &[Column::name(), Column::text("DriverName", "The driver of its volumes."), Column::age()],
        ..KindInfo::of(
            ("storage.k8s.io", "v1", "VolumeAttributesClass"),
            ("volumeattributesclasses", "volumeattributesclass"),
            Scope::Cluster,
            "io.k8s.api.storage.v1.VolumeAttributesClass",
        )
    },
    Rules {
        validate_update,
        validate,
        row,
        warnings: |_| vec!["skiff runs no CSI drivers: this object is stored and nothing acts on it".to_owned()],
        ..Rules::PLAIN
    },
);

fn validate(obj: &Untyped) -> Errors {
    let mut errs = Errors::new();
    json::required(&mut errs, &obj.rest, "driverName");
    errs
}

fn validate_update(new: &Untyped, old: &Untyped) -> Errors {
    let fields = ["driverName", "parameters"].into_iter();
    fields
        .flat_map(|field| json::immutable(&new.rest, &old.rest, field, "updates to this field are forbidden."))
        .collect()
}

fn row(obj: &Untyped, now: Timestamp) -> Vec<Value> {
    vec![table::name(&obj.metadata), json!(text_at(&obj.rest, "driverName")), table::age(&obj.metadata, now)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::kinds::testing::json::{causes, row};

    #[test]
    fn what_is_wrong_is_named_and_a_row_reads_as_in_kubernetes() {
        assert_eq!(causes(&VOLUME_ATTRIBUTES_CLASSES, "parameters: {a: b}"), "driverName: Required value\n");
        assert_eq!(row(&VOLUME_ATTRIBUTES_CLASSES, "metadata: {name: one}\ndriverName: a.b"), "one | a.b | <unknown>");
    }
}
