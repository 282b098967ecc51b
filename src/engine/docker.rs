//! The Docker engine, through bollard. With its parts below, the only place that names bollard.
//!
//! `app` connects it; everyone else sees the [`Engine`] trait. It may call `base` only.
//!
//! **Invariants**: every call has a bound; an error keeps the engine's own text, after what skiff was doing and to what;
//! what is gone already counts as removed, what runs already as started.
//!
//! **Not here**: which sockets there are and what to tell a user whose engine is away (`connect`), the shapes of requests
//! and replies (`translate`), the event stream (`events`), what a line of a log is (`logs`), conversations with programs (`hijack`,
//! `sessions`).
//!
//! Source: Docker Engine API 1.41 (engine 20.10) and later. bollard asks without a version in the path, so an engine answers with
//! its newest, and every field read here exists since 1.41.

mod connect;
mod events;
mod hijack;
mod image_files;
mod logs;
mod sessions;
mod translate;

use super::pull_progress::Layers;
use super::{
    CLUSTER_LABEL, CONTROL_PLANE_LABEL, Connected, Container, ContainerSpec, Credentials, Engine, EngineError,
    EngineEvent, EngineInfo, ExecOutput, FILE_BYTES_MAX, FileEnd, Image, ImageDetails, LogOptions, MemoryVolume,
    Neighbours, Network, NetworkSpec, PullError, PullProgress, Resources, Session, Usage,
};
use crate::base::ordered::{CollectOrdered as _, Map, SortList as _};
use async_trait::async_trait;
use bollard::{
    Docker,
    container::AttachContainerResults,
    errors::Error,
    exec::{CreateExecOptions, StartExecResults},
    models, query_parameters as query,
};
use bytes::{Bytes, BytesMut};
use connect::Endpoint;
use futures::{
    Stream, StreamExt as _, TryStreamExt as _,
    stream::{self, BoxStream},
};
use image_files::ImageFiles;
use std::{
    collections::BTreeMap,
    future::Future,
    pin::pin,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{io::AsyncWriteExt as _, time::timeout};

/// For the health check: the engine answers it without taking a lock, in about a millisecond.
const PING_BOUND: Duration = Duration::from_secs(10);
/// For reads. An inspection waits for the container's lock, which a start holds until the container runs.
const READ_BOUND: Duration = Duration::from_mins(1);
/// For changes. Source: the kubelet's `--runtime-request-timeout`, v1.37.
const CHANGE_BOUND: Duration = Duration::from_mins(2);
/// For a pull that makes no progress. Source: the kubelet's `--image-pull-progress-deadline` was 1 minute; slow links get two.
const PULL_STALL_BOUND: Duration = Duration::from_mins(2);
/// For copying an image's files: gigabytes from a slow disk.
const COPY_BOUND: Duration = Duration::from_mins(9);
/// bollard's own bound, above all of ours so that ours speak.
const CLIENT_BOUND_SECS: u64 = 600;
/// How often a list of images is asked for: engines that keep images as registries do fail to make one while an image goes.
const LIST_TRIES: usize = 3;
/// How many inspections run at once; more only queue in the engine.
const INSPECTIONS_AT_ONCE: usize = 8;
/// What is kept of a command's output. Source: kubelet `maxReadLength` of exec probes, v1.37.
const EXEC_OUTPUT_MAX: usize = 10 * 1024;
/// How often a command is looked at that was told to start and does not run yet, and how long after the last time.
const EXEC_LOOKS: u32 = 10;
const EXEC_LOOK_AGAIN: Duration = Duration::from_millis(100);
/// What comes before a file in its archive, at most: a few blocks of 512 bytes.
const ARCHIVE_HEADS_MAX: u64 = 16 * 1024;
/// How often a removal is asked for that is under way already.
const REMOVAL_TRIES: u32 = 8;

/// The Docker engine (or Podman's, which speaks the same API) of this machine. Clones are the same engine.
#[derive(Clone)]
pub struct DockerEngine(Arc<Inner>);

struct Inner {
    docker: Docker,
    endpoint: Endpoint,
    cluster: String,
    facts: EngineInfo,
    /// Where the engine keeps what it has, on its host.
    folder: Option<String>,
    /// Whether the engine writes logs to files of its own, which need a bound.
    bounds_logs: bool,
    /// The engine's time when it was connected; events since then are in its memory.
    connected_at: String,
    /// What an image holds never changes, so an ID is inspected once.
    images: Mutex<Map<String, Image>>,
}

impl DockerEngine {
    /// Finds the engine and connects to it.
    ///
    /// # Errors
    /// `Unreachable`: not installed, not running, no permission, or too old; the text says which and the remedy.
    pub async fn connect(cluster: &str) -> Result<Self, EngineError> {
        let (docker, endpoint) = connect::find().await.map_err(EngineError::Unreachable)?;
        let (version, info) = connect::ask(&docker, &endpoint, PING_BOUND).await.map_err(EngineError::Unreachable)?;
        connect::check_version(&version).map_err(EngineError::Unreachable)?;
        let mut facts = translate::engine_info(version, info.clone());
        if facts.id.is_empty() {
            facts.id = endpoint.to_string();
        }
        let bounds_logs = matches!(info.logging_driver.as_deref(), Some("json-file" | "local"));
        Ok(Self(Arc::new(Inner {
            docker,
            endpoint,
            cluster: cluster.into(),
            bounds_logs,
            connected_at: translate::since(info.system_time.as_deref()),
            facts,
            folder: info.docker_root_dir,
            images: Mutex::default(),
        })))
    }

    /// Where the engine was found, e.g. `unix:///var/run/docker.sock`.
    pub fn address(&self) -> String {
        self.0.endpoint.to_string()
    }

    fn docker(&self) -> &Docker {
        &self.0.docker
    }

    /// Waits for a call, at most `bound`, and gives its error a meaning.
    async fn call<T>(
        &self,
        what: impl FnOnce() -> String + Send,
        bound: Duration,
        call: impl Future<Output = Result<T, Error>> + Send,
    ) -> Result<T, EngineError> {
        match timeout(bound, call).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(err)) => Err(meaning(&what(), &err, &self.0.endpoint)),
            Err(_) => Err(EngineError::TimedOut(what(), bound)),
        }
    }

    fn labels(&self, labels: &BTreeMap<String, String>) -> translate::Labels {
        translate::labels(labels, &self.0.cluster)
    }

    fn cluster_filter(&self) -> translate::Filters {
        [("label".to_owned(), vec![format!("{CLUSTER_LABEL}={}", self.0.cluster)])].into()
    }

    async fn list_images(&self) -> Result<Vec<Image>, EngineError> {
        let listed = self.docker().list_images(None::<query::ListImagesOptions>);
        let listed = self.call(|| "list images".into(), READ_BOUND, listed).await?;
        let ids: Vec<String> = listed.iter().map(|summary| summary.id.clone()).collect();
        self.0.images.lock().expect("no one panics while holding it").retain(|id, _| ids.contains(id));
        let inspections = listed.into_iter().map(|summary| async move {
            let image = self.image_by_id(&summary.id).await?;
            Ok::<_, EngineError>(image.map(|image| translate::with_names(image, summary)))
        });
        // In the engine's order, newest first.
        stream::iter(inspections)
            .buffered(INSPECTIONS_AT_ONCE)
            .try_filter_map(|image| async move { Ok(image) })
            .try_collect()
            .await
    }

    /// Inspects an image by ID, once ever.
    async fn image_by_id(&self, id: &str) -> Result<Option<Image>, EngineError> {
        if let Some(image) = self.0.images.lock().expect("no one panics while holding it").get(id) {
            return Ok(Some(image.clone()));
        }
        let inspected = self.call(|| format!("inspect image {id}"), READ_BOUND, self.docker().inspect_image(id)).await;
        let Some(image) = found(inspected)?.map(translate::image) else { return Ok(None) };
        // It stays in memory, and nobody reads more of a list.
        let image = Image { details: ImageDetails::default(), ..image };
        self.0.images.lock().expect("no one panics while holding it").insert(id.into(), image.clone());
        Ok(Some(image))
    }

    /// Creates a volume in memory; returns its path on the engine's host.
    async fn create_tmpfs(
        &self,
        name: &str,
        mount_options: String,
        labels: &BTreeMap<String, String>,
    ) -> Result<String, EngineError> {
        let options = [("type", "tmpfs".to_owned()), ("device", "tmpfs".to_owned()), ("o", mount_options)];
        let body = models::VolumeCreateRequest {
            name: Some(name.into()),
            labels: Some(self.labels(labels)),
            driver_opts: Some(options.map(|(option, value)| (option.to_owned(), value)).into()),
            ..Default::default()
        };
        let creation = self.docker().create_volume(body);
        Ok(self.call(|| format!("create volume {name}"), CHANGE_BOUND, creation).await?.mountpoint)
    }

    /// The process of a command that runs; it may be about to start.
    async fn process_of(&self, exec: &str) -> Option<i64> {
        for _ in 0..EXEC_LOOKS {
            let inspection = self.docker().inspect_exec(exec);
            let found = self.call(|| format!("inspect exec {exec}"), READ_BOUND, inspection).await.ok()?;
            if found.exit_code.is_some() {
                return None;
            }
            if let Some(pid) = found.pid.filter(|pid| *pid > 0 && found.running == Some(true)) {
                return Some(pid);
            }
            tokio::time::sleep(EXEC_LOOK_AGAIN).await;
        }
        None
    }

    /// What a file holds, of at most [`FILE_BYTES_MAX`] bytes; it may grow while it is read.
    async fn download(&self, container: &str, path: &str) -> Result<Bytes, Error> {
        let options = query::DownloadFromContainerOptions { path: path.into() };
        let mut chunks = pin!(self.docker().download_from_container(container, Some(options)));
        let mut archive = BytesMut::new();
        while let Some(chunk) = chunks.try_next().await? {
            archive.extend_from_slice(&chunk);
            if archive.len() as u64 > FILE_BYTES_MAX + ARCHIVE_HEADS_MAX {
                break;
            }
        }
        Ok(translate::file_in(&archive)?)
    }

    async fn run_exec(&self, exec: &str) -> Result<ExecOutput, Error> {
        let started = self.docker().start_exec(exec, None).await?;
        let mut output = BytesMut::new();
        if let StartExecResults::Attached { output: mut chunks, .. } = started {
            while let Some(chunk) = chunks.try_next().await? {
                let chunk = chunk.into_bytes();
                let room = EXEC_OUTPUT_MAX - output.len();
                output.extend_from_slice(&chunk[..chunk.len().min(room)]);
            }
        }
        let exit_code = self.docker().inspect_exec(exec).await?.exit_code.unwrap_or_default();
        Ok(ExecOutput { exit_code, output: output.freeze() })
    }
}

