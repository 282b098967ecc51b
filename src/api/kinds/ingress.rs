//! `Ingress`, networking.k8s.io/v1.
//!
//! **Source**: `pkg/apis/networking/validation/validation.go`, v1.37.

use super::json::{self, Errors};
use crate::api::{
    agreements::INGRESS_CLASS,
    field::FieldError,
    http_options::HttpOptions,
    json_kind::{JsonKind, Rules, at, text_at},
    kind::{KindInfo, STATUS, Scope},
    names,
    object::Untyped,
    table::{self, Column},
};
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use std::net::IpAddr;

/// How many hosts a row names.
const HOSTS_MAX: usize = 3;
/// The annotation that named the class before there was a field for it.
pub const CLASS_ANNOTATION: &str = "kubernetes.io/ingress.class";

/// The kind `Ingress`.
pub static INGRESSES: JsonKind = JsonKind::new(
    KindInfo {
        short_names: &["ing"],
        subresources: &[STATUS],
        columns: &[
            Column::name(),
            Column::text("Class", "The class that serves it."),
            Column::text("Hosts", "The hosts that its rules are for."),
            Column::text("Address", "Where it is served."),
            Column::text("Ports", "The ports that it opens."),
            Column::age(),
        ],
        ..KindInfo::of(
            ("networking.k8s.io", "v1", "Ingress"),
            ("ingresses", "ingress"),
            Scope::Namespaced,
            "io.k8s.api.networking.v1.Ingress",
        )
    },
    Rules { validate, row, warnings, has_generation: true, ..Rules::PLAIN },
);

/// What the router has no use for. Ingresses of other classes are others' business.
fn warnings(obj: &Untyped) -> Vec<String> {
    let annotations = obj.metadata.annotations.clone().unwrap_or_default();
    let class = text_at(&obj.rest, "spec.ingressClassName");
    let class = if class.is_empty() { annotations.get(CLASS_ANNOTATION).cloned().unwrap_or_default() } else { class };
    if !class.is_empty() && class != INGRESS_CLASS {
        return Vec::new();
    }
    let mut all = HttpOptions::of_ingress(&annotations).1;
    let mut backends = json::objects(&obj.rest, "spec.rules").flat_map(|rule| json::objects(rule, "http.paths"));
    let is_resource = backends.any(|path| json::has(path, "backend.resource"));
    if is_resource || json::has(&obj.rest, "spec.defaultBackend.resource") {
        all.push("skiff's router serves Services alone: resource backends are answered with 503".to_owned());
    }
    all
}

fn validate(obj: &Untyped) -> Errors {
    let mut errs = Errors::new();
    let fields = &obj.rest;
    let has_rules = !json::items(fields, "spec.rules").is_empty();
    if !has_rules && !json::has(fields, "spec.defaultBackend") {
        let why = "either `defaultBackend` or `rules` must be specified";
        errs.push(FieldError::invalid("spec", json!([]), why));
    }
    if let Some(backend) = at(fields, "spec.defaultBackend").and_then(Value::as_object) {
        check_backend(&mut errs, backend, "spec.defaultBackend");
    }
    let class = text_at(fields, "spec.ingressClassName");
    if !class.is_empty() {
        json::subdomain(&mut errs, "spec.ingressClassName", &class);
    }
    for (i, rule) in json::objects(fields, "spec.rules").enumerate() {
        check_rule(&mut errs, rule, &format!("spec.rules[{i}]"));
    }
    for (i, tls) in json::objects(fields, "spec.tls").enumerate() {
        for (n, host) in json::texts(tls, "hosts").enumerate() {
            check_host(&mut errs, host, &format!("spec.tls[{i}].hosts[{n}]"));
        }
    }
    errs
}

fn check_rule(errs: &mut Errors, rule: &Map<String, Value>, path: &str) {
    let host = text_at(rule, "host");
    if !host.is_empty() {
        if host.parse::<IpAddr>().is_ok() {
            errs.push(FieldError::invalid(format!("{path}.host"), &host, "must be a DNS name, not an IP address"));
        }
        check_host(errs, &host, &format!("{path}.host"));
    }
    if !json::has(rule, "http") {
        return;
    }
    if json::items(rule, "http.paths").is_empty() {
        errs.push(FieldError::required(format!("{path}.http.paths"), ""));
    }
    for (i, of) in json::objects(rule, "http.paths").enumerate() {
        check_path(errs, of, &format!("{path}.http.paths[{i}]"));
    }
}

