//! What roles and their bindings grant to whom.
//!
//! The rules are read once, by subject, and read again after a write to any role or binding: an answer sees every write that was
//! answered, and costs a few look-ups.
//!
//! **Source**: `plugin/pkg/auth/authorizer/rbac/rbac.go`, `pkg/registry/rbac/validation/rule.go`, v1.37.

use super::{
    node,
    rule::{Attributes, PolicyRule},
    user::{User, split_account},
};
use crate::{
    api::{
        json_kind::JsonKind,
        kind::{ErasedKind as _, KindInfo},
        kinds::rbac::{CLUSTER_ROLE_BINDINGS, CLUSTER_ROLES, ROLE_BINDINGS, ROLES},
        meta::ObjectKey,
    },
    base::{json, ordered::Map},
    registry::Registry,
    store::{Entry, hub::Watch},
};
use serde::{Deserialize, de::DeserializeOwned};
use std::sync::{Arc, Mutex};

/// What the keys of roles and bindings begin with.
const PREFIX: &str = "rbac.authorization.k8s.io/";

/// Evaluates the rules of a registry. Clones share what they have read.
#[derive(Clone)]
pub struct Rbac(Arc<Inner>);

struct Inner {
    registry: Registry,
    read: Mutex<Option<Read>>,
}

/// The rules as they were read, and what was written since.
struct Read {
    grants: Arc<Grants>,
    since: Watch,
}

impl std::fmt::Debug for Rbac {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rbac").finish_non_exhaustive()
    }
}

/// Whether something is allowed, and why (or, where a role is missing, why perhaps not).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Whether it is.
    pub is_allowed: bool,
    /// The binding that allows it, or what stood in the way of one; may be empty.
    pub reason: String,
}

/// Who is granted something.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Subject {
    User(String),
    Group(String),
    /// Namespace and name.
    Account(String, String),
}

/// A role that a subject has.
#[derive(Debug)]
struct Grant {
    /// Where it holds; `None`: everywhere.
    namespace: Option<String>,
    /// `None`: the role does not exist.
    rules: Option<Arc<[PolicyRule]>>,
    /// The binding and the role, in words.
    words: String,
    /// The role, as a refusal names it.
    role: String,
}

/// Every grant, by subject.
#[derive(Debug, Default)]
struct Grants(Map<Subject, Vec<Grant>>);

#[derive(Deserialize)]
struct Meta {
    name: String,
    #[serde(default)]
    namespace: String,
}

#[derive(Deserialize)]
struct Role {
    metadata: Meta,
    rules: Option<Vec<PolicyRule>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Binding {
    metadata: Meta,
    role_ref: RoleRef,
    subjects: Option<Vec<SubjectRef>>,
}

/// The role that a binding grants.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct RoleRef {
    /// `Role` or `ClusterRole`.
    pub kind: String,
    /// Its name.
    pub name: String,
}

#[derive(Deserialize)]
struct SubjectRef {
    kind: String,
    name: String,
    #[serde(default)]
    namespace: String,
}

impl Rbac {
    /// The rules of this registry.
    pub fn new(registry: Registry) -> Self {
        Self(Arc::new(Inner { registry, read: Mutex::default() }))
    }

    /// Whether a user may do this.
    pub fn verdict(&self, user: &User, asked: &Attributes<'_>) -> Verdict {
        if user.is_master() {
            return Verdict { is_allowed: true, reason: String::new() };
        }
        let as_node = user.node().map(|node| self.as_node(node, asked)).unwrap_or_default();
        if as_node.is_allowed {
            return as_node;
        }
        let grants = self.grants();
        let namespace = asked.namespace();
        let mut missing = Vec::new();
        for (subject, grant) in grants.of(user, namespace) {
            match &grant.rules {
                Some(rules) if rules.iter().any(|rule| rule.grants(asked)) => {
                    let reason = format!("RBAC: allowed by {} to {}", grant.words, subject.words());
                    return Verdict { is_allowed: true, reason };
                }
                Some(_) => {}
                None => missing.push(format!("{} not found", grant.role)),
            }
        }
        missing.dedup();
        let reason = match missing.as_slice() {
            [] => String::new(),
            [one] => format!("RBAC: {one}"),
            all => format!("RBAC: [{}]", all.join(", ")),
        };
        let reason = [as_node.reason, reason].into_iter().filter(|r| !r.is_empty()).collect::<Vec<_>>().join("\n");
        Verdict { is_allowed: false, reason }
    }

