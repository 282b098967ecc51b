//! Who a container is: its name and labels, made from a pod and parsed back.
//!
//! Called by `translate` (to make) and `observe`, `pleg`, `sweep` (to read). Pure.
//!
//! **Invariants**: what was made is parsed back to the same value; what others made is `None`, never a guess.
//! **Source** of names and labels: `pkg/kubelet/dockershim/{naming,convert}.go`, v1.23 (the last with Docker built in).

use crate::engine::CLUSTER_LABEL;
use k8s_openapi::api::core::v1::{Container, Pod};
use sha2::{Digest as _, Sha256};
use std::{collections::BTreeMap, fmt, fmt::Write as _};

/// The container name that stands for the sandbox.
pub const SANDBOX: &str = "POD";

const POD_NAME: &str = "io.kubernetes.pod.name";
const POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";
const POD_UID: &str = "io.kubernetes.pod.uid";
const CONTAINER_NAME: &str = "io.kubernetes.container.name";
const TYPE: &str = "io.kubernetes.docker.type";
const HASH: &str = "annotation.io.kubernetes.container.hash";
const RESTART_COUNT: &str = "annotation.io.kubernetes.container.restartCount";
const GRACE: &str = "annotation.io.kubernetes.pod.terminationGracePeriod";
const ATTEMPT: &str = "dev.skiff.attempt";
const SANDBOX_ATTEMPT: &str = "dev.skiff.sandbox-attempt";
const FAILURES: &str = "dev.skiff.failures";
const VOLUMES: &str = "dev.skiff.volumes";

/// One life of a pod: a name can be used again, a UID cannot.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PodId {
    /// `metadata.namespace`.
    pub namespace: String,
    /// `metadata.name`.
    pub name: String,
    /// `metadata.uid`.
    pub uid: String,
}

impl PodId {
    /// The identity of a stored pod.
    pub fn of(pod: &Pod) -> Self {
        let text = |field: &Option<String>| field.clone().unwrap_or_default();
        Self { namespace: text(&pod.metadata.namespace), name: text(&pod.metadata.name), uid: text(&pod.metadata.uid) }
    }

    /// The Docker volume that holds the pod's files.
    pub fn volume(&self, cluster: &str) -> String {
        volume_name(cluster, &self.uid)
    }
}

/// `name_namespace(uid)`, as the kubelet names a pod in messages.
impl fmt::Display for PodId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}_{}({})", self.name, self.namespace, self.uid)
    }
}

/// The Docker volume of the pod of this UID.
pub fn volume_name(cluster: &str, uid: &str) -> String {
    format!("{}{uid}", volume_prefix(cluster))
}

/// The Docker volume of a pod's memory-backed emptyDir.
pub fn memory_volume_name(cluster: &str, uid: &str, volume: &str) -> String {
    format!("{}{uid}_{volume}", volume_prefix(cluster))
}

/// The Docker volume in which the mounts of a pod's sub-paths are exchanged. No volume of a pod has a dot in its name.
pub fn exchange_name(cluster: &str, uid: &str) -> String {
    memory_volume_name(cluster, uid, "sub.paths")
}

/// The UID of the pod that a volume of this cluster belongs to; `None` when it is no pod's.
pub fn volume_owner<'a>(cluster: &str, volume: &'a str) -> Option<&'a str> {
    let rest = volume.strip_prefix(&volume_prefix(cluster))?;
    Some(rest.split_once('_').map_or(rest, |(uid, _)| uid))
}

/// The Docker volume of a claim, by the handle that its volume's object has. No pod's has such a name.
pub fn claim_volume_name(cluster: &str, handle: &str) -> String {
    format!("skiff_{cluster}_claim_{handle}")
}

/// How much of an image's ID is in the name of its volume.
const IMAGE_ID_LETTERS: usize = 32;

/// The Docker volume with the files of the image of this ID. No pod's has such a name.
pub fn image_volume_name(cluster: &str, id: &str) -> String {
    let digits = id.strip_prefix("sha256:").unwrap_or(id);
    format!("{}{}", image_volume_prefix(cluster), digits.get(..IMAGE_ID_LETTERS).unwrap_or(digits))
}

/// The Docker volume that is there once that of an image has all its files.
pub fn full_image_volume(volume: &str) -> String {
    format!("{volume}_full")
}

/// Whether a Docker volume is that of an image, or says that one is full.
pub fn is_image_volume(cluster: &str, volume: &str) -> bool {
    volume.starts_with(&image_volume_prefix(cluster))
}

fn image_volume_prefix(cluster: &str) -> String {
    format!("skiff_{cluster}_image_")
}

fn volume_prefix(cluster: &str) -> String {
    format!("skiff_{cluster}_pod_")
}

/// Who a container is, and what a later process must know of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Its pod.
    pub pod: PodId,
    /// Its name in the pod; [`SANDBOX`] for the sandbox.
    pub container: String,
    /// How many came before it; the restart count.
    pub attempt: u32,
    /// The attempt of the sandbox that it joins; its own for a sandbox.
    pub sandbox: u32,
    /// How many of those before it failed in a row by their own fault: what back-off counts.
    pub failures: u32,
    /// What of the container's spec, when it changes, makes a new container necessary.
    pub hash: String,
    /// For a sandbox: what of the pod's volumes is written into it, so that a later process knows whether to write again.
    pub volumes: String,
}

impl Identity {
    /// A sandbox.
    pub fn sandbox(pod: PodId, attempt: u32, volumes: String) -> Self {
        let container = SANDBOX.to_owned();
        Self { pod, container, attempt, sandbox: attempt, failures: 0, hash: String::new(), volumes }
    }

