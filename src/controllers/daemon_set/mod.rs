//! The DaemonSet controller: one pod on each node that should have one.
//!
//! - [`decide`]: one pass: which nodes get pods and which pods go; [`update`]: which pods of earlier templates are replaced now.
//! - [`nodes`]: which nodes should have a pod, and what it looks like; [`status`]: numbers, concluded after the pass.
//!
//! Pods are bound to their node by a required affinity to its name, and the scheduler places them.
//!
//! **Invariants**: a node has one pod at most, or two where a surge is allowed; no pod is made on a node whose former pod has not gone.
//!
//! **Source**: `pkg/controller/daemon`, v1.37. Upstream replaces a failed pod after a time that doubles from a second up to a quarter of an hour,
//! which it remembers; here it is always [`decide::FAILED_FOR`].

mod decide;
mod nodes;
mod status;
#[cfg(test)]
mod tests;
mod update;

use super::{
    namespace::namespace_goes,
    pods::{of_owner, on_more_quota, wake_owner},
    revisions::{self, Owner, Revisions},
    runtime::{Claim, Controller, Decision, Done, Moved, Trigger, claim, is_selected, selector_of},
};
use crate::{
    api::{
        kinds::{controller_revision::ControllerRevisions, daemon_set::DaemonSets, node::Nodes, pod::Pods},
        meta::ObjectKey,
    },
    base::ordered::{Map, SortList as _},
    registry::Registry,
};
use jiff::Timestamp;
use k8s_openapi::api::{
    apps::v1::{ControllerRevision, DaemonSet},
    core::v1::{Node, Pod},
};
use std::sync::Arc;

/// All that a pass over a set depends on.
#[derive(Clone, Debug)]
pub struct Observed {
    /// The set.
    pub set: Arc<DaemonSet>,
    /// The revisions that it owns or may adopt.
    pub revisions: Vec<Arc<ControllerRevision>>,
    /// The pods that it owns or may adopt.
    pub pods: Vec<Arc<Pod>>,
    /// Every node.
    pub nodes: Vec<Arc<Node>>,
    /// Whether the namespace is going away, so that nothing can be created in it.
    pub namespace_goes: bool,
    /// The time.
    pub now: Timestamp,
}

/// The controller.
#[derive(Clone, Copy, Debug)]
pub struct DaemonSetController;

impl Controller for DaemonSetController {
    type Key = ObjectKey;
    type Observed = Observed;

    const CONCLUDES: bool = true;

    fn name(&self) -> &'static str {
        "daemonset"
    }

    fn event_source(&self) -> &'static str {
        "daemonset-controller"
    }

    fn triggers(&self) -> Vec<Trigger<ObjectKey>> {
        let selector = |set: &DaemonSet| selector_of(&set.spec.selector);
        vec![
            Trigger::itself::<DaemonSets>(),
            Trigger::on::<Pods>(move |registry, moved, keys| wake_owner::<DaemonSets>(registry, moved, keys, selector)),
            Trigger::controller::<ControllerRevisions, DaemonSets>(),
            Trigger::on::<Nodes>(wake_for_node),
            on_more_quota::<DaemonSets>(),
        ]
    }

    fn observe(&self, registry: &Registry, key: &ObjectKey) -> Option<Observed> {
        let set = registry.api::<DaemonSets>().get(key)?;
        let selector = selector_of(&set.spec.selector);
        Some(Observed {
            revisions: revisions::of_owner(registry, &set.metadata, &selector),
            pods: of_owner(registry, &set.metadata, &selector),
            nodes: registry.api::<Nodes>().list("").items,
            namespace_goes: namespace_goes(registry, &key.namespace),
            now: registry.clock().now(),
            set,
        })
    }

    fn weight(&self, observed: &Observed) -> usize {
        observed.pods.len()
    }

    fn decide(&self, observed: &Observed) -> Decision {
        decide::decide(observed)
    }

    fn conclude(&self, observed: &Observed, done: &Done) -> Decision {
        status::conclude(observed, done)
    }
}

/// A node that comes, goes, or takes other pods than before concerns every set.
fn wake_for_node(registry: &Registry, moved: &Moved<Node>, keys: &mut Vec<ObjectKey>) {
    let concerns = |node: &Arc<Node>| {
        let spec = node.spec.clone().unwrap_or_default();
        (node.metadata.labels.clone(), spec.taints, spec.unschedulable)
    };
    if moved.before.as_ref().map(concerns) != moved.after.as_ref().map(concerns) {
        keys.extend(registry.api::<DaemonSets>().list("").items.iter().map(|set| ObjectKey::of(&set.metadata)));
    }
}

impl Observed {
    /// The revisions of the set.
    fn revisions(&self) -> Revisions<'_> {
        let owner = Owner {
            meta: &self.set.metadata,
            template: &self.set.spec.template,
            collisions: self.set.status.as_ref().and_then(|s| s.collision_count),
            hash_label: revisions::POD_REVISION,
        };
        Revisions::of::<DaemonSets>(owner, &selector_of(&self.set.spec.selector), &self.revisions)
    }

    /// The pods of the set by the node that each is for, oldest first.
    fn pods_by_node(&self) -> Map<&str, Vec<&Pod>> {
        let selector = selector_of(&self.set.spec.selector);
        let is_ours =
            |pod: &Pod| claim(&self.set.metadata, &pod.metadata, is_selected(&selector, &pod.metadata)) == Claim::Mine;
        let mut by_node: Map<&str, Vec<&Pod>> = Map::new();
        for pod in self.pods.iter().filter(|pod| is_ours(pod)) {
            by_node.entry(nodes::target(pod).unwrap_or_default()).or_default().push(pod);
        }
        by_node.values_mut().for_each(|pods| {
            pods.sort_list_by_key(|pod| {
                let created = pod.metadata.creation_timestamp.as_ref().map(|time| time.0);
                (created, pod.metadata.name.clone())
            });
        });
        by_node
    }
}
