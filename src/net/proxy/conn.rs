//! One proxied connection: finds an endpoint that answers, then moves bytes both ways until both sides are done.
//!
//! Owned by one worker and driven by its edges. May use `relay` to move bytes and `listener`, `rotation` to find endpoints.
//!
//! ```text
//!            a connect fails: the next endpoint          an end was read: passed on, the other way goes on
//!            ┌────────┐                                  ┌───────┐
//! accepted ─▶│ Dialing│──── bytes moved or an edge ─────▶│ Open  │── both ends read and passed on ─▶ closed
//!            └────────┘                                  └───────┘
//!            a connect hangs: the next one in parallel   an error: both sides are reset
//!            no endpoint left: the client is reset
//! ```
//!
//! **Invariants**: while dialing nothing of the client's words has reached an endpoint, so another endpoint may have them.
//! Only the first endpoint that answers is kept. A client is reset, never closed politely, when it did not get what it asked for.

use super::{
    listener::Front,
    relay::{Fault, Flow, Pause, Tools, ends},
    rotation::{Claim, Millis},
    sources::{Opening, Sources},
    token::{CLIENT, ConnId, Subject},
};
use crate::net::seats::Seat;
use rustix::{
    event::epoll::{self, EventFlags},
    fd::{AsFd, OwnedFd},
    io::Errno,
    net::{
        getpeername,
        sockopt::{
            set_socket_keepalive, set_socket_linger, set_tcp_keepcnt, set_tcp_keepidle, set_tcp_keepintvl, socket_error,
        },
    },
};
use std::{
    net::{IpAddr, SocketAddr},
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

/// What every watched socket reports. Writability is added to a socket the first time it takes no more.
const WATCHED: EventFlags = EventFlags::IN.union(EventFlags::RDHUP).union(EventFlags::PRI).union(EventFlags::ET);

/// Checks after which a connection that still dials is given up: with one check per hedge delay, about ten seconds.
const CHECKS_MAX: u8 = 100;

/// Endpoints that may be dialed at the same time for one client.
const PARALLEL_DIALS_MAX: usize = 4;

/// Endpoints that may be dialed for one client in all.
const DIALS_MAX: u8 = 32;

/// What a worker lends to a connection.
pub(super) struct Context<'a> {
    pub(super) epoll: &'a OwnedFd,
    pub(super) tools: &'a mut Tools,
    pub(super) now: Millis,
    pub(super) sources: &'a Sources,
}

/// What becomes of a connection after it was driven.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// It waits for edges.
    Wait,
    /// It has more to do after the others had their turn.
    Again,
    /// It is over and may be dropped; its sockets close politely.
    Closed,
    /// It failed and may be dropped; its sockets were told to reset.
    Failed,
}

/// Who is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gone {
    Client,
    Endpoint,
}

/// A dialed endpoint.
#[derive(Debug)]
struct Dial {
    socket: OwnedFd,
    claim: Claim,
    side: u8,
    watched: bool,
    watches_writes: bool,
}

/// A proxied connection.
#[derive(Debug)]
pub(super) struct Conn {
    id: ConnId,
    front: Arc<Front>,
    peer: Option<IpAddr>,
    /// Held, never read: how many connections there are.
    _seat: Seat,
    client: OwnedFd,
    client_watched: bool,
    client_watches_writes: bool,
    endpoint: Option<Dial>,
    hedges: Vec<Dial>,
    tried: Vec<SocketAddr>,
    dials: u8,
    checks: u8,
    is_open: bool,
    is_kept_alive: bool,
    opening: Opening,
    up: Flow,
    down: Flow,
}

impl Conn {
    /// An accepted client, whose endpoint is not chosen yet.
    pub(super) fn new(client: OwnedFd, front: Arc<Front>, peer: IpAddr, seat: Seat) -> Self {
        Self {
            id: ConnId::default(),
            front,
            peer: Some(peer),
            _seat: seat,
            client,
            client_watched: false,
            client_watches_writes: false,
            endpoint: None,
            hedges: Vec::new(),
            tried: Vec::new(),
            dials: 0,
            checks: 0,
            is_open: false,
            is_kept_alive: false,
            opening: Opening::Silent,
            up: Flow::from_client(),
            down: Flow::to_client(),
        }
    }

    /// From now on a worker knows it by this; its sockets are watched when it is driven next.
    pub(super) fn lodge(&mut self, id: ConnId) {
        self.id = id;
    }

    /// Leaves its worker. Whoever drives it next hears of everything that is true of its sockets then.
    pub(super) fn unwatch(&mut self, epoll: &OwnedFd) {
        let forget = |socket: &OwnedFd, watched: &mut bool, watches_writes: &mut bool| {
            if std::mem::take(watched) {
                // It is watched, and so this cannot fail.
                epoll::delete(epoll, socket).ok();
            }
            *watches_writes = false;
        };
        forget(&self.client, &mut self.client_watched, &mut self.client_watches_writes);
        for dial in self.endpoint.iter_mut().chain(&mut self.hedges) {
            forget(&dial.socket, &mut dial.watched, &mut dial.watches_writes);
        }
    }

