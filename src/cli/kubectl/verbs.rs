//! What the verbs do.

use super::{
    Format, Measured, Part, Step,
    resource::{Asked, Named, Scope, collection, kind, qualified},
    told,
};
use crate::{
    base::{clock::Clock, ordered::SortList as _},
    cli::{
        exit::{Class, of_class},
        output,
        watching::{Objects, is_true, number, text, until},
    },
    client::PatchKind,
};
use anyhow::{Context as _, anyhow, bail};
use http::StatusCode;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Map, Value, json};
use std::{io::Write as _, time::Duration};

/// What asks the server to print.
const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io";
/// How long a deletion, and a rollout, is waited for.
const GONE_WITHIN: Duration = Duration::from_mins(5);
const ROLLED_OUT_WITHIN: Duration = Duration::from_mins(10);
/// The annotation that makes a template another one. Source: `kubectl/pkg/polymorphichelpers/objectrestarter.go`, v1.37.
const RESTARTED_AT: &str = "kubectl.kubernetes.io/restartedAt";
const REVISION: &str = "deployment.kubernetes.io/revision";

/// How objects are shown, and which.
pub(super) struct Shown {
    pub(super) format: Option<Format>,
    pub(super) selector: Option<String>,
    pub(super) all_namespaces: bool,
}

impl Shown {
    fn query(&self) -> String {
        let encoded = |text: &String| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        self.selector.as_ref().map(|text| format!("?labelSelector={}", encoded(text))).unwrap_or_default()
    }
}

pub(super) async fn get(scope: &Scope, asked: &[Asked], shown: Shown) -> anyhow::Result<()> {
    let namespace = (!shown.all_namespaces).then_some(&*scope.namespace);
    let mut objects = Vec::new();
    let mut is_first = true;
    for (kind, names) in asked {
        let info = kind.info();
        let list = collection(info, namespace);
        let paths: Vec<String> = if names.is_empty() {
            vec![format!("{list}{}", shown.query())]
        } else {
            names.iter().map(|name| format!("{list}/{name}")).collect()
        };
        let mut tables = Vec::new();
        for path in paths {
            match shown.format {
                None | Some(Format::Wide) => tables.push(scope.client.get_as(&path, TABLE).await?),
                Some(_) => objects.extend(items(scope.client.get(&path).await?)),
            }
        }
        let prefix = (asked.len() > 1).then(|| qualified(info));
        let lines = table(
            &tables,
            shown.format == Some(Format::Wide),
            prefix.as_deref(),
            shown.all_namespaces && info.is_namespaced(),
        );
        if !lines.is_empty() {
            if !is_first {
                output::line("");
            }
            is_first = false;
            lines.iter().for_each(output::line);
        }
    }
    match shown.format {
        None | Some(Format::Wide) if is_first => {
            let place = namespace.map(|namespace| format!(" in {namespace} namespace")).unwrap_or_default();
            output::aside(format!("No resources found{place}."));
        }
        None | Some(Format::Wide) => {}
        Some(Format::Name) => objects.iter().for_each(|object| output::line(name_of(object))),
        Some(Format::Json) => output::line(serde_json::to_string_pretty(&one_or_list(objects, asked))?),
        Some(Format::Yaml) => output::raw(&serde_yaml::to_string(&one_or_list(objects, asked))?),
    }
    Ok(())
}

fn name_of(object: &Value) -> String {
    let version = text(object, "/apiVersion");
    let group = version.split_once('/').map(|(group, _)| format!(".{group}")).unwrap_or_default();
    format!("{}{group}/{}", text(object, "/kind").to_lowercase(), text(object, "/metadata/name"))
}

/// The objects of an answer, each with its kind, which a list leaves out.
fn items(mut answer: Value) -> Vec<Value> {
    let kind = text(&answer, "/kind").trim_end_matches("List").to_owned();
    let version = answer["apiVersion"].clone();
    match answer["items"].as_array_mut().map(std::mem::take) {
        None => vec![answer],
        Some(items) => {
            let named = items.into_iter().map(|mut item| {
                (item["kind"], item["apiVersion"]) = (json!(kind), version.clone());
                item
            });
            named.collect()
        }
    }
}

