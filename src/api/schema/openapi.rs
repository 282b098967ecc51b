//! OpenAPI v3 documents, put together when a client asks: one per group and version of the kinds table, and one for each path above
//! them (`api`, `apis`, a group, `version`). A document is called as in the index, e.g. `apis/apps/v1`.
//!
//! Called by the server. Definitions come deflated from `cargo schemas`; paths follow from the kinds table, one set per kind, its
//! verbs and sub-resources. kubectl takes from them what to validate, explain, and how to make strategic merge patches.
//!
//! **Invariants**: nothing is unpacked before a client asks, and nothing is kept here after (the server keeps the hashes).
//! Not here: the same in v2's words (`swagger`).
//!
//! **Source** of the form: `k8s.io/apiserver/pkg/endpoints/installer.go`, `k8s.io/kube-openapi/pkg/builder3`, v1.37.

use super::structure::Definition;
use crate::{
    api::{
        kind::{KindInfo, KindRef, Parameter, Subresource},
        kinds::Kinds,
    },
    base::ordered::{self, CollectOrdered as _, Set},
};
use bytes::Bytes;
use flate2::read::DeflateDecoder;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha512};
use std::{collections::BTreeMap, fmt::Write as _, io::Read as _};

static PACKED: &[u8] = include_bytes!("packed/definitions.z");

/// Document → the hash of its text.
pub type Hashes = BTreeMap<String, String>;

const REF_PREFIX: &str = "#/components/schemas/";
const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";
/// The version of Kubernetes that the API is.
pub(super) const KUBERNETES_VERSION: &str = "v1.37.0";
/// The media types of patches that the server takes.
const PATCH_TYPES: [&str; 4] = [
    "application/apply-patch+yaml",
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
];

/// What a document describes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Scope<'a> {
    /// `/version`.
    Version,
    /// `/api`.
    Core,
    /// `/apis`.
    Groups,
    /// A named group.
    Group(&'a str),
    /// A group and version.
    Kinds(&'a str, &'a str),
}

impl<'a> Scope<'a> {
    /// All that there are.
    fn all(kinds: &'a Kinds) -> Set<Self> {
        let groups = kinds.infos().filter(|i| !i.group.is_empty()).map(|i| Self::Group(i.group));
        let kinds = kinds.infos().map(|i| Self::Kinds(i.group, i.version));
        [Self::Version, Self::Core, Self::Groups].into_iter().chain(groups).chain(kinds).collect()
    }

    /// The name of the document, which is the path that it is about.
    fn name(self) -> String {
        match self {
            Self::Version => "version".to_owned(),
            Self::Core => "api".to_owned(),
            Self::Groups => "apis".to_owned(),
            Self::Group(group) => format!("apis/{group}"),
            Self::Kinds("", version) => format!("api/{version}"),
            Self::Kinds(group, version) => format!("apis/{group}/{version}"),
        }
    }

    fn paths(self, kinds: &Kinds) -> Map<String, Value> {
        let mut paths = Map::new();
        paths.insert(format!("/{}/", self.name()), self.own_path());
        if let Self::Kinds(group, version) = self {
            for kind in kinds.served().filter(|k| (k.info().group, k.info().version) == (group, version)) {
                add_kind(&mut paths, kind);
            }
        }
        paths
    }

    /// What a GET of the path itself tells.
    fn own_path(self) -> Value {
        let short = |group: &str| group.split('.').next().unwrap_or_default().to_owned();
        let (tag, id, what, definition) = match self {
            Self::Version => {
                let info = "io.k8s.apimachinery.pkg.version.Info";
                (
                    "version".to_owned(),
                    "getCodeVersion".to_owned(),
                    "get the version information for this server",
                    info.to_owned(),
                )
            }
            Self::Core => {
                let versions = format!("{META}.APIVersions");
                ("core".to_owned(), "getCoreAPIVersions".to_owned(), "get available API versions", versions)
            }
            Self::Groups => {
                let groups = format!("{META}.APIGroupList");
                ("apis".to_owned(), "getAPIVersions".to_owned(), "get available API versions", groups)
            }
            Self::Group(group) => {
                let id = format!("get{}APIGroup", capitalized(&short(group)));
                (short(group), id, "get information of a group", format!("{META}.APIGroup"))
            }
            Self::Kinds(group, version) => {
                let group = if group.is_empty() { "core".to_owned() } else { short(group) };
                let id = format!("get{}{}APIResources", capitalized(&group), capitalized(version));
                (format!("{group}_{version}"), id, "get available resources", format!("{META}.APIResourceList"))
            }
        };
        let good =
            json!({ "description": "OK", "content": content(&["application/json", "application/yaml"], &definition) });
        json!({ "get": {
            "tags": [tag], "description": what, "operationId": id,
            "responses": { "200": good, "401": { "description": "Unauthorized" } },
        } })
    }
}

