//! `FlowSchema`, flowcontrol.apiserver.k8s.io/v1.
//!
//! **Source**: `pkg/apis/flowcontrol/validation/validation.go`, `pkg/apis/flowcontrol/v1/defaults.go`, and for those of every cluster
//! `k8s.io/apiserver/pkg/apis/flowcontrol/bootstrap/default.go`, v1.37.

use super::{
    json::{self, Errors},
    priority_level_configuration::{self, is_fixed},
};
use crate::api::{
    field::FieldError,
    json_kind::{JsonKind, Rules, at, set_at, text_at},
    kind::{KindInfo, STATUS, Scope},
    names,
    object::Untyped,
    table::{self, Column},
};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

const PRECEDENCE: &str = "spec.matchingPrecedence";
const PRECEDENCE_MAX: i64 = 10_000;
const PRECEDENCE_DEFAULT: i64 = 1000;
const LEVEL: &str = "spec.priorityLevelConfiguration.name";
/// The schema of requests that wait for nothing.
const EXEMPT: &str = "exempt";

const VERBS: &[&str] = &["create", "delete", "deletecollection", "get", "list", "patch", "proxy", "update", "watch"];

/// The kind `FlowSchema`.
pub static FLOW_SCHEMAS: JsonKind = JsonKind::new(
    KindInfo {
        columns: &[
            Column::name(),
            Column::text("PriorityLevel", "The level of its requests."),
            Column::number("MatchingPrecedence", "Which schema is asked first: the lowest."),
            Column::text("DistinguisherMethod", "What makes flows of its requests."),
            Column::age(),
            Column::text("MissingPL", "Whether the level is missing."),
        ],
        subresources: &[STATUS],
        ..KindInfo::of(
            ("flowcontrol.apiserver.k8s.io", "v1", "FlowSchema"),
            ("flowschemas", "flowschema"),
            Scope::Cluster,
            "io.k8s.api.flowcontrol.v1.FlowSchema",
        )
    },
    Rules {
        set_defaults,
        validate,
        warnings: priority_level_configuration::warnings,
        row,
        has_generation: true,
        ..Rules::PLAIN
    },
);

