//! The addresses that this machine uses already, so that no cluster's range hides one of them.
//!
//! `cidr` asks at a start, `skiff doctor` asks too. What is read here is bounded and local; only proxies given by name are looked up.
//!
//! A route of the cluster's network is more specific than the default one: whatever lies in its range is not reached any more. So
//! name servers, gateways, proxies and hosts that are known by address count as much as routes do.
//!
//! **Not here**: networks of the engine, which refuses a range that overlaps one of them.

use super::range::Cidr;
use crate::base::ordered::SortList as _;
use std::{fs, net::Ipv4Addr, time::Duration};

/// The widest route that is not a default one.
const PREFIX_MIN: u8 = 8;
/// How long looking up proxies may take.
const LOOKUP_MAX: Duration = Duration::from_secs(2);
/// Where name servers are listed: the usual place, and the real ones behind a local stub.
const RESOLVERS: [&str; 4] = [
    "/etc/resolv.conf",
    "/run/systemd/resolve/resolv.conf",
    "/run/NetworkManager/no-stub-resolv.conf",
    "/run/dnsmasq/resolv.conf",
];
/// Variables that hold the URL of a server that the machine's programs need. Each is read in lower and in upper case.
const URL_VARIABLES: [&str; 5] = ["http_proxy", "https_proxy", "ftp_proxy", "all_proxy", "docker_host"];

/// What an address is to the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// A route leads there.
    Route,
    /// It is a gateway.
    Gateway,
    /// It answers for names.
    NameServer,
    /// A variable of the environment names it: a proxy or the engine.
    Server,
    /// `/etc/hosts` names it.
    Host,
    /// The engine takes the ranges of new networks from there.
    Pool,
}

/// A range that the machine uses.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Used {
    /// Where it is.
    pub range: Cidr,
    /// What it is.
    pub role: Role,
}

impl std::fmt::Display for Used {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (address, prefix) = self.range.parts();
        match self.role {
            Role::Route => write!(f, "the host's route {}", self.range),
            Role::Pool => write!(f, "the engine's address pool {}", self.range),
            Role::Gateway => write!(f, "the gateway {address}"),
            Role::NameServer => write!(f, "the name server {address}"),
            Role::Server => write!(f, "the proxy or engine {address} of the environment"),
            Role::Host if prefix == 32 => write!(f, "the host {address} of /etc/hosts"),
            Role::Host => write!(f, "the hosts {} of /etc/hosts", self.range),
        }
    }
}

impl Used {
    fn address(address: Ipv4Addr, role: Role) -> Self {
        Self { range: Cidr::new(address, 32), role }
    }

    /// Whether a range that a cluster has already must not have it. Routes are the cluster's own, pools are for new networks, and who
    /// writes an address of the cluster into `/etc/hosts` means it.
    pub fn is_hidden_by_existing(&self) -> bool {
        matches!(self.role, Role::Gateway | Role::NameServer | Role::Server)
    }
}

/// Everything that the machine uses, as far as it can be seen. `pools` are the engine's.
pub async fn used(pools: &[String]) -> Vec<Used> {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let mut all = routes(&read("/proc/net/fib_trie"));
    all.extend(gateways_and_routes(&read("/proc/net/route")));
    all.extend(RESOLVERS.iter().flat_map(|path| name_servers(&read(path))));
    all.extend(hosts(&read("/etc/hosts")));
    all.extend(pools.iter().filter_map(|pool| Some(Used { range: pool.parse().ok()?, role: Role::Pool })));
    let var = |name: &str| std::env::var(name).ok();
    all.extend(servers(&var).await);
    // What no cluster can have, none can hide; routes that are this wide are a default one in pieces, as VPNs make it.
    all.retain(|used| !used.range.is_special() && used.range.parts().1 >= PREFIX_MIN);
    all.sort_list();
    all.dedup();
    all
}

/// Reads `/proc/net/fib_trie`, which has every routing table: a leaf's address, then a line for each prefix length of it.
fn routes(text: &str) -> Vec<Used> {
    let (mut leaf, mut found) = (None, Vec::new());
    for line in text.lines().map(str::trim_start) {
        if let Some(address) = line.strip_prefix("|-- ") {
            leaf = address.trim().parse::<Ipv4Addr>().ok();
        } else if let Some((address, rest)) = leaf.zip(line.strip_prefix('/')) {
            let prefix = rest.split_whitespace().next().and_then(|n| n.parse().ok());
            let prefix = prefix.filter(|n| (1..=32).contains(n));
            found.extend(prefix.map(|n| Used { range: Cidr::new(address, n), role: Role::Route }));
        }
    }
    found
}

