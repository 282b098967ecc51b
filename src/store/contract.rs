//! One behaviour suite for every backend.

use super::{
    Attrs, Change, Committed, Entry, Expect, Limits, NewValue, Store, Txn, TxnError, WatchError, Write,
    disk::DiskBackend, hub::Watch, memory::MemoryBackend,
};
use crate::api::meta::Revision;
use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
};

/// A store with nothing in it. The directory is kept as long as the store is used.
struct Bench {
    store: Store,
    #[expect(dead_code, reason = "dropping it removes the store's file")]
    dir: Option<tempfile::TempDir>,
}

/// Opens an empty store with these limits.
type Opener = fn(Limits) -> Bench;

fn memory(limits: Limits) -> Bench {
    Bench { store: Store::open_with(MemoryBackend, false, limits).unwrap(), dir: None }
}

/// A commit thread over a backend that keeps nothing: the threads without the disk.
fn threaded(limits: Limits) -> Bench {
    Bench { store: Store::open_with(MemoryBackend, true, limits).unwrap(), dir: None }
}

fn disk(limits: Limits) -> Bench {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open_with(DiskBackend::open(dir.path().join("store.redb")).unwrap(), true, limits).unwrap();
    Bench { store, dir: Some(dir) }
}

pub(super) fn put(key: &str, text: &str) -> Write {
    put_with(key, text, Attrs::default())
}

pub(super) fn put_with(key: &str, text: &str, attrs: Attrs) -> Write {
    let value = NewValue { head: format!("{text}@").into_bytes(), tail: b"!".to_vec() };
    Write::Put { key: key.to_owned(), value, attrs }
}

pub(super) fn delete(key: &str) -> Write {
    Write::Delete { key: key.to_owned() }
}

pub(super) fn terms(terms: &[&str]) -> Attrs {
    Attrs { terms: terms.iter().map(|t| (*t).to_owned()).collect(), ..Attrs::default() }
}

pub(super) async fn commit(store: &Store, expect: &[Expect], writes: &[Write]) -> Result<Committed, TxnError> {
    store.commit(Txn { expect: expect.to_vec(), writes: writes.to_vec() }).await
}

pub(super) async fn write(store: &Store, writes: &[Write]) -> Revision {
    commit(store, &[], writes).await.unwrap().revision
}

pub(super) fn text(entry: &Entry) -> String {
    String::from_utf8(entry.value.to_vec()).unwrap()
}

/// The whole state, one line a key.
pub(super) fn dump(store: &Store) -> Vec<String> {
    let line = |e: &Arc<Entry>| format!("{} {} {}..{} {:?}", e.key, text(e), e.created, e.modified, e.attrs);
    store.range("").entries.iter().map(line).collect()
}

fn show(change: &Change) -> String {
    let side = |entry: &Option<Arc<Entry>>| entry.as_deref().map_or("-".to_owned(), text);
    format!("{} {} {} > {}", change.revision, change.key, side(&change.before), side(&change.after))
}

fn drain(watch: &mut Watch) -> Vec<String> {
    std::iter::from_fn(|| watch.try_next().unwrap()).map(|c| show(&c)).collect()
}

fn found(result: Result<Committed, TxnError>) -> (String, Option<String>) {
    match result {
        Err(TxnError::Unexpected { key, found }) => (key, found.as_deref().map(text)),
        other => panic!("expected a refusal, got {other:?}"),
    }
}

fn absent(key: &str) -> Expect {
    Expect::Absent(key.to_owned())
}

fn unchanged(key: &str, revision: u64) -> Expect {
    Expect::Unchanged(key.to_owned(), Revision(revision))
}

