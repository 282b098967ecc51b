//! `CSINode`, storage.k8s.io/v1.
//!
//! **Source**: `pkg/apis/storage/validation/validation.go`, v1.37.

use super::json::{self, Errors};
use crate::api::{
    json_kind::{JsonKind, Rules},
    kind::{KindInfo, Scope},
    object::Untyped,
    table::{self, Column},
};
use jiff::Timestamp;
use serde_json::{Value, json};

/// The kind `CSINode`.
pub static CSI_NODES: JsonKind = JsonKind::new(
    KindInfo {
        columns: &[Column::name(), Column::number("Drivers", "How many drivers the node has."), Column::age()],
        ..KindInfo::of(
            ("storage.k8s.io", "v1", "CSINode"),
            ("csinodes", "csinode"),
            Scope::Cluster,
            "io.k8s.api.storage.v1.CSINode",
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
    for (i, driver) in json::objects(&obj.rest, "spec.drivers").enumerate() {
        json::within(&mut errs, &format!("spec.drivers[{i}]"), |errs| {
            ["name", "nodeID"].iter().for_each(|field| json::required(errs, driver, field));
        });
    }
    errs
}

fn row(obj: &Untyped, now: Timestamp) -> Vec<Value> {
    vec![
        table::name(&obj.metadata),
        json!(json::items(&obj.rest, "spec.drivers").len()),
        table::age(&obj.metadata, now),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::kinds::testing::json::{causes, row};
    use expect_test::expect;

    #[test]
    fn what_is_wrong_is_named_and_a_row_reads_as_in_kubernetes() {
        expect![[r#"
            spec.drivers[0].name: Required value
            spec.drivers[0].nodeID: Required value
        "#]]
        .assert_eq(&causes(&CSI_NODES, "spec: {drivers: [{}]}"));
        assert_eq!(
            row(&CSI_NODES, "metadata: {name: one}\nspec: {drivers: [{name: a, nodeID: b}]}"),
            "one | 1 | <unknown>"
        );
    }
}
