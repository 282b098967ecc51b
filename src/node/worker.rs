//! One worker per pod UID: it owns all that is known of the pod and runs what is decided for it.
//!
//! Started and woken by `agent`. It thinks (`decide`), starts what came out, and waits for whatever ends first: a call, a message,
//! a time.
//!
//! **Invariants**: it decides only after taking in everything that has arrived; calls run side by side, each in its slot;
//! a status write is one of them and delays none; it never polls.
//! **Not here**: what to do (`decide`), how (`execute`), who is woken by what (`agent`).

mod blocks;
mod files;
mod notes;
mod resizes;

use blocks::signed;
use files::Refresh;
use resizes::ResizeState;

use super::{
    context::{Context, stored_pod},
    decide::{Action, Decision, Ending, Hook, Memory, Slot, Stop, View, Waiting, decide},
    execute::{self, Failure, Mounted, Renewal, Site, Start, until},
    identity::{PodId, spec_hash},
    lifecycle::pre_stop_of,
    observe::{Applied, ObservedContainer, ObservedPod, Run, StopReason},
    probes::{self, Believed, Due, Probes},
    resize::Pending,
    rotation,
    sandbox::sandbox_is_on_host,
    status::{Facts, is_news, pod_ip, pod_status, restarts},
    timeline::Starts,
    translate::ConfigError,
};
use crate::{
    api::{
        agreements::{DATA_PLANE, ROTATION_PATIENCE, SYSTEM_NAMESPACE},
        ephemeral::{container_of, ephemeral_of},
        kinds::{endpoint_slice::EndpointSlices, lease::Leases},
        meta::ObjectKey,
        status::ApiError,
    },
    base::{
        ordered::{CollectOrdered as _, Map},
        task::{self, Drain},
    },
    engine::{Container as EngineContainer, EngineError, EventKind, Resources},
};
use futures::{
    FutureExt as _, StreamExt as _,
    future::{BoxFuture, join_all},
    stream::FuturesUnordered,
};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use std::{
    borrow::Cow,
    collections::BTreeMap,
    net::Ipv4Addr,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};
use tracing::{debug, info};

/// A hook after the start has no bound in Kubernetes; here it has one, so that nothing is under way for ever.
const POST_START_BOUND: Duration = Duration::from_hours(1);
/// The shortest sleep: timers are no finer.
const SLEEP_MIN: Duration = Duration::from_millis(1);

/// What wakes a worker.
#[derive(Clone, Debug)]
pub(super) enum Message {
    /// The pod changed, or something else that it may wait for.
    Woken,
    /// Something happened to one of its containers.
    Event {
        /// The container's ID.
        id: String,
        /// What.
        kind: EventKind,
        /// When.
        at: Timestamp,
    },
    /// The engine was listed.
    Listed {
        /// Every container of the pod.
        containers: Vec<EngineContainer>,
        /// Whether no event had to be lost for this list to be made: differences are then worth a word.
        is_safety: bool,
        /// Whether the engine was away and is back: what it refused may be tried again.
        is_back: bool,
    },
    /// A container of whomever got another network or lost one; or, without one, a network was made.
    Network {
        /// The container's ID.
        container: Option<String>,
        /// When.
        at: Timestamp,
    },
    /// The engine's images changed.
    Images,
    /// A ConfigMap or Secret of the pod's namespace changed.
    Config,
}

/// What ended.
enum Done {
    SandboxCreated(Result<(ObservedContainer, Mounted), Failure>),
    SandboxStarted(String, Result<EngineContainer, Failure>),
    Inspected(Vec<(String, Result<Option<EngineContainer>, EngineError>)>),
    Created(String, Result<(ObservedContainer, Arc<Mounted>), Failure>),
    Started(String, String, Result<Start, EngineError>),
    PostStart(String, Result<(), String>),
    PreStop(String),
    Signalled(String, Ending, Result<(), EngineError>),
    Resized(String, String, Resources, Result<(), EngineError>),
    Removed(String, Result<(), EngineError>),
    VolumesRemoved(Result<(), EngineError>),
    PodDeleted(Result<(), ApiError>),
    Probed(Due, Result<(), String>),
    StatusWritten(Result<(), ApiError>),
    LastWords(Run, String),
    MessageFileRenewed,
    ImageHere(String, bool),
    FilesWritten(String, Result<(), EngineError>),
}

type Metadata = (Option<BTreeMap<String, String>>, Option<BTreeMap<String, String>>);

type Work = BoxFuture<'static, (Option<Slot>, Done)>;

