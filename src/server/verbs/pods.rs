//! The sub-resources of pods that are more than a part of the object: log, binding, eviction.
//!
//! **Not here**: exec, attach, port-forward and proxy, which are refused with a clear word.
//! **Source**: `pkg/registry/core/pod/{rest,storage}`, v1.37.

use super::{Call, delete::decode_options};
use crate::{
    api::{field::FieldError, object::DynObject, status::ApiError},
    node::streams::LogQuery,
    registry::pipeline::{Part, WriteOptions},
    server::{
        codec,
        media::Offer,
        options, paths,
        respond::{self, Response, respond},
        route::ResourceInfo,
    },
    store::Entry,
};
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::{Binding, Pod};
use serde_json::Value;

/// Refuses sub-resources that Kubernetes has and skiff has not yet, by name.
pub(super) fn refuse_unsupported(info: &ResourceInfo) -> Result<(), ApiError> {
    let is_known = matches!(
        (info.group.as_str(), info.resource.as_str(), info.subresource.as_str()),
        ("", "pods", "exec" | "attach" | "portforward" | "proxy" | "ephemeralcontainers" | "resize")
            | ("", "services" | "nodes", "proxy")
            | ("", "serviceaccounts", "token")
    );
    if is_known { Err(ApiError::Unsupported(format!("{} of {} yet", info.subresource, info.resource))) } else { Ok(()) }
}

/// Answers a request for a pod's sub-resource.
pub(super) async fn answer(call: &mut Call<'_>) -> Result<Response, ApiError> {
    match (call.kind.info().kind, call.info.subresource.as_str()) {
        ("Pod", "log") => log(call).await,
        ("Pod", "binding") => binding(call).await,
        ("Pod", "eviction") => eviction(call).await,
        (_, name) => Err(ApiError::Unsupported(format!("{name} of {} yet", call.info.resource))),
    }
}

async fn log(call: &Call<'_>) -> Result<Response, ApiError> {
    // A pod that is not there is told before what is wrong with the query.
    call.entry()?;
    let query = log_query(call)?;
    let chunks = call.state.streams().logs(&call.key(), &query).await?;
    let drain = call.drain.clone();
    let chunks = chunks.take_until(Box::pin(async move { drain.drained().await }));
    Ok(respond(200, "text/plain", respond::streamed(chunks)))
}

/// Source of the rules: `ValidatePodLogOptions` in `pkg/apis/core/validation/validation.go`.
fn log_query(call: &Call<'_>) -> Result<LogQuery, ApiError> {
    let query = call.query();
    let mut causes = Vec::new();
    let mut number = |name: &'static str, least: i64| -> Result<Option<i64>, ApiError> {
        let value = options::number(query, name)?;
        if let Some(n) = value.filter(|n| *n < least) {
            let why = if least == 0 { "must be greater than or equal to 0" } else { "must be greater than 0" };
            causes.push(FieldError::invalid(name, n, why));
        }
        Ok(value)
    };
    let tail_lines = number("tailLines", 0)?;
    let limit_bytes = number("limitBytes", 1)?;
    let since_seconds = number("sinceSeconds", 1)?;
    let since_time = match query.text("sinceTime") {
        "" => None,
        text => {
            Some(text.parse().map_err(|err| ApiError::BadRequest(format!("sinceTime {text:?} is no time: {err}")))?)
        }
    };
    if since_seconds.is_some() && since_time.is_some() {
        causes.push(FieldError::forbidden("", "at most one of `sinceTime` or `sinceSeconds` may be specified"));
    }
    if !matches!(query.text("stream"), "" | "All") {
        return Err(ApiError::Unsupported("one stream of a log alone yet: leave `stream` out".to_owned()));
    }
    if !causes.is_empty() {
        let name = call.info.name.clone();
        return Err(ApiError::Invalid { kind: "PodLogOptions".to_owned(), name, causes });
    }
    let unsigned = |n: Option<i64>| n.and_then(|n| u64::try_from(n).ok());
    Ok(LogQuery {
        container: query.text("container").to_owned(),
        follow: query.is_true("follow"),
        previous: query.is_true("previous"),
        tail_lines: unsigned(tail_lines),
        since_seconds,
        since_time,
        timestamps: query.is_true("timestamps"),
        limit_bytes: unsigned(limit_bytes),
    })
}

/// Gives a pod to a node. Source: `BindingREST.assignPod` in `pkg/registry/core/pod/storage/storage.go`.
async fn binding(call: &Call<'_>) -> Result<Response, ApiError> {
    let dry_run = options::writing("CreateOptions", call.query())?.write.dry_run;
    let format = codec::body_format(&call.request.headers)?;
    let binding: Binding = codec::decode_plain(format, &call.request.body, "Binding", "v1")?;
    let node = binding.target.name.clone().unwrap_or_default();
    if node.is_empty() {
        let cause = FieldError::required("target.name", "");
        return Err(ApiError::Invalid {
            kind: "Binding".to_owned(),
            name: call.info.name.clone(),
            causes: vec![cause],
        });
    }
    let mut change = |entry: &Entry| {
        let mut pod = decode_pod(call, entry)?;
        bind(&mut pod, &binding, &node)?;
        Ok(Box::new(pod) as Box<dyn DynObject>)
    };
    call.registry().update(call.kind, &call.key(), Part::Main, &mut change, &WriteOptions { dry_run }).await?;
    paths::success(201, call.output(Offer::Plain)?.format, &Value::Null)
}

fn decode_pod(call: &Call<'_>, entry: &Entry) -> Result<Pod, ApiError> {
    serde_json::from_slice(&entry.value)
        .map_err(|err| ApiError::Internal(format!("pod {} cannot be read: {err}", call.info.name)))
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
    spec.node_name = Some(node.to_owned());
    if let Some(annotations) = &binding.metadata.annotations {
        pod.metadata.annotations.get_or_insert_default().extend(annotations.clone());
    }
    // The pod that was read is the one that is bound: its revision is no precondition of the client's.
    pod.metadata.resource_version = None;
    Ok(())
}

/// Evicts a pod. There are no disruption budgets yet, so that it is a delete.
async fn eviction(call: &Call<'_>) -> Result<Response, ApiError> {
    let dry_run = options::writing("CreateOptions", call.query())?.write.dry_run;
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
    call.registry().delete(call.kind, &call.key(), &options).await?;
    paths::success(201, call.output(Offer::Plain)?.format, &Value::Null)
}
