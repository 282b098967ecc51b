//! `ImageStream`, image.openshift.io/v1: names under which workloads find images, and what each has meant so far.
//!
//! A stream's tags follow images of the local engine (`controllers::image_stream`); there is no registry behind it. What a write of the
//! spec does to the tags at once is in [`tags`].
//!
//! **Source**: `pkg/image/apiserver/registry/imagestream/strategy.go` and `pkg/image/apis/image/{v1/defaults,validation/validation}.go` of
//! openshift-apiserver, `image/v1/types.go` of openshift/api.

pub mod tags;

use super::check::Errors;
use crate::{
    api::{
        field::FieldError,
        image_name::{digest, is_reference, is_tag},
        kind::{ALL_VERBS, Kind, KindInfo, STATUS, Scope, Subresource},
        object::Object,
        selector::Fields,
        table::{self, Column},
    },
    base::ordered::{Set, SortList as _},
};
use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::ObjectReference,
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::{collections::BTreeMap, ops::Not};

/// The API group of images.
pub const GROUP: &str = "image.openshift.io";
/// The group and version of images.
pub const API_VERSION: &str = "image.openshift.io/v1";
/// The kind of a reference to an image by its name.
pub const DOCKER_IMAGE: &str = "DockerImage";
/// The kind of a reference to a tag of a stream, `stream:tag`.
pub const IMAGE_STREAM_TAG: &str = "ImageStreamTag";
/// The kind of a reference to an image of a stream, `stream@sha256:…`.
pub const IMAGE_STREAM_IMAGE: &str = "ImageStreamImage";
/// The condition that says whether a tag's image could be had.
pub const IMPORT_SUCCESS: &str = "ImportSuccess";

/// Fields that selectors may use.
const SPEC_REPOSITORY: &str = "spec.dockerImageRepository";
/// See [`SPEC_REPOSITORY`].
const STATUS_REPOSITORY: &str = "status.dockerImageRepository";

/// A stream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ImageStream {
    /// [`API_VERSION`].
    pub api_version: String,
    /// `ImageStream`.
    pub kind: String,
    /// Metadata.
    pub metadata: ObjectMeta,
    /// What is wanted.
    pub spec: ImageStreamSpec,
    /// What each tag has meant.
    pub status: ImageStreamStatus,
}

impl Default for ImageStream {
    fn default() -> Self {
        Self {
            api_version: API_VERSION.to_owned(),
            kind: "ImageStream".to_owned(),
            metadata: ObjectMeta::default(),
            spec: ImageStreamSpec::default(),
            status: ImageStreamStatus::default(),
        }
    }
}

impl Object for ImageStream {
    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }
    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

/// What a stream's tags are to follow.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ImageStreamSpec {
    /// Whether pods of the namespace may name the stream instead of an image.
    pub lookup_policy: LookupPolicy,
    /// A repository that the stream stands for; deprecated.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub docker_image_repository: String,
    /// The tags that a user has set.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<TagReference>,
}

/// See [`ImageStreamSpec::lookup_policy`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LookupPolicy {
    /// Whether pods of the namespace may name the stream instead of an image.
    pub local: bool,
}

/// A tag that a user has set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TagReference {
    /// The tag.
    pub name: String,
    /// Notes of clients.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
    /// What it follows; `None`: whatever is pushed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<ObjectReference>,
    /// Whether the name alone counts: no image is looked for.
    #[serde(skip_serializing_if = "<&bool>::not")]
    pub reference: bool,
    /// The stream's generation when the tag was last set; a client sends 0 to have it looked for again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation: Option<i64>,
    /// How the image is got.
    pub import_policy: ImportPolicy,
    /// By which name workloads use the image.
    pub reference_policy: ReferencePolicy,
}

/// How a tag's image is got.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ImportPolicy {
    /// Whether the registry need not prove who it is.
    #[serde(skip_serializing_if = "<&bool>::not")]
    pub insecure: bool,
    /// Whether it is looked for again and again.
    #[serde(skip_serializing_if = "<&bool>::not")]
    pub scheduled: bool,
    /// `Legacy` or `PreserveOriginal`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub import_mode: String,
}

