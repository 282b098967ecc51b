//! `explain`: a kind and its fields, from the schemas that the server publishes.
//!
//! **Source** of the layout: `kubectl/pkg/explain/v2/templates/plaintext.tmpl`, v1.37.

use super::resource::{Scope, kind};
use crate::{
    api::kind::ErasedKind,
    cli::{
        exit::{Class, of_class},
        output,
        watching::text,
    },
};
use anyhow::{Context as _, anyhow, bail};
use serde_json::Value;
use std::fmt::Write as _;

/// How long a line of a description is.
const WIDTH: usize = 76;
/// How deep fields of fields are shown: some kinds hold themselves.
const DEPTH_MAX: usize = 12;
const REFERENCE: &str = "#/components/schemas/";

/// Reads `deployment.spec.strategy`: the kind, and the way to the field. A kind's group has dots as well.
pub(super) fn asked(word: &str) -> anyhow::Result<(&'static dyn ErasedKind, Vec<String>)> {
    let parts: Vec<&str> = word.split('.').collect();
    if parts.contains(&"") {
        return Err(of_class(Class::Usage, anyhow!("{word}: give KIND.FIELD.FIELD")));
    }
    // The longest name that is a kind's; what is left are fields.
    let found = (1..=parts.len()).rev().find_map(|n| Some((kind(&parts[..n].join(".")).ok()?, n)));
    let Some((kind, n)) = found else {
        return Err(kind(parts[0]).err().unwrap_or_else(|| anyhow!("{word}: name a kind")));
    };
    Ok((kind, parts[n..].iter().map(|part| (*part).to_owned()).collect()))
}

pub(super) async fn explain(
    scope: &Scope,
    kind: &'static dyn ErasedKind,
    fields: &[String],
    recursive: bool,
) -> anyhow::Result<()> {
    let info = kind.info();
    let root = if info.group.is_empty() { "api".to_owned() } else { format!("apis/{}", info.group) };
    let document = scope.client.get(&format!("/openapi/v3/{root}/{}", info.version)).await?;
    let schemas = Schemas(&document["components"]["schemas"]);
    let group = if info.group.is_empty() { String::new() } else { format!("GROUP:      {}\n", info.group) };
    let head = format!("{group}KIND:       {}\nVERSION:    {}\n\n", info.kind, info.version);
    output::raw(&(head + &schemas.page((info.group, info.version, info.kind), fields, recursive)?));
    Ok(())
}

/// The schemas of a group version, by name.
struct Schemas<'a>(&'a Value);

impl<'a> Schemas<'a> {
    fn page(&self, kind: (&str, &str, &str), fields: &[String], recursive: bool) -> anyhow::Result<String> {
        let mut schema = self.of_kind(kind).with_context(|| format!("the server publishes no schema of {}", kind.2))?;
        let mut page = String::new();
        let mut said = Vec::new();
        for (n, field) in fields.iter().enumerate() {
            let property = &self.inner(schema)["properties"][field];
            if property.is_null() {
                bail!("field {field:?} does not exist");
            }
            if n + 1 == fields.len() {
                writeln!(page, "FIELD: {field} <{}>", type_of(property))?;
                match self.resolve(property)["enum"].as_array() {
                    None => page += "\n\n",
                    Some(values) => {
                        let values = values.iter().filter_map(Value::as_str).map(|value| format!("    {value}\n"));
                        page += &format!("ENUM:\n{}\n", values.collect::<String>());
                    }
                }
                said.push(text(property, "/description"));
            }
            schema = property;
        }
        let inner = self.inner(schema);
        said.push(text(inner, "/description"));
        said.retain(|text| !text.is_empty());
        said.dedup();
        page += "DESCRIPTION:\n";
        let said = if said.is_empty() { vec!["<empty>"] } else { said };
        said.iter().for_each(|text| page += &wrapped(text, 4));
        page += "    \n";
        if inner["properties"].is_object() {
            page += "FIELDS:\n";
            page += &self.fields(inner, 1, recursive);
        }
        Ok(page.trim_end().to_owned() + "\n")
    }

