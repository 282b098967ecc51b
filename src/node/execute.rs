//! Actions → engine calls and API writes: the thin half of the agent.
//!
//! Called by the worker, which runs the futures side by side and takes in what they return.
//!
//! **Invariants**: every call has an answer to "it worked but the reply was lost": what was made is looked up by its name, which
//! only this pod can have; what was to be removed is looked for; a started container is looked at. Nothing here decides what to do.

use super::{
    context::{Context, stored_pod},
    credentials::Keyring,
    decide::Ending,
    hooks,
    identity::{Identity, PodId, exchange_name, pod_uid, spec_hash, volume_name},
    image_volumes::{IMAGE_VOLUMES, Wanted},
    images::{ImageError, engine_name},
    observe::{ObservedContainer, is_sandboxs_fault},
    status, termination,
    translate::Lookup as _,
    translate::{
        ConfigError, FILES_IN_INPUT, Ingredients, container_spec, environment, sandbox_name, sandbox_spec, seccomp_file,
    },
    volumes::{
        self, FILES_READY, INLINE_MAX, MOUNT_POINT, MountError, Plan, Roots, images_of,
        sub_paths::{Exchange, HELPER_OF, SubPaths},
    },
};
use crate::{
    api::{
        agreements::RESTARTS,
        ephemeral::ephemeral_of,
        meta::ObjectKey,
        status::{ApiError, ErrorClass},
    },
    base::{backoff::Backoff, secret::variable, task},
    engine::{Container as EngineContainer, ContainerSpec, Credentials, EngineError, LogOptions, Phase},
    registry::{events::Severity, pipeline::DeleteOptions},
};
use bytes::{Buf as _, Bytes, BytesMut};
use futures::{
    FutureExt as _, StreamExt as _,
    future::{BoxFuture, Shared},
};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod, PodStatus};
use std::{collections::BTreeMap, net::Ipv4Addr, sync::Arc, time::Duration};
use tokio::{sync::watch, time::sleep};

/// How long a sandbox may take to write the pod's files.
const FILES_BOUND: Duration = Duration::from_secs(10);
/// How long skiff's own program may take to look at the paths of a pod or container.
const HELPER_BOUND: Duration = Duration::from_secs(30);
/// Tries to remove one that was not removed.
const HELPER_BACKOFF: Backoff = Backoff { base: Duration::from_millis(250), cap: Duration::from_secs(30) };
/// How long what an ended container had to say may take to read: its status waits for that.
const LAST_WORDS_BOUND: Duration = Duration::from_secs(5);
/// How often that is tried, and how long after the last time.
const LAST_WORDS_TRIES: u32 = 3;
const LAST_WORDS_REST: Duration = Duration::from_millis(200);

/// Why something could not be made.
#[derive(Clone, Debug)]
pub(super) enum Failure {
    /// There is no image of this name.
    Image(String, ImageError),
    /// The spec refers to something that is not there.
    Config(ConfigError),
    /// A volume cannot be mounted.
    Mount(MountError),
    /// The engine failed.
    Engine(EngineError),
    /// The engine did not say whether it made the container of this name: it may be there, or come.
    Doubtful(String, EngineError),
    /// The pod ends: nothing is to be made any more.
    Abandoned,
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Self {
        Self::Engine(error)
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::Config(error)
    }
}

/// Whether the file for an attempt's message is a new one, once that is known.
pub(super) type Renewal = Shared<BoxFuture<'static, bool>>;

/// A pod's volumes as they are mounted.
#[derive(Clone, Debug)]
pub(super) struct Mounted {
    pub(super) plan: Plan,
    pub(super) roots: Roots,
}

/// What became of a start.
#[derive(Clone, Debug)]
pub(super) enum Start {
    /// It runs, or did.
    Ran,
    /// The program cannot be started, and why.
    CannotRun(String),
    /// It was removed before it was started.
    Gone,
}

/// A pod and what its containers are made with.
#[derive(Clone)]
pub(super) struct Site {
    pub(super) context: Arc<Context>,
    pub(super) pod: Arc<Pod>,
    /// Set once nothing new is to be made for the pod.
    pub(super) abandoned: watch::Receiver<bool>,
}

