//! The address plan: one flat range, its lower half for pods and its upper half for Services, and the Docker network that carries it.
//!
//! The network itself remembers the choice: a cluster that has one keeps it. A new cluster takes the first /15 that has nothing which
//! the machine uses (`host`) and no network of the engine.

use super::{
    host::{Role, Used},
    range::Cidr,
};
use crate::{
    api::{node_port_range::NodePortRange, service_range::ServiceRange},
    engine::{CLUSTER_LABEL, Engine, EngineError, Network, NetworkSpec},
    registry,
};
use anyhow::bail;
use std::{collections::BTreeMap, net::Ipv4Addr};

/// Who has which address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The Docker network's name.
    pub network: String,
    /// The bridge interface on the engine's host.
    pub bridge: String,
    /// Where pods get their addresses from.
    pub pods: Cidr,
    /// Where Services get theirs from.
    pub services: Cidr,
    /// The host's address on the network: the node's.
    pub node_ip: Ipv4Addr,
}

impl Plan {
    /// The plan that a network carries.
    pub fn of(network: &Network) -> anyhow::Result<Self> {
        let (pods, services) = network.subnet.parse::<Cidr>()?.halves();
        let (name, bridge) = (network.name.clone(), network.bridge.clone());
        Ok(Self { network: name, bridge, pods, services, node_ip: network.gateway })
    }

    /// The address of the `kubernetes` Service.
    pub fn api_service_ip(&self) -> Ipv4Addr {
        self.services.at(1)
    }

    /// The address of the cluster DNS.
    pub fn dns_ip(&self) -> Ipv4Addr {
        self.services.at(10)
    }

    /// The range of ClusterIPs.
    pub fn service_range(&self) -> ServiceRange {
        let (first, prefix) = self.services.parts();
        ServiceRange::new(first, prefix)
    }

    /// What the registry allocates from, node ports of this range among it.
    pub fn registry_config(&self, node_ports: NodePortRange) -> registry::pipeline::Config {
        registry::pipeline::Config { services: self.service_range(), dns_ip: self.dns_ip(), node_ports }
    }
}

/// The name of a cluster's network.
pub fn network_name(cluster: &str) -> String {
    if cluster == "skiff" { cluster.to_owned() } else { format!("skiff-{cluster}") }
}

/// The bridge of a cluster's network: at most 15 characters, told apart by a hash when the name is longer.
fn bridge_name(cluster: &str) -> String {
    let name = network_name(cluster);
    if name.len() <= 15 {
        return name;
    }
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3));
    format!("skiff-{:09x}", hash & 0xf_ffff_ffff)
}

/// The smallest range: half of it holds a node's pods in a small test, the other half the addresses that every cluster has.
const PREFIX_MAX: u8 = 26;

/// Refuses a range that no cluster can have.
///
/// # Errors
/// It has addresses that are not for hosts, or too few.
pub fn check_usable(cidr: Cidr) -> anyhow::Result<()> {
    if let Some((range, what)) = cidr.special() {
        bail!("the range {cidr} overlaps {range}, whose addresses are {what}: choose another with --cluster-cidr");
    }
    if cidr.parts().1 > PREFIX_MAX {
        bail!("the range {cidr} is too small: choose a /{PREFIX_MAX} or larger with --cluster-cidr");
    }
    Ok(())
}

/// Which range a cluster without a network should have.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Wish {
    /// The one that the user names: this or none.
    pub(super) wanted: Option<Cidr>,
    /// The one that it had: its Services have addresses of it.
    pub(super) former: Option<Cidr>,
}

/// The cluster's network: the one it has, or a new one with these labels, in the wanted range, in its former one, or in the first
/// that is free.
///
/// # Errors
/// The wanted range overlaps what the machine uses or another network; no range is free; the engine refuses.
pub(super) async fn ensure_network(
    engine: &dyn Engine,
    cluster: &str,
    existing: Option<Network>,
    wish: Wish,
    labels: BTreeMap<String, String>,
    used: &[Used],
) -> anyhow::Result<Network> {
    if let Some(network) = existing {
        return check_existing(network, cluster, wish.wanted);
    }
    let name = network_name(cluster);
    for cidr in candidates(wish, used)? {
        match engine.create_network(&spec(&name, cluster, cidr, labels.clone())).await {
            Ok(network) => return Ok(network),
            Err(EngineError::Conflict(_)) if engine.network(&name).await?.is_some() => {
                bail!("another skiff has made the network {name} meanwhile: try again")
            }
            // The range is another network's.
            Err(EngineError::Conflict(_)) if wish.wanted.is_none() => {}
            Err(err) => return Err(anyhow::Error::new(err).context(format!("cannot make the network {name} ({cidr})"))),
        }
    }
    bail!("no free /15 for the network {name}: choose a range with --cluster-cidr")
}

