//! Pods with volumes that show images.

use super::*;
use crate::{
    engine::fake::{CallKind, Fault},
    node::identity::{full_image_volume, image_volume_name},
};

const FAULTS: [Fault; 4] = [
    Fault::FailBefore,
    Fault::LostReply,
    Fault::CutReply,
    Fault::DaemonRestart { down: Duration::from_secs(2), stop_containers: false },
];

/// A pod with the files of this image.
fn with_files(image: &str) -> String {
    format!(
        "{{containers: [{{name: app, image: 'web:1', volumeMounts: [{{name: v, mountPath: /v}}]}}], \
         volumes: [{{name: v, image: {{reference: '{image}', pullPolicy: IfNotPresent}}}}]}}"
    )
}

/// The volumes that there are of images.
fn there(world: &World) -> Vec<String> {
    world.engine.all_volumes().into_iter().filter(|name| name.contains("_image_")).collect()
}

/// The volumes with an image's files, and those that say that they are full.
async fn wanted(world: &World, image: &str) -> Vec<String> {
    let id = world.engine.image(image).await.unwrap().unwrap().id;
    let name = image_volume_name("skiff", &id);
    vec![name.clone(), full_image_volume(&name)]
}

#[tokio::test(start_paused = true)]
async fn pods_share_the_volume_of_an_image_and_it_goes_with_the_last() {
    let mut world = World::new().await;
    world.engine.add_image("files:1", Behaviour::server());
    world.create("one", &with_files("files:1")).await;
    world.create("two", &with_files("files:1")).await;
    world.until("ready", |w| w.is_ready("one") && w.is_ready("two")).await;
    let copies = world.engine.calls().iter().filter(|call| call.kind == CallKind::CopyImageFiles).count();
    assert_eq!((copies, there(&world)), (1, wanted(&world, "files:1").await));
    assert_eq!(world.engine.containers().len(), 4, "no helper is left");
    world.delete("one", None).await;
    world.until("gone", |w| w.pod("one").is_none()).await;
    assert_eq!(there(&world), wanted(&world, "files:1").await);
    // The next process knows of it from the containers, and removes it with the last pod.
    world.stop_agent().await;
    world.start_agent();
    world.sleep(60).await;
    assert_eq!(there(&world), wanted(&world, "files:1").await);
    world.create("three", &with_files("files:1")).await;
    world.until_ready("three").await;
    world.delete("two", None).await;
    world.delete("three", None).await;
    world.until("gone", |w| w.engine.containers().is_empty() && w.engine.all_volumes().is_empty()).await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_waits_for_the_image_of_its_volume_in_the_kubelets_words() {
    let world = World::new().await;
    world.create("web", &with_files("files:1")).await;
    world.until("refused", |w| w.waits("web") == "ErrImagePull").await;
    world.until("held back", |w| w.waits("web") == "ImagePullBackOff").await;
    let message = world.status("web").state.unwrap().waiting.unwrap().message.unwrap();
    assert!(message.starts_with("Back-off pulling image \"files:1\": ErrImagePull: "), "{message}");
    assert!(world.events("web").iter().any(|event| event.starts_with("Pulling: Pulling image \"files:1\"")));
    world.engine.add_image("files:1", Behaviour::server());
    world.until_ready("web").await;
}

#[tokio::test(start_paused = true)]
async fn a_volume_that_nobody_waits_for_any_more_goes_when_it_is_full() {
    let world = World::with(Latencies::DOCKER, 1).await;
    world.until("node", World::node_is_ready).await;
    world.engine.add_image("files:1", Behaviour::server());
    world.create("web", &with_files("files:1")).await;
    let is_filled = |w: &World| w.engine.calls().iter().any(|call| call.kind == CallKind::CopyImageFiles);
    world.until("it is being filled", is_filled).await;
    world.delete("web", Some(0)).await;
    world.until("gone", |w| w.pod("web").is_none()).await;
    assert!(!there(&world).is_empty(), "it is still being filled");
    // Two full lists see it without a pod.
    world.sleep(1300).await;
    assert_eq!(there(&world), Vec::<String>::new());
    // And another pod has it filled anew.
    world.create("next", &with_files("files:1")).await;
    world.until_ready("next").await;
}

#[tokio::test(start_paused = true)]
async fn a_volume_of_an_image_survives_any_failing_call() {
    for fault in FAULTS {
        for nth in 1.. {
            let world = World::with(Latencies::DOCKER, nth).await;
            world.until("node", World::node_is_ready).await;
            world.engine.add_image("files:1", Behaviour::server());
            let volumes = wanted(&world, "files:1").await;
            world.sleep(1).await;
            world.engine.fail_nth_call(nth, fault);
            world.create("web", &with_files("files:1")).await;
            world.until_ready("web").await;
            assert_eq!(there(&world), volumes, "{fault:?} {nth}");
            world.delete("web", None).await;
            world.until("gone", |w| w.engine.containers().is_empty() && w.engine.all_volumes().is_empty()).await;
            if world.engine.nth_call_is_pending() {
                assert!(nth > 12, "the scenario makes calls");
                break;
            }
        }
    }
}
