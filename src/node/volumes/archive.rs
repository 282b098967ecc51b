//! Directories and files of a pod's volumes as one tar archive. Pure.
//!
//! **Invariants**: it is total. The paths of files are users' words: one that no file system can have, or that two files cannot
//! have together, is an error of its volume, and so is whatever the archive cannot hold.
//! **Source** of the rules for paths: `validatePayload`, `pkg/volume/util/atomic_writer.go`, v1.37.

use super::short_hash;
use crate::base::ordered::{Map, Set};
use jiff::Timestamp;
use std::{
    fmt::{self, Write as _},
    fs::Permissions,
    io,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink},
    path::Path,
};
use tar::{Builder, EntryType, Header};

/// A file that skiff writes.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct File {
    pub(super) mode: u32,
    pub(super) bytes: Vec<u8>,
    /// What tells this state of the file from another; `None`: its content does.
    pub(super) state: Option<String>,
}

/// The files of a volume, by path.
pub(super) type Files = Map<String, File>;

/// A volume's directory.
#[derive(Clone, PartialEq, Eq)]
struct Directory {
    mode: u32,
    group: Option<i64>,
    content: Content,
}

/// What is in a volume's directory.
#[derive(Clone, PartialEq, Eq)]
enum Content {
    /// What containers write.
    Plain,
    /// Files that only skiff writes.
    Files(Files),
    /// What a claim keeps, in a Docker volume; whether all of it is given to the group each time.
    Claim { always: bool },
}

/// The directories of a pod, by volume. What files hold is never printed.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Tree(Map<String, Directory>);

impl fmt::Debug for Tree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Tree {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn has_files(&self) -> bool {
        self.0.values().any(|d| matches!(d.content, Content::Files(_)))
    }

    /// Whether containers may not write into a volume: its files are skiff's.
    pub(super) fn is_read_only(&self, volume: &str) -> bool {
        self.0.get(volume).is_some_and(|d| matches!(d.content, Content::Files(_)))
    }

    pub(super) fn add_directory(&mut self, volume: &str, mode: u32, group: Option<i64>) {
        self.0.insert(volume.to_owned(), Directory { mode, group, content: Content::Plain });
    }

    /// Adds the volume of a claim, which is given to the group: each time, or only when its root is not the group's.
    pub(super) fn add_claim(&mut self, volume: &str, group: Option<i64>, always: bool) {
        self.0.insert(volume.to_owned(), Directory { mode: 0o777, group, content: Content::Claim { always } });
    }

    /// Adds a volume of files; the error says what is wrong with the path of one.
    pub(super) fn add_files(&mut self, volume: &str, files: Files, group: Option<i64>) -> Result<(), String> {
        let files = checked(files)?;
        self.0.insert(volume.to_owned(), Directory { mode: 0o777, group, content: Content::Files(files) });
        Ok(())
    }

    /// A text that differs when the archive does.
    pub(super) fn fingerprint(&self) -> String {
        self.0.iter().fold(String::new(), |mut text, (volume, directory)| {
            let files = match &directory.content {
                Content::Files(files) => Some(version(files)),
                Content::Plain => None,
                Content::Claim { always } => Some(format!("claim {always}")),
            };
            write!(text, "{volume} {:o} {:?} {files:?};", directory.mode, directory.group)
                .expect("writing to a String cannot fail");
            text
        })
    }

    /// The archive. Programs may tell new files from old by their time, so it is that of the writing.
    pub(super) fn to_tar(&self, at: Timestamp) -> io::Result<Vec<u8>> {
        let mut tar = Writer { tar: Builder::new(Vec::new()), at };
        let mut plain = String::new();
        for (volume, Directory { mode, group, content }) in &self.0 {
            let word = match content {
                Content::Files(files) => {
                    tar.append(&format!("{volume}/"), EntryType::Directory, *mode, *group, &[])?;
                    tar.append_files(volume, *group, files)?;
                    continue;
                }
                Content::Plain => PLAIN,
                Content::Claim { always: true } => CLAIM_ALWAYS,
                Content::Claim { always: false } => CLAIM_ON_MISMATCH,
            };
            writeln!(plain, "{volume} {mode:o} {} {word}", id(*group)).expect("writing to a String cannot fail");
        }
        if !plain.is_empty() {
            tar.append(DIRECTORIES, EntryType::Regular, 0o600, None, plain.as_bytes())?;
        }
        tar.tar.into_inner()
    }
}

/// What a line of [`DIRECTORIES`] says of a directory.
const PLAIN: &str = "plain";
const CLAIM_ALWAYS: &str = "claim";
const CLAIM_ON_MISMATCH: &str = "claim-on-mismatch";

/// The longest name and path, in bytes. Source: `maxFileNameLength` and `maxPathLength`, `atomic_writer.go`, v1.37.
const NAME_MAX: usize = 255;
const PATH_MAX: usize = 4096;

