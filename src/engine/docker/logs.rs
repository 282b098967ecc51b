//! A container's log as lines. The engine keeps a line of more than 16 KiB in pieces: each has a time of its own, and `tail` counts them.
//!
//! Called by `docker` for `Engine::logs`.
//!
//! **Invariants**: a line has one time, that of its first piece; a tail begins where a line does.
//! **Source**: `defaultBufSize` and `Copier.copySrc`, moby `daemon/logger/copier.go`; `WriteLogStream`, moby
//! `api/server/httputils/write_log_stream.go`, 20.10. What the kubelet shows: `logWriter`, `pkg/kubelet/kuberuntime/logs`, v1.37.

use super::translate;
use crate::engine::LogOptions;
use bollard::{Docker, container::LogOutput, errors::Error};
use bytes::Bytes;
use futures::{Stream, StreamExt as _, TryStreamExt as _, future};
use jiff::Timestamp;
use std::{collections::VecDeque, pin::pin};

/// The longest piece.
const PIECE_BYTES: usize = 16 * 1024;
/// Tails of more lines are counted as the engine counts.
const LINES_MAX: u64 = 100_000;
/// Pieces that may be printed between the count and the reading, so that the tail still begins at its line.
const SLACK: u64 = 1000;

/// A piece of a line, and its time with a space.
struct Piece {
    stamp: Bytes,
    text: Bytes,
}

impl Piece {
    fn at(&self) -> Option<Timestamp> {
        std::str::from_utf8(&self.stamp).ok()?.trim_end().parse().ok()
    }

    fn ends_line(&self) -> bool {
        self.text.ends_with(b"\n")
    }
}

/// The pieces of what the engine sends at once, times asked for. Of a container with a terminal it sends no bounds between pieces,
/// and so this reads whole lines.
fn pieces(output: LogOutput) -> Vec<Piece> {
    let has_bounds = !matches!(output, LogOutput::Console { .. });
    let mut rest = output.into_bytes();
    let mut pieces = Vec::new();
    while !rest.is_empty() {
        let stamp = rest.split_to(rest.iter().position(|b| *b == b' ').map_or(0, |at| at + 1));
        let end = if has_bounds { rest.len() } else { rest.len().min(PIECE_BYTES) };
        let text = rest.split_to(end);
        pieces.push(Piece { stamp, text });
    }
    pieces
}

/// Where a tail begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tail {
    /// How many pieces the engine is to send at least.
    pieces: u64,
    /// When its first piece was printed; `None`: it is the first that comes.
    from: Option<Timestamp>,
}

/// The line starts among the last pieces of a log.
struct Count {
    lines: usize,
    n: u64,
    is_at_start: bool,
    starts: VecDeque<(u64, Option<Timestamp>)>,
    has_long_lines: bool,
}

impl Count {
    fn of(lines: u64) -> Self {
        let lines = usize::try_from(lines).unwrap_or(usize::MAX);
        Self { lines, n: 0, is_at_start: false, starts: VecDeque::new(), has_long_lines: false }
    }

    fn see(&mut self, piece: &Piece) {
        if self.is_at_start {
            self.starts.push_back((self.n, piece.at()));
            if self.starts.len() > self.lines {
                self.starts.pop_front();
            }
        }
        self.is_at_start = piece.ends_line();
        self.has_long_lines |= !self.is_at_start;
        self.n += 1;
    }

    /// Where the tail begins; `None`: further back than was looked.
    fn tail(&self) -> Option<Tail> {
        if !self.has_long_lines {
            return Some(Tail { pieces: self.lines as u64, from: None });
        }
        let (start, from) = *self.starts.front().filter(|_| self.starts.len() == self.lines)?;
        Some(Tail { pieces: self.n - start + SLACK, from })
    }
}

/// Finds where the last lines of a log begin.
pub(super) async fn find_tail(docker: &Docker, container: &str, lines: u64) -> Result<Option<Tail>, Error> {
    if lines == 0 || lines > LINES_MAX {
        return Ok(Some(Tail { pieces: lines, from: None }));
    }
    // One more than wanted: where the line before ends, the first of them begins.
    let mut looked = lines + 1;
    loop {
        let options = LogOptions { tail: Some(looked), timestamps: true, ..LogOptions::default() };
        let mut log = pin!(docker.logs(container, Some(translate::log_options(&options))));
        let mut count = Count::of(lines);
        while let Some(output) = log.try_next().await? {
            pieces(output).iter().for_each(|piece| count.see(piece));
        }
        match count.tail() {
            Some(tail) => return Ok(Some(tail)),
            // The log has no more.
            None if count.n < looked => return Ok(None),
            None => looked = looked.saturating_mul(4),
        }
    }
}

