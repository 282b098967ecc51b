//! What a person does with Docker beside skiff: restarts, starts, networks; and commands that hang.

use super::*;
use crate::engine::fake::{CallFault, CallKind, ExecBehaviour, Fault, FaultPlan};

const SHORT: Duration = Duration::from_secs(1);

impl World {
    /// The containers of this name in a pod that run.
    fn all_running(&self, pod: &str, container: &str) -> Vec<String> {
        let prefix = format!("k8s_{container}_{pod}_default_");
        let all = self.engine.containers().into_iter();
        all.filter(|c| c.name.starts_with(&prefix) && c.phase == Phase::Running).map(|c| c.id).collect()
    }

    /// Whether the pod is ready on one container that has restarted so often.
    fn runs_once(&self, pod: &str, restarts: i32) -> bool {
        self.is_ready(pod) && self.restarts(pod) == restarts && self.all_running(pod, "app").len() == 1
    }

    /// Waits for that, and that it stays so.
    async fn until_one_runs(&self, pod: &str, restarts: i32) {
        self.until("one runs", |w| w.runs_once(pod, restarts)).await;
        self.sleep(40).await;
        assert!(self.runs_once(pod, restarts), "{}", self.describe());
        assert_eq!(self.waits(pod), "");
        let told = self.events(pod);
        assert!(!told.iter().any(|e| e.starts_with("BackOff")), "{told:?}");
    }

