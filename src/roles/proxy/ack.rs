//! Says which EndpointSlices are in place: the annotation `skiff.dev/observed-revision` of the Lease `kube-system/skiff-proxy`.
//!
//! Fed by `follow`. The node agent reads it: it signals a pod once the revision in which the pod's endpoint left is observed. So
//! that no reply is lost, a revision counts as observed when what was under way to the endpoints that left with it is done or
//! at rest, for a bounded time.
//!
//! Each write brings along what the data plane counts as a whole, for `/metrics` of the API server.
//!
//! **Invariants**: the revision never falls while the process runs; a revision is written only after all before it. Writes
//! are at most one at a time, and those that come together become one.

use super::{access::AccessNow, counted::Counted};
use crate::{
    api::agreements::{DATA_PLANE, DATA_PLANE_TOTALS, OBSERVED_REVISION, SYSTEM_NAMESPACE},
    base::{backoff::Backoff, chain::chain, clock::Clock},
    client::{ClientError, PatchKind},
    net::{proxy::Leavers, totals::Totals},
};
use futures::{FutureExt as _, StreamExt as _, stream::FuturesOrdered};
use http::StatusCode;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};
use tracing::{debug, warn};

/// How long connections to endpoints that left may hold up the acknowledgement.
const DRAIN: Duration = Duration::from_millis(500);

/// How often the Lease is renewed although nothing changed.
const HEARTBEAT: Duration = Duration::from_secs(60);

/// Pauses between attempts while the API is away.
const RETRY: Backoff = Backoff { base: Duration::from_millis(50), cap: Duration::from_secs(1) };

/// A revision that is in place.
#[derive(Debug)]
pub(super) struct Ack {
    /// The highest revision of EndpointSlices that was applied.
    pub(super) revision: u64,
    /// Whose connections are waited for.
    pub(super) left: Leavers,
    /// Whether what comes with it has changed, so that it is written although the revision has not.
    pub(super) is_news: bool,
}

/// Acknowledges until nothing comes any more.
pub(super) async fn run(access: AccessNow, counted: Counted, clock: Clock, mut acks: mpsc::UnboundedReceiver<Ack>) {
    let proxy = Arc::clone(&counted.proxy);
    let mut draining = FuturesOrdered::new();
    let mut writer = Writer { access, counted, clock, observed: None, due: Instant::now() + HEARTBEAT, failures: 0 };
    loop {
        tokio::select! { biased;
            ack = acks.recv() => {
                let Some(Ack { revision, left, is_news }) = ack else { return };
                let proxy = Arc::clone(&proxy);
                draining.push_back(async move {
                    proxy.drain(&left, DRAIN).await;
                    (revision, is_news)
                });
            }
            Some((revision, is_news)) = draining.next(), if !draining.is_empty() => {
                let (mut newest, mut is_news) = (revision, is_news);
                while let Some(Some((revision, is_too))) = draining.next().now_or_never() {
                    (newest, is_news) = (newest.max(revision), is_news || is_too);
                }
                writer.observe(newest, is_news).await;
            }
            () = sleep_until(writer.due), if writer.observed.is_some() => writer.write().await,
        }
    }
}

struct Writer {
    access: AccessNow,
    counted: Counted,
    clock: Clock,
    observed: Option<u64>,
    /// When to write although nothing changed.
    due: Instant,
    failures: u32,
}

impl Writer {
    /// Writes a revision that is new, or what has changed beside it.
    async fn observe(&mut self, revision: u64, is_news: bool) {
        if is_news || self.observed.is_none_or(|observed| observed < revision) {
            self.observed = self.observed.max(Some(revision));
            self.write().await;
        }
    }

    async fn write(&mut self) {
        let Some(revision) = self.observed else { return };
        match self.try_write(revision).await {
            Ok(()) => {
                debug!(component = "proxy", revision, "acknowledged");
                self.failures = 0;
                self.due = Instant::now() + HEARTBEAT;
            }
            Err(err) => {
                if self.failures == 0 {
                    warn!(component = "proxy", revision, err = chain(&err), "cannot acknowledge; trying again");
                }
                self.failures += 1;
                self.due = Instant::now() + RETRY.delay(self.failures);
            }
        }
    }

    async fn try_write(&self, revision: u64) -> Result<(), ClientError> {
        let body = lease(revision, &self.counted.report().totals(), &MicroTime(self.clock.now()));
        let client = self.access.borrow().client.clone();
        let leases = format!("/apis/coordination.k8s.io/v1/namespaces/{SYSTEM_NAMESPACE}/leases");
        match client.patch(&format!("{leases}/{DATA_PLANE}"), PatchKind::Merge, &body).await {
            Err(err) if err.code() == Some(StatusCode::NOT_FOUND) => client.post(&leases, &body).await.map(drop),
            written => written.map(drop),
        }
    }
}

fn lease(revision: u64, totals: &Totals, now: &MicroTime) -> Value {
    json!({
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {
            "name": DATA_PLANE,
            "namespace": SYSTEM_NAMESPACE,
            "annotations": { OBSERVED_REVISION: revision.to_string(), DATA_PLANE_TOTALS: totals.annotation() },
        },
        "spec": { "holderIdentity": DATA_PLANE, "renewTime": now },
    })
}
