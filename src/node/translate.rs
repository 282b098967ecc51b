//! A pod → what the engine creates: the sandbox's and the containers' [`ContainerSpec`]s.
//!
//! Called by `execute`. Pure: what must be looked up (ConfigMaps, Secrets, Services) comes through [`Lookup`].
//!
//! **Invariants**: the same pod, cluster and surroundings give the same specification.
//! **Source**: `pkg/kubelet/kubelet_pods.go` (environment, hosts, hostname), `pkg/kubelet/network/dns/dns.go`,
//! `pkg/kubelet/kuberuntime/kuberuntime_container{,_linux}.go`, v1.37.

pub mod env;
mod expand;
pub mod fields;
pub mod network;
mod security;
#[cfg(test)]
mod tests;

pub use env::{Lookup, environment};
pub use security::seccomp_file;

use super::{
    NodeConfig,
    identity::{Identity, PodId},
    lifecycle::grace_period,
    sandbox::{self, SERVICE_RANGE, SERVICE_RIGHTS, SOCKET_STORE},
    termination,
};
use crate::{
    api::{
        kinds::priority,
        pod_resources::{Side, amounts, of_container, of_containers},
        quantity,
        service_range::ServiceRange,
    },
    base::{
        ordered::CollectOrdered as _,
        secret::{Variable, variable},
    },
    engine::{ContainerSpec, Image, Mount, NamespaceMode, NetworkMode, Resources},
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use k8s_openapi::{
    api::core::v1::{Container, ContainerPort, Pod, PodSpec, ResourceRequirements},
    apimachinery::pkg::api::resource::Quantity,
};
use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
};

/// Why a container cannot be made from its spec as things are. The text is the kubelet's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// An object that it names does not exist.
    #[error("{kind} {name:?} not found")]
    NotFound {
        /// `configmap` or `secret`.
        kind: &'static str,
        /// Its name.
        name: String,
    },
    /// An object that it names lacks a key.
    #[error("couldn't find key {key} in {kind} {namespace}/{name}")]
    NoKey {
        /// `ConfigMap` or `Secret`.
        kind: &'static str,
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// The key.
        key: String,
    },
    /// A text is longer than a program can be given.
    #[error("{field}: Too long: may not be more than {bytes_max} bytes")]
    TooLong {
        /// Where the text is in the pod.
        field: String,
        /// The bound.
        bytes_max: usize,
    },
    /// All variables together are more than a program can be given.
    #[error("{field}: Too long: all variables together may not be more than {bytes_max} bytes")]
    EnvironmentTooLong {
        /// The field that is one too many.
        field: String,
        /// The bound.
        bytes_max: usize,
    },
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

/// The variable by which the sandbox gets its `/etc/hosts`; `${POD_IP}` in it stands for its address.
pub const ETC_HOSTS: &str = "SKIFF_ETC_HOSTS";
/// The variable by which the sandbox gets its `/etc/resolv.conf`.
pub const RESOLV_CONF: &str = "SKIFF_RESOLV_CONF";
/// The variable by which the sandbox gets the files of the pod's volumes: a tar archive in base64.
pub const FILES: &str = "SKIFF_FILES";
/// The variable that tells the sandbox to read them from its standard input: the length of the archive in 8 bytes, highest first, then
/// the archive. What comes so is kept nowhere.
pub const FILES_IN_INPUT: &str = "SKIFF_FILES_IN_INPUT";

/// What a sandbox needs to write the files of volumes, with their owners and modes.
const FILE_RIGHTS: [&str; 4] = ["CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID"];