/// Absence that a caller asks for is no error.
fn found<T>(result: Result<T, EngineError>) -> Result<Option<T>, EngineError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(EngineError::NotFound(_)) => Ok(None),
        Err(err) => Err(err),
    }
}

/// What a failed call means to its caller.
fn meaning(what: &str, err: &Error, endpoint: &Endpoint) -> EngineError {
    match err {
        Error::DockerResponseServerError { status_code, message } => {
            let text = format!("{what}: {message}");
            match status_code {
                404 => EngineError::NotFound(text),
                // Newer engines say so of another container than the one that the call is of.
                _ if message.contains("No such container") => EngineError::NotFound(text),
                409 => EngineError::Conflict(text),
                // Networks: a range or a bridge that another has, or containers that still use it.
                403 if ["overlaps", "conflicts with network", "active endpoints"]
                    .iter()
                    .any(|t| message.contains(t)) =>
                {
                    EngineError::Conflict(text)
                }
                400..=499 => EngineError::Invalid(text),
                _ => EngineError::Failed(text),
            }
        }
        Error::RequestTimeoutError => EngineError::TimedOut(what.into(), Duration::from_secs(CLIENT_BOUND_SECS)),
        err => match connect::connect_failure(err) {
            Some(kind) => EngineError::Unreachable(connect::diagnose(endpoint, kind)),
            None => EngineError::Failed(format!("{what}: {}", crate::base::chain::chain(err))),
        },
    }
}

