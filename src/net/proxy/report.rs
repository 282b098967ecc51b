//! What the proxy tells about itself: counters per endpoint, listeners that are not open, and all of it as Prometheus text.
//!
//! Called by the role's admin listener, and by tests.

use super::{
    Proxy,
    rotation::{Endpoint, Millis, millis},
};
use crate::{
    base::exposition::{Exposition, Kind},
    net::{
        router::RouterReport,
        table::{PodRef, PortRef, Protocol},
        totals::Totals,
    },
};
use std::{
    net::SocketAddr,
    sync::{Arc, PoisonError, atomic::Ordering::Relaxed},
    time::Duration,
};

/// What happened at one endpoint since the proxy started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointReport {
    /// The port of the Service that it stands behind.
    pub port: Arc<PortRef>,
    /// Where it listens.
    pub address: SocketAddr,
    /// The Pod, when it is one.
    pub pod: Option<PodRef>,
    /// Whether new connections go there.
    pub is_in_rotation: bool,
    /// Connections begun, failed ones included.
    pub connections: u64,
    /// Connections open now.
    pub active: u64,
    /// Bytes that clients sent.
    pub bytes_to_endpoint: u64,
    /// Bytes that the endpoint sent.
    pub bytes_to_client: u64,
    /// Connects that failed and connections that broke.
    pub errors: u64,
    /// Connections and requests that a client lost because the endpoint broke off.
    pub broken: u64,
    /// When it replied for the first time, in milliseconds since the proxy started; nothing: it has not yet.
    pub first_reply_ms: Option<u64>,
    /// When a client last lost something there, in milliseconds since the proxy started.
    pub last_lost_ms: Option<u64>,
}

/// What happened since the proxy started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Every endpoint in a rotation, and those that left and still have connections, or where clients lost some a while ago.
    pub endpoints: Vec<EndpointReport>,
    /// How long ago the proxy started, in milliseconds.
    pub age_ms: u64,
    /// Open listeners.
    pub listeners: usize,
    /// Ports that are taken, open or not.
    pub reserved: usize,
    /// Ports that could not be taken.
    pub problems: usize,
    /// Clients that were reset because no endpoint answered.
    pub unserved: u64,
    /// Clients that were reset for want of file descriptors.
    pub shed: u64,
    /// Clients that were reset because what they dialed is not for them.
    pub strangers: u64,
    /// Connections open now.
    pub connections: usize,
    /// How many there may be.
    pub connections_max: usize,
    /// Clients that were reset because there were too many, in all or from their address.
    pub turned_away: u64,
    /// Datagram flows that were ended because there were too many.
    pub flows_ended: u64,
    /// What happened at the router; whoever runs it says so.
    pub router: RouterReport,
    /// Clients of the name server over TCP that were turned away; whoever runs it says so.
    pub dns_clients_turned_away: u64,
    /// Questions that the name server did not pass on, because too many were under way.
    pub dns_questions_refused: u64,
}

impl Proxy {
    /// Takes stock.
    pub fn report(&self) -> Report {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let in_rotation = state.ports.values().flat_map(|backends| backends.endpoints());
        let now = self.now();
        let leaving = state.leaving.iter().filter(|endpoint| is_worth_telling(endpoint, now)).cloned();
        Report {
            endpoints: in_rotation.chain(leaving).map(|endpoint| report(&endpoint)).collect(),
            age_ms: now,
            listeners: state.taken.iter().filter(|(key, taken)| taken.is_open || key.protocol == Protocol::Udp).count(),
            reserved: state.taken.len(),
            problems: state.problems.len(),
            unserved: self.shared.unserved.load(Relaxed),
            shed: self.shared.shed.load(Relaxed),
            strangers: self.shared.strangers.load(Relaxed),
            connections: self.connections(),
            connections_max: self.shared.seats.max(),
            turned_away: self.shared.seats.turned_away(),
            flows_ended: self.shared.flows_ended.count(),
            router: RouterReport::default(),
            dns_clients_turned_away: 0,
            dns_questions_refused: 0,
        }
    }
}

/// For how long it is told that clients lost something at an endpoint that left.
const LOSSES_TOLD: Duration = Duration::from_mins(10);

/// Whether an endpoint that left the rotation is still told of.
pub(super) fn is_worth_telling(endpoint: &Endpoint, now: Millis) -> bool {
    let is_recent = |lost: Millis| now.saturating_sub(lost) < millis(LOSSES_TOLD);
    endpoint.counters.active.load(Relaxed) > 0 || endpoint.last_lost().is_some_and(is_recent)
}

fn report(endpoint: &Endpoint) -> EndpointReport {
    let counters = &endpoint.counters;
    EndpointReport {
        port: Arc::clone(&endpoint.port),
        address: endpoint.address,
        pod: endpoint.pod.clone(),
        is_in_rotation: endpoint.is_in_rotation(),
        connections: counters.connections.load(Relaxed),
        active: counters.active.load(Relaxed),
        bytes_to_endpoint: counters.bytes_to_endpoint.load(Relaxed),
        bytes_to_client: counters.bytes_to_client.load(Relaxed),
        errors: counters.errors.load(Relaxed),
        broken: counters.broken.load(Relaxed),
        first_reply_ms: endpoint.first_reply(),
        last_lost_ms: endpoint.last_lost(),
    }
}

