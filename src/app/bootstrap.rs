//! The objects that every cluster has: its namespaces, and the `kubernetes` Service with the API's own address behind it.
//!
//! Everything here is "there, and as it should be", so a start over old state changes nothing.

use super::{cidr::Plan, keep};
use crate::{
    api::{
        agreements::{SERVICE_NAME_LABEL, SYSTEM_NAMESPACE},
        kind::{ErasedKind as _, Kind},
        kinds::{
            endpoint_slice::EndpointSlices, endpoints::EndpointsKind, namespace::Namespaces, priority, priority_class,
            service::Services,
        },
        meta::ObjectKey,
        object::Object,
        status::{ApiError, ErrorClass},
    },
    base::task::Drain,
    registry::{Registry, alloc, client::Api, keys, pipeline::WriteOptions},
};
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
use std::collections::BTreeMap;

/// The namespaces of every cluster.
const NAMESPACES: [&str; 4] = ["default", SYSTEM_NAMESPACE, "kube-public", "kube-node-lease"];
/// The priority classes of every cluster, and what they are for.
const PRIORITY_CLASSES: [(&str, &str); 2] = [
    ("system-cluster-critical", "For system pods that the cluster needs, on whatever node."),
    ("system-node-critical", "For system pods that their node needs, and that must not move."),
];
/// The Service of the API itself.
const API_SERVICE: &str = "kubernetes";
const HTTPS: &str = "https";

/// Makes the objects that every cluster has.
pub(crate) async fn cluster_objects(registry: &Registry, plan: &Plan, api_port: u16) -> Result<(), ApiError> {
    for name in NAMESPACES {
        let metadata = ObjectMeta { name: Some(name.to_owned()), ..Default::default() };
        ensure(&registry.api::<Namespaces>(), Namespace { metadata, ..Default::default() }, |_| {}).await?;
    }
    let address = plan.node_ip.to_string();
    ensure(&registry.api::<Services>(), api_service(plan, api_port), |_| {}).await?;
    let slice = api_slice(&address, api_port);
    ensure(&registry.api::<EndpointSlices>(), slice.clone(), |old| {
        old.endpoints.clone_from(&slice.endpoints);
        old.ports.clone_from(&slice.ports);
    })
    .await?;
    let endpoints = api_endpoints(&address, api_port);
    ensure(&registry.api::<EndpointsKind>(), endpoints.clone(), |old| old.subsets.clone_from(&endpoints.subsets))
        .await?;
    for (name, description) in PRIORITY_CLASSES {
        priority_class(registry, name, description).await?;
    }
    Ok(())
}

/// The class of a system's pods; what a user made of it otherwise is refused by its rules.
async fn priority_class(registry: &Registry, name: &str, description: &str) -> Result<(), ApiError> {
    let kind = &priority_class::PRIORITY_CLASSES;
    if registry.entry(kind, &ObjectKey::new("", name)).is_some() {
        return Ok(());
    }
    let value = priority::of_class(name).expect("it is a class that every cluster has");
    let class = serde_json::json!({ "metadata": { "name": name }, "value": value, "description": description });
    let class = kind.decode(class).expect("it fits the schema");
    match registry.create(kind, "", class, &WriteOptions::default()).await {
        Err(err) if err.class() == ErrorClass::Conflict => Ok(()),
        other => other.map(drop),
    }
}

/// Gives the Services whose addresses are of a range that the cluster has lost others, and says so.
pub(crate) async fn move_services(registry: &Registry, plan: &Plan) -> Result<Option<String>, ApiError> {
    let fixed = BTreeMap::from([(ObjectKey::new("default", API_SERVICE), plan.api_service_ip())]);
    let n_moved = alloc::repair(registry, &fixed).await?;
    Ok((n_moved > 0).then(|| {
        format!(
            "the cluster's network was lost and its range is another's: Services are in {} now, {n_moved} have new addresses \
             (`kubectl get events -A` names them), and pods are made again",
            plan.services
        )
    }))
}

/// Keeps the objects that every cluster has until drained, whatever a user deletes.
pub(super) async fn keep(registry: Registry, plan: Plan, api_port: u16, drain: Drain) {
    let api = ObjectKey::new("default", API_SERVICE);
    let mut all = vec![
        keys::key(&<Services as Kind>::INFO, &api),
        keys::key(&<EndpointSlices as Kind>::INFO, &api),
        keys::key(&<EndpointsKind as Kind>::INFO, &api),
    ];
    let class = |(name, _)| keys::key(priority_class::PRIORITY_CLASSES.info(), &ObjectKey::new("", name));
    all.extend(PRIORITY_CLASSES.map(class));
    all.extend(NAMESPACES.map(|name| keys::key(&<Namespaces as Kind>::INFO, &ObjectKey::new("", name))));
    keep::keep(&registry, &all, &drain, || cluster_objects(&registry, &plan, api_port)).await;
}

/// Creates the object, or mends the one that is there.
pub(super) async fn ensure<K: Kind>(
    api: &Api<K>,
    wanted: K::Object,
    mend: impl Fn(&mut K::Object) + Send + Sync,
) -> Result<(), ApiError> {
    let key = ObjectKey::of(wanted.meta());
    if api.get(&key).is_some() {
        return api.modify(&key, mend).await.map(drop);
    }
    match api.create(wanted).await {
        Err(err) if err.class() == ErrorClass::Conflict => Ok(()),
        other => other.map(drop),
    }
}

fn api_meta(labels: &[(&str, &str)]) -> ObjectMeta {
    let labels: BTreeMap<_, _> = labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    ObjectMeta {
        name: Some(API_SERVICE.to_owned()),
        namespace: Some("default".to_owned()),
        labels: Some(labels),
        ..Default::default()
    }
}

fn api_service(plan: &Plan, api_port: u16) -> Service {
    let ip = plan.api_service_ip().to_string();
    Service {
        metadata: api_meta(&[("component", "apiserver"), ("provider", "kubernetes")]),
        spec: Some(ServiceSpec {
            cluster_ip: Some(ip.clone()),
            cluster_ips: Some(vec![ip]),
            ports: Some(vec![ServicePort {
                name: Some(HTTPS.to_owned()),
                port: 443,
                target_port: Some(IntOrString::Int(api_port.into())),
                ..Default::default()
            }]),
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn api_slice(address: &str, api_port: u16) -> EndpointSlice {
    EndpointSlice {
        metadata: api_meta(&[(SERVICE_NAME_LABEL, API_SERVICE)]),
        address_type: "IPv4".to_owned(),
        endpoints: Some(vec![Endpoint {
            addresses: vec![address.to_owned()],
            conditions: Some(EndpointConditions { ready: Some(true), ..Default::default() }),
            ..Default::default()
        }]),
        ports: Some(vec![EndpointPort {
            name: Some(HTTPS.to_owned()),
            port: Some(api_port.into()),
            protocol: Some("TCP".to_owned()),
            ..Default::default()
        }]),
    }
}

fn api_endpoints(address: &str, api_port: u16) -> Endpoints {
    Endpoints {
        metadata: api_meta(&[("endpointslice.kubernetes.io/skip-mirror", "true")]),
        subsets: Some(vec![EndpointSubset {
            addresses: Some(vec![EndpointAddress { ip: address.to_owned(), ..Default::default() }]),
            ports: Some(vec![LegacyPort {
                name: Some(HTTPS.to_owned()),
                port: api_port.into(),
                protocol: Some("TCP".to_owned()),
                ..Default::default()
            }]),
            not_ready_addresses: None,
        }]),
    }
}
