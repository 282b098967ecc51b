//! The rules of the levels, each with the version that it came with.
//!
//! **Source**: `k8s.io/pod-security-admission/policy/check_*.go`, v1.37.

use super::{Level, Rule, Version, Violation};
use crate::base::ordered::Set;
use k8s_openapi::{
    api::core::v1::{
        ContainerPort, Lifecycle, LifecycleHandler, PodSecurityContext, PodSpec, Probe, SecurityContext, Volume,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

/// What a pod violates of one rule, if it does.
pub(super) type Check = fn(Version, &ObjectMeta, &PodSpec) -> Option<Violation>;

/// A rule of a level.
struct Row {
    name: &'static str,
    level: Level,
    /// The minor version that it came with.
    since: u32,
    check: Check,
    /// The rule of a lower level that it says more than.
    instead_of: &'static str,
}

const fn baseline(name: &'static str, since: u32, check: Check) -> Row {
    Row { name, level: Level::Baseline, since, check, instead_of: "" }
}

const fn restricted(name: &'static str, since: u32, check: Check, instead_of: &'static str) -> Row {
    Row { name, level: Level::Restricted, since, check, instead_of }
}

/// Every rule, in the order in which they are told: of each level by name.
static RULES: [Row; 19] = [
    baseline("appArmorProfile", 0, app_armor),
    baseline("capabilities_baseline", 0, default_capabilities),
    baseline("hostNamespaces", 0, host_namespaces),
    baseline("hostPathVolumes", 0, host_paths),
    baseline("hostPorts", 0, host_ports),
    baseline("hostProbesAndHostLifecycle", 34, hosts_of_probes),
    baseline("privileged", 0, privileged),
    baseline("procMount", 0, |version, meta, spec| {
        if version.has(35) && is_user_apart(spec) { None } else { proc_mount(version, meta, spec) }
    }),
    baseline("seLinuxOptions", 0, selinux),
    baseline("seccompProfile_baseline", 0, seccomp_if_set),
    baseline("sysctls", 0, sysctls),
    baseline("windowsHostProcess", 0, host_process),
    restricted("allowPrivilegeEscalation", 8, escalation, ""),
    restricted("capabilities_restricted", 22, no_capabilities, "capabilities_baseline"),
    restricted("procMount_restricted", 35, proc_mount, "procMount"),
    restricted("restrictedVolumes", 0, volumes, "hostPathVolumes"),
    restricted("runAsNonRoot", 0, non_root, ""),
    restricted("runAsUser", 23, user, ""),
    restricted("seccompProfile_restricted", 19, seccomp, "seccompProfile_baseline"),
];

/// The checks that a rule consists of.
pub(super) fn of(rule: Rule) -> impl Iterator<Item = Check> {
    let counts = move |row: &&Row| row.level <= rule.level && rule.version.has(row.since);
    let is_said_better = move |row: &Row| RULES.iter().filter(counts).any(|other| other.instead_of == row.name);
    RULES.iter().filter(counts).filter(move |row| !is_said_better(row)).map(|row| row.check)
}

/// What of a container the rules look at.
struct Seen<'a> {
    name: &'a str,
    context: Option<&'a SecurityContext>,
    ports: &'a [ContainerPort],
    probes: [Option<&'a Probe>; 3],
    lifecycle: Option<&'a Lifecycle>,
}

macro_rules! seen {
    ($container:expr) => {
        Seen {
            name: &$container.name,
            context: $container.security_context.as_ref(),
            ports: $container.ports.as_deref().unwrap_or_default(),
            probes: [
                $container.liveness_probe.as_ref(),
                $container.readiness_probe.as_ref(),
                $container.startup_probe.as_ref(),
            ],
            lifecycle: $container.lifecycle.as_ref(),
        }
    };
}

fn containers(spec: &PodSpec) -> impl Iterator<Item = Seen<'_>> {
    let named = spec.init_containers.iter().flatten().chain(&spec.containers).map(|c| seen!(c));
    named.chain(spec.ephemeral_containers.iter().flatten().map(|c| seen!(c)))
}

/// The names of the containers whose security context is so.
fn names<'a>(spec: &'a PodSpec, is_so: impl Fn(Option<&'a SecurityContext>) -> bool) -> Vec<&'a str> {
    containers(spec).filter(|c| is_so(c.context)).map(|c| c.name).collect()
}

fn violation(reason: impl Into<String>, detail: String) -> Violation {
    Violation { reason: reason.into(), detail }
}

fn plural<'a>(one: &'a str, many: &'a str, n: usize) -> &'a str {
    if n == 1 { one } else { many }
}

fn quoted<T: AsRef<str>>(texts: impl IntoIterator<Item = T>) -> String {
    texts.into_iter().map(|text| format!("\"{}\"", text.as_ref())).collect::<Vec<_>>().join(", ")
}

/// `container "a"`, `containers "a", "b"`.
fn named(names: &[&str]) -> String {
    format!("{} {}", plural("container", "containers", names.len()), quoted(names))
}

/// The pod itself and containers, as the subject of a sentence.
fn setters(is_pod: bool, names: &[&str]) -> Option<String> {
    let containers = (!names.is_empty()).then(|| named(names));
    let all: Vec<String> = is_pod.then(|| "pod".to_owned()).into_iter().chain(containers).collect();
    (!all.is_empty()).then(|| all.join(" and "))
}

fn pod_context(spec: &PodSpec) -> Option<&PodSecurityContext> {
    spec.security_context.as_ref()
}

/// Whether the pod's root is not the machine's. **Source**: `relaxPolicyForUserNamespacePod`.
fn is_user_apart(spec: &PodSpec) -> bool {
    spec.host_users == Some(false)
}

/// Whether the rules about Linux are not about this pod.
fn is_windows(version: Version, spec: &PodSpec) -> bool {
    version.has(25) && spec.os.as_ref().is_some_and(|os| os.name == "windows")
}

fn app_armor(_: Version, meta: &ObjectMeta, spec: &PodSpec) -> Option<Violation> {
    const ANNOTATION: &str = "container.apparmor.security.beta.kubernetes.io/";
    fn bad(profile: Option<&str>) -> Option<&str> {
        profile.filter(|kind| !matches!(*kind, "RuntimeDefault" | "Localhost"))
    }
    let of_pod = bad(pod_context(spec).and_then(|c| Some(c.app_armor_profile.as_ref()?.type_.as_str())));
    let of = |context: Option<&'_ SecurityContext>| -> Option<String> {
        bad(context.and_then(|c| Some(c.app_armor_profile.as_ref()?.type_.as_str()))).map(str::to_owned)
    };
    let bad_containers = names(spec, |context| of(context).is_some());
    let kinds: Set<String> =
        of_pod.map(str::to_owned).into_iter().chain(containers(spec).filter_map(|c| of(c.context))).collect();
    let is_allowed = |value: &str| value.is_empty() || value == "runtime/default" || value.starts_with("localhost/");
    let annotations = meta.annotations.iter().flatten();
    let annotations: Vec<String> = annotations
        .filter(|(name, value)| name.starts_with(ANNOTATION) && !is_allowed(value))
        .map(|(name, value)| format!("{name}={value:?}"))
        .collect();
    let who = setters(of_pod.is_some(), &bad_containers);
    let annotated =
        (!annotations.is_empty()).then(|| plural("annotation", "annotations", annotations.len()).to_owned());
    let who: Vec<String> = who.into_iter().chain(annotated).collect();
    let values: Vec<String> = kinds.into_iter().chain(annotations).collect();
    if who.is_empty() {
        return None;
    }
    Some(violation(
        plural("forbidden AppArmor profile", "forbidden AppArmor profiles", values.len()),
        format!("{} must not set AppArmor profile type to {}", who.join(" and "), quoted(values)),
    ))
}

/// The capabilities that a container adds, other than these.
fn added<'a>(context: Option<&'a SecurityContext>, allowed: &[&str]) -> Vec<&'a str> {
    let added = context.and_then(|c| c.capabilities.as_ref()?.add.as_ref()).into_iter().flatten();
    added.map(String::as_str).filter(|name| !allowed.contains(name)).collect()
}

