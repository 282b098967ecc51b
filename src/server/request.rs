//! A request that was read, as those who answer it get it.

use super::{route::Query, websocket::Upgrade};
use bytes::Bytes;
use http::{HeaderMap, Method};

/// A request that was read.
#[derive(Debug)]
pub(super) struct Request {
    /// The method.
    pub method: Method,
    /// The query.
    pub query: Query,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
    /// The connection, where it is to become a WebSocket.
    pub upgrade: Option<Upgrade>,
}
