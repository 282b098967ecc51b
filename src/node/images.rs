//! Images: is it there, may it be used, must it be pulled.
//!
//! Called by `execute`. I/O through the engine; the choices are in pure functions.
//!
//! **Invariants**: one pull in flight per image, shared by all who wait; a pull goes on when its waiters go.
//! **Source** of reasons and messages: `pkg/kubelet/images/{image_manager,types}.go`, v1.37.
//! Unlike the kubelet, an image of which it is not known that a registry has it is used under `Always` when the registry cannot give it,
//! and an Event says so.

use super::{credentials, text::go_duration};
use crate::{
    api::image_name::{digest, familiar, is_known_to_registry, is_reference, with_tag},
    base::{
        backoff::Backoff,
        chain::chain,
        clock::Clock,
        ordered::{CollectOrdered as _, Map},
        task,
    },
    engine::{
        Credentials, Engine, EngineError, Image, PullError, PullProgress,
        self_image::{ensure_demo_images, is_demo_image},
    },
    registry::events::Severity,
};
use futures::{
    FutureExt as _,
    future::{BoxFuture, Shared},
};
use jiff::{SignedDuration, Timestamp};
use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};
use tokio::sync::oneshot;
use tracing::warn;

/// How long a registry may take to begin to give an image that is here already and may be from nowhere else.
const LOCAL_PATIENCE: Duration = Duration::from_secs(5);
/// How long it is remembered that a registry could not give such an image.
const LOCAL_MEMORY: SignedDuration = SignedDuration::from_mins(10);

/// Why a container has no image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ImageError {
    /// The name is no image's.
    InvalidName(String),
    /// The engine could not be asked.
    Inspect(String),
    /// It is not here and may not be pulled.
    NeverPull(String),
    /// It could not be pulled.
    Pull(String),
}

impl ImageError {
    /// The reason that users see.
    pub(super) fn reason(&self) -> &'static str {
        match self {
            Self::InvalidName(_) => "InvalidImageName",
            Self::Inspect(_) => "ImageInspectError",
            Self::NeverPull(_) => "ErrImageNeverPull",
            Self::Pull(_) => "ErrImagePull",
        }
    }

    /// The message that users see.
    pub(super) fn message(&self) -> &str {
        let (Self::InvalidName(text) | Self::Inspect(text) | Self::NeverPull(text) | Self::Pull(text)) = self;
        text
    }
}

/// Tells users: how much it matters, reason, message.
pub(super) type Tell<'a> = &'a (dyn Fn(Severity, &str, &str) + Send + Sync);

/// The credentials for an image, looked up when it is pulled.
pub(super) type Keys<'a> = BoxFuture<'a, Vec<Credentials>>;

type Pull = Shared<BoxFuture<'static, Result<(), PullError>>>;

/// When users are told how far a pull is: the first time, and at the latest after the time before.
const PROGRESS: Backoff = Backoff { base: Duration::from_secs(10), cap: Duration::from_secs(60) };

/// A pull, and how far it is.
#[derive(Clone)]
struct UnderWay {
    pull: Pull,
    progress: Arc<PullProgress>,
}

/// The engine's images.
pub(super) struct Images {
    engine: Arc<dyn Engine>,
    clock: Clock,
    /// The folder of Docker's own file of credentials, if it is read.
    docker_config: Option<PathBuf>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Pulls under way, by image and by who pulls: what one may not have, another may.
    pulls: Map<(String, Vec<Credentials>), UnderWay>,
    digests: BTreeMap<String, String>,
    /// The stop signal of each image that was looked at, by image ID.
    stop_signals: BTreeMap<String, String>,
    /// When a registry last could not give an image that is only here.
    only_here: Map<String, Timestamp>,
}

