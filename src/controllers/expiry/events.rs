//! Events are kept for an hour after they last happened.
//!
//! **Source** of the hour: `--event-ttl` of `kube-apiserver`, v1.37.

use super::Expiry;
use crate::{
    api::{kinds::event::Events, meta::ObjectKey},
    controllers::runtime::erased,
    store::Entry,
};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, Time};
use serde::Deserialize;
use std::time::Duration;

/// How long an event is kept.
const KEPT: SignedDuration = SignedDuration::from_hours(1);

/// Events.
pub const EVENTS: Expiry = Expiry {
    name: "events-ttl",
    kind: erased::<Events>,
    if_old,
    because: "it is an hour old",
    look_every: Duration::from_mins(5),
};

/// What of an event says when it last happened.
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
}

fn if_old(entry: &Entry, now: Timestamp) -> Option<(ObjectKey, String)> {
    let times: Times = serde_json::from_slice(&entry.value).expect("stored events decode as events");
    let is_old = times.last().is_some_and(|last| now.duration_since(last) > KEPT);
    is_old.then(|| (ObjectKey::of(&times.metadata), times.metadata.uid.unwrap_or_default()))
}
