//! The mirror: EndpointSlices for Endpoints that a user wrote, for a Service that selects no pods.
//!
//! That is how a Service stands for something outside of the cluster, and the data plane follows slices only.
//!
//! **Source**: `pkg/controller/endpointslicemirroring`, v1.37.

use super::{HEADLESS, MANAGED_BY, desired::Group, legacy, selector, services_of, slices, slices_of};
use crate::{
    api::{
        agreements::SERVICE_NAME_LABEL,
        kind::Kind as _,
        kinds::{endpoint_slice::EndpointSlices, endpoints::EndpointsKind, service::Services},
        meta::ObjectKey,
    },
    base::ordered::Set,
    controllers::{
        namespace::namespace_goes,
        runtime::{Action, Controller, Decision, Planned, Step, Trigger, controller_reference},
    },
    registry::Registry,
};
use k8s_openapi::api::{
    core::v1::{EndpointAddress, EndpointSubset, Endpoints, Service},
    discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice},
};
use std::sync::Arc;

/// What this controller calls itself in its slices.
pub const MIRROR: &str = "endpointslicemirroring-controller.k8s.io";
/// The label by which Endpoints ask not to be mirrored.
const SKIP: &str = "endpointslice.kubernetes.io/skip-mirror";
/// The annotation of Endpoints that are a lock and no endpoints.
const LEADER: &str = "control-plane.alpha.kubernetes.io/leader";

/// All that a pass over a Service depends on.
#[derive(Clone, Debug)]
pub struct Observed {
    /// The Service; `None`: there is none of that name.
    pub service: Option<Arc<Service>>,
    /// The Endpoints of its name.
    pub endpoints: Option<Arc<Endpoints>>,
    /// The slices that mirror them.
    pub slices: Vec<Arc<EndpointSlice>>,
    /// Whether the namespace is going away, so that nothing can be created in it.
    pub namespace_goes: bool,
}

/// The controller.
#[derive(Clone, Copy, Debug)]
pub struct MirrorController;

impl Controller for MirrorController {
    type Key = ObjectKey;
    type Observed = Observed;

    fn name(&self) -> &'static str {
        "endpoints-mirror"
    }

    fn event_source(&self) -> &'static str {
        "endpoint-slice-mirroring-controller"
    }

    fn triggers(&self) -> Vec<Trigger<ObjectKey>> {
        vec![
            Trigger::itself::<Services>(),
            Trigger::itself::<EndpointsKind>(),
            Trigger::on::<EndpointSlices>(|_, moved, keys| keys.extend(services_of(moved, MIRROR))),
        ]
    }

    fn observe(&self, registry: &Registry, key: &ObjectKey) -> Option<Observed> {
        Some(Observed {
            service: registry.api::<Services>().get(key),
            endpoints: registry.api::<EndpointsKind>().get(key),
            slices: slices_of(registry, key, MIRROR),
            namespace_goes: namespace_goes(registry, &key.namespace),
        })
    }

    fn decide(&self, observed: &Observed) -> Decision {
        let mut batch = match mirrored(observed) {
            Some(endpoints) => mirror(endpoints, &observed.slices),
            None => observed.slices.iter().map(|s| unwanted(s)).collect(),
        };
        batch.retain(|planned| !observed.namespace_goes || !matches!(planned.action, Action::Create { .. }));
        let steps = if batch.is_empty() { Vec::new() } else { vec![Step::Parallel(batch)] };
        Decision { steps, ..Decision::default() }
    }
}

fn unwanted(slice: &EndpointSlice) -> Planned {
    Action::delete::<EndpointSlices>(slice).because("there is nothing for it to mirror")
}

/// The Endpoints, when they are a user's, for a Service that selects no pods.
fn mirrored(observed: &Observed) -> Option<&Endpoints> {
    let service = observed.service.as_deref()?;
    let endpoints = observed.endpoints.as_deref()?;
    let meta = &endpoints.metadata;
    let skips = meta.labels.as_ref().and_then(|l| l.get(SKIP)).is_some_and(|v| v == "true");
    let is_lock = meta.annotations.as_ref().is_some_and(|a| a.contains_key(LEADER));
    let goes = service.metadata.deletion_timestamp.is_some() || meta.deletion_timestamp.is_some();
    let is_own = selector(service).is_none() && !legacy::is_managed(endpoints);
    (is_own && !skips && !is_lock && !goes).then_some(endpoints)
}

fn mirror(endpoints: &Endpoints, existing: &[Arc<EndpointSlice>]) -> Vec<Planned> {
    let (v4, v6): (Vec<_>, Vec<_>) = existing.iter().cloned().partition(|s| s.address_type == "IPv4");
    let mut planned = Vec::new();
    for (address_type, existing) in [("IPv4", v4), ("IPv6", v6)] {
        let is_of_type = |ip: &str| ip.contains(':') == (address_type == "IPv6");
        let groups: Vec<Group> = endpoints.subsets.iter().flatten().filter_map(|s| group(s, is_of_type)).collect();
        planned.extend(slices::changes(&family(endpoints, address_type), &groups, &existing));
    }
    planned
}

