//! `DeviceClass`, resource.k8s.io/v1. Nothing allocates devices by it.
//!
//! **Source**: `pkg/apis/resource/validation/validation.go`, v1.37.

use super::{device_rules as rules, json::Errors};
use crate::api::{
    field::FieldError,
    json_kind::{JsonKind, Rules, text_at},
    kind::{KindInfo, Scope},
    names,
    object::Untyped,
};

/// The kind `DeviceClass`.
pub static DEVICE_CLASSES: JsonKind = JsonKind::new(
    KindInfo::of(
        (rules::GROUP, "v1", "DeviceClass"),
        ("deviceclasses", "deviceclass"),
        Scope::Cluster,
        "io.k8s.api.resource.v1.DeviceClass",
    ),
    Rules { validate, warnings: |_| rules::warnings(), has_generation: true, ..Rules::PLAIN },
);

fn validate(obj: &Untyped) -> Errors {
    let mut errs = Errors::new();
    rules::selectors(&mut errs, &obj.rest, "spec.selectors");
    rules::configurations(&mut errs, &obj.rest, "spec.config", None);
    let (path, name) = ("spec.extendedResourceName", text_at(&obj.rest, "spec.extendedResourceName"));
    if !name.is_empty() && !is_extended(&name) {
        errs.push(FieldError::invalid(path, name, "must be a valid extended resource name"));
    }
    errs
}

/// Source: `IsExtendedResourceName`.
fn is_extended(name: &str) -> bool {
    let is_native = !name.contains('/') || name.contains("kubernetes.io/");
    !is_native && !name.starts_with("requests.") && names::qualified_name(&format!("requests.{name}")).is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::kinds::testing::json::{causes, row};
    use expect_test::expect;

    #[test]
    fn what_is_wrong_is_named_and_a_row_reads_as_in_kubernetes() {
        let wrong = "
            spec:
              selectors: [{}]
              config: [{}, {opaque: {driver: '', parameters: 7}}, {opaque: {driver: a.b, parameters: {a: 1}}}]
              extendedResourceName: cpu";
        expect![[r#"
            spec.selectors[0].cel: Required value
            spec.config[0].opaque: Required value
            spec.config[1].opaque.driver: Required value
            spec.config[1].opaque.parameters: Invalid value: "<value omitted>": must be a valid JSON object
            spec.extendedResourceName: Invalid value: "cpu": must be a valid extended resource name
        "#]]
        .assert_eq(&causes(&DEVICE_CLASSES, wrong));
        let good =
            "metadata: {name: gpu}\nspec: {selectors: [{cel: {expression: 'true'}}], extendedResourceName: a.b/gpu}";
        assert_eq!(causes(&DEVICE_CLASSES, good), "");
        assert_eq!(row(&DEVICE_CLASSES, good), "gpu | <unknown>");
    }
}
