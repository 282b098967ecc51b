//! A pod's volumes: what they hold, and what containers mount.
//!
//! Called by `execute`. Pure: what must be looked up comes through [`Source`].
//!
//! ```text
//!  Docker volume skiff_<cluster>_pod_<uid>, mounted into the sandbox
//!  ├── .termination-logs/           see `termination`
//!  └── <volume>/                    emptyDir: a plain directory; containers bind <Mountpoint>/<volume>
//!      ├── ..<hash>_<time>/<path>   files of ConfigMaps, Secrets, projections
//!      ├── ..data -> ..<hash>_<time>  replaced in one step, so that readers see all old files or all new ones
//!      └── <path> -> ..data/<path>  made and removed by the sandbox; nothing that the engine unpacks has a name that readers use
//! ```
//!
//! A volume that shows a Secret or a token is a Docker volume of its own, in memory, mounted over its directory: it is written once the
//! sandbox runs, and is gone when nobody mounts it. Nothing of it is in the sandbox's environment, nor on a disk.
//!
//! **Invariants**: the same objects give the same hash, which so tells whether files must be written again.
//! **Not here**: writing the files (the sandbox does, see `roles/pause`), claims' own life (`controllers`).
//! **Source**: `pkg/volume/util/atomic_writer.go`, `pkg/volume/{configmap,secret,projected,downwardapi,emptydir}`, v1.37.

mod archive;
pub mod host_paths;
pub mod sub_paths;
#[cfg(test)]
mod tests;

use super::{
    identity::{exchange_name, memory_volume_name, short_hash, volume_name},
    termination,
    translate::{ConfigError, Lookup, NodeFacts, fields},
};
use crate::{
    api::quantity,
    base::{
        ordered::{Map, Set},
        secret::Variable,
    },
    engine::{MemoryVolume, Mount, MountSource, Propagation},
};
pub use archive::publish_all;
use archive::{File, Files, Tree};
use host_paths::{HostPaths, PathType};
use jiff::Timestamp;
use k8s_openapi::{
    ByteString,
    api::core::v1::{
        ConfigMapVolumeSource, Container, DownwardAPIVolumeFile, EmptyDirVolumeSource, HostPathVolumeSource,
        ImageVolumeSource, KeyToPath, Pod, ProjectedVolumeSource, SecretVolumeSource, ServiceAccountTokenProjection,
        Volume, VolumeMount, VolumeProjection,
    },
};
use std::{cell::Cell, collections::BTreeMap, net::Ipv4Addr};
use sub_paths::{SubPath, SubPaths};

/// Where the pod's Docker volume is in the sandbox.
pub const MOUNT_POINT: &str = "/volumes";
/// Where the sandbox holds the exchange of sub-paths, for as long as it runs.
const EXCHANGE_HELD: &str = "/exchange";
/// Where the volumes of claims are in the sandbox, which makes them ready for their pod.
pub const CLAIMS: &str = "/claims";
/// What the sandbox prints once the pod's files are there.
pub const FILES_READY: &str = "ready";
/// Files of more bytes than this do not fit into the sandbox's environment (one variable holds 128 KiB) and are uploaded.
pub const INLINE_MAX: usize = 72 * 1024;
/// The longest path that Linux takes. Source: `PATH_MAX`, `include/uapi/linux/limits.h`.
const PATH_BYTES_MAX: usize = 4096;
/// How much the files of all volumes of a pod may take together; an object has 1 MiB at most.
const FILES_BYTES_MAX: usize = 64 << 20;
/// What a file takes beside its path and its contents: the head of an entry in the archive, and what fills its last block.
const FILE_COST: usize = 1024;
/// How much memory the files of a volume may take: those of the past and those of the present, of which Kubernetes takes 1 MiB each.
const SECRET_BYTES_MAX: u64 = 64 << 20;
/// The mode of files whose volume names none.
const FILE_MODE: u32 = 0o644;

/// A token for a volume.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    /// The token.
    pub text: String,
    /// The same for tokens that stand for each other: one need not be written over another.
    pub state: String,
}

