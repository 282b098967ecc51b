//! `skiff doctor`: looks at what skiff needs of this machine, says what is wrong and what to do; `--fix` does it.

mod machine;

use super::output;
use crate::{
    app::{FOLDER_LABEL, cidr, data_dir::DataDir, host},
    base::{clock::Clock, runtime::block_on},
    engine::{Engine, EngineInfo, docker::DockerEngine},
};
use anyhow::{Context as _, bail};
use std::{
    fs,
    net::TcpListener,
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

/// How long a started engine may take to answer.
const ENGINE_START_MAX: Duration = Duration::from_mins(1);
/// The oldest engine whose API skiff speaks.
const ENGINE_VERSION_MIN: u64 = 20;
/// Where an engine that skiff started writes its log.
const ENGINE_LOG: &str = "/var/log/skiff-dockerd.log";

/// Arguments of `skiff doctor`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  skiff doctor\n  sudo skiff doctor --fix")]
pub(super) struct Args {
    /// Mend what can be mended safely, as root: install and start Docker when it is missing (Debian and Ubuntu), let the kernel forward
    #[arg(long)]
    fix: bool,
}

/// What a check found.
enum Finding {
    Fine(String),
    Note(String),
    Wrong(String),
}

pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    if args.fix {
        fix()?;
    }
    let mut findings = block_on(engine())?;
    findings.extend(block_on(ranges())?.unwrap_or_else(|err| vec![Finding::Wrong(format!("{err:#}"))]));
    findings.extend(block_on(leftovers())?.unwrap_or_else(|err| vec![Finding::Wrong(format!("{err:#}"))]));
    findings.extend(machine::disk());
    findings.push(clock());
    findings.extend(machine::forwarding());
    findings.extend(machine::firewalls());
    findings.extend([api_port(), kubectl()]);
    let mut wrong = 0;
    for finding in findings {
        match finding {
            Finding::Fine(text) => output::done(text),
            Finding::Note(text) => output::warning(text),
            Finding::Wrong(text) => {
                wrong += 1;
                output::failed(text);
            }
        }
    }
    match wrong {
        0 => Ok(()),
        n => bail!("{n} of the checks failed: see above for what to do"),
    }
}

async fn engine() -> Vec<Finding> {
    match engine_info().await {
        Ok(info) if major(&info.version) < ENGINE_VERSION_MIN => {
            vec![Finding::Wrong(format!("Docker {} is too old: skiff needs 20.10 or newer", info.version))]
        }
        Ok(info) => {
            let answers = format!(
                "Docker {} answers (API {}, {}, kernel {})",
                info.version, info.api_version, info.os, info.kernel
            );
            let more = [machine::rootless(&info), Some(machine::cgroups(&info))];
            std::iter::once(Finding::Fine(answers)).chain(more.into_iter().flatten()).collect()
        }
        Err(err) => vec![Finding::Wrong(format!("{err:#}"))],
    }
}

/// What clusters have left whose state is gone.
async fn leftovers() -> anyhow::Result<Vec<Finding>> {
    // Without an engine there is none, and the first check has said so.
    let Ok(engine) = DockerEngine::connect("").await else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    for cluster in engine.neighbours().await?.clusters {
        let network = engine.network(&cidr::network_name(&cluster)).await?;
        let folder =
            network.as_ref().and_then(|network| network.labels.get(FOLDER_LABEL)).filter(|folder| !folder.is_empty());
        found.extend(leftover(&cluster, folder.map(String::as_str), |folder| Path::new(folder).exists()));
    }
    Ok(found)
}

fn leftover(cluster: &str, folder: Option<&str>, exists: impl Fn(&str) -> bool) -> Option<Finding> {
    let folder = folder.filter(|folder| !exists(folder))?;
    Some(Finding::Note(format!(
        "the cluster {cluster} is still in Docker, and its state in {folder} is gone: `skiff down --name {cluster} --data-dir {folder}` removes it, \
         `skiff up --name {cluster} --adopt` takes it over"
    )))
}

/// Whether the clock is behind what was written by it.
fn clock() -> Finding {
    let program = std::env::current_exe().unwrap_or_default();
    let state = DataDir::default_path("skiff").unwrap_or_default();
    let (store, access) = (DataDir::at(&state).store(), DataDir::at(&state).access());
    machine::clock(&[&program, &store, &access], Clock::system().now().into())
}

