//! Merge patch, RFC 7386: objects merge, a null removes, anything else replaces.

use super::PatchError;
use serde_json::{Map, Value};

/// The object after the patch.
pub fn apply(mut current: Value, patch: Value) -> Result<Value, PatchError> {
    if !patch.is_object() {
        return Err(PatchError::Malformed("Invalid JSON Patch".to_owned()));
    }
    merge(&mut current, patch);
    Ok(current)
}

fn merge(target: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else {
        *target = patch;
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let fields = target.as_object_mut().expect("made one above");
    for (name, value) in patch {
        if value.is_null() {
            fields.remove(&name);
        } else {
            merge(fields.entry(name).or_insert(Value::Null), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    /// The examples of the RFC's appendix whose patch is an object.
    #[test]
    fn the_examples_of_the_rfc_hold() {
        for (target, patch, result) in [
            (json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "b"}), json!({"b": "c"}), json!({"a": "b", "b": "c"})),
            (json!({"a": "b"}), json!({"a": null}), json!({})),
            (json!({"a": "b", "b": "c"}), json!({"a": null}), json!({"b": "c"})),
            (json!({"a": ["b"]}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "c"}), json!({"a": ["b"]}), json!({"a": ["b"]})),
            (json!({"a": {"b": "c"}}), json!({"a": {"b": "d", "c": null}}), json!({"a": {"b": "d"}})),
            (json!({"a": [{"b": "c"}]}), json!({"a": [1]}), json!({"a": [1]})),
            (json!({"e": null}), json!({"a": 1}), json!({"e": null, "a": 1})),
            (json!([1, 2]), json!({"a": "b", "c": null}), json!({"a": "b"})),
            (json!({}), json!({"a": {"bb": {"ccc": null}}}), json!({"a": {"bb": {}}})),
        ] {
            assert_eq!(apply(target, patch), Ok(result));
        }
    }

    #[test]
    fn only_an_object_is_a_patch() {
        for patch in [json!([1]), json!("x"), json!(null)] {
            assert_eq!(apply(json!({}), patch), Err(PatchError::Malformed("Invalid JSON Patch".into())));
        }
    }

    fn object() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![Just(Value::Null), (0..3i64).prop_map(Value::from), Just(json!([1, null]))];
        let node = leaf.prop_recursive(3, 16, 3, |inner| {
            prop::collection::btree_map("[a-c]", inner, 0..3).prop_map(|m| Value::Object(m.into_iter().collect()))
        });
        prop::collection::btree_map("[a-c]", node, 0..3).prop_map(|m| Value::Object(m.into_iter().collect()))
    }

    proptest! {
        #[test]
        fn applying_twice_is_applying_once(current in object(), patch in object()) {
            let once = apply(current, patch.clone()).expect("it is an object");
            prop_assert_eq!(apply(once.clone(), patch).expect("it is an object"), once);
        }

        #[test]
        fn the_empty_patch_changes_nothing(current in object()) {
            prop_assert_eq!(apply(current.clone(), json!({})), Ok(current));
        }

        #[test]
        fn what_the_patch_sets_is_there_and_what_it_nulls_is_not(current in object(), patch in object()) {
            let result = apply(current, patch.clone()).expect("it is an object");
            for (name, value) in patch.as_object().expect("it is an object") {
                match value {
                    Value::Null => prop_assert!(result.get(name).is_none()),
                    Value::Object(_) => prop_assert!(result[name].is_object()),
                    other => prop_assert_eq!(&result[name], other),
                }
            }
        }
    }
}
