//! What the controllers count about themselves, for the server's `/metrics` and for tests.

use crate::base::ordered::Map;
use std::sync::{
    Arc, Mutex,
    atomic::{AtomicU64, Ordering::Relaxed},
};

/// The counters of one controller.
#[derive(Debug, Default)]
pub struct Counters {
    /// Passes over a key.
    pub reconciles: AtomicU64,
    /// Objects that passes looked at, where there may be many of them.
    pub looks: AtomicU64,
    /// Writes that were tried.
    pub actions: AtomicU64,
    /// Passes that ended because the world had moved.
    pub moved: AtomicU64,
    /// Passes that failed.
    pub failures: AtomicU64,
    /// Passes or loops that panicked.
    pub panics: AtomicU64,
    /// Keys that wait now.
    pub waiting: AtomicU64,
    /// Times that a watch ended and everything was listed again.
    pub relists: AtomicU64,
    /// Passes in which the slow resync found something to do: each is a change that no trigger told of.
    pub resync_finds: AtomicU64,
}

/// The counters of all controllers, by name. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Metrics(Arc<Mutex<Map<&'static str, Arc<Counters>>>>);

impl Metrics {
    /// The counters of a controller.
    pub fn of(&self, controller: &'static str) -> Arc<Counters> {
        let mut all = self.0.lock().expect("no one panics while counting");
        Arc::clone(all.entry(controller).or_default())
    }

    /// How many keys of each controller wait.
    pub fn depths(&self) -> Vec<(&'static str, u64)> {
        let all = self.0.lock().expect("no one panics while counting");
        all.iter().map(|(name, c)| (*name, c.waiting.load(Relaxed))).collect()
    }

    /// Every count: `(controller, counter, value)`.
    pub fn snapshot(&self) -> Vec<(&'static str, &'static str, u64)> {
        let all = self.0.lock().expect("no one panics while counting");
        all.iter()
            .flat_map(|(name, c)| {
                [
                    ("reconciles", &c.reconciles),
                    ("looks", &c.looks),
                    ("actions", &c.actions),
                    ("moved", &c.moved),
                    ("failures", &c.failures),
                    ("panics", &c.panics),
                    ("relists", &c.relists),
                    ("resync_finds", &c.resync_finds),
                ]
                .map(|(counter, n)| (*name, counter, n.load(Relaxed)))
            })
            .collect()
    }
}
