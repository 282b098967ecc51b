//! What a node may do: read what its own pods need, and write what is its own. Pure, but for reads of the registry.
//!
//! Called by `rbac` for users of the name `system:node:NODE` in the group `system:nodes`; what it does not allow, a role may still. What of
//! an object a node may not write is in the table `server/verbs/privileges`.
//!
//! **Source**: `plugin/pkg/auth/authorizer/node/node_authorizer.go`, `…/graph.go`, and of what a node may do to pods
//! `plugin/pkg/admission/noderestriction/admission.go`, v1.37.

use super::{
    rbac::Verdict,
    rule::{Attributes, On, PolicyRule},
};
use crate::{
    api::{
        kind::ErasedKind,
        kinds::{persistent_volume::PERSISTENT_VOLUMES, pod::Pods, volume_attachment::VOLUME_ATTACHMENTS},
        meta::ObjectKey,
        pod_claims::claims_of,
        selector::FieldSelector,
    },
    registry::{Registry, pipeline::Selection},
};
use k8s_openapi::api::core::v1::Pod;
use serde_json::Value;
use std::sync::Arc;

/// The role that says what all nodes may do beside what is here.
pub const ROLE: &str = "system:node";
/// The annotation of pods that a node shows, and that no one else made: they vouch for nothing.
pub const MIRROR: &str = "kubernetes.io/config.mirror";
/// Where the Leases of nodes are.
const LEASES: &str = "kube-node-lease";

/// What a pod may refer to, by the fields that do: the field that holds the reference, and the name within.
type References = &'static [(&'static str, &'static str)];
const SECRETS: References = &[
    ("azureFile", "secretName"),
    ("imagePullSecrets", "name"),
    ("nodePublishSecretRef", "name"),
    ("secret", "name"),
    ("secret", "secretName"),
    ("secretKeyRef", "name"),
    ("secretRef", "name"),
];
const CONFIG_MAPS: References = &[("configMap", "name"), ("configMapKeyRef", "name"), ("configMapRef", "name")];

/// Whether a node may do this. `rules` are those of [`ROLE`].
pub(super) fn verdict(registry: &Registry, rules: &[PolicyRule], node: &str, asked: &Attributes<'_>) -> Verdict {
    let by_rules = || {
        let is_allowed = rules.iter().any(|rule| rule.grants(asked));
        Verdict { is_allowed, reason: String::new() }
    };
    let On::Resource { group, resource, subresource, namespace, name, node: selected } = asked.on else {
        return by_rules();
    };
    let of = Own { registry, node, verb: asked.verb, subresource, namespace, name, selected };
    let said = match (group, resource) {
        ("", "secrets") => of.referred(SECRETS),
        ("", "configmaps") => of.referred(CONFIG_MAPS),
        ("", "persistentvolumeclaims") => of.claim(),
        ("", "persistentvolumes") => of.got(|| of.uses_volume()),
        ("", "serviceaccounts") => of.account(),
        ("", "pods") => of.pod(),
        ("", "nodes") => of.node(),
        ("coordination.k8s.io", "leases") => of.lease(),
        ("storage.k8s.io", "csinodes") => of.csi_node(),
        ("storage.k8s.io", "volumeattachments") => of.got(|| of.is_attached()),
        _ => return by_rules(),
    };
    match said {
        Ok(()) => Verdict { is_allowed: true, reason: String::new() },
        Err(reason) => Verdict { is_allowed: false, reason },
    }
}

/// Whether a pod's spec names a Secret, and whether it names a ConfigMap.
pub fn names_of(spec: &Value) -> (bool, bool) {
    let names = |fields| refers(spec, fields, &Value::is_string);
    (names(SECRETS), names(CONFIG_MAPS))
}

fn refers(value: &Value, fields: References, is_it: &dyn Fn(&Value) -> bool) -> bool {
    let named = |of: &Value, field: &str| match of {
        Value::Array(all) => all.iter().any(|one| is_it(&one[field])),
        one => is_it(&one[field]),
    };
    match value {
        Value::Array(all) => all.iter().any(|one| refers(one, fields, is_it)),
        Value::Object(all) => all.iter().any(|(key, of)| {
            fields.iter().any(|(holder, field)| holder == key && named(of, field)) || refers(of, fields, is_it)
        }),
        _ => false,
    }
}

