//! Image streams follow the images of the engine, as the nodes' objects list them.
//!
//! A tag that names an image follows that name: whatever image has it here is what the tag means. A tag that no user has set follows the
//! name `STREAM:TAG`, or `NAMESPACE/STREAM:TAG`: giving an image that name is what a push is elsewhere. A stream that stands for a repository
//! has the tags of that repository that are here. An image that is not here is
//! fetched by the node (`node/imports`), which also says why that failed.
//!
//! **Not here**: what tags mean when they are written (`api/kinds/image_stream/tags`), the rollouts that follow (`image_trigger`).
//! **Source** of what an import does: `pkg/image/controller/image_import_controller.go` of openshift-controller-manager.

use super::runtime::{Action, Controller, Decision, Trigger};
use crate::{
    api::{
        image_name::{digest, familiar, pinned, repository},
        kinds::{
            image_stream::{
                DOCKER_IMAGE, IMPORT_SUCCESS, ImageStream, ImageStreams, TagEvent, TagReference, tags::add_event,
            },
            node::Nodes,
        },
        meta::ObjectKey,
    },
    base::{clock::whole_seconds, ordered::Map},
    registry::Registry,
};
use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{ContainerImage, Node},
    apimachinery::pkg::apis::meta::v1::Time,
};
use std::sync::Arc;

/// The controller.
#[derive(Clone, Copy, Debug)]
pub struct ImageStreamController;

/// All that a pass over a stream depends on.
#[derive(Clone, Debug)]
pub struct Observed {
    stream: Arc<ImageStream>,
    nodes: Vec<Arc<Node>>,
    now: Timestamp,
}

impl Controller for ImageStreamController {
    type Key = ObjectKey;
    type Observed = Observed;

    fn name(&self) -> &'static str {
        "image-import"
    }

    fn event_source(&self) -> &'static str {
        "image-import-controller"
    }

    fn triggers(&self) -> Vec<Trigger<ObjectKey>> {
        vec![
            Trigger::itself::<ImageStreams>(),
            Trigger::on::<Nodes>(|registry, moved, keys| {
                // A node is written often, and its images seldom change.
                if moved.before.as_deref().map(images_of) != moved.after.as_deref().map(images_of) {
                    let streams = registry.api::<ImageStreams>().list("").items;
                    keys.extend(streams.iter().map(|stream| ObjectKey::of(&stream.metadata)));
                }
            }),
        ]
    }

    fn observe(&self, registry: &Registry, key: &ObjectKey) -> Option<Observed> {
        let stream = registry.api::<ImageStreams>().get(key)?;
        Some(Observed { stream, nodes: registry.api::<Nodes>().list("").items, now: registry.clock().now() })
    }

    fn decide(&self, observed: &Observed) -> Decision {
        let mut decision = Decision::rest();
        let mut stream = ImageStream::clone(&observed.stream);
        if stream.metadata.deletion_timestamp.is_some() {
            return decision;
        }
        let local = Local::of(&observed.nodes);
        follow(&mut stream, &local, &Time(whole_seconds(observed.now)));
        if stream.status != observed.stream.status {
            decision.then(Action::update_status::<ImageStreams>(stream).because("its tags mean other images"));
        }
        decision
    }
}

/// The images that a node lists.
pub fn images_of(node: &Node) -> &[ContainerImage] {
    node.status.as_ref().and_then(|status| status.images.as_deref()).unwrap_or_default()
}

/// The names of images that are here.
#[derive(Debug, Default)]
struct Local<'n> {
    /// By name with a tag, as the engine lists it.
    by_name: Map<&'n str, Known<'n>>,
}

/// An image that is here.
#[derive(Clone, Copy, Debug)]
struct Known<'n> {
    /// All that it is called.
    names: &'n [String],
    /// `sha256:…`.
    id: &'n str,
}

impl<'n> Local<'n> {
    fn of(nodes: &'n [Arc<Node>]) -> Self {
        let images = nodes.iter().flat_map(|node| images_of(node)).filter_map(|image| image.names.as_deref());
        let known = images.filter_map(|names| {
            let id = names.iter().find(|name| name.starts_with("sha256:"))?;
            Some(Known { names, id })
        });
        let named = known.flat_map(|known| known.names.iter().map(move |name| (name.as_str(), known)));
        Self { by_name: named.collect() }
    }

