//! Pods that nobody can serve: each costs the node a bounded little, says why, ends when it is deleted, and holds up no other.

use super::*;
use crate::{
    api::kinds::config_map::ConfigMaps,
    engine::fake::{CallFault, CallKind, Fault, FaultPlan},
};
use k8s_openapi::api::core::v1::ConfigMap;

/// A container whose every variable is twice the one before.
const BOMB: &str = "{name: A0, value: xy}, {name: A1, value: '$(A0)$(A0)'}, {name: A2, value: '$(A1)$(A1)'}, \
    {name: A3, value: '$(A2)$(A2)$(A2)$(A2)$(A2)$(A2)$(A2)$(A2)$(A2)$(A2)'}, \
    {name: A4, value: '$(A3)$(A3)$(A3)$(A3)$(A3)$(A3)$(A3)$(A3)$(A3)$(A3)'}, \
    {name: A5, value: '$(A4)$(A4)$(A4)$(A4)$(A4)$(A4)$(A4)$(A4)$(A4)$(A4)'}, \
    {name: A6, value: '$(A5)$(A5)$(A5)$(A5)$(A5)$(A5)$(A5)$(A5)$(A5)$(A5)'}, \
    {name: A7, value: '$(A6)$(A6)$(A6)$(A6)$(A6)$(A6)$(A6)$(A6)$(A6)$(A6)'}";

#[tokio::test(start_paused = true)]
async fn an_environment_that_explodes_is_refused_with_its_field_and_the_pod_can_be_deleted() {
    let world = World::new().await;
    world.create("bomb", &format!("{{containers: [{{name: app, image: 'web:1', env: [{BOMB}]}}]}}")).await;
    world.create("web", WEB).await;
    world.until_ready("web").await;
    world.until("refused", |w| w.waits("bomb") == "CreateContainerConfigError").await;
    let message = world.status("bomb").state.and_then(|s| s.waiting?.message).unwrap_or_default();
    assert_eq!(message, "spec.containers[0].env[7].value: Too long: may not be more than 131071 bytes");
    world.sleep(300).await;
    let creates = world.engine.calls().into_iter().filter(|c| c.kind == CallKind::Create);
    assert_eq!(creates.filter(|c| c.subject.starts_with("k8s_app_bomb")).count(), 0, "the engine is never asked");
    assert!(world.events("bomb").contains(&format!("Failed: Error: {message}")), "{:?}", world.events("bomb"));
    world.delete("bomb", None).await;
    world.until("gone", |w| w.pod("bomb").is_none() && w.names("bomb").is_empty()).await;
}

#[tokio::test(start_paused = true)]
async fn delays_that_no_calendar_holds_harm_nobody() {
    let world = World::new().await;
    let forever = i64::MAX;
    let hook = format!("lifecycle: {{preStop: {{sleep: {{seconds: {forever}}}}}}}");
    let probe = "periodSeconds: 2147483647, initialDelaySeconds: 2147483647, timeoutSeconds: 2147483647";
    let probes = format!(
        "livenessProbe: {{tcpSocket: {{port: 80}}, {probe}}}, readinessProbe: {{tcpSocket: {{port: 80}}, {probe}}}"
    );
    let pod = |more: &str| {
        format!(
            "{{terminationGracePeriodSeconds: {forever}, activeDeadlineSeconds: 2147483647, \
             containers: [{{name: app, image: 'web:1', {more}}}]}}"
        )
    };
    world.create("hook", &pod(&hook)).await;
    world.create("probes", &pod(&probes)).await;
    world.until("run", |w| w.running("hook", "app").is_some() && w.running("probes", "app").is_some()).await;
    world.delete("hook", None).await;
    world.delete("probes", None).await;
    world.until("gone", |w| w.pod("probes").is_none()).await;
    assert!(world.running("hook", "app").is_some(), "its hook sleeps");
    world.delete("hook", Some(1)).await;
    let took = world.until("gone", |w| w.pod("hook").is_none()).await;
    assert!(took < Duration::from_secs(10), "{took:?}");
}

