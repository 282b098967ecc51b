//! Records Events: what a user sees in `kubectl describe` and `kubectl get events`.
//!
//! Recording never blocks and never fails the caller; repeats of one event raise its count, as in client-go.

use super::Registry;
use crate::api::kind::Kind;
use k8s_openapi::api::core::v1::ObjectReference;

/// How much an event matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// Business as usual.
    Normal,
    /// A user may want to act.
    Warning,
}

/// Records events for one component. Clones share one queue.
#[derive(Clone, Debug)]
pub struct Recorder {
    registry: Registry,
    component: &'static str,
}

impl Recorder {
    /// A recorder for a component, named as in Kubernetes, e.g. `deployment-controller`, `kubelet`.
    pub fn new(registry: Registry, component: &'static str) -> Self {
        Self { registry, component }
    }

    /// Records that something happened to an object.
    pub fn record(&self, about: &ObjectReference, severity: Severity, reason: &str, message: &str) {
        let _ = (about, severity, reason, message, &self.registry, self.component);
        todo!()
    }
}

/// The reference by which an event names its object.
pub fn reference<K: Kind>(obj: &K::Object) -> ObjectReference {
    use crate::api::object::Object as _;
    let meta = obj.meta();
    ObjectReference {
        api_version: Some(K::INFO.api_version()),
        kind: Some(K::INFO.kind.to_owned()),
        namespace: meta.namespace.clone(),
        name: meta.name.clone(),
        uid: meta.uid.clone(),
        resource_version: meta.resource_version.clone(),
        field_path: None,
    }
}
