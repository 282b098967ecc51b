//! Snapshots: the state of a cluster in one file, and a cluster from such a file.
//!
//! ```text
//! "skiff snapshot 1\n", the length of the facts, the facts (JSON), the store's content (`store::snapshot`), SHA-256 of all that
//! ```
//!
//! The facts are whose state it is, and the keys of the cluster: so clients and service accounts that had access have it again. Whoever has
//! the file has the cluster, its Secrets included; it is for its owner alone.
//!
//! Called by `skiff snapshot`. The state of a cluster that runs comes from its API ([`of_running`]), that of another from its folder.
//!
//! **Invariants**: a file is taken only if its checksum is right; a folder is written only while it is held, so never under a control
//! plane; its store is replaced by a rename, as the last step.

use super::data_dir::{DataDir, Held};
use crate::{
    api::meta::Revision,
    store::{Store, disk, snapshot},
};
use anyhow::{Context as _, bail, ensure};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::{
    collections::BTreeMap,
    fs::{self, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::Path,
};

const MAGIC: &[u8] = b"skiff snapshot 1\n";
/// What every version's magic begins with.
const MAGIC_BEGINS: &[u8] = b"skiff snapshot ";
const CHECKSUM_BYTES: usize = 32;
/// How far a restored state is ahead of the saved one: clients that saw what came after it in the old cluster must not take the new
/// revisions for those, and are told to begin anew. Source: etcd's advice for `etcdutl snapshot restore --bump-revision`.
const REVISIONS_AHEAD: u64 = 1_000_000_000;

/// What a snapshot says beside the store's content.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Facts {
    /// The skiff that saved it.
    version: String,
    cluster: String,
    /// The identity of the state, as in the folder's mark.
    state: String,
    /// The cluster's range of addresses.
    range: Option<String>,
    /// The cluster's keys and certificates, by the names of their files.
    keys: BTreeMap<String, String>,
}

/// A snapshot that was read.
#[derive(Debug)]
pub struct Snapshot {
    facts: Facts,
    revision: Revision,
    content: Vec<u8>,
}

impl Snapshot {
    /// The cluster whose state it is.
    pub fn cluster(&self) -> &str {
        &self.facts.cluster
    }

    /// The revision of the state.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// The snapshot of a cluster that runs from this folder, with what its API gave of its store.
    ///
    /// # Errors
    /// The folder is not the cluster's, or what came is no content of a store.
    pub fn of_running(path: &Path, cluster: &str, content: Vec<u8>) -> anyhow::Result<Self> {
        let dir = DataDir::at(path);
        let mark = dir.mark()?;
        ensure!(mark.cluster == cluster, "{} holds the state of the cluster {}", path.display(), mark.cluster);
        let (revision, _) = snapshot::decode(&content).context("the control plane sent no content of a store")?;
        Ok(Self { facts: facts(&dir, cluster, mark.state, mark.range)?, revision, content })
    }

    /// The snapshot of a cluster that does not run.
    ///
    /// # Errors
    /// There is no state of the cluster, another process uses it, or it is damaged.
    pub async fn of_stopped(path: &Path, cluster: &str) -> anyhow::Result<Self> {
        let held = DataDir::take_existing(path, cluster).await?;
        let store = disk::DiskBackend::open(held.dir().store())?;
        let all = Store::open(store, false).map_err(anyhow::Error::msg)?.range("");
        let (content, mark) = (snapshot::encode(&all), held.mark.clone());
        Ok(Self { facts: facts(held.dir(), cluster, mark.state, mark.range)?, revision: all.revision, content })
    }

    /// Writes it into a file for this user alone, which is there whole or not at all.
    ///
    /// # Errors
    /// The system's.
    pub fn save(&self, path: &Path) -> anyhow::Result<()> {
        write_file(path, &self.to_bytes()).with_context(|| format!("cannot write {}", path.display()))
    }

    fn to_bytes(&self) -> Vec<u8> {
        let facts = serde_json::to_vec(&self.facts).expect("facts are plain JSON");
        let length = u32::try_from(facts.len()).expect("a few keys are short").to_le_bytes();
        let mut all = [MAGIC, &length, &facts, &self.content].concat();
        let checksum = Sha256::digest(&all);
        all.extend_from_slice(&checksum);
        all
    }

