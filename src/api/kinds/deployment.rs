//! `Deployment`, apps/v1.
//!
//! **Source**: `pkg/apis/apps/{v1/defaults,validation/validation}.go`, `pkg/registry/apps/deployment/strategy.go`, v1.37.

use super::{
    check::{self, Errors},
    part,
    pod_spec::defaults,
    pod_template::{self, Counts, check_selected},
};
use crate::api::{
    field::FieldError,
    kind::{ALL_VERBS, Kind, KindInfo, SCALE, STATUS, ScaleView, Scope},
    selector::LabelSelector,
    table::{self, Column},
};
use jiff::Timestamp;
use k8s_openapi::{
    api::apps::v1::{Deployment, DeploymentSpec, DeploymentStatus, DeploymentStrategy, RollingUpdateDeployment},
    apimachinery::pkg::{apis::meta::v1::ObjectMeta, util::intstr::IntOrString},
};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The annotation in which the controller keeps the number of the rollout.
pub const REVISION_ANNOTATION: &str = "deployment.kubernetes.io/revision";

/// The kind `Deployment`.
#[derive(Debug)]
pub struct Deployments;

impl Kind for Deployments {
    type Object = Deployment;
    const INFO: KindInfo = KindInfo {
        group: "apps",
        version: "v1",
        kind: "Deployment",
        plural: "deployments",
        singular: "deployment",
        short_names: &["deploy"],
        categories: &["all"],
        scope: Scope::Namespaced,
        verbs: ALL_VERBS,
        subresources: &[SCALE, STATUS],
        columns: &[
            Column::name(),
            Column::text("Ready", "How many pods are ready, of how many are wanted."),
            Column::text("Up-to-date", "How many pods have the current template."),
            Column::text("Available", "How many pods have been ready for long enough."),
            Column::age(),
            Column::text("Containers", "The names of the template's containers.").wide(),
            Column::text("Images", "The images of the template's containers.").wide(),
            Column::text("Selector", "The labels of the pods that belong to it.").wide(),
        ],
        stored_as: None,
        schema: "io.k8s.api.apps.v1.Deployment",
    };

    fn set_defaults(obj: &mut Deployment) {
        let spec = &mut obj.spec;
        spec.replicas.get_or_insert(1);
        spec.revision_history_limit.get_or_insert(10);
        spec.progress_deadline_seconds.get_or_insert(600);
        default_strategy(spec.strategy.get_or_insert_default());
        defaults::template(&mut spec.template);
        obj.status.get_or_insert_default();
    }

    fn prepare_create(obj: &mut Deployment) {
        obj.status = Some(DeploymentStatus::default());
    }

    fn validate(obj: &Deployment) -> Errors {
        let mut errs = Errors::new();
        validate_spec(&mut errs, &obj.spec);
        errs
    }

    fn prepare_update(new: &mut Deployment, old: &Deployment) {
        new.status.clone_from(&old.status);
    }

    fn validate_update(new: &Deployment, old: &Deployment) -> Errors {
        let mut errs = Errors::new();
        check::immutable(&mut errs, "spec.selector", &new.spec.selector, &old.spec.selector);
        errs
    }

    fn prepare_status(new: &mut Deployment, old: &Deployment) {
        new.spec.clone_from(&old.spec);
        new.metadata.labels.clone_from(&old.metadata.labels);
    }

    fn validate_status(new: &Deployment, old: &Deployment) -> Errors {
        let mut errs = Errors::new();
        let status = part(&new.status);
        counts(&status).check(&mut errs);
        check::non_negative(&mut errs, "status.observedGeneration", status.observed_generation);
        check::non_negative(&mut errs, "status.unavailableReplicas", status.unavailable_replicas);
        check::non_negative(&mut errs, "status.terminatingReplicas", status.terminating_replicas);
        let collisions = |d: &Deployment| d.status.as_ref().and_then(|s| s.collision_count);
        if collisions(old) > collisions(new) {
            let why = "cannot be decremented";
            errs.push(FieldError::invalid("status.collisionCount", collisions(new), why));
        }
        errs
    }

    /// Annotations count as spec, because they are copied to the ReplicaSets; but not the one that the controller itself writes.
    fn same_spec(new: &Deployment, old: &Deployment) -> bool {
        new.spec == old.spec && own_annotations(&new.metadata) == own_annotations(&old.metadata)
    }

    fn row(obj: &Deployment, now: Timestamp) -> Vec<Value> {
        let spec = &obj.spec;
        let status = part(&obj.status);
        let (ready, wanted) = (status.ready_replicas.unwrap_or(0), spec.replicas.unwrap_or(0));
        let selector = LabelSelector::from_api(&spec.selector);
        let [names, images] = table::containers(spec.template.spec.as_ref());
        vec![
            table::name(&obj.metadata),
            json!(format!("{ready}/{wanted}")),
            json!(status.updated_replicas.unwrap_or(0)),
            json!(status.available_replicas.unwrap_or(0)),
            table::age(&obj.metadata, now),
            names,
            images,
            json!(selector.map_or_else(|_| "<invalid>".to_owned(), |s| s.to_string())),
        ]
    }

