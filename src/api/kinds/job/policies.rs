//! What is wrong with a job's `podFailurePolicy` and `successPolicy`.
//!
//! **Source**: `validatePodFailurePolicy`, `validateSuccessPolicy` and `validateIndexesFormat`, pkg/apis/batch/validation/validation.go,
//! v1.37.

use super::spec::is_indexed;
use crate::api::{
    field::FieldError,
    kinds::{check, json::Errors},
};
use k8s_openapi::api::batch::v1::{
    JobSpec, PodFailurePolicy, PodFailurePolicyOnExitCodesRequirement as OnExitCodes,
    PodFailurePolicyOnPodConditionsPattern as OnCondition, PodFailurePolicyRule as FailureRule, SuccessPolicy,
    SuccessPolicyRule as SuccessRule,
};

const RULES_MAX: usize = 20;
const PATTERNS_MAX: usize = 20;
const EXIT_CODES_MAX: usize = 255;
const SUCCEEDED_INDEXES_BYTES_MAX: usize = 64 << 10;

const ACTIONS: &[&str] = &["Count", "FailIndex", "FailJob", "Ignore"];
const OPERATORS: &[&str] = &["In", "NotIn"];
const STATUSES: &[&str] = &["False", "True", "Unknown"];

/// What is wrong with the policies of the spec at `path`.
pub(super) fn check(errs: &mut Errors, spec: &JobSpec, path: &str) {
    if let Some(policy) = &spec.pod_failure_policy {
        failure_policy(errs, spec, policy, &format!("{path}.podFailurePolicy.rules"));
    }
    match &spec.success_policy {
        Some(policy) if is_indexed(spec) => {
            success_policy(errs, policy, spec.completions.unwrap_or(0), &format!("{path}.successPolicy.rules"));
        }
        Some(policy) => {
            let path = format!("{path}.successPolicy");
            errs.push(FieldError::invalid(path, policy, "requires indexed completion mode"));
        }
        None => {}
    }
}

/// A text that must be given and be one of these, which Kubernetes tells in Go's way where it is not given.
fn one_of(errs: &mut Errors, path: String, text: &str, supported: &[&str]) {
    if text.is_empty() {
        let quoted: Vec<String> = supported.iter().map(|text| format!("{text:?}")).collect();
        errs.push(FieldError::required(path, format!("valid values: [{}]", quoted.join(" "))));
    } else if !supported.contains(&text) {
        errs.push(FieldError::not_supported(path, text, supported));
    }
}

fn failure_policy(errs: &mut Errors, spec: &JobSpec, policy: &PodFailurePolicy, path: &str) {
    let rules = &policy.rules;
    if rules.len() > RULES_MAX {
        errs.push(FieldError::too_many(path, rules.len(), RULES_MAX));
    }
    let pod = spec.template.spec.as_ref();
    let containers = pod.into_iter().flat_map(|pod| pod.containers.iter().chain(pod.init_containers.iter().flatten()));
    let containers: Vec<&str> = containers.map(|container| container.name.as_str()).collect();
    for (i, rule) in rules.iter().enumerate() {
        failure_rule(errs, rule, spec.backoff_limit_per_index.is_some(), &containers, &format!("{path}[{i}]"));
    }
}

fn failure_rule(errs: &mut Errors, rule: &FailureRule, limits_indexes: bool, containers: &[&str], path: &str) {
    let action = format!("{path}.action");
    if rule.action == "FailIndex" && !limits_indexes {
        errs.push(FieldError::invalid(action, &rule.action, "requires the backoffLimitPerIndex to be set"));
    } else {
        one_of(errs, action, &rule.action, ACTIONS);
    }
    if let Some(wanted) = &rule.on_exit_codes {
        exit_codes(errs, wanted, containers, &format!("{path}.onExitCodes"));
    }
    let patterns = rule.on_pod_conditions.as_deref().unwrap_or_default();
    conditions(errs, patterns, &format!("{path}.onPodConditions"));
    match (&rule.on_exit_codes, patterns) {
        (Some(_), [_, ..]) => {
            let why = "specifying both OnExitCodes and OnPodConditions is not supported";
            errs.push(FieldError::invalid_whole(path, why));
        }
        (None, []) => {
            let why = "specifying one of OnExitCodes and OnPodConditions is required";
            errs.push(FieldError::invalid_whole(path, why));
        }
        _ => {}
    }
}

fn conditions(errs: &mut Errors, patterns: &[OnCondition], path: &str) {
    if patterns.len() > PATTERNS_MAX {
        errs.push(FieldError::too_many(path, patterns.len(), PATTERNS_MAX));
    }
    for (i, pattern) in patterns.iter().enumerate() {
        check::qualified_name(errs, &format!("{path}[{i}].type"), &pattern.type_);
        let status = pattern.status.as_deref().unwrap_or_default();
        one_of(errs, format!("{path}[{i}].status"), status, STATUSES);
    }
}

