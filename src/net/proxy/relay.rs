//! One direction of a connection: takes bytes from one socket and gives them to the other, by copy or by splice.
//!
//! Called by `conn`. Sockets are non-blocking and watched edge-triggered, so the flags here remember what the edges said.
//!
//! A direction starts by copying through the worker's one scratch buffer: it stays in the cache, and a connection at rest owns
//! no buffer at all. What the sink does not take at once is kept in `stash`. Once a source keeps filling the scratch buffer the
//! direction goes over to splice through a pooled pipe, and comes back when the pieces get small.
//!
//! **Invariants**: nothing is read from the source while the stash or the pipe holds bytes, so memory per direction is bounded
//! by the scratch buffer plus one pipe. Bytes keep their order.

use rustix::{
    fd::{AsFd, BorrowedFd, OwnedFd},
    io::Errno,
    net::{RecvFlags, SendFlags, Shutdown, recv, send, shutdown, sockopt::set_tcp_nodelay},
    pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice},
};

/// Bytes per copy. Large enough that one call drains what a socket usually holds, small enough to stay in the second-level cache.
pub(super) const SCRATCH_BYTES: usize = 64 * 1024;

/// What a pipe should hold. More means fewer calls; the kernel charges only pages in use.
const PIPE_BYTES: usize = 512 * 1024;

/// Idle pipes that a worker keeps.
const PIPES_KEPT_MAX: usize = 16;

/// Full scratch buffers in a row after which splice takes over.
const FULL_READS_BEFORE_SPLICE: u8 = 3;

/// A splice that moves less than this is no better than a copy.
const SPLICE_WORTHWHILE_BYTES: usize = 16 * 1024;

/// Small splices in a row after which copying takes over again.
const SMALL_SPLICES_BEFORE_COPY: u8 = 8;

/// A first write up to this goes out as one segment whatever Nagle's algorithm says.
const ONE_SEGMENT_BYTES: usize = 1024;

/// Bytes that one direction may move before others get their turn.
const TURN_BYTES: usize = 1024 * 1024;

/// A pipe that splice goes through.
#[derive(Debug)]
pub(super) struct Pipe {
    out: OwnedFd,
    into: OwnedFd,
    held: usize,
}

/// What a worker lends to the direction that it moves.
pub(super) struct Tools {
    scratch: Box<[u8]>,
    pipes: Vec<Pipe>,
}

impl Tools {
    pub(super) fn new() -> Self {
        Self { scratch: vec![0; SCRATCH_BYTES].into_boxed_slice(), pipes: Vec::new() }
    }

    pub(super) fn scratch(&mut self) -> &mut [u8] {
        &mut self.scratch
    }

    fn pipe(&mut self) -> Result<Pipe, Errno> {
        if let Some(pipe) = self.pipes.pop() {
            return Ok(pipe);
        }
        let (out, into) = pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC)?;
        // A user may own so many pipe pages; past that the pipe keeps its default size, which works as well.
        fcntl_setpipe_size(&into, PIPE_BYTES).ok();
        Ok(Pipe { out, into, held: 0 })
    }

    fn put_back(&mut self, pipe: Pipe) {
        if self.pipes.len() < PIPES_KEPT_MAX {
            self.pipes.push(pipe);
        }
    }
}

/// Which end of a direction failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// Reading failed: the source is gone.
    Source,
    /// Writing failed: the sink is gone.
    Sink,
}

/// Why a direction stopped for now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pause {
    /// It waits for an edge.
    Edge,
    /// It used up its turn and has more to do.
    Turn,
}

/// One direction.
#[derive(Debug, Default)]
pub(super) struct Flow {
    /// The source may have bytes.
    pub(super) readable: bool,
    /// The source has said that it will send no more; the bytes before that may still wait to be read.
    pub(super) source_ended: bool,
    /// The sink took no more; cleared by its next edge.
    pub(super) blocked: bool,
    /// Everything that the source will ever send was read.
    drained: bool,
    /// The end was passed on to the sink.
    ended: bool,
    /// Something was written: the next write must not wait for the acknowledgement of the last.
    wrote: bool,
    no_delay: bool,
    splicing: bool,
    streak: u8,
    stash: Vec<u8>,
    stash_from: usize,
    pipe: Option<Pipe>,
}