/// The sandbox's specification.
///
/// # Errors
/// When the pod asks for what a container of this engine cannot have.
pub fn sandbox_spec(
    pod: &Pod,
    config: &NodeConfig,
    identity: &Identity,
    image: &str,
    files: Option<&[u8]>,
    mounts: Vec<Mount>,
) -> Result<ContainerSpec, ConfigError> {
    let spec = pod.spec.clone().unwrap_or_default();
    let on_host = sandbox::sandbox_is_on_host(pod);
    let services = sandbox::service_range(pod);
    // Files for termination messages are the sandbox's own.
    let writes_files = spec.volumes.iter().flatten().next().is_some();
    let hostname = if on_host { String::new() } else { network::hostname(pod, &config.cluster_domain)? };
    let mut env: Vec<Variable> = Vec::new();
    let mut put = |name: &str, text: Option<String>| env.extend(text.map(|text| variable(name, text)));
    put(ETC_HOSTS, network::hosts_file(pod, &config.cluster_domain));
    put(RESOLV_CONF, network::resolv_conf(pod, config.dns_ip, &config.cluster_domain));
    put(termination::LOGS, termination::wanted(pod));
    put(SOCKET_STORE, sandbox::socket_store(pod));
    put(SERVICE_RANGE, services.map(|range| range.to_string()));
    put(FILES, files.map(|tar| BASE64_STANDARD.encode(tar)));
    Ok(ContainerSpec {
        name: identity.name(),
        image: image.to_owned(),
        command: vec!["pause".into()],
        env,
        hostname,
        labels: identity.labels(&config.cluster, grace_period(pod)),
        network: Some(if on_host { NetworkMode::Host } else { NetworkMode::Bridge(config.network.clone()) }),
        // Known neighbours stay right: whoever answers next has the same address.
        address: services.map(ServiceRange::answering),
        ipc: if spec.host_ipc == Some(true) { NamespaceMode::Host } else { NamespaceMode::Shareable },
        pid: if spec.host_pid == Some(true) { NamespaceMode::Host } else { NamespaceMode::Private },
        cap_drop: vec!["ALL".into()],
        cap_add: sandbox_rights(services.is_some(), writes_files),
        mounts,
        cpu_shares: Some(if is_system(&spec) { SHARES_SYSTEM } else { SHARES_MIN }),
        cgroup_parent: cgroup_parent(&spec, config),
        no_new_privileges: true,
        sysctls: sysctls(&spec),
        publish: if on_host { Vec::new() } else { published(&spec, config.host_port_address)? },
        ..ContainerSpec::default()
    })
}

fn sandbox_rights(answers_for_services: bool, writes_files: bool) -> Vec<String> {
    let files = FILE_RIGHTS.iter().filter(|_| writes_files);
    let services = SERVICE_RIGHTS.iter().filter(|_| answers_for_services);
    files.chain(services).chain([&sandbox::SHIELDING_RIGHT]).map(|right| (*right).to_owned()).collect()
}

fn sysctls(spec: &PodSpec) -> BTreeMap<String, String> {
    let all = spec.security_context.iter().flat_map(|c| c.sysctls.iter().flatten());
    all.map(|s| (s.name.replace('/', "."), s.value.clone())).collect_ordered()
}

/// The host ports of a pod. Where the pod names no address, they are bound to the one that skiff is told: loopback, unless asked.
fn published(spec: &PodSpec, default: IpAddr) -> Result<Vec<(IpAddr, u16, u16)>, ConfigError> {
    let init = spec.init_containers.iter().flatten();
    let ports = spec.containers.iter().chain(init).flat_map(|c| c.ports.iter().flatten());
    let with_host = ports.filter(|p| p.host_port.is_some_and(|port| port != 0));
    with_host.map(|port| publish(port, default)).collect()
}

fn publish(port: &ContainerPort, default: IpAddr) -> Result<(IpAddr, u16, u16), ConfigError> {
    if port.protocol.as_deref().unwrap_or("TCP") != "TCP" {
        return Err(ConfigError::Other(format!(
            "skiff does not support host ports with protocol {}",
            port.protocol.as_deref().unwrap_or_default()
        )));
    }
    let number = |n: i32| u16::try_from(n).map_err(|e| ConfigError::Other(format!("invalid port {n}: {e}")));
    let address = match port.host_ip.as_deref() {
        None | Some("") => default,
        Some(text) => text.parse().map_err(|e| ConfigError::Other(format!("invalid hostIP {text:?}: {e}")))?,
    };
    Ok((address, number(port.host_port.unwrap_or_default())?, number(port.container_port)?))
}

/// What a container's specification is made from, beside its pod.
#[derive(Clone, Copy, Debug)]
pub struct Ingredients<'a> {
    /// Who it is.
    pub identity: &'a Identity,
    /// The sandbox that it joins, by name.
    pub sandbox: &'a str,
    /// Its image as the engine has it.
    pub image: &'a Image,
    /// The reference to create it from.
    pub image_reference: &'a str,
    /// Its environment.
    pub env: &'a [Variable],
    /// Its mounts.
    pub mounts: &'a [Mount],
    /// The container whose processes it sees, by ID, where that is another's business than its pod's.
    pub pid_of: Option<&'a str>,
    /// What is in the file that its profile of seccomp is.
    pub seccomp: Option<&'a str>,
}

