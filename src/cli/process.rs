//! `skiff process`: makes the objects of an OpenShift Template, as `oc process --local` does, for those who have no `oc`. Needs no cluster.
//!
//! Objects of OpenShift that the template writes as `v1` get the version of their group: kubectl knows no other.
//! **Source** of what is read and said: github.com/openshift/oc, `pkg/cli/process/process.go`, release 4.20.

use super::{
    convert::read_file,
    exit::{Class, of_class},
    output,
};
use crate::{
    api::{
        field::FieldError,
        kinds,
        template::{self, KIND},
    },
    base::rng::Rng,
};
use anyhow::{Context as _, bail};
use serde_json::{Value, json};
use std::path::PathBuf;

/// Arguments of `skiff process`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  skiff process -f template.yaml -p NAME=web | kubectl apply -f -\n  skiff process -f template.yaml --parameters"
)]
pub(super) struct Args {
    /// The template's file, or - for standard input
    #[arg(short = 'f', long = "filename")]
    file: PathBuf,
    /// Give a parameter a value
    #[arg(short = 'p', long = "param", value_name = "NAME=VALUE")]
    parameters: Vec<String>,
    /// Read values from a file of lines NAME=VALUE; those of --param go before
    #[arg(long, value_name = "FILE")]
    param_file: Vec<PathBuf>,
    /// Give every object a label
    #[arg(short = 'l', long, value_delimiter = ',', value_name = "KEY=VALUE")]
    labels: Vec<String>,
    /// Show the parameters, and make nothing
    #[arg(long = "parameters")]
    show: bool,
    /// Pass over values of parameters that the template has not
    #[arg(long)]
    ignore_unknown_parameters: bool,
}

pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    let found = the_template(read_file(&args.file)?).with_context(|| args.file.display().to_string());
    let mut template = found.map_err(|err| of_class(Class::Input, err))?;
    if args.show {
        output::raw(&table(&template));
        return Ok(());
    }
    let mut given = Vec::new();
    for file in &args.param_file {
        let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        given.extend(lines.map(str::to_owned));
    }
    given.extend(args.parameters.iter().cloned());
    give(&mut template, &given, args.ignore_unknown_parameters)?;
    for label in &args.labels {
        let (key, value) = pair(label, "label")?;
        template["labels"][key] = json!(value);
    }
    let rng = Rng::from_system();
    let mut draw = |bound: usize| usize::try_from(rng.between(0, bound as u64)).expect("below a usize");
    template::process(&mut template, &mut draw).map_err(|errors| anyhow::anyhow!(told(&errors)))?;
    if let Some(message) = template["message"].as_str().filter(|message| !message.is_empty()) {
        output::aside(message.trim_end());
    }
    output::raw(&manifest(&mut template)?);
    Ok(())
}

/// The objects of a template that is processed, as documents.
fn manifest(template: &mut Value) -> serde_yaml::Result<String> {
    let mut text = String::new();
    for object in template["objects"].as_array_mut().into_iter().flatten() {
        kinds::put_in_group(object);
        text += "---\n";
        text += &serde_yaml::to_string(object)?;
    }
    Ok(text)
}

fn told(errors: &[FieldError]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// The one template among the objects of a file.
fn the_template(objects: Vec<Value>) -> anyhow::Result<Value> {
    let mut templates: Vec<Value> = objects.into_iter().filter(|object| object["kind"] == KIND).collect();
    match (templates.pop(), templates.len()) {
        (Some(template), 0) => Ok(template),
        (Some(_), more) => bail!("there are {} templates, and one is made at a time", more + 1),
        (None, _) => bail!("there is no object of kind {KIND}"),
    }
}

fn pair<'a>(text: &'a str, what: &str) -> anyhow::Result<(&'a str, &'a str)> {
    let pair = text.split_once('=').filter(|(name, _)| !name.is_empty());
    pair.with_context(|| format!("invalid {what} assignment in {text:?}: give NAME=VALUE"))
}

