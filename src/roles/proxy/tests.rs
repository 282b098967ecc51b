//! The whole role against a small API server of its own: objects in, connections, Leases and Events out.

use super::*;
use crate::{
    api::agreements::{DATA_PLANE_TOTALS, OBSERVED_REVISION, SERVICE_NAME_LABEL, UNPROBED_PODS},
    base::task::{self, Group, PLANNED, drain_signal},
    net::totals::Totals,
    testing::ports::{free_address, free_port},
};
use bytes::Bytes;
use futures::{Stream, stream};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    body::{Frame, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::{collections::BTreeMap, convert::Infallible, net::Ipv4Addr, path::Path, sync::Mutex};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
    time::{Instant, timeout},
};

const PATIENCE: Duration = Duration::from_secs(20);
const SERVICES: &str = "/api/v1/services";
const SLICES: &str = "/apis/discovery.k8s.io/v1/endpointslices";
const ROUTES: &str = "/apis/route.openshift.io/v1/routes";
const KINDS: [&str; 6] = [
    SERVICES,
    SLICES,
    ROUTES,
    "/apis/networking.k8s.io/v1/ingresses",
    "/apis/networking.k8s.io/v1/ingressclasses",
    "/api/v1/namespaces/kube-system/secrets",
];

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// What the API server holds.
#[derive(Debug)]
struct World {
    revision: u64,
    objects: BTreeMap<(&'static str, String), Value>,
    /// Every change: revision, path of the kind, watch event.
    history: Vec<(u64, &'static str, Value)>,
    /// Watches from before this revision are refused.
    oldest: u64,
    /// Watches that came too late are told so in their course, not at once.
    tells_late: bool,
    /// Requests that are refused before others are answered.
    failing: u32,
    /// How often each kind was listed.
    lists: BTreeMap<&'static str, u32>,
    lease: Option<Value>,
    events: Vec<Value>,
}

impl World {
    fn put(&mut self, kind: &'static str, mut object: Value) -> u64 {
        self.revision += 1;
        object["metadata"]["resourceVersion"] = json!(self.revision.to_string());
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        let known = self.objects.insert((kind, name), object.clone()).is_some();
        let what = if known { "MODIFIED" } else { "ADDED" };
        self.history.push((self.revision, kind, json!({"type": what, "object": object})));
        self.revision
    }

    fn remove(&mut self, kind: &'static str, name: &str) -> u64 {
        self.revision += 1;
        let mut object = self.objects.remove(&(kind, name.to_owned())).unwrap();
        object["metadata"]["resourceVersion"] = json!(self.revision.to_string());
        self.history.push((self.revision, kind, json!({"type": "DELETED", "object": object})));
        self.revision
    }
}

/// An API server that can be stopped and started again at the same address.
struct FakeApi {
    address: SocketAddr,
    world: Arc<Mutex<World>>,
    changed: watch::Sender<u64>,
    running: Option<JoinHandle<()>>,
}

impl FakeApi {
    async fn start() -> Self {
        let world = World {
            revision: 10,
            objects: BTreeMap::new(),
            history: Vec::new(),
            oldest: 0,
            tells_late: false,
            failing: 0,
            lists: BTreeMap::new(),
            lease: None,
            events: Vec::new(),
        };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut api =
            Self { address, world: Arc::new(Mutex::new(world)), changed: watch::channel(10).0, running: None };
        api.serve(listener);
        api
    }

    fn serve(&mut self, listener: TcpListener) {
        let (world, changed) = (Arc::clone(&self.world), self.changed.clone());
        self.running = Some(task::spawn("fake-api", async move {
            let mut clients = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (world, changed) = (Arc::clone(&world), changed.clone());
                let handler = service_fn(move |request| handle(request, Arc::clone(&world), changed.clone()));
                clients.spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), handler));
            }
        }));
    }

    async fn stop(&mut self) {
        let running = self.running.take().unwrap();
        running.abort();
        running.await.unwrap_err();
    }

    async fn restart(&mut self) {
        let listener = TcpListener::bind(self.address).await.unwrap();
        self.serve(listener);
    }

    fn put(&self, kind: &'static str, object: Value) -> u64 {
        let revision = self.world.lock().unwrap().put(kind, object);
        self.changed.send_replace(revision);
        revision
    }

    fn remove(&self, kind: &'static str, name: &str) {
        let revision = self.world.lock().unwrap().remove(kind, name);
        self.changed.send_replace(revision);
    }

    /// A Service whose load balancer answers at a port.
    fn balanced(&self, name: &str, created: &str, port: u16) {
        let own = format!("127.0.1.{}", name.len());
        let spec = json!({"type": "LoadBalancer", "clusterIP": own, "ports": [{"port": port}]});
        let metadata = json!({"namespace": "shop", "name": name, "uid": name, "creationTimestamp": created});
        self.put(SERVICES, json!({"metadata": metadata, "spec": spec}));
    }

    /// The addresses that the status of a Service tells.
    fn ingress(&self, name: &str) -> Vec<String> {
        let world = self.world.lock().unwrap();
        let told = world.objects[&(SERVICES, name.to_owned())]["status"]["loadBalancer"]["ingress"].as_array().cloned();
        told.into_iter().flatten().map(|point| point["ip"].as_str().unwrap().to_owned()).collect()
    }

    fn service(&self, node_port: u16) {
        let spec = json!({"type": "NodePort", "clusterIP": "None-yet", "clusterIPs": ["127.0.0.2"],
            "ports": [{"port": node_port, "nodePort": node_port}]});
        self.put(SERVICES, json!({"metadata": {"namespace": "shop", "name": "web", "uid": "u"}, "spec": spec}));
    }

    fn slice(&self, endpoints: &[SocketAddr]) -> u64 {
        let port = endpoints.first().map_or(1, SocketAddr::port);
        let ends: Vec<Value> =
            endpoints.iter().map(|e| json!({"addresses": [e.ip()], "conditions": {"ready": true}})).collect();
        let metadata = json!({"namespace": "shop", "name": "web-1", "labels": {SERVICE_NAME_LABEL: "web"}});
        self.put(SLICES, json!({"metadata": metadata, "addressType": "IPv4", "ports": [{"name": "", "port": port}], "endpoints": ends}))
    }

    /// A slice of pods, of which nothing probes `new`.
    fn unprobed_slice(&self, port: u16, mut ends: Value) -> u64 {
        for end in ends.as_array_mut().unwrap() {
            end["targetRef"] = json!({"kind": "Pod", "name": end["hostname"], "uid": end["hostname"]});
        }
        let metadata = json!({"namespace": "shop", "name": "web-1", "labels": {SERVICE_NAME_LABEL: "web"},
            "annotations": {UNPROBED_PODS: "new"}});
        self.put(SLICES, json!({"metadata": metadata, "addressType": "IPv4", "ports": [{"name": "", "port": port}], "endpoints": ends}))
    }

    fn observed(&self) -> u64 {
        let world = self.world.lock().unwrap();
        let lease = world.lease.as_ref().map(|lease| lease["metadata"]["annotations"][OBSERVED_REVISION].clone());
        lease.and_then(|text| text.as_str()?.parse().ok()).unwrap_or_default()
    }

    fn events(&self) -> Vec<(String, String)> {
        let world = self.world.lock().unwrap();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        world.events.iter().map(|event| (text(&event["reason"]), text(&event["message"]))).collect()
    }
}

