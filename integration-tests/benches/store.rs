//! Figures of the store, beside their budgets: `cargo bench --bench store`.
//!
//! A shared machine's disk is as quick as its neighbours allow. So the floor, a plain append with `fdatasync` to the same disk, is
//! measured in the same run: read the store's figures against it.

#![allow(clippy::print_stdout, reason = "a bench prints its figures")]
#![allow(clippy::disallowed_methods, reason = "a bench reads the machine's clock")]
#![allow(clippy::unwrap_used, reason = "a bench that cannot go on stops")]
#![allow(clippy::cast_precision_loss, reason = "figures for people")]

use skiff::{
    api::meta::Revision,
    store::{Attrs, Expect, NewValue, Store, Txn, Write, disk::DiskBackend, memory::MemoryBackend},
};
use std::{
    fs::{File, OpenOptions},
    io::Write as _,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};
use tokio::runtime::Runtime;

/// What an object of a small Deployment's Pod weighs with its status.
const VALUE_BYTES: usize = 3_000;
const WRITERS: usize = 64;
const WRITES: usize = 20_000;
const ENTRIES: usize = 10_000;
/// Names the file to open, in a process of its own that says what it took.
const WEIGH: &str = "SKIFF_BENCH_WEIGH";

fn main() {
    if let Ok(path) = std::env::var(WEIGH) {
        return weigh(Path::new(&path));
    }
    let dir = tempfile::tempdir_in(std::env::var_os("SKIFF_BENCH_DIR").unwrap_or(".".into())).unwrap();
    let runtime = Runtime::new().unwrap();
    println!("{:<58} {:>16} {:>16}", "store", "measured", "budget");
    floor(dir.path());
    writes(&runtime, dir.path());
    entries(&runtime, dir.path());
    fan_out(&runtime);
}

fn line(what: &str, measured: &str, budget: &str) {
    println!("{what:<58} {measured:>16} {budget:>16}");
}

fn per_second(n: usize, took: Duration) -> String {
    format!("{:.0}/s", n as f64 / took.as_secs_f64())
}

fn millis(took: Duration) -> String {
    format!("{:.2} ms", took.as_secs_f64() * 1e3)
}

fn append(file: &mut File, bytes: usize) {
    file.write_all(&vec![7; bytes]).unwrap();
    file.sync_data().unwrap();
}

fn floor(dir: &Path) {
    let mut file = OpenOptions::new().create(true).append(true).open(dir.join("floor")).unwrap();
    for (what, writes_each, rounds) in [
        ("floor: append + fdatasync for each write", 1, 300),
        ("floor: append + fdatasync for 64 writes", WRITERS, 100),
    ] {
        let start = Instant::now();
        (0..rounds).for_each(|_| append(&mut file, writes_each * VALUE_BYTES));
        line(what, &per_second(rounds * writes_each, start.elapsed()), "-");
    }
}

fn put(key: String, n: usize) -> Write {
    let head = format!("{:x<1$}", n, VALUE_BYTES / 20).into_bytes();
    let value = NewValue { head, tail: vec![b'y'; VALUE_BYTES * 19 / 20] };
    let pairs =
        |n: usize| (0..n).map(|i| (format!("app.kubernetes.io/name{i}"), "a-typical-value".to_owned())).collect();
    let attrs = Attrs { labels: pairs(4), fields: pairs(3), terms: vec![format!("owner={:032}", n / 10)] };
    Write::Put { key, value, attrs }
}

fn object_key(n: usize) -> String {
    format!("pods/a-namespace/an-object-{n:08}")
}

async fn write(store: &Store, writer: usize, n: usize) {
    let key = object_key(writer * 31 + n % 31);
    let expect = store.get(&key).map_or(Expect::Absent(key.clone()), |e| Expect::Unchanged(key.clone(), e.modified));
    store.commit(Txn { expect: vec![expect], writes: vec![put(key, n)] }).await.unwrap();
}

async fn write_all(store: &Store, tasks: usize, writes: usize) -> Duration {
    let start = Instant::now();
    let running: Vec<_> = (0..tasks)
        .map(|w| {
            let store = store.clone();
            tokio::spawn(async move {
                for n in 0..writes / tasks {
                    write(&store, w, n).await;
                }
            })
        })
        .collect();
    for writer in running {
        writer.await.unwrap();
    }
    start.elapsed()
}

