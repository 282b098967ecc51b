//! Admission: what the surroundings of an object say to a write. One file per step, listed in [`STEPS`].
//!
//! Steps are pure reviews of an object and the registry's current state; each may fill in or refuse.
//! **Not here**: what a kind says of itself (`api/kinds`), numbers to hand out (`alloc`).

mod limit_ranger;
mod namespace_lifecycle;
mod priority;
mod service_account;

use super::Registry;
use crate::api::{kind::KindInfo, meta::ObjectKey, object::DynObject, status::ApiError};

/// A step: what is created, where, and the registry to look around in.
type Step = fn(&Registry, &KindInfo<'_>, &mut dyn DynObject) -> Result<(), ApiError>;

/// The steps of a create, in Kubernetes' order.
const STEPS: &[Step] = &[namespace_lifecycle::review, limit_ranger::review, service_account::review, priority::review];

/// Reviews a create.
pub(super) fn on_create(registry: &Registry, info: &KindInfo<'_>, obj: &mut dyn DynObject) -> Result<(), ApiError> {
    STEPS.iter().try_for_each(|step| step(registry, info, obj))
}

/// Reviews a delete.
pub(super) fn on_delete(info: &KindInfo<'_>, key: &ObjectKey) -> Result<(), ApiError> {
    namespace_lifecycle::review_delete(info, key)
}
