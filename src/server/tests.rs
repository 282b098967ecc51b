//! The server as clients see it: single requests without a socket, and a real TLS listener judged by the `kube` client.

use super::{
    ServerState,
    handle::{Peer, handle},
    health::ReadyReport,
    serve::serve,
    tls,
};
use crate::{
    api::{
        kinds::{config_map::ConfigMaps, event::Events, pod::Pods},
        meta::ObjectKey,
        status::ApiError,
        timeline::{Timeline, Whose},
        usage::{MachineUsage, PodUsage},
    },
    base::{
        clock::Clock,
        duplex::Duplex,
        task::{self, Drain, DrainTrigger},
        traffic::{Flow, InterfaceUsage},
    },
    engine::EngineError,
    identity::{User, roles},
    node::{
        local_images::LocalImages,
        streams::{Connected, LogQuery, PodAddress, PodPorts, PodStreams, Running, Session},
        usage::Usages,
    },
    registry::{Registry, pipeline::DeleteOptions},
    testing,
};
use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream, stream::BoxStream};
use http::{HeaderMap, Method};
use http_body_util::{BodyExt as _, Full};
use k8s_openapi::api::core::v1::{ConfigMap, Event, Pod};
use serde_json::{Value, json};
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

mod added_kinds;
mod apply;
mod conversations;
mod deployment_config;
mod every_kind;
mod fuzz;
mod identity;
mod images;
mod metrics;
mod projects;
mod protobuf;
mod proxy;
mod routes;
mod traffic;
mod websocket;

/// A log that repeats what was asked for.
struct EchoStreams;

#[async_trait]
impl PodStreams for EchoStreams {
    async fn logs(
        &self,
        pod: &ObjectKey,
        query: &LogQuery,
    ) -> Result<BoxStream<'static, Result<Bytes, std::io::Error>>, ApiError> {
        let first = Bytes::from(format!("{pod} {} {:?}\n", query.container, query.tail_lines));
        let rest = if query.follow { stream::pending().boxed() } else { stream::empty().boxed() };
        Ok(stream::once(async { Ok(first) }).chain(rest).boxed())
    }

    async fn dial(&self, to: PodAddress) -> Result<Box<dyn Duplex>, String> {
        proxy::dial(to)
    }

    fn timeline(&self, pod: &ObjectKey) -> Result<Timeline, ApiError> {
        let metadata = Whose { namespace: pod.namespace.clone(), name: pod.name.clone(), uid: "u".to_owned() };
        Ok(Timeline { metadata, ..Timeline::default() })
    }

    fn find(&self, pod: &ObjectKey, container: &str) -> Result<Running, ApiError> {
        conversations::find(pod, container)
    }

    async fn exec(&self, on: &Running, command: &[String], connected: Connected) -> Result<Session, EngineError> {
        conversations::exec(on, command, connected).await
    }

    async fn attach(&self, to: &Running, connected: Connected) -> Result<Session, EngineError> {
        conversations::attach(to, connected).await
    }

    async fn ports(&self, pod: &ObjectKey) -> Result<Arc<dyn PodPorts>, ApiError> {
        conversations::ports(pod)
    }
}

/// Pods use what the test says.
#[derive(Default)]
struct KnownUsages(Mutex<Vec<PodUsage>>);

#[async_trait]
impl Usages for KnownUsages {
    async fn pods(&self) -> Result<Vec<PodUsage>, ApiError> {
        Ok(self.0.lock().unwrap().clone())
    }

    async fn machine(&self) -> Result<MachineUsage, ApiError> {
        let flow = Flow { bytes: 7, packets: 2, errors: 1, dropped: 0 };
        let eth0 = InterfaceUsage { received: flow, sent: flow };
        let interfaces =
            self.0.lock().unwrap().iter().map(|pod| (pod.uid.clone(), [("eth0".to_owned(), eth0)].into())).collect();
        Ok(MachineUsage { interfaces, disk_bytes: 100, disk_free_bytes: 40 })
    }
}

/// A node that has no images, whose pods use nothing, and whose logs repeat what was asked for.
pub(super) fn node() -> (Arc<dyn PodStreams>, Arc<dyn LocalImages>, Arc<dyn Usages>) {
    (Arc::new(EchoStreams), Arc::new(images::KnownImages::default()), Arc::new(KnownUsages::default()))
}

/// A server without a socket.
struct Desk {
    state: ServerState,
    registry: Registry,
    /// The engine's images, as the test has them.
    images: Arc<images::KnownImages>,
    usages: Arc<KnownUsages>,
    drain: Drain,
    trigger: DrainTrigger,
}

/// An answer that was read to its end.
#[derive(Debug)]
struct Answer {
    code: u16,
    headers: HeaderMap,
    text: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|err| panic!("{err}: {}", self.text))
    }

    /// The code and the message of a `Status`.
    fn refusal(&self) -> String {
        format!("{} {}", self.code, self.json()["message"].as_str().unwrap_or_default())
    }
}

impl Desk {
    async fn open() -> Self {
        let registry = testing::registry().await;
        let ready = Arc::new(|| ReadyReport::default().with("store", Ok(())));
        let tokens = testing::tokens(&registry);
        let images = Arc::new(images::KnownImages::default());
        let usages = Arc::new(KnownUsages::default());
        let node: (Arc<dyn PodStreams>, Arc<dyn LocalImages>, Arc<dyn Usages>) =
            (Arc::new(EchoStreams), Arc::clone(&images) as Arc<_>, Arc::clone(&usages) as Arc<_>);
        let state = ServerState::new(registry.clone(), tokens, node, ready, Arc::new(String::new));
        let (trigger, drain) = task::drain_signal();
        Self { state, registry, images, usages, drain, trigger }
    }

    /// [`Desk::open`], with the roles that every cluster has.
    async fn with_roles() -> Self {
        let desk = Self::open().await;
        let namespace = json!({ "metadata": { "name": "kube-public" } }).to_string();
        assert_eq!(desk.ask("POST", "/api/v1/namespaces", &[], &namespace).await.code, 201);
        roles::reconcile(&desk.registry).await.unwrap();
        desk
    }

    async fn send(
        &self,
        user: Option<User>,
        method: &str,
        url: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> super::respond::Response {
        self.send_bytes(user, method, url, headers, body.to_owned().into()).await
    }

    async fn send_bytes(
        &self,
        user: Option<User>,
        method: &str,
        url: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> super::respond::Response {
        let mut request = http::Request::builder().method(Method::from_bytes(method.as_bytes()).unwrap()).uri(url);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(body)).unwrap();
        let peer = Peer { user, address: "test".to_owned(), ticket: None, room: None, alive: None };
        handle(self.state.clone(), peer, self.drain.clone(), request).await
    }

    async fn ask(&self, method: &str, url: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        self.ask_by(Some(admin()), method, url, headers, body).await
    }

    async fn ask_by(
        &self,
        user: Option<User>,
        method: &str,
        url: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Answer {
        let (head, body) = self.send(user, method, url, headers, body).await.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        Answer { code: head.status.as_u16(), headers: head.headers, text: String::from_utf8(bytes.to_vec()).unwrap() }
    }

    async fn get(&self, url: &str) -> Answer {
        self.ask("GET", url, &[], "").await
    }

    async fn watch(&self, url: &str, headers: &[(&str, &str)]) -> Lines {
        let response = self.send(Some(admin()), "GET", url, headers, "").await;
        assert_eq!(response.status(), 200, "{url}");
        Lines { body: response.into_body(), text: String::new() }
    }

    async fn config_map(&self, name: &str, labels: Value) -> String {
        let map: ConfigMap =
            serde_json::from_value(json!({ "metadata": { "name": name, "namespace": "default", "labels": labels } }))
                .unwrap();
        let made = self.registry.api::<ConfigMaps>().create(map).await.unwrap();
        made.metadata.resource_version.clone().unwrap()
    }

    async fn label(&self, name: &str, key: &str, value: &str) -> String {
        let change = |c: &mut ConfigMap| {
            c.metadata.labels.get_or_insert_default().insert(key.to_owned(), value.to_owned());
        };
        let made = self.registry.api::<ConfigMaps>().modify(&ObjectKey::new("default", name), change).await.unwrap();
        made.metadata.resource_version.clone().unwrap()
    }

    async fn delete(&self, name: &str) {
        let key = ObjectKey::new("default", name);
        self.registry.api::<ConfigMaps>().delete(&key, &DeleteOptions::default()).await.unwrap();
    }

    async fn pod(&self, name: &str) {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": { "name": name, "namespace": "default" },
            "spec": { "containers": [{ "name": "main", "image": "busybox" }] },
        }))
        .unwrap();
        self.registry.api::<Pods>().create(pod).await.unwrap();
    }
}

fn admin() -> User {
    User::new("kubernetes-admin", ["system:masters"])
}

/// The events of a watch.
struct Lines {
    body: super::respond::Body,
    text: String,
}

