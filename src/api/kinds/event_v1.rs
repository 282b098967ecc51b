//! `Event`, events.k8s.io/v1: a view of the same objects as core/v1 events, with newer names for some fields.
//!
//! **Source**: `pkg/apis/events/v1/conversion.go`, `pkg/apis/core/validation/events.go`, v1.37.

use super::{
    check::{self, Errors},
    event::{self, Events},
    part,
};
use crate::api::{
    field::FieldError,
    kind::{ALL_VERBS, Kind, KindInfo, Scope},
    object::untyped,
    selector::Fields,
};
use crate::base::json::typed;
use jiff::Timestamp;
use k8s_openapi::api::{core::v1::Event as CoreEvent, events::v1::Event};
use serde_json::{Value, json};

/// The names of a field in this kind and in the stored kind, where they differ.
const RENAMED: &[(&str, &str)] = &[
    ("note", "message"),
    ("regarding", "involvedObject"),
    ("reportingController", "reportingComponent"),
    ("deprecatedSource", "source"),
    ("deprecatedFirstTimestamp", "firstTimestamp"),
    ("deprecatedLastTimestamp", "lastTimestamp"),
    ("deprecatedCount", "count"),
];

/// The kind `Event`.
#[derive(Debug)]
pub struct EventsV1;

impl Kind for EventsV1 {
    type Object = Event;
    const INFO: KindInfo<'static> = KindInfo {
        group: "events.k8s.io",
        version: "v1",
        kind: "Event",
        plural: "events",
        singular: "event",
        short_names: &["ev"],
        categories: &[],
        scope: Scope::Namespaced,
        verbs: ALL_VERBS,
        subresources: &[],
        columns: event::COLUMNS,
        stored_as: Some(("", "events")),
        schema: "io.k8s.api.events.v1.Event",
    };

    fn to_stored(json: Value) -> Value {
        rename(json, "v1", RENAMED.iter().copied())
    }

    fn from_stored(json: Value) -> Value {
        rename(json, "events.k8s.io/v1", RENAMED.iter().map(|(view, stored)| (*stored, *view)))
    }

    fn validate(obj: &Event) -> Errors {
        Events::validate(&core(obj))
    }

    fn validate_create(obj: &Event) -> Errors {
        let mut errs = Errors::new();
        validate_series(&mut errs, obj);
        if obj.event_time.is_none() {
            errs.push(FieldError::required("eventTime", ""));
        }
        let kind = obj.type_.as_deref().unwrap_or_default();
        if !matches!(kind, "Normal" | "Warning") {
            errs.push(FieldError::invalid("type", "", format!("has invalid value: {kind}")));
        }
        let source = part(&obj.deprecated_source);
        let given = [
            ("firstTimestamp", obj.deprecated_first_timestamp.is_some()),
            ("lastTimestamp", obj.deprecated_last_timestamp.is_some()),
            ("count", obj.deprecated_count.is_some_and(|n| n != 0)),
            ("source", source.component.is_some() || source.host.is_some()),
        ];
        for (field, _) in given.iter().filter(|(_, is_given)| *is_given) {
            errs.push(FieldError::invalid(*field, "", "needs to be unset"));
        }
        errs
    }

    fn validate_update(new: &Event, old: &Event) -> Errors {
        let mut errs = Errors::new();
        if new.series != old.series {
            validate_series(&mut errs, new);
        }
        let (new, old) = (stored(new), stored(old));
        for field in [
            "involvedObject",
            "reason",
            "message",
            "source",
            "firstTimestamp",
            "lastTimestamp",
            "count",
            "type",
            "eventTime",
            "action",
            "related",
            "reportingComponent",
            "reportingInstance",
        ] {
            check::immutable(&mut errs, field, &new[field], &old[field]);
        }
        errs
    }

    fn field_labels() -> &'static [(&'static str, &'static str)] {
        &[
            ("reason", "reason"),
            ("regarding.apiVersion", "involvedObject.apiVersion"),
            ("regarding.fieldPath", "involvedObject.fieldPath"),
            ("regarding.kind", "involvedObject.kind"),
            ("regarding.name", "involvedObject.name"),
            ("regarding.namespace", "involvedObject.namespace"),
            ("regarding.resourceVersion", "involvedObject.resourceVersion"),
            ("regarding.uid", "involvedObject.uid"),
            ("reportingController", "reportingComponent"),
            ("type", "type"),
        ]
    }

    /// Those of the stored kind, under its names: that is what is indexed.
    fn selectable_fields(obj: &Event) -> Fields<'static> {
        Events::selectable_fields(&core(obj))
    }

    fn creates_on_update() -> bool {
        true
    }

    fn row(obj: &Event, now: Timestamp) -> Vec<Value> {
        Events::row(&core(obj), now)
    }
}

