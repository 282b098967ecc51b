//! Which connections may be open, and how many requests may be under way. Pure: it counts and decides; `serve` and `handle` obey.
//!
//! Anyone who reaches the port can open connections, so that each costs nobody else a place: descriptors for the store, the node agent
//! and its probes are never given to clients; what comes from this machine has a share that no pod can take; and whoever has said who
//! they are is never put out for somebody who has not.
//!
//! ```text
//! arrives ──► unproven (handshake, anonymous) ──► proven (certificate or token) ──► leaves
//!    │            │ the oldest is put out when a newcomer needs its place
//!    └─ refused: closed at once
//! ```
//!
//! **Not here**: how long a handshake or a silent peer may take (`serve`).

use crate::base::ordered::{Map, Set};
use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

/// Descriptors that are never given to clients: the store, the engine, probes, logs.
const RESERVED_DESCRIPTORS: u64 = 512;
/// The most connections, however many descriptors there are, and the least, however few.
const TOTAL_MAX: usize = 4096;
const TOTAL_MIN: usize = 32;
/// Reads that may be under way at a time. Source: `--max-requests-inflight` of kube-apiserver.
pub const READS_MAX: usize = 400;
/// Writes that may be under way at a time. Source: `--max-mutating-requests-inflight` of kube-apiserver.
pub const WRITES_MAX: usize = 200;
/// Watches and followed logs that may run at a time.
pub const STREAMS_MAX: usize = 2000;

/// How many connections may be open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Of all.
    pub total: usize,
    /// Of those from other addresses than this machine's loopback, together.
    pub strangers: usize,
    /// Of those from one such address.
    pub one_stranger: usize,
    /// Of those that have not said who they are.
    pub unproven: usize,
}

impl Limits {
    /// The limits of a process that may have so many descriptors open. A connection may need two: its own, and one for what it asks.
    pub fn of_descriptors(limit: u64) -> Self {
        let total = usize::try_from(limit.saturating_sub(RESERVED_DESCRIPTORS) / 2).unwrap_or(TOTAL_MAX);
        let total = total.clamp(TOTAL_MIN, TOTAL_MAX);
        Self { total, strangers: total / 2, one_stranger: (total / 16).max(8), unproven: total / 4 }
    }
}

/// A bound that was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Bound {
    /// [`Limits::total`].
    Total,
    /// [`Limits::strangers`].
    Strangers,
    /// [`Limits::one_stranger`].
    OneStranger,
    /// [`Limits::unproven`].
    Unproven,
    /// [`READS_MAX`].
    Reads,
    /// [`WRITES_MAX`].
    Writes,
    /// [`STREAMS_MAX`].
    Streams,
    /// What is kept of lists that are read in pages (`pinned`).
    Pages,
}

impl Bound {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Total,
        Self::Strangers,
        Self::OneStranger,
        Self::Unproven,
        Self::Reads,
        Self::Writes,
        Self::Streams,
        Self::Pages,
    ];

    /// Its name in metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Total => "connections",
            Self::Strangers => "connections-from-elsewhere",
            Self::OneStranger => "connections-from-one-address",
            Self::Unproven => "connections-of-nobody",
            Self::Reads => "reads",
            Self::Writes => "writes",
            Self::Streams => "streams",
            Self::Pages => "pages",
        }
    }
}

/// The connections that are open.
#[derive(Debug)]
pub struct Gate {
    limits: Limits,
    /// Where each comes from; `None`: this machine.
    open: Map<u64, Option<IpAddr>>,
    /// Those that have not said who they are, the oldest first.
    unproven: Set<u64>,
    by_stranger: Map<IpAddr, usize>,
    strangers: usize,
    next: u64,
}

/// What a newcomer got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Admission {
    /// The connection's number.
    pub id: u64,
    /// The connection that must end for it, and the bound that says so.
    pub puts_out: Option<(u64, Bound)>,
}

impl Gate {
    /// A gate with nobody inside.
    pub fn new(limits: Limits) -> Self {
        Self { limits, open: Map::new(), unproven: Set::new(), by_stranger: Map::new(), strangers: 0, next: 0 }
    }

