//! Definitions that k8s-openapi has not, from a terse file of the repository; the head of `openshift.yaml` says how it is written.

use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

const FILE: &str = include_str!("openshift.yaml");

/// Package → name → definition.
type Packages = BTreeMap<String, BTreeMap<String, Own>>;

/// A definition as the file has it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Own {
    about: String,
    kind: Option<String>,
    #[serde(default)]
    listed: bool,
    #[serde(default)]
    fields: BTreeMap<String, (String, String)>,
}

/// A definition, complete.
pub(crate) struct Definition {
    /// Its full name.
    pub(crate) name: String,
    /// Its schema.
    pub(crate) schema: Value,
    /// Group and version, when it is a kind.
    pub(crate) kind: Option<(String, String)>,
    /// Whether it has a list.
    pub(crate) is_listed: bool,
}

/// All of them.
pub(crate) fn definitions() -> Vec<Definition> {
    let packages: Packages = serde_yaml::from_str(FILE).unwrap_or_else(|err| panic!("openshift.yaml: {err}"));
    let of = |(package, all): (String, BTreeMap<String, Own>)| {
        all.into_iter().map(|(name, own)| own.complete(&package, &name)).collect::<Vec<_>>()
    };
    packages.into_iter().flat_map(of).collect()
}

impl Own {
    fn complete(self, package: &str, name: &str) -> Definition {
        let mut properties = Map::new();
        let mut required = Vec::new();
        for (field, (type_name, about)) in &self.fields {
            let name = field.trim_end_matches('!');
            if name != field {
                required.push(name);
            }
            let mut schema = type_schema(package, type_name);
            schema["description"] = json!(about);
            properties.insert(name.to_owned(), schema);
        }
        if self.kind.is_some() {
            for field in ["apiVersion", "kind"] {
                properties.insert(field.to_owned(), json!({ "type": "string", "description": "As in every object." }));
            }
        }
        let kind = self.kind.map(|kind| {
            let (group, version) = kind.split_once('/').unwrap_or(("", &kind));
            (group.to_owned(), version.to_owned())
        });
        let mut schema = json!({ "description": self.about, "type": "object", "properties": properties });
        if !required.is_empty() {
            schema["required"] = json!(required);
        }
        Definition { name: format!("{package}.{name}"), schema, kind, is_listed: self.listed }
    }
}

fn type_schema(package: &str, name: &str) -> Value {
    if let Some(items) = name.strip_prefix("list of ") {
        return json!({ "type": "array", "items": type_schema(package, items) });
    }
    if let Some(values) = name.strip_prefix("map of ") {
        return json!({ "type": "object", "additionalProperties": type_schema(package, values) });
    }
    match name {
        "string" | "boolean" | "object" => json!({ "type": name }),
        "bytes" => json!({ "type": "string", "format": "byte" }),
        "int32" | "int64" => json!({ "type": "integer", "format": name }),
        _ => json!({ "$ref": format!("{}{}", super::REF_PREFIX, full_name(package, name)) }),
    }
}

fn full_name(package: &str, name: &str) -> String {
    match name.rsplit_once('.') {
        None => format!("{package}.{name}"),
        Some(("meta", name)) => format!("{}.{name}", super::META),
        Some(("resource", name)) => format!("io.k8s.apimachinery.pkg.api.resource.{name}"),
        Some(("util.intstr", name)) => format!("io.k8s.apimachinery.pkg.util.intstr.{name}"),
        Some((group, name)) => format!("io.k8s.api.{group}.v1.{name}"),
    }
}
