//! Keeps the data plane there: the Pod `kube-system/skiff-proxy` and the Secret that it authenticates with.
//!
//! The Pod is an ordinary one, so the node agent heals it. This task makes it again when somebody deletes it, gives its containers
//! another image one after the other when skiff is of another build, and replaces it when anything else that it is told differs.
//! Its containers are on the host's network; its sandbox is on the pods', where it answers for ClusterIPs (`net::sockets`).
//! Its key is in the Secret, which it reads as a file: a new key, or another address of the API, needs no new Pod.

use super::{Config, bootstrap::ensure, cidr::Plan, keep};
use crate::{
    api::{
        agreements::{DATA_PLANE, SYSTEM_NAMESPACE},
        kind::Kind,
        kinds::{pod::Pods, secret::Secrets},
        meta::ObjectKey,
        service_range::ServiceRange,
        status::ApiError,
    },
    base::task::Drain,
    node::sandbox::{SERVICE_RANGE_ANNOTATION, SOCKET_STORE_VOLUME},
    registry::{Registry, keys, pipeline::DeleteOptions},
};
use k8s_openapi::{
    ByteString,
    api::core::v1::{
        Capabilities, Container, ContainerStatus, EmptyDirVolumeSource, EnvVar, Pod, PodSpec, Secret,
        SecretVolumeSource, SecurityContext, Toleration, Volume, VolumeMount,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use std::collections::BTreeMap;

/// Marks a pod that comes from its node, and that `kubectl drain` leaves where it is. Source: `MirrorPodAnnotationKey`,
/// `pkg/apis/core/annotation_key_constants.go`, v1.37.
const MIRROR: &str = "kubernetes.io/config.mirror";
const KUBECONFIG: &str = "kubeconfig";
/// The volume with the key, and the one through which the sandbox keeps sockets.
const ACCESS: &str = "access";
const SOCKETS: &str = "sockets";
/// One serves, the other waits for its turn: neither is the first for long.
const CONTAINERS: [&str; 2] = ["proxy", "proxy-standby"];

/// The data plane that is wanted.
#[derive(Clone, Debug)]
pub(super) struct DataPlane {
    pub(super) image: String,
    pub(super) kubeconfig: String,
    /// For which ClusterIPs its sandbox answers.
    pub(super) services: ServiceRange,
    pub(super) env: Vec<(&'static str, String)>,
}

impl DataPlane {
    /// The data plane of a cluster.
    pub(super) fn new(config: &Config, plan: &Plan, image: String, kubeconfig: String) -> Self {
        let addresses: Vec<String> = config.node_port_addresses.iter().map(ToString::to_string).collect();
        let env = vec![
            ("SKIFF_SERVICE_CIDR", plan.services.to_string()),
            ("SKIFF_POD_CIDR", plan.pods.to_string()),
            ("SKIFF_BRIDGE", plan.bridge.clone()),
            ("SKIFF_DNS_IP", plan.dns_ip().to_string()),
            ("SKIFF_NODE_IP", plan.node_ip.to_string()),
            ("SKIFF_NODEPORT_ADDRESSES", addresses.join(",")),
            ("SKIFF_LOAD_BALANCER_IP", config.load_balancer_ip.to_string()),
            ("SKIFF_CLUSTER_DOMAIN", super::CLUSTER_DOMAIN.to_owned()),
        ];
        Self { image, kubeconfig, services: plan.service_range(), env }
    }

    fn secret(&self) -> Secret {
        let data = BTreeMap::from([(KUBECONFIG.to_owned(), ByteString(self.kubeconfig.clone().into_bytes()))]);
        Secret { metadata: meta(), data: Some(data), ..Default::default() }
    }

    fn pod(&self) -> Pod {
        let volume = |name: &str| Volume { name: name.to_owned(), ..Default::default() };
        let secret = SecretVolumeSource {
            secret_name: Some(DATA_PLANE.to_owned()),
            default_mode: Some(0o400),
            ..Default::default()
        };
        let spec = PodSpec {
            containers: CONTAINERS.map(|name| self.container(name)).into(),
            volumes: Some(vec![
                Volume { secret: Some(secret), ..volume(ACCESS) },
                Volume { empty_dir: Some(EmptyDirVolumeSource::default()), ..volume(SOCKETS) },
            ]),
            host_network: Some(true),
            dns_policy: Some("Default".to_owned()),
            termination_grace_period_seconds: Some(5),
            enable_service_links: Some(false),
            // Like any daemon of the system: no taint and no cordon keeps Services from being served.
            tolerations: Some(vec![Toleration { operator: Some("Exists".to_owned()), ..Default::default() }]),
            priority_class_name: Some("system-node-critical".to_owned()),
            ..Default::default()
        };
        let annotations = BTreeMap::from([
            (SOCKET_STORE_VOLUME.to_owned(), SOCKETS.to_owned()),
            (SERVICE_RANGE_ANNOTATION.to_owned(), self.services.to_string()),
            (MIRROR.to_owned(), DATA_PLANE.to_owned()),
        ]);
        let metadata = ObjectMeta { annotations: Some(annotations), ..meta() };
        Pod { metadata, spec: Some(spec), ..Default::default() }
    }

    fn container(&self, name: &str) -> Container {
        let directory = |volume: &str| format!("/run/skiff/{volume}");
        let paths = [
            ("SKIFF_KUBECONFIG_FILE", format!("{}/{KUBECONFIG}", directory(ACCESS))),
            ("SKIFF_SOCKET_STORE", directory(SOCKETS)),
        ];
        let variable = |(name, value): &(&str, String)| EnvVar {
            name: (*name).to_owned(),
            value: Some(value.clone()),
            ..Default::default()
        };
        let mount = |name: &str| VolumeMount {
            name: name.to_owned(),
            mount_path: directory(name),
            read_only: Some(name == ACCESS),
            ..Default::default()
        };
        let capabilities = Capabilities {
            add: Some(vec!["NET_ADMIN".to_owned(), "NET_BIND_SERVICE".to_owned()]),
            drop: Some(vec!["ALL".to_owned()]),
        };
        Container {
            name: name.to_owned(),
            image: Some(self.image.clone()),
            image_pull_policy: Some("Never".to_owned()),
            args: Some(vec!["proxy".to_owned()]),
            env: Some(self.env.iter().chain(&paths).map(variable).collect()),
            volume_mounts: Some([ACCESS, SOCKETS].map(mount).into()),
            security_context: Some(SecurityContext {
                capabilities: Some(capabilities),
                read_only_root_filesystem: Some(true),
                ..Default::default()
            }),
            ..Default::default()
        }
    }
}

fn meta() -> ObjectMeta {
    ObjectMeta {
        name: Some(DATA_PLANE.to_owned()),
        namespace: Some(SYSTEM_NAMESPACE.to_owned()),
        labels: Some(BTreeMap::from([("k8s-app".to_owned(), DATA_PLANE.to_owned())])),
        ..Default::default()
    }
}

/// Keeps the data plane there until drained.
pub(super) async fn keep(registry: Registry, wanted: DataPlane, drain: Drain) {
    let pod = keys::key(&<Pods as Kind>::INFO, &ObjectKey::new(SYSTEM_NAMESPACE, DATA_PLANE));
    keep::keep(&registry, &[pod], &drain, || bring_about(&registry, &wanted)).await;
}

async fn bring_about(registry: &Registry, wanted: &DataPlane) -> Result<(), ApiError> {
    let secret = wanted.secret();
    ensure(&registry.api::<Secrets>(), secret.clone(), |old| old.data.clone_from(&secret.data)).await?;
    let api = registry.api::<Pods>();
    let key = ObjectKey::new(SYSTEM_NAMESPACE, DATA_PLANE);
    let pod = wanted.pod();
    let old = api.get(&key);
    match decide(old.as_deref(), &pod) {
        Step::Rest => Ok(()),
        Step::Create => api.create(pod).await.map(drop),
        Step::Upgrade(at) => {
            let image = |pod: &mut Pod| {
                pod.spec.as_mut().and_then(|s| s.containers.get_mut(at)?.image.replace(wanted.image.clone()))
            };
            api.modify(&key, |pod| drop(image(pod))).await.map(drop)
        }
        Step::Replace => {
            let uid = old.and_then(|old| old.metadata.uid.clone());
            api.delete(&key, &DeleteOptions { uid, ..Default::default() }).await
        }
    }
}

/// What to do next about the Pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Rest,
    Create,
    /// Give the container at this place the wanted image. The sandbox with its sockets stays, and the other container serves.
    Upgrade(usize),
    /// Delete it: it is made again.
    Replace,
}

/// Pure.
fn decide(old: Option<&Pod>, wanted: &Pod) -> Step {
    let Some(old) = old else { return Step::Create };
    if old.metadata.deletion_timestamp.is_some() {
        return Step::Rest;
    }
    if setting(old) != setting(wanted) {
        return Step::Replace;
    }
    let image = |pod: &Pod, at: usize| pod.spec.as_ref().and_then(|s| s.containers.get(at)?.image.clone());
    let is_outdated = |at: &usize| image(old, *at) != image(wanted, *at);
    // One after the other: the next when all that were changed before run again.
    let is_settled = |at: &usize| is_outdated(at) || runs(old, CONTAINERS[*at], image(old, *at).as_deref());
    let mut places = (0..CONTAINERS.len()).rev();
    match places.find(is_outdated) {
        Some(at) if (0..CONTAINERS.len()).all(|at| is_settled(&at)) => Step::Upgrade(at),
        _ => Step::Rest,
    }
}

/// What can only be had by another Pod: everything that containers are told, but their image.
fn setting(pod: &Pod) -> ([Option<&String>; 2], Vec<Container>) {
    let of_sandbox = [SOCKET_STORE_VOLUME, SERVICE_RANGE_ANNOTATION];
    let of_sandbox = of_sandbox.map(|name| pod.metadata.annotations.as_ref()?.get(name));
    let told = |c: &Container| Container {
        name: c.name.clone(),
        args: c.args.clone(),
        env: c.env.clone(),
        ..Default::default()
    };
    (of_sandbox, pod.spec.iter().flat_map(|s| &s.containers).map(told).collect())
}

/// Whether a container runs this image.
fn runs(pod: &Pod, container: &str, image: Option<&str>) -> bool {
    let statuses = pod.status.iter().flat_map(|s| s.container_statuses.iter().flatten());
    let is_it = |s: &&ContainerStatus| s.name == container && Some(s.image.as_str()) == image;
    statuses.filter(is_it).any(|s| s.state.as_ref().is_some_and(|state| state.running.is_some()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::{ContainerState, ContainerStateRunning, PodStatus};

    fn wanted(image: &str) -> DataPlane {
        let env = vec![("SKIFF_BRIDGE", "br0".to_owned())];
        DataPlane {
            image: image.into(),
            kubeconfig: "key: SECRET".into(),
            services: "10.245.0.0/16".parse().unwrap(),
            env,
        }
    }

    /// A Pod whose containers run these images.
    fn running(wanted: &DataPlane, images: [&str; 2]) -> Pod {
        let mut pod = wanted.pod();
        let status = |(name, image): (&str, &str)| ContainerStatus {
            name: name.to_owned(),
            image: image.to_owned(),
            state: Some(ContainerState { running: Some(ContainerStateRunning::default()), ..Default::default() }),
            ..Default::default()
        };
        let statuses = CONTAINERS.into_iter().zip(images).map(status).collect();
        pod.status = Some(PodStatus { container_statuses: Some(statuses), ..Default::default() });
        pod
    }

    #[test]
    fn an_upgrade_changes_one_container_after_the_other_and_keeps_the_pod() {
        let (old, new) = (wanted("skiff:1"), wanted("skiff:2"));
        let mut pod = running(&old, ["skiff:1", "skiff:1"]);
        assert_eq!(decide(Some(&pod), &new.pod()), Step::Upgrade(1));
        let image = |pod: &mut Pod, at: usize| pod.spec.as_mut().unwrap().containers[at].image = Some("skiff:2".into());
        image(&mut pod, 1);
        assert_eq!(decide(Some(&pod), &new.pod()), Step::Rest, "the changed one does not run yet");
        pod.status = running(&old, ["skiff:1", "skiff:2"]).status;
        assert_eq!(decide(Some(&pod), &new.pod()), Step::Upgrade(0));
        image(&mut pod, 0);
        assert_eq!(decide(Some(&pod), &new.pod()), Step::Rest);
    }

    #[test]
    fn another_setting_is_another_pod_and_another_key_is_not() {
        let plane = wanted("skiff:1");
        assert_eq!(decide(None, &plane.pod()), Step::Create);
        let pod = running(&plane, ["skiff:1", "skiff:1"]);
        assert_eq!(decide(Some(&pod), &plane.pod()), Step::Rest);
        let renewed = DataPlane { kubeconfig: "key: RENEWED".into(), ..plane.clone() };
        assert_eq!(decide(Some(&pod), &renewed.pod()), Step::Rest);
        let moved = DataPlane { env: vec![("SKIFF_BRIDGE", "br1".to_owned())], ..plane.clone() };
        assert_eq!(decide(Some(&pod), &moved.pod()), Step::Replace);
        let mut elsewhere = pod.clone();
        elsewhere.metadata.annotations.as_mut().unwrap().remove(SERVICE_RANGE_ANNOTATION);
        assert_eq!(decide(Some(&elsewhere), &plane.pod()), Step::Replace, "its sandbox is on the host's network");
        let mut single = pod.clone();
        single.spec.as_mut().unwrap().containers.truncate(1);
        assert_eq!(decide(Some(&single), &plane.pod()), Step::Replace, "as earlier versions made it");
        single.metadata.deletion_timestamp =
            Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(jiff::Timestamp::UNIX_EPOCH));
        assert_eq!(decide(Some(&single), &plane.pod()), Step::Rest);
    }

    #[test]
    fn the_key_is_in_the_secret_alone() {
        let pod = serde_json::to_string(&wanted("skiff:1").pod()).unwrap();
        assert!(!pod.contains("SECRET"));
        assert!(pod.contains(r#""secretName":"skiff-proxy""#));
    }
}
