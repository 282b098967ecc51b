//! What is asked of `skiff bind-paths`: to find sub-paths inside volumes, and to hand them to the engine. Pure.
//!
//! A container may write into a volume whatever it likes, links too. So the engine, which follows links on its host, is never given
//! a path that leads through one. Before a container with sub-paths is created, skiff's own program runs in a container that sees
//! those volumes and nothing of the host:
//!
//! ```text
//!  helper: skiff bind-paths                                    the engine's host
//!  /paths/<volume>          the volume                         …/skiff_<cluster>_pod_<uid>_sub.paths/_data   (memory, root only)
//!    └── a/b  ── walked, one name at a time, no links;           └── <container>.<attempt>.<n>  the same mount, for the engine
//!            opened, and what was opened is bound to
//!  /exchange/<container>.<attempt>.<n>   (shared with the host) ──►
//! ```
//!
//! **Invariants**: what the container gets is the very inode that was opened: between look and mount there is no path to resolve.
//! The engine's path leads through directories that only the host's root writes, so it cannot be turned to anything else, neither
//! now nor when somebody restarts the container by hand: it shows the same inode while the sandbox runs, and after that there is
//! nothing at it, so that the start fails and the pod gets a new attempt. Names hold the attempt: no other mount comes to an old one.
//!
//! Nothing is bound anywhere but in that memory, which the helper makes sure of: when a volume is removed, the engine removes all
//! that is below its path, mounts included, if they were not gone with the volume's own.
//!
//! Rejected: `/proc/<pid>/fd/<n>` of a process in the sandbox as the source (the kernel binds nothing across mount namespaces:
//! `EINVAL` on every version); the engine's own `Subpath` (from 26 on only, and it follows links from one volume to another).
//!
//! **Not here**: the walk (`roles::bind_paths`); volumes of files, which no container can write: the engine follows skiff's own
//! links there. A `hostPath` itself is the user's word and is resolved by the engine, links and all, as in Kubernetes.
//! **Source** of when and how directories are made: `pkg/volume/util/subpath/subpath_linux.go`, v1.37. Unlike there, a link in the
//! way is refused even if it stays inside.

use crate::{
    base::{ordered::Map, secret::variable},
    engine::{ContainerSpec, Mount, MountSource, NetworkMode, Propagation},
    node::{identity::short_hash, translate::ConfigError},
};
use k8s_openapi::api::core::v1::VolumeMount;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Where the volumes are in the helper, by name.
const PATHS: &str = "/paths";
/// Where the exchange is in the helper.
pub const EXCHANGE: &str = "/exchange";
/// Where the exchange's volume is in the helper once more, so that it is held.
const HELD: &str = "/held";
/// The variable by which the helper is told what to do.
pub const REQUEST: &str = "SKIFF_SUB_PATHS";
/// What a helper's complaint begins with; the number of what it was asked for follows, and why.
pub const REFUSED: &str = "refused";
/// The label of a helper: the UID of the pod that it works for.
pub const HELPER_OF: &str = "dev.skiff.helper-of";

/// What the helper needs: to walk and make directories whoever owns them, and to mount.
const RIGHTS: [&str; 2] = ["DAC_OVERRIDE", "SYS_ADMIN"];
/// The engine's profiles forbid mounts even to who has the capability.
const PROFILES: [&str; 3] = ["apparmor=unconfined", "label=disable", "seccomp=unconfined"];

/// Where a pod's sub-paths are exchanged.
#[derive(Clone, Copy, Debug)]
pub struct Exchange<'a> {
    /// The pod's UID.
    pub uid: &'a str,
    /// The shared volume.
    pub volume: &'a str,
    /// Its path on the engine's host.
    pub path: &'a str,
}

/// What the helper does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// What is removed first: entries of the exchange that begin so are those of earlier attempts.
    pub replaces: String,
    /// What is bound.
    pub binds: Vec<Bind>,
}

/// One sub-path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bind {
    /// The volume's directory in the helper.
    pub volume: String,
    /// The path inside it.
    pub path: String,
    /// Its name in the exchange.
    pub name: String,
}

/// A sub-path of a volume that containers may write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SubPath {
    /// The name of the mount's volume.
    volume: String,
    /// What the volume is to the engine.
    source: MountSource,
    /// The path inside it.
    path: String,
    /// The path as the pod's spec has it. One that is an expression may hold what is nobody's to read once it is expanded.
    told: String,
    is_expression: bool,
    /// Whether nothing may be made in it.
    is_read_only: bool,
}

