//! What a collection was at an earlier revision: today's state with the changes since then undone.
//!
//! Called by `read` for exact lists and for the pages of a list. It works as far back as the store's history reaches.

use crate::{
    api::{kind::ErasedKind, meta::Revision},
    base::ordered::CollectOrdered as _,
    registry::{Registry, pipeline::Selection},
    store::{Entry, Snapshot},
};
use std::{collections::BTreeMap, sync::Arc};

/// The entries that a selection picks at a revision; `None` when the changes since then are no longer known.
pub(super) fn snapshot_at(
    registry: &Registry,
    kind: &dyn ErasedKind,
    namespace: &str,
    selection: &Selection,
    revision: Revision,
) -> Option<Snapshot> {
    let now = registry.snapshot(kind, namespace, &Selection::default());
    let mut watch = registry.watch(kind, namespace, revision).ok()?;
    let mut since = Vec::new();
    loop {
        match watch.try_next() {
            Ok(Some(change)) if change.revision <= now.revision => since.push(change),
            Ok(_) => break,
            Err(_lost) => return None,
        }
    }
    let mut entries: BTreeMap<Arc<str>, Arc<Entry>> =
        now.entries.into_iter().map(|e| (Arc::clone(&e.key), e)).collect_ordered();
    for change in since.into_iter().rev() {
        match &change.before {
            Some(before) => entries.insert(Arc::clone(&change.key), Arc::clone(before)),
            None => entries.remove(&change.key),
        };
    }
    let entries = entries.into_values().filter(|e| selection.matches(e)).collect();
    Some(Snapshot { revision, entries })
}
