//! Between skiff's engine types and Docker's JSON. Pure.

use crate::base::{
    ordered::{CollectOrdered as _, Map},
    traffic::{Flow, InterfaceUsage},
};
use crate::engine::{
    CLUSTER_LABEL, CPU_PERIOD_MICROS, Container, ContainerSpec, Credentials, DiskUsage, EngineError, EngineEvent,
    EngineInfo, EventKind, Image, ImageDetails, LogOptions, LogStream, Mount, MountSource, NamespaceMode, Neighbours,
    Network, NetworkMode, NetworkSpec, Phase, Propagation, PullError, Resources, Usage, signal_number,
};
use bollard::{errors::Error, models, query_parameters as query};
use bytes::Bytes;
use jiff::Timestamp;
use std::{collections::BTreeMap, io::Read as _, net::Ipv4Addr};

/// Docker's labels; only ever built and sent, never iterated.
#[allow(clippy::disallowed_types, reason = "bollard's type")]
pub(super) type Labels = std::collections::HashMap<String, String>;
/// Docker's filters.
#[allow(clippy::disallowed_types, reason = "bollard's type")]
pub(super) type Filters = std::collections::HashMap<String, Vec<String>>;

/// The option of a bridge network that names its interface.
const BRIDGE_NAME: &str = "com.docker.network.bridge.name";
/// A log file's size and number. Source: kubelet `containerLogMaxSize` (10Mi) and `containerLogMaxFiles` (5), v1.37.
const LOG_BOUNDS: [(&str, &str); 2] = [("max-size", "10m"), ("max-file", "5")];

/// What the bits of Go's `fs.FileMode` mean that say what a file is: none of them is set for a regular one.
/// Source: `ModeType`, `io/fs`, Go 1.24.
const MODE_TYPE: u32 = 0x8f28_0000;

/// The size of a regular file, and when it was last written.
pub(super) fn regular_file(look: &bollard::container::PathStatResponse) -> Option<(u64, Timestamp)> {
    let is_regular = look.file_mode & MODE_TYPE == 0 && look.link_target.is_empty();
    let modified_at = look.modification_time.as_deref().and_then(|at| at.parse().ok()).unwrap_or_default();
    is_regular.then(|| (u64::try_from(look.size).unwrap_or_default(), modified_at))
}

/// What the one file of an archive holds, of which the end may be missing.
pub(super) fn file_in(archive: &[u8]) -> std::io::Result<Bytes> {
    let mut content = Vec::new();
    for entry in tar::Archive::new(archive).entries()? {
        let mut entry = entry?;
        if !entry.header().entry_type().is_file() {
            continue;
        }
        match entry.read_to_end(&mut content) {
            Err(err) if err.kind() != std::io::ErrorKind::UnexpectedEof => return Err(err),
            Ok(_) | Err(_) => break,
        }
    }
    Ok(content.into())
}

/// The caller's labels with the cluster's.
pub(super) fn labels(labels: &BTreeMap<String, String>, cluster: &str) -> Labels {
    let mut all: Labels = labels.clone().into_iter().collect();
    all.insert(CLUSTER_LABEL.into(), cluster.into());
    all
}

