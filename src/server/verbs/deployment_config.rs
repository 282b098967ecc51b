//! What may be asked of a DeploymentConfig: the next rollout (`instantiate`), and what it would be if it went back (`rollback`).
//!
//! **Not here**: the rollouts themselves (`controllers/deployment_config`), their log (`deployment_log`).
//! **Source**: github.com/openshift/openshift-apiserver, `pkg/apps/apiserver/registry/{instantiate,rollback}/rest.go`, release 4.20.

use super::Call;
use crate::{
    api::{
        field::FieldError,
        kinds::{
            deployment_config::{
                triggers::{CONFIG_CHANGE, IMAGE_CHANGE},
                types::{
                    API_VERSION, DeploymentCause, DeploymentCauseImageTrigger, DeploymentConfig,
                    DeploymentConfigRollback, DeploymentDetails, DeploymentRequest,
                    DeploymentTriggerImageChangeParams as ImageChange,
                },
            },
            image_stream::ImageStreams,
            replication_controller::ReplicationControllers,
        },
        meta::ObjectKey,
        object::DynObject,
        rollout::{self, annotate, rollout_name},
        status::ApiError,
    },
    base::json,
    registry::{Registry, pipeline::Part},
    server::{
        codec,
        media::Offer,
        respond::{self, Response},
    },
    store::Entry,
};
use k8s_openapi::api::core::v1::{ObjectReference, PodTemplateSpec, ReplicationController};
use serde_json::json;
use std::sync::Arc;

/// The cause of a rollout that somebody asked for.
const MANUAL: &str = "Manual";

/// Starts the next rollout.
pub(super) async fn instantiate(call: &Call<'_>) -> Result<Response, ApiError> {
    let format = codec::body_format(&call.request.headers)?;
    let request: DeploymentRequest = codec::decode_plain(format, &call.request.body, "DeploymentRequest", API_VERSION)?;
    if request.name != call.info.name {
        return Err(ApiError::BadRequest("name in URL does not match name in DeploymentRequest object".to_owned()));
    }
    let writing = call.writing("CreateOptions")?;
    let registry = call.registry();
    let key = call.key();
    let mut nothing_due = false;
    let mut change = |entry: &Entry| {
        let mut config = read(entry)?;
        if config.spec.paused {
            return Err(is_paused(&config));
        }
        if request.latest {
            take_images(&mut config, &request, |from| image_of(registry, from));
        }
        let latest = rollout_of(registry, &key, config.status.latest_version);
        match causes(&config, latest.as_deref(), request.force)? {
            Some(causes) => {
                config.status.details = Some(details(causes));
                config.status.latest_version += 1;
            }
            None => nothing_due = true,
        }
        Ok(Box::new(config) as Box<dyn DynObject>)
    };
    let entry = registry.update(&*call.kind, &key, Part::Main, &mut change, &writing.write).await?;
    if !nothing_due {
        return call.object(201, &entry);
    }
    let message = format!("deployment config {:?} cannot be instantiated", request.name);
    // Its code says that there is nothing; the answer has a body and so cannot be a 204 itself.
    let status = json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "message": message, "code": 204 });
    respond::value(201, call.output(Offer::Plain)?, &status)
}

fn read(entry: &Entry) -> Result<DeploymentConfig, ApiError> {
    json::read(&entry.value).map_err(|err| ApiError::Internal(format!("a stored object cannot be read: {err}")))
}

fn is_paused(config: &DeploymentConfig) -> ApiError {
    let name = config.metadata.name.clone().unwrap_or_default();
    let why = format!("deployment config {name:?} is paused - unpause to request a new deployment");
    let causes = vec![FieldError::invalid("paused", true, why)];
    ApiError::Invalid { kind: "DeploymentRequest.apps.openshift.io".to_owned(), name, causes }
}

fn rollout_of(registry: &Registry, config: &ObjectKey, version: i64) -> Option<Arc<ReplicationController>> {
    let name = rollout_name(&config.name, version);
    registry.api::<ReplicationControllers>().get(&ObjectKey::new(&config.namespace, name))
}

/// The image that a tag of an image stream stands for now.
fn image_of(registry: &Registry, from: &ObjectReference) -> Option<String> {
    let (stream, tag) = from.name.as_deref()?.split_once(':')?;
    let key = ObjectKey::new(from.namespace.as_deref().unwrap_or_default(), stream);
    registry.api::<ImageStreams>().get(&key)?.resolve(tag)
}

