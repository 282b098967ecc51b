//! Whatever goes wrong once, the end is the same.

use super::*;
use crate::engine::fake::{CallFault, CallKind, EventFault, EventFaultKind, Fault, FaultPlan};
use std::sync::atomic::{AtomicBool, Ordering};

const FAULTS: [Fault; 4] = [
    Fault::FailBefore,
    Fault::LostReply,
    Fault::CutReply,
    Fault::DaemonRestart { down: Duration::from_secs(2), stop_containers: false },
];

/// Runs a scenario with its first, second, third … engine call failing, until it has no such call any more.
async fn sweep<F: Future<Output = ()>>(fault: Fault, scenario: impl Fn(World) -> F) {
    for nth in 1.. {
        let world = World::with(Latencies::DOCKER, nth).await;
        world.until("node", World::node_is_ready).await;
        world.sleep(1).await;
        world.engine.fail_nth_call(nth, fault);
        let engine = world.engine.clone();
        scenario(world).await;
        if engine.nth_call_is_pending() {
            assert!(nth > 4, "the scenario makes calls");
            return;
        }
    }
}

async fn start(world: &World) {
    world.create("web", "{containers: [{name: app, image: 'web:1'}], volumes: [{name: d, emptyDir: {}}]}").await;
    world.until_ready("web").await;
}

