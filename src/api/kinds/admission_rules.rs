//! What webhook configurations and admission policies share: which requests they are about, and how they are checked.
//!
//! **Source**: `pkg/apis/admissionregistration/validation/validation.go`, `pkg/apis/admissionregistration/v1/defaults.go`, v1.37.

use super::json::{self, Errors};
use crate::{
    api::{
        field::FieldError,
        json_kind::{default_at, text_at},
        names,
    },
    base::ordered::Set,
};
use serde_json::{Map, Value, json};

type Fields = Map<String, Value>;

pub(super) const FAILURE_POLICIES: &[&str] = &["Fail", "Ignore"];
const MATCH_POLICIES: &[&str] = &["Equivalent", "Exact"];
const OPERATIONS: &[&str] = &["*", "CONNECT", "CREATE", "DELETE", "UPDATE"];
const SCOPES: &[&str] = &["*", "Cluster", "Namespaced"];
const MATCH_CONDITIONS_MAX: usize = 64;

/// Fills what says which requests something is about.
pub(super) fn set_match_defaults(fields: &mut Fields) {
    default_at(fields, "matchPolicy", "Equivalent");
    default_at(fields, "namespaceSelector", json!({}));
    default_at(fields, "objectSelector", json!({}));
}

/// Fills what rules leave out.
pub(super) fn set_rule_defaults(fields: &mut Fields, list: &str) {
    json::objects_mut(fields, list).for_each(|rule| default_at(rule, "scope", "*"));
}

/// What says which requests something is about.
pub(super) fn check_match(errs: &mut Errors, fields: &Fields, above: &str) {
    json::within(errs, above, |errs| json::one_of(errs, fields, "matchPolicy", MATCH_POLICIES));
    for selector in ["namespaceSelector", "objectSelector"] {
        let mut own = Errors::new();
        json::label_selector(&mut own, fields, selector);
        errs.extend(own.into_iter().map(|err| FieldError { path: format!("{above}.{}", err.path), ..err }));
    }
}

/// Rules of a list.
pub(super) fn check_rules(errs: &mut Errors, fields: &Fields, above: &str, list: &str) {
    for (i, rule) in json::objects(fields, list).enumerate() {
        let path = format!("{above}.{list}[{i}]");
        check_names(errs, rule, &path);
        check_operations(errs, rule, &path);
        wild_or_some(errs, rule, &path, "apiGroups", "API groups");
        wild_or_some(errs, rule, &path, "apiVersions", "API versions");
        let empty = json::texts(rule, "apiVersions").enumerate().filter(|(_, version)| version.is_empty());
        errs.extend(empty.map(|(n, _)| FieldError::required(format!("{path}.apiVersions[{n}]"), "")));
        check_resources(errs, rule, &format!("{path}.resources"));
        json::within(errs, &path, |errs| json::one_of(errs, rule, "scope", SCOPES));
    }
}

fn check_names(errs: &mut Errors, rule: &Fields, path: &str) {
    let mut seen = Set::new();
    for (i, name) in json::texts(rule, "resourceNames").enumerate() {
        let path = format!("{path}.resourceNames[{i}]");
        errs.extend(names::path_segment(name).into_iter().map(|why| FieldError::invalid(&path, name, why)));
        if !seen.insert(name) {
            errs.push(FieldError::duplicate(path, name));
        }
    }
}

fn check_operations(errs: &mut Errors, rule: &Fields, path: &str) {
    wild_or_some(errs, rule, path, "operations", "operations");
    for (i, operation) in json::texts(rule, "operations").enumerate().filter(|(_, o)| !OPERATIONS.contains(o)) {
        errs.push(FieldError::not_supported(format!("{path}.operations[{i}]"), operation, OPERATIONS));
    }
}

/// A list that is not empty, and that is `*` alone where it has one.
fn wild_or_some(errs: &mut Errors, rule: &Fields, path: &str, field: &str, what: &str) {
    let items: Vec<&str> = json::texts(rule, field).collect();
    let path = format!("{path}.{field}");
    if items.is_empty() {
        errs.push(FieldError::required(path, ""));
    } else if items.len() > 1 && items.contains(&"*") {
        errs.push(FieldError::invalid(path, &items, format!("if '*' is present, must not specify other {what}")));
    }
}

/// Source: `validateResources`.
fn check_resources(errs: &mut Errors, rule: &Fields, path: &str) {
    let resources: Vec<&str> = json::texts(rule, "resources").collect();
    if resources.is_empty() {
        errs.push(FieldError::required(path, ""));
    }
    let (mut all_of, mut of_all) = (Set::new(), Set::new());
    for (i, resource) in resources.iter().enumerate() {
        let path = format!("{path}[{i}]");
        if resource.is_empty() {
            errs.push(FieldError::required(&path, ""));
        }
        let Some((of, sub)) = resource.split_once('/') else { continue };
        let mut forbid = |present: String| {
            let why = format!("if '{present}' is present, must not specify {resource}");
            errs.push(FieldError::invalid(&path, resource, why));
        };
        if all_of.contains(of) {
            forbid(format!("{of}/*"));
        }
        if of_all.contains(sub) {
            forbid(format!("*/{sub}"));
        }
        if sub == "*" {
            all_of.insert(of);
        }
        if of == "*" {
            of_all.insert(sub);
        }
    }
    if resources.len() > 1 && resources.contains(&"*/*") {
        errs.push(FieldError::invalid(path, &resources, "if '*/*' is present, must not specify other resources"));
    }
    if resources.contains(&"*") && resources.iter().any(|r| *r != "*" && !r.contains('/')) {
        let why = "if '*' is present, must not specify other resources without subresources";
        errs.push(FieldError::invalid(path, &resources, why));
    }
}

