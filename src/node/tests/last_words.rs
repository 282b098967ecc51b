//! What containers say of their end: termination messages, and the end of logs where they stand in.

use super::*;
use crate::engine::fake::{CallFault, CallKind, Fault, FaultPlan};
use k8s_openapi::api::core::v1::ContainerState;

const PATH: &str = "/dev/termination-log";

fn pod_of(container: &str) -> String {
    format!("{{containers: [{{name: app, image: 'web:1', {container}}}]}}")
}

fn message(state: Option<ContainerState>) -> String {
    state.and_then(|state| state.terminated?.message).unwrap_or_default()
}

impl World {
    /// The program of a pod says why, and ends.
    fn end_with(&self, pod: &str, text: &[u8], code: i32) {
        let container = self.running(pod, "app").unwrap();
        self.engine.write_file(&container.name, PATH, text);
        self.engine.crash(&container.name, code);
    }

    fn ended(&self, pod: &str) -> bool {
        self.status(pod).state.is_some_and(|state| state.terminated.is_some())
    }

    /// What the last run of a pod's container said, once it has run again so often.
    async fn last_words_after(&self, pod: &str, restarts: i32) -> String {
        self.until("restarted", |w| w.restarts(pod) == restarts && w.running(pod, "app").is_some()).await;
        message(self.status(pod).last_state)
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_program_wrote_is_told_with_its_end() {
    for (code, phase) in [(0, "Succeeded"), (3, "Failed")] {
        let world = World::new().await;
        let spec = "{restartPolicy: Never, containers: [{name: app, image: 'web:1'}]}";
        world.create("web", spec).await;
        world.until_ready("web").await;
        world.end_with("web", b"out of disk", code);
        world.until("ended", |w| w.ended("web")).await;
        assert_eq!(message(world.status("web").state), "out of disk");
        world.until("over", |w| w.phase("web") == phase && w.running("web", "POD").is_none()).await;
    }
}

#[tokio::test(start_paused = true)]
async fn every_attempt_begins_with_an_empty_file() {
    let world = World::new().await;
    world.create("web", WEB).await;
    world.until_ready("web").await;
    for restarts in 1..=9 {
        // Every fourth says nothing, and follows one of the same file that did.
        let text = if restarts > 4 { String::new() } else { format!("the end {restarts}") };
        match text.as_str() {
            "" => world.engine.crash(&world.running("web", "app").unwrap().name, 1),
            text => world.end_with("web", text.as_bytes(), 1),
        }
        assert_eq!(world.last_words_after("web", restarts).await, text, "restart {restarts}");
    }
}

/// The engine calls that write files, since they were taken last.
fn uploads(world: &World) -> usize {
    world.engine.take_calls().iter().filter(|call| call.kind == CallKind::Upload).count()
}

#[tokio::test(start_paused = true)]
async fn the_file_of_an_attempt_is_made_new_while_the_one_before_runs() {
    let mut world = World::new().await;
    world.create("web", WEB).await;
    world.until_ready("web").await;
    for restarts in 1..=3 {
        world.end_with("web", b"the end", 1);
        world.last_words_after("web", restarts).await;
    }
    world.sleep(60).await;
    world.engine.take_calls();
    for restarts in 4..=6 {
        // What is heard of the kill ends with the start of the next attempt, which is followed by the file of the one after it.
        world.end_with("web", b"the end", 1);
        world.until("created", |w| w.restarts("web") == restarts).await;
        world.sleep(60).await;
        assert_eq!(uploads(&world), 1, "restart {restarts}");
    }
    // Whoever comes in between knows nothing of what was done ahead, and does it again.
    world.stop_agent().await;
    world.start_agent();
    world.until_ready("web").await;
    uploads(&world);
    world.end_with("web", b"the end", 1);
    assert_eq!(world.last_words_after("web", 7).await, "the end");
    world.sleep(60).await;
    assert_eq!(uploads(&world), 2);
    let call = CallFault { call: Some(CallKind::Upload), fault: Fault::FailBefore, one_in: 1, times: 1 };
    world.engine.set_faults(FaultPlan { calls: vec![call], ..FaultPlan::default() });
    world.end_with("web", b"the end", 1);
    assert_eq!(world.last_words_after("web", 8).await, "the end");
    world.end_with("web", b"", 1);
    assert_eq!(world.last_words_after("web", 9).await, "");
}

#[tokio::test(start_paused = true)]
async fn only_the_last_4096_bytes_are_told() {
    let world = World::new().await;
    world.create("web", WEB).await;
    world.until_ready("web").await;
    let long = [vec![b'x'; 5000], vec![b'y'; 4096]].concat();
    world.end_with("web", &long, 1);
    assert_eq!(world.last_words_after("web", 1).await, "y".repeat(4096));
    world.end_with("web", &vec![b'z'; (1 << 20) + 1], 1);
    let words = world.last_words_after("web", 2).await;
    assert!(words.starts_with("Error on reading termination log"), "{words}");
}

#[tokio::test(start_paused = true)]
async fn the_end_of_the_log_stands_in_where_the_policy_says_so_and_the_program_failed() {
    let policy = "terminationMessagePolicy: FallbackToLogsOnError";
    let lines: String = (0..100).map(|n| format!("line {n}\n")).collect();
    let of_log: String = lines.split_inclusive('\n').skip(20).collect();
    let cases = [
        (policy, "", 1, of_log.as_str()),
        (policy, "", 0, ""),
        (policy, "its own", 1, "its own"),
        ("terminationMessagePolicy: File", "", 1, ""),
    ];
    for (policy, text, code, want) in cases {
        let world = World::new().await;
        world.create("web", &pod_of(policy)).await;
        world.until_ready("web").await;
        let container = world.running("web", "app").unwrap().name;
        lines.lines().for_each(|line| world.engine.print(&container, line));
        world.end_with("web", text.as_bytes(), code);
        assert_eq!(world.last_words_after("web", 1).await, want, "{policy}, {text:?}, {code}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_outlives_the_agent_and_one_that_nobody_read_is_read_by_the_next() {
    let mut world = World::new().await;
    world.create("web", "{restartPolicy: Never, containers: [{name: app, image: 'web:1'}]}").await;
    world.until_ready("web").await;
    world.stop_agent().await;
    world.end_with("web", b"unseen", 1);
    world.start_agent();
    world.until("ended", |w| w.ended("web")).await;
    assert_eq!(message(world.status("web").state), "unseen");
    world.stop_agent().await;
    world.engine.take_calls();
    world.start_agent();
    world.sleep(60).await;
    assert_eq!(message(world.status("web").state), "unseen");
    assert!(world.engine.calls().iter().all(|c| c.kind != CallKind::FileEnd), "the status knows it");
}

#[tokio::test(start_paused = true)]
async fn another_run_of_the_same_container_does_not_repeat_the_message() {
    let world = World::new().await;
    world.create("web", WEB).await;
    world.until_ready("web").await;
    let container = world.running("web", "app").unwrap().name;
    world.engine.write_file(&container, PATH, b"first");
    world.engine.docker_restart(&container, Duration::from_secs(5)).await.unwrap();
    assert_eq!(world.last_words_after("web", 1).await, "first");
    world.engine.crash(&container, 1);
    assert_eq!(world.last_words_after("web", 2).await, "");
}

#[tokio::test(start_paused = true)]
async fn the_files_of_init_containers_are_read_too() {
    let world = World::new().await;
    world.engine.add_image("fails:1", Behaviour::exits(Duration::from_secs(2), 4));
    let init = "initContainers: [{name: first, image: 'fails:1', terminationMessagePath: /tmp/why}]";
    world
        .create("web", &format!("{{restartPolicy: Never, {init}, containers: [{{name: app, image: 'web:1'}}]}}"))
        .await;
    world.until("init runs", |w| w.running("web", "first").is_some()).await;
    world.engine.write_file(&world.running("web", "first").unwrap().name, "/tmp/why", b"no schema");
    world.until("failed", |w| w.phase("web") == "Failed").await;
    let status = world.pod("web").unwrap().status.clone().unwrap();
    assert_eq!(message(status.init_container_statuses.unwrap()[0].state.clone()), "no schema");
}

#[tokio::test(start_paused = true)]
async fn a_file_that_cannot_be_read_delays_no_status_for_long() {
    for (times, want) in [(2, "why"), (u32::MAX, "Error on reading termination log")] {
        let world = World::new().await;
        world.create("web", "{restartPolicy: Never, containers: [{name: app, image: 'web:1'}]}").await;
        world.until_ready("web").await;
        let call = CallFault { call: Some(CallKind::FileEnd), fault: Fault::FailBefore, one_in: 1, times };
        world.engine.set_faults(FaultPlan { calls: vec![call], ..FaultPlan::default() });
        world.end_with("web", b"why", 1);
        let took = world.until("ended", |w| w.ended("web")).await;
        assert!(took < Duration::from_secs(6), "{took:?}");
        let words = message(world.status("web").state);
        assert!(words.starts_with(want), "{words}");
    }
}
