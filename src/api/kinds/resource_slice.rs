//! `ResourceSlice`, resource.k8s.io/v1: the devices that a driver has to offer. Nothing allocates them.
//!
//! **Source**: `pkg/apis/resource/validation/validation.go`, `printResourceSlice` in `pkg/printers/internalversion/printers.go`, v1.37.

use super::{
    device_rules::{self as rules, Fields},
    json::{self, Errors},
    pod_spec::scheduling,
};
use crate::api::{
    field::FieldError,
    json_kind::{JsonKind, Rules, at, text_at},
    kind::{KindInfo, Scope},
    object::Untyped,
    table::{self, Column},
};
use crate::base::json::typed;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::NodeSelector;
use serde_json::{Value, json};

const DEVICES_MAX: usize = 128;
const DEVICES_MAX_ADVANCED: usize = 64;
const PROPERTIES_MAX: usize = 32;
const COUNTER_SETS_MAX: usize = 8;
const TAINTS_MAX: usize = 16;
const WHERE: &str = "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required";
const WHERE_OF_DEVICE: &str = "exactly one of `nodeName`, `nodeSelector`, or `allNodes` is required when `perDeviceNodeSelection` is set to true in the ResourceSlice spec";

/// The kind `ResourceSlice`.
pub static RESOURCE_SLICES: JsonKind = JsonKind::new(
    KindInfo {
        columns: &[
            Column::name(),
            Column::text("Node", "The node whose devices they are."),
            Column::text("Driver", "The driver of its devices."),
            Column::text("Pool", "The pool of its devices."),
            Column::age(),
        ],
        ..KindInfo::of(
            (rules::GROUP, "v1", "ResourceSlice"),
            ("resourceslices", "resourceslice"),
            Scope::Cluster,
            "io.k8s.api.resource.v1.ResourceSlice",
        )
    },
    Rules {
        validate,
        validate_update,
        warnings: |_| rules::warnings(),
        row,
        has_generation: true,
        selectable: &["spec.driver", "spec.nodeName"],
        ..Rules::PLAIN
    },
);

fn validate(obj: &Untyped) -> Errors {
    let mut errs = Errors::new();
    let Some(Value::Object(spec)) = obj.rest.get("spec") else {
        return vec![FieldError::required("spec", "")];
    };
    json::within(&mut errs, "spec", |errs| {
        rules::driver(errs, "driver", &text_at(spec, "driver"));
        check_pool(errs, spec);
    });
    let given = ["nodeName", "nodeSelector", "allNodes", "perDeviceNodeSelection"];
    check_place(&mut errs, spec, "spec", &given, WHERE);
    if json::has(spec, "devices") && json::has(spec, "sharedCounters") {
        errs.push(FieldError::invalid("spec", "", "only one of `sharedCounters` or `devices` is allowed"));
    }
    json::within(&mut errs, "spec", |errs| check_contents(errs, spec));
    errs
}

fn check_pool(errs: &mut Errors, spec: &Fields) {
    rules::pool(errs, "pool.name", &text_at(spec, "pool.name"));
    let number = |field: &str| at(spec, field).and_then(Value::as_i64).unwrap_or(0);
    let (slices, generation) = (number("pool.resourceSliceCount"), number("pool.generation"));
    if slices <= 0 {
        errs.push(FieldError::invalid("pool.resourceSliceCount", slices, "must be greater than zero"));
    }
    if generation < 0 {
        errs.push(FieldError::invalid("pool.generation", generation, "must be greater than or equal to zero"));
    }
}

/// On which nodes the devices are: said in one way of several.
fn check_place(errs: &mut Errors, fields: &Fields, path: &str, ways: &[&str], why: &str) {
    let mut said = Vec::new();
    for way in ways {
        let path = format!("{path}.{way}");
        match fields.get(*way) {
            None | Some(Value::Null) => continue,
            Some(Value::Bool(false)) => {
                errs.push(FieldError::invalid(path, false, "must be either unset or set to true"));
                continue;
            }
            Some(Value::String(name)) if name.is_empty() => {
                errs.push(FieldError::invalid(path, "", "must be either unset or set to a non-empty string"));
                continue;
            }
            Some(Value::String(name)) => json::subdomain(errs, &path, name),
            Some(selector @ Value::Object(_)) => check_selector(errs, selector, &path),
            Some(_) => {}
        }
        said.push(format!("`{way}`"));
    }
    if said.is_empty() {
        errs.push(FieldError::required(path, why));
    } else if said.len() > 1 {
        let value = format!("{{{}}}", said.join(", "));
        let why = if path == "spec" { format!("{why}, but multiple fields are set") } else { why.to_owned() };
        errs.push(FieldError::invalid(path, value, why));
    }
}

