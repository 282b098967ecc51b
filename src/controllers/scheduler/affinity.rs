//! What pods want of nodes and of each other: node selectors, affinity and anti-affinity of pods, topology spread.
//!
//! What is required is a yes or no, for `fit`; what is preferred is a number, for `score`.
//! **Source**: `k8s.io/component-helpers/scheduling/corev1/nodeaffinity`, `plugins/{interpodaffinity,podtopologyspread}`, v1.37.

use super::{Observed, candidate::Candidate};
use crate::{
    api::selector::{LabelSelector, Operator, Requirement},
    base::ordered::Map,
    controllers::runtime::{is_selected, selector_of},
};
use k8s_openapi::api::core::v1::{
    Node, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, Pod, PodAffinityTerm, TopologySpreadConstraint,
};

pub(super) const NO_AFFINITY: &str = "node(s) didn't match pod affinity rules";
const ANTI_AFFINITY: &str = "node(s) didn't match pod anti-affinity rules";
const OTHERS_ANTI_AFFINITY: &str = "node(s) didn't satisfy existing pods anti-affinity rules";
const SPREAD: &str = "node(s) didn't match pod topology spread constraints";
pub(super) const NO_TOPOLOGY_LABEL: &str =
    "node(s) didn't match pod topology spread constraints (missing required label)";

/// Whether the pod's node selector and required node affinity pick the node.
pub(in crate::controllers) fn wants_node(pod: &Pod, node: &Node) -> bool {
    let Some(spec) = &pod.spec else { return true };
    let labels = node.metadata.labels.as_ref();
    let label = |key: &str| labels.and_then(|l| l.get(key)).map(String::as_str);
    let selected = spec.node_selector.iter().flatten().all(|(k, v)| label(k) == Some(v));
    let affinity = spec.affinity.as_ref().and_then(|a| a.node_affinity.as_ref());
    let required = affinity.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref());
    selected && required.is_none_or(|selector| node_matches(node, selector))
}

/// Whether a selector picks the node.
pub(super) fn node_matches(node: &Node, selector: &NodeSelector) -> bool {
    let labels = node.metadata.labels.as_ref();
    let label = |key: &str| labels.and_then(|l| l.get(key)).map(String::as_str);
    let name = node.metadata.name.as_deref();
    let field = |key: &str| if key == "metadata.name" { name } else { None };
    selector.node_selector_terms.iter().any(|term| term_holds(term, label, field))
}

/// A term with nothing in it picks nothing.
fn term_holds<'a>(
    term: &NodeSelectorTerm,
    label: impl Fn(&str) -> Option<&'a str>,
    field: impl Fn(&str) -> Option<&'a str>,
) -> bool {
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    if expressions.is_empty() && fields.is_empty() {
        return false;
    }
    expressions.iter().all(|r| holds(r, label(&r.key))) && fields.iter().all(|r| holds(r, field(&r.key)))
}

fn holds(requirement: &NodeSelectorRequirement, value: Option<&str>) -> bool {
    let values = requirement.values.as_deref().unwrap_or_default();
    let listed = value.is_some_and(|v| values.iter().any(|w| w == v));
    let numbers = || Some((value?.parse::<i64>().ok()?, values.first()?.parse::<i64>().ok()?));
    match requirement.operator.as_str() {
        "In" => listed,
        "NotIn" => !listed,
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => numbers().is_some_and(|(has, bound)| has > bound),
        "Lt" => numbers().is_some_and(|(has, bound)| has < bound),
        _ => false,
    }
}

/// What a pod wants of other pods, read once.
struct Term<'a> {
    topology_key: &'a str,
    selector: LabelSelector,
    namespaces: Vec<&'a str>,
    namespace_selector: LabelSelector,
}

impl<'a> Term<'a> {
    fn of(pod: &'a Pod, term: &'a PodAffinityTerm) -> Self {
        let own = pod.metadata.namespace.as_deref().unwrap_or_default();
        let mut namespaces: Vec<&str> = term.namespaces.iter().flatten().map(String::as_str).collect();
        if namespaces.is_empty() && term.namespace_selector.is_none() {
            namespaces.push(own);
        }
        let selector = term.label_selector.as_ref().map_or_else(LabelSelector::nothing, selector_of);
        let alike = own_labels(pod, term.match_label_keys.as_ref(), Operator::In);
        let unlike = own_labels(pod, term.mismatch_label_keys.as_ref(), Operator::NotIn);
        Self {
            topology_key: &term.topology_key,
            selector: narrowed(selector, alike.chain(unlike)),
            namespaces,
            namespace_selector: term.namespace_selector.as_ref().map_or_else(LabelSelector::nothing, selector_of),
        }
    }

