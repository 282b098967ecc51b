//! Keeps the data plane there: the Pod `kube-system/skiff-proxy` and the Secret that it authenticates with.
//!
//! The Pod is an ordinary one, so the node agent heals it; as a DaemonSet's, it is made when its node is there. This controller makes it again when somebody deletes it, gives its containers
//! another image one after the other when skiff is of another build, and replaces it when anything else that it is told differs.
//! Its containers are on the host's network; its sandbox is on the pods', where it answers for ClusterIPs (`net::sockets`).
//! Its key is in the Secret, which it reads as a file: a new key, or another address of the API, needs no new Pod.

use super::{
    cluster_objects::changes_of,
    runtime::{Action, Controller, Decision, Moved, Planned, Trigger},
};
use crate::{
    api::{
        agreements::{CONTROL_PLANE_ROLE, DATA_PLANE, SERVICE_RANGE_ANNOTATION, SOCKET_STORE_VOLUME, SYSTEM_NAMESPACE},
        kinds::{node::Nodes, pod::Pods, secret::Secrets},
        meta::ObjectKey,
        service_range::ServiceRange,
    },
    base::secret::Secret as Hidden,
    registry::Registry,
};
use k8s_openapi::{
    ByteString,
    api::core::v1::{
        Capabilities, Container, ContainerStatus, EmptyDirVolumeSource, EnvVar, Node, Pod, PodSpec, Secret,
        SecretVolumeSource, SecurityContext, Toleration, Volume, VolumeMount,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use std::{collections::BTreeMap, sync::Arc};

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
pub struct DataPlane {
    /// The image of its containers.
    pub image: String,
    /// How it reaches the API.
    pub kubeconfig: Hidden<String>,
    /// For which ClusterIPs its sandbox answers.
    pub services: ServiceRange,
    /// What its containers are told.
    pub env: Vec<(&'static str, String)>,
}

impl DataPlane {
    fn secret(&self) -> Secret {
        let data = BTreeMap::from([(KUBECONFIG.to_owned(), ByteString(self.kubeconfig.reveal().clone().into_bytes()))]);
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
            // It has a certificate of its own.
            automount_service_account_token: Some(false),
            // Like any daemon of the system: no taint and no cordon keeps Services from being served.
            tolerations: Some(vec![Toleration { operator: Some("Exists".to_owned()), ..Default::default() }]),
            // Where the machine is shown as several nodes, it is the first's.
            node_selector: Some(BTreeMap::from([(CONTROL_PLANE_ROLE.to_owned(), String::new())])),
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

/// What of it there is.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    secret: Option<Arc<Secret>>,
    pod: Option<Arc<Pod>>,
    has_node: bool,
}

impl Controller for DataPlane {
    /// Its Secret and its Pod together.
    type Key = ();
    type Observed = Observed;

    fn name(&self) -> &'static str {
        "data-plane"
    }

    fn triggers(&self) -> Vec<Trigger<()>> {
        let node_came = Trigger::on::<Nodes>(|_, moved: &Moved<Node>, keys| {
            let is_there = |node: &Option<Arc<Node>>| node.as_deref().is_some_and(is_its_node);
            keys.extend((is_there(&moved.before) != is_there(&moved.after)).then_some(()));
        });
        vec![changes_of::<Secrets>(key()), changes_of::<Pods>(key()), node_came]
    }

    fn first_keys(&self) -> Vec<()> {
        vec![()]
    }

    fn observe(&self, registry: &Registry, _key: &()) -> Option<Observed> {
        Some(Observed {
            secret: registry.api::<Secrets>().get(&key()),
            pod: registry.api::<Pods>().get(&key()),
            has_node: registry.api::<Nodes>().list("").items.iter().any(|node| is_its_node(node)),
        })
    }

    fn decide(&self, observed: &Observed) -> Decision {
        let mut decision = Decision::rest();
        self.decide_secret(observed.secret.as_deref()).into_iter().for_each(|planned| decision.then(planned));
        self.decide_pod(observed).into_iter().for_each(|planned| decision.then(planned));
        decision
    }
}

impl DataPlane {
    fn decide_secret(&self, old: Option<&Secret>) -> Option<Planned> {
        let wanted = self.secret();
        match old {
            None => Some(Action::create::<Secrets>(wanted).because("the data plane has no key")),
            Some(old) if old.data == wanted.data => None,
            Some(old) => {
                let renewed = Secret { data: wanted.data, ..old.clone() };
                Some(Action::update::<Secrets>(renewed).because("the data plane has another key"))
            }
        }
    }

    fn decide_pod(&self, observed: &Observed) -> Option<Planned> {
        let (wanted, old) = (self.pod(), observed.pod.as_deref());
        match (next(old, &wanted), old) {
            (Step::Create, _) => {
                observed.has_node.then(|| Action::create::<Pods>(wanted).because("there is no data plane"))
            }
            (Step::Upgrade(at), Some(old)) => {
                let mut pod = old.clone();
                let container = pod.spec.as_mut().and_then(|spec| spec.containers.get_mut(at));
                container?.image = Some(self.image.clone());
                Some(Action::update::<Pods>(pod).because("a container of the data plane is of another build"))
            }
            (Step::Replace, Some(old)) => Some(Action::delete::<Pods>(old).because("the data plane is told otherwise")),
            (Step::Rest | Step::Upgrade(_) | Step::Replace, _) => None,
        }
    }
}

/// Whether the data plane is this node's.
fn is_its_node(node: &Node) -> bool {
    node.metadata.labels.as_ref().is_some_and(|labels| labels.contains_key(CONTROL_PLANE_ROLE))
}

fn key() -> ObjectKey {
    ObjectKey::new(SYSTEM_NAMESPACE, DATA_PLANE)
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
fn next(old: Option<&Pod>, wanted: &Pod) -> Step {
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
            kubeconfig: Hidden::new("key: SECRET".to_owned()),
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
        assert_eq!(next(Some(&pod), &new.pod()), Step::Upgrade(1));
        let image = |pod: &mut Pod, at: usize| pod.spec.as_mut().unwrap().containers[at].image = Some("skiff:2".into());
        image(&mut pod, 1);
        assert_eq!(next(Some(&pod), &new.pod()), Step::Rest, "the changed one does not run yet");
        pod.status = running(&old, ["skiff:1", "skiff:2"]).status;
        assert_eq!(next(Some(&pod), &new.pod()), Step::Upgrade(0));
        image(&mut pod, 0);
        assert_eq!(next(Some(&pod), &new.pod()), Step::Rest);
    }

    #[test]
    fn another_setting_is_another_pod_and_another_key_is_not() {
        let plane = wanted("skiff:1");
        assert_eq!(next(None, &plane.pod()), Step::Create);
        let pod = running(&plane, ["skiff:1", "skiff:1"]);
        assert_eq!(next(Some(&pod), &plane.pod()), Step::Rest);
        let renewed = DataPlane { kubeconfig: Hidden::new("key: RENEWED".to_owned()), ..plane.clone() };
        assert_eq!(next(Some(&pod), &renewed.pod()), Step::Rest);
        let moved = DataPlane { env: vec![("SKIFF_BRIDGE", "br1".to_owned())], ..plane.clone() };
        assert_eq!(next(Some(&pod), &moved.pod()), Step::Replace);
        let mut elsewhere = pod.clone();
        elsewhere.metadata.annotations.as_mut().unwrap().remove(SERVICE_RANGE_ANNOTATION);
        assert_eq!(next(Some(&elsewhere), &plane.pod()), Step::Replace, "its sandbox is on the host's network");
        let mut single = pod.clone();
        single.spec.as_mut().unwrap().containers.truncate(1);
        assert_eq!(next(Some(&single), &plane.pod()), Step::Replace, "as earlier versions made it");
        single.metadata.deletion_timestamp =
            Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(jiff::Timestamp::UNIX_EPOCH));
        assert_eq!(next(Some(&single), &plane.pod()), Step::Rest);
    }

    #[test]
    fn its_secret_comes_before_its_pod_and_follows_the_key() {
        let plane = wanted("skiff:1");
        let planned = |observed: &Observed| {
            let decision = plane.decide(observed);
            decision.planned().map(|planned| format!("{:?}", planned.action)).collect::<Vec<_>>()
        };
        let name = "kube-system/skiff-proxy";
        assert_eq!(planned(&Observed::default()), [format!("create Secret {name}")], "nothing could run it yet");
        let first = Observed { has_node: true, ..Observed::default() };
        assert_eq!(planned(&first), [format!("create Secret {name}"), format!("create Pod {name}")]);
        let pod = Some(Arc::new(running(&plane, ["skiff:1", "skiff:1"])));
        let there = Observed { secret: Some(Arc::new(plane.secret())), pod, has_node: true };
        assert_eq!(planned(&there), Vec::<String>::new());
        let old = DataPlane { kubeconfig: Hidden::new("key: OLD".to_owned()), ..plane.clone() };
        let renewed = Observed { secret: Some(Arc::new(old.secret())), ..there.clone() };
        assert_eq!(planned(&renewed), [format!("update Secret {name}")]);
        let outdated = Observed { pod: Some(Arc::new(running(&wanted("skiff:0"), ["skiff:0", "skiff:0"]))), ..there };
        assert_eq!(planned(&outdated), [format!("update Pod {name}")]);
    }

    #[test]
    fn the_key_is_in_the_secret_alone() {
        let pod = serde_json::to_string(&wanted("skiff:1").pod()).unwrap();
        assert!(!pod.contains("SECRET"));
        assert!(pod.contains(r#""secretName":"skiff-proxy""#));
    }
}
