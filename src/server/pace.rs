//! Answers go out at the pace at which their peer takes them: whoever does not read makes nobody keep much for it.
//!
//! `serve` makes a [`Room`] per connection, which `stall` keeps, and a [`Progress`] per HTTP/2 stream; `handle` wraps what is large or
//! goes on for long in [`paced`].
//!
//! ```text
//!  body ──a piece──▶ hyper ──▶ TLS ──▶ Impatient ──▶ socket
//!   ▲ waits while the socket takes nothing ───┘ Room
//!   ▲ its stream ends when no piece is asked for for too long: Progress
//! ```
//!
//! **Invariants**: what waits in a connection is a piece or two, and not the answer. A peer that takes something from time to time is
//! left alone.

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use std::{
    io,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};
use tokio::time::{Sleep, sleep};

/// What is handed over at a time. One more wait in TLS.
pub(super) const PIECE_BYTES: usize = 16 * 1024;

tokio::task_local! {
    /// That of the HTTP/2 stream whose task this is.
    static PROGRESS: Progress;
}

/// Whether a connection's socket takes what is written.
#[derive(Clone, Debug, Default)]
pub(super) struct Room(Arc<RoomState>);

#[derive(Debug, Default)]
struct RoomState {
    is_full: AtomicBool,
    waiting: Mutex<Vec<Waker>>,
}

impl Room {
    /// Nothing is taken now.
    pub(super) fn fill(&self) {
        self.0.is_full.store(true, Ordering::SeqCst);
    }

    /// Something was taken.
    pub(super) fn clear(&self) {
        self.0.is_full.store(false, Ordering::SeqCst);
        let waiting = std::mem::take(&mut *self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner));
        waiting.into_iter().for_each(Waker::wake);
    }

    fn poll_free(&self, cx: &Context<'_>) -> Poll<()> {
        if !self.is_full() {
            return Poll::Ready(());
        }
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner).push(cx.waker().clone());
        // Cleared just before the waker was there.
        if self.is_full() { Poll::Pending } else { Poll::Ready(()) }
    }

    fn is_full(&self) -> bool {
        self.0.is_full.load(Ordering::SeqCst)
    }
}

/// What an HTTP/2 stream has been given, and whether it has asked for more since.
#[derive(Clone, Debug, Default)]
pub(super) struct Progress(Arc<ProgressState>);

#[derive(Debug, Default)]
struct ProgressState {
    pieces: AtomicU64,
    is_wanted: AtomicBool,
}

impl Progress {
    fn asked(&self) {
        self.0.is_wanted.store(true, Ordering::Relaxed);
    }

    fn given(&self) {
        self.0.pieces.fetch_add(1, Ordering::Relaxed);
        self.0.is_wanted.store(false, Ordering::Relaxed);
    }

    /// How many pieces were given, while the last of them has not gone out.
    fn unasked(&self) -> Option<u64> {
        let pieces = self.0.pieces.load(Ordering::Relaxed);
        (pieces > 0 && !self.0.is_wanted.load(Ordering::Relaxed)).then_some(pieces)
    }
}

/// Runs the task of an HTTP/2 stream. It ends, and the stream with it, when its peer makes no room for the next piece for `patience`.
pub(super) async fn bounded(work: impl Future<Output = ()>, patience: Duration) {
    let progress = Progress::default();
    let mut work = std::pin::pin!(PROGRESS.scope(progress.clone(), work));
    let mut waiting: Option<(u64, Pin<Box<Sleep>>)> = None;
    std::future::poll_fn(move |cx| {
        if work.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        let Some(pieces) = progress.unasked() else {
            waiting = None;
            return Poll::Pending;
        };
        let waiting = match &mut waiting {
            Some((since, waiting)) if *since == pieces => waiting,
            other => &mut other.insert((pieces, Box::pin(sleep(patience)))).1,
        };
        waiting.as_mut().poll(cx)
    })
    .await;
}

/// A body in pieces, each when the one before has gone out.
struct Paced<B> {
    inner: B,
    /// What is left of a frame that was larger than a piece.
    rest: Bytes,
    room: Option<Room>,
    progress: Option<Progress>,
}

