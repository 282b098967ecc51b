//! Who owns which fields: `metadata.managedFields`, and server-side apply.
//!
//! A manager's fields are a [`FieldSet`]. A write by `Update` makes its manager the owner of all that it changed; `Apply` makes its
//! manager the owner of all that its configuration says, unless somebody else owns it with another value.
//!
//! - [`fields`]: sets of fields, and `FieldsV1`, their form in JSON.
//! - [`shape`]: how values are told apart by their schema: what is one field, what has fields of its own.
//! - [`compare`]: the fields of a value, and those in which two values differ.
//! - [`merge`]: a configuration put over a value, and fields taken out of one.
//!
//! Pure. Called by the pipeline for updates and by the server's verb for apply.
//!
//! **Source**: `sigs.k8s.io/structured-merge-diff/v6` (`merge/update.go`, `typed`, `fieldpath`),
//! `k8s.io/apimachinery/pkg/util/managedfields`, v1.37.

mod compare;
pub mod fields;
mod merge;
mod shape;
#[cfg(test)]
mod tests;

use super::{
    kind::ErasedKind,
    schema::structure::Definition,
    status::{ApiError, Conflicting},
};
use crate::base::ordered::SortList as _;
use compare::{Difference, difference, fields_of};
use fields::{Element, FieldSet};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{FieldsV1, ManagedFieldsEntry, Time};
use serde_json::Value;

const APPLY: &str = "Apply";
const UPDATE: &str = "Update";
/// The most managers by `Update` of one object; the oldest are put together. Source: `capmanagers.go`.
const UPDATERS_MAX: usize = 10;
const ANCIENT: &str = "ancient-changes";
/// Fields of the metadata that nobody owns. Source: `stripmeta.go`.
const UNOWNED_META: [&str; 9] = [
    "clusterName",
    "creationTimestamp",
    "generation",
    "managedFields",
    "name",
    "namespace",
    "resourceVersion",
    "selfLink",
    "uid",
];

/// Who writes, and what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Writer {
    /// The manager's name.
    pub name: String,
    /// The sub-resource that it writes; empty for the object itself.
    pub subresource: String,
    /// The version of its objects, e.g. `apps/v1`.
    pub api_version: String,
}

/// Which fields a write can own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// All.
    Whole,
    /// All but the status.
    ButStatus,
    /// The status alone.
    Status,
    /// The status, and annotations.
    StatusAndAnnotations,
}

impl Reach {
    /// That of a write of a kind's objects, or of their status.
    pub fn of(kind: &dyn ErasedKind, is_of_status: bool) -> Self {
        match (is_of_status, kind.status_annotates(), kind.info().has_status()) {
            (true, true, _) => Self::StatusAndAnnotations,
            (true, false, _) => Self::Status,
            (false, _, true) => Self::ButStatus,
            (false, _, false) => Self::Whole,
        }
    }

    /// The fields that can be owned.
    fn limit(self, mut set: FieldSet) -> FieldSet {
        let top = |name: &str| Element::Field(name.to_owned());
        for name in ["apiVersion", "kind"] {
            set.remove(&top(name));
        }
        if let Some(meta) = set.child_mut(&top("metadata")) {
            UNOWNED_META.into_iter().for_each(|name| meta.remove(&Element::Field(name.to_owned())));
        }
        set.disown(&top("metadata"));
        match self {
            Self::Whole => {}
            Self::ButStatus => set.remove(&top("status")),
            Self::Status => set.keep_only(&[top("status")]),
            Self::StatusAndAnnotations => {
                set.keep_only(&[top("status"), top("metadata")]);
                if let Some(meta) = set.child_mut(&top("metadata")) {
                    meta.keep_only(&[top("annotations")]);
                }
                set.disown(&top("metadata"));
            }
        }
        set
    }
}

/// The managers of an object.
type Managers = Vec<ManagedFieldsEntry>;

fn set_of(entry: &ManagedFieldsEntry) -> FieldSet {
    entry.fields_v1.as_ref().and_then(|fields| FieldSet::read(&fields.0)).unwrap_or_default()
}

fn with_set(entry: ManagedFieldsEntry, set: &FieldSet) -> ManagedFieldsEntry {
    ManagedFieldsEntry { fields_v1: Some(FieldsV1(set.write())), ..entry }
}

