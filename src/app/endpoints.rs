//! Whether EndpointSlices have caught up with Services and Pods: what a start waits for. Pure.
//!
//! **Invariants**: a Service is compared with the pods that have the rarest of its labels, and with its own slices, so that each pod
//! is looked at for the Services that may select it and for no other.

use crate::{
    api::{agreements::SERVICE_NAME_LABEL, pod_state},
    base::ordered::Map,
};
use k8s_openapi::api::{
    core::v1::{Pod, Service},
    discovery::v1::EndpointSlice,
};
use std::{collections::BTreeMap, sync::Arc};

/// Whether the EndpointSlices of every Service have all of its ready pods. `looks` counts the pods that were compared with a Service.
pub(super) fn are_current(
    services: &[Arc<Service>],
    pods: &[Arc<Pod>],
    slices: &[Arc<EndpointSlice>],
    looks: &mut usize,
) -> bool {
    let (pods, there) = (Pods::of(pods), ready_endpoints(slices));
    services.iter().all(|service| {
        let meta = &service.metadata;
        let Some(selector) = service.spec.as_ref().and_then(|spec| spec.selector.as_ref()) else { return true };
        let namespace = meta.namespace.as_deref().unwrap_or_default();
        let wanted = pods.count(namespace, selector, looks);
        let key = (namespace, meta.name.as_deref().unwrap_or_default());
        wanted == there.get(&key).copied().unwrap_or_default()
    })
}

type Selector = BTreeMap<String, String>;

/// The ready pods, by namespace and label.
struct Pods<'a> {
    all: Map<&'a str, Vec<&'a Pod>>,
    by_label: Map<(&'a str, &'a str, &'a str), Vec<&'a Pod>>,
}

impl<'a> Pods<'a> {
    fn of(pods: &'a [Arc<Pod>]) -> Self {
        let (mut all, mut by_label) = (Vec::new(), Vec::new());
        for pod in pods.iter().filter(|p| p.metadata.deletion_timestamp.is_none() && pod_state::is_pod_ready(p)) {
            let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
            all.push((namespace, &**pod));
            for (key, value) in pod.metadata.labels.iter().flatten() {
                by_label.push(((namespace, key.as_str(), value.as_str()), &**pod));
            }
        }
        Self { all: Map::of_groups(all), by_label: Map::of_groups(by_label) }
    }

    /// How many pods a selector picks.
    fn count(&self, namespace: &str, selector: &Selector, looks: &mut usize) -> usize {
        let lists = selector.iter().map(|(key, value)| self.by_label.get(&(namespace, key.as_str(), value.as_str())));
        let rarest = match selector.len() {
            0 => self.all.get(namespace),
            _ => lists.min_by_key(|list| list.map_or(0, Vec::len)).flatten(),
        };
        let candidates = rarest.map(Vec::as_slice).unwrap_or_default();
        *looks += candidates.len();
        let has = |pod: &&&Pod| {
            let labels = pod.metadata.labels.as_ref();
            selector.iter().all(|(key, value)| labels.and_then(|labels| labels.get(key)) == Some(value))
        };
        candidates.iter().filter(has).count()
    }
}

/// How many endpoints of each Service are ready, by its namespace and name.
fn ready_endpoints(slices: &[Arc<EndpointSlice>]) -> Map<(&str, &str), usize> {
    let mut counts = Map::new();
    for slice in slices {
        let labels = slice.metadata.labels.as_ref();
        let Some(service) = labels.and_then(|labels| labels.get(SERVICE_NAME_LABEL)) else { continue };
        let endpoints = slice.endpoints.iter().flatten();
        let ready = endpoints.filter(|e| e.conditions.as_ref().and_then(|c| c.ready) != Some(false)).count();
        let namespace = slice.metadata.namespace.as_deref().unwrap_or_default();
        *counts.entry((namespace, service.as_str())).or_default() += ready;
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::from_yaml;

    fn pod(name: &str, labels: &str) -> Arc<Pod> {
        let status = "status: {conditions: [{type: Ready, status: 'True'}]}";
        Arc::new(
            from_yaml(&format!("{{metadata: {{name: {name}, namespace: shop, labels: {{{labels}}}}}, {status}}}"))
                .unwrap(),
        )
    }

    fn service(name: &str, selector: &str) -> Arc<Service> {
        Arc::new(
            from_yaml(&format!("{{metadata: {{name: {name}, namespace: shop}}, spec: {{selector: {{{selector}}}}}}}"))
                .unwrap(),
        )
    }

    fn slice(service: &str, ready: usize) -> Arc<EndpointSlice> {
        let ends: Vec<String> =
            (0..ready).map(|n| format!("{{addresses: [10.0.0.{n}], conditions: {{ready: true}}}}")).collect();
        let labels = format!("labels: {{{SERVICE_NAME_LABEL}: {service}}}");
        Arc::new(
            from_yaml(&format!(
                "{{metadata: {{name: {service}-1, namespace: shop, {labels}}}, addressType: IPv4, endpoints: [{}]}}",
                ends.join(", ")
            ))
            .unwrap(),
        )
    }

    #[test]
    fn every_ready_pod_must_be_in_the_slices_of_who_selects_it() {
        let pods = [pod("a", "app: web, tier: front"), pod("b", "app: web"), pod("c", "app: db")];
        let check =
            |services: &[Arc<Service>], slices: &[Arc<EndpointSlice>]| are_current(services, &pods, slices, &mut 0);
        let (web, front) = (service("web", "app: web"), service("front", "tier: front, app: web"));
        assert!(check(&[web.clone(), front.clone()], &[slice("web", 2), slice("front", 1)]));
        assert!(!check(&[web.clone(), front], &[slice("web", 2)]));
        assert!(!check(&[web], &[slice("web", 1)]));
        assert!(check(&[service("none", "app: other")], &[]));
    }

    #[test]
    fn four_times_as_much_takes_four_times_the_looks() {
        let looks = |n: usize| {
            let name = |i: usize| format!("s{i}");
            let pods: Vec<_> = (0..n)
                .flat_map(|i| [0, 1].map(|j| pod(&format!("p{i}-{j}"), &format!("app: s{i}, team: all"))))
                .collect();
            let services: Vec<_> = (0..n).map(|i| service(&name(i), &format!("app: s{i}, team: all"))).collect();
            let slices: Vec<_> = (0..n).map(|i| slice(&name(i), 2)).collect();
            let mut looks = 0;
            assert!(are_current(&services, &pods, &slices, &mut looks));
            looks
        };
        assert_eq!((looks(50), looks(200)), (100, 400));
    }
}