impl Site {
    fn id(&self) -> PodId {
        PodId::of(&self.pod)
    }

    fn tell(&self, container: &str, severity: Severity, reason: &str, message: &str) {
        self.context.tell(&self.pod, container, severity, reason, message);
    }

    // Volumes.

    /// Plans the pod's volumes and makes what they need of the engine.
    pub(super) async fn mount(&self, pod_ip: Option<Ipv4Addr>) -> Result<Mounted, Failure> {
        let (context, id) = (&self.context, self.id());
        let cluster = &context.config.cluster;
        let plan = volumes::plan(&self.pod, cluster, &**context, context.facts(), pod_ip).map_err(Failure::Mount)?;
        let labels = BTreeMap::from([("io.kubernetes.pod.uid".to_owned(), id.uid.clone())]);
        for (name, memory) in &plan.memory {
            context.ask(context.engine.create_memory_volume(name, *memory, &labels)).await?;
        }
        for (_, name, labels) in &plan.claims {
            context.ask(context.engine.create_volume(name, labels)).await?;
        }
        let mut roots = Roots::default();
        if plan.needs_volume() {
            roots.own = context.ask(context.engine.create_volume(&volume_name(cluster, &id.uid), &labels)).await?;
        }
        if plan.has_sub_paths {
            let name = exchange_name(cluster, &id.uid);
            roots.exchange = context.ask(context.engine.create_shared_volume(&name, &labels)).await?;
        }
        Ok(Mounted { plan, roots })
    }

    /// Has the sub-paths of a container's next attempt looked for inside their volumes, and bound where the engine finds them.
    async fn bind_sub_paths(
        &self,
        container: &str,
        attempt: u32,
        sub_paths: &SubPaths,
        exchange: &str,
    ) -> Result<(), Failure> {
        if sub_paths.is_empty() {
            return Ok(());
        }
        let (uid, image) = (self.id().uid, self.sandbox_image().await?);
        let volume = exchange_name(&self.context.config.cluster, &uid);
        let helper =
            sub_paths.helper(&image, container, attempt, &Exchange { uid: &uid, volume: &volume, path: exchange });
        let line = ask_helper(&self.context, &helper).await?;
        match sub_paths.refusal(container, &line) {
            Some(refusal) => Err(refusal.into()),
            None if line == FILES_READY => Ok(()),
            None => Err(EngineError::Failed(format!("look for sub-paths: {line}")).into()),
        }
    }

    /// Has the pod's host paths looked at, and those made that may be.
    async fn check_host_paths(&self, plan: &Plan) -> Result<(), Failure> {
        if plan.host_paths.is_empty() {
            return Ok(());
        }
        let helper = plan.host_paths.helper(&self.id().uid, &self.sandbox_image().await?);
        let line = ask_helper(&self.context, &helper).await?;
        match plan.host_paths.refusal(&line) {
            Some(refusal) => Err(Failure::Mount(refusal)),
            None if line == FILES_READY => Ok(()),
            None => Err(EngineError::Failed(format!("look at host paths: {line}")).into()),
        }
    }

    /// Writes the files of the pod's volumes into a running sandbox, and shows them all at once.
    pub(super) async fn write_files(&self, sandbox: &str, plan: &Plan) -> Result<(), EngineError> {
        let engine = &self.context.engine;
        let archive = self.archive(plan)?;
        self.context.ask(engine.upload(sandbox, MOUNT_POINT, archive.into())).await?;
        let publish: Vec<String> = ["/skiff", "pause", "--publish", MOUNT_POINT].map(str::to_owned).to_vec();
        let output = self.context.ask(engine.exec(sandbox, &publish, FILES_BOUND)).await?;
        if output.exit_code == 0 {
            return Ok(());
        }
        Err(EngineError::Failed(format!("publish files: {}", String::from_utf8_lossy(&output.output))))
    }

    /// What a sandbox reads from its input.
    fn input(&self, plan: &Plan) -> Result<Bytes, EngineError> {
        let archive = self.archive(plan)?;
        let length = u64::try_from(archive.len()).expect("an archive has a length");
        Ok([&length.to_be_bytes()[..], &archive].concat().into())
    }

