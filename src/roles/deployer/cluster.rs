//! What a deployer needs of the cluster, as a trait, and the API that gives it.

use crate::{
    api::{
        kinds::deployment_config::types::{API_VERSION, DeploymentConfig, KIND},
        object::untyped,
        pod_state,
        rollout::{CONFIG, DEPLOYER_CONTAINER, NAME_VARIABLE, deployer_pod_name, size},
    },
    base::{
        clock::{Clock, whole_seconds},
        json::typed,
        ordered::CollectOrdered as _,
    },
    client::{Client, ClientError, PatchKind},
};
use anyhow::{Context as _, bail};
use async_trait::async_trait;
use http::StatusCode;
use jiff::Timestamp;
use k8s_openapi::{
    List,
    api::core::v1::{Pod, ReplicationController},
};
use serde_json::{Value, json};
use std::{
    io::{self, Write as _},
    time::Duration,
};
use tokio::time::{Instant, sleep};

/// The first pause between two looks; each is longer than the one before.
pub(super) const LOOK_MIN: Duration = Duration::from_millis(20);
/// The longest pause between two looks.
const LOOK_MAX: Duration = Duration::from_secs(1);

/// How long the API may be away: a control plane that is stopped or upgraded comes back where it was.
const AWAY_MAX: Duration = Duration::from_secs(120);

/// How a hook's pod ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    Succeeded,
    /// With what the pod says about it.
    Failed(String),
    /// Somebody deleted it.
    Gone,
}

/// The cluster, as deployers see it. Objects are those of the rollout's namespace.
#[async_trait]
pub(super) trait Cluster: Send + Sync {
    /// Tells the user.
    fn say(&self, line: &str);
    /// The time.
    fn now(&self) -> Timestamp;
    /// A rollout.
    async fn rollout(&self, name: &str) -> anyhow::Result<ReplicationController>;
    /// All rollouts of a DeploymentConfig.
    async fn rollouts(&self, config: &str) -> anyhow::Result<Vec<ReplicationController>>;
    /// Gives a rollout this size, and waits until it has as many pods, ready or not.
    async fn scale_and_wait(&self, rollout: &str, size: i32, within: Duration) -> anyhow::Result<()>;
    /// Sets annotations of a rollout, or takes them away.
    async fn annotate(&self, rollout: &str, annotations: &[(&str, Option<String>)]) -> anyhow::Result<()>;
    /// The pods of a rollout.
    async fn pods_of(&self, rollout: &ReplicationController) -> anyhow::Result<Vec<Pod>>;
    /// Waits until none of a rollout's pods runs; whether that was so in time.
    async fn wait_until_gone(&self, rollout: &ReplicationController, within: Duration) -> anyhow::Result<bool> {
        let since = Instant::now();
        let mut pause = LOOK_MIN;
        while self.pods_of(rollout).await?.iter().any(|pod| !pod_state::is_terminal(pod)) {
            if since.elapsed() >= within {
                return Ok(false);
            }
            wait(&mut pause).await;
        }
        Ok(true)
    }
    /// Waits until all pods of a rollout are available; whether that was so in time.
    async fn wait_until_available(&self, rollout: &str, within: Duration) -> anyhow::Result<bool> {
        let since = Instant::now();
        let mut pause = LOOK_MIN;
        loop {
            let rc = self.rollout(rollout).await?;
            let available = rc.status.as_ref().and_then(|status| status.available_replicas).unwrap_or(0);
            if is_observed(&rc) && available == size(&rc) {
                return Ok(true);
            }
            if since.elapsed() >= within {
                return Ok(false);
            }
            wait(&mut pause).await;
        }
    }
    /// Creates a pod; one of that name that is there already will do. Returns the name.
    async fn create_pod(&self, pod: &Pod) -> anyhow::Result<String>;
    /// Passes the log of a pod on until it ends, and tells of each restart.
    async fn watch_to_end(&self, pod: &str, restarted: &mut (dyn FnMut(i32) + Send)) -> anyhow::Result<Ended>;
    /// How many of the seconds that the deployer has are left.
    async fn seconds_left(&self, deadline: i64) -> anyhow::Result<i64>;
    /// Gives an image a tag of an image stream.
    async fn tag_image(&self, namespace: &str, tag: &str, image: &str) -> anyhow::Result<()>;
    /// Records an event about the DeploymentConfig.
    async fn event(&self, config: &DeploymentConfig, reason: &'static str, message: &str) -> anyhow::Result<()>;
}

/// Pauses, and makes the next pause longer: about a quarter of the time since the first.
pub(super) async fn wait(pause: &mut Duration) {
    sleep(*pause).await;
    *pause = (*pause * 5 / 4).min(LOOK_MAX);
}

/// Asks until there is an answer. What deployers ask may be asked twice.
async fn patiently<T, F>(ask: impl Fn() -> F) -> Result<T, ClientError>
where
    F: Future<Output = Result<T, ClientError>>,
{
    let since = Instant::now();
    let mut pause = LOOK_MIN;
    loop {
        match ask().await {
            Err(err) if is_passing(&err) && since.elapsed() < AWAY_MAX => wait(&mut pause).await,
            answer => return answer,
        }
    }
}

/// Whether another answer may come by itself.
fn is_passing(err: &ClientError) -> bool {
    match err {
        ClientError::Connect { .. } | ClientError::Late { .. } | ClientError::Broken(_) => true,
        ClientError::Refused { code, .. } => code.is_server_error() || *code == StatusCode::TOO_MANY_REQUESTS,
        ClientError::Token { .. } | ClientError::Malformed(_) => false,
    }
}

/// Whether a ReplicationController has seen what was asked of it last.
pub(super) fn is_observed(rc: &ReplicationController) -> bool {
    let observed = rc.status.as_ref().and_then(|status| status.observed_generation).unwrap_or(0);
    observed >= rc.metadata.generation.unwrap_or(0)
}

/// The API.
#[derive(Debug)]
pub(super) struct Api {
    client: Client,
    clock: Clock,
    namespace: String,
}

impl Api {
    pub(super) fn new(client: Client, namespace: String) -> Self {
        Self { client, clock: Clock::system(), namespace }
    }

