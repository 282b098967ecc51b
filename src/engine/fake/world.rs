//! The fake engine's containers: state and its rules, without async. Effects that the world sees go to `out`.
//!
//! **Invariants**: a process that ends is told by its run number, so an old timer cannot end a new run;
//! a container that joins another's network keeps that very namespace, even when its owner dies or starts again.

use super::{
    behaviour::{Behaviour, BehaviourFn, ExecBehaviour, Life, OnStop},
    images::{LocalImage, RemoteImage, familiar},
    network::LocalNetwork,
};
use crate::{
    base::{clock::Clock, rng::Rng},
    engine::{
        CLUSTER_LABEL, Container, ContainerSpec, EngineError, EngineEvent, EngineInfo, EventKind, ExecOutput,
        FILE_BYTES_MAX, FileEnd, LogOptions, LogStream, Mount, MountSource, NamespaceMode, Neighbours, NetworkMode,
        Phase, Resources, Usage, signal_number,
    },
};
use bytes::Bytes;
use futures::channel::{
    mpsc::{self, UnboundedReceiver, UnboundedSender},
    oneshot,
};
use jiff::Timestamp;
use std::{
    collections::{BTreeMap, BTreeSet},
    io::Read as _,
    net::Ipv4Addr,
    path::Path,
    sync::Arc,
    time::Duration,
};

/// How much later than its time the engine tells of a start.
const START_TOLD_AFTER: Duration = Duration::from_millis(1);
/// Where programs that read their input unpack it: the sandbox's, the only one.
const INPUT_UNPACKED_IN: &str = "/volumes";
/// What every program has in memory, and what of files the kernel keeps for it.
const MEMORY_BYTES: u64 = 8 << 20;
const CACHE_BYTES: u64 = 1 << 20;
/// Where the engine keeps volumes.
const VOLUMES: &str = "/var/lib/docker/volumes/";
/// Above the IDs of the first processes of containers.
const HANGING_PIDS: i64 = 1 << 32;

/// What leaves the world after a change.
pub(super) enum Out {
    /// For every event stream.
    Event(EngineEvent),
    /// This run of a container ends later; `None` is the engine's usual delay.
    End { after: Option<Duration>, id: String, run: u64, code: i32 },
    /// The engine itself starts a container again later, if nobody did meanwhile.
    Restart { after: Duration, id: String, run: u64 },
}

pub(super) struct World {
    pub(super) cluster: String,
    pub(super) clock: Clock,
    rng: Rng,
    /// By name.
    containers: BTreeMap<String, LocalContainer>,
    pub(super) disk_free_bytes: u64,
    /// The ports of the host that a program of the host has.
    pub(super) taken_ports: BTreeSet<u16>,
    names: BTreeMap<String, String>,
    /// The names of all containers there ever were, by ID.
    pub(super) past_names: BTreeMap<String, String>,
    n_runs: u64,
    pub(super) images: BTreeMap<String, LocalImage>,
    pub(super) n_images: u64,
    pub(super) imported: BehaviourFn,
    pub(super) remote: BTreeMap<String, RemoteImage>,
    pub(super) networks: BTreeMap<String, LocalNetwork>,
    pub(super) volumes: BTreeMap<String, BTreeMap<String, String>>,
    /// Files that programs wrote into volumes, by volume and path below it, and when.
    pub(super) volume_files: BTreeMap<(String, String), (Timestamp, Bytes)>,
    /// The commands that nobody waits for any more: the run of the container in which they hang, by process ID.
    hanging: BTreeMap<i64, u64>,
    /// Who was told nothing more, and not that this is so.
    lost_followers: Vec<Follower>,
    pub(super) out: Vec<Out>,
}

/// Who hears what a program prints, and whether with the times.
type Follower = (UnboundedSender<Bytes>, bool);

struct LocalContainer {
    spec: ContainerSpec,
    facts: Container,
    behaviour: Behaviour,
    stop_signal: String,
    /// Which start this is, of all containers'; tells one run from the next.
    run: u64,
    /// The run whose network namespace it is in; its own unless it joined another.
    network_of: u64,
    /// The run whose process namespace it is in.
    processes_of: u64,
    ready: Option<bool>,
    log: Vec<(Timestamp, String)>,
    followers: Vec<Follower>,
    /// Who talks with its programs: told of the engine's end, dropped at their own.
    conversations: Vec<oneshot::Sender<EngineError>>,
    files: BTreeMap<String, Bytes>,
    /// Whether the daemon's end stopped it, so that its start starts it again.
    restarts: bool,
    /// Whether the engine starts it again whenever it ends by itself (`--restart=always`), and how often it did so in a row.
    policy: Option<u32>,
    /// Whether a person or skiff ended this run: no policy starts it again then.
    is_stopped: bool,
    /// Whether the engine started this run by itself or because a person said so, and not because skiff did.
    is_by_hand: bool,
}

/// A command under way in a container.
pub(super) struct Exec {
    /// How long it takes; `None` is for ever.
    pub(super) takes: Option<Duration>,
    pub(super) output: ExecOutput,
    pub(super) run: u64,
}

fn not_found(what: &str, container: &str) -> EngineError {
    EngineError::NotFound(format!("{what} {container}: No such container: {container}"))
}

