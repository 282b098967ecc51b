//! `Endpoints`, core/v1.

use crate::api::{
    kind::{ALL_VERBS, Kind, KindInfo, Scope},
    table::{self, Column},
};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Endpoints;
use serde_json::Value;

/// The kind `Endpoints`.
#[derive(Debug)]
pub struct EndpointsKind;

impl Kind for EndpointsKind {
    type Object = Endpoints;
    const INFO: KindInfo = KindInfo {
        group: "",
        version: "v1",
        kind: "Endpoints",
        plural: "endpoints",
        singular: "endpoints",
        short_names: &["ep"],
        categories: &[],
        scope: Scope::Namespaced,
        verbs: ALL_VERBS,
        subresources: &[],
        columns: &[Column::name(), Column::age()],
        stored_as: None,
        schema: "io.k8s.api.core.v1.Endpoints",
    };

    fn row(obj: &Endpoints, now: Timestamp) -> Vec<Value> {
        vec![table::name(&obj.metadata), table::age(&obj.metadata, now)]
    }
}
