//! `imagestreams/NAME/layers`: what the images of a stream are made of, as far as the engine has them. Who may read it may follow the
//! stream's images (`privileges/streams`).
//!
//! **Source**: `LayersREST` in `pkg/image/apiserver/registry/imagestream/etcd/etcd.go` of openshift-apiserver.

use super::{super::Call, LAYER_TYPE, json_of, stream_of};
use crate::{
    api::{kinds::image_stream::API_VERSION, status::ApiError},
    node::local_images::LocalImage,
    server::{
        media::Offer,
        respond::{self, Response},
    },
};
use serde_json::{Map, Value, json};

/// The type of an image's configuration, whose digest is the image's ID.
const CONFIG_TYPE: &str = "application/vnd.docker.container.image.v1+json";

/// Answers with the layers of a stream's images.
pub(in crate::server::verbs) async fn get(call: &Call<'_>) -> Result<Response, ApiError> {
    let stream = stream_of(call, &call.info.name)?;
    let (mut images, mut blobs) = (Map::new(), Map::new());
    for event in stream.status.tags.iter().flat_map(|tag| &tag.items).filter(|event| !event.image.is_empty()) {
        if !images.contains_key(&event.image) {
            let found = call.state.images().image(&event.image).await?;
            images.insert(event.image.clone(), parts(&event.image, found.as_ref(), &mut blobs));
        }
    }
    let layers = json!({
        "apiVersion": API_VERSION, "kind": "ImageStreamLayers", "metadata": json_of(&stream.metadata),
        "blobs": blobs, "images": images,
    });
    respond::value(200, call.output(Offer::Plain)?, &layers)
}

/// What an image is made of; each part is put among the blobs. The engine says of none how large it is.
fn parts(id: &str, found: Option<&LocalImage>, blobs: &mut Map<String, Value>) -> Value {
    let Some(image) = found else { return json!({ "imageMissing": true, "config": null }) };
    let blob = |media_type: &str| json!({ "size": null, "mediaType": media_type });
    for layer in &image.layers {
        blobs.entry(layer).or_insert_with(|| blob(LAYER_TYPE));
    }
    blobs.entry(id).or_insert_with(|| blob(CONFIG_TYPE));
    json!({ "layers": image.layers, "config": id })
}
