//! The `binding` of a pod to a node, posted to the pod or beside it.
//!
//! **Source**: `pkg/registry/core/pod/storage/storage.go`, v1.37.

use super::Call;
use crate::{
    api::{field::FieldError, kind::Erased, kinds::pod::Pods, meta::ObjectKey, object::DynObject, status::ApiError},
    base::json,
    registry::pipeline::{Part, WriteOptions},
    server::{codec, media::Offer, paths, respond::Response},
    store::Entry,
};
use k8s_openapi::api::core::v1::{Binding, Pod};
use serde_json::Value;

/// Gives the pod of the path to a node.
pub(super) async fn create(call: &Call<'_>) -> Result<Response, ApiError> {
    assign(call, &call.info.name, &read(call)?).await
}

/// Gives the pod that the binding names to a node.
pub(super) async fn of_any_pod(call: &Call<'_>) -> Result<Response, ApiError> {
    let binding = read(call)?;
    let name = binding.metadata.name.clone().unwrap_or_default();
    if name.is_empty() {
        return Err(invalid(&name, FieldError::required("metadata.name", "name or generateName is required")));
    }
    assign(call, &name, &binding).await
}

fn read(call: &Call<'_>) -> Result<Binding, ApiError> {
    let format = codec::body_format(&call.request.headers)?;
    codec::decode_plain(format, &call.request.body, "Binding", "v1")
}

fn invalid(name: &str, cause: FieldError) -> ApiError {
    ApiError::Invalid { kind: "Binding".to_owned(), name: name.to_owned(), causes: vec![cause] }
}

/// Source: `BindingREST.assignPod` in `pkg/registry/core/pod/storage/storage.go`.
async fn assign(call: &Call<'_>, name: &str, binding: &Binding) -> Result<Response, ApiError> {
    let dry_run = call.writing("CreateOptions")?.write.dry_run;
    let node = binding.target.name.clone().unwrap_or_default();
    if node.is_empty() {
        return Err(invalid(name, FieldError::required("target.name", "")));
    }
    let mut change = |entry: &Entry| {
        let mut pod = decode_pod(name, entry)?;
        bind(&mut pod, binding, &node)?;
        Ok(Box::new(pod) as Box<dyn DynObject>)
    };
    call.registry()
        .update(
            &Erased::<Pods>::NEW,
            &ObjectKey::new(&call.info.namespace, name),
            Part::Main,
            &mut change,
            &WriteOptions { dry_run, ..Default::default() },
        )
        .await?;
    paths::success(201, call.output(Offer::Plain)?.format, &Value::Null)
}

fn decode_pod(name: &str, entry: &Entry) -> Result<Pod, ApiError> {
    json::read(&entry.value).map_err(|err| ApiError::Internal(format!("pod {name} cannot be read: {err}")))
}

fn bind(pod: &mut Pod, binding: &Binding, node: &str) -> Result<(), ApiError> {
    let name = pod.metadata.name.clone().unwrap_or_default();
    let conflict = |why: String| ApiError::Conflict { resource: "pods/binding".to_owned(), name: name.clone(), why };
    if pod.metadata.deletion_timestamp.is_some() {
        return Err(conflict(format!("pod {name} is being deleted, cannot be assigned to a host")));
    }
    let spec = pod.spec.get_or_insert_default();
    if let Some(has) = spec.node_name.as_deref().filter(|n| !n.is_empty()) {
        return Err(conflict(format!("pod {name} is already assigned to node {has:?}")));
    }
    if spec.scheduling_gates.as_ref().is_some_and(|gates| !gates.is_empty()) {
        return Err(conflict(format!("pod {name} has non-empty .spec.schedulingGates")));
    }
    spec.node_name = Some(node.to_owned());
    if let Some(annotations) = &binding.metadata.annotations {
        pod.metadata.annotations.get_or_insert_default().extend(annotations.clone());
    }
    // The pod that was read is the one that is bound: its revision is no precondition of the client's.
    pod.metadata.resource_version = None;
    Ok(())
}
