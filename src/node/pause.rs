//! A cluster that is paused: nothing of it runs, and all that is known of it stays.
//!
//! Run by `agent`, which routes while the cluster is not paused. What says so is an annotation of the first node
//! ([`PAUSED`]), so that a pause outlives skiff.
//!
//! ```text
//!   routing ──annotation──▶ stopping ──nothing runs──▶ paused ──annotation gone──▶ routing, as after a restart of the engine
//! ```
//!
//! **Invariants**: while it is paused, what starts is stopped again, whoever started it; sandboxes end after the containers in them;
//! that all has stopped is told (the node's condition `Ready` is false, and so are those of its pods) when it is so, and not before;
//! what ended within a pause was nobody's fault.
//! **Not here**: how containers come back (`worker`): they find what has ended, as after a restart of skiff or the engine.

use super::{
    agent::{Routes, later},
    context::Context,
    identity::{SANDBOX, pod_uid},
    sweep::{self, owner},
};
use crate::{
    api::{
        agreements::{PAUSED, PAUSED_REASON},
        kinds::node::Nodes,
        meta::ObjectKey,
        object::Object as _,
        pod_state::is_pod_ready,
    },
    base::{
        backoff::Backoff,
        chain::chain,
        ordered::Set,
        task::{Drain, drain_signal},
    },
    engine::{Container, EngineError, EngineEvent, EventKind, Phase},
};
use futures::{StreamExt as _, future::join_all, stream::BoxStream};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use std::{pin::pin, sync::Arc, time::Duration};
use tracing::{info, warn};

/// How long a container may take to end by its own signal. Source: `docker stop`, which waits as long.
const GRACE: Duration = Duration::from_secs(10);
/// How long the engine may take to tell of the end of a container that was killed.
const KILL_WITHIN: Duration = Duration::from_secs(5);
/// The engine's events are read again after their reader ended.
const EVENTS_AGAIN: Duration = Duration::from_secs(1);
/// Tries to stop what could not be stopped.
const STOP_AGAIN: Backoff = Backoff { base: Duration::from_millis(250), cap: Duration::from_secs(5) };
const KILL: &str = "SIGKILL";

/// A pause that is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pause {
    /// When it was asked for.
    pub(super) since: Timestamp,
    /// When it ended.
    pub(super) until: Timestamp,
}

/// Since when the cluster is to be paused; `None`: it is not.
fn wish(context: &Context) -> Option<Timestamp> {
    let node = context.registry.api::<Nodes>().get(&ObjectKey::new("", &context.config.node_name))?;
    let text = node.meta().annotations.as_ref()?.get(PAUSED)?;
    // Who sets it by hand may write what they like: then whatever has ended was nobody's fault.
    Some(text.parse().unwrap_or(Timestamp::UNIX_EPOCH))
}

/// Returns once the wish is as asked for.
async fn until_wish(context: &Context, is_pause: bool) {
    loop {
        let seen = context.registry.store().revision();
        if wish(context).is_some() == is_pause {
            return;
        }
        let Ok(mut watch) = context.registry.api::<Nodes>().watch(seen) else { continue };
        while watch.next().await.is_ok() {
            if wish(context).is_some() == is_pause {
                return;
            }
        }
    }
}

/// Routes while the cluster is not paused, and keeps it stopped while it is, until skiff ends.
pub(super) async fn alternate(context: Arc<Context>, drain: Drain) {
    loop {
        let goes_on = match wish(&context) {
            None => route(&context, &drain).await,
            Some(since) => hold(&context, since, &drain).await,
        };
        if !goes_on {
            return;
        }
    }
}

/// Brings containers to what Pods want until the cluster is to be paused; `false`: skiff ends.
async fn route(context: &Arc<Context>, drain: &Drain) -> bool {
    let (trigger, ended) = drain_signal();
    let mut routes = pin!(Routes::begin(Arc::clone(context), ended));
    let goes_on = tokio::select! {
        biased;
        () = drain.drained() => false,
        () = until_wish(context, true) => true,
        () = &mut routes => return true,
    };
    // Workers end with it, whatever they are about.
    trigger.fire();
    routes.await;
    goes_on
}

/// Keeps everything stopped until the cluster is to go on; `false`: skiff ends.
async fn hold(context: &Context, since: Timestamp, drain: &Drain) -> bool {
    info!(component = "node", "the cluster is paused");
    let goes_on = tokio::select! {
        biased;
        () = drain.drained() => false,
        () = until_wish(context, false) => true,
        () = keep_stopped(context) => true,
    };
    if goes_on {
        context.note_resumed(Pause { since, until: context.now() });
        info!(component = "node", "the cluster goes on");
    }
    goes_on
}

