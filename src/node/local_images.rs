//! What the server may ask of the node about images, as a trait, and the agent's own.
//!
//! **Source** of `dockerImageMetadata`: `DockerImage` in `image/docker10/dockertypes.go` of openshift/api.

use super::context::Context;
use crate::{
    api::{image_name::is_reference, status::ApiError},
    engine::{EngineError, Image, PullError},
};
use async_trait::async_trait;
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// An image that the engine has.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LocalImage {
    /// `sha256:…`.
    pub id: String,
    /// `repository:tag` names.
    pub tags: Vec<String>,
    /// `repository@sha256:…` names; none when it was made here.
    pub digests: Vec<String>,
    /// The digests of its layers; none in lists.
    pub layers: Vec<String>,
    /// What it says of itself, as `dockerImageMetadata` has it.
    pub metadata: Value,
}

/// The engine's images, as far as the server asks for them.
#[async_trait]
pub trait LocalImages: Send + Sync + 'static {
    /// The image of a name or ID, if it is here.
    ///
    /// # Errors
    /// `Unavailable` when the engine does not answer.
    async fn image(&self, name: &str) -> Result<Option<LocalImage>, ApiError>;

    /// Every image; lists say less of each.
    ///
    /// # Errors
    /// `Unavailable` when the engine does not answer.
    async fn all(&self) -> Result<Vec<LocalImage>, ApiError>;

    /// Pulls an image.
    ///
    /// # Errors
    /// Why it could not be had, in the engine's words.
    async fn pull(&self, name: &str) -> Result<(), String>;
}

/// The agent's.
pub(super) struct NodeImages {
    context: Arc<Context>,
}

impl NodeImages {
    pub(super) fn new(context: Arc<Context>) -> Self {
        Self { context }
    }
}

#[async_trait]
impl LocalImages for NodeImages {
    async fn image(&self, name: &str) -> Result<Option<LocalImage>, ApiError> {
        if !is_reference(name) {
            return Ok(None);
        }
        let found = self.context.ask(self.context.images.look_up(name)).await.map_err(unavailable)?;
        Ok(found.map(shown))
    }

    async fn all(&self) -> Result<Vec<LocalImage>, ApiError> {
        let all = self.context.ask(self.context.engine.images()).await.map_err(unavailable)?;
        Ok(all.into_iter().map(shown).collect())
    }

    async fn pull(&self, name: &str) -> Result<(), String> {
        self.context.images.fetch(name).await.map_err(|err: PullError| err.to_string())
    }
}

#[allow(clippy::needless_pass_by_value, reason = "it maps an error")]
fn unavailable(error: EngineError) -> ApiError {
    ApiError::Unreachable(error.to_string())
}

fn shown(image: Image) -> LocalImage {
    let metadata = metadata(&image);
    LocalImage { id: image.id, tags: image.tags, digests: image.digests, layers: image.details.layers, metadata }
}

/// What an image says of itself, in Docker's own form.
fn metadata(image: &Image) -> Value {
    let details = &image.details;
    let set = |names: &[String]| names.iter().map(|name| (name.clone(), json!({}))).collect::<Map<_, _>>();
    let mut config = json!({
        "User": image.user,
        "Env": details.env,
        "Entrypoint": details.entrypoint,
        "Cmd": details.command,
        "WorkingDir": details.working_dir,
        "ExposedPorts": set(&details.exposed_ports),
        "Volumes": set(&details.volumes),
        "Labels": image.labels,
    });
    config.as_object_mut().expect("it was made one").retain(|_, value| !is_empty(value));
    json!({
        "kind": "DockerImage",
        "apiVersion": "image.openshift.io/1.0",
        "Id": image.id,
        "Created": details.created_at,
        "Config": config,
        "Architecture": details.architecture,
        "Size": image.size_bytes,
    })
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::ImageDetails;

    #[test]
    fn an_image_says_of_itself_what_docker_says() {
        let details = ImageDetails {
            created_at: Some("2026-01-01T00:00:00Z".parse().unwrap()),
            architecture: "amd64".into(),
            command: vec!["serve".into()],
            env: vec!["A=b".into()],
            exposed_ports: vec!["8080/tcp".into()],
            layers: vec!["sha256:l".into()],
            ..ImageDetails::default()
        };
        let image = Image { id: "sha256:i".into(), user: "1000".into(), size_bytes: 7, details, ..Image::default() };
        let shown = shown(image);
        assert_eq!(shown.layers, ["sha256:l"]);
        assert_eq!(
            shown.metadata,
            json!({
                "kind": "DockerImage", "apiVersion": "image.openshift.io/1.0", "Id": "sha256:i",
                "Created": "2026-01-01T00:00:00Z", "Architecture": "amd64", "Size": 7,
                "Config": { "User": "1000", "Env": ["A=b"], "Cmd": ["serve"], "ExposedPorts": { "8080/tcp": {} } },
            })
        );
    }
}
