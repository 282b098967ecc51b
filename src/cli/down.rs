//! `skiff down`: removes every trace of a cluster, and nothing else.
//!
//! The control plane, if it runs from this data folder, is asked to end first; one that runs from another is left alone, and all it has
//! too. Then go the containers, volumes and the network that carry the cluster's label, the images if no other cluster is there, the
//! kubeconfig entry, and the state last, so that a `down` that was interrupted can be repeated.

use super::{cluster::ClusterArgs, detached, kubeconfig, output};
use crate::{
    app::{
        access::Access,
        cidr,
        claim::Claim,
        data_dir::{DataDir, Leaving},
    },
    base::{ordered::Set, runtime::block_on},
    engine::{CLUSTER_LABEL, Engine, EngineError, docker::DockerEngine, self_image},
    node::kept_images,
};
use anyhow::{Context as _, bail};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use std::{collections::BTreeMap, path::Path, time::Duration};

/// How often what cannot be removed yet is tried.
const TRIES_MAX: usize = 20;
/// How long between such tries.
const PACE: Duration = Duration::from_millis(100);
/// Containers removed at the same time.
const PARALLEL: usize = 16;

/// Arguments of `skiff down`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  skiff down\n  skiff down --name two")]
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
    block_on(remove(&args.cluster))?
}

async fn remove(cluster: &ClusterArgs) -> anyhow::Result<()> {
    let path = cluster.data_dir()?;
    let name = cluster.name.as_str();
    let engine = DockerEngine::connect(name).await?;
    if detached::stop(&engine, name, &path).await? {
        output::done("stopped the control plane in the background");
    }
    let (_claim, was_running) = Claim::for_down(&engine.info().await?.id, name, &path).await?;
    if was_running {
        output::done("stopped the control plane");
    }
    // Held until the end: nobody starts on what is half gone.
    let state = DataDir::take_for_removal(&path, name).await.context("nothing was removed")?;
    let access = Access::read(&DataDir::at(&path).access()).ok();
    let n = remove_containers(&engine).await?;
    let volumes = engine.volumes().await?;
    for volume in &volumes {
        engine.remove_volume(volume).await?;
    }
    let network = remove_network(&engine, name).await?;
    let what = if network == Left::Nothing { " and the network made for them" } else { "" };
    output::done(format!("removed {n} containers, {} volumes{what}", volumes.len()));
    if let Left::InUse(name) = network {
        output::warning(format!(
            "the network {name} stays, because Docker says that something uses it. `docker network inspect {name}` shows what: \
             remove that, then run `docker network rm {name}`. If it shows nothing, restart Docker before. The next `skiff up` takes the network over."
        ));
    }
    kept_images::remove_all(&engine, name).await?;
    remove_images(&engine).await?;
    remove_context(name, access.as_ref())?;
    remove_state(state, &path)
}

async fn remove_images(engine: &dyn Engine) -> anyhow::Result<()> {
    let others = self_image::remove_unused(engine).await?;
    if others.is_empty() {
        output::done("removed the images that skiff made");
    } else {
        let names: Vec<&str> = others.iter().map(String::as_str).collect();
        output::done(format!("left the images that skiff made: other clusters are there ({})", names.join(", ")));
    }
    Ok(())
}

/// Takes the cluster out of the kubeconfig, if skiff put it there.
fn remove_context(name: &str, access: Option<&Access>) -> anyhow::Result<()> {
    let config = kubeconfig::default_path()?;
    let shown = config.display();
    match kubeconfig::remove(&config, name, access)? {
        kubeconfig::Removed::Nothing => {}
        kubeconfig::Removed::Context => output::done(format!("removed the context {name:?} from {shown}")),
        kubeconfig::Removed::Left => {
            output::warning(format!("the context {name:?} in {shown} stays: it is not this cluster's"));
        }
    }
    Ok(())
}

fn remove_state(state: Leaving, path: &Path) -> anyhow::Result<()> {
    let shown = path.display();
    match state {
        Leaving::Nothing => output::done(format!("there is no state in {shown}")),
        Leaving::Foreign(name) => {
            output::warning(format!("{shown} stays: it holds {name:?} and no mark of skiff, so it is not skiff's"));
        }
        Leaving::Ours(held) => {
            let left = held.remove()?;
            output::done(format!("removed the state in {shown}"));
            if !left.is_empty() {
                output::warning(format!("left in {shown}, because skiff did not make it: {}", left.join(", ")));
            }
        }
    }
    Ok(())
}

/// Removes the cluster's containers until there are none, and says how many there were.
///
/// One look is not enough: a call that the control plane made just before its end may still make one.
async fn remove_containers(engine: &dyn Engine) -> anyhow::Result<usize> {
    let mut removed = Set::new();
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
