//! What pods use: the engine's counters, read when somebody asks and at no other time.
//!
//! `server` and the autoscaler ask through [`Usages`]. How much processor a container uses is the difference of two looks: the one before
//! counts while it is not too old, so whoever asks every few seconds pays for one look; whoever asks out of the blue waits for a second
//! look a moment later.
//!
//! **Invariants**: one look is under way at a time, and whoever asks meanwhile gets its answer; a pod is told of when all its running
//! containers have been measured, as metrics-server has it.
//! **Not here**: who sums up what (`server/verbs/metrics`).

use super::context::Context;
use crate::{
    api::{
        meta::ObjectKey,
        status::ApiError,
        usage::{ContainerUsage, DiskUsage, MachineUsage, PodUsage},
    },
    base::{chain::chain, ordered::Map},
    engine::{self, EngineError, Usage},
};
use async_trait::async_trait;
use futures::{StreamExt as _, stream};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use std::{sync::Arc, time::Duration};
use tokio::{sync::Mutex, time::Instant};
use tracing::warn;

/// Asked again within this time, the answer is the same.
const FRESH: Duration = Duration::from_secs(1);
/// How long is measured at least, and when nothing was before.
const WINDOW_MIN: Duration = Duration::from_millis(500);
/// How long is measured at most: about what metrics-server has on a busy node.
const WINDOW_MAX: Duration = Duration::from_mins(1);
/// How many containers are looked at at once.
const LOOKS_AT_ONCE: usize = 8;

/// What pods use, for those who ask.
#[async_trait]
pub trait Usages: Send + Sync + 'static {
    /// What every running pod of the node uses that could be measured, in key order.
    ///
    /// # Errors
    /// `Unavailable` when the engine does not answer.
    async fn pods(&self) -> Result<Vec<PodUsage>, ApiError>;

    /// What else is used of the machine: a look at every sandbox that has a network.
    ///
    /// # Errors
    /// `Unavailable` when the engine does not answer.
    async fn machine(&self) -> Result<MachineUsage, ApiError>;
}

/// Two looks at a container: the last, and the one that it is compared with.
#[derive(Clone, Debug)]
struct Pair {
    before: Option<Usage>,
    last: Usage,
}

impl Pair {
    /// The pair with a newer look. A look that is too old, or from before the container started anew, compares with nothing.
    fn then(self, newer: Usage) -> Self {
        let fits = |older: &Usage| {
            let apart = Duration::try_from(newer.at.duration_since(older.at)).unwrap_or_default();
            (WINDOW_MIN..=WINDOW_MAX).contains(&apart) && self.last.cpu_nanos <= newer.cpu_nanos
        };
        Self { before: [Some(self.last.clone()), self.before.clone()].into_iter().flatten().find(fits), last: newer }
    }

    /// How long was measured, and how fast processors were used, in billionths of one.
    fn rate(&self) -> Option<(Duration, u64)> {
        let before = self.before.as_ref()?;
        let window = Duration::try_from(self.last.at.duration_since(before.at)).ok()?;
        let nanos = u128::from(self.last.cpu_nanos - before.cpu_nanos) * 1_000_000_000 / window.as_nanos().max(1);
        Some((window, u64::try_from(nanos).unwrap_or(u64::MAX)))
    }
}

#[derive(Default)]
struct Looks {
    /// By the engine's ID of the container.
    pairs: Map<String, Pair>,
    last_at: Option<Instant>,
}

/// The agent's.
pub(super) struct Sampler {
    context: Arc<Context>,
    looks: Mutex<Looks>,
}

impl Sampler {
    pub(super) fn new(context: Arc<Context>) -> Self {
        Self { context, looks: Mutex::default() }
    }

