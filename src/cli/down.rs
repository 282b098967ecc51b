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
use std::{fs, path::Path, time::Duration};

/// How long the control plane may take to end.
const STOP_MAX: Duration = Duration::from_secs(10);
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
    let containers = engine.list().await?;
    let n = containers.len();
    stream::iter(containers)
        .map(|c| {
            let engine = &engine;
            async move { engine.remove(&c.id).await }
        })
        .buffer_unordered(PARALLEL)
        .try_collect::<Vec<()>>()
        .await
        .context("cannot remove the cluster's containers; run `skiff down` again")?;
    let volumes = engine.volumes().await?;
    for volume in &volumes {
        engine.remove_volume(volume).await?;
    }
    remove_network(&engine, &cluster.name).await?;
    self_image::remove_unused(&engine).await?;
    output::done(format!("removed {n} containers, {} volumes, the network and the images made for them", volumes.len()));
    let config = kubeconfig::default_path()?;
    kubeconfig::remove(&config, &cluster.name)?;
    if path.exists() {
        fs::remove_dir_all(&path).with_context(|| format!("cannot remove {}", path.display()))?;
    }
    output::done(format!("removed the context {:?} from {} and the state in {}", cluster.name, config.display(), path.display()));
    Ok(())
}

async fn remove_network(engine: &DockerEngine, cluster: &str) -> Result<(), EngineError> {
    let name = cidr::network_name(cluster);
    match engine.network(&name).await? {
        Some(network) if network.labels.get(CLUSTER_LABEL).map(String::as_str) == Some(cluster) => {
            engine.remove_network(&name).await
        }
        _ => Ok(()),
    }
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
    rustix::process::kill_process(raw, rustix::process::Signal::TERM)
        .with_context(|| format!("cannot end the running `skiff up` (process {pid}): end it, then run `skiff down` again"))?;
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
