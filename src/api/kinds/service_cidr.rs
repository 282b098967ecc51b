//! `ServiceCIDR`, networking.k8s.io/v1.
//!
//! **Source**: `pkg/apis/networking/validation/validation.go`, v1.37.

use super::json::{self, Errors};
use crate::api::{
    field::FieldError,
    json_kind::{JsonKind, Rules},
    kind::{KindInfo, STATUS, Scope},
    object::Untyped,
    table::{self, Column, NONE},
};
use jiff::Timestamp;
use serde_json::Value;

/// The range that every cluster has.
pub const DEFAULT_NAME: &str = "kubernetes";
const CIDRS: &str = "spec.cidrs";
const CIDRS_MAX: usize = 2;

/// The kind `ServiceCIDR`.
pub static SERVICE_CIDRS: JsonKind = JsonKind::new(
    KindInfo {
        columns: &[Column::name(), Column::text("CIDRs", "The ranges."), Column::age()],
        subresources: &[STATUS],
        ..KindInfo::of(
            ("networking.k8s.io", "v1", "ServiceCIDR"),
            ("servicecidrs", "servicecidr"),
            Scope::Cluster,
            "io.k8s.api.networking.v1.ServiceCIDR",
        )
    },
    Rules {
        validate,
        validate_update: |new, old| json::immutable(&new.rest, &old.rest, CIDRS, "field is immutable"),
        warnings: |obj| {
            let is_default = obj.metadata.name.as_deref() == Some(DEFAULT_NAME);
            let why = "skiff gives Services addresses of its own range alone (ServiceCIDR kubernetes): this range is stored, and none is taken from it";
            if is_default { Vec::new() } else { vec![why.to_owned()] }
        },
        row,
        ..Rules::PLAIN
    },
);

fn validate(obj: &Untyped) -> Errors {
    let mut errs = Errors::new();
    let cidrs: Vec<&str> = json::texts(&obj.rest, CIDRS).collect();
    if cidrs.is_empty() {
        errs.push(FieldError::required(CIDRS, "at least one CIDR required"));
    }
    if cidrs.len() > CIDRS_MAX {
        errs.push(FieldError::invalid(CIDRS, &cidrs, "may only hold up to 2 values"));
        return errs;
    }
    for (i, text) in cidrs.iter().enumerate() {
        json::cidr(&mut errs, &format!("{CIDRS}[{i}]"), text);
    }
    if let [one, other] = cidrs[..]
        && one.contains(':') == other.contains(':')
    {
        errs.push(FieldError::invalid(
            CIDRS,
            &cidrs,
            "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/96",
        ));
    }
    errs
}

fn row(obj: &Untyped, now: Timestamp) -> Vec<Value> {
    let cidrs: Vec<&str> = json::texts(&obj.rest, CIDRS).collect();
    vec![table::name(&obj.metadata), table::or(&cidrs.join(","), NONE), table::age(&obj.metadata, now)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::kinds::testing::json::{causes, row, update_causes};
    use expect_test::expect;

    #[test]
    fn what_is_wrong_is_named() {
        assert_eq!(causes(&SERVICE_CIDRS, "spec: {}"), "spec.cidrs: Required value: at least one CIDR required\n");
        expect![[r#"
            spec.cidrs[0]: Invalid value: "x": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)
            spec.cidrs: Invalid value: ["x","10.0.0.0/8"]: may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/96
        "#]]
        .assert_eq(&causes(&SERVICE_CIDRS, "spec: {cidrs: [x, 10.0.0.0/8]}"));
        assert_eq!(causes(&SERVICE_CIDRS, "spec: {cidrs: [10.0.0.0/8, 'fd00::/112']}"), "");
        let changed = update_causes(&SERVICE_CIDRS, "spec: {cidrs: [10.0.0.0/8]}", "spec: {cidrs: [10.0.0.0/9]}");
        assert_eq!(changed, "spec.cidrs: Invalid value: [\"10.0.0.0/9\"]: field is immutable\n");
    }

    #[test]
    fn a_row_reads_as_in_kubernetes() {
        let range = "metadata: {name: kubernetes}\nspec: {cidrs: [10.245.0.0/16, 'fd00::/112']}";
        assert_eq!(row(&SERVICE_CIDRS, range), "kubernetes | 10.245.0.0/16,fd00::/112 | <unknown>");
    }
}
