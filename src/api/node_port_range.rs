//! The node ports that a cluster gives out.

use std::{fmt, str::FromStr};

/// Sizes of the part of a range that is left to users. Source: `calculateRangeOffset`, portallocator, v1.37.
const OFFSET_MIN: i32 = 16;
const OFFSET_MAX: i32 = 128;
const OFFSET_SHARE: i32 = 32;

/// A range of node ports, both ends included; by default that of Kubernetes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodePortRange {
    first: u16,
    last: u16,
}

impl Default for NodePortRange {
    fn default() -> Self {
        Self { first: 30000, last: 32767 }
    }
}

impl NodePortRange {
    /// Whether the port may be given out.
    pub fn contains(self, port: i32) -> bool {
        (i32::from(self.first)..=i32::from(self.last)).contains(&port)
    }

    /// The first and the last port.
    pub fn ends(self) -> (i32, i32) {
        (self.first.into(), self.last.into())
    }

    /// How many of the first ports are given out only when all others are taken, so that those whom users name stay free.
    pub fn offset(self) -> i32 {
        let (first, last) = self.ends();
        let size = last - first + 1;
        if size <= OFFSET_MIN { 0 } else { (size / OFFSET_SHARE).clamp(OFFSET_MIN, OFFSET_MAX) }
    }
}

impl fmt::Display for NodePortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

/// Reads `FIRST-LAST`, or `FIRST+N` for N more ports. Source: `PortRange.Set`, apimachinery, v1.37.
impl FromStr for NodePortRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let why = || format!("{text:?} is no range of ports: give FIRST-LAST, such as {}", Self::default());
        let port = |text: &str| text.trim().parse::<u16>().map_err(|_| why());
        let (first, last) = match text.split_once(['-', '+']) {
            Some((first, more)) if text.contains('+') => {
                let first = port(first)?;
                (first, first.checked_add(port(more)?).ok_or_else(why)?)
            }
            Some((first, last)) => (port(first)?, port(last)?),
            None => (port(text)?, port(text)?),
        };
        if first == 0 || last < first { Err(why()) } else { Ok(Self { first, last }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_the_api_server_reads_them() {
        let read = |text: &str| text.parse::<NodePortRange>().map(|range| range.to_string());
        assert_eq!(read("30000-32767"), Ok("30000-32767".into()));
        assert_eq!(read("31000+99"), Ok("31000-31099".into()));
        assert_eq!(read("31000"), Ok("31000-31000".into()));
        for wrong in ["", "0-10", "20-10", "a-b", "1-70000", "65535+1", "-", "1-2-3"] {
            let told = read(wrong).unwrap_err();
            assert_eq!(told, format!("{wrong:?} is no range of ports: give FIRST-LAST, such as 30000-32767"));
        }
    }

    #[test]
    fn the_first_ports_are_left_to_users() {
        let offset = |text: &str| text.parse::<NodePortRange>().unwrap().offset();
        assert_eq!(
            [offset("30000-32767"), offset("1-65535"), offset("30000-30099"), offset("30000-30015")],
            [86, 128, 16, 0]
        );
    }
}
