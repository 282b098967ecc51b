//! `skiff stop`: ends the control plane of a cluster, in the background or in another terminal; containers and Services run on.

use super::{cluster::ClusterArgs, detached, output};
use crate::{
    app::claim::{Claim, Stopped},
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
    let (id, name, dir) = (engine.info().await?.id, &cluster.name, cluster.data_dir()?);
    let first = Claim::held_by(&id, name).await?;
    let was_in_background = detached::stop(&engine, name, &dir).await?;
    match Claim::stop(&id, name, &dir, first).await? {
        Stopped::Succeeded => {
            output::done(format!(
                "the control plane of the cluster {name} has stopped, and one that stood by takes its place"
            ));
            output::line("   `skiff stop` again stops that one too.");
        }
        Stopped::NoneRan if !was_in_background => output::done(format!("no control plane of the cluster {name} runs")),
        Stopped::Ended | Stopped::NoneRan => {
            output::done(format!("the control plane of the cluster {name} has stopped"));
            output::line("   Containers and Services run on: `skiff up` takes them over, `skiff down` removes them.");
        }
    }
    Ok(())
}
