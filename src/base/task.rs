//! Named tasks whose panics are caught, and the one signal that drains them. The only caller of `tokio::spawn`.

use futures::{FutureExt as _, future::BoxFuture};
use std::{
    future::Future,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, MutexGuard},
};
use tokio::{
    sync::watch,
    task::{AbortHandle, JoinHandle},
};
use tracing::error;

tokio::task_local! {
    /// The group that tasks of this task belong to.
    static GROUP: Group;
}

/// Tasks that can be ended together, at whatever they are doing: how the simulator kills a control plane. Tasks that a member starts
/// are members too. It remembers their panics.
#[derive(Clone, Debug, Default)]
pub struct Group(Arc<Mutex<Members>>);

#[derive(Debug, Default)]
struct Members {
    tasks: Vec<AbortHandle>,
    panics: Vec<String>,
    /// The tasks that are to panic, by name.
    #[cfg(any(test, feature = "testing"))]
    doomed: crate::base::ordered::Set<String>,
    /// Whether no member goes on any more.
    #[cfg(any(test, feature = "testing"))]
    is_frozen: bool,
    /// Members that would have gone on since.
    #[cfg(any(test, feature = "testing"))]
    held: Vec<std::task::Waker>,
    /// Every name that a task had.
    #[cfg(any(test, feature = "testing"))]
    names: crate::base::ordered::Set<&'static str>,
}

/// What a planted panic says.
#[cfg(any(test, feature = "testing"))]
pub const PLANNED: &str = "planned panic";

impl Group {
    /// Runs `work` so that every task it starts is a member.
    pub async fn enter<T>(&self, work: impl Future<Output = T>) -> T {
        GROUP.scope(self.clone(), work).await
    }

    /// Ends every member at once.
    pub fn abort(&self) {
        for task in self.lock().tasks.drain(..) {
            task.abort();
        }
    }

    /// What members that panicked said.
    pub fn panics(&self) -> Vec<String> {
        self.lock().panics.clone()
    }

    /// Makes a member of this name panic where it goes on next.
    #[cfg(any(test, feature = "testing"))]
    pub fn doom(&self, name: &str) {
        self.lock().doomed.insert(name.to_owned());
    }

    /// Lets no member go on, wherever it is, until it is ended: how the simulator stops a control plane.
    #[cfg(any(test, feature = "testing"))]
    pub fn freeze(&self) {
        self.lock().is_frozen = true;
    }

    /// Lets every member go on from where it was.
    #[cfg(any(test, feature = "testing"))]
    pub fn thaw(&self) {
        let held = {
            let mut members = self.lock();
            members.is_frozen = false;
            std::mem::take(&mut members.held)
        };
        held.into_iter().for_each(std::task::Waker::wake);
    }

    /// Whether a doomed member has not panicked yet.
    #[cfg(any(test, feature = "testing"))]
    pub fn is_doomed(&self, name: &str) -> bool {
        self.lock().doomed.contains(name)
    }

    /// Every name that a member has or had.
    #[cfg(any(test, feature = "testing"))]
    pub fn names(&self) -> crate::base::ordered::Set<&'static str> {
        self.lock().names.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Members> {
        self.0.lock().expect("no one panics while holding the lock")
    }

    fn add(&self, task: AbortHandle) {
        let mut members = self.lock();
        members.tasks.retain(|t| !t.is_finished());
        members.tasks.push(task);
    }
}

/// Starts `work` as a task. A panic inside is logged with the task's name and ends that task alone.
///
/// # Cancel safety
/// Dropping the handle leaves the task running.
pub fn spawn(name: &'static str, work: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
    spawn_boxed(name, work.boxed())
}

/// Boxed, so that the program has what surrounds a task once and not for each kind of work and each scheduler: nearly three megabytes.
fn spawn_boxed(name: &'static str, work: BoxFuture<'static, ()>) -> JoinHandle<()> {
    let Ok(group) = GROUP.try_with(Group::clone) else { return start_alone(name, work) };
    let owner = group.clone();
    let work = async move {
        if let Some(panic) = run(name, work).await {
            owner.lock().panics.push(format!("{name}: {panic}"));
        }
    };
    let task = start(GROUP.scope(group.clone(), work));
    group.add(task.abort_handle());
    task
}

/// Starts `work` as a task that belongs to no group, whoever starts it: what goes on in a simulated world when a control plane
/// in it is killed.
///
/// # Cancel safety
/// As [`spawn`].
pub fn spawn_in_no_group(name: &'static str, work: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
    start_alone(name, work.boxed())
}

fn start_alone(name: &'static str, work: BoxFuture<'static, ()>) -> JoinHandle<()> {
    start(async move { drop(run(name, work).await) })
}

