//! At no write has a DeploymentConfig two deployers that may work: the documentation's "consistency over availability".

use super::model::{Model, Moved, Pair};
use crate::api::{
    pod_state,
    rollout::{CONFIG, DEPLOYER_POD_FOR, DEPLOYER_POD_TYPE, annotation},
};
use k8s_openapi::api::core::v1::Pod;

fn is_deployer(pod: &Pod) -> bool {
    let has = |key: &str| pod.metadata.labels.as_ref().is_some_and(|labels| labels.contains_key(key));
    has(DEPLOYER_POD_FOR) && !has(DEPLOYER_POD_TYPE)
}

pub(super) fn see(model: &Model, moved: &Moved) {
    let Moved::Pod(Pair { before: None, after: Some(new) }) = moved else { return };
    if !is_deployer(new) {
        return;
    }
    let config = annotation(&new.metadata, CONFIG);
    let of_config = |pod: &Pod| is_deployer(pod) && annotation(&pod.metadata, CONFIG) == config;
    let working = model.pods.values().filter(|pod| of_config(pod) && !pod_state::is_terminal(pod));
    let names: Vec<_> = working.map(|pod| pod.metadata.name.as_deref().unwrap_or_default()).collect();
    assert!(names.len() <= 1, "{config} has {} deployers: {}", names.len(), names.join(", "));
}
