//! Where a pod may run: tolerations, affinity, spreading, priority; and the taints that tolerations answer.

use crate::{
    api::{
        field::FieldError,
        kinds::check::{self, Errors},
        names,
    },
    base::ordered::{Map, Set},
};
use k8s_openapi::{
    api::core::v1::{
        NodeAffinity, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, PodAffinityTerm, PodSpec, Taint,
        Toleration, TopologySpreadConstraint, WeightedPodAffinityTerm,
    },
    apimachinery::pkg::apis::meta::v1::LabelSelector,
};

const EFFECTS: [&str; 3] = ["NoSchedule", "PreferNoSchedule", "NoExecute"];

/// Checks what concerns the scheduler.
pub(super) fn validate(errs: &mut Errors, spec: &PodSpec, path: &str) {
    if let Some(affinity) = &spec.affinity {
        let path = format!("{path}.affinity");
        if let Some(node) = &affinity.node_affinity {
            node_affinity(errs, node, &format!("{path}.nodeAffinity"));
        }
        if let Some(pods) = &affinity.pod_affinity {
            let terms = (
                &pods.required_during_scheduling_ignored_during_execution,
                &pods.preferred_during_scheduling_ignored_during_execution,
            );
            pod_affinity(errs, terms.0.as_deref(), terms.1.as_deref(), &format!("{path}.podAffinity"));
        }
        if let Some(pods) = &affinity.pod_anti_affinity {
            let terms = (
                &pods.required_during_scheduling_ignored_during_execution,
                &pods.preferred_during_scheduling_ignored_during_execution,
            );
            pod_affinity(errs, terms.0.as_deref(), terms.1.as_deref(), &format!("{path}.podAntiAffinity"));
        }
    }
    let spread = spec.topology_spread_constraints.as_deref().unwrap_or_default();
    spread_constraints(errs, spread, &format!("{path}.topologySpreadConstraints"));
    gates(errs, spec, path);
    let tolerations = spec.tolerations.as_deref().unwrap_or_default();
    check_tolerations(errs, tolerations, &format!("{path}.tolerations"));
    let preemption = ["PreemptLowerPriority", "Never"];
    check::maybe_one_of(errs, format!("{path}.preemptionPolicy"), spec.preemption_policy.as_deref(), &preemption);
}

/// Source: `validateSchedulingGates`, and `ValidatePodCreate` for the node.
fn gates(errs: &mut Errors, spec: &PodSpec, path: &str) {
    let mut seen = Set::new();
    for (i, gate) in spec.scheduling_gates.iter().flatten().enumerate() {
        let at = format!("{path}.schedulingGates[{i}]");
        check::qualified_name(errs, &at, &gate.name);
        if !seen.insert(&gate.name) {
            errs.push(FieldError::duplicate(at, &gate.name));
        }
    }
    let has_node = spec.node_name.as_deref().is_some_and(|name| !name.is_empty());
    if has_node && !seen.is_empty() {
        errs.push(FieldError::forbidden(
            format!("{path}.nodeName"),
            "cannot be set until all schedulingGates have been cleared",
        ));
    }
}

fn check_tolerations(errs: &mut Errors, tolerations: &[Toleration], path: &str) {
    for (i, toleration) in tolerations.iter().enumerate() {
        check_toleration(errs, toleration, &format!("{path}[{i}]"));
    }
}

fn check_toleration(errs: &mut Errors, toleration: &Toleration, path: &str) {
    let text = |t: &Option<String>| t.clone().unwrap_or_default();
    let (key, operator) = (text(&toleration.key), text(&toleration.operator));
    let (value, effect) = (text(&toleration.value), text(&toleration.effect));
    if !key.is_empty() {
        check::qualified_name(errs, &format!("{path}.key"), &key);
    } else if operator != "Exists" {
        let why = "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
        errs.push(FieldError::invalid(format!("{path}.operator"), &operator, why));
    }
    if toleration.toleration_seconds.is_some() && effect != "NoExecute" {
        let why = "effect must be 'NoExecute' when `tolerationSeconds` is set";
        errs.push(FieldError::invalid(format!("{path}.effect"), &effect, why));
    }
    let at = format!("{path}.operator");
    match operator.as_str() {
        "" | "Equal" => {
            let wrong = names::label_value(&value);
            if !wrong.is_empty() {
                errs.push(FieldError::invalid(at, &value, wrong.join(";")));
            }
        }
        "Exists" if value.is_empty() => {}
        "Exists" => errs.push(FieldError::invalid(at, &value, "value must be empty when `operator` is 'Exists'")),
        other => errs.push(FieldError::not_supported(at, other, &["Equal", "Exists"])),
    }
    if !effect.is_empty() {
        check::one_of(errs, format!("{path}.effect"), Some(&effect), &EFFECTS);
    }
}

