//! The `redb` backend: one file, one durable transaction for each batch.
//!
//! Opened by `app`, used by the store's commit thread. The only file that names `redb`.
//!
//! A transaction is redb's one-phase commit: checksummed pages are written beside the old ones, then the file is synced once.
//! The file holds the current state only; the history that watches resume from is memory's.
//!
//! **Invariants**
//! - After a failed commit the file may or may not hold the batch, and redb wants to be opened anew. The batch is kept until the file
//!   is known not to hold it: before anything else is written, a batch that did land is taken back.
//! - The file is written only while it holds what this process last wrote or read.
//!
//! **Not here**: which writes may happen (`stage`), when (`commit`).

use super::{
    Backend, Change, Entry,
    record::{decode, encode},
};
use crate::{
    api::meta::Revision,
    base::{ordered::Map, rng::Rng, task::panic_text},
};
use redb::{Builder, Database, ReadableDatabase, ReadableTable, TableDefinition, backends::FileBackend};
use std::{
    fs::{File, OpenOptions, hard_link, remove_file, rename},
    io,
    os::unix::fs::OpenOptionsExt as _,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::Arc,
};
use tracing::{info, warn};

const OBJECTS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("objects");
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
/// Row of `META`: how the tables are to be read.
const FORMAT: &str = "format";
/// Row of `META`: the last revision.
const REVISION: &str = "revision";
/// What this code writes in [`FORMAT`].
const FORMAT_NOW: u64 = 1;

/// Reads are served from the store's memory, so redb needs to remember little more than its branch pages.
const CACHE_BYTES: usize = 2 << 20;

/// Why the store's file cannot be used. The text names the file, the cause and the remedy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DiskError {
    /// Another process has the file open.
    #[error("{} is in use: another skiff serves this cluster already; use that one, stop it first, or start another cluster with --name", .path.display())]
    Locked {
        /// The store's file.
        path: PathBuf,
    },
    /// The user may not read and write the file.
    #[error("cannot open {}: permission denied; run skiff as the user who owns it, or change its owner (chown)", .path.display())]
    Permission {
        /// The store's file.
        path: PathBuf,
    },
    /// The file system does not take writes.
    #[error("cannot write {}: its file system is read-only; remount it read-write, and look for disk errors in the kernel log (dmesg)", .path.display())]
    ReadOnly {
        /// The store's file.
        path: PathBuf,
    },
    /// There is no room.
    #[error("cannot write {}: no space left on its disk, or the quota is used up; free some space, then try again", .path.display())]
    Full {
        /// The store's file.
        path: PathBuf,
    },
    /// The directory, or a file that was there, does not exist.
    #[error("cannot open {}: it does not exist; create its directory, or if it was removed while skiff ran, restart skiff", .path.display())]
    Missing {
        /// The store's file.
        path: PathBuf,
    },
    /// The file is not what skiff wrote.
    #[error("{0} is damaged: {cause}; move it away (mv {0} {0}.damaged), then restore a snapshot (skiff snapshot restore FILE), or begin with an empty cluster (skiff up)", .path.display())]
    Corrupt {
        /// The store's file.
        path: PathBuf,
        /// What is wrong.
        cause: String,
    },
    /// A newer skiff wrote the file.
    #[error("{} was written by a newer skiff: it has format {found}, this skiff reads up to {FORMAT_NOW}; use the newer skiff", .path.display())]
    Newer {
        /// The store's file.
        path: PathBuf,
        /// The file's format.
        found: u64,
    },
    /// Someone else changed the file between two writes.
    #[error("{} was changed by another process: it is at revision {found}, this skiff wrote {expected}; restart skiff to read it anew", .path.display())]
    Changed {
        /// The store's file.
        path: PathBuf,
        /// The revision in the file.
        found: Revision,
        /// The last revision of this process.
        expected: Revision,
    },
    /// Anything else that the system or `redb` reports.
    #[error("cannot use {}: {cause}; check its directory and the health of the disk (dmesg)", .path.display())]
    Other {
        /// The store's file.
        path: PathBuf,
        /// What was reported.
        cause: String,
    },
}

impl DiskError {
    fn new(path: &Path, err: impl Into<redb::Error>) -> Self {
        let path = path.to_owned();
        match err.into() {
            redb::Error::DatabaseAlreadyOpen | redb::Error::LockProtocolMismatch => Self::Locked { path },
            redb::Error::Io(err) => Self::of_io(path, &err),
            err @ (redb::Error::Corrupted(_)
            | redb::Error::UpgradeRequired(_)
            | redb::Error::RepairAborted
            | redb::Error::TableDoesNotExist(_)
            | redb::Error::TableTypeMismatch { .. }
            | redb::Error::TypeDefinitionChanged { .. }) => Self::Corrupt { path, cause: err.to_string() },
            err => Self::Other { path, cause: err.to_string() },
        }
    }

