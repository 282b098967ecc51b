//! Volumes that show the files of an image: one Docker volume per image, filled once and shared by all pods.
//!
//! Called by `execute` (before a container is made, and when a pod is gone) and `sweep`. I/O through the engine.
//!
//! ```text
//!  skiff_<cluster>_image_<id>         the files; containers mount it, read-only, so the engine itself keeps it while one has it
//!  skiff_<cluster>_image_<id>_full    made when all files are there: without it the other is begun anew
//! ```
//!
//! The files come from a container of the image that is never started, and go into the volume through another, so it is the engine that
//! unpacks them, with their owners, and they pass through here.
//!
//! **Invariants**: one piece of work at a time per volume, shared by all who wait, and it goes on when they go; a volume is removed only when
//! no pod uses it that is known here, and the engine refuses where a container has it.
//! **Not here**: whether the image is there (`images`), which container mounts it (`volumes`).
//! **Source**: `KEP-4639`, `pkg/kubelet/kuberuntime/kuberuntime_image.go`, v1.37. Unlike there, programs of the volume can be run.

use super::{
    identity::{full_image_volume, image_volume_name, pod_uid},
    volumes::sub_paths::HELPER_OF,
};
use crate::{
    base::{
        ordered::{Map, Set},
        task,
    },
    engine::{Container, ContainerSpec, Engine, EngineError, Mount, MountSource, NetworkMode, Propagation},
};
use futures::{
    FutureExt as _,
    future::{BoxFuture, Shared},
};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
};
use tokio::sync::oneshot;

/// The label of a container: the image volumes that it mounts, by name.
pub(super) const IMAGE_VOLUMES: &str = "dev.skiff.image-volumes";
/// Where the volume is in the container through which it is filled.
const TARGET: &str = "/image";
/// How often a volume is looked at that others remove and fill.
const TRIES: usize = 5;

type Work = Shared<BoxFuture<'static, Result<(), EngineError>>>;

/// The image volumes of the cluster.
pub(super) struct ImageVolumes {
    engine: Arc<dyn Engine>,
    cluster: String,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// What is done to volumes now.
    work: Map<String, Work>,
    /// The UIDs of the pods that use a volume.
    users: Map<String, Set<String>>,
}

/// Who wants which volume.
pub(super) struct Wanted<'a> {
    /// The image's ID.
    pub(super) image: &'a str,
    /// The pod's UID.
    pub(super) pod: &'a str,
    /// The image of helpers.
    pub(super) helper: &'a str,
}

