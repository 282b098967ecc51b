//! `CronJob`, batch/v1.
//!
//! **Source**: `pkg/apis/batch/validation/validation.go`, `pkg/apis/batch/v1/defaults.go`, v1.37.

use super::{
    job,
    json::{self, Errors},
    workload,
};
use crate::api::{
    cron::Schedule,
    field::FieldError,
    json_kind::{JsonKind, Rules, at, default_at, text_at, typed_json_kind},
    kind::{KindInfo, STATUS, Scope},
    names,
    object::Untyped,
    table::{self, Column},
};
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::CronJob;
use serde_json::{Map, Value, json};

/// Jobs are called after it, with eleven characters more.
const NAME_LENGTH_MAX: usize = 52;
/// Where the zone of the schedule's clock is.
pub const TIME_ZONE: &str = "spec.timeZone";
/// The longest part of a zone's name.
const ZONE_PART_MAX: usize = 14;

/// The kind `CronJob`.
pub static CRON_JOBS: JsonKind = JsonKind::new(
    KindInfo {
        short_names: &["cj"],
        categories: &["all"],
        subresources: &[STATUS],
        columns: &[
            Column::name(),
            Column::text("Schedule", "When it makes jobs."),
            Column::text("Timezone", "Where the schedule's clock is."),
            Column { kind: "boolean", ..Column::text("Suspend", "Whether it makes none.") },
            Column::number("Active", "How many of its jobs run."),
            Column::text("Last Schedule", "When it made a job last."),
            Column::age(),
            Column::text("Containers", "The names of the template's containers.").wide(),
            Column::text("Images", "The images of the template's containers.").wide(),
            Column::text("Selector", "The labels of the pods that belong to its jobs.").wide(),
        ],
        ..KindInfo::of(
            ("batch", "v1", "CronJob"),
            ("cronjobs", "cronjob"),
            Scope::Namespaced,
            "io.k8s.api.batch.v1.CronJob",
        )
    },
    Rules { set_defaults, validate, validate_create, validate_update, row, has_generation: true, ..Rules::PLAIN },
);

typed_json_kind! {
    /// CronJobs as their controller has them.
    pub CRON_JOBS => CronJobs: CronJob
}

fn set_defaults(obj: &mut Untyped) {
    let fields = &mut obj.rest;
    default_at(fields, "spec.concurrencyPolicy", "Allow");
    default_at(fields, "spec.suspend", false);
    default_at(fields, "spec.successfulJobsHistoryLimit", 3);
    default_at(fields, "spec.failedJobsHistoryLimit", 1);
    // A job's own spec gets the rest when the job is made.
    workload::template_defaults(fields, "spec.jobTemplate.spec.template");
}

fn validate(obj: &Untyped) -> Errors {
    let mut errs = Errors::new();
    let fields = &obj.rest;
    check_schedule(&mut errs, &text_at(fields, "spec.schedule"));
    json::non_negative(&mut errs, fields, "spec.startingDeadlineSeconds");
    match text_at(fields, "spec.concurrencyPolicy").as_str() {
        "" => errs.push(FieldError::required("spec.concurrencyPolicy", "")),
        _ => json::one_of(&mut errs, fields, "spec.concurrencyPolicy", &["Allow", "Forbid", "Replace"]),
    }
    check_job(&mut errs, fields);
    for field in ["spec.successfulJobsHistoryLimit", "spec.failedJobsHistoryLimit"] {
        json::non_negative(&mut errs, fields, field);
    }
    errs
}

fn validate_create(obj: &Untyped) -> Errors {
    let mut errs = Errors::new();
    check_time_zone(&mut errs, &obj.rest);
    let name = obj.metadata.name.as_deref().unwrap_or_default();
    if name.len() > NAME_LENGTH_MAX {
        let why = names::too_long(NAME_LENGTH_MAX).replace("bytes", "characters");
        errs.push(FieldError::invalid("metadata.name", name, why));
    }
    errs
}

/// A time zone that was good once may stay.
fn validate_update(new: &Untyped, old: &Untyped) -> Errors {
    let mut errs = Errors::new();
    if at(&new.rest, TIME_ZONE) != at(&old.rest, TIME_ZONE) {
        check_time_zone(&mut errs, &new.rest);
    }
    errs
}