/// Source: Docker's `RestrictedNamePattern`.
fn is_valid_name(name: &str) -> bool {
    let is_plain = |c: u8| c.is_ascii_alphanumeric();
    name.len() > 1 && name.bytes().enumerate().all(|(i, c)| is_plain(c) || (i > 0 && matches!(c, b'_' | b'.' | b'-')))
}

impl World {
    pub(super) fn new(cluster: String, clock: Clock, rng: Rng) -> Self {
        let mut world = Self {
            cluster,
            clock,
            rng,
            containers: BTreeMap::new(),
            disk_free_bytes: 48 << 30,
            taken_ports: BTreeSet::new(),
            names: BTreeMap::new(),
            past_names: BTreeMap::new(),
            n_runs: 0,
            images: BTreeMap::new(),
            n_images: 0,
            imported: Arc::new(|_| Behaviour::pause()),
            remote: BTreeMap::new(),
            networks: BTreeMap::new(),
            volumes: BTreeMap::new(),
            volume_files: BTreeMap::new(),
            hanging: BTreeMap::new(),
            lost_followers: Vec::new(),
            out: Vec::new(),
        };
        world.add_default_bridge();
        world
    }

    pub(super) fn info(&self) -> EngineInfo {
        EngineInfo {
            id: "fake".into(),
            version: "0.0.0-fake".into(),
            api_version: "1.41".into(),
            os: "Fake Linux".into(),
            kernel: "6.1.0".into(),
            architecture: "amd64".into(),
            cpus: 2,
            memory_bytes: 8 << 30,
            disk_bytes: 64 << 30,
            disk_free_bytes: self.disk_free_bytes,
            rootless: false,
            app_armor: false,
            cgroup_driver: "cgroupfs".into(),
            address_pools: Vec::new(),
        }
    }

    pub(super) fn take_out(&mut self) -> Vec<Out> {
        std::mem::take(&mut self.out)
    }

    fn get(&self, container: &str) -> Option<&LocalContainer> {
        self.containers.get(self.names.get(container).map_or(container, String::as_str))
    }

    fn get_mut(&mut self, container: &str) -> Option<&mut LocalContainer> {
        self.containers.get_mut(self.names.get(container).map_or(container, String::as_str))
    }

    fn emit(&mut self, facts: &Container, kind: EventKind) {
        if facts.labels.get(CLUSTER_LABEL) == Some(&self.cluster) {
            self.out.push(Out::Event(EngineEvent::Container {
                id: facts.id.clone(),
                name: facts.name.clone(),
                labels: facts.labels.clone(),
                kind,
                at: self.clock.now(),
            }));
        }
    }

    fn fresh_id(&self) -> String {
        let part = || self.rng.between(0, u64::MAX);
        format!("{:016x}{:016x}{:016x}{:016x}", part(), part(), part(), part())
    }

    // Containers come and go.

    pub(super) fn create(&mut self, spec: &ContainerSpec) -> Result<String, EngineError> {
        let what = format!("create container {}", spec.name);
        if !is_valid_name(&spec.name) {
            return Err(EngineError::Invalid(format!(
                "{what}: Invalid container name ({}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed",
                spec.name
            )));
        }
        let Some(image) = self.local(&spec.image) else {
            return Err(EngineError::NotFound(format!("{what}: No such image: {}", familiar(&spec.image))));
        };
        if spec.entrypoint.is_empty() && spec.command.is_empty() && image.facts.command.is_empty() {
            return Err(EngineError::Invalid(format!("{what}: No command specified")));
        }
        if let Some(other) = self.containers.get(&spec.name) {
            return Err(EngineError::Conflict(format!(
                "{what}: Conflict. The container name \"/{}\" is already in use by container \"{}\". You have to remove (or rename) that container to be able to reuse that name.",
                spec.name, other.facts.id
            )));
        }
        let existing = |mount: &Mount| match &mount.source {
            MountSource::Existing(path) => Some(path.clone()).filter(|path| !self.is_mounted_at(path)),
            _ => None,
        };
        if let Some(path) = spec.mounts.iter().find_map(existing) {
            let why = format!("invalid mount config for type \"bind\": bind source path does not exist: {path}");
            return Err(EngineError::Invalid(format!("{what}: {why}")));
        }
        let (image_id, behaviour) = (image.facts.id.clone(), (image.behaviour)(spec));
        let of_image = Some(image.facts.stop_signal.clone()).filter(|signal| !signal.is_empty());
        let own = Some(spec.stop_signal.clone()).filter(|signal| !signal.is_empty());
        let stop_signal = own.or(of_image).unwrap_or_else(|| "SIGTERM".into());
        Ok(self.insert(spec, image_id, behaviour, stop_signal))
    }

    /// A container of another cluster, or of a user.
    pub(super) fn create_foreign(&mut self, spec: &ContainerSpec, cluster: &str) {
        self.create(spec).expect("the image is there and the name is free");
        let labels = &mut self.containers.get_mut(&spec.name).expect("created just now").facts.labels;
        labels.remove(CLUSTER_LABEL);
        if !cluster.is_empty() {
            labels.insert(CLUSTER_LABEL.into(), cluster.into());
        }
    }

