//! `PodTemplate`, core/v1: a pod template that is an object of its own.
//!
//! **Source**: `pkg/apis/core/validation/validation.go` (`ValidatePodTemplate`), v1.37.

use super::{
    json::Errors,
    pod_spec::{self, Of},
    workload,
};
use crate::api::{
    json_kind::{JsonKind, Rules, at},
    kind::{KindInfo, Scope},
    object::Untyped,
    table::{self, Column},
};
use jiff::Timestamp;
use serde_json::{Value, json};

/// The kind `PodTemplate`.
pub static POD_TEMPLATES: JsonKind = JsonKind::new(
    KindInfo {
        columns: &[
            Column::name(),
            Column::text("Containers", "The names of the template's containers."),
            Column::text("Images", "The images of the template's containers."),
            Column::text("Pod Labels", "The labels of the template."),
        ],
        ..KindInfo::of(
            ("", "v1", "PodTemplate"),
            ("podtemplates", "podtemplate"),
            Scope::Namespaced,
            "io.k8s.api.core.v1.PodTemplate",
        )
    },
    Rules {
        set_defaults: |obj| workload::template_defaults(&mut obj.rest, "template"),
        validate,
        row,
        has_generation: true,
        ..Rules::PLAIN
    },
);

fn validate(obj: &Untyped) -> Errors {
    let spec = workload::template(&obj.rest, "template").and_then(|t| t.spec).unwrap_or_default();
    pod_spec::validate(&spec, "template.spec", Of::Template)
}

fn row(obj: &Untyped, _now: Timestamp) -> Vec<Value> {
    let [names, images] = workload::containers(&obj.rest, "template");
    let labels = at(&obj.rest, "template.metadata.labels").map(|labels| json!({ "matchLabels": labels }));
    vec![table::name(&obj.metadata), names, images, super::json::selector(labels.as_ref())]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::kinds::testing::json::{causes, row};
    use expect_test::expect;

    #[test]
    fn what_is_wrong_is_named() {
        expect![[r#"
            template.spec.containers: Required value
        "#]]
        .assert_eq(&causes(&POD_TEMPLATES, "template: {spec: {containers: []}}"));
    }

    #[test]
    fn a_row_reads_as_in_kubernetes() {
        let template =
            "metadata: {name: t}\ntemplate: {metadata: {labels: {a: b}}, spec: {containers: [{name: c, image: i}]}}";
        assert_eq!(row(&POD_TEMPLATES, template), "t | c | i | a=b");
    }
}
