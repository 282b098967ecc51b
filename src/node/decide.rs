//! What to do for a pod: desired [`Pod`] + [`ObservedPod`] + what this process has under way → actions.
//!
//! Called by the worker after every change; calls nothing but `lifecycle` (what a container's life calls for).
//!
//! ```text
//!  no sandbox ──create──▶ created ──start──▶ running ─┬─▶ init containers, in order ─▶ containers, together
//!      ▲                                              │
//!      └──────────────── dies or is removed ──────────┘   (every container gets a new attempt on the new sandbox)
//! ```
//!
//! **Invariants**: pure and total: no async, no clock, no chance, no log. At rest it returns no action. It never learns why it
//! was called. At most one create or start per container is under way. A container joins only the newest sandbox.
//! **Not here**: how actions are done (`execute`), what users are told of the state (`status`).
//! **Source**: `pkg/kubelet/kuberuntime/kuberuntime_manager.go` `computePodActions`, `SyncPod`; `pkg/kubelet/pod_workers.go`, v1.37.

#[cfg(test)]
mod tests;

use super::{
    identity::{PodId, SANDBOX, spec_hash},
    lifecycle::{Role, back_off, needs_pod_ip, post_start_of, restarts_after, role_of, stop_grace},
    observe::{ObservedContainer, ObservedPod, Run, State, StopReason},
    resize::{Pending, needs_restart, resize_key},
    sandbox::sandbox_is_on_host,
    text::go_duration,
    translate::resources,
    volumes::needs_binding,
};
use crate::{
    api::ephemeral::{as_container, container_of},
    base::{
        backoff::Backoff,
        clock::after,
        ordered::{Map, Set},
    },
    engine::Resources,
};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Container, Pod};

/// After a `SIGTERM` a container has at least this long, however little of its grace a `preStop` hook left.
/// Source: `minimumGracePeriodInSeconds`, `pkg/kubelet/kuberuntime/kuberuntime_manager.go`, v1.37.
const GRACE_MIN: SignedDuration = SignedDuration::from_secs(2);
/// A container that survives `SIGKILL` this long gets another: the first may never have reached the engine.
const KILL_AGAIN: SignedDuration = SignedDuration::from_secs(5);

/// Key of [`Memory::blocked`] for the removal of the pod's volumes.
pub const VOLUMES: &str = "/volumes";
/// Key of [`Memory::blocked`] for the deletion of the pod's object.
pub const DELETE: &str = "/delete";

/// Something under way; at most one of each.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Slot {
    /// Creating or starting the sandbox.
    Sandbox,
    /// Creating or starting the container of this name.
    Container(String),
    /// Looking at the container of this ID.
    Inspect(String),
    /// Looking whether the image of the container of this name has appeared.
    Image(String),
    /// Writing the files of the pod's volumes again.
    Files,
    /// Running the `postStart` hook of the container of this ID.
    PostStart(String),
    /// Running the `preStop` hook of the container of this ID.
    PreStop(String),
    /// Giving the container of this ID other resources.
    Resize(String),
    /// Sending a signal to the container of this ID.
    Signal(String),
    /// Removing the container of this ID.
    Remove(String),
    /// Removing the pod's volumes.
    Volumes,
    /// Deleting the pod's object.
    Delete,
}

/// Why something cannot go on for now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blocked {
    /// The reason that users see, e.g. `ErrImagePull`.
    pub reason: String,
    /// The message that users see.
    pub message: String,
    /// What they see instead from a later time on, e.g. `ImagePullBackOff`.
    pub later: Option<(Timestamp, String, String)>,
    /// When to try again.
    pub retry_at: Timestamp,
    /// How often it failed in a row.
    pub failures: u32,
    /// What may help.
    pub kind: BlockKind,
}

/// What something blocked waits for, beside its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockKind {
    /// An image that appears.
    Image,
    /// An object that appears or changes.
    Config,
    /// A change of the pod itself.
    Spec,
    /// An engine that works again.
    Engine,
}

/// How far the stop of a container is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stop {
    /// Why.
    pub reason: StopReason,
    /// Since when.
    pub since: Timestamp,
    /// How long it may take until `SIGKILL`.
    pub grace: SignedDuration,
    /// Whether a `preStop` hook has yet to end.
    pub pre_stop_due: bool,
    /// Until when it waits at most for the data plane to take it out of the rotation.
    pub rotation_until: Option<Timestamp>,
    /// When it was asked to stop.
    pub asked_at: Option<Timestamp>,
    /// When it was killed.
    pub killed_at: Option<Timestamp>,
}

