//! A request that was read, as those who answer it get it.

use super::{
    relay::UnreadBody,
    route::Query,
    upgrade::{Upgrade, Wish},
};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Uri, header};
use std::sync::Mutex;

/// A request that was read.
#[derive(Debug)]
pub(super) struct Request {
    /// The method.
    pub method: Method,
    /// What was asked for, as it was sent.
    pub uri: Uri,
    /// The address and port that it came from.
    pub from: String,
    /// The query.
    pub query: Query,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
    /// The body, where the request is passed on as it is. The lock is never waited for: with it, calls may be shared.
    pub unread: Option<Mutex<UnreadBody>>,
    /// The connection, where it is to become something else.
    pub upgrade: Option<Upgrade>,
}

impl Request {
    /// The host that the client asked for. HTTP/2 has it in the URL.
    pub(super) fn host(&self) -> Option<HeaderValue> {
        let in_url = self.uri.authority().and_then(|authority| HeaderValue::from_str(authority.as_str()).ok());
        in_url.or_else(|| self.headers.get(header::HOST).cloned())
    }

    /// Whether the answer is to come over a WebSocket.
    pub(super) fn wants_websocket(&self) -> bool {
        self.upgrade.as_ref().is_some_and(|upgrade| upgrade.wish == Wish::WebSocket)
    }
}