/// A pod's worker.
pub(super) struct Worker {
    context: Arc<Context>,
    id: PodId,
    key: ObjectKey,
    mailbox: mpsc::Receiver<Message>,
    observed: ObservedPod,
    memory: Memory,
    work: FuturesUnordered<Work>,
    probes: Probes,
    mounted: Option<Arc<Mounted>>,
    /// The hash of the files that the current sandbox shows.
    files: String,
    refresh: Refresh,
    /// The sandbox whose end is known.
    ended_sandbox: String,
    /// Why containers waited after the last decision: users are told of changes.
    waited: Map<String, Waiting>,
    /// What the spec of each container was: a changed one is tried at once.
    hashes: BTreeMap<String, String>,
    /// The labels and annotations that files may show.
    shown_metadata: Option<Metadata>,
    /// For each container, its next attempt and the sandbox of it, and whether the file for that one's message is a new one.
    renewals: Map<String, ((u32, u32), Renewal)>,
    /// Why containers keep the resources that they have, although they ask for others.
    pending: Option<Pending>,
    /// How a resize was when users were last told.
    resize: Option<ResizeState>,
    /// The last starts of its containers.
    starts: Arc<Mutex<Starts>>,
    is_writing_status: bool,
    /// Set once nothing new is to be made: whoever waits for an image gives up.
    abandon: watch::Sender<bool>,
    /// Whether something came since it last thought.
    has_news: bool,
    /// When it thinks again although nothing came.
    think_at: Option<Instant>,
    /// When the next probe is due.
    probe_at: Option<Instant>,
}

impl Worker {
    /// A worker for a pod, with what a list showed of it.
    pub(super) fn new(
        context: Arc<Context>,
        pod: &Pod,
        listed: &[EngineContainer],
        mailbox: mpsc::Receiver<Message>,
    ) -> Self {
        let id = PodId::of(pod);
        context.image_volumes.adopt(&id.uid, listed);
        let mut observed = ObservedPod::from_engine(&id, listed);
        observed.restore(pod);
        if let Some(pause) = context.last_pause() {
            observed.excuse(pause.since, pause.until);
        }
        let mut worker = Self {
            key: ObjectKey::new(&id.namespace, &id.name),
            pending: None,
            resize: None,
            starts: context.keep_starts(&id.uid),
            files: observed.sandbox().map(|s| s.identity.volumes.clone()).unwrap_or_default(),
            context,
            id,
            mailbox,
            observed,
            memory: Memory::default(),
            work: FuturesUnordered::new(),
            probes: Probes::default(),
            mounted: None,
            refresh: Refresh::default(),
            ended_sandbox: String::new(),
            waited: Map::new(),
            hashes: BTreeMap::new(),
            shown_metadata: None,
            renewals: Map::new(),
            is_writing_status: false,
            abandon: watch::Sender::new(false),
            has_news: true,
            think_at: None,
            probe_at: None,
        };
        worker.adopt(pod);
        worker
    }

    /// The IDs and names of the containers that run, the sandbox aside.
    fn running_apps(&self) -> Vec<(String, String)> {
        let running = self.observed.apps().filter(|c| c.is_running());
        running.map(|c| (c.id.clone(), c.identity.container.clone())).collect()
    }

    /// What runs already had its `postStart` hook, and keeps what was believed of its health.
    fn adopt(&mut self, pod: &Pod) {
        let now = self.context.clock().mono();
        for (id, name) in self.running_apps() {
            self.memory.post_start.insert(id.clone(), Hook::Done);
            if let Some(spec) = container_of(pod, &name) {
                self.probes.watch(&id, &spec, believed_of(pod, &id), now);
            }
        }
        self.memory.last_words = self.observed.told_last_words(pod);
        if let Some(pause) = self.context.last_pause() {
            self.note_paused(pause);
        }
        self.starts().adopt(&self.observed, self.context.now());
        // What changed while nobody looked, and when the next token is due.
        self.refresh_files();
    }

    /// Works until nothing is left of the pod, or skiff ends.
    pub(super) async fn run(mut self, drain: Drain) {
        while !self.step() {
            let timer = self.think_at.into_iter().chain(self.probe_at).min();
            tokio::select! {
                biased;
                () = drain.drained() => return,
                Some((slot, done)) = self.work.next(), if !self.work.is_empty() => self.take_in(slot, done),
                message = self.mailbox.recv() => match message {
                    Some(message) => self.receive(message),
                    None => return,
                },
                () = sleep_until(timer) => {}
            }
            self.take_in_the_rest();
        }
        self.context.set_leaving(&self.id.uid, false);
        self.context.note_sandbox(&self.id.uid, None);
        self.context.forget_tokens(&self.id.uid);
        self.context.forget_starts(&self.id.uid);
        debug!(
            component = "node",
            namespace = self.id.namespace,
            name = self.id.name,
            uid = self.id.uid,
            "pod is gone"
        );
    }

