//! The containers of a pod: names, images, ports, mounts; environment, handlers, resources and rights have files of their own.

use super::{
    env, handlers, not_yet, resources, security, support,
    volumes::{Names, descending_path, no_nul},
};
use crate::{
    api::{
        ephemeral::as_container,
        field::FieldError,
        kinds::check::{self, Errors},
        names, pod_state,
    },
    base::ordered::Set,
};
use k8s_openapi::api::core::v1::{
    Container, ContainerPort, EmptyDirVolumeSource, PodSpec, ResourceRequirements, Volume, VolumeMount,
};

/// Checks all containers of a spec.
pub(super) fn validate(errs: &mut Errors, spec: &PodSpec, path: &str, volumes: &Names<'_>) {
    let mut taken = Set::new();
    regular(errs, spec, &format!("{path}.containers"), volumes, &mut taken);
    init(errs, spec, &format!("{path}.initContainers"), volumes, &mut taken);
    ephemeral(errs, spec, &format!("{path}.ephemeralContainers"), volumes, &mut taken);
}

/// A Pod's images have no space around them; a template's may, because some fill them in later.
pub(super) fn validate_images(errs: &mut Errors, spec: &PodSpec, path: &str) {
    for (list, containers) in lists(spec) {
        for (i, container) in containers.iter().enumerate() {
            check_image_space(errs, container, &format!("{path}.{list}[{i}]"));
        }
    }
}

fn check_image_space(errs: &mut Errors, container: &Container, path: &str) {
    let image = container.image.as_deref().unwrap_or_default();
    if image.trim() != image {
        errs.push(FieldError::invalid(format!("{path}.image"), image, "must not have leading or trailing whitespace"));
    }
}

fn lists(spec: &PodSpec) -> [(&'static str, &[Container]); 2] {
    [("containers", &spec.containers), ("initContainers", spec.init_containers.as_deref().unwrap_or_default())]
}

fn regular<'a>(errs: &mut Errors, spec: &'a PodSpec, path: &str, volumes: &Names<'_>, taken: &mut Set<&'a str>) {
    if spec.containers.is_empty() {
        errs.push(FieldError::required(path, ""));
        return;
    }
    for (i, container) in spec.containers.iter().enumerate() {
        let at = format!("{path}[{i}]");
        common(errs, container, &at, volumes);
        resources::resize_policy(errs, container, spec, &at);
        if !taken.insert(&container.name) {
            errs.push(FieldError::duplicate(format!("{at}.name"), &container.name));
        }
        handlers::validate(errs, container, spec, &at);
        if container.restart_policy.is_some() {
            errs.push(FieldError::forbidden(format!("{at}.restartPolicy"), "may not be set for non-init containers"));
        }
    }
    host_port_conflicts(errs, &spec.containers, path);
}

fn init<'a>(errs: &mut Errors, spec: &'a PodSpec, path: &str, volumes: &Names<'_>, taken: &mut Set<&'a str>) {
    for (i, container) in spec.init_containers.iter().flatten().enumerate() {
        let at = format!("{path}[{i}]");
        common(errs, container, &at, volumes);
        check::maybe_one_of(errs, format!("{at}.restartPolicy"), container.restart_policy.as_deref(), &["Always"]);
        if !container.name.is_empty() && !taken.insert(&container.name) {
            errs.push(FieldError::duplicate(format!("{at}.name"), &container.name));
        }
        host_port_conflicts(errs, std::slice::from_ref(container), path);
        if !pod_state::is_sidecar(container) {
            init_may_not(errs, container, &at);
        } else if support::SIDECARS {
            handlers::validate(errs, container, spec, &at);
        } else {
            errs.push(FieldError::forbidden(format!("{at}.restartPolicy"), not_yet("sidecar containers")));
        }
    }
}

/// Source: `validateEphemeralContainers`.
fn ephemeral<'a>(errs: &mut Errors, spec: &'a PodSpec, path: &str, volumes: &Names<'_>, taken: &mut Set<&'a str>) {
    let others = taken.clone();
    for (i, ephemeral) in spec.ephemeral_containers.iter().flatten().enumerate() {
        let (at, container) = (format!("{path}[{i}]"), as_container(ephemeral));
        common(errs, &container, &at, volumes);
        check_image_space(errs, &container, &at);
        if !taken.insert(&ephemeral.name) {
            errs.push(FieldError::duplicate(format!("{at}.name"), &ephemeral.name));
        }
        let target = ephemeral.target_container_name.as_deref().filter(|name| !name.is_empty());
        if let Some(target) = target.filter(|name| !others.contains(name)) {
            errs.push(FieldError::not_found(format!("{at}.targetContainerName"), target));
        }
        ephemeral_may_not(errs, &container, &at);
    }
}

