//! Strays: containers and volumes of this cluster that belong to no pod.
//!
//! Called by `agent` after every full list. [`Strays`] is plain state; [`list`] and [`remove`] are the I/O.
//!
//! **Invariants**: nothing is removed that was not seen without a pod in two full lists, a grace period apart; or in the first list of a
//! process: what that finds was made for pods that were stored before, and no worker is at it any more. Helpers are nobody's then, even
//! where their pod stays.
//! **Not here**: what a worker removes because it saw its pod go.

use super::{
    context::Context,
    execute,
    identity::{is_image_volume, pod_uid, volume_owner},
    image_volumes::mounted_by,
    volumes::sub_paths::HELPER_OF,
};
use crate::{
    base::{
        backoff::Backoff,
        chain::chain,
        ordered::{Map, Set},
    },
    engine::{Container, EngineError},
};
use std::time::Duration;
use tokio::time::Instant;
use tracing::{debug, info, warn};

/// How long a stray must have been seen.
const GRACE: Duration = Duration::from_secs(30);
/// Tries to remove one that stays.
const REMOVE_BACKOFF: Backoff = Backoff { base: GRACE, cap: Duration::from_secs(600) };
/// Tries of a list while the engine is away: every pod waits for it, and a connection that is refused costs little.
const AWAY_PAUSE: Duration = Duration::from_millis(100);
/// Tries of a list that fails.
const LIST_BACKOFF: Backoff = Backoff { base: Duration::from_millis(250), cap: Duration::from_secs(5) };

/// Everything of the cluster that the engine has, but for the image volumes of pods that are at work.
#[derive(Clone, Debug, Default)]
pub(super) struct Listing {
    pub(super) containers: Vec<Container>,
    pub(super) volumes: Vec<String>,
}

/// Lists the engine, however long it takes until it answers.
pub(super) async fn list(context: &Context) -> Listing {
    let mut failures = 0;
    loop {
        match try_list(context).await {
            Ok(listing) => return listing,
            Err(error) => {
                failures += 1;
                debug!(component = "node", err = chain(&error), failures, "cannot list the engine");
                let is_away = matches!(error, EngineError::Unreachable(_));
                tokio::time::sleep(if is_away { AWAY_PAUSE } else { LIST_BACKOFF.delay(failures) }).await;
            }
        }
    }
}

async fn try_list(context: &Context) -> Result<Listing, EngineError> {
    let (containers, volumes, images) = futures::join!(
        context.ask(context.engine.list()),
        context.ask(context.engine.volumes()),
        context.ask(context.engine.images())
    );
    context.images.note_all(&images?);
    let mut volumes = volumes?;
    volumes.retain(|name| !context.image_volumes.is_used(name));
    Ok(Listing { containers: containers?, volumes })
}

/// What belongs to no pod.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stray {
    /// A container, by ID.
    Container(String),
    /// A volume, by name.
    Volume(String),
    /// One with the files of an image, or the one that says that it is full.
    ImageVolume(String),
}

/// The strays seen so far, when each may be removed, and how often that was tried.
#[derive(Clone, Debug, Default)]
pub(super) struct Strays {
    seen: Map<Stray, (Instant, u32)>,
    /// The helpers that the first list had, by ID, as long as they are there; `None` before it.
    left: Option<Set<String>>,
}

/// The UID of the pod that a container belongs to, or works for.
pub(super) fn owner(container: &Container) -> Option<&str> {
    pod_uid(&container.labels).or_else(|| container.labels.get(HELPER_OF).map(String::as_str))
}

impl Strays {
    /// Takes in a full list; returns what may be removed now.
    pub(super) fn see(
        &mut self,
        cluster: &str,
        Listing { containers, volumes }: &Listing,
        stored: &Set<String>,
        now: Instant,
    ) -> Vec<Stray> {
        let before = self.left.take();
        let grace = if before.is_none() { Duration::ZERO } else { GRACE };
        let is_stray = |uid: &str| !stored.contains(uid);
        // Whoever asked a helper that is there at first has ended, whether its pod stays or not.
        let helpers = containers.iter().filter(|c| c.labels.contains_key(HELPER_OF)).map(|c| c.id.clone());
        let left: Set<String> = helpers.filter(|id| before.as_ref().is_none_or(|ids| ids.contains(id))).collect();
        let of_containers = containers.iter().filter(|c| left.contains(&c.id) || owner(c).is_some_and(is_stray));
        let of_containers = of_containers.map(|c| Stray::Container(c.id.clone()));
        let of_volumes = volumes
            .iter()
            .filter(|name| volume_owner(cluster, name).is_some_and(is_stray))
            .map(|name| Stray::Volume(name.clone()));
        let mounted: Set<&str> = containers.iter().flat_map(mounted_by).collect();
        let of_images = volumes
            .iter()
            .filter(|name| is_image_volume(cluster, name) && !mounted.iter().any(|mounted| name.starts_with(mounted)))
            .map(|name| Stray::ImageVolume(name.clone()));
        let seen: Set<Stray> = of_containers.chain(of_volumes).chain(of_images).collect();
        self.left = Some(left);
        self.seen.retain(|stray, _| seen.contains(stray));
        for stray in seen {
            self.seen.entry(stray).or_insert((now + grace, 0));
        }
        let mut due = Vec::new();
        for (stray, (at, tries)) in &mut self.seen {
            if *at <= now {
                // Seen again after that, it did not go.
                *tries += 1;
                *at = now + REMOVE_BACKOFF.delay(*tries);
                due.push(stray.clone());
            }
        }
        due
    }

