//! What cannot go on for now: until when, and what may help earlier. Part of the worker.

use super::{Done, Worker, container_of, spec_hashes};
use crate::{
    api::status::ApiError,
    base::{backoff::Backoff, chain::chain},
    engine::EngineError,
    node::{
        context::stored_pod,
        decide::{BlockKind, Blocked, Slot},
        execute::Failure,
        identity::SANDBOX,
        images::ImageError,
        observe::Cause,
        translate::{ConfigError, environment},
        volumes,
    },
    registry::events::Severity,
};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use std::{sync::Arc, time::Duration};
use tracing::{debug, warn};

/// Source: `MaxImageBackOff`, `imageBackOffPeriod`, `pkg/kubelet/kubelet.go`, v1.37.
const IMAGE_BACKOFF: Backoff = Backoff { base: Duration::from_secs(10), cap: Duration::from_mins(5) };
/// An engine that failed is tried again soon, and then less and less often.
const ENGINE_BACKOFF: Backoff = Backoff { base: Duration::from_secs(1), cap: Duration::from_secs(30) };
/// What the engine refuses it will refuse again: what helps is a change of the pod, which is tried at once.
const REFUSED_BACKOFF: Backoff = Backoff { base: Duration::from_secs(5), cap: Duration::from_mins(5) };
/// Source: `initialDurationBeforeRetry`, `maxDurationBeforeRetry`, `pkg/volume/util/exponentialbackoff`, v1.37.
const MOUNT_BACKOFF: Backoff = Backoff { base: Duration::from_millis(500), cap: Duration::from_secs(122) };
/// A failure that comes so long after the one before is the first of its row.
const BLOCK_FORGETS: SignedDuration = SignedDuration::from_mins(10);
/// What waits for an object is woken by it; this is for what the wake-up cannot tell.
const CONFIG_RETRY: Duration = Duration::from_mins(1);
/// Why a container waits for an object.
const CONFIG_ERROR: &str = "CreateContainerConfigError";
/// How long `ErrImagePull` shows before it becomes `ImagePullBackOff`.
const PULL_ERROR_SHOWS: SignedDuration = SignedDuration::from_secs(1);
/// The length of an engine's ID; no container name is as long.
const ID_LEN: usize = 64;
/// A key of the worker's own in [`Memory::blocked`](crate::node::decide::Memory): the status.
const STATUS: &str = "/status";

pub(super) fn signed(time: Duration) -> SignedDuration {
    SignedDuration::try_from(time).expect("delays are minutes at most")
}

impl Worker {
    fn block(&mut self, key: &str, kind: BlockKind, backoff: Backoff, reason: &str, message: &str) {
        let now = self.context.now();
        let is_recent = |b: &&Blocked| now.duration_since(b.retry_at) < BLOCK_FORGETS;
        let failures = self.memory.blocked.get(key).filter(is_recent).map_or(0, |b| b.failures).saturating_add(1);
        let blocked = Blocked {
            reason: reason.to_owned(),
            message: message.to_owned(),
            later: None,
            retry_at: now + signed(backoff.delay(failures)),
            failures,
            kind,
        };
        self.memory.blocked.insert(key.to_owned(), blocked);
    }

    /// Holds back something that users are not told of.
    pub(super) fn hold(&mut self, key: &str, why: &str) {
        warn!(component = "node", namespace = self.id.namespace, name = self.id.name, key, err = why, "will try again");
        self.block(key, BlockKind::Engine, ENGINE_BACKOFF, "", why);
    }

    /// Blocks a container because the engine failed.
    pub(super) fn block_engine(&mut self, name: &str, reason: &str, error: &EngineError) {
        self.tell_failed(name, &format!("Error: {error}"));
        self.block(name, BlockKind::Engine, Self::backoff_of(error), reason, &error.to_string());
    }

    /// How long the engine is left in peace after it refused or failed.
    fn backoff_of(error: &EngineError) -> Backoff {
        match error {
            EngineError::Invalid(_) => REFUSED_BACKOFF,
            _ => ENGINE_BACKOFF,
        }
    }

    fn block_config(&mut self, name: &str, error: &ConfigError) {
        let kind = match error {
            ConfigError::NotFound { .. }
            | ConfigError::NoKey { .. }
            | ConfigError::TooLong { .. }
            | ConfigError::EnvironmentTooLong { .. } => BlockKind::Config,
            ConfigError::Other(_) => BlockKind::Spec,
        };
        let backoff = Backoff { base: CONFIG_RETRY, cap: CONFIG_RETRY };
        self.block(name, kind, backoff, CONFIG_ERROR, &error.to_string());
    }

