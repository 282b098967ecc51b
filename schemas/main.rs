//! `cargo schemas`: packs the schemas of the built-in kinds into files of the repository, so that neither a build nor a run generates them.
//! `cargo schemas --check` changes nothing, and fails when the files are not what it would write.
//!
//! Input: k8s-openapi's types, the facts they lack, and the definitions that it has not (`openshift.yaml`). Output, in `src/api/schema/packed`:
//! - `structure.txt`: every definition's fields and their types, one line each, read by `src/api/schema/structure.rs`;
//! - `definitions.z`: the same definitions as OpenAPI wants them, with descriptions, one `name<TAB>JSON` line each, deflated;
//! - `sums.txt`: of what the two were made from, and of themselves; the crate's tests compare it, which needs no generator.
//!
//! It is a package of its own because it needs k8s-openapi with schemars, which takes longer to compile than the rest of a build.
//!
//! To publish a kind: its line in [`pack_kinds`], or its definition in `openshift.yaml`; and its facts in `src/api/schema/facts.rs`.

#[path = "../src/api/schema/facts.rs"]
mod facts;
mod own;
#[path = "../src/api/schema/sums.rs"]
mod sums;

use facts::{EMBEDDED, FACTS, Fact};
use k8s_openapi::{
    ListableResource, Resource,
    api::{
        admissionregistration::v1 as admissionregistration,
        apps::v1 as apps,
        authentication::v1 as authentication,
        authorization::v1 as authorization,
        autoscaling::{v1 as autoscaling, v2 as autoscaling_v2},
        batch::v1 as batch,
        certificates::v1 as certificates,
        coordination::v1 as coordination,
        core::v1 as core,
        discovery::v1 as discovery,
        events::v1 as events,
        flowcontrol::v1 as flowcontrol,
        networking::v1 as networking,
        node::v1 as node,
        policy::v1 as policy,
        rbac::v1 as rbac,
        resource::v1 as resource,
        scheduling::v1 as scheduling,
        storage::v1 as storage,
        storagemigration::v1 as storagemigration,
    },
    apiextensions_apiserver::pkg::apis::apiextensions::v1 as apiextensions,
    apimachinery::pkg::{apis::meta::v1 as meta, version},
};
use schemars::{JsonSchema, Schema, SchemaGenerator, generate::SchemaSettings};
use serde_json::{Map, Value, json};
use std::{collections::BTreeMap, env, fmt::Write as _, fs, io::Write as _, path::Path, process::ExitCode};

const REF_PREFIX: &str = "#/components/schemas/";
const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";

