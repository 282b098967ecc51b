//! The status of a Deployment: numbers, conditions, and the progress deadline.
//!
//! **Source**: `calculateStatus`, `syncRolloutStatus`, `checkPausedConditions`, `requeueStuckDeployment`, pkg/controller/deployment,
//! v1.37. Upstream writes the status up to three times in a pass; this writes it once, as it is in the end.

use super::{
    Observed,
    decide::selects_all,
    plan::{CREATE_NEW, owned},
    sets::{Sets, actual, available, fence, is_complete, is_paused, progress_deadline_secs, replicas, size},
};
use crate::{
    api::{kinds::deployment::Deployments, status::ApiError},
    controllers::runtime::{Action, Decision, Done, EventDraft, execute::is_moved, stamp},
};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::{Deployment, DeploymentCondition, DeploymentStatus, ReplicaSet};
use std::time::Duration;

const PROGRESSING: &str = "Progressing";
const AVAILABLE: &str = "Available";
const REPLICA_FAILURE: &str = "ReplicaFailure";
const PAUSED: &str = "DeploymentPaused";
const TIMED_OUT: &str = "ProgressDeadlineExceeded";
const NEW_SET_AVAILABLE: &str = "NewReplicaSetAvailable";

/// Writes the status, when it has changed, and looks again when the deadline passes.
pub(super) fn conclude(observed: &Observed, done: &Done) -> Decision {
    let d = &*observed.deployment;
    let before = d.status.clone().unwrap_or_default();
    let mut decision = Decision::default();
    let status = if selects_all(d) {
        DeploymentStatus { observed_generation: d.metadata.generation, ..before.clone() }
    } else {
        let sets = Sets::of(d, owned(observed));
        let pass = Pass { d, sets, before: &before, now: observed.now };
        let status = pass.status(done, &mut decision);
        decision.requeue_after = pass.deadline_check(&status);
        status
    };
    if status != before {
        let changed = Deployment { status: Some(status), ..d.clone() };
        decision.then(Action::update_status::<Deployments>(changed).because("the status changed"));
    }
    decision
}

struct Pass<'a> {
    d: &'a Deployment,
    sets: Sets<'a>,
    before: &'a DeploymentStatus,
    now: Timestamp,
}