async fn handle(
    request: Request<Incoming>,
    world: Arc<Mutex<World>>,
    changed: watch::Sender<u64>,
) -> Result<Response<Body>, Infallible> {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let query = request.uri().query().unwrap_or_default().to_owned();
    let body = request.into_body().collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let kind = KINDS.into_iter().find(|kind| *kind == path);
    if kind.is_some_and(|kind| [SERVICES, SLICES].contains(&kind)) {
        let mut world = world.lock().unwrap();
        if world.failing > 0 {
            world.failing -= 1;
            return Ok(failure(500, "InternalError"));
        }
    }
    Ok(match (method, kind) {
        (Method::GET, Some(kind)) if query.contains("watch=true") => watched(kind, &query, world, &changed),
        (Method::GET, Some(kind)) => listed(kind, &world),
        (Method::POST, _) if path.ends_with("/events") => {
            world.lock().unwrap().events.push(body.clone());
            reply(StatusCode::CREATED, &body)
        }
        (Method::POST, _) if path.ends_with("/leases") => {
            world.lock().unwrap().lease = Some(body.clone());
            reply(StatusCode::CREATED, &body)
        }
        (Method::PATCH, _) if path.ends_with("/leases/skiff-proxy") => {
            let mut world = world.lock().unwrap();
            if world.lease.is_none() {
                return Ok(failure(404, "NotFound"));
            }
            world.lease = Some(body.clone());
            reply(StatusCode::OK, &body)
        }
        (Method::PATCH, _) if path.ends_with("/status") => {
            let name = path.split('/').nth_back(1).unwrap().to_owned();
            let kind = if path.contains("/routes/") { ROUTES } else { SERVICES };
            let Some(mut object) = world.lock().unwrap().objects.get(&(kind, name)).cloned() else {
                return Ok(failure(404, "NotFound"));
            };
            if object["metadata"]["uid"] != body["metadata"]["uid"] {
                return Ok(failure(409, "Conflict"));
            }
            object["status"] = body["status"].clone();
            changed.send_replace(world.lock().unwrap().put(kind, object.clone()));
            reply(StatusCode::OK, &object)
        }
        _ => failure(405, "MethodNotAllowed"),
    })
}

