//! What every write does with `metadata`: names, system fields, preconditions, the marks of a deletion.
//!
//! **Source**: `k8s.io/apiserver/pkg/registry/rest/{create,update,delete,meta}.go` and
//! `k8s.io/apimachinery/pkg/api/validation/objectmeta.go`, v1.37.

use super::options::{DeleteOptions, Propagation};
use crate::{
    api::{
        agreements::{FOREGROUND_FINALIZER, ORPHAN_FINALIZER},
        field::FieldError,
        kind::{ErasedKind, KindInfo},
        managed, names,
        status::ApiError,
    },
    base::{clock::after, ordered::Set, rng::Rng},
};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, ObjectMeta, Time};

/// Finalizers that need no domain. **Source**: `IsStandardFinalizerName`, pkg/apis/core/helper/helpers.go.
const STANDARD_FINALIZERS: [&str; 3] = ["kubernetes", FOREGROUND_FINALIZER, ORPHAN_FINALIZER];
/// The longest base of a generated name. Source: `maxGeneratedNameLength`, names/generate.go.
const GENERATED_BASE_MAX: usize = 58;

/// Fills the system fields of a new object.
pub(super) fn before_create(
    info: &KindInfo<'_>,
    namespace: &str,
    meta: &mut ObjectMeta,
    uid: String,
    now: Time,
) -> Result<(), ApiError> {
    if meta.resource_version.as_deref().is_some_and(|v| !v.is_empty() && v != "0") {
        return Err(ApiError::BadRequest("resourceVersion should not be set on objects to be created".into()));
    }
    if info.is_namespaced() {
        meta.namespace = Some(namespace.to_owned());
    } else if meta.namespace.take().is_some_and(|n| !n.is_empty()) {
        let cause = FieldError::forbidden("metadata.namespace", "not allowed on this type");
        return Err(ApiError::invalid(info, meta.name.as_deref().unwrap_or_default(), vec![cause]));
    }
    meta.resource_version = None;
    meta.uid = Some(uid);
    meta.creation_timestamp = Some(now);
    meta.deletion_timestamp = None;
    meta.deletion_grace_period_seconds = None;
    meta.generation = None;
    meta.self_link = None;
    meta.managed_fields = managers(meta.managed_fields.as_deref(), None)?;
    Ok(())
}

/// The managers that an object shall have when these were sent with it.
fn managers(
    sent: Option<&[ManagedFieldsEntry]>,
    live: Option<&[ManagedFieldsEntry]>,
) -> Result<Option<Vec<ManagedFieldsEntry>>, ApiError> {
    let managers = managed::given(sent, live.unwrap_or_default()).map_err(ApiError::BadRequest)?;
    Ok((!managers.is_empty()).then_some(managers))
}

/// Makes the name of an object that only has a `generateName`.
pub(super) fn generate_name(meta: &mut ObjectMeta, rng: &Rng) {
    if let Some(base) = meta.generate_name.as_deref().filter(|b| !b.is_empty()) {
        let end = (0..=base.len().min(GENERATED_BASE_MAX)).rev().find(|i| base.is_char_boundary(*i)).unwrap_or(0);
        meta.name = Some(format!("{}{}", &base[..end], rng.name_suffix()));
    }
}

/// Keeps the system fields of a changed object.
pub(super) fn before_update(info: &KindInfo<'_>, new: &mut ObjectMeta, old: &ObjectMeta) -> Result<(), ApiError> {
    let name = old.name.as_deref().unwrap_or_default();
    // Revision 0 stands for none: the change is made whatever the object is by now.
    let given = new.resource_version.as_deref().filter(|v| !matches!(*v, "" | "0"));
    if given.is_some() && given != old.resource_version.as_deref() {
        return Err(ApiError::modified(info, name));
    }
    if let Some(uid) = new.uid.as_deref().filter(|u| !u.is_empty() && Some(*u) != old.uid.as_deref()) {
        return Err(uid_conflict(info, name, uid, old));
    }
    new.name.clone_from(&old.name);
    new.namespace.clone_from(&old.namespace);
    new.uid.clone_from(&old.uid);
    new.creation_timestamp.clone_from(&old.creation_timestamp);
    new.deletion_timestamp.clone_from(&old.deletion_timestamp);
    new.deletion_grace_period_seconds = old.deletion_grace_period_seconds;
    new.generation = old.generation;
    new.generate_name.clone_from(&old.generate_name);
    new.self_link = None;
    new.managed_fields = managers(new.managed_fields.as_deref(), old.managed_fields.as_deref())?;
    Ok(())
}

