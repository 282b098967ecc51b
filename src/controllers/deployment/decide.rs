//! One pass over a Deployment: what to do with its ReplicaSets.
//!
//! **Source**: `syncDeployment`, pkg/controller/deployment, v1.37.

use super::{
    Observed, claim_of,
    plan::Plan,
    recreate, rolling, scale,
    sets::{is_paused, is_recreate, spec},
};
use crate::{
    api::{
        kind::Kind as _,
        kinds::{deployment::Deployments, replica_set::ReplicaSets},
    },
    controllers::runtime::{Action, Claim, Decision, EventDraft, Planned, Step, controller_reference, selector_of},
};
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};

/// What to do.
pub(super) fn decide(observed: &Observed) -> Decision {
    let d = &*observed.deployment;
    if selects_all(d) {
        let message = "This deployment is selecting all pods. A non-empty selector is required.";
        let event = EventDraft::warning::<Deployments>(d, "SelectingAll", message);
        return Decision { events: vec![event], ..Decision::default() };
    }
    let claims = claims(observed);
    if !claims.is_empty() {
        // The sets wake this key when they have changed hands, and everything else follows then.
        return Decision { steps: vec![Step::Parallel(claims)], ..Decision::default() };
    }
    if d.metadata.deletion_timestamp.is_some() {
        return Decision::rest();
    }
    let mut plan = Plan::of(observed);
    plan.follow_deployment();
    if is_paused(d) {
        scale::scale(&mut plan);
        plan.clean_up();
    } else if scale::is_due(&plan) {
        scale::scale(&mut plan);
    } else if is_recreate(d) {
        recreate::roll(&mut plan);
    } else {
        rolling::roll(&mut plan);
    }
    plan.into_decision()
}

/// Whether the selector is empty.
pub(super) fn selects_all(d: &Deployment) -> bool {
    selector_of(&spec(d).selector).is_empty()
}

fn claims(observed: &Observed) -> Vec<Planned> {
    let d = &*observed.deployment;
    let selector = selector_of(&spec(d).selector);
    let owner = controller_reference(&Deployments::INFO, &d.metadata);
    let planned = |rs: &ReplicaSet| match claim_of(d, &selector, rs) {
        Claim::Adopt => Some(Action::adopt::<ReplicaSets>(rs, owner.clone()).because("the selector selects an orphan")),
        Claim::Release => {
            Some(Action::release::<ReplicaSets>(rs, &owner.uid).because("the selector no longer selects it"))
        }
        Claim::Mine | Claim::NotMine => None,
    };
    observed.replica_sets.iter().filter_map(|rs| planned(rs)).collect()
}
