//! One request: finds its rule, its endpoint and a connection, and relays the answer.
//!
//! Called by `serve` for each request. `headers` and `answers` know what is said, `live` who is next, `pool` which connections there are.
//!
//! **Invariants**: an endpoint whose connect fails is followed by the next before the client notices. A request is sent again only when it
//! certainly was not sent, or when it has no body, changes nothing, and its kept connection ended without a word. Nothing is buffered.

use super::{
    answers::{self, Words},
    body::{Answer, Outgoing, Progress, Relayed},
    headers::{self, Origin},
    live::{Live, LiveBackend, LiveRule},
    pool::{Http1, Http2, Pool},
    serve::Shared,
    table::{OwnerKind, Plain, host_of, is_allowed},
    tunnel,
};
use crate::{
    base::{duplex::Duplex, hop_by_hop, task},
    net::rotation::{Claim, Endpoint},
};
use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, Version,
    header::{CONNECTION, CONTENT_TYPE, HOST, STRICT_TRANSPORT_SECURITY, UPGRADE},
    uri::PathAndQuery,
};
use http_body_util::Full;
use hyper::{
    body::Incoming,
    client::conn::{TrySendError, http1, http2},
    upgrade::OnUpgrade,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::{
    net::{IpAddr, SocketAddr},
    pin::pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::{
    net::TcpStream,
    sync::Notify,
    time::{Instant, timeout, timeout_at},
};
use tokio_rustls::TlsConnector;
use tracing::debug;

/// How long an endpoint has to take a connection, TLS included.
pub(super) const CONNECT_MAX: Duration = Duration::from_secs(2);
/// How long an endpoint may be silent, of a Route and of an Ingress. Source: OpenShift's and nginx' defaults.
const SILENCE_OF_ROUTE: Duration = Duration::from_secs(30);
const SILENCE_OF_INGRESS: Duration = Duration::from_secs(60);
/// How long an upgraded connection may be silent. Source: OpenShift's default.
pub(super) const TUNNEL_SILENCE: Duration = Duration::from_secs(3600);
/// How many endpoints are tried.
const TRIES_MAX: usize = 16;

/// What the requests of one client's connection share.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) shared: Arc<Shared>,
    pub(super) pool: Arc<Pool>,
    pub(super) address: IpAddr,
    pub(super) origin: Origin,
    pub(super) is_tls: bool,
    /// The host of the last request, and what `Forwarded` said: most connections have one.
    pub(super) last_forwarded: Mutex<Option<(HeaderValue, HeaderValue)>>,
    /// Told once, by the first request.
    pub(super) asked: Notify,
    pub(super) has_asked: AtomicBool,
}

/// Why there is no answer of an endpoint.
enum Failure {
    /// No connection: the request was not sent.
    Unsent(Box<Request<Outgoing>>, String),
    /// It is over.
    Over(Words),
}

/// What the client's side of an upgrade is.
struct Upgrade {
    wanted: HeaderValue,
    client: OnUpgrade,
}

/// Answers a request.
pub(super) async fn answer(client: Arc<Client>, request: Request<Incoming>) -> Response<Answer> {
    client.shared.requests.fetch_add(1, Relaxed);
    if !client.has_asked.load(Relaxed) && !client.has_asked.swap(true, Relaxed) {
        client.asked.notify_one();
    }
    match relay(&client, request).await {
        Ok(response) => response,
        Err(words) => {
            if words.code.is_server_error() {
                client.shared.errors.fetch_add(1, Relaxed);
            }
            own(words.response())
        }
    }
}

fn own(response: Response<Bytes>) -> Response<Answer> {
    response.map(|bytes| Answer::Own(Full::new(bytes)))
}

async fn relay(client: &Arc<Client>, mut request: Request<Incoming>) -> Result<Response<Answer>, Words> {
    let live = client.shared.current.get();
    let authority = authority_of(&request).ok_or_else(Words::no_host)?;
    let rule = {
        let host = host_of(authority.to_str().unwrap_or_default());
        let found = live.table.lookup(&host, request.uri().path());
        let Some(rule) = found else { return Err(Words::nobody(&host, request.uri().path())) };
        if let Some(response) = client.refuse(&live, rule, &host, request.uri())? {
            return Ok(own(response));
        }
        Arc::clone(rule)
    };
    drop(live);
    let mark = rule.rule.cookie.as_ref().and_then(|name| headers::take_cookie(request.headers_mut(), name));
    let upgrade = hop_by_hop::upgrade(request.headers()).filter(|_| request.version() <= Version::HTTP_11);
    let upgrade = upgrade.map(|wanted| Upgrade { wanted, client: hyper::upgrade::on(&mut request) });
    let request = client.prepared(&rule, request, &authority);
    exchange(client, &rule, request, mark, upgrade).await
}

/// What the client calls the host: the authority in HTTP/2, the header `Host` before.
fn authority_of<B>(request: &Request<B>) -> Option<HeaderValue> {
    match request.uri().authority() {
        Some(authority) => HeaderValue::from_str(authority.as_str()).ok(),
        None => request.headers().get(HOST).cloned(),
    }
}

impl Client {
    /// What a rule does not answer: it is sent elsewhere, or told why.
    fn refuse(&self, live: &Live, rule: &LiveRule, host: &str, uri: &Uri) -> Result<Option<Response<Bytes>>, Words> {
        let rule = &rule.rule;
        if !is_allowed(&rule.options.allowed, self.address) {
            return Err(Words::forbidden(&rule.owner));
        }
        if self.is_tls {
            return if rule.serves_tls { Ok(None) } else { Err(Words::wrong_scheme(rule, true)) };
        }
        let path = uri.path_and_query().map_or("/", PathAndQuery::as_str);
        match (rule.plain, live.https_port) {
            (Plain::Serve, _) => Ok(None),
            (Plain::Redirect(_), Some(port)) => Ok(answers::redirect(rule.plain, host, port, path)),
            (Plain::Redirect(_) | Plain::Refuse, _) => Err(Words::wrong_scheme(rule, false)),
        }
    }

    /// The request as endpoints get it.
    fn prepared(&self, rule: &LiveRule, request: Request<Incoming>, authority: &HeaderValue) -> Request<Outgoing> {
        let rule = &rule.rule;
        let (mut parts, body) = request.into_parts();
        hop_by_hop::prepare_request(&mut parts.headers);
        parts.headers.insert(HOST, authority.clone());
        let forwarded = self.forwarded(authority);
        headers::tell_origin(&mut parts.headers, rule.options.forwarded, &self.origin, authority, &forwarded);
        headers::change(&mut parts.headers, &rule.request_headers);
        parts.uri = rule
            .options
            .rewrite
            .as_ref()
            .map_or_else(|| origin_form(&parts.uri), |rewrite| rewritten(rewrite, rule.path.text(), &parts.uri));
        parts.version = Version::HTTP_11;
        Request::from_parts(parts, Outgoing::of(body))
    }

    fn forwarded(&self, authority: &HeaderValue) -> HeaderValue {
        let mut last = self.last_forwarded.lock().unwrap_or_else(PoisonError::into_inner);
        match &*last {
            Some((host, forwarded)) if host == authority => forwarded.clone(),
            _ => {
                let forwarded = self.origin.forwarded(authority.to_str().unwrap_or_default());
                *last = Some((authority.clone(), forwarded.clone()));
                forwarded
            }
        }
    }
}

/// A URI without scheme and host.
fn origin_form(uri: &Uri) -> Uri {
    uri.path_and_query().cloned().map_or_else(|| Uri::from_static("/"), Uri::from)
}

/// What a rule makes of a path.
fn rewritten(rewrite: &crate::api::http_options::Rewrite, prefix: &str, uri: &Uri) -> Uri {
    use crate::api::http_options::Rewrite;
    let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    let path = match rewrite {
        Rewrite::Whole(target) => target.clone(),
        Rewrite::Prefix(target) => {
            let rest = uri.path().strip_prefix(prefix.trim_end_matches('/')).unwrap_or(uri.path());
            let joined = format!("{}{rest}", target.trim_end_matches('/'));
            if joined.is_empty() { "/".to_owned() } else { joined }
        }
    };
    format!("{path}{query}").parse().unwrap_or_else(|_| origin_form(uri))
}

/// Sends a request to one endpoint after the other until one takes it.
async fn exchange(
    client: &Arc<Client>,
    rule: &Arc<LiveRule>,
    mut request: Request<Outgoing>,
    mark: Option<String>,
    upgrade: Option<Upgrade>,
) -> Result<Response<Answer>, Words> {
    let mut tried: Vec<SocketAddr> = Vec::new();
    let mut last = String::new();
    while tried.len() < TRIES_MAX {
        let picked = rule.pick(client.address, mark.as_deref(), &tried, client.shared.now());
        let Some((claim, backend)) = picked else { break };
        let address = claim.address;
        let is_kept = mark.as_deref().is_some_and(|mark| mark == claim.mark());
        let shown = rule.rule.cookie.as_ref().filter(|_| !is_kept).map(|name| (name, claim.mark().to_owned()));
        request.body_mut().goes_to(claim.endpoint());
        let sent = if let Some(upgrade) = &upgrade {
            switch(client, rule, backend, claim, request, upgrade).await
        } else {
            send(client, rule, backend, claim, request).await
        };
        match sent {
            Ok(mut response) => {
                finish(client, rule, &mut response, shown);
                return Ok(response);
            }
            Err(Failure::Over(words)) => return Err(words),
            Err(Failure::Unsent(unsent, why)) => {
                tried.push(address);
                (request, last) = (*unsent, why);
            }
        }
    }
    if tried.is_empty() {
        return Err(Words::no_endpoint(&rule.rule.owner, &rule.troubles()));
    }
    Err(Words::unreachable(&rule.rule.owner, tried.len(), &last))
}

/// What the client sees of an answer beside its body.
fn finish(client: &Client, rule: &LiveRule, response: &mut Response<Answer>, shown: Option<(&String, String)>) {
    let is_switching = response.status() == StatusCode::SWITCHING_PROTOCOLS;
    // That of the endpoint's connection says nothing of the client's.
    *response.version_mut() = Version::HTTP_11;
    let headers = response.headers_mut();
    if !is_switching {
        hop_by_hop::remove(headers);
    }
    headers::change(headers, &rule.rule.response_headers);
    if let Some(hsts) = rule.rule.options.hsts.as_ref().filter(|_| client.is_tls)
        && let Ok(hsts) = HeaderValue::from_str(hsts)
    {
        headers.insert(STRICT_TRANSPORT_SECURITY, hsts);
    }
    if let Some((name, mark)) = shown {
        let is_secure = client.is_tls && rule.rule.plain != Plain::Serve;
        headers::give_cookie(headers, name, &mark, is_secure);
    }
}

fn silence_of(rule: &LiveRule) -> Duration {
    let usual = match rule.rule.owner.kind {
        OwnerKind::Route => SILENCE_OF_ROUTE,
        OwnerKind::Ingress => SILENCE_OF_INGRESS,
    };
    rule.rule.options.timeout.unwrap_or(usual)
}

/// Sends a request to an endpoint, on a kept connection or a new one.
async fn send(
    client: &Arc<Client>,
    rule: &LiveRule,
    backend: &LiveBackend,
    claim: Claim,
    request: Request<Outgoing>,
) -> Result<Response<Answer>, Failure> {
    // Only HTTP/2 carries gRPC, whatever the Service says.
    let is_grpc = |value: &HeaderValue| value.as_bytes().starts_with(b"application/grpc");
    if backend.is_http2 || request.headers().get(CONTENT_TYPE).is_some_and(is_grpc) {
        return send_http2(client, rule, backend, claim, request).await;
    }
    let key = (claim.id, backend.wire_id);
    let silence = silence_of(rule);
    let mut request = request;
    loop {
        let kept = client.pool.take(key);
        let is_kept = kept.is_some();
        let mut sender = match kept {
            Some(sender) => sender,
            None => match open_http1(claim.endpoint(), backend, client.shared.now(), false).await {
                Ok(sender) => sender,
                Err(why) => return Err(Failure::Unsent(Box::new(request), why)),
            },
        };
        let copy = is_kept.then(|| replayable(&request)).flatten();
        let progress = request.body().progress();
        let sent = patiently(silence, progress, sender.try_send_request(request)).await;
        match sent {
            Ok(Ok(response)) => {
                claim.note_reply(client.shared.now());
                let kept = Some((sender, Arc::clone(&client.pool), key));
                return Ok(response.map(|body| Answer::Endpoint(Box::new(Relayed::new(body, silence, claim, kept)))));
            }
            Ok(Err(mut failed)) => match (failed.take_message(), copy) {
                (Some(unsent), _) if is_kept => request = unsent,
                (None, Some(copy)) => request = copy,
                (Some(unsent), _) => return Err(Failure::Unsent(Box::new(unsent), failed.into_error().to_string())),
                (None, None) => return Err(Failure::Over(broken(client, rule, &claim, failed))),
            },
            Err(Late) => return Err(Failure::Over(late(client, rule, &claim, silence))),
        }
    }
}

fn broken(client: &Client, rule: &LiveRule, claim: &Claim, failed: TrySendError<Request<Outgoing>>) -> Words {
    claim.counters.errors.fetch_add(1, Relaxed);
    claim.note_lost(client.shared.now());
    let err = failed.into_error();
    debug!(component = "router", endpoint = %claim.address, err = crate::base::chain::chain(&err), "an exchange broke");
    Words::broken(&rule.rule.owner, &err.to_string())
}

fn late(client: &Client, rule: &LiveRule, claim: &Claim, silence: Duration) -> Words {
    claim.counters.errors.fetch_add(1, Relaxed);
    claim.note_lost(client.shared.now());
    Words::late(&rule.rule.owner, silence.as_secs_f64())
}

async fn send_http2(
    client: &Arc<Client>,
    rule: &LiveRule,
    backend: &LiveBackend,
    claim: Claim,
    request: Request<Outgoing>,
) -> Result<Response<Answer>, Failure> {
    let key = (claim.id, backend.wire_id);
    let silence = silence_of(rule);
    let mut request = for_http2(request, backend.tls.is_some());
    loop {
        let shared = client.pool.shared(key);
        let is_shared = shared.is_some();
        let mut sender = match shared {
            Some(sender) => sender,
            None => match open_http2(claim.endpoint(), backend, client.shared.now()).await {
                Ok(sender) => {
                    client.pool.share(key, claim.endpoint(), sender.clone());
                    sender
                }
                Err(why) => return Err(Failure::Unsent(Box::new(for_http1(request)), why)),
            },
        };
        let progress = request.body().progress();
        match patiently(silence, progress, sender.try_send_request(request)).await {
            Ok(Ok(response)) => {
                claim.note_reply(client.shared.now());
                return Ok(response.map(|body| Answer::Endpoint(Box::new(Relayed::new(body, silence, claim, None)))));
            }
            Ok(Err(mut failed)) => match failed.take_message() {
                Some(unsent) if is_shared => request = unsent,
                Some(unsent) => {
                    return Err(Failure::Unsent(Box::new(for_http1(unsent)), failed.into_error().to_string()));
                }
                None => return Err(Failure::Over(broken(client, rule, &claim, failed))),
            },
            Err(Late) => return Err(Failure::Over(late(client, rule, &claim, silence))),
        }
    }
}

/// The host moves from the header into the URI.
fn for_http2(request: Request<Outgoing>, is_tls: bool) -> Request<Outgoing> {
    let (mut parts, body) = request.into_parts();
    let host = parts.headers.remove(HOST);
    let mut uri = parts.uri.into_parts();
    uri.scheme = Some(if is_tls { http::uri::Scheme::HTTPS } else { http::uri::Scheme::HTTP });
    uri.authority = host.and_then(|host| host.to_str().ok()?.parse().ok());
    parts.uri = Uri::from_parts(uri).unwrap_or_default();
    parts.version = Version::HTTP_2;
    Request::from_parts(parts, body)
}

/// And back, for another endpoint.
fn for_http1(request: Request<Outgoing>) -> Request<Outgoing> {
    let (mut parts, body) = request.into_parts();
    let host = parts.uri.authority().and_then(|authority| HeaderValue::from_str(authority.as_str()).ok());
    if let Some(host) = host {
        parts.headers.insert(HOST, host);
    }
    parts.uri = origin_form(&parts.uri);
    parts.version = Version::HTTP_11;
    Request::from_parts(parts, body)
}

/// A copy of a request that may be sent twice: it has no body and changes nothing.
fn replayable(request: &Request<Outgoing>) -> Option<Request<Outgoing>> {
    let is_safe = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE);
    if !is_safe || !matches!(request.body(), Outgoing::Empty) {
        return None;
    }
    let mut copy = Request::new(Outgoing::Empty);
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.headers_mut() = request.headers().clone();
    Some(copy)
}

