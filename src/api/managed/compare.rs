//! The fields of a value, and those in which two values differ.
//!
//! **Source**: `typed/{tofieldset,compare}.go` of structured-merge-diff.

use super::{
    fields::{Element, FieldSet},
    shape::{Parts, Shape, field, is_void},
};
use crate::{
    api::schema::structure::Definition,
    base::ordered::{Map, Set},
};
use serde_json::Value;

/// The fields that a configuration sets. The error names a field that its schema has not, or an item that cannot be told from others.
pub(super) fn fields_of(definition: &Definition, value: &Value) -> Result<FieldSet, String> {
    let mut set = FieldSet::default();
    gather(Shape::of_definition(definition), value, "", &mut set)?;
    Ok(set)
}

/// Adds the fields below a value.
fn gather(shape: Shape<'_>, value: &Value, path: &str, set: &mut FieldSet) -> Result<(), String> {
    match shape.parts(value) {
        None => Ok(()),
        Some(Parts::Fields(fields)) => fields.iter().try_for_each(|(name, value)| {
            let path = format!("{path}.{name}");
            let Some(inner) = shape.field(name) else { return Err(format!("{path}: field not declared in schema")) };
            let is_leaf = inner.parts(value).is_none();
            if is_leaf || is_void(Some(value)) || shape.keys_are_fields() {
                set.insert(field(name));
            }
            let mut below = FieldSet::default();
            gather(inner, value, &path, &mut below)?;
            set.insert_below(field(name), below);
            Ok(())
        }),
        Some(Parts::Items(items)) => {
            let mut seen = Set::new();
            items.iter().enumerate().try_for_each(|(i, item)| {
                let path = format!("{path}[{i}]");
                let element = shape
                    .element(item)
                    .ok_or_else(|| format!("{path}: associative list with keys has an element that omits key field"))?;
                if !seen.insert(element.clone()) {
                    return Err(format!("{path}: duplicate entries for key"));
                }
                set.insert(element.clone());
                let mut below = FieldSet::default();
                gather(shape.item(), item, &path, &mut below)?;
                set.insert_below(element, below);
                Ok(())
            })
        }
    }
}

/// The fields in which two values differ.
#[derive(Debug, Default)]
pub(super) struct Difference {
    pub(super) added: FieldSet,
    pub(super) modified: FieldSet,
    pub(super) removed: FieldSet,
}

/// How two objects differ; null stands for none.
pub(super) fn difference(definition: &Definition, before: &Value, after: &Value) -> Difference {
    let there = |value| Some(value).filter(|value: &&Value| !value.is_null());
    compare(Shape::of_definition(definition), there(before), there(after)).0
}

/// What two values of a shape differ in below them, and whether they are one field that differs itself.
fn compare(shape: Shape<'_>, before: Option<&Value>, after: Option<&Value>) -> (Difference, bool) {
    if before == after {
        return (Difference::default(), false);
    }
    let is_whole = |value: Option<&Value>| value.is_some_and(|v| !v.is_null() && shape.parts(v).is_none());
    let is_leaf = is_whole(before) || is_whole(after) || is_void(before) && is_void(after);
    if is_leaf {
        return (Difference::default(), true);
    }
    let mut out = Difference::default();
    for (element, inner, before, after) in pairs(shape, before, after) {
        let (below, is_changed) = compare(inner, before, after);
        let mark = |set: &mut FieldSet, below, is_member| {
            if is_member {
                set.insert(element.clone());
            }
            set.insert_below(element.clone(), below);
        };
        let is_there = (before.is_some(), after.is_some());
        mark(&mut out.added, below.added, is_there == (false, true));
        mark(&mut out.removed, below.removed, is_there == (true, false));
        mark(&mut out.modified, below.modified, is_changed && is_there == (true, true));
    }
    (out, false)
}

type Pair<'d, 'v> = (Element, Shape<'d>, Option<&'v Value>, Option<&'v Value>);

/// The fields of two values side by side.
fn pairs<'d, 'v>(shape: Shape<'d>, before: Option<&'v Value>, after: Option<&'v Value>) -> Vec<Pair<'d, 'v>> {
    let mut all: Map<Element, Pair<'d, 'v>> = Map::new();
    for (value, is_after) in [(before, false), (after, true)] {
        let Some(parts) = value.and_then(|value| shape.parts(value)) else { continue };
        let of: Vec<(Element, Shape<'d>, &'v Value)> = match parts {
            Parts::Fields(fields) => {
                fields.iter().filter_map(|(name, value)| Some((field(name), shape.field(name)?, value))).collect()
            }
            Parts::Items(items) => shape.items(items).into_iter().map(|(e, value)| (e, shape.item(), value)).collect(),
        };
        for (element, inner, value) in of {
            let pair = all.entry(element.clone()).or_insert((element, inner, None, None));
            if is_after {
                pair.3 = Some(value);
            } else {
                pair.2 = Some(value);
            }
        }
    }
    all.into_values().collect()
}
