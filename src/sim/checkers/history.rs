//! The watch of the whole store is ordered, free of gaps, and goes on where the last store ended.

use crate::{
    api::meta::Revision,
    store::{Change, Store, hub::Watch},
};
use std::sync::Arc;

#[derive(Default)]
pub(super) struct History {
    watch: Option<Watch>,
    last: Revision,
    arrived: Option<Arc<Change>>,
}

impl History {
    pub(super) fn follow(&mut self, store: &Store) {
        // What the store that was killed committed last may not have been seen; the new one starts from what is on disk.
        assert!(store.revision() >= self.last, "revisions went back from {} to {}", self.last, store.revision());
        self.last = store.revision();
        self.arrived = None;
        self.watch = Some(store.watch("", self.last).expect("a new store is watched from its revision"));
    }

    /// Waits until [`History::next`] has something to give.
    pub(super) async fn arrival(&mut self) {
        if self.arrived.is_none() {
            let watch = self.watch.as_mut().expect("a store is followed");
            self.arrived = Some(watch.next().await.expect("the checker keeps up"));
        }
    }

    pub(super) fn next(&mut self) -> Option<Arc<Change>> {
        let watch = self.watch.as_mut()?;
        let change = match self.arrived.take() {
            Some(change) => change,
            None => watch.try_next().expect("the checker keeps up")?,
        };
        assert_eq!(change.revision.0, self.last.0 + 1, "a gap in the history at {}", change.key);
        self.last = change.revision;
        Some(change)
    }
}
