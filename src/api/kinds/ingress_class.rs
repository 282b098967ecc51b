//! `IngressClass`, networking.k8s.io/v1.
//!
//! **Source**: `pkg/apis/networking/validation/validation.go`, v1.37.

use super::json::{self, Errors};
use crate::api::{
    agreements::INGRESS_CONTROLLER,
    field::FieldError,
    json_kind::{JsonKind, Rules, at, default_at, text_at},
    kind::{KindInfo, Scope},
    names,
    object::Untyped,
    table::{self, Column, NONE},
};
use jiff::Timestamp;
use serde_json::{Value, json};

/// The annotation of the class that Ingresses without one get.
pub const DEFAULT_ANNOTATION: &str = "ingressclass.kubernetes.io/is-default-class";
const CONTROLLER_LENGTH_MAX: usize = 250;

/// The kind `IngressClass`.
pub static INGRESS_CLASSES: JsonKind = JsonKind::new(
    KindInfo {
        columns: &[
            Column::name(),
            Column::text("Controller", "What serves Ingresses of the class."),
            Column::text("Parameters", "What configures the controller."),
            Column::age(),
        ],
        ..KindInfo::of(
            ("networking.k8s.io", "v1", "IngressClass"),
            ("ingressclasses", "ingressclass"),
            Scope::Cluster,
            "io.k8s.api.networking.v1.IngressClass",
        )
    },
    Rules { set_defaults, validate, validate_update, row, warnings, has_generation: true, ..Rules::PLAIN },
);

fn set_defaults(obj: &mut Untyped) {
    if json::has(&obj.rest, "spec.parameters") {
        default_at(&mut obj.rest, "spec.parameters.scope", "Cluster");
    }
}

fn validate(obj: &Untyped) -> Errors {
    let mut errs = Errors::new();
    let controller = text_at(&obj.rest, "spec.controller");
    if controller.len() > CONTROLLER_LENGTH_MAX {
        errs.push(FieldError::too_long("spec.controller", CONTROLLER_LENGTH_MAX));
    }
    // A path with a domain before it.
    match controller.split_once('/') {
        None => errs.push(FieldError::invalid(
            "spec.controller",
            &controller,
            "must be a domain-prefixed path (such as \"acme.io/foo\")",
        )),
        Some((domain, _)) => errs.extend(
            names::dns1123_subdomain(domain).into_iter().map(|why| FieldError::invalid("spec.controller", domain, why)),
        ),
    }
    if json::has(&obj.rest, "spec.parameters") {
        for field in ["spec.parameters.kind", "spec.parameters.name"] {
            json::required(&mut errs, &obj.rest, field);
        }
        json::one_of(&mut errs, &obj.rest, "spec.parameters.scope", &["Cluster", "Namespace"]);
        if text_at(&obj.rest, "spec.parameters.scope") == "Namespace"
            && !json::has(&obj.rest, "spec.parameters.namespace")
        {
            let why = "`parameters.scope` is set to 'Namespace'";
            errs.push(FieldError::required("spec.parameters.namespace", why));
        }
    }
    errs
}

fn warnings(obj: &Untyped) -> Vec<String> {
    let controller = text_at(&obj.rest, "spec.controller");
    if controller != INGRESS_CONTROLLER {
        return vec![format!(
            "skiff serves Ingresses of the controller {INGRESS_CONTROLLER}: those of this class are served once something of yours does"
        )];
    }
    if json::has(&obj.rest, "spec.parameters") {
        return vec!["skiff's router has no parameters: spec.parameters have no effect".to_owned()];
    }
    Vec::new()
}

fn validate_update(new: &Untyped, old: &Untyped) -> Errors {
    json::immutable(&new.rest, &old.rest, "spec.controller", "field is immutable")
}

/// Whether Ingresses without a class get this one.
pub fn is_default(obj: &Untyped) -> bool {
    obj.metadata.annotations.as_ref().and_then(|a| a.get(DEFAULT_ANNOTATION)).is_some_and(|value| value == "true")
}

fn row(obj: &Untyped, now: Timestamp) -> Vec<Value> {
    let text = |path| text_at(&obj.rest, path);
    let parameters = match (at(&obj.rest, "spec.parameters"), text("spec.parameters.apiGroup")) {
        (None, _) => NONE.to_owned(),
        (Some(_), group) if group.is_empty() => {
            format!("{}/{}", text("spec.parameters.kind"), text("spec.parameters.name"))
        }
        (Some(_), group) => format!("{}.{group}/{}", text("spec.parameters.kind"), text("spec.parameters.name")),
    };
    vec![table::name(&obj.metadata), json!(text("spec.controller")), json!(parameters), table::age(&obj.metadata, now)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::kinds::testing::json::{causes, row};
    use expect_test::expect;

    #[test]
    fn what_is_wrong_is_named() {
        expect![[r#"
            spec.controller: Invalid value: "nginx": must be a domain-prefixed path (such as "acme.io/foo")
            spec.parameters.kind: Required value
            spec.parameters.name: Required value
            spec.parameters.namespace: Required value: `parameters.scope` is set to 'Namespace'
        "#]]
        .assert_eq(&causes(&INGRESS_CLASSES, "spec: {controller: nginx, parameters: {scope: Namespace}}"));
        assert_eq!(causes(&INGRESS_CLASSES, "spec: {controller: k8s.io/ingress-nginx}"), "");
    }

    #[test]
    fn a_row_reads_as_in_kubernetes() {
        let class = "metadata: {name: a}\nspec: {controller: a.b/c, parameters: {apiGroup: x.y, kind: K, name: p}}";
        assert_eq!(row(&INGRESS_CLASSES, class), "a | a.b/c | K.x.y/p | <unknown>");
    }
}