    fn as_node(&self, node: &str, asked: &Attributes<'_>) -> Verdict {
        let role = RoleRef { kind: "ClusterRole".to_owned(), name: node::ROLE.to_owned() };
        node::verdict(&self.0.registry, &self.rules_of(&role, "").unwrap_or_default(), node, asked)
    }

    /// All rules that a user has in a namespace; where it is empty, those that hold everywhere.
    pub fn rules(&self, user: &User, namespace: &str) -> Vec<PolicyRule> {
        let grants = self.grants();
        let held = grants.of(user, namespace).filter_map(|(_, grant)| grant.rules.as_deref()).flatten().cloned();
        if user.is_master() {
            return [PolicyRule::everything(), PolicyRule::every_path()].into_iter().chain(held).collect();
        }
        held.collect()
    }

    /// The rules of the role that a binding in a namespace names; `None`: it does not exist.
    pub fn rules_of(&self, role: &RoleRef, namespace: &str) -> Option<Vec<PolicyRule>> {
        let (kind, namespace) = if role.kind == "Role" { (&ROLES, namespace) } else { (&CLUSTER_ROLES, "") };
        let entry = self.0.registry.entry(kind, &ObjectKey::new(namespace, &role.name))?;
        Some(read::<Role>(&entry).rules.unwrap_or_default())
    }

    /// The grants as they are now.
    fn grants(&self) -> Arc<Grants> {
        let mut known = self.0.read.lock().expect("no one panics while reading rules");
        if let Some(read) = &mut *known
            && matches!(read.since.try_next(), Ok(None))
        {
            return Arc::clone(&read.grants);
        }
        let store = self.0.registry.store();
        loop {
            let Ok(since) = store.watch(PREFIX, store.revision()) else { continue };
            let grants = Arc::new(Grants::read(&self.0.registry));
            *known = Some(Read { grants: Arc::clone(&grants), since });
            return grants;
        }
    }
}

impl Grants {
    fn read(registry: &Registry) -> Self {
        let roles = |kind: &JsonKind| -> Map<(String, String), Arc<[PolicyRule]>> {
            let all = entries::<Role>(registry, kind);
            all.map(|r| ((r.metadata.namespace, r.metadata.name), r.rules.unwrap_or_default().into())).collect()
        };
        let (local, global) = (roles(&ROLES), roles(&CLUSTER_ROLES));
        let kinds = [&CLUSTER_ROLE_BINDINGS, &ROLE_BINDINGS].into_iter();
        let bindings = kinds.flat_map(|kind| entries::<Binding>(registry, kind).map(|binding| (kind.info(), binding)));
        Self(Map::of_groups(bindings.flat_map(|(kind, binding)| Self::of_binding(kind, binding, &local, &global))))
    }

    fn of_binding(kind: &KindInfo<'_>, binding: Binding, local: &Roles, global: &Roles) -> Vec<(Subject, Grant)> {
        let Binding { metadata: Meta { name, namespace }, role_ref, subjects } = binding;
        let is_local = role_ref.kind == "Role";
        let place = if is_local { namespace.clone() } else { String::new() };
        let rules = if is_local { local } else { global }.get(&(place, role_ref.name.clone()));
        let shown = if namespace.is_empty() { name } else { format!("{name}/{namespace}") };
        let words = format!("{} {shown:?} of {} {:?}", kind.kind, role_ref.kind, role_ref.name);
        let role = format!("{}.rbac.authorization.k8s.io {:?}", role_ref.kind.to_lowercase(), role_ref.name);
        let grant = |subject| {
            let grant = Grant {
                namespace: (!namespace.is_empty()).then(|| namespace.clone()),
                rules: rules.cloned(),
                words: words.clone(),
                role: role.clone(),
            };
            Some((Subject::of(subject, &namespace)?, grant))
        };
        subjects.into_iter().flatten().filter_map(grant).collect()
    }

    /// What a user is granted that holds in a namespace.
    fn of<'g>(&'g self, user: &'g User, namespace: &'g str) -> impl Iterator<Item = (Subject, &'g Grant)> {
        let groups = user.groups.iter().map(|group| Subject::Group(group.clone()));
        let account = split_account(&user.name).map(|(ns, name)| Subject::Account(ns.to_owned(), name.to_owned()));
        let subjects = [Subject::User(user.name.clone())].into_iter().chain(account).chain(groups);
        subjects.flat_map(move |subject| {
            let grants = self.0.get(&subject).map_or(&[][..], Vec::as_slice);
            let here = grants.iter().filter(|g| g.namespace.as_deref().is_none_or(|ns| ns == namespace));
            here.map(|grant| (subject.clone(), grant)).collect::<Vec<_>>()
        })
    }
}

