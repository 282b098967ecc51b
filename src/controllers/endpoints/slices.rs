//! Endpoints → the fewest changes of slices: endpoints stay where they are, slices are filled before new ones are made, and a slice
//! that would go is used for one that is needed.
//!
//! **Source**: `reconcileByPortMapping` and `finalize`, k8s.io/endpointslice/reconciler.go, v1.37.

use super::{HEADLESS, MANAGED_BY, SLICE_CONTROLLER, desired::Group};
use crate::{
    api::{
        agreements::{SERVICE_NAME_LABEL, UNPROBED_PODS},
        kind::Kind as _,
        kinds::{endpoint_slice::EndpointSlices, service::Services},
        pod_state,
    },
    base::ordered::{Map, Set},
    controllers::runtime::{Action, Planned, controller_reference},
};
use k8s_openapi::{
    api::{
        core::v1::{Pod, Service},
        discovery::v1::{Endpoint, EndpointPort, EndpointSlice},
    },
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};
use std::{collections::BTreeMap, sync::Arc};

/// The most endpoints of a slice. Source: `--max-endpoints-per-slice`.
pub(super) const ENDPOINTS_MAX: usize = 100;

/// What the slices of a Service have in common.
#[derive(Clone, Debug)]
pub(super) struct Family {
    /// The Service's namespace and name.
    pub(super) namespace: Option<String>,
    pub(super) name: String,
    /// What the slices go with.
    pub(super) owner: OwnerReference,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) address_type: &'static str,
    /// Whether there is a slice even when there are no endpoints.
    pub(super) has_placeholder: bool,
    /// The names of the pods that nothing probes before they count as ready.
    pub(super) unprobed: Set<String>,
}

impl Family {
    /// The slices of a Service whose pods answer for it.
    pub(super) fn of(service: &Service, pods: &[Arc<Pod>]) -> Self {
        let unprobed = pods.iter().filter(|pod| !pod_state::is_probed(pod));
        Self {
            namespace: service.metadata.namespace.clone(),
            name: service.metadata.name.clone().unwrap_or_default(),
            owner: controller_reference(&Services::INFO, &service.metadata),
            labels: labels(service),
            address_type: "IPv4",
            has_placeholder: true,
            unprobed: unprobed.filter_map(|pod| pod.metadata.name.clone()).collect(),
        }
    }

    fn blank(&self) -> ObjectMeta {
        ObjectMeta {
            generate_name: Some(format!("{}-", self.name)),
            namespace: self.namespace.clone(),
            owner_references: Some(vec![self.owner.clone()]),
            ..ObjectMeta::default()
        }
    }
}

/// What to change so that the slices show the groups.
pub(super) fn changes(family: &Family, groups: &[Group], existing: &[Arc<EndpointSlice>]) -> Vec<Planned> {
    let mut free: Vec<&EndpointSlice> = existing.iter().map(|slice| &**slice).collect();
    let mut wanted: Vec<Wanted<'_>> = Vec::new();
    for group in groups {
        fill(group, &mut free, &mut wanted);
    }
    if wanted.is_empty() && family.has_placeholder {
        // A Service without endpoints has one empty slice, so that readers know that it was looked at.
        let kept = free.iter().position(|s| is_empty(s)).map(|i| free.remove(i));
        wanted.push(Wanted { slice: kept, ports: &[], endpoints: Vec::new() });
    }
    for new in wanted.iter_mut().filter(|w| w.slice.is_none()) {
        new.slice = free.pop();
    }
    let writes = wanted.into_iter().filter_map(|w| w.planned(family));
    let gone =
        free.into_iter().map(|slice| Action::delete::<EndpointSlices>(slice).because("no endpoint is left for it"));
    writes.chain(gone).collect()
}

/// A slice as it should be; without one of the existing it is to be made.
struct Wanted<'a> {
    slice: Option<&'a EndpointSlice>,
    ports: &'a [EndpointPort],
    endpoints: Vec<Endpoint>,
}

fn is_empty(slice: &EndpointSlice) -> bool {
    slice.endpoints.iter().flatten().next().is_none() && slice.ports.iter().flatten().next().is_none()
}

/// What makes an endpoint the same one as before: its pod and address.
fn identity(endpoint: &Endpoint) -> (Option<&str>, Option<&str>) {
    let uid = endpoint.target_ref.as_ref().and_then(|r| r.uid.as_deref());
    (uid, endpoint.addresses.first().map(String::as_str))
}

