//! Level 4: HTTP. The API that kubectl and every other client see. May use `api`, `registry`, and `node` through its streams.
//!
//! A request goes `serve` → `handle` → (`auth`, `route`) → `paths` or `verbs` → registry → `print` → `respond`.
//!
//! - [`serve`](mod@serve): listeners, TLS, HTTP/1.1 and HTTP/2, drain. [`tls`]: the CA and its certificates.
//! - [`gate`]: how many connections may be open, how many requests under way. `stall` and `pace`: peers that do not read.
//! - [`handle`](mod@handle): one request. [`auth`]: who, and may they. [`route`](mod@route): which verb on what.
//! - [`impersonate`]: as whom a request acts.
//! - [`paths`]: discovery, OpenAPI, version, health. [`verbs`]: reads, writes and watches of objects.
//! - [`dashboard`]: a page for people, and the API for it.
//! - `upgrade`: connections that become something else. `websocket`: streams for clients that can open nothing else. `remote`:
//!   conversations with containers, over WebSocket and SPDY. `relay`: requests that are passed on to pods.
//! - [`media`] and [`codec`]: what comes in and goes out. [`print`]: objects, metadata and tables. [`options`]: queries.
//!
//! **Not here**: rules about objects (`registry`, `api/kinds`), the texts of errors (`api/status`).

pub mod auth;
pub mod codec;
mod compress;
pub mod dashboard;
pub mod discovery;
mod documents;
mod encoded;
pub mod gate;
pub mod handle;
pub mod health;
pub mod impersonate;
pub mod media;
mod oauth;
pub mod options;
mod pace;
mod paths;
mod pinned;
pub mod print;
mod relay;
mod remote;
mod request;
pub mod respond;
pub mod route;
pub mod serve;
mod stall;
#[cfg(test)]
mod tests;
pub mod tls;
mod traffic;
mod upgrade;
mod verbs;
#[cfg(any(test, feature = "testing"))]
pub use remote::{Heard, hear};
pub use verbs::evict;
mod websocket;

use crate::{
    base::{descriptors, ordered::Map},
    identity::{Rbac, Tokens},
    node::{local_images::LocalImages, streams::PodStreams, usage::Usages},
    registry::Registry,
};
use gate::{Bound, Gate, Seat, Seats};
use health::{Metrics, ReadyReport};
use std::{
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, OnceLock},
};
use tokio::sync::Notify;
use traffic::TrafficDesk;

/// What every request needs. Clones share it.
#[derive(Clone)]
pub struct ServerState(Arc<Inner>);

struct Inner {
    registry: Registry,
    streams: Arc<dyn PodStreams>,
    images: Arc<dyn LocalImages>,
    usages: Arc<dyn Usages>,
    ready: Arc<dyn Fn() -> ReadyReport + Send + Sync>,
    rbac: Rbac,
    tokens: Tokens,
    metrics: Metrics,
    other_metrics: Arc<dyn Fn() -> String + Send + Sync>,
    doors: Mutex<Doors>,
    kept_documents: documents::Library,
    encoded: Arc<encoded::Encoded>,
    seats: Map<Bound, Arc<Seats>>,
    pinned: pinned::Pinned,
    dashboard: OnceLock<dashboard::Dashboard>,
    traffic: TrafficDesk,
}

/// The open connections, and how each is told to end.
struct Doors {
    gate: Gate,
    endings: Map<u64, Arc<Notify>>,
}

impl std::fmt::Debug for ServerState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerState").field("registry", &self.0.registry).finish_non_exhaustive()
    }
}

impl ServerState {
    /// A server over a registry. `tokens` are whose it takes and issues; `streams` are the containers' logs, `images` the engine's and `usages` what pods use; `ready` says whether the control plane is, and `other_metrics` what
    /// its other parts count, when it is asked.
    pub fn new(
        registry: Registry,
        tokens: Tokens,
        (streams, images, usages): (Arc<dyn PodStreams>, Arc<dyn LocalImages>, Arc<dyn Usages>),
        ready: Arc<dyn Fn() -> ReadyReport + Send + Sync>,
        other_metrics: Arc<dyn Fn() -> String + Send + Sync>,
    ) -> Self {
        let gate = Gate::new(gate::Limits::of_descriptors(descriptors::limit()));
        let places =
            [(Bound::Reads, gate::READS_MAX), (Bound::Writes, gate::WRITES_MAX), (Bound::Streams, gate::STREAMS_MAX)];
        Self(Arc::new(Inner {
            rbac: Rbac::new(registry.clone()),
            tokens,
            registry,
            streams,
            images,
            usages,
            ready,
            metrics: Metrics::default(),
            other_metrics,
            doors: Mutex::new(Doors { gate, endings: Map::new() }),
            kept_documents: documents::Library::default(),
            encoded: Arc::default(),
            seats: places.into_iter().map(|(bound, max)| (bound, Seats::new(max))).collect(),
            pinned: pinned::Pinned::default(),
            dashboard: OnceLock::new(),
            traffic: TrafficDesk::default(),
        }))
    }