fn check_host(errs: &mut Errors, host: &str, path: &str) {
    let name = host.strip_prefix("*.").unwrap_or(host);
    errs.extend(names::dns1123_subdomain(name).into_iter().map(|why| FieldError::invalid(path, host, why)));
}

fn check_path(errs: &mut Errors, of: &Map<String, Value>, path: &str) {
    let (text, kind) = (text_at(of, "path"), text_at(of, "pathType"));
    match &*kind {
        "" => errs.push(FieldError::required(format!("{path}.pathType"), "pathType must be specified")),
        "Exact" | "Prefix" => {
            if !text.starts_with('/') {
                errs.push(FieldError::invalid(format!("{path}.path"), &text, "must be an absolute path"));
            }
            for part in ["//", "/./", "/../", "%2f", "%2F"].into_iter().filter(|part| text.contains(part)) {
                errs.push(FieldError::invalid(format!("{path}.path"), &text, format!("must not contain '{part}'")));
            }
            for end in ["/..", "/."].into_iter().filter(|end| text.ends_with(end)) {
                errs.push(FieldError::invalid(format!("{path}.path"), &text, format!("cannot end with '{end}'")));
            }
        }
        "ImplementationSpecific" => {
            if !text.is_empty() && !text.starts_with('/') {
                errs.push(FieldError::invalid(format!("{path}.path"), &text, "must be an absolute path"));
            }
        }
        _ => {
            let kinds = &["Exact", "ImplementationSpecific", "Prefix"];
            errs.push(FieldError::not_supported(format!("{path}.pathType"), kind, kinds));
        }
    }
    match at(of, "backend").and_then(Value::as_object) {
        Some(backend) => check_backend(errs, backend, &format!("{path}.backend")),
        None => errs.push(FieldError::required(format!("{path}.backend"), "")),
    }
}

fn check_backend(errs: &mut Errors, backend: &Map<String, Value>, path: &str) {
    let (has_service, has_resource) = (json::has(backend, "service"), json::has(backend, "resource"));
    if has_service && has_resource {
        errs.push(FieldError::invalid(path, "", "cannot set both resource and service backends"));
        return;
    }
    if has_resource {
        return;
    }
    if !has_service {
        errs.push(FieldError::required(path, "must provide a service or resource backend"));
        return;
    }
    let name = text_at(backend, "service.name");
    if name.is_empty() {
        errs.push(FieldError::required(format!("{path}.service.name"), ""));
    } else {
        let wrong = names::dns1035_label(&name);
        errs.extend(wrong.into_iter().map(|why| FieldError::invalid(format!("{path}.service.name"), &name, why)));
    }
    let (port_name, number) = (
        text_at(backend, "service.port.name"),
        at(backend, "service.port.number").and_then(Value::as_i64).unwrap_or(0),
    );
    match (port_name.is_empty(), number) {
        (false, 1..) => errs.push(FieldError::invalid(path, "", "cannot set both port name & port number")),
        (true, 0) => errs.push(FieldError::required(path, "port name or number is required")),
        (true, number) => errs.extend(
            names::port_number(number)
                .into_iter()
                .map(|why| FieldError::invalid(format!("{path}.service.port.number"), number, why)),
        ),
        (false, _) => {}
    }
}

fn row(obj: &Untyped, now: Timestamp) -> Vec<Value> {
    let fields = &obj.rest;
    let annotation =
        || obj.metadata.annotations.as_ref().and_then(|a| a.get(CLASS_ANNOTATION).cloned()).unwrap_or_default();
    let class = Some(text_at(fields, "spec.ingressClassName")).filter(|class| !class.is_empty());
    let addresses = json::objects(fields, "status.loadBalancer.ingress").map(|i| {
        let ip = text_at(i, "ip");
        if ip.is_empty() { text_at(i, "hostname") } else { ip }
    });
    vec![
        table::name(&obj.metadata),
        table::or(&class.unwrap_or_else(annotation), table::NONE),
        json!(hosts(fields)),
        json!(addresses.collect::<Vec<_>>().join(",")),
        json!(if json::items(fields, "spec.tls").is_empty() { "80" } else { "80, 443" }),
        table::age(&obj.metadata, now),
    ]
}

