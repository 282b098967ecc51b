//! `Secret`, core/v1.
//!
//! **Source**: `pkg/apis/core/{v1/{defaults,conversion},validation/validation}.go`, `pkg/registry/core/secret/strategy.go`, v1.37.

use super::{
    check::{self, Errors},
    config_map::{DATA_BYTES_MAX, SEALED},
    part,
    pod_spec::defaults,
    text,
};
use crate::api::{
    field::FieldError,
    kind::{ALL_VERBS, Kind, KindInfo, Scope},
    names,
    selector::Fields,
    table::{self, Column},
};
use jiff::Timestamp;
use k8s_openapi::{ByteString, api::core::v1::Secret};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The kind `Secret`.
#[derive(Debug)]
pub struct Secrets;

impl Kind for Secrets {
    type Object = Secret;
    const INFO: KindInfo<'static> = KindInfo {
        group: "",
        version: "v1",
        kind: "Secret",
        plural: "secrets",
        singular: "secret",
        short_names: &[],
        categories: &[],
        scope: Scope::Namespaced,
        verbs: ALL_VERBS,
        subresources: &[],
        columns: &[
            Column::name(),
            Column::text("Type", "What its keys mean."),
            Column::text("Data", "How many keys it has."),
            Column::age(),
        ],
        stored_as: None,
        schema: "io.k8s.api.core.v1.Secret",
    };

    /// `stringData` is only a way to write `data`.
    fn set_defaults(obj: &mut Secret) {
        defaults::text(&mut obj.type_, "Opaque");
        if let Some(strings) = obj.string_data.take().filter(|s| !s.is_empty()) {
            let bytes = strings.into_iter().map(|(key, text)| (key, ByteString(text.into_bytes())));
            obj.data.get_or_insert_default().extend(bytes);
        }
    }

    fn validate(obj: &Secret) -> Errors {
        let mut errs = Errors::new();
        let data = part(&obj.data);
        for key in data.keys() {
            check::each(&mut errs, &format!("data[{key}]"), key, names::config_key(key));
        }
        if data.values().map(|v| v.0.len()).sum::<usize>() > DATA_BYTES_MAX {
            errs.push(FieldError::too_long("data", DATA_BYTES_MAX));
        }
        validate_type(&mut errs, obj, &data);
        errs
    }

    /// An update that leaves the type out keeps it. Source: `PrepareForUpdate` in `strategy.go`.
    fn prepare_update(new: &mut Secret, old: &Secret) {
        if new.type_.as_deref().unwrap_or_default().is_empty() {
            new.type_.clone_from(&old.type_);
        }
    }

    fn validate_update(new: &Secret, old: &Secret) -> Errors {
        let mut errs = Errors::new();
        check::immutable(&mut errs, "type", &new.type_, &old.type_);
        if old.immutable == Some(true) {
            let changed = [("immutable", new.immutable != Some(true)), ("data", new.data != old.data)];
            errs.extend(changed.iter().filter(|(_, is)| *is).map(|(f, _)| FieldError::forbidden(*f, SEALED)));
        }
        errs
    }

    fn field_labels() -> &'static [(&'static str, &'static str)] {
        &[("type", "type")]
    }

    fn selectable_fields(obj: &Secret) -> Fields<'static> {
        Fields::from([("type", text(&obj.type_))])
    }

    fn row(obj: &Secret, now: Timestamp) -> Vec<Value> {
        vec![
            table::name(&obj.metadata),
            json!(obj.type_.as_deref().unwrap_or_default()),
            json!(obj.data.iter().flatten().count()),
            table::age(&obj.metadata, now),
        ]
    }
}

