//! The types of apps.openshift.io/v1.
//!
//! **Source**: github.com/openshift/api, apps/v1/types.go, release 4.20: names, and which fields are always written.

use crate::api::object::Object;
use k8s_openapi::{
    api::core::v1::{EnvVar, ObjectReference, PodTemplateSpec, ResourceRequirements},
    apimachinery::pkg::{
        apis::meta::v1::{ObjectMeta, Time},
        util::intstr::IntOrString,
    },
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The group and version of these types.
pub const API_VERSION: &str = "apps.openshift.io/v1";
/// The kind.
pub const KIND: &str = "DeploymentConfig";

/// How pods of a template are rolled out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DeploymentConfig {
    /// `apps.openshift.io/v1`, or `v1` for what an old client reads.
    pub api_version: String,
    /// `DeploymentConfig`.
    pub kind: String,
    /// Standard object metadata.
    pub metadata: ObjectMeta,
    /// What is wanted.
    pub spec: DeploymentConfigSpec,
    /// What there is.
    pub status: DeploymentConfigStatus,
}

impl Default for DeploymentConfig {
    fn default() -> Self {
        Self {
            api_version: API_VERSION.to_owned(),
            kind: KIND.to_owned(),
            metadata: ObjectMeta::default(),
            spec: DeploymentConfigSpec::default(),
            status: DeploymentConfigStatus::default(),
        }
    }
}

impl Object for DeploymentConfig {
    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }
    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

/// What is wanted of a DeploymentConfig.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DeploymentConfigSpec {
    /// How a rollout is done.
    pub strategy: DeploymentStrategy,
    /// For how many seconds a new pod must be ready to count as available.
    #[serde(skip_serializing_if = "is_zero")]
    pub min_ready_seconds: i32,
    /// What starts a rollout. `None` becomes a change of the configuration; with an empty list, only requests do.
    pub triggers: Option<Vec<DeploymentTriggerPolicy>>,
    /// How many pods are wanted.
    pub replicas: i32,
    /// How many old ReplicationControllers are kept. `None`: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision_history_limit: Option<i32>,
    /// Whether pods run only while a rollout goes on.
    pub test: bool,
    /// Whether changes start nothing.
    #[serde(skip_serializing_if = "is_false")]
    pub paused: bool,
    /// The labels of its pods.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub selector: BTreeMap<String, String>,
    /// The pods.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template: Option<PodTemplateSpec>,
}

/// How a rollout is done.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DeploymentStrategy {
    /// `Rolling`, `Recreate` or `Custom`.
    #[serde(rename = "type", skip_serializing_if = "String::is_empty")]
    pub type_: String,
    /// Another deployer than the stock one; for any type.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub custom_params: Option<CustomDeploymentStrategyParams>,
    /// Details of `Recreate`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recreate_params: Option<RecreateDeploymentStrategyParams>,
    /// Details of `Rolling`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rolling_params: Option<RollingDeploymentStrategyParams>,
    /// What the deployer's container may use.
    pub resources: ResourceRequirements,
    /// Labels of deployer and hook pods.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Annotations of deployer and hook pods.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// How many seconds a deployer pod may run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub active_deadline_seconds: Option<i64>,
}

/// A deployer of one's own.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CustomDeploymentStrategyParams {
    /// The image; empty: the stock deployer's.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub image: String,
    /// Environment of the container.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub environment: Vec<EnvVar>,
    /// The command; empty: the image's.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
}

/// Details of `Recreate`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RecreateDeploymentStrategyParams {
    /// How many seconds a step may take.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_seconds: Option<i64>,
    /// What is done at the start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pre: Option<LifecycleHook>,
    /// What is done when the old pods are gone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mid: Option<LifecycleHook>,
    /// What is done at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub post: Option<LifecycleHook>,
}

/// Details of `Rolling`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RollingDeploymentStrategyParams {
    /// Seconds between two steps.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub update_period_seconds: Option<i64>,
    /// Seconds between two looks at a step.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval_seconds: Option<i64>,
    /// How many seconds may pass without progress.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_seconds: Option<i64>,
    /// How many pods may be missing, or which share.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_unavailable: Option<IntOrString>,
    /// How many pods there may be beyond the wanted ones, or which share.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_surge: Option<IntOrString>,
    /// What is done at the start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pre: Option<LifecycleHook>,
    /// What is done at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub post: Option<LifecycleHook>,
}

