//! The metadata of an entry of any kind, read from its bytes without decoding the rest.

use crate::{api::meta::ObjectKey, store::Entry};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use serde::Deserialize;

#[derive(Deserialize)]
struct OnlyMeta {
    metadata: ObjectMeta,
}

/// What of an object holds it in place: who it is, who owns it, and what it waits for when it goes.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Held {
    pub(super) key: ObjectKey,
    pub(super) uid: String,
    pub(super) resource_version: Option<String>,
    pub(super) is_marked: bool,
    pub(super) finalizers: Vec<String>,
    pub(super) owners: Vec<OwnerReference>,
}

/// Reads what holds an entry's object.
pub(super) fn held(entry: &Entry) -> Held {
    let OnlyMeta { metadata: meta } = serde_json::from_slice(&entry.value).expect("stored objects have metadata");
    Held {
        key: ObjectKey::of(&meta),
        uid: meta.uid.unwrap_or_default(),
        resource_version: meta.resource_version,
        is_marked: meta.deletion_timestamp.is_some(),
        finalizers: meta.finalizers.unwrap_or_default(),
        owners: meta.owner_references.unwrap_or_default(),
    }
}
