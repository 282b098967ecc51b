//! Claims, conversations, resizes and pulls under a user who makes and deletes claims, writes data, runs commands in containers, changes
//! what they may use and takes their images away, while the calls for all of that fail and the control plane and the engine end and
//! begin again.
//!
//! What was written to a claim is there for as long as its volume is; a conversation ends, and what it hears is whole; an image is pulled
//! once at a time. In the end everything has what it asks for, and no Docker volume is left of a claim that went.

use super::{
    each_in_parallel, failure, faults, harm,
    listening::{Listener, Printed, Way},
    manifests::one_of,
    seeds, simulate, sweep,
    world::{TICK, World},
};
use crate::{
    api::{
        kind::{ErasedKind, TypedKind as _},
        kinds::{
            deployment::Deployments,
            persistent_volume::PERSISTENT_VOLUMES,
            persistent_volume_claim::PERSISTENT_VOLUME_CLAIMS,
            pod::{Pods, RESIZE},
        },
        meta::ObjectKey,
        pod_state,
        quantity::Quantity,
        status::ApiError,
    },
    base::task::{self, drain_signal},
    engine::{
        Connected, Phase,
        fake::{Behaviour, CallFault, CallKind, ExecBehaviour, Fault, PRINTS_BOTH},
    },
    registry::pipeline::{DeleteOptions, Part, Selection, WriteOptions, decoded},
    roles::forward,
    server::{Heard, hear},
    store::Entry,
};
use bytes::Bytes;
use futures::FutureExt as _;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::sync::oneshot;

/// Seeds of an ordinary test run.
const SEEDS: u64 = 8;
const STEPS: usize = 30;
/// The claims, and what mounts each.
const CLAIMS: [&str; 2] = ["data", "more"];
/// Where a claim is in its pod, and the file in it.
const FILE: &str = "/data/file";
const PULLS: &str = "far";
const FAR: [&str; 2] = ["far.example.com/app:1", "far.example.com/app:2"];
const SIZED: &str = "sized";
/// Within which a conversation with a command that ends has ended: a call whose answer is lost takes half a minute.
const TALK_MAX: Duration = Duration::from_secs(100);
/// How long a user looks at a command that hangs.
const PATIENCE: Duration = Duration::from_secs(15);
/// What is free of the engine's disk, in bytes.
const ROOM: u64 = 48 << 30;
/// Commands of probes that hang in one container, which are ended soon.
const HANGING_MAX: usize = 4;

#[derive(Clone, Copy, Debug)]
enum Action {
    CreateClaim,
    DeleteClaim,
    RetainVolume,
    WriteData,
    DeletePod,
    Exec,
    Listen,
    Print,
    HangListeners,
    Resize,
    SetImage,
    RemoveImage,
    BreakRegistry,
    FillDocker,
    EmptyDocker,
    KillSomething,
    HangAndTakeOver,
    RestartSkiff,
    KillSkiff,
    RestartDocker,
}

/// The actions, each as often as it is to be drawn.
const ACTIONS: &[(usize, Action)] = &[
    (3, Action::CreateClaim),
    (2, Action::DeleteClaim),
    (1, Action::RetainVolume),
    (5, Action::WriteData),
    (3, Action::DeletePod),
    (8, Action::Exec),
    (6, Action::Listen),
    (6, Action::Print),
    (1, Action::HangListeners),
    (5, Action::Resize),
    (3, Action::SetImage),
    (3, Action::RemoveImage),
    (1, Action::BreakRegistry),
    (1, Action::FillDocker),
    (1, Action::EmptyDocker),
    (3, Action::KillSomething),
    (1, Action::HangAndTakeOver),
    (1, Action::RestartSkiff),
    (1, Action::KillSkiff),
    (2, Action::RestartDocker),
];

