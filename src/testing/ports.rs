//! Ports for tests that must know one before somebody listens there; the integration tests take theirs here as well.
//!
//! A port that was bound as "any" and given back is the kernel's to give again, to whichever test asks next. These come from below
//! its ephemeral range (`net.ipv4.ip_local_port_range` starts at 32768) and below the node ports, and each is given once in a
//! process: nobody else gets it by chance, not even between two listeners of the same test.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket},
    sync::atomic::{AtomicU16, Ordering},
};

/// The first port, and how many there are.
const RANGE: (u16, u16) = (21_000, 8_000);
/// How many were tried in this process.
static TRIED: AtomicU16 = AtomicU16::new(0);

/// A port at which nobody on this machine listens, by TCP or UDP.
pub fn free_port() -> u16 {
    // Processes that run at the same time begin at different places.
    let start = std::process::id().wrapping_mul(61) % u32::from(RANGE.1);
    let next = || {
        let tried = u32::from(TRIED.fetch_add(1, Ordering::Relaxed));
        RANGE.0 + u16::try_from((start + tried) % u32::from(RANGE.1)).expect("it is less than the range")
    };
    std::iter::repeat_with(next)
        .take(usize::from(RANGE.1))
        .find(|port| is_free(*port))
        .expect("a port in 8,000 is free")
}

/// The same as an address of the loopback interface.
#[allow(dead_code, reason = "the integration tests need ports only")]
pub fn free_address() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, free_port()).into()
}

fn is_free(port: u16) -> bool {
    let anywhere = (Ipv4Addr::UNSPECIFIED, port);
    TcpListener::bind(anywhere).is_ok() && UdpSocket::bind(anywhere).is_ok()
}
