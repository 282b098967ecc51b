//! Networks and volumes of the fake engine: addresses are handed out lowest first, as Docker's bridge does.

use super::{images::hex_digest, world::World};
use crate::engine::{CLUSTER_LABEL, EngineError, Network, NetworkSpec};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

pub(super) struct LocalNetwork {
    pub(super) facts: Network,
    /// What containers get addresses from.
    pool: Range,
    range: Range,
}

/// An inclusive range of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Range {
    first: u32,
    last: u32,
}

impl Range {
    fn parse(cidr: &str) -> Option<Self> {
        let (address, bits) = cidr.split_once('/')?;
        let address = u32::from(address.parse::<Ipv4Addr>().ok()?);
        let bits: u32 = bits.parse().ok().filter(|bits| *bits <= 32)?;
        let hosts = u32::MAX.checked_shr(bits).unwrap_or(0);
        Some(Self { first: address & !hosts, last: address | hosts })
    }

    fn meets(self, other: Self) -> bool {
        self.first <= other.last && other.first <= self.last
    }
}

impl LocalNetwork {
    /// The lowest free address of the pool; the subnet's first and last, and the gateway, are never given.
    pub(super) fn free_address(&self, taken: &BTreeSet<Ipv4Addr>) -> Option<Ipv4Addr> {
        (self.pool.first..=self.pool.last)
            .filter(|address| *address != self.range.first && *address != self.range.last)
            .map(Ipv4Addr::from)
            .find(|address| *address != self.facts.gateway && !taken.contains(address))
    }
}

impl World {
    /// The network that Docker always has.
    pub(super) fn add_default_bridge(&mut self) {
        let spec = NetworkSpec {
            name: "bridge".into(),
            labels: BTreeMap::new(),
            subnet: "172.17.0.0/16".into(),
            ip_range: String::new(),
            gateway: Ipv4Addr::new(172, 17, 0, 1),
            bridge: "docker0".into(),
        };
        self.insert_network(&spec, BTreeMap::new()).expect("the first network collides with none");
    }

    pub(super) fn network(&self, name: &str) -> Option<Network> {
        self.networks
            .values()
            .map(|network| &network.facts)
            .find(|facts| facts.name == name || facts.id == name)
            .cloned()
    }

    pub(super) fn create_network(&mut self, spec: &NetworkSpec) -> Result<Network, EngineError> {
        let mut labels = spec.labels.clone();
        labels.insert(CLUSTER_LABEL.into(), self.cluster.clone());
        self.insert_network(spec, labels)
    }

    fn insert_network(&mut self, spec: &NetworkSpec, labels: BTreeMap<String, String>) -> Result<Network, EngineError> {
        let what = format!("create network {}", spec.name);
        let invalid = |cidr: &str| EngineError::Invalid(format!("{what}: invalid CIDR address: {cidr}"));
        let range = Range::parse(&spec.subnet).ok_or_else(|| invalid(&spec.subnet))?;
        let pool = if spec.ip_range.is_empty() { &spec.subnet } else { &spec.ip_range };
        let pool = Range::parse(pool).ok_or_else(|| invalid(pool))?;
        if self.networks.contains_key(&spec.name) {
            return Err(EngineError::Conflict(format!("{what}: network with name {} already exists", spec.name)));
        }
        if self.networks.values().any(|other| other.range.meets(range)) {
            return Err(EngineError::Conflict(format!("{what}: Pool overlaps with other one on this address space")));
        }
        if self.networks.values().any(|other| other.facts.bridge == spec.bridge) {
            return Err(EngineError::Conflict(format!("{what}: networks have same bridge name")));
        }
        let facts = Network {
            id: hex_digest(&[b"network", spec.name.as_bytes()]),
            name: spec.name.clone(),
            labels,
            subnet: spec.subnet.clone(),
            gateway: spec.gateway,
            bridge: spec.bridge.clone(),
        };
        self.networks.insert(spec.name.clone(), LocalNetwork { facts: facts.clone(), pool, range });
        Ok(facts)
    }

    pub(super) fn remove_network(&mut self, name: &str) -> Result<(), EngineError> {
        let Some(facts) = self.network(name) else {
            return Ok(());
        };
        if self.has_active_endpoints(&facts.name) {
            return Err(EngineError::Conflict(format!(
                "remove network {name}: error while removing network: network {} id {} has active endpoints",
                facts.name, facts.id
            )));
        }
        self.networks.remove(&facts.name);
        Ok(())
    }

    pub(super) fn all_networks(&self) -> Vec<String> {
        self.networks.keys().cloned().collect()
    }

    pub(super) fn create_volume(&mut self, name: &str, labels: &BTreeMap<String, String>) -> String {
        let mut labels = labels.clone();
        labels.insert(CLUSTER_LABEL.into(), self.cluster.clone());
        // An existing volume keeps its labels, as in Docker.
        self.volumes.entry(name.into()).or_insert(labels);
        format!("/var/lib/docker/volumes/{name}/_data")
    }

    pub(super) fn volumes(&self) -> Vec<String> {
        let is_ours = |labels: &BTreeMap<String, String>| labels.get(CLUSTER_LABEL) == Some(&self.cluster);
        self.volumes.iter().filter(|(_, labels)| is_ours(labels)).map(|(name, _)| name.clone()).collect()
    }

    pub(super) fn all_volumes(&self) -> Vec<String> {
        self.volumes.keys().cloned().collect()
    }

    pub(super) fn remove_volume(&mut self, name: &str) -> Result<(), EngineError> {
        if let Some(user) = self.user_of_volume(name) {
            return Err(EngineError::Conflict(format!(
                "remove volume {name}: remove {name}: volume is in use - [{user}]"
            )));
        }
        self.volumes.remove(name);
        self.volume_files.retain(|(volume, _), _| volume != name);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_from_cidr_form() {
        assert_eq!(Range::parse("10.244.0.0/15"), Some(Range { first: 0x0af4_0000, last: 0x0af5_ffff }));
        assert_eq!(Range::parse("0.0.0.0/0"), Some(Range { first: 0, last: u32::MAX }));
        assert_eq!(Range::parse("1.2.3.4/32"), Some(Range { first: 0x0102_0304, last: 0x0102_0304 }));
        assert_eq!(Range::parse("1.2.3.4/33"), None);
        assert_eq!(Range::parse("1.2.3.4"), None);
    }
}
