//! What may change in a pod's spec: images, a deadline that shrinks, tolerations that are added, and the node, once.
//!
//! **Source**: `ValidatePodUpdate` in `pkg/apis/core/validation/validation.go`, v1.37. There the node is set by a binding; here the
//! scheduler writes it.

use crate::{
    api::{field::FieldError, kinds::check::Errors, names, object::untyped},
    base::ordered::{Set, SortList as _},
};
use k8s_openapi::api::core::v1::{
    Affinity, Container, NodeSelectorRequirement, NodeSelectorTerm, Pod, PodSpec, Toleration,
};
use serde::Serialize;
use serde_json::Value;

const MAY_CHANGE: &str = "pod updates may not change fields other than `spec.containers[*].image`,\
     `spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,\
     `spec.tolerations` (only additions to existing tolerations),\
     `spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

/// Whether a pod has its node.
pub(super) fn is_bound(pod: &Pod) -> bool {
    pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).is_some_and(|name| !name.is_empty())
}

/// Keeps what the cluster assigned when the pod was created, where an update leaves it out.
pub(super) fn keep_assigned(new: &mut PodSpec, old: &PodSpec) {
    new.priority = new.priority.or(old.priority);
    let texts = [
        (&mut new.preemption_policy, &old.preemption_policy),
        (&mut new.service_account_name, &old.service_account_name),
        (&mut new.service_account, &old.service_account),
    ];
    for (new, old) in texts {
        if new.is_none() {
            new.clone_from(old);
        }
    }
    super::add_tolerations(new);
}

/// All that is wrong with a change.
pub(super) fn validate(new: &PodSpec, old: &PodSpec) -> Errors {
    let mut errs = Errors::new();
    let init = |s: &PodSpec| s.init_containers.clone().unwrap_or_default();
    let same_length = same_containers(&mut errs, &new.containers, &old.containers, "spec.containers")
        && same_containers(&mut errs, &init(new), &init(old), "spec.initContainers");
    if !same_length || !check_deadline(&mut errs, new, old) {
        return errs;
    }
    check_tolerations(&mut errs, new, old);
    check_gates(&mut errs, new, old);
    let munged = munged(new, old);
    if munged != *old {
        let why = format!("{MAY_CHANGE}\n{}", differences("spec", old, &munged));
        errs.push(FieldError::forbidden("spec", why));
    }
    errs
}

fn same_containers(errs: &mut Errors, new: &[Container], old: &[Container], path: &str) -> bool {
    if new.len() != old.len() {
        errs.push(FieldError::forbidden(path, "pod updates may not add or remove containers"));
    }
    new.len() == old.len()
}

/// The deadline may be set, and may shrink. Returns whether the rest is worth checking.
fn check_deadline(errs: &mut Errors, new: &PodSpec, old: &PodSpec) -> bool {
    let at = "spec.activeDeadlineSeconds";
    let (Some(deadline), had) = (new.active_deadline_seconds, old.active_deadline_seconds) else {
        if old.active_deadline_seconds.is_some() {
            let why = "must not update from a positive integer to nil value";
            errs.push(FieldError::invalid(at, Value::Null, why));
        }
        return true;
    };
    let max = i64::from(i32::MAX);
    let why = match had {
        _ if !(0..=max).contains(&deadline) => names::out_of_range(0, max),
        Some(had) if had < deadline => "must be less than or equal to previous value".to_owned(),
        _ => return true,
    };
    errs.push(FieldError::invalid(at, deadline, why));
    false
}

fn is_gated(spec: &PodSpec) -> bool {
    spec.scheduling_gates.iter().flatten().next().is_some()
}

/// Gates may go. While there is one, the nodes that will do may become fewer. Source: `ValidatePodUpdate`,
/// `validateNodeSelectorMutation`, `validateNodeAffinityMutation`.
fn check_gates(errs: &mut Errors, new: &PodSpec, old: &PodSpec) {
    for gate in new.scheduling_gates.iter().flatten() {
        if !old.scheduling_gates.iter().flatten().any(|had| had.name == gate.name) {
            let why = format!("only deletion is allowed, but found new scheduling gate '{}'", gate.name);
            errs.push(FieldError::forbidden("spec.schedulingGates", why));
        }
    }
    if !is_gated(old) {
        return;
    }
    let selects = |spec: &PodSpec| spec.node_selector.clone().unwrap_or_default();
    let (now, before) = (selects(new), selects(old));
    if before.iter().any(|(key, value)| now.get(key) != Some(value)) {
        let why = "only additions to spec.nodeSelector are allowed (no mutations or deletions)";
        errs.push(FieldError::invalid("spec.nodeSelector", untyped(&now), why));
    }
    let (now, before) = (required_terms(new), required_terms(old));
    let at = "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms";
    if !before.is_empty() && now.len() != before.len() {
        let why = "no additions/deletions to non-empty NodeSelectorTerms list are allowed";
        errs.push(FieldError::invalid(at, untyped(&now), why));
        return;
    }
    for (i, (now, before)) in now.iter().zip(&before).enumerate() {
        let keeps = |now: &Option<Vec<NodeSelectorRequirement>>, before: &Option<Vec<NodeSelectorRequirement>>| {
            now.as_deref().unwrap_or_default().starts_with(before.as_deref().unwrap_or_default())
        };
        if !keeps(&now.match_expressions, &before.match_expressions) || !keeps(&now.match_fields, &before.match_fields)
        {
            let why = "only additions are allowed (no mutations or deletions)";
            errs.push(FieldError::invalid(format!("{at}[{i}]"), untyped(now), why));
        }
    }
}

