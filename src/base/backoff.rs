//! Retry delays as a pure value: doubling from a base up to a cap. Jitter, where wanted, is the caller's.

use std::time::Duration;

/// Doubling delays between two bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The delay after the first failure.
    pub base: Duration,
    /// The longest delay.
    pub cap: Duration,
}

impl Backoff {
    /// The delay after `failures` failures in a row; nothing after none.
    pub fn delay(&self, failures: u32) -> Duration {
        match failures.checked_sub(1) {
            None => Duration::ZERO,
            Some(doublings) => self.base.saturating_mul(1u32.checked_shl(doublings).unwrap_or(u32::MAX)).min(self.cap),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_cap() {
        let b = Backoff { base: Duration::from_secs(10), cap: Duration::from_secs(300) };
        let got: Vec<u64> = (0..8).map(|n| b.delay(n).as_secs()).collect();
        assert_eq!(got, [0, 10, 20, 40, 80, 160, 300, 300]);
        assert_eq!(b.delay(u32::MAX), b.cap);
    }
}
