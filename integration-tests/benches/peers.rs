//! One program, by skiff and by what else runs manifests on this machine: how long from the command until it answers on a port of
//! `localhost`, and from the kill of its container until it answers again. `inf`: not within [`HEAL_MAX`].
//!
//! `docker run` is the floor. `docker-compose` and `podman` (Debian's packages) are measured where they are installed; kind, k3d and minikube
//! have no row where their node images cannot be pulled. Run it with `cargo bench --bench peers`; Docker must run.
#![allow(clippy::disallowed_methods, reason = "a benchmark measures real time, and runs programs")]

#[path = "../harness/bench.rs"]
mod bench;
#[allow(dead_code, reason = "a benchmark needs not every figure")]
#[path = "../harness/stats.rs"]
mod stats;

use anyhow::{Context as _, bail, ensure};
use bench::{IMAGE, command, free_port, stop};
use stats::{median, millis, row};
use std::{
    fs,
    io::{Read as _, Write as _},
    net::{Ipv4Addr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

const ROUNDS: usize = 5;
/// How long a start may take.
const START_MAX: Duration = Duration::from_secs(60);
/// How long it is waited for healing.
const HEAL_MAX: Duration = Duration::from_secs(5);
/// How often it is asked.
const PACE: Duration = Duration::from_millis(2);
/// The name of what is made.
const THING: &str = "skiff-bench-peer";

fn main() -> anyhow::Result<()> {
    ensure!(runs(&mut Command::new(env!("CARGO_BIN_EXE_skiff")), &["demo", "load"]), "the demo image cannot be made");
    let floor = measure(&mut DockerRun)?;
    tell("docker run", &floor, None);
    if runs(&mut Command::new("docker-compose"), &["version"]) {
        tell("docker-compose up -d, `restart: always`", &measure(&mut Compose::new()?)?, None);
    }
    if runs(&mut Command::new("podman"), &["version"]) {
        tell("podman kube play", &measure(&mut Podman::new()?)?, None);
    }
    tell("skiff up -f, from nothing", &measure(&mut SkiffUp::new()?)?, None);
    let mut there = SkiffThere::new()?;
    tell("kubectl apply, while skiff runs", &measure(&mut there)?, Some(floor));
    Ok(())
}

/// The medians in milliseconds.
struct Figures {
    start: f64,
    heal: f64,
}

/// A way to run the program.
trait Peer {
    /// Begins it, with this port of `localhost`.
    fn start(&mut self, port: u16) -> anyhow::Result<()>;
    /// Kills its container.
    fn kill(&mut self) -> anyhow::Result<()>;
    /// Removes it.
    fn end(&mut self) -> anyhow::Result<()>;
}

fn measure(peer: &mut dyn Peer) -> anyhow::Result<Figures> {
    let (mut starts, mut heals) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let port = free_port()?;
        let begun = Instant::now();
        let outcome = peer.start(port).and_then(|()| {
            starts.push(millis(answered(port, begun, START_MAX).context("it does not answer")?));
            let killed = Instant::now();
            peer.kill()?;
            heals.push(answered(port, killed, HEAL_MAX).map_or(f64::INFINITY, millis));
            Ok(())
        });
        peer.end()?;
        outcome?;
    }
    Ok(Figures { start: median(&mut starts), heal: median(&mut heals) })
}

fn tell(what: &str, figures: &Figures, floor: Option<Figures>) {
    // A pod is two containers, one after the other.
    let start_max = floor.as_ref().map_or(f64::INFINITY, |floor| floor.start * 2.0);
    row(&format!("{what}: until it answers"), figures.start, "ms", start_max, figures.start <= start_max);
    row(&format!("{what}: killed, until it answers again"), figures.heal, "ms", f64::INFINITY, true);
}

/// How long from then until the program says its name; `None`: not within the bound.
fn answered(port: u16, since: Instant, bound: Duration) -> Option<Duration> {
    while since.elapsed() < bound {
        if says_its_name(port).unwrap_or(false) {
            return Some(since.elapsed());
        }
        sleep(PACE);
    }
    None
}

fn says_its_name(port: u16) -> std::io::Result<bool> {
    let mut connection = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    connection.set_read_timeout(Some(Duration::from_secs(1)))?;
    connection.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let mut text = String::new();
    connection.read_to_string(&mut text)?;
    Ok(text.contains("kubernetes-spring"))
}

fn runs(command: &mut Command, args: &[&str]) -> bool {
    let command = command.args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

fn run(program: &str, args: &[&str]) -> anyhow::Result<()> {
    ensure!(runs(&mut Command::new(program), args), "{program} {args:?} failed");
    Ok(())
}

struct DockerRun;

impl Peer for DockerRun {
    fn start(&mut self, port: u16) -> anyhow::Result<()> {
        run(
            "docker",
            &["run", "-d", "--restart=always", "--name", THING, "-p", &format!("127.0.0.1:{port}:8080"), IMAGE],
        )
    }

    fn kill(&mut self) -> anyhow::Result<()> {
        run("docker", &["kill", THING])
    }

    fn end(&mut self) -> anyhow::Result<()> {
        run("docker", &["rm", "-f", THING])
    }
}

struct Compose {
    folder: tempfile::TempDir,
}

impl Compose {
    fn new() -> anyhow::Result<Self> {
        Ok(Self { folder: tempfile::tempdir()? })
    }

    fn run(&self, args: &[&str]) -> anyhow::Result<()> {
        let file = self.folder.path().join("compose.yaml").display().to_string();
        run("docker-compose", &[&["-f", &file, "-p", THING], args].concat())
    }
}

impl Peer for Compose {
    fn start(&mut self, port: u16) -> anyhow::Result<()> {
        let service =
            format!("{{image: '{IMAGE}', restart: always, container_name: {THING}, ports: ['127.0.0.1:{port}:8080']}}");
        let text = format!("version: '3'\nservices: {{web: {service}}}\n");
        fs::write(self.folder.path().join("compose.yaml"), text)?;
        self.run(&["up", "-d"])
    }

    fn kill(&mut self) -> anyhow::Result<()> {
        run("docker", &["kill", THING])
    }

    fn end(&mut self) -> anyhow::Result<()> {
        self.run(&["down", "-t", "1"])
    }
}

/// A Deployment of one pod that is reached at a host's port, or by a node port of a Service.
fn manifest(image: &str, host_port: Option<u16>, node_port: Option<u16>) -> String {
    let port = host_port.map_or_else(String::new, |port| format!("hostPort: {port}, hostIP: 127.0.0.1, "));
    let container =
        format!("{{name: c, image: '{image}', imagePullPolicy: IfNotPresent, ports: [{{{port}containerPort: 8080}}]}}");
    let template = format!(
        "{{metadata: {{labels: {{app: {THING}}}}}, spec: {{terminationGracePeriodSeconds: 1, containers: [{container}]}}}}"
    );
    let spec = format!("{{replicas: 1, selector: {{matchLabels: {{app: {THING}}}}}, template: {template}}}");
    let deployment = format!("{{apiVersion: apps/v1, kind: Deployment, metadata: {{name: {THING}}}, spec: {spec}}}\n");
    let service = node_port.map_or_else(String::new, |port| {
        let ports = format!("[{{port: 8080, nodePort: {port}}}]");
        let spec = format!("{{type: NodePort, selector: {{app: {THING}}}, ports: {ports}}}");
        format!("---\n{{apiVersion: v1, kind: Service, metadata: {{name: {THING}}}, spec: {spec}}}\n")
    });
    deployment + &service
}

struct Podman {
    folder: tempfile::TempDir,
}

impl Podman {
    /// Its images are its own.
    fn new() -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let archive = folder.path().join("image.tar").display().to_string();
        run("docker", &["save", "-o", &archive, IMAGE])?;
        run("podman", &["load", "-i", &archive])?;
        Ok(Self { folder })
    }

    fn file(&self) -> String {
        self.folder.path().join("play.yaml").display().to_string()
    }
}

impl Peer for Podman {
    fn start(&mut self, port: u16) -> anyhow::Result<()> {
        fs::write(self.file(), manifest(&format!("localhost/{IMAGE}"), Some(port), None))?;
        run("podman", &["kube", "play", &self.file()])
    }

    fn kill(&mut self) -> anyhow::Result<()> {
        run("podman", &["kill", &format!("{THING}-pod-0-c")])
    }

    fn end(&mut self) -> anyhow::Result<()> {
        run("podman", &["kube", "down", &self.file()])
    }
}

/// The container of the pod that skiff made, as a user finds it.
fn kill_pod() -> anyhow::Result<()> {
    let found = Command::new("docker")
        .args(["ps", "-q", "--filter", "label=io.kubernetes.container.name=c", "--filter", &format!("name={THING}")])
        .output()?;
    let id = String::from_utf8(found.stdout)?;
    run("docker", &["kill", id.trim()])
}

/// The control plane's own start is part of it; the image of the data plane is there, as after a first start.
struct SkiffUp {
    home: tempfile::TempDir,
    control: Option<Child>,
}

impl SkiffUp {
    fn new() -> anyhow::Result<Self> {
        let mut peer = Self { home: tempfile::tempdir()?, control: None };
        // Once before, so that the images are made.
        let port = free_port()?;
        peer.start(port)?;
        let outcome = answered(port, Instant::now(), START_MAX).context("skiff does not answer");
        peer.end()?;
        outcome.map(|_| peer)
    }
}

impl Peer for SkiffUp {
    fn start(&mut self, port: u16) -> anyhow::Result<()> {
        let file = self.home.path().join("app.yaml");
        fs::write(&file, manifest(IMAGE, None, Some(port)))?;
        self.control = Some(up(self.home.path(), port, Some(&file))?);
        Ok(())
    }

    fn kill(&mut self) -> anyhow::Result<()> {
        kill_pod()
    }

    fn end(&mut self) -> anyhow::Result<()> {
        down(self.home.path(), self.control.take())
    }
}

fn up(home: &Path, node_port: u16, file: Option<&Path>) -> anyhow::Result<Child> {
    let api = format!("127.0.0.1:{}", free_port()?);
    let range = format!("{node_port}-{node_port}");
    let mut args =
        vec!["up", "--api-address", &api, "--service-node-port-range", &range, "--dashboard-address", "none"];
    let file = file.map(|file| file.display().to_string());
    args.extend(file.iter().flat_map(|file| ["-f", file.as_str()]));
    Ok(command(home, &args).spawn()?)
}

fn down(home: &Path, control: Option<Child>) -> anyhow::Result<()> {
    if let Some(mut control) = control {
        stop(&mut control)?;
    }
    ensure!(command(home, &["down"]).status()?.success(), "skiff down failed");
    Ok(())
}

/// A cluster that is there already, for which node ports are any.
struct SkiffThere {
    home: tempfile::TempDir,
    control: Option<Child>,
    file: PathBuf,
}

impl SkiffThere {
    fn new() -> anyhow::Result<Self> {
        let home = tempfile::tempdir()?;
        let api = format!("127.0.0.1:{}", free_port()?);
        let args =
            ["up", "--api-address", &api, "--service-node-port-range", "1024-65535", "--dashboard-address", "none"];
        let mut peer =
            Self { control: Some(command(home.path(), &args).spawn()?), file: home.path().join("app.yaml"), home };
        let port = free_port()?;
        let since = Instant::now();
        while peer.start(port).is_err() {
            if since.elapsed() > START_MAX {
                bail!("skiff does not take a manifest");
            }
            sleep(PACE);
        }
        answered(port, since, START_MAX).context("skiff does not answer")?;
        peer.end()?;
        Ok(peer)
    }

    fn kubectl(&self, verb: &str) -> anyhow::Result<()> {
        let file = self.file.display().to_string();
        let status = command(self.home.path(), &["kubectl", verb, "-f", &file]).stderr(Stdio::null()).status()?;
        ensure!(status.success(), "skiff kubectl {verb} failed");
        Ok(())
    }
}

impl Peer for SkiffThere {
    fn start(&mut self, port: u16) -> anyhow::Result<()> {
        fs::write(&self.file, manifest(IMAGE, None, Some(port)))?;
        self.kubectl("apply")
    }

    fn kill(&mut self) -> anyhow::Result<()> {
        kill_pod()
    }

    fn end(&mut self) -> anyhow::Result<()> {
        self.kubectl("delete")
    }
}

impl Drop for SkiffThere {
    fn drop(&mut self) {
        drop(down(self.home.path(), self.control.take()));
    }
}
