//! `ComponentStatus`, core/v1: how the parts of the control plane are, as `kubectl get componentstatuses` shows it. Nothing of it is stored.
//!
//! **Not here**: the answers (`server/verbs/components`).
//! **Source**: `pkg/registry/core/componentstatus/rest.go`, `printComponentStatus` in `pkg/printers/internalversion/printers.go`, v1.37.

use crate::api::{
    json_kind::{JsonKind, Rules, at},
    kind::{KindInfo, Scope},
    object::Untyped,
    table::{self, Column},
};
use serde_json::{Value, json};

/// The kind `ComponentStatus`.
pub static COMPONENT_STATUSES: JsonKind = JsonKind::new(
    KindInfo {
        short_names: &["cs"],
        verbs: &["get", "list"],
        columns: &[
            Column::name(),
            Column::text("Status", "Whether it is well."),
            Column::text("Message", "What it says."),
            Column::text("Error", "What is wrong."),
        ],
        ..KindInfo::of(
            ("", "v1", "ComponentStatus"),
            ("componentstatuses", "componentstatus"),
            Scope::Cluster,
            "io.k8s.api.core.v1.ComponentStatus",
        )
    },
    Rules { row: |obj, _| row(obj), ..Rules::PLAIN },
);

fn row(obj: &Untyped) -> Vec<Value> {
    let conditions = at(&obj.rest, "conditions").and_then(Value::as_array).into_iter().flatten();
    let of = conditions.into_iter().find(|condition| condition["type"] == "Healthy");
    let text = |field: &str| of.and_then(|of| of[field].as_str()).unwrap_or_default();
    let status = match text("status") {
        "True" => "Healthy",
        "False" => "Unhealthy",
        _ => "Unknown",
    };
    vec![table::name(&obj.metadata), json!(status), json!(text("message")), json!(text("error"))]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::kinds::testing::json::row;

    #[test]
    fn a_row_tells_whether_a_part_is_well() {
        let of = |status: &str, more: &str| {
            let conditions = format!("[{{type: Healthy, status: \"{status}\", {more}}}]");
            row(&COMPONENT_STATUSES, &format!("{{metadata: {{name: etcd-0}}, conditions: {conditions}}}"))
        };
        assert_eq!(of("True", "message: ok"), "etcd-0 | Healthy | ok | ");
        assert_eq!(of("False", "error: the disk is full"), "etcd-0 | Unhealthy |  | the disk is full");
    }
}
