//! Requests for certificates go once they are old: an hour after they were approved, denied or failed, and a day after they were made if
//! nobody has said anything.
//!
//! **Source**: `pkg/controller/certificates/cleaner/cleaner.go`, v1.37; unlike there, a certificate that ends within the hour stays for it.

use super::runtime::{Action, Controller, Decision, Step, Trigger};
use crate::{
    api::{kind::KindRef, kinds::certificate_signing_request::CERTIFICATE_SIGNING_REQUESTS, meta::ObjectKey},
    registry::{
        Registry,
        pipeline::{DeleteOptions, Selection},
    },
};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use std::time::Duration;

const KIND: KindRef = KindRef::BuiltIn(&CERTIFICATE_SIGNING_REQUESTS);
/// How long a request stays that was decided. Source: `approvedExpiration`, `deniedExpiration`.
const DECIDED_KEPT: SignedDuration = SignedDuration::from_hours(1);
/// How long one stays of which nobody has said anything. Source: `pendingExpiration`.
const PENDING_KEPT: SignedDuration = SignedDuration::from_hours(24);
/// How often it is looked for old ones. Source: `pollingInterval`.
const LOOK_EVERY: Duration = Duration::from_mins(10);
/// What is said of a request that makes it old in [`DECIDED_KEPT`].
const DECISIONS: &[&str] = &["Approved", "Denied", "Failed"];

/// The requests there are, and the time.
#[derive(Clone, Debug)]
pub struct Observed {
    requests: Vec<Value>,
    now: Timestamp,
}

/// The controller.
#[derive(Clone, Copy, Debug)]
pub struct CertificateCleaner;

impl Controller for CertificateCleaner {
    type Key = ();
    type Observed = Observed;

    fn name(&self) -> &'static str {
        "certificatesigningrequest-cleaner-controller"
    }

    fn triggers(&self) -> Vec<Trigger<()>> {
        Vec::new()
    }

    fn first_keys(&self) -> Vec<()> {
        vec![()]
    }

    fn observe(&self, registry: &Registry, (): &()) -> Option<Observed> {
        let all = registry.snapshot(&CERTIFICATE_SIGNING_REQUESTS, "", &Selection::default()).entries;
        let read = |bytes: &[u8]| serde_json::from_slice(bytes).expect("stored objects are JSON");
        let requests = all.iter().map(|entry| read(&entry.value)).collect();
        Some(Observed { requests, now: registry.clock().now() })
    }

    fn decide(&self, observed: &Observed) -> Decision {
        let old = observed.requests.iter().filter(|request| is_old(request, observed.now));
        let steps: Vec<_> = old.map(|request| delete(request).because("it is old")).collect();
        let mut decision = Decision::default();
        if !steps.is_empty() {
            decision.then(Step::Parallel(steps));
        }
        decision.look_again_after(LOOK_EVERY);
        decision
    }
}

fn delete(request: &Value) -> Action {
    let text = |field: &str| request["metadata"][field].as_str().unwrap_or_default().to_owned();
    let options = DeleteOptions { uid: Some(text("uid")), ..DeleteOptions::default() };
    Action::Delete { kind: KIND, key: ObjectKey::new("", text("name")), options }
}

fn is_old(request: &Value, now: Timestamp) -> bool {
    let is_past = |time: &Value, kept: SignedDuration| {
        let time = time.as_str().and_then(|text| text.parse::<Timestamp>().ok());
        time.is_some_and(|time| now.duration_since(time) > kept)
    };
    let conditions = request["status"]["conditions"].as_array().map_or(&[][..], Vec::as_slice);
    let is_decision = |condition: &&Value| condition["type"].as_str().is_some_and(|said| DECISIONS.contains(&said));
    if conditions.is_empty() {
        return is_past(&request["metadata"]["creationTimestamp"], PENDING_KEPT);
    }
    conditions.iter().filter(is_decision).any(|condition| is_past(&condition["lastUpdateTime"], DECIDED_KEPT))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(age_hours: i64, status: &str) -> String {
        let yaml = format!(
            "metadata: {{name: r, uid: u, creationTimestamp: '2026-03-01T00:00:00Z'}}\nstatus: {{conditions: [{status}]}}"
        );
        let request = crate::testing::from_yaml(&yaml).unwrap();
        let made: Timestamp = "2026-03-01T00:00:00Z".parse().unwrap();
        let now = made + SignedDuration::from_hours(age_hours) + SignedDuration::from_secs(1);
        CertificateCleaner.decide(&Observed { requests: vec![request], now }).to_text()
    }

    #[test]
    fn what_was_decided_stays_an_hour_and_what_nobody_answers_a_day() {
        let gone = outcome(24, "");
        assert!(gone.contains("delete CertificateSigningRequest r"), "{gone}");
        let stays = outcome(23, "");
        assert!(!stays.contains("delete"), "{stays}");
        for said in DECISIONS {
            let said = format!("{{type: {said}, lastUpdateTime: '2026-03-01T02:00:00Z'}}");
            assert_eq!([outcome(2, &said), outcome(3, &said)], [stays.clone(), gone.clone()]);
        }
        assert_eq!(outcome(99, "{type: Other, lastUpdateTime: '2026-03-01T02:00:00Z'}"), stays);
    }
}
