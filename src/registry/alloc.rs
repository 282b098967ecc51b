//! Allocation: the ClusterIPs and node ports of Services.
//!
//! What is taken is read from the Services themselves, so there is nothing to repair after a crash. One Service is written at a time
//! ([`Allocator::begin`]), so that two cannot take the same number.
//! **Source**: `pkg/registry/core/service/storage/alloc.go`, v1.37.

mod repair;

pub use repair::repair;

use super::{Registry, options::Config};
use crate::{
    api::{field::FieldError, kind::Kind as _, kinds::service::Services, object::DynObject, status::ApiError},
    base::{
        ordered::{Map, Set},
        rng::Rng,
    },
};
use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use std::{net::Ipv4Addr, ops::Range, sync::Arc};

/// How many random draws are made before the range is searched from its start.
const DRAWS_MAX: usize = 32;

/// Serialises the writes that allocate.
#[derive(Debug, Default)]
pub(super) struct Allocator(Arc<tokio::sync::Mutex<()>>);

impl Allocator {
    /// Waits for its turn when this object takes numbers. Hold the guard until the object is written.
    pub(super) async fn begin(&self, obj: &dyn DynObject) -> Option<tokio::sync::OwnedMutexGuard<()>> {
        if obj.as_any().is::<Service>() { Some(Arc::clone(&self.0).lock_owned().await) } else { None }
    }
}

/// What other Services have, and the node ports that this one had before, which it keeps whatever range is given out now.
#[derive(Debug, Default, PartialEq, Eq)]
struct Taken {
    ips: Set<Ipv4Addr>,
    node_ports: Set<(String, i32)>,
    had: Set<(String, i32)>,
}

/// Gives a new Service its numbers.
pub(super) fn on_create(registry: &Registry, obj: &mut dyn DynObject) -> Result<(), ApiError> {
    let Some(service) = obj.as_any_mut().downcast_mut::<Service>() else { return Ok(()) };
    allocate(registry, service, Set::new())
}

/// Gives a changed Service the numbers that its new form needs; it keeps those it has.
pub(super) fn on_update(registry: &Registry, new: &mut dyn DynObject, old: &dyn DynObject) -> Result<(), ApiError> {
    let Some(old) = old.as_any().downcast_ref::<Service>() else { return Ok(()) };
    let Some(service) = new.as_any_mut().downcast_mut::<Service>() else { return Ok(()) };
    if let (Some(new), Some(old)) = (&mut service.spec, &old.spec) {
        keep_numbers(new, old);
    }
    allocate(registry, service, old.spec.as_ref().map(node_ports).unwrap_or_default())
}

/// Makes the Service's numbers its own; of node ports, `had` are already.
fn allocate(registry: &Registry, service: &mut Service, had: Set<(String, i32)>) -> Result<(), ApiError> {
    let taken = Taken { had, ..taken_by_others(registry, service.metadata.uid.as_deref()) };
    let Some(spec) = &mut service.spec else { return Ok(()) };
    let errors = decide(spec, &taken, registry.config(), registry.rng());
    if errors.is_empty() {
        return Ok(());
    }
    Err(ApiError::invalid(&Services::INFO, service.metadata.name.as_deref().unwrap_or_default(), errors))
}

fn taken_by_others(registry: &Registry, uid: Option<&str>) -> Taken {
    let mut taken = Taken::default();
    taken.ips.insert(registry.config().dns_ip);
    for other in registry.api::<Services>().list("").items {
        let Some(spec) = &other.spec else { continue };
        let is_dns = spec.cluster_ip.as_deref().and_then(|ip| ip.parse().ok()) == Some(registry.config().dns_ip);
        if other.metadata.uid.as_deref() == uid {
            if is_dns {
                taken.ips.remove(&registry.config().dns_ip);
            }
            continue;
        }
        taken.ips.extend(spec.cluster_ip.as_deref().and_then(|ip| ip.parse::<Ipv4Addr>().ok()));
        taken.node_ports.extend(node_ports(spec));
    }
    taken
}

