//! Answers in protobuf: the same objects that clients get as JSON.

use super::{every_kind::rows, *};
use crate::{
    api::schema::protobuf::{EVENT_LENGTH_BYTES, parse},
    testing::samples::sample,
};

const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";

struct Binary {
    code: u16,
    content_type: String,
    bytes: Bytes,
}

impl Binary {
    fn value(&self) -> Value {
        parse(&self.bytes).unwrap_or_else(|err| panic!("{err}: {:?}", self.bytes))
    }
}

impl Desk {
    async fn binary(&self, method: &str, url: &str, accept: &str, body: Bytes) -> Binary {
        let headers = [("accept", accept), ("content-type", PROTOBUF), ("user-agent", "test/1.0")];
        let response = self.send_bytes(Some(admin()), method, url, &headers, body).await;
        let (head, body) = response.into_parts();
        let content_type = head.headers["content-type"].to_str().unwrap().to_owned();
        let bytes = body.collect().await.unwrap().to_bytes();
        if let Some(length) = head.headers.get("content-length") {
            assert_eq!(length.to_str().unwrap(), bytes.len().to_string());
        }
        Binary { code: head.status.as_u16(), content_type, bytes }
    }

    async fn read(&self, url: &str) -> Binary {
        self.binary("GET", url, PROTOBUF, Bytes::new()).await
    }
}

/// A value without what Go leaves out of JSON where it is no pointer.
fn pruned(value: &Value) -> Option<Value> {
    match value {
        Value::Null | Value::Bool(false) => None,
        Value::Number(n) if n.as_f64() == Some(0.0) => None,
        Value::String(text) if text.is_empty() => None,
        Value::Object(fields) => {
            let fields: serde_json::Map<_, _> =
                fields.iter().filter_map(|(name, value)| Some((name.clone(), pruned(value)?))).collect();
            (!fields.is_empty()).then_some(Value::Object(fields))
        }
        Value::Array(items) => {
            let items: Vec<Value> = items.iter().map(|item| pruned(item).unwrap_or_default()).collect();
            (!items.is_empty()).then_some(Value::Array(items))
        }
        other => Some(other.clone()),
    }
}

#[tokio::test]
async fn every_kind_is_read_and_written_back_as_protobuf() {
    let desk = Desk::open().await;
    // OpenShift's clients send JSON, and its kinds have no numbers here.
    for row in rows(&desk.registry)
        .into_iter()
        .filter(|row| !["DeploymentConfig", "ImageStream", "Route", "Template"].contains(&&*row.kind))
    {
        let kind = &row.kind;
        let mut object = sample(&row.group, kind);
        object["apiVersion"] = json!(row.api_version);
        object["kind"] = json!(kind);
        object["metadata"] = json!({ "name": row.name(), "labels": { "a": "b" }, "annotations": { "n": "\u{e9}\n" } });
        let made = desk.ask("POST", &row.url, &[("user-agent", "test/1.0")], &object.to_string()).await;
        assert_eq!(made.code, 201, "{kind}: {}", made.text);

        let one = format!("{}/{}", row.url, row.name());
        let got = desk.read(&one).await;
        assert_eq!((got.code, &*got.content_type), (200, PROTOBUF), "{kind}");
        assert_eq!(pruned(&got.value()), pruned(&made.json()), "{kind}");

        let list = desk.read(&row.url).await;
        let plain = desk.get(&row.url).await.json();
        assert_eq!(list.value()["kind"], format!("{kind}List"));
        let items = |list: &Value| list["items"].as_array().unwrap().iter().map(untyped).collect::<Vec<_>>();
        assert_eq!(items(&list.value()), items(&plain), "{kind}");
        assert_eq!(list.value()["metadata"], plain["metadata"], "{kind}");

        let replaced = desk.binary("PUT", &one, PROTOBUF, got.bytes.clone()).await;
        assert_eq!(replaced.code, 200, "{kind}: {}", replaced.value());
        assert_eq!(replaced.value()["metadata"], got.value()["metadata"], "{kind}: its own protobuf changes nothing");
        assert_eq!(desk.get(&one).await.json(), made.json(), "{kind}");

        let gone = desk.binary("DELETE", &one, PROTOBUF, Bytes::new()).await;
        assert!(matches!(gone.code, 200 | 202), "{kind}");
        let said = gone.value()["kind"].as_str().unwrap().to_owned();
        assert!(said == "Status" || said == *kind, "{kind}: {said}");
    }
}

/// An item as it is in any list, without what it would be pruned of.
fn untyped(item: &Value) -> Option<Value> {
    let mut item = item.clone();
    item.as_object_mut()?.remove("apiVersion");
    item.as_object_mut()?.remove("kind");
    pruned(&item)
}

