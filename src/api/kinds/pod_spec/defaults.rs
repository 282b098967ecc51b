//! What is filled in when a pod spec leaves it out. Doing it twice changes nothing more.

use crate::api::{
    ephemeral::{as_container, as_ephemeral},
    pod_resources::{Side, of_containers},
    quantity::Quantity,
};
use k8s_openapi::{
    api::core::v1::{
        Container, EmptyDirVolumeSource, EnvVar, EphemeralContainer, HTTPGetAction, Lifecycle, LifecycleHandler,
        ObjectFieldSelector, PodSpec, PodTemplateSpec, Probe, ResourceFieldSelector, ResourceRequirements, Volume,
    },
    apimachinery::pkg::api::resource::Quantity as Text,
};
use std::collections::BTreeMap;

/// Mode of files in volumes, unless given: `0644`.
const FILE_MODE: i32 = 0o644;

/// Fills in a text that is absent or empty.
pub(in crate::api::kinds) fn text(field: &mut Option<String>, value: &str) {
    if field.as_deref().unwrap_or_default().is_empty() {
        *field = Some(value.to_owned());
    }
}

/// Fills in a number that is absent or zero.
fn number(field: &mut Option<i32>, value: i32) {
    if field.unwrap_or(0) == 0 {
        *field = Some(value);
    }
}

/// Fills in a template's spec.
pub(in crate::api::kinds) fn template(template: &mut PodTemplateSpec) {
    pod_spec(template.spec.get_or_insert_default());
}

/// Fills in what Pods and templates have in common.
pub(in crate::api::kinds) fn pod_spec(spec: &mut PodSpec) {
    text(&mut spec.dns_policy, "ClusterFirst");
    text(&mut spec.restart_policy, "Always");
    text(&mut spec.scheduler_name, "default-scheduler");
    spec.security_context.get_or_insert_default();
    spec.termination_grace_period_seconds.get_or_insert(30);
    service_account(spec);
    spec.resources.iter_mut().for_each(resources);
    spec.volumes.iter_mut().flatten().for_each(volume);
    let containers = spec.containers.iter_mut().chain(spec.init_containers.iter_mut().flatten());
    containers.for_each(container);
    spec.ephemeral_containers.iter_mut().flatten().for_each(ephemeral);
}

fn ephemeral(ephemeral: &mut EphemeralContainer) {
    let mut filled = as_container(ephemeral);
    container(&mut filled);
    *ephemeral = as_ephemeral(filled, ephemeral.target_container_name.take());
}

/// Fills in what only Pods have: templates stay as they were written.
pub(in crate::api::kinds) fn pod_only(spec: &mut PodSpec) {
    spec.enable_service_links.get_or_insert(true);
    let host_network = spec.host_network == Some(true);
    let containers = spec.containers.iter_mut().chain(spec.init_containers.iter_mut().flatten());
    containers.for_each(requests_from_limits);
    requests_of_pod(spec);
    if host_network {
        let containers = spec.containers.iter_mut().chain(spec.init_containers.iter_mut().flatten());
        for port in containers.flat_map(|c| c.ports.iter_mut().flatten()) {
            number(&mut port.host_port, port.container_port);
        }
    }
}

/// `serviceAccount` is the old name of `serviceAccountName`; both say the same.
fn service_account(spec: &mut PodSpec) {
    let named = spec.service_account_name.clone().filter(|n| !n.is_empty());
    if let Some(name) = named.or_else(|| spec.service_account.clone().filter(|n| !n.is_empty())) {
        spec.service_account_name = Some(name.clone());
        spec.service_account = Some(name);
    }
}

fn container(container: &mut Container) {
    let policy = pull_policy(container.image.as_deref().unwrap_or_default());
    text(&mut container.image_pull_policy, policy);
    text(&mut container.termination_message_path, "/dev/termination-log");
    text(&mut container.termination_message_policy, "File");
    for port in container.ports.iter_mut().flatten() {
        text(&mut port.protocol, "TCP");
    }
    container.env.iter_mut().flatten().for_each(env);
    resources(container.resources.get_or_insert_default());
    let probes = [&mut container.liveness_probe, &mut container.readiness_probe, &mut container.startup_probe];
    probes.into_iter().flatten().for_each(probe);
    container.lifecycle.iter_mut().for_each(lifecycle);
}

/// `Always` for the tag `latest`, which an image without tag and digest has; else `IfNotPresent`.
/// Source: `SetDefaults_Container` and `pkg/util/parsers/parsers.go`.
fn pull_policy(image: &str) -> &'static str {
    let (name, digest) = image.split_once('@').map_or((image, None), |(n, d)| (n, Some(d)));
    let last = name.rsplit('/').next().unwrap_or_default();
    let tag = last.split_once(':').map(|(_, tag)| tag);
    match (tag, digest) {
        _ if last.is_empty() => "IfNotPresent",
        (Some("latest"), _) | (None, None) => "Always",
        _ => "IfNotPresent",
    }
}

fn env(var: &mut EnvVar) {
    let Some(from) = &mut var.value_from else { return };
    references(from.field_ref.as_mut(), from.resource_field_ref.as_mut());
}