/// Who adds capabilities other than these, and which.
fn adds(spec: &PodSpec, allowed: &[&str]) -> Option<String> {
    let who = names(spec, |context| !added(context, allowed).is_empty());
    let what: Set<&str> = containers(spec).flat_map(|c| added(c.context, allowed)).collect();
    let add = "in securityContext.capabilities.add";
    (!who.is_empty()).then(|| format!("{} must not include {} {add}", named(&who), quoted(what)))
}

fn default_capabilities(_: Version, _: &ObjectMeta, spec: &PodSpec) -> Option<Violation> {
    const DEFAULT: [&str; 13] = [
        "AUDIT_WRITE",
        "CHOWN",
        "DAC_OVERRIDE",
        "FOWNER",
        "FSETID",
        "KILL",
        "MKNOD",
        "NET_BIND_SERVICE",
        "SETFCAP",
        "SETGID",
        "SETPCAP",
        "SETUID",
        "SYS_CHROOT",
    ];
    Some(violation("non-default capabilities", adds(spec, &DEFAULT)?))
}

fn no_capabilities(version: Version, _: &ObjectMeta, spec: &PodSpec) -> Option<Violation> {
    if is_windows(version, spec) {
        return None;
    }
    let drops_all = |context: Option<&SecurityContext>| {
        let dropped = context.and_then(|c| c.capabilities.as_ref()?.drop.as_ref());
        dropped.is_some_and(|all| all.iter().any(|name| name == "ALL"))
    };
    let keep = names(spec, |context| !drops_all(context));
    let must =
        (!keep.is_empty()).then(|| format!("{} must set securityContext.capabilities.drop=[\"ALL\"]", named(&keep)));
    let said: Vec<String> = must.into_iter().chain(adds(spec, &["NET_BIND_SERVICE"])).collect();
    if said.is_empty() { None } else { Some(violation("unrestricted capabilities", said.join("; "))) }
}

