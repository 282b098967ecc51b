//! A cluster that is paused: everything is stopped, stays so whatever happens, and comes back as after a restart of the engine.

use super::*;
use crate::{api::agreements::PAUSED, engine::fake::OnStop};

impl World {
    async fn set_paused(&self, is_paused: bool) {
        let now = self.registry.clock().now().to_string();
        let change = |node: &mut Node| {
            let annotations = node.metadata.annotations.get_or_insert_default();
            annotations.remove(PAUSED);
            annotations.extend(is_paused.then(|| (PAUSED.to_owned(), now.clone())));
        };
        self.registry.api::<Nodes>().modify(&ObjectKey::new("", "skiff"), change).await.unwrap();
    }

    fn n_running(&self) -> usize {
        self.engine.containers().iter().filter(|c| c.phase == Phase::Running).count()
    }

    fn node_says(&self) -> String {
        let node = self.node().unwrap();
        let conditions = node.status.as_ref().and_then(|s| s.conditions.clone()).unwrap_or_default();
        let ready = conditions.into_iter().find(|c| c.type_ == "Ready").unwrap();
        format!("{} {}", ready.status, ready.reason.unwrap_or_default())
    }

    async fn paused(&self) -> Duration {
        self.set_paused(true).await;
        self.until("paused", |w| w.node_says() == "False Paused").await
    }

    async fn with_two() -> Self {
        let world = Self::new().await;
        world.engine.add_image("deaf:1", Behaviour::ignores_stop());
        // As a shell that gets a signal.
        world.engine.add_image("dies:1", Behaviour { on_stop: OnStop::Dies, ..Behaviour::server() });
        world.create("web", WEB).await;
        world.create("dies", "{containers: [{name: app, image: 'dies:1'}]}").await;
        world.until_ready("web").await;
        world.until_ready("dies").await;
        world
    }
}

#[tokio::test(start_paused = true)]
async fn a_pause_stops_everything_and_a_resume_brings_it_back_without_blame() {
    let world = World::with_two().await;
    let took = world.paused().await;
    assert!(took < Duration::from_secs(2), "{took:?}");
    assert_eq!(world.n_running(), 0);
    assert!(!world.is_ready("web") && !world.status("web").ready, "{}", world.describe());
    world.sleep(3600).await;
    assert_eq!(world.n_running(), 0, "it is not healed");
    for n in 1..=2 {
        world.set_paused(false).await;
        let back = world.until("back", |w| w.is_ready("web") && w.is_ready("dies") && w.node_is_ready()).await;
        assert!(back < Duration::from_secs(3), "no back-off: {back:?}");
        assert_eq!((world.restarts("web"), world.restarts("dies")), (n, n));
        world.paused().await;
    }
    assert!(world.events("web").iter().all(|event| !event.starts_with("BackOff")), "{:?}", world.events("web"));
}

#[tokio::test(start_paused = true)]
async fn a_pause_outlives_skiff_and_what_is_started_meanwhile_is_stopped() {
    let mut world = World::with_two().await;
    world.paused().await;
    world.stop_agent().await;
    world.start_agent();
    world.until("paused still", |w| w.node_says() == "False Paused").await;
    let app = world.engine.containers().into_iter().find(|c| c.name.starts_with("k8s_app_web")).unwrap();
    // The engine starts nothing without its sandbox.
    let sandbox = world.engine.containers().into_iter().find(|c| c.name.starts_with("k8s_POD_web")).unwrap();
    world.engine.docker_start(&sandbox.name).unwrap();
    drop(world.engine.docker_start(&app.name));
    world.until("stopped again", |w| w.n_running() == 0).await;
    world.create("late", WEB).await;
    world.sleep(60).await;
    assert_eq!(world.n_running(), 0);
    world.set_paused(false).await;
    world.until("all are back", |w| ["web", "dies", "late"].iter().all(|pod| w.is_ready(pod))).await;
    assert_eq!(world.restarts("late"), 0);
}

#[tokio::test(start_paused = true)]
async fn who_does_not_listen_is_killed_and_a_crash_before_the_pause_still_counts() {
    let world = World::with_two().await;
    world.create("deaf", "{containers: [{name: app, image: 'deaf:1'}]}").await;
    world.until_ready("deaf").await;
    world.engine.add_image("bad:1", Behaviour::exits(Duration::from_secs(1), 3));
    world.create("bad", "{containers: [{name: app, image: 'bad:1'}]}").await;
    world.until("waits", |w| w.restarts("bad") == 2 && w.waits("bad") == "CrashLoopBackOff").await;
    let took = world.paused().await;
    assert!(took > Duration::from_secs(10) && took < Duration::from_secs(12), "{took:?}");
    assert_eq!(world.n_running(), 0);
    world.set_paused(false).await;
    world.until_ready("deaf").await;
    assert_eq!(world.status("deaf").last_state.unwrap().terminated.unwrap().exit_code, 137);
    let took = world.until("again", |w| w.restarts("bad") == 3).await;
    assert!(took < Duration::from_secs(40), "{took:?}");
    let took = world.until("again", |w| w.restarts("bad") == 4).await;
    assert!(took > Duration::from_secs(20), "its crashes before the pause count: {took:?}");
}