#[tokio::test(start_paused = true)]
async fn a_start_survives_any_failing_call() {
    for fault in FAULTS {
        sweep(fault, |world| async move {
            start(&world).await;
            world.sleep(60).await;
            let running = world.engine.containers().iter().filter(|c| c.phase == Phase::Running).count();
            assert_eq!((running, world.is_ready("web")), (2, true), "{fault:?}\n{}", world.describe());
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_heal_survives_any_failing_call() {
    for fault in FAULTS {
        sweep(fault, |world| async move {
            start(&world).await;
            let app = world.running("web", "app").unwrap();
            world.engine.docker_kill(&app.name, "SIGKILL").unwrap();
            world.until("healed", |w| w.restarts("web") >= 1 && w.is_ready("web")).await;
            world.sleep(60).await;
            let running = world.engine.containers().iter().filter(|c| c.phase == Phase::Running).count();
            assert_eq!((running, world.is_ready("web")), (2, true), "{fault:?}\n{}", world.describe());
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_end_survives_any_failing_call() {
    for fault in FAULTS {
        sweep(fault, |world| async move {
            start(&world).await;
            world.delete("web", Some(5)).await;
            world.until("gone", |w| w.pod("web").is_none()).await;
            world.until("removed", |w| w.engine.containers().is_empty() && w.engine.all_volumes().is_empty()).await;
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn lost_doubled_and_late_events_are_made_up_for() {
    for fault in [EventFaultKind::Lost, EventFaultKind::Doubled, EventFaultKind::Late(Duration::from_secs(3))] {
        for seed in 0..10 {
            let world = World::with(Latencies::DOCKER, seed).await;
            let events = vec![EventFault { fault, one_in: 3, times: 1000 }];
            world.engine.set_faults(FaultPlan { events, ..FaultPlan::default() });
            start(&world).await;
            let app = world.running("web", "app").unwrap();
            world.engine.docker_kill(&app.name, "SIGKILL").unwrap();
            world.until("healed", |w| w.running("web", "app").is_some_and(|c| c.id != app.id)).await;
            world.engine.set_faults(FaultPlan::default());
            world.until("quiet", |w| w.restarts("web") >= 1 && w.is_ready("web")).await;
            world.sleep(700).await;
            let running = world.engine.containers().iter().filter(|c| c.phase == Phase::Running).count();
            assert_eq!((running, world.is_ready("web")), (2, true), "{fault:?} {seed}\n{}", world.describe());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_is_due_for_a_pod_that_is_gone_wakes_nobody() {
    let world = World::new().await;
    let probe = "livenessProbe: {tcpSocket: {port: 80}, periodSeconds: 1}";
    world.create("web", &format!("{{containers: [{{name: app, image: 'web:1', {probe}}}]}}")).await;
    world.until_ready("web").await;
    world.engine.daemon_down(false);
    world.delete("web", Some(0)).await;
    // Were the worker awake all the time, simulated time would stand still.
    world.sleep(60).await;
    world.engine.daemon_up();
    world.until("removed", |w| w.engine.containers().is_empty()).await;
}

#[tokio::test(start_paused = true)]
async fn what_the_engine_made_without_saying_so_goes_with_the_pod() {
    let world = World::new().await;
    let always = |call, fault| CallFault { call: Some(call), fault, one_in: 1, times: 1000 };
    let calls = vec![always(CallKind::Create, Fault::CutReply), always(CallKind::Inspect, Fault::FailBefore)];
    world.engine.set_faults(FaultPlan { calls, ..FaultPlan::default() });
    world.create("web", "{containers: [{name: app, image: 'web:1'}]}").await;
    world.until("made", |w| w.engine.containers().len() == 1).await;
    world.delete("web", Some(0)).await;
    let took = world.until("removed", |w| w.pod("web").is_none() && w.engine.containers().is_empty()).await;
    assert!(took < Duration::from_secs(5), "the worker knew nothing of it, and the sweep found it after {took:?}");
}

/// A pod that needs helpers: one for its host path, one for each container's sub-paths.
async fn start_with_paths(world: &World) {
    let spec = "{containers: [{name: app, image: 'web:1', volumeMounts: [{name: d, mountPath: /d, subPath: x}, \
         {name: h, mountPath: /h, subPath: y}]}], volumes: [{name: d, emptyDir: {}}, {name: h, hostPath: {path: /srv, type: Directory}}]}";
    world.create("web", spec).await;
    world.until_ready("web").await;
}

#[tokio::test(start_paused = true)]
async fn a_start_with_sub_paths_survives_any_failing_call_and_leaves_no_helper() {
    for fault in FAULTS {
        sweep(fault, |world| async move {
            start_with_paths(&world).await;
            world.sleep(60).await;
            let running = world.engine.containers().iter().filter(|c| c.phase == Phase::Running).count();
            assert_eq!((running, world.is_ready("web")), (2, true), "{fault:?}\n{}", world.describe());
            world.delete("web", None).await;
            world.until("gone", |w| w.engine.containers().is_empty() && w.engine.all_volumes().is_empty()).await;
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_helper_that_an_earlier_process_left_goes_and_its_pod_stays() {
    let mut world = World::new().await;
    start_with_paths(&world).await;
    let uid = world.pod("web").unwrap().metadata.uid.clone().unwrap();
    let label = crate::node::volumes::sub_paths::HELPER_OF.to_owned();
    let exchange = crate::node::identity::exchange_name(&world.config.cluster, &uid);
    let mount = crate::engine::Mount {
        source: crate::engine::MountSource::Volume(exchange),
        target: "/held".into(),
        read_only: false,
        propagation: crate::engine::Propagation::Private,
    };
    let left = crate::engine::ContainerSpec {
        name: "left".into(),
        image: "skiff:test".into(),
        labels: BTreeMap::from([(label, uid)]),
        mounts: vec![mount],
        ..Default::default()
    };
    world.stop_agent().await;
    let id = world.engine.create(&left).await.unwrap();
    world.engine.start(&id).await.unwrap();
    world.start_agent();
    let took = world.until("it goes", |w| !w.engine.containers().iter().any(|c| c.name == "left")).await;
    assert!(took < Duration::from_secs(5) && world.is_ready("web"), "{took:?}");
    world.delete("web", None).await;
    world.until("gone", |w| w.engine.containers().is_empty() && w.engine.all_volumes().is_empty()).await;
}

#[tokio::test(start_paused = true)]
async fn what_a_helper_refuses_waits_and_is_told() {
    let world = World::new().await;
    let refuses = Arc::new(AtomicBool::new(true));
    let says = Arc::clone(&refuses);
    world.engine.add_image_fn(
        "skiff:test",
        Arc::new(move |spec: &crate::engine::ContainerSpec| {
            let says_no = spec.command == ["bind-paths"] && says.load(Ordering::SeqCst);
            let said = if says_no { "refused 1 \"y\" is a symbolic link" } else { "ready" };
            Behaviour { output: vec![said.into()], ..Behaviour::pause() }
        }),
    );
    let spec = "{containers: [{name: app, image: 'web:1', volumeMounts: [{name: d, mountPath: /d, subPath: x}, \
         {name: d, mountPath: /e, subPath: y}]}], volumes: [{name: d, emptyDir: {}}]}";
    world.create("web", spec).await;
    let why =
        "failed to prepare subPath for volumeMount \"d\" of container \"app\": subPath \"y\": \"y\" is a symbolic link";
    world.until("refused", |w| w.waits("web").contains("CreateContainerConfigError")).await;
    world.sleep(170).await;
    let told = world.events("web").iter().filter(|event| event.contains(why)).count();
    assert!(told > 0, "{:?}", world.events("web"));
    assert_eq!(world.engine.containers().len(), 1, "only the sandbox: {}", world.describe());
    refuses.store(false, Ordering::SeqCst);
    world.until_ready("web").await;
}
