//! A request that was read, as those who answer it get it.

use super::{
    route::Query,
    upgrade::{Upgrade, Wish},
};
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
    /// The connection, where it is to become something else.
    pub upgrade: Option<Upgrade>,
}

impl Request {
    /// Whether the answer is to come over a WebSocket.
    pub(super) fn wants_websocket(&self) -> bool {
        self.upgrade.as_ref().is_some_and(|upgrade| upgrade.wish == Wish::WebSocket)
    }
}