impl ImageVolumes {
    pub(super) fn new(engine: Arc<dyn Engine>, cluster: String) -> Self {
        Self { engine, cluster, state: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no one panics while holding the lock")
    }

    /// The volume with an image's files, for a pod, which uses it from now on. The image is there.
    pub(super) async fn ensure(&self, wanted: Wanted<'_>) -> Result<String, EngineError> {
        let name = image_volume_name(&self.cluster, wanted.image);
        self.lock().users.entry(name.clone()).or_default().insert(wanted.pod.to_owned());
        for _ in 0..TRIES {
            // What went wrong with another's is tried again here.
            self.rest(&name).await;
            let there = self.engine.volumes().await?;
            if [&name, &full_image_volume(&name)].iter().all(|wanted| there.contains(wanted)) {
                return Ok(name);
            }
            let filling = Filling { name: name.clone(), engine: Arc::clone(&self.engine) };
            let fill = filling.fill(wanted.image.to_owned(), wanted.pod.to_owned(), wanted.helper.to_owned());
            if let Some(fill) = self.begin(&name, fill) {
                fill.await?;
            }
        }
        Err(EngineError::Failed(format!("fill volume {name}: it is removed again and again")))
    }

    /// Takes in which volumes the containers of a pod mount that were made before.
    pub(super) fn adopt(&self, pod: &str, listed: &[Container]) {
        let own = listed.iter().filter(|container| pod_uid(&container.labels) == Some(pod));
        let mut state = self.lock();
        for name in own.flat_map(mounted_by) {
            state.users.entry(name.to_owned()).or_default().insert(pod.to_owned());
        }
    }

    /// Waits until nothing is done to a volume.
    async fn rest(&self, name: &str) {
        let under_way = self.lock().work.get(name).cloned();
        if let Some(work) = under_way {
            drop(work.await);
        }
    }

    /// Begins to do this to a volume, unless something is done to it already.
    fn begin(&self, name: &str, work: impl Future<Output = Result<(), EngineError>> + Send + 'static) -> Option<Work> {
        let mut state = self.lock();
        // Looked at, not only peeked into: where everybody who waited has gone, nobody has noticed its end.
        state.work.retain(|_, there| there.clone().now_or_never().is_none());
        if state.work.contains_key(name) {
            return None;
        }
        let (done, result) = oneshot::channel();
        task::spawn("image-volume", async move {
            // An error here means that nobody waits any more.
            drop(done.send(work.await));
        });
        let lost = || EngineError::Failed("the work on the volume was interrupted".into());
        let begun: Work = result.map(move |sent| sent.unwrap_or_else(|_| Err(lost()))).boxed().shared();
        state.work.insert(name.to_owned(), begun.clone());
        Some(begun)
    }

    /// Whether a volume, or the one that says that it is full, is used by a pod that is known here.
    pub(super) fn is_used(&self, volume: &str) -> bool {
        self.lock().users.contains_key(of_image(volume))
    }

    /// A pod is gone: the volumes that only it used go too. One that is just being filled is left to the sweep.
    pub(super) async fn release(&self, pod: &str) -> Result<(), EngineError> {
        let used: Vec<String> = {
            let state = self.lock();
            state.users.iter().filter(|(_, pods)| pods.contains(pod)).map(|(name, _)| name.clone()).collect()
        };
        for name in used {
            self.forget_user(&name, pod);
            if let Err(error) = self.remove(&name).await {
                self.lock().users.entry(name).or_default().insert(pod.to_owned());
                return Err(error);
            }
        }
        Ok(())
    }

    fn forget_user(&self, name: &str, pod: &str) {
        let mut state = self.lock();
        if let Some(pods) = state.users.get_mut(name) {
            pods.remove(pod);
            if pods.is_empty() {
                state.users.remove(name);
            }
        }
    }

    /// Removes a volume that no pod uses and to which nothing is done; one that a container has stays.
    pub(super) async fn remove(&self, volume: &str) -> Result<(), EngineError> {
        let (name, engine) = (of_image(volume).to_owned(), Arc::clone(&self.engine));
        let (of, said) = (name.clone(), full_image_volume(&name));
        let removal = async move {
            match engine.remove_volume(&of).await {
                // A container of a pod that is not known here has it.
                Err(EngineError::Conflict(_)) => Ok(()),
                Err(error) => Err(error),
                Ok(()) => engine.remove_volume(&said).await,
            }
        };
        if self.is_used(&name) {
            return Ok(());
        }
        // Who wants it from now on waits for the end of this, and finds that it is not there.
        match self.begin(&name, removal) {
            Some(removal) => removal.await,
            None => Ok(()),
        }
    }
}

/// The image volumes that a container mounts.
pub(super) fn mounted_by(container: &Container) -> impl Iterator<Item = &str> {
    container.labels.get(IMAGE_VOLUMES).into_iter().flat_map(|names| names.split(',')).filter(|name| !name.is_empty())
}

/// The volume with the files, by its name or that of the one that says that it is full.
fn of_image(volume: &str) -> &str {
    volume.strip_suffix(&full_image_volume("")).unwrap_or(volume)
}

/// A volume that is being filled.
struct Filling {
    name: String,
    engine: Arc<dyn Engine>,
}

impl Filling {
    async fn fill(self, image: String, pod: String, helper: String) -> Result<(), EngineError> {
        let (from, to) = (format!("{}_from", self.name), format!("{}_to", self.name));
        // What an earlier try left.
        self.remove_both(&from, &to).await?;
        match self.engine.remove_volume(&self.name).await {
            Ok(()) => {
                let filled = self.copy(&image, &pod, &helper, (&from, &to)).await;
                self.remove_both(&from, &to).await?;
                filled?;
            }
            // A container has it, so it was full, and somebody removed what says so.
            Err(EngineError::Conflict(_)) => {}
            Err(error) => return Err(error),
        }
        self.engine.create_volume(&full_image_volume(&self.name), &BTreeMap::new()).await.map(drop)
    }

    async fn remove_both(&self, from: &str, to: &str) -> Result<(), EngineError> {
        self.engine.remove(from).await?;
        self.engine.remove(to).await
    }

    async fn copy(&self, image: &str, pod: &str, helper: &str, (from, to): (&str, &str)) -> Result<(), EngineError> {
        let volume = Mount {
            source: MountSource::Volume(self.name.clone()),
            target: TARGET.to_owned(),
            read_only: false,
            propagation: Propagation::Private,
        };
        // Neither is ever started, so their program can be anything.
        let spec = |name: &str, image: &str, mounts: Vec<Mount>| ContainerSpec {
            name: name.to_owned(),
            image: image.to_owned(),
            entrypoint: vec!["none".to_owned()],
            labels: BTreeMap::from([(HELPER_OF.to_owned(), pod.to_owned())]),
            network: Some(NetworkMode::None),
            mounts,
            ..ContainerSpec::default()
        };
        self.engine.create_volume(&self.name, &BTreeMap::new()).await?;
        self.engine.create(&spec(from, image, Vec::new())).await?;
        self.engine.create(&spec(to, helper, vec![volume])).await?;
        self.engine.copy_image_files(from, to, TARGET).await
    }
}
