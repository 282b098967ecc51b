//! The `log` of a pod.
//!
//! **Source**: `pkg/registry/core/pod/rest/log.go`, v1.37.

use super::Call;
use crate::{
    api::{field::FieldError, meta::ObjectKey, status::ApiError},
    node::streams::{LogQuery, LogStream},
    server::{
        options,
        respond::{self, Response, respond},
        websocket,
    },
};
use futures::StreamExt as _;

/// Answers with a log, as it is and, if asked for, as it goes on.
pub(super) async fn get(call: &mut Call<'_>) -> Result<Response, ApiError> {
    // A pod that is not there is told before what is wrong with the query.
    call.entry()?;
    of(call, &call.key(), None).await
}

/// Answers with the log of a pod, of the container that the query names unless this one is meant.
pub(super) async fn of(call: &mut Call<'_>, pod: &ObjectKey, container: Option<&str>) -> Result<Response, ApiError> {
    let mut query = log_query(call)?;
    if let Some(container) = container {
        container.clone_into(&mut query.container);
    }
    let chunks = call.state.streams().logs(pod, &query).await?;
    let drain = call.drain.clone();
    let chunks = chunks.take_until(Box::pin(async move { drain.drained().await }));
    if call.request.wants_websocket() {
        return websocket::bytes(&mut call.request, chunks);
    }
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
    let stream = match query.text("stream") {
        "" | "All" => None,
        "Stdout" => Some(LogStream::Stdout),
        "Stderr" => Some(LogStream::Stderr),
        other => {
            causes.push(FieldError::not_supported("stream", other, &["All", "Stderr", "Stdout"]));
            None
        }
    };
    if stream.is_some() && tail_lines.is_some() {
        causes.push(FieldError::forbidden("", "`tailLines` and specific `stream` are mutually exclusive for now"));
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
        stream,
    })
}
