//! The recent changes, so that a watch can begin in the past.
//!
//! Bounded by changes and by bytes, of which young changes may have more; what falls out is compacted: a watch from before it is refused.
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
use tokio::time::Instant;

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
    at: Instant,
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

    /// Remembers a change that happens now, and forgets the oldest ones past the limits.
    pub(super) fn push(&mut self, change: &Change, now: Instant) {
        let past = Past::of(change, now);
        self.bytes += past.weight();
        self.past.push_back(past);
        while self.past.front().is_some_and(|oldest| self.is_too_much(oldest, now)) {
            let Some(gone) = self.past.pop_front() else { break };
            self.bytes -= gone.weight();
            self.oldest = gone.revision;
        }
    }

    fn is_too_much(&self, oldest: &Past, now: Instant) -> bool {
        let is_old = now.saturating_duration_since(oldest.at) >= self.limits.history_age;
        let bytes_max = if is_old { self.limits.history_bytes } else { self.limits.history_bytes_max };
        self.past.len() > self.limits.history_changes || self.bytes > bytes_max
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
    fn of(change: &Change, at: Instant) -> Self {
        Self {
            at,
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
            packed: OnceLock::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::NewValue;
    use std::time::Duration;

    /// A change that leaves so many bytes behind.
    fn change(revision: u64, bytes: usize) -> Change {
        let value = NewValue { head: vec![b'x'; bytes], tail: Vec::new() };
        let entry = |at| Arc::new(Entry::assemble("k".into(), value.clone(), Arc::default(), None, Revision(at)));
        Change {
            revision: Revision(revision),
            key: "k".into(),
            before: Some(entry(revision - 1)),
            after: Some(entry(revision)),
        }
    }

    fn limits() -> Limits {
        Limits { history_changes: 1_000, history_bytes: 10_000, history_bytes_max: 200_000, ..Limits::default() }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_younger_than_five_minutes_is_kept_whatever_it_weighs_within_reason() {
        let mut log = Log::new(Revision(0), limits());
        let start = Instant::now();
        for revision in 1..=100 {
            log.push(&change(revision, 1_000), start);
        }
        assert!(log.after("", Revision(0)).is_ok(), "100 KB are young");
        log.push(&change(101, 1_000), start + Duration::from_secs(299));
        assert!(log.after("", Revision(0)).is_ok());
        log.push(&change(102, 1_000), start + Duration::from_secs(300));
        let Err(WatchError::Compacted { oldest }) = log.after("", Revision(0)) else { panic!("it is old and much") };
        assert!((90..100).contains(&oldest.0) && log.bytes <= 10_000, "{oldest}, {} bytes", log.bytes);
        for revision in 103..=600 {
            log.push(&change(revision, 1_000), start + Duration::from_secs(301));
        }
        assert!(log.bytes <= 200_000 && log.bytes > 190_000, "{} bytes", log.bytes);
    }

    #[tokio::test(start_paused = true)]
    async fn what_weighs_little_is_kept_for_ten_thousand_changes() {
        let mut log = Log::new(Revision(0), Limits::default());
        let mut now = Instant::now();
        for revision in 1..=10_000 {
            now += Duration::from_secs(60);
            log.push(&change(revision, 100), now);
        }
        assert!(log.after("", Revision(0)).is_ok());
        log.push(&change(10_001, 100), now);
        assert_eq!(log.after("", Revision(0)).unwrap_err(), WatchError::Compacted { oldest: Revision(1) });
    }
}
