//! The folder where a cluster's state is kept: one per cluster, marked as skiff's, held while it is used.
//!
//! Called by `app` at its start and by `skiff down`. It touches the disk and nothing else.
//!
//! **Invariants**
//! - A folder that holds anything is used only when it carries skiff's mark, or the store of a skiff that made no marks yet.
//! - Only plain files of the names in [`FILES`] and [`KEYS`] are ever removed; a link is never followed on the way to them.
//! - Who uses the folder holds the lock of a file in it. The lock ends with its process, so nothing is read into a number in a file.
//! - The mode of a folder that skiff did not make stays.
//!
//! **Not here**: what the files hold (`store`, `server::tls`, `access`); who may run the cluster (`claim`).

use super::access::Access;
use crate::base::{json, ordered::SortList as _, rng::Rng};
use anyhow::{Context as _, bail};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use serde::{Deserialize, Serialize};
use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Read as _, Write as _},
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _},
    },
    path::{Path, PathBuf},
    time::Duration,
};

/// The file that says whose folder it is.
const MARK: &str = "skiff.json";
/// The mark while it is being written.
const MARK_DRAFT: &str = "skiff.json.new";
/// The file whose lock the user of the folder holds.
const LOCK: &str = "skiff.lock";
const STORE: &str = "state.redb";
const ACCESS: &str = "kubeconfig";
const PKI: &str = "pki";
const LOG: &str = "skiff.log";
const LOG_BEFORE: &str = "skiff.log.1";
/// What [`MARK`] is written in.
const FORMAT: u32 = 1;
/// What skiff makes in the folder, in the order in which it is removed: what makes the folder skiff's comes last. An earlier skiff
/// wrote `skiff.pid`. To add a file: its name here, or `skiff down` leaves it.
const FILES: [&str; 8] = [ACCESS, LOG, LOG_BEFORE, "skiff.pid", STORE, MARK_DRAFT, MARK, LOCK];
/// The pairs of certificate and key in the folder [`PKI`]; tokens need a key alone.
const KEYS: [&str; 5] = ["admin", "apiserver", "ca", "proxy", "sa"];
/// How the store's file begins. Source: `redb`'s `MAGICNUMBER`.
const STORE_BEGINS: [u8; 9] = [b'r', b'e', b'd', b'b', 0x1a, 0x0a, 0xa9, 0x0d, 0x0a];
/// How often a lock is tried that another process has.
const LOCK_TRIES: usize = 100;
/// How long between two tries. A process that ends gives its claim on the cluster back before its files are closed.
const LOCK_PACE: Duration = Duration::from_millis(20);
/// What a file system itself puts into an empty folder.
const LOST: &str = "lost+found";
/// The folder in which users put profiles of seccomp for their containers: it is theirs.
const SECCOMP: &str = "seccomp";

/// A cluster's folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataDir(PathBuf);

/// What a folder's mark says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    format: u32,
    /// The cluster whose state it is.
    pub cluster: String,
    /// Tells this state from every other of a cluster of this name: random, made with the folder.
    pub state: String,
    /// The range of addresses that the cluster has, so that a network that is lost can be made again as it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub range: Option<String>,
}

impl Mark {
    fn new(cluster: &str, state: String) -> Self {
        Self { format: FORMAT, cluster: cluster.to_owned(), state, range: None }
    }
}

/// What is at a path.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    Nothing,
    Empty,
    Marked(Mark),
    /// The state of a skiff that made no marks; its cluster's name when that can be read.
    Earlier(Option<String>),
    /// Something that is not skiff's; one name in it.
    Foreign(String),
}

/// A folder that this process uses, and no other.
#[derive(Debug)]
pub struct Held {
    dir: DataDir,
    /// What its mark says.
    pub mark: Mark,
    /// Whether there was no state in it before.
    pub is_new: bool,
    /// The folders that were made on the way to it, outermost first.
    made: Vec<PathBuf>,
    _lock: File,
}

