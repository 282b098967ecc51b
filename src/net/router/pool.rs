//! Connections to endpoints that are kept for the next request. Each thread has its own, so that none wakes another.
//!
//! Used by `forward`. A connection that speaks HTTP/1.1 is kept while nobody uses it, the one used last is taken first; one that speaks
//! HTTP/2 is shared.
//!
//! **Invariants**: none is kept to an endpoint that has left the rotation, so that its pod may end in peace.

use super::body::Outgoing;
use crate::{base::ordered::Map, net::rotation::Endpoint};
use hyper::client::conn::{http1, http2};
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{sync::Notify, time::Instant};

/// For how long a connection is kept: less than servers keep one (Node: 5 s), so that a request seldom meets one that ends.
const KEPT_FOR: Duration = Duration::from_secs(4);
/// How many are kept for each endpoint.
const KEPT_MAX: usize = 128;

/// A connection that speaks HTTP/1.1.
pub(super) type Http1 = http1::SendRequest<Outgoing>;
/// A connection that speaks HTTP/2.
pub(super) type Http2 = http2::SendRequest<Outgoing>;

/// Which connections are alike: the endpoint, and how it is spoken to.
pub(super) type PoolKey = (u64, u64);

/// The connections of one thread.
#[derive(Debug, Default)]
pub(super) struct Pool {
    kept: Mutex<Map<PoolKey, Kept>>,
    /// Told when something is kept after nothing was.
    filled: Notify,
}

#[derive(Debug)]
struct Kept {
    endpoint: Arc<Endpoint>,
    idle: Vec<(Http1, Instant)>,
    shared: Option<Http2>,
}

impl Kept {
    fn new(endpoint: &Arc<Endpoint>) -> Self {
        Self { endpoint: Arc::clone(endpoint), idle: Vec::new(), shared: None }
    }
}

impl Pool {
    /// A kept connection, if there is one that can be used at once.
    pub(super) fn take(&self, key: PoolKey) -> Option<Http1> {
        let mut all = self.lock();
        let kept = all.get_mut(&key)?;
        kept.idle.retain(|(sender, _)| !sender.is_closed());
        // One that was given back this moment may have to finish first.
        let at = kept.idle.iter().rposition(|(sender, _)| sender.is_ready())?;
        Some(kept.idle.remove(at).0)
    }

    /// Keeps a connection whose answer was read to its end.
    pub(super) fn give(&self, key: PoolKey, endpoint: &Arc<Endpoint>, sender: Http1) {
        if sender.is_closed() || !endpoint.is_in_rotation() {
            return;
        }
        let mut all = self.lock();
        if all.is_empty() {
            self.filled.notify_one();
        }
        let kept = all.entry(key).or_insert_with(|| Kept::new(endpoint));
        if kept.idle.len() < KEPT_MAX {
            kept.idle.push((sender, Instant::now()));
        }
    }

    /// The shared connection, if there is one.
    pub(super) fn shared(&self, key: PoolKey) -> Option<Http2> {
        self.lock().get(&key)?.shared.clone().filter(|sender| !sender.is_closed())
    }

    /// Shares a connection.
    pub(super) fn share(&self, key: PoolKey, endpoint: &Arc<Endpoint>, sender: Http2) {
        if endpoint.is_in_rotation() {
            self.filled.notify_one();
            self.lock().entry(key).or_insert_with(|| Kept::new(endpoint)).shared = Some(sender);
        }
    }

    /// Whether nothing is kept.
    pub(super) fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    /// Returns when something is kept after nothing was: while nothing is, nobody looks.
    pub(super) async fn filled(&self) {
        self.filled.notified().await;
    }

    /// Closes what has been idle for too long, and what leads to endpoints that left.
    pub(super) fn purge(&self) {
        let now = Instant::now();
        let mut all = self.lock();
        all.retain(|_, kept| {
            kept.idle.retain(|(sender, since)| !sender.is_closed() && now.duration_since(*since) < KEPT_FOR);
            kept.shared = kept.shared.take().filter(|sender| !sender.is_closed());
            kept.endpoint.is_in_rotation() && (!kept.idle.is_empty() || kept.shared.is_some())
        });
    }

    fn lock(&self) -> MutexGuard<'_, Map<PoolKey, Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How often [`Pool::purge`] is due while something is kept.
pub(super) const PURGE_PERIOD: Duration = Duration::from_secs(2);
