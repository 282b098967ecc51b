//! What the engine has of one pod: [`ObservedPod`], made from lists and inspections, kept current by events.
//!
//! Called by the worker; read by `decide` and `status`. Pure: it is told what the engine says.
//!
//! **Invariants**: an event or a result that comes late, twice or out of order never takes a container back to an earlier state;
//! a container that somebody else removed stays as a tombstone, so that its successor has the next attempt;
//! of several attempts that run one counts, whoever started them; a sandbox whose network changed is never the pod's again.
//! **Not here**: what to do about it (`decide`), what skiff itself has under way (`decide::Memory`).

mod restore;

use super::identity::{Identity, PodId, SANDBOX};
use crate::{
    base::ordered::{Map, Set},
    engine::{Container, EventKind, Phase, Resources},
};
use jiff::{SignedDuration, Timestamp};
use std::net::Ipv4Addr;

/// A signal that somebody sent explains a death that comes at most this much later.
const SIGNAL_EXPLAINS: SignedDuration = SignedDuration::from_secs(300);
/// A container that ran this long starts anew: twice the longest delay, as `flowcontrol.Backoff` forgets.
const BACKOFF_FORGETS: SignedDuration = SignedDuration::from_secs(600);
/// The signal that nobody can heed.
const SIGKILL: i32 = 9;
/// How soon the engine starts a container again that it was asked to restart: half a second on a busy machine.
const RETURNS_WITHIN: SignedDuration = SignedDuration::from_millis(1500);
/// The exit code of a process that `SIGKILL` ended; also stands for one that nobody knows.
const KILLED: i32 = 137;
/// The exit code of a process that `SIGTERM` ended.
const TERMINATED: i32 = 143;

/// Why skiff stops a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// The pod is being deleted.
    PodDeleted,
    /// The pod has run longer than it may.
    Deadline,
    /// The pod's work is done, or cannot be done.
    PodOver,
    /// The liveness probe failed too often.
    Liveness,
    /// The startup probe failed too often.
    Startup,
    /// The container's definition changed.
    Changed,
    /// Its sandbox is gone, so it has no network.
    SandboxGone,
    /// Its `postStart` hook failed.
    PostStartHook,
    /// Another attempt of it runs, and started before.
    Superseded,
    /// It may use other resources now, and asks to be started anew for that.
    Resized,
}

/// Why a container ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Its program ended by itself, or the kernel ended it for memory.
    Itself,
    /// Somebody outside skiff killed, stopped or removed it.
    Outside,
    /// Skiff stopped it.
    Stopped(StopReason),
}

impl Cause {
    /// Whether a container ended by its own fault: what back-off counts.
    pub fn is_own_fault(self) -> bool {
        match self {
            Self::Itself => true,
            Self::Outside => false,
            Self::Stopped(reason) => {
                matches!(reason, StopReason::Liveness | StopReason::Startup | StopReason::PostStartHook)
            }
        }
    }
}

/// How a container ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exit {
    /// Its exit code.
    pub code: i32,
    /// Whether the kernel killed it for memory.
    pub oom_killed: bool,
    /// Why it could not start at all; empty when it did.
    pub error: String,
    /// Why.
    pub cause: Cause,
    /// When.
    pub at: Timestamp,
}

/// Where a container is in its life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Never started.
    Created,
    /// Running.
    Running,
    /// Ended.
    Exited(Exit),
}

/// A container of a pod as the engine has it, or had it last.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub struct ObservedContainer {
    /// Who it is.
    pub identity: Identity,
    /// The engine's ID.
    pub id: String,
    /// The image reference it was made from.
    pub image: String,
    /// The image's ID.
    pub image_id: String,
    /// Where it is in its life.
    pub state: State,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it last started.
    pub started_at: Option<Timestamp>,
    /// Its address, when it has a network of its own.
    pub ip: Option<Ipv4Addr>,
    /// What of the machine it may use, once that is known.
    pub resources: Option<Resources>,
    /// Whether it is gone from the engine: removed by somebody else.
    pub is_gone: bool,
    /// Why skiff is stopping it.
    pub stopping: Option<StopReason>,
    /// How often containers of its name have started again, this run counted: what users see.
    pub restarts: u32,
    /// How many runs before this one failed in a row by their own fault.
    pub failures: u32,
    /// What ran before, when the engine itself started this container again: in it, as a rule.
    pub former: Option<Box<ObservedContainer>>,
    /// Whether it is a sandbox whose network is not the pod's any more: it restarted, or was disconnected.
    is_cut_off: bool,
    /// Whether `started_at` is by the engine's clock, and not by ours.
    is_start_exact: bool,
    last_signal: Option<(i32, Timestamp)>,
    /// Whether it got a signal that asks it to end, as `docker stop` and `docker restart` send first.
    is_asked: bool,
    /// Whether the engine starts it again when it ends, or may do so: somebody changed how it is treated.
    restarts_itself: bool,
    is_out_of_memory: bool,
}

/// A run of a container: the engine's ID, and which of its runs it was, by restarts.
pub type Run = (String, u32);

impl ObservedContainer {
    /// When it last got a signal, from whomever.
    pub fn killed_at(&self) -> Option<Timestamp> {
        self.last_signal.map(|(_, at)| at)
    }

    /// Which run of it is known.
    pub fn run(&self) -> Run {
        (self.id.clone(), self.restarts)
    }

