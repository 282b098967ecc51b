//! Network probes: one HTTP request, one connection or one gRPC health check from the node to a pod.
//!
//! Called by `probes` and `hooks` through [`NetProbe`], so that the simulator can put its own world behind it.
//! [`open`] makes the connections by which the server passes requests on.
//! An HTTP probe needs so little (one request, the status, a redirect) that it is spoken here; gRPC needs HTTP/2, and so hyper.
//!
//! **Invariants**: a probe ends within its timeout; certificates are not checked, as the kubelet does not.
//! **Source** of behaviour and texts: `pkg/probe/{http,tcp}`, v1.37, and Go's `net` errors.

mod grpc;

use super::streams::PodAddress;
use crate::base::{chain::chain, duplex::Duplex};
use async_trait::async_trait;
use rustls::{
    ClientConfig, DigitallySignedStruct, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use std::{
    fmt::Write as _,
    io,
    sync::{Arc, LazyLock},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

/// Source: `maxRespBodyLength`, `pkg/probe/http/http.go`; here it bounds the head, the body is not read.
const HEAD_MAX: usize = 10 * 1024;
/// Source: Go's `net/http` client follows at most ten redirects.
const REDIRECTS_MAX: usize = 10;
/// Source: `pkg/probe/http/request.go`.
const USER_AGENT: &str = "kube-probe/1.37";

/// An HTTP request to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpTarget {
    /// Whether over TLS.
    pub is_tls: bool,
    /// Host name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Path and query, with a leading slash.
    pub path: String,
    /// Further headers; they replace those that a probe sends by itself.
    pub headers: Vec<(String, String)>,
}

impl HttpTarget {
    fn url(&self) -> String {
        format!("{}://{}:{}{}", if self.is_tls { "https" } else { "http" }, bracketed(&self.host), self.port, self.path)
    }
}

fn bracketed(host: &str) -> String {
    if host.contains(':') { format!("[{host}]") } else { host.to_owned() }
}

/// Makes network probes. An error is what users read.
#[async_trait]
pub trait NetProbe: Send + Sync + 'static {
    /// Makes a request; fine when the status is at least 200 and less than 400.
    async fn http(&self, target: &HttpTarget, timeout: Duration) -> Result<(), String>;
    /// Makes a connection.
    async fn tcp(&self, host: &str, port: u16, timeout: Duration) -> Result<(), String>;
    /// Asks a gRPC server for the health of a service of it; empty: of itself. A world that knows connections only makes one.
    async fn grpc(&self, host: &str, port: u16, _service: &str, timeout: Duration) -> Result<(), String> {
        self.tcp(host, port, timeout).await
    }
}

/// A world in which every probe succeeds.
#[derive(Clone, Copy, Debug)]
pub struct AlwaysReachable;

#[async_trait]
impl NetProbe for AlwaysReachable {
    async fn http(&self, _: &HttpTarget, _: Duration) -> Result<(), String> {
        Ok(())
    }
    async fn tcp(&self, _: &str, _: u16, _: Duration) -> Result<(), String> {
        Ok(())
    }
}

/// Probes over the machine's network.
#[derive(Clone, Debug)]
pub struct SystemNetProbe {
    tls: Arc<ClientConfig>,
}

impl Default for SystemNetProbe {
    fn default() -> Self {
        Self { tls: Arc::clone(&TRUSTING) }
    }
}

/// TLS with whoever answers.
static TRUSTING: LazyLock<Arc<ClientConfig>> = LazyLock::new(|| {
    let provider = Arc::new(ring::default_provider());
    let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .expect("the provider supports the default versions")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(TrustAnything(provider)))
        .with_no_client_auth();
    Arc::new(config)
});

/// How long a connection to a pod may take to come about. Source: `proxyDialTimeout` and Go's default transport.
const OPEN_MAX: Duration = Duration::from_secs(30);

/// A connection to a place in a pod. The error is what users read.
pub(super) async fn open(to: PodAddress) -> Result<Box<dyn Duplex>, String> {
    let opened = async {
        let tcp = dial(&to.ip.to_string(), to.port).await?;
        tcp.set_nodelay(true).map_err(|e| chain(&e))?;
        if !to.is_tls {
            return Ok(Box::new(tcp) as Box<dyn Duplex>);
        }
        let tls = TlsConnector::from(Arc::clone(&TRUSTING)).connect(ServerName::from(to.ip), tcp).await;
        tls.map(|tls| Box::new(tls) as Box<dyn Duplex>).map_err(|e| chain(&e))
    };
    let late = || format!("dial tcp {}: i/o timeout", to.host());
    tokio::time::timeout(OPEN_MAX, opened).await.map_err(|_| late())?
}

