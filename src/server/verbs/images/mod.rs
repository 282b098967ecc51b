//! Answers for image.openshift.io/v1 beside the streams: their tags, their images, and looking images up. Nothing of it is stored: tags are
//! parts of streams, and images are the engine's.
//!
//! - [`tags`]: ImageStreamTag and ImageTag. [`imports`]: ImageStreamImport and ImageStreamMapping. [`layers`] and [`secrets`]: the
//!   sub-resources of a stream. Here: images.
//!
//! **Source**: `pkg/image/apiserver/registry/{imagestreamtag,imagetag,imagestreamimage,image,imagestreamimport,imagestreammapping}/rest.go` of
//! openshift-apiserver.

pub(super) mod imports;
pub(super) mod layers;
pub(super) mod secrets;
pub(super) mod tags;

use super::{
    Call,
    privileges::{Asker, streams},
    views::{list, single},
};
use crate::{
    api::{
        image_name::pinned,
        kind::{Erased, Kind as _},
        kinds::image_stream::{ImageStream, ImageStreams, TagEvent, tags::image_event},
        meta::ObjectKey,
        object::untyped,
        status::ApiError,
    },
    node::local_images::LocalImage,
    registry::pipeline::{Part, WriteOptions, decoded},
    server::{respond::Response, route::Verb},
    store::Entry,
};
use serde_json::{Value, json};
use std::sync::Arc;

/// The types of an image's manifest and of its layers.
const MANIFEST_TYPE: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// See [`MANIFEST_TYPE`].
const LAYER_TYPE: &str = "application/vnd.docker.image.rootfs.diff.tar";
/// How often a stream that comes or goes meanwhile is written again.
const TRIES_MAX: usize = 8;

/// Answers with images of the engine.
pub(super) async fn images(call: &Call<'_>) -> Result<Response, ApiError> {
    if call.info.verb == Verb::List {
        let all = call.state.images().all().await?;
        return list(call, all.iter().map(|image| image_view(&image.id, &reference(image), Some(image))).collect());
    }
    let name = &call.info.name;
    let found = if name.starts_with("sha256:") { call.state.images().image(name).await? } else { None };
    let image = found.ok_or_else(|| ApiError::not_found(call.kind.info(), name))?;
    single(call, 200, image_view(&image.id, &reference(&image), Some(&image)))
}

/// Answers with an image of a stream.
pub(super) async fn stream_image(call: &Call<'_>) -> Result<Response, ApiError> {
    let name = &call.info.name;
    let (stream, id) = name
        .split_once('@')
        .filter(|(stream, id)| !stream.is_empty() && !id.is_empty() && !id.contains('@'))
        .ok_or_else(|| ApiError::BadRequest("ImageStreamImages must be retrieved with <name>@<id>".to_owned()))?;
    let stream = stream_of(call, stream)?;
    let event = image_event(&stream, id).map_err(|_unknown| ApiError::not_found(call.kind.info(), name))?;
    let mut metadata = metadata(&stream, name, Some(event));
    metadata["labels"] = json!(stream.metadata.labels);
    single(call, 200, json!({ "metadata": metadata, "image": image_of(call, event).await? }))
}

/// The name by which workloads use an image of the engine.
fn reference(image: &LocalImage) -> String {
    let name = image.tags.first().or(image.digests.first()).map_or("", String::as_str);
    if name.is_empty() { image.id.clone() } else { pinned(name, &image.id, image.digests.iter().map(String::as_str)) }
}

/// A stream of the namespace that is asked.
fn stream_of(call: &Call<'_>, name: &str) -> Result<Arc<ImageStream>, ApiError> {
    let found = call.registry().api::<ImageStreams>().get(&ObjectKey::new(&call.info.namespace, name));
    found.ok_or_else(|| ApiError::not_found(&ImageStreams::INFO, name))
}

/// What a view of a part of a stream says of itself.
fn metadata(stream: &ImageStream, name: &str, event: Option<&TagEvent>) -> Value {
    let of = &stream.metadata;
    let created = event.map(|event| json!(event.created)).or_else(|| of.creation_timestamp.as_ref().map(|t| json!(t)));
    json!({
        "name": name,
        "namespace": of.namespace,
        "uid": of.uid,
        "resourceVersion": of.resource_version,
        "creationTimestamp": created,
    })
}

/// The image of an event, with what the engine knows of it.
async fn image_of(call: &Call<'_>, event: &TagEvent) -> Result<Value, ApiError> {
    let found = if event.image.is_empty() { None } else { call.state.images().image(&event.image).await? };
    Ok(image_view(&event.image, &event.docker_image_reference, found.as_ref()))
}

/// An image of this ID and name.
fn image_view(id: &str, reference: &str, found: Option<&LocalImage>) -> Value {
    let mut view = json!({
        "apiVersion": "image.openshift.io/v1", "kind": "Image",
        "metadata": { "name": id }, "dockerImageReference": reference, "dockerImageMetadataVersion": "1.0",
    });
    let Some(image) = found else { return view };
    view["metadata"]["creationTimestamp"] = image.metadata["Created"].clone();
    view["dockerImageMetadata"] = image.metadata.clone();
    let layer = |digest: &String| json!({ "name": digest, "size": 0, "mediaType": LAYER_TYPE });
    view["dockerImageLayers"] = image.layers.iter().map(layer).collect();
    view["dockerImageManifestMediaType"] = json!(MANIFEST_TYPE);
    view
}

/// Changes a stream.
type ChangeStream<'a> = dyn FnMut(&mut ImageStream) -> Result<(), ApiError> + Send + 'a;

/// Changes what a stream's tags follow; one that is not there is made. Returns the stream as stored.
async fn write_stream(
    call: &Call<'_>,
    key: &ObjectKey,
    write: &WriteOptions,
    change: &mut ChangeStream<'_>,
) -> Result<Arc<ImageStream>, ApiError> {
    let kind = &Erased::<ImageStreams>::NEW;
    let asker = Asker::of(call);
    for _ in 0..TRIES_MAX {
        let mut update = |entry: &Entry| {
            let mut stream = ImageStream::clone(&decoded::<ImageStreams>(entry));
            change(&mut stream)?;
            streams::tags(&asker, &stream, Some(&decoded::<ImageStreams>(entry)))?;
            // What it is based on is what it is: another write is no conflict.
            stream.metadata.resource_version = None;
            Ok(Box::new(stream) as Box<_>)
        };
        match call.registry().update(kind, key, Part::Main, &mut update, write).await {
            Err(ApiError::NotFound { .. }) => {}
            written => return written.map(|entry| decoded::<ImageStreams>(&entry)),
        }
        let mut stream = ImageStream::default();
        stream.metadata.name = Some(key.name.clone());
        stream.metadata.namespace = Some(key.namespace.clone());
        change(&mut stream)?;
        streams::tags(&asker, &stream, None)?;
        match call.registry().create(kind, &key.namespace, Box::new(stream), write).await {
            Err(ApiError::AlreadyExists { is_going: false, .. }) => {}
            written => return written.map(|entry| decoded::<ImageStreams>(&entry)),
        }
    }
    Err(ApiError::modified(&ImageStreams::INFO, &key.name))
}

/// A part of a stream as JSON.
fn json_of<T: serde::Serialize>(part: &T) -> Value {
    untyped(part)
}
