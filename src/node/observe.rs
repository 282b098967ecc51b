//! What the engine has of one pod: [`ObservedPod`], made from lists and inspections, kept current by events.
//!
//! Called by the worker; read by `decide` and `status`. Pure: it is told what the engine says.
//!
//! **Invariants**: an event or a result that comes late, twice or out of order never takes a container back to an earlier state;
//! a container that somebody else removed stays as a tombstone, so that its successor has the next attempt.
//! **Not here**: what to do about it (`decide`), what skiff itself has under way (`decide::Memory`).

use super::identity::{Identity, PodId, SANDBOX};
use crate::engine::{Container, EventKind, Phase};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{
    api::core::v1::{ContainerStatus, Pod},
    apimachinery::pkg::apis::meta::v1::Time,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

/// A signal that somebody sent explains a death that comes at most this much later.
const SIGNAL_EXPLAINS: SignedDuration = SignedDuration::from_secs(300);
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
    /// A newer attempt of it exists.
    Superseded,
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
    /// Whether it is gone from the engine: removed by somebody else.
    pub is_gone: bool,
    /// Why skiff is stopping it.
    pub stopping: Option<StopReason>,
    last_signal: Option<(i32, Timestamp)>,
    is_out_of_memory: bool,
}

impl ObservedContainer {
    /// What an inspection or a list shows; `None` when it is no pod's.
    pub fn from_engine(container: &Container) -> Option<Self> {
        let identity = Identity::parse(&container.labels)?;
        let mut observed = Self::created(identity, container.id.clone(), container.created_at);
        observed.image.clone_from(&container.image);
        observed.image_id.clone_from(&container.image_id);
        observed.started_at = container.started_at;
        observed.ip = container.ip;
        observed.is_out_of_memory = container.oom_killed;
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
            identity,
            id,
            image: String::new(),
            image_id: String::new(),
            state: State::Created,
            created_at: at,
            started_at: None,
            ip: None,
            is_gone: false,
            stopping: None,
            last_signal: None,
            is_out_of_memory: false,
        }
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
        let mut state = fresh.state.clone();
        if let State::Exited(exit) = &mut state {
            let known = Self { last_signal: signal, stopping, ..fresh.clone() };
            exit.cause = known.cause_of(exit.code, exit.at, true);
        }
        if same_end && let (State::Exited(old), State::Exited(new)) = (&self.state, &mut state) {
            new.cause = old.cause;
        }
        *self = Self { last_signal: signal, stopping, state, ..fresh };
    }

    fn is_same_look(&self, fresh: &Self) -> bool {
        let phase = |state: &State| match state {
            State::Created => 0,
            State::Running => 1,
            State::Exited(_) => 2,
        };
        self.id == fresh.id && phase(&self.state) == phase(&fresh.state) && (fresh.ip.is_none() || self.ip == fresh.ip)
    }
}

/// Whether a start failed because the sandbox was dead: the container itself is as good as new.
/// Source: `getNetworkedContainer` and its kin, moby `daemon/container_operations*.go`.
fn is_sandboxs_fault(error: &str) -> bool {
    error.contains("cannot join")
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
    /// It told nothing new.
    Nothing,
    /// It is about a container that is not known: look at it.
    Unknown,
}

