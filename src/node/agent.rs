//! The agent: it routes what happens to the workers, and keeps one worker per pod of this node.
//!
//! `app` makes and runs it. It starts no worker before the engine was listed once: an engine that cannot be read is not an empty one.
//!
//! ```text
//!  store: Pods, ConfigMaps, Secrets, EndpointSlices, Leases ─▶ feeds ─┐
//!  engine: events, lists ─────────────────────────────────────────────┼─▶ Agent ─▶ workers, by pod UID
//!  workers that end ──────────────────────────────────────────────────┘
//! ```
//!
//! **Invariants**: events lost between two connections are made up for by a list after every `Resync`; a slow list every ten minutes
//! is a safety net that is counted when it finds anything; a worker that panicked is made anew from a fresh list.
//! **Not here**: what a pod needs (`worker`, `decide`), the node's own object (`node_object`).

use super::{
    NodeConfig,
    context::{Context, stored_pod},
    identity::{PodId, pod_uid},
    node_object,
    streams::{PodStreams, Streams},
    sweep::{self, Listing, Strays},
    worker::{Message, Worker},
};
use crate::{
    api::{
        kind::Kind,
        kinds::{config_map::ConfigMaps, endpoint_slice::EndpointSlices, lease::Leases, pod::Pods, secret::Secrets},
        meta::ObjectKey,
        object::Object as _,
    },
    base::task::{self, Drain},
    engine::{Container, Engine, EngineEvent, EventKind},
    registry::Registry,
    store::{Change, Entry},
};
use futures::StreamExt as _;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::{sync::mpsc, time::Instant};
use tracing::{debug, info, warn};

/// How often everything is listed although no event said so.
const SAFETY_RELIST: Duration = Duration::from_mins(10);
/// How soon a worker that panicked is made anew.
const REVIVE_AFTER: Duration = Duration::from_secs(1);
/// When the engine is listed after a container came that belongs to no pod.
const STRAY_AFTER: Duration = Duration::from_secs(1);

/// What a list shows of each pod, by its UID.
type ByPod = BTreeMap<String, Vec<Container>>;

fn by_pod(containers: Vec<Container>) -> ByPod {
    let mut found = ByPod::new();
    for container in containers {
        if let Some(uid) = pod_uid(&container.labels) {
            found.entry(uid.to_owned()).or_default().push(container);
        }
    }
    found
}

/// The node agent.
pub struct Agent {
    context: Arc<Context>,
}

impl std::fmt::Debug for Agent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Agent").field("config", &self.context.config).finish_non_exhaustive()
    }
}

impl Agent {
    /// An agent for a node; it does nothing until it runs.
    pub fn new(registry: Registry, engine: Arc<dyn Engine>, config: NodeConfig) -> Self {
        Self { context: Arc::new(Context::new(registry, engine, config)) }
    }

    /// The byte streams of the node's containers.
    pub fn streams(&self) -> Arc<dyn PodStreams> {
        Arc::new(Streams::new(Arc::clone(&self.context)))
    }

    /// Brings containers to what Pods want until skiff ends. Containers go on running after that.
    pub async fn run(self, drain: Drain) {
        let (notes, inbox) = mpsc::unbounded_channel();
        let context = self.context;
        node_object::start(&context, &drain);
        feed::<Pods>(&context, &notes, &drain, |_, entry| Some(Note::Pod(pod_of(entry)?)));
        feed::<ConfigMaps>(&context, &notes, &drain, |key, _| Some(Note::Config(key.namespace)));
        feed::<Secrets>(&context, &notes, &drain, |key, _| Some(Note::Config(key.namespace)));
        feed::<EndpointSlices>(&context, &notes, &drain, |_, _| Some(Note::Rotation));
        feed::<Leases>(&context, &notes, &drain, |key, _| (key.namespace == "kube-system").then_some(Note::Rotation));
        let routes = Routes {
            context,
            notes,
            drain: drain.clone(),
            workers: BTreeMap::new(),
            early: Some(Vec::new()),
            is_listing: false,
            lists_again: None,
            strays: Strays::default(),
            relist_at: None,
        };
        routes.run(inbox).await;
    }
}

/// What the agent is told.
enum Note {
    /// A pod came, changed or went.
    Pod(PodId),
    /// Changes of a kind were lost: all must be looked at.
    Lost,
    /// A ConfigMap or Secret of this namespace changed.
    Config(String),
    /// What says whether pods are in the rotation changed.
    Rotation,
    /// The engine was listed.
    Listed { listing: Listing, is_safety: bool },
    /// A worker ended.
    Ended(String),
}

type Notes = mpsc::UnboundedSender<Note>;

fn pod_of(entry: &Entry) -> Option<PodId> {
    let pod = crate::registry::pipeline::decoded::<Pods>(entry);
    pod.spec.as_ref()?.node_name.as_ref()?;
    Some(PodId::of(&pod))
}

