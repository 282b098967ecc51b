//! What the kinds of resource.k8s.io share: names of drivers, pools and devices, claims, selectors, taints. CEL expressions are not read.
//!
//! **Source**: `pkg/apis/resource/validation/validation.go`, `pkg/apis/resource/v1/defaults.go`, v1.37.

use super::json::{self, Errors};
use crate::{
    api::{
        field::FieldError,
        json_kind::{at, default_at, text_at},
        names,
    },
    base::ordered::{self, Set},
};
use serde_json::{Map, Value};

pub(super) type Fields = Map<String, Value>;
/// What is wrong with a name at a path.
pub(super) type NameCheck = fn(&mut Errors, &str, &str);

/// The API group.
pub(super) const GROUP: &str = "resource.k8s.io";
const LIST_MAX: usize = 32;
const ALTERNATIVES_MAX: usize = 8;
const POOL_NAME_MAX: usize = 253;
const DRIVER_NAME_MAX: usize = 63;
const EXPRESSION_MAX: usize = 10 * 1024;
const PARAMETERS_MAX: usize = 10 * 1024;
const MODES: &[&str] = &["All", "ExactCount"];
const EFFECTS: &[&str] = &["NoExecute", "NoSchedule", "None"];
const OPERATORS: &[&str] = &["Equal", "Exists"];
const NOT_A_REQUEST: &str =
    "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'";

/// The warning of each kind of the group.
pub(super) fn warnings() -> Vec<String> {
    vec![
        "skiff allocates no devices: this object is stored, its expressions are not checked, and nothing acts on it"
            .to_owned(),
    ]
}

fn each(errs: &mut Errors, path: &str, value: &str, wrong: Vec<String>) {
    errs.extend(wrong.into_iter().map(|why| FieldError::invalid(path, value, why)));
}

/// Items of a list, of which there may be so many; too many are not looked at.
pub(super) fn items(
    errs: &mut Errors,
    fields: &Fields,
    path: &str,
    max: usize,
    mut check: impl FnMut(&mut Errors, &Fields, &str),
) {
    let n = json::items(fields, path).len();
    if n > max {
        return errs.push(FieldError::too_many(path, n, max));
    }
    for (i, item) in json::objects(fields, path).enumerate() {
        check(errs, item, &format!("{path}[{i}]"));
    }
}

/// Items that no two of are called the same.
pub(super) fn unique<'a>(errs: &mut Errors, path: &str, keys: impl Iterator<Item = &'a str>) {
    let mut seen = Set::new();
    for (i, key) in keys.enumerate() {
        if !seen.insert(key) {
            errs.push(FieldError::duplicate(format!("{path}[{i}]"), key));
        }
    }
}

/// The field of each object of a list, to look for duplicates.
pub(super) fn keys<'a>(fields: &'a Fields, path: &str, key: &'a str) -> impl Iterator<Item = &'a str> + use<'a> {
    json::objects(fields, path).map(move |item| item.get(key).and_then(Value::as_str).unwrap_or_default())
}

/// The name of a driver. Source: `ValidateCSIDriverName`.
pub(super) fn driver(errs: &mut Errors, path: &str, name: &str) {
    if name.is_empty() {
        return errs.push(FieldError::required(path, ""));
    }
    if name.len() > DRIVER_NAME_MAX {
        errs.push(FieldError::too_long(path, DRIVER_NAME_MAX));
    }
    each(errs, path, name, names::dns1123_subdomain(&name.to_lowercase()));
}

/// The name of a pool of devices.
pub(super) fn pool(errs: &mut Errors, path: &str, name: &str) {
    if name.is_empty() {
        return errs.push(FieldError::required(path, ""));
    }
    if name.len() > POOL_NAME_MAX {
        errs.push(FieldError::too_long(path, POOL_NAME_MAX));
    }
    name.split('/').for_each(|part| each(errs, path, part, names::dns1123_subdomain(part)));
}

/// The name of a device, a request or a counter.
pub(super) fn label(errs: &mut Errors, path: &str, name: &str) {
    each(errs, path, name, names::dns1123_label(name));
}

/// Selectors of a list at a path. Their expressions are not read.
pub(super) fn selectors(errs: &mut Errors, fields: &Fields, path: &str) {
    items(errs, fields, path, LIST_MAX, |errs, selector, path| match at(selector, "cel") {
        None => errs.push(FieldError::required(format!("{path}.cel"), "")),
        Some(_) if text_at(selector, "cel.expression").len() > EXPRESSION_MAX => {
            errs.push(FieldError::too_long(format!("{path}.cel.expression"), EXPRESSION_MAX));
        }
        Some(_) => {}
    });
}

