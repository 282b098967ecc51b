//! A calm world: sound images, no faults. Rollouts then keep every promise at every moment, to the last connection.

use super::{
    each_in_parallel, failure,
    fence::Fence,
    manifests::{SOUND, deployment, one_of, set_image},
    seeds, simulate,
    workload::change,
    world::World,
};
use crate::{
    api::{
        kinds::{deployment::Deployments, pod::Pods},
        meta::ObjectKey,
        pod_state,
    },
    engine::Phase,
};
use k8s_openapi::api::{apps::v1::Deployment, core::v1::Pod};
use std::{collections::BTreeSet, sync::Arc, time::Duration};

/// Seeds of an ordinary test run.
const SEEDS: u64 = 8;
/// Images that are rolled out in a run.
const ROLLOUTS: usize = 4;
/// How often the promises are checked.
const LOOK: Duration = Duration::from_millis(50);
const NAME: &str = "web";

/// The watchful user of a calm world.
struct Calm {
    world: World,
    key: ObjectKey,
}

impl Calm {
    async fn new(seed: u64) -> Self {
        let world = World::new(seed).await;
        let size = i32::try_from(world.rng.between(1, 6)).unwrap();
        let image = (*one_of(&world, SOUND).unwrap()).to_owned();
        let wanted = deployment(&world, NAME, &image, size, world.rng.one_in(3));
        world.registry().api::<Deployments>().create(wanted).await.unwrap();
        Self { world, key: ObjectKey::new("default", NAME) }
    }

    fn deployment(&self) -> Arc<Deployment> {
        self.world.registry().api::<Deployments>().get(&self.key).unwrap()
    }

    fn pods(&self) -> Vec<Arc<Pod>> {
        let mut pods = self.world.registry().api::<Pods>().list("default").items;
        pods.retain(|pod| pod_state::is_active(pod));
        pods
    }

    /// Rolls out images that are drawn; some while the one before is still being rolled out.
    async fn roll(&mut self) {
        self.world.complete().await;
        for _ in 0..ROLLOUTS {
            let image = (*one_of(&self.world, SOUND).unwrap()).to_owned();
            self.world.note(image.clone());
            change(&self.world, &self.key, move |s| set_image(s, &image)).await.unwrap();
            let patience = if self.world.rng.one_in(2) { 600_000 } else { self.world.rng.between(0, 12_000) };
            self.watch(Duration::from_millis(patience)).await;
        }
        self.watch(Duration::from_secs(600)).await;
        self.world.converge().await;
    }

    /// Checks the promises until the rollout is complete, for so long at most.
    async fn watch(&mut self, time: Duration) {
        let mut waited = Duration::ZERO;
        while waited < time && self.world.settled().is_err() {
            self.world.tick(LOOK).await;
            waited += LOOK;
            self.check();
        }
    }

    fn check(&self) {
        let (deployment, pods) = (self.deployment(), self.pods());
        let (fence, now) = (Fence::of(&deployment), self.world.clock.now());
        let min_ready = deployment.spec.min_ready_seconds.unwrap_or(0);
        let (all, available) =
            (pods.len(), pods.iter().filter(|p| pod_state::is_pod_available(p, min_ready, now)).count());
        assert!(all <= usize::try_from(fence.pods_max).unwrap(), "{all} pods at {now}: {fence:?}");
        assert!(
            available >= usize::try_from(fence.available_min).unwrap(),
            "{available} available pods at {now}: {fence:?}"
        );
        for address in self.world.data_plane.addresses() {
            assert!(self.world.engine.answers(address, 8080), "a connection to {address} is refused at {now}");
        }
        let is_recreate = deployment.spec.strategy.as_ref().is_some_and(|s| s.type_.as_deref() == Some("Recreate"));
        let images = self.running_images();
        assert!(!is_recreate || images.len() <= 1, "{images:?} run together at {now}");
    }

    fn running_images(&self) -> BTreeSet<String> {
        let running = self.world.engine.containers().into_iter().filter(|c| c.phase == Phase::Running);
        running.filter(|c| c.name.starts_with("k8s_c_")).map(|c| c.image).collect()
    }
}

#[test]
fn a_calm_rollout_keeps_its_promises_at_every_moment() {
    each_in_parallel(seeds(SEEDS), |seed| {
        let run = async {
            let mut calm = Calm::new(seed).await;
            calm.roll().await;
        };
        failure(|| simulate(run)).map(|why| format!("the calm world of seed {seed}: {why}"))
    });
}