fn is_of(entry: &ManagedFieldsEntry, writer: &Writer, operation: &str) -> bool {
    entry.operation.as_deref() == Some(operation)
        && entry.manager.as_deref() == Some(&writer.name)
        && entry.subresource.as_deref().unwrap_or_default() == writer.subresource
        // Who applies is one manager whatever version it applies.
        && (operation == APPLY || entry.api_version.as_deref() == Some(&writer.api_version))
}

fn entry_of(writer: &Writer, operation: &str, now: &Time) -> ManagedFieldsEntry {
    ManagedFieldsEntry {
        api_version: Some(writer.api_version.clone()),
        fields_type: Some("FieldsV1".to_owned()),
        fields_v1: None,
        manager: Some(writer.name.clone()),
        operation: Some(operation.to_owned()),
        subresource: Some(writer.subresource.clone()).filter(|sub| !sub.is_empty()),
        time: Some(now.clone()),
    }
}

/// The managers after a write that is no apply: its manager owns all that it changed, and those who owned it no longer do.
///
/// `before` is null for a new object.
pub fn updated(
    definition: &Definition,
    (before, after): (&Value, &Value),
    managers: &[ManagedFieldsEntry],
    writer: &Writer,
    reach: Reach,
    now: &Time,
) -> Managers {
    let Difference { added, modified, removed } = difference(definition, before, after);
    let (changed, removed) = (reach.limit(added.union(&modified)), reach.limit(removed));
    let mut out = Managers::new();
    let mut own = None;
    for entry in managers {
        let (set, is_own) = (set_of(entry), is_of(entry, writer, UPDATE));
        let left = set.difference(&removed);
        let left = if is_own { left.union(&changed) } else { left.difference(&changed) };
        let entry = if left == set { entry.clone() } else { with_set(entry.clone(), &left) };
        match (is_own, left.is_empty()) {
            (_, true) => {}
            (true, false) => {
                let time = if left == set { entry.time.clone() } else { Some(now.clone()) };
                own = Some(ManagedFieldsEntry { time, ..entry });
            }
            (false, false) => out.push(entry),
        }
    }
    if own.is_none() && !changed.is_empty() && !managers.iter().any(|entry| is_of(entry, writer, UPDATE)) {
        own = Some(with_set(entry_of(writer, UPDATE, now), &changed));
    }
    out.extend(own);
    capped(sorted(out))
}

/// Applies come first, then by time. Source: `sortEncodedManagedFields` in managedfields.go.
fn sorted(mut managers: Managers) -> Managers {
    managers.sort_list_by(|a, b| {
        let key = |entry: &ManagedFieldsEntry| {
            (
                entry.operation.clone(),
                entry.time.as_ref().map(|t| t.0),
                entry.manager.clone(),
                entry.subresource.clone(),
            )
        };
        key(a).cmp(&key(b))
    });
    managers
}

fn capped(managers: Managers) -> Managers {
    let is_update = |entry: &ManagedFieldsEntry| entry.operation.as_deref() == Some(UPDATE);
    let excess = managers.iter().filter(|entry| is_update(entry)).count().saturating_sub(UPDATERS_MAX);
    if excess == 0 {
        return managers;
    }
    let (mut out, mut ancient, mut n_merged) = (Managers::new(), None::<ManagedFieldsEntry>, 0);
    for entry in managers {
        // The oldest of one version are put together, one more than the excess, because together they are one.
        if !is_update(&entry) || n_merged > excess {
            out.push(entry);
            continue;
        }
        n_merged += 1;
        let merged = match ancient.take() {
            None => ManagedFieldsEntry { manager: Some(ANCIENT.to_owned()), subresource: None, ..entry },
            Some(old) => {
                let set = set_of(&old).union(&set_of(&entry));
                with_set(ManagedFieldsEntry { time: entry.time, ..old }, &set)
            }
        };
        ancient = Some(merged);
    }
    out.extend(ancient);
    sorted(out)
}

/// What an apply makes of an object.
#[derive(Clone, Debug, PartialEq)]
pub struct Applied {
    /// The object, without managers.
    pub object: Value,
    /// Its managers.
    pub managers: Managers,
}

