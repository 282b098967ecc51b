//! The strategic merge patch that `apply` sends: what is wanted, and the removal of what was applied before and is wanted no more.
//! What others set stays: fields and list items that neither version names are in no patch.
//!
//! The live object is not looked at: the server merges, and a patch that changes nothing writes nothing.
//!
//! **Source**: `CreateThreeWayMergePatch`, k8s.io/apimachinery/pkg/util/strategicpatch/patch.go, v1.37.

use super::strategic::{DELETE_PREFIX, DIRECTIVE, Field, Fields, ORDER_PREFIX, RETAIN_KEYS, Schema};
use crate::{
    api::schema::structure::Definition,
    base::ordered::{Map, Set},
};
use serde_json::{Value, json};
use std::sync::LazyLock;

/// The patch from what was applied before (null: nothing) to what is wanted, of an object of this definition.
pub fn three_way(before: &Value, wanted: &Value, definition: &Definition) -> Value {
    Value::Object(object(before, fields(wanted), Schema::Object(definition)))
}

fn fields(value: &Value) -> &Fields {
    static NONE: LazyLock<Fields> = LazyLock::new(Fields::new);
    value.as_object().unwrap_or(&NONE)
}

fn object(before: &Value, wanted: &Fields, schema: Schema<'_>) -> Fields {
    let before = fields(before);
    let mut patch = Fields::new();
    for (name, new) in wanted {
        let (old, field) = (before.get(name).unwrap_or(&Value::Null), schema.field(name));
        match new {
            Value::Object(new) => {
                patch.insert(name.clone(), Value::Object(union(old, new, field)));
            }
            Value::Array(new) if field.merges => list(&mut patch, name, old, new, field),
            _ => {
                patch.insert(name.clone(), new.clone());
            }
        }
    }
    let gone = before.keys().filter(|name| !wanted.contains_key(*name));
    patch.extend(gone.map(|name| (name.clone(), Value::Null)));
    patch
}

/// An object; of a union, such as a Deployment's strategy or a volume, whatever is not wanted goes.
fn union(old: &Value, new: &Fields, field: Field<'_>) -> Fields {
    let mut patch = object(old, new, field.schema);
    if field.retains_keys {
        patch.insert(RETAIN_KEYS.to_owned(), new.keys().cloned().collect());
    }
    patch
}

/// A list whose items merge: by their key, or as they are.
fn list(patch: &mut Fields, name: &str, old: &Value, new: &[Value], field: Field<'_>) {
    let olds = old.as_array().map(Vec::as_slice).unwrap_or_default();
    let Some(key) = field.merge_key else {
        let wanted: Set<String> = new.iter().map(Value::to_string).collect();
        let gone: Vec<Value> = olds.iter().filter(|item| !wanted.contains(&item.to_string())).cloned().collect();
        if !gone.is_empty() {
            patch.insert(format!("{DELETE_PREFIX}{name}"), Value::Array(gone));
        }
        patch.insert(format!("{ORDER_PREFIX}{name}"), Value::Array(new.to_vec()));
        patch.insert(name.to_owned(), Value::Array(new.to_vec()));
        return;
    };
    // The first of each key counts, as in a search from the front.
    let by_key = |list: &'_ [Value]| -> Map<String, usize> {
        list.iter().enumerate().rev().map(|(at, item)| (item[key].to_string(), at)).collect()
    };
    let (old_places, wanted) = (by_key(olds), by_key(new));
    let changed = new.iter().map(|item| match item {
        Value::Object(fields) => {
            let old = old_places.get(&item[key].to_string()).map_or(&Value::Null, |at| &olds[*at]);
            Value::Object(union(old, fields, field))
        }
        other => other.clone(),
    });
    let gone = olds.iter().map(|item| &item[key]).filter(|value| !wanted.contains_key(&value.to_string()));
    let gone = gone.map(|value| json!({ key: value, DIRECTIVE: "delete" }));
    let order: Vec<Value> = new.iter().map(|item| json!({ key: item[key] })).collect();
    patch.insert(name.to_owned(), changed.chain(gone).collect());
    patch.insert(format!("{ORDER_PREFIX}{name}"), Value::Array(order));
}

#[cfg(test)]
mod tests {
    use super::super::strategic;
    use super::*;
    use crate::api::schema::packed;

    const DEPLOYMENT: &str = "io.k8s.api.apps.v1.Deployment";

    /// What is live after `before` was applied, others changed it to `live`, and `wanted` is applied.
    fn applied(before: &Value, live: &Value, wanted: &Value) -> Value {
        strategic::apply(live.clone(), three_way(before, wanted, packed(DEPLOYMENT)), packed(DEPLOYMENT)).unwrap()
    }

