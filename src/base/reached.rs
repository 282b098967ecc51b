//! Bounds that were reached: how often is counted, and the first time is said.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// How often a bound was reached.
#[derive(Debug, Default)]
pub struct Reached(AtomicU64);

impl Reached {
    /// Counts once more; whether it is the first time, which is to be said.
    pub fn is_first(&self) -> bool {
        self.0.fetch_add(1, Relaxed) == 0
    }

    /// How often so far.
    pub fn count(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_time_is_to_be_said() {
        let reached = Reached::default();
        assert_eq!([(); 3].map(|()| reached.is_first()), [true, false, false]);
        assert_eq!(reached.count(), 3);
    }
}
