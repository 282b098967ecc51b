//! `Job`, batch/v1.
//!
//! **Source**: `pkg/apis/batch/validation/validation.go`, `pkg/apis/batch/v1/defaults.go`, `pkg/registry/batch/job/strategy.go`, v1.37.

mod policies;
mod spec;
mod status;

use super::{
    json::{self, Errors},
    workload,
};
use crate::api::{
    field::FieldError,
    json_kind::{JsonKind, Rules, at, default_at, set_at, text_at, typed_json_kind},
    kind::{KindInfo, STATUS, Scope},
    names,
    object::Untyped,
    selector::LabelSelector,
    table::{self, Column, NONE},
};
use crate::base::json::typed;
use jiff::Timestamp;
use k8s_openapi::{
    api::batch::v1::Job,
    apimachinery::pkg::apis::meta::v1::{LabelSelector as ApiSelector, Time},
};
use serde_json::{Map, Value, json};
pub(super) use spec::check_spec;
use std::collections::BTreeMap;

/// The labels that a job's pods get. Source: `generateSelector` in strategy.go.
const UID_LABELS: [&str; 2] = ["batch.kubernetes.io/controller-uid", "controller-uid"];
const NAME_LABELS: [&str; 2] = ["batch.kubernetes.io/job-name", "job-name"];

/// The kind `Job`.
pub static JOBS: JsonKind = JsonKind::new(
    KindInfo {
        categories: &["all"],
        subresources: &[STATUS],
        columns: &[
            Column::name(),
            Column::text("Status", "Whether it runs, is complete or has failed."),
            Column::text("Completions", "How many pods have succeeded, of how many."),
            Column::text("Duration", "How long it ran, or has run."),
            Column::age(),
            Column::text("Containers", "The names of the template's containers.").wide(),
            Column::text("Images", "The images of the template's containers.").wide(),
            Column::text("Selector", "The labels of the pods that belong to it.").wide(),
        ],
        ..KindInfo::of(("batch", "v1", "Job"), ("jobs", "job"), Scope::Namespaced, "io.k8s.api.batch.v1.Job")
    },
    Rules {
        set_defaults: |obj| spec_defaults(&mut obj.rest, "spec"),
        on_named: |obj| {
            if !json::is_true(&obj.rest, "spec.manualSelector") {
                generate_selector(obj);
            }
        },
        validate,
        validate_update: spec::check_update,
        validate_status: status::check_update,
        row,
        has_generation: true,
        selectable: &["status.successful"],
        ..Rules::PLAIN
    },
);

typed_json_kind! {
    /// Jobs as their controllers have them.
    pub JOBS => Jobs: Job
}

/// The defaults of a job's spec, which a CronJob has inside.
pub(super) fn spec_defaults(fields: &mut Map<String, Value>, path: &str) {
    let of = |field: &str| format!("{path}.{field}");
    if !json::has(fields, &of("completions")) && !json::has(fields, &of("parallelism")) {
        default_at(fields, &of("completions"), 1);
        default_at(fields, &of("parallelism"), 1);
    }
    default_at(fields, &of("parallelism"), 1);
    default_at(fields, &of("backoffLimit"), 6);
    default_at(fields, &of("completionMode"), "NonIndexed");
    default_at(fields, &of("suspend"), false);
    let replacement = if json::has(fields, &of("podFailurePolicy")) { "Failed" } else { "TerminatingOrFailed" };
    default_at(fields, &of("podReplacementPolicy"), replacement);
    workload::template_defaults(fields, &of("template"));
}

/// A selector that no other job has, and the labels that it picks. What the user gave stays, and is refused where it is another.
fn generate_selector(obj: &mut Untyped) {
    let (uid, name) = (obj.metadata.uid.clone().unwrap_or_default(), obj.metadata.name.clone().unwrap_or_default());
    let (prefix, fields) = (obj.metadata.generate_name.clone(), &mut obj.rest);
    let labels_at = "spec.template.metadata.labels";
    let mut labels = at(fields, labels_at).and_then(Value::as_object).cloned().unwrap_or_default();
    for label in NAME_LABELS {
        // A generated name that was taken already is generated anew.
        let was_tried = |value: &Value| {
            let (value, prefix) = (value.as_str().unwrap_or_default(), prefix.as_deref().unwrap_or_default());
            !prefix.is_empty() && value.len() == name.len() && value.starts_with(prefix)
        };
        if labels.get(label).is_none_or(was_tried) {
            labels.insert(label.to_owned(), json!(name));
        }
    }
    for label in UID_LABELS {
        labels.entry(label).or_insert_with(|| json!(uid));
    }
    set_at(fields, labels_at, Value::Object(labels));
    let mut selector = at(fields, "spec.selector.matchLabels").and_then(Value::as_object).cloned().unwrap_or_default();
    selector.entry(UID_LABELS[0]).or_insert_with(|| json!(uid));
    set_at(fields, "spec.selector.matchLabels", Value::Object(selector));
}

fn validate(obj: &Untyped) -> Errors {
    let mut errs = Errors::new();
    check_generated(&mut errs, obj);
    check_spec(&mut errs, &obj.rest, "spec");
    check_selector(&mut errs, obj);
    check_host_names(&mut errs, obj);
    errs
}

