//! `Secret`, core/v1.

use crate::api::{
    kind::{ALL_VERBS, Kind, KindInfo, Scope},
    table::{self, Column},
};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use serde_json::Value;

/// The kind `Secret`.
#[derive(Debug)]
pub struct Secrets;

impl Kind for Secrets {
    type Object = Secret;
    const INFO: KindInfo = KindInfo {
        group: "",
        version: "v1",
        kind: "Secret",
        plural: "secrets",
        singular: "secret",
        short_names: &[],
        categories: &[],
        scope: Scope::Namespaced,
        verbs: ALL_VERBS,
        subresources: &[],
        columns: &[Column::name(), Column::age()],
        stored_as: None,
        schema: "io.k8s.api.core.v1.Secret",
    };

    fn row(obj: &Secret, now: Timestamp) -> Vec<Value> {
        vec![table::name(&obj.metadata), table::age(&obj.metadata, now)]
    }
}