/// The calls that are made for these things alone, which fail more often than others.
const CALLS: [CallKind; 12] = [
    CallKind::Exec,
    CallKind::ExecSession,
    CallKind::ExecCode,
    CallKind::Attach,
    CallKind::Logs,
    CallKind::Update,
    CallKind::Pull,
    CallKind::Image,
    CallKind::RemoveImage,
    CallKind::CreateVolume,
    CallKind::Volumes,
    CallKind::RemoveVolume,
];

/// How they do.
const WAYS: [Fault; 5] = [
    Fault::FailBefore,
    Fault::LostReply,
    Fault::CutReply,
    Fault::Slow(Duration::from_secs(70)),
    Fault::DaemonRestart { down: Duration::from_secs(2), stop_containers: true },
];

fn container(image: &str) -> Value {
    json!({ "name": "c", "image": image, "imagePullPolicy": "IfNotPresent" })
}

fn deployment(name: &str, replicas: u32, spec: &Value) -> Value {
    json!({
        "metadata": { "name": name, "namespace": "default" },
        "spec": {
            "replicas": replicas, "selector": { "matchLabels": { "app": name } }, "strategy": { "type": "Recreate" },
            "template": { "metadata": { "labels": { "app": name } }, "spec": spec },
        },
    })
}

/// The pod of a claim.
fn with_claim(claim: &str) -> Value {
    let mut container = container("app:1");
    container["volumeMounts"] = json!([{ "name": "v", "mountPath": "/data" }]);
    json!({
        "terminationGracePeriodSeconds": 2, "containers": [container],
        "volumes": [{ "name": "v", "persistentVolumeClaim": { "claimName": claim } }],
    })
}

/// A pod whose resources are changed, and in which commands hang: its probe does too, and says nothing until long after.
fn with_resources(hangs: bool) -> Value {
    let mut container = container(if hangs { "app:hangs" } else { "app:1" });
    container["resources"] =
        json!({ "requests": { "cpu": "100m", "memory": "64Mi" }, "limits": { "cpu": "200m", "memory": "128Mi" } });
    if hangs {
        let exec = json!({ "command": ["look"] });
        container["livenessProbe"] = json!({ "exec": exec, "periodSeconds": 10, "failureThreshold": 10_000 });
    }
    json!({ "terminationGracePeriodSeconds": 2, "containers": [container] })
}

fn read(entry: &Entry) -> Value {
    serde_json::from_slice(&entry.value).unwrap()
}

fn text<'v>(value: &'v Value, pointer: &str) -> &'v str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// What was written to a volume.
struct Written {
    docker: String,
    content: Bytes,
}

/// What a user says to a command.
#[derive(Clone)]
struct Talk {
    pod: ObjectKey,
    container: String,
    command: Vec<String>,
    said: Bytes,
    at: Timestamp,
}

impl Talk {
    fn hangs(&self) -> bool {
        self.pod.name.starts_with(SIZED)
    }

    /// What came back is whole, unless the command was ended with its container or the engine; then it says so.
    fn check(&self, heard: &Heard, is_ended: bool) {
        let Some(end) = &heard.end else { return };
        let printed = String::from_utf8_lossy(&heard.printed);
        let (code, whole) = match self.command[..] {
            [ref one] if one == "cat" => (0, String::from_utf8_lossy(&self.said)),
            [.., ref last] if last == PRINTS_BOTH => (3, "out\nerr\n".into()),
            _ => (0, "".into()),
        };
        match end {
            Ok(137) => assert!(is_ended, "{:?} was killed, and its container runs on", self.command),
            Ok(ended) => {
                assert_eq!((*ended, &*printed), (code, &*whole), "{:?} said something else", self.command);
            }
            Err(why) => assert!(!why.is_empty(), "{:?} ended without a word", self.command),
        }
    }
}

struct User {
    world: World,
    written: BTreeMap<String, Written>,
    talks: Vec<(Talk, oneshot::Receiver<Option<Heard>>)>,
    listeners: Vec<Listener>,
    printed: Printed,
    n: u64,
}