/// All containers of a pod, by name and attempt; the sandbox's name is [`SANDBOX`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ObservedPod {
    containers: BTreeMap<String, BTreeMap<u32, ObservedContainer>>,
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
        observed
    }

    /// The newest attempt of a container.
    pub fn latest(&self, container: &str) -> Option<&ObservedContainer> {
        self.containers.get(container)?.values().next_back()
    }

    /// The newest sandbox.
    pub fn sandbox(&self) -> Option<&ObservedContainer> {
        self.latest(SANDBOX)
    }

    /// The attempts of a container, oldest first.
    pub fn attempts(&self, container: &str) -> impl DoubleEndedIterator<Item = &ObservedContainer> {
        self.containers.get(container).into_iter().flat_map(BTreeMap::values)
    }

    /// The attempt before the newest that ever ran: what `lastState` and `--previous` show.
    pub fn previous(&self, container: &str) -> Option<&ObservedContainer> {
        self.attempts(container).rev().skip(1).find(|c| c.has_started())
    }

    /// Every container, sandboxes included, by name and attempt.
    pub fn all(&self) -> impl Iterator<Item = &ObservedContainer> {
        self.containers.values().flat_map(BTreeMap::values)
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
        self.containers.values_mut().flat_map(BTreeMap::values_mut).find(|c| c.id == id)
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

    /// Notes that skiff started a container.
    pub fn note_started(&mut self, id: &str, at: Timestamp) {
        if let Some(container) = self.by_id_mut(id)
            && container.state == State::Created
        {
            container.state = State::Running;
            container.started_at = Some(at);
        }
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

    /// Notes that skiff removed a container.
    pub fn note_removed(&mut self, id: &str, at: Timestamp) {
        self.bury(id, |container| {
            if container.is_running() {
                container.end(KILLED, at);
            }
        });
    }

    /// Takes over an inspection.
    pub fn note_inspected(&mut self, container: &Container) {
        let Some(fresh) = ObservedContainer::from_engine(container) else { return };
        if let Some(known) = self.by_id_mut(&fresh.id) {
            known.refresh(fresh);
        } else if !self.has_live(&fresh.identity) {
            // Names are unique: where another has the attempt, this one was looked at before it was removed.
            self.put(fresh);
        }
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
        let before = container.state.clone();
        match kind {
            EventKind::Created | EventKind::Removed => {}
            EventKind::Started => container.start_seen(at),
            EventKind::Killed(signal) => container.last_signal = Some((signal, at)),
            EventKind::OutOfMemory => container.is_out_of_memory = true,
            EventKind::Died(code) => container.death_seen(code, at),
        }
        if container.state == before { Applied::Nothing } else { Applied::Changed }
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
        let attempts = self.containers.get_mut(&name).expect("the container was found by its ID");
        let shown = attempts.values().rev().find(|c| c.has_started()).map(|c| c.identity.attempt);
        attempts.retain(|attempt, c| !c.is_gone || Some(*attempt) == shown);
        self.containers.retain(|_, attempts| !attempts.is_empty());
        Applied::Changed
    }

    /// Notes what the status of a pod tells of containers that the engine does not have any more, so that a restart of skiff
    /// neither forgets restart counts nor runs again what may run only once.
    pub fn restore(&mut self, pod: &Pod) {
        let Some(status) = &pod.status else { return };
        let sandbox = self.sandbox().map_or(0, |s| s.identity.attempt);
        let statuses =
            status.init_container_statuses.iter().flatten().chain(status.container_statuses.iter().flatten());
        for tombstone in statuses.filter_map(|status| tombstone(pod, status, sandbox)) {
            let (name, attempt) = (&tombstone.identity.container, tombstone.identity.attempt);
            let is_older = |c: &ObservedContainer| c.identity.attempt < attempt;
            if self.attempts(name).all(|c| is_older(c) || (c.identity.attempt > attempt && !c.has_started())) {
                self.put(tombstone);
            }
        }
    }
    /// The containers about which a list says something else than what is known: those to look at again.
    pub fn differences(&self, pod: &PodId, list: &[Container]) -> BTreeSet<String> {
        let listed: BTreeMap<String, ObservedContainer> = list
            .iter()
            .filter_map(ObservedContainer::from_engine)
            .filter(|c| c.identity.pod.uid == pod.uid)
            .map(|c| (c.id.clone(), c))
            .collect();
        let mut ids: BTreeSet<String> = BTreeSet::new();
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
        match &self.state {
            State::Created => self.state = State::Running,
            State::Exited(exit) if at > exit.at => self.state = State::Running,
            State::Running | State::Exited(_) => {}
        }
        if self.is_running() {
            self.started_at = Some(at);
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

/// A container that only the pod's status still knows.
fn tombstone(pod: &Pod, status: &ContainerStatus, sandbox: u32) -> Option<ObservedContainer> {
    let id = status.container_id.as_deref()?.split_once("://")?.1.to_owned();
    let identity = Identity {
        pod: PodId::of(pod),
        container: status.name.clone(),
        attempt: u32::try_from(status.restart_count).ok()?,
        sandbox,
        failures: 0,
        hash: String::new(),
        volumes: String::new(),
    };
    let state = status.state.clone().unwrap_or_default();
    let last = status.last_state.clone().unwrap_or_default();
    let time = |t: Option<Time>| t.map(|t| t.0);
    let terminated = state.terminated.or(last.terminated.filter(|_| state.waiting.is_some()));
    let started_at = match (&terminated, state.running) {
        (Some(t), _) => time(t.started_at.clone()),
        (None, running) => time(running.and_then(|r| r.started_at)),
    };
    let at = terminated.as_ref().and_then(|t| time(t.finished_at.clone())).or(started_at)?;
    let mut tombstone = ObservedContainer::created(identity, id, at);
    tombstone.image.clone_from(&status.image);
    tombstone.started_at = started_at;
    tombstone.is_gone = true;
    let code = terminated.as_ref().map_or(KILLED, |t| t.exit_code);
    let cause = if terminated.is_some() { tombstone.cause_of(code, at, true) } else { Cause::Outside };
    let oom_killed = terminated.is_some_and(|t| t.reason.as_deref() == Some("OOMKilled"));
    tombstone.state = State::Exited(Exit { code, oom_killed, error: String::new(), cause, at });
    Some(tombstone)
}

#[cfg(test)]
mod tests {
    use super::*;

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
            id: id.into(),
            name: identity(0).name(),
            labels: identity(0).labels("skiff", 30),
            image: "web:1".into(),
            image_id: "sha256:1".into(),
            phase,
            exit_code: code,
            oom_killed: false,
            error: String::new(),
            created_at: at(0),
            started_at: Some(at(1)),
            finished_at: (phase == Phase::Exited).then(|| at(9)),
            ip: None,
            pid: 0,
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
        for (there, shown) in [(3, 4), (4, 4), (5, 5)] {
            let mut observed = running();
            observed.note_removed("c0", at(2));
            observed.note_created(ObservedContainer::created(identity(there), "there".into(), at(3)));
            observed.note_started("there", at(4));
            observed.restore(&pod);
            let app = observed.latest("app").unwrap();
            assert_eq!((app.identity.attempt, app.is_gone), (shown, there == 3), "attempt {there} is still there");
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
    fn an_inspection_keeps_the_cause_that_events_told() {
        let mut pod = running();
        pod.note_stopping("c0", StopReason::Changed);
        pod.apply("c0", EventKind::Died(137), at(9));
        pod.note_inspected(&engine("c0", Phase::Exited, 137));
        assert_eq!(exit(&pod).cause, Cause::Stopped(StopReason::Changed));
    }
}
