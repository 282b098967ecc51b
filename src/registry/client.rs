//! The typed in-process client: `Api<K>`, with the method names of the `kube` crate. No sockets, no JSON.
//!
//! Reads are exact (the store's memory) and share one decoded object per state. Writes run the whole pipeline.

use super::{
    options::{DeleteOptions, Part, Selection, WriteOptions},
    pipeline::{Registry, decoded},
};
use crate::{
    api::{
        kind::{ErasedKind, TypedKind},
        meta::{ObjectKey, Revision},
        object::Object as _,
        status::ApiError,
    },
    store::{Entry, WatchError, hub::Watch},
};
use std::{marker::PhantomData, sync::Arc};

/// Reads and writes objects of one kind.
#[derive(Debug)]
pub struct Api<K> {
    registry: Registry,
    kind: PhantomData<fn() -> K>,
}

impl<K> Clone for Api<K> {
    fn clone(&self) -> Self {
        Self { registry: self.registry.clone(), kind: PhantomData }
    }
}

/// Objects at one revision.
#[derive(Clone, Debug)]
pub struct List<T> {
    /// The revision that the list shows.
    pub revision: Revision,
    /// The objects, in key order.
    pub items: Vec<Arc<T>>,
}

impl<K: TypedKind> Api<K> {
    /// A client over this registry.
    pub fn new(registry: Registry) -> Self {
        Self { registry, kind: PhantomData }
    }

    fn erased() -> &'static dyn ErasedKind {
        K::erased()
    }

    fn typed(entry: &Entry) -> Arc<K::Object> {
        decoded::<K>(entry)
    }

    /// The object, or `None`.
    pub fn get(&self, key: &ObjectKey) -> Option<Arc<K::Object>> {
        self.registry.entry(Self::erased(), key).map(|e| Self::typed(&e))
    }

    /// Every object of a namespace; of all namespaces when it is empty.
    pub fn list(&self, namespace: &str) -> List<K::Object> {
        self.select(namespace, &Selection::default())
    }

    /// The objects that a selection picks, of a namespace or (when it is empty) of all.
    pub fn select(&self, namespace: &str, selection: &Selection) -> List<K::Object> {
        let snapshot = self.registry.snapshot(Self::erased(), namespace, selection);
        List { revision: snapshot.revision, items: snapshot.entries.iter().map(|e| Self::typed(e)).collect() }
    }

    /// The objects that the object of this UID owns (by any owner reference).
    pub fn owned_by(&self, owner_uid: &str) -> Vec<Arc<K::Object>> {
        self.registry.owned_entries(Self::erased(), owner_uid).iter().map(|e| Self::typed(e)).collect()
    }

    /// Changes after `from`. Items are store changes; [`Api::object`] reads them.
    pub fn watch(&self, from: Revision) -> Result<Watch, WatchError> {
        self.registry.watch_kind(Self::erased(), from)
    }

    /// The object that an entry holds.
    pub fn object(&self, entry: &Entry) -> Arc<K::Object> {
        Self::typed(entry)
    }

    /// Creates an object and returns it as stored.
    pub async fn create(&self, obj: K::Object) -> Result<Arc<K::Object>, ApiError> {
        let namespace = obj.meta().namespace.clone().unwrap_or_default();
        let written = self.registry.create(Self::erased(), &namespace, K::pack(obj), &WriteOptions::default()).await?;
        Ok(Self::typed(&written))
    }

    /// Replaces an object (not its status). Its `resourceVersion`, when given, must be current.
    pub async fn replace(&self, obj: K::Object) -> Result<Arc<K::Object>, ApiError> {
        let key = ObjectKey::of(obj.meta());
        let mut change = |_: &Entry| Ok(K::pack(obj.clone()));
        let written = self
            .registry
            .update(Self::erased(), &key, Part::Main, &mut change, &WriteOptions::of_the_cluster())
            .await?;
        Ok(Self::typed(&written))
    }

    /// Changes the current object, whatever it is by now; `change` may run more than once. Returns the object as stored;
    /// nothing is written when `change` changes nothing.
    pub async fn modify(
        &self,
        key: &ObjectKey,
        change: impl Fn(&mut K::Object) + Send + Sync,
    ) -> Result<Arc<K::Object>, ApiError> {
        self.modify_part(key, Part::Main, change).await
    }

    /// Like [`Api::modify`], for the status.
    pub async fn modify_status(
        &self,
        key: &ObjectKey,
        change: impl Fn(&mut K::Object) + Send + Sync,
    ) -> Result<Arc<K::Object>, ApiError> {
        self.modify_part(key, Part::Status, change).await
    }

    async fn modify_part(
        &self,
        key: &ObjectKey,
        part: Part,
        change: impl Fn(&mut K::Object) + Send + Sync,
    ) -> Result<Arc<K::Object>, ApiError> {
        let mut apply = |entry: &Entry| {
            let mut obj = K::Object::clone(&Self::typed(entry));
            change(&mut obj);
            Ok(K::pack(obj))
        };
        let written =
            self.registry.update(Self::erased(), key, part, &mut apply, &WriteOptions::of_the_cluster()).await?;
        Ok(Self::typed(&written))
    }

    /// Deletes an object, or marks it for deletion when it has finalizers or a grace period.
    pub async fn delete(&self, key: &ObjectKey, options: &DeleteOptions) -> Result<(), ApiError> {
        self.registry.delete(Self::erased(), key, options).await.map(drop)
    }

    /// The registry that this client writes through.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }
}