impl Flow {
    /// From the client, which often speaks before it is accepted: the first read is worth trying.
    pub(super) fn from_client() -> Self {
        Self { readable: true, ..Self::default() }
    }

    /// To the client, whose socket sends without delay already.
    pub(super) fn to_client() -> Self {
        Self { no_delay: true, ..Self::default() }
    }

    /// Whether everything was moved and the source has ended.
    pub(super) fn is_done(&self) -> bool {
        self.drained && !self.is_holding()
    }

    /// Whether bytes were read that the sink has not taken.
    pub(super) fn is_holding(&self) -> bool {
        !self.stash.is_empty() || self.pipe.is_some()
    }

    /// Starts over at another sink: what was read and not written goes there.
    pub(super) fn redirect(&mut self) {
        assert!(self.pipe.is_none() && !self.ended, "a direction changes its sink before it moved anything");
        (self.blocked, self.wrote, self.no_delay) = (false, false, false);
    }

    /// Passes the end on, once.
    pub(super) fn end(&mut self, sink: BorrowedFd<'_>) {
        if !std::mem::replace(&mut self.ended, true) {
            // A sink that is gone already needs no end.
            shutdown(sink, Shutdown::Write).ok();
        }
    }

    /// Moves what can be moved, adding to `moved`.
    pub(super) fn pump(
        &mut self,
        source: BorrowedFd<'_>,
        sink: BorrowedFd<'_>,
        tools: &mut Tools,
        moved: &mut usize,
    ) -> Result<Pause, Fault> {
        loop {
            if self.blocked || !self.flush(sink, tools, moved)? || self.drained || !self.readable {
                return Ok(Pause::Edge);
            }
            if *moved >= TURN_BYTES {
                return Ok(Pause::Turn);
            }
            if self.splicing { self.fill_pipe(source, tools)? } else { self.copy(source, sink, tools, moved)? }
        }
    }

    /// Gives the sink what is held; false when it does not take everything.
    fn flush(&mut self, sink: BorrowedFd<'_>, tools: &mut Tools, moved: &mut usize) -> Result<bool, Fault> {
        while self.stash_from < self.stash.len() {
            let Some(n) = self.write(sink, None, SendFlags::NOSIGNAL)? else { return Ok(false) };
            self.stash_from += n;
            *moved += n;
        }
        if !self.stash.is_empty() {
            (self.stash, self.stash_from) = (Vec::new(), 0);
        }
        while let Some(pipe) = &mut self.pipe {
            match splice(&pipe.out, None, sink, None, pipe.held, SpliceFlags::NONBLOCK | SpliceFlags::MOVE) {
                Ok(n) => {
                    pipe.held -= n;
                    *moved += n;
                    if pipe.held == 0 {
                        self.pipe.take().into_iter().for_each(|pipe| tools.put_back(pipe));
                    }
                }
                Err(Errno::AGAIN) => {
                    self.blocked = true;
                    return Ok(false);
                }
                Err(Errno::INTR) => {}
                Err(_) => return Err(Fault::Sink),
            }
        }
        Ok(true)
    }

    /// Writes `bytes`, or else the stash; nothing when the sink takes nothing now.
    fn write(&mut self, sink: BorrowedFd<'_>, bytes: Option<&[u8]>, flags: SendFlags) -> Result<Option<usize>, Fault> {
        let bytes = bytes.unwrap_or(&self.stash[self.stash_from..]);
        if !self.no_delay && (self.wrote || bytes.len() > ONE_SEGMENT_BYTES) {
            // Connections that exchange one short message each way never need it.
            self.no_delay = set_tcp_nodelay(sink, true).is_ok();
        }
        loop {
            match send(sink, bytes, flags) {
                Ok(n) => {
                    self.wrote = true;
                    return Ok(Some(n));
                }
                Err(Errno::AGAIN) => {
                    self.blocked = true;
                    return Ok(None);
                }
                Err(Errno::INTR) => {}
                Err(_) => return Err(Fault::Sink),
            }
        }
    }

