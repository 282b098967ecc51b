//! A deterministic engine for tests and the simulator: containers, images, networks and volumes as plain data.
//!
//! The node agent and the simulator call it through [`Engine`]; tests also through the controls on [`FakeEngine`].
//! It may call `base` only. `world` holds the state and its rules without async or chance of its own; this file adds time,
//! latency, faults and the event streams. Its tasks belong to no group: containers outlive a control plane that is killed.
//!
//! **Invariants**: time comes from [`Clock`] and tokio's timers, chance from [`Rng`], so a seed gives the same run;
//! every event stream sees the same events in the same order, unless a fault is planned; the lock is never held over an await.
//!
//! **Not here**: what Docker does that skiff does not use.
//!
//! Source: behaviour tried on Docker 20.10 (`contract` compares the two).

mod behaviour;
mod faults;
mod images;
mod network;
mod session;
mod world;

pub use behaviour::{Behaviour, BehaviourFn, ExecBehaviour, Life, OnStop};
pub use faults::{CallFault, CallKind, EventFault, EventFaultKind, Fault, FaultPlan};
pub use session::{PRINTS_BOTH, TELLS_SIZE};

use super::{
    Connected, Container, ContainerSpec, Credentials, Engine, EngineError, EngineEvent, EngineInfo, ExecOutput,
    FileEnd, Image, LogOptions, MemoryVolume, Neighbours, Network, NetworkSpec, PullError, PullProgress, Resources,
    Session, Usage,
};
use crate::base::{clock::Clock, rng::Rng, task};
use async_trait::async_trait;
use bytes::Bytes;
use faults::Faults;
use futures::{
    StreamExt as _,
    channel::mpsc,
    stream::{self, BoxStream},
};
use jiff::Timestamp;
use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};
use tokio::io::DuplexStream;
use world::{Out, World};

/// How long a call takes, from its shortest to its longest.
pub type Span = (Duration, Duration);

/// How long things take on the fake engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Latencies {
    /// `create`.
    pub create: Span,
    /// `start`.
    pub start: Span,
    /// `kill`.
    pub kill: Span,
    /// `remove`.
    pub remove: Span,
    /// `pull`.
    pub pull: Span,
    /// From a deadly signal to the end of the process.
    pub exit: Span,
    /// Every other call.
    pub other: Span,
}

impl Latencies {
    /// Nothing takes time.
    pub const NONE: Self = Self::all(Duration::ZERO, Duration::ZERO);

    /// About what Docker 20.10 needs on two cores.
    pub const DOCKER: Self = Self {
        create: millis(20, 60),
        start: millis(80, 300),
        kill: millis(5, 30),
        remove: millis(40, 120),
        pull: millis(500, 3000),
        exit: millis(10, 60),
        other: millis(1, 10),
    };

    const fn all(low: Duration, high: Duration) -> Self {
        let span = (low, high);
        Self { create: span, start: span, kill: span, remove: span, pull: span, exit: span, other: span }
    }

    fn of(&self, kind: CallKind) -> Span {
        match kind {
            CallKind::Create => self.create,
            CallKind::Start => self.start,
            CallKind::Kill => self.kill,
            CallKind::Remove => self.remove,
            CallKind::Pull | CallKind::Push | CallKind::FindInRegistry => self.pull,
            _ => self.other,
        }
    }
}

const fn millis(low: u64, high: u64) -> Span {
    (Duration::from_millis(low), Duration::from_millis(high))
}

/// A program that reads its input and writes its output.
pub type Forwarder = fn(DuplexStream, DuplexStream);

/// What a fake engine is made with.
#[derive(Clone, Debug)]
pub struct FakeConfig {
    /// The cluster whose containers `list` and `events` show.
    pub cluster: String,
    /// How long things take.
    pub latencies: Latencies,
    /// How long a call whose reply is lost waits before it says so.
    pub call_bound: Duration,
}

impl Default for FakeConfig {
    fn default() -> Self {
        Self { cluster: "skiff".into(), latencies: Latencies::NONE, call_bound: Duration::from_secs(30) }
    }
}

/// A call that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// Which.
    pub kind: CallKind,
    /// The container, image, network or volume that it names; empty where it names none.
    pub subject: String,
    /// When it began.
    pub at: Timestamp,
    /// What came back: `None` while it is under way or when its caller went away.
    pub outcome: Option<Result<(), String>>,
}

