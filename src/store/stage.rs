//! What transactions would do: checked against the state and against those before them in the batch, turned into changes.
//!
//! Called by `commit`. Pure: neither state nor disk is touched, so a batch that the disk refuses leaves no trace.

use super::{Change, Committed, Entry, Expect, Txn, TxnError, Write, state::State};
use crate::{api::meta::Revision, base::ordered::Map};
use std::sync::Arc;

/// A batch in the making.
pub(super) struct Stage<'a> {
    base: &'a State,
    // What the batch has made of the keys that it touched; `None`: deleted.
    touched: Map<Arc<str>, Option<Arc<Entry>>>,
    changes: Vec<Arc<Change>>,
}

impl<'a> Stage<'a> {
    /// An empty batch on top of the state.
    pub(super) fn on(base: &'a State) -> Self {
        Self { base, touched: Map::new(), changes: Vec::new() }
    }

    /// All changes, in revision order.
    pub(super) fn into_changes(self) -> Vec<Arc<Change>> {
        self.changes
    }

    /// Adds a transaction, or leaves the batch as it was.
    pub(super) fn add(&mut self, txn: Txn) -> Result<Committed, TxnError> {
        for expect in &txn.expect {
            self.check(expect)?;
        }
        let mark = self.changes.len();
        for write in txn.writes {
            if let Err(err) = self.write(write) {
                self.undo(mark);
                return Err(err);
            }
        }
        Ok(Committed { revision: self.revision(), changes: self.changes[mark..].to_vec() })
    }

    fn revision(&self) -> Revision {
        Revision(self.base.revision().0 + self.changes.len() as u64)
    }

    fn now(&self, key: &str) -> Option<&Arc<Entry>> {
        match self.touched.get(key) {
            Some(touched) => touched.as_ref(),
            None => self.base.get(key),
        }
    }

    fn check(&self, expect: &Expect) -> Result<(), TxnError> {
        let (key, holds) = match expect {
            Expect::Absent(key) => (key, self.now(key).is_none()),
            Expect::Unchanged(key, revision) => (key, self.now(key).is_some_and(|e| e.modified == *revision)),
        };
        if holds { Ok(()) } else { Err(TxnError::Unexpected { key: key.clone(), found: self.now(key).cloned() }) }
    }

    fn write(&mut self, write: Write) -> Result<(), TxnError> {
        let revision = Revision(self.revision().0 + 1);
        let change = match write {
            Write::Delete { key } => {
                let Some(before) = self.now(&key).cloned() else {
                    return Err(TxnError::Unexpected { key, found: None });
                };
                Change { revision, key: Arc::clone(&before.key), before: Some(before), after: None }
            }
            Write::Put { key, value, attrs } => {
                let before = self.now(&key).cloned();
                // Names and indexed facts seldom change: the old copies serve on.
                let key = before.as_ref().map_or_else(|| key.into(), |b| Arc::clone(&b.key));
                let attrs = match &before {
                    Some(b) if *b.attrs == attrs => Arc::clone(&b.attrs),
                    _ => Arc::new(attrs),
                };
                let created = before.as_ref().map(|b| b.created);
                let after = Entry::assemble(Arc::clone(&key), value, attrs, created, revision);
                Change { revision, key, before, after: Some(Arc::new(after)) }
            }
        };
        self.touched.insert(Arc::clone(&change.key), change.after.clone());
        self.changes.push(Arc::new(change));
        Ok(())
    }

    fn undo(&mut self, mark: usize) {
        for change in self.changes.drain(mark..).rev() {
            self.touched.insert(Arc::clone(&change.key), change.before.clone());
        }
    }
}
