//! The pods of a job: which are made next, which are too many, and what they look like.
//!
//! **Source**: `manageJob`, `activePodsForRemoval`, `firstPendingIndexes` and `addCompletionIndex…`, pkg/controller/job, v1.37.

use super::{
    FINALIZER, backoff,
    indexes::Indexes,
    policy::Verdict,
    tally::{Tally, attempts, index_of, len},
};
use crate::{
    api::{kinds::job::Jobs, pod_state},
    base::ordered::Map,
    controllers::{pods::from_template, replica_set::rank::first_to_go},
};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, EnvVar, EnvVarSource, ObjectFieldSelector, Pod};
use std::time::Duration;

/// The most pods that are made or deleted in a pass. Source: `MaxPodCreateDeletePerSync`.
pub(super) const BURST_MAX: usize = 500;
/// The annotation and label of a pod with its index.
pub(super) const INDEX: &str = "batch.kubernetes.io/job-completion-index";
/// The annotation of a pod with how many pods of its index failed before it.
pub(super) const INDEX_FAILURES: &str = "batch.kubernetes.io/job-index-failure-count";
/// The same, of those that the policy ignores.
pub(super) const IGNORED_FAILURES: &str = "batch.kubernetes.io/job-index-ignored-failure-count";
const INDEX_VARIABLE: &str = "JOB_COMPLETION_INDEX";
/// Generated names have room for a suffix of five. Source: `MaxGeneratedNameLength`.
const PREFIX_MAX: usize = 58;

/// What is to become of a job's active pods.
#[derive(Debug, Default)]
pub(super) struct Wanted<'a> {
    /// They are deleted.
    pub(super) surplus: Vec<&'a Pod>,
    /// They are made.
    pub(super) new: Vec<Pod>,
    /// When to look again, because pods are to be made later.
    pub(super) wait: Option<Duration>,
}

/// What is wanted of a job that goes on.
pub(super) fn wanted<'a>(tally: &Tally<'a>, now: Timestamp) -> Wanted<'a> {
    let active = tally.active.len();
    let (most, going) = (most_active(tally), if tally.only_replaces_ended() { tally.terminating.len() } else { 0 });
    let mut surplus = surplus(tally, active.saturating_sub(most), now);
    surplus.truncate(BURST_MAX);
    if !surplus.is_empty() {
        return Wanted { surplus, ..Wanted::default() };
    }
    let missing = most.saturating_sub(active + going).min(BURST_MAX);
    if missing == 0 {
        return Wanted::default();
    }
    if tally.spec.backoff_limit_per_index.is_some() {
        return wanted_of_each(tally, missing, now);
    }
    let wait = backoff::remaining_of_all(ended(tally, "Succeeded"), ended(tally, "Failed"), now);
    if !wait.is_zero() {
        return Wanted { wait: Some(wait), ..Wanted::default() };
    }
    let new = if tally.is_indexed() {
        pending(tally).take(missing).map(|index| indexed_pod(tally, index)).collect()
    } else {
        std::iter::repeat_with(|| plain_pod(tally)).take(missing).collect()
    };
    Wanted { new, ..Wanted::default() }
}

/// The indexes that are tried next, where each waits for itself.
fn wanted_of_each<'a>(tally: &Tally<'a>, missing: usize, now: Timestamp) -> Wanted<'a> {
    let mut wanted = Wanted::default();
    for index in pending(tally) {
        if wanted.new.len() == missing {
            break;
        }
        let wait = tally.kept.get(&index).map_or(Duration::ZERO, |pod| {
            let failures = u32::try_from(attempts(pod)).unwrap_or(0).saturating_add(1);
            backoff::finished_at(pod).map_or(Duration::ZERO, |at| backoff::remaining(failures, at, now))
        });
        if wait.is_zero() {
            wanted.new.push(indexed_pod(tally, index));
        } else {
            wanted.wait = Some(wanted.wait.map_or(wait, |other| other.min(wait)));
        }
    }
    wanted
}

fn ended<'a>(tally: &Tally<'a>, phase: &'static str) -> impl Iterator<Item = &'a Pod> {
    tally.owned.clone().into_iter().filter(move |pod| pod_state::phase(pod) == phase)
}

/// How many pods may be active.
fn most_active(tally: &Tally<'_>) -> usize {
    if tally.is_suspended() {
        return 0;
    }
    let parallelism = tally.spec.parallelism.unwrap_or(1);
    let most = match tally.completions() {
        // Once one has succeeded, what runs may end by itself.
        None if tally.succeeded() > 0 => len(&tally.active),
        None => parallelism,
        Some(completions) => (completions - tally.succeeded()).min(parallelism),
    };
    usize::try_from(most).unwrap_or(0)
}

