//! A disk for the simulator: what was committed outlives the store that committed it, and it can be full.

use crate::{
    api::meta::Revision,
    store::{Backend, Change, Entry},
};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

/// The disk; clones are the same disk.
#[derive(Clone, Debug, Default)]
pub(super) struct SimDisk(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    revision: Revision,
    entries: BTreeMap<Arc<str>, Arc<Entry>>,
    full: bool,
}

impl SimDisk {
    /// Makes the disk full, or not.
    pub(super) fn set_full(&self, full: bool) {
        self.0.lock().unwrap().full = full;
    }
}

impl Backend for SimDisk {
    fn load(&mut self) -> Result<(Revision, Vec<Entry>), String> {
        let state = self.0.lock().unwrap();
        let copy = |e: &Arc<Entry>| Entry {
            key: Arc::clone(&e.key),
            value: e.value.clone(),
            revision_at: e.revision_at.clone(),
            attrs: e.attrs.clone(),
            created: e.created,
            modified: e.modified,
            decoded: Default::default(),
            packed: Default::default(),
        };
        Ok((state.revision, state.entries.values().map(copy).collect()))
    }

    fn commit(&mut self, changes: &[Arc<Change>]) -> Result<(), String> {
        let mut state = self.0.lock().unwrap();
        if state.full {
            return Err("the disk is full".to_owned());
        }
        for change in changes {
            match &change.after {
                Some(entry) => state.entries.insert(Arc::clone(&change.key), Arc::clone(entry)),
                None => state.entries.remove(&change.key),
            };
            state.revision = change.revision;
        }
        Ok(())
    }

    fn probe(&mut self) -> Result<(), String> {
        if self.0.lock().unwrap().full { Err("the disk is full".to_owned()) } else { Ok(()) }
    }
}
