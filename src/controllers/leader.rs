//! The Lease under which the controllers run: `kube-system/skiff-controllers` says who acts for the cluster, since when, and when that
//! changed.
//!
//! Called by `controllers::run_all`, which runs nothing before it has the Lease and gives it back when all loops have ended.
//!
//! Who holds the store is who leads: the store of a cluster is open in one process, so a Lease of another holder is of one that is gone,
//! and is taken at once instead of when its time is over. For the same reason it is renewed once a minute and not every two seconds as
//! client-go does: a late Lease could tell no more than an API that does not answer, and every renewal is a disk flush on an idle machine.
//!
//! **Source**: k8s.io/client-go/tools/leaderelection/{leaderelection.go,resourcelock}, v1.37.

use super::runtime::EventDraft;
use crate::{
    api::{
        agreements::SYSTEM_NAMESPACE,
        kinds::lease::Leases,
        meta::ObjectKey,
        status::{ApiError, ErrorClass},
    },
    base::{backoff::Backoff, chain::chain, task::Drain},
    registry::{Registry, events::Recorder},
};
use jiff::Timestamp;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
};
use std::time::Duration;
use tracing::{info, warn};

/// The Lease's name.
const NAME: &str = "skiff-controllers";
/// See the module's header.
const RENEW_EVERY: Duration = Duration::from_mins(1);
/// Five times that, as the node's.
const LEASE_SECS: i32 = 300;
/// What is left of a Lease that was given back. Source: `LeaderElector.release`.
const RELEASED_SECS: i32 = 1;
/// How soon a write that failed is tried again.
const AGAIN: Backoff = Backoff { base: Duration::from_millis(100), cap: Duration::from_secs(2) };

/// A held Lease.
pub(super) struct Leader {
    registry: Registry,
    identity: String,
}

impl Leader {
    /// Takes the Lease; `None`: drained before it could be written.
    pub(super) async fn acquire(registry: &Registry, identity: String, drain: &Drain) -> Option<Self> {
        let leader = Self { registry: registry.clone(), identity };
        for failures in 1.. {
            match leader.write(|spec, now| taken(spec, &leader.identity, now)).await {
                Ok(lease) => {
                    info!(component = "controllers", identity = leader.identity, "the controllers' lease is held");
                    leader.tell(&lease);
                    return Some(leader);
                }
                Err(err) => warn!(component = "controllers", err = chain(&err), "cannot take the controllers' lease"),
            }
            let again = registry.clock().mono() + AGAIN.delay(failures);
            tokio::select! {
                biased;
                () = drain.drained() => return None,
                () = tokio::time::sleep_until(again) => {}
            }
        }
        None
    }

    /// Renews the Lease until drained.
    pub(super) async fn renew(&self, drain: &Drain) {
        loop {
            let next = self.registry.clock().mono() + RENEW_EVERY;
            tokio::select! {
                biased;
                () = drain.drained() => return,
                () = tokio::time::sleep_until(next) => {}
            }
            if let Err(err) = self.write(|spec, now| taken(spec, &self.identity, now)).await {
                warn!(component = "controllers", err = chain(&err), "cannot renew the controllers' lease");
            }
        }
    }

    /// Gives the Lease back, so that nobody waits for its end.
    pub(super) async fn release(self) {
        if let Err(err) = self.write(released).await {
            warn!(component = "controllers", err = chain(&err), "cannot give the controllers' lease back");
        }
    }

    async fn write(&self, next: impl Fn(&LeaseSpec, Timestamp) -> LeaseSpec + Send + Sync) -> Result<Lease, ApiError> {
        let api = self.registry.api::<Leases>();
        let key = ObjectKey::new(SYSTEM_NAMESPACE, NAME);
        let now = self.registry.clock().now();
        if api.get(&key).is_none() {
            let metadata = ObjectMeta {
                name: Some(key.name.clone()),
                namespace: Some(key.namespace.clone()),
                ..ObjectMeta::default()
            };
            let lease = Lease { metadata, spec: Some(next(&LeaseSpec::default(), now)) };
            match api.create(lease).await {
                Err(err) if err.class() == ErrorClass::Conflict => {}
                made => return made.map(|lease| Lease::clone(&lease)),
            }
        }
        let change =
            |lease: &mut Lease| lease.spec = Some(next(lease.spec.as_ref().unwrap_or(&LeaseSpec::default()), now));
        api.modify(&key, change).await.map(|lease| Lease::clone(&lease))
    }

    /// Source of the Event: `LeaseLock.RecordEvent`.
    fn tell(&self, lease: &Lease) {
        let message = format!("{} became leader", self.identity);
        let event = EventDraft::normal::<Leases>(lease, "LeaderElection", message);
        let recorder = Recorder::new(self.registry.clone(), NAME);
        recorder.record(&event.about, event.severity, event.reason, &event.message);
    }
}

/// Tells, about the Lease, how its former holder was ended.
pub fn tell_of_takeover(registry: &Registry, message: &str) {
    let Some(lease) = registry.api::<Leases>().get(&ObjectKey::new(SYSTEM_NAMESPACE, NAME)) else { return };
    let event = EventDraft::warning::<Leases>(&lease, "LeaderFenced", message);
    Recorder::new(registry.clone(), NAME).record(&event.about, event.severity, event.reason, &event.message);
}

/// The Lease as its holder's, from now on or still.
fn taken(old: &LeaseSpec, identity: &str, now: Timestamp) -> LeaseSpec {
    let is_mine = old.holder_identity.as_deref() == Some(identity);
    let transitions = old.lease_transitions.unwrap_or(0);
    LeaseSpec {
        holder_identity: Some(identity.to_owned()),
        lease_duration_seconds: Some(LEASE_SECS),
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
    use crate::{base::task::drain_signal, testing};

    #[tokio::test(start_paused = true)]
    async fn the_lease_says_who_leads_and_how_often_that_changed() {
        let registry = testing::registry().await;
        let (trigger, drain) = drain_signal();
        let spec = || {
            let lease = registry.api::<Leases>().get(&ObjectKey::new(SYSTEM_NAMESPACE, NAME)).unwrap();
            lease.spec.clone().unwrap()
        };
        let first = Leader::acquire(&registry, "a".to_owned(), &drain).await.unwrap();
        let taken = spec();
        assert_eq!((taken.holder_identity.as_deref(), taken.lease_transitions), (Some("a"), Some(0)));
        let renewed = async {
            tokio::time::sleep(RENEW_EVERY + Duration::from_secs(1)).await;
            trigger.fire();
        };
        tokio::join!(first.renew(&drain), renewed);
        assert_eq!(spec().acquire_time, taken.acquire_time);
        assert!(spec().renew_time.unwrap().0 > taken.renew_time.unwrap().0);
        first.release().await;
        assert_eq!((spec().holder_identity.as_deref(), spec().lease_duration_seconds), (Some(""), Some(RELEASED_SECS)));
        // One that ended without giving it back holds nobody up.
        let (_trigger, drain) = drain_signal();
        drop(Leader::acquire(&registry, "b".to_owned(), &drain).await.unwrap());
        let third = Leader::acquire(&registry, "c".to_owned(), &drain).await.unwrap();
        assert_eq!((third.identity.as_str(), spec().lease_transitions), ("c", Some(2)));
    }
}
