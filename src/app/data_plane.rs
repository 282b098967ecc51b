//! Keeps the data plane there: the Pod `kube-system/skiff-proxy` and the Secret that it authenticates with.
//!
//! The Pod is an ordinary one, so the node agent heals it. This task makes it again when somebody deletes it, and replaces it when it is
//! of another build or cluster address than wanted.

use super::{Config, bootstrap::ensure, cidr::Plan, keep};
use crate::{
    api::{
        kind::Kind,
        kinds::{pod::Pods, secret::Secrets},
        meta::ObjectKey,
        status::ApiError,
    },
    base::task::Drain,
    registry::{Registry, keys, pipeline::DeleteOptions},
};
use k8s_openapi::{
    ByteString,
    api::core::v1::{
        Capabilities, Container, EnvVar, EnvVarSource, Pod, PodSpec, Secret, SecretKeySelector, SecurityContext,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use std::collections::BTreeMap;

/// Where the data plane's objects are.
pub const NAMESPACE: &str = "kube-system";
/// The name of the Pod, the Secret and the Lease.
pub const NAME: &str = "skiff-proxy";
/// The annotation of the Lease in which the data plane says which revision of EndpointSlices it has applied.
pub const OBSERVED_REVISION: &str = "skiff.dev/observed-revision";
const KUBECONFIG: &str = "kubeconfig";

/// The data plane that is wanted.
#[derive(Clone, Debug)]
pub(super) struct DataPlane {
    pub(super) image: String,
    pub(super) kubeconfig: String,
    pub(super) env: Vec<(&'static str, String)>,
}

impl DataPlane {
    /// The data plane of a cluster.
    pub(super) fn new(config: &Config, plan: &Plan, image: String, kubeconfig: String) -> Self {
        let addresses: Vec<String> = config.node_port_addresses.iter().map(ToString::to_string).collect();
        let env = vec![
            ("SKIFF_SERVICE_CIDR", plan.services.to_string()),
            ("SKIFF_BRIDGE", plan.bridge.clone()),
            ("SKIFF_DNS_IP", plan.dns_ip().to_string()),
            ("SKIFF_NODE_IP", plan.node_ip.to_string()),
            ("SKIFF_NODEPORT_ADDRESSES", addresses.join(",")),
            ("SKIFF_CLUSTER_DOMAIN", super::CLUSTER_DOMAIN.to_owned()),
        ];
        Self { image, kubeconfig, env }
    }

    fn secret(&self) -> Secret {
        let data = BTreeMap::from([(KUBECONFIG.to_owned(), ByteString(self.kubeconfig.clone().into_bytes()))]);
        Secret { metadata: meta(), data: Some(data), ..Default::default() }
    }

    fn pod(&self) -> Pod {
        let value = |(name, value): &(&str, String)| EnvVar {
            name: (*name).to_owned(),
            value: Some(value.clone()),
            ..Default::default()
        };
        let selector = SecretKeySelector { name: NAME.to_owned(), key: KUBECONFIG.to_owned(), optional: None };
        let secret = EnvVar {
            name: "SKIFF_KUBECONFIG".to_owned(),
            value_from: Some(EnvVarSource { secret_key_ref: Some(selector), ..Default::default() }),
            ..Default::default()
        };
        let capabilities = Capabilities {
            add: Some(vec!["NET_ADMIN".to_owned(), "NET_BIND_SERVICE".to_owned()]),
            drop: Some(vec!["ALL".to_owned()]),
        };
        let container = Container {
            name: "proxy".to_owned(),
            image: Some(self.image.clone()),
            image_pull_policy: Some("Never".to_owned()),
            args: Some(vec!["proxy".to_owned()]),
            env: Some(self.env.iter().map(value).chain([secret]).collect()),
            security_context: Some(SecurityContext {
                capabilities: Some(capabilities),
                read_only_root_filesystem: Some(true),
                ..Default::default()
            }),
            ..Default::default()
        };
        let spec = PodSpec {
            containers: vec![container],
            host_network: Some(true),
            dns_policy: Some("Default".to_owned()),
            termination_grace_period_seconds: Some(5),
            enable_service_links: Some(false),
            ..Default::default()
        };
        Pod { metadata: meta(), spec: Some(spec), ..Default::default() }
    }
}

fn meta() -> ObjectMeta {
    ObjectMeta {
        name: Some(NAME.to_owned()),
        namespace: Some(NAMESPACE.to_owned()),
        labels: Some(BTreeMap::from([("k8s-app".to_owned(), NAME.to_owned())])),
        ..Default::default()
    }
}

/// Keeps the data plane there until drained.
pub(super) async fn keep(registry: Registry, wanted: DataPlane, drain: Drain) {
    let pod = keys::key(&<Pods as Kind>::INFO, &ObjectKey::new(NAMESPACE, NAME));
    keep::keep(&registry, &[pod], &drain, || bring_about(&registry, &wanted)).await;
}

async fn bring_about(registry: &Registry, wanted: &DataPlane) -> Result<(), ApiError> {
    let secret = wanted.secret();
    ensure(&registry.api::<Secrets>(), secret.clone(), |old| old.data.clone_from(&secret.data)).await?;
    let api = registry.api::<Pods>();
    let key = ObjectKey::new(NAMESPACE, NAME);
    let pod = wanted.pod();
    match api.get(&key) {
        None => api.create(pod).await.map(drop),
        Some(old) if old.metadata.deletion_timestamp.is_some() || same(&old, &pod) => Ok(()),
        Some(old) => {
            let options = DeleteOptions { uid: old.metadata.uid.clone(), ..Default::default() };
            api.delete(&key, &options).await
        }
    }
}

/// Whether the Pod runs what is wanted: same image, arguments and environment.
fn same(old: &Pod, wanted: &Pod) -> bool {
    let essence = |pod: &Pod| {
        let container = pod.spec.as_ref().and_then(|s| s.containers.first()).cloned().unwrap_or_default();
        (container.image, container.args, container.env)
    };
    essence(old) == essence(wanted)
}