/// A folder that is to go.
#[derive(Debug)]
pub enum Leaving {
    /// There is none.
    Nothing,
    /// It is the cluster's.
    Ours(Held),
    /// It is not skiff's, and stays; one name in it.
    Foreign(String),
}

impl DataDir {
    /// The folder of a cluster when the user names none: `$XDG_DATA_HOME/skiff/<name>`, else `~/.local/share/skiff/<name>`.
    pub fn default_path(cluster: &str) -> anyhow::Result<PathBuf> {
        let base = std::env::var_os("XDG_DATA_HOME").filter(|v| !v.is_empty()).map(PathBuf::from);
        let base = if let Some(base) = base {
            base
        } else {
            let home = std::env::var_os("HOME").context("$HOME is not set: choose a folder with --data-dir")?;
            Path::new(&home).join(".local/share")
        };
        Ok(base.join("skiff").join(cluster))
    }

    /// Takes the folder for a cluster, and makes it, for this user alone, when there is none.
    ///
    /// # Errors
    /// It holds what is not skiff's, or another cluster's state; another process uses it; it is a link. Nothing was made then.
    pub async fn take(path: &Path, cluster: &str) -> anyhow::Result<Held> {
        let what = || format!("cannot use the data folder {}: choose another with --data-dir", path.display());
        allow(&look(path)?, path, cluster)?;
        let made = make_folder(path).with_context(what)?;
        let taken = Self::take_made(path, cluster, made.clone()).await;
        if taken.is_err() {
            remove_empty(&made);
        }
        taken.with_context(what)
    }

    async fn take_made(path: &Path, cluster: &str, made: Vec<PathBuf>) -> anyhow::Result<Held> {
        let lock = lock(path).await?;
        store_is_closed(path).await?;
        // Another may have been quicker before the lock was ours.
        let found = look(path)?;
        allow(&found, path, cluster)?;
        let is_new = !matches!(found, Found::Marked(_) | Found::Earlier(_));
        let mark = match found {
            Found::Marked(mark) => mark,
            _ => write_mark(path, Mark::new(cluster, Rng::from_system().uid()))?,
        };
        Ok(Held { dir: Self(path.to_owned()), mark, is_new, made, _lock: lock })
    }

    /// Takes the folder of a cluster that is to go.
    ///
    /// # Errors
    /// It is another cluster's, or another process uses it: then the cluster must not go either.
    pub async fn take_for_removal(path: &Path, cluster: &str) -> anyhow::Result<Leaving> {
        let found = look(path)?;
        let mark = match &found {
            Found::Nothing | Found::Empty => return Ok(Leaving::Nothing),
            Found::Foreign(name) => return Ok(Leaving::Foreign(name.clone())),
            Found::Marked(mark) => mark.clone(),
            Found::Earlier(_) => Mark::new(cluster, String::new()),
        };
        allow(&found, path, cluster)?;
        let lock = lock(path).await?;
        store_is_closed(path).await?;
        let dir = Self(path.to_owned());
        Ok(Leaving::Ours(Held { dir, mark, is_new: false, made: Vec::new(), _lock: lock }))
    }

    /// Takes the folder of a cluster that has a state.
    ///
    /// # Errors
    /// It has none, it is another cluster's, or another process uses it.
    pub async fn take_existing(path: &Path, cluster: &str) -> anyhow::Result<Held> {
        match Self::take_for_removal(path, cluster).await? {
            Leaving::Ours(held) => Ok(held),
            Leaving::Nothing | Leaving::Foreign(_) => {
                bail!("the cluster {cluster} has no state in {}: name its folder with --data-dir", path.display())
            }
        }
    }

    /// What the folder's mark says.
    pub fn mark(&self) -> anyhow::Result<Mark> {
        read_mark(&self.0)
    }

    /// The folder of a cluster that ran before, made or not.
    pub fn at(path: &Path) -> Self {
        Self(path.to_owned())
    }

    /// The store's file.
    pub fn store(&self) -> PathBuf {
        self.0.join(STORE)
    }

    /// The file whose lock the folder's user holds.
    pub fn lock_file(&self) -> PathBuf {
        self.0.join(LOCK)
    }

