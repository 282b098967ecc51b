//! Strategic merge patch: objects merge; lists merge by the key that the schema names, or are replaced.
//!
//! Directives in the patch say more: `$patch` (`replace`, `delete`), `$retainKeys`, `$setElementOrder/FIELD`,
//! `$deleteFromPrimitiveList/FIELD`. They never reach the object.
//!
//! **Source**: `k8s.io/apimachinery/pkg/util/{strategicpatch/patch.go,mergepatch/errors.go}`, v1.37.

use super::PatchError;
use crate::{
    api::schema::{
        go_display,
        structure::{Definition, Property, Type},
    },
    base::ordered::{self, CollectOrdered as _, Set, SortList as _},
};
use serde_json::{Map, Value};
use std::borrow::Cow;

pub(super) const DIRECTIVE: &str = "$patch";
pub(super) const RETAIN_KEYS: &str = "$retainKeys";
pub(super) const ORDER_PREFIX: &str = "$setElementOrder/";
pub(super) const DELETE_PREFIX: &str = "$deleteFromPrimitiveList/";

pub(super) type Fields = Map<String, Value>;
type Result<T> = std::result::Result<T, PatchError>;

/// The object of this definition after the patch.
pub fn apply(current: Value, patch: Value, definition: &Definition) -> Result<Value> {
    let (current, patch) = (fields(current)?, fields(patch)?);
    merge_fields(current, patch, Schema::Object(definition)).map(Value::Object)
}

fn fields(value: Value) -> Result<Fields> {
    match value {
        Value::Object(fields) => Ok(fields),
        Value::Null => Ok(Fields::new()),
        _ => Err(malformed("invalid JSON document")),
    }
}

fn malformed(why: impl Into<String>) -> PatchError {
    PatchError::Malformed(why.into())
}

/// What is known of an object while it is merged.
#[derive(Clone, Copy)]
pub(super) enum Schema<'d> {
    /// Its fields are those of a definition.
    Object(&'d Definition),
    /// Its values are all of one type.
    Map(&'d Type),
    /// Nothing: objects merge, lists are replaced.
    Unknown,
}

/// What is known of one field.
#[derive(Clone, Copy)]
pub(super) struct Field<'d> {
    pub(super) schema: Schema<'d>,
    /// Items of the list merge.
    pub(super) merges: bool,
    /// The field that tells items apart; `None`: they are plain values.
    pub(super) merge_key: Option<&'static str>,
    /// The object is a union: what a patch leaves out goes.
    pub(super) retains_keys: bool,
}

impl<'d> Schema<'d> {
    fn of(kind: &'d Type) -> Self {
        match kind {
            Type::Ref(id) => Self::Object(id.get()),
            Type::Object(definition) => Self::Object(definition),
            Type::Map(inner) => Self::Map(inner),
            Type::List(inner) => Self::of(inner),
            _ => Self::Unknown,
        }
    }

    pub(super) fn field(self, name: &str) -> Field<'d> {
        let unknown = Field { schema: Self::Unknown, merges: false, merge_key: None, retains_keys: false };
        match self {
            Self::Object(definition) => definition.property(name).map_or(unknown, |p: &'d Property| Field {
                schema: Self::of(&p.kind),
                merges: p.strategy.merge,
                merge_key: p.merge_key,
                retains_keys: p.strategy.retain_keys,
            }),
            Self::Map(inner) => Field { schema: Self::of(inner), ..unknown },
            Self::Unknown => unknown,
        }
    }
}

/// Merges a patch into an object.
fn merge_fields(mut object: Fields, mut patch: Fields, schema: Schema<'_>) -> Result<Fields> {
    if let Some(directive) = patch.remove(DIRECTIVE) {
        return match directive.as_str() {
            Some("replace") => Ok(cleaned_fields(patch)),
            Some("delete") => Ok(Fields::new()),
            _ => Err(unknown_directive(&directive, patch)),
        };
    }
    retain_keys(&mut object, &mut patch)?;
    merge_ordered_lists(&mut object, &mut patch, schema)?;
    for (name, value) in patch {
        if let Some(list) = name.strip_prefix(DELETE_PREFIX) {
            delete_values(&mut object, list, &value)?;
        } else if value.is_null() {
            object.remove(&name);
        } else {
            let merged = match object.remove(&name) {
                Some(current) => merge_value(current, value, schema.field(&name))?,
                None => cleaned(value),
            };
            object.extend(merged.map(|merged| (name, merged)));
        }
    }
    Ok(object)
}

