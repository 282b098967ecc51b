//! Level 1: the container engine seam. What skiff needs of Docker, in our own small types.
//!
//! Two implementations: `docker` (bollard; the only file that names it) and `fake` (deterministic, for tests and the simulator; no release has it).
//! `contract` is the one suite that both must pass.
//!
//! **Invariants**: every call is bounded in time; a call whose reply is lost may have happened, and each says how a second try reads.

#[cfg(test)]
mod contract;
pub mod docker;
#[cfg(any(test, feature = "testing"))]
pub mod fake;
mod pull_progress;
pub mod self_image;
mod session;
mod signal;

pub use pull_progress::PullProgress;
pub use session::{Connected, Printed, Session, SessionControl, TerminalSize};
pub use signal::signal_number;

use crate::base::{
    ordered::{Map, Set},
    secret::{Secret, Variable},
    traffic::InterfaceUsage,
};
use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use jiff::Timestamp;
use std::{collections::BTreeMap, net::Ipv4Addr, time::Duration};

/// What went wrong with an engine call. The text names the call and the container, image or network.
#[derive(Debug, Clone, thiserror::Error)]
pub enum EngineError {
    /// The engine cannot be reached: not installed, not running, or no permission. The text says which, and the remedy.
    #[error("{0}")]
    Unreachable(String),
    /// The call took longer than its bound. It may have happened.
    #[error("{0}: no answer within {1:?}")]
    TimedOut(String, Duration),
    /// A command run in a container took longer than its bound and goes on, as this process of the engine's host (and its children), when
    /// the engine says as which.
    #[error("{0}: it did not end within {1:?}")]
    Overdue(String, Duration, Option<i64>),
    /// What the call names does not exist.
    #[error("{0}")]
    NotFound(String),
    /// The name is taken, or the container's state forbids the call.
    #[error("{0}")]
    Conflict(String),
    /// The engine refuses the request; trying again does not help.
    #[error("{0}")]
    Invalid(String),
    /// The engine failed; trying again may help.
    #[error("{0}")]
    Failed(String),
}

/// Label that names the cluster of every container, network and volume that skiff makes. The engine sets it; callers need not.
pub const CLUSTER_LABEL: &str = "dev.skiff.cluster";

/// Label of the container in which a control plane runs itself. It is no part of what the cluster runs: [`Engine::list`] passes it over.
pub const CONTROL_PLANE_LABEL: &str = "dev.skiff.control-plane";

/// How a container shares its network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NetworkMode {
    /// An address of its own on this network.
    Bridge(String),
    /// The network namespace of the container of this name or ID.
    Container(String),
    /// The host's.
    Host,
    /// None.
    None,
}

/// How a container shares a namespace that is not the network's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum NamespaceMode {
    /// The engine's default: private.
    #[default]
    Private,
    /// Its own, which others may join (IPC).
    Shareable,
    /// That of the container of this name or ID.
    Container(String),
    /// The host's.
    Host,
}

/// What is mounted at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// A host path (`/…`) or a volume's name.
    pub source: MountSource,
    /// Where in the container.
    pub target: String,
    /// Whether writes are refused.
    pub read_only: bool,
    /// Who sees mounts that are made below it later; only where its source is a path on the engine's host.
    pub propagation: Propagation,
}

/// Who sees what is mounted below a mount.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Propagation {
    /// Whoever mounts it.
    #[default]
    Private,
    /// What the host mounts, the container too.
    FromHost,
    /// The host and the container, whoever mounts it.
    Both,
}

/// What a mount shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MountSource {
    /// A path on the engine's host, resolved by the engine, links and all; a missing directory is made.
    Path(String),
    /// A path on the engine's host that must be there.
    Existing(String),
    /// A shared volume's path on the engine's host: mounts that the container makes below it are seen there too. The container
    /// mounts the volume itself as well; otherwise it may see the bare directory below, and leave its mounts there.
    Shared(String),
    /// A named volume.
    Volume(String),
    /// Memory, of at most this many bytes.
    Tmpfs(Option<u64>),
}

