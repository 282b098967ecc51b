//! Security contexts of pods and containers: users, groups, profiles, privileges.

use super::{not_yet, support, volumes::descending_path};
use crate::{
    api::{
        field::FieldError,
        kinds::check::{self, Errors},
        names,
    },
    base::ordered::Set,
};
use k8s_openapi::api::core::v1::{
    AppArmorProfile, Container, PodSecurityContext, PodSpec, SeccompProfile, SecurityContext, Sysctl,
};

/// Checks what concerns the whole pod.
pub(super) fn validate_pod(errs: &mut Errors, spec: &PodSpec, spec_path: &str) {
    let path = format!("{spec_path}.securityContext");
    if spec.share_process_namespace == Some(true) && spec.host_pid == Some(true) {
        errs.push(FieldError::invalid(
            format!("{path}.shareProcessNamespace"),
            true,
            "ShareProcessNamespace and HostPID cannot both be enabled",
        ));
    }
    let Some(context) = &spec.security_context else { return };
    let ids = [("fsGroup", context.fs_group), ("runAsUser", context.run_as_user), ("runAsGroup", context.run_as_group)];
    for (field, id) in ids {
        check_id(errs, &format!("{path}.{field}"), id);
    }
    for (i, group) in context.supplemental_groups.iter().flatten().enumerate() {
        check_id(errs, &format!("{path}.supplementalGroups[{i}]"), Some(*group));
    }
    seccomp(errs, context.seccomp_profile.as_ref(), &format!("{path}.seccompProfile"));
    app_armor(errs, context.app_armor_profile.as_ref(), &format!("{path}.appArmorProfile"));
    pod_policies(errs, context, &path);
    sysctls(errs, spec, context.sysctls.as_deref().unwrap_or_default(), &format!("{path}.sysctls"));
    pod_unsupported(errs, context, &path);
}

fn pod_policies(errs: &mut Errors, context: &PodSecurityContext, path: &str) {
    let policies = [
        ("fsGroupChangePolicy", &context.fs_group_change_policy, ["Always", "OnRootMismatch"]),
        ("supplementalGroupsPolicy", &context.supplemental_groups_policy, ["Merge", "Strict"]),
        ("seLinuxChangePolicy", &context.se_linux_change_policy, ["MountOption", "Recursive"]),
    ];
    for (field, value, supported) in policies {
        check::maybe_one_of(errs, format!("{path}.{field}"), value.as_deref(), &supported);
    }
}

fn pod_unsupported(errs: &mut Errors, context: &PodSecurityContext, path: &str) {
    let groups = context.supplemental_groups.as_ref().is_some_and(|g| !g.is_empty());
    let given = [
        ("supplementalGroups", groups && !support::GROUPS, "supplemental groups"),
        (
            "supplementalGroupsPolicy",
            context.supplemental_groups_policy.as_deref() == Some("Strict"),
            "the policy Strict",
        ),
    ];
    for (field, _, what) in given.into_iter().filter(|(_, is_given, _)| *is_given) {
        errs.push(FieldError::forbidden(format!("{path}.{field}"), not_yet(what)));
    }
    if context.windows_options.is_some() {
        no_windows(errs, path);
    }
}

/// The kernel's parameters that a pod has to itself, and that harm no other. Source: `SafeSysctlAllowlist`,
/// `pkg/kubelet/sysctl/safe_sysctls.go`.
const SAFE_SYSCTLS: [&str; 12] = [
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
];

/// Source: `validateSysctls`; what the kubelet refuses by `validateSysctl`, `pkg/kubelet/sysctl/allowlist.go`, is refused here.
fn sysctls(errs: &mut Errors, spec: &PodSpec, sysctls: &[Sysctl], path: &str) {
    let mut taken = Set::new();
    for (i, sysctl) in sysctls.iter().enumerate() {
        let at = format!("{path}[{i}].name");
        // Both ways of writing one are the same.
        let name = sysctl.name.replace('/', ".");
        if name.is_empty() {
            errs.push(FieldError::required(at, ""));
            continue;
        }
        if !SAFE_SYSCTLS.contains(&name.as_str()) {
            errs.push(FieldError::forbidden(
                at.clone(),
                format!("sysctl {name:?} is not safe: skiff allows safe ones only"),
            ));
        } else if spec.host_network == Some(true) && name.starts_with("net.") {
            errs.push(FieldError::invalid(at.clone(), &sysctl.name, "may not be specified when 'hostNetwork' is true"));
        } else if spec.host_ipc == Some(true) && name.starts_with("kernel.shm") {
            errs.push(FieldError::invalid(at.clone(), &sysctl.name, "may not be specified when 'hostIPC' is true"));
        }
        if !taken.insert(name) {
            errs.push(FieldError::duplicate(at, &sysctl.name));
        }
    }
}