    fn of_io(path: PathBuf, err: &io::Error) -> Self {
        use io::ErrorKind as Kind;
        match err.kind() {
            Kind::PermissionDenied => Self::Permission { path },
            Kind::ReadOnlyFilesystem => Self::ReadOnly { path },
            Kind::StorageFull | Kind::QuotaExceeded | Kind::FileTooLarge => Self::Full { path },
            Kind::NotFound | Kind::NotADirectory => Self::Missing { path },
            // What redb reports of a file that is none of its own.
            Kind::InvalidData | Kind::UnexpectedEof => Self::Corrupt { path, cause: err.to_string() },
            _ => Self::Other { path, cause: err.to_string() },
        }
    }
}

/// Opens the file; the flag allows to create it.
type OpenFile = Box<dyn Fn(&Path, bool) -> Result<Database, redb::Error> + Send>;

/// Keeps the state in a file.
pub struct DiskBackend {
    path: PathBuf,
    open: OpenFile,
    // `None` after an error: redb does not go on with a file that failed once.
    db: Option<Database>,
    committed: Revision,
    // A batch that failed and that the file may hold nevertheless.
    unsure: Vec<Arc<Change>>,
}

impl std::fmt::Debug for DiskBackend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DiskBackend").field("path", &self.path).finish_non_exhaustive()
    }
}

impl DiskBackend {
    /// Opens the file, or creates it, readable by its owner alone: it holds Secrets. Its directory must exist.
    ///
    /// After a crash the file is checked as a whole and repaired.
    ///
    /// # Errors
    /// The file is locked, damaged, newer than this skiff, or the system refuses it.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, DiskError> {
        Self::open_with(path.into(), Box::new(open_file))
    }

    fn open_with(path: PathBuf, open: OpenFile) -> Result<Self, DiskError> {
        let (db, committed) = guarded(&path, || {
            let db = open(&path, true).map_err(|err| DiskError::new(&path, err))?;
            let committed = read_meta(&path, &db)?;
            Ok((db, committed))
        })?;
        Ok(Self { path, open, db: Some(db), committed, unsure: Vec::new() })
    }

    fn write(&mut self, changes: &[Arc<Change>]) -> Result<(), DiskError> {
        let Some(last) = changes.last() else { return Ok(()) };
        self.recover()?;
        let db = self.db.as_ref().expect("recovered just now");
        // Only what a key has in the end is written, in key order, which the tree likes.
        let states = changes.iter().map(|c| (&*c.key, c.after.as_deref())).collect();
        if let Err(err) = write_states(db, &states, last.revision) {
            self.db = None;
            self.unsure = changes.to_vec();
            return Err(DiskError::new(&self.path, err));
        }
        self.committed = last.revision;
        Ok(())
    }

    /// Opens the file anew if it failed, and takes back what was refused but landed.
    fn recover(&mut self) -> Result<(), DiskError> {
        if self.db.is_some() {
            return Ok(());
        }
        let db = guarded(&self.path, || {
            let db = (self.open)(&self.path, false).map_err(|err| DiskError::new(&self.path, err))?;
            self.take_back(&db)?;
            Ok(db)
        })?;
        info!(component = "store", path = %self.path.display(), revision = self.committed.0, "opened the store's file again");
        self.unsure = Vec::new();
        self.db = Some(db);
        Ok(())
    }

    /// Writes the revision that the file has already.
    fn write_nothing(&mut self) -> Result<(), DiskError> {
        self.recover()?;
        let db = self.db.as_ref().expect("recovered just now");
        if let Err(err) = write_states(db, &Map::new(), self.committed) {
            self.db = None;
            return Err(DiskError::new(&self.path, err));
        }
        Ok(())
    }

    fn take_back(&self, db: &Database) -> Result<(), DiskError> {
        let found = read_meta(&self.path, db)?;
        if found == self.committed {
            return Ok(());
        }
        if self.unsure.last().is_none_or(|last| last.revision != found) {
            return Err(DiskError::Changed { path: self.path.clone(), found, expected: self.committed });
        }
        // In reverse, so that a key's first change has the last word.
        let states = self.unsure.iter().rev().map(|c| (&*c.key, c.before.as_deref())).collect();
        write_states(db, &states, self.committed).map_err(|err| DiskError::new(&self.path, err))
    }
}

