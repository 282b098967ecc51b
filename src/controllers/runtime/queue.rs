//! The work queue without its I/O: which key may be reconciled, and when.
//!
//! Called by `run`; calls nothing. Time is given by the caller.
//!
//! **Invariants** (the promises of `kube-runtime`'s scheduler and runner, and of client-go's work queue):
//! - a key that is added many times before it runs, runs once, at the earliest of the wanted times;
//! - a key never runs twice at once; what is added while it runs makes it run again;
//! - no more keys run at once than the limit;
//! - a key that fails runs again after a delay that doubles; a success forgets the failures;
//! - a key that was heavy to run rests first, so that all that changes meanwhile is one run.
//!
//! **Source** of the delays: `DefaultTypedControllerRateLimiter`, client-go/util/workqueue, v1.37 (5 ms up to 1000 s; the cap
//! here is lower, because nobody waits 1000 s on their own machine).

use crate::base::{backoff::Backoff, ordered::Map};
use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
    time::Duration,
};
use tokio::time::Instant;

/// How long a failing key waits.
pub const BACKOFF: Backoff = Backoff { base: Duration::from_millis(5), cap: Duration::from_mins(1) };

/// How a pass over a key ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing is left to do until something changes.
    Settled,
    /// The world moved under the decision: decide again, the first time at once.
    Moved,
    /// It failed: try again after a while.
    Failed,
}

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    /// When it is due, and its place among those of the same time.
    due: Option<(Instant, u64)>,
    is_running: bool,
    /// Whether the slow resync alone wants it to be looked at.
    is_resync: bool,
    failures: u32,
}

/// Keys that wait and keys that run.
#[derive(Debug)]
pub struct Queue<K> {
    slots: BTreeMap<K, Slot>,
    /// The keys that are due and do not run, by time, first come first served.
    order: BTreeSet<(Instant, u64, K)>,
    /// The keys that rest, and how long.
    resting: Map<K, Instant>,
    backoff: Backoff,
    running: usize,
    running_max: usize,
    sequence: u64,
}

impl<K: Ord + Clone> Queue<K> {
    /// An empty queue that lets `running_max` keys run at once.
    pub fn new(running_max: usize, backoff: Backoff) -> Self {
        assert!(running_max > 0, "a queue that runs nothing never ends");
        let (slots, order, resting) = (BTreeMap::new(), BTreeSet::new(), Map::new());
        Self { slots, order, resting, backoff, running: 0, running_max, sequence: 0 }
    }

    /// Wants the key to run at `at`, or earlier when it is due earlier already; not before it has rested. Says whether that made it
    /// due anew.
    pub fn add(&mut self, key: K, at: Instant) -> bool {
        let at = self.resting.get(&key).map_or(at, |until| at.max(*until));
        self.sequence += 1;
        let due = (at, self.sequence);
        let slot = self.slots.entry(key.clone()).or_default();
        let former = slot.due;
        if former.is_some_and(|(former_at, _)| former_at <= at) {
            return false;
        }
        slot.due = Some(due);
        if !slot.is_running {
            if let Some((former_at, sequence)) = former {
                self.order.remove(&(former_at, sequence, key.clone()));
            }
            self.order.insert((due.0, due.1, key));
        }
        former.is_none()
    }

    /// The key that has waited longest of those that are due, which runs from now on; `None` when none may run.
    pub fn pop(&mut self, now: Instant) -> Option<K> {
        if self.running >= self.running_max || self.order.first()?.0 > now {
            return None;
        }
        let (_, _, key) = self.order.pop_first()?;
        let slot = self.slots.get_mut(&key).expect("a key in order has a slot");
        slot.due = None;
        slot.is_running = true;
        self.running += 1;
        Some(key)
    }

    /// The key no longer runs; `outcome` says what is to become of it, and it does not run again before it has rested.
    ///
    /// # Panics
    /// When the key was not running: it was never popped, or was done twice.
    pub fn done(&mut self, key: &K, outcome: Outcome, rest: Duration, now: Instant) {
        self.resting.retain(|_, until| *until > now);
        if !rest.is_zero() {
            self.resting.insert(key.clone(), now + rest);
        }
        let slot = self.slots.get_mut(key).filter(|s| s.is_running).expect("only a key that runs can be done");
        slot.is_running = false;
        self.running -= 1;
        let at = match outcome {
            Outcome::Settled => {
                slot.failures = 0;
                None
            }
            Outcome::Moved => {
                slot.failures = slot.failures.saturating_add(1);
                Some(now + self.backoff.delay(slot.failures - 1))
            }
            Outcome::Failed => {
                slot.failures = slot.failures.saturating_add(1);
                Some(now + self.backoff.delay(slot.failures))
            }
        };
        if let Some(at) = at {
            self.sequence += 1;
            slot.due = Some(slot.due.map_or((at, self.sequence), |due| due.min((at, self.sequence))));
        }
        slot.due = slot.due.map(|(at, sequence)| (at.max(now + rest), sequence));
        match slot.due {
            Some((at, sequence)) => {
                self.order.insert((at, sequence, key.clone()));
            }
            None => {
                self.slots.remove(key);
            }
        }
    }

