//! Values as a typed decode and encode would leave them, for objects that have no type: only what the definition has, and all that it
//! requires.

use super::structure::{Definition, Type};
use serde_json::{Map, Value, json};

/// See [`super::complete()`].
pub(super) fn object(definition: &Definition, value: &mut Value) {
    if let Some(kind) = &definition.value {
        return complete(kind, value);
    }
    let Value::Object(fields) = value else { return };
    fields.retain(|name, value| !value.is_null() && definition.property(name).is_some());
    for property in &definition.properties {
        match fields.get_mut(&*property.name) {
            Some(value) => complete(&property.kind, value),
            None => field(definition, &property.name, fields),
        }
    }
}

/// Puts a field in, if the definition requires it and it is absent.
fn field(definition: &Definition, name: &str, fields: &mut Map<String, Value>) {
    let required = definition.property(name).filter(|p| p.is_required && !fields.contains_key(name));
    if let Some(zero) = required.and_then(|p| zero(&p.kind)) {
        fields.insert(name.to_owned(), zero);
    }
}

fn complete(kind: &Type, value: &mut Value) {
    match (kind, &mut *value) {
        (Type::Ref(id), _) => object(id.get(), value),
        (Type::Object(definition), _) => object(definition, value),
        (Type::List(inner), Value::Array(items)) => items.iter_mut().for_each(|item| complete(inner, item)),
        (Type::Map(inner), Value::Object(entries)) => entries.values_mut().for_each(|item| complete(inner, item)),
        _ => {}
    }
}

/// What Go writes for a field of this type that was not set; `None`: nothing that could be read again.
fn zero(kind: &Type) -> Option<Value> {
    Some(match kind {
        Type::String | Type::Bytes => json!(""),
        Type::Quantity => json!("0"),
        Type::Bool => json!(false),
        Type::Int32 | Type::Int64 | Type::Number | Type::IntOrString => json!(0),
        Type::List(_) => json!([]),
        Type::Map(_) => json!({}),
        Type::Ref(_) | Type::Object(_) => {
            let definition = kind.object()?;
            if let Some(kind) = &definition.value {
                return zero(kind);
            }
            let mut value = json!({});
            object(definition, &mut value);
            value
        }
        Type::Any | Type::Time | Type::MicroTime => return None,
    })
}
