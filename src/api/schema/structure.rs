//! The structure of the definitions: which fields there are, of what types, and how they merge.
//!
//! Read on first use from the text that `cargo schemas` packs; names stay in that text. Called by field checking, patches and
//! OpenAPI documents. **Not here**: descriptions (`openapi`), and the facts themselves (`facts`, when packed).

use std::{borrow::Cow, sync::LazyLock};

static TEXT: &str = include_str!("packed/structure.txt");
static DEFINITIONS: LazyLock<Vec<Definition>> = LazyLock::new(|| parse(TEXT));

/// A type of object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Definition {
    /// Its name, e.g. `io.k8s.api.core.v1.PodSpec`.
    pub name: Cow<'static, str>,
    /// Its fields, sorted by name. Empty for a definition that stands for a plain value.
    pub properties: Vec<Property>,
    /// What it stands for when it has no fields.
    pub value: Option<Type>,
    /// Whether it is written as a whole in server-side apply.
    pub is_atomic: bool,
}

/// A field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Property {
    /// Its name in JSON.
    pub name: Cow<'static, str>,
    /// Its type.
    pub kind: Type,
    /// Whether the schema requires it. Go's decoder does not.
    pub is_required: bool,
    /// The field that pairs the items of a list in strategic merge patches.
    pub merge_key: Option<&'static str>,
    /// How strategic merge patches treat it.
    pub strategy: Strategy,
    /// How server-side apply treats it, if it is a list.
    pub list: ListType,
    /// Whether server-side apply writes the map as a whole.
    pub is_atomic: bool,
    /// Go's name of a text's type, if it has one.
    pub go_type: Option<&'static str>,
    /// The type that Go embeds to have the field.
    pub embedded: Option<&'static str>,
}

/// The type of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Type {
    /// Text.
    String,
    /// True or false.
    Bool,
    /// A whole number of 32 bits.
    Int32,
    /// A whole number of 64 bits.
    Int64,
    /// Any number.
    Number,
    /// Bytes, as base64.
    Bytes,
    /// A time with seconds.
    Time,
    /// A time with microseconds.
    MicroTime,
    /// An amount, e.g. `500m`.
    Quantity,
    /// A whole number of 32 bits or text.
    IntOrString,
    /// Any JSON.
    Any,
    /// An object of another definition.
    Ref(DefinitionId),
    /// An object whose fields are told here; those of kinds that are added.
    Object(Box<Definition>),
    /// A list.
    List(Box<Type>),
    /// A map from text.
    Map(Box<Type>),
}

/// Points to a definition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DefinitionId(u16);

/// How a strategic merge patch treats a field that object and patch both have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Strategy {
    /// Items of a list are merged; otherwise the patch's list replaces the object's.
    pub merge: bool,
    /// Clients may list the fields to keep. The server obeys such a list wherever it stands.
    pub retain_keys: bool,
}

/// Who owns the items of a list in server-side apply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListType {
    /// The list has one owner, or the field is no list.
    Atomic,
    /// Each value has its owners.
    Set,
    /// Each item has its owners, and is told apart by these fields (names joined by commas).
    Map(Cow<'static, str>),
}

impl DefinitionId {
    /// Points to the definition of this name.
    pub fn find(name: &str) -> Option<Self> {
        let at = DEFINITIONS.binary_search_by(|d| (*d.name).cmp(name)).ok()?;
        u16::try_from(at).ok().map(Self)
    }

    /// The definition.
    pub fn get(self) -> &'static Definition {
        &DEFINITIONS[self.index()]
    }

    /// Its place among all of them.
    pub(super) fn index(self) -> usize {
        usize::from(self.0)
    }

    /// How many there are.
    pub(super) fn count() -> usize {
        DEFINITIONS.len()
    }
}

impl Definition {
    /// The definition of this name.
    pub fn find(name: &str) -> Option<&'static Self> {
        let at = DEFINITIONS.binary_search_by(|d| (*d.name).cmp(name)).ok()?;
        Some(&DEFINITIONS[at])
    }

    /// The field of this name.
    pub fn property(&self, name: &str) -> Option<&Property> {
        let at = self.properties.binary_search_by(|p| (*p.name).cmp(name)).ok()?;
        Some(&self.properties[at])
    }

    /// The last part of the name, e.g. `PodSpec`: how Go names the type.
    pub fn short_name(&self) -> &str {
        self.name.rsplit('.').next().unwrap_or(&self.name)
    }
}

impl Property {
    /// A field with nothing special.
    pub(super) fn plain(name: &'static str, kind: Type) -> Self {
        Self {
            name: name.into(),
            kind,
            is_required: false,
            merge_key: None,
            strategy: Strategy::default(),
            list: ListType::Atomic,
            is_atomic: false,
            go_type: None,
            embedded: None,
        }
    }
}

impl Type {
    /// The definition of an object of this type.
    pub fn object(&self) -> Option<&Definition> {
        match self {
            Self::Ref(id) => Some(id.get()),
            Self::Object(definition) => Some(definition),
            _ => None,
        }
    }