impl Backend for DiskBackend {
    fn load(&mut self) -> Result<(Revision, Vec<Entry>), String> {
        let db = self.db.as_ref().expect("a backend is loaded before it can fail");
        let entries = guarded(&self.path, || read_entries(&self.path, db, self.committed));
        entries.map(|entries| (self.committed, entries)).map_err(|err| err.to_string())
    }

    fn commit(&mut self, changes: &[Arc<Change>]) -> Result<(), String> {
        self.write(changes).map_err(|err| {
            warn!(component = "store", err = %err, "a write failed; nothing was changed");
            // At once rather than at the next write: a crash in between must not find the refused batch.
            if let Err(again) = self.recover() {
                warn!(component = "store", err = %again, "the store's file does not open again yet");
            }
            err.to_string()
        })
    }

    fn probe(&mut self) -> Result<(), String> {
        self.write_nothing().map_err(|err| err.to_string())
    }
}

/// Runs what reads a file that may be damaged: redb panics at some damage.
fn guarded<T>(path: &Path, read: impl FnOnce() -> Result<T, DiskError>) -> Result<T, DiskError> {
    catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(|panic| {
        let cause = panic_text(&*panic).to_owned();
        Err(DiskError::Corrupt { path: path.to_owned(), cause })
    })
}

fn open_file(path: &Path, create: bool) -> Result<Database, redb::Error> {
    if create && !path.try_exists()? {
        create_file(path)?;
    }
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    if file.metadata()?.len() == 0 {
        // redb would take it for a new one, and an error would have become an empty cluster.
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it is empty").into());
    }
    Ok(builder().create_with_backend(FileBackend::new(file)?)?)
}

/// A name for the file while it is made.
fn draft_of(path: &Path) -> PathBuf {
    let mut draft = path.as_os_str().to_owned();
    draft.push(format!(".{}.new", Rng::from_system().uid()));
    draft.into()
}

/// Makes the file under another name first: a crash in between leaves nothing under this one.
fn create_file(path: &Path) -> Result<(), redb::Error> {
    let draft = draft_of(path);
    let made = fill_file(&draft, Revision(0), &Map::new()).and_then(|()| Ok(publish_file(&draft, path)?));
    // After a rename there is nothing left to remove.
    drop(remove_file(&draft));
    made
}

fn fill_file(draft: &Path, revision: Revision, states: &Map<&str, Option<&Entry>>) -> Result<(), redb::Error> {
    let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(draft)?;
    let db = builder().create_with_backend(FileBackend::new(file)?)?;
    initialise(&db)?;
    write_states(&db, states, revision)?;
    Ok(db.close()?)
}

/// Makes a file that holds these entries the file, in place of one that is there and that no process has open.
///
/// # Errors
/// The system's. What was there is there still then.
pub fn write_anew(path: &Path, revision: Revision, entries: &[Entry]) -> Result<(), DiskError> {
    let states = entries.iter().map(|entry| (&*entry.key, Some(entry))).collect();
    let draft = draft_of(path);
    let made = fill_file(&draft, revision, &states).and_then(|()| {
        rename(&draft, path)?;
        Ok(sync_folder(path)?)
    });
    drop(remove_file(&draft));
    made.map_err(|err| DiskError::new(path, err))
}

/// Gives the file its name, unless another process was quicker: then that one's file is the file.
fn publish_file(draft: &Path, path: &Path) -> io::Result<()> {
    match hard_link(draft, path) {
        Err(err) if err.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        // Not every file system has links.
        Err(_) => rename(draft, path)?,
        Ok(()) => {}
    }
    sync_folder(path)
}

/// Brings the names in a file's folder to the disk.
fn sync_folder(path: &Path) -> io::Result<()> {
    let directory = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(directory)?.sync_all()
}

fn builder() -> Builder {
    let mut builder = Builder::new();
    builder.set_cache_size(CACHE_BYTES).set_check_integrity_on_open(true);
    builder
}

/// Checks the format and returns the last revision. A new file gets both.
fn read_meta(path: &Path, db: &Database) -> Result<Revision, DiskError> {
    let wrong = |err: redb::Error| DiskError::new(path, err);
    let found = meta_rows(db).map_err(wrong)?;
    match found {
        Some((Some(FORMAT_NOW), Some(revision))) => Ok(Revision(revision)),
        Some((Some(found), _)) if found > FORMAT_NOW => Err(DiskError::Newer { path: path.to_owned(), found }),
        Some(_) => Err(DiskError::Corrupt { path: path.to_owned(), cause: "its format is not known".to_owned() }),
        None => initialise(db).map_err(wrong),
    }
}