/// The node ports that a Service names, with their protocols.
fn node_ports(spec: &ServiceSpec) -> Set<(String, i32)> {
    let ports = spec.ports.iter().flatten();
    ports.filter_map(|port| Some((protocol(port).to_owned(), port.node_port.filter(|n| *n != 0)?))).collect()
}

fn protocol(port: &ServicePort) -> &str {
    port.protocol.as_deref().unwrap_or("TCP")
}

fn kind_of(spec: &ServiceSpec) -> &str {
    spec.type_.as_deref().unwrap_or("ClusterIP")
}

fn has_node_ports(spec: &ServiceSpec) -> bool {
    match kind_of(spec) {
        "NodePort" => true,
        "LoadBalancer" => spec.allocate_load_balancer_node_ports != Some(false),
        _ => false,
    }
}

fn has_cluster_ip(spec: &ServiceSpec) -> bool {
    kind_of(spec) != "ExternalName"
}

/// Copies what the old Service had where the new one leaves it open, and drops what its new type has not.
/// Source: `patchAllocatedValues` and `dropTypeDependentFields`, service/strategy.go.
fn keep_numbers(new: &mut ServiceSpec, old: &ServiceSpec) {
    if has_cluster_ip(new) && has_cluster_ip(old) && new.cluster_ip.as_deref().unwrap_or_default().is_empty() {
        new.cluster_ip.clone_from(&old.cluster_ip);
        new.cluster_ips.clone_from(&old.cluster_ips);
    }
    let olds: Vec<_> = old.ports.iter().flatten().collect();
    if has_node_ports(new) && has_node_ports(old) {
        keep_node_ports(new.ports.get_or_insert_default(), &olds);
    }
    if !has_node_ports(new) && has_node_ports(old) {
        let had: Set<_> = olds.iter().map(|o| o.node_port).collect();
        for port in new.ports.iter_mut().flatten() {
            if had.contains(&port.node_port) {
                port.node_port = None;
            }
        }
    }
    if !has_cluster_ip(new) && has_cluster_ip(old) && new.cluster_ip == old.cluster_ip {
        new.cluster_ip = None;
        new.cluster_ips = None;
    }
}

/// Carries node ports over: by the port's name, as upstream, then by its protocol and number, so that a renamed port keeps its own too.
/// What the new ports say themselves stands, and none is carried twice for one protocol.
fn keep_node_ports(new: &mut [ServicePort], olds: &[&ServicePort]) {
    type Key = (String, String);
    fn by_name(port: &ServicePort) -> Key {
        (protocol(port).to_owned(), port.name.clone().unwrap_or_default())
    }
    fn by_number(port: &ServicePort) -> Key {
        (protocol(port).to_owned(), port.port.to_string())
    }
    let is_given = |n: &i32| *n != 0;
    let mut used: Set<(String, i32)> =
        new.iter().filter_map(|p| Some((protocol(p).to_owned(), p.node_port.filter(is_given)?))).collect();
    for key in [by_name as fn(&ServicePort) -> Key, by_number] {
        // Of several with one key the first counts.
        let had: Map<Key, Option<i32>> = olds.iter().rev().map(|o| (key(o), o.node_port)).collect();
        for port in new.iter_mut().filter(|p| p.node_port.unwrap_or(0) == 0) {
            let found = had.get(&key(port)).copied().flatten().filter(is_given);
            port.node_port = found.filter(|n| used.insert((protocol(port).to_owned(), *n)));
        }
    }
}

/// Fills a Service's address, families and node ports from what is free, or says what cannot be had.
fn decide(spec: &mut ServiceSpec, taken: &Taken, config: &Config, rng: &Rng) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if has_cluster_ip(spec) {
        errors.extend(decide_ip(spec, taken, config, rng).err());
        spec.ip_families.get_or_insert_with(|| vec!["IPv4".to_owned()]);
        spec.ip_family_policy.get_or_insert_with(|| "SingleStack".to_owned());
    }
    if has_node_ports(spec) {
        errors.extend(decide_node_ports(spec, taken, config, rng));
    }
    errors
}

