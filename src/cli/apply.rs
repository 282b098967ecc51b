//! Applies manifests as `kubectl apply` does: create what is missing, patch what is there so that what was applied before and is wanted
//! no more goes, and what others set stays.
//!
//! Bad input is found before anything is sent: every file is read and every kind known first, and all that is wrong is told at once. Then
//! every object is tried, and what the server refuses is told together at the end.
//! **Not here**: the patch (`api/patch/three_way`).
//! **Source** of the annotation: `kubectl/pkg/util/apply.go`, v1.37.

use super::{
    exit::{Class, of_class},
    output,
};
use crate::{
    api::{kind::ErasedKind, kinds, patch::three_way::three_way, schema::read},
    app::access::Access,
    base::ordered::SortList as _,
    client::{Client, Kubeconfig, PatchKind},
};
use anyhow::{Context as _, bail};
use http::StatusCode;
use serde_json::{Value, json};
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

impl Document {
    /// The object itself.
    pub(super) fn value(&self) -> &Value {
        &self.value
    }

    /// The images that the object's pods would run.
    pub(super) fn images(&self) -> Vec<String> {
        let spec = self.value.pointer("/spec/template/spec").or_else(|| self.value.get("spec"));
        let containers = spec.into_iter().flat_map(|s| ["containers", "initContainers"].map(|f| &s[f]));
        let images = containers.filter_map(Value::as_array).flatten().filter_map(|c| c["image"].as_str());
        images.map(str::to_owned).collect()
    }
}

/// Reads every object of these files and folders; `-` is standard input. The error names everything that cannot be read.
pub(super) fn read_all(paths: &[PathBuf]) -> anyhow::Result<Vec<Document>> {
    read_each(paths).map_err(|err| of_class(Class::Input, err))
}

fn read_each(paths: &[PathBuf]) -> anyhow::Result<Vec<Document>> {
    let (mut docs, mut wrong) = (Vec::new(), Vec::new());
    for path in paths {
        for file in files(path)? {
            // In a folder there may be other YAML; a file that was named must be a manifest.
            read_file(&file, path.is_dir(), &mut docs, &mut wrong)?;
        }
    }
    match &wrong[..] {
        [] => Ok(docs),
        [one] => bail!("{one}"),
        many => bail!("{} things cannot be read:\n  {}", many.len(), many.join("\n  ")),
    }
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
    found.sort_list();
    Ok(found)
}

fn read_file(path: &Path, is_found: bool, docs: &mut Vec<Document>, wrong: &mut Vec<String>) -> anyhow::Result<()> {
    let name = if path.as_os_str() == "-" { "standard input".to_owned() } else { path.display().to_string() };
    let mut bytes = Vec::new();
    if path.as_os_str() == "-" {
        std::io::stdin().read_to_end(&mut bytes).context("cannot read standard input")?;
    } else {
        bytes = fs::read(path).with_context(|| format!("cannot read {name}"))?;
    }
    read_bytes(&name, &bytes, is_found, docs, wrong);
    Ok(())
}

/// Reads every object of a text; `name` is what messages call it.
pub(super) fn read_text(name: &str, text: &str) -> anyhow::Result<Vec<Document>> {
    let (mut docs, mut wrong) = (Vec::new(), Vec::new());
    read_bytes(name, text.as_bytes(), false, &mut docs, &mut wrong);
    if wrong.is_empty() { Ok(docs) } else { bail!("{}", wrong.join("\n")) }
}

fn read_bytes(name: &str, bytes: &[u8], is_found: bool, docs: &mut Vec<Document>, wrong: &mut Vec<String>) {
    let read = match read::parse_yaml_documents(bytes) {
        Ok(read) => read,
        Err(err) => {
            wrong.push(format!("{name}: {err}"));
            return;
        }
    };
    for doc in read {
        let source = format!("{name}:{}", doc.line);
        if is_found && !is_manifest(&doc.value) {
            output::warning(format!("{source} is passed over: it is not an object of a cluster"));
            continue;
        }
        if let [first, ..] = &doc.duplicates[..] {
            wrong.push(format!("{source}: duplicate field {first:?}"));
            continue;
        }
        for (at, value) in items(source, doc.value) {
            match document(at, value) {
                Ok(document) => docs.push(document),
                Err(err) => wrong.push(format!("{err:#}")),
            }
        }
    }
}

/// Whether YAML that lies beside manifests is one: values of charts and kustomizations are not.
fn is_manifest(value: &Value) -> bool {
    let version = value["apiVersion"].as_str();
    let is_for_tools = version.is_some_and(|v| v.starts_with("kustomize.config.k8s.io/"));
    version.is_some() && value["kind"].is_string() && !is_for_tools
}

/// The object itself, or those of a list.
fn items(source: String, mut value: Value) -> Vec<(String, Value)> {
    let is_list = value["kind"].as_str().is_some_and(|kind| kind.ends_with("List")) && value["items"].is_array();
    if !is_list {
        return vec![(source, value)];
    }
    let Value::Array(items) = value["items"].take() else { return Vec::new() };
    items.into_iter().enumerate().map(|(n, item)| (format!("{source}: items[{n}]"), item)).collect()
}

fn document(source: String, mut value: Value) -> anyhow::Result<Document> {
    kinds::put_in_group(&mut value);
    let (version, kind) = (value["apiVersion"].as_str(), value["kind"].as_str());
    let (Some(version), Some(kind)) = (version, kind) else {
        bail!("{source}: an object needs apiVersion and kind");
    };
    let (group, short) = version.split_once('/').unwrap_or(("", version));
    let Some(kind) = kinds::by_kind(group, short, kind) else {
        bail!("{source}: no matches for kind {kind:?} in version {version:?}");
    };
    Ok(Document { source, kind, value })
}

