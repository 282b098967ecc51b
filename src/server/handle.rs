//! One request, from its bytes to its response: who calls, what for, may they, do it, say how it went.
//!
//! Called by `serve` for every request of every connection.
//!
//! **Invariants**
//! - Every request gets an answer: a panic is a 500, a call that takes too long is a 504.
//! - A body is read up to a limit before anything is done with it, unless the request is passed on: then it has neither of both limits.

use super::{
    ServerState, Ticket, auth,
    codec::BODY_BYTES_MAX,
    compress,
    gate::Bound,
    impersonate,
    media::{self, Format, Offer, Protobuf},
    pace::Room,
    paths,
    request::Request,
    respond,
    respond::Response,
    route::{self, Query, RequestInfo, Verb},
    upgrade::{Upgrade, Wish},
    verbs,
};
use crate::{
    api::{kinds::Kinds, status::ApiError},
    base::task::{Drain, panic_text},
    identity::User,
};
use bytes::Bytes;
use futures::FutureExt as _;
use http::{HeaderMap, Method, request::Parts};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::Body as HttpBody;
use std::{
    convert::Infallible,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::sync::mpsc;
use tracing::{Instrument as _, debug, error, info_span, warn};

/// How long a call may take until it is answered; streams go on after that. Source: `--request-timeout` of kube-apiserver.
const CALL_MAX: Duration = Duration::from_mins(1);

/// The largest request head. Source: `DefaultMaxHeaderBytes` of Go's net/http.
pub(super) const HEAD_BYTES_MAX: usize = 1024 * 1024;

/// What a connection knows of its peer.
#[derive(Clone, Debug)]
pub struct Peer {
    /// The owner of the client certificate, if there was one.
    pub user: Option<User>,
    /// Its address, for the log.
    pub address: String,
    /// The connection's place; `None` where there is no connection.
    pub(super) ticket: Option<Arc<Ticket>>,
    /// Whether its peer takes what is sent; `None` where there is no connection.
    pub(super) room: Option<Room>,
    /// Held for as long as the connection is there; `None` where there is none.
    pub(super) alive: Option<mpsc::Sender<Infallible>>,
}

/// Answers one request.
pub async fn handle<B>(state: ServerState, peer: Peer, drain: Drain, mut request: http::Request<B>) -> Response
where
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let started = state.registry().clock().mono();
    let is_head = request.method() == Method::HEAD;
    let upgrade = Wish::of(request.headers()).map(|wish| Upgrade {
        wish,
        on: hyper::upgrade::on(&mut request),
        ticket: peer.ticket.clone(),
        seat: None,
        alive: peer.alive.clone(),
    });
    let (head, body) = request.into_parts();
    let format = error_format(&head.headers);
    let info = route::route(&head.method, head.uri.path(), &Query::parse(head.uri.query().unwrap_or_default()));
    let (verb, resource) = labels(&state.registry().kinds(), &head.method, info.as_ref().ok());
    let agent = head.headers.get(http::header::USER_AGENT).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let span = info_span!("request", verb, path = head.uri.path(), user_agent = agent, peer = peer.address);
    async {
        let is_bounded = !info.as_ref().is_ok_and(is_passed_on);
        let call = AssertUnwindSafe(answer(&state, &peer, drain, info, head, body, upgrade)).catch_unwind();
        let outcome = if is_bounded { tokio::time::timeout(CALL_MAX, call).await } else { Ok(call.await) };
        let outcome = match outcome {
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
        state.metrics().count(verb, &resource, code, elapsed.as_secs_f64());
        let elapsed_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
        if code >= 500 {
            warn!(component = "server", code, elapsed_ms, "request failed");
        } else {
            debug!(component = "server", code, elapsed_ms, "request answered");
        }
        if is_head { respond::without_body(response) } else { respond::paced(response, peer.room) }
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
    mut upgrade: Option<Upgrade>,
) -> Result<Response, ApiError>
where
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    if head_bytes(&head) > HEAD_BYTES_MAX {
        return Err(ApiError::HeadTooLarge(HEAD_BYTES_MAX));
    }
    let user = auth::authenticate(state.tokens(), peer.user.as_ref(), &head.headers)?;
    if let (Some(ticket), false) = (&peer.ticket, user.is_anonymous()) {
        ticket.prove();
    }
    let user = impersonate::acting_as(state.rbac(), user, &head.headers)?;
    let info = info.map_err(ApiError::BadRequest)?;
    auth::authorize(state.rbac(), &user, &info.attributes())?;
    let query = Query::parse(head.uri.query().unwrap_or_default());
    let sort = sort_of(&head.method, &info, &query);
    let mut seat = match sort {
        Some(sort) => Some(state.seat(sort).ok_or(ApiError::TooManyRequests)?),
        None => None,
    };
    if let Some(upgrade) = &mut upgrade {
        upgrade.seat = seat.take();
    }
    let (body, unread) = if is_passed_on(&info) {
        (Bytes::new(), Some(Mutex::new(body.map_err(Into::into).boxed_unsync())))
    } else {
        (read_body(body).await?, None)
    };
    let takes_gzip = sort == Some(Bound::Reads) && compress::is_taken(&head.headers);
    let Parts { method, uri, headers, .. } = head;
    let request = Request { method, uri, from: peer.address.clone(), query, headers, body, unread, upgrade };
    let response = match info {
        RequestInfo::Path { path, .. } => paths::answer(state, &request, &path),
        RequestInfo::Resource(info) => verbs::answer(state, drain, user, info, request).await,
    }?;
    Ok(match seat {
        // A stream has its place for as long as it lasts.
        Some(seat) if sort == Some(Bound::Streams) => respond::holding(response, seat),
        _ if takes_gzip => compress::compressed(response).await,
        _ => response,
    })
}

/// Whether a request goes on to somebody else as it is.
pub(super) fn is_passed_on(info: &RequestInfo) -> bool {
    matches!(info, RequestInfo::Resource(r) if verbs::is_passed_on(r))
}

/// The size of a head, as HTTP/2 counts it: each line with 32 bytes more.
fn head_bytes(head: &Parts) -> usize {
    let lines = head.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 32);
    head.uri.path_and_query().map_or(0, |path| path.as_str().len()) + lines.sum::<usize>()
}

