//! Templates of OpenShift: parameters get their values, and the objects are made with them. Pure; chance is the caller's.
//!
//! Called by the server for `processedtemplates`, and by `skiff process`.
//! **Source**: github.com/openshift/library-go, `pkg/template/{templateprocessing,generator}`, release 4.20.

use super::field::FieldError;
use crate::base::ordered::CollectOrdered as _;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// The kind.
pub const KIND: &str = "Template";
/// Its group and version.
pub const API_VERSION: &str = "template.openshift.io/v1";

/// Characters that the classes of an expression stand for.
const LETTERS: &str = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
const DIGITS: &str = "0123456789";
const SYMBOLS: &str = "~!@#$%^&*()-_+={}[]\\|<,>.?/\"';:`";
/// How many characters one part of an expression may make.
const LENGTH_MAX: usize = 255;

/// Draws a number below a bound.
pub type Draw<'a> = &'a mut dyn FnMut(usize) -> usize;

/// Gives every parameter of a template its value, and puts the values into its objects, labels and message. A namespace that an object
/// names itself goes, so that it is made where the template is processed; one that a parameter names stays.
///
/// # Errors
/// What is wrong, by its place: a parameter without the value it needs, an expression that makes none, an object that is none, a
/// `${{NAME}}` whose value is not JSON.
pub fn process(template: &mut Value, draw: Draw<'_>) -> Result<(), Vec<FieldError>> {
    let mut errors = generate(template["parameters"].as_array_mut().into_iter().flatten(), draw);
    if !errors.is_empty() {
        return Err(errors);
    }
    let values = Values::of(template);
    if let Some(message) = template["message"].as_str() {
        template["message"] = Value::String(values.text(message));
    }
    let labels: Map<String, Value> = template["labels"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, value)| (values.text(key), Value::String(values.text(value.as_str().unwrap_or_default()))))
        .collect_ordered();
    if !labels.is_empty() {
        template["labels"] = Value::Object(labels.clone());
    }
    for (i, object) in template["objects"].as_array_mut().into_iter().flatten().enumerate() {
        errors.extend(
            one(object, &values, &labels)
                .map_err(|(part, why)| FieldError::invalid(format!("item[{i}].{part}"), object.clone(), why))
                .err(),
        );
    }
    if errors.is_empty() { Ok(()) } else { Err(errors) }
}

/// Makes one object; or says in which part what is wrong.
fn one(object: &mut Value, values: &Values, labels: &Map<String, Value>) -> Result<(), (&'static str, String)> {
    if object["kind"].as_str().unwrap_or_default().is_empty() {
        return Err(("objects", "unable to handle object: Object 'Kind' is missing".to_owned()));
    }
    if let Some(metadata) = object["metadata"].as_object_mut() {
        let is_own = |namespace: &Value| namespace.as_str().is_none_or(|text| references(text).next().is_none());
        if metadata.get("namespace").is_some_and(is_own) {
            metadata.remove("namespace");
        }
    }
    values.put(object).map_err(|why| ("parameters", why))?;
    if !labels.is_empty() {
        let fields = object.as_object_mut().expect("it has a kind");
        let metadata = fields.entry("metadata").or_insert_with(|| Value::Object(Map::new()));
        let Some(metadata) = metadata.as_object_mut() else {
            return Err(("labels", "label could not be applied: the metadata is no object".to_owned()));
        };
        let held = metadata.entry("labels").or_insert_with(|| Value::Object(Map::new()));
        match held.as_object_mut() {
            Some(held) => held.extend(labels.clone()),
            None => *held = Value::Object(labels.clone()),
        }
    }
    Ok(())
}

/// Gives parameters without a value the one that they say how to make.
fn generate<'a>(parameters: impl Iterator<Item = &'a mut Value>, draw: Draw<'_>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (i, parameter) in parameters.enumerate() {
        let text = |field: &str| parameter[field].as_str().unwrap_or_default().to_owned();
        if !text("value").is_empty() {
            continue;
        }
        let (path, name, generator) = (format!("template.parameters[{i}]"), text("name"), text("generate"));
        match &*generator {
            "" => {}
            "expression" => match expression(&text("from"), draw) {
                Ok(value) => parameter["value"] = Value::String(value),
                Err(why) => {
                    errors.push(FieldError::invalid(path, text("from"), why));
                    continue;
                }
            },
            other => {
                let why = format!("Unknown generator name '{other}' for parameter {name}");
                errors.push(FieldError::invalid(path, other, why));
                continue;
            }
        }
        if parameter["value"].as_str().unwrap_or_default().is_empty() && parameter["required"] == true {
            let why = format!("{path}: parameter {name} is required and must be specified");
            errors.push(FieldError::required(path, why));
        }
    }
    errors
}

