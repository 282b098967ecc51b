//! How fast a Deployment changes its pods on real Docker, with the budget beside each figure.
//!
//! A rolling update of ten replicas is shown as a ratio to the same containers (ten sandboxes and ten applications made, as many
//! removed) by bare Docker calls, all at once, in the same run, turn by turn. The update has to keep its bounds meanwhile: at most
//! thirteen pods, at least eight of them available. Then a DeploymentConfig is rolled out beside a Deployment. Last comes how soon a name that an image gets starts a rollout.
//! Run it with `cargo bench --bench rollout`; Docker must run.
#![allow(clippy::disallowed_methods, reason = "a benchmark measures real time")]

#[path = "../harness/bench.rs"]
mod bench;
#[path = "../harness/stats.rs"]
mod stats;

use anyhow::{Context as _, bail};
use bench::{IMAGE, NAME, Skiff, bare_pod, deployment, is_ready, remove_bare_pod, wait};
use futures::future::try_join_all;
use k8s_openapi::api::{
    apps::v1::{Deployment, ReplicaSet},
    core::v1::Pod,
};
use kube::{
    Api,
    api::{ApiResource, DeleteParams, DynamicObject, GroupVersionKind, Patch, PatchParams, PostParams},
};
use serde_json::json;
use skiff::engine::{Engine, EngineError, docker::DockerEngine};
use stats::{median, millis, row};
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

const REPLICAS: usize = 10;
const ROUNDS: usize = 7;
/// A rolling update makes pods in waves, each of which has to be ready before the next may begin; bare calls are all made at once.
const RATIO_MAX: f64 = 1.5;
/// The pods of a DeploymentConfig beside those of a Deployment, and how much longer its rollout may take: a pod of its own does it.
const CONFIG_REPLICAS: usize = 5;
const CONFIG_RATIO_MAX: f64 = 1.3;
/// A person who tags an image looks up and sees the rollout.
const TAG_MS_MAX: f64 = 300.0;
/// How often an image that a container still uses is removed.
const REMOVE_TRIES: usize = 100;

fn main() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let home = tempfile::tempdir()?;
        let engine = DockerEngine::connect(NAME).await?;
        engine.info().await?;
        let skiff = Skiff::up(home).await?;
        bench_rollout(&skiff, &engine).await?;
        bench_deployment_config(&skiff).await?;
        bench_image_tag(&skiff, &engine).await
    })
}

/// What a round of an update took, in milliseconds.
#[derive(Default)]
struct Times {
    /// Until all new pods were ready.
    ready: Vec<f64>,
    /// Until the old pods were gone, too.
    gone: Vec<f64>,
    /// The same containers made and removed by bare calls.
    bare: Vec<f64>,
}

async fn bench_rollout(skiff: &Skiff, engine: &DockerEngine) -> anyhow::Result<()> {
    let deployments: Api<Deployment> = Api::default_namespaced(skiff.client.clone());
    let pods: Api<Pod> = Api::default_namespaced(skiff.client.clone());
    deployments.create(&PostParams::default(), &deployment("roll", REPLICAS)).await?;
    wait(&pods, "the pods are ready", |p| p.iter().filter(|p| is_ready(p)).count() == REPLICAS).await?;
    let mut times = Times::default();
    for round in 0..ROUNDS {
        let begun = Instant::now();
        let version = json!({"spec": {"template": {"metadata": {"annotations": {"round": round.to_string()}}}}});
        deployments.patch("roll", &PatchParams::default(), &Patch::Merge(version)).await?;
        let mut ready = None;
        wait(&pods, "only new pods are left", |p| {
            let new = p.iter().filter(|p| is_of(p, round) && is_ready(p)).count();
            if new == REPLICAS {
                ready.get_or_insert_with(|| millis(begun.elapsed()));
            }
            new == REPLICAS && p.len() == REPLICAS
        })
        .await?;
        times.gone.push(millis(begun.elapsed()));
        times.ready.extend(ready);

        let begun = Instant::now();
        try_join_all((0..REPLICAS).map(|n| bare_pod(engine, n))).await?;
        try_join_all((0..REPLICAS).map(|n| remove_bare_pod(engine, n))).await?;
        times.bare.push(millis(begun.elapsed()));
    }
    deployments.delete("roll", &DeleteParams::default()).await?;
    wait(&pods, "the pods are gone", <[Pod]>::is_empty).await?;
    times.report();
    Ok(())
}