/// The schemas of every cluster.
pub fn mandatory() -> [Value; 2] {
    let subjects = |groups: &[&str]| -> Vec<Value> {
        groups.iter().map(|name| json!({ "kind": "Group", "group": { "name": name } })).collect()
    };
    let all = |groups: &[&str]| {
        json!([{
            "subjects": subjects(groups),
            "resourceRules": [{ "verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "clusterScope": true, "namespaces": ["*"] }],
            "nonResourceRules": [{ "verbs": ["*"], "nonResourceURLs": ["*"] }],
        }])
    };
    [
        json!({
            "metadata": { "name": EXEMPT },
            "spec": {
                "priorityLevelConfiguration": { "name": EXEMPT }, "matchingPrecedence": 1, "rules": all(&["system:masters"]),
            },
        }),
        json!({
            "metadata": { "name": "catch-all" },
            "spec": {
                "priorityLevelConfiguration": { "name": "catch-all" }, "matchingPrecedence": PRECEDENCE_MAX,
                "distinguisherMethod": { "type": "ByUser" },
                "rules": all(&["system:unauthenticated", "system:authenticated"]),
            },
        }),
    ]
}

fn set_defaults(obj: &mut Untyped) {
    if precedence(obj) == 0 {
        set_at(&mut obj.rest, PRECEDENCE, json!(PRECEDENCE_DEFAULT));
    }
    for rule in json::objects_mut(&mut obj.rest, "spec.rules") {
        for resource_rule in json::objects_mut(rule, "resourceRules") {
            // Kubernetes writes it only when it is true.
            if !json::is_true(resource_rule, "clusterScope") {
                resource_rule.remove("clusterScope");
            }
        }
    }
}

fn precedence(obj: &Untyped) -> i64 {
    at(&obj.rest, PRECEDENCE).and_then(Value::as_i64).unwrap_or(0)
}

fn validate(obj: &Untyped) -> Errors {
    let mut errs = Errors::new();
    let (fields, name, precedence) = (&obj.rest, obj.metadata.name.as_deref().unwrap_or_default(), precedence(obj));
    if precedence <= 0 {
        errs.push(FieldError::invalid(PRECEDENCE, precedence, "must be a positive value"));
    }
    if precedence > PRECEDENCE_MAX {
        errs.push(FieldError::invalid(PRECEDENCE, precedence, format!("must not be greater than {PRECEDENCE_MAX}")));
    }
    if precedence == 1 && name != EXEMPT {
        let why = "only the schema named 'exempt' may have matchingPrecedence 1";
        errs.push(FieldError::invalid(PRECEDENCE, precedence, why));
    }
    let methods = &["ByNamespace", "ByUser"];
    json::one_of(&mut errs, fields, "spec.distinguisherMethod.type", methods);
    match &*text_at(fields, LEVEL) {
        "" => errs.push(FieldError::required(LEVEL, "must reference a priority level")),
        level => json::subdomain(&mut errs, LEVEL, level),
    }
    for (i, rule) in json::objects(fields, "spec.rules").enumerate() {
        check_rule(&mut errs, rule, &format!("spec.rules[{i}]"));
    }
    errs.extend(is_fixed(obj, &mandatory()));
    errs
}

fn check_rule(errs: &mut Errors, rule: &Map<String, Value>, path: &str) {
    if json::items(rule, "subjects").is_empty() {
        errs.push(FieldError::required(format!("{path}.subjects"), "subjects must contain at least one value"));
    }
    for (i, subject) in json::objects(rule, "subjects").enumerate() {
        check_subject(errs, subject, &format!("{path}.subjects[{i}]"));
    }
    if json::items(rule, "resourceRules").is_empty() && json::items(rule, "nonResourceRules").is_empty() {
        let why = "at least one of resourceRules and nonResourceRules has to be non-empty";
        errs.push(FieldError::required(path, why));
    }
    for (i, of) in json::objects(rule, "resourceRules").enumerate() {
        check_resource_rule(errs, of, &format!("{path}.resourceRules[{i}]"));
    }
    for (i, of) in json::objects(rule, "nonResourceRules").enumerate() {
        let path = format!("{path}.nonResourceRules[{i}]");
        check_verbs(errs, of, &path);
        let why = "nonResourceURLs must contain at least one value";
        some_or_all(errs, of, &path, "nonResourceURLs", ("non-resource URLs", why));
    }
}

/// Which field each kind of subject has.
const SUBJECTS: &[(&str, &str)] = &[("Group", "group"), ("ServiceAccount", "serviceAccount"), ("User", "user")];

fn check_subject(errs: &mut Errors, subject: &Map<String, Value>, path: &str) {
    let kind = text_at(subject, "kind");
    let Some((_, own)) = SUBJECTS.iter().find(|(of, _)| **of == *kind) else {
        return errs.push(FieldError::not_supported(
            format!("{path}.kind"),
            kind,
            &SUBJECTS.iter().map(|s| s.0).collect::<Vec<_>>(),
        ));
    };
    if json::has(subject, own) {
        json::within(errs, path, |errs| json::required(errs, subject, &format!("{own}.name")));
        if kind == "ServiceAccount" && text_at(subject, "serviceAccount.namespace").is_empty() {
            let why = "must specify namespace for service account";
            errs.push(FieldError::required(format!("{path}.serviceAccount.namespace"), why));
        }
    } else {
        errs.push(FieldError::required(
            format!("{path}.{own}"),
            format!("{own} is required when subject kind is '{kind}'"),
        ));
    }
    for (other, field) in SUBJECTS.iter().filter(|(other, field)| **other != *kind && json::has(subject, field)) {
        let why = format!("{field} is forbidden when subject kind is not '{other}'");
        errs.push(FieldError::forbidden(format!("{path}.{field}"), why));
    }
}

fn check_resource_rule(errs: &mut Errors, rule: &Map<String, Value>, path: &str) {
    check_verbs(errs, rule, path);
    some_or_all(errs, rule, path, "apiGroups", ("api groups", "resource rules must supply at least one api group"));
    some_or_all(errs, rule, path, "resources", ("resources", "resource rules must supply at least one resource"));
    let namespaces: Vec<&str> = json::texts(rule, "namespaces").collect();
    let path = format!("{path}.namespaces");
    if namespaces.is_empty() && !json::is_true(rule, "clusterScope") {
        let why = "resource rules that are not cluster scoped must supply at least one namespace";
        errs.push(FieldError::required(path, why));
    } else if namespaces.contains(&"*") {
        if namespaces.len() > 1 {
            errs.push(FieldError::invalid(path, &namespaces, "if '*' is present, must not specify other namespaces"));
        }
    } else {
        for (i, namespace) in namespaces.iter().enumerate() {
            let wrong = names::dns1123_label(namespace).into_iter();
            errs.extend(wrong.map(|why| {
                let why = format!("each member of this list must be '*' or a DNS-1123 label; {why}");
                FieldError::invalid(format!("{path}[{i}]"), namespace, why)
            }));
        }
    }
}

fn check_verbs(errs: &mut Errors, rule: &Map<String, Value>, path: &str) {
    let verbs: Vec<&str> = json::texts(rule, "verbs").collect();
    some_or_all(errs, rule, path, "verbs", ("verbs", "verbs must contain at least one value"));
    if !verbs.contains(&"*") && verbs.iter().any(|verb| !VERBS.contains(verb)) {
        errs.push(FieldError::not_supported(format!("{path}.verbs"), &verbs, VERBS));
    }
}

/// A list that is not empty, and that is `*` alone where it has one.
fn some_or_all(errs: &mut Errors, rule: &Map<String, Value>, path: &str, field: &str, (what, empty): (&str, &str)) {
    let items: Vec<&str> = json::texts(rule, field).collect();
    let path = format!("{path}.{field}");
    if items.is_empty() {
        errs.push(FieldError::required(path, empty));
    } else if items.len() > 1 && items.contains(&"*") {
        errs.push(FieldError::invalid(path, &items, format!("if '*' is present, must not specify other {what}")));
    }
}

fn row(obj: &Untyped, now: Timestamp) -> Vec<Value> {
    let dangling = json::objects(&obj.rest, "status.conditions").find(|c| text_at(c, "type") == "Dangling");
    vec![
        table::name(&obj.metadata),
        json!(text_at(&obj.rest, LEVEL)),
        json!(precedence(obj)),
        json::or_none(&obj.rest, "spec.distinguisherMethod.type"),
        table::age(&obj.metadata, now),
        json!(dangling.map_or_else(|| "?".to_owned(), |condition| text_at(condition, "status"))),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::kinds::testing::json::{causes, row};
    use expect_test::expect;

    #[test]
    fn what_is_wrong_is_named() {
        let wrong = "
            metadata: {name: a}
            spec:
              matchingPrecedence: 1
              distinguisherMethod: {type: ByLuck}
              rules:
              - {subjects: []}
              - subjects: [{kind: Robot}, {kind: User, group: {name: g}}, {kind: ServiceAccount, serviceAccount: {name: s}}]
                resourceRules: [{verbs: [eat], apiGroups: ['*', x], resources: [], namespaces: [A]}]
                nonResourceRules: [{verbs: ['*', get], nonResourceURLs: []}]";
        expect![[r#"
            spec.matchingPrecedence: Invalid value: 1: only the schema named 'exempt' may have matchingPrecedence 1
            spec.distinguisherMethod.type: Unsupported value: "ByLuck": supported values: "ByNamespace", "ByUser"
            spec.priorityLevelConfiguration.name: Required value: must reference a priority level
            spec.rules[0].subjects: Required value: subjects must contain at least one value
            spec.rules[0]: Required value: at least one of resourceRules and nonResourceRules has to be non-empty
            spec.rules[1].subjects[0].kind: Unsupported value: "Robot": supported values: "Group", "ServiceAccount", "User"
            spec.rules[1].subjects[1].user: Required value: user is required when subject kind is 'User'
            spec.rules[1].subjects[1].group: Forbidden: group is forbidden when subject kind is not 'Group'
            spec.rules[1].subjects[2].serviceAccount.namespace: Required value: must specify namespace for service account
            spec.rules[1].resourceRules[0].verbs: Unsupported value: ["eat"]: supported values: "create", "delete", "deletecollection", "get", "list", "patch", "proxy", "update", "watch"
            spec.rules[1].resourceRules[0].apiGroups: Invalid value: ["*","x"]: if '*' is present, must not specify other api groups
            spec.rules[1].resourceRules[0].resources: Required value: resource rules must supply at least one resource
            spec.rules[1].resourceRules[0].namespaces[0]: Invalid value: "A": each member of this list must be '*' or a DNS-1123 label; a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')
            spec.rules[1].nonResourceRules[0].verbs: Invalid value: ["*","get"]: if '*' is present, must not specify other verbs
            spec.rules[1].nonResourceRules[0].nonResourceURLs: Required value: nonResourceURLs must contain at least one value
        "#]]
        .assert_eq(&causes(&FLOW_SCHEMAS, wrong));
    }

    #[test]
    fn those_of_every_cluster_are_right_and_cannot_be_changed() {
        for schema in mandatory() {
            assert_eq!(causes(&FLOW_SCHEMAS, &schema.to_string()), "", "{schema}");
        }
        let changed =
            "metadata: {name: catch-all}\nspec: {matchingPrecedence: 7, priorityLevelConfiguration: {name: x}}";
        let causes = causes(&FLOW_SCHEMAS, changed);
        assert!(causes.ends_with("spec of 'catch-all' must equal the fixed value\n"), "{causes}");
    }

    #[test]
    fn a_row_reads_as_in_kubernetes() {
        let schema = "metadata: {name: a}\nspec: {matchingPrecedence: 7, priorityLevelConfiguration: {name: p}}";
        assert_eq!(row(&FLOW_SCHEMAS, schema), "a | p | 7 | <none> | <unknown> | ?");
    }
}
