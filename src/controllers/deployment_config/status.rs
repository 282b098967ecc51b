//! What the DeploymentConfig says of itself: numbers and conditions.
//!
//! **Source**: `calculateStatus` and `updateConditions`, deploymentconfig_controller.go; `SetDeploymentCondition`, library-go's appsutil.

use super::{Observed, decide::BEGIN};
use crate::{
    api::{
        fence::Fence,
        kinds::deployment_config::{
            DeploymentConfigs,
            strategy::ROLLING,
            types::{DeploymentCondition, DeploymentConfig, DeploymentConfigStatus},
        },
        rollout::{
            HAS_FAILED, IS_COMPLETE, Phase, WAS_CANCELLED, deployer_pod_name, is_cancelled, phase, rollout_name, size,
        },
    },
    controllers::runtime::{Action, Decision, Done, EventDraft, is_moved, stamp},
};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ReplicationControllerStatus;

const AVAILABLE: &str = "Available";
const PROGRESSING: &str = "Progressing";

pub(super) fn conclude(seen: &Observed, done: &Done) -> Decision {
    let config = &*seen.config;
    let mut decision = Decision::rest();
    let mut status = numbers(seen, done);
    available(config, &mut status, seen.now);
    let failure = done.error_of(BEGIN).filter(|err| !is_moved(err)).map(ToString::to_string);
    if let Some(why) = &failure {
        let version = config.status.latest_version;
        let message = format!("Couldn't deploy version {version}: {why}");
        decision.events.push(EventDraft::warning::<DeploymentConfigs>(config, "DeploymentCreationFailed", message));
    }
    if let Some(condition) = progressing(seen, done, &status, failure) {
        let is_news = condition.reason == "ReplicationControllerUpdated";
        set(&mut status.conditions, condition, is_news, seen.now);
    }
    if status != config.status {
        let told = DeploymentConfig { status, ..config.clone() };
        decision.then(Action::update_status::<DeploymentConfigs>(told).because("the status is another"));
    }
    decision
}

fn numbers(seen: &Observed, done: &Done) -> DeploymentConfigStatus {
    let config = &*seen.config;
    let was = &config.status;
    let sum = |of: fn(&ReplicationControllerStatus) -> i32| -> i32 {
        seen.owned().filter_map(|rc| rc.status.as_ref()).map(of).sum()
    };
    let available = sum(|s| s.available_replicas.unwrap_or(0));
    let wanted: i32 = seen.owned().map(size).sum();
    let updated = seen.latest().and_then(|rc| rc.status.as_ref()).map_or(0, |s| s.replicas);
    let generation = config.metadata.generation.unwrap_or(0);
    DeploymentConfigStatus {
        observed_generation: if has_observed(seen, done) { generation } else { was.observed_generation },
        replicas: sum(|s| s.replicas),
        updated_replicas: updated,
        available_replicas: available,
        unavailable_replicas: (wanted - available).max(0),
        ready_replicas: sum(|s| s.ready_replicas.unwrap_or(0)),
        ..was.clone()
    }
}

/// Whether what was asked for has been looked at: with the beginning of a rollout and while none goes on. From when a rollout is due until
/// it begins, what the conditions say is of the one before; while it goes on, nobody looks.
fn has_observed(seen: &Observed, done: &Done) -> bool {
    let is_over = match seen.latest() {
        Some(latest) => phase(latest).is_terminal(),
        None => seen.config.status.latest_version == 0,
    };
    is_over || seen.config.spec.paused || done.succeeded(BEGIN)
}

