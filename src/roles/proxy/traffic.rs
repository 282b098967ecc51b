//! Tells the API what is counted at endpoints, while somebody looks: the server answers a report once it wants the next one.
//!
//! **Not here**: the counting (`net/proxy`), what clients see of it (`server/verbs/traffic`).

use super::{access::AccessNow, counted::Counted};
use crate::{
    api::{timeline::API_VERSION, traffic::EndpointTraffic},
    base::{backoff::Backoff, chain::chain, clock::Clock},
    net::proxy::EndpointReport,
};
use jiff::{SignedDuration, Timestamp, Unit};
use serde_json::json;
use std::time::Duration;
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
    // Looked at once: an instant that is told is the same each time.
    let began = clock.now().checked_sub(millis(counted.report().age_ms)).unwrap_or(Timestamp::UNIX_EPOCH);
    let mut failures = 0;
    loop {
        pace.tick().await;
        let endpoints: Vec<_> = counted.report().endpoints.iter().map(|endpoint| told(endpoint, began)).collect();
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

fn millis(ms: u64) -> SignedDuration {
    SignedDuration::from_millis(i64::try_from(ms).unwrap_or(i64::MAX))
}

fn told(endpoint: &EndpointReport, began: Timestamp) -> EndpointTraffic {
    let pod =
        |part: fn(&crate::net::table::PodRef) -> &String| endpoint.pod.as_ref().map(part).cloned().unwrap_or_default();
    let first_reply = endpoint.first_reply_ms.and_then(|ms| began.checked_add(millis(ms)).ok());
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
        first_reply: first_reply.and_then(|at| at.round(Unit::Millisecond).ok()),
    }
}
