//! How many clients there are, in all and from one address: bounds, so that no client can take everything from the others.
//!
//! Used by `proxy` and `dns` for connections. A seat is held for as long as the connection lasts.
//!
//! **Bounds**: an address of the machine itself may have half of all seats, any other an eighth. What is turned away is counted, and
//! said once.

use crate::base::{ordered::Map, reached::Reached};
use std::{
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
};
use tracing::warn;

/// What part of all seats one address may have.
const SHARE: usize = 8;
/// The same for the machine itself.
const SHARE_OF_HOST: usize = 2;

/// Seats for clients.
#[derive(Debug)]
pub(super) struct Seats {
    /// For whom, in the log.
    what: &'static str,
    max: usize,
    taken: Mutex<Taken>,
    turned_away: Reached,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    of: Map<IpAddr, usize>,
}

/// One client's seat.
#[derive(Debug)]
pub(super) struct Seat {
    seats: Arc<Seats>,
    client: IpAddr,
}

impl Seats {
    /// So many at most.
    pub(super) fn new(what: &'static str, max: usize) -> Arc<Self> {
        Arc::new(Self { what, max, taken: Mutex::default(), turned_away: Reached::default() })
    }

    /// A seat for a client; nothing when there is none for it.
    pub(super) fn take(self: &Arc<Self>, client: IpAddr) -> Option<Seat> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let of_client = taken.of.get(&client).copied().unwrap_or_default();
        if taken.all >= self.max || of_client >= share(self.max, client) {
            drop(taken);
            self.turn_away(client);
            return None;
        }
        taken.all += 1;
        taken.of.insert(client, of_client + 1);
        Some(Seat { seats: Arc::clone(self), client })
    }

    /// How many seats there are.
    pub(super) fn max(&self) -> usize {
        self.max
    }

    /// How many clients found no seat.
    pub(super) fn turned_away(&self) -> u64 {
        self.turned_away.count()
    }

    fn turn_away(&self, client: IpAddr) {
        if self.turned_away.is_first() {
            let (what, max, share) = (self.what, self.max, share(self.max, client));
            warn!(component = "proxy", %client, max, share, "too many {what}: some are turned away, from now on without a word");
        }
    }
}

/// How many seats one address may have.
fn share(max: usize, client: IpAddr) -> usize {
    (max / if client.is_loopback() { SHARE_OF_HOST } else { SHARE }).max(1)
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.seats.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.all -= 1;
        if let Some(n) = taken.of.get_mut(&self.client) {
            *n -= 1;
            if *n == 0 {
                taken.of.remove(&self.client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(last: u8) -> IpAddr {
        IpAddr::from([10, 244, 0, last])
    }

    #[test]
    fn one_address_cannot_have_every_seat() {
        let seats = Seats::new("clients", 16);
        let mine: Vec<Seat> = std::iter::from_fn(|| seats.take(ip(1))).collect();
        assert_eq!(mine.len(), 2);
        let hosts: Vec<Seat> = std::iter::from_fn(|| seats.take(IpAddr::from([127, 0, 0, 1]))).collect();
        assert_eq!(hosts.len(), 8);
        assert!(seats.take(ip(2)).is_some());
        assert_eq!(seats.turned_away(), 2);
    }

    #[test]
    fn all_together_have_no_more_than_there_are_and_a_seat_that_is_left_is_free() {
        let seats = Seats::new("clients", 8);
        let mut held: Vec<Seat> = (0..8).filter_map(|n| seats.take(ip(n))).collect();
        assert_eq!(held.len(), 8);
        assert!(seats.take(ip(100)).is_none());
        held.pop();
        assert!(seats.take(ip(100)).is_some());
        drop(held);
        assert!(seats.taken.lock().unwrap().of.is_empty());
    }
}
