//! `Job`, batch/v1.
//!
//! **Source**: `pkg/apis/batch/validation/validation.go`, `pkg/apis/batch/v1/defaults.go`, `pkg/registry/batch/job/strategy.go`, v1.37.

use super::{
    json::{self, Errors},
    workload,
};
use crate::api::{
    field::FieldError,
    json_kind::{JsonKind, Rules, at, default_at, set_at, text_at, typed_json_kind},
    kind::{KindInfo, STATUS, Scope},
    object::{Untyped, typed},
    table::{self, Column, NONE},
};
use jiff::Timestamp;
use k8s_openapi::{api::batch::v1::Job, apimachinery::pkg::apis::meta::v1::Time};
use serde_json::{Map, Value, json};

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
        prepare_create: |obj| {
            if !json::is_true(&obj.rest, "spec.manualSelector") {
                generate_selector(obj);
            }
        },
        validate,
        validate_update,
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

/// A selector that no other job has, and the labels that it picks.
fn generate_selector(obj: &mut Untyped) {
    let (uid, name) = (obj.metadata.uid.clone().unwrap_or_default(), obj.metadata.name.clone().unwrap_or_default());
    let fields = &mut obj.rest;
    let mut labels =
        at(fields, "spec.template.metadata.labels").and_then(Value::as_object).cloned().unwrap_or_default();
    labels.extend(UID_LABELS.map(|label| (label.to_owned(), json!(uid))));
    labels.extend(NAME_LABELS.map(|label| (label.to_owned(), json!(name))));
    set_at(fields, "spec.template.metadata.labels", Value::Object(labels));
    let mut selector = at(fields, "spec.selector.matchLabels").and_then(Value::as_object).cloned().unwrap_or_default();
    selector.insert(UID_LABELS[0].to_owned(), json!(uid));
    set_at(fields, "spec.selector.matchLabels", Value::Object(selector));
}

fn validate(obj: &Untyped) -> Errors {
    let mut errs = Errors::new();
    check_spec(&mut errs, &obj.rest, "spec");
    if !json::has(&obj.rest, "spec.selector") {
        errs.push(FieldError::required("spec.selector", ""));
    }
    json::label_selector(&mut errs, &obj.rest, "spec.selector");
    errs
}

/// What is wrong with a job's spec.
pub(super) fn check_spec(errs: &mut Errors, fields: &Map<String, Value>, path: &str) {
    let of = |field: &str| format!("{path}.{field}");
    for field in [
        "parallelism",
        "completions",
        "activeDeadlineSeconds",
        "backoffLimit",
        "ttlSecondsAfterFinished",
        "backoffLimitPerIndex",
    ] {
        json::non_negative(errs, fields, &of(field));
    }
    json::one_of(errs, fields, &of("completionMode"), &["Indexed", "NonIndexed"]);
    json::one_of(errs, fields, &of("podReplacementPolicy"), &["Failed", "TerminatingOrFailed"]);
    if text_at(fields, &of("completionMode")) == "Indexed" && !json::has(fields, &of("completions")) {
        errs.push(FieldError::required(of("completions"), "when completion mode is Indexed"));
    }
    workload::check_finite(errs, fields, &of("template"));
}

fn validate_update(new: &Untyped, old: &Untyped) -> Errors {
    let is_suspended = json::is_true(&old.rest, "spec.suspend") && !json::has(&old.rest, "status.startTime");
    let immutable = |field| json::immutable(&new.rest, &old.rest, field, "field is immutable");
    let mut errs: Errors = [
        "spec.selector",
        "spec.completionMode",
        "spec.podFailurePolicy",
        "spec.backoffLimitPerIndex",
        "spec.successPolicy",
    ]
    .into_iter()
    .flat_map(immutable)
    .collect();
    // Source: `validateCompletions`: an indexed job may change both numbers together.
    if text_at(&new.rest, "spec.completionMode") != "Indexed" {
        errs.extend(immutable("spec.completions"));
    }
    if !is_suspended {
        errs.extend(immutable("spec.template"));
    }
    errs
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
    let time = |path| at(fields, path).and_then(|time| typed::<Time>(time).ok());
    match (time("status.startTime"), time("status.completionTime")) {
        (None, _) => String::new(),
        (Some(start), None) => table::since(start.0, now),
        (Some(start), Some(end)) => table::since(start.0, end.0),
    }
}