async fn a_value_carries_its_revision_and_a_delete_can_show_another(open: Opener) {
    let Bench { store, .. } = &open(Limits::default());
    for n in 1..=12 {
        assert_eq!(write(store, &[put("a", "v")]).await, Revision(n));
    }
    let entry = store.get("a").unwrap();
    assert_eq!(text(&entry), "v@12!");
    assert_eq!(&entry.value[entry.revision_at.clone()], b"12");
    assert_eq!((entry.created, entry.modified), (Revision(1), Revision(12)));
    assert_eq!(entry.value_at(Revision(9)), "v@9!");
    assert_eq!(entry.value_at(Revision(1234)), "v@1234!");
}

async fn an_expectation_that_fails_changes_nothing_and_says_what_is_there(open: Opener) {
    let Bench { store, .. } = &open(Limits::default());
    write(store, &[put("a", "one")]).await;
    let before = dump(store);
    let refused = commit(store, &[absent("b"), absent("a")], &[put("b", "x")]).await;
    assert_eq!(found(refused), ("a".to_owned(), Some("one@1!".to_owned())));
    let refused = commit(store, &[unchanged("a", 7)], &[put("a", "x")]).await;
    assert_eq!(found(refused), ("a".to_owned(), Some("one@1!".to_owned())));
    let refused = commit(store, &[unchanged("b", 1)], &[put("a", "x")]).await;
    assert_eq!(found(refused), ("b".to_owned(), None));
    assert_eq!((dump(store), store.revision()), (before, Revision(1)));
    commit(store, &[unchanged("a", 1), absent("b")], &[put("a", "two")]).await.unwrap();
    assert_eq!(text(&store.get("a").unwrap()), "two@2!");
}

async fn a_transaction_happens_as_a_whole_with_a_revision_for_each_write(open: Opener) {
    let Bench { store, .. } = &open(Limits::default());
    let done = commit(store, &[], &[put("b", "x"), put("a", "y"), put("b", "z"), delete("a")]).await.unwrap();
    assert_eq!(done.revision, Revision(4));
    let changes: Vec<_> = done.changes.iter().map(|c| show(c)).collect();
    assert_eq!(changes, ["1 b - > x@1!", "2 a - > y@2!", "3 b x@1! > z@3!", "4 a y@2! > -"]);
    // The third write cannot be done: the first two must not stay.
    let refused = commit(store, &[], &[put("c", "x"), delete("b"), delete("b")]).await;
    assert_eq!(found(refused), ("b".to_owned(), None));
    assert_eq!(store.range("").entries.iter().map(|e| text(e)).collect::<Vec<_>>(), ["z@3!"]);
    assert_eq!(write(store, &[put("b", "w")]).await, Revision(5));
}

async fn a_deleted_key_starts_anew(open: Opener) {
    let Bench { store, .. } = &open(Limits::default());
    write(store, &[put("a", "x")]).await;
    write(store, &[delete("a")]).await;
    assert!(store.get("a").is_none());
    assert_eq!(found(commit(store, &[], &[delete("a")]).await), ("a".to_owned(), None));
    write(store, &[put("a", "y")]).await;
    assert_eq!(store.get("a").unwrap().created, Revision(3));
}

async fn a_transaction_without_writes_only_checks(open: Opener) {
    let Bench { store, .. } = &open(Limits::default());
    write(store, &[put("a", "x")]).await;
    let done = commit(store, &[unchanged("a", 1)], &[]).await.unwrap();
    assert_eq!((done.revision, done.changes.len()), (Revision(1), 0));
    found(commit(store, &[absent("a")], &[]).await);
}

async fn a_range_is_a_prefix_in_key_order_at_one_revision(open: Opener) {
    let Bench { store, .. } = &open(Limits::default());
    write(store, &[put("pods/b", "1"), put("pods/a", "2"), put("pod", "3"), put("podt/a", "4"), put("zebra", "5")])
        .await;
    let keys = |prefix: &str| store.range(prefix).entries.iter().map(|e| e.key.to_string()).collect::<Vec<_>>();
    assert_eq!(keys("pods/"), ["pods/a", "pods/b"]);
    assert_eq!(keys(""), ["pod", "pods/a", "pods/b", "podt/a", "zebra"]);
    assert_eq!(keys("zz"), [""; 0]);
    assert_eq!(["pods/", "podt", "zz", "pods/c"].map(|prefix| store.has_any(prefix)), [true, true, false, false]);
    assert_eq!(store.range("zz").revision, Revision(5));
}