    /// The image of a name that a user writes. A digest may be that of a registry, or the image's ID.
    fn find(&self, name: &str) -> Option<Known<'n>> {
        let by_id = || digest(name).and_then(|id| self.by_name.get(id));
        self.by_name.get(&*familiar(name)).or_else(by_id).copied()
    }
}

impl Known<'_> {
    /// The name by which workloads use the image under a name that it has.
    fn reference(self, name: &str) -> String {
        pinned(name, self.id, self.names.iter().filter(|known| known.contains('@')).map(String::as_str))
    }
}

/// Gives each tag the image that it follows. Pure.
fn follow(stream: &mut ImageStream, local: &Local<'_>, now: &Time) {
    for tag in stream.spec.tags.clone() {
        let Some(name) = followed(&tag) else { continue };
        if let Some(known) = local.find(name) {
            mean(stream, &tag.name, known, name, tag.generation.unwrap_or(0), now);
        }
    }
    for (tag, known, name) in pushed(stream, local) {
        let generation = stream.metadata.generation.unwrap_or(0);
        // A later generation of the stream says nothing about a tag that nobody has set.
        let latest = stream.latest(&tag).filter(|latest| latest.image == known.id);
        let generation = latest.map_or(generation, |latest| latest.generation);
        mean(stream, &tag, known, &name, generation, now);
    }
}

/// The name of an image that a tag follows.
pub fn followed(tag: &TagReference) -> Option<&str> {
    let from = tag.from.as_ref().filter(|from| from.kind.as_deref() == Some(DOCKER_IMAGE) && !tag.reference)?;
    from.name.as_deref().filter(|name| !name.is_empty())
}

/// The tags that no user has set, with the images that have the stream's name, and that name. The one with the namespace counts more.
fn pushed<'n>(stream: &ImageStream, local: &Local<'n>) -> Vec<(String, Known<'n>, String)> {
    let name = stream.metadata.name.as_deref().unwrap_or_default();
    let namespace = stream.metadata.namespace.as_deref().unwrap_or_default();
    let mut found = Map::new();
    let of_spec = Some(&stream.spec.docker_image_repository).filter(|name| !name.is_empty()).map(|name| familiar(name));
    let of_spec = of_spec.map(|listed| repository(&listed).to_owned());
    for repository in of_spec.into_iter().chain([name.to_owned(), format!("{namespace}/{name}")]) {
        let prefix = format!("{repository}:");
        let named = local.by_name.range(&*prefix..).take_while(|(known, _)| known.starts_with(&prefix));
        for (known, image) in named {
            found.insert(known[prefix.len()..].to_owned(), (*image, (*known).to_owned()));
        }
    }
    let is_set = |tag: &str| stream.spec_tag(tag).is_some();
    found.into_iter().filter(|(tag, _)| !is_set(tag)).map(|(tag, (image, name))| (tag, image, name)).collect()
}

