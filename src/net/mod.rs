//! Services on the wire: what is forwarded, who forwards it, and the names for it.
//!
//! Run by the role `skiff proxy`, fed with Services and EndpointSlices. May call `api` and `base`; never `engine`, `registry`,
//! `controllers` or `node`.
//!
//! ```text
//! Services, EndpointSlices ─▶ plan ─▶ table ─▶ proxy   (listeners, workers)
//!                          └▶ zone ──────────▶ dns     (names)
//!            the machine's routing table ◀──── netlink (the one route that makes the Service range local)
//! ```
pub mod dns;
pub mod netlink;
pub mod plan;
pub mod proxy;
pub mod table;
pub mod zone;