fn host_namespaces(_: Version, _: &ObjectMeta, spec: &PodSpec) -> Option<Violation> {
    let all = [("hostNetwork", spec.host_network), ("hostPID", spec.host_pid), ("hostIPC", spec.host_ipc)];
    let set: Vec<String> =
        all.iter().filter(|(_, is)| *is == Some(true)).map(|(name, _)| format!("{name}=true")).collect();
    if set.is_empty() { None } else { Some(violation("host namespaces", set.join(", "))) }
}

fn host_paths(_: Version, _: &ObjectMeta, spec: &PodSpec) -> Option<Violation> {
    let volumes = spec.volumes.iter().flatten().filter(|v| v.host_path.is_some());
    let names: Vec<&str> = volumes.map(|v| v.name.as_str()).collect();
    let volumes = plural("volume", "volumes", names.len());
    if names.is_empty() { None } else { Some(violation("hostPath volumes", format!("{volumes} {}", quoted(names)))) }
}

fn host_ports(_: Version, _: &ObjectMeta, spec: &PodSpec) -> Option<Violation> {
    let of =
        |seen: &Seen<'_>| -> Vec<i32> { seen.ports.iter().filter_map(|p| p.host_port.filter(|n| *n != 0)).collect() };
    let who: Vec<&str> = containers(spec).filter(|c| !of(c).is_empty()).map(|c| c.name).collect();
    // In the order of their texts, as upstream has them.
    let ports: Set<String> = containers(spec).flat_map(|c| of(&c)).map(|port| port.to_string()).collect();
    if who.is_empty() {
        return None;
    }
    let word = plural("hostPort", "hostPorts", ports.len());
    let list = ports.into_iter().collect::<Vec<_>>().join(", ");
    Some(violation(word, format!("{} {} {word} {list}", named(&who), plural("uses", "use", who.len()))))
}

/// The hosts that a container's probes and hooks name.
fn hosts<'a>(seen: &Seen<'a>) -> Vec<&'a str> {
    let of_probe = |probe: &'a Probe| {
        [
            probe.http_get.as_ref().and_then(|a| a.host.as_deref()),
            probe.tcp_socket.as_ref().and_then(|a| a.host.as_deref()),
        ]
    };
    let of_hook = |hook: &'a LifecycleHandler| {
        [
            hook.http_get.as_ref().and_then(|a| a.host.as_deref()),
            hook.tcp_socket.as_ref().and_then(|a| a.host.as_deref()),
        ]
    };
    let hooks = seen.lifecycle.into_iter().flat_map(|l| [l.post_start.as_ref(), l.pre_stop.as_ref()]).flatten();
    let all = seen.probes.into_iter().flatten().flat_map(of_probe).chain(hooks.flat_map(of_hook));
    all.flatten().filter(|host| !host.is_empty()).collect()
}

