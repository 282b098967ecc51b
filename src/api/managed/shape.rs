//! How a value is taken apart: what is one field, and what has fields of its own.

use super::fields::Element;
use crate::{
    api::schema::structure::{Definition, ListType, Property, Type},
    base::ordered::CollectOrdered as _,
};
use serde_json::{Map, Value, json};

/// What a key field is when an item leaves it out. Source: `+default` of `protocol` in `k8s.io/api/core/v1/types.go`.
const KEY_DEFAULTS: [(&str, &str); 1] = [("protocol", "TCP")];

/// How a value is taken apart.
#[derive(Clone, Copy, Debug)]
pub(super) enum Shape<'d> {
    /// It is one field.
    Leaf,
    /// Its fields are those of a definition.
    Object(&'d Definition),
    /// Each of its keys is a field, and has values of this type.
    Map(&'d Type),
    /// Each of its values is a field.
    Set,
    /// Its items are told apart by these key fields (names joined by commas).
    List(&'d str, &'d Type),
    /// Nothing is known of it: the keys of objects are fields, all else is one.
    Unknown,
}

impl<'d> Shape<'d> {
    /// The shape of a kind's objects.
    pub(super) fn of_definition(definition: &'d Definition) -> Self {
        match &definition.value {
            Some(kind) => Self::of_type(kind),
            None if definition.is_atomic => Self::Leaf,
            None => Self::Object(definition),
        }
    }

    fn of_property(property: &'d Property) -> Self {
        if property.is_atomic {
            return Self::Leaf;
        }
        match (&property.kind, &property.list) {
            (Type::List(_), ListType::Set) => Self::Set,
            (Type::List(inner), ListType::Map(keys)) => Self::List(keys, inner),
            (kind, _) => Self::of_type(kind),
        }
    }

    pub(super) fn of_type(kind: &'d Type) -> Self {
        match kind {
            Type::Ref(_) | Type::Object(_) => kind.object().map_or(Self::Leaf, Self::of_definition),
            Type::Map(inner) => Self::Map(inner),
            Type::Any => Self::Unknown,
            _ => Self::Leaf,
        }
    }

    /// The shape of a field; `None`: there is none of this name.
    pub(super) fn field(self, name: &str) -> Option<Self> {
        match self {
            Self::Object(definition) => definition.property(name).map(Self::of_property),
            Self::Map(inner) => Some(Self::of_type(inner)),
            Self::Unknown => Some(Self::Unknown),
            Self::Leaf | Self::Set | Self::List(..) => None,
        }
    }

    /// The shape of the items.
    pub(super) fn item(self) -> Self {
        match self {
            Self::List(_, inner) => Self::of_type(inner),
            _ => Self::Leaf,
        }
    }

    /// The fields of a value of this shape; `None`: it is one field itself.
    pub(super) fn parts(self, value: &Value) -> Option<Parts<'_>> {
        match (self, value) {
            (Self::Object(_) | Self::Map(_) | Self::Unknown, Value::Object(fields)) => Some(Parts::Fields(fields)),
            (Self::Set | Self::List(..), Value::Array(items)) => Some(Parts::Items(items)),
            _ => None,
        }
    }

    /// How an item of a list is told from the others; `None`: it cannot be.
    pub(super) fn element(self, item: &Value) -> Option<Element> {
        match self {
            Self::Set if !item.is_object() && !item.is_array() => Some(Element::Item(item.clone())),
            Self::List(keys, _) => {
                let fields = item.as_object()?;
                let of = |name: &str| -> Option<(String, Value)> {
                    let default =
                        || KEY_DEFAULTS.iter().find(|(field, _)| *field == name).map(|(_, value)| json!(value));
                    Some((name.to_owned(), fields.get(name).cloned().or_else(default)?))
                };
                // A field that has no default may be absent, as long as one of the keys is there.
                let key: Map<String, Value> = keys.split(',').filter_map(of).collect_ordered();
                (!key.is_empty()).then_some(Element::Key(key))
            }
            _ => None,
        }
    }

    /// The items of a list with what tells them apart; those that cannot be are left out.
    pub(super) fn items(self, items: &[Value]) -> Vec<(Element, &Value)> {
        items.iter().filter_map(|item| Some((self.element(item)?, item))).collect()
    }

    /// Whether a key of a value of this shape is a field of its own beside what is below it.
    pub(super) fn keys_are_fields(self) -> bool {
        matches!(self, Self::Map(_) | Self::Unknown)
    }
}

/// What a value is made of.
pub(super) enum Parts<'v> {
    /// Named fields.
    Fields(&'v Map<String, Value>),
    /// Items of a list.
    Items(&'v [Value]),
}

/// Whether a value is an empty object or list, or nothing.
pub(super) fn is_void(value: Option<&Value>) -> bool {
    match value {
        None | Some(Value::Null) => true,
        Some(Value::Object(fields)) => fields.is_empty(),
        Some(Value::Array(items)) => items.is_empty(),
        Some(_) => false,
    }
}

/// A name as a step.
pub(super) fn field(name: &str) -> Element {
    Element::Field(name.to_owned())
}
