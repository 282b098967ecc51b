//! Which nodes should have a pod of a DaemonSet, and what that pod looks like.
//!
//! **Source**: `NodeShouldRunDaemonPod`, pkg/controller/daemon/daemon_controller.go; `AddOrUpdateDaemonPodTolerations` and
//! `ReplaceDaemonSetPodNodeNameNodeAffinity`, pkg/controller/daemon/util, v1.37.

use crate::{
    api::kinds::daemon_set::DaemonSets,
    controllers::{
        pods::from_template, revisions::POD_REVISION, scheduler::affinity::wants_node, taints::is_tolerated,
    },
};
use k8s_openapi::api::{
    apps::v1::DaemonSet,
    core::v1::{
        Affinity, Node, NodeAffinity, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, Pod, PodSpec, Taint,
        Toleration,
    },
};

/// The field of a node by which a pod is bound to it.
const NAME_FIELD: &str = "metadata.name";

/// Whether a node is for a set's pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fit {
    /// One should be made there.
    pub(super) should_run: bool,
    /// One that is there may stay.
    pub(super) may_stay: bool,
}

/// Whether this node is for a pod of the set.
pub(super) fn fit(set: &DaemonSet, node: &Node) -> Fit {
    let no = Fit { should_run: false, may_stay: false };
    let name = node.metadata.name.as_deref().unwrap_or_default();
    let wanted = set.spec.template.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
    let mut pod = from_template::<DaemonSets>(&set.metadata, &set.spec.template);
    add_tolerations(pod.spec.get_or_insert_default());
    if wanted.is_some_and(|wanted| !wanted.is_empty() && wanted != name) || !wants_node(&pod, node) {
        return no;
    }
    let taints = || node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
    let bears = |effects: &[&str]| {
        let mut such = taints().filter(|taint: &&Taint| effects.contains(&taint.effect.as_str()));
        such.all(|taint| is_tolerated(&pod, taint))
    };
    Fit { should_run: bears(&["NoExecute", "NoSchedule"]), may_stay: bears(&["NoExecute"]) }
}

/// The node that a pod is on, or that it is for.
pub(super) fn target(pod: &Pod) -> Option<&str> {
    let spec = pod.spec.as_ref()?;
    if let Some(node) = spec.node_name.as_deref().filter(|node| !node.is_empty()) {
        return Some(node);
    }
    let affinity = spec.affinity.as_ref()?.node_affinity.as_ref()?;
    let terms = &affinity.required_during_scheduling_ignored_during_execution.as_ref()?.node_selector_terms;
    let fields = terms.iter().flat_map(|term| term.match_fields.iter().flatten());
    let mut named = fields.filter(|field| field.key == NAME_FIELD && field.operator == "In");
    named.find_map(|field| field.values.as_ref()?.first().map(String::as_str))
}

/// The set's pod for a node, of the revision with this hash.
pub(super) fn pod(set: &DaemonSet, node: &str, hash: &str) -> Pod {
    let mut pod = from_template::<DaemonSets>(&set.metadata, &set.spec.template);
    let labels = pod.metadata.labels.get_or_insert_default();
    labels.insert(POD_REVISION.to_owned(), hash.to_owned());
    let generation = set.metadata.annotations.as_ref().and_then(|a| a.get("deprecated.daemonset.template.generation"));
    if let Some(generation) = generation {
        labels.insert("pod-template-generation".to_owned(), generation.clone());
    }
    let spec = pod.spec.get_or_insert_default();
    add_tolerations(spec);
    bind(spec, node);
    pod
}

/// Binds a pod to a node: whatever nodes its template names by fields, it is this one.
fn bind(spec: &mut PodSpec, node: &str) {
    let is_this = NodeSelectorRequirement {
        key: NAME_FIELD.to_owned(),
        operator: "In".to_owned(),
        values: Some(vec![node.to_owned()]),
    };
    let term = NodeSelectorTerm { match_fields: Some(vec![is_this]), match_expressions: None };
    let affinity: &mut Affinity = spec.affinity.get_or_insert_default();
    let affinity: &mut NodeAffinity = affinity.node_affinity.get_or_insert_default();
    affinity.required_during_scheduling_ignored_during_execution =
        Some(NodeSelector { node_selector_terms: vec![term] });
}

/// A node's own troubles do not keep its daemons away.
fn add_tolerations(spec: &mut PodSpec) {
    let of = |key: &str, effect: &str| Toleration {
        key: Some(format!("node.kubernetes.io/{key}")),
        operator: Some("Exists".to_owned()),
        effect: Some(effect.to_owned()),
        ..Toleration::default()
    };
    let mut wanted = vec![
        of("not-ready", "NoExecute"),
        of("unreachable", "NoExecute"),
        of("disk-pressure", "NoSchedule"),
        of("memory-pressure", "NoSchedule"),
        of("pid-pressure", "NoSchedule"),
        of("unschedulable", "NoSchedule"),
    ];
    if spec.host_network == Some(true) {
        wanted.push(of("network-unavailable", "NoSchedule"));
    }
    let has = spec.tolerations.get_or_insert_default();
    wanted.retain(|toleration| !has.contains(toleration));
    has.extend(wanted);
}