fn some_text(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

fn some_list(list: &[String]) -> Option<Vec<String>> {
    (!list.is_empty()).then(|| list.to_vec())
}

// Requests.

/// The body of a container's creation.
pub(super) fn create_body(spec: &ContainerSpec, labels: Labels, bounds_logs: bool) -> models::ContainerCreateBody {
    let exposed: Vec<String> = spec.publish.iter().map(|(_, _, port)| format!("{port}/tcp")).collect();
    models::ContainerCreateBody {
        image: Some(spec.image.clone()),
        entrypoint: some_list(&spec.entrypoint),
        cmd: some_list(&spec.command),
        env: Some(spec.env.iter().map(|(name, value)| format!("{name}={}", value.reveal())).collect()),
        working_dir: some_text(&spec.working_dir),
        user: some_text(&spec.user),
        hostname: some_text(&spec.hostname),
        labels: Some(labels),
        stop_signal: some_text(&spec.stop_signal),
        open_stdin: Some(spec.stdin),
        stdin_once: Some(spec.stdin_once),
        tty: Some(spec.tty),
        exposed_ports: some_list(&exposed),
        host_config: Some(host_config(spec, bounds_logs)),
        networking_config: networking_config(spec),
        ..Default::default()
    }
}

/// The address that a container asks for. Older engines make the hardware address from it as is done here; newer ones draw one unless
/// they are told.
fn networking_config(spec: &ContainerSpec) -> Option<models::NetworkingConfig> {
    let (address, NetworkMode::Bridge(network)) = (spec.address?, spec.network.as_ref()?) else { return None };
    let [a, b, c, d] = address.octets();
    let ipam = models::EndpointIpamConfig { ipv4_address: Some(address.to_string()), ..Default::default() };
    let endpoint = models::EndpointSettings {
        ipam_config: Some(ipam),
        mac_address: Some(format!("02:42:{a:02x}:{b:02x}:{c:02x}:{d:02x}")),
        ..Default::default()
    };
    Some(models::NetworkingConfig { endpoints_config: Some([(network.clone(), endpoint)].into()) })
}

fn host_config(spec: &ContainerSpec, bounds_logs: bool) -> models::HostConfig {
    let (binds, mounts): (Vec<&Mount>, Vec<&Mount>) = spec.mounts.iter().partition(|mount| is_bind(mount));
    // Docker's own `NanoCpus` refuses more than the machine has; a Kubernetes limit may be any number.
    let quota = spec.resources().cpu_quota_micros();
    models::HostConfig {
        network_mode: spec.network.as_ref().map(network_mode),
        ipc_mode: Some(namespace_mode(&spec.ipc, "private")),
        pid_mode: Some(namespace_mode(&spec.pid, "")),
        binds: Some(binds.into_iter().map(bind).collect()),
        mounts: Some(mounts.into_iter().map(mount).collect()),
        memory: spec.memory_bytes,
        // The same bound with swap: a limit of memory is not stretched by the disk.
        memory_swap: spec.memory_bytes,
        cpu_period: quota.map(|_| CPU_PERIOD_MICROS),
        cpu_quota: quota,
        cpu_shares: spec.cpu_shares,
        cgroup_parent: (!spec.cgroup_parent.is_empty()).then(|| spec.cgroup_parent.clone()),
        cap_add: some_list(&spec.cap_add),
        cap_drop: some_list(&spec.cap_drop),
        privileged: Some(spec.privileged),
        readonly_rootfs: Some(spec.read_only_root),
        security_opt: some_list(&security_options(spec)),
        group_add: some_list(&spec.groups.iter().map(ToString::to_string).collect::<Vec<_>>()),
        sysctls: (!spec.sysctls.is_empty()).then(|| spec.sysctls.clone().into_iter().collect()),
        restart_policy: spec.restart_with_engine.then(|| models::RestartPolicy {
            name: Some(models::RestartPolicyNameEnum::UNLESS_STOPPED),
            ..Default::default()
        }),
        port_bindings: (!spec.publish.is_empty()).then(|| port_bindings(spec)),
        log_config: bounds_logs.then(|| models::HostConfigLogConfig {
            typ: None,
            config: Some(LOG_BOUNDS.map(|(name, value)| (name.to_owned(), value.to_owned())).into()),
        }),
        init: Some(false),
        ..Default::default()
    }
}

/// What changes of a container that may use other resources.
pub(super) fn update_body(resources: &Resources) -> models::ContainerUpdateBody {
    let quota = resources.cpu_quota_micros();
    models::ContainerUpdateBody {
        memory: resources.memory_bytes,
        memory_swap: resources.memory_bytes,
        cpu_period: quota.map(|_| CPU_PERIOD_MICROS),
        cpu_quota: quota,
        cpu_shares: resources.cpu_shares,
        ..Default::default()
    }
}

/// What a registry is told of who pulls.
pub(super) fn credentials(of: &Credentials) -> bollard::auth::DockerCredentials {
    let some = |text: &String| (!text.is_empty()).then(|| text.clone());
    bollard::auth::DockerCredentials {
        username: some(&of.username),
        password: some(of.password.reveal()),
        serveraddress: some(&of.server),
        identitytoken: some(of.identity_token.reveal()),
        ..Default::default()
    }
}

/// What an inspected container may use.
fn resources_of(host: &models::HostConfig) -> Resources {
    let some = |number: Option<i64>| number.filter(|number| *number > 0);
    let period = some(host.cpu_period).unwrap_or(CPU_PERIOD_MICROS);
    let quota = some(host.cpu_quota).map(|quota| quota.saturating_mul(CPU_PERIOD_MICROS) / period);
    let nano_cpus = quota.map(Resources::nano_cpus_of).or(some(host.nano_cpus));
    Resources { memory_bytes: some(host.memory), nano_cpus, cpu_shares: some(host.cpu_shares) }
}

fn security_options(spec: &ContainerSpec) -> Vec<String> {
    let own = spec.no_new_privileges.then(|| "no-new-privileges".to_owned());
    own.into_iter().chain(spec.security_options.iter().cloned()).collect()
}

fn network_mode(mode: &NetworkMode) -> String {
    match mode {
        NetworkMode::Bridge(network) => network.clone(),
        NetworkMode::Container(other) => format!("container:{other}"),
        NetworkMode::Host => "host".into(),
        NetworkMode::None => "none".into(),
    }
}

fn namespace_mode(mode: &NamespaceMode, private: &str) -> String {
    match mode {
        NamespaceMode::Private => private.into(),
        // Only IPC knows the word; a process namespace can always be joined.
        NamespaceMode::Shareable if private.is_empty() => String::new(),
        NamespaceMode::Shareable => "shareable".into(),
        NamespaceMode::Container(other) => format!("container:{other}"),
        NamespaceMode::Host => "host".into(),
    }
}

/// A bind makes a missing host directory, as Kubernetes' runtimes do; but its text form cannot hold a colon.
fn is_bind(mount: &Mount) -> bool {
    matches!(&mount.source, MountSource::Path(path) if !path.contains(':') && !mount.target.contains(':'))
}

fn bind(mount: &Mount) -> String {
    let MountSource::Path(path) = &mount.source else { unreachable!("only paths are bound") };
    let propagation = match mount.propagation {
        Propagation::Private => None,
        Propagation::FromHost => Some("rslave"),
        Propagation::Both => Some("rshared"),
    };
    let options: Vec<&str> = mount.read_only.then_some("ro").into_iter().chain(propagation).collect();
    let begin = if options.is_empty() { "" } else { ":" };
    format!("{path}:{}{begin}{}", mount.target, options.join(","))
}

fn bind_options(propagation: Propagation) -> Option<models::MountBindOptions> {
    let propagation = match propagation {
        Propagation::Private => return None,
        Propagation::FromHost => models::MountBindOptionsPropagationEnum::RSLAVE,
        Propagation::Both => models::MountBindOptionsPropagationEnum::RSHARED,
    };
    Some(models::MountBindOptions { propagation: Some(propagation), ..Default::default() })
}

fn mount(mount: &Mount) -> models::Mount {
    let base =
        models::Mount { target: Some(mount.target.clone()), read_only: Some(mount.read_only), ..Default::default() };
    match &mount.source {
        MountSource::Path(path) | MountSource::Existing(path) => {
            let bind_options = bind_options(mount.propagation);
            models::Mount { typ: Some(models::MountType::BIND), source: Some(path.clone()), bind_options, ..base }
        }
        MountSource::Shared(path) => {
            let bind_options = bind_options(Propagation::Both);
            models::Mount { typ: Some(models::MountType::BIND), source: Some(path.clone()), bind_options, ..base }
        }
        MountSource::Volume(name) => models::Mount {
            typ: Some(models::MountType::VOLUME),
            source: Some(name.clone()),
            // A Kubernetes volume hides what the image has at its path; Docker would copy it in.
            volume_options: Some(models::MountVolumeOptions { no_copy: Some(true), ..Default::default() }),
            ..base
        },
        MountSource::Tmpfs(size) => {
            let size_bytes = size.and_then(|size| i64::try_from(size).ok());
            let tmpfs_options = Some(models::MountTmpfsOptions { size_bytes, ..Default::default() });
            models::Mount { typ: Some(models::MountType::TMPFS), tmpfs_options, ..base }
        }
    }
}

fn port_bindings(spec: &ContainerSpec) -> models::PortMap {
    let mut bindings = models::PortMap::new();
    for (ip, host_port, port) in &spec.publish {
        let binding = models::PortBinding { host_ip: Some(ip.to_string()), host_port: Some(host_port.to_string()) };
        bindings.entry(format!("{port}/tcp")).or_default().get_or_insert_default().push(binding);
    }
    bindings
}

/// The body of a network's creation.
pub(super) fn network_body(spec: &NetworkSpec, labels: Labels) -> models::NetworkCreateRequest {
    let pool = models::IpamConfig {
        subnet: Some(spec.subnet.clone()),
        ip_range: some_text(&spec.ip_range),
        gateway: Some(spec.gateway.to_string()),
        auxiliary_addresses: None,
    };
    models::NetworkCreateRequest {
        name: spec.name.clone(),
        driver: Some("bridge".into()),
        ipam: Some(models::Ipam { config: Some(vec![pool]), ..Default::default() }),
        options: Some([(BRIDGE_NAME.to_owned(), spec.bridge.clone())].into()),
        labels: Some(labels),
        ..Default::default()
    }
}

/// The query of a log. Docker counts `since` in whole seconds here.
pub(super) fn log_options(options: &LogOptions) -> query::LogsOptions {
    query::LogsOptions {
        follow: options.follow,
        stdout: options.stream != Some(LogStream::Stderr),
        stderr: options.stream != Some(LogStream::Stdout),
        since: options.since.map_or(0, |since| i32::try_from(since.as_second()).unwrap_or(i32::MAX)),
        until: 0,
        timestamps: options.timestamps,
        tail: options.tail.map_or_else(|| "all".into(), |tail| tail.to_string()),
    }
}

/// A reference as its repository and its tag or digest; `latest` when it has neither.
pub(super) fn split_reference(reference: &str) -> (String, String) {
    if let Some((repository, digest)) = reference.split_once('@') {
        return (repository.into(), digest.into());
    }
    match reference.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => (repository.into(), tag.into()),
        _ => (reference.into(), "latest".into()),
    }
}

