//! Tells of jumps of wall time: the machine has slept, or its clock was set.
//!
//! Started once, by `app`. The kernel tells of jumps by itself: a timer that never ends is cancelled by them, so nothing wakes while there
//! are none. Where it gives no such timer, wall and monotonic time are compared once in a while.
//!
//! **Not here**: a clock that is slewed (NTP): timers are slewed with it.
//!
//! **Source**: `TFD_TIMER_CANCEL_ON_SET`, timerfd_create(2): cancelled by `settimeofday`, `clock_settime`, and when the machine resumes.

use super::{clock::Clock, task::Drain};
use jiff::{SignedDuration, Timestamp};
use rustix::{
    io::{Errno, read},
    time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime},
};
use std::{io, os::fd::OwnedFd, time::Duration};
use tokio::{
    io::{Interest, unix::AsyncFd},
    time::Instant,
};
use tracing::{info, warn};

/// The moment for which the timer is set: the last of its kind.
const NEVER: Timespec = Timespec { tv_sec: i64::MAX / 1_000_000_000, tv_nsec: 0 };
/// How often the clocks are compared where the kernel does not tell.
const COMPARE_EVERY: Duration = Duration::from_secs(15);
/// Wall time may differ by so much from monotonic time between two looks; more is a jump.
const DRIFT_MAX: SignedDuration = SignedDuration::from_secs(1);

/// Tells `clock`'s followers of each jump until drained.
pub async fn tell(clock: Clock, drain: Drain) {
    tokio::select! {
        biased;
        () = drain.drained() => {}
        () = follow(&clock) => {}
    }
}

async fn follow(clock: &Clock) {
    if let Err(err) = follow_kernel(clock).await {
        warn!(component = "clock", %err, "the kernel does not tell of jumps of the clock; the clocks are compared instead");
        compare(clock).await;
    }
}

async fn follow_kernel(clock: &Clock) -> io::Result<()> {
    #[allow(
        deprecated,
        reason = "what it is unsound for is a type that does not own its descriptor; the other way is unsafe code"
    )]
    let timer = AsyncFd::with_interest(endless_timer()?, Interest::READABLE)?;
    loop {
        // It may have jumped before the timer was set: nothing waited for it then.
        let is_jump = timer.async_io(Interest::READABLE, is_cancelled).await?;
        if is_jump {
            noted(clock);
        }
    }
}

fn endless_timer() -> io::Result<OwnedFd> {
    let timer = timerfd_create(TimerfdClockId::Realtime, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
    let never = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value: NEVER };
    timerfd_settime(&timer, TimerfdTimerFlags::ABSTIME | TimerfdTimerFlags::CANCEL_ON_SET, &never)?;
    Ok(timer)
}

/// Whether the clock was set since the last read; it goes on telling.
fn is_cancelled(timer: &OwnedFd) -> io::Result<bool> {
    match read(timer, &mut [0; 8]) {
        Ok(_) => Ok(false),
        Err(Errno::CANCELED) => Ok(true),
        Err(err) => Err(err.into()),
    }
}

fn noted(clock: &Clock) {
    info!(component = "clock", now = %clock.now(), "the clock has jumped");
    clock.note_jump();
}

async fn compare(clock: &Clock) {
    let mut last = (clock.now(), clock.mono());
    loop {
        tokio::time::sleep(COMPARE_EVERY).await;
        let now = (clock.now(), clock.mono());
        if has_jumped(last, now) {
            noted(clock);
        }
        last = now;
    }
}

/// Whether wall time went another way than monotonic time between two looks.
fn has_jumped(before: (Timestamp, Instant), after: (Timestamp, Instant)) -> bool {
    let wall = after.0.duration_since(before.0);
    let mono = SignedDuration::try_from(after.1.duration_since(before.1)).unwrap_or(SignedDuration::MAX);
    wall.checked_sub(mono).is_none_or(|drift| drift.abs() > DRIFT_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::task::{drain_signal, spawn};

    #[tokio::test(start_paused = true)]
    async fn a_clock_that_jumps_is_noticed_either_way_and_one_that_drifts_is_not() {
        let clock = Clock::simulated("2026-01-01T00:00:00Z".parse().unwrap());
        let look = || (clock.now(), clock.mono());
        let start = look();
        tokio::time::advance(Duration::from_hours(1)).await;
        assert!(!has_jumped(start, look()));
        for (by, expected) in [(-500, false), (1500, true), (-1500, true)] {
            let before = look();
            clock.jump(SignedDuration::from_millis(by));
            assert_eq!(has_jumped(before, look()), expected, "{by} ms");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn where_the_kernel_does_not_tell_the_clocks_are_compared() {
        let clock = Clock::simulated("2026-01-01T00:00:00Z".parse().unwrap());
        // One whose jump nobody tells of.
        let silent = clock.clone();
        let mut jumps = clock.jumps();
        tokio::select! {
            biased;
            () = compare(&clock) => unreachable!("it never ends"),
            () = async {
                tokio::time::sleep(COMPARE_EVERY * 3).await;
                assert!(!jumps.has_changed().unwrap());
                silent.jump(SignedDuration::from_hours(3));
                assert_eq!(*jumps.borrow_and_update(), 1, "the jump itself");
                tokio::time::timeout(COMPARE_EVERY * 2, jumps.changed()).await.expect("it is noticed").unwrap();
            } => {}
        }
    }

    #[tokio::test]
    async fn the_kernels_timer_says_nothing_while_the_clock_is_left_alone() {
        let timer = endless_timer().unwrap();
        assert_eq!(is_cancelled(&timer).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        let (clock, (trigger, drain)) = (Clock::system(), drain_signal());
        let told = spawn("told", tell(clock.clone(), drain));
        tokio::task::yield_now().await;
        trigger.fire();
        told.await.unwrap();
        assert!(!clock.jumps().has_changed().unwrap());
    }
}
