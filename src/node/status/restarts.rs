//! The last restart of each container of a pod, by the engine's own clock: when it was killed, when it ended, when its successor was
//! created and started. A status has whole seconds, and what heals within one would have no length.
//!
//! Written with the status, into the annotation [`RESTARTS`](crate::api::agreements::RESTARTS). Pure.

use super::super::observe::{ObservedContainer, ObservedPod};
use crate::base::ordered::CollectOrdered as _;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

/// The restarts that users see, as JSON by container; `None` when nothing has restarted yet.
pub fn restarts(observed: &ObservedPod) -> Option<String> {
    let names = observed.all().filter(|c| !c.identity.is_sandbox()).map(|c| c.identity.container.as_str());
    let told: Map<String, Value> = names
        .filter_map(|name| Some((name.to_owned(), restart(observed.shown(name)?, observed.previous(name)?)?)))
        .collect_ordered();
    (!told.is_empty()).then(|| Value::Object(told).to_string())
}

/// How one run followed another; `None` while it is not known.
fn restart(now: &ObservedContainer, before: &ObservedContainer) -> Option<Value> {
    let (exit, started) = (before.exit()?, now.started_at?);
    let mut told = json!({ "restart": now.restarts, "ended": instant(exit.at), "started": instant(started) });
    // The engine tells of a signal before it tells of the end that the signal made.
    if let Some(killed) = before.killed_at().filter(|at| *at <= exit.at) {
        told["killed"] = json!(instant(killed));
    }
    // Started again by the engine itself, it is the same container.
    if now.created_at >= exit.at {
        told["created"] = json!(instant(now.created_at));
    }
    Some(told)
}

fn instant(at: Timestamp) -> String {
    format!("{at:.3}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        engine::EventKind,
        node::identity::{Identity, PodId},
    };

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_millisecond(1_800_000_000_000 + ms).unwrap()
    }

    fn container(name: &str, attempt: u32, created_ms: i64) -> ObservedContainer {
        let pod = PodId { namespace: "default".into(), name: "web".into(), uid: "u".into() };
        let (hash, volumes) = (String::new(), String::new());
        let identity = Identity { pod, container: name.into(), attempt, sandbox: 0, failures: 0, hash, volumes };
        ObservedContainer::created(identity, format!("{name}{attempt}"), at(created_ms))
    }

    #[test]
    fn a_restart_is_told_once_its_successor_runs() {
        let mut pod = ObservedPod::default();
        pod.note_created(container("app", 0, 0));
        pod.note_started("app0", at(5));
        assert_eq!(restarts(&pod), None);
        pod.apply("app0", EventKind::Killed(9), at(1_000));
        pod.apply("app0", EventKind::Died(137), at(1_012));
        pod.note_created(container("app", 1, 1_090));
        assert_eq!(restarts(&pod), None, "nobody knows yet when it starts");
        pod.note_started("app1", at(1_204));
        let told: Value = serde_json::from_str(&restarts(&pod).unwrap()).unwrap();
        let want = json!({ "app": {
            "restart": 1,
            "killed": "2027-01-15T08:00:01.000Z",
            "ended": "2027-01-15T08:00:01.012Z",
            "created": "2027-01-15T08:00:01.090Z",
            "started": "2027-01-15T08:00:01.204Z",
        }});
        assert_eq!(told, want);
    }

    #[test]
    fn a_crash_has_no_killer() {
        let mut pod = ObservedPod::default();
        pod.note_created(container("app", 0, 0));
        pod.note_started("app0", at(5));
        pod.apply("app0", EventKind::Died(1), at(700));
        pod.note_created(container("app", 1, 750));
        pod.note_started("app1", at(800));
        assert!(!restarts(&pod).unwrap().contains("killed"));
    }
}
