//! One pass over a job: whether it is over, which pods are made and deleted, and what is counted.
//!
//! **Source**: `syncJob` and `trackJobStatusAndRemoveFinalizers`, pkg/controller/job/job_controller.go, v1.37.

use super::{
    FAILURE_TARGET, FINALIZER, JobObserved, SUCCESS_MET, end_of, has_finalizer, is_anothers, is_suspending, pods,
    policy::{Verdict, success_rule},
    tally::Tally,
    true_condition, without_finalizer,
};
use crate::{
    api::{
        kind::TypedKind as _,
        kinds::{job::Jobs, pod::Pods},
        pod_state,
    },
    controllers::runtime::{
        Action, Claim, Decision, Planned, Report, Step, claim, controller_reference, is_selected, stamp,
    },
    registry::{
        events::reference,
        pipeline::{DeleteOptions, Propagation},
    },
};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::{
    batch::v1::{Job, JobCondition},
    core::v1::{ContainerStatus, Pod},
};
use std::time::Duration;

/// How many pods are noted in a status before they are counted. Source: `MaxUncountedPods`.
const NOTED_MAX: usize = 500;

/// What to do.
pub(super) fn decide(observed: &JobObserved) -> Decision {
    let job = &*observed.job;
    if is_anothers(job) {
        return Decision::rest();
    }
    if end_of(job).is_some() {
        return after_the_end(observed);
    }
    let claims = claims(observed);
    if !claims.is_empty() {
        // The pods wake this key when they have changed hands, and everything else follows then.
        return Decision { steps: vec![Step::Parallel(claims)], ..Decision::default() };
    }
    let tally = Tally::of(observed);
    let verdict = verdict(&tally, observed.now);
    let mut decision = Decision::default();
    if verdict.is_some() {
        let active = tally.active.iter().map(|pod| deletion(job, pod, "the job is over"));
        then_all(&mut decision, active.collect());
    } else if job.metadata.deletion_timestamp.is_none() {
        manage(observed, &tally, &mut decision);
    }
    count(&tally, verdict, &mut decision);
    let deadline = deadline(job).filter(|_| !tally.is_suspended()).filter(|at| *at > observed.now);
    if let Some(left) = deadline.and_then(|at| Duration::try_from(at.duration_since(observed.now)).ok()) {
        decision.look_again_after(left);
    }
    decision
}

fn then_all(decision: &mut Decision, planned: Vec<Planned>) {
    if !planned.is_empty() {
        decision.then(Step::Parallel(planned));
    }
}

/// A job that has ended may be deleted some time later, and holds no pod back.
fn after_the_end(observed: &JobObserved) -> Decision {
    let (job, mut decision) = (&*observed.job, Decision::default());
    let held = observed.pods.iter().filter(|pod| has_finalizer(pod));
    let release = |pod: &Pod| Action::update::<Pods>(without_finalizer(pod)).because("its job has ended");
    then_all(&mut decision, held.map(|pod| release(pod)).collect());
    let Some(secs) = super::spec(job).ttl_seconds_after_finished else { return decision };
    let ended = end_of(job).and_then(|end| end.last_transition_time.as_ref()).map(|time| time.0);
    let due = ended.and_then(|at| at.checked_add(SignedDuration::from_secs(secs.into())).ok());
    match due {
        Some(due) if job.metadata.deletion_timestamp.is_none() => {
            match Duration::try_from(due.duration_since(observed.now)) {
                Ok(left) if !left.is_zero() => decision.look_again_after(left),
                _ => decision.then(deletion_of_job(job)),
            }
        }
        Some(_) | None => {}
    }
    decision
}

fn deletion_of_job(job: &Job) -> Planned {
    let options = DeleteOptions {
        uid: job.metadata.uid.clone(),
        propagation: Some(Propagation::Foreground),
        ..DeleteOptions::default()
    };
    let kind = crate::controllers::runtime::erased::<Jobs>();
    let key = crate::api::meta::ObjectKey::of(&job.metadata);
    Action::Delete { kind, key, options }.because("its time to live after its end is over")
}

/// Adoptions give the finalizer, releases take it.
fn claims(observed: &JobObserved) -> Vec<Planned> {
    let job = &*observed.job;
    let selector = super::selector(job);
    let owner = controller_reference(Jobs::erased().info(), &job.metadata);
    let planned = |pod: &Pod| match claim(&job.metadata, &pod.metadata, is_selected(&selector, &pod.metadata)) {
        Claim::Adopt => {
            let mut pod = pod.clone();
            pod.metadata.owner_references.get_or_insert_default().push(owner.clone());
            if !has_finalizer(&pod) {
                pod.metadata.finalizers.get_or_insert_default().push(FINALIZER.to_owned());
            }
            Some(Action::update::<Pods>(pod).because("the selector selects an orphan"))
        }
        Claim::Release => {
            let mut pod = without_finalizer(pod);
            let owners = pod.metadata.owner_references.get_or_insert_default();
            owners.retain(|o| o.uid != owner.uid);
            Some(Action::update::<Pods>(pod).because("the selector no longer selects it"))
        }
        Claim::Mine | Claim::NotMine => None,
    };
    observed.pods.iter().filter(|pod| pod_state::is_active(pod)).filter_map(|pod| planned(pod)).collect()
}

