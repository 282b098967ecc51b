//! `skiff convert`: makes Deployments of DeploymentConfigs, for those who leave OpenShift's, and says what a Deployment does not do.
//!
//! Other objects pass as they are, so that what was converted once converts to itself. Pure but for reading and printing.
//! **Source** of what differs: the OpenShift documentation, "Understanding deployments"; of the annotation: `pkg/image/apiserver/trigger`.

use super::{
    cluster::ClusterArgs,
    exit::{Class, of_class},
    output,
};
use crate::{
    api::{
        json_kind::{at, set_at},
        kinds::deployment_config::{
            strategy::{CUSTOM, RECREATE},
            triggers::{CONFIG_CHANGE, IMAGE_CHANGE},
            types::{API_VERSION, KIND},
        },
        schema::read,
    },
    base::runtime::block_on,
};
use anyhow::{Context as _, bail};
use serde_json::{Map, Value, json};
use std::path::Path;

/// The annotation by which images of a Deployment follow image streams.
const TRIGGERS: &str = "image.openshift.io/triggers";
/// Metadata that belongs to one object in one cluster.
const OF_ONE_OBJECT: [&str; 6] =
    ["creationTimestamp", "generation", "managedFields", "ownerReferences", "resourceVersion", "uid"];
/// Annotations that say what was applied, or when a tool looked last.
const OF_TOOLS: [&str; 2] = ["kubectl.kubernetes.io/last-applied-configuration", "openshift.io/generated-by"];

/// Arguments of `skiff convert`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  skiff convert frontend.yaml | kubectl apply -f -\n  skiff convert dc/frontend -n shop"
)]
pub(super) struct Args {
    /// A manifest, `-` for standard input, or a DeploymentConfig of the cluster: dc/NAME
    #[arg(value_name = "FILE|dc/NAME")]
    source: String,
    /// The namespace of dc/NAME
    #[arg(short, long, default_value = "default")]
    namespace: String,
    #[command(flatten)]
    cluster: ClusterArgs,
}

pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    let documents = match args.source.split_once('/') {
        Some(("dc" | "deploymentconfig" | "deploymentconfigs", name)) => vec![of_cluster(args, name)?],
        _ => read_file(Path::new(&args.source))?,
    };
    let converted: Vec<Converted> = documents.into_iter().map(convert).collect();
    for warning in converted.iter().flat_map(|one| &one.lost) {
        output::note(warning);
    }
    for object in converted.iter().flat_map(|one| &one.objects) {
        output::raw(&format!("---\n{}", serde_yaml::to_string(object)?));
    }
    Ok(())
}

/// The objects of a file, or of standard input for `-`; those of a list are taken out of it.
pub(super) fn read_file(path: &Path) -> anyhow::Result<Vec<Value>> {
    objects_of(path).map_err(|err| of_class(Class::Input, err))
}

fn objects_of(path: &Path) -> anyhow::Result<Vec<Value>> {
    let text = if path.as_os_str() == "-" {
        std::io::read_to_string(std::io::stdin()).context("cannot read standard input")?
    } else {
        std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?
    };
    let read = read::parse_yaml_documents(text.as_bytes());
    let read = read.with_context(|| format!("cannot read {}", path.display()))?;
    let items = |value: Value| match value["items"].as_array() {
        Some(items) if value["kind"].as_str().is_some_and(|kind| kind.ends_with("List")) => items.clone(),
        _ => vec![value],
    };
    let found: Vec<Value> = read.into_iter().flat_map(|document| items(document.value)).collect();
    if found.is_empty() {
        bail!("{} has no objects", path.display());
    }
    Ok(found)
}

fn of_cluster(args: &Args, name: &str) -> anyhow::Result<Value> {
    let client = args.cluster.client()?;
    let path = format!("/apis/{API_VERSION}/namespaces/{}/deploymentconfigs/{name}", args.namespace);
    block_on(client.get(&path))?.with_context(|| format!("cannot read deploymentconfig {name}"))
}

