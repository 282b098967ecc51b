//! Which taints a pod bears.
//!
//! **Source**: `k8s.io/component-helpers/scheduling/corev1/helpers.go` and `ToleratesTaint`, k8s.io/api/core/v1/toleration.go, v1.37.

use k8s_openapi::api::core::v1::{Pod, Taint, Toleration};
use std::time::Duration;

/// Whether the pod bears this taint.
pub(super) fn is_tolerated(pod: &Pod, taint: &Taint) -> bool {
    tolerations(pod).any(|t| tolerates(t, taint))
}

/// How long the pod bears all of these taints: `None` for ever, zero not at all.
/// A toleration counts when it matches one of the taints; of those that count, the shortest time holds.
pub(super) fn tolerated_for<'a>(pod: &Pod, taints: impl IntoIterator<Item = &'a Taint>) -> Option<Duration> {
    let mut shortest = None;
    for taint in taints {
        let Some(toleration) = tolerations(pod).find(|t| tolerates(t, taint)) else { return Some(Duration::ZERO) };
        // Less than nothing is nothing.
        let secs = toleration.toleration_seconds.map(|secs| Duration::from_secs(u64::try_from(secs).unwrap_or(0)));
        shortest = [shortest, secs].into_iter().flatten().min();
    }
    shortest
}

fn tolerations(pod: &Pod) -> impl Iterator<Item = &Toleration> {
    pod.spec.iter().flat_map(|s| s.tolerations.iter().flatten())
}

fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let text = |t: &Option<String>| t.clone().unwrap_or_default();
    let (effect, key) = (text(&toleration.effect), text(&toleration.key));
    if !effect.is_empty() && effect != taint.effect || !key.is_empty() && key != taint.key {
        return false;
    }
    match toleration.operator.as_deref() {
        None | Some("" | "Equal") => text(&toleration.value) == text(&taint.value),
        Some("Exists") => true,
        Some(_) => false,
    }
}