fn validate_type(errs: &mut Errors, obj: &Secret, data: &BTreeMap<String, ByteString>) {
    let missing = |key: &str| !data.contains_key(key);
    let mut require = |key: &str| errs.push(FieldError::required(format!("data[{key}]"), ""));
    match obj.type_.as_deref().unwrap_or_default() {
        "kubernetes.io/service-account-token" => {
            let key = "kubernetes.io/service-account.name";
            let name = obj.metadata.annotations.as_ref().and_then(|a| a.get(key));
            if name.is_none_or(String::is_empty) {
                errs.push(FieldError::required(format!("metadata.annotations[{key}]"), ""));
            }
        }
        "kubernetes.io/dockercfg" => validate_json(errs, data, ".dockercfg"),
        "kubernetes.io/dockerconfigjson" => validate_json(errs, data, ".dockerconfigjson"),
        "kubernetes.io/basic-auth" if missing("username") && missing("password") => {
            require("username");
            require("password");
        }
        "kubernetes.io/ssh-auth" if data.get("ssh-privatekey").is_none_or(|v| v.0.is_empty()) => {
            require("ssh-privatekey");
        }
        "kubernetes.io/tls" => ["tls.crt", "tls.key"].into_iter().filter(|k| missing(k)).for_each(require),
        _ => {}
    }
}

fn validate_json(errs: &mut Errors, data: &BTreeMap<String, ByteString>, key: &str) {
    let at = format!("data[{key}]");
    let Some(bytes) = data.get(key) else {
        errs.push(FieldError::required(at, ""));
        return;
    };
    if let Err(err) = serde_json::from_slice::<serde_json::Map<String, Value>>(&bytes.0) {
        errs.push(FieldError::invalid(at, "<secret contents redacted>", err.to_string()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::kinds::testing::{causes, created_yaml, row, update_causes};
    use expect_test::expect;

    #[test]
    fn strings_become_data() {
        let secret = "metadata: {name: s}\ndata: {a: b2xk, b: a2VwdA==}\nstringData: {a: new}";
        expect![[r#"
            apiVersion: v1
            kind: Secret
            data:
              a: bmV3
              b: a2VwdA==
            metadata:
              name: s
            type: Opaque
        "#]]
        .assert_eq(&created_yaml::<Secrets>(secret));
    }

    #[test]
    fn types_want_their_keys() {
        let of = |kind: &str| causes::<Secrets>(&format!("type: kubernetes.io/{kind}\nstringData: {{a b: c}}"));
        for (kind, expected) in [
            (
                "service-account-token",
                expect![[r#"
                data[a b]: Invalid value: "a b": a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')
                metadata.annotations[kubernetes.io/service-account.name]: Required value
            "#]],
            ),
            (
                "dockercfg",
                expect![[r#"
                data[a b]: Invalid value: "a b": a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')
                data[.dockercfg]: Required value
            "#]],
            ),
            (
                "dockerconfigjson",
                expect![[r#"
                data[a b]: Invalid value: "a b": a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')
                data[.dockerconfigjson]: Required value
            "#]],
            ),
            (
                "basic-auth",
                expect![[r#"
                data[a b]: Invalid value: "a b": a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')
                data[username]: Required value
                data[password]: Required value
            "#]],
            ),
            (
                "ssh-auth",
                expect![[r#"
                data[a b]: Invalid value: "a b": a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')
                data[ssh-privatekey]: Required value
            "#]],
            ),
            (
                "tls",
                expect![[r#"
                data[a b]: Invalid value: "a b": a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')
                data[tls.crt]: Required value
                data[tls.key]: Required value
            "#]],
            ),
        ] {
            expected.assert_eq(&of(kind));
        }
        let json = |text: &str| {
            causes::<Secrets>(&format!(
                "type: kubernetes.io/dockerconfigjson\nstringData: {{.dockerconfigjson: '{text}'}}"
            ))
        };
        assert_eq!(json("{}"), "");
        expect![[r#"
            data[.dockerconfigjson]: Invalid value: "<secret contents redacted>": expected ident at line 1 column 2
        "#]]
        .assert_eq(&json("no"));
    }

    #[test]
    fn the_type_stays_and_what_is_sealed_stays() {
        let old = "type: a.b/c\nimmutable: true";
        expect![[r#"
            type: Invalid value: "Opaque": field is immutable
            immutable: Forbidden: field is immutable when `immutable` is set
            data: Forbidden: field is immutable when `immutable` is set
        "#]]
        .assert_eq(&update_causes::<Secrets>(old, "type: Opaque\nstringData: {a: b}"));
    }

    #[test]
    fn a_row_reads_as_in_kubernetes() {
        assert_eq!(row::<Secrets>("metadata: {name: s}\ntype: Opaque\ndata: {a: ''}"), "s | Opaque | 1 | <unknown>");
    }
}
