//! What benchmarks on real Docker share: a cluster of their own, and the same containers by bare Docker calls.
#![allow(clippy::disallowed_methods, reason = "a benchmark measures real time")]
#![allow(unreachable_pub, dead_code, reason = "a benchmark has no outside, and need not use everything")]

use anyhow::{Context as _, bail};
use futures::StreamExt as _;
use k8s_openapi::api::{apps::v1::Deployment, core::v1::Pod};
use kube::{
    Api, Client, Config,
    config::Kubeconfig,
    runtime::{WatchStreamExt as _, watcher},
};
use serde_json::json;
use skiff::engine::{ContainerSpec, Engine, NamespaceMode, NetworkMode, docker::DockerEngine};
use std::{
    collections::BTreeMap,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};
use tempfile::TempDir;

const SKIFF: &str = env!("CARGO_BIN_EXE_skiff");
/// The cluster's name.
pub const NAME: &str = "bench";
/// What pods run.
pub const IMAGE: &str = "kubernetes-spring:1.0";

/// A cluster that runs while the benchmark does.
pub struct Skiff {
    home: TempDir,
    /// The control plane.
    pub child: Child,
    /// A client of it.
    pub client: Client,
}

/// A skiff command for the benchmark's cluster.
pub fn command(home: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(SKIFF);
    command
        .args(args)
        .env("SKIFF_NAME", NAME)
        .env("SKIFF_DATA_DIR", home.join("data"))
        .env("KUBECONFIG", home.join("kubeconfig"))
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    command
}

/// Starts the control plane on this port.
pub fn spawn(home: &Path, port: u16) -> anyhow::Result<Child> {
    Ok(command(home, &["up", "--api-address", &format!("127.0.0.1:{port}")]).spawn()?)
}

/// Ends the control plane; its containers run on.
pub fn stop(child: &mut Child) -> anyhow::Result<()> {
    Command::new("kill").args(["-INT", &child.id().to_string()]).status()?;
    child.wait()?;
    Ok(())
}

/// A port that nobody has.
pub fn free_port() -> anyhow::Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

impl Skiff {
    /// Starts it and makes the demo images.
    pub async fn up(home: TempDir) -> anyhow::Result<Self> {
        let port = free_port()?;
        let child = spawn(home.path(), port)?;
        let client = ready_client(home.path(), port).await?;
        let skiff = Self { home, child, client };
        let nodes: Api<k8s_openapi::api::core::v1::Node> = Api::all(skiff.client.clone());
        wait(&nodes, "the node is ready", |nodes| !nodes.is_empty()).await?;
        Command::new(SKIFF).args(["demo", "load"]).stdout(Stdio::null()).status()?;
        Ok(skiff)
    }
}

impl Drop for Skiff {
    fn drop(&mut self) {
        drop(stop(&mut self.child));
        drop(command(self.home.path(), &["down"]).status());
    }
}

/// A client of the cluster, once `/readyz` says ok.
pub async fn ready_client(home: &Path, port: u16) -> anyhow::Result<Client> {
    let deadline = Instant::now() + Duration::from_secs(30);
    while Instant::now() < deadline {
        if let Some(client) = client(home, port).await
            && ready(&client).await
        {
            return Ok(client);
        }
        tokio::task::yield_now().await;
    }
    bail!("/readyz did not answer within 30 s")
}

async fn client(home: &Path, port: u16) -> Option<Client> {
    let text = std::fs::read_to_string(home.join("data").join("kubeconfig")).ok()?;
    if !text.contains(&port.to_string()) {
        return None;
    }
    let config = Config::from_custom_kubeconfig(Kubeconfig::from_yaml(&text).ok()?, &Default::default()).await.ok()?;
    Client::try_from(config).ok()
}

async fn ready(client: &Client) -> bool {
    let request = http::Request::get("/readyz").body(Vec::new()).expect("a constant request");
    client.request_text(request).await.is_ok()
}

/// Returns once the objects are as wanted, woken by a watch.
pub async fn wait<K>(api: &Api<K>, what: &str, mut holds: impl FnMut(&[K]) -> bool) -> anyhow::Result<()>
where
    K: kube::Resource + Clone + std::fmt::Debug + serde::de::DeserializeOwned + Send + 'static,
{
    let mut events = watcher(api.clone(), watcher::Config::default()).default_backoff().boxed();
    let (mut all, mut is_listed): (BTreeMap<String, K>, bool) = (BTreeMap::new(), false);
    let seen = async {
        while let Some(event) = events.next().await {
            match event? {
                watcher::Event::Apply(o) | watcher::Event::InitApply(o) => {
                    all.insert(o.meta().name.clone().unwrap_or_default(), o);
                }
                watcher::Event::Delete(o) => {
                    all.remove(o.meta().name.as_deref().unwrap_or_default());
                }
                watcher::Event::Init => {}
                watcher::Event::InitDone => is_listed = true,
            }
            // Before that nothing says that what was not told is not there.
            if is_listed && holds(&all.values().cloned().collect::<Vec<_>>()) {
                return Ok(());
            }
        }
        bail!("the watch ended")
    };
    tokio::time::timeout(Duration::from_secs(60), seen).await.with_context(|| format!("not within 60 s: {what}"))?
}

/// Whether a pod is ready.
pub fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|s| s.conditions.as_ref());
    conditions.into_iter().flatten().any(|c| c.type_ == "Ready" && c.status == "True")
}

/// A Deployment of pods that stop when told to.
pub fn deployment(name: &str, replicas: usize) -> Deployment {
    serde_json::from_value(json!({
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {
                    "terminationGracePeriodSeconds": 1,
                    "containers": [{"name": "c", "image": IMAGE, "imagePullPolicy": "IfNotPresent"}],
                },
            },
        },
    }))
    .expect("a constant manifest")
}

/// The name of a bare pod's container.
pub fn bare_name(part: &str, n: usize) -> String {
    format!("skiff-bench-{part}-{n}")
}

/// What a pod is to Docker: a sandbox on the network, and a container in it, created beside.
pub async fn bare_pod(engine: &DockerEngine, n: usize) -> anyhow::Result<()> {
    let images = engine.images().await?;
    let own = images.iter().flat_map(|i| &i.tags).find(|t| t.starts_with("skiff:")).context("no sandbox image")?;
    let sandbox = ContainerSpec {
        name: bare_name("sandbox", n),
        image: own.clone(),
        command: vec!["pause".into()],
        network: Some(NetworkMode::Bridge(skiff::app::cidr::network_name(NAME))),
        ipc: NamespaceMode::Shareable,
        ..Default::default()
    };
    engine.create(&sandbox).await?;
    let app = bare_app(n);
    let (started, created) = tokio::join!(engine.start(&sandbox.name), engine.create(&app));
    started?;
    created?;
    engine.start(&bare_name("app", n)).await?;
    Ok(())
}

/// The container of a bare pod.
pub fn bare_app(n: usize) -> ContainerSpec {
    ContainerSpec {
        name: bare_name("app", n),
        image: IMAGE.into(),
        network: Some(NetworkMode::Container(bare_name("sandbox", n))),
        ipc: NamespaceMode::Container(bare_name("sandbox", n)),
        ..Default::default()
    }
}

/// Removes what [`bare_pod`] made.
pub async fn remove_bare_pod(engine: &DockerEngine, n: usize) -> anyhow::Result<()> {
    engine.remove(&bare_name("app", n)).await?;
    engine.remove(&bare_name("sandbox", n)).await?;
    Ok(())
}
