//! `ReplicationController`, core/v1.

use crate::api::{
    kind::{ALL_VERBS, Kind, KindInfo, SCALE, STATUS, Scope},
    table::{self, Column},
};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ReplicationController;
use serde_json::Value;

/// The kind `ReplicationController`.
#[derive(Debug)]
pub struct ReplicationControllers;

impl Kind for ReplicationControllers {
    type Object = ReplicationController;
    const INFO: KindInfo = KindInfo {
        group: "",
        version: "v1",
        kind: "ReplicationController",
        plural: "replicationcontrollers",
        singular: "replicationcontroller",
        short_names: &["rc"],
        categories: &["all"],
        scope: Scope::Namespaced,
        verbs: ALL_VERBS,
        subresources: &[SCALE, STATUS],
        columns: &[Column::name(), Column::age()],
        stored_as: None,
        schema: "io.k8s.api.core.v1.ReplicationController",
    };

    fn row(obj: &ReplicationController, now: Timestamp) -> Vec<Value> {
        vec![table::name(&obj.metadata), table::age(&obj.metadata, now)]
    }
}