    fn archive(&self, plan: &Plan) -> Result<Vec<u8>, EngineError> {
        let failed = |e| EngineError::Invalid(format!("write the files of the pod's volumes: {e}"));
        plan.archive(self.context.now()).map_err(failed)
    }

    /// Removes the pod's volumes.
    pub(super) async fn remove_volumes(context: &Context, uid: &str) -> Result<(), EngineError> {
        let cluster = &context.config.cluster;
        let mut names = context.ask(context.engine.volumes()).await?;
        names.retain(|name| super::identity::volume_owner(cluster, name) == Some(uid));
        if names.contains(&exchange_name(cluster, uid)) {
            // A helper that an earlier process left holds the pod's volumes.
            for helper in context.ask(context.engine.list()).await? {
                if helper.labels.get(HELPER_OF).is_some_and(|owner| owner == uid) {
                    remove(context, &helper.id).await?;
                }
            }
        }
        for name in names {
            context.ask(context.engine.remove_volume(&name)).await?;
        }
        context.ask(context.image_volumes.release(uid)).await
    }

    // The sandbox.

    /// Creates the sandbox of this attempt.
    pub(super) async fn create_sandbox(&self, attempt: u32) -> Result<(ObservedContainer, Mounted), Failure> {
        let context = &self.context;
        let image = self.sandbox_image().await?;
        let mounted = self.mount(None).await?;
        let plan = &mounted.plan;
        self.check_host_paths(plan).await?;
        let identity = Identity::sandbox(self.id(), attempt, plan.hash());
        // Secrets are given to the sandbox as it starts, and everything else with them.
        let is_written_now = plan.has_files() && !plan.has_secrets();
        let archive = is_written_now.then(|| self.archive(plan)).transpose()?;
        // The environment of a sandbox whose processes the containers see is theirs to read.
        let is_shared = self.pod.spec.as_ref().is_some_and(|s| s.share_process_namespace == Some(true));
        let inline = archive.as_deref().filter(|tar| tar.len() <= INLINE_MAX && !is_shared);
        let mounts = plan.sandbox_mounts(&context.config.cluster, &identity.pod.uid);
        let mut spec = sandbox_spec(&self.pod, &context.config, &identity, &image, inline, mounts)?;
        if plan.has_secrets() {
            (spec.stdin, spec.stdin_once) = (true, true);
            spec.env.push(variable(FILES_IN_INPUT, "yes".to_owned()));
        }
        let made = self.create(&spec, identity).await?;
        if let Some(tar) = archive.as_ref().filter(|_| inline.is_none()) {
            context.ask(context.engine.upload(&made.id, MOUNT_POINT, Bytes::from(tar.clone()))).await?;
        }
        Ok((made, mounted))
    }

    async fn sandbox_image(&self) -> Result<String, Failure> {
        let mut image = self.context.config.sandbox_image.clone();
        let known = async move { image.wait_for(Option::is_some).await.map(|name| name.clone().unwrap_or_default()) };
        let failed = |_| EngineError::Failed("the image of the sandbox could not be made".into());
        Ok(self.unless_abandoned(known).await?.map_err(failed)?)
    }

    /// What a wait gives, unless the pod ends meanwhile. Pulls go on by themselves, for the next who wants the image.
    async fn unless_abandoned<T>(&self, wait: impl Future<Output = T>) -> Result<T, Failure> {
        let mut abandoned = self.abandoned.clone();
        tokio::select! {
            biased;
            Ok(_) = abandoned.wait_for(|is_abandoned| *is_abandoned) => Err(Failure::Abandoned),
            result = wait => Ok(result),
        }
    }

