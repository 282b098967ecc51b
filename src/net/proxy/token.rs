//! What an epoll event is about, in the 64 bits that epoll carries.
//!
//! Used by `worker`, `conn` and `udp`.

use rustix::event::epoll::EventData;

/// The client's side of a connection; the others are the endpoints that it dialed, counted from one.
pub(super) const CLIENT: u8 = 0;

/// The most connections of one worker: three bytes less two bits number them.
pub(super) const CONNS_MAX: usize = 1 << 22;

const ID_MASK: u64 = (1 << 62) - 1;

/// One connection of a worker. The generation tells it from those that had the slot before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct ConnId {
    pub(super) slot: u32,
    pub(super) generation: u32,
}

/// What an event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Subject {
    /// A side of a connection.
    Conn(ConnId, u8),
    /// A listener has clients.
    Listener(u64),
    /// The worker has commands.
    Wake,
    /// A datagram socket has datagrams.
    Datagrams(u64),
}

impl Subject {
    /// As epoll carries it.
    pub(super) fn token(self) -> EventData {
        EventData::new_u64(self.bits())
    }

    /// From what epoll carried.
    pub(super) fn of(token: EventData) -> Self {
        Self::from_bits(token.u64())
    }

    fn bits(self) -> u64 {
        match self {
            Self::Conn(ConnId { slot, generation }, side) => {
                let mut bytes = [side; 8];
                bytes[1..5].copy_from_slice(&generation.to_le_bytes());
                bytes[5..].copy_from_slice(&slot.to_le_bytes()[..3]);
                u64::from_le_bytes(bytes)
            }
            Self::Listener(id) => 1 << 62 | id,
            Self::Wake => 2 << 62,
            Self::Datagrams(id) => 3 << 62 | id,
        }
    }

    fn from_bits(bits: u64) -> Self {
        let id = bits & ID_MASK;
        match bits >> 62 {
            0 => {
                let bytes = bits.to_le_bytes();
                let generation = u32::from_le_bytes([bytes[1], bytes[2], bytes[3], bytes[4]]);
                let slot = u32::from_le_bytes([bytes[5], bytes[6], bytes[7], 0]);
                Self::Conn(ConnId { slot, generation }, bytes[0])
            }
            1 => Self::Listener(id),
            2 => Self::Wake,
            _ => Self::Datagrams(id),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn epoll_gives_back_what_it_was_given(slot in 0..1u32 << 22, generation: u32, side: u8, id in 0..=ID_MASK) {
            let subjects = [
                Subject::Conn(ConnId { slot, generation }, side),
                Subject::Listener(id),
                Subject::Wake,
                Subject::Datagrams(id),
            ];
            for subject in subjects {
                prop_assert_eq!(Subject::from_bits(subject.bits()), subject);
            }
        }
    }
}
