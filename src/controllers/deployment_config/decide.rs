//! One pass over a DeploymentConfig, in order.

use super::{
    Observed, claim_of, rollout,
    triggers::{Triggers, waits_for_images},
};
use crate::{
    api::{
        kind::Kind as _,
        kinds::{
            deployment_config::{
                DeploymentConfigs,
                types::{DeploymentConfig, DeploymentDetails},
            },
            replication_controller::ReplicationControllers,
        },
        rollout::{CANCELLED, Phase, REASON, annotate, is_cancelled, phase, size, version},
    },
    controllers::runtime::{Action, Claim, Decision, EventDraft, Planned, Report, Step, controller_reference},
};
use k8s_openapi::api::core::v1::ReplicationController;

/// Why the ReplicationController of a rollout is created.
pub(super) const BEGIN: &str = "a rollout is due";
/// What a rollout is told that another takes the place of.
const SUPERSEDED: &str = "newer deployment was found running";

pub(super) fn decide(seen: &Observed) -> Decision {
    let config = &*seen.config;
    let latest_version = config.status.latest_version;
    if latest_version == 0 && Triggers::of(config).is_manual() {
        return Decision::rest();
    }
    let claims = claims(seen);
    if !claims.is_empty() {
        // Whoever changed hands wakes this key, and everything else follows then.
        return Decision { steps: vec![Step::Parallel(claims)], ..Decision::default() };
    }
    if config.metadata.deletion_timestamp.is_some() {
        return Decision::rest();
    }
    if config.spec.paused {
        return clean_up(seen);
    }
    if seen.owned().next_back().is_some_and(|newest| version(newest) > latest_version) {
        // Somebody lost count: the numbers of rollouts are used once.
        return start(config, config.status.details.clone(), "a rollout has a higher number than the latest");
    }
    let latest = seen.latest();
    if latest.is_none() && latest_version > 0 {
        let running: Vec<_> = seen.owned().filter(|rc| !phase(rc).is_terminal()).collect();
        if !running.is_empty() {
            return cancel(config, &running);
        }
    }
    if waits_for_images(config) {
        return Decision::rest();
    }
    match latest {
        None if latest_version == 0 => match Triggers::of(config).first() {
            Some(why) => start(config, Some(why), "the first rollout is due"),
            None => Decision::rest(),
        },
        None => begin(seen),
        Some(latest) => match Triggers::of(config).next(latest) {
            Some(why) => start(config, Some(why), "something has changed"),
            None if phase(latest).is_terminal() => settle(seen),
            None => Decision::rest(),
        },
    }
}

fn claims(seen: &Observed) -> Vec<Planned> {
    let owner = controller_reference(&DeploymentConfigs::INFO, &seen.config.metadata);
    let planned = |rc: &ReplicationController| match claim_of(&seen.config, rc) {
        Claim::Adopt => Some(
            Action::adopt::<ReplicationControllers>(rc, owner.clone()).because("an orphan carries the config's name"),
        ),
        Claim::Release => Some(
            Action::release::<ReplicationControllers>(rc, &owner.uid).because("it no longer carries the config's name"),
        ),
        Claim::Mine | Claim::NotMine => None,
    };
    seen.rollouts.iter().filter_map(|rc| planned(rc)).collect()
}

/// Asks for the next rollout.
fn start(config: &DeploymentConfig, why: Option<DeploymentDetails>, because: &'static str) -> Decision {
    let mut next = config.clone();
    next.status.latest_version += 1;
    next.status.details = why;
    let mut decision = Decision::rest();
    decision.then(Action::update_status::<DeploymentConfigs>(next).because(because));
    decision
}

