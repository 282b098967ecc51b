//! Being told to stop: the signal that ends a role.
//!
//! The first process of a container does not get a signal that it does not handle, and is killed in the end. So the binary listens before
//! it does anything else ([`listen_early`]), and what came since then counts.

use crate::base::task::{Drain, drain_signal};
use signal_hook::{
    consts::{SIGINT, SIGTERM},
    iterator::Signals,
};
use std::sync::Mutex;

/// What was listened to before the role began.
static EARLY: Mutex<Option<Signals>> = Mutex::new(None);

/// Begins to listen, when this is a container's first process.
pub fn listen_early() {
    if std::process::id() == 1 {
        // A role that cannot listen says so when it begins.
        *EARLY.lock().expect("no one panics while holding it") = Signals::new([SIGTERM, SIGINT]).ok();
    }
}

/// Fires when the process is told to stop, or was.
pub(super) fn stop_signal() -> std::io::Result<Drain> {
    let early = EARLY.lock().expect("no one panics while holding it").take();
    let mut signals = early.map_or_else(|| Signals::new([SIGTERM, SIGINT]), Ok)?;
    let (trigger, stop) = drain_signal();
    std::thread::Builder::new().name("signals".into()).stack_size(64 << 10).spawn(move || {
        if signals.forever().next().is_some() {
            trigger.fire();
        }
    })?;
    Ok(stop)
}
