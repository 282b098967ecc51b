//! The table of kinds, grouped by API group: one line per kind. Everything that lists kinds walks it.
//!
//! To add a kind: 1. its file in `kinds/` (facts and hooks); 2. its `mod` line here; 3. its line in [`KINDS`];
//! 4. a manifest and its golden in the file's tests; 5. its line in `schemas/main.rs`, and in `schema/facts.rs` the merge keys of its lists;
//! then `cargo schemas`.

mod check;
pub mod config_map;
pub mod custom_resource_definition;
pub mod deployment;
pub mod endpoint_slice;
pub mod endpoints;
pub mod event;
pub mod event_v1;
pub mod lease;
pub mod namespace;
pub mod node;
pub mod pod;
mod pod_spec;
mod pod_template;
pub(crate) mod priority;
pub mod replica_set;
pub mod replication_controller;
pub mod reviews;
pub mod secret;
pub mod service;
pub mod service_account;
#[cfg(test)]
mod testing;

use super::kind::{Erased, ErasedKind};
use std::borrow::Cow;

/// Every kind that the API serves.
pub static KINDS: &[&dyn ErasedKind] = &[
    &Erased::<config_map::ConfigMaps>::NEW,
    &Erased::<endpoints::EndpointsKind>::NEW,
    &Erased::<event::Events>::NEW,
    &Erased::<namespace::Namespaces>::NEW,
    &Erased::<node::Nodes>::NEW,
    &Erased::<pod::Pods>::NEW,
    &Erased::<replication_controller::ReplicationControllers>::NEW,
    &Erased::<secret::Secrets>::NEW,
    &Erased::<service_account::ServiceAccounts>::NEW,
    &Erased::<service::Services>::NEW,
    &Erased::<deployment::Deployments>::NEW,
    &Erased::<replica_set::ReplicaSets>::NEW,
    &Erased::<lease::Leases>::NEW,
    &Erased::<endpoint_slice::EndpointSlices>::NEW,
    &Erased::<event_v1::EventsV1>::NEW,
    &Erased::<reviews::SelfSubjectReviews>::NEW,
    &Erased::<reviews::SelfSubjectAccessReviews>::NEW,
    &Erased::<reviews::SelfSubjectRulesReviews>::NEW,
    &Erased::<custom_resource_definition::CustomResourceDefinitions>::NEW,
];

/// The kind with this group and plural, if it is served.
pub fn by_plural(group: &str, plural: &str) -> Option<&'static dyn ErasedKind> {
    KINDS.iter().copied().find(|k| k.info().group == group && k.info().plural == plural)
}

/// The kind with this group, version and kind name, if it is served.
pub fn by_kind(group: &str, version: &str, kind: &str) -> Option<&'static dyn ErasedKind> {
    KINDS.iter().copied().find(|k| {
        let info = k.info();
        info.group == group && info.version == version && info.kind == kind
    })
}

/// A part of an object, or its default when the object has none.
#[allow(clippy::ref_option, reason = "callers hold the field")]
fn part<T: Clone + Default>(field: &Option<T>) -> Cow<'_, T> {
    field.as_ref().map_or_else(|| Cow::Owned(T::default()), Cow::Borrowed)
}

/// A text of an object; empty when the object has none.
#[allow(clippy::ref_option, reason = "callers hold the field")]
fn text(field: &Option<String>) -> String {
    field.clone().unwrap_or_default()
}

#[cfg(test)]
mod tests;