fn listed(kind: &'static str, world: &Mutex<World>) -> Response<Body> {
    let mut world = world.lock().unwrap();
    *world.lists.entry(kind).or_default() += 1;
    let items: Vec<&Value> = world.objects.iter().filter(|((of, _), _)| *of == kind).map(|(_, o)| o).collect();
    let metadata = json!({"resourceVersion": world.revision.to_string()});
    reply(StatusCode::OK, &json!({"apiVersion": "v1", "kind": "List", "metadata": metadata, "items": items}))
}

fn watched(kind: &'static str, query: &str, world: Arc<Mutex<World>>, changed: &watch::Sender<u64>) -> Response<Body> {
    let since = query.split('&').find_map(|pair| pair.strip_prefix("resourceVersion="));
    let since: u64 = since.unwrap().parse().unwrap();
    let (is_too_old, tells_late) = {
        let world = world.lock().unwrap();
        (since < world.oldest, world.tells_late)
    };
    match (is_too_old, tells_late) {
        (true, true) => return told(&json!({"type": "ERROR", "object": expired()})),
        (true, false) => return failure(410, "Expired"),
        (false, _) => {}
    }
    let body = StreamBody::new(events(kind, since, world, changed.subscribe()));
    Response::new(BodyBoxed::new(body))
}

type BodyBoxed = UnsyncBoxBody<Bytes, Infallible>;

fn events(
    kind: &'static str,
    since: u64,
    world: Arc<Mutex<World>>,
    changed: watch::Receiver<u64>,
) -> impl Stream<Item = Result<Frame<Bytes>, Infallible>> {
    stream::unfold((since, world, changed), move |(mut since, world, mut changed)| async move {
        loop {
            let next = world.lock().unwrap().history.iter().find(|(r, of, _)| *r > since && *of == kind).cloned();
            if let Some((revision, _, event)) = next {
                since = revision;
                let line = Bytes::from(format!("{event}\n"));
                return Some((Ok(Frame::data(line)), (since, world, changed)));
            }
            changed.changed().await.ok()?;
        }
    })
}

fn reply(code: StatusCode, body: &Value) -> Response<Body> {
    let mut response = Response::new(BodyBoxed::new(Full::from(body.to_string())));
    *response.status_mut() = code;
    response
}

/// A watch of one event.
fn told(event: &Value) -> Response<Body> {
    Response::new(BodyBoxed::new(Full::from(format!("{event}\n"))))
}

fn expired() -> Value {
    json!({"apiVersion": "v1", "kind": "Status", "status": "Failure", "code": 410, "reason": "Expired", "message": "Expired"})
}

fn failure(code: u16, reason: &str) -> Response<Body> {
    let status = json!({"apiVersion": "v1", "kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": reason});
    reply(StatusCode::from_u16(code).unwrap(), &status)
}