impl User {
    async fn new(seed: u64) -> Self {
        let world = World::new(seed).await;
        let hangs = Behaviour { exec: ExecBehaviour::Hangs, ..Behaviour::server() };
        world.engine.add_image("app:hangs", hangs);
        world.engine.land_calls();
        world.engine.set_forwarder(forward::play);
        let (written, printed) = (BTreeMap::new(), Printed::default());
        let user = Self { world, written, talks: Vec::new(), listeners: Vec::new(), printed, n: 0 };
        FAR.iter().for_each(|image| user.world.engine.add_remote_image(image, Behaviour::server(), 1));
        user
    }

    async fn furnish(&mut self, hangs: bool) {
        for claim in CLAIMS {
            self.create_claim(claim).await.unwrap();
            self.apply(&deployment(claim, 1, &with_claim(claim))).await;
        }
        let far = json!({ "terminationGracePeriodSeconds": 2, "containers": [container(FAR[0])] });
        self.apply(&deployment(PULLS, 2, &far)).await;
        self.apply(&deployment(SIZED, 1, &with_resources(hangs))).await;
        self.world.user_wrote();
    }

    async fn apply(&self, wanted: &Value) {
        let wanted: k8s_openapi::api::apps::v1::Deployment = serde_json::from_value(wanted.clone()).unwrap();
        let api = self.world.registry().api::<Deployments>();
        let key = ObjectKey::of(&wanted.metadata);
        if api.get(&key).is_some() {
            api.modify(&key, |old| old.spec.clone_from(&wanted.spec)).await.unwrap();
        } else {
            api.create(wanted).await.unwrap();
        }
    }

