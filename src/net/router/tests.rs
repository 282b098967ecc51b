//! The router over real sockets on loopback: clients on one side, endpoints on the other.

use super::{plan::Objects, *};
use crate::{
    base::{clock::Clock, task},
    net::{
        proxy::ProxySettings,
        table::{ForwardTable, PortRef, Rotation, Target},
    },
    server::tls as pki,
};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::{
    body::{Frame, Incoming},
    service::service_fn,
};
use hyper_util::{rt::TokioIo, server::conn::auto::Builder};
use k8s_openapi::api::core::v1::Service;
use objects::Route;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use serde_json::{Value, json};
use std::net::Ipv4Addr;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::Notify,
};
use tokio_rustls::TlsConnector;

/// Longer than anything here takes, so that a test that hangs fails.
const PATIENCE: Duration = Duration::from_secs(20);

/// A router with Routes to Services of one port each.
struct Scene {
    proxy: Arc<Proxy>,
    router: Router,
    table: ForwardTable,
    routes: Vec<Route>,
    services: Vec<Service>,
    certificates: Certificates,
    ca_pem: String,
    pki: pki::Pki,
    _directory: tempfile::TempDir,
}

impl Scene {
    fn new() -> Self {
        let clock = Clock::system();
        let directory = tempfile::tempdir().unwrap();
        let pki = pki::load_or_create(directory.path(), &[], &clock).unwrap();
        let ca_pem = pki.ca_pem().to_owned();
        let how = ProxySettings { workers: Some(1), ..Default::default() };
        let proxy = Arc::new(Proxy::start(clock, &how).unwrap());
        let settings = RouterSettings {
            addresses: vec![Ipv4Addr::LOCALHOST.into()],
            http_ports: vec![0],
            https_ports: vec![0],
            workers: Some(2),
            sockets: Arc::default(),
            cluster_ca: ca_pem.clone(),
        };
        let router = Router::new(Arc::clone(&proxy), settings).unwrap();
        Self {
            proxy,
            router,
            table: ForwardTable::default(),
            routes: Vec::new(),
            services: Vec::new(),
            certificates: Certificates::default(),
            ca_pem,
            pki,
            _directory: directory,
        }
    }

    fn service(&mut self, name: &str, endpoints: &[SocketAddr]) -> &mut Self {
        self.services.retain(|service| service.metadata.name.as_deref() != Some(name));
        let service =
            json!({ "metadata": { "namespace": "shop", "name": name }, "spec": { "ports": [{ "port": 80 }] } });
        self.services.push(serde_json::from_value(service).unwrap());
        let (namespace, service, port) = ("shop".to_owned(), name.to_owned(), String::new());
        let port = Arc::new(PortRef { namespace, service, port, protocol: Protocol::Tcp });
        let targets = endpoints.iter().map(|address| Target { address: *address, pod: None }).collect();
        self.table.rotations.insert(port, Rotation { targets, sticky_for: None });
        self
    }

    fn route(&mut self, host: &str, mut spec: Value, annotations: Value) -> &mut Self {
        spec["host"] = json!(host);
        if spec.get("to").is_none() {
            spec["to"] = json!({ "name": "web", "weight": 100 });
        }
        let metadata = json!({ "namespace": "shop", "name": host, "uid": host, "annotations": annotations });
        self.routes.push(serde_json::from_value(json!({ "metadata": metadata, "spec": spec })).unwrap());
        self
    }

    fn apply(&self) -> (Bound, crate::net::proxy::Leavers) {
        let planned = plan::plan(&Objects {
            routes: &self.routes.iter().collect::<Vec<_>>(),
            ingresses: &[],
            classes: &[],
            services: &self.services.iter().collect::<Vec<_>>(),
            slices: &[],
            certificates: &self.certificates,
            check: &|pair| self.router.check(pair),
        });
        let left = self.proxy.apply(&self.table).left;
        let (bound, problems) = self.router.apply(&planned, &self.certificates, &Set::new());
        assert_eq!(problems, Vec::<String>::new());
        (bound, left)
    }

    fn http(&self) -> u16 {
        self.apply().0.http.unwrap()
    }

    /// Gives a host a certificate of the cluster's authority.
    fn certify(&mut self, host: &str) {
        let made = self.pki.issue_for_host(host).unwrap();
        let pair = Pair { certificate: made.cert_pem, key: made.key_pem };
        self.certificates.by_host.insert(host.to_owned(), pair);
    }

