//! `Service`, core/v1.
//!
//! Numbers (ClusterIP, node ports) are given by the registry's allocator between the hooks `prepare_*` and `validate`.
//!
//! **Source**: `pkg/apis/core/{v1/defaults,validation/validation}.go`, `pkg/registry/core/service/strategy.go` and
//! `storage/alloc.go`, v1.37.

use super::{
    check::{self, Errors},
    part,
    pod_spec::{defaults, port_or_name},
    text,
};
use crate::{
    api::{
        field::FieldError,
        kind::{ALL_VERBS, Kind, KindInfo, PROXY_VERBS, STATUS, Scope, Subresource},
        names,
        selector::Fields,
        table::{self, Column},
    },
    base::ordered::Set,
};
use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{
        ClientIPConfig, LoadBalancerStatus, Service, ServicePort, ServiceSpec, ServiceStatus, SessionAffinityConfig,
    },
    apimachinery::pkg::util::intstr::IntOrString,
};
use serde_json::{Value, json};

const TYPES: &[&str] = &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
/// How long an affinity lasts unless the user says: three hours.
const AFFINITY_SECS: i32 = 10_800;
const AFFINITY_SECS_MAX: i32 = 86_400;

const PROXY: Subresource<'static> = Subresource::of("proxy", ("", "v1", "ServiceProxyOptions"), PROXY_VERBS);

/// The kind `Service`.
#[derive(Debug)]
pub struct Services;

impl Kind for Services {
    type Object = Service;
    const INFO: KindInfo<'static> = KindInfo {
        group: "",
        version: "v1",
        kind: "Service",
        plural: "services",
        singular: "service",
        short_names: &["svc"],
        categories: &["all"],
        scope: Scope::Namespaced,
        verbs: ALL_VERBS,
        subresources: &[PROXY, STATUS],
        columns: &[
            Column::name(),
            Column::text("Type", "How the service is reached."),
            Column::text("Cluster-IP", "Its address in the cluster."),
            Column::text("External-IP", "Its addresses outside the cluster."),
            Column::text("Port(s)", "Its ports, with node ports behind a colon."),
            Column::age(),
            Column::text("Selector", "The labels of the pods that answer for it.").wide(),
        ],
        stored_as: None,
        schema: "io.k8s.api.core.v1.Service",
    };

    fn set_defaults(obj: &mut Service) {
        let spec = obj.spec.get_or_insert_default();
        defaults::text(&mut spec.session_affinity, "None");
        default_affinity(spec);
        defaults::text(&mut spec.type_, "ClusterIP");
        for port in spec.ports.iter_mut().flatten() {
            defaults::text(&mut port.protocol, "TCP");
            default_target(port);
        }
        if is_externally_accessible(spec) {
            defaults::text(&mut spec.external_traffic_policy, "Cluster");
        }
        if spec.type_.as_deref() != Some("ExternalName") {
            spec.internal_traffic_policy.get_or_insert_with(|| "Cluster".to_owned());
        }
        if spec.type_.as_deref() == Some("LoadBalancer") {
            spec.allocate_load_balancer_node_ports.get_or_insert(true);
        }
        let status = obj.status.get_or_insert_default();
        status.load_balancer.get_or_insert_default();
        default_ip_mode(status);
    }

    fn prepare_create(obj: &mut Service) {
        let balancer = Some(LoadBalancerStatus::default());
        obj.status = Some(ServiceStatus { load_balancer: balancer, ..ServiceStatus::default() });
        let spec = obj.spec.get_or_insert_default();
        if has_text(&spec.cluster_ip) && spec.cluster_ips.as_ref().is_none_or(Vec::is_empty) {
            spec.cluster_ips = spec.cluster_ip.clone().map(|ip| vec![ip]);
        }
        default_families(spec);
    }

    fn validate(obj: &Service) -> Errors {
        let mut errs = Errors::new();
        let spec = part(&obj.spec);
        validate_spec(&mut errs, &spec);
        errs
    }

    fn prepare_update(new: &mut Service, old: &Service) {
        new.status.clone_from(&old.status);
        let (Some(spec), Some(old)) = (&mut new.spec, &old.spec) else { return };
        sync_cluster_ips(spec, old);
        drop_type_dependent(spec, old);
        default_families(spec);
    }

    fn validate_update(new: &Service, old: &Service) -> Errors {
        let mut errs = Errors::new();
        if let (Some(new), Some(old)) = (&new.spec, &old.spec) {
            validate_addresses_update(&mut errs, new, old);
            validate_class_update(&mut errs, new, old);
        }
        errs
    }

    fn prepare_status(new: &mut Service, old: &Service) {
        new.spec.clone_from(&old.spec);
    }

    fn validate_status(new: &Service, _old: &Service) -> Errors {
        let mut errs = Errors::new();
        validate_balancer(&mut errs, new);
        errs
    }

    fn has_generation() -> bool {
        false
    }

    fn validate_name(name: &str) -> Vec<String> {
        names::dns1035_label(name)
    }

    fn field_labels() -> &'static [(&'static str, &'static str)] {
        &[("spec.clusterIP", "spec.clusterIP"), ("spec.type", "spec.type")]
    }

    fn selectable_fields(obj: &Service) -> Fields<'static> {
        let spec = part(&obj.spec);
        Fields::from([("spec.clusterIP", text(&spec.cluster_ip)), ("spec.type", text(&spec.type_))])
    }

    fn creates_on_update() -> bool {
        true
    }

    fn returns_deleted() -> bool {
        true
    }

    fn row(obj: &Service, now: Timestamp) -> Vec<Value> {
        let spec = part(&obj.spec);
        let ip = spec.cluster_ips.iter().flatten().next().map_or(table::NONE, String::as_str);
        let ports: Vec<String> = spec.ports.iter().flatten().map(port_text).collect();
        vec![
            table::name(&obj.metadata),
            json!(spec.type_.as_deref().unwrap_or_default()),
            json!(ip),
            json!(external_ip(obj, &spec)),
            table::or(&ports.join(","), table::NONE),
            table::age(&obj.metadata, now),
            table::labels(spec.selector.as_ref()),
        ]
    }

    fn warnings(obj: &Service) -> Vec<String> {
        obj.spec.as_ref().map(warnings).unwrap_or_default()
    }
}

