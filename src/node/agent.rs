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
//! is a safety net that is counted when it finds anything; a worker that panicked is made anew from a fresh list, later each time;
//! whatever is done for one pod alone is done in its worker's task, so that no pod can end the agent.
//! **Not here**: what a pod needs (`worker`, `decide`), the node's own object (`node_object`).

use super::{
    NodeConfig, claims,
    context::{Context, NodeReport, stored_pod},
    identity::{PodId, pod_uid},
    imports, kept_images,
    local_images::{LocalImages, NodeImages},
    node_object, pause,
    streams::{PodStreams, Streams},
    sweep::{self, Listing, Strays},
    usage::{Sampler, Usages},
    worker::{Message, Worker},
};
use crate::{
    api::{
        agreements::SYSTEM_NAMESPACE,
        kind::Kind,
        kinds::{config_map::ConfigMaps, endpoint_slice::EndpointSlices, lease::Leases, pod::Pods, secret::Secrets},
        meta::ObjectKey,
        object::Object as _,
    },
    base::{
        backoff::Backoff,
        ordered::{Map, Set},
        task::{self, Drain},
    },
    engine::{Container, Engine, EngineEvent, EventKind},
    registry::{Registry, events::Severity},
    store::{Change, Entry},
};
use futures::{
    FutureExt as _, StreamExt as _,
    future::BoxFuture,
    stream::{self, BoxStream, FuturesUnordered},
};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::{
    sync::mpsc::{self, error::TrySendError},
    time::Instant,
};
use tracing::{debug, info, warn};

/// How often everything is listed although no event said so.
const SAFETY_RELIST: Duration = Duration::from_mins(10);
/// How soon a worker that panicked is made anew: what made it panic is as a rule still there, so later each time.
const REVIVE_BACKOFF: Backoff = Backoff { base: Duration::from_secs(1), cap: Duration::from_mins(5) };
/// A worker that lived this long panicked for another reason than the one before.
const REVIVE_FORGETS: Duration = Duration::from_mins(10);
/// When the engine is listed after a container came that belongs to no pod.
const STRAY_AFTER: Duration = Duration::from_secs(1);

/// When the engine is listed again after listing panicked, and its events are read again after their reader ended.
const LIST_AGAIN: Duration = Duration::from_secs(1);
const EVENTS_AGAIN: Duration = Duration::from_secs(1);
/// Changes of objects that may wait; a feed that is ahead of that waits.
const CHANGES_MAX: usize = 1024;
/// Messages that may wait for a worker. One that is behind that far is told again what a list shows.
const MAILBOX_MAX: usize = 1024;

/// What a list shows of each pod, by its UID.
type ByPod = Map<String, Vec<Container>>;

fn by_pod(containers: Vec<Container>) -> ByPod {
    let with_uid = |container: Container| Some((pod_uid(&container.labels)?.to_owned(), container));
    Map::of_groups(containers.into_iter().filter_map(with_uid))
}

/// A stream that begins after a while.
pub(super) fn later<T: Send + 'static>(wait: Duration, stream: BoxStream<'static, T>) -> BoxStream<'static, T> {
    stream::once(tokio::time::sleep(wait)).filter_map(|()| async { None }).chain(stream).boxed()
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

    /// The engine's images.
    pub fn images(&self) -> Arc<dyn LocalImages> {
        Arc::new(NodeImages::new(Arc::clone(&self.context)))
    }

    /// What the node's pods use.
    pub fn usages(&self) -> Arc<dyn Usages> {
        Arc::new(Sampler::new(Arc::clone(&self.context)))
    }

    /// Says how it is, whenever it is asked.
    pub fn report(&self) -> Arc<dyn Fn() -> NodeReport + Send + Sync> {
        let context = Arc::clone(&self.context);
        Arc::new(move || context.report())
    }

    /// Brings containers to what Pods want until skiff ends. Containers go on running after that.
    pub async fn run(self, drain: Drain) {
        let context = self.context;
        let supervisor = context.config.supervisor.clone();
        node_object::start(&context, &drain);
        imports::start(&context, &drain);
        kept_images::start(&context, &drain);
        claims::start(&context, &drain);
        let ended = drain.clone();
        supervisor.run("node-agent", drain, move || pause::alternate(Arc::clone(&context), ended.clone())).await;
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
    /// The engine was listed; nothing: the listing panicked.
    Listed { listing: Option<Listing>, why: Why },
    /// A worker ended, by a panic that said this.
    Ended { uid: String, panic: Option<String> },
}

