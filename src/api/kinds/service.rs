//! `Service`, core/v1.

use crate::api::{
    kind::{ALL_VERBS, Kind, KindInfo, STATUS, Scope},
    table::{self, Column},
};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Service;
use serde_json::Value;

/// The kind `Service`.
#[derive(Debug)]
pub struct Services;

impl Kind for Services {
    type Object = Service;
    const INFO: KindInfo = KindInfo {
        group: "",
        version: "v1",
        kind: "Service",
        plural: "services",
        singular: "service",
        short_names: &["svc"],
        categories: &["all"],
        scope: Scope::Namespaced,
        verbs: ALL_VERBS,
        subresources: &[STATUS],
        columns: &[Column::name(), Column::age()],
        stored_as: None,
        schema: "io.k8s.api.core.v1.Service",
    };

    fn row(obj: &Service, now: Timestamp) -> Vec<Value> {
        vec![table::name(&obj.metadata), table::age(&obj.metadata, now)]
    }
}
