//! What is accepted in a pod spec though it has no effect here.

use super::support;
use crate::{
    api::{kinds::part, pod_state::is_sidecar},
    base::ordered::Set,
};
use k8s_openapi::api::core::v1::{Container, PodSpec};

/// The warnings for the spec at `path`.
pub(in crate::api::kinds) fn warnings(spec: &PodSpec, path: &str) -> Vec<String> {
    let mut warnings = Vec::new();
    let mut say = |field: &str, why: &str| warnings.push(format!("{path}.{field}: {why}"));
    pod(spec, &mut say);
    for (i, container) in spec.containers.iter().enumerate() {
        self::container(container, &format!("containers[{i}]"), &mut say);
    }
    for (i, container) in spec.init_containers.iter().flatten().enumerate() {
        self::container(container, &format!("initContainers[{i}]"), &mut say);
    }
    warnings
}

fn pod(spec: &PodSpec, say: &mut impl FnMut(&str, &str)) {
    if spec.affinity.is_some() {
        say("affinity", "has no effect: there is one node");
    }
    if spec.topology_spread_constraints.as_ref().is_some_and(|c| !c.is_empty()) {
        say("topologySpreadConstraints", "has no effect: there is one node");
    }
    let limits = spec.resources.as_ref().and_then(|resources| resources.limits.as_ref());
    let sidecars = spec.init_containers.iter().flatten().filter(|container| is_sidecar(container));
    if limits.is_some_and(|limits| !limits.is_empty()) && spec.containers.len() + sidecars.count() > 1 {
        say("resources.limits", "is kept by each container, not by all together: Docker has no group for a pod");
    }
    let context = part(&spec.security_context);
    if context.fs_group.is_some() && !support::GROUPS {
        say("securityContext.fsGroup", "has no effect yet: volumes are writable by every user");
    }
    if context.se_linux_options.is_some() {
        say("securityContext.seLinuxOptions", "has no effect");
    }
    if context.se_linux_change_policy.is_some() {
        say("securityContext.seLinuxChangePolicy", "has no effect");
    }
    for (i, volume) in spec.volumes.iter().flatten().enumerate() {
        let limit = volume.empty_dir.as_ref().filter(|e| e.medium.as_deref() != Some("Memory"));
        if limit.is_some_and(|e| e.size_limit.is_some()) {
            say(&format!("volumes[{i}].emptyDir.sizeLimit"), "is enforced only for the medium Memory");
        }
    }
}

fn container(container: &Container, path: &str, say: &mut impl FnMut(&str, &str)) {
    let resources = part(&container.resources);
    for (list, amounts) in [("limits", &resources.limits), ("requests", &resources.requests)] {
        if amounts.as_ref().is_some_and(|a| a.contains_key("ephemeral-storage")) {
            say(&format!("{path}.resources.{list}[ephemeral-storage]"), "is not enforced");
        }
    }
    if container.security_context.as_ref().is_some_and(|c| c.se_linux_options.is_some()) {
        say(&format!("{path}.securityContext.seLinuxOptions"), "has no effect");
    }
    let mut names = Set::new();
    for (i, name) in container.env.iter().flatten().map(|e| &e.name).enumerate() {
        if !names.insert(name) {
            let why = format!("hides previous definition of {name:?}, which may be dropped when using apply");
            say(&format!("{path}.env[{i}]"), &why);
        }
    }
}