/// The answer is late.
struct Late;

/// Waits for the head of an answer. While the body of the request goes on, the endpoint is not called silent.
async fn patiently<T>(
    silence: Duration,
    progress: Option<Arc<Progress>>,
    sent: impl Future<Output = T>,
) -> Result<T, Late> {
    let mut sent = pin!(sent);
    let mut ends = Instant::now() + silence;
    loop {
        if let Ok(done) = timeout_at(ends, &mut sent).await {
            return Ok(done);
        }
        let goes_on = progress.as_ref().map(|progress| progress.last() + silence);
        match goes_on.filter(|until| *until > Instant::now()) {
            Some(until) => ends = until,
            None => return Err(Late),
        }
    }
}

/// Sends a request that is to become another protocol, on a connection of its own.
async fn switch(
    client: &Arc<Client>,
    rule: &LiveRule,
    backend: &LiveBackend,
    mut claim: Claim,
    mut request: Request<Outgoing>,
    upgrade: &Upgrade,
) -> Result<Response<Answer>, Failure> {
    request.headers_mut().insert(CONNECTION, HeaderValue::from_static("upgrade"));
    request.headers_mut().insert(UPGRADE, upgrade.wanted.clone());
    let silence = silence_of(rule);
    let mut sender = match open_http1(claim.endpoint(), backend, client.shared.now(), true).await {
        Ok(sender) => sender,
        Err(why) => return Err(Failure::Unsent(Box::new(request), why)),
    };
    let progress = request.body().progress();
    let mut response = match patiently(silence, progress, sender.try_send_request(request)).await {
        Ok(Ok(response)) => response,
        Ok(Err(mut failed)) => match failed.take_message() {
            Some(unsent) => return Err(Failure::Unsent(Box::new(unsent), failed.into_error().to_string())),
            None => return Err(Failure::Over(broken(client, rule, &claim, failed))),
        },
        Err(Late) => return Err(Failure::Over(late(client, rule, &claim, silence))),
    };
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Ok(response.map(|body| Answer::Endpoint(Box::new(Relayed::new(body, silence, claim, None)))));
    }
    claim.note_reply(client.shared.now());
    let endpoint = hyper::upgrade::on(&mut response);
    // From here on it is at rest while nobody speaks.
    claim.received(0, client.shared.now());
    let patience = rule.rule.options.tunnel_timeout.unwrap_or(TUNNEL_SILENCE);
    let both = (upgrade.client.clone(), endpoint);
    drop(task::spawn("router tunnel", tunnel::upgraded(Arc::clone(&client.shared), both, claim, patience)));
    let mut headers = HeaderMap::new();
    std::mem::swap(&mut headers, response.headers_mut());
    let mut switched = Response::new(Answer::empty());
    *switched.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    *switched.headers_mut() = headers;
    Ok(switched)
}