async fn a_term_finds_the_keys_that_have_it_now(open: Opener) {
    let Bench { store, .. } = &open(Limits::default());
    let keys = |term: &str| store.by_term(term).iter().map(|e| e.key.to_string()).collect::<Vec<_>>();
    write(store, &[put_with("b", "1", terms(&["owner=1", "x"])), put_with("a", "1", terms(&["owner=1"]))]).await;
    write(store, &[put_with("c", "1", terms(&["owner=12"]))]).await;
    assert_eq!(["owner=1", "owner=12", "owner=", "y"].map(|term| store.has_term(term)), [true, true, false, false]);
    assert_eq!((keys("owner=1"), keys("x"), keys("owner=")), (vec!["a".into(), "b".into()], vec!["b".into()], vec![]));
    write(store, &[put_with("b", "2", terms(&["owner=2", "x"])), put_with("a", "2", terms(&["owner=1"]))]).await;
    assert_eq!((keys("owner=1"), keys("owner=2"), keys("x")), (vec!["a".into()], vec!["b".into()], vec!["b".into()]));
    assert_eq!(text(&store.by_term("owner=1")[0]), "2@5!");
    write(store, &[delete("a"), delete("b")]).await;
    assert_eq!((keys("owner=1"), keys("owner=2"), keys("x")), (vec![], vec![], vec![]));
}

async fn a_watch_replays_then_follows_its_prefix_in_order(open: Opener) {
    let Bench { store, .. } = &open(Limits::default());
    write(store, &[put("a/1", "x"), put("b/1", "x"), put("a/2", "x")]).await;
    let mut all = store.watch("", Revision(0)).unwrap();
    let mut late = store.watch("a/", Revision(1)).unwrap();
    write(store, &[put("a/1", "y"), delete("b/1")]).await;
    write(store, &[delete("a/2")]).await;
    assert_eq!(
        drain(&mut all),
        ["1 a/1 - > x@1!", "2 b/1 - > x@2!", "3 a/2 - > x@3!", "4 a/1 x@1! > y@4!", "5 b/1 x@2! > -", "6 a/2 x@3! > -"]
    );
    assert_eq!(drain(&mut late), ["3 a/2 - > x@3!", "4 a/1 x@1! > y@4!", "6 a/2 x@3! > -"]);
    // Wherever a watch resumes, it sees the rest and only the rest.
    for from in 0..=6 {
        let mut resumed = store.watch("", Revision(from)).unwrap();
        let seen: Vec<_> = std::iter::from_fn(|| resumed.try_next().unwrap()).map(|c| c.revision.0).collect();
        assert_eq!(seen, (from + 1..=6).collect::<Vec<_>>());
    }
}

async fn a_replayed_change_equals_the_live_one(open: Opener) {
    let Bench { store, .. } = &open(Limits::default());
    let mut live = store.watch("", Revision(0)).unwrap();
    write(store, &[put_with("a", "x", terms(&["t"])), put("a", "y"), delete("a")]).await;
    let mut replay = store.watch("", Revision(0)).unwrap();
    let entry = |e: &Option<Arc<Entry>>| {
        e.as_ref().map(|e| (e.key.clone(), text(e), e.revision_at.clone(), e.attrs.clone(), e.created, e.modified))
    };
    for _ in 0..3 {
        let (a, b) = (live.try_next().unwrap().unwrap(), replay.try_next().unwrap().unwrap());
        assert_eq!((a.revision, &a.key), (b.revision, &b.key));
        assert_eq!((entry(&a.before), entry(&a.after)), (entry(&b.before), entry(&b.after)));
    }
}