fn unknown_directive(directive: &Value, mut rest: Fields) -> PatchError {
    rest.insert(DIRECTIVE.to_owned(), directive.clone());
    malformed(format!("unknown patch type: {} in map: {}", go_display(directive), go_display(&Value::Object(rest))))
}

fn merge_value(current: Value, patch: Value, field: Field<'_>) -> Result<Option<Value>> {
    match (current, patch) {
        (Value::Object(current), Value::Object(patch)) => {
            merge_fields(current, patch, field.schema).map(|fields| Some(Value::Object(fields)))
        }
        (Value::Array(current), Value::Array(patch)) if field.merges => {
            merge_list(current, patch, field).map(|items| Some(Value::Array(items)))
        }
        (_, patch) => Ok(cleaned(patch)),
    }
}

/// Obeys `$retainKeys`: fields of the object that it does not list go.
fn retain_keys(object: &mut Fields, patch: &mut Fields) -> Result<()> {
    let Some(list) = patch.remove(RETAIN_KEYS) else { return Ok(()) };
    let wrong = || malformed("invalid patch format of retainKeys");
    let kept: Set<&str> = list.as_array().ok_or_else(wrong)?.iter().filter_map(Value::as_str).collect();
    let is_directive = |name: &str| name.starts_with(DELETE_PREFIX) || name.starts_with(ORDER_PREFIX);
    if patch.iter().any(|(name, value)| !value.is_null() && !is_directive(name) && !kept.contains(name.as_str())) {
        return Err(wrong());
    }
    object.retain(|name, _| kept.contains(name.as_str()));
    Ok(())
}

/// Obeys `$deleteFromPrimitiveList/…`.
fn delete_values(object: &mut Fields, name: &str, values: &Value) -> Result<()> {
    let values = values.as_array().ok_or_else(|| malformed("invalid patch format of primitive list"))?;
    if let Some(Value::Array(items)) = object.get_mut(name) {
        let gone = Places::of(values, None);
        items.retain(|item| gone.place(item).is_none());
    }
    Ok(())
}

/// Obeys every `$setElementOrder/…`, merging the list that it is about on the way.
fn merge_ordered_lists(object: &mut Fields, patch: &mut Fields, schema: Schema<'_>) -> Result<()> {
    let names: Vec<String> = patch.keys().filter_map(|k| k.strip_prefix(ORDER_PREFIX)).map(str::to_owned).collect();
    for name in names {
        let wrong = || malformed("invalid patch format of setElementOrder list");
        let list = |value: Option<Value>| match value {
            None => Ok(None),
            Some(Value::Array(items)) => Ok(Some(items)),
            Some(_) => Err(wrong()),
        };
        let order = list(patch.remove(&format!("{ORDER_PREFIX}{name}")))?.unwrap_or_default();
        let field = schema.field(&name);
        let changes = list(patch.remove(&name))?;
        check_order(changes.as_deref().unwrap_or_default(), &order, field)?;
        let before = match object.remove(&name) {
            None => None,
            Some(Value::Array(items)) => Some(items),
            Some(other) => {
                object.extend(cleaned(changes.map_or(other, Value::Array)).map(|value| (name, value)));
                continue;
            }
        };
        let merged = match (before.clone(), changes) {
            (None, None) => continue,
            (Some(items), None) => items,
            (Some(items), Some(changes)) if field.merges => merge_list(items, changes, field)?,
            (_, Some(changes)) => cleaned_items(changes),
        };
        let ordered = in_order(merged, &order, &before.unwrap_or_default(), field.merge_key);
        object.insert(name, Value::Array(ordered));
    }
    Ok(())
}