    /// Tells of the dashboard that is served, so that clients may ask for a way in. The first one stays.
    pub fn tell_of(&self, dashboard: dashboard::Dashboard) {
        drop(self.0.dashboard.set(dashboard));
    }

    /// The dashboard, if one is served.
    fn dashboard(&self) -> Option<&dashboard::Dashboard> {
        self.0.dashboard.get()
    }

    fn traffic(&self) -> &TrafficDesk {
        &self.0.traffic
    }

    fn registry(&self) -> &Registry {
        &self.0.registry
    }

    /// The documents of the kinds that are served now.
    fn documents(&self) -> Arc<documents::Documents> {
        self.0.kept_documents.of(self.0.registry.kinds())
    }

    /// The lists that are being read in pages.
    fn pinned(&self) -> &pinned::Pinned {
        &self.0.pinned
    }

    /// The events in protobuf that are being sent.
    fn encoded(&self) -> Arc<encoded::Encoded> {
        Arc::clone(&self.0.encoded)
    }

    fn streams(&self) -> &dyn PodStreams {
        &*self.0.streams
    }

    fn images(&self) -> &dyn LocalImages {
        &*self.0.images
    }

    fn usages(&self) -> &dyn Usages {
        &*self.0.usages
    }

    fn ready(&self) -> ReadyReport {
        (self.0.ready)()
    }

    /// What roles grant.
    fn rbac(&self) -> &Rbac {
        &self.0.rbac
    }

    /// The tokens of service accounts.
    fn tokens(&self) -> &Tokens {
        &self.0.tokens
    }

    /// Everything that is counted, as Prometheus reads it.
    fn metrics_text(&self) -> String {
        self.0.metrics.text() + &(self.0.other_metrics)()
    }

    fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    fn doors(&self) -> MutexGuard<'_, Doors> {
        self.0.doors.lock().expect("no one panics while counting connections")
    }

    /// Lets a connection in, and puts out another one for it if need be. `None`: it must be closed.
    fn admit(&self, source: IpAddr) -> Option<Ticket> {
        let mut doors = self.doors();
        let admission = match doors.gate.enter(source) {
            Ok(admission) => admission,
            Err(bound) => {
                drop(doors);
                self.metrics().bound_reached(bound, "refused");
                return None;
            }
        };
        let end = Arc::new(Notify::new());
        doors.endings.insert(admission.id, Arc::clone(&end));
        let put_out = admission.puts_out.map(|(id, bound)| (doors.endings.remove(&id), bound));
        drop(doors);
        if let Some((other, bound)) = put_out {
            self.metrics().bound_reached(bound, "ended");
            other.iter().for_each(|other| other.notify_one());
        }
        Some(Ticket { id: admission.id, end, state: self.clone() })
    }

    /// A place for a request. `None`: too many are under way.
    fn seat(&self, of: Bound) -> Option<Seat> {
        let seat = self.0.seats.get(&of).and_then(Seats::take);
        if seat.is_none() {
            self.metrics().bound_reached(of, "refused");
        }
        seat
    }

    /// Counts a watch until the count is dropped.
    fn count_watch(&self) -> health::WatchCount {
        health::WatchCount::new(self.clone())
    }
}

/// An open connection, until it is dropped.
#[derive(Debug)]
pub(crate) struct Ticket {
    id: u64,
    end: Arc<Notify>,
    state: ServerState,
}

impl Ticket {
    /// Whose connection it is is known: it is no longer put out for others.
    fn prove(&self) {
        self.state.doors().gate.prove(self.id);
    }

    /// Returns when the connection must end for another one.
    async fn put_out(&self) {
        self.end.notified().await;
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut doors = self.state.doors();
        doors.gate.leave(self.id);
        doors.endings.remove(&self.id);
    }
}
