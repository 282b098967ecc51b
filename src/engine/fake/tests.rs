//! What the fake engine promises beyond the contract that it shares with Docker.

use super::*;
use crate::engine::{MountSource, NamespaceMode, NetworkMode, Phase, Propagation};
use futures::FutureExt as _;

fn spec(name: &str, image: &str) -> ContainerSpec {
    ContainerSpec { name: name.into(), image: image.into(), ..ContainerSpec::default() }
}

fn joining(name: &str, image: &str, sandbox: &str) -> ContainerSpec {
    ContainerSpec { network: Some(NetworkMode::Container(sandbox.into())), ..spec(name, image) }
}

async fn run(engine: &FakeEngine, spec: &ContainerSpec) -> String {
    let id = engine.create(spec).await.unwrap();
    engine.start(&id).await.unwrap();
    id
}

fn with_images() -> FakeEngine {
    let engine = FakeEngine::for_test();
    engine.add_image("pause", Behaviour::pause());
    engine.add_image("web", Behaviour::server());
    engine.add_image("stubborn", Behaviour::ignores_stop());
    engine
}

/// What is in the stream now, in short.
fn drain(stream: &mut BoxStream<'static, EngineEvent>) -> Vec<String> {
    let mut seen = Vec::new();
    while let Some(Some(event)) = stream.next().now_or_never() {
        seen.push(match event {
            EngineEvent::Container { name, kind, .. } => format!("{name} {kind:?}"),
            EngineEvent::Network { .. } => continue,
            other => format!("{other:?}"),
        });
    }
    seen
}

async fn wait() {
    tokio::time::sleep(Duration::from_mins(1)).await;
}

#[tokio::test(start_paused = true)]
async fn a_life_is_told_in_order_to_every_stream() {
    let engine = with_images();
    let (mut a, mut b) = (engine.events(), engine.events());
    run(&engine, &spec("c1", "web")).await;
    engine.docker_kill("c1", "SIGKILL").unwrap();
    wait().await;
    engine.remove("c1").await.unwrap();
    let seen = drain(&mut a);
    assert_eq!(seen, ["Resync", "c1 Created", "c1 Started", "c1 Killed(9)", "c1 Died(137)", "c1 Removed"]);
    assert_eq!(drain(&mut b), seen);
}

#[tokio::test(start_paused = true)]
async fn exit_codes_say_how_a_program_ended() {
    let engine = with_images();
    engine.add_image("plain", Behaviour { on_stop: OnStop::Dies, ..Behaviour::server() });
    engine.add_image("job", Behaviour::exits(Duration::from_secs(5), 3));
    for (name, image, signal) in
        [("a1", "web", "SIGTERM"), ("b1", "plain", "SIGTERM"), ("c1", "stubborn", "SIGTERM"), ("d1", "job", "SIGHUP")]
    {
        run(&engine, &spec(name, image)).await;
        engine.kill(name, signal).await.unwrap();
    }
    wait().await;
    let codes: Vec<(Phase, i32)> = engine.containers().iter().map(|c| (c.phase, c.exit_code)).collect();
    assert_eq!(codes, [(Phase::Exited, 0), (Phase::Exited, 143), (Phase::Running, 0), (Phase::Exited, 3)]);
    engine.docker_stop("c1", Duration::from_secs(10)).await.unwrap();
    assert_eq!(engine.inspect("c1").await.unwrap().unwrap().exit_code, 137);
}

#[tokio::test(start_paused = true)]
async fn an_old_run_cannot_end_a_new_one() {
    let engine = with_images();
    engine.add_image("job", Behaviour::exits(Duration::from_secs(5), 1));
    run(&engine, &spec("j1", "job")).await;
    tokio::time::sleep(Duration::from_secs(4)).await;
    engine.crash("j1", 2);
    engine.start("j1").await.unwrap();
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(engine.inspect("j1").await.unwrap().unwrap().phase, Phase::Running);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(engine.inspect("j1").await.unwrap().unwrap().exit_code, 1);
}