/// What a job that is made of the template could not have. Source: `ValidateJobTemplateSpec`.
fn check_job(errs: &mut Errors, fields: &Map<String, Value>) {
    job::check_spec(errs, fields, "spec.jobTemplate.spec");
    if let Some(selector) = at(fields, "spec.jobTemplate.spec.selector") {
        let why = "`selector` will be auto-generated";
        errs.push(FieldError::invalid("spec.jobTemplate.spec.selector", selector, why));
    }
    if json::is_true(fields, "spec.jobTemplate.spec.manualSelector") {
        let path = "spec.jobTemplate.spec.manualSelector";
        errs.push(FieldError::not_supported(path, true, &["nil", "false"]));
    }
}

/// Checks a schedule. Source: `validateScheduleFormat`.
fn check_schedule(errs: &mut Errors, schedule: &str) {
    if schedule.is_empty() {
        errs.push(FieldError::required("spec.schedule", ""));
        return;
    }
    // A zone before the fields is part of the format, and refused after it.
    let is_zone = |word: &str| word.starts_with("TZ=") || word.starts_with("CRON_TZ=");
    let fields = schedule.split_once(' ').filter(|(word, _)| is_zone(word)).map_or(schedule, |(_, fields)| fields);
    if let Err(why) = Schedule::parse(fields) {
        errs.push(FieldError::invalid("spec.schedule", schedule, why));
    }
    if schedule.contains("TZ") {
        let why = "cannot use TZ or CRON_TZ in schedule, use timeZone field instead";
        errs.push(FieldError::invalid("spec.schedule", schedule, why));
    }
}

/// Checks that a time zone can be one: whether there is such a zone is known to the machine (`registry/admission/time_zone`).
/// Source: `validateTimeZone`.
fn check_time_zone(errs: &mut Errors, fields: &Map<String, Value>) {
    let Some(zone) = at(fields, TIME_ZONE).and_then(Value::as_str) else { return };
    let mut refuse = |why: &str| errs.push(FieldError::invalid(TIME_ZONE, zone, why));
    let is_wrong = |part: &str| {
        let is_allowed = |c: char| c.is_ascii_alphanumeric() || ".-_+".contains(c);
        let has_length = (1..=ZONE_PART_MAX).contains(&part.len());
        matches!(part, "." | "..") || part.starts_with('-') || !has_length || !part.chars().all(is_allowed)
    };
    if zone.is_empty() {
        refuse("timeZone must be nil or non-empty string");
    } else if zone.split('/').any(is_wrong) {
        refuse(&unknown_time_zone(zone));
    } else if zone.eq_ignore_ascii_case("local") {
        refuse("timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones");
    }
}

/// What is said of a zone that there is not.
pub fn unknown_time_zone(zone: &str) -> String {
    format!("unknown time zone {zone}")
}

