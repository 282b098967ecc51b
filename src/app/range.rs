//! A range of addresses: what the address plan and what the machine uses are told in. Pure.

use anyhow::{Context as _, bail};
use std::{fmt, net::Ipv4Addr, str::FromStr};

/// Addresses that are no cluster's, with what they are for. Source: IANA's registry of special-purpose addresses (RFC 6890).
const SPECIAL: [(&str, &str); 5] = [
    ("0.0.0.0/8", "unspecified"),
    ("127.0.0.0/8", "loopback"),
    ("169.254.0.0/16", "link-local"),
    ("224.0.0.0/4", "multicast"),
    ("240.0.0.0/4", "reserved"),
];

/// A range of IPv4 addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cidr {
    first: u32,
    prefix: u8,
}

impl Cidr {
    /// The range of this prefix length that holds `address`.
    pub fn new(address: Ipv4Addr, prefix: u8) -> Self {
        Self { first: u32::from(address) & mask(prefix), prefix }
    }

    /// Whether two ranges share an address.
    pub fn overlaps(self, other: Self) -> bool {
        let shorter = mask(self.prefix.min(other.prefix));
        self.first & shorter == other.first & shorter
    }

    /// The address at an offset from the first.
    pub fn at(self, offset: u32) -> Ipv4Addr {
        Ipv4Addr::from(self.first + offset)
    }

    /// The lower and the upper half.
    pub fn halves(self) -> (Self, Self) {
        let prefix = self.prefix + 1;
        (Self { prefix, ..self }, Self { first: self.first + (1 << (32 - u32::from(prefix))), prefix })
    }

    /// What it has of the addresses that are no host's.
    pub(super) fn special(self) -> Option<(&'static str, &'static str)> {
        SPECIAL.into_iter().find(|(range, _)| range.parse::<Self>().is_ok_and(|r| r.overlaps(self)))
    }

    /// Whether some of its addresses are no host's.
    pub(super) fn is_special(self) -> bool {
        self.special().is_some()
    }

    /// The first address and the prefix length.
    pub fn parts(self) -> (Ipv4Addr, u8) {
        (Ipv4Addr::from(self.first), self.prefix)
    }
}

fn mask(prefix: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0)
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", Ipv4Addr::from(self.first), self.prefix)
    }
}

impl FromStr for Cidr {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let wrong = || format!("{text:?} is not a range like 10.244.0.0/15");
        let (address, prefix) = text.split_once('/').with_context(wrong)?;
        let (address, prefix): (Ipv4Addr, u8) =
            (address.parse().with_context(wrong)?, prefix.parse().with_context(wrong)?);
        if prefix > 32 || u32::from(address) & !mask(prefix) != 0 {
            bail!(wrong());
        }
        Ok(Self::new(address, prefix))
    }
}
