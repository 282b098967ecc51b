//! Gives Services other addresses when theirs are not of the cluster's range any more: its network was lost, and another has its range.
//!
//! Called by `app` before anything is served.
//! **Source**: the repair loop of `pkg/registry/core/service/ipallocator/controller`, v1.37, which reports such addresses; here nobody
//! else can give others, so they are given.

use super::{Taken, free_ip, full, has_cluster_ip};
use crate::{
    api::{
        kind::{Erased, Kind as _},
        kinds::service::Services,
        meta::ObjectKey,
        object::Object as _,
        status::ApiError,
    },
    base::{ordered::Map, rng::Rng},
    registry::{
        Registry,
        events::{Recorder, Severity, reference},
        pipeline::{Config, Part, WriteOptions, decoded},
    },
    store::Entry,
};
use k8s_openapi::api::core::v1::Service;
use std::{net::Ipv4Addr, sync::Arc};

/// One Service's old and new address.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Move {
    key: ObjectKey,
    from: Ipv4Addr,
    to: Ipv4Addr,
}

/// Gives every Service whose address is not of the range one that is, tells of each in an Event, and returns how many there were.
/// Those in `fixed` have the address that is given there.
///
/// # Errors
/// `Invalid` when the range is full; `Unavailable`.
pub async fn repair(registry: &Registry, fixed: &Map<ObjectKey, Ipv4Addr>) -> Result<usize, ApiError> {
    let services = registry.api::<Services>().list("").items;
    let moves = decide(&services, fixed, registry.config(), registry.rng())?;
    let recorder = Recorder::new(registry.clone(), "ipallocator-repair-controller");
    let range = registry.config().services;
    for Move { key, from, to } in &moves {
        let mut change = |entry: &Entry| {
            let mut service = Service::clone(&decoded::<Services>(entry));
            let spec = service.spec.get_or_insert_default();
            spec.cluster_ip = Some(to.to_string());
            spec.cluster_ips = Some(vec![to.to_string()]);
            Ok(Box::new(service) as Box<_>)
        };
        let kind = const { &Erased::<Services>::NEW };
        let written = registry.update(kind, key, Part::Allocated, &mut change, &WriteOptions::default()).await?;
        let why = format!("Cluster IP {from} is not within the Service range {range}: it is {to} from now on");
        recorder.record(
            &reference::<Services>(&decoded::<Services>(&written)),
            Severity::Warning,
            "ClusterIPOutOfRange",
            &why,
        );
    }
    Ok(moves.len())
}

/// Who moves where: to the same place in the new range where that is free. Pure but for the draw of an address.
fn decide(
    services: &[Arc<Service>],
    fixed: &Map<ObjectKey, Ipv4Addr>,
    config: &Config,
    rng: &Rng,
) -> Result<Vec<Move>, ApiError> {
    let is_inside = |ip: Ipv4Addr| config.services.of_services().contains(&ip.to_bits());
    let mut taken = Taken::default();
    taken.ips.extend(fixed.values().copied());
    taken.ips.insert(config.dns_ip);
    let mut leaving = Vec::new();
    for service in services {
        let key = ObjectKey::of(service.meta());
        let Some(from) = address(service) else { continue };
        match fixed.get(&key) {
            Some(place) if *place == from => {}
            None if is_inside(from) && taken.ips.insert(from) => {}
            _ => leaving.push((key, from)),
        }
    }
    let mut moves = Vec::new();
    for (key, from) in leaving {
        let same_place = config.services.place_of(from);
        let is_free = is_inside(same_place) && !taken.ips.contains(&same_place);
        let to = fixed.get(&key).copied().or(is_free.then_some(same_place)).or_else(|| free_ip(&taken, config, rng));
        let Some(to) = to else { return Err(ApiError::invalid(&Services::INFO, &key.name, vec![full()])) };
        taken.ips.insert(to);
        moves.push(Move { key, from, to });
    }
    Ok(moves)
}

