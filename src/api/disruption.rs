//! What a PodDisruptionBudget says of itself, which its controller and evictions both write.
//!
//! **Source**: `UpdateDisruptionAllowedCondition`, `k8s.io/kubernetes/pkg/apis/policy/…/pdb`, v1.37.

use k8s_openapi::{
    api::policy::v1::PodDisruptionBudgetStatus,
    apimachinery::pkg::apis::meta::v1::{Condition, Time},
};

/// Condition: a pod may be evicted now.
pub const ALLOWED: &str = "DisruptionAllowed";

/// Says whether a pod may be evicted now.
pub fn set_allowed(status: &mut PodDisruptionBudgetStatus, is_allowed: bool, generation: i64, now: &Time) {
    let (value, reason) = if is_allowed { ("True", "SufficientPods") } else { ("False", "InsufficientPods") };
    set(status, value, reason, String::new(), generation, now);
}

/// Says that nothing may be evicted, because it cannot be counted what there is to be.
pub fn set_failed(status: &mut PodDisruptionBudgetStatus, why: String, generation: i64, now: &Time) {
    set(status, "False", "SyncFailed", why, generation, now);
}

/// The time of a condition is that of its last change of value.
fn set(
    status: &mut PodDisruptionBudgetStatus,
    value: &str,
    reason: &str,
    message: String,
    generation: i64,
    now: &Time,
) {
    let all = status.conditions.get_or_insert_default();
    let former = all.iter().position(|c| c.type_ == ALLOWED);
    let since = former.filter(|at| all[*at].status == value).map(|at| all[at].last_transition_time.clone());
    let condition = Condition {
        type_: ALLOWED.to_owned(),
        status: value.to_owned(),
        reason: reason.to_owned(),
        message,
        observed_generation: Some(generation),
        last_transition_time: since.unwrap_or_else(|| now.clone()),
    };
    match former {
        Some(at) => all[at] = condition,
        None => all.push(condition),
    }
}