fn hosts(fields: &Map<String, Value>) -> String {
    let hosts: Vec<String> =
        json::objects(fields, "spec.rules").map(|r| text_at(r, "host")).filter(|h| !h.is_empty()).collect();
    let rules = json::items(fields, "spec.rules").len();
    match hosts.len() {
        0 => "*".to_owned(),
        1..=HOSTS_MAX if rules <= HOSTS_MAX => hosts.join(","),
        n => format!("{} + {} more...", hosts[..n.min(HOSTS_MAX)].join(","), rules.saturating_sub(HOSTS_MAX)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::kinds::testing::json::{causes, row};
    use expect_test::expect;

    const SHOP: &str = "metadata: {name: shop}\nspec: {ingressClassName: nginx, tls: [{hosts: [a.b]}], rules: [{host: a.b, http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: web, port: {number: 80}}}}]}}]}";

    #[test]
    fn what_is_wrong_is_named() {
        assert_eq!(causes(&INGRESSES, SHOP), "");
        expect![[r#"
            spec: Invalid value: []: either `defaultBackend` or `rules` must be specified
        "#]]
        .assert_eq(&causes(&INGRESSES, "spec: {}"));
        let wrong = "spec: {rules: [{host: 10.0.0.1, http: {paths: [{path: x, pathType: Prefix, backend: {}}, {path: /a/../b, pathType: Regex, backend: {service: {name: A, port: {}}}}, {backend: {service: {name: web, port: {number: 0, name: http}}}}]}}]}";
        expect![[r#"
            spec.rules[0].host: Invalid value: "10.0.0.1": must be a DNS name, not an IP address
            spec.rules[0].http.paths[0].path: Invalid value: "x": must be an absolute path
            spec.rules[0].http.paths[0].backend: Required value: must provide a service or resource backend
            spec.rules[0].http.paths[1].pathType: Unsupported value: "Regex": supported values: "Exact", "ImplementationSpecific", "Prefix"
            spec.rules[0].http.paths[1].backend.service.name: Invalid value: "A": a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')
            spec.rules[0].http.paths[1].backend: Required value: port name or number is required
            spec.rules[0].http.paths[2].pathType: Required value: pathType must be specified
        "#]].assert_eq(&causes(&INGRESSES, wrong));
    }

    #[test]
    fn what_the_router_has_no_use_for_is_told() {
        let told = |class: &str, key: &str| {
            let mut obj = Untyped::default();
            obj.metadata.annotations = Some([(key.to_owned(), "x".to_owned())].into());
            obj.rest = json!({ "spec": { "ingressClassName": class, "defaultBackend": { "resource": {} } } })
                .as_object()
                .cloned()
                .unwrap();
            warnings(&obj)
        };
        let odd = "nginx.ingress.kubernetes.io/server-snippet";
        assert_eq!(
            told("", odd),
            [
                "metadata.annotations[nginx.ingress.kubernetes.io/server-snippet]: skiff's router has no such option: it has no effect",
                "skiff's router serves Services alone: resource backends are answered with 503",
            ]
        );
        assert_eq!(told("skiff", "example.com/x").len(), 1);
        assert_eq!(told("nginx", odd), Vec::<String>::new());
    }

    #[test]
    fn a_row_reads_as_in_kubernetes() {
        assert_eq!(row(&INGRESSES, SHOP), "shop | nginx | a.b |  | 80, 443 | <unknown>");
        let many = "metadata: {name: x}\nspec: {rules: [{host: a}, {host: b}, {host: c}, {host: d}]}\nstatus: {loadBalancer: {ingress: [{ip: 127.0.0.1}]}}";
        assert_eq!(row(&INGRESSES, many), "x | <none> | a,b,c + 1 more... | 127.0.0.1 | 80 | <unknown>");
    }
}
