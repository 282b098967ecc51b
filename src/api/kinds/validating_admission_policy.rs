//! `ValidatingAdmissionPolicy` and `ValidatingAdmissionPolicyBinding`, admissionregistration.k8s.io/v1. Their expressions are not read.
//!
//! **Source**: `pkg/apis/admissionregistration/validation/validation.go`, `pkg/apis/admissionregistration/v1/defaults.go`, v1.37.

use super::{
    admission_rules::{self as rules, FAILURE_POLICIES},
    json::{self, Errors},
};
use crate::{
    api::{
        field::FieldError,
        json_kind::{JsonKind, Rules, default_at, text_at},
        kind::{KindInfo, STATUS, Scope},
        names,
        object::Untyped,
        table::{self, Column},
    },
    base::ordered::Set,
};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

const UNSET: &str = "<unset>";
const CONSTRAINTS: &str = "spec.matchConstraints";
const ACTIONS: &[&str] = &["Audit", "Deny", "Warn"];
const REASONS: &[&str] = &["Forbidden", "Invalid", "RequestEntityTooLarge"];
const AUDIT_ANNOTATIONS_MAX: usize = 20;

/// The kind `ValidatingAdmissionPolicy`.
pub static VALIDATING_ADMISSION_POLICIES: JsonKind = JsonKind::new(
    KindInfo {
        categories: &["api-extensions"],
        columns: &[
            Column::name(),
            Column::number("Validations", "How many expressions it has."),
            Column::text("ParamKind", "The kind of its parameters."),
            Column::age(),
        ],
        subresources: &[STATUS],
        ..KindInfo::of(
            ("admissionregistration.k8s.io", "v1", "ValidatingAdmissionPolicy"),
            ("validatingadmissionpolicies", "validatingadmissionpolicy"),
            Scope::Cluster,
            "io.k8s.api.admissionregistration.v1.ValidatingAdmissionPolicy",
        )
    },
    Rules { set_defaults, validate, warnings, row, has_generation: true, ..Rules::PLAIN },
);

/// The kind `ValidatingAdmissionPolicyBinding`.
pub static VALIDATING_ADMISSION_POLICY_BINDINGS: JsonKind = JsonKind::new(
    KindInfo {
        categories: &["api-extensions"],
        columns: &[
            Column::name(),
            Column::text("PolicyName", "The policy."),
            Column::text("ParamRef", "Its parameters."),
            Column::age(),
        ],
        ..KindInfo::of(
            ("admissionregistration.k8s.io", "v1", "ValidatingAdmissionPolicyBinding"),
            ("validatingadmissionpolicybindings", "validatingadmissionpolicybinding"),
            Scope::Cluster,
            "io.k8s.api.admissionregistration.v1.ValidatingAdmissionPolicyBinding",
        )
    },
    Rules {
        set_defaults: |obj| set_constraint_defaults(obj, "spec.matchResources"),
        validate: validate_binding,
        warnings,
        row: binding_row,
        has_generation: true,
        ..Rules::PLAIN
    },
);

fn warnings(_obj: &Untyped) -> Vec<String> {
    vec!["skiff evaluates no admission policies yet: this object is stored, its expressions are not checked, and no write is judged by it".to_owned()]
}

fn set_defaults(obj: &mut Untyped) {
    default_at(&mut obj.rest, "spec.failurePolicy", "Fail");
    set_constraint_defaults(obj, CONSTRAINTS);
}

/// Fills what says which requests a policy, or a binding, is about.
pub(super) fn set_constraint_defaults(obj: &mut Untyped, path: &str) {
    let constraints = obj.rest.get_mut("spec").and_then(|spec| spec.get_mut(path.strip_prefix("spec.")?));
    if let Some(Value::Object(constraints)) = constraints {
        rules::set_match_defaults(constraints);
        rules::set_rule_defaults(constraints, "resourceRules");
        rules::set_rule_defaults(constraints, "excludeResourceRules");
    }
}

/// What says which requests a policy, or a binding, is about.
pub(super) fn check_constraints(errs: &mut Errors, fields: &Map<String, Value>, path: &str) {
    if let Some(Value::Object(constraints)) = crate::api::json_kind::at(fields, path) {
        rules::check_match(errs, constraints, path);
        rules::check_rules(errs, constraints, path, "resourceRules");
        rules::check_rules(errs, constraints, path, "excludeResourceRules");
    }
}

