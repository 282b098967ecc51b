//! `DaemonSet`, apps/v1.
//!
//! **Source**: `pkg/apis/apps/validation/validation.go`, `pkg/apis/apps/v1/defaults.go`, v1.37.

use super::{
    json::{self, Errors},
    workload,
};
use crate::api::{
    json_kind::{JsonKind, Rules, at, default_at, text_at, typed_json_kind},
    kind::{KindInfo, STATUS, Scope},
    object::Untyped,
    table::{self, Column},
};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::DaemonSet;
use serde_json::{Value, json};

/// The kind `DaemonSet`.
pub static DAEMON_SETS: JsonKind = JsonKind::new(
    KindInfo {
        short_names: &["ds"],
        categories: &["all"],
        subresources: &[STATUS],
        columns: &[
            Column::name(),
            Column::number("Desired", "How many nodes should run its pod."),
            Column::number("Current", "How many nodes run its pod."),
            Column::number("Ready", "How many of its pods are ready."),
            Column::number("Up-to-date", "How many of its pods are of the newest template."),
            Column::number("Available", "How many of its pods are available."),
            Column::text("Node Selector", "The labels of the nodes that run its pod."),
            Column::age(),
            Column::text("Containers", "The names of the template's containers.").wide(),
            Column::text("Images", "The images of the template's containers.").wide(),
            Column::text("Selector", "The labels of the pods that belong to it.").wide(),
        ],
        ..KindInfo::of(
            ("apps", "v1", "DaemonSet"),
            ("daemonsets", "daemonset"),
            Scope::Namespaced,
            "io.k8s.api.apps.v1.DaemonSet",
        )
    },
    Rules {
        set_defaults,
        validate,
        validate_update: |new, old| json::immutable(&new.rest, &old.rest, "spec.selector", "field is immutable"),
        row,
        has_generation: true,
        ..Rules::PLAIN
    },
);

typed_json_kind! {
    /// DaemonSets as their controller has them.
    pub DAEMON_SETS => DaemonSets: DaemonSet
}

fn set_defaults(obj: &mut Untyped) {
    let fields = &mut obj.rest;
    default_at(fields, "spec.updateStrategy.type", "RollingUpdate");
    if text_at(fields, "spec.updateStrategy.type") == "RollingUpdate" {
        default_at(fields, "spec.updateStrategy.rollingUpdate.maxUnavailable", 1);
        default_at(fields, "spec.updateStrategy.rollingUpdate.maxSurge", 0);
    }
    default_at(fields, "spec.revisionHistoryLimit", 10);
    workload::template_defaults(fields, "spec.template");
}

fn validate(obj: &Untyped) -> Errors {
    let mut errs = Errors::new();
    let fields = &obj.rest;
    workload::check_selected(&mut errs, obj, "DaemonSet");
    json::one_of(&mut errs, fields, "spec.updateStrategy.type", &["OnDelete", "RollingUpdate"]);
    for field in ["maxSurge", "maxUnavailable"] {
        let path = format!("spec.updateStrategy.rollingUpdate.{field}");
        if let Some(value) = at(fields, &path) {
            json::count_or_percent(&mut errs, &path, value);
        }
    }
    for field in ["spec.minReadySeconds", "spec.revisionHistoryLimit"] {
        json::non_negative(&mut errs, fields, field);
    }
    errs
}

fn row(obj: &Untyped, now: Timestamp) -> Vec<Value> {
    let fields = &obj.rest;
    let number = |path| json::number(fields, path);
    let [names, images] = workload::containers(fields, "spec.template");
    let nodes = at(fields, "spec.template.spec.nodeSelector").map(|labels| json!({ "matchLabels": labels }));
    vec![
        table::name(&obj.metadata),
        number("status.desiredNumberScheduled"),
        number("status.currentNumberScheduled"),
        number("status.numberReady"),
        number("status.updatedNumberScheduled"),
        number("status.numberAvailable"),
        json::selector(nodes.as_ref()),
        table::age(&obj.metadata, now),
        names,
        images,
        workload::selector(fields, "spec.selector"),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::kinds::testing::json::{causes, row, update_causes};
    use expect_test::expect;

    const LOGS: &str = "metadata: {name: l}\nspec: {selector: {matchLabels: {app: l}}, template: {metadata: {labels: {app: l}}, spec: {nodeSelector: {disk: ssd}, containers: [{name: c, image: i}]}}}";

    #[test]
    fn what_is_wrong_is_named() {
        assert_eq!(causes(&DAEMON_SETS, LOGS), "");
        expect![[r#"
            spec.selector: Required value
            spec.template.metadata.labels: Invalid value: null: `selector` does not match template `labels`
            spec.template.spec.restartPolicy: Unsupported value: "Never": supported values: "Always"
            spec.updateStrategy.rollingUpdate.maxSurge: Invalid value: "x": a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')
            spec.minReadySeconds: Invalid value: -1: must be greater than or equal to 0
        "#]].assert_eq(&causes(&DAEMON_SETS, "spec: {minReadySeconds: -1, updateStrategy: {rollingUpdate: {maxSurge: x}}, template: {spec: {restartPolicy: Never, containers: [{name: c, image: i}]}}}"));
        expect![[r#"
            spec.selector: Invalid value: {"matchLabels":{"app":"m"}}: field is immutable
        "#]]
        .assert_eq(&update_causes(&DAEMON_SETS, LOGS, &LOGS.replace("app: l", "app: m")));
    }

    #[test]
    fn a_row_reads_as_in_kubernetes() {
        assert_eq!(row(&DAEMON_SETS, LOGS), "l | 0 | 0 | 0 | 0 | 0 | disk=ssd | <unknown> | c | i | app=l");
    }
}
