//! `ValidatingWebhookConfiguration` and `MutatingWebhookConfiguration`, admissionregistration.k8s.io/v1.
//!
//! **Source**: `pkg/apis/admissionregistration/validation/validation.go`, `pkg/apis/admissionregistration/v1/defaults.go`, v1.37.

use super::{
    admission_rules::{self as rules, FAILURE_POLICIES},
    json::{self, Errors},
};
use crate::{
    api::{
        field::FieldError,
        json_kind::{JsonKind, Rules, at, default_at, text_at},
        kind::{KindInfo, Scope},
        names,
        object::Untyped,
        table::{self, Column},
    },
    base::ordered::Set,
};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

const COLUMNS: &[Column<'static>] =
    &[Column::name(), Column::number("Webhooks", "How many webhooks it has."), Column::age()];
const SIDE_EFFECTS: &[&str] = &["None", "NoneOnDryRun"];
/// The versions of reviews that an API server speaks.
const REVIEW_VERSIONS: &[&str] = &["v1", "v1beta1"];
const TIMEOUT_SECS: std::ops::RangeInclusive<i64> = 1..=30;

/// The kind `ValidatingWebhookConfiguration`.
pub static VALIDATING_WEBHOOK_CONFIGURATIONS: JsonKind = JsonKind::new(
    KindInfo {
        categories: &["api-extensions"],
        columns: COLUMNS,
        ..KindInfo::of(
            ("admissionregistration.k8s.io", "v1", "ValidatingWebhookConfiguration"),
            ("validatingwebhookconfigurations", "validatingwebhookconfiguration"),
            Scope::Cluster,
            "io.k8s.api.admissionregistration.v1.ValidatingWebhookConfiguration",
        )
    },
    Rules { set_defaults, validate, warnings, row, has_generation: true, ..Rules::PLAIN },
);

/// The kind `MutatingWebhookConfiguration`.
pub static MUTATING_WEBHOOK_CONFIGURATIONS: JsonKind = JsonKind::new(
    KindInfo {
        categories: &["api-extensions"],
        columns: COLUMNS,
        ..KindInfo::of(
            ("admissionregistration.k8s.io", "v1", "MutatingWebhookConfiguration"),
            ("mutatingwebhookconfigurations", "mutatingwebhookconfiguration"),
            Scope::Cluster,
            "io.k8s.api.admissionregistration.v1.MutatingWebhookConfiguration",
        )
    },
    Rules {
        set_defaults: |obj| {
            set_defaults(obj);
            json::objects_mut(&mut obj.rest, "webhooks")
                .for_each(|hook| default_at(hook, "reinvocationPolicy", "Never"));
        },
        validate: |obj| {
            let mut errs = validate(obj);
            for (i, hook) in json::objects(&obj.rest, "webhooks").enumerate() {
                let policies = &["IfNeeded", "Never"];
                json::within(&mut errs, &format!("webhooks[{i}]"), |errs| {
                    json::one_of(errs, hook, "reinvocationPolicy", policies);
                });
            }
            errs
        },
        warnings,
        row,
        has_generation: true,
        ..Rules::PLAIN
    },
);

fn warnings(_obj: &Untyped) -> Vec<String> {
    vec!["skiff calls no admission webhooks yet: this configuration is stored, and no write is sent to it".to_owned()]
}

fn set_defaults(obj: &mut Untyped) {
    for hook in json::objects_mut(&mut obj.rest, "webhooks") {
        default_at(hook, "failurePolicy", "Fail");
        default_at(hook, "timeoutSeconds", 10);
        rules::set_match_defaults(hook);
        rules::set_rule_defaults(hook, "rules");
        if json::has(hook, "clientConfig.service") {
            default_at(hook, "clientConfig.service.port", 443);
        }
    }
}

fn validate(obj: &Untyped) -> Errors {
    let mut errs = Errors::new();
    let mut seen = Set::new();
    for (i, hook) in json::objects(&obj.rest, "webhooks").enumerate() {
        let path = format!("webhooks[{i}]");
        check_name(&mut errs, &text_at(hook, "name"), &format!("{path}.name"));
        rules::check_rules(&mut errs, hook, &path, "rules");
        json::within(&mut errs, &path, |errs| json::one_of(errs, hook, "failurePolicy", FAILURE_POLICIES));
        check_side_effects(&mut errs, hook, &path);
        if let Some(secs) = at(hook, "timeoutSeconds").and_then(Value::as_i64).filter(|s| !TIMEOUT_SECS.contains(s)) {
            let why = "the timeout value must be between 1 and 30 seconds";
            errs.push(FieldError::invalid(format!("{path}.timeoutSeconds"), secs, why));
        }
        rules::check_match(&mut errs, hook, &path);
        rules::check_client(&mut errs, hook, &path);
        rules::check_conditions(&mut errs, hook, &path);
        check_versions(&mut errs, hook, &format!("{path}.admissionReviewVersions"));
        let name = text_at(hook, "name");
        if !name.is_empty() && !seen.insert(name.clone()) {
            errs.push(FieldError::duplicate(format!("{path}.name"), name));
        }
    }
    errs
}

/// Source: `IsFullyQualifiedName`.
fn check_name(errs: &mut Errors, name: &str, path: &str) {
    if name.is_empty() {
        return errs.push(FieldError::required(path, ""));
    }
    let wrong = names::dns1123_subdomain(name);
    if !wrong.is_empty() {
        errs.push(FieldError::invalid(path, name, wrong.join(",")));
    } else if name.split('.').count() < 3 {
        let why = "should be a domain with at least three segments separated by dots";
        errs.push(FieldError::invalid(path, name, why));
    }
}

fn check_side_effects(errs: &mut Errors, hook: &Map<String, Value>, path: &str) {
    let (effects, path) = (text_at(hook, "sideEffects"), format!("{path}.sideEffects"));
    if effects.is_empty() {
        errs.push(FieldError::required(path, format!("must specify one of {}", SIDE_EFFECTS.join(", "))));
    } else if !SIDE_EFFECTS.contains(&&*effects) {
        errs.push(FieldError::not_supported(path, effects, SIDE_EFFECTS));
    }
}

fn check_versions(errs: &mut Errors, hook: &Map<String, Value>, path: &str) {
    let versions: Vec<&str> = json::texts(hook, "admissionReviewVersions").collect();
    if versions.is_empty() {
        let why = format!("must specify one of {}", REVIEW_VERSIONS.join(", "));
        return errs.push(FieldError::required(path, why));
    }
    let mut seen = Set::new();
    for (i, version) in versions.iter().enumerate() {
        let path = format!("{path}[{i}]");
        if seen.insert(version) {
            let wrong = names::dns1035_label(version).into_iter();
            errs.extend(wrong.map(|why| FieldError::invalid(&path, version, why)));
        } else {
            errs.push(FieldError::invalid(path, version, "duplicate version"));
        }
    }
    if !versions.iter().any(|version| REVIEW_VERSIONS.contains(version)) {
        let why = format!("must include at least one of {}", REVIEW_VERSIONS.join(", "));
        errs.push(FieldError::invalid(path, &versions, why));
    }
}

fn row(obj: &Untyped, now: Timestamp) -> Vec<Value> {
    let n_webhooks = json::items(&obj.rest, "webhooks").len();
    vec![table::name(&obj.metadata), json!(n_webhooks), table::age(&obj.metadata, now)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::kinds::testing::json::{causes, created_yaml, row};
    use expect_test::expect;

    const GOOD: &str = "
        metadata: {name: a}
        webhooks:
        - name: a.example.com
          clientConfig: {service: {name: s, namespace: ns, path: /v1/check}}
          rules: [{operations: [CREATE], apiGroups: [''], apiVersions: [v1], resources: [pods, pods/log]}]
          sideEffects: None
          admissionReviewVersions: [v1]";

    #[test]
    fn what_is_wrong_is_named() {
        let wrong = "
            webhooks:
            - name: a.b
              clientConfig: {url: 'http://u@/x?q#f'}
              rules: [{operations: ['*', EAT], apiGroups: [], apiVersions: [''], resources: [pods/*, pods/log, '*', nodes], scope: Some}]
              failurePolicy: Maybe
              sideEffects: Some
              timeoutSeconds: 31
              matchConditions: [{name: '', expression: ' '}]
              admissionReviewVersions: [v2, v2]
            - name: a.b";
        expect![[r#"
            webhooks[0].name: Invalid value: "a.b": should be a domain with at least three segments separated by dots
            webhooks[0].rules[0].operations: Invalid value: ["*","EAT"]: if '*' is present, must not specify other operations
            webhooks[0].rules[0].operations[1]: Unsupported value: "EAT": supported values: "*", "CONNECT", "CREATE", "DELETE", "UPDATE"
            webhooks[0].rules[0].apiGroups: Required value
            webhooks[0].rules[0].apiVersions[0]: Required value
            webhooks[0].rules[0].resources[1]: Invalid value: "pods/log": if 'pods/*' is present, must not specify pods/log
            webhooks[0].rules[0].resources: Invalid value: ["pods/*","pods/log","*","nodes"]: if '*' is present, must not specify other resources without subresources
            webhooks[0].rules[0].scope: Unsupported value: "Some": supported values: "*", "Cluster", "Namespaced"
            webhooks[0].failurePolicy: Unsupported value: "Maybe": supported values: "Fail", "Ignore"
            webhooks[0].sideEffects: Unsupported value: "Some": supported values: "None", "NoneOnDryRun"
            webhooks[0].timeoutSeconds: Invalid value: 31: the timeout value must be between 1 and 30 seconds
            webhooks[0].clientConfig.url: Invalid value: "http": 'https' is the only allowed URL scheme; desired format: https://host[/path]
            webhooks[0].clientConfig.url: Invalid value: "": host must be specified; desired format: https://host[/path]
            webhooks[0].clientConfig.url: Invalid value: "u": user information is not permitted in the URL; desired format: https://host[/path]
            webhooks[0].clientConfig.url: Invalid value: "f": fragments are not permitted in the URL; desired format: https://host[/path]
            webhooks[0].clientConfig.url: Invalid value: "q": query parameters are not permitted in the URL; desired format: https://host[/path]
            webhooks[0].matchConditions[0].expression: Required value
            webhooks[0].matchConditions[0].name: Required value
            webhooks[0].admissionReviewVersions[1]: Invalid value: "v2": duplicate version
            webhooks[0].admissionReviewVersions: Invalid value: ["v2","v2"]: must include at least one of v1, v1beta1
            webhooks[1].name: Invalid value: "a.b": should be a domain with at least three segments separated by dots
            webhooks[1].sideEffects: Required value: must specify one of None, NoneOnDryRun
            webhooks[1].clientConfig: Required value: exactly one of url or service is required
            webhooks[1].admissionReviewVersions: Required value: must specify one of v1, v1beta1
            webhooks[1].name: Duplicate value: "a.b"
        "#]]
        .assert_eq(&causes(&VALIDATING_WEBHOOK_CONFIGURATIONS, wrong));
        assert_eq!(causes(&MUTATING_WEBHOOK_CONFIGURATIONS, GOOD), "");
    }

    #[test]
    fn defaults_are_filled_in_and_a_row_counts() {
        expect![[r#"
            metadata:
              name: a
            webhooks:
            - admissionReviewVersions:
              - v1
              clientConfig:
                service:
                  name: s
                  namespace: ns
                  path: /v1/check
                  port: 443
              failurePolicy: Fail
              matchPolicy: Equivalent
              name: a.example.com
              namespaceSelector: {}
              objectSelector: {}
              reinvocationPolicy: Never
              rules:
              - apiGroups:
                - ''
                apiVersions:
                - v1
                operations:
                - CREATE
                resources:
                - pods
                - pods/log
                scope: '*'
              sideEffects: None
              timeoutSeconds: 10
        "#]]
        .assert_eq(&created_yaml(&MUTATING_WEBHOOK_CONFIGURATIONS, GOOD));
        assert_eq!(row(&VALIDATING_WEBHOOK_CONFIGURATIONS, GOOD), "a | 1 | <unknown>");
    }
}
