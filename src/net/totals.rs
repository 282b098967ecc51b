//! What the data plane counts as a whole: small enough for an annotation of its Lease, through which `/metrics` of the API server has it.
//!
//! Counters of each endpoint are told by the data plane alone (`report`): they are too many for an object.

use crate::base::{
    exposition::{Exposition, Kind},
    json,
};
use serde::{Deserialize, Serialize};

/// The counts since the data plane that serves began to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Totals {
    /// Open listeners.
    pub listeners: u64,
    /// Ports that are taken, open or not.
    pub reserved_ports: u64,
    /// Ports that could not be taken.
    pub listener_problems: u64,
    /// Clients that were reset because no endpoint answered.
    pub unserved: u64,
    /// Clients that were reset for want of file descriptors.
    pub shed: u64,
    /// Clients that were reset because what they dialed is not for them.
    pub strangers: u64,
    /// Connections open now.
    pub connections: u64,
    /// How many there may be.
    pub connections_max: u64,
    /// Clients that were reset because there were too many.
    pub turned_away: u64,
    /// Datagram flows that were ended because there were too many.
    pub flows_ended: u64,
    /// Where the router answers plain HTTP; 0: nowhere.
    pub router_http_port: u64,
    /// Where it answers TLS; 0: nowhere.
    pub router_https_port: u64,
    /// Requests to the router.
    pub router_requests: u64,
    /// Those that no endpoint answered.
    pub router_errors: u64,
    /// Clients of the router that were turned away because there were too many.
    pub router_clients_turned_away: u64,
    /// Clients of the name server over TCP that were turned away.
    pub dns_clients_turned_away: u64,
    /// Questions that the name server did not pass on.
    pub dns_questions_refused: u64,
}

/// A metric: its name, type, help, and how to read it.
type Metric = (&'static str, Kind, &'static str, fn(&Totals) -> u64);

const METRICS: [Metric; 17] = [
    ("skiff_proxy_listeners", Kind::Gauge, "Open listeners.", |t| t.listeners),
    ("skiff_proxy_reserved_ports", Kind::Gauge, "Ports of Services that are taken.", |t| t.reserved_ports),
    ("skiff_proxy_listener_problems", Kind::Gauge, "Ports that could not be taken.", |t| t.listener_problems),
    ("skiff_proxy_unserved_total", Kind::Counter, "Clients reset because no endpoint answered.", |t| t.unserved),
    ("skiff_proxy_shed_total", Kind::Counter, "Clients reset for want of file descriptors.", |t| t.shed),
    ("skiff_proxy_strangers_total", Kind::Counter, "Clients reset because they are not of the cluster.", |t| {
        t.strangers
    }),
    ("skiff_proxy_connections", Kind::Gauge, "Connections open now.", |t| t.connections),
    ("skiff_proxy_connections_max", Kind::Gauge, "Connections that may be open.", |t| t.connections_max),
    ("skiff_proxy_turned_away_total", Kind::Counter, "Clients reset because there were too many.", |t| t.turned_away),
    ("skiff_proxy_flows_ended_total", Kind::Counter, "Datagram flows ended because there were too many.", |t| {
        t.flows_ended
    }),
    ("skiff_router_http_port", Kind::Gauge, "The port of plain HTTP for Routes and Ingresses; 0: none.", |t| {
        t.router_http_port
    }),
    ("skiff_router_https_port", Kind::Gauge, "The port of TLS for Routes and Ingresses; 0: none.", |t| {
        t.router_https_port
    }),
    ("skiff_router_requests_total", Kind::Counter, "Requests to the router.", |t| t.router_requests),
    ("skiff_router_errors_total", Kind::Counter, "Requests to the router that no endpoint answered.", |t| {
        t.router_errors
    }),
    ("skiff_router_clients_turned_away_total", Kind::Counter, "Clients of the router turned away.", |t| {
        t.router_clients_turned_away
    }),
    ("skiff_proxy_dns_clients_turned_away_total", Kind::Counter, "Clients of the name server turned away.", |t| {
        t.dns_clients_turned_away
    }),
    ("skiff_proxy_dns_questions_refused_total", Kind::Counter, "Questions that were not passed on.", |t| {
        t.dns_questions_refused
    }),
];

impl Totals {
    /// Writes all of it.
    pub fn write(&self, all: &mut Exposition) {
        for (name, kind, help, read) in METRICS {
            all.metric(name, kind, help);
            all.sample(name, &[], read(self));
        }
    }

    /// What an annotation tells; nothing when it is not one.
    pub fn parse(text: &str) -> Option<Self> {
        json::read(text.as_bytes()).ok()
    }

    /// The text of the annotation.
    pub fn annotation(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_annotation_reads_back_also_from_a_data_plane_that_counts_less_or_more() {
        let totals = Totals { connections: 3, dns_questions_refused: 1, ..Totals::default() };
        assert_eq!(Totals::parse(&totals.annotation()), Some(totals));
        assert_eq!(
            Totals::parse("{\"connections\": 7, \"later\": 1}"),
            Some(Totals { connections: 7, ..Totals::default() })
        );
        assert_eq!(Totals::parse("no"), None);
    }
}
