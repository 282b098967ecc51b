//! `exec`, `attach` and `portforward`, over each protocol that clients speak.

use super::*;
use crate::{
    api::kind::Kind as _,
    base::duplex::Duplex,
    engine::{
        ContainerSpec, Engine as _,
        fake::{Behaviour, FakeEngine, PRINTS_BOTH, TELLS_SIZE},
    },
    server::remote::Peer as SpdyPeer,
};
use futures::SinkExt as _;
use http_body_util::Empty;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use std::collections::BTreeMap;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_tungstenite::tungstenite::Message;

/// The pod `web` has a container `app`, and `term` with a terminal.
pub(super) fn find(pod: &ObjectKey, container: &str) -> Result<Running, ApiError> {
    let name = if container.is_empty() { "app" } else { container };
    match &*pod.name {
        "web" => Ok(Running { id: "talks".to_owned(), name: name.to_owned(), tty: name == "term", stdin_once: false }),
        other => Err(ApiError::not_found(&Pods::INFO, other)),
    }
}

async fn engine() -> FakeEngine {
    let engine = FakeEngine::for_test();
    engine.add_image("busybox", Behaviour::server());
    let spec = ContainerSpec { name: "talks".into(), image: "busybox".into(), stdin: true, ..ContainerSpec::default() };
    engine.create(&spec).await.unwrap();
    engine.start("talks").await.unwrap();
    engine
}

pub(super) async fn exec(on: &Running, command: &[String], connected: Connected) -> Result<Session, EngineError> {
    match command {
        [missing] if missing == "missing" => Err(EngineError::Invalid("exec: \"missing\": not found".to_owned())),
        _ => engine().await.exec_session(&on.id, command, connected).await,
    }
}

pub(super) async fn attach(to: &Running, connected: Connected) -> Result<Session, EngineError> {
    engine().await.attach(&to.id, connected).await
}

/// Behind port 80 is who says everything backwards, behind all others is nobody.
struct TestPorts;

#[async_trait]
impl PodPorts for TestPorts {
    async fn connect(&self, port: u16) -> Result<Box<dyn Duplex>, String> {
        if port != 80 {
            return Err("connection refused".to_owned());
        }
        let (near, mut far) = tokio::io::duplex(64);
        drop(task::spawn("backwards", async move {
            let mut said = vec![0; 6];
            if far.read_exact(&mut said).await.is_ok() {
                said.reverse();
                far.write_all(&said).await.unwrap();
            }
        }));
        Ok(Box::new(near))
    }
}

pub(super) fn ports(pod: &ObjectKey) -> Result<Arc<dyn PodPorts>, ApiError> {
    find(pod, "").map(|_| Arc::new(TestPorts) as _)
}

const EXEC: &str = "/api/v1/namespaces/default/pods/web/exec?stdin=1&stdout=1&stderr=1";
const V4: &[(&str, &str)] = &[("sec-websocket-protocol", "v4.channel.k8s.io")];
const V5: &[(&str, &str)] = &[("sec-websocket-protocol", "v5.channel.k8s.io, v4.channel.k8s.io")];

fn shell(text: &str) -> String {
    form_urlencoded::Serializer::new(String::new())
        .extend_pairs([("command", "sh"), ("command", "-c"), ("command", text)])
        .finish()
}

/// Each message, its channel and its text, to the end.
async fn hear(socket: &mut websocket::Socket) -> Vec<(u8, String)> {
    let mut all = Vec::new();
    while let Some(message) = socket.next().await {
        let bytes = message.into_data();
        all.push((bytes[0], String::from_utf8_lossy(&bytes[1..]).into_owned()));
    }
    all
}

async fn say(socket: &mut websocket::Socket, channel: u8, bytes: &[u8]) {
    let message = [&[channel], bytes].concat();
    socket.socket.send(Message::Binary(message.into())).await.unwrap();
}

fn exit(code: i64) -> Value {
    json!({
        "metadata": {}, "status": "Failure", "reason": "NonZeroExitCode",
        "message": format!("command terminated with non-zero exit code: exit code {code}"),
        "details": {"causes": [{"reason": "ExitCode", "message": code.to_string()}]},
    })
}