#[tokio::test(start_paused = true)]
async fn a_sandbox_takes_its_address_along_and_cannot_be_joined_dead() {
    let engine = with_images();
    run(&engine, &spec("s1", "pause")).await;
    run(&engine, &joining("a1", "web", "s1")).await;
    let ip = engine.inspect("s1").await.unwrap().unwrap().ip.unwrap();
    assert_eq!(ip.to_string(), "172.17.0.2");
    assert_eq!(engine.inspect("a1").await.unwrap().unwrap().ip, None);
    assert!(engine.answers(ip, 80));
    engine.docker_kill("s1", "SIGKILL").unwrap();
    wait().await;
    assert!(engine.probe("a1"), "the program itself lives on");
    assert!(!engine.answers(ip, 80));
    engine.create(&joining("b1", "web", "s1")).await.unwrap();
    let err = engine.start("b1").await.unwrap_err();
    assert!(matches!(&err, EngineError::Conflict(text) if text.contains("non running container")), "{err}");
    let dead = engine.inspect("b1").await.unwrap().unwrap();
    assert_eq!((dead.phase, dead.exit_code), (Phase::Created, 128));
    engine.start("s1").await.unwrap();
    assert!(!engine.answers(ip, 80), "the program is in the namespace of before");
}

#[tokio::test(start_paused = true)]
async fn a_shared_process_namespace_ends_with_its_first_process() {
    let engine = with_images();
    run(&engine, &spec("s1", "pause")).await;
    run(&engine, &ContainerSpec { pid: NamespaceMode::Container("s1".into()), ..joining("a1", "web", "s1") }).await;
    engine.docker_rm("s1").unwrap();
    assert_eq!(engine.inspect("a1").await.unwrap().unwrap().exit_code, 137);
}

#[tokio::test(start_paused = true)]
async fn addresses_are_the_lowest_free_of_the_range() {
    let engine = with_images();
    let network = NetworkSpec {
        name: "skiff".into(),
        labels: BTreeMap::new(),
        subnet: "10.244.0.0/15".into(),
        ip_range: "10.244.0.0/16".into(),
        gateway: Ipv4Addr::new(10, 244, 0, 1),
        bridge: "skiff0".into(),
    };
    engine.create_network(&network).await.unwrap();
    assert!(matches!(engine.create_network(&network).await, Err(EngineError::Conflict(_))));
    let on = |name: &str| ContainerSpec { network: Some(NetworkMode::Bridge("skiff".into())), ..spec(name, "pause") };
    for name in ["s1", "s2", "s3"] {
        run(&engine, &on(name)).await;
    }
    engine.docker_rm("s2").unwrap();
    run(&engine, &on("s4")).await;
    let ips: Vec<String> = engine.containers().iter().map(|c| c.ip.unwrap().to_string()).collect();
    assert_eq!(ips, ["10.244.0.2", "10.244.0.4", "10.244.0.3"]);
    assert!(matches!(engine.remove_network("skiff").await, Err(EngineError::Conflict(_))));
}

#[tokio::test(start_paused = true)]
async fn readiness_comes_with_time_and_can_be_overridden() {
    let engine = with_images();
    engine.add_image("slow", Behaviour::ready_after(Some(Duration::from_secs(3))));
    run(&engine, &spec("w1", "slow")).await;
    assert!(!engine.probe("w1"));
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(engine.probe("w1"));
    engine.set_ready("w1", Some(false));
    assert!(!engine.probe("w1"));
}

