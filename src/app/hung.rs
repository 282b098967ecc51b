//! A control plane that hangs is ended by the standby that waits for it: a process that is stopped (SIGSTOP, a frozen cgroup, a debugger)
//! keeps the cluster's store open for ever, and two that write one store would do harm. So it must be gone for certain before another
//! begins: it is fenced.
//!
//! Called by `claim`, for a standby. [`Silence`] says when a holder hangs: nothing came from it for the time of a Lease. [`end`] ends
//! it, and nobody else:
//!
//! 1. the kernel says which process listens on the claim's socket, and that the same process holds the lock of this very data folder;
//! 2. that process is opened (a pidfd), and both are asked again: the number is still that process's;
//! 3. it gets SIGKILL by the pidfd, which a stopped process dies of too, and is waited for.
//!
//! **Invariants**: nothing is read from what a process wrote down; a process that does not hold the lock is never signalled.
//! **Not here**: a control plane that answers and does no work (`base::supervise` begins its loops again).

use super::data_dir::DataDir;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};
use std::{
    fs, io,
    os::{fd::OwnedFd, unix::fs::MetadataExt as _},
    path::Path,
    time::Duration,
};

/// How long a holder may say nothing. Source: `LeaseDuration` of kube-controller-manager, k8s.io/component-base/config/v1alpha1, v1.37.
pub(super) const LEASE: Duration = Duration::from_secs(15);
/// How often it is asked. Source: `RetryPeriod`, there.
pub(super) const ASK_EVERY: Duration = Duration::from_secs(2);
/// What one question that is not answered counts at most: a standby that was stopped itself, or whose machine was, must not blame the
/// holder for that.
const COUNTS_MAX: Duration = Duration::from_secs(4);
/// How long a process that was killed may take to be gone: the kernel may have to end its disk writes first.
const DEATH_MAX: Duration = Duration::from_secs(10);

/// A control plane that was ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fenced {
    /// The process that it was.
    pub pid: i32,
}

impl Fenced {
    /// What people are told.
    pub fn text(self) -> String {
        let secs = LEASE.as_secs();
        format!(
            "the control plane of process {} did not answer for {secs} s: it was killed, and its place taken",
            self.pid
        )
    }
}

/// How long a holder has said nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Silence(Duration);

impl Silence {
    /// Notes what came of a question, and how long ago the one before ended, by a clock that a sleeping machine stops.
    pub(super) fn note(&mut self, is_answered: bool, took: Duration) {
        self.0 = if is_answered { Duration::ZERO } else { self.0 + took.min(COUNTS_MAX) };
    }

    /// How much longer it may last.
    pub(super) fn left(self) -> Duration {
        LEASE.saturating_sub(self.0)
    }
}

/// Whether a process holds the lock of a data folder. One that is gone holds nothing.
///
/// # Errors
/// The kernel does not say: the process is another user's.
pub(super) fn holds(pid: i32, dir: &Path) -> io::Result<bool> {
    unless_gone(look_at_files(pid, dir)).map(|holds| holds.unwrap_or(false))
}

/// `None` where the process is gone that was looked at.
fn unless_gone<T>(looked: io::Result<T>) -> io::Result<Option<T>> {
    match looked {
        Ok(seen) => Ok(Some(seen)),
        Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(err) if err.raw_os_error() == Some(Errno::SRCH.raw_os_error()) => Ok(None),
        Err(err) => Err(err),
    }
}