    fn insert(&mut self, spec: &ContainerSpec, image_id: String, behaviour: Behaviour, stop_signal: String) -> String {
        let facts = self.created_facts(spec, image_id);
        let id = facts.id.clone();
        for mount in &spec.mounts {
            if let MountSource::Volume(name) = &mount.source {
                self.volumes.entry(name.clone()).or_default();
            }
        }
        let container = LocalContainer {
            spec: self.resolve(spec),
            facts: facts.clone(),
            behaviour,
            stop_signal,
            run: 0,
            network_of: 0,
            processes_of: 0,
            ready: None,
            log: Vec::new(),
            followers: Vec::new(),
            conversations: Vec::new(),
            files: BTreeMap::new(),
            restarts: false,
            policy: None,
            is_stopped: false,
            is_by_hand: false,
        };
        self.names.insert(id.clone(), spec.name.clone());
        self.past_names.insert(id.clone(), spec.name.clone());
        self.containers.insert(spec.name.clone(), container);
        self.emit(&facts, EventKind::Created);
        id
    }

    fn created_facts(&self, spec: &ContainerSpec, image_id: String) -> Container {
        let mut labels = spec.labels.clone();
        labels.insert(CLUSTER_LABEL.into(), self.cluster.clone());
        Container {
            id: self.fresh_id(),
            name: spec.name.clone(),
            labels,
            image: spec.image.clone(),
            image_id,
            phase: Phase::Created,
            exit_code: 0,
            oom_killed: false,
            error: String::new(),
            created_at: self.clock.now(),
            started_at: None,
            finished_at: None,
            ip: None,
            pid: 0,
            restarts_itself: false,
            resources: spec.resources(),
        }
    }

    /// Docker turns the name of a container to join into its ID at creation, so a later one of that name is not joined.
    fn resolve(&self, spec: &ContainerSpec) -> ContainerSpec {
        let id_of = |name: &String| self.get(name).map_or_else(|| name.clone(), |c| c.facts.id.clone());
        let namespace = |mode: &NamespaceMode| match mode {
            NamespaceMode::Container(name) => NamespaceMode::Container(id_of(name)),
            other => other.clone(),
        };
        let network = spec.network.as_ref().map(|mode| match mode {
            NetworkMode::Container(name) => NetworkMode::Container(id_of(name)),
            other => other.clone(),
        });
        ContainerSpec { network, ipc: namespace(&spec.ipc), pid: namespace(&spec.pid), ..spec.clone() }
    }

    pub(super) fn start(&mut self, container: &str) -> Result<(), EngineError> {
        let found = self.get(container).ok_or_else(|| not_found("start container", container))?;
        if found.facts.phase == Phase::Running {
            return Ok(());
        }
        let spec = found.spec.clone();
        let failure = found.behaviour.start_error.clone().map(EngineError::Invalid);
        let joined =
            failure.map_or_else(|| self.join(&spec).and_then(|joined| self.publish(&spec).map(|()| joined)), Err);
        match joined {
            Ok(joined) => self.run(&spec.name, joined),
            Err(err) => {
                let text = err.to_string();
                if let Some(container) = self.get_mut(&spec.name) {
                    container.facts.exit_code = if matches!(err, EngineError::Invalid(_)) { 127 } else { 128 };
                    container.facts.error.clone_from(&text);
                }
                let text = format!("start container {container}: {text}");
                return Err(match err {
                    EngineError::NotFound(_) => EngineError::NotFound(text),
                    EngineError::Conflict(_) => EngineError::Conflict(text),
                    EngineError::Failed(_) => EngineError::Failed(text),
                    _ => EngineError::Invalid(text),
                });
            }
        }
        Ok(())
    }

    /// The address and the namespaces that a start would have.
    fn join(&self, spec: &ContainerSpec) -> Result<Joined, EngineError> {
        let mut joined = Joined::default();
        for mount in &spec.mounts {
            if let MountSource::Existing(path) = &mount.source
                && !self.is_mounted_at(path)
            {
                return Err(EngineError::Invalid(format!("stat {path}: no such file or directory")));
            }
        }
        match spec.network.as_ref() {
            None => joined.ip = Some(self.free_address("bridge")?),
            Some(NetworkMode::Bridge(network)) => joined.ip = Some(self.address(network, spec.address)?),
            Some(NetworkMode::Container(other)) => {
                joined.network_of = Some(self.joinable(other, "network")?.network_of);
            }
            Some(NetworkMode::Host | NetworkMode::None) => {}
        }
        if let NamespaceMode::Container(other) = &spec.ipc {
            self.joinable(other, "IPC")?;
        }
        if let NamespaceMode::Container(other) = &spec.pid {
            joined.processes_of = Some(self.joinable(other, "PID")?.processes_of);
        }
        Ok(joined)
    }

    /// Whether the host's ports that a container publishes are free.
    fn publish(&self, spec: &ContainerSpec) -> Result<(), EngineError> {
        let running = self.containers.values().filter(|c| c.facts.phase == Phase::Running);
        let of_others: BTreeSet<u16> = running.flat_map(|c| c.spec.publish.iter().map(|(_, port, _)| *port)).collect();
        let is_taken = |port: &u16| self.taken_ports.contains(port) || of_others.contains(port);
        match spec.publish.iter().find(|(_, port, _)| is_taken(port)) {
            None => Ok(()),
            Some((ip, port, _)) => Err(EngineError::Failed(format!(
                "driver failed programming external connectivity on endpoint {}: Bind for {ip}:{port} failed: port is already allocated",
                spec.name
            ))),
        }
    }

