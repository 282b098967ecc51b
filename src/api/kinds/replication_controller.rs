//! `ReplicationController`, core/v1: a ReplicaSet with a selector of equalities, which its template's labels default.
//!
//! **Source**: `pkg/apis/core/{v1/defaults,validation/validation}.go`,
//! `pkg/registry/core/replicationcontroller/strategy.go`, v1.37.

use super::{
    check::{self, Errors},
    part,
    pod_spec::defaults,
    pod_template::{self, Counts},
};
use crate::api::{
    field::FieldError,
    kind::{ALL_VERBS, Kind, KindInfo, SCALE, STATUS, ScaleView, Scope},
    selector::{Fields, LabelSelector},
    table,
};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ReplicationController, ReplicationControllerStatus};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The kind `ReplicationController`.
#[derive(Debug)]
pub struct ReplicationControllers;

impl Kind for ReplicationControllers {
    type Object = ReplicationController;
    const INFO: KindInfo<'static> = KindInfo {
        group: "",
        version: "v1",
        kind: "ReplicationController",
        plural: "replicationcontrollers",
        singular: "replicationcontroller",
        short_names: &["rc"],
        categories: &["all"],
        scope: Scope::Namespaced,
        verbs: ALL_VERBS,
        subresources: &[SCALE, STATUS],
        columns: pod_template::COLUMNS,
        stored_as: None,
        schema: "io.k8s.api.core.v1.ReplicationController",
    };

    fn set_defaults(obj: &mut ReplicationController) {
        let spec = obj.spec.get_or_insert_default();
        spec.replicas.get_or_insert(1);
        obj.status.get_or_insert_default();
        let Some(template) = &mut spec.template else { return };
        defaults::template(template);
        let Some(labels) = template.metadata.as_ref().and_then(|m| m.labels.as_ref()) else { return };
        let is_empty = |m: &Option<BTreeMap<String, String>>| m.as_ref().is_none_or(BTreeMap::is_empty);
        if is_empty(&spec.selector) {
            spec.selector = Some(labels.clone());
        }
        if is_empty(&obj.metadata.labels) {
            obj.metadata.labels = Some(labels.clone());
        }
    }

    fn prepare_create(obj: &mut ReplicationController) {
        obj.status = Some(ReplicationControllerStatus::default());
    }

    fn validate(obj: &ReplicationController) -> Errors {
        let mut errs = Errors::new();
        let spec = part(&obj.spec);
        check::non_negative(&mut errs, "spec.minReadySeconds", spec.min_ready_seconds);
        let selector = LabelSelector::from_map(&part(&spec.selector));
        if selector.is_empty() {
            errs.push(FieldError::required("spec.selector", ""));
        }
        check::non_negative(&mut errs, "spec.replicas", spec.replicas);
        match &spec.template {
            None => errs.push(FieldError::required("spec.template", "")),
            Some(template) => {
                pod_template::check_template(&mut errs, &selector, template, "ReplicationController");
            }
        }
        errs
    }

    fn prepare_update(new: &mut ReplicationController, old: &ReplicationController) {
        new.status.clone_from(&old.status);
    }

    fn prepare_status(new: &mut ReplicationController, old: &ReplicationController) {
        new.spec.clone_from(&old.spec);
    }

    fn validate_status(new: &ReplicationController, _old: &ReplicationController) -> Errors {
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
        errs
    }

    fn same_spec(new: &ReplicationController, old: &ReplicationController) -> bool {
        new.spec == old.spec
    }

    fn field_labels() -> &'static [(&'static str, &'static str)] {
        &[("status.replicas", "status.replicas")]
    }

    fn selectable_fields(obj: &ReplicationController) -> Fields<'static> {
        let replicas = obj.status.as_ref().map_or(0, |s| s.replicas);
        Fields::from([("status.replicas", replicas.to_string())])
    }

    fn row(obj: &ReplicationController, now: Timestamp) -> Vec<Value> {
        let spec = part(&obj.spec);
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
            table::labels(spec.selector.as_ref()),
        ]
    }

    fn scale(obj: &ReplicationController) -> Option<ScaleView> {
        let spec = part(&obj.spec);
        Some(ScaleView {
            spec_replicas: spec.replicas.unwrap_or(0),
            status_replicas: obj.status.as_ref().map_or(0, |s| s.replicas),
            selector: LabelSelector::from_map(&part(&spec.selector)).to_string(),
        })
    }

    fn set_scale(obj: &mut ReplicationController, replicas: i32) {
        obj.spec.get_or_insert_default().replicas = Some(replicas);
    }

    fn warnings(obj: &ReplicationController) -> Vec<String> {
        pod_template::warnings(obj.spec.as_ref().and_then(|s| s.template.as_ref()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::kinds::testing::{causes, created, row};
    use expect_test::expect;

    const WEB: &str = "
metadata: {name: web, namespace: default, creationTimestamp: '2026-03-01T11:59:00Z'}
spec:
  replicas: 2
  template:
    metadata: {labels: {app: web, tier: front}}
    spec: {containers: [{name: a, image: one}]}
";

    #[test]
    fn selector_and_labels_come_from_the_template() {
        let web = created::<ReplicationControllers>(WEB);
        let labels = Some(BTreeMap::from([("app".into(), "web".into()), ("tier".into(), "front".into())]));
        assert_eq!((web.spec.unwrap().selector, web.metadata.labels), (labels.clone(), labels));
        assert_eq!(causes::<ReplicationControllers>(WEB), "");
    }

    #[test]
    fn what_is_wrong_is_named() {
        expect![[r#"
            spec.selector: Required value
            spec.replicas: Invalid value: -1: must be greater than or equal to 0
            spec.template: Required value
        "#]]
        .assert_eq(&causes::<ReplicationControllers>("spec: {replicas: -1}"));
        let other = WEB
            .replace("  replicas: 2", "  selector: {app: shop}")
            .replace("spec: {c", "spec: {activeDeadlineSeconds: 9, c");
        expect![[r#"
            spec.template.metadata.labels: Invalid value: {"app":"web","tier":"front"}: `selector` does not match template `labels`
            spec.template.spec.activeDeadlineSeconds: Forbidden: activeDeadlineSeconds in ReplicationController is not Supported
        "#]].assert_eq(&causes::<ReplicationControllers>(&other));
    }

    #[test]
    fn a_row_reads_as_in_kubernetes() {
        let defaulted = serde_yaml::to_string(&created::<ReplicationControllers>(WEB)).unwrap();
        expect!["web | 2 | 0 | 0 | 60s | a | one | app=web,tier=front"]
            .assert_eq(&row::<ReplicationControllers>(&defaulted));
    }
}
