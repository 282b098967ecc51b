//! The OpenAPI v2 document: what `/openapi/v2` answers, as JSON and as the protobuf that client-go asks for.
//!
//! Called by the server. It is the v3 documents of all groups in one, in v2's words, made when a client asks; nothing but the hashes is kept.
//! kubectl reads it when v3 has no answer (an unknown group, `explain --output plaintext-openapiv2`), older clients always.
//!
//! Not here: what the paths and definitions are (`openapi`).
//!
//! **Source** of the form: `k8s.io/kube-openapi/pkg/builder` and `pkg/handler`, v1.37; of the field numbers:
//! `openapiv2/OpenAPIv2.proto` of gnostic-models.

use super::openapi::{self, hash_of};
use crate::api::kinds::Kinds;
use bytes::Bytes;
use serde_json::{Map, Value, json};

const V3_REFERENCE: &str = "#/components/schemas/";
const V2_REFERENCE: &str = "#/definitions/";

/// The `ETag` of the document as JSON, and as protobuf, without quotes.
pub fn hashes(kinds: &Kinds) -> [String; 2] {
    [hash_of(&json(kinds)), hash_of(&protobuf(kinds))]
}

/// The document as JSON.
pub fn json(kinds: &Kinds) -> Bytes {
    document(kinds).to_string().into()
}

/// The document as a `openapi.v2.Document` of gnostic.
pub fn protobuf(kinds: &Kinds) -> Bytes {
    let mut out = Vec::new();
    write_message(&mut out, &DOCUMENT, &document(kinds));
    out.into()
}

fn document(kinds: &Kinds) -> Value {
    let (mut paths, mut definitions) = (Map::new(), Map::new());
    for document in openapi::every_document(kinds) {
        let mut document: Value = serde_json::from_slice(&document).expect("a document is JSON");
        paths.extend(taken(&mut document["paths"]).into_iter().map(|(path, item)| (path, path_item(item))));
        let schemas = taken(&mut document["components"]["schemas"]);
        definitions.extend(schemas.into_iter().map(|(name, schema)| (name, in_v2(schema))));
    }
    json!({
        "swagger": "2.0",
        "info": { "title": "Kubernetes", "version": openapi::KUBERNETES_VERSION },
        "paths": paths,
        "definitions": definitions,
        "securityDefinitions": { "BearerToken": {
            "description": "Bearer Token authentication", "type": "apiKey", "name": "authorization", "in": "header",
        } },
        "security": [{ "BearerToken": [] }],
    })
}