impl ImportPolicy {
    /// What of it has no effect here, where images are the engine's, in words for who wrote it at `path`.
    pub fn unheeded(&self, path: &str) -> Vec<String> {
        let insecure = "which registries need not prove who they are is set at the Docker engine (insecure-registries)";
        let whole = "the engine keeps the image of this machine's platform alone";
        let all = [
            (self.insecure, "insecure", insecure),
            (self.import_mode == "PreserveOriginal", "importMode: PreserveOriginal", whole),
        ];
        let said = all.into_iter().filter(|(is_set, ..)| *is_set);
        said.map(|(_, field, why)| format!("{path}.{field} has no effect: {why}")).collect()
    }
}

/// By which name workloads use a tag's image.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ReferencePolicy {
    /// `Source` or `Local`.
    #[serde(rename = "type")]
    pub type_: String,
}

/// What a stream's tags have meant.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ImageStreamStatus {
    /// The stream's repository in the cluster's registry. There is none, so it is empty.
    pub docker_image_repository: String,
    /// The same for those outside.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub public_docker_image_repository: String,
    /// Each tag and its images.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<TagEvents>,
}

/// A tag and its images.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TagEvents {
    /// The tag.
    pub tag: String,
    /// Its images, the newest first.
    pub items: Vec<TagEvent>,
    /// What is the matter with it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<TagCondition>,
}

/// That a tag came to mean an image.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TagEvent {
    /// When.
    #[serde(default = "beginning")]
    pub created: Time,
    /// By which name workloads use the image.
    #[serde(default)]
    pub docker_image_reference: String,
    /// The image's ID; empty: only the name is known.
    #[serde(default)]
    pub image: String,
    /// The stream's generation that asked for it.
    #[serde(default)]
    pub generation: i64,
}

/// What is the matter with a tag.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TagCondition {
    /// [`IMPORT_SUCCESS`].
    #[serde(rename = "type", default)]
    pub type_: String,
    /// `True`, `False` or `Unknown`.
    #[serde(default)]
    pub status: String,
    /// When the status changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_transition_time: Option<Time>,
    /// The machine's word.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// The human's sentence.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// The generation of the tag that it is about.
    #[serde(default)]
    pub generation: i64,
}

/// When something happened that nobody has a time of.
fn beginning() -> Time {
    Time(Timestamp::UNIX_EPOCH)
}

impl ImageStream {
    /// The tag that a user has set.
    pub fn spec_tag(&self, tag: &str) -> Option<&TagReference> {
        self.spec.tags.iter().find(|reference| reference.name == tag)
    }

    /// A tag's images.
    pub fn events(&self, tag: &str) -> Option<&TagEvents> {
        self.status.tags.iter().find(|events| events.tag == tag)
    }

    /// What a tag means now.
    pub fn latest(&self, tag: &str) -> Option<&TagEvent> {
        self.events(tag).and_then(|events| events.items.first())
    }

    /// The name by which workloads use what a tag means now.
    ///
    /// **Source**: `ResolveLatestTaggedImage` in `image/imageutil/helpers.go` of library-go.
    pub fn resolve(&self, tag: &str) -> Option<String> {
        let event = self.latest(tag)?;
        let is_local = self.spec_tag(tag).is_some_and(|reference| reference.reference_policy.type_ == "Local");
        let own = &self.status.docker_image_repository;
        if is_local && !own.is_empty() && !event.image.is_empty() {
            return Some(format!("{own}@{}", event.image));
        }
        Some(event.docker_image_reference.clone()).filter(|name| !name.is_empty())
    }
}

/// The kind `ImageStream`.
#[derive(Debug)]
pub struct ImageStreams;