    /// Starts a sandbox and waits until its address and the pod's files are there. Files that may not be on a disk are given to it
    /// now: memory holds them only while the sandbox runs.
    pub(super) async fn start_sandbox(
        &self,
        id: &str,
        has_files: bool,
        mounted: Option<Arc<Mounted>>,
    ) -> Result<EngineContainer, Failure> {
        let context = &self.context;
        let mounted = match mounted {
            Some(mounted) => Some(mounted),
            None if has_files => Some(Arc::new(self.mount(None).await?)),
            None => None,
        };
        match mounted.filter(|mounted| mounted.plan.has_secrets()) {
            // Whether it has its files is not known when this fails, so that another sandbox takes its place.
            Some(mounted) => {
                let input = self.input(&mounted.plan)?;
                context.change(context.engine.start_with_input(id, input)).await?;
            }
            None => {
                if let Err(e) = context.change(context.engine.start(id)).await
                    && !self.is_running(id).await
                {
                    return Err(e.into());
                }
            }
        }
        let (container, files) =
            futures::join!(context.ask(context.engine.inspect(id)), self.wait_for_files(id, has_files));
        files?;
        container?.ok_or_else(|| EngineError::NotFound(format!("start sandbox {id}: it was removed")).into())
    }

    async fn is_running(&self, id: &str) -> bool {
        let found = self.context.ask(self.context.engine.inspect(id)).await;
        matches!(found, Ok(Some(container)) if container.phase == Phase::Running)
    }

    /// The sandbox writes the files before it says so; a container that starts after that sees them.
    async fn wait_for_files(&self, id: &str, has_files: bool) -> Result<(), EngineError> {
        if !has_files {
            return Ok(());
        }
        let is_ready = |text: &str| text.lines().any(|line| line.trim() == FILES_READY).then_some(());
        let said = read_until(&self.context, id, ("write the pod's files", FILES_BOUND), is_ready).await?;
        said.map_err(|text| EngineError::Failed(format!("write the pod's files: {}", text.trim())))
    }

    // Containers.

    /// Creates a container, or finds the one that an earlier try created.
    async fn create(&self, spec: &ContainerSpec, identity: Identity) -> Result<ObservedContainer, Failure> {
        let context = &self.context;
        match context.change(context.engine.create(spec)).await {
            Ok(id) => Ok(ObservedContainer::created(identity, id, context.now())),
            Err(error @ (EngineError::Invalid(_) | EngineError::NotFound(_))) => Err(error.into()),
            Err(error) => match context.ask(context.engine.inspect(&spec.name)).await {
                Ok(Some(found)) if pod_uid(&found.labels) == Some(&identity.pod.uid) => {
                    ObservedContainer::from_engine(&found).ok_or(Failure::Engine(error))
                }
                // Somebody else's container has the name: it is not ours to remove with the pod.
                Ok(Some(_)) => Err(Failure::Engine(error)),
                Ok(None) | Err(_) => Err(Failure::Doubtful(spec.name.clone(), error)),
            },
        }
    }

