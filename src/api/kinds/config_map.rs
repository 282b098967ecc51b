//! `ConfigMap`, core/v1.
//!
//! **Source**: `pkg/apis/core/validation/validation.go`, v1.37.

use super::{
    check::{self, Errors},
    part,
};
use crate::api::{
    field::FieldError,
    kind::{ALL_VERBS, Kind, KindInfo, Scope},
    names,
    table::{self, Column},
};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ConfigMap;
use serde_json::{Value, json};

/// The most bytes that the data of a ConfigMap or a Secret may have.
pub(super) const DATA_BYTES_MAX: usize = 1024 * 1024;
/// What is said of a change of data that was declared immutable.
pub(super) const SEALED: &str = "field is immutable when `immutable` is set";

/// The kind `ConfigMap`.
#[derive(Debug)]
pub struct ConfigMaps;

impl Kind for ConfigMaps {
    type Object = ConfigMap;
    const INFO: KindInfo<'static> = KindInfo {
        group: "",
        version: "v1",
        kind: "ConfigMap",
        plural: "configmaps",
        singular: "configmap",
        short_names: &["cm"],
        categories: &[],
        scope: Scope::Namespaced,
        verbs: ALL_VERBS,
        subresources: &[],
        columns: &[Column::name(), Column::text("Data", "How many keys it has."), Column::age()],
        stored_as: None,
        schema: "io.k8s.api.core.v1.ConfigMap",
    };

    fn validate(obj: &ConfigMap) -> Errors {
        let mut errs = Errors::new();
        let binary = part(&obj.binary_data);
        for key in obj.data.iter().flatten().map(|(key, _)| key) {
            let at = format!("data[{key}]");
            check::each(&mut errs, &at, key, names::config_key(key));
            if binary.contains_key(key) {
                errs.push(FieldError::invalid(at, key, "duplicate of key present in binaryData"));
            }
        }
        for key in binary.keys() {
            check::each(&mut errs, &format!("binaryData[{key}]"), key, names::config_key(key));
        }
        let text_bytes: usize = obj.data.iter().flatten().map(|(_, v)| v.len()).sum();
        let bytes = text_bytes + binary.values().map(|v| v.0.len()).sum::<usize>();
        if bytes > DATA_BYTES_MAX {
            errs.push(FieldError::too_long("", DATA_BYTES_MAX));
        }
        errs
    }

    fn validate_update(new: &ConfigMap, old: &ConfigMap) -> Errors {
        let mut errs = Errors::new();
        if old.immutable == Some(true) {
            let changed = [
                ("immutable", new.immutable != Some(true)),
                ("data", new.data != old.data),
                ("binaryData", new.binary_data != old.binary_data),
            ];
            errs.extend(changed.iter().filter(|(_, is)| *is).map(|(f, _)| FieldError::forbidden(*f, SEALED)));
        }
        errs
    }

    fn row(obj: &ConfigMap, now: Timestamp) -> Vec<Value> {
        let n = obj.data.iter().flatten().count() + obj.binary_data.iter().flatten().count();
        vec![table::name(&obj.metadata), json!(n), table::age(&obj.metadata, now)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::kinds::testing::{causes, row, update_causes};
    use expect_test::expect;

    #[test]
    fn what_is_wrong_is_named() {
        expect![[r#"
            data[..]: Invalid value: "..": must not be '..'
            data[a b]: Invalid value: "a b": a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')
            data[ok]: Invalid value: "ok": duplicate of key present in binaryData
            binaryData[]: Invalid value: "": a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')
        "#]].assert_eq(&causes::<ConfigMaps>("data: {'a b': x, ok: y, ..: z}\nbinaryData: {ok: AAAA, '': AAAA}"));
        let big = format!("data: {{a: {}}}", "x".repeat(DATA_BYTES_MAX + 1));
        expect![[r#"
            : Too long: may not be more than 1048576 bytes
        "#]]
        .assert_eq(&causes::<ConfigMaps>(&big));
    }

    #[test]
    fn what_is_sealed_stays() {
        let old = "data: {a: b}\nimmutable: true";
        assert_eq!(update_causes::<ConfigMaps>(old, old), "");
        expect![[r#"
            immutable: Forbidden: field is immutable when `immutable` is set
            data: Forbidden: field is immutable when `immutable` is set
            binaryData: Forbidden: field is immutable when `immutable` is set
        "#]]
        .assert_eq(&update_causes::<ConfigMaps>(old, "data: {a: c}\nbinaryData: {b: AAAA}"));
    }

    #[test]
    fn a_row_reads_as_in_kubernetes() {
        assert_eq!(row::<ConfigMaps>("metadata: {name: c}\ndata: {a: b}\nbinaryData: {c: AAAA}"), "c | 2 | <unknown>");
    }
}
