//! `MutatingAdmissionPolicy` and `MutatingAdmissionPolicyBinding`, admissionregistration.k8s.io/v1. Their expressions are not read.
//!
//! **Source**: `pkg/apis/admissionregistration/validation/validation.go`, `pkg/apis/admissionregistration/v1/defaults.go`, v1.37.

use super::{
    admission_rules::{self as rules, FAILURE_POLICIES},
    json::{self, Errors},
    validating_admission_policy as policies,
};
use crate::api::{
    field::FieldError,
    json_kind::{JsonKind, Rules, at, default_at, text_at},
    kind::{KindInfo, Scope},
    object::Untyped,
    table::Column,
};
use serde_json::{Map, Value};

const CONSTRAINTS: &str = "spec.matchConstraints";
const RESOURCES: &str = "spec.matchResources";
/// What is deleted cannot be changed.
const OPERATIONS: &[&str] = &["*", "CONNECT", "CREATE", "UPDATE"];
const REINVOCATION: &[&str] = &["IfNeeded", "Never"];
const PATCH_TYPES: &[&str] = &["ApplyConfiguration", "JSONPatch"];

/// The kind `MutatingAdmissionPolicy`.
pub static MUTATING_ADMISSION_POLICIES: JsonKind = JsonKind::new(
    KindInfo {
        categories: &["api-extensions"],
        columns: &[
            Column::name(),
            Column::number("Mutations", "How many changes it makes."),
            Column::text("ParamKind", "The kind of its parameters."),
            Column::age(),
        ],
        ..KindInfo::of(
            ("admissionregistration.k8s.io", "v1", "MutatingAdmissionPolicy"),
            ("mutatingadmissionpolicies", "mutatingadmissionpolicy"),
            Scope::Cluster,
            "io.k8s.api.admissionregistration.v1.MutatingAdmissionPolicy",
        )
    },
    Rules {
        set_defaults,
        validate,
        warnings,
        row: |obj, now| policies::policy_row(obj, "spec.mutations", now),
        has_generation: true,
        ..Rules::PLAIN
    },
);

/// The kind `MutatingAdmissionPolicyBinding`.
pub static MUTATING_ADMISSION_POLICY_BINDINGS: JsonKind = JsonKind::new(
    KindInfo {
        categories: &["api-extensions"],
        columns: &[
            Column::name(),
            Column::text("PolicyName", "The policy."),
            Column::text("ParamRef", "Its parameters."),
            Column::age(),
        ],
        ..KindInfo::of(
            ("admissionregistration.k8s.io", "v1", "MutatingAdmissionPolicyBinding"),
            ("mutatingadmissionpolicybindings", "mutatingadmissionpolicybinding"),
            Scope::Cluster,
            "io.k8s.api.admissionregistration.v1.MutatingAdmissionPolicyBinding",
        )
    },
    Rules {
        set_defaults: |obj| policies::set_constraint_defaults(obj, RESOURCES),
        validate: validate_binding,
        warnings,
        row: policies::binding_row,
        has_generation: true,
        ..Rules::PLAIN
    },
);

fn warnings(_obj: &Untyped) -> Vec<String> {
    vec!["skiff evaluates no admission policies yet: this object is stored, its expressions are not checked, and no write is changed by it".to_owned()]
}

fn set_defaults(obj: &mut Untyped) {
    default_at(&mut obj.rest, "spec.failurePolicy", "Fail");
    policies::set_constraint_defaults(obj, CONSTRAINTS);
}

fn validate(obj: &Untyped) -> Errors {
    let mut errs = Errors::new();
    let fields = &obj.rest;
    json::one_of(&mut errs, fields, "spec.failurePolicy", FAILURE_POLICIES);
    if json::has(fields, "spec.paramKind") {
        policies::check_param_kind(&mut errs, fields);
    }
    if json::has(fields, CONSTRAINTS) {
        policies::check_constraints(&mut errs, fields, CONSTRAINTS);
        json::required(&mut errs, fields, "spec.matchConstraints.resourceRules");
        check_operations(&mut errs, fields, CONSTRAINTS);
    } else {
        errs.push(FieldError::required(CONSTRAINTS, ""));
    }
    if let Some(Value::Object(spec)) = fields.get("spec") {
        rules::check_conditions(&mut errs, spec, "spec");
        policies::check_variables(&mut errs, spec);
        check_mutations(&mut errs, spec);
    }
    let reinvocation = text_at(fields, "spec.reinvocationPolicy");
    if reinvocation.is_empty() {
        errs.push(FieldError::required("spec.reinvocationPolicy", ""));
    } else if !REINVOCATION.contains(&&*reinvocation) {
        errs.push(FieldError::not_supported("spec.reinvocationPolicy", reinvocation, REINVOCATION));
    }
    errs
}

/// Source: `validateMutatingAdmissionPolicySpec`, which names no index either.
fn check_operations(errs: &mut Errors, fields: &Map<String, Value>, constraints: &str) {
    let path = format!("{constraints}.resourceRules.operations");
    for rule in json::objects(fields, &format!("{constraints}.resourceRules")) {
        let wrong = json::texts(rule, "operations").filter(|operation| !OPERATIONS.contains(operation));
        errs.extend(wrong.map(|operation| FieldError::not_supported(&path, operation, OPERATIONS)));
    }
}

fn check_mutations(errs: &mut Errors, spec: &Map<String, Value>) {
    if json::items(spec, "mutations").is_empty() {
        errs.push(FieldError::required("spec.mutations", "mutations must contain at least one item"));
    }
    for (i, mutation) in json::objects(spec, "mutations").enumerate() {
        json::within(errs, &format!("spec.mutations[{i}]"), |errs| check_mutation(errs, mutation));
    }
}