/// Which places a request needs. Health and metrics are always answered: they tell what is wrong when all others wait.
fn sort_of(method: &Method, info: &RequestInfo, query: &Query) -> Option<Bound> {
    match info {
        RequestInfo::Path { path, .. } => {
            let is_exempt = ["/healthz", "/livez", "/readyz", "/metrics"].iter().any(|p| path.starts_with(p));
            (!is_exempt).then_some(Bound::Reads)
        }
        RequestInfo::Resource(r) if r.verb == Verb::Watch => Some(Bound::Streams),
        RequestInfo::Resource(r) if verbs::is_stream(r, query) => Some(Bound::Streams),
        RequestInfo::Resource(_) if matches!(*method, Method::GET | Method::HEAD) => Some(Bound::Reads),
        RequestInfo::Resource(_) => Some(Bound::Writes),
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

/// Errors are JSON, unless the client takes something else only.
pub(super) fn error_format(headers: &HeaderMap) -> Format {
    media::negotiate(headers, "", Offer::Objects, Protobuf::All).map_or(Format::Json, |output| output.format)
}

/// What a request is counted as. Resources that do not exist are counted as none.
fn labels(kinds: &Kinds, method: &Method, info: Option<&RequestInfo>) -> (&'static str, String) {
    match info {
        Some(RequestInfo::Resource(r)) => {
            let kind = kinds.by_plural(&r.group, &r.version, &r.resource);
            (r.verb.as_str(), kind.map_or_else(String::new, |kind| kind.info().plural.to_owned()))
        }
        _ if method == Method::GET || method == Method::HEAD => ("get", String::new()),
        _ => ("other", String::new()),
    }
}
