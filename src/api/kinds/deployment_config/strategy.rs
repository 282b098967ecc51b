//! How a rollout of a DeploymentConfig is done: defaults and rules.

use super::{
    triggers::{self, IMAGE_STREAM_TAG},
    types::{
        CustomDeploymentStrategyParams as Custom, DeploymentStrategy, ExecNewPodHook, LifecycleHook,
        RecreateDeploymentStrategyParams as Recreate, RollingDeploymentStrategyParams as Rolling, TagImageHook,
    },
};
use crate::api::{
    field::FieldError,
    kinds::{
        check::{self, Errors},
        pod_spec,
    },
    names,
};
use k8s_openapi::{api::core::v1::Container, apimachinery::pkg::util::intstr::IntOrString};

/// Pods are replaced step by step.
pub const ROLLING: &str = "Rolling";
/// Old pods end before new ones start.
pub const RECREATE: &str = "Recreate";
/// The user's image does it.
pub const CUSTOM: &str = "Custom";

/// How many seconds a step may take, unless the user says otherwise.
const TIMEOUT_SECS: i64 = 600;
/// How many seconds a deployer pod may run, unless the user says otherwise.
const DEADLINE_SECS: i64 = 21600;
const PERCENT: &str = "25%";

impl DeploymentStrategy {
    /// How many seconds a step may take; for a custom deployer, how long it may take until there is one.
    pub fn timeout_secs(&self) -> i64 {
        let given = match &*self.type_ {
            ROLLING => self.rolling_params.as_ref().and_then(|p| p.timeout_seconds),
            RECREATE => self.recreate_params.as_ref().and_then(|p| p.timeout_seconds),
            _ => None,
        };
        given.unwrap_or(TIMEOUT_SECS)
    }

    /// How many seconds its deployer pod may run.
    pub fn deadline_secs(&self) -> i64 {
        self.active_deadline_seconds.unwrap_or(DEADLINE_SECS)
    }

    fn hooks_mut(&mut self) -> impl Iterator<Item = &mut LifecycleHook> {
        let rolling = self.rolling_params.iter_mut().flat_map(|p| [p.pre.as_mut(), p.post.as_mut()]);
        let recreate = self.recreate_params.iter_mut().flat_map(|p| [p.pre.as_mut(), p.mid.as_mut(), p.post.as_mut()]);
        rolling.chain(recreate).flatten()
    }
}

pub(super) fn set_defaults(strategy: &mut DeploymentStrategy, containers: &[Container]) {
    if strategy.type_.is_empty() {
        ROLLING.clone_into(&mut strategy.type_);
    }
    match &*strategy.type_ {
        ROLLING => rolling_defaults(strategy.rolling_params.get_or_insert_default()),
        RECREATE => {
            strategy.recreate_params.get_or_insert_default().timeout_seconds.get_or_insert(TIMEOUT_SECS);
        }
        _ => {}
    }
    strategy.active_deadline_seconds.get_or_insert(DEADLINE_SECS);
    // With a single container, it is clear which one is meant.
    if let [only] = containers {
        strategy.hooks_mut().for_each(|hook| hook_defaults(hook, &only.name));
    }
}

fn rolling_defaults(rolling: &mut Rolling) {
    rolling.update_period_seconds.get_or_insert(1);
    rolling.interval_seconds.get_or_insert(1);
    rolling.timeout_seconds.get_or_insert(TIMEOUT_SECS);
    let percent = || IntOrString::String(PERCENT.to_owned());
    // One that is given as nothing leaves the other its default; one that is given as something makes the other nothing.
    let other = |given: &IntOrString| if is_nothing(given) { percent() } else { IntOrString::Int(0) };
    let (unavailable, surge) = match (rolling.max_unavailable.take(), rolling.max_surge.take()) {
        (None, None) => (percent(), percent()),
        (None, Some(surge)) => (other(&surge), surge),
        (Some(unavailable), None) => {
            let surge = other(&unavailable);
            (unavailable, surge)
        }
        (Some(unavailable), Some(surge)) => (unavailable, surge),
    };
    rolling.max_unavailable = Some(unavailable);
    rolling.max_surge = Some(surge);
}

fn is_nothing(value: &IntOrString) -> bool {
    match value {
        IntOrString::Int(n) => *n == 0,
        IntOrString::String(text) => text == "0" || text == "0%",
    }
}

fn hook_defaults(hook: &mut LifecycleHook, container: &str) {
    let names = hook.tag_images.iter_mut().map(|tag| &mut tag.container_name);
    let names = names.chain(hook.exec_new_pod.as_mut().map(|exec| &mut exec.container_name));
    names.filter(|name| name.is_empty()).for_each(|name| container.clone_into(name));
}

pub(super) fn validate(errs: &mut Errors, strategy: &DeploymentStrategy, path: &str) {
    if let Some(custom) = &strategy.custom_params {
        pod_spec::check_env(errs, &custom.environment, &format!("{path}.customParams.environment"));
    }
    match &*strategy.type_ {
        ROLLING => rolling(errs, strategy.rolling_params.as_ref(), &format!("{path}.rollingParams")),
        RECREATE => recreate(errs, strategy.recreate_params.as_ref(), &format!("{path}.recreateParams")),
        CUSTOM => {
            if strategy.custom_params.as_ref().is_none_or(|custom| *custom == Custom::default()) {
                errs.push(FieldError::required(format!("{path}.customParams"), ""));
            }
        }
        "" => errs.push(FieldError::required(format!("{path}.type"), "")),
        other => {
            let why = "unsupported strategy type, use \"Custom\" instead and specify your own strategy";
            errs.push(FieldError::invalid(format!("{path}.type"), other, why));
        }
    }
    errs.extend(names::check_labels(&strategy.labels, &format!("{path}.labels")));
    errs.extend(names::check_annotations(&strategy.annotations, &format!("{path}.annotations")));
    pod_spec::check_resources(errs, &strategy.resources, &format!("{path}.resources"));
    if let Some(deadline) = strategy.active_deadline_seconds {
        let timeout = strategy.timeout_secs();
        if deadline <= timeout {
            let why = format!("must be greater than the deployment timeout ({timeout}s)");
            errs.push(FieldError::invalid(format!("{path}.activeDeadlineSeconds"), deadline, why));
        }
    }
}