#[allow(clippy::ref_option, reason = "callers hold the field")]
fn has_text(text: &Option<String>) -> bool {
    text.as_deref().is_some_and(|t| !t.is_empty())
}

fn is_type(spec: &ServiceSpec, kind: &str) -> bool {
    spec.type_.as_deref() == Some(kind)
}

fn is_headless(spec: &ServiceSpec) -> bool {
    spec.cluster_ips.iter().flatten().next().or(spec.cluster_ip.as_ref()).is_some_and(|ip| ip == "None")
}

/// Source: `ExternallyAccessible` in `pkg/api/service/util.go`.
fn is_externally_accessible(spec: &ServiceSpec) -> bool {
    match spec.type_.as_deref() {
        Some("LoadBalancer" | "NodePort") => true,
        Some("ClusterIP") => spec.external_ips.as_ref().is_some_and(|ips| !ips.is_empty()),
        _ => false,
    }
}

fn needs_health_check(spec: &ServiceSpec) -> bool {
    is_type(spec, "LoadBalancer") && spec.external_traffic_policy.as_deref() == Some("Local")
}

fn default_affinity(spec: &mut ServiceSpec) {
    match spec.session_affinity.as_deref() {
        Some("None") => spec.session_affinity_config = None,
        Some("ClientIP") => {
            let config = spec.session_affinity_config.get_or_insert_with(SessionAffinityConfig::default);
            let client_ip = config.client_ip.get_or_insert_with(ClientIPConfig::default);
            client_ip.timeout_seconds.get_or_insert(AFFINITY_SECS);
        }
        _ => {}
    }
}

fn default_target(port: &mut ServicePort) {
    let is_open = match &port.target_port {
        None | Some(IntOrString::Int(0)) => true,
        Some(IntOrString::String(name)) => name.is_empty(),
        Some(IntOrString::Int(_)) => false,
    };
    if is_open {
        port.target_port = Some(IntOrString::Int(port.port));
    }
}

fn default_ip_mode(status: &mut ServiceStatus) {
    let ingress = status.load_balancer.iter_mut().flat_map(|b| b.ingress.iter_mut().flatten());
    for point in ingress.filter(|i| i.ip.as_deref().is_some_and(|ip| !ip.is_empty())) {
        point.ip_mode.get_or_insert_with(|| "VIP".to_owned());
    }
}

/// The cluster has IPv4 alone.
fn default_families(spec: &mut ServiceSpec) {
    if is_type(spec, "ExternalName") {
        return;
    }
    spec.ip_family_policy.get_or_insert_with(|| "SingleStack".to_owned());
    let families = spec.ip_families.get_or_insert_default();
    if families.is_empty() {
        families.push("IPv4".to_owned());
    }
}

/// Keeps `clusterIP` and `clusterIPs` in step when a client knows only the former.
/// Source: `NormalizeClusterIPs` in `storage/alloc.go`.
fn sync_cluster_ips(new: &mut ServiceSpec, old: &ServiceSpec) {
    let is_empty = |ips: &Option<Vec<String>>| ips.as_ref().is_none_or(Vec::is_empty);
    if !is_empty(&old.cluster_ips) && is_empty(&new.cluster_ips) && old.cluster_ip == new.cluster_ip {
        new.cluster_ips.clone_from(&old.cluster_ips);
    }
    if old.cluster_ip != new.cluster_ip && old.cluster_ips == new.cluster_ips {
        let cleared = has_text(&old.cluster_ip) && !has_text(&new.cluster_ip);
        new.cluster_ips = if cleared { None } else { new.cluster_ip.clone().map(|ip| vec![ip]) };
    }
}

