//! Being told to stop: the signal that ends a role.

use crate::base::task::{Drain, drain_signal};
use signal_hook::{
    consts::{SIGINT, SIGTERM},
    iterator::Signals,
};

/// Fires when the process is told to stop.
pub(super) fn stop_signal() -> std::io::Result<Drain> {
    let mut signals = Signals::new([SIGTERM, SIGINT])?;
    let (trigger, stop) = drain_signal();
    std::thread::Builder::new().name("signals".into()).stack_size(64 << 10).spawn(move || {
        if signals.forever().next().is_some() {
            trigger.fire();
        }
    })?;
    Ok(stop)
}
