//! Creates and replaces objects.
//!
//! **Source** of the texts: `k8s.io/apiserver/pkg/endpoints/handlers/{create,update,rest}.go`, v1.37.

use super::Call;
use crate::{
    api::{meta::ObjectKey, status::ApiError},
    server::{codec, respond::Response},
    store::Entry,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

/// Creates the object of the body.
pub(super) async fn create(call: &mut Call<'_>) -> Result<Response, ApiError> {
    let writing = call.writing("CreateOptions")?;
    let format = codec::body_format(&call.request.headers)?;
    let mut obj = codec::decode(&*call.kind, format, &call.request.body, writing.validation, &mut call.warnings)?;
    let namespace = call.info.namespace.clone();
    let given = obj.meta().namespace.as_deref().unwrap_or_default();
    if call.kind.info().is_namespaced() && !given.is_empty() && given != namespace {
        return Err(ApiError::BadRequest(
            "the namespace of the provided object does not match the namespace sent on the request".to_owned(),
        ));
    }
    call.review(&mut *obj, None)?;
    let entry = call.registry().create(&*call.kind, &namespace, obj, &writing.write).await?;
    call.object(201, &entry)
}

/// Replaces the object that the path names, or its status.
pub(super) async fn update(call: &mut Call<'_>) -> Result<Response, ApiError> {
    let writing = call.writing("UpdateOptions")?;
    let format = codec::body_format(&call.request.headers)?;
    let obj = codec::decode(&*call.kind, format, &call.request.body, writing.validation, &mut call.warnings)?;
    let key = call.key();
    check_name(obj.meta(), &key)?;
    let mut change = |entry: &Entry| {
        let mut new = obj.clone_dyn();
        call.review(&mut *new, Some(entry))?;
        Ok(new)
    };
    match call.registry().update(&*call.kind, &key, call.part(), &mut change, &writing.write).await {
        Err(ApiError::NotFound { .. }) if call.info.subresource.is_empty() && call.kind.creates_on_update() => {
            let mut obj = obj;
            call.review(&mut *obj, None)?;
            let entry = call.registry().create(&*call.kind, &key.namespace, obj, &writing.write).await?;
            call.object(201, &entry)
        }
        replaced => call.object(200, &*replaced?),
    }
}

/// Refuses an object that is not the one that the path names. Source: `checkName` in rest.go.
pub(super) fn check_name(meta: &ObjectMeta, key: &ObjectKey) -> Result<(), ApiError> {
    let name = meta.name.as_deref().unwrap_or_default();
    let namespace = meta.namespace.as_deref().unwrap_or_default();
    let wanted = &key.name;
    if name.is_empty() {
        return Err(ApiError::BadRequest(format!(
            "the name of the object ({wanted} based on URL) was undeterminable: name must be provided"
        )));
    }
    if name != wanted {
        return Err(ApiError::BadRequest(format!(
            "the name of the object ({name}) does not match the name on the URL ({wanted})"
        )));
    }
    if !key.namespace.is_empty() && !namespace.is_empty() && namespace != key.namespace {
        return Err(ApiError::BadRequest(format!(
            "the namespace of the object ({namespace}) does not match the namespace on the request ({})",
            key.namespace
        )));
    }
    Ok(())
}
