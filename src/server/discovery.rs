//! What the API offers: groups, versions and resources, in one document or in one per version; and the OpenAPI documents.
//!
//! Called by `paths`. All of it follows from the kinds table. Pure.
//!
//! **Source**: `k8s.io/apiserver/pkg/endpoints/discovery`, v1.37.

use crate::{
    api::{
        kind::{KindInfo, Subresource},
        kinds::Kinds,
    },
    base::ordered::SortList as _,
};
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use bytes::Bytes;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// The version of Kubernetes whose API is served, and of skiff.
pub const GIT_VERSION: &str = concat!("v1.37.0+skiff-", env!("CARGO_PKG_VERSION"));

/// The commit that skiff was built from, as `server/build.rs` or the environment of the build says it.
pub const GIT_COMMIT: &str = match option_env!("SKIFF_GIT_COMMIT") {
    Some(commit) if !commit.is_empty() => commit,
    _ => "unknown",
};

/// A document and the tag that changes when it does.
#[derive(Clone, Debug)]
pub struct Tagged {
    /// JSON text.
    pub json: Bytes,
    /// The `ETag`, quotes included.
    pub etag: String,
}

/// The named groups, in the order of the kinds table.
fn groups(kinds: &Kinds) -> Vec<&str> {
    let mut groups: Vec<&str> = Vec::new();
    for info in kinds.infos().filter(|i| !i.group.is_empty()) {
        if !groups.contains(&info.group) {
            groups.push(info.group);
        }
    }
    groups
}

/// The versions of a group, the preferred one first.
pub fn versions<'a>(kinds: &'a Kinds, group: &str) -> Vec<&'a str> {
    let mut versions: Vec<&str> = Vec::new();
    for info in kinds.infos().filter(|i| i.group == group) {
        if !versions.contains(&info.version) {
            versions.push(info.version);
        }
    }
    versions
}

/// `/api`: the versions of the core group. `host` is what the client called the server.
pub fn core_versions(kinds: &Kinds, host: &str) -> Value {
    json!({
        "kind": "APIVersions", "versions": versions(kinds, ""),
        "serverAddressByClientCIDRs": [{ "clientCIDR": "0.0.0.0/0", "serverAddress": host }],
    })
}

/// `/apis`: every named group.
pub fn group_list(kinds: &Kinds) -> Value {
    let items: Vec<Value> = groups(kinds).into_iter().map(|group| group_body(kinds, group)).collect();
    json!({ "kind": "APIGroupList", "apiVersion": "v1", "groups": items })
}

/// `/apis/GROUP`: one group.
pub fn group(kinds: &Kinds, name: &str) -> Option<Value> {
    groups(kinds).contains(&name).then(|| {
        let mut body = group_body(kinds, name);
        body["kind"] = json!("APIGroup");
        body["apiVersion"] = json!("v1");
        body
    })
}

fn group_body(kinds: &Kinds, name: &str) -> Value {
    let of = |v: &&str| json!({ "groupVersion": format!("{name}/{v}"), "version": v });
    let versions = versions(kinds, name);
    let all: Vec<Value> = versions.iter().map(of).collect();
    json!({ "name": name, "versions": all, "preferredVersion": all.first() })
}

/// `/api/v1` and `/apis/GROUP/VERSION`: the resources of one version.
pub fn resources(kinds: &Kinds, group: &str, version: &str) -> Option<Value> {
    let mut items: Vec<Value> = Vec::new();
    for info in kinds.infos().filter(|i| i.group == group && i.version == version) {
        items.push(resource(info));
        items.extend(info.subresources.iter().map(|s| subresource(info, s)));
    }
    let group_version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    (!items.is_empty()).then(
        || json!({ "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": items }),
    )
}

fn resource(info: &KindInfo<'_>) -> Value {
    let mut body = json!({
        "name": info.plural, "singularName": info.singular, "namespaced": info.is_namespaced(), "kind": info.kind,
        "verbs": info.verbs, "storageVersionHash": storage_version_hash(info),
    });
    if !info.short_names.is_empty() {
        body["shortNames"] = json!(info.short_names);
    }
    if !info.categories.is_empty() {
        body["categories"] = json!(info.categories);
    }
    body
}

