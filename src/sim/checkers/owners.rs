//! No object outlives its owner.

use crate::{
    api::{kinds::KINDS, object::DynObject},
    registry::{Registry, pipeline::Selection},
};
use std::collections::BTreeSet;

/// Every controller that an object names exists.
pub(super) fn all_exist(registry: &Registry) {
    let mut objects: Vec<Box<dyn DynObject>> = Vec::new();
    for kind in KINDS.iter().filter(|k| k.info().stored_as.is_none()) {
        let entries = registry.snapshot(*kind, "", &Selection::default()).entries;
        objects.extend(entries.iter().map(|e| kind.decode_bytes(&e.value).unwrap()));
    }
    let uids: BTreeSet<String> = objects.iter().filter_map(|o| o.meta().uid.clone()).collect();
    for object in &objects {
        for owner in object.meta().owner_references.iter().flatten() {
            assert!(uids.contains(&owner.uid), "{:?} outlives its owner {}", object.meta().name, owner.name);
        }
    }
}