/// The body of `/openapi/v3`: the path of each document with its hash.
pub fn index(hashes: &Hashes) -> Value {
    let paths: Map<String, Value> = hashes
        .iter()
        .map(|(name, hash)| {
            let url = format!("/openapi/v3/{name}?hash={hash}");
            (name.clone(), json!({ "serverRelativeURL": url }))
        })
        .collect_ordered();
    json!({ "paths": paths })
}

/// The body of `/openapi/v3/NAME`; `None`: there is no such document.
pub fn document(kinds: &Kinds, name: &str) -> Option<Bytes> {
    let scope = Scope::all(kinds).into_iter().find(|scope| scope.name() == name)?;
    Some(assemble(kinds, scope, &by_name(kinds, &unpack())))
}

/// Every document, one after the other.
pub(super) fn every_document(kinds: &Kinds) -> Vec<Bytes> {
    let text = unpack();
    let definitions = by_name(kinds, &text);
    Scope::all(kinds).into_iter().map(|scope| assemble(kinds, scope, &definitions)).collect()
}

/// The hash of every document: it stands in the index's URLs, is the document's `ETag` too (without quotes), and changes when the
/// document does.
pub fn hashes(kinds: &Kinds) -> Hashes {
    let text = unpack();
    let definitions = by_name(kinds, &text);
    let hash = |scope: Scope<'_>| (scope.name(), hash_of(&assemble(kinds, scope, &definitions)));
    Scope::all(kinds).into_iter().map(hash).collect_ordered()
}

/// What changes when a document does.
pub(super) fn hash_of(document: &[u8]) -> String {
    Sha512::digest(document).iter().fold(String::new(), |mut hash, byte| {
        write!(hash, "{byte:02X}").expect("writing to a string works");
        hash
    })
}

fn unpack() -> String {
    let mut text = String::new();
    DeflateDecoder::new(PACKED).read_to_string(&mut text).expect("`cargo schemas` packed text");
    text
}

/// Definition → its JSON.
fn by_name<'a>(kinds: &'a Kinds, text: &'a str) -> ordered::Map<&'a str, &'a str> {
    let packed = text.lines().filter_map(|line| line.split_once('\t'));
    let added = kinds.iter().flat_map(|kind| kind.published().iter().map(|(name, json)| (&**name, &**json)));
    packed.chain(added).collect()
}

fn base_path(group: &str, version: &str) -> String {
    if group.is_empty() { format!("/api/{version}") } else { format!("/apis/{group}/{version}") }
}

/// A document: its paths, and every definition that they lead to.
fn assemble(kinds: &Kinds, scope: Scope<'_>, definitions: &ordered::Map<&str, &str>) -> Bytes {
    let paths = Value::Object(scope.paths(kinds)).to_string();
    let mut wanted = Set::new();
    let mut queue = references(&paths);
    while let Some(name) = queue.pop() {
        if wanted.insert(name) {
            queue.extend(definitions.get(name).map(|json| references(json)).unwrap_or_default());
        }
    }
    let info = json!({ "title": "Kubernetes", "version": KUBERNETES_VERSION });
    let security = json!({ "BearerToken": {
        "description": "Bearer Token authentication", "in": "header", "name": "authorization", "type": "apiKey",
    } });
    let mut out = format!("{{\"openapi\":\"3.0.0\",\"info\":{info},\"paths\":{paths},\"components\":{{\"schemas\":{{");
    for (i, (name, json)) in wanted.iter().filter_map(|n| definitions.get_key_value(n)).enumerate() {
        let comma = if i > 0 { "," } else { "" };
        write!(out, "{comma}\"{name}\":{json}").expect("writing to a string works");
    }
    write!(out, "}},\"securitySchemes\":{security}}}}}").expect("writing to a string works");
    out.into()
}

/// The definitions that a JSON text refers to.
fn references(json: &str) -> Vec<&str> {
    json.split(REF_PREFIX).skip(1).filter_map(|rest| rest.split('"').next()).collect()
}