/// Configurations of a list at a path; `requests` are those of the claim, if they are a claim's.
pub(super) fn configurations(errs: &mut Errors, fields: &Fields, path: &str, requests: Option<&Requests>) {
    items(errs, fields, path, LIST_MAX, |errs, config, path| {
        if let Some(requests) = requests {
            requests.check_references(errs, config, path);
        }
        if at(config, "opaque").is_none() {
            return errs.push(FieldError::required(format!("{path}.opaque"), ""));
        }
        driver(errs, &format!("{path}.opaque.driver"), &text_at(config, "opaque.driver"));
        parameters(errs, at(config, "opaque.parameters"), &format!("{path}.opaque.parameters"));
    });
}

/// Source: `validateRawExtension`.
fn parameters(errs: &mut Errors, value: Option<&Value>, path: &str) {
    match value {
        None | Some(Value::Null) => errs.push(FieldError::required(path, "")),
        Some(value) if value.to_string().len() > PARAMETERS_MAX => {
            errs.push(FieldError::too_long(path, PARAMETERS_MAX));
        }
        Some(Value::Object(_)) => {}
        Some(_) => errs.push(FieldError::invalid(path, "<value omitted>", "must be a valid JSON object")),
    }
}

/// The requests of a claim by name, each with the names of its alternatives.
pub(super) struct Requests(ordered::Map<String, Set<String>>);

impl Requests {
    fn of(claim: &Fields, path: &str) -> Self {
        let names = |request| keys(request, "firstAvailable", "name").map(str::to_owned).collect();
        Self(json::objects(claim, path).map(|request| (text_at(request, "name"), names(request))).collect())
    }

    fn has(&self, name: &str) -> bool {
        let (request, alternative) = name.split_once('/').map_or((name, None), |(of, name)| (of, Some(name)));
        self.0.get(request).is_some_and(|names| alternative.is_none_or(|name| names.contains(name)))
    }

    /// The names of requests in `requests` of an object. Source: `validateRequestNameRef`.
    fn check_references(&self, errs: &mut Errors, fields: &Fields, path: &str) {
        let path = format!("{path}.requests");
        for (i, name) in json::texts(fields, "requests").enumerate() {
            let path = format!("{path}[{i}]");
            let parts: Vec<&str> = name.split('/').collect();
            if parts.len() <= 2 {
                parts.iter().for_each(|part| label(errs, &path, part));
            }
            if !self.has(name) {
                errs.push(FieldError::invalid(path, name, NOT_A_REQUEST));
            }
        }
        unique(errs, &path, json::texts(fields, "requests"));
    }
}

/// Fills what a claim leaves out; `path` leads to what has the requests.
pub(super) fn set_claim_defaults(fields: &mut Fields, path: &str) {
    for request in json::objects_mut(fields, &format!("{path}.requests")) {
        if let Some(Value::Object(exactly)) = request.get_mut("exactly") {
            set_request_defaults(exactly);
        }
        json::objects_mut(request, "firstAvailable").for_each(set_request_defaults);
    }
}

fn set_request_defaults(request: &mut Fields) {
    if text_at(request, "allocationMode").is_empty() {
        request.insert("allocationMode".to_owned(), "ExactCount".into());
    }
    if text_at(request, "allocationMode") == "ExactCount" && request.get("count").is_none_or(|count| count == 0) {
        request.insert("count".to_owned(), 1.into());
    }
    json::objects_mut(request, "tolerations").for_each(|toleration| default_at(toleration, "operator", "Equal"));
}

/// A claim; `path` leads to what has the requests.
pub(super) fn claim(errs: &mut Errors, fields: &Fields, path: &str) {
    let (requests, constraints) = (format!("{path}.requests"), format!("{path}.constraints"));
    items(errs, fields, &requests, LIST_MAX, check_request);
    unique(errs, &requests, keys(fields, &requests, "name"));
    let known = Requests::of(fields, &requests);
    items(errs, fields, &constraints, LIST_MAX, |errs, constraint, path| {
        known.check_references(errs, constraint, path);
        check_constraint(errs, constraint, path);
    });
    configurations(errs, fields, &format!("{path}.config"), Some(&known));
}

