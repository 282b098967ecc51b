//! Fetches the images that tags of image streams name and that are not here, and says in the stream why one could not be had.
//!
//! Started by `agent`; one task. What a tag means once its image is here is a controller's (`image_stream`): both meet in the stream and in
//! the list of images of the node's object.
//!
//! **Invariants**: a tag is tried once for each time that it is set, and again every quarter of an hour when it failed or is to be imported
//! by schedule; without streams this waits and does nothing.
//! **Source**: `pkg/image/controller/{image_import_controller,scheduled_image_controller}.go` of openshift-controller-manager.

use super::context::Context;
use crate::{
    api::{
        image_name::{digest, is_known_to_registry},
        kind::Erased,
        kinds::image_stream::{
            DOCKER_IMAGE, IMPORT_SUCCESS, ImageStream, ImageStreams, TagCondition, TagEvents, TagReference,
        },
        meta::ObjectKey,
        status::ApiError,
    },
    base::{chain::chain, clock::whole_seconds, ordered::Map, task::Drain},
    engine::PullError,
    registry::client::Api,
};
use futures::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;
use tracing::warn;

/// When a tag that failed, or is imported by schedule, is tried again. Source: `ScheduledImageImportMinimumIntervalSeconds`, openshift/api.
const AGAIN: Duration = Duration::from_mins(15);

/// Starts the task that fetches images for streams.
pub(super) fn start(context: &Arc<Context>, drain: &Drain) {
    let context = Arc::clone(context);
    let supervisor = context.config.supervisor.clone();
    supervisor.keep_until_drained("image-imports", drain, move || {
        let imports = Imports::new(Arc::clone(&context));
        async move { imports.run().await }
    });
}

/// A tag whose image is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Wanted {
    stream: ObjectKey,
    uid: String,
    tag: String,
    generation: i64,
    /// The image.
    name: String,
    is_scheduled: bool,
}

impl Wanted {
    fn id(&self) -> (String, String) {
        (self.uid.clone(), self.tag.clone())
    }
}

/// The tags of a stream that name images. Pure.
fn wanted(stream: &ImageStream) -> Vec<Wanted> {
    let of = |tag: &TagReference| {
        let from = tag.from.as_ref().filter(|from| from.kind.as_deref() == Some(DOCKER_IMAGE) && !tag.reference)?;
        let name = from.name.clone().filter(|name| !name.is_empty())?;
        Some(Wanted {
            stream: ObjectKey::of(&stream.metadata),
            uid: stream.metadata.uid.clone().unwrap_or_default(),
            tag: tag.name.clone(),
            generation: tag.generation.unwrap_or(0),
            is_scheduled: tag.import_policy.scheduled && digest(&name).is_none(),
            name,
        })
    };
    stream.spec.tags.iter().filter_map(of).chain(newest(stream)).collect()
}

/// The newest image of the repository that a stream stands for.
fn newest(stream: &ImageStream) -> Option<Wanted> {
    const LATEST: &str = "latest";
    let repository = &stream.spec.docker_image_repository;
    if repository.is_empty() || stream.spec_tag(LATEST).is_some() {
        return None;
    }
    Some(Wanted {
        stream: ObjectKey::of(&stream.metadata),
        uid: stream.metadata.uid.clone().unwrap_or_default(),
        tag: LATEST.to_owned(),
        generation: stream.metadata.generation.unwrap_or(0),
        is_scheduled: false,
        name: format!("{repository}:{LATEST}"),
    })
}

/// Whether a tag has had its image since it was set. Pure.
fn has_image(stream: &ImageStream, wanted: &Wanted) -> bool {
    stream.latest(&wanted.tag).is_some_and(|event| event.generation >= wanted.generation && !event.image.is_empty())
}

type Done = (Wanted, Result<(), PullError>);

struct Imports {
    context: Arc<Context>,
    streams: Api<ImageStreams>,
    /// The generation for which each tag was tried, by the stream's UID and the tag.
    tried: Map<(String, String), i64>,
    /// When tags are tried again, the earliest first.
    again: Vec<(Instant, Wanted)>,
    running: FuturesUnordered<BoxFuture<'static, Done>>,
}

impl Imports {
    fn new(context: Arc<Context>) -> Self {
        let streams = context.registry.api();
        Self { context, streams, tried: Map::new(), again: Vec::new(), running: FuturesUnordered::new() }
    }

    async fn run(mut self) {
        loop {
            let list = self.streams.list("");
            let Ok(mut watch) = self.context.registry.watch_kind(&Erased::<ImageStreams>::NEW, list.revision) else {
                continue;
            };
            list.items.iter().for_each(|stream| self.look(stream));
            loop {
                let due = self.again.first().map(|(at, _)| *at);
                tokio::select! {
                    biased;
                    change = watch.next() => match change {
                        Ok(change) => match (&change.after, &change.before) {
                            (Some(entry), _) => self.look(&self.streams.object(entry)),
                            (None, Some(entry)) => self.forget(&self.streams.object(entry)),
                            (None, None) => {}
                        },
                        // Too many changes came at once: list again.
                        Err(_) => break,
                    },
                    Some((wanted, result)) = self.running.next() => self.done(wanted, result).await,
                    () = sleep_until(due) => self.try_again(),
                }
            }
        }
    }

