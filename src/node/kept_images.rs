//! Keeps images that lost their name and that a rollback may still need: they get a name of skiff's own, `skiff-kept/CLUSTER:ID`.
//!
//! Started by `agent`; one task. An image loses its name when another gets it (`docker build -t`, `docker tag`), and Docker throws nameless
//! images away (`docker image prune`). Who removes an image by its last name means it.
//!
//! **Invariants**: an image is kept while a tag of a stream remembers it, or the template of a ReplicaSet or ReplicationController names it
//! by its ID or digest; then its name goes, and the image with it. `skiff down` removes what is left ([`remove_all`]).

use super::context::{Context, ImageFollower};
use crate::{
    api::{
        image_name::{digest, repository},
        kind::Erased,
        kinds::{
            image_stream::{ImageStream, ImageStreams},
            replica_set::ReplicaSets,
            replication_controller::ReplicationControllers,
        },
    },
    base::{chain::chain, ordered::Set, task::Drain},
    engine::{Engine, EngineError, Image},
};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use std::{sync::Arc, time::Duration};
use tracing::warn;

/// The names that skiff gives, before the cluster's.
const REPOSITORY: &str = "skiff-kept";
/// How much of an image's ID is in its name.
const ID_LETTERS: usize = 32;
/// How long a pass waits after the one before: images change in bursts.
const REST: Duration = Duration::from_millis(500);
/// How often it is seen whether what is kept is still needed: a ReplicaSet that goes tells nobody of its image.
const LOOK_EVERY: Duration = Duration::from_mins(1);

/// Starts the task that keeps images.
pub(super) fn start(context: &Arc<Context>, drain: &Drain) {
    let context = Arc::clone(context);
    let supervisor = context.config.supervisor.clone();
    supervisor.keep_until_drained("kept-images", drain, move || {
        let context = Arc::clone(&context);
        async move { run(&context).await }
    });
}

async fn run(context: &Context) {
    let mut images = context.watch_images(ImageFollower::Keeper);
    // A former life may have left some.
    let mut keeps_some = true;
    loop {
        let revision = context.registry.store().revision();
        let Ok(mut streams) = context.registry.watch_kind(&Erased::<ImageStreams>::NEW, revision) else { continue };
        loop {
            tokio::select! {
                biased;
                changed = images.changed() => if changed.is_err() { return },
                change = streams.next() => if change.is_err() { break },
                () = tokio::time::sleep(LOOK_EVERY), if keeps_some => {}
            }
            if !keeps_some && !context.registry.has_any(&Erased::<ImageStreams>::NEW, "") {
                continue;
            }
            match pass(context).await {
                Ok(keeps) => keeps_some = keeps,
                Err(EngineError::Unreachable(_)) => {}
                Err(error) => {
                    warn!(component = "node", err = chain(&error), "cannot keep the images of earlier rollouts");
                }
            }
            tokio::time::sleep(REST).await;
        }
    }
}

/// Looks at all images once; says whether any is kept.
async fn pass(context: &Context) -> Result<bool, EngineError> {
    let images = context.ask(context.engine.images()).await?;
    let needed = needed(context);
    let cluster = &context.config.cluster;
    let steps = decide(cluster, &images, &needed);
    let kept_before = images.iter().flat_map(|image| &image.tags).any(|tag| is_kept(cluster, tag));
    let keeps = kept_before || !steps.is_empty();
    for step in steps {
        match step {
            Step::Keep { id, name } => match context.ask(context.engine.tag_image(&id, &name)).await {
                // Somebody has removed it meanwhile.
                Ok(()) | Err(EngineError::NotFound(_)) => {}
                Err(error) => return Err(error),
            },
            // A container still uses it: next time, then.
            Step::LetGo { name } => match context.ask(context.engine.remove_image(&name)).await {
                Ok(()) | Err(EngineError::Conflict(_)) => {}
                Err(error) => return Err(error),
            },
        }
    }
    Ok(keeps)
}