    /// Takes in everything else that has arrived, so that one decision serves it all.
    fn take_in_the_rest(&mut self) {
        while let Ok(message) = self.mailbox.try_recv() {
            self.receive(message);
        }
        while let Some(Some((slot, done))) = self.work.next().now_or_never() {
            self.take_in(slot, done);
        }
    }

    // Thinking.

    /// Does what is due; true when nothing is left to do, ever. Nearly all probes say what the last one said: the next is begun, and
    /// nothing is thought over.
    fn step(&mut self) -> bool {
        let is_time = self.think_at.is_some_and(|at| at <= self.context.clock().mono());
        let pod = stored_pod(&self.context.pods, &self.key, &self.id.uid);
        let Some(pod) = pod.filter(|_| !self.has_news && !is_time) else { return self.think() };
        self.begin_probes(&pod);
        self.probe_at = self.probes.next_at();
        false
    }

    /// Decides, and starts what was decided; true when nothing is left to do, ever.
    fn think(&mut self) -> bool {
        self.has_news = false;
        let pod = stored_pod(&self.context.pods, &self.key, &self.id.uid);
        if let Some(pod) = &pod {
            self.notice_changed_specs(pod);
            self.watch_running(pod);
            self.begin_probes(pod);
            self.check_rotation(pod);
            self.note_ended_sandbox();
            self.ask_last_words(pod);
            self.refresh_late_files();
            self.pending = self.look_for_room(pod);
            if self.context.next_token_at(&self.id.uid).is_some_and(|at| at <= self.context.now()) {
                self.refresh_files();
            }
        }
        let sandbox = self.observed.sandbox().filter(|s| s.is_running() && !s.is_gone);
        self.context.note_sandbox(&self.id.uid, sandbox.map(|s| s.id.as_str()));
        let decision = self.decide(pod.as_deref());
        if let Some(pod) = &pod {
            self.note_starts(pod);
        }
        let is_ending = pod.as_ref().is_none_or(|pod| pod.metadata.deletion_timestamp.is_some());
        self.abandon.send_replace(is_ending || decision.over.is_some());
        let status = pod.as_ref().map(|pod| self.status(pod, &decision));
        for action in decision.actions.clone() {
            self.begin(action, pod.as_ref(), status.as_ref());
        }
        if let (Some(pod), Some(status)) = (&pod, status) {
            self.tell_waiting(pod, &decision);
            self.tell_resize(pod, &decision);
            self.write_status(pod, status);
        }
        self.set_timer(&decision, pod.is_some());
        decision.is_finished
    }

    /// A decision. Stops that it begins are noted at once, and it goes on from there.
    fn decide(&mut self, pod: Option<&Pod>) -> Decision {
        self.forget_what_ended();
        self.probes.show(&mut self.memory);
        loop {
            let now = self.context.now();
            let mut decision = decide(View {
                pod,
                observed: &self.observed,
                memory: &self.memory,
                backoff: self.context.config.restart_backoff,
                pending: self.pending.as_ref(),
                now,
            });
            let is_begin = |action: &Action| matches!(action, Action::BeginStop { .. });
            let (begun, others) = std::mem::take(&mut decision.actions).into_iter().partition(is_begin);
            decision.actions = others;
            if Vec::is_empty(&begun) {
                return decision;
            }
            for action in begun {
                if let (Action::BeginStop { container, id, reason, grace }, Some(pod)) = (action, pod) {
                    self.begin_stop(pod, &container, &id, reason, grace, now);
                }
            }
        }
    }

