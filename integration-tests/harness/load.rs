//! A browser that never rests: one request after another on a node port, each on a connection of its own.

use super::cluster::http_get;
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

/// Requests a page over and over until dropped, and counts what failed.
pub struct Load {
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<(usize, Vec<String>)>>,
}

impl Load {
    /// Starts it.
    pub fn on(port: u16) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let (mut answered, mut failed) = (0, Vec::new());
            while !stopped.load(Ordering::Relaxed) {
                match http_get(port) {
                    Ok(_) => answered += 1,
                    Err(err) => failed.push(err),
                }
            }
            (answered, failed)
        });
        Self { stop, thread: Some(thread) }
    }

    /// Ends it: how many requests were answered, and what failed.
    pub fn end(mut self) -> (usize, Vec<String>) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap()
    }
}
