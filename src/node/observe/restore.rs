//! What the status of a pod tells of runs that the engine does not know any more. Part of `observe`.

use super::{Cause, Exit, KILLED, ObservedContainer, ObservedPod, Run, State};
use crate::{
    base::ordered::Map,
    node::identity::{Identity, PodId},
};
use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{ContainerStateTerminated, ContainerStatus, Pod, PodStatus},
    apimachinery::pkg::apis::meta::v1::Time,
};

impl ObservedPod {
    /// Notes what the status of a pod tells of containers that the engine does not have any more, and of former runs of those that it
    /// has, so that a restart of skiff neither forgets restart counts nor runs again what may run only once.
    pub fn restore(&mut self, pod: &Pod) {
        let Some(status) = &pod.status else { return };
        let sandbox = self.sandbox().map_or(0, |s| s.identity.attempt);
        for status in all_of(status) {
            self.restore_gone(pod, status, sandbox);
            self.restore_run(status);
        }
    }

    /// What ended runs had to say, as the status tells it.
    pub fn told_last_words(&self, pod: &Pod) -> Map<Run, Option<String>> {
        let Some(status) = &pod.status else { return Map::new() };
        let ends = all_of(status).flat_map(|status| [&status.state, &status.last_state]).flatten();
        let told: Vec<&ContainerStateTerminated> = ends.filter_map(|state| state.terminated.as_ref()).collect();
        let is_of = |run: &ObservedContainer, told: &&&ContainerStateTerminated| {
            let ended = time(told.finished_at.as_ref()).map(Timestamp::as_second);
            told.container_id.as_deref().and_then(bare) == Some(&run.id)
                && ended == run.exit().map(|exit| exit.at.as_second())
        };
        let words =
            |run: &ObservedContainer| told.iter().find(|told| is_of(run, told)).map(|told| told.message.clone());
        let words = self.ended_runs().filter_map(|run| Some((run.run(), Some(words(run)?.unwrap_or_default()))));
        words.collect()
    }

    fn restore_gone(&mut self, pod: &Pod, status: &ContainerStatus, sandbox: u32) {
        if id_of(status).is_some_and(|id| self.by_id(id).is_some()) {
            return;
        }
        let Some(tombstone) = tombstone(pod, status, sandbox) else { return };
        let (name, attempt) = (&tombstone.identity.container, tombstone.identity.attempt);
        let is_older = |c: &ObservedContainer| c.identity.attempt < attempt;
        if self.attempts(name).all(|c| is_older(c) || (c.identity.attempt > attempt && !c.has_started())) {
            self.put(tombstone);
        }
    }

    /// The restarts that only the status counts: those of one container that the engine started again.
    fn restore_run(&mut self, status: &ContainerStatus) {
        let (Some(id), Ok(counted)) = (id_of(status), u32::try_from(status.restart_count)) else { return };
        let Some(shown) = self.shown(&status.name).filter(|c| !c.is_gone).map(|c| c.id.clone()) else { return };
        let Some(shown) = self.by_id_mut(&shown) else { return };
        if shown.id != id {
            // It runs since, and its count must not be lower than what was told.
            shown.restarts = shown.restarts.max(if shown.restarts > counted { 0 } else { counted + 1 });
            return;
        }
        shown.restarts = shown.restarts.max(counted);
        let state = status.state.clone().unwrap_or_default();
        let told = state.terminated.as_ref().and_then(|t| time(t.started_at.as_ref()));
        let told = told.or_else(|| time(state.running.as_ref()?.started_at.as_ref()));
        let (Some(told), Some(started_at)) = (told, shown.started_at) else { return };
        if started_at.as_second() > told.as_second() {
            let past = ObservedContainer { started_at: Some(told), ..shown.clone() };
            let exit = state.terminated.as_ref().and_then(|t| exit_of(shown, t));
            shown.former = Some(match exit {
                Some(exit) => past.past(exit),
                None => past.running().past_at(started_at),
            });
            shown.restarts += 1;
            return;
        }
        let last = status.last_state.as_ref().and_then(|last| last.terminated.as_ref());
        let last = last.filter(|last| last.container_id.as_deref().and_then(bare).is_some_and(|last| last == id));
        if let Some(last) = last {
            let past = ObservedContainer { started_at: time(last.started_at.as_ref()), ..shown.clone() };
            shown.former = exit_of(shown, last).map(|exit| past.past(exit));
        }
    }
}

/// The statuses of a pod's containers, of whatever sort.
fn all_of(status: &PodStatus) -> impl Iterator<Item = &ContainerStatus> {
    let lists = [&status.init_container_statuses, &status.container_statuses, &status.ephemeral_container_statuses];
    lists.into_iter().flatten().flatten()
}

impl ObservedContainer {
    fn running(self) -> Self {
        Self { state: State::Running, ..self }
    }
}

fn time(time: Option<&Time>) -> Option<Timestamp> {
    time.map(|time| time.0)
}

fn bare(id: &str) -> Option<&str> {
    id.split_once("://").map(|(_, id)| id)
}

fn id_of(status: &ContainerStatus) -> Option<&str> {
    bare(status.container_id.as_deref()?)
}

fn exit_of(container: &ObservedContainer, told: &ContainerStateTerminated) -> Option<Exit> {
    let at = time(told.finished_at.as_ref()).or_else(|| time(told.started_at.as_ref()))?;
    let oom_killed = told.reason.as_deref() == Some("OOMKilled");
    let cause = container.cause_of(told.exit_code, at, true);
    Some(Exit { code: told.exit_code, oom_killed, error: String::new(), cause, at })
}

/// A container that only the pod's status still knows.
fn tombstone(pod: &Pod, status: &ContainerStatus, sandbox: u32) -> Option<ObservedContainer> {
    let id = id_of(status)?.to_owned();
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
    let terminated = state.terminated.or(last.terminated.filter(|_| state.waiting.is_some()));
    let started_at = match (&terminated, state.running) {
        (Some(t), _) => time(t.started_at.as_ref()),
        (None, running) => time(running.as_ref().and_then(|r| r.started_at.as_ref())),
    };
    let at = terminated.as_ref().and_then(|t| time(t.finished_at.as_ref())).or(started_at)?;
    let mut tombstone = ObservedContainer::created(identity, id, at);
    tombstone.image.clone_from(&status.image);
    tombstone.started_at = started_at;
    tombstone.is_gone = true;
    let unseen = Exit { code: KILLED, oom_killed: false, error: String::new(), cause: Cause::Outside, at };
    let exit = terminated.and_then(|t| exit_of(&tombstone, &t)).unwrap_or(unseen);
    tombstone.state = State::Exited(exit);
    Some(tombstone)
}
