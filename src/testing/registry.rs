//! What tests share from the registry on.

use crate::{
    api::{kinds::namespace::Namespaces, node_port_range::NodePortRange, service_range::ServiceRange},
    base::{clock::Clock, rng::Rng},
    identity::Tokens,
    registry::{Registry, pipeline::Config},
    store::{Store, memory::MemoryBackend},
};
use k8s_openapi::api::core::v1::Namespace;
use ring::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair},
};
pub use skiff_base::testing::*;
use std::net::Ipv4Addr;

/// A registry over an empty memory store, with the namespaces `default` and `kube-system`.
pub async fn registry() -> Registry {
    registry_with(Clock::simulated("2026-01-01T00:00:00Z".parse().expect("a time")), Rng::seeded(1)).await
}

/// Like [`registry`], with these namespaces too.
pub async fn registry_with_namespaces(names: &[&str]) -> Registry {
    let registry = registry().await;
    for name in names {
        namespace(&registry, name).await;
    }
    registry
}

/// Tokens of this registry's accounts, signed with a key of their own.
pub fn tokens(registry: &Registry) -> Tokens {
    let key = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new()).expect("a key");
    Tokens::new(registry.clone(), key.as_ref()).expect("a key of the right sort")
}

async fn namespace(registry: &Registry, name: &str) {
    let namespace: Namespace =
        serde_json::from_value(serde_json::json!({"metadata": {"name": name}})).expect("a namespace");
    registry.api::<Namespaces>().create(namespace).await.expect("a namespace is created");
}

/// Like [`registry`], with this clock and this source of chance.
pub async fn registry_with(clock: Clock, rng: Rng) -> Registry {
    registry_over(Store::open(MemoryBackend, false).expect("an empty store opens"), clock, rng).await
}

/// Like [`registry_with`], over this store.
pub async fn registry_over(store: Store, clock: Clock, rng: Rng) -> Registry {
    let config = Config {
        services: ServiceRange::new([10, 245, 0, 0].into(), 16),
        dns_ip: Ipv4Addr::new(10, 245, 0, 10),
        node_ports: NodePortRange::default(),
    };
    let registry = Registry::new(store, clock, rng, config);
    for name in ["default", "kube-system"] {
        namespace(&registry, name).await;
    }
    registry
}