fn family(endpoints: &Endpoints, address_type: &'static str) -> slices::Family {
    let meta = &endpoints.metadata;
    let name = meta.name.clone().unwrap_or_default();
    let mut labels = meta.labels.clone().unwrap_or_default();
    labels.remove(HEADLESS);
    labels.insert(SERVICE_NAME_LABEL.to_owned(), name.clone());
    labels.insert(MANAGED_BY.to_owned(), MIRROR.to_owned());
    slices::Family {
        namespace: meta.namespace.clone(),
        name,
        owner: controller_reference(&EndpointsKind::INFO, meta),
        labels,
        address_type,
        has_placeholder: false,
        unprobed: Set::new(),
    }
}

fn group(subset: &EndpointSubset, is_of_type: impl Fn(&str) -> bool) -> Option<Group> {
    let of = |addresses: &Option<Vec<EndpointAddress>>, ready: bool| -> Vec<Endpoint> {
        let chosen = addresses.iter().flatten().filter(|a| is_of_type(&a.ip));
        chosen.map(|a| endpoint(a, ready)).collect()
    };
    let mut endpoints = of(&subset.addresses, true);
    endpoints.extend(of(&subset.not_ready_addresses, false));
    let ports = subset.ports.iter().flatten().map(|p| EndpointPort {
        app_protocol: p.app_protocol.clone(),
        name: Some(p.name.clone().unwrap_or_default()),
        port: Some(p.port),
        protocol: Some(p.protocol.clone().unwrap_or_else(|| "TCP".to_owned())),
    });
    (!endpoints.is_empty()).then(|| Group { ports: ports.collect(), endpoints })
}

fn endpoint(address: &EndpointAddress, ready: bool) -> Endpoint {
    Endpoint {
        addresses: vec![address.ip.clone()],
        conditions: Some(EndpointConditions { ready: Some(ready), ..EndpointConditions::default() }),
        hostname: address.hostname.clone(),
        node_name: address.node_name.clone(),
        target_ref: address.target_ref.clone(),
        ..Endpoint::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    fn observed(service: &str, endpoints: &str) -> Observed {
        let endpoints = format!(
            "{{metadata: {{name: db, namespace: default, uid: ep, {endpoints}}}, subsets: [{{addresses: [{{ip: 192.0.2.1}}, {{ip: '2001:db8::1'}}], notReadyAddresses: [{{ip: 192.0.2.2}}], ports: [{{port: 5432}}]}}]}}"
        );
        Observed {
            service: Some(Arc::new(crate::testing::from_yaml(service).unwrap())),
            endpoints: Some(Arc::new(crate::testing::from_yaml(&endpoints).unwrap())),
            slices: Vec::new(),
            namespace_goes: false,
        }
    }

    const BARE: &str = "{metadata: {name: db, namespace: default}, spec: {ports: [{port: 5432}]}}";

    #[test]
    fn endpoints_of_a_service_without_a_selector_are_mirrored() {
        let mut o = observed(BARE, "");
        let decision = MirrorController.decide(&o);
        expect![[r"
            create EndpointSlice default/db-* (there is no slice for its endpoints)
            create EndpointSlice default/db-* (there is no slice for its endpoints)"]]
        .assert_eq(&decision.to_text());
        let made = decision.planned().filter_map(|p| p.action.object::<EndpointSlices>());
        o.slices = made
            .enumerate()
            .map(|(i, s)| {
                let mut s = s.clone();
                s.metadata.name = Some(format!("db-{i}"));
                Arc::new(s)
            })
            .collect();
        let ready: Vec<_> =
            o.slices[0].endpoints.iter().flatten().map(|e| e.conditions.as_ref().unwrap().ready).collect();
        assert_eq!(ready, [Some(true), Some(false)]);
        assert_eq!(o.slices[1].address_type, "IPv6");
        assert!(MirrorController.decide(&o).is_rest());
        o.service = None;
        assert_eq!(MirrorController.decide(&o).planned().count(), 2);
    }

    #[test]
    fn others_are_not_mirrored() {
        let selecting = "{metadata: {name: db, namespace: default}, spec: {selector: {app: db}}}";
        for (service, endpoints) in [
            (selecting, ""),
            (BARE, "labels: {endpointslice.kubernetes.io/skip-mirror: 'true'}"),
            (BARE, "labels: {endpoints.kubernetes.io/managed-by: endpoint-controller}"),
            (BARE, "annotations: {control-plane.alpha.kubernetes.io/leader: x}"),
        ] {
            assert!(MirrorController.decide(&observed(service, endpoints)).is_rest(), "{service} {endpoints}");
        }
    }
}
