//! HTTP probes: one GET over a connection of its own, with redirects on the same host followed as the kubelet does.
//!
//! **Invariants**: no more than [`BODY_MAX`] bytes of a body are read; certificates are not checked, as the kubelet does not.
//! **Source**: `pkg/probe/http/{http,request}.go`, v1.37; Go's `net/http` client.

use super::{USER_AGENT, dial, errno_text, host_of, host_port, port_of};
use crate::base::chain::chain;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::{
    Request, Response,
    body::Incoming,
    client::conn::http1,
    header::{ACCEPT, CONNECTION, HOST, HeaderMap, HeaderName, HeaderValue, LOCATION},
};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::{Container, HTTPGetAction, HTTPHeader};
use rustls::{
    ClientConfig, DigitallySignedStruct, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::CryptoProvider,
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use std::{
    error::Error as _,
    fmt::{self, Write as _},
    io,
    net::Ipv4Addr,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::timeout,
};
use tokio_rustls::TlsConnector;

/// Bytes of a body that are read at most. Source: `maxRespBodyLength`.
const BODY_MAX: usize = 10 * 1024;
/// Requests until redirects are given up. Source: `RedirectChecker`.
const REQUESTS_MAX: usize = 10;

/// Runs HTTP probes.
#[derive(Clone)]
pub(super) struct HttpProber {
    tls: TlsConnector,
}

/// An answer's head, and whether its body could be read.
struct Answer {
    status: u16,
    location: Option<String>,
    body: Result<(), String>,
}

impl HttpProber {
    pub(super) fn new() -> Self {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .expect("ring speaks the default versions")
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
            .with_no_client_auth();
        Self { tls: TlsConnector::from(Arc::new(config)) }
    }

    /// Runs a probe once.
    pub(super) async fn get(
        &self,
        action: &HTTPGetAction,
        pod_ip: Option<Ipv4Addr>,
        container: &Container,
        bound: Duration,
    ) -> Result<(), String> {
        let port = port_of(&action.port, container)?;
        let host = host_of(action.host.as_deref(), pod_ip)?;
        let is_https = action.scheme.as_deref().is_some_and(|s| s.eq_ignore_ascii_case("https"));
        let url = Url::new(is_https, host, port, action.path.as_deref().unwrap_or_default());
        let headers = headers(action.http_headers.as_deref().unwrap_or_default())
            .map_err(|why| format!("Get {:?}: {why}", url.to_string()))?;
        let has_head = AtomicBool::new(false);
        match timeout(bound, self.follow(url.clone(), headers, &has_head)).await {
            Ok(result) => result,
            Err(_) if has_head.load(Ordering::Relaxed) => {
                Err("context deadline exceeded (Client.Timeout or context cancellation while reading body)".to_owned())
            }
            Err(_) => {
                let why = "context deadline exceeded (Client.Timeout exceeded while awaiting headers)";
                Err(format!("Get {:?}: {why}", url.to_string()))
            }
        }
    }

    /// Gets a URL, and those on the same host that it leads to. A redirect to another host is an answer like others.
    async fn follow(&self, first: Url, mut headers: HeaderMap, has_head: &AtomicBool) -> Result<(), String> {
        let mut url = first.clone();
        for _ in 0..REQUESTS_MAX {
            has_head.store(false, Ordering::Relaxed);
            let sent = self.send(&url, &headers, has_head).await;
            let answer = sent.map_err(|why| format!("Get {:?}: {why}", url.to_string()))?;
            let next = answer.location.as_deref().map(|to| (to, url.join(to)));
            match next {
                Some((to, next)) if next.host == first.host => {
                    // A Host header of the user's holds for the place that it was meant for.
                    if to.contains("//") {
                        headers.remove(HOST);
                    }
                    url = next;
                }
                _ => return judge(answer),
            }
        }
        Err(format!("Get {:?}: stopped after {REQUESTS_MAX} redirects", url.to_string()))
    }

    async fn send(&self, url: &Url, headers: &HeaderMap, has_head: &AtomicBool) -> Result<Answer, String> {
        let request = request(url, headers)?;
        let tcp = dial(&url.host, url.port).await?;
        if !url.is_https {
            return exchange(tcp, request, has_head).await;
        }
        let name = ServerName::try_from(url.host.clone()).map_err(|err| format!("tls: {err}"))?;
        let tls = self.tls.connect(name, tcp).await.map_err(|err| tls_text(&err))?;
        exchange(tls, request, has_head).await
    }
}

fn judge(answer: Answer) -> Result<(), String> {
    answer.body?;
    match answer.status {
        200..400 => Ok(()),
        status => Err(format!("HTTP probe failed with statuscode: {status}")),
    }
}

/// Sends one request over a fresh connection and reads the answer.
async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send,
    request: Request<Empty<Bytes>>,
    has_head: &AtomicBool,
) -> Result<Answer, String> {
    let mut builder = http1::Builder::new();
    builder.title_case_headers(true);
    let (mut sender, connection) = builder.handshake(TokioIo::new(stream)).await.map_err(|err| http_text(&err))?;
    let mut answer = pin!(async {
        let response = sender.send_request(request).await.map_err(|err| http_text(&err))?;
        has_head.store(true, Ordering::Relaxed);
        Ok(read(response).await)
    });
    tokio::select! {
        biased;
        answer = &mut answer => answer,
        // What the connection had to give is with the answer by now, its failure too.
        _ = connection => answer.await,
    }
}

