//! Whether a rollout is due, and why.
//!
//! **Source**: `triggerActivated`, deploymentconfig_controller.go; `HasUpdatedImages`, `HasLatestPodTemplate`, library-go's appsutil. One
//! thing differs: there, a first rollout waits for every image trigger; here only for those that somebody is going to answer, the
//! automatic ones. A container with an image of its own would wait for ever otherwise.

use super::super::template_hash::normal_form;
use crate::api::{
    kinds::deployment_config::{
        triggers::{CONFIG_CHANGE, IMAGE_CHANGE},
        types::{
            DeploymentCause, DeploymentCauseImageTrigger, DeploymentConfig, DeploymentDetails,
            DeploymentTriggerImageChangeParams as ImageChange,
        },
    },
    rollout,
};
use k8s_openapi::api::core::v1::{ObjectReference, PodTemplateSpec, ReplicationController};

/// What starts rollouts of a DeploymentConfig.
#[derive(Clone, Copy, Debug)]
pub(super) struct Triggers<'a> {
    config: &'a DeploymentConfig,
}

impl<'a> Triggers<'a> {
    pub(super) fn of(config: &'a DeploymentConfig) -> Self {
        Self { config }
    }

    /// Whether nothing but a request starts a rollout.
    pub(super) fn is_manual(self) -> bool {
        self.config.spec.triggers.as_ref().is_none_or(Vec::is_empty)
    }

    fn has(self, type_: &str) -> bool {
        self.config.spec.triggers.iter().flatten().any(|trigger| trigger.type_ == type_)
    }

    fn images(self) -> impl Iterator<Item = &'a ImageChange> {
        let triggers = self.config.spec.triggers.iter().flatten().filter(|trigger| trigger.type_ == IMAGE_CHANGE);
        triggers.filter_map(|trigger| trigger.image_change_params.as_ref())
    }

    /// The first rollout: due when every image is known.
    pub(super) fn first(self) -> Option<DeploymentDetails> {
        let is_waiting = self.images().any(|image| image.automatic && image.last_triggered_image.is_empty());
        (!self.is_manual() && !is_waiting).then(config_change)
    }

    /// A further rollout, given the latest.
    pub(super) fn next(self, latest: &ReplicationController) -> Option<DeploymentDetails> {
        let updated = self.updated_images(latest);
        if self.has(IMAGE_CHANGE) && !updated.is_empty() {
            return Some(image_change(updated));
        }
        (self.has(CONFIG_CHANGE) && self.differs(latest)).then(config_change)
    }

    /// Images that the latest rollout has not.
    fn updated_images(self, latest: &ReplicationController) -> Vec<String> {
        let had = images_of(latest.spec.as_ref().and_then(|spec| spec.template.as_ref()));
        let mut updated = images_of(self.config.spec.template.as_ref());
        updated.retain(|image| !had.contains(image));
        updated
    }

    /// Whether the template is another than when the latest rollout began.
    fn differs(self, latest: &ReplicationController) -> bool {
        let form = |template: Option<&PodTemplateSpec>| template.map(normal_form);
        // A rollout that does not say what it was made of proves nothing.
        rollout::config(latest)
            .is_ok_and(|was| form(was.spec.template.as_ref()) != form(self.config.spec.template.as_ref()))
    }
}

/// The images of a template's containers, without what white space is around them.
fn images_of(template: Option<&PodTemplateSpec>) -> Vec<String> {
    let containers = template.and_then(|t| t.spec.as_ref()).map_or(&[][..], |spec| &spec.containers);
    containers.iter().map(|c| c.image.as_deref().unwrap_or_default().trim().to_owned()).collect()
}

/// Whether a container waits for its image.
pub(super) fn waits_for_images(config: &DeploymentConfig) -> bool {
    images_of(config.spec.template.as_ref()).iter().any(String::is_empty)
}

fn config_change() -> DeploymentDetails {
    let cause = DeploymentCause { type_: CONFIG_CHANGE.to_owned(), image_trigger: None };
    DeploymentDetails { message: "config change".to_owned(), causes: vec![cause] }
}

fn image_change(images: Vec<String>) -> DeploymentDetails {
    let cause = |image: String| DeploymentCause {
        type_: IMAGE_CHANGE.to_owned(),
        image_trigger: Some(DeploymentCauseImageTrigger {
            from: ObjectReference {
                kind: Some("DockerImage".to_owned()),
                name: Some(image),
                ..ObjectReference::default()
            },
        }),
    };
    DeploymentDetails { message: "image change".to_owned(), causes: images.into_iter().map(cause).collect() }
}
