//! Gives the tags of an image stream that a write changes what they mean at once: a tag may name a tag or an image of another stream.
//!
//! **Not here**: tags that follow images of the engine (`controllers/image_stream`), the rules themselves (`api/kinds/image_stream/tags`).

use crate::{
    api::{
        kind::Kind as _,
        kinds::image_stream::{ImageStream, ImageStreams, tags},
        object::DynObject,
        status::ApiError,
    },
    base::clock::whole_seconds,
    registry::Registry,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// Completes an object that is a stream.
pub(super) fn complete(
    registry: &Registry,
    old: Option<&dyn DynObject>,
    new: &mut dyn DynObject,
) -> Result<(), ApiError> {
    let Some(stream) = new.as_any_mut().downcast_mut::<ImageStream>() else { return Ok(()) };
    let old = old.and_then(|old| old.as_any().downcast_ref::<ImageStream>());
    let now = Time(whole_seconds(registry.clock().now()));
    let streams = registry.api::<ImageStreams>();
    let errs = tags::settle(stream, old, &now, &|key| streams.get(key));
    if errs.is_empty() {
        return Ok(());
    }
    let mut causes = ImageStreams::validate(stream);
    causes.extend(errs);
    Err(ApiError::invalid(&ImageStreams::INFO, stream.metadata.name.as_deref().unwrap_or_default(), causes))
}