fn look_at_files(pid: i32, dir: &Path) -> io::Result<bool> {
    let lock = fs::metadata(DataDir::at(dir).lock_file())?;
    for entry in fs::read_dir(format!("/proc/{pid}/fd"))? {
        let entry = entry?;
        // A descriptor may be closed meanwhile.
        let Ok(open) = fs::metadata(entry.path()) else { continue };
        let is_lock = (open.dev(), open.ino()) == (lock.dev(), lock.ino());
        if is_lock && is_locked_by(pid, &entry.file_name().to_string_lossy())? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether a file is locked by this descriptor of a process, for it alone.
fn is_locked_by(pid: i32, descriptor: &str) -> io::Result<bool> {
    let told = fs::read_to_string(format!("/proc/{pid}/fdinfo/{descriptor}"))?;
    let is_exclusive = |line: &str| line.starts_with("lock:") && line.contains("FLOCK") && line.contains("WRITE");
    Ok(told.lines().any(is_exclusive))
}

/// Ends the process that holds both the claim and the lock of a data folder, and returns once it is gone. `holder` asks who has the claim;
/// `None`: it is another process, or has none of the two any more, and nothing was done.
///
/// # Errors
/// The kernel does not let it be looked at or ended: it is another user's, say. Or it was killed and does not go.
pub(super) fn end(dir: &Path, holder: impl Fn() -> io::Result<Option<i32>>) -> io::Result<Option<Fenced>> {
    let Some(pid) = holder()?.filter(|pid| *pid != own_pid()) else { return Ok(None) };
    if !holds(pid, dir)? {
        return Ok(None);
    }
    let number = Pid::from_raw(pid).ok_or(io::ErrorKind::InvalidInput)?;
    let opened = pidfd_open(number, PidfdFlags::empty()).map_err(io::Error::from);
    let Some(process) = unless_gone(opened)? else { return Ok(None) };
    let is_same = holder()? == Some(pid) && holds(pid, dir)?;
    // A number is not given to another process while the one that is open here lives.
    if !is_same || is_gone(&process, Duration::ZERO)? {
        return Ok(None);
    }
    pidfd_send_signal(&process, Signal::KILL)?;
    if !is_gone(&process, DEATH_MAX)? {
        return Err(io::Error::new(io::ErrorKind::TimedOut, format!("process {pid} was killed and is not gone")));
    }
    Ok(Some(Fenced { pid }))
}

fn own_pid() -> i32 {
    rustix::process::getpid().as_raw_nonzero().get()
}

/// Waits until a process is gone, for so long at most; whether it is.
pub(super) fn is_gone(process: &OwnedFd, within: Duration) -> io::Result<bool> {
    let bound = Timespec::try_from(within).map_err(io::Error::other)?;
    let mut looked_at = [PollFd::new(process, PollFlags::IN)];
    Ok(poll(&mut looked_at, Some(&bound))? > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        os::fd::AsFd as _,
        process::{Child, Command, Stdio},
    };

    #[test]
    fn silence_is_what_was_waited_for_an_answer() {
        let mut silence = Silence::default();
        for _ in 0..7 {
            silence.note(false, Duration::from_secs(2));
        }
        assert_eq!(silence.left(), Duration::from_secs(1));
        silence.note(false, Duration::from_secs(1));
        assert!(silence.left().is_zero());
        silence.note(true, Duration::from_hours(1));
        assert_eq!(silence.left(), LEASE);
        silence.note(false, Duration::from_hours(1));
        assert_eq!(silence.left(), LEASE.saturating_sub(COUNTS_MAX), "who asks was away itself");
    }

    /// A process that has a file of the folder open as its standard input, and does nothing.
    fn idle(file: fs::File) -> Child {
        Command::new("sleep").arg("1000").stdin(Stdio::from(file)).spawn().unwrap()
    }

    #[test]
    fn only_the_process_that_holds_the_lock_is_ended() {
        let dir = tempfile::tempdir().unwrap();
        let open = || {
            fs::OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .open(DataDir::at(dir.path()).lock_file())
                .unwrap()
        };
        let locked = open();
        locked.try_lock().unwrap();
        assert!(holds(own_pid(), dir.path()).unwrap());
        let elsewhere = tempfile::tempdir().unwrap();
        fs::write(DataDir::at(elsewhere.path()).lock_file(), "").unwrap();
        assert!(!holds(own_pid(), elsewhere.path()).unwrap());

        // One that has the file open without the lock, and one that has the lock.
        let (mut stranger, mut holder) = (idle(open()), idle(locked));
        let pid_of = |child: &Child| i32::try_from(child.id()).unwrap();
        let (stranger_pid, holder_pid) = (pid_of(&stranger), pid_of(&holder));
        assert!(!holds(stranger_pid, dir.path()).unwrap());
        assert_eq!(end(dir.path(), || Ok(Some(stranger_pid))).unwrap(), None);
        assert_eq!(end(dir.path(), || Ok(None)).unwrap(), None);
        assert_eq!(end(dir.path(), || Ok(Some(own_pid()))).unwrap(), None, "nobody ends itself");
        assert_eq!(stranger.try_wait().unwrap(), None);

        // Another has the claim by the second look.
        let looks = std::cell::Cell::new(0);
        let moves = || {
            looks.set(looks.get() + 1);
            Ok(Some(if looks.get() == 1 { holder_pid } else { stranger_pid }))
        };
        assert_eq!(end(dir.path(), moves).unwrap(), None);
        assert_eq!(holder.try_wait().unwrap(), None);

        let stopped = pidfd_open(Pid::from_raw(holder_pid).unwrap(), PidfdFlags::empty()).unwrap();
        pidfd_send_signal(stopped.as_fd(), Signal::STOP).unwrap();
        assert_eq!(end(dir.path(), || Ok(Some(holder_pid))).unwrap(), Some(Fenced { pid: holder_pid }));
        assert!(!holder.wait().unwrap().success());
        open().try_lock().expect("the lock is free");
        stranger.kill().unwrap();
        stranger.wait().unwrap();
        assert_eq!(end(dir.path(), || Ok(Some(stranger_pid))).unwrap(), None, "it is gone");
    }
}