    /// Creates a container of the pod.
    pub(super) async fn create_container(
        &self,
        spec: &Container,
        (attempt, sandbox, failures): (u32, u32, u32),
        mounted: Option<Arc<Mounted>>,
        pod_ip: Option<Ipv4Addr>,
        renewed_ahead: Option<Renewal>,
        pid_of: Option<String>,
    ) -> Result<(ObservedContainer, Arc<Mounted>), Failure> {
        let context = &self.context;
        let name = spec.image.as_deref().unwrap_or_default();
        let policy = spec.image_pull_policy.as_deref().unwrap_or("IfNotPresent");
        let tell = |severity: Severity, reason: &str, message: &str| self.tell(&spec.name, severity, reason, message);
        let is_ephemeral = self.pod.spec.as_ref().is_some_and(|pod| ephemeral_of(pod, &spec.name).is_some());
        let spec = &if is_ephemeral { termination::late(spec, &self.pod) } else { spec.clone() };
        let image = self
            .unless_abandoned(context.images.ensure(name, policy, self.keys(name).boxed(), &tell))
            .await?
            .map_err(|error| Failure::Image(name.to_owned(), error))?;
        let image_volumes = self.image_volumes(spec).await?;
        let env = environment(&self.pod, spec, &**context, context.facts(), pod_ip)?;
        let mounted = match mounted {
            Some(mounted) => mounted,
            None => Arc::new(self.mount(pod_ip).await?),
        };
        let (mounts, sub_paths) = mounted.plan.mounts(spec, attempt, &mounted.roots, &env, &image_volumes)?;
        self.bind_sub_paths(&spec.name, attempt, &sub_paths, &mounted.roots.exchange).await?;
        let profile = self.seccomp_profile(spec).await?;
        let identity = Identity {
            pod: self.id(),
            container: spec.name.clone(),
            attempt,
            sandbox,
            failures,
            hash: spec_hash(spec),
            volumes: String::new(),
        };
        let from = Ingredients {
            identity: &identity,
            sandbox: &sandbox_name(&self.pod, sandbox),
            image: &image,
            image_reference: engine_name(name, &image),
            env: &env,
            mounts: &mounts,
            pid_of: pid_of.as_deref(),
            seccomp: profile.as_deref(),
        };
        let mut wanted = container_spec(&self.pod, spec, &context.config, from)?;
        if !image_volumes.is_empty() {
            let names: Vec<&str> = image_volumes.values().map(String::as_str).collect();
            wanted.labels.insert(IMAGE_VOLUMES.to_owned(), names.join(","));
        }
        if is_ephemeral {
            // The sandbox made files for the others only.
            self.make_termination_log(spec, attempt, sandbox).await?;
        }
        let renewed = async {
            let is_new = match renewed_ahead {
                Some(renewal) => renewal.await,
                None => false,
            };
            if is_new { Ok(()) } else { self.renew_termination_log(spec, attempt, sandbox).await }
        };
        let (made, renewed) = futures::join!(self.create(&wanted, identity), renewed);
        let mut made = made?;
        renewed?;
        name.clone_into(&mut made.image);
        made.image_id.clone_from(&image.id);
        made.resources = made.resources.or(Some(wanted.resources()));
        self.tell(&spec.name, Severity::Normal, "Created", "Container created");
        Ok((made, mounted))
    }

    /// The Docker volumes of those of a container's volumes that show images, by the names of the latter. Source: `getImageVolumes` and
    /// `toKubeContainerImageVolumes`, `pkg/kubelet/kuberuntime`, v1.37.
    async fn image_volumes(&self, spec: &Container) -> Result<BTreeMap<String, String>, Failure> {
        let (context, mut found) = (&self.context, BTreeMap::new());
        for (volume, source) in images_of(&self.pod, spec) {
            let name = source.reference.as_deref().unwrap_or_default();
            let policy = source.pull_policy.as_deref().unwrap_or("IfNotPresent");
            let tell = |severity: Severity, reason: &str, message: &str| {
                context.tell_pod(&self.pod, severity, reason, message);
            };
            let image = self
                .unless_abandoned(context.images.ensure(name, policy, self.keys(name).boxed(), &tell))
                .await?
                .map_err(|error| Failure::Image(name.to_owned(), error))?;
            let (pod, helper) = (self.id().uid, self.sandbox_image().await?);
            let wanted = Wanted { image: &image.id, pod: &pod, helper: &helper };
            let docker = self.unless_abandoned(context.ask(context.image_volumes.ensure(wanted))).await??;
            found.insert(volume.to_owned(), docker);
        }
        Ok(found)
    }

    /// What is in the file that a container's profile of seccomp is. Source of the words: `getSeccompSecurityOpts`,
    /// `pkg/kubelet/dockershim/helpers_linux.go`, v1.23.
    async fn seccomp_profile(&self, spec: &Container) -> Result<Option<String>, Failure> {
        let file = self.pod.spec.as_ref().and_then(|pod| seccomp_file(pod, spec));
        let Some(file) = file else { return Ok(None) };
        let path = self.context.config.seccomp.join(file);
        match tokio::fs::read_to_string(&path).await {
            Ok(profile) => Ok(Some(profile)),
            Err(err) => {
                let is_missing = err.kind() == std::io::ErrorKind::NotFound;
                let why = if is_missing { "no such file or directory".to_owned() } else { err.to_string() };
                let (name, path) = (&spec.name, path.display());
                Err(Failure::Engine(EngineError::Failed(format!(
                    "failed to generate security options for container {name:?}: cannot load seccomp profile \"{path}\": \
                     open {path}: {why}"
                ))))
            }
        }
    }

