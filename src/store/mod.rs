//! Level 1: a revisioned key → bytes log with compare-and-swap and watch. Bytes and keys only; it knows no kinds.
//!
//! Guarantees:
//! - A transaction that was answered `Ok` is on disk (for a disk backend), in one piece. One that was answered `Err` changed nothing.
//! - Revisions grow by one per write, across all keys. Reads see every write that was answered.
//! - A watcher sees every change of its prefix after its start revision, once, in order; or it is told that it cannot.
//! - A slow watcher never slows a writer: its buffer is bounded, and past it the watcher is ended with [`WatchError::TooSlow`].
//!
//! The current state lives in memory, so reads never touch the disk; `disk` holds it durably, `log` the recent changes.
//!
//! **Not here**: what the bytes mean (`api`), who may write (`registry`).

mod commit;
#[cfg(test)]
mod contract;
pub mod disk;
pub mod hub;
mod log;
pub mod memory;
#[cfg(test)]
mod model;
pub mod pairs;
mod record;
pub mod snapshot;
mod stage;
mod state;

use crate::api::meta::Revision;
use bytes::Bytes;
use commit::Committer;
use pairs::Pairs;
use state::State;
use std::{
    any::Any,
    fmt,
    sync::{Arc, OnceLock, RwLock, RwLockReadGuard, RwLockWriteGuard},
    time::Duration,
};
use tokio::sync::watch;

/// Bytes to store, with the place where the commit writes the revision's decimal digits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewValue {
    /// What comes before the revision.
    pub head: Vec<u8>,
    /// What comes after it.
    pub tail: Vec<u8>,
}

/// What the store keeps beside the bytes so that readers can select without decoding.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attrs {
    /// Labels, for label selectors.
    pub labels: Pairs,
    /// Selectable fields, for field selectors; an empty one is as good as none.
    pub fields: Pairs,
    /// Index terms, e.g. `owner=<uid>`: [`Store::by_term`] finds the keys that have one.
    pub terms: Vec<String>,
}

/// A key's current (or, in a change, former) state.
#[derive(Debug)]
pub struct Entry {
    /// The key.
    pub key: Arc<str>,
    /// The bytes, revision included.
    pub value: Bytes,
    /// Where the revision's digits are in `value`.
    pub revision_at: std::ops::Range<usize>,
    /// What was indexed at the write; shared with the state before when the write did not change it.
    pub attrs: Arc<Attrs>,
    /// The revision that created the key.
    pub created: Revision,
    /// The revision that wrote this state.
    pub modified: Revision,
    /// The decoded form, made by the first reader that wants it and shared by the rest.
    pub decoded: OnceLock<Arc<dyn Any + Send + Sync>>,
    /// What a list in protobuf wrote of it, kept for the next list; of small ones only.
    pub packed: OnceLock<Box<[u8]>>,
}

impl Entry {
    /// The entry that a write of `value` at `revision` makes; `created` is `None` when it creates the key. A dry run uses it too.
    pub fn assemble(
        key: Arc<str>,
        value: NewValue,
        attrs: Arc<Attrs>,
        created: Option<Revision>,
        revision: Revision,
    ) -> Self {
        let digits = revision.to_string();
        let start = value.head.len();
        let mut bytes = Vec::with_capacity(start + digits.len() + value.tail.len());
        bytes.extend_from_slice(&value.head);
        bytes.extend_from_slice(digits.as_bytes());
        bytes.extend_from_slice(&value.tail);
        Self {
            key,
            value: bytes.into(),
            revision_at: start..start + digits.len(),
            attrs,
            created: created.unwrap_or(revision),
            modified: revision,
            decoded: OnceLock::new(),
            packed: OnceLock::new(),
        }
    }

    /// The bytes with another revision in place of this state's: how a watch shows a deletion.
    pub fn value_at(&self, revision: Revision) -> Bytes {
        self.parts_at(revision).concat().into()
    }

    /// [`Entry::value_at`] in parts that share what this state has.
    pub fn parts_at(&self, revision: Revision) -> [Bytes; 3] {
        let at = &self.revision_at;
        [self.value.slice(..at.start), revision.to_string().into(), self.value.slice(at.end..)]
    }
}

/// What must hold for a transaction to happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expect {
    /// The key does not exist.
    Absent(String),
    /// The key's last write was this revision.
    Unchanged(String, Revision),
}

/// One write of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// Creates or replaces a key.
    Put {
        /// The key.
        key: String,
        /// The bytes.
        value: NewValue,
        /// What to index.
        attrs: Attrs,
    },
    /// Removes a key.
    Delete {
        /// The key.
        key: String,
    },
}