    fn path(&self, rest: &str) -> String {
        format!("/api/v1/namespaces/{}/{rest}", self.namespace)
    }

    async fn pod(&self, name: &str) -> anyhow::Result<Option<Pod>> {
        let path = self.path(&format!("pods/{name}"));
        match patiently(|| self.client.get(&path)).await {
            Ok(pod) => Ok(Some(typed(pod)?)),
            Err(err) if err.code() == Some(StatusCode::NOT_FOUND) => Ok(None),
            Err(err) => Err(err).with_context(|| format!("read pod {name}")),
        }
    }

    /// Passes on what a pod's container prints, until it ends.
    async fn pass_log(&self, pod: &str) -> Result<(), ClientError> {
        let mut log = self.client.follow(&self.path(&format!("pods/{pod}/log?follow=true"))).await?;
        while let Some(bytes) = log.next().await? {
            // Nobody reads: the rollout goes on.
            drop(io::stdout().write_all(&bytes));
        }
        Ok(())
    }
}

#[async_trait]
impl Cluster for Api {
    fn say(&self, line: &str) {
        drop(writeln!(io::stdout(), "{line}"));
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    async fn rollout(&self, name: &str) -> anyhow::Result<ReplicationController> {
        let path = self.path(&format!("replicationcontrollers/{name}"));
        let found = patiently(|| self.client.get(&path)).await;
        Ok(typed(found.with_context(|| format!("couldn't get deployment {name}"))?)?)
    }

    async fn rollouts(&self, config: &str) -> anyhow::Result<Vec<ReplicationController>> {
        let path = self.path(&format!("replicationcontrollers?labelSelector={CONFIG}%3D{config}"));
        let found = patiently(|| self.client.get(&path)).await;
        let found = found.with_context(|| format!("couldn't get deployments of {config}"))?;
        Ok(typed::<List<ReplicationController>>(found)?.items)
    }

    async fn scale_and_wait(&self, rollout: &str, wanted: i32, within: Duration) -> anyhow::Result<()> {
        let path = self.path(&format!("replicationcontrollers/{rollout}/scale"));
        let scale = json!({ "spec": { "replicas": wanted } });
        let scaled = patiently(|| self.client.patch(&path, PatchKind::Merge, &scale)).await;
        scaled.with_context(|| format!("couldn't scale {rollout} to {wanted}"))?;
        let since = Instant::now();
        let mut pause = LOOK_MIN;
        loop {
            let rc = self.rollout(rollout).await?;
            let has = rc.status.as_ref().map_or(0, |status| status.replicas);
            if is_observed(&rc) && has == size(&rc) {
                return Ok(());
            }
            if since.elapsed() >= within {
                bail!("couldn't scale {rollout} to {wanted}: it has {has} pods after {} s", within.as_secs());
            }
            wait(&mut pause).await;
        }
    }

    async fn annotate(&self, rollout: &str, annotations: &[(&str, Option<String>)]) -> anyhow::Result<()> {
        let annotations: serde_json::Map<String, Value> =
            annotations.iter().map(|(key, value)| ((*key).to_owned(), json!(value))).collect_ordered();
        let change = json!({ "metadata": { "annotations": annotations } });
        let path = self.path(&format!("replicationcontrollers/{rollout}"));
        let changed = patiently(|| self.client.patch(&path, PatchKind::Merge, &change)).await;
        changed.with_context(|| format!("couldn't annotate {rollout}"))?;
        Ok(())
    }

    async fn pods_of(&self, rollout: &ReplicationController) -> anyhow::Result<Vec<Pod>> {
        let selector = rollout.spec.as_ref().and_then(|spec| spec.selector.as_ref());
        let pairs: Vec<String> = selector.into_iter().flatten().map(|(k, v)| format!("{k}={v}")).collect();
        let query =
            form_urlencoded::Serializer::new(String::new()).append_pair("labelSelector", &pairs.join(",")).finish();
        let path = self.path(&format!("pods?{query}"));
        let found = patiently(|| self.client.get(&path)).await.context("couldn't list pods")?;
        Ok(typed::<List<Pod>>(found)?.items)
    }

    async fn create_pod(&self, pod: &Pod) -> anyhow::Result<String> {
        let name = pod.metadata.name.clone().unwrap_or_default();
        let (path, object) = (self.path("pods"), untyped(pod));
        match patiently(|| self.client.post(&path, &object)).await {
            Ok(_) => Ok(name),
            Err(err) if err.code() == Some(StatusCode::CONFLICT) => Ok(name),
            Err(err) => Err(err).with_context(|| format!("couldn't create pod {name}")),
        }
    }

    async fn watch_to_end(&self, name: &str, restarted: &mut (dyn FnMut(i32) + Send)) -> anyhow::Result<Ended> {
        let mut pause = LOOK_MIN;
        let mut seen = -1;
        loop {
            let Some(pod) = self.pod(name).await? else { return Ok(Ended::Gone) };
            let status = pod.status.unwrap_or_default();
            let container = status.container_statuses.iter().flatten().next();
            let restarts = container.map_or(0, |c| c.restart_count);
            restarted(restarts);
            let has_begun = container.and_then(|c| c.state.as_ref()).is_some_and(|s| s.waiting.is_none());
            if has_begun && restarts > seen {
                seen = restarts;
                if let Err(err) = self.pass_log(name).await {
                    self.say(&format!("    (the log of {name} could not be read: {err})"));
                }
                pause = LOOK_MIN;
            }
            match status.phase.as_deref() {
                Some("Succeeded") => return Ok(Ended::Succeeded),
                Some("Failed") => {
                    let own = status.message.or(status.reason);
                    return Ok(Ended::Failed(own.unwrap_or_default()));
                }
                _ => wait(&mut pause).await,
            }
        }
    }

    async fn seconds_left(&self, deadline: i64) -> anyhow::Result<i64> {
        let name = std::env::var(NAME_VARIABLE).unwrap_or_default();
        let own = self.pod(&deployer_pod_name(&name)).await?;
        let started = own.and_then(|pod| pod.status).and_then(|status| status.start_time);
        let passed = started.map_or(0, |time| self.now().duration_since(time.0).as_secs());
        // A second at least: no pod may have less.
        Ok((deadline - passed).max(1))
    }

    async fn tag_image(&self, namespace: &str, tag: &str, image: &str) -> anyhow::Result<()> {
        let path = format!("/apis/image.openshift.io/v1/namespaces/{namespace}/imagestreamtags/{tag}");
        let object = json!({
            "apiVersion": "image.openshift.io/v1", "kind": "ImageStreamTag",
            "metadata": { "name": tag, "namespace": namespace },
            "tag": { "from": { "kind": "DockerImage", "name": image } },
        });
        let tagged = patiently(|| self.client.put(&path, &object)).await;
        tagged.with_context(|| format!("couldn't tag {image} as {namespace}/{tag}"))?;
        Ok(())
    }

    async fn event(&self, config: &DeploymentConfig, reason: &'static str, message: &str) -> anyhow::Result<()> {
        let now = self.now();
        let at = whole_seconds(now).to_string();
        let kind = if reason == "Failed" { "Warning" } else { "Normal" };
        let name = config.metadata.name.clone().unwrap_or_default();
        let object = json!({
            "apiVersion": "v1", "kind": "Event", "type": kind, "reason": reason, "message": message,
            "metadata": { "name": format!("{name}.{:x}", now.as_nanosecond()), "namespace": self.namespace },
            "involvedObject": {
                "apiVersion": API_VERSION, "kind": KIND, "namespace": self.namespace, "name": name,
                "uid": config.metadata.uid,
            },
            "source": { "component": DEPLOYER_CONTAINER }, "count": 1,
            "firstTimestamp": at,
            "lastTimestamp": at,
        });
        self.client.post(&self.path("events"), &object).await?;
        Ok(())
    }
}
