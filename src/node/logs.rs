//! A container's log: which container a request means, and its bytes.
//!
//! Called by the server through [`PodStreams`]; may read pods from the registry and call the engine. It writes nothing.
//!
//! **Invariants**: which container is meant follows from the engine's labels, so a log is found however late the pod's status is;
//! the status only says why there is none. No list of containers is made for a container that the status names and that runs.
//! **Not here**: the checks of the query's numbers (`server`), how logs are kept (the engine).
//! **Source**: `pkg/registry/core/pod/strategy.go` `LogLocation`, `validateContainer`; `pkg/kubelet/kubelet_pods.go`
//! `validateContainerLogStatus`, v1.37.

use super::streams::{LogQuery, PodStreams};
use crate::{
    api::{kind::Kind as _, kinds::pod::Pods, meta::ObjectKey, status::ApiError},
    engine::{Container, Engine, EngineError, LogOptions, Phase},
    registry::Registry,
};
use async_trait::async_trait;
use bytes::Bytes;
use futures::{
    StreamExt as _,
    stream::{self, BoxStream},
};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{ContainerState, ContainerStatus, Pod, PodStatus};
use std::{io, sync::Arc};

/// Names the container that is meant when a request names none.
const DEFAULT_CONTAINER: &str = "kubectl.kubernetes.io/default-container";
// The labels that `identity` writes.
const POD_UID: &str = "io.kubernetes.pod.uid";
const CONTAINER_NAME: &str = "io.kubernetes.container.name";
const ATTEMPT: &str = "dev.skiff.attempt";

/// Chunks of a log.
type LogStream = BoxStream<'static, Result<Bytes, io::Error>>;

/// Serves the logs of the pods of this registry from this engine.
#[derive(Clone)]
pub struct Logs {
    registry: Registry,
    engine: Arc<dyn Engine>,
}

impl std::fmt::Debug for Logs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Logs").finish_non_exhaustive()
    }
}

impl Logs {
    /// Logs of the pods of this registry, which run on this engine.
    pub fn new(registry: Registry, engine: Arc<dyn Engine>) -> Self {
        Self { registry, engine }
    }

    /// The ID of the container whose log is meant.
    async fn find(&self, pod: &Pod, name: &str, previous: bool) -> Result<String, ApiError> {
        let status = status_of(pod, name);
        if !previous && let Some(id) = self.running_as_told(pod, name, status).await? {
            return Ok(id);
        }
        let listed = self.engine.list().await.map_err(|err| unavailable(&err))?;
        let started = started_attempts(&listed, pod, name);
        let waits = status.and_then(state).is_some_and(|s| s.waiting.is_some());
        pick(&started, previous, waits).map(|c| c.id.clone()).ok_or_else(|| why_none(pod, name, previous))
    }

    /// The container that the status names, when it runs: then it is the newest, and nothing need be searched.
    async fn running_as_told(
        &self,
        pod: &Pod,
        name: &str,
        status: Option<&ContainerStatus>,
    ) -> Result<Option<String>, ApiError> {
        let is_running = status.and_then(state).is_some_and(|s| s.running.is_some());
        let Some(id) = status.filter(|_| is_running).and_then(|s| plain_id(s.container_id.as_deref())) else {
            return Ok(None);
        };
        let found = self.engine.inspect(id).await.map_err(|err| unavailable(&err))?;
        let found = found.filter(|c| c.phase == Phase::Running && is_of(c, pod, name));
        Ok(found.map(|c| c.id))
    }

    async fn open(&self, id: &str, pod: &Pod, name: &str, query: &LogQuery) -> Result<LogStream, ApiError> {
        let options = engine_options(query, self.registry.clock().now());
        if options.tail == Some(0) && !options.follow {
            return Ok(stream::empty().boxed());
        }
        let opened = self.engine.logs(id, &options).await;
        let log = opened.map_err(|err| match err {
            EngineError::NotFound(_) => why_none(pod, name, query.previous),
            err => unavailable(&err),
        })?;
        let log = log.map(|chunk| chunk.map_err(io::Error::other)).boxed();
        Ok(match query.limit_bytes {
            Some(limit) => limited(log, usize::try_from(limit).unwrap_or(usize::MAX)),
            None => log,
        })
    }
}

