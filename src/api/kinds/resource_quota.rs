//! `ResourceQuota`, core/v1.
//!
//! **Source**: `pkg/apis/core/validation/validation.go` (`ValidateResourceQuota`), `printResourceQuota` in printers.go, v1.37.

use super::json::{self, Errors};
use crate::api::{
    field::FieldError,
    json_kind::{JsonKind, Rules, at, text_at},
    kind::{KindInfo, STATUS, Scope},
    names,
    object::Untyped,
    quantity::Quantity,
    table::{self, Column},
};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

/// The names that need no domain. **Source**: `standardQuotaResources`, pkg/apis/core/helper/helpers.go.
const PLAIN_NAMES: [&str; 19] = [
    "configmaps",
    "cpu",
    "ephemeral-storage",
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "memory",
    "persistentvolumeclaims",
    "pods",
    "replicationcontrollers",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
    "requests.storage",
    "resourcequotas",
    "secrets",
    "services",
    "services.loadbalancers",
    "services.nodeports",
];
/// Those that are numbers of objects.
const NUMBERS: [&str; 9] = [
    "configmaps",
    "persistentvolumeclaims",
    "pods",
    "replicationcontrollers",
    "resourcequotas",
    "secrets",
    "services",
    "services.loadbalancers",
    "services.nodeports",
];
const COMPUTE: &[&str] = &["cpu", "limits.cpu", "limits.memory", "memory", "pods", "requests.cpu", "requests.memory"];
/// The scopes, and the plain names that each goes with.
const SCOPES: [(&str, &[&str]); 7] = [
    ("BestEffort", &["pods"]),
    ("CrossNamespacePodAffinity", COMPUTE),
    ("NotBestEffort", COMPUTE),
    ("NotTerminating", COMPUTE),
    ("PriorityClass", COMPUTE),
    ("Terminating", COMPUTE),
    ("VolumeAttributesClass", &["persistentvolumeclaims", "requests.storage"]),
];
/// Those that have no values to compare with.
const PLAIN_SCOPES: [&str; 5] =
    ["BestEffort", "CrossNamespacePodAffinity", "NotBestEffort", "NotTerminating", "Terminating"];
const CONFLICTING: [[&str; 2]; 2] = [["BestEffort", "NotBestEffort"], ["NotTerminating", "Terminating"]];

/// The kind `ResourceQuota`.
pub static RESOURCE_QUOTAS: JsonKind = JsonKind::new(
    KindInfo {
        short_names: &["quota"],
        subresources: &[STATUS],
        columns: &[
            Column::name(),
            Column::text("Request", "What may be requested, and what is."),
            Column::text("Limit", "What may be set as limits, and what is."),
            Column::age(),
        ],
        ..KindInfo::of(
            ("", "v1", "ResourceQuota"),
            ("resourcequotas", "resourcequota"),
            Scope::Namespaced,
            "io.k8s.api.core.v1.ResourceQuota",
        )
    },
    Rules {
        validate,
        validate_update: |new, old| json::immutable(&new.rest, &old.rest, "spec.scopes", "field is immutable"),
        row,
        ..Rules::PLAIN
    },
);

fn validate(obj: &Untyped) -> Errors {
    let mut errs = Errors::new();
    let hard = at(&obj.rest, "spec.hard").and_then(Value::as_object);
    for (name, amount) in hard.into_iter().flatten() {
        check_limit(&mut errs, name, amount);
    }
    let limited: Vec<&str> = hard.into_iter().flatten().map(|(name, _)| name.as_str()).collect();
    check_scopes(&mut errs, obj, &limited);
    for (i, expression) in json::objects(&obj.rest, "spec.scopeSelector.matchExpressions").enumerate() {
        check_expression(&mut errs, obj, expression, &limited, i);
    }
    errs
}

