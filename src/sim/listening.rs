//! Users who listen to containers and talk with them by other ways than commands: they follow a log, attach, forward a port.
//!
//! What they hear is whole and in order, and ends with the container or with a word of why; nobody is listened for who has left.

use super::world::{TICK, World};
use crate::{
    api::meta::ObjectKey,
    base::task::{self, drain_signal},
    engine::{Connected, Phase},
    node::streams::{LogQuery, PodStreams},
    server::hear,
};
use futures::{FutureExt as _, StreamExt as _};
use jiff::Timestamp;
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::oneshot,
};

/// How long a user listens to what does not end.
const PATIENCE: Duration = Duration::from_secs(40);
/// Within which a forwarded connection has answered: a call whose answer is lost takes half a minute, and each of two may be.
const ANSWER_MAX: Duration = Duration::from_secs(100);
const PORT: u16 = 80;

/// How a user listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Follow,
    Attach,
    Forward,
}

/// What a user heard, and how it ended; `None`: the user left.
struct Heard {
    printed: Vec<u8>,
    end: Option<Result<(), String>>,
}

/// A user who listens.
pub(super) struct Listener {
    way: Way,
    container: String,
    said: String,
    since: Timestamp,
    told: oneshot::Receiver<Heard>,
}

/// What programs have printed, by the ID of their container.
#[derive(Default)]
pub(super) struct Printed(BTreeMap<String, String>);

impl Printed {
    /// Has the program of a container print one line more.
    pub(super) fn add(&mut self, world: &World, container: &str) {
        let all = self.0.entry(container.to_owned()).or_default();
        let line = format!("line {}", all.lines().count());
        world.engine.print(container, &line);
        all.push_str(&line);
        all.push('\n');
    }

    fn of(&self, container: &str) -> &str {
        self.0.get(container).map_or("", String::as_str)
    }
}

impl Listener {
    /// Begins to listen to a pod's container; `None`: it does not run.
    pub(super) async fn begin(world: &World, way: Way, pod: &ObjectKey, said: &str) -> Option<Self> {
        let streams = world.streams();
        let container = streams.find(pod, "c").ok()?.id;
        let (tell, told) = oneshot::channel();
        let (key, text) = (pod.clone(), said.to_owned());
        let work = async move {
            let heard = match way {
                Way::Follow => follow(streams, key).await,
                Way::Attach => attach(streams, key, text).await,
                Way::Forward => forward(streams, key, text).await,
            };
            // Who waits no longer leaves.
            drop(tell.send(heard));
        };
        world.group().enter(async { drop(task::spawn("listener", work)) }).await;
        Some(Self { way, container, said: said.to_owned(), since: world.clock.now(), told })
    }

    /// Whether this listens on. What one who does no longer has heard is checked; one of a control plane that ended went with it.
    pub(super) fn goes_on(&mut self, world: &World, printed: &Printed) -> bool {
        match self.told.try_recv() {
            Err(oneshot::error::TryRecvError::Empty) => return true,
            Err(oneshot::error::TryRecvError::Closed) => {}
            Ok(heard) => drop(self.check(world, printed, &heard)),
        }
        false
    }

    /// Waits until this is over; returns whether all was heard that there was to hear.
    pub(super) async fn finish(mut self, world: &mut World, printed: &Printed) -> bool {
        loop {
            match self.told.try_recv() {
                Err(oneshot::error::TryRecvError::Empty) => world.tick(TICK).await,
                Err(oneshot::error::TryRecvError::Closed) => return false,
                Ok(heard) => return self.check(world, printed, &heard),
            }
        }
    }

    fn check(&self, world: &World, printed: &Printed, heard: &Heard) -> bool {
        let text = String::from_utf8_lossy(&heard.printed);
        let container = world.engine.containers().into_iter().find(|c| c.id == self.container);
        let is_ended = container.is_none_or(|c| c.phase != Phase::Running || c.started_at >= Some(self.since));
        if let Some(Err(why)) = &heard.end {
            assert!(!why.is_empty(), "{:?} ended without a word", self.way);
        }
        let whole = match self.way {
            // The container that is asked for may be a later one than was found.
            Way::Follow => {
                let is_start = |all: &String| all.starts_with(&*text);
                assert!(text.is_empty() || printed.0.values().any(is_start), "a log says {text:?}");
                heard.printed.len() >= printed.of(&self.container).len()
            }
            Way::Attach => {
                let lines: Vec<&str> = text.lines().filter(|line| *line != self.said.trim_end()).collect();
                let is_part = |all: &String| all.contains(&lines.join("\n"));
                assert!(lines.is_empty() || printed.0.values().any(is_part), "a program says {text:?}");
                text.contains(&self.said)
            }
            Way::Forward => {
                assert!(heard.end.is_some(), "a connection has not ended since {}", self.since);
                assert!(self.said.starts_with(&*text), "{text:?} came back of {:?}", self.said);
                *text == self.said
            }
        };
        let is_sound = match (&heard.end, self.way) {
            (Some(Ok(())), Way::Forward) => whole || is_ended,
            (Some(Ok(())), _) => is_ended,
            _ => true,
        };
        assert!(is_sound, "{:?} of a container that runs on ended as if it had not: {text:?}", self.way);
        whole
    }
}

async fn follow(streams: Arc<dyn PodStreams>, pod: ObjectKey) -> Heard {
    let query = LogQuery { container: "c".to_owned(), follow: true, ..LogQuery::default() };
    let mut heard = Heard { printed: Vec::new(), end: None };
    let listen = async {
        let mut log = streams.logs(&pod, &query).await.map_err(|err| err.to_string())?;
        while let Some(chunk) = log.next().await {
            heard.printed.extend(chunk.map_err(|err| err.to_string())?);
        }
        Ok(())
    };
    heard.end = tokio::time::timeout(PATIENCE, listen).await.ok();
    heard
}

async fn attach(streams: Arc<dyn PodStreams>, pod: ObjectKey, said: String) -> Heard {
    let connected = Connected { stdin: true, stdout: true, stderr: true, tty: false };
    let begin = async move {
        let on = streams.find(&pod, "c").map_err(|err| err.to_string())?;
        streams.attach(&on, connected).await.map_err(|err| err.to_string())
    };
    let (leave, drain) = drain_signal();
    let mut listen = Box::pin(hear(begin.boxed(), said.into(), drain));
    let heard = if let Ok(heard) = tokio::time::timeout(PATIENCE, &mut listen).await {
        heard
    } else {
        leave.fire();
        listen.await
    };
    Heard { printed: heard.printed, end: heard.end.map(|end| end.map(drop)) }
}

/// Says something to a port, and hears what comes until the end.
async fn forward(streams: Arc<dyn PodStreams>, pod: ObjectKey, said: String) -> Heard {
    let mut heard = Heard { printed: Vec::new(), end: None };
    let talk = async {
        let ports = streams.ports(&pod).await.map_err(|err| err.to_string())?;
        let mut stream = ports.connect(PORT).await?;
        stream.write_all(said.as_bytes()).await.map_err(|err| err.to_string())?;
        stream.shutdown().await.map_err(|err| err.to_string())?;
        stream.read_to_end(&mut heard.printed).await.map_err(|err| err.to_string())?;
        Ok(())
    };
    heard.end = tokio::time::timeout(ANSWER_MAX, talk).await.ok();
    heard
}
