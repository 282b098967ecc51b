//! The contract of [`Engine`]: one suite, run on the fake always and on the machine's Docker when `SKIFF_TEST_DOCKER=1`.
//!
//! With that variable set, an engine that cannot be reached is a failure. The containers run a static busybox
//! (Debian: `busybox-static`); the fake plays the few programs that the suite uses.

use super::{
    CLUSTER_LABEL, Connected, Container, ContainerSpec, Engine, EngineError, EngineEvent, EventKind,
    EventKind::{Created, Died, Killed, Removed, Started},
    ImageDetails, LogOptions, LogStream, Mount, MountSource, NetworkMode, NetworkSpec, Phase, Printed, Propagation,
    Resources, Session, TerminalSize,
    docker::DockerEngine,
    fake::{Behaviour, FakeEngine, OnStop, PRINTS_BOTH, TELLS_SIZE},
};
use crate::base::secret::variable;
use bytes::Bytes;
use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _, stream::BoxStream};
use std::{
    collections::BTreeMap,
    future::Future,
    net::Ipv4Addr,
    panic::{AssertUnwindSafe, resume_unwind},
    sync::Arc,
    time::Duration,
};
use tokio::io::AsyncWriteExt as _;

/// Longer than a loaded machine needs for any step.
const PATIENCE: Duration = Duration::from_mins(1);

const HANDLES_TERM: &str = "trap 'exit 0' TERM; echo ready; while :; do sleep 1 & wait $!; done";
const MOUNTS: &str = "busybox mkdir /x/0 && busybox mount -o bind /proc /x/0 && echo ready && exec sleep 3600";
const WORKS: &str = "while :; do :; done";
const SEES: &str = "cat /e/version";
const PRINTS_AND_FAILS: &str = "echo one; echo two; exit 3";
/// Lines of 40,000 and 20,000 bytes between short ones.
const PRINTS_LONG_LINES: &str = "echo one; busybox printf '%040000d\\n' 1; echo two; busybox printf '%020000d\\n' 2; busybox printf '%016384d\\n' 3; exit 0";

/// An engine with an image of small programs, and names that nobody else has.
struct Fixture {
    engine: Arc<dyn Engine>,
    prefix: String,
    image: String,
    octet: u8,
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// The suite's programs, for the fake.
fn program(spec: &ContainerSpec) -> Behaviour {
    let command: Vec<&str> = spec.command.iter().map(String::as_str).collect();
    match command.as_slice() {
        ["cat"] | ["sh", "-c", UNPACKS_INPUT] => Behaviour::server(),
        ["sh", "-c", WORKS] => Behaviour { cpu_millis: 1000, ..Behaviour::server() },
        ["sh", "-c", HANDLES_TERM | MOUNTS] => Behaviour { output: words(&["ready"]), ..Behaviour::server() },
        ["sh", "-c", SEES] => Behaviour::exits(Duration::ZERO, 0),
        ["sh", "-c", PRINTS_AND_FAILS] => {
            Behaviour { output: words(&["one", "two"]), ..Behaviour::exits(Duration::ZERO, 3) }
        }
        ["sh", "-c", PRINTS_LONG_LINES] => Behaviour { output: long_lines(), ..Behaviour::exits(Duration::ZERO, 0) },
        ["sh", "-c", WRITES_FILES] => {
            let big = vec![0; 2 << 20];
            let files: [(&str, &[u8]); 3] = [("/v/file", b"and so it ended"), ("/v/empty", b""), ("/v/big", &big)];
            let writes = files.map(|(path, content)| (path.to_owned(), Bytes::copy_from_slice(content))).to_vec();
            Behaviour { output: words(&["ready"]), writes, ..Behaviour::server() }
        }
        ["sleep", _] => Behaviour { on_stop: OnStop::Ignores, ..Behaviour::server() },
        _ if spec.entrypoint == ["/nope"] => Behaviour::cannot_start("exec: \"/nope\": no such file or directory"),
        other => panic!("the fake does not know {other:?}"),
    }
}

/// What [`PRINTS_LONG_LINES`] prints.
fn long_lines() -> Vec<String> {
    vec!["one".into(), format!("{:040000}", 1), "two".into(), format!("{:020000}", 2), format!("{:016384}", 3)]
}

fn busybox_tar() -> Bytes {
    let places = ["/bin/busybox", "/usr/bin/busybox"];
    let content = places.iter().find_map(|path| std::fs::read(path).ok()).expect("apt install busybox-static");
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_size(content.len() as u64);
    header.set_mode(0o755);
    tar.append_data(&mut header, "bin/busybox", content.as_slice()).unwrap();
    for name in ["sh", "sleep", "cat", "false"] {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        tar.append_link(&mut header, format!("bin/{name}"), "busybox").unwrap();
    }
    tar.into_inner().unwrap().into()
}

impl Fixture {
    async fn fake() -> Self {
        let engine = FakeEngine::for_test();
        engine.set_imported_behaviour(Arc::new(program));
        Self::with(Arc::new(engine), "enginetest", 1, Bytes::new()).await
    }

    /// `None` when the suite is not to touch Docker.
    async fn docker(case: &str, octet: u8) -> Option<Self> {
        if std::env::var_os("SKIFF_TEST_DOCKER").is_none_or(|value| value != "1") {
            return None;
        }
        let prefix = format!("enginetest-{}-{case}", std::process::id()).replace('_', "-");
        let engine = DockerEngine::connect(&prefix).await.expect("SKIFF_TEST_DOCKER=1 needs a running Docker");
        Some(Self::with(Arc::new(engine), &prefix, octet, busybox_tar()).await)
    }

    async fn with(engine: Arc<dyn Engine>, prefix: &str, octet: u8, tar: Bytes) -> Self {
        let image = format!("{prefix}:1");
        let labels = BTreeMap::from([("dev.skiff.test".to_owned(), "a \"quoted\" word".to_owned())]);
        engine.import_image(&image, tar, &words(&["/bin/busybox"]), &labels).await.unwrap();
        Self { engine, prefix: prefix.into(), image, octet }
    }