fn mean(stream: &mut ImageStream, tag: &str, known: Known<'_>, name: &str, generation: i64, now: &Time) {
    let event = TagEvent {
        created: now.clone(),
        docker_image_reference: known.reference(name),
        image: known.id.to_owned(),
        generation,
    };
    add_event(stream, tag, event);
    // It is here, whatever a registry said.
    if let Some(events) = stream.status.tags.iter_mut().find(|events| events.tag == tag) {
        events.conditions.retain(|condition| condition.type_ != IMPORT_SUCCESS);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;
    use serde_json::json;

    const AT: &str = "2026-01-01T00:00:00Z";

    fn id(c: char) -> String {
        format!("sha256:{}", c.to_string().repeat(64))
    }

    fn node(images: &[&[&str]]) -> Vec<Arc<Node>> {
        let images: Vec<_> = images.iter().map(|names| json!({ "names": names })).collect();
        vec![Arc::new(
            serde_json::from_value(json!({ "metadata": { "name": "skiff" }, "status": { "images": images } })).unwrap(),
        )]
    }

    fn stream(yaml: &str) -> ImageStream {
        testing::from_yaml(&format!("metadata: {{name: web, namespace: shop, generation: 3}}\n{yaml}")).unwrap()
    }

    fn followed_by(mut stream: ImageStream, images: &[&[&str]]) -> String {
        let nodes = node(images);
        follow(&mut stream, &Local::of(&nodes), &Time(AT.parse().unwrap()));
        let line = |tag: &str, event: &TagEvent| {
            format!(
                "{tag} {} {} {}\n",
                event.docker_image_reference,
                &event.image[..9.min(event.image.len())],
                event.generation
            )
        };
        stream.status.tags.iter().flat_map(|tag| tag.items.iter().map(|event| line(&tag.tag, event))).collect()
    }

    #[test]
    fn a_tag_follows_the_image_of_its_name() {
        let (a, b) = (id('a'), id('b'));
        let digest = format!("nginx@{}", id('d'));
        let tag = |name: &str| {
            stream(&format!(
                "spec: {{tags: [{{name: v1, generation: 2, from: {{kind: DockerImage, name: '{name}'}}}}]}}"
            ))
        };
        for (name, images, means) in [
            ("app:1", vec![vec!["app:1", &a]], format!("v1 app@{a} sha256:aa 2\n")),
            ("app", vec![vec!["app:latest", &a], vec!["app:1", &b]], format!("v1 app@{a} sha256:aa 2\n")),
            ("docker.io/library/nginx:1", vec![vec![&*digest, "nginx:1", &a]], format!("v1 {digest} sha256:aa 2\n")),
            ("mine:1", vec![vec![&*digest, "nginx:1", "mine:1", &a]], format!("v1 mine@{a} sha256:aa 2\n")),
            ("host:5000/app:1", vec![vec!["host:5000/app:1", &a]], format!("v1 host:5000/app@{a} sha256:aa 2\n")),
            (&*format!("app:1@{a}"), vec![vec!["skiff-kept/x:1", &a]], format!("v1 app@{a} sha256:aa 2\n")),
            ("gone:1", vec![vec!["app:1", &a]], String::new()),
            (&*digest.clone(), vec![vec![&*digest, "nginx:1", &a]], format!("v1 {digest} sha256:aa 2\n")),
        ] {
            let images: Vec<&[&str]> = images.iter().map(|names| &names[..]).collect();
            assert_eq!(followed_by(tag(name), &images), means, "{name}");
        }
        let name_alone = "spec: {tags: [{name: v1, reference: true, from: {kind: DockerImage, name: 'app:1'}}]}";
        assert_eq!(followed_by(stream(name_alone), &[&["app:1", &a]]), "");
    }

    #[test]
    fn an_image_of_the_streams_name_is_a_push() {
        let (a, b) = (id('a'), id('b'));
        let images: &[&[&str]] = &[&["web:latest", "web:2", &a], &["shop/web:2", "webs:1", "other/web:3", &b]];
        let means = format!("2 shop/web@{b} sha256:bb 3\nlatest web@{a} sha256:aa 3\n");
        assert_eq!(followed_by(stream(""), images), means);
        let set = "spec: {tags: [{name: latest, generation: 1, from: {kind: DockerImage, name: elsewhere}}]}";
        assert_eq!(
            followed_by(stream(set), images),
            format!("2 shop/web@{b} sha256:bb 3\n"),
            "a user has set the other"
        );
        let of_repository = "spec: {dockerImageRepository: docker.io/other/web}";
        let means = format!("2 shop/web@{b} sha256:bb 3\n3 other/web@{b} sha256:bb 3\nlatest web@{a} sha256:aa 3\n");
        assert_eq!(followed_by(stream(of_repository), images), means);
    }

    #[test]
    fn another_image_comes_before_the_last_and_the_same_changes_nothing() {
        let (a, b) = (id('a'), id('b'));
        let mut before = stream("");
        let now = Time(AT.parse().unwrap());
        follow(&mut before, &Local::of(&node(&[&["web:latest", &a]])), &now);
        let mut same = before.clone();
        same.metadata.generation = Some(4);
        let later = Time("2026-01-01T00:01:00Z".parse().unwrap());
        follow(&mut same, &Local::of(&node(&[&["web:latest", &a]])), &later);
        assert_eq!(same.status, before.status);
        let means = format!("latest web@{b} sha256:bb 3\nlatest web@{a} sha256:aa 3\n");
        assert_eq!(followed_by(before.clone(), &[&["web:latest", &b]]), means);
        assert_eq!(
            followed_by(before, &[]),
            format!("latest web@{a} sha256:aa 3\n"),
            "a tag remembers an image that went"
        );
    }
}