    /// Dials the first endpoint and moves what the client has said already.
    pub(super) fn start(&mut self, cx: &mut Context<'_>) -> Next {
        let Ok(heard) = self.up.hear(self.client.as_fd(), cx.tools) else { return self.fail() };
        if heard > 0 {
            self.opening = Opening::WithWords;
        }
        if !self.dial_next(cx) {
            return self.fail();
        }
        match self.open_with(heard, cx) {
            Ok(()) => self.drive(cx),
            Err(_) if self.is_open => self.break_off(Gone::Endpoint, cx),
            // The words are kept for the next endpoint.
            Err(_) => self.redial(cx),
        }
    }

    /// Says to the endpoint what was heard.
    fn open_with(&mut self, heard: usize, cx: &mut Context<'_>) -> Result<(), Fault> {
        let (Some(dial), true) = (&mut self.endpoint, heard > 0) else { return Ok(()) };
        let mut sent = 0;
        let said = self.up.say(heard, dial.socket.as_fd(), cx.tools, &mut sent);
        if sent > 0 {
            self.is_open = true;
            dial.claim.sent(sent as u64);
        }
        said
    }

    fn redial(&mut self, cx: &mut Context<'_>) -> Next {
        self.drop_dial();
        if self.dial_next(cx) { self.drive(cx) } else { self.fail() }
    }

    /// Takes in an edge and goes on.
    pub(super) fn on_edge(&mut self, side: u8, flags: EventFlags, cx: &mut Context<'_>) -> Next {
        if side != CLIENT && !self.is_open {
            return self.on_dial_edge(side, flags, cx);
        }
        if side == CLIENT {
            note(flags, &mut self.up, &mut self.down);
        } else if self.endpoint.as_ref().is_some_and(|dial| dial.side == side) {
            note(flags, &mut self.down, &mut self.up);
        } else {
            // A dial that lost: its edge was under way when it was dropped.
            return Next::Wait;
        }
        match flags.contains(EventFlags::ERR) {
            true if side == CLIENT => self.fail(),
            true => self.break_off(Gone::Endpoint, cx),
            false => self.drive(cx),
        }
    }

    /// Looks after a connection that was dialed a hedge delay ago. True: look again after another.
    pub(super) fn check(&mut self, cx: &mut Context<'_>) -> (Next, bool) {
        if !self.is_open && self.is_connected() {
            self.is_open = true;
        }
        if self.is_open {
            self.keep_alive();
            return (Next::Wait, false);
        }
        self.checks += 1;
        if self.checks >= CHECKS_MAX {
            return (self.fail(), false);
        }
        (self.hedge(cx), true)
    }

    /// Whether it still dials an endpoint that has left the rotation.
    pub(super) fn dials_a_leaver(&self) -> bool {
        !self.is_open && self.endpoint.as_ref().is_some_and(|dial| !dial.claim.is_in_rotation())
    }

    /// Whether an endpoint ever answered.
    pub(super) fn was_served(&self) -> bool {
        self.is_open
    }

    /// Moves bytes both ways and finds out how it stands.
    pub(super) fn drive(&mut self, cx: &mut Context<'_>) -> Next {
        loop {
            match self.relay(cx) {
                Ok(pause) => return self.settle(pause, cx),
                Err(gone) if self.is_open => return self.break_off(gone, cx),
                Err(Gone::Client) => return self.fail(),
                // The connect had failed: the words that the client sent are in the stash, for the next endpoint.
                Err(Gone::Endpoint) => {
                    self.drop_dial();
                    if !self.dial_next(cx) {
                        return self.fail();
                    }
                }
            }
        }
    }

    fn relay(&mut self, cx: &mut Context<'_>) -> Result<Pause, Gone> {
        let Some(dial) = &mut self.endpoint else { return Ok(Pause::Edge) };
        if !self.hedges.is_empty() {
            return Ok(Pause::Edge);
        }
        let (mut sent, mut received) = (0, 0);
        let (client, socket) = ends(&self.client, &dial.socket);
        let up = self.up.pump(client, socket, cx.tools, &mut sent);
        if sent > 0 {
            self.is_open = true;
            dial.claim.sent(sent as u64);
        }
        let up = up.map_err(|fault| if fault == Fault::Source { Gone::Client } else { Gone::Endpoint })?;
        let down = self.down.pump(socket, client, cx.tools, &mut received);
        if received > 0 {
            self.is_open = true;
            dial.claim.received(received as u64, cx.now);
        }
        let down = down.map_err(|fault| if fault == Fault::Source { Gone::Endpoint } else { Gone::Client })?;
        Ok(if down == Pause::Turn { Pause::Turn } else { up })
    }