type Roles = Map<(String, String), Arc<[PolicyRule]>>;

impl Subject {
    /// A service account without a namespace is of the binding's.
    fn of(subject: SubjectRef, namespace: &str) -> Option<Self> {
        let SubjectRef { kind, name, namespace: given } = subject;
        match &*kind {
            "User" => Some(Self::User(name)),
            "Group" => Some(Self::Group(name)),
            "ServiceAccount" if given.is_empty() => Some(Self::Account(namespace.to_owned(), name)),
            "ServiceAccount" => Some(Self::Account(given, name)),
            _ => None,
        }
    }

    fn words(&self) -> String {
        match self {
            Self::User(name) => format!("User {name:?}"),
            Self::Group(name) => format!("Group {name:?}"),
            Self::Account(namespace, name) => format!("ServiceAccount {:?}", format!("{name}/{namespace}")),
        }
    }
}

fn entries<T: DeserializeOwned>(registry: &Registry, kind: &JsonKind) -> impl Iterator<Item = T> + use<T> {
    registry.snapshot(kind, "", &Default::default()).entries.into_iter().map(|entry| read(&entry))
}

fn read<T: DeserializeOwned>(entry: &Entry) -> T {
    json::read(&entry.value).expect("stored objects fit their schema")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{api::kind::KindRef, identity::rule::On, registry::pipeline::WriteOptions, testing};

    async fn put(registry: &Registry, kind: &'static JsonKind, namespace: &str, yaml: &str) {
        let value = testing::from_yaml(yaml).unwrap();
        let obj = KindRef::BuiltIn(kind).decode(value).unwrap();
        registry.create(kind, namespace, obj, &WriteOptions::default()).await.unwrap();
    }

    fn pods<'a>(verb: &'a str, namespace: &'a str) -> Attributes<'a> {
        let on = On::Resource { group: "", resource: "pods", subresource: "", namespace, name: "", node: "" };
        Attributes { verb, on }
    }

    fn said(rbac: &Rbac, user: &User, asked: &Attributes<'_>) -> String {
        let verdict = rbac.verdict(user, asked);
        format!("{} {}", if verdict.is_allowed { "yes" } else { "no" }, verdict.reason).trim().to_owned()
    }

    #[tokio::test(start_paused = true)]
    async fn a_binding_grants_its_role_where_it_holds_and_from_when_it_is_written() {
        let registry = testing::registry().await;
        let rbac = Rbac::new(registry.clone());
        let (jane, bot) = (User::new("jane", ["dev"]), User::of_account("default", "bot"));
        assert_eq!(said(&rbac, &jane, &pods("get", "default")), "no");
        put(
            &registry,
            &CLUSTER_ROLES,
            "",
            "{metadata: {name: reader}, rules: [{verbs: [get], apiGroups: [''], resources: [pods]}]}",
        )
        .await;
        let subjects = "subjects: [{kind: Group, name: dev}, {kind: ServiceAccount, name: bot, namespace: default}]";
        let binding = format!("{{metadata: {{name: b}}, roleRef: {{kind: ClusterRole, name: reader}}, {subjects}}}");
        put(&registry, &ROLE_BINDINGS, "default", &binding).await;
        let by = "yes RBAC: allowed by RoleBinding \"b/default\" of ClusterRole \"reader\" to";
        assert_eq!(said(&rbac, &jane, &pods("get", "default")), format!("{by} Group \"dev\""));
        assert_eq!(said(&rbac, &bot, &pods("get", "default")), format!("{by} ServiceAccount \"bot/default\""));
        assert_eq!(said(&rbac, &jane, &pods("get", "kube-system")), "no");
        assert_eq!(said(&rbac, &jane, &pods("get", "")), "no");
        assert_eq!(said(&rbac, &jane, &pods("list", "default")), "no");
        put(&registry, &CLUSTER_ROLE_BINDINGS, "", &binding.replace("name: b}", "name: all}")).await;
        assert!(said(&rbac, &jane, &pods("get", "")).starts_with("yes RBAC: allowed by ClusterRoleBinding \"all\""));
        registry.delete(&CLUSTER_ROLES, &ObjectKey::new("", "reader"), &Default::default()).await.unwrap();
        let missing = "no RBAC: clusterrole.rbac.authorization.k8s.io \"reader\" not found";
        assert_eq!(said(&rbac, &jane, &pods("get", "default")), missing);
        assert_eq!(said(&rbac, &User::new("root", ["system:masters"]), &pods("get", "x")), "yes");
    }
}
