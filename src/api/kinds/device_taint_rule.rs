//! `DeviceTaintRule`, resource.k8s.io/v1. There are no devices to taint.
//!
//! **Source**: `pkg/apis/resource/validation/validation.go`, v1.37.

use super::{
    device_rules as rules,
    json::{self, Errors},
};
use crate::api::{
    json_kind::{JsonKind, Rules, at, text_at},
    kind::{KindInfo, STATUS, Scope},
    object::Untyped,
};
use serde_json::Value;

/// The kind `DeviceTaintRule`.
pub static DEVICE_TAINT_RULES: JsonKind = JsonKind::new(
    KindInfo {
        subresources: &[STATUS],
        ..KindInfo::of(
            (rules::GROUP, "v1", "DeviceTaintRule"),
            ("devicetaintrules", "devicetaintrule"),
            Scope::Cluster,
            "io.k8s.api.resource.v1.DeviceTaintRule",
        )
    },
    Rules { validate, warnings: |_| rules::warnings(), has_generation: true, ..Rules::PLAIN },
);

fn validate(obj: &Untyped) -> Errors {
    let mut errs = Errors::new();
    let fields = &obj.rest;
    let checks: [(&str, rules::NameCheck); 3] =
        [("driver", rules::driver), ("pool", rules::pool), ("device", rules::label)];
    for (field, check) in checks {
        let path = format!("spec.deviceSelector.{field}");
        if json::has(fields, &path) {
            check(&mut errs, &path, &text_at(fields, &path));
        }
    }
    if let Some(Value::Object(taint)) = at(fields, "spec.taint") {
        rules::taint(&mut errs, taint, "spec.taint");
    }
    errs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::kinds::testing::json::{causes, row};
    use expect_test::expect;

    #[test]
    fn what_is_wrong_is_named_and_a_row_reads_as_in_kubernetes() {
        let of = |yaml: &str| causes(&DEVICE_TAINT_RULES, yaml);
        expect![[r#"
            spec.deviceSelector.driver: Invalid value: "-": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
            spec.deviceSelector.pool: Invalid value: "": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
            spec.deviceSelector.device: Invalid value: "B": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')
            spec.taint.key: Invalid value: "": name part must be non-empty
            spec.taint.key: Invalid value: "": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')
            spec.taint.effect: Unsupported value: "Never": supported values: "NoExecute", "NoSchedule", "None"
        "#]].assert_eq(&of(
            "spec: {deviceSelector: {driver: '-', pool: a//b, device: B}, taint: {key: '', effect: Never}}",
        ));
        let good = "metadata: {name: r}\nspec: {taint: {key: a.b/broken, effect: NoExecute}}";
        assert_eq!(of(good), "");
        assert_eq!(row(&DEVICE_TAINT_RULES, good), "r | <unknown>");
    }
}
