//! Requests that are passed on to pods, whose programs are played here.

use super::*;
use flate2::{Compression, write::GzEncoder};
use futures::SinkExt as _;
use http_body_util::{BodyStream, Either, StreamBody};
use hyper::{
    body::{Frame, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use std::{convert::Infallible, io::Write as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_tungstenite::tungstenite::{Message, handshake::derive_accept_key};

const PAGE: &str =
    "<html><a href=\"/x\">x</a> <img src='http://10.9.0.1:8080/i.png'> <a href=\"https://elsewhere/\"></html>";
const PODS: &str = "/api/v1/namespaces/default/pods";
const SERVICES: &str = "/api/v1/namespaces/default/services";

/// Behind 10.9.0.1:8080 is a program, behind all else is nobody.
pub(super) fn dial(to: PodAddress) -> Result<Box<dyn Duplex>, String> {
    if to.host() != "10.9.0.1:8080" {
        return Err(format!("dial tcp {}: connect: connection refused", to.host()));
    }
    let (near, far) = tokio::io::duplex(1024);
    drop(task::spawn("program", async move {
        let served = http1::Builder::new().serve_connection(TokioIo::new(far), service_fn(program));
        drop(served.with_upgrades().await);
    }));
    Ok(Box::new(near))
}

type Said = Either<Full<Bytes>, StreamBody<BoxStream<'static, Result<Frame<Bytes>, hyper::Error>>>>;

async fn program(mut request: http::Request<Incoming>) -> Result<http::Response<Said>, Infallible> {
    let answer = http::Response::builder();
    let full = |text: &[u8]| Either::Left(Full::new(Bytes::copy_from_slice(text)));
    let made = match request.uri().path() {
        "/page" => answer.header("content-type", "text/html; charset=utf-8").body(full(PAGE.as_bytes())),
        "/packed" => {
            let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
            packed.write_all(PAGE.as_bytes()).unwrap();
            let answer = answer.header("content-type", "text/html").header("content-encoding", "gzip");
            answer.body(full(&packed.finish().unwrap()))
        }
        "/moved" => answer.status(302).header("location", "/page?x=1").body(full(b"")),
        "/refuse" => answer.status(418).body(full(b"no\n")),
        "/socket" => {
            let key = derive_accept_key(request.headers()["sec-websocket-key"].as_bytes());
            let upgrade = hyper::upgrade::on(&mut request);
            drop(task::spawn("socket", async move {
                let mut stream = TokioIo::new(upgrade.await.unwrap());
                let mut said = [0; 4];
                while stream.read_exact(&mut said).await.is_ok() {
                    stream.write_all(&said).await.unwrap();
                }
            }));
            answer
                .status(101)
                .header("connection", "upgrade")
                .header("upgrade", "websocket")
                .header("sec-websocket-accept", key)
                .body(full(b""))
        }
        // The body comes back as it comes.
        "/echo" => {
            answer.body(Either::Right(StreamBody::new(futures::StreamExt::boxed(BodyStream::new(request.into_body())))))
        }
        _ => {
            let headers: serde_json::Map<String, Value> = request
                .headers()
                .iter()
                .map(|(name, value)| (name.to_string(), json!(value.to_str().unwrap())))
                .collect();
            let told =
                json!({ "method": request.method().as_str(), "uri": request.uri().to_string(), "headers": headers });
            answer
                .header("content-type", "application/json")
                .header("access-control-allow-origin", "*")
                .header("connection", "x-mine")
                .header("x-mine", "1")
                .body(full(told.to_string().as_bytes()))
        }
    };
    Ok(made.unwrap())
}

/// A cluster with the pod `web` and two services, of which one has nobody.
async fn desk() -> Desk {
    let desk = Desk::with_roles().await;
    let made = async |url: &str, body: Value| {
        let answer = desk.ask("POST", url, &[], &body.to_string()).await;
        assert_eq!(answer.code, 201, "{}", answer.text);
    };
    let pod = json!({
        "metadata": { "name": "web" },
        "spec": { "containers": [{ "name": "c", "image": "i", "ports": [{ "containerPort": 8080 }] }] },
    });
    made(PODS, pod).await;
    let status = json!({ "status": { "podIP": "10.9.0.1", "podIPs": [{ "ip": "10.9.0.1" }] } }).to_string();
    let merge = [("content-type", "application/merge-patch+json")];
    assert_eq!(desk.ask("PATCH", &format!("{PODS}/web/status"), &merge, &status).await.code, 200);
    for name in ["front", "alone"] {
        let ports = json!([{ "name": "http", "port": 80, "targetPort": 8080 }]);
        made(SERVICES, json!({ "metadata": { "name": name }, "spec": { "ports": ports } })).await;
    }
    let slice = json!({
        "metadata": { "name": "front-1", "labels": { "kubernetes.io/service-name": "front" } },
        "addressType": "IPv4",
        "ports": [{ "name": "http", "port": 8080 }],
        "endpoints": [{ "addresses": ["10.9.0.1"], "targetRef": { "kind": "Pod", "name": "web", "namespace": "default" } }],
    });
    made("/apis/discovery.k8s.io/v1/namespaces/default/endpointslices", slice).await;
    desk
}

#[tokio::test]
async fn a_request_reaches_the_pod_as_it_is() {
    let desk = desk().await;
    let headers = [
        ("host", "api:6443"),
        ("x-own", "1"),
        ("cookie", "a=1"),
        ("cookie", "b=2"),
        ("impersonate-user", "kubernetes-admin"),
        ("impersonate-group", "system:masters"),
        ("sec-websocket-protocol", "base64url.bearer.authorization.k8s.io.abc, mine"),
        ("x-forwarded-for", "1.2.3.4"),
    ];
    for (method, verb) in [("PUT", "PUT"), ("OPTIONS", "OPTIONS"), ("DELETE", "DELETE"), ("PATCH", "PATCH")] {
        let answer = desk.ask(method, &format!("{PODS}/web/proxy/a%2Fb//c/?q=1&q=%20"), &headers, "").await;
        let told = answer.json();
        assert_eq!((answer.code, &told["method"], &told["uri"]), (200, &json!(verb), &json!("/a%2Fb//c/?q=1&q=%20")));
        let want = json!({
            "host": "api:6443", "x-own": "1", "cookie": "a=1; b=2", "sec-websocket-protocol": "mine",
            "x-forwarded-for": "1.2.3.4", "x-forwarded-uri": format!("{PODS}/web/proxy/a%2Fb//c/"),
        });
        let mut got = told["headers"].clone();
        got.as_object_mut().unwrap().retain(|name, _| name != "content-length" && name != "transfer-encoding");
        assert_eq!(got, want);
        assert!(!answer.headers.contains_key("x-mine") && !answer.headers.contains_key("access-control-allow-origin"));
    }
    let of = async |url: &str| desk.get(url).await.json()["uri"].as_str().unwrap().to_owned();
    assert_eq!(of(&format!("{PODS}/web:8080/proxy/")).await, "/");
    assert_eq!(of(&format!("{SERVICES}/front:80/proxy/x?y")).await, "/x?y");
    assert_eq!(of(&format!("{SERVICES}/http:front:http/proxy/x")).await, "/x");
    let root = desk.get(&format!("{PODS}/web/proxy?a=b")).await;
    assert_eq!((root.code, root.headers["location"].to_str().unwrap()), (301, &*format!("{PODS}/web/proxy/?a=b")));
}

#[tokio::test]
async fn links_and_redirects_lead_through_the_server() {
    let desk = desk().await;
    let prefix = format!("{PODS}/web/proxy");
    let want =
        PAGE.replace("\"/x\"", &format!("\"{prefix}/x\"")).replace("http://10.9.0.1:8080/i", &format!("{prefix}/i"));
    for page in ["page", "packed"] {
        let answer = desk.get(&format!("{prefix}/{page}")).await;
        assert_eq!(answer.text, want);
        assert!(!answer.headers.contains_key("content-length") && !answer.headers.contains_key("content-encoding"));
    }
    let moved = desk.get(&format!("{prefix}/moved")).await;
    assert_eq!((moved.code, moved.headers["location"].to_str().unwrap()), (302, &*format!("{prefix}/page?x=1")));
    let head = desk.ask("HEAD", &format!("{prefix}/page"), &[], "").await;
    assert_eq!((head.code, &*head.text), (200, ""));
    let refused = desk.get(&format!("{prefix}/refuse")).await;
    assert_eq!((refused.code, &*refused.text), (418, "no\n"));
}

#[tokio::test]
async fn bodies_pass_as_they_come() {
    let desk = desk().await;
    let (mut say, said) = futures::channel::mpsc::channel::<Result<Frame<Bytes>, Infallible>>(1);
    let request = http::Request::post(format!("{SERVICES}/front:http/proxy/echo")).body(StreamBody::new(said)).unwrap();
    let peer = Peer { user: Some(admin()), address: "10.1.1.1:99".to_owned(), ticket: None, room: None, alive: None };
    let mut body = handle(desk.state.clone(), peer, desk.drain.clone(), request).await.into_body();
    for word in ["one", "two"] {
        say.send(Ok(Frame::data(Bytes::from(word)))).await.unwrap();
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), word);
    }
    // A server that ends does not wait for it.
    desk.trigger.fire();
    assert!(body.frame().await.unwrap().unwrap_err().to_string().contains("shutting down"));
}

#[tokio::test]
async fn a_web_socket_leads_to_the_pod() {
    let desk = desk().await;
    let mut socket = desk.dial(&format!("{PODS}/web/proxy/socket"), &[]).await.unwrap();
    // What the program says back is what it was told: a frame with a mask is none that a client takes, so none is sent.
    let raw = socket.socket.get_mut();
    raw.write_all(b"ping").await.unwrap();
    let mut heard = [0; 4];
    raw.read_exact(&mut heard).await.unwrap();
    assert_eq!(&heard, b"ping");
    drop(socket.socket.send(Message::Close(None)).await);
    let (code, text) = desk.dial(&format!("{PODS}/web/proxy/refuse"), &[]).await.err().unwrap();
    assert_eq!((code, &*text), (418, "no\n"));
}

#[tokio::test]
async fn who_does_not_answer_is_named_in_kubernetes_words() {
    let desk = desk().await;
    for (url, want) in [
        ("pods/none/proxy/", "404 pods \"none\" not found"),
        ("services/none/proxy/", "404 services \"none\" not found"),
        ("services/alone:http/proxy/", "503 no endpoints available for service \"alone:http\""),
        ("services/front/proxy/", "503 no endpoints available for service \"front\""),
        ("services/front:81/proxy/", "503 no service port 81 found for service \"front\""),
        ("services/ftp:front:21/proxy/", "400 invalid service request \"ftp:front:21\""),
        ("pods/web:9/proxy/", "503 error trying to reach service: dial tcp 10.9.0.1:9: connect: connection refused"),
    ] {
        assert_eq!(desk.get(&format!("/api/v1/namespaces/default/{url}")).await.refusal(), want, "{url}");
    }
    let slashed = desk.get("/api/v1/namespaces/default/pods%2Fweb/proxy/x/y").await;
    assert_eq!(slashed.code, 400, "{}", slashed.text);
}

#[tokio::test]
async fn who_may_read_pods_may_not_speak_with_them() {
    let desk = desk().await;
    let headers = [("impersonate-user", "jane")];
    let role = json!({
        "metadata": { "name": "jane", "namespace": "default" }, "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "system:aggregate-to-view" },
        "subjects": [{ "kind": "User", "name": "jane", "apiGroup": "rbac.authorization.k8s.io" }],
    });
    let bindings = "/apis/rbac.authorization.k8s.io/v1/namespaces/default/rolebindings";
    assert_eq!(desk.ask("POST", bindings, &[], &role.to_string()).await.code, 201);
    assert_eq!(desk.ask("GET", &format!("{PODS}/web"), &headers, "").await.code, 200);
    let refused = desk.ask("GET", &format!("{PODS}/web/proxy/"), &headers, "").await;
    assert!(refused.refusal().contains("cannot get resource \"pods/proxy\""), "{}", refused.text);
}