    /// Reads a file that [`Snapshot::save`] wrote.
    ///
    /// # Errors
    /// It is none, of another version, or damaged; the text says so.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        Self::of_bytes(&bytes).with_context(|| format!("{} cannot be restored", path.display()))
    }

    fn of_bytes(bytes: &[u8]) -> anyhow::Result<Self> {
        const DAMAGED: &str = "it is damaged: take another copy of it";
        let Some(rest) = bytes.strip_prefix(MAGIC) else {
            let is_other = bytes.starts_with(MAGIC_BEGINS);
            bail!(if is_other {
                "another version of skiff saved it: use that one"
            } else {
                "it is no snapshot of skiff"
            });
        };
        let checked = bytes.len().checked_sub(CHECKSUM_BYTES).filter(|len| *len >= MAGIC.len()).context(DAMAGED)?;
        let is_whole = Sha256::digest(&bytes[..checked])[..] == bytes[checked..];
        ensure!(is_whole, "its checksum is wrong: {DAMAGED}");
        let rest = &rest[..rest.len() - CHECKSUM_BYTES];
        let (length, rest) = rest.split_first_chunk::<4>().context(DAMAGED)?;
        let length = usize::try_from(u32::from_le_bytes(*length)).context(DAMAGED)?;
        let (facts, content) = rest.split_at_checked(length).context(DAMAGED)?;
        let facts = serde_json::from_slice(facts).context(DAMAGED)?;
        let (revision, _) = snapshot::decode(content).context(DAMAGED)?;
        Ok(Self { facts, revision, content: content.to_vec() })
    }

    /// Makes it the state in a cluster's folder. `replaces`: of a state that is there already too.
    ///
    /// # Errors
    /// It is of another cluster; a control plane runs there; there is a state already, or something that is not skiff's.
    pub async fn restore(&self, path: &Path, cluster: &str, replaces: bool) -> anyhow::Result<()> {
        let Facts { cluster: of, state, range, keys, .. } = &self.facts;
        ensure!(of == cluster, "the snapshot is of the cluster {of}, whose node has that name: add --name {of}");
        let held = DataDir::take(path, cluster).await.context(
            "nothing was restored. If a control plane runs there, end it first (Ctrl-C where `skiff up` runs, or `kill` and its process)",
        )?;
        if !held.is_new && !replaces {
            bail!(
                "{} holds a state of the cluster {cluster} already: restore into another folder with --data-dir, or replace it with \
                 --force (`skiff snapshot save` keeps what is there)",
                path.display()
            );
        }
        let (_, entries) = snapshot::decode(&self.content).expect("it was read before");
        write_keys(&held, keys)?;
        let dir = held.dir().clone();
        held.become_restored(state, range.as_deref())?;
        let revision = Revision(self.revision.0.saturating_add(REVISIONS_AHEAD));
        disk::write_anew(&dir.store(), revision, &entries)?;
        Ok(())
    }
}

fn facts(dir: &DataDir, cluster: &str, state: String, range: Option<String>) -> anyhow::Result<Facts> {
    let keys = read_keys(&dir.pki()).with_context(|| format!("cannot read the keys in {}", dir.pki().display()))?;
    let version = env!("CARGO_PKG_VERSION").to_owned();
    Ok(Facts { version, cluster: cluster.to_owned(), state, range, keys })
}

/// Whether a file holds a key or a certificate, and nothing but a name.
fn is_key(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    name.rsplit_once('.')
        .is_some_and(|(stem, end)| matches!(end, "crt" | "key") && !stem.is_empty() && stem.chars().all(plain))
}

fn read_keys(folder: &Path) -> io::Result<BTreeMap<String, String>> {
    let mut keys = BTreeMap::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if is_key(&name) && entry.file_type()?.is_file() {
            keys.insert(name, fs::read_to_string(entry.path())?);
        }
    }
    Ok(keys)
}

fn write_keys(held: &Held, keys: &BTreeMap<String, String>) -> anyhow::Result<()> {
    let folder = held.dir().pki();
    let write = || {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        keys.iter()
            .filter(|(name, _)| is_key(name))
            .try_for_each(|(name, pem)| write_file(&folder.join(name), pem.as_bytes()))
    };
    write().with_context(|| format!("cannot write the keys in {}", folder.display()))
}