/// A reference becomes part of a path, so it may hold only what references hold.
fn check_reference(reference: &str) -> Result<(), EngineError> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-/:@+".contains(c);
    if reference.is_empty() || !reference.chars().all(is_plain) || reference.split('/').any(|part| part == "..") {
        return Err(EngineError::Invalid(format!("image {reference:?}: invalid reference format")));
    }
    Ok(())
}

/// The stream of a pull, until it ends or stalls.
async fn follow<T>(progress: impl Stream<Item = Result<T, Error>>, mut note: impl FnMut(T)) -> Result<(), PullError> {
    let mut progress = pin!(progress);
    loop {
        match timeout(PULL_STALL_BOUND, progress.next()).await {
            Ok(None) => return Ok(()),
            Ok(Some(Ok(told))) => note(told),
            Ok(Some(Err(err))) => return Err(translate::pull_error(&err)),
            Err(_) => return Err(PullError::Failed(format!("no progress within {PULL_STALL_BOUND:?}"))),
        }
    }
}

fn is_of_pods(container: &Container) -> bool {
    !container.labels.contains_key(CONTROL_PLANE_LABEL)
}

#[async_trait]
impl Engine for DockerEngine {
    async fn info(&self) -> Result<EngineInfo, EngineError> {
        self.call(|| "ping the engine".into(), PING_BOUND, self.docker().ping()).await?;
        let disk_free_bytes = translate::disk(self.0.folder.as_deref()).1;
        Ok(EngineInfo { disk_free_bytes, ..self.0.facts.clone() })
    }

