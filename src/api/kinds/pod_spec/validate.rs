//! All that is wrong with a pod spec.
//!
//! The order of the checks is that of `ValidatePodSpec`; what skiff cannot do is refused at the place of the field.

use super::{Of, containers, not_yet, resources, scheduling, security, volumes};
use crate::api::{
    field::FieldError,
    kinds::check::{self, Errors},
    names,
};
use k8s_openapi::api::core::v1::PodSpec;

/// All that is wrong with the spec at `path`.
pub(in crate::api::kinds) fn validate(spec: &PodSpec, path: &str, of: Of) -> Errors {
    let mut errs = Errors::new();
    if spec.termination_grace_period_seconds.is_none() {
        errs.push(FieldError::required(format!("{path}.terminationGracePeriodSeconds"), ""));
    }
    let names = volumes::validate(&mut errs, spec.volumes.as_deref().unwrap_or_default(), &format!("{path}.volumes"));
    containers::validate(&mut errs, spec, path, &names);
    resources::validate_pod(&mut errs, spec, path);
    if of == Of::Pod {
        containers::validate_images(&mut errs, spec, path);
        volumes::validate_images(&mut errs, spec.volumes.as_deref().unwrap_or_default(), &format!("{path}.volumes"));
    }
    host_ports(&mut errs, spec, path, of);
    policies(&mut errs, spec, path);
    security::validate_pod(&mut errs, spec, path);
    dns(&mut errs, spec, path);
    scheduling::validate(&mut errs, spec, path);
    readiness_gates(&mut errs, spec, path);
    host_names(&mut errs, spec, path);
    deadline(&mut errs, spec, path);
    unsupported(&mut errs, spec, path);
    errs
}

/// With the host's network, a container's port is a port of the host.
fn host_ports(errs: &mut Errors, spec: &PodSpec, path: &str, of: Of) {
    if spec.host_network != Some(true) {
        return;
    }
    for (i, container) in spec.containers.iter().enumerate() {
        for (j, port) in container.ports.iter().flatten().enumerate() {
            let host_port = port.host_port.unwrap_or(0);
            if (of == Of::Pod || host_port != 0) && host_port != port.container_port {
                errs.push(FieldError::invalid(
                    format!("{path}.containers[{i}].ports[{j}].hostPort"),
                    host_port,
                    "must match `containerPort` when `hostNetwork` is true",
                ));
            }
        }
    }
}

fn policies(errs: &mut Errors, spec: &PodSpec, path: &str) {
    let restart = ["Always", "OnFailure", "Never"];
    check::one_of(errs, format!("{path}.restartPolicy"), spec.restart_policy.as_deref(), &restart);
    let dns = ["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"];
    check::one_of(errs, format!("{path}.dnsPolicy"), spec.dns_policy.as_deref(), &dns);
    if let Some(labels) = &spec.node_selector {
        errs.extend(names::check_labels(labels, &format!("{path}.nodeSelector")));
    }
}

const NAMESERVERS_MAX: usize = 3;
const SEARCHES_MAX: usize = 32;
const SEARCH_BYTES_MAX: usize = 2048;

fn dns(errs: &mut Errors, spec: &PodSpec, path: &str) {
    let path = format!("{path}.dnsConfig");
    let is_none = spec.dns_policy.as_deref() == Some("None");
    let Some(config) = &spec.dns_config else {
        if is_none {
            errs.push(FieldError::required(path, "must provide `dnsConfig` when `dnsPolicy` is None"));
        }
        return;
    };
    let servers = config.nameservers.as_deref().unwrap_or_default();
    if is_none && servers.is_empty() {
        let why = "must provide at least one DNS nameserver when `dnsPolicy` is None";
        errs.push(FieldError::required(format!("{path}.nameservers"), why));
        return;
    }
    if servers.len() > NAMESERVERS_MAX {
        let why = format!("must not have more than {NAMESERVERS_MAX} nameservers");
        errs.push(FieldError::invalid(format!("{path}.nameservers"), servers, why));
    }
    for (i, server) in servers.iter().enumerate() {
        check::ip(errs, &format!("{path}.nameservers[{i}]"), server);
    }
    searches(errs, config.searches.as_deref().unwrap_or_default(), &format!("{path}.searches"));
    for (i, option) in config.options.iter().flatten().enumerate() {
        if option.name.as_deref().unwrap_or_default().is_empty() {
            errs.push(FieldError::required(format!("{path}.options[{i}]"), "must not be empty"));
        }
    }
}

