//! A client that does no harm, asking all the while: what it lives through is what an attack costs others.

use crate::harness::client;
use crate::harness::cluster::Cluster;
use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

/// What the innocent client saw.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Requests that were answered.
    pub answered: usize,
    /// What failed.
    pub failed: Vec<String>,
    /// The slowest answer.
    pub slowest: Duration,
    /// The most memory that the control plane held, in KiB.
    pub memory_kib: u64,
}

/// A client on a thread of its own.
pub struct Innocent {
    stop: Arc<AtomicBool>,
    seen: Arc<Mutex<Seen>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Innocent {
    /// Starts to ask for one small object, over and over.
    pub fn start(cluster: &Cluster) -> Self {
        let (stop, seen) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Seen::default())));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let client = runtime.block_on(client::client(cluster));
        let pid = cluster.pid();
        let (stopped, into) = (Arc::clone(&stop), Arc::clone(&seen));
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                let request = http::Request::get("/api/v1/namespaces/default").body(Vec::new()).unwrap();
                let begun = Instant::now();
                let answer = runtime.block_on(client::send(&client, request));
                let took = begun.elapsed();
                let mut seen = into.lock().unwrap_or_else(PoisonError::into_inner);
                match answer {
                    Ok((200, _)) => seen.answered += 1,
                    other => seen.failed.push(format!("{other:?}")),
                }
                seen.slowest = seen.slowest.max(took);
                seen.memory_kib = seen.memory_kib.max(resident_kib(pid));
            }
        });
        Self { stop, seen, thread: Some(thread) }
    }

    /// What it saw since the last look.
    pub fn look(&self) -> Seen {
        std::mem::take(&mut *self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Innocent {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        drop(self.thread.take().map(std::thread::JoinHandle::join));
    }
}

/// The memory that a process holds now, in KiB.
pub fn resident_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|rest| rest.trim().trim_end_matches(" kB").parse().ok()).unwrap_or_default()
}
