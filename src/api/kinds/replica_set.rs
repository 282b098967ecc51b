//! `ReplicaSet`, apps/v1.
//!
//! **Source**: `pkg/apis/apps/{v1/defaults,validation/validation}.go`, `pkg/registry/apps/replicaset/strategy.go`, v1.37.

use super::{
    check::{self, Errors},
    part,
    pod_spec::defaults,
    pod_template::{self, Counts, check_selected},
};
use crate::api::{
    kind::{ALL_VERBS, Kind, KindInfo, SCALE, STATUS, ScaleView, Scope},
    selector::Fields,
    table,
};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetStatus};
use serde_json::{Value, json};

/// The kind `ReplicaSet`.
#[derive(Debug)]
pub struct ReplicaSets;

impl Kind for ReplicaSets {
    type Object = ReplicaSet;
    const INFO: KindInfo<'static> = KindInfo {
        group: "apps",
        version: "v1",
        kind: "ReplicaSet",
        plural: "replicasets",
        singular: "replicaset",
        short_names: &["rs"],
        categories: &["all"],
        scope: Scope::Namespaced,
        verbs: ALL_VERBS,
        subresources: &[SCALE, STATUS],
        columns: pod_template::COLUMNS,
        stored_as: None,
        schema: "io.k8s.api.apps.v1.ReplicaSet",
    };

    fn set_defaults(obj: &mut ReplicaSet) {
        let spec = &mut obj.spec;
        spec.replicas.get_or_insert(1);
        defaults::template(spec.template.get_or_insert_default());
        obj.status.get_or_insert_default();
    }

    fn prepare_create(obj: &mut ReplicaSet) {
        obj.status = Some(ReplicaSetStatus::default());
    }

    fn validate(obj: &ReplicaSet) -> Errors {
        let mut errs = Errors::new();
        let spec = &obj.spec;
        check::non_negative(&mut errs, "spec.replicas", spec.replicas);
        check::non_negative(&mut errs, "spec.minReadySeconds", spec.min_ready_seconds);
        check_selected(&mut errs, &spec.selector, &part(&spec.template), "ReplicaSet");
        errs
    }

    fn prepare_update(new: &mut ReplicaSet, old: &ReplicaSet) {
        new.status.clone_from(&old.status);
    }

    fn validate_update(new: &ReplicaSet, old: &ReplicaSet) -> Errors {
        let mut errs = Errors::new();
        check::immutable(&mut errs, "spec.selector", &new.spec.selector, &old.spec.selector);
        errs
    }

    fn prepare_status(new: &mut ReplicaSet, old: &ReplicaSet) {
        new.spec.clone_from(&old.spec);
    }

    fn validate_status(new: &ReplicaSet, _old: &ReplicaSet) -> Errors {
        let mut errs = Errors::new();
        let status = part(&new.status);
        let counts = Counts {
            replicas: status.replicas,
            ready: status.ready_replicas.unwrap_or(0),
            available: status.available_replicas.unwrap_or(0),
            own: ("fullyLabeledReplicas", status.fully_labeled_replicas.unwrap_or(0)),
        };
        counts.check(&mut errs);
        check::non_negative(&mut errs, "status.observedGeneration", status.observed_generation);
        check::non_negative(&mut errs, "status.terminatingReplicas", status.terminating_replicas);
        errs
    }

    fn same_spec(new: &ReplicaSet, old: &ReplicaSet) -> bool {
        new.spec == old.spec
    }

    fn field_labels() -> &'static [(&'static str, &'static str)] {
        &[("status.replicas", "status.replicas")]
    }

    fn selectable_fields(obj: &ReplicaSet) -> Fields<'static> {
        let replicas = obj.status.as_ref().map_or(0, |s| s.replicas);
        Fields::from([("status.replicas", replicas.to_string())])
    }

    fn row(obj: &ReplicaSet, now: Timestamp) -> Vec<Value> {
        let spec = &obj.spec;
        let status = part(&obj.status);
        let [names, images] = table::containers(spec.template.as_ref().and_then(|t| t.spec.as_ref()));
        vec![
            table::name(&obj.metadata),
            json!(spec.replicas.unwrap_or(0)),
            json!(status.replicas),
            json!(status.ready_replicas.unwrap_or(0)),
            table::age(&obj.metadata, now),
            names,
            images,
            table::or(&pod_template::selector_text(&spec.selector), table::NONE),
        ]
    }

    fn scale(obj: &ReplicaSet) -> Option<ScaleView> {
        let spec = &obj.spec;
        Some(ScaleView {
            spec_replicas: spec.replicas.unwrap_or(0),
            status_replicas: obj.status.as_ref().map_or(0, |s| s.replicas),
            selector: pod_template::selector_text(&spec.selector),
        })
    }

    fn set_scale(obj: &mut ReplicaSet, replicas: i32) {
        obj.spec.replicas = Some(replicas);
    }

    fn warnings(obj: &ReplicaSet) -> Vec<String> {
        pod_template::warnings(obj.spec.template.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::kinds::testing::{causes, created_yaml, row, update_causes};
    use expect_test::expect;

    const WEB: &str = "
metadata: {name: web, namespace: default, creationTimestamp: '2026-03-01T11:59:00Z'}
spec:
  selector: {matchExpressions: [{key: app, operator: In, values: [web, shop]}]}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: a, image: one}, {name: b, image: 'two:2'}]}
";

    #[test]
    fn one_replica_is_wanted_unless_said() {
        assert!(created_yaml::<ReplicaSets>(WEB).contains("replicas: 1\n"));
        assert_eq!(causes::<ReplicaSets>(WEB), "");
    }

    #[test]
    fn the_template_must_be_picked_and_the_selector_stays() {
        let other = WEB.replace("[web, shop]", "[shop]");
        expect![[r#"
            spec.template.metadata.labels: Invalid value: {"app":"web"}: `selector` does not match template `labels`
            spec.selector: Invalid value: {"matchExpressions":[{"key":"app","operator":"In","values":["shop"]}]}: field is immutable
        "#]].assert_eq(&update_causes::<ReplicaSets>(WEB, &other));
        expect![[r#"
            spec.minReadySeconds: Invalid value: -1: must be greater than or equal to 0
            spec.selector: Required value
            spec.template.metadata.labels: Invalid value: null: `selector` does not match template `labels`
            spec.template.spec.containers: Required value
        "#]]
        .assert_eq(&causes::<ReplicaSets>("spec: {minReadySeconds: -1}"));
    }

    #[test]
    fn a_row_reads_as_in_kubernetes() {
        let status = "status: {replicas: 2, readyReplicas: 1}";
        expect!["web | 0 | 2 | 1 | 60s | a,b | one,two:2 | app in (shop,web)"]
            .assert_eq(&row::<ReplicaSets>(&format!("{WEB}{status}")));
    }
}
