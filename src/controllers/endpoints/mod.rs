//! The endpoints controller: which pods answer for a Service, as EndpointSlices and in the older form, Endpoints.
//!
//! The data plane follows the slices, so they are written first and only when something changed. A pod that goes is told at once:
//! it is no longer ready, may still be serving, and is terminating.
//!
//! - [`desired`]: Service and pods → endpoints, grouped by ports. [`slices`]: endpoints → the fewest changes of slices.
//!   [`legacy`]: the same as one Endpoints object. [`mirror`]: the other way round, for Endpoints that a user wrote.
//!
//! **Invariants**: a pod's endpoint stays in its slice; at most [`slices::ENDPOINTS_MAX`] are in one; at rest nothing is written.
//!
//! **Not here**: Services without a selector, whose endpoints are somebody else's; those of the Service `kubernetes`.
//! **Source**: `k8s.io/endpointslice`, `pkg/controller/{endpoint,endpointslice}`, v1.37.

mod desired;
mod legacy;
pub mod mirror;
mod slices;
#[cfg(test)]
mod tests;

use super::{
    namespace::namespace_goes,
    runtime::{Action, Controller, Decision, Moved, Step, Trigger},
};
use crate::{
    api::{
        agreements::SERVICE_NAME_LABEL,
        kinds::{endpoint_slice::EndpointSlices, endpoints::EndpointsKind, node::Nodes, pod::Pods, service::Services},
        meta::ObjectKey,
        pod_state,
        selector::{FieldSelector, LabelSelector},
    },
    registry::{Registry, pipeline::Selection},
};
use k8s_openapi::api::{
    core::v1::{Endpoints, Pod, PodIP, Service},
    discovery::v1::EndpointSlice,
};
use slices::Family;
use std::{collections::BTreeMap, sync::Arc};

/// The label by which a slice names who writes it.
pub const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
/// What this controller calls itself there.
pub const SLICE_CONTROLLER: &str = "endpointslice-controller.k8s.io";
/// The label that Services without an address pass on.
const HEADLESS: &str = "service.kubernetes.io/headless";

/// All that a pass over a Service depends on.
#[derive(Clone, Debug)]
pub struct Observed {
    /// The Service; `None`: it is gone.
    pub service: Option<Arc<Service>>,
    /// The pods that it selects.
    pub pods: Vec<Arc<Pod>>,
    /// The slices that this controller keeps for it, by name.
    pub slices: Vec<Arc<EndpointSlice>>,
    /// The Endpoints of its name.
    pub endpoints: Option<Arc<Endpoints>>,
    /// The zones of nodes that have one.
    pub zones: BTreeMap<String, String>,
    /// Whether the namespace is going away, so that nothing can be created in it.
    pub namespace_goes: bool,
}

/// The controller.
#[derive(Clone, Copy, Debug)]
pub struct EndpointsController;

impl Controller for EndpointsController {
    type Key = ObjectKey;
    type Observed = Observed;

    fn name(&self) -> &'static str {
        "endpoints"
    }

    fn event_source(&self) -> &'static str {
        "endpoint-slice-controller"
    }

    fn triggers(&self) -> Vec<Trigger<ObjectKey>> {
        vec![
            Trigger::itself::<Services>(),
            Trigger::on::<Pods>(wake_for_pod),
            Trigger::on::<EndpointSlices>(|_, moved, keys| keys.extend(services_of(moved, SLICE_CONTROLLER))),
            Trigger::on::<EndpointsKind>(|_, moved, keys| {
                let managed = moved.states().filter(|e| legacy::is_managed(e));
                keys.extend(managed.map(|e| ObjectKey::of(&e.metadata)));
            }),
        ]
    }

    fn observe(&self, registry: &Registry, key: &ObjectKey) -> Option<Observed> {
        let service = registry.api::<Services>().get(key);
        let labels = service.as_deref().and_then(selector).map(LabelSelector::from_map);
        let pods = labels.map_or_else(Vec::new, |labels| {
            let selection = Selection { labels, fields: FieldSelector::everything() };
            registry.api::<Pods>().select(&key.namespace, &selection).items
        });
        Some(Observed {
            zones: zones_of(registry, &pods),
            service,
            pods,
            slices: slices_of(registry, key, SLICE_CONTROLLER),
            endpoints: registry.api::<EndpointsKind>().get(key),
            namespace_goes: namespace_goes(registry, &key.namespace),
        })
    }

    fn weight(&self, observed: &Observed) -> usize {
        observed.pods.len()
    }

    fn decide(&self, observed: &Observed) -> Decision {
        decide(observed)
    }
}