/// The IDs and digests by which images are remembered.
fn needed(context: &Context) -> Set<String> {
    let registry = &context.registry;
    let mut needed = Set::new();
    for stream in registry.api::<ImageStreams>().list("").items {
        needed.extend(remembered(&stream));
    }
    for set in registry.api::<ReplicaSets>().list("").items {
        needed.extend(set.spec.template.as_ref().into_iter().flat_map(named));
    }
    for controller in registry.api::<ReplicationControllers>().list("").items {
        needed.extend(controller.spec.as_ref().and_then(|spec| spec.template.as_ref()).into_iter().flat_map(named));
    }
    needed
}

/// What a stream's tags remember. Pure.
fn remembered(stream: &ImageStream) -> impl Iterator<Item = String> + '_ {
    stream.status.tags.iter().flat_map(|tag| &tag.items).map(|item| item.image.clone()).filter(|id| !id.is_empty())
}

/// What a template names by ID or digest. Pure.
fn named(template: &PodTemplateSpec) -> Vec<String> {
    let spec = template.spec.iter();
    let containers = spec.flat_map(|spec| spec.containers.iter().chain(spec.init_containers.iter().flatten()));
    containers.filter_map(|container| digest(container.image.as_deref()?)).map(str::to_owned).collect()
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    /// Gives an image a name of skiff's.
    Keep { id: String, name: String },
    /// Takes such a name away.
    LetGo { name: String },
}

/// What to do about the images that there are. Pure.
fn decide(cluster: &str, images: &[Image], needed: &Set<String>) -> Vec<Step> {
    let mut steps = Vec::new();
    for image in images {
        let digests = image.digests.iter().filter_map(|name| digest(name));
        let is_needed = needed.contains(&image.id) || digests.into_iter().any(|digest| needed.contains(digest));
        let (kept, own): (Vec<&String>, Vec<&String>) = image.tags.iter().partition(|tag| is_kept(cluster, tag));
        if is_needed && image.tags.is_empty() {
            steps.push(Step::Keep { id: image.id.clone(), name: kept_name(cluster, &image.id) });
        }
        if !is_needed || !own.is_empty() {
            steps.extend(kept.into_iter().map(|name| Step::LetGo { name: name.clone() }));
        }
    }
    steps
}

fn kept_name(cluster: &str, id: &str) -> String {
    let digits = id.strip_prefix("sha256:").unwrap_or(id);
    format!("{REPOSITORY}/{cluster}:{}", digits.get(..ID_LETTERS).unwrap_or(digits))
}

fn is_kept(cluster: &str, tag: &str) -> bool {
    repository(tag).strip_prefix(REPOSITORY).and_then(|rest| rest.strip_prefix('/')) == Some(cluster)
}

