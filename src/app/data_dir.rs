//! The folder where a cluster's state is kept: private to the user, one per cluster.

use anyhow::Context as _;
use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

/// A cluster's folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataDir(PathBuf);

impl DataDir {
    /// The folder of a cluster when the user names none: `$XDG_DATA_HOME/skiff/<name>`, else `~/.local/share/skiff/<name>`.
    pub fn default_path(cluster: &str) -> anyhow::Result<PathBuf> {
        let base = std::env::var_os("XDG_DATA_HOME").filter(|v| !v.is_empty()).map(PathBuf::from);
        let base = if let Some(base) = base {
            base
        } else {
            let home = std::env::var_os("HOME").context("$HOME is not set: choose a folder with --data-dir")?;
            Path::new(&home).join(".local/share")
        };
        Ok(base.join("skiff").join(cluster))
    }

    /// Makes the folder, for this user alone.
    pub fn prepare(path: &Path) -> anyhow::Result<Self> {
        let what = || format!("cannot use the data folder {}: choose another with --data-dir", path.display());
        fs::create_dir_all(path).with_context(what)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o700)).with_context(what)?;
        Ok(Self(path.to_owned()))
    }

    /// The folder of a cluster that ran before, made or not.
    pub fn at(path: &Path) -> Self {
        Self(path.to_owned())
    }

    /// The store's file.
    pub fn store(&self) -> PathBuf {
        self.0.join("state.redb")
    }

    /// The keys' folder.
    pub fn pki(&self) -> PathBuf {
        self.0.join("pki")
    }

    /// The file with the process ID of the control plane.
    pub fn pid(&self) -> PathBuf {
        self.0.join("skiff.pid")
    }

    /// The administrator's kubeconfig.
    pub fn access(&self) -> PathBuf {
        self.0.join("kubeconfig")
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.0
    }
}