/// A text that an expression describes: what stands outside of `[…]{N}` as it is, and N of the characters within for each of those.
fn expression(text: &str, draw: Draw<'_>) -> Result<String, String> {
    let (mut made, mut rest) = (String::new(), text);
    while let Some(at) = rest.find('[') {
        let (before, from) = rest.split_at(at);
        made.push_str(before);
        let Some((class, digits, after)) = class_and_length(from) else {
            made.push('[');
            rest = &from[1..];
            continue;
        };
        let length: usize = digits.parse().unwrap_or(usize::MAX);
        if !(1..=LENGTH_MAX).contains(&length) {
            return Err(format!("Range must be within [1-{LENGTH_MAX}] characters ({digits})"));
        }
        let characters = characters(class)?;
        made.extend((0..length).map(|_| characters[draw(characters.len())]));
        rest = after;
    }
    made.push_str(rest);
    Ok(made)
}

/// What is in `[…]{N}` at the start of a text, the N, and what follows.
fn class_and_length(text: &str) -> Option<(&str, &str, &str)> {
    let (class, rest) = text.strip_prefix('[')?.split_once(']')?;
    let is_class = !class.is_empty() && class.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '\\');
    let (digits, after) = rest.strip_prefix('{')?.split_once('}')?;
    let is_number = !digits.is_empty() && digits.chars().all(|c| c.is_ascii_digit());
    (is_class && is_number).then_some((class, digits, after))
}

/// The characters of a class such as `a-zA-Z0-9` or `\w`, each once.
fn characters(class: &str) -> Result<Vec<char>, String> {
    let mut found: Vec<char> = Vec::new();
    let mut chars = class.chars().peekable();
    while let Some(c) = chars.next() {
        let part: String = match c {
            '\\' => match chars.next() {
                Some('w') => format!("{LETTERS}{DIGITS}_"),
                Some('d') => DIGITS.to_owned(),
                Some('a') => format!("{LETTERS}{DIGITS}"),
                Some('A') => SYMBOLS.to_owned(),
                _ => return Err(format!("Malformed range syntax: {class}")),
            },
            '-' => return Err(format!("Malformed range syntax: {class}")),
            first if chars.next_if_eq(&'-').is_some() => {
                let last = chars.next().filter(char::is_ascii_alphanumeric);
                let last = last.ok_or_else(|| format!("Malformed range syntax: {class}"))?;
                range(first, last).ok_or_else(|| format!("Invalid range specified: {first}-{last}"))?
            }
            one => one.to_string(),
        };
        part.chars().for_each(|c| {
            if !found.contains(&c) {
                found.push(c);
            }
        });
    }
    Ok(found)
}

/// The characters from one to another, in the order of letters and in that of digits.
fn range(first: char, last: char) -> Option<String> {
    [LETTERS, DIGITS].iter().find_map(|all| {
        let (first, last) = (all.find(first)?, all.find(last)?);
        all.get(first..=last).filter(|range| !range.is_empty()).map(str::to_owned)
    })
}

/// The values of parameters.
struct Values(BTreeMap<String, String>);

impl Values {
    fn of(template: &Value) -> Self {
        let text = |parameter: &Value, field: &str| parameter[field].as_str().unwrap_or_default().to_owned();
        let all = template["parameters"].as_array().into_iter().flatten();
        Self(all.map(|parameter| (text(parameter, "name"), text(parameter, "value"))).collect_ordered())
    }

    /// A text with the values of those parameters that it names and that there are.
    fn text(&self, text: &str) -> String {
        let mut out = text.to_owned();
        for name in references(text) {
            if let Some(value) = self.0.get(name) {
                out = out.replacen(&format!("${{{name}}}"), value, 1);
            }
        }
        out
    }

