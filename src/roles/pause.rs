//! `skiff pause`: the program of a pod's sandbox. It holds the pod's network and IPC namespaces open and reaps orphans.
//!
//! The binary calls it before anything else is started: no runtime, no threads, a few pages of memory.
//!
//! **Invariants**: it ends at once on `SIGTERM` and `SIGINT`; `/etc/hosts` and `/etc/resolv.conf` are written in place, because
//! app containers that join the sandbox's network share these very files.
//!
//! **Not here**: pod volumes, whose files the node agent puts in place itself.

use rustix::{
    io::Errno,
    process::{WaitOptions, wait},
};
use signal_hook::{
    consts::{SIGCHLD, SIGINT, SIGTERM},
    iterator::Signals,
};
use std::io;

/// Files that the environment may give: which variable holds the content of which.
const FILES: [(&str, &str); 2] = [("SKIFF_ETC_HOSTS", "/etc/hosts"), ("SKIFF_RESOLV_CONF", "/etc/resolv.conf")];

/// What can go wrong before the wait begins.
#[derive(Debug, thiserror::Error)]
enum PauseError {
    #[error("cannot wait for signals")]
    Signals(#[source] io::Error),
    #[error("cannot write {0}")]
    Write(String, #[source] io::Error),
}

/// Runs until it is told to stop.
pub fn run() -> anyhow::Result<()> {
    // The first process gets no signal that it does not handle, so handlers come before everything else.
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGCHLD]).map_err(PauseError::Signals)?;
    write_files(&FILES, |name| std::env::var(name).ok())?;
    reap();
    for signal in signals.forever() {
        if signal != SIGCHLD {
            break;
        }
        reap();
    }
    Ok(())
}

/// Writes what the environment gives; a variable that is not set leaves the engine's file as it is.
fn write_files(files: &[(&str, &str)], var: impl Fn(&str) -> Option<String>) -> Result<(), PauseError> {
    for (name, path) in files {
        if let Some(content) = var(name) {
            std::fs::write(path, content).map_err(|err| PauseError::Write((*path).into(), err))?;
        }
    }
    Ok(())
}

/// Collects every child that has ended. One signal may stand for several.
fn reap() {
    loop {
        match wait(WaitOptions::NOHANG) {
            Ok(Some(_)) | Err(Errno::INTR) => {}
            Ok(None) | Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::chain::chain;
    use std::os::unix::fs::MetadataExt as _;

    #[test]
    fn files_are_written_in_place_and_only_when_given() {
        let dir = tempfile::tempdir().unwrap();
        let (hosts, resolv) = (dir.path().join("hosts"), dir.path().join("resolv.conf"));
        for path in [&hosts, &resolv] {
            std::fs::write(path, "what the engine wrote, and longer").unwrap();
        }
        let inode = std::fs::metadata(&hosts).unwrap().ino();
        let files = [("HOSTS", hosts.to_str().unwrap()), ("RESOLV", resolv.to_str().unwrap())];
        write_files(&files, |name| (name == "HOSTS").then(|| "127.0.0.1\tlocalhost\n".to_owned())).unwrap();
        assert_eq!(std::fs::read_to_string(&hosts).unwrap(), "127.0.0.1\tlocalhost\n");
        assert_eq!(std::fs::metadata(&hosts).unwrap().ino(), inode);
        assert_eq!(std::fs::read_to_string(&resolv).unwrap(), "what the engine wrote, and longer");
    }

    #[test]
    fn a_file_that_cannot_be_written_is_named() {
        let err = write_files(&[("X", "/proc/no/such")], |_| Some(String::new())).unwrap_err();
        assert_eq!(chain(&err), "cannot write /proc/no/such: No such file or directory (os error 2)");
    }
}
