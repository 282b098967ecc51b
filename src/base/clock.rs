//! The one source of time: wall time and monotonic time, real or simulated.
//!
//! Everything that needs the time holds a [`Clock`]; pure code is given `now`. In the simulator tokio's clock is paused and
//! [`Clock::simulated`] derives wall time from it, so a run has one time line and a seed replays it.

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

/// So much later, or the last moment there is: users may ask for delays that no calendar holds.
pub fn after(at: Timestamp, delay: SignedDuration) -> Timestamp {
    at.checked_add(delay).unwrap_or(if delay.is_negative() { Timestamp::MIN } else { Timestamp::MAX })
}

/// The time without fractions of a second, as objects show it and the API stores it, so that what is written compares equal to what is
/// read back.
pub fn whole_seconds(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).expect("a timestamp's seconds are in range")
}

/// A cheap, cloneable source of wall and monotonic time.
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    System,
    Simulated { wall: Timestamp, mono: Instant },
}

impl Clock {
    /// The machine's clock.
    pub fn system() -> Self {
        Self(Source::System)
    }

    /// A clock that reads `wall` now and moves with tokio's (paused) time. Call it inside a tokio runtime.
    pub fn simulated(wall: Timestamp) -> Self {
        Self(Source::Simulated { wall, mono: Instant::now() })
    }

    /// Wall time, with whatever precision the source has.
    #[allow(clippy::disallowed_methods, reason = "this is the one place that reads the machine's clock")]
    pub fn now(&self) -> Timestamp {
        match &self.0 {
            Source::System => Timestamp::now(),
            Source::Simulated { wall, mono } => {
                *wall + SignedDuration::try_from(mono.elapsed()).expect("a simulation is shorter than 292 years")
            }
        }
    }

    /// Monotonic time; follows tokio's clock, paused or not.
    pub fn mono(&self) -> Instant {
        Instant::now()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_delay_that_no_calendar_holds_ends_at_its_edge() {
        let start: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        assert_eq!(after(start, SignedDuration::from_secs(90)).to_string(), "2026-01-01T00:01:30Z");
        assert_eq!(after(start, SignedDuration::from_secs(i64::MAX)), Timestamp::MAX);
        assert_eq!(after(start, SignedDuration::from_secs(i64::MIN)), Timestamp::MIN);
    }

    #[tokio::test(start_paused = true)]
    async fn a_simulated_clock_moves_with_paused_time_only() {
        let start: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let clock = Clock::simulated(start);
        assert_eq!(clock.now(), start);
        tokio::time::advance(Duration::from_secs(90)).await;
        assert_eq!(clock.now().to_string(), "2026-01-01T00:01:30Z");
    }
}