impl Kind for ImageStreams {
    type Object = ImageStream;
    const INFO: KindInfo<'static> = KindInfo {
        group: GROUP,
        version: "v1",
        kind: "ImageStream",
        plural: "imagestreams",
        singular: "imagestream",
        short_names: &["is"],
        categories: &["all"],
        scope: Scope::Namespaced,
        verbs: ALL_VERBS,
        subresources: &[
            Subresource::of("layers", (GROUP, "v1", "ImageStreamLayers"), &["get"]),
            Subresource::of("secrets", ("", "v1", "SecretList"), &["get"]),
            STATUS,
        ],
        columns: &[
            Column::name(),
            Column::text("Image Repository", "Where its images are pushed to."),
            Column::text("Tags", "Its newest tags."),
            Column::text("Updated", "When one of its tags last came to mean another image."),
        ],
        stored_as: None,
        schema: "com.github.openshift.api.image.v1.ImageStream",
    };

    fn set_defaults(obj: &mut ImageStream) {
        for tag in &mut obj.spec.tags {
            let fill = |text: &mut String, default: &str| {
                if text.is_empty() {
                    default.clone_into(text);
                }
            };
            fill(&mut tag.reference_policy.type_, "Source");
            fill(&mut tag.import_policy.import_mode, "Legacy");
        }
    }

    fn prepare_create(obj: &mut ImageStream) {
        obj.status = ImageStreamStatus::default();
        obj.spec.tags.iter_mut().for_each(|tag| tag.generation = Some(1));
    }

    fn validate(obj: &ImageStream) -> Errors {
        let mut errs = Errors::new();
        let name = obj.metadata.name.as_deref().unwrap_or_default();
        if !name.is_empty() && !is_reference(name) {
            let why =
                "must be the last part of an image's name: lower-case letters, digits and '.', '_', '-' between them";
            errs.push(FieldError::invalid("metadata.name", name, why));
        }
        let repository = &obj.spec.docker_image_repository;
        if !repository.is_empty() && (!is_reference(repository) || digest(repository).is_some()) {
            errs.push(FieldError::invalid(
                "spec.dockerImageRepository",
                repository,
                "the repository name is not valid",
            ));
        }
        let mut taken = Set::new();
        for (i, tag) in obj.spec.tags.iter().enumerate() {
            let path = format!("spec.tags[{i}]");
            if !is_tag(&tag.name) {
                errs.push(FieldError::invalid(
                    format!("{path}.name"),
                    &tag.name,
                    "a tag is letters, digits, '.', '_' and '-'",
                ));
            }
            if !taken.insert(&tag.name) {
                errs.push(FieldError::duplicate(format!("{path}.name"), &tag.name));
            }
            validate_tag(&mut errs, tag, &path);
        }
        errs
    }

    fn warnings(obj: &ImageStream) -> Vec<String> {
        let tags = obj.spec.tags.iter().enumerate();
        tags.flat_map(|(i, tag)| tag.import_policy.unheeded(&format!("spec.tags[{i}].importPolicy"))).collect()
    }

    fn prepare_update(new: &mut ImageStream, old: &ImageStream) {
        new.status.clone_from(&old.status);
        tags::give_generations(new, old);
    }

    fn prepare_status(new: &mut ImageStream, old: &ImageStream) {
        new.spec.clone_from(&old.spec);
        new.metadata.labels.clone_from(&old.metadata.labels);
        tags::follow_own(new, old);
    }

    fn same_spec(new: &ImageStream, old: &ImageStream) -> bool {
        new.spec == old.spec
    }

    fn field_labels() -> &'static [(&'static str, &'static str)] {
        &[(SPEC_REPOSITORY, SPEC_REPOSITORY), (STATUS_REPOSITORY, STATUS_REPOSITORY)]
    }

    /// **Source**: `ImageStreamSelector` in `pkg/image/apis/image/field_selectors.go` of openshift-apiserver.
    fn selectable_fields(obj: &ImageStream) -> Fields<'static> {
        Fields::from([
            (SPEC_REPOSITORY, obj.spec.docker_image_repository.clone()),
            (STATUS_REPOSITORY, obj.status.docker_image_repository.clone()),
        ])
    }

    fn row(obj: &ImageStream, now: Timestamp) -> Vec<Value> {
        let repository = [&obj.status.public_docker_image_repository, &obj.spec.docker_image_repository]
            .into_iter()
            .find(|name| !name.is_empty())
            .unwrap_or(&obj.status.docker_image_repository);
        let mut tags: Vec<(Option<Timestamp>, &str)> =
            obj.status.tags.iter().map(|t| (t.items.first().map(|event| event.created.0), &*t.tag)).collect();
        tags.sort_list_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(b.1)));
        let updated = tags.first().and_then(|(at, _)| *at).map(|at| ago(at, now)).unwrap_or_default();
        let names: Vec<&str> = tags.iter().map(|(_, tag)| *tag).collect();
        vec![table::name(&obj.metadata), json!(repository), json!(tags_cell(&names)), json!(updated)]
    }
}