/// The items that the patch changes must be in the order that it sets.
fn check_order(changes: &[Value], order: &[Value], field: Field<'_>) -> Result<()> {
    let mut rest = order.iter();
    for item in changes.iter().filter(|item| item.get(DIRECTIVE).is_none()) {
        if !rest.any(|o| are_same(o, item, field.merge_key)) {
            let (changes, order) = (Value::Array(changes.to_vec()), Value::Array(order.to_vec()));
            return Err(malformed(format!(
                "The order in patch list:\n{}\n doesn't match $setElementOrder list:\n{}\n",
                go_display(&changes),
                go_display(&order)
            )));
        }
    }
    Ok(())
}

/// Merges the items of two lists. Those of the patch come in its order, the others where they were.
fn merge_list(items: Vec<Value>, changes: Vec<Value>, field: Field<'_>) -> Result<Vec<Value>> {
    if items.is_empty() && changes.is_empty() {
        return Ok(items);
    }
    if !items.iter().chain(&changes).any(Value::is_object) {
        return Ok(merge_plain_values(&items, &changes));
    }
    if items.iter().chain(&changes).any(|i| !i.is_object()) {
        return Err(malformed("list element types are not identical"));
    }
    let Some(key) = field.merge_key else {
        return Err(malformed("cannot merge lists without merge key"));
    };
    let (items, changes, is_replaced) = obey_item_directives(items, changes, key)?;
    if is_replaced {
        return Ok(cleaned_items(changes));
    }
    let before = items.clone();
    let mut merged = items;
    let mut places = Places::of(&before, Some(key));
    for change in &changes {
        if change.get(key).is_none() {
            return Err(no_merge_key(change, key));
        }
        let Value::Object(patch) = change.clone() else { unreachable!("all items are objects, see above") };
        if let Some(at) = places.place(change) {
            let current = merged[at].as_object_mut().map(std::mem::take).unwrap_or_default();
            merged[at] = Value::Object(merge_fields(current, patch, field.schema)?);
        } else {
            places.add(change);
            merged.push(Value::Object(cleaned_fields(patch)));
        }
    }
    Ok(in_order(merged, &changes, &before, Some(key)))
}

fn no_merge_key(item: &Value, key: &str) -> PatchError {
    malformed(format!("map: {} does not contain declared merge key: {key}", go_display(item)))
}

/// Both lists' values, each once.
fn merge_plain_values(items: &[Value], changes: &[Value]) -> Vec<Value> {
    let mut seen = Set::new();
    let each_once = items.iter().chain(changes).filter(|value| seen.insert(name_of(value, None)));
    let merged = each_once.cloned().collect();
    in_order(merged, changes, items, None)
}

/// Takes items with `$patch` out of the changes and does what they say. The last value: whether the changes replace the list.
fn obey_item_directives(
    mut items: Vec<Value>,
    changes: Vec<Value>,
    key: &'static str,
) -> Result<(Vec<Value>, Vec<Value>, bool)> {
    let (mut plain, mut gone, mut is_replaced) = (Vec::new(), Vec::new(), false);
    for change in changes {
        match change.get(DIRECTIVE) {
            None => plain.push(change),
            Some(d) if d == "delete" => {
                if change.get(key).is_none() {
                    return Err(no_merge_key(&change, key));
                }
                gone.push(change);
            }
            Some(d) if d == "replace" => is_replaced = true,
            Some(d) if d == "merge" => return Err(malformed("merging lists cannot yet be specified in the patch")),
            Some(d) => {
                let directive = d.clone();
                return Err(unknown_directive(&directive, fields(change)?));
            }
        }
    }
    if !gone.is_empty() {
        let gone = Places::of(&gone, Some(key));
        items.retain(|item| gone.place(item).is_none());
    }
    Ok((items, plain, is_replaced))
}

