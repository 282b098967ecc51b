//! Ways into pods: connections to the ports of a pod's localhost, for `kubectl port-forward`.
//!
//! A program of ours in the pod's sandbox (`skiff forward`, see `roles::forward`) does the dialling, so that what listens on the pod's
//! loopback alone is reached too. It speaks HTTP/2 over its standard streams, a `CONNECT` for each connection: that gives many connections
//! over one command, each with its own flow control and its own end.
//!
//! **Invariants**
//! - A connection that fails ends no other.
//! - A pod that is gone is followed by one that its controller made in its place, for connections that come later.

use super::{context::Context, identity::Identity, streams::PodPorts};
use crate::{
    api::{kinds::replica_set::ReplicaSets, meta::ObjectKey, pod_state},
    base::{chain::chain, duplex::Duplex, task},
    engine::{Connected, EngineError, Phase, Printed, Session},
};
use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, future::ready};
use http_body_util::{BodyExt as _, Empty};
use hyper::{
    Request, StatusCode,
    client::conn::http2::{self, SendRequest},
};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Pod;
use std::{io, sync::Arc, time::Duration};
use tokio::{sync::Mutex, time::timeout};
use tokio_util::io::StreamReader;
use tracing::debug;

/// What is on its way of one connection until it is taken.
pub const STREAM_WINDOW: u32 = 1 << 20;
/// What is on its way of all connections of a pod until one is taken.
pub const CONNECTION_WINDOW: u32 = 8 << 20;
/// What goes through the engine in one piece: each costs four programs a turn.
pub const FRAME_BYTES: u32 = 128 << 10;
/// How long the program in the sandbox has to begin, and to make a connection.
const BEGIN_MAX: Duration = Duration::from_secs(30);
const CONNECT_MAX: Duration = Duration::from_secs(30);

type Sender = SendRequest<Empty<Bytes>>;

/// Runs tasks of a connection by the house's rules.
#[derive(Clone)]
struct Tasks;

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Tasks {
    fn execute(&self, work: F) {
        drop(task::spawn("port-forward", work));
    }
}

/// The ports of a pod, or of the one that came in its place.
pub(super) struct Ports {
    context: Arc<Context>,
    first: Arc<Pod>,
    way: Mutex<Option<Sender>>,
}

impl Ports {
    /// Those of a pod that runs.
    pub(super) async fn of(context: Arc<Context>, pod: Arc<Pod>) -> Result<Self, EngineError> {
        let way = open(&context, &pod).await?;
        Ok(Self { context, first: pod, way: Mutex::new(Some(way)) })
    }

    /// The way that is open, or another one.
    async fn way(&self) -> Result<Sender, String> {
        let mut way = self.way.lock().await;
        if let Some(open) = way.as_ref().filter(|way| !way.is_closed()) {
            return Ok(open.clone());
        }
        let pod =
            self.current().ok_or_else(|| format!("pod {} is gone, and none came in its place", name(&self.first)))?;
        let opened = open(&self.context, &pod).await.map_err(|err| err.to_string())?;
        *way = Some(opened.clone());
        Ok(opened)
    }

    /// The pod, or a ready one of the same controller.
    fn current(&self) -> Option<Arc<Pod>> {
        let namespace = self.first.metadata.namespace.as_deref().unwrap_or_default();
        let key = ObjectKey::new(namespace, name(&self.first));
        if let Some(pod) = super::context::stored_pod(&self.context.pods, &key, uid(&self.first)) {
            return Some(pod);
        }
        let wanted = self.makers(&self.first);
        let replaces = |pod: &&Arc<Pod>| {
            let is_there = pod.metadata.deletion_timestamp.is_none() && pod_state::is_pod_ready(pod);
            is_there && self.makers(pod).iter().any(|maker| wanted.contains(maker))
        };
        self.context.pods.list(namespace).items.iter().find(replaces).cloned()
    }

