//! `DeploymentConfig`, apps.openshift.io/v1, and the same objects under their old name, `v1`.
//!
//! - [`types`]: the types, with those of requests. `triggers`: what starts a rollout. `strategy`: how it is done.
//!
//! **Not here**: rollouts (`controllers/deployment_config`, `controllers/deployer`, `roles/deployer`), and requests for them
//! (`server/verbs/deployment_config`).
//! **Source**: github.com/openshift/openshift-apiserver, `pkg/apps/apis/apps/{v1/defaults,validation/validation}.go` and
//! `pkg/apps/apiserver/registry/deployconfig/{strategy.go,etcd/etcd.go}`, release 4.20.

pub mod strategy;
pub mod triggers;
pub mod types;

use super::{
    check::{self, Errors},
    part,
    pod_spec::defaults,
    pod_template,
};
use crate::{
    api::{
        field::{FieldError, FieldErrorKind},
        kind::{ALL_VERBS, Kind, KindInfo, SCALE, STATUS, ScaleView, Scope, Subresource},
        selector::LabelSelector,
        table::{self, Column},
    },
    base::ordered::Set,
};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, PodTemplateSpec};
use serde_json::{Value, json};
use types::{API_VERSION, DeploymentConfig, DeploymentConfigSpec, KIND};

/// The label of a DeploymentConfig's pods that has its name.
pub const CONFIG_LABEL: &str = "deploymentconfig";

const GROUP: &str = "apps.openshift.io";
const SCHEMA: &str = "com.github.openshift.api.apps.v1.DeploymentConfig";
/// How many old ReplicationControllers are kept, unless the user says otherwise.
const HISTORY_LIMIT: i32 = 10;

const COLUMNS: &[Column<'_>] = &[
    Column::name(),
    Column::number("Revision", "The number of the latest rollout."),
    Column::number("Desired", "How many pods are wanted."),
    Column::number("Current", "How many pods are of the latest rollout."),
    Column::text("Triggered By", "What starts a rollout."),
];

/// The kind `DeploymentConfig`.
#[derive(Debug)]
pub struct DeploymentConfigs;

