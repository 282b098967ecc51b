//! `skiff bind-paths`: finds sub-paths inside volumes and binds what it found where the engine can mount it.
//!
//! The node agent runs it in a container of its own (see `node::volumes::sub_paths` for the whole picture). It prints `ready` when
//! all is bound, or `refused N WHY`, and then waits to be removed, for a minute at most, so that nobody misses what it printed.
//!
//! **Invariants**: a volume is walked one name at a time, each relative to the directory that is held open: no link is followed and
//! no name leads up, so nothing outside the volume is ever opened, whatever containers rename meanwhile. What is bound is what was
//! opened, through its descriptor, not through its path. Directories that are missing get the volume's mode, and its group where
//! that is inherited.
//! **Source**: `SafeMakeDir` and `doSafeOpen`, `pkg/volume/util/subpath/subpath_linux.go`, v1.37.

use crate::base::json;
use crate::node::volumes::{
    FILES_READY,
    sub_paths::{Bind, EXCHANGE, REFUSED, REQUEST, Request},
};
use rustix::{
    fs::{self, FileType, Mode, OFlags},
    io::Errno,
    mount::{MountPropagationFlags, UnmountFlags, mount_bind, mount_change, unmount},
};
use std::{
    io::{self, Write as _},
    os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd},
    path::Path,
    sync::mpsc,
    time::Duration,
};

/// How long it waits to be removed.
const STAYS: Duration = Duration::from_mins(1);
/// How often a name is looked for that somebody keeps removing.
const TRIES: usize = 3;