#[async_trait]
impl PodStreams for Logs {
    async fn logs(&self, key: &ObjectKey, query: &LogQuery) -> Result<LogStream, ApiError> {
        let pod = self.registry.api::<Pods>().get(key);
        let pod = pod.ok_or_else(|| ApiError::not_found(&Pods::INFO, &key.name))?;
        let name = container_of(&pod, &query.container)?;
        let is_assigned = pod.spec.as_ref().is_some_and(|s| s.node_name.as_ref().is_some_and(|n| !n.is_empty()));
        if !is_assigned {
            // As Kubernetes: a pod that no node has taken yet has an empty log.
            return Ok(stream::empty().boxed());
        }
        let id = self.find(&pod, &name, query.previous).await?;
        self.open(&id, &pod, &name, query).await
    }
}

/// The name of the container that a request means.
fn container_of(pod: &Pod, wanted: &str) -> Result<String, ApiError> {
    let pod_name = name_of(pod);
    let names = container_names(pod);
    if !wanted.is_empty() {
        let invalid = || ApiError::BadRequest(format!("container {wanted} is not valid for pod {pod_name}"));
        return names.contains(&wanted).then(|| wanted.to_owned()).ok_or_else(invalid);
    }
    let annotations = pod.metadata.annotations.as_ref();
    let default = annotations.and_then(|a| a.get(DEFAULT_CONTAINER)).filter(|d| names.contains(&d.as_str()));
    if let Some(default) = default {
        return Ok(default.clone());
    }
    match pod.spec.as_ref().map_or(&[][..], |s| &s.containers) {
        [one] => Ok(one.name.clone()),
        _ => Err(ApiError::BadRequest(format!(
            "a container name must be specified for pod {pod_name}, choose one of: [{}]",
            names.join(" ")
        ))),
    }
}

/// The names of a pod's containers: those that prepare first.
fn container_names(pod: &Pod) -> Vec<&str> {
    let Some(spec) = &pod.spec else {
        return Vec::new();
    };
    spec.init_containers.iter().flatten().chain(&spec.containers).map(|c| c.name.as_str()).collect()
}

fn name_of(pod: &Pod) -> &str {
    pod.metadata.name.as_deref().unwrap_or_default()
}

fn status_of<'a>(pod: &'a Pod, name: &str) -> Option<&'a ContainerStatus> {
    let PodStatus { container_statuses, init_container_statuses, .. } = pod.status.as_ref()?;
    container_statuses.iter().flatten().chain(init_container_statuses.iter().flatten()).find(|s| s.name == name)
}

fn state(status: &ContainerStatus) -> Option<&ContainerState> {
    status.state.as_ref()
}

/// The engine's ID in a status' `docker://<id>`.
fn plain_id(id: Option<&str>) -> Option<&str> {
    id?.split_once("://").map(|(_, id)| id).filter(|id| !id.is_empty())
}

fn is_of(container: &Container, pod: &Pod, name: &str) -> bool {
    let has = |label: &str, value: &str| container.labels.get(label).is_some_and(|v| v == value);
    pod.metadata.uid.as_deref().is_some_and(|uid| has(POD_UID, uid)) && has(CONTAINER_NAME, name)
}

/// The attempts of a container that ran, or tried to, oldest first.
fn started_attempts<'a>(listed: &'a [Container], pod: &Pod, name: &str) -> Vec<&'a Container> {
    let attempt = |c: &Container| c.labels.get(ATTEMPT).and_then(|a| a.parse::<u32>().ok());
    let has_started = |c: &Container| c.phase != Phase::Created || !c.error.is_empty();
    let mut found: Vec<_> = listed.iter().filter(|c| is_of(c, pod, name) && has_started(c)).collect();
    found.sort_by_key(|c| attempt(c));
    found
}

/// The newest attempt, or the one before. While the next attempt waits to start, the newest is the one before.
fn pick<'a>(started: &[&'a Container], previous: bool, waits: bool) -> Option<&'a Container> {
    let newest = *started.last()?;
    let is_past = waits && newest.phase != Phase::Running;
    if previous && !is_past { started.iter().rev().nth(1).copied() } else { Some(newest) }
}