impl Images {
    pub(super) fn new(engine: Arc<dyn Engine>, clock: Clock, docker_config: Option<PathBuf>) -> Self {
        Self { engine, clock, docker_config, state: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no one panics while holding the lock")
    }

    /// A repository digest of each image that has one, by image ID.
    pub(super) fn digests(&self) -> BTreeMap<String, String> {
        self.lock().digests.clone()
    }

    /// Takes over what a list of images shows.
    pub(super) fn note_all(&self, images: &[Image]) {
        let digests = images.iter().filter_map(|i| Some((i.id.clone(), i.digests.first()?.clone()))).collect_ordered();
        self.lock().digests = digests;
    }

    /// The signal that asks a program of this image to stop.
    pub(super) async fn stop_signal(&self, image_id: &str) -> String {
        if let Some(signal) = self.lock().stop_signals.get(image_id) {
            return signal.clone();
        }
        match self.engine.image(image_id).await {
            Ok(Some(image)) => {
                self.note(&image);
                stop_signal_of(&image)
            }
            // Without its image, a container is asked as most are.
            Ok(None) | Err(_) => SIGTERM.to_owned(),
        }
    }

    fn note(&self, image: &Image) {
        self.lock().stop_signals.insert(image.id.clone(), stop_signal_of(image));
        if let Some(digest) = image.digests.first() {
            self.lock().digests.insert(image.id.clone(), digest.clone());
        }
    }

    /// Whether an image is here.
    pub(super) async fn is_here(&self, reference: &str) -> Result<bool, EngineError> {
        Ok(self.look_up(reference).await?.is_some())
    }

    /// The image of a name. A name that is pinned to what the engine knows as an image's ID, or as an image's digest under another name,
    /// is that image's: the digest says all, and an image that was built here is in no registry.
    async fn find(&self, reference: &str) -> Result<Option<Image>, EngineError> {
        let Some(digest) = digest(reference) else { return self.engine.image(reference).await };
        if let Some(image) = self.engine.image(digest).await? {
            return Ok(Some(image));
        }
        if let Some(image) = self.engine.image(reference).await? {
            return Ok(Some(image));
        }
        let has_it = |image: &Image| image.digests.iter().any(|name| name.ends_with(&format!("@{digest}")));
        Ok(self.engine.images().await?.into_iter().find(has_it))
    }

    /// The image of a name that a user writes, if it is here.
    pub(super) async fn look_up(&self, name: &str) -> Result<Option<Image>, EngineError> {
        self.find(&with_tag(name)).await
    }

    /// Pulls an image that no container waits for.
    pub(super) async fn fetch(&self, name: &str) -> Result<(), PullError> {
        self.pull_shared(&with_tag(name), self.dockers_own(name).await).pull.await
    }

    /// The credentials that Docker itself has for an image.
    pub(super) async fn dockers_own(&self, name: &str) -> Vec<Credentials> {
        let Some(folder) = &self.docker_config else { return Vec::new() };
        credentials::of_docker(folder, name).await.unwrap_or_else(|why| {
            warn!(component = "node", image = name, err = why, "Docker's own credentials cannot be read");
            Vec::new()
        })
    }

    /// Makes sure that a container's image is here, by its pull policy.
    pub(super) async fn ensure(
        &self,
        name: &str,
        policy: &str,
        keys: Keys<'_>,
        tell: Tell<'_>,
    ) -> Result<Image, ImageError> {
        if !is_reference(name) {
            let message = format!(
                "Failed to apply default image tag {name:?}: couldn't parse image name {name:?}: invalid reference format"
            );
            tell(Severity::Warning, "InspectFailed", &message);
            return Err(ImageError::InvalidName(message));
        }
        let reference = with_tag(name);
        let here = self.find(&reference).await.map_err(|e| {
            let message = format!("Failed to inspect image {name:?}: {e}");
            tell(Severity::Warning, "InspectFailed", &message);
            ImageError::Inspect(message)
        })?;
        let here = if here.is_none() && is_demo_image(&reference) { self.make_demo(&reference).await } else { here };
        let image = match (policy, here) {
            ("Never", None) => {
                let message = format!("Container image {name:?} is not present with pull policy of Never");
                tell(Severity::Warning, "ErrImageNeverPull", &message);
                return Err(ImageError::NeverPull(message));
            }
            ("Always", Some(image)) => self.refresh(name, &reference, image, keys, tell).await?,
            (_, Some(image)) => {
                let message =
                    format!("Container image {name:?} already present on machine and can be accessed by the pod");
                tell(Severity::Normal, "Pulled", &message);
                image
            }
            (_, None) => self.pull(name, &reference, keys, tell).await?,
        };
        self.note(&image);
        Ok(image)
    }

    /// skiff makes the images of its own demos when they are first wanted.
    async fn make_demo(&self, reference: &str) -> Option<Image> {
        if let Err(error) = ensure_demo_images(&*self.engine).await {
            warn!(component = "node", image = reference, err = chain(&error), "cannot make the demo images");
            return None;
        }
        self.engine.image(reference).await.ok().flatten()
    }

    /// Policy `Always` for an image that is here: the registry may have a newer one.
    async fn refresh(
        &self,
        name: &str,
        reference: &str,
        here: Image,
        keys: Keys<'_>,
        tell: Tell<'_>,
    ) -> Result<Image, ImageError> {
        if is_known_to_registry(reference, &here.id, here.digests.iter().map(String::as_str)) {
            return self.pull(name, reference, keys, tell).await;
        }
        if digest(reference) == Some(&here.id) || self.is_known_only_here(reference) {
            tell_only_here(name, tell);
            return Ok(here);
        }
        if self.pull_shared(reference, keys.await).soon_or_never().await {
            let image = self.engine.image(reference).await.map_err(|e| ImageError::Inspect(e.to_string()))?;
            tell(Severity::Normal, "Pulled", &format!("Successfully pulled image {name:?}"));
            Ok(image.unwrap_or(here))
        } else {
            self.lock().only_here.insert(reference.to_owned(), self.clock.now());
            tell_only_here(name, tell);
            Ok(here)
        }
    }

    fn is_known_only_here(&self, reference: &str) -> bool {
        let tried = self.lock().only_here.get(reference).copied();
        tried.is_some_and(|at| self.clock.now().duration_since(at) < LOCAL_MEMORY)
    }

    async fn pull(&self, name: &str, reference: &str, keys: Keys<'_>, tell: Tell<'_>) -> Result<Image, ImageError> {
        tell(Severity::Normal, "Pulling", &format!("Pulling image {name:?}"));
        let begin = self.clock.mono();
        let failed = |why: String| {
            tell(Severity::Warning, "Failed", &format!("Failed to pull image {name:?}: {why}"));
            ImageError::Pull(why)
        };
        let under_way = self.pull_shared(reference, keys.await);
        under_way.finished(name, tell).await.map_err(|e| failed(e.to_string()))?;
        let image = self.engine.image(reference).await.map_err(|e| failed(e.to_string()))?;
        let image = image.ok_or_else(|| failed("the image was removed right after it was pulled".into()))?;
        tell(Severity::Normal, "Pulled", &pulled_text(name, self.clock.mono() - begin, image.size_bytes));
        Ok(image)
    }

    /// Joins the pull of this image that is under way, or begins one, as each of these in turn, or as nobody.
    fn pull_shared(&self, reference: &str, keys: Vec<Credentials>) -> UnderWay {
        let mut state = self.lock();
        let of = (reference.to_owned(), keys.clone());
        if let Some(there) = state.pulls.get(&of).filter(|there| there.pull.peek().is_none()) {
            return there.clone();
        }
        let (done, result) = oneshot::channel();
        let (engine, name) = (Arc::clone(&self.engine), reference.to_owned());
        let progress = Arc::new(PullProgress::default());
        let told = Arc::clone(&progress);
        task::spawn("image-pull", async move {
            // An error here means that nobody waits any more; the image is there for the next.
            drop(done.send(credentials::in_turn(&keys, |key| engine.pull(&name, key, &told)).await));
        });
        let lost = || PullError::Failed("the pull was interrupted".into());
        let pull = result.map(move |sent| sent.unwrap_or_else(|_| Err(lost()))).boxed().shared();
        let begun = UnderWay { pull, progress };
        state.pulls.retain(|_, there| there.pull.peek().is_none());
        state.pulls.insert(of, begun.clone());
        begun
    }
}

impl UnderWay {
    /// Whether it succeeds. A registry that sends nothing for a while is not waited for.
    async fn soon_or_never(self) -> bool {
        match tokio::time::timeout(LOCAL_PATIENCE, self.pull.clone()).await {
            Ok(done) => done.is_ok(),
            Err(_) => self.progress.is_known() && self.pull.await.is_ok(),
        }
    }

