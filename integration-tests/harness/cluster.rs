//! A cluster of a test's own: `skiff up` as a user runs it, and `skiff down` at the end, whatever happened.

use super::{
    ports::free_port,
    processes::has_thread,
    tools::{DOCKER, KUBECTL, SKIFF, docker, output, run, text},
    wait::eventually,
};
use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::{
        Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicU16, Ordering},
        mpsc,
    },
    time::Duration,
};
use tempfile::TempDir;

/// Who has the machine: clusters with node ports of their own share it, one that has the usual ones, which are the host's, is alone.
static MACHINE: RwLock<()> = RwLock::new(());
/// Numbers of the clusters that share it, for their ports.
static NEXT: AtomicU16 = AtomicU16::new(0);
/// The node ports of a cluster that shares the machine: so many, from its number on, and so many clusters until numbers come again.
const NODE_PORTS: (u16, u16, u16) = (30400, 40, 50);
/// How long a start may take, image import included.
const START_MAX: Duration = Duration::from_secs(60);

/// A running cluster.
pub struct Cluster {
    /// Its name.
    pub name: String,
    home: TempDir,
    api_port: u16,
    child: Option<Child>,
    /// What `skiff up` has printed.
    printed: Mutex<mpsc::Receiver<String>>,
    /// What it had printed when it was ready.
    started: Vec<String>,
    /// How much it logs; empty: as much as for a user who does not ask.
    log: &'static str,
    /// The binary that it runs.
    build: PathBuf,
    /// Its part of the machine; none for a cluster beside another.
    turn: Option<Turn>,
    /// Its number among those that share the machine.
    number: u16,
}

/// A cluster's right to the machine.
enum Turn {
    Shared(#[allow(dead_code, reason = "held")] RwLockReadGuard<'static, ()>),
    Alone(#[allow(dead_code, reason = "held")] RwLockWriteGuard<'static, ()>),
}

impl Cluster {
    /// Starts a cluster with nothing in it.
    pub fn start(name: &str) -> Self {
        Self::start_with(name, &[])
    }

    /// Starts a cluster with more arguments to `skiff up`.
    pub fn start_with(name: &str, args: &[&str]) -> Self {
        Self::start_logging(name, "", args)
    }

    /// Starts a cluster that logs this much.
    pub fn start_logging(name: &str, log: &'static str, args: &[&str]) -> Self {
        let turn = MACHINE.read().unwrap_or_else(PoisonError::into_inner);
        Self::start_in_turn(name, log, args, Some(Turn::Shared(turn)))
    }

    /// Starts a cluster that has the usual node ports, as a user's, and the machine to itself.
    pub fn start_alone(name: &str, args: &[&str]) -> Self {
        let turn = MACHINE.write().unwrap_or_else(PoisonError::into_inner);
        Self::start_in_turn(name, "", args, Some(Turn::Alone(turn)))
    }

    /// Starts another cluster with nothing in it while this one runs.
    pub fn start_beside(&self, name: &str) -> Self {
        assert!(self.child.is_some(), "the turn is that of a cluster that runs");
        Self::start_in_turn(name, "", &[], None)
    }

    fn start_in_turn(name: &str, log: &'static str, args: &[&str], turn: Option<Turn>) -> Self {
        LazyReady::all();
        let name = format!("it-{name}");
        let home = tempfile::tempdir().unwrap();
        let api_port = free_port();
        let (_, printed) = mpsc::channel();
        let mut cluster = Self {
            name,
            home,
            api_port,
            child: None,
            printed: Mutex::new(printed),
            started: Vec::new(),
            log,
            build: SKIFF.into(),
            turn,
            number: NEXT.fetch_add(1, Ordering::Relaxed) % NODE_PORTS.2,
        };
        cluster.up(args);
        cluster
    }

    /// Starts the control plane (again) and waits until it is ready.
    pub fn up(&mut self, args: &[&str]) {
        self.begin(args);
        self.started = self.expect_line("Ctrl-C stops skiff");
    }

    /// Starts the control plane (again), and waits for nothing.
    pub fn begin(&mut self, args: &[&str]) {
        let mut child = self
            .skiff(&["up"])
            .args(["--api-address", &format!("127.0.0.1:{}", self.api_port)])
            .args(args)
            .envs((!self.log.is_empty()).then_some(("SKIFF_LOG", self.log)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, printed) = mpsc::channel();
        follow(child.stdout.take().unwrap(), sender.clone());
        follow(child.stderr.take().unwrap(), sender);
        self.child = Some(child);
        self.printed = Mutex::new(printed);
    }

    /// Waits until `skiff up` prints a line that contains `part`, and gives all lines up to it.
    #[track_caller]
    pub fn expect_line(&self, part: &str) -> Vec<String> {
        let printed = self.printed();
        let mut lines = Vec::new();
        loop {
            match printed.recv_timeout(START_MAX) {
                Ok(line) if line.contains(part) => {
                    lines.push(line);
                    return lines;
                }
                Ok(line) => lines.push(line),
                Err(err) => panic!("`skiff up` did not print {part:?} ({err}); it printed:\n{}", lines.join("\n")),
            }
        }
    }

    /// Everything that `skiff up` has printed since its start that nobody waited for.
    pub fn log(&self) -> String {
        self.started.iter().cloned().chain(self.printed().try_iter()).collect::<Vec<_>>().join("\n")
    }

    fn printed(&self) -> MutexGuard<'_, mpsc::Receiver<String>> {
        self.printed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The skiff command line, for this cluster.
    pub fn skiff(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.build);
        command
            .args(args)
            .env("SKIFF_NAME", &self.name)
            .env("SKIFF_DATA_DIR", self.data_dir())
            .env("KUBECONFIG", self.kubeconfig())
            // The port after the API's may be another test's; who wants a dashboard says so.
            .env("SKIFF_DASHBOARD_ADDRESS", "none")
            .env("HOME", self.home.path());
        if !matches!(self.turn, Some(Turn::Alone(_))) {
            let (first, count, _) = NODE_PORTS;
            let first = first + self.number * count;
            command
                .env("SKIFF_SERVICE_NODE_PORT_RANGE", format!("{first}-{}", first + count - 1))
                .env("SKIFF_HTTP_PORTS", (20000 + 2 * self.number).to_string())
                .env("SKIFF_HTTPS_PORTS", (20001 + 2 * self.number).to_string());
        }
        command
    }

    /// Another binary runs it from the next start on.
    pub fn use_build(&mut self, build: PathBuf) {
        self.build = build;
    }

    /// Where its state is.
    pub fn data_dir(&self) -> PathBuf {
        self.home.path().join("data")
    }

    /// The port of the API on loopback.
    pub fn api_port(&self) -> u16 {
        self.api_port
    }

    /// The process of the control plane.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    /// The kubeconfig that it is merged into.
    pub fn kubeconfig(&self) -> PathBuf {
        self.home.path().join("kubeconfig")
    }

    /// A kubectl command, not yet run.
    pub fn kubectl_command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&*KUBECTL);
        command.args(args).env("KUBECONFIG", self.kubeconfig()).env("HOME", self.home.path()).current_dir(root());
        command
    }

