//! The life of a pod from its creation to its end.

use super::*;
use crate::engine::fake::{CallKind, ExecBehaviour};
use k8s_openapi::api::core::v1::ConfigMap;

#[tokio::test(start_paused = true)]
async fn a_pod_becomes_ready_in_the_engines_own_time() {
    let world = World::new().await;
    world.create("web", WEB).await;
    let took = world.until_ready("web").await;
    // Sandbox create and start, container start, and a few looks: the container's create is beside the sandbox's start.
    assert!(took < Duration::from_millis(60 + 300 + 300 + 40), "{took:?}");
    assert_eq!(world.names("web"), ["POD/0", "app/0"]);
    assert_eq!(world.phase("web"), "Running");
    let sandbox = world.running("web", "POD").unwrap();
    assert_eq!(world.ip("web"), sandbox.ip.unwrap().to_string());
    let want = [
        "Created: Container created",
        "Pulled: Container image \"web:1\" already present on machine and can be accessed by the pod",
        "Started: Container started",
    ];
    world.until("told", |w| w.events("web") == want).await;
}

#[tokio::test(start_paused = true)]
async fn a_start_makes_no_needless_calls() {
    let world = World::new().await;
    world.until("node", World::node_is_ready).await;
    world.sleep(5).await;
    world.engine.take_calls();
    world.create("web", WEB).await;
    world.until_ready("web").await;
    world.sleep(30).await;
    let kinds: Vec<CallKind> = world.engine.calls().iter().map(|c| c.kind).collect();
    let want = [
        CallKind::CreateVolume,
        CallKind::Create,
        CallKind::Start,
        CallKind::Image,
        CallKind::Create,
        CallKind::Inspect,
        CallKind::Logs,
        CallKind::Start,
    ];
    assert_eq!(kinds, want);
}

#[tokio::test(start_paused = true)]
async fn at_rest_nothing_is_asked_or_written() {
    let world = World::new().await;
    world.create("web", WEB).await;
    world.until_ready("web").await;
    world.sleep(70).await;
    world.engine.take_calls();
    let before = world.registry.store().revision();
    world.sleep(50).await;
    assert!(world.engine.calls().iter().all(|c| c.kind == CallKind::Info), "{:?}", world.engine.calls());
    assert!(world.registry.store().revision().0 <= before.0 + 1, "only the node's lease is renewed");
}

