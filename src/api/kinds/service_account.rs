//! `ServiceAccount`, core/v1.

use crate::api::{
    kind::{ALL_VERBS, Kind, KindInfo, Scope},
    table::{self, Column},
};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ServiceAccount;
use serde_json::Value;

/// The kind `ServiceAccount`.
#[derive(Debug)]
pub struct ServiceAccounts;

impl Kind for ServiceAccounts {
    type Object = ServiceAccount;
    const INFO: KindInfo = KindInfo {
        group: "",
        version: "v1",
        kind: "ServiceAccount",
        plural: "serviceaccounts",
        singular: "serviceaccount",
        short_names: &["sa"],
        categories: &[],
        scope: Scope::Namespaced,
        verbs: ALL_VERBS,
        subresources: &[],
        columns: &[Column::name(), Column::age()],
        stored_as: None,
        schema: "io.k8s.api.core.v1.ServiceAccount",
    };

    fn row(obj: &ServiceAccount, now: Timestamp) -> Vec<Value> {
        vec![table::name(&obj.metadata), table::age(&obj.metadata, now)]
    }
}
