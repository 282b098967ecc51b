//! Whose folder it is, and what goes with it.

use super::*;
use std::os::unix::fs::{PermissionsExt as _, symlink};

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

fn fill_as_a_start_does(dir: &DataDir) {
    fs::write(dir.store(), STORE_BEGINS).unwrap();
    fs::write(dir.access(), "").unwrap();
    fs::create_dir(dir.pki()).unwrap();
    for name in ["ca.crt", "ca.key", "proxy.key.tmp", "sa.key"] {
        fs::write(dir.pki().join(name), "").unwrap();
    }
    fs::write(dir.path().join("state.redb.0-1.new"), "").unwrap();
}

async fn ours(path: &Path) -> Held {
    match DataDir::take_for_removal(path, "skiff").await.unwrap() {
        Leaving::Ours(held) => held,
        other => panic!("{other:?}"),
    }
}

async fn refusal(path: &Path, cluster: &str) -> String {
    format!("{:#}", DataDir::take(path, cluster).await.unwrap_err())
}

#[tokio::test(start_paused = true)]
async fn a_new_folder_is_private_and_goes_whole_with_what_led_to_it() {
    let top = tempfile::tempdir().unwrap();
    let path = top.path().join("a/b/data");
    let held = DataDir::take(&path, "skiff").await.unwrap();
    assert!(held.is_new && mode(&path) == 0o700);
    fill_as_a_start_does(held.dir());
    assert_eq!(held.remove().unwrap(), Vec::<String>::new());
    assert!(!top.path().join("a").exists());
}

#[tokio::test(start_paused = true)]
async fn the_mark_stays_with_the_state() {
    let top = tempfile::tempdir().unwrap();
    let path = top.path().join("data");
    let first = DataDir::take(&path, "skiff").await.unwrap().mark;
    let again = DataDir::take(&path, "skiff").await.unwrap();
    assert!(!again.is_new);
    assert_eq!(again.mark, first);
    drop(again);
    assert!(refusal(&path, "other").await.contains("holds the state of the cluster skiff, not of other"));
    assert!(DataDir::take_for_removal(&path, "other").await.is_err());
}

