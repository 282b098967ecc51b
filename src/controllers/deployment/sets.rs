//! Which ReplicaSet is which: the new one (it has the Deployment's template), the old ones, their sizes and the pace between them.
//!
//! **Source**: `pkg/controller/deployment/util/deployment_util.go`, v1.37.

use crate::{
    api::fence::Fence,
    controllers::template_hash::{HASH_LABEL, normal_form},
};
use k8s_openapi::api::{
    apps::v1::{Deployment, DeploymentSpec, ReplicaSet},
    core::v1::PodTemplateSpec,
};
use std::cmp::Ordering;

pub(super) fn spec(d: &Deployment) -> &DeploymentSpec {
    &d.spec
}

/// The wanted number of pods.
pub(super) fn replicas(d: &Deployment) -> i32 {
    spec(d).replicas.unwrap_or(1)
}

pub(super) fn is_recreate(d: &Deployment) -> bool {
    spec(d).strategy.as_ref().is_some_and(|s| s.type_.as_deref() == Some("Recreate"))
}

pub(super) fn is_paused(d: &Deployment) -> bool {
    spec(d).paused == Some(true)
}

/// The progress deadline in seconds, when there is one. Source: `HasProgressDeadline`: the largest number means none.
pub(super) fn progress_deadline_secs(d: &Deployment) -> Option<i32> {
    spec(d).progress_deadline_seconds.filter(|secs| *secs != i32::MAX)
}

/// How many pods a set should have.
pub(super) fn size(rs: &ReplicaSet) -> i32 {
    rs.spec.replicas.unwrap_or(1)
}

pub(super) fn is_active(rs: &ReplicaSet) -> bool {
    size(rs) > 0
}

/// How many of a set's pods are available, as its controller says.
pub(super) fn available(rs: &ReplicaSet) -> i32 {
    rs.status.as_ref().and_then(|s| s.available_replicas).unwrap_or(0)
}

/// How many of a set's available pods stay when its controller has made it as large as it should be.
///
/// Upstream counts all of them, also those that are on their way out, and so can go below the least number for a moment.
pub(super) fn lasting(rs: &ReplicaSet) -> i32 {
    available(rs).min(size(rs))
}

/// How many pods a set has, as its controller says.
pub(super) fn actual(rs: &ReplicaSet) -> i32 {
    rs.status.as_ref().map_or(0, |s| s.replicas)
}

/// Older sets first; sets of the same second by name. Source: `ReplicaSetsByCreationTimestamp`.
pub(super) fn by_age(a: &ReplicaSet, b: &ReplicaSet) -> Ordering {
    let (a, b) = (&a.metadata, &b.metadata);
    let age = a.creation_timestamp.as_ref().map(|t| t.0).cmp(&b.creation_timestamp.as_ref().map(|t| t.0));
    age.then_with(|| a.name.cmp(&b.name))
}

/// How far a rollout may go above and below the wanted number of pods.
pub(super) fn fence(d: &Deployment) -> Fence {
    if is_recreate(d) {
        return Fence::CLOSED;
    }
    let params = spec(d).strategy.as_ref().and_then(|s| s.rolling_update.clone()).unwrap_or_default();
    let wanted = replicas(d);
    let fence = Fence::new(params.max_surge.as_ref(), params.max_unavailable.as_ref(), wanted);
    Fence { unavailable: fence.unavailable.min(wanted), ..fence }
}

/// A Deployment's sets.
#[derive(Clone, Debug)]
pub(super) struct Sets<'a> {
    /// The set of the Deployment's template.
    pub(super) new: Option<&'a ReplicaSet>,
    /// All others, oldest first.
    pub(super) old: Vec<&'a ReplicaSet>,
}

impl<'a> Sets<'a> {
    /// Sorts out the sets that a Deployment owns, given oldest first.
    pub(super) fn of(d: &Deployment, owned: impl Iterator<Item = &'a ReplicaSet>) -> Self {
        let mut old: Vec<_> = owned.collect();
        let new = find_new(&spec(d).template, &old).map(|i| old.remove(i));
        Self { new, old }
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &'a ReplicaSet> {
        self.old.iter().copied().chain(self.new)
    }
}

/// The oldest set of this template. Templates are the same when they differ in the hash label or in empty lists only.
fn find_new(template: &PodTemplateSpec, sets: &[&ReplicaSet]) -> Option<usize> {
    // Stored templates mostly are equal as they are, which is cheap to see.
    let equal = sets.iter().position(|rs| template_of(rs).as_ref() == Some(template));
    equal.or_else(|| {
        let wanted = normal_form(template);
        sets.iter().position(|rs| template_of(rs).is_some_and(|t| normal_form(&t) == wanted))
    })
}

/// The set's template as the Deployment would say it: without the hash label.
fn template_of(rs: &ReplicaSet) -> Option<PodTemplateSpec> {
    let mut template = rs.spec.template.clone()?;
    if let Some(labels) = template.metadata.as_mut().and_then(|m| m.labels.as_mut()) {
        labels.remove(HASH_LABEL);
    }
    Some(template)
}

/// Whether the rollout is complete, given a status. Source: `DeploymentComplete`.
pub(super) fn is_complete(d: &Deployment, status: &k8s_openapi::api::apps::v1::DeploymentStatus) -> bool {
    let wanted = replicas(d);
    status.updated_replicas.unwrap_or(0) == wanted
        && status.replicas.unwrap_or(0) == wanted
        && status.available_replicas.unwrap_or(0) == wanted
        && status.observed_generation.unwrap_or(0) >= d.metadata.generation.unwrap_or(0)
}
