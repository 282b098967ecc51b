//! The Job controller: pods until enough of them have succeeded, or until it is clear that they will not.
//!
//! - [`tally`]: what a job's pods amount to; [`indexes`], [`policy`], [`backoff`]: what it needs for that.
//! - [`decide`]: pods are made and deleted, and what ended is counted; [`pods`]: what is made.
//! - [`status`]: numbers and the last condition, concluded after the pass.
//!
//! A pod has the finalizer [`FINALIZER`] until it is counted. Counting has three writes: the pod's UID goes into
//! `uncountedTerminatedPods` of the status, the pod loses its finalizer, the number grows and the UID leaves again. Whatever comes between,
//! each pod counts once. An index needs no UID: it is in `completedIndexes` or it is not.
//!
//! **Invariants**: no pod counts twice; no two active pods of an index for longer than a pass; a job that has ended makes no pods and has its
//! last condition only when all its pods have ended.
//!
//! **Source**: `pkg/controller/job`, `pkg/controller/ttlafterfinished`, v1.37.

mod backoff;
mod decide;
mod indexes;
mod pods;
mod policy;
mod status;
mod tally;
#[cfg(test)]
mod tests;

use super::{
    namespace::namespace_goes,
    pods::{of_owner, on_more_quota, wake_owner},
    runtime::{Action, Controller, Decision, Done, Moved, Trigger, controller_key, selector_of},
};
use crate::{
    api::{
        kinds::{job::Jobs, pod::Pods},
        meta::{ObjectKey, controller_of},
        selector::LabelSelector,
    },
    registry::Registry,
};
use jiff::Timestamp;
use k8s_openapi::{
    api::{
        batch::v1::{Job, JobCondition, JobSpec, JobStatus},
        core::v1::Pod,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use std::sync::Arc;

/// What keeps a pod until it is counted.
pub(super) const FINALIZER: &str = "batch.kubernetes.io/job-tracking";
/// Who manages a job that names nobody else.
const CONTROLLER: &str = "kubernetes.io/job-controller";
/// Conditions: it is clear that the job succeeds or fails; it has.
const SUCCESS_MET: &str = "SuccessCriteriaMet";
const FAILURE_TARGET: &str = "FailureTarget";
pub(super) const COMPLETE: &str = "Complete";
pub(super) const FAILED: &str = "Failed";
const SUSPENDED: &str = "Suspended";

/// What is looked at.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// A job.
    Job(ObjectKey),
    /// A pod with a job's finalizer that may have no job any more.
    Pod(ObjectKey),
}

/// All that a pass depends on.
#[derive(Clone, Debug)]
pub enum Observed {
    /// Of a job.
    Job(Box<JobObserved>),
    /// A pod with a job's finalizer that no job counts.
    Orphan(Arc<Pod>),
}

/// All that a pass over a job depends on.
#[derive(Clone, Debug)]
pub struct JobObserved {
    /// The job.
    pub job: Arc<Job>,
    /// The pods that it owns or may adopt, in key order.
    pub pods: Vec<Arc<Pod>>,
    /// Whether the namespace is going away, so that nothing can be created in it.
    pub namespace_goes: bool,
    /// The time.
    pub now: Timestamp,
}

/// The controller.
#[derive(Clone, Copy, Debug)]
pub struct JobController;

impl Controller for JobController {
    type Key = Key;
    type Observed = Observed;

    const CONCLUDES: bool = true;

    fn name(&self) -> &'static str {
        "job"
    }

    fn event_source(&self) -> &'static str {
        "job-controller"
    }

    fn triggers(&self) -> Vec<Trigger<Key>> {
        vec![
            Trigger::on::<Jobs>(wake_for_job),
            Trigger::on::<Pods>(wake_for_pod),
            on_more_quota::<Jobs>().mapped(Key::Job),
        ]
    }

    fn observe(&self, registry: &Registry, key: &Key) -> Option<Observed> {
        match key {
            Key::Job(key) => {
                let job = registry.api::<Jobs>().get(key)?;
                let pods = of_owner(registry, &job.metadata, &selector(&job));
                let (namespace_goes, now) = (namespace_goes(registry, &key.namespace), registry.clock().now());
                Some(Observed::Job(Box::new(JobObserved { job, pods, namespace_goes, now })))
            }
            Key::Pod(key) => {
                let pod = registry.api::<Pods>().get(key)?;
                is_orphan(registry, &pod).then_some(Observed::Orphan(pod))
            }
        }
    }

    fn weight(&self, observed: &Observed) -> usize {
        match observed {
            Observed::Job(observed) => observed.pods.len(),
            Observed::Orphan(_) => 0,
        }
    }

    fn decide(&self, observed: &Observed) -> Decision {
        match observed {
            Observed::Job(observed) => decide::decide(observed),
            Observed::Orphan(pod) => {
                let mut decision = Decision::rest();
                decision.then(Action::update::<Pods>(without_finalizer(pod)).because("no job counts it any more"));
                decision
            }
        }
    }

    fn conclude(&self, observed: &Observed, done: &Done) -> Decision {
        match observed {
            Observed::Job(observed) => status::conclude(observed, done),
            Observed::Orphan(_) => Decision::rest(),
        }
    }
}