#[tokio::test]
async fn a_command_reads_until_its_input_is_closed() {
    let desk = Desk::open().await;
    let mut socket = desk.dial(&format!("{EXEC}&command=cat"), V5).await.unwrap();
    assert_eq!(socket.protocol(), Some("v5.channel.k8s.io"));
    say(&mut socket, 0, b"one ").await;
    say(&mut socket, 0, b"two").await;
    say(&mut socket, 255, &[0]).await;
    let heard = hear(&mut socket).await;
    let printed: String = heard.iter().filter(|(channel, _)| *channel == 1).map(|(_, text)| text.as_str()).collect();
    assert_eq!(printed, "one two");
    let (channel, end) = heard.last().unwrap();
    assert_eq!((*channel, end.parse::<Value>().unwrap()), (3, json!({"metadata": {}, "status": "Success"})));
}

#[tokio::test]
async fn outputs_are_apart_and_the_exit_code_is_last() {
    let desk = Desk::open().await;
    let url = format!("{EXEC}&{}", shell(PRINTS_BOTH));
    let heard = hear(&mut desk.dial(&url, V4).await.unwrap()).await;
    let is = |channel, text: &str| (channel, text.to_owned());
    assert_eq!(heard[..3], [is(1, ""), is(1, "out\n"), is(2, "err\n")]);
    assert_eq!(heard[3].1.parse::<Value>().unwrap(), exit(3));
    let old = hear(&mut desk.dial(&url, &[]).await.unwrap()).await;
    assert_eq!(old[3], is(3, "command terminated with non-zero exit code: exit code 3"));
    let failed = hear(&mut desk.dial(&format!("{EXEC}&command=missing"), V4).await.unwrap()).await;
    assert!(failed[1].1.contains("error executing command in container: exec: \\\"missing\\\""), "{failed:?}");
}

#[tokio::test]
async fn a_terminal_has_the_size_that_it_is_given() {
    let desk = Desk::open().await;
    let url = format!("{EXEC}&tty=1&{}", shell(TELLS_SIZE));
    let mut socket = desk.dial(&url, V5).await.unwrap();
    say(&mut socket, 4, br#"{"Width":101,"Height":33}"#).await;
    // The size is there when the line is.
    say(&mut socket, 0, b"\n").await;
    let heard = hear(&mut socket).await;
    assert!(heard.iter().any(|(channel, text)| *channel == 1 && text.contains("33 101")), "{heard:?}");
}

#[tokio::test]
async fn text_is_base64_where_the_client_wants_it() {
    let desk = Desk::open().await;
    let protocol = [("sec-websocket-protocol", "base64.channel.k8s.io")];
    let url = format!("{EXEC}&{}", shell(PRINTS_BOTH));
    let heard = hear(&mut desk.dial(&url, &protocol).await.unwrap()).await;
    assert_eq!(heard[1], (b'1', "b3V0Cg==".to_owned()));
}

#[tokio::test]
async fn a_program_is_talked_with() {
    let desk = Desk::open().await;
    let url = "/api/v1/namespaces/default/pods/web/attach?stdin=true&stdout=true&stderr=true";
    let mut socket = desk.dial(url, V4).await.unwrap();
    say(&mut socket, 0, b"hello").await;
    assert_eq!(socket.next().await.unwrap().into_data()[..], *b"\x01");
    assert_eq!(socket.next().await.unwrap().into_data()[..], *b"\x01hello");
    let refusal = desk.dial(&format!("{url}&tty=true"), V4).await.err().unwrap();
    assert!(refusal.0 == 400 && refusal.1.contains("has no terminal"), "{refusal:?}");
}

#[tokio::test]
async fn what_cannot_begin_is_refused_before() {
    let desk = Desk::open().await;
    let refused = async |url: &str, headers| match desk.dial(url, headers).await {
        Ok(_) => panic!("{url} was taken"),
        Err((code, text)) => format!("{code} {}", text.parse::<Value>().unwrap()["message"].as_str().unwrap()),
    };
    assert_eq!(refused(&format!("{EXEC}&command=cat").replace("web", "nope"), V4).await, "404 pods \"nope\" not found");
    assert!(refused(EXEC, V4).await.contains("at least one command"));
    let silent = "/api/v1/namespaces/default/pods/web/exec?command=cat";
    assert_eq!(refused(silent, V4).await, "400 you must specify at least 1 of stdin, stdout, stderr");
    let odd: &[(&str, &str)] = &[("sec-websocket-protocol", "v9.channel.k8s.io")];
    assert!(refused(&format!("{EXEC}&command=cat"), odd).await.contains("supports [ channel.k8s.io"));
    let plain = desk.ask("POST", &format!("{EXEC}&command=cat"), &[], "").await;
    assert_eq!(plain.refusal(), "400 Upgrade request required");
    let bad = "/api/v1/namespaces/default/pods/web/portforward?ports=80,http";
    assert!(refused(bad, V4).await.contains("\"http\" is no port"));
}

#[tokio::test]
async fn who_may_only_read_runs_no_command() {
    let desk = Desk::with_roles().await;
    let role = |verbs: Value| {
        json!({
            "metadata": {"name": "looker"},
            "rules": [{"apiGroups": [""], "resources": ["pods/exec"], "verbs": verbs}],
        })
    };
    let roles = "/apis/rbac.authorization.k8s.io/v1/clusterroles";
    assert_eq!(desk.ask("POST", roles, &[], &role(json!(["get"])).to_string()).await.code, 201);
    let binding = json!({
        "metadata": {"name": "looker"}, "roleRef": {"kind": "ClusterRole", "name": "looker"},
        "subjects": [{"kind": "User", "name": "ann", "apiGroup": "rbac.authorization.k8s.io"}],
    });
    let bindings = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings";
    let bound = desk.ask("POST", bindings, &[], &binding.to_string()).await;
    assert_eq!(bound.code, 201, "{}", bound.text);
    let ann = || User::new("ann", ["system:authenticated"]);
    let url = format!("{EXEC}&command=cat");
    let refused = desk.dial_as(ann(), &url, V5).await.err().unwrap();
    assert!(refused.0 == 403 && refused.1.contains("cannot create resource"), "{refused:?}");
    let put = desk.ask("PUT", &format!("{roles}/looker"), &[], &role(json!(["get", "create"])).to_string()).await;
    assert_eq!(put.code, 200, "{}", put.text);
    assert!(desk.dial_as(ann(), &url, V5).await.is_ok());
}

/// A client that speaks SPDY.
struct Spdy<S> {
    stream: S,
    peer: SpdyPeer,
}

async fn upgrade(desk: &Desk, url: &str, protocol: &str) -> Spdy<TokioIo<Upgraded>> {
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(desk.connect(admin()))).await.unwrap();
    drop(task::spawn("client", async move { drop(connection.with_upgrades().await) }));
    let request = http::Request::post(url)
        .header("host", "test")
        .header("connection", "Upgrade")
        .header("upgrade", "SPDY/3.1")
        .header("x-stream-protocol-version", protocol)
        .body(Empty::<Bytes>::new())
        .unwrap();
    let response = sender.send_request(request).await.unwrap();
    assert_eq!(response.status(), 101);
    assert_eq!(response.headers()["x-stream-protocol-version"], protocol);
    let stream = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
    Spdy { stream, peer: SpdyPeer::new() }
}

