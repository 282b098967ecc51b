//! Gives back memory that is free and still held: a thousand clients that left, or an image that was made, cost nothing afterwards.
//!
//! Run as a loop of the control plane. What is held beyond what is in use is looked at from time to time; only where that is much, or
//! more than a little for a while, is the allocator asked to give it back, and not again for what it could not give.

use crate::base::task::Drain;
use std::time::Duration;
use tracing::debug;

/// How often it looks.
const LOOK: Duration = Duration::from_secs(5);
/// What may be held beyond what is in use: who works frees and asks again, and gets from this what it needs.
const HELD_MAX: u64 = 16 << 20;
/// How many looks in a row are a while: a minute.
const WHILE: u32 = 12;
/// What may be held for a while: nobody has asked for it.
const HELD_FOR_A_WHILE_MAX: u64 = 2 << 20;

/// Looks until drained.
pub(super) async fn give_back(drain: Drain) {
    let mut seen = Seen::default();
    loop {
        tokio::select! {
            biased;
            () = drain.drained() => return,
            () = tokio::time::sleep(LOOK) => {}
        }
        let Some(held) = held() else { return drain.drained().await };
        if seen.is_much(held) {
            // It looks at all that is free, which is some milliseconds' work.
            let given = tokio::task::spawn_blocking(skiff_system::give_back).await;
            let stays = self::held().unwrap_or(held);
            seen.gave(stays);
            debug!(component = "app", held, stays, is_done = given.is_ok(), "memory was given back");
        }
    }
}

/// What was seen of the memory that is held, in bytes.
#[derive(Debug, Default)]
struct Seen {
    /// What could not be given back last time: it does not count.
    stays: u64,
    /// The least of the looks of this while, and how many they are.
    least: u64,
    looks: u32,
}

impl Seen {
    /// Whether to give back what is held at this look.
    fn is_much(&mut self, held: u64) -> bool {
        self.stays = self.stays.min(held);
        if self.looks == WHILE {
            self.looks = 0;
        }
        self.least = if self.looks == 0 { held } else { self.least.min(held) };
        self.looks += 1;
        let is_kept = self.looks == WHILE && self.least > self.stays.saturating_add(HELD_FOR_A_WHILE_MAX);
        is_kept || held > self.stays.saturating_add(HELD_MAX)
    }

    /// It was given back but for `stays`.
    fn gave(&mut self, stays: u64) {
        *self = Self { stays, ..Self::default() };
    }
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
        let mut seen = Seen::default();
        assert!(!seen.is_much(HELD_MAX) && seen.is_much(HELD_MAX + 1));
        seen.gave(1);
        assert!(!seen.is_much(HELD_MAX + 1), "it was tried");
        assert!(!seen.is_much(0) && seen.is_much(HELD_MAX + 1), "what stayed was used since");
    }

    #[test]
    fn what_nobody_asks_for_in_a_while_is_given_back() {
        let mut seen = Seen::default();
        let mut look = |held: u64| (1..=WHILE).map(|_| seen.is_much(held)).collect::<Vec<_>>();
        assert!(look(HELD_FOR_A_WHILE_MAX).iter().all(|is_much| !is_much));
        let (last, before) = (look(HELD_FOR_A_WHILE_MAX + 1).pop(), look(HELD_FOR_A_WHILE_MAX));
        assert!(last == Some(true) && !before.contains(&true));
    }

    #[test]
    fn what_is_asked_for_again_is_kept() {
        let mut seen = Seen::default();
        let busy = (0..10 * WHILE).map(|look| if look % WHILE == 5 { 0 } else { HELD_MAX });
        assert!(!busy.into_iter().any(|held| seen.is_much(held)));
    }

    #[test]
    fn the_memory_of_ones_own_is_read_from_the_kernels_status() {
        assert_eq!(resident("VmRSS:\t  20 kB\nRssAnon:\t    12 kB\nRssFile: 8 kB\n"), Some(12 * 1024));
        assert_eq!(resident("VmRSS:\t  20 kB\n"), None);
        assert!(resident(&std::fs::read_to_string("/proc/self/status").unwrap()).unwrap() > 0);
    }
}
