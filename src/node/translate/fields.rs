//! What `fieldRef` and `resourceFieldRef` show, in variables and in files. Pure.
//! **Source**: `pkg/fieldpath/fieldpath.go`, `pkg/api/v1/resource/helpers.go`, v1.37.

use super::{ConfigError, NodeFacts};
use crate::api::quantity;
use k8s_openapi::{
    api::core::v1::{Container, Pod, ResourceFieldSelector},
    apimachinery::pkg::api::resource::Quantity,
};
use std::{collections::BTreeMap, fmt::Write as _, net::Ipv4Addr};

/// The value of a pod's field.
pub fn pod_field(pod: &Pod, path: &str, node: NodeFacts, pod_ip: Option<Ipv4Addr>) -> Result<String, ConfigError> {
    let (meta, spec) = (&pod.metadata, pod.spec.as_ref());
    let text = |field: Option<&String>| Ok(field.cloned().unwrap_or_default());
    let address = || pod_ip.map(|ip| ip.to_string()).unwrap_or_default();
    if let Some((map, key)) = subscript(path) {
        let of = |values: &Option<BTreeMap<String, String>>| {
            Ok(values.iter().flatten().find(|(k, _)| *k == key).map(|(_, v)| v.clone()).unwrap_or_default())
        };
        return match map {
            "metadata.labels" => of(&meta.labels),
            "metadata.annotations" => of(&meta.annotations),
            _ => Err(unsupported(path)),
        };
    }
    match path {
        "metadata.name" => text(meta.name.as_ref()),
        "metadata.namespace" => text(meta.namespace.as_ref()),
        "metadata.uid" => text(meta.uid.as_ref()),
        "metadata.labels" => Ok(lines(meta.labels.as_ref())),
        "metadata.annotations" => Ok(lines(meta.annotations.as_ref())),
        "spec.nodeName" => text(spec.and_then(|s| s.node_name.as_ref())),
        "spec.serviceAccountName" => text(spec.and_then(|s| s.service_account_name.as_ref())),
        "status.hostIP" | "status.hostIPs" => Ok(node.ip.to_string()),
        "status.podIP" | "status.podIPs" => Ok(address()),
        _ => Err(unsupported(path)),
    }
}

fn unsupported(path: &str) -> ConfigError {
    ConfigError::Other(format!("unsupported fieldPath: {path}"))
}

/// `metadata.labels['key']` → (`metadata.labels`, `key`).
fn subscript(path: &str) -> Option<(&str, &str)> {
    path.strip_suffix("']")?.split_once("['")
}

/// `key="value"` lines, as the kubelet writes maps.
fn lines(map: Option<&BTreeMap<String, String>>) -> String {
    let mut text = map.into_iter().flatten().fold(String::new(), |mut text, (key, value)| {
        writeln!(text, "{key}={value:?}").expect("writing to a String cannot fail");
        text
    });
    text.truncate(text.trim_end_matches('\n').len());
    text
}

/// The value of a container's resource; `own` is the container that asks.
pub fn resource_field(
    pod: &Pod,
    own: Option<&Container>,
    selector: &ResourceFieldSelector,
    node: NodeFacts,
) -> Result<String, ConfigError> {
    let name = selector.container_name.as_deref().filter(|n| !n.is_empty());
    let spec = pod.spec.clone().unwrap_or_default();
    let by_name = |name: &str| {
        let mut all = spec.containers.iter().chain(spec.init_containers.iter().flatten());
        all.find(|c| c.name == name).ok_or_else(|| ConfigError::Other(format!("container {name} not found")))
    };
    let container = match (name, own) {
        (Some(name), _) => by_name(name)?,
        (None, Some(own)) => own,
        (None, None) => return Err(ConfigError::Other("a container name is needed".into())),
    };
    let resources = container.resources.clone().unwrap_or_default();
    let (limits, requests) = (resources.limits.unwrap_or_default(), resources.requests.unwrap_or_default());
    let value = match selector.resource.split_once('.') {
        Some(("limits", name)) => nonzero(limits.get(name)).unwrap_or_else(|| allocatable(name, node)),
        Some(("requests", name)) => requests.get(name).and_then(quantity::millis).unwrap_or_default(),
        _ => return Err(ConfigError::Other(format!("unsupported container resource : {}", selector.resource))),
    };
    let divisor = selector.divisor.as_ref().and_then(quantity::millis).filter(|d| *d > 0).unwrap_or(1000);
    Ok((value.saturating_add(divisor - 1).div_euclid(divisor)).to_string())
}

fn nonzero(quantity: Option<&Quantity>) -> Option<i128> {
    quantity.and_then(quantity::millis).filter(|milli| *milli != 0)
}

/// What the node can give of a resource, in thousandths.
fn allocatable(name: &str, node: NodeFacts) -> i128 {
    match name {
        "cpu" => i128::from(node.cpus) * 1000,
        "memory" => i128::from(node.memory_bytes) * 1000,
        "ephemeral-storage" => i128::from(node.disk_bytes) * 1000,
        _ => 0,
    }
}