    /// The definition of an object of this type; of the items, for a list or map of objects.
    pub fn definition(&self) -> Option<&Definition> {
        match self {
            Self::Ref(_) | Self::Object(_) => self.object(),
            Self::List(inner) | Self::Map(inner) => inner.definition(),
            _ => None,
        }
    }
}

/// Reads what `structure` in `schemas/main.rs` writes.
fn parse(text: &'static str) -> Vec<Definition> {
    let mut definitions: Vec<Definition> = Vec::new();
    for line in text.lines() {
        let mut words = line.split(' ');
        let (Some(name), Some(code)) = (words.next(), words.next()) else { continue };
        if let Some(name) = name.strip_prefix('=') {
            let value = (code != "-").then(|| parse_type(code));
            let is_atomic = words.next() == Some("a");
            definitions.push(Definition { name: name.into(), properties: Vec::new(), value, is_atomic });
        } else if let Some(definition) = definitions.last_mut() {
            definition.properties.push(parse_property(name, code, words));
        }
    }
    definitions
}

fn parse_property(name: &'static str, code: &str, marks: impl Iterator<Item = &'static str>) -> Property {
    let mut property = Property::plain(name, parse_type(code));
    for mark in marks {
        match mark.split_once('=') {
            Some(("k", key)) => property.merge_key = Some(key),
            Some(("s", words)) => {
                property.strategy.merge = words.contains("merge");
                property.strategy.retain_keys = words.contains("retainKeys");
            }
            Some(("l", "set")) => property.list = ListType::Set,
            Some(("m", keys)) => property.list = ListType::Map(keys.into()),
            Some(("g", go_type)) => property.go_type = Some(go_type),
            Some(("e", embedded)) => property.embedded = Some(embedded),
            None if mark == "!" => property.is_required = true,
            None if mark == "a" => property.is_atomic = true,
            _ => {}
        }
    }
    property
}

fn parse_type(code: &str) -> Type {
    if let Some(inner) = code.strip_prefix('[') {
        return Type::List(Box::new(parse_type(inner)));
    }
    if let Some(inner) = code.strip_prefix('{') {
        return Type::Map(Box::new(parse_type(inner)));
    }
    if let Some(id) = code.strip_prefix('@') {
        return Type::Ref(DefinitionId(id.parse().expect("`cargo schemas` writes numbers")));
    }
    match code {
        "s" => Type::String,
        "b" => Type::Bool,
        "i" => Type::Int32,
        "l" => Type::Int64,
        "n" => Type::Number,
        "y" => Type::Bytes,
        "t" => Type::Time,
        "u" => Type::MicroTime,
        "q" => Type::Quantity,
        "o" => Type::IntOrString,
        _ => Type::Any,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::kinds::KINDS;

    #[test]
    fn every_kind_has_a_definition_and_so_has_its_list_where_there_is_one() {
        for kind in KINDS {
            let name = kind.info().schema;
            let definition =
                Definition::find(name).unwrap_or_else(|| panic!("schemas/main.rs does not publish {name}"));
            assert_eq!(definition.short_name(), kind.info().kind);
            let is_listed = kind.info().verbs.contains(&"list");
            assert_eq!(Definition::find(&format!("{name}List")).is_some(), is_listed, "{name}List");
        }
    }

    #[test]
    fn definitions_and_fields_are_sorted_and_refer_to_what_exists() {
        assert!(DEFINITIONS.is_sorted_by(|a, b| a.name < b.name));
        for definition in DEFINITIONS.iter() {
            assert!(definition.properties.is_sorted_by(|a, b| a.name < b.name), "{}", definition.name);
            assert_eq!(definition.properties.is_empty(), definition.value.is_some(), "{}", definition.name);
            for property in &definition.properties {
                let Some(items) = property.kind.definition() else { continue };
                let keys = match &property.list {
                    ListType::Map(keys) => &**keys,
                    ListType::Atomic | ListType::Set => "",
                };
                for key in keys.split(',').filter(|k| !k.is_empty()).chain(property.merge_key) {
                    assert!(items.property(key).is_some(), "{}.{}: no field {key}", definition.name, property.name);
                }
            }
        }
    }

    #[test]
    fn facts_reach_the_fields() {
        let pod_spec = Definition::find("io.k8s.api.core.v1.PodSpec").expect("pods are served");
        let containers = pod_spec.property("containers").expect("pods have containers");
        assert!(containers.is_required && containers.strategy.merge);
        assert_eq!(containers.merge_key, Some("name"));
        assert_eq!(containers.list, ListType::Map("name".into()));
        assert_eq!(containers.kind.definition().map(Definition::short_name), Some("Container"));
        let volumes = pod_spec.property("volumes").expect("pods have volumes");
        assert!(volumes.strategy.retain_keys);
        let tolerations = pod_spec.property("tolerations").expect("pods have tolerations");
        assert_eq!((tolerations.merge_key, tolerations.list.clone()), (None, ListType::Atomic));
        let ports = Definition::find("io.k8s.api.core.v1.ServiceSpec").and_then(|d| d.property("ports"));
        assert_eq!(ports.expect("services have ports").list, ListType::Map("port,protocol".into()));
    }
}