fn condition(type_: &str, reason: &str, message: &str, now: Timestamp) -> JobCondition {
    JobCondition {
        type_: type_.to_owned(),
        status: "True".to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        last_probe_time: Some(stamp(now)),
        last_transition_time: Some(stamp(now)),
    }
}

/// Whether it is clear how the job ends: the condition that says so already, or is to.
fn verdict(tally: &Tally<'_>, now: Timestamp) -> Option<JobCondition> {
    let told = [SUCCESS_MET, FAILURE_TARGET].into_iter().find_map(|type_| true_condition(tally.job, type_));
    if let Some(told) = told {
        return Some(told.clone());
    }
    if let Some((reason, message)) = failure(tally, now) {
        return Some(condition(FAILURE_TARGET, reason, &message, now));
    }
    let (completions, policy) = (tally.completions(), tally.spec.success_policy.as_ref());
    if let Some(rule) = success_rule(policy, &tally.succeeded_indexes, completions.unwrap_or(0)) {
        return Some(condition(SUCCESS_MET, "SuccessPolicy", &format!("Matched rules at index {rule}"), now));
    }
    let is_complete = match completions {
        None => tally.succeeded() > 0 && tally.active.is_empty(),
        Some(completions) => tally.succeeded() >= completions && tally.active.is_empty(),
    };
    let message = "Reached expected number of succeeded pods";
    is_complete.then(|| condition(SUCCESS_MET, "CompletionsReached", message, now))
}

/// Why the job fails, if it does.
fn failure(tally: &Tally<'_>, now: Timestamp) -> Option<(&'static str, String)> {
    let told = |reason, message: &str| Some((reason, message.to_owned()));
    let mut failed = tally.owned.iter().filter(|pod| tally.is_failed(pod));
    let by_policy = |pod: &&Pod| match tally.verdict(pod) {
        Verdict::FailJob(message) => Some(message),
        Verdict::Count | Verdict::Ignore | Verdict::FailIndex => None,
    };
    if let Some(message) = failed.find_map(by_policy) {
        return Some(("PodFailurePolicy", message));
    }
    let limit = tally.spec.backoff_limit.unwrap_or(i32::MAX);
    if tally.failed() > limit || restarts_past(tally, limit) {
        return told("BackoffLimitExceeded", "Job has reached the specified backoff limit");
    }
    if deadline(tally.job).is_some_and(|at| at <= now) && !tally.is_suspended() {
        return told("DeadlineExceeded", "Job was active longer than specified deadline");
    }
    let failed = tally.failed_indexes.as_ref()?;
    if tally.spec.max_failed_indexes.is_some_and(|max| failed.len() > max) {
        return told("MaxFailedIndexesExceeded", "Job has exceeded the specified maximal number of failed indexes");
    }
    let is_over = failed.len() > 0 && failed.len() + tally.succeeded_indexes.len() >= tally.completions().unwrap_or(0);
    if is_over { told("FailedIndexes", "Job has failed indexes") } else { None }
}

/// Whether containers were restarted in place more often than pods may fail. Source: `pastBackoffLimitOnFailure`.
fn restarts_past(tally: &Tally<'_>, limit: i32) -> bool {
    if tally.spec.template.spec.as_ref().and_then(|s| s.restart_policy.as_deref()) != Some("OnFailure") {
        return false;
    }
    let runs = |pod: &&&Pod| matches!(pod_state::phase(pod), "Running" | "Pending");
    let of = |statuses: Option<&Vec<ContainerStatus>>| -> i32 {
        statuses.into_iter().flatten().map(|c| c.restart_count).sum()
    };
    let statuses = tally.owned.iter().filter(runs).filter_map(|pod| pod.status.as_ref());
    let restarts: i32 =
        statuses.map(|s| of(s.init_container_statuses.as_ref()) + of(s.container_statuses.as_ref())).sum();
    if limit == 0 { restarts > 0 } else { restarts >= limit }
}

/// When the job must be over.
fn deadline(job: &Job) -> Option<Timestamp> {
    let start = job.status.as_ref()?.start_time.as_ref()?.0;
    let secs = super::spec(job).active_deadline_seconds?;
    start.checked_add(SignedDuration::from_secs(secs)).ok()
}