/// The paths of one kind.
fn add_kind(paths: &mut Map<String, Value>, kind: &KindRef) {
    let info = kind.info();
    let base = base_path(info.group, info.version);
    let (objects, scope) = if info.is_namespaced() {
        (format!("{base}/namespaces/{{namespace}}/{}", info.plural), "Namespaced")
    } else {
        (format!("{base}/{}", info.plural), "")
    };
    let of = Subject {
        info,
        returns_deleted: kind.returns_deleted(),
        parameters: &[],
        scope,
        body: info.schema.to_owned(),
        kind: kind_of(info),
        suffix: String::new(),
    };
    let mut in_scope = parameters(&[PRETTY]);
    if info.is_namespaced() {
        in_scope.push(path_parameter("namespace", "The namespace of the objects."));
    }
    let mut named = in_scope.clone();
    named.push(path_parameter("name", "The name of the object."));
    let has = |verb: &str| info.verbs.contains(&verb);
    let verbs = |all: &[(&'static str, Action)]| -> Vec<(&'static str, Action)> {
        all.iter().copied().filter(|(verb, _)| has(verb)).collect()
    };
    let of_many =
        verbs(&[("list", Action::List), ("create", Action::Create), ("deletecollection", Action::DeleteMany)]);
    add_path(paths, objects.clone(), &of, &of_many, &in_scope);
    if info.is_namespaced() && has("list") {
        let everywhere = Subject { suffix: "ForAllNamespaces".to_owned(), scope: "", ..of.clone() };
        add_path(
            paths,
            format!("{base}/{}", info.plural),
            &everywhere,
            &[("list", Action::List)],
            &parameters(&[PRETTY]),
        );
    }
    let of_one = verbs(&[
        ("get", Action::Get),
        ("update", Action::Update),
        ("patch", Action::Patch),
        ("delete", Action::Delete),
    ]);
    add_path(paths, format!("{objects}/{{name}}"), &of, &of_one, &named);
    for sub in info.subresources {
        add_path(paths, format!("{objects}/{{name}}/{}", sub.name), &sub_subject(&of, sub), &sub_actions(sub), &named);
    }
}

/// What operations are about.
#[derive(Clone)]
struct Subject<'a> {
    info: &'a KindInfo<'a>,
    /// Whether a delete answers with the object.
    returns_deleted: bool,
    /// What the query of a GET may say.
    parameters: &'a [Parameter<'a>],
    /// `Namespaced`, or nothing: part of operations' names.
    scope: &'a str,
    /// The definition of bodies; empty when they are streams or text.
    body: String,
    kind: [&'a str; 3],
    /// The end of operations' names.
    suffix: String,
}

fn kind_of<'a>(info: &KindInfo<'a>) -> [&'a str; 3] {
    [info.group, info.version, info.kind]
}

fn sub_subject<'a>(parent: &Subject<'a>, sub: &'a Subresource<'a>) -> Subject<'a> {
    let suffix = capitalized(sub.name);
    let Some((group, version, kind)) = sub.body else {
        let body = if sub.name == "log" { String::new() } else { parent.body.clone() };
        return Subject { body, suffix, parameters: sub.parameters, ..parent.clone() };
    };
    let package = if group.is_empty() { "core" } else { group.split('.').next().unwrap_or(group) };
    let of = |prefix: &str| Definition::find(&format!("{prefix}.{package}.{version}.{kind}"));
    let found = of("io.k8s.api").or_else(|| of("com.github.openshift.api"));
    let body = found.map_or_else(String::new, |d| d.name.to_string());
    Subject { body, kind: [group, version, kind], suffix, parameters: sub.parameters, ..parent.clone() }
}

fn sub_actions(sub: &Subresource<'_>) -> Vec<(&'static str, Action)> {
    let known = [
        ("get", Action::Get),
        ("create", Action::Create),
        ("update", Action::Update),
        ("patch", Action::Patch),
        ("delete", Action::Delete),
    ];
    known.into_iter().filter(|(verb, _)| sub.verbs.contains(verb)).collect()
}

/// What an operation does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    List,
    Create,
    DeleteMany,
    Get,
    Update,
    Patch,
    Delete,
}

