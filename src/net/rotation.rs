//! Who is next: the endpoints behind a port, strict round robin per listener, stickiness, and what happened at each endpoint.
//!
//! Called by the proxy's workers for every connection, by the router for every request, and by the proxy when the table changes. Atomics
//! and short locks; no I/O.
//!
//! **Invariants**: a [`Claim`] is counted in `active` before the lock that chose it is released, so once a changed rotation is
//! in place, `active` of an endpoint that left it can only fall. An endpoint whose connect hung is tried last for a second:
//! the rotation stays strict among those that answer.

use crate::{
    base::ordered::Map,
    net::table::{PodRef, PortRef, Rotation, Target},
};
use sha2::{Digest as _, Sha256};
use std::{
    net::{IpAddr, SocketAddr},
    ops::Deref,
    sync::{
        Arc, Mutex, OnceLock, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

/// Milliseconds since the proxy started.
pub(super) type Millis = u64;

/// A duration in the proxy's measure.
pub(super) fn millis(duration: Duration) -> Millis {
    Millis::try_from(duration.as_millis()).unwrap_or(Millis::MAX)
}

/// For how long an endpoint whose connect hung is tried last.
const SUSPICION: Duration = Duration::from_secs(1);

/// The most clients that one port remembers for stickiness; beyond, the one seen longest ago is forgotten.
const STICKY_CLIENTS_MAX: usize = 8192;

/// What happened at an endpoint since the proxy started.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) connections: AtomicU64,
    pub(super) active: AtomicU64,
    /// Connections on which the client spoke last: a reply is due.
    pub(super) awaiting: AtomicU64,
    pub(super) bytes_to_endpoint: AtomicU64,
    pub(super) bytes_to_client: AtomicU64,
    pub(super) errors: AtomicU64,
    /// Connections and requests that a client lost because the endpoint broke off.
    pub(super) broken: AtomicU64,
    /// When it replied for the first time, and one millisecond more; 0: it has not yet.
    first_reply: AtomicU64,
    /// When a client last lost something, and one millisecond more; 0: none has yet.
    last_lost: AtomicU64,
}

/// One endpoint behind one port of a Service. All listeners of the port share it.
#[derive(Debug)]
pub(super) struct Endpoint {
    pub(super) address: SocketAddr,
    pub(super) port: Arc<PortRef>,
    pub(super) pod: Option<PodRef>,
    pub(super) counters: Counters,
    /// Tells it from every other endpoint of this process.
    pub(super) id: u64,
    /// Tells it from others in a cookie, for whoever follows the same endpoints, and says nothing of it.
    mark: OnceLock<String>,
    in_rotation: AtomicBool,
    suspect_until: AtomicU64,
}

/// Endpoints that were made.
static MADE: AtomicU64 = AtomicU64::new(0);

impl Endpoint {
    fn new(port: &Arc<PortRef>, target: &Target) -> Self {
        Self {
            address: target.address,
            port: Arc::clone(port),
            pod: target.pod.clone(),
            counters: Counters::default(),
            id: MADE.fetch_add(1, Relaxed),
            mark: OnceLock::new(),
            in_rotation: AtomicBool::new(true),
            suspect_until: AtomicU64::new(0),
        }
    }

    /// What a cookie calls it.
    pub(super) fn mark(&self) -> &str {
        self.mark.get_or_init(|| {
            let pod = self.pod.as_ref().map_or("", |pod| &pod.uid);
            let sum = Sha256::digest(format!("{} {} {pod}", self.port, self.address));
            sum.iter().take(16).map(|byte| format!("{byte:02x}")).collect()
        })
    }

    /// Whether new connections may go there.
    pub(super) fn is_in_rotation(&self) -> bool {
        self.in_rotation.load(Relaxed)
    }

    /// Notes that it replied.
    pub(super) fn note_reply(&self, now: Millis) {
        if self.counters.first_reply.load(Relaxed) == 0 {
            self.counters.first_reply.store(now + 1, Relaxed);
        }
    }

    /// Notes that a client lost a connection or a request, because this endpoint broke off.
    pub(super) fn note_lost(&self, now: Millis) {
        self.counters.broken.fetch_add(1, Relaxed);
        self.counters.last_lost.store(now + 1, Relaxed);
    }

    /// When a client last lost something here.
    pub(super) fn last_lost(&self) -> Option<Millis> {
        self.counters.last_lost.load(Relaxed).checked_sub(1)
    }

    /// When it replied for the first time.
    pub(super) fn first_reply(&self) -> Option<Millis> {
        self.counters.first_reply.load(Relaxed).checked_sub(1)
    }

    /// A connect hung: others first, for a while.
    pub(super) fn suspect(&self, now: Millis) {
        self.suspect_until.store(now + millis(SUSPICION), Relaxed);
    }

    fn is_suspect(&self, now: Millis) -> bool {
        self.suspect_until.load(Relaxed) > now
    }

    fn is(&self, target: &Target) -> bool {
        self.address == target.address && self.pod == target.pod
    }
}

/// One connection's hold on an endpoint; counted as active until dropped.
#[derive(Debug)]
pub(super) struct Claim {
    endpoint: Arc<Endpoint>,
    awaiting: bool,
    /// Whether the client has said something since the endpoint last did.
    is_asked: bool,
    /// Whether the endpoint has said its last.
    is_over: bool,
}

impl Claim {
    fn new(endpoint: &Arc<Endpoint>) -> Self {
        endpoint.counters.active.fetch_add(1, Relaxed);
        endpoint.counters.awaiting.fetch_add(1, Relaxed);
        Self { endpoint: Arc::clone(endpoint), awaiting: true, is_asked: false, is_over: false }
    }

    /// The endpoint that is held.
    pub(super) fn endpoint(&self) -> &Arc<Endpoint> {
        &self.endpoint
    }

    /// Counts bytes that went to the endpoint; a reply is due from now on.
    pub(super) fn sent(&mut self, bytes: u64) {
        self.endpoint.counters.bytes_to_endpoint.fetch_add(bytes, Relaxed);
        self.is_asked = true;
        if !self.awaiting {
            self.awaiting = true;
            self.endpoint.counters.awaiting.fetch_add(1, Relaxed);
        }
    }

    /// Counts bytes that came from the endpoint; it has begun to reply.
    pub(super) fn received(&mut self, bytes: u64, now: Millis) {
        self.endpoint.counters.bytes_to_client.fetch_add(bytes, Relaxed);
        if bytes > 0 {
            self.endpoint.note_reply(now);
        }
        self.answered();
    }

    /// The endpoint has closed its side while the client's is open: a program that is killed in the midst of a request ends so too. Counted
    /// once.
    pub(super) fn closed_first(&mut self, now: Millis) {
        if !std::mem::replace(&mut self.is_over, true) && self.is_asked {
            self.endpoint.note_lost(now);
        }
    }

    fn answered(&mut self) {
        self.is_asked = false;
        if self.awaiting {
            self.awaiting = false;
            self.endpoint.counters.awaiting.fetch_sub(1, Relaxed);
        }
    }
}

impl Deref for Claim {
    type Target = Endpoint;

    fn deref(&self) -> &Endpoint {
        &self.endpoint
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.answered();
        self.endpoint.counters.active.fetch_sub(1, Relaxed);
    }
}

/// The endpoints behind one port of a Service, and which client sticks to which.
#[derive(Debug)]
pub(super) struct Backends {
    pub(super) port: Arc<PortRef>,
    current: RwLock<Current>,
    sticky: Mutex<Map<IpAddr, Sticky>>,
}

#[derive(Debug, Default)]
struct Current {
    endpoints: Vec<Arc<Endpoint>>,
    sticky_for: Option<Duration>,
}

#[derive(Debug)]
struct Sticky {
    address: SocketAddr,
    last_seen: Millis,
}

impl Backends {
    /// A port without endpoints.
    pub(super) fn new(port: Arc<PortRef>) -> Self {
        Self { port, current: RwLock::default(), sticky: Mutex::default() }
    }

    /// Follows a rotation; endpoints that stay keep their counters. Returns those that left.
    pub(super) fn follow(&self, rotation: &Rotation) -> Vec<Arc<Endpoint>> {
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        let mut before = std::mem::take(&mut current.endpoints);
        let mut stays_or_new = |target: &Target| match before.iter().position(|e| e.is(target)) {
            Some(at) => before.swap_remove(at),
            None => Arc::new(Endpoint::new(&self.port, target)),
        };
        current.endpoints = rotation.targets.iter().map(&mut stays_or_new).collect();
        current.sticky_for = rotation.sticky_for;
        for left in &before {
            left.in_rotation.store(false, Relaxed);
        }
        before
    }

    /// The endpoints in the rotation now.
    pub(super) fn endpoints(&self) -> Vec<Arc<Endpoint>> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).endpoints.clone()
    }

    /// Claims the endpoint that a cookie calls so.
    pub(super) fn pick_marked(&self, mark: &str, tried: &[SocketAddr]) -> Option<Claim> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        let is_it = |endpoint: &&Arc<Endpoint>| endpoint.mark() == mark && !tried.contains(&endpoint.address);
        current.endpoints.iter().find(is_it).map(Claim::new)
    }

    /// Claims the endpoint that is not among `tried` and has the fewest connections; of several, the next.
    pub(super) fn pick_fewest(&self, turn: &AtomicUsize, tried: &[SocketAddr], now: Millis) -> Option<Claim> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        let first = turn.fetch_add(1, Relaxed);
        let in_turn = current.in_order(first).filter(|endpoint| !tried.contains(&endpoint.address));
        let load = |endpoint: &&Arc<Endpoint>| (endpoint.is_suspect(now), endpoint.counters.active.load(Relaxed));
        in_turn.min_by_key(load).map(Claim::new)
    }

    /// Claims the endpoint that a number leads to; one that is not there or among `tried` gives its place to the next.
    pub(super) fn pick_at(&self, number: usize, tried: &[SocketAddr], now: Millis) -> Option<Claim> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        let in_order = current.in_order(number).filter(|endpoint| !tried.contains(&endpoint.address));
        in_order.min_by_key(|endpoint| endpoint.is_suspect(now)).map(Claim::new)
    }

    /// Claims the next endpoint that is not among `tried`.
    pub(super) fn pick(
        &self,
        turn: &AtomicUsize,
        client: Option<IpAddr>,
        tried: &[SocketAddr],
        now: Millis,
    ) -> Option<Claim> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        let Some((client, sticky_for)) = client.zip(current.sticky_for) else {
            return current.next(turn, tried, now).map(Claim::new);
        };
        let mut sticky = self.sticky.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = sticky
            .get(&client)
            .filter(|s| now.saturating_sub(s.last_seen) < millis(sticky_for) && !tried.contains(&s.address))
            .and_then(|s| current.endpoints.iter().find(|e| e.address == s.address));
        let chosen = kept.or_else(|| current.next(turn, tried, now))?;
        remember(&mut sticky, client, Sticky { address: chosen.address, last_seen: now });
        Some(Claim::new(chosen))
    }
}

