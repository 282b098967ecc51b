//! `Route`, route.openshift.io/v1: a Service answers for a host name.
//!
//! **Not here**: who may choose a host (`server/verbs/privileges`), and how requests get there (`net::router`).
//! **Source**: github.com/openshift/library-go, `pkg/route/{validation,hostassignment,defaulting}`; rows:
//! github.com/openshift/openshift-apiserver, `pkg/route/printers/internalversion`; release 4.20. Unlike there, the form of a header's
//! value is that of `header_template`.

use super::json::{self, Errors};
use crate::api::{
    agreements::ROUTE_DOMAIN,
    field::FieldError,
    header_template::{self, Side},
    http_options::HttpOptions,
    json_kind::{JsonKind, Rules, at, set_at, text_at},
    kind::{KindInfo, STATUS, Scope},
    names,
    object::Untyped,
    table::{self, Column},
};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

/// The annotation of a Route whose host was made.
pub const HOST_GENERATED: &str = "openshift.io/host.generated";
/// The annotation of a Route whose host need not consist of DNS labels.
const ALLOW_ANY_LABELS: &str = "route.openshift.io/allow-non-dns-compliant-host";
const WEIGHT_DEFAULT: i64 = 100;
const WEIGHT_MAX: i64 = 256;
const ALTERNATES_MAX: usize = 3;
const HEADERS_MAX: usize = 20;
const HEADER_NAME_LENGTH_MAX: usize = 255;
const HEADER_VALUE_LENGTH_MAX: usize = 16384;
const TERMINATIONS: [&str; 3] = ["edge", "passthrough", "reencrypt"];

/// The kind `Route`.
pub static ROUTES: JsonKind = JsonKind::new(
    KindInfo {
        categories: &["all"],
        subresources: &[STATUS],
        columns: &[
            Column::name(),
            Column::text("Host/Port", "The host that it answers for, or why it does not."),
            Column::text("Path", "The path below which requests are meant."),
            Column::text("Services", "The Services that answer, with their shares."),
            Column::text("Port", "The port of their endpoints."),
            Column::text("Termination", "How TLS ends, and what becomes of plain HTTP."),
            Column::text("Wildcard", "Whether names beside the host are meant too."),
        ],
        ..KindInfo::of(
            ("route.openshift.io", "v1", "Route"),
            ("routes", "route"),
            Scope::Namespaced,
            "com.github.openshift.api.route.v1.Route",
        )
    },
    Rules {
        set_defaults,
        on_named: generate_host,
        prepare_update: keep_host,
        validate,
        validate_update: |new, old| json::immutable(&new.rest, &old.rest, "spec.wildcardPolicy", "field is immutable"),
        warnings,
        row,
        has_generation: true,
        selectable: &["spec.host", "spec.path", "spec.to.name"],
        ..Rules::PLAIN
    },
);

fn set_defaults(obj: &mut Untyped) {
    let fields = &mut obj.rest;
    default_text(fields, "spec.wildcardPolicy", "None");
    if let Some(to) = fields.get_mut("spec").and_then(|spec| spec.get_mut("to")).and_then(Value::as_object_mut) {
        default_target(to);
    }
    json::objects_mut(fields, "spec.alternateBackends").for_each(default_target);
    json::objects_mut(fields, "status.ingress").for_each(|i| default_text(i, "wildcardPolicy", "None"));
    if json::has(fields, "spec.tls") {
        let given = text_at(fields, "spec.tls.termination");
        let has_destination = !text_at(fields, "spec.tls.destinationCACertificate").is_empty();
        let termination = match TERMINATIONS.iter().find(|known| given.eq_ignore_ascii_case(known)) {
            Some(known) => (*known).to_owned(),
            None if given.is_empty() && !has_destination => "edge".to_owned(),
            None => given,
        };
        set_at(fields, "spec.tls.termination", json!(termination));
    }
}

fn default_text(fields: &mut Map<String, Value>, path: &str, value: &str) {
    if text_at(fields, path).is_empty() {
        set_at(fields, path, json!(value));
    }
}

fn default_target(target: &mut Map<String, Value>) {
    default_text(target, "kind", "Service");
    if target.get("weight").is_none_or(Value::is_null) {
        target.insert("weight".to_owned(), json!(WEIGHT_DEFAULT));
    }
}