/// Drops what the new type cannot have, where the user did not touch it.
/// Source: `dropTypeDependentFields` in `strategy.go`.
fn drop_type_dependent(new: &mut ServiceSpec, old: &ServiceSpec) {
    if is_externally_accessible(old)
        && !is_externally_accessible(new)
        && new.external_traffic_policy == old.external_traffic_policy
    {
        new.external_traffic_policy = None;
    }
    if needs_health_check(old) && !needs_health_check(new) && new.health_check_node_port == old.health_check_node_port {
        new.health_check_node_port = None;
    }
    if is_type(old, "LoadBalancer") && !is_type(new, "LoadBalancer") {
        if new.allocate_load_balancer_node_ports == old.allocate_load_balancer_node_ports {
            new.allocate_load_balancer_node_ports = None;
        }
        if new.load_balancer_class == old.load_balancer_class {
            new.load_balancer_class = None;
        }
    }
    if !is_type(old, "ExternalName") && is_type(new, "ExternalName") {
        if new.cluster_ips == old.cluster_ips && new.cluster_ip == old.cluster_ip {
            new.cluster_ip = None;
            new.cluster_ips = None;
        }
        new.ip_families = None;
        new.ip_family_policy = None;
        new.internal_traffic_policy = None;
    }
    if is_type(old, "ExternalName") && !is_type(new, "ExternalName") && new.external_name == old.external_name {
        new.external_name = None;
    }
}

fn validate_spec(errs: &mut Errors, spec: &ServiceSpec) {
    let ports = spec.ports.as_deref().unwrap_or_default();
    if ports.is_empty() && !is_headless(spec) && !is_type(spec, "ExternalName") {
        errs.push(FieldError::required("spec.ports", ""));
    }
    validate_type(errs, spec);
    validate_ports(errs, ports);
    if let Some(selector) = &spec.selector {
        errs.extend(names::check_labels(selector, "spec.selector"));
    }
    validate_affinity(errs, spec);
    validate_addresses(errs, spec);
    for (i, ip) in spec.external_ips.iter().flatten().enumerate() {
        let at = format!("spec.externalIPs[{i}]");
        if let Some(parsed) = check::ip(errs, &at, ip) {
            check::endpoint_ip(errs, &at, ip, parsed);
        }
    }
    check::one_of(errs, "spec.type", spec.type_.as_deref(), TYPES);
    validate_unique_ports(errs, spec, ports);
    validate_balancer_fields(errs, spec);
    validate_traffic(errs, spec);
}

fn validate_type(errs: &mut Errors, spec: &ServiceSpec) {
    match spec.type_.as_deref() {
        Some(kind @ ("LoadBalancer" | "NodePort")) if is_headless(spec) => {
            let why = format!("may not be set to 'None' for {kind} services");
            errs.push(FieldError::invalid("spec.clusterIPs[0]", "None", why));
        }
        Some("ExternalName") => validate_external_name(errs, spec),
        _ => {}
    }
}

fn validate_external_name(errs: &mut Errors, spec: &ServiceSpec) {
    let given = [
        ("clusterIPs", spec.cluster_ips.as_ref().is_some_and(|l| !l.is_empty()) || has_text(&spec.cluster_ip)),
        ("ipFamilies", spec.ip_families.as_ref().is_some_and(|l| !l.is_empty())),
        ("ipFamilyPolicy", spec.ip_family_policy.is_some()),
    ];
    for (field, _) in given.iter().filter(|(_, is_given)| *is_given) {
        errs.push(FieldError::forbidden(format!("spec.{field}"), "may not be set for ExternalName services"));
    }
    let name = spec.external_name.as_deref().unwrap_or_default();
    match name.strip_suffix('.').unwrap_or(name) {
        "" => errs.push(FieldError::required("spec.externalName", "")),
        name => check::subdomain(errs, "spec.externalName", name),
    }
}

fn validate_ports(errs: &mut Errors, ports: &[ServicePort]) {
    let mut taken = Set::new();
    for (i, port) in ports.iter().enumerate() {
        let at = format!("spec.ports[{i}]");
        match port.name.as_deref().unwrap_or_default() {
            "" if ports.len() > 1 => errs.push(FieldError::required(format!("{at}.name"), "")),
            "" => {}
            name => {
                check::label(errs, &format!("{at}.name"), name);
                if !taken.insert(name) {
                    errs.push(FieldError::duplicate(format!("{at}.name"), name));
                }
            }
        }
        check::port_number(errs, &format!("{at}.port"), port.port);
        check::protocol(errs, format!("{at}.protocol"), port.protocol.as_deref());
        let target = port.target_port.clone().unwrap_or(IntOrString::Int(port.port));
        port_or_name(errs, &target, &format!("{at}.targetPort"));
        if let Some(protocol) = &port.app_protocol {
            check::qualified_name(errs, &format!("{at}.appProtocol"), protocol);
        }
    }
}