impl<S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin> Spdy<S> {
    async fn open(&mut self, stream: u32, pairs: &[(&str, &str)]) {
        let bytes = self.peer.open(stream, pairs);
        self.stream.write_all(&bytes).await.unwrap();
    }

    async fn data(&mut self, stream: u32, bytes: &[u8], is_last: bool) {
        self.stream.write_all(&SpdyPeer::data(stream, bytes, is_last)).await.unwrap();
    }

    /// What the streams say until all of these have ended.
    async fn hear(&mut self, until: &[u32]) -> BTreeMap<u32, String> {
        let (mut heard, mut ended) = (BTreeMap::<u32, String>::new(), Vec::new());
        while !until.iter().all(|stream| ended.contains(stream)) {
            let mut start = [0; 8];
            self.stream.read_exact(&mut start).await.unwrap();
            let (first, last) = (u32::from_be_bytes(start[..4].try_into().unwrap()), start[4] & 1 == 1);
            let length = u32::from_be_bytes([0, start[5], start[6], start[7]]);
            let mut body = vec![0; length.try_into().unwrap()];
            self.stream.read_exact(&mut body).await.unwrap();
            if first & 0x8000_0000 == 0 {
                heard.entry(first).or_default().push_str(&String::from_utf8(body).unwrap());
                ended.extend(last.then_some(first));
            }
        }
        heard
    }
}