    fn name(&self, name: &str) -> String {
        format!("{}-{name}", self.prefix)
    }

    fn spec(&self, name: &str, command: &[&str]) -> ContainerSpec {
        ContainerSpec {
            name: self.name(name),
            image: self.image.clone(),
            command: words(command),
            labels: BTreeMap::from([("app".to_owned(), name.to_owned())]),
            ..ContainerSpec::default()
        }
    }

    async fn run(&self, spec: &ContainerSpec) -> String {
        let id = self.engine.create(spec).await.unwrap();
        self.engine.start(&id).await.unwrap();
        id
    }

    async fn get(&self, container: &str) -> Container {
        self.engine.inspect(container).await.unwrap().expect("the container exists")
    }

    /// Events that are certain to come from here on.
    async fn events(&self) -> BoxStream<'static, EngineEvent> {
        let mut events = self.engine.events();
        assert_eq!(soon(events.next()).await, Some(EngineEvent::Resync), "the first item");
        events
    }

    /// What happens to a container, up to and with the first event that `last` accepts.
    async fn until(
        &self,
        events: &mut BoxStream<'static, EngineEvent>,
        container: &str,
        last: impl Fn(EventKind) -> bool,
    ) -> Vec<EventKind> {
        let mut kinds = Vec::new();
        loop {
            let event = soon(events.next()).await.expect("the stream never ends");
            let EngineEvent::Container { id, name, labels, kind, .. } = event else { continue };
            if id != container {
                continue;
            }
            assert!(name.starts_with(&self.prefix), "{name}");
            assert_eq!(labels.get(CLUSTER_LABEL), Some(&self.prefix_cluster()));
            assert!(labels.contains_key("app"), "{labels:?}");
            kinds.push(kind);
            if last(kind) {
                return kinds;
            }
        }
    }

    async fn died(&self, events: &mut BoxStream<'static, EngineEvent>, container: &str) -> Vec<EventKind> {
        self.until(events, container, |kind| matches!(kind, Died(_))).await
    }

    fn prefix_cluster(&self) -> String {
        if self.prefix == "enginetest" { "skiff".into() } else { self.prefix.clone() }
    }

    fn network(&self) -> NetworkSpec {
        let octet = self.octet;
        NetworkSpec {
            name: self.name("net"),
            labels: BTreeMap::from([("app".to_owned(), "net".to_owned())]),
            subnet: format!("10.219.{octet}.0/24"),
            ip_range: format!("10.219.{octet}.128/25"),
            gateway: Ipv4Addr::new(10, 219, octet, 1),
            bridge: format!("etest{octet}"),
        }
    }

    async fn clean(&self) {
        for container in self.engine.list().await.unwrap() {
            self.engine.remove(&container.id).await.unwrap();
        }
        for volume in self.engine.volumes().await.unwrap() {
            self.engine.remove_volume(&volume).await.unwrap();
        }
        self.engine.remove_network(&self.network().name).await.unwrap();
        for image in self.engine.images().await.unwrap() {
            for tag in image.tags.iter().filter(|tag| tag.starts_with(&self.prefix)) {
                self.engine.remove_image(tag).await.unwrap();
            }
        }
    }
}

async fn soon<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work).await.expect("it happens soon")
}

#[test]
fn a_specification_that_is_too_big_is_refused_before_anyone_is_asked() {
    let with = |env: usize| ContainerSpec {
        name: "big".into(),
        env: (0..env).map(|i| variable(&format!("V{i}"), "x".repeat(100_000))).collect(),
        ..ContainerSpec::default()
    };
    with(80).check_size().unwrap();
    let error = with(90).check_size().unwrap_err();
    assert!(matches!(&error, EngineError::Invalid(text) if text.starts_with("create container big: ")), "{error}");
    let command = ContainerSpec { command: vec!["x".repeat(9 << 20)], ..ContainerSpec::default() };
    assert!(command.check_size().is_err());
}

/// Runs a case and cleans up whatever it says.
async fn check<F: Future<Output = ()>>(fixture: Fixture, case: impl FnOnce(Arc<Fixture>) -> F) {
    let fixture = Arc::new(fixture);
    let outcome = AssertUnwindSafe(case(Arc::clone(&fixture))).catch_unwind().await;
    fixture.clean().await;
    if let Err(panic) = outcome {
        resume_unwind(panic);
    }
}

macro_rules! contract {
    ($($octet:literal $case:ident),* $(,)?) => {
        mod on_the_fake {
            $(#[tokio::test(start_paused = true)]
            async fn $case() {
                super::check(super::Fixture::fake().await, super::$case).await;
            })*
        }
        mod on_docker {
            $(#[tokio::test]
            async fn $case() {
                if let Some(fixture) = super::Fixture::docker(stringify!($case), $octet).await {
                    super::check(fixture, super::$case).await;
                }
            })*
        }
    };
}

contract! {
    11 a_name_is_given_once,
    12 a_signal_is_told_before_the_death_it_causes,
    13 a_crash_is_a_death_without_a_signal,
    14 a_second_try_finds_nothing_to_do,
    15 a_program_that_is_missing_leaves_a_created_container,
    16 logs_hold_what_was_printed,
    17 commands_run_beside_the_program,
    18 a_network_gives_addresses_from_its_range,
    19 a_network_namespace_can_be_joined_while_its_owner_runs,
    20 volumes_outlive_their_containers,
    21 images_have_names_labels_and_a_program,
    22 the_list_is_complete_and_only_of_this_cluster,
    23 every_stream_sees_what_comes_after_its_resync,
    24 the_engine_tells_its_facts,
    25 an_image_is_derived_with_a_program_and_labels_of_its_own,
    27 a_long_line_of_a_log_is_one_line,
    26 mounts_are_exchanged_below_a_shared_volume,
    29 a_program_is_given_its_input,
    28 the_end_of_a_regular_file_is_read_and_nothing_else_is_opened,
    30 conversations_with_commands,
    31 conversations_with_the_program,
    32 usage_grows_with_work_and_is_told_of_what_runs,
    33 what_a_container_may_use_changes_while_it_runs,
}