#[async_trait]
impl NetProbe for SystemNetProbe {
    async fn http(&self, target: &HttpTarget, timeout: Duration) -> Result<(), String> {
        let status = match tokio::time::timeout(timeout, self.follow(target)).await {
            Ok(Ok(status)) => status,
            Ok(Err(why)) => return Err(format!("Get {:?}: {why}", target.url())),
            Err(_) => {
                let why = "context deadline exceeded (Client.Timeout exceeded while awaiting headers)";
                return Err(format!("Get {:?}: {why}", target.url()));
            }
        };
        if (200..400).contains(&status) { Ok(()) } else { Err(format!("HTTP probe failed with statuscode: {status}")) }
    }

    async fn tcp(&self, host: &str, port: u16, timeout: Duration) -> Result<(), String> {
        match tokio::time::timeout(timeout, dial(host, port)).await {
            Ok(result) => result.map(drop),
            Err(_) => Err(format!("dial tcp {}:{port}: i/o timeout", bracketed(host))),
        }
    }

    async fn grpc(&self, host: &str, port: u16, service: &str, timeout: Duration) -> Result<(), String> {
        grpc::check(host, port, service, timeout).await
    }
}

async fn dial(host: &str, port: u16) -> Result<TcpStream, String> {
    TcpStream::connect((host, port))
        .await
        .map_err(|e| format!("dial tcp {}:{port}: {}", bracketed(host), connect_text(&e)))
}

/// What Go says of a connection that could not be made.
fn connect_text(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connect: connection refused".into(),
        io::ErrorKind::HostUnreachable => "connect: no route to host".into(),
        io::ErrorKind::NetworkUnreachable => "connect: network is unreachable".into(),
        io::ErrorKind::TimedOut => "connect: connection timed out".into(),
        _ => chain(error),
    }
}

impl SystemNetProbe {
    /// The final status, redirects to the same host followed.
    async fn follow(&self, target: &HttpTarget) -> Result<u16, String> {
        let mut target = target.clone();
        for _ in 0..REDIRECTS_MAX {
            let head = self.request(&target).await?;
            match head.location.filter(|_| (300..400).contains(&head.status)).and_then(|to| redirected(&target, &to)) {
                Some(next) => target = next,
                None => return Ok(head.status),
            }
        }
        Err(format!("stopped after {REDIRECTS_MAX} redirects"))
    }

    async fn request(&self, target: &HttpTarget) -> Result<Head, String> {
        let tcp = dial(&target.host, target.port).await?;
        if !target.is_tls {
            return exchange(tcp, target).await;
        }
        let name = ServerName::try_from(target.host.clone()).map_err(|e| e.to_string())?;
        let tls = TlsConnector::from(Arc::clone(&self.tls)).connect(name, tcp).await.map_err(|e| chain(&e))?;
        exchange(tls, target).await
    }
}

/// What a response begins with.
#[derive(Debug, PartialEq, Eq)]
struct Head {
    status: u16,
    location: Option<String>,
}

async fn exchange(mut stream: impl AsyncRead + AsyncWrite + Unpin, target: &HttpTarget) -> Result<Head, String> {
    stream.write_all(request_text(target).as_bytes()).await.map_err(|e| chain(&e))?;
    let mut head = Vec::new();
    let mut chunk = [0; 2048];
    while head.len() < HEAD_MAX && !head.windows(4).any(|w| w == b"\r\n\r\n") {
        match stream.read(&mut chunk).await {
            Ok(0) => break,
            Ok(n) => head.extend_from_slice(&chunk[..n]),
            Err(e) if head.is_empty() => return Err(chain(&e)),
            Err(_) => break,
        }
    }
    if head.is_empty() {
        return Err("EOF".to_owned());
    }
    parse_head(&String::from_utf8_lossy(&head))
}

fn request_text(target: &HttpTarget) -> String {
    let has = |name: &str| target.headers.iter().any(|(n, _)| n.eq_ignore_ascii_case(name));
    let mut text = format!("GET {} HTTP/1.1\r\n", target.path);
    let own = [
        ("Host", format!("{}:{}", bracketed(&target.host), target.port)),
        ("User-Agent", USER_AGENT.to_owned()),
        ("Accept", "*/*".to_owned()),
        ("Connection", "close".to_owned()),
    ];
    let all = own.iter().filter(|(name, _)| !has(name)).map(|(n, v)| (*n, v.as_str()));
    let further = target.headers.iter().filter(|(_, v)| !v.is_empty()).map(|(n, v)| (n.as_str(), v.as_str()));
    for (name, value) in all.chain(further) {
        write!(text, "{name}: {value}\r\n").expect("writing to a String cannot fail");
    }
    text.push_str("\r\n");
    text
}

fn parse_head(text: &str) -> Result<Head, String> {
    let mut lines = text.split("\r\n");
    let first = lines.next().unwrap_or_default();
    let status =
        first.strip_prefix("HTTP/1.").and_then(|rest| rest.split(' ').nth(1)).and_then(|code| code.parse().ok());
    let Some(status) = status else {
        return Err(format!("net/http: HTTP/1.x transport connection broken: malformed HTTP response {first:?}"));
    };
    let location = lines.find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("location").then(|| value.trim().to_owned())
    });
    Ok(Head { status, location })
}