/// The engine; clones are the same engine.
#[derive(Clone)]
pub struct FakeEngine(Arc<Shared>);

struct Shared {
    clock: Clock,
    rng: Rng,
    config: FakeConfig,
    inner: Mutex<Inner>,
}

struct Inner {
    world: World,
    faults: Faults,
    streams: Vec<mpsc::UnboundedSender<EngineEvent>>,
    calls: BTreeMap<u64, Call>,
    n_calls: u64,
    is_down: bool,
    /// How many pulls of each image are under way, and the most that there ever were of one.
    pulling: BTreeMap<String, usize>,
    pulling_max: usize,
    /// Whether calls of callers that are killed may take effect.
    lands: bool,
    forwarder: Option<Forwarder>,
}

impl FakeEngine {
    /// An engine without images, containers or volumes, and with the network `bridge` as Docker has it.
    pub fn new(clock: Clock, rng: Rng, config: FakeConfig) -> Self {
        let world = World::new(config.cluster.clone(), clock.clone(), rng.clone());
        let inner = Inner {
            world,
            faults: Faults::default(),
            streams: Vec::new(),
            calls: BTreeMap::new(),
            n_calls: 0,
            is_down: false,
            pulling: BTreeMap::new(),
            pulling_max: 0,
            forwarder: None,
            lands: false,
        };
        Self(Arc::new(Shared { clock, rng, config, inner: Mutex::new(inner) }))
    }

    /// An engine for a unit test: seed 1, no latency, the cluster `skiff`. Call it inside a tokio runtime.
    pub fn for_test() -> Self {
        let wall = "2026-01-01T00:00:00Z".parse().expect("a fixed time");
        Self::new(Clock::simulated(wall), Rng::seeded(1), FakeConfig::default())
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.inner.lock().expect("no one panics while holding the lock")
    }

    /// Runs a change of the world, then sends its events and sets its timers.
    fn apply<T>(&self, change: impl FnOnce(&mut World) -> T) -> T {
        let mut inner = self.lock();
        let result = change(&mut inner.world);
        for out in inner.world.take_out() {
            match out {
                Out::Event(event) => self.publish(&mut inner, event),
                Out::End { after, id, run, code } => {
                    let after = after.unwrap_or_else(|| self.draw(self.0.config.latencies.exit));
                    self.end_later(after, id, run, code);
                }
                Out::Restart { after, id, run } => self.restart_later(after, id, run),
            }
        }
        result
    }

    fn end_later(&self, after: Duration, id: String, run: u64, code: i32) {
        let engine = self.clone();
        task::spawn_in_no_group("fake-process", async move {
            tokio::time::sleep(after).await;
            engine.apply(|world| world.end(&id, run, code, false));
        });
    }

    fn restart_later(&self, after: Duration, id: String, run: u64) {
        let engine = self.clone();
        task::spawn_in_no_group("fake-policy", async move {
            tokio::time::sleep(after).await;
            engine.apply(|world| world.restart_by_policy(&id, run));
        });
    }

    fn publish(&self, inner: &mut Inner, event: EngineEvent) {
        if inner.is_down {
            return;
        }
        match inner.faults.for_event(&self.0.rng) {
            None => inner.send(&event),
            Some(EventFaultKind::Lost) => {}
            Some(EventFaultKind::Doubled) => {
                inner.send(&event);
                inner.send(&event);
            }
            Some(EventFaultKind::Late(by)) => {
                let engine = self.clone();
                task::spawn_in_no_group("fake-late-event", async move {
                    tokio::time::sleep(by).await;
                    let mut inner = engine.lock();
                    if !inner.is_down {
                        inner.send(&event);
                    }
                });
            }
        }
    }

    fn draw(&self, (low, high): Span) -> Duration {
        if low >= high {
            return low;
        }
        let (low, high) = (nanos(low), nanos(high));
        Duration::from_nanos(self.0.rng.between(low, high))
    }