    /// What an inspection or a list shows; `None` when it is no pod's.
    pub fn from_engine(container: &Container) -> Option<Self> {
        let identity = Identity::parse(&container.labels)?;
        let mut observed = Self::created(identity, container.id.clone(), container.created_at);
        observed.image.clone_from(&container.image);
        observed.image_id.clone_from(&container.image_id);
        observed.started_at = container.started_at;
        observed.is_start_exact = true;
        observed.ip = container.ip;
        observed.resources = Some(container.resources);
        observed.is_out_of_memory = container.oom_killed;
        observed.restarts_itself = container.restarts_itself;
        observed.state = match container.phase {
            Phase::Running => State::Running,
            Phase::Created if container.error.is_empty() || is_sandboxs_fault(&container.error) => State::Created,
            Phase::Created | Phase::Exited => State::Exited(observed.exit_seen_in(container)),
        };
        Some(observed)
    }

    /// A container that was just created.
    pub fn created(identity: Identity, id: String, at: Timestamp) -> Self {
        Self {
            restarts: identity.attempt,
            failures: identity.failures,
            identity,
            id,
            image: String::new(),
            image_id: String::new(),
            state: State::Created,
            created_at: at,
            started_at: None,
            ip: None,
            resources: None,
            is_gone: false,
            stopping: None,
            former: None,
            is_cut_off: false,
            is_start_exact: false,
            last_signal: None,
            is_asked: false,
            restarts_itself: false,
            is_out_of_memory: false,
        }
    }

    /// Whether it is a sandbox that may run, but whose network is not the pod's any more.
    pub fn is_cut_off(&self) -> bool {
        self.is_cut_off
    }

    /// Until when its successor waits, because the engine may start it again itself: somebody outside asked it to end, which is how
    /// `docker restart` begins, or gave it a restart policy. Two that start at the same time would fight for one port.
    pub fn may_return_until(&self) -> Option<Timestamp> {
        let exit = self.exit().filter(|_| !self.is_gone && self.stopping.is_none())?;
        let returns = exit.cause == Cause::Outside && self.is_asked || self.restarts_itself;
        returns.then(|| exit.at + RETURNS_WITHIN)
    }

    fn exit_seen_in(&self, container: &Container) -> Exit {
        let at = container.finished_at.or(container.started_at).unwrap_or(container.created_at);
        let cause = self.cause_of(container.exit_code, at, true);
        Exit { code: container.exit_code, oom_killed: container.oom_killed, error: container.error.clone(), cause, at }
    }

    /// Whether it runs.
    pub fn is_running(&self) -> bool {
        self.state == State::Running
    }

    /// How it ended, when it has.
    pub fn exit(&self) -> Option<&Exit> {
        match &self.state {
            State::Exited(exit) => Some(exit),
            State::Created | State::Running => None,
        }
    }

    /// How many runs have failed in a row by their own fault, its own end counted.
    pub fn failures_after(&self) -> u32 {
        let Some(exit) = self.exit().filter(|exit| exit.cause.is_own_fault()) else { return self.failures };
        let ran_for = self.started_at.map_or(SignedDuration::ZERO, |started| exit.at.duration_since(started));
        if ran_for >= BACKOFF_FORGETS { 1 } else { self.failures + 1 }
    }

    /// Whether it is one too many, and ends or ended for that.
    fn is_superseded(&self) -> bool {
        self.stopping == Some(StopReason::Superseded)
    }

    /// Whether an event tells that it started once more after its end. Of one that runs the event is only late: the engine tells of a
    /// start some time after the time that a look shows.
    fn is_told_again(&self, at: Timestamp) -> bool {
        self.exit().is_some_and(|exit| exit.error.is_empty() && at > exit.at)
    }

    /// Whether a look shows that it started once more after the run that is known.
    fn is_seen_again(&self, at: Timestamp) -> bool {
        let is_later = self.is_start_exact && self.started_at.is_some_and(|before| at > before);
        self.is_told_again(at) || (self.is_running() && is_later)
    }

    /// A run of it that is over.
    fn past(&self, exit: Exit) -> Box<Self> {
        Box::new(Self { state: State::Exited(exit), former: None, ..self.clone() })
    }

    /// The run that is known, as it ended; nobody saw how when it seems to run still.
    fn past_at(&self, at: Timestamp) -> Box<Self> {
        let unseen = || Exit {
            code: KILLED,
            oom_killed: false,
            error: String::new(),
            cause: self.cause_of(KILLED, at, true),
            at,
        };
        self.past(self.exit().cloned().unwrap_or_else(unseen))
    }

    /// Whether its program ever ran, or tried to.
    pub fn has_started(&self) -> bool {
        self.state != State::Created
    }

    /// Why it died with this code at this time. When nobody saw it die, a code that only a signal gives tells of a person
    /// (or of an engine that was stopped) rather than of the program.
    fn cause_of(&self, code: i32, at: Timestamp, unseen: bool) -> Cause {
        if let Some(reason) = self.stopping {
            return Cause::Stopped(reason);
        }
        if self.is_out_of_memory {
            return Cause::Itself;
        }
        let explains = |&(signal, sent): &(i32, Timestamp)| {
            at.duration_since(sent) <= SIGNAL_EXPLAINS && (is_deadly(signal) || code == 128 + signal)
        };
        let is_outside =
            self.last_signal.as_ref().is_some_and(explains) || (unseen && matches!(code, KILLED | TERMINATED));
        if is_outside { Cause::Outside } else { Cause::Itself }
    }

    fn end(&mut self, code: i32, at: Timestamp) {
        let cause = self.cause_of(code, at, false);
        let oom_killed = self.is_out_of_memory;
        self.state = State::Exited(Exit { code, oom_killed, error: String::new(), cause, at });
    }

