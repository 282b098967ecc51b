//! How fast bytes go through the streams of a pod, beside Docker's own commands on the same container, with the budget beside each ratio.
//!
//! A gigabyte by `kubectl exec cat` and `cp`, and a quarter of one by `logs -f`, against `docker exec cat`, `docker cp` and
//! `docker logs -f`; a gigabyte by `port-forward` against a connection to the pod; then how many `exec true` there are in a second. kubectl's own start is part of each of its commands,
//! so the rate of `exec true` is told without it too: less what `kubectl get --raw` and `docker version` take.
//! Run it with `cargo bench --bench streams`; Docker must run.
#![allow(clippy::disallowed_methods, reason = "a benchmark measures real time, and runs programs")]

#[path = "../harness/bench.rs"]
mod bench;
#[allow(dead_code, reason = "a benchmark needs not every figure")]
#[path = "../harness/stats.rs"]
mod stats;
#[allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "a benchmark needs not every tool of the tests")]
#[path = "../harness/tools.rs"]
mod tools;

use anyhow::{Context as _, ensure};
use bench::{NAME, Skiff, is_ready, wait};
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, api::PostParams};
use serde_json::json;
use stats::{median, row};
use std::{
    io::{BufRead as _, BufReader, Read, Write as _},
    net::{SocketAddr, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

const SIZE: u64 = 1 << 30;
const ROUNDS: usize = 3;
const EXECS: usize = 30;
/// How much longer a stream may take than Docker's own.
const RATIO_MAX: f64 = 1.5;
/// How much longer than a connection straight to the pod.
const FORWARD_RATIO_MAX: f64 = 10.0;
/// How many `exec true` there are at least, as a share of Docker's.
const RATE_MIN: f64 = 0.9;

fn main() -> anyhow::Result<()> {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let home = tempfile::tempdir()?;
    let config = home.path().join("kubeconfig");
    let skiff = runtime.block_on(Skiff::up(home))?;
    let pod = runtime.block_on(Subject::begin(&skiff, config))?;
    let parts: [(&str, Part); 5] = [
        ("exec", Subject::bench_exec),
        ("cp", Subject::bench_cp),
        ("logs", Subject::bench_logs),
        ("port-forward", Subject::bench_port_forward),
        ("true", Subject::bench_true),
    ];
    let is_wanted = |part: &str| wanted.is_empty() || wanted.iter().any(|w| w == part);
    parts.iter().filter(|(part, _)| is_wanted(part)).try_for_each(|(_, run)| run(&pod))
}

/// How long a quarter of a gigabyte may be followed; it takes some seconds.
const FOLLOWED_MAX: Duration = Duration::from_secs(90);

/// What is measured of a pod.
type Part = fn(&Subject) -> anyhow::Result<()>;

/// The pod that is measured.
struct Subject {
    config: PathBuf,
    /// The engine's ID of its container.
    container: String,
    /// Where its files are served, without a way around.
    files: SocketAddr,
}

/// A file of a gigabyte, of which a part is printed when that is asked for.
const PROGRAM: &str = "busybox httpd -p 8080 -h /; dd if=/dev/zero of=/f bs=1M count=1024; echo ready; \
     while :; do until rm /print 2>/dev/null; do busybox usleep 20000; done; head -c 268435456 /f | tr '\\0' 'x' | busybox fold -w 1023; echo; echo END; done";

impl Subject {
    async fn begin(skiff: &Skiff, config: PathBuf) -> anyhow::Result<Self> {
        let pods: Api<Pod> = Api::default_namespaced(skiff.client.clone());
        let pod: Pod = serde_json::from_value(json!({
            "metadata": { "name": "streams" },
            "spec": { "terminationGracePeriodSeconds": 0, "containers": [{
                "name": "app", "image": *tools::BUSYBOX, "imagePullPolicy": "Never", "command": ["sh", "-c", PROGRAM],
                "readinessProbe": { "exec": { "command": ["sh", "-c", "[ $(stat -c %s /f) = 1073741824 ]"] }, "periodSeconds": 1 },
            }]},
        }))?;
        pods.create(&PostParams::default(), &pod).await?;
        wait(&pods, "the pod is ready", |pods| pods.iter().any(is_ready)).await?;
        let status = pods.get("streams").await?.status.context("it has a status")?;
        let id = status.container_statuses.iter().flatten().find_map(|c| c.container_id.clone()).context("it runs")?;
        let container = id.trim_start_matches("docker://").to_owned();
        let files = SocketAddr::new(status.pod_ip.context("it has an address")?.parse()?, 8080);
        Ok(Self { config, container, files })
    }

    fn kubectl(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&*tools::KUBECTL);
        command.args(["--kubeconfig", &self.config.display().to_string(), "--context", NAME]).args(args);
        command
    }

    fn skiff_kubectl(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_skiff"));
        command
            .arg("kubectl")
            .args(args)
            .env("SKIFF_NAME", NAME)
            .env("SKIFF_DATA_DIR", self.config.with_file_name("data"));
        command
    }

    fn docker(args: &[&str]) -> Command {
        let mut command = Command::new("docker");
        command.args(args);
        command
    }

    /// The medians of both in seconds, turn by turn. A turn without skiff that fails is taken again, once: `docker logs -f` of 20.10 now
    /// and then stands still on a log that was turned over.
    #[allow(clippy::print_stderr, reason = "who measures is told")]
    fn compare(
        what: &str,
        ratio_max: f64,
        mut ours: impl FnMut() -> anyhow::Result<()>,
        mut bare: impl FnMut() -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let timed = |run: &mut dyn FnMut() -> anyhow::Result<()>| {
            let begun = Instant::now();
            run().map(|()| begun.elapsed().as_secs_f64())
        };
        let (mut our_times, mut bare_times) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            our_times.push(timed(&mut ours)?);
            bare_times.push(timed(&mut bare).or_else(|failed| {
                eprintln!("once more: {failed}");
                timed(&mut bare)
            })?);
        }
        let (our, bare) = (median(&mut our_times), median(&mut bare_times));
        row(what, our, "s", bare * ratio_max, our <= bare * ratio_max);
        row("  … as a ratio to the way without skiff", our / bare, "x", ratio_max, our / bare <= ratio_max);
        Ok(())
    }

    fn bench_exec(&self) -> anyhow::Result<()> {
        let ours = || all_of(self.kubectl(&["exec", "streams", "--", "cat", "/f"]));
        let bare = || all_of(Self::docker(&["exec", &self.container, "cat", "/f"]));
        Self::compare("1 GiB through kubectl exec cat", RATIO_MAX, ours, bare)
    }

    fn bench_cp(&self) -> anyhow::Result<()> {
        let dir = tempfile::tempdir()?;
        let to = dir.path().join("f").display().to_string();
        let done = |mut command: Command| {
            let is_done = command.stdout(Stdio::null()).stderr(Stdio::null()).status()?.success();
            ensure!(is_done && std::fs::metadata(&to)?.len() == SIZE, "{command:?} failed");
            std::fs::remove_file(&to).map_err(anyhow::Error::from)
        };
        let ours = || done(self.kubectl(&["cp", "streams:/f", &to]));
        let bare = || done(Self::docker(&["cp", &format!("{}:/f", self.container), &to]));
        Self::compare("1 GiB through kubectl cp", RATIO_MAX, ours, bare)
    }

    /// The engine keeps the last 50 MB of a log, so more is followed while it is printed, which costs the engine most of the time.
    fn bench_logs(&self) -> anyhow::Result<()> {
        let followed = |mut command: Command| {
            let mut child = Running(command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?);
            let asked = Self::docker(&["exec", &self.container, "touch", "/print"]).status()?;
            ensure!(asked.success(), "the pod cannot be asked to print");
            let lines = child.0.stdout.take().context("it is piped")?;
            let (told, ended) = mpsc::channel();
            thread::spawn(move || told.send(has_end(lines)));
            let is_whole = ended.recv_timeout(FOLLOWED_MAX).with_context(|| format!("{command:?} stands still"))??;
            ensure!(is_whole, "{command:?} ended before the log did");
            Ok(())
        };
        let ours = || followed(self.kubectl(&["logs", "-f", "--tail=0", "streams"]));
        let bare = || followed(Self::docker(&["logs", "-f", "--tail=0", &self.container]));
        Self::compare("256 MiB through kubectl logs -f", RATIO_MAX, ours, bare)
    }

    /// Beside a connection straight to the pod, which the kernel serves from the file: kubectl's own tunnel and TLS are what is paid.
    fn bench_port_forward(&self) -> anyhow::Result<()> {
        let mut forward = self.kubectl(&["port-forward", "pod/streams", ":8080"]);
        let mut forward = Running(forward.stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?);
        let (mut said, mut lines) = (String::new(), BufReader::new(forward.0.stdout.take().context("it is piped")?));
        // It is held to the end: kubectl ends when nobody reads what it says.
        lines.read_line(&mut said)?;
        let near = said.strip_prefix("Forwarding from ").and_then(|rest| rest.split(' ').next());
        let near: SocketAddr = near.with_context(|| format!("kubectl said {said:?}"))?.parse()?;
        Self::compare("1 GiB through kubectl port-forward", FORWARD_RATIO_MAX, || fetch(near), || fetch(self.files))
    }

    fn bench_true(&self) -> anyhow::Result<()> {
        let each = |make: &dyn Fn() -> Command| {
            let begun = Instant::now();
            for _ in 0..EXECS {
                let mut command = make();
                ensure!(command.stdout(Stdio::null()).status()?.success(), "{command:?} failed");
            }
            #[allow(clippy::cast_precision_loss, reason = "a small number")]
            Ok::<f64, anyhow::Error>(begun.elapsed().as_secs_f64() / EXECS as f64)
        };
        let exec = ["exec", "streams", "--", "busybox", "true"];
        let own = each(&|| self.skiff_kubectl(&exec))?;
        let ours = each(&|| self.kubectl(&exec))?;
        let bare = each(&|| Self::docker(&["exec", &self.container, "busybox", "true"]))?;
        let our_start = each(&|| self.kubectl(&["get", "--raw", "/livez"]))?;
        let bare_start = each(&|| Self::docker(&["version"]))?;
        row("skiff kubectl exec true in a second", 1.0 / own, "", RATE_MIN / bare, bare / own >= RATE_MIN);
        row("  … as a share of docker exec's", bare / own, "x", RATE_MIN, bare / own >= RATE_MIN);
        row("kubectl exec true in a second", 1.0 / ours, "", RATE_MIN / bare, bare / ours >= RATE_MIN);
        let (ours, bare) = (ours - our_start, bare - bare_start);
        row(
            "  … as a share of Docker's, without the commands' starts",
            bare / ours,
            "x",
            RATE_MIN,
            bare / ours >= RATE_MIN,
        );
        Ok(())
    }
}