fn validate(obj: &Untyped) -> Errors {
    let mut errs = Errors::new();
    let fields = &obj.rest;
    json::one_of(&mut errs, fields, "spec.failurePolicy", FAILURE_POLICIES);
    if json::has(fields, "spec.paramKind") {
        check_param_kind(&mut errs, fields);
    }
    if json::has(fields, CONSTRAINTS) {
        check_constraints(&mut errs, fields, CONSTRAINTS);
        json::required(&mut errs, fields, "spec.matchConstraints.resourceRules");
    } else {
        errs.push(FieldError::required(CONSTRAINTS, ""));
    }
    if let Some(Value::Object(spec)) = fields.get("spec") {
        rules::check_conditions(&mut errs, spec, "spec");
        check_expressions(&mut errs, spec);
    }
    errs
}

/// The kind of a policy's parameters. Source: `validateParamKind`.
pub(super) fn check_param_kind(errs: &mut Errors, fields: &Map<String, Value>) {
    let (api_version, kind) = (text_at(fields, "spec.paramKind.apiVersion"), text_at(fields, "spec.paramKind.kind"));
    let path = "spec.paramKind.apiVersion";
    let (group, version) = api_version.split_once('/').unwrap_or(("", &api_version));
    if api_version.is_empty() {
        errs.push(FieldError::required(path, ""));
    } else if version.contains('/') {
        let why = format!("unexpected GroupVersion string: {api_version}");
        errs.push(FieldError::invalid(path, &api_version, why));
    } else {
        if !group.is_empty() {
            json::subdomain(errs, path, group);
        }
        let wrong = names::dns1035_label(version);
        if version.is_empty() {
            errs.push(FieldError::invalid(path, &api_version, "version must be specified"));
        } else if !wrong.is_empty() {
            errs.push(FieldError::invalid(path, version, wrong.join(",")));
        }
    }
    let wrong = names::dns1035_label(&kind.to_lowercase());
    if kind.is_empty() {
        errs.push(FieldError::required("spec.paramKind.kind", ""));
    } else if !wrong.is_empty() {
        let why = format!("may have mixed case, but should otherwise match: {}", wrong.join(","));
        errs.push(FieldError::invalid("spec.paramKind.kind", kind, why));
    }
}

fn blank(object: &Map<String, Value>, field: &str) -> bool {
    text_at(object, field).trim().is_empty()
}

/// The variables of a policy's spec. What their expressions say is not read.
pub(super) fn check_variables(errs: &mut Errors, spec: &Map<String, Value>) {
    for (i, variable) in json::objects(spec, "variables").enumerate() {
        for field in ["name", "expression"] {
            if blank(variable, field) {
                errs.push(FieldError::required(
                    format!("spec.variables[{i}].{field}"),
                    format!("{field} is not specified"),
                ));
            }
        }
    }
}

fn check_expressions(errs: &mut Errors, spec: &Map<String, Value>) {
    check_variables(errs, spec);
    let annotations = json::items(spec, "auditAnnotations");
    if annotations.is_empty() && json::items(spec, "validations").is_empty() {
        let why = "validations or auditAnnotations must contain at least one item";
        errs.push(FieldError::required("spec.validations", why));
        errs.push(FieldError::required("spec.auditAnnotations", why));
    }
    for (i, validation) in json::objects(spec, "validations").enumerate() {
        check_validation(errs, validation, &format!("spec.validations[{i}]"));
    }
    if annotations.len() > AUDIT_ANNOTATIONS_MAX {
        let why = format!("must not have more than {AUDIT_ANNOTATIONS_MAX} auditAnnotations");
        errs.push(FieldError::invalid("spec.auditAnnotations", annotations, why));
    }
    let mut keys = Set::new();
    for (i, annotation) in json::objects(spec, "auditAnnotations").enumerate() {
        let (key, path) = (text_at(annotation, "key"), format!("spec.auditAnnotations[{i}]"));
        if blank(annotation, "valueExpression") {
            errs.push(FieldError::required(format!("{path}.valueExpression"), "valueExpression is not specified"));
        }
        if !keys.insert(key.clone()) {
            errs.push(FieldError::duplicate(format!("{path}.key"), key));
        }
    }
}