fn check_limit(errs: &mut Errors, name: &str, amount: &Value) {
    let path = format!("spec.hard[{name}]");
    errs.extend(names::qualified_name(name).into_iter().map(|why| FieldError::invalid(&path, name, why)));
    let is_huge = name.strip_prefix("requests.").unwrap_or(name).starts_with("hugepages-");
    if !name.contains('/') && !is_huge && !PLAIN_NAMES.contains(&name) {
        errs.push(FieldError::invalid(&path, name, "must be a standard resource for quota"));
    }
    match amount.as_str().and_then(|text| Quantity::parse(text).ok()) {
        Some(amount) if !amount.is_negative() => {
            if NUMBERS.contains(&name) && !amount.is_whole() {
                errs.push(FieldError::invalid(path, amount.to_string(), "must be an integer"));
            }
        }
        _ => errs.push(FieldError::invalid(path, amount, "must be greater than or equal to 0")),
    }
}

/// Whether there is such a scope, and whether each limited name that needs no domain goes with it.
fn scope(name: &str, limited: &[&str]) -> (bool, bool) {
    let with = SCOPES.iter().find(|(scope, _)| *scope == name).map(|(_, with)| *with);
    let fits =
        limited.iter().filter(|of| PLAIN_NAMES.contains(of)).all(|of| with.is_some_and(|with| with.contains(of)));
    (with.is_some(), fits)
}

/// **Source**: `validateResourceQuotaScopes`.
fn check_scopes(errs: &mut Errors, obj: &Untyped, limited: &[&str]) {
    let scopes: Vec<&str> = json::texts(&obj.rest, "spec.scopes").collect();
    let mut wrong = |why| errs.push(FieldError::invalid("spec.scopes", json!(scopes), why));
    for name in &scopes {
        let (exists, fits) = scope(name, limited);
        if !exists {
            wrong("unsupported scope");
        } else if !fits {
            wrong("unsupported scope applied to resource");
        }
    }
    if CONFLICTING.iter().any(|pair| pair.iter().all(|name| scopes.contains(name))) {
        wrong("conflicting scopes");
    }
}

/// **Source**: `validateScopedResourceSelectorRequirement`.
fn check_expression(errs: &mut Errors, obj: &Untyped, expression: &Map<String, Value>, limited: &[&str], i: usize) {
    let path = format!("spec.scopeSelector.matchExpressions[{i}]");
    let (name, operator) = (text_at(expression, "scopeName"), text_at(expression, "operator"));
    let n_values = json::items(expression, "values").len();
    let (exists, fits) = scope(&name, limited);
    if !exists {
        errs.push(FieldError::invalid(format!("{path}.scopeName"), &name, "unsupported scope"));
    } else if !fits {
        let selector = at(&obj.rest, "spec.scopeSelector").cloned().unwrap_or_default();
        errs.push(FieldError::invalid("spec.scopeSelector", selector, "unsupported scope applied to resource"));
    }
    if PLAIN_SCOPES.contains(&name.as_str()) && operator != "Exists" {
        let why = "must be 'Exist' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, \
                   ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity";
        errs.push(FieldError::invalid(format!("{path}.operator"), &operator, why));
    }
    match operator.as_str() {
        "In" | "NotIn" if n_values == 0 => {
            let why = "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector";
            errs.push(FieldError::required(format!("{path}.values"), why));
        }
        "Exists" | "DoesNotExist" if n_values > 0 => {
            let values = at(expression, "values").cloned().unwrap_or_default();
            let why = "must be no value when `operator` is 'Exists' or 'DoesNotExist' for scope selector";
            errs.push(FieldError::invalid(format!("{path}.values"), values, why));
        }
        "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
        _ => errs.push(FieldError::invalid(format!("{path}.operator"), &operator, "not a valid selector operator")),
    }
}