fn hosts_of_probes(_: Version, _: &ObjectMeta, spec: &PodSpec) -> Option<Violation> {
    let who: Set<&str> = containers(spec).filter(|c| !hosts(c).is_empty()).map(|c| c.name).collect();
    let named_hosts: Set<&str> = containers(spec).flat_map(|c| hosts(&c)).collect();
    if who.is_empty() {
        return None;
    }
    let who: Vec<&str> = who.into_iter().collect();
    let word = plural("probe or lifecycle host", "probe or lifecycle hosts", named_hosts.len());
    let uses = plural("uses", "use", who.len());
    Some(violation("probe or lifecycle host", format!("{} {uses} {word} {}", named(&who), quoted(named_hosts))))
}

fn privileged(_: Version, _: &ObjectMeta, spec: &PodSpec) -> Option<Violation> {
    let who = names(spec, |context| context.is_some_and(|c| c.privileged == Some(true)));
    if who.is_empty() {
        return None;
    }
    Some(violation("privileged", format!("{} must not set securityContext.privileged=true", named(&who))))
}

fn proc_mount(_: Version, _: &ObjectMeta, spec: &PodSpec) -> Option<Violation> {
    fn bad(context: Option<&SecurityContext>) -> Option<&str> {
        context.and_then(|c| c.proc_mount.as_deref()).filter(|mount| *mount != "Default")
    }
    let who = names(spec, |context| bad(context).is_some());
    let what: Set<&str> = containers(spec).filter_map(|c| bad(c.context)).collect();
    if who.is_empty() {
        return None;
    }
    Some(violation("procMount", format!("{} must not set securityContext.procMount to {}", named(&who), quoted(what))))
}

fn selinux(version: Version, _: &ObjectMeta, spec: &PodSpec) -> Option<Violation> {
    use k8s_openapi::api::core::v1::SELinuxOptions as Options;
    let is_allowed = |kind: &str| match kind {
        "" | "container_t" | "container_init_t" | "container_kvm_t" => true,
        "container_engine_t" => version.has(31),
        _ => false,
    };
    let is_set = |text: &Option<String>| text.as_deref().is_some_and(|text| !text.is_empty());
    let kind = |options: &Options| options.type_.clone().filter(|kind| !is_allowed(kind));
    let is_bad = |options: &&Options| kind(options).is_some() || is_set(&options.user) || is_set(&options.role);
    let of_pod = pod_context(spec).and_then(|c| c.se_linux_options.as_ref()).filter(is_bad);
    let of_containers =
        || containers(spec).filter_map(|c| Some((c.name, c.context?.se_linux_options.as_ref().filter(is_bad)?)));
    let who: Vec<&str> = of_containers().map(|(name, _)| name).collect();
    let who = setters(of_pod.is_some(), &who)?;
    let all = || of_pod.into_iter().chain(of_containers().map(|(_, options)| options));
    let kinds: Set<String> = all().filter_map(kind).collect();
    let mut what = Vec::new();
    if !kinds.is_empty() {
        what.push(format!("{} {}", plural("type", "types", kinds.len()), quoted(&kinds)));
    }
    if all().any(|options| is_set(&options.user)) {
        what.push("user may not be set".to_owned());
    }
    if all().any(|options| is_set(&options.role)) {
        what.push("role may not be set".to_owned());
    }
    Some(violation(
        "seLinuxOptions",
        format!("{who} set forbidden securityContext.seLinuxOptions: {}", what.join("; ")),
    ))
}

const SECCOMP_OF_POD: &str = "seccomp.security.alpha.kubernetes.io/pod";
const SECCOMP_OF_CONTAINER: &str = "container.seccomp.security.alpha.kubernetes.io/";

/// Whether an annotation named a seccomp profile before there was a field for it.
pub(super) fn is_seccomp_annotation(name: &str) -> bool {
    name == SECCOMP_OF_POD || name.starts_with(SECCOMP_OF_CONTAINER)
}

/// The rules of seccomp before there was a field.
fn seccomp_annotations(meta: &ObjectMeta, spec: &PodSpec) -> Option<Violation> {
    let is_allowed =
        |value: &str| matches!(value, "runtime/default" | "docker/default") || value.starts_with("localhost/");
    let names = containers(spec).map(|c| format!("{SECCOMP_OF_CONTAINER}{}", c.name));
    let names: Set<String> = names.chain([SECCOMP_OF_POD.to_owned()]).collect();
    let value = |name: &String| meta.annotations.as_ref()?.get(name).filter(|value| !is_allowed(value));
    let bad: Vec<String> = names.iter().filter_map(|name| Some(format!("{name}={:?}", value(name)?))).collect();
    let word = plural("annotation", "annotations", bad.len());
    if bad.is_empty() {
        None
    } else {
        Some(violation("seccompProfile", format!("forbidden {word} {}", bad.join(", "))))
    }
}