/// Writes a file for this user alone, by way of a draft beside it.
fn write_file(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut draft = path.as_os_str().to_owned();
    draft.push(".tmp");
    let write = || {
        match fs::remove_file(&draft) {
            Err(err) if err.kind() != io::ErrorKind::NotFound => return Err(err),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&draft, path)
    };
    write().inspect_err(|_| drop(fs::remove_file(&draft)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Attrs, NewValue, Txn, Write, disk::DiskBackend};
    use expect_test::expect;
    use std::os::unix::fs::PermissionsExt as _;

    async fn a_cluster(path: &Path) {
        let held = DataDir::take(path, "dev").await.unwrap();
        fs::create_dir(held.dir().pki()).unwrap();
        for name in ["ca.crt", "ca.key", "notes.txt"] {
            fs::write(held.dir().pki().join(name), format!("{name} of {}", held.mark.state)).unwrap();
        }
        let store = Store::open(DiskBackend::open(held.dir().store()).unwrap(), false).unwrap();
        for n in 0..20 {
            let value = NewValue { head: format!("head {n} ").into(), tail: b" tail".to_vec() };
            let attrs = Attrs { labels: [("n", n.to_string())].into_iter().collect(), ..Attrs::default() };
            let write = Write::Put { key: format!("k/{n}"), value, attrs };
            store.commit(Txn { expect: Vec::new(), writes: vec![write] }).await.unwrap();
        }
    }

    fn content(path: &Path) -> (Revision, Vec<(String, Vec<u8>, Attrs)>) {
        let store = Store::open(DiskBackend::open(DataDir::at(path).store()).unwrap(), false).unwrap();
        let all = store.range("");
        (all.revision, all.entries.iter().map(|e| (e.key.to_string(), e.value.to_vec(), (*e.attrs).clone())).collect())
    }

    #[tokio::test]
    async fn what_is_saved_is_there_again_in_another_folder() {
        let home = tempfile::tempdir().unwrap();
        let (old, new, file) = (home.path().join("old"), home.path().join("new"), home.path().join("dev.snapshot"));
        a_cluster(&old).await;
        Snapshot::of_stopped(&old, "dev").await.unwrap().save(&file).unwrap();
        let snapshot = Snapshot::read(&file).unwrap();
        assert_eq!((snapshot.cluster(), snapshot.revision()), ("dev", Revision(20)));
        snapshot.restore(&new, "dev", false).await.unwrap();
        let ((_, before), (revision, after)) = (content(&old), content(&new));
        assert_eq!((after, revision), (before, Revision(20 + REVISIONS_AHEAD)));
        let (old, new) = (DataDir::at(&old), DataDir::at(&new));
        assert_eq!(new.mark().unwrap(), old.mark().unwrap());
        for (name, is_kept) in [("ca.crt", true), ("ca.key", true), ("notes.txt", false)] {
            let read = |dir: &DataDir| fs::read_to_string(dir.pki().join(name)).ok();
            assert_eq!(read(&new).is_some() && read(&new) == read(&old), is_kept, "{name}");
        }
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[tokio::test]
    async fn a_state_is_not_replaced_unasked_and_never_under_a_control_plane() {
        let home = tempfile::tempdir().unwrap();
        let (path, file) = (home.path().join("dev"), home.path().join("file"));
        a_cluster(&path).await;
        Snapshot::of_stopped(&path, "dev").await.unwrap().save(&file).unwrap();
        let snapshot = Snapshot::read(&file).unwrap();
        let said = |err: anyhow::Error| {
            format!("{err:#}")
                .replace(home.path().to_str().unwrap(), "HOME")
                .replace(&std::process::id().to_string(), "PID")
        };
        let mut texts = vec![said(snapshot.restore(&path, "dev", false).await.unwrap_err())];
        texts.push(said(snapshot.restore(&path, "other", true).await.unwrap_err()));
        let running = DataDir::take(&path, "dev").await.unwrap();
        texts.push(said(snapshot.restore(&path, "dev", true).await.unwrap_err()));
        texts.push(said(Snapshot::of_stopped(&path, "dev").await.unwrap_err()));
        drop(running);
        texts.push(said(Snapshot::of_stopped(&home.path().join("none"), "dev").await.unwrap_err()));
        fs::write(home.path().join("text"), "a text").unwrap();
        texts.push(said(Snapshot::read(&home.path().join("text")).unwrap_err()));
        fs::write(home.path().join("text"), "skiff snapshot 2\n").unwrap();
        texts.push(said(Snapshot::read(&home.path().join("text")).unwrap_err()));
        expect![[r#"
            HOME/dev holds a state of the cluster dev already: restore into another folder with --data-dir, or replace it with --force (`skiff snapshot save` keeps what is there)
            the snapshot is of the cluster dev, whose node has that name: add --name dev
            nothing was restored. If a control plane runs there, end it first (Ctrl-C where `skiff up` runs, or `kill` and its process): cannot use the data folder HOME/dev: choose another with --data-dir: another skiff uses it already (process PID, as HOME/dev/skiff.lock says)
            another skiff uses it already (process PID, as HOME/dev/skiff.lock says)
            the cluster dev has no state in HOME/none: name its folder with --data-dir
            HOME/text cannot be restored: it is no snapshot of skiff
            HOME/text cannot be restored: another version of skiff saved it: use that one"#]].assert_eq(&texts.join("\n"));
        assert_eq!(content(&path).0, Revision(20));
        snapshot.restore(&path, "dev", true).await.unwrap();
        assert_eq!(content(&path).0, Revision(20 + REVISIONS_AHEAD));
    }

    #[tokio::test]
    async fn damage_of_a_file_is_found_wherever_it_is() {
        let home = tempfile::tempdir().unwrap();
        a_cluster(&home.path().join("dev")).await;
        let sound = Snapshot::of_stopped(&home.path().join("dev"), "dev").await.unwrap().to_bytes();
        assert!(Snapshot::of_bytes(&sound).is_ok());
        for at in 0..sound.len() {
            let (mut flipped, mut grown) = (sound.clone(), sound.clone());
            flipped[at] ^= 1 << (at % 8);
            grown.insert(at, 0);
            for (what, bytes) in [("cut", &sound[..at]), ("flipped", &flipped), ("grown", &grown)] {
                let said = Snapshot::of_bytes(bytes).err().map(|err| err.to_string());
                let is_told =
                    |text: &String| ["another copy", "no snapshot", "another version"].iter().any(|t| text.contains(t));
                assert!(said.as_ref().is_some_and(is_told), "{what} at {at}: {said:?}");
            }
        }
    }
}