/// Active pods that go: the second of an index first, then those that cost least.
fn surplus<'a>(tally: &Tally<'a>, at_least: usize, now: Timestamp) -> Vec<&'a Pod> {
    let (mut gone, mut left) = (Vec::new(), tally.active.clone());
    if tally.is_indexed() {
        let of_index = Map::of_groups(left.drain(..).map(|pod| (tally.index(pod), pod)));
        for (index, pods) in of_index {
            let n = if index.is_none() { pods.len() } else { pods.len() - 1 };
            let first = first_to_go(pods.clone(), n, now);
            left.extend(pods.iter().filter(|pod| !first.iter().any(|other| other.metadata.uid == pod.metadata.uid)));
            gone.extend(first);
        }
    }
    let more = at_least.saturating_sub(gone.len());
    gone.extend(first_to_go(left, more, now));
    gone
}

/// The indexes that nobody works on, lowest first.
fn pending<'t>(tally: &'t Tally<'_>) -> impl Iterator<Item = i32> + 't {
    let going = if tally.only_replaces_ended() { &tally.terminating[..] } else { &[] };
    let taken: Indexes = tally.active.iter().chain(going).filter_map(|pod| index_of(pod)).collect();
    let is_failed = |index: i32| tally.failed_indexes.as_ref().is_some_and(|failed| failed.has(index));
    (0..tally.completions().unwrap_or(0))
        .filter(move |index| !taken.has(*index) && !tally.succeeded_indexes.has(*index) && !is_failed(*index))
}

fn plain_pod(tally: &Tally<'_>) -> Pod {
    let mut pod = from_template::<Jobs>(&tally.job.metadata, &tally.spec.template);
    let finalizers = pod.metadata.finalizers.get_or_insert_default();
    if !finalizers.iter().any(|f| f == FINALIZER) {
        finalizers.push(FINALIZER.to_owned());
    }
    pod
}

fn indexed_pod(tally: &Tally<'_>, index: i32) -> Pod {
    let mut pod = plain_pod(tally);
    let job = tally.job.metadata.name.as_deref().unwrap_or_default();
    let meta = &mut pod.metadata;
    meta.generate_name = Some(name_prefix(job, index));
    meta.labels.get_or_insert_default().insert(INDEX.to_owned(), index.to_string());
    let annotations = meta.annotations.get_or_insert_default();
    annotations.insert(INDEX.to_owned(), index.to_string());
    if tally.spec.backoff_limit_per_index.is_some() {
        let (failures, ignored) = tally.kept.get(&index).map_or((0, 0), |former| failures_after(tally, former));
        annotations.insert(INDEX_FAILURES.to_owned(), failures.to_string());
        if ignored > 0 {
            annotations.insert(IGNORED_FAILURES.to_owned(), ignored.to_string());
        }
    }
    let spec = pod.spec.get_or_insert_default();
    spec.hostname = Some(format!("{job}-{index}"));
    spec.containers.iter_mut().chain(spec.init_containers.iter_mut().flatten()).for_each(add_index_variable);
    pod
}

/// How many pods of an index failed with this one: those that count, and those that do not.
fn failures_after(tally: &Tally<'_>, former: &Pod) -> (i32, i32) {
    let (counted, ignored) = (number(former, INDEX_FAILURES), number(former, IGNORED_FAILURES));
    match tally.verdict(former) {
        Verdict::Ignore => (counted, ignored + 1),
        Verdict::Count | Verdict::FailIndex | Verdict::FailJob(_) => (counted + 1, ignored),
    }
}

/// The name's beginning; a long job's name is cut, so that the index stays whole.
fn name_prefix(job: &str, index: i32) -> String {
    let suffix = format!("-{index}-");
    let end = job.len().min(PREFIX_MAX - suffix.len());
    format!("{}{suffix}", job.get(..end).unwrap_or(job))
}

fn add_index_variable(container: &mut Container) {
    let variables = container.env.get_or_insert_default();
    if variables.iter().any(|variable| variable.name == INDEX_VARIABLE) {
        return;
    }
    let field = ObjectFieldSelector { field_path: format!("metadata.labels['{INDEX}']"), ..Default::default() };
    let from = EnvVarSource { field_ref: Some(field), ..EnvVarSource::default() };
    variables.push(EnvVar { name: INDEX_VARIABLE.to_owned(), value_from: Some(from), ..EnvVar::default() });
}

/// A number that a pod is annotated with; nothing is zero.
pub(super) fn number(pod: &Pod, annotation: &str) -> i32 {
    let text = pod.metadata.annotations.as_ref().and_then(|all| all.get(annotation));
    text.and_then(|text| text.parse().ok()).unwrap_or(0)
}