/// The time at a path as how long ago it was, or `<none>`.
pub(super) fn ago(fields: &Map<String, Value>, path: &str, now: Timestamp) -> Value {
    let time = at(fields, path).and_then(|time| typed::<Time>(time).ok());
    json!(time.map_or_else(|| NONE.to_owned(), |time| table::since(time.0, now)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::kinds::testing::json::{causes, created_yaml, row, update_causes};
    use expect_test::expect;

    const PI: &str = "metadata: {name: pi, uid: u1}\nspec: {template: {spec: {restartPolicy: Never, containers: [{name: c, image: i}]}}}";

    #[test]
    fn what_is_wrong_is_named() {
        assert_eq!(causes(&JOBS, PI), "");
        expect![[r#"
            spec.parallelism: Invalid value: -1: must be greater than or equal to 0
            spec.podReplacementPolicy: Unsupported value: "Soon": supported values: "Failed", "TerminatingOrFailed"
            spec.completions: Required value: when completion mode is Indexed
            spec.template.spec.restartPolicy: Required value: valid values: "OnFailure", "Never"
        "#]].assert_eq(&causes(&JOBS, "spec: {parallelism: -1, completionMode: Indexed, podReplacementPolicy: Soon, template: {spec: {containers: [{name: c, image: i}]}}}"));
        expect![[r#"
            spec.template: Invalid value: {"metadata":{"labels":{"batch.kubernetes.io/controller-uid":"u1","batch.kubernetes.io/job-name":"pi","controller-uid":"u1","job-name":"pi"}},"spec":{"containers":[{"image":"j","imagePullPolicy":"Always","name":"c","resources":{},"terminationMessagePath":"/dev/termination-log","terminationMessagePolicy":"File"}],"dnsPolicy":"ClusterFirst","restartPolicy":"Never","schedulerName":"default-scheduler","securityContext":{},"terminationGracePeriodSeconds":30}}: field is immutable
        "#]].assert_eq(&update_causes(&JOBS, PI, &PI.replace("image: i", "image: j")));
    }

    #[test]
    fn defaults_and_the_selector_are_filled_in() {
        expect![[r#"
            metadata:
              name: pi
              uid: u1
            spec:
              backoffLimit: 6
              completionMode: NonIndexed
              completions: 1
              parallelism: 1
              podReplacementPolicy: TerminatingOrFailed
              selector:
                matchLabels:
                  batch.kubernetes.io/controller-uid: u1
              suspend: false
              template:
                metadata:
                  labels:
                    batch.kubernetes.io/controller-uid: u1
                    batch.kubernetes.io/job-name: pi
                    controller-uid: u1
                    job-name: pi
                spec:
                  containers:
                  - image: i
                    imagePullPolicy: Always
                    name: c
                    resources: {}
                    terminationMessagePath: /dev/termination-log
                    terminationMessagePolicy: File
                  dnsPolicy: ClusterFirst
                  restartPolicy: Never
                  schedulerName: default-scheduler
                  securityContext: {}
                  terminationGracePeriodSeconds: 30
            status: {}
        "#]]
        .assert_eq(&created_yaml(&JOBS, PI));
    }

    #[test]
    fn a_row_reads_as_in_kubernetes() {
        let done = format!(
            "{}\nstatus: {{succeeded: 1, startTime: '2026-03-01T11:59:00Z', completionTime: '2026-03-01T11:59:05Z', conditions: [{{type: Complete, status: 'True'}}]}}",
            PI.replace("spec: {template", "spec: {completions: 1, template")
        );
        assert_eq!(row(&JOBS, &done), "pi | Complete | 1/1 | 5s | <unknown> | c | i | <none>");
        assert_eq!(
            row(&JOBS, &PI.replace("spec: {template", "spec: {parallelism: 3, template")),
            "pi | Running | 0/1 of 3 |  | <unknown> | c | i | <none>"
        );
    }
}
