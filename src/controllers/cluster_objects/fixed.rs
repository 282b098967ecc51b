//! The objects of every cluster whose kinds are served from their schema: what each should be, and what is to be done about it.
//!
//! **Source**: `pkg/controlplane/controller/defaultservicecidr`, `pkg/registry/flowcontrol/rest/storage_flowcontrol.go` and
//! `pkg/registry/scheduling/rest/storage_scheduling.go`, v1.37.
//! The class of Ingresses is skiff's own, and the default until a user says otherwise.

use super::{Action, Planned};
use crate::{
    api::{
        agreements::{DOCKER_VOLUMES, INGRESS_CLASS, INGRESS_CONTROLLER},
        json_kind::JsonKind,
        kind::{ErasedKind as _, KindRef},
        kinds::{
            flow_schema::{self, FLOW_SCHEMAS},
            ingress_class::{self, INGRESS_CLASSES},
            priority,
            priority_class::PRIORITY_CLASSES,
            priority_level_configuration::{self, PRIORITY_LEVEL_CONFIGURATIONS},
            service_cidr::{self, SERVICE_CIDRS},
            storage_class::{DEFAULT_ANNOTATION, STORAGE_CLASSES},
        },
        meta::ObjectKey,
        object::DynObject,
    },
    registry::{
        Registry,
        pipeline::{DeleteOptions, Part},
    },
};
use serde_json::{Value, json};

/// The kinds that these objects are of.
pub(super) static KINDS: &[&JsonKind] = &[
    &PRIORITY_CLASSES,
    &FLOW_SCHEMAS,
    &PRIORITY_LEVEL_CONFIGURATIONS,
    &SERVICE_CIDRS,
    &STORAGE_CLASSES,
    &INGRESS_CLASSES,
];

/// The priority classes of every cluster, and what they are for.
const CLASSES: [(&str, &str); 2] = [
    ("system-cluster-critical", "For system pods that the cluster needs, on whatever node."),
    ("system-node-critical", "For system pods that their node needs, and that must not move."),
];

/// An object that every cluster has, and what there is of it.
#[derive(Clone, Debug)]
pub(super) struct Fixed {
    pub(super) kind: &'static JsonKind,
    /// What it should be. What it has in its status is written once.
    pub(super) wanted: Value,
    /// What is there.
    pub(super) found: Option<Value>,
}

/// What every cluster has, as a cluster has it whose Services are in this range.
pub(super) fn wanted(range: &str, now: &str) -> Vec<Fixed> {
    let of = |kind| move |wanted| Fixed { kind, wanted, found: None };
    let level =
        |schema: &Value| schema["spec"]["priorityLevelConfiguration"]["name"].as_str().unwrap_or_default().to_owned();
    let schemas = flow_schema::mandatory().map(|mut schema| {
        let level = level(&schema);
        let message =
            format!("This FlowSchema references the PriorityLevelConfiguration object named \"{level}\" and it exists");
        schema["status"] = condition("Dangling", "False", "Found", &message, now);
        schema
    });
    let message = "Kubernetes default Service CIDR is ready";
    let range = json!({
        "metadata": { "name": service_cidr::DEFAULT_NAME }, "spec": { "cidrs": [range] },
        "status": condition("Ready", "True", "", message, now),
    });
    let classes = CLASSES.map(|(name, description)| {
        let value = priority::of_class(name).expect("it is a class that every cluster has");
        json!({ "metadata": { "name": name }, "value": value, "description": description })
    });
    let storage = json!({
        "metadata": { "name": "standard", "annotations": { DEFAULT_ANNOTATION: "true" } },
        "provisioner": DOCKER_VOLUMES, "volumeBindingMode": "WaitForFirstConsumer", "allowVolumeExpansion": true,
    });
    let ingress = json!({
        "metadata": { "name": INGRESS_CLASS, "annotations": { ingress_class::DEFAULT_ANNOTATION: "true" } },
        "spec": { "controller": INGRESS_CONTROLLER },
    });
    let levels = priority_level_configuration::mandatory().into_iter().map(of(&PRIORITY_LEVEL_CONFIGURATIONS));
    let classes = classes.into_iter().map(of(&PRIORITY_CLASSES));
    let schemas = schemas.into_iter().map(of(&FLOW_SCHEMAS));
    let others = [of(&SERVICE_CIDRS)(range), of(&STORAGE_CLASSES)(storage), of(&INGRESS_CLASSES)(ingress)];
    classes.chain(levels).chain(schemas).chain(others).collect()
}

fn condition(kind: &str, status: &str, reason: &str, message: &str, now: &str) -> Value {
    json!({ "conditions": [
        { "type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": now },
    ] })
}

/// What there is of these objects.
pub(super) fn observe(registry: &Registry) -> Vec<Fixed> {
    let now = registry.clock().now();
    let mut all = wanted(&registry.config().services.to_string(), &format!("{now:.0}"));
    for fixed in &mut all {
        let entry = registry.entry(fixed.kind, &fixed.key());
        fixed.found = entry.and_then(|entry| serde_json::from_slice(&entry.value).ok());
    }
    all
}

impl Fixed {
    fn key(&self) -> ObjectKey {
        ObjectKey::new("", self.wanted["metadata"]["name"].as_str().unwrap_or_default())
    }

    /// What is to be done, if anything. What may not change makes place for what it should be.
    pub(super) fn decide(&self) -> Option<Planned> {
        let kind = KindRef::BuiltIn(self.kind);
        let decode =
            |value: &Value| -> Box<dyn DynObject> { self.kind.decode(value.clone()).expect("it fits the schema") };
        let Some(found) = &self.found else {
            let object = decode(&self.wanted);
            return Some(Action::Create { kind, object }.because("an object of every cluster is missing"));
        };
        if self.is_of_another_range(found) {
            let uid = found["metadata"]["uid"].as_str().map(str::to_owned);
            let options = DeleteOptions { uid, ..DeleteOptions::default() };
            return Some(Action::Delete { kind, key: self.key(), options }.because("Services are in another range"));
        }
        let status = self.wanted.get("status")?;
        if found["status"]["conditions"].is_array() {
            return None;
        }
        let mut object = found.clone();
        object["status"] = status.clone();
        let object = decode(&object);
        Some(Action::Update { kind, part: Part::Status, object }.because("it has no conditions"))
    }

    fn is_of_another_range(&self, found: &Value) -> bool {
        std::ptr::eq(self.kind, &raw const SERVICE_CIDRS) && found["spec"]["cidrs"] != self.wanted["spec"]["cidrs"]
    }
}