    /// Runs kubectl and gives what it printed.
    #[track_caller]
    pub fn kubectl(&self, args: &[&str]) -> String {
        run(&mut self.kubectl_command(args))
    }

    /// Runs a kubectl command that must fail, and gives what it said to standard output and standard error.
    #[track_caller]
    pub fn kubectl_fails(&self, args: &[&str]) -> String {
        let out = output(&mut self.kubectl_command(args));
        let said = text(&out.stdout) + &text(&out.stderr);
        assert!(!out.status.success(), "kubectl {args:?} did not fail; it said: {said}");
        said
    }

    /// Runs kubectl with a manifest on standard input.
    #[track_caller]
    pub fn kubectl_stdin(&self, args: &[&str], manifest: &str) -> Output {
        let mut child = self
            .kubectl_command(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(manifest.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    }

    /// Applies a manifest given as text.
    #[track_caller]
    pub fn apply(&self, manifest: &str) -> String {
        let out = self.kubectl_stdin(&["apply", "-f", "-"], manifest);
        assert!(out.status.success(), "kubectl apply failed: {}", text(&out.stderr));
        text(&out.stdout)
    }

    /// A jsonpath of one or more objects.
    #[track_caller]
    pub fn jsonpath(&self, what: &[&str], path: &str) -> String {
        let path = format!("jsonpath={path}");
        let mut args = vec!["get"];
        args.extend(what);
        args.extend(["-o", &path]);
        self.kubectl(&args)
    }

    /// Waits until a Deployment's rollout is complete.
    #[track_caller]
    pub fn rolled_out(&self, deployment: &str) {
        self.kubectl(&["rollout", "status", &format!("deployment/{deployment}"), "--timeout=60s"]);
    }

    /// The IDs of the running containers of this cluster that a filter picks, e.g. `io.kubernetes.container.name=web`.
    pub fn containers(&self, label: &str) -> Vec<String> {
        let mine = format!("label=dev.skiff.cluster={}", self.name);
        let ids = docker(&["ps", "-q", "--no-trunc", "--filter", &mine, "--filter", &format!("label={label}")]);
        ids.lines().map(str::to_owned).collect()
    }

    /// The container and the process of the data plane that serve: one of two, and the only one whose threads carry connections.
    #[allow(dead_code, reason = "benches need it")]
    pub fn data_plane(&self) -> (String, u32) {
        eventually("the data plane serves", Duration::from_secs(20), || {
            let of = |name| self.containers(&format!("io.kubernetes.container.name={name}"));
            let mut ids = ["proxy", "proxy-standby"].into_iter().flat_map(of);
            let pid = |id: &String| docker(&["inspect", "-f", "{{.State.Pid}}", id]).trim().parse::<u32>().ok();
            let serving = |id: String| pid(&id).filter(|pid| has_thread(*pid, "proxy-")).map(|pid| (id, pid));
            ids.find_map(serving).ok_or("none of its processes serves")
        })
    }

    /// Sends the control plane a signal.
    pub fn signal(&self, signal: &str) {
        run(Command::new("kill").args([format!("-{signal}"), self.pid().to_string()]));
    }

    /// Ends the control plane with a signal and waits for its end. Containers run on.
    pub fn stop(&mut self, signal: &str) {
        if self.child.is_some() {
            self.signal(signal);
        }
        if let Some(mut child) = self.child.take() {
            child.wait().unwrap();
        }
    }
}

/// Runs `skiff down`, so that a failed test leaves nothing behind either.
impl Drop for Cluster {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            if std::thread::panicking() {
                self.show_state();
            }
            drop(child.kill());
            drop(child.wait());
        }
        let out = output(&mut self.skiff(&["down"]));
        assert!(out.status.success() || std::thread::panicking(), "skiff down failed: {}", text(&out.stderr));
    }
}