fn row(obj: &Untyped, now: Timestamp) -> Vec<Value> {
    let fields = &obj.rest;
    let [names, images] = workload::containers(fields, "spec.jobTemplate.spec.template");
    vec![
        table::name(&obj.metadata),
        json!(text_at(fields, "spec.schedule")),
        json::or_none(fields, "spec.timeZone"),
        json!(if json::is_true(fields, "spec.suspend") { "True" } else { "False" }),
        json!(json::items(fields, "status.active").len()),
        job::ago(fields, "status.lastScheduleTime", now),
        table::age(&obj.metadata, now),
        names,
        images,
        workload::selector(fields, "spec.jobTemplate.spec.selector"),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::kinds::testing::json::{causes, row, update_causes};
    use expect_test::expect;

    fn nightly(schedule: &str) -> String {
        format!(
            "metadata: {{name: cron}}\nspec: {{schedule: '{schedule}', jobTemplate: {{spec: {{template: {{spec: {{restartPolicy: Never, containers: [{{name: c, image: i}}]}}}}}}}}}}"
        )
    }

    #[test]
    fn what_is_wrong_is_named() {
        for good in ["*/5 * * * *", "0 0 1,15 JAN-MAR mon-fri", "@daily", "@every 5m", "1-10/2 0 ? * 0"] {
            assert_eq!(causes(&CRON_JOBS, &nightly(good)), "", "{good}");
        }
        let wrong = [
            "",
            "* * * *",
            "60 * * * *",
            "* * 0 * *",
            "5-1 * * * *",
            "*/0 * * * *",
            "x * * * *",
            "@often",
            "TZ=UTC * * * * *",
            "CRON_TZ=UTC x * * * *",
        ];
        expect![[r#"
            spec.schedule: Required value
            spec.schedule: Invalid value: "* * * *": expected exactly 5 fields, found 4: [* * * *]
            spec.schedule: Invalid value: "60 * * * *": end of range (60) above maximum (59): 60
            spec.schedule: Invalid value: "* * 0 * *": beginning of range (0) below minimum (1): 0
            spec.schedule: Invalid value: "5-1 * * * *": beginning of range (5) beyond end of range (1): 5-1
            spec.schedule: Invalid value: "*/0 * * * *": step of range should be a positive number: */0
            spec.schedule: Invalid value: "x * * * *": failed to parse int from x: strconv.Atoi: parsing "x": invalid syntax
            spec.schedule: Invalid value: "@often": unrecognized descriptor: @often
            spec.schedule: Invalid value: "TZ=UTC * * * * *": cannot use TZ or CRON_TZ in schedule, use timeZone field instead
            spec.schedule: Invalid value: "CRON_TZ=UTC x * * * *": failed to parse int from x: strconv.Atoi: parsing "x": invalid syntax
            spec.schedule: Invalid value: "CRON_TZ=UTC x * * * *": cannot use TZ or CRON_TZ in schedule, use timeZone field instead
        "#]].assert_eq(&wrong.map(|schedule| causes(&CRON_JOBS, &nightly(schedule))).concat());
        expect![[r#"
            spec.concurrencyPolicy: Unsupported value: "Maybe": supported values: "Allow", "Forbid", "Replace"
            spec.jobTemplate.spec.template.spec.restartPolicy: Required value: valid values: "OnFailure", "Never"
            spec.successfulJobsHistoryLimit: Invalid value: -1: must be greater than or equal to 0
            metadata.name: Invalid value: "a-name-that-is-longer-than-fifty-two-characters-and-so-refused": must be no more than 52 characters
        "#]].assert_eq(&causes(&CRON_JOBS, "metadata: {name: a-name-that-is-longer-than-fifty-two-characters-and-so-refused}\nspec: {schedule: '@daily', concurrencyPolicy: Maybe, successfulJobsHistoryLimit: -1, jobTemplate: {spec: {template: {spec: {restartPolicy: Always, containers: [{name: c, image: i}]}}}}}"));
    }

    #[test]
    fn time_zones_have_names() {
        let zoned = |zone: &str| nightly("@daily").replace("{schedule", &format!("{{timeZone: '{zone}', schedule"));
        let names =
            ["", "LOCAL", "a//b", "../etc", "-x", "Europe/B(rlin)", "Europe/AnameOfMoreThan14", "UTC", "Etc/GMT+1"];
        expect![[r##"
            # ""
            spec.timeZone: Invalid value: "": timeZone must be nil or non-empty string
            # "LOCAL"
            spec.timeZone: Invalid value: "LOCAL": timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones
            # "a//b"
            spec.timeZone: Invalid value: "a//b": unknown time zone a//b
            # "../etc"
            spec.timeZone: Invalid value: "../etc": unknown time zone ../etc
            # "-x"
            spec.timeZone: Invalid value: "-x": unknown time zone -x
            # "Europe/B(rlin)"
            spec.timeZone: Invalid value: "Europe/B(rlin)": unknown time zone Europe/B(rlin)
            # "Europe/AnameOfMoreThan14"
            spec.timeZone: Invalid value: "Europe/AnameOfMoreThan14": unknown time zone Europe/AnameOfMoreThan14
            # "UTC"
            # "Etc/GMT+1"
        "##]]
            .assert_eq(&names.map(|zone| format!("# {zone:?}\n{}", causes(&CRON_JOBS, &zoned(zone)))).concat());
        // What was good once may stay, whatever is good now.
        assert_eq!(update_causes(&CRON_JOBS, &zoned("a//b"), &zoned("a//b")), "");
        assert!(!update_causes(&CRON_JOBS, &zoned("UTC"), &zoned("a//b")).is_empty());
    }

    #[test]
    fn jobs_have_a_selector_of_their_own() {
        let selected = nightly("@daily").replace(
            "jobTemplate: {spec: {",
            "jobTemplate: {spec: {manualSelector: true, selector: {matchLabels: {a: b}}, ",
        );
        expect![[r#"
            spec.jobTemplate.spec.selector: Invalid value: {"matchLabels":{"a":"b"}}: `selector` will be auto-generated
            spec.jobTemplate.spec.manualSelector: Unsupported value: true: supported values: "nil", "false"
        "#]]
        .assert_eq(&causes(&CRON_JOBS, &selected));
    }

    #[test]
    fn a_row_reads_as_in_kubernetes() {
        let cron =
            format!("{}\nstatus: {{active: [{{}}], lastScheduleTime: '2026-03-01T11:59:00Z'}}", nightly("@daily"));
        assert_eq!(row(&CRON_JOBS, &cron), "cron | @daily | <none> | False | 1 | 60s | <unknown> | c | i | <none>");
    }
}