fn validate_unique_ports(errs: &mut Errors, spec: &ServiceSpec, ports: &[ServicePort]) {
    let node_port = |p: &ServicePort| p.node_port.filter(|n| *n != 0);
    let mut node_ports = Set::new();
    for (i, port) in ports.iter().enumerate() {
        let at = format!("spec.ports[{i}].nodePort");
        if is_type(spec, "ClusterIP") && node_port(port).is_some() {
            errs.push(FieldError::forbidden(&at, "may not be used when `type` is 'ClusterIP'"));
        }
        if node_port(port).is_some() && !node_ports.insert((&port.protocol, node_port(port))) {
            errs.push(FieldError::duplicate(at, port.node_port));
        }
    }
    let mut numbers = Set::new();
    for (i, port) in ports.iter().enumerate() {
        if !numbers.insert((&port.protocol, port.port)) {
            errs.push(FieldError::duplicate(format!("spec.ports[{i}]"), PortKey::of(port)));
        }
    }
}

/// What Kubernetes shows of a port that is there twice: its inner form with all but the key cleared.
#[derive(serde::Serialize)]
#[serde(rename_all = "PascalCase")]
struct PortKey<'a> {
    name: &'a str,
    protocol: &'a str,
    app_protocol: Option<&'a str>,
    port: i32,
    target_port: i32,
    node_port: i32,
}

impl<'a> PortKey<'a> {
    fn of(port: &'a ServicePort) -> Self {
        let protocol = port.protocol.as_deref().unwrap_or_default();
        Self { name: "", protocol, app_protocol: None, port: port.port, target_port: 0, node_port: 0 }
    }
}

fn validate_affinity(errs: &mut Errors, spec: &ServiceSpec) {
    let affinity = spec.session_affinity.as_deref();
    check::one_of(errs, "spec.sessionAffinity", affinity, &["ClientIP", "None"]);
    let at = "spec.sessionAffinityConfig";
    match (affinity, &spec.session_affinity_config) {
        (Some("None"), Some(_)) => {
            errs.push(FieldError::forbidden(at, "must not be set when session affinity is None"));
        }
        (Some("ClientIP"), config) => {
            let seconds = config.as_ref().and_then(|c| c.client_ip.as_ref()).and_then(|c| c.timeout_seconds);
            match seconds {
                None => errs.push(FieldError::required(at, "when session affinity type is ClientIP")),
                Some(1..=AFFINITY_SECS_MAX) => {}
                Some(wrong) => errs.push(FieldError::invalid(
                    format!("{at}.clientIP.timeoutSeconds"),
                    wrong,
                    format!("must be greater than 0 and less than {AFFINITY_SECS_MAX}"),
                )),
            }
        }
        _ => {}
    }
}

/// Source: `ValidateServiceClusterIPsRelatedFields`, and the messages of `storage/alloc.go` for what a cluster has not.
fn validate_addresses(errs: &mut Errors, spec: &ServiceSpec) {
    if is_type(spec, "ExternalName") {
        return;
    }
    let ips = spec.cluster_ips.as_deref().unwrap_or_default();
    if ips.first().map(String::as_str).unwrap_or_default() != spec.cluster_ip.as_deref().unwrap_or_default() {
        errs.push(match (has_text(&spec.cluster_ip), ips) {
            (true, []) => FieldError::required("spec.clusterIPs", ""),
            (true, _) => FieldError::invalid("spec.clusterIPs", ips, "first value must match `clusterIP`"),
            (false, _) => {
                FieldError::invalid("spec.clusterIPs", ips, "must be empty when `clusterIP` is not specified")
            }
        });
    }
    for (i, ip) in ips.iter().enumerate() {
        match (i, ip.as_str()) {
            (0, "None") if ips.len() == 1 => {}
            (0, "None") => {
                errs.push(FieldError::invalid("spec.clusterIPs", ips, "'None' must be the first and only value"));
            }
            (_, ip) => {
                check::ip(errs, &format!("spec.clusterIPs[{i}]"), ip);
            }
        }
    }
    if ips.len() > 1 {
        let why = "may specify no more than one IP for each IP family";
        errs.push(FieldError::invalid("spec.clusterIPs", ips, why));
    }
    validate_families(errs, spec);
}

fn validate_families(errs: &mut Errors, spec: &ServiceSpec) {
    let families = spec.ip_families.as_deref().unwrap_or_default();
    for (i, family) in families.iter().enumerate() {
        let at = format!("spec.ipFamilies[{i}]");
        if families[..i].contains(family) {
            errs.push(FieldError::duplicate(&at, family));
        }
        match family.as_str() {
            "IPv4" => {}
            "IPv6" => errs.push(FieldError::invalid(at, family, "not configured on this cluster")),
            other => errs.push(FieldError::not_supported(at, other, &["IPv4", "IPv6"])),
        }
    }
    let policies = ["PreferDualStack", "RequireDualStack", "SingleStack"];
    let at = "spec.ipFamilyPolicy";
    check::maybe_one_of(errs, at, spec.ip_family_policy.as_deref(), &policies);
    if spec.ip_family_policy.as_deref() == Some("RequireDualStack") {
        let why = "this cluster is not configured for dual-stack services";
        errs.push(FieldError::invalid(at, "RequireDualStack", why));
    }
}

