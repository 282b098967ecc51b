//! Whatever goes wrong with a pod, and for however long, it costs the engine and the API a bounded number of calls and events a minute.

use crate::{
    api::kinds::event::Events,
    engine::fake::{Call, CallKind, FakeEngine},
    registry::pipeline::decoded,
    store::Change,
};
use jiff::{SignedDuration, Timestamp};
use std::collections::{BTreeMap, VecDeque};

/// What is counted together.
const WINDOW: SignedDuration = SignedDuration::from_mins(1);
/// Containers that are made for a pod: tries of its sandbox and of its container, and what the user kills meanwhile.
const CREATES_MAX: usize = 24;
/// Everything that the engine is asked about a pod.
const CALLS_MAX: usize = 150;
/// Events of one component about one object: what it may tell at once, and one more for each while.
const EVENTS_MAX: usize = 26;

/// What happened within the last minute, by whom it was about.
#[derive(Default)]
struct Window(BTreeMap<String, VecDeque<Timestamp>>);

impl Window {
    fn count(&mut self, whose: &str, at: Timestamp) -> usize {
        let times = self.0.entry(whose.to_owned()).or_default();
        times.push_back(at);
        times.retain(|time| at.duration_since(*time) < WINDOW);
        times.len()
    }
}

#[derive(Default)]
pub(super) struct Flood {
    creates: Window,
    calls: Window,
    events: Window,
}

impl Flood {
    /// A control plane starts: it knows nothing of what the one before told.
    pub(super) fn start(&mut self) {
        *self = Self::default();
    }

    /// Sees what the engine was asked.
    pub(super) fn asked(&mut self, engine: &FakeEngine, call: &Call) {
        let name = engine.name_of(&call.subject).unwrap_or_else(|| call.subject.clone());
        // `k8s_<container>_<pod>_<namespace>_<uid>_<attempt>`
        let Some(uid) = name.strip_prefix("k8s_").and_then(|rest| rest.rsplit('_').nth(1)) else { return };
        let calls = self.calls.count(uid, call.at);
        assert!(calls <= CALLS_MAX, "the engine was asked {calls} times within a minute about the pod of {name}");
        if call.kind == CallKind::Create {
            let creates = self.creates.count(uid, call.at);
            assert!(creates <= CREATES_MAX, "{creates} containers were made within a minute for the pod of {name}");
        }
    }

    /// Sees a write of an event.
    pub(super) fn see(&mut self, now: Timestamp, change: &Change) {
        let Some(entry) = change.after.as_ref().filter(|_| change.key.starts_with("core/events/")) else { return };
        let event = decoded::<Events>(entry);
        let text = |field: &Option<String>| field.clone().unwrap_or_default();
        let (about, component) = (&event.involved_object, event.source.as_ref().map(|s| text(&s.component)));
        let whose = format!("{}/{}/{}", component.unwrap_or_default(), text(&about.name), text(&about.uid));
        let told = self.events.count(&whose, now);
        assert!(told <= EVENTS_MAX, "{told} events within a minute of {whose}, the last {:?}", event.message);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn create(n: u32, secs: i64) -> Call {
        let at = Timestamp::from_second(1_767_225_600 + secs).unwrap();
        Call { kind: CallKind::Create, subject: format!("k8s_POD_web_default_u1_{n}"), at, outcome: None }
    }

    #[tokio::test]
    async fn a_try_each_two_seconds_is_within_no_bound() {
        let (engine, mut flood) = (FakeEngine::for_test(), Flood::default());
        (0..24).for_each(|n| flood.asked(&engine, &create(n, i64::from(n) * 4)));
        let fast = std::panic::AssertUnwindSafe(|| {
            (24..100).for_each(|n| flood.asked(&engine, &create(n, i64::from(n) * 2 + 100)));
        });
        let said = std::panic::catch_unwind(fast).unwrap_err();
        let said = crate::base::task::panic_text(&*said);
        assert!(
            said.ends_with("containers were made within a minute for the pod of k8s_POD_web_default_u1_48"),
            "{said}"
        );
    }
}