/// The same body at the pace of its peer. It is made within the stream's task.
pub(super) fn paced<B>(inner: B, room: Option<Room>) -> impl Body<Data = Bytes, Error = io::Error> + Send
where
    B: Body<Data = Bytes, Error = io::Error> + Send + Unpin,
{
    // Not in HTTP/1: a connection has one answer at a time, and its end is the end of both.
    let progress = PROGRESS.try_with(Progress::clone).ok();
    Paced { inner, rest: Bytes::new(), room, progress }
}

impl<B> Body for Paced<B>
where
    B: Body<Data = Bytes, Error = io::Error> + Unpin,
{
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let this = &mut *self;
        if let Some(progress) = &this.progress {
            progress.asked();
        }
        if let Some(room) = &this.room {
            std::task::ready!(room.poll_free(cx));
        }
        if this.rest.is_empty() {
            match std::task::ready!(Pin::new(&mut this.inner).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => this.rest = data,
                    Err(frame) => return Poll::Ready(Some(Ok(frame))),
                },
                other => return Poll::Ready(other),
            }
        }
        let piece = this.rest.split_to(PIECE_BYTES.min(this.rest.len()));
        if let Some(progress) = &this.progress {
            progress.given();
        }
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (rest, inner) = (u64::try_from(self.rest.len()).unwrap_or(u64::MAX), self.inner.size_hint());
        let mut hint = SizeHint::new();
        hint.set_lower(inner.lower().saturating_add(rest));
        if let Some(upper) = inner.upper() {
            hint.set_upper(upper.saturating_add(rest));
        }
        hint
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::respond::full;
    use futures::FutureExt as _;
    use http_body_util::BodyExt as _;

    #[tokio::test]
    async fn a_body_goes_out_in_pieces_while_there_is_room() {
        let room = Room::default();
        let text = "x".repeat(2 * PIECE_BYTES + 7);
        let mut body = Box::pin(paced(full(text.clone()), Some(room.clone())));
        assert_eq!(body.size_hint().exact(), Some(text.len() as u64));
        let first = body.frame().await.unwrap().unwrap().into_data().unwrap();
        assert_eq!((first.len(), body.size_hint().exact()), (PIECE_BYTES, Some((PIECE_BYTES + 7) as u64)));
        room.fill();
        let mut next = Box::pin(body.frame());
        assert!(next.as_mut().now_or_never().is_none(), "nothing is taken");
        drop(crate::base::task::spawn("peer", async move { room.clear() }));
        let second = next.await.unwrap().unwrap().into_data().unwrap();
        let third = body.frame().await.unwrap().unwrap().into_data().unwrap();
        assert_eq!((second.len(), third.len(), body.is_end_stream()), (PIECE_BYTES, 7, true));
    }

    /// A stream that gives so many pieces, and whose peer takes the first `taken`, one every 20 s.
    async fn stream(taken: usize) -> bool {
        let mut done = false;
        let work = async {
            let mut body = Box::pin(paced(full("x".repeat(4 * PIECE_BYTES)), None));
            for _ in 0..taken {
                drop(body.frame().await);
                sleep(Duration::from_secs(20)).await;
            }
            if body.frame().await.is_some() {
                std::future::pending::<()>().await;
            }
            done = true;
        };
        bounded(work, Duration::from_secs(30)).await;
        done
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_whose_peer_makes_no_room_ends_and_a_slow_one_does_not() {
        let begun = tokio::time::Instant::now();
        assert!(!stream(2).await);
        assert_eq!(begun.elapsed().as_secs(), 20 + 20 + 30);
        assert!(stream(4).await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_that_has_nothing_to_say_waits_for_as_long_as_it_likes() {
        let work = async {
            let quiet = futures::stream::once(async {
                sleep(Duration::from_secs(3600)).await;
                Ok(Bytes::from_static(b"late"))
            });
            let mut body = Box::pin(paced(crate::server::respond::streamed(quiet), None));
            assert!(body.frame().await.is_some());
        };
        let begun = tokio::time::Instant::now();
        bounded(work, Duration::from_secs(30)).await;
        assert_eq!(begun.elapsed().as_secs(), 3600);
    }
}
