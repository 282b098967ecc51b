//! Applies manifests as `kubectl apply` does: create what is missing, patch what is there with the three-way difference between the last
//! applied, the wanted and the live object.
//!
//! Bad input is found before anything is sent: every file is read and every kind known first. The server checks the rest.
//! **Source** of the annotation and the difference: `kubectl/pkg/util/apply.go`, `apimachinery/pkg/util/jsonmergepatch/patch.go`, v1.37.

use super::output;
use crate::{
    api::{kind::ErasedKind, kinds, schema::read},
    app::access::Access,
};
use anyhow::{Context as _, bail};
use http::{Method, Request, StatusCode};
use serde_json::{Map, Value, json};
use std::{
    fs,
    io::Read as _,
    path::{Path, PathBuf},
};

const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// One object of a manifest.
#[derive(Clone, Debug)]
pub(super) struct Document {
    /// File and line, for messages.
    source: String,
    kind: &'static dyn ErasedKind,
    value: Value,
}

impl std::fmt::Debug for dyn ErasedKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.info().kind)
    }
}

impl Document {
    /// The images that the object's pods would run.
    pub(super) fn images(&self) -> Vec<String> {
        let spec = self.value.pointer("/spec/template/spec").or_else(|| self.value.get("spec"));
        let containers = spec.into_iter().flat_map(|s| ["containers", "initContainers"].map(|f| &s[f]));
        let images = containers.filter_map(Value::as_array).flatten().filter_map(|c| c["image"].as_str());
        images.map(str::to_owned).collect()
    }
}

/// Reads every object of these files and folders; `-` is standard input.
pub(super) fn read_all(paths: &[PathBuf]) -> anyhow::Result<Vec<Document>> {
    let mut docs = Vec::new();
    for path in paths {
        for file in files(path)? {
            docs.extend(read_file(&file)?);
        }
    }
    Ok(docs)
}