/// What became of a `postStart` hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// It ended well.
    Done,
    /// It failed.
    Failed,
}

/// What the probes of a container say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "one claim per probe; they are independent")]
pub struct Health {
    /// The startup probe has succeeded, or there is none.
    pub has_started: bool,
    /// The readiness probe succeeds, or there is none.
    pub is_ready: bool,
    /// The liveness probe failed too often.
    pub liveness_failed: bool,
    /// The startup probe failed too often.
    pub startup_failed: bool,
}

impl Health {
    /// The health of a container without probes.
    pub const GOOD: Self = Self { has_started: true, is_ready: true, liveness_failed: false, startup_failed: false };
}

/// What this process knows of a pod beside what the engine has. All of it may be lost: a restart finds its way without.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// What is under way.
    pub in_flight: Set<Slot>,
    /// What cannot go on for now, by container name ([`SANDBOX`] for the sandbox) or, for removals, by ID.
    pub blocked: Map<String, Blocked>,
    /// The stops under way, by container ID.
    pub stops: Map<String, Stop>,
    /// The `postStart` hooks that ended, by container ID.
    pub post_start: Map<String, Hook>,
    /// What probes say, by container ID; containers without probes are not in it.
    pub health: Map<String, Health>,
    /// Whether the data plane sends the pod no new connections any more.
    pub has_left_rotation: bool,
    /// Whether the pod's volumes have been removed.
    pub volumes_removed: bool,
    /// Whether the pod's object has been deleted; finalizers may keep it.
    pub object_deleted: bool,
    /// What ended containers had to say, by run; `None` until it has come.
    pub last_words: Map<Run, Option<String>>,
    /// The names of containers that the engine may have made without saying so; they go with the pod.
    pub doubtful: Set<String>,
}

impl Memory {
    /// Whether something is under way.
    pub fn is_busy(&self, slot: &Slot) -> bool {
        self.in_flight.contains(slot)
    }

    /// Whether what a container had to say has yet to come.
    pub fn awaits_last_words(&self) -> bool {
        self.last_words.values().any(Option::is_none)
    }

    /// Whether a container is being created or started.
    pub fn is_starting(&self) -> bool {
        self.in_flight.iter().any(|slot| matches!(slot, Slot::Container(_)))
    }

    /// What the probes of a container say, and its `postStart` hook.
    pub fn health_of(&self, spec: &Container, container: &ObservedContainer) -> Health {
        let has_probes =
            spec.startup_probe.is_some() || spec.readiness_probe.is_some() || spec.liveness_probe.is_some();
        let silent = Health { has_started: spec.startup_probe.is_none(), is_ready: false, ..Health::GOOD };
        let health = match self.health.get(&container.id) {
            Some(health) => *health,
            None if has_probes => silent,
            None => Health::GOOD,
        };
        let hook_done =
            post_start_of(spec).is_none() || self.post_start.get(&container.id).is_some_and(|h| *h == Hook::Done);
        Health { has_started: health.has_started && hook_done, ..health }
    }
}

/// Everything that a decision depends on.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// The pod as stored; `None`: it is not stored any more.
    pub pod: Option<&'a Pod>,
    /// What the engine has.
    pub observed: &'a ObservedPod,
    /// What is under way.
    pub memory: &'a Memory,
    /// The delays between crashes.
    pub backoff: Backoff,
    /// Why the pod's containers keep the resources that they have, although they ask for others.
    pub pending: Option<&'a Pending>,
    /// The time.
    pub now: Timestamp,
}

/// How to end a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The container's stop signal.
    Ask,
    /// `SIGKILL`.
    Kill,
}

