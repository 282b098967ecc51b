//! Named tasks whose panics are caught, and the one signal that drains them. The only caller of `tokio::spawn`.

use futures::FutureExt as _;
use std::{future::Future, panic::AssertUnwindSafe};
use tokio::{sync::watch, task::JoinHandle};
use tracing::error;

/// Starts `work` as a task. A panic inside is logged with the task's name and ends that task alone.
///
/// # Cancel safety
/// Dropping the handle leaves the task running.
pub fn spawn(name: &'static str, work: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
    #[allow(clippy::disallowed_methods, reason = "the one caller of tokio::spawn")]
    tokio::spawn(async move {
        if let Err(panic) = AssertUnwindSafe(work).catch_unwind().await {
            error!(component = "task", name, err = panic_text(&*panic), "task panicked");
        }
    })
}

/// What a panic said.
pub fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("a panic without text")
}

/// The receiving end of the drain signal: everything long-lived holds one and ends when it fires.
#[derive(Clone, Debug)]
pub struct Drain(watch::Receiver<bool>);

/// The sending end of the drain signal. Dropping it drains too, so a crash of the owner ends the tasks.
#[derive(Debug)]
pub struct DrainTrigger(watch::Sender<bool>);

/// A new drain signal, not fired.
pub fn drain_signal() -> (DrainTrigger, Drain) {
    let (tx, rx) = watch::channel(false);
    (DrainTrigger(tx), Drain(rx))
}

impl DrainTrigger {
    /// Tells every holder to finish.
    pub fn fire(&self) {
        self.0.send_replace(true);
    }
}

impl Drain {
    /// Returns once the signal has fired.
    ///
    /// # Cancel safety
    /// Safe: nothing is lost by dropping the future.
    pub async fn drained(&self) {
        let mut rx = self.0.clone();
        // An error means that the trigger is gone, which drains as well.
        drop(rx.wait_for(|fired| *fired).await);
    }

    /// Whether the signal has fired.
    pub fn is_drained(&self) -> bool {
        *self.0.borrow()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_ends_its_own_task_only() {
        spawn("doomed", async { panic!("boom") }).await.unwrap();
    }

    #[tokio::test]
    async fn drain_fires_once_for_all_and_when_the_trigger_is_dropped() {
        let (trigger, drain) = drain_signal();
        assert!(!drain.is_drained());
        let second = drain.clone();
        drop(trigger);
        drain.drained().await;
        second.drained().await;
    }
}