    /// Begins to fetch what a stream wants and was not tried.
    fn look(&mut self, stream: &ImageStream) {
        for wanted in wanted(stream) {
            if self.tried.get(&wanted.id()) == Some(&wanted.generation) {
                continue;
            }
            self.tried.insert(wanted.id(), wanted.generation);
            self.again.retain(|(_, other)| other.id() != wanted.id());
            if has_image(stream, &wanted) {
                self.schedule(wanted);
            } else {
                self.begin(wanted);
            }
        }
    }

    fn forget(&mut self, stream: &ImageStream) {
        let uid = stream.metadata.uid.as_deref().unwrap_or_default();
        self.tried.retain(|(of, _), _| of != uid);
        self.again.retain(|(_, wanted)| wanted.uid != uid);
    }

    fn schedule(&mut self, wanted: Wanted) {
        if wanted.is_scheduled {
            self.again.push((self.context.clock().mono() + AGAIN, wanted));
        }
    }

    fn try_again(&mut self) {
        let now = self.context.clock().mono();
        while self.again.first().is_some_and(|(at, _)| *at <= now) {
            let (_, wanted) = self.again.remove(0);
            let stream = self.streams.get(&wanted.stream);
            let still = |stream: &Arc<ImageStream>| self::wanted(stream).contains(&wanted);
            if stream.as_ref().is_some_and(still) {
                self.begin(wanted);
            }
        }
    }

    fn begin(&mut self, wanted: Wanted) {
        let context = Arc::clone(&self.context);
        let import = async move {
            let result = import(&context, &wanted).await;
            (wanted, result)
        };
        self.running.push(import.boxed());
    }

    async fn done(&mut self, wanted: Wanted, result: Result<(), PullError>) {
        if let Err(error) = result {
            tell(&self.context, self.streams.clone(), &wanted, &error).await;
            self.again.push((self.context.clock().mono() + AGAIN, wanted));
        } else {
            self.schedule(wanted);
        }
    }
}

/// Says in the stream why an image could not be had.
async fn tell(context: &Context, streams: Api<ImageStreams>, wanted: &Wanted, error: &PullError) {
    let now = Time(whole_seconds(context.now()));
    let change = |stream: &mut ImageStream| {
        if self::wanted(stream).contains(wanted) {
            failed(stream, wanted, error, &now);
        }
    };
    match streams.modify_status(&wanted.stream, change).await {
        // The stream is gone.
        Ok(_) | Err(ApiError::NotFound { .. }) => {}
        Err(error) => {
            let stream = wanted.stream.to_string();
            warn!(component = "node", stream, err = chain(&error), "cannot tell why an image could not be had");
        }
    }
}

/// Fetches an image, unless it is here. One that is imported by schedule is looked for anew where it came from a registry.
async fn import(context: &Context, wanted: &Wanted) -> Result<(), PullError> {
    let here = context.ask(context.images.look_up(&wanted.name)).await;
    match here.map_err(|error| PullError::Failed(error.to_string()))? {
        Some(image) if !wanted.is_scheduled || image.digests.is_empty() => Ok(()),
        Some(image) => {
            let digests = image.digests.iter().map(String::as_str);
            let is_elsewhere = is_known_to_registry(&wanted.name, &image.id, digests);
            context.images.fetch(&wanted.name).await.or_else(|err| if is_elsewhere { Err(err) } else { Ok(()) })
        }
        None => context.images.fetch(&wanted.name).await,
    }
}

