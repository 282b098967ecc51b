//! Services on the wire: what is forwarded, who forwards it, and the names for it.
//!
//! Run by the role `skiff proxy`, fed with Services and EndpointSlices. May call `api` and `base`; never `engine`, `registry`,
//! `controllers` or `node`.
//!
//! ```text
//! Services, EndpointSlices ─▶ plan ─▶ table ─▶ proxy   (listeners, workers)
//!                          └▶ zone ──────────▶ dns     (names)
//!        sockets that outlive a restart ◀───── sockets (kept by the pod's sandbox)
//!                   routing tables ◀───────── netlink (ClusterIPs in the sandbox's network, sources on the machine)
//! ```
//!
//! `reach` decides who may reach what, `seats` how many of them at the same time.
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    reason = "times are milliseconds of one run, and ports and slots are checked where they are made"
)]
#![allow(clippy::similar_names, reason = "http and https are what they are")]
#![allow(clippy::struct_excessive_bools, reason = "a connection's sides are independent claims")]
#![allow(clippy::single_match_else, clippy::manual_let_else, reason = "both ways of a decision are shown side by side")]

pub mod balancer;
pub mod dns;
pub mod netlink;
pub mod plan;
pub mod ports;
pub mod proxy;
pub mod reach;
mod rotation;
pub mod router;
mod seats;
pub mod sockets;
pub mod table;
pub mod totals;
pub mod zone;
