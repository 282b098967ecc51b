//! `CSIStorageCapacity`, storage.k8s.io/v1.
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

/// The kind `CSIStorageCapacity`.
pub static CSI_STORAGE_CAPACITIES: JsonKind = JsonKind::new(
    KindInfo {
        columns: &[
            Column::name(),
            Column::text("StorageClassName", "The class of the storage."),
            Column::text("Capacity", "How much there is."),
        ],
        ..KindInfo::of(
            ("storage.k8s.io", "v1", "CSIStorageCapacity"),
            ("csistoragecapacities", "csistoragecapacity"),
            Scope::Namespaced,
            "io.k8s.api.storage.v1.CSIStorageCapacity",
        )
    },
    Rules {
        validate,
        row,
        warnings: |_| vec!["skiff runs no CSI drivers: this object is stored and nothing acts on it".to_owned()],
        ..Rules::PLAIN
    },
);

fn validate(obj: &Untyped) -> Errors {
    let mut errs = Errors::new();
    json::subdomain(&mut errs, "storageClassName", &text_at(&obj.rest, "storageClassName"));
    json::label_selector(&mut errs, &obj.rest, "nodeTopology");
    errs
}

fn row(obj: &Untyped, _now: Timestamp) -> Vec<Value> {
    vec![
        table::name(&obj.metadata),
        json!(text_at(&obj.rest, "storageClassName")),
        json!(text_at(&obj.rest, "capacity")),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::kinds::testing::json::{causes, row};

    #[test]
    fn what_is_wrong_is_named_and_a_row_reads_as_in_kubernetes() {
        assert!(causes(&CSI_STORAGE_CAPACITIES, "storageClassName: A").starts_with("storageClassName: Invalid value"));
        assert_eq!(
            row(&CSI_STORAGE_CAPACITIES, "metadata: {name: one}\nstorageClassName: s\ncapacity: 1Gi"),
            "one | s | 1Gi"
        );
    }
}
