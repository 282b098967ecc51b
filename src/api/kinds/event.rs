//! `Event`, core/v1: something that happened to an object. Events of `events.k8s.io/v1` are the same objects; see `event_v1`.
//!
//! **Source**: `pkg/apis/core/validation/events.go`, `pkg/registry/core/event/strategy.go`, v1.37.

use super::{
    check::{self, Errors},
    part, text,
};
use crate::api::{
    field::FieldError,
    kind::{ALL_VERBS, Kind, KindInfo, Scope},
    names,
    selector::Fields,
    table::{self, Column},
};
use jiff::Timestamp;
use k8s_openapi::{api::core::v1::Event, apimachinery::pkg::apis::meta::v1::MicroTime};
use serde_json::{Value, json};

const TEXT_MAX: usize = 128;
const MESSAGE_MAX: usize = 1024;

/// The columns of both kinds of events.
pub(super) const COLUMNS: &[Column<'_>] = &[
    Column::text("Last Seen", "How long ago it happened last."),
    Column::text("Type", "Normal or Warning."),
    Column::text("Reason", "Why it happened, in one word."),
    Column::text("Object", "What it happened to."),
    Column::text("Subobject", "Which part of the object it happened to.").wide(),
    Column::text("Source", "Who says so.").wide(),
    Column::text("Message", "What happened."),
    Column::text("First Seen", "How long ago it happened first.").wide(),
    Column::text("Count", "How often it happened.").wide(),
    Column::name().wide(),
];

/// The kind `Event`.
#[derive(Debug)]
pub struct Events;

impl Kind for Events {
    type Object = Event;
    const INFO: KindInfo<'static> = KindInfo {
        group: "",
        version: "v1",
        kind: "Event",
        plural: "events",
        singular: "event",
        short_names: &["ev"],
        categories: &[],
        scope: Scope::Namespaced,
        verbs: ALL_VERBS,
        subresources: &[],
        columns: COLUMNS,
        stored_as: None,
        schema: "io.k8s.api.core.v1.Event",
    };

    fn validate(obj: &Event) -> Errors {
        let mut errs = Errors::new();
        if obj.event_time.is_none() {
            validate_namespace(&mut errs, obj);
        } else {
            validate_new_style(&mut errs, obj);
        }
        errs
    }

    fn field_labels() -> &'static [(&'static str, &'static str)] {
        &[
            ("involvedObject.apiVersion", "involvedObject.apiVersion"),
            ("involvedObject.fieldPath", "involvedObject.fieldPath"),
            ("involvedObject.kind", "involvedObject.kind"),
            ("involvedObject.name", "involvedObject.name"),
            ("involvedObject.namespace", "involvedObject.namespace"),
            ("involvedObject.resourceVersion", "involvedObject.resourceVersion"),
            ("involvedObject.uid", "involvedObject.uid"),
            ("reason", "reason"),
            ("reportingComponent", "reportingComponent"),
            ("source", "source"),
            ("type", "type"),
        ]
    }

    fn selectable_fields(obj: &Event) -> Fields<'static> {
        let object = &obj.involved_object;
        let reporting = text(&obj.reporting_component);
        let source = obj.source.as_ref().and_then(|s| s.component.clone()).filter(|c| !c.is_empty());
        Fields::from([
            ("involvedObject.apiVersion", text(&object.api_version)),
            ("involvedObject.fieldPath", text(&object.field_path)),
            ("involvedObject.kind", text(&object.kind)),
            ("involvedObject.name", text(&object.name)),
            ("involvedObject.namespace", text(&object.namespace)),
            ("involvedObject.resourceVersion", text(&object.resource_version)),
            ("involvedObject.uid", text(&object.uid)),
            ("reason", text(&obj.reason)),
            ("source", source.unwrap_or_else(|| reporting.clone())),
            ("reportingComponent", reporting),
            ("type", text(&obj.type_)),
        ])
    }

    fn creates_on_update() -> bool {
        true
    }

    fn row(obj: &Event, now: Timestamp) -> Vec<Value> {
        let micro = |t: &MicroTime| table::since(t.0, now);
        let first = match (&obj.first_timestamp, &obj.event_time) {
            (Some(time), _) => table::since(time.0, now),
            (None, time) => time.as_ref().map_or_else(|| table::UNKNOWN.to_owned(), micro),
        };
        let (last, count) = if let Some(series) = &obj.series {
            let last = series.last_observed_time.as_ref().map_or_else(|| table::UNKNOWN.to_owned(), micro);
            (last, series.count.unwrap_or(0))
        } else {
            let last = obj.last_timestamp.as_ref().map_or_else(|| first.clone(), |t| table::since(t.0, now));
            (last, obj.count.filter(|n| *n != 0).unwrap_or(1))
        };
        vec![
            json!(last),
            json!(obj.type_.as_deref().unwrap_or_default()),
            json!(obj.reason.as_deref().unwrap_or_default()),
            json!(target(obj)),
            json!(obj.involved_object.field_path.as_deref().unwrap_or_default()),
            json!(source(obj)),
            json!(obj.message.as_deref().unwrap_or_default().trim()),
            json!(first),
            json!(count),
            table::name(&obj.metadata),
        ]
    }
}

fn target(obj: &Event) -> String {
    let kind = obj.involved_object.kind.as_deref().unwrap_or_default().to_lowercase();
    match obj.involved_object.name.as_deref().filter(|n| !n.is_empty()) {
        Some(name) => format!("{kind}/{name}"),
        None => kind,
    }
}

