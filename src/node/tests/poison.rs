//! Pods that nobody can serve: each costs the node a bounded little, says why, ends when it is deleted, and holds up no other.

use super::*;
use crate::engine::fake::CallKind;

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