/// Something to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Create a sandbox of this attempt, write the pod's files and start it.
    CreateSandbox {
        /// Its attempt.
        attempt: u32,
    },
    /// Start a sandbox that was created.
    StartSandbox {
        /// Its ID.
        id: String,
    },
    /// Look at a container to learn its address.
    Inspect {
        /// Its ID.
        id: String,
    },
    /// Create a container.
    Create {
        /// Its name in the pod.
        container: String,
        /// Its attempt.
        attempt: u32,
        /// The attempt of the sandbox that it joins.
        sandbox: u32,
        /// How often it failed in a row.
        failures: u32,
    },
    /// Start a container that was created.
    Start {
        /// Its name in the pod.
        container: String,
        /// Its ID.
        id: String,
    },
    /// Give a container the resources that it asks for.
    Resize {
        /// Its name in the pod.
        container: String,
        /// Its ID.
        id: String,
        /// What it may use then.
        resources: Resources,
    },
    /// Run a container's `postStart` hook.
    PostStart {
        /// Its name in the pod.
        container: String,
        /// Its ID.
        id: String,
    },
    /// Note that a container is being stopped, and tell users.
    BeginStop {
        /// Its name in the pod.
        container: String,
        /// Its ID.
        id: String,
        /// Why.
        reason: StopReason,
        /// How long it may take.
        grace: SignedDuration,
    },
    /// Run a container's `preStop` hook.
    PreStop {
        /// Its name in the pod.
        container: String,
        /// Its ID.
        id: String,
        /// When it must be over.
        deadline: Timestamp,
    },
    /// End a container's program.
    Signal {
        /// Its name in the pod.
        container: String,
        /// Its ID.
        id: String,
        /// How.
        ending: Ending,
    },
    /// Remove a container, running or not.
    Remove {
        /// Its ID.
        id: String,
    },
    /// Remove the pod's volumes.
    RemoveVolumes,
    /// Delete the pod's object: nothing of the pod is left.
    DeletePod,
}

/// Why a container waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// E.g. `CrashLoopBackOff`.
    pub reason: String,
    /// What users read; may be empty.
    pub message: String,
}

/// How a pod ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Over {
    /// Whether every container succeeded.
    pub succeeded: bool,
    /// `status.reason`; may be empty.
    pub reason: String,
    /// `status.message`; may be empty.
    pub message: String,
}

/// What to do now, and when to think again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    /// To be done at once; they do not depend on each other.
    pub actions: Vec<Action>,
    /// When to decide again even if nothing happens.
    pub wake_at: Option<Timestamp>,
    /// Containers that wait, by name, and why.
    pub waiting: Map<String, Waiting>,
    /// What a resize of containers goes on with: nothing, or an error that it met.
    pub resizing: Option<String>,
    /// How the pod ended, when its containers will not run again.
    pub over: Option<Over>,
    /// Nothing is left of the pod, and nothing is under way: its worker may end.
    pub is_finished: bool,
}

/// Decides what to do for a pod.
pub fn decide(view: View<'_>) -> Decision {
    match view.pod {
        None => gone(view),
        Some(pod) => {
            let mut planner = Planner { pod, view, decision: Decision::default() };
            planner.run();
            planner.decision
        }
    }
}

/// The pod's object is gone: so must be everything else.
fn gone(view: View<'_>) -> Decision {
    let mut decision = Decision::default();
    if remove_all(view, &mut decision) {
        decision.is_finished = view.memory.volumes_removed;
        let held_until = view.memory.blocked.get(VOLUMES).map(|b| b.retry_at).filter(|at| *at > view.now);
        match held_until {
            Some(at) => decision.wake(at),
            None if view.memory.volumes_removed || view.memory.is_busy(&Slot::Volumes) => {}
            None => decision.actions.push(Action::RemoveVolumes),
        }
    }
    decision
}

/// Removes every container; true when none is left and none is being made.
fn remove_all(view: View<'_>, decision: &mut Decision) -> bool {
    let is_making = |slot: &Slot| matches!(slot, Slot::Sandbox | Slot::Container(_));
    let mut is_clear = !view.memory.in_flight.iter().any(is_making);
    for container in view.observed.all().filter(|c| !c.is_gone) {
        is_clear = false;
        remove(view, decision, &container.id);
    }
    for name in &view.memory.doubtful {
        is_clear = false;
        remove(view, decision, name);
    }
    is_clear
}

fn remove(view: View<'_>, decision: &mut Decision, id: &str) {
    if view.memory.is_busy(&Slot::Remove(id.to_owned())) {
        return;
    }
    match view.memory.blocked.get(id) {
        Some(blocked) if blocked.retry_at > view.now => decision.wake(blocked.retry_at),
        _ => decision.actions.push(Action::Remove { id: id.to_owned() }),
    }
}

impl Decision {
    fn wake(&mut self, at: Timestamp) {
        self.wake_at = Some(self.wake_at.map_or(at, |earlier| earlier.min(at)));
    }
}

/// The sandbox that containers join.
#[derive(Clone, Copy)]
struct Joined {
    attempt: u32,
    is_up: bool,
}

struct Planner<'a> {
    pod: &'a Pod,
    view: View<'a>,
    decision: Decision,
}

impl<'a> Planner<'a> {
    fn run(&mut self) {
        if self.pod.metadata.deletion_timestamp.is_some() {
            return self.terminate();
        }
        self.wake_at_deadline();
        match self.over() {
            Some(over) => self.finish(over),
            None => self.sync(),
        }
    }

