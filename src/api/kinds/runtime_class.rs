//! `RuntimeClass`, node.k8s.io/v1.
//!
//! **Source**: `pkg/apis/node/validation/validation.go`, v1.37.

use super::json::{self, Errors};
use crate::api::{
    field::FieldError,
    json_kind::{JsonKind, Rules, text_at},
    kind::{KindInfo, Scope},
    names,
    object::Untyped,
    table::{self, Column},
};
use jiff::Timestamp;
use serde_json::{Value, json};

/// The kind `RuntimeClass`.
pub static RUNTIME_CLASSES: JsonKind = JsonKind::new(
    KindInfo {
        columns: &[Column::name(), Column::text("Handler", "What runs pods of the class."), Column::age()],
        ..KindInfo::of(
            ("node.k8s.io", "v1", "RuntimeClass"),
            ("runtimeclasses", "runtimeclass"),
            Scope::Cluster,
            "io.k8s.api.node.v1.RuntimeClass",
        )
    },
    Rules {
        validate,
        validate_update: |new, old| json::immutable(&new.rest, &old.rest, "handler", "field is immutable"),
        row,
        warnings: |_| {
            vec!["skiff runs every pod with the engine's default runtime: no pod can use this class yet".to_owned()]
        },
        ..Rules::PLAIN
    },
);

fn validate(obj: &Untyped) -> Errors {
    let handler = text_at(&obj.rest, "handler");
    names::dns1123_label(&handler).into_iter().map(|why| FieldError::invalid("handler", &handler, why)).collect()
}

fn row(obj: &Untyped, now: Timestamp) -> Vec<Value> {
    vec![table::name(&obj.metadata), json!(text_at(&obj.rest, "handler")), table::age(&obj.metadata, now)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::kinds::testing::json::{causes, row};

    #[test]
    fn a_handler_is_a_label_and_a_row_shows_it() {
        assert!(
            causes(&RUNTIME_CLASSES, "handler: A b")
                .starts_with("handler: Invalid value: \"A b\": a lowercase RFC 1123 label")
        );
        assert_eq!(row(&RUNTIME_CLASSES, "metadata: {name: r}\nhandler: runsc"), "r | runsc | <unknown>");
    }
}