/// Dockerfile lines that give an imported image its program and labels.
pub(super) fn changes(entrypoint: &[String], labels: &BTreeMap<String, String>) -> Vec<String> {
    let json = |text: &str| serde_json::Value::from(text).to_string();
    let mut lines: Vec<String> =
        labels.iter().map(|(name, value)| format!("LABEL {}={}", json(name), json(value))).collect();
    if !entrypoint.is_empty() {
        let words: Vec<String> = entrypoint.iter().map(|word| json(word)).collect();
        lines.push(format!("ENTRYPOINT [{}]", words.join(",")));
    }
    lines
}

/// A pull's error: refused by the registry, or failed on the way.
pub(super) fn pull_error(err: &Error) -> PullError {
    const REFUSALS: [&str; 8] = [
        "denied",
        "not found",
        "does not exist",
        "manifest unknown",
        "unauthorized",
        "no matching manifest",
        "invalid reference",
        "not implemented",
    ];
    let (status, text) = match err {
        Error::DockerResponseServerError { status_code, message } => (*status_code, message.clone()),
        Error::DockerStreamError { error } => (200, error.clone()),
        other => (0, other.to_string()),
    };
    // A registry that cannot be found is not an image that cannot be found.
    let is_network = text.contains("dial tcp") || text.contains("no such host");
    let lower = text.to_lowercase();
    if !is_network && (matches!(status, 400..=499) || REFUSALS.iter().any(|refusal| lower.contains(refusal))) {
        PullError::Refused(text)
    } else {
        PullError::Failed(text)
    }
}