/// A container's specification.
///
/// # Errors
/// When its security context forbids its image's user.
pub fn container_spec(
    pod: &Pod,
    spec: &Container,
    config: &NodeConfig,
    from: Ingredients<'_>,
) -> Result<ContainerSpec, ConfigError> {
    let pod_spec = pod.spec.clone().unwrap_or_default();
    security::check_user(pod, spec, from.image)?;
    let (entrypoint, command) = program(pod, spec, from.env)?;
    let limits = resources(&pod_spec, spec);
    let context = spec.security_context.clone().unwrap_or_default();
    Ok(ContainerSpec {
        name: from.identity.name(),
        image: from.image_reference.to_owned(),
        entrypoint,
        command,
        env: from.env.to_vec(),
        working_dir: spec.working_dir.clone().unwrap_or_default(),
        user: security::user(&pod_spec, spec, from.image),
        groups: security::groups(&pod_spec),
        labels: from.identity.labels(&config.cluster, grace_period(pod)),
        network: Some(match sandbox::service_range(pod) {
            // It is on the host's network, and its sandbox is not.
            Some(_) => NetworkMode::Host,
            None => NetworkMode::Container(from.sandbox.to_owned()),
        }),
        ipc: match pod_spec.host_ipc {
            Some(true) => NamespaceMode::Host,
            _ => NamespaceMode::Container(from.sandbox.to_owned()),
        },
        pid: match (pod_spec.host_pid, pod_spec.share_process_namespace, from.pid_of) {
            (Some(true), _, _) => NamespaceMode::Host,
            (_, Some(true), _) => NamespaceMode::Container(from.sandbox.to_owned()),
            (_, _, Some(target)) => NamespaceMode::Container(target.to_owned()),
            (_, _, None) => NamespaceMode::Private,
        },
        mounts: from.mounts.to_vec(),
        memory_bytes: limits.memory_bytes,
        nano_cpus: limits.nano_cpus,
        cpu_shares: limits.cpu_shares,
        cgroup_parent: cgroup_parent(&pod_spec, config),
        cap_add: security::capabilities(&context, |c| c.add.as_ref()),
        cap_drop: security::capabilities(&context, |c| c.drop.as_ref()),
        privileged: context.privileged == Some(true),
        read_only_root: context.read_only_root_filesystem == Some(true),
        no_new_privileges: context.allow_privilege_escalation == Some(false) && context.privileged != Some(true),
        security_options: security::options(&pod_spec, &context, from.seccomp, config.has_app_armor)?,
        stdin: spec.stdin == Some(true),
        stdin_once: spec.stdin_once == Some(true),
        tty: spec.tty == Some(true),
        stop_signal: spec.lifecycle.as_ref().and_then(|l| l.stop_signal.clone()).unwrap_or_default(),
        ..ContainerSpec::default()
    })
}

/// Commands or arguments.
type Words = Vec<String>;

/// A container's command and arguments, expanded. They share what a program may be given with its environment.
fn program(pod: &Pod, spec: &Container, env: &[Variable]) -> Result<(Words, Words), ConfigError> {
    let (known, place) = (env::Known::of(env), env::place_of(pod, spec));
    let mut left = env::ENV_BYTES_MAX.saturating_sub(env::bytes_of(env));
    let mut expand = |texts: &Option<Words>, field: &str| -> Result<Words, ConfigError> {
        let expand_one = |(i, text): (usize, &String)| {
            let bytes_max = env::WORD_BYTES_MAX.min(left);
            let too_long = |expand::TooLong| ConfigError::TooLong { field: format!("{place}.{field}[{i}]"), bytes_max };
            let word = expand::expand(text, bytes_max, &|name| known.get(name)).map_err(too_long)?;
            left = left.saturating_sub(word.len() + env::WORD_COST);
            Ok(word)
        };
        texts.iter().flatten().enumerate().map(expand_one).collect()
    };
    Ok((expand(&spec.command, "command")?, expand(&spec.args, "args")?))
}

/// The least CPU weight. Source: `MinShares`, `pkg/kubelet/cm/helpers_linux.go`, v1.37.
const SHARES_MIN: i64 = 2;
/// The greatest CPU weight. Source: `MaxShares`, ibid.
const SHARES_MAX: i64 = 262_144;

/// The least CPU weight of what serves the whole cluster: that of any program of the machine.
const SHARES_SYSTEM: i64 = 1024;

/// Whether a pod serves the whole cluster. Source: `IsCriticalPodBasedOnPriority`, `pkg/kubelet/types/pod_update.go`, v1.37.
fn is_system(pod: &PodSpec) -> bool {
    pod.priority.is_some_and(|given| given >= priority::SYSTEM_MIN)
}

/// Pods are together in a group, so that one without a request, whose weight is the least there is, is not starved by the machine's
/// programs; what serves the cluster is beside them.
fn cgroup_parent(pod: &PodSpec, config: &NodeConfig) -> String {
    if is_system(pod) { String::new() } else { config.pods_cgroup.clone() }
}

