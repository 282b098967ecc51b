//! Who may reach what: the decision, and who belongs to a cluster.
//!
//! Used by `plan`, `proxy` and `dns`, and by `app` for the API's address on the pods' bridge.
//!
//! A cluster is for its own pods and for the machine that it runs on. Docker isolates its networks from each other, but not the
//! machine's own addresses from containers, of which the API's address for pods is one; and an engine that is told to leave the
//! machine's firewall alone isolates nothing. So who comes from elsewhere (another cluster's pods, other containers, other machines) is
//! turned away there, by its address.
//!
//! | what                                               | this cluster's pods | the machine | everybody else  |
//! |----------------------------------------------------|---------------------|-------------|-----------------|
//! | ClusterIPs, cluster DNS                            | yes                 | yes         | no              |
//! | the API at the node's own address                  | yes                 | yes         | no              |
//! | node ports at the node's own address               | yes                 | yes         | only when asked |
//! | node ports, load balancers, host ports on loopback | no                  | yes         | no              |
//! | the same on addresses that the user named          | yes                 | yes         | yes             |
//!
//! "Asked" is `--node-port-addresses`, and for the API `--api-address`. Loopback needs no check: nobody else gets there.
//!
//! **Not here**: what a Service restricts itself (`loadBalancerSourceRanges`, `plan`).

use super::table::{IpRange, Reach};
use crate::base::ordered::Set;
use std::{
    net::{IpAddr, Ipv4Addr},
    sync::{Mutex, PoisonError},
    time::Duration,
};
use tokio::time::Instant;

/// For how long the machine's addresses count as known. They are looked up only for clients that nothing else explains.
const HOST_KNOWN_FOR: Duration = Duration::from_secs(1);

/// The kernel's list of the machine's addresses.
const FIB_TRIE: &str = "/proc/net/fib_trie";

/// Who belongs to a cluster.
#[derive(Debug, Default)]
pub struct Insiders {
    /// The ranges of pods and of Services: the machine itself is in the first, on the pods' network.
    ranges: Vec<IpRange>,
    host: Mutex<Option<(Instant, Set<Ipv4Addr>)>>,
}

impl Insiders {
    /// Those of a cluster with these ranges.
    pub fn new(ranges: Vec<IpRange>) -> Self {
        Self { ranges, host: Mutex::default() }
    }

    /// Whether a client may reach something.
    pub fn admit(&self, reach: Reach, client: IpAddr) -> bool {
        is_admitted(reach, client.to_canonical(), &self.ranges, |ip| self.is_host(ip))
    }

    fn is_host(&self, address: Ipv4Addr) -> bool {
        let mut host = self.host.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let is_fresh = host.as_ref().is_some_and(|(at, _)| now.duration_since(*at) < HOST_KNOWN_FOR);
        if !is_fresh {
            // What cannot be read is nobody's: the client is turned away.
            let text = std::fs::read_to_string(FIB_TRIE).unwrap_or_default();
            *host = Some((now, local_addresses(&text)));
        }
        host.as_ref().is_some_and(|(_, known)| known.contains(&address))
    }
}

/// The decision. Pure.
fn is_admitted(reach: Reach, client: IpAddr, ranges: &[IpRange], is_host: impl FnOnce(Ipv4Addr) -> bool) -> bool {
    if reach == Reach::Anyone || client.is_loopback() || ranges.iter().any(|range| range.contains(client)) {
        return true;
    }
    if let IpAddr::V4(client) = client { is_host(client) } else { false }
}

/// The machine's own addresses, from the kernel's table of routes.
fn local_addresses(fib_trie: &str) -> Set<Ipv4Addr> {
    let mut last: Option<Ipv4Addr> = None;
    let mut found = Set::new();
    for line in fib_trie.lines().map(str::trim) {
        if let Some(address) = line.strip_prefix("|-- ") {
            last = address.parse().ok();
        } else if line.starts_with("/32 host LOCAL") {
            found.extend(last);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_is_for_its_pods_and_its_machine() {
        let ranges = ["10.244.0.0/16".parse().unwrap(), "10.245.0.0/16".parse().unwrap()];
        let host = Ipv4Addr::new(192, 168, 1, 5);
        let admitted = |reach, client: &str| {
            let client: IpAddr = client.parse().unwrap();
            is_admitted(reach, client.to_canonical(), &ranges, |ip| ip == host)
        };
        let vantage_points = [
            ("a pod of the cluster", "10.244.3.7", true),
            ("the machine, to a ClusterIP", "10.245.0.10", true),
            ("the machine, at the node's address", "10.244.0.1", true),
            ("the machine, over loopback", "127.0.0.1", true),
            ("the machine, from another of its addresses", "192.168.1.5", true),
            ("the machine, IPv4 in IPv6", "::ffff:10.244.3.7", true),
            ("the machine, over IPv6", "::1", true),
            ("a pod of another cluster", "10.246.0.9", false),
            ("a container on Docker's default bridge", "172.17.0.2", false),
            ("another machine", "192.168.1.77", false),
            ("another machine, over IPv6", "fd00::7", false),
        ];
        for (who, client, is_inside) in vantage_points {
            assert_eq!(admitted(Reach::Cluster, client), is_inside, "{who}");
            assert!(admitted(Reach::Anyone, client), "{who}");
        }
    }

    #[test]
    fn the_machines_addresses_are_those_that_the_kernel_calls_local() {
        let text = "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 0.0.0.0\n        /0 universe UNICAST\n     |-- 172.17.0.0\n        /16 link UNICAST\n\
                    Local:\n     |-- 127.0.0.1\n        /32 host LOCAL\n     |-- 172.17.0.1\n        /32 host LOCAL\n     |-- 172.17.255.255\n        /32 link BROADCAST\n";
        let found: Vec<String> = local_addresses(text).iter().map(ToString::to_string).collect();
        assert_eq!(found, ["127.0.0.1", "172.17.0.1"]);
        assert!(Insiders::default().admit(Reach::Cluster, "127.0.0.1".parse().unwrap()));
        assert!(Insiders::default().is_host(Ipv4Addr::LOCALHOST), "as the kernel tells it here");
    }
}
