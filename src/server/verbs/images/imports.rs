//! Looks images up and gives them tags (ImageStreamImport, `oc import-image`), and says that a tag means an image (ImageStreamMapping).
//!
//! An image is looked for here, and only an import asks its registry: a look of `oc new-app` fetches nothing.

use super::{super::Call, ChangeStream, image_view, json_of, stream_of, write_stream};
use crate::{
    api::{
        field::FieldError,
        image_name::{digest, familiar, is_reference, is_tag, pinned, repository},
        kind::Kind as _,
        kinds::image_stream::{
            DOCKER_IMAGE, IMPORT_SUCCESS, ImageStream, ImageStreams, ImportPolicy, ReferencePolicy, TagCondition,
            TagEvent, TagEvents, TagReference, tags::add_event,
        },
        meta::ObjectKey,
        object::{Untyped, without_place},
        status::ApiError,
    },
    base::{clock::whole_seconds, json::typed, ordered::Set},
    node::local_images::LocalImage,
    server::{
        codec,
        media::Offer,
        paths,
        respond::{self, Response},
    },
};
use k8s_openapi::{
    api::core::v1::{LocalObjectReference, ObjectReference},
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time},
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};
use std::sync::Arc;

#[derive(Deserialize, Default)]
#[serde(default)]
struct Spec {
    import: bool,
    images: Vec<Image>,
    repository: Option<Image>,
}

/// An image, or a repository, that is looked up.
#[derive(Clone, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Image {
    from: ObjectReference,
    to: Option<LocalObjectReference>,
    import_policy: ImportPolicy,
    reference_policy: ReferencePolicy,
    include_manifest: bool,
}

impl Image {
    fn name(&self) -> &str {
        self.from.name.as_deref().unwrap_or_default()
    }

    /// The tag that it gets: the one that is asked for, or that of its name.
    fn tag(&self) -> Option<String> {
        let wanted = self.to.as_ref().map(|to| to.name.clone()).filter(|name| !name.is_empty());
        wanted.or_else(|| tag_of(self.name()))
    }
}

/// The tag of a name that has no digest.
fn tag_of(name: &str) -> Option<String> {
    if digest(name).is_some() {
        return None;
    }
    let listed = familiar(name);
    listed[repository(&listed).len()..].strip_prefix(':').map(str::to_owned)
}

/// What became of an image.
struct Found {
    image: Image,
    tag: Option<String>,
    result: Result<LocalImage, Missing>,
}

/// Why an image could not be had.
struct Missing {
    reason: &'static str,
    code: u16,
    message: String,
}

/// Answers an ImageStreamImport.
pub(in crate::server::verbs) async fn import(call: &mut Call<'_>) -> Result<Response, ApiError> {
    let writing = call.writing("CreateOptions")?;
    let format = codec::body_format(&call.request.headers)?;
    let obj = codec::decode(&*call.kind, format, &call.request.body, writing.validation, &mut call.warnings)?;
    let body = obj.as_any().downcast_ref::<Untyped>().expect("the kind is served from its schema");
    let spec: Spec = part(body, "spec")?;
    let name = body.metadata.name.clone().unwrap_or_default();
    let errs = check(&name, &spec);
    if !errs.is_empty() {
        return Err(ApiError::invalid(call.kind.info(), &name, errs));
    }
    call.warnings.extend(unheeded(&spec));
    is_based_on(call, &body.metadata)?;
    let (of_images, of_repository) = look(call, &spec).await?;
    let mut status = json!({ "images": of_images.iter().map(shown).collect::<Vec<_>>() });
    if let Some(found) = &of_repository {
        status["repository"] = repository_status(spec.repository.as_ref().map_or("", Image::name), found);
    }
    if spec.import {
        let key = ObjectKey::new(&call.info.namespace, &name);
        let all: Vec<&Found> = of_images.iter().chain(of_repository.iter().flatten()).collect();
        let mut set = set_all(&all);
        let stream = write_stream(call, &key, &writing.write, &mut *set).await?;
        let stream = if writing.write.dry_run { stream } else { settle_all(call, &key, &all).await? };
        status["import"] = json_of(&*stream);
    }
    let mut answer = json_of(body);
    answer["status"] = status;
    respond::value(201, call.output(Offer::Plain)?, &answer)
}