/// The objects as one, for another process.
pub(super) fn as_list(docs: &[Document]) -> Vec<u8> {
    let items: Vec<&Value> = docs.iter().map(|doc| &doc.value).collect();
    json!({ "apiVersion": "v1", "kind": "List", "items": items }).to_string().into_bytes()
}

/// Tries every object, in order. The error names all that were not applied, and why.
pub(super) async fn apply_all(access: &Access, docs: Vec<Document>) -> anyhow::Result<()> {
    let client = Client::new(&Kubeconfig::parse(&access.kubeconfig())?)?;
    let count = docs.len();
    let mut failed = Vec::new();
    for doc in docs {
        let what = doc.source.clone();
        if let Err(err) = apply(&client, doc).await {
            failed.push(format!("{what}: {err:#}"));
        }
    }
    match &failed[..] {
        [] => Ok(()),
        [one] => bail!("{one}"),
        many => bail!("{} of {count} objects were not applied:\n  {}", many.len(), many.join("\n  ")),
    }
}

async fn apply(client: &Client, doc: Document) -> anyhow::Result<()> {
    let info = doc.kind.info();
    let mut wanted = doc.value;
    let Some(name) = wanted["metadata"]["name"].as_str().map(str::to_owned) else {
        bail!("an object needs metadata.name");
    };
    let namespace = wanted["metadata"]["namespace"].as_str().unwrap_or("default").to_owned();
    if info.is_namespaced() {
        wanted["metadata"]["namespace"] = json!(namespace);
    }
    record_applied(&mut wanted)?;
    let root = if info.group.is_empty() { "/api".to_owned() } else { format!("/apis/{}", info.group) };
    let scope = if info.is_namespaced() { format!("namespaces/{namespace}/") } else { String::new() };
    let collection = format!("{root}/{}/{scope}{}", info.version, info.plural);
    let object = format!("{collection}/{name}");
    let told = match client.get(&object).await {
        Err(err) if err.code() == Some(StatusCode::NOT_FOUND) => {
            client.post(&strict(&collection), &wanted).await?;
            "created"
        }
        live => {
            let live = live?;
            let patch = three_way(&last_applied(&live), &wanted, doc.kind.definition());
            let after = client.patch(&strict(&object), PatchKind::Strategic, &patch).await?;
            let same = after["metadata"]["resourceVersion"] == live["metadata"]["resourceVersion"];
            if same { "unchanged" } else { "configured" }
        }
    };
    output::done(format!("{}/{name} {told}", qualified(&info.kind.to_lowercase(), info.group)));
    Ok(())
}

/// How kubectl calls what it has applied.
fn qualified(kind: &str, group: &str) -> String {
    if group.is_empty() { kind.to_owned() } else { format!("{kind}.{group}") }
}

fn strict(path: &str) -> String {
    format!("{path}?fieldManager=skiff&fieldValidation=Strict")
}

/// Writes what is applied into the object's own annotation, as kubectl does.
fn record_applied(wanted: &mut Value) -> anyhow::Result<()> {
    let Some(metadata) = wanted["metadata"].as_object_mut() else { bail!("metadata is not an object") };
    let annotations = metadata.entry("annotations").or_insert_with(|| json!({}));
    if annotations.is_null() {
        *annotations = json!({});
    }
    let Some(annotations) = annotations.as_object_mut() else { bail!("metadata.annotations is not an object") };
    annotations.remove(LAST_APPLIED);
    let text = format!("{}\n", serde_json::to_string(&*wanted)?);
    wanted["metadata"]["annotations"][LAST_APPLIED] = json!(text);
    Ok(())
}

/// What was applied before, as the live object tells.
fn last_applied(live: &Value) -> Value {
    let annotation = live.pointer("/metadata/annotations").and_then(|a| a[LAST_APPLIED].as_str());
    annotation.and_then(|text| serde_json::from_slice(text.as_bytes()).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

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
        fs::write(dir.path().join("b.yaml"), "kind: [\n").unwrap();
        let err = read_all(&[dir.path().to_owned()]).unwrap_err().to_string();
        assert!(
            err.starts_with("2 things cannot be read") && err.contains("a.yaml:2") && err.contains("b.yaml"),
            "{err}"
        );
    }

    #[test]
    fn what_openshift_3_wrote_as_v1_is_of_its_group() {
        let value = json!({ "apiVersion": "v1", "kind": "ImageStream", "metadata": { "name": "web" } });
        let read = document("a.yaml".to_owned(), value).unwrap();
        assert_eq!(
            (read.kind.info().group, &read.value["apiVersion"]),
            ("image.openshift.io", &json!("image.openshift.io/v1"))
        );
    }

    #[test]
    fn lists_are_their_items_and_other_yaml_in_a_folder_is_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
        write("values.yaml", "image: {tag: 1}\n");
        write("kustomization.yaml", "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\n");
        write(
            "list.yaml",
            "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: ConfigMap, metadata: {name: a}}\n- {apiVersion: v1, kind: Pod}\n",
        );
        let docs = read_all(&[dir.path().to_owned()]).unwrap();
        let sources: Vec<_> = docs.iter().map(|d| d.source.rsplit('/').next().unwrap()).collect();
        assert_eq!(sources, ["list.yaml:1: items[0]", "list.yaml:1: items[1]"]);
        let err = read_all(&[dir.path().join("values.yaml")]).unwrap_err();
        assert!(err.to_string().ends_with("values.yaml:1: an object needs apiVersion and kind"), "{err}");
    }
}