impl Kind for DeploymentConfigs {
    type Object = DeploymentConfig;
    const INFO: KindInfo<'static> = KindInfo {
        group: GROUP,
        version: "v1",
        kind: KIND,
        plural: "deploymentconfigs",
        singular: "deploymentconfig",
        short_names: &["dc"],
        categories: &["all"],
        scope: Scope::Namespaced,
        verbs: ALL_VERBS,
        subresources: &[
            Subresource::of("instantiate", (GROUP, "v1", "DeploymentRequest"), &["create"]),
            Subresource::of("log", (GROUP, "v1", "DeploymentLog"), &["get"]),
            Subresource::of("rollback", (GROUP, "v1", "DeploymentConfigRollback"), &["create"]),
            SCALE,
            STATUS,
        ],
        columns: COLUMNS,
        stored_as: None,
        schema: SCHEMA,
    };

    fn set_defaults(obj: &mut DeploymentConfig) {
        let namespace = obj.metadata.namespace.clone().unwrap_or_default();
        let spec = &mut obj.spec;
        triggers::set_defaults(spec.triggers.get_or_insert_with(triggers::only_config), &namespace);
        if let Some(template) = &mut spec.template {
            defaults::template(template);
        }
        let labels = spec.template.as_ref().and_then(|t| t.metadata.as_ref()).and_then(|m| m.labels.clone());
        if spec.selector.is_empty() {
            spec.selector = labels.unwrap_or_default();
        }
        strategy::set_defaults(&mut spec.strategy, containers(spec.template.as_ref()));
    }

    fn prepare_create(obj: &mut DeploymentConfig) {
        obj.status = types::DeploymentConfigStatus::default();
        obj.spec.revision_history_limit.get_or_insert(HISTORY_LIMIT);
        let triggers = obj.spec.triggers.iter_mut().flatten();
        triggers.filter_map(|t| t.image_change_params.as_mut()).for_each(|image| image.last_triggered_image.clear());
    }

    fn validate(obj: &DeploymentConfig) -> Errors {
        let mut errs = Errors::new();
        validate_spec(&mut errs, &obj.spec);
        errs
    }

    /// The status stays, but for one thing: whoever asks for exactly the next rollout gets it, and says why. Rollbacks and old clients do
    /// that, and `instantiate`.
    fn prepare_update(new: &mut DeploymentConfig, old: &DeploymentConfig) {
        triggers::keep_images(&mut new.spec, &old.spec);
        let asked = std::mem::replace(&mut new.status, old.status.clone());
        if old.status.latest_version.checked_add(1) == Some(asked.latest_version) {
            new.status.latest_version = asked.latest_version;
            new.status.details = asked.details;
        }
    }

    fn prepare_status(new: &mut DeploymentConfig, old: &DeploymentConfig) {
        new.spec.clone_from(&old.spec);
        new.metadata.labels.clone_from(&old.metadata.labels);
    }

    fn validate_status(new: &DeploymentConfig, old: &DeploymentConfig) -> Errors {
        let mut errs = Errors::new();
        let numbers = [
            ("latestVersion", new.status.latest_version, old.status.latest_version),
            ("observedGeneration", new.status.observed_generation, old.status.observed_generation),
        ];
        for (name, new, old) in numbers {
            check::non_negative(&mut errs, format!("status.{name}"), Some(new));
            if new < old {
                errs.push(FieldError::invalid(format!("status.{name}"), new, format!("{name} cannot be decremented")));
            }
        }
        let counts = [
            ("replicas", new.status.replicas),
            ("readyReplicas", new.status.ready_replicas),
            ("availableReplicas", new.status.available_replicas),
            ("updatedReplicas", new.status.updated_replicas),
        ];
        counts.iter().for_each(|(name, n)| check::non_negative(&mut errs, format!("status.{name}"), Some(*n)));
        errs
    }

    /// That a rollout was asked for counts as spec too.
    fn same_spec(new: &DeploymentConfig, old: &DeploymentConfig) -> bool {
        new.spec == old.spec && new.status.latest_version == old.status.latest_version
    }

    fn row(obj: &DeploymentConfig, _now: Timestamp) -> Vec<Value> {
        let desired = if obj.spec.test {
            json!(format!("{} (during test)", obj.spec.replicas))
        } else {
            json!(obj.spec.replicas)
        };
        vec![
            table::name(&obj.metadata),
            json!(obj.status.latest_version),
            desired,
            json!(obj.status.updated_replicas),
            json!(triggers::cell(
                obj.spec.triggers.as_deref().unwrap_or_default(),
                containers(obj.spec.template.as_ref())
            )),
        ]
    }

    fn scale(obj: &DeploymentConfig) -> Option<ScaleView> {
        let mut selector = obj.spec.selector.clone();
        selector.insert(CONFIG_LABEL.to_owned(), obj.metadata.name.clone().unwrap_or_default());
        Some(ScaleView {
            spec_replicas: obj.spec.replicas,
            status_replicas: obj.status.replicas,
            selector: LabelSelector::from_map(&selector).to_string(),
        })
    }

    fn set_scale(obj: &mut DeploymentConfig, replicas: i32) {
        obj.spec.replicas = replicas;
    }

    fn warnings(obj: &DeploymentConfig) -> Vec<String> {
        pod_template::warnings(obj.spec.template.as_ref())
    }
}

/// The same objects as `v1`, as the documentation still writes them. The plural differs, so that clients that ask for
/// `deploymentconfigs` mean the group's.
#[derive(Debug)]
pub struct LegacyDeploymentConfigs;

