//! Whose images may be followed: who names a stream of another namespace must be allowed to read its images there, which is `get` of
//! `imagestreams/layers`. What was there before stays.
//!
//! **Source**: `TagVerifier` in `pkg/image/apiserver/registry/imagestream/strategy.go` of openshift-apiserver, release 4.20.

use super::Asker;
use crate::{
    api::{
        field::FieldError,
        kind::Kind as _,
        kinds::{
            deployment_config::{DeploymentConfigs, types::DeploymentConfig},
            image_stream::{GROUP, ImageStream, ImageStreams},
        },
        object::DynObject,
        status::ApiError,
    },
    identity::rule::{Attributes, On},
};
use k8s_openapi::api::core::v1::ObjectReference;

/// The tags of a stream.
pub(super) fn stream(asker: &Asker<'_>, new: &mut dyn DynObject, old: Option<&dyn DynObject>) -> Result<(), ApiError> {
    let Some(new) = new.as_any().downcast_ref::<ImageStream>() else { return Ok(()) };
    tags(asker, new, old.and_then(|old| old.as_any().downcast_ref()))
}

/// The same of a stream that is changed by one of its tags.
pub(in crate::server::verbs) fn tags(
    asker: &Asker<'_>,
    new: &ImageStream,
    old: Option<&ImageStream>,
) -> Result<(), ApiError> {
    let named = new.spec.tags.iter().filter_map(|tag| Some((&*tag.name, tag.from.as_ref()?)));
    let was = |name: &str| old?.spec_tag(name)?.from.as_ref();
    let own = new.metadata.name.as_deref().unwrap_or_default();
    let causes: Vec<FieldError> = named
        .filter(|(name, from)| was(name) != Some(*from))
        .filter_map(|(name, from)| asker.refusal(from, own, &format!("spec.tags[{name}].from")))
        .collect();
    if causes.is_empty() { Ok(()) } else { Err(ApiError::invalid(&ImageStreams::INFO, own, causes)) }
}

/// The ImageChange triggers of a DeploymentConfig.
pub(super) fn config(asker: &Asker<'_>, new: &mut dyn DynObject, old: Option<&dyn DynObject>) -> Result<(), ApiError> {
    let Some(new) = new.as_any().downcast_ref::<DeploymentConfig>() else { return Ok(()) };
    let old: Option<&DeploymentConfig> = old.and_then(|old| old.as_any().downcast_ref());
    let followed = |config: &DeploymentConfig| -> Vec<Option<ObjectReference>> {
        let triggers = config.spec.triggers.iter().flatten();
        triggers.map(|trigger| Some(trigger.image_change_params.as_ref()?.from.clone())).collect()
    };
    let before = old.map(followed).unwrap_or_default();
    let now = followed(new);
    let named = now.iter().enumerate().filter_map(|(at, from)| Some((at, from.as_ref()?)));
    let causes: Vec<FieldError> = named
        .filter(|(_, from)| !before.iter().flatten().any(|was| was == *from))
        .filter_map(|(at, from)| asker.refusal(from, "", &format!("spec.triggers[{at}].imageChangeParams.from")))
        .collect();
    let name = new.metadata.name.as_deref().unwrap_or_default();
    if causes.is_empty() { Ok(()) } else { Err(ApiError::invalid(&DeploymentConfigs::INFO, name, causes)) }
}

impl Asker<'_> {
    /// What is wrong with a reference to a stream whose images are not for the asker. One that names a tag alone means the stream of the
    /// same name as `own`.
    fn refusal(&self, from: &ObjectReference, own: &str, path: &str) -> Option<FieldError> {
        let is_of_stream = matches!(from.kind.as_deref(), Some("ImageStreamTag" | "ImageStreamImage"));
        let namespace = from.namespace.as_deref().filter(|of| !of.is_empty() && *of != self.namespace)?;
        let name = from.name.as_deref().filter(|_| is_of_stream)?;
        let stream = name.split_once([':', '@']).map_or(own, |(stream, _)| stream);
        let on = On::Resource {
            group: GROUP,
            resource: "imagestreams",
            subresource: "layers",
            namespace,
            name: stream,
            node: "",
        };
        let may = self.rbac.verdict(self.user, &Attributes { verb: "get", on }).is_allowed;
        (!may).then(|| FieldError::forbidden(path, format!("{namespace}/{stream}")))
    }
}
