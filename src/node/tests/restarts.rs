//! What dies comes back: containers, sandboxes, skiff itself, the engine.

use super::*;

#[tokio::test(start_paused = true)]
async fn what_a_user_kills_is_back_at_once_every_time() {
    let world = World::new().await;
    world.create("web", WEB).await;
    world.until_ready("web").await;
    for n in 1..=5 {
        let app = world.running("web", "app").unwrap();
        world.engine.docker_kill(&app.name, "SIGKILL").unwrap();
        let took = world.until("back", |w| w.running("web", "app").is_some_and(|c| c.id != app.id)).await;
        assert!(took < Duration::from_millis(500), "kill {n}: {took:?}");
        world.until("counted", |w| w.restarts("web") == n && w.is_ready("web")).await;
    }
    world.until("tidied", |w| w.names("web") == ["POD/0", "app/4", "app/5"]).await;
    let last = world.status("web").last_state.unwrap().terminated.unwrap();
    assert_eq!((last.exit_code, last.reason.as_deref()), (137, Some("Error")));
}

#[tokio::test(start_paused = true)]
async fn what_a_user_stops_or_removes_is_back_at_once() {
    let world = World::new().await;
    world.create("web", WEB).await;
    world.until_ready("web").await;
    let app = world.running("web", "app").unwrap();
    world.engine.docker_stop(&app.name, Duration::from_secs(10)).await.unwrap();
    world.until("back", |w| w.restarts("web") == 1 && w.is_ready("web")).await;
    let app = world.running("web", "app").unwrap();
    world.engine.docker_rm(&app.name).unwrap();
    let took = world.until("back", |w| w.restarts("web") == 2 && w.is_ready("web")).await;
    assert!(took < Duration::from_secs(1), "{took:?}");
    assert_eq!(world.status("web").last_state.unwrap().terminated.unwrap().exit_code, 137);
}

#[tokio::test(start_paused = true)]
async fn a_crashing_program_backs_off() {
    let world = World::new().await;
    world.engine.add_image("bad:1", Behaviour::exits(Duration::from_secs(1), 3));
    world.create("web", "{containers: [{name: app, image: 'bad:1'}]}").await;
    world.until("crashed", |w| w.restarts("web") == 1).await;
    let took = world.until("again", |w| w.restarts("web") == 2).await;
    assert!(took > Duration::from_secs(10) && took < Duration::from_secs(13), "{took:?}");
    let took = world.until("again", |w| w.restarts("web") == 3).await;
    assert!(took > Duration::from_secs(20) && took < Duration::from_secs(23), "{took:?}");
    world.until("waits", |w| w.waits("web") == "CrashLoopBackOff").await;
    let waiting = world.status("web").state.unwrap().waiting.unwrap();
    let pod = crate::node::identity::PodId::of(&world.pod("web").unwrap());
    assert_eq!(waiting.message.unwrap(), format!("back-off 40s restarting failed container=app pod={pod}"));
    assert_eq!(world.phase("web"), "Running");
    let want = format!("BackOff: Back-off restarting failed container app in pod {pod}");
    assert!(world.events("web").contains(&want), "{:?}", world.events("web"));
}

