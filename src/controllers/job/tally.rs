//! What a job's pods amount to: which are active, which have ended and are not counted yet, which indexes are done.
//!
//! **Source**: `getNewFinishedPods`, `isPodFailed`, `calculateSucceededIndexes`, `calculateFailedIndexes` and
//! `getPodsWithDelayedDeletionPerIndex`, pkg/controller/job, v1.37.

use super::{
    FAILURE_TARGET, JobObserved, has_finalizer,
    indexes::Indexes,
    pods::{IGNORED_FAILURES, INDEX, INDEX_FAILURES, number},
    policy::{Verdict, verdict},
    selector, spec, status_of, true_condition,
};
use crate::{
    api::pod_state,
    base::ordered::{Map, Set},
    controllers::runtime::{Claim, claim, is_selected},
};
use k8s_openapi::api::{
    batch::v1::{Job, JobSpec, JobStatus},
    core::v1::Pod,
};

/// What a job's pods amount to.
#[derive(Debug)]
pub(super) struct Tally<'a> {
    pub(super) job: &'a Job,
    pub(super) spec: &'a JobSpec,
    pub(super) status: JobStatus,
    /// The UIDs that the status names: their pods are counted next.
    noted: Set<String>,
    /// The pods that are the job's.
    pub(super) owned: Vec<&'a Pod>,
    /// Those that neither ended nor go.
    pub(super) active: Vec<&'a Pod>,
    /// Those that go and have not ended.
    pub(super) terminating: Vec<&'a Pod>,
    /// Those that ended well and have never been counted.
    pub(super) new_succeeded: Vec<&'a Pod>,
    /// Those that failed and have never been counted.
    pub(super) new_failed: Vec<&'a Pod>,
    /// The indexes that the status says are done.
    pub(super) completed: Indexes,
    /// Those, and the ones that are to be counted.
    pub(super) succeeded_indexes: Indexes,
    /// The indexes that have failed for good, where each has a limit of its own.
    pub(super) failed_indexes: Option<Indexes>,
    /// Of each index that is to be tried again, the failed pod that tells the next one how often: it is kept until then.
    pub(super) kept: Map<i32, &'a Pod>,
}

impl<'a> Tally<'a> {
    pub(super) fn of(observed: &'a JobObserved) -> Self {
        let job = &*observed.job;
        let selector = selector(job);
        let is_ours =
            |pod: &&Pod| claim(&job.metadata, &pod.metadata, is_selected(&selector, &pod.metadata)) == Claim::Mine;
        let owned: Vec<&Pod> = observed.pods.iter().map(|pod| &**pod).filter(is_ours).collect();
        let is_going = |pod: &&&Pod| pod.metadata.deletion_timestamp.is_some() && !pod_state::is_terminal(pod);
        let mut tally = Self {
            job,
            spec: spec(job),
            status: status_of(job),
            noted: Set::new(),
            active: owned.iter().copied().filter(|pod| pod_state::is_active(pod)).collect(),
            terminating: owned.iter().filter(is_going).copied().collect(),
            owned,
            new_succeeded: Vec::new(),
            new_failed: Vec::new(),
            completed: Indexes::default(),
            succeeded_indexes: Indexes::default(),
            failed_indexes: None,
            kept: Map::new(),
        };
        tally.count_ended();
        if tally.is_indexed() {
            tally.count_indexes();
        }
        tally
    }

    pub(super) fn is_indexed(&self) -> bool {
        self.spec.completion_mode.as_deref() == Some("Indexed")
    }

    pub(super) fn completions(&self) -> Option<i32> {
        self.spec.completions
    }

    pub(super) fn is_suspended(&self) -> bool {
        self.spec.suspend == Some(true)
    }

    /// Whether a pod that goes is replaced only once it has ended. Source: `onlyReplaceFailedPods`.
    pub(super) fn only_replaces_ended(&self) -> bool {
        self.spec.pod_replacement_policy.as_deref() == Some("Failed") || self.spec.pod_failure_policy.is_some()
    }

    /// How many pods have succeeded, counted or not.
    pub(super) fn succeeded(&self) -> i32 {
        if self.is_indexed() {
            return self.succeeded_indexes.len();
        }
        let uncounted = self.status.uncounted_terminated_pods.as_ref().and_then(|u| u.succeeded.as_ref());
        self.status.succeeded.unwrap_or(0) + count(uncounted) + len(&self.new_succeeded)
    }

    /// How many pods have failed, counted or not, without those that the policy ignores.
    pub(super) fn failed(&self) -> i32 {
        let uncounted = self.status.uncounted_terminated_pods.as_ref().and_then(|u| u.failed.as_ref());
        let counting = self.new_failed.iter().filter(|pod| self.verdict(pod) != Verdict::Ignore);
        let new = i32::try_from(counting.count()).expect("a job has fewer than 2^31 pods");
        self.status.failed.unwrap_or(0) + count(uncounted) + new
    }

