//! The recent changes, so that a watch can begin in the past.
//!
//! Bounded by changes and by bytes; what falls out is compacted: a watch from before it is refused.
//! A remembered state shares its bytes with the entry it came from, but not the decoded form: decoded objects are much larger, and
//! a replay is rare.

use super::{Attrs, Change, Entry, Limits, WatchError};
use crate::api::meta::Revision;
use bytes::Bytes;
use std::{
    collections::VecDeque,
    mem::size_of,
    ops::Range,
    sync::{Arc, OnceLock},
};

/// A window over the latest changes.
#[derive(Debug)]
pub(super) struct Log {
    past: VecDeque<Past>,
    bytes: usize,
    // The revision before the first change in `past`: the oldest that a watch can start from.
    oldest: Revision,
    limits: Limits,
}

#[derive(Debug)]
struct Past {
    revision: Revision,
    key: Arc<str>,
    before: Option<PastEntry>,
    after: Option<PastEntry>,
}

#[derive(Debug)]
struct PastEntry {
    value: Bytes,
    revision_at: Range<usize>,
    attrs: Arc<Attrs>,
    created: Revision,
    modified: Revision,
}

impl Log {
    /// A log that begins after `revision`.
    pub(super) fn new(revision: Revision, limits: Limits) -> Self {
        Self { past: VecDeque::new(), bytes: 0, oldest: revision, limits }
    }

    /// Remembers a change, and forgets the oldest ones past the limits.
    pub(super) fn push(&mut self, change: &Change) {
        let past = Past::of(change);
        self.bytes += past.weight();
        self.past.push_back(past);
        while self.past.len() > self.limits.history_changes || self.bytes > self.limits.history_bytes {
            let Some(gone) = self.past.pop_front() else { break };
            self.bytes -= gone.weight();
            self.oldest = gone.revision;
        }
    }

    /// The changes of a prefix after `from`, in order.
    pub(super) fn after(&self, prefix: &str, from: Revision) -> Result<Vec<Arc<Change>>, WatchError> {
        if from < self.oldest {
            return Err(WatchError::Compacted { oldest: self.oldest });
        }
        let start = self.past.partition_point(|past| past.revision <= from);
        Ok(self.past.range(start..).filter(|past| past.key.starts_with(prefix)).map(Past::change).collect())
    }
}

impl Past {
    fn of(change: &Change) -> Self {
        Self {
            revision: change.revision,
            key: Arc::clone(&change.key),
            before: change.before.as_deref().map(PastEntry::of),
            after: change.after.as_deref().map(PastEntry::of),
        }
    }

    fn change(&self) -> Arc<Change> {
        let entry = |past: &PastEntry| Arc::new(past.entry(&self.key));
        Arc::new(Change {
            revision: self.revision,
            key: Arc::clone(&self.key),
            before: self.before.as_ref().map(entry),
            after: self.after.as_ref().map(entry),
        })
    }

    // What only the log keeps alive: the state after is current, or a later change's state before.
    fn weight(&self) -> usize {
        size_of::<Self>() + self.before.as_ref().map_or(0, |before| before.value.len())
    }
}

impl PastEntry {
    fn of(entry: &Entry) -> Self {
        Self {
            value: entry.value.clone(),
            revision_at: entry.revision_at.clone(),
            attrs: Arc::clone(&entry.attrs),
            created: entry.created,
            modified: entry.modified,
        }
    }

    fn entry(&self, key: &Arc<str>) -> Entry {
        Entry {
            key: Arc::clone(key),
            value: self.value.clone(),
            revision_at: self.revision_at.clone(),
            attrs: Arc::clone(&self.attrs),
            created: self.created,
            modified: self.modified,
            decoded: OnceLock::new(),
        }
    }
}
