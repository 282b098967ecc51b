//! `CSIDriver`, storage.k8s.io/v1.
//!
//! **Source**: `pkg/apis/storage/validation/validation.go`, v1.37.

use super::json::{self, Errors};
use crate::api::{
    json_kind::{JsonKind, Rules, default_at, text_at},
    kind::{KindInfo, Scope},
    object::Untyped,
    table::{self, Column},
};
use jiff::Timestamp;
use serde_json::{Value, json};

/// The kind `CSIDriver`.
pub static CSI_DRIVERS: JsonKind = JsonKind::new(
    KindInfo {
        columns: &[
            Column::name(),
            Column { kind: "boolean", ..Column::text("AttachRequired", "Whether its volumes are attached first.") },
            Column { kind: "boolean", ..Column::text("PodInfoOnMount", "Whether it is told of the pod.") },
            Column { kind: "boolean", ..Column::text("StorageCapacity", "Whether it tells how much there is.") },
            Column::text("TokenRequests", "The audiences of tokens that it gets."),
            Column {
                kind: "boolean",
                ..Column::text("RequiresRepublish", "Whether volumes are published again and again.")
            },
            Column::text("Modes", "How long its volumes live."),
            Column::age(),
        ],
        ..KindInfo::of(
            ("storage.k8s.io", "v1", "CSIDriver"),
            ("csidrivers", "csidriver"),
            Scope::Cluster,
            "io.k8s.api.storage.v1.CSIDriver",
        )
    },
    Rules {
        set_defaults,
        has_generation: true,
        validate,
        row,
        warnings: |_| vec!["skiff runs no CSI drivers: this object is stored and nothing acts on it".to_owned()],
        ..Rules::PLAIN
    },
);

fn set_defaults(obj: &mut Untyped) {
    let fields = &mut obj.rest;
    for (field, value) in [
        ("attachRequired", true),
        ("podInfoOnMount", false),
        ("storageCapacity", false),
        ("requiresRepublish", false),
        ("seLinuxMount", false),
    ] {
        default_at(fields, &format!("spec.{field}"), value);
    }
    default_at(fields, "spec.fsGroupPolicy", "ReadWriteOnceWithFSType");
    default_at(fields, "spec.volumeLifecycleModes", json!(["Persistent"]));
}

fn validate(obj: &Untyped) -> Errors {
    let mut errs = Errors::new();
    json::one_of(&mut errs, &obj.rest, "spec.fsGroupPolicy", &["File", "None", "ReadWriteOnceWithFSType"]);
    json::all_of(&mut errs, &obj.rest, "spec.volumeLifecycleModes", &["Ephemeral", "Persistent"]);
    errs
}

fn audiences(obj: &Untyped) -> String {
    let of: Vec<String> =
        json::objects(&obj.rest, "spec.tokenRequests").map(|request| text_at(request, "audience")).collect();
    if of.is_empty() { "<unset>".to_owned() } else { of.join(",") }
}

fn row(obj: &Untyped, now: Timestamp) -> Vec<Value> {
    vec![
        table::name(&obj.metadata),
        json!(json::is_true(&obj.rest, "spec.attachRequired")),
        json!(json::is_true(&obj.rest, "spec.podInfoOnMount")),
        json!(json::is_true(&obj.rest, "spec.storageCapacity")),
        json!(audiences(obj)),
        json!(json::is_true(&obj.rest, "spec.requiresRepublish")),
        json!(json::texts(&obj.rest, "spec.volumeLifecycleModes").collect::<Vec<_>>().join(",")),
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
            spec.fsGroupPolicy: Unsupported value: "Mine": supported values: "File", "None", "ReadWriteOnceWithFSType"
            spec.volumeLifecycleModes[0]: Unsupported value: "Now": supported values: "Ephemeral", "Persistent"
        "#]]
        .assert_eq(&causes(&CSI_DRIVERS, "spec: {fsGroupPolicy: Mine, volumeLifecycleModes: [Now]}"));
        assert_eq!(
            row(
                &CSI_DRIVERS,
                "metadata: {name: a.b}\nspec: {attachRequired: true, volumeLifecycleModes: [Persistent]}"
            ),
            "a.b | true | false | false | <unset> | false | Persistent | <unknown>"
        );
    }
}