    async fn secured(&self, port: u16, name: &str, alpn: &[&[u8]]) -> tokio_rustls::client::TlsStream<TcpStream> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.ca_pem.as_bytes()).unwrap()).unwrap();
        let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap();
        let name = ServerName::try_from(name.to_owned()).unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap()
    }
}

/// An endpoint that answers with its name, the path and the headers that it was sent, one in a line. `/slow` waits until it is told to go on.
async fn endpoint(name: &'static str, go_on: Arc<Notify>) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(task::spawn("endpoint", async move {
        while let Ok((stream, _)) = listener.accept().await {
            let go_on = Arc::clone(&go_on);
            let handler = service_fn(move |request| echo(name, request, Arc::clone(&go_on)));
            drop(task::spawn("endpoint-client", async move {
                Builder::new(serve::Tasks).serve_connection(TokioIo::new(stream), handler).await.ok();
            }));
        }
    }));
    address
}

type Frames = std::pin::Pin<Box<dyn futures::Stream<Item = Result<Frame<Bytes>, Infallible>> + Send>>;

async fn echo(
    name: &'static str,
    request: Request<Incoming>,
    go_on: Arc<Notify>,
) -> Result<Response<StreamBody<Frames>>, Infallible> {
    let mut text = format!("{name}\n{}\n", request.uri().path_and_query().unwrap());
    let mut headers: Vec<String> =
        request.headers().iter().map(|(name, value)| format!("{name}: {}\n", value.to_str().unwrap())).collect();
    headers.sort();
    text.extend(headers);
    let is_slow = request.uri().path() == "/slow";
    let is_grpc = request.headers().get("content-type").is_some_and(|v| v == "application/grpc");
    let body = request.into_body().collect().await.unwrap().to_bytes();
    text.push_str(std::str::from_utf8(&body).unwrap());
    if is_slow {
        go_on.notified().await;
    }
    let mut frames = vec![Ok(Frame::data(Bytes::from(text)))];
    if is_grpc {
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static("0"));
        frames.push(Ok(Frame::trailers(trailers)));
    }
    Ok(Response::new(StreamBody::new(Box::pin(futures::stream::iter(frames)) as Frames)))
}

async fn plain(name: &'static str) -> SocketAddr {
    endpoint(name, Arc::default()).await
}

/// An address at which nobody listens.
fn nobody() -> SocketAddr {
    crate::testing::ports::free_address()
}

/// Sends a request on a connection of its own; the whole answer.
async fn ask(port: u16, head: &str) -> String {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap();
    exchange(stream, head).await
}

async fn exchange(mut stream: impl AsyncRead + AsyncWrite + Unpin, head: &str) -> String {
    let (first, rest) = head.split_once("\r\n").unwrap_or((head, ""));
    // What is said beyond a request would have its connection reset.
    let end = if head.contains("\r\n\r\n") { "" } else { "\r\n\r\n" };
    let request = format!("{first} HTTP/1.1\r\nConnection: close\r\n{rest}{end}");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = Vec::new();
    // A server that ends TLS without a farewell has said everything.
    timeout(PATIENCE, stream.read_to_end(&mut text)).await.unwrap().ok();
    String::from_utf8(text).unwrap()
}

fn body(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").unwrap().1
}

const STICKS: &str = "haproxy.router.openshift.io/disable_cookies";

#[tokio::test]
async fn a_request_reaches_an_endpoint_with_word_of_its_origin() {
    let mut scene = Scene::new();
    scene.service("web", &[plain("one").await]).route("a.b", json!({}), json!({ STICKS: "true" }));
    let port = scene.http();
    let answer = ask(port, "GET /x?y=1\r\nHost: a.b\r\nProxy: evil\r\nX-Forwarded-For: 1.2.3.4").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    let told = format!(
        "one\n/x?y=1\nforwarded: for=127.0.0.1;host=a.b;proto=http\nhost: a.b\nx-forwarded-for: 1.2.3.4\nx-forwarded-for: 127.0.0.1\n\
         x-forwarded-host: a.b\nx-forwarded-port: {port}\nx-forwarded-proto: http\n"
    );
    assert!(body(&answer).contains(&told), "{answer}");
    let sent = ask(port, "POST /\r\nHost: a.b\r\nContent-Length: 3\r\n\r\nabc").await;
    assert!(sent.contains("abc"), "{sent}");
    assert_eq!(scene.router.report().requests, 2);
}