/// A container to create.
#[allow(clippy::struct_excessive_bools, reason = "each is a switch of its own in the engine's API")]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContainerSpec {
    /// Its name; the engine refuses a second of the same name, which makes creation idempotent.
    pub name: String,
    /// An image reference or ID that the engine has.
    pub image: String,
    /// Replaces the image's entrypoint when not empty.
    pub entrypoint: Vec<String>,
    /// Replaces the image's command when not empty. When `entrypoint` is given and this is empty, there are no arguments.
    pub command: Vec<String>,
    /// Environment, in order.
    pub env: Vec<Variable>,
    /// Working directory; empty: the image's.
    pub working_dir: String,
    /// `UID[:GID]`; empty: the image's.
    pub user: String,
    /// Further groups of its user, by number.
    pub groups: Vec<i64>,
    /// Host name; only where the network is its own.
    pub hostname: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Network; `None` is the engine's default bridge.
    pub network: Option<NetworkMode>,
    /// Its address on that network, a bridge; with it its neighbours know it under one hardware address. `None`: any that is free.
    pub address: Option<Ipv4Addr>,
    /// IPC namespace.
    pub ipc: NamespaceMode,
    /// PID namespace.
    pub pid: NamespaceMode,
    /// Mounts.
    pub mounts: Vec<Mount>,
    /// Memory limit in bytes.
    pub memory_bytes: Option<i64>,
    /// CPU limit in billionths of a CPU.
    pub nano_cpus: Option<i64>,
    /// Relative CPU weight (cgroup v1 shares) among the containers of its group.
    pub cpu_shares: Option<i64>,
    /// The group of processes that it is in, as the engine's cgroup driver names it; empty: where the engine has its own.
    pub cgroup_parent: String,
    /// Capabilities to add.
    pub cap_add: Vec<String>,
    /// Capabilities to drop.
    pub cap_drop: Vec<String>,
    /// All rights on the host.
    pub privileged: bool,
    /// Read-only root file system.
    pub read_only_root: bool,
    /// `no-new-privileges`.
    pub no_new_privileges: bool,
    /// Further security options, e.g. `seccomp=unconfined`.
    pub security_options: Vec<String>,
    /// Kernel parameters of its own namespaces.
    pub sysctls: BTreeMap<String, String>,
    /// Keeps standard input open.
    pub stdin: bool,
    /// Standard input ends with the first who gives some.
    pub stdin_once: bool,
    /// Gives a terminal.
    pub tty: bool,
    /// Signal of `stop`, e.g. `SIGTERM`; empty: the image's.
    pub stop_signal: String,
    /// Whether the engine itself restarts it when the engine starts (`unless-stopped`); never for pods.
    pub restart_with_engine: bool,
    /// Ports published on the host: (host address, host port, container port).
    pub publish: Vec<(std::net::IpAddr, u16, u16)>,
}

/// What of the machine a container may use; it can be changed while the container runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    /// Memory limit in bytes.
    pub memory_bytes: Option<i64>,
    /// CPU limit in billionths of a CPU, in the steps that the engine has.
    pub nano_cpus: Option<i64>,
    /// Relative CPU weight (cgroup v1 shares).
    pub cpu_shares: Option<i64>,
}

/// The period by which CPU limits are kept, and the least quota in it, in microseconds. Source: `QuotaPeriod` and `MinQuotaPeriod`,
/// `pkg/kubelet/cm/helpers_linux.go`, v1.37.
pub const CPU_PERIOD_MICROS: i64 = 100_000;
/// See [`CPU_PERIOD_MICROS`].
pub const CPU_QUOTA_MIN_MICROS: i64 = 1_000;
/// Billionths of a CPU that are a microsecond of quota in each period.
const NANO_CPUS_EACH: i64 = 1_000_000_000 / CPU_PERIOD_MICROS;

impl Resources {
    /// The CPU limit as a quota in each period, in microseconds.
    pub fn cpu_quota_micros(&self) -> Option<i64> {
        self.nano_cpus.map(|nano| (nano / NANO_CPUS_EACH).max(CPU_QUOTA_MIN_MICROS))
    }

    /// The CPU limit that a quota of so many microseconds in each period is.
    pub fn nano_cpus_of(quota_micros: i64) -> i64 {
        quota_micros.saturating_mul(NANO_CPUS_EACH)
    }

    /// The same in the engine's steps.
    #[must_use]
    pub fn in_steps(self) -> Self {
        Self { nano_cpus: self.cpu_quota_micros().map(Self::nano_cpus_of), ..self }
    }
}

/// The most that a specification may say in all: more than any program can be started with.
const SPEC_BYTES_MAX: usize = 8 << 20;

impl ContainerSpec {
    /// What of the machine it may use.
    pub fn resources(&self) -> Resources {
        let (memory_bytes, nano_cpus, cpu_shares) = (self.memory_bytes, self.nano_cpus, self.cpu_shares);
        Resources { memory_bytes, nano_cpus, cpu_shares }.in_steps()
    }