/// The objects that stand for one, and what they do not do.
pub(super) fn converted(object: Value) -> (Vec<Value>, Vec<String>) {
    let Converted { objects, lost } = convert(object);
    (objects, lost)
}

/// What became of an object.
struct Converted {
    objects: Vec<Value>,
    /// What is not done any more, a sentence each.
    lost: Vec<String>,
}

fn convert(object: Value) -> Converted {
    let is_config = object["kind"] == KIND && (object["apiVersion"] == API_VERSION || object["apiVersion"] == "v1");
    match object.as_object() {
        Some(fields) if is_config => Conversion::new(fields).run(),
        _ => Converted { objects: vec![object], lost: Vec::new() },
    }
}

/// A DeploymentConfig that is being converted.
struct Conversion<'a> {
    config: &'a Map<String, Value>,
    name: String,
    deployment: Map<String, Value>,
    jobs: Vec<Value>,
    lost: Vec<String>,
}

impl<'a> Conversion<'a> {
    fn new(config: &'a Map<String, Value>) -> Self {
        let name = at(config, "metadata.name").and_then(Value::as_str).unwrap_or_default().to_owned();
        let deployment = Map::from_iter([
            ("apiVersion".to_owned(), json!("apps/v1")),
            ("kind".to_owned(), json!("Deployment")),
            ("metadata".to_owned(), metadata(config)),
        ]);
        Self { config, name, deployment, jobs: Vec::new(), lost: Vec::new() }
    }

    fn run(mut self) -> Converted {
        self.spec();
        self.strategy();
        self.hooks();
        self.triggers();
        self.lose("after a rollout that fails, it does not go back by itself: `kubectl rollout undo` does");
        let mut objects = vec![Value::Object(self.deployment)];
        objects.extend(self.jobs);
        Converted { objects, lost: self.lost }
    }