#[tokio::test]
async fn old_clients_run_commands_over_spdy() {
    let desk = Desk::open().await;
    let mut spdy = upgrade(&desk, &format!("{EXEC}&command=cat"), "v4.channel.k8s.io").await;
    for (stream, kind) in [(1, "error"), (3, "stdin"), (5, "stdout"), (7, "stderr")] {
        spdy.open(stream, &[("streamtype", kind)]).await;
    }
    spdy.data(3, b"to the end", true).await;
    let heard = spdy.hear(&[1, 5, 7]).await;
    assert_eq!(heard[&5], "to the end");
    assert_eq!(heard[&1].parse::<Value>().unwrap()["status"], "Success");

    let mut spdy = upgrade(&desk, &format!("{EXEC}&{}", shell(PRINTS_BOTH)), "v2.channel.k8s.io").await;
    for (stream, kind) in [(1, "error"), (3, "stdin"), (5, "stdout"), (7, "stderr")] {
        spdy.open(stream, &[("streamtype", kind)]).await;
    }
    let heard = spdy.hear(&[1, 5, 7]).await;
    assert_eq!((&*heard[&5], &*heard[&7]), ("out\n", "err\n"));
    assert_eq!(heard[&1], "command terminated with non-zero exit code: exit code 3");
}

const FORWARD: &str = "/api/v1/namespaces/default/pods/web/portforward";

async fn forward<S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin>(spdy: &mut Spdy<S>) {
    let pair = |id: &'static str, port: &'static str| {
        ["error", "data"].map(|kind| [("streamtype", kind), ("port", port), ("requestid", id)])
    };
    let [error, data] = pair("0", "81");
    spdy.open(1, &error).await;
    spdy.open(3, &data).await;
    let refused = spdy.hear(&[1, 3]).await;
    assert_eq!(refused[&1], "error forwarding port 81 to pod web, uid : connection refused");
    // Once a connection has come about, one that fails is cut and no more: a client that is told gives up them all.
    for (n, port, says) in [(5, "80", "drawer"), (9, "81", ""), (13, "80", "reward")] {
        let [error, data] = pair(["1", "2", "3"][(n as usize - 5) / 4], port);
        spdy.open(n, &error).await;
        spdy.open(n + 2, &data).await;
        spdy.data(n + 2, says.as_bytes(), false).await;
        let heard = spdy.hear(&[n, n + 2]).await;
        let backwards: String = says.chars().rev().collect();
        assert_eq!((&*heard[&n], &*heard[&(n + 2)]), ("", &*backwards), "{port}");
    }
}

#[tokio::test]
async fn ports_are_forwarded_over_spdy() {
    let desk = Desk::open().await;
    forward(&mut upgrade(&desk, FORWARD, "portforward.k8s.io").await).await;
}

#[tokio::test]
async fn ports_are_forwarded_over_spdy_within_a_websocket() {
    let desk = Desk::open().await;
    let protocol = [("sec-websocket-protocol", "SPDY/3.1+portforward.k8s.io")];
    let socket = desk.dial(FORWARD, &protocol).await.unwrap().socket;
    let (near, far) = tokio::io::duplex(64 * 1024);
    let (mut sink, mut said) = socket.split();
    let (mut reader, mut writer) = tokio::io::split(far);
    drop(task::spawn("out", async move {
        let mut bytes = vec![0; 1000];
        while let Ok(n @ 1..) = reader.read(&mut bytes).await {
            sink.send(Message::Binary(Bytes::copy_from_slice(&bytes[..n]))).await.unwrap();
        }
    }));
    drop(task::spawn("in", async move {
        while let Some(Ok(Message::Binary(bytes))) = said.next().await {
            drop(writer.write_all(&bytes).await);
        }
    }));
    forward(&mut Spdy { stream: near, peer: SpdyPeer::new() }).await;
}

#[tokio::test]
async fn ports_are_forwarded_over_channels() {
    let desk = Desk::open().await;
    let mut socket = desk.dial(&format!("{FORWARD}?ports=80&ports=81"), V4).await.unwrap();
    say(&mut socket, 0, b"drawer").await;
    let mut heard = BTreeMap::<u8, Vec<u8>>::new();
    while heard.get(&0).is_none_or(|bytes| bytes.len() < 8) || heard.get(&3).is_none_or(|bytes| bytes.len() < 3) {
        let bytes = socket.next().await.unwrap().into_data();
        heard.entry(bytes[0]).or_default().extend(&bytes[1..]);
    }
    assert_eq!(heard[&0], b"P\0reward");
    assert_eq!(heard[&3], b"Q\0error forwarding port 81 to pod web, uid : connection refused");
}