fn subresource(info: &KindInfo<'_>, sub: &Subresource<'_>) -> Value {
    let mut body = json!({
        "name": format!("{}/{}", info.plural, sub.name), "singularName": "", "namespaced": info.is_namespaced(),
        "kind": sub.body.map_or(info.kind, |(_, _, kind)| kind), "verbs": sub.verbs,
    });
    if let Some((group, version, _)) = sub.body.filter(|(g, v, _)| (*g, *v) != (info.group, info.version)) {
        body["group"] = json!(group);
        body["version"] = json!(version);
    }
    body
}

/// Source: `StorageVersionHash` in `k8s.io/apiserver/pkg/endpoints/discovery/storageversionhash.go`.
fn storage_version_hash(info: &KindInfo<'_>) -> String {
    let digest = Sha256::digest(format!("{}/{}/{}", info.group, info.version, info.kind));
    STANDARD.encode(&digest[..8])
}

/// `/api` or `/apis` as one document, when the client takes that.
pub fn aggregated(kinds: &Kinds, is_core: bool) -> Tagged {
    tagged(&aggregate(kinds, &if is_core { vec![""] } else { groups(kinds) }))
}

/// A document with its tag.
pub fn tagged(document: &Value) -> Tagged {
    let json = Bytes::from(document.to_string());
    let etag = format!("\"{}\"", URL_SAFE_NO_PAD.encode(Sha256::digest(&json)));
    Tagged { json, etag }
}

fn aggregate(kinds: &Kinds, groups: &[&str]) -> Value {
    let version = |group: &str, version: &str| {
        let of_version = kinds.infos().filter(|i| i.group == group && i.version == version);
        json!({
            "version": version, "freshness": "Current",
            "resources": of_version.map(aggregated_resource).collect::<Vec<_>>(),
        })
    };
    let item = |group: &&str| {
        let versions: Vec<Value> = versions(kinds, group).into_iter().map(|v| version(group, v)).collect();
        let meta = if group.is_empty() {
            json!({ "creationTimestamp": null })
        } else {
            json!({ "name": group, "creationTimestamp": null })
        };
        json!({ "metadata": meta, "versions": versions })
    };
    json!({
        "kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {},
        "items": groups.iter().map(item).collect::<Vec<_>>(),
    })
}

fn aggregated_resource(info: &KindInfo<'_>) -> Value {
    let gvk = |(group, version, kind): (&str, &str, &str)| json!({ "group": group, "version": version, "kind": kind });
    let own = (info.group, info.version, info.kind);
    let subresources: Vec<Value> = info
        .subresources
        .iter()
        .map(|s| json!({ "subresource": s.name, "responseKind": gvk(s.body.unwrap_or(own)), "verbs": s.verbs }))
        .collect();
    let mut body = json!({
        "resource": info.plural, "responseKind": gvk(own), "singularResource": info.singular, "verbs": info.verbs,
        "scope": if info.is_namespaced() { "Namespaced" } else { "Cluster" },
    });
    if !info.short_names.is_empty() {
        body["shortNames"] = json!(info.short_names);
    }
    if !info.categories.is_empty() {
        body["categories"] = json!(info.categories);
    }
    if !subresources.is_empty() {
        body["subresources"] = json!(subresources);
    }
    body
}

/// `/`: every path that is no object's.
pub fn paths(kinds: &Kinds) -> Value {
    let mut paths: Vec<String> = [
        "/.well-known/openid-configuration",
        "/api",
        "/apis",
        "/healthz",
        "/livez",
        "/metrics",
        "/openapi/v2",
        "/openapi/v3",
        "/openid/v1/jwks",
        "/readyz",
        "/version",
    ]
    .map(str::to_owned)
    .to_vec();
    paths.extend(versions(kinds, "").into_iter().map(|v| format!("/api/{v}")));
    for group in groups(kinds) {
        paths.push(format!("/apis/{group}"));
        paths.extend(versions(kinds, group).into_iter().map(|v| format!("/apis/{group}/{v}")));
    }
    paths.sort_list();
    json!({ "paths": paths })
}

