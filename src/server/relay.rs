//! Requests that are passed on to a program in a pod, and its answers: the `proxy` of pods and services.
//!
//! Called by `verbs::proxy`, which finds out where to. The node makes the connections.
//!
//! ```text
//! client ──request──► API server ──as it is, but for credentials──► pod
//!        ◄──answer, links led back through the server─────────────┘
//! ```
//!
//! **Invariants**
//! - What tells who calls (tokens, impersonation) is the server's, and goes to no pod.
//! - Bodies pass as they come, both ways; nothing is buffered but the tag of a page.
//! - Each request has a connection of its own, which ends with its answer.
//!
//! **Source**: `k8s.io/apimachinery/pkg/util/proxy/{upgradeaware,transport}.go`, v1.37; what Go's `httputil.ReverseProxy` does.

mod links;

use super::{
    impersonate,
    request::Request,
    respond::{self, Body, Response},
    upgrade,
    websocket::without_bearers,
};
use crate::{
    api::status::ApiError,
    base::{
        chain::chain,
        duplex::Duplex,
        hop_by_hop,
        task::{self, Drain},
    },
    node::streams::PodAddress,
};
use bytes::Bytes;
use flate2::write::GzDecoder;
use futures::{StreamExt as _, future::ready, stream};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header, request::Builder};
use http_body_util::{BodyExt as _, Empty, StreamBody, combinators::UnsyncBoxBody};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use links::{Links, Way};
use std::{io, io::Write as _};
use tracing::debug;

/// The body of a request that nobody has read yet.
pub(super) type UnreadBody = UnsyncBoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_URI: HeaderName = HeaderName::from_static("x-forwarded-uri");
/// What a pod may not say of whom the API server answers. Source: `corsRemovingTransport`.
const CORS: [HeaderName; 4] = [
    header::ACCESS_CONTROL_ALLOW_CREDENTIALS,
    header::ACCESS_CONTROL_ALLOW_HEADERS,
    header::ACCESS_CONTROL_ALLOW_METHODS,
    header::ACCESS_CONTROL_ALLOW_ORIGIN,
];

/// The part of a path that names whom a request is passed on to, and the part that is passed on. `None`: a slash within a name.
pub(super) fn split_path(path: &str) -> Option<(&str, &str)> {
    // `api`, the version, `namespaces`, one, the plural, a name, `proxy`.
    const PARTS: usize = 7;
    let start = path.len() - path.trim_start_matches('/').len();
    let slash = path[start..].match_indices('/').nth(PARTS - 1);
    let (prefix, rest) = path.split_at(slash.map_or(path.len(), |(at, _)| start + at));
    (!prefix.to_ascii_lowercase().contains("%2f")).then_some((prefix, rest))
}

/// Where a client is sent that asks for no path at all: the links of what it would see are relative to one.
/// Source: `proxyRedirectsforRootPath`.
pub(super) fn to_the_root(request: &Request) -> Option<Response> {
    let (prefix, rest) = split_path(request.uri.path())?;
    let reads = matches!(request.method, Method::GET | Method::HEAD) && request.upgrade.is_none();
    let query = request.uri.query().map_or_else(String::new, |query| format!("?{query}"));
    let location = HeaderValue::from_str(&format!("{prefix}/{query}")).ok().filter(|_| rest.is_empty() && reads)?;
    let mut response = respond::respond(301, "text/html; charset=utf-8", respond::full(Bytes::new()));
    response.headers_mut().insert(header::LOCATION, location);
    Some(response)
}

/// Passes a request on over a connection to a pod, and gives its answer.
///
/// # Errors
/// `Unreachable` when the pod does not answer, in Kubernetes' words.
pub(super) async fn pass_on(
    request: &mut Request,
    to: PodAddress,
    connection: Box<dyn Duplex>,
    drain: Drain,
) -> Result<Response, ApiError> {
    let path = request.uri.path().to_owned();
    let (prefix, rest) =
        split_path(&path).ok_or_else(|| ApiError::BadRequest(format!("{path}: a name has no slash in it")))?;
    let host = request.host();
    let way = Way {
        prefix: prefix.to_owned(),
        pod: to.host(),
        host: host.as_ref().and_then(|host| host.to_str().ok()).unwrap_or_default().to_owned(),
    };
    let headers = headers_for(request, host, &format!("{prefix}{rest}"));
    let rest = if rest.is_empty() { "/" } else { rest };
    let target = request.uri.query().map_or_else(|| rest.to_owned(), |query| format!("{rest}?{query}"));
    let mut builder = http::Request::builder().method(request.method.clone()).uri(target);
    if let Some(all) = builder.headers_mut() {
        *all = headers;
    }
    if request.upgrade.is_some() {
        return switch(request, builder, connection, drain).await;
    }
    let body = request.unread.take().and_then(|body| body.into_inner().ok()).unwrap_or_else(nothing);
    let mut sender = begin(connection).await?;
    let response = sender.send_request(build(builder, body)?).await.map_err(|err| unreachable(&chain(&err)))?;
    Ok(answer(response, &way, request.method == Method::HEAD, drain))
}

