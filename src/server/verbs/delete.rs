//! Deletes objects: one, or a collection.
//!
//! **Source**: `k8s.io/apiserver/pkg/endpoints/handlers/delete.go`, v1.37.

use super::{Call, read};
use crate::{
    api::{
        meta::{ObjectKey, Revision},
        object::without_place,
        status::ApiError,
    },
    base::json::typed,
    registry::{
        keys,
        pipeline::{DeleteOptions, Deleted, Propagation},
    },
    server::{
        codec,
        media::Offer,
        options, paths,
        print::{ListMeta, identity},
        respond::{self, Response},
    },
    store::Entry,
};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::DeleteOptions as ApiDeleteOptions;
use serde_json::json;
use std::sync::Arc;

/// Deletes of a collection that run at a time: enough to share a write to the disk.
const AT_A_TIME: usize = 16;

/// Deletes the object that the path names.
pub(super) async fn one(call: &Call<'_>) -> Result<Response, ApiError> {
    let options = delete_options(call)?;
    let deleted = call.registry().delete(&*call.kind, &call.key(), &options).await?;
    match deleted {
        Deleted::Gone(entry, revision) => gone(call, &entry, revision),
        // A deletion that waits for others is only accepted.
        Deleted::Marked(entry) => {
            let code = if options.propagation == Some(Propagation::Foreground) { 202 } else { 200 };
            call.object(code, &entry)
        }
    }
}

/// The answer to a deletion that is done: the object as it went, or a `Status` that names it, as its kind has it.
fn gone(call: &Call<'_>, entry: &Entry, revision: Revision) -> Result<Response, ApiError> {
    if call.kind.returns_deleted() {
        let output = call.output(Offer::Objects)?;
        return respond::object(200, output, call.printer(output)?.last(entry, revision)?);
    }
    let info = call.kind.info();
    let id = identity(&entry.value)?;
    let mut details = json!({ "name": id.name, "kind": info.plural, "uid": id.uid });
    if !info.group.is_empty() {
        details["group"] = json!(info.group);
    }
    paths::success(200, call.output(Offer::Objects)?.format, &details)
}

/// Deletes every object that the query picks, and answers with them.
pub(super) async fn collection(call: &Call<'_>) -> Result<Response, ApiError> {
    let output = call.output(Offer::Lists)?;
    let options = delete_options(call)?;
    let picked = options::list_options(&*call.kind, call.query())?;
    let mut snapshot = call.registry().snapshot(&*call.kind, &call.info.namespace, &picked.selection);
    if picked.limit > 0 {
        snapshot.entries.truncate(picked.limit);
    }
    let deleted: Vec<Option<Arc<Entry>>> = stream::iter(snapshot.entries)
        .map(|entry| delete_entry(call, entry, &options))
        .buffered(AT_A_TIME)
        .try_collect()
        .await?;
    let meta = ListMeta { revision: call.registry().store().revision().to_string(), ..ListMeta::default() };
    read::write_list(call.printer(output)?, output, deleted.into_iter().flatten().collect(), &meta)
}

/// Deletes one object of a collection; one that someone else deleted meanwhile is left out.
async fn delete_entry(
    call: &Call<'_>,
    entry: Arc<Entry>,
    options: &DeleteOptions,
) -> Result<Option<Arc<Entry>>, ApiError> {
    let key: ObjectKey =
        keys::object_key(call.kind.info(), &entry.key).expect("an entry of a kind has a key of that kind");
    match call.registry().delete(&*call.kind, &key, options).await {
        Ok(Deleted::Gone(entry, _) | Deleted::Marked(entry)) => Ok(Some(entry)),
        Err(ApiError::NotFound { .. }) => Ok(None),
        Err(err) => Err(err),
    }
}

/// The options of the body or, when there is none, of the query.
pub(super) fn delete_options(call: &Call<'_>) -> Result<DeleteOptions, ApiError> {
    let given = if call.request.body.is_empty() {
        options::delete_options_of_query(call.query())?
    } else {
        let format = codec::body_format(&call.request.headers)?;
        decode_options(format, &call.request.body)?
    };
    options::delete_options(given)
}

/// Reads `DeleteOptions`, of whatever version they say they are.
pub(super) fn decode_options(format: codec::BodyFormat, body: &[u8]) -> Result<ApiDeleteOptions, ApiError> {
    let document = codec::parse(format, body, "DeleteOptions")?;
    let version = document.value.get("apiVersion").and_then(serde_json::Value::as_str).unwrap_or("v1").to_owned();
    codec::check_kind(&document.value, "DeleteOptions", &[&version])?;
    typed(document.value).map_err(|err| {
        ApiError::BadRequest(crate::api::schema::cannot_be_handled("v1", "DeleteOptions", &without_place(&err)))
    })
}