    /// Looks at these containers.
    async fn look(&self, looks: &mut Looks, ids: Vec<String>) -> Result<(), ApiError> {
        let one = |id: String| async move {
            let told = self.context.ask(self.context.engine.usage(&id)).await;
            (id, told)
        };
        let mut told = stream::iter(ids.into_iter().map(one)).buffer_unordered(LOOKS_AT_ONCE);
        while let Some((id, usage)) = told.next().await {
            match usage {
                Ok(Some(usage)) => {
                    let pair = match looks.pairs.remove(&id) {
                        Some(pair) => pair.then(usage),
                        None => Pair { before: None, last: usage },
                    };
                    looks.pairs.insert(id, pair);
                }
                // It has ended since.
                Ok(None) => drop(looks.pairs.remove(&id)),
                Err(err @ EngineError::Unreachable(_)) => return Err(ApiError::Unreachable(err.to_string())),
                // The others can be told of all the same; this one is missing, as in every cluster.
                Err(err) => {
                    warn!(component = "node", container_id = id, err = chain(&err), "cannot measure a container");
                    looks.pairs.remove(&id);
                }
            }
        }
        Ok(())
    }
}

#[async_trait]
impl Usages for Sampler {
    async fn pods(&self) -> Result<Vec<PodUsage>, ApiError> {
        let mut looks = self.looks.lock().await;
        let pods = self.context.pods.list("").items;
        let ids: Vec<String> = pods.iter().flat_map(|pod| running(pod)).map(|(_, id)| id.to_owned()).collect();
        looks.pairs.retain(|id, _| ids.contains(id));
        let is_fresh = looks.last_at.is_some_and(|at| self.context.clock().mono() - at < FRESH);
        if !is_fresh {
            self.look(&mut looks, ids.clone()).await?;
            looks.last_at = Some(self.context.clock().mono());
        }
        let lacks = |looks: &Looks| -> Vec<String> {
            ids.iter().filter(|id| looks.pairs.get(*id).is_none_or(|pair| pair.before.is_none())).cloned().collect()
        };
        let unmeasured = lacks(&looks);
        if !unmeasured.is_empty() {
            let unseen = unmeasured.iter().filter(|id| !looks.pairs.contains_key(*id)).cloned().collect();
            self.look(&mut looks, unseen).await?;
            // The window of a container that nothing is known of.
            tokio::time::sleep(WINDOW_MIN).await;
            self.look(&mut looks, unmeasured).await?;
        }
        Ok(pods.iter().filter_map(|pod| usage_of(pod, &looks.pairs)).collect())
    }

    async fn machine(&self) -> Result<MachineUsage, ApiError> {
        let unavailable = |err: EngineError| ApiError::Unreachable(err.to_string());
        let info = self.context.ask(self.context.engine.info()).await.map_err(unavailable)?;
        let one = |(uid, sandbox): (String, String)| async move {
            let told = self.context.ask(self.context.engine.usage(&sandbox)).await;
            (uid, told)
        };
        let sandboxes = self.context.sandboxes().into_iter().map(one);
        let mut told = stream::iter(sandboxes).buffer_unordered(LOOKS_AT_ONCE);
        let mut interfaces = Map::new();
        while let Some((uid, usage)) = told.next().await {
            match usage {
                Ok(Some(usage)) if usage.interfaces.is_empty() => {}
                Ok(Some(usage)) => drop(interfaces.insert(uid, usage.interfaces)),
                Ok(None) => {}
                Err(err @ EngineError::Unreachable(_)) => return Err(unavailable(err)),
                Err(err) => {
                    warn!(component = "node", uid, err = chain(&err), "cannot measure the network of a pod");
                }
            }
        }
        let engine::EngineInfo { disk_bytes, disk_free_bytes, .. } = info;
        Ok(MachineUsage { interfaces, disk_bytes, disk_free_bytes })
    }
}

fn disk(told: &engine::DiskUsage) -> DiskUsage {
    let (major, minor) = told.device;
    let device = format!("/dev/block/{major}:{minor}");
    DiskUsage { device, read_bytes: told.read_bytes, written_bytes: told.written_bytes }
}

