//! `NetworkPolicy`, networking.k8s.io/v1.
//!
//! **Source**: `pkg/apis/networking/validation/validation.go`, `pkg/apis/networking/v1/defaults.go`, v1.37.

use super::json::{self, Errors};
use crate::api::{
    field::FieldError,
    json_kind::{JsonKind, Rules, at, default_at, set_at, text_at},
    kind::{KindInfo, Scope},
    object::Untyped,
    table::{self, Column},
};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

/// The kind `NetworkPolicy`.
pub static NETWORK_POLICIES: JsonKind = JsonKind::new(
    KindInfo {
        short_names: &["netpol"],
        columns: &[Column::name(), Column::text("Pod-Selector", "The pods that it is about."), Column::age()],
        ..KindInfo::of(
            ("networking.k8s.io", "v1", "NetworkPolicy"),
            ("networkpolicies", "networkpolicy"),
            Scope::Namespaced,
            "io.k8s.api.networking.v1.NetworkPolicy",
        )
    },
    Rules {
        set_defaults,
        validate,
        row,
        warnings: |_| {
            vec![
                "skiff does not enforce NetworkPolicies: this one is stored, and every pod still reaches every other"
                    .to_owned(),
            ]
        },
        has_generation: true,
        ..Rules::PLAIN
    },
);

fn set_defaults(obj: &mut Untyped) {
    for rules in ["spec.ingress", "spec.egress"] {
        for rule in json::objects_mut(&mut obj.rest, rules) {
            for port in json::objects_mut(rule, "ports") {
                default_at(port, "protocol", "TCP");
            }
        }
    }
    if json::items(&obj.rest, "spec.policyTypes").is_empty() {
        let types = if json::items(&obj.rest, "spec.egress").is_empty() {
            json!(["Ingress"])
        } else {
            json!(["Ingress", "Egress"])
        };
        set_at(&mut obj.rest, "spec.policyTypes", types);
    }
}

fn validate(obj: &Untyped) -> Errors {
    let mut errs = Errors::new();
    let fields = &obj.rest;
    json::label_selector(&mut errs, fields, "spec.podSelector");
    for (rules, peers) in [("ingress", "from"), ("egress", "to")] {
        for (i, rule) in json::objects(fields, &format!("spec.{rules}")).enumerate() {
            let path = format!("spec.{rules}[{i}]");
            for (n, port) in json::objects(rule, "ports").enumerate() {
                json::within(&mut errs, &format!("{path}.ports[{n}]"), |errs| {
                    json::one_of(errs, port, "protocol", &["SCTP", "TCP", "UDP"]);
                });
            }
            for (n, peer) in json::objects(rule, peers).enumerate() {
                check_peer(&mut errs, peer, &format!("{path}.{peers}[{n}]"));
            }
        }
    }
    for (i, policy) in json::items(fields, "spec.policyTypes").iter().enumerate() {
        if policy != "Ingress" && policy != "Egress" {
            errs.push(FieldError::not_supported(format!("spec.policyTypes[{i}]"), policy, &["Ingress", "Egress"]));
        }
    }
    errs
}

fn check_peer(errs: &mut Errors, peer: &Map<String, Value>, path: &str) {
    let has_block = peer.contains_key("ipBlock");
    let has_selector = peer.contains_key("podSelector") || peer.contains_key("namespaceSelector");
    if !has_block && !has_selector {
        errs.push(FieldError::required(path, "must specify a peer"));
    }
    if has_block && has_selector {
        let why = "may not specify both ipBlock and another peer";
        errs.push(FieldError::forbidden(path, why));
    }
    if has_block {
        json::cidr(errs, &format!("{path}.ipBlock.cidr"), &text_at(peer, "ipBlock.cidr"));
    }
}

fn row(obj: &Untyped, now: Timestamp) -> Vec<Value> {
    let selector = at(&obj.rest, "spec.podSelector");
    vec![table::name(&obj.metadata), json::selector(selector), table::age(&obj.metadata, now)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::kinds::testing::json::{causes, created_yaml, row};
    use expect_test::expect;

    #[test]
    fn what_is_wrong_is_named() {
        let wrong = "spec: {podSelector: {}, ingress: [{from: [{}, {ipBlock: {cidr: x}, podSelector: {}}], ports: [{protocol: ICMP}]}], policyTypes: [Both]}";
        expect![[r#"
            spec.ingress[0].ports[0].protocol: Unsupported value: "ICMP": supported values: "SCTP", "TCP", "UDP"
            spec.ingress[0].from[0]: Required value: must specify a peer
            spec.ingress[0].from[1]: Forbidden: may not specify both ipBlock and another peer
            spec.ingress[0].from[1].ipBlock.cidr: Invalid value: "x": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)
            spec.policyTypes[0]: Unsupported value: "Both": supported values: "Ingress", "Egress"
        "#]].assert_eq(&causes(&NETWORK_POLICIES, wrong));
    }

    #[test]
    fn defaults_are_filled_in() {
        expect![[r#"
            metadata: {}
            spec:
              egress:
              - ports:
                - port: 53
                  protocol: TCP
              podSelector: {}
              policyTypes:
              - Ingress
              - Egress
        "#]]
        .assert_eq(&created_yaml(&NETWORK_POLICIES, "spec: {podSelector: {}, egress: [{ports: [{port: 53}]}]}"));
        assert_eq!(
            row(&NETWORK_POLICIES, "metadata: {name: a}\nspec: {podSelector: {matchLabels: {app: x}}}"),
            "a | app=x | <unknown>"
        );
        assert_eq!(row(&NETWORK_POLICIES, "metadata: {name: a}\nspec: {podSelector: {}}"), "a | <none> | <unknown>");
    }
}