#[tokio::test(start_paused = true)]
async fn a_lost_reply_leaves_the_effect_and_a_refused_call_does_not() {
    let engine = with_images();
    let fault = |fault| FaultPlan {
        calls: vec![CallFault { call: Some(CallKind::Create), fault, one_in: 1, times: 1 }],
        events: Vec::new(),
    };
    engine.set_faults(fault(Fault::LostReply));
    assert!(matches!(engine.create(&spec("a1", "web")).await, Err(EngineError::TimedOut(..))));
    assert!(matches!(engine.create(&spec("a1", "web")).await, Err(EngineError::Conflict(_))));
    engine.set_faults(fault(Fault::FailBefore));
    assert!(matches!(engine.create(&spec("b1", "web")).await, Err(EngineError::Failed(_))));
    assert!(engine.create(&spec("b1", "web")).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn the_nth_call_meets_its_fault_once() {
    let engine = with_images();
    engine.fail_nth_call(2, Fault::CutReply);
    engine.info().await.unwrap();
    assert!(engine.nth_call_is_pending());
    assert!(engine.info().await.is_err());
    assert!(!engine.nth_call_is_pending());
    engine.info().await.unwrap();
    let outcomes: Vec<bool> = engine.take_calls().iter().map(|c| c.outcome.as_ref().unwrap().is_ok()).collect();
    assert_eq!(outcomes, [true, false, true]);
    assert_eq!(engine.calls(), []);
}

#[tokio::test(start_paused = true)]
async fn events_are_lost_doubled_and_late_by_plan() {
    let engine = with_images();
    let mut events = engine.events();
    let fault = |fault| EventFault { fault, one_in: 1, times: 1 };
    let late = EventFaultKind::Late(Duration::from_secs(1));
    let faults = vec![fault(EventFaultKind::Lost), fault(EventFaultKind::Doubled), fault(late)];
    engine.set_faults(FaultPlan { calls: Vec::new(), events: faults });
    for name in ["a1", "b1", "c1", "d1"] {
        engine.create(&spec(name, "web")).await.unwrap();
    }
    wait().await;
    assert_eq!(drain(&mut events), ["Resync", "b1 Created", "b1 Created", "d1 Created", "c1 Created"]);
}

#[tokio::test(start_paused = true)]
async fn a_daemon_that_restarts_takes_its_containers_along_and_says_resync() {
    let engine = with_images();
    run(&engine, &spec("a1", "web")).await;
    run(&engine, &ContainerSpec { restart_with_engine: true, ..spec("b1", "web") }).await;
    let mut events = engine.events();
    engine.restart_daemon(Duration::from_secs(5), true);
    assert!(matches!(engine.list().await, Err(EngineError::Unreachable(_))));
    let mut second = engine.events();
    assert_eq!(drain(&mut second), Vec::<String>::new());
    wait().await;
    assert_eq!(drain(&mut events), ["Resync", "Resync", "b1 Started"]);
    assert_eq!(drain(&mut second), ["Resync", "b1 Started"]);
    let phases: Vec<Phase> = engine.list().await.unwrap().iter().map(|c| c.phase).collect();
    assert_eq!(phases, [Phase::Exited, Phase::Running]);
}

#[tokio::test(start_paused = true)]
async fn images_are_found_by_every_name_and_come_from_the_registry() {
    let engine = with_images();
    let web = engine.image("docker.io/library/web:latest").await.unwrap().unwrap();
    assert_eq!(engine.image(&web.id).await.unwrap(), Some(web.clone()));
    assert!(matches!(engine.create(&spec("a1", "nope")).await, Err(EngineError::NotFound(_))));
    assert!(matches!(engine.pull("nope", None, &PullProgress::default()).await, Err(PullError::Refused(_))));
    engine.add_remote_image("far:1", Behaviour::server(), 1);
    assert!(matches!(engine.pull("far:1", None, &PullProgress::default()).await, Err(PullError::Failed(_))));
    engine.pull("far:1", None, &PullProgress::default()).await.unwrap();
    assert_eq!(engine.image("far:1").await.unwrap().unwrap().digests.len(), 1);
    engine.tag_image("web", "web:2").await.unwrap();
    engine.remove_image("web").await.unwrap();
    assert_eq!(engine.image("web:2").await.unwrap().unwrap().id, web.id);
    engine.remove_image("web:2").await.unwrap();
    assert_eq!(engine.image(&web.id).await.unwrap(), None);
}

#[tokio::test(start_paused = true)]
async fn logs_are_cut_to_the_query_and_end_with_the_container() {
    let engine = with_images();
    let output = ["one", "two", "three"].map(String::from).to_vec();
    engine.add_image("loud", Behaviour { output, ..Behaviour::server() });
    run(&engine, &spec("l1", "loud")).await;
    let options = LogOptions { follow: true, tail: Some(2), ..LogOptions::default() };
    let log = engine.logs("l1", &options).await.unwrap();
    engine.print("l1", "four");
    engine.crash("l1", 1);
    let lines: Vec<Bytes> = log.map(Result::unwrap).collect().await;
    assert_eq!(lines, ["two\n", "three\n", "four\n"]);
    let options = LogOptions { timestamps: true, tail: Some(1), ..LogOptions::default() };
    let lines: Vec<Bytes> = engine.logs("l1", &options).await.unwrap().map(Result::unwrap).collect().await;
    assert_eq!(lines, ["2026-01-01T00:00:00.000000000Z four\n"]);
}

#[tokio::test(start_paused = true)]
async fn an_exec_ends_with_its_time_or_its_container() {
    let engine = with_images();
    run(&engine, &spec("a1", "web")).await;
    let command = |words: &[&str]| words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>();
    let minute = Duration::from_mins(1);
    assert_eq!(engine.exec("a1", &command(&["false"]), minute).await.unwrap().exit_code, 1);
    let slow = engine.exec("a1", &command(&["sleep", "90"]), minute).await;
    assert!(matches!(slow, Err(EngineError::Overdue(_, _, Some(_)))));
    assert_eq!(engine.hanging("a1"), 1, "nobody ends it");
    let words = command(&["sleep", "10"]);
    let (cut, ()) = tokio::join!(engine.exec("a1", &words, minute), async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        engine.crash("a1", 1);
    });
    assert_eq!(cut.unwrap().exit_code, 137);
    assert!(matches!(engine.exec("a1", &words, minute).await, Err(EngineError::Conflict(_))));
}

#[tokio::test(start_paused = true)]
async fn a_volume_in_use_stays() {
    let engine = with_images();
    let path = engine.create_volume("v1", &BTreeMap::new()).await.unwrap();
    assert_eq!(path, "/var/lib/docker/volumes/v1/_data");
    let mount = super::super::Mount {
        source: MountSource::Volume("v1".into()),
        target: "/v".into(),
        read_only: false,
        propagation: Propagation::Private,
    };
    engine.create(&ContainerSpec { mounts: vec![mount], ..spec("a1", "web") }).await.unwrap();
    assert!(matches!(engine.remove_volume("v1").await, Err(EngineError::Conflict(_))));
    engine.remove("a1").await.unwrap();
    engine.remove_volume("v1").await.unwrap();
    assert_eq!(engine.volumes().await.unwrap(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn the_same_seed_gives_the_same_run() {
    let trace = || async {
        let config = FakeConfig { latencies: Latencies::DOCKER, ..FakeConfig::default() };
        let wall = "2026-01-01T00:00:00Z".parse().unwrap();
        let engine = FakeEngine::new(Clock::simulated(wall), Rng::seeded(42), config);
        engine.add_image("web", Behaviour::server());
        let events = engine.events();
        for name in ["a1", "b1"] {
            run(&engine, &spec(name, "web")).await;
        }
        engine.kill("a1", "SIGTERM").await.unwrap();
        wait().await;
        let events: Vec<EngineEvent> = events.take(6).collect().await;
        (events, engine.containers(), engine.calls())
    };
    assert_eq!(trace().await, trace().await);
}