    /// The UIDs of what made a pod: its controller, and the controller of that one.
    fn makers(&self, pod: &Pod) -> Vec<String> {
        let owners = pod.metadata.owner_references.iter().flatten();
        let Some(owner) = owners.into_iter().find(|owner| owner.controller == Some(true)) else { return Vec::new() };
        let key = ObjectKey::new(pod.metadata.namespace.as_deref().unwrap_or_default(), &owner.name);
        let set = self.context.registry.api::<ReplicaSets>().get(&key).filter(|_| owner.kind == "ReplicaSet");
        let above = set.and_then(|set| {
            let owners = set.metadata.owner_references.clone().unwrap_or_default();
            owners.into_iter().find(|owner| owner.controller == Some(true)).map(|owner| owner.uid)
        });
        std::iter::once(owner.uid.clone()).chain(above).collect()
    }
}

#[async_trait]
impl PodPorts for Ports {
    async fn connect(&self, port: u16) -> Result<Box<dyn Duplex>, String> {
        let mut way = self.way().await?;
        let request =
            Request::connect(format!("localhost:{port}")).body(Empty::new()).map_err(|err| err.to_string())?;
        let connected = async {
            let response = way.send_request(request).await.map_err(|err| chain(&err))?;
            if response.status() == StatusCode::OK {
                let stream = hyper::upgrade::on(response).await.map_err(|err| chain(&err))?;
                return Ok(Box::new(TokioIo::new(stream)) as Box<dyn Duplex>);
            }
            let told = response.into_body().collect().await.map_err(|err| chain(&err))?;
            Err(String::from_utf8_lossy(&told.to_bytes()).into_owned())
        };
        let late = || format!("failed to connect to localhost:{port} inside the pod within {CONNECT_MAX:?}");
        timeout(CONNECT_MAX, connected).await.map_err(|_| late())?
    }
}

fn name(pod: &Pod) -> &str {
    pod.metadata.name.as_deref().unwrap_or_default()
}

fn uid(pod: &Pod) -> &str {
    pod.metadata.uid.as_deref().unwrap_or_default()
}

/// The pod's sandbox, by its ID.
async fn sandbox(context: &Context, pod: &Pod) -> Result<String, EngineError> {
    let all = context.ask(context.engine.list()).await?;
    let is_it = |identity: &Identity| identity.is_sandbox() && identity.pod.uid == uid(pod);
    let running = all.into_iter().filter(|c| c.phase == Phase::Running);
    let mut found = running.filter(|c| Identity::parse(&c.labels).is_some_and(|identity| is_it(&identity)));
    found.next().map(|c| c.id).ok_or_else(|| EngineError::NotFound(format!("pod {} has no sandbox now", name(pod))))
}

/// Has a program begin in the pod's sandbox that makes connections there.
async fn open(context: &Context, pod: &Pod) -> Result<Sender, EngineError> {
    let sandbox = sandbox(context, pod).await?;
    let command = ["/skiff", "forward"].map(str::to_owned);
    let connected = Connected { stdin: true, stdout: true, stderr: true, tty: false };
    let session = context.ask(context.engine.exec_session(&sandbox, &command, connected)).await?;
    let what = || format!("open a way into pod {}", name(pod));
    match timeout(BEGIN_MAX, shake_hands(session)).await {
        Ok(Ok(sender)) => Ok(sender),
        Ok(Err(err)) => Err(EngineError::Failed(format!("{}: {}", what(), chain(&err)))),
        Err(_) => Err(EngineError::TimedOut(what(), BEGIN_MAX)),
    }
}

async fn shake_hands(session: Session) -> Result<Sender, hyper::Error> {
    let Session { output, input, control } = session;
    let spoken = output.map_err(|err| io::Error::other(err.to_string())).try_filter_map(|printed| {
        ready(Ok(match printed {
            Printed::Stdout(bytes) => Some(bytes),
            Printed::Stderr(text) => {
                debug!(component = "node", text = %String::from_utf8_lossy(&text), "a way into a pod says");
                None
            }
        }))
    });
    let writer = input.expect("a session with input has one");
    let stream: Box<dyn Duplex> = Box::new(tokio::io::join(StreamReader::new(spoken.boxed()), writer));
    let (sender, connection) = http2::Builder::new(Tasks)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(FRAME_BYTES)
        .handshake(TokioIo::new(stream))
        .await?;
    drop(task::spawn("port-forward", async move {
        if let Err(err) = connection.await {
            debug!(component = "node", err = chain(&err), "a way into a pod broke");
        }
        drop(control);
    }));
    Ok(sender)
}
