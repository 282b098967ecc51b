//! `PodTimeline`, skiff.dev/v1: when the containers of a pod ended and started, to the millisecond, and what came between.
//!
//! Made by the node agent, which keeps the last starts of a pod in memory; served as `pods/NAME/timeline`; read by the command line.

use super::traffic::EndpointTraffic;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

/// The API group and version.
pub const API_VERSION: &str = "skiff.dev/v1";

/// The starts of a pod's containers, the latest last.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Timeline {
    /// [`API_VERSION`].
    pub api_version: String,
    /// `PodTimeline`.
    pub kind: String,
    /// The pod's name and UID.
    pub metadata: Whose,
    /// The starts that are remembered.
    pub starts: Vec<Start>,
}

/// Which pod it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Whose {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
}

/// A start of a container, and the end before it. Times are RFC 3339 with milliseconds; amounts of time are in milliseconds since the
/// container ended, or since it was created where it is its first start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Start {
    /// The container.
    pub container: String,
    /// How often it had started before.
    pub restart: u32,
    /// Why it ended before: `Killed`, `Exited`, `OOMKilled`, `LivenessProbe`, `StartupProbe`, `PostStartHook`, `EngineRestart`,
    /// `SandboxGone`, `Changed`, `Resized` or `Superseded`. None at a first start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// With which code it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// When it ended, by the engine's clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended: Option<String>,
    /// When skiff knew.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub noticed: Option<String>,
    /// When the container that follows it was created, by the engine's clock; none where the engine itself started the same again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// When it started, by the engine's clock.
    pub started: String,
    /// When it was ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready: Option<String>,
    /// From the end to its notice.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub noticed_after_ms: Option<i64>,
    /// From the end to the creation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_after_ms: Option<i64>,
    /// From the end, or the creation, to the start.
    pub started_after_ms: i64,
    /// From the end, or the creation, until it was ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready_after_ms: Option<i64>,
    /// When a client of a Service first had a reply from the pod, after its latest start; the data plane says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub served: Option<String>,
    /// From the end, or the creation, until then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub served_after_ms: Option<i64>,
    /// Whether it ran already when skiff started: then skiff does not know when its end before was noticed, and when it was ready.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub adopted: bool,
    /// How many connections and requests clients of Services lost with the end before it, by the data plane, which remembers that for ten
    /// minutes; none where it does not answer, and at a first start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lost: Option<u64>,
}

/// How much earlier than the engine's own word for the end of a container clients may have lost it: the clocks and the order are not one.
const LOST_BEFORE: SignedDuration = SignedDuration::from_millis(500);

impl Timeline {
    /// Notes when clients first had a reply from the pod, by what the data plane tells of its endpoints. Only its latest start can be
    /// meant: an endpoint counts anew when it comes back.
    pub fn note_served(&mut self, endpoints: &[EndpointTraffic]) {
        let Some(latest) = self.starts.iter_mut().max_by_key(|start| instant(&start.started)) else { return };
        let Some(started) = instant(&latest.started) else { return };
        let replies = endpoints.iter().filter(|endpoint| endpoint.pod_uid == self.metadata.uid);
        let Some(at) = replies.filter_map(|endpoint| endpoint.first_reply).filter(|at| *at >= started).min() else {
            return;
        };
        // What is counted from is as long before the start as the start says.
        let since_started = at.duration_since(started).as_millis();
        latest.served_after_ms = Some(latest.started_after_ms + i64::try_from(since_started).unwrap_or(i64::MAX));
        latest.served = Some(at.strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string());
    }

    /// Notes how many connections clients lost with each end, by what the data plane tells of the pod's endpoints: an endpoint is one life
    /// in the rotation, so what it lost came with the end of that life.
    pub fn note_lost(&mut self, endpoints: &[EndpointTraffic]) {
        let ends: Vec<Option<Timestamp>> = self.starts.iter().map(|start| instant(start.ended.as_deref()?)).collect();
        for (start, _) in self.starts.iter_mut().zip(&ends).filter(|(_, end)| end.is_some()) {
            start.lost = Some(0);
        }
        for endpoint in endpoints.iter().filter(|endpoint| endpoint.pod_uid == self.metadata.uid) {
            let Some(at) = endpoint.last_lost else { continue };
            let is_before = |end: &Timestamp| end.duration_since(at) <= LOST_BEFORE;
            let latest = (0..ends.len()).filter(|n| ends[*n].as_ref().is_some_and(is_before)).max_by_key(|n| ends[*n]);
            if let Some(start) = latest.and_then(|n| self.starts.get_mut(n)) {
                start.lost = start.lost.map(|lost| lost.saturating_add(endpoint.lost));
            }
        }
    }
}

fn instant(text: &str) -> Option<Timestamp> {
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timeline(starts: &[(&str, i64)]) -> Timeline {
        let start = |(started, after): &(&str, i64)| Start {
            started: (*started).to_owned(),
            started_after_ms: *after,
            ..Start::default()
        };
        let metadata = Whose { uid: "u".into(), ..Whose::default() };
        Timeline { metadata, starts: starts.iter().map(start).collect(), ..Timeline::default() }
    }

    fn replied(uid: &str, at: &str) -> EndpointTraffic {
        EndpointTraffic { pod_uid: uid.into(), first_reply: Some(at.parse().unwrap()), ..EndpointTraffic::default() }
    }

    #[test]
    fn what_clients_lost_belongs_to_the_end_that_it_came_with() {
        let began =
            [("2026-01-01T00:00:00.100Z", 100), ("2026-01-01T00:01:00.210Z", 210), ("2026-01-01T00:02:00.2Z", 200)];
        let mut it = timeline(&began);
        it.starts[1].ended = Some("2026-01-01T00:01:00.000Z".into());
        it.starts[2].ended = Some("2026-01-01T00:02:00.000Z".into());
        let lost = |uid: &str, at: &str, lost| EndpointTraffic {
            pod_uid: uid.into(),
            last_lost: Some(at.parse().unwrap()),
            lost,
            ..EndpointTraffic::default()
        };
        it.note_lost(&[
            lost("other", "2026-01-01T00:01:00.001Z", 9),
            lost("u", "2026-01-01T00:00:59.998Z", 3),
            // The same end, behind another port.
            lost("u", "2026-01-01T00:01:00.004Z", 1),
        ]);
        assert_eq!(it.starts.iter().map(|start| start.lost).collect::<Vec<_>>(), [None, Some(4), Some(0)]);
    }

    #[test]
    fn the_first_reply_belongs_to_the_latest_start_before_it() {
        let mut it = timeline(&[("2026-01-01T00:00:00.100Z", 100), ("2026-01-01T00:01:00.210Z", 210)]);
        it.note_served(&[
            replied("other", "2026-01-01T00:01:00.220Z"),
            // Of the container before, by an endpoint that is still leaving.
            replied("u", "2026-01-01T00:00:01Z"),
            replied("u", "2026-01-01T00:01:00.300Z"),
            replied("u", "2026-01-01T00:01:00.250Z"),
        ]);
        assert_eq!(it.starts[0].served, None);
        assert_eq!(it.starts[1].served.as_deref(), Some("2026-01-01T00:01:00.250Z"));
        assert_eq!(it.starts[1].served_after_ms, Some(250));
        let mut none = timeline(&[]);
        none.note_served(&[replied("u", "2026-01-01T00:01:00.300Z")]);
        assert!(none.starts.is_empty());
    }
}