// Replies.

/// A time as Docker writes it; its zero time is none.
fn time(text: Option<&str>) -> Option<Timestamp> {
    text?.parse::<Timestamp>().ok().filter(|time| time.as_second() > 0)
}

/// The engine's time as the `since` of an event stream; empty (from the start of its memory) when it did not say.
pub(super) fn since(system_time: Option<&str>) -> String {
    time(system_time).map_or_else(|| "0".into(), |time| format!("{}.{:09}", time.as_second(), time.subsec_nanosecond()))
}

/// A container from its inspection.
pub(super) fn container(found: models::ContainerInspectResponse) -> Result<Container, EngineError> {
    let incomplete = |what: &str| EngineError::Failed(format!("inspect container: the engine's answer has no {what}"));
    let state = found.state.ok_or_else(|| incomplete("State"))?;
    let config = found.config.unwrap_or_default();
    let host = found.host_config.unwrap_or_default();
    let resources = resources_of(&host);
    let mode = host.network_mode.unwrap_or_default();
    let policy = host.restart_policy.and_then(|policy| policy.name);
    Ok(Container {
        id: found.id.ok_or_else(|| incomplete("Id"))?,
        name: found.name.unwrap_or_default().trim_start_matches('/').to_owned(),
        labels: config.labels.unwrap_or_default().into_iter().collect_ordered(),
        image: config.image.unwrap_or_default(),
        image_id: found.image.unwrap_or_default(),
        phase: phase(&state),
        exit_code: state.exit_code.and_then(|code| i32::try_from(code).ok()).unwrap_or_default(),
        oom_killed: state.oom_killed.unwrap_or_default(),
        error: state.error.unwrap_or_default(),
        created_at: time(found.created.as_deref()).ok_or_else(|| incomplete("Created"))?,
        started_at: time(state.started_at.as_deref()),
        finished_at: time(state.finished_at.as_deref()),
        ip: found.network_settings.and_then(|settings| address(settings, &mode)),
        pid: state.pid.unwrap_or_default(),
        // What skiff makes has none, or `unless-stopped`.
        restarts_itself: matches!(
            policy,
            Some(models::RestartPolicyNameEnum::ALWAYS | models::RestartPolicyNameEnum::ON_FAILURE)
        ),
        resources,
    })
}

fn phase(state: &models::ContainerState) -> Phase {
    use models::ContainerStateStatusEnum as Status;
    match state.status {
        Some(Status::CREATED) => Phase::Created,
        Some(Status::RUNNING | Status::PAUSED | Status::STOPPING) => Phase::Running,
        _ => Phase::Exited,
    }
}

/// The address on the network that the container was made for, or on the first by name that has one.
fn address(settings: models::NetworkSettings, mode: &str) -> Option<Ipv4Addr> {
    let networks: Map<String, models::EndpointSettings> = settings.networks?.into_iter().collect();
    let ip = |endpoint: &models::EndpointSettings| endpoint.ip_address.as_deref()?.parse().ok();
    networks.get(mode).and_then(ip).or_else(|| networks.values().find_map(ip))
}

/// An image from its inspection.
pub(super) fn image(found: models::ImageInspect) -> Image {
    let config = found.config.unwrap_or_default();
    let (entrypoint, cmd) = (config.entrypoint.unwrap_or_default(), config.cmd.unwrap_or_default());
    let command = [&entrypoint[..], &cmd[..]].concat();
    let details = ImageDetails {
        created_at: found.created.and_then(|at| at.parse().ok()),
        architecture: found.architecture.unwrap_or_default(),
        entrypoint,
        command: cmd,
        env: config.env.unwrap_or_default(),
        working_dir: config.working_dir.unwrap_or_default(),
        exposed_ports: config.exposed_ports.unwrap_or_default(),
        volumes: config.volumes.unwrap_or_default(),
        layers: found.root_fs.and_then(|root| root.layers).unwrap_or_default(),
    };
    Image {
        id: found.id.unwrap_or_default(),
        tags: named(found.repo_tags.unwrap_or_default()),
        digests: named(found.repo_digests.unwrap_or_default()),
        size_bytes: found.size.unwrap_or_default(),
        user: config.user.unwrap_or_default(),
        command,
        stop_signal: config.stop_signal.unwrap_or_default(),
        labels: config.labels.unwrap_or_default().into_iter().collect_ordered(),
        details,
    }
}

/// The image with the names that the list has: names move, the rest never changes.
pub(super) fn with_names(image: Image, summary: models::ImageSummary) -> Image {
    Image { tags: named(summary.repo_tags), digests: named(summary.repo_digests), ..image }
}

fn named(names: Vec<String>) -> Vec<String> {
    names.into_iter().filter(|name| !name.contains("<none>")).collect()
}