fn images(config: &DeploymentConfig) -> impl Iterator<Item = &ImageChange> {
    let triggers = config.spec.triggers.iter().flatten().filter(|trigger| trigger.type_ == IMAGE_CHANGE);
    triggers.filter_map(|trigger| trigger.image_change_params.as_ref())
}

/// Looks the images of triggers up again, and puts them into the template. Those that are not automatic are looked up when it is forced.
/// **Source**: `processTriggers`.
fn take_images(
    config: &mut DeploymentConfig,
    request: &DeploymentRequest,
    image_of: impl Fn(&ObjectReference) -> Option<String>,
) {
    if request.exclude_triggers.iter().any(|excluded| excluded == IMAGE_CHANGE) {
        return;
    }
    let Some(pods) = config.spec.template.as_mut().and_then(|template| template.spec.as_mut()) else { return };
    let triggers = config.spec.triggers.iter_mut().flatten().filter(|trigger| trigger.type_ == IMAGE_CHANGE);
    for params in triggers.filter_map(|t| t.image_change_params.as_mut()).filter(|p| p.automatic || request.force) {
        let Some(image) = image_of(&params.from) else { continue };
        let containers = pods.containers.iter_mut().chain(pods.init_containers.iter_mut().flatten());
        for container in containers.filter(|container| params.container_names.contains(&container.name)) {
            container.image = Some(image.clone());
        }
        params.last_triggered_image = image;
    }
}

/// Why a rollout is due; `None`: none is. **Source**: `canTrigger`.
///
/// # Errors
/// An image is not known yet.
fn causes(
    config: &DeploymentConfig,
    latest: Option<&ReplicationController>,
    force: bool,
) -> Result<Option<Vec<DeploymentCause>>, ApiError> {
    if images(config).any(|params| is_unresolved(config, params)) {
        let name = config.metadata.name.as_deref().unwrap_or_default();
        return Err(ApiError::BadRequest(format!(
            "cannot trigger a deployment for {name:?} because it contains unresolved images"
        )));
    }
    if force {
        return Ok(Some(vec![DeploymentCause { type_: MANUAL.to_owned(), image_trigger: None }]));
    }
    let was = latest.and_then(|latest| rollout::config(latest).ok());
    let is_first = config.status.latest_version == 0;
    let is_due = |params: &ImageChange| {
        is_first || was.as_ref().is_some_and(|was| has_new_trigger(was, config) || is_news(was, params))
    };
    // What is not automatic starts nothing by itself; beside one that is due, all others count too that come after it.
    let changed: Vec<DeploymentCause> = images(config)
        .filter(|params| params.automatic)
        .skip_while(|params| !is_due(params))
        .map(image_cause)
        .collect();
    if !changed.is_empty() {
        return Ok(Some(changed));
    }
    let follows_template = config.spec.triggers.iter().flatten().any(|trigger| trigger.type_ == CONFIG_CHANGE);
    let differs = is_first || was.is_none_or(|was| was.spec.template != config.spec.template);
    let cause = DeploymentCause { type_: CONFIG_CHANGE.to_owned(), image_trigger: None };
    Ok((follows_template && differs).then(|| vec![cause]))
}

/// Whether an image is followed that the latest rollout did not follow. **Source**: `hasUpdatedTriggers`.
fn has_new_trigger(was: &DeploymentConfig, config: &DeploymentConfig) -> bool {
    images(config).any(|params| !images(was).any(|before| before.from == params.from))
}

/// Whether a rollout has to wait for an image: it was never known, and a container has no other.
fn is_unresolved(config: &DeploymentConfig, params: &ImageChange) -> bool {
    let pods = config.spec.template.as_ref().and_then(|template: &PodTemplateSpec| template.spec.as_ref());
    let containers =
        pods.into_iter().flat_map(|pods| pods.containers.iter().chain(pods.init_containers.iter().flatten()));
    let mut named = containers.filter(|container| params.container_names.contains(&container.name));
    let is_blank = |image: Option<&str>| image.unwrap_or_default().trim().is_empty();
    params.last_triggered_image.is_empty() && (params.automatic || named.any(|c| is_blank(c.image.as_deref())))
}