/// What to ask the engine for.
pub(super) fn request(options: &LogOptions, tail: Option<Tail>) -> LogOptions {
    let is_cut = tail.is_some_and(|tail| tail.from.is_some());
    LogOptions { tail: tail.map(|tail| tail.pieces), timestamps: options.timestamps || is_cut, ..options.clone() }
}

/// The text of what the engine sends: of each line one time, if at all.
pub(super) fn text<'a>(
    log: impl Stream<Item = Result<LogOutput, Error>> + Send + 'a,
    options: &LogOptions,
    tail: Option<Tail>,
) -> futures::stream::BoxStream<'a, Result<Bytes, Error>> {
    let (timestamps, mut from) = (options.timestamps, tail.and_then(|tail| tail.from));
    if !timestamps && from.is_none() {
        return log.map_ok(LogOutput::into_bytes).boxed();
    }
    let mut is_at_start = true;
    let join = move |output: LogOutput| {
        let mut text = Vec::new();
        for piece in pieces(output) {
            if from.is_some_and(|from| piece.at().is_some_and(|at| at < from)) {
                continue;
            }
            from = None;
            if timestamps && is_at_start {
                text.extend_from_slice(&piece.stamp);
            }
            text.extend_from_slice(&piece.text);
            is_at_start = piece.ends_line();
        }
        Bytes::from(text)
    };
    log.map_ok(join).try_filter(|text| future::ready(!text.is_empty())).boxed()
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::{FutureExt as _, stream};

    fn stamp(second: usize) -> String {
        format!("2026-01-01T00:00:{second:02}.000000000Z ")
    }

    /// What Docker sends of these pieces, one a second.
    fn framed(pieces: &[&str]) -> Vec<LogOutput> {
        let frame = |(n, text): (usize, &&str)| LogOutput::StdOut { message: format!("{}{text}", stamp(n)).into() };
        pieces.iter().enumerate().map(frame).collect()
    }

    fn read(outputs: Vec<LogOutput>, timestamps: bool, tail: Option<Tail>) -> String {
        let options = LogOptions { timestamps, ..LogOptions::default() };
        let all = text(stream::iter(outputs.into_iter().map(Ok)), &options, tail).try_collect::<Vec<Bytes>>();
        String::from_utf8(all.now_or_never().unwrap().unwrap().concat()).unwrap()
    }

    fn tail_of(text: &[&str], lines: u64) -> Option<Tail> {
        let mut count = Count::of(lines);
        framed(text).into_iter().flat_map(pieces).for_each(|piece| count.see(&piece));
        count.tail()
    }

    #[test]
    fn a_line_in_pieces_has_one_time() {
        let got = read(framed(&["one\n", "long ", "longer ", "longest\n", "two\n"]), true, None);
        assert_eq!(got, format!("{}one\n{}long longer longest\n{}two\n", stamp(0), stamp(1), stamp(4)));
    }

    #[test]
    fn a_terminals_line_has_its_times_where_its_pieces_begin() {
        let (a, b) = ("a".repeat(PIECE_BYTES), "b".repeat(PIECE_BYTES));
        let line = format!("{}{a}{}{b}{}c d\n", stamp(0), stamp(1), stamp(2));
        let got = read(vec![LogOutput::Console { message: line.into() }], true, None);
        assert_eq!(got, format!("{}{a}{b}c d\n", stamp(0)));
    }

    #[test]
    fn a_tail_begins_where_a_line_does() {
        let printed = ["one\n", "a", "b", "c\n", "d", "e\n"];
        let from = |second: usize| Some(stamp(second).trim_end().parse().unwrap());
        assert_eq!(tail_of(&printed, 1), Some(Tail { pieces: 2 + SLACK, from: from(4) }));
        assert_eq!(tail_of(&printed, 2), Some(Tail { pieces: 5 + SLACK, from: from(1) }));
        assert_eq!(tail_of(&printed, 3), None, "nobody knows what was before");
        assert_eq!(
            tail_of(&["x\n", "y\n", "z\n"], 2),
            Some(Tail { pieces: 2, from: None }),
            "the engine counts as well"
        );
        assert_eq!(read(framed(&printed), false, tail_of(&printed, 1)), "de\n");
        assert_eq!(read(framed(&printed), true, tail_of(&printed, 2)), format!("{}abc\n{}de\n", stamp(1), stamp(4)));
    }
}