/// Why there is no log, in the kubelet's words.
fn why_none(pod: &Pod, name: &str, previous: bool) -> ApiError {
    let this = format!("container {name:?} in pod {:?}", name_of(pod));
    let Some(status) = status_of(pod, name) else {
        return ApiError::BadRequest(format!("{this} is not available"));
    };
    if previous {
        return ApiError::BadRequest(format!("previous terminated {this} not found"));
    }
    let state = state(status).cloned().unwrap_or_default();
    let text = match state {
        ContainerState { running: Some(_), .. } => {
            let id = status.container_id.as_deref().unwrap_or_default();
            format!("unable to retrieve container logs for {id}")
        }
        ContainerState { terminated: Some(_), .. } => format!("{this} is terminated"),
        ContainerState { waiting: Some(waiting), .. } => match waiting.reason.as_deref().unwrap_or_default() {
            "ErrImagePull" => format!("{this} is waiting to start: image can't be pulled"),
            "ImagePullBackOff" => {
                format!("{this} is waiting to start: trying and failing to pull image")
            }
            reason => format!("{this} is waiting to start: {reason}"),
        },
        ContainerState { .. } => format!("{this} is waiting to start - no logs yet"),
    };
    ApiError::BadRequest(text)
}

fn unavailable(err: &EngineError) -> ApiError {
    match err {
        EngineError::Unreachable(_) | EngineError::TimedOut(..) => ApiError::Unavailable(err.to_string()),
        err => ApiError::Internal(err.to_string()),
    }
}

fn engine_options(query: &LogQuery, now: Timestamp) -> LogOptions {
    let ago = |seconds: i64| now.checked_sub(SignedDuration::from_secs(seconds)).unwrap_or(Timestamp::MIN);
    LogOptions {
        follow: query.follow,
        tail: query.tail_lines,
        since: query.since_time.or(query.since_seconds.map(ago)),
        timestamps: query.timestamps,
    }
}

