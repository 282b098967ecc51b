//! Tells the API what is counted at endpoints, while somebody looks: the server answers a report once it wants the next one.
//!
//! **Not here**: the counting (`net/proxy`), what clients see of it (`server/verbs/traffic`).

use super::{access::AccessNow, counted::Counted};
use crate::{
    api::{timeline::API_VERSION, traffic::EndpointTraffic},
    base::{backoff::Backoff, chain::chain, clock::Clock, ordered::Map},
    net::{
        proxy::{EndpointReport, Report},
        table::{PodRef, PortRef},
    },
};
use jiff::{SignedDuration, Timestamp, Unit};
use serde_json::json;
use std::{net::SocketAddr, sync::Arc, time::Duration};
use tokio::time::{MissedTickBehavior, interval, sleep};
use tracing::debug;

/// How often it tells while somebody looks.
const PACE: Duration = Duration::from_millis(200);
/// Where reports go.
const REPORTS: &str = "/apis/skiff.dev/v1/trafficreports";
/// Pauses between attempts while the API is away.
const RETRY: Backoff = Backoff { base: Duration::from_millis(50), cap: Duration::from_secs(5) };

/// Tells for ever.
pub(super) async fn run(access: AccessNow, counted: Counted, clock: Clock) {
    let mut pace = interval(PACE);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut instants = Instants::default();
    let mut failures = 0;
    loop {
        pace.tick().await;
        let endpoints = instants.told(&counted.report(), clock.now());
        let report = json!({ "apiVersion": API_VERSION, "kind": "TrafficReport", "endpoints": endpoints });
        let client = access.borrow().client.clone();
        match client.post(REPORTS, &report).await {
            Ok(_) => failures = 0,
            Err(err) => {
                failures += 1;
                debug!(component = "traffic", attempt = failures, err = chain(&err), "cannot tell of connections");
                sleep(RETRY.delay(failures)).await;
            }
        }
    }
}

/// What happened at endpoints, by port, address and milliseconds since the proxy started, and the time of day of each: the first reply, and
/// when a client last lost something.
///
/// It is worked out when it is first seen, and kept: what the proxy counts stands still while the machine sleeps, and an
/// instant that was told does not move.
#[derive(Default)]
struct Instants(Map<(Arc<PortRef>, SocketAddr, u64), Timestamp>);

impl Instants {
    /// What is told of a report that is made now.
    fn told(&mut self, report: &Report, now: Timestamp) -> Vec<EndpointTraffic> {
        let mut known = std::mem::take(&mut self.0);
        let mut told_of = |endpoint: &EndpointReport| {
            let mut at = |ms: u64| {
                let key = (Arc::clone(&endpoint.port), endpoint.address, ms);
                let of_key = self.0.get(&key).copied().or_else(|| known.remove(&key));
                let at = of_key.unwrap_or_else(|| before(now, report.age_ms.saturating_sub(ms)));
                self.0.insert(key, at);
                at
            };
            let (first_reply, last_lost) = (endpoint.first_reply_ms.map(&mut at), endpoint.last_lost_ms.map(&mut at));
            told(endpoint, first_reply, last_lost)
        };
        report.endpoints.iter().map(&mut told_of).collect()
    }
}

/// The instant, in whole milliseconds, so long before another.
fn before(now: Timestamp, ms: u64) -> Timestamp {
    let at = now.checked_sub(millis(ms)).unwrap_or(Timestamp::UNIX_EPOCH);
    at.round(Unit::Millisecond).unwrap_or(at)
}

fn millis(ms: u64) -> SignedDuration {
    SignedDuration::from_millis(i64::try_from(ms).unwrap_or(i64::MAX))
}

fn told(endpoint: &EndpointReport, first_reply: Option<Timestamp>, last_lost: Option<Timestamp>) -> EndpointTraffic {
    let pod = |part: fn(&PodRef) -> &String| endpoint.pod.as_ref().map(part).cloned().unwrap_or_default();
    EndpointTraffic {
        namespace: endpoint.port.namespace.clone(),
        service: endpoint.port.service.clone(),
        port: endpoint.port.port.clone(),
        protocol: endpoint.port.protocol.to_string(),
        address: endpoint.address.to_string(),
        pod: pod(|pod| &pod.name),
        pod_uid: pod(|pod| &pod.uid),
        in_rotation: endpoint.is_in_rotation,
        connections: endpoint.connections,
        active: endpoint.active,
        errors: endpoint.errors,
        lost: endpoint.broken,
        received_bytes: endpoint.bytes_to_endpoint,
        sent_bytes: endpoint.bytes_to_client,
        first_reply,
        last_lost,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::table::Protocol;

    fn report(age_ms: u64, first_reply_ms: Option<u64>) -> Report {
        let port = PortRef {
            namespace: "default".into(),
            service: "web".into(),
            port: String::new(),
            protocol: Protocol::Tcp,
        };
        let endpoint = EndpointReport {
            port: port.into(),
            address: "10.244.0.2:80".parse().unwrap(),
            pod: None,
            is_in_rotation: true,
            connections: 1,
            active: 0,
            bytes_to_endpoint: 0,
            bytes_to_client: 0,
            errors: 0,
            broken: 0,
            first_reply_ms,
            last_lost_ms: None,
        };
        Report { endpoints: vec![endpoint], age_ms, ..Report::default() }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn a_first_reply_is_told_with_the_time_of_day_at_which_it_was_seen_and_does_not_move() {
        let mut replies = Instants::default();
        let mut told = |report, now| replies.told(&report, now)[0].first_reply;
        assert_eq!(told(report(1_000, None), at(1_000)), None);
        // An hour of sleep, which the proxy's own clock does not see.
        assert_eq!(told(report(3_000, Some(2_500)), at(4_602)), Some("1970-01-01T01:16:41.5Z".parse().unwrap()));
        assert_eq!(told(report(4_000, Some(2_500)), at(9_000)), Some("1970-01-01T01:16:41.5Z".parse().unwrap()));
        // Another container at the same address.
        assert_eq!(told(report(6_000, Some(5_000)), at(9_002)), Some(at(9_001)));
        assert_eq!(replies.0.len(), 1, "what is gone is forgotten");
    }
}