/// `/version`. Source of the fields: `k8s.io/apimachinery/pkg/version/types.go`.
pub fn version() -> Value {
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    json!({
        "major": "1", "minor": "37", "emulationMajor": "1", "emulationMinor": "37",
        "minCompatibilityMajor": "1", "minCompatibilityMinor": "36",
        "gitVersion": GIT_VERSION, "gitCommit": GIT_COMMIT, "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z", "goVersion": concat!("rust", env!("CARGO_PKG_RUST_VERSION")), "compiler": "rustc",
        "platform": format!("{}/{arch}", std::env::consts::OS),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::schema::structure::Definition;

    fn find<'a>(list: &'a Value, field: &str, value: &str) -> &'a Value {
        list.as_array().unwrap().iter().find(|i| i[field] == value).unwrap_or_else(|| panic!("no {value} in {list}"))
    }

    #[test]
    fn every_kind_is_in_both_forms_of_discovery() {
        let kinds = &Kinds::default();
        for info in kinds.infos() {
            let plain = resources(kinds, info.group, info.version).unwrap();
            let entry = find(&plain["resources"], "name", info.plural);
            assert_eq!(entry["kind"], info.kind);
            for sub in info.subresources {
                find(&plain["resources"], "name", &format!("{}/{}", info.plural, sub.name));
            }
            let document: Value = serde_json::from_slice(&aggregated(kinds, info.group.is_empty()).json).unwrap();
            let items = document["items"].as_array().unwrap();
            let group =
                items.iter().find(|i| i["metadata"]["name"].as_str().unwrap_or_default() == info.group).unwrap();
            let version = find(&group["versions"], "version", info.version);
            assert_eq!(find(&version["resources"], "resource", info.plural)["responseKind"]["kind"], info.kind);
        }
    }

    #[test]
    fn a_group_names_its_versions_and_the_preferred_one() {
        let kinds = &Kinds::default();
        let apps = group(kinds, "apps").unwrap();
        assert_eq!(apps["preferredVersion"], json!({ "groupVersion": "apps/v1", "version": "v1" }));
        assert_eq!(find(&group_list(kinds)["groups"], "name", "apps")["versions"][0]["version"], "v1");
        assert!(group(kinds, "nothing.example").is_none());
        assert!(resources(kinds, "apps", "v9").is_none());
        assert!(group(kinds, "").is_none());
    }

    #[test]
    fn the_scale_of_a_deployment_is_of_another_group() {
        let apps = resources(&Kinds::default(), "apps", "v1").unwrap();
        let scale = find(&apps["resources"], "name", "deployments/scale");
        assert_eq!(
            (&scale["group"], &scale["version"], &scale["kind"]),
            (&json!("autoscaling"), &json!("v1"), &json!("Scale"))
        );
    }

    #[test]
    fn storage_hashes_are_those_of_kubernetes() {
        // Seen in the discovery of a real cluster.
        let pods = resources(&Kinds::default(), "", "v1").unwrap();
        assert_eq!(find(&pods["resources"], "name", "pods")["storageVersionHash"], "xPOwRZ+Yhw8=");
    }

    #[test]
    fn the_version_leaves_no_field_empty() {
        let version = version();
        let fields = version.as_object().unwrap();
        assert!(fields.values().all(|field| field.as_str().is_some_and(|text| !text.is_empty())), "{version}");
        let definition = Definition::find("io.k8s.apimachinery.pkg.version.Info").unwrap();
        definition.properties.iter().for_each(|p| assert!(fields.contains_key(&*p.name), "{}", p.name));
    }

    #[test]
    fn all_paths_are_listed() {
        let paths = paths(&Kinds::default());
        for path in ["/api/v1", "/apis/apps", "/apis/apps/v1", "/openapi/v3", "/version"] {
            assert!(paths["paths"].as_array().unwrap().contains(&json!(path)), "{path}");
        }
    }
}
