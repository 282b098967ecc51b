//! `Namespace`, core/v1.

use crate::api::{
    kind::{Kind, KindInfo, STATUS, Scope, Subresource},
    table::{self, Column},
};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Namespace;
use serde_json::Value;

/// The kind `Namespace`.
#[derive(Debug)]
pub struct Namespaces;

/// The `finalize` sub-resource: how the namespace controller takes its finalizer off.
const FINALIZE: Subresource = Subresource { name: "finalize", body: None, verbs: &["update"] };

impl Kind for Namespaces {
    type Object = Namespace;
    const INFO: KindInfo = KindInfo {
        group: "",
        version: "v1",
        kind: "Namespace",
        plural: "namespaces",
        singular: "namespace",
        short_names: &["ns"],
        categories: &[],
        scope: Scope::Cluster,
        verbs: &["create", "delete", "get", "list", "patch", "update", "watch"],
        subresources: &[STATUS, FINALIZE],
        columns: &[Column::name(), Column::age()],
        stored_as: None,
        schema: "io.k8s.api.core.v1.Namespace",
    };

    fn row(obj: &Namespace, now: Timestamp) -> Vec<Value> {
        vec![table::name(&obj.metadata), table::age(&obj.metadata, now)]
    }
}
