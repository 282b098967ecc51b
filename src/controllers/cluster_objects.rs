//! The objects that every cluster has: its namespaces, the `kubernetes` Service with the API's own address behind it, and what `fixed`
//! lists.
//!
//! They are there, and as they should be, whatever a user deletes; `app` makes them at its start ([`bring_about`]), before anything is
//! served. A start over old state changes nothing.
//! **Source**: `pkg/controlplane/controller/{systemnamespaces,kubernetesservice}`, v1.37.

mod fixed;

use super::runtime::{Action, Controller, Decision, Metrics, Planned, Step, Trigger, execute::Executor};
use crate::{
    api::{
        agreements::{API_SERVICE, SERVICE_NAME_LABEL, SYSTEM_NAMESPACE},
        kind::{Kind, KindRef},
        kinds::{endpoint_slice::EndpointSlices, endpoints::EndpointsKind, namespace::Namespaces, service::Services},
        meta::ObjectKey,
        object::Object as _,
        status::ApiError,
    },
    base::ordered::CollectOrdered as _,
    registry::Registry,
};
use fixed::Fixed;
use k8s_openapi::{
    api::{
        core::v1::{
            EndpointAddress, EndpointPort as LegacyPort, EndpointSubset, Endpoints, Namespace, Service, ServicePort,
            ServiceSpec,
        },
        discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice},
    },
    apimachinery::pkg::{apis::meta::v1::ObjectMeta, util::intstr::IntOrString},
};
use std::{collections::BTreeMap, net::Ipv4Addr, sync::Arc};

/// The namespaces of every cluster.
const NAMESPACES: [&str; 4] = ["default", SYSTEM_NAMESPACE, "kube-public", "kube-node-lease"];
const HTTPS: &str = "https";

/// Where the API is for pods.
#[derive(Clone, Copy, Debug)]
pub struct ApiPlace {
    /// Its ClusterIP.
    pub service_ip: Ipv4Addr,
    /// The node's address.
    pub node_ip: Ipv4Addr,
    /// Its port there.
    pub port: u16,
}

/// The controller.
#[derive(Clone, Debug)]
pub struct ClusterObjects {
    /// Where the API is.
    pub place: ApiPlace,
}

/// What of these objects there is.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    namespaces: Vec<String>,
    fixed: Vec<Fixed>,
    service: bool,
    slice: Option<Arc<EndpointSlice>>,
    endpoints: Option<Arc<Endpoints>>,
}

/// Makes them now, and tells what went wrong.
///
/// # Errors
/// As writes have them.
pub async fn bring_about(registry: &Registry, place: ApiPlace) -> Result<(), ApiError> {
    let controller = ClusterObjects { place };
    let Some(observed) = controller.observe(registry, &()) else { return Ok(()) };
    let executor = Executor::new(registry.clone(), controller.name(), Metrics::default().of(controller.name()));
    let done = executor.run(&controller.decide(&observed).steps, &[]).await;
    done.error().cloned().map_or(Ok(()), Err)
}

impl Controller for ClusterObjects {
    /// All of them together.
    type Key = ();
    type Observed = Observed;