    /// Notes of a key that waits or runs whether the slow resync alone wants it to be looked at.
    pub fn note_resync(&mut self, key: &K, is_alone: bool) {
        if let Some(slot) = self.slots.get_mut(key) {
            slot.is_resync = is_alone;
        }
    }

    /// Whether the slow resync alone wanted it to be looked at, which is over then.
    pub fn take_resync(&mut self, key: &K) -> bool {
        self.slots.get_mut(key).is_some_and(|slot| mem::take(&mut slot.is_resync))
    }

    /// When the next key may run; `None` when something must happen first.
    pub fn next_due(&self) -> Option<Instant> {
        if self.running >= self.running_max { None } else { self.order.first().map(|(at, _, _)| *at) }
    }

    /// How many keys wait.
    pub fn waiting(&self) -> usize {
        self.order.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn queue(running_max: usize) -> (Queue<u8>, Instant) {
        (Queue::new(running_max, BACKOFF), Instant::now())
    }

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn a_key_that_is_added_twice_runs_once_at_the_earliest_time() {
        let (mut q, t) = queue(4);
        assert!(q.add(1, t + ms(50)));
        assert!(!q.add(1, t + ms(20)));
        assert!(!q.add(1, t + ms(90)));
        assert_eq!(q.pop(t + ms(19)), None);
        assert_eq!(q.pop(t + ms(20)), Some(1));
        q.done(&1, Outcome::Settled, Duration::ZERO, t + ms(21));
        assert_eq!(q.pop(t + ms(1000)), None);
    }

    #[test]
    fn a_key_that_is_added_while_it_runs_runs_again_afterwards() {
        let (mut q, t) = queue(4);
        q.add(1, t);
        assert_eq!(q.pop(t), Some(1));
        q.add(1, t);
        assert_eq!(q.pop(t), None, "the same key never runs twice at once");
        q.done(&1, Outcome::Settled, Duration::ZERO, t);
        assert_eq!(q.pop(t), Some(1));
    }

    #[test]
    fn keys_of_the_same_time_run_in_the_order_in_which_they_came() {
        let (mut q, t) = queue(4);
        for key in [3, 1, 2] {
            q.add(key, t);
        }
        assert_eq!([q.pop(t), q.pop(t), q.pop(t)], [Some(3), Some(1), Some(2)]);
    }

    #[test]
    fn a_failing_key_waits_twice_as_long_each_time_until_it_succeeds() {
        let (mut q, t) = queue(1);
        q.add(1, t);
        let mut now = t;
        for expected in [5, 10, 20, 40] {
            assert_eq!(q.pop(now), Some(1));
            q.done(&1, Outcome::Failed, Duration::ZERO, now);
            assert_eq!(q.next_due(), Some(now + ms(expected)));
            now += ms(expected);
        }
        assert_eq!(q.pop(now), Some(1));
        q.done(&1, Outcome::Settled, Duration::ZERO, now);
        q.add(1, now);
        assert_eq!(q.pop(now), Some(1));
        q.done(&1, Outcome::Failed, Duration::ZERO, now);
        assert_eq!(q.next_due(), Some(now + ms(5)), "a success forgets the failures");
    }

    #[test]
    fn a_key_that_rests_takes_in_all_that_comes_meanwhile() {
        let (mut q, t) = queue(1);
        q.add(1, t);
        q.pop(t);
        q.add(1, t);
        q.done(&1, Outcome::Settled, ms(20), t);
        assert_eq!((q.pop(t + ms(19)), q.pop(t + ms(20))), (None, Some(1)), "it was wanted while it ran");
        q.done(&1, Outcome::Settled, ms(20), t + ms(20));
        q.add(1, t + ms(25));
        q.add(1, t + ms(30));
        assert_eq!((q.pop(t + ms(39)), q.pop(t + ms(40))), (None, Some(1)), "it was wanted while it rested");
        q.done(&1, Outcome::Settled, Duration::ZERO, t + ms(40));
        q.add(1, t + ms(40));
        assert_eq!(q.pop(t + ms(40)), Some(1));
    }

    #[test]
    fn a_key_under_which_the_world_moved_runs_again_at_once_and_then_backs_off() {
        let (mut q, t) = queue(1);
        q.add(1, t);
        for expected in [0, 5, 10] {
            let now = q.next_due().unwrap();
            assert_eq!(q.pop(now), Some(1));
            q.done(&1, Outcome::Moved, Duration::ZERO, now);
            assert_eq!(q.next_due(), Some(now + ms(expected)));
        }
    }

    #[test]
    fn a_change_does_not_wait_for_the_back_off() {
        let (mut q, t) = queue(1);
        q.add(1, t);
        q.pop(t);
        q.done(&1, Outcome::Failed, Duration::ZERO, t);
        q.add(1, t);
        assert_eq!(q.pop(t), Some(1));
    }

    #[derive(Clone, Debug)]
    enum Op {
        Add(u8, u64),
        Pop,
        Done(u8, u8, u64),
        Wait(u64),
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            (0..6u8, 0..50u64).prop_map(|(k, d)| Op::Add(k, d)),
            Just(Op::Pop),
            (0..6u8, 0..3u8, prop_oneof![Just(0), 0..9u64]).prop_map(|(k, o, rest)| Op::Done(k, o, rest)),
            (0..30u64).prop_map(Op::Wait),
        ]
    }