fn decide_ip(spec: &mut ServiceSpec, taken: &Taken, config: &Config, rng: &Rng) -> Result<(), FieldError> {
    let given = spec.cluster_ip.clone().filter(|ip| !ip.is_empty());
    let given = given.or_else(|| spec.cluster_ips.iter().flatten().next().cloned());
    let ip = match given.as_deref() {
        Some("None") => "None".to_owned(),
        Some(text) => check_ip(text, taken, config)?,
        None => free_ip(taken, config, rng).ok_or_else(full)?.to_string(),
    };
    spec.cluster_ips = Some(vec![ip.clone()]);
    spec.cluster_ip = Some(ip);
    Ok(())
}

/// That no address is left.
fn full() -> FieldError {
    FieldError::invalid("spec.clusterIPs", Vec::<String>::new(), "failed to allocate a serviceIP: range is full")
}

fn check_ip(text: &str, taken: &Taken, config: &Config) -> Result<String, FieldError> {
    let refuse = |why: String| FieldError::invalid("spec.clusterIPs", [text], why);
    let Ok(ip) = text.parse::<Ipv4Addr>() else {
        return Err(refuse("must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)".into()));
    };
    let range = config.services;
    if range.is_own(ip) {
        return Err(refuse(format!(
            "failed to allocate IP {ip}: the last addresses of {range} are the data plane's own"
        )));
    }
    if !range.of_services().contains(&ip.to_bits()) {
        return Err(refuse(format!(
            "failed to allocate IP {ip}: the provided IP ({ip}) is not in the valid range. The range of valid IPs is {range}"
        )));
    }
    if taken.ips.contains(&ip) {
        return Err(refuse(format!("failed to allocate IP {ip}: provided IP is already allocated")));
    }
    Ok(text.to_owned())
}

/// A free address: the low part of the range is left to addresses that users choose.
/// Source: `calculateRangeOffset`, ipallocator: a sixteenth of the range, 16 to 256 addresses.
fn free_ip(taken: &Taken, config: &Config, rng: &Rng) -> Option<Ipv4Addr> {
    let Range { start, end } = config.services.of_services();
    let upper = (start + ((end - start) / 16).clamp(16, 256)).min(end - 1);
    let drawn = (0..DRAWS_MAX).map(|_| rng.between(u64::from(upper), u64::from(end)));
    let drawn = drawn.map(|n| u32::try_from(n).expect("drawn between two u32"));
    drawn.chain(upper..end).chain(start..upper).map(Ipv4Addr::from).find(|ip| !taken.ips.contains(ip))
}

fn decide_node_ports(spec: &mut ServiceSpec, taken: &Taken, config: &Config, rng: &Rng) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut used = taken.node_ports.clone();
    let ports = spec.ports.get_or_insert_default();
    for (i, port) in ports.iter().enumerate() {
        let Some(wanted) = port.node_port.filter(|n| *n != 0) else { continue };
        let (path, range) = (format!("spec.ports[{i}].nodePort"), config.node_ports);
        let wanted_port = (protocol(port).to_owned(), wanted);
        if !range.contains(wanted) && !taken.had.contains(&wanted_port) {
            let why = format!("provided port is not in the valid range. The range of valid ports is {range}");
            errors.push(FieldError::invalid(path, wanted, why));
        } else if !used.insert(wanted_port) {
            errors.push(FieldError::invalid(path, wanted, "provided port is already allocated"));
        }
    }
    for i in 0..ports.len() {
        if ports[i].node_port.unwrap_or(0) != 0 {
            continue;
        }
        // The same port over another protocol shares its number, where that is free: DNS answers on one port over both.
        let beside = ports.iter().find(|p| p.port == ports[i].port && p.node_port.unwrap_or(0) != 0);
        let beside = beside.and_then(|p| p.node_port).filter(|n| !used.contains(&(protocol(&ports[i]).to_owned(), *n)));
        let port = &mut ports[i];
        match beside.or_else(|| free_node_port(protocol(port), &used, config, rng)) {
            Some(free) => {
                used.insert((protocol(port).to_owned(), free));
                port.node_port = Some(free);
            }
            None => errors.push(FieldError::invalid(
                format!("spec.ports[{i}].nodePort"),
                port.node_port,
                "failed to allocate a nodePort: range is full",
            )),
        }
    }
    errors
}

