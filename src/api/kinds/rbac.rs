//! `Role`, `ClusterRole`, `RoleBinding` and `ClusterRoleBinding`, rbac.authorization.k8s.io/v1.
//!
//! **Source**: `pkg/apis/rbac/validation/validation.go`, `pkg/apis/rbac/v1/defaults.go`, v1.37.

use super::json::{self, Errors};
use crate::api::{
    field::FieldError,
    json_kind::{JsonKind, Rules, set_at, text_at},
    kind::{KindInfo, Scope},
    names,
    object::Untyped,
    table::{self, Column},
};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

const GROUP: &str = "rbac.authorization.k8s.io";
const ROLE_COLUMNS: &[Column<'static>] =
    &[Column::name(), Column { kind: "date", ..Column::text("Created At", "When the object was created.") }];
const BINDING_COLUMNS: &[Column<'static>] = &[
    Column::name(),
    Column::text("Role", "The role that is granted."),
    Column::age(),
    Column::text("Users", "The users that are granted it.").wide(),
    Column::text("Groups", "The groups that are granted it.").wide(),
    Column::text("ServiceAccounts", "The service accounts that are granted it.").wide(),
];
const ROLE_RULES: Rules = Rules {
    validate: |obj| rules(&obj.rest, true),
    row: created_at,
    validate_name: names::path_segment,
    creates_on_update: true,
    ..Rules::PLAIN
};

/// The kind `Role`.
pub static ROLES: JsonKind = JsonKind::new(
    KindInfo {
        columns: ROLE_COLUMNS,
        ..KindInfo::of((GROUP, "v1", "Role"), ("roles", "role"), Scope::Namespaced, "io.k8s.api.rbac.v1.Role")
    },
    ROLE_RULES,
);

/// The kind `ClusterRole`.
pub static CLUSTER_ROLES: JsonKind = JsonKind::new(
    KindInfo {
        columns: ROLE_COLUMNS,
        ..KindInfo::of(
            (GROUP, "v1", "ClusterRole"),
            ("clusterroles", "clusterrole"),
            Scope::Cluster,
            "io.k8s.api.rbac.v1.ClusterRole",
        )
    },
    Rules { validate: cluster_role, ..ROLE_RULES },
);

const BINDING_RULES: Rules = Rules {
    set_defaults: binding_defaults,
    validate: |obj| binding(&obj.rest, true),
    validate_update: |new, old| json::immutable(&new.rest, &old.rest, "roleRef", "cannot change roleRef"),
    row: binding_row,
    ..ROLE_RULES
};

/// The kind `RoleBinding`.
pub static ROLE_BINDINGS: JsonKind = JsonKind::new(
    KindInfo {
        columns: BINDING_COLUMNS,
        ..KindInfo::of(
            (GROUP, "v1", "RoleBinding"),
            ("rolebindings", "rolebinding"),
            Scope::Namespaced,
            "io.k8s.api.rbac.v1.RoleBinding",
        )
    },
    BINDING_RULES,
);

/// The kind `ClusterRoleBinding`.
pub static CLUSTER_ROLE_BINDINGS: JsonKind = JsonKind::new(
    KindInfo {
        columns: BINDING_COLUMNS,
        ..KindInfo::of(
            (GROUP, "v1", "ClusterRoleBinding"),
            ("clusterrolebindings", "clusterrolebinding"),
            Scope::Cluster,
            "io.k8s.api.rbac.v1.ClusterRoleBinding",
        )
    },
    Rules { validate: |obj| binding(&obj.rest, false), ..BINDING_RULES },
);

fn created_at(obj: &Untyped, _now: Timestamp) -> Vec<Value> {
    vec![table::name(&obj.metadata), json!(obj.metadata.creation_timestamp)]
}

fn cluster_role(obj: &Untyped) -> Errors {
    let mut errs = rules(&obj.rest, false);
    if json::has(&obj.rest, "aggregationRule")
        && json::items(&obj.rest, "aggregationRule.clusterRoleSelectors").is_empty()
    {
        errs.push(FieldError::required(
            "aggregationRule.clusterRoleSelectors",
            "at least one clusterRoleSelector required if aggregationRule is non-nil",
        ));
    }
    errs
}

fn rules(fields: &Map<String, Value>, is_namespaced: bool) -> Errors {
    let mut errs = Errors::new();
    for (i, rule) in json::objects(fields, "rules").enumerate() {
        let path = format!("rules[{i}]");
        let count = |field: &str| json::items(rule, field).len();
        if count("verbs") == 0 {
            errs.push(FieldError::required(format!("{path}.verbs"), "verbs must contain at least one value"));
        }
        let urls = json::items(rule, "nonResourceURLs");
        if !urls.is_empty() {
            let at = format!("{path}.nonResourceURLs");
            if is_namespaced {
                errs.push(FieldError::invalid(&at, urls, "namespaced rules cannot apply to non-resource URLs"));
            }
            if count("apiGroups") > 0 || count("resources") > 0 || count("resourceNames") > 0 {
                let why = "rules cannot apply to both regular resources and non-resource URLs";
                errs.push(FieldError::invalid(at, urls, why));
            }
            continue;
        }
        if count("apiGroups") == 0 {
            let why = "resource rules must supply at least one api group";
            errs.push(FieldError::required(format!("{path}.apiGroups"), why));
        }
        if count("resources") == 0 {
            let why = "resource rules must supply at least one resource";
            errs.push(FieldError::required(format!("{path}.resources"), why));
        }
    }
    errs
}

fn binding_defaults(obj: &mut Untyped) {
    fill(&mut obj.rest, "roleRef.apiGroup");
    for subject in json::objects_mut(&mut obj.rest, "subjects") {
        if subject.get("kind").is_some_and(|kind| kind == "User" || kind == "Group") {
            fill(subject, "apiGroup");
        }
    }
}

/// Roles, users and groups are of this API group where none is said.
fn fill(fields: &mut Map<String, Value>, path: &str) {
    if text_at(fields, path).is_empty() {
        set_at(fields, path, json!(GROUP));
    }
}

fn binding(fields: &Map<String, Value>, is_namespaced: bool) -> Errors {
    let kinds: &[&str] = if is_namespaced { &["Role", "ClusterRole"] } else { &["ClusterRole"] };
    let mut errs = Errors::new();
    let text = |path: &str| text_at(fields, path);
    if text("roleRef.apiGroup") != GROUP {
        errs.push(FieldError::not_supported("roleRef.apiGroup", text("roleRef.apiGroup"), &[GROUP]));
    }
    if !kinds.contains(&&*text("roleRef.kind")) {
        errs.push(FieldError::not_supported("roleRef.kind", text("roleRef.kind"), kinds));
    }
    if text("roleRef.name").is_empty() {
        errs.push(FieldError::required("roleRef.name", ""));
    } else {
        let wrong = names::path_segment(&text("roleRef.name"));
        errs.extend(wrong.into_iter().map(|why| FieldError::invalid("roleRef.name", text("roleRef.name"), why)));
    }
    for (i, of) in json::objects(fields, "subjects").enumerate() {
        subject(&mut errs, of, &format!("subjects[{i}]"), is_namespaced);
    }
    errs
}

/// A service account without a namespace is of the binding's, if that has one.
fn subject(errs: &mut Errors, subject: &Map<String, Value>, path: &str, is_namespaced: bool) {
    let (kind, group) = (text_at(subject, "kind"), text_at(subject, "apiGroup"));
    let name = text_at(subject, "name");
    if name.is_empty() {
        errs.push(FieldError::required(format!("{path}.name"), ""));
    }
    let wanted = match &*kind {
        "ServiceAccount" => {
            let wrong = if name.is_empty() { Vec::new() } else { names::dns1123_subdomain(&name) };
            errs.extend(wrong.into_iter().map(|why| FieldError::invalid(format!("{path}.name"), &name, why)));
            if !is_namespaced && text_at(subject, "namespace").is_empty() {
                errs.push(FieldError::required(format!("{path}.namespace"), ""));
            }
            ""
        }
        "User" | "Group" => GROUP,
        _ => {
            let kinds = &["ServiceAccount", "User", "Group"];
            errs.push(FieldError::not_supported(format!("{path}.kind"), kind, kinds));
            return;
        }
    };
    if group != wanted {
        errs.push(FieldError::not_supported(format!("{path}.apiGroup"), group, &[wanted]));
    }
}

fn binding_row(obj: &Untyped, now: Timestamp) -> Vec<Value> {
    let fields = &obj.rest;
    let of = |wanted: &str| {
        let names = json::objects(fields, "subjects").filter(|s| text_at(s, "kind") == wanted).map(|s| {
            let name = text_at(s, "name");
            if wanted == "ServiceAccount" { format!("{}/{name}", text_at(s, "namespace")) } else { name }
        });
        json!(names.collect::<Vec<_>>().join(", "))
    };
    vec![
        table::name(&obj.metadata),
        json!(format!("{}/{}", text_at(fields, "roleRef.kind"), text_at(fields, "roleRef.name"))),
        table::age(&obj.metadata, now),
        of("User"),
        of("Group"),
        of("ServiceAccount"),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::kinds::testing::json::{causes, row};
    use expect_test::expect;

    #[test]
    fn what_is_wrong_is_named() {
        expect![[r#"
            rules[0].verbs: Required value: verbs must contain at least one value
            rules[0].resources: Required value: resource rules must supply at least one resource
            rules[1].nonResourceURLs: Invalid value: ["/x"]: namespaced rules cannot apply to non-resource URLs
            rules[1].nonResourceURLs: Invalid value: ["/x"]: rules cannot apply to both regular resources and non-resource URLs
        "#]].assert_eq(&causes(
            &ROLES,
            "rules: [{apiGroups: ['']}, {verbs: [get], nonResourceURLs: [/x], resources: [a]}]",
        ));
        expect![[r#"
            aggregationRule.clusterRoleSelectors: Required value: at least one clusterRoleSelector required if aggregationRule is non-nil
        "#]].assert_eq(&causes(&CLUSTER_ROLES, "aggregationRule: {}"));
        expect![[r#"
            roleRef.kind: Unsupported value: "Role": supported values: "ClusterRole"
            roleRef.name: Invalid value: "a/b": may not contain '/'
            subjects[0].name: Required value
            subjects[1].namespace: Required value
            subjects[2].kind: Unsupported value: "Robot": supported values: "ServiceAccount", "User", "Group"
        "#]].assert_eq(&causes(&CLUSTER_ROLE_BINDINGS, "roleRef: {kind: Role, name: a/b}\nsubjects: [{kind: User}, {kind: ServiceAccount, name: x}, {kind: Robot, name: r}]"));
        assert_eq!(
            causes(
                &ROLE_BINDINGS,
                "roleRef: {kind: Role, name: 'system:x'}\nsubjects: [{kind: User, name: me}, {kind: ServiceAccount, name: here}]"
            ),
            ""
        );
    }

    #[test]
    fn rows_read_as_in_kubernetes() {
        let binding = "metadata: {name: b}\nroleRef: {kind: Role, name: r}\nsubjects: [{kind: User, name: a}, {kind: User, name: b}, {kind: ServiceAccount, namespace: ops, name: s}]";
        assert_eq!(row(&ROLE_BINDINGS, binding), "b | Role/r | <unknown> | a, b |  | ops/s");
    }
}