    fn joinable(&self, other: &str, namespace: &str) -> Result<&LocalContainer, EngineError> {
        let found = self.get(other).ok_or_else(|| EngineError::NotFound(format!("No such container: {other}")))?;
        if found.facts.phase != Phase::Running {
            return Err(EngineError::Conflict(format!(
                "cannot join {namespace} of a non running container: {}",
                found.facts.id
            )));
        }
        Ok(found)
    }

    /// The address that is asked for, or any that is free.
    fn address(&self, network: &str, wanted: Option<Ipv4Addr>) -> Result<Ipv4Addr, EngineError> {
        let free = self.free_address(network)?;
        match wanted {
            Some(wanted) if self.containers.values().any(|c| c.facts.ip == Some(wanted)) => {
                Err(EngineError::Failed("Address already in use".into()))
            }
            wanted => Ok(wanted.unwrap_or(free)),
        }
    }

    fn free_address(&self, network: &str) -> Result<Ipv4Addr, EngineError> {
        let missing = || EngineError::NotFound(format!("network {network} not found"));
        let found = self.networks.get(network).ok_or_else(missing)?;
        let taken: BTreeSet<Ipv4Addr> = self.containers.values().filter_map(|c| c.facts.ip).collect();
        found
            .free_address(&taken)
            .ok_or_else(|| EngineError::Invalid("no available IPv4 addresses on this network's address pools".into()))
    }

    fn run(&mut self, name: &str, joined: Joined) {
        let now = self.clock.now();
        self.n_runs += 1;
        let run = self.n_runs;
        let Some(container) = self.get_mut(name) else {
            return;
        };
        container.run = run;
        container.network_of = joined.network_of.unwrap_or(run);
        container.processes_of = joined.processes_of.unwrap_or(run);
        container.ready = None;
        (container.is_stopped, container.is_by_hand) = (false, false);
        let facts = &mut container.facts;
        facts.phase = Phase::Running;
        facts.exit_code = 0;
        facts.oom_killed = false;
        facts.error.clear();
        facts.started_at = Some(now - START_TOLD_AFTER);
        facts.finished_at = None;
        facts.ip = joined.ip;
        facts.pid = i64::try_from(1000 + run).unwrap_or(i64::MAX);
        let facts = facts.clone();
        let (life, output, spec) =
            (container.behaviour.life, container.behaviour.output.clone(), container.spec.clone());
        let writes = container.behaviour.writes.clone();
        if facts.ip.is_some() {
            self.emit_network(&facts.id);
        }
        self.emit(&facts, EventKind::Started);
        self.end_processes(&spec);
        for line in output {
            self.print(name, &line);
        }
        for (path, content) in writes {
            self.write_file(name, &path, &content);
        }
        if let Life::Exits { after, code } = life {
            self.out.push(Out::End { after: Some(after), id: facts.id, run, code });
        }
    }

    /// `docker network disconnect`.
    pub(super) fn disconnect(&mut self, container: &str) {
        if let Some(container) = self.get_mut(container).filter(|c| c.facts.ip.is_some()) {
            container.facts.ip = None;
            let id = container.facts.id.clone();
            self.emit_network(&id);
        }
    }

    /// `docker network connect`: the lowest free address, which need not be the one it had.
    pub(super) fn connect(&mut self, container: &str) {
        let Some(found) = self.get(container).filter(|c| c.facts.phase == Phase::Running && c.facts.ip.is_none())
        else {
            return;
        };
        let Some(NetworkMode::Bridge(network)) = &found.spec.network else { return };
        let Ok(ip) = self.free_address(network) else { return };
        let id = found.facts.id.clone();
        self.get_mut(&id).expect("found just now").facts.ip = Some(ip);
        self.emit_network(&id);
    }

    fn emit_network(&mut self, container: &str) {
        let at = self.clock.now();
        self.out.push(Out::Event(EngineEvent::Network {
            network: String::new(),
            container: Some(container.to_owned()),
            at,
        }));
    }

    /// `docker start`, or what the engine does by itself.
    pub(super) fn start_by_hand(&mut self, container: &str) -> Result<(), EngineError> {
        let before = self.run_of(container);
        self.start(container)?;
        let after = self.run_of(container);
        if let Some(container) = self.get_mut(container) {
            container.is_by_hand |= before != after;
        }
        Ok(())
    }

    /// The containers that run although skiff did not start them.
    pub(super) fn started_by_hand(&self) -> BTreeSet<String> {
        let runs = |c: &&LocalContainer| c.facts.phase == Phase::Running && c.is_by_hand;
        self.containers.values().filter(runs).map(|c| c.facts.id.clone()).collect()
    }

    /// `docker update --restart=always`, or `=no`.
    pub(super) fn set_policy(&mut self, container: &str, always: bool) {
        if let Some(container) = self.get_mut(container) {
            container.policy = always.then_some(0);
        }
    }

    /// What of the machine a container may use from now on.
    pub(super) fn update(&mut self, container: &str, resources: Resources) -> Result<(), EngineError> {
        let Some(found) = self.get_mut(container) else {
            return Err(EngineError::NotFound(format!("update container {container}: No such container: {container}")));
        };
        found.facts.resources = resources;
        let facts = found.facts.clone();
        self.emit(&facts, EventKind::Updated);
        Ok(())
    }