/// Source: `formatEventSource` in `pkg/printers/internalversion/printers.go`.
fn source(obj: &Event) -> String {
    let given = |t: &Option<String>| t.clone().filter(|t| !t.is_empty());
    let source = part(&obj.source);
    let component = given(&source.component).or_else(|| given(&obj.reporting_component)).unwrap_or_default();
    match given(&source.host).or_else(|| given(&obj.reporting_instance)) {
        Some(instance) => format!("{component}, {instance}"),
        None => component,
    }
}

fn wrong_namespace(obj: &Event) -> FieldError {
    let given = obj.involved_object.namespace.as_deref().unwrap_or_default();
    FieldError::invalid("involvedObject.namespace", given, "does not match event.namespace")
}

fn validate_namespace(errs: &mut Errors, obj: &Event) {
    let own = obj.metadata.namespace.as_deref().unwrap_or_default();
    let is_right = match obj.involved_object.namespace.as_deref().unwrap_or_default() {
        "" => own.is_empty() || own == "default",
        object => object == own,
    };
    if !is_right {
        errs.push(wrong_namespace(obj));
    }
}

/// Events with an `eventTime` come from the newer API, which wants more.
fn validate_new_style(errs: &mut Errors, obj: &Event) {
    let own = obj.metadata.namespace.as_deref().unwrap_or_default();
    if obj.involved_object.namespace.as_deref().unwrap_or_default().is_empty()
        && own != "default"
        && own != "kube-system"
    {
        errs.push(wrong_namespace(obj));
    }
    let controller = obj.reporting_component.as_deref().unwrap_or_default();
    if controller.is_empty() {
        errs.push(FieldError::required("reportingController", ""));
    }
    check::each(errs, "reportingController", controller, names::qualified_name(controller));
    let texts = [("reportingInstance", &obj.reporting_instance), ("action", &obj.action), ("reason", &obj.reason)];
    for (field, text) in texts {
        match text.as_deref().unwrap_or_default().len() {
            0 => errs.push(FieldError::required(field, "")),
            n if n > TEXT_MAX => errs.push(too_long(field, TEXT_MAX)),
            _ => {}
        }
    }
    if obj.message.as_deref().unwrap_or_default().len() > MESSAGE_MAX {
        errs.push(too_long("message", MESSAGE_MAX));
    }
}

fn too_long(field: &str, max: usize) -> FieldError {
    FieldError::invalid(field, "", format!("can have at most {max} characters"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::kinds::testing::{causes, created, row};
    use expect_test::expect;

    #[test]
    fn an_event_is_where_its_object_is() {
        let event = |namespace: &str, of: &str| {
            causes::<Events>(&format!("metadata: {{namespace: '{namespace}'}}\ninvolvedObject: {{namespace: '{of}'}}"))
        };
        assert_eq!(event("team", "team"), "");
        assert_eq!(event("default", ""), "");
        expect![[r#"
            involvedObject.namespace: Invalid value: "other": does not match event.namespace
        "#]]
        .assert_eq(&event("team", "other"));
        expect![[r#"
            involvedObject.namespace: Invalid value: "": does not match event.namespace
        "#]]
        .assert_eq(&event("team", ""));
    }

    #[test]
    fn a_newer_event_says_more() {
        let event = "metadata: {namespace: team}\neventTime: '2026-03-01T11:59:00.000000Z'\n";
        expect![[r#"
            involvedObject.namespace: Invalid value: "": does not match event.namespace
            reportingController: Required value
            reportingController: Invalid value: "": name part must be non-empty
            reportingController: Invalid value: "": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')
            reportingInstance: Required value
            action: Required value
            reason: Required value
        "#]].assert_eq(&causes::<Events>(event));
        let long = format!(
            "{event}action: {a}\nreason: {a}\nreportingInstance: {a}\nmessage: {m}\nreportingComponent: a.b/c\ninvolvedObject: {{namespace: team}}",
            a = "a".repeat(129),
            m = "m".repeat(1025)
        );
        expect![[r#"
            reportingInstance: Invalid value: "": can have at most 128 characters
            action: Invalid value: "": can have at most 128 characters
            reason: Invalid value: "": can have at most 128 characters
            message: Invalid value: "": can have at most 1024 characters
        "#]]
        .assert_eq(&causes::<Events>(&long));
    }

    #[test]
    fn the_source_is_selectable_by_either_name() {
        let fields = |yaml: &str| Events::selectable_fields(&created::<Events>(yaml));
        assert_eq!(fields("source: {component: kubelet}")["source"], "kubelet");
        assert_eq!(fields("reportingComponent: kubelet")["source"], "kubelet");
    }

    #[test]
    fn rows_read_as_in_kubernetes() {
        let event = "
metadata: {name: web.1}
involvedObject: {kind: Pod, name: web, fieldPath: 'spec.containers{c}'}
type: Normal
reason: Started
message: ' started it '
source: {component: kubelet, host: skiff}
firstTimestamp: '2026-03-01T11:00:00Z'
lastTimestamp: '2026-03-01T11:59:30Z'
count: 3
";
        expect![
            "30s | Normal | Started | pod/web | spec.containers{c} | kubelet, skiff | started it | 60m | 3 | web.1"
        ]
        .assert_eq(&row::<Events>(event));
        let newer = "
metadata: {name: web.2}
involvedObject: {kind: Node}
reportingComponent: a.b/c
reportingInstance: c-1
eventTime: '2026-03-01T11:00:00.000000Z'
series: {count: 7, lastObservedTime: '2026-03-01T11:59:59.000000Z'}
";
        expect!["1s |  |  | node |  | a.b/c, c-1 |  | 60m | 7 | web.2"].assert_eq(&row::<Events>(newer));
        expect!["<unknown> |  |  |  |  |  |  | <unknown> | 1 | bare"]
            .assert_eq(&row::<Events>("metadata: {name: bare}"));
    }
}
