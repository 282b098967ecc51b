//! What of a cluster's objects makes sense in another one. Pure but for [`Of::look`] and [`Target::look`].

use crate::{
    api::image_name::{is_known_to_registry, repository, with_tag},
    base::ordered::{CollectOrdered as _, Map, Set},
    cli::{convert, watching::text},
    client::{Client, ClientError},
};
use http::StatusCode;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// A kind that is promoted: kind, API version, plural. In the order in which they are applied: what others name comes first.
pub(super) const KINDS: [(&str, &str, &str); 20] = [
    ("ServiceAccount", "v1", "serviceaccounts"),
    ("Secret", "v1", "secrets"),
    ("ConfigMap", "v1", "configmaps"),
    ("PersistentVolumeClaim", "v1", "persistentvolumeclaims"),
    ("Role", "rbac.authorization.k8s.io/v1", "roles"),
    ("RoleBinding", "rbac.authorization.k8s.io/v1", "rolebindings"),
    ("ResourceQuota", "v1", "resourcequotas"),
    ("LimitRange", "v1", "limitranges"),
    ("Service", "v1", "services"),
    ("Deployment", "apps/v1", "deployments"),
    ("DeploymentConfig", "apps.openshift.io/v1", "deploymentconfigs"),
    ("StatefulSet", "apps/v1", "statefulsets"),
    ("DaemonSet", "apps/v1", "daemonsets"),
    ("ReplicaSet", "apps/v1", "replicasets"),
    ("ReplicationController", "v1", "replicationcontrollers"),
    ("CronJob", "batch/v1", "cronjobs"),
    ("HorizontalPodAutoscaler", "autoscaling/v2", "horizontalpodautoscalers"),
    ("PodDisruptionBudget", "policy/v1", "poddisruptionbudgets"),
    ("Ingress", "networking.k8s.io/v1", "ingresses"),
    ("Route", "route.openshift.io/v1", "routes"),
];
/// Kinds that are named when they are left out: they are over once they have run, or say what this cluster has.
const LEFT: [(&str, &str, &str); 3] =
    [("Pod", "v1", "pods"), ("Job", "batch/v1", "jobs"), ("ImageStream", "image.openshift.io/v1", "imagestreams")];
/// Namespaces that every cluster has of its own.
const SYSTEM: [&str; 4] = ["kube-system", "kube-public", "kube-node-lease", "openshift"];
/// What is made in every namespace.
const OF_EVERY_NAMESPACE: [(&str, &str); 5] = [
    ("ConfigMap", "kube-root-ca.crt"),
    ("ConfigMap", "openshift-service-ca.crt"),
    ("ServiceAccount", "default"),
    ("ServiceAccount", "deployer"),
    ("ServiceAccount", "builder"),
];
/// Annotations that say what controllers and tools of this cluster did.
const OF_CONTROLLERS: [&str; 8] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    "deployment.kubernetes.io/",
    "deprecated.daemonset.template.generation",
    "pv.kubernetes.io/",
    "volume.kubernetes.io/",
    "volume.beta.kubernetes.io/",
    "openshift.io/deployment",
    "skiff.dev/",
];

/// Where an object is.
pub(super) fn path_of(object: &Value) -> Option<String> {
    let (version, kind) = (text(object, "/apiVersion"), text(object, "/kind"));
    let name = text(object, "/metadata/name");
    if kind == "Namespace" {
        return Some(format!("/api/v1/namespaces/{name}"));
    }
    let (.., plural) = KINDS.iter().find(|(known, of, _)| *known == kind && *of == version)?;
    Some(format!("{}/namespaces/{}/{plural}/{name}", root(version), text(object, "/metadata/namespace")))
}

fn root(version: &str) -> String {
    if version.contains('/') { format!("/apis/{version}") } else { format!("/api/{version}") }
}

/// An object as people call it.
pub(super) fn called(object: &Value) -> String {
    let kind = text(object, "/kind").to_lowercase();
    match text(object, "/metadata/namespace") {
        "" | "default" => format!("{kind}/{}", text(object, "/metadata/name")),
        namespace => format!("{kind}/{} -n {namespace}", text(object, "/metadata/name")),
    }
}