/// A program that ends with this.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Reads a gigabyte of what a program prints.
fn all_of(mut command: Command) -> anyhow::Result<()> {
    let mut child = Running(command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?);
    let read = counted(child.0.stdout.take().context("it is piped")?)?;
    ensure!(read == SIZE, "{command:?} printed {read} bytes");
    Ok(())
}

/// Reads lines up to the one that says that it is the last.
fn has_end(lines: impl Read) -> std::io::Result<bool> {
    let mut lines = BufReader::with_capacity(1 << 20, lines);
    let mut line = Vec::new();
    while lines.read_until(b'\n', &mut line)? > 0 {
        if line == b"END\n" {
            return Ok(true);
        }
        line.clear();
    }
    Ok(false)
}

/// Reads the file as a browser does.
fn fetch(from: SocketAddr) -> anyhow::Result<()> {
    let mut connection = TcpStream::connect(from)?;
    connection.write_all(b"GET /f HTTP/1.0\r\n\r\n")?;
    let read = counted(connection)?;
    ensure!(read > SIZE && read < SIZE + 1000, "{from} gave {read} bytes");
    Ok(())
}

fn counted(mut from: impl Read) -> std::io::Result<u64> {
    let mut buffer = vec![0; 1 << 20];
    let mut sum = 0;
    loop {
        match from.read(&mut buffer)? {
            0 => return Ok(sum),
            n => sum += n as u64,
        }
    }
}
