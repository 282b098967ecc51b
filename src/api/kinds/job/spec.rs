//! What is wrong with a job's spec, and with a change of one.
//!
//! **Source**: `validateJobSpec` and `ValidateJobSpecUpdate`, pkg/apis/batch/validation/validation.go, v1.37.

use super::policies;
use crate::api::{
    field::FieldError,
    json_kind::{at, set_at, text_at},
    kinds::{
        check,
        json::{self, Errors},
        workload,
    },
    names,
    object::Untyped,
};
use crate::base::json::typed;
use k8s_openapi::api::batch::v1::JobSpec;
use serde_json::{Map, Value, json};

/// The most pods that an indexed job runs at once, and the most of its indexes that may fail: their list is in the status.
const INDEXES_MAX: i32 = 100_000;
/// So many completions with a limit for each index make both numbers smaller.
const COMPLETIONS_SOFT_MAX: i32 = 100_000;
const HIGH_COMPLETIONS_MAX: i32 = 10_000;
const MANAGED_BY_BYTES_MAX: usize = 63;
/// What an HTTP path may have. Source: `httpPathFmt`, k8s.io/apimachinery/pkg/util/validation.
const HTTP_PATH: &str = r"[A-Za-z0-9/\-._~%!$&'()*+,;=:]+";

/// What is wrong with the spec at `path`, whoever holds it.
pub(in crate::api::kinds) fn check_spec(errs: &mut Errors, fields: &Map<String, Value>, path: &str) {
    let of = |field: &str| format!("{path}.{field}");
    let spec: JobSpec = at(fields, path).and_then(|spec| typed(spec.clone()).ok()).unwrap_or_default();
    for field in [
        "parallelism",
        "completions",
        "activeDeadlineSeconds",
        "backoffLimit",
        "ttlSecondsAfterFinished",
        "backoffLimitPerIndex",
        "maxFailedIndexes",
    ] {
        json::non_negative(errs, fields, &of(field));
    }
    if spec.max_failed_indexes.is_some() && spec.backoff_limit_per_index.is_none() {
        errs.push(FieldError::required(of("backoffLimitPerIndex"), "when maxFailedIndexes is specified"));
    }
    if let Some(manager) = &spec.managed_by {
        managed_by(errs, &of("managedBy"), manager);
    }
    json::one_of(errs, fields, &of("completionMode"), &["NonIndexed", "Indexed"]);
    if is_indexed(&spec) {
        indexed(errs, &spec, &of);
    } else {
        not_indexed(errs, &spec, &of);
    }
    policies::check(errs, &spec, path);
    replacement(errs, &spec, of("podReplacementPolicy"));
    workload::check_finite(errs, fields, &of("template"));
    if spec.pod_failure_policy.is_some() && text_at(fields, &of("template.spec.restartPolicy")) == "OnFailure" {
        let why = "only \"Never\" is supported when podFailurePolicy is specified";
        errs.push(FieldError::invalid(of("template.spec.restartPolicy"), "OnFailure", why));
    }
}

pub(super) fn is_indexed(spec: &JobSpec) -> bool {
    spec.completion_mode.as_deref() == Some("Indexed")
}

/// Source: `IsDomainPrefixedPath`, k8s.io/apimachinery/pkg/util/validation.
fn managed_by(errs: &mut Errors, path: &str, manager: &str) {
    match manager.split_once('/') {
        _ if manager.is_empty() => errs.push(FieldError::required(path, "")),
        Some((host, rest)) if !host.is_empty() && !rest.is_empty() => {
            check::subdomain(errs, path, host);
            let is_allowed = |c: char| c.is_ascii_alphanumeric() || "/-._~%!$&'()*+,;=:".contains(c);
            if !rest.chars().all(is_allowed) {
                errs.push(FieldError::invalid(path, rest, names::not_matching("Invalid path", HTTP_PATH, &[])));
            }
        }
        _ => {
            let why = "must be a domain-prefixed path (such as \"acme.io/foo\")";
            errs.push(FieldError::invalid(path, manager, why));
        }
    }
    if manager.len() > MANAGED_BY_BYTES_MAX {
        errs.push(FieldError::too_long(path, MANAGED_BY_BYTES_MAX));
    }
}

fn at_most(errs: &mut Errors, path: String, value: Option<i32>, max: i32, tail: &str) {
    if let Some(value) = value.filter(|value| *value > max) {
        errs.push(FieldError::invalid(path, value, format!("must be less than or equal to {max}{tail}")));
    }
}

fn indexed(errs: &mut Errors, spec: &JobSpec, of: &impl Fn(&str) -> String) {
    let (parallelism, max_failed) = (spec.parallelism, spec.max_failed_indexes);
    if spec.completions.is_none() {
        errs.push(FieldError::required(of("completions"), "when completion mode is Indexed"));
    }
    at_most(errs, of("parallelism"), parallelism, INDEXES_MAX, " when completion mode is Indexed");
    let completions = spec.completions.unwrap_or(i32::MAX);
    if let Some(max) = max_failed.filter(|max| *max > completions) {
        errs.push(FieldError::invalid(of("maxFailedIndexes"), max, "must be less than or equal to completions"));
    }
    at_most(errs, of("maxFailedIndexes"), max_failed, INDEXES_MAX, "");
    let has_many = spec.completions.is_some_and(|n| n > COMPLETIONS_SOFT_MAX);
    if !has_many || spec.backoff_limit_per_index.is_none() {
        return;
    }
    if max_failed.is_none() {
        let why = format!("must be specified when completions is above {COMPLETIONS_SOFT_MAX}");
        errs.push(FieldError::required(of("maxFailedIndexes"), why));
    }
    let tail = format!(" when completions are above {COMPLETIONS_SOFT_MAX} and used with backoff limit per index");
    at_most(errs, of("parallelism"), parallelism, HIGH_COMPLETIONS_MAX, &tail);
    at_most(errs, of("maxFailedIndexes"), max_failed, HIGH_COMPLETIONS_MAX, &tail);
}

