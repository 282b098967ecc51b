//! What a pass over a Deployment wants of its ReplicaSets, while it is being made.
//!
//! Called by `decide` and by the strategies, each of which changes it a little.
//! **Source**: `getNewReplicaSet` and `NewRSNewReplicas`, pkg/controller/deployment, v1.37. Where upstream writes a set twice in one pass
//! (annotations, then size), this plans both and writes once.

use super::{
    Observed, claim_of,
    history::{self, REVISION, annotation, next_revision},
    sets::{Sets, actual, fence, is_complete, is_recreate, replicas, size, spec},
};
use crate::{
    api::{
        fence::Fence,
        kind::Kind as _,
        kinds::{deployment::Deployments, replica_set::ReplicaSets},
    },
    controllers::{
        runtime::{Action, Claim, Decision, EventDraft, Planned, Report, Step, controller_reference, selector_of},
        template_hash::{HASH_LABEL, set_name, template_hash},
    },
};
use k8s_openapi::{
    api::apps::v1::{Deployment, ReplicaSet, ReplicaSetSpec},
    apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta},
};
use std::borrow::Cow;

/// Why a set is created; `conclude` asks for it.
pub(super) const CREATE_NEW: &str = "the template has no ReplicaSet yet";

/// The sets that the Deployment owns and selects.
pub(super) fn owned(observed: &Observed) -> impl Iterator<Item = &ReplicaSet> {
    let d = &*observed.deployment;
    let selector = selector_of(&spec(d).selector);
    observed.replica_sets.iter().map(|rs| &**rs).filter(move |rs| claim_of(d, &selector, rs) == Claim::Mine)
}

/// A set as it should be.
#[derive(Debug)]
pub(super) struct SetPlan<'a> {
    /// Borrowed while nothing is to be changed.
    pub(super) set: Cow<'a, ReplicaSet>,
    is_created: bool,
    size_before: i32,
}

/// What the pass wants, while it is being made.
#[derive(Debug)]
pub(super) struct Plan<'a> {
    pub(super) observed: &'a Observed,
    pub(super) deployment: &'a Deployment,
    pub(super) replicas: i32,
    pub(super) fence: Fence,
    /// Every set, oldest first.
    pub(super) sets: Vec<SetPlan<'a>>,
    /// Which of them has the Deployment's template.
    pub(super) new: Option<usize>,
    next_revision: i64,
    old: Vec<&'a ReplicaSet>,
    to_delete: Vec<&'a ReplicaSet>,
}

impl<'a> Plan<'a> {
    pub(super) fn of(observed: &'a Observed) -> Self {
        let deployment = &*observed.deployment;
        let found = Sets::of(deployment, owned(observed));
        let mut sets: Vec<_> = found.old.iter().map(|rs| SetPlan::of(rs)).collect();
        let new = found.new.map(|rs| {
            sets.push(SetPlan::of(rs));
            sets.len() - 1
        });
        Self {
            observed,
            deployment,
            replicas: replicas(deployment),
            fence: fence(deployment),
            sets,
            new,
            next_revision: next_revision(&found.old),
            old: found.old,
            to_delete: Vec::new(),
        }
    }

    /// The sizes of all sets together.
    pub(super) fn total(&self) -> i32 {
        self.sets.iter().map(|s| size(&s.set)).sum()
    }

    /// The pods of all sets together: those that are to be, and those that are still there although their set has shrunk.
    pub(super) fn present(&self) -> i32 {
        self.sets.iter().map(|s| size(&s.set).max(actual(&s.set))).fold(0, i32::saturating_add)
    }

    /// The most pods that there may be. Users may wish for any number of pods and any surge.
    pub(super) fn ceiling(&self) -> i32 {
        self.replicas.saturating_add(self.fence.surge)
    }

    /// The size that a growing new set may have: what is wanted, but no more pods in all than the surge allows.
    ///
    /// Upstream goes by the sizes alone, and so can go above the surge for a moment, until the pods of a set that shrank are going.
    pub(super) fn new_size(&self, has: i32) -> i32 {
        let room = self.ceiling().saturating_sub(self.present());
        has.saturating_add(room.min(self.replicas.saturating_sub(has)).max(0))
    }

    /// The sets that are not the new one, oldest first.
    pub(super) fn old_sets(&self) -> impl Iterator<Item = usize> + use<> {
        let new = self.new;
        (0..self.sets.len()).filter(move |i| Some(*i) != new)
    }

    /// Copies to the new set what it takes over from the Deployment: annotations, a higher revision, `minReadySeconds`.
    pub(super) fn follow_deployment(&mut self) {
        let Some(new) = self.new else { return };
        let set = &mut self.sets[new].set;
        let has = set.metadata.annotations.clone().unwrap_or_default();
        let wanted = history::of_new_set(self.deployment, &has, self.next_revision);
        if wanted != has {
            set.to_mut().metadata.annotations = Some(wanted);
        }
        let min_ready = spec(self.deployment).min_ready_seconds.unwrap_or(0);
        if set.spec.min_ready_seconds.unwrap_or(0) != min_ready {
            set.to_mut().spec.min_ready_seconds = Some(min_ready);
        }
    }

    /// The new set, planned when there is none.
    pub(super) fn new_set(&mut self) -> usize {
        if let Some(new) = self.new {
            return new;
        }
        let mut set = self.blank_set();
        let wanted = if is_recreate(self.deployment) { self.replicas } else { self.new_size(0) };
        set.spec.replicas = Some(wanted);
        history::set_replicas(set.metadata.annotations.get_or_insert_default(), self.deployment, self.fence);
        self.sets.push(SetPlan { set: Cow::Owned(set), is_created: true, size_before: 0 });
        self.new = Some(self.sets.len() - 1);
        self.sets.len() - 1
    }