/// Why the engine is listed. Where one list serves two reasons, the greater counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Why {
    /// For safety only.
    Safety,
    /// Something is to be looked at.
    Look,
    /// The engine was away, and is back.
    Back,
}

type Notes = mpsc::UnboundedSender<Note>;

fn pod_of(entry: &Entry) -> Option<PodId> {
    let pod = crate::registry::pipeline::decoded::<Pods>(entry);
    pod.spec.as_ref()?.node_name.as_ref()?;
    Some(PodId::of(&pod))
}

/// What a feed makes of a change.
type Noted = fn(ObjectKey, &Entry) -> Option<Note>;

/// Follows a kind for as long as its agent routes; what `noted` makes of a change goes there.
fn feed<K: Kind>(context: &Arc<Context>, changes: &mpsc::Sender<Note>, drain: &Drain, noted: Noted) {
    let (context, changes, ended) = (Arc::clone(context), changes.clone(), drain.clone());
    let supervisor = context.config.supervisor.clone();
    supervisor.keep("node-feed", drain.clone(), move || {
        follow::<K>(Arc::clone(&context), changes.clone(), ended.clone(), noted)
    });
}

async fn follow<K: Kind>(context: Arc<Context>, changes: mpsc::Sender<Note>, drain: Drain, noted: Noted) {
    let api = context.registry.api::<K>();
    loop {
        // Whoever lists after the watch has begun misses nothing.
        let mut note = Some(Note::Lost);
        let Ok(mut watch) = api.watch(context.registry.store().revision()) else { continue };
        loop {
            // The agent is gone when nobody listens: so is this.
            if let Some(note) = note.take()
                && changes.send(note).await.is_err()
            {
                return;
            }
            let change = tokio::select! {
                biased;
                () = drain.drained() => return,
                change = watch.next() => change,
            };
            match change {
                Ok(change) => note = note_of::<K>(&context, &change, noted),
                Err(err) => {
                    debug!(component = "node", kind = K::INFO.kind, err = %err, "watch again");
                    break;
                }
            }
        }
    }
}

fn note_of<K: Kind>(context: &Context, change: &Change, noted: Noted) -> Option<Note> {
    let entry = change.after.as_ref().or(change.before.as_ref())?;
    let key = ObjectKey::of(context.registry.api::<K>().object(entry).meta());
    noted(key, entry)
}

/// Tells the agent that a worker ended, however it ended.
struct EndNote {
    uid: String,
    panic: Option<String>,
    notes: Notes,
}

impl Drop for EndNote {
    fn drop(&mut self) {
        // Nobody listens any more when skiff ends.
        drop(self.notes.send(Note::Ended { uid: std::mem::take(&mut self.uid), panic: self.panic.take() }));
    }
}

struct Route {
    key: ObjectKey,
    mailbox: mpsc::Sender<Message>,
    since: Instant,
    /// Whether a message was lost, and its mailbox has had no room since.
    is_behind: bool,
}

impl Route {
    /// Sends a message. So many may wait that it is lost: then a list makes up for it as soon as there is room, which this waits for.
    fn send(&mut self, uid: &str, message: Message) -> Option<Room> {
        // A worker that ends meanwhile says so itself.
        let is_lost = matches!(self.mailbox.try_send(message), Err(TrySendError::Full(_)));
        if !is_lost || std::mem::replace(&mut self.is_behind, true) {
            return None;
        }
        let (mailbox, uid) = (self.mailbox.clone(), uid.to_owned());
        Some(async move { mailbox.reserve().await.is_ok().then_some(uid) }.boxed())
    }
}

/// Becomes the UID of a pod whose worker has room for messages again; nothing when it has ended.
type Room = BoxFuture<'static, Option<String>>;

/// A pod whose worker panicked.
struct Revival {
    /// How often in a row.
    failures: u32,
    /// When its worker is made anew.
    at: Instant,
    /// Whether it was being deleted then: a pod that is deleted since gets its worker at once, which may be all that it takes.
    is_ending: bool,
}

pub(super) struct Routes {
    context: Arc<Context>,
    notes: Notes,
    drain: Drain,
    workers: Map<String, Route>,
    /// The UID of the pod that each container is of, by its ID: events of the network name the container alone.
    owners: BTreeMap<String, String>,
    /// Engine events from before the first list: its workers get them after it.
    early: Option<Vec<(String, Message)>>,
    is_listing: bool,
    /// A list was asked for while one is under way, and why.
    lists_again: Option<Why>,
    /// The pods whose workers panicked, by UID.
    revivals: Map<String, Revival>,
    strays: Strays,
    relist_at: Option<Instant>,
    /// Workers that have missed messages.
    behind: FuturesUnordered<Room>,
}