async fn read(mut response: Response<Incoming>) -> Answer {
    let status = response.status().as_u16();
    let is_redirect = matches!(status, 301 | 302 | 303 | 307 | 308);
    let location = response.headers().get(LOCATION).map(|to| String::from_utf8_lossy(to.as_bytes()).into_owned());
    let location = location.filter(|to| is_redirect && !to.is_empty());
    let mut n_read = 0;
    let mut body = Ok(());
    while n_read < BODY_MAX {
        match response.frame().await {
            None => break,
            Some(Ok(frame)) => n_read += frame.data_ref().map_or(0, Bytes::len),
            Some(Err(err)) => {
                body = Err(http_text(&err));
                break;
            }
        }
    }
    Answer { status, location, body }
}

fn request(url: &Url, headers: &HeaderMap) -> Result<Request<Empty<Bytes>>, String> {
    let mut request = Request::get(encoded(&url.path)).body(Empty::new()).map_err(|err| err.to_string())?;
    let host = match headers.get(HOST) {
        Some(host) => host.clone(),
        None => HeaderValue::from_str(&url.authority).map_err(|err| err.to_string())?,
    };
    let all = request.headers_mut();
    all.insert(HOST, host);
    all.insert(CONNECTION, HeaderValue::from_static("close"));
    for name in headers.keys().filter(|name| **name != HOST) {
        all.remove(name);
        for value in headers.get_all(name) {
            all.append(name, value.clone());
        }
    }
    Ok(request)
}

/// The headers of a probe: the user's, and two that every probe has unless the user empties them.
fn headers(wanted: &[HTTPHeader]) -> Result<HeaderMap, String> {
    let mut all = HeaderMap::new();
    for HTTPHeader { name, value } in wanted {
        let key: HeaderName = name.parse().map_err(|_| format!("net/http: invalid header field name {name:?}"))?;
        let value =
            HeaderValue::from_str(value).map_err(|_| format!("net/http: invalid header field value for {name:?}"))?;
        all.append(key, value);
    }
    for (name, default) in [(hyper::header::USER_AGENT, USER_AGENT), (ACCEPT, "*/*")] {
        if !all.contains_key(&name) {
            all.insert(name, HeaderValue::from_static(default));
        } else if all.get(&name).is_some_and(HeaderValue::is_empty) {
            all.remove(name);
        }
    }
    if all.get(HOST).is_some_and(HeaderValue::is_empty) {
        all.remove(HOST);
    }
    Ok(all)
}

/// Where a request goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Url {
    is_https: bool,
    /// Host and port as written.
    authority: String,
    host: String,
    port: u16,
    /// Path and query.
    path: String,
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", if self.is_https { "https" } else { "http" }, self.authority, encoded(&self.path))
    }
}

impl Url {
    /// The URL of a probe.
    pub(super) fn new(is_https: bool, host: String, port: u16, path: &str) -> Self {
        Self { is_https, authority: host_port(&host, port), host, port, path: rooted(without_fragment(path)) }
    }

