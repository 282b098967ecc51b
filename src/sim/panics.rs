//! Each loop of the control plane panics once: it is begun again, and everything goes on.
//!
//! Not here: the loops of controllers, which `controllers::runtime` begins again, and the workers of single pods (`poison`).

use super::{
    manifests::{SOUND, deployment},
    simulate,
    world::World,
};
use crate::{
    api::{
        kinds::{deployment::Deployments, event::Events, pod::Pods},
        meta::ObjectKey,
    },
    registry::pipeline::DeleteOptions,
};
use std::time::Duration;

/// The loops, by the names of their tasks.
const LOOPS: [&str; 5] = ["events", "node-agent", "node-feed", "node-list", "node-object"];
/// How long a loop may be at rest: the node lists the engine every ten minutes.
const REST_MAX: Duration = Duration::from_mins(20);
const STEP: Duration = Duration::from_secs(10);

#[test]
fn every_loop_outlives_a_panic() {
    LOOPS.iter().for_each(|name| simulate(outlives_a_panic(name)));
}

async fn outlives_a_panic(name: &str) {
    let mut world = World::new(5).await;
    let wanted = deployment(&world, "web", SOUND[0], 3, false);
    world.registry().api::<Deployments>().create(wanted).await.unwrap();
    world.user_wrote();
    world.converge().await;
    world.group().doom(name);
    replace_a_pod(&mut world).await;
    let mut rested = Duration::ZERO;
    while world.group().is_doomed(name) {
        assert!(rested < REST_MAX, "{name} does nothing");
        world.tick(STEP).await;
        rested += STEP;
    }
    let told = |world: &World| world.registry().api::<Events>().list("default").items.len();
    let before = told(&world);
    replace_a_pod(&mut world).await;
    world.converge().await;
    assert!(told(&world) > before, "after a panic of {name} no Event is written");
}

/// Deletes a pod, which somebody wants.
async fn replace_a_pod(world: &mut World) {
    let pod = world.registry().api::<Pods>().list("default").items.remove(0);
    let key = ObjectKey::of(&pod.metadata);
    world.note(format!("delete pod {key}"));
    world.registry().api::<Pods>().delete(&key, &DeleteOptions::default()).await.unwrap();
    world.user_wrote();
}
