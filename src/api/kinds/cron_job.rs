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
use serde_json::{Value, json};

/// Jobs are called after it, with eleven characters more.
const NAME_LENGTH_MAX: usize = 52;

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
    Rules { set_defaults, validate, row, has_generation: true, ..Rules::PLAIN },
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
    let name = obj.metadata.name.as_deref().unwrap_or_default();
    if name.len() > NAME_LENGTH_MAX {
        errs.push(FieldError::invalid(
            "metadata.name",
            name,
            names::too_long(NAME_LENGTH_MAX).replace("bytes", "characters"),
        ));
    }
    check_schedule(&mut errs, &text_at(fields, "spec.schedule"), json::has(fields, "spec.timeZone"));
    if at(fields, "spec.timeZone").is_some_and(|zone| zone == "") {
        errs.push(FieldError::invalid("spec.timeZone", "", "timeZone must be nil or non-empty string"));
    }
    let zone = text_at(fields, "spec.timeZone");
    if zone.eq_ignore_ascii_case("local") {
        let why = "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones";
        errs.push(FieldError::invalid("spec.timeZone", zone, why));
    }
    json::one_of(&mut errs, fields, "spec.concurrencyPolicy", &["Allow", "Forbid", "Replace"]);
    for field in ["spec.startingDeadlineSeconds", "spec.successfulJobsHistoryLimit", "spec.failedJobsHistoryLimit"] {
        json::non_negative(&mut errs, fields, field);
    }
    job::check_spec(&mut errs, fields, "spec.jobTemplate.spec");
    errs
}

/// Checks a schedule. Source: `validateScheduleFormat`.
fn check_schedule(errs: &mut Errors, schedule: &str, has_zone: bool) {
    if schedule.is_empty() {
        errs.push(FieldError::required("spec.schedule", ""));
        return;
    }
    if schedule.contains("TZ=") {
        let why = if has_zone {
            "cannot use both timeZone field and TZ or CRON_TZ in schedule"
        } else {
            "cannot use TZ or CRON_TZ in schedule, use timeZone field instead"
        };
        errs.push(FieldError::invalid("spec.schedule", schedule, why));
        return;
    }
    if let Err(why) = Schedule::parse(schedule) {
        errs.push(FieldError::invalid("spec.schedule", schedule, why));
    }
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
    use crate::api::kinds::testing::json::{causes, row};
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
        "#]].assert_eq(&wrong.map(|schedule| causes(&CRON_JOBS, &nightly(schedule))).concat());
        expect![[r#"
            metadata.name: Invalid value: "a-name-that-is-longer-than-fifty-two-characters-and-so-refused": must be no more than 52 characters
            spec.concurrencyPolicy: Unsupported value: "Maybe": supported values: "Allow", "Forbid", "Replace"
            spec.successfulJobsHistoryLimit: Invalid value: -1: must be greater than or equal to 0
            spec.jobTemplate.spec.template.spec.restartPolicy: Required value: valid values: "OnFailure", "Never"
        "#]].assert_eq(&causes(&CRON_JOBS, "metadata: {name: a-name-that-is-longer-than-fifty-two-characters-and-so-refused}\nspec: {schedule: '@daily', concurrencyPolicy: Maybe, successfulJobsHistoryLimit: -1, jobTemplate: {spec: {template: {spec: {restartPolicy: Always, containers: [{name: c, image: i}]}}}}}"));
    }

    #[test]
    fn a_row_reads_as_in_kubernetes() {
        let cron =
            format!("{}\nstatus: {{active: [{{}}], lastScheduleTime: '2026-03-01T11:59:00Z'}}", nightly("@daily"));
        assert_eq!(row(&CRON_JOBS, &cron), "cron | @daily | <none> | False | 1 | 60s | <unknown> | c | i | <none>");
    }
}