    async fn neighbours(&self) -> Result<Neighbours, EngineError> {
        let every = query::ListContainersOptions { all: true, ..Default::default() };
        let containers = self.docker().list_containers(Some(every));
        let containers = self.call(|| "list containers".into(), READ_BOUND, containers).await?;
        let labelled = [("label".to_owned(), vec![CLUSTER_LABEL.to_owned()])].into();
        let labelled = query::ListNetworksOptions { filters: Some(labelled) };
        let networks = self.docker().list_networks(Some(labelled));
        let networks = self.call(|| "list networks".into(), READ_BOUND, networks).await?;
        Ok(translate::neighbours(containers, networks, &self.0.cluster))
    }

    async fn list(&self) -> Result<Vec<Container>, EngineError> {
        let options =
            query::ListContainersOptions { all: true, filters: Some(self.cluster_filter()), ..Default::default() };
        let listed = self.docker().list_containers(Some(options));
        let listed = self.call(|| "list containers".into(), READ_BOUND, listed).await?;
        // The list has neither exit codes nor times. One that is removed meanwhile is no part of the answer.
        let inspections =
            listed.into_iter().filter_map(|summary| summary.id).map(|id| async move { self.inspect(&id).await });
        let mut containers: Vec<Container> = stream::iter(inspections)
            .buffer_unordered(INSPECTIONS_AT_ONCE)
            .try_filter_map(|container| async move { Ok(container.filter(is_of_pods)) })
            .try_collect()
            .await?;
        containers.sort_list_by(|a, b| a.name.cmp(&b.name));
        Ok(containers)
    }

    async fn inspect(&self, container: &str) -> Result<Option<Container>, EngineError> {
        let inspection = self.docker().inspect_container(container, None);
        let inspected = self.call(|| format!("inspect container {container}"), READ_BOUND, inspection).await;
        found(inspected)?.map(translate::container).transpose()
    }

    async fn usage(&self, container: &str) -> Result<Option<Usage>, EngineError> {
        // Without `one-shot` the engine takes two samples, a second apart.
        let options = query::StatsOptions { stream: false, one_shot: true };
        let mut stats = pin!(self.docker().stats(container, Some(options)));
        let first = async { stats.try_next().await };
        let told = self.call(|| format!("read the usage of container {container}"), READ_BOUND, first).await;
        Ok(found(told)?.flatten().and_then(translate::usage))
    }

    async fn create(&self, spec: &ContainerSpec) -> Result<String, EngineError> {
        spec.check_size()?;
        let options = query::CreateContainerOptions { name: Some(spec.name.clone()), ..Default::default() };
        let body = translate::create_body(spec, self.labels(&spec.labels), self.0.bounds_logs);
        let created = self.docker().create_container(Some(options), body);
        Ok(self.call(|| format!("create container {}", spec.name), CHANGE_BOUND, created).await?.id)
    }

    async fn start(&self, container: &str) -> Result<(), EngineError> {
        let start = self.docker().start_container(container, None);
        self.call(|| format!("start container {container}"), CHANGE_BOUND, start).await
    }