/// The calls of these kinds since the record was last taken.
fn count(world: &World, kinds: &[CallKind]) -> usize {
    world.engine.take_calls().iter().filter(|call| kinds.contains(&call.kind)).count()
}

#[tokio::test(start_paused = true)]
async fn a_host_port_that_is_taken_costs_little_and_serves_the_pod_once_it_is_free() {
    let world = World::new().await;
    world.until("node", World::node_is_ready).await;
    world.engine.set_port_taken(8080, true);
    let ports = "ports: [{containerPort: 80, hostPort: 8080}]";
    world.create("web", &format!("{{containers: [{{name: app, image: 'web:1', {ports}}}]}}")).await;
    world.engine.take_calls();
    world.sleep(60).await;
    let made = count(&world, &[CallKind::Create]);
    assert!((5..=8).contains(&made), "{made} containers in the first minute");
    world.sleep(240).await;
    let made = count(&world, &[CallKind::Create]);
    assert!((7..=9).contains(&made), "{made} containers in the next four minutes");
    assert!(world.names("web").len() <= 2, "{:?}", world.names("web"));
    let events = world.events("web");
    assert!(events.len() <= 15, "{events:?}");
    let is_gathered = |e: &String| e.starts_with("FailedCreatePodSandBox: (combined from similar events): ");
    assert!(events.iter().any(is_gathered), "{events:?}");
    world.engine.set_port_taken(8080, false);
    let took = world.until_ready("web").await;
    assert!(took < Duration::from_secs(35), "{took:?}");
}

/// A probe that always panics.
struct Poison;