#[tokio::test(start_paused = true)]
async fn pods_start_side_by_side() {
    let world = World::new().await;
    for n in 0..10 {
        world.create(&format!("web-{n}"), WEB).await;
    }
    let took = world.until("ready", |w| (0..10).all(|n| w.is_ready(&format!("web-{n}")))).await;
    assert!(took < Duration::from_secs(1), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_deleted_pod_is_asked_to_stop_and_then_nothing_is_left() {
    let world = World::new().await;
    world.create("web", "{containers: [{name: app, image: 'web:1'}], volumes: [{name: d, emptyDir: {}}]}").await;
    world.until_ready("web").await;
    assert_eq!(world.engine.all_volumes().len(), 1);
    world.delete("web", None).await;
    let took = world.until("gone", |w| w.pod("web").is_none()).await;
    assert!(took < Duration::from_secs(1), "{took:?}");
    assert!(world.names("web").is_empty());
    assert!(world.engine.all_volumes().is_empty());
    assert!(world.events("web").contains(&"Killing: Stopping container app".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn a_program_that_does_not_listen_is_killed_after_its_grace() {
    let world = World::new().await;
    world.engine.add_image("deaf:1", Behaviour::ignores_stop());
    world.create("web", "{terminationGracePeriodSeconds: 7, containers: [{name: app, image: 'deaf:1'}]}").await;
    world.until_ready("web").await;
    world.delete("web", None).await;
    let took = world.until("gone", |w| w.pod("web").is_none()).await;
    assert!(took >= Duration::from_secs(7) && took < Duration::from_secs(9), "{took:?}");
    assert!(world.names("web").is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_second_delete_with_less_grace_shortens_the_first() {
    let world = World::new().await;
    world.engine.add_image("deaf:1", Behaviour::ignores_stop());
    world.create("web", "{containers: [{name: app, image: 'deaf:1'}]}").await;
    world.until_ready("web").await;
    world.delete("web", Some(600)).await;
    world.sleep(5).await;
    world.delete("web", Some(1)).await;
    let took = world.until("gone", |w| w.pod("web").is_none()).await;
    assert!(took < Duration::from_secs(3), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_forced_delete_removes_everything_at_once() {
    let world = World::new().await;
    world.engine.add_image("deaf:1", Behaviour::ignores_stop());
    world.create("web", "{containers: [{name: app, image: 'deaf:1'}]}").await;
    world.until_ready("web").await;
    world.delete("web", Some(0)).await;
    assert!(world.pod("web").is_none());
    let took = world.until("removed", |w| w.names("web").is_empty()).await;
    assert!(took < Duration::from_secs(1), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_is_deleted_while_it_starts_leaves_nothing() {
    for millis in [0, 20, 60, 150, 300, 500] {
        let world = World::new().await;
        world.until("node", World::node_is_ready).await;
        world.create("web", WEB).await;
        tokio::time::sleep(Duration::from_millis(millis)).await;
        world.delete("web", None).await;
        world.until("gone", |w| w.pod("web").is_none() && w.names("web").is_empty()).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_name_that_is_used_again_at_once_is_another_pod() {
    let world = World::new().await;
    let first = world.create("web", WEB).await;
    world.until_ready("web").await;
    world.delete("web", Some(0)).await;
    let second = world.create("web", WEB).await;
    world.until_ready("web").await;
    world.until("the first is gone", |w| w.names("web") == ["POD/0", "app/0"]).await;
    assert_ne!(first.metadata.uid, second.metadata.uid);
    assert_eq!(world.restarts("web"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_job_pod_ends_and_keeps_its_container() {
    let world = World::new().await;
    world.engine.add_image("job:1", Behaviour::exits(Duration::from_secs(3), 0));
    world.create("job", "{restartPolicy: Never, containers: [{name: app, image: 'job:1'}]}").await;
    world.until("succeeded", |w| w.phase("job") == "Succeeded").await;
    world.sleep(5).await;
    assert_eq!(world.names("job"), ["app/0"]);
    world.delete("job", None).await;
    world.until("gone", |w| w.pod("job").is_none() && w.names("job").is_empty()).await;
}

#[tokio::test(start_paused = true)]
async fn init_containers_run_first_and_sidecars_end_last() {
    let world = World::new().await;
    world.engine.add_image("init:1", Behaviour::exits(Duration::from_secs(1), 0));
    world.engine.add_image("job:1", Behaviour::exits(Duration::from_secs(2), 0));
    let spec = "
{restartPolicy: Never,
 initContainers: [{name: side, image: 'web:1', restartPolicy: Always}, {name: init, image: 'init:1'}],
 containers: [{name: app, image: 'job:1'}]}";
    world.create("job", spec).await;
    world.until("initialising", |w| w.running("job", "init").is_some()).await;
    assert!(world.running("job", "side").is_some() && world.running("job", "app").is_none());
    assert_eq!(world.phase("job"), "Pending");
    world.until("succeeded", |w| w.phase("job") == "Succeeded").await;
    assert!(world.running("job", "side").is_none());
}

#[tokio::test(start_paused = true)]
async fn an_image_that_appears_ends_the_wait_for_it() {
    let world = World::new().await;
    world.create("web", "{containers: [{name: app, image: 'late:1'}]}").await;
    world.until("error", |w| w.waits("web") == "ErrImagePull").await;
    world.until("back-off", |w| w.waits("web") == "ImagePullBackOff").await;
    world.sleep(100).await;
    world.engine.add_image("late:1", Behaviour::server());
    let took = world.until_ready("web").await;
    assert!(took < Duration::from_secs(1), "{took:?}");
    let events = world.events("web");
    for want in [
        "Pulling: Pulling image \"late:1\"",
        "Failed: Error: ErrImagePull",
        "BackOff: Back-off pulling image \"late:1\"",
        "Failed: Error: ImagePullBackOff",
    ] {
        assert!(events.iter().any(|e| e == want), "{want}\n{events:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_pull_that_fails_at_first_is_tried_again() {
    let world = World::new().await;
    world.engine.add_remote_image("far:1", Behaviour::server(), 2);
    world.create("web", "{containers: [{name: app, image: 'far:1'}]}").await;
    let took = world.until_ready("web").await;
    assert!(took > Duration::from_secs(30) && took < Duration::from_secs(45), "10 s and 20 s of back-off: {took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_is_deleted_while_it_waits_for_a_pull_goes_at_once() {
    let latencies = Latencies { pull: (Duration::from_secs(300), Duration::from_secs(301)), ..Latencies::DOCKER };
    let world = World::with(latencies, 1).await;
    world.engine.add_remote_image("far:1", Behaviour::server(), 0);
    world.create("web", "{containers: [{name: app, image: 'far:1'}]}").await;
    world.sleep(5).await;
    world.delete("web", None).await;
    let took = world.until("gone", |w| w.pod("web").is_none()).await;
    assert!(took < Duration::from_secs(1), "{took:?}");
    world.sleep(400).await;
    assert!(world.engine.containers().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_missing_config_map_is_waited_for() {
    let world = World::new().await;
    world.create("web", "{containers: [{name: app, image: 'web:1', envFrom: [{configMapRef: {name: cfg}}]}]}").await;
    world.until("error", |w| w.waits("web") == "CreateContainerConfigError").await;
    let message = world.status("web").state.unwrap().waiting.unwrap().message;
    assert_eq!(message.as_deref(), Some("configmap \"cfg\" not found"));
    create_config(&world, "one").await;
    let took = world.until_ready("web").await;
    assert!(took < Duration::from_secs(1), "{took:?}");
}

async fn create_config(world: &World, value: &str) {
    let map: ConfigMap =
        crate::testing::from_yaml(&format!("{{metadata: {{name: cfg, namespace: default}}, data: {{K: {value}}}}}"))
            .unwrap();
    world.registry.api::<crate::api::kinds::config_map::ConfigMaps>().create(map).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn files_of_volumes_are_there_before_containers_start_and_follow_their_objects() {
    let world = World::new().await;
    let spec = "
{containers: [{name: app, image: 'web:1', volumeMounts: [{name: c, mountPath: /c}]}], volumes: [{name: c, configMap: {name: cfg}}]}";
    world.create("web", spec).await;
    world.until("told", |w| w.events("web").iter().any(|e| e.starts_with("FailedMount"))).await;
    assert_eq!(world.waits("web"), "ContainerCreating");
    create_config(&world, "one").await;
    world.until_ready("web").await;
    let sandbox = world.running("web", "POD").unwrap();
    assert!(world.engine.spec(&sandbox.name).unwrap().env.iter().any(|(name, _)| name == "SKIFF_FILES"));
    let key = ObjectKey::new("default", "cfg");
    let maps = world.registry.api::<crate::api::kinds::config_map::ConfigMaps>();
    maps.modify(&key, |map| drop(map.data.get_or_insert_default().insert("K".into(), "two".into()))).await.unwrap();
    world.until("published", |w| w.engine.calls().iter().any(|c| c.kind == CallKind::Exec)).await;
    let kinds: Vec<CallKind> = world.engine.calls().iter().map(|c| c.kind).collect();
    assert!(kinds.contains(&CallKind::Upload));
}

#[tokio::test(start_paused = true)]
async fn secrets_are_written_into_memory_before_containers_start_and_nothing_else_shows_them() {
    let world = World::new().await;
    let secret = "{metadata: {name: sec, namespace: default}, data: {key: czNjcjN0}}";
    let secret: k8s_openapi::api::core::v1::Secret = crate::testing::from_yaml(secret).unwrap();
    world.registry.api::<crate::api::kinds::secret::Secrets>().create(secret).await.unwrap();
    let spec = "
{containers: [{name: app, image: 'web:1', volumeMounts: [{name: s, mountPath: /s}],
env: [{name: KEY, valueFrom: {secretKeyRef: {name: sec, key: key}}}]}], volumes: [{name: s, secret: {secretName: sec}}]}";
    world.create("web", spec).await;
    world.until_ready("web").await;
    let (sandbox, app) = (world.running("web", "POD").unwrap(), world.running("web", "app").unwrap());
    let made = world.engine.spec(&sandbox.name).unwrap();
    assert!(made.env.iter().all(|(name, _)| name != "SKIFF_FILES"), "{:?}", made.env);
    assert!(made.mounts.iter().any(|m| m.target == "/volumes/s"), "{:?}", made.mounts);
    assert!(!format!("{made:?} {:?}", world.engine.spec(&app.name)).contains("s3cr3t"));
    let calls = world.engine.calls();
    let at = |kind: CallKind, of: &str| calls.iter().position(|c| c.kind == kind && c.subject == of).unwrap();
    assert!(made.stdin && made.stdin_once, "they are its input");
    assert!(at(CallKind::Logs, &sandbox.id) < at(CallKind::Start, &app.id), "it has said that they are there");
    let uploads = calls.iter().filter(|c| matches!(c.kind, CallKind::Upload | CallKind::Exec)).count();
    assert_eq!(uploads, 0, "nothing more is asked of the engine");
    world.delete("web", Some(0)).await;
    world.until("gone", |w| w.pod("web").is_none() && w.engine.all_volumes().is_empty()).await;
}

#[tokio::test(start_paused = true)]
async fn readiness_follows_the_probe() {
    let world = World::new().await;
    world.engine.add_image("slow:1", Behaviour::ready_after(Some(Duration::from_secs(2))));
    let spec = "{containers: [{name: app, image: 'slow:1', readinessProbe: {httpGet: {port: 80}, periodSeconds: 10}}]}";
    world.create("web", spec).await;
    world.until("running", |w| w.phase("web") == "Running").await;
    assert!(!world.is_ready("web"));
    let took = world.until_ready("web").await;
    assert!(took < Duration::from_secs(4), "early tries find it soon: {took:?}");
    let app = world.running("web", "app").unwrap();
    world.engine.set_ready(&app.name, Some(false));
    let took = world.until("unready", |w| !w.is_ready("web")).await;
    assert!(took > Duration::from_secs(10) && took < Duration::from_secs(31), "three failures: {took:?}");
    assert!(world.events("web").iter().any(|e| e.starts_with("Unhealthy: Readiness probe failed: ")));
}

#[tokio::test(start_paused = true)]
async fn a_failed_liveness_probe_restarts_the_container() {
    let world = World::new().await;
    world.engine.add_image("web:2", Behaviour { exec: ExecBehaviour::Readiness, ..Behaviour::server() });
    let spec =
        "{containers: [{name: app, image: 'web:2', livenessProbe: {exec: {command: [check]}, periodSeconds: 1}}]}";
    world.create("web", spec).await;
    world.until_ready("web").await;
    let app = world.running("web", "app").unwrap();
    world.engine.set_ready(&app.name, Some(false));
    world.until("restarted", |w| w.restarts("web") == 1 && w.is_ready("web")).await;
    let want = "Killing: Container app failed liveness probe, will be restarted";
    assert!(world.events("web").contains(&want.to_owned()), "{:?}", world.events("web"));
}

#[tokio::test(start_paused = true)]
async fn a_changed_image_replaces_the_container_in_place() {
    let world = World::new().await;
    world.engine.add_image("web:2", Behaviour::server());
    world.create("web", WEB).await;
    world.until_ready("web").await;
    let sandbox = world.running("web", "POD").unwrap().id;
    let change = |pod: &mut Pod| pod.spec.as_mut().unwrap().containers[0].image = Some("web:2".into());
    world.registry.api::<Pods>().modify(&ObjectKey::new("default", "web"), change).await.unwrap();
    world.until("replaced", |w| w.restarts("web") == 1 && w.is_ready("web")).await;
    assert_eq!(world.running("web", "app").unwrap().image, "web:2");
    assert_eq!(world.running("web", "POD").unwrap().id, sandbox);
}

#[tokio::test(start_paused = true)]
async fn hooks_run_after_the_start_and_before_the_end() {
    let world = World::new().await;
    let spec = "
{containers: [{name: app, image: 'web:1', lifecycle: {
  postStart: {exec: {command: [sleep, '2']}}, preStop: {exec: {command: [sleep, '3']}}}}]}";
    world.create("web", spec).await;
    let took = world.until_ready("web").await;
    assert!(took > Duration::from_secs(2), "{took:?}");
    world.delete("web", None).await;
    let took = world.until("gone", |w| w.pod("web").is_none()).await;
    assert!(took > Duration::from_secs(3) && took < Duration::from_secs(5), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_pod_runs_no_longer_than_its_deadline() {
    let world = World::new().await;
    world.create("web", "{activeDeadlineSeconds: 5, containers: [{name: app, image: 'web:1'}]}").await;
    world.until_ready("web").await;
    world.until("failed", |w| w.phase("web") == "Failed").await;
    assert_eq!(world.pod("web").unwrap().status.as_ref().unwrap().reason.as_deref(), Some("DeadlineExceeded"));
    world.until("stopped", |w| w.running("web", "app").is_none()).await;
}

#[tokio::test(start_paused = true)]
async fn the_log_of_a_container_and_of_the_one_before() {
    let world = World::new().await;
    world.engine.add_image("chat:1", Behaviour { output: vec!["hello".into()], ..Behaviour::server() });
    world.create("web", "{containers: [{name: app, image: 'chat:1'}]}").await;
    world.until_ready("web").await;
    let agent = Agent::new(world.registry.clone(), Arc::new(world.engine.clone()), world.config.clone());
    let read = |previous: bool| {
        let streams = agent.streams();
        async move {
            let query = crate::node::streams::LogQuery { previous, ..Default::default() };
            let log = streams.logs(&ObjectKey::new("default", "web"), &query).await?;
            let chunks: Vec<_> = futures::StreamExt::collect(log).await;
            let bytes: Vec<u8> = chunks.into_iter().flat_map(|c| c.unwrap().to_vec()).collect();
            Ok::<_, crate::api::status::ApiError>(String::from_utf8(bytes).unwrap())
        }
    };
    assert_eq!(read(false).await.unwrap(), "hello\n");
    let error = read(true).await.unwrap_err();
    assert_eq!(error.to_string(), "previous terminated container \"app\" in pod \"web\" not found");
    let app = world.running("web", "app").unwrap();
    world.engine.print(&app.name, "last words");
    world.engine.docker_kill(&app.name, "SIGKILL").unwrap();
    world.until("restarted", |w| w.restarts("web") == 1).await;
    assert_eq!(read(true).await.unwrap(), "hello\nlast words\n");
}

#[tokio::test(start_paused = true)]
async fn the_node_says_what_it_is_and_whether_it_is_ready() {
    let world = World::new().await;
    world.until("node", |w| w.node_is_ready() && w.has_lease()).await;
    let node = world.node().unwrap();
    let status = node.status.as_ref().unwrap();
    assert_eq!(status.capacity.as_ref().unwrap()["cpu"].0, "2");
    assert_eq!(node.metadata.labels.as_ref().unwrap()["kubernetes.io/hostname"], "skiff");
    let names = |n: &Node| {
        n.status.as_ref().unwrap().images.iter().flatten().flat_map(|i| i.names.clone().unwrap()).collect::<Vec<_>>()
    };
    assert!(names(&node).contains(&"web:1".to_owned()));
    world.engine.add_image("new:1", Behaviour::server());
    world.until("listed", |w| names(&w.node().unwrap()).contains(&"new:1".to_owned())).await;
}

#[tokio::test(start_paused = true)]
async fn tokens_are_replaced_before_they_expire() {
    let mut world = World::new().await;
    world.stop_agent().await;
    world.config.tokens = Some(Arc::new(Numbered::default()));
    world.start_agent();
    let spec = "
{containers: [{name: app, image: 'web:1', volumeMounts: [{name: t, mountPath: /t}]}],
 volumes: [{name: t, projected: {sources: [{serviceAccountToken: {path: token, expirationSeconds: 1000}}]}}]}";
    world.create("web", spec).await;
    world.until_ready("web").await;
    world.sleep(700).await;
    let writes = |w: &World| w.engine.calls().iter().filter(|c| c.kind == CallKind::Upload).count();
    assert_eq!(writes(&world), 0, "the first was given at the start");
    world.stop_agent().await;
    world.start_agent();
    world.sleep(50).await;
    assert_eq!(writes(&world), 0, "the next process leaves a token that is good");
    world.sleep(100).await;
    assert_eq!(writes(&world), 1);
    world.sleep(800).await;
    assert_eq!(writes(&world), 2);
}
