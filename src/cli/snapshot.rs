//! `skiff snapshot`: keeps a cluster's state in a file, and begins again from one.

use super::{
    cluster::ClusterArgs,
    exit::{Class, of_class},
    output,
};
use crate::{
    app::{access::Access, data_dir::DataDir, snapshot::Snapshot},
    base::runtime::block_on,
    client::{Client, ClientError, Kubeconfig},
};
use anyhow::Context as _;
use std::path::{Path, PathBuf};

/// Where a control plane gives what is in its store.
const CONTENT: &str = "/skiff/snapshot";

/// Arguments of `skiff snapshot`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  skiff snapshot save monday.skiff\n  skiff snapshot restore monday.skiff && skiff up"
)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Save the cluster's state, whether it runs or not. The file holds its Secrets and keys: keep it as you keep those
    #[command(after_help = "Example:\n  skiff snapshot save monday.skiff")]
    Save {
        /// The file to write
        file: PathBuf,
        #[command(flatten)]
        cluster: ClusterArgs,
    },
    /// Make a saved state that of a cluster that does not run; `skiff up` then brings back its Services and pods
    #[command(after_help = "Example:\n  skiff snapshot restore monday.skiff --force")]
    Restore {
        /// The file to read
        file: PathBuf,
        #[command(flatten)]
        cluster: ClusterArgs,
        /// Replace a state that is there already
        #[arg(long)]
        force: bool,
    },
}

pub(super) fn run(args: Args) -> anyhow::Result<()> {
    match args.command {
        Command::Save { file, cluster } => block_on(save(&file, &cluster))?,
        Command::Restore { file, cluster, force } => block_on(restore(&file, &cluster, force))?,
    }
}

async fn save(file: &Path, cluster: &ClusterArgs) -> anyhow::Result<()> {
    let path = cluster.data_dir()?;
    let snapshot = match content_of_running(&path).await? {
        Some(content) => Snapshot::of_running(&path, &cluster.name, content)?,
        None => Snapshot::of_stopped(&path, &cluster.name).await?,
    };
    snapshot.save(file)?;
    output::done(format!(
        "saved revision {} of the cluster {} in {}",
        snapshot.revision(),
        cluster.name,
        file.display()
    ));
    Ok(())
}

/// What a control plane has in its store, if one runs from this folder.
async fn content_of_running(path: &Path) -> anyhow::Result<Option<Vec<u8>>> {
    let Ok(access) = Access::read(&DataDir::at(path).access()) else { return Ok(None) };
    let client = Client::new(&Kubeconfig::parse(&access.kubeconfig())?)?;
    match client.get_bytes(CONTENT).await {
        Ok(content) => Ok(Some(content)),
        Err(ClientError::Connect { .. }) => Ok(None),
        Err(err) => Err(err).with_context(|| format!("the control plane at {} gives no snapshot", access.server)),
    }
}

async fn restore(file: &Path, cluster: &ClusterArgs, force: bool) -> anyhow::Result<()> {
    let snapshot = Snapshot::read(file).map_err(|err| of_class(Class::Input, err))?;
    let path = cluster.data_dir()?;
    snapshot.restore(&path, &cluster.name, force).await?;
    output::done(format!(
        "the cluster {} is at revision {} of {} again",
        cluster.name,
        snapshot.revision(),
        file.display()
    ));
    output::line("   start it with `skiff up`");
    Ok(())
}