fn uid_conflict(info: &KindInfo<'_>, name: &str, wanted: &str, old: &ObjectMeta) -> ApiError {
    let has = old.uid.as_deref().unwrap_or_default();
    ApiError::Conflict {
        resource: info.resource(),
        name: name.to_owned(),
        why: format!("Precondition failed: UID in precondition: {wanted}, UID in object meta: {has}"),
    }
}

/// All that is wrong with an object's metadata.
pub(super) fn validate(kind: &dyn ErasedKind, meta: &ObjectMeta) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let name = meta.name.as_deref().unwrap_or_default();
    if let Some(prefix) = meta.generate_name.as_deref().filter(|p| !p.is_empty()) {
        let wrong = kind.validate_name_prefix(prefix);
        errors.extend(wrong.into_iter().map(|why| FieldError::invalid("metadata.generateName", prefix, why)));
    }
    if name.is_empty() {
        errors.push(FieldError::required("metadata.name", "name or generateName is required"));
    } else {
        let wrong = kind.validate_name(name);
        errors.extend(wrong.into_iter().map(|why| FieldError::invalid("metadata.name", name, why)));
    }
    errors.extend(meta.labels.iter().flat_map(|l| names::check_labels(l, "metadata.labels")));
    errors.extend(meta.annotations.iter().flat_map(|a| names::check_annotations(a, "metadata.annotations")));
    errors.extend(validate_owners(meta));
    for (i, finalizer) in meta.finalizers.iter().flatten().enumerate() {
        let wrong = names::qualified_name(finalizer);
        errors.extend(wrong.into_iter().map(|why| FieldError::invalid("metadata.finalizers", finalizer, why)));
        if !finalizer.contains('/') && !STANDARD_FINALIZERS.contains(&finalizer.as_str()) {
            let why = "name is neither a standard finalizer name nor is it fully qualified";
            errors.push(FieldError::invalid(format!("metadata.finalizers[{i}]"), finalizer, why));
        }
    }
    errors
}

fn validate_owners(meta: &ObjectMeta) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let path = "metadata.ownerReferences";
    for owner in meta.owner_references.iter().flatten() {
        for (field, value) in
            [("apiVersion", &owner.api_version), ("kind", &owner.kind), ("name", &owner.name), ("uid", &owner.uid)]
        {
            if value.is_empty() {
                errors.push(FieldError::invalid(
                    format!("{path}.{field}"),
                    value,
                    format!("{field} must not be empty"),
                ));
            }
        }
    }
    let controllers: Vec<_> = meta.owner_references.iter().flatten().filter(|o| o.controller == Some(true)).collect();
    if let [first, second, ..] = controllers[..] {
        let detail = format!(
            "Only one reference can have Controller set to true. Found \"true\" in references for {} and {}",
            first.name, second.name
        );
        errors.push(FieldError::invalid(path, &meta.owner_references, detail));
    }
    errors
}

/// All that is wrong with a change of metadata: a deleted object takes no new finalizers.
pub(super) fn validate_update(new: &ObjectMeta, old: &ObjectMeta) -> Vec<FieldError> {
    if old.deletion_timestamp.is_none() {
        return Vec::new();
    }
    let had: Set<&String> = old.finalizers.iter().flatten().collect();
    let added: Vec<_> = new.finalizers.iter().flatten().filter(|f| !had.contains(f)).cloned().collect();
    if added.is_empty() {
        return Vec::new();
    }
    let list: Vec<String> = added.iter().map(|f| format!("{f:?}")).collect();
    let detail = format!(
        "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
        list.join(", ")
    );
    vec![FieldError::forbidden("metadata.finalizers", detail)]
}

/// When a grace of `new` seconds is over that began when one of `old` seconds did, whose end is at `at`. Where that end is the last
/// moment there is, nobody knows the beginning, so it counts from now.
fn brought_forward(at: Timestamp, old: i64, new: i64, now: Timestamp) -> Timestamp {
    if at.as_second() == Timestamp::MAX.as_second() {
        return after(now, SignedDuration::from_secs(new));
    }
    after(at, SignedDuration::from_secs(new.saturating_sub(old)))
}

