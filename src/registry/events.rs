//! Records Events: what a user sees in `kubectl describe` and `kubectl get events`.
//!
//! Recording never blocks and never fails the caller: events go into a bounded queue that one task empties in batches, so that
//! their writes share disk flushes. Repeats of one event raise its count, and like events are gathered (`correlate`).

mod correlate;

use super::Registry;
use crate::{
    api::{
        kind::TypedKind,
        kinds::event::Events,
        meta::ObjectKey,
        object::Object as _,
        status::{ApiError, ErrorClass},
    },
    base::{chain::chain, clock::whole_seconds, ordered::Map, reached::Reached, task::Drain},
};
use correlate::{Correlator, Sameness};
use futures::future::join_all;
use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{Event, EventSource, ObjectReference},
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time},
};
use std::{collections::VecDeque, sync::Mutex};
use tokio::sync::Notify;
use tracing::{debug, warn};

/// Events that wait to be written; past it the oldest are dropped.
const QUEUE_MAX: usize = 4096;
/// Events that are written at the same time.
const BATCH_MAX: usize = 64;
/// Repeated events that are remembered.
const KNOWN_MAX: usize = 4096;

/// How much an event matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// Business as usual.
    Normal,
    /// A user may want to act.
    Warning,
}

/// Records events for one component. Clones share one queue.
#[derive(Clone, Debug)]
pub struct Recorder {
    registry: Registry,
    component: &'static str,
}

impl Recorder {
    /// A recorder for a component, named as in Kubernetes, e.g. `deployment-controller`, `kubelet`.
    pub fn new(registry: Registry, component: &'static str) -> Self {
        Self { registry, component }
    }

    /// Records that something happened to an object.
    pub fn record(&self, about: &ObjectReference, severity: Severity, reason: &str, message: &str) {
        self.registry.events().push(Recorded {
            about: about.clone(),
            severity,
            reason: reason.to_owned(),
            message: message.to_owned(),
            component: self.component,
            at: self.registry.clock().now(),
            count: 1,
        });
    }
}

/// The reference by which an event names its object.
pub fn reference<K: TypedKind>(obj: &K::Object) -> ObjectReference {
    let (meta, info) = (obj.meta(), K::erased().info());
    ObjectReference {
        api_version: Some(info.api_version()),
        kind: Some(info.kind.to_owned()),
        namespace: meta.namespace.clone(),
        name: meta.name.clone(),
        uid: meta.uid.clone(),
        resource_version: meta.resource_version.clone(),
        field_path: None,
    }
}

/// The events that wait to be written.
#[derive(Debug, Default)]
pub(super) struct EventQueue {
    waiting: Mutex<VecDeque<Recorded>>,
    arrived: Notify,
    /// Events that were dropped because too many waited.
    dropped: Reached,
}

#[derive(Clone, Debug)]
struct Recorded {
    about: ObjectReference,
    severity: Severity,
    reason: String,
    message: String,
    component: &'static str,
    at: Timestamp,
    count: i32,
}

impl EventQueue {
    fn push(&self, event: Recorded) {
        let mut waiting = self.waiting.lock().expect("no one panics while queueing");
        if waiting.len() == QUEUE_MAX {
            waiting.pop_front();
            if self.dropped.is_first() {
                let max = QUEUE_MAX;
                warn!(
                    component = "events",
                    max, "too many events wait to be written: the oldest are dropped, from now on without a word"
                );
            }
        }
        waiting.push_back(event);
        drop(waiting);
        self.arrived.notify_one();
    }