async fn what_a_container_may_use_changes_while_it_runs(f: Arc<Fixture>) {
    let some = |memory: i64, nano: i64, shares: i64| (Some(memory << 20), Some(nano), Some(shares));
    let (memory_bytes, nano_cpus, cpu_shares) = some(64, 500_000_000, 512);
    let spec = ContainerSpec { memory_bytes, nano_cpus, cpu_shares, ..f.spec("resized", &["sleep", "3600"]) };
    let id = f.run(&spec).await;
    assert_eq!(f.get(&id).await.resources, spec.resources());
    for (memory, nano, shares) in [(96, 250_000_000, 2), (96, 250_000_000, 2), (32, 1_500_000_000, 1024)] {
        let (memory_bytes, nano_cpus, cpu_shares) = some(memory, nano, shares);
        let wanted = Resources { memory_bytes, nano_cpus, cpu_shares };
        f.engine.update(&id, &wanted).await.unwrap();
        assert_eq!(f.get(&id).await.resources, wanted);
    }
    let gone = f.engine.update(&f.name("none"), &Resources::default()).await;
    assert!(matches!(gone, Err(EngineError::NotFound(_))), "{gone:?}");
}

async fn a_name_is_given_once(f: Arc<Fixture>) {
    let spec = f.spec("a", &["sleep", "3600"]);
    let id = f.engine.create(&spec).await.unwrap();
    assert!(id.len() == 64 && id.bytes().all(|c| c.is_ascii_hexdigit()), "{id}");
    let err = f.engine.create(&spec).await.unwrap_err();
    assert!(matches!(&err, EngineError::Conflict(text) if text.contains(&id) && text.contains(&spec.name)), "{err}");
    let err = f.engine.create(&ContainerSpec { image: f.name("none:1"), ..f.spec("b", &[]) }).await.unwrap_err();
    assert!(matches!(&err, EngineError::NotFound(text) if text.contains("No such image")), "{err}");
    let err = f.engine.create(&ContainerSpec { name: "-x".into(), ..spec.clone() }).await.unwrap_err();
    assert!(matches!(err, EngineError::Invalid(_)), "{err}");
    let created = f.get(&spec.name).await;
    assert_eq!((created.id.as_str(), created.phase, created.pid, created.ip), (id.as_str(), Phase::Created, 0, None));
    assert_eq!((created.started_at, created.finished_at), (None, None));
    assert_eq!(created.image, f.image);
    assert_eq!(f.engine.inspect(&f.name("none")).await.unwrap(), None);
}

async fn a_signal_is_told_before_the_death_it_causes(f: Arc<Fixture>) {
    let mut events = f.events().await;
    let polite = f.run(&f.spec("polite", &["sh", "-c", HANDLES_TERM])).await;
    // The shell says when it has set its trap; a signal before that is ignored, as for every first process.
    let mut log = f.engine.logs(&polite, &LogOptions { follow: true, ..LogOptions::default() }).await.unwrap();
    assert_eq!(soon(log.next()).await.unwrap().unwrap(), "ready\n");
    f.engine.kill(&polite, "SIGTERM").await.unwrap();
    assert_eq!(f.died(&mut events, &polite).await, [Created, Started, Killed(15), Died(0)]);
    let stubborn = f.run(&f.spec("stubborn", &["sleep", "3600"])).await;
    f.engine.kill(&f.name("stubborn"), "SIGTERM").await.unwrap();
    f.engine.kill(&stubborn, "SIGKILL").await.unwrap();
    assert_eq!(f.died(&mut events, &stubborn).await, [Created, Started, Killed(15), Killed(9), Died(137)]);
    let dead = f.get(&stubborn).await;
    assert_eq!((dead.phase, dead.exit_code, dead.oom_killed, dead.pid), (Phase::Exited, 137, false, 0));
    assert!(dead.finished_at >= dead.started_at && dead.started_at.is_some());
    f.engine.start(&stubborn).await.unwrap();
    f.engine.remove(&stubborn).await.unwrap();
    let seen = f.until(&mut events, &stubborn, |kind| kind == Removed).await;
    assert_eq!(seen, [Started, Killed(9), Died(137), Removed]);
}

async fn a_crash_is_a_death_without_a_signal(f: Arc<Fixture>) {
    let mut events = f.events().await;
    let id = f.run(&f.spec("a", &["sh", "-c", PRINTS_AND_FAILS])).await;
    let seen = f.died(&mut events, &id).await;
    assert_eq!(seen, [Created, Started, Died(3)]);
    let dead = f.get(&id).await;
    assert_eq!((dead.phase, dead.exit_code), (Phase::Exited, 3));
}

async fn a_second_try_finds_nothing_to_do(f: Arc<Fixture>) {
    let id = f.run(&f.spec("a", &["sleep", "3600"])).await;
    let started_at = f.get(&id).await.started_at;
    f.engine.start(&id).await.unwrap();
    assert_eq!(f.get(&id).await.started_at, started_at);
    let mut events = f.events().await;
    f.engine.kill(&id, "SIGKILL").await.unwrap();
    f.died(&mut events, &id).await;
    f.engine.kill(&id, "SIGKILL").await.unwrap();
    f.engine.remove(&id).await.unwrap();
    f.engine.remove(&id).await.unwrap();
    f.engine.kill(&id, "SIGKILL").await.unwrap();
    assert!(matches!(f.engine.start(&id).await, Err(EngineError::NotFound(_))));
    let other = f.run(&f.spec("b", &["sleep", "3600"])).await;
    assert!(matches!(f.engine.kill(&other, "SIGFOO").await, Err(EngineError::Invalid(_))));
    let (a, b, c) = tokio::join!(f.engine.remove(&other), f.engine.remove(&other), f.engine.remove(&other));
    assert!(a.is_ok() && b.is_ok() && c.is_ok(), "{a:?} {b:?} {c:?}");
    assert_eq!(f.engine.inspect(&other).await.unwrap(), None);
}