    /// Takes over what a fresh look shows, but keeps what only the events told.
    fn refresh(&mut self, fresh: Self) {
        let same_end =
            matches!((&self.state, &fresh.state), (State::Exited(old), State::Exited(new)) if old.code == new.code);
        let (signal, stopping) = (self.last_signal, self.stopping);
        let mut state = if self.is_cut_off { self.state.clone() } else { fresh.state.clone() };
        if let State::Exited(exit) = &mut state
            && !self.is_cut_off
        {
            let known = Self { last_signal: signal, stopping, ..fresh.clone() };
            exit.cause = known.cause_of(exit.code, exit.at, true);
        }
        if same_end && let (State::Exited(old), State::Exited(new)) = (&self.state, &mut state) {
            new.cause = old.cause;
        }
        let former = self.former.take();
        let (restarts, failures, is_cut_off, is_asked) = (self.restarts, self.failures, self.is_cut_off, self.is_asked);
        *self =
            Self { last_signal: signal, is_asked, stopping, state, former, restarts, failures, is_cut_off, ..fresh };
    }

    fn is_same_look(&self, fresh: &Self) -> bool {
        let phase = |state: &State| match state {
            State::Created => 0,
            State::Running => 1,
            State::Exited(_) => 2,
        };
        let is_same_run = !fresh.started_at.is_some_and(|at| self.is_seen_again(at));
        let has_same_ip = self.ip == fresh.ip || !fresh.is_running();
        self.id == fresh.id && phase(&self.state) == phase(&fresh.state) && is_same_run && has_same_ip
    }
}

/// Whether a start failed because the sandbox was dead or gone: the container itself is as good as new.
/// Source: `getNetworkedContainer` and its kin, moby `daemon/container_operations*.go`.
pub(super) fn is_sandboxs_fault(error: &str) -> bool {
    error.contains("cannot join") || error.contains("joining network namespace")
}

/// Signals that end a program as a rule: interrupt, quit, kill, terminate.
fn is_deadly(signal: i32) -> bool {
    matches!(signal, 2 | 3 | 9 | 15)
}

/// What an event did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// What is known changed.
    Changed,
    /// The engine itself started a container again: a new run of it.
    RunsAgain,
    /// It told nothing new.
    Nothing,
    /// It is about a container that is not known: look at it.
    Unknown,
}

/// All containers of a pod, by name and attempt; the sandbox's name is [`SANDBOX`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ObservedPod {
    containers: Map<String, Map<u32, ObservedContainer>>,
}

impl ObservedPod {
    /// What a list shows of a pod.
    pub fn from_engine(pod: &PodId, containers: &[Container]) -> Self {
        let mut observed = Self::default();
        for container in containers.iter().filter_map(ObservedContainer::from_engine) {
            if container.identity.pod.uid == pod.uid {
                observed.put(container);
            }
        }
        observed.note_restarted_sandbox();
        observed
    }

    /// The attempt that counts: the one that runs, or else the newest. When a person, or the engine, starts an attempt beside another,
    /// the one that started first counts; it has the ports.
    pub fn latest(&self, container: &str) -> Option<&ObservedContainer> {
        let attempts = self.containers.get(container)?;
        let runs = |c: &&ObservedContainer| c.is_running() && !c.is_gone && !c.is_superseded();
        let first = attempts.values().filter(runs).min_by_key(|c| (c.started_at, c.identity.attempt));
        let newest = || attempts.values().rev().find(|c| !c.is_superseded());
        first.or_else(newest).or_else(|| attempts.values().next_back())
    }

