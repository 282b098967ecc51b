//! What memory holds: the current entries, the index of terms, the recent changes and the watchers.
//!
//! Called by `Store` for reads and by `commit` to apply what is durable.
//!
//! **Invariants**
//! - Only changes that the backend has accepted are applied, in revision order, each once.
//! - A change is published in the same critical section that applies it, so whoever is woken by it can read it.

use super::{Change, Entry, Limits, Snapshot, WatchError, hub::Hub, hub::Watch, log::Log};
use crate::api::meta::Revision;
use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
    sync::Arc,
};
use tokio::time::Instant;

/// The store's memory.
#[derive(Debug)]
pub(super) struct State {
    revision: Revision,
    entries: BTreeMap<Arc<str>, Arc<Entry>>,
    // (term, key): most terms name one key, so a set of pairs is smaller than a map of sets.
    terms: BTreeSet<(Arc<str>, Arc<str>)>,
    log: Log,
    hub: Hub,
}

impl State {
    /// What a backend has loaded.
    pub(super) fn new(revision: Revision, entries: Vec<Entry>, limits: Limits) -> Self {
        let mut state = Self {
            revision,
            entries: BTreeMap::new(),
            terms: BTreeSet::new(),
            log: Log::new(revision, limits),
            hub: Hub::new(revision, limits),
        };
        for entry in entries {
            state.index(&entry);
            state.entries.insert(Arc::clone(&entry.key), Arc::new(entry));
        }
        state
    }

    pub(super) fn revision(&self) -> Revision {
        self.revision
    }

    pub(super) fn get(&self, key: &str) -> Option<&Arc<Entry>> {
        self.entries.get(key)
    }

    pub(super) fn range(&self, prefix: &str) -> Snapshot {
        let entries = self
            .entries
            .range::<str, _>((Bound::Included(prefix), Bound::Unbounded))
            .take_while(|(key, _)| key.starts_with(prefix))
            .map(|(_, entry)| Arc::clone(entry))
            .collect();
        Snapshot { revision: self.revision, entries }
    }

    pub(super) fn has_any(&self, prefix: &str) -> bool {
        let first = self.entries.range::<str, _>((Bound::Included(prefix), Bound::Unbounded)).next();
        first.is_some_and(|(key, _)| key.starts_with(prefix))
    }

    pub(super) fn has_term(&self, term: &str) -> bool {
        self.terms.range((Arc::from(term), Arc::from(""))..).next().is_some_and(|(t, _)| &**t == term)
    }

    pub(super) fn by_term(&self, term: &str) -> Vec<Arc<Entry>> {
        self.terms
            .range((Arc::from(term), Arc::from(""))..)
            .take_while(|(t, _)| &**t == term)
            .map(|(_, key)| Arc::clone(self.entries.get(key).expect("a term is indexed while its key exists")))
            .collect()
    }

    pub(super) fn watch(&mut self, prefix: &str, from: Revision) -> Result<Watch, WatchError> {
        let replay = self.log.after(prefix, from)?;
        Ok(self.hub.subscribe(prefix, from, replay))
    }

    /// Makes durable changes visible, and tells the watchers.
    pub(super) fn apply(&mut self, changes: &[Arc<Change>]) {
        // No part of a state: how long a change is remembered, by tokio's clock, which is paused where time is.
        let now = Instant::now();
        for change in changes {
            assert_eq!(change.revision.0, self.revision.0 + 1, "revisions have no gaps");
            self.revision = change.revision;
            self.replace(change);
            self.log.push(change, now);
        }
        self.hub.publish(changes);
    }

    fn replace(&mut self, change: &Change) {
        match (&change.before, &change.after) {
            (Some(before), Some(after)) if Arc::ptr_eq(&before.attrs, &after.attrs) => {}
            (before, after) => {
                if let Some(entry) = before {
                    self.unindex(entry);
                }
                if let Some(entry) = after {
                    self.index(entry);
                }
            }
        }
        match &change.after {
            Some(after) => self.entries.insert(Arc::clone(&change.key), Arc::clone(after)),
            None => self.entries.remove(&change.key),
        };
    }

    fn index(&mut self, entry: &Entry) {
        for term in &entry.attrs.terms {
            self.terms.insert((Arc::from(term.as_str()), Arc::clone(&entry.key)));
        }
    }

    fn unindex(&mut self, entry: &Entry) {
        for term in &entry.attrs.terms {
            self.terms.remove(&(Arc::from(term.as_str()), Arc::clone(&entry.key)));
        }
    }
}