/// Makes a host where the user chose neither host nor subdomain.
fn generate_host(obj: &mut Untyped) {
    let is_chosen = ["spec.host", "spec.subdomain"].iter().any(|path| !text_at(&obj.rest, path).is_empty());
    if is_chosen || text_at(&obj.rest, "spec.wildcardPolicy") == "Subdomain" {
        return;
    }
    let meta = &mut obj.metadata;
    let (name, namespace) = (meta.name.as_deref().unwrap_or_default(), meta.namespace.as_deref().unwrap_or_default());
    let host = format!("{}-{namespace}.{ROUTE_DOMAIN}", name.replace('.', "-"));
    meta.annotations.get_or_insert_default().insert(HOST_GENERATED.to_owned(), "true".to_owned());
    set_at(&mut obj.rest, "spec.host", json!(host));
}

/// Who applies the manifest again that a Route was made from does not mean its host to go.
fn keep_host(new: &mut Untyped, old: &Untyped) {
    let host = text_at(&old.rest, "spec.host");
    if text_at(&new.rest, "spec.host").is_empty() && !host.is_empty() {
        set_at(&mut new.rest, "spec.host", json!(host));
    }
}

fn validate(obj: &Untyped) -> Errors {
    let mut errs = Errors::new();
    check_host(&mut errs, obj);
    check_subdomain(&mut errs, &text_at(&obj.rest, "spec.subdomain"));
    check_wildcard(&mut errs, &obj.rest);
    check_headers(&mut errs, &obj.rest);
    check_path(&mut errs, &obj.rest);
    check_targets(&mut errs, &obj.rest);
    if json::has(&obj.rest, "spec.tls") {
        check_tls(&mut errs, &obj.rest);
    }
    errs
}

fn check_host(errs: &mut Errors, obj: &Untyped) {
    let host = text_at(&obj.rest, "spec.host");
    if host.is_empty() {
        return;
    }
    if !names::dns1123_subdomain(&host).is_empty() {
        errs.push(FieldError::invalid("spec.host", &host, "host must conform to DNS 952 subdomain conventions"));
    }
    let allows_any = obj.metadata.annotations.as_ref().and_then(|all| all.get(ALLOW_ANY_LABELS));
    if allows_any.is_none_or(|text| text != "true") {
        let wrong = host.split('.').flat_map(names::dns1123_label);
        errs.extend(wrong.map(|why| FieldError::invalid("spec.host", &host, why)));
    }
}

fn check_subdomain(errs: &mut Errors, subdomain: &str) {
    const LENGTH_MAX: usize = 253;
    if subdomain.is_empty() {
        return;
    }
    if subdomain.len() > LENGTH_MAX {
        errs.push(FieldError::invalid("spec.subdomain", subdomain, names::too_long(LENGTH_MAX)));
    }
    for label in subdomain.split('.') {
        let wrong = names::dns1123_label(label);
        if !wrong.is_empty() {
            errs.push(FieldError::invalid("spec.subdomain", label, wrong.join(", ")));
        }
    }
}

fn check_wildcard(errs: &mut Errors, fields: &Map<String, Value>) {
    let policy = text_at(fields, "spec.wildcardPolicy");
    if !["None", "Subdomain"].contains(&&*policy) {
        errs.push(FieldError::not_supported("spec.wildcardPolicy", policy, &["None", "Subdomain"]));
    } else if policy == "Subdomain" && text_at(fields, "spec.host").is_empty() {
        errs.push(FieldError::invalid("spec.wildcardPolicy", policy, "host name not specified for wildcard policy"));
    }
}

fn check_path(errs: &mut Errors, fields: &Map<String, Value>) {
    let path = text_at(fields, "spec.path");
    if path.is_empty() {
        return;
    }
    if !path.starts_with('/') {
        errs.push(FieldError::invalid("spec.path", &path, "path must begin with /"));
    }
    if path.contains([' ', '#']) {
        errs.push(FieldError::invalid("spec.path", &path, "cannot contain # or spaces"));
    }
    if text_at(fields, "spec.tls.termination") == "passthrough" {
        errs.push(FieldError::invalid("spec.path", &path, "passthrough termination does not support paths"));
    }
}

fn check_targets(errs: &mut Errors, fields: &Map<String, Value>) {
    if let Some(to) = at(fields, "spec.to").and_then(Value::as_object) {
        check_target(errs, to, "spec.to");
    }
    if json::items(fields, "spec.alternateBackends").len() > ALTERNATES_MAX {
        errs.push(FieldError::required("spec.alternateBackends", "cannot specify more than 3 alternate backends"));
    }
    for (i, target) in json::objects(fields, "spec.alternateBackends").enumerate() {
        check_target(errs, target, &format!("spec.alternateBackends[{i}]"));
    }
    if json::has(fields, "spec.port") {
        let port = text_at(fields, "spec.port.targetPort");
        if port.is_empty() || port == "0" {
            errs.push(FieldError::required("spec.port.targetPort", ""));
        }
    }
}