/// Writes that happen together, or not at all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Txn {
    /// All must hold.
    pub expect: Vec<Expect>,
    /// All are done, each with its own revision, in this order.
    pub writes: Vec<Write>,
}

/// What a transaction did.
#[derive(Clone, Debug)]
pub struct Committed {
    /// The revision of the last write.
    pub revision: Revision,
    /// The changes, in order.
    pub changes: Vec<Arc<Change>>,
}

/// One committed write.
#[derive(Debug)]
pub struct Change {
    /// Its revision.
    pub revision: Revision,
    /// The key.
    pub key: Arc<str>,
    /// The state before; `None`: the key was created.
    pub before: Option<Arc<Entry>>,
    /// The state after; `None`: the key was deleted.
    pub after: Option<Arc<Entry>>,
}

/// Why a transaction did not happen.
#[derive(Debug, Clone, thiserror::Error)]
pub enum TxnError {
    /// An expectation does not hold; here is what the key has.
    #[error("{key} is not as expected")]
    Unexpected {
        /// The key.
        key: String,
        /// Its state now.
        found: Option<Arc<Entry>>,
    },
    /// The disk refused: read-only, full, broken. Nothing was changed. The text names the file and the remedy.
    #[error("{0}")]
    Disk(String),
}

/// Why a watch cannot start, or ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WatchError {
    /// Changes after the wanted revision are no longer known. The oldest revision to start from is given.
    #[error("revision is too old: the oldest known is {oldest}")]
    Compacted {
        /// The oldest revision that a watch can start from.
        oldest: Revision,
    },
    /// The watcher did not keep up.
    #[error("the watcher is too slow")]
    TooSlow,
}

/// Where the state is kept durably.
pub trait Backend: Send + 'static {
    /// Everything that was committed, and the last revision.
    fn load(&mut self) -> Result<(Revision, Vec<Entry>), String>;
    /// Writes the changes of one or more transactions durably, all or none.
    fn commit(&mut self, changes: &[Arc<Change>]) -> Result<(), String>;
    /// Writes something that changes nothing, to see whether writes are taken again.
    fn probe(&mut self) -> Result<(), String> {
        Ok(())
    }
}

/// A backend that tells how its last write went.
struct Told<B> {
    backend: B,
    health: watch::Sender<Option<String>>,
}

impl<B: Backend> Told<B> {
    fn tell(&self, written: Result<(), String>) -> Result<(), String> {
        let now = written.as_ref().err().cloned();
        self.health.send_if_modified(|health| {
            let is_news = *health != now;
            *health = now;
            is_news
        });
        written
    }
}

impl<B: Backend> Backend for Told<B> {
    fn load(&mut self) -> Result<(Revision, Vec<Entry>), String> {
        self.backend.load()
    }

    fn commit(&mut self, changes: &[Arc<Change>]) -> Result<(), String> {
        let written = self.backend.commit(changes);
        self.tell(written)
    }

    fn probe(&mut self) -> Result<(), String> {
        let written = self.backend.probe();
        self.tell(written)
    }
}

/// Entries of a prefix at one revision, in key order.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The store's revision when it was taken.
    pub revision: Revision,
    /// The entries.
    pub entries: Vec<Arc<Entry>>,
}

/// How much of the past is kept, and how far behind a watcher may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Recent changes that a watch can replay, at most.
    pub history_changes: usize,
    /// How long a change is kept at least, as far as [`Limits::history_changes`] and [`Limits::history_bytes_max`] go.
    pub history_age: Duration,
    /// Bytes that older changes alone keep in memory: states that are no longer current.
    pub history_bytes: usize,
    /// Bytes that all changes alone keep in memory.
    pub history_bytes_max: usize,
    /// Changes that wait for one watcher.
    pub watcher_changes: usize,
    /// Bytes that wait for one watcher.
    pub watcher_bytes: usize,
}

impl Default for Limits {
    /// A watch may resume after five minutes or 10,000 writes, whichever come first; and the idle control plane stays within its
    /// 30 MB: a superseded object of 3 KB takes 3 KB of the history, a fresh one next to nothing.
    fn default() -> Self {
        Self {
            history_changes: 10_000,
            history_age: Duration::from_mins(5),
            history_bytes: 4 << 20,
            history_bytes_max: 64 << 20,
            watcher_changes: 8_192,
            watcher_bytes: 32 << 20,
        }
    }
}

/// The store. Clones share one state. When the last clone is dropped, writes under way are finished and the backend is closed.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

