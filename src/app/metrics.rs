//! What the parts of the control plane count about themselves, for `/metrics`. The data plane tells its
//! own in its Lease, but for those of each endpoint, which are too many for an object (`roles::proxy::admin` has them).

use crate::{
    api::{
        agreements::{DATA_PLANE, DATA_PLANE_TOTALS, SYSTEM_NAMESPACE},
        kinds::lease::Leases,
        meta::ObjectKey,
    },
    base::{
        exposition::{Exposition, Kind},
        supervise::Supervisor,
    },
    controllers::runtime::Metrics,
    net::totals::Totals,
    node::NodeReport,
    registry::Registry,
};
use std::sync::Arc;

/// Writes all of it, when it is asked.
pub(super) fn metrics(
    registry: &Registry,
    supervisor: &Supervisor,
    controllers: &Metrics,
    node: Arc<dyn Fn() -> NodeReport + Send + Sync>,
) -> Arc<dyn Fn() -> String + Send + Sync> {
    let (registry, supervisor, controllers) = (registry.clone(), supervisor.clone(), controllers.clone());
    Arc::new(move || {
        let mut all = Exposition::default();
        write_controllers(&mut all, &controllers);
        write_loops(&mut all, &supervisor);
        write_store(&mut all, &registry);
        write_node(&mut all, &node());
        write_data_plane(&mut all, &registry);
        all.text()
    })
}

fn write_controllers(all: &mut Exposition, controllers: &Metrics) {
    all.metric("workqueue_depth", Kind::Gauge, "Keys of a controller that wait.");
    for (name, depth) in controllers.depths() {
        all.sample("workqueue_depth", &[("name", name)], depth);
    }
    all.metric("skiff_controller_total", Kind::Counter, "What a controller has done, by kind.");
    for (controller, counter, n) in controllers.snapshot() {
        all.sample("skiff_controller_total", &[("controller", controller), ("what", counter)], n);
    }
}

fn write_loops(all: &mut Exposition, supervisor: &Supervisor) {
    let report = supervisor.report();
    all.metric("skiff_loop_panics_total", Kind::Counter, "How often a loop has panicked and was begun again.");
    for (name, health) in &report {
        all.sample("skiff_loop_panics_total", &[("loop", name)], health.panics);
    }
    all.metric("skiff_loop_up", Kind::Gauge, "Whether a loop runs.");
    for (name, health) in &report {
        all.sample("skiff_loop_up", &[("loop", name)], u8::from(health.down.is_none()));
    }
}

fn write_store(all: &mut Exposition, registry: &Registry) {
    let store = registry.store();
    all.metric("skiff_store_revision", Kind::Gauge, "The revision of the last write.");
    all.sample("skiff_store_revision", &[], store.revision().0);
    all.metric("skiff_events_dropped_total", Kind::Counter, "Events dropped because too many waited to be written.");
    all.sample("skiff_events_dropped_total", &[], registry.events_dropped());
    all.metric("skiff_store_up", Kind::Gauge, "Whether the store takes writes.");
    all.sample("skiff_store_up", &[], u8::from(store.health().is_ok()));
}

fn write_node(all: &mut Exposition, node: &NodeReport) {
    let help = "Differences that only a list of the engine showed: events were lost.";
    all.metric("skiff_node_relist_finds_total", Kind::Counter, help);
    all.sample("skiff_node_relist_finds_total", &[], node.relist_finds);
    all.metric("skiff_node_engine_up", Kind::Gauge, "Whether the engine answers.");
    all.sample("skiff_node_engine_up", &[], u8::from(node.is_engine_up));
}

/// The data plane tells its totals with each renewal of its Lease, once a minute at least; how old they are is told too.
fn write_data_plane(all: &mut Exposition, registry: &Registry) {
    let lease = registry.api::<Leases>().get(&ObjectKey::new(SYSTEM_NAMESPACE, DATA_PLANE));
    let Some(lease) = lease else { return };
    let told = lease.metadata.annotations.as_ref().and_then(|all| all.get(DATA_PLANE_TOTALS));
    let Some(totals) = told.and_then(|text| Totals::parse(text)) else { return };
    totals.write(all);
    if let Some(at) = lease.spec.as_ref().and_then(|spec| spec.renew_time.as_ref()) {
        let age = registry.clock().now().duration_since(at.0).as_secs_f64().max(0.0);
        all.metric("skiff_proxy_told_seconds", Kind::Gauge, "How long ago the data plane told its counts.");
        all.sample("skiff_proxy_told_seconds", &[], format_args!("{age:.3}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        api::kinds::namespace::Namespaces,
        base::{clock::Clock, rng::Rng, task::drain_signal},
    };
    use k8s_openapi::api::coordination::v1::Lease;

    #[tokio::test(start_paused = true)]
    async fn everything_that_is_counted_is_told() {
        let config = crate::registry::pipeline::Config {
            services: crate::api::service_range::ServiceRange::new([10, 245, 0, 0].into(), 16),
            dns_ip: [10, 245, 0, 10].into(),
            node_ports: crate::api::node_port_range::NodePortRange::default(),
        };
        let store = crate::store::Store::open(crate::store::memory::MemoryBackend, false).unwrap();
        let registry = Registry::new(store, Clock::system(), Rng::seeded(1), config);
        let (supervisor, (_trigger, drain)) = (Supervisor::default(), drain_signal());
        supervisor.keep("events", drain, || async { panic!("boom") });
        tokio::task::yield_now().await;
        let controllers = Metrics::default();
        controllers.of("deployment").waiting.store(3, std::sync::atomic::Ordering::Relaxed);
        let node = Arc::new(|| NodeReport { relist_finds: 2, is_engine_up: false });
        let namespace = crate::testing::from_yaml("{metadata: {name: kube-system}}").unwrap();
        registry.api::<Namespaces>().create(namespace).await.unwrap();
        let totals = Totals { turned_away: 4, ..Totals::default() };
        let mut lease: Lease = crate::testing::from_yaml(
            "{metadata: {name: skiff-proxy, namespace: kube-system}, spec: {renewTime: '2026-01-01T00:00:00.000000Z'}}",
        )
        .unwrap();
        lease.metadata.annotations = Some([(DATA_PLANE_TOTALS.to_owned(), totals.annotation())].into());
        registry.api::<Leases>().create(lease).await.unwrap();
        let text = metrics(&registry, &supervisor, &controllers, node)();
        assert!(text.contains("skiff_proxy_told_seconds "), "{text}");
        for line in [
            "workqueue_depth{name=\"deployment\"} 3",
            "skiff_controller_total{controller=\"deployment\",what=\"panics\"} 0",
            "skiff_loop_panics_total{loop=\"events\"} 1",
            "skiff_loop_up{loop=\"events\"} 0",
            "skiff_store_up 1",
            "skiff_node_relist_finds_total 2",
            "skiff_node_engine_up 0",
            "skiff_proxy_turned_away_total 4",
            "skiff_events_dropped_total 0",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
        }
    }
}
