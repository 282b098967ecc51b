//! `ResourceClaim` and `ResourceClaimTemplate`, resource.k8s.io/v1. No claim is ever allocated, and a pod that names one is refused.
//!
//! **Source**: `pkg/apis/resource/validation/validation.go`, `pkg/apis/resource/v1/defaults.go`, `printResourceClaim` in
//! `pkg/printers/internalversion/printers.go`, v1.37.

use super::{
    device_rules as rules,
    json::{self, Errors},
};
use crate::api::{
    field::FieldError,
    json_kind::{JsonKind, Rules, at, text_at},
    kind::{KindInfo, STATUS, Scope},
    object::Untyped,
    table::{self, Column},
};
use serde_json::{Value, json};

const IMMUTABLE: &str = "field is immutable";
const RESERVED_MAX: usize = 256;

/// The kind `ResourceClaim`.
pub static RESOURCE_CLAIMS: JsonKind = JsonKind::new(
    KindInfo {
        columns: &[
            Column::name(),
            Column::text("State", "A summary of the current state (allocated, pending, reserved, etc.)."),
            Column::age(),
        ],
        subresources: &[STATUS],
        ..KindInfo::of(
            (rules::GROUP, "v1", "ResourceClaim"),
            ("resourceclaims", "resourceclaim"),
            Scope::Namespaced,
            "io.k8s.api.resource.v1.ResourceClaim",
        )
    },
    Rules {
        set_defaults: |obj| rules::set_claim_defaults(&mut obj.rest, "spec.devices"),
        validate: |obj| checked(obj, "spec.devices"),
        validate_update: |new, old| json::immutable(&new.rest, &old.rest, "spec", IMMUTABLE),
        validate_status,
        warnings: |_| rules::warnings(),
        row: |obj, now| vec![table::name(&obj.metadata), json!(state(obj)), table::age(&obj.metadata, now)],
        ..Rules::PLAIN
    },
);

/// The kind `ResourceClaimTemplate`.
pub static RESOURCE_CLAIM_TEMPLATES: JsonKind = JsonKind::new(
    KindInfo::of(
        (rules::GROUP, "v1", "ResourceClaimTemplate"),
        ("resourceclaimtemplates", "resourceclaimtemplate"),
        Scope::Namespaced,
        "io.k8s.api.resource.v1.ResourceClaimTemplate",
    ),
    Rules {
        set_defaults: |obj| rules::set_claim_defaults(&mut obj.rest, "spec.spec.devices"),
        validate: |obj| checked(obj, "spec.spec.devices"),
        validate_update: |new, old| json::immutable(&new.rest, &old.rest, "spec", IMMUTABLE),
        warnings: |_| rules::warnings(),
        ..Rules::PLAIN
    },
);

fn checked(obj: &Untyped, path: &str) -> Errors {
    let mut errs = Errors::new();
    rules::claim(&mut errs, &obj.rest, path);
    errs
}

/// Source: `validateResourceClaimStatusUpdate`, as far as it concerns who uses a claim.
fn validate_status(new: &Untyped, old: &Untyped) -> Errors {
    let mut errs = Errors::new();
    let (fields, reserved) = (&new.rest, "status.reservedFor");
    rules::items(&mut errs, fields, reserved, RESERVED_MAX, |errs, consumer, path| {
        json::within(errs, path, |errs| {
            ["resource", "name", "uid"].iter().for_each(|field| json::required(errs, consumer, field));
        });
    });
    rules::unique(&mut errs, reserved, rules::keys(fields, reserved, "uid"));
    let allocation = "status.allocation";
    if !json::items(fields, reserved).is_empty() && !json::has(fields, allocation) {
        errs.push(FieldError::forbidden(reserved, "may not be specified when `allocated` is not set"));
    }
    if json::has(&old.rest, allocation) && json::has(fields, allocation) {
        errs.extend(json::immutable(fields, &old.rest, allocation, IMMUTABLE));
    }
    rules::items(&mut errs, fields, "status.devices", usize::MAX, |errs, device, path| {
        rules::driver(errs, &format!("{path}.driver"), &text_at(device, "driver"));
        rules::pool(errs, &format!("{path}.pool"), &text_at(device, "pool"));
        rules::label(errs, &format!("{path}.device"), &text_at(device, "device"));
    });
    errs
}

