//! What a call of the registry is told, and what a delete answers: plain values. Called by every part of the registry, so it calls none.

use crate::{
    api::{
        managed::Writer,
        meta::Revision,
        node_port_range::NodePortRange,
        selector::{FieldSelector, LabelSelector},
        service_range::ServiceRange,
    },
    store::Entry,
};
use std::{
    net::Ipv4Addr,
    sync::{Arc, Mutex},
};

/// What the registry must know of the cluster.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where ClusterIPs are from.
    pub services: ServiceRange,
    /// The cluster DNS address: never given to another Service.
    pub dns_ip: Ipv4Addr,
    /// Where node ports are from.
    pub node_ports: NodePortRange,
}

/// Which part of an object a write may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// All but the status.
    Main,
    /// The status alone.
    Status,
    /// What the sub-resource of this name shows of the spec, as the kind says ([`Kind::prepare_facet`](crate::api::kind::Kind)).
    Facet(&'static str),
    /// The numbers that the registry itself gives: nobody else may change them. No verb of a client writes this part.
    Allocated,
}

/// Options of a create or update.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WriteOptions {
    /// Does all but write.
    pub dry_run: bool,
    /// Who becomes the owner of what the write changes; `None`: the owners stay as the object says. An apply says them itself, and the
    /// program's own loops own nothing.
    pub writer: Option<Writer>,
    /// The cluster itself writes: it becomes the owner of what it changes where somebody owns something already.
    pub as_cluster: bool,
    /// Where warnings for the client go.
    pub warnings: Warnings,
}

impl WriteOptions {
    /// Those of a write that the cluster itself makes: a controller's, or the node's.
    pub fn of_the_cluster() -> Self {
        Self { as_cluster: true, ..Self::default() }
    }
}

/// What a client should be told beside the answer. Clones share it. The default keeps nothing: nobody asks.
#[derive(Clone, Debug, Default)]
pub struct Warnings(Option<Arc<Mutex<Vec<String>>>>);

impl Warnings {
    /// Warnings that somebody will ask for.
    pub fn collecting() -> Self {
        Self(Some(Arc::default()))
    }

    /// Adds a warning, if there is one.
    pub fn add(&self, warning: Option<String>) {
        if let (Some(all), Some(warning)) = (&self.0, warning) {
            all.lock().expect("no one panics while holding warnings").push(warning);
        }
    }

    /// Whether anybody asks for them: whoever is not the program itself.
    pub fn is_asked_for(&self) -> bool {
        self.0.is_some()
    }

    /// Takes those there are.
    pub fn take(&self) -> Vec<String> {
        let all =
            self.0.as_ref().map(|all| std::mem::take(&mut *all.lock().expect("no one panics while holding warnings")));
        all.unwrap_or_default()
    }
}

/// Who is warned does not make another write.
impl PartialEq for Warnings {
    fn eq(&self, _other: &Self) -> bool {
        true
    }
}

impl Eq for Warnings {}

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
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// By label.
    pub labels: LabelSelector,
    /// By field.
    pub fields: FieldSelector,
}

impl Selection {
    /// Whether it picks every object.
    pub fn is_everything(&self) -> bool {
        *self == Self::default()
    }

    /// Whether it picks this entry.
    pub fn matches(&self, entry: &Entry) -> bool {
        self.labels.matches(&entry.attrs.labels) && self.fields.matches(&entry.attrs.fields)
    }
}

/// What a delete did.
#[derive(Clone, Debug)]
pub enum Deleted {
    /// The object is gone; its last state, and the revision of the deletion.
    Gone(Arc<Entry>, Revision),
    /// The object is marked and goes later; its new state.
    Marked(Arc<Entry>),
}