fn not_indexed(errs: &mut Errors, spec: &JobSpec, of: &impl Fn(&str) -> String) {
    let given = [("backoffLimitPerIndex", spec.backoff_limit_per_index), ("maxFailedIndexes", spec.max_failed_indexes)];
    for (field, value) in given {
        if let Some(value) = value {
            errs.push(FieldError::invalid(of(field), value, "requires indexed completion mode"));
        }
    }
}

/// Source: `validatePodReplacementPolicy`.
fn replacement(errs: &mut Errors, spec: &JobSpec, path: String) {
    let supported: &[&str] =
        if spec.pod_failure_policy.is_some() { &["Failed"] } else { &["Failed", "TerminatingOrFailed"] };
    if let Some(policy) = spec.pod_replacement_policy.as_deref().filter(|policy| !supported.contains(policy)) {
        errs.push(FieldError::not_supported(path, policy, supported));
    }
}

/// What is wrong with a change of a job.
pub(super) fn check_update(new: &Untyped, old: &Untyped) -> Errors {
    let immutable = |field: &str| json::immutable(&new.rest, &old.rest, field, "field is immutable");
    let mut errs = completions(new, old);
    errs.extend(immutable("spec.selector"));
    errs.extend(template(new, old));
    let fixed = ["completionMode", "podFailurePolicy", "backoffLimitPerIndex", "managedBy", "successPolicy"];
    errs.extend(fixed.iter().flat_map(|field| immutable(&format!("spec.{field}"))));
    errs
}

/// Source: `validateCompletions`: an indexed job may change both numbers together.
fn completions(new: &Untyped, old: &Untyped) -> Errors {
    if text_at(&new.rest, "spec.completionMode") != "Indexed" {
        return json::immutable(&new.rest, &old.rest, "spec.completions", "field is immutable");
    }
    let number = |obj: &Untyped, path| at(&obj.rest, path).and_then(Value::as_i64);
    let completions = number(new, "spec.completions");
    let is_free = completions.is_none()
        || completions == number(old, "spec.completions")
        || completions == number(new, "spec.parallelism");
    if is_free {
        return Errors::new();
    }
    vec![FieldError::invalid("spec.completions", completions, "can only be modified in tandem with spec.parallelism")]
}

/// Source: `validatePodTemplateUpdate`: what says where pods run and what they get may change while a suspended job has none.
fn template(new: &Untyped, old: &Untyped) -> Errors {
    let (is_suspended, active) = (json::is_true(&old.rest, "spec.suspend"), json::number(&old.rest, "status.active"));
    if !is_suspended || active != 0 {
        return json::immutable(&new.rest, &old.rest, "spec.template", "field is immutable");
    }
    let template =
        |obj: &Untyped| at(&obj.rest, "spec.template").and_then(Value::as_object).cloned().unwrap_or_default();
    let (new, mut old) = (template(new), template(old));
    take_directives(&new, &mut old);
    for containers in ["containers", "initContainers"] {
        take_resources(&new, &mut old, &format!("spec.{containers}"));
    }
    let [new, old] = [new, old].map(|template| json!({ "template": template }));
    let [Value::Object(new), Value::Object(old)] = [new, old] else { return Errors::new() };
    let in_template = json::immutable(&new, &old, "template.spec", "field is immutable");
    in_template.into_iter().map(|err| FieldError { path: format!("spec.{}", err.path), ..err }).collect()
}

/// Gives the old template the scheduling directives of the new one.
fn take_directives(new: &Map<String, Value>, old: &mut Map<String, Value>) {
    for path in ["spec.nodeSelector", "spec.tolerations", "spec.schedulingGates"] {
        put(old, path, at(new, path).cloned());
    }
    let has_affinity = [at(new, "spec.affinity").is_some(), at(old, "spec.affinity").is_some()];
    if has_affinity != [false, false] {
        put(old, "spec.affinity.nodeAffinity", at(new, "spec.affinity.nodeAffinity").cloned());
    }
    let is_empty = at(old, "spec.affinity").and_then(Value::as_object).is_some_and(Map::is_empty);
    if is_empty && !has_affinity[0] {
        put(old, "spec.affinity", None);
    }
}

/// Gives the old containers the resources of the new ones that have their names.
fn take_resources(new: &Map<String, Value>, old: &mut Map<String, Value>, path: &str) {
    let new: Vec<Map<String, Value>> = json::objects(new, path).cloned().collect();
    let old: Vec<&mut Map<String, Value>> = json::objects_mut(old, path).collect();
    if new.len() != old.len() {
        return;
    }
    for (new, old) in new.into_iter().zip(old).filter(|(new, old)| new.get("name") == old.get("name")) {
        put(old, "resources", new.get("resources").cloned());
    }
}

/// Sets what is at a path, or removes it.
fn put(fields: &mut Map<String, Value>, path: &str, value: Option<Value>) {
    if let Some(value) = value {
        return set_at(fields, path, value);
    }
    let (above, field) = path.rsplit_once('.').map_or((None, path), |(above, field)| (Some(above), field));
    let mut within = Some(fields);
    for name in above.into_iter().flat_map(|above| above.split('.')) {
        within = within.and_then(|fields| fields.get_mut(name)).and_then(Value::as_object_mut);
    }
    if let Some(fields) = within {
        fields.remove(field);
    }
}