fn profile(context: Option<&SecurityContext>) -> Option<&str> {
    context.and_then(|c| Some(c.seccomp_profile.as_ref()?.type_.as_str()))
}

fn profile_of_pod(spec: &PodSpec) -> Option<&str> {
    pod_context(spec).and_then(|c| Some(c.seccomp_profile.as_ref()?.type_.as_str()))
}

fn is_seccomp(kind: &str) -> bool {
    matches!(kind, "RuntimeDefault" | "Localhost")
}

fn seccomp_if_set(version: Version, meta: &ObjectMeta, spec: &PodSpec) -> Option<Violation> {
    if !version.has(19) {
        return seccomp_annotations(meta, spec);
    }
    let is_bad = |kind: &&str| !is_seccomp(kind);
    let of_pod = profile_of_pod(spec).filter(is_bad);
    let who =
        setters(of_pod.is_some(), &names(spec, |context| profile(context).is_some_and(|kind| !is_seccomp(kind))))?;
    let kinds: Set<&str> =
        of_pod.into_iter().chain(containers(spec).filter_map(|c| profile(c.context).filter(is_bad))).collect();
    Some(violation(
        "seccompProfile",
        format!("{who} must not set securityContext.seccompProfile.type to {}", quoted(kinds)),
    ))
}

fn seccomp(version: Version, meta: &ObjectMeta, spec: &PodSpec) -> Option<Violation> {
    if is_windows(version, spec) {
        return None;
    }
    let explicit = seccomp_if_set(version, meta, spec);
    let who = names(spec, |context| profile(context).is_none());
    if explicit.is_some() || who.is_empty() || profile_of_pod(spec).is_some_and(is_seccomp) {
        return explicit;
    }
    let must = "must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\"";
    Some(violation("seccompProfile", format!("pod or {} {must}", named(&who))))
}

fn sysctls(version: Version, _: &ObjectMeta, spec: &PodSpec) -> Option<Violation> {
    /// The harmless ones, each with the version since which it counts as such.
    const SAFE: [(&str, u32); 12] = [
        ("kernel.shm_rmid_forced", 0),
        ("net.ipv4.ip_local_port_range", 0),
        ("net.ipv4.ip_unprivileged_port_start", 0),
        ("net.ipv4.ping_group_range", 0),
        ("net.ipv4.tcp_syncookies", 0),
        ("net.ipv4.ip_local_reserved_ports", 27),
        ("net.ipv4.tcp_fin_timeout", 29),
        ("net.ipv4.tcp_keepalive_intvl", 29),
        ("net.ipv4.tcp_keepalive_probes", 29),
        ("net.ipv4.tcp_keepalive_time", 29),
        ("net.ipv4.tcp_rmem", 32),
        ("net.ipv4.tcp_wmem", 32),
    ];
    let is_safe = |name: &str| SAFE.iter().any(|(safe, since)| *safe == name && version.has(*since));
    let set = pod_context(spec).and_then(|c| c.sysctls.as_ref()).into_iter().flatten();
    let bad: Vec<&str> = set.map(|sysctl| sysctl.name.as_str()).filter(|name| !is_safe(name)).collect();
    if bad.is_empty() { None } else { Some(violation("forbidden sysctls", bad.join(", "))) }
}

fn host_process(_: Version, _: &ObjectMeta, spec: &PodSpec) -> Option<Violation> {
    let of_pod = pod_context(spec).and_then(|c| c.windows_options.as_ref()?.host_process) == Some(true);
    let is_one = |context: Option<&SecurityContext>| {
        context.and_then(|c| c.windows_options.as_ref()?.host_process) == Some(true)
    };
    let who = setters(of_pod, &names(spec, is_one))?;
    Some(violation("hostProcess", format!("{who} must not set securityContext.windowsOptions.hostProcess=true")))
}