    fn picks(&self, other: &Pod, observed: &Observed) -> bool {
        let namespace = other.metadata.namespace.as_deref().unwrap_or_default();
        let in_namespace = self.namespaces.contains(&namespace)
            || observed.namespaces.get(namespace).is_some_and(|labels| self.namespace_selector.matches(labels));
        in_namespace && is_selected(&self.selector, &other.metadata)
    }
}

/// Requirements on the labels that the pod itself has under these keys.
fn own_labels<'a>(
    pod: &'a Pod,
    keys: Option<&'a Vec<String>>,
    operator: Operator,
) -> impl Iterator<Item = Requirement> + use<'a> {
    let labels = pod.metadata.labels.as_ref();
    keys.into_iter().flatten().filter_map(move |key| {
        let value = labels?.get(key)?;
        Requirement::new(key, operator, vec![value.clone()]).ok()
    })
}

fn narrowed(selector: LabelSelector, more: impl Iterator<Item = Requirement>) -> LabelSelector {
    let more: Vec<_> = more.collect();
    if more.is_empty() || selector == LabelSelector::nothing() {
        return selector;
    }
    LabelSelector::new(selector.requirements().iter().cloned().chain(more).collect())
}

fn affinity_terms(pod: &Pod) -> Vec<Term<'_>> {
    let affinity = pod.spec.as_ref().and_then(|s| s.affinity.as_ref()?.pod_affinity.as_ref());
    let required = affinity.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref());
    required.into_iter().flatten().map(|t| Term::of(pod, t)).collect()
}

fn anti_affinity_terms(pod: &Pod) -> Vec<Term<'_>> {
    let affinity = pod.spec.as_ref().and_then(|s| s.affinity.as_ref()?.pod_anti_affinity.as_ref());
    let required = affinity.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref());
    required.into_iter().flatten().map(|t| Term::of(pod, t)).collect()
}

/// Whether the pods that are placed and the pod that is to be placed agree on this node.
pub(super) fn pods_agree(
    pod: &Pod,
    candidate: &Candidate<'_>,
    all: &[Candidate<'_>],
    observed: &Observed,
) -> Result<(), &'static str> {
    let is_near = |node: &Candidate<'_>, key: &str| {
        let here = candidate.topology(key);
        here.is_some() && here == node.topology(key)
    };
    let placed = || all.iter().flat_map(|node| node.pods.iter().map(move |other| (node, *other)));
    let wanted = affinity_terms(pod);
    let is_satisfied = |t: &Term<'_>| placed().any(|(node, p)| t.picks(p, observed) && is_near(node, t.topology_key));
    if !wanted.iter().all(is_satisfied) {
        // The first of a group that wants to be near itself may go anywhere that has the topology.
        let is_first = !placed().any(|(_, p)| wanted.iter().any(|t| t.picks(p, observed)))
            && wanted.iter().all(|t| t.picks(pod, observed) && candidate.topology(t.topology_key).is_some());
        if !is_first {
            return Err(NO_AFFINITY);
        }
    }
    let unwanted = anti_affinity_terms(pod);
    if unwanted.iter().any(is_satisfied) {
        return Err(ANTI_AFFINITY);
    }
    let is_unwanted = |node: &Candidate<'_>, other: &Pod| {
        anti_affinity_terms(other).iter().any(|t| t.picks(pod, observed) && is_near(node, t.topology_key))
    };
    if placed().any(|(node, other)| is_unwanted(node, other)) { Err(OTHERS_ANTI_AFFINITY) } else { Ok(()) }
}

/// How much the pod prefers the node, by the weights of its terms.
pub(super) fn preference_for(pod: &Pod, node: &Node) -> i64 {
    let affinity = pod.spec.as_ref().and_then(|s| s.affinity.as_ref()?.node_affinity.as_ref());
    let preferred = affinity.and_then(|a| a.preferred_during_scheduling_ignored_during_execution.as_ref());
    let holds = |term: &NodeSelectorTerm| {
        let selector = NodeSelector { node_selector_terms: vec![term.clone()] };
        node_matches(node, &selector)
    };
    preferred.into_iter().flatten().filter(|t| holds(&t.preference)).map(|t| i64::from(t.weight)).sum()
}

/// What a pod prefers of other pods: weights and terms; of those to stay away from, negative ones.
fn preferred_terms(pod: &Pod) -> Vec<(i64, Term<'_>)> {
    let affinity = pod.spec.as_ref().and_then(|s| s.affinity.as_ref());
    let near = affinity.and_then(|a| a.pod_affinity.as_ref());
    let near = near.and_then(|a| a.preferred_during_scheduling_ignored_during_execution.as_ref());
    let far = affinity.and_then(|a| a.pod_anti_affinity.as_ref());
    let far = far.and_then(|a| a.preferred_during_scheduling_ignored_during_execution.as_ref());
    let near = near.into_iter().flatten().map(|t| (i64::from(t.weight), &t.pod_affinity_term));
    let far = far.into_iter().flatten().map(|t| (-i64::from(t.weight), &t.pod_affinity_term));
    near.chain(far).map(|(weight, term)| (weight, Term::of(pod, term))).collect()
}