/// The first bytes of a log. It ends with the chunk that fills the limit; for the one after a followed log may wait for ever.
fn limited(log: LogStream, limit: usize) -> LogStream {
    let next = |(mut log, left): (LogStream, usize)| async move {
        if left == 0 {
            return None;
        }
        Some(match log.next().await? {
            Ok(mut bytes) => {
                bytes.truncate(left);
                let left = left - bytes.len();
                (Ok(bytes), (log, left))
            }
            Err(err) => (Err(err), (log, 0)),
        })
    };
    stream::unfold((log, limit), next).boxed()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        base::{clock::Clock, rng::Rng},
        engine::{
            ContainerSpec,
            fake::{Behaviour, FakeEngine},
        },
        testing,
    };
    use futures::TryStreamExt as _;
    use serde_json::{Value, json};
    use std::{collections::BTreeMap, time::Duration};

    struct World {
        logs: Logs,
        engine: FakeEngine,
        uid: String,
    }

    const START: &str = "2026-01-01T00:00:00Z";

    async fn world(pod: Value, status: Value) -> World {
        let clock = Clock::simulated(START.parse().unwrap());
        let registry = testing::registry_with(clock.clone(), Rng::seeded(1)).await;
        let engine = FakeEngine::new(clock, Rng::seeded(1), Default::default());
        engine.add_image("app", Behaviour { output: vec!["hello".into(), "world".into()], ..Behaviour::server() });
        let pods = registry.api::<Pods>();
        let created = pods.create(serde_json::from_value(pod).unwrap()).await.unwrap();
        let status: PodStatus = serde_json::from_value(status).unwrap();
        let key = ObjectKey::of(&created.metadata);
        pods.modify_status(&key, |pod| pod.status = Some(status.clone())).await.unwrap();
        let uid = created.metadata.uid.clone().unwrap();
        World { logs: Logs::new(registry, Arc::new(engine.clone())), engine, uid }
    }

    fn pod(names: &[&str]) -> Value {
        let containers: Vec<Value> = names.iter().map(|n| json!({"name": n, "image": "app"})).collect();
        json!({"metadata": {"name": "web", "namespace": "default"},
               "spec": {"nodeName": "skiff", "containers": containers}})
    }

    fn status(state: Value) -> Value {
        json!({"containerStatuses": [{"name": "app", "image": "app", "imageID": "", "ready": false, "restartCount": 0,
                                      "state": state}]})
    }

    fn running() -> Value {
        status(json!({"running": {"startedAt": START}}))
    }

    impl World {
        async fn start(&self, container: &str, attempt: u32) -> String {
            let labels = [(POD_UID, self.uid.as_str()), (CONTAINER_NAME, container), (ATTEMPT, &attempt.to_string())];
            let labels: BTreeMap<String, String> =
                labels.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
            let name = format!("k8s_{container}_{attempt}");
            let spec = ContainerSpec { name: name.clone(), image: "app".into(), labels, ..Default::default() };
            self.engine.create(&spec).await.unwrap();
            self.engine.start(&name).await.unwrap();
            name
        }

        /// The log, or the error that a user reads.
        async fn read(&self, query: LogQuery) -> String {
            match self.logs.logs(&ObjectKey::new("default", "web"), &query).await {
                Err(err) => format!("{}: {err}", err.to_status()["code"]),
                Ok(log) => {
                    let chunks: Vec<Bytes> = log.try_collect().await.unwrap();
                    String::from_utf8(chunks.concat()).unwrap()
                }
            }
        }
    }

    fn of(container: &str) -> LogQuery {
        LogQuery { container: container.into(), ..LogQuery::default() }
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_names_no_container_means_the_only_or_the_default_one() {
        let mut annotated = pod(&["a", "b"]);
        annotated["metadata"]["annotations"] = json!({DEFAULT_CONTAINER: "b"});
        let mut prepared = pod(&["a", "b"]);
        prepared["spec"]["initContainers"] = json!([{"name": "first", "image": "app"}]);
        let must_choose = "a container name must be specified for pod web, choose one of: ";
        let cases = [
            (pod(&["a"]), "", Ok("a".to_owned())),
            (pod(&["a", "b"]), "", Err(format!("{must_choose}[a b]"))),
            (annotated, "", Ok("b".to_owned())),
            (prepared.clone(), "", Err(format!("{must_choose}[first a b]"))),
            (prepared, "first", Ok("first".to_owned())),
            (pod(&["a"]), "c", Err("container c is not valid for pod web".to_owned())),
        ];
        for (pod, wanted, want) in cases {
            let pod: Pod = serde_json::from_value(pod).unwrap();
            assert_eq!(container_of(&pod, wanted), want.map_err(ApiError::BadRequest));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_container_without_a_log_says_why() {
        let waiting = |reason: &str| status(json!({"waiting": {"reason": reason}}));
        let cases = [
            (json!({}), r#"400: container "app" in pod "web" is not available"#),
            (
                waiting("ContainerCreating"),
                r#"400: container "app" in pod "web" is waiting to start: ContainerCreating"#,
            ),
            (
                waiting("ErrImagePull"),
                r#"400: container "app" in pod "web" is waiting to start: image can't be pulled"#,
            ),
            (
                waiting("ImagePullBackOff"),
                r#"400: container "app" in pod "web" is waiting to start: trying and failing to pull image"#,
            ),
            (status(json!({})), r#"400: container "app" in pod "web" is waiting to start - no logs yet"#),
            (status(json!({"terminated": {"exitCode": 1}})), r#"400: container "app" in pod "web" is terminated"#),
        ];
        for (status, want) in cases {
            assert_eq!(world(pod(&["app"]), status).await.read(of("")).await, want);
        }
        let world = world(pod(&["app"]), running()).await;
        world.start("app", 0).await;
        let previous = LogQuery { previous: true, ..of("app") };
        assert_eq!(world.read(previous).await, r#"400: previous terminated container "app" in pod "web" not found"#);
        let missing = world.logs.logs(&ObjectKey::new("default", "nope"), &of("")).await.err().unwrap();
        assert_eq!(missing.to_string(), r#"pods "nope" not found"#);
    }

    #[tokio::test(start_paused = true)]
    async fn the_newest_attempt_speaks_and_the_one_before_is_the_previous() {
        let world = world(pod(&["app", "other"]), running()).await;
        for attempt in [9, 10] {
            let name = world.start("app", attempt).await;
            world.engine.print(&name, &format!("attempt {attempt}"));
            if attempt == 9 {
                world.engine.crash(&name, 1);
            }
        }
        world.start("other", 11).await;
        assert_eq!(world.read(of("app")).await, "hello\nworld\nattempt 10\n");
        let previous = LogQuery { previous: true, ..of("app") };
        assert_eq!(world.read(previous).await, "hello\nworld\nattempt 9\n");
    }

    #[tokio::test(start_paused = true)]
    async fn between_two_attempts_the_last_one_speaks_and_is_the_previous_too() {
        let world = world(pod(&["app"]), status(json!({"waiting": {"reason": "CrashLoopBackOff"}}))).await;
        let name = world.start("app", 0).await;
        world.engine.crash(&name, 1);
        assert_eq!(world.read(of("app")).await, "hello\nworld\n");
        assert_eq!(world.read(LogQuery { previous: true, ..of("app") }).await, "hello\nworld\n");
    }

    #[tokio::test(start_paused = true)]
    async fn a_running_container_that_the_status_names_is_not_searched_for() {
        let world = world(pod(&["app"]), running()).await;
        let name = world.start("app", 0).await;
        let id = world.engine.inspect(&name).await.unwrap().unwrap().id;
        let api = world.logs.registry.api::<Pods>();
        let told = |pod: &mut Pod| {
            let statuses = pod.status.as_mut().and_then(|s| s.container_statuses.as_mut()).unwrap();
            statuses[0].container_id = Some(format!("docker://{id}"));
        };
        api.modify_status(&ObjectKey::new("default", "web"), told).await.unwrap();
        world.engine.take_calls();
        assert_eq!(world.read(of("app")).await, "hello\nworld\n");
        let calls: Vec<_> = world.engine.take_calls().into_iter().map(|c| format!("{:?}", c.kind)).collect();
        assert_eq!(calls, ["Inspect", "Logs"]);
    }

    #[tokio::test(start_paused = true)]
    async fn the_options_choose_which_part_is_shown() {
        let world = world(pod(&["app"]), running()).await;
        let name = world.start("app", 0).await;
        tokio::time::sleep(Duration::from_mins(1)).await;
        world.engine.print(&name, "late");
        let at = |seconds: i64| START.parse::<Timestamp>().unwrap() + SignedDuration::from_secs(seconds);
        let cases = [
            (LogQuery { tail_lines: Some(2), ..of("") }, "world\nlate\n"),
            (LogQuery { tail_lines: Some(0), ..of("") }, ""),
            (LogQuery { since_seconds: Some(30), ..of("") }, "late\n"),
            (LogQuery { since_time: Some(at(60)), ..of("") }, "late\n"),
            (LogQuery { limit_bytes: Some(8), ..of("") }, "hello\nwo"),
            (LogQuery { tail_lines: Some(1), timestamps: true, ..of("") }, "2026-01-01T00:01:00.000000000Z late\n"),
        ];
        for (query, want) in cases {
            assert_eq!(world.read(query.clone()).await, want, "{query:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_followed_log_goes_on_until_the_container_ends_or_the_limit_is_reached() {
        let world = world(pod(&["app"]), running()).await;
        let name = world.start("app", 0).await;
        let key = ObjectKey::new("default", "web");
        let query = LogQuery { follow: true, ..of("") };
        let all = world.logs.logs(&key, &query).await.unwrap();
        let cut = world.logs.logs(&key, &LogQuery { limit_bytes: Some(12), ..query }).await.unwrap();
        let cut: Vec<Bytes> = cut.try_collect().await.unwrap();
        assert_eq!(cut.concat(), b"hello\nworld\n", "it ended although the container goes on");
        world.engine.print(&name, "more");
        world.engine.crash(&name, 0);
        let all: Vec<Bytes> = all.try_collect().await.unwrap();
        assert_eq!(all.concat(), b"hello\nworld\nmore\n");
    }

    #[tokio::test(start_paused = true)]
    async fn a_pod_that_no_node_has_taken_has_an_empty_log() {
        let mut pod = pod(&["app"]);
        pod["spec"].as_object_mut().unwrap().remove("nodeName");
        assert_eq!(world(pod, json!({})).await.read(of("")).await, "");
    }

    #[tokio::test(start_paused = true)]
    async fn an_engine_that_is_away_is_said_so() {
        let world = world(pod(&["app"]), running()).await;
        world.engine.daemon_down(false);
        assert!(world.read(of("")).await.starts_with("503: "));
    }
}