fn taken(value: &mut Value) -> Map<String, Value> {
    match value.take() {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

fn path_item(mut item: Value) -> Value {
    let mut out = Map::new();
    for (key, value) in taken(&mut item) {
        let value = if key == "parameters" { json!(in_v2_parameters(value)) } else { operation(value) };
        out.insert(key, value);
    }
    out.into()
}

fn operation(mut operation: Value) -> Value {
    let mut out = taken(&mut operation);
    let mut parameters = out.remove("parameters").map(in_v2_parameters).unwrap_or_default();
    if let Some(body) = out.remove("requestBody") {
        let content = body["content"].as_object().expect("a body has content");
        out.insert("consumes".to_owned(), content.keys().cloned().collect());
        let schema = content.values().next().map(|c| in_v2(c["schema"].clone())).unwrap_or_default();
        let required = body["required"].as_bool().unwrap_or_default();
        parameters.push(json!({ "name": "body", "in": "body", "required": required, "schema": schema }));
    }
    if !parameters.is_empty() {
        out.insert("parameters".to_owned(), json!(parameters));
    }
    let responses = taken(&mut out.remove("responses").unwrap_or_default());
    let types = responses.values().find_map(|r| r["content"].as_object()).map(|c| c.keys().cloned().collect());
    out.insert("produces".to_owned(), types.unwrap_or_else(|| json!(["application/json"])));
    out.insert("responses".to_owned(), responses.into_iter().map(|(code, r)| (code, response(&r))).collect());
    out.into()
}

fn response(response: &Value) -> Value {
    let mut out = json!({ "description": response["description"] });
    if let Some(content) = response["content"].as_object().and_then(|c| c.values().next()) {
        out["schema"] = in_v2(content["schema"].clone());
    }
    out
}

/// In v2 a parameter has its type beside its name.
fn in_v2_parameters(mut parameters: Value) -> Vec<Value> {
    let mut out: Vec<Value> = parameters.as_array_mut().map(std::mem::take).unwrap_or_default();
    for parameter in &mut out {
        let schema = taken(&mut parameter["schema"]);
        let parameter = parameter.as_object_mut().expect("a parameter is an object");
        parameter.remove("schema");
        parameter.extend(schema);
    }
    out
}

/// A schema in v2's words: a reference stands by itself, and a choice of types is a string, as upstream says it.
fn in_v2(mut schema: Value) -> Value {
    let mut out = Map::new();
    for (key, mut value) in taken(&mut schema) {
        match key.as_str() {
            "$ref" => {
                out.insert(key, reference(&value));
            }
            "allOf" => {
                out.insert("$ref".to_owned(), reference(&value[0]["$ref"]));
            }
            "oneOf" => {
                out.insert("type".to_owned(), json!("string"));
            }
            "properties" => {
                let properties = taken(&mut value);
                out.insert(key, properties.into_iter().map(|(name, schema)| (name, in_v2(schema))).collect());
            }
            "items" | "additionalProperties" if value.is_object() => {
                out.insert(key, in_v2(value));
            }
            _ => {
                out.insert(key, value);
            }
        }
    }
    out.into()
}

fn reference(value: &Value) -> Value {
    let to = value.as_str().expect("a reference is text");
    json!(to.replace(V3_REFERENCE, V2_REFERENCE))
}

// Protobuf.

/// A message: the number of each field, and of the two kinds of open fields.
struct Message {
    fields: &'static [(&'static str, u32, Form)],
    /// Where `x-…` fields go; 0: nowhere.
    extensions: u32,
    /// Where all other fields go, as pairs of a name and this.
    entries: Option<(u32, &'static Form)>,
}

/// How the value of a field is written.
enum Form {
    Text,
    Flag,
    Number,
    Count,
    /// Anything, as YAML.
    Any,
    Of(&'static Message),
    /// Each item of a list.
    Each(&'static Self),
    /// Inside one more message that has nothing but this field.
    In(u32, &'static Self),
    /// A schema, or whether any is allowed.
    SchemaOrFlag,
    /// A parameter; where it is sent decides what message it is.
    Parameter,
}

const fn message(fields: &'static [(&'static str, u32, Form)], extensions: u32) -> Message {
    Message { fields, extensions, entries: None }
}

const fn named(number: u32, form: &'static Form, extensions: u32) -> Message {
    Message { fields: &[], extensions, entries: Some((number, form)) }
}

const TEXTS: Form = Form::Each(&Form::Text);

static DOCUMENT: Message = message(
    &[
        ("swagger", 1, Form::Text),
        ("info", 2, Form::Of(&INFO)),
        ("paths", 8, Form::Of(&PATHS)),
        ("definitions", 9, Form::Of(&SCHEMAS)),
        ("security", 12, Form::Each(&Form::Of(&SECURITY_REQUIREMENT))),
        ("securityDefinitions", 13, Form::Of(&SECURITY_DEFINITIONS)),
    ],
    16,
);
static INFO: Message = message(&[("title", 1, Form::Text), ("version", 2, Form::Text)], 7);
static PATHS: Message = named(2, &Form::Of(&PATH_ITEM), 1);
static SCHEMAS: Message = named(1, &Form::Of(&SCHEMA), 0);
static SECURITY_REQUIREMENT: Message = named(1, &Form::Of(&STRING_ARRAY), 0);
static STRING_ARRAY: Message = message(&[], 0);
static SECURITY_DEFINITIONS: Message = named(1, &Form::In(2, &Form::Of(&API_KEY)), 0);
static API_KEY: Message = message(
    &[("type", 1, Form::Text), ("name", 2, Form::Text), ("in", 3, Form::Text), ("description", 4, Form::Text)],
    5,
);
static PATH_ITEM: Message = message(
    &[
        ("get", 2, Form::Of(&OPERATION)),
        ("put", 3, Form::Of(&OPERATION)),
        ("post", 4, Form::Of(&OPERATION)),
        ("delete", 5, Form::Of(&OPERATION)),
        ("patch", 8, Form::Of(&OPERATION)),
        ("parameters", 9, Form::Each(&Form::Parameter)),
    ],
    10,
);
static OPERATION: Message = message(
    &[
        ("tags", 1, TEXTS),
        ("description", 3, Form::Text),
        ("operationId", 5, Form::Text),
        ("produces", 6, TEXTS),
        ("consumes", 7, TEXTS),
        ("parameters", 8, Form::Each(&Form::Parameter)),
        ("responses", 9, Form::Of(&RESPONSES)),
    ],
    13,
);
static RESPONSES: Message = named(1, &Form::In(1, &Form::Of(&RESPONSE)), 2);
static RESPONSE: Message =
    message(&[("description", 1, Form::Text), ("schema", 2, Form::In(1, &Form::Of(&SCHEMA)))], 5);
static BODY_PARAMETER: Message = message(
    &[("name", 2, Form::Text), ("in", 3, Form::Text), ("required", 4, Form::Flag), ("schema", 5, Form::Of(&SCHEMA))],
    6,
);
static QUERY_PARAMETER: Message = message(
    &[
        ("required", 1, Form::Flag),
        ("in", 2, Form::Text),
        ("description", 3, Form::Text),
        ("name", 4, Form::Text),
        ("type", 6, Form::Text),
        ("uniqueItems", 20, Form::Flag),
    ],
    23,
);
static PATH_PARAMETER: Message = message(
    &[
        ("required", 1, Form::Flag),
        ("in", 2, Form::Text),
        ("description", 3, Form::Text),
        ("name", 4, Form::Text),
        ("type", 5, Form::Text),
        ("uniqueItems", 19, Form::Flag),
    ],
    22,
);
static SCHEMA: Message = message(
    &[
        ("$ref", 1, Form::Text),
        ("format", 2, Form::Text),
        ("title", 3, Form::Text),
        ("description", 4, Form::Text),
        ("default", 5, Form::Any),
        ("maximum", 7, Form::Number),
        ("minimum", 9, Form::Number),
        ("maxLength", 11, Form::Count),
        ("minLength", 12, Form::Count),
        ("pattern", 13, Form::Text),
        ("maxItems", 14, Form::Count),
        ("minItems", 15, Form::Count),
        ("uniqueItems", 16, Form::Flag),
        ("maxProperties", 17, Form::Count),
        ("minProperties", 18, Form::Count),
        ("required", 19, TEXTS),
        ("enum", 20, Form::Each(&Form::Any)),
        ("additionalProperties", 21, Form::SchemaOrFlag),
        ("type", 22, Form::In(1, &Form::Text)),
        ("items", 23, Form::In(1, &Form::Of(&SCHEMA))),
        ("properties", 25, Form::Of(&SCHEMAS)),
    ],
    31,
);

fn write_message(out: &mut Vec<u8>, message: &Message, value: &Value) {
    for (key, value) in value.as_object().into_iter().flatten() {
        if let Some((_, number, form)) = message.fields.iter().find(|(name, ..)| name == key) {
            write_field(out, *number, form, value);
        } else if key.starts_with("x-") && message.extensions > 0 {
            write_pair(out, message.extensions, key, &Form::Any, value);
        } else if let Some((number, form)) = message.entries {
            write_pair(out, number, key, form, value);
        } else {
            debug_assert!(false, "the table of messages knows {key}");
        }
    }
}

/// A map's entry: a message of a name and a value.
fn write_pair(out: &mut Vec<u8>, number: u32, name: &str, form: &Form, value: &Value) {
    let mut pair = Vec::new();
    write_bytes(&mut pair, 1, name.as_bytes());
    write_field(&mut pair, 2, form, value);
    write_bytes(out, number, &pair);
}

fn write_field(out: &mut Vec<u8>, number: u32, form: &Form, value: &Value) {
    match form {
        Form::Text => write_bytes(out, number, value.as_str().unwrap_or_default().as_bytes()),
        Form::Flag => write_number(out, number, u64::from(value.as_bool().unwrap_or_default())),
        Form::Count => write_number(out, number, value.as_u64().unwrap_or_default()),
        Form::Number => {
            write_tag(out, number, 1);
            out.extend(value.as_f64().unwrap_or_default().to_le_bytes());
        }
        // JSON is YAML.
        Form::Any => write_in(out, number, |any| write_bytes(any, 2, format!("{value}\n").as_bytes())),
        Form::Of(message) => write_in(out, number, |inner| write_message(inner, message, value)),
        Form::Each(form) => value.as_array().into_iter().flatten().for_each(|v| write_field(out, number, form, v)),
        Form::In(inner, form) => write_in(out, number, |within| write_field(within, *inner, form, value)),
        Form::SchemaOrFlag => write_in(out, number, |either| match value {
            Value::Bool(_) => write_field(either, 2, &Form::Flag, value),
            _ => write_field(either, 1, &Form::Of(&SCHEMA), value),
        }),
        Form::Parameter => write_in(out, number, |item| write_in(item, 1, |p| write_parameter(p, value))),
    }
}

fn write_parameter(out: &mut Vec<u8>, value: &Value) {
    match value["in"].as_str() {
        Some("body") => write_field(out, 1, &Form::Of(&BODY_PARAMETER), value),
        Some("path") => write_in(out, 2, |p| write_field(p, 4, &Form::Of(&PATH_PARAMETER), value)),
        _ => write_in(out, 2, |p| write_field(p, 3, &Form::Of(&QUERY_PARAMETER), value)),
    }
}

fn write_in(out: &mut Vec<u8>, number: u32, write: impl FnOnce(&mut Vec<u8>)) {
    let mut inner = Vec::new();
    write(&mut inner);
    write_bytes(out, number, &inner);
}

fn write_bytes(out: &mut Vec<u8>, number: u32, bytes: &[u8]) {
    write_tag(out, number, 2);
    write_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn write_number(out: &mut Vec<u8>, number: u32, value: u64) {
    write_tag(out, number, 0);
    write_varint(out, value);
}

fn write_tag(out: &mut Vec<u8>, number: u32, wire_type: u8) {
    write_varint(out, u64::from(number) << 3 | u64::from(wire_type));
}

fn write_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    out.push(value.to_le_bytes()[0]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::schema::protobuf::next;

    /// The fields of a message: number and content. Numbers that are not length-delimited have none.
    fn fields(mut bytes: &[u8]) -> Vec<(u32, &[u8])> {
        let all = std::iter::from_fn(|| next(&mut bytes).unwrap());
        all.map(|(number, wire)| (number, wire.bytes().unwrap_or_default())).collect()
    }

    fn only<'a>(fields: &[(u32, &'a [u8])], number: u32) -> &'a [u8] {
        fields.iter().find(|(n, _)| *n == number).unwrap().1
    }

    #[test]
    fn it_has_the_paths_and_definitions_of_every_group_in_the_words_of_v2() {
        let document = document(&Kinds::default());
        let mut without_schemas = document.clone();
        // The schema of schemas has fields of these names.
        let of_schemas = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps";
        assert!(without_schemas["definitions"].as_object_mut().unwrap().remove(of_schemas).is_some());
        let text = without_schemas.to_string();
        for absent in [V3_REFERENCE, "allOf", "oneOf", "requestBody", "\"content\""] {
            assert!(!text.contains(absent), "{absent}");
        }
        let patch = &document["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"]["patch"];
        let validation = patch["parameters"].as_array().unwrap().iter().find(|p| p["name"] == "fieldValidation");
        assert_eq!(validation.unwrap()["type"], "string");
        assert_eq!(patch["x-kubernetes-group-version-kind"]["kind"], "Deployment");
        assert_eq!(document["definitions"]["io.k8s.apimachinery.pkg.util.intstr.IntOrString"]["type"], "string");
        let spec = &document["definitions"]["io.k8s.api.apps.v1.Deployment"]["properties"]["spec"];
        assert_eq!(spec["$ref"], "#/definitions/io.k8s.api.apps.v1.DeploymentSpec");
    }

    #[test]
    fn the_protobuf_says_the_same() {
        let (document, bytes) = (document(&Kinds::default()), protobuf(&Kinds::default()));
        let top = fields(&bytes);
        assert_eq!(only(&top, 1), b"2.0");
        let paths = fields(only(&top, 8));
        assert_eq!(paths.len(), document["paths"].as_object().unwrap().len());
        let definitions = fields(only(&top, 9));
        assert_eq!(definitions.len(), document["definitions"].as_object().unwrap().len());
        let deployment = definitions.iter().map(|(_, d)| fields(d));
        let deployment =
            deployment.filter(|d| only(d, 1) == b"io.k8s.api.apps.v1.Deployment").map(|d| only(&d, 2)).next().unwrap();
        let schema = fields(deployment);
        assert_eq!(only(&fields(only(&schema, 22)), 1), b"object");
        let extension = fields(only(&schema, 31));
        assert_eq!(only(&extension, 1), b"x-kubernetes-group-version-kind");
        let yaml = only(&fields(only(&extension, 2)), 2);
        assert_eq!(yaml, b"[{\"group\":\"apps\",\"kind\":\"Deployment\",\"version\":\"v1\"}]\n");
    }
}