#[tokio::test]
async fn who_has_no_answer_is_told_whose_and_why() {
    let mut scene = Scene::new();
    let tls = json!({ "tls": { "termination": "edge" } });
    scene.service("web", &[]).route("a.b", json!({}), Value::Null).route("tls.b", tls, Value::Null);
    scene.route("gone.b", json!({ "to": { "name": "gone", "weight": 1 } }), Value::Null);
    scene.service("dead", &[nobody()]);
    scene.route("dead.b", json!({ "to": { "name": "dead", "weight": 1 } }), Value::Null);
    let port = scene.http();
    let first_line = |answer: String| body(&answer).lines().next().unwrap().to_owned();
    for (host, want) in [
        ("c.d", "404 Not Found: no Route and no Ingress of this cluster answers for c.d/"),
        ("a.b", "503 Service Unavailable: Route shop/a.b cannot answer: the Service web has no endpoint that is ready"),
        ("gone.b", "503 Service Unavailable: Route shop/gone.b cannot answer: the Service gone does not exist"),
        (
            "tls.b",
            "503 Service Unavailable: Route shop/tls.b takes no plain HTTP: ask for https://, or set `spec.tls.insecureEdgeTerminationPolicy` to Allow or Redirect",
        ),
    ] {
        assert_eq!(first_line(ask(port, &format!("GET /\r\nHost: {host}")).await), want);
    }
    let dead = first_line(ask(port, "GET /\r\nHost: dead.b").await);
    assert!(
        dead.starts_with("503 Service Unavailable: Route shop/dead.b cannot answer: its endpoint takes a connection"),
        "{dead}"
    );
    assert_eq!(scene.router.report().errors, 4);
}

#[tokio::test]
async fn an_endpoint_that_refuses_is_followed_by_the_next() {
    let mut scene = Scene::new();
    scene.service("web", &[nobody(), plain("two").await]).route("a.b", json!({}), json!({ STICKS: "true" }));
    let port = scene.http();
    for _ in 0..4 {
        let answer = ask(port, "POST /\r\nHost: a.b\r\nContent-Length: 2\r\n\r\nhi").await;
        assert!(body(&answer).contains("two") && answer.contains("hi"), "{answer}");
    }
}

#[tokio::test]
async fn a_cookie_keeps_a_client_with_its_endpoint() {
    let mut scene = Scene::new();
    scene.service("web", &[plain("one").await, plain("two").await]);
    scene.route("a.b", json!({}), json!({ "router.openshift.io/cookie_name": "cart" }));
    let port = scene.http();
    let first = ask(port, "GET /\r\nHost: a.b").await;
    let cookie = first.lines().find_map(|line| line.strip_prefix("set-cookie: ")).unwrap().split(';').next().unwrap();
    let name = ["one", "two"].into_iter().find(|name| first.contains(name)).unwrap();
    for _ in 0..3 {
        let again = ask(port, &format!("GET /\r\nHost: a.b\r\nCookie: a=1; {cookie}")).await;
        assert!(again.contains(name), "{again}");
        assert!(again.contains("cookie: a=1\n"), "the router's own stays here: {again}");
        assert!(!again.contains("set-cookie"), "{again}");
    }
    let other = ask(port, "GET /\r\nHost: a.b\r\nCookie: cart=gone").await;
    assert!(other.contains("set-cookie: cart="), "{other}");
}

