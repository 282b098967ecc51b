//! What may change in a pod's spec: images, a deadline that shrinks, tolerations that are added, and the node, once.
//!
//! **Source**: `ValidatePodUpdate` in `pkg/apis/core/validation/validation.go`, v1.37. There the node is set by a binding; here the
//! scheduler writes it.

use crate::api::{field::FieldError, kinds::check::Errors, names, object::untyped};
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, Toleration};
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeSet;

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

fn check_tolerations(errs: &mut Errors, new: &PodSpec, old: &PodSpec) {
    fn without_seconds(t: &Toleration) -> [Option<&str>; 4] {
        [&t.key, &t.operator, &t.value, &t.effect].map(Option::as_deref)
    }
    let kept: BTreeSet<_> = new.tolerations.iter().flatten().map(without_seconds).collect();
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
    let was_negative = old.termination_grace_period_seconds.is_some_and(|s| s < 0);
    if was_negative && spec.termination_grace_period_seconds == Some(1) {
        spec.termination_grace_period_seconds = old.termination_grace_period_seconds;
    }
    if old.node_name.as_deref().unwrap_or_default().is_empty() {
        spec.node_name.clone_from(&old.node_name);
    }
    spec
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
            keys.sort();
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