/// How much the pod prefers to be near the pods that are where the node is, and they near it.
pub(super) fn preference_near(pod: &Pod, candidate: &Candidate<'_>, all: &[Candidate<'_>], observed: &Observed) -> i64 {
    let wanted = preferred_terms(pod);
    let mut sum = 0;
    for node in all {
        let is_near = |key: &str| {
            let here = candidate.topology(key);
            here.is_some() && here == node.topology(key)
        };
        for other in &node.pods {
            let of_pod = wanted.iter().filter(|(_, term)| is_near(term.topology_key) && term.picks(other, observed));
            sum += of_pod.map(|(weight, _)| weight).sum::<i64>();
            let theirs = preferred_terms(other);
            let of_other = theirs.iter().filter(|(_, term)| is_near(term.topology_key) && term.picks(pod, observed));
            sum += of_other.map(|(weight, _)| weight).sum::<i64>();
            // Those that need to be near count a little. Source: `DefaultHardPodAffinityWeight`.
            let needs = affinity_terms(other);
            let n = needs.iter().filter(|term| is_near(term.topology_key) && term.picks(pod, observed)).count();
            sum += i64::try_from(n).unwrap_or(0);
        }
    }
    sum
}

/// How many pods its spread constraints count where the node is, of those that are wishes; `None`: the pod has no such constraint.
pub(super) fn crowd(pod: &Pod, candidate: &Candidate<'_>, all: &[Candidate<'_>]) -> Option<i64> {
    let constraints = pod.spec.iter().flat_map(|s| s.topology_spread_constraints.iter().flatten());
    let soft: Vec<_> = constraints.filter(|c| c.when_unsatisfiable == "ScheduleAnyway").collect();
    if soft.is_empty() {
        return None;
    }
    let one = |constraint: &&TopologySpreadConstraint| {
        // A node without the label is the last choice.
        let Some(here) = candidate.topology(&constraint.topology_key) else { return i64::from(u16::MAX) };
        skew(pod, constraint, &[], here, all).max(0)
    };
    Some(soft.iter().map(one).sum())
}

/// Whether the pod on this node keeps the skew that its constraints allow.
pub(super) fn spreads(pod: &Pod, candidate: &Candidate<'_>, all: &[Candidate<'_>]) -> Result<(), &'static str> {
    let constraints = pod.spec.iter().flat_map(|s| s.topology_spread_constraints.iter().flatten());
    let hard: Vec<_> = constraints.filter(|c| c.when_unsatisfiable == "DoNotSchedule").collect();
    for constraint in &hard {
        let Some(here) = candidate.topology(&constraint.topology_key) else { return Err(NO_TOPOLOGY_LABEL) };
        if skew(pod, constraint, &hard, here, all) > i64::from(constraint.max_skew) {
            return Err(SPREAD);
        }
    }
    Ok(())
}

/// How many more matching pods this domain would have than the one with the fewest.
fn skew(
    pod: &Pod,
    constraint: &TopologySpreadConstraint,
    hard: &[&TopologySpreadConstraint],
    here: &str,
    all: &[Candidate<'_>],
) -> i64 {
    let selector = constraint.label_selector.as_ref().map_or_else(LabelSelector::nothing, selector_of);
    let selector = narrowed(selector, own_labels(pod, constraint.match_label_keys.as_ref(), Operator::In));
    let ignores_affinity = constraint.node_affinity_policy.as_deref() == Some("Ignore");
    let counts = |node: &&Candidate<'_>| {
        hard.iter().all(|c| node.topology(&c.topology_key).is_some())
            && (ignores_affinity || wants_node(pod, node.node))
    };
    let mut domains: Map<&str, i64> = Map::new();
    for node in all.iter().filter(counts) {
        let Some(domain) = node.topology(&constraint.topology_key) else { continue };
        let is_alike = |p: &&&Pod| {
            p.metadata.namespace == pod.metadata.namespace
                && p.metadata.deletion_timestamp.is_none()
                && is_selected(&selector, &p.metadata)
        };
        *domains.entry(domain).or_default() +=
            i64::try_from(node.pods.iter().filter(is_alike).count()).unwrap_or(i64::MAX);
    }
    let enough_domains = constraint.min_domains.is_none_or(|n| domains.len() >= usize::try_from(n).unwrap_or(0));
    let fewest = if enough_domains { domains.values().copied().min().unwrap_or(0) } else { 0 };
    let own = i64::from(is_selected(&selector, &pod.metadata));
    domains.get(here).copied().unwrap_or(0) + own - fewest
}
