//! The Lease under which the controllers run: `kube-system/skiff-controllers` says who acts for the cluster, since when, and when that
//! changed.
//!
//! Called by `controllers::run_all`, which runs nothing before it has the Lease and gives it back when all loops have ended.
//!
//! Who holds the store is who leads: the store of a cluster is open in one process, so a Lease of another holder is of one that is gone,
//! and is taken at once instead of when its time is over. For the same reason it is renewed once a minute and not every two seconds as
//! client-go does: a late Lease could tell no more than an API that does not answer, and every renewal is a disk flush on an idle machine.
//!
//! Should two act for one cluster all the same, the Lease decides: what the controllers write carries it (`registry::fence`), so the store
//! refuses the writes of whoever has lost it, whatever they were decided on. Who sees that it is another's ends all loops, and waits until
//! it is given back or its time is over.
//!
//! **Source**: k8s.io/client-go/tools/leaderelection/{leaderelection.go,resourcelock}, v1.37.

use super::runtime::EventDraft;
use crate::{
    api::{
        agreements::SYSTEM_NAMESPACE,
        kinds::lease::Leases,
        meta::{ObjectKey, Revision},
        status::{ApiError, ErrorClass},
    },
    base::{backoff::Backoff, chain::chain, task::Drain},
    registry::{Registry, events::Recorder, fence::Fence},
};
use jiff::Timestamp;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
};
use std::{sync::Arc, time::Duration};
use tracing::{info, warn};

/// The Lease's name.
const NAME: &str = "skiff-controllers";

/// How a Lease is kept.
#[derive(Clone, Copy, Debug)]
pub struct LeaseTimes {
    /// How often it is renewed.
    pub renew_every: Duration,
    /// How long it is its holder's without that.
    pub lasts_secs: i32,
}

impl Default for LeaseTimes {
    /// See the module's header; it lasts five times as long, as the node's.
    fn default() -> Self {
        Self { renew_every: Duration::from_mins(1), lasts_secs: 300 }
    }
}

/// Who asks for the Lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Since {
    /// A control plane that starts, and has the store: it takes the Lease from whoever had it.
    Start,
    /// One that has lost it: it waits until nobody has it.
    Lost,
}
/// What is left of a Lease that was given back. Source: `LeaderElector.release`.
const RELEASED_SECS: i32 = 1;
/// How soon a write that failed is tried again.
const AGAIN: Backoff = Backoff { base: Duration::from_millis(100), cap: Duration::from_secs(2) };

/// A held Lease.
pub(super) struct Leader {
    registry: Registry,
    identity: String,
    times: LeaseTimes,
    fence: Fence,
}

/// Who wants the Lease.
struct Candidate<'a> {
    registry: &'a Registry,
    identity: &'a str,
    times: LeaseTimes,
}

impl Leader {
    /// Takes the Lease; `None`: drained before it could be had.
    pub(super) async fn acquire(
        registry: &Registry,
        (identity, times): (&str, LeaseTimes),
        since: Since,
        drain: &Drain,
    ) -> Option<Self> {
        let candidate = Candidate { registry, identity, times };
        let taken = async {
            if since == Since::Lost {
                candidate.until_free().await;
            }
            candidate.take().await
        };
        tokio::select! {
            biased;
            () = drain.drained() => None,
            lease = taken => {
                info!(component = "controllers", identity, "the controllers' lease is held");
                let fence = Fence::of(&lease, revision_of(&lease));
                let leader = Self { registry: registry.clone(), identity: identity.to_owned(), times, fence };
                leader.tell(&lease);
                Some(leader)
            }
        }
    }

    /// The registry whose writes happen only while the Lease is held.
    pub(super) fn registry(&self) -> Registry {
        self.registry.fenced(self.fence.clone())
    }

    /// Renews the Lease until drained, or until it is another's; says whether it is.
    pub(super) async fn hold(&self, drain: &Drain) -> bool {
        tokio::select! {
            biased;
            () = drain.drained() => false,
            () = self.until_lost() => {
                warn!(component = "controllers", identity = self.identity, "another took the controllers' lease");
                true
            }
            () = self.renew() => unreachable!("it is renewed for as long as it is held"),
        }
    }

    async fn until_lost(&self) {
        until_lease(&self.registry, |lease| lease.is_none_or(|lease| !self.fence.is_of(lease))).await;
    }

    async fn renew(&self) {
        loop {
            tokio::time::sleep_until(self.registry.clock().mono() + self.times.renew_every).await;
            let renewed = write(&self.registry, |spec, now| {
                let is_mine = spec.holder_identity.as_deref() == Some(&*self.identity);
                if is_mine { taken(spec, &self.identity, self.times, now) } else { spec.clone() }
            });
            if let Err(err) = renewed.await {
                warn!(component = "controllers", err = chain(&err), "cannot renew the controllers' lease");
            }
        }
    }