fn one_or_list(mut objects: Vec<Value>, asked: &[Asked]) -> Value {
    let is_one = asked.len() == 1 && asked[0].1.len() == 1;
    match objects.pop() {
        Some(one) if is_one => one,
        last => {
            objects.extend(last);
            json!({ "apiVersion": "v1", "kind": "List", "items": objects, "metadata": {} })
        }
    }
}

/// The lines of the server's tables: those columns that are for everyone, or all.
fn table(tables: &[Value], is_wide: bool, prefix: Option<&str>, has_namespace: bool) -> Vec<String> {
    let Some(first) = tables.first() else { return Vec::new() };
    let columns = first["columnDefinitions"].as_array().cloned().unwrap_or_default();
    let shown: Vec<usize> = (0..columns.len()).filter(|n| is_wide || number(&columns[*n], "/priority") == 0).collect();
    let mut rows: Vec<Vec<String>> = Vec::new();
    for row in tables.iter().flat_map(|table| table["rows"].as_array().into_iter().flatten()) {
        let mut cells: Vec<String> = shown.iter().map(|n| cell(&row["cells"][*n])).collect();
        if let (Some(prefix), Some(name)) = (prefix, cells.first_mut()) {
            *name = format!("{prefix}/{name}");
        }
        if has_namespace {
            cells.insert(0, text(row, "/object/metadata/namespace").to_owned());
        }
        rows.push(cells);
    }
    if rows.is_empty() {
        return Vec::new();
    }
    let mut head: Vec<String> = shown.iter().map(|n| text(&columns[*n], "/name").to_uppercase()).collect();
    if has_namespace {
        head.insert(0, "NAMESPACE".to_owned());
    }
    rows.insert(0, head);
    output::rows(&rows)
}

fn cell(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "<none>".to_owned(),
        other => other.to_string(),
    }
}

pub(super) async fn describe(scope: &Scope, named: &[Named]) -> anyhow::Result<()> {
    for one in named {
        let mut object = scope.client.get(&one.path(scope)).await?;
        if let Some(metadata) = object["metadata"].as_object_mut() {
            metadata.remove("managedFields");
        }
        if one.info().kind == "Secret" {
            hide_values(&mut object);
        }
        output::raw(&serde_yaml::to_string(&object)?);
        let query = format!("?fieldSelector=involvedObject.uid%3D{}", text(&object, "/metadata/uid"));
        let namespace = object["metadata"]["namespace"].as_str();
        let events = format!("{}{query}", collection(kind("events")?.info(), namespace));
        let lines = table(&[scope.client.get_as(&events, TABLE).await?], false, None, false);
        output::line(if lines.is_empty() { "\nEvents: <none>" } else { "\nEvents:" });
        lines.iter().for_each(|line| output::line(format!("  {line}")));
    }
    Ok(())
}

/// What a Secret holds, by its sizes. Source: `describeSecret`, kubectl.
fn hide_values(secret: &mut Value) {
    for value in secret["data"].as_object_mut().into_iter().flat_map(Map::values_mut) {
        let bytes = value.as_str().map_or(0, |text| text.trim_end_matches('=').len() * 3 / 4);
        *value = json!(format!("{bytes} bytes"));
    }
}

pub(super) async fn delete(scope: &Scope, named: &[Named], waits: bool) -> anyhow::Result<()> {
    for one in named {
        let path = one.path(scope);
        let uid = text(&scope.client.get(&path).await?, "/metadata/uid").to_owned();
        let options = json!({ "apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background", "preconditions": { "uid": uid } });
        scope.client.delete(&path, &options).await?;
        output::line(format!("{} {:?} deleted", qualified(one.info()), one.name));
        if waits {
            gone(scope, one, &uid, GONE_WITHIN).await?;
        }
    }
    Ok(())
}

