//! Calls of the C library that Rust has no safe way to make, and nothing else: a crate of its own because it is the only unsafe code of
//! the project.
//!
//! - The allocator says what it has, and gives back what is free. Everywhere but with the GNU C library it knows nothing and does nothing.
//!   glibc keeps freed memory for the next who wants some, without a bound where much was freed at once; other allocators were measured:
//!   they give it back, and cost every sandbox and the build more than this.
//! - A thread that works in batches ([`work_in_batches`]).

use std::io;

/// Bytes that the program has in use; `None` when that is not known.
#[must_use]
pub fn in_use() -> Option<usize> {
    allocator::in_use()
}

/// Gives all free memory back to the machine, page by page.
pub fn give_back() {
    allocator::give_back();
}

/// Has this thread, and those that it starts, wait for a processor that is free or a turn that ends instead of taking the place of
/// whoever woke it. It is woken as soon, and gets as much of the machine; but who sends it something goes on sending, and it finds more to
/// do when it runs. Source: `SCHED_BATCH`, sched(7).
///
/// # Errors
/// Where the system does not know it, or a sandbox forbids it.
pub fn work_in_batches() -> io::Result<()> {
    scheduler::work_in_batches()
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod allocator {
    use std::ffi::c_int;

    /// What the allocator has. Source: `struct mallinfo`, `malloc.h`. `mallinfo2`, which counts further than four gigabytes, is not in
    /// every glibc that this is built with.
    #[repr(C)]
    struct Info {
        arena: c_int,
        ordblks: c_int,
        smblks: c_int,
        hblks: c_int,
        /// Bytes in mappings of their own: all of them in use.
        hblkhd: c_int,
        usmblks: c_int,
        fsmblks: c_int,
        /// Bytes in use elsewhere.
        uordblks: c_int,
        fordblks: c_int,
        keepcost: c_int,
    }

    // SAFETY: these are glibc's own declarations; both may be called at any time, from any thread, with any value.
    unsafe extern "C" {
        safe fn mallinfo() -> Info;
        safe fn malloc_trim(pad: usize) -> c_int;
    }

    pub(super) fn in_use() -> Option<usize> {
        let info = mallinfo();
        let bytes = |count: c_int| usize::try_from(count.cast_unsigned()).ok();
        bytes(info.uordblks)?.checked_add(bytes(info.hblkhd)?)
    }

    pub(super) fn give_back() {
        // Whether anything was free does not matter.
        malloc_trim(0);
    }
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
mod allocator {
    pub(super) fn in_use() -> Option<usize> {
        None
    }

    pub(super) fn give_back() {}
}

#[cfg(target_os = "linux")]
mod scheduler {
    use std::{ffi::c_int, io};

    /// `SCHED_BATCH`, `linux/sched.h`.
    const BATCH: c_int = 3;

    /// Source: `struct sched_param`, `sched.h`; musl's has more after it, which is not read.
    #[repr(C)]
    struct Param {
        priority: c_int,
        reserved: [u64; 5],
    }

    // SAFETY: the C library's own declaration; it reads what the reference leads to while it is called, and keeps nothing.
    unsafe extern "C" {
        safe fn sched_setscheduler(thread: c_int, policy: c_int, param: &Param) -> c_int;
    }

    pub(super) fn work_in_batches() -> io::Result<()> {
        let done = sched_setscheduler(0, BATCH, &Param { priority: 0, reserved: [0; 5] });
        if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

#[cfg(not(target_os = "linux"))]
mod scheduler {
    pub(super) fn work_in_batches() -> std::io::Result<()> {
        Err(std::io::ErrorKind::Unsupported.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn threads_of_a_thread_that_works_in_batches_do_so_too() {
        // Field 41 of proc_pid_stat(5), the 39th after the program's name.
        let policy = || {
            let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
            stat.rsplit_once(") ").unwrap().1.split(' ').nth(38).unwrap().to_owned()
        };
        let begun = std::thread::spawn(move || {
            let before = policy();
            work_in_batches().unwrap();
            [before, policy(), std::thread::spawn(policy).join().unwrap()]
        });
        assert_eq!(begun.join().unwrap(), ["0", "3", "3"]);
    }

    #[test]
    fn what_is_taken_is_in_use_and_what_is_freed_is_not() {
        let Some(before) = in_use() else { return };
        let taken: Vec<Vec<u8>> = (0..1000).map(|_| vec![1; 10_000]).collect();
        let with = in_use().unwrap();
        assert!(with >= before + 9_000_000, "{before} {with}");
        drop(taken);
        give_back();
        assert!(in_use().unwrap() < with - 8_000_000);
    }
}