async fn a_watch_from_the_future_waits_for_it(open: Opener) {
    let Bench { store, .. } = &open(Limits::default());
    let mut watch = store.watch("", Revision(2)).unwrap();
    assert_eq!(watch.progress(), Revision(2));
    write(store, &[put("a", "1"), put("a", "2"), put("a", "3")]).await;
    assert_eq!(drain(&mut watch), ["3 a 2@2! > 3@3!"]);
}

async fn progress_passes_other_prefixes_but_not_what_waits(open: Opener) {
    let Bench { store, .. } = &open(Limits::default());
    let mut watch = store.watch("a/", Revision(0)).unwrap();
    write(store, &[put("b", "1"), put("b", "2")]).await;
    assert_eq!(watch.progress(), Revision(2));
    write(store, &[put("b", "3"), put("a/1", "4"), put("b", "5"), put("a/1", "6"), put("b", "7")]).await;
    assert_eq!(watch.progress(), Revision(3));
    watch.try_next().unwrap().unwrap();
    assert_eq!(watch.progress(), Revision(5));
    watch.try_next().unwrap().unwrap();
    assert_eq!(watch.progress(), Revision(7));
    // Resuming from a bookmark loses nothing.
    assert_eq!(drain(&mut store.watch("a/", Revision(3)).unwrap()).len(), 2);
}

async fn history_is_bounded_and_an_older_watch_is_told(open: Opener) {
    let Bench { store, .. } = &open(Limits { history_changes: 3, ..Limits::default() });
    for n in 0..5 {
        write(store, &[put("a", &n.to_string())]).await;
    }
    assert_eq!(store.watch("", Revision(1)).unwrap_err(), WatchError::Compacted { oldest: Revision(2) });
    assert_eq!(drain(&mut store.watch("", Revision(2)).unwrap()).len(), 3);
    let Bench { store, .. } = &open(Limits { history_bytes_max: 4_000, ..Limits::default() });
    let mut watch = store.watch("", Revision(0)).unwrap();
    for _ in 0..5 {
        write(store, &[put("a", &"x".repeat(1_500))]).await;
    }
    let Err(WatchError::Compacted { oldest }) = store.watch("", Revision(0)) else { panic!("it must be compacted") };
    assert_eq!(drain(&mut store.watch("", oldest).unwrap()).len() as u64, 5 - oldest.0);
    assert!(oldest < Revision(5), "the window holds what fits");
    assert_eq!(drain(&mut watch).len(), 5, "a running watch does not depend on the history");
}

async fn a_watcher_that_does_not_keep_up_is_ended_and_no_other(open: Opener) {
    let Bench { store, .. } = &open(Limits { watcher_changes: 2, ..Limits::default() });
    let (mut slow, mut quick) = (store.watch("", Revision(0)).unwrap(), store.watch("", Revision(0)).unwrap());
    let mut other = store.watch("b", Revision(0)).unwrap();
    for n in 1..=3 {
        write(store, &[put("a", &n.to_string())]).await;
        assert_eq!(drain(&mut quick).len(), 1);
    }
    assert_eq!(slow.next().await.unwrap_err(), WatchError::TooSlow);
    assert_eq!(slow.try_next().unwrap_err(), WatchError::TooSlow, "the watch is over");
    assert_eq!(slow.progress(), Revision(0));
    assert_eq!(drain(&mut other).len(), 0);
    // A replay may be longer than the buffer: it is no one's slowness.
    let mut resumed = store.watch("", Revision(0)).unwrap();
    write(store, &[put("a", "4"), put("a", "5")]).await;
    assert_eq!(drain(&mut resumed).len(), 5);
}

async fn a_watcher_is_bounded_in_bytes_but_one_change_always_fits(open: Opener) {
    let Bench { store, .. } = &open(Limits { watcher_bytes: 1_000, ..Limits::default() });
    let mut watch = store.watch("", Revision(0)).unwrap();
    for _ in 0..3 {
        write(store, &[put("a", &"x".repeat(5_000))]).await;
        assert_eq!(drain(&mut watch).len(), 1);
    }
    write(store, &[put("a", &"x".repeat(600)), put("a", &"x".repeat(600))]).await;
    assert_eq!(watch.try_next().unwrap_err(), WatchError::TooSlow);
}

