//! What every worker shares: the registry, the engine behind its gate, images, events.
//!
//! Made by `agent`, used by `worker`, `execute`, `probes`, `sweep` and `streams`.
//!
//! **Invariants**: at most `parallel_calls` calls that make or remove containers are under way, signals and looks never wait for
//! them; that the engine is away is noted once, here, whoever finds it out.

use super::{
    NodeConfig, claims,
    image_volumes::ImageVolumes,
    images::Images,
    overdue,
    pause::Pause,
    timeline::Starts,
    translate::{Lookup, NodeFacts},
    volumes::{Claimed, Source, Token},
};
use crate::{
    api::{
        ephemeral::ephemeral_of,
        kinds::{config_map::ConfigMaps, pod::Pods, secret::Secrets, service::Services},
        meta::ObjectKey,
    },
    base::{
        clock::{Clock, after},
        ordered::{Map, Set},
    },
    engine::{Engine, EngineError},
    registry::{
        Registry,
        client::Api,
        events::{Recorder, Severity, reference},
    },
};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{ConfigMap, ObjectReference, Pod, Secret, Service, ServiceAccountTokenProjection};
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};
use tokio::sync::{Semaphore, watch};
use tracing::warn;

/// How the agent is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeReport {
    /// Differences that only a list showed.
    pub relist_finds: u64,
    /// Whether the engine answers.
    pub is_engine_up: bool,
}

/// Who follows the engine's images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ImageFollower {
    /// The node's object lists them.
    NodeObject,
    /// Those that a rollback needs are kept.
    Keeper,
}

/// What every worker shares.
pub(super) struct Context {
    pub(super) registry: Registry,
    pub(super) pods: Api<Pods>,
    pub(super) engine: Arc<dyn Engine>,
    pub(super) config: NodeConfig,
    pub(super) images: Images,
    pub(super) image_volumes: ImageVolumes,
    recorder: Recorder,
    changes: Semaphore,
    /// Why the engine is away; `None`: it is there.
    away: watch::Sender<Option<String>>,
    /// Counts changes of the engine's images, for each [`ImageFollower`]: one channel wakes those who wait for it in no order, and the
    /// simulator wants one.
    images_changed: [watch::Sender<u64>; 2],
    facts: OnceLock<NodeFacts>,
    /// Whether everything is stopped, because the cluster is paused.
    paused: watch::Sender<bool>,
    /// The last pause that is over.
    last_pause: Mutex<Option<Pause>>,
    /// The UIDs of the pods that wait until the data plane has taken them out of the rotation.
    leaving: Mutex<Set<String>>,
    relist_finds: AtomicU64,
    tokens: Mutex<Tokens>,
    /// The running sandbox of each pod that has one, by UID.
    sandboxes: Mutex<BTreeMap<String, String>>,
    /// The last starts of each pod, by UID.
    starts: Mutex<Map<String, Arc<Mutex<Starts>>>>,
    /// The commands in containers that are to be ended.
    pub(super) overdue: overdue::Queue,
}

/// The tokens in the volumes of pods, by UID, what of them was asked for, and when each is to be replaced.
type Tokens = Map<String, Map<TokenKey, (Token, Timestamp)>>;
/// Path and audience.
type TokenKey = (String, Option<String>);

/// How long a token is valid when its volume does not say. Source: `serviceAccountToken.expirationSeconds`, core/v1.
const TOKEN_SECS: i64 = 3600;

impl Context {
    pub(super) fn new(registry: Registry, engine: Arc<dyn Engine>, config: NodeConfig) -> Self {
        Self {
            pods: registry.api(),
            recorder: Recorder::new(registry.clone(), "kubelet"),
            images: Images::new(Arc::clone(&engine), registry.clock().clone(), config.docker_config.clone()),
            image_volumes: ImageVolumes::new(Arc::clone(&engine), config.cluster.clone()),
            changes: Semaphore::new(config.parallel_calls.max(1)),
            away: watch::Sender::new(None),
            images_changed: [0, 0].map(watch::Sender::new),
            facts: OnceLock::new(),
            paused: watch::Sender::new(false),
            last_pause: Mutex::default(),
            leaving: Mutex::default(),
            relist_finds: AtomicU64::new(0),
            tokens: Mutex::default(),
            sandboxes: Mutex::default(),
            starts: Mutex::default(),
            overdue: overdue::Queue::default(),
            registry,
            engine,
            config,
        }
    }

    pub(super) fn clock(&self) -> &Clock {
        self.registry.clock()
    }

    pub(super) fn now(&self) -> Timestamp {
        self.clock().now()
    }

    /// What containers may know of the node; zeroes until the engine has answered once.
    pub(super) fn facts(&self) -> NodeFacts {
        let unknown = NodeFacts { ip: self.config.node_ip, cpus: 0, memory_bytes: 0, disk_bytes: 0 };
        self.facts.get().copied().unwrap_or(unknown)
    }

