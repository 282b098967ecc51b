//! Which events are written, and which are repeats of others: what client-go's `EventCorrelator` does. Pure: it is told the time.
//!
//! Called by the writer of events. Like events of one object become one after the tenth that says something else; an object that
//! goes on telling is heard now and then only.
//!
//! **Invariants**: it remembers no more than [`REMEMBERED_MAX`] objects and as many groups of like events.
//! **Source**: `tools/record/events_cache.go`, client-go, v1.37: `EventAggregator`, `EventSourceObjectSpamFilter`.

use super::Recorded;
use crate::base::ordered::{Map, Set};
use jiff::{SignedDuration, Timestamp};

/// Like events that may say different things. Source: `defaultAggregateMaxEvents`.
const LIKE_MAX: usize = 10;
/// After how long events are not like those before. Source: `defaultAggregateIntervalInSeconds`.
const LIKE_FOR: SignedDuration = SignedDuration::from_mins(10);
/// What an object may tell at once. Source: `defaultSpamBurst`.
const BURST: i32 = 25;
/// What it may tell after that: one in so long. Source: `defaultSpamQPS`.
const REST: SignedDuration = SignedDuration::from_mins(5);
/// How much is remembered. Source: `maxLruCacheEntries`.
const REMEMBERED_MAX: usize = 4096;
/// How gathered events begin. Source: `EventAggregatorByReasonMessageFunc`.
const COMBINED: &str = "(combined from similar events): ";

/// What makes two events repeats of each other; gathered events are so whatever they say.
pub(super) type Sameness = (Group, String, Option<String>);
/// What makes two events like each other: object, component, severity, reason.
type Group = (String, &'static str, bool, String);

/// The messages of like events, and when the last came.
#[derive(Debug)]
struct Like {
    messages: Set<String>,
    last: Timestamp,
}

/// What was told lately.
#[derive(Debug, Default)]
pub(super) struct Correlator {
    likes: Map<Group, Like>,
    /// Until when what an object told counts against it.
    told: Map<(String, &'static str), Timestamp>,
}

impl Correlator {
    /// What an event is a repeat of, its message being changed when it is gathered with others; `None`: it is not to be written.
    pub(super) fn correlate(&mut self, event: &mut Recorded) -> Option<Sameness> {
        let uid = event.about.uid.clone().unwrap_or_default();
        let object = format!(
            "{uid}/{}/{}",
            event.about.namespace.as_deref().unwrap_or_default(),
            event.about.name.as_deref().unwrap_or_default()
        );
        let is_warning = event.severity == super::Severity::Warning;
        let group = (object.clone(), event.component, is_warning, event.reason.clone());
        let message = if self.is_one_too_many(&group, event) {
            event.message = format!("{COMBINED}{}", event.message);
            None
        } else {
            Some(event.message.clone())
        };
        let field = event.about.field_path.clone().unwrap_or_default();
        self.may_tell((object, event.component), event.at).then_some((group, field, message))
    }

    /// Takes in an event; whether too many like it said something else.
    fn is_one_too_many(&mut self, group: &Group, event: &Recorded) -> bool {
        if self.likes.len() >= REMEMBERED_MAX && !self.likes.contains_key(group) {
            self.likes.retain(|_, like| event.at.duration_since(like.last) <= LIKE_FOR);
            if self.likes.len() >= REMEMBERED_MAX {
                self.likes.clear();
            }
        }
        let fresh = || Like { messages: Set::new(), last: event.at };
        let like = self.likes.entry(group.clone()).or_insert_with(fresh);
        if event.at.duration_since(like.last) > LIKE_FOR {
            like.messages.clear();
        }
        like.last = event.at;
        like.messages.insert(event.message.clone());
        if like.messages.len() < LIKE_MAX {
            return false;
        }
        like.messages.pop_first();
        true
    }

    /// Whether an object may tell one event more; if so, it is counted.
    fn may_tell(&mut self, who: (String, &'static str), now: Timestamp) -> bool {
        if self.told.len() >= REMEMBERED_MAX && !self.told.contains_key(&who) {
            self.told.retain(|_, until| *until > now);
            if self.told.len() >= REMEMBERED_MAX {
                self.told.clear();
            }
        }
        let until = self.told.get(&who).copied().unwrap_or(now).max(now);
        let may = until.duration_since(now) <= REST * (BURST - 1);
        if may {
            self.told.insert(who, until + REST);
        }
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::ObjectReference;

    fn at(secs: i64) -> Timestamp {
        Timestamp::from_second(1_767_225_600 + secs).unwrap()
    }

    fn event(name: &str, reason: &str, message: &str, secs: i64) -> Recorded {
        let text = Some(name.to_owned());
        Recorded {
            about: ObjectReference { uid: text.clone(), name: text, ..ObjectReference::default() },
            severity: super::super::Severity::Warning,
            reason: reason.to_owned(),
            message: message.to_owned(),
            component: "kubelet",
            at: at(secs),
            count: 1,
        }
    }

    #[test]
    fn events_that_say_the_same_are_repeats() {
        let mut correlator = Correlator::default();
        let mut tell =
            |name: &str, message: &str| correlator.correlate(&mut event(name, "Failed", message, 0)).unwrap();
        assert_eq!(tell("a", "x"), tell("a", "x"));
        assert_ne!(tell("a", "x"), tell("a", "y"));
        assert_ne!(tell("a", "x"), tell("b", "x"));
    }

    #[test]
    fn like_events_are_gathered_from_the_tenth_on_until_they_rest() {
        let mut correlator = Correlator::default();
        let mut tell = |n: i64, secs: i64| {
            let mut event = event("a", "Failed", &format!("try {n}"), secs);
            let sameness = correlator.correlate(&mut event).unwrap();
            (sameness, event.message)
        };
        let first: Vec<_> = (0..9).map(|n| tell(n, n)).collect();
        assert_eq!(first[8].1, "try 8");
        let gathered: Vec<_> = (9..12).map(|n| tell(n, n)).collect();
        assert!(gathered.iter().all(|(sameness, _)| *sameness == gathered[0].0), "{gathered:?}");
        assert_eq!(gathered[2].1, "(combined from similar events): try 11");
        assert_eq!(tell(12, 11 + 601).1, "try 12", "after a rest they are heard again");
    }

    #[test]
    fn one_who_tells_too_much_is_heard_every_five_minutes() {
        let mut correlator = Correlator::default();
        let mut is_heard =
            |name: &str, secs: i64| correlator.correlate(&mut event(name, "Failed", "x", secs)).is_some();
        assert_eq!((0..100).filter(|n| is_heard("a", n / 10)).count(), 25);
        assert!(is_heard("b", 10), "others are heard");
        assert!(!is_heard("a", 299));
        assert!(is_heard("a", 301));
        assert!(!is_heard("a", 302));
        assert_eq!((0..100).filter(|_| is_heard("a", 301 + 25 * 300)).count(), 25, "after a long rest");
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut correlator = Correlator::default();
        for n in 0..20_000 {
            let mut event = event(&format!("pod-{n}"), &format!("Reason{n}"), "x", n / 100);
            correlator.correlate(&mut event).unwrap();
            assert!(correlator.likes.len() <= REMEMBERED_MAX && correlator.told.len() <= REMEMBERED_MAX);
        }
    }
}