/// A network from its inspection.
pub(super) fn network(found: models::NetworkInspect) -> Result<Network, EngineError> {
    let (id, name) = (found.id.unwrap_or_default(), found.name.unwrap_or_default());
    let pool = found.ipam.and_then(|ipam| ipam.config).and_then(|pools| pools.into_iter().next()).unwrap_or_default();
    let subnet = pool.subnet.unwrap_or_default();
    let gateway = pool.gateway.as_deref().and_then(|gateway| gateway.parse().ok()).or_else(|| first_host(&subnet));
    let bridge = found.options.and_then(|mut options| options.remove(BRIDGE_NAME));
    Ok(Network {
        gateway: gateway.ok_or_else(|| {
            EngineError::Invalid(format!("network {name} has no IPv4 gateway: skiff needs a bridge network with one"))
        })?,
        bridge: bridge.unwrap_or_else(|| format!("br-{}", id.get(..12).unwrap_or(&id))),
        labels: found.labels.unwrap_or_default().into_iter().collect_ordered(),
        subnet,
        id,
        name,
    })
}

/// The address that Docker gives a bridge when none was asked for.
fn first_host(subnet: &str) -> Option<Ipv4Addr> {
    let base: Ipv4Addr = subnet.split_once('/')?.0.parse().ok()?;
    u32::from(base).checked_add(1).map(Ipv4Addr::from)
}

/// The engine's facts.
pub(super) fn engine_info(version: models::SystemVersion, info: models::SystemInfo) -> EngineInfo {
    let security = info.security_options.unwrap_or_default();
    let has = |name: &str| security.iter().any(|option| option.split(',').any(|part| part == format!("name={name}")));
    let rootless = security.iter().any(|option| option.contains("rootless"));
    EngineInfo {
        id: engine_id(&version, info.id.as_ref()),
        version: version.version.unwrap_or_default(),
        api_version: version.api_version.unwrap_or_default(),
        os: info.operating_system.unwrap_or_default(),
        kernel: info.kernel_version.unwrap_or_default(),
        architecture: version.arch.unwrap_or_default(),
        cpus: info.ncpu.unwrap_or_default(),
        memory_bytes: info.mem_total.unwrap_or_default(),
        disk_bytes: disk(info.docker_root_dir.as_deref()).0,
        disk_free_bytes: disk(info.docker_root_dir.as_deref()).1,
        rootless,
        app_armor: has("apparmor"),
        cgroup_driver: info.cgroup_driver.map(|driver| driver.to_string()).unwrap_or_default(),
        address_pools: info.default_address_pools.into_iter().flatten().filter_map(|pool| pool.base).collect(),
    }
}

/// The size of the disk that the engine's folder is on, and how much of it is free, in bytes. Where that is not seen, in a container of the
/// engine's, the root is on it too.
pub(super) fn disk(folder: Option<&str>) -> (u64, u64) {
    let found = folder.into_iter().chain(["/"]).find_map(|folder| rustix::fs::statvfs(folder).ok());
    found.map_or((0, 0), |disk| (disk.f_blocks * disk.f_frsize, disk.f_bavail * disk.f_frsize))
}

/// Podman makes up an ID for every answer: it has none.
fn engine_id(version: &models::SystemVersion, id: Option<&String>) -> String {
    let mut parts = version.components.iter().flatten();
    let is_podman = parts.any(|part| part.name.starts_with("Podman"));
    id.filter(|_| !is_podman).cloned().unwrap_or_default()
}

/// What the engine has beside a cluster.
pub(super) fn neighbours(
    containers: Vec<models::ContainerSummary>,
    networks: Vec<models::Network>,
    cluster: &str,
) -> Neighbours {
    let mut found = Neighbours::default();
    let of = |labels: Option<&Labels>| labels.and_then(|labels| labels.get(CLUSTER_LABEL).cloned());
    for container in containers {
        let owner = of(container.labels.as_ref());
        if owner.as_deref() != Some(cluster) {
            found.images.extend(container.image_id);
            found.clusters.extend(owner);
        }
    }
    let owners = networks.iter().filter_map(|network| of(network.labels.as_ref()));
    found.clusters.extend(owners.filter(|owner| owner != cluster));
    found
}

// Events.

/// Which events the engine sends: what skiff reads, and not the three of every exec.
pub(super) fn event_filters() -> Filters {
    let list = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let of_containers = ["create", "start", "kill", "oom", "die", "destroy", "update"];
    let of_others = ["tag", "untag", "pull", "load", "import", "delete", "connect", "disconnect"];
    let events = [&of_containers[..], &of_others[..]].concat();
    [("type".to_owned(), list(&["container", "image", "network"])), ("event".to_owned(), list(&events))].into()
}