impl Pass<'_> {
    fn status(&self, done: &Done, decision: &mut Decision) -> DeploymentStatus {
        let mut status = self.numbers();
        let goes = self.d.metadata.deletion_timestamp.is_some();
        if !goes && progress_deadline_secs(self.d).is_some() {
            self.note_pause(&mut status);
        }
        self.note_creation(&mut status, done, decision);
        self.note_availability(&mut status);
        if !goes && !is_paused(self.d) {
            self.note_progress(&mut status);
            self.note_failure(&mut status);
        }
        // A list that is empty is left out.
        status.conditions = status.conditions.filter(|c| !c.is_empty());
        status
    }

    fn numbers(&self) -> DeploymentStatus {
        let sum = |of: &dyn Fn(&ReplicaSet) -> i32| self.sets.all().map(of).fold(0, i32::saturating_add);
        let is_available = sum(&available);
        let ready = |rs: &ReplicaSet| rs.status.as_ref().and_then(|s| s.ready_replicas).unwrap_or(0);
        let terminating = |rs: &ReplicaSet| rs.status.as_ref().and_then(|s| s.terminating_replicas);
        DeploymentStatus {
            available_replicas: unless_zero(is_available),
            collision_count: self.before.collision_count,
            conditions: self.before.conditions.clone(),
            observed_generation: self.d.metadata.generation,
            ready_replicas: unless_zero(sum(&ready)),
            replicas: unless_zero(sum(&actual)),
            // Known only once every set has told.
            terminating_replicas: self
                .sets
                .all()
                .map(terminating)
                .try_fold(0i32, |sum, n| Some(sum.saturating_add(n?))),
            unavailable_replicas: unless_zero(sum(&size).saturating_sub(is_available).max(0)),
            updated_replicas: unless_zero(self.sets.new.map_or(0, actual)),
        }
    }

    fn condition(&self, type_: &str, status: &str, reason: &str, message: impl Into<String>) -> DeploymentCondition {
        let now = Some(stamp(self.now));
        DeploymentCondition {
            last_transition_time: now.clone(),
            last_update_time: now,
            message: Some(message.into()),
            reason: Some(reason.to_owned()),
            status: Some(status.to_owned()),
            type_: Some(type_.to_owned()),
        }
    }

    /// The time of a pause does not count as lack of progress.
    fn note_pause(&self, status: &mut DeploymentStatus) {
        let reason = get(status, PROGRESSING).and_then(|c| c.reason.clone()).unwrap_or_default();
        if reason == TIMED_OUT {
            return;
        }
        let change = match (is_paused(self.d), reason == PAUSED) {
            (true, false) => (PAUSED, "Deployment is paused"),
            (false, true) => ("DeploymentResumed", "Deployment is resumed"),
            (true, true) | (false, false) => return,
        };
        set(status, self.condition(PROGRESSING, "Unknown", change.0, change.1));
    }

    /// What became of the creation of the new set, if the pass tried one.
    fn note_creation(&self, status: &mut DeploymentStatus, done: &Done, decision: &mut Decision) {
        let has_deadline = progress_deadline_secs(self.d).is_some();
        match (self.sets.new, done.error_of(CREATE_NEW)) {
            (Some(new), _) if has_deadline => {
                if done.succeeded(CREATE_NEW) {
                    let message = format!("Created new replica set {:?}", name(new));
                    set(status, self.condition(PROGRESSING, "True", "NewReplicaSetCreated", message));
                } else if get(status, PROGRESSING).is_none() {
                    let message = format!("Found new replica set {:?}", name(new));
                    set(status, self.condition(PROGRESSING, "True", "FoundNewReplicaSet", message));
                }
            }
            // Another's set has the name: the next hash is another.
            (None, Some(ApiError::AlreadyExists { .. })) => {
                status.collision_count = Some(status.collision_count.unwrap_or(0).saturating_add(1));
            }
            (None, Some(err)) if !is_moved(err) => {
                let set_name = done.name_of(CREATE_NEW).unwrap_or_default();
                let message = format!("Failed to create new replica set {set_name:?}: {err}");
                if has_deadline {
                    set(status, self.condition(PROGRESSING, "False", "ReplicaSetCreateError", message.clone()));
                }
                decision.events.push(EventDraft::warning::<Deployments>(self.d, "ReplicaSetCreateError", message));
            }
            _ => {}
        }
    }

    fn note_availability(&self, status: &mut DeploymentStatus) {
        let enough = replicas(self.d).saturating_sub(fence(self.d).unavailable);
        let condition = if status.available_replicas.unwrap_or(0) >= enough {
            self.condition(AVAILABLE, "True", "MinimumReplicasAvailable", "Deployment has minimum availability.")
        } else {
            let message = "Deployment does not have minimum availability.";
            self.condition(AVAILABLE, "False", "MinimumReplicasUnavailable", message)
        };
        set(status, condition);
    }

    fn note_progress(&self, status: &mut DeploymentStatus) {
        let Some(deadline) = progress_deadline_secs(self.d) else {
            remove(status, PROGRESSING);
            return;
        };
        let current = get(status, PROGRESSING).cloned();
        let reason = current.as_ref().and_then(|c| c.reason.as_deref());
        // Once it was complete, only a new rollout is worth looking at: scaling is no progress and no lack of it.
        if reason == Some(NEW_SET_AVAILABLE) && status.replicas == status.updated_replicas {
            return;
        }
        let subject = match self.sets.new {
            Some(new) => format!("ReplicaSet {:?}", name(new)),
            None => format!("Deployment {:?}", self.d.metadata.name.as_deref().unwrap_or_default()),
        };
        if is_complete(self.d, status) {
            let message = format!("{subject} has successfully progressed.");
            set(status, self.condition(PROGRESSING, "True", NEW_SET_AVAILABLE, message));
        } else if self.progressed(status) {
            let mut condition =
                self.condition(PROGRESSING, "True", "ReplicaSetUpdated", format!("{subject} is progressing."));
            if let Some(current) = current.filter(|c| c.status.as_deref() == Some("True")) {
                condition.last_transition_time = current.last_transition_time;
            }
            // Progress is noted with the time even when the reason stays the same.
            remove(status, PROGRESSING);
            set(status, condition);
        } else if current.is_some_and(|c| self.is_timed_out(&c, deadline)) {
            let message = format!("{subject} has timed out progressing.");
            set(status, self.condition(PROGRESSING, "False", TIMED_OUT, message));
        }
    }

    /// Whether pods were updated, became ready or available, or went from the old sets, since the last status.
    fn progressed(&self, status: &DeploymentStatus) -> bool {
        let old = |s: &DeploymentStatus| s.replicas.unwrap_or(0).saturating_sub(s.updated_replicas.unwrap_or(0));
        status.updated_replicas.unwrap_or(0) > self.before.updated_replicas.unwrap_or(0)
            || old(status) < old(self.before)
            || status.ready_replicas.unwrap_or(0) > self.before.ready_replicas.unwrap_or(0)
            || status.available_replicas.unwrap_or(0) > self.before.available_replicas.unwrap_or(0)
    }

    fn is_timed_out(&self, condition: &DeploymentCondition, deadline_secs: i32) -> bool {
        match condition.reason.as_deref() {
            Some(NEW_SET_AVAILABLE) => false,
            Some(TIMED_OUT) => true,
            _ => deadline_at(condition, deadline_secs).is_some_and(|at| at < self.now),
        }
    }

    /// What keeps a set from making or deleting pods: the new set's trouble before that of others.
    fn note_failure(&self, status: &mut DeploymentStatus) {
        let mut sets = self.sets.new.into_iter().chain(self.sets.old.iter().copied());
        let failure = sets.find_map(|rs| {
            rs.status.as_ref()?.conditions.iter().flatten().find(|c| c.type_.as_deref() == Some(REPLICA_FAILURE))
        });
        match failure {
            None => remove(status, REPLICA_FAILURE),
            Some(failure) => set(
                status,
                DeploymentCondition {
                    last_transition_time: failure.last_transition_time.clone(),
                    last_update_time: failure.last_transition_time.clone(),
                    message: failure.message.clone(),
                    reason: failure.reason.clone(),
                    status: failure.status.clone(),
                    type_: failure.type_.clone(),
                },
            ),
        }
    }

    /// How long until the progress deadline has surely passed; `None` when nothing is waited for.
    fn deadline_check(&self, status: &DeploymentStatus) -> Option<Duration> {
        let deadline = progress_deadline_secs(self.d)?;
        let goes = self.d.metadata.deletion_timestamp.is_some();
        let condition = get(status, PROGRESSING)?;
        let is_over = matches!(condition.reason.as_deref(), Some(TIMED_OUT | PAUSED));
        if goes || is_over || is_complete(self.d, status) {
            return None;
        }
        let left = deadline_at(condition, deadline)?.duration_since(self.now);
        // A second more, because times are written in whole seconds.
        Some(Duration::try_from(left).unwrap_or_default() + Duration::from_secs(1))
    }
}