/// What can go wrong beside a path that cannot be had.
#[derive(Debug, thiserror::Error)]
enum BindError {
    #[error("{REQUEST} does not say what to bind")]
    Request(#[source] serde_json::Error),
    #[error("{EXCHANGE} is not a shared volume in memory")]
    Exchange,
    #[error("cannot read the mounts")]
    Mounts(#[source] io::Error),
    #[error("cannot clear {EXCHANGE}")]
    Clear(#[source] io::Error),
    #[error("cannot write standard output")]
    Write(#[source] io::Error),
}

/// Why a path inside a volume cannot be mounted. The text names no more than the path's own parts.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
enum Refusal {
    #[error("must be a relative path without '..'")]
    Leaves,
    #[error("{0:?} is a symbolic link")]
    Link(String),
    #[error("{0:?} is not a directory")]
    NotADirectory(String),
    #[error("{0:?}: {1}")]
    Failed(String, Errno),
}

/// Binds what the environment asks for, and waits to be removed.
pub fn run() -> anyhow::Result<()> {
    let text = std::env::var(REQUEST).unwrap_or_default();
    let request: Request = json::read(text.as_bytes()).map_err(BindError::Request)?;
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").map_err(BindError::Mounts)?;
    if !is_shared_memory(&mounts, EXCHANGE) {
        return Err(BindError::Exchange.into());
    }
    // What is made has the volume's mode, not less.
    rustix::process::umask(Mode::empty());
    let exchange = Path::new(EXCHANGE);
    clear(exchange, &request.replaces).map_err(BindError::Clear)?;
    say(bind_all(exchange, &request.binds))
}

/// Tells the node agent what came out, and waits to be removed.
pub(super) fn say(result: Result<(), (usize, impl std::fmt::Display)>) -> anyhow::Result<()> {
    let said = match result {
        Ok(()) => FILES_READY.to_owned(),
        Err((number, why)) => format!("{REFUSED} {number} {why}"),
    };
    writeln!(io::stdout(), "{said}").map_err(BindError::Write)?;
    // A wait with an end: nobody sends anything.
    let (_sender, nobody) = mpsc::channel::<()>();
    assert!(nobody.recv_timeout(STAYS).is_err(), "nobody sends");
    Ok(())
}

/// Whether a place is a whole file system in memory, shared with the engine's host. A directory of the host's disk in its place
/// would keep what is bound there.
fn is_shared_memory(mounts: &str, place: &str) -> bool {
    // proc(5): ID, parent, device, root, mount point, options, optional fields, "-", type, …
    let fields = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let last = mounts.lines().map(fields).rfind(|fields| fields.get(4).is_some_and(|at| at == place));
    last.is_some_and(|fields| {
        let optional = fields.iter().skip(6).take_while(|field| *field != "-");
        let kind = fields.iter().skip_while(|field| *field != "-").nth(1);
        fields[3] == "/"
            && kind.is_some_and(|kind| kind == "tmpfs")
            && optional.into_iter().any(|f| f.starts_with("shared:"))
    })
}

/// Removes the entries that begin so. A container that still uses one keeps its own mount of it.
fn clear(exchange: &Path, prefix: &str) -> io::Result<()> {
    for entry in std::fs::read_dir(exchange)? {
        let entry = entry?;
        if !entry.file_name().to_string_lossy().starts_with(prefix) {
            continue;
        }
        match unmount(entry.path(), UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
            // An entry on which nothing was mounted yet.
            Ok(()) | Err(Errno::INVAL) => {}
            Err(err) => return Err(err.into()),
        }
        if entry.path().symlink_metadata()?.is_dir() {
            std::fs::remove_dir(entry.path())?;
        } else {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn bind_all(exchange: &Path, binds: &[Bind]) -> Result<(), (usize, Refusal)> {
    binds.iter().enumerate().try_for_each(|(number, bind)| bind_one(exchange, bind).map_err(|err| (number, err)))
}

fn bind_one(exchange: &Path, bind: &Bind) -> Result<(), Refusal> {
    let failed = |err| Refusal::Failed(bind.path.clone(), err);
    // The volume's own mount point: nobody but the engine made it.
    let volume = fs::open(&bind.volume, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    let volume = volume.map_err(|err| match err {
        Errno::NOTDIR => Refusal::NotADirectory(".".to_owned()),
        err => failed(err),
    })?;
    // Mounts of the engine's host are not to appear below what is bound, nor those of here there.
    mount_change(&bind.volume, MountPropagationFlags::PRIVATE).map_err(failed)?;
    let found = open_beneath(volume.as_fd(), &bind.path)?;
    let entry = exchange.join(&bind.name);
    let made = match file_type(&found).map_err(failed)? {
        FileType::Directory => fs::mkdir(&entry, Mode::RWXU),
        _ => fs::open(&entry, OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC, Mode::RUSR).map(drop),
    };
    made.map_err(failed)?;
    mount_bind(format!("/proc/self/fd/{}", found.as_raw_fd()), &entry).map_err(failed)
}

fn file_type(file: &OwnedFd) -> Result<FileType, Errno> {
    Ok(FileType::from_raw_mode(fs::fstat(file)?.st_mode))
}

/// Opens a path inside a directory, without access to what it holds. Directories that are missing are made.
fn open_beneath(root: BorrowedFd<'_>, path: &str) -> Result<OwnedFd, Refusal> {
    if path.starts_with('/') || path.contains('\0') || path.split('/').any(|name| name == "..") {
        return Err(Refusal::Leaves);
    }
    let failed = |err| Refusal::Failed(path.to_owned(), err);
    let mode = Mode::from_raw_mode(fs::fstat(root).map_err(failed)?.st_mode & 0o777);
    let mut here = root.try_clone_to_owned().map_err(|_| failed(Errno::MFILE))?;
    let mut names = path.split('/').filter(|name| !name.is_empty() && *name != ".").peekable();
    while let Some(name) = names.next() {
        let next = open_or_make(&here, name, mode).map_err(|err| Refusal::Failed(name.to_owned(), err))?;
        match file_type(&next).map_err(failed)? {
            FileType::Symlink => return Err(Refusal::Link(name.to_owned())),
            FileType::Directory => {}
            _ if names.peek().is_some() => return Err(Refusal::NotADirectory(name.to_owned())),
            _ => {}
        }
        here = next;
    }
    Ok(here)
}

/// Opens what has this one name in a directory; a link as itself. A directory is made where there is nothing.
fn open_or_make(directory: &OwnedFd, name: &str, mode: Mode) -> Result<OwnedFd, Errno> {
    let open = || fs::openat(directory, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty());
    for _ in 0..TRIES {
        match open() {
            Err(Errno::NOENT) => {}
            found => return found,
        }
        match fs::mkdirat(directory, name, mode) {
            Ok(()) | Err(Errno::EXIST) => {}
            // Nothing is ever made there, so it is not there.
            Err(Errno::ROFS) => return Err(Errno::NOENT),
            Err(err) => return Err(err),
        }
    }
    open()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::{
        fs as files,
        os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink},
        path::PathBuf,
    };

    fn open_directory(path: &Path) -> OwnedFd {
        fs::open(path, OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap()
    }

    /// Where a descriptor leads, as the kernel says.
    fn place(file: &OwnedFd) -> PathBuf {
        files::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).unwrap()
    }

    fn look(root: &Path, path: &str) -> Result<PathBuf, String> {
        open_beneath(open_directory(root).as_fd(), path).map(|found| place(&found)).map_err(|err| err.to_string())
    }

    #[test]
    fn links_and_steps_up_are_refused_wherever_they_are() {
        let top = tempfile::tempdir().unwrap();
        let root = top.path().canonicalize().unwrap().join("volume");
        files::create_dir_all(root.join("a/b")).unwrap();
        files::write(root.join("file"), "x").unwrap();
        symlink("/etc", root.join("absolute")).unwrap();
        symlink("..", root.join("a/up")).unwrap();
        symlink("b", root.join("a/inside")).unwrap();
        symlink("nowhere", root.join("a/dangling")).unwrap();
        assert_eq!(look(&root, "a/b").unwrap(), root.join("a/b"));
        assert_eq!(look(&root, "./a//b/.").unwrap(), root.join("a/b"));
        assert_eq!(look(&root, "file").unwrap(), root.join("file"));
        assert_eq!(look(&root, "").unwrap(), root);
        let cases = [
            ("absolute", "\"absolute\" is a symbolic link"),
            ("absolute/passwd", "\"absolute\" is a symbolic link"),
            ("a/up/a", "\"up\" is a symbolic link"),
            ("a/inside", "\"inside\" is a symbolic link"),
            ("a/dangling/x", "\"dangling\" is a symbolic link"),
            ("file/x", "\"file\" is not a directory"),
            ("/etc", "must be a relative path without '..'"),
            ("a/../../x", "must be a relative path without '..'"),
            ("a\0b", "must be a relative path without '..'"),
        ];
        for (path, want) in cases {
            assert_eq!(look(&root, path).unwrap_err(), want, "{path:?}");
        }
        assert!(!root.join("a/nowhere").exists());
        assert!(look(&root, &"n".repeat(256)).unwrap_err().contains("name too long"));
    }

    #[test]
    fn missing_directories_have_the_mode_of_their_volume_and_existing_ones_keep_theirs() {
        let root = tempfile::tempdir().unwrap();
        let before = rustix::process::umask(Mode::empty());
        let mode = |path: &str| files::metadata(root.path().join(path)).unwrap().mode() & 0o7777;
        let set = |path: &str, mode: u32| {
            files::set_permissions(root.path().join(path), files::Permissions::from_mode(mode)).unwrap();
        };
        set("", 0o2777);
        look(root.path(), "x/y/z").unwrap();
        assert_eq!([mode("x"), mode("x/y"), mode("x/y/z")], [0o2777; 3]);
        set("", 0o750);
        set("x/y", 0o700);
        look(root.path(), "x/y/w").unwrap();
        look(root.path(), "v").unwrap();
        assert_eq!([mode("x/y"), mode("v")], [0o700, 0o750]);
        rustix::process::umask(before);
    }

    #[test]
    fn only_a_shared_file_system_in_memory_is_bound_into() {
        let check =
            |line: &str| is_shared_memory(&format!("113 91 0:50 / / rw - overlay overlay rw\n{line}\n"), "/exchange");
        assert!(check("132 113 0:41 / /exchange rw,nodev shared:3 - tmpfs tmpfs rw,size=1024k"));
        let others = [
            "132 113 254:0 /var/lib/docker/volumes/v/_data /exchange rw shared:1 - ext4 /dev/vda rw",
            "132 113 0:41 /volumes/v/_data /exchange rw shared:1 - tmpfs tmpfs rw",
            "132 113 0:41 / /exchange rw master:3 - tmpfs tmpfs rw",
            "132 113 0:41 / /other rw shared:3 - tmpfs tmpfs rw",
            "132 113 0:41 / /exchange rw shared:3 - tmpfs tmpfs rw\n133 113 254:0 / /exchange rw shared:1 - ext4 /dev/vda rw",
            "132 113",
        ];
        for other in others {
            assert!(!check(other), "{other}");
        }
    }

    /// A step of making a tree in which links lead everywhere.
    #[derive(Clone, Debug)]
    enum Step {
        Directory(String),
        File(String),
        Link(String, String),
    }

    fn steps() -> impl Strategy<Value = Step> {
        let path = "[abc](/[abc]){0,3}";
        let target = prop_oneof!["(\\.\\./){0,5}[abc](/[abc]){0,2}", Just("/".to_owned()), Just("OUTSIDE".to_owned())];
        prop_oneof![
            path.prop_map(Step::Directory),
            path.prop_map(Step::File),
            (path, target).prop_map(|(path, target)| Step::Link(path, target)),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]
        #[test]
        fn nothing_outside_is_opened_or_made(
            steps in proptest::collection::vec(steps(), 0..16),
            paths in proptest::collection::vec("(\\.\\./|/|\\./|[abc]/){0,4}[abc.]{0,2}", 1..8),
        ) {
            let top = tempfile::tempdir().unwrap();
            let top = top.path().canonicalize().unwrap();
            let (root, outside) = (top.join("volume"), top.join("outside"));
            files::create_dir_all(&root).unwrap();
            files::create_dir_all(outside.join("a/b/c")).unwrap();
            for step in steps {
                // Steps that do not fit the tree so far fail, and that is fine.
                match step {
                    Step::Directory(path) => drop(files::create_dir(root.join(path))),
                    Step::File(path) => drop(files::File::create_new(root.join(path))),
                    Step::Link(path, target) => {
                        let target = target.replace("OUTSIDE", outside.to_str().unwrap());
                        drop(symlink(target, root.join(path)));
                    }
                }
            }
            let seen = |place: &Path| walk(place);
            let before = seen(&outside);
            for path in paths {
                if let Ok(found) = open_beneath(open_directory(&root).as_fd(), &path) {
                    prop_assert!(place(&found).starts_with(&root), "{path:?} led to {:?}", place(&found));
                    prop_assert_ne!(file_type(&found).unwrap(), FileType::Symlink);
                }
            }
            prop_assert_eq!(seen(&outside), before);
            let mut at_top: Vec<_> = files::read_dir(&top).unwrap().map(|entry| entry.unwrap().file_name()).collect();
            at_top.sort();
            prop_assert_eq!(at_top, ["outside", "volume"]);
        }
    }

    fn walk(place: &Path) -> Vec<PathBuf> {
        let mut all = Vec::new();
        for entry in files::read_dir(place).unwrap() {
            let path = entry.unwrap().path();
            if path.symlink_metadata().unwrap().is_dir() {
                all.extend(walk(&path));
            }
            all.push(path);
        }
        all.sort();
        all
    }

    #[test]
    fn a_directory_that_turns_into_a_link_meanwhile_leads_nowhere_else() {
        let top = tempfile::tempdir().unwrap();
        let root = top.path().canonicalize().unwrap();
        files::create_dir_all(root.join("volume/d/sub")).unwrap();
        files::create_dir_all(root.join("outside/sub")).unwrap();
        let (volume, ends) = (root.join("volume"), std::sync::atomic::AtomicBool::new(false));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !ends.load(std::sync::atomic::Ordering::Relaxed) {
                    drop(files::rename(volume.join("d"), volume.join("kept")));
                    drop(symlink(root.join("outside"), volume.join("d")));
                    drop(files::remove_file(volume.join("d")));
                    drop(files::rename(volume.join("kept"), volume.join("d")));
                    // Made by the one that looks, while there was nothing.
                    drop(files::remove_dir_all(volume.join("d/sub/x")));
                }
            });
            for _ in 0..2000 {
                if let Ok(found) = open_beneath(open_directory(&volume).as_fd(), "d/sub") {
                    assert!(!place(&found).starts_with(root.join("outside")), "{:?}", place(&found));
                }
            }
            ends.store(true, std::sync::atomic::Ordering::Relaxed);
        });
    }
}
