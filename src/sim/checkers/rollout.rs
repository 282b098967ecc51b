//! How a Deployment rolls out: Recreate never runs two templates together, revisions only grow, a rollout that gets nowhere says so
//! in time and not before; at rest the newest set has everything, the history is as long as it may be, and every status is exact.

use super::model::{HASH, Model, Moment, Moved, Numbers, Pair, Set, goes, revision, uid};
use crate::{api::pod_state, registry::Registry};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::{
    apps::v1::{Deployment, DeploymentCondition},
    core::v1::{Pod, PodTemplateSpec},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

const TIMED_OUT: &str = "ProgressDeadlineExceeded";
const COMPLETE: &str = "NewReplicaSetAvailable";
/// How long after its deadline a rollout may be silent: the disk may be full, and the controllers then back off.
const SILENCE_MAX: SignedDuration = SignedDuration::from_secs(30);

#[derive(Default)]
pub(super) struct Rollouts {
    /// Deployments that lost a set to the user, or that have tidied up while they were paused and had no set of their template: they
    /// may count their revisions from a lower one again, as upstream does.
    robbed: BTreeSet<String>,
}

impl Rollouts {
    pub(super) fn see(&mut self, model: &Model, moved: &Moved, moment: Moment) {
        match moved {
            Moved::Set(pair) if moment.is_users || is_tidied_in_pause(model, pair) => {
                let owner = pair.before.as_ref().and_then(|set| super::model::owner(set.meta()));
                self.robbed.extend(owner.map(str::to_owned));
            }
            Moved::Set(pair) => see_set(model, pair),
            Moved::Deployment(Pair { before: Some(before), after: Some(after) }) if !moment.is_users => {
                self.revision_grows(before, after);
                times_out_in_time(before, after, moment.now);
            }
            Moved::Pod(_) | Moved::Deployment(_) => {}
        }
    }

    fn revision_grows(&self, before: &Deployment, after: &Deployment) {
        let (was, is) = (revision(&before.metadata), revision(&after.metadata));
        let may_fall = self.robbed.contains(uid(&after.metadata));
        assert!(is >= was || may_fall, "the revision of {:?} falls from {was} to {is}", after.metadata.name);
    }

    /// A rollout that gets nowhere has said so.
    pub(super) fn look(model: &Model, now: Timestamp) {
        for deployment in model.deployments.values() {
            if goes(&deployment.metadata) || deployment.spec.paused == Some(true) {
                continue;
            }
            let Some(condition) = condition(deployment, "Progressing") else { continue };
            let is_under_way =
                condition.status.as_deref() == Some("True") && condition.reason.as_deref() != Some(COMPLETE);
            let Some(deadline) = deadline(deployment, condition).filter(|_| is_under_way) else { continue };
            let late = now.duration_since(deadline);
            let name = &deployment.metadata.name;
            assert!(late <= SILENCE_MAX, "{name:?} should have made progress {late} ago, and says {condition:?}");
        }
    }
}

fn see_set(model: &Model, pair: &Pair<Set>) {
    let Some(set) = &pair.after else { return };
    let (was, is) = (pair.before.as_ref().map_or(0, |set| revision(set.meta())), revision(set.meta()));
    assert!(is >= was, "the revision of {:?} falls from {was} to {is}", set.meta().name);
    if is > was {
        // Adopting may bring two sets of one revision together; a new number is higher than all.
        let others = super::model::owner(set.meta()).into_iter().flat_map(|owner| model.sets_of(owner));
        let mut others = others.filter(|other| uid(other.meta()) != uid(set.meta()));
        let taken = others.find(|other| revision(other.meta()) >= is).map(|other| &other.meta().name);
        assert!(taken.is_none(), "{:?} gets the revision {is}, and {taken:?} has it or a higher one", set.meta().name);
    }
    let grows = set.size() > pair.before.as_ref().map_or(0, Set::size);
    if let Some(deployment) =
        model.deployment_of(set).filter(|d| grows && is_recreate(d) && d.spec.paused != Some(true))
    {
        let others = model.sets_of(uid(&deployment.metadata)).filter(|other| uid(other.meta()) != uid(set.meta()));
        let mut old = others.flat_map(|other| model.pods_of(uid(other.meta())));
        let runs = old.find(|pod| !pod_state::is_terminal(pod)).map(|pod| &pod.metadata.name);
        assert!(runs.is_none(), "{:?} grows to {} while {runs:?} may run", set.meta().name, set.size());
    }
}

fn is_tidied_in_pause(model: &Model, pair: &Pair<Set>) -> bool {
    let gone = pair.before.as_ref().filter(|_| pair.after.is_none());
    gone.and_then(|set| model.deployment_of(set)).is_some_and(|d| d.spec.paused == Some(true))
}

fn is_recreate(deployment: &Deployment) -> bool {
    deployment.spec.strategy.as_ref().is_some_and(|s| s.type_.as_deref() == Some("Recreate"))
}

fn condition<'a>(deployment: &'a Deployment, kind: &str) -> Option<&'a DeploymentCondition> {
    let all = deployment.status.as_ref()?.conditions.as_ref()?;
    all.iter().find(|c| c.type_.as_deref() == Some(kind))
}

/// When progress is due, going by a condition.
fn deadline(deployment: &Deployment, condition: &DeploymentCondition) -> Option<Timestamp> {
    let secs = deployment.spec.progress_deadline_seconds.filter(|secs| *secs != i32::MAX)?;
    let since = condition.last_update_time.as_ref()?.0;
    Some(since + SignedDuration::from_secs(secs.into()))
}