/// An engine event that concerns this cluster.
pub(super) fn event(message: models::EventMessage, cluster: &str) -> Option<EngineEvent> {
    if message.typ == Some(models::EventMessageTypeEnum::IMAGE) {
        return Some(EngineEvent::Images);
    }
    let at = message.time_nano.and_then(|nanos| Timestamp::from_nanosecond(nanos.into()).ok()).unwrap_or_default();
    if message.typ == Some(models::EventMessageTypeEnum::NETWORK) {
        let mut told = message.actor?.attributes.unwrap_or_default();
        let (network, container) = (told.remove("name").unwrap_or_default(), told.remove("container"));
        return (message.action.as_deref() != Some("destroy")).then_some(EngineEvent::Network {
            network,
            container,
            at,
        });
    }
    if message.typ != Some(models::EventMessageTypeEnum::CONTAINER) {
        return None;
    }
    let actor = message.actor?;
    let mut labels: BTreeMap<String, String> = actor.attributes.unwrap_or_default().into_iter().collect_ordered();
    if labels.get(CLUSTER_LABEL).map(String::as_str) != Some(cluster) {
        return None;
    }
    // The engine mixes facts about the event with the container's labels.
    let name = labels.remove("name")?;
    let (exit_code, signal) = (labels.remove("exitCode"), labels.remove("signal"));
    for fact in ["image", "execDuration"] {
        labels.remove(fact);
    }
    let kind = match message.action.as_deref()? {
        "create" => EventKind::Created,
        "start" => EventKind::Started,
        "kill" => EventKind::Killed(signal.as_deref().and_then(signal_number).unwrap_or_default()),
        "oom" => EventKind::OutOfMemory,
        "die" => EventKind::Died(exit_code.and_then(|code| code.parse().ok()).unwrap_or_default()),
        "destroy" => EventKind::Removed,
        "update" => EventKind::Updated,
        _ => return None,
    };
    Some(EngineEvent::Container { id: actor.id?, name, labels, kind, at })
}

/// What a container has used; `None` when it does not run, of which the engine tells nothing but zeroes.
/// Source of the working set: `setMemoryStats`, container/libcontainer/handler.go of cadvisor v0.52.
pub(super) fn usage(stats: models::ContainerStatsResponse) -> Option<Usage> {
    let at = time(stats.read.as_deref())?;
    let cpu_nanos = stats.cpu_stats.and_then(|cpu| cpu.cpu_usage).and_then(|usage| usage.total_usage);
    let memory = stats.memory_stats.unwrap_or_default();
    // The names of the second generation of control groups are the last of each pair.
    let counted = |names: [&str; 2]| {
        let counts = memory.stats.as_ref()?;
        names.iter().find_map(|name| counts.get(*name)).copied()
    };
    let memory_bytes = memory.usage?;
    let inactive = counted(["total_inactive_file", "inactive_file"]).unwrap_or_default();
    Some(Usage {
        at,
        cpu_nanos: cpu_nanos.unwrap_or_default(),
        memory_bytes,
        working_set_bytes: memory_bytes.saturating_sub(inactive),
        rss_bytes: counted(["total_rss", "anon"]).unwrap_or_default(),
        interfaces: stats.networks.into_iter().flatten().map(|(name, told)| (name, interface(&told))).collect(),
        disks: disks(stats.blkio_stats.and_then(|told| told.io_service_bytes_recursive).unwrap_or_default()),
    })
}

fn interface(told: &models::ContainerNetworkStats) -> InterfaceUsage {
    let flow = |counts: [Option<u64>; 4]| {
        let [bytes, packets, errors, dropped] = counts.map(Option::unwrap_or_default);
        Flow { bytes, packets, errors, dropped }
    };
    InterfaceUsage {
        received: flow([told.rx_bytes, told.rx_packets, told.rx_errors, told.rx_dropped]),
        sent: flow([told.tx_bytes, told.tx_packets, told.tx_errors, told.tx_dropped]),
    }
}

