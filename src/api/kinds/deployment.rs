//! `Deployment`, apps/v1.

use crate::api::{
    kind::{ALL_VERBS, Kind, KindInfo, SCALE, STATUS, Scope},
    table::{self, Column},
};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use serde_json::Value;

/// The kind `Deployment`.
#[derive(Debug)]
pub struct Deployments;

impl Kind for Deployments {
    type Object = Deployment;
    const INFO: KindInfo = KindInfo {
        group: "apps",
        version: "v1",
        kind: "Deployment",
        plural: "deployments",
        singular: "deployment",
        short_names: &["deploy"],
        categories: &["all"],
        scope: Scope::Namespaced,
        verbs: ALL_VERBS,
        subresources: &[SCALE, STATUS],
        columns: &[Column::name(), Column::age()],
        stored_as: None,
        schema: "io.k8s.api.apps.v1.Deployment",
    };

    fn row(obj: &Deployment, now: Timestamp) -> Vec<Value> {
        vec![table::name(&obj.metadata), table::age(&obj.metadata, now)]
    }
}
