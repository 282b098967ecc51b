//! What is asked of `skiff host-paths`: to look at paths of the engine's host, and to make what may be made. Pure.
//!
//! Where skiff runs need not be where the engine runs, so the host is looked at from a container of its own that sees it: the pod's
//! sandbox is made only after that. What was looked at must still be there when a container mounts it; the engine makes nothing.
//!
//! **Invariants**: without a type nothing is looked at, and the engine makes a missing directory, as in Kubernetes. The path is the
//! user's word: links in it are followed, on the host.
//! **Source**: `checkTypeInternal`, `pkg/volume/hostpath/host_path.go`, v1.37.

use super::{MountError, sub_paths};
use crate::{
    base::secret::variable,
    engine::{ContainerSpec, Mount, MountSource, NetworkMode, Propagation},
    node::{identity::short_hash, sandbox::SHIELDING_RIGHT},
};
use k8s_openapi::api::core::v1::HostPathVolumeSource;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Where the host is in the helper.
pub const HOST: &str = "/host";
/// The variable by which the helper is told what to look at.
pub const REQUEST: &str = "SKIFF_HOST_PATHS";
/// What the helper needs: to make the host its root, to look and make whoever owns a directory, and to be out of sight.
const RIGHTS: [&str; 3] = ["DAC_OVERRIDE", "SYS_CHROOT", SHIELDING_RIGHT];

/// What a path is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the words are Kubernetes'")]
pub enum PathType {
    BlockDevice,
    CharDevice,
    Directory,
    DirectoryOrCreate,
    File,
    FileOrCreate,
    Socket,
}

impl PathType {
    /// The type that a volume asks for, if any. Others were refused by validation.
    pub(super) fn of(source: &HostPathVolumeSource) -> Option<Self> {
        match source.type_.as_deref()? {
            "BlockDevice" => Some(Self::BlockDevice),
            "CharDevice" => Some(Self::CharDevice),
            "Directory" => Some(Self::Directory),
            "DirectoryOrCreate" => Some(Self::DirectoryOrCreate),
            "File" => Some(Self::File),
            "FileOrCreate" => Some(Self::FileOrCreate),
            "Socket" => Some(Self::Socket),
            _ => None,
        }
    }

    /// Whether it is made where there is nothing.
    pub fn may_be_made(self) -> bool {
        matches!(self, Self::DirectoryOrCreate | Self::FileOrCreate)
    }

    /// What a path that is something else is not.
    pub fn noun(self) -> &'static str {
        match self {
            Self::BlockDevice => "block device",
            Self::CharDevice => "character device",
            Self::Directory | Self::DirectoryOrCreate => "directory",
            Self::File | Self::FileOrCreate => "file",
            Self::Socket => "socket file",
        }
    }
}

/// A path of the host, and what it is to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostPath {
    /// The path.
    pub path: String,
    /// What it is to be.
    pub kind: PathType,
}

/// The paths of a pod that must be looked at, by the names of their volumes, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostPaths(Vec<(String, HostPath)>);

impl HostPaths {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn add(&mut self, volume: &str, path: &str, kind: PathType) {
        self.0.push((volume.to_owned(), HostPath { path: path.to_owned(), kind }));
    }

    /// The helper's specification.
    pub fn helper(&self, uid: &str, image: &str) -> ContainerSpec {
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        let paths: Vec<&HostPath> = self.0.iter().map(|(_, path)| path).collect();
        let read_only = !paths.iter().any(|path| path.kind.may_be_made());
        ContainerSpec {
            name: format!("skiff_paths_{uid}_{}", short_hash(&[HOST])),
            image: image.to_owned(),
            command: words(&["host-paths"]),
            env: vec![variable(REQUEST, serde_json::to_string(&paths).unwrap_or_default())],
            labels: BTreeMap::from([(sub_paths::HELPER_OF.to_owned(), uid.to_owned())]),
            network: Some(NetworkMode::None),
            mounts: vec![Mount {
                source: MountSource::Existing("/".into()),
                target: HOST.into(),
                read_only,
                propagation: Propagation::Private,
            }],
            cap_drop: words(&["ALL"]),
            cap_add: words(&RIGHTS),
            security_options: words(&["label=disable"]),
            no_new_privileges: true,
            ..ContainerSpec::default()
        }
    }

    /// Why a volume cannot be mounted, when a line of the helper says so.
    pub fn refusal(&self, line: &str) -> Option<MountError> {
        let (number, why) = sub_paths::refused(line)?;
        let (volume, _) = self.0.get(number)?;
        Some(MountError { volume: volume.clone(), why: why.to_owned() })
    }
}
