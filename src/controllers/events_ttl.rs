//! Events are kept for an hour after they last happened, and then deleted, some at a time.
//!
//! **Source** of the hour: `--event-ttl` of `kube-apiserver`, v1.37.

use super::runtime::{Action, Controller, Decision, Step, Trigger, erased};
use crate::{
    api::{kinds::event::Events, meta::ObjectKey},
    registry::{
        Registry,
        pipeline::{DeleteOptions, Selection},
    },
    store::Entry,
};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, Time};
use serde::Deserialize;
use std::time::Duration;

/// How long an event is kept.
const KEPT: SignedDuration = SignedDuration::from_hours(1);
/// How often it is looked for old ones.
const LOOK_EVERY: Duration = Duration::from_mins(5);
/// How many are deleted at once.
const BATCH_MAX: usize = 100;

/// The events that are old enough to go, and whether there are more.
#[derive(Clone, Debug)]
pub struct Observed {
    old: Vec<(ObjectKey, String)>,
    has_more: bool,
}

/// The controller.
#[derive(Clone, Copy, Debug)]
pub struct EventsTtl;

/// What of an event says when it last happened. It is read from the stored bytes, so that no decoded event stays in memory.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Times {
    metadata: ObjectMeta,
    last_timestamp: Option<Time>,
    event_time: Option<MicroTime>,
    series: Option<Series>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Series {
    last_observed_time: Option<MicroTime>,
}

impl Times {
    fn read(entry: &Entry) -> Self {
        serde_json::from_slice(&entry.value).expect("stored events decode as events")
    }

    fn last(&self) -> Option<Timestamp> {
        let series = self.series.as_ref().and_then(|s| s.last_observed_time.as_ref()).map(|t| t.0);
        let times = [
            series,
            self.last_timestamp.as_ref().map(|t| t.0),
            self.event_time.as_ref().map(|t| t.0),
            self.metadata.creation_timestamp.as_ref().map(|t| t.0),
        ];
        times.into_iter().flatten().max()
    }

    fn is_old(&self, now: Timestamp) -> bool {
        self.last().is_some_and(|last| now.duration_since(last) > KEPT)
    }
}

impl Controller for EventsTtl {
    type Key = ();
    type Observed = Observed;

    fn name(&self) -> &'static str {
        "events-ttl"
    }

    fn triggers(&self) -> Vec<Trigger<()>> {
        Vec::new()
    }

    fn first_keys(&self) -> Vec<()> {
        vec![()]
    }

    fn observe(&self, registry: &Registry, (): &()) -> Option<Observed> {
        let now = registry.clock().now();
        let all = registry.snapshot(&*erased::<Events>(), "", &Selection::default()).entries;
        let mut old = all.iter().map(|entry| Times::read(entry)).filter(|times| times.is_old(now));
        let batch = old.by_ref().take(BATCH_MAX);
        let batch = batch.map(|t| (ObjectKey::of(&t.metadata), t.metadata.uid.unwrap_or_default())).collect();
        Some(Observed { old: batch, has_more: old.next().is_some() })
    }

    fn decide(&self, observed: &Observed) -> Decision {
        let delete = |(key, uid): &(ObjectKey, String)| {
            let options = DeleteOptions { uid: Some(uid.clone()), ..DeleteOptions::default() };
            Action::Delete { kind: erased::<Events>(), key: key.clone(), options }.because("it is an hour old")
        };
        let mut decision = Decision::default();
        if !observed.old.is_empty() {
            decision.then(Step::Parallel(observed.old.iter().map(delete).collect()));
        }
        decision.look_again_after(if observed.has_more { Duration::ZERO } else { LOOK_EVERY });
        decision
    }
}