    /// Whether the pod has the address of its sandbox, and the sandbox has one.
    fn has_own_address(&self, pod: &str) -> bool {
        self.running(pod, "POD").and_then(|c| c.ip).is_some_and(|ip| ip.to_string() == self.ip(pod))
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_user_restarts_is_one_container_and_one_restart_every_time() {
    for seed in 0..10 {
        let world = World::with(Latencies::DOCKER, seed).await;
        world.create("web", WEB).await;
        world.until_ready("web").await;
        for n in 1..=5 {
            let app = world.running("web", "app").unwrap();
            world.engine.docker_restart(&app.id, SHORT).await.unwrap();
            world.until_one_runs("web", n).await;
            let last = world.status("web").last_state.unwrap().terminated.unwrap();
            assert_eq!((last.exit_code, last.container_id), (0, Some(format!("docker://{}", app.id))));
            assert_eq!(world.running("web", "app").unwrap().id, app.id, "its successor waits for it");
        }
        assert_eq!(world.names("web").len(), 2, "{:?}", world.names("web"));
    }
}

#[tokio::test(start_paused = true)]
async fn restarts_in_a_row_count_each() {
    let world = World::new().await;
    world.create("web", WEB).await;
    world.until_ready("web").await;
    for _ in 0..3 {
        let app = world.running("web", "app").unwrap();
        world.engine.docker_restart(&app.id, SHORT).await.unwrap();
        world.until("back", |w| w.all_running("web", "app").len() == 1).await;
    }
    world.until_one_runs("web", 3).await;
}

#[tokio::test(start_paused = true)]
async fn what_a_user_stops_and_starts_restarts_once() {
    for pause in [0, 100, 300, 1200, 1300, 1400, 1500, 1600, 1700, 5000] {
        let world = World::with(Latencies::DOCKER, pause).await;
        world.create("web", WEB).await;
        world.until_ready("web").await;
        let app = world.running("web", "app").unwrap();
        world.engine.docker_stop(&app.id, SHORT).await.unwrap();
        tokio::time::sleep(Duration::from_millis(pause)).await;
        world.engine.docker_start(&app.id).unwrap();
        world.until_one_runs("web", 1).await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_older_attempt_that_a_user_starts_ends_and_changes_nothing() {
    let world = World::new().await;
    world.create("web", WEB).await;
    world.until_ready("web").await;
    let old = world.running("web", "app").unwrap();
    world.engine.docker_kill(&old.id, "SIGKILL").unwrap();
    world.until_one_runs("web", 1).await;
    let current = world.running("web", "app").unwrap();
    for _ in 0..3 {
        world.engine.docker_start(&old.id).unwrap();
        world.until("both run", |w| w.all_running("web", "app").len() == 2).await;
        world.until_one_runs("web", 1).await;
        assert_eq!(world.running("web", "app").unwrap().id, current.id);
    }
}

#[tokio::test(start_paused = true)]
async fn an_older_attempt_that_a_user_starts_in_place_of_a_dead_one_is_the_next_run() {
    let world = World::new().await;
    world.engine.add_image("bad:1", Behaviour::exits(Duration::from_secs(1), 3));
    world.create("web", "{containers: [{name: app, image: 'bad:1'}]}").await;
    world.until("waits", |w| w.restarts("web") == 2 && w.waits("web") == "CrashLoopBackOff").await;
    let of_attempt =
        |n: &str| world.engine.containers().into_iter().find(|c| c.name.ends_with(n) && c.name.contains("_app_"));
    world.engine.docker_start(&of_attempt("_1").unwrap().id).unwrap();
    world.until("counted", |w| w.restarts("web") == 3).await;
    let took = world.until("again", |w| w.restarts("web") == 4).await;
    assert!(took > Duration::from_secs(30), "its crash is the fourth: {took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_policy_that_a_user_sets_restarts_what_skiff_would() {
    let world = World::new().await;
    world.create("web", WEB).await;
    world.until_ready("web").await;
    for n in 1..=2 {
        let app = world.running("web", "app").unwrap();
        world.engine.docker_update_restart(&app.id, true);
        world.sleep(1000).await;
        world.engine.crash(&app.id, 1);
        world.until_one_runs("web", n).await;
    }
    let app = world.running("web", "app").unwrap();
    world.engine.docker_update_restart(&app.id, true);
    world.delete("web", None).await;
    world.until("gone", |w| w.pod("web").is_none() && w.names("web").is_empty()).await;
}

#[tokio::test(start_paused = true)]
async fn a_restart_while_skiff_was_away_counts_once() {
    let mut world = World::new().await;
    world.create("web", WEB).await;
    world.until_ready("web").await;
    let app = world.running("web", "app").unwrap();
    world.stop_agent().await;
    world.sleep(2).await;
    world.engine.docker_restart(&app.id, SHORT).await.unwrap();
    world.start_agent();
    world.until_one_runs("web", 1).await;
    world.stop_agent().await;
    world.start_agent();
    world.until_one_runs("web", 1).await;
    assert_eq!(world.running("web", "app").unwrap().id, app.id);
    world.engine.docker_kill(&app.id, "SIGKILL").unwrap();
    world.until_one_runs("web", 2).await;
}

#[tokio::test(start_paused = true)]
async fn a_sandbox_that_restarts_gives_way_to_a_new_one() {
    for is_away in [false, true] {
        let mut world = World::new().await;
        world.create("web", WEB).await;
        world.until_ready("web").await;
        if is_away {
            world.stop_agent().await;
        }
        let sandbox = world.running("web", "POD").unwrap();
        // It may be gone before it starts again.
        drop(world.engine.docker_restart(&sandbox.id, SHORT).await);
        if is_away {
            world.start_agent();
        }
        world.until_one_runs("web", 1).await;
        assert!(world.has_own_address("web"));
        assert_eq!(world.all_running("web", "POD").len(), 1);
        assert_ne!(world.running("web", "POD").unwrap().id, sandbox.id);
    }
}

#[tokio::test(start_paused = true)]
async fn a_network_that_is_taken_away_rebuilds_the_pod() {
    let mut world = World::new().await;
    world.create("web", WEB).await;
    world.until_ready("web").await;
    world.engine.disconnect(&world.running("web", "POD").unwrap().id);
    let took = world.until("rebuilt", |w| w.runs_once("web", 1) && w.has_own_address("web")).await;
    assert!(took < Duration::from_secs(2), "{took:?}");
    world.until_one_runs("web", 1).await;
    // While skiff is away.
    world.stop_agent().await;
    world.engine.disconnect(&world.running("web", "POD").unwrap().id);
    world.start_agent();
    world.until_one_runs("web", 2).await;
    assert!(world.has_own_address("web"));
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_comes_back_with_another_address_is_never_where_a_stranger_is() {
    let world = World::new().await;
    world.create("web", WEB).await;
    world.until_ready("web").await;
    world.create("stranger", WEB).await;
    world.until_ready("stranger").await;
    let before = ["web", "stranger"].map(|name| world.ip(name));
    let sandboxes = ["web", "stranger"].map(|name| world.running(name, "POD").unwrap().id);
    sandboxes.iter().for_each(|id| world.engine.disconnect(id));
    sandboxes.iter().rev().for_each(|id| world.engine.connect(id));
    let now = ["web", "stranger"].map(|name| world.running(name, "POD").unwrap().ip.unwrap().to_string());
    assert_eq!([&now[1], &now[0]], [&before[0], &before[1]], "each has the other's address");
    for name in ["web", "stranger"] {
        world.until_one_runs(name, 1).await;
        assert!(world.has_own_address(name));
    }
}

#[tokio::test(start_paused = true)]
async fn commands_of_probes_that_hang_are_ended() {
    let world = World::new().await;
    world.engine.add_image("hangs:1", Behaviour { exec: ExecBehaviour::Hangs, ..Behaviour::server() });
    let probe = "readinessProbe: {exec: {command: [x]}, timeoutSeconds: 1, periodSeconds: 5}";
    for name in ["a", "b"] {
        world.create(name, &format!("{{containers: [{{name: app, image: 'hangs:1', {probe}}}]}}")).await;
        world.until("runs", |w| w.running(name, "app").is_some()).await;
    }
    let hanging = |w: &World| ["a", "b"].map(|name| w.engine.hanging(&w.running(name, "app").unwrap().id));
    for _ in 0..5 {
        world.until("it hangs", |w| hanging(w).iter().any(|n| *n > 0)).await;
        let took = world.until("it is ended", |w| hanging(w) == [0, 0]).await;
        assert!(took < Duration::from_secs(3), "{took:?}");
    }
    world.sleep(60).await;
    assert!(hanging(&world).iter().all(|n| *n <= 1));
    let helpers = world.engine.containers().into_iter().filter(|c| c.name.starts_with("skiff_end_")).count();
    assert!(helpers <= 1);
}

#[tokio::test(start_paused = true)]
async fn a_helper_that_could_not_be_removed_goes_without_its_pod() {
    let world = World::new().await;
    world.engine.add_image("hangs:1", Behaviour { exec: ExecBehaviour::Hangs, ..Behaviour::server() });
    let probe = "readinessProbe: {exec: {command: [x]}, timeoutSeconds: 1, periodSeconds: 5}";
    world.create("web", &format!("{{containers: [{{name: app, image: 'hangs:1', {probe}}}]}}")).await;
    let calls = vec![CallFault { call: Some(CallKind::Remove), fault: Fault::FailBefore, one_in: 1, times: 1000 }];
    world.engine.set_faults(FaultPlan { calls, ..FaultPlan::default() });
    let helpers = |w: &World| w.engine.containers().iter().filter(|c| c.name.starts_with("skiff_end_")).count();
    world
        .until("a helper stays", |w| helpers(w) == 1 && w.engine.hanging(&w.running("web", "app").unwrap().id) == 0)
        .await;
    world.delete("web", Some(0)).await;
    world.sleep(10).await;
    assert_eq!(helpers(&world), 1, "nothing can be removed");
    world.engine.set_faults(FaultPlan::default());
    let took = world.until("gone", |w| w.pod("web").is_none() && w.engine.containers().is_empty()).await;
    assert!(took < Duration::from_secs(60), "a later list found it after {took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_hook_that_hangs_is_ended() {
    let world = World::new().await;
    world.engine.add_image("hangs:1", Behaviour { exec: ExecBehaviour::Hangs, ..Behaviour::server() });
    let hook = "lifecycle: {preStop: {exec: {command: [x]}}}";
    let spec = format!("{{terminationGracePeriodSeconds: 5, containers: [{{name: app, image: 'hangs:1', {hook}}}]}}");
    world.create("web", &spec).await;
    world.until_ready("web").await;
    world.delete("web", None).await;
    let took = world.until("gone", |w| w.pod("web").is_none() && w.names("web").is_empty()).await;
    assert!(took < Duration::from_secs(9), "{took:?}");
    world.until("no helper is left", |w| w.engine.containers().is_empty()).await;
}