/// What is done at one point of a rollout.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LifecycleHook {
    /// `Abort`, `Retry` or `Ignore`.
    pub failure_policy: String,
    /// A command in a pod of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exec_new_pod: Option<ExecNewPodHook>,
    /// Tags for images of the template.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tag_images: Vec<TagImageHook>,
}

/// A command in a pod of its own.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ExecNewPodHook {
    /// The command.
    pub command: Vec<String>,
    /// Environment on top of the container's.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<EnvVar>,
    /// The container of the template that the pod is made after.
    pub container_name: String,
    /// The template's volumes that the pod gets.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<String>,
}

/// A tag for an image.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TagImageHook {
    /// The container whose image it is.
    pub container_name: String,
    /// The ImageStreamTag.
    pub to: ObjectReference,
}

/// Something that starts a rollout.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DeploymentTriggerPolicy {
    /// `ConfigChange` or `ImageChange`.
    #[serde(rename = "type", skip_serializing_if = "String::is_empty")]
    pub type_: String,
    /// Details of `ImageChange`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_change_params: Option<DeploymentTriggerImageChangeParams>,
}

/// Which image is followed, and for which containers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DeploymentTriggerImageChangeParams {
    /// Whether a new image is put into the template at once.
    #[serde(skip_serializing_if = "is_false")]
    pub automatic: bool,
    /// The containers that get the image.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub container_names: Vec<String>,
    /// The ImageStreamTag.
    pub from: ObjectReference,
    /// The image that was put in last; empty: none yet.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub last_triggered_image: String,
}

/// What there is of a DeploymentConfig.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DeploymentConfigStatus {
    /// The number of the latest rollout; 0: none yet.
    pub latest_version: i64,
    /// The generation that was seen last.
    pub observed_generation: i64,
    /// How many pods there are.
    pub replicas: i32,
    /// How many pods are of the latest rollout.
    pub updated_replicas: i32,
    /// How many pods are available.
    pub available_replicas: i32,
    /// How many pods are missing.
    pub unavailable_replicas: i32,
    /// Why the latest rollout was started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub details: Option<DeploymentDetails>,
    /// The latest observations.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<DeploymentCondition>,
    /// How many pods are ready.
    #[serde(skip_serializing_if = "is_zero")]
    pub ready_replicas: i32,
}

/// Why a rollout was started.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DeploymentDetails {
    /// In words.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// The causes.
    pub causes: Vec<DeploymentCause>,
}

/// A reason to start a rollout.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DeploymentCause {
    /// `ConfigChange`, `ImageChange` or `Manual`.
    #[serde(rename = "type")]
    pub type_: String,
    /// Details of `ImageChange`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_trigger: Option<DeploymentCauseImageTrigger>,
}

/// The image that started a rollout.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DeploymentCauseImageTrigger {
    /// The image.
    pub from: ObjectReference,
}

/// One observation of a DeploymentConfig.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DeploymentCondition {
    /// `Available`, `Progressing` or `ReplicaFailure`.
    #[serde(rename = "type")]
    pub type_: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// When it was seen last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_update_time: Option<Time>,
    /// When its status changed last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_transition_time: Option<Time>,
    /// Why, in one word.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// In words.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
}

/// Asks for a rollout.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DeploymentRequest {
    /// The DeploymentConfig.
    pub name: String,
    /// Whether the images of triggers are looked up again.
    pub latest: bool,
    /// Whether a rollout is started although nothing has changed.
    pub force: bool,
    /// Types of triggers that are not looked at.
    pub exclude_triggers: Vec<String>,
}

/// Asks what a DeploymentConfig would be with the parts of an earlier rollout.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DeploymentConfigRollback {
    /// The DeploymentConfig.
    pub name: String,
    /// Annotations that it gets.
    pub updated_annotations: BTreeMap<String, String>,
    /// To which rollout, and what of it.
    pub spec: DeploymentConfigRollbackSpec,
}

/// What is taken from an earlier rollout.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[allow(clippy::struct_excessive_bools, reason = "the API has them")]
pub struct DeploymentConfigRollbackSpec {
    /// The ReplicationController of that rollout.
    pub from: ObjectReference,
    /// The number of that rollout; 0: the one before the latest.
    pub revision: i64,
    /// Whether the triggers are taken.
    pub include_triggers: bool,
    /// Whether the template is taken.
    pub include_template: bool,
    /// Whether replicas and selector are taken.
    pub include_replication_meta: bool,
    /// Whether the strategy is taken.
    pub include_strategy: bool,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_zero(number: &i32) -> bool {
    *number == 0
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_false(value: &bool) -> bool {
    !*value
}