impl Action {
    /// Method, `x-kubernetes-action`, and the first word of the operation's name.
    fn words(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::List => ("get", "list", "list"),
            Self::Create => ("post", "post", "create"),
            Self::DeleteMany => ("delete", "deletecollection", "delete"),
            Self::Get => ("get", "get", "read"),
            Self::Update => ("put", "put", "replace"),
            Self::Patch => ("patch", "patch", "patch"),
            Self::Delete => ("delete", "delete", "delete"),
        }
    }

    fn description(self, kind: &str) -> String {
        match self {
            Self::List => format!("list or watch objects of kind {kind}"),
            Self::Create => format!("create a {kind}"),
            Self::DeleteMany => format!("delete collection of {kind}"),
            Self::Get => format!("read the specified {kind}"),
            Self::Update => format!("replace the specified {kind}"),
            Self::Patch => format!("partially update the specified {kind}"),
            Self::Delete => format!("delete a {kind}"),
        }
    }

    fn query(self) -> Vec<Value> {
        match self {
            Self::List => parameters(&LIST_PARAMETERS),
            Self::Create | Self::Update => parameters(&WRITE_PARAMETERS),
            Self::Patch => parameters(&[&WRITE_PARAMETERS[..], &FORCE_PARAMETER].concat()),
            Self::DeleteMany => parameters(&[&LIST_PARAMETERS[..], &DELETE_PARAMETERS].concat()),
            Self::Delete => parameters(&DELETE_PARAMETERS),
            Self::Get => Vec::new(),
        }
    }
}