/// Nothing that a pod's work relies on is an ephemeral container's.
fn ephemeral_may_not(errs: &mut Errors, container: &Container, path: &str) {
    let resources = container.resources.as_ref();
    let given = [
        ("lifecycle", container.lifecycle.is_some()),
        ("livenessProbe", container.liveness_probe.is_some()),
        ("ports", container.ports.as_ref().is_some_and(|ports| !ports.is_empty())),
        ("readinessProbe", container.readiness_probe.is_some()),
        ("resizePolicy", container.resize_policy.as_ref().is_some_and(|policies| !policies.is_empty())),
        ("resources", resources.is_some_and(|r| *r != ResourceRequirements::default())),
        ("restartPolicy", container.restart_policy.is_some()),
        ("startupProbe", container.startup_probe.is_some()),
    ];
    let why = "cannot be set for an Ephemeral Container";
    for (field, _) in given.iter().filter(|(_, is_given)| *is_given) {
        errs.push(FieldError::forbidden(format!("{path}.{field}"), why));
    }
    for (i, mount) in container.volume_mounts.iter().flatten().enumerate() {
        for (field, part) in [("subPath", &mount.sub_path), ("subPathExpr", &mount.sub_path_expr)] {
            if part.as_deref().is_some_and(|part| !part.is_empty()) {
                errs.push(FieldError::forbidden(format!("{path}.volumeMounts[{i}].{field}"), why));
            }
        }
    }
}

fn init_may_not(errs: &mut Errors, container: &Container, path: &str) {
    let given = [
        ("lifecycle", container.lifecycle.is_some()),
        ("livenessProbe", container.liveness_probe.is_some()),
        ("readinessProbe", container.readiness_probe.is_some()),
        ("startupProbe", container.startup_probe.is_some()),
    ];
    let why = "may not be set for init containers without restartPolicy=Always";
    for (field, _) in given.iter().filter(|(_, is_given)| *is_given) {
        errs.push(FieldError::forbidden(format!("{path}.{field}"), why));
    }
}

/// What holds for every container. Source: `validateContainerCommon`.
fn common(errs: &mut Errors, container: &Container, path: &str, volumes: &Names<'_>) {
    let name_path = format!("{path}.name");
    match container.name.as_str() {
        "" => errs.push(FieldError::required(name_path, "")),
        name => check::label(errs, &name_path, name),
    }
    if container.image.as_deref().unwrap_or_default().is_empty() {
        errs.push(FieldError::required(format!("{path}.image"), ""));
    }
    let message_policies = ["File", "FallbackToLogsOnError"];
    let message_policy = container.termination_message_policy.as_deref();
    check::one_of(errs, format!("{path}.terminationMessagePolicy"), message_policy, &message_policies);
    ports(errs, container.ports.as_deref().unwrap_or_default(), &format!("{path}.ports"));
    env::validate(errs, container, path);
    mounts(errs, container, &format!("{path}.volumeMounts"), volumes);
    let pull_policies = ["Always", "IfNotPresent", "Never"];
    check::one_of(errs, format!("{path}.imagePullPolicy"), container.image_pull_policy.as_deref(), &pull_policies);
    resources::validate(errs, container, path);
    security::validate_container(errs, container, path);
    unsupported(errs, container, path);
}

fn unsupported(errs: &mut Errors, container: &Container, path: &str) {
    if container.volume_devices.as_ref().is_some_and(|d| !d.is_empty()) {
        errs.push(FieldError::forbidden(format!("{path}.volumeDevices"), not_yet("block devices")));
    }
    if container.restart_policy_rules.as_ref().is_some_and(|r| !r.is_empty()) {
        errs.push(FieldError::forbidden(format!("{path}.restartPolicyRules"), not_yet("restart rules of containers")));
    }
}

fn ports(errs: &mut Errors, ports: &[ContainerPort], path: &str) {
    let mut taken = Set::new();
    for (i, port) in ports.iter().enumerate() {
        let at = format!("{path}[{i}]");
        if let Some(name) = port.name.as_deref().filter(|n| !n.is_empty()) {
            let wrong = names::port_name(name);
            if wrong.is_empty() && !taken.insert(name) {
                errs.push(FieldError::duplicate(format!("{at}.name"), name));
            }
            check::each(errs, &format!("{at}.name"), name, wrong);
        }
        match port.container_port {
            0 => errs.push(FieldError::required(format!("{at}.containerPort"), "")),
            number => check::port_number(errs, &format!("{at}.containerPort"), number),
        }
        if let Some(number) = port.host_port.filter(|n| *n != 0) {
            check::port_number(errs, &format!("{at}.hostPort"), number);
        }
        if let Some(address) = port.host_ip.as_deref().filter(|ip| !ip.is_empty()) {
            // Upstream leaves this to the kubelet, where it fails again and again.
            check::ip(errs, &format!("{at}.hostIP"), address);
        }
        check::protocol(errs, format!("{at}.protocol"), port.protocol.as_deref());
    }
}

