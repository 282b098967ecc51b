//! One life of an object of every kind that is served: whoever adds a kind adds its test.

use super::*;
use crate::testing::samples::sample;

const TABLE: [(&str, &str); 1] = [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")];
const METADATA: [(&str, &str); 1] = [("accept", "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io")];

/// What a test must know of a kind.
pub(super) struct Row {
    pub(super) api_version: String,
    pub(super) group: String,
    pub(super) kind: String,
    pub(super) url: String,
    n_columns: usize,
    has_status: bool,
    is_going_later: bool,
}

impl Row {
    /// What the object of a test is called: some kinds name theirs after what they stand for.
    pub(super) fn name(&self) -> &'static str {
        if self.kind == "IPAddress" { "10.9.8.7" } else { "life" }
    }
}

pub(super) fn rows(registry: &Registry) -> Vec<Row> {
    let kinds = registry.kinds();
    let made = kinds.iter().filter(|k| ["create", "delete", "watch"].iter().all(|verb| k.info().verbs.contains(verb)));
    made.map(|kind| {
        let info = kind.info();
        let base = if info.group.is_empty() { "/api".to_owned() } else { format!("/apis/{}", info.group) };
        let namespace = if info.is_namespaced() { "/namespaces/default" } else { "" };
        Row {
            api_version: info.api_version(),
            group: info.group.to_owned(),
            kind: info.kind.to_owned(),
            url: format!("{base}/{}{namespace}/{}", info.version, info.plural),
            n_columns: info.columns.len(),
            has_status: info.has_status(),
            // Its finalizers are taken off by controllers.
            is_going_later: ["Namespace", "PersistentVolume", "PersistentVolumeClaim"].contains(&info.kind),
        }
    })
    .collect()
}

/// Creates, reads, patches in three ways, and deletes, with a watch open.
async fn live(desk: &Desk, row: &Row) {
    let (url, kind) = (&row.url, &row.kind);
    let mut object = sample(&row.group, kind);
    object["apiVersion"] = json!(row.api_version);
    object["kind"] = json!(kind);
    object["metadata"] = json!({ "name": row.name(), "labels": { "test": "life" } });
    let mut watch = desk.watch(&format!("{url}?watch=true&labelSelector=test%3Dlife"), &[]).await;

    let strict = format!("{url}?fieldValidation=Strict");
    let made = desk.ask("POST", &strict, &[], &object.to_string()).await;
    assert_eq!(made.code, 201, "{kind}: {}", made.text);
    assert_eq!((&made.json()["kind"], &made.json()["apiVersion"]), (&json!(kind), &json!(row.api_version)), "{kind}");
    let one = format!("{url}/{}", row.name());
    assert_eq!(desk.get(&one).await.json(), made.json(), "{kind}");
    let table = desk.ask("GET", url, &TABLE, "").await.json();
    let cells =
        table["rows"].as_array().unwrap().iter().find(|r| r["object"]["metadata"]["name"] == row.name()).unwrap();
    assert_eq!(cells["cells"].as_array().unwrap().len(), row.n_columns, "{kind}");
    let part = desk.ask("GET", &one, &METADATA, "").await.json();
    assert_eq!((&part["kind"], part.get("spec")), (&json!("PartialObjectMetadata"), None), "{kind}");

    for (i, (media, patch)) in [
        ("application/merge-patch+json", json!({ "metadata": { "labels": { "n": "0" } } })),
        ("application/strategic-merge-patch+json", json!({ "metadata": { "labels": { "n": "1" } } })),
        ("application/json-patch+json", json!([{ "op": "replace", "path": "/metadata/labels/n", "value": "2" }])),
    ]
    .into_iter()
    .enumerate()
    {
        let patched = desk.ask("PATCH", &one, &[("content-type", media)], &patch.to_string()).await;
        assert_eq!(patched.code, 200, "{kind}: {}", patched.text);
        assert_eq!(patched.json()["metadata"]["labels"]["n"], i.to_string(), "{kind}");
        assert_eq!(patched.json()["metadata"]["generation"], made.json()["metadata"]["generation"], "{kind}");
    }
    let again = desk.get(&one).await;
    let replaced = desk.ask("PUT", &one, &[], &again.text).await;
    assert_eq!(replaced.json(), again.json(), "{kind}: a replacement that changes nothing writes nothing");
    if row.has_status {
        assert_eq!(desk.get(&format!("{one}/status")).await.json(), again.json(), "{kind}");
    }
    assert!(matches!(desk.ask("DELETE", &one, &[], "").await.code, 200 | 202), "{kind}");
    let mut seen = Vec::new();
    while seen.last().is_none_or(|last: &String| last != "DELETED") && seen.len() < 5 {
        seen.push(watch.next().await.unwrap()["type"].as_str().unwrap().to_owned());
    }
    let last = if row.is_going_later { "MODIFIED" } else { "DELETED" };
    assert_eq!(seen, ["ADDED", "MODIFIED", "MODIFIED", "MODIFIED", last], "{kind}");
}

#[tokio::test]
async fn an_object_of_every_kind_is_made_read_patched_and_deleted() {
    let desk = Desk::open().await;
    let rows = rows(&desk.registry);
    assert!(rows.len() > 30, "{}", rows.len());
    for row in rows {
        live(&desk, &row).await;
    }
}