    /// A container could not be created.
    pub(super) fn container_failed(&mut self, name: &str, failure: &Failure) {
        match failure {
            Failure::Image(image, error) => self.block_image(name, image, error),
            Failure::Config(error) => {
                self.tell_failed(name, &format!("Error: {error}"));
                self.block_config(name, error);
            }
            Failure::Mount(error) => {
                self.tell_mount_failed(&error.to_string());
                self.block(name, BlockKind::Config, MOUNT_BACKOFF, "ContainerCreating", "");
            }
            Failure::Engine(error) => self.block_engine(name, "CreateContainerError", error),
            Failure::Doubtful(created, error) => {
                self.memory.doubtful.insert(created.clone());
                self.block_engine(name, "CreateContainerError", error);
            }
            Failure::Abandoned => {}
        }
    }

    fn block_image(&mut self, name: &str, image: &str, error: &ImageError) {
        self.tell_failed(name, &format!("Error: {}", error.reason()));
        self.block(name, BlockKind::Image, IMAGE_BACKOFF, error.reason(), error.message());
        let now = self.context.now();
        if let (ImageError::Pull(why), Some(blocked)) = (error, self.memory.blocked.get_mut(name)) {
            let message = format!("Back-off pulling image {image:?}: ErrImagePull: {why}");
            blocked.later = Some((now + PULL_ERROR_SHOWS, "ImagePullBackOff".to_owned(), message));
        }
    }

    /// The images that a container needs: its own, and those that its volumes show.
    fn images_of(&self, name: &str) -> Vec<String> {
        let Some(pod) = stored_pod(&self.context.pods, &self.key, &self.id.uid) else { return Vec::new() };
        let Some(spec) = container_of(&pod, name) else { return Vec::new() };
        let of_volumes = volumes::images_of(&pod, &spec).into_values().filter_map(|source| source.reference.clone());
        spec.image.clone().into_iter().chain(of_volumes).collect()
    }

    /// The sandbox could not be made.
    pub(super) fn sandbox_failed(&mut self, failure: &Failure) {
        let mut backoff = ENGINE_BACKOFF;
        let message = match failure {
            Failure::Image(_, error) => error.message().to_owned(),
            Failure::Config(error) => error.to_string(),
            Failure::Mount(error) => {
                self.tell_mount_failed(&error.to_string());
                return self.block(SANDBOX, BlockKind::Config, MOUNT_BACKOFF, "", &error.to_string());
            }
            Failure::Engine(error) => {
                backoff = Self::backoff_of(error);
                chain(error)
            }
            Failure::Doubtful(created, error) => {
                self.memory.doubtful.insert(created.clone());
                chain(error)
            }
            Failure::Abandoned => return,
        };
        self.tell_pod(Severity::Warning, "FailedCreatePodSandBox", &format!("Failed to create pod sandbox: {message}"));
        self.block(SANDBOX, BlockKind::Engine, backoff, "", &message);
    }

    /// A sandbox that ended by itself, with an error, will likely do so again: the next one waits for its time. Its program ends
    /// well only when it is asked to.
    pub(super) fn note_ended_sandbox(&mut self) {
        let Some(sandbox) = self.observed.sandbox().filter(|s| s.id != self.ended_sandbox) else { return };
        let Some(exit) = sandbox.exit().filter(|exit| exit.error.is_empty() && exit.code != 0) else { return };
        let (id, code, is_own_fault) = (sandbox.id.clone(), exit.code, exit.cause == Cause::Itself);
        self.ended_sandbox = id;
        if is_own_fault {
            let message = format!("the sandbox ended by itself with exit code {code}");
            self.tell_pod(
                Severity::Warning,
                "FailedCreatePodSandBox",
                &format!("Failed to keep pod sandbox: {message}"),
            );
            self.block(SANDBOX, BlockKind::Engine, ENGINE_BACKOFF, "", &message);
        }
    }

    /// The engine runs a sandbox and gave it no address: another is made, later each time.
    pub(super) fn sandbox_has_no_address(&mut self) {
        self.block(SANDBOX, BlockKind::Engine, ENGINE_BACKOFF, "", "the sandbox runs and has no address");
    }

    // What helps.

    fn unblock(&mut self, kind: BlockKind) {
        let now = self.context.now();
        for blocked in self.memory.blocked.values_mut().filter(|b| b.kind == kind && b.retry_at > now) {
            blocked.retry_at = now;
        }
    }