fn no_windows(errs: &mut Errors, path: &str) {
    let why = "windows options cannot be set for a linux pod";
    errs.push(FieldError::forbidden(format!("{path}.windowsOptions"), why));
}

fn check_id(errs: &mut Errors, path: &str, id: Option<i64>) {
    let max = i64::from(i32::MAX);
    if let Some(id) = id.filter(|id| !(0..=max).contains(id)) {
        errs.push(FieldError::invalid(path, id, names::out_of_range(0, max)));
    }
}

/// Checks the security context of the container at `path`.
pub(super) fn validate_container(errs: &mut Errors, container: &Container, path: &str) {
    let Some(context) = &container.security_context else { return };
    let path = format!("{path}.securityContext");
    let ids = [("runAsUser", context.run_as_user), ("runAsGroup", context.run_as_group)];
    for (field, id) in ids {
        check_id(errs, &format!("{path}.{field}"), id);
    }
    proc_mount(errs, context, &path);
    seccomp(errs, context.seccomp_profile.as_ref(), &format!("{path}.seccompProfile"));
    app_armor(errs, context.app_armor_profile.as_ref(), &format!("{path}.appArmorProfile"));
    escalation(errs, context, &path);
    if context.windows_options.is_some() {
        no_windows(errs, &path);
    }
}

fn proc_mount(errs: &mut Errors, context: &SecurityContext, path: &str) {
    let at = format!("{path}.procMount");
    check::maybe_one_of(errs, at.clone(), context.proc_mount.as_deref(), &["Default", "Unmasked"]);
    if context.proc_mount.as_deref() == Some("Unmasked") {
        errs.push(FieldError::invalid(at, "Unmasked", "`hostUsers` must be false to use `Unmasked`"));
    }
}

fn escalation(errs: &mut Errors, context: &SecurityContext, path: &str) {
    if context.allow_privilege_escalation != Some(false) {
        return;
    }
    if context.privileged == Some(true) {
        let why = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true";
        errs.push(FieldError::invalid(path, context, why));
    }
    let added = context.capabilities.iter().flat_map(|c| c.add.iter().flatten());
    for _ in added.filter(|c| *c == "CAP_SYS_ADMIN") {
        let why = "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN";
        errs.push(FieldError::invalid(path, context, why));
    }
}

const PROFILES: [&str; 3] = ["Localhost", "RuntimeDefault", "Unconfined"];

fn seccomp(errs: &mut Errors, profile: Option<&SeccompProfile>, path: &str) {
    let Some(profile) = profile else { return };
    match profile.type_.as_str() {
        "" => errs.push(FieldError::required(format!("{path}.type"), "type is required when seccompProfile is set")),
        known if PROFILES.contains(&known) => {}
        other => errs.push(FieldError::not_supported(format!("{path}.type"), other, &PROFILES)),
    }
    let at = format!("{path}.localhostProfile");
    match (profile.type_ == "Localhost", &profile.localhost_profile) {
        (true, None) => errs.push(FieldError::required(at, "must be set when seccomp type is Localhost")),
        (true, Some(file)) => descending_path(errs, file, &at),
        (false, Some(_)) => {
            errs.push(FieldError::invalid(at, profile, "can only be set when seccomp type is Localhost"));
        }
        (false, None) => {}
    }
}

fn app_armor(errs: &mut Errors, profile: Option<&AppArmorProfile>, path: &str) {
    let Some(profile) = profile else { return };
    match profile.type_.as_str() {
        "" => errs.push(FieldError::required(format!("{path}.type"), "type is required when appArmorProfile is set")),
        known if PROFILES.contains(&known) => {}
        other => errs.push(FieldError::not_supported(format!("{path}.type"), other, &PROFILES)),
    }
    let at = format!("{path}.localhostProfile");
    match (profile.type_ == "Localhost", profile.localhost_profile.as_deref()) {
        (true, None | Some("")) => errs.push(FieldError::required(at, "must be set when AppArmor type is Localhost")),
        (true, Some(name)) if name.trim() != name => {
            errs.push(FieldError::invalid(at, name, "must not be padded with whitespace"));
        }
        (false, Some(name)) => {
            errs.push(FieldError::invalid(at, name, "can only be set when AppArmor type is Localhost"));
        }
        _ => {}
    }
}