/// Names of tags, as many as fit; one in any case. **Source**: `printTagsUpToWidth` in `pkg/image/printers/internalversion/printer.go` of
/// openshift-apiserver.
fn tags_cell(tags: &[&str]) -> String {
    const WIDTH: isize = 40;
    let mut left = WIDTH;
    let mut n_shown = tags.len();
    for (i, tag) in tags.iter().enumerate() {
        let len = isize::try_from(tag.len()).unwrap_or(isize::MAX / 2);
        left -= len + 1;
        // One that stands over by a little is better than a wide gap.
        let is_near = WIDTH / 4 < left + len && WIDTH / 4 >= -left;
        if left >= 0 || (i > 0 && is_near) {
            continue;
        }
        n_shown = i.max(1);
        break;
    }
    let shown = tags[..n_shown].join(",");
    match tags.len() - n_shown {
        0 => shown,
        hidden => format!("{shown} + {hidden} more..."),
    }
}

/// Checks what a tag follows. **Source**: `ValidateImageStreamTagReference`.
pub fn validate_tag(errs: &mut Errors, tag: &TagReference, path: &str) {
    if let Some(from) = &tag.from {
        let (kind, name) = (from.kind.as_deref().unwrap_or_default(), from.name.as_deref().unwrap_or_default());
        let name_path = format!("{path}.from.name");
        if name.is_empty() {
            errs.push(FieldError::required(&name_path, ""));
        }
        match kind {
            DOCKER_IMAGE if !name.is_empty() && !is_reference(name) => {
                errs.push(FieldError::invalid(name_path, name, "invalid reference format"));
            }
            DOCKER_IMAGE if tag.import_policy.scheduled && digest(name).is_some() => {
                errs.push(FieldError::invalid(name_path, name, "only tags can be scheduled for import"));
            }
            IMAGE_STREAM_IMAGE | IMAGE_STREAM_TAG if tag.import_policy.scheduled => {
                let why = "only tags pointing to Docker repositories may be scheduled for background import";
                errs.push(FieldError::invalid(format!("{path}.importPolicy.scheduled"), true, why));
            }
            DOCKER_IMAGE | IMAGE_STREAM_IMAGE | IMAGE_STREAM_TAG => {}
            _ => {
                let why = "valid values are 'DockerImage', 'ImageStreamImage', 'ImageStreamTag'";
                errs.push(FieldError::required(format!("{path}.from.kind"), why));
            }
        }
    }
    let policy = tag.reference_policy.type_.as_str();
    if !["Source", "Local"].contains(&policy) {
        let why = "valid values are \"Source\", \"Local\"";
        errs.push(FieldError::invalid(format!("{path}.referencePolicy.type"), policy, why));
    }
    let mode = tag.import_policy.import_mode.as_str();
    if !["", "Legacy", "PreserveOriginal"].contains(&mode) {
        let why = "valid values are \"Legacy\", \"PreserveOriginal\"";
        errs.push(FieldError::invalid(format!("{path}.importPolicy.importMode"), mode, why));
    }
}

/// How long ago a time was, as OpenShift prints it. **Source**: `units.HumanDuration` of docker/go-units.
pub fn ago(then: Timestamp, now: Timestamp) -> String {
    let secs = now.duration_since(then).as_secs().max(0);
    let (mins, hours) = (secs / 60, (secs + 1800) / 3600);
    let text = match secs {
        0 => "Less than a second".to_owned(),
        1 => "1 second".to_owned(),
        2..60 => format!("{secs} seconds"),
        60..120 => "About a minute".to_owned(),
        120..3600 => format!("{mins} minutes"),
        _ if hours == 1 => "About an hour".to_owned(),
        _ if hours < 48 => format!("{hours} hours"),
        _ if hours < 24 * 7 * 2 => format!("{} days", hours / 24),
        _ if hours < 24 * 30 * 2 => format!("{} weeks", hours / 24 / 7),
        _ if hours < 24 * 365 * 2 => format!("{} months", hours / 24 / 30),
        _ => format!("{} years", hours / 24 / 365),
    };
    format!("{text} ago")
}

#[cfg(test)]
mod tests;