    /// Waits for it, and tells how far it is when that takes long.
    async fn finished(self, name: &str, tell: Tell<'_>) -> Result<(), PullError> {
        let mut pull = self.pull;
        for told in 1.. {
            match tokio::time::timeout(PROGRESS.delay(told), &mut pull).await {
                Ok(done) => return done,
                Err(_) if self.progress.is_known() => {
                    tell(Severity::Normal, "Pulling", &format!("Pulling image {name:?}: {}", self.progress));
                }
                Err(_) => tell(
                    Severity::Normal,
                    "Pulling",
                    &format!("Pulling image {name:?}: the registry has sent nothing yet"),
                ),
            }
        }
        pull.await
    }
}

/// The stop signal of most images.
const SIGTERM: &str = "SIGTERM";

fn stop_signal_of(image: &Image) -> String {
    if image.stop_signal.is_empty() { SIGTERM.to_owned() } else { image.stop_signal.clone() }
}

/// What the engine makes a container of this image from: the name that a user gave it, or the image's ID where the engine knows no such name.
pub(super) fn engine_name<'a>(name: &'a str, image: &'a Image) -> &'a str {
    let is_known = digest(name).is_none() || image.digests.contains(&familiar(name));
    if is_known { name } else { &image.id }
}

fn tell_only_here(name: &str, tell: Tell<'_>) {
    let message = format!(
        "Container image {name:?} already present on machine; it was built here or no registry gives it now, so pull policy \
         Always uses it as it is"
    );
    tell(Severity::Normal, "Pulled", &message);
}

fn pulled_text(name: &str, took: Duration, bytes: i64) -> String {
    let millis = Duration::from_millis(u64::try_from(took.as_millis()).unwrap_or(u64::MAX));
    let took = go_duration(millis);
    format!("Successfully pulled image {name:?} in {took} ({took} including waiting). Image size: {bytes} bytes.")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        base::rng::Rng,
        engine::fake::{Behaviour, FakeConfig, FakeEngine, Latencies},
    };

