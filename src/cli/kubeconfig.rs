//! The user's kubeconfig: the context of a cluster is merged in at `up` and taken out at `down`.
//!
//! **Invariants**: entries of others keep their meaning, those of the cluster's own name too: an entry is skiff's when skiff made its CA;
//! a file that cannot be read as a kubeconfig is refused and left alone; the new
//! text is written beside the file and renamed over it, so a crash leaves the old or the new, never half.
//! The names of the cluster, user and context are the cluster's own, as kind and minikube do it.

use super::exit::{Class, of_class};
use crate::{app::access::Access, server::tls};
use anyhow::{Context as _, bail};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_yaml::{Mapping, Value};
use std::{
    fs,
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

/// The kubeconfig that this user's clients read: the first file of `$KUBECONFIG`, else `~/.kube/config`.
pub(super) fn default_path() -> anyhow::Result<PathBuf> {
    if let Some(list) = std::env::var_os("KUBECONFIG")
        && let Some(first) = std::env::split_paths(&list).find(|p| !p.as_os_str().is_empty())
    {
        return Ok(first);
    }
    let home = std::env::var_os("HOME").context("$HOME is not set: say where the kubeconfig is with $KUBECONFIG")?;
    Ok(Path::new(&home).join(".kube").join("config"))
}

/// What became of a cluster's entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Removed {
    /// There were none.
    Nothing,
    /// They are gone.
    Context,
    /// They are another cluster's and stay.
    Left,
}

/// Whose the entries of a name are.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Whose {
    Nobodys,
    /// Of a skiff with this CA, PEM.
    Skiffs(String),
    Others,
}

/// Refuses a name whose entries are not skiff's.
pub(super) fn check(path: &Path, name: &str) -> anyhow::Result<()> {
    match whose(&read(path)?, name) {
        Whose::Nobodys | Whose::Skiffs(_) => Ok(()),
        Whose::Others => bail!(
            "{} has a context {name:?} that skiff did not make: choose another --name, or leave the file alone with --no-kubeconfig",
            path.display()
        ),
    }
}

/// Puts the cluster into the file and makes it the current context.
pub(super) fn add(path: &Path, access: &Access) -> anyhow::Result<()> {
    check(path, &access.name)?;
    edit(path, |root| merge(root, access))
}

/// Takes the cluster out of the file: the one of `access`, where that is known. A file that does not exist stays so.
pub(super) fn remove(path: &Path, name: &str, access: Option<&Access>) -> anyhow::Result<Removed> {
    if !path.exists() {
        return Ok(Removed::Nothing);
    }
    let ca = match whose(&read(path)?, name) {
        Whose::Nobodys => return Ok(Removed::Nothing),
        Whose::Skiffs(ca) if access.is_none_or(|access| access.ca_pem == ca) => ca,
        Whose::Skiffs(_) | Whose::Others => return Ok(Removed::Left),
    };
    edit(path, |root| {
        for user in users_of(root, name, &ca) {
            take_out(root, &user);
        }
        take_out(root, name);
        Ok(())
    })?;
    Ok(Removed::Context)
}

/// The names of the cluster's other users: `ann@NAME`, of the same CA.
fn users_of(root: &Value, name: &str, ca: &str) -> Vec<String> {
    let clusters = root.get("clusters").and_then(Value::as_sequence).into_iter().flatten();
    let names = clusters.filter_map(|entry| entry["name"].as_str());
    let is_user = |entry: &&str| entry.strip_suffix(name).is_some_and(|rest| rest.ends_with('@'));
    let is_of_ca = |entry: &&str| matches!(whose(root, entry), Whose::Skiffs(of) if of == ca);
    names.filter(is_user).filter(is_of_ca).map(str::to_owned).collect()
}

/// Whose the entries of this name are. A user or a context alone is what somebody made or left.
fn whose(root: &Value, name: &str) -> Whose {
    let entry = |list: &str| {
        let entries = root.get(list).and_then(Value::as_sequence);
        entries.into_iter().flatten().find(|e| e["name"].as_str() == Some(name))
    };
    let ca = entry("clusters").and_then(|e| e["cluster"]["certificate-authority-data"].as_str());
    let ca = ca.and_then(|text| BASE64_STANDARD.decode(text).ok()).and_then(|pem| String::from_utf8(pem).ok());
    match ca.filter(|pem| tls::is_ca_of_skiff(pem)) {
        Some(pem) => Whose::Skiffs(pem),
        None if ["clusters", "users", "contexts"].iter().any(|list| entry(list).is_some()) => Whose::Others,
        None => Whose::Nobodys,
    }
}

