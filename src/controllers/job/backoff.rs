//! How long a job waits before it makes a pod in the place of one that failed.
//!
//! Upstream remembers failures in memory and forgets them when it restarts; here they are read off the pods, which stay with their job. So a
//! pod that somebody deleted is replaced at once.
//!
//! **Source**: `pkg/controller/job/backoff_utils.go`, v1.37.

use crate::{
    api::pod_state::{self, READY},
    base::backoff::Backoff,
};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use std::time::Duration;

/// Source: `DefaultJobPodFailureBackOff` and `MaxJobPodFailureBackOff`.
const BACKOFF: Backoff = Backoff { base: Duration::from_secs(10), cap: Duration::from_mins(10) };

/// How long is left of the delay that follows these failures in a row, the last of which was then.
pub(super) fn remaining(failures: u32, last: Timestamp, now: Timestamp) -> Duration {
    let since = Duration::try_from(now.duration_since(last)).unwrap_or(Duration::ZERO);
    BACKOFF.delay(failures).saturating_sub(since)
}

/// The same for a job as a whole: what failed after the last success counts.
pub(super) fn remaining_of_all<'a>(
    succeeded: impl Iterator<Item = &'a Pod>,
    failed: impl Iterator<Item = &'a Pod>,
    now: Timestamp,
) -> Duration {
    let last_success = succeeded.filter_map(finished_at).max();
    let (mut failures, mut last) = (0, None);
    for at in failed.filter_map(finished_at).filter(|at| last_success.is_none_or(|last| *at > last)) {
        failures += 1;
        last = last.max(Some(at));
    }
    last.map_or(Duration::ZERO, |last| remaining(failures, last, now))
}

/// When a pod ended: when its last container did, or else when it was seen not to be ready any more.
pub(super) fn finished_at(pod: &Pod) -> Option<Timestamp> {
    let status = pod.status.as_ref();
    let ended = |c: &ContainerStatus| c.state.as_ref()?.terminated.as_ref()?.finished_at.as_ref().map(|t| t.0);
    let containers = status.into_iter().flat_map(|s| s.container_statuses.iter().flatten());
    let last = containers.filter_map(ended).max();
    let unready = || pod_state::condition(pod, READY)?.last_transition_time.as_ref().map(|t| t.0);
    last.or_else(unready).or_else(|| pod.metadata.creation_timestamp.as_ref().map(|t| t.0))
}
