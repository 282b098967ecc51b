//! The ReplicationController of one rollout.
//!
//! **Source**: `MakeDeployment`, openshift-controller-manager, `pkg/apps/deploymentconfig/deployment_util.go`.

use crate::{
    api::{
        kind::Kind as _,
        kinds::deployment_config::{DeploymentConfigs, types::DeploymentConfig},
        rollout::{self, CONFIG, DESIRED, ENCODED, IGNORE_POD, PHASE, Phase, REASON, REPLICAS, ROLLOUT, VERSION},
    },
    controllers::runtime::controller_reference,
};
use k8s_openapi::{
    api::core::v1::{PodTemplateSpec, ReplicationController, ReplicationControllerSpec},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

/// The ReplicationController of the latest rollout: with no pods, for its deployer to give it some.
pub(super) fn of(config: &DeploymentConfig) -> ReplicationController {
    let (spec, version) = (&config.spec, config.status.latest_version);
    let config_name = config.metadata.name.clone().unwrap_or_default();
    let name = rollout::rollout_name(&config_name, version);
    let own = rollout::pod_labels(&config_name, &name);
    let mut metadata = ObjectMeta {
        name: Some(name.clone()),
        namespace: config.metadata.namespace.clone(),
        labels: Some(config.metadata.labels.clone().unwrap_or_default()),
        owner_references: Some(vec![controller_reference(&DeploymentConfigs::INFO, &config.metadata)]),
        ..ObjectMeta::default()
    };
    metadata.labels.get_or_insert_default().insert(CONFIG.to_owned(), config_name.clone());
    for (key, value) in annotations(config) {
        rollout::annotate(&mut metadata, key, value);
    }
    let mut selector = spec.selector.clone();
    selector.extend(own.clone());
    let mut template = spec.template.clone().unwrap_or_default();
    mark(&mut template, own, [(ROLLOUT, name), (CONFIG, config_name), (VERSION, version.to_string())]);
    ReplicationController {
        metadata,
        spec: Some(ReplicationControllerSpec {
            replicas: Some(0),
            min_ready_seconds: Some(spec.min_ready_seconds),
            selector: Some(selector),
            template: Some(template),
        }),
        status: None,
    }
}

fn annotations(config: &DeploymentConfig) -> Vec<(&'static str, String)> {
    let encoded = serde_json::to_string(config).expect("an API object has string keys only");
    let mut all = vec![
        (CONFIG, config.metadata.name.clone().unwrap_or_default()),
        (VERSION, config.status.latest_version.to_string()),
        (PHASE, Phase::New.to_string()),
        (ENCODED, encoded),
        (DESIRED, config.spec.replicas.to_string()),
        (REPLICAS, "0".to_owned()),
    ];
    let reason = config.status.details.as_ref().map(|details| details.message.clone());
    all.extend(reason.filter(|reason| !reason.is_empty()).map(|reason| (REASON, reason)));
    let ignored = rollout::annotation(&config.metadata, IGNORE_POD);
    all.extend((!ignored.is_empty()).then(|| (IGNORE_POD, ignored.to_owned())));
    all
}

/// Makes a template that of a rollout: its pods say whose they are.
fn mark<const N: usize>(
    template: &mut PodTemplateSpec,
    labels: std::collections::BTreeMap<String, String>,
    annotations: [(&'static str, String); N],
) {
    let meta = template.metadata.get_or_insert_default();
    meta.labels.get_or_insert_default().extend(labels);
    annotations.into_iter().for_each(|(key, value)| rollout::annotate(meta, key, value));
    let Some(spec) = &mut template.spec else { return };
    let containers = spec.containers.iter_mut().chain(spec.init_containers.iter_mut().flatten());
    for image in containers.filter_map(|container| container.image.as_mut()) {
        *image = image.trim().to_owned();
    }
}