    /// Whether the engine may be asked to create it: a specification that is too big is not sent, whoever made it.
    ///
    /// # Errors
    /// `Invalid`.
    pub fn check_size(&self) -> Result<(), EngineError> {
        let bytes = self.bytes();
        if bytes <= SPEC_BYTES_MAX {
            return Ok(());
        }
        let name: String = self.name.chars().take(256).collect();
        Err(EngineError::Invalid(format!(
            "create container {name}: its specification has {bytes} bytes and may have {SPEC_BYTES_MAX}"
        )))
    }

    fn bytes(&self) -> usize {
        let one = [&self.name, &self.image, &self.working_dir, &self.user, &self.hostname, &self.stop_signal];
        let lists = [&self.entrypoint, &self.command, &self.cap_add, &self.cap_drop, &self.security_options];
        let pairs =
            self.env.iter().map(|(name, value)| (name, value.reveal())).chain(&self.labels).chain(&self.sysctls);
        let of_mount = |mount: &Mount| match &mount.source {
            MountSource::Path(source)
            | MountSource::Existing(source)
            | MountSource::Shared(source)
            | MountSource::Volume(source) => source.len() + mount.target.len(),
            MountSource::Tmpfs(_) => mount.target.len(),
        };
        one.into_iter().chain(lists.into_iter().flatten()).map(String::len).sum::<usize>()
            + pairs.map(|(name, value)| name.len() + value.len()).sum::<usize>()
            + self.mounts.iter().map(of_mount).sum::<usize>()
            + (self.publish.len() + self.groups.len()) * 8
    }
}

/// Where a container is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Never started.
    Created,
    /// Running (or paused, which counts as running).
    Running,
    /// Ended, or being restarted by somebody else.
    Exited,
}

/// A container as the engine knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    /// The engine's ID, 64 hexadecimal digits.
    pub id: String,
    /// Its name, without a leading slash.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// The image reference it was created from.
    pub image: String,
    /// The image's ID (`sha256:…`).
    pub image_id: String,
    /// Where it is in its life.
    pub phase: Phase,
    /// Exit code; meaningful when exited.
    pub exit_code: i32,
    /// Whether the kernel killed it for memory.
    pub oom_killed: bool,
    /// Why it could not start, in the engine's words; empty otherwise.
    pub error: String,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it last started.
    pub started_at: Option<Timestamp>,
    /// When it last ended.
    pub finished_at: Option<Timestamp>,
    /// Its address on its own network.
    pub ip: Option<Ipv4Addr>,
    /// The process ID of its first process, on the engine's host; 0 when not running.
    pub pid: i64,
    /// Whether a user told the engine to start it again when it ends (`docker update --restart`).
    pub restarts_itself: bool,
    /// What of the machine it may use.
    pub resources: Resources,
}

/// What happened to a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// It was created.
    Created,
    /// It started.
    Started,
    /// Somebody sent it this signal.
    Killed(i32),
    /// The kernel killed a process of it for memory.
    OutOfMemory,
    /// It ended with this exit code.
    Died(i32),
    /// It was removed.
    Removed,
    /// Somebody changed how the engine treats it, its restart policy perhaps (`docker update`).
    Updated,
}

/// An engine event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EngineEvent {
    /// Something happened to a container of this cluster.
    Container {
        /// Its ID.
        id: String,
        /// Its name.
        name: String,
        /// Its labels.
        labels: BTreeMap<String, String>,
        /// What.
        kind: EventKind,
        /// When, by the engine's clock.
        at: Timestamp,
    },
    /// A container of whomever was connected to a network or disconnected from one, by a person or because it starts or ends; or,
    /// without a container, a network was made.
    Network {
        /// The network's name.
        network: String,
        /// The container's ID.
        container: Option<String>,
        /// When, by the engine's clock.
        at: Timestamp,
    },
    /// An image was tagged, pulled, loaded or removed: what is local may have changed.
    Images,
    /// The stream was interrupted (the engine restarted, say) and is back: events may have been lost, so list again.
    Resync,
}

/// An image that the engine has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image {
    /// `sha256:…`.
    pub id: String,
    /// `repository:tag` names.
    pub tags: Vec<String>,
    /// `repository@sha256:…` names; none when it was built here, unless the engine keeps images as registries do: then the digest is the ID.
    pub digests: Vec<String>,
    /// Size in bytes.
    pub size_bytes: i64,
    /// `USER` of the image.
    pub user: String,
    /// `ENTRYPOINT` and `CMD`, joined: empty when it has no program.
    pub command: Vec<String>,
    /// `STOPSIGNAL` of the image; empty when it has none.
    pub stop_signal: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// What running it needs nothing of; empty in lists.
    pub details: ImageDetails,
}

