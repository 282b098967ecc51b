//! Browsers that never rest: one request after another on a node port, each on a connection of its own.

use super::{cluster::http_get_of, wait::eventually};
use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

/// How long answers may take to come.
const SOON: Duration = Duration::from_secs(30);

/// Requests a page over and over until it is ended.
pub struct Load {
    stop: Arc<AtomicBool>,
    seen: Arc<Mutex<Seen>>,
    clients: Vec<JoinHandle<()>>,
}

/// What clients have seen.
#[derive(Default)]
pub struct Seen {
    /// When each answer came, in order.
    pub answered: Vec<Instant>,
    /// What failed.
    pub failed: Vec<String>,
}

impl Seen {
    /// How many requests were answered, and what failed.
    pub fn counted(self) -> (usize, Vec<String>) {
        (self.answered.len(), self.failed)
    }

    /// The longest time without an answer.
    pub fn gap(&self) -> Duration {
        self.answered.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
    }
}

impl Load {
    /// Starts so many clients.
    pub fn on(port: u16, clients: usize) -> Self {
        Self::on_host(port, "localhost", clients)
    }

    /// Starts so many clients of a host.
    pub fn on_host(port: u16, host: &str, clients: usize) -> Self {
        let (stop, seen) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Seen::default())));
        let client = |_| {
            let (stop, seen) = (Arc::clone(&stop), Arc::clone(&seen));
            let host = host.to_owned();
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let answer = http_get_of(port, &host);
                    let mut seen = seen.lock().unwrap();
                    match answer {
                        Ok(_) => seen.answered.push(Instant::now()),
                        Err(err) => seen.failed.push(err),
                    }
                }
            })
        };
        let clients = (0..clients).map(client).collect();
        Self { stop, seen, clients }
    }

    /// Waits for so many answers more.
    pub fn go_on(&self, more: usize) {
        let wanted = self.seen.lock().unwrap().answered.len() + more;
        eventually("the load is answered", SOON, || {
            let n = self.seen.lock().unwrap().answered.len();
            if n >= wanted { Ok(()) } else { Err(n) }
        });
    }

    /// Ends it.
    pub fn end(self) -> Seen {
        self.stop.store(true, Ordering::Relaxed);
        self.clients.into_iter().for_each(|client| client.join().unwrap());
        std::mem::take(&mut *self.seen.lock().unwrap())
    }
}