async fn list(client: &Client, path: &str) -> Result<Option<Vec<Value>>, ClientError> {
    match client.get(path).await {
        Ok(mut answer) => Ok(Some(answer["items"].as_array_mut().map(std::mem::take).unwrap_or_default())),
        Err(err) if matches!(err.code(), Some(StatusCode::NOT_FOUND)) => Ok(None),
        Err(err) => Err(err),
    }
}

/// What is here.
#[derive(Debug, Default)]
pub(super) struct Of {
    pub(super) objects: Vec<Value>,
    /// What is not promoted, but worth a word.
    left: Vec<Value>,
    /// The names of images that a registry has.
    pulled: Set<String>,
    /// The names of images of which this engine does not say whether a registry has them.
    unsure: Set<String>,
    /// The names of all images that are here.
    images: Set<String>,
}

impl Of {
    pub(super) async fn look(client: &Client, namespaces: &[String]) -> anyhow::Result<Self> {
        let is_asked = |object: &Value| {
            let namespace = text(object, "/metadata/namespace");
            let is_system = SYSTEM.contains(&namespace) || namespace.starts_with("openshift-");
            if namespaces.is_empty() { !is_system } else { namespaces.iter().any(|asked| asked == namespace) }
        };
        let mut found = Self::default();
        for (is_moved, (kind, version, plural)) in
            KINDS.iter().map(|k| (true, k)).chain(LEFT.iter().map(|k| (false, k)))
        {
            let items = list(client, &format!("{}/{plural}", root(version))).await?.unwrap_or_default();
            for mut item in items.into_iter().filter(is_asked).filter(|item| is_users(kind, item)) {
                (item["kind"], item["apiVersion"]) = (json!(kind), json!(version));
                if is_moved { &mut found.objects } else { &mut found.left }.push(item);
            }
        }
        for node in list(client, "/api/v1/nodes").await?.unwrap_or_default() {
            for image in node.pointer("/status/images").and_then(Value::as_array).into_iter().flatten() {
                found.note_image(image);
            }
        }
        Ok(found)
    }

    fn note_image(&mut self, image: &Value) {
        let names: Vec<&str> = image["names"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        self.images.extend(names.iter().map(|name| (*name).to_owned()));
        let id = names.iter().find(|name| name.starts_with("sha256:")).copied().unwrap_or_default();
        let digests = || names.iter().copied().filter(|name| name.contains("@sha256:"));
        for name in names.iter().copied().filter(|name| *name != id) {
            if is_known_to_registry(name, id, digests()) {
                self.pulled.insert(name.to_owned());
            } else if digests().any(|digest| repository(digest) == repository(name)) {
                self.unsure.insert(name.to_owned());
            }
        }
    }

    /// The images of the objects of which it is not known whether a registry has them.
    pub(super) fn unsure(&self) -> Set<String> {
        let used = self.objects.iter().flat_map(images);
        used.filter(|image| self.unsure.contains(image) || self.unsure.contains(&with_tag(image))).collect()
    }

    /// Notes that a registry has an image, under the name by which an object uses it.
    pub(super) fn note_pulled(&mut self, image: &str) {
        self.pulled.insert(image.to_owned());
    }

    /// Whether an image is on this machine, and no registry has it.
    fn is_local(&self, image: &str) -> bool {
        let tagged = with_tag(image);
        let is = |names: &Set<String>| names.contains(image) || names.contains(&tagged);
        image.starts_with("sha256:") || is(&self.images) && !is(&self.pulled)
    }
}

/// Whether it is what a user made: not a controller's, and not what every namespace has.
fn is_users(kind: &str, object: &Value) -> bool {
    let is_owned =
        object.pointer("/metadata/ownerReferences").and_then(Value::as_array).is_some_and(|all| !all.is_empty());
    let name = text(object, "/metadata/name");
    let is_standard = OF_EVERY_NAMESPACE.contains(&(kind, name)) || (kind, name) == ("Service", "kubernetes");
    let is_token = text(object, "/type") == "kubernetes.io/service-account-token";
    let is_rollout = object.pointer("/metadata/annotations/openshift.io~1deployment-config.name").is_some();
    let is_standard_role = name.starts_with("system:");
    !(is_owned || is_standard || is_token || is_rollout || is_standard_role)
}

/// What the target has.
#[derive(Debug, Default)]
pub(super) struct Target {
    /// The kinds that it lacks.
    lacks: Set<&'static str>,
    namespaces: Set<String>,
    storage_classes: Set<String>,
    ingress_classes: Set<String>,
}

impl Target {
    pub(super) async fn look(client: &Client, source: &Of) -> anyhow::Result<Self> {
        let mut found = Self::default();
        let names = |items: Option<Vec<Value>>| -> Set<String> {
            items.unwrap_or_default().iter().map(|item| text(item, "/metadata/name").to_owned()).collect()
        };
        found.namespaces = names(list(client, "/api/v1/namespaces").await?);
        found.storage_classes = names(list(client, "/apis/storage.k8s.io/v1/storageclasses").await?);
        found.ingress_classes = names(list(client, "/apis/networking.k8s.io/v1/ingressclasses").await?);
        for (kind, version, plural) in KINDS {
            let is_here = source.objects.iter().any(|object| object["kind"] == kind);
            if is_here && list(client, &format!("{}/{plural}?limit=1", root(version))).await?.is_none() {
                found.lacks.insert(kind);
            }
        }
        Ok(found)
    }

