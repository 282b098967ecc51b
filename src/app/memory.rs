//! Gives back memory that is free and still held: a thousand clients that left, or an image that was made, cost nothing afterwards.
//!
//! Run as a loop of the control plane. What is held beyond what is in use is looked at from time to time; only where that is much is
//! the allocator asked to give it back, and not again for what it could not give.

use crate::base::task::Drain;
use std::time::Duration;
use tracing::debug;

/// How often it looks.
const LOOK: Duration = Duration::from_secs(5);
/// What may be held beyond what is in use.
const HELD_MAX: u64 = 16 << 20;

/// Looks until drained.
pub(super) async fn give_back(drain: Drain) {
    let mut stays = 0;
    loop {
        tokio::select! {
            biased;
            () = drain.drained() => return,
            () = tokio::time::sleep(LOOK) => {}
        }
        let Some(held) = held() else { return drain.drained().await };
        if is_much(held, stays) {
            // It looks at all that is free, which is some milliseconds' work.
            let given = tokio::task::spawn_blocking(skiff_system::give_back).await;
            stays = self::held().unwrap_or(held);
            debug!(component = "app", held, stays, is_done = given.is_ok(), "memory was given back");
        }
        stays = stays.min(held);
    }
}

/// Whether to give back: what could not be given last time does not count. Pure.
fn is_much(held: u64, stays: u64) -> bool {
    held > HELD_MAX.saturating_add(stays)
}

/// Bytes that the process holds and does not use; `None` where that cannot be known.
fn held() -> Option<u64> {
    let resident = resident(&std::fs::read_to_string("/proc/self/status").ok()?)?;
    Some(resident.saturating_sub(u64::try_from(skiff_system::in_use()?).ok()?))
}

/// The memory of a process's own that is there, in bytes.
fn resident(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_new_and_much_is_given_back() {
        assert!(!is_much(HELD_MAX, 0) && is_much(HELD_MAX + 1, 0));
        assert!(!is_much(HELD_MAX + 1, 1), "it was tried");
    }

    #[test]
    fn the_memory_of_ones_own_is_read_from_the_kernels_status() {
        assert_eq!(resident("VmRSS:\t  20 kB\nRssAnon:\t    12 kB\nRssFile: 8 kB\n"), Some(12 * 1024));
        assert_eq!(resident("VmRSS:\t  20 kB\n"), None);
        assert!(resident(&std::fs::read_to_string("/proc/self/status").unwrap()).unwrap() > 0);
    }
}