fn escalation(version: Version, _: &ObjectMeta, spec: &PodSpec) -> Option<Violation> {
    let who = names(spec, |context| context.is_none_or(|c| c.allow_privilege_escalation != Some(false)));
    if who.is_empty() || is_windows(version, spec) {
        return None;
    }
    let must = "must set securityContext.allowPrivilegeEscalation=false";
    Some(violation("allowPrivilegeEscalation != false", format!("{} {must}", named(&who))))
}

/// What a volume is of that is not for everybody.
fn restricted_type(volume: &Volume) -> Option<&'static str> {
    let allowed = [
        volume.config_map.is_some(),
        volume.csi.is_some(),
        volume.downward_api.is_some(),
        volume.empty_dir.is_some(),
        volume.ephemeral.is_some(),
        volume.persistent_volume_claim.is_some(),
        volume.projected.is_some(),
        volume.secret.is_some(),
    ];
    let known = [
        (volume.host_path.is_some(), "hostPath"),
        (volume.gce_persistent_disk.is_some(), "gcePersistentDisk"),
        (volume.aws_elastic_block_store.is_some(), "awsElasticBlockStore"),
        (volume.git_repo.is_some(), "gitRepo"),
        (volume.nfs.is_some(), "nfs"),
        (volume.iscsi.is_some(), "iscsi"),
        (volume.glusterfs.is_some(), "glusterfs"),
        (volume.rbd.is_some(), "rbd"),
        (volume.flex_volume.is_some(), "flexVolume"),
        (volume.cinder.is_some(), "cinder"),
        (volume.cephfs.is_some(), "cephfs"),
        (volume.flocker.is_some(), "flocker"),
        (volume.fc.is_some(), "fc"),
        (volume.azure_file.is_some(), "azureFile"),
        (volume.vsphere_volume.is_some(), "vsphereVolume"),
        (volume.quobyte.is_some(), "quobyte"),
        (volume.azure_disk.is_some(), "azureDisk"),
        (volume.portworx_volume.is_some(), "portworxVolume"),
        (volume.scale_io.is_some(), "scaleIO"),
        (volume.storageos.is_some(), "storageos"),
    ];
    let of = || known.into_iter().find(|(is, _)| *is).map_or("unknown", |(_, name)| name);
    (!allowed.contains(&true)).then(of)
}

fn volumes(_: Version, _: &ObjectMeta, spec: &PodSpec) -> Option<Violation> {
    let bad = || spec.volumes.iter().flatten().filter_map(|v| Some((v.name.as_str(), restricted_type(v)?)));
    let names: Vec<&str> = bad().map(|(name, _)| name).collect();
    let kinds: Set<&str> = bad().map(|(_, kind)| kind).collect();
    if names.is_empty() {
        return None;
    }
    let (volumes, use_) = (plural("volume", "volumes", names.len()), plural("uses", "use", names.len()));
    let kind = plural("restricted volume type", "restricted volume types", kinds.len());
    Some(violation("restricted volume types", format!("{volumes} {} {use_} {kind} {}", quoted(names), quoted(kinds))))
}

fn non_root(version: Version, _: &ObjectMeta, spec: &PodSpec) -> Option<Violation> {
    const REASON: &str = "runAsNonRoot != true";
    if version.has(35) && is_user_apart(spec) {
        return None;
    }
    let of_pod = pod_context(spec).and_then(|c| c.run_as_non_root);
    let set_to = |wanted: Option<bool>| names(spec, move |context| context.and_then(|c| c.run_as_non_root) == wanted);
    if let Some(who) = setters(of_pod == Some(false), &set_to(Some(false))) {
        return Some(violation(REASON, format!("{who} must not set securityContext.runAsNonRoot=false")));
    }
    let silent = set_to(None);
    if silent.is_empty() || of_pod == Some(true) {
        return None;
    }
    Some(violation(REASON, format!("pod or {} must set securityContext.runAsNonRoot=true", named(&silent))))
}

fn user(version: Version, _: &ObjectMeta, spec: &PodSpec) -> Option<Violation> {
    if version.has(35) && is_user_apart(spec) {
        return None;
    }
    let of_pod = pod_context(spec).and_then(|c| c.run_as_user) == Some(0);
    let who = setters(of_pod, &names(spec, |context| context.and_then(|c| c.run_as_user) == Some(0)))?;
    Some(violation("runAsUser=0", format!("{who} must not set runAsUser=0")))
}