fn check_constraint(errs: &mut Errors, constraint: &Fields, path: &str) {
    let given: Vec<&str> =
        ["matchAttribute", "distinctAttribute"].into_iter().filter(|field| at(constraint, field).is_some()).collect();
    match &*given {
        [] => errs.push(FieldError::required(
            path,
            "exactly one of \"matchAttribute\" or \"distinctAttribute\" is required, but multiple fields are set",
        )),
        [field, ..] => {
            let (path, name) = (format!("{path}.{field}"), text_at(constraint, field));
            match name.split_once('/') {
                _ if name.is_empty() => errs.push(FieldError::required(path, "name required")),
                None => errs.push(FieldError::invalid(path, name, "must include a domain")),
                Some((domain, _)) => each(errs, &path, &name, names::dns1123_subdomain(domain)),
            }
        }
    }
}

fn check_request(errs: &mut Errors, request: &Fields, path: &str) {
    label(errs, &format!("{path}.name"), &text_at(request, "name"));
    let alternatives = !json::items(request, "firstAvailable").is_empty();
    match (at(request, "exactly"), alternatives) {
        (None, false) => {
            errs.push(FieldError::required(path, "exactly one of `exactly` or `firstAvailable` is required"));
        }
        (Some(_), true) => {
            let why = "exactly one of `exactly` or `firstAvailable` is required, but multiple fields are set";
            errs.push(FieldError::invalid(path, Value::Null, why));
        }
        (Some(Value::Object(exactly)), false) => check_details(errs, exactly, &format!("{path}.exactly")),
        (Some(_), false) => {}
        (None, true) => json::within(errs, path, |errs| {
            items(errs, request, "firstAvailable", ALTERNATIVES_MAX, |errs, request, path| {
                label(errs, &format!("{path}.name"), &text_at(request, "name"));
                check_details(errs, request, path);
            });
            unique(errs, "firstAvailable", keys(request, "firstAvailable", "name"));
        }),
    }
}

/// What a request asks for.
fn check_details(errs: &mut Errors, request: &Fields, path: &str) {
    let count = request.get("count").and_then(Value::as_i64).unwrap_or(0);
    match &*text_at(request, "deviceClassName") {
        "" => errs.push(FieldError::required(format!("{path}.deviceClassName"), "")),
        name => json::subdomain(errs, &format!("{path}.deviceClassName"), name),
    }
    json::within(errs, path, |errs| selectors(errs, request, "selectors"));
    match &*text_at(request, "allocationMode") {
        "All" if count != 0 => {
            let why = "must not be specified when allocationMode is 'All'";
            errs.push(FieldError::invalid(format!("{path}.count"), count, why));
        }
        "ExactCount" if count <= 0 => {
            errs.push(FieldError::invalid(format!("{path}.count"), count, "must be greater than zero"));
        }
        "All" | "ExactCount" => {}
        mode => errs.push(FieldError::not_supported(format!("{path}.allocationMode"), mode, MODES)),
    }
    json::within(errs, path, |errs| {
        let each = json::objects(request, "tolerations").enumerate();
        each.for_each(|(i, toleration)| check_toleration(errs, toleration, &format!("tolerations[{i}]")));
    });
}

fn check_toleration(errs: &mut Errors, toleration: &Fields, path: &str) {
    let text = |field: &str| text_at(toleration, field);
    if !text("key").is_empty() {
        each(errs, &format!("{path}.key"), &text("key"), names::qualified_name(&text("key")));
    }
    match &*text("operator") {
        "Exists" if !text("value").is_empty() => {
            let why = "must be empty for operator `Exists`";
            errs.push(FieldError::invalid(format!("{path}.value"), text("value"), why));
        }
        "Equal" => each(errs, &format!("{path}.value"), &text("value"), names::label_value(&text("value"))),
        "Exists" => {}
        "" => errs.push(FieldError::required(format!("{path}.operator"), "")),
        operator => errs.push(FieldError::not_supported(format!("{path}.operator"), operator, OPERATORS)),
    }
    let effect = text("effect");
    if !effect.is_empty() && !EFFECTS.contains(&&*effect) {
        errs.push(FieldError::not_supported(format!("{path}.effect"), effect, EFFECTS));
    }
}

/// A taint of devices.
pub(super) fn taint(errs: &mut Errors, taint: &Fields, path: &str) {
    let text = |field: &str| text_at(taint, field);
    each(errs, &format!("{path}.key"), &text("key"), names::qualified_name(&text("key")));
    if !text("value").is_empty() {
        each(errs, &format!("{path}.value"), &text("value"), names::label_value(&text("value")));
    }
    match &*text("effect") {
        "" => errs.push(FieldError::required(format!("{path}.effect"), "")),
        effect if !EFFECTS.contains(&effect) => {
            errs.push(FieldError::not_supported(format!("{path}.effect"), effect, EFFECTS));
        }
        _ => {}
    }
}
