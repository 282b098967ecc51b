//! A claim may grow where its class says so, and its volume was made by that class.
//!
//! **Source**: `plugin/pkg/admission/storage/persistentvolume/resize/admission.go`, v1.37.

use super::untyped;
use crate::{
    api::{
        json_kind::text_at,
        kind::{ErasedKind as _, KindInfo},
        kinds::{
            persistent_volume_claim::{PERSISTENT_VOLUME_CLAIMS, class_of},
            storage_class::STORAGE_CLASSES,
        },
        meta::ObjectKey,
        object::{DynObject, Untyped},
        quantity::Quantity,
        status::ApiError,
    },
    registry::Registry,
};

/// Refuses a claim that grows and cannot.
pub(super) fn review(
    registry: &Registry,
    info: &KindInfo<'_>,
    old: Option<&dyn DynObject>,
    new: &dyn DynObject,
) -> Result<(), ApiError> {
    if info.resource() != PERSISTENT_VOLUME_CLAIMS.info().resource() {
        return Ok(());
    }
    let (Some(old), Some(new)) = (old.and_then(plain), plain(new)) else { return Ok(()) };
    let size = |claim: &Untyped| Quantity::parse(&text_at(&claim.rest, "spec.resources.requests.storage")).ok();
    if size(new) <= size(old) {
        return Ok(());
    }
    let refuse = |why: &str| {
        let (resource, name) = (info.resource(), new.metadata.name.clone().unwrap_or_default());
        Err(ApiError::Forbidden { resource, name, why: why.to_owned() })
    };
    if text_at(&old.rest, "status.phase") != "Bound" {
        return refuse("Only bound persistent volume claims can be expanded");
    }
    let class = registry.entry(&STORAGE_CLASSES, &ObjectKey::new("", class_of(old)));
    let may = |class: &Untyped| class.rest.get("allowVolumeExpansion").is_some_and(|allowed| *allowed == true);
    let may_grow = class.and_then(|class| untyped(&STORAGE_CLASSES, &class, may)) == Some(true);
    if may_grow {
        return Ok(());
    }
    refuse(
        "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize",
    )
}

fn plain(obj: &dyn DynObject) -> Option<&Untyped> {
    obj.as_any().downcast_ref()
}