    /// The names of its containers, the sandbox aside.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.containers.keys().map(String::as_str).filter(|name| *name != SANDBOX)
    }

    /// The newest sandbox.
    pub fn sandbox(&self) -> Option<&ObservedContainer> {
        self.attempts(SANDBOX).next_back()
    }

    /// What users see of a container: the run that counts. A next attempt shows once it runs: until then its forerunner does.
    pub fn shown(&self, container: &str) -> Option<&ObservedContainer> {
        let latest = self.latest(container)?;
        if latest.has_started() { Some(latest) } else { self.ran_before(latest) }
    }

    /// The run before the one that users see: what `lastState` and `--previous` show.
    pub fn previous(&self, container: &str) -> Option<&ObservedContainer> {
        let shown = self.shown(container)?;
        shown.former.as_deref().or_else(|| self.ran_before(shown))
    }

    /// The runs of the pod's containers that ended by themselves or were ended, and that users see.
    pub fn ended_runs(&self) -> impl Iterator<Item = &ObservedContainer> {
        let names = self.containers.keys().filter(|name| *name != SANDBOX);
        let told = names.flat_map(|name| [self.shown(name), self.previous(name)]).flatten();
        told.filter(|c| c.exit().is_some_and(|exit| exit.error.is_empty()))
    }

    /// The newest attempt before this one that ever ran.
    pub fn ran_before(&self, container: &ObservedContainer) -> Option<&ObservedContainer> {
        let Identity { container, attempt, .. } = &container.identity;
        self.attempts(container).rev().find(|c| c.identity.attempt < *attempt && c.has_started())
    }

    /// The number of the next attempt: no earlier one had it, and it tells the restarts.
    pub fn next_attempt(&self, container: &str) -> u32 {
        let used = self.attempts(container).map(|c| c.identity.attempt).max();
        used.max(self.shown(container).map(|c| c.restarts)).map_or(0, |n| n + 1)
    }

    /// The attempts of a container, oldest first.
    pub fn attempts(&self, container: &str) -> impl DoubleEndedIterator<Item = &ObservedContainer> {
        self.containers.get(container).into_iter().flat_map(Map::values)
    }

    /// Every container, sandboxes included, by name and attempt.
    pub fn all(&self) -> impl Iterator<Item = &ObservedContainer> {
        self.containers.values().flat_map(Map::values)
    }

    /// Every container that the engine has, apart from sandboxes.
    pub fn apps(&self) -> impl Iterator<Item = &ObservedContainer> {
        self.all().filter(|c| !c.identity.is_sandbox() && !c.is_gone)
    }

    /// The container of this ID.
    pub fn by_id(&self, id: &str) -> Option<&ObservedContainer> {
        self.all().find(|c| c.id == id)
    }

    fn by_id_mut(&mut self, id: &str) -> Option<&mut ObservedContainer> {
        self.containers.values_mut().flat_map(Map::values_mut).find(|c| c.id == id)
    }

    fn put(&mut self, container: ObservedContainer) {
        let attempts = self.containers.entry(container.identity.container.clone()).or_default();
        attempts.insert(container.identity.attempt, container);
    }

    /// Notes a container that skiff created.
    pub fn note_created(&mut self, container: ObservedContainer) {
        if self.by_id(&container.id).is_none() {
            self.put(container);
        }
    }

    /// Notes what is known of the image of a container.
    pub fn note_image(&mut self, id: &str, image: &str, image_id: &str) {
        if let Some(container) = self.by_id_mut(id) {
            image.clone_into(&mut container.image);
            image_id.clone_into(&mut container.image_id);
        }
    }

    /// Notes what a container may use from now on.
    pub fn note_resources(&mut self, id: &str, resources: Resources) {
        self.by_id_mut(id).into_iter().for_each(|container| container.resources = Some(resources));
    }

    /// Notes that skiff started a container.
    pub fn note_started(&mut self, id: &str, at: Timestamp) {
        // What is known better comes with its event.
        if let Some(container) = self.by_id_mut(id)
            && container.state == State::Created
        {
            container.state = State::Running;
            container.started_at = Some(at);
        }
        self.settle_count(id);
    }

    /// Notes that a container could not start.
    pub fn note_start_failed(&mut self, id: &str, error: &str, at: Timestamp) {
        if let Some(container) = self.by_id_mut(id)
            && container.state == State::Created
        {
            let code = if error.contains("not found") || error.contains("no such file") { 127 } else { 126 };
            let exit = Exit { code, oom_killed: false, error: error.to_owned(), cause: Cause::Itself, at };
            container.state = State::Exited(exit);
        }
    }

    /// Notes that skiff is about to stop a container.
    pub fn note_stopping(&mut self, id: &str, reason: StopReason) {
        if let Some(container) = self.by_id_mut(id)
            && container.exit().is_none()
        {
            container.stopping.get_or_insert(reason);
        }
    }

    /// Takes what ended by itself within a while for ended from outside: the cluster was paused.
    pub fn excuse(&mut self, since: Timestamp, until: Timestamp) {
        for container in self.containers.values_mut().flat_map(Map::values_mut) {
            if let State::Exited(exit) = &mut container.state
                && exit.cause == Cause::Itself
                && exit.error.is_empty()
                && (since..=until).contains(&exit.at)
            {
                exit.cause = Cause::Outside;
            }
        }
    }

    /// Notes that skiff removed a container.
    pub fn note_removed(&mut self, id: &str, at: Timestamp) {
        self.bury(id, |container| {
            if container.is_running() {
                container.end(KILLED, at);
            }
        });
    }

    /// Notes that the network of a sandbox is not the pod's any more.
    pub fn note_cut_off(&mut self, id: &str, at: Timestamp) {
        let Some(sandbox) = self.by_id_mut(id).filter(|c| c.identity.is_sandbox()) else { return };
        if sandbox.is_running() {
            let exit = Exit { code: KILLED, oom_killed: false, error: String::new(), cause: Cause::Outside, at };
            sandbox.state = State::Exited(exit);
        }
        sandbox.is_cut_off = true;
    }

    /// Whoever joined a sandbox before it last started is in a network that is gone.
    fn note_restarted_sandbox(&mut self) {
        let Some(sandbox) = self.sandbox().filter(|s| s.is_running()) else { return };
        let (id, attempt, Some(started)) = (sandbox.id.clone(), sandbox.identity.attempt, sandbox.started_at) else {
            return;
        };
        let joined = |c: &&ObservedContainer| !c.identity.is_sandbox() && c.identity.sandbox == attempt;
        if self.all().filter(joined).any(|c| c.started_at.is_some_and(|at| at < started)) {
            self.note_cut_off(&id, started);
        }
    }

    /// Takes over an inspection. A sandbox that has another address than before, or none, is not the pod's any more.
    pub fn note_inspected(&mut self, container: &Container) -> Applied {
        let Some(fresh) = ObservedContainer::from_engine(container) else { return Applied::Nothing };
        let (id, started_at) = (fresh.id.clone(), fresh.started_at);
        if let Some(known) = self.by_id(&id) {
            let again = started_at.filter(|at| known.is_seen_again(*at));
            let is_moved = known.is_running() && fresh.is_running() && known.ip.is_some() && known.ip != fresh.ip;
            let applied = again.map_or(Applied::Changed, |at| self.run_again(&id, at));
            if let Some(at) = started_at.filter(|_| is_moved) {
                self.note_cut_off(&id, at);
            }
            self.by_id_mut(&id).into_iter().for_each(|known| known.refresh(fresh.clone()));
            self.settle_count(&id);
            return applied;
        }
        if !self.has_live(&fresh.identity) {
            // Names are unique: where another has the attempt, this one was looked at before it was removed.
            self.put(fresh);
        }
        Applied::Changed
    }

    /// The engine itself started a container again: a restart like any other, in the same container. A sandbox has another network
    /// then, and is the pod's no more.
    fn run_again(&mut self, id: &str, at: Timestamp) -> Applied {
        let Some(known) = self.by_id(id) else { return Applied::Unknown };
        if known.identity.is_sandbox() {
            self.note_cut_off(id, at);
            return Applied::Changed;
        }
        let shown = self.shown(&known.identity.container).unwrap_or(known);
        // Beside another that ran before, it is one too many and changes nothing that users see.
        let is_first = !shown.is_running() || shown.id == id || shown.started_at > Some(at);
        let before = if shown.is_running() { known } else { shown };
        let (former, restarts) = (before.past_at(at), before.restarts + 1);
        let failures = former.failures_after();
        let Some(known) = self.by_id_mut(id) else { return Applied::Unknown };
        if is_first {
            (known.former, known.restarts, known.failures) = (Some(former), restarts, failures);
        }
        (known.state, known.started_at, known.is_start_exact) = (State::Running, Some(at), true);
        (known.stopping, known.last_signal, known.is_asked, known.is_out_of_memory) = (None, None, false, false);
        Applied::RunsAgain
    }

    /// The run that counts comes after those of older attempts: one that was made before its forerunner ran again is the next run all
    /// the same.
    fn settle_count(&mut self, id: &str) {
        let Some(name) = self.by_id(id).map(|c| c.identity.container.clone()) else { return };
        let Some(latest) = self.latest(&name).filter(|c| c.is_running()) else { return };
        let (latest, attempt) = (latest.id.clone(), latest.identity.attempt);
        let is_before =
            |c: &&ObservedContainer| c.identity.attempt < attempt && c.exit().is_some() && !c.is_superseded();
        let before = self.attempts(&name).filter(is_before).map(|c| c.restarts + 1).max().unwrap_or_default();
        self.by_id_mut(&latest).into_iter().for_each(|latest| latest.restarts = latest.restarts.max(before));
    }

    /// Whether the engine has a container of this attempt.
    fn has_live(&self, identity: &Identity) -> bool {
        self.attempts(&identity.container).any(|c| c.identity.attempt == identity.attempt && !c.is_gone)
    }

    /// Applies an engine event about a container of this pod.
    pub fn apply(&mut self, id: &str, kind: EventKind, at: Timestamp) -> Applied {
        if kind == EventKind::Removed {
            return self.note_vanished(id, at);
        }
        let Some(container) = self.by_id_mut(id) else {
            return Applied::Unknown;
        };
        if kind == EventKind::Started && container.is_told_again(at) {
            return self.run_again(id, at);
        }
        let before = container.state.clone();
        match kind {
            EventKind::Created | EventKind::Removed => {}
            // Which of its settings the event does not tell; the next look does.
            EventKind::Updated => container.restarts_itself = true,
            EventKind::Started => container.start_seen(at),
            EventKind::Killed(signal) => {
                container.last_signal = Some((signal, at));
                container.is_asked |= signal != SIGKILL;
            }
            EventKind::OutOfMemory => container.is_out_of_memory = true,
            EventKind::Died(code) => container.death_seen(code, at),
        }
        let applied = if container.state == before { Applied::Nothing } else { Applied::Changed };
        self.settle_count(id);
        applied
    }

    /// Notes that a container is gone from the engine, removed by somebody else.
    pub fn note_vanished(&mut self, id: &str, at: Timestamp) -> Applied {
        self.bury(id, |container| {
            if container.is_running() {
                container.last_signal = Some((9, at));
                container.end(KILLED, at);
            }
        })
    }

    /// The newest attempt that ever ran becomes a tombstone, for the status; others are forgotten.
    fn bury(&mut self, id: &str, end: impl FnOnce(&mut ObservedContainer)) -> Applied {
        let Some(container) = self.by_id_mut(id).filter(|c| !c.is_gone) else {
            return Applied::Nothing;
        };
        end(container);
        container.is_gone = true;
        let name = container.identity.container.clone();
        let shown = self.shown(&name).map(|c| c.identity.attempt);
        let attempts = self.containers.get_mut(&name).expect("the container was found by its ID");
        attempts.retain(|attempt, c| !c.is_gone || Some(*attempt) == shown);
        self.containers.retain(|_, attempts| !attempts.is_empty());
        Applied::Changed
    }

    /// The containers about which a list says something else than what is known: those to look at again.
    pub fn differences(&self, pod: &PodId, list: &[Container]) -> Set<String> {
        let listed: Map<String, ObservedContainer> = list
            .iter()
            .filter_map(ObservedContainer::from_engine)
            .filter(|c| c.identity.pod.uid == pod.uid)
            .map(|c| (c.id.clone(), c))
            .collect();
        let mut ids: Set<String> = Set::new();
        for known in self.all().filter(|c| !c.is_gone) {
            if !listed.get(&known.id).is_some_and(|fresh| known.is_same_look(fresh)) {
                ids.insert(known.id.clone());
            }
        }
        ids.extend(listed.into_keys().filter(|id| self.by_id(id).is_none()));
        ids
    }
}