/// Looks up what volumes refer to, tokens included.
pub trait Source: Lookup {
    /// A token of the pod's service account.
    ///
    /// # Errors
    /// When there is none; the text says why.
    fn token(&self, pod: &Pod, projection: &ServiceAccountTokenProjection) -> Result<Token, String>;
    /// The volume of a claim.
    ///
    /// # Errors
    /// When the claim does not exist or has none (yet), or none that can be mounted; the text says which.
    fn claim(&self, namespace: &str, name: &str) -> Result<Claimed, String>;
}

/// What the volume of a claim is to the engine.
#[derive(Clone, Debug, PartialEq)]
pub enum Claimed {
    /// A Docker volume.
    Docker {
        /// Its name.
        name: String,
        /// The labels by which people find it.
        labels: BTreeMap<String, String>,
    },
    /// A path of the engine's host, as a `hostPath` has it.
    Host(HostPathVolumeSource),
}

/// Why a volume cannot be mounted; the text is that of the Event `FailedMount`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("MountVolume.SetUp failed for volume \"{volume}\" : {why}")]
pub struct MountError {
    /// The volume's name in the pod.
    pub volume: String,
    /// Why.
    pub why: String,
}

/// What a volume's mounts show.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Shown {
    /// This directory of the pod's Docker volume.
    Directory,
    /// A host path; one that has a type must be there.
    Host(MountSource),
    /// A Docker volume.
    Docker(String),
    /// Files in a Docker volume in memory.
    Secret(String),
    /// The files of an image; which one is known once it has been looked up.
    Image,
}

/// A pod's volumes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    shown: Map<String, Shown>,
    tree: Tree,
    /// Memory-backed Docker volumes to make, by name.
    pub memory: Vec<(String, MemoryVolume)>,
    /// Docker volumes of claims to make where they are not there: the volume in the pod, the Docker volume, its labels.
    pub claims: Vec<(String, String, BTreeMap<String, String>)>,
    /// Memory-backed volumes that hold files, by volume.
    secrets: BTreeMap<String, String>,
    /// Host paths to look at before anything is made.
    pub host_paths: HostPaths,
    /// Volumes that are only read, whatever their mounts say.
    read_only: Set<String>,
    /// Whether a container mounts a part of a volume that containers write (see `sub_paths`).
    pub has_sub_paths: bool,
    /// Whether a container has a file for its termination message.
    has_termination_logs: bool,
}

/// Where the pod's volumes are on the engine's host; empty for what it does not need.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Roots {
    /// The Docker volume with its directories and files.
    pub own: String,
    /// The one where sub-paths are exchanged.
    pub exchange: String,
}

impl Plan {
    /// Whether the pod needs a Docker volume of its own.
    pub fn needs_volume(&self) -> bool {
        self.has_files() || self.has_termination_logs
    }

    /// Whether directories and files are written into it, beside those for termination messages.
    pub fn has_files(&self) -> bool {
        !self.tree.is_empty()
    }

    /// The directories and files as a tar archive, to be unpacked at [`MOUNT_POINT`].
    ///
    /// # Errors
    /// When an archive cannot hold them.
    pub fn archive(&self, at: Timestamp) -> std::io::Result<Vec<u8>> {
        self.tree.to_tar(at)
    }

    /// Whether files come from objects that may change.
    pub fn follows_objects(&self) -> bool {
        self.tree.has_files()
    }

    /// Whether files may be written only into memory, and so only while the sandbox runs.
    pub fn has_secrets(&self) -> bool {
        !self.secrets.is_empty()
    }

    /// A hash of everything that is written.
    pub fn hash(&self) -> String {
        if self.needs_volume() { short_hash(&[&self.tree.fingerprint()]) } else { String::new() }
    }