/// The kinds that clients may see. `kind` has no list; `listed` has one; `plain` has no group of its own.
fn pack_kinds(pack: &mut Pack) {
    pack.kind::<core::Binding>();
    pack.listed::<core::ComponentStatus>();
    pack.listed::<core::ConfigMap>();
    pack.listed::<core::Endpoints>();
    pack.listed::<core::Event>();
    pack.listed::<core::LimitRange>();
    pack.listed::<core::Namespace>();
    pack.listed::<core::Node>();
    pack.listed::<core::PersistentVolume>();
    pack.listed::<core::PersistentVolumeClaim>();
    pack.listed::<core::Pod>();
    pack.listed::<core::PodTemplate>();
    pack.listed::<core::ReplicationController>();
    pack.listed::<core::ResourceQuota>();
    pack.listed::<core::Secret>();
    pack.listed::<core::Service>();
    pack.listed::<core::ServiceAccount>();
    pack.listed::<admissionregistration::MutatingAdmissionPolicy>();
    pack.listed::<admissionregistration::MutatingAdmissionPolicyBinding>();
    pack.listed::<admissionregistration::MutatingWebhookConfiguration>();
    pack.listed::<admissionregistration::ValidatingAdmissionPolicy>();
    pack.listed::<admissionregistration::ValidatingAdmissionPolicyBinding>();
    pack.listed::<admissionregistration::ValidatingWebhookConfiguration>();
    pack.listed::<apiextensions::CustomResourceDefinition>();
    pack.listed::<apps::ControllerRevision>();
    pack.listed::<apps::DaemonSet>();
    pack.listed::<apps::Deployment>();
    pack.listed::<apps::ReplicaSet>();
    pack.listed::<apps::StatefulSet>();
    pack.kind::<authentication::SelfSubjectReview>();
    pack.kind::<authentication::TokenRequest>();
    pack.kind::<authentication::TokenReview>();
    pack.kind::<authorization::LocalSubjectAccessReview>();
    pack.kind::<authorization::SelfSubjectAccessReview>();
    pack.kind::<authorization::SelfSubjectRulesReview>();
    pack.kind::<authorization::SubjectAccessReview>();
    pack.listed::<autoscaling::HorizontalPodAutoscaler>();
    pack.kind::<autoscaling::Scale>();
    pack.listed::<autoscaling_v2::HorizontalPodAutoscaler>();
    pack.listed::<batch::CronJob>();
    pack.listed::<batch::Job>();
    pack.listed::<certificates::CertificateSigningRequest>();
    pack.listed::<coordination::Lease>();
    pack.listed::<discovery::EndpointSlice>();
    pack.listed::<events::Event>();
    pack.listed::<flowcontrol::FlowSchema>();
    pack.listed::<flowcontrol::PriorityLevelConfiguration>();
    pack.listed::<networking::IPAddress>();
    pack.listed::<networking::Ingress>();
    pack.listed::<networking::IngressClass>();
    pack.listed::<networking::NetworkPolicy>();
    pack.listed::<networking::ServiceCIDR>();
    pack.listed::<node::RuntimeClass>();
    pack.kind::<policy::Eviction>();
    pack.listed::<policy::PodDisruptionBudget>();
    pack.listed::<rbac::ClusterRole>();
    pack.listed::<rbac::ClusterRoleBinding>();
    pack.listed::<rbac::Role>();
    pack.listed::<rbac::RoleBinding>();
    pack.listed::<resource::DeviceClass>();
    pack.listed::<resource::DeviceTaintRule>();
    pack.listed::<resource::ResourceClaim>();
    pack.listed::<resource::ResourceClaimTemplate>();
    pack.listed::<resource::ResourceSlice>();
    pack.listed::<scheduling::PriorityClass>();
    pack.listed::<storage::CSIDriver>();
    pack.listed::<storage::CSINode>();
    pack.listed::<storage::CSIStorageCapacity>();
    pack.listed::<storage::StorageClass>();
    pack.listed::<storage::VolumeAttachment>();
    pack.listed::<storage::VolumeAttributesClass>();
    pack.listed::<storagemigration::StorageVersionMigration>();
    pack.kind::<meta::APIGroup>();
    pack.kind::<meta::APIGroupList>();
    pack.kind::<meta::APIResourceList>();
    pack.kind::<meta::APIVersions>();
    pack.kind::<meta::Status>();
    pack.plain::<meta::DeleteOptions>();
    pack.plain::<meta::MicroTime>();
    pack.plain::<meta::Patch>();
    pack.plain::<meta::WatchEvent<Value>>();
    pack.plain::<version::Info>();
}

/// Definitions as they are gathered: name → schema.
struct Pack {
    generator: SchemaGenerator,
    /// Definition → its groups, versions and kinds.
    kinds: BTreeMap<String, Vec<[String; 3]>>,
    /// Definition of a list → definition of its items.
    lists: BTreeMap<String, String>,
    /// Definitions that no type has.
    own: BTreeMap<String, Value>,
}

impl Pack {
    fn new() -> Self {
        let settings = SchemaSettings::openapi3().with(|s| s.transforms.clear());
        Self {
            generator: settings.into_generator(),
            kinds: BTreeMap::new(),
            lists: BTreeMap::new(),
            own: BTreeMap::new(),
        }
    }

    fn plain<T: JsonSchema>(&mut self) -> String {
        let _: Schema = self.generator.subschema_for::<T>();
        T::schema_name().into_owned()
    }