/// A job that goes leaves pods that nobody counts.
fn wake_for_job(registry: &Registry, moved: &Moved<Job>, keys: &mut Vec<Key>) {
    let Some(job) = moved.last() else { return };
    keys.push(Key::Job(ObjectKey::of(&job.metadata)));
    if moved.after.is_none() {
        let owned = registry.api::<Pods>().owned_by(job.metadata.uid.as_deref().unwrap_or_default());
        keys.extend(owned.iter().filter(|pod| has_finalizer(pod)).map(|pod| Key::Pod(ObjectKey::of(&pod.metadata))));
    }
}

fn wake_for_pod(registry: &Registry, moved: &Moved<Pod>, keys: &mut Vec<Key>) {
    let mut jobs = Vec::new();
    wake_owner::<Jobs>(registry, moved, &mut jobs, selector);
    keys.extend(jobs.into_iter().map(Key::Job));
    let orphan = moved.after.as_ref().filter(|pod| is_orphan(registry, pod));
    keys.extend(orphan.map(|pod| Key::Pod(ObjectKey::of(&pod.metadata))));
}

/// Whether a pod waits to be counted by a job that is not there. A pod without an owner may be adopted first.
fn is_orphan(registry: &Registry, pod: &Pod) -> bool {
    if !has_finalizer(pod) {
        return false;
    }
    match controller_of(&pod.metadata) {
        None => true,
        Some(owner) => controller_key::<Jobs>(&pod.metadata)
            .and_then(|key| registry.api::<Jobs>().get(&key))
            .is_none_or(|job| job.metadata.uid.as_ref() != Some(&owner.uid)),
    }
}

fn selector(job: &Job) -> LabelSelector {
    spec(job).selector.as_ref().map_or_else(LabelSelector::nothing, selector_of)
}

fn spec(job: &Job) -> &JobSpec {
    job.spec.as_ref().expect("a stored job has a spec")
}

fn status_of(job: &Job) -> JobStatus {
    job.status.clone().unwrap_or_default()
}

/// Whether another controller manages the job.
fn is_anothers(job: &Job) -> bool {
    spec(job).managed_by.as_deref().is_some_and(|manager| manager != CONTROLLER)
}

/// Whether the job is to have no pods for now.
fn is_suspending(job: &Job) -> bool {
    spec(job).suspend == Some(true)
}

/// A condition of the job that holds.
pub(super) fn true_condition<'a>(job: &'a Job, type_: &str) -> Option<&'a JobCondition> {
    job.status.as_ref()?.conditions.iter().flatten().find(|c| c.type_ == type_ && c.status == "True")
}

/// How the job ended, if it has: the condition [`COMPLETE`] or [`FAILED`].
pub(super) fn end_of(job: &Job) -> Option<&JobCondition> {
    true_condition(job, COMPLETE).or_else(|| true_condition(job, FAILED))
}

fn has_finalizer(pod: &Pod) -> bool {
    pod.metadata.finalizers.iter().flatten().any(|f| f == FINALIZER)
}

fn without_finalizer(pod: &Pod) -> Pod {
    let finalizers: Vec<_> = pod.metadata.finalizers.iter().flatten().filter(|f| *f != FINALIZER).cloned().collect();
    let metadata = ObjectMeta { finalizers: (!finalizers.is_empty()).then_some(finalizers), ..pod.metadata.clone() };
    Pod { metadata, ..pod.clone() }
}
