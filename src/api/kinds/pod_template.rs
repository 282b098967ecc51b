//! What owners of pods have in common: their template, their selector, their counts.
//!
//! Called by `deployment`, `replica_set` and `replication_controller`.
//!
//! **Source**: `pkg/apis/apps/validation/validation.go` and `pkg/apis/core/validation/validation.go`, v1.37.

use super::{
    check::{self, Errors},
    part,
    pod_spec::{self, Of},
};
use crate::api::{field::FieldError, names, selector::LabelSelector, table::Column};
use k8s_openapi::{api::core::v1::PodTemplateSpec, apimachinery::pkg::apis::meta::v1::LabelSelector as ApiSelector};
use std::collections::BTreeMap;

/// The columns of ReplicaSets and ReplicationControllers.
pub(super) const COLUMNS: &[Column<'_>] = &[
    Column::name(),
    Column::number("Desired", "How many pods are wanted."),
    Column::number("Current", "How many pods there are."),
    Column::number("Ready", "How many pods are ready."),
    Column::age(),
    Column::text("Containers", "The names of the template's containers.").wide(),
    Column::text("Images", "The images of the template's containers.").wide(),
    Column::text("Selector", "The labels of the pods that belong to it.").wide(),
];

/// Checks a selector that must pick something, and a template that it must pick.
pub(super) fn check_selected(errs: &mut Errors, selector: &ApiSelector, template: &PodTemplateSpec, owner: &str) {
    let is_empty = selector.match_labels.as_ref().is_none_or(BTreeMap::is_empty)
        && selector.match_expressions.as_ref().is_none_or(Vec::is_empty);
    if is_empty {
        errs.push(FieldError::required("spec.selector", ""));
    }
    errs.extend(names::check_label_selector(selector, "spec.selector"));
    let parsed = if is_empty { Ok(LabelSelector::nothing()) } else { LabelSelector::from_api(selector) };
    match parsed {
        Ok(parsed) => check_template(errs, &parsed, template, owner),
        Err(_) => errs.push(FieldError::invalid("spec.selector", selector, "invalid label selector")),
    }
}

/// Checks the template of an owner that keeps its pods running.
pub(super) fn check_template(errs: &mut Errors, selector: &LabelSelector, template: &PodTemplateSpec, owner: &str) {
    let meta = part(&template.metadata);
    let labels = part(&meta.labels);
    if !selector.is_empty() && !selector.matches(&*labels) {
        errs.push(FieldError::invalid(
            "spec.template.metadata.labels",
            &meta.labels,
            "`selector` does not match template `labels`",
        ));
    }
    errs.extend(names::check_labels(&labels, "spec.template.labels"));
    errs.extend(names::check_annotations(&part(&meta.annotations), "spec.template.annotations"));
    let spec = part(&template.spec);
    errs.extend(pod_spec::validate(&spec, "spec.template.spec", Of::Template));
    if spec.ephemeral_containers.as_ref().is_some_and(|c| !c.is_empty()) {
        let why = "ephemeral containers not allowed in pod template";
        errs.push(FieldError::forbidden("spec.template.spec.ephemeralContainers", why));
    }
    let restart_policy = spec.restart_policy.as_deref().unwrap_or_default();
    if restart_policy != "Always" {
        errs.push(FieldError::not_supported("spec.template.spec.restartPolicy", restart_policy, &["Always"]));
    }
    if spec.active_deadline_seconds.is_some() {
        let why = format!("activeDeadlineSeconds in {owner} is not Supported");
        errs.push(FieldError::forbidden("spec.template.spec.activeDeadlineSeconds", why));
    }
}

/// The warnings for a template.
pub(super) fn warnings(template: Option<&PodTemplateSpec>) -> Vec<String> {
    let spec = template.and_then(|t| t.spec.as_ref());
    spec.map(|s| pod_spec::warnings(s, "spec.template.spec")).unwrap_or_default()
}

/// The counts of a status.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    pub(super) replicas: i32,
    pub(super) ready: i32,
    pub(super) available: i32,
    /// Name and number of the kind's own part of the replicas, e.g. `updatedReplicas`.
    pub(super) own: (&'static str, i32),
}

impl Counts {
    /// No count is negative, and no part is more than the whole.
    pub(super) fn check(self, errs: &mut Errors) {
        let parts = [self.own, ("readyReplicas", self.ready), ("availableReplicas", self.available)];
        for (name, count) in [("replicas", self.replicas)].into_iter().chain(parts) {
            check::non_negative(errs, format!("status.{name}"), Some(count));
        }
        for (name, count) in parts.into_iter().filter(|(_, count)| *count > self.replicas) {
            let why = "cannot be greater than status.replicas";
            errs.push(FieldError::invalid(format!("status.{name}"), count, why));
        }
        if self.available > self.ready {
            let why = "cannot be greater than readyReplicas";
            errs.push(FieldError::invalid("status.availableReplicas", self.available, why));
        }
    }
}

/// The text of a selector; empty when it is not one.
pub(super) fn selector_text(selector: &ApiSelector) -> String {
    LabelSelector::from_api(selector).map(|s| s.to_string()).unwrap_or_default()
}