/// The address that a Service has.
fn address(service: &Service) -> Option<Ipv4Addr> {
    let spec = service.spec.as_ref().filter(|spec| has_cluster_ip(spec))?;
    spec.cluster_ip.as_ref()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        api::{node_port_range::NodePortRange, service_range::ServiceRange},
        base::ordered::Set,
    };
    use k8s_openapi::{api::core::v1::ServiceSpec, apimachinery::pkg::apis::meta::v1::ObjectMeta};

    fn config(first: [u8; 4], prefix: u8) -> Config {
        let first = Ipv4Addr::from(first);
        Config {
            services: ServiceRange::new(first, prefix),
            dns_ip: Ipv4Addr::from(u32::from(first) + 10),
            node_ports: NodePortRange::default(),
        }
    }

    fn service(name: &str, kind: &str, ip: &str) -> Arc<Service> {
        let metadata = ObjectMeta { name: Some(name.into()), namespace: Some("default".into()), ..Default::default() };
        let spec = ServiceSpec { type_: Some(kind.into()), cluster_ip: Some(ip.into()), ..Default::default() };
        Arc::new(Service { metadata, spec: Some(spec), ..Default::default() })
    }

    fn moved(services: &[Arc<Service>], config: &Config) -> Vec<(String, String)> {
        let api = Ipv4Addr::from(config.services.of_services().start);
        let fixed = Map::from([(ObjectKey::new("default", "kubernetes"), api)]);
        let moves = decide(services, &fixed, config, &Rng::seeded(1)).unwrap();
        moves.into_iter().map(|m| (m.key.name, m.to.to_string())).collect()
    }

    fn pair(name: &str, ip: &str) -> (String, String) {
        (name.into(), ip.into())
    }

    #[test]
    fn services_keep_their_place_in_another_range() {
        let services = [
            service("kubernetes", "ClusterIP", "10.245.0.1"),
            service("web", "NodePort", "10.245.3.7"),
            service("headless", "ClusterIP", "None"),
            service("alias", "ExternalName", ""),
        ];
        let expected = [pair("kubernetes", "10.253.0.1"), pair("web", "10.253.3.7")];
        assert_eq!(moved(&services, &config([10, 253, 0, 0], 16)), expected);
        assert_eq!(moved(&services, &config([10, 245, 0, 0], 16)), [], "nothing moves within the range");
    }

    #[test]
    fn two_that_would_meet_in_a_smaller_range_get_addresses_of_their_own() {
        let services = [
            service("kubernetes", "ClusterIP", "10.245.0.1"),
            service("one", "ClusterIP", "10.245.3.33"),
            service("two", "ClusterIP", "10.245.7.33"),
            service("edge", "ClusterIP", "10.245.9.64"),
        ];
        let moves = moved(&services, &config([10, 9, 0, 128], 26));
        let ips: Set<&str> = moves.iter().map(|(_, ip)| ip.as_str()).collect();
        assert_eq!((moves.len(), ips.len()), (4, 4), "{moves:?}");
        assert_eq!(moves[..2], [pair("kubernetes", "10.9.0.129"), pair("one", "10.9.0.161")]);
        assert!(!ips.contains("10.9.0.128"), "the first address is nobody's");
    }

    #[test]
    fn the_api_has_the_first_address_of_a_larger_range_too() {
        let services = [
            service("kubernetes", "ClusterIP", "10.0.0.65"),
            service("first", "ClusterIP", "10.0.0.1"),
            service("dns", "ClusterIP", "10.1.0.10"),
        ];
        let moves = moved(&services, &config([10, 0, 0, 0], 16));
        assert_eq!(moves[0], pair("kubernetes", "10.0.0.1"));
        assert!(moves.len() == 3 && moves[1].1 != "10.0.0.1", "{moves:?}");
        assert_ne!(moves[2].1, "10.0.0.10", "the cluster DNS answers there");
    }

    #[test]
    fn a_range_that_is_too_small_says_so() {
        let many: Vec<_> = (1..40).map(|n| service(&format!("s{n}"), "ClusterIP", &format!("10.245.{n}.9"))).collect();
        let told = decide(&many, &Map::new(), &config([10, 9, 0, 0], 28), &Rng::seeded(1)).unwrap_err();
        assert!(told.to_string().contains("range is full"), "{told}");
    }
}
