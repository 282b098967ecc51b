//! What of an object a node may not write, though it may write the object: the labels and taints that keep others' pods away from it, and
//! pods that would let it read what is not its own.
//!
//! **Source**: `plugin/pkg/admission/noderestriction/admission.go`, `k8s.io/kubelet/pkg/apis/well_known_labels.go`, v1.37.

use super::Asker;
use crate::{
    api::{object::DynObject, status::ApiError},
    base::ordered::Set,
    identity::node::{MIRROR, names_of},
};
use serde_json::Value;
use std::collections::BTreeMap;

/// Labels of Kubernetes' own that a node says of itself.
const LABELS: &[&str] = &[
    "beta.kubernetes.io/arch",
    "beta.kubernetes.io/instance-type",
    "beta.kubernetes.io/os",
    "failure-domain.beta.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "kubernetes.io/arch",
    "kubernetes.io/hostname",
    "kubernetes.io/os",
    "node.kubernetes.io/instance-type",
    "topology.kubernetes.io/region",
    "topology.kubernetes.io/zone",
];
/// What the names of further ones begin with.
const LABEL_DOMAINS: &[&str] = &["kubelet.kubernetes.io", "node.kubernetes.io"];
const RESTRICTED: &str = "node-restriction.kubernetes.io";
const OF_KUBERNETES: &[&str] = &["k8s.io", "kubernetes.io"];

impl Asker<'_> {
    fn node(&self) -> &str {
        self.user.node().unwrap_or_default()
    }

    fn refuse<T>(&self, object: &dyn DynObject, why: String) -> Result<T, ApiError> {
        let name = object.meta().name.clone().unwrap_or_default();
        Err(ApiError::Forbidden { resource: self.resource.to_owned(), name, why })
    }
}

/// A node writes its own object.
pub(super) fn node(asker: &Asker<'_>, new: &mut dyn DynObject, old: Option<&dyn DynObject>) -> Result<(), ApiError> {
    let (node, name) = (asker.node(), new.meta().name.clone().unwrap_or_default());
    if name != node {
        return asker.refuse(new, format!("node {node:?} is not allowed to modify node {name:?}"));
    }
    let labels = |of: &dyn DynObject| of.meta().labels.clone().unwrap_or_default();
    let (wanted, there) = (labels(new), old.map(labels).unwrap_or_default());
    let forbidden = forbidden(&wanted, &there);
    if !forbidden.is_empty() {
        let what = if old.is_some() { "modify labels" } else { "set the following labels" };
        let all = forbidden.into_iter().collect::<Vec<_>>().join(", ");
        return asker.refuse(new, format!("node {node:?} is not allowed to {what}: {all}"));
    }
    let Some(old) = old else { return Ok(()) };
    if new.meta().owner_references != old.meta().owner_references {
        return asker.refuse(new, format!("node {node:?} is not allowed to modify ownerReferences"));
    }
    let taints = |of: &dyn DynObject| json(of)["spec"]["taints"].as_array().cloned().unwrap_or_default();
    if taints(new) != taints(old) {
        return asker.refuse(new, format!("node {node:?} is not allowed to modify taints"));
    }
    Ok(())
}

/// A node shows pods that it made itself, and says how those on it are.
pub(super) fn pod(asker: &Asker<'_>, new: &mut dyn DynObject, old: Option<&dyn DynObject>) -> Result<(), ApiError> {
    let node = asker.node();
    let Some(old) = old else { return new_pod(asker, new) };
    if asker.subresource == "status" && new.meta().labels != old.meta().labels {
        return asker.refuse(new, format!("node {node:?} cannot update labels through pod status"));
    }
    Ok(())
}

fn new_pod(asker: &Asker<'_>, new: &dyn DynObject) -> Result<(), ApiError> {
    let node = asker.node();
    let is_mirror = new.meta().annotations.as_ref().is_some_and(|all| all.contains_key(MIRROR));
    let spec = json(new)["spec"].take();
    let has_text = |field: &str| spec[field].as_str().is_some_and(|text| !text.is_empty());
    let volumes = spec["volumes"].as_array().cloned().unwrap_or_default();
    let (secrets, config_maps) = names_of(&spec);
    let cannot = |what: &str| format!("node {node:?} can not create pods that reference {what}");
    let why = if !is_mirror {
        format!("pod does not have {MIRROR:?} annotation, node {node:?} can only create mirror pods")
    } else if spec["nodeName"] != node {
        format!("node {node:?} can only create pods with spec.nodeName set to itself")
    } else if has_text("serviceAccountName") {
        cannot("a service account")
    } else if secrets {
        cannot("secrets")
    } else if config_maps {
        cannot("configmaps")
    } else if volumes.iter().any(|volume| !volume["persistentVolumeClaim"].is_null()) {
        cannot("persistentvolumeclaims")
    } else {
        return Ok(());
    };
    asker.refuse(new, why)
}

/// What a node makes for itself has its name.
pub(super) fn own_name(asker: &Asker<'_>, new: &mut dyn DynObject, _: Option<&dyn DynObject>) -> Result<(), ApiError> {
    if new.meta().name.as_deref() == Some(asker.node()) {
        return Ok(());
    }
    let what = if asker.resource == "leases" { "node lease" } else { "CSINode" };
    asker.refuse(new, format!("can only access {what} with the same name as the requesting node"))
}

fn json(object: &dyn DynObject) -> Value {
    serde_json::from_slice(&object.to_json()).unwrap_or_default()
}

/// The labels that differ and that a node may not set.
fn forbidden<'l>(new: &'l BTreeMap<String, String>, old: &'l BTreeMap<String, String>) -> Set<&'l str> {
    let names = new.keys().chain(old.keys()).map(String::as_str).collect::<Set<_>>();
    names.into_iter().filter(|name| new.get(*name) != old.get(*name) && !is_own(name)).collect()
}

fn is_own(label: &str) -> bool {
    let domain = label.split_once('/').map_or("", |(domain, _)| domain);
    let is_of = |of: &&str| domain == *of || domain.strip_suffix(*of).is_some_and(|rest| rest.ends_with('.'));
    if is_of(&RESTRICTED) {
        return false;
    }
    !OF_KUBERNETES.iter().any(is_of) || LABELS.contains(&label) || LABEL_DOMAINS.iter().any(is_of)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_that_keep_pods_away_are_not_the_nodes() {
        for label in
            ["app", "example.com/x", "kubernetes.io/hostname", "a.node.kubernetes.io/x", "kubelet.kubernetes.io/x"]
        {
            assert!(is_own(label), "{label}");
        }
        for label in
            ["node-restriction.kubernetes.io/x", "a.node-restriction.kubernetes.io/x", "kubernetes.io/x", "b.k8s.io/x"]
        {
            assert!(!is_own(label), "{label}");
        }
    }
}