    /// What the sandbox mounts: the pod's volume, and every memory-backed one, which lives as long as somebody mounts it.
    pub fn sandbox_mounts(&self, cluster: &str, uid: &str) -> Vec<Mount> {
        let volume = |name: String, target: String| Mount {
            source: MountSource::Volume(name),
            target,
            read_only: false,
            propagation: Propagation::Private,
        };
        let own = self.needs_volume().then(|| volume(volume_name(cluster, uid), MOUNT_POINT.to_owned()));
        let is_empty_dir = |(name, _): &&(String, MemoryVolume)| !self.secrets.values().any(|secret| secret == name);
        let memory = self.memory.iter().filter(is_empty_dir);
        let memory = memory.map(|(name, _)| volume(name.clone(), format!("/memory/{name}")));
        let secrets = self.secrets.iter().map(|(name, docker)| volume(docker.clone(), format!("{MOUNT_POINT}/{name}")));
        let claims = self.claims.iter().map(|(name, docker, _)| volume(docker.clone(), format!("{CLAIMS}/{name}")));
        let exchange = self.has_sub_paths.then(|| volume(exchange_name(cluster, uid), EXCHANGE_HELD.to_owned()));
        own.into_iter().chain(memory).chain(secrets).chain(claims).chain(exchange).collect()
    }

    /// What a container mounts, and the sub-paths that must be bound before it is created. `images`: the Docker volumes of those of its
    /// volumes that show images.
    pub fn mounts(
        &self,
        spec: &Container,
        attempt: u32,
        roots: &Roots,
        env: &[Variable],
        images: &BTreeMap<String, String>,
    ) -> Result<(Vec<Mount>, SubPaths), ConfigError> {
        let mut sub_paths = SubPaths::default();
        let mut mount = |mount: &VolumeMount| {
            let source = self.source(mount, roots, images)?;
            let source = match sub_path(mount, env)? {
                None => source,
                // What is in a volume of files, links too, is skiff's own.
                Some(path) if self.tree.is_read_only(&mount.name) => {
                    MountSource::Path(format!("{}/{path}", self.root_of_files(mount, roots)?))
                }
                Some(path) => {
                    let is_image = images.contains_key(&mount.name);
                    let number = sub_paths.add(SubPath::new(mount, source, path, is_image));
                    let entry = sub_paths::entry(&spec.name, attempt, number);
                    MountSource::Existing(format!("{}/{entry}", roots.exchange))
                }
            };
            let is_read_only = self.tree.is_read_only(&mount.name) || self.read_only.contains(&mount.name);
            let read_only = mount.read_only == Some(true) || is_read_only;
            let propagation = propagation(mount, &source)?;
            Ok(Mount { source, target: mount.mount_path.clone(), read_only, propagation })
        };
        let mounts = spec.volume_mounts.iter().flatten().map(&mut mount);
        let mut mounts = mounts.collect::<Result<Vec<_>, ConfigError>>()?;
        mounts.extend(termination::path_in(spec).map(|target| {
            let source = MountSource::Path(format!("{}/{}", roots.own, termination::file(&spec.name, attempt)));
            Mount { source, target, read_only: false, propagation: Propagation::Private }
        }));
        Ok((mounts, sub_paths))
    }

    /// What the whole volume of a mount is to the engine.
    fn source(
        &self,
        mount: &VolumeMount,
        roots: &Roots,
        images: &BTreeMap<String, String>,
    ) -> Result<MountSource, ConfigError> {
        let unknown = || ConfigError::Other(format!("volume {:?} not found", mount.name));
        match self.shown.get(&mount.name) {
            None => Err(unknown()),
            Some(Shown::Image) => images.get(&mount.name).cloned().map(MountSource::Volume).ok_or_else(unknown),
            Some(Shown::Directory) => Ok(MountSource::Path(format!("{}/{}", roots.own, mount.name))),
            Some(Shown::Host(source)) => Ok(source.clone()),
            Some(Shown::Docker(name) | Shown::Secret(name)) => Ok(MountSource::Volume(name.clone())),
        }
    }