/// The files by their paths without empty parts, if a directory can hold them all.
fn checked(files: Files) -> Result<Files, String> {
    let mut all = Map::new();
    for (path, file) in files {
        all.insert(checked_path(&path)?, file);
    }
    let parents = |path: &str| path.match_indices('/').map(|(at, _)| path[..at].to_owned()).collect::<Vec<_>>();
    let both = all.keys().flat_map(|path| parents(path)).find(|parent| all.contains_key(parent));
    match both {
        Some(both) => Err(format!("invalid path {both:?}: is both a file and a directory")),
        None => Ok(all),
    }
}

fn checked_path(path: &str) -> Result<String, String> {
    let invalid = |why: &str| Err(format!("invalid path {path:?}: {why}"));
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    match parts.first() {
        None => return invalid("must name a file"),
        _ if path.starts_with('/') => return invalid("must be relative path"),
        _ if path.contains('\0') => return invalid("must not contain NUL"),
        _ if path.len() > PATH_MAX => return invalid("must be less than or equal to 4096 characters"),
        _ if parts.contains(&"..") => return invalid("must not contain '..'"),
        Some(first) if first.starts_with("..") => return invalid("must not start with '..'"),
        Some(_) => {}
    }
    if parts.iter().any(|part| part.len() > NAME_MAX) {
        return invalid("filenames must be less than or equal to 255 characters");
    }
    Ok(parts.join("/"))
}

/// The name of the directory that holds this state of the files.
fn version(files: &Files) -> String {
    let state = |file: &File| file.state.clone().unwrap_or_else(|| hex(&file.bytes));
    let parts: Vec<String> =
        files.iter().map(|(path, file)| format!("{path} {:o} {}", file.mode, state(file))).collect();
    short_hash(&parts.iter().map(String::as_str).collect::<Vec<_>>())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a String cannot fail");
        text
    })
}

/// The name under which a new state is announced until it is published.
const NEXT: &str = "..data_next";

/// The link to the current state.
const DATA: &str = "..data";

/// The file that names the directories which containers write: a line each, with mode and group. They are made once. What containers
/// did to them since stands, as in Kubernetes, and unpacking a directory again would undo it.
const DIRECTORIES: &str = "..directories";

/// A group as the kernel has it.
fn id(group: Option<i64>) -> u32 {
    group.and_then(|g| u32::try_from(g).ok()).unwrap_or_default()
}

struct Writer {
    tar: Builder<Vec<u8>>,
    at: Timestamp,
}

impl Writer {
    /// The files, and the link that announces them. Whoever unpacks the archive replaces what is there in more than one step, so nothing
    /// in it has a name that is there already: the directory is this writing's own.
    fn append_files(&mut self, volume: &str, group: Option<i64>, files: &Files) -> io::Result<()> {
        let version = format!("..{}_{:x}", version(files), self.at.as_nanosecond());
        self.append(&format!("{volume}/{version}/"), EntryType::Directory, 0o755, group, &[])?;
        let mut parents = Set::new();
        for (path, File { mode, bytes, .. }) in files {
            for (at, _) in path.match_indices('/').filter(|(at, _)| parents.insert(&path[..*at])) {
                let parent = format!("{volume}/{version}/{}/", &path[..at]);
                self.append(&parent, EntryType::Directory, 0o755, group, &[])?;
            }
            self.append(&format!("{volume}/{version}/{path}"), EntryType::Regular, *mode, group, bytes)?;
        }
        let mut header = self.header(EntryType::Symlink, 0o777);
        self.tar.append_link(&mut header, format!("{volume}/{NEXT}"), &version)
    }

    fn append(&mut self, path: &str, kind: EntryType, mode: u32, group: Option<i64>, bytes: &[u8]) -> io::Result<()> {
        let mut header = self.header(kind, mode);
        header.set_gid(id(group).into());
        header.set_size(bytes.len() as u64);
        self.tar.append_data(&mut header, path, bytes)
    }

    fn header(&self, kind: EntryType, mode: u32) -> Header {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_size(0);
        header.set_mtime(u64::try_from(self.at.as_second()).unwrap_or_default());
        header
    }
}

/// Makes the directories of volumes that are missing, gives those of claims to their groups, and makes the announced state of every volume below
/// `root` the current one: what the sandbox does after files have arrived.
/// Old states and links to files that are no more are removed after. Returns how many volumes changed.
///
/// # Errors
/// When the directory cannot be read or written.
pub fn publish_all(root: &Path, claims: &Path) -> io::Result<usize> {
    make_directories(root, claims)?;
    let mut changed = 0;
    for entry in std::fs::read_dir(root)? {
        let volume = entry?.path();
        if volume.join(NEXT).symlink_metadata().is_ok() {
            changed += usize::from(publish(&volume)?);
        }
    }
    Ok(changed)
}