async fn gone(scope: &Scope, one: &Named, uid: &str, within: Duration) -> anyhow::Result<()> {
    let is_gone = |all: &Objects| (!all.values().any(|object| text(object, "/metadata/uid") == uid)).then_some(());
    let gone = until(&scope.client, &one.collection(scope), within, is_gone).await?;
    gone.with_context(|| {
        format!("{one} is still there after {} s: what holds it is in its finalizers", within.as_secs())
    })
}

/// Which part of whose log.
pub(super) struct LogQuery {
    pub(super) container: Option<String>,
    pub(super) follow: bool,
    pub(super) previous: bool,
    pub(super) tail: Option<u32>,
}

pub(super) async fn logs(scope: &Scope, of: &Named, query: &LogQuery) -> anyhow::Result<()> {
    let pod = pod_path(scope, of).await?;
    let mut path = format!("{pod}/log?follow={}&previous={}", query.follow, query.previous);
    if let Some(container) = &query.container {
        path += &format!("&container={}", utf8_percent_encode(container, NON_ALPHANUMERIC));
    }
    if let Some(tail) = query.tail {
        path += &format!("&tailLines={tail}");
    }
    let mut chunks = scope.client.follow(&path).await?;
    while let Some(bytes) = chunks.next().await? {
        // A log is bytes, whatever they are.
        let mut out = std::io::stdout().lock();
        if out.write_all(&bytes).and_then(|()| out.flush()).is_err() {
            return Ok(());
        }
    }
    Ok(())
}

/// The path of a pod: the one that is named, or the first that an object selects.
pub(super) async fn pod_path(scope: &Scope, of: &Named) -> anyhow::Result<String> {
    if of.info().kind == "Pod" { Ok(of.path(scope)) } else { pod_of(scope, of).await }
}

/// The path of the first pod that an object selects.
async fn pod_of(scope: &Scope, of: &Named) -> anyhow::Result<String> {
    let object = scope.client.get(&of.path(scope)).await?;
    let labels = object.pointer("/spec/selector/matchLabels").or_else(|| object.pointer("/spec/selector"));
    let labels = labels.and_then(Value::as_object).filter(|labels| labels.values().all(Value::is_string));
    let labels = labels.with_context(|| format!("{of} selects no pods by labels: name the pod"))?;
    let selector: Vec<String> =
        labels.iter().map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default())).collect();
    let pods = collection(kind("pods")?.info(), Some(&scope.namespace));
    let list = format!("{pods}?labelSelector={}", utf8_percent_encode(&selector.join(","), NON_ALPHANUMERIC));
    let found = scope.client.get(&list).await?;
    let mut found: Vec<&Value> = found["items"].as_array().into_iter().flatten().collect();
    // One that runs and stays has more to say.
    let is_lesser =
        |pod: &&Value| (text(pod, "/status/phase") != "Running", pod["metadata"]["deletionTimestamp"].is_string());
    found.sort_list_by_key(is_lesser);
    let first = found.first().with_context(|| format!("{of} has no pods"))?;
    if found.len() > 1 {
        output::aside(format!("Found {} pods, using pod/{}", found.len(), text(first, "/metadata/name")));
    }
    Ok(format!("{pods}/{}", text(first, "/metadata/name")))
}

pub(super) async fn scale(scope: &Scope, named: &[Named], replicas: u32) -> anyhow::Result<()> {
    for one in named {
        let change = json!({ "spec": { "replicas": replicas } });
        scope.client.patch(&format!("{}/scale", one.path(scope)), PatchKind::Merge, &change).await?;
        told(one, "scaled");
    }
    Ok(())
}