    /// Where the files of a volume are on the engine's host.
    fn root_of_files(&self, mount: &VolumeMount, roots: &Roots) -> Result<String, ConfigError> {
        let Some(docker) = self.secrets.get(&mount.name) else { return Ok(format!("{}/{}", roots.own, mount.name)) };
        // The engine keeps the volumes of a pod beside each other, each under its name.
        let beside = |(parent, _): (&str, &str)| Some(format!("{}/{docker}/_data", parent.rsplit_once('/')?.0));
        let unknown = || ConfigError::Other(format!("cannot find the files of volume {:?}", mount.name));
        roots.own.rsplit_once('/').and_then(beside).ok_or_else(unknown)
    }
}

/// Who sees what is mounted below a mount. Source: `translateMountPropagation`, `pkg/kubelet/kubelet_pods.go`, v1.37.
fn propagation(mount: &VolumeMount, source: &MountSource) -> Result<Propagation, ConfigError> {
    let wanted = match mount.mount_propagation.as_deref() {
        Some("HostToContainer") => Propagation::FromHost,
        Some("Bidirectional") => Propagation::Both,
        _ => return Ok(Propagation::Private),
    };
    match source {
        MountSource::Path(_) | MountSource::Existing(_) => Ok(wanted),
        MountSource::Shared(_) | MountSource::Volume(_) | MountSource::Tmpfs(_) => Err(ConfigError::Other(format!(
            "skiff does not support mount propagation of volume {:?}: it is a volume of the engine's, not a path of its host",
            mount.name
        ))),
    }
}

/// Whether a mount shows a part of its volume.
fn has_sub_path(mount: &VolumeMount) -> bool {
    [&mount.sub_path, &mount.sub_path_expr].into_iter().flatten().any(|path| !path.is_empty())
}

/// Whether a volume holds files that only skiff writes.
fn is_of_files(volume: &Volume) -> bool {
    let sources = [
        volume.config_map.is_some(),
        volume.secret.is_some(),
        volume.downward_api.is_some(),
        volume.projected.is_some(),
    ];
    sources.contains(&true)
}

/// Whether a container mounts a part of a volume that containers write: that must be looked for, inside the volume, before.
pub fn needs_binding(pod: &Pod, spec: &Container) -> bool {
    let volumes = pod.spec.iter().flat_map(|s| s.volumes.iter().flatten());
    let of_files: Vec<&str> = volumes.filter(|v| is_of_files(v)).map(|v| v.name.as_str()).collect();
    let mut parts = spec.volume_mounts.iter().flatten().filter(|mount| has_sub_path(mount));
    parts.any(|mount| !of_files.contains(&mount.name.as_str()))
}

/// The volumes of a container that show images, by name.
pub fn images_of<'a>(pod: &'a Pod, spec: &Container) -> Map<&'a str, &'a ImageVolumeSource> {
    let volumes = pod.spec.iter().flat_map(|s| s.volumes.iter().flatten());
    let is_mounted = |volume: &&Volume| spec.volume_mounts.iter().flatten().any(|mount| mount.name == volume.name);
    volumes.filter(is_mounted).filter_map(|v| Some((v.name.as_str(), v.image.as_ref()?))).collect()
}

/// The part of a volume that a mount shows.
fn sub_path(mount: &VolumeMount, env: &[Variable]) -> Result<Option<String>, ConfigError> {
    let plain = mount.sub_path.clone().filter(|p| !p.is_empty());
    let expression = mount.sub_path_expr.as_deref().filter(|p| !p.is_empty());
    let path = match expression {
        Some(expression) => Some(super::translate::expand_all(
            expression,
            env,
            &format!("volumeMounts[{}].subPathExpr", mount.mount_path),
            PATH_BYTES_MAX,
        )?),
        None => plain,
    };
    match path {
        Some(path) if path.starts_with('/') || path.split('/').any(|part| part == "..") => {
            Err(ConfigError::Other(format!("subPath {path:?} must be a relative path without \"..\"")))
        }
        other => Ok(other),
    }
}