    fn of(&self, path: &str) -> Option<&'a Value> {
        at(self.config, path).filter(|value| !value.is_null())
    }

    fn set(&mut self, path: &str, value: Value) {
        set_at(&mut self.deployment, path, value);
    }

    fn lose(&mut self, what: &str) {
        self.lost.push(format!("deploymentconfig {}: {what}", self.name));
    }

    fn spec(&mut self) {
        // What is left out means none there, and one here.
        self.set("spec.replicas", self.of("spec.replicas").cloned().unwrap_or_else(|| json!(0)));
        for field in ["minReadySeconds", "revisionHistoryLimit", "paused"] {
            if let Some(value) = self.of(&format!("spec.{field}")) {
                self.set(&format!("spec.{field}"), value.clone());
            }
        }
        let selector = self.of("spec.selector").or_else(|| self.of("spec.template.metadata.labels"));
        self.set("spec.selector.matchLabels", selector.cloned().unwrap_or_else(|| json!({})));
        self.set("spec.template", self.of("spec.template").cloned().unwrap_or_else(|| json!({})));
        if self.of("spec.test") == Some(&json!(true)) {
            self.lose("`test: true` has no counterpart: its pods stay after a rollout");
        }
    }

    fn strategy(&mut self) {
        let kind = self.of("spec.strategy.type").and_then(Value::as_str).unwrap_or_default();
        if self.of("spec.strategy.customParams").is_some() || kind == CUSTOM {
            self.lose("a custom deployer has no counterpart: pods are replaced as the strategy says");
        }
        let is_recreate = kind == RECREATE;
        self.set("spec.strategy.type", json!(if is_recreate { "Recreate" } else { "RollingUpdate" }));
        let params = if is_recreate { "spec.strategy.recreateParams" } else { "spec.strategy.rollingParams" };
        for (field, other) in [("maxSurge", "maxUnavailable"), ("maxUnavailable", "maxSurge")] {
            let Some(value) = self.of(&format!("{params}.{field}")).filter(|_| !is_recreate) else { continue };
            self.set(&format!("spec.strategy.rollingUpdate.{field}"), value.clone());
            // There, one that is given as something makes the other nothing; here, a quarter.
            let is_something = value != &json!(0) && value != &json!("0%");
            if is_something && self.of(&format!("{params}.{other}")).is_none() {
                self.set(&format!("spec.strategy.rollingUpdate.{other}"), json!(0));
            }
        }
        if let Some(secs) = self.of(&format!("{params}.timeoutSeconds")) {
            self.set("spec.progressDeadlineSeconds", secs.clone());
        }
        for field in ["updatePeriodSeconds", "intervalSeconds"] {
            if self.of(&format!("{params}.{field}")).is_some_and(|value| value.as_i64() != Some(1)) {
                self.lose(&format!("`{field}` has no counterpart: the next step comes as soon as it may"));
            }
        }
    }

    fn hooks(&mut self) {
        for params in ["rollingParams", "recreateParams"] {
            for point in ["pre", "mid", "post"] {
                let Some(hook) = self.of(&format!("spec.strategy.{params}.{point}")) else { continue };
                if let Some(exec) = hook.get("execNewPod") {
                    let job = self.job(point, hook, exec);
                    self.jobs.push(job);
                    self.lose(&format!(
                        "the {point} hook is the Job {}-{point}: it runs when it is applied, and not in each rollout; \
                         delete it and apply it again with each new version, {}",
                        self.name,
                        if point == "post" { "after the Deployment" } else { "before the Deployment" },
                    ));
                } else {
                    self.lose(&format!(
                        "the {point} hook tags images: `skiff tag`, or `oc tag`, after a rollout does that"
                    ));
                }
            }
        }
    }

    /// The Job of a hook: the pod that a deployer would make.
    fn job(&self, point: &str, hook: &Value, exec: &Value) -> Value {
        let pods = self.of("spec.template.spec").cloned().unwrap_or_default();
        let containers = pods["containers"].as_array().map_or(&[][..], Vec::as_slice);
        let named = containers.iter().find(|container| container["name"] == exec["containerName"]);
        let base = named.or_else(|| containers.first()).cloned().unwrap_or_default();
        let volumes: Vec<&Value> = exec["volumes"].as_array().into_iter().flatten().collect();
        let kept = |list: &Value| -> Vec<Value> {
            list.as_array().into_iter().flatten().filter(|item| volumes.contains(&&item["name"])).cloned().collect()
        };
        let extra: Vec<Value> = exec["env"].as_array().cloned().unwrap_or_default();
        let of_base = base["env"].as_array().into_iter().flatten();
        let mut env: Vec<Value> =
            of_base.filter(|var| !extra.iter().any(|other| other["name"] == var["name"])).cloned().collect();
        env.extend(extra);
        let mut container = json!({ "name": "lifecycle", "image": base["image"], "command": exec["command"] });
        for field in ["imagePullPolicy", "workingDir", "resources", "securityContext"] {
            if let Some(value) = base.get(field) {
                container[field] = value.clone();
            }
        }
        let mut pod = json!({});
        for (target, field, items) in [(&mut container, "env", env), (&mut pod, "volumes", kept(&pods["volumes"]))] {
            if !items.is_empty() {
                target[field] = json!(items);
            }
        }
        let mounts = kept(&base["volumeMounts"]);
        if !mounts.is_empty() {
            container["volumeMounts"] = json!(mounts);
        }
        let retries = hook["failurePolicy"] == "Retry";
        pod["restartPolicy"] = json!(if retries { "OnFailure" } else { "Never" });
        pod["containers"] = json!([container]);
        let mut metadata = json!({ "name": format!("{}-{point}", self.name) });
        if let Some(namespace) = self.of("metadata.namespace") {
            metadata["namespace"] = namespace.clone();
        }
        json!({
            "apiVersion": "batch/v1", "kind": "Job", "metadata": metadata,
            "spec": { "backoffLimit": if retries { 6 } else { 0 }, "template": { "spec": pod } },
        })
    }

    fn triggers(&mut self) {
        let triggers = self.of("spec.triggers").and_then(Value::as_array);
        let follows_config = triggers.is_none_or(|all| all.iter().any(|trigger| trigger["type"] == CONFIG_CHANGE));
        if !follows_config {
            self.lose("it has no ConfigChange trigger, and a Deployment rolls out each change of its template: `paused: true` holds it");
        }
        let images = triggers.into_iter().flatten().filter(|trigger| trigger["type"] == IMAGE_CHANGE);
        let followed: Vec<Value> = images.flat_map(|trigger| followed(&trigger["imageChangeParams"])).collect();
        if !followed.is_empty() {
            let text = Value::Array(followed).to_string();
            let annotations = self.deployment["metadata"].as_object_mut().expect("it was made one");
            let annotations = annotations.entry("annotations").or_insert_with(|| json!({}));
            annotations[TRIGGERS] = json!(text);
        }
    }
}

