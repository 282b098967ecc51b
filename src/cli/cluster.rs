//! Which cluster a command is about: the arguments that several commands take.

use super::{
    completion::offers,
    exit::{Class, of_class},
};
use crate::{
    app::{access::Access, data_dir::DataDir},
    client::{Client, Kubeconfig},
};
use anyhow::anyhow;
use std::path::PathBuf;

/// The cluster that is meant when none is named.
const NAME_DEFAULT: &str = "skiff";

/// Which cluster a command is about.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct ClusterArgs {
    /// The cluster's name: that of its node and its context
    #[arg(long, env = "SKIFF_NAME", default_value = NAME_DEFAULT, value_parser = cluster_name, add = offers::clusters())]
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
        Ok(Client::new(&Kubeconfig::parse(&self.access()?.kubeconfig())?)?)
    }

    /// How it is reached, as its admin.
    ///
    /// # Errors
    /// It was never started from this folder.
    pub(super) fn access(&self) -> anyhow::Result<Access> {
        let file = DataDir::at(&self.data_dir()?).access();
        if !file.exists() {
            return Err(self.absent());
        }
        Access::read(&file)
    }

    /// That there is no such cluster.
    pub(super) fn absent(&self) -> anyhow::Error {
        let name = &self.name;
        let elsewhere = self.data_dir.as_ref().map(|dir| format!(" in {}", dir.display())).unwrap_or_default();
        let up = if name == NAME_DEFAULT { "skiff up".to_owned() } else { format!("skiff up --name {name}") };
        let others: Vec<String> = DataDir::known_clusters().into_iter().filter(|other| other != name).collect();
        let others = match &others[..] {
            [] => String::new(),
            others => format!("; there are: {}", others.join(", ")),
        };
        of_class(Class::Cluster, anyhow!("there is no cluster {name}{elsewhere}: `{up}` starts one{others}"))
    }
}

/// A cluster's name becomes a node's, so it must be a DNS label.
fn cluster_name(text: &str) -> Result<String, String> {
    match crate::api::names::dns1123_label(text) {
        wrong if wrong.is_empty() => Ok(text.to_owned()),
        wrong => Err(wrong.join("; ")),
    }
}
