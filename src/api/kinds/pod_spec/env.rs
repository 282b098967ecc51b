//! The environment of a container: literal values, and references to fields, resources, ConfigMaps and Secrets.

use super::not_yet;
use crate::api::{
    field::FieldError,
    kinds::check::{self, Errors},
    names,
    quantity::Quantity,
};
use k8s_openapi::api::core::v1::{Container, EnvFromSource, EnvVar, ObjectFieldSelector, ResourceFieldSelector};

/// Fields of the pod that a variable may show.
const FIELDS: &[&str] = &[
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];
/// Fields of the pod that a file may show.
pub(super) const VOLUME_FIELDS: &[&str] =
    &["metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid"];
/// Resources of a container that a variable may show.
const RESOURCES: &[&str] = &[
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
];
const BYTE_DIVISORS: [&str; 13] = ["1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei"];

/// Checks `env` and `envFrom` of the container at `path`.
pub(super) fn validate(errs: &mut Errors, container: &Container, path: &str) {
    variables(errs, container.env.as_deref().unwrap_or_default(), &format!("{path}.env"));
    let list = format!("{path}.envFrom");
    for (i, source) in container.env_from.iter().flatten().enumerate() {
        env_from(errs, source, &list, &format!("{list}[{i}]"));
    }
}

/// Checks the variables of the list at `path`.
pub(in crate::api::kinds) fn variables(errs: &mut Errors, all: &[EnvVar], path: &str) {
    for (i, var) in all.iter().enumerate() {
        let at = format!("{path}[{i}]");
        match var.name.as_str() {
            "" => errs.push(FieldError::required(format!("{at}.name"), "")),
            name => check::each(errs, &format!("{at}.name"), name, names::env_name(name)),
        }
        value_from(errs, var, &format!("{at}.valueFrom"));
    }
}

fn value_from(errs: &mut Errors, var: &EnvVar, path: &str) {
    let Some(from) = &var.value_from else { return };
    let mut n_sources = 0;
    if let Some(field) = &from.field_ref {
        n_sources += 1;
        field_ref(errs, field, FIELDS, &format!("{path}.fieldRef"));
    }
    if let Some(resource) = &from.resource_field_ref {
        n_sources += 1;
        resource_ref(errs, resource, &format!("{path}.resourceFieldRef"));
    }
    if let Some(key) = &from.config_map_key_ref {
        n_sources += 1;
        key_ref(errs, &key.name, &key.key, &format!("{path}.configMapKeyRef"));
    }
    if let Some(key) = &from.secret_key_ref {
        n_sources += 1;
        key_ref(errs, &key.name, &key.key, &format!("{path}.secretKeyRef"));
    }
    if from.file_key_ref.is_some() {
        n_sources += 1;
        errs.push(FieldError::forbidden(format!("{path}.fileKeyRef"), not_yet("variables from files")));
    }
    let mut refuse = |why: &str| errs.push(FieldError::invalid(path, "", why));
    let has_value = var.value.as_deref().is_some_and(|v| !v.is_empty());
    match n_sources {
        0 => refuse(
            "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`",
        ),
        _ if has_value => refuse("may not be specified when `value` is not empty"),
        1 => {}
        _ => refuse("may not have more than one field specified at a time"),
    }
}

/// Checks a reference to one of these fields of the pod.
pub(super) fn field_ref(errs: &mut Errors, field: &ObjectFieldSelector, known: &[&str], path: &str) {
    if field.api_version.as_deref().unwrap_or_default().is_empty() {
        errs.push(FieldError::required(format!("{path}.apiVersion"), ""));
        return;
    }
    let at = format!("{path}.fieldPath");
    if field.field_path.is_empty() {
        errs.push(FieldError::required(at, ""));
        return;
    }
    if field.api_version.as_deref() != Some("v1") {
        let version = field.api_version.as_deref().unwrap_or_default();
        let why = format!("error converting fieldPath: unsupported pod version: {version}");
        errs.push(FieldError::invalid(at, &field.field_path, why));
        return;
    }
    match subscript(&field.field_path) {
        Some(("metadata.annotations", key)) => check::qualified_name(errs, path, &key.to_lowercase()),
        Some(("metadata.labels", key)) => check::qualified_name(errs, path, key),
        Some((other, _)) => errs.push(FieldError::invalid(path, other, "does not support subscript")),
        None if known.contains(&field.field_path.as_str()) => {}
        None => errs.push(FieldError::not_supported(at, &field.field_path, known)),
    }
}