/// The error of a pod that does not answer. Source of the text: `RoundTrip` in transport.go.
pub(super) fn unreachable(why: &dyn std::fmt::Display) -> ApiError {
    ApiError::Unreachable(format!("error trying to reach service: {why}"))
}

fn nothing() -> UnreadBody {
    Empty::new().map_err(|never: std::convert::Infallible| match never {}).boxed_unsync()
}

fn build(builder: Builder, body: UnreadBody) -> Result<http::Request<UnreadBody>, ApiError> {
    builder.body(body).map_err(|err| ApiError::BadRequest(format!("the request cannot be passed on: {err}")))
}

async fn begin(connection: Box<dyn Duplex>) -> Result<http1::SendRequest<UnreadBody>, ApiError> {
    let (sender, work) = http1::handshake(TokioIo::new(connection)).await.map_err(|err| unreachable(&chain(&err)))?;
    drop(task::spawn("proxied request", async move {
        // However it ends, whoever waits for the answer is told.
        drop(work.with_upgrades().await);
    }));
    Ok(sender)
}

/// The headers that a pod gets: the client's, without what is between the client and the server.
fn headers_for(request: &Request, host: Option<HeaderValue>, uri: &str) -> HeaderMap {
    let upgrade = hop_by_hop::upgrade(&request.headers).filter(|_| request.upgrade.is_some());
    let mut headers = request.headers.clone();
    hop_by_hop::prepare_request(&mut headers);
    headers.remove(header::AUTHORIZATION);
    impersonate::remove(&mut headers);
    without_bearers(&mut headers);
    join(&mut headers, &header::COOKIE, "; ");
    if let Some(host) = host {
        headers.insert(header::HOST, host);
    }
    let ip = request.from.rsplit_once(':').map_or("", |(ip, _)| ip).trim_matches(['[', ']']);
    if let Ok(ip) = HeaderValue::from_str(ip) {
        headers.append(FORWARDED_FOR, ip);
        join(&mut headers, &FORWARDED_FOR, ", ");
    }
    if let Ok(uri) = HeaderValue::from_str(uri) {
        headers.insert(FORWARDED_URI, uri);
    }
    if let Some(upgrade) = upgrade {
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(header::UPGRADE, upgrade);
    }
    headers
}

/// Makes one line of several.
fn join(headers: &mut HeaderMap, name: &HeaderName, between: &str) {
    let lines: Vec<&[u8]> = headers.get_all(name).iter().map(HeaderValue::as_bytes).filter(|v| !v.is_empty()).collect();
    match HeaderValue::from_bytes(&lines.join(between.as_bytes())) {
        Ok(line) if !line.is_empty() => drop(headers.insert(name.clone(), line)),
        _ => drop(headers.remove(name)),
    }
}

/// Passes on a request that makes something else of its connection.
async fn switch(
    request: &mut Request,
    builder: Builder,
    connection: Box<dyn Duplex>,
    drain: Drain,
) -> Result<Response, ApiError> {
    let mut sender = begin(connection).await?;
    let sent = sender.send_request(build(builder, nothing())?).await;
    let mut response = sent.map_err(|err| unreachable(&chain(&err)))?;
    let status = response.status();
    if status != StatusCode::SWITCHING_PROTOCOLS {
        // A refusal is the pod's to explain. Source: `tryUpgrade`.
        let why = || ApiError::Internal(format!("invalid upgrade response: status code {}", status.as_u16()));
        let refusal = Some(response).filter(|_| status.as_u16() >= 400).ok_or_else(why)?;
        let (mut head, body) = refusal.into_parts();
        hop_by_hop::remove(&mut head.headers);
        return Ok(Response::from_parts(head, passing(body, drain)));
    }
    let Some(client) = request.upgrade.take() else {
        return Err(ApiError::BadRequest("Upgrade request required".to_owned()));
    };
    let pod = hyper::upgrade::on(&mut response);
    let work = upgrade::hold(client, move |mut client| async move {
        let relayed = async {
            let mut pod = TokioIo::new(pod.await.map_err(io::Error::other)?);
            tokio::io::copy_bidirectional(&mut client, &mut pod).await
        };
        tokio::select! {
            biased;
            () = drain.drained() => {}
            ended = relayed => if let Err(err) = ended {
                debug!(component = "server", err = chain(&err), "a connection through the server broke");
            }
        }
    });
    drop(task::spawn("proxied connection", work));
    let protocol = response.headers().get(header::UPGRADE).cloned();
    let mut switched = Response::new(respond::full(Bytes::new()));
    *switched.status_mut() = status;
    std::mem::swap(switched.headers_mut(), response.headers_mut());
    let headers = switched.headers_mut();
    hop_by_hop::remove(headers);
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    if let Some(protocol) = protocol {
        headers.insert(header::UPGRADE, protocol);
    }
    Ok(switched)
}

