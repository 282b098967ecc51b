//! The one pipeline for every kind and verb: default → admit → prepare → validate → write.
//!
//! Called by the typed client and by the server; may call `api`, `store`, `admission`, `alloc`.
//! **Not here**: JSON from clients and its field checks, patches and media types (`server`), kinds' own rules (`api/kinds`).
//! **Source**: `k8s.io/apiserver/pkg/registry/generic/registry/store.go`, v1.37.

use crate::{
    api::{
        kind::{ErasedKind, Kind},
        meta::ObjectKey,
        object::DynObject,
        selector::{FieldSelector, LabelSelector},
        status::ApiError,
    },
    base::{clock::Clock, rng::Rng},
    store::{Entry, Snapshot, Store, WatchError, hub::Watch},
};
use std::{net::Ipv4Addr, sync::Arc};

/// What the registry must know of the cluster.
#[derive(Clone, Debug)]
pub struct Config {
    /// The first address and prefix length of the Services' range.
    pub service_cidr: (Ipv4Addr, u8),
    /// The cluster DNS address: never given to another Service.
    pub dns_ip: Ipv4Addr,
    /// The first and last node port.
    pub node_ports: (u16, u16),
}

/// The API as functions. Clones share one registry.
#[derive(Clone)]
pub struct Registry(Arc<Inner>);

struct Inner {
    store: Store,
    clock: Clock,
    rng: Rng,
    config: Config,
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registry").field("config", &self.0.config).finish_non_exhaustive()
    }
}

/// Which part of an object a write may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// All but the status.
    Main,
    /// The status alone.
    Status,
}

/// Options of a create or update.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WriteOptions {
    /// Does all but write.
    pub dry_run: bool,
}

/// What becomes of the objects that a deleted one owns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Propagation {
    /// They go after it.
    #[default]
    Background,
    /// They go before it.
    Foreground,
    /// They stay, without an owner.
    Orphan,
}

/// Options of a delete.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeleteOptions {
    /// Seconds until the object may be gone; `None`: the kind's default.
    pub grace_period_secs: Option<i64>,
    /// What becomes of what it owns; `None`: background.
    pub propagation: Option<Propagation>,
    /// The UID that the object must have.
    pub uid: Option<String>,
    /// The `resourceVersion` that the object must have.
    pub resource_version: Option<String>,
    /// Does all but write.
    pub dry_run: bool,
}

/// Which objects a read wants.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// By label.
    pub labels: LabelSelector,
    /// By field.
    pub fields: FieldSelector,
}

/// What a delete did.
#[derive(Clone, Debug)]
pub enum Deleted {
    /// The object is gone; its last state.
    Gone(Arc<Entry>),
    /// The object is marked and goes later; its new state.
    Marked(Arc<Entry>),
}

/// The typed object that an entry of kind `K` holds, decoded once and shared.
pub fn decoded<K: Kind>(entry: &Entry) -> Arc<K::Object> {
    let any = entry.decoded.get_or_init(|| {
        Arc::new(serde_json::from_slice::<K::Object>(&entry.value).expect("stored objects decode as their kind"))
    });
    Arc::clone(any).downcast().expect("an entry's key names its kind")
}

impl Registry {
    /// A registry over this store.
    pub fn new(store: Store, clock: Clock, rng: Rng, config: Config) -> Self {
        Self(Arc::new(Inner { store, clock, rng, config }))
    }

    /// The store below.
    pub fn store(&self) -> &Store {
        &self.0.store
    }

    /// The clock that stamps objects.
    pub fn clock(&self) -> &Clock {
        &self.0.clock
    }

    /// The source of UIDs and names.
    pub fn rng(&self) -> &Rng {
        &self.0.rng
    }

    /// What it knows of the cluster.
    pub fn config(&self) -> &Config {
        &self.0.config
    }

    /// The typed client for a kind.
    pub fn api<K: Kind>(&self) -> super::client::Api<K> {
        super::client::Api::new(self.clone())
    }

    /// An object's entry.
    pub fn entry(&self, kind: &'static dyn ErasedKind, key: &ObjectKey) -> Option<Arc<Entry>> {
        let _ = (kind, key);
        todo!()
    }

    /// The entries that a selection picks, of a namespace or (when it is empty) of all.
    pub fn snapshot(&self, kind: &'static dyn ErasedKind, namespace: &str, selection: &Selection) -> Snapshot {
        let _ = (kind, namespace, selection);
        todo!()
    }

    /// The entries of a kind that the object of this UID owns.
    pub fn owned_entries(&self, kind: &'static dyn ErasedKind, owner_uid: &str) -> Vec<Arc<Entry>> {
        let _ = (kind, owner_uid);
        todo!()
    }

    /// Changes of a kind after a revision.
    pub fn watch_kind(
        &self,
        kind: &'static dyn ErasedKind,
        from: crate::api::meta::Revision,
    ) -> Result<Watch, WatchError> {
        let _ = (kind, from);
        todo!()
    }

    /// Creates an object. With `dry_run` the entry returned is not in the store.
    pub async fn create(
        &self,
        kind: &'static dyn ErasedKind,
        namespace: &str,
        obj: Box<dyn DynObject>,
        options: &WriteOptions,
    ) -> Result<Arc<Entry>, ApiError> {
        let _ = (kind, namespace, obj, options);
        todo!()
    }

    /// Changes an object: `change` makes the new object from the current entry, and runs again when another write came between,
    /// unless the new object names the `resourceVersion` it is based on. An update that changes nothing writes nothing.
    pub async fn update(
        &self,
        kind: &'static dyn ErasedKind,
        key: &ObjectKey,
        part: Part,
        change: &mut (dyn FnMut(&Entry) -> Result<Box<dyn DynObject>, ApiError> + Send),
        options: &WriteOptions,
    ) -> Result<Arc<Entry>, ApiError> {
        let _ = (kind, key, part, change, options);
        todo!()
    }

    /// Deletes an object, or marks it for deletion when it has finalizers or a grace period.
    pub async fn delete(
        &self,
        kind: &'static dyn ErasedKind,
        key: &ObjectKey,
        options: &DeleteOptions,
    ) -> Result<Deleted, ApiError> {
        let _ = (kind, key, options);
        todo!()
    }
}