    /// One engine call: recorded, delayed, made to fail when a fault is planned for it.
    async fn call<T: Send>(
        &self,
        kind: CallKind,
        subject: &str,
        effect: impl FnOnce(&mut World) -> Result<T, EngineError> + Send,
    ) -> Result<T, EngineError> {
        let (number, fault) = self.begin(kind, subject);
        let landing = Landing { engine: self, effect: Some(effect) };
        let result = self.perform(kind, subject, fault, landing).await;
        let outcome = result.as_ref().map(|_| ()).map_err(ToString::to_string);
        if let Some(call) = self.lock().calls.get_mut(&number) {
            call.outcome = Some(outcome);
        }
        result
    }

    fn begin(&self, kind: CallKind, subject: &str) -> (u64, Option<Fault>) {
        let at = self.0.clock.now();
        let mut inner = self.lock();
        inner.n_calls += 1;
        let number = inner.n_calls;
        inner.calls.insert(number, Call { kind, subject: subject.into(), at, outcome: None });
        let fault = inner.faults.for_call(kind, &self.0.rng);
        (number, fault)
    }

    async fn perform<T: Send>(
        &self,
        kind: CallKind,
        subject: &str,
        fault: Option<Fault>,
        mut landing: Landing<'_, T, impl FnOnce(&mut World) -> Result<T, EngineError> + Send>,
    ) -> Result<T, EngineError> {
        let what = if subject.is_empty() { kind.words().to_owned() } else { format!("{} {subject}", kind.words()) };
        let delay = self.draw(self.0.config.latencies.of(kind));
        self.check_up(&what).inspect_err(|_| landing.lose())?;
        pass(delay / 2).await;
        match fault {
            Some(Fault::FailBefore) => {
                landing.lose();
                return Err(EngineError::Failed(format!("{what}: planned fault, no effect")));
            }
            Some(Fault::Refuse) => {
                landing.lose();
                return Err(EngineError::Invalid(format!("{what}: planned refusal, no effect")));
            }
            Some(Fault::Slow(by)) => pass(by).await,
            Some(Fault::DaemonRestart { down, stop_containers }) => self.restart_daemon(down, stop_containers),
            Some(Fault::LostReply | Fault::CutReply) | None => {}
        }
        self.check_up(&what).inspect_err(|_| landing.lose())?;
        let result = self.apply(landing.effect.take().expect("an effect happens once"));
        match fault {
            Some(Fault::LostReply) => {
                let bound = self.0.config.call_bound;
                pass(bound).await;
                return Err(EngineError::TimedOut(what, bound));
            }
            Some(Fault::CutReply) => {
                return Err(EngineError::Failed(format!("{what}: the connection was closed")));
            }
            _ => {}
        }
        pass(delay / 2).await;
        if self.lock().is_down {
            return Err(EngineError::Failed(format!("{what}: the connection was closed")));
        }
        result
    }

    fn check_up(&self, what: &str) -> Result<(), EngineError> {
        if self.lock().is_down {
            return Err(EngineError::Unreachable(format!("{what}: the fake engine is not running")));
        }
        Ok(())
    }
}

/// The effect of a call on its way to the engine. It may happen all the same when the caller is killed meanwhile.
struct Landing<'e, T, F: FnOnce(&mut World) -> Result<T, EngineError>> {
    engine: &'e FakeEngine,
    effect: Option<F>,
}

impl<T, F: FnOnce(&mut World) -> Result<T, EngineError>> Landing<'_, T, F> {
    /// The effect never happens.
    fn lose(&mut self) {
        self.effect = None;
    }
}

impl<T, F: FnOnce(&mut World) -> Result<T, EngineError>> Drop for Landing<'_, T, F> {
    fn drop(&mut self) {
        let Some(effect) = self.effect.take() else { return };
        let lands = {
            let inner = self.engine.lock();
            inner.lands && !inner.is_down
        };
        if lands && self.engine.0.rng.one_in(2) {
            // Nobody is left to be told.
            drop(self.engine.apply(effect));
        }
    }
}

/// A pull under way.
struct Pulling<'e>(&'e FakeEngine, String);

impl<'e> Pulling<'e> {
    fn begin(engine: &'e FakeEngine, reference: &str) -> Self {
        let mut inner = engine.lock();
        let n = inner.pulling.entry(reference.to_owned()).or_default();
        *n += 1;
        let n = *n;
        inner.pulling_max = inner.pulling_max.max(n);
        Self(engine, reference.to_owned())
    }
}

