//! `StorageVersionMigration`, storagemigration.k8s.io/v1. Nothing migrates: a kind has one version in the store.
//!
//! **Source**: `pkg/apis/storagemigration/validation/validation.go`, v1.37.

use super::json::{self, Errors};
use crate::api::{
    field::FieldError,
    json_kind::{JsonKind, Rules, text_at},
    kind::{KindInfo, STATUS, Scope},
    names,
    object::Untyped,
    table::{self, Column},
};
use serde_json::json;

/// The kind `StorageVersionMigration`.
pub static STORAGE_VERSION_MIGRATIONS: JsonKind = JsonKind::new(
    KindInfo {
        columns: &[Column::name(), Column::text("Resource", "Fully qualified resource to migrate")],
        subresources: &[STATUS],
        ..KindInfo::of(
            ("storagemigration.k8s.io", "v1", "StorageVersionMigration"),
            ("storageversionmigrations", "storageversionmigration"),
            Scope::Cluster,
            "io.k8s.api.storagemigration.v1.StorageVersionMigration",
        )
    },
    Rules {
        validate,
        validate_update: |new, old| json::immutable(&new.rest, &old.rest, "spec.resource", "field is immutable"),
        warnings: |_| {
            vec!["skiff stores each object in the one version that it serves: this object is stored and nothing is migrated by it".to_owned()]
        },
        row: |obj, _| vec![table::name(&obj.metadata), json!(resource(obj))],
        ..Rules::PLAIN
    },
);

fn validate(obj: &Untyped) -> Errors {
    let mut errs = Errors::new();
    let mut check = |field: &str, rule: fn(&str) -> Vec<String>| {
        let path = format!("spec.resource.{field}");
        let text = text_at(&obj.rest, &path);
        let wrong = if text.is_empty() { Vec::new() } else { rule(&text) };
        if text.is_empty() && field == "resource" {
            errs.push(FieldError::required(path, "resource is required to be set"));
        } else if !wrong.is_empty() {
            errs.push(FieldError::invalid(path, text, wrong.join(",")));
        }
    };
    check("resource", names::dns1035_label);
    check("group", names::dns1123_subdomain);
    errs
}

/// `plural.group`, as `GroupResource` is written.
fn resource(obj: &Untyped) -> String {
    let text = |field: &str| text_at(&obj.rest, &format!("spec.resource.{field}"));
    match &*text("group") {
        "" => text("resource"),
        group => format!("{}.{group}", text("resource")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::kinds::testing::json::{causes, row};
    use expect_test::expect;

    #[test]
    fn what_is_wrong_is_named_and_a_row_reads_as_in_kubernetes() {
        let of = |yaml: &str| causes(&STORAGE_VERSION_MIGRATIONS, yaml);
        assert_eq!(of("spec: {}"), "spec.resource.resource: Required value: resource is required to be set\n");
        expect![[r#"
            spec.resource.resource: Invalid value: "Pods": a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')
            spec.resource.group: Invalid value: "A": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
        "#]].assert_eq(&of("spec: {resource: {group: A, resource: Pods}}"));
        let yaml = "metadata: {name: m}\nspec: {resource: {group: apps, resource: deployments}}";
        assert_eq!(row(&STORAGE_VERSION_MIGRATIONS, yaml), "m | deployments.apps");
    }
}
