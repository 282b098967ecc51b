//! How far a Deployment may stray from its size: Kubernetes' `maxSurge` and `maxUnavailable`, worked out anew.

use k8s_openapi::{api::apps::v1::Deployment, apimachinery::pkg::util::intstr::IntOrString};

/// How many pods a Deployment may have, and how many must be available.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fence {
    /// At most so many pods.
    pub(super) pods_max: i32,
    /// At least so many available ones.
    pub(super) available_min: i32,
}

impl Fence {
    /// The fence of a Deployment with defaults filled in.
    pub(super) fn of(deployment: &Deployment) -> Self {
        let replicas = deployment.spec.replicas.unwrap_or(1);
        let rolling = deployment.spec.strategy.as_ref().and_then(|s| s.rolling_update.as_ref());
        let Some(rolling) = rolling else { return Self { pods_max: replicas, available_min: 0 } };
        let surge = of_replicas(rolling.max_surge.as_ref(), replicas, true);
        let unavailable = of_replicas(rolling.max_unavailable.as_ref(), replicas, false);
        let unavailable = if surge == 0 && unavailable == 0 { 1 } else { unavailable };
        Self { pods_max: replicas + surge, available_min: (replicas - unavailable).max(0) }
    }
}

/// A number, or a percentage of the replicas.
fn of_replicas(value: Option<&IntOrString>, replicas: i32, rounds_up: bool) -> i32 {
    match value.expect("defaults are filled in") {
        IntOrString::Int(n) => *n,
        IntOrString::String(text) => {
            let percent: i32 = text.trim_end_matches('%').parse().unwrap();
            (replicas * percent + if rounds_up { 99 } else { 0 }) / 100
        }
    }
}
