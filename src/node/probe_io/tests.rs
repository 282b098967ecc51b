use super::{http::Url, *};
use crate::{
    base::task,
    engine::{
        ContainerSpec,
        fake::{Behaviour, ExecBehaviour, FakeEngine},
    },
};
use bytes::Bytes;
use http_body_util::StreamBody;
use hyper::{HeaderMap, Request, Response, body::Frame, body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::{convert::Infallible, sync::Mutex};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpListener,
};

const HERE: Ipv4Addr = Ipv4Addr::LOCALHOST;

/// A server that gives the same answer to every request and remembers what it was asked.
#[derive(Clone)]
struct Server {
    port: u16,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Server {
    async fn start(answer: &'static str) -> Self {
        Self::answering(move |_| answer.to_owned()).await
    }

    async fn answering(answer: impl Fn(&str) -> String + Send + Sync + 'static) -> Self {
        let (listener, port) = listen().await;
        let asked = Arc::new(Mutex::new(Vec::new()));
        let server = Self { port, asked: Arc::clone(&asked) };
        task::spawn("test-server", async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let request = read_head(&mut stream).await;
                let text = answer(&request).replace("PORT", &port.to_string());
                asked.lock().unwrap().push(request);
                stream.write_all(text.as_bytes()).await.unwrap();
                stream.shutdown().await.unwrap();
            }
        });
        server
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

async fn listen() -> (TcpListener, u16) {
    let listener = TcpListener::bind((HERE, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

/// A port on which nobody listens.
async fn free_port() -> u16 {
    listen().await.1
}

async fn read_head(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

async fn run(probe: Value) -> String {
    run_on(Arc::new(FakeEngine::for_test()), "none", probe).await
}

/// What a probe found: nothing when all is well.
async fn run_on(engine: Arc<dyn Engine>, id: &str, probe: Value) -> String {
    let probe: Probe = serde_json::from_value(probe).unwrap();
    let container = json!({"name": "app", "ports": [{"name": "web", "containerPort": 7}]});
    let container: Container = serde_json::from_value(container).unwrap();
    match NetworkProber::new(engine).probe(id, Some(HERE), &container, &probe).await {
        ProbeResult::Success => String::new(),
        ProbeResult::Failure(why) => why,
    }
}

fn get(port: u16, path: &str) -> Value {
    json!({"httpGet": {"path": path, "port": port}, "timeoutSeconds": 30})
}

#[tokio::test]
async fn an_http_answer_is_judged_by_its_code() {
    let cases = [
        ("200 OK", ""),
        ("204 No Content", ""),
        ("304 Not Modified", ""),
        ("302 Found\r\nLocation: http://elsewhere.invalid/", ""),
        ("301 Moved Permanently", ""),
        ("400 Bad Request", "HTTP probe failed with statuscode: 400"),
        ("500 Internal Server Error", "HTTP probe failed with statuscode: 500"),
        ("199 Odd", "HTTP probe failed with statuscode: 199"),
    ];
    for (head, want) in cases {
        let server = Server::answering(move |_| format!("HTTP/1.1 {head}\r\nConnection: close\r\n\r\n")).await;
        // An informational answer is no final one.
        if head.starts_with('1') {
            let url = format!("http://127.0.0.1:{}/", server.port);
            assert_eq!(run(get(server.port, "/")).await, format!("Get {url:?}: EOF"));
            continue;
        }
        assert_eq!(run(get(server.port, "/")).await, want, "{head}");
    }
}

#[tokio::test]
async fn an_http_probe_introduces_itself_and_sends_the_users_headers() {
    let server = Server::start("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    let port = server.port;
    assert_eq!(run(get(port, "healthz?deep=1 2")).await, "");
    let headers = json!([{"name": "Host", "value": "shop.example"}, {"name": "x-a", "value": "1"},
                         {"name": "X-A", "value": "2"}, {"name": "User-Agent", "value": "me"}, {"name": "Accept", "value": ""}]);
    let probe = json!({"httpGet": {"port": port, "httpHeaders": headers}});
    assert_eq!(run(probe).await, "");
    let common = format!("Host: 127.0.0.1:{port}\r\nConnection: close\r\n");
    assert_eq!(
        server.asked(),
        [
            format!("GET /healthz?deep=1%202 HTTP/1.1\r\n{common}User-Agent: kube-probe/1.37\r\nAccept: */*\r\n\r\n"),
            "GET / HTTP/1.1\r\nHost: shop.example\r\nConnection: close\r\nX-A: 1\r\nX-A: 2\r\nUser-Agent: me\r\n\r\n"
                .to_owned(),
        ]
    );
}

#[tokio::test]
async fn redirects_on_the_same_host_are_followed_ten_requests_far() {
    let server = Server::answering(|request| {
        let to = match request.split(' ').nth(1).unwrap() {
            "/a/b" => "../c?x",
            "/c?x" => "http://127.0.0.1:PORT/bad",
            "/loop" => "/loop",
            _ => return "HTTP/1.1 503 No\r\n\r\n".to_owned(),
        };
        format!("HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n")
    })
    .await;
    assert_eq!(run(get(server.port, "/a/b")).await, "HTTP probe failed with statuscode: 503");
    assert_eq!(server.asked().len(), 3);
    let url = format!("http://127.0.0.1:{}/loop", server.port);
    assert_eq!(run(get(server.port, "/loop")).await, format!("Get {url:?}: stopped after 10 redirects"));
    assert_eq!(server.asked().len(), 13);
}

#[test]
fn locations_are_resolved() {
    let base = Url::new(false, "10.0.0.1".into(), 8080, "/a/b?q");
    let cases = [
        ("/x", "http://10.0.0.1:8080/x"),
        ("x", "http://10.0.0.1:8080/a/x"),
        ("../../x/.", "http://10.0.0.1:8080/x/"),
        ("?y", "http://10.0.0.1:8080/a/b?y"),
        ("", "http://10.0.0.1:8080/a/b?q"),
        ("//h:1/x#f", "http://h:1/x"),
        ("HTTPS://u@[::1]:9", "https://[::1]:9/"),
    ];
    for (location, want) in cases {
        assert_eq!(base.join(location).to_string(), want, "{location}");
    }
    assert_eq!(Url::new(true, "::1".into(), 1, "").to_string(), "https://[::1]:1/");
}

#[tokio::test]
async fn an_http_probe_that_gets_no_answer_says_why() {
    let port = free_port().await;
    let refused = format!("dial tcp 127.0.0.1:{port}: connect: connection refused");
    assert_eq!(run(get(port, "/healthz")).await, format!("Get \"http://127.0.0.1:{port}/healthz\": {refused}"));
    let silent = Server::start("").await;
    assert_eq!(run(get(silent.port, "/")).await, format!("Get \"http://127.0.0.1:{}/\": EOF", silent.port));
    let cut = Server::start("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab").await;
    assert_eq!(run(get(cut.port, "/")).await, "unexpected EOF");
    let garbage = Server::start("hello there\r\n\r\n").await;
    let why = run(get(garbage.port, "/")).await;
    assert!(why.contains("malformed HTTP response"), "{why}");
}

#[tokio::test]
async fn a_big_body_is_not_read_to_its_end() {
    let (listener, port) = listen().await;
    task::spawn("test-server", async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        read_head(&mut stream).await;
        let head = "HTTP/1.1 200 OK\r\nContent-Length: 999999999\r\n\r\n";
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(&vec![b'x'; 20_000]).await.unwrap();
        // It stays open until the prober goes.
        drop(stream.read_u8().await);
    });
    assert_eq!(run(get(port, "/")).await, "");
}

#[tokio::test(start_paused = true)]
async fn an_http_probe_gives_up_in_time() {
    let (listener, port) = listen().await;
    let why = "context deadline exceeded (Client.Timeout exceeded while awaiting headers)";
    let began = tokio::time::Instant::now();
    let probe = json!({"httpGet": {"port": port}, "timeoutSeconds": 3});
    assert_eq!(run(probe).await, format!("Get \"http://127.0.0.1:{port}/\": {why}"));
    assert_eq!(began.elapsed().as_secs(), 3);
    drop(listener);
}

/// An HTTPS server with a certificate that nobody signed.
async fn https_server() -> u16 {
    let made = rcgen::generate_simple_self_signed(vec!["nobody.invalid".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let (listener, port) = listen().await;
    task::spawn("test-server", async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut tls = acceptor.accept(stream).await.unwrap();
        read_head(&mut tls).await;
        tls.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.unwrap();
        tls.shutdown().await.unwrap();
    });
    port
}

#[tokio::test]
async fn https_needs_no_right_certificate_but_tls() {
    let probe = |port: u16| json!({"httpGet": {"port": port, "scheme": "HTTPS"}, "timeoutSeconds": 30});
    assert_eq!(run(probe(https_server().await)).await, "");
    let (listener, port) = listen().await;
    task::spawn("test-server", async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        drop(stream.read_u8().await);
    });
    let why = "http: server gave HTTP response to HTTPS client";
    assert_eq!(run(probe(port)).await, format!("Get \"https://127.0.0.1:{port}/\": {why}"));
}

#[tokio::test]
async fn a_tcp_probe_asks_whether_somebody_listens() {
    let (_listener, port) = listen().await;
    assert_eq!(run(json!({"tcpSocket": {"port": port}})).await, "");
    assert_eq!(run(json!({"tcpSocket": {"port": port.to_string(), "host": "127.0.0.1"}})).await, "");
    let port = free_port().await;
    let refused = format!("dial tcp 127.0.0.1:{port}: connect: connection refused");
    assert_eq!(run(json!({"tcpSocket": {"port": port}})).await, refused);
}

#[test]
fn a_port_is_a_number_or_the_name_of_one() {
    let container = json!({"name": "app", "ports": [{"name": "web", "containerPort": 8080}]});
    let container: Container = serde_json::from_value(container).unwrap();
    let cases = [
        (json!(80), Ok(80)),
        (json!("web"), Ok(8080)),
        (json!("81"), Ok(81)),
        (json!("api"), Err("strconv.Atoi: parsing \"api\": invalid syntax".to_owned())),
        (json!(0), Err("invalid port number: 0".to_owned())),
        (json!(70000), Err("invalid port number: 70000".to_owned())),
    ];
    for (port, want) in cases {
        assert_eq!(port_of(&serde_json::from_value(port).unwrap(), &container), want);
    }
}

#[tokio::test]
async fn a_probe_of_a_pod_without_an_address_fails() {
    let prober = NetworkProber::new(Arc::new(FakeEngine::for_test()));
    let probe: Probe = serde_json::from_value(json!({"tcpSocket": {"port": 80}})).unwrap();
    let result = prober.probe("none", None, &Container::default(), &probe).await;
    assert_eq!(result, ProbeResult::Failure("the pod has no address yet".into()));
}

#[tokio::test(start_paused = true)]
async fn a_command_is_judged_by_its_exit_code_and_speaks_for_itself() {
    let exits = |code, output: &'static str| ExecBehaviour::Exits {
        after: Duration::from_secs(1),
        code,
        output: Bytes::from_static(output.as_bytes()),
    };
    let probe = json!({"exec": {"command": ["check", "it"]}, "timeoutSeconds": 2});
    let cases = [
        (exits(0, "fine"), ""),
        (exits(1, "no \u{e4}\n"), "no \u{e4}\n"),
        (ExecBehaviour::Hangs, "command timed out: \"check it\" timed out after 2s"),
    ];
    for (exec, want) in cases {
        let engine = FakeEngine::for_test();
        engine.add_image("app", Behaviour { exec, ..Behaviour::server() });
        let spec = ContainerSpec { name: "app1".into(), image: "app".into(), ..ContainerSpec::default() };
        let id = engine.create(&spec).await.unwrap();
        engine.start(&id).await.unwrap();
        assert_eq!(run_on(Arc::new(engine), &id, probe.clone()).await, want);
    }
    let gone = run(probe).await;
    assert!(gone.contains("No such container"), "{gone}");
}

#[tokio::test]
async fn a_probe_without_a_handler_fails() {
    assert_eq!(run(json!({})).await, "missing probe handler for container app");
}

/// Answers every call with these bytes and this status.
async fn serve_health(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    answer: &'static [u8],
    status: &'static str,
) {
    let service = service_fn(move |request: Request<Incoming>| async move {
        assert_eq!(request.uri().path(), "/grpc.health.v1.Health/Check");
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", status.parse().unwrap());
        trailers.insert("grpc-message", "unknown%20service".parse().unwrap());
        let frames = [Ok(Frame::data(Bytes::from_static(answer))), Ok::<_, Infallible>(Frame::trailers(trailers))];
        Ok::<_, Infallible>(Response::new(StreamBody::new(futures::stream::iter(frames))))
    });
    drop(http2::Builder::new(grpc::Tasks).serve_connection(TokioIo::new(stream), service).await);
}

#[tokio::test]
async fn a_grpc_probe_asks_the_health_service() {
    let missing =
        "error: this server does not implement the grpc health protocol (grpc.health.v1.Health): unknown service";
    let not_found = "error: health rpc probe failed: rpc error: code = NotFound desc = unknown service";
    let cases: [(&[u8], &str, &str); 6] = [
        (b"\0\0\0\0\x02\x08\x01", "0", ""),
        (b"\0\0\0\0\x02\x08\x02", "0", "service unhealthy (responded with \"NOT_SERVING\")"),
        (b"\0\0\0\0\0", "0", "service unhealthy (responded with \"UNKNOWN\")"),
        (b"", "12", missing),
        (b"", "5", not_found),
        (
            b"\0\0\0\0\x09\x08",
            "0",
            "error: health rpc probe failed: rpc error: code = Internal desc = failed to unmarshal the received message",
        ),
    ];
    for (answer, status, want) in cases {
        let (listener, port) = listen().await;
        task::spawn("test-server", async move {
            let (stream, _) = listener.accept().await.unwrap();
            serve_health(stream, answer, status).await;
        });
        assert_eq!(run(json!({"grpc": {"port": port, "service": "shop"}, "timeoutSeconds": 30})).await, want);
    }
    let port = free_port().await;
    let refused = format!("dial tcp 127.0.0.1:{port}: connect: connection refused");
    let want = format!("error: failed to connect service at \"127.0.0.1:{port}\": {refused}");
    assert_eq!(run(json!({"grpc": {"port": port}})).await, want);
}