    /// The credentials for an image: those of the pod's pull secrets, then Docker's own. Source: `getPullSecretsForPod`,
    /// `pkg/kubelet/kubelet_pods.go`, v1.37.
    async fn keys(&self, image: &str) -> Vec<Credentials> {
        let (mut keyring, mut missing) = (Keyring::default(), Vec::new());
        let named = self.pod.spec.iter().flat_map(|spec| spec.image_pull_secrets.iter().flatten());
        let namespace = self.id().namespace;
        for name in named.map(|secret| secret.name.as_str()).filter(|name| !name.is_empty()) {
            let added = match self.context.secret(&namespace, name) {
                Some(secret) => keyring.add_secret(&secret),
                None => Err("there is none".to_owned()),
            };
            missing.extend(added.err().map(|why| format!("{name}: {why}")));
        }
        if !missing.is_empty() {
            let message = format!(
                "Unable to retrieve some image pull secrets ({}); attempting to pull the image may not succeed.",
                missing.join(", ")
            );
            self.context.tell_pod(&self.pod, Severity::Warning, "FailedToRetrieveImagePullSecret", &message);
        }
        let mut keys = keyring.of(image);
        keys.extend(self.context.images.dockers_own(image).await);
        keys
    }

    /// Starts a container that was created.
    pub(super) async fn start_container(&self, name: &str, id: &str) -> Result<Start, EngineError> {
        let context = &self.context;
        let Err(error) = context.change(context.engine.start(id)).await else {
            self.tell(name, Severity::Normal, "Started", "Container started");
            return Ok(Start::Ran);
        };
        match context.ask(context.engine.inspect(id)).await? {
            None => Ok(Start::Gone),
            Some(found) if found.phase != Phase::Created => Ok(Start::Ran),
            Some(found) if is_sandboxs_fault(&found.error) => Err(error),
            Some(found)
                if matches!(error, EngineError::Invalid(_)) || (!found.error.is_empty() && !is_conflict(&error)) =>
            {
                let why = if found.error.is_empty() { error.to_string() } else { found.error };
                self.tell(name, Severity::Warning, "Failed", &format!("Error: {why}"));
                Ok(Start::CannotRun(why))
            }
            Some(_) => Err(error),
        }
    }

    /// Runs a hook of a container.
    pub(super) async fn run_hook(
        &self,
        spec: &Container,
        id: &str,
        is_post_start: bool,
        pod_ip: Option<Ipv4Addr>,
        bound: Duration,
    ) -> Result<(), String> {
        let lifecycle = spec.lifecycle.as_ref();
        let handler = lifecycle.and_then(|l| if is_post_start { l.post_start.as_ref() } else { l.pre_stop.as_ref() });
        let Some(handler) = handler else { return Ok(()) };
        let ports = spec.ports.as_deref().unwrap_or_default();
        let place = hooks::Place { pod: &self.id().uid, id, ports, pod_ip };
        let result = hooks::run(&self.context, handler, place, bound).await;
        if result.is_err() {
            let (reason, message) = if is_post_start {
                ("FailedPostStartHook", "PostStartHook failed")
            } else {
                ("FailedPreStopHook", "PreStopHook failed")
            };
            self.tell(&spec.name, Severity::Warning, reason, message);
        }
        result
    }

    /// What a container that ended had to say: its termination message, or the end of its log where its spec asks for that.
    pub(super) async fn last_words(
        &self,
        spec: &Container,
        ended: &ObservedContainer,
        sandbox: Option<&str>,
    ) -> String {
        let read = async {
            let message = match sandbox.filter(|_| termination::path_in(spec).is_some()) {
                Some(sandbox) => self.termination_message(ended, sandbox).await,
                None => String::new(),
            };
            let code = ended.exit().map_or(0, |exit| exit.code);
            if message.is_empty() && termination::falls_back(spec, code) {
                self.end_of_log(&ended.id).await
            } else {
                message
            }
        };
        tokio::time::timeout(LAST_WORDS_BOUND, read).await.unwrap_or_default()
    }