fn required_terms(spec: &PodSpec) -> Vec<NodeSelectorTerm> {
    let affinity = spec.affinity.as_ref().and_then(|affinity| affinity.node_affinity.as_ref());
    let required = affinity.and_then(|nodes| nodes.required_during_scheduling_ignored_during_execution.as_ref());
    required.map(|selector| selector.node_selector_terms.clone()).unwrap_or_default()
}

fn check_tolerations(errs: &mut Errors, new: &PodSpec, old: &PodSpec) {
    fn without_seconds(t: &Toleration) -> [Option<&str>; 4] {
        [&t.key, &t.operator, &t.value, &t.effect].map(Option::as_deref)
    }
    let kept: Set<_> = new.tolerations.iter().flatten().map(without_seconds).collect();
    if old.tolerations.iter().flatten().any(|t| !kept.contains(&without_seconds(t))) {
        let why = "existing toleration can not be modified except its tolerationSeconds";
        errs.push(FieldError::forbidden("spec.tolerations", why));
    }
}

/// The new spec with all that may change put back.
fn munged(new: &PodSpec, old: &PodSpec) -> PodSpec {
    let mut spec = new.clone();
    let put_back = |new: &mut Container, old: &Container| new.image.clone_from(&old.image);
    spec.containers.iter_mut().zip(&old.containers).for_each(|(n, o)| put_back(n, o));
    let inits = spec.init_containers.iter_mut().flatten().zip(old.init_containers.iter().flatten());
    inits.for_each(|(n, o)| put_back(n, o));
    spec.active_deadline_seconds = old.active_deadline_seconds;
    spec.tolerations.clone_from(&old.tolerations);
    spec.scheduling_gates.clone_from(&old.scheduling_gates);
    if is_gated(old) {
        spec.node_selector.clone_from(&old.node_selector);
        put_back_node_affinity(&mut spec, old);
    }
    let was_negative = old.termination_grace_period_seconds.is_some_and(|s| s < 0);
    if was_negative && spec.termination_grace_period_seconds == Some(1) {
        spec.termination_grace_period_seconds = old.termination_grace_period_seconds;
    }
    if old.node_name.as_deref().unwrap_or_default().is_empty() {
        spec.node_name.clone_from(&old.node_name);
    }
    spec
}

/// Puts the affinity to nodes back, and leaves that to pods as it is.
fn put_back_node_affinity(spec: &mut PodSpec, old: &PodSpec) {
    let had = old.affinity.as_ref().and_then(|affinity| affinity.node_affinity.clone());
    if had.is_some() || spec.affinity.is_some() {
        spec.affinity.get_or_insert_default().node_affinity = had;
    }
    let is_empty = spec.affinity.as_ref().is_some_and(|affinity| *affinity == Affinity::default());
    if is_empty && old.affinity.is_none() {
        spec.affinity = None;
    }
}

/// One line for each place where two values at a path differ.
pub(super) fn differences<T: Serialize>(path: &str, old: &T, new: &T) -> String {
    let mut lines = Vec::new();
    compare(&mut lines, path, &untyped(old), &untyped(new));
    lines.join("\n")
}

fn compare(lines: &mut Vec<String>, path: &str, old: &Value, new: &Value) {
    match (old, new) {
        (Value::Object(a), Value::Object(b)) => {
            let mut keys: Vec<&String> = a.keys().chain(b.keys()).collect();
            keys.sort_list();
            keys.dedup();
            for key in keys {
                let part = |m: &serde_json::Map<String, Value>| m.get(key).cloned().unwrap_or(Value::Null);
                compare(lines, &format!("{path}.{key}"), &part(a), &part(b));
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (i, (a, b)) in a.iter().zip(b).enumerate() {
                compare(lines, &format!("{path}[{i}]"), a, b);
            }
        }
        (a, b) if a == b => {}
        (a, b) => {
            for (sign, value) in [('-', a), ('+', b)] {
                if !value.is_null() {
                    lines.push(format!("{sign} {path}: {value}"));
                }
            }
        }
    }
}
