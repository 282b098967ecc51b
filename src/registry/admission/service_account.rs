//! Pods run as a service account: `default` unless they name another, which must exist.
//!
//! Unlike Kubernetes, `default` itself need not exist yet, so that a pod applied together with its namespace is not refused.
//! **Source**: `plugin/pkg/admission/serviceaccount/admission.go`, v1.37.

use crate::{
    api::{
        kind::KindInfo, kinds::service_account::ServiceAccounts, meta::ObjectKey, object::DynObject, status::ApiError,
    },
    registry::Registry,
};
use k8s_openapi::api::core::v1::Pod;

const DEFAULT: &str = "default";

pub(super) fn review(registry: &Registry, info: &KindInfo<'_>, obj: &mut dyn DynObject) -> Result<(), ApiError> {
    let Some(pod) = obj.as_any_mut().downcast_mut::<Pod>() else { return Ok(()) };
    let Some(spec) = &mut pod.spec else { return Ok(()) };
    let named = spec.service_account_name.clone().or_else(|| spec.service_account.clone());
    let account = named.filter(|n| !n.is_empty()).unwrap_or_else(|| DEFAULT.to_owned());
    let namespace = pod.metadata.namespace.clone().unwrap_or_default();
    if account != DEFAULT && registry.api::<ServiceAccounts>().get(&ObjectKey::new(&namespace, &account)).is_none() {
        return Err(ApiError::Forbidden {
            resource: info.resource(),
            name: pod.metadata.name.clone().unwrap_or_default(),
            why: format!(
                "error looking up service account {namespace}/{account}: serviceaccount {account:?} not found"
            ),
        });
    }
    spec.service_account_name = Some(account.clone());
    spec.service_account = Some(account);
    Ok(())
}