    /// What is in the file of a container's attempt, written by its last run.
    async fn termination_message(&self, ended: &ObservedContainer, sandbox: &str) -> String {
        let (name, attempt) = (&ended.identity.container, ended.identity.attempt);
        let path = termination::file_in_sandbox(name, attempt);
        let mut tries = 1;
        let read = loop {
            let engine = &self.context.engine;
            match self.context.ask(engine.file_end(sandbox, &path, termination::MESSAGE_BYTES_MAX)).await {
                Err(EngineError::Invalid(why)) => break Err(why),
                Err(error) if tries == LAST_WORDS_TRIES => break Err(error.to_string()),
                Err(_) => sleep(LAST_WORDS_REST).await,
                Ok(file) => break Ok(file),
            }
            tries += 1;
        };
        // The engine may have started the same container before: what that run left is no message of this one.
        let before = ended.former.as_ref().filter(|former| former.id == ended.id);
        let before = before.and_then(|former| former.exit()).map(|exit| exit.at);
        match read {
            Ok(file) => {
                let file = file.filter(|file| before.is_none_or(|before| file.modified_at > before));
                file.map(|file| termination::text_of(&file.content, termination::MESSAGE_BYTES_MAX)).unwrap_or_default()
            }
            Err(why) => format!("Error on reading termination log {path}: {why}"),
        }
    }

    /// Makes the file for an attempt's message a new one, where an older attempt had it.
    async fn renew_termination_log(&self, spec: &Container, attempt: u32, sandbox: u32) -> Result<(), EngineError> {
        if termination::is_used_again(attempt) {
            self.make_termination_log(spec, attempt, sandbox).await
        } else {
            Ok(())
        }
    }

    async fn make_termination_log(&self, spec: &Container, attempt: u32, sandbox: u32) -> Result<(), EngineError> {
        if termination::path_in(spec).is_none() {
            return Ok(());
        }
        let sandbox = sandbox_name(&self.pod, sandbox);
        let failed = |e| EngineError::Invalid(format!("make the file for the termination message: {e}"));
        let empty = termination::empty_file(&spec.name, attempt).map_err(failed)?;
        self.context.ask(self.context.engine.upload(&sandbox, MOUNT_POINT, empty.into())).await
    }

    /// Does that for an attempt that is still to come.
    pub(super) fn renew_ahead(self, spec: Container, attempt: u32, sandbox: u32) -> Renewal {
        async move { self.renew_termination_log(&spec, attempt, sandbox).await.is_ok() }.boxed().shared()
    }

    async fn end_of_log(&self, id: &str) -> String {
        let options = LogOptions { tail: Some(termination::LOG_LINES_MAX), ..LogOptions::default() };
        let mut log = match self.context.ask(self.context.engine.logs(id, &options)).await {
            Ok(log) => log,
            Err(error) => return format!("Error on reading termination message from logs: {error}"),
        };
        let mut end = BytesMut::new();
        while let Some(Ok(chunk)) = log.next().await {
            end.extend_from_slice(&chunk);
            let more = end.len().saturating_sub(termination::LOG_BYTES_MAX);
            end.advance(more);
        }
        termination::text_of(&end, termination::LOG_BYTES_MAX)
    }

    // The pod's object.

    /// Writes the pod's status, and what is known of its restarts beside it.
    pub(super) async fn write_status(&self, wanted: &PodStatus, restarts: Option<String>) -> Result<(), ApiError> {
        let (key, uid) = (ObjectKey::of(&self.pod.metadata), self.pod.metadata.uid.clone());
        let write = self.context.pods.modify_status(&key, |stored| {
            if stored.metadata.uid == uid {
                status::merge(stored, wanted);
                if let Some(restarts) = &restarts {
                    stored.metadata.annotations.get_or_insert_default().insert(RESTARTS.to_owned(), restarts.clone());
                }
            }
        });
        match write.await {
            Ok(_) => Ok(()),
            Err(e) if e.class() == ErrorClass::NotFound => Ok(()),
            Err(e) => Err(e),
        }
    }