/// Makes a connection that speaks HTTP/1.1.
async fn open_http1(endpoint: &Endpoint, backend: &LiveBackend, now: u64, upgrades: bool) -> Result<Http1, String> {
    let stream = dial(endpoint, backend, now).await?;
    let (sender, connection) =
        http1::Builder::new().handshake(TokioIo::new(stream)).await.map_err(|err| err.to_string())?;
    // However it ends, whoever waits for an answer is told.
    if upgrades {
        drop(task::spawn("router to endpoint", async move { drop(connection.with_upgrades().await) }));
    } else {
        drop(task::spawn("router to endpoint", async move { drop(connection.await) }));
    }
    Ok(sender)
}

async fn open_http2(endpoint: &Endpoint, backend: &LiveBackend, now: u64) -> Result<Http2, String> {
    let stream = dial(endpoint, backend, now).await?;
    let builder = {
        let mut builder = http2::Builder::new(super::serve::Tasks);
        builder.timer(TokioTimer::new());
        builder
    };
    let (sender, connection) = builder.handshake(TokioIo::new(stream)).await.map_err(|err| err.to_string())?;
    drop(task::spawn("router to endpoint", async move { drop(connection.await) }));
    Ok(sender)
}

/// Connects to an endpoint, over TLS where it wants that.
async fn dial(endpoint: &Endpoint, backend: &LiveBackend, now: u64) -> Result<Box<dyn Duplex>, String> {
    let stream = connect(endpoint, now).await?;
    let Some(tls) = &backend.tls else { return Ok(Box::new(stream)) };
    let connector = TlsConnector::from(Arc::clone(&tls.config));
    let shaken = timeout(CONNECT_MAX, connector.connect(tls.name.clone(), stream)).await;
    let shaken = shaken.map_err(|_| "the TLS handshake took too long".to_owned())?;
    match shaken {
        Ok(stream) => Ok(Box::new(stream)),
        Err(err) => {
            endpoint.counters.errors.fetch_add(1, Relaxed);
            Err(err.to_string())
        }
    }
}