fn validate_balancer_fields(errs: &mut Errors, spec: &ServiceSpec) {
    let is_balancer = is_type(spec, "LoadBalancer");
    let why = "may only be used when `type` is 'LoadBalancer'";
    for (i, range) in spec.load_balancer_source_ranges.iter().flatten().enumerate() {
        if i == 0 && !is_balancer {
            errs.push(FieldError::forbidden("spec.LoadBalancerSourceRanges", why));
        }
        if !super::node::is_cidr(range.trim()) {
            let why = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";
            errs.push(FieldError::invalid(format!("spec.LoadBalancerSourceRanges[{i}]"), range, why));
        }
    }
    if spec.allocate_load_balancer_node_ports.is_some() && !is_balancer {
        errs.push(FieldError::forbidden("spec.allocateLoadBalancerNodePorts", why));
    }
    if let Some(class) = &spec.load_balancer_class {
        let at = "spec.loadBalancerClass";
        if is_balancer {
            check::qualified_name(errs, at, class);
        } else {
            errs.push(FieldError::forbidden(at, why));
        }
    }
}

fn validate_traffic(errs: &mut Errors, spec: &ServiceSpec) {
    let policies = ["Cluster", "Local"];
    let external = spec.external_traffic_policy.as_deref();
    let at = "spec.externalTrafficPolicy";
    if is_externally_accessible(spec) {
        check::one_of(errs, at, external, &policies);
    } else if let Some(given) = external.filter(|e| !e.is_empty()) {
        errs.push(FieldError::invalid(at, given, "may only be set for externally-accessible services"));
    }
    if let Some(port) = spec.health_check_node_port.filter(|p| *p != 0) {
        let at = "spec.healthCheckNodePort";
        if needs_health_check(spec) {
            check::port_number(errs, at, port);
        } else {
            let why = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'";
            errs.push(FieldError::invalid(at, port, why));
        }
    }
    let internal = spec.internal_traffic_policy.as_deref();
    let at = "spec.internalTrafficPolicy";
    if internal.is_some() || !is_type(spec, "ExternalName") {
        check::one_of(errs, at, internal, &policies);
    }
    let distributions = ["PreferClose", "PreferSameZone", "PreferSameNode"];
    let at = "spec.trafficDistribution";
    check::maybe_one_of(errs, at, spec.traffic_distribution.as_deref(), &distributions);
}

/// Once a Service has an address, it keeps it. Source: `validateUpgradeDowngradeClusterIPs`.
fn validate_addresses_update(errs: &mut Errors, new: &ServiceSpec, old: &ServiceSpec) {
    let either_external = is_type(new, "ExternalName") || is_type(old, "ExternalName");
    if either_external || (is_headless(old) && is_headless(new)) {
        return;
    }
    let first = |s: &ServiceSpec| s.cluster_ips.iter().flatten().next().cloned();
    let (Some(had), has) = (first(old), first(new)) else { return };
    let why = match has {
        None => "primary clusterIP can not be unset",
        Some(ip) if ip != had => "may not change once set",
        Some(_) => return,
    };
    errs.push(FieldError::invalid("spec.clusterIPs[0]", part(&new.cluster_ips), why));
}

fn validate_class_update(errs: &mut Errors, new: &ServiceSpec, old: &ServiceSpec) {
    let both = is_type(new, "LoadBalancer") && is_type(old, "LoadBalancer");
    if both && new.load_balancer_class != old.load_balancer_class {
        errs.push(FieldError::invalid("spec.loadBalancerClass", &new.load_balancer_class, "may not change once set"));
    }
}

/// Source: `ValidateLoadBalancerStatus`.
fn validate_balancer(errs: &mut Errors, obj: &Service) {
    let at = "status.loadBalancer.ingress";
    let balancer = obj.status.as_ref().and_then(|s| s.load_balancer.as_ref());
    let ingress = balancer.and_then(|b| b.ingress.as_deref()).unwrap_or_default();
    if !ingress.is_empty() && !obj.spec.as_ref().is_some_and(|s| is_type(s, "LoadBalancer")) {
        let why = "may only be used when `spec.type` is \"LoadBalancer\"";
        errs.push(FieldError::forbidden(at, why));
        return;
    }
    for (i, point) in ingress.iter().enumerate() {
        if let Some(ip) = point.ip.as_deref().filter(|ip| !ip.is_empty()) {
            check::ip(errs, &format!("{at}[{i}].ip"), ip);
        }
        if let Some(name) = point.hostname.as_deref().filter(|n| !n.is_empty()) {
            check::subdomain(errs, &format!("{at}[{i}].hostname"), name);
            if name.parse::<std::net::IpAddr>().is_ok() {
                let why = "must be a DNS name, not an IP address";
                errs.push(FieldError::invalid(format!("{at}[{i}].hostname"), name, why));
            }
        }
    }
}

