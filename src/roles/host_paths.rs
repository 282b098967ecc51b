//! `skiff host-paths`: looks whether paths of the host are what pods say they are, and makes those that may be made.
//!
//! The node agent runs it in a container of its own whose `/host` is the engine's host (see `node::volumes::host_paths`). It prints
//! `ready`, or `refused N WHY`, and waits to be removed.
//!
//! **Invariants**: it makes the host its root first, so links lead where they lead on the host.
//! **Source**: `pkg/volume/hostpath/host_path.go`, `pkg/volume/util/hostutil/hostutil_linux.go`, v1.37.

use super::bind_paths::say;
use crate::base::json;
use crate::node::volumes::host_paths::{HOST, HostPath, PathType, REQUEST};
use rustix::{fs::Mode, process::chroot};
use std::{
    fs::{DirBuilder, OpenOptions, metadata},
    io,
    os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, OpenOptionsExt as _},
};

/// What can go wrong beside a path that is not what it should be.
#[derive(Debug, thiserror::Error)]
enum HostError {
    #[error("{REQUEST} does not say what to look at")]
    Request(#[source] serde_json::Error),
    #[error("cannot make {HOST} the root")]
    Root(#[source] io::Error),
}

/// Looks at what the environment asks for, and waits to be removed.
pub fn run() -> anyhow::Result<()> {
    let text = std::env::var(REQUEST).unwrap_or_default();
    let paths: Vec<HostPath> = json::read(text.as_bytes()).map_err(HostError::Request)?;
    chroot(HOST).map_err(|err| HostError::Root(err.into()))?;
    std::env::set_current_dir("/").map_err(HostError::Root)?;
    rustix::process::umask(Mode::empty());
    say(paths.iter().enumerate().try_for_each(|(number, path)| check(path).map_err(|why| (number, why))))
}

/// Looks at one path; the error is what users read.
fn check(HostPath { path, kind }: &HostPath) -> Result<(), String> {
    let exists = metadata(path).is_ok();
    match kind {
        PathType::DirectoryOrCreate if !exists => {
            let made = DirBuilder::new().recursive(true).mode(0o755).create(path);
            return made.map_err(|err| format!("mkdir {path}: {}", plain(&err)));
        }
        PathType::FileOrCreate if !exists => {
            let made = OpenOptions::new().write(true).create(true).truncate(false).mode(0o644).open(path);
            return made.map(drop).map_err(|err| format!("open {path}: {}", plain(&err)));
        }
        _ => {}
    }
    let is_it = metadata(path).is_ok_and(|found| {
        let found = found.file_type();
        match kind {
            PathType::Directory | PathType::DirectoryOrCreate => found.is_dir(),
            PathType::File | PathType::FileOrCreate => found.is_file(),
            PathType::Socket => found.is_socket(),
            PathType::CharDevice => found.is_char_device(),
            PathType::BlockDevice => found.is_block_device(),
        }
    });
    if is_it { Ok(()) } else { Err(format!("hostPath type check failed: {path} is not a {}", kind.noun())) }
}

/// What the kernel says, in Go's words.
fn plain(err: &io::Error) -> String {
    let text = err.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    text.to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_is_told_from_the_others() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name).display().to_string();
        std::fs::write(at("file"), "").unwrap();
        std::fs::create_dir(at("dir")).unwrap();
        std::os::unix::fs::symlink("dir", at("link")).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
        let all = [
            PathType::Directory,
            PathType::DirectoryOrCreate,
            PathType::File,
            PathType::FileOrCreate,
            PathType::Socket,
            PathType::CharDevice,
            PathType::BlockDevice,
        ];
        let fits = |path: String| {
            let fits = |kind: &PathType| check(&HostPath { path: path.clone(), kind: *kind }).is_ok();
            all.iter().filter(|kind| fits(kind)).copied().collect::<Vec<_>>()
        };
        assert_eq!(fits(at("dir")), [PathType::Directory, PathType::DirectoryOrCreate]);
        assert_eq!(fits(at("link")), [PathType::Directory, PathType::DirectoryOrCreate], "links are followed");
        assert_eq!(fits(at("file")), [PathType::File, PathType::FileOrCreate]);
        assert_eq!(fits(at("socket")), [PathType::Socket]);
        assert_eq!(fits("/dev/null".into()), [PathType::CharDevice]);
    }

    #[test]
    fn only_two_types_make_something() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name).display().to_string();
        let said = |name: &str, kind| check(&HostPath { path: at(name), kind }).unwrap_err().replace(&at(""), "");
        assert_eq!(said("x", PathType::Directory), "hostPath type check failed: x is not a directory");
        assert_eq!(said("x", PathType::File), "hostPath type check failed: x is not a file");
        assert_eq!(said("x", PathType::Socket), "hostPath type check failed: x is not a socket file");
        assert_eq!(said("x", PathType::CharDevice), "hostPath type check failed: x is not a character device");
        assert_eq!(said("x", PathType::BlockDevice), "hostPath type check failed: x is not a block device");
        assert_eq!(said("a/file", PathType::FileOrCreate), "open a/file: no such file or directory");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "nothing was made");
        check(&HostPath { path: at("a/b"), kind: PathType::DirectoryOrCreate }).unwrap();
        check(&HostPath { path: at("a/file"), kind: PathType::FileOrCreate }).unwrap();
        assert!(metadata(at("a/b")).unwrap().is_dir() && metadata(at("a/file")).unwrap().is_file());
        assert_eq!(said("a/b", PathType::FileOrCreate), "hostPath type check failed: a/b is not a file");
    }
}
