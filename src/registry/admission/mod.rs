//! Admission: what the surroundings of an object say to a write. One file per step, listed in [`STEPS`].
//!
//! Steps are pure reviews of an object and the registry's current state; each may fill in or refuse.
//! **Not here**: what a kind says of itself (`api/kinds`), numbers to hand out (`alloc`).

mod claim_resize;
mod default_class;
mod image_stream;
mod limit_ranger;
mod namespace_lifecycle;
mod pod_security;
mod priority;
mod service_account;
mod time_zone;

use super::{
    Registry,
    pipeline::{WriteOptions, with_decoded},
};
use crate::{
    api::{
        json_kind::JsonKind,
        kind::KindInfo,
        meta::ObjectKey,
        object::{DynObject, Untyped},
        status::ApiError,
    },
    store::Entry,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

/// A step: what is created, where, and the registry to look around in.
type Step = fn(&Registry, &KindInfo<'_>, &mut dyn DynObject) -> Result<(), ApiError>;

/// The steps of a create, in Kubernetes' order.
const STEPS: &[Step] = &[namespace_lifecycle::review, limit_ranger::review, service_account::review, priority::review];

/// Reviews a create.
pub(super) fn on_create(registry: &Registry, info: &KindInfo<'_>, obj: &mut dyn DynObject) -> Result<(), ApiError> {
    STEPS.iter().try_for_each(|step| step(registry, info, obj))?;
    default_class::give(registry, info, obj);
    image_stream::look_up(registry, obj);
    Ok(())
}

/// Completes what a write of all but the status makes of an object, once it is prepared. `old` is what it was; `None`: it is new.
pub(super) fn complete(
    registry: &Registry,
    old: Option<&dyn DynObject>,
    new: &mut dyn DynObject,
) -> Result<(), ApiError> {
    image_stream::complete(registry, old, new)
}

/// Reviews a write of all but the status of an object that is sound in itself. `old` is what it was; `None`: it is new.
pub(super) fn on_write(
    registry: &Registry,
    info: &KindInfo<'_>,
    old: Option<&dyn DynObject>,
    new: &dyn DynObject,
    options: &WriteOptions,
) -> Result<(), ApiError> {
    limit_ranger::review_claim(registry, info, new)?;
    claim_resize::review(registry, info, old, new)?;
    time_zone::review(info, old, new)?;
    pod_security::review(registry, info, old, new, options)
}

/// Reads the object of a kind that is served from its schema; nothing if the entry is none of it.
fn untyped<R>(kind: &JsonKind, entry: &Entry, of: impl FnOnce(&Untyped) -> R) -> Option<R> {
    with_decoded(kind, entry, true, |obj| obj.as_any().downcast_ref().map(of)).ok().flatten()
}

/// The name by which a refusal calls an object: where it is still to be made, by its beginning, as in Kubernetes.
pub(super) fn shown_name(meta: &ObjectMeta) -> String {
    let named = meta.name.clone().filter(|name| !name.is_empty());
    named.or_else(|| meta.generate_name.clone()).unwrap_or_default()
}

/// Reviews a delete.
pub(super) fn on_delete(info: &KindInfo<'_>, key: &ObjectKey) -> Result<(), ApiError> {
    namespace_lifecycle::review_delete(info, key)
}