fn empty() -> Value {
    let mut root = Mapping::new();
    root.insert("apiVersion".into(), "v1".into());
    root.insert("kind".into(), "Config".into());
    Value::Mapping(root)
}

fn edit(path: &Path, change: impl FnOnce(&mut Value) -> anyhow::Result<()>) -> anyhow::Result<()> {
    // The target of a link is what is replaced, so that a linked kubeconfig stays a link.
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir).with_context(|| format!("cannot make the folder {}", dir.display()))?;
    }
    let _lock = Lock::take(&path)?;
    let mut root = read(&path)?;
    let before = root.clone();
    change(&mut root).with_context(|| format!("{} is left as it is", path.display()))?;
    if root == before && path.exists() {
        return Ok(());
    }
    let text = serde_yaml::to_string(&root).context("cannot write the kubeconfig as YAML")?;
    write_beside_and_rename(&path, text.as_bytes())
}

fn read(path: &Path) -> anyhow::Result<Value> {
    read_as_it_is(path).map_err(|err| of_class(Class::Input, err))
}

fn read_as_it_is(path: &Path) -> anyhow::Result<Value> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => return Ok(empty()),
        Err(err) => return Err(err).with_context(|| format!("cannot read {}", path.display())),
    };
    if text.trim().is_empty() {
        return Ok(empty());
    }
    let root: Value = serde_yaml::from_str(&text)
        .with_context(|| format!("{} is not YAML; it is left as it is. Mend or move it", path.display()))?;
    if !root.is_mapping() {
        bail!("{} is not a kubeconfig; it is left as it is. Mend or move it", path.display());
    }
    Ok(root)
}

fn merge(root: &mut Value, access: &Access) -> anyhow::Result<()> {
    let name = access.name.as_str();
    set_entry(root, "clusters", "cluster", name, access.cluster())?;
    set_entry(root, "users", "user", name, access.user())?;
    set_entry(root, "contexts", "context", name, access.context())?;
    root.as_mapping_mut().context("not a kubeconfig")?.insert("current-context".into(), name.into());
    Ok(())
}

/// Sets the entry of this name in a list of named entries, in its place when it is there.
fn set_entry(root: &mut Value, list: &str, field: &str, name: &str, content: Value) -> anyhow::Result<()> {
    let root = root.as_mapping_mut().context("not a kubeconfig")?;
    let slot = root.entry(list.into()).or_insert(Value::Sequence(Vec::new()));
    if slot.is_null() {
        *slot = Value::Sequence(Vec::new());
    }
    let Some(entries) = slot.as_sequence_mut() else { bail!("`{list}` is not a list") };
    let mut entry = Mapping::new();
    entry.insert(field.into(), content);
    entry.insert("name".into(), name.into());
    match entries.iter_mut().find(|e| e["name"].as_str() == Some(name)) {
        Some(old) => *old = Value::Mapping(entry),
        None => entries.push(Value::Mapping(entry)),
    }
    Ok(())
}

fn take_out(root: &mut Value, name: &str) {
    let Some(root) = root.as_mapping_mut() else { return };
    for list in ["clusters", "users", "contexts"] {
        if let Some(entries) = root.get_mut(list).and_then(Value::as_sequence_mut) {
            entries.retain(|e| e["name"].as_str() != Some(name));
        }
    }
    if root.get("current-context").and_then(Value::as_str) == Some(name) {
        root.insert("current-context".into(), "".into());
    }
}

fn write_beside_and_rename(path: &Path, text: &[u8]) -> anyhow::Result<()> {
    let beside = path.with_extension(format!("skiff-{}", std::process::id()));
    let write = || -> std::io::Result<()> {
        let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
        if let Ok(old) = fs::metadata(path) {
            file.set_permissions(old.permissions())?;
        }
        file.write_all(text)?;
        file.sync_all()?;
        fs::rename(&beside, path)
    };
    write().map_err(|err| {
        drop(fs::remove_file(&beside));
        anyhow::Error::new(err).context(format!("cannot write {}; the old one is unchanged", path.display()))
    })
}

/// The lock that kubectl takes as well: a file `<config>.lock` that only one can create.
struct Lock(PathBuf);

