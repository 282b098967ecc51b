//! The status of each container. Called by `status` only.

use super::{Facts, seconds};
use crate::node::{
    lifecycle::Role,
    observe::{Exit, ObservedContainer, State},
    resize::{self, Given},
    termination::bounded,
};
use k8s_openapi::api::core::v1::{
    Container, ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting, ContainerStatus,
    Pod, VolumeMountStatus,
};

/// The statuses of a pod's containers, in the order of the spec.
pub(super) fn container_statuses<'a>(
    pod: &Pod,
    specs: impl IntoIterator<Item = &'a Container>,
    role: impl Fn(&Container) -> Role,
    facts: Facts<'_>,
) -> Vec<ContainerStatus> {
    specs.into_iter().map(|spec| container_status(pod, spec, role(spec), facts)).collect()
}

fn container_status(pod: &Pod, spec: &Container, role: Role, facts: Facts<'_>) -> ContainerStatus {
    // One that was never started is shown when no other ran.
    let made = || facts.observed.latest(&spec.name).filter(|c| !c.is_gone);
    let (shown, previous) = (facts.observed.shown(&spec.name).or_else(made), facts.observed.previous(&spec.name));
    let (state, last_state) = states(pod, spec, shown, previous, facts);
    let health = shown.filter(|c| c.is_running()).map(|c| facts.memory.health_of(spec, c));
    let started = health.is_some_and(|h| h.has_started);
    let ready = match role {
        Role::Init => shown.and_then(ObservedContainer::exit).is_some_and(|exit| exit.code == 0),
        Role::Sidecar | Role::Main => health.is_some_and(|h| h.has_started && h.is_ready),
        Role::Ephemeral => false,
    };
    let is_lasting = role != Role::Ephemeral;
    // What a resize that waits goes by is told of a container that does not run, too.
    let has_resources = is_lasting && (state.running.is_some() || facts.pending.is_some());
    let given = if has_resources { resize::given(pod, spec, shown, facts.pending) } else { Given::default() };
    // One that is made and not started yet is told of when it starts: nobody does anything with it before.
    let ran = shown.filter(|c| c.has_started());
    ContainerStatus {
        name: spec.name.clone(),
        image: image_of(spec, shown),
        image_id: ran.map(|c| image_id(c, facts)).unwrap_or_default(),
        container_id: ran.map(|c| engine_id(&c.id)),
        restart_count: shown.map_or(0, |c| i32::try_from(c.restarts).unwrap_or(i32::MAX)),
        ready,
        started: is_lasting.then_some(started),
        state: Some(state),
        last_state: Some(last_state),
        resources: given.resources,
        allocated_resources: given.allocated,
        volume_mounts: volume_mounts(spec),
        ..ContainerStatus::default()
    }
}

fn states(
    pod: &Pod,
    spec: &Container,
    shown: Option<&ObservedContainer>,
    previous: Option<&ObservedContainer>,
    facts: Facts<'_>,
) -> (ContainerState, ContainerState) {
    let ended = |c: &ObservedContainer| c.exit().map(|exit| terminated(pod, c, exit, facts)).unwrap_or_default();
    let last = previous.map(ended).unwrap_or_default();
    match shown {
        Some(c) if c.state == State::Running => (running(c), last),
        Some(c) if c.exit().is_some() => match waiting(spec, facts) {
            Some(state) => (state, ended(c)),
            None => (ended(c), last),
        },
        _ => (waiting(spec, facts).unwrap_or_else(|| first_waiting(pod)), last),
    }
}

fn running(container: &ObservedContainer) -> ContainerState {
    let started_at = container.started_at.map(seconds);
    ContainerState { running: Some(ContainerStateRunning { started_at }), ..ContainerState::default() }
}

fn waiting(spec: &Container, facts: Facts<'_>) -> Option<ContainerState> {
    let waiting = facts.decision.waiting.get(&spec.name)?;
    let message = (!waiting.message.is_empty()).then(|| waiting.message.clone());
    let waiting = ContainerStateWaiting { reason: Some(waiting.reason.clone()), message };
    Some(ContainerState { waiting: Some(waiting), ..ContainerState::default() })
}

/// What a container waits for that has never run.
fn first_waiting(pod: &Pod) -> ContainerState {
    let has_init = pod.spec.as_ref().is_some_and(|s| s.init_containers.iter().flatten().next().is_some());
    let reason = if has_init { "PodInitializing" } else { "ContainerCreating" };
    let waiting = ContainerStateWaiting { reason: Some(reason.to_owned()), message: None };
    ContainerState { waiting: Some(waiting), ..ContainerState::default() }
}

fn terminated(pod: &Pod, container: &ObservedContainer, exit: &Exit, facts: Facts<'_>) -> ContainerState {
    let words = facts.memory.last_words.get(&container.run()).cloned().flatten();
    let words = if exit.error.is_empty() { words } else { Some(exit.error.clone()) };
    let message =
        words.filter(|words| !words.is_empty()).zip(pod.spec.as_ref()).map(|(words, spec)| bounded(words, spec));
    let terminated = ContainerStateTerminated {
        container_id: Some(engine_id(&container.id)),
        exit_code: exit.code,
        finished_at: Some(seconds(exit.at)),
        started_at: Some(seconds(container.started_at.unwrap_or(exit.at))),
        message,
        reason: Some(exit_reason(exit).to_owned()),
        signal: None,
    };
    ContainerState { terminated: Some(terminated), ..ContainerState::default() }
}

/// Source: `pkg/kubelet/dockershim/docker_container.go` `ContainerStatus`, v1.23.
fn exit_reason(exit: &Exit) -> &'static str {
    match exit {
        Exit { oom_killed: true, .. } => "OOMKilled",
        Exit { error, .. } if !error.is_empty() => "ContainerCannotRun",
        Exit { code: 0, .. } => "Completed",
        Exit { .. } => "Error",
    }
}

/// The ID as the API writes it.
pub(crate) fn engine_id(id: &str) -> String {
    format!("docker://{id}")
}

fn image_of(spec: &Container, shown: Option<&ObservedContainer>) -> String {
    let of_engine = shown.map(|c| c.image.as_str()).filter(|image| !image.is_empty() && !image.starts_with("sha256:"));
    of_engine.unwrap_or(spec.image.as_deref().unwrap_or_default()).to_owned()
}

/// The image's ID as dockershim wrote it: by digest when it came from a registry, by content when it was built here.
fn image_id(container: &ObservedContainer, facts: Facts<'_>) -> String {
    match facts.digests.get(&container.image_id) {
        Some(digest) => format!("docker-pullable://{digest}"),
        None if container.image_id.is_empty() => String::new(),
        None => format!("docker://{}", container.image_id),
    }
}

fn volume_mounts(spec: &Container) -> Option<Vec<VolumeMountStatus>> {
    let mounts = spec.volume_mounts.as_ref().filter(|mounts| !mounts.is_empty())?;
    let status = |mount: &k8s_openapi::api::core::v1::VolumeMount| {
        let read_only = mount.read_only.filter(|r| *r);
        VolumeMountStatus {
            name: mount.name.clone(),
            mount_path: mount.mount_path.clone(),
            read_only,
            recursive_read_only: read_only.map(|_| "Disabled".to_owned()),
            ..VolumeMountStatus::default()
        }
    };
    Some(mounts.iter().map(status).collect())
}