/// Fills in references to fields of the pod and to resources of a container.
fn references(field: Option<&mut ObjectFieldSelector>, resource: Option<&mut ResourceFieldSelector>) {
    if let Some(field) = field {
        text(&mut field.api_version, "v1");
    }
    if let Some(resource) = resource {
        canonical(resource.divisor.get_or_insert_with(|| Text("0".to_owned())));
    }
}

fn probe(probe: &mut Probe) {
    number(&mut probe.timeout_seconds, 1);
    number(&mut probe.period_seconds, 10);
    number(&mut probe.success_threshold, 1);
    number(&mut probe.failure_threshold, 3);
    probe.http_get.iter_mut().for_each(http_get);
    if let Some(grpc) = &mut probe.grpc {
        grpc.service.get_or_insert_default();
    }
}

fn lifecycle(lifecycle: &mut Lifecycle) {
    let handlers = [&mut lifecycle.post_start, &mut lifecycle.pre_stop];
    for LifecycleHandler { http_get: get, .. } in handlers.into_iter().flatten() {
        get.iter_mut().for_each(http_get);
    }
}

fn http_get(get: &mut HTTPGetAction) {
    text(&mut get.path, "/");
    text(&mut get.scheme, "HTTP");
}

fn volume(volume: &mut Volume) {
    let has_source = super::volumes::sources(volume).next().is_some();
    if !has_source {
        volume.empty_dir = Some(EmptyDirVolumeSource::default());
    }
    if let Some(size) = volume.empty_dir.as_mut().and_then(|e| e.size_limit.as_mut()) {
        canonical(size);
    }
    let modes = [
        volume.secret.as_mut().map(|v| &mut v.default_mode),
        volume.config_map.as_mut().map(|v| &mut v.default_mode),
        volume.downward_api.as_mut().map(|v| &mut v.default_mode),
        volume.projected.as_mut().map(|v| &mut v.default_mode),
    ];
    for mode in modes.into_iter().flatten() {
        mode.get_or_insert(FILE_MODE);
    }
    if let Some(image) = &mut volume.image {
        // Source: `SetDefaults_Volume`.
        let policy = pull_policy(image.reference.as_deref().unwrap_or_default());
        text(&mut image.pull_policy, policy);
    }
    if let Some(host_path) = &mut volume.host_path {
        host_path.type_.get_or_insert_default();
    }
    for file in volume.downward_api.iter_mut().flat_map(|d| d.items.iter_mut().flatten()) {
        references(file.field_ref.as_mut(), file.resource_field_ref.as_mut());
    }
    for source in volume.projected.iter_mut().flat_map(|p| p.sources.iter_mut().flatten()) {
        if let Some(token) = &mut source.service_account_token {
            token.expiration_seconds.get_or_insert(3600);
        }
        for file in source.downward_api.iter_mut().flat_map(|d| d.items.iter_mut().flatten()) {
            references(file.field_ref.as_mut(), file.resource_field_ref.as_mut());
        }
    }
}

/// Brings a quantity to the form in which Kubernetes prints it. What is no quantity stays, for validation to name.
fn canonical(text: &mut Text) {
    if let Ok(quantity) = Quantity::of(text) {
        *text = quantity.to_text();
    }
}

fn resources(resources: &mut ResourceRequirements) {
    for amounts in [&mut resources.limits, &mut resources.requests].into_iter().flatten() {
        resource_list(amounts);
    }
}

/// Resource amounts are kept in whole thousandths. Source: `SetDefaults_ResourceList`.
pub(in crate::api::kinds) fn resource_list(amounts: &mut BTreeMap<String, Text>) {
    for text in amounts.values_mut() {
        if let Ok(quantity) = Quantity::of(text) {
            *text = quantity.rounded_to_millis().to_text();
        }
    }
}

fn requests_from_limits(container: &mut Container) {
    let Some(resources) = &mut container.resources else { return };
    let Some(limits) = &resources.limits else { return };
    let requests = resources.requests.get_or_insert_default();
    for (name, limit) in limits {
        requests.entry(name.clone()).or_insert_with(|| limit.clone());
    }
}

/// What a pod as a whole asks for when it does not say: what its containers do together, else its limit. Source:
/// `setDefaultPodRequests`.
fn requests_of_pod(spec: &mut PodSpec) {
    if spec.resources.as_ref().is_none_or(|r| r.requests.is_none() && r.limits.is_none()) {
        return;
    }
    let together = of_containers(spec, Side::Requests);
    let Some(resources) = &mut spec.resources else { return };
    let requests = resources.requests.get_or_insert_default();
    for name in ["cpu", "memory"] {
        let limit = resources.limits.as_ref().and_then(|limits| limits.get(name));
        if let Some(amount) = together.get(name).map(|amount| amount.to_text()).or_else(|| limit.cloned()) {
            requests.entry(name.to_owned()).or_insert(amount);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pull_policy_follows_the_tag() {
        for (image, policy) in [
            ("nginx", "Always"),
            ("nginx:latest", "Always"),
            ("localhost:5000/nginx", "Always"),
            ("nginx:1.27", "IfNotPresent"),
            ("nginx@sha256:abc", "IfNotPresent"),
            ("nginx:latest@sha256:abc", "Always"),
            ("", "IfNotPresent"),
        ] {
            assert_eq!(pull_policy(image), policy, "{image}");
        }
    }
}