impl Lock {
    fn take(path: &Path) -> anyhow::Result<Self> {
        let lock = PathBuf::from(format!("{}.lock", path.display()));
        match fs::OpenOptions::new().write(true).create_new(true).open(&lock) {
            Ok(_) => Ok(Self(lock)),
            Err(err) if err.kind() == std::io::ErrorKind::AlreadyExists => {
                bail!("{} exists: another program is changing the kubeconfig. Remove it if none is", lock.display())
            }
            Err(err) => Err(err).with_context(|| format!("cannot write {}", lock.display())),
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        drop(fs::remove_file(&self.0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new_ca() -> String {
        let dir = tempfile::tempdir().unwrap();
        tls::load_or_create(dir.path(), &[], &crate::base::clock::Clock::system()).unwrap().ca_pem().to_owned()
    }

    /// The same at every call.
    fn access() -> Access {
        static CA: std::sync::LazyLock<String> = std::sync::LazyLock::new(new_ca);
        Access {
            name: "skiff".into(),
            server: "https://127.0.0.1:6443".into(),
            ca_pem: CA.clone(),
            cert_pem: "CERT".into(),
            key_pem: "KEY".into(),
        }
    }

    const OTHERS: &str = "apiVersion: v1\nkind: Config\npreferences: {colors: true}\ncurrent-context: work\n\
        clusters:\n- {name: work, cluster: {server: 'https://work:6443', proxy-url: 'socks5://x'}}\n\
        users:\n- {name: me, user: {exec: {command: aws, args: [eks], apiVersion: v1}}}\n\
        contexts:\n- {name: work, context: {cluster: work, user: me, namespace: dev}}\n";

    #[test]
    fn others_keep_their_meaning_and_down_undoes_up() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config");
        fs::write(&path, OTHERS).unwrap();
        add(&path, &access()).unwrap();
        let with: Value = serde_yaml::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        let original: Value = serde_yaml::from_str(OTHERS).unwrap();
        assert_eq!(with["current-context"].as_str(), Some("skiff"));
        for list in ["clusters", "users", "contexts"] {
            assert_eq!(with[list][0], original[list][0]);
            assert_eq!(with[list][1]["name"].as_str(), Some("skiff"));
        }
        add(&path, &access()).unwrap();
        // What somebody else of the same cluster was given goes with it; another cluster's does not.
        add(&path, &Access { name: "ann@skiff".into(), ..access() }).unwrap();
        add(&path, &Access { name: "bob@skiff".into(), ca_pem: new_ca(), ..access() }).unwrap();
        let root: Value = serde_yaml::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        assert_eq!(users_of(&root, "skiff", &access().ca_pem), ["ann@skiff"]);
        assert_eq!(remove(&path, "bob@skiff", None).unwrap(), Removed::Context);
        assert_eq!(remove(&path, "skiff", Some(&access())).unwrap(), Removed::Context);
        assert_eq!(remove(&path, "skiff", None).unwrap(), Removed::Nothing);
        let mut without: Value = serde_yaml::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        assert_eq!(without["current-context"].as_str(), Some(""));
        without["current-context"] = "work".into();
        assert_eq!(without, original);
    }

    #[test]
    fn a_file_that_is_no_kubeconfig_is_refused_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config");
        for bad in ["a: [", "- just\n- a list\n", "clusters: 5\n"] {
            fs::write(&path, bad).unwrap();
            assert!(add(&path, &access()).is_err(), "{bad}");
            assert_eq!(fs::read_to_string(&path).unwrap(), bad);
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_context_of_the_same_name_that_skiff_did_not_make_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config");
        fs::write(&path, OTHERS).unwrap();
        assert_eq!(remove(&path, "work", None).unwrap(), Removed::Left);
        assert_eq!(remove(&path, "me", None).unwrap(), Removed::Left);
        for name in ["work", "me"] {
            let said = add(&path, &Access { name: name.into(), ..access() }).unwrap_err().to_string();
            assert!(said.contains("skiff did not make"), "{said}");
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), OTHERS);
        add(&path, &access()).unwrap();
        let other = Access { ca_pem: new_ca(), ..access() };
        assert_eq!(remove(&path, "skiff", Some(&other)).unwrap(), Removed::Left, "of a cluster on another engine");
        assert_eq!(remove(&path, "skiff", None).unwrap(), Removed::Context);
    }

    #[test]
    fn a_new_file_is_private_and_a_link_stays_a_link() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("new").join("config");
        add(&path, &access()).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        remove(&link, "skiff", None).unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    }

    #[test]
    fn a_locked_kubeconfig_is_not_touched() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config");
        fs::write(dir.path().join("config.lock"), "").unwrap();
        assert!(add(&path, &access()).unwrap_err().to_string().contains("config.lock exists"));
        assert!(!path.exists());
    }
}
