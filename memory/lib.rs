//! Asks the allocator of the C library what it has, and has it give back what is free.
//!
//! A crate of its own because it is the only unsafe code of the project: two calls that Rust has no safe way to make. Everywhere but with
//! the GNU C library it knows nothing and does nothing.
//!
//! glibc keeps freed memory for the next who wants some, without a bound where much was freed at once; other allocators were measured:
//! they give it back, and cost every sandbox and the build more than this.

/// Bytes that the program has in use; `None` when that is not known.
#[must_use]
pub fn in_use() -> Option<usize> {
    allocator::in_use()
}

/// Gives all free memory back to the machine, page by page.
pub fn give_back() {
    allocator::give_back();
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

#[cfg(test)]
mod tests {
    use super::*;

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