    fn copy(
        &mut self,
        source: BorrowedFd<'_>,
        sink: BorrowedFd<'_>,
        tools: &mut Tools,
        moved: &mut usize,
    ) -> Result<(), Fault> {
        let heard = self.hear(source, tools)?;
        self.say(heard, sink, tools, moved)
    }

    /// Takes what the source has, for [`Flow::say`] at once: it is in the scratch buffer, and the next call overwrites it.
    pub(super) fn hear(&mut self, source: BorrowedFd<'_>, tools: &mut Tools) -> Result<usize, Fault> {
        match recv(source, &mut *tools.scratch, RecvFlags::empty()) {
            Ok((n, _)) => {
                self.note_read(n);
                Ok(n)
            }
            Err(Errno::AGAIN) => {
                self.readable = false;
                Ok(0)
            }
            Err(Errno::INTR) => Ok(0),
            Err(_) => Err(Fault::Source),
        }
    }

    /// Gives the sink what was heard; keeps what it does not take.
    pub(super) fn say(
        &mut self,
        heard: usize,
        sink: BorrowedFd<'_>,
        tools: &Tools,
        moved: &mut usize,
    ) -> Result<(), Fault> {
        // The end follows at once and takes the last bytes along: one packet instead of two, one wake-up instead of two.
        let flags = if self.drained { SendFlags::NOSIGNAL | SendFlags::MORE } else { SendFlags::NOSIGNAL };
        let mut from = 0;
        while from < heard {
            match self.write(sink, Some(&tools.scratch[from..heard]), flags) {
                Ok(Some(sent)) => from += sent,
                refused => {
                    self.stash.extend_from_slice(&tools.scratch[from..heard]);
                    *moved += from;
                    return refused.map(drop);
                }
            }
        }
        *moved += heard;
        Ok(())
    }

    /// Learns from the size of a read: a short one has emptied the source, and if the end was announced, reached it.
    fn note_read(&mut self, n: usize) {
        if n == SCRATCH_BYTES {
            self.streak += 1;
            if self.streak >= FULL_READS_BEFORE_SPLICE {
                (self.splicing, self.streak) = (true, 0);
            }
            return;
        }
        self.streak = 0;
        self.readable = false;
        self.drained = n == 0 || self.source_ended;
    }

    fn fill_pipe(&mut self, source: BorrowedFd<'_>, tools: &mut Tools) -> Result<(), Fault> {
        let Ok(mut pipe) = tools.pipe() else {
            // No descriptor left for a pipe: copying needs none.
            self.splicing = false;
            return Ok(());
        };
        let outcome = splice(source, None, &pipe.into, None, PIPE_BYTES, SpliceFlags::NONBLOCK | SpliceFlags::MOVE);
        if let Ok(n @ 1..) = outcome {
            pipe.held = n;
            self.pipe = Some(pipe);
            self.note_splice(n);
            return Ok(());
        }
        tools.put_back(pipe);
        match outcome {
            Ok(_) => (self.readable, self.drained) = (false, true),
            Err(Errno::AGAIN) => self.readable = false,
            Err(Errno::INTR) => {}
            Err(_) => return Err(Fault::Source),
        }
        Ok(())
    }

    fn note_splice(&mut self, n: usize) {
        self.streak = if n < SPLICE_WORTHWHILE_BYTES { self.streak + 1 } else { 0 };
        if self.streak >= SMALL_SPLICES_BEFORE_COPY {
            (self.splicing, self.streak) = (false, 0);
        }
    }
}

/// Both ends of a direction, borrowed.
pub(super) fn ends<'a>(source: &'a OwnedFd, sink: &'a OwnedFd) -> (BorrowedFd<'a>, BorrowedFd<'a>) {
    (source.as_fd(), sink.as_fd())
}
