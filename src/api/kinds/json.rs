//! What kinds that are served from their schema share: reading their JSON, and rules over it.

use crate::api::{
    field::FieldError,
    json_kind::{at, text_at},
    names,
    selector::LabelSelector,
    table::NONE,
};
use crate::base::json::typed;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector as ApiSelector, ObjectMeta};
use serde_json::{Map, Value, json};
use std::net::IpAddr;

pub(super) type Errors = Vec<FieldError>;
type Fields = Map<String, Value>;

/// Whether there is anything at a path.
pub(super) fn has(fields: &Fields, path: &str) -> bool {
    at(fields, path).is_some()
}

/// Adds a finalizer that is not there.
pub(super) fn add_finalizer(meta: &mut ObjectMeta, name: &str) {
    let finalizers = meta.finalizers.get_or_insert_default();
    if !finalizers.iter().any(|finalizer| finalizer == name) {
        finalizers.push(name.to_owned());
    }
}

/// The items of a list; none when there is no list.
pub(super) fn items<'a>(fields: &'a Fields, path: &str) -> &'a [Value] {
    at(fields, path).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// The objects of a list.
pub(super) fn objects<'a>(fields: &'a Fields, path: &str) -> impl Iterator<Item = &'a Fields> + use<'a> {
    items(fields, path).iter().filter_map(Value::as_object)
}

/// The texts of a list.
pub(super) fn texts<'a>(fields: &'a Fields, path: &str) -> impl Iterator<Item = &'a str> + use<'a> {
    items(fields, path).iter().filter_map(Value::as_str)
}

/// The objects of a list, to change.
pub(super) fn objects_mut<'a>(fields: &'a mut Fields, path: &str) -> impl Iterator<Item = &'a mut Fields> + use<'a> {
    let (first, rest) = path.split_once('.').unwrap_or((path, ""));
    let mut value = fields.get_mut(first);
    for name in rest.split('.').filter(|name| !name.is_empty()) {
        value = value.and_then(|v| v.get_mut(name));
    }
    value.and_then(Value::as_array_mut).into_iter().flatten().filter_map(Value::as_object_mut)
}

/// The number at a path, or 0.
pub(super) fn number(fields: &Fields, path: &str) -> Value {
    json!(at(fields, path).and_then(Value::as_i64).unwrap_or(0))
}

/// The truth value at a path, or false.
pub(super) fn is_true(fields: &Fields, path: &str) -> bool {
    at(fields, path).and_then(Value::as_bool).unwrap_or(false)
}

/// The text at a path, or `<none>`.
pub(super) fn or_none(fields: &Fields, path: &str) -> Value {
    crate::api::table::or(&text_at(fields, path), NONE)
}

/// A label selector as a cell: `<none>` when it is empty.
pub(super) fn selector(selector: Option<&Value>) -> Value {
    let parsed =
        selector.and_then(|s| typed::<ApiSelector>(s.clone()).ok()).and_then(|s| LabelSelector::from_api(&s).ok());
    crate::api::table::or(&parsed.map(|s| s.to_string()).unwrap_or_default(), NONE)
}

/// A field that is required and must not be empty.
pub(super) fn required(errs: &mut Errors, fields: &Fields, path: &str) {
    let is_empty = match at(fields, path) {
        None | Some(Value::Null) => true,
        Some(Value::String(text)) => text.is_empty(),
        Some(Value::Array(items)) => items.is_empty(),
        Some(Value::Object(fields)) => fields.is_empty(),
        Some(_) => false,
    };
    if is_empty {
        errs.push(FieldError::required(path, ""));
    }
}

/// A text that, if there is one, is one of these.
pub(super) fn one_of(errs: &mut Errors, fields: &Fields, path: &str, supported: &[&str]) {
    let text = text_at(fields, path);
    if has(fields, path) && !supported.contains(&&*text) {
        errs.push(FieldError::not_supported(path, text, supported));
    }
}

/// What is wrong with an object that `above` leads to; empty: with the whole.
pub(super) fn within(errs: &mut Errors, above: &str, check: impl FnOnce(&mut Errors)) {
    let mut own = Errors::new();
    check(&mut own);
    let dot = if above.is_empty() { "" } else { "." };
    errs.extend(own.into_iter().map(|err| FieldError { path: format!("{above}{dot}{}", err.path), ..err }));
}

/// Texts of a list that are each one of these.
pub(super) fn all_of(errs: &mut Errors, fields: &Fields, path: &str, supported: &[&str]) {
    let wrong = texts(fields, path).enumerate().filter(|(_, text)| !supported.contains(text));
    errs.extend(wrong.map(|(i, text)| FieldError::not_supported(format!("{path}[{i}]"), text, supported)));
}

/// A number that, if there is one, is not negative.
pub(super) fn non_negative(errs: &mut Errors, fields: &Fields, path: &str) {
    if let Some(number) = at(fields, path).and_then(Value::as_i64).filter(|n| *n < 0) {
        errs.push(FieldError::invalid(path, number, "must be greater than or equal to 0"));
    }
}

/// A field that no update changes.
pub(super) fn immutable(new: &Fields, old: &Fields, path: &str, why: &str) -> Errors {
    if at(new, path) == at(old, path) {
        return Errors::new();
    }
    vec![FieldError::invalid(path, at(new, path).cloned().unwrap_or_default(), why)]
}

/// A label selector, if there is one.
pub(super) fn label_selector(errs: &mut Errors, fields: &Fields, path: &str) {
    if let Some(selector) = at(fields, path).and_then(|value| typed::<ApiSelector>(value.clone()).ok()) {
        errs.extend(names::check_label_selector(&selector, path));
    }
}

/// A name of an object, which a user may have left out.
pub(super) fn subdomain(errs: &mut Errors, path: &str, name: &str) {
    errs.extend(names::dns1123_subdomain(name).into_iter().map(|why| FieldError::invalid(path, name, why)));
}

/// A number of pods, or a share of them in percent.
pub(super) fn count_or_percent(errs: &mut Errors, path: &str, value: &Value) {
    if let Some(number) = value.as_i64() {
        if number < 0 {
            errs.push(FieldError::invalid(path, number, "must be greater than or equal to 0"));
        }
        return;
    }
    let text = value.as_str().unwrap_or_default();
    match text.strip_suffix('%').and_then(|digits| digits.parse::<u32>().ok()) {
        None => {
            let why = "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')";
            errs.push(FieldError::invalid(path, text, why));
        }
        Some(percent) if percent > 100 => {
            errs.push(FieldError::invalid(path, text, "must not be greater than 100%"));
        }
        Some(_) => {}
    }
}

/// A range of addresses.
pub(super) fn cidr(errs: &mut Errors, path: &str, text: &str) {
    let is_range = text.split_once('/').is_some_and(|(address, bits)| {
        let (address, bits) = (address.parse::<IpAddr>(), bits.parse::<u8>());
        address.is_ok_and(|a| bits.is_ok_and(|b| b <= if a.is_ipv4() { 32 } else { 128 }))
    });
    if !is_range {
        let why = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";
        errs.push(FieldError::invalid(path, text, why));
    }
}
