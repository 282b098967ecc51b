//! One pass over a rollout.

use super::{Observed, pod};
use crate::{
    api::{
        kinds::{
            deployment_config::types::DeploymentConfig, pod::Pods, replication_controller::ReplicationControllers,
            service_account::ServiceAccounts,
        },
        rollout::{
            self, CANCELLED, DEPLOYER_COMPLETED_AT, DEPLOYER_CREATED_AT, DEPLOYER_POD, DEPLOYER_STARTED_AT, DESIRED,
            PHASE, Phase, REASON, REPLICAS, ROLLOUT, annotate, annotation, is_cancelled,
        },
    },
    controllers::runtime::{Action, Decision, EventDraft},
};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{
    api::core::v1::{ContainerState, Pod, ReplicationController},
    apimachinery::pkg::apis::meta::v1::{OwnerReference, Time},
};
use std::time::Duration;

const NO_POD: &str = "unable to create deployer pod";
const LOST: &str = "deployer pod no longer exists";
const UNRELATED: &str = "unrelated pod with the same name as this deployment is already running";

pub(super) fn decide(seen: &Observed, image: &str) -> Decision {
    let rc = &*seen.rollout;
    if rc.metadata.deletion_timestamp.is_some() {
        return Decision::rest();
    }
    let phase = rollout::phase(rc);
    match phase {
        Phase::Failed if is_cancelled(rc) => end_workers(seen),
        Phase::Complete | Phase::Failed => Decision::rest(),
        Phase::New | Phase::Pending | Phase::Running => match rollout::config(rc) {
            Err(why) => ended(rc, Phase::Failed, &why),
            Ok(_) if phase != Phase::New => follow(seen, phase),
            Ok(config) => begin(seen, &config, image),
        },
    }
}

/// A rollout that has no deployer yet.
fn begin(seen: &Observed, config: &DeploymentConfig, image: &str) -> Decision {
    let rc = &*seen.rollout;
    if is_cancelled(rc) {
        let mut decision = end_workers(seen);
        decision.then(update(rc, Phase::Pending, &[]).because("it was cancelled before it began"));
        return decision;
    }
    match &seen.deployer {
        Some(deployer) if !is_of(deployer, rc) => ended(rc, Phase::Failed, UNRELATED),
        Some(deployer) => {
            let created = deployer.metadata.creation_timestamp.as_ref().map(time);
            let name = deployer.metadata.name.clone();
            let told = [(DEPLOYER_POD, name), (DEPLOYER_CREATED_AT, created)];
            let mut decision = Decision::rest();
            decision.then(update(rc, Phase::Pending, &told).because("it has a deployer"));
            decision
        }
        None => hire(seen, config, image),
    }
}

/// Makes the deployer pod, and before it what such a pod needs.
fn hire(seen: &Observed, config: &DeploymentConfig, image: &str) -> Decision {
    let rc = &*seen.rollout;
    let age = rc.metadata.creation_timestamp.as_ref().map_or(SignedDuration::ZERO, |t| seen.now.duration_since(t.0));
    let left = config.spec.strategy.timeout_secs() - age.as_secs();
    if left <= 0 {
        let mut decision = ended(rc, Phase::Failed, NO_POD);
        let name = rc.metadata.name.as_deref().unwrap_or_default();
        let message = format!("Rollout for {name:?} failed: {NO_POD} within the timeout");
        decision.events.push(EventDraft::warning::<ReplicationControllers>(rc, "RolloutTimeout", message));
        return decision;
    }
    let mut decision = Decision::rest();
    if seen.namespace_goes {
        return decision;
    }
    decision.look_again_after(Duration::from_secs(left.unsigned_abs()));
    let namespace = rc.metadata.namespace.as_deref().unwrap_or_default();
    if !seen.has_account {
        decision.then(Action::create::<ServiceAccounts>(pod::account(namespace)).because("deployers have an account"));
    }
    if !seen.has_binding {
        decision.then(pod::binding(namespace).because("deployers may do what they do"));
    }
    decision.then(Action::create::<Pods>(pod::of(rc, config, image)).because("a rollout needs its deployer"));
    decision
}

/// A rollout that has, or had, a deployer.
fn follow(seen: &Observed, phase: Phase) -> Decision {
    let rc = &*seen.rollout;
    let Some(deployer) = seen.deployer.as_ref().filter(|pod| is_of(pod, rc)) else {
        let mut decision = if is_cancelled(rc) { cancelled(rc) } else { ended(rc, Phase::Failed, LOST) };
        decision.steps.splice(0..0, end_workers(seen).steps);
        return decision;
    };
    let next = phase_of(deployer).max(phase);
    if next != Phase::Complete && is_cancelled(rc) {
        let mut decision = end_workers(seen);
        if next == Phase::Failed {
            decision = cancelled(rc);
        }
        return decision;
    }
    let mut decision = adopt_workers(seen);
    if next == phase {
        return decision;
    }
    let state = state_of(deployer);
    let started = state.and_then(started_at).map(time);
    let told = [(DEPLOYER_STARTED_AT, started), (DEPLOYER_COMPLETED_AT, state.and_then(finished_at).map(time))];
    let action = if next == Phase::Complete { complete(rc, &told, &mut decision) } else { update(rc, next, &told) };
    decision.then(action.because("its deployer has come this far"));
    decision
}