/// A metric with one sample per endpoint: its name, type, help, and how to read it.
type EndpointMetric = (&'static str, Kind, &'static str, fn(&EndpointReport) -> u64);

const ENDPOINT_METRICS: [EndpointMetric; 5] = [
    ("skiff_proxy_endpoint_connections_total", Kind::Counter, "Connections begun to an endpoint.", |e| e.connections),
    ("skiff_proxy_endpoint_active_connections", Kind::Gauge, "Connections open to an endpoint.", |e| e.active),
    ("skiff_proxy_endpoint_received_bytes_total", Kind::Counter, "Bytes sent to an endpoint.", |e| e.bytes_to_endpoint),
    ("skiff_proxy_endpoint_sent_bytes_total", Kind::Counter, "Bytes sent by an endpoint.", |e| e.bytes_to_client),
    ("skiff_proxy_endpoint_errors_total", Kind::Counter, "Failed connects and broken connections.", |e| e.errors),
];

impl Report {
    /// The report in the Prometheus text format.
    pub fn prometheus(&self) -> String {
        let mut all = Exposition::default();
        for (name, kind, help, read) in ENDPOINT_METRICS {
            all.metric(name, kind, help);
            for endpoint in &self.endpoints {
                sample_of(&mut all, name, endpoint, read(endpoint));
            }
        }
        self.totals().write(&mut all);
        all.text()
    }

    /// What it tells of the data plane as a whole.
    pub fn totals(&self) -> Totals {
        let of = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
        Totals {
            listeners: of(self.listeners),
            reserved_ports: of(self.reserved),
            listener_problems: of(self.problems),
            unserved: self.unserved,
            shed: self.shed,
            strangers: self.strangers,
            connections: of(self.connections),
            connections_max: of(self.connections_max),
            turned_away: self.turned_away,
            flows_ended: self.flows_ended,
            router_http_port: self.router.http_port.into(),
            router_https_port: self.router.https_port.into(),
            router_requests: self.router.requests,
            router_errors: self.router.errors,
            router_clients_turned_away: self.router.turned_away,
            dns_clients_turned_away: self.dns_clients_turned_away,
            dns_questions_refused: self.dns_questions_refused,
        }
    }
}

fn sample_of(all: &mut Exposition, name: &str, endpoint: &EndpointReport, value: u64) {
    let (port, address) = (&endpoint.port, endpoint.address.to_string());
    let labels = [
        ("namespace", port.namespace.as_str()),
        ("service", &port.service),
        ("port", &port.port),
        ("protocol", &port.protocol.to_string()),
        ("endpoint", &address),
        ("pod", endpoint.pod.as_ref().map_or("", |pod| &pod.name)),
    ];
    all.sample(name, &labels, value);
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    #[test]
    fn counters_read_as_prometheus_text() {
        let (namespace, service, port) = ("shop".to_owned(), "web".to_owned(), "http".to_owned());
        let port = Arc::new(PortRef { namespace, service, port, protocol: Protocol::Tcp });
        let pod = PodRef { namespace: "shop".into(), name: "web-0".into(), uid: "u".into() };
        let endpoint = EndpointReport {
            port,
            address: "10.244.0.5:80".parse().unwrap(),
            pod: Some(pod),
            is_in_rotation: true,
            connections: 3,
            active: 1,
            bytes_to_endpoint: 300,
            bytes_to_client: 9000,
            errors: 0,
            broken: 0,
            first_reply_ms: None,
            last_lost_ms: None,
        };
        let report = Report { endpoints: vec![endpoint], listeners: 2, reserved: 3, ..Report::default() };
        let samples: Vec<String> =
            report.prometheus().lines().filter(|l| !l.starts_with('#')).map(str::to_owned).collect();
        expect![[r#"
            skiff_proxy_endpoint_connections_total{namespace="shop",service="web",port="http",protocol="TCP",endpoint="10.244.0.5:80",pod="web-0"} 3
            skiff_proxy_endpoint_active_connections{namespace="shop",service="web",port="http",protocol="TCP",endpoint="10.244.0.5:80",pod="web-0"} 1
            skiff_proxy_endpoint_received_bytes_total{namespace="shop",service="web",port="http",protocol="TCP",endpoint="10.244.0.5:80",pod="web-0"} 300
            skiff_proxy_endpoint_sent_bytes_total{namespace="shop",service="web",port="http",protocol="TCP",endpoint="10.244.0.5:80",pod="web-0"} 9000
            skiff_proxy_endpoint_errors_total{namespace="shop",service="web",port="http",protocol="TCP",endpoint="10.244.0.5:80",pod="web-0"} 0
            skiff_proxy_listeners 2
            skiff_proxy_reserved_ports 3
            skiff_proxy_listener_problems 0
            skiff_proxy_unserved_total 0
            skiff_proxy_shed_total 0
            skiff_proxy_strangers_total 0
            skiff_proxy_connections 0
            skiff_proxy_connections_max 0
            skiff_proxy_turned_away_total 0
            skiff_proxy_flows_ended_total 0
            skiff_router_http_port 0
            skiff_router_https_port 0
            skiff_router_requests_total 0
            skiff_router_errors_total 0
            skiff_router_clients_turned_away_total 0
            skiff_proxy_dns_clients_turned_away_total 0
            skiff_proxy_dns_questions_refused_total 0"#]]
        .assert_eq(&samples.join("\n"));
    }
}
