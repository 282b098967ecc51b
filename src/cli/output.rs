//! What the commands print: short lines for people on standard output, errors with their causes on standard error.
#![allow(clippy::print_stderr, reason = "this is the one place that prints for people")]

use super::exit;
use std::{
    io::{IsTerminal as _, Write as _},
    sync::atomic::{AtomicBool, Ordering},
};

/// Whether nobody reads standard output any more.
static CLOSED: AtomicBool = AtomicBool::new(false);

/// Prints text as it is, without a line end of its own. Whoever reads it may go away at any time (`skiff logs | head`): that is no fault.
pub(super) fn raw(text: &str) {
    let mut out = std::io::stdout().lock();
    if out.write_all(text.as_bytes()).and_then(|()| out.flush()).is_err() {
        CLOSED.store(true, Ordering::Relaxed);
    }
}

/// Whether nobody reads what is printed any more: what would go on without end may end.
pub(super) fn is_closed() -> bool {
    CLOSED.load(Ordering::Relaxed)
}

/// Prints a line.
pub(super) fn line(text: impl AsRef<str>) {
    raw(&format!("{}\n", text.as_ref()));
}

/// Prints that something is done.
pub(super) fn done(text: impl AsRef<str>) {
    line(format!(" {} {}", mark("✓", "ok", "32"), text.as_ref()));
}

/// Prints a sentence beside what goes to standard output.
pub(super) fn note(text: impl AsRef<str>) {
    eprintln!("warning: {}", text.as_ref());
}

/// Prints what is not part of the output, to standard error.
pub(super) fn aside(text: impl AsRef<str>) {
    eprintln!("{}", text.as_ref());
}

/// Lines with their cells one below the other.
pub(super) fn columns<const N: usize>(rows: &[[&str; N]]) -> Vec<String> {
    rows_of(rows)
}

/// The same of as many columns as the first row has.
pub(super) fn rows(rows: &[Vec<String>]) -> Vec<String> {
    rows_of(rows)
}

fn rows_of<R: AsRef<[T]>, T: AsRef<str>>(rows: &[R]) -> Vec<String> {
    let cell =
        |row: &R, column: usize| row.as_ref().get(column).map(|cell| cell.as_ref().to_owned()).unwrap_or_default();
    let n = rows.first().map_or(0, |row| row.as_ref().len());
    let width = |column| rows.iter().map(|row| cell(row, column).chars().count()).max().unwrap_or_default();
    let widths: Vec<usize> = (0..n).map(width).collect();
    let line = |row: &R| {
        let cells: Vec<String> =
            (0..n).map(|column| format!("{:<width$}", cell(row, column), width = widths[column])).collect();
        cells.join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

/// Prints that something needs attention.
pub(super) fn warning(text: impl AsRef<str>) {
    line(format!(" {} {}", mark("!", "warning:", "33"), text.as_ref()));
}

/// Prints that something failed.
pub(super) fn failed(text: impl AsRef<str>) {
    line(format!(" {} {}", mark("✗", "failed:", "31"), text.as_ref()));
}

/// Prints an error with all its causes.
pub(super) fn error(err: &anyhow::Error) {
    eprintln!("error: {err:#}");
    if let Some(hint) = exit::hint(err) {
        eprintln!("{hint}");
    }
}

fn mark(sign: &str, word: &str, colour: &str) -> String {
    if std::io::stdout().is_terminal() { format!("\x1b[{colour}m{sign}\x1b[0m") } else { word.to_owned() }
}