impl Routes {
    /// Routes from the start: knows nothing, and lists the engine. Workers end with it.
    pub(super) async fn begin(context: Arc<Context>, drain: Drain) {
        let (notes, inbox) = mpsc::unbounded_channel();
        let (changes, fed) = mpsc::channel(CHANGES_MAX);
        feed::<Pods>(&context, &changes, &drain, |_, entry| Some(Note::Pod(pod_of(entry)?)));
        feed::<ConfigMaps>(&context, &changes, &drain, |key, _| Some(Note::Config(key.namespace)));
        feed::<Secrets>(&context, &changes, &drain, |key, _| Some(Note::Config(key.namespace)));
        feed::<EndpointSlices>(&context, &changes, &drain, |_, _| Some(Note::Rotation));
        feed::<Leases>(&context, &changes, &drain, |key, _| {
            (key.namespace == SYSTEM_NAMESPACE).then_some(Note::Rotation)
        });
        let routes = Self {
            context,
            notes,
            drain,
            workers: Map::new(),
            owners: BTreeMap::new(),
            early: Some(Vec::new()),
            is_listing: false,
            lists_again: None,
            revivals: Map::new(),
            strays: Strays::default(),
            relist_at: None,
            behind: FuturesUnordered::new(),
        };
        routes.run(inbox, fed).await;
    }

    async fn run(mut self, mut inbox: mpsc::UnboundedReceiver<Note>, mut fed: mpsc::Receiver<Note>) {
        let mut events = self.context.engine.events();
        let mut safety_at = self.context.clock().mono() + SAFETY_RELIST;
        loop {
            let timer = self.relist_at.map_or(safety_at, |at| at.min(safety_at));
            tokio::select! {
                biased;
                () = self.drain.drained() => return,
                event = events.next() => match event {
                    Some(event) => self.engine_event(event),
                    // Whoever read them from the engine has ended. What was missed meanwhile, a list shows.
                    None => events = later(EVENTS_AGAIN, self.context.engine.events()),
                },
                Some(note) = inbox.recv() => self.note(note),
                Some(note) = fed.recv() => self.note(note),
                Some(uid) = self.behind.next(), if !self.behind.is_empty() => self.has_room(uid.as_deref()),
                () = tokio::time::sleep_until(timer) => {
                    let now = self.context.clock().mono();
                    let is_safety = self.relist_at.is_none_or(|at| at > now);
                    self.relist_at = self.relist_at.filter(|at| *at > now);
                    if safety_at <= now {
                        safety_at = now + SAFETY_RELIST;
                    }
                    let why = if is_safety { Why::Safety } else { Why::Look };
                    let waiting = self.lists_again.take_if(|_| !self.is_listing);
                    self.list(waiting.map_or(why, |waiting| waiting.max(why)));
                }
            }
        }
    }