/// Parts `metadata.labels['key']`.
fn subscript(path: &str) -> Option<(&str, &str)> {
    path.strip_suffix("']")?.split_once("['")
}

/// Checks a reference to a resource of a container.
pub(super) fn resource_ref(errs: &mut Errors, resource: &ResourceFieldSelector, path: &str) {
    let name = resource.resource.as_str();
    let is_huge = name.starts_with("limits.hugepages-") || name.starts_with("requests.hugepages-");
    if name.is_empty() {
        errs.push(FieldError::required(format!("{path}.resource"), ""));
    } else if !RESOURCES.contains(&name) && !is_huge {
        errs.push(FieldError::not_supported(format!("{path}.resource"), name, RESOURCES));
    }
    let Some(text) = &resource.divisor else { return };
    let at = format!("{path}.divisor");
    let Ok(divisor) = Quantity::of(text) else {
        errs.push(FieldError::invalid(at, text, crate::api::quantity::NotAQuantity.to_string()));
        return;
    };
    let divisor = if divisor.is_zero() { return } else { divisor.to_string() };
    let of_bytes = |what: &str| {
        format!("only divisor's values {} are supported with the {what} resource", BYTE_DIVISORS.join(", "))
    };
    let wrong = match name {
        "limits.cpu" | "requests.cpu" if !["1m", "1"].contains(&divisor.as_str()) => {
            Some("only divisor's values 1m and 1 are supported with the cpu resource".to_owned())
        }
        _ if BYTE_DIVISORS.contains(&divisor.as_str()) => None,
        "limits.memory" | "requests.memory" => Some(of_bytes("memory")),
        "limits.ephemeral-storage" | "requests.ephemeral-storage" => Some(of_bytes("local ephemeral storage")),
        _ if is_huge => Some(of_bytes("hugepages")),
        _ => None,
    };
    errs.extend(wrong.map(|why| FieldError::invalid(at, name, why)));
}

fn key_ref(errs: &mut Errors, name: &str, key: &str, path: &str) {
    check::subdomain(errs, &format!("{path}.name"), name);
    match key {
        "" => errs.push(FieldError::required(format!("{path}.key"), "")),
        _ => check::each(errs, &format!("{path}.key"), key, names::config_key(key)),
    }
}

fn env_from(errs: &mut Errors, source: &EnvFromSource, list: &str, path: &str) {
    if let Some(prefix) = source.prefix.as_deref().filter(|p| !p.is_empty()) {
        check::each(errs, &format!("{path}.prefix"), prefix, names::env_name(prefix));
    }
    let config_map = source.config_map_ref.as_ref().map(|r| ("configMapRef", &r.name));
    let secret = source.secret_ref.as_ref().map(|r| ("secretRef", &r.name));
    for (field, name) in [config_map, secret].into_iter().flatten() {
        let at = format!("{path}.{field}.name");
        match name.as_str() {
            "" => errs.push(FieldError::required(at, "")),
            name => check::subdomain(errs, &at, name),
        }
    }
    match (config_map, secret) {
        (None, None) => {
            errs.push(FieldError::invalid(list, "", "must specify one of: `configMapRef` or `secretRef`"));
        }
        (Some(_), Some(_)) => {
            errs.push(FieldError::invalid(list, "", "may not have more than one field specified at a time"));
        }
        _ => {}
    }
}
