//! Connections that become something else than HTTP: a WebSocket, or SPDY.
//!
//! `handle` gives every request that asks for it its [`Upgrade`]; who answers with [`switching`] holds the connection with [`hold`].
//!
//! **Invariants**: a connection that became something else has the bounds of the others: its place (`gate`) and its stream's are held
//! until it ends, and it ends when its place is needed.

use super::{
    Ticket,
    gate::Seat,
    respond::{self, Response},
};
use crate::base::chain::chain;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use std::{convert::Infallible, sync::Arc};
use tokio::sync::mpsc;
use tracing::debug;

/// What a connection is to become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// A WebSocket.
    WebSocket,
    /// SPDY/3.1, as clients before 1.31 speak it, and those of other languages.
    Spdy,
}

impl Wish {
    /// What the headers of a request ask for. Source: `IsWebSocketRequest` in wsstream/conn.go, `IsUpgradeRequest` in httpstream.go.
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let has = |name, word: &str| {
            let lines = headers.get_all(name).iter().filter_map(|v| v.to_str().ok());
            lines.flat_map(|line| line.split(',')).any(|part| part.trim().eq_ignore_ascii_case(word))
        };
        if !has(header::CONNECTION, "upgrade") {
            return None;
        }
        let is = |protocol| has(header::UPGRADE, protocol);
        if is("websocket") { Some(Self::WebSocket) } else { is(super::remote::SPDY).then_some(Self::Spdy) }
    }
}

/// A connection that may become something else, and what it holds for as long as it is.
#[derive(Debug)]
pub(super) struct Upgrade {
    /// What.
    pub(super) wish: Wish,
    /// The connection, once its answer has gone out.
    pub(super) on: OnUpgrade,
    /// The connection's place.
    pub(super) ticket: Option<Arc<Ticket>>,
    /// The stream's place.
    pub(super) seat: Option<Seat>,
    /// Tells that the connection is there still.
    pub(super) alive: Option<mpsc::Sender<Infallible>>,
}

/// The answer that says that the connection becomes something else.
pub(super) fn switching(protocol: &'static str) -> Response {
    let mut response = http::Response::new(respond::full(Bytes::new()));
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    response.headers_mut().insert(header::UPGRADE, HeaderValue::from_static(protocol));
    response
}

/// Works on a connection until the work is done, or until its place is needed.
pub(super) async fn hold<F: Future<Output = ()>>(upgrade: Upgrade, work: impl FnOnce(TokioIo<Upgraded>) -> F) {
    let Upgrade { on, ticket, seat, alive, wish } = upgrade;
    match on.await {
        Ok(connection) => {
            let put_out = async {
                match &ticket {
                    Some(ticket) => ticket.put_out().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = put_out => debug!(component = "server", ?wish, "a connection is ended: its place is needed"),
                () = work(TokioIo::new(connection)) => {}
            }
        }
        Err(err) => debug!(component = "server", ?wish, err = chain(&err), "a connection did not change its protocol"),
    }
    drop((ticket, seat, alive));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(lines: &[(&'static str, &'static str)]) -> Option<Wish> {
        Wish::of(&lines.iter().map(|(k, v)| (k.parse().unwrap(), HeaderValue::from_static(v))).collect())
    }

    #[test]
    fn a_request_says_what_its_connection_is_to_become() {
        assert_eq!(wish(&[("connection", "keep-alive, Upgrade"), ("upgrade", "WebSocket")]), Some(Wish::WebSocket));
        assert_eq!(wish(&[("connection", "Upgrade"), ("upgrade", "SPDY/3.1")]), Some(Wish::Spdy));
        assert_eq!(wish(&[("connection", "Upgrade"), ("upgrade", "h2c")]), None);
        assert_eq!(wish(&[("upgrade", "websocket")]), None);
    }
}
