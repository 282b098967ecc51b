//! What the server may ask of the node agent: byte streams of containers, as a trait, and the agent's own.
//!
//! **Source** of the errors: `pkg/registry/core/pod/strategy.go` `validateContainer`, `pkg/kubelet/kubelet_pods.go`
//! `validateContainerLogStatus`, v1.37.

use super::{context, forward::Ports, identity::PodId, net_probe};
use crate::{
    api::{
        ephemeral::container_of,
        kind::Kind as _,
        kinds::pod::Pods,
        meta::ObjectKey,
        status::ApiError,
        timeline::{self, Timeline, Whose},
    },
    base::{clock::after, duplex::Duplex},
    engine::{EngineError, LogOptions},
};

pub use crate::engine::{Connected, LogStream, Printed, Session, SessionControl, TerminalSize};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{
    StreamExt as _,
    stream::{self, BoxStream},
};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Container, ContainerState, ContainerStatus, Pod, PodStatus};
use std::{
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};
use tokio::io::AsyncWrite;

/// The query of a `log` request. Source: `PodLogOptions`, core/v1.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogQuery {
    /// Which container; empty: the only one, or the default one.
    pub container: String,
    /// Go on with what comes.
    pub follow: bool,
    /// The container before the last restart.
    pub previous: bool,
    /// Only the last lines.
    pub tail_lines: Option<u64>,
    /// Only what came in the last seconds.
    pub since_seconds: Option<i64>,
    /// Only what came at or after this time.
    pub since_time: Option<Timestamp>,
    /// Begin each line with its time.
    pub timestamps: bool,
    /// Stop after this many bytes.
    pub limit_bytes: Option<u64>,
    /// Only this of the two streams that a program prints to.
    pub stream: Option<LogStream>,
}

/// Streams of containers, served by the node agent.
#[async_trait]
pub trait PodStreams: Send + Sync + 'static {
    /// A container's log. Errors (no such container, waiting to start …) read as the kubelet's.
    async fn logs(
        &self,
        pod: &ObjectKey,
        query: &LogQuery,
    ) -> Result<BoxStream<'static, Result<Bytes, io::Error>>, ApiError>;

    /// Where a conversation with a container of the pod would be held; empty: the only container, or the default one. Errors (no such
    /// container, not running …) read as the kubelet's.
    fn find(&self, pod: &ObjectKey, container: &str) -> Result<Running, ApiError>;

    /// Runs a command in a container.
    async fn exec(&self, on: &Running, command: &[String], connected: Connected) -> Result<Session, EngineError>;

    /// Talks with a container's program.
    async fn attach(&self, to: &Running, connected: Connected) -> Result<Session, EngineError>;

    /// The ports of a pod.
    async fn ports(&self, pod: &ObjectKey) -> Result<Arc<dyn PodPorts>, ApiError>;

    /// A connection to a place in a pod; the error is what users read.
    async fn dial(&self, to: PodAddress) -> Result<Box<dyn Duplex>, String>;

    /// How the containers of a pod ended and came back.
    fn timeline(&self, pod: &ObjectKey) -> Result<Timeline, ApiError>;
}

/// A container that runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Running {
    /// The engine's ID.
    pub id: String,
    /// Its name in its pod.
    pub name: String,
    /// Whether it has a terminal.
    pub tty: bool,
    /// Whether its input ends with that of the first client.
    pub stdin_once: bool,
}

/// An input that goes on when its client has said all. Docker would take the end for the client's leave, and say nothing more to it.
struct Unclosed<W>(W);

impl<W: AsyncWrite + Unpin> AsyncWrite for Unclosed<W> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flush(cx)
    }
}

/// The ports of a pod's localhost.
#[async_trait]
pub trait PodPorts: Send + Sync {
    /// A connection to a port; the error is what users read.
    async fn connect(&self, port: u16) -> Result<Box<dyn Duplex>, String>;
}

/// A place where a program in a pod may listen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PodAddress {
    /// The pod's address.
    pub ip: IpAddr,
    /// The port.
    pub port: u16,
    /// Whether TLS is spoken there. Its certificate is not checked.
    pub is_tls: bool,
}

impl PodAddress {
    /// Address and port as in a URL.
    pub fn host(&self) -> String {
        SocketAddr::new(self.ip, self.port).to_string()
    }
}