/// Checks a node's taints.
pub(in crate::api::kinds) fn check_taints(errs: &mut Errors, taints: &[Taint], path: &str) {
    let mut taken = Set::new();
    for (i, taint) in taints.iter().enumerate() {
        let at = format!("{path}[{i}]");
        check::qualified_name(errs, &format!("{at}.key"), &taint.key);
        let wrong = names::label_value(taint.value.as_deref().unwrap_or_default());
        if !wrong.is_empty() {
            errs.push(FieldError::invalid(format!("{at}.value"), &taint.value, wrong.join(";")));
        }
        check::one_of(errs, format!("{at}.effect"), Some(&taint.effect), &EFFECTS);
        if !taken.insert((&taint.key, &taint.effect)) {
            let mut duplicate = FieldError::duplicate(at, taint);
            "taints must be unique by key and effect pair".clone_into(&mut duplicate.detail);
            errs.push(duplicate);
        }
    }
}

fn node_affinity(errs: &mut Errors, affinity: &NodeAffinity, path: &str) {
    if let Some(required) = &affinity.required_during_scheduling_ignored_during_execution {
        node_selector(errs, required, &format!("{path}.requiredDuringSchedulingIgnoredDuringExecution"));
    }
    let at = format!("{path}.preferredDuringSchedulingIgnoredDuringExecution");
    for (i, term) in affinity.preferred_during_scheduling_ignored_during_execution.iter().flatten().enumerate() {
        weight(errs, term.weight, &format!("{at}[{i}].weight"));
        node_selector_term(errs, &term.preference, &format!("{at}[{i}].preference"));
    }
}

/// Which nodes something needs.
pub(in crate::api::kinds) fn node_selector(errs: &mut Errors, selector: &NodeSelector, path: &str) {
    let at = format!("{path}.nodeSelectorTerms");
    if selector.node_selector_terms.is_empty() {
        errs.push(FieldError::required(&at, "must have at least one node selector term"));
    }
    for (i, term) in selector.node_selector_terms.iter().enumerate() {
        node_selector_term(errs, term, &format!("{at}[{i}]"));
    }
}

fn weight(errs: &mut Errors, weight: i32, path: &str) {
    if !(1..=100).contains(&weight) {
        errs.push(FieldError::invalid(path, weight, "must be in the range 1-100"));
    }
}

fn node_selector_term(errs: &mut Errors, term: &NodeSelectorTerm, path: &str) {
    for (i, requirement) in term.match_expressions.iter().flatten().enumerate() {
        node_requirement(errs, requirement, &format!("{path}.matchExpressions[{i}]"));
    }
    for (i, requirement) in term.match_fields.iter().flatten().enumerate() {
        node_field(errs, requirement, &format!("{path}.matchFields[{i}]"));
    }
}

fn node_requirement(errs: &mut Errors, requirement: &NodeSelectorRequirement, path: &str) {
    let values = requirement.values.as_deref().unwrap_or_default();
    let at = format!("{path}.values");
    match requirement.operator.as_str() {
        "In" | "NotIn" if values.is_empty() => {
            errs.push(FieldError::required(at, "must be specified when `operator` is 'In' or 'NotIn'"));
        }
        "Exists" | "DoesNotExist" if !values.is_empty() => {
            let why = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
            errs.push(FieldError::forbidden(at, why));
        }
        "Gt" | "Lt" if values.len() != 1 => {
            errs.push(FieldError::required(at, "must be specified single value when `operator` is 'Lt' or 'Gt'"));
        }
        "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt" => {}
        other => errs.push(FieldError::invalid(format!("{path}.operator"), other, "not a valid selector operator")),
    }
    check::qualified_name(errs, &format!("{path}.key"), &requirement.key);
    for (i, value) in values.iter().enumerate() {
        check::each(errs, &format!("{path}.values[{i}]"), value, names::label_value(value));
    }
}