fn host_port_conflicts(errs: &mut Errors, containers: &[Container], path: &str) {
    let mut taken = Set::new();
    for (i, container) in containers.iter().enumerate() {
        for (j, port) in container.ports.iter().flatten().enumerate() {
            let Some(host_port) = port.host_port.filter(|n| *n != 0) else { continue };
            let protocol = port.protocol.as_deref().unwrap_or_default();
            let key = format!("{protocol}/{}/{host_port}", port.host_ip.as_deref().unwrap_or_default());
            if taken.contains(&key) {
                errs.push(FieldError::duplicate(format!("{path}[{i}].ports[{j}].hostPort"), &key));
            }
            taken.insert(key);
        }
    }
}

fn mounts(errs: &mut Errors, container: &Container, path: &str, volumes: &Names<'_>) {
    let mut taken = Set::new();
    for (i, mount) in container.volume_mounts.iter().flatten().enumerate() {
        let at = format!("{path}[{i}]");
        if mount.name.is_empty() {
            errs.push(FieldError::required(format!("{at}.name"), ""));
        }
        if !volumes.contains_key(mount.name.as_str()) {
            errs.push(FieldError::not_found(format!("{at}.name"), &mount.name));
        }
        if mount.mount_path.is_empty() {
            errs.push(FieldError::required(format!("{at}.mountPath"), ""));
        }
        if !taken.insert(mount.mount_path.as_str()) {
            errs.push(FieldError::invalid(format!("{at}.mountPath"), &mount.mount_path, "must be unique"));
        }
        no_nul(errs, &mount.mount_path, &format!("{at}.mountPath"));
        mount_options(errs, mount, &at);
        let parts = [("subPath", &mount.sub_path), ("subPathExpr", &mount.sub_path_expr)];
        for (field, part) in parts.into_iter().filter_map(|(f, p)| Some((f, p.as_deref()?))) {
            descending_path(errs, part, &format!("{path}.{field}"));
        }
        if let Some(mode) = mount.mount_propagation.as_deref() {
            propagation(errs, mode, container, &format!("{path}.mountPropagation"));
            let volume = volumes.get(mount.name.as_str()).copied();
            propagation_works(errs, mount, volume, &format!("{at}.mountPropagation"));
        }
    }
}

/// Source: `validateMountPropagation`.
fn propagation(errs: &mut Errors, mode: &str, container: &Container, path: &str) {
    check::one_of(errs, path, Some(mode), &["Bidirectional", "HostToContainer", "None"]);
    let context = container.security_context.as_ref();
    if mode == "Bidirectional" && context.and_then(|context| context.privileged) != Some(true) {
        let why = "Bidirectional mount propagation is available only to privileged containers";
        errs.push(FieldError::forbidden(path, why));
    }
}

/// The engine passes mounts on below a directory of its host, and not below volumes of its own. What a claim is, is not known here.
fn propagation_works(errs: &mut Errors, mount: &VolumeMount, volume: Option<&Volume>, path: &str) {
    let passes_on = matches!(mount.mount_propagation.as_deref(), Some("Bidirectional" | "HostToContainer"));
    let Some(volume) = volume.filter(|_| passes_on) else { return };
    let is_directory = |empty: &EmptyDirVolumeSource| empty.medium.as_deref().unwrap_or_default().is_empty();
    let may_be = volume.host_path.is_some()
        || volume.persistent_volume_claim.is_some()
        || volume.empty_dir.as_ref().is_some_and(is_directory);
    let has_sub_path = [&mount.sub_path, &mount.sub_path_expr].into_iter().flatten().any(|part| !part.is_empty());
    if !may_be {
        errs.push(FieldError::forbidden(path, not_yet("mount propagation of this volume source")));
    } else if has_sub_path {
        errs.push(FieldError::forbidden(path, not_yet("mount propagation of a part of a volume")));
    }
}

fn mount_options(errs: &mut Errors, mount: &VolumeMount, path: &str) {
    let is_set = |text: &Option<String>| text.as_deref().is_some_and(|t| !t.is_empty());
    if is_set(&mount.sub_path) && is_set(&mount.sub_path_expr) {
        errs.push(FieldError::invalid(
            format!("{path}.subPathExpr"),
            &mount.sub_path_expr,
            "subPathExpr and subPath are mutually exclusive",
        ));
    }
    let recursive = mount.recursive_read_only.as_deref() == Some("Enabled");
    let given = [
        ("subPath", is_set(&mount.sub_path) && !support::SUB_PATHS, "sub-paths of volumes"),
        ("subPathExpr", is_set(&mount.sub_path_expr) && !support::SUB_PATHS, "sub-paths of volumes"),
        ("recursiveReadOnly", recursive, "recursive read-only mounts"),
        ("bindMountOptions", mount.bind_mount_options.as_ref().is_some_and(|o| !o.is_empty()), "bind mount options"),
    ];
    for (field, _, what) in given.into_iter().filter(|(_, is_given, _)| *is_given) {
        errs.push(FieldError::forbidden(format!("{path}.{field}"), not_yet(what)));
    }
}
