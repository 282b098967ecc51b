//! What the kinds have in common whose objects hold a pod template and are served from their schema: StatefulSets, DaemonSets, Jobs,
//! CronJobs and PodTemplates.
//!
//! **Source**: `pkg/apis/apps/validation/validation.go`, `pkg/apis/batch/validation/validation.go`, v1.37.

use super::{
    json::{self, Errors},
    pod_spec::{self, Of},
    pod_template,
};
use crate::api::{
    field::FieldError,
    json_kind::{at, set_at},
    object::{Untyped, untyped},
    table,
};
use crate::base::json::typed;
use k8s_openapi::{api::core::v1::PodTemplateSpec, apimachinery::pkg::apis::meta::v1::LabelSelector as ApiSelector};
use serde_json::{Map, Value};

/// The pod template at a path, if there is one.
pub(super) fn template(fields: &Map<String, Value>, path: &str) -> Option<PodTemplateSpec> {
    typed(at(fields, path)?.clone()).ok()
}

/// Fills in the defaults of the pod template at a path.
pub(super) fn template_defaults(fields: &mut Map<String, Value>, path: &str) {
    if let Some(mut template) = template(fields, path) {
        pod_spec::defaults::template(&mut template);
        set_at(fields, path, untyped(&template));
    }
}

/// What is wrong with `spec.selector` and `spec.template`, of an owner that keeps its pods running.
pub(super) fn check_selected(errs: &mut Errors, obj: &Untyped, owner: &str) {
    let selector =
        at(&obj.rest, "spec.selector").and_then(|s| typed::<ApiSelector>(s.clone()).ok()).unwrap_or_default();
    let template = template(&obj.rest, "spec.template").unwrap_or_default();
    pod_template::check_selected(errs, &selector, &template, owner);
}

/// What is wrong with the template of pods that run to an end.
pub(super) fn check_finite(errs: &mut Errors, fields: &Map<String, Value>, path: &str) {
    let spec = template(fields, path).and_then(|t| t.spec).unwrap_or_default();
    errs.extend(pod_spec::validate(&spec, &format!("{path}.spec"), Of::Template));
    let policy = spec.restart_policy.as_deref().unwrap_or_default();
    let path = format!("{path}.spec.restartPolicy");
    match policy {
        "Never" | "OnFailure" => {}
        // A default may have put `Always` there.
        "Always" | "" => errs.push(FieldError::required(path, "valid values: \"OnFailure\", \"Never\"")),
        _ => errs.push(FieldError::not_supported(path, policy, &["OnFailure", "Never"])),
    }
}

/// Two cells: the names and the images of the template's containers.
pub(super) fn containers(fields: &Map<String, Value>, path: &str) -> [Value; 2] {
    table::containers(template(fields, path).and_then(|t| t.spec).as_ref())
}

/// The cell of a label selector at a path.
pub(super) fn selector(fields: &Map<String, Value>, path: &str) -> Value {
    json::selector(at(fields, path))
}

/// The only fields of a spec that an update may change.
pub(super) fn fixed_but(new: &Untyped, old: &Untyped, free: &[&str], why: &str) -> Errors {
    let fixed = |obj: &Untyped| {
        let mut spec = at(&obj.rest, "spec").and_then(Value::as_object).cloned().unwrap_or_default();
        spec.retain(|field, _| !free.contains(&field.as_str()));
        spec
    };
    if fixed(new) == fixed(old) { Errors::new() } else { vec![FieldError::forbidden("spec", why)] }
}
