//! Definitions of kinds that are added while the program runs, from the OpenAPI v3 schema that comes with them.
//!
//! Called by `json_kind`. **Source** of what a schema may say: `apiextensions-apiserver/pkg/apis/apiextensions/v1/types_jsonschema.go`, v1.37.

use super::structure::{Definition, DefinitionId, ListType, Property, Strategy, Type};
use crate::base::ordered::SortList as _;
use serde_json::{Map, Value, json};

const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";
const LIST_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta";

/// The definition of objects whose schema this is. What every object has is added.
pub(in crate::api) fn definition(name: &str, schema: &Value) -> Definition {
    let mut definition = object(name, schema);
    let meta = DefinitionId::find(OBJECT_META).expect("object metadata has a definition");
    for (field, kind) in [("apiVersion", Type::String), ("kind", Type::String), ("metadata", Type::Ref(meta))] {
        definition.properties.retain(|p| p.name != field);
        definition.properties.push(property(field, kind, false));
    }
    definition.properties.sort_list_by(|a, b| a.name.cmp(&b.name));
    definition
}

fn property(name: &str, kind: Type, is_required: bool) -> Property {
    Property {
        name: name.to_owned().into(),
        kind,
        is_required,
        merge_key: None,
        strategy: Strategy::default(),
        list: ListType::Atomic,
        is_atomic: false,
        go_type: None,
        embedded: None,
    }
}

fn object(name: &str, schema: &Value) -> Definition {
    let is_required = |field: &str| schema["required"].as_array().is_some_and(|all| all.iter().any(|f| f == field));
    let of = |(field, schema): (&String, &Value)| Property {
        list: list_type(schema),
        is_atomic: schema["x-kubernetes-map-type"] == "atomic",
        ..property(field, type_of(&format!("{name}.{field}"), schema), is_required(field))
    };
    let mut properties: Vec<Property> = schema["properties"].as_object().into_iter().flatten().map(of).collect();
    properties.sort_list_by(|a, b| a.name.cmp(&b.name));
    let is_atomic = schema["x-kubernetes-map-type"] == "atomic";
    Definition { name: name.to_owned().into(), properties, value: None, is_atomic }
}

fn list_type(schema: &Value) -> ListType {
    let keys = schema["x-kubernetes-list-map-keys"].as_array().into_iter().flatten().filter_map(Value::as_str);
    match schema["x-kubernetes-list-type"].as_str() {
        Some("set") => ListType::Set,
        Some("map") => ListType::Map(keys.collect::<Vec<_>>().join(",").into()),
        _ => ListType::Atomic,
    }
}

fn type_of(name: &str, schema: &Value) -> Type {
    if schema["x-kubernetes-int-or-string"] == true {
        return Type::IntOrString;
    }
    if schema["x-kubernetes-preserve-unknown-fields"] == true {
        return Type::Any;
    }
    match schema["type"].as_str() {
        Some("string") if schema["format"] == "byte" => Type::Bytes,
        Some("string") => Type::String,
        Some("boolean") => Type::Bool,
        Some("integer") if schema["format"] == "int32" => Type::Int32,
        Some("integer") => Type::Int64,
        Some("number") => Type::Number,
        Some("array") => Type::List(Box::new(type_of(name, &schema["items"]))),
        Some("object") if schema["properties"].is_object() => Type::Object(Box::new(object(name, schema))),
        Some("object") if schema["additionalProperties"].is_object() => {
            Type::Map(Box::new(type_of(name, &schema["additionalProperties"])))
        }
        _ => Type::Any,
    }
}

/// The definitions of the objects and of their list as OpenAPI documents have them: name and JSON.
pub(in crate::api) fn published(name: &str, schema: &Value, gvk: &Value) -> Vec<(String, String)> {
    let reference = |name: &str| json!({ "$ref": format!("#/components/schemas/{name}") });
    let with_identity = |mut schema: Value, gvk: &Value, meta: &str| {
        if !schema["properties"].is_object() {
            schema["properties"] = Value::Object(Map::new());
        }
        for field in ["apiVersion", "kind"] {
            schema["properties"][field] = json!({ "type": "string" });
        }
        schema["properties"]["metadata"] = json!({ "allOf": [reference(meta)] });
        schema["x-kubernetes-group-version-kind"] = json!([gvk]);
        schema.to_string()
    };
    let list = json!({ "type": "object", "required": ["items"], "properties": {
        "items": { "type": "array", "items": { "allOf": [reference(name)], "default": {} } },
    } });
    let mut list_gvk = gvk.clone();
    list_gvk["kind"] = json!(format!("{}List", gvk["kind"].as_str().unwrap_or_default()));
    vec![
        (name.to_owned(), with_identity(schema.clone(), gvk, OBJECT_META)),
        (format!("{name}List"), with_identity(list, &list_gvk, LIST_META)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::schema::{check, complete};

    #[test]
    fn a_schema_becomes_a_definition_that_checks_values() {
        let schema = json!({ "type": "object", "properties": { "spec": { "type": "object", "properties": {
            "n": { "type": "integer", "format": "int32" }, "port": { "x-kubernetes-int-or-string": true },
            "free": { "type": "object", "x-kubernetes-preserve-unknown-fields": true },
            "labels": { "type": "object", "additionalProperties": { "type": "string" } },
            "rules": { "type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name", "port"],
                "items": { "type": "object", "properties": { "name": { "type": "string" } } } },
        } } } });
        let definition = definition("com.example.v1.Widget", &schema);
        let rules = definition.property("spec").unwrap().kind.object().unwrap().property("rules").unwrap();
        assert_eq!(rules.list, ListType::Map("name,port".into()));
        let mut value = json!({ "metadata": { "name": "a", "odd": 1 }, "spec": {
            "n": 1, "port": "http", "free": { "any": [1] }, "labels": { "a": "b" }, "rules": [{ "name": "x", "odd": 1 }],
        } });
        let found = check(&definition, &value);
        assert_eq!((found.unknown, found.error), (vec!["metadata.odd".into(), "spec.rules[0].odd".into()], None));
        complete(&definition, &mut value);
        assert_eq!(
            (&value["spec"]["rules"], &value["spec"]["free"]),
            (&json!([{ "name": "x" }]), &json!({ "any": [1] }))
        );
        let wrong = check(&definition, &json!({ "spec": { "n": "x" } })).error.unwrap();
        assert!(wrong.contains("cannot unmarshal string into Go struct field"), "{wrong}");
    }
}