struct Inner {
    // Dropped first, and with it the backend: nothing is applied to a state that no one reads.
    committer: Committer,
    state: Arc<RwLock<State>>,
    /// Why the last write was refused by the disk, if it was.
    health: watch::Receiver<Option<String>>,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("revision", &self.revision()).finish_non_exhaustive()
    }
}

impl Store {
    /// Loads what the backend holds. A durable backend commits on a thread of its own (`durable`); a memory backend commits in the
    /// caller, so that the simulator stays on one thread.
    ///
    /// # Errors
    /// What the backend says: the text names the file and the remedy.
    pub fn open(backend: impl Backend, durable: bool) -> Result<Self, String> {
        Self::open_with(backend, durable, Limits::default())
    }

    /// [`Store::open`] with other limits.
    ///
    /// # Errors
    /// What the backend says: the text names the file and the remedy.
    pub fn open_with(backend: impl Backend, durable: bool, limits: Limits) -> Result<Self, String> {
        let (told, health) = watch::channel(None);
        let mut backend = Told { backend, health: told };
        let (revision, entries) = backend.load()?;
        let state = Arc::new(RwLock::new(State::new(revision, entries, limits)));
        let committer = if durable {
            Committer::threaded(Arc::clone(&state), Box::new(backend))?
        } else {
            Committer::inline(Box::new(backend))
        };
        Ok(Self(Arc::new(Inner { committer, state, health })))
    }

    /// Whether the disk took the last write, or why not.
    pub fn health(&self) -> Result<(), String> {
        self.0.health.borrow().clone().map_or(Ok(()), Err)
    }

    /// Returns once the disk refuses writes.
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    pub async fn failing(&self) {
        let mut health = self.0.health.clone();
        if health.wait_for(Option::is_some).await.is_err() {
            // The backend lives as long as this store.
            std::future::pending::<()>().await;
        }
    }

    /// Tries a write that changes nothing, so that [`Store::health`] heals when nobody else writes.
    pub async fn probe(&self) {
        self.0.committer.probe().await;
    }

    /// The last revision.
    pub fn revision(&self) -> Revision {
        read(&self.0.state).revision()
    }

    /// A key's entry.
    pub fn get(&self, key: &str) -> Option<Arc<Entry>> {
        read(&self.0.state).get(key).cloned()
    }

    /// The entries whose key begins with `prefix`, in key order.
    pub fn range(&self, prefix: &str) -> Snapshot {
        read(&self.0.state).range(prefix)
    }

    /// Whether a key begins with `prefix`; as cheap as reading one.
    pub fn has_any(&self, prefix: &str) -> bool {
        read(&self.0.state).has_any(prefix)
    }

    /// Whether an entry has an index term; as cheap as reading one.
    pub fn has_term(&self, term: &str) -> bool {
        read(&self.0.state).has_term(term)
    }

    /// The entries that have an index term, in key order.
    pub fn by_term(&self, term: &str) -> Vec<Arc<Entry>> {
        read(&self.0.state).by_term(term)
    }

    /// Does a transaction. It is on disk when this returns `Ok`.
    ///
    /// Expectations speak of the state before the transaction; its writes see each other. Deleting a key that does not exist is
    /// [`TxnError::Unexpected`]. A transaction without writes takes no revision: it only checks.
    ///
    /// # Errors
    /// [`TxnError::Unexpected`] when an expectation does not hold, [`TxnError::Disk`] when the disk refuses. Nothing was changed.
    ///
    /// # Cancel safety
    /// Dropping the future does not undo the transaction: it may or may not happen.
    pub async fn commit(&self, txn: Txn) -> Result<Committed, TxnError> {
        self.0.committer.commit(&self.0.state, txn).await
    }

    /// Changes after `from` of the keys that begin with `prefix`: those that happened already, then those to come. A revision that
    /// is still to come is waited for.
    ///
    /// # Errors
    /// [`WatchError::Compacted`] when changes after `from` have been forgotten.
    pub fn watch(&self, prefix: &str, from: Revision) -> Result<hub::Watch, WatchError> {
        write(&self.0.state).watch(prefix, from)
    }
}

// A panic while the state is held leaves it half changed: whoever meets the poison must stop too.
const POISONED: &str = "no one panics while holding the state";

fn read(state: &RwLock<State>) -> RwLockReadGuard<'_, State> {
    state.read().expect(POISONED)
}

fn write(state: &RwLock<State>) -> RwLockWriteGuard<'_, State> {
    state.write().expect(POISONED)
}
