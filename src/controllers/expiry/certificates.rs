//! Requests for certificates go once they are old: an hour after they were approved, denied or failed, and a day after they were made if
//! nobody has said anything.
//!
//! **Source**: `pkg/controller/certificates/cleaner/cleaner.go`, v1.37; unlike there, a certificate that ends within the hour stays for it.

use super::Expiry;
use crate::{
    api::{kind::KindRef, kinds::certificate_signing_request::CERTIFICATE_SIGNING_REQUESTS, meta::ObjectKey},
    store::Entry,
};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use std::time::Duration;

/// How long a request stays that was decided. Source: `approvedExpiration`, `deniedExpiration`.
const DECIDED_KEPT: SignedDuration = SignedDuration::from_hours(1);
/// How long one stays of which nobody has said anything. Source: `pendingExpiration`.
const PENDING_KEPT: SignedDuration = SignedDuration::from_hours(24);
/// What is said of a request that makes it old in [`DECIDED_KEPT`].
const DECISIONS: &[&str] = &["Approved", "Denied", "Failed"];

/// Requests for certificates. Source of the pace: `pollingInterval`.
pub const CERTIFICATES: Expiry = Expiry {
    name: "certificatesigningrequest-cleaner-controller",
    kind: || KindRef::BuiltIn(&CERTIFICATE_SIGNING_REQUESTS),
    if_old,
    because: "it is old",
    look_every: Duration::from_mins(10),
};

fn if_old(entry: &Entry, now: Timestamp) -> Option<(ObjectKey, String)> {
    let request: Value = serde_json::from_slice(&entry.value).expect("stored objects are JSON");
    let text = |field: &str| request["metadata"][field].as_str().unwrap_or_default().to_owned();
    is_old(&request, now).then(|| (ObjectKey::new("", text("name")), text("uid")))
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

    fn is_old_after(age_hours: i64, status: &str) -> bool {
        let yaml = format!(
            "metadata: {{name: r, uid: u, creationTimestamp: '2026-03-01T00:00:00Z'}}\nstatus: {{conditions: [{status}]}}"
        );
        let made: Timestamp = "2026-03-01T00:00:00Z".parse().unwrap();
        let now = made + SignedDuration::from_hours(age_hours) + SignedDuration::from_secs(1);
        is_old(&crate::testing::from_yaml(&yaml).unwrap(), now)
    }

    #[test]
    fn what_was_decided_stays_an_hour_and_what_nobody_answers_a_day() {
        assert_eq!([23, 24].map(|hours| is_old_after(hours, "")), [false, true]);
        for said in DECISIONS {
            let said = format!("{{type: {said}, lastUpdateTime: '2026-03-01T02:00:00Z'}}");
            assert_eq!([2, 3].map(|hours| is_old_after(hours, &said)), [false, true]);
        }
        assert!(!is_old_after(99, "{type: Other, lastUpdateTime: '2026-03-01T02:00:00Z'}"));
    }
}