/// The agent's streams.
pub(super) struct Streams {
    context: Arc<context::Context>,
}

impl Streams {
    pub(super) fn new(context: Arc<context::Context>) -> Self {
        Self { context }
    }
}

#[async_trait]
impl PodStreams for Streams {
    async fn logs(
        &self,
        key: &ObjectKey,
        query: &LogQuery,
    ) -> Result<BoxStream<'static, Result<Bytes, io::Error>>, ApiError> {
        let pod = self.context.pods.get(key).ok_or_else(|| ApiError::not_found(&Pods::INFO, &key.name))?;
        let container = choose_container(&pod, &query.container)?;
        if pod.spec.as_ref().is_none_or(|s| s.node_name.is_none()) {
            return Ok(stream::empty().boxed());
        }
        let id = log_source(&pod, &container, query.previous)?;
        let options = LogOptions {
            follow: query.follow,
            tail: query.tail_lines,
            since: since(query, self.context.now()),
            timestamps: query.timestamps,
            stream: query.stream,
        };
        let log = self.context.ask(self.context.engine.logs(&id, &options)).await.map_err(|e| log_error(&id, &e))?;
        Ok(limited(log, query.limit_bytes))
    }

    fn find(&self, key: &ObjectKey, container: &str) -> Result<Running, ApiError> {
        let pod = self.context.pods.get(key).ok_or_else(|| ApiError::not_found(&Pods::INFO, &key.name))?;
        let name = choose_container(&pod, container)?;
        check_placed(&pod)?;
        running(&pod, &name).ok_or_else(|| ApiError::Internal(format!("container not found ({name:?})")))
    }

    async fn exec(&self, on: &Running, command: &[String], connected: Connected) -> Result<Session, EngineError> {
        self.context.ask(self.context.engine.exec_session(&on.id, command, connected)).await
    }

    async fn attach(&self, to: &Running, connected: Connected) -> Result<Session, EngineError> {
        let mut session = self.context.ask(self.context.engine.attach(&to.id, connected)).await?;
        if !to.stdin_once || to.tty {
            session.input = session.input.map(|input| Box::pin(Unclosed(input)) as _);
        }
        Ok(session)
    }

    async fn ports(&self, key: &ObjectKey) -> Result<Arc<dyn PodPorts>, ApiError> {
        let pod = self.context.pods.get(key).ok_or_else(|| ApiError::not_found(&Pods::INFO, &key.name))?;
        check_placed(&pod)?;
        match Ports::of(Arc::clone(&self.context), pod).await {
            Ok(ports) => Ok(Arc::new(ports)),
            Err(EngineError::Unreachable(why)) => Err(ApiError::Unreachable(why)),
            Err(err) => Err(ApiError::Internal(err.to_string())),
        }
    }

    async fn dial(&self, to: PodAddress) -> Result<Box<dyn Duplex>, String> {
        net_probe::open(to).await
    }

    fn timeline(&self, key: &ObjectKey) -> Result<Timeline, ApiError> {
        let pod = self.context.pods.get(key).ok_or_else(|| ApiError::not_found(&Pods::INFO, &key.name))?;
        Ok(timeline_of(&self.context, &pod))
    }
}

/// What is remembered of a pod; of one that no worker has yet, nothing.
fn timeline_of(context: &context::Context, pod: &Pod) -> Timeline {
    let id = PodId::of(pod);
    let starts = context.starts_of(&id.uid);
    let starts = starts.map(|starts| starts.lock().expect("no one panics while holding the lock").shown());
    Timeline {
        api_version: timeline::API_VERSION.to_owned(),
        kind: "PodTimeline".to_owned(),
        metadata: Whose { namespace: id.namespace, name: id.name, uid: id.uid },
        starts: starts.unwrap_or_default(),
    }
}

/// Source: `streamLocation`, `pkg/registry/core/pod/strategy.go`, v1.37.
fn check_placed(pod: &Pod) -> Result<(), ApiError> {
    let is_placed = pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some());
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    if is_placed { Ok(()) } else { Err(ApiError::BadRequest(format!("pod {name} does not have a host assigned"))) }
}