    /// Writes the pod's last status and deletes its object.
    pub(super) async fn delete_pod(&self, last: &PodStatus) -> Result<(), ApiError> {
        let (key, id) = (ObjectKey::of(&self.pod.metadata), self.id());
        if stored_pod(&self.context.pods, &key, &id.uid).is_some_and(|pod| status::is_news(&pod, last)) {
            self.write_status(last, None).await?;
        }
        let options = DeleteOptions { grace_period_secs: Some(0), uid: Some(id.uid), ..DeleteOptions::default() };
        match self.context.pods.delete(&key, &options).await {
            Err(e) if !matches!(e.class(), ErrorClass::NotFound | ErrorClass::Conflict) => Err(e),
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

/// Ends a container's program.
pub(super) async fn signal(
    context: &Context,
    container: &ObservedContainer,
    ending: Ending,
    own: Option<String>,
) -> Result<(), EngineError> {
    let name = match (ending, own) {
        (Ending::Kill, _) => "SIGKILL".to_owned(),
        (Ending::Ask, Some(signal)) => signal,
        (Ending::Ask, None) => context.images.stop_signal(&container.image_id).await,
    };
    context.ask(context.engine.kill(&container.id, &name)).await
}

/// Runs a helper until it has said what it was asked, and removes it.
pub(super) async fn ask_helper(context: &Arc<Context>, helper: &ContainerSpec) -> Result<String, EngineError> {
    // An earlier try's may still be there. What it did is done again.
    remove(context, &helper.name).await?;
    let run = async {
        let id = context.change(context.engine.create(helper)).await?;
        context.change(context.engine.start(&id)).await?;
        first_line(context, &id, HELPER_BOUND).await
    };
    let said = run.await;
    if let Err(error) = remove(context, &helper.name).await {
        task::spawn("helper-removal", remove_left(Arc::clone(context), helper.name.clone()));
        return Err(error);
    }
    said
}

/// Removes what is left of a helper, however long the engine fails to: when its pod goes, nobody else looks for it. Once it is known by
/// its ID, one of the same name that came after it is left alone.
async fn remove_left(context: Arc<Context>, name: String) {
    let mut wanted = name;
    for failures in 1.. {
        match context.ask(context.engine.inspect(&wanted)).await {
            Ok(None) => return,
            Ok(Some(container)) => {
                wanted = container.id;
                if remove(&context, &wanted).await.is_ok() {
                    return;
                }
            }
            Err(_) => {}
        }
        sleep(HELPER_BACKOFF.delay(failures)).await;
    }
}

/// The first line that a container prints, or all that it printed when it ends without one.
async fn first_line(context: &Context, id: &str, bound: Duration) -> Result<String, EngineError> {
    let line = |text: &str| text.split_once('\n').map(|(line, _)| line.trim_end().to_owned());
    let said = read_until(context, id, (&format!("wait for what {id} prints"), bound), line).await?;
    Ok(said.unwrap_or_else(|all| all))
}

/// Reads what a container prints until something is found in it. The inner error is all that it printed until it ended.
async fn read_until<T>(
    context: &Context,
    id: &str,
    (what, bound): (&str, Duration),
    find: impl Fn(&str) -> Option<T>,
) -> Result<Result<T, String>, EngineError> {
    let options = LogOptions { follow: true, ..LogOptions::default() };
    let read = async {
        let mut log = context.ask(context.engine.logs(id, &options)).await?;
        let mut text = String::new();
        while let Some(chunk) = log.next().await {
            text.push_str(&String::from_utf8_lossy(&chunk?));
            if let Some(found) = find(&text) {
                return Ok(Ok(found));
            }
        }
        Ok(Err(text))
    };
    tokio::time::timeout(bound, read).await.map_err(|_| EngineError::TimedOut(what.to_owned(), bound))?
}

/// Removes a container; fine when it is gone.
pub(super) async fn remove(context: &Context, id: &str) -> Result<(), EngineError> {
    let Err(error) = context.change(context.engine.remove(id)).await else { return Ok(()) };
    match context.ask(context.engine.inspect(id)).await {
        Ok(None) => Ok(()),
        Ok(Some(_)) | Err(_) => Err(error),
    }
}

/// Whether the container's surroundings forbid the call, its sandbox's end for example.
fn is_conflict(error: &EngineError) -> bool {
    matches!(error, EngineError::Conflict(_))
}

/// How long until a time.
pub(super) fn until(at: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(at.duration_since(now)).unwrap_or_default()
}