    /// What the engine does by its policy some time after a run ended.
    pub(super) fn restart_by_policy(&mut self, id: &str, run: u64) {
        let is_due = |c: &LocalContainer| c.run == run && c.facts.phase == Phase::Exited && c.policy.is_some();
        if self.get(id).is_some_and(is_due) {
            // One that cannot start says so in its `error`, as in Docker.
            drop(self.start_by_hand(id));
        }
    }

    pub(super) fn kill(&mut self, container: &str, signal: &str) -> Result<(), EngineError> {
        let what = format!("signal container {container}");
        let number =
            signal_number(signal).ok_or_else(|| EngineError::Invalid(format!("{what}: Invalid signal: {signal}")))?;
        let found = self.get(container).ok_or_else(|| not_found("signal container", container))?;
        if found.facts.phase != Phase::Running {
            return Err(EngineError::Conflict(format!(
                "{what}: Cannot kill container: {container}: Container {} is not running",
                found.facts.id
            )));
        }
        let stops = [2, 3, 15].contains(&number) || signal_number(&found.stop_signal) == Some(number);
        let (facts, run, on_stop) = (found.facts.clone(), found.run, found.behaviour.on_stop);
        if let Some(container) = self.get_mut(&facts.id) {
            container.is_stopped |= stops || number == 9;
        }
        self.emit(&facts, EventKind::Killed(number));
        let end = match on_stop {
            _ if number == 9 => Some((None, 137)),
            OnStop::Dies if stops => Some((None, 128 + number)),
            OnStop::Exits { after, code } if stops => Some((Some(after).filter(|t| !t.is_zero()), code)),
            _ => None,
        };
        if let Some((after, code)) = end {
            self.out.push(Out::End { after, id: facts.id, run, code });
        }
        Ok(())
    }

    pub(super) fn remove(&mut self, container: &str) -> Result<(), EngineError> {
        let found = self.get(container).ok_or_else(|| not_found("remove container", container))?;
        let (facts, run) = (found.facts.clone(), found.run);
        if facts.phase == Phase::Running {
            self.emit(&facts, EventKind::Killed(9));
            self.end(&facts.id, run, 137, false);
        }
        self.containers.remove(&facts.name);
        self.names.remove(&facts.id);
        self.emit(&facts, EventKind::Removed);
        Ok(())
    }

    /// Ends a run, if it is still under way, and with it what shares its process namespace.
    pub(super) fn end(&mut self, id: &str, run: u64, code: i32, oom: bool) {
        let now = self.clock.now();
        let Some(container) = self.get_mut(id) else {
            return;
        };
        if container.run != run || container.facts.phase != Phase::Running {
            return;
        }
        let facts = &mut container.facts;
        facts.phase = Phase::Exited;
        facts.exit_code = code;
        facts.oom_killed = oom;
        facts.finished_at = Some(now);
        let had_address = facts.ip.take().is_some();
        facts.pid = 0;
        let facts = facts.clone();
        container.followers.clear();
        container.conversations.clear();
        let again = container.policy.filter(|_| !container.is_stopped);
        container.policy = again.map(|n| n + 1).or(container.policy);
        if oom {
            self.emit(&facts, EventKind::OutOfMemory);
        }
        self.emit(&facts, EventKind::Died(code));
        if had_address {
            self.emit_network(&facts.id);
        }
        if let Some(n) = again {
            // Source: `defaultTimeout`, `backoffMultiplier`, moby `restartmanager/restartmanager.go`, 20.10.
            let after = Duration::from_millis(100) * 2_u32.pow(n.min(9));
            self.out.push(Out::Restart { after, id: facts.id.clone(), run });
        }
        let shares = |c: &&LocalContainer| c.processes_of == run && c.run != run;
        let others: Vec<(String, u64)> =
            self.containers.values().filter(shares).map(|c| (c.facts.id.clone(), c.run)).collect();
        for (id, run) in others {
            self.end(&id, run, 137, false);
        }
    }

    pub(super) fn crash(&mut self, container: &str, code: i32, oom: bool) {
        if let Some((id, run)) = self.get(container).map(|c| (c.facts.id.clone(), c.run)) {
            self.end(&id, run, code, oom);
        }
    }

    /// What the daemon's end does to containers that it does not keep alive.
    pub(super) fn stop_all(&mut self) {
        let code_of = |c: &LocalContainer| match c.behaviour.on_stop {
            OnStop::Dies => 143,
            OnStop::Exits { code, .. } => code,
            OnStop::Ignores => 137,
        };
        let is_running = |c: &&LocalContainer| c.facts.phase == Phase::Running;
        let running: Vec<(String, u64, i32)> =
            self.containers.values().filter(is_running).map(|c| (c.facts.id.clone(), c.run, code_of(c))).collect();
        for (id, run, code) in running {
            self.end(&id, run, code, false);
            if let Some(container) = self.get_mut(&id) {
                container.restarts = container.spec.restart_with_engine;
            }
        }
    }

    pub(super) fn restart_what_restarts(&mut self) {
        let restarting: Vec<String> = self
            .containers
            .values_mut()
            .filter_map(|c| std::mem::take(&mut c.restarts).then(|| c.facts.id.clone()))
            .collect();
        for id in restarting {
            // One that cannot start says so in its `error`, as in Docker.
            drop(self.start_by_hand(&id));
        }
    }

    // Questions about containers.