    fn deployment(containers: Value, strategy: Value) -> Value {
        json!({"spec": {"strategy": strategy, "template": {"spec": {"containers": containers}}}})
    }

    fn rolling() -> Value {
        json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}})
    }

    #[test]
    fn what_others_set_stays() {
        let before =
            deployment(json!([{"name": "a", "image": "i:1", "env": [{"name": "X", "value": "1"}]}]), rolling());
        let sidecar = json!({"name": "sidecar", "image": "s"});
        let live = deployment(
            json!([{"name": "a", "image": "i:1", "env": [{"name": "X", "value": "1"}, {"name": "SET", "value": "2"}]}, sidecar]),
            rolling(),
        );
        let wanted =
            deployment(json!([{"name": "a", "image": "i:2", "env": [{"name": "X", "value": "3"}]}]), rolling());
        let after = applied(&before, &live, &wanted);
        let containers = &after["spec"]["template"]["spec"]["containers"];
        assert_eq!(containers[0]["image"], "i:2");
        assert_eq!(containers[0]["env"], json!([{"name": "X", "value": "3"}, {"name": "SET", "value": "2"}]));
        assert_eq!(containers[1], sidecar);
    }

    #[test]
    fn what_was_applied_and_is_wanted_no_more_goes() {
        let before = deployment(
            json!([{"name": "a", "image": "i", "args": ["x"], "env": [{"name": "X", "value": "1"}, {"name": "Y", "value": "2"}]}, {"name": "b", "image": "j"}]),
            rolling(),
        );
        let wanted = deployment(json!([{"name": "a", "image": "i", "env": [{"name": "Y", "value": "2"}]}]), rolling());
        assert_eq!(applied(&before, &before, &wanted), wanted);
        assert_eq!(applied(&wanted, &wanted, &before), before);
        let labelled = json!({"metadata": {"labels": {"a": "b"}, "finalizers": ["x.y/a", "x.y/b"]}});
        let plain = json!({"metadata": {"finalizers": ["x.y/b"]}});
        assert_eq!(applied(&labelled, &labelled, &plain)["metadata"], plain["metadata"]);
    }

    #[test]
    fn a_union_changes_its_member() {
        let live = deployment(
            json!([{"name": "a", "image": "i"}]),
            json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}}),
        );
        let before = deployment(json!([{"name": "a", "image": "i"}]), json!({"type": "RollingUpdate"}));
        let wanted = deployment(json!([{"name": "a", "image": "i"}]), json!({"type": "Recreate"}));
        assert_eq!(applied(&before, &live, &wanted)["spec"]["strategy"], json!({"type": "Recreate"}));
        let volume = |source: Value| json!({"spec": {"template": {"spec": {"volumes": [source]}}}});
        let live = volume(json!({"name": "v", "emptyDir": {}}));
        let wanted = volume(json!({"name": "v", "configMap": {"name": "c"}}));
        assert_eq!(applied(&live, &live, &wanted), wanted);
    }

    #[test]
    fn long_lists_are_compared_in_linear_time() {
        let n = 20_000;
        let env =
            |from: usize| (from..from + n).map(|i| json!({"name": format!("V{i}"), "value": "x"})).collect::<Vec<_>>();
        let of = |from: usize| {
            let finalizers: Vec<String> = (from..from + n).map(|i| format!("x.y/{i}")).collect();
            let mut object = deployment(json!([{"name": "a", "image": "i", "env": env(from)}]), rolling());
            object["metadata"] = json!({ "finalizers": finalizers });
            object
        };
        // Pairwise it would be 800 million comparisons, and nobody would wait for that.
        let patch = three_way(&of(0), &of(1), packed(DEPLOYMENT));
        assert_eq!(patch["metadata"]["$deleteFromPrimitiveList/finalizers"], json!(["x.y/0"]));
        let env = patch["spec"]["template"]["spec"]["containers"][0]["env"].as_array().unwrap();
        assert_eq!((env.len(), &env[n]), (n + 1, &json!({"name": "V0", "$patch": "delete"})));
    }

    #[test]
    fn applying_the_same_again_changes_nothing() {
        let wanted = deployment(
            json!([{"name": "a", "image": "i", "ports": [{"containerPort": 80}, {"containerPort": 81}]}, {"name": "b", "image": "j"}]),
            rolling(),
        );
        assert_eq!(applied(&wanted, &wanted, &wanted), wanted);
        assert_eq!(applied(&Value::Null, &json!({}), &wanted), wanted);
    }
}