impl Drop for Pulling<'_> {
    fn drop(&mut self) {
        if let Some(n) = self.0.lock().pulling.get_mut(&self.1) {
            *n -= 1;
        }
    }
}

fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

/// Sleeps; does not even yield when there is nothing to wait for.
async fn pass(time: Duration) {
    if !time.is_zero() {
        tokio::time::sleep(time).await;
    }
}

impl Inner {
    fn send(&mut self, event: &EngineEvent) {
        self.streams.retain(|stream| stream.unbounded_send(event.clone()).is_ok());
    }
}

/// Controls: what the world outside does. They take no time, never fail by plan, and are no recorded calls.
impl FakeEngine {
    /// Gives the engine an image whose containers behave so. The reference of an existing image is moved, as by a build.
    pub fn add_image(&self, reference: &str, behaviour: Behaviour) {
        self.add_image_fn(reference, Arc::new(move |_| behaviour.clone()));
    }

    /// Gives the engine an image whose containers behave as a function of their specification says.
    pub fn add_image_fn(&self, reference: &str, behaviour: BehaviourFn) {
        let image = Image { tags: vec![reference.into()], command: vec!["/app".into()], ..Image::default() };
        self.add_image_with(image, behaviour);
    }

    /// Gives the engine an image with these facts (tags, user, stop signal, digests …); the ID is made when it is empty.
    pub fn add_image_with(&self, image: Image, behaviour: BehaviourFn) {
        self.apply(|world| world.add_image(image, behaviour));
    }

    /// Somebody else creates a container of this image: another cluster, or a user when the cluster's name is empty.
    pub fn add_foreign_container(&self, cluster: &str, image: &str) {
        let spec = ContainerSpec { name: format!("foreign-{cluster}"), image: image.into(), ..Default::default() };
        self.apply(|world| world.create_foreign(&spec, cluster));
    }

    /// Puts an image into the registry that `pull` asks. The first `failures` pulls fail as if there were no network.
    pub fn add_remote_image(&self, reference: &str, behaviour: Behaviour, failures: u32) {
        self.apply(|world| world.add_remote(reference, Arc::new(move |_| behaviour.clone()), failures));
    }

    /// Puts an image into the registry that only this user may pull.
    pub fn add_private_image(&self, reference: &str, behaviour: Behaviour, username: &str) {
        self.apply(|world| {
            world.add_remote(reference, Arc::new(move |_| behaviour.clone()), 0);
            world.set_private(reference, username);
        });
    }

    /// How containers of images made by `import_image` behave; at first as [`Behaviour::pause`].
    pub fn set_imported_behaviour(&self, behaviour: BehaviourFn) {
        self.apply(|world| world.imported = behaviour);
    }

    /// From now on half of the calls whose caller is killed while they are under way take effect all the same.
    pub fn land_calls(&self) {
        self.lock().lands = true;
    }

    /// `docker kill`.
    pub fn docker_kill(&self, container: &str, signal: &str) -> Result<(), EngineError> {
        self.apply(|world| world.kill(container, signal))
    }