impl Cluster {
    /// Prints what a person would look at after a failure.
    fn show_state(&self) {
        for args in [&["get", "all", "-A", "-o", "wide"][..], &["get", "events", "-A"][..]] {
            let out = output(&mut self.kubectl_command(args));
            eprintln!("$ kubectl {}\n{}{}", args.join(" "), text(&out.stdout), text(&out.stderr));
        }
        for line in self.printed().try_iter() {
            eprintln!("skiff: {line}");
        }
    }
}

/// Sends every line of a stream; ends with the stream.
fn follow(stream: impl std::io::Read + Send + 'static, lines: mpsc::Sender<String>) {
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            if lines.send(line).is_err() {
                return;
            }
        }
    });
}

struct LazyReady;

impl LazyReady {
    /// Makes the tools ready before the first cluster.
    fn all() {
        std::sync::LazyLock::force(&DOCKER);
        std::sync::LazyLock::force(&KUBECTL);
    }
}

/// The project's folder.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// One HTTP request on a connection of its own; the body, or why there is none.
pub fn http_get(port: u16) -> Result<String, String> {
    http_get_of(port, "localhost")
}

/// The same of a host that answers there.
pub fn http_get_of(port: u16, host: &str) -> Result<String, String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).map_err(|e| format!("connect: {e}"))?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).map_err(|e| e.to_string())?;
    stream
        .write_all(
            format!("GET / HTTP/1.1\r\nHost: {host}\r\nUser-Agent: curl/8\r\nAccept: */*\r\nConnection: close\r\n\r\n")
                .as_bytes(),
        )
        .map_err(|e| format!("write: {e}"))?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).map_err(|e| format!("read: {e}"))?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(|| format!("not an answer: {answer:?}"))?;
    if head.starts_with("HTTP/1.1 200") { Ok(body.to_owned()) } else { Err(head.to_owned()) }
}

/// Waits until a node port answers.
#[track_caller]
pub fn answers(port: u16) -> String {
    eventually("the node port answers", Duration::from_secs(20), || http_get(port))
}

/// Whether Docker has this container, running.
pub fn is_running(id: &str) -> bool {
    let out = output(Command::new("docker").args(["inspect", "-f", "{{.State.Running}}", id]));
    text(&out.stdout).trim() == "true"
}
