//! Every state that some objects went through, in order, as kubectl's watch tells them.
//!
//! Looking now and then would miss a state that lasts for milliseconds; a watch misses none, so a bound that holds in its every state
//! held all the time.

use super::{cluster::Cluster, wait::eventually};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader},
    process::{Child, Stdio},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// The objects of one moment, by name.
pub type State = BTreeMap<String, Value>;

/// A watch that is being kept.
pub struct History {
    child: Child,
    states: Arc<Mutex<Vec<State>>>,
}

impl History {
    /// Follows what `kubectl get` would show for these arguments; what is there already is the first states. Whatever happens after this
    /// is in it: kubectl has listed, and asks for what changed since.
    pub fn of(cluster: &Cluster, what: &[&str]) -> Self {
        let args = [&["get"], what, &["--watch", "--output-watch-events", "-o", "json", "-v=6"]].concat();
        let mut command = cluster.kubectl_command(&args);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut said = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
        assert!(said.any(|line| line.contains("watch=true")), "kubectl ended before it watched {what:?}");
        std::thread::spawn(move || said.for_each(drop));
        let events = serde_json::Deserializer::from_reader(child.stdout.take().unwrap()).into_iter::<Value>();
        let states = Arc::new(Mutex::new(vec![State::new()]));
        let seen = Arc::clone(&states);
        std::thread::spawn(move || {
            for mut event in events.map_while(Result::ok) {
                let object = event["object"].take();
                let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
                let mut states = seen.lock().unwrap_or_else(PoisonError::into_inner);
                let mut state = states.last().cloned().unwrap_or_default();
                if event["type"] == "DELETED" {
                    state.remove(&name);
                } else {
                    state.insert(name, object);
                }
                states.push(state);
            }
        });
        Self { child, states }
    }

    /// All states so far.
    pub fn states(&self) -> Vec<State> {
        self.states.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until the newest state is as wanted.
    #[track_caller]
    pub fn until(&self, what: &str, limit: Duration, holds: impl Fn(&State) -> bool) -> State {
        eventually(what, limit, || {
            let states = self.states.lock().unwrap_or_else(PoisonError::into_inner);
            let now = states.last().cloned().unwrap_or_default();
            if holds(&now) { Ok(now) } else { Err(now.into_keys().collect::<Vec<_>>()) }
        })
    }
}

impl Drop for History {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Whether a pod is there and not on its way out.
pub fn is_active(pod: &Value) -> bool {
    let is_over = matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
    pod["metadata"]["deletionTimestamp"].is_null() && !is_over
}

/// Whether a pod is ready.
pub fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array();
    conditions.into_iter().flatten().any(|c| c["type"] == "Ready" && c["status"] == "True")
}

/// How many pods of a state are active, and how many of these are ready.
pub fn active_and_ready(state: &State) -> (usize, usize) {
    let active = || state.values().filter(|pod| is_active(pod));
    (active().count(), active().filter(|pod| is_ready(pod)).count())
}