/// Refuses an import that is based on a stream that has changed, or is another by now.
fn is_based_on(call: &Call<'_>, wanted: &ObjectMeta) -> Result<(), ApiError> {
    let text = |field: &Option<String>| field.clone().filter(|text| !text.is_empty());
    let (revision, uid) = (text(&wanted.resource_version), text(&wanted.uid));
    if revision.is_none() && uid.is_none() {
        return Ok(());
    }
    let name = wanted.name.clone().unwrap_or_default();
    let is = &stream_of(call, &name)?.metadata;
    if let Some(from) = revision.filter(|revision| is.resource_version.as_ref() != Some(revision)) {
        let to = is.resource_version.as_deref().unwrap_or_default();
        let why = format!("the image stream was updated from {from:?} to {to:?}");
        return Err(ApiError::Conflict { resource: ImageStreams::INFO.resource(), name, why });
    }
    if uid.is_some() && uid != is.uid { Err(ApiError::not_found(&ImageStreams::INFO, &name)) } else { Ok(()) }
}

/// What of an import has no effect here, in words for who asked for it.
fn unheeded(spec: &Spec) -> Vec<String> {
    let images = spec.images.iter().enumerate().map(|(i, image)| (format!("spec.images[{i}]"), image));
    let repository = spec.repository.iter().map(|image| ("spec.repository".to_owned(), image));
    let of_one = |(path, image): (String, &Image)| {
        let manifest = image.include_manifest.then(|| {
            format!("{path}.includeManifest has no effect: the engine keeps no manifests of the images that it has")
        });
        image.import_policy.unheeded(&format!("{path}.importPolicy")).into_iter().chain(manifest).collect::<Vec<_>>()
    };
    images.chain(repository).flat_map(of_one).collect()
}

/// A part of a body that fits its schema.
fn part<T: DeserializeOwned + Default>(body: &Untyped, field: &str) -> Result<T, ApiError> {
    let Some(value) = body.rest.get(field) else { return Ok(T::default()) };
    typed(value.clone()).map_err(|err| ApiError::BadRequest(without_place(&err)))
}

/// All that is wrong with what is asked. **Source**: `ValidateImageStreamImport`.
fn check(name: &str, spec: &Spec) -> Vec<FieldError> {
    let mut errs = Vec::new();
    if name.is_empty() && spec.import {
        errs.push(FieldError::required("metadata.name", "the stream that gets the images"));
    }
    if spec.images.is_empty() && spec.repository.is_none() {
        errs.push(FieldError::required("spec", "you must specify at least one image or repository import"));
    }
    let images = spec.images.iter().enumerate().map(|(i, image)| (format!("spec.images[{i}]"), image));
    for (path, image) in images.chain(spec.repository.iter().map(|image| ("spec.repository".to_owned(), image))) {
        let kind = image.from.kind.as_deref().unwrap_or_default();
        if kind != DOCKER_IMAGE {
            errs.push(FieldError::not_supported(format!("{path}.from.kind"), kind, &[DOCKER_IMAGE]));
        }
        match image.name() {
            "" => errs.push(FieldError::required(format!("{path}.from.name"), "")),
            name if !is_reference(name) => {
                errs.push(FieldError::invalid(format!("{path}.from.name"), name, "invalid reference format"));
            }
            _ => {}
        }
        if let Some(tag) = image.to.as_ref().map(|to| &to.name).filter(|tag| !is_tag(tag)) {
            errs.push(FieldError::invalid(
                format!("{path}.to.name"),
                tag,
                "a tag is letters, digits, '.', '_' and '-'",
            ));
        }
    }
    errs
}