fn external_ip(obj: &Service, spec: &ServiceSpec) -> String {
    let external = part(&spec.external_ips);
    let or = |ips: &[String], placeholder: &str| match ips {
        [] => placeholder.to_owned(),
        ips => ips.join(","),
    };
    match spec.type_.as_deref() {
        Some("ClusterIP" | "NodePort") => or(&external, table::NONE),
        Some("LoadBalancer") => {
            let balancer = obj.status.as_ref().and_then(|s| s.load_balancer.as_ref());
            let points = balancer.iter().flat_map(|b| b.ingress.iter().flatten());
            let given = |t: &Option<String>| t.clone().filter(|t| !t.is_empty());
            let given: Set<_> = points.filter_map(|p| given(&p.ip).or_else(|| given(&p.hostname))).collect();
            let all: Vec<String> = given.into_iter().chain(external.into_owned()).collect();
            or(&all, "<pending>")
        }
        Some("ExternalName") => text(&spec.external_name),
        _ => table::UNKNOWN.to_owned(),
    }
}

fn port_text(port: &ServicePort) -> String {
    let protocol = port.protocol.as_deref().unwrap_or_default();
    match port.node_port.filter(|n| *n > 0) {
        Some(node_port) => format!("{}:{node_port}/{protocol}", port.port),
        None => format!("{}/{protocol}", port.port),
    }
}

const LOCAL: &str = "Local has no effect: every node is this machine, so all endpoints are local, and pods see the address of the data plane and not the client's";