/// The rollout of a DeploymentConfig, one step of all pods, beside a Deployment's, turn by turn.
async fn bench_deployment_config(skiff: &Skiff) -> anyhow::Result<()> {
    let of = |group: &str, kind: &str, plural: &str| {
        let resource = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, "v1", kind), plural);
        Api::<DynamicObject>::default_namespaced_with(skiff.client.clone(), &resource)
    };
    let pods: Api<Pod> = Api::default_namespaced(skiff.client.clone());
    let fence = json!({"maxSurge": "100%", "maxUnavailable": 0});
    let sides = [
        (of("apps", "Deployment", "deployments"), "beside", json!({"rollingUpdate": fence})),
        (
            of("apps.openshift.io", "DeploymentConfig", "deploymentconfigs"),
            "config",
            json!({"type": "Rolling", "rollingParams": fence}),
        ),
    ];
    let mut took = [Vec::new(), Vec::new()];
    for (api, name, strategy) in &sides {
        let mut object = serde_json::to_value(deployment(name, CONFIG_REPLICAS))?;
        if *name == "config" {
            object["apiVersion"] = json!("apps.openshift.io/v1");
            object["kind"] = json!("DeploymentConfig");
            object["spec"]["selector"] = json!({"app": name});
        }
        object["spec"]["strategy"] = strategy.clone();
        api.create(&PostParams::default(), &serde_json::from_value(object)?).await?;
        wait(&pods, "the pods are ready", |p| count(p, name, is_ready) == CONFIG_REPLICAS).await?;
    }
    for round in 0..ROUNDS {
        for ((api, name, _), took) in sides.iter().zip(&mut took) {
            let begun = Instant::now();
            let version = json!({"spec": {"template": {"metadata": {"annotations": {"round": round.to_string()}}}}});
            api.patch(name, &PatchParams::default(), &Patch::Merge(version)).await?;
            wait(&pods, "only new pods are left", |p| {
                let new = count(p, name, |pod| is_of(pod, round) && is_ready(pod));
                new == CONFIG_REPLICAS && count(p, name, |_| true) == CONFIG_REPLICAS
            })
            .await?;
            took.push(millis(begun.elapsed()));
        }
    }
    for (api, name, _) in &sides {
        api.delete(name, &DeleteParams::default()).await?;
    }
    wait(&pods, "the pods are gone", <[Pod]>::is_empty).await?;
    let [beside, config] = took.each_mut().map(|all| median(all));
    row("rollout of a Deployment of 5, in one step", beside, "ms", f64::INFINITY, true);
    let budget = beside * CONFIG_RATIO_MAX;
    row("rollout of a DeploymentConfig of 5, in one step", config, "ms", budget, config <= budget);
    Ok(())
}

/// How many pods of an application are so.
fn count(pods: &[Pod], app: &str, is_so: impl Fn(&Pod) -> bool) -> usize {
    let is_of_app = |pod: &&Pod| pod.metadata.labels.as_ref().and_then(|l| l.get("app")).is_some_and(|a| a == app);
    pods.iter().filter(is_of_app).filter(|pod| is_so(pod)).count()
}

/// What a stream and its image are called.
const STREAM: &str = "bench-streamed";

/// From `docker tag` to the new ReplicaSet of a Deployment that follows the tag.
async fn bench_image_tag(skiff: &Skiff, engine: &DockerEngine) -> anyhow::Result<()> {
    let deployments: Api<Deployment> = Api::default_namespaced(skiff.client.clone());
    let sets: Api<ReplicaSet> = Api::default_namespaced(skiff.client.clone());
    let stream = json!({"apiVersion": "image.openshift.io/v1", "kind": "ImageStream", "metadata": {"name": STREAM}});
    let url = "/apis/image.openshift.io/v1/namespaces/default/imagestreams";
    let request =
        http::Request::post(url).header("content-type", "application/json").body(stream.to_string().into())?;
    skiff.client.request_text(request).await?;
    let triggers = json!([{
        "from": {"kind": "ImageStreamTag", "name": format!("{STREAM}:latest")},
        "fieldPath": "spec.template.spec.containers[0].image",
    }]);
    let mut follower = deployment("follow", 1);
    follower.metadata.annotations = Some([("image.openshift.io/triggers".to_owned(), triggers.to_string())].into());
    deployments.create(&PostParams::default(), &follower).await?;
    let tag = format!("{STREAM}:latest");
    let program = engine.image(IMAGE).await?.context("the demo image is gone")?.command;
    let mut took = Vec::new();
    for round in 0..ROUNDS {
        // Another image each round, of the same content.
        let source = format!("{STREAM}:{round}");
        let labels = BTreeMap::from([("round".to_owned(), round.to_string())]);
        let id = engine.derive_image(IMAGE, &source, &program, &labels).await?;
        let begun = Instant::now();
        engine.tag_image(&source, &tag).await?;
        let runs_it = |set: &ReplicaSet| {
            let spec = set.spec.template.as_ref().and_then(|template| template.spec.as_ref());
            spec.is_some_and(|s| s.containers.iter().any(|c| c.image.as_deref().is_some_and(|i| i.ends_with(&id))))
        };
        wait(&sets, "the rollout has started", |sets| sets.iter().any(runs_it)).await?;
        took.push(millis(begun.elapsed()));
    }
    deployments.delete("follow", &DeleteParams::default()).await?;
    let pods: Api<Pod> = Api::default_namespaced(skiff.client.clone());
    wait(&pods, "the pods are gone", <[Pod]>::is_empty).await?;
    for name in (0..ROUNDS).map(|round| format!("{STREAM}:{round}")).chain([tag]) {
        remove_image(engine, &name).await?;
    }
    let median = median(&mut took);
    row("image tag → rollout of a Deployment started", median, "ms", TAG_MS_MAX, median <= TAG_MS_MAX);
    Ok(())
}

/// Docker counts a container as there for a moment after its pod.
async fn remove_image(engine: &DockerEngine, name: &str) -> anyhow::Result<()> {
    let mut every = tokio::time::interval(Duration::from_millis(100));
    for _ in 0..REMOVE_TRIES {
        every.tick().await;
        match engine.remove_image(name).await {
            Err(EngineError::Conflict(_)) => {}
            other => return Ok(other?),
        }
    }
    bail!("a container still uses {name}")
}

/// Whether a pod is of this round's version.
fn is_of(pod: &Pod, round: usize) -> bool {
    pod.metadata.annotations.as_ref().and_then(|a| a.get("round")).is_some_and(|r| *r == round.to_string())
}

impl Times {
    fn report(mut self) {
        let (ready, gone, bare) = (median(&mut self.ready), median(&mut self.gone), median(&mut self.bare));
        let budget = bare * RATIO_MAX;
        row("rolling update of 10 replicas, new pods ready", ready, "ms", budget, ready <= budget);
        row("  … and old pods gone", gone, "ms", budget, gone <= budget);
        row("  … as a ratio to bare Docker calls", gone / bare, "x", RATIO_MAX, gone / bare <= RATIO_MAX);
    }
}