/// Applies a configuration to an object (null: there is none yet).
///
/// # Errors
/// [`ApiError::ApplyConflict`] when others own fields with other values, unless `force` takes them over; `BadRequest` when the
/// configuration has fields that the schema has not, or items that cannot be told apart.
pub fn applied(
    definition: &Definition,
    (live, config): (&Value, &Value),
    managers: &[ManagedFieldsEntry],
    writer: &Writer,
    reach: Reach,
    (force, now): (bool, &Time),
) -> Result<Applied, ApiError> {
    let wanted = reach.limit(fields_of(definition, config).map_err(ApiError::BadRequest)?);
    let merged = merge::merge(definition, live, config);
    let own = managers.iter().find(|entry| is_of(entry, writer, APPLY));
    let others: Vec<(&ManagedFieldsEntry, FieldSet)> =
        managers.iter().filter(|entry| !is_of(entry, writer, APPLY)).map(|entry| (entry, set_of(entry))).collect();
    let kept = others.iter().fold(wanted.clone(), |kept, (_, set)| kept.union(set));
    let object = match own {
        Some(own) => merge::without(definition, merged, &set_of(own), &kept),
        None => merged,
    };
    let Difference { added, modified, removed } = difference(definition, live, &object);
    let (changed, removed) = (reach.limit(added.union(&modified)), reach.limit(removed));
    let conflicts: Vec<Conflicting> = others
        .iter()
        .flat_map(|(entry, set)| {
            let manager = shown(entry);
            set.intersection(&changed)
                .paths()
                .into_iter()
                .map(move |path| Conflicting { manager: manager.clone(), path })
        })
        .collect();
    if !force && !conflicts.is_empty() {
        return Err(ApiError::ApplyConflict(conflicts));
    }
    let left = |(entry, set): (&ManagedFieldsEntry, FieldSet)| {
        let left = set.difference(&changed).difference(&removed);
        (!left.is_empty()).then(|| if left == set { entry.clone() } else { with_set(entry.clone(), &left) })
    };
    let mut out: Managers = others.into_iter().filter_map(left).collect();
    if !wanted.is_empty() {
        let is_same = own.is_some_and(|own| set_of(own) == wanted) && object == *live;
        let time = own.filter(|_| is_same).and_then(|own| own.time.clone()).unwrap_or_else(|| now.clone());
        out.push(with_set(entry_of(writer, APPLY, &time), &wanted));
    }
    Ok(Applied { object, managers: sorted(out) })
}

/// A manager as conflicts name it. Source: `printManager` in managedfields/internal/conflict.go.
fn shown(entry: &ManagedFieldsEntry) -> String {
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    let mut shown = format!("{:?}", text(&entry.manager));
    if entry.subresource.is_some() {
        shown += &format!(" with subresource {:?}", text(&entry.subresource));
    }
    if entry.operation.as_deref() == Some(UPDATE) {
        shown += &format!(" using {}", text(&entry.api_version));
        if let Some(time) = &entry.time {
            shown += &format!(" at {}", time.0.strftime("%Y-%m-%dT%H:%M:%SZ"));
        }
    }
    shown
}

/// The managers that an object shall have when a client sent these: its own when it sent none, none when it sent an empty list or
/// an empty entry, as clients do to start anew.
///
/// # Errors
/// Why what it sent is none.
pub fn given(sent: Option<&[ManagedFieldsEntry]>, live: &[ManagedFieldsEntry]) -> Result<Managers, String> {
    let Some(sent) = sent else { return Ok(live.to_vec()) };
    if sent.iter().all(|entry| *entry == ManagedFieldsEntry::default()) {
        return Ok(Managers::new());
    }
    for entry in sent {
        if !matches!(entry.operation.as_deref(), Some(APPLY | UPDATE)) {
            return Err(format!("managed fields type is {:?}", entry.operation.as_deref().unwrap_or_default()));
        }
        if entry.fields_v1.as_ref().is_some_and(|fields| FieldSet::read(&fields.0).is_none()) {
            return Err("metadata.managedFields: fieldsV1 cannot be read".to_owned());
        }
    }
    Ok(sent.to_vec())
}
