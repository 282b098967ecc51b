//! Long-lived tasks that outlive their panics: a panic is counted, told, and the work is begun again, later each time.
//!
//! Called by whoever starts a loop that must never be missing. For a process in which every task matters and another process takes
//! over, there is [`Vital`].
//!
//! **Not here**: work on one object among many, whose panic is the object's (`controllers::runtime`, the node's workers).

use super::{
    backoff::Backoff,
    task::{self, Drain},
};
use crate::base::ordered::Map;
use futures::{FutureExt as _, future::BoxFuture};
use std::{
    future::Future,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};
use tokio::{
    sync::mpsc,
    task::JoinHandle,
    time::{Instant, sleep},
};

/// How soon work is begun again: what made it panic is as a rule still there, so later each time.
const RESTART: Backoff = Backoff { base: Duration::from_millis(200), cap: Duration::from_mins(1) };
/// Work that went on for this long panicked for another reason than the time before.
const FORGETS: Duration = Duration::from_mins(5);

/// Begins work again that panicked, and knows how often that was. Clones share what is known.
#[derive(Clone, Debug, Default)]
pub struct Supervisor(Arc<Mutex<Map<&'static str, Health>>>);

/// How a supervised task is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// How often it has panicked.
    pub panics: u64,
    /// What it said when it panicked, while it is not begun again.
    pub down: Option<String>,
}

impl Supervisor {
    /// Does the work that `make` makes until it ends, or until drained while it is not begun again.
    pub fn keep<W>(&self, name: &'static str, drain: Drain, make: impl FnMut() -> W + Send + 'static) -> JoinHandle<()>
    where
        W: Future<Output = ()> + Send + 'static,
    {
        task::spawn("supervisor", self.clone().run(name, drain, make))
    }

    /// As [`Supervisor::keep`], for work that knows nothing of the drain: it is dropped where it waits.
    pub fn keep_until_drained<W>(
        &self,
        name: &'static str,
        drain: &Drain,
        mut make: impl FnMut() -> W + Send + 'static,
    ) -> JoinHandle<()>
    where
        W: Future<Output = ()> + Send + 'static,
    {
        let ended = drain.clone();
        self.keep(name, drain.clone(), move || {
            let (work, ended) = (make(), ended.clone());
            async move {
                tokio::select! {
                    biased;
                    () = ended.drained() => {}
                    () = work => {}
                }
            }
        })
    }

    /// As [`Supervisor::keep`], within a task.
    pub async fn run<W>(self, name: &'static str, drain: Drain, mut make: impl FnMut() -> W + Send)
    where
        W: Future<Output = ()> + Send,
    {
        self.run_boxed(name, drain, &mut || make().boxed()).await;
    }

    /// Boxed, as tasks are.
    async fn run_boxed<'a>(
        self,
        name: &'static str,
        drain: Drain,
        make: &mut (dyn FnMut() -> BoxFuture<'a, ()> + Send),
    ) {
        let mut failures = 0;
        self.note(name, |_| {});
        loop {
            let began = Instant::now();
            let Some(panic) = task::contain(name, make()).await else { return };
            failures = if began.elapsed() >= FORGETS { 1 } else { failures + 1 };
            self.note(name, |health| {
                health.panics += 1;
                health.down = Some(panic);
            });
            tokio::select! {
                biased;
                () = drain.drained() => return,
                () = sleep(RESTART.delay(failures)) => {}
            }
            self.note(name, |health| health.down = None);
        }
    }

    /// How every task that it keeps is, by name.
    pub fn report(&self) -> Map<&'static str, Health> {
        self.lock().clone()
    }

    fn note(&self, name: &'static str, change: impl FnOnce(&mut Health)) {
        change(self.lock().entry(name).or_default());
    }

    fn lock(&self) -> MutexGuard<'_, Map<&'static str, Health>> {
        self.0.lock().expect("no one panics while holding the lock")
    }
}

/// Starts tasks without which the process is worth nothing, and tells when one of them has panicked: then the process should end.
#[derive(Clone, Debug)]
pub struct Vital(mpsc::UnboundedSender<String>);

/// The end at which it is told which vital task has panicked.
pub type Fallen = mpsc::UnboundedReceiver<String>;

impl Vital {
    /// A new one, with the end at which it tells.
    pub fn new() -> (Self, Fallen) {
        let (tell, fallen) = mpsc::unbounded_channel();
        (Self(tell), fallen)
    }

    /// Starts `work` as a vital task.
    pub fn spawn(&self, name: &'static str, work: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
        self.spawn_boxed(name, work.boxed())
    }

    fn spawn_boxed(&self, name: &'static str, work: BoxFuture<'static, ()>) -> JoinHandle<()> {
        let tell = self.0.clone();
        task::spawn("vital", async move {
            if let Some(panic) = task::contain(name, work).await {
                // Nobody listens when the process ends anyway.
                drop(tell.send(format!("{name}: {panic}")));
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::task::drain_signal;
    use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

    #[tokio::test(start_paused = true)]
    async fn work_that_panics_is_begun_again_later_each_time_and_counted() {
        let (supervisor, (_trigger, drain)) = (Supervisor::default(), drain_signal());
        let runs = Arc::new(AtomicU32::new(0));
        let seen = Arc::clone(&runs);
        let began = Instant::now();
        let make = move || {
            let run = seen.fetch_add(1, Relaxed);
            async move { assert!(run >= 3, "boom") }
        };
        supervisor.keep("loop", drain, make).await.unwrap();
        assert_eq!((runs.load(Relaxed), began.elapsed()), (4, Duration::from_millis(200 + 400 + 800)));
        assert_eq!(supervisor.report()["loop"], Health { panics: 3, down: None });
    }

    #[tokio::test(start_paused = true)]
    async fn work_that_is_not_begun_again_yet_is_down_and_ends_with_the_drain() {
        let (supervisor, (trigger, drain)) = (Supervisor::default(), drain_signal());
        let task = supervisor.keep("loop", drain, || async { panic!("boom") });
        tokio::task::yield_now().await;
        assert_eq!(supervisor.report()["loop"], Health { panics: 1, down: Some("boom".to_owned()) });
        trigger.fire();
        task.await.unwrap();
    }

    #[tokio::test]
    async fn the_end_of_a_vital_task_is_told_when_it_is_a_panic() {
        let (vital, mut fallen) = Vital::new();
        vital.spawn("fine", async {}).await.unwrap();
        vital.spawn("doomed", async { panic!("boom") }).await.unwrap();
        assert_eq!(fallen.recv().await.as_deref(), Some("doomed: boom"));
        drop(vital);
        assert_eq!(fallen.recv().await, None);
    }
}