    /// How many connections are open.
    pub fn len(&self) -> usize {
        self.open.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Lets a connection in, or not: then the bound says why. The one it puts out is no longer counted.
    ///
    /// # Errors
    /// The bound that is reached, when nobody may be put out for the newcomer.
    pub fn enter(&mut self, source: IpAddr) -> Result<Admission, Bound> {
        let source = source.to_canonical();
        let stranger = (!source.is_loopback()).then_some(source);
        let mut puts_out = None;
        if let Some(bound) = self.reached(stranger) {
            let victim = self.victim(bound, stranger).ok_or(bound)?;
            self.leave(victim);
            puts_out = Some((victim, bound));
        }
        let id = self.next;
        self.next += 1;
        self.open.insert(id, stranger);
        self.unproven.insert(id);
        if let Some(source) = stranger {
            self.strangers += 1;
            *self.by_stranger.entry(source).or_default() += 1;
        }
        Ok(Admission { id, puts_out })
    }

    /// The narrowest bound that one more would break. Whoever it puts out makes room in the wider ones too.
    fn reached(&self, stranger: Option<IpAddr>) -> Option<Bound> {
        let of_source = stranger.map_or(0, |source| self.by_stranger.get(&source).copied().unwrap_or(0));
        if stranger.is_some() && of_source >= self.limits.one_stranger {
            Some(Bound::OneStranger)
        } else if stranger.is_some() && self.strangers >= self.limits.strangers {
            Some(Bound::Strangers)
        } else if self.open.len() >= self.limits.total {
            Some(Bound::Total)
        } else if self.unproven.len() >= self.limits.unproven {
            Some(Bound::Unproven)
        } else {
            None
        }
    }

    /// The connection to put out: the oldest of the unproven; those from elsewhere first, and alone for a newcomer from elsewhere.
    fn victim(&self, bound: Bound, newcomer: Option<IpAddr>) -> Option<u64> {
        let from = |id: &&u64| self.open.get(*id).copied().flatten();
        let mut oldest = self.unproven.iter();
        match (bound, newcomer) {
            (Bound::OneStranger, _) => oldest.find(|id| from(id) == newcomer).copied(),
            (_, Some(_)) => oldest.find(|id| from(id).is_some()).copied(),
            (_, None) => {
                let elsewhere = self.unproven.iter().find(|id| from(id).is_some());
                elsewhere.or(self.unproven.first()).copied()
            }
        }
    }

    /// Whose connection it is is known.
    pub fn prove(&mut self, id: u64) {
        self.unproven.remove(&id);
    }

    /// A connection has ended, or was put out.
    pub fn leave(&mut self, id: u64) {
        let Some(stranger) = self.open.remove(&id) else { return };
        self.unproven.remove(&id);
        let Some(source) = stranger else { return };
        self.strangers -= 1;
        if let Some(count) = self.by_stranger.get_mut(&source) {
            *count -= 1;
            if *count == 0 {
                self.by_stranger.remove(&source);
            }
        }
    }
}

/// Places for requests of one sort.
#[derive(Debug)]
pub struct Seats {
    taken: AtomicUsize,
    max: usize,
}

/// A place, until it is dropped.
#[derive(Debug)]
pub struct Seat(Arc<Seats>);

impl Seats {
    /// So many places.
    pub fn new(max: usize) -> Arc<Self> {
        Arc::new(Self { taken: AtomicUsize::new(0), max })
    }

