//! What a container's life calls for by its spec: roles, restart policies, back-off, grace periods.
//!
//! Called by `decide`, `status` and `translate`. Pure; of one container at a time.
//! **Source**: `pkg/kubelet/container/helpers.go` `ShouldContainerBeRestarted`; `pkg/kubelet/kuberuntime/kuberuntime_container.go`
//! `setTerminationGracePeriod`; `k8s.io/client-go/util/flowcontrol/backoff.go`, v1.37.

use crate::{
    base::{backoff::Backoff, clock::after},
    node::{
        identity::PodId,
        observe::{Cause, ObservedContainer, StopReason},
    },
};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Container, ContainerRestartRule, LifecycleHandler, Pod, Probe};
use std::time::Duration;

/// Delays between crashes, when nobody says; the first restart has none. Source: `MaxCrashLoopBackOff`, `initialBackOff`,
/// `pkg/kubelet/kubelet.go`.
pub const CRASH_BACKOFF: Backoff = Backoff { base: Duration::from_secs(10), cap: Duration::from_mins(5) };
/// The grace of containers whose network is gone already: enough to flush, too short to keep the pod waiting.
const STRAY_GRACE: SignedDuration = SignedDuration::from_secs(2);
/// The grace of a pod that does not say. Source: `DefaultTerminationGracePeriodSeconds`, core/v1.
const GRACE_DEFAULT: i64 = 30;

/// What part a container plays in its pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Runs to its end before the next may start.
    Init,
    /// An init container that goes on running beside the others.
    Sidecar,
    /// A container proper.
    Main,
    /// One that somebody added to look at the others: it runs once.
    Ephemeral,
}

/// The role of a container.
pub fn role_of(spec: &Container, is_init: bool) -> Role {
    match (is_init, spec.restart_policy.as_deref()) {
        (true, Some("Always")) => Role::Sidecar,
        (true, _) => Role::Init,
        (false, _) => Role::Main,
    }
}

/// The name of a pod in messages: `name_namespace(uid)`.
pub fn go_pod_name(pod: &Pod) -> String {
    PodId::of(pod).to_string()
}

/// The handler that runs after a container's start.
pub fn post_start_of(spec: &Container) -> Option<&LifecycleHandler> {
    spec.lifecycle.as_ref()?.post_start.as_ref()
}

/// The handler that runs before a container's end.
pub fn pre_stop_of(spec: &Container) -> Option<&LifecycleHandler> {
    spec.lifecycle.as_ref()?.pre_stop.as_ref()
}

/// Whether a container that ended is started again.
pub fn restarts_after(pod: &Pod, spec: &Container, role: Role, ended: &ObservedContainer) -> bool {
    let Some(exit) = ended.exit() else { return false };
    let policy = policy_of(pod, spec, role);
    match exit.cause {
        Cause::Stopped(StopReason::PodDeleted | StopReason::Deadline | StopReason::PodOver) => false,
        // A changed definition is started whatever the policy.
        Cause::Stopped(StopReason::Changed | StopReason::Superseded | StopReason::Resized) => true,
        Cause::Stopped(
            StopReason::Liveness | StopReason::Startup | StopReason::PostStartHook | StopReason::SandboxGone,
        ) => policy != Policy::Never,
        Cause::Itself | Cause::Outside => rule_restarts(spec, exit.code) || policy.restarts(exit.code),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Policy {
    Always,
    OnFailure,
    Never,
}

impl Policy {
    fn restarts(self, code: i32) -> bool {
        match self {
            Self::Always => true,
            Self::OnFailure => code != 0,
            Self::Never => false,
        }
    }
}

fn policy_of(pod: &Pod, spec: &Container, role: Role) -> Policy {
    let of_pod = pod.spec.as_ref().and_then(|s| s.restart_policy.as_deref());
    let policy = match spec.restart_policy.as_deref().or(of_pod) {
        Some("Never") => Policy::Never,
        Some("OnFailure") => Policy::OnFailure,
        _ => Policy::Always,
    };
    if role == Role::Ephemeral {
        return Policy::Never;
    }
    // An init container that succeeded is done.
    if role == Role::Init && policy == Policy::Always { Policy::OnFailure } else { policy }
}

fn rule_restarts(spec: &Container, code: i32) -> bool {
    let matches = |rule: &ContainerRestartRule| {
        rule.exit_codes.as_ref().is_some_and(|codes| {
            let is_listed = codes.values.iter().flatten().any(|value| *value == code);
            if codes.operator == "In" { is_listed } else { !is_listed }
        })
    };
    spec.restart_policy_rules.iter().flatten().find(|rule| matches(rule)).is_some_and(|rule| rule.action == "Restart")
}

/// How often a container has failed in a row, counting this end, and the earliest time of its next start.
pub(super) fn back_off(ended: &ObservedContainer, delays: Backoff) -> (u32, Timestamp) {
    let failures = ended.failures_after();
    let Some(exit) = ended.exit() else { return (failures, ended.created_at) };
    if !exit.cause.is_own_fault() {
        return (failures, exit.at);
    }
    let delay = delays.delay(failures - 1);
    (failures, after(exit.at, SignedDuration::try_from(delay).expect("the longest delay is five minutes")))
}

/// Whether a container's environment names the pod's address, so that it cannot be created before the sandbox has one.
pub(super) fn needs_pod_ip(spec: &Container) -> bool {
    let names_address = |path: &str| matches!(path, "status.podIP" | "status.podIPs");
    let mut sources = spec.env.iter().flatten().filter_map(|var| var.value_from.as_ref()?.field_ref.as_ref());
    sources.any(|field| names_address(&field.field_path))
}

/// The pod's grace period.
pub fn grace_period(pod: &Pod) -> i64 {
    pod.spec.as_ref().and_then(|s| s.termination_grace_period_seconds).unwrap_or(GRACE_DEFAULT)
}

/// How long a stop for this reason may take until `SIGKILL`.
pub(super) fn stop_grace(pod: &Pod, spec: Option<&Container>, reason: StopReason, now: Timestamp) -> SignedDuration {
    let of_probe = |probe: Option<&Probe>| {
        let secs = probe.and_then(|p| p.termination_grace_period_seconds).unwrap_or_else(|| grace_period(pod));
        SignedDuration::from_secs(secs)
    };
    let of_pod = SignedDuration::from_secs(grace_period(pod));
    match reason {
        StopReason::PodDeleted => deletion_grace(pod, now),
        StopReason::Liveness => of_probe(spec.and_then(|s| s.liveness_probe.as_ref())),
        StopReason::Startup => of_probe(spec.and_then(|s| s.startup_probe.as_ref())),
        StopReason::Deadline
        | StopReason::PodOver
        | StopReason::Changed
        | StopReason::PostStartHook
        | StopReason::Superseded
        | StopReason::Resized => of_pod,
        StopReason::SandboxGone => of_pod.min(STRAY_GRACE),
    }
}

/// What is left of the grace that the delete gave. The mark's time has whole seconds, so a stop that begins with the delete
/// gets its full grace, and one that begins late (a sidecar, or after a restart of skiff) gets the rest.
fn deletion_grace(pod: &Pod, now: Timestamp) -> SignedDuration {
    let full =
        SignedDuration::from_secs(pod.metadata.deletion_grace_period_seconds.unwrap_or_else(|| grace_period(pod)));
    let Some(marked) = &pod.metadata.deletion_timestamp else { return full };
    let left = marked.0.duration_since(now);
    let is_fresh = left.saturating_add(SignedDuration::from_secs(2)) >= full;
    if is_fresh { full } else { left.max(SignedDuration::from_secs(2)).min(full) }
}