    async fn start_with_input(&self, container: &str, input: Bytes) -> Result<(), EngineError> {
        let what = || format!("give input to container {container}");
        let options = query::AttachContainerOptions { stdin: true, stream: true, ..Default::default() };
        let attach = self.docker().attach_container(container, Some(options));
        // The output must live as long as the input: both are one connection.
        let AttachContainerResults { output: _output, input: mut writer } =
            self.call(what, CHANGE_BOUND, attach).await?;
        self.start(container).await?;
        let give = async {
            writer.write_all(&input).await?;
            writer.shutdown().await
        };
        match timeout(CHANGE_BOUND, give).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(err)) => Err(EngineError::Failed(format!("{}: {err}", what()))),
            Err(_) => Err(EngineError::TimedOut(what(), CHANGE_BOUND)),
        }
    }

    async fn kill(&self, container: &str, signal: &str) -> Result<(), EngineError> {
        let options = query::KillContainerOptions { signal: signal.into() };
        let kill = self.docker().kill_container(container, Some(options));
        match self.call(|| format!("signal container {container}"), CHANGE_BOUND, kill).await {
            Err(EngineError::NotFound(_) | EngineError::Conflict(_)) => Ok(()),
            other => other,
        }
    }

    async fn update(&self, container: &str, resources: &Resources) -> Result<(), EngineError> {
        let update = self.docker().update_container(container, translate::update_body(resources));
        self.call(|| format!("update container {container}"), CHANGE_BOUND, update).await
    }

    async fn remove(&self, container: &str) -> Result<(), EngineError> {
        let mut wait = Duration::from_millis(20);
        for _ in 1..REMOVAL_TRIES {
            let options = query::RemoveContainerOptions { force: true, v: true, ..Default::default() };
            let removal = self.docker().remove_container(container, Some(options));
            match self.call(|| format!("remove container {container}"), CHANGE_BOUND, removal).await {
                Ok(()) | Err(EngineError::NotFound(_)) => return Ok(()),
                // Somebody else's removal is under way; gone means gone, so wait for it.
                Err(EngineError::Conflict(text)) if text.contains("already in progress") => {}
                Err(err) => return Err(err),
            }
            tokio::time::sleep(wait).await;
            wait *= 2;
        }
        Err(EngineError::Failed(format!("remove container {container}: another removal does not come to an end")))
    }

    async fn upload(&self, container: &str, directory: &str, tar: Bytes) -> Result<(), EngineError> {
        let options = query::UploadToContainerOptions { path: directory.into(), ..Default::default() };
        let upload = self.docker().upload_to_container(container, Some(options), bollard::body_full(tar));
        self.call(|| format!("upload into {directory} of container {container}"), CHANGE_BOUND, upload).await
    }

    async fn copy_image_files(&self, from: &str, to: &str, directory: &str) -> Result<(), EngineError> {
        let mut files = ImageFiles::default();
        let pass_on = move |chunk: Result<Bytes, Error>| files.feed(&chunk.map_err(std::io::Error::other)?);
        let body = bollard::body_try_stream(self.docker().export_container(from).map(pass_on));
        let options = query::UploadToContainerOptions { path: directory.into(), ..Default::default() };
        let upload = self.docker().upload_to_container(to, Some(options), body);
        let what = || format!("copy the files of container {from} into {directory} of container {to}");
        self.call(what, COPY_BOUND, upload).await
    }

    async fn file_end(&self, container: &str, path: &str, bytes_max: usize) -> Result<Option<FileEnd>, EngineError> {
        let what = || format!("read {path} in container {container}");
        let options = query::ContainerArchiveInfoOptions { path: path.into() };
        let look = self.docker().get_container_archive_info(container, Some(options));
        let Some(look) = found(self.call(what, READ_BOUND, look).await)? else { return Ok(None) };
        let Some((size_bytes, modified_at)) = translate::regular_file(&look) else { return Ok(None) };
        if size_bytes > FILE_BYTES_MAX {
            let why = format!("it has {size_bytes} bytes and may have {FILE_BYTES_MAX}");
            return Err(EngineError::Invalid(format!("{}: {why}", what())));
        }
        let content = match size_bytes {
            0 => Bytes::new(),
            _ => self.call(what, READ_BOUND, self.download(container, path)).await?,
        };
        let content = content.slice(content.len().saturating_sub(bytes_max)..);
        Ok(Some(FileEnd { size_bytes, modified_at, content }))
    }

    async fn exec(&self, container: &str, command: &[String], timeout: Duration) -> Result<ExecOutput, EngineError> {
        let what = || format!("exec in container {container}");
        let options = CreateExecOptions {
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            cmd: Some(command.to_vec()),
            ..Default::default()
        };
        let mut made = None;
        let run = async {
            let exec = self.docker().create_exec(container, options).await?.id;
            made = Some(exec.clone());
            self.run_exec(&exec).await
        };
        if let Ok(ended) = tokio::time::timeout(timeout, run).await {
            return ended.map_err(|err| meaning(&what(), &err, &self.0.endpoint));
        }
        let process = match made {
            Some(exec) => self.process_of(&exec).await,
            None => None,
        };
        Err(EngineError::Overdue(what(), timeout, process))
    }

    async fn exec_session(
        &self,
        container: &str,
        command: &[String],
        connected: Connected,
    ) -> Result<Session, EngineError> {
        sessions::exec(self, container, command, connected).await
    }

    async fn attach(&self, container: &str, connected: Connected) -> Result<Session, EngineError> {
        sessions::attach(self, container, connected).await
    }

    async fn logs(
        &self,
        container: &str,
        options: &LogOptions,
    ) -> Result<BoxStream<'static, Result<Bytes, EngineError>>, EngineError> {
        let what = format!("read log of container {container}");
        // The log's own request says nothing until the first line; whether there is such a container is asked before.
        if self.inspect(container).await?.is_none() {
            return Err(EngineError::NotFound(format!("{what}: No such container: {container}")));
        }
        let tail = match options.tail {
            Some(lines) => {
                let found = logs::find_tail(self.docker(), container, lines);
                self.call(|| what.clone(), READ_BOUND, found).await?
            }
            None => None,
        };
        let endpoint = self.0.endpoint.clone();
        let asked = translate::log_options(&logs::request(options, tail));
        let log = logs::text(self.docker().logs(container, Some(asked)), options, tail);
        Ok(log.map_err(move |err| meaning(&what, &err, &endpoint)).boxed())
    }

    fn events(&self) -> BoxStream<'static, EngineEvent> {
        events::follow(self.docker().clone(), self.0.cluster.clone(), self.0.connected_at.clone())
    }

    async fn image(&self, reference: &str) -> Result<Option<Image>, EngineError> {
        check_reference(reference)?;
        let inspection = self.docker().inspect_image(reference);
        let inspected = self.call(|| format!("inspect image {reference}"), READ_BOUND, inspection).await;
        Ok(found(inspected)?.map(translate::image))
    }

    async fn images(&self) -> Result<Vec<Image>, EngineError> {
        for _ in 1..LIST_TRIES {
            match self.list_images().await {
                Err(EngineError::NotFound(_) | EngineError::Failed(_)) => {}
                listed => return listed,
            }
        }
        self.list_images().await
    }

    async fn pull(
        &self,
        reference: &str,
        credentials: Option<&Credentials>,
        progress: &PullProgress,
    ) -> Result<(), PullError> {
        check_reference(reference).map_err(|err| PullError::Refused(err.to_string()))?;
        let (from_image, tag) = translate::split_reference(reference);
        let options = query::CreateImageOptions { from_image: Some(from_image), tag: Some(tag), ..Default::default() };
        let credentials = credentials.map(translate::credentials);
        let mut layers = Layers::default();
        let note = |told: models::CreateImageInfo| {
            let bytes = told
                .progress_detail
                .and_then(|detail| Some((u64::try_from(detail.current?).ok()?, u64::try_from(detail.total?).ok()?)));
            let (layer, status) = (told.id.unwrap_or_default(), told.status.unwrap_or_default());
            layers.note(&layer, &status, bytes, progress);
        };
        follow(self.docker().create_image(Some(options), None, credentials), note).await
    }

    async fn find_in_registry(&self, reference: &str, credentials: Option<&Credentials>) -> Result<(), PullError> {
        check_reference(reference).map_err(|err| PullError::Refused(err.to_string()))?;
        let asked = self.docker().inspect_registry_image(reference, credentials.map(translate::credentials));
        match timeout(PULL_STALL_BOUND, asked).await {
            Ok(found) => found.map(drop).map_err(|err| translate::pull_error(&err)),
            Err(_) => Err(PullError::Failed(format!("no answer within {PULL_STALL_BOUND:?}"))),
        }
    }

    async fn push(&self, reference: &str, credentials: Option<&Credentials>) -> Result<(), PullError> {
        check_reference(reference).map_err(|err| PullError::Refused(err.to_string()))?;
        let (name, tag) = translate::split_reference(reference);
        let options = query::PushImageOptions { tag: Some(tag), ..Default::default() };
        let credentials = credentials.map(translate::credentials);
        follow(self.docker().push_image(&name, Some(options), credentials), drop).await
    }

    async fn import_image(
        &self,
        reference: &str,
        tar: Bytes,
        entrypoint: &[String],
        labels: &BTreeMap<String, String>,
    ) -> Result<String, EngineError> {
        check_reference(reference)?;
        let what = format!("import image {reference}");
        let (repo, tag) = translate::split_reference(reference);
        let options = query::CreateImageOptions {
            from_src: Some("-".into()),
            repo: Some(repo),
            tag: Some(tag),
            changes: translate::changes(entrypoint, labels),
            ..Default::default()
        };
        let import = self.docker().create_image(Some(options), Some(bollard::body_full(tar)), None);
        self.call(|| what.clone(), CHANGE_BOUND, import.try_for_each(|_| async { Ok(()) })).await?;
        let image = self.image(reference).await?;
        image
            .map(|image| image.id)
            .ok_or_else(|| EngineError::Failed(format!("{what}: the image is not there afterwards")))
    }

    async fn derive_image(
        &self,
        base: &str,
        reference: &str,
        entrypoint: &[String],
        labels: &BTreeMap<String, String>,
    ) -> Result<String, EngineError> {
        check_reference(base)?;
        check_reference(reference)?;
        let what = format!("make image {reference} from {base}");
        // Of the cluster, so that one that is left by a process that ended in between goes with the cluster's strays.
        let own = Some(self.labels(&BTreeMap::new()));
        let body = models::ContainerCreateBody { image: Some(base.into()), labels: own, ..Default::default() };
        let created = self.docker().create_container(None::<query::CreateContainerOptions>, body);
        let container = self.call(|| what.clone(), CHANGE_BOUND, created).await?.id;
        let (repo, tag) = translate::split_reference(reference);
        let options = query::CommitContainerOptions {
            container: Some(container.clone()),
            repo: Some(repo),
            tag: Some(tag),
            changes: Some(translate::changes(entrypoint, &of_no_cluster(labels)).join("\n")),
            ..Default::default()
        };
        let commit = self.docker().commit_container(options, models::ContainerConfig::default());
        let committed = self.call(|| what.clone(), CHANGE_BOUND, commit).await;
        self.remove(&container).await?;
        Ok(committed?.id)
    }

    async fn tag_image(&self, image: &str, reference: &str) -> Result<(), EngineError> {
        check_reference(image)?;
        check_reference(reference)?;
        let (repo, tag) = translate::split_reference(reference);
        let options = query::TagImageOptions { repo: Some(repo), tag: Some(tag) };
        let tagging = self.docker().tag_image(image, Some(options));
        self.call(|| format!("tag image {image} as {reference}"), CHANGE_BOUND, tagging).await
    }

    async fn remove_image(&self, reference: &str) -> Result<(), EngineError> {
        check_reference(reference)?;
        let removal = self.docker().remove_image(reference, None::<query::RemoveImageOptions>, None);
        found(self.call(|| format!("remove image {reference}"), CHANGE_BOUND, removal).await).map(|_| ())
    }

    async fn network(&self, name: &str) -> Result<Option<Network>, EngineError> {
        let inspection = self.docker().inspect_network(name, None);
        let inspected = found(self.call(|| format!("inspect network {name}"), READ_BOUND, inspection).await)?;
        // The engine also takes the beginning of an ID for a name.
        let network = inspected.map(translate::network).transpose()?;
        Ok(network.filter(|network| network.name == name || network.id == name))
    }

    async fn create_network(&self, spec: &NetworkSpec) -> Result<Network, EngineError> {
        let what = format!("create network {}", spec.name);
        // Before API 1.44 the engine allows two networks of one name; the range's owner is still only one.
        if self.network(&spec.name).await?.is_some() {
            return Err(EngineError::Conflict(format!("{what}: network with name {} already exists", spec.name)));
        }
        let body = translate::network_body(spec, self.labels(&spec.labels));
        self.call(|| what.clone(), CHANGE_BOUND, self.docker().create_network(body)).await?;
        let network = self.network(&spec.name).await?;
        network.ok_or_else(|| EngineError::Failed(format!("{what}: the network is not there afterwards")))
    }

    async fn remove_network(&self, name: &str) -> Result<(), EngineError> {
        let removal = self.docker().remove_network(name);
        found(self.call(|| format!("remove network {name}"), CHANGE_BOUND, removal).await).map(|_| ())
    }

    async fn create_memory_volume(
        &self,
        name: &str,
        memory: MemoryVolume,
        labels: &BTreeMap<String, String>,
    ) -> Result<(), EngineError> {
        let size = memory.bytes_max.map(|bytes| format!(",size={bytes}")).unwrap_or_default();
        let group = memory.group.map(|group| format!(",gid={group}")).unwrap_or_default();
        self.create_tmpfs(name, format!("mode={:o}{size}{group}", memory.mode), labels).await.map(drop)
    }

    async fn create_shared_volume(&self, name: &str, labels: &BTreeMap<String, String>) -> Result<String, EngineError> {
        // The engine itself marks the mount as shared, so it does not matter whether those of its host are.
        self.create_tmpfs(name, "shared,mode=0700,size=1m".to_owned(), labels).await
    }

    async fn create_volume(&self, name: &str, labels: &BTreeMap<String, String>) -> Result<String, EngineError> {
        let body = models::VolumeCreateRequest {
            name: Some(name.into()),
            labels: Some(self.labels(labels)),
            ..Default::default()
        };
        let creation = self.docker().create_volume(body);
        Ok(self.call(|| format!("create volume {name}"), CHANGE_BOUND, creation).await?.mountpoint)
    }

    async fn volumes(&self) -> Result<Vec<String>, EngineError> {
        let options = query::ListVolumesOptions { filters: Some(self.cluster_filter()) };
        let listed = self.docker().list_volumes(Some(options));
        let listed = self.call(|| "list volumes".into(), READ_BOUND, listed).await?;
        let mut names: Vec<String> = listed.volumes.unwrap_or_default().into_iter().map(|volume| volume.name).collect();
        names.sort_list();
        Ok(names)
    }

    async fn remove_volume(&self, name: &str) -> Result<(), EngineError> {
        let removal = self.docker().remove_volume(name, None::<query::RemoveVolumeOptions>);
        found(self.call(|| format!("remove volume {name}"), CHANGE_BOUND, removal).await).map(|_| ())
    }
}