fn check_target(errs: &mut Errors, target: &Map<String, Value>, path: &str) {
    if text_at(target, "name").is_empty() {
        errs.push(FieldError::required(format!("{path}.name"), ""));
    }
    let kind = text_at(target, "kind");
    if kind != "Service" {
        errs.push(FieldError::invalid(format!("{path}.kind"), kind, "must reference a Service"));
    }
    if let Some(weight) = target.get("weight").and_then(Value::as_i64).filter(|w| !(0..=WEIGHT_MAX).contains(w)) {
        let why = "weight must be an integer between 0 and 256";
        errs.push(FieldError::invalid(format!("{path}.weight"), weight, why));
    }
}

fn check_tls(errs: &mut Errors, fields: &Map<String, Value>) {
    let text = |name: &str| text_at(fields, &format!("spec.tls.{name}"));
    let has_external = !text("externalCertificate.name").is_empty();
    let both = |errs: &mut Errors| {
        if has_external && !text("certificate").is_empty() {
            let why = "cannot specify both tls.certificate and tls.externalCertificate";
            errs.push(FieldError::invalid("spec.tls.externalCertificate", text("externalCertificate.name"), why));
        }
    };
    let termination = text("termination");
    match &*termination {
        "reencrypt" => both(errs),
        "passthrough" => {
            let why = "passthrough termination does not support certificates";
            let redacted = [
                ("certificate", "redacted certificate data"),
                ("key", "redacted key data"),
                ("caCertificate", "redacted ca certificate data"),
                ("destinationCACertificate", "redacted destination ca certificate data"),
            ];
            let given = redacted.into_iter().filter(|(name, _)| !text(name).is_empty());
            errs.extend(given.map(|(name, value)| FieldError::invalid(format!("spec.tls.{name}"), value, why)));
            if has_external {
                errs.push(FieldError::invalid("spec.tls.externalCertificate", text("externalCertificate.name"), why));
            }
        }
        "edge" => {
            if !text("destinationCACertificate").is_empty() {
                let (value, why) = (
                    "redacted destination ca certificate data",
                    "edge termination does not support destination certificates",
                );
                errs.push(FieldError::invalid("spec.tls.destinationCACertificate", value, why));
            }
            both(errs);
        }
        _ => errs.push(FieldError::not_supported("spec.tls.termination", &termination, &TERMINATIONS)),
    }
    check_insecure_policy(errs, &termination, &text("insecureEdgeTerminationPolicy"));
}

fn check_insecure_policy(errs: &mut Errors, termination: &str, policy: &str) {
    let (allowed, words): (&[&str], _) = match termination {
        "edge" | "reencrypt" => (&["None", "Allow", "Redirect"], "None, Allow, Redirect"),
        "passthrough" => (&["None", "Redirect"], "None, Redirect"),
        _ => return,
    };
    if !policy.is_empty() && !allowed.contains(&policy) {
        let why =
            format!("invalid value for InsecureEdgeTerminationPolicy option, acceptable values are {words}, or empty");
        errs.push(FieldError::invalid("spec.tls.insecureEdgeTerminationPolicy", policy, why));
    }
}

fn check_headers(errs: &mut Errors, fields: &Map<String, Value>) {
    let termination = text_at(fields, "spec.tls.termination");
    for (name, side) in [("response", Side::Response), ("request", Side::Request)] {
        let path = format!("spec.httpHeaders.actions.{name}");
        let all = json::items(fields, &path);
        if !all.is_empty() && termination == "passthrough" {
            let why = "only edge and re-encrypt routes are supported for providing customized headers.";
            errs.push(FieldError::invalid("spec.tls.termination", &termination, why));
        }
        if all.len() > HEADERS_MAX {
            let why = format!("{name} headers list can't exceed {HEADERS_MAX} items");
            errs.push(FieldError::invalid(&path, all, why));
            continue;
        }
        let mut seen: Vec<String> = Vec::new();
        for (i, header) in json::objects(fields, &path).enumerate() {
            let name = text_at(header, "name");
            if seen.contains(&name) {
                errs.push(FieldError::duplicate(format!("{path}[{i}].name"), &name));
            }
            check_header(errs, header, &format!("{path}[{i}]"), side);
            seen.push(name);
        }
    }
}

