//! What several controllers ask of a pod.
//!
//! **Source**: `pkg/api/v1/pod/util.go` and `pkg/controller/controller_utils.go`, v1.37.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Pod, PodCondition};
use std::time::Duration;

/// Whether the pod has ended.
pub(super) fn is_terminal(pod: &Pod) -> bool {
    matches!(pod.status.as_ref().and_then(|s| s.phase.as_deref()), Some("Succeeded" | "Failed"))
}

/// Whether the pod neither has ended nor goes.
pub(super) fn is_active(pod: &Pod) -> bool {
    !is_terminal(pod) && pod.metadata.deletion_timestamp.is_none()
}

/// Whether the pod goes and has not ended yet.
pub(super) fn is_terminating(pod: &Pod) -> bool {
    !is_terminal(pod) && pod.metadata.deletion_timestamp.is_some()
}

/// The condition of this type.
pub(super) fn condition<'a>(pod: &'a Pod, type_: &str) -> Option<&'a PodCondition> {
    pod.status.as_ref()?.conditions.iter().flatten().find(|c| c.type_ == type_)
}

/// Whether the pod is ready.
pub(super) fn is_ready(pod: &Pod) -> bool {
    condition(pod, "Ready").is_some_and(|c| c.status == "True")
}

/// Whether the pod has been ready for this long.
pub(super) fn is_available(pod: &Pod, min_ready: SignedDuration, now: Timestamp) -> bool {
    is_ready(pod) && (min_ready.is_zero() || available_in(pod, min_ready, now).is_none())
}

/// How long until a ready pod is available; `None` when it is already, or is not ready.
pub(super) fn available_in(pod: &Pod, min_ready: SignedDuration, now: Timestamp) -> Option<Duration> {
    if min_ready.is_zero() {
        return None;
    }
    let ready = condition(pod, "Ready").filter(|c| c.status == "True")?;
    let since = ready.last_transition_time.as_ref().map_or(now, |t| t.0);
    let left = since.checked_add(min_ready).ok()?.duration_since(now);
    // The time must have passed, not only come.
    (!left.is_negative()).then(|| Duration::try_from(left).unwrap_or_default() + Duration::from_millis(1))
}

/// The time without fractions of a second, as objects show it.
pub(super) fn whole_seconds(now: Timestamp) -> Timestamp {
    Timestamp::from_second(now.as_second()).expect("a timestamp's seconds are in range")
}
