//! Tells the addresses of load balancers: `status.loadBalancer` of Services.
//!
//! Fed by `follow` with all that the API does not say yet. While the API is away the newest waits.
//!
//! **Invariants**: a Service that was replaced by another of its name gets nothing of the first; one that the API refuses holds up no other.

use super::access::AccessNow;
use crate::{
    base::{backoff::Backoff, chain::chain},
    client::{ClientError, PatchKind},
    net::balancer::{ServiceKey, Told},
};
use http::StatusCode;
use serde_json::{Value, json};
use std::{collections::BTreeMap, time::Duration};
use tokio::{sync::watch, time::sleep};
use tracing::{debug, warn};

/// Pauses between attempts while the API is away.
const RETRY: Backoff = Backoff { base: Duration::from_millis(50), cap: Duration::from_secs(1) };

/// What is to be told now.
pub(super) type ToTell = BTreeMap<ServiceKey, Told>;

/// Writes until nothing comes any more.
pub(super) async fn run(access: AccessNow, mut wanted: watch::Receiver<ToTell>) {
    let mut failures = 0;
    while wanted.changed().await.is_ok() {
        loop {
            let all = wanted.borrow_and_update().clone();
            let Err(err) = write_all(&access, &all).await else { break };
            if failures == 0 {
                warn!(
                    component = "proxy",
                    err = chain(&err),
                    "cannot tell the addresses of load balancers; trying again"
                );
            }
            failures += 1;
            sleep(RETRY.delay(failures)).await;
        }
        failures = 0;
    }
}

async fn write_all(access: &AccessNow, all: &ToTell) -> Result<(), ClientError> {
    for ((namespace, name), told) in all {
        let path = format!("/api/v1/namespaces/{namespace}/services/{name}/status");
        let client = access.borrow().client.clone();
        match client.patch(&path, PatchKind::Merge, &body(told)).await {
            Ok(_) => debug!(component = "proxy", namespace, name, address = ?told.address, "load balancer"),
            // It is another Service, or none: what is known of it comes anew.
            Err(err) if matches!(err.code(), Some(StatusCode::NOT_FOUND | StatusCode::CONFLICT)) => {}
            Err(err)
                if err.code().is_some_and(|code| code.is_client_error() && code != StatusCode::TOO_MANY_REQUESTS) =>
            {
                warn!(
                    component = "proxy",
                    namespace,
                    name,
                    err = chain(&err),
                    "the API refuses the address of a load balancer"
                );
            }
            Err(err) => return Err(err),
        }
    }
    Ok(())
}

fn body(told: &Told) -> Value {
    let ingress = told.address.map(|ip| json!([{"ip": ip, "ipMode": "VIP"}]));
    json!({"metadata": {"uid": told.uid}, "status": {"loadBalancer": {"ingress": ingress}}})
}