/// Looks for each image, and for the tags of the repository.
async fn look(call: &mut Call<'_>, spec: &Spec) -> Result<(Vec<Found>, Option<Vec<Found>>), ApiError> {
    let mut of_images = Vec::new();
    for image in &spec.images {
        let result = find(call, image.name(), spec.import).await?;
        of_images.push(Found { tag: image.tag(), image: image.clone(), result });
    }
    let Some(wanted) = &spec.repository else { return Ok((of_images, None)) };
    let listed = familiar(wanted.name());
    let prefix = format!("{}:", repository(&listed));
    let all = call.state.images().all().await?;
    let tags: Set<&str> = all.iter().flat_map(|image| &image.tags).filter_map(|t| t.strip_prefix(&prefix)).collect();
    let mut of_repository = Vec::new();
    for tag in tags {
        let mut image = wanted.clone();
        image.from.name = Some(format!("{}:{tag}", repository(wanted.name())));
        let result = find(call, image.name(), false).await?;
        of_repository.push(Found { tag: Some(tag.to_owned()), image, result });
    }
    Ok((of_images, Some(of_repository)))
}

/// Looks for one image. An import asks the registry that it is from, and goes on with the one that is here where that has none.
async fn find(call: &mut Call<'_>, name: &str, is_import: bool) -> Result<Result<LocalImage, Missing>, ApiError> {
    let images = call.state.images();
    let here = images.image(name).await?;
    let is_of_registry = here.as_ref().is_none_or(|image| !image.digests.is_empty()) && digest(name).is_none();
    let asks = is_import && (here.is_none() || is_of_registry);
    let why = if asks { images.pull(name).await.err() } else { None };
    let found = if asks && why.is_none() { images.image(name).await? } else { here };
    let Some(image) = found else {
        let why =
            why.unwrap_or_else(|| "no image of this name is here, and only an import asks its registry".to_owned());
        let message = format!("dockerimage.image.openshift.io {name:?} not found: {why}");
        return Ok(Err(Missing { reason: "NotFound", code: 404, message }));
    };
    if let Some(why) = why {
        call.warnings.push(format!("{name} is taken as it is here: {why}"));
    }
    Ok(Ok(image))
}

fn event(found: &Found, image: &LocalImage, now: &Time) -> TagEvent {
    TagEvent {
        created: now.clone(),
        docker_image_reference: pinned(found.image.name(), &image.id, image.digests.iter().map(String::as_str)),
        image: image.id.clone(),
        generation: 0,
    }
}

/// What became of an image, as the answer has it.
fn shown(found: &Found) -> Value {
    match &found.result {
        Ok(image) => {
            let reference = event(found, image, &Time(jiff::Timestamp::UNIX_EPOCH)).docker_image_reference;
            json!({
                "status": { "metadata": {}, "status": "Success" },
                "image": image_view(&image.id, &reference, Some(image)),
                "tag": found.tag,
            })
        }
        Err(Missing { reason, code, message }) => json!({
            "status": { "metadata": {}, "status": "Failure", "message": message, "reason": reason, "code": code },
            "tag": found.tag,
        }),
    }
}

fn repository_status(name: &str, found: &[Found]) -> Value {
    let status = if found.is_empty() {
        let message = format!("no tag of {name} is here: tags that only a registry has are imported by their names");
        json!({ "metadata": {}, "status": "Failure", "message": message, "reason": "NotFound", "code": 404 })
    } else {
        json!({ "metadata": {}, "status": "Success" })
    };
    json!({ "status": status, "images": found.iter().map(shown).collect::<Vec<_>>() })
}

