//! Pods run as a service account: `default` unless they name another, which must exist. Its token, the certificate of the API server and
//! the name of the namespace are files in every container, unless the account or the pod wants it otherwise.
//!
//! Unlike Kubernetes, `default` itself need not exist yet, so that a pod applied together with its namespace is not refused.
//! **Source**: `plugin/pkg/admission/serviceaccount/admission.go`, v1.37.

use crate::{
    api::{
        agreements::{POD_TOKEN_SECS, ROOT_CA_MAP},
        kind::KindInfo,
        kinds::service_account::ServiceAccounts,
        meta::ObjectKey,
        object::DynObject,
        status::ApiError,
    },
    registry::Registry,
};
use k8s_openapi::api::core::v1::{
    ConfigMapProjection, Container, DownwardAPIProjection, DownwardAPIVolumeFile, KeyToPath, ObjectFieldSelector, Pod,
    PodSpec, ProjectedVolumeSource, ServiceAccount, ServiceAccountTokenProjection, Volume, VolumeMount,
    VolumeProjection,
};
use std::sync::Arc;

const DEFAULT: &str = "default";
/// Where client libraries look for the files.
const MOUNT_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
const VOLUME_PREFIX: &str = "kube-api-access-";
const FILE_MODE: i32 = 0o644;

pub(super) fn review(registry: &Registry, info: &KindInfo<'_>, obj: &mut dyn DynObject) -> Result<(), ApiError> {
    let Some(pod) = obj.as_any_mut().downcast_mut::<Pod>() else { return Ok(()) };
    let Some(spec) = &mut pod.spec else { return Ok(()) };
    let named = spec.service_account_name.clone().or_else(|| spec.service_account.clone());
    let name = named.filter(|n| !n.is_empty()).unwrap_or_else(|| DEFAULT.to_owned());
    let namespace = pod.metadata.namespace.clone().unwrap_or_default();
    let account = registry.api::<ServiceAccounts>().get(&ObjectKey::new(&namespace, &name));
    if account.is_none() && name != DEFAULT {
        return Err(ApiError::Forbidden {
            resource: info.resource(),
            name: pod.metadata.name.clone().unwrap_or_default(),
            why: format!("error looking up service account {namespace}/{name}: serviceaccount {name:?} not found"),
        });
    }
    spec.service_account_name = Some(name.clone());
    spec.service_account = Some(name);
    let account: Arc<ServiceAccount> = account.unwrap_or_default();
    if spec.image_pull_secrets.as_ref().is_none_or(Vec::is_empty) {
        spec.image_pull_secrets.clone_from(&account.image_pull_secrets);
    }
    let is_mounted = spec.automount_service_account_token.or(account.automount_service_account_token);
    if is_mounted != Some(false) {
        mount_token(spec, || format!("{VOLUME_PREFIX}{}", registry.rng().name_suffix()));
    }
    Ok(())
}

/// Gives each container the files, unless it has something there already. A volume that is there for it is used.
fn mount_token(spec: &mut PodSpec, new_name: impl Fn() -> String) {
    let volumes = spec.volumes.get_or_insert_default();
    let known = volumes.iter().find(|v| v.name.starts_with(VOLUME_PREFIX)).map(|v| v.name.clone());
    let is_new = known.is_none();
    let name = known.unwrap_or_else(new_name);
    let containers = spec.init_containers.iter_mut().flatten().chain(&mut spec.containers);
    let mut is_used = false;
    for container in containers.filter(|c| !has_something_there(c)) {
        is_used = true;
        container.volume_mounts.get_or_insert_default().push(VolumeMount {
            name: name.clone(),
            mount_path: MOUNT_PATH.to_owned(),
            read_only: Some(true),
            ..VolumeMount::default()
        });
    }
    if is_used && is_new {
        volumes.push(token_volume(name));
    }
}

fn has_something_there(container: &Container) -> bool {
    container.volume_mounts.iter().flatten().any(|mount| mount.mount_path == MOUNT_PATH)
}

fn token_volume(name: String) -> Volume {
    let token = ServiceAccountTokenProjection {
        path: "token".to_owned(),
        expiration_seconds: Some(POD_TOKEN_SECS),
        ..ServiceAccountTokenProjection::default()
    };
    let file = KeyToPath { key: "ca.crt".to_owned(), path: "ca.crt".to_owned(), ..KeyToPath::default() };
    let certificate =
        ConfigMapProjection { name: ROOT_CA_MAP.to_owned(), items: Some(vec![file]), ..ConfigMapProjection::default() };
    let field = ObjectFieldSelector { api_version: Some("v1".to_owned()), field_path: "metadata.namespace".to_owned() };
    let namespace = DownwardAPIVolumeFile {
        path: "namespace".to_owned(),
        field_ref: Some(field),
        ..DownwardAPIVolumeFile::default()
    };
    let downward = DownwardAPIProjection { items: Some(vec![namespace]) };
    let sources = vec![
        VolumeProjection { service_account_token: Some(token), ..VolumeProjection::default() },
        VolumeProjection { config_map: Some(certificate), ..VolumeProjection::default() },
        VolumeProjection { downward_api: Some(downward), ..VolumeProjection::default() },
    ];
    let projected = ProjectedVolumeSource {
        default_mode: Some(FILE_MODE),
        sources: Some(sources),
        ..ProjectedVolumeSource::default()
    };
    Volume { name, projected: Some(projected), ..Volume::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    fn mounted(yaml: &str) -> PodSpec {
        let mut spec: PodSpec = testing::from_yaml(yaml).unwrap();
        mount_token(&mut spec, || "kube-api-access-x".to_owned());
        spec
    }

    fn mounts(spec: &PodSpec) -> Vec<String> {
        let all = spec.init_containers.iter().flatten().chain(&spec.containers);
        all.map(|c| c.volume_mounts.iter().flatten().map(|m| m.name.clone()).collect::<Vec<_>>().join(",")).collect()
    }

    #[test]
    fn every_container_gets_the_token_unless_it_has_something_there() {
        let spec = mounted("{initContainers: [{name: i, image: a}], containers: [{name: c, image: a}]}");
        assert_eq!(mounts(&spec), ["kube-api-access-x", "kube-api-access-x"]);
        assert_eq!(spec.volumes.as_ref().unwrap().len(), 1);
        let own = format!("{{name: own, mountPath: {MOUNT_PATH}}}");
        let spec = mounted(&format!(
            "{{volumes: [{{name: own, emptyDir: {{}}}}], containers: [{{name: c, image: a, volumeMounts: [{own}]}}]}}"
        ));
        assert_eq!(mounts(&spec), ["own"]);
        assert_eq!(spec.volumes.unwrap().len(), 1, "nobody uses another volume");
        let spec = mounted("{volumes: [{name: kube-api-access-old, emptyDir: {}}], containers: [{name: c, image: a}]}");
        assert_eq!(mounts(&spec), ["kube-api-access-old"]);
        assert_eq!(spec.volumes.unwrap().len(), 1, "the volume that is there is used");
    }
}