    fn name(&self) -> &'static str {
        "cluster-objects"
    }

    fn triggers(&self) -> Vec<Trigger<()>> {
        let api = || ObjectKey::new("default", API_SERVICE);
        let of_fixed =
            fixed::KINDS.iter().map(|kind| Trigger::on_erased(KindRef::BuiltIn(*kind), |_, _, _, keys| keys.push(())));
        let others = [
            Trigger::on::<Namespaces>(|_, moved, keys| {
                let name = moved.last().and_then(|n| n.metadata.name.as_deref());
                keys.extend(name.filter(|name| NAMESPACES.contains(name)).map(|_| ()));
            }),
            changes_of::<Services>(api()),
            changes_of::<EndpointSlices>(api()),
            changes_of::<EndpointsKind>(api()),
        ];
        others.into_iter().chain(of_fixed).collect()
    }

    fn first_keys(&self) -> Vec<()> {
        vec![()]
    }

    fn observe(&self, registry: &Registry, _key: &()) -> Option<Observed> {
        let api = ObjectKey::new("default", API_SERVICE);
        let namespaces = registry.api::<Namespaces>();
        let is_there = |name: &&str| namespaces.get(&ObjectKey::new("", *name)).is_some();
        Some(Observed {
            fixed: fixed::observe(registry),
            namespaces: NAMESPACES.into_iter().filter(is_there).map(str::to_owned).collect(),
            service: registry.api::<Services>().get(&api).is_some(),
            slice: registry.api::<EndpointSlices>().get(&api),
            endpoints: registry.api::<EndpointsKind>().get(&api),
        })
    }

    fn decide(&self, observed: &Observed) -> Decision {
        let missing = NAMESPACES.into_iter().filter(|name| !observed.namespaces.iter().any(|there| there == name));
        let mut first: Vec<Planned> = missing.map(namespace).collect();
        first.extend(observed.fixed.iter().filter_map(Fixed::decide));
        let mut decision = Decision::rest();
        if !first.is_empty() {
            decision.then(Step::Parallel(first));
        }
        if !observed.service {
            let service = Action::create::<Services>(api_service(self.place));
            decision.then(service.because("the API has no Service"));
        }
        [self.slice(observed), self.endpoints(observed)]
            .into_iter()
            .flatten()
            .for_each(|planned| decision.then(planned));
        decision
    }
}

impl ClusterObjects {
    fn slice(&self, observed: &Observed) -> Option<Planned> {
        let wanted = api_slice(self.place);
        let Some(found) = &observed.slice else {
            return Some(Action::create::<EndpointSlices>(wanted).because("the API's Service has no slice"));
        };
        if (&found.endpoints, &found.ports) == (&wanted.endpoints, &wanted.ports) {
            return None;
        }
        let slice = EndpointSlice { endpoints: wanted.endpoints, ports: wanted.ports, ..EndpointSlice::clone(found) };
        Some(Action::update::<EndpointSlices>(slice).because("the API is elsewhere"))
    }

    fn endpoints(&self, observed: &Observed) -> Option<Planned> {
        let wanted = api_endpoints(self.place);
        let Some(found) = &observed.endpoints else {
            return Some(Action::create::<EndpointsKind>(wanted).because("the API's Service has no endpoints"));
        };
        if found.subsets == wanted.subsets {
            return None;
        }
        let endpoints = Endpoints { subsets: wanted.subsets, ..Endpoints::clone(found) };
        Some(Action::update::<EndpointsKind>(endpoints).because("the API is elsewhere"))
    }
}

/// Changes of exactly this object.
pub(super) fn changes_of<K: Kind>(key: ObjectKey) -> Trigger<()> {
    Trigger::on::<K>(move |_, moved, keys| {
        keys.extend(moved.last().filter(|object| ObjectKey::of(object.meta()) == key).map(|_| ()));
    })
}

fn namespace(name: &str) -> Planned {
    let metadata = ObjectMeta { name: Some(name.to_owned()), ..Default::default() };
    Action::create::<Namespaces>(Namespace { metadata, ..Default::default() })
        .because("a namespace of every cluster is missing")
}

fn api_meta(labels: &[(&str, &str)]) -> ObjectMeta {
    let labels: BTreeMap<String, String> =
        labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect_ordered();
    ObjectMeta {
        name: Some(API_SERVICE.to_owned()),
        namespace: Some("default".to_owned()),
        labels: Some(labels),
        ..Default::default()
    }
}