/// Whether the pod is the deployer of this rollout, and not one that has the name by chance.
fn is_of(pod: &Pod, rc: &ReplicationController) -> bool {
    annotation(&pod.metadata, ROLLOUT) == rc.metadata.name.as_deref().unwrap_or_default()
}

/// How far a rollout is by its deployer.
fn phase_of(deployer: &Pod) -> Phase {
    match deployer.status.as_ref().and_then(|status| status.phase.as_deref()) {
        Some("Running") => Phase::Running,
        Some("Succeeded") => Phase::Complete,
        Some("Failed") => Phase::Failed,
        _ => Phase::Pending,
    }
}

fn state_of(deployer: &Pod) -> Option<&ContainerState> {
    deployer.status.as_ref()?.container_statuses.iter().flatten().next()?.state.as_ref()
}

fn started_at(state: &ContainerState) -> Option<&Time> {
    let running = state.running.as_ref().and_then(|running| running.started_at.as_ref());
    running.or_else(|| state.terminated.as_ref().and_then(|ended| ended.started_at.as_ref()))
}

fn finished_at(state: &ContainerState) -> Option<&Time> {
    state.terminated.as_ref().and_then(|ended| ended.finished_at.as_ref())
}

fn time(time: &Time) -> String {
    let at: Timestamp = time.0;
    at.to_string()
}

/// The rollout in another phase, with these annotations where they are known.
fn with_phase(rc: &ReplicationController, phase: Phase, told: &[(&str, Option<String>)]) -> ReplicationController {
    let mut rc = rc.clone();
    annotate(&mut rc.metadata, PHASE, phase.as_str());
    for (key, value) in told {
        if let Some(value) = value {
            annotate(&mut rc.metadata, key, value.clone());
        }
    }
    rc
}

fn update(rc: &ReplicationController, phase: Phase, told: &[(&str, Option<String>)]) -> Action {
    Action::update::<ReplicationControllers>(with_phase(rc, phase, told))
}

/// The rollout, complete: it is what it was to be. A wish to cancel it came too late.
fn complete(rc: &ReplicationController, told: &[(&str, Option<String>)], decision: &mut Decision) -> Action {
    let mut done = with_phase(rc, Phase::Complete, told);
    let annotations = done.metadata.annotations.get_or_insert_default();
    if let Some(desired) = annotations.remove(DESIRED) {
        annotations.insert(REPLICAS.to_owned(), desired);
    }
    if annotations.remove(CANCELLED).is_some() {
        annotations.remove(REASON);
        let message = "Succeeded before cancel recorded";
        decision.events.push(EventDraft::warning::<ReplicationControllers>(rc, "FailedCancellation", message));
    }
    Action::update::<ReplicationControllers>(done)
}

fn ended(rc: &ReplicationController, phase: Phase, why: &str) -> Decision {
    let mut decision = Decision::rest();
    decision.then(update(rc, phase, &[(REASON, Some(why.to_owned()))]).because("it is over"));
    decision
}

/// The rollout has ended because somebody wanted it to.
fn cancelled(rc: &ReplicationController) -> Decision {
    let mut decision = Decision::rest();
    decision.then(update(rc, Phase::Failed, &[]).because("it was cancelled"));
    let name = rc.metadata.name.as_deref().unwrap_or_default();
    let message = format!("Rollout for {name:?} cancelled");
    decision.events.push(EventDraft::normal::<ReplicationControllers>(rc, "RolloutCancelled", message));
    decision
}

/// Deletes the deployer and the hooks.
fn end_workers(seen: &Observed) -> Decision {
    let mut decision = Decision::rest();
    for pod in seen.workers.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none()) {
        decision.then(Action::delete::<Pods>(pod).because("the rollout that it works for was cancelled"));
    }
    decision
}

/// Pods that work for a rollout go with it.
fn adopt_workers(seen: &Observed) -> Decision {
    let owner = owner(&seen.rollout);
    let mut decision = Decision::rest();
    for pod in seen.workers.iter().filter(|pod| pod.metadata.owner_references.as_ref().is_none_or(Vec::is_empty)) {
        decision.then(Action::adopt::<Pods>(pod, owner.clone()).because("it works for this rollout"));
    }
    decision
}

/// The reference that makes a pod go with its rollout. It is no controller's: the pod is none of those that the rollout counts.
pub(super) fn owner(rc: &ReplicationController) -> OwnerReference {
    OwnerReference {
        api_version: "v1".to_owned(),
        kind: "ReplicationController".to_owned(),
        name: rc.metadata.name.clone().unwrap_or_default(),
        uid: rc.metadata.uid.clone().unwrap_or_default(),
        ..OwnerReference::default()
    }
}
