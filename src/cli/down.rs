//! `skiff down`: removes every trace of a cluster, and nothing else.
//!
//! The control plane, if it runs, is ended first; then containers, volumes and the network that carry the cluster's label, then the
//! kubeconfig entry, and the state last, so that a `down` that was interrupted can be repeated.

use super::{kubeconfig, output, up::ClusterArgs};
use crate::{
    app::{cidr, data_dir::DataDir},
    engine::{CLUSTER_LABEL, Engine, EngineError, docker::DockerEngine, self_image},
};
use anyhow::{Context as _, bail};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    time::Duration,
};

/// How long the control plane may take to end.
const STOP_MAX: Duration = Duration::from_secs(10);
/// How often what cannot be removed yet is tried.
const TRIES_MAX: usize = 20;
/// How long between such tries.
const PACE: Duration = Duration::from_millis(100);
/// Containers removed at the same time.
const PARALLEL: usize = 16;

/// Arguments of `skiff down`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    cluster: ClusterArgs,
}

impl Args {
    /// The arguments that remove this cluster.
    pub(super) fn of(cluster: ClusterArgs) -> Self {
        Self { cluster }
    }
}

pub(super) fn run(args: Args) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(remove(&args.cluster))
}

async fn remove(cluster: &ClusterArgs) -> anyhow::Result<()> {
    let path = cluster.data_dir()?;
    let dir = DataDir::at(&path);
    stop_control_plane(&dir).await?;
    let engine = DockerEngine::connect(&cluster.name).await?;
    let n = remove_containers(&engine).await?;
    let volumes = engine.volumes().await?;
    for volume in &volumes {
        engine.remove_volume(volume).await?;
    }
    let network = remove_network(&engine, &cluster.name).await?;
    self_image::remove_unused(&engine).await?;
    output::done(format!("removed {n} containers, {} volumes and the network and images made for them", volumes.len()));
    if let Left::InUse(name) = network {
        output::warning(format!(
            "the network {name} stays, because Docker says that something uses it. `docker network inspect {name}` shows what: \
             remove that, then run `docker network rm {name}`. If it shows nothing, restart Docker before. The next `skiff up` takes the network over."
        ));
    }
    let config = kubeconfig::default_path()?;
    kubeconfig::remove(&config, &cluster.name)?;
    if path.exists() {
        fs::remove_dir_all(&path).with_context(|| format!("cannot remove {}", path.display()))?;
    }
    output::done(format!(
        "removed the context {:?} from {} and the state in {}",
        cluster.name,
        config.display(),
        path.display()
    ));
    Ok(())
}

/// Removes the cluster's containers until there are none, and says how many there were.
///
/// One look is not enough: a call that the control plane made just before its end may still make one.
async fn remove_containers(engine: &dyn Engine) -> anyhow::Result<usize> {
    let mut removed = BTreeSet::new();
    for _ in 0..TRIES_MAX {
        let containers = engine.list().await?;
        if containers.is_empty() {
            return Ok(removed.len());
        }
        removed.extend(containers.iter().map(|c| c.id.clone()));
        stream::iter(containers)
            .map(|c| async move { engine.remove(&c.id).await })
            .buffer_unordered(PARALLEL)
            .try_collect::<Vec<()>>()
            .await
            .context("cannot remove the cluster's containers; run `skiff down` again")?;
    }
    bail!("containers of the cluster keep appearing: end what makes them, then run `skiff down` again")
}

/// What became of the cluster's network.
#[derive(Debug, PartialEq, Eq)]
enum Left {
    /// It is gone, or was never there.
    Nothing,
    /// It is there: a container that is not the cluster's is on it, or Docker has miscounted.
    InUse(String),
}