/// What an image says of itself beside what its containers need.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageDetails {
    /// When it was made.
    pub created_at: Option<Timestamp>,
    /// E.g. `amd64`.
    pub architecture: String,
    /// `ENTRYPOINT`.
    pub entrypoint: Vec<String>,
    /// `CMD`.
    pub command: Vec<String>,
    /// `ENV`, each `NAME=VALUE`.
    pub env: Vec<String>,
    /// `WORKDIR`.
    pub working_dir: String,
    /// `EXPOSE`, each `PORT/PROTOCOL`.
    pub exposed_ports: Vec<String>,
    /// `VOLUME`.
    pub volumes: Vec<String>,
    /// The digests of its layers, the lowest first.
    pub layers: Vec<String>,
}

/// What a registry is told of who pulls.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Credentials {
    /// The user; empty where a token says it.
    pub username: String,
    /// Their password.
    pub password: Secret<String>,
    /// A token that stands for both; empty where there is none.
    pub identity_token: Secret<String>,
    /// The registry that they are for, as who has them names it.
    pub server: String,
}

/// What a pull or a push failed with; the texts are the engine's.
#[derive(Clone, Debug, thiserror::Error)]
pub enum PullError {
    /// The image does not exist, or may not be read: trying again at once does not help.
    #[error("{0}")]
    Refused(String),
    /// The registry could not be reached or the engine failed.
    #[error("{0}")]
    Failed(String),
}

/// One of the two streams that a program prints to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogStream {
    /// Standard output; all that a terminal shows is that.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Which part of a log to read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogOptions {
    /// Go on with what comes.
    pub follow: bool,
    /// Only the last lines.
    pub tail: Option<u64>,
    /// Only what came at or after this time.
    pub since: Option<Timestamp>,
    /// Begin every line with its time (RFC 3339, nanoseconds) and a space.
    pub timestamps: bool,
    /// Only this stream; `None`: both.
    pub stream: Option<LogStream>,
}

/// What a command run in a container did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExecOutput {
    /// Its exit code.
    pub exit_code: i64,
    /// The first 10 KiB of standard output and error, in order of arrival.
    pub output: Bytes,
}

/// The end of a file in a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileEnd {
    /// How many bytes the whole file has.
    pub size_bytes: u64,
    /// When it was last written, by the engine's clock.
    pub modified_at: Timestamp,
    /// Its last bytes.
    pub content: Bytes,
}

/// The longest file whose end is read: an engine gives files from their beginning.
pub const FILE_BYTES_MAX: u64 = 1 << 20;

/// A network's facts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    /// The engine's ID.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Its subnet in CIDR form.
    pub subnet: String,
    /// The gateway: the host's address on it.
    pub gateway: Ipv4Addr,
    /// The bridge interface on the engine's host.
    pub bridge: String,
}

/// A network to create.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkSpec {
    /// Its name.
    pub name: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Its subnet in CIDR form.
    pub subnet: String,
    /// The part of the subnet that containers get addresses from.
    pub ip_range: String,
    /// The host's address on it.
    pub gateway: Ipv4Addr,
    /// The bridge interface's name on the host (at most 15 characters).
    pub bridge: String,
}

/// A volume in memory to create.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryVolume {
    /// How many bytes it holds at most; the engine's own bound otherwise.
    pub bytes_max: Option<u64>,
    /// The mode of its directory.
    pub mode: u32,
    /// The group of its directory; root's otherwise.
    pub group: Option<i64>,
}

/// What a container has used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// When, by the engine's clock.
    pub at: Timestamp,
    /// Processor time since it started, in billionths of a second.
    pub cpu_nanos: u64,
    /// Memory in use, the file cache included, in bytes.
    pub memory_bytes: u64,
    /// Memory in use without the file cache that nobody has touched for a while: what the kernel cannot take back at once, in bytes.
    pub working_set_bytes: u64,
    /// Memory that is backed by no file, in bytes.
    pub rss_bytes: u64,
    /// What went through its network interfaces, by their names: none where the network is another container's or the host's.
    pub interfaces: Map<String, InterfaceUsage>,
    /// What it read from disks and wrote to them.
    pub disks: Vec<DiskUsage>,
}