/// The conditions of a list. What their expressions say is not read.
pub(super) fn check_conditions(errs: &mut Errors, fields: &Fields, above: &str) {
    let conditions = json::items(fields, "matchConditions");
    let list = format!("{above}.matchConditions");
    if conditions.len() > MATCH_CONDITIONS_MAX {
        errs.push(FieldError::too_many(&list, conditions.len(), MATCH_CONDITIONS_MAX));
    }
    let mut seen = Set::new();
    for (i, condition) in json::objects(fields, "matchConditions").enumerate() {
        let path = format!("{list}[{i}]");
        if text_at(condition, "expression").trim().is_empty() {
            errs.push(FieldError::required(format!("{path}.expression"), ""));
        }
        let (name, path) = (text_at(condition, "name"), format!("{path}.name"));
        if name.is_empty() {
            errs.push(FieldError::required(path, ""));
            continue;
        }
        errs.extend(names::qualified_name(&name).into_iter().map(|why| FieldError::invalid(&path, &name, why)));
        if !seen.insert(name.clone()) {
            errs.push(FieldError::duplicate(path, name));
        }
    }
}

/// Where a webhook is.
pub(super) fn check_client(errs: &mut Errors, webhook: &Fields, above: &str) {
    let path = format!("{above}.clientConfig");
    match (json::has(webhook, "clientConfig.url"), json::has(webhook, "clientConfig.service")) {
        (true, false) => check_url(errs, &text_at(webhook, "clientConfig.url"), &format!("{path}.url")),
        (false, true) => check_service(errs, webhook, &format!("{path}.service")),
        (true, true) | (false, false) => {
            errs.push(FieldError::required(path, "exactly one of url or service is required"));
        }
    }
}

/// Source: `ValidateWebhookURL` in `k8s.io/apiserver/pkg/util/webhook/validation.go`.
fn check_url(errs: &mut Errors, url: &str, path: &str) {
    const FORM: &str = "; desired format: https://host[/path]";
    let mut wrong = |value: &str, why: &str| errs.push(FieldError::invalid(path, value, format!("{why}{FORM}")));
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    if scheme != "https" {
        wrong(scheme, "'https' is the only allowed URL scheme");
    }
    let (rest, fragment) = rest.split_once('#').unwrap_or((rest, ""));
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let authority = if scheme.is_empty() { "" } else { rest.split('/').next().unwrap_or_default() };
    let (user, host) = authority.rsplit_once('@').unwrap_or(("", authority));
    if host.is_empty() {
        wrong(host, "host must be specified");
    }
    if !user.is_empty() {
        wrong(user, "user information is not permitted in the URL");
    }
    if !fragment.is_empty() {
        wrong(fragment, "fragments are not permitted in the URL");
    }
    if !query.is_empty() {
        wrong(query, "query parameters are not permitted in the URL");
    }
}

/// Source: `ValidateWebhookService`, there.
fn check_service(errs: &mut Errors, webhook: &Fields, path: &str) {
    let text = |field: &str| text_at(webhook, &format!("clientConfig.service.{field}"));
    for (field, why) in [("name", "service name is required"), ("namespace", "service namespace is required")] {
        if text(field).is_empty() {
            errs.push(FieldError::required(format!("{path}.{field}"), why));
        }
    }
    let port: i64 = text("port").parse().unwrap_or(0);
    let wrong = names::port_number(port).into_iter();
    errs.extend(
        wrong.map(|why| FieldError::invalid(format!("{path}.port"), port, format!("port is not valid: {why}"))),
    );
    if json::has(webhook, "clientConfig.service.path") {
        check_path(errs, &text("path"), &format!("{path}.path"));
    }
}

fn check_path(errs: &mut Errors, url_path: &str, path: &str) {
    let mut wrong = |why: String| errs.push(FieldError::invalid(path, url_path, why));
    if url_path == "/" || url_path.is_empty() {
        return;
    }
    if url_path == "//" {
        return wrong("segment[0] may not be empty".to_owned());
    }
    let Some(steps) = url_path.strip_prefix('/') else { return wrong("must start with a '/'".to_owned()) };
    let steps: Vec<&str> = steps.strip_suffix('/').unwrap_or(steps).split('/').collect();
    for (i, step) in steps.iter().enumerate() {
        if step.is_empty() {
            return wrong(format!("segment[{i}] may not be empty"));
        }
        for why in names::dns1123_subdomain(step) {
            wrong(format!("segment[{i}]: {why}"));
        }
    }
}