/// A file itself, or the manifests directly in a folder, by name, as `kubectl -f FOLDER` takes them.
fn files(path: &Path) -> anyhow::Result<Vec<PathBuf>> {
    if path.as_os_str() == "-" || !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let entries = fs::read_dir(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut found = Vec::new();
    for entry in entries {
        let file = entry?.path();
        let extension = file.extension().and_then(|e| e.to_str()).unwrap_or_default();
        if file.is_file() && ["yaml", "yml", "json"].contains(&extension) {
            found.push(file);
        }
    }
    if found.is_empty() {
        bail!("{} has no .yaml, .yml or .json files", path.display());
    }
    found.sort();
    Ok(found)
}

fn read_file(path: &Path) -> anyhow::Result<Vec<Document>> {
    let name = if path.as_os_str() == "-" { "standard input".to_owned() } else { path.display().to_string() };
    let mut bytes = Vec::new();
    if path.as_os_str() == "-" {
        std::io::stdin().read_to_end(&mut bytes).context("cannot read standard input")?;
    } else {
        bytes = fs::read(path).with_context(|| format!("cannot read {name}"))?;
    }
    let docs = read::parse_yaml_documents(&bytes).with_context(|| name.clone())?;
    docs.into_iter().map(|doc| document(&name, doc)).collect()
}

fn document(file: &str, doc: read::Document) -> anyhow::Result<Document> {
    let source = format!("{file}:{}", doc.line);
    if let [first, ..] = &doc.duplicates[..] {
        bail!("{source}: duplicate field {first:?}");
    }
    let (version, kind) = (doc.value["apiVersion"].as_str(), doc.value["kind"].as_str());
    let (Some(version), Some(kind)) = (version, kind) else {
        bail!("{source}: an object needs apiVersion and kind");
    };
    let (group, short) = version.split_once('/').unwrap_or(("", version));
    let Some(kind) = kinds::by_kind(group, short, kind) else {
        bail!("{source}: no matches for kind {kind:?} in version {version:?}");
    };
    Ok(Document { source, kind, value: doc.value })
}

/// Applies every object, in order.
pub(super) async fn apply_all(access: &Access, docs: Vec<Document>) -> anyhow::Result<()> {
    let client = client(access).await?;
    for doc in docs {
        let what = doc.source.clone();
        apply(&client, doc).await.with_context(|| what)?;
    }
    Ok(())
}

async fn client(access: &Access) -> anyhow::Result<kube::Client> {
    let config = kube::config::Kubeconfig::from_yaml(&access.kubeconfig())?;
    let config = kube::Config::from_custom_kubeconfig(config, &Default::default()).await?;
    Ok(kube::Client::try_from(config)?)
}

async fn apply(client: &kube::Client, doc: Document) -> anyhow::Result<()> {
    let info = doc.kind.info();
    let mut wanted = doc.value;
    let Some(name) = wanted["metadata"]["name"].as_str().map(str::to_owned) else {
        bail!("an object needs metadata.name");
    };
    let namespace = wanted["metadata"]["namespace"].as_str().unwrap_or("default").to_owned();
    if info.is_namespaced() {
        wanted["metadata"]["namespace"] = json!(namespace);
    }
    let applied = record_applied(&mut wanted)?;
    let root = if info.group.is_empty() { "/api".to_owned() } else { format!("/apis/{}", info.group) };
    let scope = if info.is_namespaced() { format!("namespaces/{namespace}/") } else { String::new() };
    let collection = format!("{root}/{}/{scope}{}", info.version, info.plural);
    let object = format!("{collection}/{name}");
    let told = match send(client, Method::GET, &object, None).await? {
        (StatusCode::NOT_FOUND, _) => {
            expect_ok(send(client, Method::POST, &strict(&collection), Some(wanted)).await?)?;
            "created"
        }
        live => {
            let live = expect_ok(live)?;
            let patch = three_way(&applied, &wanted, &live);
            let after = expect_ok(send(client, Method::PATCH, &strict(&object), Some(patch)).await?)?;
            let same = after["metadata"]["resourceVersion"] == live["metadata"]["resourceVersion"];
            if same { "unchanged" } else { "configured" }
        }
    };
    output::done(format!("{}/{name} {told}", qualified(info.singular, info.group)));
    Ok(())
}

fn qualified(singular: &str, group: &str) -> String {
    if group.is_empty() { singular.to_owned() } else { format!("{singular}.{group}") }
}

fn strict(path: &str) -> String {
    format!("{path}?fieldManager=skiff&fieldValidation=Strict")
}

/// Writes what is applied into the object's own annotation, as kubectl does, and returns it without the annotation.
fn record_applied(wanted: &mut Value) -> anyhow::Result<Value> {
    let Some(metadata) = wanted["metadata"].as_object_mut() else { bail!("metadata is not an object") };
    let annotations = metadata.entry("annotations").or_insert_with(|| json!({}));
    if annotations.is_null() {
        *annotations = json!({});
    }
    let Some(annotations) = annotations.as_object_mut() else { bail!("metadata.annotations is not an object") };
    annotations.remove(LAST_APPLIED);
    let applied = wanted.clone();
    let text = format!("{}\n", serde_json::to_string(&applied)?);
    wanted["metadata"]["annotations"][LAST_APPLIED] = json!(text);
    Ok(applied)
}

/// The merge patch that brings the live object to the wanted one and takes away what was applied before and is wanted no more.
fn three_way(applied: &Value, wanted: &Value, live: &Value) -> Value {
    let annotation = live.pointer("/metadata/annotations").and_then(|a| a[LAST_APPLIED].as_str());
    let before: Value = annotation.and_then(|t| serde_json::from_str(t).ok()).unwrap_or_default();
    let mut patch = wanted.clone();
    add_deletions(&mut patch, &before, applied);
    patch
}

/// Adds `key: null` for every key that `before` has and `after` has not.
fn add_deletions(patch: &mut Value, before: &Value, after: &Value) {
    let Some(before) = before.as_object() else { return };
    let none = Map::new();
    let after = after.as_object().unwrap_or(&none);
    let Some(patch) = patch.as_object_mut() else { return };
    for (key, old) in before {
        match after.get(key) {
            None => {
                patch.insert(key.clone(), Value::Null);
            }
            Some(new) if new.is_object() && old.is_object() => {
                add_deletions(patch.entry(key).or_insert_with(|| json!({})), old, new);
            }
            Some(_) => {}
        }
    }
}

async fn send(
    client: &kube::Client,
    method: Method,
    path: &str,
    body: Option<Value>,
) -> anyhow::Result<(StatusCode, Value)> {
    let content = if method == Method::PATCH { "application/merge-patch+json" } else { "application/json" };
    let bytes = body.map(|b| serde_json::to_vec(&b)).transpose()?.unwrap_or_default();
    let request = Request::builder().method(method).uri(path).header("Content-Type", content).body(bytes.into())?;
    let response = client.send(request).await?;
    let code = response.status();
    let bytes = http_body_util::BodyExt::collect(response.into_body()).await?.to_bytes();
    Ok((code, serde_json::from_slice(&bytes).unwrap_or_default()))
}

fn expect_ok((code, body): (StatusCode, Value)) -> anyhow::Result<Value> {
    if code.is_success() {
        return Ok(body);
    }
    bail!("the server refuses it ({code}): {}", body["message"].as_str().unwrap_or("no reason given"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wanted_no_more_is_deleted_and_what_others_set_stays() {
        let applied = json!({"spec": {"replicas": 3, "paused": true}});
        let live = json!({"metadata": {"annotations": {LAST_APPLIED: applied.to_string()}}, "spec": {"x": 1}});
        let wanted = json!({"spec": {"replicas": 5}});
        assert_eq!(three_way(&wanted, &wanted, &live), json!({"spec": {"replicas": 5, "paused": null}}));
    }

    #[test]
    fn what_is_applied_is_recorded_as_kubectl_does() {
        let mut wanted = json!({"kind": "Pod", "metadata": {"name": "a"}});
        record_applied(&mut wanted).unwrap();
        let text = wanted["metadata"]["annotations"][LAST_APPLIED].as_str().unwrap();
        assert_eq!(text, "{\"kind\":\"Pod\",\"metadata\":{\"annotations\":{},\"name\":\"a\"}}\n");
    }

    #[test]
    fn a_folder_without_manifests_and_an_unknown_kind_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let err = read_all(&[dir.path().to_owned()]).unwrap_err();
        assert!(err.to_string().ends_with("has no .yaml, .yml or .json files"), "{err}");
        fs::write(dir.path().join("a.yaml"), "\napiVersion: v9\nkind: Nothing\n").unwrap();
        let err = read_all(&[dir.path().to_owned()]).unwrap_err();
        assert!(err.to_string().contains("no matches for kind \"Nothing\" in version \"v9\""), "{err}");
    }
}