/// What a container read from a disk and wrote to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskUsage {
    /// The disk: its major and minor number.
    pub device: (u64, u64),
    /// Bytes read.
    pub read_bytes: u64,
    /// Bytes written.
    pub written_bytes: u64,
}

/// Facts about the engine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EngineInfo {
    /// Tells this engine from others, by whatever address it is reached.
    pub id: String,
    /// E.g. `20.10.24`.
    pub version: String,
    /// E.g. `1.41`.
    pub api_version: String,
    /// Operating system of the engine's host, e.g. `Debian GNU/Linux 12 (bookworm)`.
    pub os: String,
    /// Kernel of the engine's host.
    pub kernel: String,
    /// E.g. `amd64`.
    pub architecture: String,
    /// Processors.
    pub cpus: i64,
    /// Memory in bytes.
    pub memory_bytes: i64,
    /// How big the disk is that images and containers are on, in bytes; 0: not known.
    pub disk_bytes: u64,
    /// How much of it is free, in bytes, at the time of asking.
    pub disk_free_bytes: u64,
    /// Whether it runs as an ordinary user.
    pub rootless: bool,
    /// Whether its host confines programs by profiles of AppArmor.
    pub app_armor: bool,
    /// Who keeps the groups of processes: `cgroupfs`, `systemd`, or `none`.
    pub cgroup_driver: String,
    /// Where it takes the ranges of new networks from, when that was configured; each in CIDR form.
    pub address_pools: Vec<String>,
}

/// What the engine has beside this cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Neighbours {
    /// The names of the other clusters that have a container or a network.
    pub clusters: Set<String>,
    /// The IDs of the images that containers use which are not this cluster's.
    pub images: Set<String>,
}