/// Checks what the caller of a delete knows of the object.
///
/// # Errors
/// `Conflict`: the object is another.
pub fn check_preconditions(info: &KindInfo<'_>, meta: &ObjectMeta, options: &DeleteOptions) -> Result<(), ApiError> {
    let name = meta.name.as_deref().unwrap_or_default();
    if let Some(uid) = options.uid.as_deref().filter(|u| Some(*u) != meta.uid.as_deref()) {
        return Err(uid_conflict(info, name, uid, meta));
    }
    match options.resource_version.as_deref().filter(|v| Some(*v) != meta.resource_version.as_deref()) {
        None => Ok(()),
        Some(wanted) => Err(ApiError::Conflict {
            resource: info.resource(),
            name: name.to_owned(),
            why: format!(
                "Precondition failed: ResourceVersion in precondition: {wanted}, ResourceVersion in object meta: {}",
                meta.resource_version.as_deref().unwrap_or_default()
            ),
        }),
    }
}

/// Marks an object as deleted: when, with how much grace, and which finalizers the propagation adds. A second mark may only
/// shorten the grace.
pub(super) fn mark_deleted(meta: &mut ObjectMeta, propagation: Option<Propagation>, grace: i64, now: Timestamp) {
    set_propagation(meta, propagation);
    let (first, at) = match (&meta.deletion_timestamp, meta.deletion_grace_period_seconds) {
        (Some(_), Some(old)) if old <= grace => return,
        (Some(_), None) => return,
        (Some(Time(old_at)), Some(old)) => (false, brought_forward(*old_at, old, grace, now)),
        (None, _) => (true, after(now, SignedDuration::from_secs(grace))),
    };
    meta.deletion_timestamp = Some(Time(at.max(now)));
    meta.deletion_grace_period_seconds = Some(grace);
    if let (true, Some(generation)) = (first, meta.generation) {
        meta.generation = Some(generation + 1);
    }
}

fn set_propagation(meta: &mut ObjectMeta, propagation: Option<Propagation>) {
    let Some(propagation) = propagation else { return };
    let finalizers = meta.finalizers.get_or_insert_default();
    finalizers.retain(|f| f != FOREGROUND_FINALIZER && f != ORPHAN_FINALIZER);
    match propagation {
        Propagation::Background => {}
        Propagation::Foreground => finalizers.push(FOREGROUND_FINALIZER.to_owned()),
        Propagation::Orphan => finalizers.push(ORPHAN_FINALIZER.to_owned()),
    }
    if finalizers.is_empty() {
        meta.finalizers = None;
    }
}

/// Whether a marked object may go: nothing holds it back any more.
pub(super) fn may_go(meta: &ObjectMeta) -> bool {
    meta.deletion_timestamp.is_some()
        && meta.deletion_grace_period_seconds.unwrap_or(0) == 0
        && meta.finalizers.iter().flatten().next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: i64) -> Timestamp {
        Timestamp::from_second(secs).unwrap()
    }

    #[test]
    fn a_second_delete_can_only_shorten_the_grace() {
        let mut meta = ObjectMeta::default();
        mark_deleted(&mut meta, None, 30, at(100));
        assert_eq!(meta.deletion_timestamp, Some(Time(at(130))));
        mark_deleted(&mut meta, None, 60, at(105));
        assert_eq!(meta.deletion_timestamp, Some(Time(at(130))));
        mark_deleted(&mut meta, None, 10, at(105));
        assert_eq!(
            (meta.deletion_timestamp.clone(), meta.deletion_grace_period_seconds),
            (Some(Time(at(110))), Some(10))
        );
        assert!(!may_go(&meta));
        mark_deleted(&mut meta, None, 0, at(106));
        assert!(may_go(&meta));
    }

    #[test]
    fn a_propagation_replaces_the_one_before() {
        let mut meta =
            ObjectMeta { finalizers: Some(vec!["a.io/b".into(), ORPHAN_FINALIZER.into()]), ..Default::default() };
        mark_deleted(&mut meta, Some(Propagation::Foreground), 0, at(1));
        assert_eq!(meta.finalizers, Some(vec!["a.io/b".into(), FOREGROUND_FINALIZER.into()]));
        mark_deleted(&mut meta, Some(Propagation::Background), 0, at(1));
        assert_eq!(meta.finalizers, Some(vec!["a.io/b".into()]));
        assert!(!may_go(&meta));
    }

    #[test]
    fn a_generated_name_keeps_the_base_within_bounds() {
        let mut meta = ObjectMeta { generate_name: Some("x".repeat(70)), ..Default::default() };
        generate_name(&mut meta, &Rng::seeded(1));
        assert_eq!(meta.name.unwrap().len(), 63);
    }
}
