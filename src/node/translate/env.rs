//! A container's environment: `envFrom`, `env`, and the Services around it.
//!
//! **Source**: `pkg/kubelet/kubelet_pods.go` `makeEnvironmentVariables`, `pkg/kubelet/envvars/envvars.go`, v1.37.
//! Unlike the kubelet, whose order is that of a Go map, variables keep the order of the spec; Services come last, by name.

use super::{
    ConfigError, NodeFacts,
    expand::{TooLong, expand},
    fields,
};
use crate::base::{
    ordered::{Map, SortList as _},
    secret::{Variable, variable},
};
use k8s_openapi::{
    ByteString,
    api::core::v1::{ConfigMap, Container, EnvFromSource, EnvVar, EnvVarSource, Pod, Secret, Service, ServicePort},
};
use std::{net::Ipv4Addr, sync::Arc};

/// Looks up what pods refer to.
pub trait Lookup {
    /// A ConfigMap.
    fn config_map(&self, namespace: &str, name: &str) -> Option<Arc<ConfigMap>>;
    /// A Secret.
    fn secret(&self, namespace: &str, name: &str) -> Option<Arc<Secret>>;
    /// The Services of a namespace, by name.
    fn services(&self, namespace: &str) -> Vec<Arc<Service>>;
}

/// The longest `NAME=value` and the longest argument that Linux gives a program, without the zero at its end.
/// Source: `MAX_ARG_STRLEN`, `include/uapi/linux/binfmts.h`.
pub(super) const WORD_BYTES_MAX: usize = (128 << 10) - 1;
/// How much environment a container may have: Linux gives a program a quarter of its stack (8 MiB as a rule) for all its variables,
/// arguments and the pointers to them, and some of that is the program's own. Source: `execve(2)`.
pub(super) const ENV_BYTES_MAX: usize = 1920 << 10;
/// How much may be put into an environment in all: sources may replace what others put there.
const WORK_BYTES_MAX: usize = 16 << 20;
/// What a word costs beside its bytes: the zero at its end and the pointer to it.
pub(super) const WORD_COST: usize = 9;

/// The environment of a container.
///
/// # Errors
/// When what a variable comes from is not there, or when the environment is too big for a program: the error names the field.
pub fn environment(
    pod: &Pod,
    spec: &Container,
    lookup: &dyn Lookup,
    node: NodeFacts,
    pod_ip: Option<Ipv4Addr>,
) -> Result<Vec<Variable>, ConfigError> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let scope = Scope { pod, spec, namespace, lookup, node, pod_ip };
    let place = place_of(pod, spec);
    let services = Vars::of(scope.services());
    let mut env = Vars::default();
    for (i, source) in spec.env_from.iter().flatten().enumerate() {
        scope.add_all(source, &mut env, &format!("{place}.envFrom[{i}]"))?;
    }
    for (i, var) in spec.env.iter().flatten().enumerate() {
        let field = format!("{place}.env[{i}].{}", if var.value_from.is_some() { "valueFrom" } else { "value" });
        if let Some(value) = scope.value(var, &env, &services, &field)? {
            env.set(&var.name, value, &field)?;
        }
    }
    for (name, value) in services.list {
        if env.get(&name).is_none() {
            env.set(&name, value, "spec.enableServiceLinks")?;
        }
    }
    Ok(env.list.into_iter().map(|(name, value)| variable(&name, value)).collect())
}

/// Where a container is in its pod, as errors write it.
pub(super) fn place_of(pod: &Pod, spec: &Container) -> String {
    let of_pod = pod.spec.as_ref();
    let at = |list: &[Container]| list.iter().position(|c| c.name == spec.name);
    let init = of_pod.and_then(|s| at(s.init_containers.as_deref().unwrap_or_default()));
    let ephemeral = of_pod.and_then(|s| s.ephemeral_containers.iter().flatten().position(|c| c.name == spec.name));
    match (init, ephemeral) {
        (Some(i), _) => format!("spec.initContainers[{i}]"),
        (_, Some(i)) => format!("spec.ephemeralContainers[{i}]"),
        (None, None) => format!("spec.containers[{}]", of_pod.and_then(|s| at(&s.containers)).unwrap_or_default()),
    }
}

/// What an environment takes of what a program may be given.
pub(super) fn bytes_of(env: &[Variable]) -> usize {
    env.iter().map(|(name, value)| name.len() + 1 + value.reveal().len() + WORD_COST).sum()
}

/// Looks names up in a list of variables.
pub(super) struct Known<'a>(Map<&'a str, &'a str>);