fn times_out_in_time(before: &Deployment, after: &Deployment, now: Timestamp) {
    let has_timed_out = |d| condition(d, "Progressing").is_some_and(|c| c.reason.as_deref() == Some(TIMED_OUT));
    if has_timed_out(before) || !has_timed_out(after) {
        return;
    }
    let due = condition(before, "Progressing").and_then(|c| deadline(after, c)).expect("it was progressing");
    assert!(now >= due, "{:?} times out at {now}, and its deadline is {due}", after.metadata.name);
}

/// At rest every Deployment and every set says exactly what is.
pub(super) fn are_told_exactly(registry: &Registry, now: Timestamp) {
    let model = Model::of(registry);
    for set in model.sets.values() {
        assert_eq!(set.numbers(), counted(&model, set, now), "the status of {:?}", set.meta().name);
    }
    for deployment in model.deployments.values() {
        check_sets(&model, deployment);
        check_status(&model, deployment, now);
    }
}

fn counted(model: &Model, set: &Set, now: Timestamp) -> Numbers {
    let pods = || model.pods_of(uid(set.meta())).filter(|pod| pod_state::is_active(pod));
    let count = |is: &dyn Fn(&Pod) -> bool| i32::try_from(pods().filter(|pod| is(pod)).count()).unwrap();
    let wanted = set.template().and_then(|t| t.metadata.as_ref()?.labels.clone()).unwrap_or_default();
    let has_labels =
        |pod: &Pod| wanted.iter().all(|(k, v)| pod.metadata.labels.as_ref().and_then(|l| l.get(k)) == Some(v));
    Numbers {
        replicas: count(&|_| true),
        fully_labeled: count(&has_labels),
        ready: count(&|pod| pod_state::is_pod_ready(pod)),
        available: model.available(set, now),
        observed_generation: set.meta().generation.unwrap_or(0),
    }
}

/// The set of the Deployment's template has all pods and the highest revision; of the others no more are left than may be.
fn check_sets(model: &Model, deployment: &Deployment) {
    let name = &deployment.metadata.name;
    let mut sets: Vec<&Set> = model.sets_of(uid(&deployment.metadata)).collect();
    sets.sort_by_key(|set| (set.meta().creation_timestamp.clone(), set.meta().name.clone()));
    // A Deployment that adopts may have several sets of its template: the oldest is the new one.
    let new = sets.iter().position(|set| template(set) == deployment.spec.template);
    let new = sets.remove(new.unwrap_or_else(|| panic!("no set has the template of {name:?}")));
    let old = sets;
    assert_eq!(revision(new.meta()), revision(&deployment.metadata), "the revision of {name:?} and of its new set");
    let revisions: BTreeSet<i64> = old.iter().map(|set| revision(set.meta())).collect();
    assert!(
        revisions.last().is_none_or(|last| *last < revision(new.meta())),
        "{name:?} has a newer set than the new one"
    );
    let limit = deployment.spec.revision_history_limit.unwrap_or(10);
    assert!(old.len() <= usize::try_from(limit).unwrap(), "{name:?} keeps {} old sets of {limit}", old.len());
    for set in old {
        let pods = model.pods_of(uid(set.meta())).count();
        assert!(set.size() == 0 && pods == 0, "{:?} is old, and has {pods} pods of {}", set.meta().name, set.size());
    }
}

fn template(set: &Set) -> PodTemplateSpec {
    let mut template = set.template().cloned().unwrap_or_default();
    if let Some(labels) = template.metadata.as_mut().and_then(|m| m.labels.as_mut()) {
        labels.remove(HASH);
    }
    template
}

fn check_status(model: &Model, deployment: &Deployment, now: Timestamp) {
    let name = &deployment.metadata.name;
    let sum = |of: &dyn Fn(&Set) -> i32| model.sets_of(uid(&deployment.metadata)).map(of).sum::<i32>();
    let status = deployment.status.clone().unwrap_or_default();
    let told = [status.replicas, status.updated_replicas, status.ready_replicas, status.available_replicas];
    let told = told.map(|n| n.unwrap_or(0));
    let all = sum(&|set| model.active(uid(set.meta())));
    let ready = |pod: &&Arc<Pod>| pod_state::is_active(pod) && pod_state::is_pod_ready(pod);
    let ready = sum(&|set| i32::try_from(model.pods_of(uid(set.meta())).filter(ready).count()).unwrap());
    assert_eq!(told, [all, all, ready, sum(&|set| model.available(set, now))], "the status of {name:?}");
    assert_eq!(status.unavailable_replicas, None, "{name:?} says that pods are unavailable");
    assert_eq!(status.terminating_replicas.unwrap_or(0), 0, "{name:?} says that pods are terminating");
    assert_eq!(status.observed_generation, deployment.metadata.generation, "the generation of {name:?}");
    check_conditions(deployment);
}

fn check_conditions(deployment: &Deployment) {
    let conditions = deployment.status.iter().flat_map(|s| s.conditions.iter().flatten());
    let told =
        conditions.map(|c| (c.type_.as_deref().unwrap(), (c.status.as_deref().unwrap(), c.reason.as_deref().unwrap())));
    let mut wanted = BTreeMap::from([("Available", ("True", "MinimumReplicasAvailable"))]);
    if deployment.spec.progress_deadline_seconds != Some(i32::MAX) {
        wanted.insert("Progressing", ("True", COMPLETE));
    }
    assert_eq!(told.collect::<BTreeMap<_, _>>(), wanted, "the conditions of {:?}", deployment.metadata.name);
}