fn row(obj: &Untyped, now: Timestamp) -> Vec<Value> {
    let hard = at(&obj.rest, "status.hard").and_then(Value::as_object);
    let used = |name: &str| {
        at(&obj.rest, "status.used").and_then(|u| u.get(name)).and_then(Value::as_str).unwrap_or("0").to_owned()
    };
    let cell = |is_limit: bool| {
        let of = hard.into_iter().flatten().filter(|(name, _)| name.starts_with("limits.") == is_limit);
        let parts = of.map(|(name, amount)| format!("{name}: {}/{}", used(name), amount.as_str().unwrap_or_default()));
        json!(parts.collect::<Vec<_>>().join(", "))
    };
    vec![table::name(&obj.metadata), cell(false), cell(true), table::age(&obj.metadata, now)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::kinds::testing::json::{causes, row};
    use expect_test::expect;

    #[test]
    fn what_is_wrong_is_named() {
        assert_eq!(
            causes(&RESOURCE_QUOTAS, "spec: {hard: {pods: '4', requests.cpu: '1'}, scopes: [NotBestEffort]}"),
            ""
        );
        assert_eq!(causes(&RESOURCE_QUOTAS, "spec: {hard: {count/widgets.example.com: '4', a/b: '1'}}"), "");
        expect![[r#"
            spec.hard[a b]: Invalid value: "a b": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')
            spec.hard[a b]: Invalid value: "a b": must be a standard resource for quota
            spec.hard[mine]: Invalid value: "mine": must be a standard resource for quota
            spec.hard[pods]: Invalid value: "-1": must be greater than or equal to 0
            spec.hard[services]: Invalid value: "500m": must be an integer
            spec.scopes: Invalid value: ["Mine","BestEffort","NotBestEffort"]: unsupported scope
            spec.scopes: Invalid value: ["Mine","BestEffort","NotBestEffort"]: unsupported scope applied to resource
            spec.scopes: Invalid value: ["Mine","BestEffort","NotBestEffort"]: unsupported scope applied to resource
            spec.scopes: Invalid value: ["Mine","BestEffort","NotBestEffort"]: conflicting scopes
        "#]].assert_eq(&causes(
            &RESOURCE_QUOTAS,
            "spec: {hard: {'a b': '1', pods: '-1', services: 500m, mine: 1}, scopes: [Mine, BestEffort, NotBestEffort]}",
        ));
        let selector = "spec: {hard: {pods: 1}, scopeSelector: {matchExpressions: [
            {scopeName: PriorityClass, operator: In}, {scopeName: Terminating, operator: NotIn, values: [a]},
            {scopeName: VolumeAttributesClass, operator: Exists, values: [a]}, {scopeName: PriorityClass, operator: Is}]}}";
        expect![[r#"
            spec.scopeSelector.matchExpressions[0].values: Required value: must be at least one value when `operator` is 'In' or 'NotIn' for scope selector
            spec.scopeSelector.matchExpressions[1].operator: Invalid value: "NotIn": must be 'Exist' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity
            spec.scopeSelector: Invalid value: {"matchExpressions":[{"operator":"In","scopeName":"PriorityClass"},{"operator":"NotIn","scopeName":"Terminating","values":["a"]},{"operator":"Exists","scopeName":"VolumeAttributesClass","values":["a"]},{"operator":"Is","scopeName":"PriorityClass"}]}: unsupported scope applied to resource
            spec.scopeSelector.matchExpressions[2].values: Invalid value: ["a"]: must be no value when `operator` is 'Exists' or 'DoesNotExist' for scope selector
            spec.scopeSelector.matchExpressions[3].operator: Invalid value: "Is": not a valid selector operator
        "#]].assert_eq(&causes(&RESOURCE_QUOTAS, selector));
    }

    #[test]
    fn a_row_reads_as_in_kubernetes() {
        let quota = "metadata: {name: q}\nstatus: {hard: {limits.cpu: '2', pods: '4'}, used: {pods: '1'}}";
        assert_eq!(row(&RESOURCE_QUOTAS, quota), "q | pods: 1/4 | limits.cpu: 0/2 | <unknown>");
    }
}