impl<'a> Known<'a> {
    pub(super) fn of(env: &'a [Variable]) -> Self {
        Self(env.iter().map(|(name, value)| (name.as_str(), value.reveal().as_str())).collect())
    }

    pub(super) fn get(&self, name: &str) -> Option<&'a str> {
        self.0.get(name).copied()
    }
}

/// Variables in the order in which they were first set, no bigger than a program can take.
#[derive(Default)]
struct Vars {
    list: Vec<(String, String)>,
    places: Map<String, usize>,
    bytes: usize,
    spent: usize,
}

impl Vars {
    /// Variables that nothing has counted yet.
    fn of(list: Vec<(String, String)>) -> Self {
        let places = list.iter().enumerate().map(|(i, (name, _))| (name.clone(), i)).collect();
        Self { list, places, ..Self::default() }
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.places.get(name).map(|i| self.list[*i].1.as_str())
    }

    /// Sets a variable; `field` is where it comes from.
    fn set(&mut self, name: &str, value: String, field: &str) -> Result<(), ConfigError> {
        let word = name.len() + 1 + value.len();
        if word > WORD_BYTES_MAX {
            return Err(ConfigError::TooLong { field: field.to_owned(), bytes_max: WORD_BYTES_MAX });
        }
        self.spent += word;
        if let Some(i) = self.places.get(name) {
            let old = std::mem::replace(&mut self.list[*i].1, value);
            self.bytes -= name.len() + 1 + old.len() + WORD_COST;
        } else {
            self.places.insert(name.to_owned(), self.list.len());
            self.list.push((name.to_owned(), value));
        }
        self.bytes += word + WORD_COST;
        let too_big = |bytes_max| Err(ConfigError::EnvironmentTooLong { field: field.to_owned(), bytes_max });
        match (self.bytes, self.spent) {
            (bytes, _) if bytes > ENV_BYTES_MAX => too_big(ENV_BYTES_MAX),
            (_, spent) if spent > WORK_BYTES_MAX => too_big(WORK_BYTES_MAX),
            _ => Ok(()),
        }
    }
}

struct Scope<'a> {
    pod: &'a Pod,
    spec: &'a Container,
    namespace: &'a str,
    lookup: &'a dyn Lookup,
    node: NodeFacts,
    pod_ip: Option<Ipv4Addr>,
}

impl Scope<'_> {
    fn config_map(&self, name: &str) -> Result<Arc<ConfigMap>, ConfigError> {
        let found = self.lookup.config_map(self.namespace, name);
        found.ok_or_else(|| ConfigError::NotFound { kind: "configmap", name: name.to_owned() })
    }

    fn secret(&self, name: &str) -> Result<Arc<Secret>, ConfigError> {
        let found = self.lookup.secret(self.namespace, name);
        found.ok_or_else(|| ConfigError::NotFound { kind: "secret", name: name.to_owned() })
    }

    /// Every key of a ConfigMap or Secret as a variable.
    fn add_all(&self, source: &EnvFromSource, env: &mut Vars, field: &str) -> Result<(), ConfigError> {
        let prefix = source.prefix.as_deref().unwrap_or_default();
        if let Some(from) = &source.config_map_ref
            && let Some(map) = optional(from.optional, self.config_map(&from.name))?
        {
            for (key, value) in map.data.iter().flatten() {
                env.set(&format!("{prefix}{key}"), value.clone(), field)?;
            }
        }
        if let Some(from) = &source.secret_ref
            && let Some(secret) = optional(from.optional, self.secret(&from.name))?
        {
            for (key, value) in secret.data.iter().flatten() {
                env.set(&format!("{prefix}{key}"), text(value), field)?;
            }
        }
        Ok(())
    }

    /// A variable's value; `None` when what it comes from is optional and missing.
    fn value(&self, var: &EnvVar, env: &Vars, services: &Vars, field: &str) -> Result<Option<String>, ConfigError> {
        if let Some(source) = &var.value_from {
            return self.value_from(source);
        }
        let known = |name: &str| env.get(name).or_else(|| services.get(name));
        let value = expand(var.value.as_deref().unwrap_or_default(), WORD_BYTES_MAX, &known);
        let too_long = |TooLong| ConfigError::TooLong { field: field.to_owned(), bytes_max: WORD_BYTES_MAX };
        value.map(Some).map_err(too_long)
    }

    fn value_from(&self, source: &EnvVarSource) -> Result<Option<String>, ConfigError> {
        if let Some(field) = &source.field_ref {
            return fields::pod_field(self.pod, &field.field_path, self.node, self.pod_ip).map(Some);
        }
        if let Some(resource) = &source.resource_field_ref {
            return fields::resource_field(self.pod, Some(self.spec), resource, self.node).map(Some);
        }
        if let Some(key) = &source.config_map_key_ref {
            let found = optional(key.optional, self.config_map(&key.name))?;
            let value = found.as_ref().and_then(|map| map.data.as_ref()?.get(&key.key).cloned());
            return self.keyed("ConfigMap", &key.name, &key.key, key.optional, value);
        }
        if let Some(key) = &source.secret_key_ref {
            let found = optional(key.optional, self.secret(&key.name))?;
            let value = found.as_ref().and_then(|secret| secret.data.as_ref()?.get(&key.key).map(text));
            return self.keyed("Secret", &key.name, &key.key, key.optional, value);
        }
        Err(ConfigError::Other("skiff does not support variables from files".into()))
    }

    fn keyed(
        &self,
        kind: &'static str,
        name: &str,
        key: &str,
        is_optional: Option<bool>,
        value: Option<String>,
    ) -> Result<Option<String>, ConfigError> {
        if value.is_some() || is_optional == Some(true) {
            return Ok(value);
        }
        Err(ConfigError::NoKey { kind, namespace: self.namespace.into(), name: name.into(), key: key.into() })
    }

    /// The variables of the Services of the namespace, and of `default/kubernetes`.
    fn services(&self) -> Vec<(String, String)> {
        let links = self.pod.spec.as_ref().and_then(|s| s.enable_service_links).unwrap_or(true);
        let is_master = |s: &Service| s.metadata.name.as_deref() == Some("kubernetes");
        let mut all: Vec<Arc<Service>> = if links { self.lookup.services(self.namespace) } else { Vec::new() };
        let has_master = self.namespace == "default" && all.iter().any(|s| is_master(s));
        if !has_master {
            all.retain(|s| !is_master(s));
            all.extend(self.lookup.services("default").into_iter().filter(|s| is_master(s)));
        }
        all.sort_list_by(|a, b| a.metadata.name.cmp(&b.metadata.name));
        all.iter().flat_map(|service| service_variables(service)).collect()
    }
}