/// A node, and what it asks for.
struct Own<'a> {
    registry: &'a Registry,
    node: &'a str,
    verb: &'a str,
    subresource: &'a str,
    namespace: &'a str,
    name: &'a str,
    /// The node whose pods a list asks for.
    selected: &'a str,
}

/// Why not.
type Said = Result<(), String>;

fn only(is_so: bool, why: &str) -> Said {
    if is_so { Ok(()) } else { Err(why.to_owned()) }
}

impl Own<'_> {
    /// The pods of the node, but for those that it made itself.
    fn pods(&self, namespace: &str) -> Vec<Arc<Pod>> {
        let fields = FieldSelector::equals("spec.nodeName", self.node);
        let mut pods =
            self.registry.api::<Pods>().select(namespace, &Selection { fields, ..Selection::default() }).items;
        pods.retain(|pod| !pod.metadata.annotations.as_ref().is_some_and(|all| all.contains_key(MIRROR)));
        pods
    }

    fn related(&self, is_related: bool) -> Said {
        if self.name.is_empty() {
            return Err("No Object name found".to_owned());
        }
        let why = || format!("no relationship found between node '{}' and this object", self.node);
        if is_related { Ok(()) } else { Err(why()) }
    }

    /// Reads of what the node's pods name in their namespace.
    fn referred(&self, fields: References) -> Said {
        only(["get", "list", "watch"].contains(&self.verb), "can only read resources of this type")?;
        only(self.subresource.is_empty(), "cannot read subresource")?;
        only(!self.namespace.is_empty(), "can only read namespaced object of this type")?;
        let names = |pod: &Arc<Pod>| {
            let spec = serde_json::to_value(&pod.spec).unwrap_or_default();
            refers(&spec, fields, &|name| name == self.name)
        };
        self.related(self.pods(self.namespace).iter().any(names))
    }

    /// Reads of one object that has to do with the node.
    fn got(&self, is_related: impl Fn() -> bool) -> Said {
        only(self.verb == "get", "can only get individual resources of this type")?;
        only(self.subresource.is_empty(), "cannot get subresource")?;
        self.related(is_related())
    }

    fn uses_claim(&self, namespace: &str, name: &str) -> bool {
        let uses = |pod: &Arc<Pod>| claims_of(pod).iter().any(|claim| claim.key.name == name);
        self.pods(namespace).iter().any(uses)
    }

    fn claim(&self) -> Said {
        if self.subresource == "status" {
            only(["patch", "update"].contains(&self.verb), "can only update status of this type")?;
            return self.related(self.uses_claim(self.namespace, self.name));
        }
        self.got(|| self.uses_claim(self.namespace, self.name))
    }

    fn stored(&self, kind: &dyn ErasedKind) -> Value {
        let entry = self.registry.entry(kind, &ObjectKey::new("", self.name));
        entry.and_then(|entry| serde_json::from_slice(&entry.value).ok()).unwrap_or_default()
    }

    fn uses_volume(&self) -> bool {
        let volume = self.stored(&PERSISTENT_VOLUMES);
        let claim = &volume["spec"]["claimRef"];
        let text = |field: &str| claim[field].as_str().unwrap_or_default();
        !text("name").is_empty() && self.uses_claim(text("namespace"), text("name"))
    }

    fn is_attached(&self) -> bool {
        self.stored(&VOLUME_ATTACHMENTS)["spec"]["nodeName"] == self.node
    }

    fn account(&self) -> Said {
        let is_create = self.verb == "create" && !self.name.is_empty();
        only(is_create, "can only create tokens for individual service accounts")?;
        only(self.subresource == "token", "can only create token subresource of service account")?;
        let runs_as =
            |pod: &Arc<Pod>| pod.spec.as_ref().and_then(|s| s.service_account_name.as_deref()) == Some(self.name);
        self.related(self.pods(self.namespace).iter().any(runs_as))
    }

    fn pod(&self) -> Said {
        let node = self.node;
        let pod = self.registry.api::<Pods>().get(&ObjectKey::new(self.namespace, self.name));
        let node_of = |pod: &Pod| pod.spec.as_ref().and_then(|s| s.node_name.clone());
        let is_here = pod.as_ref().and_then(|pod| node_of(pod)).as_deref() == Some(node);
        let own = |what: &str| {
            // What is not there is told as such.
            let is_own = pod.is_none() || is_here;
            only(is_own, &format!("node {node:?} can only {what} pods with spec.nodeName set to itself"))
        };
        match (self.subresource, self.verb) {
            ("", "get") => self.related(is_here),
            ("", "list" | "watch") => {
                only(self.selected == node, "can only list/watch pods with spec.nodeName field selector")
            }
            ("", "create") => Ok(()),
            ("", "delete") => own("delete"),
            ("status", "patch" | "update") => own("update pod status for"),
            ("eviction", "create") => own("evict"),
            _ => Err(String::new()),
        }
    }

    fn node(&self) -> Said {
        let node = self.node;
        match (self.subresource, self.verb) {
            // Which node it is, is in the object.
            ("", "create") => Ok(()),
            ("" | "status", "patch" | "update") => {
                only(self.name == node, &format!("node {node:?} is not allowed to modify node {:?}", self.name))
            }
            ("", "get" | "list" | "watch") if self.name == node => Ok(()),
            ("", "get" | "list" | "watch") if self.name.is_empty() => {
                Err(format!("node '{node}' cannot read all nodes, only its own Node object"))
            }
            ("", "get" | "list" | "watch") => {
                Err(format!("node '{node}' cannot read '{}', only its own Node object", self.name))
            }
            _ => Err(String::new()),
        }
    }

    fn lease(&self) -> Said {
        let verbs = ["create", "delete", "get", "patch", "update"];
        only(verbs.contains(&self.verb), "can only get, create, update, patch, or delete a node lease")?;
        let place = format!("can only access leases in the {LEASES:?} system namespace");
        only(self.namespace == LEASES, &place)?;
        let is_own = self.verb == "create" || self.name == self.node;
        only(is_own, "can only access node lease with the same name as the requesting node")
    }

    fn csi_node(&self) -> Said {
        let verbs = ["create", "delete", "get", "patch", "update"];
        only(verbs.contains(&self.verb), "can only get, create, update, patch, or delete a CSINode")?;
        only(self.subresource.is_empty(), "cannot authorize CSINode subresources")?;
        let is_own = self.verb == "create" || self.name == self.node;
        only(is_own, "can only access CSINode with the same name as the requesting node")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        api::kinds::service_account::ServiceAccounts,
        identity::{Rbac, User, roles},
        testing,
    };
    use serde_json::json;

    async fn rbac() -> Rbac {
        let registry = testing::registry_with_namespaces(&["kube-public"]).await;
        roles::reconcile(&registry).await.unwrap();
        for (name, node, mirror) in [("own", "a", false), ("other", "b", false), ("shown", "a", true)] {
            let account = json!({ "metadata": { "name": format!("account-{name}"), "namespace": "default" } });
            registry.api::<ServiceAccounts>().create(serde_json::from_value(account).unwrap()).await.unwrap();
            let pod: Pod = serde_json::from_value(json!({
                "metadata": {
                    "name": name, "namespace": "default",
                    "annotations": if mirror { json!({ MIRROR: "x" }) } else { json!({}) },
                },
                "spec": {
                    "nodeName": node, "serviceAccountName": format!("account-{name}"),
                    "imagePullSecrets": [{ "name": format!("pull-{name}") }],
                    "containers": [{
                        "name": "c", "image": "i",
                        "envFrom": [{ "configMapRef": { "name": format!("env-{name}") } }],
                        "env": [{ "name": "secret", "value": "x" }],
                    }],
                    "volumes": [
                        { "name": "s", "secret": { "secretName": format!("files-{name}") } },
                        { "name": "p", "projected": { "sources": [{ "secret": { "name": format!("part-{name}") } }] } },
                        { "name": "c", "persistentVolumeClaim": { "claimName": format!("claim-{name}") } },
                    ],
                },
            }))
            .unwrap();
            registry.api::<Pods>().create(pod).await.unwrap();
        }
        Rbac::new(registry)
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_may_read_what_its_pods_need() {
        let rbac = rbac().await;
        let node = User::new("system:node:a", ["system:nodes", "system:authenticated"]);
        let stranger = "no relationship found between node 'a' and this object";
        let is_node = |verb, resource, subresource, namespace, name, selected| {
            let on = On::Resource { group: "", resource, subresource, namespace, name, node: selected };
            let verdict = rbac.verdict(&node, &Attributes { verb, on });
            if verdict.is_allowed { "yes".to_owned() } else { verdict.reason }
        };
        for (verb, what, name, want) in [
            ("get", "secrets", "files-own", "yes"),
            ("watch", "secrets", "part-own", "yes"),
            ("list", "secrets", "pull-own", "yes"),
            ("get", "secrets", "files-other", stranger),
            ("get", "secrets", "files-shown", stranger),
            ("list", "secrets", "", "No Object name found"),
            ("update", "secrets", "files-own", "can only read resources of this type"),
            ("get", "configmaps", "env-own", "yes"),
            ("get", "configmaps", "env-other", stranger),
            ("get", "persistentvolumeclaims", "claim-own", "yes"),
            ("get", "persistentvolumeclaims", "claim-other", stranger),
            ("list", "persistentvolumeclaims", "claim-own", "can only get individual resources of this type"),
            ("create", "serviceaccounts/token", "account-own", "yes"),
            ("create", "serviceaccounts/token", "account-other", stranger),
            ("get", "serviceaccounts", "account-own", "can only create tokens for individual service accounts"),
            ("get", "pods", "own", "yes"),
            ("get", "pods", "other", stranger),
            ("list", "pods", "", "can only list/watch pods with spec.nodeName field selector"),
            ("delete", "pods", "other", "node \"a\" can only delete pods with spec.nodeName set to itself"),
            ("patch", "pods/status", "own", "yes"),
            (
                "patch",
                "pods/status",
                "other",
                "node \"a\" can only update pod status for pods with spec.nodeName set to itself",
            ),
            ("update", "pods", "own", ""),
            ("get", "services", "", "yes"),
            ("delete", "services", "s", ""),
        ] {
            let (resource, subresource) = what.split_once('/').unwrap_or((what, ""));
            assert_eq!(is_node(verb, resource, subresource, "default", name, ""), want, "{verb} {what} {name}");
        }
        assert_eq!(is_node("list", "pods", "", "", "", "a"), "yes");
        assert_eq!(is_node("get", "nodes", "", "", "a", ""), "yes");
        assert_eq!(is_node("patch", "nodes", "status", "", "a", ""), "yes");
        assert_eq!(is_node("get", "nodes", "", "", "b", ""), "node 'a' cannot read 'b', only its own Node object");
        assert_eq!(
            is_node("list", "nodes", "", "", "", ""),
            "node 'a' cannot read all nodes, only its own Node object"
        );
        assert_eq!(is_node("patch", "nodes", "", "", "b", ""), "node \"a\" is not allowed to modify node \"b\"");
        let lease = |namespace, name| {
            let (group, resource) = ("coordination.k8s.io", "leases");
            let on = On::Resource { group, resource, subresource: "", namespace, name, node: "" };
            rbac.verdict(&node, &Attributes { verb: "update", on }).is_allowed
        };
        assert_eq!((lease(LEASES, "a"), lease(LEASES, "b"), lease("kube-system", "a")), (true, false, false));
        let no_node = User::new("system:node:a", ["system:authenticated"]);
        let on = On::Resource {
            group: "",
            resource: "secrets",
            subresource: "",
            namespace: "default",
            name: "files-own",
            node: "",
        };
        assert!(!rbac.verdict(&no_node, &Attributes { verb: "get", on }).is_allowed, "the group makes a node");
    }
}