    /// Passes ends on, makes sure that the edges it waits for will come, and tells whether it is over.
    fn settle(&mut self, pause: Pause, cx: &mut Context<'_>) -> Next {
        if self.up.is_done() && self.down.is_done() {
            return Next::Closed;
        }
        if self.is_open
            && let Some(dial) = &mut self.endpoint
        {
            if self.up.is_done() {
                self.up.end(dial.socket.as_fd());
            }
            if self.down.is_done() {
                dial.claim.closed_first(cx.now);
                self.down.end(self.client.as_fd());
            }
        }
        if self.watch(cx).is_err() {
            return self.fail();
        }
        if pause == Pause::Turn { Next::Again } else { Next::Wait }
    }

    fn watch(&mut self, cx: &Context<'_>) -> Result<(), Errno> {
        let id = self.id;
        let writes = self.down.blocked;
        watch(
            cx.epoll,
            &self.client,
            Subject::Conn(id, CLIENT),
            writes,
            &mut self.client_watched,
            &mut self.client_watches_writes,
        )?;
        // A client that ended before the connection stood: the end is passed on when it stands, so that must be heard.
        let up_waits = self.up.blocked || !self.is_open && self.up.is_done();
        let hedged = !self.hedges.is_empty();
        for dial in self.endpoint.iter_mut().chain(&mut self.hedges) {
            dial.watch(cx.epoll, id, up_waits || hedged)?;
        }
        Ok(())
    }

    /// One side is gone: the other is reset. What an endpoint said before it went still goes to the client.
    fn break_off(&mut self, gone: Gone, cx: &mut Context<'_>) -> Next {
        if let Some(dial) = self.endpoint.as_mut().filter(|_| gone == Gone::Endpoint) {
            dial.claim.counters.errors.fetch_add(1, Relaxed);
            let (client, socket) = ends(&self.client, &dial.socket);
            let mut received = 0;
            self.down.readable = true;
            let salvaged = self.down.pump(socket, client, cx.tools, &mut received);
            dial.claim.received(received as u64, cx.now);
            if salvaged.is_ok() && self.down.is_done() {
                // The endpoint replied, closed, and did not want the rest: its reply must not be overtaken by a reset.
                reset(&dial.socket);
                return Next::Failed;
            }
            dial.claim.note_lost(cx.now);
        }
        self.fail()
    }

    /// Resets both sides.
    pub(super) fn fail(&mut self) -> Next {
        reset(&self.client);
        if let Some(dial) = &self.endpoint {
            reset(&dial.socket);
        }
        Next::Failed
    }
}

/// Dialing.
impl Conn {
    /// Dials endpoints until one is on its way. False: there is none left.
    fn dial_next(&mut self, cx: &Context<'_>) -> bool {
        match self.dial(cx) {
            Some(dial) => {
                self.up.redirect();
                self.endpoint = Some(dial);
                true
            }
            None => false,
        }
    }

    fn dial(&mut self, cx: &Context<'_>) -> Option<Dial> {
        while self.dials < DIALS_MAX {
            let claim = self.front.pick(self.peer, &self.tried, cx.now)?;
            self.dials += 1;
            match cx.sources.connect(claim.address, self.opening, cx.now) {
                Ok(socket) => {
                    claim.counters.connections.fetch_add(1, Relaxed);
                    let side = self.dials;
                    return Some(Dial { socket, claim, side, watched: false, watches_writes: false });
                }
                Err(_) => self.give_up_on(claim),
            }
        }
        None
    }

    fn give_up_on(&mut self, claim: Claim) {
        claim.counters.errors.fetch_add(1, Relaxed);
        self.tried.push(claim.address);
    }

    fn drop_dial(&mut self) {
        if let Some(dial) = self.endpoint.take() {
            self.give_up_on(dial.claim);
        }
    }

    /// The client waits for a connect that hangs: dials the next endpoint beside it.
    fn hedge(&mut self, cx: &mut Context<'_>) -> Next {
        if self.hedges.len() + 1 >= PARALLEL_DIALS_MAX {
            return Next::Wait;
        }
        let dialed: Vec<SocketAddr> = self.endpoint.iter().chain(&self.hedges).map(|dial| dial.claim.address).collect();
        let known = self.tried.len();
        self.tried.extend(dialed);
        let hedge = self.dial(cx);
        self.tried.drain(known..known + 1 + self.hedges.len());
        self.hedges.extend(hedge);
        if self.watch(cx).is_err() { self.fail() } else { Next::Wait }
    }

