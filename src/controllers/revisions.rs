//! The states of a StatefulSet or DaemonSet that are kept: what `kubectl rollout history` and `undo` read.
//!
//! A revision keeps the pod template as a patch that replaces the owner's. Templates are compared, never hashes.
//!
//! **Source**: `pkg/controller/history/controller_history.go`, `getPatch` and `ApplyRevision` of both controllers, v1.37.

use super::{
    runtime::{Action, Claim, Planned, claim, controller_reference, is_selected},
    template_hash::{normal_form, set_name, template_hash},
};
use crate::{
    api::{
        kind::TypedKind,
        kinds::controller_revision::ControllerRevisions,
        meta::controller_of,
        object::untyped,
        selector::{FieldSelector, LabelSelector},
    },
    base::{json::typed, ordered::SortList as _},
    registry::{Registry, pipeline::Selection},
};
use k8s_openapi::{
    api::{apps::v1::ControllerRevision, core::v1::PodTemplateSpec},
    apimachinery::pkg::{apis::meta::v1::ObjectMeta, runtime::RawExtension},
};
use serde_json::{Value, json};
use std::sync::Arc;

/// The label of a pod with the name (StatefulSet) or hash (DaemonSet) of its revision.
pub(super) const POD_REVISION: &str = "controller-revision-hash";
/// Why a revision is made; `conclude` asks for it.
pub(super) const NEW_REVISION: &str = "the template has no revision yet";
/// The longest part of an owner's name in a revision's. Source: `ControllerRevisionName`.
const PREFIX_MAX: usize = 223;

/// An object that has revisions.
#[derive(Clone, Copy, Debug)]
pub(super) struct Owner<'a> {
    pub(super) meta: &'a ObjectMeta,
    pub(super) template: &'a PodTemplateSpec,
    pub(super) collisions: Option<i32>,
    /// The label of a revision with the hash that it is named by.
    pub(super) hash_label: &'static str,
}

/// The revisions of an object, oldest first, and which of them has its template.
#[derive(Debug)]
pub(super) struct Revisions<'a> {
    /// Those that it owns.
    pub(super) known: Vec<&'a ControllerRevision>,
    /// The one that has the template; it may still have to be made, or to get a higher number.
    pub(super) latest: ControllerRevision,
    /// What makes it so.
    pub(super) write: Option<Planned>,
}

/// The revisions that an object owns, whatever their labels, and those without an owner that it selects.
pub(super) fn of_owner(
    registry: &Registry,
    owner: &ObjectMeta,
    selector: &LabelSelector,
) -> Vec<Arc<ControllerRevision>> {
    let api = registry.api::<ControllerRevisions>();
    let mut found = api.owned_by(owner.uid.as_deref().unwrap_or_default());
    let selection = Selection { labels: selector.clone(), fields: FieldSelector::everything() };
    let selected = api.select(owner.namespace.as_deref().unwrap_or_default(), &selection).items;
    found.extend(selected.into_iter().filter(|revision| controller_of(&revision.metadata).is_none()));
    found
}

/// Adoptions and releases.
pub(super) fn claims<K: TypedKind>(
    owner: &ObjectMeta,
    selector: &LabelSelector,
    revisions: &[Arc<ControllerRevision>],
) -> Vec<Planned> {
    let reference = controller_reference(K::erased().info(), owner);
    let planned = |revision: &ControllerRevision| match stands(owner, selector, revision) {
        Claim::Adopt => {
            let adoption = Action::adopt::<ControllerRevisions>(revision, reference.clone());
            Some(adoption.because("the selector selects an orphan"))
        }
        Claim::Release => {
            let release = Action::release::<ControllerRevisions>(revision, &reference.uid);
            Some(release.because("the selector no longer selects it"))
        }
        Claim::Mine | Claim::NotMine => None,
    };
    revisions.iter().filter_map(|revision| planned(revision)).collect()
}

fn stands(owner: &ObjectMeta, selector: &LabelSelector, revision: &ControllerRevision) -> Claim {
    claim(owner, &revision.metadata, is_selected(selector, &revision.metadata))
}