fn api_service(place: ApiPlace) -> Service {
    let ip = place.service_ip.to_string();
    Service {
        metadata: api_meta(&[("component", "apiserver"), ("provider", "kubernetes")]),
        spec: Some(ServiceSpec {
            cluster_ip: Some(ip.clone()),
            cluster_ips: Some(vec![ip]),
            ports: Some(vec![ServicePort {
                name: Some(HTTPS.to_owned()),
                port: 443,
                target_port: Some(IntOrString::Int(place.port.into())),
                ..Default::default()
            }]),
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn api_slice(place: ApiPlace) -> EndpointSlice {
    EndpointSlice {
        metadata: api_meta(&[(SERVICE_NAME_LABEL, API_SERVICE)]),
        address_type: "IPv4".to_owned(),
        endpoints: Some(vec![Endpoint {
            addresses: vec![place.node_ip.to_string()],
            conditions: Some(EndpointConditions { ready: Some(true), ..Default::default() }),
            ..Default::default()
        }]),
        ports: Some(vec![EndpointPort {
            name: Some(HTTPS.to_owned()),
            port: Some(place.port.into()),
            protocol: Some("TCP".to_owned()),
            ..Default::default()
        }]),
    }
}

fn api_endpoints(place: ApiPlace) -> Endpoints {
    Endpoints {
        metadata: api_meta(&[("endpointslice.kubernetes.io/skip-mirror", "true")]),
        subsets: Some(vec![EndpointSubset {
            addresses: Some(vec![EndpointAddress { ip: place.node_ip.to_string(), ..Default::default() }]),
            ports: Some(vec![LegacyPort {
                name: Some(HTTPS.to_owned()),
                port: place.port.into(),
                protocol: Some("TCP".to_owned()),
                ..Default::default()
            }]),
            not_ready_addresses: None,
        }]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(port: u16) -> ApiPlace {
        ApiPlace { service_ip: [10, 245, 0, 1].into(), node_ip: [10, 244, 0, 1].into(), port }
    }

    fn planned(observed: &Observed, port: u16) -> Vec<String> {
        let decision = ClusterObjects { place: place(port) }.decide(observed);
        decision.planned().map(|planned| format!("{:?}", planned.action)).collect()
    }

    #[test]
    fn what_is_missing_is_made_and_what_is_wrong_is_mended() {
        let fixed = fixed::wanted("10.245.0.0/16", "2026-01-01T00:00:00Z");
        let nothing = Observed { fixed: fixed.clone(), ..Observed::default() };
        let made = planned(&nothing, 6443);
        assert_eq!(made.len(), 4 + fixed.len() + 3, "{made:?}");
        assert!(made.contains(&"create ServiceCIDR kubernetes".to_owned()), "{made:?}");
        assert!(made.contains(&"create Namespace kube-system".to_owned()), "{made:?}");
        let there = Observed {
            namespaces: NAMESPACES.map(str::to_owned).into(),
            fixed: fixed.into_iter().map(|fixed| Fixed { found: Some(fixed.wanted.clone()), ..fixed }).collect(),
            service: true,
            slice: Some(Arc::new(api_slice(place(6443)))),
            endpoints: Some(Arc::new(api_endpoints(place(6443)))),
        };
        assert_eq!(planned(&there, 6443), Vec::<String>::new());
        assert_eq!(
            planned(&there, 7443),
            ["update EndpointSlice default/kubernetes", "update Endpoints default/kubernetes"]
        );
        let mut other = there.clone();
        for fixed in &mut other.fixed {
            fixed.found.as_mut().unwrap()["spec"]["cidrs"] = serde_json::json!(["10.61.0.0/16"]);
            fixed.found.as_mut().unwrap().as_object_mut().unwrap().remove("status");
        }
        let mended = [
            "update status of FlowSchema exempt",
            "update status of FlowSchema catch-all",
            "delete ServiceCIDR kubernetes",
        ];
        assert_eq!(planned(&other, 6443), mended);
        let without = Observed { namespaces: vec!["default".into()], service: false, ..there };
        assert_eq!(planned(&without, 6443).len(), 3 + 1);
    }
}