/// Runs work within a task to its end; what it said when it panicked. The panic is logged and remembered as a task's own would be,
/// and the task goes on.
pub async fn contain(name: &'static str, work: impl Future<Output = ()>) -> Option<String> {
    let panic = run(name, work).await?;
    if let Ok(group) = GROUP.try_with(Group::clone) {
        group.lock().panics.push(format!("{name}: {panic}"));
    }
    Some(panic)
}

/// Runs the work of a task; what it said when it panicked.
async fn run(name: &'static str, work: impl Future<Output = ()>) -> Option<String> {
    #[cfg(any(test, feature = "testing"))]
    let work = doomable(name, work);
    let panic = AssertUnwindSafe(work).catch_unwind().await.err()?;
    let text = panic_text(&*panic).to_owned();
    error!(component = "task", name, err = text, "task panicked");
    Some(text)
}

/// Work that panics when its group has doomed it, and waits for its end when that is frozen.
#[cfg(any(test, feature = "testing"))]
async fn doomable(name: &'static str, work: impl Future<Output = ()>) {
    let state = |group: &Group, waker: &std::task::Waker| {
        let mut members = group.lock();
        members.names.insert(name);
        if members.is_frozen {
            members.held.push(waker.clone());
        }
        (members.doomed.remove(name), members.is_frozen)
    };
    let mut work = std::pin::pin!(work);
    std::future::poll_fn(|context| {
        let (is_doomed, is_frozen) = GROUP.try_with(|group| state(group, context.waker())).unwrap_or_default();
        assert!(!is_doomed, "{PLANNED}");
        if is_frozen { std::task::Poll::Pending } else { work.as_mut().poll(context) }
    })
    .await;
}

#[allow(clippy::disallowed_methods, reason = "the one caller of tokio::spawn")]
fn start(work: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
    tokio::spawn(work)
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_ends_its_own_task_only() {
        spawn("doomed", async { panic!("boom") }).await.unwrap();
    }

    #[tokio::test]
    async fn a_group_ends_the_tasks_that_its_tasks_started() {
        let group = Group::default();
        let (alive, mut gone) = tokio::sync::mpsc::channel::<()>(1);
        let inner = async move {
            let _alive = alive;
            std::future::pending::<()>().await;
        };
        let outer = async move { spawn("inner", inner).await.unwrap() };
        group.enter(async { drop(spawn("outer", outer)) }).await;
        tokio::task::yield_now().await;
        group.abort();
        assert_eq!(gone.recv().await, None);
    }

    #[tokio::test]
    #[allow(clippy::async_yields_async, reason = "the handle is awaited outside the group")]
    async fn a_group_that_is_frozen_waits_until_it_thaws_or_ends() {
        let group = Group::default();
        let (alive, mut heard) = tokio::sync::mpsc::unbounded_channel();
        let work = async move {
            loop {
                alive.send(()).unwrap();
                tokio::task::yield_now().await;
            }
        };
        let task = group.enter(async { spawn("member", work) }).await;
        heard.recv().await.unwrap();
        group.freeze();
        while heard.try_recv().is_ok() {}
        tokio::task::yield_now().await;
        tokio::task::yield_now().await;
        assert!(heard.try_recv().is_err() && !task.is_finished());
        group.thaw();
        heard.recv().await.unwrap();
        group.freeze();
        group.abort();
        assert!(task.await.unwrap_err().is_cancelled());
    }

    #[tokio::test]
    #[allow(clippy::async_yields_async, reason = "the handle is awaited outside the group")]
    async fn a_group_knows_which_of_its_tasks_panicked() {
        let group = Group::default();
        let task = group.enter(async { spawn("doomed", async { panic!("boom") }) }).await;
        task.await.unwrap();
        assert_eq!(group.panics(), ["doomed: boom"]);
    }

    #[tokio::test]
    #[allow(clippy::async_yields_async, reason = "the handle is awaited outside the group")]
    async fn a_task_in_no_group_outlives_the_group_of_who_started_it() {
        let group = Group::default();
        let task = group.enter(async { spawn_in_no_group("world", tokio::task::yield_now()) }).await;
        group.abort();
        task.await.unwrap();
    }

    #[tokio::test]
    async fn a_panic_that_is_contained_is_told_and_remembered() {
        let group = Group::default();
        let told = group.enter(contain("doomed", async { panic!("boom") })).await;
        assert_eq!(told.as_deref(), Some("boom"));
        assert_eq!(group.panics(), ["doomed: boom"]);
        assert_eq!(contain("fine", async {}).await, None);
    }

    #[tokio::test]
    async fn drain_fires_once_for_all_and_when_the_trigger_is_dropped() {
        let (trigger, drain) = drain_signal();
        assert!(drain.drained().now_or_never().is_none());
        let second = drain.clone();
        drop(trigger);
        drain.drained().await;
        second.drained().await;
    }
}
