//! The range of ClusterIPs, and which of its addresses are whose.
//!
//! Pure. The registry gives Services addresses of it, `app` tells it, the node agent and the data plane have addresses of their own in
//! it: they understand each other by what stands here.
//!
//! ```text
//!  first   …   last of Services │ 6 from which endpoints are dialed │ the namespace that answers │ broadcast
//! ```

use std::{fmt, net::Ipv4Addr, ops::Range, str::FromStr};

/// How many addresses at the end are the data plane's own; no Service gets one.
const OWN: u32 = 8;
/// The bits that tell these apart.
const OWN_BITS: u8 = 3;

/// A range of ClusterIPs, written `10.245.0.0/16`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServiceRange {
    first: u32,
    prefix: u8,
}

/// A text that is not a range of ClusterIPs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a range of IPv4 addresses such as 10.245.0.0/16")]
pub struct BadServiceRange(String);

impl ServiceRange {
    /// The range of this prefix length that holds `address`; at least 16 addresses.
    pub fn new(address: Ipv4Addr, prefix: u8) -> Self {
        let prefix = prefix.clamp(1, 32 - OWN_BITS - 1);
        Self { first: address.to_bits() & (u32::MAX << (32 - u32::from(prefix))), prefix }
    }

    /// The first address and the number of leading bits that count.
    pub fn parts(self) -> (Ipv4Addr, u8) {
        (self.first.into(), self.prefix)
    }

    fn last(self) -> u32 {
        self.first | (u32::MAX >> self.prefix)
    }

    /// What Services may have, as numbers: neither the first address nor those at the end.
    pub fn of_services(self) -> Range<u32> {
        self.first + 1..self.last() - OWN + 1
    }

    /// The same place in this range as an address has in its own.
    pub fn place_of(self, address: Ipv4Addr) -> Ipv4Addr {
        (self.first | (address.to_bits() & (u32::MAX >> self.prefix))).into()
    }

    /// Whether an address is one of the data plane's own.
    pub fn is_own(self, address: Ipv4Addr) -> bool {
        (self.last() - OWN + 1..=self.last()).contains(&address.to_bits())
    }

    /// The data plane's own addresses: the first, and the number of leading bits that count.
    pub fn own(self) -> (Ipv4Addr, u8) {
        ((self.last() - OWN + 1).into(), 32 - OWN_BITS)
    }

    /// The address of the network namespace that answers for ClusterIPs.
    pub fn answering(self) -> Ipv4Addr {
        (self.last() - 1).into()
    }

    /// The addresses from which endpoints are dialed when ports run out.
    pub fn dialing(self) -> impl Iterator<Item = Ipv4Addr> {
        (self.last() - OWN + 1..self.last() - 1).map(Ipv4Addr::from)
    }
}

impl fmt::Display for ServiceRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", Ipv4Addr::from(self.first), self.prefix)
    }
}

impl FromStr for ServiceRange {
    type Err = BadServiceRange;

    fn from_str(text: &str) -> Result<Self, BadServiceRange> {
        let bad = || BadServiceRange(text.to_owned());
        let (address, prefix) = text.split_once('/').ok_or_else(bad)?;
        let range = Self::new(address.parse().map_err(|_| bad())?, prefix.parse().map_err(|_| bad())?);
        // What was adjusted was no range of this kind.
        if range.to_string() == text { Ok(range) } else { Err(bad()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_the_range_is_the_data_planes() {
        for (text, last, own) in
            [("10.245.0.0/16", "10.245.255.247", "10.245.255.248"), ("10.0.0.32/27", "10.0.0.55", "10.0.0.56")]
        {
            let range: ServiceRange = text.parse().unwrap();
            assert_eq!(range.to_string(), text);
            let last: Ipv4Addr = last.parse().unwrap();
            assert_eq!(range.of_services(), range.parts().0.to_bits() + 1..last.to_bits() + 1);
            assert!(!range.is_own(last) && range.is_own(range.answering()));
            assert_eq!(range.own(), (own.parse().unwrap(), 29));
            let dialing: Vec<Ipv4Addr> = range.dialing().collect();
            assert_eq!((dialing.len(), dialing[0]), (6, own.parse().unwrap()));
            assert!(dialing.iter().all(|ip| range.is_own(*ip) && *ip != range.answering()));
        }
    }

    #[test]
    fn an_address_has_the_same_place_in_another_range() {
        let range: ServiceRange = "10.61.0.0/16".parse().unwrap();
        assert_eq!(range.place_of([10, 245, 3, 7].into()), Ipv4Addr::new(10, 61, 3, 7));
    }

    #[test]
    fn what_is_no_range_is_refused() {
        for text in ["", "10.245.0.0", "10.245.0.1/16", "10.245.0.0/29", "10.245.0.0/33", "10.0.0.0/0", "fd00::/16"] {
            assert!(text.parse::<ServiceRange>().is_err(), "{text}");
        }
    }
}
