//! From an image of the engine to the rollout, with all controllers.

use super::annotation::TRIGGERS;
use crate::{
    api::{
        json_kind::JsonKind,
        kind::ErasedKind as _,
        kinds::{
            cron_job::CRON_JOBS, deployment::Deployments, deployment_config::DeploymentConfigs,
            image_stream::ImageStreams, node::Nodes, replica_set::ReplicaSets, stateful_set::STATEFUL_SETS,
        },
        meta::ObjectKey,
    },
    controllers::tests::{Cluster, eventually, settle},
    registry::pipeline::WriteOptions,
};
use k8s_openapi::api::core::v1::{ContainerImage, Node};
use serde_json::{Value, json};

fn id(c: char) -> String {
    format!("sha256:{}", c.to_string().repeat(64))
}

impl Cluster {
    /// The engine has one image more than the simulator's: of these names, the last its ID.
    async fn has_image(&self, names: &[&str]) {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let image = ContainerImage { names: Some(names), size_bytes: None };
        let change = |node: &mut Node| node.status.get_or_insert_default().images = Some(vec![image.clone()]);
        self.registry.api::<Nodes>().modify_status(&ObjectKey::new("", "skiff"), change).await.unwrap();
    }

    async fn create_json(&self, kind: &'static JsonKind, object: Value) {
        let object = kind.decode(object).unwrap();
        self.registry.create(kind, "default", object, &WriteOptions::default()).await.unwrap();
    }

    fn image_of(&self, kind: &'static JsonKind, path: &str) -> String {
        let entry = self.registry.entry(kind, &ObjectKey::new("default", "web")).unwrap();
        let object: Value = serde_json::from_slice(&entry.value).unwrap();
        object.pointer(path).unwrap()["containers"][0]["image"].as_str().unwrap().to_owned()
    }

    fn image_of_deployment(&self) -> String {
        let web = self.get::<Deployments>("default", "web").unwrap();
        web.spec.template.spec.as_ref().unwrap().containers[0].image.clone().unwrap()
    }
}

fn meta(field_path: &str) -> Value {
    let triggers = json!([{ "from": { "kind": "ImageStreamTag", "name": "web:latest" }, "fieldPath": field_path }]);
    json!({ "name": "web", "namespace": "default", "annotations": { TRIGGERS: triggers.to_string() } })
}

#[tokio::test(start_paused = true)]
async fn an_image_of_the_engine_reaches_all_that_follow_its_tag() {
    let cluster = Cluster::start().await;
    let in_template = "spec.template.spec.containers[?(@.name==\"web\")].image";
    let template = json!({
        "metadata": { "labels": { "app": "web" } }, "spec": { "containers": [{ "name": "web", "image": " " }] },
    });
    let selected = json!({ "selector": { "matchLabels": { "app": "web" } }, "template": template });
    let web = json!({ "metadata": meta(in_template), "spec": selected });
    cluster.create::<Deployments>(&web.to_string()).await;
    let mut set = web.clone();
    set["spec"]["serviceName"] = json!("web");
    cluster.create_json(&STATEFUL_SETS, set).await;
    let job =
        json!({ "template": { "spec": { "restartPolicy": "Never", "containers": template["spec"]["containers"] } } });
    let cron = "spec.jobTemplate.spec.template.spec.containers[0].image";
    let spec = json!({ "schedule": "@daily", "jobTemplate": { "spec": job } });
    cluster.create_json(&CRON_JOBS, json!({ "metadata": meta(cron), "spec": spec })).await;
    let params = json!({
        "automatic": true, "containerNames": ["web"], "from": { "kind": "ImageStreamTag", "name": "web:latest" },
    });
    let triggers = json!([{ "type": "ConfigChange" }, { "type": "ImageChange", "imageChangeParams": params }]);
    let mut template_of_config = template.clone();
    template_of_config["metadata"]["labels"]["app"] = json!("config");
    let config = json!({ "replicas": 1, "triggers": triggers, "template": template_of_config });
    let config = json!({ "metadata": { "name": "web", "namespace": "default" }, "spec": config });
    cluster.create::<DeploymentConfigs>(&config.to_string()).await;
    cluster.has_image(&["web:latest", &id('a')]).await;
    settle().await;
    assert_eq!(cluster.image_of_deployment(), " ", "nothing follows an image without a stream");

    cluster.create::<ImageStreams>("metadata: {name: web, namespace: default}").await;
    for c in ['a', 'b'] {
        cluster.has_image(&["web:latest", &id(c)]).await;
        let image = format!("web@{}", id(c));
        let took = eventually("the Deployment has the image", || cluster.image_of_deployment() == image).await;
        assert!(took.as_millis() < 100, "{took:?}");
        let has_set = || {
            let sets = cluster.list::<ReplicaSets>();
            let images =
                sets.iter().filter_map(|s| s.spec.template.as_ref()?.spec.as_ref()?.containers[0].image.clone());
            images.filter(|of| *of == image).count() == 1
        };
        eventually("it rolls out", has_set).await;
        eventually("the StatefulSet has it", || cluster.image_of(&STATEFUL_SETS, "/spec/template/spec") == image).await;
        let of_job = "/spec/jobTemplate/spec/template/spec";
        eventually("the CronJob has it", || cluster.image_of(&CRON_JOBS, of_job) == image).await;
        let of_config = || {
            let config = cluster.get::<DeploymentConfigs>("default", "web").unwrap();
            let params = config.spec.triggers.as_ref().unwrap()[1].image_change_params.clone().unwrap();
            (params.last_triggered_image, config.status.latest_version)
        };
        eventually("the DeploymentConfig has it", || of_config().0 == image).await;
        eventually("and rolls out", || of_config().1 >= 1).await;
    }
    settle().await;
    let at_rest = cluster.registry.store().revision();
    cluster.has_image(&["web:latest", &id('b')]).await;
    settle().await;
    assert_eq!(cluster.registry.store().revision(), at_rest, "nothing is written at rest");
}

#[tokio::test(start_paused = true)]
async fn what_an_annotation_cannot_mean_is_told() {
    let cluster = Cluster::start().await;
    let web = json!({
        "metadata": meta("spec.image"),
        "spec": { "selector": { "matchLabels": { "app": "web" } }, "template": {
            "metadata": { "labels": { "app": "web" } }, "spec": { "containers": [{ "name": "web", "image": "i" }] },
        } },
    });
    cluster.create::<Deployments>(&web.to_string()).await;
    eventually("it is told", || !cluster.events("InvalidImageTrigger").is_empty()).await;
    let told = cluster.events("InvalidImageTrigger");
    assert!(told[0].contains("fieldPath \"spec.image\" is not of the form"), "{told:?}");
    let key = ObjectKey::new("default", "web");
    assert!(cluster.registry.api::<Deployments>().get(&key).is_some());
}