    /// When the next may be removed, or is to be gone.
    pub(super) fn next_at(&self) -> Option<Instant> {
        self.seen.values().map(|(at, _)| *at).min()
    }
}

/// Removes strays, containers first: a volume in use cannot go.
pub(super) async fn remove(context: &Context, strays: Vec<Stray>) {
    for stray in strays {
        let result = match &stray {
            Stray::Container(id) => execute::remove(context, id).await,
            Stray::Volume(name) => context.ask(context.engine.remove_volume(name)).await,
            Stray::ImageVolume(name) => context.ask(context.image_volumes.remove(name)).await,
        };
        match result {
            Ok(()) => info!(component = "node", stray = ?stray, "removed what belongs to no pod"),
            // A later list finds it again.
            Err(error) => {
                warn!(component = "node", stray = ?stray, err = chain(&error), "cannot remove what belongs to no pod");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{base::clock::Clock, node::identity::volume_name, testing::container};

    fn listing(volumes: &[String]) -> Listing {
        Listing { containers: Vec::new(), volumes: volumes.to_vec() }
    }

    /// One that has seen a list in which nothing was.
    fn begun(start: Instant) -> Strays {
        let mut strays = Strays::default();
        assert!(strays.see("c", &Listing::default(), &Set::new(), start).is_empty());
        strays
    }

    #[test]
    fn a_stray_is_removed_when_it_is_seen_again_after_its_grace() {
        let start = Clock::system().mono();
        let mut strays = begun(start);
        let listed = listing(&[volume_name("c", "gone"), volume_name("c", "here"), "pgdata".to_owned()]);
        let stored: Set<String> = ["here".to_owned()].into();
        assert!(strays.see("c", &listed, &stored, start).is_empty());
        assert_eq!(strays.next_at(), Some(start + GRACE));
        assert!(strays.see("c", &listed, &stored, start + GRACE / 2).is_empty());
        assert_eq!(strays.see("c", &listed, &stored, start + GRACE), [Stray::Volume(volume_name("c", "gone"))]);
    }

    #[test]
    fn a_stray_whose_pod_shows_up_is_none() {
        let start = Clock::system().mono();
        let mut strays = begun(start);
        let listed = listing(&[volume_name("c", "late")]);
        strays.see("c", &listed, &Set::new(), start);
        assert!(strays.see("c", &listed, &["late".to_owned()].into(), start + GRACE).is_empty());
        assert_eq!(strays.next_at(), None);
    }

    fn of_pod(id: &str, label: &str) -> Container {
        container(id, [(label.to_owned(), "here".to_owned())].into())
    }

    #[test]
    fn a_helper_of_an_ended_process_is_removed_until_it_is_gone_though_its_pod_stays() {
        let (start, mut strays) = (Clock::system().mono(), Strays::default());
        let stored: Set<String> = ["here".to_owned()].into();
        let mut see = |helpers: &[&str], after: Duration| {
            let containers = helpers.iter().map(|id| of_pod(id, HELPER_OF));
            let containers = containers.chain([of_pod("app", "io.kubernetes.pod.uid")]).collect();
            strays.see("c", &Listing { containers, volumes: Vec::new() }, &stored, start + after)
        };
        let due = [Stray::Container("left".to_owned())];
        assert_eq!(see(&["left"], Duration::ZERO), due);
        assert_eq!(see(&["left", "own"], GRACE / 2), []);
        assert_eq!(see(&["left", "own"], GRACE), due);
        assert_eq!(see(&["left", "own"], GRACE * 2), [], "longer each time");
        assert_eq!(see(&["left", "own"], GRACE * 3), due);
        assert_eq!(see(&["own"], GRACE * 4), []);
        assert_eq!(see(&["own", "left"], GRACE * 5), [], "another of that name is this process's");
    }

    #[test]
    fn what_no_pod_has_at_the_start_goes_at_once() {
        let (start, mut strays) = (Clock::system().mono(), Strays::default());
        let listed = listing(&[volume_name("c", "gone"), volume_name("c", "here")]);
        let stored: Set<String> = ["here".to_owned()].into();
        assert_eq!(strays.see("c", &listed, &stored, start), [Stray::Volume(volume_name("c", "gone"))]);
        assert_eq!(strays.next_at(), Some(start + GRACE), "it is looked whether it has gone");
        assert!(strays.see("c", &listing(&[]), &stored, start + GRACE).is_empty());
        assert_eq!(strays.next_at(), None);
    }
}