pub(super) async fn rollout(scope: &Scope, named: &[Named], step: Step) -> anyhow::Result<()> {
    for one in named {
        match (step, one.info().kind) {
            (Step::Restart, "Deployment" | "StatefulSet" | "DaemonSet") => {
                let at = Clock::system().now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
                let change = json!({ "spec": { "template": { "metadata": { "annotations": { RESTARTED_AT: at } } } } });
                patch(scope, one, &change).await?;
                told(one, "restarted");
            }
            (_, "DeploymentConfig") => {
                let err = anyhow!("for DeploymentConfigs there is `skiff rollout`: skiff rollout --help");
                return Err(of_class(Class::Usage, err));
            }
            (Step::Status, "Deployment") => status(scope, one).await?,
            (Step::Pause | Step::Resume, "Deployment") => {
                let is_pause = step == Step::Pause;
                patch(scope, one, &json!({ "spec": { "paused": is_pause } })).await?;
                told(one, if is_pause { "paused" } else { "resumed" });
            }
            (Step::Undo, "Deployment") => undo(scope, one).await?,
            (_, kind) => {
                let err = anyhow!("skiff's kubectl does not do this for a {kind}: the real kubectl does");
                return Err(of_class(Class::Usage, err));
            }
        }
    }
    Ok(())
}

async fn patch(scope: &Scope, one: &Named, change: &Value) -> anyhow::Result<()> {
    scope.client.patch(&one.path(scope), PatchKind::Strategic, change).await?;
    Ok(())
}

/// Waits until a Deployment's rollout is over. Source of what is said: `kubectl/pkg/polymorphichelpers/rollout_status.go`, v1.37.
async fn status(scope: &Scope, one: &Named) -> anyhow::Result<()> {
    let mut said = String::new();
    let look = |all: &Objects| {
        let deployment = all.values().find(|object| text(object, "/metadata/name") == one.name);
        let (line, is_over) = deployment
            .map_or_else(|| (format!("error: {one} is gone"), true), |deployment| rollout_line(&one.name, deployment));
        if line != said {
            output::line(&line);
            said.clone_from(&line);
        }
        is_over.then(|| !line.starts_with("error"))
    };
    match until(&scope.client, &one.collection(scope), ROLLED_OUT_WITHIN, look).await? {
        Some(true) => Ok(()),
        Some(false) => bail!("the rollout of {one} has failed"),
        None => bail!("the rollout of {one} is not over after {} s", ROLLED_OUT_WITHIN.as_secs()),
    }
}

fn rollout_line(name: &str, deployment: &Value) -> (String, bool) {
    let of = |path: &str| number(deployment, path);
    let (wanted, updated, all, available) =
        (of("/spec/replicas"), of("/status/updatedReplicas"), of("/status/replicas"), of("/status/availableReplicas"));
    if of("/status/observedGeneration") < of("/metadata/generation") {
        return ("Waiting for deployment spec update to be observed...".to_owned(), false);
    }
    let progress = crate::cli::watching::condition(deployment, "Progressing");
    if progress.is_some_and(|condition| condition["reason"] == "ProgressDeadlineExceeded") {
        return (format!("error: deployment {name:?} exceeded its progress deadline"), true);
    }
    let waiting = |what: String| (format!("Waiting for deployment {name:?} rollout to finish: {what}..."), false);
    if updated < wanted {
        return waiting(format!("{updated} out of {wanted} new replicas have been updated"));
    }
    if all > updated {
        return waiting(format!("{} old replicas are pending termination", all - updated));
    }
    if available < updated {
        return waiting(format!("{available} of {updated} updated replicas are available"));
    }
    (format!("deployment {name:?} successfully rolled out"), true)
}