/// The entries of the annotation for one trigger: one for each container that it names.
fn followed(params: &Value) -> Vec<Value> {
    let mut from = json!({ "kind": "ImageStreamTag", "name": params["from"]["name"] });
    if let Some(namespace) = params["from"].get("namespace") {
        from["namespace"] = namespace.clone();
    }
    let entry = |container: &str| {
        let path = format!("spec.template.spec.containers[?(@.name==\"{container}\")].image");
        let mut entry = json!({ "from": from, "fieldPath": path });
        if params["automatic"] != true {
            entry["paused"] = json!(true);
        }
        entry
    };
    params["containerNames"].as_array().into_iter().flatten().filter_map(Value::as_str).map(entry).collect()
}

/// The metadata without what belongs to one object in one cluster.
fn metadata(config: &Map<String, Value>) -> Value {
    let mut metadata = config.get("metadata").cloned().unwrap_or_else(|| json!({}));
    let Some(fields) = metadata.as_object_mut() else { return metadata };
    fields.retain(|field, _| !OF_ONE_OBJECT.contains(&&**field));
    if let Some(annotations) = fields.get_mut("annotations").and_then(Value::as_object_mut) {
        annotations.retain(|key, _| !OF_TOOLS.contains(&&**key));
        if annotations.is_empty() {
            fields.remove("annotations");
        }
    }
    metadata
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    fn check(yaml: &str, expect: Expect) {
        let converted = convert(serde_yaml::from_str(yaml).unwrap());
        let objects: Vec<String> = converted.objects.iter().map(|o| serde_yaml::to_string(o).unwrap()).collect();
        let again: Vec<Value> = converted.objects.iter().cloned().flat_map(|object| convert(object).objects).collect();
        assert_eq!(again, converted.objects, "what was converted once converts to itself");
        expect.assert_eq(&format!("{}---\n{}\n", objects.join("---\n"), converted.lost.join("\n")));
    }

    #[test]
    fn the_example_of_the_documentation_becomes_a_deployment() {
        check(
            "
apiVersion: v1
kind: DeploymentConfig
metadata: {name: frontend, uid: x, annotations: {kubectl.kubernetes.io/last-applied-configuration: '{}'}}
spec:
  replicas: 5
  selector: {name: frontend}
  template:
    metadata: {labels: {name: frontend}}
    spec: {containers: [{name: helloworld, image: ' '}]}
  triggers:
  - type: ConfigChange
  - type: ImageChange
    imageChangeParams: {automatic: true, containerNames: [helloworld], from: {kind: ImageStreamTag, name: 'hello-openshift:latest'}}
  strategy: {type: Rolling, rollingParams: {maxSurge: 1, timeoutSeconds: 300, updatePeriodSeconds: 5}}
",
            expect![[r#"
                apiVersion: apps/v1
                kind: Deployment
                metadata:
                  annotations:
                    image.openshift.io/triggers: '[{"fieldPath":"spec.template.spec.containers[?(@.name==\"helloworld\")].image","from":{"kind":"ImageStreamTag","name":"hello-openshift:latest"}}]'
                  name: frontend
                spec:
                  progressDeadlineSeconds: 300
                  replicas: 5
                  selector:
                    matchLabels:
                      name: frontend
                  strategy:
                    rollingUpdate:
                      maxSurge: 1
                      maxUnavailable: 0
                    type: RollingUpdate
                  template:
                    metadata:
                      labels:
                        name: frontend
                    spec:
                      containers:
                      - image: ' '
                        name: helloworld
                ---
                deploymentconfig frontend: `updatePeriodSeconds` has no counterpart: the next step comes as soon as it may
                deploymentconfig frontend: after a rollout that fails, it does not go back by itself: `kubectl rollout undo` does
            "#]],
        );
    }

    #[test]
    fn hooks_become_jobs_and_what_is_lost_is_said() {
        check(
            "
apiVersion: apps.openshift.io/v1
kind: DeploymentConfig
metadata: {name: web, namespace: shop}
spec:
  test: true
  triggers: []
  template:
    metadata: {labels: {app: web}}
    spec:
      volumes: [{name: data, emptyDir: {}}, {name: other, emptyDir: {}}]
      containers:
      - {name: c, image: one, env: [{name: A, value: a}, {name: B, value: b}], volumeMounts: [{name: data, mountPath: /d}]}
  strategy:
    type: Recreate
    recreateParams:
      mid: {failurePolicy: Retry, execNewPod: {command: [migrate], containerName: c, env: [{name: B, value: x}], volumes: [data]}}
      post: {failurePolicy: Ignore, tagImages: [{containerName: c, to: {kind: ImageStreamTag, name: 'web:prod'}}]}
",
            expect![[r#"
                apiVersion: apps/v1
                kind: Deployment
                metadata:
                  name: web
                  namespace: shop
                spec:
                  replicas: 0
                  selector:
                    matchLabels:
                      app: web
                  strategy:
                    type: Recreate
                  template:
                    metadata:
                      labels:
                        app: web
                    spec:
                      containers:
                      - env:
                        - name: A
                          value: a
                        - name: B
                          value: b
                        image: one
                        name: c
                        volumeMounts:
                        - mountPath: /d
                          name: data
                      volumes:
                      - emptyDir: {}
                        name: data
                      - emptyDir: {}
                        name: other
                ---
                apiVersion: batch/v1
                kind: Job
                metadata:
                  name: web-mid
                  namespace: shop
                spec:
                  backoffLimit: 6
                  template:
                    spec:
                      containers:
                      - command:
                        - migrate
                        env:
                        - name: A
                          value: a
                        - name: B
                          value: x
                        image: one
                        name: lifecycle
                        volumeMounts:
                        - mountPath: /d
                          name: data
                      restartPolicy: OnFailure
                      volumes:
                      - emptyDir: {}
                        name: data
                ---
                deploymentconfig web: `test: true` has no counterpart: its pods stay after a rollout
                deploymentconfig web: the mid hook is the Job web-mid: it runs when it is applied, and not in each rollout; delete it and apply it again with each new version, before the Deployment
                deploymentconfig web: the post hook tags images: `skiff tag`, or `oc tag`, after a rollout does that
                deploymentconfig web: it has no ConfigChange trigger, and a Deployment rolls out each change of its template: `paused: true` holds it
                deploymentconfig web: after a rollout that fails, it does not go back by itself: `kubectl rollout undo` does
            "#]],
        );
    }

    #[test]
    fn other_objects_pass_as_they_are() {
        let service = json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "name": "a", "uid": "u" } });
        let converted = convert(service.clone());
        assert_eq!((converted.objects, converted.lost), (vec![service], Vec::new()));
    }
}
