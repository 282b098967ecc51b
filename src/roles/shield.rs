//! Keeps what a role sees from the containers beside it.
//!
//! A container may share its process namespace with the pod's sandbox (`shareProcessNamespace`), or with everybody (`hostPID`). Through
//! `/proc/PID/root` it would then reach what the role has mounted: the volumes of a pod, where it could put a link in the place of a
//! directory that the engine mounts next, or the whole host. The kernel forbids that to whoever lacks `SYS_PTRACE`, if the process says
//! that it must not be dumped.
//!
//! **Not here**: the instant between the start of a process and its first call. The first process of a sandbox is there before any
//! container; what is run beside it for an instant (`pause --publish`) is not.
//! **Source**: `__ptrace_may_access`, `kernel/ptrace.c`, Linux 6.12.

use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use std::ffi::OsStr;

/// The roles that see more than the containers beside them.
const ROLES: [&str; 6] = ["bind-paths", "end-processes", "forward", "host-paths", "pause", "proxy"];

/// Shields the process, when it is of such a role. The binary does this first.
///
/// # Panics
/// When the kernel refuses: the role must not go on then.
pub fn shield() {
    let role = super::called();
    if role.is_some_and(|role| ROLES.iter().any(|name| role == OsStr::new(name))) {
        set_dumpable_behavior(DumpableBehavior::NotDumpable).expect("every process may refuse to be dumped");
    }
}