/// Ends what another rollout waits for. What it waits for wakes this key when it is over.
fn cancel(config: &DeploymentConfig, running: &[&ReplicationController]) -> Decision {
    let version = config.status.latest_version;
    let mut decision = Decision::rest();
    for rc in running.iter().filter(|rc| !is_cancelled(rc)) {
        let mut told = (*rc).clone();
        annotate(&mut told.metadata, CANCELLED, "true");
        annotate(&mut told.metadata, REASON, SUPERSEDED);
        let name = rc.metadata.name.as_deref().unwrap_or_default();
        let message = format!("Cancelled deployment {name:?} superceded by version {version}");
        let event = EventDraft::normal::<DeploymentConfigs>(config, "DeploymentCancelled", message);
        let update = Action::update::<ReplicationControllers>(told).because("another rollout takes its place");
        decision.then(update.telling(Report::OnSuccess(Box::new(event))));
    }
    if !decision.is_rest() {
        let message = format!("Deployment of version {version} awaiting cancellation of older running deployments");
        decision.events.push(EventDraft::normal::<DeploymentConfigs>(
            config,
            "DeploymentAwaitingCancellation",
            message,
        ));
    }
    decision
}

/// Makes the ReplicationController of the latest rollout, for its deployer.
fn begin(seen: &Observed) -> Decision {
    let mut decision = Decision::rest();
    if seen.namespace_goes {
        return decision;
    }
    let rc = rollout::of(&seen.config);
    let name = rc.metadata.name.clone().unwrap_or_default();
    let message =
        format!("Created new replication controller {name:?} for version {}", seen.config.status.latest_version);
    let event = EventDraft::normal::<DeploymentConfigs>(&seen.config, "DeploymentCreated", message);
    let create = Action::create::<ReplicationControllers>(rc).because(BEGIN);
    decision.then(create.telling(Report::OnSuccess(Box::new(event))));
    decision
}

/// No rollout goes on: the last complete one has the wanted pods, and no other has any. This scales, and undoes failed rollouts.
fn settle(seen: &Observed) -> Decision {
    let config = &*seen.config;
    let active = active(seen).map(|rc| rc.metadata.uid.clone());
    let mut decision = Decision::rest();
    for rc in seen.owned() {
        let is_active = active.as_ref() == Some(&rc.metadata.uid);
        let wanted = if is_active && !config.spec.test { config.spec.replicas } else { 0 };
        if size(rc) != wanted {
            decision.then(scale(config, rc, wanted));
        }
    }
    if decision.is_rest() { clean_up(seen) } else { decision }
}

/// The rollout that has the pods while none goes on: the last complete one.
pub(super) fn active(seen: &Observed) -> Option<&ReplicationController> {
    seen.owned().rev().find(|rc| phase(rc) == Phase::Complete)
}

fn scale(config: &DeploymentConfig, rc: &ReplicationController, wanted: i32) -> Planned {
    let mut scaled = rc.clone();
    scaled.spec.get_or_insert_default().replicas = Some(wanted);
    let name = rc.metadata.name.as_deref().unwrap_or_default();
    let message = format!("Scaled replication controller {name:?} from {} to {wanted}", size(rc));
    let event = EventDraft::normal::<DeploymentConfigs>(config, "ReplicationControllerScaled", message);
    let update = Action::update::<ReplicationControllers>(scaled).because("no rollout goes on, and this is its size");
    update.telling(Report::OnSuccess(Box::new(event)))
}

/// Deletes the oldest rollouts beyond the history limit: those before the active one that have no pods.
fn clean_up(seen: &Observed) -> Decision {
    let mut decision = Decision::rest();
    let Some(limit) = seen.config.spec.revision_history_limit.and_then(|limit| usize::try_from(limit).ok()) else {
        return decision;
    };
    let kept_from = active(seen).map_or(seen.config.status.latest_version, version);
    let old: Vec<_> = seen.owned().filter(|rc| version(rc) < kept_from).collect();
    let surplus = old.len().saturating_sub(limit);
    let goes = |rc: &&&ReplicationController| size(rc) == 0 && rc.metadata.deletion_timestamp.is_none();
    for rc in old.iter().take(surplus).filter(goes) {
        decision.then(Action::delete::<ReplicationControllers>(rc).because("it is beyond the history limit"));
    }
    decision
}
