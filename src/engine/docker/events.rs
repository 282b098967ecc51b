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
/// Every pod waits for an engine that comes back, and asking one that is away costs a connection that is refused: microseconds.
const RECONNECT: Backoff = Backoff { base: Duration::from_millis(25), cap: Duration::from_millis(50) };

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{CLUSTER_LABEL, EventKind};
    use bollard::API_DEFAULT_VERSION;
    use std::path::Path;
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::{UnixListener, UnixStream},
    };

    /// Reads a request and returns its path and query.
    async fn request(stream: &mut UnixStream) -> String {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        String::from_utf8(head).unwrap().split(' ').nth(1).unwrap().to_owned()
    }

    /// An engine whose event streams carry one event each and break, and whose clock moves by a second per question.
    async fn breaking_engine(listener: UnixListener, asked: mpsc::Sender<String>) {
        for n in 0.. {
            let (mut stream, _) = listener.accept().await.unwrap();
            let path = request(&mut stream).await;
            let body = if path.starts_with("/info") {
                format!("{{\"SystemTime\":\"2026-01-01T00:00:{n:02}.5Z\"}}")
            } else {
                let labels = format!("\"name\":\"c{n}\",\"{CLUSTER_LABEL}\":\"skiff\"");
                format!(
                    "{{\"Type\":\"container\",\"Action\":\"start\",\"Actor\":{{\"ID\":\"x\",\"Attributes\":{{{labels}}}}}}}\n"
                )
            };
            asked.send(path).await.unwrap();
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
            stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
        }
    }

    fn client(path: &Path) -> Docker {
        Docker::connect_with_unix(path.to_str().unwrap(), 10, API_DEFAULT_VERSION).unwrap()
    }

    #[tokio::test]
    async fn a_broken_stream_is_made_again_from_a_time_before_its_resync() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("engine.sock");
        let (asked_tx, mut asked) = mpsc::channel(16);
        drop(task::spawn("engine", breaking_engine(UnixListener::bind(&path).unwrap(), asked_tx)));
        let events = follow(client(&path), "skiff".into(), "7.000000000".into());
        let seen: Vec<EngineEvent> = events.take(4).collect().await;
        assert!(
            matches!(&seen[..], [
            EngineEvent::Resync,
            EngineEvent::Container { name: first, kind: EventKind::Started, .. },
            EngineEvent::Resync,
            EngineEvent::Container { name: second, .. },
        ] if first == "c0" && second == "c2"),
            "{seen:?}"
        );
        let first = asked.recv().await.unwrap();
        assert!(first.starts_with("/events?since=7.000000000&"), "{first}");
        assert_eq!(asked.recv().await.unwrap(), "/info");
        let again = asked.recv().await.unwrap();
        assert!(again.starts_with("/events?since=1767225601.500000000&"), "{again}");
    }

    #[tokio::test]
    async fn the_stream_waits_for_an_engine_that_is_away() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("engine.sock");
        let first = UnixListener::bind(&path).unwrap();
        let mut events = follow(client(&path), "skiff".into(), "7.0".into());
        let (mut stream, _) = first.accept().await.unwrap();
        request(&mut stream).await;
        drop((first, stream));
        std::fs::remove_file(&path).unwrap();
        assert_eq!(events.next().await, Some(EngineEvent::Resync));
        let (asked_tx, _asked) = mpsc::channel(16);
        drop(task::spawn("engine", breaking_engine(UnixListener::bind(&path).unwrap(), asked_tx)));
        assert_eq!(events.next().await, Some(EngineEvent::Resync));
        assert!(matches!(events.next().await, Some(EngineEvent::Container { .. })));
    }
}