    /// What the policy says of a failed pod.
    pub(super) fn verdict(&self, pod: &Pod) -> Verdict {
        verdict(self.spec.pod_failure_policy.as_ref(), pod)
    }

    /// The index of a pod, when it is one that the job has.
    pub(super) fn index(&self, pod: &Pod) -> Option<i32> {
        let index = index_of(pod)?;
        (index < self.completions().unwrap_or(i32::MAX)).then_some(index)
    }

    /// Whether a pod has failed, or is as good as that. Source: `isPodFailed`.
    pub(super) fn is_failed(&self, pod: &Pod) -> bool {
        match pod_state::phase(pod) {
            "Failed" => true,
            "Succeeded" => false,
            _ => pod.metadata.deletion_timestamp.is_some() && !self.only_replaces_ended(),
        }
    }

    /// Whether the pod's UID is in the status already.
    pub(super) fn is_noted(&self, pod: &Pod) -> bool {
        pod.metadata.uid.as_ref().is_some_and(|uid| self.noted.contains(uid))
    }

    fn count_ended(&mut self) {
        let uncounted = self.status.uncounted_terminated_pods.clone().unwrap_or_default();
        self.noted = uncounted.failed.into_iter().chain(uncounted.succeeded).flatten().collect();
        let is_new =
            |pod: &Pod| has_finalizer(pod) && !self.is_noted(pod) && (!self.is_indexed() || self.index(pod).is_some());
        let new: Vec<&Pod> = self.owned.iter().copied().filter(|pod| is_new(pod)).collect();
        let succeeded = new.iter().copied().filter(|pod| pod_state::phase(pod) == "Succeeded").collect();
        self.new_failed = new.into_iter().filter(|pod| self.is_failed(pod)).collect();
        self.new_succeeded = succeeded;
    }

    fn count_indexes(&mut self) {
        let completions = self.completions().unwrap_or(0);
        self.completed = Indexes::parse(self.status.completed_indexes.as_deref().unwrap_or_default(), completions);
        self.succeeded_indexes = self.completed.clone();
        for pod in &self.new_succeeded {
            if let Some(index) = self.index(pod) {
                self.succeeded_indexes.insert(index);
            }
        }
        let Some(limit) = self.spec.backoff_limit_per_index else { return };
        let mut failed = Indexes::parse(self.status.failed_indexes.as_deref().unwrap_or_default(), completions);
        // Once it is decided that the job fails, pods end for that. Source: `canRemoveFinalizer`, by which they no longer count by index.
        let is_decided = true_condition(self.job, FAILURE_TARGET).is_some();
        for pod in self.new_failed.iter().filter(|_| !is_decided) {
            let is_last = match self.verdict(pod) {
                Verdict::FailIndex => true,
                Verdict::Ignore => false,
                Verdict::Count | Verdict::FailJob(_) => number(pod, INDEX_FAILURES) >= limit,
            };
            if let Some(index) = self.index(pod).filter(|index| is_last && !self.succeeded_indexes.has(*index)) {
                failed.insert(index);
            }
        }
        self.keep_predecessors(&failed);
        self.failed_indexes = Some(failed);
    }

    fn keep_predecessors(&mut self, failed: &Indexes) {
        let running: Indexes = self.active.iter().filter_map(|pod| self.index(pod)).collect();
        for pod in &self.new_failed {
            let Some(index) = self.index(pod) else { continue };
            if running.has(index) || failed.has(index) || self.succeeded_indexes.has(index) {
                continue;
            }
            let has_most = self.kept.get(&index).is_none_or(|other| attempts(other) <= attempts(pod));
            if has_most {
                self.kept.insert(index, pod);
            }
        }
    }
}

/// How many pods of its index failed before this one, whether they counted or not.
pub(super) fn attempts(pod: &Pod) -> i32 {
    number(pod, INDEX_FAILURES) + number(pod, IGNORED_FAILURES)
}

/// The index that a pod is annotated with.
pub(super) fn index_of(pod: &Pod) -> Option<i32> {
    let text = pod.metadata.annotations.as_ref()?.get(INDEX)?;
    text.parse().ok().filter(|index| *index >= 0)
}

fn count(uids: Option<&Vec<String>>) -> i32 {
    len(uids.map_or(&[][..], Vec::as_slice))
}

pub(super) fn len<T>(items: &[T]) -> i32 {
    i32::try_from(items.len()).expect("a job has fewer than 2^31 pods")
}