#[tokio::test]
async fn a_client_that_takes_protobuf_alone_gets_it_for_everything() {
    let desk = Desk::open().await;
    desk.config_map("a", json!({})).await;
    let missing = desk.read(&format!("{MAPS}/b")).await;
    assert_eq!((missing.code, &*missing.content_type), (404, PROTOBUF));
    assert_eq!(missing.value()["message"], "configmaps \"b\" not found");
    assert_eq!(missing.value()["details"], json!({ "kind": "configmaps", "name": "b" }));
    for (url, kind) in [
        ("/api", "APIVersions"),
        ("/apis", "APIGroupList"),
        ("/apis/apps", "APIGroup"),
        ("/api/v1", "APIResourceList"),
        ("/apis/nowhere", "Status"),
    ] {
        let got = desk.read(url).await;
        assert_eq!(got.content_type, PROTOBUF, "{url}");
        assert_eq!(got.value()["kind"], kind, "{url}");
        let mut plain = desk.get(url).await.json();
        // Kubernetes has always left the version of this one out of JSON.
        plain.as_object_mut().unwrap().entry("apiVersion").or_insert_with(|| json!("v1"));
        assert_eq!(pruned(&got.value()), pruned(&plain), "{url}");
    }
    let version = desk.read("/version").await;
    assert_eq!((version.code, &*version.content_type), (200, "application/json"));
    let review = json!({ "spec": { "resourceAttributes": { "verb": "get", "resource": "pods" } } }).to_string();
    let accept = [("accept", PROTOBUF)];
    let url = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let response = desk.send(Some(admin()), "POST", url, &accept, &review).await;
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(parse(&bytes).unwrap()["status"]["allowed"], true);
}

#[tokio::test]
async fn metadata_alone_is_protobuf_too_and_a_table_is_not() {
    let desk = Desk::open().await;
    desk.config_map("a", json!({ "l": "v" })).await;
    let partial = "application/vnd.kubernetes.protobuf;as=PartialObjectMetadata;v=v1;g=meta.k8s.io";
    let list = partial.replace("Metadata;", "MetadataList;");
    let got = desk.binary("GET", &format!("{MAPS}/a"), partial, Bytes::new()).await;
    let is_magic = |bytes: &Bytes, kind: &str| {
        bytes.starts_with(b"k8s\0") && bytes.windows(kind.len()).any(|part| part == kind.as_bytes())
    };
    assert!(is_magic(&got.bytes, "PartialObjectMetadata") && got.code == 200);
    let got = desk.binary("GET", MAPS, &list, Bytes::new()).await;
    assert!(is_magic(&got.bytes, "PartialObjectMetadataList") && got.code == 200);
    let table = "application/vnd.kubernetes.protobuf;as=Table;v=v1;g=meta.k8s.io";
    assert_eq!(desk.binary("GET", MAPS, table, Bytes::new()).await.code, 406);
    let either = format!("{table},application/json;as=Table;v=v1;g=meta.k8s.io");
    assert_eq!(desk.binary("GET", MAPS, &either, Bytes::new()).await.content_type, "application/json");
}

/// Takes the events off a stream: what happened, and to which object.
fn events(mut bytes: &[u8]) -> Vec<String> {
    let mut events = Vec::new();
    while !bytes.is_empty() {
        let (length, rest) = bytes.split_at(EVENT_LENGTH_BYTES);
        let length = usize::try_from(u32::from_be_bytes(length.try_into().unwrap())).unwrap();
        let (frame, rest) = rest.split_at(length);
        bytes = rest;
        events.push(event(frame));
    }
    events
}

pub(super) fn event(frame: &[u8]) -> String {
    let text_end = 2 + usize::from(frame[1]);
    let what = std::str::from_utf8(&frame[2..text_end]).unwrap();
    let start = frame.windows(4).position(|part| part == b"k8s\0").unwrap();
    let object = parse(&frame[start..]).unwrap();
    let said = if object["kind"] == "Status" { &object["message"] } else { &object["metadata"]["name"] };
    format!("{what} {} {}", object["kind"].as_str().unwrap(), said.as_str().unwrap_or("-"))
}

#[tokio::test]
async fn a_watch_is_framed_protobuf() {
    let desk = Desk::open().await;
    let revision = desk.config_map("a", json!({})).await;
    let large: ConfigMap = serde_json::from_value(json!({
        "metadata": { "name": "large", "namespace": "default" }, "data": { "k": "x".repeat(100_000) },
    }))
    .unwrap();
    desk.registry.api::<ConfigMaps>().create(large).await.unwrap();
    desk.label("a", "l", "v").await;
    desk.delete("a").await;
    let of = async |query: &str| {
        let url = format!("{MAPS}?watch=true&timeoutSeconds=1&allowWatchBookmarks=true{query}");
        let stream = format!("{PROTOBUF};stream=watch");
        desk.binary("GET", &url, &stream, Bytes::new()).await
    };
    let got = of(&format!("&resourceVersion={revision}")).await;
    assert_eq!((got.code, &*got.content_type), (200, "application/vnd.kubernetes.protobuf;stream=watch"));
    assert_eq!(
        events(&got.bytes),
        ["ADDED ConfigMap large", "MODIFIED ConfigMap a", "DELETED ConfigMap a", "BOOKMARK ConfigMap -"]
    );
    let expired = of("&resourceVersion=999999999").await;
    assert!(expired.code == 200 || expired.value()["kind"] == "Status");
}

#[tokio::test]
async fn a_list_beyond_what_is_kept_is_whole() {
    let desk = Desk::open().await;
    for i in 0..12 {
        let map: ConfigMap = serde_json::from_value(json!({
            "metadata": { "name": format!("m{i}"), "namespace": "default" }, "data": { "k": "x".repeat(900_000) },
        }))
        .unwrap();
        desk.registry.api::<ConfigMaps>().create(map).await.unwrap();
    }
    let got = desk.read(MAPS).await;
    assert!(got.bytes.len() > 10_800_000);
    let mut sizes = 0;
    let mut rest = &got.bytes[..];
    while let Some(at) = rest.windows(2).position(|pair| pair == b"xx") {
        let run = rest[at..].iter().take_while(|b| **b == b'x').count();
        assert_eq!(run, 900_000);
        sizes += 1;
        rest = &rest[at + run..];
    }
    assert_eq!(sizes, 12);
}