    /// Notes the node's size, once.
    pub(super) fn set_facts(&self, facts: NodeFacts) {
        self.facts.get_or_init(|| facts);
    }

    // The engine.

    /// A call that makes or removes something: it waits for its turn.
    pub(super) async fn change<T>(&self, call: impl Future<Output = Result<T, EngineError>>) -> Result<T, EngineError> {
        let _turn = self.changes.acquire().await.expect("the gate is never closed");
        self.ask(call).await
    }

    /// A call that does not wait for others.
    pub(super) async fn ask<T>(&self, call: impl Future<Output = Result<T, EngineError>>) -> Result<T, EngineError> {
        let result = call.await;
        if let Err(EngineError::Unreachable(why)) = &result {
            self.note_away(why);
        }
        result
    }

    /// Notes that the engine cannot be reached.
    pub(super) fn note_away(&self, why: &str) {
        self.away.send_if_modified(|away| {
            let is_news = away.is_none();
            if is_news {
                warn!(component = "node", err = why, "the container engine is away");
                *away = Some(why.to_owned());
            }
            is_news
        });
    }

    /// Notes that the engine answers.
    pub(super) fn note_back(&self) {
        self.away.send_if_modified(|away| away.take().is_some());
    }

    /// Follows whether the engine is away.
    pub(super) fn watch_away(&self) -> watch::Receiver<Option<String>> {
        self.away.subscribe()
    }

    /// Notes that everything is stopped, because the cluster is paused.
    pub(super) fn note_paused(&self) {
        self.paused.send_if_modified(|paused| !std::mem::replace(paused, true));
    }

    /// Notes that the cluster goes on after a pause.
    pub(super) fn note_resumed(&self, pause: Pause) {
        *self.last_pause.lock().expect("no one panics while holding the lock") = Some(pause);
        self.paused.send_if_modified(|paused| std::mem::replace(paused, false));
    }

    /// The last pause that is over.
    pub(super) fn last_pause(&self) -> Option<Pause> {
        *self.last_pause.lock().expect("no one panics while holding the lock")
    }

    /// Follows whether everything is stopped, because the cluster is paused.
    pub(super) fn watch_paused(&self) -> watch::Receiver<bool> {
        self.paused.subscribe()
    }

    /// Notes that the engine's images changed.
    pub(super) fn images_changed(&self) {
        self.images_changed.iter().for_each(|follower| follower.send_modify(|n| *n += 1));
    }

    /// Follows the engine's images.
    pub(super) fn watch_images(&self, who: ImageFollower) -> watch::Receiver<u64> {
        self.images_changed[who as usize].subscribe()
    }

    // The rotation.

    /// Notes that a pod waits to be taken out of the rotation, or does not any more.
    pub(super) fn set_leaving(&self, uid: &str, is_leaving: bool) {
        let mut leaving = self.leaving.lock().expect("no one panics while holding the lock");
        if is_leaving {
            leaving.insert(uid.to_owned());
        } else {
            leaving.remove(uid);
        }
    }

    /// Notes which sandbox of a pod runs, if one does.
    pub(super) fn note_sandbox(&self, uid: &str, sandbox: Option<&str>) {
        let mut all = self.sandboxes.lock().expect("no one panics while holding the lock");
        match sandbox {
            Some(id) if all.get(uid).is_some_and(|known| known == id) => {}
            Some(id) => drop(all.insert(uid.to_owned(), id.to_owned())),
            None => drop(all.remove(uid)),
        }
    }

    /// The running sandboxes, by the UIDs of their pods.
    pub(super) fn sandboxes(&self) -> BTreeMap<String, String> {
        self.sandboxes.lock().expect("no one panics while holding the lock").clone()
    }

    /// Where the starts of a pod are kept from now on.
    pub(super) fn keep_starts(&self, uid: &str) -> Arc<Mutex<Starts>> {
        let mut all = self.starts.lock().expect("no one panics while holding the lock");
        Arc::clone(all.entry(uid.to_owned()).or_default())
    }

    /// The starts of a pod, while it has a worker.
    pub(super) fn starts_of(&self, uid: &str) -> Option<Arc<Mutex<Starts>>> {
        self.starts.lock().expect("no one panics while holding the lock").get(uid).cloned()
    }

    /// Forgets the starts of a pod that is gone.
    pub(super) fn forget_starts(&self, uid: &str) {
        self.starts.lock().expect("no one panics while holding the lock").remove(uid);
    }

    /// The pods that wait to be taken out of the rotation.
    pub(super) fn leaving(&self) -> Vec<String> {
        self.leaving.lock().expect("no one panics while holding the lock").iter().cloned().collect()
    }

    /// How the agent is.
    pub(super) fn report(&self) -> NodeReport {
        NodeReport {
            relist_finds: self.relist_finds.load(Ordering::Relaxed),
            is_engine_up: self.away.borrow().is_none(),
        }
    }

