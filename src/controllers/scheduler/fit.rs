//! Whether a node can take a pod: Kubernetes' filters in Kubernetes' order, with their words.
//!
//! **Source**: `pkg/scheduler/framework/plugins/{nodeunschedulable,tainttoleration,nodeaffinity,nodeports,noderesources,
//! podtopologyspread,interpodaffinity}`, v1.37.

use super::{
    Observed, affinity,
    candidate::{Candidate, requests},
    claims,
};
use crate::{
    api::{pod_resources::Amounts, quantity::Quantity},
    controllers::taints::is_tolerated,
};
use k8s_openapi::api::core::v1::{ContainerPort, Node, Pod, Taint};

/// Why a node cannot take a pod.
#[derive(Debug, PartialEq)]
pub(super) struct Unfit {
    pub(super) reasons: Vec<String>,
    /// Whether the absence of other pods would help.
    pub(super) others_are_in_the_way: bool,
}

impl Unfit {
    fn for_good(reason: &str) -> Self {
        Self { reasons: vec![reason.to_owned()], others_are_in_the_way: false }
    }

    fn for_now(reason: &str) -> Self {
        Self { reasons: vec![reason.to_owned()], others_are_in_the_way: true }
    }
}

/// Whether this node can take the pod; the first filter that says no tells why.
pub(super) fn check(
    pod: &Pod,
    candidate: &Candidate<'_>,
    all: &[Candidate<'_>],
    observed: &Observed,
) -> Result<(), Unfit> {
    is_schedulable(pod, candidate.node)?;
    tolerates_taints(pod, candidate.node)?;
    if !affinity::wants_node(pod, candidate.node) {
        return Err(Unfit::for_good("node(s) didn't match Pod's node affinity/selector"));
    }
    if claims::nodes_of(pod, &observed.claims).any(|nodes| !affinity::node_matches(candidate.node, nodes)) {
        return Err(Unfit::for_good("node(s) didn't match PersistentVolume's node affinity"));
    }
    has_free_ports(pod, candidate)?;
    has_room(pod, candidate)?;
    affinity::spreads(pod, candidate, all).map_err(|reason| match reason {
        affinity::NO_TOPOLOGY_LABEL => Unfit::for_good(reason),
        _ => Unfit::for_now(reason),
    })?;
    affinity::pods_agree(pod, candidate, all, observed).map_err(|reason| match reason {
        affinity::NO_AFFINITY => Unfit::for_good(reason),
        _ => Unfit::for_now(reason),
    })
}

fn is_schedulable(pod: &Pod, node: &Node) -> Result<(), Unfit> {
    if node.spec.as_ref().and_then(|s| s.unschedulable) != Some(true) {
        return Ok(());
    }
    let taint = Taint {
        key: "node.kubernetes.io/unschedulable".to_owned(),
        effect: "NoSchedule".to_owned(),
        ..Taint::default()
    };
    if is_tolerated(pod, &taint) { Ok(()) } else { Err(Unfit::for_good("node(s) were unschedulable")) }
}

fn tolerates_taints(pod: &Pod, node: &Node) -> Result<(), Unfit> {
    let taints = node.spec.iter().flat_map(|s| s.taints.iter().flatten());
    let keeps_away = |t: &&Taint| t.effect == "NoSchedule" || t.effect == "NoExecute";
    if taints.filter(keeps_away).all(|t| is_tolerated(pod, t)) {
        Ok(())
    } else {
        Err(Unfit::for_good("node(s) had untolerated taint(s)"))
    }
}

fn host_ports(pod: &Pod) -> impl Iterator<Item = &ContainerPort> {
    let spec = pod.spec.iter();
    let containers = spec.flat_map(|s| s.init_containers.iter().flatten().chain(&s.containers));
    containers.flat_map(|c| c.ports.iter().flatten()).filter(|p| p.host_port.is_some_and(|n| n > 0))
}

fn has_free_ports(pod: &Pod, candidate: &Candidate<'_>) -> Result<(), Unfit> {
    let everywhere = |ip: &str| ip.is_empty() || ip == "0.0.0.0";
    let collide = |a: &ContainerPort, b: &ContainerPort| {
        let (a_ip, b_ip) = (a.host_ip.as_deref().unwrap_or_default(), b.host_ip.as_deref().unwrap_or_default());
        let protocol = |p: &ContainerPort| p.protocol.clone().unwrap_or_else(|| "TCP".to_owned());
        a.host_port == b.host_port
            && protocol(a) == protocol(b)
            && (a_ip == b_ip || everywhere(a_ip) || everywhere(b_ip))
    };
    let wanted: Vec<_> = host_ports(pod).collect();
    if wanted.is_empty() {
        return Ok(());
    }
    let mut taken = candidate.pods.iter().flat_map(|other| host_ports(other));
    if taken.any(|t| wanted.iter().any(|w| collide(t, w))) {
        return Err(Unfit::for_now("node(s) didn't have free ports for the requested pod ports"));
    }
    Ok(())
}

fn has_room(pod: &Pod, candidate: &Candidate<'_>) -> Result<(), Unfit> {
    let mut unfit = Unfit { reasons: Vec::new(), others_are_in_the_way: true };
    let of = |amounts: &Amounts, name: &str| amounts.get(name).copied().unwrap_or(Quantity::ZERO);
    let pods_max = of(&candidate.allocatable, "pods").whole();
    if i64::try_from(candidate.pods.len()).is_ok_and(|n| n + 1 > pods_max) {
        unfit.reasons.push("Too many pods".to_owned());
    }
    for (name, wanted) in requests(pod).into_iter().filter(|(_, wanted)| !wanted.is_zero()) {
        let allocatable = of(&candidate.allocatable, &name);
        if of(&candidate.used, &name).plus(wanted) > allocatable {
            unfit.reasons.push(format!("Insufficient {name}"));
            unfit.others_are_in_the_way &= wanted <= allocatable;
        }
    }
    if unfit.reasons.is_empty() { Ok(()) } else { Err(unfit) }
}