fn check_selector(errs: &mut Errors, selector: &Value, path: &str) {
    let Ok(selector) = typed::<NodeSelector>(selector.clone()) else { return };
    scheduling::node_selector(errs, &selector, path);
    if path == "spec.nodeSelector" && selector.node_selector_terms.len() != 1 {
        let terms = &selector.node_selector_terms;
        let why = "must have exactly one node selector term";
        errs.push(FieldError::invalid(format!("{path}.nodeSelectorTerms"), terms, why));
    }
}

fn check_contents(errs: &mut Errors, spec: &Fields) {
    let is_advanced = |device: &Fields| {
        let has = |field: &str| !json::items(device, field).is_empty();
        has("taints") || has("consumesCounters") || values(device, "attributes").any(has_list)
    };
    let any_advanced = json::objects(spec, "devices").any(is_advanced);
    let max = if any_advanced { DEVICES_MAX_ADVANCED } else { DEVICES_MAX };
    let per_device = json::is_true(spec, "perDeviceNodeSelection");
    rules::items(errs, spec, "devices", max, |errs, device, path| check_device(errs, device, path, per_device));
    rules::unique(errs, "devices", rules::keys(spec, "devices", "name"));
    rules::items(errs, spec, "sharedCounters", COUNTER_SETS_MAX, |errs, set, path| {
        check_counters(errs, set, path, "name");
    });
    rules::unique(errs, "sharedCounters", rules::keys(spec, "sharedCounters", "name"));
}

fn values<'a>(fields: &'a Fields, path: &str) -> impl Iterator<Item = &'a Fields> + use<'a> {
    at(fields, path).and_then(Value::as_object).into_iter().flatten().filter_map(|(_, value)| value.as_object())
}

fn has_list(attribute: &Fields) -> bool {
    ["bools", "ints", "strings", "versions"].iter().any(|field| attribute.contains_key(*field))
}

fn check_device(errs: &mut Errors, device: &Fields, path: &str, per_device: bool) {
    rules::label(errs, &format!("{path}.name"), &text_at(device, "name"));
    let n = values(device, "attributes").count() + values(device, "capacity").count();
    if n > PROPERTIES_MAX {
        let why = format!("the total number of attributes and capacities must not exceed {PROPERTIES_MAX}");
        errs.push(FieldError::invalid(path, n, why));
    }
    for (name, attribute) in at(device, "attributes").and_then(Value::as_object).into_iter().flatten() {
        if attribute.as_object().is_none_or(|fields| fields.len() != 1) {
            let (path, value) = (format!("{path}.attributes[{name}]"), attribute);
            errs.push(FieldError::invalid(path, value, "exactly one value must be specified"));
        }
    }
    json::within(errs, path, |errs| {
        rules::items(errs, device, "taints", TAINTS_MAX, rules::taint);
        rules::items(errs, device, "consumesCounters", 2, |errs, used, path| {
            check_counters(errs, used, path, "counterSet");
        });
        rules::unique(errs, "consumesCounters", rules::keys(device, "consumesCounters", "counterSet"));
    });
    let ways = ["nodeName", "nodeSelector", "allNodes"];
    if per_device {
        check_place(errs, device, path, &ways, WHERE_OF_DEVICE);
    } else if ways.iter().any(|way| json::has(device, way)) {
        let why = "`nodeName`, `nodeSelector` and `allNodes` can only be set if `perDeviceNodeSelection` is set to true in the ResourceSlice spec";
        errs.push(FieldError::invalid(path, Value::Null, why));
    }
}