async fn a_program_that_is_missing_leaves_a_created_container(f: Arc<Fixture>) {
    let id = f.engine.create(&ContainerSpec { entrypoint: words(&["/nope"]), ..f.spec("a", &[]) }).await.unwrap();
    let err = f.engine.start(&id).await.unwrap_err();
    assert!(matches!(&err, EngineError::Invalid(text) if text.contains("/nope")), "{err}");
    let failed = f.get(&id).await;
    assert_eq!((failed.phase, failed.exit_code), (Phase::Created, 127));
    assert!(failed.error.contains("no such file or directory"), "{}", failed.error);
}

async fn logs_hold_what_was_printed(f: Arc<Fixture>) {
    let mut events = f.events().await;
    let id = f.run(&f.spec("a", &["sh", "-c", PRINTS_AND_FAILS])).await;
    f.died(&mut events, &id).await;
    let read = async |options: LogOptions| {
        let chunks: Vec<Bytes> = soon(f.engine.logs(&id, &options).await.unwrap().try_collect()).await.unwrap();
        String::from_utf8(chunks.concat()).unwrap()
    };
    assert_eq!(read(LogOptions::default()).await, "one\ntwo\n");
    assert_eq!(read(LogOptions { tail: Some(1), follow: true, ..LogOptions::default() }).await, "two\n");
    assert_eq!(read(LogOptions { tail: Some(0), ..LogOptions::default() }).await, "");
    let stamped = read(LogOptions { timestamps: true, tail: Some(1), ..LogOptions::default() }).await;
    let (time, line) = stamped.split_once(' ').unwrap();
    assert_eq!(line, "two\n");
    assert_eq!(time.len(), "2026-01-01T00:00:00.000000000Z".len(), "{time}");
    let later = f.get(&id).await.finished_at.unwrap() + Duration::from_hours(1);
    let stream = Some(LogStream::Stderr);
    assert_eq!(read(LogOptions { stream, ..LogOptions::default() }).await, "", "nothing was printed there");
    assert_eq!(read(LogOptions { since: Some(later), ..LogOptions::default() }).await, "");
    let missing = f.engine.logs(&f.name("none"), &LogOptions::default()).await;
    assert!(matches!(missing.err(), Some(EngineError::NotFound(_))));
}

async fn a_long_line_of_a_log_is_one_line(f: Arc<Fixture>) {
    for tty in [false, true] {
        let mut events = f.events().await;
        let name = if tty { "terminal" } else { "plain" };
        let id = f.run(&ContainerSpec { tty, ..f.spec(name, &["sh", "-c", PRINTS_LONG_LINES]) }).await;
        f.died(&mut events, &id).await;
        let read = async |options: LogOptions| {
            let chunks: Vec<Bytes> = soon(f.engine.logs(&id, &options).await.unwrap().try_collect()).await.unwrap();
            String::from_utf8(chunks.concat()).unwrap().replace('\r', "")
        };
        let printed = long_lines();
        for (tail, follow) in
            [(None, false), (Some(9), false), (Some(4), true), (Some(3), false), (Some(2), true), (Some(1), false)]
        {
            let wanted = &printed[printed.len() - tail.unwrap_or(5).min(5)..];
            let options = LogOptions { tail: tail.map(|n| n as u64), follow, ..LogOptions::default() };
            let plain = read(options.clone()).await;
            assert!(plain.lines().eq(wanted), "tail {tail:?}, terminal {tty}: {} lines", plain.lines().count());
            let stamped = read(LogOptions { timestamps: true, ..options }).await;
            let bare = stamped.lines().map(|line| line.split_once("Z ").expect("a time").1);
            assert!(bare.eq(wanted), "stamped, tail {tail:?}, terminal {tty}: {} lines", stamped.lines().count());
        }
    }
}

async fn commands_run_beside_the_program(f: Arc<Fixture>) {
    let id = f.run(&f.spec("a", &["sleep", "3600"])).await;
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_size(5);
    header.set_mode(0o644);
    tar.append_data(&mut header, "dir/file", &b"hello"[..]).unwrap();
    f.engine.upload(&id, "/bin", tar.into_inner().unwrap().into()).await.unwrap();
    let exec = async |command: &[&str]| f.engine.exec(&id, &words(command), PATIENCE).await;
    let read = exec(&["/bin/cat", "/bin/dir/file"]).await.unwrap();
    assert_eq!((read.exit_code, &read.output[..]), (0, &b"hello"[..]));
    assert_eq!(exec(&["/bin/false"]).await.unwrap().exit_code, 1);
    let slow = f.engine.exec(&id, &words(&["/bin/sleep", "60"]), Duration::from_millis(300)).await;
    assert!(matches!(slow, Err(EngineError::Overdue(_, _, Some(1..)))), "{slow:?}");
    let stopped = f.engine.create(&f.spec("b", &["sleep", "3600"])).await.unwrap();
    let err = f.engine.exec(&stopped, &words(&["/bin/false"]), PATIENCE).await.unwrap_err();
    assert!(matches!(err, EngineError::Conflict(_)), "{err}");
    let err = f.engine.exec(&f.name("none"), &words(&["/bin/false"]), PATIENCE).await.unwrap_err();
    assert!(matches!(err, EngineError::NotFound(_)), "{err}");
    let err = f.engine.upload(&f.name("none"), "/", Bytes::new()).await.unwrap_err();
    assert!(matches!(err, EngineError::NotFound(_)), "{err}");
}