    struct Told(Mutex<Vec<String>>);

    impl Told {
        fn new() -> Self {
            Self(Mutex::default())
        }
        fn take(&self) -> Vec<String> {
            std::mem::take(&mut self.0.lock().unwrap())
        }
    }

    async fn ensure(images: &Images, name: &str, policy: &str, told: &Told) -> Result<Image, ImageError> {
        let tell = |severity: Severity, reason: &str, message: &str| {
            told.0.lock().unwrap().push(format!("{severity:?} {reason}: {message}"));
        };
        images.ensure(name, policy, async { Vec::new() }.boxed(), &tell).await
    }

    fn images(engine: &FakeEngine) -> Images {
        let clock = Clock::simulated("2026-01-01T00:00:00Z".parse().unwrap());
        Images::new(Arc::new(engine.clone()), clock, None)
    }

    #[tokio::test(start_paused = true)]
    async fn an_image_that_is_here_is_used() {
        let engine = FakeEngine::for_test();
        engine.add_image("web:1", Behaviour::server());
        let (images, told) = (images(&engine), Told::new());
        ensure(&images, "web:1", "IfNotPresent", &told).await.unwrap();
        ensure(&images, "web:1", "Never", &told).await.unwrap();
        let line = "Normal Pulled: Container image \"web:1\" already present on machine and can be accessed by the pod";
        assert_eq!(told.take(), [line, line]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_name_that_is_pinned_to_an_image_here_is_that_image() {
        let engine = FakeEngine::for_test();
        engine.add_image("web:1", Behaviour::server());
        let before = engine.image("web:1").await.unwrap().unwrap();
        engine.add_image("web:1", Behaviour::server());
        let pulled =
            Image { tags: vec!["far:1".into()], digests: vec![format!("far@{}", digest_of('d'))], ..Image::default() };
        engine.add_image_with(pulled, Arc::new(|_| Behaviour::server()));
        let far = engine.image("far:1").await.unwrap().unwrap();
        let (images, told) = (images(&engine), Told::new());
        for (name, policy, image, engine_takes) in [
            (format!("web@{}", before.id), "IfNotPresent", &before, &before.id),
            (format!("web:1@{}", before.id), "Always", &before, &before.id),
            (format!("far@{}", digest_of('d')), "Never", &far, &far.digests[0]),
            (format!("other/name@{}", digest_of('d')), "IfNotPresent", &far, &far.id),
        ] {
            let found = ensure(&images, &name, policy, &told).await.unwrap();
            assert_eq!((&found.id, engine_name(&name, &found)), (&image.id, &**engine_takes), "{name}");
        }
        let pulls = engine.calls().iter().filter(|c| c.kind == crate::engine::fake::CallKind::Pull).count();
        assert_eq!(pulls, 0, "no registry is asked");
        let error = ensure(&images, &format!("web@{}", digest_of('e')), "IfNotPresent", &told).await.unwrap_err();
        assert_eq!(error.reason(), "ErrImagePull");
    }

    fn digest_of(c: char) -> String {
        format!("sha256:{}", c.to_string().repeat(64))
    }

    #[tokio::test(start_paused = true)]
    async fn an_image_that_is_not_here_is_pulled_or_missed() {
        let engine = FakeEngine::for_test();
        engine.add_remote_image("far:1", Behaviour::server(), 0);
        let (images, told) = (images(&engine), Told::new());
        let error = ensure(&images, "far:1", "Never", &told).await.unwrap_err();
        assert_eq!(error.reason(), "ErrImageNeverPull");
        told.take();
        ensure(&images, "far:1", "IfNotPresent", &told).await.unwrap();
        let told = told.take();
        assert_eq!(told[0], "Normal Pulling: Pulling image \"far:1\"");
        assert!(told[1].starts_with("Normal Pulled: Successfully pulled image \"far:1\" in "), "{told:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_pull_that_takes_long_is_told_of() {
        let config = FakeConfig {
            latencies: Latencies { pull: (Duration::from_secs(80), Duration::from_secs(80)), ..Latencies::NONE },
            ..FakeConfig::default()
        };
        let engine = FakeEngine::new(Clock::simulated("2026-01-01T00:00:00Z".parse().unwrap()), Rng::seeded(1), config);
        engine.add_remote_image("far:1", Behaviour::server(), 0);
        let (images, told) = (images(&engine), Told::new());
        ensure(&images, "far:1", "IfNotPresent", &told).await.unwrap();
        let told = told.take();
        let line = "Normal Pulling: Pulling image \"far:1\": 1.0 MB of 2.0 MB";
        assert_eq!(told[1..told.len() - 1], [line; 3], "after 10, 30 and 70 seconds");
    }

    #[tokio::test(start_paused = true)]
    async fn a_pull_that_fails_says_why() {
        let engine = FakeEngine::for_test();
        let (images, told) = (images(&engine), Told::new());
        let error = ensure(&images, "no:1", "Always", &told).await.unwrap_err();
        assert_eq!(error.reason(), "ErrImagePull");
        let told = told.take();
        assert!(told[1].starts_with("Warning Failed: Failed to pull image \"no:1\": "), "{told:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn an_image_that_is_only_here_is_used_under_always() {
        let engine = FakeEngine::for_test();
        engine.add_image("mine:latest", Behaviour::server());
        let (images, told) = (images(&engine), Told::new());
        ensure(&images, "mine", "Always", &told).await.unwrap();
        ensure(&images, "mine", "Always", &told).await.unwrap();
        assert!(told.take().iter().all(|line| line.contains("it was built here or no registry gives it now")));
        let pulls = engine.calls().iter().filter(|c| c.kind == crate::engine::fake::CallKind::Pull).count();
        assert_eq!(pulls, 1, "the registry is not asked again at once");
    }

    #[tokio::test(start_paused = true)]
    async fn an_image_that_was_pushed_elsewhere_is_still_only_here() {
        let engine = FakeEngine::for_test();
        let digests = vec![format!("host:5000/shop/mine@{}", digest_of('d'))];
        let pushed =
            Image { tags: vec!["mine:latest".into(), "host:5000/shop/mine:1".into()], digests, ..Image::default() };
        engine.add_image_with(pushed, Arc::new(|_| Behaviour::server()));
        let (images, told) = (images(&engine), Told::new());
        ensure(&images, "mine", "Always", &told).await.unwrap();
        assert!(told.take().iter().all(|line| line.contains("it was built here or no registry gives it now")));
        let error = ensure(&images, "host:5000/shop/mine:1", "Always", &told).await.unwrap_err();
        assert_eq!(error.reason(), "ErrImagePull", "that registry has it, and is asked");
        // Where images are kept as in a registry, one that was built here has a digest of its own name too.
        let (id, digests) = (digest_of('e'), vec![format!("kept@{}", digest_of('e'))]);
        let kept = Image { id, tags: vec!["kept:latest".into()], digests, ..Image::default() };
        engine.add_image_with(kept, Arc::new(|_| Behaviour::server()));
        ensure(&images, "kept", "Always", &told).await.unwrap();
        assert!(told.take().iter().any(|line| line.contains("no registry gives it now")));
    }

    #[tokio::test(start_paused = true)]
    async fn those_who_want_one_image_share_its_pull() {
        let engine = FakeEngine::for_test();
        engine.add_remote_image("far:1", Behaviour::server(), 0);
        let (images, told) = (images(&engine), Told::new());
        let (a, b) =
            futures::join!(ensure(&images, "far:1", "Always", &told), ensure(&images, "far:1", "IfNotPresent", &told));
        assert!(a.is_ok() && b.is_ok());
        let pulls = engine.calls().iter().filter(|c| c.kind == crate::engine::fake::CallKind::Pull).count();
        assert_eq!(pulls, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_private_image_is_pulled_as_the_first_who_may() {
        let engine = FakeEngine::for_test();
        engine.add_private_image("far:1", Behaviour::server(), "ann");
        let (images, told) = (images(&engine), Told::new());
        let tell = |_: Severity, _: &str, _: &str| {};
        let as_users = |users: &[&str]| {
            let key = |user: &&str| Credentials { username: (*user).to_owned(), ..Credentials::default() };
            let keys: Vec<Credentials> = users.iter().map(key).collect();
            async move { keys }.boxed()
        };
        let refused = ensure(&images, "far:1", "Always", &told).await.unwrap_err();
        assert!(refused.message().contains("access denied"), "{refused:?}");
        assert!(images.ensure("far:1", "Always", as_users(&["joe"]), &tell).await.is_err());
        images.ensure("far:1", "Always", as_users(&["joe", "ann", "eve"]), &tell).await.unwrap();
        let pulls = engine.calls().iter().filter(|c| c.kind == crate::engine::fake::CallKind::Pull).count();
        assert_eq!(pulls, 4, "nobody is asked after the one who may");
    }
}