    /// How many events were dropped because too many waited.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped.count()
    }

    /// The next events to write, repeats among them joined; `None` when nothing waits.
    fn take(&self, correlator: &mut Correlator) -> Option<Vec<(Sameness, Recorded)>> {
        let mut waiting = self.waiting.lock().expect("no one panics while queueing");
        let n = waiting.len().min(BATCH_MAX);
        if n == 0 {
            return None;
        }
        let mut batch: Vec<(Sameness, Recorded)> = Vec::new();
        for mut event in waiting.drain(..n) {
            let Some(sameness) = correlator.correlate(&mut event) else { continue };
            match batch.iter_mut().find(|(s, _)| *s == sameness) {
                Some((_, first)) => *first = Recorded { count: first.count + 1, ..event },
                None => batch.push((sameness, event)),
            }
        }
        Some(batch)
    }
}

/// Empties the queue until drained; what is queued by then is still written.
pub(super) async fn run(registry: Registry, drain: Drain) {
    // In boxes, as there are thousands, and one that comes moves those behind it.
    let mut known: Map<Box<Sameness>, ObjectKey> = Map::new();
    let mut correlator = Correlator::default();
    let mut stamp = 0;
    loop {
        let Some(batch) = registry.events().take(&mut correlator) else {
            tokio::select! {
                biased;
                () = registry.events().arrived.notified() => continue,
                () = drain.drained() => return,
            }
        };
        let writes = batch.iter().map(|(sameness, event)| {
            stamp = event.at.as_nanosecond().max(stamp + 1);
            write(&registry, known.get(sameness), event, stamp)
        });
        let written = join_all(writes).await;
        if known.len() > KNOWN_MAX {
            known.clear();
        }
        for ((sameness, _), key) in batch.into_iter().zip(written) {
            if let Some(key) = key {
                known.insert(Box::new(sameness), key);
            }
        }
    }
}

/// Writes one event and returns its key, or nothing when it could not be written.
async fn write(registry: &Registry, known: Option<&ObjectKey>, event: &Recorded, stamp: i128) -> Option<ObjectKey> {
    let api = registry.api::<Events>();
    if let Some(key) = known.filter(|key| api.get(key).is_some()) {
        let repeat = api
            .modify(key, |old| {
                old.count = Some(old.count.unwrap_or(1).saturating_add(event.count));
                old.message = Some(event.message.clone());
                old.last_timestamp = Some(Time(whole_seconds(event.at)));
            })
            .await;
        match repeat {
            Ok(_) => return Some(key.clone()),
            Err(err) if err.class() == ErrorClass::NotFound => {}
            Err(err) => return lost(event, &err),
        }
    }
    match api.create(new_event(event, stamp)).await {
        Ok(created) => Some(ObjectKey::of(created.meta())),
        Err(err) => lost(event, &err),
    }
}

/// An event that cannot be written is let go: its namespace is going away, or the disk is full, which others report.
fn lost(event: &Recorded, err: &ApiError) -> Option<ObjectKey> {
    debug!(component = "events", reason = event.reason, err = chain(err), "event not written");
    None
}

/// A new event. Its name ends in its time in nanoseconds, so that the events of an object are listed as they happened, as clients show
/// those of the same second. Source: `makeEvent`, client-go/tools/record/event.go, v1.37.
fn new_event(event: &Recorded, stamp: i128) -> Event {
    let about = &event.about;
    let namespace = about.namespace.clone().filter(|n| !n.is_empty()).unwrap_or_else(|| "default".to_owned());
    let at = Time(whole_seconds(event.at));
    Event {
        metadata: ObjectMeta {
            name: Some(format!("{}.{stamp:x}", about.name.as_deref().unwrap_or_default())),
            namespace: Some(namespace),
            ..Default::default()
        },
        involved_object: about.clone(),
        reason: Some(event.reason.clone()),
        message: Some(event.message.clone()),
        type_: Some(format!("{:?}", event.severity)),
        source: Some(EventSource { component: Some(event.component.to_owned()), host: None }),
        reporting_component: Some(event.component.to_owned()),
        reporting_instance: Some(String::new()),
        count: Some(event.count),
        first_timestamp: Some(at.clone()),
        last_timestamp: Some(at),
        ..Default::default()
    }
}