    /// `docker stop`: the stop signal, then `SIGKILL` after `grace`. Returns once the container has ended.
    pub async fn docker_stop(&self, container: &str, grace: Duration) -> Result<(), EngineError> {
        let signal = self.apply(|world| world.stop_signal(container))?;
        self.docker_kill(container, &signal)?;
        let deadline = self.0.clock.mono() + grace;
        while self.is_running(container) {
            if self.0.clock.mono() >= deadline {
                self.docker_kill(container, "SIGKILL")?;
                pass(self.0.config.latencies.exit.1).await;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Ok(())
    }

    /// `docker rm -f`.
    pub fn docker_rm(&self, container: &str) -> Result<(), EngineError> {
        self.apply(|world| world.remove(container))
    }

    /// `docker start`.
    pub fn docker_start(&self, container: &str) -> Result<(), EngineError> {
        self.apply(|world| world.start_by_hand(container))
    }

    /// `docker restart`: the same container ends and starts again, as long after as a start takes.
    pub async fn docker_restart(&self, container: &str, grace: Duration) -> Result<(), EngineError> {
        if self.is_running(container) {
            self.docker_stop(container, grace).await?;
        }
        pass(self.draw(self.0.config.latencies.start)).await;
        self.docker_start(container)
    }

    /// `docker update --restart=always`, or `=no`.
    pub fn docker_update_restart(&self, container: &str, always: bool) {
        self.apply(|world| world.set_policy(container, always));
    }

    /// The IDs of the containers that run although skiff did not start them: a person did, or the engine by itself.
    pub fn started_by_hand(&self) -> BTreeSet<String> {
        self.lock().world.started_by_hand()
    }

    /// A program of the host listens on a port, or does not any more.
    pub fn set_port_taken(&self, port: u16, is_taken: bool) {
        self.apply(|world| if is_taken { world.taken_ports.insert(port) } else { world.taken_ports.remove(&port) });
    }

    /// A container loses its address, as by `docker network disconnect`.
    pub fn disconnect(&self, container: &str) {
        self.apply(|world| world.disconnect(container));
    }

    /// A container that lost its address gets the lowest free one, as by `docker network connect`.
    pub fn connect(&self, container: &str) {
        self.apply(|world| world.connect(container));
    }

    /// The program ends by itself.
    pub fn crash(&self, container: &str, code: i32) {
        self.apply(|world| world.crash(container, code, false));
    }

    /// The kernel kills the program for memory.
    pub fn run_out_of_memory(&self, container: &str) {
        self.apply(|world| world.crash(container, 137, true));
    }

    /// The program prints a line.
    pub fn print(&self, container: &str, line: &str) {
        self.apply(|world| world.print(container, line));
    }

    /// The program writes a file that is bound into its container; what it held before is gone.
    pub fn write_file(&self, container: &str, path: &str, content: &[u8]) {
        self.apply(|world| world.write_file(container, path, content));
    }

    /// Makes the program answer as ready or not from now on, whatever its behaviour says; `None` gives it back.
    pub fn set_ready(&self, container: &str, ready: Option<bool>) {
        self.apply(|world| world.set_ready(container, ready));
    }

    /// What listens to a container's program hears nothing more, and is not told of its end: as when the engine has lost count of it.
    pub fn hang_listeners(&self, container: &str) {
        self.apply(|world| world.hang_listeners(container));
    }

    /// How many logs are followed and how many conversations are held that nobody has left.
    pub fn n_listeners(&self) -> usize {
        self.lock().world.n_listeners()
    }

    /// What `skiff forward` does in a sandbox from now on; it is given its input and its output.
    pub fn set_forwarder(&self, forwarder: Forwarder) {
        self.lock().forwarder = Some(forwarder);
    }

    /// How many commands hang in a container that nobody waits for any more.
    pub fn hanging(&self, container: &str) -> usize {
        self.lock().world.hanging(container)
    }

    /// Whether the program runs and is ready.
    pub fn probe(&self, container: &str) -> bool {
        self.lock().world.probe(container)
    }

    /// Whether a ready program answers at this address: the fake of an HTTP or TCP probe, and of a Service's dial.
    pub fn answers(&self, ip: Ipv4Addr, port: u16) -> bool {
        self.lock().world.answers(ip, port)
    }

    /// The daemon goes away. With `stop_containers` it takes its containers along; no event tells so.
    pub fn daemon_down(&self, stop_containers: bool) {
        self.lock().is_down = true;
        self.apply(World::cut_conversations);
        if stop_containers {
            self.apply(World::stop_all);
        }
    }

    /// The daemon is back: it starts what it is to restart, and every stream gets a [`EngineEvent::Resync`].
    pub fn daemon_up(&self) {
        if std::mem::replace(&mut self.lock().is_down, false) {
            self.lock().send(&EngineEvent::Resync);
            self.apply(World::restart_what_restarts);
        }
    }

    /// The daemon goes away and is back after `down`.
    pub fn restart_daemon(&self, down: Duration, stop_containers: bool) {
        self.daemon_down(stop_containers);
        let engine = self.clone();
        task::spawn_in_no_group("fake-daemon", async move {
            tokio::time::sleep(down).await;
            engine.daemon_up();
        });
    }

    /// Interrupts every event stream for an instant; what happened so far is not sent again.
    pub fn interrupt_streams(&self) {
        self.lock().send(&EngineEvent::Resync);
    }

    /// Replaces the fault plan; an empty one ends the faults.
    pub fn set_faults(&self, plan: FaultPlan) {
        self.lock().faults.set_plan(plan);
    }

    /// Makes the `n`-th call from now (the next is 1) meet this fault.
    pub fn fail_nth_call(&self, n: u64, fault: Fault) {
        self.lock().faults.set_nth(n, fault, None);
    }

    /// The same among the calls of these kinds.
    pub fn fail_nth_call_of(&self, kinds: &'static [CallKind], n: u64, fault: Fault) {
        self.lock().faults.set_nth(n, fault, Some(kinds));
    }

    /// How much of the engine's disk is free from now on, in bytes.
    pub fn set_disk_free(&self, bytes: u64) {
        self.apply(|world| world.disk_free_bytes = bytes);
    }

    /// Whether the fault of [`FakeEngine::fail_nth_call`] is still to come: a sweep ends when it is.
    pub fn nth_call_is_pending(&self) -> bool {
        self.lock().faults.nth_is_pending()
    }

    /// Every call since the record was last taken, oldest first.
    pub fn calls(&self) -> Vec<Call> {
        self.lock().calls.values().cloned().collect()
    }

    /// Empties the record and returns what it held.
    pub fn take_calls(&self) -> Vec<Call> {
        std::mem::take(&mut self.lock().calls).into_values().collect()
    }

    /// Every container, of whatever cluster, by name.
    pub fn containers(&self) -> Vec<Container> {
        self.lock().world.all()
    }

    /// The name of a container that is there or was, by its ID.
    pub fn name_of(&self, id: &str) -> Option<String> {
        self.lock().world.past_names.get(id).cloned()
    }

    /// What a container was created with.
    pub fn spec(&self, container: &str) -> Option<ContainerSpec> {
        self.lock().world.spec(container)
    }

    /// A file that was uploaded into a container, by its path.
    pub fn file(&self, container: &str, path: &str) -> Option<Bytes> {
        self.lock().world.file(container, path)
    }

    /// Every volume's name, of whatever cluster.
    pub fn all_volumes(&self) -> Vec<String> {
        self.lock().world.all_volumes()
    }

    /// A file in a volume, by its path below it.
    pub fn volume_file(&self, volume: &str, path: &str) -> Option<Bytes> {
        self.lock().world.volume_files.get(&(volume.to_owned(), path.to_owned())).map(|(_, content)| content.clone())
    }

    /// `docker rmi -f`: the names of an image go, whoever uses it; the image itself only if nobody does.
    pub fn docker_rmi(&self, reference: &str) {
        self.apply(|world| world.remove_image_by_force(reference));
    }

    /// How many pulls of one image there were at the same time, at most.
    pub fn pulls_at_once(&self) -> usize {
        self.lock().pulling_max
    }

    /// Every network's name.
    pub fn all_networks(&self) -> Vec<String> {
        self.lock().world.all_networks()
    }

    fn is_running(&self, container: &str) -> bool {
        self.lock().world.is_running(container)
    }
}

#[async_trait]
impl Engine for FakeEngine {
    async fn info(&self) -> Result<EngineInfo, EngineError> {
        self.call(CallKind::Info, "", |world| Ok(world.info())).await
    }

    async fn neighbours(&self) -> Result<Neighbours, EngineError> {
        self.call(CallKind::Neighbours, "", |world| Ok(world.neighbours())).await
    }

    async fn list(&self) -> Result<Vec<Container>, EngineError> {
        self.call(CallKind::List, "", |world| Ok(world.list())).await
    }

    async fn inspect(&self, container: &str) -> Result<Option<Container>, EngineError> {
        self.call(CallKind::Inspect, container, |world| Ok(world.inspect(container))).await
    }

    async fn usage(&self, container: &str) -> Result<Option<Usage>, EngineError> {
        self.call(CallKind::Usage, container, |world| Ok(world.usage(container))).await
    }

    async fn create(&self, spec: &ContainerSpec) -> Result<String, EngineError> {
        spec.check_size()?;
        self.call(CallKind::Create, &spec.name, |world| world.create(spec)).await
    }

    async fn start(&self, container: &str) -> Result<(), EngineError> {
        self.call(CallKind::Start, container, |world| world.start(container)).await
    }

    async fn start_with_input(&self, container: &str, input: Bytes) -> Result<(), EngineError> {
        self.call(CallKind::Start, container, |world| {
            world.start(container)?;
            world.give(container, &input)
        })
        .await
    }

    async fn kill(&self, container: &str, signal: &str) -> Result<(), EngineError> {
        self.call(CallKind::Kill, container, |world| match world.kill(container, signal) {
            Err(EngineError::NotFound(_) | EngineError::Conflict(_)) => Ok(()),
            other => other,
        })
        .await
    }

    async fn update(&self, container: &str, resources: &Resources) -> Result<(), EngineError> {
        self.call(CallKind::Update, container, |world| world.update(container, *resources)).await
    }

    async fn remove(&self, container: &str) -> Result<(), EngineError> {
        self.call(CallKind::Remove, container, |world| match world.remove(container) {
            Err(EngineError::NotFound(_)) => Ok(()),
            other => other,
        })
        .await
    }

    async fn upload(&self, container: &str, directory: &str, tar: Bytes) -> Result<(), EngineError> {
        self.call(CallKind::Upload, container, |world| world.upload(container, directory, &tar)).await
    }

    async fn copy_image_files(&self, from: &str, to: &str, directory: &str) -> Result<(), EngineError> {
        self.call(CallKind::CopyImageFiles, from, |world| world.copy_image_files(from, to, directory)).await
    }

    async fn file_end(&self, container: &str, path: &str, bytes_max: usize) -> Result<Option<FileEnd>, EngineError> {
        self.call(CallKind::FileEnd, container, |world| world.file_end(container, path, bytes_max)).await
    }

    async fn exec(&self, container: &str, command: &[String], timeout: Duration) -> Result<ExecOutput, EngineError> {
        let run = self.call(CallKind::Exec, container, |world| world.exec(container, command)).await?;
        if run.takes.is_none_or(|takes| takes > timeout) {
            pass(timeout).await;
            let pid = self.apply(|world| world.hang(container, run.run));
            return Err(EngineError::Overdue(format!("exec in {container}"), timeout, pid));
        }
        pass(run.takes.unwrap_or_default()).await;
        if self.lock().world.run_of(container) != Some(run.run) {
            return Ok(ExecOutput { exit_code: 137, output: Bytes::new() });
        }
        Ok(run.output)
    }

    async fn exec_session(
        &self,
        container: &str,
        command: &[String],
        connected: Connected,
    ) -> Result<Session, EngineError> {
        let exec = |world: &mut World| {
            let run = world.exec(container, command)?;
            let cut = world.converse(container);
            Ok((run, cut))
        };
        let (run, cut) = self.call(CallKind::ExecSession, container, exec).await?;
        let of = session::Of { engine: self.clone(), container: container.to_owned(), cut };
        Ok(session::of_command(of, command, connected, run))
    }

    async fn attach(&self, container: &str, connected: Connected) -> Result<Session, EngineError> {
        let attach = |world: &mut World| Ok((world.attach(container)?, world.converse(container)));
        let (lines, cut) = self.call(CallKind::Attach, container, attach).await?;
        let of = session::Of { engine: self.clone(), container: container.to_owned(), cut };
        Ok(session::of_container(of, lines, connected))
    }

    async fn logs(
        &self,
        container: &str,
        options: &LogOptions,
    ) -> Result<BoxStream<'static, Result<Bytes, EngineError>>, EngineError> {
        let read = |world: &mut World| {
            let (past, future) = world.logs(container, options)?;
            Ok((past, future, options.follow.then(|| world.converse(container))))
        };
        let (past, future, cut) = self.call(CallKind::Logs, container, read).await?;
        let printed = stream::iter(past).chain(future).map(Ok).boxed();
        Ok(match cut {
            Some(cut) => session::until_cut(printed, cut, || {}),
            None => printed,
        })
    }

    fn events(&self) -> BoxStream<'static, EngineEvent> {
        let (sender, receiver) = mpsc::unbounded();
        let mut inner = self.lock();
        if !inner.is_down {
            sender.unbounded_send(EngineEvent::Resync).expect("the receiver is alive");
        }
        inner.streams.push(sender);
        receiver.boxed()
    }