fn rename<'a>(mut json: Value, api_version: &str, names: impl Iterator<Item = (&'a str, &'a str)>) -> Value {
    if let Some(object) = json.as_object_mut() {
        for (from, to) in names {
            if let Some(value) = object.remove(from) {
                object.insert(to.to_owned(), value);
            }
        }
        object.insert("apiVersion".to_owned(), json!(api_version));
    }
    json
}

fn stored(obj: &Event) -> Value {
    EventsV1::to_stored(untyped(obj))
}

/// The event as core/v1 has it.
fn core(obj: &Event) -> CoreEvent {
    typed(stored(obj)).expect("the two kinds of events have fields of the same types")
}

fn validate_series(errs: &mut Errors, obj: &Event) {
    if obj.series.as_ref().is_some_and(|s| s.count < 2) {
        errs.push(FieldError::invalid("series.count", "", "should be at least 2"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{
        kind::{Erased, ErasedKind as _, read_stored},
        kinds::testing::{causes, created, read, row},
    };
    use expect_test::expect;

    const EVENT: &str = "
apiVersion: events.k8s.io/v1
kind: Event
metadata: {name: web.1, namespace: team}
eventTime: '2026-03-01T11:59:00.000000Z'
reportingController: a.b/c
reportingInstance: c-1
action: Starting
reason: Started
type: Normal
note: it started
regarding: {kind: Pod, name: web, namespace: team}
";

    #[test]
    fn both_kinds_show_the_same_stored_event() {
        let event = read::<EventsV1>(EVENT);
        let stored = Erased::<EventsV1>::NEW.stored_bytes(&event);
        let core = read_stored::<Events>(&stored).unwrap();
        expect![[r#"
            apiVersion: v1
            kind: Event
            action: Starting
            eventTime: 2026-03-01T11:59:00.000000Z
            involvedObject:
              kind: Pod
              name: web
              namespace: team
            message: it started
            metadata:
              name: web.1
              namespace: team
            reason: Started
            reportingComponent: a.b/c
            reportingInstance: c-1
            type: Normal
        "#]]
        .assert_eq(&serde_yaml::to_string(&core).unwrap());
        assert_eq!(read_stored::<EventsV1>(&stored).unwrap(), event);
        assert_eq!(EventsV1::selectable_fields(&event), Events::selectable_fields(&core));
        assert_eq!(row::<EventsV1>(EVENT), row::<Events>(&serde_yaml::to_string(&core).unwrap()));
    }

    #[test]
    fn the_newer_kind_is_stricter() {
        assert_eq!(causes::<EventsV1>(EVENT), "");
        let wrong = "metadata: {namespace: team}\ntype: Odd\ndeprecatedCount: 2\nregarding: {namespace: team}\nseries: {count: 1, lastObservedTime: '2026-03-01T11:59:00.000000Z'}";
        expect![[r#"
            series.count: Invalid value: "": should be at least 2
            eventTime: Required value
            type: Invalid value: "": has invalid value: Odd
            count: Invalid value: "": needs to be unset
        "#]]
        .assert_eq(&causes::<EventsV1>(wrong));
        let (old, mut new) = (created::<EventsV1>(EVENT), created::<EventsV1>(EVENT));
        new.note = Some("another".into());
        expect![[r#"message: Invalid value: "another": field is immutable"#]]
            .assert_eq(&EventsV1::validate_update(&new, &old)[0].to_string());
    }
}