    fn kind<T: JsonSchema + Resource>(&mut self) -> String {
        let name = self.plain::<T>();
        self.is_kind(&name, T::GROUP, T::VERSION, T::KIND);
        name
    }

    fn is_kind(&mut self, definition: &str, group: &str, version: &str, kind: &str) {
        self.kinds.entry(definition.to_owned()).or_default().push([group, version, kind].map(str::to_owned));
    }

    fn listed<T: JsonSchema + ListableResource>(&mut self) {
        self.plain::<meta::ListMeta>();
        let item = self.kind::<T>();
        let list = format!("{item}List");
        self.is_kind(&list, T::GROUP, T::VERSION, T::LIST_KIND);
        self.lists.insert(list, item);
    }

    fn own(&mut self, own: own::Definition) {
        let kind = own.name.rsplit('.').next().expect("split gives at least one part").to_owned();
        if let Some((group, version)) = &own.kind {
            self.is_kind(&own.name, group, version, &kind);
            if own.is_listed {
                let list = format!("{}List", own.name);
                self.is_kind(&list, group, version, &format!("{kind}List"));
                self.lists.insert(list, own.name.clone());
            }
        }
        self.own.insert(own.name, own.schema);
    }

    /// All definitions, complete.
    fn finish(mut self) -> BTreeMap<String, Value> {
        let mut definitions: BTreeMap<String, Value> = self.generator.take_definitions(false).into_iter().collect();
        definitions.extend(self.own);
        for (list, item) in &self.lists {
            definitions.insert(list.clone(), list_schema(item));
        }
        for (name, kinds) in &self.kinds {
            let kinds =
                kinds.iter().map(|[group, version, kind]| json!({"group": group, "kind": kind, "version": version}));
            definitions.get_mut(name).expect("kinds are defined")["x-kubernetes-group-version-kind"] = kinds.collect();
        }
        for (name, schema) in &mut definitions {
            tidy(schema, name.ends_with("List"));
        }
        add_facts(&mut definitions);
        definitions
    }
}

fn list_schema(item: &str) -> Value {
    let kind = item.rsplit('.').next().expect("split gives at least one part");
    json!({
        "description": format!("{kind}List is a list of {kind} objects."),
        "type": "object",
        "properties": {
            "apiVersion": {
                "description": "APIVersion defines the versioned schema of this representation of an object.",
                "type": "string",
            },
            "items": { "description": "List of objects.", "type": "array", "items": { "$ref": format!("{REF_PREFIX}{item}") } },
            "kind": {
                "description": "Kind is a string value representing the REST resource this object represents.",
                "type": "string",
            },
            "metadata": { "description": "Standard list metadata.", "$ref": format!("{REF_PREFIX}{META}.ListMeta") },
        },
        "required": ["items"],
    })
}

/// Brings a schema into the form that Kubernetes publishes.
fn tidy(schema: &mut Value, is_list: bool) {
    let Some(object) = schema.as_object_mut() else { return };
    // Kubernetes says of a choice between a schema and something else only that there is one.
    if object.get("description").and_then(Value::as_str).is_some_and(|d| d.starts_with("JSONSchemaPropsOr")) {
        object.remove("oneOf");
    }
    if object.remove("x-kubernetes-int-or-string").is_some() {
        let is_quantity = object.get("description").and_then(Value::as_str).is_some_and(|d| d.starts_with("Quantity"));
        if is_quantity {
            object.insert("oneOf".into(), json!([{ "type": "string" }, { "type": "number" }]));
        } else {
            object.insert("format".into(), json!("int-or-string"));
            object.insert("oneOf".into(), json!([{ "type": "integer" }, { "type": "string" }]));
        }
    }
    // What stands beside a `$ref` is lost on strict readers, so Kubernetes wraps the reference.
    if object.len() > 1
        && let Some(reference) = object.remove("$ref")
    {
        object.insert("allOf".into(), json!([{ "$ref": reference }]));
    }
    if object.get("type") == Some(&json!("array")) && !is_list {
        object.insert("x-kubernetes-list-type".into(), json!("atomic"));
    }
    if let Some(properties) = object.get_mut("properties").and_then(Value::as_object_mut) {
        for (name, property) in properties {
            tidy(property, is_list && name == "items");
        }
    }
    for inner in ["items", "additionalProperties"] {
        if let Some(inner) = object.get_mut(inner) {
            tidy(inner, false);
        }
    }
}

