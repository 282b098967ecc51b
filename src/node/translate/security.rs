//! Security contexts: users, groups, capabilities. Pure.
//! **Source**: `pkg/kubelet/kuberuntime/security_context.go` `verifyRunAsNonRoot`, `pkg/securitycontext/util.go`, v1.37.

use super::ConfigError;
use crate::{engine::Image, node::lifecycle::go_pod_name};
use k8s_openapi::api::core::v1::{Capabilities, Container, Pod, PodSpec, SeccompProfile, SecurityContext};

/// `UID[:GID]`; empty: the image's.
pub(super) fn user(pod: &PodSpec, spec: &Container, image: &Image) -> String {
    let (of_container, of_pod) = (spec.security_context.as_ref(), pod.security_context.as_ref());
    let uid = of_container.and_then(|c| c.run_as_user).or_else(|| of_pod.and_then(|p| p.run_as_user));
    let gid = of_container.and_then(|c| c.run_as_group).or_else(|| of_pod.and_then(|p| p.run_as_group));
    let own = || {
        let name = image.user.split(':').next().unwrap_or_default();
        if name.is_empty() { "0".to_owned() } else { name.to_owned() }
    };
    match (uid, gid) {
        (None, None) => String::new(),
        (Some(uid), None) => uid.to_string(),
        (uid, Some(gid)) => format!("{}:{gid}", uid.map_or_else(own, |uid| uid.to_string())),
    }
}

/// The further groups of the pod's containers.
pub(super) fn groups(pod: &PodSpec) -> Vec<i64> {
    let Some(context) = &pod.security_context else { return Vec::new() };
    context.supplemental_groups.iter().flatten().copied().chain(context.fs_group).collect()
}

pub(super) fn capabilities(
    context: &SecurityContext,
    which: impl Fn(&Capabilities) -> Option<&Vec<String>>,
) -> Vec<String> {
    context.capabilities.as_ref().and_then(which).cloned().unwrap_or_default()
}

/// The profile of seccomp that a container asks for.
fn seccomp<'a>(pod: &'a PodSpec, context: Option<&'a SecurityContext>) -> Option<&'a SeccompProfile> {
    let of_pod = pod.security_context.as_ref();
    context.and_then(|c| c.seccomp_profile.as_ref()).or_else(|| of_pod?.seccomp_profile.as_ref())
}

/// The file of the profile of seccomp that a container asks for, below the folder of such files.
pub fn seccomp_file<'a>(pod: &'a PodSpec, spec: &'a Container) -> Option<&'a str> {
    let profile = seccomp(pod, spec.security_context.as_ref())?;
    profile.localhost_profile.as_deref().filter(|_| profile.type_ == "Localhost")
}

/// Docker's `--security-opt`s; `profile` is what is in the file of seccomp's.
pub(super) fn options(
    pod: &PodSpec,
    context: &SecurityContext,
    profile: Option<&str>,
    has_app_armor: bool,
) -> Result<Vec<String>, ConfigError> {
    let of_pod = pod.security_context.as_ref();
    let seccomp = seccomp(pod, Some(context));
    let apparmor = context.app_armor_profile.as_ref().or_else(|| of_pod.and_then(|p| p.app_armor_profile.as_ref()));
    let mut options = Vec::new();
    match seccomp.map(|p| p.type_.as_str()) {
        Some("Unconfined") => options.push("seccomp=unconfined".to_owned()),
        Some("Localhost") => {
            let profile = profile.ok_or_else(|| ConfigError::Other("its seccomp profile was not read".into()))?;
            options.push(format!("seccomp={profile}"));
        }
        _ => {}
    }
    match apparmor.map(|p| (p.type_.as_str(), p.localhost_profile.as_deref())) {
        Some(("Unconfined", _)) => options.push("apparmor=unconfined".to_owned()),
        // Source: `appArmorAdmitHandler`, `pkg/kubelet/lifecycle/handlers.go`, v1.37.
        Some(("Localhost", _)) if !has_app_armor => {
            let why = "Cannot enforce AppArmor: AppArmor is not enabled on the host";
            return Err(ConfigError::Other(why.into()));
        }
        Some(("Localhost", Some(profile))) => options.push(format!("apparmor={profile}")),
        _ => {}
    }
    Ok(options)
}

/// Refuses a container that must not run as root but would.
pub(super) fn check_user(pod: &Pod, spec: &Container, image: &Image) -> Result<(), ConfigError> {
    let pod_context = pod.spec.as_ref().and_then(|s| s.security_context.clone()).unwrap_or_default();
    let context = spec.security_context.clone().unwrap_or_default();
    if context.run_as_non_root.or(pod_context.run_as_non_root) != Some(true) {
        return Ok(());
    }
    let who = format!("(pod: \"{}\", container: {})", go_pod_name(pod), spec.name);
    let refuse = |why: String| Err(ConfigError::Other(format!("{why} {who}")));
    match context.run_as_user.or(pod_context.run_as_user) {
        Some(0) => return refuse("container's runAsUser breaks non-root policy".into()),
        Some(_) => return Ok(()),
        None => {}
    }
    let user = image.user.split(':').next().unwrap_or_default();
    match user.parse::<i64>() {
        Ok(0) => refuse("container has runAsNonRoot and image will run as root".into()),
        Ok(_) => Ok(()),
        Err(_) if user.is_empty() => refuse("container has runAsNonRoot and image will run as root".into()),
        Err(_) => {
            let who = format!("(pod: \"{}\", container: {})", go_pod_name(pod), spec.name);
            Err(ConfigError::Other(format!(
                "container has runAsNonRoot and image has non-numeric user ({user}), cannot verify user is non-root {who}"
            )))
        }
    }
}