    /// The keys' folder.
    pub fn pki(&self) -> PathBuf {
        self.0.join(PKI)
    }

    /// The folder of the profiles of seccomp that containers may name.
    pub fn seccomp(&self) -> PathBuf {
        self.0.join(SECCOMP)
    }

    /// The control plane's log; the part before it is beside it (`base::log_file`).
    pub fn log(&self) -> PathBuf {
        self.0.join(LOG)
    }

    /// The names of the clusters whose folders are where they are when the user names none.
    pub fn known_clusters() -> Vec<String> {
        let Ok(path) = Self::default_path("skiff") else { return Vec::new() };
        let folders = path.parent().and_then(|base| fs::read_dir(base).ok()).into_iter().flatten().flatten();
        let marked = folders.filter(|folder| folder.path().join(MARK).is_file());
        let mut names: Vec<String> = marked.map(|folder| folder.file_name().to_string_lossy().into_owned()).collect();
        names.sort_list();
        names
    }

    /// The administrator's kubeconfig.
    pub fn access(&self) -> PathBuf {
        self.0.join(ACCESS)
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// What tells this folder from every other of the machine, by whatever path it is reached: a container's, say.
    pub fn identity(&self) -> Option<String> {
        let meta = fs::metadata(&self.0).ok()?;
        Some(format!("{}:{}", meta.dev(), meta.ino()))
    }
}

impl Held {
    /// Where the files are.
    pub fn dir(&self) -> &DataDir {
        &self.dir
    }

    /// Gives the folder the identity of a state that was elsewhere, as the user asked.
    pub fn become_state(&mut self, state: &str) -> anyhow::Result<()> {
        self.mark = write_mark(&self.dir.0, Mark { state: state.to_owned(), ..self.mark.clone() })?;
        Ok(())
    }

    /// Gives the folder the identity and the range of a state that was saved; it is its state's folder from now on.
    pub fn become_restored(&self, state: &str, range: Option<&str>) -> anyhow::Result<()> {
        let mark = Mark { state: state.to_owned(), range: range.map(str::to_owned), ..self.mark.clone() };
        write_mark(&self.dir.0, mark).map(drop)
    }

    /// Remembers the cluster's range of addresses.
    pub fn remember_range(&mut self, range: &str) -> anyhow::Result<()> {
        if self.mark.range.as_deref() != Some(range) {
            self.mark = write_mark(&self.dir.0, Mark { range: Some(range.to_owned()), ..self.mark.clone() })?;
        }
        Ok(())
    }