    fn fields(&self, schema: &Value, depth: usize, recursive: bool) -> String {
        let required = |name: &String| {
            let all = schema["required"].as_array();
            if all.is_some_and(|all| all.iter().any(|one| one == name)) { " -required-" } else { "" }
        };
        let indent = "  ".repeat(depth);
        let mut lines = String::new();
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            lines += &format!("{indent}{name}\t<{}>{}\n", type_of(property), required(name));
            let inner = self.inner(property);
            if recursive {
                if depth < DEPTH_MAX {
                    lines += &self.fields(inner, depth + 1, true);
                }
                continue;
            }
            if let Some(values) = self.resolve(property)["enum"].as_array() {
                let values: Vec<&str> = values.iter().filter_map(Value::as_str).collect();
                lines += &format!("{indent}enum: {}\n", values.join(", "));
            }
            let own = text(property, "/description");
            lines += &wrapped(if own.is_empty() { text(inner, "/description") } else { own }, 4);
            lines += "\n";
        }
        lines
    }

    fn of_kind(&self, (group, version, kind): (&str, &str, &str)) -> Option<&'a Value> {
        let is_it = |schema: &&Value| {
            let all = schema["x-kubernetes-group-version-kind"].as_array().into_iter().flatten();
            all.into_iter().any(|one| one["group"] == group && one["version"] == version && one["kind"] == kind)
        };
        self.0.as_object()?.values().find(is_it)
    }

    /// The schema that another refers to, or itself.
    fn resolve(&self, schema: &'a Value) -> &'a Value {
        match reference(schema).and_then(|name| self.0.get(name)) {
            Some(found) => found,
            None => schema,
        }
    }

    /// The schema of what is within lists and maps.
    fn inner(&self, schema: &'a Value) -> &'a Value {
        let schema = self.resolve(schema);
        match (&schema["items"], &schema["additionalProperties"]) {
            (items @ Value::Object(_), _) => self.inner(items),
            (_, values @ Value::Object(_)) => self.inner(values),
            _ => schema,
        }
    }
}

/// `integer`, `[]Container`, `map[string]string`.
fn type_of(schema: &Value) -> String {
    if let Some(name) = reference(schema) {
        let short = name.rsplit('.').next().unwrap_or(name);
        return short.to_owned();
    }
    match (&schema["items"], &schema["additionalProperties"]) {
        (items @ Value::Object(_), _) => format!("[]{}", type_of(items)),
        (_, values @ Value::Object(_)) => format!("map[string]{}", type_of(values)),
        _ => {
            Some(text(schema, "/type")).filter(|name| !name.is_empty()).unwrap_or("Object").replace("object", "Object")
        }
    }
}

/// The name of the schema that this one refers to.
fn reference(schema: &Value) -> Option<&str> {
    let one = schema.get("$ref").or_else(|| schema.pointer("/allOf/0/$ref"))?;
    one.as_str()?.strip_prefix(REFERENCE)
}

/// The words in lines.
fn wrapped(text: &str, indent: usize) -> String {
    let indent = " ".repeat(indent);
    let mut lines = String::new();
    for paragraph in text.lines() {
        let mut line = String::new();
        for word in paragraph.split_whitespace() {
            if !line.is_empty() && line.len() + 1 + word.len() > WIDTH {
                lines += &format!("{indent}{line}\n");
                line.clear();
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line += word;
        }
        lines += &format!("{indent}{line}\n");
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn document() -> Value {
        let gvk = json!([{ "group": "", "version": "v1", "kind": "Pod" }]);
        json!({
            "x.Pod": { "description": "A pod.", "x-kubernetes-group-version-kind": gvk, "required": ["spec"],
                "properties": { "spec": { "allOf": [{ "$ref": "#/components/schemas/x.PodSpec" }], "description": "What is wanted." } } },
            "x.PodSpec": { "description": "A description of a pod.", "properties": {
                "containers": { "type": "array", "items": { "$ref": "#/components/schemas/x.Container" } },
                "policy": { "type": "string", "enum": ["A", "B"], "description": "word ".repeat(20) },
                "labels": { "type": "object", "additionalProperties": { "type": "string" } } } },
            "x.Container": { "properties": { "name": { "type": "string", "description": "Its name." } } },
        })
    }

    fn page(fields: &str, recursive: bool) -> Result<String, String> {
        let fields: Vec<String> = fields.split_whitespace().map(str::to_owned).collect();
        let page = Schemas(&document()).page(("", "v1", "Pod"), &fields, recursive).map_err(|err| err.to_string())?;
        // kubectl ends descriptions with spaces.
        Ok(page.lines().map(|line| line.trim_end().to_owned() + "\n").collect())
    }

    #[test]
    fn kinds_and_fields_read_as_in_kubectl() {
        expect_test::expect![[r#"
            FIELD: spec <PodSpec>


            DESCRIPTION:
                What is wanted.
                A description of a pod.

            FIELDS:
              containers	<[]Container>

              labels	<map[string]string>

              policy	<string>
              enum: A, B
                word word word word word word word word word word word word word word word
                word word word word word
        "#]]
        .assert_eq(&page("spec", false).unwrap());
        expect_test::expect![[r#"
            DESCRIPTION:
                A pod.

            FIELDS:
              spec	<PodSpec> -required-
                containers	<[]Container>
                  name	<string>
                labels	<map[string]string>
                policy	<string>
        "#]]
        .assert_eq(&page("", true).unwrap());
        expect_test::expect![[r#"
            FIELD: policy <string>
            ENUM:
                A
                B

            DESCRIPTION:
                word word word word word word word word word word word word word word word
                word word word word word
        "#]]
        .assert_eq(&page("spec policy", false).unwrap());
        assert_eq!(page("spec nope", false).unwrap_err(), "field \"nope\" does not exist");
    }

    #[test]
    fn a_kind_and_the_way_to_a_field_are_told_apart() {
        let read = |word: &str| asked(word).map(|(kind, fields)| (kind.info().plural, fields.join("/")));
        assert_eq!(read("pods.spec.containers").unwrap(), ("pods", "spec/containers".to_owned()));
        assert_eq!(read("deployments.apps").unwrap(), ("deployments", String::new()));
        assert_eq!(read("ingress.networking.k8s.io.spec").unwrap(), ("ingresses", "spec".to_owned()));
        assert!(read("podz.spec").unwrap_err().to_string().contains("\"podz\""));
        assert!(read("pods.").is_err());
    }
}