    pub(super) fn list(&self) -> Vec<Container> {
        let is_ours = |c: &&LocalContainer| c.facts.labels.get(CLUSTER_LABEL) == Some(&self.cluster);
        self.containers.values().filter(is_ours).map(|c| c.facts.clone()).collect()
    }

    pub(super) fn neighbours(&self) -> Neighbours {
        let mut found = Neighbours::default();
        let is_other = |owner: Option<&String>| owner != Some(&self.cluster);
        for container in self.containers.values().map(|c| &c.facts) {
            let owner = container.labels.get(CLUSTER_LABEL);
            if is_other(owner) {
                found.images.insert(container.image_id.clone());
                found.clusters.extend(owner.cloned());
            }
        }
        let owners = self.networks.values().filter_map(|n| n.facts.labels.get(CLUSTER_LABEL));
        found.clusters.extend(owners.filter(|o| is_other(Some(o))).cloned());
        found
    }

    pub(super) fn all(&self) -> Vec<Container> {
        self.containers.values().map(|c| c.facts.clone()).collect()
    }

    pub(super) fn inspect(&self, container: &str) -> Option<Container> {
        self.get(container).map(|c| c.facts.clone())
    }

    /// What a container has used; `None` when it does not run.
    pub(super) fn usage(&self, container: &str) -> Option<Usage> {
        let found = self.get(container).filter(|c| c.facts.phase == Phase::Running)?;
        let at = self.clock.now();
        let runs = Duration::try_from(at.duration_since(found.facts.started_at?)).unwrap_or_default();
        let nanos = runs.as_nanos() * u128::from(found.behaviour.cpu_millis) / 1000;
        Some(Usage {
            at,
            cpu_nanos: u64::try_from(nanos).unwrap_or(u64::MAX),
            memory_bytes: MEMORY_BYTES + CACHE_BYTES,
            working_set_bytes: MEMORY_BYTES,
            rss_bytes: MEMORY_BYTES,
            ..Usage::default()
        })
    }

    pub(super) fn spec(&self, container: &str) -> Option<ContainerSpec> {
        self.get(container).map(|c| c.spec.clone())
    }

    pub(super) fn is_running(&self, container: &str) -> bool {
        self.get(container).is_some_and(|c| c.facts.phase == Phase::Running)
    }

    pub(super) fn run_of(&self, container: &str) -> Option<u64> {
        self.get(container).filter(|c| c.facts.phase == Phase::Running).map(|c| c.run)
    }

    pub(super) fn stop_signal(&self, container: &str) -> Result<String, EngineError> {
        let found = self.get(container).ok_or_else(|| not_found("stop container", container))?;
        Ok(found.stop_signal.clone())
    }

    pub(super) fn uses_image(&self, id: &str) -> bool {
        self.containers.values().any(|c| c.facts.image_id == id)
    }

    pub(super) fn has_active_endpoints(&self, network: &str) -> bool {
        let is_on = |c: &LocalContainer| match &c.spec.network {
            None => network == "bridge",
            Some(NetworkMode::Bridge(name)) => name == network,
            Some(_) => false,
        };
        self.containers.values().any(|c| c.facts.ip.is_some() && is_on(c))
    }

    /// Whether a path is there: in a volume when a running container mounts it, elsewhere on the host always.
    fn is_mounted_at(&self, path: &str) -> bool {
        let volume = path.strip_prefix(VOLUMES).and_then(|rest| Some(rest.split_once("/_data")?.0));
        let mounts = |c: &LocalContainer, name: &str| {
            c.facts.phase == Phase::Running
                && c.spec.mounts.iter().any(|m| m.source == MountSource::Volume(name.to_owned()))
        };
        volume.is_none_or(|name| self.containers.values().any(|c| mounts(c, name)))
    }

    pub(super) fn user_of_volume(&self, volume: &str) -> Option<&str> {
        let uses =
            |c: &&LocalContainer| c.spec.mounts.iter().any(|mount| mount.source == MountSource::Volume(volume.into()));
        self.containers.values().find(uses).map(|c| c.facts.id.as_str())
    }

    // What programs do.

    pub(super) fn set_ready(&mut self, container: &str, ready: Option<bool>) {
        if let Some(container) = self.get_mut(container) {
            container.ready = ready;
        }
    }

    pub(super) fn probe(&self, container: &str) -> bool {
        self.get(container).is_some_and(|c| self.is_ready(c))
    }

    fn is_ready(&self, container: &LocalContainer) -> bool {
        let Some(started_at) = container.facts.started_at.filter(|_| container.facts.phase == Phase::Running) else {
            return false;
        };
        let since = Duration::try_from(self.clock.now().duration_since(started_at)).unwrap_or_default();
        container.ready.unwrap_or_else(|| container.behaviour.ready_after.is_some_and(|after| since >= after))
    }

    pub(super) fn answers(&self, ip: Ipv4Addr, port: u16) -> bool {
        let owner = self.containers.values().find(|c| c.facts.ip == Some(ip));
        let Some(network) = owner.map(|c| c.network_of) else {
            return false;
        };
        let listens = |c: &LocalContainer| c.behaviour.ports.as_ref().is_none_or(|ports| ports.contains(&port));
        self.containers.values().any(|c| c.network_of == network && listens(c) && self.is_ready(c))
    }

