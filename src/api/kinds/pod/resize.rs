//! The CPU and memory of containers that run: they change in place, and nothing else does with them.
//!
//! **Source**: `dropNonResizeUpdates` in `pkg/registry/core/pod/strategy.go`, `ValidatePodResize` in
//! `pkg/apis/core/validation/validation.go`, v1.37.

use super::update::differences;
use crate::api::{
    field::FieldError,
    kinds::{check::Errors, part},
    pod_resources::Side,
    pod_state::{self, qos_class},
};
use k8s_openapi::api::core::v1::{Container, ContainerStatus, Pod, PodSpec, ResourceRequirements};
use std::borrow::Cow;

/// What may change of a container's resources.
const RESIZABLE: [&str; 2] = ["cpu", "memory"];

/// The old spec with what the new one says of resources, container by container.
pub(super) fn apply(wanted: &PodSpec, old: Cow<'_, PodSpec>) -> PodSpec {
    let mut spec = old.into_owned();
    take_over(&wanted.containers, &mut spec.containers);
    take_over(
        wanted.init_containers.as_deref().unwrap_or_default(),
        spec.init_containers.as_deref_mut().unwrap_or_default(),
    );
    spec
}

fn take_over(wanted: &[Container], containers: &mut [Container]) {
    for container in containers {
        if let Some(wanted) = wanted.iter().find(|wanted| wanted.name == container.name) {
            container.resources.clone_from(&wanted.resources);
            container.resize_policy.clone_from(&wanted.resize_policy);
        }
    }
}

/// All that is wrong with a change.
pub(super) fn validate(new: &Pod, old: &Pod) -> Errors {
    let mut errs = Errors::new();
    let (spec, before) = (part(&new.spec), part(&old.spec));
    let class = old.status.as_ref().and_then(|s| s.qos_class.clone());
    if class.unwrap_or_else(|| qos_class(&before).to_owned()) != qos_class(&spec) {
        let why = "Pod QOS Class may not change as a result of resizing";
        errs.push(FieldError::invalid("spec", new.status.as_ref().and_then(|s| s.qos_class.clone()), why));
    }
    if !tells_resources(old) {
        errs.push(FieldError::forbidden("spec", "Pod running on node without support for resize"));
    }
    let inits = |spec: &PodSpec| spec.init_containers.clone().unwrap_or_default();
    for (i, (new, old)) in inits(&spec).iter().zip(&inits(&before)).enumerate() {
        let at = format!("spec.initContainers[{i}]");
        not_removed(&mut errs, new, old, &at);
        init_may(&mut errs, new, old, &at);
    }
    for (i, (new, old)) in spec.containers.iter().zip(&before.containers).enumerate() {
        not_removed(&mut errs, new, old, &format!("spec.containers[{i}]"));
        only_amounts(&mut errs, new, old, "spec", "only cpu and memory resources are mutable");
    }
    errs
}

/// Whether the agent of the pod's node tells what containers have, where one runs.
fn tells_resources(pod: &Pod) -> bool {
    let runs = |status: &&ContainerStatus| status.state.as_ref().is_some_and(|state| state.running.is_some());
    let statuses = pod.status.iter().flat_map(|s| s.container_statuses.iter().flatten());
    statuses.into_iter().find(runs).is_none_or(|status| status.resources.is_some())
}

fn init_may(errs: &mut Errors, new: &Container, old: &Container, path: &str) {
    only_amounts(errs, new, old, path, "only cpu and memory resources for init or sidecar containers are mutable");
    let restarts = new.resize_policy.iter().flatten().any(|policy| policy.restart_policy == "RestartContainer");
    if new != old && !pod_state::is_sidecar(new) && restarts {
        let why = "non-sidecar init containers with a resize policy of RestartContainer cannot be resized";
        errs.push(FieldError::forbidden(path, why));
    }
}

fn not_removed(errs: &mut Errors, new: &Container, old: &Container, path: &str) {
    let (now, before) = (part(&new.resources), part(&old.resources));
    for (field, side) in [("requests", Side::Requests), ("limits", Side::Limits)] {
        let has = |name: &String| side.of(&now).is_some_and(|amounts| amounts.contains_key(name));
        if !side.of(&before).into_iter().flatten().all(|(name, _)| has(name)) {
            let why = format!("resource {field} cannot be removed");
            errs.push(FieldError::forbidden(format!("{path}.resources.{field}"), why));
        }
    }
}

fn only_amounts(errs: &mut Errors, new: &Container, old: &Container, path: &str, why: &str) {
    let (now, before) = (part(&new.resources), part(&old.resources));
    let mut munged = now.into_owned();
    for side in [Side::Requests, Side::Limits] {
        put_back(side, &mut munged, &before);
    }
    let munged = Container { resources: Some(munged), ..new.clone() };
    let old = Container { resources: Some(before.into_owned()), ..old.clone() };
    if munged != old {
        errs.push(FieldError::forbidden(path, format!("{why}\n{}", differences(path, &old, &munged))));
    }
}

