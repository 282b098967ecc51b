//! Who calls.
//!
//! **Source** of the names: `k8s.io/apiserver/pkg/authentication/user/user.go` and `serviceaccount/util.go`, v1.37.

use crate::base::ordered;
use serde_json::{Map, Value, json};

/// The name of whoever nobody knows.
pub const ANONYMOUS: &str = "system:anonymous";
/// The group of all whom somebody knows.
pub const AUTHENTICATED: &str = "system:authenticated";
/// The group of all whom nobody knows.
pub const UNAUTHENTICATED: &str = "system:unauthenticated";
/// The group that may do everything, whatever the rules say.
pub const MASTERS: &str = "system:masters";
const NODE: &str = "system:node:";
/// The group of all nodes.
const NODES: &str = "system:nodes";
const SERVICE_ACCOUNT: &str = "system:serviceaccount:";
const SERVICE_ACCOUNTS: &str = "system:serviceaccounts";

/// Who calls.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    /// The user name, e.g. `kubernetes-admin`.
    pub name: String,
    /// What tells two users of one name apart; empty where nothing does.
    pub uid: String,
    /// The groups, e.g. `system:masters`.
    pub groups: Vec<String>,
    /// What else is known, by key.
    pub extra: ordered::Map<String, Vec<String>>,
}

impl User {
    /// A user by name and groups.
    pub fn new<'g>(name: &str, groups: impl IntoIterator<Item = &'g str>) -> Self {
        let groups = groups.into_iter().map(str::to_owned).collect();
        Self { name: name.to_owned(), groups, ..Self::default() }
    }

    /// Someone without a credential.
    pub fn anonymous() -> Self {
        Self::new(ANONYMOUS, [UNAUTHENTICATED])
    }

    /// A service account.
    pub fn of_account(namespace: &str, name: &str) -> Self {
        let of_namespace = format!("{SERVICE_ACCOUNTS}:{namespace}");
        Self::new(&account_name(namespace, name), [SERVICE_ACCOUNTS, &of_namespace, AUTHENTICATED])
    }

    /// The name of the node that the user is. Source: `NodeIdentity` in pkg/auth/nodeidentifier/default.go.
    pub fn node(&self) -> Option<&str> {
        self.name.strip_prefix(NODE).filter(|name| !name.is_empty() && self.is_in(NODES))
    }

    /// Whether nobody knows who it is.
    pub fn is_anonymous(&self) -> bool {
        self.name == ANONYMOUS
    }

    /// Whether the user is in a group.
    pub fn is_in(&self, group: &str) -> bool {
        self.groups.iter().any(|g| g == group)
    }

    /// Whether the user may do everything.
    pub fn is_master(&self) -> bool {
        self.is_in(MASTERS)
    }

    /// As reviews show it: `username`, `uid`, `groups`, `extra`, without what is empty.
    pub fn to_json(&self) -> Value {
        let mut fields = Map::new();
        fields.insert("username".to_owned(), json!(self.name));
        if !self.uid.is_empty() {
            fields.insert("uid".to_owned(), json!(self.uid));
        }
        if !self.groups.is_empty() {
            fields.insert("groups".to_owned(), json!(self.groups));
        }
        if !self.extra.is_empty() {
            fields.insert("extra".to_owned(), json!(self.extra));
        }
        Value::Object(fields)
    }
}

/// A service account's user name. Source: `MakeUsername`.
pub fn account_name(namespace: &str, name: &str) -> String {
    format!("{SERVICE_ACCOUNT}{namespace}:{name}")
}

/// The namespace and name of a service account's user name. Source: `SplitUsername`.
pub fn split_account(user: &str) -> Option<(&str, &str)> {
    let (namespace, name) = user.strip_prefix(SERVICE_ACCOUNT)?.split_once(':')?;
    (!namespace.is_empty() && !name.is_empty() && !name.contains(':')).then_some((namespace, name))
}