    /// Whether it has this namespace; of what is in none it does not matter.
    pub(super) fn has_namespace(&self, name: &str) -> bool {
        name.is_empty() || self.namespaces.contains(name)
    }
}

/// What is applied to the target, and what is said of the rest.
#[derive(Debug, Default)]
pub(super) struct Moved {
    pub(super) objects: Vec<Value>,
    pub(super) notes: Vec<String>,
    pub(super) local_images: Set<String>,
}

pub(super) fn moved(source: &Of, target: &Target) -> Moved {
    let mut moved = Moved::default();
    let namespaces: Set<&str> = source.objects.iter().map(|object| text(object, "/metadata/namespace")).collect();
    let missing = namespaces.into_iter().filter(|name| !target.has_namespace(name));
    moved
        .objects
        .extend(missing.map(|name| json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } })));
    for object in &source.objects {
        moved.add(portable(object), target);
    }
    for object in &source.left {
        moved.notes.push(format!("{} is left out: it belongs to this cluster", called(object)));
    }
    let images = moved.objects.iter().flat_map(images);
    moved.local_images = images.filter(|image| source.is_local(image)).collect();
    moved
}

impl Moved {
    /// Has pods run images under other names.
    pub(super) fn rename_images(&mut self, names: &BTreeMap<String, String>) {
        for container in self.objects.iter_mut().flat_map(containers_mut) {
            let renamed = container["image"].as_str().and_then(|image| names.get(image));
            if let Some(renamed) = renamed {
                container["image"] = json!(renamed);
            }
        }
        self.local_images.retain(|image| !names.contains_key(image));
    }

    fn add(&mut self, mut object: Value, target: &Target) {
        let (kind, name) = (text(&object, "/kind").to_owned(), called(&object));
        if kind == "DeploymentConfig" && target.lacks.contains("DeploymentConfig") {
            let (objects, lost) = convert::converted(object);
            self.notes.push(format!("{name} becomes a Deployment: that cluster has no DeploymentConfigs"));
            self.notes.extend(lost);
            // Jobs for hooks are made by hand, once.
            self.objects.extend(objects.into_iter().filter(|object| object["kind"] == "Deployment"));
            return;
        }
        if target.lacks.contains(&*kind) {
            self.notes.push(format!("{name} is left out: that cluster has no kind {kind}"));
            return;
        }
        match &*kind {
            "PersistentVolumeClaim" => self.note_class(&mut object, "storageClassName", &target.storage_classes, &name),
            "Ingress" => self.note_class(&mut object, "ingressClassName", &target.ingress_classes, &name),
            _ => {}
        }
        self.objects.push(object);
    }

