//! Bodies on their way through the router, frame by frame: nothing is buffered, trailers included.
//!
//! Made by `forward`. They count bytes, tell that an upload goes on, bound the silence of an endpoint, and give its connection back when
//! the answer has ended.

use super::pool::{Http1, Pool, PoolKey};
use crate::net::rotation::{Claim, Endpoint};
use bytes::{Buf as _, Bytes};
use http_body_util::Full;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use std::{
    convert::Infallible,
    future::Future as _,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::time::{Instant, Sleep, sleep_until};

/// Why a body ended before its end.
pub(super) type BodyError = Box<dyn std::error::Error + Send + Sync>;

/// When something was moved last, in milliseconds after a beginning.
#[derive(Debug)]
pub(super) struct Progress {
    began: Instant,
    last: AtomicU64,
}

impl Progress {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { began: Instant::now(), last: AtomicU64::new(0) })
    }

    /// Something was moved now.
    pub(super) fn note(&self) {
        self.last.store(u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX), Relaxed);
    }

    /// When something was moved last.
    pub(super) fn last(&self) -> Instant {
        self.began + Duration::from_millis(self.last.load(Relaxed))
    }
}

/// A body that goes to an endpoint.
#[derive(Debug)]
pub(super) enum Outgoing {
    /// None.
    Empty,
    /// The client's.
    Client {
        /// As it comes.
        body: Incoming,
        /// Who is told that it goes on.
        progress: Arc<Progress>,
        /// Where it goes; nothing until that is known.
        endpoint: Option<Arc<Endpoint>>,
    },
}

impl Outgoing {
    /// A request's body.
    pub(super) fn of(body: Incoming) -> Self {
        if body.is_end_stream() {
            return Self::Empty;
        }
        Self::Client { body, progress: Progress::new(), endpoint: None }
    }

    /// Who is told that it goes on, if there is a body.
    pub(super) fn progress(&self) -> Option<Arc<Progress>> {
        if let Self::Client { progress, .. } = self { Some(Arc::clone(progress)) } else { None }
    }

    /// Counts its bytes for an endpoint from now on.
    pub(super) fn goes_to(&mut self, to: &Arc<Endpoint>) {
        if let Self::Client { endpoint, .. } = self {
            *endpoint = Some(Arc::clone(to));
        }
    }
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Self::Client { body, progress, endpoint } = self.get_mut() else { return Poll::Ready(None) };
        let frame = ready!(Pin::new(body).poll_frame(cx));
        if let Some(Ok(frame)) = &frame {
            progress.note();
            let bytes = frame.data_ref().map_or(0, Bytes::remaining);
            if let Some(endpoint) = endpoint {
                endpoint.counters.bytes_to_endpoint.fetch_add(bytes as u64, Relaxed);
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        if let Self::Client { body, .. } = self { body.is_end_stream() } else { true }
    }

    fn size_hint(&self) -> SizeHint {
        if let Self::Client { body, .. } = self { body.size_hint() } else { SizeHint::with_exact(0) }
    }
}

/// A body that goes to the client.
#[derive(Debug)]
pub(super) enum Answer {
    /// Words of the router's own, or nothing.
    Own(Full<Bytes>),
    /// The endpoint's.
    Endpoint(Box<Relayed>),
}

impl Answer {
    pub(super) fn empty() -> Self {
        Self::Own(Full::default())
    }
}

/// An endpoint's body.
#[derive(Debug)]
pub(super) struct Relayed {
    body: Incoming,
    /// How long it may be silent.
    patience: Duration,
    /// When it was silent for too long; nothing while it speaks.
    silence: Option<Pin<Box<Sleep>>>,
    /// The endpoint counts as busy until the body has ended.
    claim: Claim,
    /// The connection, and where it is kept for the next request.
    kept: Option<(Http1, Arc<Pool>, PoolKey)>,
}

impl Relayed {
    pub(super) fn new(
        body: Incoming,
        patience: Duration,
        claim: Claim,
        kept: Option<(Http1, Arc<Pool>, PoolKey)>,
    ) -> Self {
        let mut relayed = Self { body, patience, silence: None, claim, kept };
        if relayed.body.is_end_stream() {
            relayed.end();
        }
        relayed
    }

    /// Gives the connection back.
    fn end(&mut self) {
        if let Some((sender, pool, key)) = self.kept.take() {
            pool.give(key, self.claim.endpoint(), sender);
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) else {
            let ends = Instant::now() + self.patience;
            let silence = self.silence.get_or_insert_with(|| Box::pin(sleep_until(ends)));
            ready!(silence.as_mut().poll(cx));
            self.kept = None;
            let late = format!("the endpoint was silent for {} s in the middle of its answer", self.patience.as_secs());
            return Poll::Ready(Some(Err(late.into())));
        };
        self.silence = None;
        match &frame {
            None => self.end(),
            Some(Err(_)) => self.kept = None,
            Some(Ok(frame)) => {
                let bytes = frame.data_ref().map_or(0, Bytes::remaining);
                self.claim.counters.bytes_to_client.fetch_add(bytes as u64, Relaxed);
                if self.body.is_end_stream() {
                    self.end();
                }
            }
        }
        Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Self::Own(body) => Pin::new(body).poll_frame(cx).map_err(|never: Infallible| match never {}),
            Self::Endpoint(relayed) => relayed.poll(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Own(body) => body.is_end_stream(),
            Self::Endpoint(relayed) => relayed.body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Own(body) => body.size_hint(),
            Self::Endpoint(relayed) => relayed.body.size_hint(),
        }
    }
}