async fn usage_grows_with_work_and_is_told_of_what_runs(f: Arc<Fixture>) {
    let id = f.run(&f.spec("a", &["sh", "-c", WORKS])).await;
    let first = f.engine.usage(&id).await.unwrap().expect("it runs");
    let deadline = tokio::time::Instant::now() + PATIENCE;
    let second = loop {
        let now = f.engine.usage(&id).await.unwrap().expect("it runs");
        if now.cpu_nanos > first.cpu_nanos && now.at > first.at {
            break now;
        }
        assert!(tokio::time::Instant::now() < deadline, "{now:?} is no more than {first:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    assert!(second.memory_bytes >= second.working_set_bytes && second.working_set_bytes > 0, "{second:?}");
    let stopped = f.engine.create(&f.spec("b", &["sleep", "3600"])).await.unwrap();
    assert_eq!(f.engine.usage(&stopped).await.unwrap(), None);
    assert_eq!(f.engine.usage(&f.name("none")).await.unwrap(), None);
}

/// Unpacks an archive behind its length.
/// All that a session's program prints, to its outputs apart.
async fn hear(session: &mut Session) -> (Vec<u8>, Vec<u8>) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    while let Some(printed) = session.output.try_next().await.unwrap() {
        match printed {
            Printed::Stdout(bytes) => out.extend_from_slice(&bytes),
            Printed::Stderr(bytes) => err.extend_from_slice(&bytes),
        }
    }
    (out, err)
}

async fn conversations_with_commands(f: Arc<Fixture>) {
    let id = f.run(&f.spec("a", &["sleep", "3600"])).await;
    let all = Connected { stdin: true, stdout: true, stderr: true, tty: false };
    // Every byte, more than any pipe holds, and the end of the input is the end of the command.
    let mut session = f.engine.exec_session(&id, &words(&["cat"]), all).await.unwrap();
    let sent: Vec<u8> = (0..=255).cycle().take(300_000).collect();
    let mut input = session.input.take().expect("it was asked for");
    let give = async {
        input.write_all(&sent).await.unwrap();
        input.shutdown().await.unwrap();
    };
    let (heard, ()) = tokio::join!(hear(&mut session), give);
    assert!(heard.0 == sent && heard.1.is_empty(), "{} bytes came back", heard.0.len());
    assert_eq!(session.control.exit_code().await.unwrap(), Some(0));

    let outputs = Connected { stdin: false, ..all };
    let mut session = f.engine.exec_session(&id, &words(&["sh", "-c", PRINTS_BOTH]), outputs).await.unwrap();
    assert!(session.input.is_none());
    assert_eq!(hear(&mut session).await, (b"out\n".to_vec(), b"err\n".to_vec()));
    assert_eq!(session.control.exit_code().await.unwrap(), Some(3));

    let terminal = Connected { stderr: false, tty: true, ..all };
    let mut session = f.engine.exec_session(&id, &words(&["sh", "-c", TELLS_SIZE]), terminal).await.unwrap();
    session.control.resize(TerminalSize { columns: 101, rows: 33 }).await.unwrap();
    let mut input = session.input.take().expect("it was asked for");
    input.write_all(b"\n").await.unwrap();
    let (shown, _) = hear(&mut session).await;
    assert!(String::from_utf8_lossy(&shown).contains("33 101"), "{shown:?}");
    assert_eq!(session.control.exit_code().await.unwrap(), Some(0));

    let stopped = f.engine.create(&f.spec("b", &["sleep", "3600"])).await.unwrap();
    let err = f.engine.exec_session(&stopped, &words(&["cat"]), all).await.unwrap_err();
    assert!(matches!(err, EngineError::Conflict(_)), "{err}");
    let err = f.engine.exec_session(&f.name("none"), &words(&["cat"]), all).await.unwrap_err();
    assert!(matches!(err, EngineError::NotFound(_)), "{err}");
}

async fn conversations_with_the_program(f: Arc<Fixture>) {
    let spec = ContainerSpec { stdin: true, ..f.spec("a", &["cat"]) };
    let id = f.run(&spec).await;
    let all = Connected { stdin: true, stdout: true, stderr: true, tty: false };
    for text in ["once\n", "and again\n"] {
        let mut session = f.engine.attach(&id, all).await.unwrap();
        session.input.as_mut().expect("it was asked for").write_all(text.as_bytes()).await.unwrap();
        let heard = session.output.try_next().await.unwrap();
        assert_eq!(heard, Some(Printed::Stdout(text.into())));
        assert_eq!(session.control.exit_code().await.unwrap(), None);
    }
    let mut session = f.engine.attach(&id, Connected { stdin: false, ..all }).await.unwrap();
    f.engine.remove(&id).await.unwrap();
    assert_eq!(hear(&mut session).await, (Vec::new(), Vec::new()), "it ends with the container");
    let err = f.engine.attach(&f.name("none"), all).await.unwrap_err();
    assert!(matches!(err, EngineError::NotFound(_)), "{err}");
    let stopped = f.engine.create(&f.spec("b", &["sleep", "3600"])).await.unwrap();
    let err = f.engine.attach(&stopped, all).await.unwrap_err();
    assert!(matches!(err, EngineError::Conflict(_)), "{err}");
}

const UNPACKS_INPUT: &str = "mkdir /volumes; busybox tail -c +9 | busybox tar x -C /volumes; exec sleep 3600";

async fn a_program_is_given_its_input(f: Arc<Fixture>) {
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_size(5);
    header.set_mode(0o644);
    tar.append_data(&mut header, "file", &b"hello"[..]).unwrap();
    let archive = tar.into_inner().unwrap();
    let input = [&u64::try_from(archive.len()).unwrap().to_be_bytes()[..], &archive].concat();
    let spec = ContainerSpec { stdin: true, stdin_once: true, ..f.spec("a", &["sh", "-c", UNPACKS_INPUT]) };
    let id = f.engine.create(&spec).await.unwrap();
    f.engine.start_with_input(&id, input.into()).await.unwrap();
    let command = words(&["/bin/cat", "/volumes/file"]);
    let mut read = f.engine.exec(&id, &command, PATIENCE).await.unwrap();
    while read.exit_code != 0 {
        tokio::time::sleep(Duration::from_millis(20)).await;
        read = f.engine.exec(&id, &command, PATIENCE).await.unwrap();
    }
    assert_eq!(&read.output[..], b"hello");
    let err = f.engine.start_with_input(&f.name("none"), Bytes::new()).await.unwrap_err();
    assert!(matches!(err, EngineError::NotFound(_)), "{err}");
}

/// Writes files of all kinds into a volume.
const WRITES_FILES: &str = "printf 'and so it ended' > /v/file; : > /v/empty; busybox ln -s file /v/link; busybox mkfifo /v/pipe; \
                            busybox truncate -s 2M /v/big; echo ready; exec sleep 3600";

async fn the_end_of_a_regular_file_is_read_and_nothing_else_is_opened(f: Arc<Fixture>) {
    f.engine.create_volume(&f.name("v"), &BTreeMap::new()).await.unwrap();
    let mounts = vec![Mount {
        source: MountSource::Volume(f.name("v")),
        target: "/v".into(),
        read_only: false,
        propagation: Propagation::Private,
    }];
    let id = f.run(&ContainerSpec { mounts, ..f.spec("a", &["sh", "-c", WRITES_FILES]) }).await;
    let mut log = f.engine.logs(&id, &LogOptions { follow: true, ..LogOptions::default() }).await.unwrap();
    assert_eq!(soon(log.next()).await.unwrap().unwrap(), "ready\n");
    let end = async |path: &str, bytes_max| f.engine.file_end(&id, path, bytes_max).await;
    for _ in ["running", "stopped"] {
        let file = end("/v/file", 5).await.unwrap().unwrap();
        assert_eq!((file.size_bytes, &file.content[..]), (15, &b"ended"[..]));
        let at = f.get(&id).await.created_at;
        assert!(file.modified_at.duration_since(at).abs() < jiff::SignedDuration::from_mins(1), "{file:?}");
        assert_eq!(end("/v/file", 100).await.unwrap().unwrap().content, "and so it ended");
        let empty = end("/v/empty", 100).await.unwrap().unwrap();
        assert_eq!((empty.size_bytes, empty.content.len()), (0, 0));
        for other in ["/v/link", "/v/pipe", "/v", "/v/none"] {
            assert_eq!(soon(end(other, 100)).await.unwrap(), None, "{other}");
        }
        let big = end("/v/big", 100).await.unwrap_err();
        assert!(matches!(&big, EngineError::Invalid(why) if why.contains("2097152 bytes")), "{big}");
        f.engine.kill(&id, "SIGKILL").await.unwrap();
    }
    assert_eq!(f.engine.file_end(&f.name("none"), "/v/file", 100).await.unwrap(), None);
}

async fn a_network_gives_addresses_from_its_range(f: Arc<Fixture>) {
    let spec = f.network();
    assert_eq!(f.engine.network(&spec.name).await.unwrap(), None);
    let made = f.engine.create_network(&spec).await.unwrap();
    assert_eq!(
        (&made.name, &made.subnet, made.gateway, &made.bridge),
        (&spec.name, &spec.subnet, spec.gateway, &spec.bridge)
    );
    assert_eq!(made.labels.get("app").map(String::as_str), Some("net"));
    assert_eq!(made.labels.get(CLUSTER_LABEL), Some(&f.prefix_cluster()));
    assert_eq!(f.engine.network(&spec.name).await.unwrap(), Some(made));
    assert!(matches!(f.engine.create_network(&spec).await, Err(EngineError::Conflict(_))));
    let overlapping = NetworkSpec { name: f.name("other"), bridge: "etest0".into(), ..spec.clone() };
    let err = f.engine.create_network(&overlapping).await.unwrap_err();
    assert!(matches!(err, EngineError::Conflict(_)), "{err}");
    let on = |name: &str| ContainerSpec {
        network: Some(NetworkMode::Bridge(spec.name.clone())),
        ..f.spec(name, &["sleep", "3600"])
    };
    let mut events = f.events().await;
    let (a, b) = (f.run(&on("a")).await, f.run(&on("b")).await);
    let octets = async |id: &str| f.get(id).await.ip.map(|ip| ip.octets());
    assert_eq!(octets(&a).await, Some([10, 219, f.octet, 128]));
    assert_eq!(octets(&b).await, Some([10, 219, f.octet, 129]));
    let err = f.engine.remove_network(&spec.name).await.unwrap_err();
    assert!(matches!(err, EngineError::Conflict(_)), "{err}");
    f.engine.kill(&a, "SIGKILL").await.unwrap();
    f.died(&mut events, &a).await;
    // The engine gives an address back just after it has told of the death.
    soon(async { while f.get(&a).await.ip.is_some() {} }).await;
    let c = f.run(&on("c")).await;
    assert_eq!(octets(&c).await, Some([10, 219, f.octet, 128]));
    // One that is asked for, outside of what the engine gives by itself.
    let wanted = ContainerSpec { address: Some(Ipv4Addr::new(10, 219, f.octet, 7)), ..on("wanted") };
    let wanted = f.run(&wanted).await;
    assert_eq!(octets(&wanted).await, Some([10, 219, f.octet, 7]));
    let second = ContainerSpec { address: Some(Ipv4Addr::new(10, 219, f.octet, 7)), ..on("second") };
    let second = f.engine.create(&second).await.unwrap();
    let err = f.engine.start(&second).await.unwrap_err();
    assert!(err.to_string().contains("Address already in use"), "{err}");
    for id in [a, b, c, wanted, second] {
        f.engine.remove(&id).await.unwrap();
    }
    f.engine.remove_network(&spec.name).await.unwrap();
    f.engine.remove_network(&spec.name).await.unwrap();
    let lost = f.engine.create(&on("d")).await.unwrap();
    let err = f.engine.start(&lost).await.unwrap_err();
    assert!(matches!(err, EngineError::NotFound(_)), "{err}");
}

async fn a_network_namespace_can_be_joined_while_its_owner_runs(f: Arc<Fixture>) {
    let sandbox = f.engine.create(&f.spec("s", &["sleep", "3600"])).await.unwrap();
    let joining = |name: &str| ContainerSpec {
        network: Some(NetworkMode::Container(f.name("s"))),
        ..f.spec(name, &["sleep", "3600"])
    };
    // Creation does not wait for the owner to run; the start does not go without it.
    let a = f.engine.create(&joining("a")).await.unwrap();
    let err = f.engine.start(&a).await.unwrap_err();
    // Engines name the owner by its ID or its name.
    let names_it = |text: &str| text.contains(&sandbox) || text.contains(&f.name("s"));
    assert!(matches!(&err, EngineError::Conflict(text) if text.contains("cannot join") && names_it(text)), "{err:?}");
    assert_eq!(f.get(&a).await.phase, Phase::Created);
    f.engine.start(&sandbox).await.unwrap();
    f.engine.start(&a).await.unwrap();
    assert!(f.get(&sandbox).await.ip.is_some());
    assert_eq!(f.get(&a).await.ip, None);
    f.engine.remove(&sandbox).await.unwrap();
    assert_eq!(f.get(&a).await.phase, Phase::Running, "the program lives on without its sandbox");
    let mut events = f.events().await;
    f.engine.kill(&a, "SIGKILL").await.unwrap();
    f.died(&mut events, &a).await;
    f.run(&f.spec("s", &["sleep", "3600"])).await;
    let err = f.engine.start(&a).await.unwrap_err();
    assert!(matches!(err, EngineError::NotFound(_)), "joined by ID, so a new sandbox of that name is another: {err}");
}

async fn volumes_outlive_their_containers(f: Arc<Fixture>) {
    let name = f.name("vol");
    let path = f.engine.create_volume(&name, &BTreeMap::new()).await.unwrap();
    assert!(path.starts_with('/') && path.contains(&name), "{path}");
    assert_eq!(f.engine.create_volume(&name, &BTreeMap::new()).await.unwrap(), path);
    assert_eq!(f.engine.volumes().await.unwrap(), std::slice::from_ref(&name));
    let mount = Mount {
        source: MountSource::Volume(name.clone()),
        target: "/data".into(),
        read_only: false,
        propagation: Propagation::Private,
    };
    let id = f.run(&ContainerSpec { mounts: vec![mount], ..f.spec("a", &["sleep", "3600"]) }).await;
    let err = f.engine.remove_volume(&name).await.unwrap_err();
    assert!(matches!(err, EngineError::Conflict(_)), "{err}");
    f.engine.remove(&id).await.unwrap();
    assert_eq!(f.engine.volumes().await.unwrap(), std::slice::from_ref(&name));
    f.engine.remove_volume(&name).await.unwrap();
    f.engine.remove_volume(&name).await.unwrap();
    assert_eq!(f.engine.volumes().await.unwrap(), Vec::<String>::new());
}

async fn mounts_are_exchanged_below_a_shared_volume(f: Arc<Fixture>) {
    let name = f.name("shared");
    let path = f.engine.create_shared_volume(&name, &BTreeMap::new()).await.unwrap();
    assert_eq!(f.engine.create_shared_volume(&name, &BTreeMap::new()).await.unwrap(), path);
    let mount = |source: MountSource, target: &str| Mount {
        source,
        target: target.into(),
        read_only: false,
        propagation: Propagation::Private,
    };
    let spec = |name: &str, mounts: Vec<Mount>, command: &[&str]| ContainerSpec {
        mounts,
        cap_add: words(&["SYS_ADMIN"]),
        security_options: words(&["seccomp=unconfined", "apparmor=unconfined", "label=disable"]),
        ..f.spec(name, command)
    };
    let volume = || mount(MountSource::Volume(name.clone()), "/v");
    let existing = || mount(MountSource::Existing(format!("{path}/0")), "/e");
    let err = f.engine.create(&spec("absent", vec![existing()], &["sh", "-c", SEES])).await.unwrap_err();
    assert!(matches!(&err, EngineError::Invalid(text) if text.contains("does not exist")), "{err}");
    let holder = f.run(&spec("holder", vec![volume()], &["sleep", "3600"])).await;
    let shared = mount(MountSource::Shared(path.clone()), "/x");
    let mounts = f.run(&spec("mounts", vec![volume(), shared], &["sh", "-c", MOUNTS])).await;
    let mut log = f.engine.logs(&mounts, &LogOptions { follow: true, ..LogOptions::default() }).await.unwrap();
    assert_eq!(soon(log.next()).await.unwrap().unwrap(), "ready\n");
    // What was mounted outlives who mounted it, as long as somebody has the volume.
    f.engine.remove(&mounts).await.unwrap();
    let mut events = f.events().await;
    let sees = f.run(&spec("sees", vec![existing()], &["sh", "-c", SEES])).await;
    f.died(&mut events, &sees).await;
    assert_eq!(f.get(&sees).await.exit_code, 0);
    f.engine.remove(&holder).await.unwrap();
    f.engine.start(&sees).await.unwrap_err();
    f.engine.remove(&sees).await.unwrap();
    f.engine.remove_volume(&name).await.unwrap();
}

async fn images_have_names_labels_and_a_program(f: Arc<Fixture>) {
    let mut events = f.events().await;
    let image = f.engine.image(&f.image).await.unwrap().unwrap();
    assert!(image.id.starts_with("sha256:"), "{}", image.id);
    assert_eq!(image.tags, std::slice::from_ref(&f.image));
    // None, or its own ID where the engine keeps images as registries do.
    assert!(image.digests.iter().all(|name| name.ends_with(&format!("@{}", image.id))), "{:?}", image.digests);
    assert_eq!((&image.command, &image.details.entrypoint), (&words(&["/bin/busybox"]), &words(&["/bin/busybox"])));
    assert!(image.details.created_at.is_some() && !image.details.layers.is_empty(), "{:?}", image.details);
    assert_eq!(image.labels.get("dev.skiff.test").map(String::as_str), Some("a \"quoted\" word"));
    assert_eq!(f.engine.image(&image.id).await.unwrap(), Some(image.clone()));
    let second = format!("{}:2", f.prefix);
    f.engine.tag_image(&f.image, &second).await.unwrap();
    soon(async { while events.next().await != Some(EngineEvent::Images) {} }).await;
    let mut tags = f.engine.image(&second).await.unwrap().unwrap().tags;
    tags.sort();
    assert_eq!(tags, [f.image.clone(), second.clone()]);
    let listed = f.engine.images().await.unwrap();
    let found = listed.iter().find(|listed| listed.id == image.id).unwrap();
    assert_eq!((&found.command, &found.labels), (&image.command, &image.labels));
    assert_eq!(found.details, ImageDetails::default(), "a list says no more than containers need");
    f.engine.remove_image(&second).await.unwrap();
    f.engine.remove_image(&second).await.unwrap();
    assert_eq!(f.engine.image(&second).await.unwrap(), None);
    assert!(f.engine.image(&f.image).await.unwrap().is_some());
    let err = f.engine.tag_image(&f.name("none:1"), &second).await.unwrap_err();
    assert!(matches!(err, EngineError::NotFound(_)), "{err}");
    let id = f.engine.create(&f.spec("a", &["sleep", "3600"])).await.unwrap();
    let err = f.engine.remove_image(&f.image).await.unwrap_err();
    assert!(matches!(err, EngineError::Conflict(_)), "{err}");
    f.engine.remove(&id).await.unwrap();
}

async fn an_image_is_derived_with_a_program_and_labels_of_its_own(f: Arc<Fixture>) {
    let derived = format!("{}:derived", f.prefix);
    let labels = BTreeMap::from([("dev.skiff.more".to_owned(), "yes".to_owned())]);
    let program = words(&["/bin/sh", "-c", "a \"b\" $c"]);
    let id = f.engine.derive_image(&f.image, &derived, &program, &labels).await.unwrap();
    let image = f.engine.image(&derived).await.unwrap().unwrap();
    assert_eq!((&image.id, &image.tags, &image.command), (&id, &vec![derived.clone()], &program));
    let label = |name: &str| image.labels.get(name).map(String::as_str);
    assert_eq!((label("dev.skiff.test"), label("dev.skiff.more")), (Some("a \"quoted\" word"), Some("yes")));
    assert_eq!(label(CLUSTER_LABEL).unwrap_or_default(), "", "whoever runs it is not of the cluster for that");
    assert_ne!(f.engine.image(&f.image).await.unwrap().unwrap().id, id);
    assert!(f.engine.list().await.unwrap().is_empty(), "nothing else is left of it");
    let err = f.engine.derive_image(&f.name("none:1"), &derived, &program, &labels).await.unwrap_err();
    assert!(matches!(err, EngineError::NotFound(_)), "{err}");
    f.engine.remove_image(&derived).await.unwrap();
    assert_eq!(f.engine.image(&derived).await.unwrap(), None);
}

async fn the_list_is_complete_and_only_of_this_cluster(f: Arc<Fixture>) {
    let mut events = f.events().await;
    let dead = f.run(&f.spec("a", &["sh", "-c", PRINTS_AND_FAILS])).await;
    f.died(&mut events, &dead).await;
    f.run(&f.spec("b", &["sleep", "3600"])).await;
    f.engine.create(&f.spec("c", &["sleep", "3600"])).await.unwrap();
    let listed = f.engine.list().await.unwrap();
    let brief: Vec<_> = listed.iter().map(|c| (c.name.clone(), c.phase, c.exit_code, c.pid > 0)).collect();
    assert_eq!(
        brief,
        [
            (f.name("a"), Phase::Exited, 3, false),
            (f.name("b"), Phase::Running, 0, true),
            (f.name("c"), Phase::Created, 0, false),
        ]
    );
    for container in &listed {
        assert_eq!(container.labels.get(CLUSTER_LABEL), Some(&f.prefix_cluster()));
        assert_eq!(Some(container), f.engine.inspect(&container.name).await.unwrap().as_ref());
        assert_eq!(container.image_id, f.engine.image(&f.image).await.unwrap().unwrap().id);
    }
}

async fn every_stream_sees_what_comes_after_its_resync(f: Arc<Fixture>) {
    let (mut early, mut late) = (f.events().await, f.events().await);
    let id = f.engine.create(&f.spec("a", &["sleep", "3600"])).await.unwrap();
    for events in [&mut early, &mut late] {
        assert_eq!(f.until(events, &id, |_| true).await, [Created]);
    }
}

async fn the_engine_tells_its_facts(f: Arc<Fixture>) {
    let info = f.engine.info().await.unwrap();
    assert!(!info.version.is_empty() && !info.kernel.is_empty() && !info.os.is_empty(), "{info:?}");
    assert!(info.cpus > 0 && info.memory_bytes > 0, "{info:?}");
    let (major, minor) = info.api_version.split_once('.').unwrap();
    assert!((major.parse::<u32>().unwrap(), minor.parse::<u32>().unwrap()) >= (1, 41), "{info:?}");
}