fn available(config: &DeploymentConfig, status: &mut DeploymentConfigStatus, now: Timestamp) {
    let wanted = config.spec.replicas;
    let may_lack = match &config.spec.strategy.rolling_params {
        Some(params) if config.spec.strategy.type_ == ROLLING => {
            Fence::new(params.max_surge.as_ref(), params.max_unavailable.as_ref(), wanted).unavailable
        }
        _ => 0,
    };
    let n = status.available_replicas;
    let is_available = n > 0 && n >= wanted - may_lack;
    let word = if is_available { "has" } else { "does not have" };
    let condition = DeploymentCondition {
        type_: AVAILABLE.to_owned(),
        status: if is_available { "True" } else { "False" }.to_owned(),
        message: format!("Deployment config {word} minimum availability."),
        ..DeploymentCondition::default()
    };
    set(&mut status.conditions, condition, false, now);
}

/// How the latest rollout goes; nothing to say of one that is new.
fn progressing(
    seen: &Observed,
    done: &Done,
    status: &DeploymentConfigStatus,
    failure: Option<String>,
) -> Option<DeploymentCondition> {
    let say = |status: &str, reason: &str, message: String| {
        Some(DeploymentCondition {
            type_: PROGRESSING.to_owned(),
            status: status.to_owned(),
            reason: reason.to_owned(),
            message,
            ..DeploymentCondition::default()
        })
    };
    if let Some(why) = failure {
        return say("False", "ReplicationControllerCreateError", why);
    }
    let config = seen.config.metadata.name.as_deref().unwrap_or_default();
    let name = rollout_name(config, seen.config.status.latest_version);
    if done.succeeded(BEGIN) {
        let message = format!("Created new replication controller {name:?}");
        return say("True", "NewReplicationControllerCreated", message);
    }
    let latest = seen.latest()?;
    // One that was begun again goes on: whoever follows it would believe that it is over.
    let was_over = has_ended(&seen.config.status);
    match phase(latest) {
        Phase::New if !was_over => None,
        Phase::New | Phase::Pending => {
            let pod = deployer_pod_name(&name);
            say("Unknown", "", format!("replication controller {name:?} is waiting for pod {pod:?} to run"))
        }
        Phase::Running if was_over || has_progressed(&seen.config.status, status) => {
            say("True", "ReplicationControllerUpdated", format!("replication controller {name:?} is progressing"))
        }
        Phase::Running => None,
        Phase::Failed if is_cancelled(latest) => {
            say("False", WAS_CANCELLED, format!("rollout of replication controller {name:?} was cancelled"))
        }
        Phase::Failed => {
            let message = format!("replication controller {name:?} has failed progressing");
            say("False", HAS_FAILED, message)
        }
        Phase::Complete => {
            let message = format!("replication controller {name:?} successfully rolled out");
            say("True", IS_COMPLETE, message)
        }
    }
}

/// Whether the condition says that a rollout is over.
fn has_ended(status: &DeploymentConfigStatus) -> bool {
    let progressing = status.conditions.iter().find(|condition| condition.type_ == PROGRESSING);
    progressing.is_some_and(|condition| [IS_COMPLETE, HAS_FAILED, WAS_CANCELLED].contains(&&*condition.reason))
}

/// New pods came, or old ones went.
fn has_progressed(was: &DeploymentConfigStatus, now: &DeploymentConfigStatus) -> bool {
    let old = |status: &DeploymentConfigStatus| status.replicas - status.updated_replicas;
    now.updated_replicas > was.updated_replicas || old(now) < old(was)
}

/// Sets a condition. One with the same status and reason stays as it is, unless it is news each time.
fn set(conditions: &mut Vec<DeploymentCondition>, mut new: DeploymentCondition, is_news: bool, now: Timestamp) {
    let known = conditions.iter().position(|c| c.type_ == new.type_);
    let was = known.map(|at| &conditions[at]);
    if was.is_some_and(|was| was.status == new.status && was.reason == new.reason) && !is_news {
        return;
    }
    new.last_update_time = Some(stamp(now));
    let same_status = was.filter(|was| was.status == new.status && !is_news);
    new.last_transition_time =
        same_status.and_then(|was| was.last_transition_time.clone()).or_else(|| Some(stamp(now)));
    match known {
        Some(at) => conditions[at] = new,
        None => conditions.push(new),
    }
}