fn check_validation(errs: &mut Errors, validation: &Map<String, Value>, path: &str) {
    let text = |field| text_at(validation, field);
    if text("expression").trim().is_empty() {
        errs.push(FieldError::required(format!("{path}.expression"), "expression is not specified"));
    }
    let (expression, message) = (text("messageExpression"), text("message"));
    if !expression.is_empty() && expression.trim().is_empty() {
        let why = "must be non-empty if specified";
        errs.push(FieldError::invalid(format!("{path}.messageExpression"), expression, why));
    }
    if !message.is_empty() && message.trim().is_empty() {
        let why = "message must be non-empty if specified";
        errs.push(FieldError::invalid(format!("{path}.message"), message, why));
    } else if message.trim().contains('\n') {
        errs.push(FieldError::invalid(format!("{path}.message"), message, "message must not contain line breaks"));
    }
    json::within(errs, path, |errs| json::one_of(errs, validation, "reason", REASONS));
}

fn validate_binding(obj: &Untyped) -> Errors {
    let mut errs = Errors::new();
    let fields = &obj.rest;
    check_binding(&mut errs, fields);
    let (path, actions) = ("spec.validationActions", json::texts(fields, "spec.validationActions").collect::<Vec<_>>());
    let mut seen = Set::new();
    for (i, action) in actions.iter().enumerate() {
        let at = format!("{path}[{i}]");
        if !ACTIONS.contains(action) {
            errs.push(FieldError::not_supported(&at, action, ACTIONS));
        }
        if !seen.insert(action) {
            errs.push(FieldError::duplicate(at, action));
        }
    }
    if seen.contains(&"Deny") && seen.contains(&"Warn") {
        let why = "must not contain both Deny and Warn (repeating the same validation failure information in the API response and headers serves no purpose)";
        errs.push(FieldError::invalid(path, &actions, why));
    }
    if actions.is_empty() {
        errs.push(FieldError::required(path, "at least one validation action is required"));
    }
    errs
}

/// What bindings of both kinds have: the policy, its parameters, and the requests it is about.
pub(super) fn check_binding(errs: &mut Errors, fields: &Map<String, Value>) {
    match &*text_at(fields, "spec.policyName") {
        "" => errs.push(FieldError::required("spec.policyName", "")),
        name => json::subdomain(errs, "spec.policyName", name),
    }
    if json::has(fields, "spec.paramRef") {
        check_param_ref(errs, fields);
    }
    check_constraints(errs, fields, "spec.matchResources");
}

fn check_param_ref(errs: &mut Errors, fields: &Map<String, Value>) {
    let path = "spec.paramRef";
    let has_name = !text_at(fields, "spec.paramRef.name").is_empty();
    match (has_name, json::has(fields, "spec.paramRef.selector")) {
        (false, false) => errs.push(FieldError::required(path, "one of name or selector must be specified")),
        (true, true) => {
            let why = "name and selector are mutually exclusive";
            errs.push(FieldError::forbidden("spec.paramRef.name", why));
        }
        (true, false) | (false, true) => json::label_selector(errs, fields, "spec.paramRef.selector"),
    }
    let (action, path) =
        (text_at(fields, "spec.paramRef.parameterNotFoundAction"), "spec.paramRef.parameterNotFoundAction");
    if action.is_empty() {
        errs.push(FieldError::required(path, ""));
    } else if !matches!(&*action, "Allow" | "Deny") {
        errs.push(FieldError::not_supported(path, action, &["Deny", "Allow"]));
    }
}

fn row(obj: &Untyped, now: Timestamp) -> Vec<Value> {
    policy_row(obj, "spec.validations", now)
}

/// The row of a policy: how many items its list has, and the kind of its parameters.
pub(super) fn policy_row(obj: &Untyped, list: &str, now: Timestamp) -> Vec<Value> {
    let text = |field: &str| text_at(&obj.rest, &format!("spec.paramKind.{field}"));
    let has_param = json::has(&obj.rest, "spec.paramKind");
    let param = if has_param { format!("{}/{}", text("apiVersion"), text("kind")) } else { UNSET.to_owned() };
    vec![
        table::name(&obj.metadata),
        json!(json::items(&obj.rest, list).len()),
        json!(param),
        table::age(&obj.metadata, now),
    ]
}