fn node_field(errs: &mut Errors, requirement: &NodeSelectorRequirement, path: &str) {
    let values = requirement.values.as_deref().unwrap_or_default();
    match requirement.operator.as_str() {
        "In" | "NotIn" if values.len() == 1 => {}
        "In" | "NotIn" => {
            let why = "must be only one value when `operator` is 'In' or 'NotIn' for node field selector";
            errs.push(FieldError::required(format!("{path}.values"), why));
        }
        other => errs.push(FieldError::invalid(format!("{path}.operator"), other, "not a valid selector operator")),
    }
    if requirement.key != "metadata.name" {
        let why = "not a valid field selector key";
        errs.push(FieldError::invalid(format!("{path}.key"), &requirement.key, why));
    }
}

fn pod_affinity(
    errs: &mut Errors,
    required: Option<&[PodAffinityTerm]>,
    preferred: Option<&[WeightedPodAffinityTerm]>,
    path: &str,
) {
    for (i, term) in required.unwrap_or_default().iter().enumerate() {
        affinity_term(errs, term, &format!("{path}.requiredDuringSchedulingIgnoredDuringExecution[{i}]"));
    }
    for (i, term) in preferred.unwrap_or_default().iter().enumerate() {
        let at = format!("{path}.preferredDuringSchedulingIgnoredDuringExecution[{i}]");
        weight(errs, term.weight, &format!("{at}.weight"));
        affinity_term(errs, &term.pod_affinity_term, &format!("{at}.podAffinityTerm"));
    }
}

fn affinity_term(errs: &mut Errors, term: &PodAffinityTerm, path: &str) {
    selector(errs, term.label_selector.as_ref(), &format!("{path}.labelSelector"));
    selector(errs, term.namespace_selector.as_ref(), &format!("{path}.namespaceSelector"));
    for (i, namespace) in term.namespaces.iter().flatten().enumerate() {
        check::label(errs, &format!("{path}.namespaces[{i}]"), namespace);
    }
    let at = format!("{path}.topologyKey");
    if term.topology_key.is_empty() {
        errs.push(FieldError::required(&at, "can not be empty"));
    }
    check::qualified_name(errs, &at, &term.topology_key);
}

fn selector(errs: &mut Errors, selector: Option<&LabelSelector>, path: &str) {
    errs.extend(selector.into_iter().flat_map(|s| names::check_label_selector(s, path)));
}

fn spread_constraints(errs: &mut Errors, constraints: &[TopologySpreadConstraint], path: &str) {
    let pair = |c: &TopologySpreadConstraint| (c.topology_key.clone(), c.when_unsatisfiable.clone());
    let last: Map<_, usize> = constraints.iter().map(pair).zip(0..).collect();
    for (i, constraint) in constraints.iter().enumerate() {
        let at = format!("{path}[{i}]");
        if constraint.max_skew <= 0 {
            errs.push(FieldError::invalid(format!("{at}.maxSkew"), constraint.max_skew, "must be greater than zero"));
        }
        if constraint.topology_key.is_empty() {
            errs.push(FieldError::required(format!("{at}.topologyKey"), "can not be empty"));
        }
        let actions = ["DoNotSchedule", "ScheduleAnyway"];
        if !actions.contains(&constraint.when_unsatisfiable.as_str()) {
            let at = format!("{at}.whenUnsatisfiable");
            errs.push(FieldError::not_supported(at, &constraint.when_unsatisfiable, &actions));
        }
        if last.get(&pair(constraint)).is_some_and(|last| *last > i) {
            let (key, action) = pair(constraint);
            let at = format!("{at}.{{topologyKey, whenUnsatisfiable}}");
            errs.push(FieldError::duplicate(at, format!("{{{key}, {action}}}")));
        }
        selector(errs, constraint.label_selector.as_ref(), &format!("{at}.labelSelector"));
    }
}
