//! Values as Go would write them back after it has read them.

use super::{
    go,
    structure::{Definition, Type},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Map, Value, json};

/// See [`super::normalize()`].
pub(super) fn object(definition: &Definition, value: &mut Value) {
    if let Some(kind) = &definition.value {
        return normalize(kind, value);
    }
    let Value::Object(fields) = value else { return };
    fields.retain(|_, v| !v.is_null());
    for (name, value) in fields {
        if let Some(property) = definition.property(name) {
            normalize(&property.kind, value);
        }
    }
}

fn normalize(kind: &Type, value: &mut Value) {
    match (kind, &mut *value) {
        (Type::Ref(id), Value::Object(_)) => object(id.get(), value),
        (Type::Object(definition), Value::Object(_)) => object(definition, value),
        (Type::List(inner), Value::Array(items)) => {
            for item in items {
                item_of(inner, item);
            }
        }
        (Type::Map(inner), Value::Object(entries)) => {
            for item in entries.values_mut() {
                item_of(inner, item);
            }
        }
        (Type::Quantity, Value::String(_) | Value::Number(_)) => {
            let text = value.as_str().map_or_else(|| value.to_string(), |s| s.trim().to_owned());
            if let Ok(canonical) = go::quantity(&text) {
                *value = Value::String(canonical);
            }
        }
        (Type::Time | Type::MicroTime, Value::String(text)) => {
            if let Ok(canonical) = go::time(text, *kind == Type::MicroTime) {
                *text = canonical;
            }
        }
        (Type::Bytes, Value::String(text)) => {
            if let Ok(bytes) = go::base64(text) {
                *text = STANDARD.encode(bytes);
            }
        }
        _ => {}
    }
}

/// In lists and maps, where nothing can be left out, a null is the type's zero.
fn item_of(kind: &Type, value: &mut Value) {
    if !value.is_null() {
        return normalize(kind, value);
    }
    *value = match kind {
        // Times are never items.
        Type::Any | Type::Time | Type::MicroTime => return,
        Type::String | Type::Bytes => json!(""),
        Type::Quantity => json!("0"),
        Type::Bool => json!(false),
        Type::Int32 | Type::Int64 | Type::Number | Type::IntOrString => json!(0),
        Type::Ref(_) | Type::Object(_) | Type::Map(_) => Value::Object(Map::new()),
        Type::List(_) => json!([]),
    };
}