    async fn create_claim(&self, name: &str) -> Result<(), ApiError> {
        let claim = json!({
            "metadata": { "name": name, "namespace": "default" },
            "spec": { "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": "1Gi" } } },
        });
        let object = PERSISTENT_VOLUME_CLAIMS.decode(claim).unwrap();
        let options = WriteOptions::default();
        match self.world.registry().create(&PERSISTENT_VOLUME_CLAIMS, "default", object, &options).await {
            Ok(_) | Err(ApiError::AlreadyExists { .. }) => Ok(()),
            Err(err) => Err(err),
        }
    }

    async fn delete_claim(&self, name: &str) -> Result<(), ApiError> {
        let key = ObjectKey::new("default", name);
        let options = DeleteOptions::default();
        self.world.registry().delete(&PERSISTENT_VOLUME_CLAIMS, &key, &options).await.map(drop)
    }

    fn volumes(&self) -> Vec<Value> {
        let all = self.world.registry().snapshot(&PERSISTENT_VOLUMES, "", &Selection::default());
        all.entries.iter().map(|entry| read(entry)).collect()
    }

    async fn retain_volume(&self) -> Result<(), ApiError> {
        let volumes = self.volumes();
        let Some(volume) = one_of(&self.world, &volumes) else { return Ok(()) };
        let mut retain = |entry: &Entry| {
            let mut volume = read(entry);
            // Once its end has begun, that saves nothing for sure.
            if text(&volume, "/metadata/deletionTimestamp").is_empty() {
                volume["spec"]["persistentVolumeReclaimPolicy"] = json!("Retain");
            }
            Ok(PERSISTENT_VOLUMES.decode(volume).unwrap())
        };
        let (key, options) = (ObjectKey::new("", text(volume, "/metadata/name")), WriteOptions::default());
        self.world.registry().update(&PERSISTENT_VOLUMES, &key, Part::Main, &mut retain, &options).await.map(drop)
    }

    fn pods(&self, app: &str) -> Vec<Arc<Pod>> {
        let mut pods = self.world.registry().api::<Pods>().list("default").items;
        let is_its = |pod: &Arc<Pod>| {
            pod.metadata.labels.as_ref().and_then(|labels| labels.get("app")).is_some_and(|a| a == app)
        };
        pods.retain(is_its);
        pods
    }

    /// The engine's ID of the container of a pod that runs.
    fn running(&self, pod: &Pod) -> Option<String> {
        let uid = pod.metadata.uid.as_deref()?;
        let is_its = |c: &crate::engine::Container| {
            c.name.starts_with("k8s_c_") && c.name.contains(uid) && c.phase == Phase::Running
        };
        self.world.engine.containers().into_iter().find(is_its).map(|c| c.id)
    }

    /// A program writes a file into its claim.
    fn write_data(&mut self, claim: &str) {
        let pods = self.pods(claim);
        let Some(id) = pods.iter().find_map(|pod| self.running(pod)) else { return };
        let mounted = self.world.engine.spec(&id).unwrap().mounts.into_iter().find(|mount| mount.target == "/data");
        let Some(crate::engine::MountSource::Volume(docker)) = mounted.map(|mount| mount.source) else {
            panic!("the claim {claim} is mounted as something else");
        };
        let volumes = self.volumes();
        let its = volumes.iter().find(|volume| docker.ends_with(text(volume, "/spec/csi/volumeHandle")));
        let its = its.unwrap_or_else(|| panic!("{docker} is mounted by a running container, and no volume is it"));
        self.n += 1;
        let content = Bytes::from(format!("{claim} {}", self.n));
        self.world.engine.write_file(&id, FILE, &content);
        self.written.insert(text(its, "/metadata/name").to_owned(), Written { docker, content });
    }

    /// Begins a conversation with a command in a container that runs.
    async fn exec(&mut self) {
        let pods = self.world.registry().api::<Pods>().list("default").items;
        let Some(pod) = one_of(&self.world, &pods).cloned() else { return };
        let said = "x".repeat(usize::try_from(self.world.rng.between(0, 200_000)).unwrap());
        let commands: [&[&str]; 4] = [&["cat"], &["cat"], &["sh", "-c", PRINTS_BOTH], &["sleep", "5"]];
        let command = one_of(&self.world, &commands).unwrap().iter().map(|word| (*word).to_owned()).collect();
        self.converse(&pod, command, said.into()).await;
    }

    async fn converse(&mut self, pod: &Pod, command: Vec<String>, said: Bytes) {
        let (pod, streams) = (ObjectKey::of(&pod.metadata), self.world.streams());
        // It is not placed, or does not run.
        let Ok(on) = streams.find(&pod, "c") else { return };
        let at = self.world.clock.now();
        let talk = Talk { pod, container: on.id.clone(), command: command.clone(), said: said.clone(), at };
        let (tell, told) = oneshot::channel();
        let patience = if talk.hangs() { PATIENCE } else { TALK_MAX };
        let connected = Connected { stdin: true, stdout: true, stderr: true, tty: false };
        let work = async move {
            let begin = async move { streams.exec(&on, &command, connected).await.map_err(|err| err.to_string()) };
            let (_trigger, drain) = drain_signal();
            // Who waits no longer leaves.
            drop(tell.send(tokio::time::timeout(patience, hear(begin.boxed(), said, drain)).await.ok()));
        };
        self.world.group().enter(async { drop(task::spawn("client", work)) }).await;
        self.talks.push((talk, told));
    }

    /// Begins to listen to a container that runs.
    async fn listen(&mut self) {
        let pods = self.world.registry().api::<Pods>().list("default").items;
        let Some(pod) = one_of(&self.world, &pods) else { return };
        let way = *one_of(&self.world, &[Way::Follow, Way::Attach, Way::Forward]).unwrap();
        self.n += 1;
        let said = format!("said {}\n", self.n);
        let begun = Listener::begin(&self.world, way, &ObjectKey::of(&pod.metadata), &said).await;
        self.listeners.extend(begun);
    }

    /// The program of a container that runs.
    fn any_program(&self) -> Option<String> {
        let of_pods = |c: &crate::engine::Container| c.name.starts_with("k8s_c_") && c.phase == Phase::Running;
        let all: Vec<String> = self.world.engine.containers().into_iter().filter(of_pods).map(|c| c.id).collect();
        one_of(&self.world, &all).cloned()
    }

    fn print(&mut self) {
        if let Some(id) = self.any_program() {
            self.printed.add(&self.world, &id);
        }
    }

    fn hang_listeners(&self) {
        if let Some(id) = self.any_program() {
            self.world.engine.hang_listeners(&id);
        }
    }

    /// Changes what a pod's container may use, as `kubectl edit --subresource=resize` does.
    async fn resize(&self) -> Result<(), ApiError> {
        let pods = self.pods(SIZED);
        let Some(pod) = one_of(&self.world, &pods) else { return Ok(()) };
        let (cpu, memory) = (self.world.rng.between(1, 5) * 100, self.world.rng.between(1, 4) * 128);
        self.resize_to(pod, &format!("{cpu}m"), &format!("{memory}Mi")).await
    }

    async fn resize_to(&self, pod: &Pod, cpu: &str, memory: &str) -> Result<(), ApiError> {
        let asks =
            json!({ "requests": { "cpu": "100m", "memory": "64Mi" }, "limits": { "cpu": cpu, "memory": memory } });
        let mut change = |entry: &Entry| {
            let mut pod = Pod::clone(&decoded::<Pods>(entry));
            pod.spec.as_mut().unwrap().containers[0].resources = serde_json::from_value(asks.clone()).unwrap();
            Ok(Pods::pack(pod))
        };
        let (key, part) = (ObjectKey::of(&pod.metadata), Part::Facet(RESIZE));
        let options = WriteOptions::default();
        self.world.registry().update(Pods::erased(), &key, part, &mut change, &options).await.map(drop)
    }

    async fn step(&mut self) {
        let all: Vec<Action> = ACTIONS.iter().flat_map(|(n, action)| std::iter::repeat_n(*action, *n)).collect();
        let action = *one_of(&self.world, &all).unwrap();
        self.world.note(format!("{action:?}"));
        let claim = *one_of(&self.world, &CLAIMS).unwrap();
        let image = *one_of(&self.world, &FAR).unwrap();
        let written = match action {
            Action::CreateClaim => self.create_claim(claim).await,
            Action::DeleteClaim => self.delete_claim(claim).await,
            Action::RetainVolume => self.retain_volume().await,
            Action::DeletePod => harm::delete_pod(&self.world, |_| None).await,
            Action::Resize => self.resize().await,
            Action::SetImage => {
                let far = json!({ "terminationGracePeriodSeconds": 2, "containers": [container(image)] });
                self.apply(&deployment(PULLS, 2, &far)).await;
                Ok(())
            }
            Action::WriteData => return self.write_data(claim),
            Action::Exec => return self.exec().await,
            Action::Listen => return self.listen().await,
            Action::Print => return self.print(),
            Action::HangListeners => return self.hang_listeners(),
            Action::RemoveImage => return self.world.engine.docker_rmi(image),
            Action::BreakRegistry => return self.world.engine.add_remote_image(image, Behaviour::server(), 2),
            Action::FillDocker => return self.world.engine.set_disk_free(100 << 20),
            Action::EmptyDocker => return self.world.engine.set_disk_free(ROOM),
            Action::KillSomething => return harm::kill(&self.world),
            Action::HangAndTakeOver => {
                let hung = Duration::from_secs(self.world.rng.between(1, 20));
                return self.world.take_over(hung).await;
            }
            Action::RestartSkiff => return self.world.restart().await,
            Action::KillSkiff => return self.world.kill_and_start().await,
            Action::RestartDocker => {
                return self.world.engine.restart_daemon(Duration::from_secs(3), self.world.rng.one_in(2));
            }
        };
        self.world.user_wrote();
        if let Err(err) = written {
            self.world.note(format!("refused: {err}"));
        }
    }

    /// What must hold at any time.
    fn look(&mut self) {
        self.look_at_data();
        self.look_at_talks();
        self.listeners.retain_mut(|listener| listener.goes_on(&self.world, &self.printed));
        assert!(self.world.engine.pulls_at_once() <= 1, "an image is pulled twice at once");
        for container in self.world.engine.containers() {
            let hanging = self.world.engine.hanging(&container.id);
            assert!(hanging <= HANGING_MAX, "{hanging} commands hang in {}", container.name);
        }
    }

    /// The data of a volume is there until its volume goes; then both are gone.
    fn look_at_data(&mut self) {
        let volumes = self.volumes();
        let engine = &self.world.engine;
        self.written.retain(|name, written| {
            let Some(volume) = volumes.iter().find(|volume| text(volume, "/metadata/name") == name) else {
                let is_there = engine.all_volumes().contains(&written.docker);
                assert!(!is_there, "the volume {name} is gone, and {} is there", written.docker);
                return false;
            };
            let is_kept = text(volume, "/spec/persistentVolumeReclaimPolicy") == "Retain";
            if is_kept || text(volume, "/metadata/deletionTimestamp").is_empty() {
                let found = engine.volume_file(&written.docker, "file");
                assert_eq!(
                    found,
                    Some(written.content.clone()),
                    "what was written to {name} is not in {}",
                    written.docker
                );
            }
            true
        });
    }

    /// Conversations that have ended were whole. Those of a control plane that ended went with it.
    fn look_at_talks(&mut self) {
        let engine = &self.world.engine;
        let now = self.world.clock.now();
        self.talks.retain_mut(|(talk, told)| {
            let heard = match told.try_recv() {
                Err(oneshot::error::TryRecvError::Empty) => return true,
                Err(oneshot::error::TryRecvError::Closed) => return false,
                Ok(heard) => heard,
            };
            let container = engine.containers().into_iter().find(|c| c.id == talk.container);
            let is_ended = container.is_none_or(|c| c.phase != Phase::Running || c.started_at >= Some(talk.at));
            match heard {
                Some(heard) => talk.check(&heard, is_ended),
                None => assert!(talk.hangs(), "{:?} has not ended since {} at {now}", talk.command, talk.at),
            }
            false
        });
    }

    /// Lets time go by, and looks at each second of it.
    async fn pass_time(&mut self) {
        for _ in 0..self.world.rng.between(0, 9) {
            self.world.tick(TICK).await;
            self.look();
        }
    }

    /// Asks for something sound, and waits until all is as it should be.
    async fn settle(&mut self) {
        self.world.engine.set_disk_free(ROOM);
        // A claim that is still going is there again once it has gone.
        for name in CLAIMS {
            // A lost event is made good by the next list of all.
            for _ in 0..900 {
                let key = ObjectKey::new("default", name);
                let claim = self.world.registry().entry(&PERSISTENT_VOLUME_CLAIMS, &key).map(|entry| read(&entry));
                let goes = claim.is_some_and(|claim| !text(&claim, "/metadata/deletionTimestamp").is_empty());
                if !goes {
                    break;
                }
                // Its pod keeps it.
                for pod in self.pods(name) {
                    let key = ObjectKey::of(&pod.metadata);
                    drop(self.world.registry().api::<Pods>().delete(&key, &DeleteOptions::default()).await);
                }
                self.world.user_wrote();
                self.world.tick(TICK).await;
                self.look();
            }
            self.create_claim(name).await.unwrap();
        }
        self.furnish(false).await;
        self.world.complete().await;
        self.until("every container has its size", Self::sized).await;
        self.until("every conversation has ended", |user| {
            let (n_talks, n_listeners) = (user.talks.len() + user.listeners.len(), user.world.engine.n_listeners());
            let is_over = (n_talks, n_listeners) == (0, 0);
            if is_over { Ok(()) } else { Err(format!("{n_talks} go on, the engine has {n_listeners}")) }
        })
        .await;
        self.until("volumes that nobody has are gone", Self::swept).await;
    }

    async fn until(&mut self, what: &str, is_so: impl Fn(&Self) -> Result<(), String>) {
        for _ in 0..900 {
            self.look();
            if is_so(self).is_ok() {
                return;
            }
            self.world.tick(TICK).await;
        }
        panic!("not so in time: {what}: {}", is_so(self).unwrap_err());
    }

    /// Whether what a container may use is what its pod asks for, and the pod says so.
    fn sized(&self) -> Result<(), String> {
        for pod in self.pods(SIZED) {
            let asks = pod.spec.as_ref().unwrap().containers[0].resources.clone().unwrap_or_default();
            let limits = asks.limits.clone().unwrap_or_default();
            let limit = |name: &str| Quantity::parse(&limits[name].0).unwrap();
            let wanted = (Some(limit("memory").whole()), Some(limit("cpu").millis() * 1_000_000));
            let id = self.running(&pod).ok_or("it does not run")?;
            let has = self.world.engine.containers().into_iter().find(|c| c.id == id).unwrap().resources;
            let has = (has.memory_bytes, has.nano_cpus);
            let status = pod.status.as_ref().and_then(|s| s.container_statuses.as_ref()?.first()?.resources.clone());
            let is_told = status.as_ref() == Some(&asks);
            let waits =
                ["PodResizePending", "PodResizeInProgress"].map(|kind| pod_state::condition(&pod, kind).is_some());
            if has != wanted || !is_told || waits != [false; 2] {
                return Err(format!("it has {has:?} of {wanted:?}, says {status:?}, waits {waits:?}"));
            }
        }
        Ok(())
    }

    /// Whether the Docker volumes of claims are those of volumes that are there.
    fn swept(&self) -> Result<(), String> {
        let volumes = self.volumes();
        let going = volumes.iter().filter(|volume| !text(volume, "/metadata/deletionTimestamp").is_empty()).count();
        let handles: Vec<&str> = volumes.iter().map(|volume| text(volume, "/spec/csi/volumeHandle")).collect();
        let mut docker = self.world.engine.all_volumes();
        docker.retain(|name| name.contains("_claim_") && !handles.iter().any(|handle| name.ends_with(handle)));
        if docker.is_empty() && going == 0 { Ok(()) } else { Err(format!("{docker:?} are left, {going} volumes go")) }
    }
}

