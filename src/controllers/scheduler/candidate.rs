//! The nodes that a pod may get, each with what is on it.

use super::{Observed, node_of};
use crate::{
    api::pod_resources::{Amounts, Side, add, amounts, of_pod},
    base::ordered::Map,
};
use k8s_openapi::api::core::v1::{Node, Pod};

/// A node, and the pods that are or will be on it.
#[derive(Clone, Debug)]
pub(super) struct Candidate<'a> {
    pub(super) node: &'a Node,
    pub(super) pods: Vec<&'a Pod>,
    pub(super) used: Amounts,
    pub(super) allocatable: Amounts,
}

/// What a pod asks of its node.
pub(super) fn requests(pod: &Pod) -> Amounts {
    pod.spec.as_ref().map(|spec| of_pod(spec, Side::Requests)).unwrap_or_default()
}

/// Every node with its pods.
pub(super) fn candidates(observed: &Observed) -> Vec<Candidate<'_>> {
    let mut by_node: Map<&str, Vec<&Pod>> = Map::new();
    for pod in &observed.pods {
        if let Some(node) = node_of(pod) {
            by_node.entry(node).or_default().push(pod);
        }
    }
    let candidate = |node| {
        let mut candidate = Candidate {
            node,
            pods: Vec::new(),
            used: Amounts::new(),
            allocatable: amounts(node.status.as_ref().and_then(|s| s.allocatable.as_ref())),
        };
        by_node.remove(candidate.name()).into_iter().flatten().for_each(|pod| candidate.assume(pod));
        candidate
    };
    // A node that has not said yet what it offers is not there yet.
    let is_there = |node: &&Node| node.status.as_ref().is_some_and(|s| s.allocatable.is_some());
    observed.nodes.iter().map(|node| &**node).filter(is_there).map(candidate).collect()
}

impl<'a> Candidate<'a> {
    /// The node's name.
    pub(super) fn name(&self) -> &'a str {
        self.node.metadata.name.as_deref().unwrap_or_default()
    }

    /// Counts a pod against the node.
    pub(super) fn assume(&mut self, pod: &'a Pod) {
        add(&mut self.used, &requests(pod));
        self.pods.push(pod);
    }

    /// The node with these of its pods alone.
    pub(super) fn with_only(&self, pods: Vec<&'a Pod>) -> Self {
        let (node, allocatable) = (self.node, self.allocatable.clone());
        let mut left = Self { node, pods: Vec::new(), used: Amounts::new(), allocatable };
        pods.into_iter().for_each(|pod| left.assume(pod));
        left
    }

    /// The node's value of a topology key.
    pub(super) fn topology(&self, key: &str) -> Option<&'a str> {
        self.node.metadata.labels.as_ref()?.get(key).map(String::as_str)
    }
}
