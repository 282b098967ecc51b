//! The status of a job after a pass: what was noted is counted, and the last condition is set once no pod is left to end.
//!
//! **Source**: `syncJob` and `enactJobFinished`, pkg/controller/job/job_controller.go, v1.37.

use super::{
    COMPLETE, FAILED, FAILURE_TARGET, JobObserved, SUCCESS_MET, SUSPENDED, end_of, has_finalizer, is_anothers,
    is_suspending, spec,
    tally::{Tally, len},
    true_condition,
};
use crate::{
    api::{kinds::job::Jobs, pod_state},
    base::ordered::Set,
    controllers::runtime::{Action, Decision, Done, EventDraft, Report, stamp},
};
use k8s_openapi::api::batch::v1::{Job, JobCondition, JobStatus};
use std::time::Duration;

/// Writes the status, when it has changed.
pub(super) fn conclude(observed: &JobObserved, done: &Done) -> Decision {
    let job = &*observed.job;
    if is_anothers(job) || end_of(job).is_some() {
        return Decision::rest();
    }
    let tally = Tally::of(observed);
    let mut status = JobStatus {
        active: some(len(&tally.active)),
        ready: Some(i32::try_from(tally.active.iter().filter(|pod| pod_state::is_pod_ready(pod)).count()).unwrap_or(0)),
        terminating: Some(len(&tally.terminating)),
        ..tally.status.clone()
    };
    count_noted(&tally, &mut status);
    let mut decision = Decision::default();
    let mut told = follow_suspension(observed, &mut status);
    // What failed in the pass may have been the counting.
    if done.error().is_none() {
        told = finish(&tally, observed, &mut status).or(told);
    }
    if status == tally.status {
        return decision;
    }
    let deadline = spec(job).active_deadline_seconds.filter(|_| status.start_time != tally.status.start_time);
    deadline.into_iter().for_each(|secs| decision.look_again_after(Duration::from_secs(secs.unsigned_abs())));
    let job = Job { status: Some(status), ..job.clone() };
    let report = told.map_or(Report::Nothing, |event| Report::OnSuccess(Box::new(event)));
    decision.then(Action::update_status::<Jobs>(job).because("the status changed").telling(report));
    decision
}

fn some(n: i32) -> Option<i32> {
    (n != 0).then_some(n)
}

/// Pods that are noted and let go are counted. Source: `cleanUncountedPodsWithoutFinalizers`.
fn count_noted(tally: &Tally<'_>, status: &mut JobStatus) {
    let held: Set<&String> =
        tally.owned.iter().filter(|pod| has_finalizer(pod)).filter_map(|pod| pod.metadata.uid.as_ref()).collect();
    let is_held = |uid: &String| held.contains(uid);
    let settle = |noted: &mut Option<Vec<String>>| {
        let before = noted.as_ref().map_or(0, Vec::len);
        noted.iter_mut().for_each(|uids| uids.retain(is_held));
        let left = noted.as_ref().map_or(0, Vec::len);
        if left == 0 {
            *noted = None;
        }
        i32::try_from(before - left).expect("a job has fewer than 2^31 pods")
    };
    let uncounted = status.uncounted_terminated_pods.get_or_insert_default();
    let (succeeded, failed) = (settle(&mut uncounted.succeeded), settle(&mut uncounted.failed));
    if !tally.is_indexed() {
        status.succeeded = some(status.succeeded.unwrap_or(0) + succeeded);
    }
    status.failed = some(status.failed.unwrap_or(0) + failed);
}

/// When the job started, and whether it is suspended; what is told of that.
fn follow_suspension(observed: &JobObserved, status: &mut JobStatus) -> Option<EventDraft> {
    let (job, now) = (&*observed.job, observed.now);
    let is_suspending = is_suspending(job);
    if !is_suspending {
        status.start_time.get_or_insert_with(|| stamp(now));
    }
    let is_over = [SUCCESS_MET, FAILURE_TARGET].iter().any(|type_| true_condition(job, type_).is_some());
    if is_over || job.metadata.deletion_timestamp.is_some() {
        return None;
    }
    if is_suspending {
        let news = set(status, SUSPENDED, true, ("JobSuspended", "Job suspended"), observed);
        return news.then(|| EventDraft::normal::<Jobs>(job, "Suspended", "Job suspended"));
    }
    let was_suspended = true_condition(job, SUSPENDED).is_some();
    if was_suspended {
        set(status, SUSPENDED, false, ("JobResumed", "Job resumed"), observed);
        status.start_time = Some(stamp(now));
        return Some(EventDraft::normal::<Jobs>(job, "Resumed", "Job resumed"));
    }
    None
}

/// Sets a condition; says whether its status is another. One that would be false is not added.
fn set(
    status: &mut JobStatus,
    type_: &str,
    is_true: bool,
    (reason, message): (&str, &str),
    observed: &JobObserved,
) -> bool {
    let value = if is_true { "True" } else { "False" };
    let conditions = status.conditions.get_or_insert_default();
    let former = conditions.iter().position(|c| c.type_ == type_);
    if former.map_or(!is_true, |at| conditions[at].status == value) {
        if conditions.is_empty() {
            status.conditions = None;
        }
        return false;
    }
    let now = stamp(observed.now);
    let new = JobCondition {
        type_: type_.to_owned(),
        status: value.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        last_probe_time: Some(now.clone()),
        last_transition_time: Some(now),
    };
    match former {
        Some(at) => conditions[at] = new,
        None => conditions.push(new),
    }
    true
}

/// Says how the job ended, once everything is counted and no pod is left; what is told of that.
fn finish(tally: &Tally<'_>, observed: &JobObserved, status: &mut JobStatus) -> Option<EventDraft> {
    let job = tally.job;
    let noted = status.uncounted_terminated_pods.clone().unwrap_or_default();
    let is_settled = noted.failed.is_none()
        && noted.succeeded.is_none()
        && tally.active.is_empty()
        && tally.terminating.is_empty()
        && !tally.owned.iter().any(|pod| has_finalizer(pod));
    if !is_settled {
        return None;
    }
    let why = |c: &JobCondition| (c.reason.clone().unwrap_or_default(), c.message.clone().unwrap_or_default());
    if let Some((reason, message)) = true_condition(job, SUCCESS_MET).map(why) {
        set(status, COMPLETE, true, (&reason, &message), observed);
        status.completion_time = Some(stamp(observed.now));
        let too_many = tally.completions().is_some_and(|n| status.succeeded.unwrap_or(0) > n);
        return Some(if too_many {
            let message = "Too many succeeded pods running after completion count reached";
            EventDraft::warning::<Jobs>(job, "TooManySucceededPods", message)
        } else {
            EventDraft::normal::<Jobs>(job, "Completed", "Job completed")
        });
    }
    let (reason, message) = true_condition(job, FAILURE_TARGET).map(why)?;
    set(status, FAILED, true, (&reason, &message), observed);
    Some(EventDraft::warning::<Jobs>(job, failure_reason(&reason), message))
}

/// The reason as a constant: events have no others.
fn failure_reason(reason: &str) -> &'static str {
    let known =
        ["BackoffLimitExceeded", "DeadlineExceeded", "FailedIndexes", "MaxFailedIndexesExceeded", "PodFailurePolicy"];
    known.into_iter().find(|known| *known == reason).unwrap_or("Failed")
}