fn remember(sticky: &mut Map<IpAddr, Sticky>, client: IpAddr, choice: Sticky) {
    if sticky.len() >= STICKY_CLIENTS_MAX && !sticky.contains_key(&client) {
        let oldest = sticky.iter().min_by_key(|(_, s)| s.last_seen).map(|(client, _)| *client);
        oldest.and_then(|client| sticky.remove(&client));
    }
    sticky.insert(client, choice);
}

impl Current {
    /// Each endpoint once, from one on.
    fn in_order(&self, first: usize) -> impl Iterator<Item = &Arc<Endpoint>> {
        let at = if self.endpoints.is_empty() { 0 } else { first % self.endpoints.len() };
        self.endpoints[at..].iter().chain(&self.endpoints[..at])
    }

    /// Round robin; suspects and what was tried give their turn to the next, and a suspect is better than none.
    fn next(&self, turn: &AtomicUsize, tried: &[SocketAddr], now: Millis) -> Option<&Arc<Endpoint>> {
        let mut last_resort = None;
        for _ in &self.endpoints {
            let endpoint = &self.endpoints[turn.fetch_add(1, Relaxed) % self.endpoints.len()];
            if tried.contains(&endpoint.address) {
                continue;
            }
            if !endpoint.is_suspect(now) {
                return Some(endpoint);
            }
            last_resort = last_resort.or(Some(endpoint));
        }
        last_resort
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{base::ordered::Set, net::table::Protocol};

    fn port() -> Arc<PortRef> {
        let (namespace, service, port) = ("default".to_owned(), "web".to_owned(), String::new());
        Arc::new(PortRef { namespace, service, port, protocol: Protocol::Tcp })
    }

    fn rotation(hosts: &[u8]) -> Rotation {
        let target = |h: &u8| Target { address: SocketAddr::from(([10, 244, 0, *h], 80)), pod: None };
        Rotation { targets: hosts.iter().map(target).collect(), sticky_for: None }
    }

    fn host(claim: &Claim) -> u8 {
        match claim.address {
            SocketAddr::V4(a) => a.ip().octets()[3],
            SocketAddr::V6(_) => unreachable!("the tests use IPv4"),
        }
    }

    fn picks(b: &Backends, turn: &AtomicUsize, n: usize, now: Millis) -> Vec<u8> {
        (0..n).map(|_| host(&b.pick(turn, None, &[], now).unwrap())).collect()
    }

    #[test]
    fn every_endpoint_gets_its_turn_in_order() {
        let (b, turn) = (Backends::new(port()), AtomicUsize::new(0));
        b.follow(&rotation(&[1, 2, 3]));
        assert_eq!(picks(&b, &turn, 6, 0), [1, 2, 3, 1, 2, 3]);
    }

    #[test]
    fn no_endpoint_means_no_claim() {
        let (b, turn) = (Backends::new(port()), AtomicUsize::new(0));
        assert!(b.pick(&turn, None, &[], 0).is_none());
    }

    #[test]
    fn an_endpoint_that_left_is_returned_and_its_claims_only_fall() {
        let (b, turn) = (Backends::new(port()), AtomicUsize::new(0));
        b.follow(&rotation(&[1, 2]));
        let claim = b.pick(&turn, None, &[], 0).unwrap();
        let left = b.follow(&rotation(&[2]));
        assert_eq!(left.len(), 1);
        assert!(!left[0].is_in_rotation());
        assert_eq!(left[0].counters.active.load(Relaxed), 1);
        drop(claim);
        assert_eq!(left[0].counters.active.load(Relaxed), 0);
        assert_eq!(picks(&b, &turn, 2, 0), [2, 2]);
    }

    #[test]
    fn an_endpoint_that_stays_keeps_its_counters() {
        let (b, turn) = (Backends::new(port()), AtomicUsize::new(0));
        b.follow(&rotation(&[1]));
        b.pick(&turn, None, &[], 0).unwrap().sent(7);
        b.follow(&rotation(&[2, 1]));
        let sent: Vec<u64> = b.endpoints().iter().map(|e| e.counters.bytes_to_endpoint.load(Relaxed)).collect();
        assert_eq!(sent, [0, 7]);
    }

    #[test]
    fn what_was_tried_is_skipped_and_a_suspect_is_a_last_resort() {
        let (b, turn) = (Backends::new(port()), AtomicUsize::new(0));
        b.follow(&rotation(&[1, 2]));
        b.endpoints()[0].suspect(0);
        assert_eq!(picks(&b, &turn, 3, 999), [2, 2, 2]);
        let tried = [b.endpoints()[1].address];
        assert_eq!(host(&b.pick(&turn, None, &tried, 999).unwrap()), 1);
        let both: Vec<SocketAddr> = b.endpoints().iter().map(|e| e.address).collect();
        assert!(b.pick(&turn, None, &both, 0).is_none());
        let after: Set<u8> = picks(&b, &turn, 4, 1000).into_iter().collect();
        assert_eq!(after.len(), 2);
    }

    #[test]
    fn a_sticky_client_stays_until_it_was_away_for_too_long_or_its_endpoint_left() {
        let (b, turn) = (Backends::new(port()), AtomicUsize::new(0));
        let sticky = |hosts: &[u8]| Rotation { sticky_for: Some(Duration::from_secs(10)), ..rotation(hosts) };
        b.follow(&sticky(&[1, 2, 3]));
        let client = Some(IpAddr::from([192, 0, 2, 9]));
        let at = |now| host(&b.pick(&turn, client, &[], now).unwrap());
        assert_eq!([at(0), at(9_000), at(18_000)], [1, 1, 1]);
        assert_eq!(at(28_000), 2, "ten seconds away");
        b.follow(&sticky(&[1, 3]));
        assert_ne!(at(28_001), 2);
    }

    #[test]
    fn the_router_picks_by_a_cookie_by_load_and_by_a_number() {
        let (b, turn) = (Backends::new(port()), AtomicUsize::new(0));
        assert!(b.pick_fewest(&turn, &[], 0).is_none() && b.pick_at(7, &[], 0).is_none());
        b.follow(&rotation(&[1, 2, 3]));
        let mark = b.endpoints()[1].mark().to_owned();
        let busy = b.pick_marked(&mark, &[]).unwrap();
        assert_eq!(host(&busy), 2);
        assert!(b.pick_marked(&mark, &[busy.address]).is_none() && b.pick_marked("x", &[]).is_none());
        let fewest: Vec<Claim> = (0..3).map(|_| b.pick_fewest(&turn, &[], 0).unwrap()).collect();
        assert!(!fewest[..2].iter().any(|claim| host(claim) == 2), "it has one already");
        let at = |number, now| host(&b.pick_at(number, &[], now).unwrap());
        assert_eq!([at(0, 0), at(1, 0), at(2, 0), at(3, 0)], [1, 2, 3, 1]);
        b.endpoints()[0].suspect(0);
        assert_eq!([at(0, 0), at(0, 1000)], [2, 1]);
    }

    #[test]
    fn a_reply_is_due_from_the_clients_word_to_the_endpoints() {
        let (b, turn) = (Backends::new(port()), AtomicUsize::new(0));
        b.follow(&rotation(&[1]));
        let awaiting = || b.endpoints()[0].counters.awaiting.load(Relaxed);
        let mut claim = b.pick(&turn, None, &[], 0).unwrap();
        assert_eq!(awaiting(), 1);
        claim.sent(1);
        assert_eq!(claim.first_reply(), None);
        claim.received(0, 3);
        assert_eq!(claim.first_reply(), None);
        claim.received(1, 7);
        claim.received(1, 9);
        assert_eq!(claim.first_reply(), Some(7));
        assert_eq!(awaiting(), 0);
        claim.sent(1);
        assert_eq!(awaiting(), 1);
        drop(claim);
        assert_eq!(awaiting(), 0);
    }

    #[test]
    fn the_client_seen_longest_ago_is_forgotten_first() {
        let mut sticky = Map::new();
        let address = SocketAddr::from(([10, 244, 0, 1], 80));
        for n in 0..=STICKY_CLIENTS_MAX {
            let client = IpAddr::from(u32::try_from(n).unwrap().to_be_bytes());
            remember(&mut sticky, client, Sticky { address, last_seen: n as Millis });
        }
        assert_eq!(sticky.len(), STICKY_CLIENTS_MAX);
        assert!(!sticky.contains_key(&IpAddr::from([0, 0, 0, 0])));
    }
}