fn check_counters(errs: &mut Errors, set: &Fields, path: &str, name: &str) {
    let (at_name, at_counters) = (format!("{path}.{name}"), format!("{path}.counters"));
    match &*text_at(set, name) {
        "" => errs.push(FieldError::required(at_name, "")),
        name => rules::label(errs, &at_name, name),
    }
    match at(set, "counters").and_then(Value::as_object) {
        Some(counters) if counters.len() > PROPERTIES_MAX => {
            errs.push(FieldError::too_many(at_counters, counters.len(), PROPERTIES_MAX));
        }
        Some(counters) if !counters.is_empty() => {
            counters.keys().for_each(|name| rules::label(errs, &at_counters, name));
        }
        _ => errs.push(FieldError::required(at_counters, "")),
    }
}

fn validate_update(new: &Untyped, old: &Untyped) -> Errors {
    let fields = ["spec.pool.name", "spec.driver", "spec.nodeName"].into_iter();
    fields.flat_map(|field| json::immutable(&new.rest, &old.rest, field, "field is immutable")).collect()
}

fn row(obj: &Untyped, now: Timestamp) -> Vec<Value> {
    let unset = |path: &str| match text_at(&obj.rest, path) {
        text if text.is_empty() => json!("<unset>"),
        text => json!(text),
    };
    let text = |path: &str| json!(text_at(&obj.rest, path));
    vec![
        table::name(&obj.metadata),
        unset("spec.nodeName"),
        text("spec.driver"),
        text("spec.pool.name"),
        table::age(&obj.metadata, now),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::kinds::testing::json::{causes, row};
    use expect_test::expect;

    #[test]
    fn what_is_wrong_is_named_and_a_row_reads_as_in_kubernetes() {
        let of = |yaml: &str| causes(&RESOURCE_SLICES, yaml);
        let wrong = "
            spec:
              driver: ''
              pool: {name: a//b, generation: -1}
              nodeName: one
              allNodes: true
              devices:
              - {name: A, nodeName: x, attributes: {a: {int: 1, bool: true}}, taints: [{key: k, effect: Some}]}
              - {name: b, consumesCounters: [{counterSet: c}]}
              - {name: b}
              sharedCounters: [{name: c}]";
        expect![[r#"
            spec.driver: Required value
            spec.pool.name: Invalid value: "": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
            spec.pool.resourceSliceCount: Invalid value: 0: must be greater than zero
            spec.pool.generation: Invalid value: -1: must be greater than or equal to zero
            spec: Invalid value: "{`nodeName`, `allNodes`}": exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required, but multiple fields are set
            spec: Invalid value: "": only one of `sharedCounters` or `devices` is allowed
            spec.devices[0].name: Invalid value: "A": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')
            spec.devices[0].attributes[a]: Invalid value: {"bool":true,"int":1}: exactly one value must be specified
            spec.devices[0].taints[0].effect: Unsupported value: "Some": supported values: "NoExecute", "NoSchedule", "None"
            spec.devices[0]: Invalid value: null: `nodeName`, `nodeSelector` and `allNodes` can only be set if `perDeviceNodeSelection` is set to true in the ResourceSlice spec
            spec.devices[1].consumesCounters[0].counters: Required value
            spec.devices[2]: Duplicate value: "b"
            spec.sharedCounters[0].counters: Required value
        "#]].assert_eq(&of(wrong));
        let nowhere = "spec: {driver: a.b, pool: {name: p, resourceSliceCount: 1}, perDeviceNodeSelection: true, devices: [{name: a}]}";
        expect![[r#"
            spec.devices[0]: Required value: exactly one of `nodeName`, `nodeSelector`, or `allNodes` is required when `perDeviceNodeSelection` is set to true in the ResourceSlice spec
        "#]].assert_eq(&of(nowhere));
        let good = "
            metadata: {name: s}
            spec: {driver: a.b, pool: {name: p, resourceSliceCount: 1}, nodeName: one, devices: [{name: a, attributes: {m: {string: x}}}]}";
        assert_eq!(of(good), "");
        assert_eq!(row(&RESOURCE_SLICES, good), "s | one | a.b | p | <unknown>");
    }
}