fn deadline_at(condition: &DeploymentCondition, deadline_secs: i32) -> Option<Timestamp> {
    let from = condition.last_update_time.as_ref()?.0;
    from.checked_add(SignedDuration::from_secs(deadline_secs.into())).ok()
}

fn unless_zero(n: i32) -> Option<i32> {
    (n != 0).then_some(n)
}

fn name(rs: &ReplicaSet) -> &str {
    rs.metadata.name.as_deref().unwrap_or_default()
}

fn get<'a>(status: &'a DeploymentStatus, type_: &str) -> Option<&'a DeploymentCondition> {
    status.conditions.iter().flatten().find(|c| c.type_.as_deref() == Some(type_))
}

fn remove(status: &mut DeploymentStatus, type_: &str) {
    if let Some(conditions) = &mut status.conditions {
        conditions.retain(|c| c.type_.as_deref() != Some(type_));
    }
}

/// Sets a condition, unless it has the same status and reason already. A status that stays keeps its transition time.
fn set(status: &mut DeploymentStatus, mut condition: DeploymentCondition) {
    let type_ = condition.type_.clone().unwrap_or_default();
    if let Some(current) = get(status, &type_) {
        if current.status == condition.status && current.reason == condition.reason {
            return;
        }
        if current.status == condition.status {
            condition.last_transition_time.clone_from(&current.last_transition_time);
        }
    }
    remove(status, &type_);
    status.conditions.get_or_insert_default().push(condition);
}