/// Follows a kind for as long as skiff runs; what `note` makes of a change goes to the agent.
fn feed<K: Kind>(
    context: &Arc<Context>,
    notes: &Notes,
    drain: &Drain,
    note: impl Fn(ObjectKey, &Entry) -> Option<Note> + Send + 'static,
) {
    let (context, notes, drain) = (Arc::clone(context), notes.clone(), drain.clone());
    // The watch begins here, not in the task: whoever lists after this misses nothing.
    let mut watch = context.registry.api::<K>().watch(context.registry.store().revision());
    task::spawn("node-feed", async move {
        loop {
            let change = match &mut watch {
                Ok(running) => tokio::select! {
                    biased;
                    () = drain.drained() => return,
                    change = running.next() => change,
                },
                Err(e) => Err(*e),
            };
            let note = match change {
                Ok(change) => note_of::<K>(&context, &change, &note),
                Err(err) => {
                    debug!(component = "node", kind = K::INFO.kind, err = %err, "watch again");
                    watch = context.registry.api::<K>().watch(context.registry.store().revision());
                    Some(Note::Lost)
                }
            };
            // The agent is gone when nobody listens: so is this.
            if let Some(note) = note
                && notes.send(note).is_err()
            {
                return;
            }
        }
    });
}

fn note_of<K: Kind>(
    context: &Context,
    change: &Change,
    note: &impl Fn(ObjectKey, &Entry) -> Option<Note>,
) -> Option<Note> {
    let entry = change.after.as_ref().or(change.before.as_ref())?;
    let key = ObjectKey::of(context.registry.api::<K>().object(entry).meta());
    note(key, entry)
}

/// Tells the agent that a worker ended, however it ended.
struct EndNote {
    uid: String,
    notes: Notes,
}

impl Drop for EndNote {
    fn drop(&mut self) {
        // Nobody listens any more when skiff ends.
        drop(self.notes.send(Note::Ended(std::mem::take(&mut self.uid))));
    }
}

struct Route {
    key: ObjectKey,
    mailbox: mpsc::UnboundedSender<Message>,
}

struct Routes {
    context: Arc<Context>,
    notes: Notes,
    drain: Drain,
    workers: BTreeMap<String, Route>,
    /// Engine events from before the first list: its workers get them after it.
    early: Option<Vec<(String, Message)>>,
    is_listing: bool,
    /// A list was asked for while one is under way; whether for safety only.
    lists_again: Option<bool>,
    strays: Strays,
    relist_at: Option<Instant>,
}

impl Routes {
    async fn run(mut self, mut inbox: mpsc::UnboundedReceiver<Note>) {
        let mut events = self.context.engine.events();
        let mut safety_at = self.context.clock().mono() + SAFETY_RELIST;
        loop {
            let timer = self.relist_at.map_or(safety_at, |at| at.min(safety_at));
            tokio::select! {
                biased;
                () = self.drain.drained() => return,
                Some(event) = events.next() => self.engine_event(event),
                Some(note) = inbox.recv() => self.note(note),
                () = tokio::time::sleep_until(timer) => {
                    let now = self.context.clock().mono();
                    let is_safety = self.relist_at.is_none_or(|at| at > now);
                    self.relist_at = self.relist_at.filter(|at| *at > now);
                    if safety_at <= now {
                        safety_at = now + SAFETY_RELIST;
                    }
                    self.list(is_safety);
                }
            }
        }
    }

    fn note(&mut self, note: Note) {
        match note {
            Note::Pod(id) => self.pod(&id),
            Note::Lost => self.look_at_all(&mut ByPod::new()),
            Note::Config(namespace) => self.send_to(|route| route.key.namespace == namespace, &Message::Config),
            Note::Rotation => {
                let leaving = self.context.leaving();
                leaving.iter().for_each(|uid| self.send(uid, Message::Woken));
            }
            Note::Listed { listing, is_safety } => self.listed(listing, is_safety),
            Note::Ended(uid) => self.ended(&uid),
        }
    }

    // Pods.

    fn is_ready(&self) -> bool {
        self.early.is_none()
    }

    fn pod(&mut self, id: &PodId) {
        if self.workers.contains_key(&id.uid) {
            return self.send(&id.uid, Message::Woken);
        }
        let key = ObjectKey::new(&id.namespace, &id.name);
        if let Some(pod) = stored_pod(&self.context.pods, &key, &id.uid)
            && self.is_ready()
        {
            self.employ(&pod, &[]);
        }
    }

    /// Wakes every worker, and makes those that are missing.
    fn look_at_all(&mut self, listed: &mut ByPod) {
        if !self.is_ready() {
            return;
        }
        self.send_to(|_| true, &Message::Woken);
        for pod in self.context.pods.list("").items {
            if !self.workers.contains_key(pod.metadata.uid.as_deref().unwrap_or_default()) {
                let listed = listed.remove(pod.metadata.uid.as_deref().unwrap_or_default());
                self.employ(&pod, &listed.unwrap_or_default());
            }
        }
    }