/// A container engine. Every method is bounded in time; names and IDs are interchangeable where one is asked for.
#[async_trait]
pub trait Engine: Send + Sync + 'static {
    /// Facts about the engine; the cheapest call, and so the health check.
    async fn info(&self) -> Result<EngineInfo, EngineError>;

    /// What the engine has of others: other clusters, and what containers of whomever use.
    async fn neighbours(&self) -> Result<Neighbours, EngineError>;

    /// Every container of the cluster, dead ones included, but that of its control plane.
    async fn list(&self) -> Result<Vec<Container>, EngineError>;
    /// One container; `None` when it does not exist.
    async fn inspect(&self, container: &str) -> Result<Option<Container>, EngineError>;
    /// What a container has used until now; `None` when it does not exist or does not run.
    async fn usage(&self, container: &str) -> Result<Option<Usage>, EngineError>;
    /// Creates a container and returns its ID. `Conflict` when the name is taken; `NotFound` when the image is missing; `Invalid`
    /// without asking the engine when [`ContainerSpec::check_size`] says so.
    async fn create(&self, spec: &ContainerSpec) -> Result<String, EngineError>;
    /// Starts a container; fine when it runs already.
    async fn start(&self, container: &str) -> Result<(), EngineError>;
    /// Starts a container whose standard input is open, and gives it this input to its end. What is given is kept nowhere.
    async fn start_with_input(&self, container: &str, input: Bytes) -> Result<(), EngineError>;
    /// Sends a signal by name (`SIGTERM`); fine when the container is not running or gone.
    async fn kill(&self, container: &str, signal: &str) -> Result<(), EngineError>;
    /// Changes what of the machine a container may use, running or not. A second try finds nothing to do.
    async fn update(&self, container: &str, resources: &Resources) -> Result<(), EngineError>;
    /// Removes a container, running or not; fine when it is gone.
    async fn remove(&self, container: &str) -> Result<(), EngineError>;
    /// Unpacks a tar archive into a directory of a container, running or not.
    async fn upload(&self, container: &str, directory: &str, tar: Bytes) -> Result<(), EngineError>;
    /// Copies the files of a container that never ran, which are its image's, into a directory of another container. A second try writes
    /// them again. What the engine itself lays into every container (`/.dockerenv`, empty `/dev`, `/proc` and the like) is left out.
    async fn copy_image_files(&self, from: &str, to: &str, directory: &str) -> Result<(), EngineError>;
    /// The end of a regular file in a container, running or not: at most so many bytes. `None` when there is none of this path, or
    /// something else: what a link or a pipe leads to is never opened. The path before its last name is the engine's to resolve, so it
    /// must be one that no program in the container can change. `Invalid` when it has more than [`FILE_BYTES_MAX`] bytes.
    async fn file_end(&self, container: &str, path: &str, bytes_max: usize) -> Result<Option<FileEnd>, EngineError>;
    /// Runs a command in a running container and waits for it, at most `timeout`: then it goes on without being waited for, and the
    /// error is `Overdue`.
    async fn exec(&self, container: &str, command: &[String], timeout: Duration) -> Result<ExecOutput, EngineError>;
    /// Runs a command in a running container and talks with it. `Conflict` when the container does not run.
    async fn exec_session(
        &self,
        container: &str,
        command: &[String],
        connected: Connected,
    ) -> Result<Session, EngineError>;
    /// Talks with the program of a running container, from now on. `connected` tells what the container has: of a terminal that it
    /// lacks, or the other way round, nothing comes back that can be read. `Conflict` when the container does not run.
    async fn attach(&self, container: &str, connected: Connected) -> Result<Session, EngineError>;
    /// The container's output, in chunks, standard output and error together.
    async fn logs(
        &self,
        container: &str,
        options: &LogOptions,
    ) -> Result<BoxStream<'static, Result<Bytes, EngineError>>, EngineError>;
    /// What happens from now on. Never ends: an interrupted connection is made again, and [`EngineEvent::Resync`] says so.
    /// The first item is a `Resync` too, sent once events after it are certain to arrive.
    fn events(&self) -> BoxStream<'static, EngineEvent>;

    /// One image; `None` when the engine does not have it.
    async fn image(&self, reference: &str) -> Result<Option<Image>, EngineError>;
    /// Every image.
    async fn images(&self) -> Result<Vec<Image>, EngineError>;
    /// Pulls an image.
    async fn pull(
        &self,
        reference: &str,
        credentials: Option<&Credentials>,
        progress: &PullProgress,
    ) -> Result<(), PullError>;
    /// Asks the registry that an image's name says whether it has it. `Refused`: it has none, or tells nobody.
    async fn find_in_registry(&self, reference: &str, credentials: Option<&Credentials>) -> Result<(), PullError>;
    /// Gives an image to the registry that its name says.
    async fn push(&self, reference: &str, credentials: Option<&Credentials>) -> Result<(), PullError>;
    /// Makes an image of one layer from a tar archive; `entrypoint` is its program, `labels` its labels.
    async fn import_image(
        &self,
        reference: &str,
        tar: Bytes,
        entrypoint: &[String],
        labels: &BTreeMap<String, String>,
    ) -> Result<String, EngineError>;
    /// Makes an image with the content of another and a program and labels of its own, without moving the content.
    /// It keeps those labels of the other that are not given.
    async fn derive_image(
        &self,
        base: &str,
        reference: &str,
        entrypoint: &[String],
        labels: &BTreeMap<String, String>,
    ) -> Result<String, EngineError>;
    /// Gives an image one more name.
    async fn tag_image(&self, image: &str, reference: &str) -> Result<(), EngineError>;
    /// Removes a name of an image, and the image with its last; fine when it is gone.
    async fn remove_image(&self, reference: &str) -> Result<(), EngineError>;

    /// One network; `None` when it does not exist.
    async fn network(&self, name: &str) -> Result<Option<Network>, EngineError>;
    /// Creates a network. `Conflict` when the name or the range is taken.
    async fn create_network(&self, spec: &NetworkSpec) -> Result<Network, EngineError>;
    /// Removes a network; fine when it is gone.
    async fn remove_network(&self, name: &str) -> Result<(), EngineError>;

    /// Creates a volume; fine when it exists. Returns its path on the engine's host.
    async fn create_volume(&self, name: &str, labels: &BTreeMap<String, String>) -> Result<String, EngineError>;
    /// Creates a volume in memory; fine when it exists. It is empty again once nobody mounts it.
    async fn create_memory_volume(
        &self,
        name: &str,
        memory: MemoryVolume,
        labels: &BTreeMap<String, String>,
    ) -> Result<(), EngineError>;
    /// Creates a small volume in memory below which containers exchange mounts (see [`MountSource::Shared`]); fine when it exists.
    /// Returns its path on the engine's host, where only its root may look. It and the mounts are there while a container that
    /// mounts the volume runs, and gone after.
    async fn create_shared_volume(&self, name: &str, labels: &BTreeMap<String, String>) -> Result<String, EngineError>;
    /// The names of the cluster's volumes.
    async fn volumes(&self) -> Result<Vec<String>, EngineError>;
    /// Removes a volume; fine when it is gone.
    async fn remove_volume(&self, name: &str) -> Result<(), EngineError>;
}