    async fn image(&self, reference: &str) -> Result<Option<Image>, EngineError> {
        self.call(CallKind::Image, reference, |world| Ok(world.image(reference))).await
    }

    async fn images(&self) -> Result<Vec<Image>, EngineError> {
        self.call(CallKind::Images, "", |world| Ok(world.images())).await
    }

    async fn pull(
        &self,
        reference: &str,
        credentials: Option<&Credentials>,
        progress: &PullProgress,
    ) -> Result<(), PullError> {
        progress.set(1_000_000, 2_000_000);
        let _under_way = Pulling::begin(self, reference);
        let pulled = self.call(CallKind::Pull, reference, |world| Ok(world.pull(reference, credentials))).await;
        pulled.map_err(|err| PullError::Failed(err.to_string()))?
    }

    async fn find_in_registry(&self, reference: &str, credentials: Option<&Credentials>) -> Result<(), PullError> {
        let find = |world: &mut World| Ok(world.find_remote(reference, credentials).map(drop));
        let found = self.call(CallKind::FindInRegistry, reference, find).await;
        found.map_err(|err| PullError::Failed(err.to_string()))?
    }

    async fn push(&self, reference: &str, credentials: Option<&Credentials>) -> Result<(), PullError> {
        let pushed = self.call(CallKind::Push, reference, |world| Ok(world.push(reference, credentials))).await;
        pushed.map_err(|err| PullError::Failed(err.to_string()))?
    }

