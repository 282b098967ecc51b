//! Containers that get other resources while they run.

use super::*;
use crate::{
    api::{kind::TypedKind as _, kinds::pod::RESIZE, pod_state, status::ApiError},
    engine::Resources,
    registry::pipeline::{Part, WriteOptions, decoded},
};

impl World {
    /// Changes what the pod's first container asks for, as `kubectl edit --subresource=resize` does.
    async fn resize(&self, pod: &str, resources: &str) -> Result<(), ApiError> {
        let mut change = |entry: &_| {
            let mut pod = Pod::clone(&decoded::<Pods>(entry));
            pod.spec.as_mut().unwrap().containers[0].resources = Some(crate::testing::from_yaml(resources).unwrap());
            Ok(Pods::pack(pod))
        };
        let (key, part) = (ObjectKey::new("default", pod), Part::Facet(RESIZE));
        self.registry.update(Pods::erased(), &key, part, &mut change, &WriteOptions::default()).await.map(drop)
    }

    fn has(&self) -> Resources {
        self.running("web", "app").map(|c| c.resources).unwrap_or_default()
    }

    /// The pod's condition of a resize: its type, reason and message.
    fn resizing(&self) -> String {
        let pod = self.pod("web").unwrap();
        let found =
            ["PodResizePending", "PodResizeInProgress"].iter().find_map(|kind| pod_state::condition(&pod, kind));
        let text = |t: &Option<String>| t.clone().unwrap_or_default();
        found.map(|c| format!("{} {} {}", c.type_, text(&c.reason), text(&c.message))).unwrap_or_default()
    }

    fn given(&self) -> String {
        let given = self.status("web").resources.unwrap_or_default().requests.unwrap_or_default();
        given.get("cpu").map(|cpu| cpu.0.clone()).unwrap_or_default()
    }

    fn told(&self, reason: &str) -> usize {
        self.events("web").iter().filter(|event| event.starts_with(&format!("{reason}: "))).count()
    }
}

const SIZED: &str = "{containers: [{name: app, image: 'web:1', \
    resizePolicy: [{resourceName: memory, restartPolicy: RestartContainer}], \
    resources: {requests: {cpu: 100m, memory: 64Mi}, limits: {cpu: 200m, memory: 128Mi}}}]}";

fn asks(cpu: &str, memory: &str) -> String {
    format!("{{requests: {{cpu: {cpu}, memory: 64Mi}}, limits: {{cpu: '1000', memory: {memory}}}}}")
}

#[tokio::test(start_paused = true)]
async fn a_container_gets_its_cpu_while_it_runs() {
    let world = World::new().await;
    world.create("web", SIZED).await;
    world.until_ready("web").await;
    let before = world.running("web", "app").unwrap();
    world.resize("web", "{requests: {cpu: 150m, memory: 64Mi}, limits: {cpu: 400m, memory: 128Mi}}").await.unwrap();
    world.until("resized", |w| w.has().nano_cpus == Some(400_000_000) && w.given() == "150m").await;
    world.until("told", |w| w.told("ResizeCompleted") == 1).await;
    assert_eq!((world.running("web", "app").unwrap().id, world.restarts("web")), (before.id.clone(), 0));
    assert_eq!((world.resizing(), world.told("ResizeStarted")), (String::new(), 1));
    let status = world.status("web");
    let (has, wants) =
        (status.resources, world.pod("web").unwrap().spec.clone().unwrap().containers[0].resources.clone());
    assert_eq!((has, world.pod("web").unwrap().metadata.generation), (wants, Some(2)));
    // It goes on with its next attempt, and its end is no restart of the engine's.
    world.engine.crash(&before.id, 1);
    world.until("back", |w| w.restarts("web") == 1 && w.has().nano_cpus == Some(400_000_000)).await;
}

#[tokio::test(start_paused = true)]
async fn a_container_that_asks_for_it_is_started_anew() {
    let world = World::new().await;
    world.create("web", SIZED).await;
    world.until_ready("web").await;
    world.resize("web", "{requests: {cpu: 100m, memory: 64Mi}, limits: {cpu: 200m, memory: 256Mi}}").await.unwrap();
    world.until("resized", |w| w.has().memory_bytes == Some(256 << 20) && w.restarts("web") == 1).await;
    world.until("told", |w| w.told("ResizeCompleted") == 1 && w.is_ready("web")).await;
    assert!(world.events("web").contains(&"Killing: Container app resize requires restart".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn what_the_node_cannot_give_waits_and_says_so() {
    let mut world = World::new().await;
    world.until("node", World::node_is_ready).await;
    world.create("web", SIZED).await;
    world.until_ready("web").await;
    let before = world.has();
    world.resize("web", &asks("1000", "128Mi")).await.unwrap();
    world
        .until("told", |w| {
            w.resizing()
                .starts_with("PodResizePending Infeasible Node didn't have enough capacity: cpu, requested: 1000000")
        })
        .await;
    assert_eq!((world.has(), world.given().as_str()), (before, "100m"));
    // Whoever comes back meanwhile has what it was given, and so it is for another process.
    world.engine.crash(&world.running("web", "app").unwrap().id, 1);
    world.until("back", |w| w.restarts("web") == 1 && w.is_ready("web")).await;
    world.stop_agent().await;
    world.start_agent();
    world.sleep(5).await;
    assert_eq!((world.has(), world.given().as_str()), (before, "100m"));
    world.resize("web", &asks("200m", "128Mi")).await.unwrap();
    world.until("given", |w| w.given() == "200m" && w.resizing().is_empty()).await;
}