    fn starts(&self) -> MutexGuard<'_, Starts> {
        self.starts.lock().expect("no one panics while holding the lock")
    }

    fn forget_what_ended(&mut self) {
        let observed = &self.observed;
        let runs = |id: &str| observed.by_id(id).is_some_and(ObservedContainer::is_running);
        self.memory.stops.retain(|id, _| runs(id));
        self.probes.retain(runs);
    }

    fn begin_stop(
        &mut self,
        pod: &Pod,
        name: &str,
        id: &str,
        reason: StopReason,
        grace: SignedDuration,
        now: Timestamp,
    ) {
        let spec = container_of(pod, name);
        let has_network = !matches!(reason, StopReason::SandboxGone | StopReason::Superseded);
        let has_hook = has_network && spec.as_deref().and_then(pre_stop_of).is_some();
        let waits = reason == StopReason::PodDeleted && rotation::takes_part(pod, self.data_plane().as_deref());
        self.observed.note_stopping(id, reason);
        self.memory.stops.insert(
            id.to_owned(),
            Stop {
                reason,
                since: now,
                grace,
                pre_stop_due: has_hook,
                rotation_until: waits.then_some(now + signed(ROTATION_PATIENCE)),
                asked_at: None,
                killed_at: None,
            },
        );
        if waits {
            self.context.set_leaving(&self.id.uid, true);
            self.check_rotation(pod);
        }
        self.tell_stop(pod, name, reason);
    }

    fn data_plane(&self) -> Option<Arc<k8s_openapi::api::coordination::v1::Lease>> {
        let (namespace, name) = (SYSTEM_NAMESPACE, DATA_PLANE);
        self.context.registry.api::<Leases>().get(&ObjectKey::new(namespace, name))
    }

    /// Looks whether the data plane has let go of the pod, when something waits for that.
    fn check_rotation(&mut self, pod: &Pod) {
        let waits = |stop: &Stop| stop.rotation_until.is_some() && stop.asked_at.is_none();
        if self.memory.has_left_rotation || !self.memory.stops.values().any(waits) {
            return;
        }
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let slices = self.context.registry.api::<EndpointSlices>().list(namespace).items;
        self.memory.has_left_rotation = rotation::has_left(&self.id.uid, &slices, self.data_plane().as_deref());
        if self.memory.has_left_rotation {
            self.context.set_leaving(&self.id.uid, false);
        }
    }

    /// Probes and tokens are due only while the pod is stored: what nobody begins must not wake the worker over and over.
    fn set_timer(&mut self, decision: &Decision, is_stored: bool) {
        let (mono, now) = (self.context.clock().mono(), self.context.now());
        let at = |at: Timestamp| mono + until(at, now).max(SLEEP_MIN);
        let tokens = self.context.next_token_at(&self.id.uid).filter(|_| is_stored && self.free_sandbox().is_some());
        let files = self.refresh.due_at().filter(|_| is_stored);
        let times = [decision.wake_at, self.status_retry_at(), tokens, files];
        self.think_at = times.into_iter().flatten().map(at).min();
        self.probe_at = self.probes.next_at().filter(|_| is_stored);
    }

    /// The sandbox to write files into, when there is one and nobody is at it.
    fn free_sandbox(&self) -> Option<String> {
        let sandbox = self.observed.sandbox().filter(|s| s.is_running() && !s.is_gone)?;
        (!self.memory.is_busy(&Slot::Files)).then(|| sandbox.id.clone())
    }

    // Probes.

    fn watch_running(&mut self, pod: &Pod) {
        let now = self.context.clock().mono();
        for (id, name) in self.running_apps() {
            if let Some(spec) = container_of(pod, &name) {
                self.probes.watch(&id, &spec, Believed::default(), now);
            }
        }
    }

    fn begin_probes(&mut self, pod: &Arc<Pod>) {
        for due in self.probes.begin_due(self.context.clock().mono()) {
            let ports = container_of(pod, &due.container).and_then(|c| c.ports.clone()).unwrap_or_default();
            let (context, pod_ip, uid) = (Arc::clone(&self.context), self.pod_ip(pod), self.id.uid.clone());
            self.start(None, async move {
                // Whatever a container answers, it costs its own probe only.
                let probe = AssertUnwindSafe(probes::make(&context, &uid, &due, &ports, pod_ip)).catch_unwind().await;
                let result =
                    probe.unwrap_or_else(|panic| Err(format!("the probe panicked: {}", task::panic_text(&*panic))));
                Done::Probed(due, result)
            });
        }
    }

    fn pod_ip(&self, pod: &Pod) -> Option<Ipv4Addr> {
        pod_ip(pod, &self.observed, self.context.config.node_ip)
    }

    // Starting work.

    fn start(&mut self, slot: Option<Slot>, work: impl Future<Output = Done> + Send + 'static) {
        if let Some(slot) = &slot {
            self.memory.in_flight.insert(slot.clone());
        }
        self.work.push(work.map(move |done| (slot, done)).boxed());
    }

    fn site(&self, pod: &Arc<Pod>) -> Site {
        let (context, pod) = (Arc::clone(&self.context), Arc::clone(pod));
        Site { context, pod, abandoned: self.abandon.subscribe() }
    }

    /// Starts an action. Actions that need the pod's object come only while it is stored.
    fn begin(&mut self, action: Action, pod: Option<&Arc<Pod>>, status: Option<&PodStatus>) {
        debug!(component = "node", namespace = self.id.namespace, name = self.id.name, action = ?action, "begin");
        match (action, pod) {
            (Action::Inspect { id }, _) => self.inspect(vec![id]),
            (Action::Signal { container, id, ending }, pod) => self.signal(&container, &id, ending, pod),
            (Action::Resize { container, id, resources }, _) => self.begin_resize(container, id, resources),
            (Action::Remove { id }, _) => {
                let context = Arc::clone(&self.context);
                self.start(Some(Slot::Remove(id.clone())), async move {
                    let result = execute::remove(&context, &id).await;
                    Done::Removed(id, result)
                });
            }
            (Action::RemoveVolumes, _) => {
                let (context, uid) = (Arc::clone(&self.context), self.id.uid.clone());
                self.start(Some(Slot::Volumes), async move {
                    Done::VolumesRemoved(Site::remove_volumes(&context, &uid).await)
                });
            }
            (action, Some(pod)) => self.begin_for(action, pod, status),
            (_, None) => {}
        }
    }

    fn begin_for(&mut self, action: Action, pod: &Arc<Pod>, status: Option<&PodStatus>) {
        let site = self.site(pod);
        match action {
            Action::CreateSandbox { attempt } => {
                self.tell_sandbox_changed(pod, attempt);
                self.start(
                    Some(Slot::Sandbox),
                    async move { Done::SandboxCreated(site.create_sandbox(attempt).await) },
                );
            }
            Action::StartSandbox { id } => {
                let (has_files, mounted) = (!self.files.is_empty(), self.mounted.clone());
                self.start(Some(Slot::Sandbox), async move {
                    let result = site.start_sandbox(&id, has_files, mounted).await;
                    Done::SandboxStarted(id, result)
                });
            }
            Action::Create { container, attempt, sandbox, failures } => {
                self.create_container(site, container, (attempt, sandbox, failures));
            }
            Action::Start { container, id } => {
                self.start(Some(Slot::Container(container.clone())), async move {
                    let result = site.start_container(&container, &id).await;
                    Done::Started(container, id, result)
                });
            }
            Action::PostStart { container, id } => self.run_hook(site, &container, id, true, POST_START_BOUND),
            Action::PreStop { container, id, deadline } => {
                let bound = until(deadline, self.context.now());
                self.run_hook(site, &container, id, false, bound);
            }
            Action::DeletePod => {
                let last = status.cloned().unwrap_or_default();
                self.start(Some(Slot::Delete), async move { Done::PodDeleted(site.delete_pod(&last).await) });
            }
            Action::Inspect { .. }
            | Action::Resize { .. }
            | Action::Signal { .. }
            | Action::Remove { .. }
            | Action::RemoveVolumes
            | Action::BeginStop { .. } => unreachable!("these are begun without the pod's object"),
        }
    }

    fn create_container(&mut self, site: Site, name: String, numbers: (u32, u32, u32)) {
        let Some(spec) = container_of(&site.pod, &name).map(Cow::into_owned) else { return };
        let (mounted, pod_ip) = (self.mounted.clone(), self.pod_ip(&site.pod));
        let spec = self.with_given_resources(&site.pod, spec);
        let target = self.target_of(&site.pod, &name);
        let (attempt, sandbox, _) = numbers;
        let renewal =
            self.renewals.remove(&name).filter(|(of, _)| *of == (attempt, sandbox)).map(|(_, renewal)| renewal);
        self.start(Some(Slot::Container(name.clone())), async move {
            let result = match target {
                Ok(target) => site.create_container(&spec, numbers, mounted, pod_ip, renewal, target).await,
                Err(error) => Err(error.into()),
            };
            Done::Created(name, result)
        });
    }

    /// The container whose processes an ephemeral container sees, if it has one. Source: `getTargetID`,
    /// `pkg/kubelet/kuberuntime/kuberuntime_container.go`, v1.37.
    fn target_of(&self, pod: &Pod, name: &str) -> Result<Option<String>, ConfigError> {
        let ephemeral = pod.spec.as_ref().and_then(|spec| ephemeral_of(spec, name));
        let target = ephemeral.and_then(|c| c.target_container_name.as_deref()).filter(|target| !target.is_empty());
        let Some(target) = target else { return Ok(None) };
        let running = self.observed.latest(target).filter(|c| c.is_running() && !c.is_gone);
        let found = running.map(|c| Some(c.id.clone()));
        found.ok_or_else(|| ConfigError::Other(format!("unable to find target container {target}")))
    }

    fn run_hook(&mut self, site: Site, name: &str, id: String, is_post_start: bool, bound: Duration) {
        let Some(spec) = container_of(&site.pod, name).map(Cow::into_owned) else { return };
        let pod_ip = self.pod_ip(&site.pod);
        let slot = if is_post_start { Slot::PostStart(id.clone()) } else { Slot::PreStop(id.clone()) };
        self.start(Some(slot), async move {
            let result = site.run_hook(&spec, &id, is_post_start, pod_ip, bound).await;
            // Whether `preStop` went well or badly, the container is asked to stop next.
            if is_post_start { Done::PostStart(id, result) } else { Done::PreStop(id) }
        });
    }

    /// Looks at containers. What is seen is taken in at once, so that nothing is decided on half of it.
    fn inspect(&mut self, ids: Vec<String>) {
        let context = Arc::clone(&self.context);
        self.memory.in_flight.extend(ids.iter().cloned().map(Slot::Inspect));
        self.start(None, async move {
            let look = |id: String| async {
                let result = context.ask(context.engine.inspect(&id)).await;
                (id, result)
            };
            Done::Inspected(join_all(ids.into_iter().map(look)).await)
        });
    }

    fn inspected(&mut self, id: &str, result: Result<Option<EngineContainer>, EngineError>) {
        self.memory.in_flight.remove(&Slot::Inspect(id.to_owned()));
        match result {
            Ok(Some(container)) => {
                let applied = self.observed.note_inspected(&container);
                self.applied(id, applied);
                self.memory.blocked.remove(id);
                if self.lacks_address(id) {
                    self.observed.note_cut_off(id, self.context.now());
                    self.sandbox_has_no_address();
                }
            }
            Ok(None) => drop(self.observed.note_vanished(id, self.context.now())),
            Err(error) => self.hold(id, &error.to_string()),
        }
    }

    /// Whether it is a sandbox that runs and should have an address, and has none: looking at it over and over gives it none.
    fn lacks_address(&self, id: &str) -> bool {
        let sandbox = self.observed.by_id(id).filter(|c| c.identity.is_sandbox() && c.is_running() && c.ip.is_none());
        let pod = sandbox.and_then(|_| stored_pod(&self.context.pods, &self.key, &self.id.uid));
        pod.is_some_and(|pod| !sandbox_is_on_host(&pod))
    }

    fn signal(&mut self, name: &str, id: &str, ending: Ending, pod: Option<&Arc<Pod>>) {
        let Some(container) = self.observed.by_id(id).cloned() else { return };
        let spec = pod.and_then(|pod| container_of(pod, name));
        let own = spec.and_then(|s| s.lifecycle.as_ref()?.stop_signal.clone());
        if let Some(stop) = self.memory.stops.get_mut(id) {
            let at = Some(self.context.now());
            match ending {
                Ending::Ask => stop.asked_at = at,
                Ending::Kill => stop.killed_at = at,
            }
        }
        let context = Arc::clone(&self.context);
        self.start(Some(Slot::Signal(id.to_owned())), async move {
            let result = execute::signal(&context, &container, ending, own).await;
            Done::Signalled(container.id, ending, result)
        });
    }

    // The status.

    fn status(&self, pod: &Pod, decision: &Decision) -> PodStatus {
        let digests = self.context.images.digests();
        let facts = Facts {
            observed: &self.observed,
            memory: &self.memory,
            decision,
            pending: self.pending.as_ref(),
            node_ip: self.context.config.node_ip,
            digests: &digests,
            now: self.context.now(),
        };
        pod_status(pod, facts)
    }

    /// Writes the status when it differs from what is stored; one write at a time, the last one wins.
    fn write_status(&mut self, pod: &Arc<Pod>, wanted: PodStatus) {
        let is_going = self.memory.is_busy(&Slot::Delete) || self.memory.object_deleted;
        // What a container had to say is told with its end.
        if self.is_writing_status
            || self.memory.awaits_last_words()
            || is_going
            || self.status_retry_at().is_some()
            || !is_news(pod, &wanted)
        {
            return;
        }
        self.is_writing_status = true;
        let (site, restarts) = (self.site(pod), restarts(&self.observed));
        self.start(None, async move { Done::StatusWritten(site.write_status(&wanted, restarts).await) });
    }

    // Taking in.

    fn receive(&mut self, message: Message) {
        self.has_news = true;
        match message {
            Message::Woken => {}
            Message::Event { id, kind, at } => self.receive_event(&id, kind, at),
            Message::Listed { containers, is_safety, is_back } => {
                if is_back {
                    self.note_engine_back(&containers);
                    self.unblock_engine();
                }
                self.compare(&containers, is_safety);
            }
            Message::Network { container, at } => self.receive_network(container, at),
            Message::Images => self.look_for_images(),
            Message::Config => self.receive_config(),
        }
    }

    fn receive_event(&mut self, id: &str, kind: EventKind, at: Timestamp) {
        let is_making = self.memory.in_flight.iter().any(|s| matches!(s, Slot::Sandbox | Slot::Container(_)));
        let is_seen = self.memory.is_busy(&Slot::Inspect(id.to_owned()));
        let applied = self.observed.apply(id, kind, at);
        self.applied(id, applied);
        // What was changed of how the engine treats it, a look tells.
        let is_changed = kind == EventKind::Updated && applied != Applied::Unknown;
        if is_changed && !is_seen {
            self.inspect(vec![id.to_owned()]);
        }
        if applied == Applied::Unknown && !is_making && !is_seen {
            // Somebody made or revived a container of this pod behind our back.
            self.inspect(vec![id.to_owned()]);
        }
    }

    /// A new run of a container has nothing of the last one: hooks, probes and stops begin again.
    fn applied(&mut self, id: &str, applied: Applied) {
        if applied != Applied::RunsAgain {
            return;
        }
        self.memory.post_start.remove(id);
        self.memory.stops.remove(id);
        self.probes.forget(id);
        self.tell_run_again(id);
    }

    /// A network was connected or disconnected. The engine does so itself before it starts and after it ends a container.
    fn receive_network(&mut self, container: Option<String>, at: Timestamp) {
        let Some(id) = container else { return self.unblock_engine() };
        let is_sandbox = |c: &ObservedContainer| c.identity.is_sandbox() && c.is_running() && c.started_at < Some(at);
        let is_seen = self.memory.is_busy(&Slot::Inspect(id.clone())) || self.memory.is_busy(&Slot::Sandbox);
        if self.observed.by_id(&id).is_some_and(is_sandbox) && !is_seen {
            self.inspect(vec![id]);
        }
    }

    /// Looks again at every container about which a list says something else than is known.
    fn compare(&mut self, containers: &[EngineContainer], is_safety: bool) {
        let mut ids: Vec<String> = self.observed.differences(&self.id, containers).into_iter().collect();
        let is_busy =
            |id: &String| [Slot::Remove(id.clone()), Slot::Inspect(id.clone())].iter().any(|s| self.memory.is_busy(s));
        ids.retain(|id| !is_busy(id));
        if is_safety {
            ids.iter().for_each(|_| self.context.count_relist_find());
        }
        if !ids.is_empty() {
            self.inspect(ids);
        }
    }

    fn take_in(&mut self, slot: Option<Slot>, done: Done) {
        if let Some(slot) = &slot {
            self.memory.in_flight.remove(slot);
        }
        self.has_news |= !matches!(done, Done::Probed(..));
        let now = self.context.now();
        match done {
            Done::SandboxCreated(result) => self.sandbox_created(result),
            Done::SandboxStarted(id, result) => self.sandbox_started(&id, result),
            Done::Inspected(results) => results.into_iter().for_each(|(id, result)| self.inspected(&id, result)),
            Done::Created(name, result) => self.container_created(&name, result),
            Done::Started(name, id, result) => self.container_started(&name, &id, result),
            Done::PostStart(id, result) => {
                let hook = if result.is_ok() { Hook::Done } else { Hook::Failed };
                self.memory.post_start.insert(id, hook);
            }
            Done::PreStop(id) => {
                if let Some(stop) = self.memory.stops.get_mut(&id) {
                    stop.pre_stop_due = false;
                }
            }
            Done::Resized(name, id, resources, result) => self.resized(&name, &id, resources, result),
            Done::Signalled(id, ending, Err(error)) => self.signal_failed(&id, ending, &error),
            Done::Signalled(id, _, Ok(())) => drop(self.memory.blocked.remove(&id)),
            Done::Removed(id, Ok(())) => {
                self.memory.blocked.remove(&id);
                self.memory.doubtful.remove(&id);
                self.observed.note_removed(&id, now);
            }
            Done::Removed(id, Err(error)) => self.hold(&id, &error.to_string()),
            Done::VolumesRemoved(Ok(())) => self.memory.volumes_removed = true,
            Done::VolumesRemoved(Err(error)) => self.hold(super::decide::VOLUMES, &error.to_string()),
            Done::PodDeleted(Ok(())) => self.memory.object_deleted = true,
            Done::PodDeleted(Err(error)) => self.hold(super::decide::DELETE, &error.to_string()),
            Done::Probed(due, result) => self.probed(&due, result),
            Done::StatusWritten(result) => self.status_written(result),
            Done::LastWords(run, text) => drop(self.memory.last_words.insert(run, Some(text))),
            Done::MessageFileRenewed => {}
            Done::ImageHere(name, is_here) => self.image_looked_for(&name, is_here),
            Done::FilesWritten(hash, result) => self.files_written(hash, result),
        }
    }

    fn sandbox_created(&mut self, result: Result<(ObservedContainer, Mounted), Failure>) {
        match result {
            Ok((sandbox, mounted)) => {
                self.unblock_for_new_sandbox();
                self.files = mounted.plan.hash();
                self.mounted = Some(Arc::new(mounted));
                self.memory.doubtful.remove(&sandbox.identity.name());
                self.observed.note_created(sandbox);
            }
            Err(failure) => self.sandbox_failed(&failure),
        }
    }

    fn sandbox_started(&mut self, id: &str, result: Result<EngineContainer, Failure>) {
        match result {
            // That others failed before it is remembered for a while: it may start and end at once.
            Ok(container) => drop(self.observed.note_inspected(&container)),
            Err(failure) => {
                self.sandbox_failed(&failure);
                // Another is made rather than this one tried again: what it lacks may be its own fault.
                self.observed.note_start_failed(id, "the sandbox did not start", self.context.now());
            }
        }
    }

    fn container_created(&mut self, name: &str, result: Result<(ObservedContainer, Arc<Mounted>), Failure>) {
        match result {
            Ok((container, mounted)) => {
                self.memory.blocked.remove(name);
                self.mounted.get_or_insert(mounted);
                self.memory.doubtful.remove(&container.identity.name());
                let (id, image, image_id) = (container.id.clone(), container.image.clone(), container.image_id.clone());
                self.observed.note_created(container);
                self.observed.note_image(&id, &image, &image_id);
            }
            Err(failure) => self.container_failed(name, &failure),
        }
    }

    fn container_started(&mut self, name: &str, id: &str, result: Result<Start, EngineError>) {
        let now = self.context.now();
        match result {
            Ok(Start::Ran) => {
                self.memory.blocked.remove(name);
                self.observed.note_started(id, now);
                self.renew_message_file(id);
                info!(
                    component = "node",
                    namespace = self.id.namespace,
                    name = self.id.name,
                    container = name,
                    "container started"
                );
            }
            Ok(Start::CannotRun(error)) => self.observed.note_start_failed(id, &error, now),
            Ok(Start::Gone) => drop(self.observed.note_vanished(id, now)),
            Err(error) => self.block_engine(name, "RunContainerError", &error),
        }
    }

    fn signal_failed(&mut self, id: &str, ending: Ending, error: &EngineError) {
        if let Some(stop) = self.memory.stops.get_mut(id) {
            match ending {
                Ending::Ask => stop.asked_at = None,
                Ending::Kill => stop.killed_at = None,
            }
        }
        self.hold(id, &error.to_string());
    }

    fn probed(&mut self, due: &Due, result: Result<(), String>) {
        let ended = self.probes.end(&due.id, due.kind, result.is_ok(), self.context.clock().mono());
        self.has_news |= ended.changes_health;
        if let (true, Err(output)) = (ended.is_told, result) {
            self.tell_unhealthy(due, &output);
        }
    }
}

/// What the pod's status says of a container's health.
fn believed_of(pod: &Pod, id: &str) -> Believed {
    let statuses = pod
        .status
        .iter()
        .flat_map(|s| s.container_statuses.iter().flatten().chain(s.init_container_statuses.iter().flatten()));
    let is_it = |container_id: &Option<String>| container_id.as_ref().is_some_and(|c| c.ends_with(id));
    let status = statuses.into_iter().find(|s| is_it(&s.container_id));
    status.map_or(Believed::default(), |s| Believed { started: s.started == Some(true), ready: s.ready })
}

/// The hashes of all containers of a pod.
fn spec_hashes(pod: &Pod) -> BTreeMap<String, String> {
    let all = pod.spec.iter().flat_map(|s| s.containers.iter().chain(s.init_containers.iter().flatten()));
    all.map(|c| (c.name.clone(), spec_hash(c))).collect_ordered()
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
