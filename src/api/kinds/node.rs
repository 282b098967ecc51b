//! `Node`, core/v1.

use crate::api::{
    kind::{ALL_VERBS, Kind, KindInfo, STATUS, Scope},
    table::{self, Column},
};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use serde_json::Value;

/// The kind `Node`.
#[derive(Debug)]
pub struct Nodes;

impl Kind for Nodes {
    type Object = Node;
    const INFO: KindInfo = KindInfo {
        group: "",
        version: "v1",
        kind: "Node",
        plural: "nodes",
        singular: "node",
        short_names: &["no"],
        categories: &[],
        scope: Scope::Cluster,
        verbs: ALL_VERBS,
        subresources: &[STATUS],
        columns: &[Column::name(), Column::age()],
        stored_as: None,
        schema: "io.k8s.api.core.v1.Node",
    };

    fn row(obj: &Node, now: Timestamp) -> Vec<Value> {
        vec![table::name(&obj.metadata), table::age(&obj.metadata, now)]
    }
}