const PRETTY: Parameter<'static> = ("pretty", "string", "If 'true', then the output is pretty printed.");
const LIST_PARAMETERS: [Parameter<'static>; 10] = [
    ("allowWatchBookmarks", "boolean", "Asks for events of type BOOKMARK in a watch."),
    ("continue", "string", "The token of the previous chunk of a list."),
    ("fieldSelector", "string", "Restricts the list to objects with these fields."),
    ("labelSelector", "string", "Restricts the list to objects with these labels."),
    ("limit", "integer", "The most objects to return in one chunk."),
    ("resourceVersion", "string", "The revision from which to list or watch."),
    ("resourceVersionMatch", "string", "How resourceVersion applies to a list."),
    ("sendInitialEvents", "boolean", "Starts a watch with the objects that exist."),
    ("timeoutSeconds", "integer", "Ends the call after this time, whatever happens."),
    ("watch", "boolean", "Sends changes as they happen instead of a list."),
];
const WRITE_PARAMETERS: [Parameter<'static>; 3] = [
    ("dryRun", "string", "With All, everything is done but the change is not kept."),
    ("fieldManager", "string", "The name of who makes the change."),
    ("fieldValidation", "string", "What to do about unknown and duplicate fields: Ignore, Warn or Strict."),
];
const FORCE_PARAMETER: [Parameter<'static>; 1] =
    [("force", "boolean", "Takes over fields that others own. Only for apply.")];
const DELETE_PARAMETERS: [Parameter<'static>; 4] = [
    ("dryRun", "string", "With All, everything is done but the change is not kept."),
    ("gracePeriodSeconds", "integer", "The time until the object may be gone."),
    ("orphanDependents", "boolean", "Deprecated: use propagationPolicy."),
    ("propagationPolicy", "string", "What becomes of dependents: Orphan, Background or Foreground."),
];

fn parameters(which: &[Parameter<'_>]) -> Vec<Value> {
    which
        .iter()
        .map(|(name, kind, description)| {
            json!({ "name": name, "in": "query", "description": description, "schema": { "type": kind, "uniqueItems": true } })
        })
        .collect()
}

fn path_parameter(name: &str, description: &str) -> Value {
    json!({
        "name": name, "in": "path", "required": true, "description": description,
        "schema": { "type": "string", "uniqueItems": true },
    })
}

fn add_path(
    paths: &mut Map<String, Value>,
    path: String,
    of: &Subject<'_>,
    actions: &[(&str, Action)],
    parameters: &[Value],
) {
    if actions.is_empty() {
        return;
    }
    let mut item = Map::new();
    item.insert("parameters".to_owned(), json!(parameters));
    for (_, action) in actions {
        item.insert(action.words().0.to_owned(), operation(of, *action));
    }
    paths.insert(path, Value::Object(item));
}

fn operation(of: &Subject<'_>, action: Action) -> Value {
    let (_, word, verb) = action.words();
    let is_stream = of.body.is_empty() && of.suffix != "Log";
    let group = if of.info.group.is_empty() { "core" } else { of.info.group.split('.').next().unwrap_or_default() };
    let version = capitalized(of.info.version);
    let collection = if action == Action::DeleteMany { "Collection" } else { "" };
    let id = format!("{verb}{}{version}{collection}{}{}{}", capitalized(group), of.scope, of.info.kind, of.suffix);
    let [kind_group, kind_version, kind] = of.kind;
    let mut operation = json!({
        "tags": [format!("{group}_{}", of.info.version)],
        "description": if is_stream { format!("connect to {} of a {}", of.suffix, of.info.kind) } else { action.description(kind) },
        "operationId": id,
        "responses": responses(of, action),
        "x-kubernetes-action": if is_stream { "connect" } else { word },
        "x-kubernetes-group-version-kind": { "group": kind_group, "version": kind_version, "kind": kind },
    });
    let query = if action == Action::Get { parameters(of.parameters) } else { action.query() };
    if !query.is_empty() && !is_stream {
        operation["parameters"] = json!(query);
    }
    if let Some(body) = request_body(of, action) {
        operation["requestBody"] = body;
    }
    operation
}

fn reference(definition: &str) -> Value {
    json!({ "$ref": format!("{REF_PREFIX}{definition}") })
}

fn content(types: &[&str], definition: &str) -> Value {
    let schema = if definition.is_empty() { json!({ "type": "string" }) } else { reference(definition) };
    types.iter().map(|t| ((*t).to_owned(), json!({ "schema": schema }))).collect::<Map<_, _>>().into()
}

fn request_body(of: &Subject<'_>, action: Action) -> Option<Value> {
    if of.body.is_empty() {
        return None;
    }
    Some(match action {
        Action::Create | Action::Update => json!({ "content": content(&["*/*"], &of.body), "required": true }),
        Action::Patch => json!({ "content": content(&PATCH_TYPES, &format!("{META}.Patch")), "required": true }),
        Action::Delete | Action::DeleteMany => {
            json!({ "content": content(&["*/*"], &format!("{META}.DeleteOptions")) })
        }
        Action::List | Action::Get => return None,
    })
}

fn responses(of: &Subject<'_>, action: Action) -> Value {
    let definition = match action {
        Action::List => format!("{}List", of.body),
        Action::Delete if of.returns_deleted => of.body.clone(),
        Action::Delete | Action::DeleteMany => format!("{META}.Status"),
        Action::Create | Action::Get | Action::Update | Action::Patch => of.body.clone(),
    };
    let types = if definition.is_empty() { &["text/plain"][..] } else { &["application/json", "application/yaml"] };
    let good = |description: &str| json!({ "description": description, "content": content(types, &definition) });
    let mut responses = json!({ "200": good("OK"), "401": { "description": "Unauthorized" } });
    if matches!(action, Action::Create | Action::Update | Action::Patch) && !definition.is_empty() {
        responses["201"] = good("Created");
    }
    responses
}

/// `events.k8s.io` is `Events`, `v1` is `V1`.
fn capitalized(word: &str) -> String {
    let mut chars = word.chars();
    chars.next().map_or_else(String::new, |first| first.to_ascii_uppercase().to_string() + chars.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str) -> Value {
        serde_json::from_slice(&document(&Kinds::default(), name).expect("it is served")).expect("a document is JSON")
    }

    #[test]
    fn the_index_names_every_document_with_its_hash() {
        let kinds = Kinds::default();
        let hashes = hashes(&kinds);
        let index = index(&hashes);
        let paths = index["paths"].as_object().expect("the index has paths");
        for name in ["version", "api", "api/v1", "apis", "apis/apps", "apis/apps/v1"] {
            assert!(paths.contains_key(name), "{name}: {paths:?}");
        }
        for info in kinds.infos() {
            let name = Scope::Kinds(info.group, info.version).name();
            let hash = hashes.get(&name).expect("it is served");
            assert_eq!(hash.len(), 128);
            assert_eq!(paths[&name]["serverRelativeURL"], format!("/openapi/v3/{name}?hash={hash}"));
        }
        assert_eq!(document(&kinds, "apis/apps/v9"), None);
        assert_eq!(hashes.get("apis/nothing"), None);
        let version = read("version");
        assert_eq!(version["paths"]["/version/"]["get"]["operationId"], "getCodeVersion");
        assert!(version["components"]["schemas"]["io.k8s.apimachinery.pkg.version.Info"].is_object());
        assert_eq!(read("apis/apps")["paths"]["/apis/apps/"]["get"]["operationId"], "getAppsAPIGroup");
        assert_eq!(read("apis/apps/v1")["paths"]["/apis/apps/v1/"]["get"]["operationId"], "getAppsV1APIResources");
    }

    #[test]
    fn every_reference_of_a_document_leads_somewhere() {
        for name in hashes(&Kinds::default()).keys() {
            let document = read(name);
            let schemas = document["components"]["schemas"].as_object().expect("there are schemas");
            for definition in references(&document.to_string()) {
                assert!(schemas.contains_key(definition), "{name}: {definition}");
            }
        }
    }

    #[test]
    fn operation_names_are_unique_and_speak_of_kinds_that_are_there() {
        for name in hashes(&Kinds::default()).keys() {
            let document = read(name);
            let mut names = Set::new();
            for (path, item) in document["paths"].as_object().expect("there are paths") {
                for operation in item.as_object().into_iter().flat_map(Map::values).filter(|o| o.is_object()) {
                    let name = operation["operationId"].as_str().expect("operations have names").to_owned();
                    assert!(names.insert(name.clone()), "{path}: {name} is there twice");
                }
            }
        }
    }

    /// What kubectl reads to decide that the server validates fields and takes strategic merge patches.
    #[test]
    fn patches_of_a_deployment_are_described_as_kubectl_wants_them() {
        let document = read("apis/apps/v1");
        let patch = &document["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"]["patch"];
        assert_eq!(
            patch["x-kubernetes-group-version-kind"],
            json!({"group": "apps", "version": "v1", "kind": "Deployment"})
        );
        assert_eq!(patch["operationId"], "patchAppsV1NamespacedDeployment");
        let query: Vec<&str> = patch["parameters"]
            .as_array()
            .expect("there are parameters")
            .iter()
            .filter_map(|p| p["name"].as_str())
            .collect();
        assert_eq!(query, ["dryRun", "fieldManager", "fieldValidation", "force"]);
        assert!(patch["requestBody"]["content"]["application/strategic-merge-patch+json"]["schema"].is_object());
        let schemas = &document["components"]["schemas"];
        assert_eq!(
            schemas["io.k8s.api.apps.v1.Deployment"]["x-kubernetes-group-version-kind"],
            json!([{"group": "apps", "version": "v1", "kind": "Deployment"}])
        );
        let containers = &schemas["io.k8s.api.core.v1.PodSpec"]["properties"]["containers"];
        assert_eq!(containers["x-kubernetes-patch-merge-key"], "name");
        assert_eq!(containers["x-kubernetes-patch-strategy"], "merge");
        assert_eq!(containers["x-kubernetes-list-map-keys"], json!(["name"]));
        let scale = &document["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}/scale"]["get"];
        assert_eq!(scale["x-kubernetes-group-version-kind"]["kind"], "Scale");
        assert!(schemas["io.k8s.api.autoscaling.v1.Scale"].is_object());
        assert!(!document.to_string().contains("go-type"));
    }
    #[test]
    fn a_deletion_and_a_log_are_described_as_they_answer() {
        let document = read("api/v1");
        let paths = &document["paths"];
        let answer = |path: &str| {
            let content = &paths[path]["delete"]["responses"]["200"]["content"]["application/json"]["schema"]["$ref"];
            content.as_str().and_then(|name| name.rsplit('.').next()).unwrap_or_default().to_owned()
        };
        let of = |plural: &str| answer(&format!("/api/v1/namespaces/{{namespace}}/{plural}/{{name}}"));
        assert_eq!(
            (of("pods"), of("services"), of("serviceaccounts")),
            ("Pod".into(), "Service".into(), "ServiceAccount".into())
        );
        assert_eq!((of("secrets"), answer("/api/v1/nodes/{name}")), ("Status".into(), "Status".into()));
        let log = &paths["/api/v1/namespaces/{namespace}/pods/{name}/log"]["get"]["parameters"];
        let names: Vec<&str> = log.as_array().into_iter().flatten().filter_map(|p| p["name"].as_str()).collect();
        assert!(
            ["container", "follow", "previous", "tailLines", "timestamps"].iter().all(|n| names.contains(n)),
            "{names:?}"
        );
    }
}
