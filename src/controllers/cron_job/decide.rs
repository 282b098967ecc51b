//! One pass over a CronJob: whether a job is made, and which old ones go.
//!
//! **Source**: `syncCronJob`, `cleanupFinishedJobs` and `getJobFromTemplate2`, pkg/controller/cronjob, v1.37.

use super::{
    Observed,
    due::{Come, Times},
};
use crate::{
    api::{
        cron::Schedule,
        kind::TypedKind as _,
        kinds::{cron_job::CronJobs, job::Jobs},
    },
    base::ordered::SortList as _,
    controllers::{
        job::{COMPLETE, FAILED, end_of, true_condition},
        runtime::{Action, Decision, EventDraft, Planned, Report, Step, controller_reference},
    },
};
use jiff::{Timestamp, tz::TimeZone};
use k8s_openapi::{
    api::batch::v1::{CronJob, Job},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

/// The annotation of a job with the time that it is of.
const SCHEDULED_AT: &str = "batch.kubernetes.io/cronjob-scheduled-timestamp";

/// What to do.
pub(super) fn decide(observed: &Observed) -> Decision {
    let mut decision = Decision { events: status_events(observed), ..Decision::default() };
    if observed.cron.metadata.deletion_timestamp.is_some() {
        return decision;
    }
    schedule(observed, &mut decision);
    let old: Vec<Planned> = old_jobs(observed).into_iter().map(|job| deletion(&observed.cron, job)).collect();
    if !old.is_empty() {
        decision.then(Step::Parallel(old));
    }
    decision
}

/// What is told of jobs that began or ended without us.
fn status_events(observed: &Observed) -> Vec<EventDraft> {
    let cron = &*observed.cron;
    let active = || cron.status.iter().flat_map(|s| s.active.iter().flatten());
    let mut events = Vec::new();
    for job in &observed.jobs {
        let name = job.metadata.name.as_deref().unwrap_or_default();
        let is_told = active().any(|j| j.uid == job.metadata.uid);
        match end_of(job) {
            None if !is_told && !is_ours(observed, job) => {
                let message = format!("Saw a job that the controller did not create or forgot: {name}");
                events.push(EventDraft::warning::<CronJobs>(cron, "UnexpectedJob", message));
            }
            Some(end) if is_told => {
                let message = format!("Saw completed job: {name}, condition: {}", end.type_);
                events.push(EventDraft::normal::<CronJobs>(cron, "SawCompletedJob", message));
            }
            None | Some(_) => {}
        }
    }
    for gone in active().filter(|j| !observed.jobs.iter().any(|job| job.metadata.uid == j.uid)) {
        let message = format!("Active job went missing: {}", gone.name.as_deref().unwrap_or_default());
        events.push(EventDraft::normal::<CronJobs>(cron, "MissingJob", message));
    }
    events
}

/// Whether a job is one that the schedule makes, and that only the status does not know yet.
fn is_ours(observed: &Observed, job: &Job) -> bool {
    is_scheduled(job)
        && started(observed).is_some_and(|at| job.metadata.name.as_deref() == Some(&job_name(&observed.cron, at)))
}

/// Whether a schedule made a job, and not a user from the CronJob's template.
pub(super) fn is_scheduled(job: &Job) -> bool {
    job.metadata.annotations.as_ref().is_some_and(|all| all.contains_key(SCHEDULED_AT))
}

/// The time that has come and whose job is there, although the status does not say so yet.
pub(super) fn started(observed: &Observed) -> Option<Timestamp> {
    let (schedule, zone) = (Schedule::parse(&observed.cron.spec.schedule).ok()?, observed.zone.as_ref().ok()?);
    let times = Times { cron: &observed.cron, schedule: &schedule, zone, now: observed.now };
    let at = times.come().ok()?.at?;
    observed.job(&job_name(&observed.cron, at)).map(|_| at)
}

/// Makes the job whose time has come.
fn schedule(observed: &Observed, decision: &mut Decision) {
    let cron = &*observed.cron;
    let mut warn =
        |reason, message: String| decision.events.push(EventDraft::warning::<CronJobs>(cron, reason, message));
    let zone = match &observed.zone {
        Ok(zone) => zone,
        Err(why) => {
            let name = cron.spec.time_zone.as_deref().unwrap_or_default();
            return warn("UnknownTimeZone", format!("invalid timeZone: {name:?}: {why}"));
        }
    };
    if cron.spec.suspend == Some(true) || observed.is_paused {
        return;
    }
    let schedule = match Schedule::parse(&cron.spec.schedule) {
        Ok(schedule) => schedule,
        Err(why) => {
            return warn("UnparseableSchedule", format!("unparseable schedule: {:?} : {why}", cron.spec.schedule));
        }
    };
    let times = Times { cron, schedule: &schedule, zone, now: observed.now };
    let come = match times.come() {
        Ok(come) => come,
        Err(why) => return warn("InvalidSchedule", format!("invalid schedule: {} : {why}", cron.spec.schedule)),
    };
    times.wait().into_iter().for_each(|wait| decision.look_again_after(wait));
    start(observed, zone, come, decision);
}

fn start(observed: &Observed, zone: &TimeZone, come: Come, decision: &mut Decision) {
    let cron = &*observed.cron;
    let Some(at) = come.at else { return };
    if observed.job(&job_name(cron, at)).is_some() {
        return;
    }
    if come.are_many {
        let message = "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew";
        decision.events.push(EventDraft::warning::<CronJobs>(cron, "TooManyMissedTimes", message));
    }
    let policy = cron.spec.concurrency_policy.as_deref();
    if policy == Some("Forbid") && observed.running().next().is_some() {
        let message = "Not starting job because prior execution is running and concurrency policy is Forbid";
        decision.events.push(EventDraft::normal::<CronJobs>(cron, "JobAlreadyActive", message));
        return;
    }
    if observed.namespace_goes {
        return;
    }
    if policy == Some("Replace") {
        let former: Vec<Planned> = observed.running().map(|job| deletion(cron, job)).collect();
        if !former.is_empty() {
            decision.then(Step::Parallel(former));
        }
    }
    decision.then(creation(cron, job(cron, at, zone)));
}

fn creation(cron: &CronJob, job: Job) -> Planned {
    let name = job.metadata.name.clone().unwrap_or_default();
    let report = Report::Outcome(Box::new([
        EventDraft::normal::<CronJobs>(cron, "SuccessfulCreate", format!("Created job {name}")),
        EventDraft::warning::<CronJobs>(cron, "FailedCreate", "Error creating job: "),
    ]));
    Action::create::<Jobs>(job).because("its time has come").telling(report)
}

fn deletion(cron: &CronJob, job: &Job) -> Planned {
    let name = job.metadata.name.as_deref().unwrap_or_default();
    let report = Report::Outcome(Box::new([
        EventDraft::normal::<CronJobs>(cron, "SuccessfulDelete", format!("Deleted job {name}")),
        EventDraft::warning::<CronJobs>(cron, "FailedDelete", "Deleted job: "),
    ]));
    Action::delete::<Jobs>(job).because("there are too many jobs").telling(report)
}

/// The name of the job of a time. Source: `getJobName`.
pub(super) fn job_name(cron: &CronJob, at: Timestamp) -> String {
    format!("{}-{}", cron.metadata.name.as_deref().unwrap_or_default(), at.as_second().div_euclid(60))
}

fn job(cron: &CronJob, at: Timestamp, zone: &TimeZone) -> Job {
    let template = cron.spec.job_template.clone();
    let from = template.metadata.unwrap_or_default();
    let mut annotations = from.annotations.unwrap_or_default();
    let local = at.to_zoned(zone.clone());
    let offset = if local.offset().seconds() == 0 { "%Y-%m-%dT%H:%M:%SZ" } else { "%Y-%m-%dT%H:%M:%S%:z" };
    annotations.insert(SCHEDULED_AT.to_owned(), local.strftime(offset).to_string());
    Job {
        metadata: ObjectMeta {
            name: Some(job_name(cron, at)),
            namespace: cron.metadata.namespace.clone(),
            labels: from.labels,
            annotations: Some(annotations),
            owner_references: Some(vec![controller_reference(CronJobs::erased().info(), &cron.metadata)]),
            ..ObjectMeta::default()
        },
        spec: template.spec,
        status: None,
    }
}

/// The jobs that ended and are more than are kept, oldest first.
fn old_jobs(observed: &Observed) -> Vec<&Job> {
    let spec = &observed.cron.spec;
    let beyond = |type_: &str, limit: Option<i32>| {
        let is_alive = |job: &&Job| job.metadata.deletion_timestamp.is_none();
        let ended = observed.jobs.iter().map(|job| &**job).filter(|job| true_condition(job, type_).is_some());
        let mut ended: Vec<&Job> = ended.filter(is_alive).collect();
        ended.sort_list_by_key(|job| {
            let start = job.status.as_ref().and_then(|s| s.start_time.as_ref()).map(|t| t.0);
            (start, job.metadata.name.clone())
        });
        let kept = limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(0));
        ended.truncate(ended.len().saturating_sub(kept));
        ended
    };
    let mut old = beyond(COMPLETE, spec.successful_jobs_history_limit);
    old.extend(beyond(FAILED, spec.failed_jobs_history_limit));
    old
}
