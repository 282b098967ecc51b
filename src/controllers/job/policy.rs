//! What a job's policies say of pods that failed, and of indexes that succeeded.
//!
//! **Source**: `pkg/controller/job/{pod_failure_policy,success_policy}.go`, v1.37.

use super::indexes::Indexes;
use k8s_openapi::api::{
    batch::v1::{
        PodFailurePolicy, PodFailurePolicyOnExitCodesRequirement as OnExitCodes,
        PodFailurePolicyOnPodConditionsPattern as OnCondition, PodFailurePolicyRule as Rule, SuccessPolicy,
    },
    core::v1::{ContainerStatus, Pod, PodStatus},
};

/// What a failed pod means to its job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It counts towards the back-off limit.
    Count,
    /// It does not count.
    Ignore,
    /// Its index has failed for good.
    FailIndex,
    /// The whole job has failed, with this message.
    FailJob(String),
}

/// What the first rule that matches says; a pod that none matches counts.
pub(super) fn verdict(policy: Option<&PodFailurePolicy>, pod: &Pod) -> Verdict {
    let Some(status) = &pod.status else { return Verdict::Count };
    let rules = policy.map_or(&[][..], |policy| &policy.rules);
    let matched = rules.iter().enumerate().find_map(|(i, rule)| Some((i, rule, cause(rule, pod, status)?)));
    match matched {
        Some((_, rule, _)) if rule.action == "Ignore" => Verdict::Ignore,
        Some((_, rule, _)) if rule.action == "FailIndex" => Verdict::FailIndex,
        Some((i, rule, cause)) if rule.action == "FailJob" => {
            Verdict::FailJob(format!("{cause} matching {} rule at index {i}", rule.action))
        }
        Some(_) | None => Verdict::Count,
    }
}

/// How a pod fits a rule, as the beginning of a sentence.
fn cause(rule: &Rule, pod: &Pod, status: &PodStatus) -> Option<String> {
    let name = |meta: Option<&String>| meta.cloned().unwrap_or_default();
    let (namespace, name) = (name(pod.metadata.namespace.as_ref()), name(pod.metadata.name.as_ref()));
    if let Some(wanted) = &rule.on_exit_codes {
        let (container, code) = exit_that_fits(status, wanted)?;
        return Some(format!("Container {container} for pod {namespace}/{name} failed with exit code {code}"));
    }
    let fits = |pattern: &OnCondition| {
        let wanted = pattern.status.as_deref().unwrap_or("True");
        status.conditions.iter().flatten().any(|c| c.type_ == pattern.type_ && c.status == wanted)
    };
    let pattern = rule.on_pod_conditions.iter().flatten().find(|pattern| fits(pattern))?;
    Some(format!("Pod {namespace}/{name} has condition {}", pattern.type_))
}

fn exit_that_fits<'a>(status: &'a PodStatus, wanted: &OnExitCodes) -> Option<(&'a str, i32)> {
    let containers = status.container_statuses.iter().flatten();
    let all = containers.chain(status.init_container_statuses.iter().flatten());
    all.filter(|c| wanted.container_name.as_ref().is_none_or(|name| *name == c.name))
        .filter_map(|c: &ContainerStatus| Some((c.name.as_str(), c.state.as_ref()?.terminated.as_ref()?.exit_code)))
        .find(|(_, code)| *code != 0 && wanted.values.contains(code) == (wanted.operator == "In"))
}

/// The number of the first rule by which these succeeded indexes are enough.
pub(super) fn success_rule(policy: Option<&SuccessPolicy>, succeeded: &Indexes, completions: i32) -> Option<usize> {
    if succeeded.len() == 0 {
        return None;
    }
    policy?.rules.iter().position(|rule| match (&rule.succeeded_indexes, rule.succeeded_count) {
        (None, count) => count.is_some_and(|count| succeeded.len() >= count),
        (Some(text), count) => {
            let wanted = Indexes::parse(text, completions);
            wanted.len() > 0 && succeeded.shared_with(&wanted) >= count.unwrap_or(wanted.len())
        }
    })
}