/// What of the machine a container may use.
pub fn resources(pod: &PodSpec, spec: &Container) -> Resources {
    let Limits { memory_bytes, nano_cpus, cpu_shares } = Limits::of(spec).within(pod, spec);
    let cpu_shares = Some(if is_system(pod) { cpu_shares.max(SHARES_SYSTEM) } else { cpu_shares });
    Resources { memory_bytes, nano_cpus, cpu_shares }.in_steps()
}

struct Limits {
    memory_bytes: Option<i64>,
    nano_cpus: Option<i64>,
    cpu_shares: i64,
}

impl Limits {
    /// The same within what its pod as a whole has. The engine has no group for a pod, so each container keeps the limits of the whole; of
    /// what the pod asks for beside its containers, each that asks for nothing itself weighs an equal part.
    fn within(self, pod: &PodSpec, spec: &Container) -> Self {
        let Some(of_pod) = &pod.resources else { return self };
        let most = Self::of_requirements(of_pod);
        let least = |own: Option<i64>, most: Option<i64>| own.into_iter().chain(most).min();
        let asks = |container: &Container| !of_container(container, Side::Requests).contains_key("cpu");
        let asked = amounts(of_pod.requests.as_ref()).get("cpu").copied();
        let cpu_shares = match asked.filter(|_| asks(spec)) {
            None => self.cpu_shares,
            Some(asked) => {
                let others = of_containers(pod, Side::Requests).get("cpu").map_or(0, |sum| sum.millis());
                let sharers = pod.containers.iter().filter(|container| asks(container)).count().max(1);
                let part = (asked.millis() - others).max(0) / i64::try_from(sharers).unwrap_or(i64::MAX);
                (part.saturating_mul(1024) / 1000).clamp(SHARES_MIN, SHARES_MAX)
            }
        };
        Self {
            memory_bytes: least(self.memory_bytes, most.memory_bytes),
            nano_cpus: least(self.nano_cpus, most.nano_cpus),
            cpu_shares,
        }
    }
}

impl Limits {
    fn of(spec: &Container) -> Self {
        Self::of_requirements(&spec.resources.clone().unwrap_or_default())
    }

    fn of_requirements(resources: &ResourceRequirements) -> Self {
        let empty = BTreeMap::new();
        let (limits, requests) =
            (resources.limits.as_ref().unwrap_or(&empty), resources.requests.as_ref().unwrap_or(&empty));
        let positive = |quantity: Option<&Quantity>| quantity.and_then(quantity::millis).filter(|milli| *milli > 0);
        let whole = |milli: i128| i64::try_from(milli).unwrap_or(i64::MAX);
        let cpu_limit = positive(limits.get("cpu"));
        let cpu_wanted = positive(requests.get("cpu")).or(if requests.contains_key("cpu") { None } else { cpu_limit });
        Self {
            memory_bytes: positive(limits.get("memory")).map(|milli| whole(milli.div_euclid(1000))),
            nano_cpus: cpu_limit.map(|milli| whole(milli.saturating_mul(1_000_000))),
            cpu_shares: cpu_wanted
                .map_or(SHARES_MIN, |milli| whole(milli.saturating_mul(1024) / 1000).clamp(SHARES_MIN, SHARES_MAX)),
        }
    }
}

/// Replaces the variables in the text of a field, which may be so long.
///
/// # Errors
/// When it names a variable that there is not, or is too long.
pub fn expand_all(text: &str, env: &[Variable], field: &str, bytes_max: usize) -> Result<String, ConfigError> {
    let (known, missing) = (env::Known::of(env), std::cell::Cell::new(false));
    let lookup = |name: &str| {
        let value = known.get(name);
        missing.set(missing.get() || value.is_none());
        value
    };
    let expanded = expand::expand(text, bytes_max, &lookup);
    if missing.get() {
        return Err(ConfigError::Other(format!("missing value for {text:?}")));
    }
    expanded.map_err(|expand::TooLong| ConfigError::TooLong { field: field.to_owned(), bytes_max })
}

/// What of the node a container's environment and files may show.
#[derive(Clone, Copy, Debug)]
pub struct NodeFacts {
    /// Its address.
    pub ip: Ipv4Addr,
    /// Its processors.
    pub cpus: i64,
    /// Its memory in bytes.
    pub memory_bytes: i64,
    /// Its disk in bytes; 0: not known.
    pub disk_bytes: u64,
}

/// The name of the sandbox of this attempt.
pub fn sandbox_name(pod: &Pod, attempt: u32) -> String {
    Identity::sandbox(PodId::of(pod), attempt, String::new()).name()
}