/// Gives parameters values; the last counts.
fn give(template: &mut Value, given: &[String], ignores_unknown: bool) -> anyhow::Result<()> {
    for text in given {
        let (name, value) = pair(text, "parameter")?;
        let mut parameters = template["parameters"].as_array_mut().into_iter().flatten();
        match parameters.find(|parameter| parameter["name"] == name) {
            Some(parameter) => {
                parameter["value"] = json!(value);
                parameter["generate"] = json!("");
            }
            None if ignores_unknown => {}
            None => bail!("unknown parameter name {name:?}; `skiff process --parameters` shows those there are"),
        }
    }
    Ok(())
}

/// The parameters, as `oc process --parameters` shows them.
fn table(template: &Value) -> String {
    let text = |parameter: &Value, field: &str| parameter[field].as_str().unwrap_or_default().to_owned();
    let row = |parameter: &Value| {
        let value = match &*text(parameter, "generate") {
            "" => text(parameter, "value"),
            _ => text(parameter, "from"),
        };
        [text(parameter, "name"), text(parameter, "description"), text(parameter, "generate"), value]
    };
    let head = ["NAME", "DESCRIPTION", "GENERATOR", "VALUE"].map(str::to_owned);
    let rows: Vec<[String; 4]> =
        std::iter::once(head).chain(template["parameters"].as_array().into_iter().flatten().map(row)).collect();
    let cells: Vec<[&str; 4]> = rows.iter().map(|row| std::array::from_fn(|n| &*row[n])).collect();
    output::columns(&cells).into_iter().map(|line| line + "\n").collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template() -> Value {
        json!({ "kind": "Template", "parameters": [
            { "name": "NAME", "value": "web", "description": "What it is called." },
            { "name": "KEY", "generate": "expression", "from": "[a-z]{4}" },
        ] })
    }

    #[test]
    fn values_are_given_by_name_and_the_last_counts() {
        let mut given = template();
        give(&mut given, &["NAME=a".into(), "KEY=k=v".into(), "NAME=b".into()], false).unwrap();
        assert_eq!((&given["parameters"][0]["value"], &given["parameters"][1]["value"]), (&json!("b"), &json!("k=v")));
        let wrong = |text: &str, ignores| give(&mut template(), &[text.into()], ignores).map_err(|err| err.to_string());
        assert_eq!(
            wrong("OTHER=1", false).unwrap_err(),
            "unknown parameter name \"OTHER\"; `skiff process --parameters` shows those there are"
        );
        assert_eq!(wrong("OTHER=1", true), Ok(()));
        assert_eq!(wrong("NAME", false).unwrap_err(), "invalid parameter assignment in \"NAME\": give NAME=VALUE");
    }

    #[test]
    fn parameters_are_shown_as_a_table() {
        expect_test::expect![[r"
            NAME  DESCRIPTION         GENERATOR   VALUE
            NAME  What it is called.              web
            KEY                       expression  [a-z]{4}
        "]]
        .assert_eq(&table(&template()));
    }

    #[test]
    fn objects_are_documents_that_kubectl_knows() {
        let mut processed = json!({ "objects": [
            { "apiVersion": "v1", "kind": "Route" }, { "apiVersion": "v1", "kind": "Service" },
        ] });
        expect_test::expect![[r"
            ---
            apiVersion: route.openshift.io/v1
            kind: Route
            ---
            apiVersion: v1
            kind: Service
        "]]
        .assert_eq(&manifest(&mut processed).unwrap());
    }

    #[test]
    fn a_file_has_one_template() {
        let said = |objects: Vec<Value>| the_template(objects).map(|_| ()).map_err(|err| err.to_string());
        assert_eq!(said(vec![json!({ "kind": "Pod" }), template()]), Ok(()));
        assert_eq!(said(vec![json!({ "kind": "Pod" })]).unwrap_err(), "there is no object of kind Template");
        assert_eq!(said(vec![template(), template()]).unwrap_err(), "there are 2 templates, and one is made at a time");
    }
}