    fn observed(&self) -> &'a ObservedPod {
        self.view.observed
    }

    fn memory(&self) -> &'a Memory {
        self.view.memory
    }

    fn spec(&self) -> &'a k8s_openapi::api::core::v1::PodSpec {
        self.pod.spec.as_ref().expect("a pod bound to a node has a spec")
    }

    fn init_containers(&self) -> &'a [Container] {
        self.spec().init_containers.as_deref().unwrap_or_default()
    }

    fn push(&mut self, action: Action) {
        self.decision.actions.push(action);
    }

    // Running.

    fn sync(&mut self) {
        let sandbox = self.sandbox();
        self.remove_old_sandboxes(sandbox.is_some_and(|sandbox| sandbox.is_up));
        let Some(sandbox) = sandbox else {
            return self.stop_strays();
        };
        self.run_ephemeral(sandbox);
        if self.initialize(sandbox) {
            self.start_containers(sandbox);
        }
        self.remove_old_attempts();
    }

    /// Brings the newest sandbox up; `None` while there is none to join.
    fn sandbox(&mut self) -> Option<Joined> {
        let live = self.observed().sandbox().filter(|s| !s.is_gone && s.exit().is_none());
        let Some(sandbox) = live else {
            self.create_sandbox();
            return None;
        };
        let attempt = sandbox.identity.attempt;
        let has_address = sandbox.ip.is_some() || sandbox_is_on_host(self.pod);
        let is_up = sandbox.is_running() && has_address && !self.memory().is_busy(&Slot::Sandbox);
        if !is_up && !self.memory().is_busy(&Slot::Sandbox) && !self.is_blocked(SANDBOX) {
            let id = sandbox.id.clone();
            let is_created = sandbox.state == State::Created;
            if is_created {
                self.push(Action::StartSandbox { id });
            } else if !self.memory().is_busy(&Slot::Inspect(id.clone())) && !self.is_held(&id) {
                self.push(Action::Inspect { id });
            }
        }
        Some(Joined { attempt, is_up })
    }

    fn create_sandbox(&mut self) {
        if self.memory().is_busy(&Slot::Sandbox) {
            return;
        }
        // One that could not be started may run after all, when it was only the answer that got lost: it goes first.
        let is_doubtful = |s: &&ObservedContainer| !s.is_gone && s.exit().is_some_and(|exit| !exit.error.is_empty());
        if let Some(failed) = self.observed().sandbox().filter(is_doubtful) {
            return remove(self.view, &mut self.decision, &failed.id);
        }
        if self.is_blocked(SANDBOX) || !self.may_run_again() {
            return;
        }
        let used = self.observed().all().map(|c| c.identity.sandbox + 1).max();
        self.push(Action::CreateSandbox { attempt: used.unwrap_or_default() });
    }

    /// A pod that never restarts gets no second sandbox once a container proper has run.
    fn may_run_again(&self) -> bool {
        let has_run = |spec: &Container| self.observed().latest(&spec.name).is_some_and(ObservedContainer::has_started);
        self.spec().restart_policy.as_deref() != Some("Never") || !self.spec().containers.iter().any(has_run)
    }

    /// The last one that only lies there dead can wait: while the pod is built anew, its removal would take from that what the engine
    /// can do at once.
    fn remove_old_sandboxes(&mut self, is_up: bool) {
        let is_building = !is_up || self.memory().is_starting();
        for (n, old) in self.observed().attempts(SANDBOX).rev().enumerate().skip(1) {
            let may_wait = n == 1 && is_building && !old.is_cut_off();
            if !old.is_gone && !may_wait {
                remove(self.view, &mut self.decision, &old.id);
            }
        }
    }

    /// Without a sandbox, what still runs has no network: it ends while the new sandbox is made.
    fn stop_strays(&mut self) {
        for container in self.observed().apps().filter(|c| c.is_running()) {
            self.stop(container, StopReason::SandboxGone);
        }
    }

    /// Runs the init containers in order; true when the containers proper may run.
    fn initialize(&mut self, sandbox: Joined) -> bool {
        let is_initialized = self.is_initialized(sandbox);
        for spec in self.init_containers() {
            let is_sidecar = role_of(spec, true) == Role::Sidecar;
            let is_done = self.is_init_done(spec, sandbox);
            if is_sidecar || (!is_initialized && !is_done) {
                self.step(spec, sandbox, true);
            }
            if !is_initialized && !is_done {
                return false;
            }
        }
        true
    }

    /// A container proper that ran on this sandbox proves that initialisation was over.
    fn is_initialized(&self, sandbox: Joined) -> bool {
        let ran = |c: &ObservedContainer| c.identity.sandbox == sandbox.attempt && c.has_started();
        self.spec().containers.iter().any(|spec| self.observed().attempts(&spec.name).any(ran))
    }

    fn is_init_done(&self, spec: &Container, sandbox: Joined) -> bool {
        let Some(latest) = self.observed().latest(&spec.name) else { return false };
        if latest.identity.sandbox != sandbox.attempt {
            return false;
        }
        match role_of(spec, true) {
            Role::Sidecar => latest.is_running() && self.memory().health_of(spec, latest).has_started,
            Role::Init | Role::Main | Role::Ephemeral => latest.exit().is_some_and(|exit| exit.code == 0),
        }
    }

    fn start_containers(&mut self, sandbox: Joined) {
        let mut may_start = true;
        for spec in &self.spec().containers {
            self.step(spec, sandbox, may_start);
            may_start &= self.lets_next_start(spec);
        }
    }

    /// A container with a `postStart` hook holds back those after it until the hook is done, as the kubelet does.
    fn lets_next_start(&self, spec: &Container) -> bool {
        let Some(latest) = self.observed().latest(&spec.name) else {
            return post_start_of(spec).is_none();
        };
        post_start_of(spec).is_none()
            || !latest.is_running()
            || self.memory().post_start.contains_key(&latest.id)
            || latest.restarts > 0
    }

    /// Moves one container a step on.
    fn step(&mut self, spec: &'a Container, sandbox: Joined, may_start: bool) {
        let Some(latest) = self.observed().latest(&spec.name) else {
            if may_start {
                self.create(spec, 0, sandbox, 0);
            }
            return;
        };
        self.stop_superseded(spec, latest);
        let is_current = latest.identity.sandbox == sandbox.attempt;
        match &latest.state {
            // It never ran, so its successor takes its number, once that is free.
            State::Created if !is_current => self.discard(spec, latest),
            State::Created => self.start(spec, latest, sandbox),
            State::Running if !is_current => self.stop(latest, StopReason::SandboxGone),
            State::Running => self.watch_over(spec, latest),
            State::Exited(_) => self.restart(spec, latest, sandbox),
        }
    }

    /// Ephemeral containers run once, whatever else of the pod runs by now. Source: `computePodActions`.
    fn run_ephemeral(&mut self, sandbox: Joined) {
        for ephemeral in self.spec().ephemeral_containers.iter().flatten() {
            let spec = as_container(ephemeral);
            let Some(latest) = self.observed().latest(&spec.name) else {
                if sandbox.is_up {
                    self.create(&spec, 0, sandbox, 0);
                }
                continue;
            };
            let is_current = latest.identity.sandbox == sandbox.attempt;
            // One that was made to see the processes of a container that has ended since cannot start any more.
            let has_failed =
                ephemeral.target_container_name.is_some() && self.memory().blocked.contains_key(&spec.name);
            match &latest.state {
                State::Created if !is_current || has_failed => self.discard(&spec, latest),
                State::Created => self.start(&spec, latest, sandbox),
                State::Running if !is_current => self.stop(latest, StopReason::SandboxGone),
                State::Running | State::Exited(_) => {}
            }
        }
    }

    fn discard(&mut self, spec: &Container, created: &ObservedContainer) {
        if !self.memory().is_busy(&Slot::Container(spec.name.clone())) {
            remove(self.view, &mut self.decision, &created.id);
        }
    }

    /// A person, or the engine, started an attempt again while its successor was on the way, or long after: one of them goes on.
    fn stop_superseded(&mut self, spec: &Container, latest: &ObservedContainer) {
        for other in self.observed().attempts(&spec.name).filter(|c| c.is_running() && c.id != latest.id) {
            self.stop(other, StopReason::Superseded);
        }
    }

    fn create(&mut self, spec: &Container, attempt: u32, sandbox: Joined, failures: u32) {
        let slot = Slot::Container(spec.name.clone());
        // Beside the start of the sandbox, unless that may fail as it did before.
        let waits_for_sandbox =
            needs_pod_ip(spec) || needs_binding(self.pod, spec) || self.memory().blocked.contains_key(SANDBOX);
        if self.memory().is_busy(&slot) || self.is_blocked(&spec.name) || (waits_for_sandbox && !sandbox.is_up) {
            return;
        }
        let container = spec.name.clone();
        self.push(Action::Create { container, attempt, sandbox: sandbox.attempt, failures });
    }

    fn start(&mut self, spec: &Container, created: &ObservedContainer, sandbox: Joined) {
        if sandbox.is_up && !self.memory().is_busy(&Slot::Container(spec.name.clone())) && !self.is_blocked(&spec.name)
        {
            self.push(Action::Start { container: spec.name.clone(), id: created.id.clone() });
        }
    }

    /// Whether something waits for its time, which users are told.
    fn is_blocked(&mut self, name: &str) -> bool {
        let Some(blocked) = self.memory().blocked.get(name) else { return false };
        if blocked.retry_at <= self.view.now {
            return false;
        }
        self.decision.wake(blocked.retry_at);
        let (mut reason, mut message) = (&blocked.reason, &blocked.message);
        if let Some((at, later_reason, later_message)) = &blocked.later {
            if *at <= self.view.now {
                (reason, message) = (later_reason, later_message);
            } else {
                self.decision.wake(*at);
            }
        }
        let waiting = Waiting { reason: reason.clone(), message: message.clone() };
        self.decision.waiting.insert(name.to_owned(), waiting);
        true
    }

    /// A running container is stopped when it is outdated or unwell, and gets its hook once.
    fn watch_over(&mut self, spec: &Container, running: &ObservedContainer) {
        let health = self.memory().health_of(spec, running);
        let hook = self.memory().post_start.get(&running.id);
        let reason = if running.identity.hash != spec_hash(spec) {
            Some(StopReason::Changed)
        } else if hook == Some(&Hook::Failed) {
            Some(StopReason::PostStartHook)
        } else if health.startup_failed {
            Some(StopReason::Startup)
        } else if health.liveness_failed {
            Some(StopReason::Liveness)
        } else {
            // A stop that began goes on, whatever made it begin.
            running.stopping.filter(|_| self.memory().stops.contains_key(&running.id))
        };
        if let Some(reason) = reason.or_else(|| self.resize(spec, running)) {
            return self.stop(running, reason);
        }
        let is_due = post_start_of(spec).is_some() && hook.is_none();
        if is_due && !self.memory().is_busy(&Slot::PostStart(running.id.clone())) {
            self.push(Action::PostStart { container: spec.name.clone(), id: running.id.clone() });
        }
    }

    /// Gives a container what it asks for, in place or with its next attempt. Source: `computePodResizeAction`.
    fn resize(&mut self, spec: &Container, running: &ObservedContainer) -> Option<StopReason> {
        let (wanted, has) = (resources(self.spec(), spec), running.resources?);
        if wanted == has || self.view.pending.is_some() {
            return None;
        }
        let key = resize_key(&spec.name);
        let error = self.memory().blocked.get(&key).map(|blocked| blocked.message.clone());
        self.decision.resizing = Some(error.unwrap_or_default());
        if needs_restart(spec, wanted, has) {
            return Some(StopReason::Resized);
        }
        let id = running.id.clone();
        if !self.memory().is_busy(&Slot::Resize(id.clone())) && !self.is_held(&key) {
            self.push(Action::Resize { container: spec.name.clone(), id, resources: wanted });
        }
        None
    }

    /// A container that ended gets its next attempt when its policy says so: at once, or after its back-off.
    fn restart(&mut self, spec: &'a Container, ended: &ObservedContainer, sandbox: Joined) {
        if ended.stopping == Some(StopReason::Resized) {
            self.decision.resizing = Some(String::new());
        }
        let role = self.role(spec);
        let is_current = ended.identity.sandbox == sandbox.attempt;
        let reruns_init = role == Role::Init && !is_current;
        if !reruns_init && !restarts_after(self.pod, spec, role, ended) {
            return;
        }
        if let Some(until) = ended.may_return_until().filter(|until| is_current && *until > self.view.now) {
            return self.decision.wake(until);
        }
        let (failures, not_before) = back_off(ended, self.view.backoff);
        let not_before = if is_current { not_before } else { self.view.now };
        if not_before > self.view.now && !self.memory().is_busy(&Slot::Container(spec.name.clone())) {
            self.decision.wake(not_before);
            return self.wait_in_back_off(spec, ended, not_before);
        }
        let failures = if is_current { failures } else { ended.failures };
        self.create(spec, self.observed().next_attempt(&spec.name), sandbox, failures);
    }

    fn wait_in_back_off(&mut self, spec: &Container, ended: &ObservedContainer, not_before: Timestamp) {
        let ended_at = ended.exit().map_or(self.view.now, |exit| exit.at);
        let delay = std::time::Duration::try_from(not_before.duration_since(ended_at)).unwrap_or_default();
        let pod = PodId::of(self.pod);
        let message = format!("back-off {} restarting failed container={} pod={pod}", go_duration(delay), spec.name);
        self.decision.waiting.insert(spec.name.clone(), Waiting { reason: "CrashLoopBackOff".into(), message });
    }

    fn role(&self, spec: &Container) -> Role {
        role_of(spec, self.init_containers().iter().any(|c| c.name == spec.name))
    }

    /// The attempt that counts and the one before stay (`logs --previous`); others go once it has run: older ones, and successors that
    /// came too late.
    fn remove_old_attempts(&mut self) {
        for spec in self.init_containers().iter().chain(&self.spec().containers) {
            let Some(latest) = self.observed().latest(&spec.name).filter(|c| c.state != State::Created) else {
                continue;
            };
            let previous = self.observed().ran_before(latest).map(|c| c.id.as_str());
            let is_starting = self.memory().is_busy(&Slot::Container(spec.name.clone()));
            let may_go = |c: &&ObservedContainer| match c.state {
                State::Created => !is_starting,
                State::Running => false,
                State::Exited(_) => true,
            };
            let others = self.observed().attempts(&spec.name).filter(|c| !c.is_gone && c.id != latest.id);
            for other in others.filter(may_go).filter(|c| Some(c.id.as_str()) != previous) {
                remove(self.view, &mut self.decision, &other.id);
            }
        }
    }

    // Ending by itself.

    fn wake_at_deadline(&mut self) {
        if let Some(deadline) = self.deadline()
            && deadline > self.view.now
        {
            self.decision.wake(deadline);
        }
    }

    fn deadline(&self) -> Option<Timestamp> {
        let secs = self.spec().active_deadline_seconds?;
        let start = self.pod.status.as_ref()?.start_time.as_ref()?;
        Some(after(start.0, SignedDuration::from_secs(secs)))
    }

    /// How the pod ended, when it has.
    fn over(&self) -> Option<Over> {
        let status = self.pod.status.as_ref();
        let phase = status.and_then(|s| s.phase.as_deref()).unwrap_or_default();
        if matches!(phase, "Succeeded" | "Failed") {
            let text = |field: Option<&Option<String>>| field.cloned().flatten().unwrap_or_default();
            return Some(Over {
                succeeded: phase == "Succeeded",
                reason: text(status.map(|s| &s.reason)),
                message: text(status.map(|s| &s.message)),
            });
        }
        if self.deadline().is_some_and(|deadline| deadline <= self.view.now) {
            return Some(Over {
                succeeded: false,
                reason: "DeadlineExceeded".into(),
                message: "Pod was active on the node longer than the specified deadline".into(),
            });
        }
        let ended = |succeeded| Some(Over { succeeded, reason: String::new(), message: String::new() });
        if self.init_failed() {
            return ended(false);
        }
        let codes: Option<Vec<i32>> = self.spec().containers.iter().map(|spec| self.final_code(spec)).collect();
        codes.filter(|codes| !codes.is_empty()).and_then(|codes| ended(codes.iter().all(|code| *code == 0)))
    }

    fn init_failed(&self) -> bool {
        let inits = self.init_containers().iter().filter(|spec| role_of(spec, true) == Role::Init);
        inits.filter_map(|spec| self.final_code(spec)).any(|code| code != 0)
    }

    /// The exit code of a container that ended and will not run again.
    fn final_code(&self, spec: &Container) -> Option<i32> {
        let latest = self.observed().latest(&spec.name)?;
        let exit = latest.exit()?;
        let runs_again = restarts_after(self.pod, spec, self.role(spec), latest);
        let is_busy = self.memory().is_busy(&Slot::Container(spec.name.clone()));
        (!runs_again && !is_busy).then_some(exit.code)
    }

    /// The pod is over: what still runs (sidecars) ends, the sandbox goes once the dead have spoken, the dead stay for their logs.
    fn finish(&mut self, over: Over) {
        let reason = if over.reason == "DeadlineExceeded" { StopReason::Deadline } else { StopReason::PodOver };
        let all_stopped = self.stop_all(reason);
        self.decision.over = Some(over);
        // What containers had to say is read through the sandbox.
        if all_stopped && !self.memory().awaits_last_words() {
            for sandbox in self.observed().attempts(SANDBOX).filter(|s| !s.is_gone) {
                remove(self.view, &mut self.decision, &sandbox.id);
            }
        }
    }

    // Ending because it is deleted.

    fn terminate(&mut self) {
        if !self.stop_all(StopReason::PodDeleted) || !remove_all(self.view, &mut self.decision) {
            return;
        }
        if self.memory().volumes_removed {
            if !self.memory().object_deleted && !self.memory().is_busy(&Slot::Delete) && !self.is_held(DELETE) {
                self.push(Action::DeletePod);
            }
        } else if !self.memory().is_busy(&Slot::Volumes) && !self.is_held(VOLUMES) {
            self.push(Action::RemoveVolumes);
        }
    }

    /// Stops every container, sidecars last and in reverse order; true when none runs or is about to.
    fn stop_all(&mut self, reason: StopReason) -> bool {
        let is_sidecar = |c: &ObservedContainer| {
            self.init_containers().iter().any(|s| s.name == c.identity.container && role_of(s, true) == Role::Sidecar)
        };
        let (sidecars, others): (Vec<_>, Vec<_>) =
            self.observed().apps().filter(|c| c.is_running()).partition(|c| is_sidecar(c));
        if others.is_empty() && sidecars.is_empty() {
            return !self.memory().is_starting();
        }
        let position =
            |c: &ObservedContainer| self.init_containers().iter().position(|s| s.name == c.identity.container);
        let last_sidecar = sidecars.into_iter().max_by_key(|c| position(c));
        if others.is_empty() {
            last_sidecar.into_iter().for_each(|sidecar| self.stop(sidecar, reason));
        } else {
            others.into_iter().for_each(|container| self.stop(container, reason));
        }
        false
    }

    // Stopping one container.

    fn stop(&mut self, container: &ObservedContainer, reason: StopReason) {
        let (name, id) = (&container.identity.container, &container.id);
        if let Some(stop) = self.memory().stops.get(id) {
            self.go_on_stopping(name, id, stop);
        } else {
            let spec = container_of(self.pod, name);
            let grace = stop_grace(self.pod, spec.as_deref(), reason, self.view.now);
            self.push(Action::BeginStop { container: name.clone(), id: id.clone(), reason, grace });
        }
    }

    /// `preStop` hook and rotation, then the stop signal, then `SIGKILL` when the grace is over.
    fn go_on_stopping(&mut self, name: &str, id: &str, stop: &Stop) {
        let deadline = self.stop_deadline(stop);
        let kill_at = match (stop.asked_at, stop.killed_at) {
            (_, Some(killed_at)) => killed_at + KILL_AGAIN,
            (Some(asked_at), None) => deadline.max(asked_at + stop.grace.min(GRACE_MIN)),
            (None, None) if stop.grace.is_zero() => self.view.now,
            (None, None) => return self.prepare_stop(name, id, stop, deadline),
        };
        if kill_at <= self.view.now { self.signal(name, id, Ending::Kill) } else { self.decision.wake(kill_at) }
    }

    /// What comes before the stop signal, as long as the grace lasts.
    fn prepare_stop(&mut self, name: &str, id: &str, stop: &Stop, deadline: Timestamp) {
        let is_late = deadline <= self.view.now;
        let rotation_until =
            stop.rotation_until.filter(|until| !self.memory().has_left_rotation && *until > self.view.now);
        if stop.pre_stop_due && !is_late {
            self.decision.wake(deadline);
            if !self.memory().is_busy(&Slot::PreStop(id.to_owned())) {
                self.push(Action::PreStop { container: name.to_owned(), id: id.to_owned(), deadline });
            }
        } else if let Some(until) = rotation_until.filter(|_| !is_late) {
            self.decision.wake(until.min(deadline));
        } else {
            self.signal(name, id, Ending::Ask);
        }
    }

    /// When the grace of a stop is over. A second delete with a shorter grace brings it forward.
    fn stop_deadline(&self, stop: &Stop) -> Timestamp {
        let grace = self.pod.metadata.deletion_grace_period_seconds.map(SignedDuration::from_secs);
        match (stop.reason, grace) {
            (StopReason::PodDeleted, Some(grace)) => after(stop.since, stop.grace.min(grace)),
            _ => after(stop.since, stop.grace),
        }
    }

    fn signal(&mut self, name: &str, id: &str, ending: Ending) {
        if !self.memory().is_busy(&Slot::Signal(id.to_owned())) && !self.is_held(id) {
            self.push(Action::Signal { container: name.to_owned(), id: id.to_owned(), ending });
        }
    }

    /// Whether something must wait before it is tried again; unlike [`Self::is_blocked`], users are not told.
    fn is_held(&mut self, key: &str) -> bool {
        let retry_at = self.memory().blocked.get(key).map(|b| b.retry_at).filter(|at| *at > self.view.now);
        retry_at.into_iter().for_each(|at| self.decision.wake(at));
        retry_at.is_some()
    }
}
