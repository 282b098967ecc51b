//! What starts a rollout of a DeploymentConfig: its defaults, its rules, and how it is printed.

use super::types::{
    DeploymentConfigSpec, DeploymentTriggerImageChangeParams as ImageChange, DeploymentTriggerPolicy as Trigger,
};
use crate::{
    api::{
        field::FieldError,
        kinds::check::{self, Errors},
    },
    base::ordered::SortList as _,
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

/// Keeps what triggers have brought, when a manifest is applied that says nothing of it: which image was the last, and in the template the
/// image itself where it follows by itself. Applying the same file again so changes nothing, and starts no rollout.
pub(super) fn keep_images(new: &mut DeploymentConfigSpec, old: &DeploymentConfigSpec) {
    let known: Vec<&ImageChange> = images(old.triggers.as_deref().unwrap_or_default()).collect();
    let Some(pods) = new.template.as_mut().and_then(|template| template.spec.as_mut()) else { return };
    let triggers = new.triggers.iter_mut().flatten().filter(|trigger| trigger.type_ == IMAGE_CHANGE);
    for image in triggers.filter_map(|trigger| trigger.image_change_params.as_mut()) {
        if let Some(known) =
            known.iter().find(|known| known.from == image.from && image.last_triggered_image.is_empty())
        {
            image.last_triggered_image.clone_from(&known.last_triggered_image);
        }
        if !image.automatic || image.last_triggered_image.is_empty() {
            continue;
        }
        let containers = pods.containers.iter_mut().chain(pods.init_containers.iter_mut().flatten());
        for container in containers.filter(|container| image.container_names.contains(&container.name)) {
            container.image = Some(image.last_triggered_image.clone());
        }
    }
}

fn images(triggers: &[Trigger]) -> impl Iterator<Item = &ImageChange> {
    triggers.iter().filter(|t| t.type_ == IMAGE_CHANGE).filter_map(|t| t.image_change_params.as_ref())
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
    images(triggers).flat_map(|image| &image.container_names).any(|name| name == container)
}

/// The printed cell: `config,image(web:latest)`. Containers are named when the template has others too.
/// **Source**: `printTriggers`, github.com/openshift/openshift-apiserver, `pkg/apps/printers/internalversion/printers.go`.
pub(super) fn cell(triggers: &[Trigger], containers: &[Container]) -> String {
    let mut words: Vec<String> = triggers.iter().filter_map(|trigger| word(trigger, containers)).collect();
    words.sort_list();
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