/// The labels of an image that is made of a container of the cluster: whoever runs it later is not of the cluster for that.
fn of_no_cluster(labels: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    labels
        .iter()
        .map(|(k, v)| (k.clone(), v.clone()))
        .chain([(CLUSTER_LABEL.to_owned(), String::new())])
        .collect_ordered()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn says(status_code: u16, message: &str) -> EngineError {
        let err = Error::DockerResponseServerError { status_code, message: message.into() };
        meaning("do a thing", &err, &Endpoint::Unix("/run/x.sock".into()))
    }

    #[test]
    fn an_answer_has_a_meaning_and_keeps_its_text() {
        assert!(matches!(says(404, "no"), EngineError::NotFound(text) if text == "do a thing: no"));
        assert!(matches!(says(409, "taken"), EngineError::Conflict(_)));
        assert!(matches!(says(403, "Pool overlaps with other one"), EngineError::Conflict(_)));
        assert!(matches!(says(403, "forbidden"), EngineError::Invalid(_)));
        assert!(matches!(says(400, "bad"), EngineError::Invalid(_)));
        assert!(matches!(says(500, "oops"), EngineError::Failed(_)));
        assert!(matches!(says(500, "joining network namespace: No such container: x"), EngineError::NotFound(_)));
    }

    #[test]
    fn references_cannot_leave_their_place_in_a_path() {
        for good in ["nginx", "docker.io/library/nginx:1.27", "localhost:5000/a/b@sha256:00", "sha256:abc"] {
            assert!(check_reference(good).is_ok(), "{good}");
        }
        for bad in ["", "a b", "a?force=1", "x/../../containers/y", "../x", "a#b", "a%2fb"] {
            assert!(matches!(check_reference(bad), Err(EngineError::Invalid(_))), "{bad}");
        }
    }
}