    fn blank_set(&self) -> ReplicaSet {
        let d = self.deployment;
        let mut template = spec(d).template.clone();
        let hash = template_hash(&template, d.status.as_ref().and_then(|s| s.collision_count));
        let labels = template.metadata.get_or_insert_default().labels.get_or_insert_default();
        labels.insert(HASH_LABEL.to_owned(), hash.clone());
        let labels = labels.clone();
        let mut selector: LabelSelector = spec(d).selector.clone();
        selector.match_labels.get_or_insert_default().insert(HASH_LABEL.to_owned(), hash.clone());
        ReplicaSet {
            metadata: ObjectMeta {
                name: Some(set_name(d.metadata.name.as_deref().unwrap_or_default(), &hash)),
                namespace: d.metadata.namespace.clone(),
                labels: Some(labels),
                annotations: Some(history::of_new_set(d, &Default::default(), self.next_revision)),
                owner_references: Some(vec![controller_reference(&Deployments::INFO, &d.metadata)]),
                ..ObjectMeta::default()
            },
            spec: ReplicaSetSpec {
                min_ready_seconds: spec(d).min_ready_seconds,
                replicas: Some(0),
                selector,
                template: Some(template),
            },
            status: None,
        }
    }

    /// Gives a set another size. Says whether it had another.
    pub(super) fn resize(&mut self, i: usize, wanted: i32) -> bool {
        size(&self.sets[i].set) != wanted && self.resize_and_annotate(i, wanted)
    }

    /// Gives a set a size, and writes down for which replicas. Says whether that changes anything.
    pub(super) fn resize_and_annotate(&mut self, i: usize, wanted: i32) -> bool {
        let set = &mut self.sets[i].set;
        let has = set.metadata.annotations.clone().unwrap_or_default();
        let mut annotations = has.clone();
        history::set_replicas(&mut annotations, self.deployment, self.fence);
        let changes = size(set) != wanted || annotations != has;
        if changes {
            let set = set.to_mut();
            set.spec.replicas = Some(wanted);
            set.metadata.annotations = Some(annotations);
        }
        changes
    }

    /// Plans to delete old sets beyond the history limit.
    pub(super) fn clean_up(&mut self) {
        self.to_delete = history::to_clean_up(self.deployment, &self.old);
    }

    /// The same, when the status says that the rollout is complete.
    pub(super) fn clean_up_when_complete(&mut self) {
        if self.deployment.status.as_ref().is_some_and(|status| is_complete(self.deployment, status)) {
            self.clean_up();
        }
    }

    pub(super) fn into_decision(self) -> Decision {
        let mut decision = Decision::default();
        if self.observed.namespace_goes && self.sets.iter().any(|s| s.is_created) {
            return decision;
        }
        let changed = self.sets.iter().filter(|s| matches!(s.set, Cow::Owned(_)));
        let (created, resized): (Vec<_>, Vec<_>) = changed.partition(|s| s.is_created);
        // The new set first: it is what the user waits for, and without it nothing else makes sense.
        decision.steps.extend(created.iter().map(|s| Step::from(s.planned(self.deployment))));
        let updates = resized.iter().map(|s| s.planned(self.deployment));
        decision.then(Step::Parallel(updates.chain(self.revision_copied()).collect()));
        let delete = |rs: &ReplicaSet| Action::delete::<ReplicaSets>(rs).because("it is beyond the history limit");
        if !self.to_delete.is_empty() {
            decision.then(Step::Parallel(self.to_delete.iter().map(|rs| delete(rs)).collect()));
        }
        decision
    }

    /// The Deployment takes over the new set's revision. Source: the `UpdateStatus` of `getNewReplicaSet` in sync.go.
    fn revision_copied(&self) -> Option<Planned> {
        let revision = annotation(&self.sets[self.new?].set.metadata, REVISION)?;
        if annotation(&self.deployment.metadata, REVISION) == Some(revision) {
            return None;
        }
        let mut d = self.deployment.clone();
        d.metadata.annotations.get_or_insert_default().insert(REVISION.to_owned(), revision.to_owned());
        Some(Action::update_status::<Deployments>(d).because("the new ReplicaSet has another revision"))
    }
}

impl<'a> SetPlan<'a> {
    fn of(set: &'a ReplicaSet) -> Self {
        Self { set: Cow::Borrowed(set), is_created: false, size_before: size(set) }
    }

    fn planned(&self, d: &Deployment) -> Planned {
        let report = self.scaling_event(d);
        let set = self.set.clone().into_owned();
        if self.is_created {
            return Action::create::<ReplicaSets>(set).because(CREATE_NEW).telling(report);
        }
        let why = if report == Report::Nothing { "its annotations changed" } else { "its size changed" };
        Action::update::<ReplicaSets>(set).because(why).telling(report)
    }

    fn scaling_event(&self, d: &Deployment) -> Report {
        let (before, after) = (self.size_before, size(&self.set));
        if before == after {
            return Report::Nothing;
        }
        let direction = if before < after { "up" } else { "down" };
        let name = self.set.metadata.name.as_deref().unwrap_or_default();
        let message = format!("Scaled {direction} replica set {name} from {before} to {after}");
        Report::OnSuccess(Box::new(EventDraft::normal::<Deployments>(d, "ScalingReplicaSet", message)))
    }
}
