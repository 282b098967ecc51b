//! The engine's event stream: made again when it breaks, and never with a silent gap.
//!
//! The request asks for what happened since a time that was read before it left, and the engine remembers its last 256 events, so
//! nothing falls between the two. Whoever lists after a `Resync` therefore sees what came before, and gets what came after.

use super::translate;
use crate::{
    base::{backoff::Backoff, task},
    engine::EngineEvent,
};
use bollard::{Docker, query_parameters::EventsOptions};
use futures::{
    StreamExt as _,
    stream::{self, BoxStream},
};
use std::{pin::Pin, time::Duration};
use tokio::sync::mpsc::{self, error::TrySendError};
use tracing::{debug, warn};

/// How many events wait for a slow reader; then it gets a `Resync` instead.
const QUEUE: usize = 4096;
/// An engine that restarts is back within seconds, and asking costs little.
const RECONNECT: Backoff = Backoff { base: Duration::from_millis(100), cap: Duration::from_secs(2) };

/// Events of this cluster's containers and of images, from `since` on.
pub(super) fn follow(docker: Docker, cluster: String, since: String) -> BoxStream<'static, EngineEvent> {
    let (sender, receiver) = mpsc::channel(QUEUE);
    // The engine drops events for a reader that lags, so they are read as they come, whatever the consumer does.
    drop(task::spawn("engine-events", pump(docker, cluster, since, sender)));
    stream::unfold(receiver, |mut receiver| async move { Some((receiver.recv().await?, receiver)) }).boxed()
}

async fn pump(docker: Docker, cluster: String, since: String, sender: mpsc::Sender<EngineEvent>) {
    let mut since = Some(since);
    let mut failures = 0;
    loop {
        let from = match since.take() {
            Some(from) => Ok(from),
            None => docker.info().await.map(|info| translate::since(info.system_time.as_deref())),
        };
        match from {
            Ok(from) => {
                let ended = tokio::select! {
                    biased;
                    () = sender.closed() => return,
                    ended = forward(&docker, &cluster, from, &sender) => ended,
                };
                warn!(component = "engine", err = ended, "the event stream ended; connecting again");
                failures = 1;
            }
            Err(err) => {
                debug!(component = "engine", err = %err, "the engine does not answer");
                failures += 1;
            }
        }
        tokio::select! {
            biased;
            () = sender.closed() => return,
            () = tokio::time::sleep(RECONNECT.delay(failures)) => {}
        }
    }
}

/// Forwards one connection's events until it ends; returns why.
async fn forward(docker: &Docker, cluster: &str, since: String, sender: &mpsc::Sender<EngineEvent>) -> String {
    let options = EventsOptions { since: Some(since), until: None, filters: Some(translate::event_filters()) };
    let mut events = docker.events(Some(options)).peekable();
    // The request leaves with the first poll; its answer need not be awaited, for the engine remembers.
    let _answer = futures::poll!(Pin::new(&mut events).peek());
    if sender.send(EngineEvent::Resync).await.is_err() {
        return "nobody listens".into();
    }
    while let Some(event) = events.next().await {
        let event = match event {
            Ok(event) => event,
            Err(err) => return err.to_string(),
        };
        let Some(event) = translate::event(event, cluster) else { continue };
        if let Err(TrySendError::Full(_)) = sender.try_send(event) {
            warn!(component = "engine", "events come faster than they are read; listing again instead");
            if sender.send(EngineEvent::Resync).await.is_err() {
                return "nobody listens".into();
            }
        }
    }
    "the engine closed the connection".into()
}