/// Faults of these things among those of everything.
fn arm(world: &World) {
    let mut plan = faults::draw(world);
    let mut own: Vec<CallFault> = CALLS
        .iter()
        .filter(|_| world.rng.one_in(2))
        .map(|call| CallFault {
            call: Some(*call),
            fault: *one_of(world, &WAYS).unwrap(),
            one_in: world.rng.between(1, 6),
            times: 3,
        })
        .collect();
    if world.rng.one_in(3) {
        own.push(CallFault { call: Some(CallKind::Update), fault: Fault::Refuse, one_in: 2, times: 3 });
    }
    own.append(&mut plan.calls);
    plan.calls = own;
    world.engine.set_faults(plan);
}

async fn story(seed: u64) {
    let mut user = User::new(seed).await;
    user.furnish(true).await;
    if seed.is_multiple_of(4) {
        user.world.complete().await;
    } else {
        arm(&user.world);
    }
    for _ in 0..STEPS {
        user.step().await;
        user.look();
        user.pass_time().await;
    }
    faults::disarm(&user.world);
    user.settle().await;
    user.world.converge().await;
}

#[test]
fn claims_keep_their_data_and_conversations_are_whole() {
    each_in_parallel(seeds(SEEDS), |seed| {
        let why = failure(|| simulate(story(seed)))?;
        Some(format!("seed {seed} fails: {why}"))
    });
}

