//! The table in use: rules with the endpoints that stand behind them now, and certificates that are ready to be shown.
//!
//! Made by the router when the table changes, and shared by all its threads; a request holds on to the rule that it met.

use super::{
    table::{Backend, Rule, Table, Wire, host_of},
    tls::{self, Keys},
};
use crate::{
    api::{
        http_options::Balance,
        router_certificates::{Certificates, Pair},
    },
    base::ordered::Map,
    net::{
        rotation::{Backends, Claim, Millis},
        table::PortRef,
    },
};
use rustls::{
    ClientConfig,
    pki_types::ServerName,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use std::{
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
};

/// Everything that is answered for.
#[derive(Debug, Default)]
pub(super) struct Live {
    pub(super) table: Table<Arc<LiveRule>, Option<Arc<CertifiedKey>>>,
    /// Those that the cluster's authority made, by host.
    by_host: Map<String, Arc<CertifiedKey>>,
    /// The port of TLS, to which plain HTTP is sent.
    pub(super) https_port: Option<u16>,
}

/// A rule with its endpoints.
#[derive(Debug)]
pub(super) struct LiveRule {
    pub(super) rule: Arc<Rule>,
    pub(super) backends: Vec<LiveBackend>,
    /// Whose turn it is, by the weights; each a place in `backends`.
    schedule: Vec<u8>,
    turn: AtomicUsize,
}

/// A Service with its endpoints.
#[derive(Debug)]
pub(super) struct LiveBackend {
    /// Why nothing of it is there.
    trouble: Option<String>,
    service: String,
    /// Its ports.
    ports: Vec<Arc<Backends>>,
    turn: AtomicUsize,
    pub(super) is_http2: bool,
    pub(super) tls: Option<BackendTls>,
    /// Tells connections that are made in its way from others.
    pub(super) wire_id: u64,
}

/// How TLS is spoken with endpoints.
#[derive(Clone, Debug)]
pub(super) struct BackendTls {
    pub(super) config: Arc<ClientConfig>,
    pub(super) name: ServerName<'static>,
}

/// Connections without TLS are alike; those with it are as their rule wants them.
const PLAIN_WIRE: u64 = 0;
static WIRES_MADE: AtomicU64 = AtomicU64::new(PLAIN_WIRE + 1);

/// Whoever knows the endpoints of a port.
pub(super) type FindBackends<'a> = &'a dyn Fn(&PortRef) -> Option<Arc<Backends>>;

impl LiveRule {
    pub(super) fn new(rule: &Arc<Rule>, cluster_ca: &str, find: FindBackends<'_>) -> Self {
        let backends: Vec<LiveBackend> =
            rule.backends.iter().map(|backend| LiveBackend::new(rule, backend, cluster_ca, find)).collect();
        let weights: Vec<u16> = rule.backends.iter().map(|backend| backend.weight).collect();
        Self { rule: Arc::clone(rule), backends, schedule: schedule(&weights), turn: AtomicUsize::new(0) }
    }

    /// Whether it is what would be made now.
    pub(super) fn is_current(&self, rule: &Arc<Rule>, find: FindBackends<'_>) -> bool {
        let is_same = |(live, planned): (&LiveBackend, &Backend)| {
            let Ok(ports) = &planned.ports else { return live.trouble.is_some() };
            live.ports.len() == ports.len()
                && live.ports.iter().zip(ports).all(|(there, port)| find(port).is_some_and(|b| Arc::ptr_eq(&b, there)))
        };
        self.rule == *rule && self.backends.iter().zip(&rule.backends).all(is_same)
    }

    /// Claims an endpoint for a client that shows a cookie, or none.
    pub(super) fn pick(
        &self,
        client: IpAddr,
        mark: Option<&str>,
        tried: &[SocketAddr],
        now: Millis,
    ) -> Option<(Claim, &LiveBackend)> {
        if let Some(mark) = mark {
            let weighed = self.backends.iter().zip(&self.rule.backends).filter(|(_, planned)| planned.weight > 0);
            let kept = |backend: &LiveBackend| backend.ports.iter().find_map(|port| port.pick_marked(mark, tried));
            let found = weighed.map(|(backend, _)| backend).find_map(|backend| Some((kept(backend)?, backend)));
            if found.is_some() {
                return found;
            }
        }
        let first = match self.schedule.len() {
            0 => return None,
            1 => 0,
            n => self.turn.fetch_add(1, Relaxed) % n,
        };
        let in_turn = self.schedule[first..].iter().chain(&self.schedule[..first]);
        let mut last = None;
        for place in in_turn {
            // A backend without endpoints gives its turn to the next.
            if last.replace(*place) == Some(*place) {
                continue;
            }
            let backend = &self.backends[usize::from(*place)];
            if let Some(claim) = backend.pick(self.rule.options.balance, client, tried, now) {
                return Some((claim, backend));
            }
        }
        None
    }

    /// Why no endpoint can be had, for each backend that would get requests.
    pub(super) fn troubles(&self) -> Vec<String> {
        let weighed = self.backends.iter().zip(&self.rule.backends).filter(|(_, planned)| planned.weight > 0);
        let all: Vec<String> = weighed
            .map(|(backend, _)| {
                let none = || format!("the Service {} has no endpoint that is ready", backend.service);
                backend.trouble.clone().unwrap_or_else(none)
            })
            .collect();
        if all.is_empty() { vec!["the weights of all its Services are 0".to_owned()] } else { all }
    }
}

impl LiveBackend {
    fn new(rule: &Rule, planned: &Backend, cluster_ca: &str, find: FindBackends<'_>) -> Self {
        let mut trouble = planned.ports.as_ref().err().cloned();
        let ports = planned.ports.iter().flatten().filter_map(|port| find(port)).collect();
        let tls = match &rule.wire {
            Wire::Plain => None,
            Wire::Tls(trust) => {
                let name = format!("{}.{}.svc", planned.service, rule.owner.namespace);
                let name = ServerName::try_from(name).map_err(|err| err.to_string());
                let config = tls::client_config(trust, cluster_ca, planned.is_http2);
                let both = config.and_then(|config| Ok(BackendTls { config, name: name? }));
                both.map_err(|why| trouble.get_or_insert(why)).ok()
            }
        };
        let wire_id = if tls.is_some() { WIRES_MADE.fetch_add(1, Relaxed) } else { PLAIN_WIRE };
        let ports = if trouble.is_some() { Vec::new() } else { ports };
        Self {
            trouble,
            service: planned.service.clone(),
            ports,
            turn: AtomicUsize::new(0),
            is_http2: planned.is_http2,
            tls,
            wire_id,
        }
    }

    fn pick(&self, balance: Balance, client: IpAddr, tried: &[SocketAddr], now: Millis) -> Option<Claim> {
        let n_ports = self.ports.len();
        let first = if n_ports < 2 { 0 } else { self.turn.load(Relaxed) % n_ports };
        let in_turn = self.ports[first..].iter().chain(&self.ports[..first]);
        in_turn.into_iter().find_map(|port| match balance {
            Balance::RoundRobin => port.pick(&self.turn, None, tried, now),
            Balance::LeastConnections => port.pick_fewest(&self.turn, tried, now),
            Balance::Source => port.pick_at(number_of(client), tried, now),
            Balance::Random => port.pick_at(scatter(self.turn.fetch_add(1, Relaxed)), tried, now),
        })
    }
}

/// Which number an address stands for.
fn number_of(client: IpAddr) -> usize {
    let bits = match client.to_canonical() {
        IpAddr::V4(address) => u64::from(address.to_bits()),
        IpAddr::V6(address) => (address.to_bits() >> 64) as u64 ^ address.to_bits() as u64,
    };
    scatter(bits as usize)
}

/// Numbers in a row become numbers without order, each always the same. Source: the finalizer of SplitMix64.
fn scatter(number: usize) -> usize {
    let mut bits = (number as u64).wrapping_add(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (bits ^ (bits >> 31)) as usize
}

/// Whose turn it is, so that each gets its share, and turns of one are as far from each other as can be.
fn schedule(weights: &[u16]) -> Vec<u8> {
    let divisor = weights.iter().fold(0, |all, weight| greatest_common_divisor(all, *weight)).max(1);
    let shares: Vec<i32> = weights.iter().map(|weight| i32::from(weight / divisor)).collect();
    let total: i32 = shares.iter().sum();
    let mut due = vec![0_i32; shares.len()];
    let mut turns = Vec::new();
    for _ in 0..total {
        due.iter_mut().zip(&shares).for_each(|(due, share)| *due += share);
        // Of several that are due the first; `max_by_key` has the last.
        let next = due.iter().enumerate().rev().max_by_key(|(_, due)| **due).map_or(0, |(place, _)| place);
        due[next] -= total;
        turns.push(u8::try_from(next).unwrap_or_default());
    }
    turns
}

fn greatest_common_divisor(one: u16, other: u16) -> u16 {
    if other == 0 { one } else { greatest_common_divisor(other, one % other) }
}

impl Live {
    /// Makes a planned table live. Rules that are as before stay, with the turns of their endpoints.
    pub(super) fn new(
        before: &Self,
        table: &Table<Arc<Rule>>,
        certificates: &Certificates,
        (cluster_ca, https_port, keys): (&str, Option<u16>, &Keys),
        find: FindBackends<'_>,
    ) -> Self {
        let there = Map::of_groups(before.table.rules().map(|live| ((&live.rule.owner, &live.rule.path), live)));
        let live = |rule: &Arc<Rule>| {
            let alike = there.get(&(&rule.owner, &rule.path)).into_iter().flatten();
            let kept = alike.copied().find(|live| live.is_current(rule, find));
            kept.map_or_else(|| Arc::new(LiveRule::new(rule, cluster_ca, find)), Arc::clone)
        };
        let certified = |pair: &Pair| keys.of(pair).ok();
        let by_host = certificates.by_host.iter().filter_map(|(host, pair)| Some((host.clone(), certified(pair)?)));
        Self { table: table.map(live, certified), by_host: by_host.collect(), https_port }
    }

    /// The certificate to show who asks for a name.
    pub(super) fn certificate(&self, name: &str) -> Option<Arc<CertifiedKey>> {
        let brought = self.table.certificate(name).cloned().flatten();
        let above = || name.split_once('.').and_then(|(_, above)| self.by_host.get(&format!("*.{above}")));
        brought.or_else(|| self.by_host.get(name).or_else(above).cloned())
    }

    /// The certificate to show who asks for a name that nobody has, so that the answer in words can be read.
    fn any_certificate(&self) -> Option<Arc<CertifiedKey>> {
        let brought = || self.table.certificates().flatten().next();
        self.by_host.values().next().or_else(brought).cloned()
    }
}

/// The table that all threads use.
#[derive(Debug, Default)]
pub(super) struct Current(RwLock<Arc<Live>>);

impl Current {
    pub(super) fn get(&self) -> Arc<Live> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn set(&self, live: Live) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(live);
    }
}

impl ResolvesServerCert for Current {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let live = self.get();
        let named = hello.server_name().and_then(|name| live.certificate(&host_of(name)));
        named.or_else(|| live.any_certificate())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::{
        router::table::{Owner, OwnerKind, PathRule, Plain},
        table::{Protocol, Rotation, Target},
    };

    #[test]
    fn each_service_gets_its_share_and_turns_are_spread() {
        assert_eq!(schedule(&[100]), [0]);
        assert_eq!(schedule(&[100, 100]), [0, 1]);
        assert_eq!(schedule(&[2, 1]), [0, 1, 0]);
        assert_eq!(schedule(&[80, 20]), [0, 0, 1, 0, 0]);
        assert_eq!(schedule(&[0, 5]), [1]);
        assert_eq!(schedule(&[0, 0]), Vec::<u8>::new());
    }

    fn port(service: &str) -> Arc<PortRef> {
        let (namespace, service, port) = ("shop".to_owned(), service.to_owned(), String::new());
        Arc::new(PortRef { namespace, service, port, protocol: Protocol::Tcp })
    }

    fn backends(service: &str, hosts: &[u8]) -> Arc<Backends> {
        let backends = Backends::new(port(service));
        let target = |h: &u8| Target { address: SocketAddr::from(([10, 244, 0, *h], 80)), pod: None };
        backends.follow(&Rotation { targets: hosts.iter().map(target).collect(), sticky_for: None });
        Arc::new(backends)
    }

    fn rule(balance: Balance, services: &[(&str, u16)]) -> Arc<Rule> {
        let backend = |(service, weight): &(&str, u16)| Backend {
            service: (*service).to_owned(),
            weight: *weight,
            ports: if *service == "gone" {
                Err("the Service gone does not exist".into())
            } else {
                Ok(vec![port(service)])
            },
            is_http2: false,
        };
        Arc::new(Rule {
            owner: Owner { kind: OwnerKind::Route, namespace: "shop".into(), name: "web".into(), uid: "u".into() },
            path: PathRule::prefix("/"),
            plain: Plain::Serve,
            serves_tls: false,
            backends: services.iter().map(backend).collect(),
            wire: Wire::Plain,
            options: crate::api::http_options::HttpOptions { balance, ..Default::default() },
            cookie: None,
            request_headers: Vec::new(),
            response_headers: Vec::new(),
        })
    }

    fn live(balance: Balance, services: &[(&str, u16)]) -> LiveRule {
        let all = [("a", &[1, 2][..]), ("b", &[3]), ("empty", &[])];
        let made: Map<&str, Arc<Backends>> = all.iter().map(|(name, hosts)| (*name, backends(name, hosts))).collect();
        LiveRule::new(&rule(balance, services), "", &|port| made.get(port.service.as_str()).cloned())
    }

    fn picks(rule: &LiveRule, n: usize) -> Vec<u8> {
        let client = IpAddr::from([192, 0, 2, 1]);
        (0..n).map(|_| host(&rule.pick(client, None, &[], 0).unwrap().0)).collect()
    }

    fn host(claim: &Claim) -> u8 {
        match claim.address {
            SocketAddr::V4(address) => address.ip().octets()[3],
            SocketAddr::V6(_) => unreachable!("the tests use IPv4"),
        }
    }

    #[test]
    fn requests_go_by_the_weights_and_within_a_service_in_turn() {
        assert_eq!(picks(&live(Balance::RoundRobin, &[("a", 100)]), 4), [1, 2, 1, 2]);
        assert_eq!(picks(&live(Balance::RoundRobin, &[("a", 2), ("b", 1)]), 6), [1, 3, 2, 1, 3, 2]);
        assert_eq!(picks(&live(Balance::RoundRobin, &[("a", 0), ("b", 1)]), 2), [3, 3]);
    }

    #[test]
    fn a_service_without_endpoints_gives_its_turn_away() {
        assert_eq!(picks(&live(Balance::RoundRobin, &[("empty", 100), ("b", 100)]), 2), [3, 3]);
        let none = live(Balance::RoundRobin, &[("empty", 1), ("gone", 1)]);
        assert!(none.pick(IpAddr::from([192, 0, 2, 1]), None, &[], 0).is_none());
        assert_eq!(
            none.troubles(),
            ["the Service empty has no endpoint that is ready", "the Service gone does not exist"]
        );
        assert_eq!(live(Balance::RoundRobin, &[("a", 0)]).troubles(), ["the weights of all its Services are 0"]);
    }

    #[test]
    fn a_cookie_a_load_and_an_address_lead_to_their_endpoint() {
        let client = IpAddr::from([192, 0, 2, 1]);
        let rule = live(Balance::RoundRobin, &[("a", 100), ("b", 100)]);
        let (claim, _) = rule.pick(client, None, &[], 0).unwrap();
        let mark = claim.mark().to_owned();
        let again = |tried: &[SocketAddr]| host(&rule.pick(client, Some(&mark), tried, 0).unwrap().0);
        assert_eq!((again(&[]), again(&[])), (host(&claim), host(&claim)));
        assert_ne!(again(&[claim.address]), host(&claim), "it was tried");
        let fewest = live(Balance::LeastConnections, &[("a", 100)]);
        let held = fewest.pick(client, None, &[], 0).unwrap().0;
        assert!(picks(&fewest, 3).iter().all(|picked| *picked != host(&held)));
        let source = picks(&live(Balance::Source, &[("a", 100)]), 4);
        assert!(source.iter().all(|picked| *picked == source[0]));
        let random = picks(&live(Balance::Random, &[("a", 100)]), 64);
        let ones: usize = random.iter().map(|picked| usize::from(*picked == 1)).sum();
        assert!((16..=48).contains(&ones), "{ones}");
    }

    #[test]
    fn a_rule_that_is_as_before_stays_and_one_with_other_endpoints_is_made_again() {
        let (one, other) = (backends("a", &[1]), backends("a", &[2]));
        let planned = rule(Balance::RoundRobin, &[("a", 100)]);
        let live = LiveRule::new(&planned, "", &|_| Some(Arc::clone(&one)));
        assert!(live.is_current(&planned, &|_| Some(Arc::clone(&one))));
        assert!(!live.is_current(&planned, &|_| Some(Arc::clone(&other))));
        assert!(!live.is_current(&planned, &|_| None));
        assert!(!live.is_current(&rule(Balance::Random, &[("a", 100)]), &|_| Some(Arc::clone(&one))));
    }
}