    proptest! {
        /// A plain model: per key the earliest wanted time, whether it runs, its failures, and how long it rests.
        #[test]
        fn the_queue_does_what_the_plain_model_says(ops in prop::collection::vec(op(), 0..200), max in 1..4usize) {
            let start = Instant::now();
            let mut now = start;
            let mut q = Queue::new(max, BACKOFF);
            let mut due: BTreeMap<u8, Instant> = BTreeMap::new();
            let mut running: BTreeMap<u8, u32> = BTreeMap::new();
            let mut failures: BTreeMap<u8, u32> = BTreeMap::new();
            let mut resting: BTreeMap<u8, Instant> = BTreeMap::new();
            let earliest = |due: &mut BTreeMap<u8, Instant>, k: u8, at: Instant| {
                due.entry(k).and_modify(|d| *d = (*d).min(at)).or_insert(at);
            };
            for op in ops {
                match op {
                    Op::Add(k, d) => {
                        q.add(k, now + ms(d));
                        earliest(&mut due, k, resting.get(&k).map_or(now + ms(d), |until| *until.max(&(now + ms(d)))));
                    }
                    Op::Pop => {
                        let Some(k) = q.pop(now) else {
                            let ready = due.iter().any(|(k, at)| *at <= now && !running.contains_key(k));
                            prop_assert!(!ready || running.len() == max, "a ready key was held back");
                            continue;
                        };
                        prop_assert!(!running.contains_key(&k), "key {k} runs twice");
                        let at = due.remove(&k).expect("a popped key was wanted");
                        prop_assert!(at <= now, "key {k} ran too early");
                        let best = due.iter().filter(|(k, _)| !running.contains_key(k)).map(|(_, at)| *at).min();
                        prop_assert!(best.is_none_or(|b| at <= b), "an earlier key was passed over");
                        running.insert(k, 0);
                        prop_assert!(running.len() <= max);
                    }
                    Op::Done(k, o, rest) => {
                        if running.remove(&k).is_none() {
                            continue;
                        }
                        let n = failures.entry(k).or_default();
                        let outcome = match o {
                            0 => Outcome::Settled,
                            1 => Outcome::Moved,
                            _ => Outcome::Failed,
                        };
                        *n = if o < 1 { 0 } else { *n + 1 };
                        match o {
                            0 => {}
                            1 => earliest(&mut due, k, now + BACKOFF.delay(*n - 1)),
                            _ => earliest(&mut due, k, now + BACKOFF.delay(*n)),
                        }
                        q.done(&k, outcome, ms(rest), now);
                        resting.insert(k, now + ms(rest));
                        due.entry(k).and_modify(|at| *at = (*at).max(now + ms(rest)));
                    }
                    Op::Wait(d) => now += ms(d),
                }
                let waiting = due.keys().filter(|k| !running.contains_key(k)).count();
                prop_assert_eq!(q.waiting(), waiting);
            }
        }
    }
}