    /// A class that the target has not is left to its default.
    fn note_class(&mut self, object: &mut Value, field: &str, known: &Set<String>, name: &str) {
        let class = object["spec"][field].as_str().unwrap_or_default().to_owned();
        if !class.is_empty() && !known.contains(&class) {
            remove(object, &["spec", field]);
            self.notes.push(format!("{name} gets the default class there: that cluster has no class {class}"));
        }
    }
}

fn remove(object: &mut Value, path: &[&str]) {
    let Some((last, parents)) = path.split_last() else { return };
    let parent = parents.iter().try_fold(object, |value, field| value.get_mut(*field));
    if let Some(map) = parent.and_then(Value::as_object_mut) {
        map.remove(*last);
    }
}

/// The object without what belongs to this cluster.
fn portable(object: &Value) -> Value {
    let kept =
        ["apiVersion", "kind", "type", "data", "immutable", "spec", "rules", "roleRef", "subjects", "imagePullSecrets"];
    let fields = object.as_object().into_iter().flatten().filter(|(field, _)| kept.contains(&&***field));
    let mut out = Value::Object(fields.map(|(field, value)| (field.clone(), value.clone())).collect_ordered());
    out["metadata"] = metadata(&object["metadata"]);
    match text(object, "/kind") {
        "Service" => of_service(&mut out),
        "PersistentVolumeClaim" => remove(&mut out, &["spec", "volumeName"]),
        "ServiceAccount" => remove(&mut out, &["imagePullSecrets"]),
        "Route" if object.pointer("/metadata/annotations/openshift.io~1host.generated") == Some(&json!("true")) => {
            remove(&mut out, &["spec", "host"]);
        }
        _ => {}
    }
    out
}

fn metadata(metadata: &Value) -> Value {
    let mut out = json!({ "name": metadata["name"] });
    for field in ["namespace", "labels"] {
        if !metadata[field].is_null() {
            out[field] = metadata[field].clone();
        }
    }
    let is_users = |key: &str| {
        !OF_CONTROLLERS.iter().any(|prefix| key.starts_with(prefix)) && key != "openshift.io/host.generated"
    };
    let annotations = metadata["annotations"].as_object().into_iter().flatten().filter(|(key, _)| is_users(key));
    let annotations: Map<&String, &Value> = annotations.collect();
    if !annotations.is_empty() {
        out["annotations"] = json!(annotations);
    }
    out
}

/// Addresses and ports are given out by each cluster.
fn of_service(service: &mut Value) {
    if text(service, "/spec/clusterIP") != "None" {
        remove(service, &["spec", "clusterIP"]);
        remove(service, &["spec", "clusterIPs"]);
    }
    for field in ["healthCheckNodePort", "ipFamilies", "ipFamilyPolicy", "loadBalancerIP"] {
        remove(service, &["spec", field]);
    }
    for port in service["spec"]["ports"].as_array_mut().into_iter().flatten() {
        remove(port, &["nodePort"]);
    }
}

/// Where objects say what their pods are.
const POD_SPECS: [&str; 2] = ["/spec/template/spec", "/spec/jobTemplate/spec/template/spec"];

/// The containers of an object's pods.
fn containers_mut(object: &mut Value) -> Vec<&mut Value> {
    let path = POD_SPECS.into_iter().find(|path| object.pointer(path).is_some());
    let spec = path.and_then(|path| object.pointer_mut(path)).and_then(Value::as_object_mut);
    let fields = spec.into_iter().flatten().filter(|(field, _)| ["initContainers", "containers"].contains(&&***field));
    fields.filter_map(|(_, list)| list.as_array_mut()).flatten().collect()
}

/// The images that an object's pods run.
fn images(object: &Value) -> Vec<String> {
    let pod = POD_SPECS.iter().find_map(|path| object.pointer(path));
    let containers = pod.into_iter().flat_map(|spec| ["initContainers", "containers"].map(|list| &spec[list]));
    let containers = containers.filter_map(Value::as_array).flatten();
    containers.filter_map(|container| container["image"].as_str().map(str::to_owned)).collect()
}

