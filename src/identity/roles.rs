//! The roles and bindings that every cluster has, and how a start brings them about.
//!
//! What they are is in `default_roles.txt`, beside this file; what the lines mean is said there.
//! A start makes those that are missing and gives those that are there what they lack, unless the annotation
//! `rbac.authorization.kubernetes.io/autoupdate` says otherwise; what a user has added stays.
//!
//! **Source**: `pkg/registry/rbac/reconciliation/`, v1.37.

use super::{escalation, rule::PolicyRule};
use crate::{
    api::{
        json_kind::JsonKind,
        kind::KindRef,
        kinds::rbac::{CLUSTER_ROLE_BINDINGS, CLUSTER_ROLES, ROLE_BINDINGS, ROLES},
        meta::ObjectKey,
        status::ApiError,
    },
    base::{json, ordered::SortList as _},
    registry::{
        Registry,
        pipeline::{Part, WriteOptions},
    },
    store::Entry,
};
use futures::future::try_join_all;
use serde_json::{Value, json};

const TEXT: &str = include_str!("default_roles.txt");
const RBAC: &str = "rbac.authorization.k8s.io";
const AUTO_UPDATE: &str = "rbac.authorization.kubernetes.io/autoupdate";
const READ: &str = "get,list,watch";
const WRITE: &str = "create,delete,deletecollection,patch,update";

/// A role or binding as it should be.
struct Wanted {
    kind: &'static JsonKind,
    key: ObjectKey,
    object: Value,
}

/// Brings the roles and bindings of every cluster about.
///
/// # Errors
/// As writes have them.
pub async fn reconcile(registry: &Registry) -> Result<(), ApiError> {
    try_join_all(wanted().into_iter().map(|wanted| ensure(registry, wanted))).await?;
    Ok(())
}

/// Gives a user a ClusterRole, in all namespaces, by a binding of the user's name.
///
/// # Errors
/// As writes have them.
pub async fn bind_user(registry: &Registry, role: &str, user: &str) -> Result<(), ApiError> {
    let (key, kind, mut object) = object(user, false);
    object["roleRef"] = json!({ "apiGroup": RBAC, "kind": "ClusterRole", "name": role });
    object["subjects"] = json!([{ "apiGroup": RBAC, "kind": "User", "name": user }]);
    ensure(registry, Wanted { kind, key, object }).await
}

async fn ensure(registry: &Registry, wanted: Wanted) -> Result<(), ApiError> {
    let Wanted { kind, key, object } = wanted;
    let decode = |value: Value| KindRef::BuiltIn(kind).decode(value).expect("it fits the schema");
    let Some(found) = registry.entry(kind, &key) else {
        let made = registry.create(kind, &key.namespace, decode(object), &WriteOptions::default()).await;
        return match made {
            Ok(_) | Err(ApiError::AlreadyExists { .. }) => Ok(()),
            Err(err) => Err(err),
        };
    };
    if completed(&found, &object).is_none() {
        return Ok(());
    }
    let mut change = |entry: &Entry| {
        let stored = || serde_json::from_slice(&entry.value).expect("stored objects are JSON");
        Ok(decode(completed(entry, &object).unwrap_or_else(stored)))
    };
    registry.update(kind, &key, Part::Main, &mut change, &WriteOptions::default()).await?;
    Ok(())
}

/// What is there with what it lacks; `None`: it lacks nothing, or its owner wants no change.
fn completed(found: &Entry, wanted: &Value) -> Option<Value> {
    let mut object: Value = serde_json::from_slice(&found.value).expect("stored objects are JSON");
    if object["metadata"]["annotations"][AUTO_UPDATE] != "true" {
        return None;
    }
    let mut is_changed = false;
    if wanted.get("aggregationRule").is_none() && wanted.get("rules").is_some() {
        let rules = |of: &Value| -> Vec<PolicyRule> { json::typed(of["rules"].clone()).unwrap_or_default() };
        let lacks = escalation::missing(&rules(&object), &rules(wanted));
        is_changed |= add(&mut object, "rules", lacks.into_iter().map(|rule| json!(rule)));
    }
    let held = object["subjects"].as_array().cloned().unwrap_or_default();
    let subjects = wanted["subjects"].as_array().cloned().unwrap_or_default();
    is_changed |= add(&mut object, "subjects", subjects.into_iter().filter(|subject| !held.contains(subject)));
    is_changed.then_some(object)
}