fn writes(runtime: &Runtime, dir: &Path) {
    let path = dir.join("writes.redb");
    let store = Store::open(DiskBackend::open(&path).unwrap(), true).unwrap();
    let one = runtime.block_on(write_all(&store, 1, 500));
    line("durable writes, 1 writer", &per_second(500, one), "-");
    let many = runtime.block_on(write_all(&store, WRITERS, WRITES));
    line("durable writes, 64 writers", &per_second(WRITES, many), ">= 5000/s");
    let file = path.metadata().unwrap().len();
    line("file after 20,500 writes of 1,984 objects of 3 KB", &format!("{:.1} MB", file as f64 / 1e6), "-");
    let memory = Store::open(MemoryBackend, false).unwrap();
    let took = runtime.block_on(write_all(&memory, WRITERS, WRITES));
    line("the same without a disk", &per_second(WRITES, took), "-");
}

fn resident_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|l| l.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
}

fn weigh(path: &Path) {
    let before = resident_bytes();
    let store = Store::open(DiskBackend::open(path).unwrap(), true).unwrap();
    println!("{}", resident_bytes() - before);
    drop(store);
}

/// What opening a file adds to a fresh process.
fn resident_bytes_of(path: &Path) -> usize {
    let child = Command::new(std::env::current_exe().unwrap()).env(WEIGH, path).output().unwrap();
    String::from_utf8(child.stdout).unwrap().trim().parse().unwrap()
}

fn entries(runtime: &Runtime, dir: &Path) {
    let path = dir.join("entries.redb");
    let store = Store::open(DiskBackend::open(&path).unwrap(), true).unwrap();
    for chunk in 0..ENTRIES / 100 {
        let writes = (chunk * 100..(chunk + 1) * 100).map(|n| put(object_key(n), n)).collect();
        runtime.block_on(store.commit(Txn { expect: vec![], writes })).unwrap();
    }
    let crashed = dir.join("crashed.redb");
    std::fs::copy(&path, &crashed).unwrap();
    drop(store);
    for (what, path) in [("after a clean end", &path), ("after a crash", &crashed)] {
        let start = Instant::now();
        let store = Store::open(DiskBackend::open(path).unwrap(), true).unwrap();
        assert_eq!(store.revision(), Revision(ENTRIES as u64));
        line(&format!("open 10,000 entries of 3 KB {what}"), &millis(start.elapsed()), "<= 500 ms");
    }
    let empty = resident_bytes_of(&dir.join("empty.redb"));
    line("resident memory of an empty store", &format!("{} KB", empty / 1_000), "<= 2000 KB");
    let each = (resident_bytes_of(&path) - empty) / ENTRIES;
    line("resident memory for each of them (value 3,000 B)", &format!("{each} B"), "<= 6000 B");
    let store = Store::open(DiskBackend::open(&path).unwrap(), true).unwrap();
    let start = Instant::now();
    let snapshot = store.range("pods/");
    let took = start.elapsed();
    assert_eq!(snapshot.entries.len(), ENTRIES);
    line("list of 10,000 entries of 3 KB", &millis(took), "<= 100 ms");
    let start = Instant::now();
    let bytes: usize = snapshot.entries.iter().map(|e| e.value.to_vec().len()).sum();
    line(
        &format!("the same with its {} MB copied out", bytes / 1_000_000),
        &millis(took + start.elapsed()),
        "<= 100 ms",
    );
    let start = Instant::now();
    let owned: usize = (0..1_000).map(|n| store.by_term(&format!("owner={n:032}")).len()).sum();
    assert_eq!(owned, ENTRIES);
    line("objects of one owner (10 of 10,000)", &format!("{:.2} us", start.elapsed().as_secs_f64() * 1e3), "<= 50 us");
}

fn fan_out(runtime: &Runtime) {
    let store = Store::open(MemoryBackend, false).unwrap();
    let watches: Vec<_> = (0..500).map(|_| store.watch("pods/", Revision(0)).unwrap()).collect();
    let writes: u16 = 1_000;
    let start = Instant::now();
    runtime.block_on(async {
        for n in 0..writes {
            write(&store, 0, usize::from(n)).await;
        }
    });
    let each = start.elapsed() / u32::from(writes);
    line("one write to 500 watchers", &format!("{:.1} us", each.as_secs_f64() * 1e6), "<= 500 us");
    drop(watches);
}