    pub(super) fn exec(&mut self, container: &str, command: &[String]) -> Result<Exec, EngineError> {
        let found = self.get(container).ok_or_else(|| not_found("exec in container", container))?;
        if found.facts.phase != Phase::Running {
            return Err(EngineError::Conflict(format!(
                "exec in container {container}: Container {} is not running",
                found.facts.id
            )));
        }
        let (takes, code, output) = match &found.behaviour.exec {
            ExecBehaviour::Shell => shell(command, &found.files),
            ExecBehaviour::Readiness => (Some(Duration::ZERO), i64::from(!self.is_ready(found)), Bytes::new()),
            ExecBehaviour::Exits { after, code, output } => (Some(*after), i64::from(*code), output.clone()),
            ExecBehaviour::Hangs => (None, 0, Bytes::new()),
        };
        Ok(Exec { takes, output: ExecOutput { exit_code: code, output }, run: found.run })
    }

    /// Ends with the programs of a running container; with a word when the engine goes away before.
    pub(super) fn converse(&mut self, container: &str) -> oneshot::Receiver<EngineError> {
        let (tell, told) = oneshot::channel();
        if let Some(container) = self.get_mut(container) {
            container.conversations.retain(|other| !other.is_canceled());
            container.conversations.push(tell);
        }
        told
    }

    /// Listeners hear nothing more from a container's program, not even its end.
    pub(super) fn hang_listeners(&mut self, container: &str) {
        let lost = self.get_mut(container).map(|container| std::mem::take(&mut container.followers));
        self.lost_followers.extend(lost.into_iter().flatten());
    }

    pub(super) fn n_listeners(&self) -> usize {
        let followers = |all: &[Follower]| all.iter().filter(|(follower, _)| !follower.is_closed()).count();
        let of = |container: &LocalContainer| {
            let talks = container.conversations.iter().filter(|talk| !talk.is_canceled()).count();
            followers(&container.followers) + talks
        };
        self.containers.values().map(of).sum::<usize>() + followers(&self.lost_followers)
    }

    /// What the engine's end does to conversations.
    pub(super) fn cut_conversations(&mut self) {
        for talk in self.containers.values_mut().flat_map(|container| container.conversations.drain(..)) {
            // Who has left need not be told.
            drop(talk.send(EngineError::Failed("the connection to the engine was closed".into())));
        }
    }

    /// What the program of a running container prints from now on.
    pub(super) fn attach(&mut self, container: &str) -> Result<UnboundedReceiver<Bytes>, EngineError> {
        let what = "attach to container";
        let found = self.get_mut(container).ok_or_else(|| not_found(what, container))?;
        if found.facts.phase != Phase::Running {
            let id = &found.facts.id;
            return Err(EngineError::Conflict(format!("{what} {container}: Container {id} is not running")));
        }
        let (sender, receiver) = mpsc::unbounded();
        found.followers.push((sender, false));
        Ok(receiver)
    }

    /// A command of this run hangs; the ID of its process, unless the run is over.
    pub(super) fn hang(&mut self, container: &str, run: u64) -> Option<i64> {
        self.run_of(container).filter(|now| *now == run)?;
        let pid = HANGING_PIDS + self.hanging.last_key_value().map_or(0, |(last, _)| last - HANGING_PIDS + 1);
        self.hanging.insert(pid, run);
        Some(pid)
    }

    pub(super) fn hanging(&self, container: &str) -> usize {
        let run = self.run_of(container);
        self.hanging.values().filter(|hangs_in| Some(**hangs_in) == run).count()
    }

    /// What skiff's own helper does with the processes that its environment names.
    fn end_processes(&mut self, spec: &ContainerSpec) {
        if spec.command.first().is_none_or(|role| role != "end-processes") || spec.pid != NamespaceMode::Host {
            return;
        }
        for (_, request) in &spec.env {
            let request: serde_json::Value = serde_json::from_str(request.reveal()).unwrap_or_default();
            let all = request.as_array().into_iter().flatten();
            for pid in all.filter_map(|one| one["pid"].as_i64()) {
                self.hanging.remove(&pid);
            }
        }
    }

    // Files and logs.

    pub(super) fn upload(&mut self, container: &str, directory: &str, tar: &[u8]) -> Result<(), EngineError> {
        let what = format!("upload into container {container}");
        let found = self.get_mut(container).ok_or_else(|| not_found("upload into container", container))?;
        let mut uploaded = Vec::new();
        let bad = |err: std::io::Error| EngineError::Invalid(format!("{what}: {err}"));
        for entry in tar::Archive::new(tar).entries().map_err(bad)? {
            let mut entry = entry.map_err(bad)?;
            let path = Path::new(directory).join(entry.path().map_err(bad)?.as_ref());
            if !entry.header().entry_type().is_file() {
                continue;
            }
            let mut content = Vec::new();
            entry.read_to_end(&mut content).map_err(bad)?;
            let path = path.to_string_lossy().into_owned();
            found.files.insert(path.clone(), content.clone().into());
            uploaded.push((path, content));
        }
        // What is uploaded to where a volume is mounted is in the volume.
        uploaded.iter().for_each(|(path, content)| self.write_file(container, path, content));
        Ok(())
    }

