//! A control plane in the background: a container of skiff's own image that has Docker's socket and the folders of the cluster, and that
//! Docker starts again whenever it starts itself. So it is back after a reboot, on whatever machine Docker is, by one mechanism.
//!
//! Used by `up -d`, `stop`, `upgrade` and `down`. The container has the host's network, as `docker-compose.yml` has it, and the rights of
//! whoever starts it: user, group, and the group of the socket.
//!
//! **Invariants**: its flags are those of the command line that started it, kept in a label, so that another build can take over; the
//! manifests of that command line are applied once, and not again after a reboot; one that does not come up is removed.
//! **Not here**: the control plane itself, which is `skiff up` (`up`).

use super::output;
use crate::{
    app::data_dir::DataDir,
    base::secret::variable,
    engine::{
        CONTROL_PLANE_LABEL, Container, ContainerSpec, Engine, EngineError, EngineEvent, EventKind, LogOptions, Mount,
        MountSource, NetworkMode, Phase, Propagation, docker::DockerEngine, self_image,
    },
    node::{credentials, sandbox::SHIELDING_RIGHT},
};
use anyhow::{Context as _, bail};
use bytes::Bytes;
use futures::StreamExt as _;
use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _},
    path::{Path, PathBuf},
    time::Duration,
};
use tar::{Builder, Header};

/// What the control plane in the background prints once all is done that it was started for, as the last line of its start.
pub(super) const READY: &str = "skiff runs in the background.";
/// The same when it runs, but not all was done.
pub(super) const READY_IN_PART: &str = "skiff runs in the background, but not all was done.";
/// Where it finds the manifests that it applies once.
const MANIFESTS: &str = "/tmp/manifests.json";
/// The label with the version of skiff that runs in it.
const VERSION_LABEL: &str = "dev.skiff.version";
/// How long it may take to end when it is asked to.
const END_WITHIN: Duration = Duration::from_secs(15);
/// Zones of time, for CronJobs.
const ZONES: &str = "/usr/share/zoneinfo";

/// The name of the container of a cluster's control plane.
fn container_name(cluster: &str) -> String {
    format!("skiff-up-{cluster}")
}

/// How a control plane is started in the background.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Start {
    pub(super) cluster: String,
    /// The folder of the cluster's state.
    pub(super) data_dir: PathBuf,
    /// The kubeconfig that it is merged into.
    pub(super) kubeconfig: Option<PathBuf>,
    /// The other flags of `skiff up`, each one word.
    pub(super) flags: Vec<String>,
}

/// The container of a cluster's control plane, if there is one.
pub(super) async fn find(engine: &DockerEngine, cluster: &str) -> anyhow::Result<Option<Container>> {
    let found = engine.inspect(&container_name(cluster)).await?;
    Ok(found.filter(|container| container.labels.contains_key(CONTROL_PLANE_LABEL)))
}

/// The version of skiff that a container has.
pub(super) fn version(container: &Container) -> &str {
    container.labels.get(VERSION_LABEL).map(String::as_str).unwrap_or_default()
}

/// Starts it, prints what it says until it is ready, and returns then.
///
/// # Errors
/// It runs already; it does not come up: then it is removed, and has said why; it runs, but not everything was applied.
pub(super) async fn start(engine: &DockerEngine, start: &Start, manifests: Option<Vec<u8>>) -> anyhow::Result<()> {
    if let Some(old) = find(engine, &start.cluster).await? {
        if old.phase == Phase::Running {
            bail!(
                "the cluster {} runs in the background already: `skiff stop` stops its control plane, `skiff upgrade` renews it",
                start.cluster
            );
        }
        engine.remove(&old.id).await?;
    }
    let image = self_image::ensure_self_image(engine).await?;
    let id = engine.create(&spec(engine, start, &image, manifests.is_some())?).await?;
    let begun = begin(engine, &id, manifests).await;
    if let Err(err) = begun {
        engine.remove(&id).await?;
        return Err(err).context("cannot start the control plane's container");
    }
    match told(engine, &id).await? {
        Told::Ready => Ok(()),
        Told::ReadyInPart => bail!("the cluster runs, but not all was done: see above"),
        Told::Ended => {
            engine.remove(&id).await?;
            bail!("the control plane did not come up: see above")
        }
    }
}