/// Plans a pod's volumes.
///
/// # Errors
/// When something that a volume shows is not there (yet).
pub fn plan(
    pod: &Pod,
    cluster: &str,
    source: &dyn Source,
    node: NodeFacts,
    pod_ip: Option<Ipv4Addr>,
) -> Result<Plan, MountError> {
    let spec = pod.spec.clone().unwrap_or_default();
    let group = spec.security_context.as_ref().and_then(|c| c.fs_group);
    let budget = Budget(Cell::new(FILES_BYTES_MAX));
    let mut planner = Planner { pod, cluster, source, node, pod_ip, group, budget, plan: Plan::default() };
    let mut containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    planner.plan.has_termination_logs = termination::wanted(pod).is_some();
    planner.plan.has_sub_paths = containers.any(|container| needs_binding(pod, container));
    for volume in spec.volumes.iter().flatten() {
        planner.add(volume).map_err(|why| MountError { volume: volume.name.clone(), why })?;
    }
    Ok(planner.plan)
}

struct Planner<'a> {
    pod: &'a Pod,
    cluster: &'a str,
    source: &'a dyn Source,
    node: NodeFacts,
    pod_ip: Option<Ipv4Addr>,
    group: Option<i64>,
    budget: Budget,
    plan: Plan,
}

/// How much the files of a pod may still take: one key of a ConfigMap may be shown under any number of paths.
struct Budget(Cell<usize>);

impl Budget {
    fn charge(&self, path: &str, bytes: usize) -> Result<(), String> {
        let left = self.0.get().checked_sub(bytes.saturating_add(path.len()).saturating_add(FILE_COST));
        self.0.set(
            left.ok_or_else(|| {
                format!("the files of the pod's volumes may not take more than {FILES_BYTES_MAX} bytes")
            })?,
        );
        Ok(())
    }
}

