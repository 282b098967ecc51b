//! `Project` and `ProjectRequest`, project.openshift.io/v1: a namespace as OpenShift's clients see it, and the wish for one.
//!
//! **Not here**: how a wish is granted, and how a project goes (`server/verbs/projects`).
//! **Source**: github.com/openshift/openshift-apiserver, `pkg/project/apiserver/registry`, release 4.20.

use crate::api::{
    field::FieldError,
    json_kind::{JsonKind, Rules, View, at, set_at, text_at},
    kind::{KindInfo, Scope},
    names,
    object::Untyped,
    selector::Fields,
    table::{self, Column},
};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The group and version.
pub const API_VERSION: &str = "project.openshift.io/v1";
/// Annotations of a project: what it is called, what it is for, and who wished for it.
pub const DISPLAY_NAME: &str = "openshift.io/display-name";
/// See [`DISPLAY_NAME`].
pub const DESCRIPTION: &str = "openshift.io/description";
/// See [`DISPLAY_NAME`].
pub const REQUESTER: &str = "openshift.io/requester";

/// The kind `Project`. It is made by a `ProjectRequest`, or as a namespace.
pub static PROJECTS: JsonKind = JsonKind::new(
    KindInfo {
        verbs: &["delete", "get", "list", "patch", "update", "watch"],
        columns: &[
            Column::name(),
            Column::text("Display Name", "What it is called for people."),
            Column::text("Status", "Whether it is active or going away."),
        ],
        stored_as: Some(("", "namespaces")),
        ..KindInfo::of(
            ("project.openshift.io", "v1", "Project"),
            ("projects", "project"),
            Scope::Cluster,
            "com.github.openshift.api.project.v1.Project",
        )
    },
    Rules {
        prepare_update: keep_all_but_metadata,
        validate_update: only_its_description_changes,
        row,
        selectable: &["status.phase"],
        validate_name: names::dns1123_label,
        view: Some(View {
            to_stored: |json| called(json, "v1", "Namespace"),
            from_stored: |json| called(json, API_VERSION, "Project"),
            fields: |obj| {
                let name = obj.metadata.name.clone().unwrap_or_default();
                Fields::from([("name", name), ("status.phase", text_at(&obj.rest, "status.phase"))])
            },
        }),
        ..Rules::PLAIN
    },
);

/// The kind `ProjectRequest`.
pub static PROJECT_REQUESTS: JsonKind = JsonKind::new(
    KindInfo {
        verbs: &["create", "list"],
        ..KindInfo::of(
            ("project.openshift.io", "v1", "ProjectRequest"),
            ("projectrequests", "projectrequest"),
            Scope::Cluster,
            "com.github.openshift.api.project.v1.ProjectRequest",
        )
    },
    Rules::PLAIN,
);

fn called(mut json: Value, api_version: &str, kind: &str) -> Value {
    json["apiVersion"] = json!(api_version);
    json["kind"] = json!(kind);
    json
}

fn keep_all_but_metadata(new: &mut Untyped, old: &Untyped) {
    for part in ["spec", "status"] {
        match at(&old.rest, part) {
            Some(value) => set_at(&mut new.rest, part, value.clone()),
            None => drop(new.rest.remove(part)),
        }
    }
}

/// What else of its metadata says what may be done in it is for those who may write the namespace.
/// **Source**: `ValidateProjectUpdate` in `pkg/project/apis/project/validation/validation.go`.
fn only_its_description_changes(new: &Untyped, old: &Untyped) -> Vec<FieldError> {
    let annotations = changed(new.metadata.annotations.as_ref(), old.metadata.annotations.as_ref());
    let annotations = annotations.into_iter().filter(|(key, _)| ![DISPLAY_NAME, DESCRIPTION].contains(key));
    let labels = changed(new.metadata.labels.as_ref(), old.metadata.labels.as_ref());
    let of = |part: &'static str| {
        move |(key, value): (&str, &str)| {
            let why = "field is immutable, try updating the namespace";
            FieldError::invalid(format!("metadata.{part}[{key}]"), value, why)
        }
    };
    annotations.map(of("annotations")).chain(labels.into_iter().map(of("labels"))).collect()
}

/// Keys that are new or gone or have another value, each with a value of it.
fn changed<'a>(
    new: Option<&'a BTreeMap<String, String>>,
    old: Option<&'a BTreeMap<String, String>>,
) -> Vec<(&'a str, &'a str)> {
    let of = |all: Option<&'a BTreeMap<String, String>>| all.into_iter().flatten();
    let has = |all: Option<&BTreeMap<String, String>>, key: &str| all.is_some_and(|all| all.contains_key(key));
    let is_other = |key: &str, value: &str| old.and_then(|old| old.get(key)).is_none_or(|was| was != value);
    let set = of(new).filter(|(key, value)| is_other(key, value));
    let gone = of(old).filter(|(key, _)| !has(new, key));
    set.chain(gone).map(|(key, value)| (&**key, &**value)).collect()
}

fn row(obj: &Untyped, _now: Timestamp) -> Vec<Value> {
    let display = obj.metadata.annotations.as_ref().and_then(|all| all.get(DISPLAY_NAME));
    vec![
        table::name(&obj.metadata),
        json!(display.map_or("", String::as_str)),
        json!(text_at(&obj.rest, "status.phase")),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{kind::ErasedKind as _, kinds::testing::json::row};

    #[test]
    fn a_project_is_a_namespace_under_another_name() {
        let namespace = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "shop" } });
        let project = called(namespace.clone(), API_VERSION, "Project");
        assert_eq!((&project["kind"], &project["metadata"]["name"]), (&json!("Project"), &json!("shop")));
        assert_eq!(called(project, "v1", "Namespace"), namespace);
        let yaml =
            "metadata: {name: shop, annotations: {openshift.io/display-name: The shop}}\nstatus: {phase: Active}\n";
        assert_eq!(row(&PROJECTS, yaml), "shop | The shop | Active");
    }

    #[test]
    fn whoever_writes_a_project_says_no_more_than_what_it_is_called() {
        let with = |labels: Value, annotations: Value| {
            let metadata = json!({ "name": "shop", "labels": labels, "annotations": annotations });
            let project = PROJECTS.decode(json!({ "metadata": metadata })).unwrap();
            project.as_any().downcast_ref::<Untyped>().unwrap().clone()
        };
        let old = with(json!({ "team": "one" }), json!({ DISPLAY_NAME: "a", REQUESTER: "jane" }));
        let check = |labels: Value, annotations: Value| {
            let wrong = only_its_description_changes(&with(labels, annotations), &old);
            wrong.into_iter().map(|err| err.path).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(check(json!({ "team": "one" }), json!({ DESCRIPTION: "b", REQUESTER: "jane" })), "");
        assert_eq!(
            check(json!({ "team": "two", "more": "x" }), json!({ "other": "y" })),
            "metadata.annotations[other] metadata.annotations[openshift.io/requester] metadata.labels[more] metadata.labels[team]"
        );
        assert_eq!(check(json!({}), json!({ REQUESTER: "jane" })), "metadata.labels[team]");
    }
}