/// Makes and deletes the pods of a job that goes on.
fn manage(observed: &JobObserved, tally: &Tally<'_>, decision: &mut Decision) {
    let job = &*observed.job;
    let wanted = pods::wanted(tally, observed.now);
    if !wanted.surplus.is_empty() {
        // Pods that go because they are too many count for nothing.
        let released = wanted.surplus.iter().filter(|pod| has_finalizer(pod));
        let release = |pod: &Pod| Action::update::<Pods>(without_finalizer(pod)).because("it is not to be counted");
        then_all(decision, released.map(|pod| release(pod)).collect());
        let why = if is_suspending(job) { "the job is suspended" } else { "there are too many pods" };
        then_all(decision, wanted.surplus.iter().map(|pod| deletion(job, pod, why)).collect());
    } else if !wanted.new.is_empty() && !observed.namespace_goes {
        let report = Report::Creation(Box::new(reference::<Jobs>(job)));
        let create = |pod: Pod| Action::create::<Pods>(pod).because("there are too few pods").telling(report.clone());
        decision.then(Step::SlowStart(wanted.new.into_iter().map(create).collect()));
    }
    wanted.wait.into_iter().for_each(|wait| decision.look_again_after(wait));
}

fn deletion(job: &Job, pod: &Pod, why: &'static str) -> Planned {
    let report = Report::Deletion(Box::new(reference::<Jobs>(job)));
    Action::delete::<Pods>(pod).because(why).telling(report)
}

/// Notes what has ended in the status, and then lets those pods go.
fn count(tally: &Tally<'_>, verdict: Option<JobCondition>, decision: &mut Decision) {
    let is_over = verdict.is_some() || tally.job.metadata.deletion_timestamp.is_some();
    // What this pass deletes is counted by the next: its object is another by then.
    let is_marked_now = |pod: &Pod| verdict.is_some() && pod_state::is_active(pod);
    let mut status = tally.status.clone();
    let uncounted = status.uncounted_terminated_pods.get_or_insert_default();
    let mut completed = tally.completed.clone();
    let mut counted: Vec<&Pod> = Vec::new();
    let (mut noted, mut has_more) = (0, false);
    for pod in tally.owned.iter().filter(|pod| has_finalizer(pod)) {
        let has_succeeded = pod_state::phase(pod) == "Succeeded";
        let is_to_count = has_succeeded || is_over || tally.is_failed(pod);
        if !is_to_count || is_marked_now(pod) || is_kept(tally, pod, is_over) {
            continue;
        }
        if noted >= NOTED_MAX {
            has_more = true;
            break;
        }
        counted.push(pod);
        let uid = || pod.metadata.uid.clone().unwrap_or_default();
        match (tally.is_indexed(), has_succeeded) {
            _ if tally.is_noted(pod) => {}
            (true, true) => noted += usize::from(tally.index(pod).is_some_and(|index| completed.insert(index))),
            (true, false) if tally.index(pod).is_none() => {}
            (false, true) => {
                uncounted.succeeded.get_or_insert_default().push(uid());
                noted += 1;
            }
            (_, false) if tally.verdict(pod) != Verdict::Ignore => {
                uncounted.failed.get_or_insert_default().push(uid());
                noted += 1;
            }
            (_, false) => {}
        }
    }
    if tally.is_indexed() {
        status.succeeded = (completed.len() > 0).then_some(completed.len());
        status.completed_indexes = (completed.len() > 0).then(|| completed.to_string());
        status.failed_indexes = tally.failed_indexes.as_ref().map(ToString::to_string);
    }
    if let Some(verdict) = verdict.filter(|verdict| !has_more && true_condition(tally.job, &verdict.type_).is_none()) {
        status.conditions.get_or_insert_default().push(verdict);
    }
    // A status that is new only because it is not empty any more is the conclusion's.
    if noted > 0 || status.conditions != tally.status.conditions || status.failed_indexes != tally.status.failed_indexes
    {
        let job = Job { status: Some(status), ..tally.job.clone() };
        decision.then(Action::update_status::<Jobs>(job).because("pods have ended"));
    }
    let release = |pod: &Pod| Action::update::<Pods>(without_finalizer(pod)).because("it is counted");
    then_all(decision, counted.into_iter().map(release).collect());
    if has_more {
        decision.look_again_after(Duration::ZERO);
    }
}

/// Whether a failed pod is kept for the one that comes in its place.
fn is_kept(tally: &Tally<'_>, pod: &Pod, is_over: bool) -> bool {
    let of_index = tally.index(pod).and_then(|index| tally.kept.get(&index));
    !is_over && of_index.is_some_and(|kept| kept.metadata.uid == pod.metadata.uid)
}
