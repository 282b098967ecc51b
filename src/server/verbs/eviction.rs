//! The `eviction` of a pod.
//!
//! **Source**: `pkg/registry/core/pod/storage/eviction.go`, v1.37.

use super::{Call, delete::decode_options};
use crate::{
    api::status::ApiError,
    server::{codec, media::Offer, options, paths, respond::Response},
};
use serde_json::Value;

/// Evicts a pod. There are no disruption budgets yet, so that it is a delete.
pub(super) async fn create(call: &Call<'_>) -> Result<Response, ApiError> {
    let dry_run = call.writing("CreateOptions")?.write.dry_run;
    let format = codec::body_format(&call.request.headers)?;
    let body = codec::parse(format, &call.request.body, "Eviction")?.value;
    codec::check_kind(&body, "Eviction", &["policy/v1", "policy/v1beta1"])?;
    let name = body["metadata"]["name"].as_str().unwrap_or_default();
    if name != call.info.name {
        return Err(ApiError::BadRequest("name in URL does not match name in Eviction object".to_owned()));
    }
    let given = match body.get("deleteOptions") {
        None | Some(Value::Null) => Default::default(),
        Some(options) => decode_options(codec::BodyFormat::Json, options.to_string().as_bytes())?,
    };
    let mut options = options::delete_options(given)?;
    options.dry_run |= dry_run;
    call.registry().delete(&*call.kind, &call.key(), &options).await?;
    paths::success(201, call.output(Offer::Plain)?.format, &Value::Null)
}