fn check_header(errs: &mut Errors, header: &Map<String, Value>, path: &str, side: Side) {
    const KEPT: [&str; 4] = ["strict-transport-security", "proxy", "cookie", "set-cookie"];
    let name = text_at(header, "name");
    let is_token = |c: char| c.is_ascii_alphanumeric() || "-!#$%&'*+.^_`|~".contains(c);
    let at_name = format!("{path}.name");
    if name.is_empty() {
        errs.push(FieldError::required(at_name, ""));
    } else if name.len() > HEADER_NAME_LENGTH_MAX {
        let why = format!("name exceeds the maximum length, which is {HEADER_NAME_LENGTH_MAX}");
        errs.push(FieldError::invalid(at_name, &name, why));
    } else if KEPT.contains(&&*name.to_ascii_lowercase()) {
        let why = format!("the following headers may not be modified using this API: {}", KEPT.join(", "));
        errs.push(FieldError::forbidden(at_name, why));
    } else if !name.chars().all(is_token) {
        let why = "name must be a valid HTTP header name as defined in RFC 2616 section 4.2";
        errs.push(FieldError::invalid(at_name, &name, why));
    }
    let kind = text_at(header, "action.type");
    if !["Set", "Delete"].contains(&&*kind) {
        let why = "type must be \"Set\" or \"Delete\"";
        errs.push(FieldError::invalid(format!("{path}.action.type"), &kind, why));
    }
    let is_set = json::has(header, "action.set");
    if (kind == "Set") != is_set {
        let why = "set is required when type is Set, and forbidden otherwise";
        errs.push(FieldError::required(format!("{path}.action.set"), why));
    }
    if is_set {
        check_header_value(errs, &text_at(header, "action.set.value"), &format!("{path}.action.set.value"), side);
    }
}

fn check_header_value(errs: &mut Errors, value: &str, path: &str, side: Side) {
    if value.is_empty() {
        errs.push(FieldError::required(path, ""));
    } else if value.len() > HEADER_VALUE_LENGTH_MAX {
        let why = format!("value exceeds the maximum length, which is {HEADER_VALUE_LENGTH_MAX}");
        errs.push(FieldError::invalid(path, value, why));
    } else if let Err(why) = header_template::parse(value, side) {
        errs.push(FieldError::invalid(path, value, why));
    }
}

fn warnings(obj: &Untyped) -> Vec<String> {
    let is_given = |path: &str| !text_at(&obj.rest, path).is_empty();
    let annotations = obj.metadata.annotations.clone().unwrap_or_default();
    let mut all = HttpOptions::of_route(&annotations).1;
    if is_given("spec.host") && is_given("spec.subdomain") {
        all.push("spec.host is set; spec.subdomain may be ignored".to_owned());
    }
    all
}

fn row(obj: &Untyped, _now: Timestamp) -> Vec<Value> {
    let text = |path| text_at(&obj.rest, path);
    let or_all = |port: String| if port.is_empty() { "<all>".to_owned() } else { port };
    vec![
        table::name(&obj.metadata),
        json!(host_cell(&obj.rest)),
        json!(text("spec.path")),
        json!(services_cell(&obj.rest)),
        json!(or_all(text("spec.port.targetPort"))),
        json!(termination_cell(&text("spec.tls.termination"), &text("spec.tls.insecureEdgeTerminationPolicy"))),
        json!(text("spec.wildcardPolicy")),
    ]
}

/// The host that is admitted, or why none is.
fn host_cell(fields: &Map<String, Value>) -> String {
    let wanted = text_at(fields, "spec.host");
    if json::items(fields, "status.ingress").is_empty() {
        return wanted;
    }
    let (mut admitted, mut rejected, mut reason, mut host) = (0_usize, 0_usize, String::new(), wanted.clone());
    for ingress in json::objects(fields, "status.ingress") {
        let condition = json::objects(ingress, "conditions").find(|c| text_at(c, "type") == "Admitted");
        match condition.map(|c| (text_at(c, "status"), text_at(c, "reason"))) {
            Some((status, _)) if status == "True" => {
                if admitted == 0 || text_at(ingress, "host") == wanted {
                    host = text_at(ingress, "host");
                }
                admitted += 1;
            }
            Some((status, why)) if status == "False" => {
                rejected += 1;
                reason = why;
            }
            _ => {}
        }
    }
    match (admitted, rejected) {
        (0, 0) => "Pending".to_owned(),
        (0, _) => reason,
        (_, 1..) => format!("{host} ... {rejected} rejected"),
        (1, _) => host,
        (more, _) => format!("{host} ... {} more", more - 1),
    }
}