fn searches(errs: &mut Errors, searches: &[String], path: &str) {
    if searches.len() > SEARCHES_MAX {
        let why = format!("must not have more than {SEARCHES_MAX} search paths");
        errs.push(FieldError::invalid(path, searches, why));
    }
    if searches.join(" ").len() > SEARCH_BYTES_MAX {
        let why =
            format!("must not have more than {SEARCH_BYTES_MAX} characters (including spaces) in the search list");
        errs.push(FieldError::invalid(path, searches, why));
    }
    for (i, search) in searches.iter().enumerate().filter(|(_, s)| *s != ".") {
        // Unlike host names, search domains may have underscores.
        let name = search.strip_suffix('.').unwrap_or(search).replace('_', "-");
        check::each(errs, &format!("{path}[{i}]"), search, names::dns1123_subdomain(&name));
    }
}

fn host_names(errs: &mut Errors, spec: &PodSpec, path: &str) {
    for (field, name) in [("hostname", &spec.hostname), ("subdomain", &spec.subdomain)] {
        if let Some(name) = name.as_deref().filter(|n| !n.is_empty()) {
            check::label(errs, &format!("{path}.{field}"), name);
        }
    }
    let names = [
        ("serviceAccountName", &spec.service_account_name),
        ("nodeName", &spec.node_name),
        ("priorityClassName", &spec.priority_class_name),
    ];
    for (field, name) in names {
        if let Some(name) = name.as_deref().filter(|n| !n.is_empty()) {
            check::subdomain(errs, &format!("{path}.{field}"), name);
        }
    }
    hostname_override(errs, spec, &format!("{path}.hostnameOverride"));
    for (i, alias) in spec.host_aliases.iter().flatten().enumerate() {
        check::ip(errs, &format!("{path}.hostAliases[{i}].ip"), &alias.ip);
        for (j, name) in alias.hostnames.iter().flatten().enumerate() {
            check::subdomain(errs, &format!("{path}.hostAliases[{i}].hostnames[{j}]"), name);
        }
    }
}

/// The longest host name that Linux takes.
const HOSTNAME_MAX: usize = 64;

/// The name that takes the place of `hostname` and `subdomain`. Source: `ValidatePodSpec`.
fn hostname_override(errs: &mut Errors, spec: &PodSpec, path: &str) {
    let Some(name) = spec.hostname_override.as_deref() else { return };
    check::subdomain(errs, path, name);
    if name.len() > HOSTNAME_MAX {
        errs.push(FieldError::too_long(path, HOSTNAME_MAX));
    }
    if spec.set_hostname_as_fqdn == Some(true) {
        errs.push(FieldError::forbidden(path, "cannot be set when setHostnameAsFQDN is true"));
    }
    if spec.host_network == Some(true) {
        errs.push(FieldError::forbidden(path, "cannot be set when hostNetwork is true"));
    }
}

/// Source: `validateReadinessGates`.
fn readiness_gates(errs: &mut Errors, spec: &PodSpec, path: &str) {
    for (i, gate) in spec.readiness_gates.iter().flatten().enumerate() {
        check::qualified_name(errs, &format!("{path}.readinessGates[{i}].conditionType"), &gate.condition_type);
    }
}

fn deadline(errs: &mut Errors, spec: &PodSpec, path: &str) {
    let max = i64::from(i32::MAX);
    if let Some(seconds) = spec.active_deadline_seconds.filter(|s| !(1..=max).contains(s)) {
        errs.push(FieldError::invalid(format!("{path}.activeDeadlineSeconds"), seconds, names::out_of_range(1, max)));
    }
}

/// What would change how the pod runs, and cannot be done.
fn unsupported(errs: &mut Errors, spec: &PodSpec, path: &str) {
    let windows = spec.os.as_ref().is_some_and(|os| os.name != "linux");
    let given = [
        ("schedulingGroup", spec.scheduling_group.is_some(), "scheduling groups"),
        ("resourceClaims", spec.resource_claims.as_ref().is_some_and(|c| !c.is_empty()), "resource claims"),
        ("runtimeClassName", spec.runtime_class_name.is_some(), "runtime classes"),
        ("overhead", spec.overhead.as_ref().is_some_and(|o| !o.is_empty()), "pod overhead"),
        ("os.name", windows, "operating systems other than linux"),
        ("hostUsers", spec.host_users == Some(false), "user namespaces"),
        ("evictionResponders", spec.eviction_responders.as_ref().is_some_and(|r| !r.is_empty()), "eviction responders"),
    ];
    let refused = given.into_iter().filter(|(_, is_given, _)| *is_given);
    errs.extend(refused.map(|(field, _, what)| FieldError::forbidden(format!("{path}.{field}"), not_yet(what))));
}