    async fn import_image(
        &self,
        reference: &str,
        tar: Bytes,
        entrypoint: &[String],
        labels: &BTreeMap<String, String>,
    ) -> Result<String, EngineError> {
        self.call(CallKind::ImportImage, reference, |world| Ok(world.import(reference, &tar, entrypoint, labels))).await
    }

    async fn derive_image(
        &self,
        base: &str,
        reference: &str,
        entrypoint: &[String],
        labels: &BTreeMap<String, String>,
    ) -> Result<String, EngineError> {
        self.call(CallKind::DeriveImage, reference, |world| world.derive(base, reference, entrypoint, labels)).await
    }

    async fn tag_image(&self, image: &str, reference: &str) -> Result<(), EngineError> {
        self.call(CallKind::TagImage, reference, |world| world.tag(image, reference)).await
    }

    async fn remove_image(&self, reference: &str) -> Result<(), EngineError> {
        self.call(CallKind::RemoveImage, reference, |world| world.remove_image(reference)).await
    }

    async fn network(&self, name: &str) -> Result<Option<Network>, EngineError> {
        self.call(CallKind::Network, name, |world| Ok(world.network(name))).await
    }

    async fn create_network(&self, spec: &NetworkSpec) -> Result<Network, EngineError> {
        self.call(CallKind::CreateNetwork, &spec.name, |world| world.create_network(spec)).await
    }