impl User {
    /// Runs a command in a pod until it ends well: whoever's conversation breaks asks again.
    async fn insist(&mut self, app: &str, command: &[&str], said: &'static str) {
        for _ in 0..30 {
            let pod = self.pods(app).first().cloned().unwrap();
            self.converse(&pod, command.iter().map(|word| (*word).to_owned()).collect(), said.into()).await;
            let Some((talk, told)) = self.talks.pop() else {
                self.world.tick(TICK).await;
                continue;
            };
            let mut told = Box::pin(told);
            let heard = loop {
                if let Some(heard) = told.as_mut().now_or_never() {
                    break heard.unwrap();
                }
                self.world.tick(TICK).await;
            };
            let heard = heard.unwrap_or_else(|| panic!("{command:?} has not ended"));
            talk.check(&heard, true);
            if matches!(heard.end, Some(Ok(0))) {
                return;
            }
        }
        panic!("{command:?} does not end well");
    }
}

impl User {
    /// Listens to a pod until all was heard: whoever's stream breaks asks again.
    async fn insist_on(&mut self, way: Way, app: &str) {
        for _ in 0..30 {
            let pod = self.pods(app).first().cloned().unwrap();
            if let Some(id) = self.running(&pod) {
                self.printed.add(&self.world, &id);
            }
            let begun = Listener::begin(&self.world, way, &ObjectKey::of(&pod.metadata), "hello\n").await;
            let Some(listener) = begun else {
                self.world.tick(TICK).await;
                continue;
            };
            if listener.finish(&mut self.world, &self.printed).await {
                return;
            }
        }
        panic!("{way:?} never hears all");
    }
}

