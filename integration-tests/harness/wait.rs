//! Waiting for a value with a deadline; never for a time.

use std::{
    fmt::Debug,
    time::{Duration, Instant},
};

/// How long what comes may take on a machine that is busy. It is longer than a pod's grace: a program that is told to end before it
/// listens for that has all of it.
pub const SOON: Duration = Duration::from_secs(60);

/// How often a value is looked at.
const PACE: Duration = Duration::from_millis(20);

/// Looks until `look` gives a value, at most `limit`.
///
/// # Panics
/// When the deadline passes, naming what was waited for and what was seen last.
#[track_caller]
pub fn eventually<T, E: Debug>(what: &str, limit: Duration, mut look: impl FnMut() -> Result<T, E>) -> T {
    let deadline = Instant::now() + limit;
    loop {
        match look() {
            Ok(value) => return value,
            Err(seen) if Instant::now() >= deadline => panic!("not within {limit:?}: {what}; last seen: {seen:?}"),
            Err(_) => std::thread::park_timeout(PACE),
        }
    }
}

/// Looks until `look` gives `wanted`, at most `limit`.
#[track_caller]
pub fn until_equal<T: PartialEq + Debug>(what: &str, limit: Duration, wanted: T, mut look: impl FnMut() -> T) {
    eventually(what, limit, || {
        let seen = look();
        if seen == wanted { Ok(()) } else { Err(seen) }
    });
}