/// The ranges to try, in this order.
fn candidates(wish: Wish, used: &[Used]) -> anyhow::Result<Vec<Cidr>> {
    // The engine itself refuses what one of its networks has; the rest of its pools is free to take.
    let in_the_way = |cidr: Cidr| used.iter().filter(move |u| u.role != Role::Pool && u.range.overlaps(cidr));
    let Some(cidr) = wish.wanted else {
        let former = wish.former.filter(|cidr| check_usable(*cidr).is_ok() && in_the_way(*cidr).next().is_none());
        return Ok(former.into_iter().chain(free_ranges(used)).collect());
    };
    check_usable(cidr)?;
    let lost: Vec<String> = in_the_way(cidr).map(ToString::to_string).collect();
    if !lost.is_empty() {
        let lost = lost.join(" and ");
        bail!(
            "the range {cidr} overlaps {lost}, which would not be reached any more: choose another with --cluster-cidr"
        );
    }
    Ok(vec![cidr])
}

fn check_existing(network: Network, cluster: &str, wanted: Option<Cidr>) -> anyhow::Result<Network> {
    if let Some(wanted) = wanted.filter(|w| w.to_string() != network.subnet) {
        bail!("the cluster {cluster} has the range {}, not {wanted}: run `skiff down` first", network.subnet);
    }
    check_usable(network.subnet.parse()?)?;
    Ok(network)
}

fn spec(name: &str, cluster: &str, cidr: Cidr, labels: BTreeMap<String, String>) -> NetworkSpec {
    let mut labels = labels;
    labels.insert(CLUSTER_LABEL.to_owned(), cluster.to_owned());
    NetworkSpec {
        name: name.to_owned(),
        labels,
        subnet: cidr.to_string(),
        ip_range: cidr.halves().0.to_string(),
        gateway: cidr.at(1),
        bridge: bridge_name(cluster),
    }
}

/// Every /15 of 10.0.0.0/8 that has nothing the machine uses, 10.244.0.0/15 first.
fn free_ranges(used: &[Used]) -> Vec<Cidr> {
    let second = std::iter::once(244).chain((0..=254).rev().step_by(2).filter(|n| *n != 244));
    let all = second.map(|n| Cidr::new(Ipv4Addr::new(10, n, 0, 0), 15));
    all.filter(|c| !used.iter().any(|u| u.range.overlaps(*c))).collect()
}

