//! `CustomResourceDefinition`, apiextensions.k8s.io/v1: there are none, and none can be made yet.
//!
//! kubectl lists them to tell a kind that nobody serves from one that is being made, Helm and others to see what a cluster knows.
//!
//! **Source** of the columns: `pkg/registry/customresourcedefinition/tableconvertor.go` of apiextensions-apiserver, v1.37.

use crate::api::{
    kind::{Kind, KindInfo, Scope},
    object::Untyped,
    table::{self, Column, UNKNOWN},
};
use jiff::Timestamp;
use serde_json::{Value, json};

/// The kind `CustomResourceDefinition`.
#[derive(Debug)]
pub struct CustomResourceDefinitions;

impl Kind for CustomResourceDefinitions {
    type Object = Untyped;
    const INFO: KindInfo<'static> = KindInfo {
        group: "apiextensions.k8s.io",
        version: "v1",
        kind: "CustomResourceDefinition",
        plural: "customresourcedefinitions",
        singular: "customresourcedefinition",
        short_names: &["crd", "crds"],
        categories: &["api-extensions"],
        scope: Scope::Cluster,
        verbs: &["get", "list", "watch"],
        subresources: &[],
        columns: &[Column::name(), Column { kind: "date", ..Column::text("Created At", "When it was made.") }],
        stored_as: None,
        schema: "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinition",
    };

    fn row(obj: &Untyped, _now: Timestamp) -> Vec<Value> {
        let created = obj.metadata.creation_timestamp.as_ref();
        vec![table::name(&obj.metadata), created.map_or_else(|| json!(UNKNOWN), |time| json!(time))]
    }
}