type MetaRows = (Option<u64>, Option<u64>);

fn meta_rows(db: &Database) -> Result<Option<MetaRows>, redb::Error> {
    let txn = db.begin_read()?;
    if txn.list_tables()?.next().is_none() {
        return Ok(None);
    }
    let meta = txn.open_table(META)?;
    let row = |name| Ok::<_, redb::Error>(meta.get(name)?.map(|v| v.value()));
    Ok(Some((row(FORMAT)?, row(REVISION)?)))
}

fn initialise(db: &Database) -> Result<Revision, redb::Error> {
    let txn = db.begin_write()?;
    txn.open_table(OBJECTS)?;
    let mut meta = txn.open_table(META)?;
    meta.insert(FORMAT, FORMAT_NOW)?;
    meta.insert(REVISION, 0)?;
    drop(meta);
    txn.commit()?;
    Ok(Revision(0))
}

fn write_states(db: &Database, states: &Map<&str, Option<&Entry>>, revision: Revision) -> Result<(), redb::Error> {
    let txn = db.begin_write()?;
    let mut objects = txn.open_table(OBJECTS)?;
    let mut record = Vec::new();
    for (key, state) in states {
        match state {
            Some(entry) => {
                record.clear();
                encode(entry, &mut record);
                objects.insert(key, &*record)?;
            }
            None => drop(objects.remove(key)?),
        }
    }
    drop(objects);
    txn.open_table(META)?.insert(REVISION, revision.0)?;
    txn.commit()?;
    Ok(())
}

fn read_entries(path: &Path, db: &Database, committed: Revision) -> Result<Vec<Entry>, DiskError> {
    let wrong = |err: redb::Error| DiskError::new(path, err);
    let txn = db.begin_read().map_err(|err| wrong(err.into()))?;
    let objects = txn.open_table(OBJECTS).map_err(|err| wrong(err.into()))?;
    let mut entries = Vec::new();
    for row in objects.iter().map_err(|err| wrong(err.into()))? {
        let (key, record) = row.map_err(|err| wrong(err.into()))?;
        let entry = decode(key.value(), record.value()).filter(|entry| entry.modified <= committed);
        let unreadable =
            || DiskError::Corrupt { path: path.to_owned(), cause: format!("{} is unreadable", key.value()) };
        entries.push(entry.ok_or_else(unreadable)?);
    }
    Ok(entries)
}

#[cfg(test)]
pub(super) mod tests {
    use super::{
        super::{
            Limits, Store, TxnError,
            contract::{commit, delete, dump, put, put_with, terms, write},
        },
        *,
    };
    use expect_test::{Expect, expect};
    use std::sync::{Mutex, MutexGuard};

    /// A disk in memory: it can fail, and lose its power. Clones share it.
    #[derive(Clone, Debug, Default)]
    pub(in crate::store) struct Platter(Arc<Mutex<Sectors>>);

    #[derive(Debug, Default)]
    struct Sectors {
        // What a reader sees, and what survives a power cut for sure.
        seen: Vec<u8>,
        synced: Vec<u8>,
        unsynced: Vec<(usize, Vec<u8>)>,
        fault: Option<Fault>,
    }

    #[derive(Clone, Copy, Debug)]
    struct Fault {
        /// Changes of the disk that still succeed.
        after: u32,
        kind: io::ErrorKind,
        /// Whether the failing changes happen all the same.
        lands: bool,
    }

    const SECTOR: usize = 512;
    /// Where redb has what names the last commit.
    const HEADER: usize = 512;

    impl Platter {
        pub(in crate::store) fn backend(&self) -> Result<DiskBackend, DiskError> {
            let platter = self.clone();
            let open = move |_: &Path, _| Ok(builder().create_with_backend(platter.clone())?);
            DiskBackend::open_with("/platter/store.redb".into(), Box::new(open))
        }

        /// Each sector that was not synced is kept or lost by chance.
        pub(in crate::store) fn cut_power(&self, rng: &Rng) {
            let mut disk = self.lock();
            disk.fault = None;
            let unsynced = std::mem::take(&mut disk.unsynced);
            for (at, data) in unsynced {
                for (n, sector) in data.chunks(SECTOR).enumerate().filter(|_| rng.one_in(2)) {
                    store_bytes(&mut disk.synced, at + n * SECTOR, sector);
                }
            }
            disk.seen = disk.synced.clone();
        }