#[tokio::test(start_paused = true)]
async fn a_kill_of_a_crashing_program_does_not_wait_and_does_not_forgive() {
    let world = World::new().await;
    world.engine.add_image("bad:1", Behaviour::exits(Duration::from_secs(5), 3));
    world.create("web", "{containers: [{name: app, image: 'bad:1'}]}").await;
    world.until("crashed twice", |w| w.restarts("web") == 2).await;
    let app = world.running("web", "app").unwrap();
    world.engine.docker_kill(&app.name, "SIGKILL").unwrap();
    let took = world.until("back", |w| w.restarts("web") == 3).await;
    assert!(took < Duration::from_secs(1), "{took:?}");
    let took = world.until("again", |w| w.restarts("web") == 4).await;
    assert!(took > Duration::from_secs(25), "its next crash is its third: {took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_program_that_cannot_start_says_why() {
    let world = World::new().await;
    world.engine.add_image("none:1", Behaviour::cannot_start("exec: \"nope\": executable file not found in $PATH"));
    world.create("web", "{containers: [{name: app, image: 'none:1'}]}").await;
    world.until("waits", |w| w.waits("web") == "CrashLoopBackOff").await;
    let last = world.status("web").last_state.unwrap().terminated.unwrap();
    assert_eq!((last.exit_code, last.reason.as_deref()), (127, Some("ContainerCannotRun")));
    assert!(last.message.unwrap().contains("executable file not found"));
}

#[tokio::test(start_paused = true)]
async fn a_killed_sandbox_rebuilds_the_pod_in_place() {
    let world = World::new().await;
    world.create("web", "{containers: [{name: app, image: 'web:1'}, {name: two, image: 'web:1'}]}").await;
    world.until_ready("web").await;
    let uid = world.pod("web").unwrap().metadata.uid.clone();
    let sandbox = world.running("web", "POD").unwrap();
    world.engine.docker_kill(&sandbox.name, "SIGKILL").unwrap();
    let took = world.until("rebuilt", |w| w.restarts("web") == 1 && w.is_ready("web")).await;
    assert!(took < Duration::from_secs(2), "{took:?}");
    assert_eq!(world.pod("web").unwrap().metadata.uid, uid);
    assert_eq!(world.ip("web"), world.running("web", "POD").unwrap().ip.unwrap().to_string());
    world.until("tidied", |w| w.names("web") == ["POD/1", "app/0", "app/1", "two/0", "two/1"]).await;
    world.engine.docker_rm(&world.running("web", "POD").unwrap().name).unwrap();
    world.until("rebuilt", |w| w.restarts("web") == 2 && w.is_ready("web")).await;
}

#[tokio::test(start_paused = true)]
async fn skiffs_restart_adopts_everything() {
    let mut world = World::new().await;
    world.create("web", "{containers: [{name: app, image: 'web:1', readinessProbe: {httpGet: {port: 80}}}]}").await;
    world.until_ready("web").await;
    world.engine.docker_kill(&world.running("web", "app").unwrap().name, "SIGKILL").unwrap();
    world.until("counted", |w| w.restarts("web") == 1 && w.is_ready("web")).await;
    let before = world.engine.containers();
    let revision = world.pod("web").unwrap().metadata.resource_version.clone();
    world.stop_agent().await;
    world.sleep(60).await;
    world.start_agent();
    world.sleep(60).await;
    assert_eq!(world.engine.containers(), before);
    assert_eq!(world.pod("web").unwrap().metadata.resource_version, revision, "not even the status changes");
}

#[tokio::test(start_paused = true)]
async fn what_died_while_skiff_was_away_is_healed() {
    let mut world = World::new().await;
    for name in ["killed", "removed", "sandbox", "crashed", "deleted"] {
        world.create(name, WEB).await;
        world.until_ready(name).await;
    }
    world.stop_agent().await;
    world.engine.docker_kill(&world.running("killed", "app").unwrap().name, "SIGKILL").unwrap();
    world.engine.docker_rm(&world.running("removed", "app").unwrap().name).unwrap();
    world.engine.docker_kill(&world.running("sandbox", "POD").unwrap().name, "SIGKILL").unwrap();
    world.engine.crash(&world.running("crashed", "app").unwrap().name, 1);
    world.delete("deleted", Some(0)).await;
    world.sleep(1).await;
    world.start_agent();
    for name in ["killed", "removed", "sandbox", "crashed"] {
        world.until("healed", |w| w.restarts(name) == 1 && w.is_ready(name)).await;
    }
    let took = world.until("swept", |w| w.names("deleted").is_empty()).await;
    assert!(took < Duration::from_secs(2), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_job_that_was_removed_while_skiff_was_away_does_not_run_again() {
    let mut world = World::new().await;
    world.create("job", "{restartPolicy: Never, containers: [{name: app, image: 'web:1'}]}").await;
    world.until_ready("job").await;
    world.stop_agent().await;
    world.engine.docker_rm(&world.running("job", "app").unwrap().name).unwrap();
    world.start_agent();
    world.until("failed", |w| w.phase("job") == "Failed").await;
    assert!(world.running("job", "app").is_none());
}

#[tokio::test(start_paused = true)]
async fn a_restart_in_the_middle_of_anything_leads_to_the_same_end() {
    for millis in (0..700).step_by(35) {
        let mut world = World::with(Latencies::DOCKER, millis + 7).await;
        world.until("node", World::node_is_ready).await;
        world.create("web", "{containers: [{name: app, image: 'web:1'}, {name: two, image: 'web:1'}]}").await;
        tokio::time::sleep(Duration::from_millis(millis)).await;
        world.stop_agent().await;
        world.start_agent();
        world.until_ready("web").await;
        world.sleep(20).await;
        assert_eq!(
            world.engine.containers().iter().filter(|c| c.phase == Phase::Running).count(),
            3,
            "{millis} ms\n{}",
            world.describe()
        );
        assert!(world.is_ready("web"), "{millis} ms\n{}", world.describe());
    }
}

#[tokio::test(start_paused = true)]
async fn while_the_engine_is_away_pods_keep_their_status_and_the_node_says_so() {
    let world = World::new().await;
    world.create("web", WEB).await;
    world.until_ready("web").await;
    world.engine.daemon_down(false);
    world.until("not ready", |w| !w.node_is_ready()).await;
    assert!(world.is_ready("web"));
    world.create("late", WEB).await;
    world.sleep(100).await;
    world.engine.daemon_up();
    let took = world.until("ready", World::node_is_ready).await;
    assert!(took < Duration::from_secs(2), "{took:?}");
    let took = world.until_ready("late").await;
    assert!(took < Duration::from_secs(2), "{took:?}");
    assert_eq!(world.restarts("web"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_restart_of_the_engine_that_ends_containers_is_healed() {
    let world = World::new().await;
    for name in ["a", "b", "c"] {
        world.create(name, WEB).await;
        world.until_ready(name).await;
    }
    world.engine.restart_daemon(Duration::from_secs(3), true);
    world.sleep(3).await;
    let took = world.until("healed", |w| ["a", "b", "c"].iter().all(|n| w.restarts(n) == 1 && w.is_ready(n))).await;
    assert!(took < Duration::from_secs(5), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_was_away_for_long_is_healed_as_soon() {
    for secs in [1, 30, 100] {
        let world = World::new().await;
        for name in ["a", "b", "c"] {
            world.create(name, WEB).await;
            world.until_ready(name).await;
        }
        world.engine.daemon_down(true);
        // Skiff finds out, and tries to look.
        world.engine.interrupt_streams();
        world.sleep(secs).await;
        world.engine.daemon_up();
        let took = world.until("healed", |w| ["a", "b", "c"].iter().all(|n| w.restarts(n) == 1 && w.is_ready(n))).await;
        assert!(took < Duration::from_secs(1), "away for {secs} s: {took:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_panics_is_made_anew_and_knows_its_pod() {
    let mut world = World::new().await;
    world.stop_agent().await;
    world.config.tokens = Some(Arc::new(Panics(1..2, AtomicU32::new(0))));
    world.start_agent();
    world.create("web", WITH_TOKEN).await;
    world.until_ready("web").await;
    world.sleep(500).await;
    let is_told = |w: &World| w.events("web").iter().any(|e| e.starts_with("FailedSync: "));
    let took = world.until("the worker panics when it replaces the token", is_told).await;
    assert!(took < Duration::from_secs(4), "{took:?}");
    world.sleep(10).await;
    assert!(world.is_ready("web"));
    assert_eq!((world.restarts("web"), world.engine.containers().len()), (0, 2));
}

/// What was told of heals.
fn heals(world: &World) -> Vec<String> {
    world.events("web").into_iter().filter_map(|event| event.strip_prefix("Healed: ").map(str::to_owned)).collect()
}

#[tokio::test(start_paused = true)]
async fn each_heal_is_told_in_words_with_its_cause() {
    let world = World::new().await;
    world.create("web", WEB).await;
    world.until_ready("web").await;
    world.sleep(1).await;
    assert!(heals(&world).is_empty(), "a first start heals nothing");
    world.engine.docker_kill(&world.running("web", "app").unwrap().id, "SIGKILL").unwrap();
    world.until("healed", |w| heals(w).len() == 1).await;
    let told = heals(&world).remove(0);
    assert!(told.starts_with("container app was killed (exit 137), noticed after "), "{told}");
    assert!(told.contains(" ms, running after ") && told.contains(" ms, ready after "), "{told}");
    world.engine.crash(&world.running("web", "app").unwrap().id, 3);
    world.until("healed", |w| heals(w).iter().any(|told| told.starts_with("container app exited with code 3, "))).await;
    world.engine.restart_daemon(Duration::from_secs(3), true);
    world.until("healed", |w| heals(w).iter().any(|told| told.contains("ended with its engine"))).await;
}

#[tokio::test(start_paused = true)]
async fn the_delays_between_crashes_can_be_set() {
    let mut world = World::new().await;
    world.stop_agent().await;
    world.config.restart_backoff =
        crate::base::backoff::Backoff { base: Duration::from_millis(100), cap: Duration::from_millis(300) };
    world.start_agent();
    world.create("web", WEB).await;
    world.until_ready("web").await;
    for n in 1..6 {
        world.engine.crash(&world.running("web", "app").unwrap().id, 1);
        let took = world.until("back", |w| w.restarts("web") == n && w.is_ready("web")).await;
        assert!(took < Duration::from_secs(1), "{n}: {took:?}");
    }
}
