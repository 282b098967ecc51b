//! `ServiceAccount`, core/v1.
//!
//! **Source**: `pkg/apis/core/validation/validation.go`, `pkg/registry/core/serviceaccount/strategy.go`, v1.37.

use crate::api::{
    kind::{ALL_VERBS, Kind, KindInfo, Scope, Subresource},
    table::{self, Column},
};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ObjectReference, ServiceAccount};
use serde_json::{Value, json};

const TOKEN: Subresource<'static> =
    Subresource::of("token", ("authentication.k8s.io", "v1", "TokenRequest"), &["create"]);

/// The kind `ServiceAccount`.
#[derive(Debug)]
pub struct ServiceAccounts;

impl Kind for ServiceAccounts {
    type Object = ServiceAccount;
    const INFO: KindInfo<'static> = KindInfo {
        group: "",
        version: "v1",
        kind: "ServiceAccount",
        plural: "serviceaccounts",
        singular: "serviceaccount",
        short_names: &["sa"],
        categories: &[],
        scope: Scope::Namespaced,
        verbs: ALL_VERBS,
        subresources: &[TOKEN],
        columns: &[Column::name(), Column::text("Secrets", "How many secrets it names."), Column::age()],
        stored_as: None,
        schema: "io.k8s.api.core.v1.ServiceAccount",
    };

    fn prepare_create(obj: &mut ServiceAccount) {
        keep_secret_names(obj);
    }

    fn prepare_update(new: &mut ServiceAccount, _old: &ServiceAccount) {
        keep_secret_names(new);
    }

    fn returns_deleted() -> bool {
        true
    }

    fn row(obj: &ServiceAccount, now: Timestamp) -> Vec<Value> {
        let n = obj.secrets.iter().flatten().count();
        vec![table::name(&obj.metadata), json!(n), table::age(&obj.metadata, now)]
    }
}

/// A reference to a secret is its name alone. Source: `cleanSecretReferences`.
fn keep_secret_names(obj: &mut ServiceAccount) {
    for secret in obj.secrets.iter_mut().flatten() {
        *secret = ObjectReference { name: secret.name.take(), ..ObjectReference::default() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::kinds::testing::{created, row};

    #[test]
    fn secrets_are_named_and_counted() {
        let account = "metadata: {name: a}\nsecrets: [{name: s, namespace: elsewhere}]";
        let secrets = created::<ServiceAccounts>(account).secrets.unwrap();
        assert_eq!(secrets, [ObjectReference { name: Some("s".into()), ..ObjectReference::default() }]);
        assert_eq!(row::<ServiceAccounts>(account), "a | 1 | <unknown>");
    }
}
