//! Streams over WebSocket, judged by a client of others over a connection in memory.

use super::*;
use hyper_util::rt::TokioIo;
use tokio::io::DuplexStream;
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{Error, Message, client::IntoClientRequest as _},
};

impl Desk {
    /// A connection of somebody.
    pub(super) fn connect(&self, user: User) -> DuplexStream {
        let (client, server) = tokio::io::duplex(64 * 1024);
        let (state, drain) = (self.state.clone(), self.drain.clone());
        drop(task::spawn("http connection", async move {
            let peer = Peer { user: Some(user), address: "test".to_owned(), ticket: None, room: None, alive: None };
            let service = hyper::service::service_fn(move |request| {
                let answer = handle(state.clone(), peer.clone(), drain.clone(), request);
                async move { Ok::<_, std::convert::Infallible>(answer.await) }
            });
            let connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(server), service);
            drop(connection.with_upgrades().await);
        }));
        client
    }

    /// Opens a WebSocket, or tells why not.
    pub(super) async fn dial(&self, url: &str, headers: &[(&'static str, &str)]) -> Result<Socket, (u16, String)> {
        self.dial_as(admin(), url, headers).await
    }

    /// [`Desk::dial`] of somebody.
    pub(super) async fn dial_as(
        &self,
        user: User,
        url: &str,
        headers: &[(&'static str, &str)],
    ) -> Result<Socket, (u16, String)> {
        let client = self.connect(user);
        let mut request = format!("ws://test{url}").into_client_request().unwrap();
        for (name, value) in headers {
            request.headers_mut().insert(*name, value.parse().unwrap());
        }
        match client_async(request, client).await {
            Ok((socket, response)) => {
                let protocol = response.headers().get("sec-websocket-protocol").map(|p| p.to_str().unwrap().to_owned());
                Ok(Socket { socket, protocol })
            }
            Err(Error::Http(response)) => {
                let text = String::from_utf8(response.body().clone().unwrap_or_default()).unwrap();
                Err((response.status().as_u16(), text))
            }
            Err(err) => panic!("{err}"),
        }
    }
}

pub(super) struct Socket {
    pub(super) socket: WebSocketStream<DuplexStream>,
    protocol: Option<String>,
}

impl Socket {
    pub(super) fn protocol(&self) -> Option<&str> {
        self.protocol.as_deref()
    }

    pub(super) async fn next(&mut self) -> Option<Message> {
        match self.socket.next().await? {
            Ok(Message::Close(_)) => None,
            other => Some(other.unwrap()),
        }
    }

    async fn line(&mut self) -> String {
        let Some(Message::Text(text)) = self.next().await else { return "end".to_owned() };
        let event: Value = serde_json::from_str(&text).unwrap();
        format!("{} {}", event["type"].as_str().unwrap(), event["object"]["metadata"]["name"].as_str().unwrap_or("-"))
    }
}

const WATCH: &str = "/api/v1/namespaces/default/configmaps?watch=true";

#[tokio::test]
async fn a_watch_sends_a_message_for_each_event() {
    let desk = Desk::open().await;
    desk.config_map("a", json!({})).await;
    desk.config_map("b", json!({})).await;
    let mut socket = desk.dial(WATCH, &[("sec-websocket-protocol", "anything")]).await.unwrap();
    assert_eq!(socket.protocol.as_deref(), Some("anything"));
    assert_eq!((socket.line().await, socket.line().await), ("ADDED a".to_owned(), "ADDED b".to_owned()));
    desk.delete("a").await;
    assert_eq!(socket.line().await, "DELETED a");
    let large: ConfigMap = serde_json::from_value(json!({
        "metadata": { "name": "large", "namespace": "default" }, "data": { "k": "\u{e9}".repeat(60_000) },
    }))
    .unwrap();
    desk.registry.api::<ConfigMaps>().create(large).await.unwrap();
    assert_eq!(socket.line().await, "ADDED large", "a message in several frames");
    let metrics = desk.get("/metrics").await.text;
    assert!(metrics.contains("apiserver_longrunning_requests{verb=\"WATCH\"} 1"), "{metrics}");
    drop(socket);
}

#[tokio::test]
async fn a_watch_in_protobuf_sends_bytes() {
    let desk = Desk::open().await;
    desk.config_map("a", json!({})).await;
    let accept = "application/vnd.kubernetes.protobuf;stream=watch";
    let mut socket = desk.dial(WATCH, &[("accept", accept)]).await.unwrap();
    let Some(Message::Binary(frame)) = socket.next().await else { panic!("no bytes") };
    assert_eq!(protobuf::event(&frame), "ADDED ConfigMap a");
}

#[tokio::test]
async fn a_watch_ends_with_its_time_with_the_server_and_with_its_client() {
    let desk = Desk::open().await;
    let mut short = desk.dial(&format!("{WATCH}&timeoutSeconds=1"), &[]).await.unwrap();
    assert_eq!(short.line().await, "end");
    let mut long = desk.dial(WATCH, &[]).await.unwrap();
    let mut left = desk.dial(WATCH, &[]).await.unwrap();
    left.socket.close(None).await.unwrap();
    assert_eq!(left.line().await, "end");
    desk.trigger.fire();
    assert_eq!(long.line().await, "end");
}

#[tokio::test]
async fn what_is_wrong_is_a_status_and_no_socket() {
    let desk = Desk::open().await;
    let (code, text) = desk.dial("/api/v1/namespaces/default/things?watch=true", &[]).await.err().unwrap();
    assert_eq!(code, 404, "{text}");
    let two = [("sec-websocket-protocol", "a, b")];
    let (code, text) = desk.dial(WATCH, &two).await.err().unwrap();
    assert_eq!(code, 400);
    assert!(text.contains("offer one Sec-WebSocket-Protocol"), "{text}");
    let bare = desk.ask("GET", WATCH, &[("connection", "Upgrade"), ("upgrade", "websocket")], "").await;
    assert_eq!(bare.refusal(), "400 unable to upgrade to a WebSocket: Sec-WebSocket-Version must be 13");
}

#[tokio::test]
async fn a_log_comes_as_bytes_or_as_base64() {
    let desk = Desk::open().await;
    desk.pod("p").await;
    let url = "/api/v1/namespaces/default/pods/p/log?tailLines=3";
    for (protocol, want) in [
        (None, Message::Binary("default/p  Some(3)\n".into())),
        (Some("binary.k8s.io"), Message::Binary("default/p  Some(3)\n".into())),
        (Some("base64.binary.k8s.io"), Message::Text("ZGVmYXVsdC9wICBTb21lKDMpCg==".into())),
    ] {
        let headers: Vec<_> = protocol.map(|p| ("sec-websocket-protocol", p)).into_iter().collect();
        let mut socket = desk.dial(url, &headers).await.unwrap();
        assert_eq!(socket.protocol.as_deref(), protocol);
        assert!(socket.next().await.unwrap().is_empty(), "an empty message says that bytes will come");
        assert_eq!(socket.next().await, Some(want));
        assert_eq!(socket.next().await, None);
    }
    let (code, text) = desk.dial(url, &[("sec-websocket-protocol", "v9.x")]).await.err().unwrap();
    assert_eq!(code, 400);
    assert!(text.contains("requested protocol(s) are not supported: [v9.x]"), "{text}");
}
