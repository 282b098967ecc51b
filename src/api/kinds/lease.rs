//! `Lease`, coordination.k8s.io/v1.
//!
//! **Source**: `pkg/apis/coordination/validation/validation.go`, v1.37.

use super::{
    check::{self, Errors},
    part,
};
use crate::api::{
    field::FieldError,
    kind::{ALL_VERBS, Kind, KindInfo, Scope},
    table::{self, Column},
};
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use serde_json::{Value, json};

/// The kind `Lease`.
#[derive(Debug)]
pub struct Leases;

impl Kind for Leases {
    type Object = Lease;
    const INFO: KindInfo<'static> = KindInfo {
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
        columns: &[Column::name(), Column::text("Holder", "Who holds it."), Column::age()],
        stored_as: None,
        schema: "io.k8s.api.coordination.v1.Lease",
    };

    fn set_defaults(obj: &mut Lease) {
        obj.spec.get_or_insert_default();
    }

    fn validate(obj: &Lease) -> Errors {
        let mut errs = Errors::new();
        let spec = part(&obj.spec);
        if let Some(seconds) = spec.lease_duration_seconds.filter(|s| *s <= 0) {
            errs.push(FieldError::invalid("spec.leaseDurationSeconds", seconds, "must be greater than 0"));
        }
        check::non_negative(&mut errs, "spec.leaseTransitions", spec.lease_transitions);
        let strategy = spec.strategy.as_deref().unwrap_or_default();
        if strategy.contains('/') {
            check::qualified_name(&mut errs, "spec.strategy.strategy", strategy);
        } else if spec.strategy.is_some() && strategy != "OldestEmulationVersion" {
            let at = "spec.strategy.strategy";
            errs.push(FieldError::not_supported(at, strategy, &["OldestEmulationVersion"]));
        }
        if spec.preferred_holder.as_ref().is_some_and(|h| !h.is_empty()) && strategy.is_empty() {
            let why = "may only be specified if `strategy` is defined";
            errs.push(FieldError::forbidden("spec.preferredHolder", why));
        }
        errs
    }

    fn creates_on_update() -> bool {
        true
    }

    fn row(obj: &Lease, now: Timestamp) -> Vec<Value> {
        let holder = obj.spec.as_ref().and_then(|s| s.holder_identity.as_deref()).unwrap_or_default();
        vec![table::name(&obj.metadata), json!(holder), table::age(&obj.metadata, now)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::kinds::testing::{causes, row};
    use expect_test::expect;

    #[test]
    fn what_is_wrong_is_named() {
        let wrong = "spec: {leaseDurationSeconds: 0, leaseTransitions: -1, strategy: Mine, preferredHolder: me}";
        expect![[r#"
            spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0
            spec.leaseTransitions: Invalid value: -1: must be greater than or equal to 0
            spec.strategy.strategy: Unsupported value: "Mine": supported values: "OldestEmulationVersion"
        "#]]
        .assert_eq(&causes::<Leases>(wrong));
        expect![[r#"
            spec.preferredHolder: Forbidden: may only be specified if `strategy` is defined
        "#]]
        .assert_eq(&causes::<Leases>("spec: {preferredHolder: me}"));
        assert_eq!(causes::<Leases>("spec: {leaseDurationSeconds: 40}"), "");
    }

    #[test]
    fn a_row_reads_as_in_kubernetes() {
        assert_eq!(row::<Leases>("metadata: {name: l}\nspec: {holderIdentity: me}"), "l | me | <unknown>");
    }
}