/// The slices that a controller keeps for a Service.
fn slices_of(registry: &Registry, service: &ObjectKey, controller: &str) -> Vec<Arc<EndpointSlice>> {
    let wanted = [(SERVICE_NAME_LABEL, service.name.as_str()), (MANAGED_BY, controller)];
    let labels = LabelSelector::from_map(&wanted.map(|(k, v)| (k.to_owned(), v.to_owned())).into());
    let selection = Selection { labels, fields: FieldSelector::everything() };
    registry.api::<EndpointSlices>().select(&service.namespace, &selection).items
}

/// The labels that a Service's pods have; `None` when the Service selects no pods.
fn selector(service: &Service) -> Option<&BTreeMap<String, String>> {
    let spec = service.spec.as_ref()?;
    if spec.type_.as_deref() == Some("ExternalName") {
        return None;
    }
    spec.selector.as_ref().filter(|s| !s.is_empty())
}

fn zones_of(registry: &Registry, pods: &[Arc<Pod>]) -> BTreeMap<String, String> {
    let mut zones = BTreeMap::new();
    for name in pods.iter().filter_map(|pod| pod.spec.as_ref()?.node_name.clone()) {
        if zones.contains_key(&name) {
            continue;
        }
        let node = registry.api::<Nodes>().get(&ObjectKey::new("", &name));
        let zone = node.and_then(|n| n.metadata.labels.as_ref()?.get("topology.kubernetes.io/zone").cloned());
        zones.extend(zone.map(|zone| (name, zone)));
    }
    zones
}

fn decide(observed: &Observed) -> Decision {
    let mut decision = Decision::default();
    let Some(service) = observed.service.as_deref() else {
        // The slices go with their owner. Endpoints have none, and only those that were made for a Service go with it.
        let orphan = observed.endpoints.as_deref().filter(|e| legacy::is_managed(e));
        let orphan = orphan.map(|e| Action::delete::<EndpointsKind>(e).because("the Service is gone"));
        decision.steps.extend(orphan.map(Step::from));
        return decision;
    };
    if service.metadata.deletion_timestamp.is_some() || selector(service).is_none() {
        return decision;
    }
    let groups = desired::groups(service, observed);
    // One batch, so that one flush makes all of it durable; the slices are the first in it.
    let mut batch = slices::changes(&Family::of(service, &observed.pods), &groups, &observed.slices);
    batch.extend(legacy::change(service, &groups, observed.endpoints.as_deref()));
    batch.retain(|planned| !observed.namespace_goes || !matches!(planned.action, Action::Create { .. }));
    if !batch.is_empty() {
        decision.then(Step::Parallel(batch));
    }
    decision
}

/// What of a pod shows in endpoints. A change of anything else wakes no one.
#[derive(PartialEq)]
struct Shown<'a> {
    labels: Option<&'a BTreeMap<String, String>>,
    is_marked: bool,
    is_terminal: bool,
    is_ready: bool,
    ip: Option<&'a String>,
    ips: Option<&'a Vec<PodIP>>,
    node: Option<&'a String>,
}

fn shown(pod: &Pod) -> Shown<'_> {
    let status = pod.status.as_ref();
    Shown {
        labels: pod.metadata.labels.as_ref(),
        is_marked: pod.metadata.deletion_timestamp.is_some(),
        is_terminal: pod_state::is_terminal(pod),
        is_ready: pod_state::is_pod_ready(pod),
        ip: status.and_then(|s| s.pod_ip.as_ref()),
        ips: status.and_then(|s| s.pod_ips.as_ref()),
        node: pod.spec.as_ref().and_then(|s| s.node_name.as_ref()),
    }
}

fn wake_for_pod(registry: &Registry, moved: &Moved<Pod>, keys: &mut Vec<ObjectKey>) {
    if let (Some(before), Some(after)) = (&moved.before, &moved.after)
        && shown(before) == shown(after)
    {
        return;
    }
    let Some(pod) = moved.last() else { return };
    for service in registry.api::<Services>().list(pod.metadata.namespace.as_deref().unwrap_or_default()).items {
        let Some(wanted) = selector(&service) else { continue };
        if moved.states().any(|pod| has_all(pod.metadata.labels.as_ref(), wanted)) {
            keys.push(ObjectKey::of(&service.metadata));
        }
    }
}

fn has_all(labels: Option<&BTreeMap<String, String>>, wanted: &BTreeMap<String, String>) -> bool {
    wanted.iter().all(|(k, v)| labels.and_then(|l| l.get(k)) == Some(v))
}

/// The Services of a changed slice that a controller keeps.
fn services_of(moved: &Moved<EndpointSlice>, controller: &str) -> Vec<ObjectKey> {
    let service = |slice: &Arc<EndpointSlice>| {
        let labels = slice.metadata.labels.as_ref()?;
        let is_kept = labels.get(MANAGED_BY).is_some_and(|by| by == controller);
        let service = labels.get(SERVICE_NAME_LABEL).filter(|_| is_kept)?;
        Some(ObjectKey::new(slice.metadata.namespace.clone().unwrap_or_default(), service))
    };
    moved.states().filter_map(service).collect()
}