    /// A place, if one is free.
    pub fn take(self: &Arc<Self>) -> Option<Seat> {
        let more = |taken: usize| (taken < self.max).then_some(taken + 1);
        self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok().map(|_| Seat(Arc::clone(self)))
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn pod(n: u8) -> IpAddr {
        [10, 244, 0, n].into()
    }

    fn gate() -> Gate {
        Gate::new(Limits { total: 16, strangers: 8, one_stranger: 4, unproven: 6 })
    }

    fn proven(gate: &mut Gate, source: IpAddr) -> u64 {
        let id = gate.enter(source).unwrap().id;
        gate.prove(id);
        id
    }

    #[test]
    fn limits_leave_descriptors_for_the_rest() {
        let of = Limits::of_descriptors;
        assert_eq!(of(1024), Limits { total: 256, strangers: 128, one_stranger: 16, unproven: 64 });
        assert_eq!(of(1_048_576).total, 4096);
        assert_eq!(of(100).total, 32);
    }

    #[test]
    fn unfinished_handshakes_make_room_for_new_ones() {
        let mut gate = gate();
        let ids: Vec<u64> = (0..6).map(|_| gate.enter(HERE).unwrap().id).collect();
        let next = gate.enter(HERE).unwrap();
        assert_eq!(next.puts_out, Some((ids[0], Bound::Unproven)));
        gate.prove(ids[1]);
        assert_eq!(gate.enter(HERE).unwrap().puts_out, None);
        assert_eq!(gate.enter(HERE).unwrap().puts_out, Some((ids[2], Bound::Unproven)), "the proven one stays");
    }

    #[test]
    fn a_pod_takes_no_place_from_others() {
        let mut gate = gate();
        let ids: Vec<u64> = (0..4).map(|_| gate.enter(pod(2)).unwrap().id).collect();
        assert_eq!(gate.enter(pod(2)).unwrap().puts_out, Some((ids[0], Bound::OneStranger)), "its own oldest");
        assert_eq!(gate.enter(pod(3)).unwrap().puts_out, None);
        // Known pods fill their share, and no more.
        let mut gate = self::gate();
        for n in 0..8 {
            proven(&mut gate, pod(n / 4));
        }
        assert_eq!(gate.enter(pod(1)), Err(Bound::OneStranger));
        assert_eq!(gate.enter(pod(9)), Err(Bound::Strangers));
        for _ in 0..8 {
            proven(&mut gate, HERE);
        }
        assert_eq!(gate.enter(HERE), Err(Bound::Total));
    }

    #[test]
    fn somebody_from_elsewhere_puts_out_nobody_from_here() {
        let mut gate = gate();
        let here: Vec<u64> = (0..6).map(|_| gate.enter(HERE).unwrap().id).collect();
        assert_eq!(gate.enter(pod(1)), Err(Bound::Unproven));
        gate.leave(here[3]);
        let from_pod = gate.enter(pod(1)).unwrap().id;
        assert_eq!(gate.enter(HERE).unwrap().puts_out, Some((from_pod, Bound::Unproven)));
    }

    #[test]
    fn addresses_have_one_spelling() {
        let mut gate = gate();
        let mapped: IpAddr = "::ffff:10.244.0.2".parse().unwrap();
        for source in [mapped, pod(2), mapped, pod(2)] {
            gate.enter(source).unwrap();
        }
        assert_eq!(gate.enter(pod(2)).unwrap().puts_out.unwrap().1, Bound::OneStranger);
        let mapped: IpAddr = "::ffff:127.0.0.1".parse().unwrap();
        gate.enter(mapped).unwrap();
        assert_eq!(gate.strangers, 4);
    }

    #[test]
    fn a_seat_is_free_again_when_its_request_is_over() {
        let seats = Seats::new(2);
        let (first, second) = (seats.take().unwrap(), seats.take().unwrap());
        assert!(seats.take().is_none());
        drop(first);
        assert!(seats.take().is_some());
        drop(second);
    }

    proptest! {
        #[test]
        fn no_bound_is_ever_passed_and_who_is_known_is_never_put_out(steps in prop::collection::vec((0..8u8, 0..3u8), 1..200)) {
            let mut gate = gate();
            let (mut inside, mut known) = (Vec::<u64>::new(), Set::new());
            for (who, what) in steps {
                match what {
                    0 if !inside.is_empty() => {
                        let id = inside.remove(usize::from(who) % inside.len());
                        known.remove(&id);
                        gate.leave(id);
                    }
                    1 if !inside.is_empty() => {
                        let id = inside[usize::from(who) % inside.len()];
                        known.insert(id);
                        gate.prove(id);
                    }
                    _ => {
                        let source = if who < 3 { HERE } else { pod(who) };
                        if let Ok(entered) = gate.enter(source) {
                            inside.push(entered.id);
                            if let Some((out, _)) = entered.puts_out {
                                prop_assert!(!known.contains(&out));
                                inside.retain(|id| *id != out);
                            }
                        }
                    }
                }
                prop_assert_eq!(gate.len(), inside.len());
                prop_assert!(gate.len() <= 16 && gate.strangers <= 8 && gate.unproven.len() <= 6);
                prop_assert!(gate.by_stranger.values().all(|n| *n <= 4));
                prop_assert_eq!(gate.by_stranger.values().sum::<usize>(), gate.strangers);
            }
        }
    }
}
