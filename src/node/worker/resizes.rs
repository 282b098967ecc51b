//! Resizes of containers in place: how they are begun, taken in and told of. Part of the worker.
//! **Source** of reasons and messages: `pkg/kubelet/events/event.go`, `pkg/kubelet/allocation/allocation_manager.go`, v1.37.

use super::{Done, Worker};
use crate::{
    api::{kinds::node::Nodes, meta::ObjectKey, pod_resources::amounts, pod_state},
    engine::{EngineError, Resources},
    node::{
        decide::{Decision, Slot},
        resize::{self, Pending, resize_key},
    },
    registry::events::Severity,
};
use k8s_openapi::api::core::v1::{Container, Pod};
use serde_json::json;
use std::sync::Arc;

/// How a resize is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ResizeState {
    /// It goes on.
    InProgress,
    /// The engine refuses it for now.
    Failed(String),
    /// It waits.
    Pending(Pending),
}

impl Worker {
    /// Why containers that ask for other resources than they were given cannot have them; others' pods are looked at only then.
    pub(super) fn look_for_room(&self, pod: &Pod) -> Option<Pending> {
        if !resize::is_asked(pod) {
            return None;
        }
        let node = pod.spec.as_ref()?.node_name.clone()?;
        let nodes = self.context.registry.api::<Nodes>();
        let allocatable = nodes.get(&ObjectKey::new("", &node))?.status.clone()?.allocatable;
        let is_other = |other: &Arc<Pod>| {
            other.metadata.uid != pod.metadata.uid
                && pod_state::is_active(other)
                && other.spec.as_ref().is_some_and(|spec| spec.node_name.as_deref() == Some(&node))
        };
        let mut others = self.context.pods.list("").items;
        others.retain(is_other);
        resize::pending(pod, &amounts(allocatable.as_ref()), others.iter().map(|other| &**other))
    }

    /// A container that is made while its resize waits gets what it was given before.
    pub(super) fn with_given_resources(&self, pod: &Pod, spec: Container) -> Container {
        if self.pending.is_none() {
            return spec;
        }
        let resources = resize::was_given(pod, &spec);
        Container { resources: resources.or(spec.resources), ..spec }
    }

    pub(super) fn begin_resize(&mut self, name: String, id: String, resources: Resources) {
        let context = Arc::clone(&self.context);
        self.start(Some(Slot::Resize(id.clone())), async move {
            let result = context.change(context.engine.update(&id, &resources)).await;
            Done::Resized(name, id, resources, result)
        });
    }

    /// Whether a resize whose answer was lost has happened, the next look tells.
    pub(super) fn resized(&mut self, name: &str, id: &str, resources: Resources, result: Result<(), EngineError>) {
        match result {
            Ok(()) => {
                self.memory.blocked.remove(&resize_key(name));
                self.observed.note_resources(id, resources);
            }
            Err(error) => {
                self.hold(&resize_key(name), &error.to_string());
                self.inspect(vec![id.to_owned()]);
            }
        }
    }

    /// Tells of a resize that began, waits, fails or is done.
    pub(super) fn tell_resize(&mut self, pod: &Pod, decision: &Decision) {
        let state = match (&self.pending, &decision.resizing) {
            (Some(pending), _) => Some(ResizeState::Pending(pending.clone())),
            (None, Some(error)) if !error.is_empty() => Some(ResizeState::Failed(error.clone())),
            (None, Some(_)) => Some(ResizeState::InProgress),
            (None, None) => None,
        };
        if state == self.resize {
            return;
        }
        let before = std::mem::replace(&mut self.resize, state.clone());
        let what = asked(pod);
        let (severity, reason, message) = match (before, state) {
            (_, Some(ResizeState::Pending(pending))) => {
                let reason = if pending.reason == resize::DEFERRED { "ResizeDeferred" } else { "ResizeInfeasible" };
                (Severity::Warning, reason, format!("Pod resize {}: {what}: {}", pending.reason, pending.message))
            }
            (_, Some(ResizeState::Failed(why))) => {
                (Severity::Warning, "ResizeError", format!("Pod resize error: {what}: {why}"))
            }
            (Some(ResizeState::Failed(_)), Some(ResizeState::InProgress)) => return,
            (_, Some(ResizeState::InProgress)) => {
                (Severity::Normal, "ResizeStarted", format!("Pod resize started: {what}"))
            }
            // It was asked back before it could be had.
            (Some(ResizeState::Pending(_)) | None, None) if !resize::is_asked(pod) => return,
            (_, None) => (Severity::Normal, "ResizeCompleted", format!("Pod resize completed: {what}")),
        };
        self.context.tell_pod(pod, severity, reason, &message);
    }
}

/// What a pod's containers ask for, as the kubelet writes it.
fn asked(pod: &Pod) -> String {
    let of = |c: &Container| json!({ "name": c.name, "resources": c.resources });
    let containers: Vec<_> = pod.spec.iter().flat_map(|spec| &spec.containers).map(of).collect();
    json!({ "containers": containers, "generation": pod.metadata.generation }).to_string()
}