async fn begin(engine: &DockerEngine, id: &str, manifests: Option<Vec<u8>>) -> anyhow::Result<()> {
    if let Some(manifests) = manifests {
        engine.upload(id, "/", tar_of(&manifests)?).await?;
    }
    Ok(engine.start(id).await?)
}

/// Manifests as an archive that the control plane's user may read and remove.
fn tar_of(manifests: &[u8]) -> anyhow::Result<Bytes> {
    let mut header = Header::new_ustar();
    header.set_size(manifests.len() as u64);
    header.set_mode(0o600);
    header.set_uid(rustix::process::geteuid().as_raw().into());
    header.set_gid(rustix::process::getegid().as_raw().into());
    let mut tar = Builder::new(Vec::new());
    tar.append_data(&mut header, MANIFESTS.trim_start_matches('/'), manifests)?;
    Ok(tar.into_inner()?.into())
}

fn spec(engine: &DockerEngine, start: &Start, image: &str, has_manifests: bool) -> anyhow::Result<ContainerSpec> {
    let address = engine.address();
    let Some(socket) = address.strip_prefix("unix://").map(Path::new) else {
        bail!(
            "a control plane in the background needs Docker's socket, and Docker is at {address}: start `skiff up` without -d"
        )
    };
    let group = fs::metadata(socket).with_context(|| format!("cannot see Docker's socket {}", socket.display()))?.gid();
    let mut mounts = vec![Mount {
        source: MountSource::Existing(socket.display().to_string()),
        target: socket.display().to_string(),
        read_only: false,
        propagation: Propagation::Private,
    }];
    let mut env = vec![
        ("HOME".to_owned(), std::env::var("HOME").unwrap_or_else(|_| "/".to_owned())),
        ("DOCKER_HOST".to_owned(), address.clone()),
    ];
    let folder = |path: &Path, read_only| Mount {
        source: MountSource::Existing(path.display().to_string()),
        target: path.display().to_string(),
        read_only,
        propagation: Propagation::Private,
    };
    mounts.push(folder(&made(&start.data_dir)?, false));
    let mut command = vec!["up".to_owned(), "--in-background".to_owned()];
    match &start.kubeconfig {
        Some(path) => {
            // A linked kubeconfig stays a link: what it leads to is what is written.
            let path = fs::canonicalize(path).or_else(|_| std::path::absolute(path))?;
            let of_config = path.parent().context("a kubeconfig is in a folder")?;
            mounts.push(folder(&made(of_config)?, false));
            env.push(("KUBECONFIG".to_owned(), path.display().to_string()));
        }
        None => command.push("--no-kubeconfig".to_owned()),
    }
    let credentials = credentials::docker_folder().filter(|path| path.is_dir());
    mounts.extend(
        credentials.iter().chain([&PathBuf::from(ZONES)]).filter(|path| path.is_dir()).map(|path| folder(path, true)),
    );
    env.extend(credentials.map(|path| ("DOCKER_CONFIG".to_owned(), path.display().to_string())));
    env.extend(std::env::var("SKIFF_LOG").ok().map(|level| ("SKIFF_LOG".to_owned(), level)));
    command.push(format!("--name={}", start.cluster));
    command.push(format!("--data-dir={}", made(&start.data_dir)?.display()));
    command.extend(start.flags.iter().cloned());
    if has_manifests {
        command.push(format!("--apply-once={MANIFESTS}"));
    }
    let user = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    Ok(ContainerSpec {
        name: container_name(&start.cluster),
        image: image.to_owned(),
        entrypoint: vec!["/skiff".to_owned()],
        command,
        env: env.into_iter().map(|(name, value)| variable(&name, value)).collect(),
        user: format!("{}:{}", user.0, user.1),
        groups: vec![i64::from(group)],
        labels: labels(start),
        network: Some(NetworkMode::Host),
        mounts,
        cap_drop: vec!["ALL".to_owned()],
        cap_add: vec![SHIELDING_RIGHT.to_owned()],
        no_new_privileges: true,
        read_only_root: false,
        restart_with_engine: true,
        ..ContainerSpec::default()
    })
}