fn add_facts(definitions: &mut BTreeMap<String, Value>) {
    for (name, fields) in FACTS {
        let definition = definitions.get_mut(*name).unwrap_or_else(|| panic!("facts.rs: no definition {name}"));
        for (field, fact) in *fields {
            let target =
                if field.is_empty() { Some(&mut *definition) } else { definition["properties"].get_mut(field) };
            let target =
                target.and_then(Value::as_object_mut).unwrap_or_else(|| panic!("facts.rs: no field {name}.{field}"));
            add_fact(target, fact);
        }
    }
    for (name, embedded, fields) in EMBEDDED {
        let definition = definitions.get_mut(*name).unwrap_or_else(|| panic!("facts.rs: no definition {name}"));
        let properties = definition["properties"].as_object_mut().expect("what embeds has fields");
        for (_, property) in properties.iter_mut().filter(|(field, _)| fields.contains(field)) {
            property["go-embedded"] = json!(embedded);
        }
    }
}

fn add_fact(target: &mut Map<String, Value>, fact: &Fact) {
    let mut set = |key: &str, value: Value| {
        let is_given = match &value {
            Value::String(s) => !s.is_empty(),
            Value::Array(a) => !a.is_empty(),
            _ => true,
        };
        if is_given {
            target.insert(key.to_owned(), value);
        }
    };
    set("x-kubernetes-patch-merge-key", json!(fact.merge_key));
    set("x-kubernetes-patch-strategy", json!(fact.strategy));
    set("x-kubernetes-list-type", json!(fact.list_type));
    set("x-kubernetes-list-map-keys", json!(fact.map_keys));
    set("x-kubernetes-map-type", json!(if fact.is_atomic { "atomic" } else { "" }));
    set("enum", json!(fact.values));
    set("default", json!(fact.default));
    set("go-type", json!(fact.go_type));
}

/// One line for each definition and field. A field's line is: name, type, then what there is of `!` (required), `k=` merge key,
/// `s=` strategy, `l=` list type, `m=` map keys, `a` (atomic map), `g=` Go type, `e=` the type that Go embeds to have the field.
fn structure(definitions: &BTreeMap<String, Value>) -> String {
    let ids: BTreeMap<&str, usize> = definitions.keys().enumerate().map(|(i, name)| (name.as_str(), i)).collect();
    let mut out = String::new();
    for (name, schema) in definitions {
        let atomic = if schema.get("x-kubernetes-map-type").is_some() { " a" } else { "" };
        // A definition without fields is a value: its own line has its type.
        let empty = Map::new();
        let properties = schema.get("properties").and_then(Value::as_object).unwrap_or(&empty);
        let value = if properties.is_empty() { type_code(name, schema, &ids) } else { "-".to_owned() };
        writeln!(out, "={name} {value}{atomic}").expect("writing to a string works");
        let required: Vec<&str> =
            schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        for (field, property) in properties {
            write!(out, "{field} {}", type_code("", property, &ids)).expect("writing to a string works");
            if required.contains(&field.as_str()) {
                out.push_str(" !");
            }
            out.push_str(&marks(property));
            out.push('\n');
        }
    }
    out
}

fn marks(property: &Value) -> String {
    let mut out = String::new();
    for (mark, key) in [
        ("k=", "x-kubernetes-patch-merge-key"),
        ("s=", "x-kubernetes-patch-strategy"),
        ("l=", "x-kubernetes-list-type"),
        ("g=", "go-type"),
        ("e=", "go-embedded"),
    ] {
        if let Some(text) = property.get(key).and_then(Value::as_str).filter(|t| *t != "atomic") {
            write!(out, " {mark}{text}").expect("writing to a string works");
        }
    }
    if let Some(keys) = property.get("x-kubernetes-list-map-keys").and_then(Value::as_array) {
        let keys: Vec<&str> = keys.iter().filter_map(Value::as_str).collect();
        write!(out, " m={}", keys.join(",")).expect("writing to a string works");
    }
    if property.get("x-kubernetes-map-type").is_some() {
        out.push_str(" a");
    }
    out
}