#[tokio::test]
async fn tls_ends_here_with_the_certificate_of_the_host() {
    let mut scene = Scene::new();
    scene.service("web", &[plain("one").await]);
    let edge = json!({ "tls": { "termination": "edge", "insecureEdgeTerminationPolicy": "Redirect" } });
    scene.route("a.b", edge, json!({ "haproxy.router.openshift.io/hsts_header": "max-age=1" }));
    scene.route("plain.b", json!({}), Value::Null);
    for host in ["a.b", "plain.b"] {
        scene.certify(host);
    }
    let (bound, _) = scene.apply();
    let (http, https) = (bound.http.unwrap(), bound.https.unwrap());
    let moved = ask(http, "GET /x?y\r\nHost: a.b:1").await;
    assert!(moved.starts_with("HTTP/1.1 302 Found\r\n"), "{moved}");
    assert!(moved.contains(&format!("location: https://a.b:{https}/x?y\r\n")), "{moved}");
    let answer = exchange(scene.secured(https, "a.b", &[b"http/1.1"]).await, "GET /\r\nHost: a.b").await;
    assert!(answer.contains("x-forwarded-proto: https\n"), "{answer}");
    assert!(answer.contains("strict-transport-security: max-age=1\r\n"), "{answer}");
    assert!(answer.contains("; path=/; HttpOnly; Secure; SameSite=None\r\n"), "{answer}");
    let refused = exchange(scene.secured(https, "plain.b", &[]).await, "GET /\r\nHost: plain.b").await;
    assert!(refused.contains("Route shop/plain.b has no TLS"), "{refused}");
}

#[tokio::test]
async fn tls_passes_through_by_the_name_that_is_asked_for_and_reencrypts_where_that_is_wanted() {
    let mut scene = Scene::new();
    // The router of another scene is an endpoint that speaks TLS.
    let mut behind = Scene::new();
    behind.service("web", &[plain("behind").await]);
    let edge = json!({ "tls": { "termination": "edge" } });
    behind.route("pass.b", edge.clone(), Value::Null).route("re.b", edge, Value::Null);
    for host in ["pass.b", "re.b"] {
        behind.certify(host);
    }
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, behind.apply().0.https.unwrap()));
    scene.service("web", &[address]);
    scene.route("pass.b", json!({ "tls": { "termination": "passthrough" } }), Value::Null);
    let trusted = json!({ "tls": { "termination": "reencrypt", "destinationCACertificate": behind.ca_pem } });
    scene.route("re.b", trusted, Value::Null);
    let untrusted = json!({ "tls": { "termination": "reencrypt" } });
    scene.route("wrong.b", untrusted, Value::Null);
    for host in ["re.b", "wrong.b"] {
        scene.certify(host);
    }
    let https = scene.apply().0.https.unwrap();
    let passed = exchange(behind.secured(https, "pass.b", &[]).await, "GET /\r\nHost: pass.b").await;
    assert!(passed.contains("behind\n/\n"), "{passed}");
    let anew = exchange(scene.secured(https, "re.b", &[]).await, "GET /\r\nHost: re.b").await;
    assert!(anew.contains("behind\n/\n"), "{anew}");
    let wrong = exchange(scene.secured(https, "wrong.b", &[]).await, "GET /\r\nHost: wrong.b").await;
    assert!(wrong.starts_with("HTTP/1.1 503") && wrong.contains("certificate"), "{wrong}");
}

#[tokio::test]
async fn an_upgraded_connection_moves_bytes_both_ways() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(task::spawn("echo", async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
        assert!(head.contains("upgrade: websocket") && head.contains("connection: upgrade"), "{head}");
        let switched = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";
        stream.write_all(switched.as_bytes()).await.unwrap();
        let (mut from, mut to) = stream.split();
        tokio::io::copy(&mut from, &mut to).await.ok();
    }));
    let mut scene = Scene::new();
    scene.service("web", &[address]).route("a.b", json!({}), Value::Null);
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, scene.http())).await.unwrap();
    let head = "GET / HTTP/1.1\r\nHost: a.b\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(timeout(PATIENCE, stream.read_u8()).await.unwrap().unwrap());
    }
    assert!(answer.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&answer));
    for word in [&b"hello"[..], b"again"] {
        stream.write_all(word).await.unwrap();
        let mut heard = vec![0; word.len()];
        timeout(PATIENCE, stream.read_exact(&mut heard)).await.unwrap().unwrap();
        assert_eq!(heard, word);
    }
}