/// The container of this name, if it runs.
fn running(pod: &Pod, name: &str) -> Option<Running> {
    let status = container_statuses(pod).find(|s| s.name == name)?;
    status.state.as_ref()?.running.as_ref()?;
    let container = container_of(pod, name)?;
    let is = |field: Option<bool>| field == Some(true);
    Some(Running {
        id: own_id(status)?,
        name: name.to_owned(),
        tty: is(container.tty),
        stdin_once: is(container.stdin_once),
    })
}

fn container_statuses(pod: &Pod) -> impl Iterator<Item = &ContainerStatus> {
    pod.status.iter().flat_map(lists_of).flatten().flatten()
}

fn lists_of(status: &PodStatus) -> [&Option<Vec<ContainerStatus>>; 3] {
    [&status.container_statuses, &status.init_container_statuses, &status.ephemeral_container_statuses]
}

fn since(query: &LogQuery, now: Timestamp) -> Option<Timestamp> {
    query.since_seconds.map(|secs| after(now, SignedDuration::from_secs(secs.saturating_neg()))).or(query.since_time)
}

fn log_error(id: &str, error: &EngineError) -> ApiError {
    match error {
        EngineError::NotFound(_) => {
            ApiError::BadRequest(format!("unable to retrieve container logs for docker://{id}"))
        }
        EngineError::Unreachable(_) => ApiError::Unreachable(error.to_string()),
        _ => ApiError::Internal(error.to_string()),
    }
}

/// The stream, cut after so many bytes.
fn limited(
    log: BoxStream<'static, Result<Bytes, EngineError>>,
    limit: Option<u64>,
) -> BoxStream<'static, Result<Bytes, io::Error>> {
    let log = log.map(|chunk| chunk.map_err(|e| io::Error::other(e.to_string())));
    let Some(limit) = limit else { return log.boxed() };
    let cut = move |left: &mut u64, chunk: Result<Bytes, io::Error>| {
        if *left == 0 {
            return futures::future::ready(None);
        }
        let chunk = chunk.map(|bytes| {
            let n = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
            *left -= n as u64;
            bytes.slice(..n)
        });
        futures::future::ready(Some(chunk))
    };
    log.scan(limit, cut).boxed()
}

/// The container that a request means.
pub(super) fn choose_container(pod: &Pod, name: &str) -> Result<String, ApiError> {
    let pod_name = pod.metadata.name.as_deref().unwrap_or_default();
    let spec = pod.spec.clone().unwrap_or_default();
    let init = spec.init_containers.unwrap_or_default();
    let names = |all: &[Container]| all.iter().map(|c| c.name.clone()).collect::<Vec<_>>().join(" ");
    if !name.is_empty() {
        return match container_of(pod, name) {
            Some(_) => Ok(name.to_owned()),
            None => Err(ApiError::BadRequest(format!("container {name} is not valid for pod {pod_name}"))),
        };
    }
    match &spec.containers[..] {
        [only] => Ok(only.name.clone()),
        [] => Err(ApiError::BadRequest(format!("a container name must be specified for pod {pod_name}"))),
        many => {
            let of_init = match &init[..] {
                [] => String::new(),
                init => format!(" or one of the init containers: [{}]", names(init)),
            };
            let choices = names(many);
            Err(ApiError::BadRequest(format!(
                "a container name must be specified for pod {pod_name}, choose one of: [{choices}]{of_init}"
            )))
        }
    }
}

/// The ID of the container whose log is meant, from the pod's status.
fn log_source(pod: &Pod, container: &str, previous: bool) -> Result<String, ApiError> {
    let pod_name = pod.metadata.name.as_deref().unwrap_or_default();
    let refuse = |why: String| Err(ApiError::BadRequest(why));
    let Some(status) = container_statuses(pod).find(|s| s.name == container) else {
        return refuse(format!("container {container:?} in pod {pod_name:?} is not available"));
    };
    let state = status.state.clone().unwrap_or_default();
    let last = ended_id(&status.last_state.clone().unwrap_or_default());
    if previous {
        let missing = format!("previous terminated container {container:?} in pod {pod_name:?} not found");
        return last.map_or_else(|| refuse(missing), Ok);
    }
    let current = if state.running.is_some() { own_id(status) } else { ended_id(&state) };
    match (current.or(last), state.terminated, state.waiting.and_then(|w| w.reason)) {
        (Some(id), _, _) => Ok(id),
        (None, Some(_), _) => refuse(format!("container {container:?} in pod {pod_name:?} is terminated")),
        (None, None, Some(reason)) => {
            let why = match reason.as_str() {
                "ErrImagePull" => "image can't be pulled",
                "ImagePullBackOff" => "trying and failing to pull image",
                other => other,
            };
            refuse(format!("container {container:?} in pod {pod_name:?} is waiting to start: {why}"))
        }
        (None, None, None) => {
            refuse(format!("container {container:?} in pod {pod_name:?} is waiting to start - no logs yet"))
        }
    }
}

