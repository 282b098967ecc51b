//! Which cluster a command is about: the arguments that several commands take.

use crate::{
    app::{access::Access, data_dir::DataDir},
    client::{Client, Kubeconfig},
};
use anyhow::Context as _;
use std::path::PathBuf;

/// Which cluster a command is about.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct ClusterArgs {
    /// The cluster's name: that of its node and its context
    #[arg(long, env = "SKIFF_NAME", default_value = "skiff", value_parser = cluster_name)]
    pub(super) name: String,
    /// Where its state is kept [default: ~/.local/share/skiff/NAME]
    #[arg(long, env = "SKIFF_DATA_DIR")]
    data_dir: Option<PathBuf>,
}

impl ClusterArgs {
    /// The folder of the cluster's state.
    pub(super) fn data_dir(&self) -> anyhow::Result<PathBuf> {
        self.data_dir.clone().map_or_else(|| DataDir::default_path(&self.name), Ok)
    }

    /// A client of its API, as its admin.
    ///
    /// # Errors
    /// It does not run from this folder.
    pub(super) fn client(&self) -> anyhow::Result<Client> {
        let access = Access::read(&DataDir::at(&self.data_dir()?).access())
            .with_context(|| format!("the cluster {} does not run: start it with `skiff up`", self.name))?;
        Ok(Client::new(&Kubeconfig::parse(&access.kubeconfig())?)?)
    }
}

/// A cluster's name becomes a node's, so it must be a DNS label.
fn cluster_name(text: &str) -> Result<String, String> {
    match crate::api::names::dns1123_label(text) {
        wrong if wrong.is_empty() => Ok(text.to_owned()),
        wrong => Err(wrong.join("; ")),
    }
}