/// A pod's answer as the client gets it.
fn answer(response: http::Response<Incoming>, way: &Way, is_head: bool, drain: Drain) -> Response {
    let (mut head, body) = response.into_parts();
    let headers = &mut head.headers;
    hop_by_hop::remove(headers);
    CORS.iter().for_each(|name| drop(headers.remove(name)));
    let location = headers.get(header::LOCATION).and_then(|location| location.to_str().ok());
    if let Some(location) = location {
        let new = way.rewritten(location).and_then(|new| HeaderValue::from_str(&new).ok());
        new.into_iter().for_each(|new| drop(headers.insert(header::LOCATION, new)));
        return Response::from_parts(head, passing(body, drain));
    }
    let coding = headers.get(header::CONTENT_ENCODING).map(HeaderValue::as_bytes).unwrap_or_default();
    let is_gzip = coding.eq_ignore_ascii_case(b"gzip");
    if !is_html(headers) || !(coding.is_empty() || is_gzip) {
        return Response::from_parts(head, passing(body, drain));
    }
    // The page that is sent has another length, and is packed no more.
    headers.remove(header::CONTENT_LENGTH);
    if is_head {
        return Response::from_parts(head, respond::streamed(stream::empty()));
    }
    headers.remove(header::CONTENT_ENCODING);
    Response::from_parts(head, rewriting(passing(body, drain), Links::new(way.clone()), is_gzip))
}

fn is_html(headers: &HeaderMap) -> bool {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    content_type.split(';').next().unwrap_or_default().trim() == "text/html"
}

/// A body as it comes, until the server ends.
fn passing(body: Incoming, drain: Drain) -> Body {
    use hyper::body::Body as _;
    if body.size_hint().exact().is_some() {
        return body.map_err(io::Error::other).boxed_unsync();
    }
    // It may go on for ever.
    let frames = stream::unfold((body, drain), |(mut body, drain)| async move {
        let frame = tokio::select! {
            biased;
            frame = body.frame() => frame?.map_err(io::Error::other),
            () = drain.drained() => Err(io::Error::other("skiff is shutting down")),
        };
        Some((frame, (body, drain)))
    });
    StreamBody::new(frames).boxed_unsync()
}

/// A page whose links are changed as it comes.
fn rewriting(body: Body, mut links: Links, is_gzip: bool) -> Body {
    let mut unpack = is_gzip.then(|| GzDecoder::new(Vec::new()));
    let mut change = move |piece: Option<Bytes>| -> io::Result<Bytes> {
        let Some(unpack) = &mut unpack else {
            let page = match piece {
                Some(piece) => links.push(&piece),
                None => links.finish(),
            };
            return Ok(page.into());
        };
        match &piece {
            Some(packed) => unpack.write_all(packed)?,
            None => unpack.try_finish()?,
        }
        let mut page = links.push(&std::mem::take(unpack.get_mut()));
        if piece.is_none() {
            page.extend(links.finish());
        }
        Ok(page.into())
    };
    let pieces = body.into_data_stream().map(|piece| piece.map(Some)).chain(stream::once(ready(Ok(None))));
    let changed = pieces.map(move |piece| piece.and_then(&mut change));
    respond::streamed(changed.filter(|piece| ready(!piece.as_ref().is_ok_and(Bytes::is_empty))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_split_after_the_name_of_the_proxy() {
        let of = |rest: &str| {
            let path = format!("/api/v1/namespaces/n/services/s:80/proxy{rest}");
            split_path(&path).map(|(prefix, rest)| (prefix.len(), rest.to_owned()))
        };
        for rest in ["", "/", "/a", "/a//b/", "/a%2Fb"] {
            assert_eq!(of(rest), Some((40, rest.to_owned())));
        }
        assert_eq!(split_path("/api/v1/namespaces/n/pods/p%2Fproxy/x/y"), None);
    }
}