#[async_trait]
impl NetProbe for Poison {
    async fn http(&self, _: &HttpTarget, _: Duration) -> Result<(), String> {
        Ok(())
    }
    async fn tcp(&self, _: &str, _: u16, _: Duration) -> Result<(), String> {
        panic!("planned");
    }
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_panics_is_one_that_failed() {
    let mut world = World::new().await;
    world.stop_agent().await;
    world.config.net_probe = Arc::new(Poison);
    world.start_agent();
    world.create("bad", "{containers: [{name: app, image: 'web:1', readinessProbe: {tcpSocket: {port: 80}}}]}").await;
    let told = "Unhealthy: Readiness probe failed: the probe panicked: planned".to_owned();
    world.until("told", |w| w.events("bad").contains(&told)).await;
    assert!(!world.is_ready("bad") && world.phase("bad") == "Running");
    world.delete("bad", Some(0)).await;
    world.until("gone", |w| w.pod("bad").is_none()).await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_whose_worker_always_panics_says_so_backs_off_and_can_be_deleted() {
    let mut world = World::new().await;
    world.stop_agent().await;
    world.config.tokens = Some(Arc::new(Panics(0..u32::MAX, AtomicU32::new(0))));
    world.start_agent();
    world.create("bad", WITH_TOKEN).await;
    world.create("web", WEB).await;
    world.until_ready("web").await;
    world.engine.take_calls();
    world.sleep(600).await;
    // 1, 2, 4 … 256 s: each time the engine is listed once.
    let lists = count(&world, &[CallKind::List]);
    assert!((9..=13).contains(&lists), "{lists} lists in ten minutes");
    let events = world.events("bad");
    let told = "FailedSync: Error syncing pod: its worker panicked and is made anew in 1s: planned".to_owned();
    assert!(events.contains(&told) && events.len() <= 15, "{events:?}");
    world.delete("web", Some(0)).await;
    world.until("gone", |w| w.pod("web").is_none()).await;
    world.delete("bad", Some(0)).await;
    let took = world.until("gone", |w| w.pod("bad").is_none() && w.names("bad").is_empty()).await;
    assert!(took < Duration::from_secs(5), "it is deleted at once, not at its worker's next time: {took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_sandbox_that_ends_by_itself_at_once_is_not_made_over_and_over() {
    let world = World::new().await;
    world.until("node", World::node_is_ready).await;
    world.engine.add_image("skiff:test", Behaviour::exits(Duration::from_millis(10), 1));
    world.engine.take_calls();
    world.create("web", WEB).await;
    world.sleep(60).await;
    let made = count(&world, &[CallKind::Create]);
    assert!((5..=14).contains(&made), "{made} containers in a minute");
    world.engine.add_image("skiff:test", Behaviour::pause());
    world.until_ready("web").await;
}

#[tokio::test(start_paused = true)]
async fn a_sandbox_without_an_address_is_replaced_and_not_looked_at_over_and_over() {
    let mut world = World::new().await;
    world.create("web", WEB).await;
    world.until_ready("web").await;
    world.stop_agent().await;
    world.engine.disconnect(&world.running("web", "POD").unwrap().id);
    world.engine.take_calls();
    world.start_agent();
    world.until("rebuilt", |w| w.restarts("web") == 1 && w.is_ready("web")).await;
    world.sleep(60).await;
    let looks = count(&world, &[CallKind::Inspect]);
    assert!(looks <= 8, "{looks} looks in a minute");
    assert_eq!(world.names("web"), ["POD/1", "app/0", "app/1"]);
}

async fn set_config(world: &World, name: &str, data: &str) {
    let maps = world.registry.api::<ConfigMaps>();
    let text = format!("{{metadata: {{name: {name}, namespace: default}}, data: {data}}}");
    let map: ConfigMap = crate::testing::from_yaml(&text).unwrap();
    let key = ObjectKey::new("default", name);
    if maps.get(&key).is_none() {
        maps.create(map).await.unwrap();
    } else {
        maps.modify(&key, |old| old.data.clone_from(&map.data)).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn an_object_that_changes_all_the_time_wakes_only_those_whom_it_helps() {
    let world = World::new().await;
    let env = |key: &str| format!("env: [{{name: X, valueFrom: {{configMapKeyRef: {{name: busy, key: {key}}}}}}}]");
    let volumes = "volumes: [{name: c, configMap: {name: missing}}]";
    world.create("key", &format!("{{containers: [{{name: app, image: 'web:1', {}}}]}}", env("wanted"))).await;
    world.create("files", &format!("{{containers: [{{name: app, image: 'web:1'}}], {volumes}}}")).await;
    world.until("blocked", |w| w.waits("key") == "CreateContainerConfigError").await;
    world.sleep(10).await;
    world.engine.take_calls();
    for n in 0..300 {
        set_config(&world, "busy", &format!("{{n: '{n}'}}")).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let calls = count(&world, &[CallKind::Image, CallKind::Create, CallKind::CreateVolume]);
    assert!(calls <= 4, "{calls} calls in half a minute");
    assert!(world.events("key").len() + world.events("files").len() <= 8);
    set_config(&world, "busy", "{wanted: x}").await;
    let took = world.until_ready("key").await;
    assert!(took < Duration::from_secs(1), "{took:?}");
    set_config(&world, "missing", "{wanted: x}").await;
    let took = world.until_ready("files").await;
    assert!(took < Duration::from_secs(1), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn files_that_change_all_the_time_are_written_at_a_distance_and_the_last_ones_stay() {
    let world = World::new().await;
    set_config(&world, "busy", "{n: first}").await;
    let volumes = "volumes: [{name: c, configMap: {name: busy}}]";
    world.create("web", &format!("{{containers: [{{name: app, image: 'web:1'}}], {volumes}}}")).await;
    world.until_ready("web").await;
    world.engine.take_calls();
    for n in 0..300 {
        set_config(&world, "busy", &format!("{{n: '{n}'}}")).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    world.sleep(3).await;
    let uploads = count(&world, &[CallKind::Upload]);
    assert!((25..=35).contains(&uploads), "{uploads} writes in half a minute");
    // A write that fails is made again.
    let fault = CallFault { call: Some(CallKind::Upload), fault: Fault::FailBefore, one_in: 1, times: 2 };
    world.engine.set_faults(FaultPlan { calls: vec![fault], ..FaultPlan::default() });
    set_config(&world, "busy", "{n: last}").await;
    world.sleep(10).await;
    assert_eq!(count(&world, &[CallKind::Upload]), 3);
    world.sleep(60).await;
    assert_eq!(count(&world, &[CallKind::Upload]), 0, "then all is as wanted");
}
