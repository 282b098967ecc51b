//! The disruption controller: writes into a PodDisruptionBudget how many of its pods may be evicted now, counted anew whenever a pod changes.
//!
//! **Not here**: the count (`registry::disruption`), the eviction itself (`server`).
//! **Source**: `pkg/controller/disruption/disruption.go`, v1.37.

#[cfg(test)]
mod tests;

use super::runtime::{Action, Controller, Decision, EventDraft, Moved, Trigger, is_selected};
use crate::{
    api::{
        kinds::{pod::Pods, pod_disruption_budget::PodDisruptionBudgets},
        meta::ObjectKey,
    },
    registry::{
        Registry,
        disruption::{Observed, count, observe, selector},
    },
};
use k8s_openapi::api::{core::v1::Pod, policy::v1::PodDisruptionBudget};

/// The controller.
#[derive(Clone, Copy, Debug)]
pub struct DisruptionController;

impl Controller for DisruptionController {
    type Key = ObjectKey;
    type Observed = Observed;

    fn name(&self) -> &'static str {
        "disruption"
    }

    fn event_source(&self) -> &'static str {
        "controllermanager"
    }

    fn triggers(&self) -> Vec<Trigger<ObjectKey>> {
        vec![Trigger::itself::<PodDisruptionBudgets>(), Trigger::on::<Pods>(wake_for_pod)]
    }

    fn observe(&self, registry: &Registry, key: &ObjectKey) -> Option<Observed> {
        Some(observe(registry, registry.api::<PodDisruptionBudgets>().get(key)?))
    }

    fn weight(&self, observed: &Observed) -> usize {
        observed.pods.len()
    }

    fn decide(&self, observed: &Observed) -> Decision {
        decide(observed)
    }
}

fn wake_for_pod(registry: &Registry, moved: &Moved<Pod>, keys: &mut Vec<ObjectKey>) {
    let namespace = moved.last().and_then(|pod| pod.metadata.namespace.clone()).unwrap_or_default();
    for budget in registry.api::<PodDisruptionBudgets>().list(&namespace).items {
        let selector = selector(&budget);
        if moved.states().any(|pod| is_selected(&selector, &pod.metadata)) {
            keys.push(ObjectKey::of(&budget.metadata));
        }
    }
}

fn decide(observed: &Observed) -> Decision {
    let budget = &*observed.budget;
    let mut decision = Decision::default();
    if budget.metadata.deletion_timestamp.is_some() {
        return decision;
    }
    let count = count(observed);
    if let Some(wait) = count.holds_for {
        decision.look_again_after(wait);
    }
    if Some(&count.status) == budget.status.as_ref() {
        return decision;
    }
    if let Some(why) = &count.failed {
        let message = format!("Failed to calculate the number of expected pods: {why}");
        let event = EventDraft::warning::<PodDisruptionBudgets>(budget, "CalculateExpectedPodCountFailed", message);
        decision.events.push(event);
    }
    if observed.pods.is_empty() {
        let event = EventDraft::normal::<PodDisruptionBudgets>(budget, "NoPods", "No matching pods found");
        decision.events.push(event);
    }
    let budget = PodDisruptionBudget { status: Some(count.status), ..budget.clone() };
    decision.then(Action::update_status::<PodDisruptionBudgets>(budget).because("the count changed"));
    decision
}