async fn a_waiting_watcher_is_woken_and_a_dropped_wait_loses_nothing(open: Opener) {
    let Bench { store, .. } = &open(Limits::default());
    let mut watch = store.watch("a", Revision(0)).unwrap();
    for n in 0..50 {
        let mut wait = Box::pin(watch.next());
        assert!(futures::poll!(&mut wait).is_pending());
        let writes = [put("b", "x"), put("a", &n.to_string())];
        if n % 2 == 0 {
            let (change, _) = tokio::join!(wait, write(store, &writes));
            assert_eq!(change.unwrap().key.as_ref(), "a");
        } else {
            write(store, &writes).await;
            // Woken, but dropped before it could take the change.
            drop(wait);
            assert_eq!(watch.next().await.unwrap().revision, store.revision());
        }
    }
}

async fn concurrent_writers_get_distinct_revisions_and_watchers_see_each_once(open: Opener) {
    let Bench { store, .. } = &open(Limits::default());
    let mut watch = store.watch("k/", Revision(0)).unwrap();
    let writers = (0..20).map(|w| async move {
        let mut mine = Vec::new();
        for n in 0..10 {
            let done = commit(store, &[], &[put(&format!("k/{w}"), &n.to_string()), put("shared", "x")]).await.unwrap();
            assert!(store.revision() >= done.revision, "a writer sees its write");
            mine.extend(done.changes.iter().map(|c| c.revision.0));
        }
        mine
    });
    let mut revisions: Vec<u64> = futures::future::join_all(writers).await.concat();
    revisions.sort_unstable();
    assert_eq!(revisions, (1..=400).collect::<Vec<_>>());
    let seen: Vec<_> = std::iter::from_fn(|| watch.try_next().unwrap()).map(|c| c.revision).collect();
    assert_eq!(seen.len(), 200);
    assert!(seen.is_sorted_by(|a, b| a < b));
}

async fn compare_and_swap_lets_one_of_many_win(open: Opener) {
    let Bench { store, .. } = &open(Limits::default());
    write(store, &[put("n", "0")]).await;
    let adders = (0..10).map(|_| async move {
        for _ in 0..10 {
            loop {
                let now = store.get("n").unwrap();
                let n: u32 = text(&now).split('@').next().unwrap().parse().unwrap();
                let next = put("n", &(n + 1).to_string());
                if commit(store, &[unchanged("n", now.modified.0)], &[next]).await.is_ok() {
                    break;
                }
            }
        }
    });
    futures::future::join_all(adders).await;
    assert!(text(&store.get("n").unwrap()).starts_with("100@"));
}

macro_rules! suite {
    ($backend:ident: $($name:ident)+) => {
        mod $backend {
            $(#[tokio::test]
            async fn $name() {
                super::$name(super::$backend).await;
            })+
        }
    };
}

macro_rules! suites {
    ($($backend:ident)+) => {
        $(suite! { $backend:
            a_value_carries_its_revision_and_a_delete_can_show_another
            an_expectation_that_fails_changes_nothing_and_says_what_is_there
            a_transaction_happens_as_a_whole_with_a_revision_for_each_write
            a_deleted_key_starts_anew
            a_transaction_without_writes_only_checks
            a_range_is_a_prefix_in_key_order_at_one_revision
            a_term_finds_the_keys_that_have_it_now
            a_watch_replays_then_follows_its_prefix_in_order
            a_replayed_change_equals_the_live_one
            a_watch_from_the_future_waits_for_it
            progress_passes_other_prefixes_but_not_what_waits
            history_is_bounded_and_an_older_watch_is_told
            a_watcher_that_does_not_keep_up_is_ended_and_no_other
            a_watcher_is_bounded_in_bytes_but_one_change_always_fits
            a_waiting_watcher_is_woken_and_a_dropped_wait_loses_nothing
            concurrent_writers_get_distinct_revisions_and_watchers_see_each_once
            compare_and_swap_lets_one_of_many_win
        })+
    };
}

