//! A container's environment: `envFrom`, `env`, and the Services around it.
//!
//! **Source**: `pkg/kubelet/kubelet_pods.go` `makeEnvironmentVariables`, `pkg/kubelet/envvars/envvars.go`, v1.37.
//! Unlike the kubelet, whose order is that of a Go map, variables keep the order of the spec; Services come last, by name.

use super::{ConfigError, NodeFacts, expand::expand, fields};
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

/// The environment of a container.
pub fn environment(
    pod: &Pod,
    spec: &Container,
    lookup: &dyn Lookup,
    node: NodeFacts,
    pod_ip: Option<Ipv4Addr>,
) -> Result<Vec<(String, String)>, ConfigError> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let scope = Scope { pod, spec, namespace, lookup, node, pod_ip };
    let services = scope.services();
    let mut env = Vars::default();
    for source in spec.env_from.iter().flatten() {
        scope.add_all(source, &mut env)?;
    }
    for var in spec.env.iter().flatten() {
        if let Some(value) = scope.value(var, &env, &services)? {
            env.set(&var.name, value);
        }
    }
    for (name, value) in services {
        if env.get(&name).is_none() {
            env.set(&name, value);
        }
    }
    Ok(env.0)
}

/// A lookup in a list of variables.
pub(super) fn lookup_in(env: &[(String, String)]) -> impl Fn(&str) -> Option<String> {
    move |name| env.iter().rev().find(|(n, _)| n == name).map(|(_, value)| value.clone())
}

#[derive(Default)]
struct Vars(Vec<(String, String)>);

impl Vars {
    fn get(&self, name: &str) -> Option<&String> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, value)| value)
    }

    fn set(&mut self, name: &str, value: String) {
        match self.0.iter_mut().find(|(n, _)| n == name) {
            Some((_, old)) => *old = value,
            None => self.0.push((name.to_owned(), value)),
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
    fn add_all(&self, source: &EnvFromSource, env: &mut Vars) -> Result<(), ConfigError> {
        let prefix = source.prefix.as_deref().unwrap_or_default();
        if let Some(from) = &source.config_map_ref
            && let Some(map) = optional(from.optional, self.config_map(&from.name))?
        {
            map.data.iter().flatten().for_each(|(key, value)| env.set(&format!("{prefix}{key}"), value.clone()));
        }
        if let Some(from) = &source.secret_ref
            && let Some(secret) = optional(from.optional, self.secret(&from.name))?
        {
            secret.data.iter().flatten().for_each(|(key, value)| env.set(&format!("{prefix}{key}"), text(value)));
        }
        Ok(())
    }

    /// A variable's value; `None` when what it comes from is optional and missing.
    fn value(&self, var: &EnvVar, env: &Vars, services: &[(String, String)]) -> Result<Option<String>, ConfigError> {
        if let Some(source) = &var.value_from {
            self.value_from(source)
        } else {
            let known = |name: &str| env.get(name).cloned().or_else(|| lookup_in(services)(name));
            Ok(Some(expand(var.value.as_deref().unwrap_or_default(), &known)))
        }
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
        all.sort_by(|a, b| a.metadata.name.cmp(&b.metadata.name));
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