    /// Removes what skiff made in the folder, then the folder if nothing is left in it, then the empty folders that were made on
    /// the way to it. Returns what was left.
    pub fn remove(self) -> anyhow::Result<Vec<String>> {
        let path = &self.dir.0;
        let left = remove_files(path).with_context(|| format!("cannot remove the state in {}", path.display()))?;
        // A mount point or a parent that does not allow it keeps an empty folder, which harms nobody.
        drop(fs::remove_dir(path));
        remove_empty(&self.made);
        Ok(left)
    }
}

/// Removes folders that are empty, the last first.
fn remove_empty(folders: &[PathBuf]) {
    for folder in folders.iter().rev() {
        drop(fs::remove_dir(folder));
    }
}

/// Makes the folder and its parents; returns those that were made, outermost first.
fn make_folder(path: &Path) -> io::Result<Vec<PathBuf>> {
    let missing: Vec<&Path> = path.ancestors().take_while(|p| !p.as_os_str().is_empty() && !p.exists()).collect();
    let mut made = Vec::new();
    for folder in missing.into_iter().rev() {
        let access = if folder == path { 0o700 } else { 0o755 };
        match DirBuilder::new().mode(access).create(folder) {
            Ok(()) => made.push(folder.to_owned()),
            Err(err) if err.kind() == io::ErrorKind::AlreadyExists => {}
            Err(err) => {
                remove_empty(&made);
                return Err(err);
            }
        }
    }
    Ok(made)
}

/// Looks at a folder without changing it.
fn look(path: &Path) -> anyhow::Result<Found> {
    let cannot = || format!("cannot look into the data folder {}", path.display());
    let meta = match fs::symlink_metadata(path) {
        Ok(meta) => meta,
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(Found::Nothing),
        Err(err) => return Err(err).with_context(cannot),
    };
    if meta.is_symlink() {
        let target = fs::canonicalize(path).map_or_else(|_| "nothing".to_owned(), |t| t.display().to_string());
        bail!("{} is a link to {target}: name the folder itself with --data-dir", path.display());
    }
    if !meta.is_dir() {
        bail!("{} is not a folder: choose another with --data-dir", path.display());
    }
    let mut names = Vec::new();
    for entry in fs::read_dir(path).with_context(cannot)? {
        names.push(entry.with_context(cannot)?.file_name().to_string_lossy().into_owned());
    }
    if names.iter().any(|n| n == MARK) {
        return read_mark(path).map(Found::Marked);
    }
    if is_earlier_store(&path.join(STORE)) && path.join(PKI).is_dir() {
        let access = Access::read(&path.join(ACCESS)).ok();
        return Ok(Found::Earlier(access.map(|a| a.name)));
    }
    names.sort_list();
    let foreign = names.into_iter().find(|n| ![LOCK, MARK_DRAFT, LOST, SECCOMP].contains(&n.as_str()));
    Ok(foreign.map_or(Found::Empty, Found::Foreign))
}

/// Whether a cluster may use what was found.
fn allow(found: &Found, path: &Path, cluster: &str) -> anyhow::Result<()> {
    let shown = path.display();
    match found {
        Found::Marked(mark) if mark.format > FORMAT => {
            bail!("{shown} was made by a newer skiff (format {}): use that one", mark.format)
        }
        Found::Marked(Mark { cluster: other, .. }) | Found::Earlier(Some(other)) if other != cluster => bail!(
            "{shown} holds the state of the cluster {other}, not of {cluster}: add --name {other}, or choose another --data-dir"
        ),
        Found::Nothing | Found::Empty | Found::Marked(_) | Found::Earlier(_) => Ok(()),
        Found::Foreign(name) => bail!(
            "the folder {shown} is not skiff's: it holds {name:?} and no mark of skiff. Choose a new or an empty one with --data-dir"
        ),
    }
}

fn is_earlier_store(path: &Path) -> bool {
    let begins = || {
        let mut first = [0; STORE_BEGINS.len()];
        OpenOptions::new().read(true).custom_flags(NO_LINK).open(path)?.read_exact(&mut first)?;
        Ok::<_, io::Error>(first == STORE_BEGINS)
    };
    fs::symlink_metadata(path).is_ok_and(|m| m.is_file()) && begins().unwrap_or(false)
}

/// A link is an error where a file of skiff's own is expected.
const NO_LINK: i32 = OFlags::NOFOLLOW.bits().cast_signed();

fn read_mark(path: &Path) -> anyhow::Result<Mark> {
    let file = path.join(MARK);
    let mut text = String::new();
    let read = OpenOptions::new().read(true).custom_flags(NO_LINK).open(&file);
    read.and_then(|f| f.take(4096).read_to_string(&mut text))
        .with_context(|| format!("cannot read {}", file.display()))?;
    json::read(text.as_bytes()).with_context(|| {
        format!(
            "{} is damaged, so it is not known whose folder it is: mend it, or choose another with --data-dir",
            file.display()
        )
    })
}

fn write_mark(path: &Path, mark: Mark) -> anyhow::Result<Mark> {
    let text = serde_json::to_string(&mark).context("cannot write the mark as JSON")?;
    let draft = path.join(MARK_DRAFT);
    let write = || {
        match fs::remove_file(&draft) {
            Err(err) if err.kind() != io::ErrorKind::NotFound => return Err(err),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&draft, path.join(MARK))
    };
    write().with_context(|| format!("cannot write {}", path.join(MARK).display()))?;
    Ok(mark)
}

/// Takes the folder's lock. The file names the process for people; what counts is the lock.
async fn lock(path: &Path) -> anyhow::Result<File> {
    let name = path.join(LOCK);
    let cannot = || format!("cannot lock {}", name.display());
    loop {
        let options = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).clone();
        let mut file = options.clone().custom_flags(NO_LINK).open(&name).with_context(cannot)?;
        if !lock_soon(&file).await.with_context(cannot)? {
            let mut pid = String::new();
            file.take(20).read_to_string(&mut pid).with_context(cannot)?;
            bail!("another skiff uses it already (process {}, as {} says)", pid.trim(), name.display());
        }
        // Whoever held it before may have removed the file: then this lock keeps nobody out.
        let (mine, now) = (file.metadata().with_context(cannot)?, fs::symlink_metadata(&name));
        if now.is_ok_and(|now| (now.dev(), now.ino()) == (mine.dev(), mine.ino())) {
            file.set_len(0).with_context(cannot)?;
            writeln!(file, "{}", std::process::id()).with_context(cannot)?;
            return Ok(file);
        }
    }
}