/// Claims with data, a command, three ways to listen, a resize, a pull, and the end of all. True when it was over before the `n`-th call.
async fn small_story(n: u64, fault: Fault) -> bool {
    let mut user = User::new(1).await;
    user.world.engine.fail_nth_call_of(&CALLS, n, fault);
    user.furnish(false).await;
    user.world.complete().await;
    user.insist(CLAIMS[0], &["cat"], "hello").await;
    for way in [Way::Follow, Way::Attach, Way::Forward] {
        user.insist_on(way, CLAIMS[0]).await;
    }
    for claim in CLAIMS {
        user.write_data(claim);
    }
    let pod = user.pods(SIZED)[0].clone();
    user.resize_to(&pod, "300m", "256Mi").await.unwrap();
    user.world.user_wrote();
    user.until("every container has its size", User::sized).await;
    user.world.engine.docker_rmi(FAR[0]);
    for app in [CLAIMS[0], PULLS] {
        let key = ObjectKey::of(&user.pods(app)[0].metadata);
        user.world.registry().api::<Pods>().delete(&key, &DeleteOptions::default()).await.unwrap();
    }
    user.world.user_wrote();
    user.world.complete().await;
    user.look();
    for name in [CLAIMS[1], SIZED] {
        let key = ObjectKey::new("default", name);
        user.world.registry().api::<Deployments>().delete(&key, &DeleteOptions::default()).await.unwrap();
    }
    user.delete_claim(CLAIMS[1]).await.unwrap();
    user.world.user_wrote();
    user.until("the claim's volume is gone", |user| {
        if user.volumes().len() == 1 { user.swept() } else { Err("it is there".to_owned()) }
    })
    .await;
    user.world.complete().await;
    if user.world.engine.nth_call_is_pending() {
        return true;
    }
    user.world.converge().await;
    user.look();
    assert_eq!(user.world.engine.n_listeners(), 0, "somebody is listened for who has left");
    assert!(user.written.len() == 1, "the claim that stays has its data");
    false
}

#[test]
fn whichever_call_of_volumes_images_and_commands_fails_everything_converges() {
    sweep::each_call(small_story);
}