fn bare_id(id: &str) -> Option<String> {
    id.split_once("://").map(|(_, id)| id.to_owned()).filter(|id| !id.is_empty())
}

fn own_id(status: &ContainerStatus) -> Option<String> {
    status.container_id.as_deref().and_then(bare_id)
}

fn ended_id(state: &ContainerState) -> Option<String> {
    state.terminated.as_ref()?.container_id.as_deref().and_then(bare_id)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(status: &str) -> Pod {
        let text = format!(
            "{{metadata: {{name: web}}, spec: {{nodeName: n, containers: [{{name: app}}], initContainers: [{{name: init}}]}}, \
             status: {{containerStatuses: [{{name: app, image: '', imageID: '', ready: false, restartCount: 0, {status}}}]}}}}"
        );
        crate::testing::from_yaml(&text).unwrap()
    }

    fn source(status: &str, previous: bool) -> Result<String, String> {
        log_source(&pod(status), "app", previous).map_err(|e| e.to_string())
    }

    #[test]
    fn the_log_is_that_of_the_newest_that_ran() {
        let ok = |id: &str| Ok(id.to_owned());
        assert_eq!(source("containerID: 'docker://c1', state: {running: {}}", false), ok("c1"));
        assert_eq!(source("state: {terminated: {exitCode: 0, containerID: 'docker://c1'}}", false), ok("c1"));
        let waiting = "state: {waiting: {reason: CrashLoopBackOff}}, lastState: {terminated: {exitCode: 1, containerID: 'docker://c0'}}";
        assert_eq!(source(waiting, false), ok("c0"));
        assert_eq!(source(waiting, true), ok("c0"));
    }

    #[test]
    fn without_a_log_the_reason_is_the_kubelets() {
        let error = |text: &str| Err(text.to_owned());
        let wait = "container \"app\" in pod \"web\" is waiting to start: ";
        assert_eq!(
            source("state: {waiting: {reason: ContainerCreating}}", false),
            error(&format!("{wait}ContainerCreating"))
        );
        assert_eq!(
            source("state: {waiting: {reason: ErrImagePull}}", false),
            error(&format!("{wait}image can't be pulled"))
        );
        let back_off = format!("{wait}trying and failing to pull image");
        assert_eq!(source("state: {waiting: {reason: ImagePullBackOff}}", false), error(&back_off));
        let none = "previous terminated container \"app\" in pod \"web\" not found";
        assert_eq!(source("containerID: 'docker://c1', state: {running: {}}", true), error(none));
    }

    #[test]
    fn the_container_must_be_named_when_there_are_several() {
        let several: Pod = crate::testing::from_yaml(
            "{metadata: {name: web}, spec: {containers: [{name: a}, {name: b}], initContainers: [{name: i}]}}",
        )
        .unwrap();
        let error = |name: &str| choose_container(&several, name).unwrap_err().to_string();
        assert_eq!(
            error(""),
            "a container name must be specified for pod web, choose one of: [a b] or one of the init containers: [i]"
        );
        assert_eq!(error("z"), "container z is not valid for pod web");
        assert_eq!(choose_container(&several, "i"), Ok("i".to_owned()));
        assert_eq!(choose_container(&pod(""), ""), Ok("app".to_owned()));
    }

    #[tokio::test]
    async fn a_limit_cuts_the_stream() {
        let chunks = ["abc", "def", "ghi"].map(|text| Ok(Bytes::from_static(text.as_bytes())));
        let cut: Vec<_> = limited(stream::iter(chunks).boxed(), Some(4)).collect().await;
        let text: Vec<u8> = cut.into_iter().flat_map(|chunk| chunk.unwrap().to_vec()).collect();
        assert_eq!(text, b"abcd");
    }
}
