//! `Event`, events.k8s.io/v1.

use crate::api::{
    kind::{ALL_VERBS, Kind, KindInfo, Scope},
    table::{self, Column},
};
use jiff::Timestamp;
use k8s_openapi::api::events::v1::Event;
use serde_json::Value;

/// The kind `Event`.
#[derive(Debug)]
pub struct EventsV1;

impl Kind for EventsV1 {
    type Object = Event;
    const INFO: KindInfo = KindInfo {
        group: "events.k8s.io",
        version: "v1",
        kind: "Event",
        plural: "events",
        singular: "event",
        short_names: &["ev"],
        categories: &[],
        scope: Scope::Namespaced,
        verbs: ALL_VERBS,
        subresources: &[],
        columns: &[Column::name(), Column::age()],
        stored_as: Some(("", "events")),
        schema: "io.k8s.api.events.v1.Event",
    };

    fn row(obj: &Event, now: Timestamp) -> Vec<Value> {
        vec![table::name(&obj.metadata), table::age(&obj.metadata, now)]
    }
}