    /// Puts the values into all texts of a value, keys too. One that is `${{NAME}}` and nothing else becomes the JSON that the value is.
    fn put(&self, value: &mut Value) -> Result<(), String> {
        match value {
            Value::String(text) => match self.whole(text) {
                Some((name, json)) => {
                    *value = serde_json::from_slice(json.as_bytes()).map_err(|err| {
                        format!("parameter {name} stands for a whole value, and {json:?} is not JSON: {err}")
                    })?;
                }
                None => *text = self.text(text),
            },
            Value::Array(items) => items.iter_mut().try_for_each(|item| self.put(item))?,
            Value::Object(fields) => {
                let mut made = Map::new();
                for (key, mut field) in std::mem::take(fields) {
                    self.put(&mut field)?;
                    made.insert(self.text(&key), field);
                }
                *fields = made;
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
        Ok(())
    }

    fn whole<'t>(&'t self, text: &'t str) -> Option<(&'t str, &'t str)> {
        let name = text.strip_prefix("${{")?.strip_suffix("}}")?;
        self.0.get(name).map(|value| (name, &**value))
    }
}

/// The names in `${NAME}` of a text, in order.
fn references(text: &str) -> impl Iterator<Item = &str> {
    text.split("${").skip(1).filter_map(|rest| rest.split_once('}')).map(|(name, _)| name).filter(|name| is_name(name))
}

/// Whether a parameter may be called so.
pub fn is_name(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn processed(mut template: Value) -> Result<Value, Vec<String>> {
        let done = process(&mut template, &mut |bound| bound - 1);
        done.map(|()| template).map_err(|errors| errors.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn values_go_into_texts_keys_labels_and_whole_values() {
        let made = processed(json!({
            "message": "Ask ${NAME}.",
            "labels": { "app-${NAME}": "${NAME}" },
            "parameters": [
                { "name": "NAME", "value": "web" },
                { "name": "COUNT", "value": "3" },
                { "name": "EMPTY" },
            ],
            "objects": [{
                "kind": "DeploymentConfig",
                "metadata": { "name": "${NAME}-${NAME}", "namespace": "elsewhere", "labels": { "a": "b" } },
                "spec": { "replicas": "${{COUNT}}", "key-${NAME}": ["${UNKNOWN}", "x${{COUNT}}", "[${EMPTY}]", 1, null] },
            }, { "kind": "Route", "metadata": { "namespace": "${NAME}" } }],
        }))
        .unwrap();
        assert_eq!(made["message"], "Ask web.");
        assert_eq!(made["labels"], json!({ "app-web": "web" }));
        let labels = json!({ "a": "b", "app-web": "web" });
        assert_eq!(
            made["objects"][0],
            json!({
                "kind": "DeploymentConfig",
                "metadata": { "name": "web-web", "labels": labels },
                "spec": { "replicas": 3, "key-web": ["${UNKNOWN}", "x${{COUNT}}", "[]", 1, null] },
            })
        );
        assert_eq!(made["objects"][1]["metadata"]["namespace"], "web", "a parameter may name a namespace");
    }

    #[test]
    fn a_parameter_that_must_have_a_value_and_an_object_that_is_none_are_told() {
        let parameter = |more: Value| {
            let mut parameter = json!({ "name": "P" });
            parameter.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            processed(json!({ "parameters": [{ "name": "A", "value": "a" }, parameter], "objects": [] })).unwrap_err()
        };
        assert_eq!(
            parameter(json!({ "required": true })),
            [
                "template.parameters[1]: Required value: template.parameters[1]: parameter P is required and must be specified"
            ]
        );
        assert_eq!(
            parameter(json!({ "generate": "dice" })),
            ["template.parameters[1]: Invalid value: \"dice\": Unknown generator name 'dice' for parameter P"]
        );
        assert_eq!(
            parameter(json!({ "generate": "expression", "from": "[z-a]{3}" })),
            ["template.parameters[1]: Invalid value: \"[z-a]{3}\": Invalid range specified: z-a"]
        );
        let bad = |object: Value| {
            let parameters = json!([{ "name": "N", "value": "three" }]);
            processed(json!({ "parameters": parameters, "objects": [object] })).unwrap_err().remove(0)
        };
        assert!(bad(json!({ "metadata": {} })).ends_with("unable to handle object: Object 'Kind' is missing"));
        assert!(
            bad(json!({ "kind": "A", "n": "${{N}}" }))
                .contains("parameter N stands for a whole value, and \"three\" is not JSON")
        );
    }

    #[test]
    fn expressions_make_what_they_describe() {
        let made = |text: &str| expression(text, &mut |bound| bound - 1);
        for (from, value) in [
            ("test[0-9]{1}x", "test9x"),
            ("[0-1]{8}", "11111111"),
            ("0x[A-F0-9]{4}", "0x9999"),
            (r"[\w]{2}-[\d]{1}[\a]{1}", "__-99"),
            ("plain", "plain"),
            ("[a-z]", "[a-z]"),
            ("[a-z]{x}", "[a-z]{x}"),
            ("[abc]{2}", "cc"),
        ] {
            assert_eq!(made(from).as_deref(), Ok(value), "{from}");
        }
        assert_eq!(made("[a-z]{256}").unwrap_err(), "Range must be within [1-255] characters (256)");
        assert_eq!(made("[a-z]{0}").unwrap_err(), "Range must be within [1-255] characters (0)");
        assert_eq!(made("[a-]{2}").unwrap_err(), "Malformed range syntax: a-");
        assert_eq!(made("[9-0]{2}").unwrap_err(), "Invalid range specified: 9-0");
    }
}