/// Places a group's endpoints: where they were, then where there is room, then in new slices.
fn fill<'a>(group: &'a Group, free: &mut Vec<&'a EndpointSlice>, wanted: &mut Vec<Wanted<'a>>) {
    let mut homeless: Map<_, &Endpoint> = group.endpoints.iter().map(|e| (identity(e), e)).collect();
    let (same, other): (Vec<_>, Vec<_>) = free.drain(..).partition(|s| has_ports(s, &group.ports));
    *free = other;
    let mut kept: Vec<Wanted<'_>> = Vec::new();
    for slice in same {
        let stay = slice.endpoints.iter().flatten().filter_map(|e| homeless.remove(&identity(e)).cloned());
        let endpoints: Vec<Endpoint> = stay.collect();
        if endpoints.is_empty() {
            free.push(slice);
        } else {
            kept.push(Wanted { slice: Some(slice), ports: &group.ports, endpoints });
        }
    }
    // In the order of the group, which is that of the pods' keys.
    let mut rest = group.endpoints.iter().filter(|e| homeless.contains_key(&identity(e))).cloned().peekable();
    for slice in &mut kept {
        let room = ENDPOINTS_MAX.saturating_sub(slice.endpoints.len());
        slice.endpoints.extend(rest.by_ref().take(room));
    }
    wanted.append(&mut kept);
    while rest.peek().is_some() {
        let endpoints = rest.by_ref().take(ENDPOINTS_MAX).collect();
        wanted.push(Wanted { slice: None, ports: &group.ports, endpoints });
    }
}

fn has_ports(slice: &EndpointSlice, ports: &[EndpointPort]) -> bool {
    slice.ports.as_deref().unwrap_or_default() == ports && !is_empty(slice)
}

impl Wanted<'_> {
    fn planned(self, family: &Family) -> Option<Planned> {
        let unless_empty = |empty: bool| if empty { None } else { Some(()) };
        let is_new = self.slice.is_none();
        let metadata = self.slice.map_or_else(|| family.blank(), |slice| slice.metadata.clone());
        let annotations = self.annotations(family, metadata.annotations.clone());
        let slice = EndpointSlice {
            address_type: self.slice.map_or(family.address_type, |slice| &slice.address_type).to_owned(),
            metadata: ObjectMeta { labels: Some(family.labels.clone()), annotations, ..metadata },
            ports: unless_empty(self.ports.is_empty()).map(|()| self.ports.to_vec()),
            endpoints: unless_empty(self.endpoints.is_empty()).map(|()| self.endpoints),
        };
        match self.slice {
            Some(before) if is_same(before, &slice) => None,
            _ if is_new => Some(Action::create::<EndpointSlices>(slice).because("there is no slice for its endpoints")),
            _ => Some(Action::update::<EndpointSlices>(slice).because("its endpoints changed")),
        }
    }
}

impl Wanted<'_> {
    /// The slice's annotations, with those of its pods that are not probed.
    fn annotations(
        &self,
        family: &Family,
        before: Option<BTreeMap<String, String>>,
    ) -> Option<BTreeMap<String, String>> {
        let mut annotations = before.unwrap_or_default();
        let names = self.endpoints.iter().filter_map(|e| e.target_ref.as_ref()?.name.as_deref());
        let unprobed: Vec<&str> = names.filter(|name| family.unprobed.contains(*name)).collect();
        if unprobed.is_empty() {
            annotations.remove(UNPROBED_PODS);
        } else {
            annotations.insert(UNPROBED_PODS.to_owned(), unprobed.join(","));
        }
        Some(annotations).filter(|annotations| !annotations.is_empty())
    }
}

/// Whether two states of a slice say the same; an empty list says the same as none.
fn is_same(a: &EndpointSlice, b: &EndpointSlice) -> bool {
    a.metadata.labels == b.metadata.labels
        && a.metadata.annotations == b.metadata.annotations
        && a.ports.as_deref().unwrap_or_default() == b.ports.as_deref().unwrap_or_default()
        && a.endpoints.as_deref().unwrap_or_default() == b.endpoints.as_deref().unwrap_or_default()
}

/// The Service's own labels and those of its slices. Source: `setEndpointSliceLabels`.
fn labels(service: &Service) -> BTreeMap<String, String> {
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.remove(HEADLESS);
    if is_headless(service) {
        labels.insert(HEADLESS.to_owned(), String::new());
    }
    labels.insert(SERVICE_NAME_LABEL.to_owned(), service.metadata.name.clone().unwrap_or_default());
    labels.insert(MANAGED_BY.to_owned(), SLICE_CONTROLLER.to_owned());
    labels
}

/// Whether the Service has no address of its own.
pub(super) fn is_headless(service: &Service) -> bool {
    let ip = service.spec.as_ref().and_then(|s| s.cluster_ip.as_deref());
    matches!(ip, None | Some("" | "None"))
}