    fn note(&mut self, note: Note) {
        match note {
            Note::Pod(id) => self.pod(&id),
            Note::Lost => self.look_at_all(None),
            Note::Config(namespace) => self.send_to(|route| route.key.namespace == namespace, &Message::Config),
            Note::Rotation => {
                let leaving = self.context.leaving();
                leaving.iter().for_each(|uid| self.send(uid, Message::Woken));
            }
            Note::Listed { listing: Some(listing), why } => self.listed(listing, why),
            Note::Listed { listing: None, why } => self.not_listed(why),
            Note::Ended { uid, panic } => self.ended(&uid, panic),
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
        let Some(pod) = stored_pod(&self.context.pods, &key, &id.uid).filter(|_| self.is_ready()) else { return };
        match self.revivals.get_mut(&id.uid) {
            None => self.employ(&pod, Vec::new()),
            Some(revival) if pod.metadata.deletion_timestamp.is_some() && !revival.is_ending => {
                revival.is_ending = true;
                revival.failures = 0;
                revival.at = self.context.clock().mono();
                self.relist_in(Duration::ZERO);
            }
            Some(_) => {}
        }
    }

    /// Wakes every worker, and makes those that are missing: one that panicked only when its time has come, and from a list.
    fn look_at_all(&mut self, mut listed: Option<&mut ByPod>) {
        if !self.is_ready() {
            return;
        }
        self.send_to(|_| true, &Message::Woken);
        let now = self.context.clock().mono();
        for pod in self.context.pods.list("").items {
            let uid = pod.metadata.uid.as_deref().unwrap_or_default();
            let is_due = self.revivals.get(uid).is_none_or(|revival| listed.is_some() && revival.at <= now);
            if !self.workers.contains_key(uid) && is_due {
                let listed = listed.as_mut().and_then(|listed| listed.remove(uid));
                self.employ(&pod, listed.unwrap_or_default());
            }
        }
        if let Some(next) = self.revivals.values().map(|revival| revival.at).filter(|at| *at > now).min() {
            self.relist_in(next - now);
        }
    }

    /// Makes a worker for a pod of this node, in a task of its own.
    fn employ(&mut self, pod: &Arc<Pod>, listed: Vec<Container>) {
        let node = pod.spec.as_ref().and_then(|s| s.node_name.as_deref());
        if !node.is_some_and(|node| self.context.config.has_node(node)) {
            return;
        }
        let id = PodId::of(pod);
        let (mailbox, inbox) = mpsc::channel(MAILBOX_MAX);
        let mut end = EndNote { uid: id.uid.clone(), panic: None, notes: self.notes.clone() };
        let (context, pod, drain) = (Arc::clone(&self.context), Arc::clone(pod), self.drain.clone());
        task::spawn("pod-worker", async move {
            let work = async move { Worker::new(context, &pod, &listed, inbox).run(drain).await };
            end.panic = task::contain("pod-worker", work).await;
            // It tells the agent.
            drop(end);
        });
        let since = self.context.clock().mono();
        self.workers
            .insert(id.uid, Route { key: ObjectKey::new(id.namespace, id.name), mailbox, since, is_behind: false });
    }

    /// A worker ended: as it should, its pod being gone, or early.
    fn ended(&mut self, uid: &str, panic: Option<String>) {
        let Some(route) = self.workers.remove(uid) else { return };
        let Some(pod) = stored_pod(&self.context.pods, &route.key, uid) else {
            self.revivals.remove(uid);
            if panic.is_some() {
                // What it left is nobody's: lists sweep it.
                self.relist_in(STRAY_AFTER);
            }
            return;
        };
        let now = self.context.clock().mono();
        let before = self.revivals.get(uid).filter(|_| now - route.since < REVIVE_FORGETS);
        let failures = before.map_or(0, |revival| revival.failures).saturating_add(1);
        let delay = REVIVE_BACKOFF.delay(failures);
        let is_ending = pod.metadata.deletion_timestamp.is_some();
        self.revivals.insert(uid.to_owned(), Revival { failures, at: now + delay, is_ending });
        self.relist_in(delay);
        let why = panic.unwrap_or_else(|| "it ended early".to_owned());
        warn!(component = "node", uid, failures, err = why, "a pod's worker panicked; it is made anew");
        let message = format!("Error syncing pod: its worker panicked and is made anew in {delay:?}: {why}");
        self.context.tell_pod(&pod, Severity::Warning, "FailedSync", &message);
    }

    fn send(&mut self, uid: &str, message: Message) {
        self.behind.extend(self.workers.get_mut(uid).and_then(|route| route.send(uid, message)));
    }

    fn send_to(&mut self, wanted: impl Fn(&Route) -> bool, message: &Message) {
        let routes = self.workers.iter_mut().filter(|(_, route)| wanted(route));
        self.behind.extend(routes.filter_map(|(uid, route)| route.send(uid, message.clone())));
    }

    /// A worker that has missed messages can be told what there is.
    fn has_room(&mut self, uid: Option<&str>) {
        if let Some(route) = uid.and_then(|uid| self.workers.get_mut(uid)) {
            route.is_behind = false;
            self.list(Why::Look);
        }
    }

    // The engine.

    fn engine_event(&mut self, event: EngineEvent) {
        match event {
            EngineEvent::Container { id, labels, kind, at, .. } => {
                let Some(uid) = pod_uid(&labels) else { return };
                self.container_event(uid, id, kind, at);
            }
            // What another cluster or a person makes helps no pod of this one.
            EngineEvent::Network { network, container: None, .. } if network != self.context.config.network => {}
            EngineEvent::Network { container, at, .. } => self.network_event(container, at),
            EngineEvent::Images => {
                self.send_to(|_| true, &Message::Images);
                self.context.images_changed();
            }
            EngineEvent::Resync => {
                self.context.images_changed();
                self.list(Why::Back);
            }
        }
    }

    fn container_event(&mut self, uid: &str, id: String, kind: EventKind, at: Timestamp) {
        if kind == EventKind::Removed {
            self.owners.remove(&id);
        } else if !self.owners.contains_key(&id) {
            self.owners.insert(id.clone(), uid.to_owned());
        }
        let message = Message::Event { id, kind, at };
        match &mut self.early {
            Some(early) => early.push((uid.to_owned(), message)),
            // A container that came after its pod had gone: a later list sweeps it.
            None if kind == EventKind::Created && !self.workers.contains_key(uid) => self.relist_in(STRAY_AFTER),
            None => self.send(uid, message),
        }
    }

    /// Every pod that starts is connected, and disconnected when it ends: only its own worker hears of that.
    fn network_event(&mut self, container: Option<String>, at: Timestamp) {
        if !self.is_ready() {
            // The first list may have looked before.
            return self.list(Why::Look);
        }
        let owner = container.as_ref().and_then(|id| self.owners.get(id)).cloned();
        let message = Message::Network { container, at };
        match owner {
            Some(uid) => self.send(&uid, message),
            None => self.send_to(|_| true, &message),
        }
    }

    fn relist_in(&mut self, time: Duration) {
        let at = self.context.clock().mono() + time;
        self.relist_at = Some(self.relist_at.map_or(at, |earlier| earlier.min(at)));
    }

    /// Lists the engine beside everything else; one list at a time.
    fn list(&mut self, why: Why) {
        if self.is_listing {
            self.lists_again = self.lists_again.max(Some(why));
            return;
        }
        self.is_listing = true;
        let (context, notes, drain) = (Arc::clone(&self.context), self.notes.clone(), self.drain.clone());
        task::spawn("node-list", async move {
            let mut listing = None;
            let work = async { listing = Some(sweep::list(&context).await) };
            tokio::select! {
                biased;
                () = drain.drained() => return,
                _ = task::contain("node-list", work) => {}
            }
            // Nobody listens any more when skiff ends.
            drop(notes.send(Note::Listed { listing, why }));
        });
    }

    /// Listing panicked, which was told: it is tried again.
    fn not_listed(&mut self, why: Why) {
        self.is_listing = false;
        self.lists_again = self.lists_again.max(Some(why));
        self.relist_in(LIST_AGAIN);
    }

    fn listed(&mut self, listing: Listing, why: Why) {
        self.is_listing = false;
        self.context.note_back();
        self.sweep(&listing);
        let found = listing.containers.len();
        let owned = |container: &Container| Some((container.id.clone(), pod_uid(&container.labels)?.to_owned()));
        self.owners.extend(listing.containers.iter().filter_map(owned));
        let mut containers = by_pod(listing.containers);
        if let Some(early) = self.early.take() {
            info!(component = "node", containers = found, "adopting what runs already");
            self.look_at_all(Some(&mut containers));
            early.into_iter().for_each(|(uid, message)| self.send(&uid, message));
        } else {
            let (is_safety, is_back) = (why == Why::Safety, why == Why::Back);
            let listed = |(uid, route): (&String, &mut Route)| {
                let containers = containers.remove(uid).unwrap_or_default();
                route.send(uid, Message::Listed { containers, is_safety, is_back })
            };
            self.behind.extend(self.workers.iter_mut().filter_map(listed));
            self.look_at_all(Some(&mut containers));
        }
        if let Some(why) = self.lists_again.take() {
            self.list(why);
        }
    }

    /// What belongs to no pod is removed once it has been seen so for a while.
    fn sweep(&mut self, listing: &Listing) {
        let stored = self.context.pods.list("").items;
        let stored = stored.iter().filter_map(|pod| pod.metadata.uid.clone()).chain(self.workers.keys().cloned());
        let stored: Set<String> = stored.collect();
        self.revivals.retain(|uid, _| stored.contains(uid));
        let cluster = &self.context.config.cluster;
        let now = self.context.clock().mono();
        let due = self.strays.see(cluster, listing, &stored, now);
        if let Some(at) = self.strays.next_at() {
            self.relist_in(at.saturating_duration_since(now));
        }
        if !due.is_empty() {
            let context = Arc::clone(&self.context);
            task::spawn("node-sweep", async move { sweep::remove(&context, due).await });
        }
    }
}