/// Adds items to a list; returns whether there were any.
fn add(object: &mut Value, list: &str, items: impl Iterator<Item = Value>) -> bool {
    let mut items = items.peekable();
    if items.peek().is_none() {
        return false;
    }
    if !object[list].is_array() {
        object[list] = json!([]);
    }
    object[list].as_array_mut().expect("it was made one").extend(items);
    true
}

/// All of them, as the text says.
fn wanted() -> Vec<Wanted> {
    let mut all: Vec<Wanted> = Vec::new();
    for line in TEXT.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let mut words = line.split(' ');
        match words.next() {
            Some("role") => all.push(role(words)),
            Some("bind") => all.push(binding(words)),
            Some(verbs) => {
                let rules = &mut all.last_mut().expect("a rule follows its role").object["rules"];
                rules.as_array_mut().expect("a role has rules").push(json!(rule(verbs, words)));
            }
            None => {}
        }
    }
    all
}

fn object(name: &str, is_role: bool) -> (ObjectKey, &'static JsonKind, Value) {
    let (namespace, name) = name.split_once('/').unwrap_or(("", name));
    let kind = match (is_role, namespace.is_empty()) {
        (true, true) => &CLUSTER_ROLES,
        (true, false) => &ROLES,
        (false, true) => &CLUSTER_ROLE_BINDINGS,
        (false, false) => &ROLE_BINDINGS,
    };
    let metadata = json!({
        "name": name,
        "annotations": { AUTO_UPDATE: "true" },
        "labels": { "kubernetes.io/bootstrapping": "rbac-defaults" },
    });
    (ObjectKey::new(namespace, name), kind, json!({ "metadata": metadata }))
}

fn role<'t>(mut words: impl Iterator<Item = &'t str>) -> Wanted {
    let (key, kind, mut object) = object(words.next().expect("a role has a name"), true);
    object["rules"] = json!([]);
    while let (Some(word), Some(of)) = (words.next(), words.next()) {
        let label = format!("{RBAC}/aggregate-to-{of}");
        if word == "from" {
            object["aggregationRule"] = json!({ "clusterRoleSelectors": [{ "matchLabels": { label: "true" } }] });
        } else {
            object["metadata"]["labels"][label] = json!("true");
        }
    }
    Wanted { kind, key, object }
}

fn rule<'t>(verbs: &str, mut words: impl Iterator<Item = &'t str>) -> PolicyRule {
    let list = |text: &str| -> Vec<String> { text.split(',').map(str::to_owned).collect() };
    let mut verbs: Vec<String> = list(&verbs.replace("read", READ).replace("write", WRITE));
    verbs.sort_list();
    let groups = words.next().expect("a rule has groups");
    let of = list(words.next().expect("a rule is about something"));
    if groups == "urls" {
        return PolicyRule { verbs, non_resource_urls: of, ..PolicyRule::default() };
    }
    let api_groups = groups.split(',').map(|g| if g == "core" { String::new() } else { g.to_owned() }).collect();
    let resource_names = words.next().and_then(|names| names.strip_prefix('=')).map(list).unwrap_or_default();
    PolicyRule { verbs, api_groups, resources: of, resource_names, ..PolicyRule::default() }
}