/// Sets the tags that the images get.
fn set_all<'a>(all: &'a [&'a Found]) -> Box<ChangeStream<'a>> {
    Box::new(move |stream| {
        for found in all {
            let Some(tag) = &found.tag else { continue };
            let at = stream.spec.tags.iter().position(|set| set.name == *tag);
            let before = at.map(|at| stream.spec.tags.remove(at));
            let set = TagReference {
                name: tag.clone(),
                from: Some(found.image.from.clone()),
                // It is looked for again, whatever it was.
                generation: Some(0),
                import_policy: found.image.import_policy.clone(),
                reference_policy: found.image.reference_policy.clone(),
                reference: false,
                annotations: before.and_then(|before| before.annotations),
            };
            stream.spec.tags.insert(at.unwrap_or(stream.spec.tags.len()), set);
        }
        Ok(())
    })
}

/// Says in the stream what was found, and returns it.
async fn settle_all(call: &Call<'_>, key: &ObjectKey, all: &[&Found]) -> Result<Arc<ImageStream>, ApiError> {
    let now = Time(whole_seconds(call.registry().clock().now()));
    let settle = |stream: &mut ImageStream| {
        for found in all {
            let Some(tag) = &found.tag else { continue };
            let generation = stream.spec_tag(tag).and_then(|set| set.generation).unwrap_or(0);
            match &found.result {
                Ok(image) => drop(add_event(stream, tag, TagEvent { generation, ..event(found, image, &now) })),
                Err(missing) => fail(stream, tag, missing, generation, &now),
            }
        }
    };
    call.registry().api::<ImageStreams>().modify_status(key, settle).await
}

fn fail(stream: &mut ImageStream, tag: &str, missing: &Missing, generation: i64, now: &Time) {
    let tags = &mut stream.status.tags;
    let at = tags.iter().position(|events| events.tag == tag).unwrap_or_else(|| {
        tags.push(TagEvents { tag: tag.to_owned(), ..TagEvents::default() });
        tags.len() - 1
    });
    tags[at].conditions = vec![TagCondition {
        type_: IMPORT_SUCCESS.to_owned(),
        status: "False".to_owned(),
        last_transition_time: Some(now.clone()),
        reason: missing.reason.to_owned(),
        message: missing.message.clone(),
        generation,
    }];
}

/// Answers an ImageStreamMapping: an image of the engine is what a tag means from now on.
pub(in crate::server::verbs) async fn map(call: &mut Call<'_>) -> Result<Response, ApiError> {
    let writing = call.writing("CreateOptions")?;
    let format = codec::body_format(&call.request.headers)?;
    let obj = codec::decode(&*call.kind, format, &call.request.body, writing.validation, &mut call.warnings)?;
    let body = obj.as_any().downcast_ref::<Untyped>().expect("the kind is served from its schema");
    let name = body.metadata.name.clone().unwrap_or_default();
    let text = |pointer: &str| {
        let value = body.rest.get("image").and_then(|image| image.pointer(pointer));
        value.and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    let (id, reference) = (text("/metadata/name"), text("/dockerImageReference"));
    let tag = body.rest.get("tag").and_then(Value::as_str).filter(|tag| !tag.is_empty()).unwrap_or("latest").to_owned();
    let invalid = |cause: FieldError| ApiError::invalid(call.kind.info(), &name, vec![cause]);
    if !is_tag(&tag) {
        return Err(invalid(FieldError::invalid("tag", &tag, "a tag is letters, digits, '.', '_' and '-'")));
    }
    if reference.is_empty() {
        return Err(invalid(FieldError::required("image.dockerImageReference", "")));
    }
    let known = if id.starts_with("sha256:") { call.state.images().image(&id).await? } else { None };
    if known.is_none() {
        return Err(invalid(FieldError::not_found("image.metadata.name", &id)));
    }
    let stream = stream_of(call, &name)?;
    if !writing.write.dry_run {
        let created = Time(whole_seconds(call.registry().clock().now()));
        let means = |stream: &mut ImageStream| {
            let generation = stream.metadata.generation.unwrap_or(0);
            let (docker_image_reference, image) = (reference.clone(), id.clone());
            add_event(stream, &tag, TagEvent { created: created.clone(), docker_image_reference, image, generation });
        };
        call.registry().api::<ImageStreams>().modify_status(&ObjectKey::of(&stream.metadata), means).await?;
    }
    paths::success(201, call.output(Offer::Plain)?.format, &Value::Null)
}
