//! The hash of a pod template: what names a new ReplicaSet or ControllerRevision and keeps its pods apart from those of its siblings.
//!
//! The hash only has to be stable: it is never recomputed to find a set again, templates are compared instead.
//! **Source** of the form: `ComputeHash`, pkg/controller/controller_utils.go, and `SafeEncodeString`, apimachinery/util/rand, v1.37.

use crate::{
    api::{names::fnv1a, object::untyped},
    base::rng::NAME_ALPHABET,
};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use serde_json::Value;

/// The label that a set's selector, template and pods carry.
pub(super) const HASH_LABEL: &str = "pod-template-hash";
/// The longest name of an object.
const NAME_MAX: usize = 253;
/// Fields that are maps, where empty means the same as absent. In other fields an empty object may mean something (`emptyDir: {}`).
const MAPS: &[&str] = &["annotations", "labels", "limits", "matchLabels", "nodeSelector", "overhead", "requests"];

/// The template as JSON, in which equal templates are equal: no nulls, no empty lists, no empty maps, no hash label.
pub(super) fn normal_form(template: &PodTemplateSpec) -> Value {
    let mut value = untyped(template);
    if let Some(labels) = value.pointer_mut("/metadata/labels").and_then(Value::as_object_mut) {
        labels.remove(HASH_LABEL);
    }
    strip(&mut value);
    value
}

fn strip(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.values_mut().for_each(strip);
            fields.retain(|key, value| match value {
                Value::Null => false,
                Value::Array(items) => !items.is_empty(),
                Value::Object(map) => !map.is_empty() || !MAPS.contains(&key.as_str()),
                _ => true,
            });
        }
        Value::Array(items) => items.iter_mut().for_each(strip),
        _ => {}
    }
}

/// The hash of a template; another for every collision.
pub(super) fn template_hash(template: &PodTemplateSpec, collisions: Option<i32>) -> String {
    let text = normal_form(template).to_string();
    let salt = collisions.map(|n| u64::from(n.unsigned_abs()).to_le_bytes()).unwrap_or_default();
    let salt = if collisions.is_some() { &salt[..] } else { &[] };
    safe_text(fnv1a(text.bytes().chain(salt.iter().copied())))
}

/// The decimal digits, each as a character that cannot spell a bad word.
fn safe_text(hash: u32) -> String {
    let pick = |byte: u8| char::from(NAME_ALPHABET[usize::from(byte) % NAME_ALPHABET.len()]);
    hash.to_string().bytes().map(pick).collect()
}

/// The name of an owner's set or revision, cut so that the hash stays whole. Source: `generateReplicaSetName`.
pub(super) fn set_name(owner: &str, hash: &str) -> String {
    let end = NAME_MAX - 1 - hash.len();
    let end = (0..=owner.len().min(end)).rev().find(|i| owner.is_char_boundary(*i)).unwrap_or(0);
    format!("{}-{hash}", &owner[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template(yaml: &str) -> PodTemplateSpec {
        crate::testing::from_yaml(yaml).unwrap()
    }

    #[test]
    fn the_hash_is_in_the_safe_alphabet() {
        // '0' is byte 48, and 48 mod 27 is 21.
        assert_eq!(safe_text(0), char::from(NAME_ALPHABET[21]).to_string());
        assert_eq!(safe_text(u32::MAX).len(), 10);
    }

    #[test]
    fn a_template_keeps_its_hash_from_version_to_version() {
        let t = template("{metadata: {labels: {app: web}}, spec: {containers: [{name: c, image: nginx}]}}");
        assert_eq!(template_hash(&t, None), "5776f98846");
        assert_ne!(template_hash(&t, Some(0)), template_hash(&t, None));
        assert_ne!(template_hash(&t, Some(1)), template_hash(&t, Some(0)));
    }

    #[test]
    fn empty_lists_and_the_hash_label_make_no_difference_but_empty_objects_do() {
        let plain = template("{metadata: {labels: {app: web}}, spec: {containers: [{name: c}], volumes: [{name: v}]}}");
        let same = template(
            "{metadata: {labels: {app: web, pod-template-hash: x}, annotations: {}}, \
             spec: {containers: [{name: c, env: [], args: []}], nodeSelector: {}, volumes: [{name: v}]}}",
        );
        assert_eq!(normal_form(&plain), normal_form(&same));
        let other = template(
            "{metadata: {labels: {app: web}}, spec: {containers: [{name: c}], volumes: [{name: v, emptyDir: {}}]}}",
        );
        assert_ne!(normal_form(&plain), normal_form(&other));
    }

    #[test]
    fn a_long_name_is_cut_and_the_hash_stays_whole() {
        assert_eq!(set_name("web", "abc"), "web-abc");
        let name = set_name(&"x".repeat(253), "0123456789");
        assert_eq!(name.len(), 253);
        assert!(name.ends_with("-0123456789"));
    }
}