/// Takes a file's lock; `false`: another process keeps it.
async fn lock_soon(file: &File) -> io::Result<bool> {
    let mut every = tokio::time::interval(LOCK_PACE);
    for _ in 0..LOCK_TRIES {
        every.tick().await;
        match file.try_lock() {
            Ok(()) => return Ok(true),
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(err)) => return Err(err),
        }
    }
    Ok(false)
}

/// Returns once no process has the store open: one that ends may, for a moment, and a skiff that made no marks holds no other lock.
async fn store_is_closed(path: &Path) -> anyhow::Result<()> {
    let store = path.join(STORE);
    let Ok(file) = OpenOptions::new().read(true).custom_flags(NO_LINK).open(&store) else { return Ok(()) };
    // A file system without locks is the store's to refuse.
    if let Ok(false) = lock_soon(&file).await {
        bail!("another process has {} open, a skiff of an earlier version say: end it first", store.display());
    }
    Ok(())
}

/// Removes skiff's own files, and says what it left.
fn remove_files(path: &Path) -> io::Result<Vec<String>> {
    let folder = open_folder(rustix::fs::CWD, path)?;
    if let Ok(keys) = open_folder(&folder, Path::new(PKI)) {
        for name in KEYS.iter().flat_map(|k| ["crt", "key"].map(|end| format!("{k}.{end}"))) {
            remove_file(&keys, &name)?;
            remove_file(&keys, &format!("{name}.tmp"))?;
        }
        match rustix::fs::unlinkat(&folder, PKI, AtFlags::REMOVEDIR) {
            Ok(()) | Err(rustix::io::Errno::NOTEMPTY | rustix::io::Errno::NOENT) => {}
            Err(err) => return Err(err.into()),
        }
    }
    for draft in names_in(&folder)?.iter().filter(|n| is_store_draft(n)) {
        remove_file(&folder, draft)?;
    }
    for name in FILES {
        remove_file(&folder, name)?;
    }
    names_in(&folder)
}

/// The store's file while it is made: `state.redb.<random>.new`.
fn is_store_draft(name: &str) -> bool {
    name.strip_prefix(STORE).and_then(|rest| rest.strip_suffix(".new")).is_some_and(|id| id.starts_with('.'))
}

fn open_folder(at: impl AsFd, path: &Path) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(at, path, flags, Mode::empty())
}

/// Removes a plain file; anything else of that name stays.
fn remove_file(folder: &OwnedFd, name: &str) -> io::Result<()> {
    match rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile => {
            Ok(rustix::fs::unlinkat(folder, name, AtFlags::empty())?)
        }
        Ok(_) | Err(rustix::io::Errno::NOENT) => Ok(()),
        Err(err) => Err(err.into()),
    }
}

fn names_in(folder: &OwnedFd) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(folder)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name != "." && name != ".." {
            names.push(name);
        }
    }
    names.sort_list();
    Ok(names)
}

#[cfg(test)]
mod tests;