impl Planner<'_> {
    fn add(&mut self, volume: &Volume) -> Result<(), String> {
        let name = &volume.name;
        if let Some(empty) = &volume.empty_dir {
            self.add_empty(name, empty);
        } else if let Some(map) = &volume.config_map {
            let files = self.config_map(&map_projection(map), mode(map.default_mode))?;
            self.add_files(name, files)?;
        } else if let Some(secret) = &volume.secret {
            let files = self.secret(&secret_projection(secret), mode(secret.default_mode))?;
            self.add_files(name, files)?;
            self.keep_in_memory(name);
        } else if let Some(downward) = &volume.downward_api {
            let files = self.downward(downward.items.as_deref().unwrap_or_default(), mode(downward.default_mode))?;
            self.add_files(name, files)?;
        } else if let Some(projected) = &volume.projected {
            let files = self.projected(projected)?;
            self.add_files(name, files)?;
            let is_secret = |s: &VolumeProjection| s.secret.is_some() || s.service_account_token.is_some();
            if projected.sources.iter().flatten().any(is_secret) {
                self.keep_in_memory(name);
            }
        } else if let Some(host) = &volume.host_path {
            self.add_host_path(name, host);
        } else if let Some(claim) = &volume.persistent_volume_claim {
            self.add_claim(name, &claim.claim_name, claim.read_only == Some(true))?;
        } else if volume.image.is_some() {
            self.plan.read_only.insert(name.to_owned());
            self.show(name, Shown::Image);
        } else if volume.ephemeral.is_some() {
            let pod = self.pod.metadata.name.as_deref().unwrap_or_default();
            self.add_claim(name, &format!("{pod}-{name}"), false)?;
        } else {
            return Err("skiff does not support this type of volume".to_owned());
        }
        Ok(())
    }

    fn namespace(&self) -> &str {
        self.pod.metadata.namespace.as_deref().unwrap_or_default()
    }

    fn show(&mut self, name: &str, shown: Shown) {
        self.plan.shown.insert(name.to_owned(), shown);
    }

    fn add_empty(&mut self, name: &str, empty: &EmptyDirVolumeSource) {
        let bits = empty.mode.and_then(|m| u32::try_from(m).ok()).unwrap_or(0o777);
        // With a group, what is made inside belongs to it too.
        let bits = if self.group.is_some() { bits | 0o2000 } else { bits };
        if empty.medium.as_deref() == Some("Memory") {
            let uid = self.pod.metadata.uid.as_deref().unwrap_or_default();
            let docker = memory_volume_name(self.cluster, uid, name);
            let bytes_max = empty.size_limit.as_ref().and_then(quantity::wholes).and_then(|n| u64::try_from(n).ok());
            self.plan.memory.push((docker.clone(), MemoryVolume { bytes_max, mode: bits, group: self.group }));
            return self.show(name, Shown::Docker(docker));
        }
        self.plan.tree.add_directory(name, bits, self.group);
        self.show(name, Shown::Directory);
    }

    fn add_claim(&mut self, name: &str, claim: &str, is_read_only: bool) -> Result<(), String> {
        match self.source.claim(self.namespace(), claim)? {
            Claimed::Host(host) => self.add_host_path(name, &host),
            Claimed::Docker { name: docker, labels } => {
                // What is only read keeps its owners.
                let group = self.group.filter(|_| !is_read_only);
                let context = self.pod.spec.as_ref().and_then(|spec| spec.security_context.as_ref());
                let policy = context.and_then(|context| context.fs_group_change_policy.as_deref());
                self.plan.tree.add_claim(name, group, policy != Some("OnRootMismatch"));
                self.plan.claims.push((name.to_owned(), docker.clone(), labels));
                self.show(name, Shown::Docker(docker));
                if is_read_only {
                    self.plan.read_only.insert(name.to_owned());
                }
            }
        }
        Ok(())
    }

    fn add_host_path(&mut self, name: &str, host: &HostPathVolumeSource) {
        let source = match PathType::of(host) {
            None => MountSource::Path(host.path.clone()),
            Some(kind) => {
                self.plan.host_paths.add(name, &host.path, kind);
                MountSource::Existing(host.path.clone())
            }
        };
        self.show(name, Shown::Host(source));
    }

    fn add_files(&mut self, name: &str, files: Files) -> Result<(), String> {
        // Kubernetes lets the group read what the owner may read.
        let readable = |mode: u32| if self.group.is_some() { mode | 0o440 } else { mode };
        let files = files.into_iter().map(|(path, file)| (path, File { mode: readable(file.mode), ..file })).collect();
        self.plan.tree.add_files(name, files, self.group)?;
        self.show(name, Shown::Directory);
        Ok(())
    }

    /// The files of a volume are never on a disk.
    fn keep_in_memory(&mut self, name: &str) {
        let uid = self.pod.metadata.uid.as_deref().unwrap_or_default();
        let docker = memory_volume_name(self.cluster, uid, name);
        let memory = MemoryVolume { bytes_max: Some(SECRET_BYTES_MAX), mode: 0o777, group: self.group };
        self.plan.memory.push((docker.clone(), memory));
        self.plan.secrets.insert(name.to_owned(), docker.clone());
        self.show(name, Shown::Secret(docker));
    }

    fn config_map(&self, from: &Keyed<'_>, mode: u32) -> Result<Files, String> {
        let Some(map) = self.source.config_map(self.namespace(), from.name) else {
            return from.missing("configmap");
        };
        let text = map.data.iter().flatten().map(|(k, v)| (k.as_str(), v.as_bytes()));
        let binary = map.binary_data.iter().flatten().map(|(k, ByteString(v))| (k.as_str(), v.as_slice()));
        from.files(&text.chain(binary).collect(), mode, &self.budget)
    }

    fn secret(&self, from: &Keyed<'_>, mode: u32) -> Result<Files, String> {
        let Some(secret) = self.source.secret(self.namespace(), from.name) else {
            return from.missing("secret");
        };
        let data = secret.data.iter().flatten().map(|(k, ByteString(v))| (k.as_str(), v.as_slice()));
        from.files(&data.collect(), mode, &self.budget)
    }

    fn downward(&self, items: &[DownwardAPIVolumeFile], mode: u32) -> Result<Files, String> {
        let mut files = Files::new();
        for item in items {
            let value = match (&item.field_ref, &item.resource_field_ref) {
                (Some(field), _) => fields::pod_field(self.pod, &field.field_path, self.node, self.pod_ip),
                (None, Some(resource)) => fields::resource_field(self.pod, None, resource, self.node),
                (None, None) => Err(ConfigError::Other("a downward API file needs a field".into())),
            };
            let mode = item.mode.and_then(|m| u32::try_from(m).ok()).unwrap_or(mode);
            let value = value.map_err(|e| e.to_string())?;
            self.budget.charge(&item.path, value.len())?;
            files.insert(item.path.clone(), file(mode, value.into_bytes()));
        }
        Ok(files)
    }

    fn projected(&self, projected: &ProjectedVolumeSource) -> Result<Files, String> {
        let mode = mode(projected.default_mode);
        let mut all = Files::new();
        for source in projected.sources.iter().flatten() {
            all.extend(self.projection(source, mode)?);
        }
        Ok(all)
    }

    fn projection(&self, from: &VolumeProjection, mode: u32) -> Result<Files, String> {
        if let Some(map) = &from.config_map {
            return self.config_map(&Keyed::new(&map.name, map.items.as_deref(), map.optional), mode);
        }
        if let Some(secret) = &from.secret {
            return self.secret(&Keyed::new(&secret.name, secret.items.as_deref(), secret.optional), mode);
        }
        if let Some(downward) = &from.downward_api {
            return self.downward(downward.items.as_deref().unwrap_or_default(), mode);
        }
        if let Some(token) = &from.service_account_token {
            let Token { text, state } = self.source.token(self.pod, token)?;
            // Nobody but the pod's user reads a token.
            let mode = if self.group.is_some() { 0o600 } else { mode };
            let file = File { state: Some(state), ..file(mode, text.into_bytes()) };
            return Ok([(token.path.clone(), file)].into());
        }
        Err("skiff does not support this type of projected source".to_owned())
    }
}

