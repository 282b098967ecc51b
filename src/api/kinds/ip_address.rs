//! `IPAddress`, networking.k8s.io/v1.
//!
//! **Source**: `pkg/apis/networking/validation/validation.go`, v1.37.

use super::json::{self, Errors};
use crate::api::{
    field::FieldError,
    json_kind::{JsonKind, Rules, text_at},
    kind::{KindInfo, Scope},
    names,
    object::Untyped,
    table::{self, Column, NONE},
};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::net::IpAddr;

/// The kind `IPAddress`.
pub static IP_ADDRESSES: JsonKind = JsonKind::new(
    KindInfo {
        short_names: &["ip"],
        columns: &[Column::name(), Column::text("ParentRef", "What has the address."), Column::age()],
        ..KindInfo::of(
            ("networking.k8s.io", "v1", "IPAddress"),
            ("ipaddresses", "ipaddress"),
            Scope::Cluster,
            "io.k8s.api.networking.v1.IPAddress",
        )
    },
    Rules {
        validate,
        validate_update: |new, old| json::immutable(&new.rest, &old.rest, "spec.parentRef", "field is immutable"),
        warnings: |_| {
            vec![
                "skiff reads which ClusterIPs are taken from the Services themselves: this address is stored, and reserves nothing"
                    .to_owned(),
            ]
        },
        validate_name,
        row,
        ..Rules::PLAIN
    },
);

/// Source: `ValidateIPAddressName`.
fn validate_name(name: &str) -> Vec<String> {
    match name.parse::<IpAddr>() {
        Err(_) => vec![format!("ParseAddr({name:?}): unable to parse IP")],
        Ok(address) if address.to_string() != name => vec!["must be a canonical format IP address".to_owned()],
        Ok(_) => Vec::new(),
    }
}

fn validate(obj: &Untyped) -> Errors {
    let mut errs = Errors::new();
    let fields = &obj.rest;
    let text = |field| text_at(fields, &format!("spec.parentRef.{field}"));
    // Its schema requires it, so that it is there with nothing in it when a client has left it out.
    if ["group", "resource", "namespace", "name"].into_iter().all(|field| text(field).is_empty()) {
        return vec![FieldError::required("spec.parentRef", "")];
    }
    let group = text("group");
    if !group.is_empty() {
        json::subdomain(&mut errs, "spec.parentRef.group", &group);
    }
    for path in ["spec.parentRef.resource", "spec.parentRef.name"] {
        let name = text_at(fields, path);
        if name.is_empty() {
            errs.push(FieldError::required(path, ""));
        } else {
            errs.extend(names::path_segment(&name).into_iter().map(|why| FieldError::invalid(path, &name, why)));
        }
    }
    errs
}

fn row(obj: &Untyped, now: Timestamp) -> Vec<Value> {
    let text = |field| text_at(&obj.rest, &format!("spec.parentRef.{field}"));
    let mut parent = text("resource").to_lowercase();
    for (part, sign) in [(text("group").to_lowercase(), '.'), (text("namespace"), '/'), (text("name"), '/')] {
        if !part.is_empty() {
            parent = format!("{parent}{sign}{part}");
        }
    }
    vec![table::name(&obj.metadata), table::or(&parent, NONE), json!(table::age(&obj.metadata, now))]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::kinds::testing::json::{causes, row, update_causes};
    use expect_test::expect;

    #[test]
    fn what_is_wrong_is_named() {
        assert_eq!(causes(&IP_ADDRESSES, "spec: {}"), "spec.parentRef: Required value\n");
        expect![[r#"
            spec.parentRef.resource: Required value
            spec.parentRef.name: Invalid value: "a/b": may not contain '/'
        "#]]
        .assert_eq(&causes(&IP_ADDRESSES, "spec: {parentRef: {name: a/b}}"));
        assert_eq!(validate_name("10.0.0.7"), Vec::<String>::new());
        assert_eq!(validate_name("fd00:0::1"), ["must be a canonical format IP address"]);
        assert_eq!(validate_name("ten"), ["ParseAddr(\"ten\"): unable to parse IP"]);
        let of = |name: &str| format!("spec: {{parentRef: {{resource: services, name: {name}}}}}");
        assert!(update_causes(&IP_ADDRESSES, &of("a"), &of("b")).ends_with("field is immutable\n"));
    }

    #[test]
    fn a_row_reads_as_in_kubernetes() {
        let address = "metadata: {name: 10.0.0.7}\nspec: {parentRef: {resource: services, namespace: d, name: web}}";
        assert_eq!(row(&IP_ADDRESSES, address), "10.0.0.7 | services/d/web | <unknown>");
        let gateway = "metadata: {name: 10.0.0.8}\nspec: {parentRef: {group: gateway.networking.k8s.io, resource: gateways, name: g}}";
        assert_eq!(row(&IP_ADDRESSES, gateway), "10.0.0.8 | gateways.gateway.networking.k8s.io/g | <unknown>");
    }
}
