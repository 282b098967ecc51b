//! Patches objects, and their status.
//!
//! The patch is applied to what the object is when it is written: when another write comes between, it is applied again.
//!
//! **Source**: `k8s.io/apiserver/pkg/endpoints/handlers/patch.go`, v1.37.

use super::Call;
use crate::{
    api::{
        field::FieldError,
        kind::ErasedKind,
        object::DynObject,
        patch::{PatchError, json, merge, strategic},
        schema::{read, structure::Definition},
        status::ApiError,
    },
    server::{
        codec::{self, content_type},
        options::FieldValidation,
        respond::Response,
    },
    store::Entry,
};
use http::HeaderMap;
use serde_json::Value;

const ACCEPTED: &str = "application/json-patch+json, application/merge-patch+json, application/strategic-merge-patch+json, application/apply-patch+yaml";

/// A patch that was read.
pub(super) struct Patch {
    form: Form,
    body: Value,
    /// Fields that the patch gives twice.
    duplicates: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Json,
    Merge,
    Strategic,
}

impl Patch {
    /// Reads a request's patch.
    pub(super) fn read(headers: &HeaderMap, body: &[u8]) -> Result<Self, ApiError> {
        let form = match content_type(headers) {
            "application/json-patch+json" => Form::Json,
            "application/merge-patch+json" => Form::Merge,
            "application/strategic-merge-patch+json" => Form::Strategic,
            _ => {
                return Err(ApiError::UnsupportedMediaType(format!(
                    "the body of the request was in an unknown format - accepted media types include: {ACCEPTED}"
                )));
            }
        };
        let document =
            read::parse_json(body).map_err(|err| ApiError::BadRequest(format!("error decoding patch: {err}")))?;
        let mut duplicates = document.duplicates;
        if form == Form::Json {
            // These are fields of operations, not of the object.
            duplicates.clear();
        }
        Ok(Self { form, body: document.value, duplicates })
    }

    /// The object after the patch.
    pub(super) fn apply(&self, current: Value, definition: &Definition) -> Result<Value, PatchError> {
        match self.form {
            Form::Json => json::apply(current, self.body.clone()),
            Form::Merge => merge::apply(current, self.body.clone()),
            Form::Strategic => strategic::apply(current, self.body.clone(), definition),
        }
    }
}

/// Patches the object that the path names, or its status.
pub(super) async fn patch(call: &mut Call<'_>) -> Result<Response, ApiError> {
    let patch = Patch::read(&call.request.headers, &call.request.body)?;
    let writing = call.writing("PatchOptions")?;
    let (kind, key) = (call.kind.clone(), call.key());
    let mut warnings = Vec::new();
    let mut change = |entry: &Entry| {
        warnings.clear();
        let mut obj = patched(&*kind, entry, &patch, writing.validation, &mut warnings)?;
        if obj.meta().name.as_deref() != Some(&key.name) {
            let name = obj.meta().name.clone().unwrap_or_default();
            let cause = FieldError::invalid("metadata.name", name, "field is immutable");
            return Err(ApiError::invalid(kind.info(), &key.name, vec![cause]));
        }
        call.review(&mut *obj, Some(entry))?;
        Ok(obj)
    };
    let written = call.registry().update(&*kind, &key, call.part(), &mut change, &writing.write).await;
    call.warnings.append(&mut warnings);
    call.object(200, &*written?)
}

/// The typed object that a patch makes of an entry.
fn patched(
    kind: &dyn ErasedKind,
    entry: &Entry,
    patch: &Patch,
    validation: FieldValidation,
    warnings: &mut Vec<String>,
) -> Result<Box<dyn DynObject>, ApiError> {
    let info = kind.info();
    let unreadable = |err: serde_json::Error| ApiError::Internal(format!("a stored object cannot be read: {err}"));
    let served = kind.served_bytes(&entry.value).map_err(unreadable)?;
    let current: Value = serde_json::from_slice(&served).map_err(unreadable)?;
    let mut value = patch.apply(current, kind.definition())?;
    codec::check_kind(&value, info.kind, &[&info.api_version()])?;
    forget_own_revision(&mut value, entry);
    codec::to_object(kind, value, &patch.duplicates, validation, warnings).map_err(|why| ApiError::Invalid {
        kind: String::new(),
        name: String::new(),
        // The patch is the caller's own; what it makes of the object holds what the caller may never have seen.
        causes: vec![FieldError::invalid("patch", patch.body.to_string(), why)],
    })
}

/// A revision that the patch did not set is no precondition.
fn forget_own_revision(value: &mut Value, entry: &Entry) {
    if let Some(Value::Object(meta)) = value.get_mut("metadata")
        && meta.get("resourceVersion").and_then(Value::as_str) == Some(&entry.modified.to_string())
    {
        meta.remove("resourceVersion");
    }
}