/// Writes the kubeconfig for an API.
fn write_kubeconfig(path: &Path, api: SocketAddr) {
    let kubeconfig = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": format!("http://{api}")}}],
        "users": [{"name": "u", "user": {}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
    });
    std::fs::write(path, kubeconfig.to_string()).unwrap();
}

/// A data plane that runs; it ends when dropped.
struct Role {
    _stop: task::DrainTrigger,
    directory: tempfile::TempDir,
}

/// Starts the role with a store that outlives it, or without one.
fn start_with(api: &FakeApi, store: Option<&Path>) -> Role {
    let (trigger, stop) = drain_signal();
    let (directory, settings) = settings_for(api, store);
    task::spawn("role", async move { serve(settings, Clock::system(), stop).await.unwrap() });
    Role { _stop: trigger, directory }
}

fn settings_for(api: &FakeApi, store: Option<&Path>) -> (tempfile::TempDir, Settings) {
    let directory = tempfile::tempdir().unwrap();
    let kubeconfig = directory.path().join("kubeconfig");
    write_kubeconfig(&kubeconfig, api.address);
    let settings = Settings::read(|name| match name {
        "SKIFF_KUBECONFIG_FILE" => Some(kubeconfig.display().to_string()),
        "SKIFF_SOCKET_STORE" => store.map(|store| store.display().to_string()),
        "SKIFF_SERVICE_CIDR" => Some("10.245.0.0/16".into()),
        "SKIFF_NODEPORT_ADDRESSES" => Some("127.0.0.1".into()),
        _ => None,
    })
    .unwrap();
    (directory, settings)
}

fn start(api: &FakeApi) -> Role {
    start_with(api, None)
}

async fn endpoint(name: &'static str) -> SocketAddr {
    endpoint_at(name, (Ipv4Addr::LOCALHOST, 0).into()).await
}

async fn endpoint_at(name: &'static str, address: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind(address).await.unwrap();
    let address = listener.local_addr().unwrap();
    task::spawn("endpoint", async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            stream.write_all(name.as_bytes()).await.ok();
        }
    });
    address
}

/// What the endpoint behind the port says; nothing when none does soon.
async fn ask(port: u16) -> Option<String> {
    let asked = async {
        let mut client = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.ok()?;
        let mut reply = String::new();
        client.read_to_string(&mut reply).await.ok()?;
        Some(reply)
    };
    timeout(Duration::from_secs(2), asked).await.ok().flatten()
}