#[tokio::test]
async fn grpc_goes_over_http2_with_its_trailers() {
    let mut scene = Scene::new();
    scene.service("web", &[plain("one").await]).route("a.b", json!({}), Value::Null);
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, scene.http())).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(serve::Tasks, TokioIo::new(stream)).await.unwrap();
    drop(task::spawn("client", async move { drop(connection.await) }));
    let request =
        Request::post("http://a.b/svc/Call").header("content-type", "application/grpc").header("te", "trailers");
    let response = sender.send_request(request.body(Full::new(Bytes::from("ping"))).unwrap()).await.unwrap();
    assert_eq!(response.status(), 200);
    let answered = response.into_body().collect().await.unwrap();
    assert_eq!(answered.trailers().unwrap()["grpc-status"], "0");
    let text = String::from_utf8(answered.to_bytes().to_vec()).unwrap();
    assert!(text.starts_with("one\n/svc/Call\n") && text.ends_with("ping") && text.contains("te: trailers"), "{text}");
}

#[tokio::test]
async fn an_endpoint_that_leaves_gets_no_request_and_what_is_under_way_ends_in_peace() {
    let mut scene = Scene::new();
    let go_on = Arc::new(Notify::new());
    let (leaves, stays) = (endpoint("leaves", Arc::clone(&go_on)).await, plain("stays").await);
    scene.service("web", &[leaves]).route("a.b", json!({}), json!({ STICKS: "true" }));
    let port = scene.http();
    // A kept connection to it is there.
    ask(port, "GET /\r\nHost: a.b").await;
    let mut slow = tokio::task::JoinSet::new();
    slow.spawn(async move { ask(port, "GET /slow\r\nHost: a.b").await });
    let is_busy = || scene.proxy.report().endpoints.iter().any(|endpoint| endpoint.active > 0);
    timeout(PATIENCE, async {
        while !is_busy() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
    scene.service("web", &[stays]);
    let (_, left) = scene.apply();
    assert!(
        timeout(Duration::from_millis(100), scene.proxy.drain(&left, PATIENCE)).await.is_err(),
        "a request is under way"
    );
    for _ in 0..4 {
        assert!(ask(port, "GET /\r\nHost: a.b").await.contains("stays"));
    }
    go_on.notify_one();
    assert!(slow.join_next().await.unwrap().unwrap().contains("leaves"));
    timeout(PATIENCE, scene.proxy.drain(&left, PATIENCE)).await.unwrap();
}

#[tokio::test]
async fn it_has_ports_only_while_something_is_routed_and_passes_over_those_of_others() {
    let taken = TcpListener::bind(nobody()).await.unwrap();
    let free = nobody().port();
    let mut scene = Scene::new();
    scene.router.settings.http_ports = vec![taken.local_addr().unwrap().port(), free];
    assert_eq!(scene.apply().0.http, None);
    scene.service("web", &[plain("one").await]).route("a.b", json!({}), Value::Null);
    assert_eq!(scene.apply().0.http, Some(free));
    assert_eq!(scene.router.places().len(), 2);
    assert!(ask(free, "GET /\r\nHost: a.b").await.contains("one"));
    scene.routes.clear();
    assert_eq!(scene.apply().0, Bound { address: Some(Ipv4Addr::LOCALHOST.into()), ..Bound::default() });
    assert!(TcpStream::connect((Ipv4Addr::LOCALHOST, free)).await.is_err());
    scene.route("c.d", json!({}), Value::Null);
    assert_eq!(scene.apply().0.http, Some(free), "it takes it again");
    assert!(ask(free, "GET /\r\nHost: c.d").await.contains("one"));
}

#[tokio::test]
async fn a_body_is_moved_as_it_comes_and_a_silent_endpoint_is_not_waited_for_for_ever() {
    let go_on = Arc::new(Notify::new());
    let mut scene = Scene::new();
    scene.service("web", &[endpoint("one", go_on).await]);
    scene.route("a.b", json!({}), json!({ "haproxy.router.openshift.io/timeout": "200ms" }));
    let port = scene.http();
    let late = ask(port, "GET /slow\r\nHost: a.b").await;
    assert!(late.starts_with("HTTP/1.1 504"), "{late}");
    assert!(body(&late).contains("Route shop/a.b: the endpoint did not answer within 0.2 s"), "{late}");
    scene.route("big.b", json!({}), Value::Null);
    scene.apply();
    let big = "x".repeat(1 << 20);
    let sent = ask(port, &format!("POST /\r\nHost: big.b\r\nContent-Length: {}\r\n\r\n{big}", big.len())).await;
    // Chunks of it lie between others' lengths.
    assert!(sent.bytes().filter(|byte| *byte == b'x').count() >= big.len());
}