/// Reads `/proc/net/route`: addresses are hexadecimal in the machine's byte order.
fn gateways_and_routes(text: &str) -> Vec<Used> {
    let number = |field: Option<&&str>| Some(u32::from_be_bytes(u32::from_str_radix(field?, 16).ok()?.to_ne_bytes()));
    let lines = text.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    let mut found = Vec::new();
    for fields in lines {
        let (to, via, mask) = (number(fields.get(1)), number(fields.get(2)), number(fields.get(7)));
        if let Some((to, mask)) = to.zip(mask.filter(|mask| *mask != 0)) {
            let prefix = u8::try_from(mask.count_ones()).unwrap_or(32);
            found.push(Used { range: Cidr::new(Ipv4Addr::from(to), prefix), role: Role::Route });
        }
        found.extend(via.filter(|via| *via != 0).map(|via| Used::address(Ipv4Addr::from(via), Role::Gateway)));
    }
    found
}

/// Reads a `resolv.conf`.
fn name_servers(text: &str) -> Vec<Used> {
    let words = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let addresses = words.filter(|w| w.first() == Some(&"nameserver")).filter_map(|w| w.get(1)?.parse().ok());
    addresses.map(|address| Used::address(address, Role::NameServer)).collect()
}

/// Reads `/etc/hosts`.
fn hosts(text: &str) -> Vec<Used> {
    let first = text.lines().filter_map(|line| line.split_whitespace().next()?.parse().ok());
    first.map(|address| Used::address(address, Role::Host)).collect()
}

/// The servers that the environment names, by address or by a name that can be looked up.
async fn servers(var: &dyn Fn(&str) -> Option<String>) -> Vec<Used> {
    let values: Vec<String> = URL_VARIABLES.iter().flat_map(|v| [var(v), var(&v.to_uppercase())]).flatten().collect();
    let mut found = Vec::new();
    for host in values.iter().filter_map(|value| host_of(value)) {
        if let Ok(address) = host.parse() {
            found.push(Used::address(address, Role::Server));
            continue;
        }
        let looked_up = tokio::time::timeout(LOOKUP_MAX, tokio::net::lookup_host((host, 1))).await;
        // A proxy whose name cannot be looked up now is not reached by its address either.
        for address in looked_up.ok().and_then(Result::ok).into_iter().flatten() {
            if let std::net::IpAddr::V4(address) = address.ip() {
                found.push(Used::address(address, Role::Server));
            }
        }
    }
    found
}

/// The host of `[scheme://][user@]host[:port][/…]`; none for sockets and IPv6.
fn host_of(url: &str) -> Option<&str> {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let authority = rest.split(['/', '?', '#']).next()?;
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let host = host.split(':').next().filter(|host| !host.is_empty() && !host.starts_with('['));
    host.filter(|_| scheme != "unix")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(used: &[Used]) -> Vec<String> {
        used.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn every_routing_table_counts() {
        let text = "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 0.0.0.0\n        /0 universe UNICAST\n     |-- 172.17.0.0\n        \
            /16 link UNICAST\nId 51820:\n  +-- 10.0.0.0/7 2 0 2\n     |-- 10.254.0.0\n        /16 universe UNICAST\n        \
            /24 link UNICAST\n     |-- 11.0.0.0\n        /8 universe UNICAST\n";
        let routes = ["172.17.0.0/16", "10.254.0.0/16", "10.254.0.0/24", "11.0.0.0/8"];
        assert_eq!(shown(&super::routes(text)), routes.map(|r| format!("the host's route {r}")));
    }

    #[test]
    fn gateways_name_servers_and_hosts_count() {
        let text = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\n\
            eth0\t00000000\t0100FE0A\t0003\t0\t0\t0\t00000000\t0\n\
            tun0\t0000F50A\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\n";
        if cfg!(target_endian = "little") {
            let both = ["the gateway 10.254.0.1", "the host's route 10.245.0.0/16"];
            assert_eq!(shown(&gateways_and_routes(text)), both);
        }
        let text = "# nameserver 10.1.1.1\nsearch x\nnameserver 10.255.255.53\nnameserver fe80::1\nnameserver\n";
        assert_eq!(shown(&name_servers(text)), ["the name server 10.255.255.53"]);
        let text = "127.0.0.1 localhost\n::1 localhost\n10.248.3.4 build.example\n# 10.9.9.9 no\n";
        let both = ["the host 127.0.0.1 of /etc/hosts", "the host 10.248.3.4 of /etc/hosts"];
        assert_eq!(shown(&hosts(text)), both);
    }

    #[tokio::test]
    async fn servers_of_the_environment_count() {
        let urls = [
            ("http://10.244.9.9:3128", Some("10.244.9.9")),
            ("http://user:secret@10.244.9.9:3128/path", Some("10.244.9.9")),
            ("10.244.9.9", Some("10.244.9.9")),
            ("tcp://10.244.9.9:2375", Some("10.244.9.9")),
            ("http://proxy.example:80", Some("proxy.example")),
            ("unix:///var/run/docker.sock", None),
            ("http://[fd00::1]:80", None),
            ("", None),
        ];
        for (url, host) in urls {
            assert_eq!(host_of(url), host, "{url}");
        }
        let var = |name: &str| (name == "HTTPS_PROXY").then(|| "http://10.244.9.9:3128".to_owned());
        assert_eq!(shown(&servers(&var).await), ["the proxy or engine 10.244.9.9 of the environment"]);
    }
}