fn binding<'t>(mut words: impl Iterator<Item = &'t str>) -> Wanted {
    let role = words.next().expect("a binding is of a role");
    let (mut key, kind, mut object) = object(role, false);
    let of = if key.namespace.is_empty() { "ClusterRole" } else { "Role" };
    object["roleRef"] = json!({ "apiGroup": RBAC, "kind": of, "name": key.name });
    object["subjects"] = json!([]);
    for (what, name) in words.filter_map(|word| word.split_once('=')) {
        let subject = match what {
            "user" => json!({ "apiGroup": RBAC, "kind": "User", "name": name }),
            "group" => json!({ "apiGroup": RBAC, "kind": "Group", "name": name }),
            "account" => {
                let (namespace, name) = name.split_once('/').expect("an account has a namespace");
                json!({ "kind": "ServiceAccount", "name": name, "namespace": namespace })
            }
            _ => {
                object["metadata"]["name"] = json!(name);
                name.clone_into(&mut key.name);
                continue;
            }
        };
        object["subjects"].as_array_mut().expect("it was made one").push(subject);
    }
    Wanted { kind, key, object }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        api::{kind::Scope, kinds::KINDS},
        identity::{
            Rbac, User,
            rule::{Attributes, On},
        },
        testing,
    };
    use expect_test::expect;

    #[tokio::test(start_paused = true)]
    async fn every_user_of_the_system_may_do_their_part() {
        let registry = testing::registry_with_namespaces(&["kube-public"]).await;
        reconcile(&registry).await.unwrap();
        let rbac = Rbac::new(registry);
        let anyone = User::new("jane", ["system:authenticated"]);
        let proxy = User::new("system:kube-proxy", ["system:authenticated"]);
        let account = User::of_account("default", "default");
        let on = |group, resource, subresource, namespace, name| On::Resource {
            group,
            resource,
            subresource,
            namespace,
            name,
            node: "",
        };
        for (user, verb, on, want) in [
            (&anyone, "get", On::Path("/apis/apps/v1"), true),
            (&anyone, "get", On::Path("/metrics"), false),
            (&User::anonymous(), "get", On::Path("/version"), true),
            (&User::anonymous(), "get", On::Path("/livez"), true),
            (&User::anonymous(), "get", On::Path("/apis"), false),
            (&anyone, "create", on("authorization.k8s.io", "selfsubjectaccessreviews", "", "", ""), true),
            (&anyone, "create", on("authorization.k8s.io", "subjectaccessreviews", "", "", ""), false),
            (&anyone, "list", on("", "pods", "", "default", ""), false),
            (&account, "list", on("", "pods", "", "default", ""), false),
            (&account, "get", On::Path("/openid/v1/jwks"), true),
            (&proxy, "watch", on("", "services", "", "", ""), true),
            (&proxy, "watch", on("discovery.k8s.io", "endpointslices", "", "", ""), true),
            (&proxy, "patch", on("", "services", "status", "x", "s"), true),
            (&proxy, "patch", on("", "services", "", "x", "s"), false),
            (&proxy, "patch", on("coordination.k8s.io", "leases", "", "kube-system", "skiff-proxy"), true),
            (&proxy, "patch", on("coordination.k8s.io", "leases", "", "kube-system", "other"), false),
            (&proxy, "get", on("", "secrets", "", "kube-system", "skiff-proxy"), false),
            (&proxy, "watch", on("", "secrets", "", "kube-system", "skiff-router"), true),
            (&proxy, "watch", on("", "secrets", "", "kube-system", ""), false),
            (&proxy, "list", on("", "secrets", "", "shop", "tls"), false),
            (&proxy, "watch", on("route.openshift.io", "routes", "", "", ""), true),
            (&proxy, "patch", on("route.openshift.io", "routes", "status", "shop", "web"), true),
            (&proxy, "patch", on("route.openshift.io", "routes", "", "shop", "web"), false),
            (&proxy, "patch", on("networking.k8s.io", "ingresses", "status", "shop", "web"), true),
        ] {
            assert_eq!(rbac.verdict(user, &Attributes { verb, on }).is_allowed, want, "{} {verb} {on:?}", user.name);
        }
    }

    /// What the roles that are summed up in one allow.
    fn summed(into: &str) -> Vec<PolicyRule> {
        let label = format!("{RBAC}/aggregate-to-{into}");
        let is_part = |role: &Wanted| role.object["metadata"]["labels"][&label] == "true";
        let rules = |role: Wanted| serde_json::from_value::<Vec<PolicyRule>>(role.object["rules"].clone()).unwrap();
        wanted().into_iter().filter(is_part).flat_map(rules).collect()
    }

    #[test]
    fn who_views_a_namespace_reads_all_kinds_but_some() {
        let rules = summed("view");
        let names = |all: &[String], name: &str| all.iter().any(|one| one == name);
        let hidden: Vec<String> = KINDS
            .iter()
            .map(|kind| kind.info())
            .filter(|info| info.scope == Scope::Namespaced && info.verbs.contains(&"get"))
            .filter(|info| {
                let reads = |r: &PolicyRule| names(&r.api_groups, info.group) && names(&r.resources, info.plural);
                !rules.iter().any(reads)
            })
            .map(|info| format!("{} {}", info.group, info.plural))
            .collect();
        expect![[r#"
             podtemplates
             secrets
             legacydeploymentconfigs
            coordination.k8s.io leases
            events.k8s.io events
            rbac.authorization.k8s.io rolebindings
            rbac.authorization.k8s.io roles
            storage.k8s.io csistoragecapacities"#]]
        .assert_eq(&hidden.join("\n"));
    }

    #[test]
    fn the_roles_know_the_kinds_of_devices() {
        let mut told = Vec::new();
        for role in wanted() {
            let rules: Vec<PolicyRule> = serde_json::from_value(role.object["rules"].clone()).unwrap_or_default();
            let of_devices = rules.iter().filter(|rule| rule.api_groups == ["resource.k8s.io"]);
            told.extend(
                of_devices.map(|r| format!("{} {} {}", role.key.name, r.verbs.join(","), r.resources.join(","))),
            );
        }
        expect![[r#"
            system:aggregate-to-edit create,delete,deletecollection,patch,update resourceclaims,resourceclaimtemplates
            system:aggregate-to-view get,list,watch resourceclaims,resourceclaims/status,resourceclaimtemplates
            system:kube-scheduler get,list,watch deviceclasses
            system:kube-scheduler get,list,patch,update,watch resourceclaims
            system:kube-scheduler get,list,patch,update,watch resourceclaims/status
            system:kube-scheduler get,list,watch resourceslices
            system:kube-scheduler get,list,watch devicetaintrules
            system:node get resourceclaims
            system:node deletecollection resourceslices"#]]
        .assert_eq(&told.join("\n"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_start_gives_back_what_is_missing_and_keeps_what_users_added() {
        let registry = testing::registry_with_namespaces(&["kube-public"]).await;
        reconcile(&registry).await.unwrap();
        let revision = registry.store().revision();
        reconcile(&registry).await.unwrap();
        assert_eq!(registry.store().revision(), revision, "a second start writes nothing");
        let key = ObjectKey::new("", "system:public-info-viewer");
        let change_rules = |from: &'static str, to: &'static str| {
            let registry = registry.clone();
            let key = key.clone();
            async move {
                let mut change = |entry: &Entry| {
                    let text = String::from_utf8(entry.value.to_vec()).unwrap().replace(from, to);
                    Ok(KindRef::BuiltIn(&CLUSTER_ROLES).decode(serde_json::from_str(&text).unwrap()).unwrap())
                };
                let options = WriteOptions::default();
                registry.update(&CLUSTER_ROLES, &key, Part::Main, &mut change, &options).await.unwrap();
            }
        };
        let urls = || {
            let entry = registry.entry(&CLUSTER_ROLES, &key).unwrap();
            let object: Value = serde_json::from_slice(&entry.value).unwrap();
            object["rules"].as_array().unwrap().iter().map(|r| r["nonResourceURLs"].to_string()).collect::<Vec<_>>()
        };
        change_rules("/livez", "/mine").await;
        reconcile(&registry).await.unwrap();
        assert_eq!(urls(), [r#"["/healthz","/mine","/readyz","/version","/version/"]"#, r#"["/livez"]"#]);
        change_rules("\"autoupdate\":\"true\"", "").await;
        change_rules("autoupdate\":\"true", "autoupdate\":\"false").await;
        change_rules("/livez", "/other").await;
        reconcile(&registry).await.unwrap();
        assert!(urls().contains(&r#"["/other"]"#.to_owned()), "{:?}", urls());
    }
}