fn warnings(spec: &ServiceSpec) -> Vec<String> {
    let mut warnings = Vec::new();
    let mut say = |field: &str, why: &str| warnings.push(format!("spec.{field}: {why}"));
    for (i, port) in spec.ports.iter().flatten().enumerate() {
        if port.protocol.as_deref() == Some("SCTP") {
            say(&format!("ports[{i}].protocol"), "has no effect: only TCP and UDP ports are proxied");
        }
    }
    if spec.load_balancer_class.is_some() {
        say("loadBalancerClass", "the cluster's own load balancer leaves this service to another one");
    }
    for (field, policy) in [
        ("externalTrafficPolicy", &spec.external_traffic_policy),
        ("internalTrafficPolicy", &spec.internal_traffic_policy),
    ] {
        if policy.as_deref() == Some("Local") {
            say(field, LOCAL);
        }
    }
    if spec.health_check_node_port.is_some_and(|p| p != 0) {
        say("healthCheckNodePort", "has no effect: nothing answers at this port");
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::kinds::testing::{causes, created, created_yaml, lines, read, row, update_causes};
    use expect_test::expect;

    const WEB: &str = "
metadata: {name: web, namespace: default, creationTimestamp: '2026-03-01T11:00:00Z'}
spec: {type: NodePort, clusterIP: 10.245.1.2, selector: {app: web}, ports: [{port: 8080, nodePort: 30000}]}
";

    #[test]
    fn a_small_service_is_filled_in() {
        expect![[r#"
            apiVersion: v1
            kind: Service
            metadata: {}
            spec:
              internalTrafficPolicy: Cluster
              ipFamilies:
              - IPv4
              ipFamilyPolicy: SingleStack
              ports:
              - port: 80
                protocol: TCP
                targetPort: 80
              sessionAffinity: None
              type: ClusterIP
            status:
              loadBalancer: {}
        "#]]
        .assert_eq(&created_yaml::<Services>("spec: {ports: [{port: 80}]}"));
        expect![[r#"
            apiVersion: v1
            kind: Service
            metadata: {}
            spec:
              allocateLoadBalancerNodePorts: true
              externalTrafficPolicy: Cluster
              internalTrafficPolicy: Cluster
              ipFamilies:
              - IPv4
              ipFamilyPolicy: SingleStack
              ports:
              - port: 80
                protocol: TCP
                targetPort: http
              sessionAffinity: ClientIP
              sessionAffinityConfig:
                clientIP:
                  timeoutSeconds: 10800
              type: LoadBalancer
            status:
              loadBalancer: {}
        "#]]
        .assert_eq(&created_yaml::<Services>(
            "spec: {type: LoadBalancer, sessionAffinity: ClientIP, ports: [{port: 80, targetPort: http}]}",
        ));
        expect![[r#"
            apiVersion: v1
            kind: Service
            metadata: {}
            spec:
              externalName: a.b
              sessionAffinity: None
              type: ExternalName
            status:
              loadBalancer: {}
        "#]]
        .assert_eq(&created_yaml::<Services>("spec: {type: ExternalName, externalName: a.b}"));
        assert_eq!(causes::<Services>(WEB), "");
    }

    #[test]
    fn all_that_is_wrong_is_named_at_once() {
        let wrong = "
spec:
  type: ClusterIP
  clusterIP: here
  externalIPs: [127.0.0.1, nowhere]
  externalTrafficPolicy: Local
  internalTrafficPolicy: Sometimes
  sessionAffinity: Sticky
  selector: {'a b': c}
  ipFamilies: [IPv6, IPv4, IPv9]
  ipFamilyPolicy: RequireDualStack
  allocateLoadBalancerNodePorts: true
  loadBalancerSourceRanges: [all]
  healthCheckNodePort: 3
  trafficDistribution: Anywhere
  ports:
  - {port: 0, targetPort: UPPER}
  - {name: a.b, port: 80, protocol: tcp, nodePort: 30000}
  - {name: a.b, port: 80, protocol: tcp, nodePort: 30000, appProtocol: 'a b'}
";
        expect![[r#"
            spec.ports[0].name: Required value
            spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive
            spec.ports[0].targetPort: Invalid value: "UPPER": must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)
            spec.ports[0].targetPort: Invalid value: "UPPER": must contain at least one letter (a-z)
            spec.ports[1].name: Invalid value: "a.b": must not contain dots
            spec.ports[1].protocol: Unsupported value: "tcp": supported values: "SCTP", "TCP", "UDP"
            spec.ports[2].name: Invalid value: "a.b": must not contain dots
            spec.ports[2].name: Duplicate value: "a.b"
            spec.ports[2].protocol: Unsupported value: "tcp": supported values: "SCTP", "TCP", "UDP"
            spec.ports[2].appProtocol: Invalid value: "a b": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')
            spec.selector: Invalid value: "a b": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')
            spec.sessionAffinity: Unsupported value: "Sticky": supported values: "ClientIP", "None"
            spec.clusterIPs[0]: Invalid value: "here": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)
            spec.ipFamilies[0]: Invalid value: "IPv6": not configured on this cluster
            spec.ipFamilies[2]: Unsupported value: "IPv9": supported values: "IPv4", "IPv6"
            spec.ipFamilyPolicy: Invalid value: "RequireDualStack": this cluster is not configured for dual-stack services
            spec.externalIPs[0]: Invalid value: "127.0.0.1": may not be in the loopback range (127.0.0.0/8, ::1/128)
            spec.externalIPs[1]: Invalid value: "nowhere": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)
            spec.ports[1].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'
            spec.ports[2].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'
            spec.ports[2].nodePort: Duplicate value: 30000
            spec.ports[2]: Duplicate value: {"Name":"","Protocol":"tcp","AppProtocol":null,"Port":80,"TargetPort":0,"NodePort":0}
            spec.LoadBalancerSourceRanges: Forbidden: may only be used when `type` is 'LoadBalancer'
            spec.LoadBalancerSourceRanges[0]: Invalid value: "all": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)
            spec.allocateLoadBalancerNodePorts: Forbidden: may only be used when `type` is 'LoadBalancer'
            spec.healthCheckNodePort: Invalid value: 3: may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'
            spec.internalTrafficPolicy: Unsupported value: "Sometimes": supported values: "Cluster", "Local"
            spec.trafficDistribution: Unsupported value: "Anywhere": supported values: "PreferClose", "PreferSameZone", "PreferSameNode"
        "#]].assert_eq(&causes::<Services>(wrong));
        expect![[r#"
            spec.ports: Required value
        "#]]
        .assert_eq(&causes::<Services>("metadata: {name: a}"));
        expect![[r#"
            spec.clusterIPs: Forbidden: may not be set for ExternalName services
            spec.externalName: Required value
        "#]]
        .assert_eq(&causes::<Services>("spec: {type: ExternalName, clusterIP: 1.2.3.4}"));
        expect![[r#"
            spec.clusterIPs[0]: Invalid value: "None": may not be set to 'None' for NodePort services
        "#]]
        .assert_eq(&causes::<Services>("spec: {type: NodePort, clusterIP: None}"));
        expect![[r#"
            spec.sessionAffinityConfig.clientIP.timeoutSeconds: Invalid value: 0: must be greater than 0 and less than 86400
            spec.type: Unsupported value: "Magic": supported values: "ClusterIP", "ExternalName", "LoadBalancer", "NodePort"
        "#]].assert_eq(&causes::<Services>("spec: {type: Magic, sessionAffinity: ClientIP, sessionAffinityConfig: {clientIP: {timeoutSeconds: 0}}, ports: [{port: 80}]}"));
        assert_eq!(causes::<Services>("spec: {clusterIP: None}"), "", "a headless service needs no ports");
        assert_eq!(Services::validate_name("1st").len(), 1);
    }

    #[test]
    fn an_address_stays() {
        let other = WEB.replace("10.245.1.2", "10.245.1.3");
        expect![[r#"
            spec.clusterIPs: Required value
            spec.clusterIPs[0]: Invalid value: []: primary clusterIP can not be unset
        "#]]
        .assert_eq(&update_causes::<Services>(WEB, &other));
        let ips = |text: &str| text.replace("clusterIP: 10.245.1.2", "clusterIP: 10.245.1.2, clusterIPs: [10.245.1.2]");
        let patched = ips(WEB).replace("clusterIP: 10.245.1.2", "clusterIP: 10.245.1.3");
        expect![[r#"
            spec.clusterIPs[0]: Invalid value: ["10.245.1.3"]: may not change once set
        "#]]
        .assert_eq(&update_causes::<Services>(&ips(WEB), &patched));
        let none = WEB.replace("NodePort", "ClusterIP").replace(", nodePort: 30000", "").replace("10.245.1.2", "None");
        expect![[r#"
            spec.clusterIPs: Required value
            spec.clusterIPs[0]: Invalid value: []: primary clusterIP can not be unset
        "#]]
        .assert_eq(&update_causes::<Services>(WEB, &none));
    }

    #[test]
    fn a_change_of_type_drops_what_the_new_type_has_not() {
        let old = created::<Services>("spec: {type: LoadBalancer, clusterIP: 10.245.1.2, ports: [{port: 80}]}");
        let mut new = old.clone();
        new.spec.as_mut().unwrap().type_ = Some("ClusterIP".into());
        Services::prepare_update(&mut new, &old);
        assert_eq!(Services::validate(&new), []);
        let mut new = old.clone();
        let spec = new.spec.as_mut().unwrap();
        (spec.type_, spec.external_name) = (Some("ExternalName".into()), Some("a.b".into()));
        (spec.external_traffic_policy, spec.allocate_load_balancer_node_ports) = (Some("Cluster".into()), Some(true));
        Services::prepare_update(&mut new, &old);
        assert_eq!(Services::validate(&new), []);
        assert_eq!(new.spec.unwrap().cluster_ip, None);
    }

    #[test]
    fn old_clients_may_know_only_one_address() {
        let old = created::<Services>(WEB);
        let mut new = read::<Services>(WEB);
        Services::set_defaults(&mut new);
        Services::prepare_update(&mut new, &old);
        assert_eq!(new.spec.unwrap().cluster_ips, Some(vec!["10.245.1.2".to_owned()]));
    }

    #[test]
    fn a_balancer_status_is_for_balancers() {
        let mut web = created::<Services>(WEB);
        web.status = crate::testing::from_yaml("{loadBalancer: {ingress: [{ip: x, hostname: 1.2.3.4}]}}").unwrap();
        let lines = |s: &Service| lines(&Services::validate_status(s, s));
        expect![[r#"
            status.loadBalancer.ingress: Forbidden: may only be used when `spec.type` is "LoadBalancer"
        "#]]
        .assert_eq(&lines(&web));
        web.spec.as_mut().unwrap().type_ = Some("LoadBalancer".into());
        expect![[r#"
            status.loadBalancer.ingress[0].ip: Invalid value: "x": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)
            status.loadBalancer.ingress[0].hostname: Invalid value: "1.2.3.4": must be a DNS name, not an IP address
        "#]].assert_eq(&lines(&web));
    }

    #[test]
    fn rows_read_as_in_kubernetes() {
        let web = WEB
            .replace("10.245.1.2,", "10.245.1.2, clusterIPs: [10.245.1.2],")
            .replace("nodePort: 30000", "nodePort: 30000, protocol: TCP");
        expect!["web | NodePort | 10.245.1.2 | <none> | 8080:30000/TCP | 60m | app=web"]
            .assert_eq(&row::<Services>(&web));
        let pending = "metadata: {name: lb}\nspec: {type: LoadBalancer, ports: [{port: 80, protocol: TCP}, {port: 53, protocol: UDP}]}";
        expect!["lb | LoadBalancer | <none> | <pending> | 80/TCP,53/UDP | <unknown> | <none>"].assert_eq(&row::<
            Services,
        >(
            pending
        ));
        let served = format!("{pending}\nstatus: {{loadBalancer: {{ingress: [{{ip: 127.0.0.1}}, {{hostname: h}}]}}}}");
        expect!["lb | LoadBalancer | <none> | 127.0.0.1,h | 80/TCP,53/UDP | <unknown> | <none>"].assert_eq(&row::<
            Services,
        >(
            &served
        ));
        expect!["e | ExternalName | <none> | a.b | <none> | <unknown> | <none>"]
            .assert_eq(&row::<Services>("metadata: {name: e}\nspec: {type: ExternalName, externalName: a.b}"));
        expect!["h | ClusterIP | None | 1.2.3.4 | <none> | <unknown> | <none>"].assert_eq(&row::<Services>(
            "metadata: {name: h}\nspec: {type: ClusterIP, clusterIPs: [None], externalIPs: [1.2.3.4]}",
        ));
    }

    #[test]
    fn what_has_no_effect_is_warned_of() {
        let service = "spec: {type: LoadBalancer, loadBalancerClass: example.com/other, externalIPs: [1.2.3.4], \
             externalTrafficPolicy: Local, internalTrafficPolicy: Local, \
             ports: [{port: 80}, {port: 53, protocol: UDP}, {port: 9, protocol: SCTP}]}";
        expect![[r#"
            spec.ports[2].protocol: has no effect: only TCP and UDP ports are proxied
            spec.loadBalancerClass: the cluster's own load balancer leaves this service to another one
            spec.externalTrafficPolicy: Local has no effect: every node is this machine, so all endpoints are local, and pods see the address of the data plane and not the client's
            spec.internalTrafficPolicy: Local has no effect: every node is this machine, so all endpoints are local, and pods see the address of the data plane and not the client's"#]]
        .assert_eq(&Services::warnings(&created::<Services>(service)).join("\n"));
        assert_eq!(Services::warnings(&created::<Services>(WEB)), Vec::<String>::new());
    }
}