    /// Counts a difference that only a relist found: an event was lost.
    pub(super) fn count_relist_find(&self) {
        let finds = self.relist_finds.fetch_add(1, Ordering::Relaxed) + 1;
        warn!(component = "node", finds, "a relist found what no event had told");
    }

    // Tokens.

    /// When the next token of a pod is to be replaced.
    pub(super) fn next_token_at(&self, uid: &str) -> Option<Timestamp> {
        let tokens = self.tokens.lock().expect("no one panics while holding the lock");
        tokens.get(uid)?.values().map(|(_, at)| *at).min()
    }

    /// Forgets the tokens of a pod that is gone.
    pub(super) fn forget_tokens(&self, uid: &str) {
        self.tokens.lock().expect("no one panics while holding the lock").remove(uid);
    }

    // Events.

    /// Tells users something about a pod.
    pub(super) fn tell_pod(&self, pod: &Pod, severity: Severity, reason: &str, message: &str) {
        self.recorder.record(&reference::<Pods>(pod), severity, reason, message);
    }

    /// Tells users something about a container of a pod.
    pub(super) fn tell(&self, pod: &Pod, container: &str, severity: Severity, reason: &str, message: &str) {
        let field_path = Some(field_path(pod, container));
        let about = ObjectReference { field_path, ..reference::<Pods>(pod) };
        self.recorder.record(&about, severity, reason, message);
    }

    /// Tells users something about a node.
    pub(super) fn tell_node(&self, node: &str, severity: Severity, reason: &str, message: &str) {
        let name = Some(node.to_owned());
        let about =
            ObjectReference { kind: Some("Node".into()), uid: name.clone(), name, ..ObjectReference::default() };
        self.recorder.record(&about, severity, reason, message);
    }
}

/// Where a container is in its pod, as events write it.
fn field_path(pod: &Pod, container: &str) -> String {
    let is_init = pod.spec.iter().flat_map(|s| s.init_containers.iter().flatten()).any(|c| c.name == container);
    let is_ephemeral = pod.spec.as_ref().is_some_and(|spec| ephemeral_of(spec, container).is_some());
    let list = match (is_init, is_ephemeral) {
        (true, _) => "initContainers",
        (_, true) => "ephemeralContainers",
        (false, false) => "containers",
    };
    format!("spec.{list}{{{container}}}")
}

impl Lookup for Context {
    fn config_map(&self, namespace: &str, name: &str) -> Option<Arc<ConfigMap>> {
        self.registry.api::<ConfigMaps>().get(&ObjectKey::new(namespace, name))
    }

    fn secret(&self, namespace: &str, name: &str) -> Option<Arc<Secret>> {
        self.registry.api::<Secrets>().get(&ObjectKey::new(namespace, name))
    }

    fn services(&self, namespace: &str) -> Vec<Arc<Service>> {
        self.registry.api::<Services>().list(namespace).items
    }
}

impl Source for Context {
    fn token(&self, pod: &Pod, projection: &ServiceAccountTokenProjection) -> Result<Token, String> {
        let issuer = self.config.tokens.as_ref().ok_or("this cluster issues no service account tokens")?;
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        let key = (projection.path.clone(), projection.audience.clone());
        let now = self.now();
        let lock = || self.tokens.lock().expect("no one panics while holding the lock");
        if let Some((token, _)) = lock().get(&uid).and_then(|own| own.get(&key)).filter(|(_, at)| *at > now) {
            return Ok(token.clone());
        }
        let (period, replace_at) = period(pod, projection, now);
        let token = Token { text: issuer.token(pod, projection)?, state: format!("token {period}") };
        lock().entry(uid).or_default().insert(key, (token.clone(), replace_at));
        Ok(token)
    }

    fn claim(&self, namespace: &str, name: &str) -> Result<Claimed, String> {
        claims::claimed(&self.registry, &self.config.cluster, &ObjectKey::new(namespace, name))
    }
}

/// The how manieth token of its volume a pod should have, and when the next is due: when four fifths of its time are over, as the kubelet
/// has it, counted from the pod's making, so that a process that begins anew replaces no token that is still good.
/// Source: `pkg/kubelet/token/token_manager.go`, v1.37.
fn period(pod: &Pod, projection: &ServiceAccountTokenProjection, now: Timestamp) -> (i64, Timestamp) {
    let secs = projection.expiration_seconds.unwrap_or(TOKEN_SECS).saturating_mul(4) / 5;
    let secs = secs.max(1);
    let made = pod.metadata.creation_timestamp.as_ref().map_or(now, |at| at.0);
    let n = now.as_second().saturating_sub(made.as_second()).max(0) / secs;
    (n, after(made, SignedDuration::from_secs(secs.saturating_mul(n.saturating_add(1)))))
}

/// The pod of this key, if it is still the one with this UID.
pub(super) fn stored_pod(pods: &Api<Pods>, key: &ObjectKey, uid: &str) -> Option<Arc<Pod>> {
    pods.get(key).filter(|pod| pod.metadata.uid.as_deref() == Some(uid))
}
