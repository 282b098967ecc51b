//! Objects are created in namespaces that exist and are not going away; the namespaces that the cluster needs stay.
//!
//! **Source**: `k8s.io/apiserver/pkg/admission/plugin/namespace/lifecycle/admission.go`, v1.37.

use crate::{
    api::{
        agreements::SYSTEM_NAMESPACE,
        kind::{Kind as _, KindInfo},
        kinds::namespace::Namespaces,
        meta::ObjectKey,
        object::DynObject,
        status::ApiError,
    },
    registry::Registry,
};

/// Namespaces that cannot be deleted. Source: `kube-apiserver`'s immortal namespaces.
const IMMORTAL: [&str; 3] = ["default", SYSTEM_NAMESPACE, "kube-public"];

pub(super) fn review(registry: &Registry, info: &KindInfo<'_>, obj: &mut dyn DynObject) -> Result<(), ApiError> {
    if !info.is_namespaced() {
        return Ok(());
    }
    let meta = obj.meta();
    let namespace = meta.namespace.as_deref().unwrap_or_default();
    let Some(found) = registry.api::<Namespaces>().get(&ObjectKey::new("", namespace)) else {
        return Err(ApiError::not_found(&Namespaces::INFO, namespace));
    };
    if found.metadata.deletion_timestamp.is_none() {
        return Ok(());
    }
    Err(ApiError::Forbidden {
        resource: info.resource(),
        name: meta.name.clone().unwrap_or_default(),
        why: format!("unable to create new content in namespace {namespace} because it is being terminated"),
    })
}

pub(super) fn review_delete(info: &KindInfo<'_>, key: &ObjectKey) -> Result<(), ApiError> {
    let is_namespace = info.group == Namespaces::INFO.group && info.plural == Namespaces::INFO.plural;
    if is_namespace && IMMORTAL.contains(&key.name.as_str()) {
        return Err(ApiError::Forbidden {
            resource: info.resource(),
            name: key.name.clone(),
            why: "this namespace may not be deleted".into(),
        });
    }
    Ok(())
}