    /// An image of the fake's has one file, which says whose it is.
    pub(super) fn copy_image_files(&mut self, from: &str, to: &str, directory: &str) -> Result<(), EngineError> {
        let what = "copy the files of container";
        let image = self.get(from).ok_or_else(|| not_found(what, from))?.facts.image_id.clone();
        self.get(to).ok_or_else(|| not_found(what, to))?;
        self.write_file(to, &format!("{directory}/image"), image.as_bytes());
        Ok(())
    }

    /// Gives a program its input: the one that reads any unpacks it, as a sandbox does (its length comes first).
    pub(super) fn give(&mut self, container: &str, input: &[u8]) -> Result<(), EngineError> {
        let tar = input.get(size_of::<u64>()..).unwrap_or_default().to_owned();
        self.upload(container, INPUT_UNPACKED_IN, &tar)
    }

    /// The volume that a path of a container is in, and where in it.
    fn place_of(&self, container: &str, path: &str) -> Option<(String, String)> {
        let mounts = &self.get(container)?.spec.mounts;
        mounts.iter().find_map(|mount| {
            let rest = path.strip_prefix(&mount.target).filter(|rest| rest.is_empty() || rest.starts_with('/'))?;
            match &mount.source {
                MountSource::Volume(name) => Some((name.clone(), rest.trim_start_matches('/').to_owned())),
                MountSource::Path(source) => {
                    let (name, at) = source.strip_prefix(VOLUMES)?.split_once("/_data/")?;
                    Some((name.to_owned(), format!("{at}{rest}")))
                }
                _ => None,
            }
        })
    }

    pub(super) fn write_file(&mut self, container: &str, path: &str, content: &[u8]) {
        let now = self.clock.now();
        if let Some(place) = self.place_of(container, path) {
            self.volume_files.insert(place, (now, Bytes::copy_from_slice(content)));
        }
    }

    pub(super) fn file_end(
        &self,
        container: &str,
        path: &str,
        bytes_max: usize,
    ) -> Result<Option<FileEnd>, EngineError> {
        let Some((at, content)) = self.place_of(container, path).and_then(|place| self.volume_files.get(&place)) else {
            return Ok(None);
        };
        let size_bytes = content.len() as u64;
        if size_bytes > FILE_BYTES_MAX {
            return Err(EngineError::Invalid(format!(
                "read {path} in container {container}: it has {size_bytes} bytes and may have {FILE_BYTES_MAX}"
            )));
        }
        let content = content.slice(content.len().saturating_sub(bytes_max)..);
        Ok(Some(FileEnd { size_bytes, modified_at: *at, content }))
    }

    pub(super) fn file(&self, container: &str, path: &str) -> Option<Bytes> {
        self.get(container)?.files.get(path).cloned()
    }

    pub(super) fn print(&mut self, container: &str, line: &str) {
        let now = self.clock.now();
        let Some(container) = self.get_mut(container) else {
            return;
        };
        let line = format!("{line}\n");
        container
            .followers
            .retain(|(follower, timestamps)| follower.unbounded_send(log_line(now, &line, *timestamps)).is_ok());
        container.log.push((now, line));
    }

    pub(super) fn logs(
        &mut self,
        container: &str,
        options: &LogOptions,
    ) -> Result<(Vec<Bytes>, UnboundedReceiver<Bytes>), EngineError> {
        let found = self.get_mut(container).ok_or_else(|| not_found("read log of container", container))?;
        // All that is printed here is standard output.
        let has_any = options.stream != Some(LogStream::Stderr);
        let wanted = |at: &Timestamp| has_any && options.since.is_none_or(|since| *at >= since);
        let mut lines: Vec<Bytes> = found
            .log
            .iter()
            .filter(|(at, _)| wanted(at))
            .map(|(at, line)| log_line(*at, line, options.timestamps))
            .collect();
        if let Some(tail) = options.tail.and_then(|tail| usize::try_from(tail).ok()) {
            lines.drain(..lines.len().saturating_sub(tail));
        }
        let (sender, receiver) = mpsc::unbounded();
        if options.follow && has_any && found.facts.phase == Phase::Running {
            found.followers.push((sender, options.timestamps));
        }
        Ok((lines, receiver))
    }
}

/// What a start joins.
#[derive(Clone, Copy, Default)]
struct Joined {
    ip: Option<Ipv4Addr>,
    network_of: Option<u64>,
    processes_of: Option<u64>,
}

fn log_line(at: Timestamp, line: &str, timestamps: bool) -> Bytes {
    if timestamps { format!("{at:.9} {line}").into() } else { line.to_owned().into() }
}

/// How long a command takes, its exit code and its output.
fn shell(command: &[String], files: &BTreeMap<String, Bytes>) -> (Option<Duration>, i64, Bytes) {
    let words: Vec<&str> = command.iter().map(String::as_str).collect();
    let (program, args) = words.split_first().map_or(("", &[][..]), |(p, a)| (p.rsplit('/').next().unwrap_or(p), a));
    let now = Some(Duration::ZERO);
    match (program, args) {
        ("false", _) => (now, 1, Bytes::new()),
        ("sleep", [time]) => (Some(Duration::from_secs(time.parse().unwrap_or(0))), 0, Bytes::new()),
        ("cat", [path]) => match files.get(*path) {
            Some(content) => (now, 0, content.clone()),
            None => (now, 1, format!("cat: can't open '{path}': No such file or directory\n").into()),
        },
        _ => (now, 0, Bytes::new()),
    }
}
