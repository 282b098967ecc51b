//! Containers that are added to a pod that runs, to look into it.

use super::*;
use crate::{
    api::{kind::TypedKind as _, kinds::pod::EPHEMERAL_CONTAINERS, status::ApiError},
    engine::NamespaceMode,
    registry::pipeline::{Part, WriteOptions, decoded},
};
use k8s_openapi::api::core::v1::ContainerState;

impl World {
    /// Adds an ephemeral container, as `kubectl debug` does.
    async fn debug(&self, pod: &str, container: &str) -> Result<(), ApiError> {
        let mut change = |entry: &_| {
            let mut pod = Pod::clone(&decoded::<Pods>(entry));
            let all = pod.spec.as_mut().unwrap().ephemeral_containers.get_or_insert_default();
            all.push(crate::testing::from_yaml(container).unwrap());
            Ok(Pods::pack(pod))
        };
        let (key, part) = (ObjectKey::new("default", pod), Part::Facet(EPHEMERAL_CONTAINERS));
        self.registry.update(Pods::erased(), &key, part, &mut change, &WriteOptions::default()).await.map(drop)
    }

    fn debugger(&self, pod: &str) -> ContainerState {
        let status = self.pod(pod).and_then(|p| p.status.clone()).unwrap_or_default();
        let first = status.ephemeral_container_statuses.into_iter().flatten().next();
        first.and_then(|s| s.state).unwrap_or_default()
    }
}

const DEBUGGER: &str = "{name: debugger, image: 'web:1', targetContainerName: app}";

#[tokio::test(start_paused = true)]
async fn an_ephemeral_container_sees_its_targets_processes_and_runs_once() {
    let mut world = World::new().await;
    world.create("web", WEB).await;
    world.until_ready("web").await;
    world.debug("web", DEBUGGER).await.unwrap();
    assert_eq!(world.pod("web").unwrap().metadata.generation, Some(2));
    world.until("debugged", |w| w.debugger("web").running.is_some()).await;
    let (app, debugger) = (world.running("web", "app").unwrap(), world.running("web", "debugger").unwrap());
    assert_eq!(world.engine.spec(&debugger.id).unwrap().pid, NamespaceMode::Container(app.id));
    assert!(world.is_ready("web"), "it has no part in the pod's readiness");
    // It is adopted.
    world.stop_agent().await;
    world.start_agent();
    world.sleep(5).await;
    assert_eq!(world.running("web", "debugger").unwrap().id, debugger.id);
    world.engine.docker_kill(&debugger.id, "SIGKILL").unwrap();
    world.until("ended", |w| w.debugger("web").terminated.is_some()).await;
    world.sleep(60).await;
    assert!(world.running("web", "debugger").is_none(), "it does not run again");
    assert_eq!(world.names("web"), ["POD/0", "app/0", "debugger/0"]);
    assert_eq!(world.restarts("web"), 0);
    // Not even when nothing of it is left but its status.
    world.stop_agent().await;
    world.engine.docker_rm(&debugger.id).unwrap();
    world.start_agent();
    world.sleep(60).await;
    assert_eq!(world.names("web"), ["POD/0", "app/0"]);
    world.delete("web", None).await;
    world.until("gone", |w| w.pod("web").is_none()).await;
}

#[tokio::test(start_paused = true)]
async fn one_whose_target_died_is_made_anew_for_the_next() {
    let world = World::new().await;
    world.create("web", WEB).await;
    world.until_ready("web").await;
    world.debug("web", DEBUGGER).await.unwrap();
    world.until("made", |w| w.names("web").contains(&"debugger/0".to_owned())).await;
    world.engine.docker_kill(&world.running("web", "app").unwrap().id, "SIGKILL").unwrap();
    world.until("debugged", |w| w.debugger("web").running.is_some()).await;
    let (app, debugger) = (world.running("web", "app").unwrap(), world.running("web", "debugger").unwrap());
    assert_eq!(world.engine.spec(&debugger.id).unwrap().pid, NamespaceMode::Container(app.id));
}

#[tokio::test(start_paused = true)]
async fn one_whose_target_does_not_run_waits_and_says_so() {
    let world = World::new().await;
    let spec = "{initContainers: [{name: setup, image: 'web:1'}], containers: [{name: app, image: 'web:1'}]}";
    world.create("web", spec).await;
    world.until("set up", |w| w.running("web", "setup").is_some()).await;
    world.debug("web", DEBUGGER).await.unwrap();
    world
        .until("told", |w| {
            w.debugger("web").waiting.is_some_and(|w| w.reason.as_deref() == Some("CreateContainerConfigError"))
        })
        .await;
    assert_eq!(world.debugger("web").waiting.unwrap().message.as_deref(), Some("unable to find target container app"));
    world.debug("web", "{name: free, image: 'web:1'}").await.unwrap();
    world.until("beside the init container", |w| w.running("web", "free").is_some()).await;
    world.engine.crash(&world.running("web", "setup").unwrap().id, 0);
    world.until("debugged", |w| w.debugger("web").running.is_some()).await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_is_over_whoever_looks_into_it() {
    let world = World::new().await;
    world.create("job", "{restartPolicy: Never, containers: [{name: app, image: 'web:1'}]}").await;
    world.until("up", |w| w.running("job", "app").is_some()).await;
    world.debug("job", "{name: debugger, image: 'web:1'}").await.unwrap();
    world.until("debugged", |w| w.debugger("job").running.is_some()).await;
    world.engine.crash(&world.running("job", "app").unwrap().id, 0);
    world.until("over", |w| w.phase("job") == "Succeeded").await;
    assert!(world.running("job", "debugger").is_none());
}