    /// Where a `Location` leads from here. Source: RFC 3986, 5.2.
    pub(super) fn join(&self, location: &str) -> Self {
        let to = without_fragment(location);
        let scheme = |prefix: &str| to.get(..prefix.len()).is_some_and(|s| s.eq_ignore_ascii_case(prefix));
        if scheme("http://") {
            return Self::parse(false, &to[7..]);
        }
        if scheme("https://") {
            return Self::parse(true, &to[8..]);
        }
        if let Some(rest) = to.strip_prefix("//") {
            return Self::parse(self.is_https, rest);
        }
        let here = self.path.split('?').next().unwrap_or_default();
        let path = match to.chars().next() {
            None => self.path.clone(),
            Some('/') => to.to_owned(),
            Some('?') => format!("{here}{to}"),
            Some(_) => format!("{}{to}", &here[..=here.rfind('/').unwrap_or_default()]),
        };
        Self { path: without_dots(&path), ..self.clone() }
    }

    fn parse(is_https: bool, rest: &str) -> Self {
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let authority = authority.rsplit('@').next().unwrap_or_default();
        let default = if is_https { 443 } else { 80 };
        let has_port = authority.rfind(':').filter(|at| authority.rfind(']').is_none_or(|end| end < *at));
        let (host, port) = match has_port {
            Some(at) => (&authority[..at], authority[at + 1..].parse().unwrap_or(default)),
            None => (authority, default),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        Self { is_https, authority: authority.to_owned(), host, port, path: without_dots(&rooted(path)) }
    }
}

fn without_fragment(text: &str) -> &str {
    text.split('#').next().unwrap_or_default()
}

fn rooted(path: &str) -> String {
    if path.starts_with('/') { path.to_owned() } else { format!("/{path}") }
}

/// A path without `.` and `..`. Source: RFC 3986, 5.2.4.
fn without_dots(path: &str) -> String {
    let (path, query) = path.split_at(path.find('?').unwrap_or(path.len()));
    let mut kept: Vec<&str> = Vec::new();
    let segments: Vec<&str> = path.split('/').skip(1).collect();
    for (i, segment) in segments.iter().enumerate() {
        let is_last = i + 1 == segments.len();
        match *segment {
            "." => {}
            ".." => drop(kept.pop()),
            other => kept.push(other),
        }
        if is_last && matches!(*segment, "." | "..") {
            kept.push("");
        }
    }
    format!("/{}{query}", kept.join("/"))
}

/// A path in which what a request line cannot hold is escaped.
fn encoded(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for byte in path.bytes() {
        match byte {
            b'!' | b'$'..=b';' | b'=' | b'?'..=b'Z' | b'_' | b'a'..=b'z' | b'~' | b'[' | b']' => {
                out.push(char::from(byte));
            }
            other => write!(out, "%{other:02X}").expect("writing to a String cannot fail"),
        }
    }
    out
}

/// What Go says of a failed exchange.
fn http_text(err: &hyper::Error) -> String {
    if err.is_incomplete_message() {
        return "EOF".to_owned();
    }
    let source = err.source().and_then(|source| source.downcast_ref::<io::Error>());
    match source {
        Some(io) if io.kind() == io::ErrorKind::UnexpectedEof => "unexpected EOF".to_owned(),
        Some(io) => format!("read: {}", errno_text(io)),
        None if err.is_parse() => {
            format!("net/http: HTTP/1.x transport connection broken: malformed HTTP response: {}", chain(err))
        }
        None => chain(err),
    }
}

/// What Go says of a failed TLS handshake.
fn tls_text(err: &io::Error) -> String {
    let inner = err.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match inner {
        Some(rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType)) => {
            "http: server gave HTTP response to HTTPS client".to_owned()
        }
        Some(rustls::Error::AlertReceived(alert)) => format!("remote error: tls: {alert:?}"),
        Some(other) => format!("tls: {other}"),
        None if err.kind() == io::ErrorKind::UnexpectedEof => "EOF".to_owned(),
        None => format!("read: {}", errno_text(err)),
    }
}

/// Accepts every certificate: a probe asks whether the program answers, and a pod's certificate rarely names its address.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