fn services_cell(fields: &Map<String, Value>) -> String {
    let to = at(fields, "spec.to").and_then(Value::as_object);
    let all: Vec<(String, i64)> = to
        .into_iter()
        .chain(json::objects(fields, "spec.alternateBackends"))
        .map(|target| (text_at(target, "name"), target.get("weight").and_then(Value::as_i64).unwrap_or(0)))
        .collect();
    let total: i64 = all.iter().map(|(_, weight)| weight).sum();
    let cell = |(name, weight): &(String, i64)| match (all.len(), total) {
        (_, 0) => format!("{name}(0%)"),
        (1, _) => name.clone(),
        _ => format!("{name}({}%)", weight * 100 / total),
    };
    all.iter().map(cell).collect::<Vec<_>>().join(",")
}

fn termination_cell(termination: &str, policy: &str) -> String {
    match (termination, policy) {
        (termination, "") => termination.to_owned(),
        ("", policy) => format!("default/{policy}"),
        (termination, policy) => format!("{termination}/{policy}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::kinds::testing::json::{causes, created_yaml, row, update_causes};
    use expect_test::expect;

    /// What `oc expose service web` sends.
    const EXPOSED: &str = "metadata: {name: we.b, namespace: shop}\nspec: {host: '', port: {targetPort: 8080}, to: {kind: '', name: web, weight: null}}\nstatus: {ingress: null}";

    #[test]
    fn what_is_left_out_is_filled_and_a_host_is_made() {
        expect![[r#"
            metadata:
              annotations:
                openshift.io/host.generated: 'true'
              name: we.b
              namespace: shop
            spec:
              host: we-b-shop.apps.localhost
              port:
                targetPort: 8080
              to:
                kind: Service
                name: web
                weight: 100
              wildcardPolicy: None
            status: {}
        "#]]
        .assert_eq(&created_yaml(&ROUTES, EXPOSED));
        let edge = created_yaml(&ROUTES, "spec: {host: a.b, tls: {termination: ''}, to: {name: web}}");
        assert!(edge.contains("termination: edge"), "{edge}");
        let shouted = created_yaml(&ROUTES, "spec: {host: a.b, tls: {termination: Reencrypt}, to: {name: web}}");
        assert!(shouted.contains("termination: reencrypt"), "{shouted}");
        assert!(!created_yaml(&ROUTES, "spec: {subdomain: a, to: {name: web}}").contains("host"));
    }

    #[test]
    fn what_is_wrong_is_named() {
        assert_eq!(causes(&ROUTES, EXPOSED), "");
        let wrong = "spec: {host: a_b, path: 'x #', wildcardPolicy: All, to: {kind: Pod, name: '', weight: 257}, alternateBackends: [{name: a}, {name: b}, {name: c}, {name: d}], port: {targetPort: 0}, tls: {termination: edge, destinationCACertificate: x, insecureEdgeTerminationPolicy: Maybe}}";
        expect![[r#"
            spec.host: Invalid value: "a_b": host must conform to DNS 952 subdomain conventions
            spec.host: Invalid value: "a_b": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')
            spec.wildcardPolicy: Unsupported value: "All": supported values: "None", "Subdomain"
            spec.path: Invalid value: "x #": path must begin with /
            spec.path: Invalid value: "x #": cannot contain # or spaces
            spec.to.name: Required value
            spec.to.kind: Invalid value: "Pod": must reference a Service
            spec.to.weight: Invalid value: 257: weight must be an integer between 0 and 256
            spec.alternateBackends: Required value: cannot specify more than 3 alternate backends
            spec.port.targetPort: Required value
            spec.tls.destinationCACertificate: Invalid value: "redacted destination ca certificate data": edge termination does not support destination certificates
            spec.tls.insecureEdgeTerminationPolicy: Invalid value: "Maybe": invalid value for InsecureEdgeTerminationPolicy option, acceptable values are None, Allow, Redirect, or empty
        "#]]
        .assert_eq(&causes(&ROUTES, wrong));
        let passed = "spec: {wildcardPolicy: Subdomain, to: {name: web}, path: /a, tls: {termination: passthrough, key: x, insecureEdgeTerminationPolicy: Allow}}";
        expect![[r#"
            spec.wildcardPolicy: Invalid value: "Subdomain": host name not specified for wildcard policy
            spec.path: Invalid value: "/a": passthrough termination does not support paths
            spec.tls.key: Invalid value: "redacted key data": passthrough termination does not support certificates
            spec.tls.insecureEdgeTerminationPolicy: Invalid value: "Allow": invalid value for InsecureEdgeTerminationPolicy option, acceptable values are None, Redirect, or empty
        "#]]
        .assert_eq(&causes(&ROUTES, passed));
    }

    #[test]
    fn changes_of_headers_are_checked() {
        let of = |name: &str, action: &str| {
            let yaml = format!(
                "spec: {{host: a.b, to: {{name: web}}, httpHeaders: {{actions: {{request: [{{name: '{name}', action: {action}}}]}}}}}}"
            );
            causes(&ROUTES, &yaml)
        };
        assert_eq!(of("X-A", "{type: Set, set: {value: 'a%[req.hdr(Host)]'}}"), "");
        assert_eq!(of("X-A", "{type: Delete}"), "");
        expect![[r#"
            spec.httpHeaders.actions.request[0].name: Forbidden: the following headers may not be modified using this API: strict-transport-security, proxy, cookie, set-cookie
            spec.httpHeaders.actions.request[0].action.set: Required value: set is required when type is Set, and forbidden otherwise
        "#]]
        .assert_eq(&of("Cookie", "{type: Set}"));
        expect![[r#"
            spec.httpHeaders.actions.request[0].action.set.value: Invalid value: "1%": a % begins %[…] or is written %%
        "#]]
        .assert_eq(&of("X-A", "{type: Set, set: {value: '1%'}}"));
    }

    #[test]
    fn an_update_without_host_keeps_it_and_the_wildcard_policy_stays() {
        let old = "spec: {host: a.b, wildcardPolicy: None, to: {name: web}}";
        assert_eq!(update_causes(&ROUTES, old, "spec: {host: c.d, to: {name: web}}"), "");
        let changed = "spec: {host: a.b, wildcardPolicy: Subdomain, to: {name: web}}";
        expect![[r#"
            spec.wildcardPolicy: Invalid value: "Subdomain": field is immutable
        "#]]
        .assert_eq(&update_causes(&ROUTES, old, changed));
        let (mut new, old) = (
            Untyped::default(),
            Untyped { rest: json!({ "spec": { "host": "a.b" } }).as_object().cloned().unwrap(), ..Untyped::default() },
        );
        keep_host(&mut new, &old);
        assert_eq!(text_at(&new.rest, "spec.host"), "a.b");
    }

    #[test]
    fn what_has_no_effect_is_told() {
        let mut route = Untyped::default();
        let odd = "haproxy.router.openshift.io/pod-concurrent-connections".to_owned();
        route.metadata.annotations = Some([(odd, "1".to_owned())].into());
        route.rest = json!({ "spec": { "host": "a.b", "subdomain": "c" } }).as_object().cloned().unwrap();
        assert_eq!(
            warnings(&route),
            [
                "metadata.annotations[haproxy.router.openshift.io/pod-concurrent-connections]: skiff's router has no such option: it has no effect",
                "spec.host is set; spec.subdomain may be ignored",
            ]
        );
    }

    #[test]
    fn a_row_reads_as_in_openshift() {
        let of = |spec: &str, status: &str| {
            let yaml = format!(
                "metadata: {{name: web}}\nspec: {{host: a.b, wildcardPolicy: None, {spec}}}\nstatus: {{{status}}}"
            );
            row(&ROUTES, &yaml)
        };
        let to = "to: {kind: Service, name: web, weight: 100}";
        assert_eq!(of(to, ""), "web | a.b |  | web | <all> |  | None");
        let two = "to: {kind: Service, name: a, weight: 2}, alternateBackends: [{kind: Service, name: b, weight: 1}], path: /x, port: {targetPort: http}, tls: {termination: edge, insecureEdgeTerminationPolicy: Redirect}";
        assert_eq!(of(two, ""), "web | a.b | /x | a(66%),b(33%) | http | edge/Redirect | None");
        let said = |status: &str, reason: &str| {
            format!("ingress: [{{host: a.b, conditions: [{{type: Admitted, status: '{status}', reason: {reason}}}]}}]")
        };
        assert!(of(to, &said("True", "''")).starts_with("web | a.b |"));
        assert!(of(to, &said("False", "HostAlreadyClaimed")).starts_with("web | HostAlreadyClaimed |"));
        assert!(of(to, "ingress: [{host: a.b}]").starts_with("web | Pending |"));
    }
}
