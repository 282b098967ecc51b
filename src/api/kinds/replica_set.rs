//! `ReplicaSet`, apps/v1.

use crate::api::{
    kind::{ALL_VERBS, Kind, KindInfo, SCALE, STATUS, Scope},
    table::{self, Column},
};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::ReplicaSet;
use serde_json::Value;

/// The kind `ReplicaSet`.
#[derive(Debug)]
pub struct ReplicaSets;

impl Kind for ReplicaSets {
    type Object = ReplicaSet;
    const INFO: KindInfo = KindInfo {
        group: "apps",
        version: "v1",
        kind: "ReplicaSet",
        plural: "replicasets",
        singular: "replicaset",
        short_names: &["rs"],
        categories: &["all"],
        scope: Scope::Namespaced,
        verbs: ALL_VERBS,
        subresources: &[SCALE, STATUS],
        columns: &[Column::name(), Column::age()],
        stored_as: None,
        schema: "io.k8s.api.apps.v1.ReplicaSet",
    };

    fn row(obj: &ReplicaSet, now: Timestamp) -> Vec<Value> {
        vec![table::name(&obj.metadata), table::age(&obj.metadata, now)]
    }
}
