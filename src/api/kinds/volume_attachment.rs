//! `VolumeAttachment`, storage.k8s.io/v1.
//!
//! **Source**: `pkg/apis/storage/validation/validation.go`, v1.37.

use super::json::{self, Errors};
use crate::api::{
    json_kind::{JsonKind, Rules, text_at},
    kind::{KindInfo, STATUS, Scope},
    object::Untyped,
    table::{self, Column},
};
use jiff::Timestamp;
use serde_json::{Value, json};

/// The kind `VolumeAttachment`.
pub static VOLUME_ATTACHMENTS: JsonKind = JsonKind::new(
    KindInfo {
        subresources: &[STATUS],
        columns: &[
            Column::name(),
            Column::text("Attacher", "What attaches the volume."),
            Column::text("PV", "The volume."),
            Column::text("Node", "Where it is attached."),
            Column { kind: "boolean", ..Column::text("Attached", "Whether it is.") },
            Column::age(),
        ],
        ..KindInfo::of(
            ("storage.k8s.io", "v1", "VolumeAttachment"),
            ("volumeattachments", "volumeattachment"),
            Scope::Cluster,
            "io.k8s.api.storage.v1.VolumeAttachment",
        )
    },
    Rules {
        validate_update: |new, old| json::immutable(&new.rest, &old.rest, "spec", "field is immutable"),
        validate,
        row,
        warnings: |_| vec!["skiff runs no CSI drivers: this object is stored and nothing acts on it".to_owned()],
        ..Rules::PLAIN
    },
);

fn validate(obj: &Untyped) -> Errors {
    let mut errs = Errors::new();
    for field in ["spec.attacher", "spec.nodeName", "spec.source"] {
        json::required(&mut errs, &obj.rest, field);
    }
    errs
}

fn row(obj: &Untyped, now: Timestamp) -> Vec<Value> {
    vec![
        table::name(&obj.metadata),
        json!(text_at(&obj.rest, "spec.attacher")),
        json!(text_at(&obj.rest, "spec.source.persistentVolumeName")),
        json!(text_at(&obj.rest, "spec.nodeName")),
        json!(json::is_true(&obj.rest, "status.attached")),
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
            spec.attacher: Required value
            spec.nodeName: Required value
            spec.source: Required value
        "#]]
        .assert_eq(&causes(&VOLUME_ATTACHMENTS, "spec: {}"));
        assert_eq!(
            row(
                &VOLUME_ATTACHMENTS,
                "metadata: {name: one}\nspec: {attacher: a, nodeName: skiff, source: {persistentVolumeName: v}}"
            ),
            "one | a | v | skiff | false | <unknown>"
        );
    }
}