/// Goes back to the template of the revision before.
async fn undo(scope: &Scope, one: &Named) -> anyhow::Result<()> {
    let deployment = scope.client.get(&one.path(scope)).await?;
    let uid = text(&deployment, "/metadata/uid");
    let sets = scope.client.get(&collection(kind("replicasets")?.info(), Some(&scope.namespace))).await?;
    let revision = |object: &Value| {
        object["metadata"]["annotations"][REVISION]
            .as_str()
            .and_then(|text| text.parse::<u64>().ok())
            .unwrap_or_default()
    };
    let is_owned =
        |set: &&Value| text(set, "/metadata/ownerReferences/0/uid") == uid && revision(set) < revision(&deployment);
    let before = sets["items"].as_array().into_iter().flatten().filter(is_owned).max_by_key(|set| revision(set));
    let mut template =
        before.with_context(|| format!("no rollout history found for {one}"))?["spec"]["template"].clone();
    if let Some(labels) = template["metadata"]["labels"].as_object_mut() {
        labels.remove("pod-template-hash");
    }
    let change = json!([{ "op": "replace", "path": "/spec/template", "value": template }]);
    scope.client.patch(&one.path(scope), PatchKind::Json, &change).await?;
    told(one, "rolled back");
    Ok(())
}

pub(super) async fn set(scope: &Scope, named: &[Named], part: Part, changes: &[String]) -> anyhow::Result<()> {
    for one in named {
        let object = scope.client.get(&one.path(scope)).await?;
        let present = object.pointer("/spec/template/spec/containers").and_then(Value::as_array).into_iter().flatten();
        let present: Vec<&str> = present.map(|container| text(container, "/name")).collect();
        let containers = match part {
            Part::Image => images(changes, &present)?,
            Part::Env => variables(changes, &present)?,
        };
        patch(scope, one, &json!({ "spec": { "template": { "spec": { "containers": containers } } } })).await?;
        told(one, if part == Part::Image { "image updated" } else { "env updated" });
    }
    Ok(())
}

fn images(changes: &[String], names: &[&str]) -> anyhow::Result<Vec<Value>> {
    let mut containers = Vec::new();
    for change in changes {
        let (container, image) = change.split_once('=').with_context(|| format!("{change}: give CONTAINER=IMAGE"))?;
        if !names.contains(&container) && container != "*" {
            bail!("unable to find container named {container:?}; there are: {}", names.join(", "));
        }
        let meant = names.iter().filter(|name| container == "*" || **name == container);
        containers.extend(meant.map(|name| json!({ "name": name, "image": image })));
    }
    Ok(containers)
}

fn variables(changes: &[String], names: &[&str]) -> anyhow::Result<Vec<Value>> {
    let mut env = Vec::new();
    for change in changes {
        match (change.split_once('='), change.strip_suffix('-')) {
            (Some((name, value)), _) => env.push(json!({ "name": name, "value": value })),
            (None, Some(name)) => env.push(json!({ "name": name, "$patch": "delete" })),
            (None, None) => bail!("{change}: give NAME=VALUE, or NAME- to unset"),
        }
    }
    Ok(names.iter().map(|name| json!({ "name": name, "env": env })).collect())
}

pub(super) async fn wait(scope: &Scope, named: &[Named], what: &str, secs: u64) -> anyhow::Result<()> {
    let within = Duration::from_secs(secs);
    for one in named {
        if what == "delete" {
            match scope.client.get(&one.path(scope)).await {
                Ok(object) => gone(scope, one, text(&object, "/metadata/uid"), within).await?,
                Err(err) if err.code() == Some(StatusCode::NOT_FOUND) => {}
                Err(err) => return Err(err.into()),
            }
            told(one, "condition met");
            continue;
        }
        let Some(wanted) = what.strip_prefix("condition=") else {
            let err = anyhow!("--for {what}: give condition=NAME, or delete; of other forms the real kubectl knows");
            return Err(of_class(Class::Usage, err));
        };
        let (condition, is_wanted) = match wanted.split_once('=') {
            Some((name, value)) => (name, value.eq_ignore_ascii_case("true")),
            None => (wanted, true),
        };
        let holds = |all: &Objects| {
            let object = all.values().find(|object| text(object, "/metadata/name") == one.name)?;
            (is_true(object, condition) == is_wanted).then_some(())
        };
        let met = until(&scope.client, &one.collection(scope), within, holds).await?;
        met.with_context(|| format!("timed out waiting for the condition on {one}"))?;
        told(one, "condition met");
    }
    Ok(())
}

