//! `skiff stop`: ends the control plane of a cluster, in the background or in another terminal; containers and Services run on.

use super::{cluster::ClusterArgs, detached, output};
use crate::{
    app::claim::Claim,
    base::runtime::block_on,
    engine::{Engine as _, docker::DockerEngine},
};

/// Arguments of `skiff stop`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  skiff stop && skiff up    # the control plane in the foreground again")]
pub(super) struct Args {
    #[command(flatten)]
    cluster: ClusterArgs,
}

pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    block_on(stop(&args.cluster))?
}

async fn stop(cluster: &ClusterArgs) -> anyhow::Result<()> {
    let engine = DockerEngine::connect(&cluster.name).await?;
    let was_in_background = detached::stop(&engine, &cluster.name, &cluster.data_dir()?).await?;
    let was_elsewhere = Claim::for_stop(&engine.info().await?.id, &cluster.name, &cluster.data_dir()?).await?;
    if was_in_background || was_elsewhere {
        output::done(format!("the control plane of the cluster {} has stopped", cluster.name));
        output::line("   Containers and Services run on: `skiff up` takes them over, `skiff down` removes them.");
    } else {
        output::done(format!("no control plane of the cluster {} runs", cluster.name));
    }
    Ok(())
}
