//! Objects to bytes: JSON with the place of the revision marked, and what is indexed beside it.

use super::keys;
use crate::{
    api::{kind::ErasedKind, object::DynObject},
    base::rng::Rng,
    store::{Attrs, Entry, NewValue},
};
use std::sync::{Arc, OnceLock};

/// Encodes objects. The store writes the revision into the bytes at the commit, so an object is written with a mark in its
/// `resourceVersion`; the mark is random, so that no user's text can be taken for it.
pub(super) struct Encoder {
    mark: String,
    /// `"resourceVersion":"<mark>"`.
    field: String,
}

impl Encoder {
    /// An encoder with a mark of its own.
    pub(super) fn new(rng: &Rng) -> Self {
        let mark = format!("revision-{}", rng.uid());
        let field = format!("\"resourceVersion\":\"{mark}\"");
        Self { mark, field }
    }

    /// The bytes and the index of an object. It is marked for that, and is as it was when this returns.
    pub(super) fn encode(&self, kind: &dyn ErasedKind, obj: &mut dyn DynObject) -> (NewValue, Attrs) {
        let meta = obj.meta_mut();
        let revision = meta.resource_version.replace(self.mark.clone());
        let mut head = kind.stored_bytes(obj);
        obj.meta_mut().resource_version = revision;
        let field_at = memchr::memmem::find(&head, self.field.as_bytes()).expect("metadata has a resourceVersion");
        let mark_at = field_at + self.field.len() - 1 - self.mark.len();
        let tail = head.split_off(mark_at + self.mark.len());
        head.truncate(mark_at);
        (NewValue { head, tail }, attrs(kind, obj))
    }

    /// Whether the bytes say what an entry says already.
    pub(super) fn same(value: &NewValue, entry: &Entry) -> bool {
        let at = &entry.revision_at;
        entry.value[..at.start] == value.head[..] && entry.value[at.end..] == value.tail[..]
    }

    /// An entry that is not in the store: the answer to a dry run.
    pub(super) fn detached(kind: &dyn ErasedKind, obj: &dyn DynObject, key: &str) -> Arc<Entry> {
        Arc::new(Entry {
            key: key.into(),
            value: kind.stored_bytes(obj).into(),
            revision_at: 0..0,
            attrs: Arc::new(attrs(kind, obj)),
            created: Default::default(),
            modified: Default::default(),
            decoded: OnceLock::new(),
            packed: OnceLock::new(),
        })
    }
}

fn attrs(kind: &dyn ErasedKind, obj: &dyn DynObject) -> Attrs {
    let meta = obj.meta();
    let mut fields = kind.selectable_fields(obj);
    fields.insert("metadata.name", meta.name.clone().unwrap_or_default());
    if let Some(namespace) = &meta.namespace {
        fields.insert("metadata.namespace", namespace.clone());
    }
    Attrs {
        labels: meta.labels.iter().flatten().collect(),
        fields: fields.iter().filter(|(_, value)| !value.is_empty()).collect(),
        terms: keys::terms(meta),
    }
}