/// Where a redirect leads; `None` when it leaves the host, which a probe does not follow.
fn redirected(from: &HttpTarget, to: &str) -> Option<HttpTarget> {
    if to.starts_with('/') && !to.starts_with("//") {
        return Some(HttpTarget { path: to.to_owned(), ..from.clone() });
    }
    let (scheme, rest) = to.split_once("://")?;
    let (authority, path) = rest.find('/').map_or((rest, "/"), |slash| rest.split_at(slash));
    let is_tls = scheme == "https";
    let default = if is_tls { 443 } else { 80 };
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) => (host, port.parse().ok()?),
        None => (authority, default),
    };
    (host == from.host).then(|| HttpTarget { is_tls, port, path: path.to_owned(), ..from.clone() })
}

/// Accepts every certificate: a probe asks whether somebody answers, not who.
#[derive(Debug)]
struct TrustAnything(Arc<CryptoProvider>);

impl ServerCertVerifier for TrustAnything {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::task;
    use tokio::net::TcpListener;

    const BOUND: Duration = Duration::from_secs(2);

    /// A server that answers every connection in turn with the next of these texts, then stops.
    async fn server(answers: &[&str]) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let answers: Vec<String> = answers.iter().map(|a| a.replace("PORT", &port.to_string())).collect();
        task::spawn("test-server", async move {
            for answer in answers {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = [0; 1024];
                let n = stream.read(&mut request).await.unwrap();
                assert!(String::from_utf8_lossy(&request[..n]).contains("User-Agent: kube-probe/1.37\r\n"));
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        port
    }

    fn target(port: u16) -> HttpTarget {
        HttpTarget { is_tls: false, host: "127.0.0.1".into(), port, path: "/ready".into(), headers: Vec::new() }
    }

    async fn probe(answers: &[&str]) -> Result<(), String> {
        let port = server(answers).await;
        SystemNetProbe::default().http(&target(port), BOUND).await
    }

    #[tokio::test]
    async fn a_good_status_is_a_success_and_a_bad_one_is_named() {
        assert_eq!(probe(&["HTTP/1.1 200 OK\r\n\r\n"]).await, Ok(()));
        assert_eq!(probe(&["HTTP/1.0 399 X\r\n\r\n"]).await, Ok(()));
        let text = "HTTP probe failed with statuscode: 503";
        assert_eq!(probe(&["HTTP/1.1 503 Service Unavailable\r\n\r\n"]).await, Err(text.into()));
    }

    #[tokio::test]
    async fn redirects_are_followed_on_the_same_host_only() {
        let text = "HTTP probe failed with statuscode: 500";
        let answers = ["HTTP/1.1 302 Found\r\nLocation: /next\r\n\r\n", "HTTP/1.1 500 No\r\n\r\n"];
        assert_eq!(probe(&answers).await, Err(text.into()));
        let answers = ["HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:PORT/x\r\n\r\n", "HTTP/1.1 500 No\r\n\r\n"];
        assert_eq!(probe(&answers).await, Err(text.into()));
        assert_eq!(probe(&["HTTP/1.1 302 Found\r\nLocation: http://example.com/\r\n\r\n"]).await, Ok(()));
    }

    #[tokio::test]
    async fn what_is_wrong_reads_as_in_go() {
        let port = crate::testing::ports::free_port();
        let probe = SystemNetProbe::default();
        let refused = format!("dial tcp 127.0.0.1:{port}: connect: connection refused");
        assert_eq!(probe.tcp("127.0.0.1", port, BOUND).await, Err(refused.clone()));
        let url = format!("Get \"http://127.0.0.1:{port}/ready\": ");
        assert_eq!(probe.http(&target(port), BOUND).await, Err(format!("{url}{refused}")));
        let port = server(&["nonsense"]).await;
        assert!(probe.http(&target(port), BOUND).await.unwrap_err().contains("malformed HTTP response \"nonsense\""));
        let port = server(&[""]).await;
        assert!(probe.http(&target(port), BOUND).await.unwrap_err().ends_with(": EOF"));
    }

    #[tokio::test]
    async fn a_server_that_says_nothing_is_not_waited_for() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let error = SystemNetProbe::default().http(&target(port), Duration::from_millis(50)).await.unwrap_err();
        assert!(
            error.ends_with("context deadline exceeded (Client.Timeout exceeded while awaiting headers)"),
            "{error}"
        );
    }

    #[test]
    fn headers_of_the_probe_replace_its_own() {
        let mut target = target(80);
        target.headers =
            vec![("host".into(), "example.com".into()), ("X-A".into(), "b".into()), ("Accept".into(), String::new())];
        let text = request_text(&target);
        assert_eq!(text.matches("ost: ").count(), 1);
        assert!(text.contains("host: example.com\r\n") && text.contains("X-A: b\r\n") && !text.contains("Accept"));
    }
}