impl<'a> Revisions<'a> {
    /// Of an object of this kind, among those that it owns or may adopt.
    pub(super) fn of<K: TypedKind>(
        owner: Owner<'_>,
        selector: &LabelSelector,
        found: &'a [Arc<ControllerRevision>],
    ) -> Self {
        let is_ours = |r: &&ControllerRevision| stands(owner.meta, selector, r) == Claim::Mine;
        let mut known: Vec<&ControllerRevision> = found.iter().map(|r| &**r).filter(is_ours).collect();
        known.sort_list_by_key(|r| {
            let created = r.metadata.creation_timestamp.as_ref().map(|time| time.0);
            (number(r), created, r.metadata.name.clone())
        });
        let wanted = normal_form(owner.template);
        let has_template = |r: &&&ControllerRevision| template_of(r).is_some_and(|t| normal_form(&t) == wanted);
        let highest = known.last().map_or(0, |r| number(r));
        let (latest, write) = match known.iter().rev().find(has_template) {
            Some(same) if number(same) == highest => (ControllerRevision::clone(same), None),
            Some(same) => {
                // A rollback: an old state is the newest again.
                let again = ControllerRevision { revision: Some(highest + 1), ..ControllerRevision::clone(same) };
                let write = Action::update::<ControllerRevisions>(again.clone());
                (again, Some(write.because("an old revision is the newest again")))
            }
            None => {
                let new = new::<K>(owner, highest + 1);
                (new.clone(), Some(Action::create::<ControllerRevisions>(new).because(NEW_REVISION)))
            }
        };
        Self { known, latest, write }
    }

    /// Those that are beyond the limit and that nobody uses, oldest first. Source: `truncateHistory`.
    pub(super) fn beyond(&self, limit: Option<i32>, is_used: impl Fn(&ControllerRevision) -> bool) -> Vec<Planned> {
        let latest = self.latest.metadata.name.as_ref();
        let is_old = |r: &&&ControllerRevision| r.metadata.name.as_ref() != latest && !is_used(r);
        let old: Vec<_> = self.known.iter().filter(is_old).collect();
        let kept = usize::try_from(limit.unwrap_or(10)).unwrap_or(0);
        let beyond = old.len().saturating_sub(kept);
        let delete =
            |r: &ControllerRevision| Action::delete::<ControllerRevisions>(r).because("it is beyond the history limit");
        old.into_iter().take(beyond).map(|r| delete(r)).collect()
    }

    /// The one of this name.
    pub(super) fn named(&self, name: &str) -> Option<&'a ControllerRevision> {
        self.known.iter().copied().find(|r| r.metadata.name.as_deref() == Some(name))
    }
}

/// A revision's name.
pub(super) fn name(revision: &ControllerRevision) -> &str {
    revision.metadata.name.as_deref().unwrap_or_default()
}

fn number(revision: &ControllerRevision) -> i64 {
    revision.revision.unwrap_or(0)
}

fn new<K: TypedKind>(owner: Owner<'_>, number: i64) -> ControllerRevision {
    let hash = template_hash(owner.template, owner.collisions);
    let named = owner.meta.name.as_deref().unwrap_or_default();
    let mut labels = owner.template.metadata.as_ref().and_then(|meta| meta.labels.clone()).unwrap_or_default();
    labels.insert(owner.hash_label.to_owned(), hash.clone());
    ControllerRevision {
        metadata: ObjectMeta {
            name: Some(set_name(named.get(..PREFIX_MAX).unwrap_or(named), &hash)),
            namespace: owner.meta.namespace.clone(),
            labels: Some(labels),
            annotations: owner.meta.annotations.clone(),
            owner_references: Some(vec![controller_reference(K::erased().info(), owner.meta)]),
            ..ObjectMeta::default()
        },
        revision: Some(number),
        data: RawExtension(patch(owner.template)),
    }
}

/// The patch that gives an owner this template.
fn patch(template: &PodTemplateSpec) -> Value {
    let mut template = untyped(template);
    template["$patch"] = json!("replace");
    json!({ "spec": { "template": template } })
}

/// The template that a revision keeps.
pub(super) fn template_of(revision: &ControllerRevision) -> Option<PodTemplateSpec> {
    typed(revision.data.0.pointer("/spec/template")?.clone()).ok()
}