/// What a cluster's network hides from the machine, and how to move; one sentence for each.
pub fn hides(cluster: &str, network: &Network, used: &[Used]) -> anyhow::Result<Vec<String>> {
    let range: Cidr = network.subnet.parse()?;
    let hidden = used.iter().filter(|u| u.is_hidden_by_existing() && u.range.overlaps(range));
    let sentence = |used: &Used| {
        format!(
            "the range {range} of the cluster {cluster} hides {used}: nothing on this machine reaches it while the cluster's network is \
             there. `skiff down --name {cluster}`, then `skiff up` takes another range"
        )
    };
    Ok(hidden.map(sentence).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::fake::FakeEngine;

    fn cidr(text: &str) -> Cidr {
        text.parse().unwrap()
    }

    #[test]
    fn ranges_parse_print_and_halve() {
        let whole = cidr("10.244.0.0/15");
        let (pods, services) = whole.halves();
        assert_eq!((pods.to_string(), services.to_string()), ("10.244.0.0/16".into(), "10.245.0.0/16".into()));
        assert_eq!(services.at(10), Ipv4Addr::new(10, 245, 0, 10));
        assert!("10.244.0.1/15".parse::<Cidr>().is_err());
        assert!("10.244.0.0".parse::<Cidr>().is_err());
    }

    fn used(range: &str, role: Role) -> Used {
        Used { range: cidr(range), role }
    }

    #[test]
    fn a_range_that_the_machine_uses_is_not_free() {
        assert_eq!(free_ranges(&[])[0], cidr("10.244.0.0/15"));
        assert_eq!(free_ranges(&[used("10.245.0.0/16", Role::Route)])[0], cidr("10.254.0.0/15"));
        let both = [used("10.244.9.9/32", Role::Server), used("10.255.255.53/32", Role::NameServer)];
        assert_eq!(free_ranges(&both)[0], cidr("10.252.0.0/15"));
        assert!(free_ranges(&[used("10.0.0.0/8", Role::Pool)]).is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_wanted_range_that_hides_an_address_is_refused_and_one_in_use_is_told() {
        let engine = FakeEngine::for_test();
        let server = [
            used("10.254.0.0/16", Role::Route),
            used("10.255.255.53/32", Role::NameServer),
            used("10.128.0.0/9", Role::Pool),
        ];
        let make = |wanted| {
            let wish = Wish { wanted: Some(cidr(wanted)), former: None };
            ensure_network(&engine, "skiff", None, wish, BTreeMap::new(), &server)
        };
        let said = make("10.254.0.0/15").await.unwrap_err().to_string();
        assert!(said.contains("overlaps the host's route 10.254.0.0/16 and the name server 10.255.255.53"), "{said}");
        assert_eq!(engine.network("skiff").await.unwrap(), None);
        let network = make("10.252.0.0/15").await.unwrap();
        assert_eq!(hides("skiff", &network, &server).unwrap(), Vec::<String>::new());
        let later = [used("10.253.0.53/32", Role::NameServer), used("10.252.0.0/15", Role::Route)];
        let told = hides("skiff", &network, &later).unwrap();
        assert!(told.len() == 1 && told[0].contains("hides the name server 10.253.0.53"), "{told:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_lost_network_is_made_again_in_its_range_or_in_one_that_is_free() {
        let wish = Wish { wanted: None, former: Some(cidr("10.60.0.0/15")) };
        assert_eq!(candidates(wish, &[]).unwrap()[..2], [cidr("10.60.0.0/15"), cidr("10.244.0.0/15")]);
        let pool = [used("10.0.0.0/10", Role::Pool)];
        assert_eq!(candidates(wish, &pool).unwrap()[0], cidr("10.60.0.0/15"), "it was taken from the pools before");
        let route = [used("10.61.0.0/16", Role::Route)];
        assert_eq!(candidates(wish, &route).unwrap()[0], cidr("10.244.0.0/15"));
        let engine = FakeEngine::for_test();
        let other = Wish { wanted: Some(cidr("10.60.0.0/15")), former: None };
        ensure_network(&engine, "other", None, other, BTreeMap::new(), &[]).await.unwrap();
        let network = ensure_network(&engine, "skiff", None, wish, BTreeMap::new(), &[]).await.unwrap();
        assert_eq!(network.subnet, "10.244.0.0/15", "another network has the former range");
    }

    #[test]
    fn a_range_that_is_not_for_hosts_is_refused() {
        let cases = [
            ("127.0.0.0/15", "loopback"),
            ("224.0.0.0/15", "multicast"),
            ("239.254.0.0/15", "multicast"),
            ("240.0.0.0/8", "reserved"),
            ("255.255.255.0/24", "reserved"),
            ("169.254.0.0/16", "link-local"),
            ("169.0.0.0/8", "link-local"),
            ("0.0.0.0/0", "unspecified"),
            ("0.0.0.0/15", "unspecified"),
            ("10.0.0.0/27", "too small"),
            ("10.0.0.0/32", "too small"),
        ];
        for (range, why) in cases {
            let said = check_usable(cidr(range)).unwrap_err().to_string();
            assert!(said.contains(why), "{range}: {said}");
        }
        for range in ["10.244.0.0/15", "192.168.0.0/16", "100.64.0.0/10", "172.31.0.0/26"] {
            assert!(check_usable(cidr(range)).is_ok(), "{range}");
        }
    }

    #[test]
    fn bridge_names_fit_the_kernel() {
        assert_eq!(bridge_name("skiff"), "skiff");
        assert!(bridge_name("a-very-long-cluster-name").len() <= 15);
        assert_ne!(bridge_name("a-very-long-cluster-name"), bridge_name("a-very-long-cluster-nama"));
    }
}