    /// Makes a worker for a pod of this node.
    fn employ(&mut self, pod: &Pod, listed: &[Container]) {
        let node = pod.spec.as_ref().and_then(|s| s.node_name.as_deref());
        if node != Some(self.context.config.node_name.as_str()) {
            return;
        }
        let id = PodId::of(pod);
        let (mailbox, inbox) = mpsc::unbounded_channel();
        let worker = Worker::new(Arc::clone(&self.context), pod, listed, inbox);
        let end = EndNote { uid: id.uid.clone(), notes: self.notes.clone() };
        let drain = self.drain.clone();
        task::spawn("pod-worker", async move {
            let _end = end;
            worker.run(drain).await;
        });
        self.workers.insert(id.uid, Route { key: ObjectKey::new(id.namespace, id.name), mailbox });
    }

    fn ended(&mut self, uid: &str) {
        let Some(route) = self.workers.remove(uid) else { return };
        if stored_pod(&self.context.pods, &route.key, uid).is_some() {
            warn!(component = "node", uid, "a pod's worker ended early; it is made anew");
            self.relist_in(REVIVE_AFTER);
        }
    }

    fn send(&self, uid: &str, message: Message) {
        if let Some(route) = self.workers.get(uid) {
            // A worker that ends meanwhile says so itself.
            drop(route.mailbox.send(message));
        }
    }

    fn send_to(&self, wanted: impl Fn(&Route) -> bool, message: &Message) {
        for route in self.workers.values().filter(|route| wanted(route)) {
            drop(route.mailbox.send(message.clone()));
        }
    }

    // The engine.

    fn engine_event(&mut self, event: EngineEvent) {
        match event {
            EngineEvent::Container { id, labels, kind, at, .. } => {
                let Some(uid) = pod_uid(&labels) else { return };
                self.container_event(uid, id, kind, at);
            }
            EngineEvent::Images => {
                self.send_to(|_| true, &Message::Images);
                self.context.images_changed();
            }
            EngineEvent::Resync => self.list(false),
        }
    }

    fn container_event(&mut self, uid: &str, id: String, kind: EventKind, at: Timestamp) {
        let message = Message::Event { id, kind, at };
        match &mut self.early {
            Some(early) => early.push((uid.to_owned(), message)),
            // A container that came after its pod had gone: a later list sweeps it.
            None if kind == EventKind::Created && !self.workers.contains_key(uid) => self.relist_in(STRAY_AFTER),
            None => self.send(uid, message),
        }
    }

    fn relist_in(&mut self, time: Duration) {
        let at = self.context.clock().mono() + time;
        self.relist_at = Some(self.relist_at.map_or(at, |earlier| earlier.min(at)));
    }

    /// Lists the engine beside everything else; one list at a time.
    fn list(&mut self, is_safety: bool) {
        if self.is_listing {
            self.lists_again = Some(self.lists_again.unwrap_or(true) && is_safety);
            return;
        }
        self.is_listing = true;
        let (context, notes, drain) = (Arc::clone(&self.context), self.notes.clone(), self.drain.clone());
        task::spawn("node-list", async move {
            let list = tokio::select! {
                biased;
                () = drain.drained() => return,
                listing = sweep::list(&context) => listing,
            };
            // Nobody listens any more when skiff ends.
            drop(notes.send(Note::Listed { listing: list, is_safety }));
        });
    }

    fn listed(&mut self, listing: Listing, is_safety: bool) {
        self.is_listing = false;
        self.context.note_back();
        self.sweep(&listing);
        let found = listing.containers.len();
        let mut containers = by_pod(listing.containers);
        if let Some(early) = self.early.take() {
            info!(component = "node", containers = found, "adopting what runs already");
            self.look_at_all(&mut containers);
            early.into_iter().for_each(|(uid, message)| self.send(&uid, message));
        } else {
            for (uid, route) in &self.workers {
                let containers = containers.remove(uid).unwrap_or_default();
                // A worker that ends meanwhile says so itself.
                drop(route.mailbox.send(Message::Listed { containers, is_safety }));
            }
            self.look_at_all(&mut containers);
        }
        if let Some(is_safety) = self.lists_again.take() {
            self.list(is_safety);
        }
    }

    /// What belongs to no pod is removed once it has been seen so for a while.
    fn sweep(&mut self, listing: &Listing) {
        let stored = self.context.pods.list("").items;
        let stored =
            stored.iter().filter_map(|pod| pod.metadata.uid.clone()).chain(self.workers.keys().cloned()).collect();
        let cluster = &self.context.config.cluster;
        let now = self.context.clock().mono();
        let due = self.strays.see(cluster, &listing.containers, &listing.volumes, &stored, now);
        if let Some(at) = self.strays.next_at() {
            self.relist_in(at.saturating_duration_since(now));
        }
        if !due.is_empty() {
            let context = Arc::clone(&self.context);
            task::spawn("node-sweep", async move { sweep::remove(&context, due).await });
        }
    }
}