    /// Gives the Lease back, so that nobody waits for its end.
    pub(super) async fn release(self) {
        let given_back = write(&self.registry, |spec, now| {
            let is_mine = spec.holder_identity.as_deref() == Some(&*self.identity);
            if is_mine { released(spec, now) } else { spec.clone() }
        });
        if let Err(err) = given_back.await {
            warn!(component = "controllers", err = chain(&err), "cannot give the controllers' lease back");
        }
    }

    /// Source of the Event: `LeaseLock.RecordEvent`.
    fn tell(&self, lease: &Lease) {
        let message = format!("{} became leader", self.identity);
        let event = EventDraft::normal::<Leases>(lease, "LeaderElection", message);
        let recorder = Recorder::new(self.registry.clone(), NAME);
        recorder.record(&event.about, event.severity, event.reason, &event.message);
    }
}

impl Candidate<'_> {
    /// Takes the Lease from whoever has it, and tries until it could be written.
    async fn take(&self) -> Arc<Lease> {
        for failures in 1.. {
            match write(self.registry, |spec, now| taken(spec, self.identity, self.times, now)).await {
                Ok(lease) => return lease,
                Err(err) => warn!(component = "controllers", err = chain(&err), "cannot take the controllers' lease"),
            }
            tokio::time::sleep_until(self.registry.clock().mono() + AGAIN.delay(failures)).await;
        }
        unreachable!("it tries for ever")
    }

    /// Returns once nobody has the Lease: it was given back, is gone, or was not renewed for its time. That is counted from when we last
    /// saw it change, as client-go does: the clock of its holder may be another.
    async fn until_free(&self) {
        loop {
            let seen = lease(self.registry);
            let Some(spec) = seen.as_ref().and_then(|lease| lease.spec.as_ref()) else { return };
            if spec.holder_identity.as_deref().unwrap_or_default().is_empty() {
                return;
            }
            let secs = spec.lease_duration_seconds.unwrap_or(self.times.lasts_secs);
            let over = Duration::from_secs(u64::try_from(secs).unwrap_or(0));
            let renewed = until_lease(self.registry, |now| now.map(revision_of) != seen.as_deref().map(revision_of));
            if tokio::time::timeout(over, renewed).await.is_err() {
                return;
            }
        }
    }
}

fn key() -> ObjectKey {
    ObjectKey::new(SYSTEM_NAMESPACE, NAME)
}

fn lease(registry: &Registry) -> Option<Arc<Lease>> {
    registry.api::<Leases>().get(&key())
}

/// The revision at which a Lease was written.
fn revision_of(lease: &Lease) -> Revision {
    let text = lease.metadata.resource_version.as_deref().unwrap_or_default();
    Revision(text.parse().unwrap_or(0))
}

/// Returns once this holds of the Lease.
async fn until_lease(registry: &Registry, is: impl Fn(Option<&Lease>) -> bool + Send + Sync) {
    loop {
        let seen = registry.store().revision();
        // Changes that are not known any more: it is looked at again.
        let Ok(mut watch) = registry.api::<Leases>().watch(seen) else { continue };
        loop {
            if is(lease(registry).as_deref()) {
                return;
            }
            if watch.next().await.is_err() {
                break;
            }
        }
    }
}

/// Writes what the Lease is to be next.
async fn write(
    registry: &Registry,
    next: impl Fn(&LeaseSpec, Timestamp) -> LeaseSpec + Send + Sync,
) -> Result<Arc<Lease>, ApiError> {
    let (api, key, now) = (registry.api::<Leases>(), key(), registry.clock().now());
    if api.get(&key).is_none() {
        let (name, namespace) = (Some(key.name.clone()), Some(key.namespace.clone()));
        let metadata = ObjectMeta { name, namespace, ..ObjectMeta::default() };
        let lease = Lease { metadata, spec: Some(next(&LeaseSpec::default(), now)) };
        match api.create(lease).await {
            Err(err) if err.class() == ErrorClass::Conflict => {}
            made => return made,
        }
    }
    let change = |lease: &mut Lease| lease.spec = Some(next(lease.spec.as_ref().unwrap_or(&LeaseSpec::default()), now));
    api.modify(&key, change).await
}

/// Tells, about the Lease, how its former holder was ended.
pub fn tell_of_takeover(registry: &Registry, message: &str) {
    let Some(lease) = lease(registry) else { return };
    let event = EventDraft::warning::<Leases>(&lease, "LeaderFenced", message);
    Recorder::new(registry.clone(), NAME).record(&event.about, event.severity, event.reason, &event.message);
}

/// The Lease as its holder's, from now on or still.
fn taken(old: &LeaseSpec, identity: &str, times: LeaseTimes, now: Timestamp) -> LeaseSpec {
    let is_mine = old.holder_identity.as_deref() == Some(identity);
    let transitions = old.lease_transitions.unwrap_or(0);
    LeaseSpec {
        holder_identity: Some(identity.to_owned()),
        lease_duration_seconds: Some(times.lasts_secs),
        acquire_time: if is_mine { old.acquire_time.clone() } else { Some(MicroTime(now)) },
        renew_time: Some(MicroTime(now)),
        lease_transitions: Some(if is_mine || old.holder_identity.is_none() { transitions } else { transitions + 1 }),
        ..old.clone()
    }
}

