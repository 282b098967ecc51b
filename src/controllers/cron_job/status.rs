//! The status of a CronJob after a pass.
//!
//! **Source**: `syncCronJob`, pkg/controller/cronjob/cronjob_controllerv2.go, v1.37.

use super::{
    Observed,
    decide::{job_name, started},
};
use crate::{
    api::kinds::{cron_job::CronJobs, job::Jobs},
    controllers::{
        job::{COMPLETE, end_of, true_condition},
        runtime::{Action, Decision},
    },
    registry::events::reference,
};
use k8s_openapi::{
    api::{
        batch::v1::{CronJob, CronJobStatus, Job},
        core::v1::ObjectReference,
    },
    apimachinery::pkg::apis::meta::v1::Time,
};

/// Writes the status, when it has changed.
pub(super) fn conclude(observed: &Observed) -> Decision {
    let cron = &*observed.cron;
    let before = cron.status.clone().unwrap_or_default();
    let mut active: Vec<ObjectReference> = before.active.clone().unwrap_or_default();
    active.retain(|told| observed.jobs.iter().any(|job| job.metadata.uid == told.uid && end_of(job).is_none()));
    let mut last_schedule_time = before.last_schedule_time.clone();
    if let Some(at) = started(observed) {
        last_schedule_time = Some(Time(at));
        let job = observed.job(&job_name(cron, at)).filter(|job| end_of(job).is_none());
        if let Some(job) = job.filter(|job| !active.iter().any(|told| told.uid == job.metadata.uid)) {
            active.push(reference::<Jobs>(job));
        }
    }
    let succeeded = observed.jobs.iter().filter(|job| true_condition(job, COMPLETE).is_some());
    let completed = |job: &Job| job.status.as_ref()?.completion_time.as_ref().map(|time| time.0);
    let last_success = succeeded.filter_map(|job| completed(job)).max();
    let last_known = before.last_successful_time.as_ref().map(|time| time.0);
    let after = CronJobStatus {
        active: (!active.is_empty()).then_some(active),
        last_schedule_time,
        last_successful_time: last_success.max(last_known).map(Time),
    };
    let mut decision = Decision::default();
    if after != before {
        let cron = CronJob { status: Some(after), ..cron.clone() };
        decision.then(Action::update_status::<CronJobs>(cron).because("the status changed"));
    }
    decision
}