fn optional<T>(is_optional: Option<bool>, found: Result<T, ConfigError>) -> Result<Option<T>, ConfigError> {
    match found {
        Ok(value) => Ok(Some(value)),
        Err(ConfigError::NotFound { .. }) if is_optional == Some(true) => Ok(None),
        Err(e) => Err(e),
    }
}

fn text(bytes: &ByteString) -> String {
    String::from_utf8_lossy(&bytes.0).into_owned()
}

fn upper(name: &str) -> String {
    name.to_uppercase().replace('-', "_")
}

/// The variables of one Service: Kubernetes' own and those of Docker's old links.
fn service_variables(service: &Service) -> Vec<(String, String)> {
    let spec = service.spec.clone().unwrap_or_default();
    let ip = spec.cluster_ip.unwrap_or_default();
    let ports = spec.ports.unwrap_or_default();
    let (Some(first), false) = (ports.first(), matches!(ip.as_str(), "" | "None")) else { return Vec::new() };
    let prefix = upper(service.metadata.name.as_deref().unwrap_or_default());
    let mut env = vec![
        (format!("{prefix}_SERVICE_HOST"), ip.clone()),
        (format!("{prefix}_SERVICE_PORT"), first.port.to_string()),
    ];
    for port in &ports {
        if let Some(name) = port.name.as_deref().filter(|n| !n.is_empty()) {
            env.push((format!("{prefix}_SERVICE_PORT_{}", upper(name)), port.port.to_string()));
        }
    }
    env.push((format!("{prefix}_PORT"), url(first, &ip)));
    ports.iter().for_each(|port| env.extend(link_variables(&prefix, port, &ip)));
    env
}

fn protocol(port: &ServicePort) -> &str {
    port.protocol.as_deref().unwrap_or("TCP")
}

fn url(port: &ServicePort, ip: &str) -> String {
    format!("{}://{ip}:{}", protocol(port).to_lowercase(), port.port)
}

fn link_variables(prefix: &str, port: &ServicePort, ip: &str) -> [(String, String); 4] {
    let prefix = format!("{prefix}_PORT_{}_{}", port.port, protocol(port).to_uppercase());
    [
        (prefix.clone(), url(port, ip)),
        (format!("{prefix}_PROTO"), protocol(port).to_lowercase()),
        (format!("{prefix}_PORT"), port.port.to_string()),
        (format!("{prefix}_ADDR"), ip.to_owned()),
    ]
}