fn rolling(errs: &mut Errors, params: Option<&Rolling>, path: &str) {
    let Some(params) = params else {
        errs.push(FieldError::required(path, ""));
        return;
    };
    positive(errs, &format!("{path}.intervalSeconds"), params.interval_seconds);
    positive(errs, &format!("{path}.updatePeriodSeconds"), params.update_period_seconds);
    positive(errs, &format!("{path}.timeoutSeconds"), params.timeout_seconds);
    let zero = IntOrString::Int(0);
    let unavailable = params.max_unavailable.as_ref().unwrap_or(&zero);
    let surge = params.max_surge.as_ref().unwrap_or(&zero);
    share(errs, &format!("{path}.maxUnavailable"), unavailable, Some(100));
    share(errs, &format!("{path}.maxSurge"), surge, None);
    if is_nothing(unavailable) && is_nothing(surge) {
        let why = "cannot be 0 when maxSurge is 0 as well";
        errs.push(FieldError::invalid(format!("{path}.maxUnavailable"), unavailable, why));
    }
    hook(errs, params.pre.as_ref(), &format!("{path}.pre"));
    hook(errs, params.post.as_ref(), &format!("{path}.post"));
}

fn recreate(errs: &mut Errors, params: Option<&Recreate>, path: &str) {
    let Some(params) = params else { return };
    positive(errs, &format!("{path}.timeoutSeconds"), params.timeout_seconds);
    for (name, given) in [("pre", &params.pre), ("mid", &params.mid), ("post", &params.post)] {
        hook(errs, given.as_ref(), &format!("{path}.{name}"));
    }
}

fn positive(errs: &mut Errors, path: &str, value: Option<i64>) {
    if let Some(value) = value.filter(|value| *value < 1) {
        errs.push(FieldError::invalid(path, value, "must be >0"));
    }
}

fn share(errs: &mut Errors, path: &str, value: &IntOrString, percent_max: Option<u32>) {
    match value {
        IntOrString::Int(n) => check::non_negative(errs, path, Some(*n)),
        IntOrString::String(text) => {
            let digits = text.strip_suffix('%').filter(|d| !d.is_empty() && d.bytes().all(|b| b.is_ascii_digit()));
            match (digits.map(|d| d.parse().unwrap_or(u32::MAX)), percent_max) {
                (None, _) => {
                    let why = "must be an integer or percentage (e.g '5%')";
                    errs.push(FieldError::invalid(path, text, why));
                }
                (Some(percent), Some(max)) if percent > max => {
                    errs.push(FieldError::invalid(path, text, "should not be more than 100%"));
                }
                _ => {}
            }
        }
    }
}

fn hook(errs: &mut Errors, hook: Option<&LifecycleHook>, path: &str) {
    let Some(hook) = hook else { return };
    if hook.failure_policy.is_empty() {
        errs.push(FieldError::required(format!("{path}.failurePolicy"), ""));
    }
    match (&hook.exec_new_pod, &hook.tag_images[..]) {
        (Some(_), [_, ..]) => {
            let why = "only one of 'execNewPod' or 'tagImages' may be specified";
            errs.push(FieldError::invalid(path, "<hook>", why));
        }
        (Some(exec), []) => exec_new_pod(errs, exec, &format!("{path}.execNewPod")),
        (None, []) => errs.push(FieldError::invalid(path, "<empty>", "you must specify 'execNewPod' or 'tagImages'")),
        (None, tags) => {
            tags.iter().enumerate().for_each(|(i, tag)| tag_image(errs, tag, &format!("{path}.tagImages[{i}]")));
        }
    }
}

fn exec_new_pod(errs: &mut Errors, exec: &ExecNewPodHook, path: &str) {
    if exec.command.is_empty() {
        errs.push(FieldError::required(format!("{path}.command"), ""));
    }
    if exec.container_name.is_empty() {
        errs.push(FieldError::required(format!("{path}.containerName"), ""));
    }
    pod_spec::check_env(errs, &exec.env, &format!("{path}.env"));
    for (i, _) in exec.volumes.iter().enumerate().filter(|(_, name)| name.is_empty()) {
        errs.push(FieldError::invalid(format!("{path}.volumes[{i}]"), "", "must not be empty"));
    }
}

fn tag_image(errs: &mut Errors, tag: &TagImageHook, path: &str) {
    if tag.container_name.is_empty() {
        errs.push(FieldError::required(format!("{path}.containerName"), "a containerName is required"));
    }
    let kind = tag.to.kind.as_deref().unwrap_or_default();
    if kind != IMAGE_STREAM_TAG {
        errs.push(FieldError::invalid(format!("{path}.to.kind"), kind, "must be 'ImageStreamTag'"));
    }
    match tag.to.name.as_deref().unwrap_or_default() {
        "" => errs.push(FieldError::required(format!("{path}.to.name"), "a destination tag name is required")),
        name => triggers::stream_tag(errs, &format!("{path}.to.name"), name),
    }
}
