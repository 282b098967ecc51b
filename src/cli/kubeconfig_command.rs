//! `skiff kubeconfig`: prints the cluster's kubeconfig, or merges it into the user's.

use super::{cluster::ClusterArgs, kubeconfig, output};
use crate::app::{access::Access, data_dir::DataDir};
use anyhow::bail;

/// Arguments of `skiff kubeconfig`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    cluster: ClusterArgs,
    /// Merge it into your kubeconfig and make it the current context, instead of printing it
    #[arg(long)]
    merge: bool,
}

pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    let path = args.cluster.data_dir()?;
    let dir = DataDir::at(&path);
    if !dir.access().exists() {
        bail!("the cluster {} does not exist: start it with `skiff up`", args.cluster.name);
    }
    let access = Access::read(&dir.access())?;
    if !args.merge {
        output::raw(&access.kubeconfig());
        return Ok(());
    }
    let path = kubeconfig::default_path()?;
    kubeconfig::add(&path, &access)?;
    output::done(format!("context {} is in {}", access.name, path.display()));
    Ok(())
}
