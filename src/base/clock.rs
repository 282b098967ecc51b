//! The one source of time: wall time and monotonic time, real or simulated.
//!
//! Everything that needs the time holds a [`Clock`]; pure code is given `now`. In the simulator tokio's clock is paused and
//! [`Clock::simulated`] derives wall time from it, so a run has one time line and a seed replays it.
//!
//! Timers follow monotonic time, which stands still while the machine sleeps and knows nothing of a clock that is set. Whoever waits for
//! a wall time follows [`Clock::jumps`] too, of which `clock_jumps` tells.

use jiff::{SignedDuration, Timestamp};
use tokio::{sync::watch, time::Instant};

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
pub struct Clock {
    source: Source,
    /// How often wall time has jumped.
    jumps: watch::Sender<u64>,
}

#[derive(Clone, Debug)]
enum Source {
    System,
    Simulated {
        wall: Timestamp,
        mono: Instant,
        /// How far wall time has jumped since then, in nanoseconds.
        #[cfg(any(test, feature = "testing"))]
        ahead: std::sync::Arc<std::sync::atomic::AtomicI64>,
    },
}

impl Clock {
    /// The machine's clock.
    pub fn system() -> Self {
        Self::of(Source::System)
    }

    /// A clock that reads `wall` now and moves with tokio's (paused) time. Call it inside a tokio runtime.
    pub fn simulated(wall: Timestamp) -> Self {
        Self::of(Source::Simulated {
            wall,
            mono: Instant::now(),
            #[cfg(any(test, feature = "testing"))]
            ahead: std::sync::Arc::default(),
        })
    }

    fn of(source: Source) -> Self {
        Self { source, jumps: watch::Sender::new(0) }
    }

    /// Changes each time that wall time has jumped: the machine has slept, or its clock was set.
    pub fn jumps(&self) -> watch::Receiver<u64> {
        self.jumps.subscribe()
    }

    /// Wall time has jumped: whoever waits for a wall time is to look at the clock again.
    pub fn note_jump(&self) {
        self.jumps.send_modify(|n| *n += 1);
    }

    /// Lets wall time of a simulated clock jump, as when the machine has slept for so long.
    #[cfg(any(test, feature = "testing"))]
    pub fn jump(&self, by: SignedDuration) {
        let Source::Simulated { ahead, .. } = &self.source else { panic!("the machine's clock is left alone") };
        let nanos = i64::try_from(by.as_nanos()).expect("a jump is shorter than 292 years");
        ahead.fetch_add(nanos, std::sync::atomic::Ordering::Relaxed);
        self.note_jump();
    }

    /// Wall time, with whatever precision the source has.
    #[allow(clippy::disallowed_methods, reason = "this is the one place that reads the machine's clock")]
    pub fn now(&self) -> Timestamp {
        match &self.source {
            Source::System => Timestamp::now(),
            Source::Simulated {
                wall,
                mono,
                #[cfg(any(test, feature = "testing"))]
                ahead,
            } => {
                let now =
                    *wall + SignedDuration::try_from(mono.elapsed()).expect("a simulation is shorter than 292 years");
                #[cfg(any(test, feature = "testing"))]
                let now = now + SignedDuration::from_nanos(ahead.load(std::sync::atomic::Ordering::Relaxed));
                now
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

    #[tokio::test(start_paused = true)]
    async fn a_jump_of_wall_time_is_told_to_every_copy_of_the_clock() {
        let clock = Clock::simulated("2026-01-01T00:00:00Z".parse().unwrap());
        let (copy, mono) = (clock.clone(), clock.mono());
        let mut jumps = copy.jumps();
        assert!(!jumps.has_changed().unwrap());
        clock.jump(SignedDuration::from_hours(3));
        jumps.changed().await.unwrap();
        assert_eq!((copy.now().to_string().as_str(), copy.mono()), ("2026-01-01T03:00:00Z", mono));
    }
}
