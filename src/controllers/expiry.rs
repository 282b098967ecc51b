//! Objects that go by themselves once they are old: one controller, and a row for each kind of which that holds.

mod certificates;
mod events;

use super::runtime::{Action, Controller, Decision, Step, Trigger};
use crate::{
    api::{kind::KindRef, meta::ObjectKey},
    registry::{
        Registry,
        pipeline::{DeleteOptions, Selection},
    },
    store::Entry,
};
use jiff::Timestamp;
use std::time::Duration;

pub use certificates::CERTIFICATES;
pub use events::EVENTS;

/// How many are deleted at once.
const BATCH_MAX: usize = 100;

/// What of a kind is old.
#[derive(Clone, Copy, Debug)]
pub struct Expiry {
    name: &'static str,
    kind: fn() -> KindRef,
    /// The key and UID of an object that is old at a time. It reads the stored bytes, so that no decoded object stays in memory.
    if_old: fn(&Entry, Timestamp) -> Option<(ObjectKey, String)>,
    because: &'static str,
    /// How often it is looked for old ones.
    look_every: Duration,
}

/// The objects that are old enough to go, and whether there are more.
#[derive(Clone, Debug)]
pub struct Observed {
    old: Vec<(ObjectKey, String)>,
    has_more: bool,
}

impl Controller for Expiry {
    type Key = ();
    type Observed = Observed;

    fn name(&self) -> &'static str {
        self.name
    }

    fn triggers(&self) -> Vec<Trigger<()>> {
        Vec::new()
    }

    fn first_keys(&self) -> Vec<()> {
        vec![()]
    }

    fn observe(&self, registry: &Registry, (): &()) -> Option<Observed> {
        let now = registry.clock().now();
        let all = registry.snapshot(&*(self.kind)(), "", &Selection::default()).entries;
        let mut old = all.iter().filter_map(|entry| (self.if_old)(entry, now));
        let batch = old.by_ref().take(BATCH_MAX).collect();
        Some(Observed { old: batch, has_more: old.next().is_some() })
    }

    fn decide(&self, observed: &Observed) -> Decision {
        let delete = |(key, uid): &(ObjectKey, String)| {
            let options = DeleteOptions { uid: Some(uid.clone()), ..DeleteOptions::default() };
            Action::Delete { kind: (self.kind)(), key: key.clone(), options }.because(self.because)
        };
        let mut decision = Decision::default();
        if !observed.old.is_empty() {
            decision.then(Step::Parallel(observed.old.iter().map(delete).collect()));
        }
        decision.look_again_after(if observed.has_more { Duration::ZERO } else { self.look_every });
        decision
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_old_go_some_at_a_time() {
        let old = |n: usize| vec![(ObjectKey::new("", "r"), "u".to_owned()); n];
        let more = CERTIFICATES.decide(&Observed { old: old(2), has_more: true }).to_text();
        assert_eq!(more.matches("delete CertificateSigningRequest r").count(), 2, "{more}");
        let none = CERTIFICATES.decide(&Observed { old: old(0), has_more: false }).to_text();
        assert!(!none.contains("delete") && none != more, "{none}");
    }
}
