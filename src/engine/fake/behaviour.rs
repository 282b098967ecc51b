//! What the program of a fake container does.

use crate::engine::ContainerSpec;
use bytes::Bytes;
use std::{sync::Arc, time::Duration};

/// A program as a function of the container's specification: command, environment, labels.
pub type BehaviourFn = Arc<dyn Fn(&ContainerSpec) -> Behaviour + Send + Sync>;

/// How long a program runs by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// Until it is told to stop.
    Forever,
    /// So long, then it ends with this code.
    Exits {
        /// After which time.
        after: Duration,
        /// With which code.
        code: i32,
    },
}

/// What a program does on its stop signal (and on `SIGTERM`, `SIGINT`, `SIGQUIT`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnStop {
    /// It does not handle it and dies: 128 and the signal's number.
    Dies,
    /// It cleans up for this time and ends with this code.
    Exits {
        /// After which time.
        after: Duration,
        /// With which code.
        code: i32,
    },
    /// It goes on.
    Ignores,
}

/// What a command run in the container does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExecBehaviour {
    /// As a small shell would: `true`, `false`, `sleep N` and `cat FILE` of an uploaded file; anything else succeeds. In a conversation
    /// `cat` alone gives back what it is given, and `sh -c` of the texts below does what they say.
    Shell,
    /// Succeeds when the program is ready and fails with 1 when it is not.
    Readiness,
    /// Ends so.
    Exits {
        /// After which time.
        after: Duration,
        /// With which code.
        code: i32,
        /// Having printed this.
        output: Bytes,
    },
    /// Never ends.
    Hangs,
}

/// What the program of a container does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Behaviour {
    /// Why it cannot be started, in the engine's words.
    pub start_error: Option<String>,
    /// How long it runs by itself.
    pub life: Life,
    /// What it does when asked to stop.
    pub on_stop: OnStop,
    /// When it is ready after its start; `None` is never.
    pub ready_after: Option<Duration>,
    /// The ports that it listens on; `None` is all.
    pub ports: Option<Vec<u16>>,
    /// The lines that it prints at its start.
    pub output: Vec<String>,
    /// The files in volumes that it writes at its start, by their paths in the container.
    pub writes: Vec<(String, Bytes)>,
    /// What commands run beside it do.
    pub exec: ExecBehaviour,
    /// How many thousandths of a processor it uses, from its start on.
    pub cpu_millis: u64,
}

impl Behaviour {
    /// A server: runs for ever, is ready at once on every port, ends at once with 0 when asked to.
    pub fn server() -> Self {
        Self {
            start_error: None,
            life: Life::Forever,
            on_stop: OnStop::Exits { after: Duration::ZERO, code: 0 },
            ready_after: Some(Duration::ZERO),
            ports: None,
            output: Vec::new(),
            writes: Vec::new(),
            exec: ExecBehaviour::Shell,
            cpu_millis: 1,
        }
    }

    /// A sandbox: as a server that listens nowhere, and says when it has written its files.
    pub fn pause() -> Self {
        Self { ports: Some(Vec::new()), output: vec!["ready".into()], ..Self::server() }
    }

    /// A program that ends by itself.
    pub fn exits(after: Duration, code: i32) -> Self {
        Self { life: Life::Exits { after, code }, ..Self::server() }
    }

    /// A program that only `SIGKILL` ends.
    pub fn ignores_stop() -> Self {
        Self { on_stop: OnStop::Ignores, ..Self::server() }
    }

    /// A server that is ready some time after its start; `None` is never.
    pub fn ready_after(time: Option<Duration>) -> Self {
        Self { ready_after: time, ..Self::server() }
    }

    /// A program that the engine cannot start.
    pub fn cannot_start(error: &str) -> Self {
        Self { start_error: Some(error.into()), ..Self::server() }
    }
}