/// The fields in which two states of an object differ, but for those that every write changes: path, before, after.
pub(super) fn differences(before: &Value, after: &Value) -> Vec<String> {
    let mut found = Vec::new();
    let (mut before, mut after) = (before.clone(), after.clone());
    for object in [&mut before, &mut after] {
        for field in ["managedFields", "resourceVersion", "generation"] {
            remove(object, &["metadata", field]);
        }
        remove(object, &["status"]);
    }
    // Values of Secrets are nobody's to read on a screen.
    let is_secret = after["kind"] == "Secret";
    differ("", &before, &after, is_secret, &mut found);
    found
}

fn differ(path: &str, before: &Value, after: &Value, is_secret: bool, found: &mut Vec<String>) {
    match (before, after) {
        (a, b) if a == b => {}
        (Value::Object(a), Value::Object(b)) => {
            for field in a.keys().chain(b.keys()).collect::<Set<_>>() {
                let at = if path.is_empty() { field.clone() } else { format!("{path}.{field}") };
                let of = |map: &serde_json::Map<String, Value>| map.get(field).cloned().unwrap_or_default();
                differ(&at, &of(a), &of(b), is_secret, found);
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (n, (a, b)) in a.iter().zip(b).enumerate() {
                differ(&format!("{path}[{n}]"), a, b, is_secret, found);
            }
        }
        _ if is_secret && path.starts_with("data") => found.push(format!("{path}: another value")),
        (a, Value::Null) => found.push(format!("{path}: {a} goes")),
        (Value::Null, b) => found.push(format!("{path}: {b}")),
        (a, b) => found.push(format!("{path}: {a} -> {b}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn yaml(text: &str) -> Value {
        crate::testing::from_yaml(text).unwrap()
    }

    const SERVICE: &str = "{apiVersion: v1, kind: Service, metadata: {name: web, namespace: shop, uid: u, resourceVersion: '7', \
        labels: {app: web}, annotations: {mine: x, skiff.dev/y: z, kubectl.kubernetes.io/last-applied-configuration: '{}'}}, \
        spec: {type: NodePort, clusterIP: 10.245.1.1, clusterIPs: [10.245.1.1], ipFamilies: [IPv4], ipFamilyPolicy: SingleStack, \
        selector: {app: web}, ports: [{port: 80, nodePort: 30001}]}, status: {loadBalancer: {}}}";
    const CONFIG: &str = "{apiVersion: apps.openshift.io/v1, kind: DeploymentConfig, metadata: {name: web, namespace: shop}, \
        spec: {replicas: 2, selector: {app: web}, template: {metadata: {labels: {app: web}}, spec: {containers: [{name: web, image: 'web:1'}]}}}}";
    const CLAIM: &str = "{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {name: data, namespace: shop}, \
        spec: {storageClassName: standard, volumeName: pvc-1, resources: {requests: {storage: 1Gi}}}}";

    #[test]
    fn what_belongs_to_this_cluster_is_left_out() {
        expect_test::expect![[r#"
            {
              "apiVersion": "v1",
              "kind": "Service",
              "metadata": {
                "annotations": {
                  "mine": "x"
                },
                "labels": {
                  "app": "web"
                },
                "name": "web",
                "namespace": "shop"
              },
              "spec": {
                "ports": [
                  {
                    "port": 80
                  }
                ],
                "selector": {
                  "app": "web"
                },
                "type": "NodePort"
              }
            }"#]]
        .assert_eq(&serde_json::to_string_pretty(&portable(&yaml(SERVICE))).unwrap());
        let headless = portable(&yaml(&SERVICE.replace("clusterIP: 10.245.1.1,", "clusterIP: None,")));
        assert_eq!(headless["spec"]["clusterIP"], "None");
    }

    #[test]
    fn what_the_target_lacks_is_translated_or_named() {
        let mut source = Of { objects: [SERVICE, CONFIG, CLAIM].map(yaml).into(), ..Of::default() };
        source.note_image(&json!({ "names": ["web:1", "sha256:1"] }));
        let target = Target { lacks: ["DeploymentConfig"].into(), ..Target::default() };
        let moved = moved(&source, &target);
        let names: Vec<String> = moved.objects.iter().map(called).collect();
        assert_eq!(
            names,
            ["namespace/shop", "service/web -n shop", "deployment/web -n shop", "persistentvolumeclaim/data -n shop"]
        );
        assert_eq!(moved.objects[3]["spec"], json!({ "resources": { "requests": { "storage": "1Gi" } } }));
        assert_eq!(
            moved.notes[0],
            "deploymentconfig/web -n shop becomes a Deployment: that cluster has no DeploymentConfigs"
        );
        let class =
            "persistentvolumeclaim/data -n shop gets the default class there: that cluster has no class standard";
        assert!(moved.notes.iter().any(|note| note == class), "{:?}", moved.notes);
        assert_eq!(moved.local_images, ["web:1".to_owned()].into());
        // An OpenShift keeps it as it is.
        let moved = super::moved(&source, &Target { namespaces: ["shop".to_owned()].into(), ..Target::default() });
        assert_eq!(moved.objects[1]["kind"], "DeploymentConfig");
        assert_eq!(moved.objects.len(), 3);
    }

    #[test]
    fn an_image_is_local_when_no_registry_has_it() {
        let mut of = Of::default();
        of.note_image(&json!({ "names": ["web:latest", "sha256:1"] }));
        of.note_image(&json!({ "names": ["nginx@sha256:22", "nginx:1.27", "sha256:2"] }));
        of.note_image(&json!({ "names": ["shop:1", "host:5000/shop@sha256:3", "host:5000/shop:1"] }));
        assert!(of.is_local("shop:1") && !of.is_local("host:5000/shop:1"), "it was pushed under another name");
        assert!(of.is_local("web") && of.is_local("web:latest") && of.is_local("sha256:1"));
        assert!(!of.is_local("nginx:1.27") && !of.is_local("nginx@sha256:22") && !of.is_local("elsewhere:1"));
        assert!(!of.is_local("host:5000/web"), "a port is no tag");
        // An engine that keeps images as registries do does not say which have one: the registry is asked.
        of.note_image(&json!({ "names": ["mine@sha256:4", "mine:latest", "sha256:4"] }));
        of.objects.push(json!({ "spec": { "template": { "spec": { "containers": [{ "image": "mine" }, { "image": "nginx:1.27" }] } } } }));
        assert!(of.unsure() == ["mine".to_owned()].into() && of.is_local("mine"));
        of.note_pulled("mine");
        assert!(!of.is_local("mine"));
    }

    #[test]
    fn what_a_user_did_not_make_stays_here() {
        let is = |kind: &str, text: &str| is_users(kind, &yaml(text));
        assert!(
            is("ConfigMap", "{metadata: {name: mine}}") && !is("ConfigMap", "{metadata: {name: kube-root-ca.crt}}")
        );
        assert!(!is("ReplicaSet", "{metadata: {name: a, ownerReferences: [{name: d}]}}"));
        assert!(!is("Secret", "{metadata: {name: a}, type: kubernetes.io/service-account-token}"));
        assert!(!is("Service", "{metadata: {name: kubernetes}}"));
    }

    #[test]
    fn differences_are_told_by_field_and_secrets_keep_theirs() {
        let (a, b) = ("{kind: A, spec: {n: 1, l: [1, 2], gone: x}}", "{kind: A, spec: {n: 2, l: [1, 3], new: y}}");
        let told = differences(&yaml(a), &yaml(b));
        assert_eq!(told, ["spec.gone: \"x\" goes", "spec.l[1]: 2 -> 3", "spec.n: 1 -> 2", "spec.new: \"y\""]);
        let told = differences(&yaml("{kind: Secret, data: {k: YQ==}}"), &yaml("{kind: Secret, data: {k: Yg==}}"));
        assert_eq!(told, ["data.k: another value"]);
        assert!(
            differences(&yaml("{metadata: {resourceVersion: '1'}}"), &yaml("{metadata: {resourceVersion: '2'}}"))
                .is_empty()
        );
    }
}