    async fn remove_network(&self, name: &str) -> Result<(), EngineError> {
        self.call(CallKind::RemoveNetwork, name, |world| world.remove_network(name)).await
    }

    async fn create_memory_volume(
        &self,
        name: &str,
        _memory: MemoryVolume,
        labels: &BTreeMap<String, String>,
    ) -> Result<(), EngineError> {
        let create = |world: &mut World| {
            drop(world.create_volume(name, labels));
            Ok(())
        };
        self.call(CallKind::CreateVolume, name, create).await
    }

    async fn create_volume(&self, name: &str, labels: &BTreeMap<String, String>) -> Result<String, EngineError> {
        self.call(CallKind::CreateVolume, name, |world| Ok(world.create_volume(name, labels))).await
    }

    async fn create_shared_volume(&self, name: &str, labels: &BTreeMap<String, String>) -> Result<String, EngineError> {
        self.create_volume(name, labels).await
    }

    async fn volumes(&self) -> Result<Vec<String>, EngineError> {
        self.call(CallKind::Volumes, "", |world| Ok(world.volumes())).await
    }

    async fn remove_volume(&self, name: &str) -> Result<(), EngineError> {
        self.call(CallKind::RemoveVolume, name, |world| world.remove_volume(name)).await
    }
}

#[cfg(test)]
mod tests;