/// Connects to an endpoint; one that hangs is tried last for a while.
pub(super) async fn connect(endpoint: &Endpoint, now: u64) -> Result<TcpStream, String> {
    endpoint.counters.connections.fetch_add(1, Relaxed);
    let failed = |why: String| {
        endpoint.counters.errors.fetch_add(1, Relaxed);
        why
    };
    match timeout(CONNECT_MAX, TcpStream::connect(endpoint.address)).await {
        Ok(Ok(stream)) => {
            // Without it answers come a little later.
            stream.set_nodelay(true).ok();
            Ok(stream)
        }
        Ok(Err(err)) => Err(failed(err.to_string())),
        Err(_) => {
            endpoint.suspect(now);
            Err(failed("connecting took too long".to_owned()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::http_options::Rewrite;

    #[test]
    fn paths_are_rewritten_as_each_router_does() {
        let of =
            |rewrite: &Rewrite, prefix: &str, uri: &str| rewritten(rewrite, prefix, &uri.parse().unwrap()).to_string();
        let prefix = |target: &str| Rewrite::Prefix(target.to_owned());
        assert_eq!(of(&prefix("/"), "/foo", "/foo"), "/");
        assert_eq!(of(&prefix("/"), "/foo", "/foo/bar?x=1"), "/bar?x=1");
        assert_eq!(of(&prefix("/api/"), "/foo", "/foo/bar"), "/api/bar");
        assert_eq!(of(&prefix("/api"), "/", "/bar"), "/api/bar");
        assert_eq!(of(&Rewrite::Whole("/x".into()), "/foo", "/foo/bar?x=1"), "/x?x=1");
    }

    #[test]
    fn a_request_moves_between_the_versions_of_http() {
        let request = Request::builder().uri("/a?b").header(HOST, "h:1").body(Outgoing::Empty).unwrap();
        let two = for_http2(request, false);
        assert_eq!((two.uri().to_string().as_str(), two.headers().len()), ("http://h:1/a?b", 0));
        let one = for_http1(two);
        assert_eq!((one.uri().to_string().as_str(), one.headers()[HOST].to_str().unwrap()), ("/a?b", "h:1"));
    }
}