fn make_directories(root: &Path, claims: &Path) -> io::Result<()> {
    let list = root.join(DIRECTORIES);
    let text = match std::fs::read_to_string(&list) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(()),
        text => text?,
    };
    for line in text.lines() {
        let wrong = || io::Error::new(io::ErrorKind::InvalidData, format!("not a directory's line: {line:?}"));
        let [volume, mode, group, word] = line.split(' ').collect::<Vec<_>>().try_into().map_err(|_| wrong())?;
        let (mode, group) = (u32::from_str_radix(mode, 8).map_err(|_| wrong())?, group.parse().map_err(|_| wrong())?);
        match word {
            PLAIN if root.join(volume).exists() => {}
            PLAIN => make_directory(root, volume, mode, group)?,
            CLAIM_ALWAYS | CLAIM_ON_MISMATCH => {
                take_over(&claims.join(volume), mode, group, word == CLAIM_ALWAYS)?;
            }
            _ => return Err(wrong()),
        }
    }
    std::fs::remove_file(list)
}

/// Makes the volume of a claim ready for a pod: a new one is anybody's, as a directory that a local provisioner makes; with a group, all
/// of it is the group's. Source: `SetVolumeOwnership`, `pkg/volume/volume_linux.go`, v1.37.
fn take_over(volume: &Path, mode: u32, group: u32, always: bool) -> io::Result<()> {
    const SHARED: u32 = 0o2070;
    let root = std::fs::metadata(volume)?;
    let is_new = root.uid() == 0 && root.gid() == 0 && root.mode() & 0o7777 == 0o755;
    if is_new && std::fs::read_dir(volume)?.next().is_none() {
        std::fs::set_permissions(volume, Permissions::from_mode(mode))?;
    }
    if group == 0 || (!always && root.gid() == group && root.mode() & SHARED == SHARED) {
        return Ok(());
    }
    // The root last: it tells that the rest is done.
    let mut left = vec![volume.to_owned()];
    let mut all = Vec::new();
    while let Some(path) = left.pop() {
        if path.symlink_metadata()?.is_dir() {
            for entry in std::fs::read_dir(&path)? {
                left.push(entry?.path());
            }
        }
        all.push(path);
    }
    all.iter().rev().try_for_each(|path| give_to(path, group))
}

fn give_to(path: &Path, group: u32) -> io::Result<()> {
    let found = path.symlink_metadata()?;
    if found.gid() != group {
        std::os::unix::fs::lchown(path, None, Some(group))?;
    }
    let wanted = match found.file_type() {
        kind if kind.is_symlink() => return Ok(()),
        kind if kind.is_dir() => found.mode() | 0o2770,
        _ => found.mode() | 0o660,
    };
    if found.mode() == wanted { Ok(()) } else { std::fs::set_permissions(path, Permissions::from_mode(wanted)) }
}

/// Whole or not at all, whenever the sandbox ends.
fn make_directory(root: &Path, volume: &str, mode: u32, group: u32) -> io::Result<()> {
    let unfinished = root.join(format!("..{volume}"));
    std::fs::create_dir_all(&unfinished)?;
    if std::fs::metadata(&unfinished)?.gid() != group {
        std::os::unix::fs::chown(&unfinished, None, Some(group))?;
    }
    std::fs::set_permissions(&unfinished, Permissions::from_mode(mode))?;
    std::fs::rename(unfinished, root.join(volume))
}

/// Makes the announced state the current one, unless that has the same files. Returns whether it did.
fn publish(volume: &Path) -> io::Result<bool> {
    let (next, data) = (volume.join(NEXT), volume.join(DATA));
    let announced = std::fs::read_link(&next)?;
    let current = std::fs::read_link(&data).ok().filter(|current| are_same_files(current, &announced));
    match current {
        Some(_) => std::fs::remove_file(next)?,
        None => std::fs::rename(next, &data)?,
    }
    link_files(volume, &data)?;
    remove_old(volume, current.as_ref().unwrap_or(&announced))?;
    Ok(current.is_none())
}

/// Whether two directories hold the same files: their names say so, up to the instant of the writing.
fn are_same_files(one: &Path, other: &Path) -> bool {
    let version = |state: &Path| state.to_string_lossy().split('_').next().map(str::to_owned);
    version(one) == version(other)
}

/// Links to files that had none.
fn link_files(volume: &Path, data: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(data)? {
        let name = entry?.file_name();
        let link = volume.join(&name);
        if link.symlink_metadata().is_err() {
            symlink(Path::new(DATA).join(name), link)?;
        }
    }
    Ok(())
}

/// Removes links to files that are no more, and the directories of other states.
fn remove_old(volume: &Path, current: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(volume)? {
        let entry = entry?;
        let name = entry.file_name();
        let is_state = entry.file_type()?.is_dir() && name.to_string_lossy().starts_with("..");
        let is_link = entry.file_type()?.is_symlink() && name != DATA;
        if is_state && name != current.as_os_str() {
            std::fs::remove_dir_all(entry.path())?;
        } else if is_link && !volume.join(DATA).join(&name).exists() {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}