    fn on_dial_edge(&mut self, side: u8, flags: EventFlags, cx: &mut Context<'_>) -> Next {
        let failed = flags.contains(EventFlags::ERR);
        if self.endpoint.as_ref().is_some_and(|dial| dial.side == side) {
            if failed {
                return self.on_dial_failed(cx);
            }
            self.hedges.clear();
        } else {
            let Some(at) = self.hedges.iter().position(|dial| dial.side == side) else { return Next::Wait };
            let hedge = self.hedges.swap_remove(at);
            if failed {
                self.give_up_on(hedge.claim);
                return Next::Wait;
            }
            self.promote(hedge, cx.now);
        }
        self.is_open = true;
        self.up.blocked = false;
        note(flags, &mut self.down, &mut self.up);
        self.drive(cx)
    }

    /// A hedge answered first. Whoever was dialed before it hangs.
    fn promote(&mut self, hedge: Dial, now: Millis) {
        for slower in self.endpoint.take().into_iter().chain(self.hedges.drain(..)) {
            if slower.side < hedge.side {
                slower.claim.suspect(now);
            }
        }
        self.up.redirect();
        self.endpoint = Some(hedge);
    }

    fn on_dial_failed(&mut self, cx: &mut Context<'_>) -> Next {
        self.drop_dial();
        if self.hedges.is_empty() {
            if !self.dial_next(cx) {
                return self.fail();
            }
        } else {
            // The hedge stops being one; its connect may have succeeded already, and then its edge is on its way.
            self.endpoint = Some(self.hedges.remove(0));
            self.up.redirect();
            if self.hedges.is_empty() {
                // From here on it is written to like a first dial.
                self.up.blocked = self.up.is_holding();
            }
        }
        self.drive(cx)
    }

    fn is_connected(&self) -> bool {
        self.hedges.is_empty() && self.endpoint.as_ref().is_some_and(|dial| is_connected(&dial.socket))
    }

    /// Probes both sides from now on, so that a side that vanished is noticed. Short connections never pay for it.
    fn keep_alive(&mut self) {
        if !std::mem::replace(&mut self.is_kept_alive, true) {
            keep_alive(&self.client);
            self.endpoint.iter().for_each(|dial| keep_alive(&dial.socket));
        }
    }
}

impl Dial {
    fn watch(&mut self, epoll: &OwnedFd, id: ConnId, writes: bool) -> Result<(), Errno> {
        watch(epoll, &self.socket, Subject::Conn(id, self.side), writes, &mut self.watched, &mut self.watches_writes)
    }
}

/// Registers a socket once, and again when it must report writability too. Re-registering reports what is true already.
fn watch(
    epoll: &OwnedFd,
    socket: &OwnedFd,
    subject: Subject,
    writes: bool,
    watched: &mut bool,
    watches_writes: &mut bool,
) -> Result<(), Errno> {
    if *watched && (*watches_writes || !writes) {
        return Ok(());
    }
    let flags = if writes { WATCHED | EventFlags::OUT } else { WATCHED };
    let data = subject.token();
    if *watched {
        epoll::modify(epoll, socket, data, flags)?;
    } else {
        epoll::add(epoll, socket, data, flags)?;
    }
    (*watched, *watches_writes) = (true, writes);
    Ok(())
}

/// Takes in what an edge says about a socket: the direction that it feeds, and the one that it drains.
fn note(flags: EventFlags, feeds: &mut Flow, drains: &mut Flow) {
    let broken = flags.intersects(EventFlags::ERR | EventFlags::HUP);
    if broken || flags.intersects(EventFlags::IN | EventFlags::RDHUP | EventFlags::PRI) {
        feeds.readable = true;
    }
    if flags.contains(EventFlags::RDHUP) && !flags.contains(EventFlags::PRI) {
        // Urgent data cuts reads short; without it a short read has reached the announced end.
        feeds.source_ended = true;
    }
    if broken || flags.contains(EventFlags::OUT) {
        drains.blocked = false;
    }
}

fn is_connected(socket: &OwnedFd) -> bool {
    matches!(socket_error(socket), Ok(Ok(()))) && matches!(getpeername(socket), Ok(Some(_)))
}

/// Makes closing a socket tell its peer that something went wrong.
pub(super) fn reset(socket: &OwnedFd) {
    // A socket that refuses the option is closed politely instead; there is no one to tell.
    set_socket_linger(socket, Some(Duration::ZERO)).ok();
}

fn keep_alive(socket: &OwnedFd) {
    // Best effort: without it a vanished peer is noticed at the next write only.
    set_tcp_keepidle(socket, Duration::from_secs(60))
        .and_then(|()| set_tcp_keepintvl(socket, Duration::from_secs(15)))
        .and_then(|()| set_tcp_keepcnt(socket, 4))
        .and_then(|()| set_socket_keepalive(socket, true))
        .ok();
}