/// Puts the amounts that may change back to what they were.
fn put_back(side: Side, new: &mut ResourceRequirements, old: &ResourceRequirements) {
    let mut amounts = side.of(new).cloned().unwrap_or_default();
    let before = side.of(old).cloned().unwrap_or_default();
    amounts.retain(|name, _| !RESIZABLE.contains(&name.as_str()));
    amounts.extend(before.into_iter().filter(|(name, _)| RESIZABLE.contains(&name.as_str())));
    let is_there = side.of(old).is_some() || !amounts.is_empty();
    *side.of_mut(new) = is_there.then_some(amounts);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{
        kind::Kind as _,
        kinds::{
            pod::{Pods, RESIZE},
            testing::{created, lines},
        },
    };
    use expect_test::{Expect, expect};

    const WEB: &str = "
metadata: {name: web, namespace: default}
spec:
  initContainers:
  - {name: setup, image: bb, resources: {limits: {memory: 10Mi}}, resizePolicy: [{resourceName: memory, restartPolicy: RestartContainer}]}
  - {name: side, image: bb, restartPolicy: Always, resources: {limits: {memory: 20Mi}}}
  containers:
  - {name: web, image: nginx, resources: {requests: {cpu: 100m}, limits: {cpu: 200m}}}
";

    /// What is wrong with a write of `resize` that a merge of this makes of a container.
    fn check(container: &str, sent: &str, wrong: Expect) {
        let old: Pod = created::<Pods>(WEB);
        let mut new = old.clone();
        let sent: Container = crate::testing::from_yaml(sent).unwrap();
        let spec = new.spec.as_mut().unwrap();
        let all = spec.containers.iter_mut().chain(spec.init_containers.iter_mut().flatten());
        for c in all.filter(|c| c.name == container) {
            (c.resources, c.resize_policy) = (sent.resources.clone(), sent.resize_policy.clone());
            c.image = Some("dropped".into());
        }
        Pods::set_defaults(&mut new);
        Pods::prepare_facet(RESIZE, &mut new, &old);
        let mut errs = Pods::validate(&new);
        errs.extend(Pods::validate_facet(RESIZE, &new, &old));
        wrong.assert_eq(&lines(&errs));
    }

    #[test]
    fn amounts_change_and_are_not_removed() {
        check("web", "{name: web, resources: {requests: {cpu: 150m, memory: 1Mi}, limits: {cpu: '1'}}}", expect![""]);
        check("side", "{name: side, resources: {limits: {memory: 30Mi}, requests: {memory: 20Mi}}}", expect![""]);
        check(
            "web",
            "{name: web, resources: {requests: {cpu: 150m}}}",
            expect![[r#"
            spec.containers[0].resources.limits: Forbidden: resource limits cannot be removed
        "#]],
        );
        check("web", "{name: web, resources: {limits: {cpu: 200m}}}", expect![""]);
        check(
            "web",
            "{name: web, resources: {requests: {cpu: 300m}, limits: {cpu: 200m}}}",
            expect![[r#"
            spec.containers[0].resources.requests: Invalid value: "300m": must be less than or equal to cpu limit of 200m
        "#]],
        );
    }

    #[test]
    fn nothing_else_changes() {
        let more = "{name: web, resources: {requests: {cpu: 100m}, limits: {cpu: 200m, ephemeral-storage: 1Gi}}}";
        check(
            "web",
            more,
            expect![[r#"
            spec: Forbidden: only cpu and memory resources are mutable
            + spec.resources.limits.ephemeral-storage: "1Gi"
            + spec.resources.requests.ephemeral-storage: "1Gi"
        "#]],
        );
        let policy = "{name: web, resizePolicy: [{resourceName: cpu, restartPolicy: NotRequired}], \
                      resources: {requests: {cpu: 100m}, limits: {cpu: 200m}}}";
        check(
            "web",
            policy,
            expect![[r#"
            spec: Forbidden: only cpu and memory resources are mutable
            + spec.resizePolicy: [{"resourceName":"cpu","restartPolicy":"NotRequired"}]
        "#]],
        );
        let init = "{name: setup, resources: {limits: {memory: 20Mi}, requests: {memory: 10Mi}}, \
                    resizePolicy: [{resourceName: memory, restartPolicy: RestartContainer}]}";
        check(
            "setup",
            init,
            expect![[r#"
            spec.initContainers[0]: Forbidden: non-sidecar init containers with a resize policy of RestartContainer cannot be resized
        "#]],
        );
    }

    #[test]
    fn the_class_of_service_stays() {
        let old: Pod = created::<Pods>("{metadata: {name: web}, spec: {containers: [{name: web, image: nginx}]}}");
        let mut new = old.clone();
        let asked = crate::testing::from_yaml("{requests: {memory: 1Mi}}").unwrap();
        new.spec.as_mut().unwrap().containers[0].resources = Some(asked);
        expect![[r#"
            spec: Invalid value: "BestEffort": Pod QOS Class may not change as a result of resizing
        "#]]
        .assert_eq(&lines(&Pods::validate_facet(RESIZE, &new, &old)));
    }
}