/// A free node port: the first ones are left to users.
fn free_node_port(protocol: &str, used: &Set<(String, i32)>, config: &Config, rng: &Rng) -> Option<i32> {
    let (first, last) = config.node_ports.ends();
    let upper = (first + config.node_ports.offset()).min(last);
    let drawn = (0..DRAWS_MAX).map(|_| {
        let n = rng.between(u64::from(upper.unsigned_abs()), u64::from(last.unsigned_abs()) + 1);
        i32::try_from(n).expect("drawn between two ports")
    });
    drawn.chain(upper..=last).chain(first..upper).find(|n| !used.contains(&(protocol.to_owned(), *n)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{node_port_range::NodePortRange, service_range::ServiceRange};

    fn config() -> Config {
        Config {
            services: ServiceRange::new([10, 245, 0, 0].into(), 16),
            dns_ip: Ipv4Addr::new(10, 245, 0, 10),
            node_ports: NodePortRange::default(),
        }
    }

    fn node_port_service(node_port: Option<i32>) -> ServiceSpec {
        ServiceSpec {
            type_: Some("NodePort".into()),
            ports: Some(vec![ServicePort { port: 8080, node_port, ..Default::default() }]),
            ..Default::default()
        }
    }

    fn texts(errors: Vec<FieldError>) -> Vec<String> {
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_service_gets_an_address_and_a_node_port_of_its_own() {
        let mut spec = node_port_service(None);
        assert_eq!(decide(&mut spec, &Taken::default(), &config(), &Rng::seeded(1)), []);
        let ip: Ipv4Addr = spec.cluster_ip.unwrap().parse().unwrap();
        assert_eq!(ip.octets()[..2], [10, 245]);
        assert!((30086..=32767).contains(&spec.ports.unwrap()[0].node_port.unwrap()));
    }

    #[test]
    fn the_data_planes_own_addresses_are_no_services() {
        let mut wanted = ServiceSpec { cluster_ip: Some("10.245.255.254".into()), ..Default::default() };
        let errors = decide(&mut wanted, &Taken::default(), &config(), &Rng::seeded(1));
        assert_eq!(
            texts(errors),
            ["spec.clusterIPs: Invalid value: [\"10.245.255.254\"]: failed to allocate IP 10.245.255.254: the last \
              addresses of 10.245.0.0/16 are the data plane's own"]
        );
        let small = Config { services: ServiceRange::new([10, 245, 0, 0].into(), 27), ..config() };
        let mut taken = Taken::default();
        while let Some(ip) = free_ip(&taken, &small, &Rng::seeded(1)) {
            taken.ips.insert(ip);
        }
        assert_eq!(taken.ips.iter().next_back(), Some(&Ipv4Addr::new(10, 245, 0, 23)));
    }

    #[test]
    fn a_node_port_out_of_range_or_taken_is_refused_in_kubernetes_words() {
        let mut taken = Taken::default();
        taken.node_ports.insert(("TCP".into(), 30000));
        let errors = decide(&mut node_port_service(Some(30000)), &taken, &config(), &Rng::seeded(1));
        assert_eq!(texts(errors), ["spec.ports[0].nodePort: Invalid value: 30000: provided port is already allocated"]);
        let errors = decide(&mut node_port_service(Some(80)), &taken, &config(), &Rng::seeded(1));
        assert_eq!(
            texts(errors),
            ["spec.ports[0].nodePort: Invalid value: 80: provided port is not in the valid range. \
              The range of valid ports is 30000-32767"]
        );
    }

    #[test]
    fn an_update_keeps_the_numbers_and_a_change_of_type_drops_them() {
        let mut old = node_port_service(Some(30000));
        assert_eq!(decide(&mut old, &Taken::default(), &config(), &Rng::seeded(1)), []);
        let mut same = node_port_service(None);
        keep_numbers(&mut same, &old);
        assert_eq!((&same.cluster_ip, &same.ports), (&old.cluster_ip, &old.ports));
        let mut plain = ServiceSpec { type_: Some("ClusterIP".into()), ..old.clone() };
        keep_numbers(&mut plain, &old);
        assert_eq!(plain.ports.unwrap()[0].node_port, None);
    }

    fn port(name: &str, protocol: &str, port: i32, node_port: i32) -> ServicePort {
        let (name, protocol) = (Some(name.to_owned()), Some(protocol.to_owned()));
        ServicePort { name, protocol, port, node_port: Some(node_port).filter(|n| *n != 0), ..Default::default() }
    }

    #[test]
    fn node_ports_are_carried_over_by_name_then_by_protocol_and_port() {
        let old = [port("web", "TCP", 80, 30001), port("dns", "UDP", 53, 30002)];
        let kept = |mut new: Vec<ServicePort>| {
            keep_node_ports(&mut new, &old.iter().collect::<Vec<_>>());
            new.iter().map(|p| p.node_port.unwrap_or(0)).collect::<Vec<_>>()
        };
        assert_eq!(kept(vec![port("web", "TCP", 8080, 0)]), [30001], "its number changed");
        assert_eq!(
            kept(vec![port("http", "TCP", 80, 0), port("dns", "UDP", 53, 0)]),
            [30001, 30002],
            "its name changed"
        );
        assert_eq!(kept(vec![port("web", "TCP", 81, 0), port("old", "TCP", 80, 0)]), [30001, 0], "none twice");
        assert_eq!(
            kept(vec![port("web", "TCP", 80, 30009), port("dns", "UDP", 53, 0)]),
            [30009, 30002],
            "what is said stands"
        );
        assert_eq!(
            kept(vec![port("x", "TCP", 81, 30001), port("web", "TCP", 80, 0)]),
            [30001, 0],
            "not one that is used"
        );
    }

    #[test]
    fn one_node_port_serves_both_protocols_of_a_port() {
        let mut spec = ServiceSpec {
            type_: Some("NodePort".into()),
            ports: Some(vec![port("u", "UDP", 53, 0), port("t", "TCP", 53, 0), port("w", "TCP", 80, 0)]),
            ..Default::default()
        };
        assert_eq!(decide(&mut spec, &Taken::default(), &config(), &Rng::seeded(1)), []);
        let given: Vec<i32> = spec.ports.unwrap().iter().filter_map(|p| p.node_port).collect();
        assert_eq!(given[0], given[1]);
        assert_ne!(given[0], given[2]);
        let mut taken = Taken::default();
        taken.node_ports.insert(("TCP".into(), given[0]));
        let mut spec = ServiceSpec {
            type_: Some("NodePort".into()),
            ports: Some(vec![port("u", "UDP", 53, given[0]), port("t", "TCP", 53, 0)]),
            ..Default::default()
        };
        assert_eq!(decide(&mut spec, &taken, &config(), &Rng::seeded(1)), []);
        assert_ne!(spec.ports.unwrap()[1].node_port, Some(given[0]), "another Service has it");
    }

    #[test]
    fn a_service_keeps_a_port_that_is_no_longer_given_out() {
        let config = Config { node_ports: "31000-31100".parse().unwrap(), ..config() };
        let had = Set::from([("TCP".to_owned(), 30000)]);
        let taken = Taken { had, ..Taken::default() };
        assert_eq!(decide(&mut node_port_service(Some(30000)), &taken, &config, &Rng::seeded(3)), []);
        let errors = texts(decide(&mut node_port_service(Some(30001)), &taken, &config, &Rng::seeded(3)));
        assert!(errors[0].ends_with("The range of valid ports is 31000-31100"), "{errors:?}");
    }

    #[test]
    fn every_port_of_a_full_range_is_found_and_then_none() {
        let config = Config { node_ports: "30000-30003".parse().unwrap(), ..config() };
        let mut taken = Taken::default();
        for _ in 0..4 {
            let mut spec = node_port_service(None);
            assert_eq!(decide(&mut spec, &taken, &config, &Rng::seeded(3)), []);
            taken.node_ports.insert(("TCP".into(), spec.ports.unwrap()[0].node_port.unwrap()));
        }
        let errors = decide(&mut node_port_service(None), &taken, &config, &Rng::seeded(3));
        assert_eq!(texts(errors).len(), 1);
    }
}