/// Source: `resourceClaimState`.
fn state(obj: &Untyped) -> String {
    let is_deleted = obj.metadata.deletion_timestamp.is_some();
    let is_allocated = matches!(at(&obj.rest, "status.allocation"), Some(Value::Object(_)));
    let is_reserved = is_allocated && !json::items(&obj.rest, "status.reservedFor").is_empty();
    let all = [
        (is_deleted, "deleted"),
        (!is_deleted && !is_allocated, "pending"),
        (is_allocated, "allocated"),
        (is_reserved, "reserved"),
    ];
    all.into_iter().filter(|(holds, _)| *holds).map(|(_, state)| state).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::kinds::testing::json::{causes, created_yaml, row};
    use expect_test::expect;

    const GOOD: &str = "
        metadata: {name: gpu}
        spec:
          devices:
            requests:
            - {name: one, exactly: {deviceClassName: gpu, tolerations: [{key: a, value: b}]}}
            - {name: two, firstAvailable: [{name: big, deviceClassName: gpu, allocationMode: All}]}
            constraints: [{requests: [one, two/big], matchAttribute: a.b/numa}]";

    #[test]
    fn what_is_wrong_with_a_claim_is_named() {
        let wrong = "
            spec:
              devices:
                requests:
                - {name: A}
                - {name: b, exactly: {}, firstAvailable: [{}]}
                - {name: b, exactly: {deviceClassName: '-', count: -1, selectors: [{}], tolerations: [{operator: Exists, value: x, effect: Never}]}}
                - {name: c, firstAvailable: [{name: x, allocationMode: Some}, {name: x, deviceClassName: d, allocationMode: All, count: 2}]}
                constraints: [{requests: [b, b, d, c/y, a/b/c]}, {matchAttribute: numa}]
                config: [{requests: [e]}]";
        expect![[r#"
            spec.devices.requests[0].name: Invalid value: "A": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')
            spec.devices.requests[0]: Required value: exactly one of `exactly` or `firstAvailable` is required
            spec.devices.requests[1]: Invalid value: null: exactly one of `exactly` or `firstAvailable` is required, but multiple fields are set
            spec.devices.requests[2].exactly.deviceClassName: Invalid value: "-": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
            spec.devices.requests[2].exactly.selectors[0].cel: Required value
            spec.devices.requests[2].exactly.count: Invalid value: -1: must be greater than zero
            spec.devices.requests[2].exactly.tolerations[0].value: Invalid value: "x": must be empty for operator `Exists`
            spec.devices.requests[2].exactly.tolerations[0].effect: Unsupported value: "Never": supported values: "NoExecute", "NoSchedule", "None"
            spec.devices.requests[3].firstAvailable[0].deviceClassName: Required value
            spec.devices.requests[3].firstAvailable[0].allocationMode: Unsupported value: "Some": supported values: "All", "ExactCount"
            spec.devices.requests[3].firstAvailable[1].count: Invalid value: 2: must not be specified when allocationMode is 'All'
            spec.devices.requests[3].firstAvailable[1]: Duplicate value: "x"
            spec.devices.requests[2]: Duplicate value: "b"
            spec.devices.constraints[0].requests[2]: Invalid value: "d": must be the name of a request in the claim or the name of a request and a subrequest separated by '/'
            spec.devices.constraints[0].requests[3]: Invalid value: "c/y": must be the name of a request in the claim or the name of a request and a subrequest separated by '/'
            spec.devices.constraints[0].requests[4]: Invalid value: "a/b/c": must be the name of a request in the claim or the name of a request and a subrequest separated by '/'
            spec.devices.constraints[0].requests[1]: Duplicate value: "b"
            spec.devices.constraints[0]: Required value: exactly one of "matchAttribute" or "distinctAttribute" is required, but multiple fields are set
            spec.devices.constraints[1].matchAttribute: Invalid value: "numa": must include a domain
            spec.devices.config[0].requests[0]: Invalid value: "e": must be the name of a request in the claim or the name of a request and a subrequest separated by '/'
            spec.devices.config[0].opaque: Required value
        "#]].assert_eq(&causes(&RESOURCE_CLAIMS, wrong));
        assert_eq!(causes(&RESOURCE_CLAIMS, GOOD), "");
    }

    #[test]
    fn defaults_are_filled_in_and_a_row_reads_as_in_kubernetes() {
        expect![[r#"
            metadata:
              name: gpu
            spec:
              devices:
                constraints:
                - matchAttribute: a.b/numa
                  requests:
                  - one
                  - two/big
                requests:
                - exactly:
                    allocationMode: ExactCount
                    count: 1
                    deviceClassName: gpu
                    tolerations:
                    - key: a
                      operator: Equal
                      value: b
                  name: one
                - firstAvailable:
                  - allocationMode: All
                    deviceClassName: gpu
                    name: big
                  name: two
            status: {}
        "#]]
        .assert_eq(&created_yaml(&RESOURCE_CLAIMS, GOOD));
        assert_eq!(row(&RESOURCE_CLAIMS, GOOD), "gpu | pending | <unknown>");
        let used = "metadata: {name: c, deletionTimestamp: '2026-01-01T00:00:00Z'}\nspec: {}\nstatus: {allocation: {}, reservedFor: [{uid: a}]}";
        assert_eq!(row(&RESOURCE_CLAIMS, used), "c | deleted,allocated,reserved | <unknown>");
    }

    #[test]
    fn a_template_has_the_rules_of_its_claims() {
        let wrong = "spec: {spec: {devices: {requests: [{name: a}]}}}";
        expect![[r#"
            spec.spec.devices.requests[0]: Required value: exactly one of `exactly` or `firstAvailable` is required
        "#]]
        .assert_eq(&causes(&RESOURCE_CLAIM_TEMPLATES, wrong));
    }
}
