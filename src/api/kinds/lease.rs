//! `Lease`, coordination.k8s.io/v1.

use crate::api::{
    kind::{ALL_VERBS, Kind, KindInfo, Scope},
    table::{self, Column},
};
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use serde_json::Value;

/// The kind `Lease`.
#[derive(Debug)]
pub struct Leases;

impl Kind for Leases {
    type Object = Lease;
    const INFO: KindInfo = KindInfo {
        group: "coordination.k8s.io",
        version: "v1",
        kind: "Lease",
        plural: "leases",
        singular: "lease",
        short_names: &[],
        categories: &[],
        scope: Scope::Namespaced,
        verbs: ALL_VERBS,
        subresources: &[],
        columns: &[Column::name(), Column::age()],
        stored_as: None,
        schema: "io.k8s.api.coordination.v1.Lease",
    };

    fn row(obj: &Lease, now: Timestamp) -> Vec<Value> {
        vec![table::name(&obj.metadata), table::age(&obj.metadata, now)]
    }
}