suites! { memory threaded disk }

fn open_file(path: &Path) -> Store {
    Store::open(DiskBackend::open(path).unwrap(), true).unwrap()
}

#[tokio::test]
async fn reopening_keeps_everything_and_the_counter() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.redb");
    let store = open_file(&path);
    let labels = [("app", "web")].into_iter().collect();
    let fields = [("spec.nodeName", "n1")].into_iter().collect();
    write(&store, &[put_with("a", "1", Attrs { labels, fields, terms: vec!["owner=1".to_owned()] }), put("b", "1")])
        .await;
    write(&store, &[put("b", &"long".repeat(10_000)), put("c", "1")]).await;
    // The last revision is a deletion's: no entry has it.
    write(&store, &[delete("c")]).await;
    let before = dump(&store);
    drop(store);
    let store = open_file(&path);
    assert_eq!((dump(&store), store.revision()), (before, Revision(5)));
    assert_eq!(store.by_term("owner=1").len(), 1);
    assert_eq!(store.watch("", Revision(4)).unwrap_err(), WatchError::Compacted { oldest: Revision(5) });
    let mut watch = store.watch("", Revision(5)).unwrap();
    assert_eq!(write(&store, &[put("c", "2")]).await, Revision(6));
    assert_eq!(drain(&mut watch), ["6 c - > 2@6!"]);
}

/// Names the file to write, in the process that is to be killed.
const VICTIM: &str = "SKIFF_TEST_STORE_VICTIM";
const WRITERS: usize = 4;

/// Writes until it is killed, and says what was answered.
async fn write_for_ever(path: &Path) {
    let store = open_file(path);
    let writers = (0..WRITERS).map(|w| {
        let store = store.clone();
        async move {
            for n in counter(&store, w) + 1.. {
                write(&store, &[put(&format!("k/{w}"), &format!("{n}|{}", "x".repeat(n * 37 % 5_000)))]).await;
                writeln!(std::io::stdout(), "answered {w} {n}").unwrap();
            }
        }
    });
    futures::future::join_all(writers).await;
}

fn counter(store: &Store, writer: usize) -> usize {
    store.get(&format!("k/{writer}")).map_or(0, |e| text(&e).split('|').next().unwrap().parse().unwrap())
}

#[tokio::test]
async fn a_killed_process_loses_no_answered_write() {
    if let Ok(path) = std::env::var(VICTIM) {
        return write_for_ever(Path::new(&path)).await;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.redb");
    for round in 1..=3 {
        let mut victim = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "store::contract::a_killed_process_loses_no_answered_write", "--nocapture"])
            .env(VICTIM, &path)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(victim.stdout.take().unwrap()).lines().map(Result::unwrap);
        let mut answered = [0; WRITERS];
        let mut note = |line: &str| {
            let numbers: Vec<usize> = line.split(' ').filter_map(|word| word.parse().ok()).collect();
            if let (true, [w, n]) = (line.starts_with("answered "), &*numbers) {
                answered[*w] = *n;
            }
        };
        lines.by_ref().take(100 * round).for_each(|line| note(&line));
        victim.kill().unwrap();
        // A last line may be cut short: it ends the reading, and was not answered as far as we know.
        lines.for_each(|line| note(&line));
        victim.wait().unwrap();
        let store = open_file(&path);
        let found: Vec<_> = (0..WRITERS).map(|w| counter(&store, w)).collect();
        assert!(answered.iter().sum::<usize>() > 50, "{answered:?}");
        for (answered, found) in answered.iter().zip(&found) {
            assert!((*answered..=answered + 1).contains(found), "answered {answered}, found {found}");
        }
        assert_eq!(store.revision(), Revision(found.iter().sum::<usize>() as u64), "each write took one revision");
    }
}
