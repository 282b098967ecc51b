//! A pod's priority class must exist. There are only those that every cluster has; the kind `Pod` knows what they give.
//!
//! **Source**: `plugin/pkg/admission/priority/admission.go`, v1.37.

use crate::{
    api::{kind::KindInfo, kinds::pod, object::DynObject, status::ApiError},
    registry::Registry,
};
use k8s_openapi::api::core::v1::Pod;

pub(super) fn review(_registry: &Registry, info: &KindInfo, obj: &mut dyn DynObject) -> Result<(), ApiError> {
    let Some(pod) = obj.as_any_mut().downcast_mut::<Pod>() else { return Ok(()) };
    let class = pod.spec.as_ref().and_then(|spec| spec.priority_class_name.as_deref()).unwrap_or_default();
    if class.is_empty() || pod::priority_of_class(class).is_some() {
        return Ok(());
    }
    let meta = &pod.metadata;
    let named = meta.name.clone().filter(|name| !name.is_empty());
    Err(ApiError::Forbidden {
        resource: info.resource(),
        // A name that is still to be made is shown by its beginning, as in Kubernetes.
        name: named.or_else(|| meta.generate_name.clone()).unwrap_or_default(),
        why: format!("no PriorityClass with name {class} was found"),
    })
}
