//! What starts a rollout of a DeploymentConfig: its defaults, its rules, and how it is printed.

use super::types::{DeploymentTriggerImageChangeParams as ImageChange, DeploymentTriggerPolicy as Trigger};
use crate::api::{
    field::FieldError,
    kinds::check::{self, Errors},
};
use k8s_openapi::api::core::v1::Container;

/// A change of the configuration.
pub const CONFIG_CHANGE: &str = "ConfigChange";
/// A change of an image.
pub const IMAGE_CHANGE: &str = "ImageChange";
/// The only kind of thing that an image comes from.
pub const IMAGE_STREAM_TAG: &str = "ImageStreamTag";

/// What there is unless the user says otherwise.
pub(super) fn only_config() -> Vec<Trigger> {
    vec![Trigger { type_: CONFIG_CHANGE.to_owned(), image_change_params: None }]
}

pub(super) fn set_defaults(triggers: &mut [Trigger], namespace: &str) {
    for image in triggers.iter_mut().filter_map(|trigger| trigger.image_change_params.as_mut()) {
        let from = &mut image.from;
        match from.kind.as_deref().unwrap_or_default() {
            "" => from.kind = Some(IMAGE_STREAM_TAG.to_owned()),
            // What it was called once; without a tag, it is the latest.
            "ImageStream" | "ImageRepository" => {
                from.kind = Some(IMAGE_STREAM_TAG.to_owned());
                if let Some(name) = from.name.as_mut().filter(|name| !name.contains(':')) {
                    name.push_str(":latest");
                }
            }
            _ => {}
        }
        if from.namespace.as_deref().unwrap_or_default().is_empty() && !namespace.is_empty() {
            from.namespace = Some(namespace.to_owned());
        }
    }
}

pub(super) fn validate(errs: &mut Errors, triggers: &[Trigger]) {
    for (i, trigger) in triggers.iter().enumerate() {
        let path = format!("spec.triggers[{i}]");
        match (&*trigger.type_, &trigger.image_change_params) {
            ("", _) => errs.push(FieldError::required(format!("{path}.type"), "")),
            (CONFIG_CHANGE, _) => {}
            (IMAGE_CHANGE, None) => errs.push(FieldError::required(format!("{path}.imageChangeParams"), "")),
            (IMAGE_CHANGE, Some(image)) => image_change(errs, image, &format!("{path}.imageChangeParams")),
            (other, _) => {
                errs.push(FieldError::not_supported(format!("{path}.type"), other, &[CONFIG_CHANGE, IMAGE_CHANGE]));
            }
        }
    }
}

fn image_change(errs: &mut Errors, image: &ImageChange, path: &str) {
    let from = &image.from;
    match from.name.as_deref().unwrap_or_default() {
        "" => errs.push(FieldError::required(format!("{path}.from"), "")),
        name => {
            let kind = from.kind.as_deref().unwrap_or_default();
            if kind != IMAGE_STREAM_TAG {
                errs.push(FieldError::invalid(format!("{path}.from.kind"), kind, "kind must be 'ImageStreamTag'"));
            }
            stream_tag(errs, &format!("{path}.from.name"), name);
            if let Some(namespace) = from.namespace.as_deref().filter(|n| !n.is_empty()) {
                check::label(errs, &format!("{path}.from.namespace"), namespace);
            }
        }
    }
    if image.container_names.is_empty() {
        errs.push(FieldError::required(format!("{path}.containerNames"), ""));
    }
}

/// The name of an ImageStreamTag is `stream:tag`.
pub(super) fn stream_tag(errs: &mut Errors, path: &str, name: &str) {
    let is_good =
        name.split_once(':').is_some_and(|(stream, tag)| !stream.is_empty() && !tag.is_empty() && !tag.contains(':'));
    if !is_good {
        errs.push(FieldError::invalid(path, name, "must be in the form of <name>:<tag>"));
    }
}

/// Whether a trigger gives this container its image.
pub(super) fn names(triggers: &[Trigger], container: &str) -> bool {
    let images = triggers.iter().filter(|t| t.type_ == IMAGE_CHANGE).filter_map(|t| t.image_change_params.as_ref());
    images.flat_map(|image| &image.container_names).any(|name| name == container)
}

/// The printed cell: `config,image(web:latest)`. Containers are named when the template has others too.
/// **Source**: `printTriggers`, github.com/openshift/openshift-apiserver, `pkg/apps/printers/internalversion/printers.go`.
pub(super) fn cell(triggers: &[Trigger], containers: &[Container]) -> String {
    let mut words: Vec<String> = triggers.iter().filter_map(|trigger| word(trigger, containers)).collect();
    words.sort();
    words.join(",")
}

fn word(trigger: &Trigger, containers: &[Container]) -> Option<String> {
    match (&*trigger.type_, &trigger.image_change_params) {
        (CONFIG_CHANGE, _) => Some("config".to_owned()),
        (IMAGE_CHANGE, Some(image)) if image.automatic => {
            let has = |name: &String| containers.iter().any(|c| c.name == *name);
            let is_all =
                containers.len() <= 1 || containers.len() == image.container_names.iter().filter(|n| has(n)).count();
            let prefix = if is_all { String::new() } else { format!("{}:", image.container_names.join(",")) };
            Some(format!("image({prefix}{})", image.from.name.as_deref().unwrap_or_default()))
        }
        _ => None,
    }
}