fn exit_codes(errs: &mut Errors, wanted: &OnExitCodes, containers: &[&str], path: &str) {
    one_of(errs, format!("{path}.operator"), &wanted.operator, OPERATORS);
    if let Some(name) = wanted.container_name.as_deref().filter(|name| !containers.contains(name)) {
        let why = "must be one of the container or initContainer names in the pod template";
        errs.push(FieldError::invalid(format!("{path}.containerName"), name, why));
    }
    let (codes, path) = (&wanted.values, format!("{path}.values"));
    if codes.is_empty() {
        errs.push(FieldError::invalid(&path, codes, "at least one value is required"));
    } else if codes.len() > EXIT_CODES_MAX {
        errs.push(FieldError::too_many(&path, codes.len(), EXIT_CODES_MAX));
    }
    for (i, code) in codes.iter().enumerate() {
        if wanted.operator == "In" && *code == 0 {
            errs.push(FieldError::invalid(format!("{path}[{i}]"), code, "must not be 0 for the In operator"));
        }
        if codes[..i].contains(code) {
            errs.push(FieldError::duplicate(format!("{path}[{i}]"), code));
        }
    }
    if !codes.is_sorted() {
        errs.push(FieldError::invalid(path, codes, "must be ordered"));
    }
}

fn success_policy(errs: &mut Errors, policy: &SuccessPolicy, completions: i32, path: &str) {
    if policy.rules.is_empty() {
        let why = "at least one rules must be specified when the successPolicy is specified";
        errs.push(FieldError::required(path, why));
    }
    if policy.rules.len() > RULES_MAX {
        errs.push(FieldError::too_many(path, policy.rules.len(), RULES_MAX));
    }
    for (i, rule) in policy.rules.iter().enumerate() {
        success_rule(errs, rule, completions, &format!("{path}[{i}]"));
    }
}

fn success_rule(errs: &mut Errors, rule: &SuccessRule, completions: i32, path: &str) {
    if rule.succeeded_count.is_none() && rule.succeeded_indexes.is_none() {
        let why = "at least one of succeededCount or succeededIndexes must be specified";
        errs.push(FieldError::required(path, why));
    }
    let mut n_indexes = 0;
    if let Some(text) = &rule.succeeded_indexes {
        let path = format!("{path}.succeededIndexes");
        if text.len() > SUCCEEDED_INDEXES_BYTES_MAX {
            errs.push(FieldError::too_long(&path, SUCCEEDED_INDEXES_BYTES_MAX));
        }
        match count_indexes(text, completions) {
            Ok(n) => n_indexes = n,
            Err(why) => errs.push(FieldError::invalid(path, text, format!("error parsing succeededIndexes: {why}"))),
        }
    }
    let Some(count) = rule.succeeded_count else { return };
    let path = format!("{path}.succeededCount");
    check::non_negative(errs, &path, Some(count));
    let mut at_most = |max: i64, of: &str| {
        if i64::from(count) > max {
            let why = format!("must be less than or equal to {max} (the number of {of})");
            errs.push(FieldError::invalid(&path, count, why));
        }
    };
    at_most(completions.into(), "specified completions");
    if rule.succeeded_indexes.is_some() {
        at_most(n_indexes, "indexes in the specified succeededIndexes field");
    }
}

/// How many indexes a text like `1,3-5` names.
///
/// # Errors
/// It is not that, in Kubernetes' words.
pub(super) fn count_indexes(text: &str, completions: i32) -> Result<i64, String> {
    let (mut last, mut n) = (None, 0);
    for interval in text.split(',').filter(|_| !text.is_empty()) {
        let (first, end) = interval_of(interval, completions)?;
        if let Some(last) = last.filter(|last| *last >= first) {
            return Err(format!("non-increasing order, previous: {last}, current: {first}"));
        }
        n += end - first + 1;
        last = Some(end);
    }
    Ok(n)
}

fn interval_of(text: &str, completions: i32) -> Result<(i64, i64), String> {
    let limits: Vec<&str> = text.split('-').collect();
    if limits.len() > 2 {
        return Err(format!(
            "the fragment {text:?} violates the requirement that an index interval can have at most two parts separated by '-'"
        ));
    }
    let number = |text: &str| {
        let number =
            text.parse::<i64>().map_err(|_why| format!("cannot convert string to integer for index: {text:?}"));
        let too_large = || format!("too large index: {text:?}");
        number.and_then(|n| if n >= completions.into() { Err(too_large()) } else { Ok(n) })
    };
    let first = number(limits[0])?;
    let Some(last) = limits.get(1) else { return Ok((first, first)) };
    let last = number(last)?;
    if first >= last {
        return Err(format!("non-increasing order, previous: {first}, current: {last}"));
    }
    Ok((first, last))
}

/// The first index that two texts share, where both can be read. Source: `validateFailedIndexesNotOverlapCompleted`.
pub(super) fn overlap(one: &str, other: &str, completions: i32) -> Option<i64> {
    let intervals = |text: &str| -> Vec<(i64, i64)> {
        text.split(',').filter_map(|interval| interval_of(interval, completions).ok()).collect()
    };
    let others = intervals(other);
    let shared = intervals(one).into_iter().flat_map(|(first, last)| {
        let meet = others.iter().filter(move |(f, l)| first <= *l && *f <= last);
        meet.map(move |(f, _)| first.max(*f)).collect::<Vec<_>>()
    });
    shared.min()
}