impl Kind for LegacyDeploymentConfigs {
    type Object = DeploymentConfig;
    const INFO: KindInfo<'static> = KindInfo {
        group: "",
        plural: "legacydeploymentconfigs",
        singular: "legacydeploymentconfig",
        short_names: &[],
        categories: &[],
        subresources: &[STATUS],
        stored_as: Some((GROUP, "deploymentconfigs")),
        ..DeploymentConfigs::INFO
    };

    fn set_defaults(obj: &mut DeploymentConfig) {
        DeploymentConfigs::set_defaults(obj);
    }
    fn prepare_create(obj: &mut DeploymentConfig) {
        DeploymentConfigs::prepare_create(obj);
    }
    fn validate(obj: &DeploymentConfig) -> Errors {
        DeploymentConfigs::validate(obj)
    }
    fn prepare_update(new: &mut DeploymentConfig, old: &DeploymentConfig) {
        DeploymentConfigs::prepare_update(new, old);
    }
    fn prepare_status(new: &mut DeploymentConfig, old: &DeploymentConfig) {
        DeploymentConfigs::prepare_status(new, old);
    }
    fn validate_status(new: &DeploymentConfig, old: &DeploymentConfig) -> Errors {
        DeploymentConfigs::validate_status(new, old)
    }
    fn same_spec(new: &DeploymentConfig, old: &DeploymentConfig) -> bool {
        DeploymentConfigs::same_spec(new, old)
    }
    fn row(obj: &DeploymentConfig, now: Timestamp) -> Vec<Value> {
        DeploymentConfigs::row(obj, now)
    }
    fn warnings(obj: &DeploymentConfig) -> Vec<String> {
        DeploymentConfigs::warnings(obj)
    }
    fn to_stored(json: Value) -> Value {
        of_version(json, API_VERSION)
    }
    fn from_stored(json: Value) -> Value {
        of_version(json, "v1")
    }
}

fn of_version(mut json: Value, api_version: &str) -> Value {
    json["apiVersion"] = json!(api_version);
    json
}

fn containers(template: Option<&PodTemplateSpec>) -> &[Container] {
    template.and_then(|t| t.spec.as_ref()).map_or(&[], |spec| &spec.containers)
}

fn validate_spec(errs: &mut Errors, spec: &DeploymentConfigSpec) {
    min_ready(errs, spec);
    triggers::validate(errs, spec.triggers.as_deref().unwrap_or_default());
    strategy::validate(errs, &spec.strategy, "spec.strategy");
    check::non_negative(errs, "spec.revisionHistoryLimit", spec.revision_history_limit);
    check::non_negative(errs, "spec.replicas", Some(spec.replicas));
    if spec.selector.is_empty() {
        errs.push(FieldError::invalid("spec.selector", &spec.selector, "selector cannot be empty"));
    }
    let Some(template) = &spec.template else {
        errs.push(FieldError::required("spec.template", ""));
        return;
    };
    let mut found = Errors::new();
    pod_template::check_template(&mut found, &LabelSelector::from_map(&spec.selector), template, KIND);
    let to_come = images_to_come(spec, template);
    errs.extend(found.into_iter().filter(|err| err.kind != FieldErrorKind::Required || !to_come.contains(&err.path)));
}

/// A new pod must count as available before somebody gives up.
fn min_ready(errs: &mut Errors, spec: &DeploymentConfigSpec) {
    const PATH: &str = "spec.minReadySeconds";
    let secs = i64::from(spec.min_ready_seconds);
    check::non_negative(errs, PATH, Some(secs));
    let timeout = spec.strategy.timeout_secs();
    if timeout > 0 && secs >= timeout {
        errs.push(FieldError::invalid(PATH, secs, format!("must be less than the deployment timeout ({timeout}s)")));
    }
    if let Some(deadline) = spec.strategy.active_deadline_seconds.filter(|deadline| secs >= *deadline) {
        let why = format!("must be less than activeDeadlineSeconds ({deadline}s - used by the deployer pod)");
        errs.push(FieldError::invalid(PATH, secs, why));
    }
}

/// The fields that a trigger will fill: images of containers that have none.
fn images_to_come(spec: &DeploymentConfigSpec, template: &PodTemplateSpec) -> Set<String> {
    let pods = part(&template.spec);
    let init = pods.init_containers.as_deref().unwrap_or_default();
    let field = |list: &'static str| {
        let triggers = spec.triggers.as_deref().unwrap_or_default();
        move |(i, container): (usize, &Container)| {
            triggers::names(triggers, &container.name).then(|| format!("spec.template.spec.{list}[{i}].image"))
        }
    };
    let containers = pods.containers.iter().enumerate().filter_map(field("containers"));
    containers.chain(init.iter().enumerate().filter_map(field("initContainers"))).collect()
}

#[cfg(test)]
mod tests;