async fn remove_network(engine: &dyn Engine, cluster: &str) -> Result<Left, EngineError> {
    let name = cidr::network_name(cluster);
    let is_ours = |labels: &BTreeMap<String, String>| labels.get(CLUSTER_LABEL).map(String::as_str) == Some(cluster);
    if !engine.network(&name).await?.is_some_and(|network| is_ours(&network.labels)) {
        return Ok(Left::Nothing);
    }
    // Docker takes a container off its network a moment after it has said that the container is gone.
    let mut every = tokio::time::interval(PACE);
    for _ in 0..TRIES_MAX {
        every.tick().await;
        match engine.remove_network(&name).await {
            Err(EngineError::Conflict(_)) => {}
            other => return other.map(|()| Left::Nothing),
        }
    }
    Ok(Left::InUse(name))
}

/// Ends the `skiff up` of this cluster, if one runs, and waits until it has.
async fn stop_control_plane(dir: &DataDir) -> anyhow::Result<()> {
    let Some(pid) = running(&dir.pid()) else { return Ok(()) };
    let ended = async {
        let mut every = tokio::time::interval(Duration::from_millis(20));
        while running(&dir.pid()) == Some(pid) {
            every.tick().await;
        }
    };
    let raw = rustix::process::Pid::from_raw(pid).context("the process ID of the running skiff is not one")?;
    rustix::process::kill_process(raw, rustix::process::Signal::TERM).with_context(|| {
        format!("cannot end the running `skiff up` (process {pid}): end it, then run `skiff down` again")
    })?;
    if tokio::time::timeout(STOP_MAX, ended).await.is_err() {
        bail!("the running `skiff up` (process {pid}) does not end: end it, then run `skiff down` again");
    }
    output::done("stopped the control plane");
    Ok(())
}

/// The process that a file names, if it runs and is a skiff.
fn running(pid_file: &Path) -> Option<i32> {
    let pid: i32 = fs::read_to_string(pid_file).ok()?.trim().parse().ok()?;
    let command = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    (command.trim() == "skiff").then_some(pid)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{
        ContainerSpec, NetworkMode, NetworkSpec,
        fake::{Behaviour, FakeEngine},
    };

    /// The fake engine's cluster.
    const CLUSTER: &str = "skiff";

    async fn engine_with_network() -> FakeEngine {
        let engine = FakeEngine::for_test();
        engine.add_image("app:1", Behaviour::server());
        let spec = NetworkSpec {
            name: cidr::network_name(CLUSTER),
            subnet: "10.244.0.0/15".into(),
            ip_range: "10.244.0.0/16".into(),
            gateway: [10, 244, 0, 1].into(),
            bridge: cidr::network_name(CLUSTER),
            labels: BTreeMap::new(),
        };
        engine.create_network(&spec).await.unwrap();
        engine
    }

    async fn run_on_network(engine: &FakeEngine, name: &str) {
        let network = Some(NetworkMode::Bridge(cidr::network_name(CLUSTER)));
        let spec = ContainerSpec { name: name.into(), image: "app:1".into(), network, ..Default::default() };
        engine.create(&spec).await.unwrap();
        engine.start(name).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn every_container_goes_and_then_the_network() {
        let engine = engine_with_network().await;
        run_on_network(&engine, "one").await;
        run_on_network(&engine, "two").await;
        assert_eq!(remove_containers(&engine).await.unwrap(), 2);
        assert_eq!(remove_network(&engine, CLUSTER).await.unwrap(), Left::Nothing);
        assert_eq!(engine.network(&cidr::network_name(CLUSTER)).await.unwrap(), None);
        assert_eq!(remove_network(&engine, CLUSTER).await.unwrap(), Left::Nothing, "there is none any more");
    }

    #[tokio::test(start_paused = true)]
    async fn a_network_that_something_else_uses_is_named_and_left() {
        let engine = engine_with_network().await;
        run_on_network(&engine, "guest").await;
        assert_eq!(remove_network(&engine, CLUSTER).await.unwrap(), Left::InUse(cidr::network_name(CLUSTER)));
        assert_eq!(remove_network(&engine, "another").await.unwrap(), Left::Nothing);
    }
}
