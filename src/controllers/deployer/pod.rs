//! The deployer pod of a rollout, and what it may do.
//!
//! **Source**: `makeDeployerPod`, deployer_controller.go; the role: `pkg/cmd/openshift-controller-manager` and origin's bootstrap policy
//! (`system:deployer`).

use super::decide::owner;
use crate::{
    api::{
        kind::{ErasedKind as _, KindRef},
        kinds::{deployment_config::types::DeploymentConfig, rbac::ROLE_BINDINGS},
        rollout::{
            CONFIG, DEPLOYER_ACCOUNT, DEPLOYER_CONTAINER, DEPLOYER_POD_FOR, NAME_VARIABLE, NAMESPACE_VARIABLE, ROLLOUT,
            config_name, deployer_pod_name,
        },
    },
    controllers::runtime::Action,
};
use k8s_openapi::{
    api::core::v1::{Container, EnvVar, Pod, PodSpec, ReplicationController, ServiceAccount},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use serde_json::json;

/// The binding that lets deployers work in their namespace, and the role that it grants.
pub(super) const BINDING: &str = "system:deployers";
const ROLE: &str = "system:deployer";
/// The stock deployer, in its image.
const PROGRAM: &str = "/usr/bin/openshift-deploy";
/// How long a deployer may take to end.
const GRACE_SECS: i64 = 10;

/// The service account of deployers.
pub(super) fn account(namespace: &str) -> ServiceAccount {
    let metadata = ObjectMeta {
        name: Some(DEPLOYER_ACCOUNT.to_owned()),
        namespace: Some(namespace.to_owned()),
        ..ObjectMeta::default()
    };
    ServiceAccount { metadata, ..ServiceAccount::default() }
}

/// Lets the deployers' account do what deployers do.
pub(super) fn binding(namespace: &str) -> Action {
    let object = json!({
        "metadata": {
            "name": BINDING, "namespace": namespace,
            "annotations": { "openshift.io/description":
                "Allows deploymentconfigs in this namespace to rollout pods in this namespace." },
        },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": ROLE },
        "subjects": [{ "kind": "ServiceAccount", "name": DEPLOYER_ACCOUNT, "namespace": namespace }],
    });
    let object = ROLE_BINDINGS.decode(object).expect("it fits the schema");
    Action::Create { kind: KindRef::BuiltIn(&ROLE_BINDINGS), object }
}

/// The deployer pod.
pub(super) fn of(rc: &ReplicationController, config: &DeploymentConfig, image: &str) -> Pod {
    let rollout = rc.metadata.name.clone().unwrap_or_default();
    let strategy = &config.spec.strategy;
    // What the user adds is under what says whose the pod is.
    let mut labels = strategy.labels.clone();
    labels.insert(DEPLOYER_POD_FOR.to_owned(), rollout.clone());
    let mut annotations = strategy.annotations.clone();
    annotations.insert(ROLLOUT.to_owned(), rollout.clone());
    annotations.insert(CONFIG.to_owned(), config_name(rc).to_owned());
    Pod {
        metadata: ObjectMeta {
            name: Some(deployer_pod_name(&rollout)),
            namespace: rc.metadata.namespace.clone(),
            labels: Some(labels),
            annotations: Some(annotations),
            owner_references: Some(vec![owner(rc)]),
            ..ObjectMeta::default()
        },
        spec: Some(spec(rc, config, image)),
        status: None,
    }
}

fn spec(rc: &ReplicationController, config: &DeploymentConfig, image: &str) -> PodSpec {
    let from = config.spec.template.as_ref().and_then(|t| t.spec.clone()).unwrap_or_default();
    PodSpec {
        containers: vec![container(rc, config, image)],
        active_deadline_seconds: Some(config.spec.strategy.deadline_secs()),
        restart_policy: Some("Never".to_owned()),
        service_account_name: Some(DEPLOYER_ACCOUNT.to_owned()),
        termination_grace_period_seconds: Some(GRACE_SECS),
        node_selector: from.node_selector,
        tolerations: from.tolerations,
        image_pull_secrets: from.image_pull_secrets,
        dns_policy: from.dns_policy,
        dns_config: from.dns_config,
        enable_service_links: from.enable_service_links,
        ..PodSpec::default()
    }
}

fn container(rc: &ReplicationController, config: &DeploymentConfig, image: &str) -> Container {
    let custom = config.spec.strategy.custom_params.clone().unwrap_or_default();
    let own = [
        (NAME_VARIABLE, rc.metadata.name.clone().unwrap_or_default()),
        (NAMESPACE_VARIABLE, rc.metadata.namespace.clone().unwrap_or_default()),
    ];
    let own = own.map(|(name, value)| EnvVar { name: name.to_owned(), value: Some(value), ..EnvVar::default() });
    let is_stock = custom.image.is_empty();
    let command = if is_stock && custom.command.is_empty() { vec![PROGRAM.to_owned()] } else { custom.command };
    Container {
        name: DEPLOYER_CONTAINER.to_owned(),
        image: Some(if is_stock { image.to_owned() } else { custom.image }),
        // The stock image is on the engine and nowhere else.
        image_pull_policy: Some(if is_stock { "Never" } else { "IfNotPresent" }.to_owned()),
        command: (!command.is_empty()).then_some(command),
        env: Some(custom.environment.into_iter().chain(own).collect()),
        resources: Some(config.spec.strategy.resources.clone()),
        termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
        ..Container::default()
    }
}
