//! What a container asks for and may use. CPU and memory are supported; other resources are refused or, where harmless, warned of.

use super::not_yet;
use crate::api::{
    field::FieldError,
    kinds::check::{self, Errors},
    pod_resources::{Side, amounts, of_container, of_containers},
    quantity::Quantity,
};
use k8s_openapi::api::core::v1::{Container, PodSpec, ResourceRequirements};

const STANDARD: [&str; 3] = ["cpu", "memory", "ephemeral-storage"];

/// Checks `resources` and `resizePolicy` of the container at `path`.
pub(super) fn validate(errs: &mut Errors, container: &Container, path: &str) {
    if let Some(resources) = &container.resources {
        requirements(errs, resources, &format!("{path}.resources"));
    }
    for (i, policy) in container.resize_policy.iter().flatten().enumerate() {
        let at = format!("{path}.resizePolicy");
        check::one_of(errs, at.clone(), Some(&policy.resource_name), &["cpu", "memory"]);
        check::one_of(errs, at.clone(), Some(&policy.restart_policy), &["NotRequired", "RestartContainer"]);
        let is_repeated =
            container.resize_policy.iter().flatten().take(i).any(|p| p.resource_name == policy.resource_name);
        if is_repeated {
            errs.push(FieldError::duplicate(format!("{at}[{i}]"), &policy.resource_name));
        }
    }
}

/// What the pod as a whole may say of itself. Source: `IsSupportedPodLevelResource`, k8s.io/component-helpers/resource, v1.37.
const OF_PODS: [&str; 3] = ["cpu", "hugepages-", "memory"];

/// Checks the resources of the pod as a whole, and those of its containers against them. Source: `validatePodResources`.
pub(super) fn validate_pod(errs: &mut Errors, spec: &PodSpec, path: &str) {
    let Some(resources) = &spec.resources else { return };
    let at = format!("{path}.resources");
    if resources.claims.as_ref().is_some_and(|c| !c.is_empty()) {
        errs.push(FieldError::forbidden(format!("{at}.claims"), "claims may not be set for pod-level resources"));
    }
    let mut known = ResourceRequirements { claims: None, ..resources.clone() };
    for (list, amounts) in [("limits", &mut known.limits), ("requests", &mut known.requests)] {
        for name in amounts.iter().flat_map(|amounts| amounts.keys()) {
            let at = format!("{at}.{list}[{name}]");
            match name.as_str() {
                "cpu" | "memory" => {}
                pages if pages.starts_with("hugepages-") => {
                    errs.push(FieldError::forbidden(at, not_yet("this resource")));
                }
                other => errs.push(FieldError::not_supported(at, other, &OF_PODS)),
            }
        }
        amounts.iter_mut().for_each(|amounts| amounts.retain(|name, _| name == "cpu" || name == "memory"));
    }
    requirements(errs, &known, &at);
    consistency(errs, spec, &known, path);
}

/// The containers together ask for no more than their pod, and none may use more. Source: `validatePodResourceConsistency`.
fn consistency(errs: &mut Errors, spec: &PodSpec, of_pod: &ResourceRequirements, path: &str) {
    let together = of_containers(spec, Side::Requests);
    for (name, request) in amounts(of_pod.requests.as_ref()) {
        if let Some(sum) = together.get(&name).filter(|sum| **sum > request) {
            let why = format!("must be greater than or equal to aggregate container requests of {sum}");
            errs.push(FieldError::invalid(format!("{path}.resources.requests[{name}]"), request.to_string(), why));
        }
    }
    let limits = amounts(of_pod.limits.as_ref());
    let init = spec.init_containers.iter().flatten();
    let lists = [("containers", spec.containers.iter().collect::<Vec<_>>()), ("initContainers", init.collect())];
    for (list, containers) in lists {
        for (i, container) in containers.into_iter().enumerate() {
            for (name, limit) in of_container(container, Side::Limits) {
                if let Some(most) = limits.get(&name).filter(|most| limit > **most) {
                    let why = format!("must be less than or equal to pod limits of {most}");
                    let at = format!("{path}.{list}[{i}].resources.limits");
                    errs.push(FieldError::invalid(at, limit.to_string(), why));
                }
            }
        }
    }
}

/// A container that is never started again cannot be resized so. Source: `validateResizePolicy`.
pub(super) fn resize_policy(errs: &mut Errors, container: &Container, spec: &PodSpec, path: &str) {
    let restarts =
        container.resize_policy.iter().flatten().filter(|policy| policy.restart_policy == "RestartContainer");
    if spec.restart_policy.as_deref() == Some("Never") {
        errs.extend(restarts.map(|policy| {
            let why = "must be 'NotRequired' when `restartPolicy` is 'Never'";
            FieldError::invalid(format!("{path}.resizePolicy"), &policy.restart_policy, why)
        }));
    }
}

/// Checks the amounts at `path`.
pub(in crate::api::kinds) fn requirements(errs: &mut Errors, resources: &ResourceRequirements, path: &str) {
    for (name, text) in resources.limits.iter().flatten() {
        amount(errs, name, text, &format!("{path}.limits[{name}]"));
    }
    for (name, text) in resources.requests.iter().flatten() {
        let request = amount(errs, name, text, &format!("{path}.requests[{name}]"));
        let limit = resources.limits.iter().flatten().find(|(n, _)| *n == name).and_then(|(_, l)| Quantity::of(l).ok());
        let (Some(request), Some(limit)) = (request, limit) else { continue };
        if request > limit {
            let why = format!("must be less than or equal to {name} limit of {limit}");
            errs.push(FieldError::invalid(format!("{path}.requests"), request.to_string(), why));
        }
    }
    if resources.claims.as_ref().is_some_and(|c| !c.is_empty()) {
        errs.push(FieldError::forbidden(format!("{path}.claims"), not_yet("resource claims")));
    }
}

type Text = k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// Checks a resource's name and amount.
fn amount(errs: &mut Errors, name: &str, text: &Text, path: &str) -> Option<Quantity> {
    resource_name(errs, name, path);
    match Quantity::of(text) {
        Ok(quantity) => {
            if quantity.is_negative() {
                errs.push(FieldError::invalid(path, text, "must be greater than or equal to 0"));
            }
            Some(quantity)
        }
        Err(why) => {
            errs.push(FieldError::invalid(path, text, why.to_string()));
            None
        }
    }
}

fn resource_name(errs: &mut Errors, name: &str, path: &str) {
    let before = errs.len();
    check::qualified_name(errs, path, name);
    if errs.len() > before || STANDARD.contains(&name) {
        return;
    }
    if name.contains('/') || name.starts_with("hugepages-") {
        errs.push(FieldError::forbidden(path, not_yet("this resource")));
    } else {
        errs.push(FieldError::invalid(path, name, "must be a standard resource type or fully qualified"));
        errs.push(FieldError::invalid(path, name, "must be a standard resource for containers"));
    }
}
