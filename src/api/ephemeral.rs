//! Ephemeral containers as containers: what runs a container, checks it and tells of it reads both alike. Pure.
//!
//! **Source**: `EphemeralContainerCommon`, which is a container field by field, `pkg/apis/core/types.go`, v1.37.

use k8s_openapi::api::core::v1::{Container, EphemeralContainer, Pod, PodSpec};
use std::borrow::Cow;

/// Takes the fields that both have from one to the other.
macro_rules! same_fields {
    ($from:expr => $to:ident { $($more:tt)* }) => {{
        let from = $from;
        $to {
            args: from.args,
            command: from.command,
            env: from.env,
            env_from: from.env_from,
            image: from.image,
            image_pull_policy: from.image_pull_policy,
            lifecycle: from.lifecycle,
            liveness_probe: from.liveness_probe,
            name: from.name,
            ports: from.ports,
            readiness_probe: from.readiness_probe,
            resize_policy: from.resize_policy,
            resources: from.resources,
            restart_policy: from.restart_policy,
            restart_policy_rules: from.restart_policy_rules,
            security_context: from.security_context,
            startup_probe: from.startup_probe,
            stdin: from.stdin,
            stdin_once: from.stdin_once,
            termination_message_path: from.termination_message_path,
            termination_message_policy: from.termination_message_policy,
            tty: from.tty,
            volume_devices: from.volume_devices,
            volume_mounts: from.volume_mounts,
            working_dir: from.working_dir,
            $($more)*
        }
    }};
}

/// An ephemeral container as a container.
pub fn as_container(ephemeral: &EphemeralContainer) -> Container {
    same_fields!(ephemeral.clone() => Container {})
}

/// A container as an ephemeral one, which may look at the processes of another.
pub fn as_ephemeral(container: Container, target: Option<String>) -> EphemeralContainer {
    same_fields!(container => EphemeralContainer { target_container_name: target })
}

/// The ephemeral container of this name.
pub fn ephemeral_of<'a>(spec: &'a PodSpec, name: &str) -> Option<&'a EphemeralContainer> {
    spec.ephemeral_containers.iter().flatten().find(|c| c.name == name)
}

/// A container of whatever sort in its pod.
pub fn container_of<'a>(pod: &'a Pod, name: &str) -> Option<Cow<'a, Container>> {
    let spec = pod.spec.as_ref()?;
    let lasting = spec.containers.iter().chain(spec.init_containers.iter().flatten()).find(|c| c.name == name);
    lasting.map(Cow::Borrowed).or_else(|| ephemeral_of(spec, name).map(|c| Cow::Owned(as_container(c))))
}

#[cfg(test)]
mod tests {
    use super::*;

    const POD: &str = "
metadata: {name: web}
spec:
  containers: [{name: app, image: nginx}]
  initContainers: [{name: init, image: setup}]
  ephemeralContainers: [{name: debugger, image: bb, targetContainerName: app, stdin: true, workingDir: /tmp}]
";

    #[test]
    fn an_ephemeral_container_is_found_and_read_like_any_other() {
        let pod: Pod = crate::testing::from_yaml(POD).unwrap();
        let images = ["app", "init", "debugger", "none"].map(|name| container_of(&pod, name)?.image.clone());
        let want = [Some("nginx"), Some("setup"), Some("bb"), None];
        assert_eq!(images.each_ref().map(Option::as_deref), want);
        let spec = pod.spec.unwrap();
        let debugger = ephemeral_of(&spec, "debugger").unwrap();
        let again = as_ephemeral(as_container(debugger), debugger.target_container_name.clone());
        assert_eq!(again, *debugger);
    }
}
