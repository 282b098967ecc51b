//! `PodTimeline`, skiff.dev/v1: when the containers of a pod ended and started, to the millisecond, and what came between.
//!
//! Made by the node agent, which keeps the last starts of a pod in memory; served as `pods/NAME/timeline`; read by the command line.

use serde::{Deserialize, Serialize};

/// The API group and version.
pub const API_VERSION: &str = "skiff.dev/v1";

/// The starts of a pod's containers, the latest last.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Timeline {
    /// [`API_VERSION`].
    pub api_version: String,
    /// `PodTimeline`.
    pub kind: String,
    /// The pod's name and UID.
    pub metadata: Whose,
    /// The starts that are remembered.
    pub starts: Vec<Start>,
}

/// Which pod it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Whose {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
}

/// A start of a container, and the end before it. Times are RFC 3339 with milliseconds; amounts of time are in milliseconds since the
/// container ended, or since it was created where it is its first start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Start {
    /// The container.
    pub container: String,
    /// How often it had started before.
    pub restart: u32,
    /// Why it ended before: `Killed`, `Exited`, `OOMKilled`, `LivenessProbe`, `StartupProbe`, `PostStartHook`, `EngineRestart`,
    /// `SandboxGone`, `Changed`, `Resized` or `Superseded`. None at a first start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// With which code it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// When it ended, by the engine's clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended: Option<String>,
    /// When skiff knew.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub noticed: Option<String>,
    /// When the container that follows it was created, by the engine's clock; none where the engine itself started the same again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// When it started, by the engine's clock.
    pub started: String,
    /// When it was ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready: Option<String>,
    /// From the end to its notice.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub noticed_after_ms: Option<i64>,
    /// From the end to the creation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_after_ms: Option<i64>,
    /// From the end, or the creation, to the start.
    pub started_after_ms: i64,
    /// From the end, or the creation, until it was ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready_after_ms: Option<i64>,
}
