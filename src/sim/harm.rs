//! What several users of the simulator do to pods and containers, whatever they do it for.

use super::{manifests::one_of, world::World};
use crate::{
    api::{kinds::pod::Pods, meta::ObjectKey, status::ApiError},
    registry::pipeline::DeleteOptions,
};

/// Deletes any pod; `grace` draws its grace period in seconds, or leaves it to the pod.
pub(super) async fn delete_pod(world: &World, grace: fn(&World) -> Option<i64>) -> Result<(), ApiError> {
    let api = world.registry().api::<Pods>();
    let pods = api.list("default").items;
    let Some(pod) = one_of(world, &pods) else { return Ok(()) };
    let options = DeleteOptions { grace_period_secs: grace(world), ..DeleteOptions::default() };
    api.delete(&ObjectKey::of(&pod.metadata), &options).await
}

/// Kills any container behind the cluster's back.
pub(super) fn kill(world: &World) {
    let all: Vec<String> = world.engine.containers().into_iter().map(|container| container.id).collect();
    if let Some(id) = one_of(world, &all) {
        drop(world.engine.docker_kill(id, "SIGKILL"));
    }
}