/// Whether the latest rollout had another image from the same place.
fn is_news(was: &DeploymentConfig, params: &ImageChange) -> bool {
    let before = images(was).find(|before| before.from == params.from);
    before.is_some_and(|before| before.last_triggered_image != params.last_triggered_image)
}

fn image_cause(params: &ImageChange) -> DeploymentCause {
    let from = ObjectReference {
        kind: Some("ImageStreamTag".to_owned()),
        name: params.from.name.clone(),
        namespace: params.from.namespace.clone(),
        ..ObjectReference::default()
    };
    DeploymentCause { type_: IMAGE_CHANGE.to_owned(), image_trigger: Some(DeploymentCauseImageTrigger { from }) }
}

fn details(causes: Vec<DeploymentCause>) -> DeploymentDetails {
    let message = match causes.first().map(|cause| &*cause.type_) {
        Some(CONFIG_CHANGE) => "config change",
        Some(IMAGE_CHANGE) => "image change",
        _ => "manual change",
    };
    DeploymentDetails { message: message.to_owned(), causes }
}

/// Answers with what the DeploymentConfig would be with parts of an earlier rollout. Nothing is written: the client does that.
pub(super) fn rollback(call: &Call<'_>) -> Result<Response, ApiError> {
    let format = codec::body_format(&call.request.headers)?;
    let asked: DeploymentConfigRollback =
        codec::decode_plain(format, &call.request.body, "DeploymentConfigRollback", API_VERSION)?;
    if asked.name != call.info.name {
        return Err(refused(&asked, "name", "name in URL does not match the name of the rollback"));
    }
    let config = read(&*call.entry()?)?;
    let revision = revision_of(&config, &asked)?;
    let target = rollout_of(call.registry(), &call.key(), revision);
    let was = match target.as_deref().map(rollout::config) {
        Some(Ok(was)) => was,
        Some(Err(why)) => return Err(refused(&asked, "spec.revision", &why)),
        None => {
            let name = rollout_name(&asked.name, revision);
            return Err(refused(&asked, "spec.revision", &format!("replicationcontrollers {name:?} not found")));
        }
    };
    let rolled = rolled_back(config, was, &asked);
    let output = call.output(Offer::Objects)?;
    respond::value(201, output, &crate::api::object::untyped(&rolled))
}

fn refused(asked: &DeploymentConfigRollback, path: &str, why: &str) -> ApiError {
    ApiError::Invalid {
        kind: "DeploymentConfigRollback.apps.openshift.io".to_owned(),
        name: asked.name.clone(),
        causes: vec![FieldError::invalid(path, &asked.name, why)],
    }
}

fn revision_of(config: &DeploymentConfig, asked: &DeploymentConfigRollback) -> Result<i64, ApiError> {
    let latest = config.status.latest_version;
    match latest {
        0 => return Err(refused(asked, "name", "cannot rollback an undeployed config")),
        1 => return Err(refused(asked, "name", "no previous deployment exists")),
        _ => {}
    }
    if asked.spec.revision == latest {
        return Err(refused(asked, "spec.revision", &format!("version {latest} is already the latest")));
    }
    Ok(if asked.spec.revision == 0 { latest - 1 } else { asked.spec.revision })
}

/// Takes parts of what a config was. Images no longer come by themselves: they would undo it at once. **Source**: `rollbackGenerator`.
fn rolled_back(
    mut config: DeploymentConfig,
    was: DeploymentConfig,
    asked: &DeploymentConfigRollback,
) -> DeploymentConfig {
    let parts = &asked.spec;
    if parts.include_template {
        config.spec.template = was.spec.template;
    }
    if parts.include_replication_meta {
        config.spec.replicas = was.spec.replicas;
        config.spec.selector = was.spec.selector;
    }
    if parts.include_triggers {
        config.spec.triggers = was.spec.triggers;
    }
    if parts.include_strategy {
        config.spec.strategy = was.spec.strategy;
    }
    let triggers = config.spec.triggers.iter_mut().flatten().filter(|trigger| trigger.type_ == IMAGE_CHANGE);
    triggers.filter_map(|trigger| trigger.image_change_params.as_mut()).for_each(|params| params.automatic = false);
    asked.updated_annotations.iter().for_each(|(key, value)| annotate(&mut config.metadata, key, value.clone()));
    config.status.latest_version += 1;
    config
}