fn file(mode: u32, bytes: Vec<u8>) -> File {
    File { mode, bytes, state: None }
}

fn mode(of_volume: Option<i32>) -> u32 {
    of_volume.and_then(|m| u32::try_from(m).ok()).unwrap_or(FILE_MODE)
}

/// An object by name, and which of its keys become which files.
struct Keyed<'a> {
    name: &'a str,
    items: Option<&'a [KeyToPath]>,
    optional: bool,
}

fn map_projection(map: &ConfigMapVolumeSource) -> Keyed<'_> {
    Keyed::new(&map.name, map.items.as_deref(), map.optional)
}

fn secret_projection(secret: &SecretVolumeSource) -> Keyed<'_> {
    Keyed::new(secret.secret_name.as_deref().unwrap_or_default(), secret.items.as_deref(), secret.optional)
}

impl<'a> Keyed<'a> {
    fn new(name: &'a str, items: Option<&'a [KeyToPath]>, optional: Option<bool>) -> Self {
        Self { name, items: items.filter(|i| !i.is_empty()), optional: optional == Some(true) }
    }

    fn missing(&self, kind: &str) -> Result<Files, String> {
        if self.optional { Ok(Files::new()) } else { Err(format!("{kind} {:?} not found", self.name)) }
    }

    fn files(&self, data: &Map<&str, &[u8]>, mode: u32, budget: &Budget) -> Result<Files, String> {
        let mut files = Files::new();
        let Some(items) = self.items else {
            for (key, bytes) in data {
                budget.charge(key, bytes.len())?;
                files.insert((*key).to_owned(), file(mode, bytes.to_vec()));
            }
            return Ok(files);
        };
        for item in items {
            let Some(bytes) = data.get(item.key.as_str()) else {
                if self.optional {
                    continue;
                }
                return Err(format!("references non-existent config key: {}", item.key));
            };
            let mode = item.mode.and_then(|m| u32::try_from(m).ok()).unwrap_or(mode);
            budget.charge(&item.path, bytes.len())?;
            files.insert(item.path.clone(), file(mode, bytes.to_vec()));
        }
        Ok(files)
    }
}