async fn until_served(port: u16, by: &str) {
    timeout(PATIENCE, async {
        while ask(port).await.as_deref() != Some(by) {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
}

async fn until(mut is_so: impl FnMut() -> bool) {
    timeout(PATIENCE, async {
        while !is_so() {
            sleep(Duration::from_millis(1)).await;
        }
    })
    .await
    .unwrap();
}

/// A role that serves the endpoint `a` behind a port.
async fn serving(store: Option<&Path>) -> (FakeApi, u16, Role) {
    let (api, port) = (FakeApi::start().await, free_port());
    api.service(port);
    api.slice(&[endpoint("a").await]);
    let role = start_with(&api, store);
    until_served(port, "a").await;
    (api, port, role)
}

async fn refuses(port: u16) -> bool {
    let refused = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await;
    refused.is_err_and(|err| err.kind() == std::io::ErrorKind::ConnectionRefused)
}

#[tokio::test]
async fn a_panic_in_any_part_ends_the_process() {
    for part in ["access", "feed-services", "feed-slices", "ack", "notice", "balancer", "follow"] {
        let api = FakeApi::start().await;
        let (_directory, settings) = settings_for(&api, None);
        let (_trigger, stop) = drain_signal();
        let group = Group::default();
        group.doom(part);
        let ended = timeout(PATIENCE, group.enter(Box::pin(serve(settings, Clock::system(), stop)))).await.unwrap();
        let why = ended.unwrap_err().to_string();
        assert!(why.contains(&format!("{part}: {PLANNED}")), "{why}");
    }
}

#[tokio::test]
async fn what_the_data_plane_counts_comes_with_its_lease() {
    let (api, _port, _role) = serving(None).await;
    // With the next revision, at the latest.
    let revision = api.slice(&[endpoint("b").await]);
    until(|| api.observed() >= revision).await;
    let annotations = api.world.lock().unwrap().lease.as_ref().unwrap()["metadata"]["annotations"].clone();
    let totals = Totals::parse(annotations[DATA_PLANE_TOTALS].as_str().unwrap()).unwrap();
    assert!(totals.listeners >= 1 && totals.connections_max > 0 && totals.turned_away == 0, "{totals:?}");
}

#[tokio::test]
async fn a_port_refuses_until_a_program_listens() {
    let (api, port, inside) = (FakeApi::start().await, free_port(), free_port());
    let _role = start(&api);
    api.service(port);
    let end = json!([{"addresses": ["127.0.0.1"], "conditions": {"ready": true}, "hostname": "new"}]);
    let revision = api.unprobed_slice(inside, end);
    until(|| api.observed() >= revision).await;
    assert!(refuses(port).await);
    endpoint_at("a", (Ipv4Addr::LOCALHOST, inside).into()).await;
    until_served(port, "a").await;
}

#[tokio::test]
async fn an_endpoint_that_leaves_stands_in_for_one_that_does_not_listen_yet() {
    // Both pods have one port at their own addresses: one from outside of what the kernel gives to connections.
    let (api, port, inside) = (FakeApi::start().await, free_port(), free_port());
    let old = endpoint_at("old", (Ipv4Addr::LOCALHOST, inside).into()).await;
    api.service(port);
    api.slice(&[old]);
    let _role = start(&api);
    until_served(port, "old").await;
    let before = api.observed();
    let revision = api.unprobed_slice(
        inside,
        json!([
            {"addresses": ["127.0.0.1"], "hostname": "old",
             "conditions": {"ready": false, "serving": true, "terminating": true}},
            {"addresses": ["127.0.0.2"], "hostname": "new", "conditions": {"ready": true}},
        ]),
    );
    for _ in 0..20 {
        assert_eq!(ask(port).await.as_deref(), Some("old"));
    }
    assert!(api.observed() <= before.max(revision - 1), "the old one may not be stopped yet");
    endpoint_at("new", SocketAddr::from(([127, 0, 0, 2], inside))).await;
    until_served(port, "new").await;
    until(|| api.observed() >= revision).await;
}

#[tokio::test]
async fn the_revision_is_told_in_the_end_although_no_program_listens() {
    let (api, port, inside) = (FakeApi::start().await, free_port(), free_port());
    api.service(port);
    let _role = start(&api);
    let revision = api.unprobed_slice(
        inside,
        json!([
            {"addresses": ["127.0.0.1"], "hostname": "old",
             "conditions": {"ready": false, "serving": true, "terminating": true}},
            {"addresses": ["127.0.0.2"], "hostname": "new", "conditions": {"ready": true}},
        ]),
    );
    until(|| api.observed() >= revision).await;
}

#[tokio::test]
async fn what_the_api_says_is_served_and_acknowledged() {
    let (api, port) = (FakeApi::start().await, free_port());
    let _role = start(&api);
    api.service(port);
    let first = api.slice(&[endpoint("a").await]);
    until_served(port, "a").await;
    until(|| api.observed() >= first).await;
    let second = api.slice(&[endpoint("b").await]);
    until(|| api.observed() >= second).await;
    assert_eq!(ask(port).await.as_deref(), Some("b"), "what is observed is in place");
}

#[tokio::test]
async fn the_last_known_state_outlives_the_api_and_the_next_is_found_at_once() {
    let (mut api, port, _role) = serving(None).await;
    api.stop().await;
    assert_eq!(ask(port).await.as_deref(), Some("a"));
    let revision = api.slice(&[endpoint("b").await]);
    api.restart().await;
    until_served(port, "b").await;
    until(|| api.observed() >= revision).await;
}

#[tokio::test]
async fn a_watch_that_is_too_old_becomes_a_list() {
    let (mut api, port, _role) = serving(None).await;
    api.stop().await;
    let revision = api.slice(&[endpoint("b").await]);
    {
        let mut world = api.world.lock().unwrap();
        world.history.clear();
        world.oldest = revision;
    }
    api.restart().await;
    until_served(port, "b").await;
}

#[tokio::test]
async fn a_watch_that_is_told_in_its_course_that_it_is_too_old_becomes_a_list() {
    let (mut api, port, _role) = serving(None).await;
    api.stop().await;
    let revision = api.slice(&[endpoint("b").await]);
    {
        let mut world = api.world.lock().unwrap();
        world.history.clear();
        (world.oldest, world.tells_late) = (revision, true);
    }
    api.restart().await;
    until_served(port, "b").await;
}

#[tokio::test]
async fn a_watch_that_ended_goes_on_where_it_ended_and_no_list_is_asked_for() {
    let (mut api, port, _role) = serving(None).await;
    for name in ["b", "c"] {
        api.stop().await;
        api.slice(&[endpoint(name).await]);
        api.restart().await;
        until_served(port, name).await;
    }
    assert!(api.world.lock().unwrap().lists.values().all(|n| *n == 1), "{:?}", api.world.lock().unwrap().lists);
}

#[tokio::test]
async fn an_api_that_fails_takes_nothing_away_and_is_asked_again_with_pauses() {
    let (mut api, port, _role) = serving(None).await;
    api.stop().await;
    let revision = api.slice(&[endpoint("b").await]);
    {
        let mut world = api.world.lock().unwrap();
        (world.oldest, world.failing) = (revision, 6);
    }
    let began = Instant::now();
    api.restart().await;
    until(|| api.world.lock().unwrap().failing < 6).await;
    assert_eq!(ask(port).await.as_deref(), Some("a"));
    until_served(port, "b").await;
    // Two feeds share six failures: at least one paused three times.
    assert!(began.elapsed() >= Duration::from_millis(50 + 100), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_port_that_is_taken_becomes_an_event_and_is_served_when_it_is_free() {
    let squatter = TcpListener::bind(free_address()).await.unwrap();
    let (api, port) = (FakeApi::start().await, squatter.local_addr().unwrap().port());
    api.service(port);
    api.slice(&[endpoint("a").await]);
    let _role = start(&api);
    until(|| !api.events().is_empty()).await;
    let message = format!(
        "Cannot listen for the node port: 127.0.0.1:{port}/TCP is already in use by another program on this machine. \
         Trying again until it works"
    );
    assert_eq!(api.events(), [("FailedToListen".to_owned(), message)]);
    drop(squatter);
    until_served(port, "a").await;
}

#[tokio::test]
async fn a_reply_that_never_comes_holds_up_the_acknowledgement_for_a_bounded_time() {
    let (api, port) = (FakeApi::start().await, free_port());
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    api.service(port);
    let first = api.slice(&[listener.local_addr().unwrap()]);
    let _role = start(&api);
    until(|| api.observed() >= first).await;
    let mut client = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap();
    let (mut server, _) = listener.accept().await.unwrap();
    client.write_all(b"?").await.unwrap();
    server.read_exact(&mut [0; 1]).await.unwrap();
    let second = api.slice(&[endpoint("b").await]);
    until(|| api.observed() >= second).await;
    assert_eq!(ask(port).await.as_deref(), Some("b"));
    server.write_all(b"!").await.unwrap();
    client.read_exact(&mut [0; 1]).await.unwrap();
}

/// A store of sockets, as a sandbox has it.
fn store() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let store = crate::net::sockets::store::Store::open(directory.path()).unwrap();
    std::thread::spawn(move || store.serve());
    directory
}

#[tokio::test]
async fn a_data_plane_that_ends_is_followed_by_one_that_waits_and_nobody_is_refused() {
    let (api, port, store) = (FakeApi::start().await, free_port(), store());
    api.service(port);
    let first = start_with(&api, Some(store.path()));
    api.slice(&[endpoint("a").await]);
    until_served(port, "a").await;
    let mut next = start_with(&api, Some(store.path()));
    let (served, failed) = (Arc::new(Mutex::new(0)), Arc::new(Mutex::new(0)));
    let (count, lost) = (Arc::clone(&served), Arc::clone(&failed));
    let load = task::spawn("load", async move {
        loop {
            let is_served = ask(port).await.as_deref() == Some("a");
            *(if is_served { &count } else { &lost }).lock().unwrap() += 1;
        }
    });
    drop(first);
    for _ in 0..3 {
        let seen = *served.lock().unwrap();
        until(|| *served.lock().unwrap() > seen + 20).await;
        // The one that waited leads now; when it ends, clients wait until there is another.
        next = start_with(&api, Some(store.path()));
    }
    drop(next);
    load.abort();
    assert_eq!(*failed.lock().unwrap(), 0);
}

#[tokio::test]
async fn clients_wait_while_there_is_no_data_plane() {
    let store = store();
    let (api, port, first) = serving(Some(store.path())).await;
    drop(first);
    let waiting = task::spawn("client", async move { assert_eq!(ask(port).await.as_deref(), Some("a")) });
    let _second = start_with(&api, Some(store.path()));
    waiting.await.unwrap();
}

#[tokio::test]
async fn a_service_that_went_while_nobody_served_gives_its_port_back() {
    let store = store();
    let (api, port, first) = serving(Some(store.path())).await;
    drop(first);
    api.world.lock().unwrap().objects.retain(|(kind, _), _| *kind != SERVICES);
    let _second = start_with(&api, Some(store.path()));
    until(|| std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()).await;
}

#[tokio::test]
async fn an_api_that_moves_is_found_through_the_kubeconfig() {
    let other = FakeApi::start().await;
    let (mut api, port, role) = serving(None).await;
    api.stop().await;
    other.service(port);
    other.slice(&[endpoint("b").await]);
    other.world.lock().unwrap().oldest = u64::MAX;
    write_kubeconfig(&role.directory.path().join("kubeconfig"), other.address);
    until_served(port, "b").await;
}

const EARLY: &str = "2026-01-01T00:00:00Z";
const LATE: &str = "2026-01-01T00:00:01Z";

#[tokio::test]
async fn a_load_balancer_has_its_address_while_its_port_is_open() {
    let (api, taken) = (FakeApi::start().await, TcpListener::bind(free_address()).await.unwrap());
    let (port, free) = (taken.local_addr().unwrap().port(), free_port());
    let _role = start(&api);
    api.slice(&[]);
    api.balanced("free", EARLY, free);
    api.balanced("late", LATE, port);
    until(|| api.ingress("free") == ["127.0.0.1"]).await;
    let said = || api.events().into_iter().filter(|(reason, _)| reason == "FailedToListen").collect::<Vec<_>>();
    until(|| !said().is_empty()).await;
    assert_eq!((api.ingress("late"), said().len()), (vec![], 1), "{:?}", said());
    assert!(said()[0].1.contains(&format!("load balancer: 127.0.0.1:{port}/TCP is already in use")), "{:?}", said());
    drop(taken);
    until(|| api.ingress("late") == ["127.0.0.1"]).await;
    // Somebody else's word does not stay.
    let mut service = api.world.lock().unwrap().objects[&(SERVICES, "late".to_owned())].clone();
    service["status"] = json!({"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}});
    api.put(SERVICES, service.clone());
    until(|| api.ingress("late") == ["127.0.0.1"]).await;
    service["spec"]["type"] = json!("ClusterIP");
    service["status"] = json!({"loadBalancer": {"ingress": [{"ip": "127.0.0.1"}]}});
    api.put(SERVICES, service);
    until(|| api.ingress("late").is_empty()).await;
    assert!(TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.is_ok(), "its port is free again");
}

#[tokio::test]
async fn of_two_load_balancers_at_one_port_the_older_has_it_until_it_goes() {
    let (mut api, port) = (FakeApi::start().await, free_port());
    let _role = start(&api);
    api.slice(&[]);
    api.balanced("late", LATE, port);
    until(|| api.ingress("late") == ["127.0.0.1"]).await;
    api.balanced("early", EARLY, port);
    until(|| api.ingress("early") == ["127.0.0.1"] && api.ingress("late").is_empty()).await;
    until(|| !api.events().is_empty()).await;
    let (reason, message) = api.events().remove(0);
    assert!(reason == "NotServed" && message.ends_with("shop/early has it already"), "{reason}: {message}");
    // What is to be told waits for an API that is away.
    api.stop().await;
    api.world.lock().unwrap().remove(SERVICES, "early");
    api.restart().await;
    until(|| api.ingress("late") == ["127.0.0.1"]).await;
}

#[tokio::test]
async fn a_trouble_is_told_once_until_it_is_gone_and_comes_back() {
    let (api, taken) = (FakeApi::start().await, TcpListener::bind(free_address()).await.unwrap());
    let address = taken.local_addr().unwrap();
    let _role = start(&api);
    api.service(address.port());
    api.balanced("other", LATE, address.port());
    let count = |what: &str| api.events().iter().filter(|(_, message)| message.contains(what)).count();
    let (busy, refused) = ("is already in use by another program", "shop/web has it already");
    // Changes of whatever else, and of the same Service, are no news of it.
    for n in 0..20 {
        let revision = api.slice(&[SocketAddr::new(address.ip(), 1000 + n)]);
        api.balanced(&format!("more-{n}"), LATE, free_port());
        api.service(address.port());
        until(|| api.observed() >= revision).await;
    }
    until(|| count(busy) > 0 && count(refused) > 0).await;
    assert_eq!((count(busy), count(refused)), (1, 1), "{:?}", api.events());
    api.remove(SERVICES, "web");
    until(|| count(busy) == 2).await;
    drop(taken);
    until(|| api.ingress("other") == ["127.0.0.1"]).await;
    let taken = {
        api.remove(SERVICES, "other");
        timeout(PATIENCE, async {
            loop {
                if let Ok(taken) = TcpListener::bind(address).await {
                    return taken;
                }
                tokio::task::yield_now().await;
            }
        })
        .await
        .unwrap()
    };
    api.balanced("other", LATE, address.port());
    until(|| count(busy) == 3).await;
    drop(taken);
}

/// What a host says on a port of the router.
async fn ask_host(port: u16, host: &str) -> Option<String> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.ok()?;
    let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = String::new();
    timeout(PATIENCE, stream.read_to_string(&mut answer)).await.ok()?.ok()?;
    Some(answer)
}

#[tokio::test]
async fn a_route_is_served_told_where_and_counted_and_its_port_outlives_a_data_plane() {
    let store = store();
    let api = FakeApi::start().await;
    let (port, router_port) = (free_port(), free_port());
    api.service(port);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    api.slice(&[listener.local_addr().unwrap()]);
    task::spawn("web", async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            stream.read_buf(&mut Vec::with_capacity(4096)).await.ok();
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nweb").await.ok();
        }
    });
    let spec =
        json!({"host": "a.b", "wildcardPolicy": "None", "to": {"kind": "Service", "name": "web", "weight": 100}});
    api.put(ROUTES, json!({"metadata": {"namespace": "shop", "name": "web", "uid": "r"}, "spec": spec}));
    let start = || {
        let (trigger, stop) = drain_signal();
        let (directory, mut settings) = settings_for(&api, Some(store.path()));
        settings.http_ports = vec![router_port];
        settings.https_ports = vec![0];
        task::spawn("role", async move { serve(settings, Clock::system(), stop).await.unwrap() });
        Role { _stop: trigger, directory }
    };
    let first = start();
    timeout(PATIENCE, async {
        while ask_host(router_port, "a.b").await.is_none_or(|answer| !answer.ends_with("web")) {
            sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .unwrap();
    let condition = || {
        let world = api.world.lock().unwrap();
        world.objects[&(ROUTES, "web".to_owned())]["status"]["ingress"][0]["conditions"][0].clone()
    };
    until(|| condition()["message"] == format!("Answers at http://a.b:{router_port}")).await;
    let totals = || {
        let world = api.world.lock().unwrap();
        let text = world.lease.as_ref()?["metadata"]["annotations"][DATA_PLANE_TOTALS].as_str()?.to_owned();
        Totals::parse(&text)
    };
    until(|| totals().is_some_and(|totals| totals.router_http_port == u64::from(router_port))).await;
    let _second = start();
    drop(first);
    for _ in 0..20 {
        let answer = ask_host(router_port, "a.b").await;
        assert!(answer.as_ref().is_some_and(|answer| answer.ends_with("web")), "{answer:?}");
    }
}