        fn lock(&self) -> MutexGuard<'_, Sectors> {
            self.0.lock().unwrap()
        }

        /// From now on nothing reaches the disk.
        pub(in crate::store) fn unplug(&self) {
            self.fail(0, io::ErrorKind::Other, false);
        }

        fn fail(&self, after: u32, kind: io::ErrorKind, lands: bool) {
            self.lock().fault = Some(Fault { after, kind, lands });
        }

        fn heal(&self) {
            self.lock().fault = None;
        }

        fn change(&self, change: impl FnOnce(&mut Sectors)) -> io::Result<()> {
            let mut disk = self.lock();
            match &mut disk.fault {
                Some(Fault { after: 0, kind, lands }) => {
                    let (kind, lands) = (*kind, *lands);
                    if lands {
                        change(&mut disk);
                    }
                    Err(kind.into())
                }
                fault => {
                    if let Some(fault) = fault {
                        fault.after -= 1;
                    }
                    change(&mut disk);
                    Ok(())
                }
            }
        }
    }

    fn store_bytes(into: &mut Vec<u8>, at: usize, data: &[u8]) {
        into.resize(into.len().max(at + data.len()), 0);
        into[at..at + data.len()].copy_from_slice(data);
    }

    impl redb::StorageBackend for Platter {
        fn len(&self) -> io::Result<u64> {
            Ok(self.lock().seen.len() as u64)
        }

        fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
            let at = usize::try_from(offset).unwrap();
            let disk = self.lock();
            out.copy_from_slice(disk.seen.get(at..at + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?);
            Ok(())
        }

        fn set_len(&self, len: u64) -> io::Result<()> {
            let len = usize::try_from(len).unwrap();
            self.change(|disk| {
                disk.seen.resize(len, 0);
                disk.synced.resize(len, 0);
                disk.unsynced.retain(|(at, data)| at + data.len() <= len);
            })
        }

        fn sync_data(&self) -> io::Result<()> {
            self.change(|disk| {
                for (at, data) in std::mem::take(&mut disk.unsynced) {
                    store_bytes(&mut disk.synced, at, &data);
                }
            })
        }

        fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
            let at = usize::try_from(offset).unwrap();
            self.change(|disk| {
                store_bytes(&mut disk.seen, at, data);
                disk.unsynced.push((at, data.to_vec()));
            })
        }
    }

    fn open(platter: &Platter) -> Store {
        Store::open(platter.backend().unwrap(), false).unwrap()
    }

    /// A file with a few objects in it, and what they are.
    async fn a_file(dir: &tempfile::TempDir) -> (PathBuf, Vec<String>) {
        let path = dir.path().join("store.redb");
        let store = Store::open(DiskBackend::open(&path).unwrap(), true).unwrap();
        for n in 0..50 {
            write(&store, &[put_with(&format!("k/{n}"), &"text ".repeat(n), terms(&["t"]))]).await;
        }
        (path, dump(&store))
    }

    /// What opening and reading a file says.
    fn complaint(path: &Path) -> String {
        let opened = DiskBackend::open(path).map_err(|err| err.to_string());
        opened.and_then(|mut disk| disk.load()).map(|_| ()).unwrap_err()
    }

    fn says(text: &str, path: &Path, expected: &Expect) {
        expected.assert_eq(&text.replace(path.to_str().unwrap(), "FILE"));
    }

    #[tokio::test]
    async fn a_second_skiff_is_refused_and_the_first_is_unharmed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store.redb");
        let store = Store::open(DiskBackend::open(&path).unwrap(), true).unwrap();
        says(
            &complaint(&path),
            &path,
            &expect![
                "FILE is in use: another skiff serves this cluster already; use that one, stop it first, or start another cluster with --name"
            ],
        );
        write(&store, &[put("a", "x")]).await;
        drop(store);
        assert_eq!(DiskBackend::open(&path).unwrap().load().unwrap().0, Revision(1));
    }

    #[tokio::test]
    async fn health_falls_with_a_refused_write_and_heals_without_another() {
        for kind in [io::ErrorKind::StorageFull, io::ErrorKind::ReadOnlyFilesystem, io::ErrorKind::Other] {
            let platter = Platter::default();
            let store = Store::open(platter.backend().unwrap(), true).unwrap();
            write(&store, &[put("a", "x")]).await;
            assert_eq!(store.health(), Ok(()));
            platter.fail(0, kind, false);
            let refused = commit(&store, &[], &[put("b", "x")]).await.unwrap_err();
            assert_eq!(store.health(), Err(refused.to_string()));
            store.failing().await;
            store.probe().await;
            assert!(store.health().is_err(), "{kind:?}");
            platter.heal();
            store.probe().await;
            assert_eq!((store.health(), store.revision()), (Ok(()), Revision(1)));
            write(&store, &[put("b", "y")]).await;
        }
    }

    #[tokio::test]
    async fn the_file_is_for_its_owner_only() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let (path, _) = a_file(&dir).await;
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[tokio::test]
    async fn a_file_that_cannot_be_used_is_named_with_cause_and_remedy() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("none/store.redb");
        says(
            &complaint(&path),
            &path,
            &expect![
                "cannot open FILE: it does not exist; create its directory, or if it was removed while skiff ran, restart skiff"
            ],
        );
        let path = dir.path().join("garbage");
        std::fs::write(&path, "this is not a database, however long one looks at it".repeat(1_000)).unwrap();
        says(
            &complaint(&path),
            &path,
            &expect![
                "FILE is damaged: Not a redb database: magic number mismatch; move it away (mv FILE FILE.damaged), then restore a snapshot (skiff snapshot restore FILE), or begin with an empty cluster (skiff up)"
            ],
        );
        says(
            &complaint(dir.path()),
            dir.path(),
            &expect![
                "cannot use FILE: Is a directory (os error 21); check its directory and the health of the disk (dmesg)"
            ],
        );
        let (path, _) = a_file(&dir).await;
        let db = Database::open(&path).unwrap();
        let txn = db.begin_write().unwrap();
        txn.open_table(META).unwrap().insert(FORMAT, 7).unwrap();
        txn.commit().unwrap();
        drop(db);
        says(
            &complaint(&path),
            &path,
            &expect![
                "FILE was written by a newer skiff: it has format 7, this skiff reads up to 1; use the newer skiff"
            ],
        );
    }

    #[test]
    fn what_the_system_says_becomes_a_remedy() {
        use io::ErrorKind as Kind;
        let path = Path::new("FILE");
        let texts: Vec<_> = [Kind::PermissionDenied, Kind::ReadOnlyFilesystem, Kind::StorageFull, Kind::Other]
            .map(|kind| DiskError::new(path, redb::Error::Io(kind.into())).to_string())
            .into();
        expect![[r"
            cannot open FILE: permission denied; run skiff as the user who owns it, or change its owner (chown)
            cannot write FILE: its file system is read-only; remount it read-write, and look for disk errors in the kernel log (dmesg)
            cannot write FILE: no space left on its disk, or the quota is used up; free some space, then try again
            cannot use FILE: other error; check its directory and the health of the disk (dmesg)"]].assert_eq(&texts.join("\n"));
    }

    #[tokio::test]
    async fn damage_anywhere_is_reported_or_harmless_but_never_misread() {
        let dir = tempfile::tempdir().unwrap();
        let (path, before) = a_file(&dir).await;
        let sound = std::fs::read(&path).unwrap();
        let rng = Rng::seeded(3);
        let (mut refused, mut harmless) = (0, 0);
        for round in 0..60 {
            let mut bytes = sound.clone();
            if round % 4 == 0 {
                bytes.truncate(usize::try_from(rng.between(1, bytes.len() as u64)).unwrap());
            } else {
                // Most of a small file is free pages: aim at what is used.
                let used: Vec<_> = (0..bytes.len()).filter(|at| bytes[*at] != 0).collect();
                let at = used[usize::try_from(rng.between(0, used.len() as u64)).unwrap()];
                bytes[at] ^= 1 << rng.between(0, 8);
            }
            std::fs::write(&path, bytes).unwrap();
            let opened = DiskBackend::open(&path).map_err(|err| err.to_string());
            match opened.and_then(|disk| Store::open(disk, false)) {
                Ok(store) => {
                    assert_eq!(dump(&store), before, "round {round}");
                    harmless += 1;
                }
                Err(text) => {
                    assert!(text.contains("store.redb") && text.contains("damaged"), "{text}");
                    refused += 1;
                }
            }
        }
        assert!(refused > 5 && harmless > 5, "{refused} refused, {harmless} harmless: both must be seen");
    }

    /// A disk that holds these bytes.
    fn holding(bytes: &[u8]) -> Platter {
        let sectors = Sectors { seen: bytes.to_vec(), ..Sectors::default() };
        Platter(Arc::new(Mutex::new(sectors)))
    }

    /// What is read of a damaged file: its state, or nothing when it is refused in words that say what, where and what to do.
    fn found(bytes: &[u8], what: &str) -> Option<Vec<String>> {
        let opened = holding(bytes).backend().map_err(|err| err.to_string());
        match opened.and_then(|disk| Store::open(disk, false)) {
            Ok(store) => Some(dump(&store)),
            Err(text) => {
                let is_told =
                    text.contains("/platter/store.redb is damaged: ") && text.contains("skiff snapshot restore");
                assert!(is_told, "{what}: {text}");
                None
            }
        }
    }

    /// How often a damaged file was refused, read as it was, and read as it had been before the last commit.
    type Outcomes = [usize; 3];

    fn judge(outcomes: &mut Outcomes, bytes: &[u8], states: &[Vec<String>], what: &str) {
        let (last, before) = (states.last().unwrap(), &states[states.len() - 2]);
        outcomes[match found(bytes, what) {
            None => 0,
            Some(state) if state == *last => 1,
            Some(state) if state == *before => 2,
            Some(state) => panic!("{what}: it was misread: {state:?}"),
        }] += 1;
    }

    /// Damages a file: a bit of each byte that holds something and is worth it; and all cut off that is behind each byte of the header, and
    /// behind a place in each page.
    fn damaged_everywhere(bytes: &[u8], states: &[Vec<String>], is_worth: impl Fn(usize) -> bool) -> Outcomes {
        let mut outcomes = Outcomes::default();
        let mut damaged = bytes.to_vec();
        for at in (0..bytes.len()).filter(|at| bytes[*at] != 0 && is_worth(*at)) {
            damaged[at] ^= 1 << (at % 8);
            judge(&mut outcomes, &damaged, states, &format!("a bit at {at}"));
            damaged[at] = bytes[at];
        }
        for at in (1..bytes.len()).filter(|at| *at < HEADER || at % (8 * SECTOR) == SECTOR) {
            judge(&mut outcomes, &bytes[..at], states, &format!("cut at {at}"));
        }
        outcomes
    }

    #[tokio::test]
    async fn damage_of_any_byte_is_told_or_harmless() {
        let platter = Platter::default();
        let store = open(&platter);
        let mut states = Vec::new();
        for n in 0..3 {
            write(&store, &[put_with(&format!("k/{n}"), "some text", terms(&["t"]))]).await;
            states.push(dump(&store));
        }
        // As a crash leaves it, and as an end in peace does.
        let crashed = platter.lock().seen.clone();
        drop(store);
        let closed = platter.lock().seen.clone();
        let of_closed = damaged_everywhere(&closed, &states, |_| true);
        assert_eq!(of_closed[2], 0, "what was closed in peace loses nothing unsaid");
        // What names the last commit is like a commit that was torn: the file is what it was before that.
        let of_crashed = damaged_everywhere(&crashed, &states, |at| at < HEADER || at.is_multiple_of(8));
        for [refused, harmless, _] in [of_closed, of_crashed] {
            assert!(refused > 100 && harmless > 10, "{refused} refused, {harmless} harmless: both must be seen");
        }
    }

    #[tokio::test]
    async fn whichever_step_fails_the_batch_leaves_no_trace() {
        let kinds = [io::ErrorKind::StorageFull, io::ErrorKind::ReadOnlyFilesystem, io::ErrorKind::Other];
        for (lands, heals) in [(false, true), (true, true), (false, false), (true, false)] {
            for step in 0.. {
                let platter = Platter::default();
                let store = open(&platter);
                write(&store, &[put("a", "1"), put("b", "1"), put("c", "1")]).await;
                let mut watch = store.watch("", store.revision()).unwrap();
                let before = dump(&store);
                let kind = kinds[step as usize % kinds.len()];
                platter.fail(step, kind, lands);
                let writes = [put("a", "2"), delete("b"), put("d", &"2".repeat(9_000)), put("a", "3")];
                let refused = commit(&store, &[], &writes).await;
                if refused.is_ok() {
                    assert!(step > 3, "a commit takes a few steps");
                    break;
                }
                let Err(TxnError::Disk(text)) = refused else { panic!("{refused:?}") };
                assert!(text.contains("/platter/store.redb"), "{text}");
                assert_eq!((dump(&store), store.revision()), (before.clone(), Revision(3)));
                assert!(watch.try_next().unwrap().is_none(), "what did not happen is not published");
                if heals {
                    platter.heal();
                    assert_eq!(write(&store, &[put("e", "5")]).await, Revision(4));
                    let after = dump(&store);
                    drop(store);
                    assert_eq!(dump(&open(&platter)), after, "step {step}, lands: {lands}");
                } else {
                    // The disk stays broken until the process is gone: only then may a refused batch be found, and as a whole.
                    let again = commit(&store, &[], &writes).await;
                    assert!(matches!(again, Err(TxnError::Disk(_))), "{again:?}");
                    drop(store);
                    platter.heal();
                    let found = open(&platter);
                    let landed =
                        found.revision() == Revision(7) && found.get("b").is_none() && found.get("d").is_some();
                    assert!(dump(&found) == before || landed, "step {step}, lands: {lands}: {:?}", dump(&found));
                }
            }
        }
    }

    #[tokio::test]
    async fn a_power_cut_at_any_step_keeps_what_was_answered() {
        for step in 0..60 {
            for seed in 0..4 {
                let platter = Platter::default();
                let store = open(&platter);
                let mut states = vec![dump(&store)];
                for n in 0..6 {
                    write(&store, &[put(&format!("k/{}", n % 4), &"x".repeat(n * 900)), put("n", "1")]).await;
                    states.push(dump(&store));
                }
                // From here on nothing reaches the disk; the writer is told so, or was answered before.
                platter.fail(step, io::ErrorKind::Other, false);
                let mut answered = states.len() - 1;
                for n in 0..6 {
                    let result = commit(&store, &[], &[put("k/1", &"y".repeat(n * 700)), put("n", "2")]).await;
                    if result.is_err() {
                        break;
                    }
                    states.push(dump(&store));
                    answered += 1;
                }
                drop(store);
                platter.cut_power(&Rng::seeded(seed));
                let found = open(&platter);
                let revision = found.revision();
                assert!(
                    revision >= Revision(answered as u64 * 2),
                    "step {step}, seed {seed}: an answered write is lost"
                );
                if revision == Revision(answered as u64 * 2) {
                    assert_eq!(dump(&found), states[answered], "step {step}, seed {seed}");
                }
                // It goes on from there.
                assert_eq!(write(&found, &[put("z", "1")]).await, Revision(revision.0 + 1));
            }
        }
    }

    #[test]
    fn of_many_that_create_the_file_at_once_one_gets_it() {
        for _ in 0..10 {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("store.redb");
            let opened: Vec<_> = std::thread::scope(|scope| {
                let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| DiskBackend::open(&path))).collect();
                threads.into_iter().map(|thread| thread.join().unwrap()).collect()
            });
            assert_eq!(opened.iter().filter(|o| o.is_ok()).count(), 1, "{opened:?}");
            let refused = opened.iter().filter(|o| matches!(o, Err(DiskError::Locked { .. }))).count();
            assert_eq!(refused, 3, "{opened:?}");
            let files: Vec<_> = dir.path().read_dir().unwrap().map(|f| f.unwrap().file_name()).collect();
            assert_eq!(files, ["store.redb"], "drafts are removed");
        }
    }

    #[tokio::test]
    async fn a_file_that_changed_underneath_is_not_written() {
        let (platter, other) = (Platter::default(), Platter::default());
        let store = open(&platter);
        write(&store, &[put("a", "1")]).await;
        let stranger = open(&other);
        write(&stranger, &[put("a", "1"), put("b", "2"), put("c", "2")]).await;
        drop(stranger);
        platter.fail(0, io::ErrorKind::Other, false);
        commit(&store, &[], &[put("a", "2")]).await.unwrap_err();
        platter.lock().seen = other.lock().seen.clone();
        platter.heal();
        let Err(TxnError::Disk(text)) = commit(&store, &[], &[put("a", "2")]).await else {
            panic!("it must be refused")
        };
        expect!["/platter/store.redb was changed by another process: it is at revision 3, this skiff wrote 1; restart skiff to read it anew"].assert_eq(&text);
    }

    #[test]
    fn a_revision_beyond_the_counter_is_damage() {
        let platter = Platter::default();
        let mut disk = platter.backend().unwrap();
        let entry = Entry::assemble(
            "k".into(),
            super::super::NewValue { head: vec![], tail: vec![] },
            Arc::default(),
            None,
            Revision(9),
        );
        let after = Some(Arc::new(entry));
        disk.commit(&[Arc::new(Change { revision: Revision(8), key: "k".into(), before: None, after })]).unwrap();
        assert!(Store::open_with(disk, false, Limits::default()).unwrap_err().contains("k is unreadable"));
    }
}