impl Lines {
    async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some((line, rest)) = self.text.split_once('\n') {
                let event = serde_json::from_str(line).unwrap();
                self.text = rest.to_owned();
                return Some(event);
            }
            let frame = self.body.frame().await?.unwrap();
            self.text.push_str(std::str::from_utf8(frame.data_ref().unwrap()).unwrap());
        }
    }

    /// `TYPE name revision`.
    async fn line(&mut self) -> String {
        match self.next().await {
            None => "end".to_owned(),
            Some(event) => {
                let meta = &event["object"]["metadata"];
                let text = |v: &Value| v.as_str().unwrap_or("-").to_owned();
                format!("{} {} {}", text(&event["type"]), text(&meta["name"]), text(&meta["resourceVersion"]))
            }
        }
    }
}

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

#[tokio::test]
async fn an_object_is_read_and_what_is_missing_is_404() {
    let desk = Desk::open().await;
    desk.config_map("a", json!({})).await;
    let got = desk.get(&format!("{MAPS}/a")).await;
    assert_eq!((got.code, got.json()["metadata"]["name"].as_str()), (200, Some("a")));
    assert_eq!(got.json()["kind"], "ConfigMap");
    assert_eq!(desk.get(&format!("{MAPS}/b")).await.refusal(), "404 configmaps \"b\" not found");
    assert_eq!(
        desk.get(&format!("{MAPS}/a?resourceVersion=999")).await.refusal(),
        "504 Timeout: Too large resource version: 999, current: 3"
    );
}

#[tokio::test]
async fn paths_that_no_kind_has_are_refused() {
    let desk = Desk::open().await;
    let missing = "404 the server could not find the requested resource";
    let not_allowed = "405 the server does not allow this method on the requested resource";
    for (method, url, want) in [
        ("GET", "/api/v1/namespaces/default/nothings", missing),
        ("GET", "/apis/apps/v9/deployments", missing),
        ("GET", "/api/v1/namespaces/default/nodes", missing),
        ("GET", "/api/v1/configmaps/a", missing),
        (
            "GET",
            "/apis/apiregistration.k8s.io/v1/apiservices",
            "404 skiff does not serve apiservices.apiregistration.k8s.io yet",
        ),
        ("GET", "/apis/example.com/v1/jobs", missing),
        ("GET", "/nothing", missing),
        ("GET", "/api/v1/namespaces/default/configmaps/a/status", missing),
        ("GET", "/api/v1/namespaces/default/pods/p/exec/x", missing),
        ("GET", "/api/v1/pods/p/proxy/x", missing),
        ("GET", "/api/v1/watch/namespaces/default/pods/p/proxy/x", not_allowed),
        ("POST", "/api/v1/namespaces/default/pods/p/resize", not_allowed),
        ("POST", "/api/v1/configmaps", not_allowed),
        ("DELETE", "/api/v1/configmaps", not_allowed),
        ("PUT", "/api/v1/namespaces/default/configmaps", not_allowed),
        ("POST", "/api/v1/namespaces/default/configmaps/a", not_allowed),
        ("POST", "/version", not_allowed),
        ("OPTIONS", "/api/v1/pods", not_allowed),
    ] {
        assert_eq!(desk.ask(method, url, &[], "").await.refusal(), want, "{method} {url}");
    }
}

