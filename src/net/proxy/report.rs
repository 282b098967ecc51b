//! What the proxy tells about itself: counters per endpoint, listeners that are not open, and all of it as Prometheus text.
//!
//! Called by the role's admin listener, and by tests.

use super::{Proxy, rotation::Endpoint};
use crate::net::table::{PodRef, PortRef, Protocol};
use std::{
    fmt::Write as _,
    net::SocketAddr,
    sync::{Arc, PoisonError, atomic::Ordering::Relaxed},
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
}

/// What happened since the proxy started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Every endpoint in a rotation, and those that left and still have connections.
    pub endpoints: Vec<EndpointReport>,
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
}

impl Proxy {
    /// Takes stock.
    pub fn report(&self) -> Report {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let in_rotation = state.ports.values().flat_map(|backends| backends.endpoints());
        let leaving = state.leaving.iter().filter(|endpoint| endpoint.counters.active.load(Relaxed) > 0).cloned();
        Report {
            endpoints: in_rotation.chain(leaving).map(|endpoint| report(&endpoint)).collect(),
            listeners: state.taken.iter().filter(|(key, taken)| taken.is_open || key.protocol == Protocol::Udp).count(),
            reserved: state.taken.len(),
            problems: state.problems.len(),
            unserved: self.shared.unserved.load(Relaxed),
            shed: self.shared.shed.load(Relaxed),
            strangers: self.shared.strangers.load(Relaxed),
            connections: self.connections(),
            connections_max: self.shared.seats.max(),
            turned_away: self.shared.seats.turned_away(),
        }
    }
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
    }
}

/// A metric with one sample per endpoint: its name, type, help, and how to read it.
type EndpointMetric = (&'static str, &'static str, &'static str, fn(&EndpointReport) -> u64);

const ENDPOINT_METRICS: [EndpointMetric; 5] = [
    ("skiff_proxy_endpoint_connections_total", "counter", "Connections begun to an endpoint.", |e| e.connections),
    ("skiff_proxy_endpoint_active_connections", "gauge", "Connections open to an endpoint.", |e| e.active),
    ("skiff_proxy_endpoint_received_bytes_total", "counter", "Bytes sent to an endpoint.", |e| e.bytes_to_endpoint),
    ("skiff_proxy_endpoint_sent_bytes_total", "counter", "Bytes sent by an endpoint.", |e| e.bytes_to_client),
    ("skiff_proxy_endpoint_errors_total", "counter", "Failed connects and broken connections.", |e| e.errors),
];

impl Report {
    /// The report in the Prometheus text format.
    pub fn prometheus(&self) -> String {
        let mut text = String::new();
        for (name, kind, help, read) in ENDPOINT_METRICS {
            head(&mut text, name, kind, help);
            for endpoint in &self.endpoints {
                line(&mut text, format_args!("{name}{{{}}} {}", labels(endpoint), read(endpoint)));
            }
        }
        let totals = [
            ("skiff_proxy_listeners", "gauge", "Open listeners.", self.listeners as u64),
            ("skiff_proxy_reserved_ports", "gauge", "Ports of Services that are taken.", self.reserved as u64),
            ("skiff_proxy_listener_problems", "gauge", "Ports that could not be taken.", self.problems as u64),
            ("skiff_proxy_unserved_total", "counter", "Clients reset because no endpoint answered.", self.unserved),
            ("skiff_proxy_shed_total", "counter", "Clients reset for want of file descriptors.", self.shed),
            (
                "skiff_proxy_strangers_total",
                "counter",
                "Clients reset because they are not of the cluster.",
                self.strangers,
            ),
            ("skiff_proxy_connections", "gauge", "Connections open now.", self.connections as u64),
            ("skiff_proxy_connections_max", "gauge", "Connections that may be open.", self.connections_max as u64),
            (
                "skiff_proxy_turned_away_total",
                "counter",
                "Clients reset because there were too many.",
                self.turned_away,
            ),
        ];
        for (name, kind, help, value) in totals {
            head(&mut text, name, kind, help);
            line(&mut text, format_args!("{name} {value}"));
        }
        text
    }
}

fn head(text: &mut String, name: &str, kind: &str, help: &str) {
    line(text, format_args!("# HELP {name} {help}"));
    line(text, format_args!("# TYPE {name} {kind}"));
}

fn line(text: &mut String, content: std::fmt::Arguments<'_>) {
    writeln!(text, "{content}").expect("a String takes any text");
}

/// Names of Kubernetes objects hold no character that a label value must escape.
fn labels(endpoint: &EndpointReport) -> String {
    let port = &endpoint.port;
    let pod = endpoint.pod.as_ref().map_or("", |pod| &pod.name);
    format!(
        r#"namespace="{}",service="{}",port="{}",protocol="{}",endpoint="{}",pod="{pod}""#,
        port.namespace, port.service, port.port, port.protocol, endpoint.address
    )
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
            skiff_proxy_turned_away_total 0"#]]
        .assert_eq(&samples.join("\n"));
    }
}