#[tokio::test(start_paused = true)]
async fn one_at_a_time() {
    let top = tempfile::tempdir().unwrap();
    let held = DataDir::take(top.path(), "skiff").await.unwrap();
    assert!(refusal(top.path(), "skiff").await.contains("another skiff uses it already"));
    assert!(DataDir::take_for_removal(top.path(), "skiff").await.is_err());
    drop(held);
    drop(DataDir::take(top.path(), "skiff").await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_folder_of_others_is_neither_used_nor_changed() {
    let top = tempfile::tempdir().unwrap();
    let path = top.path().join("photos");
    fs::create_dir(&path).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    // Names that skiff gives too, and the name of its store on another file, make it no folder of skiff's.
    for name in ["cat.jpg", "kubeconfig", "skiff.pid", "state.redb"] {
        fs::write(path.join(name), "mine").unwrap();
        assert!(refusal(&path, "skiff").await.contains("is not skiff's"), "{name}");
        assert!(matches!(DataDir::take_for_removal(&path, "skiff").await.unwrap(), Leaving::Foreign(_)));
        assert_eq!(fs::read_dir(&path).unwrap().count(), 1);
        fs::remove_file(path.join(name)).unwrap();
    }
    let held = DataDir::take(&path, "skiff").await.unwrap();
    assert_eq!(mode(&path), 0o755, "an empty one is used as it is");
    drop(held);
    fs::write(path.join(MARK), "{}").unwrap();
    assert!(refusal(&path, "skiff").await.contains("is damaged"));
}

#[tokio::test(start_paused = true)]
async fn what_others_put_into_the_folder_stays() {
    let top = tempfile::tempdir().unwrap();
    let path = top.path().join("data");
    let held = DataDir::take(&path, "skiff").await.unwrap();
    fill_as_a_start_does(held.dir());
    drop(held);
    fs::write(path.join("notes.txt"), "mine").unwrap();
    fs::write(path.join("pki/mine.key"), "mine").unwrap();
    fs::create_dir(path.join("skiff.pid")).unwrap();
    assert_eq!(ours(&path).await.remove().unwrap(), ["notes.txt", "pki", "skiff.pid"]);
    assert_eq!(fs::read_to_string(path.join("notes.txt")).unwrap(), "mine");
    assert_eq!(fs::read_to_string(path.join("pki/mine.key")).unwrap(), "mine");
    assert!(!path.join("pki/ca.key").exists() && !path.join(STORE).exists() && !path.join(MARK).exists());
}

#[tokio::test(start_paused = true)]
async fn links_are_not_followed() {
    let top = tempfile::tempdir().unwrap();
    let (path, other) = (top.path().join("data"), top.path().join("other"));
    fs::create_dir(&other).unwrap();
    fs::write(other.join("ca.key"), "mine").unwrap();
    drop(DataDir::take(&path, "skiff").await.unwrap());
    symlink(&other, path.join(PKI)).unwrap();
    symlink(other.join("ca.key"), path.join(STORE)).unwrap();
    let link = top.path().join("link");
    symlink(&path, &link).unwrap();
    assert!(refusal(&link, "skiff").await.contains("is a link to"));
    assert!(DataDir::take_for_removal(&link, "skiff").await.is_err());
    assert_eq!(ours(&path).await.remove().unwrap(), [PKI, STORE]);
    assert_eq!(fs::read_to_string(other.join("ca.key")).unwrap(), "mine");
}

#[tokio::test(start_paused = true)]
async fn the_folder_of_an_earlier_skiff_gets_a_mark() {
    let top = tempfile::tempdir().unwrap();
    let dir = DataDir::at(top.path());
    fill_as_a_start_does(&dir);
    let pem = String::new;
    let access = Access { name: "skiff".into(), server: pem(), ca_pem: pem(), cert_pem: pem(), key_pem: pem() };
    access.save(&dir.access()).unwrap();
    assert!(refusal(top.path(), "other").await.contains("holds the state of the cluster skiff"));
    drop(ours(top.path()).await);
    let held = DataDir::take(top.path(), "skiff").await.unwrap();
    assert!(!held.is_new && !held.mark.state.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_store_that_an_earlier_skiff_has_open_is_not_removed() {
    let top = tempfile::tempdir().unwrap();
    let dir = DataDir::at(top.path());
    fill_as_a_start_does(&dir);
    let open = File::open(dir.store()).unwrap();
    open.lock().unwrap();
    let said = DataDir::take_for_removal(top.path(), "skiff").await.unwrap_err().to_string();
    assert!(said.contains("an earlier version"), "{said}");
}

#[tokio::test(start_paused = true)]
async fn who_is_ending_is_waited_for() {
    let top = tempfile::tempdir().unwrap();
    let held = DataDir::take(top.path(), "skiff").await.unwrap();
    fill_as_a_start_does(held.dir());
    let store = File::open(held.dir().store()).unwrap();
    store.lock().unwrap();
    let ends = async {
        tokio::time::sleep(LOCK_PACE * 3).await;
        drop(held);
        tokio::time::sleep(LOCK_PACE * 3).await;
        drop(store);
    };
    let (taken, ()) = tokio::join!(DataDir::take(top.path(), "skiff"), ends);
    drop(taken.unwrap());
    ours(top.path()).await.remove().unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_is_left_of_a_failed_take_is_nothing() {
    let top = tempfile::tempdir().unwrap();
    let file = top.path().join("file");
    fs::write(&file, "").unwrap();
    assert!(DataDir::take(&file, "skiff").await.is_err());
    assert!(DataDir::take(&file.join("below"), "skiff").await.is_err());
    assert_eq!(fs::read_dir(top.path()).unwrap().count(), 1);
}