pub(super) async fn top(scope: &Scope, what: Measured) -> anyhow::Result<()> {
    let path = match what {
        Measured::Nodes => "/apis/metrics.k8s.io/v1beta1/nodes".to_owned(),
        Measured::Pods => format!("/apis/metrics.k8s.io/v1beta1/namespaces/{}/pods", scope.namespace),
    };
    let lines = table(&[scope.client.get_as(&path, TABLE).await?], false, None, false);
    if lines.is_empty() {
        output::aside("Nothing is measured yet.");
    }
    lines.iter().for_each(output::line);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pods() -> Value {
        json!({ "columnDefinitions": [{ "name": "Name", "priority": 0 }, { "name": "Ready", "priority": 0 }, { "name": "IP", "priority": 1 }],
            "rows": [{ "cells": ["web-0", "1/1", "10.0.0.1"], "object": { "metadata": { "namespace": "shop" } } },
                { "cells": ["database-0", 0, null], "object": { "metadata": { "namespace": "default" } } }] })
    }

    #[test]
    fn tables_are_the_servers() {
        let shown = |is_wide, prefix, has_namespace| table(&[pods()], is_wide, prefix, has_namespace).join("\n") + "\n";
        expect_test::expect![[r"
            NAME        READY
            web-0       1/1
            database-0  0
            NAME        READY  IP
            web-0       1/1    10.0.0.1
            database-0  0      <none>
            NAMESPACE  NAME            READY
            shop       pod/web-0       1/1
            default    pod/database-0  0
        "]]
        .assert_eq(&(shown(false, None, false) + &shown(true, None, false) + &shown(false, Some("pod"), true)));
        assert!(table(&[json!({ "columnDefinitions": [], "rows": [] })], false, None, false).is_empty());
    }

    #[test]
    fn a_rollout_is_told_as_kubectl_tells_it() {
        let deployment = |observed: i64, updated: i64, all: i64, available: i64| {
            json!({ "metadata": { "generation": 2 }, "spec": { "replicas": 3 },
                "status": { "observedGeneration": observed, "updatedReplicas": updated, "replicas": all, "availableReplicas": available } })
        };
        let said = |d: Value| rollout_line("web", &d).0;
        assert_eq!(said(deployment(1, 3, 3, 3)), "Waiting for deployment spec update to be observed...");
        let waiting = "Waiting for deployment \"web\" rollout to finish: ";
        assert_eq!(said(deployment(2, 1, 3, 3)), format!("{waiting}1 out of 3 new replicas have been updated..."));
        assert_eq!(said(deployment(2, 3, 4, 3)), format!("{waiting}1 old replicas are pending termination..."));
        assert_eq!(said(deployment(2, 3, 3, 2)), format!("{waiting}2 of 3 updated replicas are available..."));
        assert_eq!(
            rollout_line("web", &deployment(2, 3, 3, 3)),
            ("deployment \"web\" successfully rolled out".to_owned(), true)
        );
    }

    #[test]
    fn what_is_set_is_a_part_of_containers() {
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(images(&words("a=x:1"), &["a", "b"]).unwrap(), [json!({ "name": "a", "image": "x:1" })]);
        assert_eq!(images(&words("*=x:1"), &["a", "b"]).unwrap().len(), 2);
        assert_eq!(
            images(&words("c=x"), &["a"]).unwrap_err().to_string(),
            "unable to find container named \"c\"; there are: a"
        );
        let env = variables(&words("A=1 B-"), &["a"]).unwrap();
        assert_eq!(env[0]["env"], json!([{ "name": "A", "value": "1" }, { "name": "B", "$patch": "delete" }]));
        assert!(variables(&words("A"), &["a"]).is_err());
    }

    #[test]
    fn values_of_secrets_are_not_shown() {
        let mut secret = json!({ "data": { "key": "c2VjcmV0" } });
        hide_values(&mut secret);
        assert_eq!(secret["data"]["key"], "6 bytes");
    }
}
