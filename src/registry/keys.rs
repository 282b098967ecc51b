//! Store keys of objects: `<group or core>/<plural>/<namespace>/<name>`, and the index terms beside them.
//!
//! A namespace is `-` for cluster-scoped kinds, so that a kind's keys are one contiguous range.

use crate::api::{kind::KindInfo, meta::ObjectKey};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

fn group_and_plural<'a>(info: &KindInfo<'a>) -> (&'a str, &'a str) {
    let (group, plural) = info.stored_as.unwrap_or((info.group, info.plural));
    (if group.is_empty() { "core" } else { group }, plural)
}

/// The group and plural of the stored kind that a key is of.
pub fn group_and_plural_of(key: &str) -> Option<(&str, &str)> {
    let (group, rest) = key.split_once('/')?;
    let (plural, _) = rest.split_once('/')?;
    Some((if group == "core" { "" } else { group }, plural))
}

/// What the keys of all objects of a kind begin with.
pub fn kind_prefix(info: &KindInfo<'_>) -> String {
    let (group, plural) = group_and_plural(info);
    format!("{group}/{plural}/")
}

/// What the keys of a namespace's objects of a kind begin with; of all namespaces when it is empty.
pub fn prefix(info: &KindInfo<'_>, namespace: &str) -> String {
    let all = kind_prefix(info);
    if namespace.is_empty() { all } else { format!("{all}{namespace}/") }
}

/// An object's key.
pub fn key(info: &KindInfo<'_>, object: &ObjectKey) -> String {
    let namespace = if info.is_namespaced() { object.namespace.as_str() } else { "-" };
    format!("{}{namespace}/{}", kind_prefix(info), object.name)
}

/// The object that a key of this kind names.
pub fn object_key(info: &KindInfo<'_>, key: &str) -> Option<ObjectKey> {
    let (namespace, name) = key.strip_prefix(&kind_prefix(info))?.split_once('/')?;
    Some(ObjectKey::new(if namespace == "-" { "" } else { namespace }, name))
}

/// The term by which the objects that an owner has are found.
pub fn owner_term(uid: &str) -> String {
    format!("owner={uid}")
}

/// The term of the objects that an owner waits for when it is asked to.
pub fn blocks_term(uid: &str) -> String {
    format!("blocks={uid}")
}

/// The index terms of an object.
pub fn terms(meta: &ObjectMeta) -> Vec<String> {
    let owners = || meta.owner_references.iter().flatten();
    let blocked = owners().filter(|owner| owner.block_owner_deletion == Some(true));
    owners().map(|owner| owner_term(&owner.uid)).chain(blocked.map(|owner| blocks_term(&owner.uid))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::kind::Kind as _;
    use crate::api::kinds::pod::Pods;

    #[test]
    fn a_key_reads_back_as_its_object() {
        let object = ObjectKey::new("default", "web");
        let text = key(&Pods::INFO, &object);
        assert_eq!(text, "core/pods/default/web");
        assert_eq!(object_key(&Pods::INFO, &text), Some(object));
        assert_eq!(group_and_plural_of(&text), Some(("", "pods")));
        assert!(text.starts_with(&prefix(&Pods::INFO, "default")));
        assert!(text.starts_with(&prefix(&Pods::INFO, "")));
    }
}
