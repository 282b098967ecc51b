//! Which changes wake which keys.
//!
//! A mapping is a function of the change (the object before and after it) and may look others up in the registry.
//! It only says *that* a key should be looked at, never why.

use crate::{
    api::{
        kind::{KindRef, TypedKind},
        meta::{ObjectKey, controller_of},
        object::Object as _,
    },
    controllers::runtime::decision::erased,
    registry::{Registry, pipeline::decoded},
    store::Entry,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use std::sync::Arc;

/// An object before and after a change. A listed object has only an after.
#[derive(Clone, Debug)]
pub struct Moved<T> {
    /// Before; `None`: it was created, or listed.
    pub before: Option<Arc<T>>,
    /// After; `None`: it was deleted.
    pub after: Option<Arc<T>>,
}

impl<T> Moved<T> {
    /// The states there are.
    pub fn states(&self) -> impl Iterator<Item = &Arc<T>> {
        self.before.iter().chain(&self.after)
    }

    /// The last known state.
    pub fn last(&self) -> Option<&Arc<T>> {
        self.after.as_ref().or(self.before.as_ref())
    }
}

type Map<K> = Box<dyn Fn(&Registry, Option<&Entry>, Option<&Entry>, &mut Vec<K>) + Send + Sync>;

/// A kind whose changes wake keys.
pub struct Trigger<K> {
    /// The kind.
    pub kind: KindRef,
    map: Map<K>,
}

impl<K: 'static> Trigger<K> {
    /// Changes of this kind wake the keys that `map` adds.
    pub fn on<Of: TypedKind>(map: impl Fn(&Registry, &Moved<Of::Object>, &mut Vec<K>) + Send + Sync + 'static) -> Self {
        Self {
            kind: erased::<Of>(),
            map: Box::new(move |registry, before, after, keys| {
                let moved = Moved { before: before.map(decoded::<Of>), after: after.map(decoded::<Of>) };
                map(registry, &moved, keys);
            }),
        }
    }

    /// Changes of a kind that is known by its table row only wake the keys that `map` adds.
    pub fn on_erased(
        kind: KindRef,
        map: impl Fn(&Registry, Option<&Entry>, Option<&Entry>, &mut Vec<K>) + Send + Sync + 'static,
    ) -> Self {
        Self { kind, map: Box::new(map) }
    }

    /// The same for a controller whose keys are made of these.
    #[must_use]
    pub fn mapped<L: 'static>(self, into: fn(K) -> L) -> Trigger<L> {
        let Self { kind, map } = self;
        Trigger {
            kind,
            map: Box::new(move |registry, before, after, keys| {
                let mut inner = Vec::new();
                map(registry, before, after, &mut inner);
                keys.extend(inner.into_iter().map(into));
            }),
        }
    }

    /// The keys that a change wakes.
    pub fn keys(&self, registry: &Registry, before: Option<&Entry>, after: Option<&Entry>) -> Vec<K> {
        let mut keys = Vec::new();
        (self.map)(registry, before, after, &mut keys);
        keys
    }
}

impl Trigger<ObjectKey> {
    /// Every change of an object of this kind wakes the object's own key.
    pub fn itself<Of: TypedKind>() -> Self {
        Self::on::<Of>(|_, moved, keys| keys.extend(moved.last().map(|o| ObjectKey::of(o.meta()))))
    }

    /// Every change of an object of this kind wakes its controller, when that is of kind `Owner`.
    pub fn controller<Of: TypedKind, Owner: TypedKind>() -> Self {
        Self::on::<Of>(|_, moved, keys| keys.extend(moved.states().filter_map(|o| controller_key::<Owner>(o.meta()))))
    }
}

/// The key of the object's controller, when that is of kind `Owner`.
pub fn controller_key<Owner: TypedKind>(meta: &ObjectMeta) -> Option<ObjectKey> {
    let owner = controller_of(meta)?;
    let group = owner.api_version.split_once('/').map_or("", |(group, _)| group);
    let info = Owner::erased().info();
    if owner.kind != info.kind || group != info.group {
        return None;
    }
    Some(ObjectKey::new(meta.namespace.clone().unwrap_or_default(), owner.name.clone()))
}