/// The row of a binding: its policy, and its parameters.
pub(super) fn binding_row(obj: &Untyped, now: Timestamp) -> Vec<Value> {
    let text = |field: &str| text_at(&obj.rest, &format!("spec.{field}"));
    let param = match (json::has(&obj.rest, "spec.paramRef"), &*text("paramRef.namespace"), text("paramRef.name")) {
        (false, ..) => UNSET.to_owned(),
        (true, "", name) => name,
        (true, namespace, name) => format!("{namespace}/{name}"),
    };
    vec![table::name(&obj.metadata), json!(text("policyName")), json!(param), table::age(&obj.metadata, now)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::kinds::testing::json::{causes, created_yaml, row};
    use expect_test::expect;

    #[test]
    fn what_is_wrong_with_a_policy_is_named() {
        let of = |yaml: &str| causes(&VALIDATING_ADMISSION_POLICIES, yaml);
        expect![[r#"
            spec.matchConstraints: Required value
            spec.validations: Required value: validations or auditAnnotations must contain at least one item
            spec.auditAnnotations: Required value: validations or auditAnnotations must contain at least one item
        "#]]
        .assert_eq(&of("spec: {}"));
        let wrong = "
            spec:
              failurePolicy: Maybe
              paramKind: {apiVersion: a/b/c, kind: '7'}
              matchConstraints: {resourceRules: []}
              variables: [{name: '', expression: x}]
              validations: [{expression: ' ', message: \"a\\nb\", reason: Because}]";
        expect![[r#"
            spec.failurePolicy: Unsupported value: "Maybe": supported values: "Fail", "Ignore"
            spec.paramKind.apiVersion: Invalid value: "a/b/c": unexpected GroupVersion string: a/b/c
            spec.paramKind.kind: Invalid value: "7": may have mixed case, but should otherwise match: a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')
            spec.matchConstraints.resourceRules: Required value
            spec.variables[0].name: Required value: name is not specified
            spec.validations[0].expression: Required value: expression is not specified
            spec.validations[0].message: Invalid value: "a\nb": message must not contain line breaks
            spec.validations[0].reason: Unsupported value: "Because": supported values: "Forbidden", "Invalid", "RequestEntityTooLarge"
        "#]]
        .assert_eq(&of(wrong));
    }

    #[test]
    fn what_is_wrong_with_a_binding_is_named() {
        let of = |yaml: &str| causes(&VALIDATING_ADMISSION_POLICY_BINDINGS, yaml);
        expect![[r#"
            spec.policyName: Required value
            spec.paramRef: Required value: one of name or selector must be specified
            spec.paramRef.parameterNotFoundAction: Required value
            spec.validationActions[2]: Duplicate value: "Deny"
            spec.validationActions: Invalid value: ["Deny","Warn","Deny"]: must not contain both Deny and Warn (repeating the same validation failure information in the API response and headers serves no purpose)
        "#]]
        .assert_eq(&of("spec: {paramRef: {}, validationActions: [Deny, Warn, Deny]}"));
        assert_eq!(of("spec: {policyName: p, validationActions: [Deny]}"), "");
    }

    #[test]
    fn defaults_are_filled_in_and_rows_read_as_in_kubernetes() {
        let policy = "
            metadata: {name: a}
            spec:
              paramKind: {apiVersion: v1, kind: ConfigMap}
              matchConstraints: {resourceRules: [{operations: [CREATE], apiGroups: [apps], apiVersions: [v1], resources: [deployments]}]}
              validations: [{expression: 'true'}]";
        expect![[r#"
            metadata:
              name: a
            spec:
              failurePolicy: Fail
              matchConstraints:
                matchPolicy: Equivalent
                namespaceSelector: {}
                objectSelector: {}
                resourceRules:
                - apiGroups:
                  - apps
                  apiVersions:
                  - v1
                  operations:
                  - CREATE
                  resources:
                  - deployments
                  scope: '*'
              paramKind:
                apiVersion: v1
                kind: ConfigMap
              validations:
              - expression: 'true'
            status: {}
        "#]]
        .assert_eq(&created_yaml(&VALIDATING_ADMISSION_POLICIES, policy));
        assert_eq!(row(&VALIDATING_ADMISSION_POLICIES, policy), "a | 1 | v1/ConfigMap | <unknown>");
        let binding = "metadata: {name: b}\nspec: {policyName: a, validationActions: [Warn]}";
        assert_eq!(row(&VALIDATING_ADMISSION_POLICY_BINDINGS, binding), "b | a | <unset> | <unknown>");
    }
}
