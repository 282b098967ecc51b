//! A configuration put over a value, and fields taken out of one.
//!
//! **Source**: `typed/{merge,remove}.go` and `merge/update.go` (`prune`) of structured-merge-diff.

use super::{
    fields::{Element, FieldSet},
    shape::{Parts, Shape, field},
};
use crate::{
    api::schema::structure::Definition,
    base::ordered::{self, CollectOrdered as _},
};
use serde_json::{Map, Value};

/// The value with all that a configuration says; null stands for no value.
pub(super) fn merge(definition: &Definition, live: &Value, config: &Value) -> Value {
    over(Shape::of_definition(definition), Some(live), config)
}

fn over(shape: Shape<'_>, live: Option<&Value>, config: &Value) -> Value {
    match (shape.parts(config), live.and_then(|live| shape.parts(live))) {
        (Some(Parts::Fields(config)), Some(Parts::Fields(live))) => fields_over(shape, live, config),
        (Some(Parts::Items(config)), Some(Parts::Items(live))) => items_over(shape, live, config),
        _ => config.clone(),
    }
}

fn fields_over(shape: Shape<'_>, live: &Map<String, Value>, config: &Map<String, Value>) -> Value {
    let mut out = live.clone();
    for (name, value) in config {
        let inner = shape.field(name).unwrap_or(Shape::Leaf);
        out.insert(name.clone(), over(inner, live.get(name), value));
    }
    Value::Object(out)
}

/// Items keep their order; those that both have stand as the configuration has them.
fn items_over(shape: Shape<'_>, live: &[Value], config: &[Value]) -> Value {
    let wanted: Vec<(Element, &Value)> = shape.items(config);
    let current: ordered::Map<Element, &Value> = shape.items(live).into_iter().collect();
    let place: ordered::Map<&Element, usize> =
        wanted.iter().enumerate().map(|(i, (element, _))| (element, i)).collect();
    let merged = |(element, value): &(Element, &Value)| over(shape.item(), current.get(element).copied(), value);
    let mut out = Vec::with_capacity(live.len() + config.len());
    let mut written = 0;
    for item in live {
        match shape.element(item).and_then(|element| place.get(&element).copied()) {
            None => out.push(item.clone()),
            // All that stands before it in the configuration comes with it; what has been written already is not written again.
            Some(at) if at >= written => {
                out.extend(wanted[written..=at].iter().map(merged));
                written = at + 1;
            }
            Some(_) => {}
        }
    }
    out.extend(wanted[written..].iter().map(merged));
    Value::Array(out)
}

/// The value without the fields of `gone`, except those that are in `kept` or lead to such.
pub(super) fn without(definition: &Definition, value: Value, gone: &FieldSet, kept: &FieldSet) -> Value {
    remove(Shape::of_definition(definition), value, gone, Some(kept))
}

fn remove(shape: Shape<'_>, value: Value, gone: &FieldSet, kept: Option<&FieldSet>) -> Value {
    let goes = |element: &Element| gone.has(element) && !kept.is_some_and(|kept| kept.touches(element));
    let inside = |shape: Shape<'_>, element: &Element, value: Value| match gone.child(element) {
        Some(below) if !below.is_empty() => remove(shape, value, below, kept.and_then(|kept| kept.child(element))),
        _ => value,
    };
    match value {
        Value::Object(fields) => {
            let left = fields.into_iter().filter_map(|(name, value)| {
                let element = field(&name);
                if goes(&element) {
                    return None;
                }
                let had = !super::shape::is_void(Some(&value));
                let value = inside(shape.field(&name).unwrap_or(Shape::Leaf), &element, value);
                // What only its fields held goes with the last of them.
                let is_hollow =
                    had && super::shape::is_void(Some(&value)) && !kept.is_some_and(|kept| kept.touches(&element));
                (!is_hollow).then_some((name, value))
            });
            Value::Object(left.collect_ordered())
        }
        Value::Array(items) => {
            let left = items.into_iter().filter_map(|item| match shape.element(&item) {
                Some(element) if goes(&element) => None,
                Some(element) => Some(inside(shape.item(), &element, item)),
                None => Some(item),
            });
            Value::Array(left.collect())
        }
        other => other,
    }
}