/// Puts the failure into the stream. Pure.
fn failed(stream: &mut ImageStream, wanted: &Wanted, error: &PullError, now: &Time) {
    let reason = match error {
        PullError::Refused(_) => "NotFound",
        PullError::Failed(_) => "InternalError",
    };
    let tags = &mut stream.status.tags;
    let at = tags.iter().position(|events| events.tag == wanted.tag).unwrap_or_else(|| {
        tags.push(TagEvents { tag: wanted.tag.clone(), ..TagEvents::default() });
        tags.len() - 1
    });
    let conditions = &mut tags[at].conditions;
    let before = conditions.iter().find(|c| c.type_ == IMPORT_SUCCESS && c.status == "False");
    let since = before.and_then(|c| c.last_transition_time.clone()).unwrap_or_else(|| now.clone());
    conditions.retain(|condition| condition.type_ != IMPORT_SUCCESS);
    conditions.push(TagCondition {
        type_: IMPORT_SUCCESS.to_owned(),
        status: "False".to_owned(),
        last_transition_time: Some(since),
        reason: reason.to_owned(),
        message: format!("cannot fetch {:?}: {error}", wanted.name),
        generation: wanted.generation,
    });
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        base::task::drain_signal,
        engine::fake::{Behaviour, CallKind, FakeEngine},
        node::NodeConfig,
        testing,
    };

    fn stream(tags: &str) -> ImageStream {
        testing::from_yaml(&format!("metadata: {{name: web, namespace: default}}\nspec: {{tags: [{tags}]}}")).unwrap()
    }

    #[test]
    fn tags_that_name_images_are_wanted() {
        let of = |tags: &str| wanted(&stream(tags)).into_iter().map(|w| (w.name, w.is_scheduled)).collect::<Vec<_>>();
        assert_eq!(of("{name: a, from: {kind: DockerImage, name: 'x:1'}}"), [("x:1".to_owned(), false)]);
        let scheduled = "importPolicy: {scheduled: true}";
        assert_eq!(
            of(&format!("{{name: a, from: {{kind: DockerImage, name: x}}, {scheduled}}}")),
            [("x".to_owned(), true)]
        );
        let of_repository = |tags: &str| {
            let spec = format!("{{dockerImageRepository: 'host:5000/x', tags: [{tags}]}}");
            let stream = testing::from_yaml(&format!("metadata: {{name: web, namespace: default}}\nspec: {spec}"));
            wanted(&stream.unwrap()).into_iter().map(|w| (w.name, w.tag)).collect::<Vec<_>>()
        };
        assert_eq!(of_repository(""), [("host:5000/x:latest".to_owned(), "latest".to_owned())]);
        assert_eq!(of_repository("{name: latest}"), []);
        for none in [
            "{name: a}",
            "{name: a, reference: true, from: {kind: DockerImage, name: x}}",
            "{name: a, from: {kind: ImageStreamTag, name: 'x:1'}}",
        ] {
            assert_eq!(of(none), [], "{none}");
        }
    }

    fn pulls(engine: &FakeEngine) -> usize {
        engine.calls().iter().filter(|call| call.kind == CallKind::Pull).count()
    }

    #[tokio::test(start_paused = true)]
    async fn an_image_that_is_not_here_is_fetched_once_for_each_time_that_it_is_set() {
        let (registry, engine) = (testing::registry().await, FakeEngine::for_test());
        engine.add_image("here:1", Behaviour::server());
        engine.add_remote_image("far:1", Behaviour::server(), 1);
        let context = Arc::new(Context::new(registry.clone(), Arc::new(engine.clone()), NodeConfig::for_test()));
        let (_trigger, drain) = drain_signal();
        start(&context, &drain);
        let api = registry.api::<ImageStreams>();
        let made = api.create(stream("{name: a, from: {kind: DockerImage, name: 'here:1'}}, {name: b, from: {kind: DockerImage, name: 'far:1'}}")).await.unwrap();
        let key = ObjectKey::of(&made.metadata);
        let condition = |tag: &str| {
            let stream = api.get(&key).unwrap();
            stream.events(tag).and_then(|events| events.conditions.first().cloned())
        };
        let settle = || tokio::time::sleep(Duration::from_secs(5));
        settle().await;
        let told = condition("b").unwrap();
        assert_eq!((told.status.as_str(), told.reason.as_str(), told.generation), ("False", "InternalError", 1));
        assert!(told.message.starts_with("cannot fetch \"far:1\": Get \"https://registry"), "{}", told.message);
        assert_eq!((condition("a"), pulls(&engine)), (None, 1));
        // Setting it again tries it again.
        let again = |stream: &mut ImageStream| stream.spec.tags[1].generation = Some(0);
        api.modify(&key, again).await.unwrap();
        settle().await;
        assert_eq!(pulls(&engine), 2);
        assert!(engine.image("far:1").await.unwrap().is_some());
        tokio::time::sleep(AGAIN * 2).await;
        assert_eq!(pulls(&engine), 2, "it is here");
    }

    use crate::engine::Engine as _;

    #[tokio::test(start_paused = true)]
    async fn what_failed_or_is_scheduled_is_tried_again_later() {
        let (registry, engine) = (testing::registry().await, FakeEngine::for_test());
        engine.add_remote_image("far:1", Behaviour::server(), 1);
        let context = Arc::new(Context::new(registry.clone(), Arc::new(engine.clone()), NodeConfig::for_test()));
        let (_trigger, drain) = drain_signal();
        start(&context, &drain);
        let scheduled = "{name: b, from: {kind: DockerImage, name: 'far:1'}, importPolicy: {scheduled: true}}";
        let made = registry.api::<ImageStreams>().create(stream(scheduled)).await.unwrap();
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert_eq!(pulls(&engine), 1);
        tokio::time::sleep(AGAIN).await;
        assert_eq!(pulls(&engine), 2);
        tokio::time::sleep(AGAIN).await;
        assert_eq!(pulls(&engine), 3, "the registry may have another by now");
        let key = ObjectKey::of(&made.metadata);
        registry.api::<ImageStreams>().delete(&key, &Default::default()).await.unwrap();
        tokio::time::sleep(AGAIN * 3).await;
        assert_eq!(pulls(&engine), 3);
    }
}