/// A type in a few letters; see `src/api/schema/structure.rs`.
fn type_code(name: &str, schema: &Value, ids: &BTreeMap<&str, usize>) -> String {
    let reference = schema.get("$ref").or_else(|| schema["allOf"].get(0).and_then(|s| s.get("$ref")));
    let referred = reference.and_then(Value::as_str).and_then(|r| r.strip_prefix(REF_PREFIX));
    let known = match referred.unwrap_or(name).rsplit_once('.').map(|(_, last)| last) {
        Some("Quantity") => Some("q"),
        Some("IntOrString") => Some("o"),
        Some("Time") => Some("t"),
        Some("MicroTime") => Some("u"),
        Some("FieldsV1" | "RawExtension" | "Patch" | "JSON") => Some("x"),
        Some(choice) if choice.starts_with("JSONSchemaPropsOr") => Some("x"),
        _ => None,
    };
    if let Some(code) = known {
        return code.to_owned();
    }
    if let Some(referred) = referred {
        return format!("@{}", ids[referred]);
    }
    let format = schema.get("format").and_then(Value::as_str).unwrap_or_default();
    match (schema.get("type").and_then(Value::as_str).unwrap_or_default(), format) {
        ("string", "byte") => "y".to_owned(),
        ("string", "") => "s".to_owned(),
        ("boolean", _) => "b".to_owned(),
        ("integer", "int32") => "i".to_owned(),
        ("integer", "int64") => "l".to_owned(),
        ("number", _) => "n".to_owned(),
        ("array", _) => format!("[{}", type_code("", &schema["items"], ids)),
        ("object", _) if schema.get("additionalProperties").is_some() => {
            format!("{{{}", type_code("", &schema["additionalProperties"], ids))
        }
        ("object", _) => "x".to_owned(),
        (kind, format) => panic!("no code for type {kind:?} {format:?} of {name}: {schema}"),
    }
}

/// The definitions as documents show them.
fn documents(mut definitions: BTreeMap<String, Value>) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, schema) in &mut definitions {
        if let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) {
            for property in properties.values_mut().filter_map(Value::as_object_mut) {
                property.remove("go-type");
                property.remove("go-embedded");
            }
        }
        writeln!(out, "{name}\t{schema}").expect("writing to memory works");
    }
    out
}

fn main() -> ExitCode {
    let is_check = env::args().nth(1).is_some_and(|argument| argument == "--check");
    let mut pack = Pack::new();
    pack_kinds(&mut pack);
    own::definitions().into_iter().for_each(|own| pack.own(own));
    let definitions = pack.finish();
    let structure = structure(&definitions).into_bytes();
    let mut packed = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
    packed.write_all(&documents(definitions)).expect("writing to memory works");
    let packed = packed.finish().expect("writing to memory works");
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("this package lies in the repository");
    let sums = sums::of(top, &structure, &packed).into_bytes();
    let mut stale = Vec::new();
    for (name, content) in [("structure.txt", structure), ("definitions.z", packed), ("sums.txt", sums)] {
        let path = top.join(sums::FOLDER).join(name);
        if is_check && fs::read(&path).ok().as_ref() != Some(&content) {
            stale.push(name);
        } else if !is_check {
            fs::write(&path, content).unwrap_or_else(|err| panic!("cannot write {}: {err}", path.display()));
        }
    }
    if stale.is_empty() {
        return ExitCode::SUCCESS;
    }
    eprintln!("{} in {} would be written otherwise: run `cargo schemas`, and commit", stale.join(", "), sums::FOLDER);
    ExitCode::FAILURE
}