/// Whether the range of a cluster hides an address that the machine uses.
async fn ranges() -> anyhow::Result<Vec<Finding>> {
    // Without an engine there is no cluster, and the first check has said so.
    let Ok(engine) = DockerEngine::connect("skiff").await else { return Ok(Vec::new()) };
    let used = host::used(&engine.info().await?.address_pools).await;
    let mut found = Vec::new();
    for cluster in engine.neighbours().await?.clusters.into_iter().chain(["skiff".to_owned()]) {
        if let Some(network) = engine.network(&cidr::network_name(&cluster)).await? {
            found.extend(cidr::hides(&cluster, &network, &used)?.into_iter().map(Finding::Wrong));
        }
    }
    if found.is_empty() {
        found.push(Finding::Fine("no cluster's range hides an address that this machine uses".into()));
    }
    Ok(found)
}

async fn engine_info() -> anyhow::Result<EngineInfo> {
    Ok(DockerEngine::connect("skiff").await?.info().await?)
}

fn major(version: &str) -> u64 {
    version.split('.').next().and_then(|n| n.parse().ok()).unwrap_or(u64::MAX)
}

fn api_port() -> Finding {
    match TcpListener::bind(("127.0.0.1", 6443)) {
        Ok(_) => Finding::Fine("port 6443 is free for the API".into()),
        Err(err) => Finding::Note(format!(
            "port 6443 is not free ({err}): fine when skiff runs; else choose another with `skiff up --api-address`"
        )),
    }
}

fn kubectl() -> Finding {
    match Command::new("kubectl").args(["version", "--client"]).stderr(Stdio::null()).output() {
        Ok(found) if found.status.success() => {
            let text = String::from_utf8_lossy(&found.stdout);
            Finding::Fine(format!("kubectl is there ({})", text.lines().next().unwrap_or_default()))
        }
        _ => Finding::Note("kubectl is not on the PATH: install it to talk to the cluster".into()),
    }
}

/// Installs Docker when it is missing and starts it when it does not run.
pub(super) fn fix() -> anyhow::Result<()> {
    if rustix::process::geteuid().is_root() && machine::fix_forwarding().context("cannot let the kernel forward")? {
        output::done("the kernel forwards what pods send");
    }
    if block_on(engine_info())?.is_ok() {
        return Ok(());
    }
    if !rustix::process::geteuid().is_root() {
        bail!(
            "Docker does not answer, and only root can install and start it: run this with sudo, or start Docker yourself"
        );
    }
    if !on_path("dockerd") {
        install()?;
    }
    start()?;
    block_on(wait_for_engine())?
}

fn on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]).any(|dir| dir.join(program).is_file())
}

fn install() -> anyhow::Result<()> {
    if !on_path("apt-get") {
        bail!(
            "Docker is not installed and this is neither Debian nor Ubuntu: install Docker as its documentation says"
        );
    }
    output::line("Docker is not installed; installing docker.io …");
    apt(&["update", "-qq"])?;
    apt(&["install", "-y", "-qq", "docker.io"])?;
    output::done("installed docker.io");
    Ok(())
}

fn apt(args: &[&str]) -> anyhow::Result<()> {
    let out = Command::new("apt-get")
        .args(args)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdin(Stdio::null())
        .output()
        .context("cannot run apt-get")?;
    if !out.status.success() {
        let text = String::from_utf8_lossy(&out.stderr);
        bail!("`apt-get {}` failed: {}", args.join(" "), text.trim());
    }
    Ok(())
}

/// Starts the engine: through systemd where it runs, by hand elsewhere.
fn start() -> anyhow::Result<()> {
    output::line("starting Docker …");
    if Path::new("/run/systemd/system").exists() {
        let status = Command::new("systemctl").args(["start", "docker"]).status().context("cannot run systemctl")?;
        if !status.success() {
            bail!("`systemctl start docker` failed: `journalctl -u docker` tells why");
        }
        return Ok(());
    }
    let log = fs::File::create(ENGINE_LOG).with_context(|| format!("cannot write {ENGINE_LOG}"))?;
    // A process group of its own, so that Ctrl-C on skiff does not end the engine.
    Command::new("dockerd")
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .process_group(0)
        .spawn()
        .context("cannot start dockerd")?;
    Ok(())
}

async fn wait_for_engine() -> anyhow::Result<()> {
    let answers = async {
        let mut every = tokio::time::interval(Duration::from_millis(100));
        loop {
            every.tick().await;
            if let Ok(info) = engine_info().await {
                return info;
            }
        }
    };
    match tokio::time::timeout(ENGINE_START_MAX, answers).await {
        Ok(info) => {
            output::done(format!("Docker {} runs", info.version));
            Ok(())
        }
        Err(_) => bail!("Docker was started and does not answer: its log is {ENGINE_LOG} (or `journalctl -u docker`)"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_whose_state_is_gone_is_named() {
        assert!(leftover("two", Some("/gone"), |_| false).is_some());
        assert!(leftover("two", Some("/there"), |_| true).is_none() && leftover("two", None, |_| false).is_none());
    }
}
