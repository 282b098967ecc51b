//! Keeps what a role or a control plane sees from containers.
//!
//! A container may share its process namespace with the pod's sandbox (`shareProcessNamespace`), or with everybody (`hostPID`). Through
//! `/proc/PID/root` it would then reach what the process has mounted: the volumes of a pod, where it could put a link in the place of a
//! directory that the engine mounts next, or the whole host, or the engine's socket. The kernel forbids that to whoever lacks
//! `SYS_PTRACE`, if the process says that it must not be dumped.
//!
//! **Not here**: the instant between the start of a process and its first call. What covers it is a capability that containers do not get
//! unless they ask (`node/sandbox.rs`). It does not cover a control plane that is not root's: whoever has its user's number and sees all
//! processes may look into it while it starts, as into any other program of that user.
//! **Source**: `__ptrace_may_access`, `kernel/ptrace.c`, and `cap_ptrace_access_check`, `security/commoncap.c`, Linux 6.12.

use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use std::ffi::OsStr;

/// The roles that see more than the containers beside them.
const ROLES: [&str; 6] = ["bind-paths", "end-processes", "forward", "host-paths", "pause", "proxy"];

/// Shields the process, when it is a control plane or of such a role. The binary does this first.
///
/// # Panics
/// When the kernel refuses: the process must not go on then.
pub fn shield(is_control_plane: bool) {
    let role = super::called();
    if is_control_plane || role.is_some_and(|role| ROLES.iter().any(|name| role == OsStr::new(name))) {
        set_dumpable_behavior(DumpableBehavior::NotDumpable).expect("every process may refuse to be dumped");
    }
}
