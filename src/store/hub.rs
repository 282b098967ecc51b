//! Fan-out of changes to watchers: one bounded buffer per watcher, one shared copy of each change.
//!
//! The state publishes under its lock; a watcher takes from its own buffer and never touches the state, so neither waits for the
//! other beyond a push or a pop.
//!
//! **Invariants**
//! - A buffer holds every published change of its prefix that was not returned yet, in revision order.
//! - `published` moves only after the change is in every buffer: a watcher that reads it first and its buffer second knows exactly
//!   how far it is.

use super::{Change, Limits, WatchError};
use crate::api::meta::Revision;
use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, Weak,
        atomic::{AtomicU64, Ordering},
    },
};
use tokio::sync::Notify;

/// All running watches.
#[derive(Debug)]
pub(super) struct Hub {
    watchers: Vec<Watcher>,
    published: Arc<AtomicU64>,
    limits: Limits,
}

#[derive(Debug)]
struct Watcher {
    prefix: Box<str>,
    from: Revision,
    feed: Weak<Feed>,
}

/// What the hub and one watch share.
#[derive(Debug)]
struct Feed {
    buffer: Mutex<Buffer>,
    wake: Notify,
}

#[derive(Debug)]
struct Buffer {
    changes: VecDeque<Arc<Change>>,
    bytes: usize,
    changes_max: usize,
    bytes_max: usize,
    overflowed: bool,
}

impl Hub {
    /// A hub whose store is at `revision`.
    pub(super) fn new(revision: Revision, limits: Limits) -> Self {
        Self { watchers: Vec::new(), published: Arc::new(AtomicU64::new(revision.0)), limits }
    }

    /// A watch that returns `replay`, then what is published after `from`. The replay does not count toward the limits.
    pub(super) fn subscribe(&mut self, prefix: &str, from: Revision, replay: Vec<Arc<Change>>) -> Watch {
        let bytes = replay.iter().map(|change| weight(change)).sum();
        let buffer = Buffer {
            changes_max: self.limits.watcher_changes + replay.len(),
            bytes_max: self.limits.watcher_bytes + bytes,
            changes: replay.into(),
            bytes,
            overflowed: false,
        };
        let feed = Arc::new(Feed { buffer: Mutex::new(buffer), wake: Notify::new() });
        self.watchers.push(Watcher { prefix: prefix.into(), from, feed: Arc::downgrade(&feed) });
        Watch { feed, published: Arc::clone(&self.published), returned: from }
    }

    /// Gives the changes to the watchers that want them. Never waits for a watcher.
    pub(super) fn publish(&mut self, changes: &[Arc<Change>]) {
        let Some(last) = changes.last() else { return };
        self.watchers.retain(|watcher| watcher.offer(changes));
        self.published.store(last.revision.0, Ordering::Release);
    }
}

impl Watcher {
    /// Returns whether the watch is still running.
    fn offer(&self, changes: &[Arc<Change>]) -> bool {
        let mut wanted =
            changes.iter().filter(|c| c.revision > self.from && c.key.starts_with(&*self.prefix)).peekable();
        if wanted.peek().is_none() {
            return self.feed.strong_count() > 0;
        }
        let Some(feed) = self.feed.upgrade() else { return false };
        let running = feed.lock().push(wanted);
        feed.wake.notify_one();
        running
    }
}

impl Feed {
    fn lock(&self) -> MutexGuard<'_, Buffer> {
        self.buffer.lock().expect("no one panics while holding a buffer")
    }
}

impl Buffer {
    /// Returns whether the changes had room. Without room the buffer is given up at once: it would only hold memory.
    fn push<'a>(&mut self, changes: impl Iterator<Item = &'a Arc<Change>>) -> bool {
        for change in changes {
            self.bytes += weight(change);
            self.changes.push_back(Arc::clone(change));
        }
        // One change is always welcome, however large.
        self.overflowed =
            self.changes.len() > self.changes_max || (self.bytes > self.bytes_max && self.changes.len() > 1);
        if self.overflowed {
            self.changes = VecDeque::new();
        }
        !self.overflowed
    }

    fn pop(&mut self) -> Result<Option<Arc<Change>>, WatchError> {
        if self.overflowed {
            return Err(WatchError::TooSlow);
        }
        let next = self.changes.pop_front();
        if let Some(change) = &next {
            self.bytes -= weight(change);
        }
        if self.changes.is_empty() && self.changes.capacity() > 64 {
            self.changes = VecDeque::new();
        }
        Ok(next)
    }
}

fn weight(change: &Change) -> usize {
    size_of::<Change>() + change.after.as_ref().or(change.before.as_ref()).map_or(0, |entry| entry.value.len())
}

/// A running watch. Dropping it ends it.
#[derive(Debug)]
pub struct Watch {
    feed: Arc<Feed>,
    published: Arc<AtomicU64>,
    // The revision of the last change returned; at first where the watch began.
    returned: Revision,
}

impl Watch {
    /// The next change of the prefix; waits for it.
    ///
    /// # Errors
    /// `TooSlow` when the buffer overflowed; the watch is over.
    ///
    /// # Cancel safety
    /// Safe: a change is not lost by dropping the future.
    pub async fn next(&mut self) -> Result<Arc<Change>, WatchError> {
        loop {
            if let Some(change) = self.try_next()? {
                return Ok(change);
            }
            // A change that was pushed since has left a permit, so this returns at once.
            self.feed.wake.notified().await;
        }
    }

    /// A change that is already there, without waiting.
    ///
    /// # Errors
    /// `TooSlow` when the buffer overflowed; the watch is over.
    pub fn try_next(&mut self) -> Result<Option<Arc<Change>>, WatchError> {
        let next = self.feed.lock().pop()?;
        if let Some(change) = &next {
            self.returned = change.revision;
        }
        Ok(next)
    }

    /// The revision up to which every change of the prefix has been returned: what a bookmark may say.
    pub fn progress(&self) -> Revision {
        // The order matters: what was published before this line is in the buffer, or was returned.
        let published = Revision(self.published.load(Ordering::Acquire));
        let buffer = self.feed.lock();
        if buffer.overflowed {
            return self.returned;
        }
        match buffer.changes.front() {
            Some(next) => Revision(next.revision.0 - 1),
            None => self.returned.max(published),
        }
    }
}
