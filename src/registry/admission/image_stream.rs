//! Gives the tags of an image stream that a write changes what they mean at once: a tag may name a tag or an image of another stream.
//! And gives a new pod whose containers name streams of its namespace the images that those mean, where the streams' lookup policy or the
//! pod's annotation says so. Templates of pods stay as they are written: a tag means what it means when the pod is made.
//!
//! **Not here**: tags that follow images of the engine (`controllers/image_stream`), the rules themselves (`api/kinds/image_stream/tags`).
//! **Source** of the look-up: `pkg/image/apiserver/admission/imagepolicy` of openshift-apiserver.

use crate::{
    api::{
        kind::{Erased, Kind as _},
        kinds::image_stream::{ImageStream, ImageStreams, tags},
        meta::ObjectKey,
        object::DynObject,
        status::ApiError,
    },
    base::clock::whole_seconds,
    registry::Registry,
};
use k8s_openapi::{api::core::v1::Pod, apimachinery::pkg::apis::meta::v1::Time};

/// A pod with this annotation as `*` may name streams whose lookup policy says nothing.
const RESOLVE_NAMES: &str = "alpha.image.policy.openshift.io/resolve-names";

/// Looks the images of a new pod up among the streams of its namespace. What names no stream stays, and so does what means nothing yet.
pub(super) fn look_up(registry: &Registry, obj: &mut dyn DynObject) {
    let Some(pod) = obj.as_any_mut().downcast_mut::<Pod>() else { return };
    let namespace = pod.metadata.namespace.clone().unwrap_or_default();
    if !registry.has_any(&Erased::<ImageStreams>::NEW, &namespace) {
        return;
    }
    let streams = registry.api::<ImageStreams>();
    let asks =
        pod.metadata.annotations.as_ref().and_then(|all| all.get(RESOLVE_NAMES)).is_some_and(|names| names == "*");
    let spec = pod.spec.iter_mut();
    for container in spec.flat_map(|s| s.containers.iter_mut().chain(s.init_containers.iter_mut().flatten())) {
        let Some((stream, tag)) = container.image.as_deref().and_then(named) else { continue };
        let found =
            streams.get(&ObjectKey::new(&namespace, stream)).filter(|found| asks || found.spec.lookup_policy.local);
        if let Some(image) = found.and_then(|found| found.resolve(tag)) {
            container.image = Some(image);
        }
    }
}

/// The stream and the tag that an image's name may be.
fn named(image: &str) -> Option<(&str, &str)> {
    let may_be = !image.is_empty() && !image.contains(['/', '@']);
    may_be.then(|| image.split_once(':').unwrap_or((image, "latest")))
}

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        api::kinds::{image_stream::ImageStreamStatus, pod::Pods},
        testing,
    };

    #[tokio::test]
    async fn pods_may_name_streams_that_say_so() {
        let registry = testing::registry().await;
        let streams = registry.api::<ImageStreams>();
        let item = "items: [{created: '2026-01-01T00:00:00Z', dockerImageReference: 'web@sha256:aa', image: 'sha256:aa', generation: 1}]";
        let status: ImageStreamStatus =
            testing::from_yaml(&format!("tags: [{{tag: latest, {item}}}, {{tag: v1, {item}}}]")).unwrap();
        for (name, policy) in [("web", "{local: true}"), ("shy", "{local: false}")] {
            let stream = format!("metadata: {{name: {name}, namespace: default}}\nspec: {{lookupPolicy: {policy}}}");
            let made = streams.create(testing::from_yaml(&stream).unwrap()).await.unwrap();
            streams.modify_status(&ObjectKey::of(&made.metadata), |s| s.status = status.clone()).await.unwrap();
        }
        for (n, (asks, image, want)) in [
            ("", "web", "web@sha256:aa"),
            ("", "web:v1", "web@sha256:aa"),
            ("", "web:v2", "web:v2"),
            ("", "shy", "shy"),
            ("*", "shy", "web@sha256:aa"),
            ("none", "shy", "shy"),
            ("*", "other", "other"),
            ("*", "library/web", "library/web"),
        ]
        .into_iter()
        .enumerate()
        {
            let pod = format!(
                "metadata: {{name: p{n}, namespace: default, annotations: {{{RESOLVE_NAMES}: '{asks}'}}}}\nspec: {{containers: [{{name: c, image: '{image}'}}], initContainers: [{{name: i, image: '{image}'}}]}}"
            );
            let pod = registry.api::<Pods>().create(testing::from_yaml(&pod).unwrap()).await.unwrap();
            let spec = pod.spec.as_ref().unwrap();
            let images =
                [&spec.containers[0], &spec.init_containers.as_ref().unwrap()[0]].map(|c| c.image.as_deref().unwrap());
            assert_eq!(images, [want, want], "{image}");
        }
    }
}
