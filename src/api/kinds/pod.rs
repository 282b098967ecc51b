//! `Pod`, core/v1.

use crate::api::{
    kind::{ALL_VERBS, Kind, KindInfo, STATUS, Scope},
    table::{self, Column},
};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use serde_json::Value;

/// The kind `Pod`.
#[derive(Debug)]
pub struct Pods;

impl Kind for Pods {
    type Object = Pod;
    const INFO: KindInfo = KindInfo {
        group: "",
        version: "v1",
        kind: "Pod",
        plural: "pods",
        singular: "pod",
        short_names: &["po"],
        categories: &["all"],
        scope: Scope::Namespaced,
        verbs: ALL_VERBS,
        subresources: &[STATUS],
        columns: &[Column::name(), Column::age()],
        stored_as: None,
        schema: "io.k8s.api.core.v1.Pod",
    };

    fn row(obj: &Pod, now: Timestamp) -> Vec<Value> {
        vec![table::name(&obj.metadata), table::age(&obj.metadata, now)]
    }
}
