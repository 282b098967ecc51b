//! `skiff upgrade`: this build takes over a control plane in the background, while pods run.
//!
//! **Not here**: taking over, which every `skiff up` does with what it finds: the state, the containers, the data plane of the build before.

use super::{cluster::ClusterArgs, detached, output};
use crate::{
    app::claim::Claim,
    base::{ordered::Set, runtime::block_on},
    engine::{Container, Engine as _, Phase, docker::DockerEngine, self_image},
};
use anyhow::{Context as _, bail};

/// Arguments of `skiff upgrade`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  skiff upgrade    # what runs in the background is of this build from now on")]
pub(super) struct Args {
    #[command(flatten)]
    cluster: ClusterArgs,
}

pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    block_on(upgrade(&args.cluster))?
}

async fn upgrade(cluster: &ClusterArgs) -> anyhow::Result<()> {
    let name = &cluster.name;
    let engine = DockerEngine::connect(name).await?;
    let Some(old) = detached::find(&engine, name).await? else {
        return Err(not_in_background(&engine, cluster).await?);
    };
    let (from, to) = (detached::version(&old), env!("CARGO_PKG_VERSION"));
    if parts(to) < parts(from) {
        bail!("the cluster {name} is run by skiff {from}, and this is {to}: upgrade with a build that is not older");
    }
    let image = self_image::ensure_self_image(&engine).await?;
    if old.image == image && old.phase == Phase::Running {
        output::done(format!("the cluster {name} is run by this build already ({image})"));
        return Ok(());
    }
    let start = detached::start_of(name, &old)?;
    let before = running(&engine.list().await?);
    detached::stop(&engine, name, &start.data_dir).await?;
    detached::start(&engine, &start, None).await.with_context(|| {
        format!(
            "the control plane of skiff {from} was stopped; pods run on. That build's `skiff up -d` starts it again"
        )
    })?;
    let after = running(&engine.list().await?);
    output::done(format!(
        "the cluster {name} is run by skiff {to} ({image}); before, it was skiff {from} ({})",
        old.image
    ));
    let kept = before.intersection(&after).count();
    output::line(format!(
        "   {kept} of {} containers ran on as they are; the data plane is renewed by the new build, one of its two at a time",
        before.len()
    ));
    Ok(())
}

/// The numbers of a version.
fn parts(version: &str) -> Vec<u64> {
    version.split(['.', '-', '+']).map_while(|part| part.parse().ok()).collect()
}

fn running(containers: &[Container]) -> Set<String> {
    containers.iter().filter(|c| c.phase == Phase::Running).map(|c| c.id.clone()).collect()
}

async fn not_in_background(engine: &DockerEngine, cluster: &ClusterArgs) -> anyhow::Result<anyhow::Error> {
    let holder = Claim::holder(&engine.info().await?.id, &cluster.name).await?;
    Ok(match holder {
        Some(holder) => anyhow::anyhow!(
            "the cluster {} is run in the foreground{holder}: end that with Ctrl-C, and start `skiff up` of this build, which takes over",
            cluster.name
        ),
        None => anyhow::anyhow!("the cluster {} does not run: `skiff up -d` of this build starts it", cluster.name),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_their_numbers() {
        assert!(parts("0.10.0") > parts("0.9.3"));
        assert!(parts("1.0.0-rc.1") == parts("1.0.0"), "the words after the numbers say nothing of the order");
        assert!(parts("0.1.0") >= parts(""));
    }
}
