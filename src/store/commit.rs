//! Commits: on a thread of their own for a disk, in the caller for memory.
//!
//! ```text
//! writers ──► queue ──► check the batch ──► backend: one write, one fsync ──► apply, publish ──► answers
//! ```
//!
//! Transactions that arrive while a batch is on its way to the disk make up the next one, so they share its fsync (group commit).
//!
//! **Invariants**
//! - One batch at a time; revision order is commit order is publish order.
//! - Nothing is readable, watchable or answered before it is durable: not even a refusal, whose reason could be a neighbour in the
//!   batch.
//! - A panic here stops the process: a state that may differ from the disk must not be served.

use super::{Backend, Committed, Txn, TxnError, read, stage::Stage, state::State, write};
use std::{
    process,
    sync::{Arc, Mutex, RwLock, mpsc},
    thread::{self, JoinHandle},
    time::Duration,
};
use tokio::sync::oneshot;
use tracing::error;

/// The transactions of one batch: what one fsync pays for. Past it, answers would wait long for their neighbours.
const BATCH_MAX: usize = 512;

/// How long the next of several writers is waited for: far less than an fsync takes.
const GATHER: Duration = Duration::from_micros(50);

type Answer = Result<Committed, TxnError>;

/// Brings transactions to the backend and then to the state.
pub(super) enum Committer {
    /// In the caller.
    Inline(Mutex<Box<dyn Backend>>),
    /// On the commit thread.
    Threaded(CommitThread),
}

enum Request {
    /// Do this.
    Commit { txn: Txn, answer: oneshot::Sender<Answer> },
    /// See whether the backend takes writes.
    Probe { done: oneshot::Sender<()> },
}

impl Committer {
    /// Commits in the caller.
    pub(super) fn inline(backend: Box<dyn Backend>) -> Self {
        Self::Inline(Mutex::new(backend))
    }

    /// Commits on a thread, which is started here.
    pub(super) fn threaded(state: Arc<RwLock<State>>, backend: Box<dyn Backend>) -> Result<Self, String> {
        CommitThread::start(state, backend).map(Self::Threaded)
    }

    /// Does a transaction.
    pub(super) async fn commit(&self, state: &RwLock<State>, txn: Txn) -> Answer {
        match self {
            Self::Inline(backend) => {
                let mut backend = backend.lock().expect("no one panics while committing");
                commit_batch(state, &mut **backend, vec![txn]).pop().expect("a transaction has an answer")
            }
            Self::Threaded(thread) => thread.commit(txn).await,
        }
    }

    /// Sees whether the backend takes writes; the backend keeps what came of it.
    pub(super) async fn probe(&self) {
        match self {
            Self::Inline(backend) => drop(backend.lock().expect("no one panics while committing").probe()),
            Self::Threaded(thread) => thread.probe().await,
        }
    }
}

/// Checks, writes and applies transactions; one answer for each, in order.
fn commit_batch(state: &RwLock<State>, backend: &mut dyn Backend, txns: Vec<Txn>) -> Vec<Answer> {
    let (mut answers, changes) = {
        let current = read(state);
        let mut batch = Stage::on(&current);
        let answers: Vec<Answer> = txns.into_iter().map(|txn| batch.add(txn)).collect();
        (answers, batch.into_changes())
    };
    if changes.is_empty() {
        return answers;
    }
    match backend.commit(&changes) {
        Ok(()) => write(state).apply(&changes),
        Err(text) => answers.fill_with(|| Err(TxnError::Disk(text.clone()))),
    }
    answers
}

/// The commit thread, seen from its writers. Dropping it finishes what is queued and closes the backend.
pub(super) struct CommitThread {
    // `None` only while dropping: hanging up is what ends the thread.
    queue: Option<mpsc::Sender<Request>>,
    thread: Option<JoinHandle<()>>,
}

impl CommitThread {
    fn start(state: Arc<RwLock<State>>, backend: Box<dyn Backend>) -> Result<Self, String> {
        let (queue, requests) = mpsc::channel();
        let thread = thread::Builder::new()
            .name("store-commit".to_owned())
            .spawn(move || run_commits(&state, backend, &requests))
            .map_err(|err| {
                format!("cannot start the store's commit thread: {err}; the machine is out of threads or memory")
            })?;
        Ok(Self { queue: Some(queue), thread: Some(thread) })
    }

    async fn commit(&self, txn: Txn) -> Answer {
        let (answer, answered) = oneshot::channel();
        self.send(Request::Commit { txn, answer });
        answered.await.expect("the commit thread answers every request")
    }

    async fn probe(&self) {
        let (done, probed) = oneshot::channel();
        self.send(Request::Probe { done });
        probed.await.expect("the commit thread answers every request");
    }

    fn send(&self, request: Request) {
        let queue = self.queue.as_ref().expect("the queue lives until the drop");
        queue.send(request).map_err(|_| ()).expect("the commit thread lives as long as its queue");
    }
}

impl Drop for CommitThread {
    fn drop(&mut self) {
        drop(self.queue.take());
        if let Some(thread) = self.thread.take() {
            // A panic in the thread has stopped the process already.
            drop(thread.join());
        }
    }
}

fn run_commits(state: &RwLock<State>, mut backend: Box<dyn Backend>, requests: &mpsc::Receiver<Request>) {
    let _abort = AbortOnPanic;
    let mut batch_len = 0;
    while let Some(batch) = next_batch(requests, batch_len) {
        batch_len = batch.len();
        let (mut txns, mut answers, mut probes) = (Vec::new(), Vec::new(), Vec::new());
        for request in batch {
            match request {
                Request::Commit { txn, answer } => {
                    txns.push(txn);
                    answers.push(answer);
                }
                Request::Probe { done } => probes.push(done),
            }
        }
        if !probes.is_empty() {
            // What came of it is the backend's to keep.
            drop(backend.probe());
            for done in probes {
                // One that no longer waits does not mind.
                done.send(()).unwrap_or(());
            }
        }
        for (result, answer) in commit_batch(state, &mut *backend, txns).into_iter().zip(answers) {
            // A writer that has gone does not want the answer.
            drop(answer.send(result));
        }
    }
}

/// Waits for a request and takes what else has arrived; `None`: no one writes any more.
///
/// The writers of the last batch have just been answered and may be about to write again. Without a moment's patience, the first
/// of them would go alone and the rest would wait for its fsync. A lone writer never waits.
fn next_batch(requests: &mpsc::Receiver<Request>, last_len: usize) -> Option<Vec<Request>> {
    let mut batch = vec![requests.recv().ok()?];
    while batch.len() < BATCH_MAX {
        let next = if batch.len() < last_len { requests.recv_timeout(GATHER).ok() } else { requests.try_recv().ok() };
        let Some(request) = next else { break };
        batch.push(request);
    }
    Some(batch)
}

struct AbortOnPanic;

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        if thread::panicking() {
            error!(
                component = "store",
                "the commit thread panicked: stopping, because the memory may differ from the disk"
            );
            process::abort();
        }
    }
}