    /// The engine works again. That no sandbox could be made while it was away says nothing about the next: containers are made beside
    /// its start.
    pub(super) fn unblock_engine(&mut self) {
        self.unblock(BlockKind::Engine);
        if self.memory.blocked.get(SANDBOX).is_some_and(|b| b.kind == BlockKind::Engine) {
            self.memory.blocked.remove(SANDBOX);
        }
    }

    /// There is a new sandbox: what failed on the old one is tried at once.
    pub(super) fn unblock_for_new_sandbox(&mut self) {
        self.memory.blocked.retain(|key, b| {
            key.len() == ID_LEN || key.starts_with('/') || key == SANDBOX || b.kind != BlockKind::Engine
        });
    }

    /// A container whose spec changed is tried at once.
    pub(super) fn notice_changed_specs(&mut self, pod: &Pod) {
        let hashes = spec_hashes(pod);
        let changed = |name: &String| self.hashes.get(name).is_some_and(|old| Some(old) != hashes.get(name));
        let names: Vec<String> = self.memory.blocked.keys().filter(|name| changed(name)).cloned().collect();
        for name in names {
            self.memory.blocked.remove(&name);
        }
        self.hashes = hashes;
        // Files may show labels and annotations.
        let shown = (pod.metadata.labels.clone(), pod.metadata.annotations.clone());
        if self.shown_metadata.replace(shown.clone()).is_some_and(|before| before != shown) {
            self.refresh_files();
        }
    }

    /// Images changed: whoever waits for one looks whether it is here now.
    pub(super) fn look_for_images(&mut self) {
        let waits = |(name, blocked): (&String, &Blocked)| (blocked.kind == BlockKind::Image).then(|| name.clone());
        let names: Vec<String> = self.memory.blocked.iter().filter_map(waits).collect();
        for name in names {
            let slot = Slot::Image(name.clone());
            let images = self.images_of(&name);
            if images.is_empty() || self.memory.is_busy(&slot) {
                continue;
            }
            let context = Arc::clone(&self.context);
            self.start(Some(slot), async move {
                let mut all = true;
                for image in images {
                    all = all
                        && context.images.is_here(&image).await.unwrap_or_else(|e| {
                            debug!(component = "node", image, err = chain(&e), "cannot look for an image");
                            false
                        });
                }
                Done::ImageHere(name, all)
            });
        }
    }

    pub(super) fn image_looked_for(&mut self, name: &str, is_here: bool) {
        let now = self.context.now();
        if let Some(blocked) = self.memory.blocked.get_mut(name).filter(|b| is_here && b.kind == BlockKind::Image) {
            blocked.retry_at = now;
        }
    }

    /// An object that the pod may refer to changed. What waits for one is tried again only when the outcome would be another:
    /// somebody else's object may change many times a second.
    pub(super) fn receive_config(&mut self) {
        if let Some(pod) = stored_pod(&self.context.pods, &self.key, &self.id.uid) {
            let now = self.context.now();
            let waits = |(key, b): &(&String, &Blocked)| {
                b.kind == BlockKind::Config && b.retry_at > now && !self.fails_alike(&pod, key, b)
            };
            let keys: Vec<String> = self.memory.blocked.iter().filter(waits).map(|(key, _)| key.clone()).collect();
            for key in keys {
                self.memory.blocked.entry(key).and_modify(|b| b.retry_at = now);
            }
        }
        self.refresh_files();
    }

    /// Whether what failed for want of an object would fail in the same way now.
    fn fails_alike(&self, pod: &Pod, key: &str, blocked: &Blocked) -> bool {
        let (context, pod_ip) = (&*self.context, self.pod_ip(pod));
        if key == SANDBOX || blocked.reason != CONFIG_ERROR {
            let plan = volumes::plan(pod, &context.config.cluster, context, context.facts(), pod_ip);
            return plan.is_err_and(|error| error.to_string() == blocked.message || key != SANDBOX);
        }
        let Some(spec) = container_of(pod, key) else { return true };
        let made = environment(pod, &spec, context, context.facts(), pod_ip);
        made.is_err_and(|error| error.to_string() == blocked.message)
    }

    // The status.

    /// When the status may be written again, if it must wait.
    pub(super) fn status_retry_at(&self) -> Option<Timestamp> {
        let now = self.context.now();
        self.memory.blocked.get(STATUS).map(|b| b.retry_at).filter(|at| *at > now)
    }

    pub(super) fn status_written(&mut self, result: Result<(), ApiError>) {
        self.is_writing_status = false;
        match result {
            Ok(()) => drop(self.memory.blocked.remove(STATUS)),
            Err(error) => self.hold(STATUS, &error.to_string()),
        }
    }
}