/// Stops everything, and again whatever somebody starts. Never ends.
async fn keep_stopped(context: &Context) {
    let mut events = context.engine.events();
    loop {
        match events.next().await {
            None => events = later(EVENTS_AGAIN, context.engine.events()),
            // The first event is a `Resync`.
            Some(event) if asks_to_look(&event) => {
                stop_until_done(context).await;
                tell_not_ready(context).await;
                context.note_paused();
            }
            Some(_) => {}
        }
    }
}

fn asks_to_look(event: &EngineEvent) -> bool {
    match event {
        EngineEvent::Container { labels, kind: EventKind::Started, .. } => pod_uid(labels).is_some(),
        EngineEvent::Resync => true,
        _ => false,
    }
}

async fn stop_until_done(context: &Context) {
    let mut failures = 0;
    while let Err(error) = stop_all(context).await {
        failures += 1;
        warn!(component = "node", err = chain(&error), "cannot stop the cluster's containers; trying again");
        tokio::time::sleep(STOP_AGAIN.delay(failures)).await;
    }
}

/// Stops what belongs to pods: first the containers in sandboxes, then the sandboxes and what holds mounts. Looks until none runs: a
/// call that a worker made just before its end may still start one.
async fn stop_all(context: &Context) -> Result<(), EngineError> {
    loop {
        let listing = sweep::list(context).await;
        let running = listing.containers.into_iter().filter(|c| c.phase == Phase::Running && owner(c).is_some());
        let (last, first): (Vec<Container>, Vec<Container>) = running.partition(is_below_others);
        match (first.is_empty(), last.is_empty()) {
            (true, true) => return Ok(()),
            (true, false) => stop(context, &last).await?,
            (false, _) => stop(context, &first).await?,
        }
    }
}

/// Whether containers of its pod need it as long as they run.
fn is_below_others(container: &Container) -> bool {
    pod_uid(&container.labels).is_none() || container.name.starts_with(&format!("k8s_{SANDBOX}_"))
}

/// Asks containers to end, and kills those that do not in time.
async fn stop(context: &Context, containers: &[Container]) -> Result<(), EngineError> {
    let mut ends = context.engine.events();
    // Events after the first are certain to arrive.
    drop(ends.next().await);
    let mut left: Set<String> = containers.iter().map(|c| c.id.clone()).collect();
    let asked = containers.iter().map(|c| async move {
        let signal = context.images.stop_signal(&c.image_id).await;
        context.ask(context.engine.kill(&c.id, &signal)).await
    });
    join_all(asked).await.into_iter().collect::<Result<(), _>>()?;
    if tokio::time::timeout(GRACE, see_end(&mut ends, &mut left)).await.is_ok() {
        return Ok(());
    }
    let killed = left.iter().map(|id| context.ask(context.engine.kill(id, KILL)));
    join_all(killed).await.into_iter().collect::<Result<(), _>>()?;
    // Who has not ended is found by the next look.
    drop(tokio::time::timeout(KILL_WITHIN, see_end(&mut ends, &mut left)).await);
    Ok(())
}

/// Returns when the engine has told of the end of all of these, or that it may have told and was not heard.
async fn see_end(events: &mut BoxStream<'static, EngineEvent>, left: &mut Set<String>) {
    while !left.is_empty() {
        match events.next().await {
            Some(EngineEvent::Container { id, kind: EventKind::Died(_) | EventKind::Removed, .. }) => {
                left.remove(&id);
            }
            Some(EngineEvent::Resync) | None => return,
            Some(_) => {}
        }
    }
}

/// Says of every pod that was ready that it is not, so that no Service has it when the cluster goes on.
async fn tell_not_ready(context: &Context) {
    for pod in context.pods.list("").items {
        let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
        if !is_pod_ready(&pod) || !node.is_some_and(|node| context.config.has_node(node)) {
            continue;
        }
        let now = context.now();
        let key = ObjectKey::of(&pod.metadata);
        if let Err(error) = context.pods.modify_status(&key, |pod| set_not_ready(pod, now)).await {
            // Its worker writes its status when the cluster goes on, whatever it was.
            warn!(component = "node", key = %key, err = chain(&error), "cannot tell that a pod is paused");
        }
    }
}

fn set_not_ready(pod: &mut Pod, now: Timestamp) {
    let Some(status) = &mut pod.status else { return };
    for condition in status.conditions.iter_mut().flatten() {
        if matches!(&*condition.type_, "Ready" | "ContainersReady") {
            "False".clone_into(&mut condition.status);
            condition.reason = Some(PAUSED_REASON.to_owned());
            condition.message = Some("the cluster is paused".to_owned());
            condition.last_transition_time = Some(super::status::seconds(now));
        }
    }
    for container in status.container_statuses.iter_mut().flatten() {
        container.ready = false;
    }
}