/// The Lease as nobody's.
fn released(old: &LeaseSpec, now: Timestamp) -> LeaseSpec {
    LeaseSpec {
        holder_identity: Some(String::new()),
        lease_duration_seconds: Some(RELEASED_SECS),
        acquire_time: Some(MicroTime(now)),
        renew_time: Some(MicroTime(now)),
        ..old.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{api::kinds::config_map::ConfigMaps, base::task::drain_signal, testing};

    const TIMES: LeaseTimes = LeaseTimes { renew_every: Duration::from_secs(2), lasts_secs: 15 };

    async fn acquire(registry: &Registry, identity: &str, since: Since, drain: &Drain) -> Leader {
        Leader::acquire(registry, (identity, TIMES), since, drain).await.unwrap()
    }

    fn spec(registry: &Registry) -> LeaseSpec {
        lease(registry).unwrap().spec.clone().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn the_lease_says_who_leads_and_how_often_that_changed() {
        let registry = testing::registry().await;
        let (trigger, drain) = drain_signal();
        let spec = || spec(&registry);
        let first = acquire(&registry, "a", Since::Start, &drain).await;
        let taken = spec();
        assert_eq!((taken.holder_identity.as_deref(), taken.lease_transitions), (Some("a"), Some(0)));
        let renewed = async {
            tokio::time::sleep(TIMES.renew_every + Duration::from_secs(1)).await;
            trigger.fire();
        };
        let (is_lost, ()) = tokio::join!(first.hold(&drain), renewed);
        assert!(!is_lost);
        assert_eq!(spec().acquire_time, taken.acquire_time);
        assert!(spec().renew_time.unwrap().0 > taken.renew_time.unwrap().0);
        first.release().await;
        assert_eq!((spec().holder_identity.as_deref(), spec().lease_duration_seconds), (Some(""), Some(RELEASED_SECS)));
        // One that ended without giving it back holds nobody up who starts.
        let (_trigger, drain) = drain_signal();
        drop(acquire(&registry, "b", Since::Start, &drain).await);
        let third = acquire(&registry, "c", Since::Start, &drain).await;
        assert_eq!((third.identity.as_str(), spec().lease_transitions), ("c", Some(2)));
    }

    /// A write of a leader, decided on whatever it believes.
    async fn write_of(leader: &Leader, name: &str) -> Result<(), ErrorClass> {
        let map = testing::from_yaml(&format!("{{metadata: {{name: {name}, namespace: default}}}}")).unwrap();
        let made = leader.registry().api::<ConfigMaps>().create(map).await;
        made.map(drop).map_err(|err| err.class())
    }

    #[tokio::test(start_paused = true)]
    async fn of_two_that_believe_to_lead_only_who_has_the_lease_can_write() {
        let registry = testing::registry().await;
        let (_trigger, drain) = drain_signal();
        let old = acquire(&registry, "a", Since::Start, &drain).await;
        assert_eq!(write_of(&old, "one").await, Ok(()));
        // A renewal is the same term.
        write(&registry, |spec, now| taken(spec, "a", TIMES, now)).await.unwrap();
        assert_eq!(write_of(&old, "two").await, Ok(()));
        let new = acquire(&registry, "b", Since::Start, &drain).await;
        assert_eq!(write_of(&old, "three").await, Err(ErrorClass::Retry));
        assert_eq!(write_of(&new, "three").await, Ok(()));
        assert!(old.hold(&drain).await, "it sees that it has lost it");
        // Who has lost it may have it again, as another term: what was decided in the first is refused still.
        new.release().await;
        let again = acquire(&registry, "a", Since::Lost, &drain).await;
        assert_eq!(write_of(&again, "four").await, Ok(()));
        assert_eq!(write_of(&old, "five").await, Err(ErrorClass::Retry));
    }

    #[tokio::test(start_paused = true)]
    async fn who_lost_the_lease_waits_until_it_was_not_renewed_for_its_time() {
        let registry = testing::registry().await;
        let (trigger, drain) = drain_signal();
        let holder = acquire(&registry, "b", Since::Start, &drain).await;
        let start = registry.clock().mono();
        let alive = async {
            let end = async {
                tokio::time::sleep(Duration::from_secs(60)).await;
                trigger.fire();
            };
            tokio::join!(holder.hold(&drain), end)
        };
        let (_again, waiting) = drain_signal();
        let (again, _) = tokio::join!(acquire(&registry, "a", Since::Lost, &waiting), alive);
        let waited = registry.clock().mono() - start;
        let least = Duration::from_secs(60 - 2 + 15);
        assert!(waited >= least && waited < least + Duration::from_secs(5), "{waited:?}");
        assert_eq!(spec(&registry).holder_identity, Some(again.identity));
    }
}
