//! The network of the simulated world: probes from the node to pods, and a data plane that serves the Services.

use crate::{
    api::{
        agreements::OBSERVED_REVISION,
        kinds::{endpoint_slice::EndpointSlices, lease::Leases},
        meta::{ObjectKey, Revision},
        status::ApiError,
    },
    base::task::Drain,
    engine::fake::FakeEngine,
    node::{NetProbe, net_probe::HttpTarget},
    registry::Registry,
};
use async_trait::async_trait;
use k8s_openapi::api::{coordination::v1::Lease, discovery::v1::EndpointSlice};
use serde_json::json;
use std::{
    collections::BTreeSet,
    net::Ipv4Addr,
    sync::{Arc, Mutex},
    time::Duration,
};

/// How long the data plane needs to put a change in place.
const APPLY: Duration = Duration::from_millis(30);
/// When it tries again what the API refused.
const RETRY: Duration = Duration::from_secs(1);

/// Probes reach the programs of the fake engine's containers.
pub(super) struct FakeNetwork(pub(super) FakeEngine);

impl FakeNetwork {
    fn dial(&self, host: &str, port: u16) -> Result<(), String> {
        match host.parse() {
            Ok(ip) if self.0.answers(ip, port) => Ok(()),
            Ok(_) | Err(_) => Err(format!("dial tcp {host}:{port}: connect: connection refused")),
        }
    }
}

#[async_trait]
impl NetProbe for FakeNetwork {
    async fn http(&self, target: &HttpTarget, _: Duration) -> Result<(), String> {
        self.dial(&target.host, target.port)
    }

    async fn tcp(&self, host: &str, port: u16, _: Duration) -> Result<(), String> {
        self.dial(host, port)
    }
}

/// A stand-in for `skiff proxy`: the addresses that clients of the Services reach. Clones share them.
#[derive(Clone, Default)]
pub(super) struct DataPlane(Arc<Mutex<BTreeSet<Ipv4Addr>>>);

impl DataPlane {
    /// The addresses that it sends connections to.
    pub(super) fn addresses(&self) -> BTreeSet<Ipv4Addr> {
        self.0.lock().unwrap().clone()
    }

    /// Follows EndpointSlices and says in its Lease what is in place.
    pub(super) async fn run(self, registry: Registry, drain: Drain) {
        tokio::select! {
            biased;
            () = drain.drained() => {}
            () = self.follow(registry) => {}
        }
    }

    async fn follow(self, registry: Registry) {
        let api = registry.api::<EndpointSlices>();
        loop {
            let slices = api.list("default");
            let mut watch = api.watch(slices.revision).unwrap();
            tokio::time::sleep(APPLY).await;
            *self.0.lock().unwrap() = slices.items.iter().flat_map(|slice| ready_addresses(slice)).collect();
            while acknowledge(&registry, slices.revision).await.is_err() {
                tokio::time::sleep(RETRY).await;
            }
            // Whatever it is, the list is read again.
            drop(watch.next().await);
        }
    }
}

/// The addresses of pods in a slice that are to get connections.
pub(super) fn ready_addresses(slice: &EndpointSlice) -> Vec<Ipv4Addr> {
    let endpoints = slice.endpoints.iter().flatten().filter(|e| e.target_ref.is_some());
    let ready = endpoints.filter(|e| e.conditions.as_ref().and_then(|c| c.ready) != Some(false));
    ready.flat_map(|e| &e.addresses).map(|address| address.parse().unwrap()).collect()
}

async fn acknowledge(registry: &Registry, revision: Revision) -> Result<(), ApiError> {
    let api = registry.api::<Leases>();
    let lease: Lease = serde_json::from_value(json!({
        "metadata": {
            "name": "skiff-proxy",
            "namespace": "kube-system",
            "annotations": {OBSERVED_REVISION: revision.to_string()},
        },
    }))
    .unwrap();
    let key = ObjectKey::of(&lease.metadata);
    if api.get(&key).is_none() {
        return api.create(lease).await.map(drop);
    }
    api.modify(&key, |old| old.metadata.annotations.clone_from(&lease.metadata.annotations)).await.map(drop)
}