/// The folder, by its absolute path, made for this user alone if there is none.
fn made(path: &Path) -> anyhow::Result<PathBuf> {
    let path = std::path::absolute(path)?;
    let making = fs::DirBuilder::new().recursive(true).mode(0o700).create(&path);
    making.with_context(|| format!("cannot make the folder {}", path.display()))?;
    Ok(path)
}

fn labels(start: &Start) -> BTreeMap<String, String> {
    let kept = serde_json::json!({
        "dataDir": start.data_dir, "kubeconfig": start.kubeconfig, "flags": start.flags,
    });
    [(CONTROL_PLANE_LABEL, kept.to_string()), (VERSION_LABEL, env!("CARGO_PKG_VERSION").to_owned())]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
}

/// How a control plane was started, as its container tells.
pub(super) fn start_of(cluster: &str, container: &Container) -> anyhow::Result<Start> {
    let text = container.labels.get(CONTROL_PLANE_LABEL).map(String::as_str).unwrap_or_default();
    let kept: serde_json::Value = serde_json::from_slice(text.as_bytes())
        .with_context(|| format!("the container {} does not say how it was started", container.name))?;
    let path = |field: &str| kept[field].as_str().map(PathBuf::from);
    let flags = kept["flags"].as_array().into_iter().flatten().filter_map(|flag| flag.as_str().map(str::to_owned));
    Ok(Start {
        cluster: cluster.to_owned(),
        data_dir: path("dataDir").map_or_else(|| DataDir::default_path(cluster), Ok)?,
        kubeconfig: path("kubeconfig"),
        flags: flags.collect(),
    })
}

/// What it said at last.
enum Told {
    Ready,
    ReadyInPart,
    Ended,
}

/// Prints what it says until it is ready or ends.
async fn told(engine: &DockerEngine, id: &str) -> anyhow::Result<Told> {
    let mut log = engine.logs(id, &LogOptions { follow: true, ..LogOptions::default() }).await?;
    let mut pending = Vec::new();
    while let Some(chunk) = log.next().await {
        pending.extend_from_slice(&chunk?);
        while let Some(end) = pending.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = pending.drain(..=end).collect();
            match String::from_utf8_lossy(&line).trim_end() {
                READY => return Ok(Told::Ready),
                READY_IN_PART => return Ok(Told::ReadyInPart),
                line => output::line(line),
            }
        }
    }
    output::raw(&String::from_utf8_lossy(&pending));
    Ok(Told::Ended)
}

/// Stops and removes the container of the control plane that runs the cluster from this folder; whether there was one. Pods run on.
pub(super) async fn stop(engine: &DockerEngine, cluster: &str, data_dir: &Path) -> anyhow::Result<bool> {
    let Some(container) = find(engine, cluster).await? else { return Ok(false) };
    // One of another folder is another's: whoever claims the cluster is told where that is.
    if start_of(cluster, &container)?.data_dir != std::path::absolute(data_dir)? {
        return Ok(false);
    }
    if container.phase == Phase::Running {
        end(engine, &container.id).await?;
    }
    engine.remove(&container.id).await?;
    Ok(true)
}

/// Asks it to end, which the engine does not undo, and waits until it has.
async fn end(engine: &DockerEngine, id: &str) -> Result<(), EngineError> {
    let mut events = engine.events();
    // Events after the first are certain to arrive.
    drop(events.next().await);
    engine.kill(id, "SIGTERM").await?;
    let ended = async {
        while let Some(event) = events.next().await {
            if matches!(event, EngineEvent::Container { id: of, kind: EventKind::Died(_), .. } if of == id) {
                return;
            }
        }
    };
    // What does not end is removed as it runs: what it has written is on disk.
    drop(tokio::time::timeout(END_WITHIN, ended).await);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_it_was_started_can_be_read_from_its_container() {
        let start = Start {
            cluster: "two".into(),
            data_dir: "/data/two".into(),
            kubeconfig: Some("/home/me/.kube/config".into()),
            flags: vec!["--api-address=127.0.0.1:7443".into(), "--adopt".into()],
        };
        let container = crate::testing::container("1", labels(&start));
        assert_eq!(start_of("two", &container).unwrap(), start);
        assert_eq!(version(&container), env!("CARGO_PKG_VERSION"));
        let bare = Container { labels: BTreeMap::new(), ..container };
        assert!(start_of("two", &bare).is_err());
    }
}