    fn scale(obj: &Deployment) -> Option<ScaleView> {
        let spec = &obj.spec;
        Some(ScaleView {
            spec_replicas: spec.replicas.unwrap_or(0),
            status_replicas: obj.status.as_ref().and_then(|s| s.replicas).unwrap_or(0),
            selector: pod_template::selector_text(&spec.selector),
        })
    }

    fn set_scale(obj: &mut Deployment, replicas: i32) {
        obj.spec.replicas = Some(replicas);
    }

    fn warnings(obj: &Deployment) -> Vec<String> {
        pod_template::warnings(Some(&obj.spec.template))
    }
}

fn own_annotations(meta: &ObjectMeta) -> BTreeMap<&str, &str> {
    let all = meta.annotations.iter().flatten().map(|(k, v)| (k.as_str(), v.as_str()));
    all.filter(|(k, _)| *k != REVISION_ANNOTATION).collect()
}

fn counts(status: &DeploymentStatus) -> Counts {
    Counts {
        replicas: status.replicas.unwrap_or(0),
        ready: status.ready_replicas.unwrap_or(0),
        available: status.available_replicas.unwrap_or(0),
        own: ("updatedReplicas", status.updated_replicas.unwrap_or(0)),
    }
}

fn default_strategy(strategy: &mut DeploymentStrategy) {
    defaults::text(&mut strategy.type_, "RollingUpdate");
    if strategy.type_.as_deref() == Some("RollingUpdate") {
        let quarter = || IntOrString::String("25%".to_owned());
        let rolling = strategy.rolling_update.get_or_insert_default();
        rolling.max_unavailable.get_or_insert_with(quarter);
        rolling.max_surge.get_or_insert_with(quarter);
    }
}

fn validate_spec(errs: &mut Errors, spec: &DeploymentSpec) {
    check::non_negative(errs, "spec.replicas", spec.replicas);
    check_selected(errs, &spec.selector, &spec.template, "ReplicaSet");
    validate_strategy(errs, &part(&spec.strategy));
    check::non_negative(errs, "spec.minReadySeconds", spec.min_ready_seconds);
    check::non_negative(errs, "spec.revisionHistoryLimit", spec.revision_history_limit);
    check::non_negative(errs, "spec.progressDeadlineSeconds", spec.progress_deadline_seconds);
    if let Some(deadline) = spec.progress_deadline_seconds.filter(|d| *d <= spec.min_ready_seconds.unwrap_or(0)) {
        let why = "must be greater than minReadySeconds";
        errs.push(FieldError::invalid("spec.progressDeadlineSeconds", deadline, why));
    }
}

fn validate_strategy(errs: &mut Errors, strategy: &DeploymentStrategy) {
    let at = "spec.strategy.rollingUpdate";
    match (strategy.type_.as_deref().unwrap_or_default(), &strategy.rolling_update) {
        ("RollingUpdate", Some(rolling)) => validate_rolling(errs, rolling, at),
        ("RollingUpdate", None) => {
            errs.push(FieldError::required(at, "this should be defaulted and never be nil"));
        }
        ("Recreate", None) => {}
        ("Recreate", Some(_)) => {
            errs.push(FieldError::forbidden(at, "may not be specified when strategy `type` is 'Recreate'"));
        }
        (other, _) => {
            errs.push(FieldError::not_supported("spec.strategy.type", other, &["Recreate", "RollingUpdate"]));
        }
    }
}

fn validate_rolling(errs: &mut Errors, rolling: &RollingUpdateDeployment, path: &str) {
    let surge = rolling.max_surge.clone().unwrap_or_default();
    let unavailable = rolling.max_unavailable.clone().unwrap_or_default();
    let at = format!("{path}.maxUnavailable");
    number_or_percent(errs, &unavailable, &at);
    number_or_percent(errs, &surge, &format!("{path}.maxSurge"));
    let is_zero = |v: &IntOrString| {
        percent(v).unwrap_or(match v {
            IntOrString::Int(n) => u32::try_from(*n).unwrap_or(u32::MAX),
            IntOrString::String(_) => 0,
        }) == 0
    };
    if is_zero(&unavailable) && is_zero(&surge) {
        errs.push(FieldError::invalid(&at, &unavailable, "may not be 0 when `maxSurge` is 0"));
    }
    if percent(&unavailable).is_some_and(|p| p > 100) {
        errs.push(FieldError::invalid(at, &unavailable, "must not be greater than 100%"));
    }
}

fn percent(value: &IntOrString) -> Option<u32> {
    let IntOrString::String(text) = value else { return None };
    let digits = text.strip_suffix('%').filter(|d| !d.is_empty() && d.bytes().all(|b| b.is_ascii_digit()))?;
    Some(digits.parse().unwrap_or(u32::MAX))
}

fn number_or_percent(errs: &mut Errors, value: &IntOrString, path: &str) {
    match value {
        IntOrString::Int(number) => check::non_negative(errs, path, Some(*number)),
        IntOrString::String(_) if percent(value).is_some() => {}
        IntOrString::String(_) => {
            let text = "a valid percent string must be a numeric string followed by an ending '%'";
            let why = crate::api::names::not_matching(text, "[0-9]+%", &["1%", "93%"]);
            errs.push(FieldError::invalid(path, value, why));
        }
    }
}