/// What an item of a list is found by: the text of its merge key or, in a list without one, of the item. Equal values have equal
/// texts. `None`: the item lacks its key, and is like no other.
fn name_of<'v>(item: &'v Value, key: Option<&str>) -> Option<Cow<'v, str>> {
    let value = match key {
        None => item,
        Some(key) => item.get(key)?,
    };
    Some(match value {
        // A text may look like another value; the mark keeps them apart.
        Value::String(text) if text.starts_with(|c: char| c.is_ascii_alphabetic()) => Cow::Borrowed(text),
        Value::Null | Value::Bool(_) => Cow::Owned(format!("={value}")),
        other => Cow::Owned(other.to_string()),
    })
}

/// Where the items of a list are, by name; of several with one name the first.
struct Places<'v> {
    key: Option<&'static str>,
    by_name: ordered::Map<Cow<'v, str>, usize>,
    next: usize,
}

impl<'v> Places<'v> {
    fn of(items: &'v [Value], key: Option<&'static str>) -> Self {
        let mut places = Self { key, by_name: ordered::Map::new(), next: 0 };
        items.iter().for_each(|item| places.add(item));
        places
    }

    /// Appends an item.
    fn add(&mut self, item: &'v Value) {
        if let Some(name) = name_of(item, self.key) {
            self.by_name.entry(name).or_insert(self.next);
        }
        self.next += 1;
    }

    fn place(&self, item: &Value) -> Option<usize> {
        self.by_name.get(&name_of(item, self.key)?).copied()
    }
}

fn are_same(a: &Value, b: &Value, key: Option<&str>) -> bool {
    match key {
        None => a == b,
        Some(key) => a.get(key).is_some() && a.get(key) == b.get(key),
    }
}

/// Sorts a merged list: items that `order` names come in its order; the others keep the place that they had in `before`,
/// relative to the named ones.
fn in_order(merged: Vec<Value>, order: &[Value], before: &[Value], key: Option<&'static str>) -> Vec<Value> {
    let (order, before) = (Places::of(order, key), Places::of(before, key));
    let (mut named, mut others) = (Vec::new(), Vec::new());
    for item in merged {
        let was = before.place(&item);
        match order.place(&item) {
            Some(wanted) => named.push((wanted, was, item)),
            None => others.push((was, item)),
        }
    }
    named.sort_list_by_key(|(wanted, ..)| *wanted);
    // What had no place stays behind what it followed.
    let mut last = None;
    for (was, _) in &mut others {
        *was = was.or(last);
        last = *was;
    }
    others.sort_list_by_key(|(was, _)| *was);
    let mut sorted = Vec::with_capacity(named.len() + others.len());
    let (mut named, mut others) = (named.into_iter().peekable(), others.into_iter().peekable());
    loop {
        let takes_other = match (named.peek(), others.peek()) {
            (None, None) => return sorted,
            (None, Some(_)) => true,
            (Some(_), None) => false,
            (Some((_, n, _)), Some((o, _))) => n.zip(*o).is_some_and(|(n, o)| o < n),
        };
        sorted.extend(if takes_other { others.next().map(|o| o.1) } else { named.next().map(|n| n.2) });
    }
}

/// A new value as the object keeps it: without nulls and directives. `None` when a directive says that there is none.
fn cleaned(value: Value) -> Option<Value> {
    Some(match value {
        Value::Object(fields) => {
            if fields.get(DIRECTIVE).is_some_and(|d| d != "replace") {
                return None;
            }
            Value::Object(cleaned_fields(fields))
        }
        Value::Array(items) => Value::Array(cleaned_items(items)),
        other => other,
    })
}

fn cleaned_fields(fields: Fields) -> Fields {
    let is_directive = |name: &str| {
        name == DIRECTIVE || name == RETAIN_KEYS || name.starts_with(ORDER_PREFIX) || name.starts_with(DELETE_PREFIX)
    };
    let kept = fields.into_iter().filter(|(name, value)| !value.is_null() && !is_directive(name));
    kept.filter_map(|(name, value)| Some((name, cleaned(value)?))).collect_ordered()
}

/// Items that only carry a directive are no items.
fn cleaned_items(items: Vec<Value>) -> Vec<Value> {
    items.into_iter().filter(|item| item.get(DIRECTIVE).is_none()).filter_map(cleaned).collect()
}

#[cfg(test)]
mod tests;