impl SubPath {
    /// The sub-path of a mount: what its volume is to the engine, and the path inside it, which is there where nothing may be made.
    pub(super) fn new(mount: &VolumeMount, source: MountSource, path: String, is_read_only: bool) -> Self {
        let expression = mount.sub_path_expr.clone().filter(|path| !path.is_empty());
        let is_expression = expression.is_some();
        let told = expression.unwrap_or_else(|| path.clone());
        Self { volume: mount.name.clone(), source, path, told, is_expression, is_read_only }
    }
}

/// The sub-paths of a container, in the order of its mounts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubPaths(Vec<SubPath>);

impl SubPaths {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds one; returns its number.
    pub(super) fn add(&mut self, sub_path: SubPath) -> usize {
        self.0.push(sub_path);
        self.0.len() - 1
    }

    fn request(&self, container: &str, attempt: u32) -> Request {
        let bind = |(n, sub): (usize, &SubPath)| Bind {
            volume: format!("{PATHS}/{}", sub.volume),
            path: sub.path.clone(),
            name: entry(container, attempt, n),
        };
        Request { replaces: entries(container), binds: self.0.iter().enumerate().map(bind).collect() }
    }

    /// The helper's specification. Its name is the same for every attempt, so there is one at a time.
    pub fn helper(&self, image: &str, container: &str, attempt: u32, exchange: &Exchange<'_>) -> ContainerSpec {
        let volumes: Map<String, (&MountSource, bool)> =
            self.0.iter().map(|sub| (format!("{PATHS}/{}", sub.volume), (&sub.source, sub.is_read_only))).collect();
        let volumes = volumes.into_iter().map(|(target, (source, read_only))| (source.clone(), target, read_only));
        let Exchange { uid, volume, path } = *exchange;
        // With the volume itself it is certain to be mounted, whatever becomes of the sandbox meanwhile.
        let held = (MountSource::Volume(volume.to_owned()), HELD.to_owned(), false);
        let shared = (MountSource::Shared(path.to_owned()), EXCHANGE.to_owned(), false);
        let mount =
            |(source, target, read_only)| Mount { source, target, read_only, propagation: Propagation::Private };
        let request = serde_json::to_string(&self.request(container, attempt)).unwrap_or_default();
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        ContainerSpec {
            name: format!("skiff_paths_{uid}_{}", short_hash(&[container])),
            image: image.to_owned(),
            command: words(&["bind-paths"]),
            env: vec![variable(REQUEST, request)],
            labels: BTreeMap::from([(HELPER_OF.to_owned(), uid.to_owned())]),
            network: Some(NetworkMode::None),
            mounts: volumes.chain([held, shared]).map(mount).collect(),
            cap_drop: words(&["ALL"]),
            cap_add: words(&RIGHTS),
            security_options: words(&PROFILES),
            no_new_privileges: true,
            ..ContainerSpec::default()
        }
    }

    /// What a line of the helper means: nothing yet, done, or why the container cannot have what it wants. `mounts` says which.
    pub fn refusal(&self, container: &str, line: &str) -> Option<ConfigError> {
        let (number, why) = refused(line)?;
        let sub = self.0.get(number)?;
        let after_names = why.rsplit_once('"').map_or(why, |(_, rest)| rest.trim_start_matches([':', ' ']));
        let why = if sub.is_expression { after_names } else { why };
        Some(ConfigError::Other(format!(
            "failed to prepare subPath for volumeMount {:?} of container {container:?}: subPath {:?}: {why}",
            sub.volume, sub.told
        )))
    }
}

/// Which of the things that a helper was asked for cannot be had, and why, when it says so.
pub(super) fn refused(line: &str) -> Option<(usize, &str)> {
    let (number, why) = line.strip_prefix(REFUSED)?.trim_start().split_once(' ')?;
    Some((number.parse().ok()?, why))
}

/// What the names of a container's entries begin with. A container's name holds no dot.
fn entries(container: &str) -> String {
    format!("{container}.")
}

/// The name of an entry of the exchange.
pub(super) fn entry(container: &str, attempt: u32, number: usize) -> String {
    format!("{}{attempt}.{number}", entries(container))
}