/// Source: `validateMutation`.
fn check_mutation(errs: &mut Errors, mutation: &Map<String, Value>) {
    let patch_type = text_at(mutation, "patchType");
    let (wanted, other) = match &*patch_type {
        "" => return errs.push(FieldError::required("patchType", "")),
        "ApplyConfiguration" => ("applyConfiguration", "jsonPatch"),
        "JSONPatch" => ("jsonPatch", "applyConfiguration"),
        _ => return errs.push(FieldError::not_supported("patchType", patch_type, PATCH_TYPES)),
    };
    if at(mutation, wanted).is_none() {
        errs.push(FieldError::required(wanted, format!("must be specified when patchType is {patch_type}")));
    } else if text_at(mutation, &format!("{wanted}.expression")).trim().is_empty() {
        errs.push(FieldError::required(format!("{wanted}.expression"), ""));
    }
    if at(mutation, other).is_some() {
        let why = format!("must not be specified when patchType is {patch_type}");
        errs.push(FieldError::invalid(other, format!("{{{other}}}"), why));
    }
}

fn validate_binding(obj: &Untyped) -> Errors {
    let mut errs = Errors::new();
    policies::check_binding(&mut errs, &obj.rest);
    check_operations(&mut errs, &obj.rest, RESOURCES);
    errs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::kinds::testing::json::{causes, created_yaml, row};
    use expect_test::expect;

    const GOOD: &str = "
        metadata: {name: a}
        spec:
          paramKind: {apiVersion: v1, kind: ConfigMap}
          matchConstraints:
            resourceRules: [{operations: [CREATE], apiGroups: [''], apiVersions: [v1], resources: [pods]}]
          mutations: [{patchType: JSONPatch, jsonPatch: {expression: '[]'}}]
          reinvocationPolicy: Never";

    #[test]
    fn what_is_wrong_with_a_policy_is_named() {
        let of = |yaml: &str| causes(&MUTATING_ADMISSION_POLICIES, yaml);
        expect![[r#"
            spec.matchConstraints: Required value
            spec.mutations: Required value: mutations must contain at least one item
            spec.reinvocationPolicy: Required value
        "#]]
        .assert_eq(&of("spec: {}"));
        let wrong = "
            spec:
              failurePolicy: Maybe
              reinvocationPolicy: Always
              matchConstraints:
                resourceRules: [{operations: [DELETE], apiGroups: [''], apiVersions: [v1], resources: [pods]}]
              variables: [{name: '', expression: x}]
              mutations: [{}, {patchType: Both}, {patchType: JSONPatch, applyConfiguration: {expression: x}},
                {patchType: ApplyConfiguration, applyConfiguration: {expression: ' '}}]";
        expect![[r#"
            spec.failurePolicy: Unsupported value: "Maybe": supported values: "Fail", "Ignore"
            spec.matchConstraints.resourceRules.operations: Unsupported value: "DELETE": supported values: "*", "CONNECT", "CREATE", "UPDATE"
            spec.variables[0].name: Required value: name is not specified
            spec.mutations[0].patchType: Required value
            spec.mutations[1].patchType: Unsupported value: "Both": supported values: "ApplyConfiguration", "JSONPatch"
            spec.mutations[2].jsonPatch: Required value: must be specified when patchType is JSONPatch
            spec.mutations[2].applyConfiguration: Invalid value: "{applyConfiguration}": must not be specified when patchType is JSONPatch
            spec.mutations[3].applyConfiguration.expression: Required value
            spec.reinvocationPolicy: Unsupported value: "Always": supported values: "IfNeeded", "Never"
        "#]].assert_eq(&of(wrong));
        assert_eq!(of(GOOD), "");
    }

    #[test]
    fn what_is_wrong_with_a_binding_is_named() {
        let of = |yaml: &str| causes(&MUTATING_ADMISSION_POLICY_BINDINGS, yaml);
        let rule = "{operations: [DELETE], apiGroups: [''], apiVersions: [v1], resources: [pods]}";
        expect![[r#"
            spec.policyName: Required value
            spec.paramRef: Required value: one of name or selector must be specified
            spec.paramRef.parameterNotFoundAction: Required value
            spec.matchResources.resourceRules.operations: Unsupported value: "DELETE": supported values: "*", "CONNECT", "CREATE", "UPDATE"
        "#]].assert_eq(&of(&format!("spec: {{paramRef: {{}}, matchResources: {{resourceRules: [{rule}]}}}}")));
        assert_eq!(of("spec: {policyName: p}"), "");
    }

    #[test]
    fn defaults_are_filled_in_and_rows_read_as_in_kubernetes() {
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
                  - ''
                  apiVersions:
                  - v1
                  operations:
                  - CREATE
                  resources:
                  - pods
                  scope: '*'
              mutations:
              - jsonPatch:
                  expression: '[]'
                patchType: JSONPatch
              paramKind:
                apiVersion: v1
                kind: ConfigMap
              reinvocationPolicy: Never
        "#]]
        .assert_eq(&created_yaml(&MUTATING_ADMISSION_POLICIES, GOOD));
        assert_eq!(row(&MUTATING_ADMISSION_POLICIES, GOOD), "a | 1 | v1/ConfigMap | <unknown>");
        let binding = "metadata: {name: b}\nspec: {policyName: a, paramRef: {name: p, namespace: ns}}";
        assert_eq!(row(&MUTATING_ADMISSION_POLICY_BINDINGS, binding), "b | a | ns/p | <unknown>");
    }
}
