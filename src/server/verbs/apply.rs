//! Server-side apply: the object becomes what the caller's configuration says, and what others own stays theirs.
//!
//! The configuration is applied to what the object is when it is written; an object that does not exist is created.
//!
//! **Source**: `applyPatcher` in `k8s.io/apiserver/pkg/endpoints/handlers/patch.go`, v1.37.

use super::{Call, write::check_name};
use crate::{
    api::{
        field::FieldError,
        kind::KindRef,
        managed::{self, Applied, Reach, Writer},
        meta::ObjectKey,
        object::DynObject,
        schema::{self, read},
        status::ApiError,
    },
    base::{clock::whole_seconds, json},
    registry::pipeline::{Part, WriteOptions},
    server::{
        codec,
        options::{FieldValidation, Writing},
        respond::Response,
    },
    store::Entry,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, Time};
use serde_json::Value;

/// The media type of a configuration.
pub(super) const MEDIA_TYPE: &str = "application/apply-patch+yaml";

/// A configuration that was read, and how it is applied.
struct Apply {
    kind: KindRef,
    key: ObjectKey,
    config: Value,
    writer: Writer,
    reach: Reach,
    force: bool,
    now: Time,
}

/// Applies the configuration of the body to the object that the path names, or to its status.
pub(super) async fn apply(call: &mut Call<'_>) -> Result<Response, ApiError> {
    let writing = call.writing("PatchOptions")?;
    let apply = Apply::read(call, &writing)?;
    // The managers come with the object; the pipeline has nothing to add.
    let options = WriteOptions { writer: None, ..writing.write };
    let mut change = |entry: &Entry| {
        let mut obj = apply.over(Some(entry))?;
        call.review(&mut *obj, Some(entry))?;
        Ok(obj)
    };
    let (kind, key, part) = (apply.kind.clone(), apply.key.clone(), call.part());
    let updated = call.registry().update(&*kind, &key, part, &mut change, &options).await;
    let (code, entry) = match updated {
        Err(ApiError::NotFound { .. }) if part == Part::Main => {
            let mut obj = apply.over(None)?;
            call.review(&mut *obj, None)?;
            (201, call.registry().create(&*kind, &key.namespace, obj, &options).await?)
        }
        updated => (200, updated?),
    };
    call.object(code, &entry)
}

impl Apply {
    fn read(call: &mut Call<'_>, writing: &Writing) -> Result<Self, ApiError> {
        let (kind, key) = (call.kind.clone(), call.key());
        let info = kind.info();
        let document = read::parse_yaml(&call.request.body)
            .map_err(|err| ApiError::BadRequest(format!("error decoding YAML: {err}")))?;
        let sentences = schema::strict_sentences(&[], &document.duplicates);
        match writing.validation {
            FieldValidation::Strict if !sentences.is_empty() => {
                return Err(ApiError::BadRequest(format!("error strict decoding YAML: {}", sentences.join(", "))));
            }
            FieldValidation::Warn => call.warnings.extend(sentences),
            FieldValidation::Strict | FieldValidation::Ignore => {}
        }
        let mut config = document.value;
        for field in ["apiVersion", "kind"] {
            if config[field].as_str().is_none_or(str::is_empty) {
                return Err(ApiError::BadRequest(format!("the configuration must have {field}")));
            }
        }
        codec::check_kind(&config, info.kind, &[&info.api_version()])?;
        if config["metadata"].get("managedFields").is_some_and(|managed| !managed.is_null()) {
            return Err(ApiError::BadRequest("metadata.managedFields must be nil".to_owned()));
        }
        let found = schema::check(kind.definition(), &config);
        if let Some(why) = found.error {
            return Err(ApiError::BadRequest(refusal(&kind, &key, &why)));
        }
        schema::normalize(kind.definition(), &mut config);
        let writer = writing.write.writer.clone().expect("a call's writing has a writer");
        let reach = Reach::of(&*kind, call.part() == Part::Status);
        let force = call.query().is_true("force");
        let now = Time(whole_seconds(call.registry().clock().now()));
        Ok(Self { key, config, writer, reach, force, now, kind: kind.clone() })
    }

    /// The object after the configuration has been applied to an entry, or to nothing.
    fn over(&self, entry: Option<&Entry>) -> Result<Box<dyn DynObject>, ApiError> {
        let unreadable = |err: serde_json::Error| ApiError::Internal(format!("a stored object cannot be read: {err}"));
        let live = match entry {
            Some(entry) => serde_json::from_slice(&self.kind.served_bytes(&entry.value).map_err(unreadable)?)
                .map_err(unreadable)?,
            None => Value::Null,
        };
        let managers: Vec<ManagedFieldsEntry> = match &live["metadata"]["managedFields"] {
            Value::Null => Vec::new(),
            managers => json::typed(managers.clone()).map_err(unreadable)?,
        };
        let definition = self.kind.definition();
        let Applied { mut object, managers } = managed::applied(
            definition,
            (&live, &self.config),
            &managers,
            &self.writer,
            self.reach,
            (self.force, &self.now),
        )
        .map_err(|err| match err {
            ApiError::BadRequest(why) => ApiError::BadRequest(refusal(&self.kind, &self.key, &why)),
            other => other,
        })?;
        self.name(&mut object)?;
        // Only a revision that the configuration names is a condition.
        if let Some(meta) = object["metadata"].as_object_mut() {
            meta.remove("managedFields");
            match self.config["metadata"].get("resourceVersion") {
                Some(revision) => drop(meta.insert("resourceVersion".to_owned(), revision.clone())),
                None => drop(meta.remove("resourceVersion")),
            }
        }
        let mut ignored = Vec::new();
        let mut obj = codec::to_object(&*self.kind, object, &[], FieldValidation::Ignore, &mut ignored)
            .map_err(|why| ApiError::BadRequest(refusal(&self.kind, &self.key, &why)))?;
        check_name(obj.meta(), &self.key)?;
        obj.meta_mut().managed_fields = Some(managers);
        Ok(obj)
    }

    /// The name in the path is the object's where the configuration has none.
    fn name(&self, object: &mut Value) -> Result<(), ApiError> {
        if !object["metadata"].is_object() {
            object["metadata"] = serde_json::json!({});
        }
        let given = object["metadata"]["name"].as_str().unwrap_or_default();
        if !given.is_empty() && given != self.key.name {
            let cause = FieldError::invalid("metadata.name", given, "field is immutable");
            return Err(ApiError::invalid(self.kind.info(), &self.key.name, vec![cause]));
        }
        object["metadata"]["name"] = Value::from(self.key.name.clone());
        Ok(())
    }
}

/// Source: `newObjectCreateError` in apimachinery/pkg/util/managedfields/internal/structuredmerge.go.
fn refusal(kind: &KindRef, key: &ObjectKey, why: &str) -> String {
    let info = kind.info();
    format!(
        "failed to create typed patch object ({}/{}; {}, Kind={}): {why}",
        key.namespace,
        key.name,
        info.api_version(),
        info.kind
    )
}