/// Source: `validateGeneratedSelector`.
fn check_generated(errs: &mut Errors, obj: &Untyped) {
    if json::is_true(&obj.rest, "spec.manualSelector") || !json::has(&obj.rest, "spec.selector") {
        return;
    }
    let (uid, name) = (obj.metadata.uid.as_deref().unwrap_or_default(), obj.metadata.name.as_deref());
    let name = name.unwrap_or_default();
    let labels = at(&obj.rest, "spec.template.metadata.labels").cloned().unwrap_or_default();
    let wanted = [(UID_LABELS[1], uid), (NAME_LABELS[1], name), (UID_LABELS[0], uid), (NAME_LABELS[0], name)];
    for (label, value) in wanted {
        let (path, why) = (format!("spec.template.metadata.labels[{label}]"), format!("must be '{value}'"));
        match labels.get(label) {
            None => errs.push(FieldError::required(path, why)),
            Some(given) if given != value => errs.push(FieldError::invalid(path, &labels, why)),
            Some(_) => {}
        }
    }
    let expected: BTreeMap<String, String> = wanted.map(|(label, value)| (label.to_owned(), value.to_owned())).into();
    if selector_of(obj).is_some_and(|selector| !selector.matches(&expected)) {
        let given = at(&obj.rest, "spec.selector");
        errs.push(FieldError::invalid("spec.selector", given, "`selector` not auto-generated"));
    }
}

fn selector_of(obj: &Untyped) -> Option<LabelSelector> {
    let selector = at(&obj.rest, "spec.selector").and_then(|selector| typed::<ApiSelector>(selector.clone()).ok())?;
    LabelSelector::from_api(&selector).ok()
}

fn check_selector(errs: &mut Errors, obj: &Untyped) {
    if !json::has(&obj.rest, "spec.selector") {
        errs.push(FieldError::required("spec.selector", ""));
    }
    json::label_selector(errs, &obj.rest, "spec.selector");
    let labels = at(&obj.rest, "spec.template.metadata.labels");
    let own: BTreeMap<String, String> = labels.and_then(|labels| typed(labels.clone()).ok()).unwrap_or_default();
    if selector_of(obj).is_some_and(|selector| !selector.matches(&own)) {
        let why = "`selector` does not match template `labels`";
        errs.push(FieldError::invalid("spec.template.metadata.labels", labels, why));
    }
}

/// The pods of an indexed job have host names that end in their index.
fn check_host_names(errs: &mut Errors, obj: &Untyped) {
    let completions = at(&obj.rest, "spec.completions").and_then(Value::as_i64).unwrap_or(0);
    if text_at(&obj.rest, "spec.completionMode") != "Indexed" || completions <= 0 {
        return;
    }
    let name = obj.metadata.name.as_deref().unwrap_or_default();
    let longest = format!("{name}-{}", completions - 1);
    if !names::dns1123_label(&longest).is_empty() {
        let why = format!("will not able to create pod with invalid DNS label: {longest}");
        errs.push(FieldError::invalid("metadata.name", name, why));
    }
}

fn row(obj: &Untyped, now: Timestamp) -> Vec<Value> {
    let fields = &obj.rest;
    let [names, images] = workload::containers(fields, "spec.template");
    let succeeded = json::number(fields, "status.succeeded");
    let completions =
        match (at(fields, "spec.completions"), at(fields, "spec.parallelism").and_then(Value::as_i64).unwrap_or(0)) {
            (Some(completions), _) => format!("{succeeded}/{completions}"),
            (None, parallelism) if parallelism > 1 => format!("{succeeded}/1 of {parallelism}"),
            (None, _) => format!("{succeeded}/1"),
        };
    vec![
        table::name(&obj.metadata),
        json!(status(obj)),
        json!(completions),
        json!(duration(fields, now)),
        table::age(&obj.metadata, now),
        names,
        images,
        workload::selector(fields, "spec.selector"),
    ]
}

/// Source: `printJob` in printers.go.
fn status(obj: &Untyped) -> &'static str {
    let has = |kind: &str| {
        let mut conditions = json::objects(&obj.rest, "status.conditions");
        conditions.any(|c| text_at(c, "type") == kind && text_at(c, "status") == "True")
    };
    match () {
        () if has("Complete") => "Complete",
        () if has("Failed") => "Failed",
        () if obj.metadata.deletion_timestamp.is_some() => "Terminating",
        () if has("Suspended") => "Suspended",
        () if has("FailureTarget") => "FailureTarget",
        () if has("SuccessCriteriaMet") => "SuccessCriteriaMet",
        () => "Running",
    }
}

fn duration(fields: &Map<String, Value>, now: Timestamp) -> String {
    let time = |path| at(fields, path).and_then(|time| typed::<Time>(time.clone()).ok());
    match (time("status.startTime"), time("status.completionTime")) {
        (None, _) => String::new(),
        (Some(start), None) => table::since(start.0, now),
        (Some(start), Some(end)) => table::since(start.0, end.0),
    }
}

/// The time at a path as how long ago it was, or `<none>`.
pub(super) fn ago(fields: &Map<String, Value>, path: &str, now: Timestamp) -> Value {
    let time = at(fields, path).and_then(|time| typed::<Time>(time.clone()).ok());
    json!(time.map_or_else(|| NONE.to_owned(), |time| table::since(time.0, now)))
}

#[cfg(test)]
mod tests;
