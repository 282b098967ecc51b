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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::rollout::annotate;
    use std::{collections::BTreeMap, sync::Arc};

    fn deployer(rollout: &str) -> Arc<Pod> {
        let mut pod = Pod::default();
        pod.metadata.name = Some(format!("{rollout}-deploy"));
        pod.metadata.labels = Some(BTreeMap::from([(DEPLOYER_POD_FOR.to_owned(), rollout.to_owned())]));
        annotate(&mut pod.metadata, CONFIG, "web");
        Arc::new(pod)
    }

    #[test]
    #[should_panic(expected = "web has 2 deployers: web-1-deploy, web-2-deploy")]
    fn a_second_deployer_is_noticed() {
        let pods = [1, 2].map(|n| (n.to_string(), deployer(&format!("web-{n}"))));
        let model = Model { pods: pods.into(), ..Model::default() };
        see(&model, &Moved::Pod(Pair { before: None, after: Some(deployer("web-2")) }));
    }
}
