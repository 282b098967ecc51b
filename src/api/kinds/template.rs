//! `Template`, template.openshift.io/v1: objects with parameters, and what is sent to be made of one.
//!
//! **Not here**: how it is processed (`api/template`).
//! **Source**: github.com/openshift/openshift-apiserver, `pkg/template/apis/template/validation` and `pkg/template/printers`, release 4.20.

use crate::api::{
    field::FieldError,
    json_kind::{JsonKind, Rules, at},
    kind::{KindInfo, Scope},
    object::Untyped,
    table::{self, Column},
    template::is_name,
};
use jiff::Timestamp;
use serde_json::{Value, json};

/// How much of a description a row shows.
const DESCRIPTION_MAX: usize = 80;
const GROUP: &str = "template.openshift.io";

/// The kind `Template`.
pub static TEMPLATES: JsonKind = JsonKind::new(
    KindInfo {
        columns: &[
            Column::name(),
            Column::text("Description", "What it is for."),
            Column::text("Parameters", "How many there are, and how many have no value."),
            Column::text("Objects", "How many objects it makes."),
        ],
        ..KindInfo::of(
            (GROUP, "v1", "Template"),
            ("templates", "template"),
            Scope::Namespaced,
            "com.github.openshift.api.template.v1.Template",
        )
    },
    Rules { validate, row, ..Rules::PLAIN },
);

/// What a template is sent to, to be processed. OpenShift calls this kind Template too; a name of its own leaves no doubt which resource
/// an object of kind Template is.
pub static PROCESSED_TEMPLATES: JsonKind = JsonKind::new(
    KindInfo {
        verbs: &["create"],
        ..KindInfo::of(
            (GROUP, "v1", "ProcessedTemplate"),
            ("processedtemplates", "processedtemplate"),
            Scope::Namespaced,
            "com.github.openshift.api.template.v1.ProcessedTemplate",
        )
    },
    Rules::PLAIN,
);

fn parameters(obj: &Untyped) -> &[Value] {
    at(&obj.rest, "parameters").and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn validate(obj: &Untyped) -> Vec<FieldError> {
    let name = |parameter: &Value| parameter["name"].as_str().unwrap_or_default().to_owned();
    let wrong = |(i, name): (usize, String)| match &*name {
        "" => Some(FieldError::required(format!("parameters[{i}].name"), "")),
        name if !is_name(name) => {
            Some(FieldError::invalid(format!("parameters[{i}].name"), name, "does not match ^[a-zA-Z0-9_]+$"))
        }
        _ => None,
    };
    parameters(obj).iter().map(name).enumerate().filter_map(wrong).collect()
}

fn row(obj: &Untyped, _now: Timestamp) -> Vec<Value> {
    let described = obj.metadata.annotations.as_ref().and_then(|all| all.get("description"));
    let objects = at(&obj.rest, "objects").and_then(Value::as_array).map_or(0, Vec::len);
    vec![
        table::name(&obj.metadata),
        json!(short(described.map_or("", String::as_str))),
        json!(counted(parameters(obj))),
        json!(objects.to_string()),
    ]
}

/// The first line of a description, if it is not too long.
fn short(text: &str) -> String {
    let first = match text.split_once('\n') {
        Some((first, _)) => format!("{first}..."),
        None => text.to_owned(),
    };
    if first.chars().count() <= DESCRIPTION_MAX {
        return first;
    }
    format!("{}...", first.chars().take(DESCRIPTION_MAX - 3).collect::<String>().trim())
}

/// How many parameters there are, and how many have no value or make one.
fn counted(all: &[Value]) -> String {
    let is_set = |parameter: &&Value, field: &str| !parameter[field].as_str().unwrap_or_default().is_empty();
    let open: Vec<&Value> = all.iter().filter(|parameter| !is_set(parameter, "value")).collect();
    let made = open.iter().filter(|parameter| is_set(parameter, "generate")).count();
    match (open.len() - made, made) {
        (0, 0) => format!("{} (all set)", all.len()),
        (0, made) => format!("{} ({made} generated)", all.len()),
        (blank, _) => format!("{} ({blank} blank)", all.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::kinds::testing::json::row;

    #[test]
    fn rows_tell_what_is_to_be_given() {
        let with = |parameters: &str| {
            row(
                &TEMPLATES,
                &format!(
                    "metadata: {{name: web, annotations: {{description: Pods}}}}\nobjects: [{{}}]\nparameters: {parameters}\n"
                ),
            )
        };
        assert_eq!(with("[]"), "web | Pods | 0 (all set) | 1");
        assert_eq!(with("[{name: A, value: a}, {name: B, generate: expression}]"), "web | Pods | 2 (1 generated) | 1");
        assert_eq!(with("[{name: A}, {name: B, generate: expression}]"), "web | Pods | 2 (1 blank) | 1");
        assert_eq!(short("one\ntwo"), "one...");
        assert_eq!(short(&"x".repeat(90)), format!("{}...", "x".repeat(77)));
    }
}