impl ObservedContainer {
    fn start_seen(&mut self, at: Timestamp) {
        if self.state == State::Created {
            self.state = State::Running;
        }
        if self.is_running() && !self.is_start_exact {
            self.started_at = Some(at);
            self.is_start_exact = true;
        }
    }

    fn death_seen(&mut self, code: i32, at: Timestamp) {
        match &self.state {
            State::Running | State::Created if self.started_at.is_none_or(|started| started <= at) => {
                self.end(code, at);
            }
            State::Running | State::Created | State::Exited(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::Pod;

    fn at(secs: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + secs).unwrap()
    }

    fn identity(attempt: u32) -> Identity {
        Identity {
            pod: PodId { namespace: "default".into(), name: "web".into(), uid: "u".into() },
            container: "app".into(),
            attempt,
            sandbox: 0,
            failures: 0,
            hash: String::new(),
            volumes: String::new(),
        }
    }

    fn running() -> ObservedPod {
        let mut pod = ObservedPod::default();
        pod.note_created(ObservedContainer::created(identity(0), "c0".into(), at(0)));
        assert_eq!(pod.apply("c0", EventKind::Started, at(1)), Applied::Changed);
        pod
    }

    fn exit(pod: &ObservedPod) -> &Exit {
        pod.latest("app").unwrap().exit().unwrap()
    }

    fn engine(id: &str, phase: Phase, code: i32) -> Container {
        Container {
            name: identity(0).name(),
            image: "web:1".into(),
            image_id: "sha256:1".into(),
            phase,
            exit_code: code,
            created_at: at(0),
            started_at: Some(at(1)),
            finished_at: (phase == Phase::Exited).then(|| at(9)),
            ..crate::testing::container(id, identity(0).labels("skiff", 30))
        }
    }

    #[test]
    fn a_death_alone_is_the_programs_own() {
        let mut pod = running();
        pod.apply("c0", EventKind::Died(1), at(5));
        assert_eq!((exit(&pod).code, exit(&pod).cause), (1, Cause::Itself));
    }

    #[test]
    fn a_signal_before_the_death_comes_from_outside() {
        for (signal, code) in [(9, 137), (15, 0), (15, 143), (2, 130), (10, 138)] {
            let mut pod = running();
            pod.apply("c0", EventKind::Killed(signal), at(4));
            pod.apply("c0", EventKind::Died(code), at(5));
            assert_eq!(exit(&pod).cause, Cause::Outside, "signal {signal}");
        }
    }

    #[test]
    fn a_signal_that_only_asks_for_a_reload_explains_no_later_crash() {
        let mut pod = running();
        pod.apply("c0", EventKind::Killed(1), at(4));
        pod.apply("c0", EventKind::Died(1), at(5));
        assert_eq!(exit(&pod).cause, Cause::Itself);
        let mut pod = running();
        pod.apply("c0", EventKind::Killed(15), at(4));
        pod.apply("c0", EventKind::Died(1), at(4000));
        assert_eq!(exit(&pod).cause, Cause::Itself);
    }

    #[test]
    fn an_out_of_memory_kill_is_the_programs_own() {
        let mut pod = running();
        pod.apply("c0", EventKind::OutOfMemory, at(4));
        pod.apply("c0", EventKind::Died(137), at(5));
        assert_eq!((exit(&pod).oom_killed, exit(&pod).cause), (true, Cause::Itself));
    }

    #[test]
    fn skiffs_own_kill_is_told_apart() {
        let mut pod = running();
        pod.note_stopping("c0", StopReason::Liveness);
        pod.apply("c0", EventKind::Killed(15), at(4));
        pod.apply("c0", EventKind::Died(143), at(5));
        assert_eq!(exit(&pod).cause, Cause::Stopped(StopReason::Liveness));
    }

    #[test]
    fn late_and_doubled_events_change_nothing() {
        let mut pod = running();
        pod.apply("c0", EventKind::Died(1), at(5));
        assert_eq!(pod.apply("c0", EventKind::Died(1), at(5)), Applied::Nothing);
        assert_eq!(pod.apply("c0", EventKind::Started, at(1)), Applied::Nothing);
        pod.note_started("c0", at(6));
        assert!(exit(&pod).code == 1);
    }

    #[test]
    fn a_death_before_the_reply_to_the_start_stays_a_death() {
        let mut pod = ObservedPod::default();
        pod.note_created(ObservedContainer::created(identity(0), "c0".into(), at(0)));
        pod.apply("c0", EventKind::Started, at(1));
        pod.apply("c0", EventKind::Died(2), at(1));
        pod.note_started("c0", at(2));
        assert_eq!(exit(&pod).code, 2);
    }

    #[test]
    fn what_somebody_removed_stays_as_a_tombstone_of_its_attempt() {
        let mut pod = running();
        assert_eq!(pod.apply("c0", EventKind::Removed, at(5)), Applied::Changed);
        let tombstone = pod.latest("app").unwrap();
        assert!(tombstone.is_gone);
        assert_eq!(exit(&pod).cause, Cause::Outside);
        assert_eq!(pod.apps().count(), 0);
        assert_eq!(pod.apply("c0", EventKind::Removed, at(6)), Applied::Nothing);
    }

    #[test]
    fn of_what_skiff_removed_only_the_newest_attempt_is_remembered() {
        let mut pod = running();
        pod.note_created(ObservedContainer::created(identity(1), "c1".into(), at(2)));
        pod.note_started("c1", at(3));
        pod.note_removed("c0", at(4));
        assert_eq!(pod.all().count(), 1);
        assert_eq!(pod.apply("c0", EventKind::Died(1), at(5)), Applied::Unknown);
        pod.note_removed("c1", at(4));
        assert!(pod.latest("app").is_some_and(|c| c.is_gone));
        assert_eq!(pod.apps().count(), 0);
    }

    #[test]
    fn a_late_look_at_what_was_removed_does_not_hide_its_successor() {
        let mut pod = ObservedPod::default();
        pod.note_created(ObservedContainer::created(identity(0), "c0".into(), at(0)));
        pod.note_removed("c0", at(1));
        pod.note_created(ObservedContainer::created(identity(0), "again".into(), at(2)));
        pod.note_inspected(&engine("c0", Phase::Created, 0));
        assert_eq!(pod.latest("app").map(|c| c.id.as_str()), Some("again"));
        pod.note_removed("again", at(3));
        pod.note_inspected(&engine("c0", Phase::Running, 0));
        assert_eq!(pod.latest("app").map(|c| c.id.as_str()), Some("c0"));
    }

    #[test]
    fn what_ran_last_is_remembered_although_its_successor_was_never_started() {
        for first in ["c1", "c2"] {
            let mut pod = running();
            pod.apply("c0", EventKind::Died(1), at(2));
            pod.note_created(ObservedContainer::created(identity(1), "c1".into(), at(2)));
            pod.note_started("c1", at(3));
            pod.apply("c1", EventKind::Died(1), at(4));
            pod.note_created(ObservedContainer::created(identity(2), "c2".into(), at(5)));
            pod.note_removed(first, at(6));
            pod.note_removed(if first == "c1" { "c2" } else { "c1" }, at(6));
            pod.note_removed("c0", at(6));
            assert_eq!(pod.latest("app").map(|c| (c.identity.attempt, c.is_gone)), Some((1, true)), "{first} first");
        }
    }

    #[test]
    fn the_status_remembers_what_was_removed_while_skiff_was_away() {
        let pod: Pod = crate::testing::from_yaml(
            "
metadata: {namespace: default, name: web, uid: u}
status:
  containerStatuses:
  - {name: app, restartCount: 4, containerID: 'docker://c4', image: web, imageID: '', ready: true,
     state: {running: {startedAt: '2026-01-01T00:00:00Z'}}}
  - {name: new, restartCount: 0, image: web, imageID: '', ready: false, state: {waiting: {reason: ContainerCreating}}}",
        )
        .unwrap();
        let mut observed = ObservedPod::default();
        observed.restore(&pod);
        let app = observed.latest("app").unwrap();
        assert_eq!((app.identity.attempt, app.is_gone, exit(&observed).cause), (4, true, Cause::Outside));
        assert!(observed.latest("new").is_none());
        for (there, restarts) in [(3, 5), (4, 5), (5, 5)] {
            let mut observed = running();
            observed.note_removed("c0", at(2));
            observed.note_created(ObservedContainer::created(identity(there), "there".into(), at(3)));
            observed.note_started("there", at(4));
            observed.restore(&pod);
            let app = observed.latest("app").unwrap();
            assert_eq!((app.id.as_str(), app.restarts), ("there", restarts), "attempt {there} runs since");
        }
    }

    #[test]
    fn a_list_that_agrees_needs_no_second_look() {
        let pod = running();
        let id = identity(0).pod;
        assert!(pod.differences(&id, &[engine("c0", Phase::Running, 0)]).is_empty());
        assert_eq!(pod.differences(&id, &[engine("c0", Phase::Exited, 1)]), ["c0".to_owned()].into());
        assert_eq!(pod.differences(&id, &[]), ["c0".to_owned()].into());
        let both = [engine("c0", Phase::Running, 0), engine("c1", Phase::Running, 0)];
        assert_eq!(pod.differences(&id, &both), ["c1".to_owned()].into());
    }

    #[test]
    fn a_death_that_nobody_saw_is_judged_by_its_code() {
        for (code, cause) in [(137, Cause::Outside), (143, Cause::Outside), (1, Cause::Itself), (0, Cause::Itself)] {
            let mut pod = running();
            pod.note_inspected(&engine("c0", Phase::Exited, code));
            assert_eq!(exit(&pod).cause, cause, "code {code}");
        }
    }

    #[test]
    fn a_successor_waits_for_what_the_engine_was_told_to_start_again() {
        let mut pod = running();
        pod.apply("c0", EventKind::Died(1), at(5));
        assert_eq!(pod.latest("app").unwrap().may_return_until(), None, "its own end, which nobody heals but skiff");
        let mut pod = running();
        pod.apply("c0", EventKind::Updated, at(4));
        pod.apply("c0", EventKind::Died(1), at(5));
        assert_eq!(pod.latest("app").unwrap().may_return_until(), Some(at(5) + RETURNS_WITHIN));
        assert_eq!(pod.apply("c0", EventKind::Started, at(6)), Applied::RunsAgain);
        // A look tells what the update was about.
        pod.note_inspected(&Container { started_at: Some(at(6)), ..engine("c0", Phase::Running, 0) });
        pod.apply("c0", EventKind::Died(1), at(7));
        assert_eq!(pod.latest("app").unwrap().may_return_until(), None);
    }

    #[test]
    fn an_inspection_keeps_the_cause_that_events_told() {
        let mut pod = running();
        pod.note_stopping("c0", StopReason::Changed);
        pod.apply("c0", EventKind::Died(137), at(9));
        pod.note_inspected(&engine("c0", Phase::Exited, 137));
        assert_eq!(exit(&pod).cause, Cause::Stopped(StopReason::Changed));
    }

    #[test]
    fn what_the_engine_starts_again_is_another_run_of_the_same_container() {
        let mut pod = running();
        pod.apply("c0", EventKind::Killed(15), at(4));
        pod.apply("c0", EventKind::Died(143), at(5));
        assert_eq!(pod.apply("c0", EventKind::Started, at(1)), Applied::Nothing, "its first start, told late");
        assert_eq!(pod.apply("c0", EventKind::Started, at(6)), Applied::RunsAgain);
        assert_eq!(pod.apply("c0", EventKind::Started, at(6)), Applied::Nothing, "told twice");
        let app = pod.shown("app").unwrap();
        assert_eq!((app.restarts, app.failures, app.is_running(), pod.next_attempt("app")), (1, 0, true, 2));
        let before = pod.previous("app").unwrap();
        assert_eq!((before.id.as_str(), before.exit().unwrap().code), ("c0", 143));
        pod.apply("c0", EventKind::Died(1), at(7));
        pod.apply("c0", EventKind::Started, at(8));
        let app = pod.shown("app").unwrap();
        assert_eq!((app.restarts, app.failures), (2, 1), "a crash counts, whoever starts it again");
    }

    #[test]
    fn a_run_that_nobody_was_told_of_is_seen_by_a_look() {
        let again = |started| Container { started_at: Some(at(started)), ..engine("c0", Phase::Running, 0) };
        let id = identity(0).pod;
        let mut pod = running();
        assert!(pod.differences(&id, &[again(1)]).is_empty());
        assert_eq!(pod.differences(&id, &[again(6)]), ["c0".to_owned()].into());
        assert_eq!(pod.note_inspected(&again(6)), Applied::RunsAgain);
        let app = pod.shown("app").unwrap();
        assert_eq!((app.restarts, app.started_at), (1, Some(at(6))));
        assert_eq!(pod.previous("app").unwrap().exit().unwrap().cause, Cause::Outside);
        assert_eq!(pod.note_inspected(&again(6)), Applied::Changed);
        assert_eq!(pod.shown("app").unwrap().restarts, 1);
    }

    #[test]
    fn of_two_that_run_the_one_that_started_first_counts() {
        for (old_again, successor, counts, restarts) in [(6, 7, "c0", 1), (7, 6, "c1", 1)] {
            for old_is_told_first in [true, false] {
                let mut pod = running();
                pod.apply("c0", EventKind::Died(0), at(5));
                pod.note_created(ObservedContainer::created(identity(1), "c1".into(), at(5)));
                let mut told = [("c0", old_again), ("c1", successor)];
                if !old_is_told_first {
                    told.reverse();
                }
                for (id, secs) in told {
                    pod.apply(id, EventKind::Started, at(secs));
                }
                let shown = pod.shown("app").unwrap();
                assert_eq!((shown.id.as_str(), shown.restarts), (counts, restarts), "{told:?}");
            }
        }
    }

    #[test]
    fn a_successor_that_was_made_before_its_forerunner_ran_again_is_the_next_run() {
        // The reply to its start may come before the events of what happened earlier.
        for is_reply_early in [true, false] {
            let mut pod = running();
            pod.apply("c0", EventKind::Died(0), at(5));
            pod.note_created(ObservedContainer::created(identity(1), "c1".into(), at(5)));
            pod.apply("c0", EventKind::Started, at(6));
            if is_reply_early {
                pod.note_started("c1", at(8));
            }
            pod.apply("c0", EventKind::Died(0), at(7));
            pod.apply("c1", EventKind::Started, at(8));
            pod.apply("c0", EventKind::Started, at(9));
            let shown = pod.shown("app").unwrap();
            assert_eq!((shown.id.as_str(), shown.restarts), ("c1", 2), "early: {is_reply_early}");
        }
    }

    #[test]
    fn restarts_of_one_container_outlive_skiff() {
        let told = |state: &str| {
            let text = format!(
                "{{metadata: {{namespace: default, name: web, uid: u}}, status: {{containerStatuses: [{{name: app, restartCount: 3, \
                 containerID: 'docker://c0', image: web, imageID: '', ready: true, state: {state}, \
                 lastState: {{terminated: {{exitCode: 7, containerID: 'docker://c0', finishedAt: '2026-01-01T00:00:00Z'}}}}}}]}}}}"
            );
            let pod: Pod = crate::testing::from_yaml(&text).unwrap();
            let mut observed = ObservedPod::from_engine(&identity(0).pod, &[engine("c0", Phase::Running, 0)]);
            observed.restore(&pod);
            let last = observed.previous("app").unwrap().exit().unwrap().code;
            (observed.shown("app").unwrap().restarts, last)
        };
        let (first, earlier) = (at(1), at(-50));
        assert_eq!(told(&format!("{{running: {{startedAt: '{first}'}}}}")), (3, 7), "it is the run that was told");
        assert_eq!(told(&format!("{{running: {{startedAt: '{earlier}'}}}}")), (4, 137), "it runs again since");
        let ended = format!("{{terminated: {{exitCode: 2, startedAt: '{earlier}', finishedAt: '{earlier}'}}}}");
        assert_eq!(told(&ended), (4, 2), "it had ended, and runs again");
    }

    fn sandbox(ip: Option<[u8; 4]>, started: i64) -> Container {
        let identity = Identity::sandbox(identity(0).pod, 0, String::new());
        let (name, labels) = (identity.name(), identity.labels("skiff", 30));
        let ip = ip.map(Ipv4Addr::from);
        Container { name, labels, ip, started_at: Some(at(started)), ..engine("s0", Phase::Running, 0) }
    }

    #[test]
    fn a_sandbox_with_another_network_is_the_pods_no_more() {
        let ip = [10, 0, 0, 1];
        for (why, after) in [
            ("disconnected", sandbox(None, 1)),
            ("connected again elsewhere", sandbox(Some([10, 0, 0, 9]), 1)),
            ("restarted", sandbox(Some(ip), 5)),
        ] {
            let mut pod = ObservedPod::default();
            pod.note_inspected(&sandbox(Some(ip), 1));
            pod.note_inspected(&sandbox(Some(ip), 1));
            // The event of a start has a later time than a look shows, and may come after it.
            assert_eq!(pod.apply("s0", EventKind::Started, at(2)), Applied::Nothing);
            assert!(pod.sandbox().unwrap().is_running());
            for _ in 0..2 {
                pod.note_inspected(&after);
                assert!(pod.sandbox().unwrap().exit().is_some(), "{why}");
            }
            pod.note_inspected(&sandbox(Some(ip), 1));
            assert!(pod.sandbox().unwrap().exit().is_some(), "{why}: and it does not come back");
        }
    }

    #[test]
    fn a_sandbox_that_restarted_while_nobody_looked_is_known_by_who_was_in_it_before() {
        let sandbox_again = sandbox(Some([10, 0, 0, 1]), 5);
        let pod = ObservedPod::from_engine(&identity(0).pod, &[sandbox_again.clone(), engine("c0", Phase::Running, 0)]);
        assert!(pod.sandbox().unwrap().exit().is_some());
        let after = Container { started_at: Some(at(6)), ..engine("c0", Phase::Running, 0) };
        let pod = ObservedPod::from_engine(&identity(0).pod, &[sandbox_again, after]);
        assert!(pod.sandbox().unwrap().is_running());
    }
}