    /// The container's name; the engine refuses a second of the same.
    pub fn name(&self) -> String {
        let PodId { namespace, name, uid } = &self.pod;
        format!("k8s_{}_{name}_{namespace}_{uid}_{}", self.container, self.attempt)
    }

    /// Whether this is a sandbox.
    pub fn is_sandbox(&self) -> bool {
        self.container == SANDBOX
    }

    /// The container's labels.
    pub fn labels(&self, cluster: &str, grace_secs: i64) -> BTreeMap<String, String> {
        let kind = if self.is_sandbox() { "podsandbox" } else { "container" };
        let mut labels = BTreeMap::new();
        let mut put = |key: &str, value: &str| {
            labels.insert(key.to_owned(), value.to_owned());
        };
        put(CLUSTER_LABEL, cluster);
        put(POD_NAME, &self.pod.name);
        put(POD_NAMESPACE, &self.pod.namespace);
        put(POD_UID, &self.pod.uid);
        put(CONTAINER_NAME, &self.container);
        put(TYPE, kind);
        put(ATTEMPT, &self.attempt.to_string());
        put(SANDBOX_ATTEMPT, &self.sandbox.to_string());
        if self.is_sandbox() {
            put(VOLUMES, &self.volumes);
        } else {
            put(RESTART_COUNT, &self.attempt.to_string());
            put(FAILURES, &self.failures.to_string());
            put(HASH, &self.hash);
            put(GRACE, &grace_secs.to_string());
        }
        labels
    }

    /// The identity that labels tell; `None` when they are not a pod container's.
    pub fn parse(labels: &BTreeMap<String, String>) -> Option<Self> {
        let text = |key: &str| labels.get(key).cloned();
        let number = |key: &str| labels.get(key).and_then(|v| v.parse::<u32>().ok());
        Some(Self {
            pod: PodId { namespace: text(POD_NAMESPACE)?, name: text(POD_NAME)?, uid: text(POD_UID)? },
            container: text(CONTAINER_NAME)?,
            attempt: number(ATTEMPT)?,
            sandbox: number(SANDBOX_ATTEMPT)?,
            failures: number(FAILURES).unwrap_or_default(),
            hash: text(HASH).unwrap_or_default(),
            volumes: text(VOLUMES).unwrap_or_default(),
        })
    }
}

/// The UID of the pod that a container belongs to.
pub fn pod_uid(labels: &BTreeMap<String, String>) -> Option<&str> {
    labels.get(POD_UID).map(String::as_str)
}

/// What makes a running container outdated when it changes: its name and image, as for the kubelet.
/// Source: `pkg/kubelet/container/helpers.go` `HashContainer`, v1.37.
pub fn spec_hash(container: &Container) -> String {
    short_hash(&[&container.name, container.image.as_deref().unwrap_or_default()])
}

/// A short hash of texts in order.
pub fn short_hash(parts: &[&str]) -> String {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update((part.len() as u64).to_be_bytes());
        hasher.update(part.as_bytes());
    }
    hasher.finalize().iter().take(6).fold(String::new(), |mut hex, byte| {
        write!(hex, "{byte:02x}").expect("writing to a String cannot fail");
        hex
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn identity() -> Identity {
        Identity {
            pod: PodId { namespace: "default".into(), name: "web-1".into(), uid: "0c9a-77".into() },
            container: "app".into(),
            attempt: 3,
            sandbox: 1,
            failures: 2,
            hash: "abc".into(),
            volumes: String::new(),
        }
    }

    #[test]
    fn a_name_tells_container_pod_namespace_uid_and_attempt() {
        assert_eq!(identity().name(), "k8s_app_web-1_default_0c9a-77_3");
    }

    #[test]
    fn labels_are_the_kubelets_and_skiffs() {
        let labels = identity().labels("skiff", 30);
        assert_eq!(labels["io.kubernetes.docker.type"], "container");
        assert_eq!(labels["io.kubernetes.pod.name"], "web-1");
        assert_eq!(labels["dev.skiff.cluster"], "skiff");
        assert_eq!(labels["annotation.io.kubernetes.container.restartCount"], "3");
    }

    #[test]
    fn labels_of_others_are_nobodys() {
        assert_eq!(Identity::parse(&BTreeMap::new()), None);
        let mut labels = identity().labels("skiff", 30);
        labels.insert(ATTEMPT.into(), "many".into());
        assert_eq!(Identity::parse(&labels), None);
    }

    #[test]
    fn a_volume_tells_its_pod() {
        assert_eq!(volume_owner("a", &volume_name("a", "u-1")), Some("u-1"));
        assert_eq!(volume_owner("a", &memory_volume_name("a", "u-1", "cache")), Some("u-1"));
        assert_eq!(volume_owner("a", &volume_name("b", "u-1")), None);
        assert_eq!(volume_owner("a", "pgdata"), None);
    }

    #[test]
    fn the_hash_follows_name_and_image_only() {
        let container = |image: &str, command: &str| Container {
            name: "app".into(),
            image: Some(image.into()),
            command: Some(vec![command.into()]),
            ..Container::default()
        };
        assert_eq!(spec_hash(&container("a", "x")), spec_hash(&container("a", "y")));
        assert_ne!(spec_hash(&container("a", "x")), spec_hash(&container("b", "x")));
    }

    proptest! {
        #[test]
        fn what_was_made_is_parsed_back(
            container in "[a-z][a-z0-9-]{0,20}",
            attempt in 0u32..1000, sandbox in 0u32..1000, failures in 0u32..1000,
        ) {
            let made = Identity { container, attempt, sandbox, failures, ..identity() };
            prop_assert_eq!(Identity::parse(&made.labels("c", 1)), Some(made));
        }
    }
}