/// The bytes of each disk. The two generations of control groups write the words differently.
fn disks(entries: Vec<models::ContainerBlkioStatEntry>) -> Vec<DiskUsage> {
    let mut disks: Map<(u64, u64), DiskUsage> = Map::new();
    for entry in entries {
        let device = (entry.major.unwrap_or_default(), entry.minor.unwrap_or_default());
        let disk = disks.entry(device).or_insert(DiskUsage { device, ..DiskUsage::default() });
        let bytes = entry.value.unwrap_or_default();
        match entry.op.unwrap_or_default().to_ascii_lowercase().as_str() {
            "read" => disk.read_bytes += bytes,
            "write" => disk.written_bytes += bytes,
            _ => {}
        }
    }
    disks.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;
    use serde_json::json;

    fn body(spec: &ContainerSpec) -> String {
        let value = serde_json::to_value(create_body(spec, labels(&spec.labels, "c"), false)).unwrap();
        serde_json::to_string_pretty(&value).unwrap()
    }

    #[test]
    fn a_plain_container_asks_for_little() {
        let spec = ContainerSpec { name: "a".into(), image: "i".into(), ..ContainerSpec::default() };
        expect![[r#"
            {
              "Env": [],
              "HostConfig": {
                "Binds": [],
                "Init": false,
                "IpcMode": "private",
                "Mounts": [],
                "PidMode": "",
                "Privileged": false,
                "ReadonlyRootfs": false
              },
              "Image": "i",
              "Labels": {
                "dev.skiff.cluster": "c"
              },
              "OpenStdin": false,
              "StdinOnce": false,
              "Tty": false
            }"#]]
        .assert_eq(&body(&spec));
    }

    #[test]
    fn limits_mounts_and_namespaces_are_said_in_dockers_words() {
        let mount = |source, target: &str, read_only| Mount {
            source,
            target: target.into(),
            read_only,
            propagation: Propagation::Private,
        };
        let passed_on = |source, target: &str, propagation| Mount {
            propagation,
            ..mount(source, target, propagation == Propagation::FromHost)
        };
        let spec = ContainerSpec {
            name: "a".into(),
            image: "i".into(),
            network: Some(NetworkMode::Container("s".into())),
            ipc: NamespaceMode::Container("s".into()),
            pid: NamespaceMode::Shareable,
            nano_cpus: Some(2_500_000_000),
            memory_bytes: Some(64 << 20),
            mounts: vec![
                mount(MountSource::Path("/a".into()), "/b", true),
                mount(MountSource::Path("/a:x".into()), "/c", false),
                mount(MountSource::Volume("v".into()), "/d", false),
                mount(MountSource::Tmpfs(Some(1024)), "/e", false),
                mount(MountSource::Existing("/f".into()), "/f", false),
                mount(MountSource::Shared("/g".into()), "/g", false),
                passed_on(MountSource::Path("/h".into()), "/h", Propagation::FromHost),
                passed_on(MountSource::Path("/i".into()), "/i", Propagation::Both),
                passed_on(MountSource::Existing("/j".into()), "/j", Propagation::FromHost),
            ],
            publish: vec![("127.0.0.1".parse().unwrap(), 6443, 6443)],
            ..ContainerSpec::default()
        };
        let host = serde_json::to_value(host_config(&spec, true)).unwrap();
        let shown = json!({
            "NetworkMode": host["NetworkMode"], "IpcMode": host["IpcMode"], "PidMode": host["PidMode"],
            "CpuPeriod": host["CpuPeriod"], "CpuQuota": host["CpuQuota"], "MemorySwap": host["MemorySwap"],
            "Binds": host["Binds"], "Mounts": host["Mounts"], "PortBindings": host["PortBindings"],
            "LogConfig": host["LogConfig"],
        });
        expect![[r#"
            {
              "Binds": [
                "/a:/b:ro",
                "/h:/h:ro,rslave",
                "/i:/i:rshared"
              ],
              "CpuPeriod": 100000,
              "CpuQuota": 250000,
              "IpcMode": "container:s",
              "LogConfig": {
                "Config": {
                  "max-file": "5",
                  "max-size": "10m"
                }
              },
              "MemorySwap": 67108864,
              "Mounts": [
                {
                  "ReadOnly": false,
                  "Source": "/a:x",
                  "Target": "/c",
                  "Type": "bind"
                },
                {
                  "ReadOnly": false,
                  "Source": "v",
                  "Target": "/d",
                  "Type": "volume",
                  "VolumeOptions": {
                    "NoCopy": true
                  }
                },
                {
                  "ReadOnly": false,
                  "Target": "/e",
                  "TmpfsOptions": {
                    "SizeBytes": 1024
                  },
                  "Type": "tmpfs"
                },
                {
                  "ReadOnly": false,
                  "Source": "/f",
                  "Target": "/f",
                  "Type": "bind"
                },
                {
                  "BindOptions": {
                    "Propagation": "rshared"
                  },
                  "ReadOnly": false,
                  "Source": "/g",
                  "Target": "/g",
                  "Type": "bind"
                },
                {
                  "BindOptions": {
                    "Propagation": "rslave"
                  },
                  "ReadOnly": true,
                  "Source": "/j",
                  "Target": "/j",
                  "Type": "bind"
                }
              ],
              "NetworkMode": "container:s",
              "PidMode": "",
              "PortBindings": {
                "6443/tcp": [
                  {
                    "HostIp": "127.0.0.1",
                    "HostPort": "6443"
                  }
                ]
              }
            }"#]]
        .assert_eq(&serde_json::to_string_pretty(&shown).unwrap());
    }

    #[test]
    fn references_are_split_as_docker_wants_them() {
        for (reference, repository, tag) in [
            ("nginx", "nginx", "latest"),
            ("nginx:1", "nginx", "1"),
            ("localhost:5000/x", "localhost:5000/x", "latest"),
            ("localhost:5000/x:2", "localhost:5000/x", "2"),
            ("x@sha256:ab", "x", "sha256:ab"),
        ] {
            assert_eq!(split_reference(reference), (repository.into(), tag.into()));
        }
    }

    #[test]
    fn changes_are_quoted() {
        let labels = BTreeMap::from([("a.b/c".to_owned(), "x \"y\"".to_owned())]);
        let got = changes(&["/skiff".into(), "demo server".into()], &labels);
        assert_eq!(got, [r#"LABEL "a.b/c"="x \"y\"""#, r#"ENTRYPOINT ["/skiff","demo server"]"#]);
    }

    #[test]
    fn a_refused_pull_differs_from_a_failed_one() {
        let stream = |error: &str| pull_error(&Error::DockerStreamError { error: error.into() });
        let status = |status_code, message: &str| {
            pull_error(&Error::DockerResponseServerError { status_code, message: message.into() })
        };
        assert!(matches!(status(404, "pull access denied for x"), PullError::Refused(_)));
        assert!(matches!(stream("manifest for x:9 not found: manifest unknown"), PullError::Refused(_)));
        assert!(matches!(status(500, "dial tcp: lookup registry-1.docker.io: no such host"), PullError::Failed(_)));
        assert!(matches!(status(500, "server misbehaving"), PullError::Failed(_)));
        assert!(matches!(stream("unexpected EOF"), PullError::Failed(_)));
    }

    #[test]
    fn times_keep_their_nanoseconds_and_zero_is_none() {
        assert_eq!(since(Some("2026-11-21T22:20:50.92541807Z")), "1795299650.925418070");
        assert_eq!(since(None), "0");
        assert_eq!(time(Some("0001-01-01T00:00:00Z")), None);
    }

    fn message(action: &str, extra: &[(&str, &str)]) -> models::EventMessage {
        let mut attributes: Labels = [("name", "n"), ("image", "i"), ("app", "x"), (CLUSTER_LABEL, "c")]
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .into();
        attributes.extend(extra.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())));
        models::EventMessage {
            typ: Some(models::EventMessageTypeEnum::CONTAINER),
            action: Some(action.into()),
            actor: Some(models::EventActor { id: Some("1".into()), attributes: Some(attributes) }),
            time_nano: Some(1_795_298_875_147_046_722),
            ..Default::default()
        }
    }

    #[test]
    fn events_of_this_cluster_are_told_without_the_engines_own_attributes() {
        let kind = |message| match event(message, "c") {
            Some(EngineEvent::Container { kind, labels, .. }) => {
                assert_eq!(labels.keys().collect::<Vec<_>>(), ["app", CLUSTER_LABEL]);
                Some(kind)
            }
            _ => None,
        };
        assert_eq!(kind(message("kill", &[("signal", "37")])), Some(EventKind::Killed(37)));
        assert_eq!(kind(message("die", &[("exitCode", "137"), ("execDuration", "3")])), Some(EventKind::Died(137)));
        assert_eq!(kind(message("oom", &[])), Some(EventKind::OutOfMemory));
        assert_eq!(kind(message("destroy", &[])), Some(EventKind::Removed));
        assert_eq!(kind(message("update", &[])), Some(EventKind::Updated));
        assert_eq!(kind(message("exec_create: sh", &[])), None);
        assert_eq!(event(message("die", &[]), "another"), None);
    }

    #[test]
    fn networks_tell_which_container_they_got_or_lost() {
        let of_network = |action: &str, extra: &[(&str, &str)]| {
            let typ = Some(models::EventMessageTypeEnum::NETWORK);
            match event(models::EventMessage { typ, ..message(action, extra) }, "c") {
                Some(EngineEvent::Network { network, container, .. }) => Some(container.or(Some(network))),
                _ => None,
            }
        };
        assert_eq!(of_network("disconnect", &[("container", "c1")]), Some(Some("c1".to_owned())));
        assert_eq!(of_network("connect", &[("container", "c1")]), Some(Some("c1".to_owned())));
        assert_eq!(of_network("create", &[("name", "skiff")]), Some(Some("skiff".to_owned())), "its name");
        assert_eq!(of_network("destroy", &[]), None);
    }

    #[test]
    fn usage_is_read_from_both_generations_of_control_groups() {
        let told = |stats: &str, usage: &str| {
            let text = format!(
                r#"{{"read": "2026-01-01T00:00:00.5Z", "cpu_stats": {{"cpu_usage": {{"total_usage": 7}}}},
                "memory_stats": {{{usage} "stats": {{{stats}}}}}}}"#
            );
            usage_of(&text)
        };
        let first =
            told(r#""total_inactive_file": 10, "inactive_file": 9, "total_rss": 40, "rss": 1"#, r#""usage": 100,"#);
        let second = told(r#""inactive_file": 10, "anon": 40"#, r#""usage": 100,"#);
        assert_eq!(first, second);
        let usage = first.unwrap();
        assert_eq!((usage.cpu_nanos, usage.memory_bytes, usage.working_set_bytes, usage.rss_bytes), (7, 100, 90, 40));
        // An engine has only zeroes to tell of what does not run.
        assert_eq!(told("", ""), None);
        assert_eq!(usage_of(r#"{"read": "0001-01-01T00:00:00Z", "memory_stats": {}}"#), None);
    }

    #[test]
    fn networks_and_disks_are_told_apart() {
        let usage = usage_of(
            r#"{"read": "2026-01-01T00:00:00Z", "memory_stats": {"usage": 1},
            "networks": {"eth0": {"rx_bytes": 10, "rx_packets": 2, "tx_bytes": 30, "tx_errors": 4}},
            "blkio_stats": {"io_service_bytes_recursive": [{"major": 8, "minor": 0, "op": "Read", "value": 5},
            {"major": 8, "minor": 0, "op": "write", "value": 7}, {"major": 8, "minor": 0, "op": "Total", "value": 12}]}}"#,
        )
        .unwrap();
        let eth0 = usage.interfaces["eth0"];
        assert_eq!((eth0.received.bytes, eth0.received.packets, eth0.sent.bytes, eth0.sent.errors), (10, 2, 30, 4));
        assert_eq!(usage.disks, [DiskUsage { device: (8, 0), read_bytes: 5, written_bytes: 7 }]);
    }

    fn usage_of(json: &str) -> Option<Usage> {
        usage(serde_json::from_str(json).unwrap())
    }
}
