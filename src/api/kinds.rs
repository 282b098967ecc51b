//! The table of kinds, grouped by API group: one line per kind. Everything that lists kinds walks it.
//!
//! To add a kind: 1. its file in `kinds/` (facts and hooks); 2. its `mod` line here; 3. its line in [`KINDS`];
//! 4. a manifest and its golden in the file's tests; 5. its merge keys in `schema.rs`, if it has lists that Kubernetes merges.

pub mod config_map;
pub mod pod;

use super::kind::{Erased, ErasedKind};

/// Every kind that the API serves.
pub static KINDS: &[&dyn ErasedKind] = &[
    &Erased::<config_map::ConfigMaps>::NEW,
    &Erased::<pod::Pods>::NEW,
];

/// The kind with this group and plural, if it is served.
pub fn by_plural(group: &str, plural: &str) -> Option<&'static dyn ErasedKind> {
    KINDS.iter().copied().find(|k| k.info().group == group && k.info().plural == plural)
}
