//! One request, from its bytes to its response: who calls, what for, may they, do it, say how it went.
//!
//! Called by `serve` for every request of every connection.
//!
//! **Invariants**
//! - Every request gets an answer: a panic is a 500, a call that takes too long is a 504.
//! - A body is read up to a limit before anything is done with it.

use super::{
    ServerState,
    auth::{self, User},
    codec::BODY_BYTES_MAX,
    impersonate,
    media::{self, Format, Offer},
    paths, respond,
    respond::Response,
    route::{self, Query, RequestInfo},
    verbs,
};
use crate::{
    api::{kinds::KINDS, status::ApiError},
    base::task::{Drain, panic_text},
};
use bytes::Bytes;
use futures::FutureExt as _;
use http::{HeaderMap, Method, request::Parts};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::Body as HttpBody;
use std::{panic::AssertUnwindSafe, time::Duration};
use tracing::{Instrument as _, debug, error, info_span, warn};

/// How long a call may take until it is answered; streams go on after that. Source: `--request-timeout` of kube-apiserver.
const CALL_MAX: Duration = Duration::from_mins(1);

/// What a connection knows of its peer.
#[derive(Clone, Debug)]
pub struct Peer {
    /// The owner of the client certificate, if there was one.
    pub user: Option<User>,
    /// Its address, for the log.
    pub address: String,
}

/// A request that was read.
#[derive(Debug)]
pub(super) struct Request {
    /// The method.
    pub method: Method,
    /// The query.
    pub query: Query,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

/// Answers one request.
pub async fn handle<B>(state: ServerState, peer: Peer, drain: Drain, request: http::Request<B>) -> Response
where
    B: HttpBody<Data = Bytes> + Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let started = state.registry().clock().mono();
    let (head, body) = request.into_parts();
    let format = error_format(&head);
    let info = route::route(&head.method, head.uri.path(), &Query::parse(head.uri.query().unwrap_or_default()));
    let (verb, resource) = labels(&head.method, info.as_ref().ok());
    let agent = head.headers.get(http::header::USER_AGENT).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let span = info_span!("request", verb, path = head.uri.path(), user_agent = agent, peer = peer.address);
    async {
        let call = AssertUnwindSafe(answer(&state, &peer, drain, info, head, body)).catch_unwind();
        let outcome = match tokio::time::timeout(CALL_MAX, call).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(panic)) => {
                error!(component = "server", err = panic_text(&*panic), "request panicked");
                let text = "this request caused the server to panic; look in its log for details";
                Err(ApiError::Internal(text.to_owned()))
            }
            Err(_elapsed) => Err(ApiError::Timeout("request did not complete within the allotted timeout".to_owned())),
        };
        let response = outcome.unwrap_or_else(|err| respond::failure(&err, format));
        let elapsed = started.elapsed();
        let code = response.status().as_u16();
        state.metrics().count(verb, resource, code, elapsed.as_secs_f64());
        let elapsed_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
        if code >= 500 {
            warn!(component = "server", code, elapsed_ms, "request failed");
        } else {
            debug!(component = "server", code, elapsed_ms, "request answered");
        }
        response
    }
    .instrument(span)
    .await
}

async fn answer<B>(
    state: &ServerState,
    peer: &Peer,
    drain: Drain,
    info: Result<RequestInfo, String>,
    head: Parts,
    body: B,
) -> Result<Response, ApiError>
where
    B: HttpBody<Data = Bytes> + Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let user = auth::authenticate(peer.user.as_ref(), &head.headers)?;
    let user = impersonate::acting_as(state.authorizer(), user, &head.headers)?;
    let info = info.map_err(ApiError::BadRequest)?;
    auth::authorize(state.authorizer(), &user, &info)?;
    let query = Query::parse(head.uri.query().unwrap_or_default());
    let body = read_body(body).await?;
    let request = Request { method: head.method, query, headers: head.headers, body };
    match info {
        RequestInfo::Path { path, .. } => paths::answer(state, &request, &path),
        RequestInfo::Resource(info) => verbs::answer(state, drain, info, request).await,
    }
}

async fn read_body<B>(body: B) -> Result<Bytes, ApiError>
where
    B: HttpBody<Data = Bytes> + Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    if body.is_end_stream() {
        return Ok(Bytes::new());
    }
    match Limited::new(body, BODY_BYTES_MAX).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(err) if err.is::<LengthLimitError>() => Err(ApiError::TooLarge(BODY_BYTES_MAX)),
        Err(err) => Err(ApiError::BadRequest(format!("the body cannot be read: {err}"))),
    }
}

/// Errors are JSON, unless the client takes YAML only.
fn error_format(head: &Parts) -> Format {
    media::negotiate(&head.headers, "", Offer::Objects).map_or(Format::Json, |output| output.format)
}

/// What a request is counted as. Resources that do not exist are counted as none.
fn labels(method: &Method, info: Option<&RequestInfo>) -> (&'static str, &'static str) {
    match info {
        Some(RequestInfo::Resource(r)) => {
            let kind = KINDS.iter().map(|k| k.info()).find(|k| k.group == r.group && k.plural == r.resource);
            (r.verb.as_str(), kind.map_or("", |k| k.plural))
        }
        _ if method == Method::GET || method == Method::HEAD => ("get", ""),
        _ => ("other", ""),
    }
}