/// The running containers of a pod, with the engine's ID of each.
fn running(pod: &Pod) -> impl Iterator<Item = (&ContainerStatus, &str)> {
    let status = pod.status.as_ref();
    let kinds = status.map(|s| [&s.init_container_statuses, &s.container_statuses, &s.ephemeral_container_statuses]);
    let all = kinds.into_iter().flatten().flat_map(|statuses| statuses.iter().flatten());
    all.filter(|status| status.state.as_ref().is_some_and(|state| state.running.is_some())).filter_map(|status| {
        let id = status.container_id.as_deref()?;
        Some((status, id.split_once("://").map_or(id, |(_, id)| id)))
    })
}

/// What a pod uses; `None` when none of its containers runs, or one that runs is not measured.
fn usage_of(pod: &Pod, pairs: &Map<String, Pair>) -> Option<PodUsage> {
    let mut usage = PodUsage {
        key: ObjectKey::of(&pod.metadata),
        uid: pod.metadata.uid.clone().unwrap_or_default(),
        node: pod.spec.as_ref()?.node_name.clone()?,
        at: jiff::Timestamp::MIN,
        window: Duration::ZERO,
        containers: Vec::new(),
    };
    for (status, id) in running(pod) {
        let pair = pairs.get(id)?;
        let (window, cpu_nano_cores) = pair.rate()?;
        usage.at = usage.at.max(pair.last.at);
        usage.window = usage.window.max(window);
        let started = status.state.as_ref().and_then(|s| s.running.as_ref()).and_then(|r| r.started_at.as_ref());
        usage.containers.push(ContainerUsage {
            name: status.name.clone(),
            id: id.to_owned(),
            image: status.image.clone(),
            started_at: started.map(|at| at.0),
            cpu_nano_cores,
            cpu_nanos: pair.last.cpu_nanos,
            memory_bytes: pair.last.memory_bytes,
            working_set_bytes: pair.last.working_set_bytes,
            rss_bytes: pair.last.rss_bytes,
            disks: pair.last.disks.iter().map(disk).collect(),
        });
    }
    (!usage.containers.is_empty()).then_some(usage)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(at_millis: i64, cpu_nanos: u64) -> Usage {
        Usage { at: jiff::Timestamp::from_millisecond(at_millis).unwrap(), cpu_nanos, ..Usage::default() }
    }

    #[test]
    fn a_rate_is_the_difference_of_two_looks_that_fit() {
        let first = Pair { before: None, last: usage(0, 0) };
        assert_eq!(first.rate(), None);
        let second = first.then(usage(2_000, 500_000_000));
        assert_eq!(second.rate(), Some((Duration::from_secs(2), 250_000_000)));
        // Too soon after the last look: the one before it is compared with.
        let third = second.clone().then(usage(2_100, 600_000_000));
        assert_eq!(third.rate().unwrap().0, Duration::from_millis(2_100));
        // Too long ago, and from before the container was started anew.
        assert_eq!(second.clone().then(usage(90_000, 600_000_000)).rate(), None);
        assert_eq!(second.then(usage(4_000, 7)).rate(), None);
    }

    #[test]
    fn a_pod_is_told_of_when_all_that_runs_of_it_is_measured() {
        let status = |name: &str, is_running: bool| {
            let state =
                if is_running { serde_json::json!({ "running": {} }) } else { serde_json::json!({ "waiting": {} }) };
            serde_json::json!({ "name": name, "image": "i", "imageID": "", "ready": true, "restartCount": 0,
                "containerID": format!("docker://{name}"), "state": state })
        };
        let pod: Pod = serde_json::from_value(serde_json::json!({
            "metadata": { "name": "p", "namespace": "n" }, "spec": { "nodeName": "skiff", "containers": [] },
            "status": { "containerStatuses": [status("a", true), status("b", true), status("c", false)] },
        }))
        .unwrap();
        let pair = Pair { before: Some(usage(0, 0)), last: usage(1_000, 1_000) };
        let mut pairs = Map::from([("a".to_owned(), pair.clone())]);
        assert_eq!(usage_of(&pod, &pairs), None);
        pairs.insert("b".to_owned(), pair);
        let told = usage_of(&pod, &pairs).unwrap();
        assert_eq!(told.containers.iter().map(|c| &*c.name).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(told.total(|c| c.cpu_nano_cores), 2_000);
    }
}