#[tokio::test]
async fn a_list_comes_in_pages_that_show_one_revision() {
    let desk = Desk::open().await;
    for name in ["a", "b", "c", "d"] {
        desk.config_map(name, json!({ "n": name })).await;
    }
    let names = |list: &Value| {
        list["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|i| i["metadata"]["name"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    let first = desk.get(&format!("{MAPS}?limit=2")).await.json();
    assert_eq!(names(&first), ["a", "b"]);
    assert_eq!(first["metadata"]["remainingItemCount"], 2);
    let token = first["metadata"]["continue"].as_str().unwrap().to_owned();
    // What happens between two pages does not show.
    desk.delete("c").await;
    desk.config_map("e", json!({})).await;
    desk.label("d", "n", "changed").await;
    let second = desk.get(&format!("{MAPS}?limit=5&continue={token}")).await.json();
    assert_eq!(names(&second), ["c", "d"]);
    assert_eq!(second["items"][1]["metadata"]["labels"]["n"], "d");
    assert_eq!(second["metadata"]["resourceVersion"], first["metadata"]["resourceVersion"]);
    assert_eq!(second["metadata"].get("continue"), None);
    let now = desk.get(MAPS).await;
    assert_eq!(names(&now.json()), ["a", "b", "d", "e"]);
    assert_eq!(now.headers["content-length"], now.text.len().to_string());
    let selected = desk.get(&format!("{MAPS}?labelSelector=n%21%3Da&limit=1")).await.json();
    assert_eq!(names(&selected), ["b"]);
    assert_eq!(selected["metadata"].get("remainingItemCount"), None);
    let whole = desk.get(&format!("{MAPS}?limit=1&resourceVersion=0")).await.json();
    assert_eq!(names(&whole).len(), 4);
}

#[tokio::test]
async fn a_list_can_show_the_past() {
    let desk = Desk::open().await;
    let then = desk.config_map("a", json!({})).await;
    desk.config_map("b", json!({})).await;
    desk.delete("a").await;
    let exact = desk.get(&format!("{MAPS}?resourceVersion={then}&resourceVersionMatch=Exact")).await.json();
    assert_eq!(exact["items"][0]["metadata"]["name"], "a");
    assert_eq!(exact["items"].as_array().unwrap().len(), 1);
    assert_eq!(exact["metadata"]["resourceVersion"], then);
    let newer = desk.get(&format!("{MAPS}?resourceVersion={then}&resourceVersionMatch=NotOlderThan")).await.json();
    assert_eq!(newer["items"][0]["metadata"]["name"], "b");
    assert_eq!(
        desk.get(&format!("{MAPS}?resourceVersion=77")).await.refusal(),
        "504 Timeout: Too large resource version: 77, current: 5"
    );
}

#[tokio::test]
async fn a_list_takes_the_form_that_the_client_wants() {
    let desk = Desk::open().await;
    desk.config_map("a", json!({})).await;
    let accept = |text| [("accept", text)];
    let table = desk.ask("GET", MAPS, &accept("application/json;as=Table;v=v1;g=meta.k8s.io"), "").await.json();
    assert_eq!((&table["kind"], &table["rows"][0]["cells"][0]), (&json!("Table"), &json!("a")));
    let one =
        desk.ask("GET", &format!("{MAPS}/a"), &accept("application/json;as=Table;v=v1;g=meta.k8s.io"), "").await.json();
    assert_eq!((&one["kind"], &one["rows"][0]["cells"][0]), (&json!("Table"), &json!("a")));
    let meta = desk
        .ask("GET", MAPS, &accept("application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"), "")
        .await
        .json();
    assert_eq!(meta["items"][0]["kind"], "PartialObjectMetadata");
    let yaml = desk.ask("GET", MAPS, &accept("application/yaml"), "").await;
    assert!(yaml.text.contains("kind: ConfigMapList\n"), "{}", yaml.text);
    let pretty = desk.get(&format!("{MAPS}?pretty=true")).await;
    assert!(pretty.text.starts_with("{\n  \"kind\": \"ConfigMapList\",\n"), "{}", pretty.text);
    assert_eq!(pretty.json()["items"][0]["metadata"]["name"], "a");
    let none = desk.ask("GET", MAPS, &accept("application/xml"), "").await;
    assert_eq!(
        none.refusal(),
        "406 only the following media types are accepted: application/json, application/yaml, application/vnd.kubernetes.protobuf"
    );
    let partial = accept("application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io");
    assert_eq!(
        desk.ask("GET", MAPS, &partial, "").await.refusal(),
        "406 you requested PartialObjectMetadata, but the requested object is a list"
    );
    assert_eq!(desk.ask("GET", &format!("{MAPS}/a"), &partial, "").await.json()["kind"], "PartialObjectMetadata");
    assert_eq!(desk.get(&format!("{MAPS}?timeoutSeconds=abc")).await.code, 400);
}

#[tokio::test]
async fn a_view_shows_what_another_kind_stores() {
    let desk = Desk::open().await;
    let event: Event = serde_json::from_value(json!({
        "metadata": { "name": "e", "namespace": "default" }, "message": "hello", "reason": "R", "type": "Normal",
        "involvedObject": { "kind": "Pod", "name": "p", "namespace": "default" },
    }))
    .unwrap();
    desk.registry.api::<Events>().create(event).await.unwrap();
    let got = desk.get("/apis/events.k8s.io/v1/namespaces/default/events/e").await.json();
    assert_eq!(got["apiVersion"], "events.k8s.io/v1");
    let list = desk.get("/apis/events.k8s.io/v1/events").await.json();
    assert_eq!(list["items"][0]["apiVersion"], "events.k8s.io/v1");
    let core = desk.get("/api/v1/events").await.json();
    assert_eq!(core["items"][0]["message"], "hello");
}

#[tokio::test(start_paused = true)]
async fn a_watch_begins_with_what_is_there_and_goes_on_with_what_comes() {
    let desk = Desk::open().await;
    desk.config_map("a", json!({})).await;
    let mut events = desk.watch(&format!("{MAPS}?watch=true"), &[]).await;
    assert_eq!(events.line().await, "ADDED a 3");
    desk.config_map("b", json!({})).await;
    assert_eq!(events.line().await, "ADDED b 4");
    desk.label("a", "x", "y").await;
    assert_eq!(events.line().await, "MODIFIED a 5");
    desk.delete("a").await;
    assert_eq!(events.line().await, "DELETED a 6");
    let mut later = desk.watch(&format!("{MAPS}?watch=true&resourceVersion=4"), &[]).await;
    assert_eq!(later.line().await, "MODIFIED a 5");
    assert_eq!(later.line().await, "DELETED a 6");
    let mut legacy = desk.watch("/api/v1/watch/namespaces/default/configmaps/b", &[]).await;
    assert_eq!(legacy.line().await, "ADDED b 4");
    desk.config_map("c", json!({})).await;
    desk.delete("b").await;
    assert_eq!(legacy.line().await, "DELETED b 8");
}

#[tokio::test(start_paused = true)]
async fn what_leaves_a_selection_is_deleted_and_what_comes_in_is_added() {
    let desk = Desk::open().await;
    desk.config_map("a", json!({ "app": "x" })).await;
    let mut events = desk.watch(&format!("{MAPS}?watch=true&labelSelector=app%3Dx"), &[]).await;
    assert_eq!(events.line().await, "ADDED a 3");
    desk.label("a", "app", "y").await;
    let gone = events.next().await.unwrap();
    assert_eq!((&gone["type"], &gone["object"]["metadata"]["labels"]["app"]), (&json!("DELETED"), &json!("x")));
    assert_eq!(gone["object"]["metadata"]["resourceVersion"], "4");
    desk.label("a", "other", "1").await;
    desk.label("a", "app", "x").await;
    assert_eq!(events.line().await, "ADDED a 6");
    let mut named =
        desk.watch(&format!("{MAPS}?watch=true&fieldSelector=metadata.name%3Db&resourceVersion=6"), &[]).await;
    desk.config_map("b", json!({})).await;
    assert_eq!(named.line().await, "ADDED b 7");
}

#[tokio::test(start_paused = true)]
async fn a_streaming_list_ends_with_a_bookmark_that_says_so() {
    let desk = Desk::open().await;
    desk.config_map("a", json!({})).await;
    desk.pod("p").await;
    let url =
        format!("{MAPS}?watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true");
    let mut events = desk.watch(&url, &[]).await;
    assert_eq!(events.line().await, "ADDED a 3");
    let bookmark = events.next().await.unwrap();
    assert_eq!(bookmark["type"], "BOOKMARK");
    assert_eq!(bookmark["object"]["kind"], "ConfigMap");
    assert_eq!(bookmark["object"]["metadata"]["resourceVersion"], "4");
    assert_eq!(bookmark["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
    let mut quiet =
        desk.watch(&format!("{MAPS}?watch=true&sendInitialEvents=false&resourceVersionMatch=NotOlderThan"), &[]).await;
    desk.config_map("b", json!({})).await;
    assert_eq!(quiet.line().await, "ADDED b 5");
    assert_eq!(events.line().await, "ADDED b 5");
    let refused = desk.get(&format!("{MAPS}?watch=true&sendInitialEvents=true")).await;
    assert_eq!(refused.code, 422);
    let future = desk.get(&format!("{url}&resourceVersion=99")).await;
    assert_eq!(future.refusal(), "504 Timeout: Too large resource version: 99, current: 5");
    assert_eq!(future.json()["details"]["causes"][0]["reason"], "ResourceVersionTooLarge");
    assert_eq!(future.headers["retry-after"], "1");
}

#[tokio::test(start_paused = true)]
async fn bookmarks_come_each_minute_and_at_the_end() {
    let desk = Desk::open().await;
    let mut events = desk
        .watch(&format!("{MAPS}?watch=true&allowWatchBookmarks=true&timeoutSeconds=90&resourceVersion=2"), &[])
        .await;
    desk.pod("p").await;
    let started = tokio::time::Instant::now();
    // The pod's revision shows that nothing of the config maps was missed until then.
    assert_eq!(events.line().await, "BOOKMARK - 3");
    assert_eq!(started.elapsed().as_secs(), 60);
    assert_eq!(events.line().await, "BOOKMARK - 3");
    assert_eq!(started.elapsed().as_secs(), 90);
    assert_eq!(events.line().await, "end");
    let mut plain = desk.watch(&format!("{MAPS}?watch=true&resourceVersion=2"), &[]).await;
    assert_eq!(plain.line().await, "end");
    assert!((1800..3600).contains(&(started.elapsed().as_secs() - 90)), "{:?}", started.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_watch_from_a_forgotten_revision_is_told_so() {
    let desk = Desk::open().await;
    desk.config_map("a", json!({})).await;
    for n in 0..10_050 {
        desk.label("a", "n", &n.to_string()).await;
    }
    let mut events = desk.watch(&format!("{MAPS}?watch=true&resourceVersion=3"), &[]).await;
    let error = events.next().await.unwrap();
    assert_eq!(
        (&error["type"], &error["object"]["code"], &error["object"]["reason"]),
        (&json!("ERROR"), &json!(410), &json!("Expired"))
    );
    let message = error["object"]["message"].as_str().unwrap();
    assert!(message.starts_with("too old resource version: 3 ("), "{message}");
    assert_eq!(events.line().await, "end");
    let list = desk.get(&format!("{MAPS}?resourceVersion=3&resourceVersionMatch=Exact")).await;
    assert_eq!(list.refusal(), "410 The resourceVersion for the provided list is too old.");
}

#[tokio::test(start_paused = true)]
async fn a_page_comes_from_the_same_list_for_five_minutes_whatever_is_written() {
    let desk = Desk::open().await;
    for name in ["a", "b", "c", "d"] {
        desk.config_map(name, json!({})).await;
    }
    let first = desk.get(&format!("{MAPS}?limit=1")).await.json();
    let token = |page: &Value| page["metadata"]["continue"].as_str().unwrap().to_owned();
    for n in 0..10_050 {
        desk.label("c", "n", &n.to_string()).await;
    }
    desk.send(Some(admin()), "DELETE", &format!("{MAPS}/b"), &[], "").await;
    tokio::time::sleep(Duration::from_mins(5)).await;
    let second = desk.get(&format!("{MAPS}?limit=1&continue={}", token(&first))).await.json();
    tokio::time::sleep(Duration::from_mins(5)).await;
    let rest = desk.get(&format!("{MAPS}?limit=5&continue={}", token(&second))).await.json();
    let names = |page: &Value| -> Vec<String> {
        page["items"].as_array().unwrap().iter().map(|m| m["metadata"]["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!([names(&first), names(&second), names(&rest)].concat(), ["a", "b", "c", "d"]);
    assert_eq!(rest["items"][0]["metadata"]["labels"]["n"], Value::Null);
    let revision = |page: &Value| page["metadata"]["resourceVersion"].clone();
    assert_eq!((revision(&second), revision(&rest)), (revision(&first), revision(&first)));
}

#[tokio::test(start_paused = true)]
async fn an_expired_page_says_how_to_go_on() {
    let desk = Desk::open().await;
    for name in ["a", "b", "c"] {
        desk.config_map(name, json!({})).await;
    }
    let first = desk.get(&format!("{MAPS}?limit=1")).await.json();
    let token = first["metadata"]["continue"].as_str().unwrap();
    for n in 0..10_050 {
        desk.label("c", "n", &n.to_string()).await;
    }
    tokio::time::sleep(Duration::from_mins(6)).await;
    let expired = desk.get(&format!("{MAPS}?limit=1&continue={token}")).await;
    assert_eq!((expired.code, &expired.json()["reason"]), (410, &json!("Expired")));
    assert!(expired.refusal().contains("use the continue token in this response"), "{}", expired.text);
    let token = expired.json()["metadata"]["continue"].as_str().unwrap().to_owned();
    let second = desk.get(&format!("{MAPS}?limit=1&continue={token}")).await.json();
    assert_eq!(second["items"][0]["metadata"]["name"], "b");
    let token = second["metadata"]["continue"].as_str().unwrap();
    let third = desk.get(&format!("{MAPS}?limit=1&continue={token}")).await.json();
    assert_eq!((&third["items"][0]["metadata"]["name"], &third["metadata"]["continue"]), (&json!("c"), &Value::Null));
    assert_eq!(third["metadata"]["resourceVersion"], second["metadata"]["resourceVersion"]);
}

#[tokio::test(start_paused = true)]
async fn a_table_watch_says_its_columns_once() {
    let desk = Desk::open().await;
    desk.config_map("a", json!({})).await;
    let accept = [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")];
    let mut events = desk.watch(&format!("{MAPS}?watch=true"), &accept).await;
    let first = events.next().await.unwrap();
    assert_eq!(first["object"]["kind"], "Table");
    assert_eq!(first["object"]["columnDefinitions"][0]["name"], "Name");
    desk.label("a", "x", "y").await;
    let second = events.next().await.unwrap();
    assert_eq!((&second["type"], &second["object"]["columnDefinitions"]), (&json!("MODIFIED"), &json!([])));
    assert_eq!(second["object"]["rows"][0]["cells"][0], "a");
}

#[tokio::test(start_paused = true)]
async fn a_drain_ends_watches_and_logs() {
    let desk = Desk::open().await;
    desk.pod("p").await;
    let mut events = desk.watch(&format!("{MAPS}?watch=true&allowWatchBookmarks=true&resourceVersion=3"), &[]).await;
    let log = desk.send(Some(admin()), "GET", "/api/v1/namespaces/default/pods/p/log?follow=true", &[], "").await;
    let mut log = log.into_body();
    let first = log.frame().await.unwrap().unwrap();
    assert_eq!(&first.into_data().unwrap()[..], b"default/p  None\n");
    desk.trigger.fire();
    assert_eq!(events.line().await, "BOOKMARK - 3");
    assert_eq!(events.line().await, "end");
    assert!(log.frame().await.is_none());
}

#[tokio::test]
async fn a_log_is_asked_for_as_the_query_says() {
    let desk = Desk::open().await;
    desk.pod("p").await;
    let log = "/api/v1/namespaces/default/pods/p/log";
    let got = desk.get(&format!("{log}?container=main&tailLines=5")).await;
    assert_eq!((got.code, got.text.as_str()), (200, "default/p main Some(5)\n"));
    assert_eq!(got.headers["content-type"], "text/plain");
    assert_eq!(
        desk.get(&format!("{log}?tailLines=-1&limitBytes=0")).await.refusal(),
        "422 PodLogOptions \"p\" is invalid: [tailLines: Invalid value: -1: must be greater than or equal to 0, \
         limitBytes: Invalid value: 0: must be greater than 0]"
    );
    assert_eq!(desk.get("/api/v1/namespaces/default/pods/q/log").await.refusal(), "404 pods \"q\" not found");
}

#[tokio::test]
async fn a_delete_says_what_it_did() {
    let desk = Desk::open().await;
    desk.config_map("a", json!({})).await;
    let uid = desk.get(&format!("{MAPS}/a")).await.json()["metadata"]["uid"].clone();
    let dry = desk.ask("DELETE", &format!("{MAPS}/a?dryRun=All"), &[], "").await;
    assert_eq!(dry.code, 200);
    let gone = desk.ask("DELETE", &format!("{MAPS}/a?gracePeriodSeconds=5"), &[], "").await;
    assert_eq!(gone.code, 200);
    assert_eq!(
        gone.json(),
        json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success",
            "details": { "name": "a", "kind": "configmaps", "uid": uid },
        })
    );
    assert_eq!(desk.ask("DELETE", &format!("{MAPS}/a"), &[], "").await.refusal(), "404 configmaps \"a\" not found");
}

#[tokio::test]
async fn a_delete_of_some_kinds_answers_with_the_object() {
    let desk = Desk::open().await;
    desk.pod("p").await;
    for (plural, body) in [
        ("services", json!({ "metadata": { "name": "x" }, "spec": { "ports": [{ "port": 80 }] } })),
        ("serviceaccounts", json!({ "metadata": { "name": "x" } })),
        ("secrets", json!({ "metadata": { "name": "x" } })),
    ] {
        let url = format!("/api/v1/namespaces/default/{plural}");
        let made = desk.ask("POST", &url, &[], &body.to_string()).await.json();
        let gone = desk.ask("DELETE", &format!("{url}/x"), &[], "").await.json();
        let returns_it = plural != "secrets";
        assert_eq!(gone["kind"] == made["kind"], returns_it, "{gone}");
        assert_eq!(gone["metadata"]["uid"] == made["metadata"]["uid"], returns_it, "{gone}");
        let revision =
            |object: &Value| object["metadata"]["resourceVersion"].as_str().and_then(|r| r.parse::<u64>().ok());
        assert!(!returns_it || revision(&gone) > revision(&made), "{gone}");
    }
    let pod = desk.ask("DELETE", "/api/v1/namespaces/default/pods/p?gracePeriodSeconds=0", &[], "").await.json();
    assert_eq!((&pod["kind"], &pod["metadata"]["name"]), (&json!("Pod"), &json!("p")));
}

#[tokio::test]
async fn custom_resources_are_none_and_are_refused_by_name() {
    let desk = Desk::open().await;
    let url = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    let list = desk.get(url).await.json();
    assert_eq!((&list["kind"], &list["items"]), (&json!("CustomResourceDefinitionList"), &json!([])));
    assert_eq!(desk.get(&format!("{url}/a.example.com")).await.code, 404);
    let watch = desk.watch(&format!("{url}?watch=true&resourceVersion=0"), &[]).await;
    drop(watch);
    let body = json!({ "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "spec": {} });
    let made = desk.ask("POST", url, &[], &body.to_string()).await;
    assert_eq!(made.refusal(), "400 skiff does not support custom resources yet");
    let delete = desk.ask("DELETE", url, &[], "").await;
    assert_eq!(delete.refusal(), "405 the server does not allow this method on the requested resource");
}

#[tokio::test]
async fn whoever_asks_is_told_who_they_are_and_what_they_may() {
    let desk = Desk::with_roles().await;
    let jane = [("impersonate-user", "jane")];
    let proxy = [("impersonate-user", "system:kube-proxy")];
    let who = async |headers: &[(&str, &str)]| {
        let got = desk.ask("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", headers, "{}").await;
        assert_eq!(got.code, 201);
        got.json()["status"]["userInfo"].clone()
    };
    assert_eq!(who(&[]).await["username"], "kubernetes-admin");
    assert_eq!(who(&jane).await, json!({ "username": "jane", "groups": ["system:authenticated"] }));
    let may = async |headers: &[(&str, &str)], spec: Value| {
        let url = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
        let got = desk.ask("POST", url, headers, &json!({ "spec": spec }).to_string()).await;
        if got.code == 201 { got.json()["status"]["allowed"].to_string() } else { got.refusal() }
    };
    let pods = json!({ "resourceAttributes": { "verb": "list", "resource": "pods", "namespace": "default" } });
    let services = json!({ "resourceAttributes": { "verb": "watch", "resource": "services" } });
    let metrics = json!({ "nonResourceAttributes": { "verb": "get", "path": "/metrics" } });
    assert_eq!(may(&[], pods.clone()).await, "true");
    assert_eq!(may(&jane, pods).await, "false");
    assert_eq!(may(&proxy, services).await, "true");
    assert_eq!(may(&jane, metrics.clone()).await, "false");
    assert_eq!(may(&[], metrics).await, "true");
    assert_eq!(
        may(&[], json!({})).await,
        "422 SelfSubjectAccessReview.authorization.k8s.io \"\" is invalid: spec.resourceAttributes: Invalid value: null: \
         exactly one of nonResourceAttributes or resourceAttributes must be specified"
    );
    let rules = async |headers: &[(&str, &str)], namespace: &str| {
        let url = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews";
        let got = desk.ask("POST", url, headers, &json!({ "spec": { "namespace": namespace } }).to_string()).await;
        got.json()["status"]["resourceRules"].clone()
    };
    assert_eq!(rules(&[], "default").await[0]["verbs"], json!(["*"]));
    let holds = |rules: &Value, what: &str| {
        rules.as_array().unwrap().iter().any(|r| r["resources"].as_array().unwrap().contains(&json!(what)))
    };
    assert!(holds(&rules(&proxy, "kube-system").await, "leases"));
    assert!(!holds(&rules(&proxy, "default").await, "leases"));
    assert!(holds(&rules(&jane, "default").await, "selfsubjectaccessreviews"));
    let stranger = desk.send(None, "POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", &[], "{}").await;
    assert_eq!(stranger.status(), 401);
}

#[tokio::test]
async fn a_head_that_is_too_large_gets_a_status() {
    let desk = Desk::open().await;
    let long = "x".repeat(super::handle::HEAD_BYTES_MAX);
    let got = desk.ask("GET", MAPS, &[("x-long", &long)], "").await;
    assert_eq!(got.refusal(), "431 the head of the request is too large: limit is 1048576 bytes");
    let got = desk.ask("GET", MAPS, &[("x-long", &long[..long.len() / 2])], "").await;
    assert_eq!(got.code, 200);
}

#[tokio::test]
async fn discovery_answers_in_the_form_that_is_asked_for() {
    let desk = Desk::open().await;
    let plain = desk.get("/apis").await.json();
    assert_eq!(plain["kind"], "APIGroupList");
    let accept = [("accept", "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json")];
    let whole = desk.ask("GET", "/apis", &accept, "").await;
    assert_eq!(whole.json()["kind"], "APIGroupDiscoveryList");
    assert_eq!(whole.headers["content-type"], "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList");
    let tag = whole.headers["etag"].to_str().unwrap();
    let again = desk.ask("GET", "/apis", &[accept[0], ("if-none-match", tag)], "").await;
    assert_eq!((again.code, again.text.as_str()), (304, ""));
    assert_eq!(desk.get("/version").await.json()["minor"], "37");
    let index = desk.get("/openapi/v3").await.json();
    let document = desk.get(index["paths"]["apis/apps/v1"]["serverRelativeURL"].as_str().unwrap()).await;
    assert_eq!((document.code, document.headers["cache-control"].to_str().unwrap()), (200, "public, immutable"));
    let tag = document.headers["etag"].to_str().unwrap();
    assert_eq!(desk.ask("GET", "/openapi/v3/apis/apps/v1", &[("if-none-match", tag)], "").await.code, 304);
    assert_eq!(desk.get("/openapi/v3/apis/nothing/v1").await.code, 404);
    let v2 = desk.get("/openapi/v2").await;
    assert_eq!(v2.json()["swagger"], "2.0");
    let tag = v2.headers["etag"].to_str().unwrap();
    let again = desk.ask("GET", "/openapi/v2", &[("if-none-match", tag)], "").await;
    assert_eq!((again.code, again.text.as_str()), (304, ""));
    let protobuf = [("accept", "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"), ("if-none-match", tag)];
    assert_eq!(desk.send(Some(admin()), "GET", "/openapi/v2", &protobuf, "").await.status(), 200);
    assert_eq!(desk.get("/readyz").await.text, "ok");
    assert_eq!(desk.get("/readyz/store").await.text, "ok");
    assert!(desk.get("/metrics").await.text.contains("apiserver_request_total"));
}

#[tokio::test]
async fn strangers_see_health_and_nothing_else() {
    let desk = Desk::with_roles().await;
    let code = async |user: Option<User>, headers: &[(&str, &str)], url: &str| {
        desk.send(user, "GET", url, headers, "").await.status().as_u16()
    };
    assert_eq!(code(None, &[], "/healthz").await, 200);
    assert_eq!(code(None, &[], MAPS).await, 401);
    assert_eq!(code(None, &[("authorization", "Bearer x")], "/healthz").await, 401);
    let jane = User::new("jane", []);
    assert_eq!(code(Some(jane), &[], MAPS).await, 403);
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused() {
    let desk = Desk::open().await;
    let big = "x".repeat(super::codec::BODY_BYTES_MAX + 1);
    let got = desk.ask("POST", MAPS, &[], &big).await;
    assert_eq!(got.refusal(), "413 Request entity too large: limit is 3145728");
}

#[tokio::test]
async fn protobuf_is_read() {
    let desk = Desk::open().await;
    let protobuf = [("content-type", "application/vnd.kubernetes.protobuf")];
    // What `kubectl create configmap cm --from-literal=a=b` sends.
    let body = "k8s\0\n\x0f\n\x02v1\x12\tConfigMap\x12\x23\n\x19\n\x02cm\x12\0\x1a\x07default\x22\0*\x002\x008\0B\0\x12\x06\n\x01a\x12\x01b\x1a\0\x22\0";
    let got = desk.ask("POST", MAPS, &protobuf, body).await;
    assert_eq!((got.code, &got.json()["data"]), (201, &json!({ "a": "b" })));
    let got = desk.ask("POST", MAPS, &protobuf, "k8s").await;
    assert_eq!(got.code, 400);
    assert!(got.refusal().contains("it does not begin with"));
}

fn map_body(name: &str, data: Value) -> String {
    json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": name }, "data": data }).to_string()
}

fn warnings(answer: &Answer) -> Vec<&str> {
    answer.headers.get_all("warning").iter().map(|w| w.to_str().unwrap()).collect()
}

const YAML: [(&str, &str); 1] = [("content-type", "application/yaml")];
const MERGE: [(&str, &str); 1] = [("content-type", "application/merge-patch+json")];
const STRATEGIC: [(&str, &str); 1] = [("content-type", "application/strategic-merge-patch+json")];
const JSON_PATCH: [(&str, &str); 1] = [("content-type", "application/json-patch+json")];

#[tokio::test]
async fn objects_are_created_from_json_and_yaml() {
    let desk = Desk::open().await;
    let made = desk.ask("POST", MAPS, &[], &map_body("a", json!({ "k": "v" }))).await;
    assert_eq!((made.code, &made.json()["data"]["k"]), (201, &json!("v")), "{made:?}");
    let again = desk.ask("POST", MAPS, &[], &map_body("a", json!({}))).await;
    assert_eq!(again.refusal(), "409 configmaps \"a\" already exists");
    let made = desk.ask("POST", MAPS, &YAML, "metadata:\n  generateName: b-\ndata:\n  n: \"1\"\n").await;
    assert!(made.json()["metadata"]["name"].as_str().unwrap().starts_with("b-"), "{made:?}");
    let dry = desk.ask("POST", &format!("{MAPS}?dryRun=All"), &[], &map_body("c", json!({}))).await;
    assert_eq!(dry.code, 201);
    assert_eq!(desk.get(&format!("{MAPS}/c")).await.code, 404);
}

#[tokio::test]
async fn unknown_and_doubled_fields_are_treated_as_the_client_wants() {
    let desk = Desk::open().await;
    let body = r#"{"metadata":{"name":"a","name":"a"},"dta":{"k":"v"}}"#;
    let strict = desk.ask("POST", &format!("{MAPS}?fieldValidation=Strict"), &[], body).await;
    assert_eq!(
        strict.refusal(),
        "400 ConfigMap in version \"v1\" cannot be handled as a ConfigMap: strict decoding error: \
         unknown field \"dta\", duplicate field \"metadata.name\""
    );
    let warned = desk.ask("POST", MAPS, &[], body).await;
    assert_eq!(warned.code, 201);
    assert_eq!(warnings(&warned), [r#"299 - "unknown field \"dta\"""#, r#"299 - "duplicate field \"metadata.name\"""#]);
    let ignored = desk.ask("PUT", &format!("{MAPS}/a?fieldValidation=Ignore"), &[], body).await;
    assert_eq!((ignored.code, warnings(&ignored).len()), (200, 0));
    let patched = desk.ask("PATCH", &format!("{MAPS}/a?fieldValidation=Strict"), &MERGE, r#"{"dta":{}}"#).await;
    assert_eq!(patched.code, 422);
    let text = patched.refusal();
    assert!(text.contains(r#" "" is invalid: patch: Invalid value: "{\"dta\":{}}": "#), "{text}");
    assert!(text.ends_with(r#"strict decoding error: unknown field "dta""#), "{text}");
    let bad = desk.ask("POST", &format!("{MAPS}?fieldValidation=x"), &[], body).await;
    assert_eq!(bad.code, 422);
}

#[tokio::test]
async fn bodies_that_do_not_fit_are_refused_in_kubernetes_words() {
    let desk = Desk::open().await;
    let of = async |body: &str| desk.ask("POST", MAPS, &[], body).await.refusal();
    assert_eq!(
        of(r#"{"apiVersion":"apps/v1","kind":"ConfigMap"}"#).await,
        "400 the API version in the data (apps/v1) does not match the expected API version (v1)"
    );
    assert_eq!(
        of(r#"{"metadata":{"name":"a","namespace":"other"}}"#).await,
        "400 the namespace of the provided object does not match the namespace sent on the request"
    );
    assert_eq!(
        of(r#"{"metadata":{"name":"a"},"data":{"k":1}}"#).await,
        "400 ConfigMap in version \"v1\" cannot be handled as a ConfigMap: json: cannot unmarshal number into Go struct field \
         ConfigMap.data of type string"
    );
    assert!(of("{").await.starts_with("400 the object provided is unrecognized (must be of type ConfigMap): "));
    assert!(of(r#"{"metadata":{}}"#).await.starts_with("422 ConfigMap \"\" is invalid: metadata.name: Required value"));
}

#[tokio::test]
async fn an_object_is_replaced_only_by_itself() {
    let desk = Desk::open().await;
    desk.config_map("a", json!({})).await;
    let one = format!("{MAPS}/a");
    let replaced = desk.ask("PUT", &one, &[], &map_body("a", json!({ "k": "v" }))).await;
    assert_eq!((replaced.code, &replaced.json()["data"]["k"]), (200, &json!("v")));
    for (body, want) in [
        (map_body("b", json!({})), "400 the name of the object (b) does not match the name on the URL (a)"),
        ("{}".to_owned(), "400 the name of the object (a based on URL) was undeterminable: name must be provided"),
        (
            r#"{"metadata":{"name":"a","namespace":"x"}}"#.to_owned(),
            "400 the namespace of the object (x) does not match the namespace on the request (default)",
        ),
        (
            r#"{"metadata":{"name":"a","resourceVersion":"1"}}"#.to_owned(),
            "409 Operation cannot be fulfilled on configmaps \"a\": the object has been modified; please apply your changes to \
             the latest version and try again",
        ),
    ] {
        assert_eq!(desk.ask("PUT", &one, &[], &body).await.refusal(), want);
    }
    let missing = desk.ask("PUT", &format!("{MAPS}/z"), &[], &map_body("z", json!({}))).await;
    assert_eq!(missing.refusal(), "404 configmaps \"z\" not found");
    let lease = r#"{"metadata":{"name":"l"},"spec":{"holderIdentity":"me"}}"#;
    let url = "/apis/coordination.k8s.io/v1/namespaces/default/leases/l";
    assert_eq!(desk.ask("PUT", url, &[], lease).await.code, 201);
}

#[tokio::test]
async fn an_object_is_patched_in_three_ways() {
    let desk = Desk::open().await;
    desk.config_map("a", json!({ "x": "1" })).await;
    let one = format!("{MAPS}/a");
    let merged = desk.ask("PATCH", &one, &MERGE, r#"{"data":{"k":"v"},"metadata":{"labels":{"x":null}}}"#).await;
    assert_eq!((merged.code, &merged.json()["data"]), (200, &json!({ "k": "v" })), "{merged:?}");
    assert_eq!(merged.json()["metadata"]["labels"].get("x"), None);
    let same = desk.ask("PATCH", &one, &MERGE, r#"{"data":{"k":"v"}}"#).await;
    assert_eq!(same.json()["metadata"]["resourceVersion"], merged.json()["metadata"]["resourceVersion"]);
    let replaced = desk.ask("PATCH", &one, &JSON_PATCH, r#"[{"op":"replace","path":"/data/k","value":"w"}]"#).await;
    assert_eq!(replaced.json()["data"]["k"], "w");
    let failed = desk.ask("PATCH", &one, &JSON_PATCH, r#"[{"op":"test","path":"/data/k","value":"v"}]"#).await;
    assert_eq!(failed.refusal(), "422 the server rejected our request due to an error in our request");
    let strategic = desk.ask("PATCH", &one, &STRATEGIC, r#"{"metadata":{"labels":{"y":"2"}}}"#).await;
    assert_eq!(strategic.json()["metadata"]["labels"]["y"], "2");
    let dry = desk.ask("PATCH", &format!("{one}?dryRun=All"), &MERGE, r#"{"data":{"k":"dry"}}"#).await.json();
    assert_eq!(dry["data"]["k"], "dry");
    assert_eq!(dry["metadata"]["resourceVersion"], strategic.json()["metadata"]["resourceVersion"]);
    assert_eq!(desk.get(&one).await.json()["data"]["k"], "w");
    let stale = desk.ask("PATCH", &one, &MERGE, r#"{"metadata":{"resourceVersion":"3"},"data":{"k":"x"}}"#).await;
    assert_eq!(stale.code, 409);
    let renamed = desk.ask("PATCH", &one, &MERGE, r#"{"metadata":{"name":"b"}}"#).await;
    assert_eq!(
        renamed.refusal(),
        "422 ConfigMap \"a\" is invalid: metadata.name: Invalid value: \"b\": field is immutable"
    );
    assert_eq!(desk.ask("PATCH", &format!("{MAPS}/z"), &MERGE, "{}").await.code, 404);
    assert_eq!(desk.ask("PATCH", &one, &[], "{}").await.code, 415);
    assert_eq!(desk.ask("PATCH", &one, &MERGE, "{").await.code, 400);
}

const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";

async fn deployment(desk: &Desk) {
    let body = "metadata: {name: web}\nspec:\n  replicas: 2\n  selector: {matchLabels: {app: web}}\n  template:\n    \
                metadata: {labels: {app: web}}\n    spec: {containers: [{name: c, image: busybox}]}\n";
    let made = desk.ask("POST", DEPLOYMENTS, &YAML, body).await;
    assert_eq!(made.code, 201, "{made:?}");
}

#[tokio::test]
async fn status_and_spec_are_written_apart() {
    let desk = Desk::open().await;
    deployment(&desk).await;
    let both = r#"{"spec":{"replicas":5},"status":{"replicas":9}}"#;
    let status = desk.ask("PATCH", &format!("{DEPLOYMENTS}/web/status"), &MERGE, both).await.json();
    assert_eq!((&status["spec"]["replicas"], &status["status"]["replicas"]), (&json!(2), &json!(9)));
    let spec = desk
        .ask("PATCH", &format!("{DEPLOYMENTS}/web"), &STRATEGIC, r#"{"spec":{"replicas":5},"status":{"replicas":1}}"#)
        .await;
    assert_eq!((&spec.json()["spec"]["replicas"], &spec.json()["status"]["replicas"]), (&json!(5), &json!(9)));
    assert_eq!(spec.json()["metadata"]["generation"], 2);
    let image = r#"{"spec":{"template":{"spec":{"$setElementOrder/containers":[{"name":"c"}],"containers":[{"name":"c","image":"x"}]}}}}"#;
    let set = desk.ask("PATCH", &format!("{DEPLOYMENTS}/web"), &STRATEGIC, image).await.json();
    assert_eq!(set["spec"]["template"]["spec"]["containers"][0]["image"], "x");
    assert_eq!(desk.get(&format!("{DEPLOYMENTS}/web/status")).await.json()["kind"], "Deployment");
}

#[tokio::test]
async fn what_scales_is_scaled_through_its_scale() {
    let desk = Desk::open().await;
    deployment(&desk).await;
    let url = format!("{DEPLOYMENTS}/web/scale");
    let scale = desk.get(&url).await.json();
    assert_eq!((&scale["kind"], &scale["apiVersion"]), (&json!("Scale"), &json!("autoscaling/v1")));
    assert_eq!((&scale["spec"]["replicas"], &scale["status"]["selector"]), (&json!(2), &json!("app=web")));
    let mut wanted = scale.clone();
    wanted["spec"]["replicas"] = json!(4);
    // kubectl sends this without a type.
    let put = desk.ask("PUT", &url, &[], &wanted.to_string()).await;
    assert_eq!((put.code, &put.json()["spec"]["replicas"]), (200, &json!(4)), "{put:?}");
    assert_eq!(desk.ask("PUT", &url, &[], &wanted.to_string()).await.code, 409, "the revision is an old one");
    let patched = desk.ask("PATCH", &url, &MERGE, r#"{"spec":{"replicas":7}}"#).await.json();
    assert_eq!(patched["spec"]["replicas"], 7);
    assert_eq!(desk.get(&format!("{DEPLOYMENTS}/web")).await.json()["spec"]["replicas"], 7);
    assert_eq!(
        desk.ask("PATCH", &url, &MERGE, r#"{"spec":{"replicas":-1}}"#).await.refusal(),
        "422 Scale.autoscaling \"web\" is invalid: spec.replicas: Invalid value: -1: must be greater than or equal to 0"
    );
    assert_eq!(desk.get("/apis/apps/v1/namespaces/default/deployments/z/scale").await.code, 404);
    let table = desk.ask("GET", &url, &[("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")], "").await.json();
    let names: Vec<_> = table["columnDefinitions"].as_array().unwrap().iter().map(|c| c["name"].clone()).collect();
    assert_eq!(names, ["Name", "Desired", "Available", "Age"]);
    assert_eq!(table["rows"][0]["cells"].as_array().unwrap()[..3], [json!("web"), json!(7), json!(0)]);
    assert_eq!(table["rows"][0]["object"]["metadata"]["name"], "web");
}

#[tokio::test]
async fn json_ends_with_a_line_end_as_from_kubernetes() {
    let desk = Desk::open().await;
    desk.config_map("a", json!({})).await;
    for url in [MAPS.to_owned(), format!("{MAPS}/a"), format!("{MAPS}/z"), "/apis".to_owned()] {
        let body = desk.get(&url).await.text;
        assert!(body.ends_with("}\n") && !body.ends_with("\n\n"), "{url}: {body:?}");
    }
}

#[tokio::test]
async fn a_pod_is_bound_once_and_evicted() {
    let desk = Desk::open().await;
    desk.pod("p").await;
    let pod = "/api/v1/namespaces/default/pods/p";
    let binding = r#"{"apiVersion":"v1","kind":"Binding","metadata":{"name":"p"},"target":{"kind":"Node","name":"n"}}"#;
    let bound = desk.ask("POST", &format!("{pod}/binding"), &[], binding).await;
    assert_eq!((bound.code, &bound.json()["status"]), (201, &json!("Success")), "{bound:?}");
    assert_eq!(desk.get(pod).await.json()["spec"]["nodeName"], "n");
    assert_eq!(
        desk.ask("POST", &format!("{pod}/binding"), &[], binding).await.refusal(),
        "409 Operation cannot be fulfilled on pods/binding \"p\": pod p is already assigned to node \"n\""
    );
    // Beside the pods, the binding says which it is of.
    desk.pod("q").await;
    let bindings = "/api/v1/namespaces/default/bindings";
    let of_q = binding.replace(r#""name":"p""#, r#""name":"q""#);
    assert_eq!(desk.ask("POST", bindings, &[], &of_q).await.code, 201);
    assert_eq!(desk.get("/api/v1/namespaces/default/pods/q").await.json()["spec"]["nodeName"], "n");
    let nameless = desk.ask("POST", bindings, &[], &of_q.replace(r#""name":"q""#, "")).await.refusal();
    assert!(nameless.ends_with("metadata.name: Required value: name or generateName is required"), "{nameless}");
    let eviction = r#"{"apiVersion":"policy/v1","kind":"Eviction","metadata":{"name":"p"},"deleteOptions":{"gracePeriodSeconds":7}}"#;
    assert_eq!(desk.ask("POST", &format!("{pod}/eviction"), &[], eviction).await.code, 201);
    assert_eq!(desk.get(pod).await.json()["metadata"]["deletionGracePeriodSeconds"], 7);
    // A pod that waits for its end is the answer to a delete of it.
    let again = desk.ask("DELETE", pod, &[], "").await.json();
    assert_eq!(again["kind"], "Pod");
}

#[tokio::test]
async fn a_collection_is_deleted_by_selector() {
    let desk = Desk::open().await;
    for (name, app) in [("a", "x"), ("b", "y"), ("c", "x")] {
        desk.config_map(name, json!({ "app": app })).await;
    }
    let body = r#"{"kind":"DeleteOptions","apiVersion":"v1","propagationPolicy":"Background"}"#;
    let gone = desk.ask("DELETE", &format!("{MAPS}?labelSelector=app%3Dx"), &[], body).await;
    assert_eq!((gone.code, &gone.json()["kind"]), (200, &json!("ConfigMapList")));
    assert_eq!(gone.json()["items"].as_array().unwrap().len(), 2);
    assert_eq!(desk.get(MAPS).await.json()["items"].as_array().unwrap().len(), 1);
    let bad = r#"{"propagationPolicy":"Sideways"}"#;
    assert_eq!(desk.ask("DELETE", &format!("{MAPS}/b"), &[], bad).await.code, 422);
    let other = r#"{"preconditions":{"uid":"other"}}"#;
    assert_eq!(desk.ask("DELETE", &format!("{MAPS}/b"), &[], other).await.code, 409);
}

#[tokio::test]
async fn whoever_a_request_acts_as_may_do_no_more_than_that_one() {
    let desk = Desk::with_roles().await;
    desk.config_map("a", json!({})).await;
    let as_nobody = [("impersonate-user", "nobody")];
    assert_eq!(
        desk.ask("GET", "/api/v1/pods", &as_nobody, "").await.refusal(),
        "403 pods is forbidden: User \"nobody\" cannot list resource \"pods\" in API group \"\" at the cluster scope"
    );
    assert_eq!(desk.ask("DELETE", &format!("{MAPS}/a"), &as_nobody, "").await.code, 403);
    assert_eq!(desk.ask("GET", "/version", &as_nobody, "").await.code, 200);
    let as_master = [("impersonate-user", "x"), ("impersonate-group", "system:masters")];
    assert_eq!(desk.ask("GET", &format!("{MAPS}/a"), &as_master, "").await.code, 200);
    assert_eq!(desk.ask("GET", "/version", &[("impersonate-group", "system:masters")], "").await.code, 400);
    let proxy = User::new("system:kube-proxy", ["system:authenticated"]);
    let refused = desk.send(Some(proxy), "GET", "/api/v1/nodes", &as_master, "").await;
    assert_eq!(refused.status(), 403, "the data plane may act as nobody else");
}

/// Runs a request that would take minutes if it compared everything with everything.
async fn soon(desk: &Desk, method: &str, url: &str, headers: &[(&str, &str)], body: &Value) -> Answer {
    const BOUND: Duration = Duration::from_secs(30);
    let started = desk.registry.clock().mono();
    let answer = desk.ask(method, url, headers, &body.to_string()).await;
    assert!(started.elapsed() < BOUND, "{method} {url} took {:?}", started.elapsed());
    answer
}

#[tokio::test]
async fn no_list_is_too_long_to_be_judged_soon() {
    const N: usize = 8000;
    let desk = Desk::open().await;
    let many = |of: &dyn Fn(usize) -> Value| (0..N).map(of).collect::<Vec<Value>>();
    let pods = "/api/v1/namespaces/default/pods";
    let pod = |name: &str, container: Value| {
        let mut pod =
            json!({ "metadata": { "name": name }, "spec": { "containers": [{ "name": "c", "image": "i" }] } });
        pod["spec"]["containers"][0].as_object_mut().unwrap().extend(container.as_object().unwrap().clone());
        pod
    };
    let env = many(&|i| json!({ "name": format!("V{i}"), "value": "old" }));
    assert_eq!(soon(&desk, "POST", pods, &[], &pod("env", json!({ "env": env }))).await.code, 201);
    let ports = many(&|i| json!({ "containerPort": i + 1, "name": format!("p{i}") }));
    assert_eq!(soon(&desk, "POST", pods, &[], &pod("ports", json!({ "ports": ports }))).await.code, 201);
    let mounts = many(&|i| json!({ "name": format!("v{i}"), "mountPath": format!("/m{i}") }));
    let mut with_mounts = pod("mounts", json!({ "volumeMounts": mounts }));
    with_mounts["spec"]["volumes"] = many(&|i| json!({ "name": format!("v{i}"), "emptyDir": {} })).into();
    // Its managed fields may be more than the store keeps.
    assert!(matches!(soon(&desk, "POST", pods, &[], &with_mounts).await.code, 201 | 413));
    let mut with_rules = pod("rules", json!({}));
    with_rules["spec"]["tolerations"] = many(&|i| json!({ "key": format!("k{i}"), "operator": "Exists" })).into();
    with_rules["spec"]["imagePullSecrets"] = many(&|i| json!({ "name": format!("s{i}") })).into();
    with_rules["spec"]["hostAliases"] =
        many(&|i| json!({ "ip": format!("10.0.{}.{}", i / 250, i % 250), "hostnames": ["a"] })).into();
    with_rules["spec"]["topologySpreadConstraints"] =
        many(&|i| json!({ "topologyKey": format!("k{i}"), "maxSkew": 1, "whenUnsatisfiable": "ScheduleAnyway" }))
            .into();
    let spread = soon(&desk, "POST", pods, &[], &with_rules).await;
    assert!(matches!(spread.code, 201 | 413 | 422), "{}", spread.text);
    let mut changed = pod("rules", json!({}));
    changed["spec"]["tolerations"] = many(&|i| json!({ "key": format!("x{i}"), "operator": "Exists" })).into();
    soon(&desk, "PATCH", &format!("{pods}/rules"), &STRATEGIC, &changed).await;

    let mut containers = pod("containers", json!({}));
    containers["spec"]["containers"] = many(&|i| json!({ "name": format!("c{i}"), "image": "i" })).into();
    soon(&desk, "POST", pods, &[], &containers).await;
    let meta = json!({
        "finalizers": many(&|i| json!(format!("a.io/{i}"))),
        "ownerReferences": many(&|i| json!({ "apiVersion": "v1", "kind": "Pod", "name": "p", "uid": format!("u{i}") })),
        "labels": (0..N).map(|i| (format!("l{i}"), json!("v"))).collect::<serde_json::Map<_, _>>(),
        "name": "meta",
    });
    assert_eq!(soon(&desk, "POST", MAPS, &[], &json!({ "metadata": meta })).await.code, 201);
    soon(&desk, "DELETE", &format!("{MAPS}/meta"), &[], &json!({})).await;
    let other = json!({ "metadata": { "finalizers": many(&|i| json!(format!("b.io/{i}"))) } });
    assert_eq!(soon(&desk, "PATCH", &format!("{MAPS}/meta"), &MERGE, &other).await.code, 422);
    let services = "/api/v1/namespaces/default/services";
    let service = json!({
        "metadata": { "name": "s" },
        "spec": { "ports": many(&|i| json!({ "name": format!("p{i}"), "port": i + 1 })), "selector": { "a": "b" } },
    });
    assert_eq!(soon(&desk, "POST", services, &[], &service).await.code, 201);
    let slice = json!({
        "metadata": { "name": "e" }, "addressType": "IPv4", "ports": many(&|i| json!({ "name": format!("p{i}"), "port": i + 1 })),
        "endpoints": many(&|i| json!({ "addresses": [format!("10.0.{}.{}", i / 250, i % 250)] })),
    });
    soon(&desk, "POST", "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices", &[], &slice).await;
    let values: Vec<String> = (0..N).map(|i| format!("v{i}")).collect();
    let selected = format!("{MAPS}?labelSelector=l1%20in%20%28{}%29", values.join(","));
    assert_eq!(soon(&desk, "GET", &selected, &[], &Value::Null).await.code, 200);

    let wrong: serde_json::Map<String, Value> = (0..20_000).map(|i| (format!("-{i}"), json!("-"))).collect();
    let refused = soon(&desk, "POST", MAPS, &[], &json!({ "metadata": { "name": "bad", "labels": wrong } })).await;
    assert_eq!(refused.code, 422);
    assert!(refused.json()["message"].as_str().unwrap().ends_with(", and 39900 more errors]"), "{}", refused.text);
    assert_eq!(refused.json()["details"]["causes"].as_array().unwrap().len(), 100);
}

#[tokio::test]
async fn an_object_may_not_grow_larger_than_the_store_keeps() {
    let desk = Desk::open().await;
    let pods = "/api/v1/namespaces/default/pods";
    let body = |bytes: usize| {
        let env = json!([{ "name": "A", "value": "x".repeat(bytes) }]);
        json!({ "metadata": { "name": "big" }, "spec": { "containers": [{ "name": "c", "image": "i", "env": env }] } })
    };
    let refused = desk.ask("POST", pods, &[], &body(1_600_000).to_string()).await;
    assert_eq!((refused.code, &refused.json()["reason"]), (413, &json!("RequestEntityTooLarge")));
    assert_eq!(desk.ask("POST", pods, &[], &body(1_500_000).to_string()).await.code, 201);
    let grown = json!({ "metadata": { "annotations": { "a": "x".repeat(200_000) } } });
    assert_eq!(desk.ask("PATCH", &format!("{pods}/big"), &MERGE, &grown.to_string()).await.code, 413);
    assert_eq!(desk.ask("DELETE", &format!("{pods}/big"), &[], "").await.code, 200);
}

#[tokio::test]
async fn a_head_has_no_body_and_too_many_requests_wait() {
    let desk = Desk::open().await;
    desk.config_map("a", json!({})).await;
    let got = desk.ask("HEAD", &format!("{MAPS}/a"), &[], "").await;
    let whole = desk.get(&format!("{MAPS}/a")).await;
    assert_eq!((got.code, got.text.as_str()), (200, ""));
    assert_eq!(got.headers["content-length"], whole.text.len().to_string());

    let watch = desk.watch(&format!("{MAPS}?watch=true"), &[]).await;
    let held: Vec<_> = std::iter::from_fn(|| desk.state.seat(super::gate::Bound::Streams)).collect();
    assert_eq!(held.len(), super::gate::STREAMS_MAX - 1, "the watch has one");
    let refused = desk.get(&format!("{MAPS}?watch=true")).await;
    assert_eq!(refused.refusal(), "429 Too many requests, please try again later.");
    assert_eq!(refused.headers["retry-after"], "1");
    drop(watch);
    assert!(desk.state.seat(super::gate::Bound::Streams).is_some(), "it gave its place back");
    let _reads: Vec<_> = std::iter::from_fn(|| desk.state.seat(super::gate::Bound::Reads)).collect();
    assert_eq!(desk.get(MAPS).await.code, 429);
    assert_eq!(desk.get("/readyz").await.code, 200);
    let metrics = desk.get("/metrics").await.text;
    assert!(metrics.contains("skiff_api_bound_reached_total{bound=\"streams\",done=\"refused\"} 2\n"), "{metrics}");
}

/// A real listener on this machine, its CA, and a client of the administrator.
struct Live {
    desk: Desk,
    pki: tls::Pki,
    address: std::net::SocketAddr,
    served: tokio::task::JoinHandle<()>,
    _dir: tempfile::TempDir,
}

impl Live {
    async fn open() -> Self {
        let desk = Desk::open().await;
        let dir = tempfile::tempdir().unwrap();
        let pki = tls::load_or_create(dir.path(), &[], &Clock::system()).unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let config = pki.server_config().unwrap();
        let served = task::spawn(
            "test server",
            serve(Arc::new(listener), config, desk.state.clone(), Arc::new(|_| true), desk.drain.clone()),
        );
        Self { desk, pki, address, served, _dir: dir }
    }

    fn client(&self, who: Option<&tls::Credential>) -> kube::Client {
        use base64::{Engine as _, engine::general_purpose::STANDARD};
        use rustls::pki_types::{CertificateDer, pem::PemObject as _};
        let mut config = kube::Config::new(format!("https://{}", self.address).parse().unwrap());
        let ca = CertificateDer::from_pem_slice(self.pki.ca_pem().as_bytes()).unwrap();
        config.root_cert = Some(vec![ca.to_vec()]);
        if let Some(who) = who {
            config.auth_info.client_certificate_data = Some(STANDARD.encode(&who.cert_pem));
            config.auth_info.client_key_data = Some(STANDARD.encode(&who.key_pem).into());
        }
        kube::Client::try_from(config).unwrap()
    }
}

#[tokio::test]
async fn unfinished_handshakes_keep_nobody_out() {
    let live = Live::open().await;
    let limits = super::gate::Limits::of_descriptors(crate::base::descriptors::limit());
    let client = live.client(Some(live.pki.admin()));
    client.apiserver_version().await.unwrap();
    // A few hundred at most, so that the test itself has descriptors left.
    let many = (limits.unproven + 20).min(200);
    let mut silent = Vec::new();
    for _ in 0..many {
        silent.push(tokio::net::TcpStream::connect(live.address).await.unwrap());
    }
    // A connection from before and a new one both get their answers.
    client.apiserver_version().await.unwrap();
    live.client(Some(live.pki.admin())).apiserver_version().await.unwrap();
    if many > limits.unproven {
        let mut first = [0];
        let ended = tokio::io::AsyncReadExt::read(&mut silent[0], &mut first);
        assert_eq!(
            tokio::time::timeout(Duration::from_secs(5), ended).await.unwrap().unwrap(),
            0,
            "the oldest is put out"
        );
    }
}

#[tokio::test]
async fn the_kube_client_lists_and_watches_over_tls() {
    let live = Live::open().await;
    live.desk.config_map("a", json!({})).await;
    let client = live.client(Some(live.pki.admin()));
    assert_eq!(client.apiserver_version().await.unwrap().minor, "37");
    let discovery = kube::discovery::Discovery::new(client.clone()).run().await.unwrap();
    assert!(discovery.has_group("apps"));
    let maps: kube::Api<ConfigMap> = kube::Api::namespaced(client, "default");
    let list = maps.list(&Default::default()).await.unwrap();
    assert_eq!(list.items[0].metadata.name.as_deref(), Some("a"));
    let events = maps.watch(&Default::default(), list.metadata.resource_version.as_deref().unwrap()).await.unwrap();
    let mut events = Box::pin(events);
    live.desk.config_map("b", json!({})).await;
    match events.try_next().await.unwrap().unwrap() {
        kube::api::WatchEvent::Added(map) => assert_eq!(map.metadata.name.as_deref(), Some("b")),
        other => panic!("{other:?}"),
    }
    assert_eq!(
        maps.delete("a", &Default::default()).await.unwrap().right().unwrap().status,
        Some(kube::core::response::StatusSummary::Success)
    );
    live.desk.trigger.fire();
    assert!(tokio::time::timeout(Duration::from_secs(5), live.served).await.is_ok(), "the server drains");
}

#[tokio::test]
async fn a_streaming_watcher_of_kube_runtime_follows_a_kind() {
    use kube::runtime::watcher::{Config, Event, watcher};
    let live = Live::open().await;
    live.desk.config_map("a", json!({})).await;
    let maps: kube::Api<ConfigMap> = kube::Api::all(live.client(Some(live.pki.admin())));
    let mut events = Box::pin(watcher(maps, Config::default().streaming_lists()));
    let mut seen = Vec::new();
    while seen.len() < 4 {
        seen.push(match events.try_next().await.unwrap().unwrap() {
            Event::Init => "init".to_owned(),
            Event::InitApply(map) => format!("present {}", map.metadata.name.unwrap()),
            Event::InitDone => {
                live.desk.config_map("b", json!({})).await;
                "done".to_owned()
            }
            Event::Apply(map) => format!("apply {}", map.metadata.name.unwrap()),
            Event::Delete(map) => format!("delete {}", map.metadata.name.unwrap()),
        });
    }
    assert_eq!(seen, ["init", "present a", "done", "apply b"]);
}

#[tokio::test]
async fn certificates_decide_who_a_client_is() {
    let live = Live::open().await;
    let code = async |who: Option<&tls::Credential>| {
        let maps: kube::Api<ConfigMap> = kube::Api::namespaced(live.client(who), "default");
        match maps.list(&Default::default()).await {
            Ok(_) => 200,
            Err(kube::Error::Api(status)) => status.code,
            Err(other) => panic!("{other}"),
        }
    };
    assert_eq!(code(Some(live.pki.admin())).await, 200);
    assert_eq!(code(Some(live.pki.proxy())).await, 403);
    assert_eq!(code(None).await, 401);
}

#[tokio::test]
async fn plain_http_on_the_tls_port_is_told_so() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let live = Live::open().await;
    let mut stream = tokio::net::TcpStream::connect(live.address).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    // The peer may reset the connection, because it does not read the request.
    let read = tokio::time::timeout(Duration::from_secs(5), stream.read_to_end(&mut answer)).await.unwrap();
    let text = String::from_utf8_lossy(&answer);
    assert!(text.contains("Client sent an HTTP request to an HTTPS server."), "{read:?} {text}");
}
