//! Writes statuses: the addresses of load balancers, and what the router says of Routes and Ingresses.
//!
//! Fed by `follow` with all that the API does not say yet. While the API is away the newest waits.
//!
//! **Invariants**: an object that was replaced by another of its name gets nothing of the first: a body names the UID. One that the API
//! refuses holds up no other.

use super::access::AccessNow;
use crate::{
    base::{backoff::Backoff, chain::chain},
    client::{ClientError, PatchKind},
    net::{
        balancer::{ServiceKey, Told},
        router::table::{Owner, OwnerKind},
    },
};
use http::StatusCode;
use serde_json::{Value, json};
use std::{collections::BTreeMap, time::Duration};
use tokio::{sync::watch, time::sleep};
use tracing::{debug, warn};

/// Pauses between attempts while the API is away.
const RETRY: Backoff = Backoff { base: Duration::from_millis(50), cap: Duration::from_secs(1) };

/// What is to be told now: the path of each status, and the body of a merge patch.
pub(super) type ToTell = BTreeMap<String, Value>;

/// Writes until nothing comes any more.
pub(super) async fn run(access: AccessNow, mut wanted: watch::Receiver<ToTell>) {
    let mut failures = 0;
    while wanted.changed().await.is_ok() {
        loop {
            let all = wanted.borrow_and_update().clone();
            let Err(err) = write_all(&access, &all).await else { break };
            if failures == 0 {
                warn!(component = "proxy", err = chain(&err), "cannot write statuses; trying again");
            }
            failures += 1;
            sleep(RETRY.delay(failures)).await;
        }
        failures = 0;
    }
}

async fn write_all(access: &AccessNow, all: &ToTell) -> Result<(), ClientError> {
    for (path, body) in all {
        let client = access.borrow().client.clone();
        match client.patch(path, PatchKind::Merge, body).await {
            Ok(_) => debug!(component = "proxy", path, "told"),
            // It is another object, or none: what is known of it comes anew.
            Err(err) if matches!(err.code(), Some(StatusCode::NOT_FOUND | StatusCode::CONFLICT)) => {}
            Err(err)
                if err.code().is_some_and(|code| code.is_client_error() && code != StatusCode::TOO_MANY_REQUESTS) =>
            {
                warn!(component = "proxy", path, err = chain(&err), "the API refuses a status");
            }
            Err(err) => return Err(err),
        }
    }
    Ok(())
}

/// What a Service is told of its load balancer.
pub(super) fn of_balancer(((namespace, name), told): (&ServiceKey, &Told)) -> (String, Value) {
    let ingress = told.address.map(|ip| json!([{"ip": ip, "ipMode": "VIP"}]));
    let body = json!({"metadata": {"uid": told.uid}, "status": {"loadBalancer": {"ingress": ingress}}});
    (format!("/api/v1/namespaces/{namespace}/services/{name}/status"), body)
}

/// What a Route or an Ingress is told.
pub(super) fn of_router((owner, body): (&Owner, &Value)) -> (String, Value) {
    let Owner { kind, namespace, name, .. } = owner;
    let (group, plural) = match kind {
        OwnerKind::Route => ("route.openshift.io", "routes"),
        OwnerKind::Ingress => ("networking.k8s.io", "ingresses"),
    };
    (format!("/apis/{group}/v1/namespaces/{namespace}/{plural}/{name}/status"), body.clone())
}