/// Takes away every name that a cluster gave images, and with them the images that have no other. How many names there were.
///
/// # Errors
/// Those of the engine; an image that a container uses keeps its name.
pub async fn remove_all(engine: &dyn Engine, cluster: &str) -> Result<usize, EngineError> {
    let images = engine.images().await?;
    let names: Vec<&String> = images.iter().flat_map(|image| &image.tags).filter(|tag| is_kept(cluster, tag)).collect();
    for name in &names {
        match engine.remove_image(name).await {
            Ok(()) | Err(EngineError::Conflict(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(names.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        base::task::drain_signal,
        engine::fake::{Behaviour, FakeEngine},
        node::NodeConfig,
        testing,
    };

    fn id(c: char) -> String {
        format!("sha256:{}", c.to_string().repeat(64))
    }

    fn image(c: char, tags: &[&str], digests: &[&str]) -> Image {
        let texts = |all: &[&str]| all.iter().map(|text| (*text).to_owned()).collect();
        Image { id: id(c), tags: texts(tags), digests: texts(digests), ..Image::default() }
    }

    #[test]
    fn nameless_images_that_are_needed_are_kept_and_no_others() {
        let kept = format!("skiff-kept/a:{}", "1".repeat(32));
        let digest = format!("far@{}", id('d'));
        let needed: Set<String> = [id('1'), id('d')].into();
        let keep = |c: char| format!("keep skiff-kept/a:{}", c.to_string().repeat(32));
        for (image, want) in [
            (image('1', &[], &[]), vec![keep('1')]),
            (image('1', &["web:1"], &[]), vec![]),
            (image('1', &[&kept], &[]), vec![]),
            (image('1', &[&kept, "web:1"], &[]), vec![format!("let {kept} go")]),
            (image('2', &[], &[]), vec![]),
            (image('2', &["skiff-kept/a:2"], &[]), vec!["let skiff-kept/a:2 go".to_owned()]),
            (image('2', &["skiff-kept/b:2"], &[]), vec![]),
            (image('2', &["skiff-kept/ab:2"], &[]), vec![]),
            (image('3', &[], &[&digest]), vec![keep('3')]),
        ] {
            let text = |step: &Step| match step {
                Step::Keep { id, name } => {
                    assert_eq!(*id, image.id);
                    format!("keep {name}")
                }
                Step::LetGo { name } => format!("let {name} go"),
            };
            let steps: Vec<String> = decide("a", std::slice::from_ref(&image), &needed).iter().map(text).collect();
            assert_eq!(steps, want, "{image:?}");
        }
    }

    #[test]
    fn templates_name_images_by_digest() {
        let (a, b) = (id('a'), id('b'));
        let template: PodTemplateSpec = testing::from_yaml(&format!(
            "spec: {{containers: [{{name: c, image: 'web@{a}'}}, {{name: d, image: 'web:1'}}], initContainers: [{{name: i, image: 'x/y:1@{b}'}}]}}"
        ))
        .unwrap();
        assert_eq!(named(&template), [a, b]);
    }

    #[tokio::test(start_paused = true)]
    async fn an_image_is_kept_until_nothing_remembers_it() {
        let (registry, engine) = (testing::registry().await, FakeEngine::for_test());
        engine.add_image("web:1", Behaviour::server());
        let first = engine.image("web:1").await.unwrap().unwrap().id;
        let context = Arc::new(Context::new(registry.clone(), Arc::new(engine.clone()), NodeConfig::for_test()));
        let (_trigger, drain) = drain_signal();
        start(&context, &drain);
        let api = registry.api::<ImageStreams>();
        let made = api.create(testing::from_yaml("metadata: {name: web, namespace: default}").unwrap()).await.unwrap();
        let key = crate::api::meta::ObjectKey::of(&made.metadata);
        let item = format!(
            "{{tags: [{{tag: '1', items: [{{created: '2026-01-01T00:00:00Z', dockerImageReference: x, image: '{first}', generation: 1}}]}}]}}"
        );
        let status: crate::api::kinds::image_stream::ImageStreamStatus = testing::from_yaml(&item).unwrap();
        api.modify_status(&key, |stream| stream.status = status.clone()).await.unwrap();
        let settle = || tokio::time::sleep(Duration::from_secs(2));
        settle().await;
        let names = async || engine.image(&first).await.unwrap().map(|image| image.tags);
        assert_eq!(names().await.unwrap(), ["web:1"]);
        engine.add_image("web:1", Behaviour::server());
        context.images_changed();
        settle().await;
        let kept = kept_name("skiff", &first);
        assert_eq!(names().await.unwrap(), std::slice::from_ref(&kept));
        api.delete(&key, &Default::default()).await.unwrap();
        settle().await;
        assert_eq!(names().await, None, "nothing remembers it");
        assert!(engine.image("web:1").await.unwrap().is_some());
        engine.tag_image("web:1", &kept).await.unwrap();
        assert_eq!(remove_all(&engine, "skiff").await.unwrap(), 1);
        assert!(engine.image(&kept).await.unwrap().is_none());
    }
}
