//! Commands of probes and hooks that run on past their time: they are ended in the container, with what they started.
//!
//! Called by `probes` and `hooks`. The kubelet's runtime kills the process of such a command; Docker has no call for it. What it tells
//! is the process's ID on the engine's host, which need not be the machine of skiff, so a helper container that shares the host's
//! processes ends them there (`skiff end-processes`).
//!
//! **Invariants**: one helper at a time, whatever number of commands hang; it ends only what is in the container it was told.
//! **Not here**: commands that hang when their container ends: they end with it. An engine that lets no container share its host's
//! processes (Docker with `userns-remap`) keeps them until then.
//! **Source**: `execSync`, containerd `internal/cri/server/container_execsync.go`, v2.0.

use super::{
    context::Context,
    execute::ask_helper,
    volumes::{FILES_READY, sub_paths::HELPER_OF},
};
use crate::{
    base::{chain::chain, ordered::Map, secret::variable, task},
    engine::{ContainerSpec, EngineError, NamespaceMode, NetworkMode},
};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};
use tracing::warn;

/// The variable by which the helper is told what to end.
pub const REQUEST: &str = "SKIFF_OVERDUE";
/// What the helper needs: to signal processes of whatever user.
const RIGHTS: [&str; 1] = ["KILL"];

/// The first process of a command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overdue {
    /// The ID of its container.
    pub container: String,
    /// Its process ID on the engine's host.
    pub pid: i64,
}

/// What is to be ended.
#[derive(Debug, Default)]
pub(super) struct Queue(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// By process ID, and the UID of the pod.
    waiting: Map<i64, (String, Overdue)>,
    is_ending: bool,
}

/// Has a command ended that did not end in its time, beside everything else. Other errors need nothing.
pub(super) fn end(context: &Arc<Context>, pod: &str, container: &str, error: &EngineError) {
    let EngineError::Overdue(_, _, Some(pid)) = error else { return };
    let overdue = Overdue { container: container.to_owned(), pid: *pid };
    let mut state = context.overdue.0.lock().expect("no one panics while holding it");
    state.waiting.insert(*pid, (pod.to_owned(), overdue));
    if !std::mem::replace(&mut state.is_ending, true) {
        let context = Arc::clone(context);
        task::spawn("end-processes", async move { while end_next(&context).await {} });
    }
}

/// Ends what waits; false when nothing does.
async fn end_next(context: &Arc<Context>) -> bool {
    let all: Vec<(String, Overdue)> = {
        let mut state = context.overdue.0.lock().expect("no one panics while holding it");
        state.is_ending = !state.waiting.is_empty();
        std::mem::take(&mut state.waiting).into_values().collect()
    };
    let Some((pod, _)) = all.first() else { return false };
    let image = context.config.sandbox_image.borrow().clone();
    let overdue: Vec<&Overdue> = all.iter().map(|(_, overdue)| overdue).collect();
    let said = ask_helper(context, &helper(pod, &image.unwrap_or_default(), &overdue)).await;
    match said {
        Ok(line) if line == FILES_READY => {}
        Ok(line) => warn!(component = "node", said = line, "cannot end commands that hang"),
        Err(error) => warn!(component = "node", err = chain(&error), "cannot end commands that hang"),
    }
    true
}

fn helper(pod: &str, image: &str, overdue: &[&Overdue]) -> ContainerSpec {
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    ContainerSpec {
        name: format!("skiff_end_{pod}"),
        image: image.to_owned(),
        command: words(&["end-processes"]),
        env: vec![variable(REQUEST, serde_json::to_string(overdue).unwrap_or_default())],
        labels: BTreeMap::from([(HELPER_OF.to_owned(), pod.to_owned())]),
        network: Some(NetworkMode::None),
        pid: NamespaceMode::Host,
        cap_drop: words(&["ALL"]),
        cap_add: words(&RIGHTS),
        // A confined process may not signal one that is not.
        security_options: words(&["label=disable", "apparmor=unconfined"]),
        read_only_root: true,
        no_new_privileges: true,
        ..ContainerSpec::default()
    }
}
