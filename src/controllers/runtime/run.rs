//! The loop of a controller: changes wake keys, keys are reconciled, several at once, each key one at a time.
//!
//! Called by `controllers::run_all`; one task per controller. The queue decides; this only waits, and starts what it says.
//!
//! **Invariants**: it starts from a full list and follows the changes since; when a watch ends it lists everything again; all
//! changes at hand are taken in before a key is started, so a burst of changes makes one pass; when wall time jumps every key is looked
//! at, because a key may wait for a wall time while its timer follows monotonic time.

use super::{
    decision::Decision,
    execute::{Done, Executor, is_moved},
    metrics::{Counters, Metrics},
    queue::{BACKOFF, Outcome, Queue},
    trigger::Trigger,
};
use crate::{
    api::{kinds::Kinds, meta::Revision, status::ApiError},
    base::{
        backoff::Backoff,
        chain::chain,
        task::{Drain, panic_text},
    },
    registry::{Registry, pipeline::Selection},
    store::{Change, Entry, WatchError},
};
use futures::{
    FutureExt as _, StreamExt as _,
    future::BoxFuture,
    stream::{self, BoxStream, FuturesUnordered, SelectAll},
};
use std::{
    any::Any,
    fmt::Debug,
    panic::AssertUnwindSafe,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};
use tracing::{Instrument as _, debug, debug_span, error, info, warn};

/// How many keys of one controller are reconciled at once.
const RUNNING_MAX: usize = 16;
/// How often everything is looked at again, although no change told of it.
pub const RESYNC_EVERY: Duration = Duration::from_mins(10);
/// How many changes are taken in before keys are started.
const ABSORB_MAX: usize = 4096;
/// How long a key rests for each object that its pass looked at. A pass takes a few microseconds for each: without a rest, a
/// thousand pods that change one by one would cost a thousand passes over all of them.
const REST_PER_OBJECT: Duration = Duration::from_micros(100);
/// Shorter rests are none: nobody would notice them.
const REST_MIN: Duration = Duration::from_millis(2);
/// The longest rest: somebody may be watching.
const REST_MAX: Duration = Duration::from_millis(500);
/// How long a loop that panicked waits before it starts anew.
const RESTART: Backoff = Backoff { base: Duration::from_millis(100), cap: Duration::from_secs(30) };

/// What a controller reconciles one at a time.
pub trait Key: Ord + Clone + Debug + Send + Sync + 'static {}

impl<K: Ord + Clone + Debug + Send + Sync + 'static> Key for K {}

/// A controller: what it looks at, and what it wants.
pub trait Controller: Send + Sync + 'static {
    /// What it reconciles one at a time: mostly an object's key.
    type Key: Key;
    /// All that a decision depends on, the time included.
    type Observed: Send + Sync;

    /// Whether [`Controller::conclude`] has something to say: for it, all is gathered anew after the decision was carried out.
    const CONCLUDES: bool = false;

    /// Whether it has [`Controller::kind_triggers`].
    const FOLLOWS_KINDS: bool = false;

    /// Its name in logs and metrics.
    fn name(&self) -> &'static str;
    /// The component that its events name.
    fn event_source(&self) -> &'static str {
        self.name()
    }
    /// Which changes wake which keys.
    fn triggers(&self) -> Vec<Trigger<Self::Key>>;
    /// More of them, for a controller of every kind that is served. Asked for anew when kinds come and go, where
    /// [`Controller::FOLLOWS_KINDS`].
    fn kind_triggers(&self, _kinds: &Kinds) -> Vec<Trigger<Self::Key>> {
        Vec::new()
    }
    /// Keys that are looked at from the start, whatever there is.
    fn first_keys(&self) -> Vec<Self::Key> {
        Vec::new()
    }
    /// Gathers what the decision needs; `None`: the object is gone and nothing is left to do.
    fn observe(&self, registry: &Registry, key: &Self::Key) -> Option<Self::Observed>;
    /// How many objects a pass goes over, when there may be many of them: a key rests after a pass over many.
    fn weight(&self, _observed: &Self::Observed) -> usize {
        0
    }
    /// What to change. Pure.
    fn decide(&self, observed: &Self::Observed) -> Decision;
    /// What to write last, mostly the status, given the world after the decision was carried out and how that went. Pure. Asked for
    /// only where [`Controller::CONCLUDES`].
    fn conclude(&self, _observed: &Self::Observed, _done: &Done) -> Decision {
        Decision::rest()
    }
}

/// A controller as its loop sees it, which so is compiled for each type of key and not for each controller.
trait Reconciler<K>: Send + Sync {
    fn name(&self) -> &'static str;
    fn event_source(&self) -> &'static str;
    fn triggers(&self, kinds: &Kinds) -> Vec<Trigger<K>>;
    fn follows_kinds(&self) -> bool;
    fn concludes(&self) -> bool;
    fn first_keys(&self) -> Vec<K>;
    fn look<'c>(&'c self, registry: &Registry, key: &K) -> Option<Box<dyn Look + 'c>>;
}

/// What a controller sees of one key.
trait Look: Send + Sync {
    fn weight(&self) -> usize;
    fn decide(&self) -> Decision;
    fn conclude(&self, done: &Done) -> Decision;
}

impl<C: Controller> Reconciler<C::Key> for C {
    fn name(&self) -> &'static str {
        Controller::name(self)
    }

    fn event_source(&self) -> &'static str {
        Controller::event_source(self)
    }

    fn triggers(&self, kinds: &Kinds) -> Vec<Trigger<C::Key>> {
        let mut all = Controller::triggers(self);
        all.extend(self.kind_triggers(kinds));
        all
    }

    fn follows_kinds(&self) -> bool {
        C::FOLLOWS_KINDS
    }

    fn concludes(&self) -> bool {
        C::CONCLUDES
    }

    fn first_keys(&self) -> Vec<C::Key> {
        Controller::first_keys(self)
    }

    fn look<'c>(&'c self, registry: &Registry, key: &C::Key) -> Option<Box<dyn Look + 'c>> {
        let observed = self.observe(registry, key)?;
        Some(Box::new(Seen { controller: self, observed }))
    }
}

struct Seen<'c, C: Controller> {
    controller: &'c C,
    observed: C::Observed,
}

impl<C: Controller> Look for Seen<'_, C> {
    fn weight(&self) -> usize {
        self.controller.weight(&self.observed)
    }

    fn decide(&self) -> Decision {
        self.controller.decide(&self.observed)
    }

    fn conclude(&self, done: &Done) -> Decision {
        self.controller.conclude(&self.observed, done)
    }
}

/// Runs a controller until drained. A loop that panics starts anew after a while.
pub fn run<C: Controller>(controller: C, registry: Registry, metrics: Metrics, drain: Drain) -> BoxFuture<'static, ()> {
    run_loop(Arc::new(controller), registry, metrics, drain).boxed()
}

async fn run_loop<K: Key>(controller: Arc<dyn Reconciler<K>>, registry: Registry, metrics: Metrics, drain: Drain) {
    let counters = metrics.of(controller.name());
    let begin = || Loop::new(Arc::clone(&controller), &registry, &counters).run(&drain);
    restarting(controller.name(), &counters, &registry, &drain, begin).await;
}

/// Runs a loop of a controller until it ends or is drained. One that panics is begun anew after a while.
pub async fn restarting<W: Future<Output = ()>>(
    name: &'static str,
    counters: &Counters,
    registry: &Registry,
    drain: &Drain,
    begin: impl Fn() -> W,
) {
    for panics in 1.. {
        let Err(panic) = AssertUnwindSafe(begin()).catch_unwind().await else { return };
        log_panic(name, counters, &*panic);
        let wait = sleep_until(registry.clock().mono() + RESTART.delay(panics));
        tokio::select! { biased; () = drain.drained() => return, () = wait => {} }
    }
}

fn log_panic(controller: &'static str, counters: &Counters, panic: &(dyn Any + Send)) {
    counters.panics.fetch_add(1, Relaxed);
    error!(component = "controllers", controller, err = panic_text(panic), "controller panicked");
}

/// How long a key rests after a pass over so many objects.
fn rest_after(weight: usize) -> Duration {
    let rest = REST_PER_OBJECT.saturating_mul(u32::try_from(weight).unwrap_or(u32::MAX)).min(REST_MAX);
    if rest < REST_MIN { Duration::ZERO } else { rest }
}

/// A change of the trigger of this number, or the end of its watch.
type Fed = (usize, Result<Arc<Change>, WatchError>);

struct Ended<K> {
    key: K,
    outcome: Outcome,
    /// When the pass wanted another look, whatever its outcome.
    look_at: Option<Instant>,
    acted: bool,
    weight: usize,
}

struct Loop<K> {
    controller: Arc<dyn Reconciler<K>>,
    registry: Registry,
    executor: Executor,
    counters: Arc<Counters>,
    triggers: Vec<Trigger<K>>,
    kinds: watch::Receiver<Arc<Kinds>>,
    clock_jumps: watch::Receiver<u64>,
    queue: Queue<K>,
    feed: SelectAll<BoxStream<'static, Fed>>,
    running: FuturesUnordered<BoxFuture<'static, Ended<K>>>,
}

impl<K: Key> Loop<K> {
    fn new(controller: Arc<dyn Reconciler<K>>, registry: &Registry, counters: &Arc<Counters>) -> Self {
        let executor = Executor::new(registry.clone(), controller.event_source(), Arc::clone(counters));
        Self {
            registry: registry.clone(),
            executor,
            counters: Arc::clone(counters),
            triggers: Vec::new(),
            kinds: registry.kinds_watch(),
            clock_jumps: registry.clock().jumps(),
            queue: Queue::new(RUNNING_MAX, BACKOFF),
            feed: SelectAll::new(),
            running: FuturesUnordered::new(),
            controller,
        }
    }

    fn now(&self) -> Instant {
        self.registry.clock().mono()
    }

    async fn run(mut self, drain: &Drain) {
        info!(component = "controllers", controller = self.controller.name(), "controller started");
        for key in self.controller.first_keys() {
            self.queue.add(key, self.now());
        }
        self.follow_kinds();
        let mut resync_at = self.now() + RESYNC_EVERY;
        loop {
            self.absorb();
            self.start_ready();
            let waiting = u64::try_from(self.queue.waiting()).unwrap_or(u64::MAX);
            self.counters.waiting.store(waiting, Relaxed);
            let wake_at = self.queue.next_due().map_or(resync_at, |due| due.min(resync_at));
            tokio::select! {
                biased;
                () = drain.drained() => return,
                Some(fed) = self.feed.next() => self.take(fed),
                Ok(()) = self.clock_jumps.changed() => self.wake_all(false),
                Ok(()) = self.kinds.changed(), if self.controller.follows_kinds() => self.follow_kinds(),
                Some(ended) = self.running.next() => self.end(ended),
                () = sleep_until(wake_at) => {}
            }
            if self.now() >= resync_at {
                self.wake_all(true);
                resync_at = self.now() + RESYNC_EVERY;
            }
        }
    }

    /// Follows the kinds that there are now.
    fn follow_kinds(&mut self) {
        let kinds = Arc::clone(&self.kinds.borrow_and_update());
        self.triggers = self.controller.triggers(&kinds);
        self.relist();
    }

    /// Lists every triggering kind, wakes all keys, and watches from there.
    fn relist(&mut self) {
        self.feed.clear();
        for i in 0..self.triggers.len() {
            let stream = loop {
                let revision = self.wake_all_of(i, false);
                match self.watch(i, revision) {
                    Ok(stream) => break stream,
                    // Others wrote more in between than the store remembers: the list is cheap, so take another.
                    Err(err) => debug!(component = "controllers", %err, "watch did not start"),
                }
            };
            self.feed.push(stream);
        }
    }

    /// Wakes the keys of every object of a triggering kind; the revision that the list shows.
    fn wake_all_of(&mut self, i: usize, is_resync: bool) -> Revision {
        let snapshot = self.registry.snapshot(&*self.triggers[i].kind, "", &Selection::default());
        for entry in &snapshot.entries {
            self.wake(i, None, Some(entry), is_resync);
        }
        snapshot.revision
    }

    fn wake(&mut self, i: usize, before: Option<&Entry>, after: Option<&Entry>, is_resync: bool) {
        let now = self.now();
        for key in self.triggers[i].keys(&self.registry, before, after) {
            let is_new = self.queue.add(key.clone(), now);
            if is_new || !is_resync {
                self.queue.note_resync(&key, is_resync);
            }
        }
    }

    fn watch(&self, i: usize, from: Revision) -> Result<BoxStream<'static, Fed>, WatchError> {
        let watch = self.registry.watch_kind(&*self.triggers[i].kind, from)?;
        let changes = stream::unfold(Some(watch), async |watch| {
            let mut watch = watch?;
            match watch.next().await {
                Ok(change) => Some((Ok(change), Some(watch))),
                Err(err) => Some((Err(err), None)),
            }
        });
        Ok(changes.map(move |change| (i, change)).boxed())
    }

    /// Takes in all changes that are at hand.
    fn absorb(&mut self) {
        for _ in 0..ABSORB_MAX {
            match self.feed.next().now_or_never() {
                Some(Some(fed)) => self.take(fed),
                Some(None) | None => return,
            }
        }
    }

    fn take(&mut self, (i, change): Fed) {
        match change {
            Ok(change) => self.wake(i, change.before.as_deref(), change.after.as_deref(), false),
            Err(err) => {
                // What changed since is not known, deletions included, so every trigger lists again.
                self.counters.relists.fetch_add(1, Relaxed);
                warn!(component = "controllers", controller = self.controller.name(), %err, "listing again");
                self.relist();
            }
        }
    }

    /// Wakes the keys of every object of every triggering kind.
    fn wake_all(&mut self, is_resync: bool) {
        for i in 0..self.triggers.len() {
            self.wake_all_of(i, is_resync);
        }
    }

    fn start_ready(&mut self) {
        let now = self.now();
        while let Some(key) = self.queue.pop(now) {
            let pass = Pass {
                controller: Arc::clone(&self.controller),
                registry: self.registry.clone(),
                executor: self.executor.clone(),
                counters: Arc::clone(&self.counters),
            };
            self.running.push(pass.over(key).boxed());
        }
    }

    fn end(&mut self, ended: Ended<K>) {
        if self.queue.take_resync(&ended.key) && ended.acted {
            self.counters.resync_finds.fetch_add(1, Relaxed);
            let (controller, key) = (self.controller.name(), &ended.key);
            warn!(component = "controllers", controller, ?key, "the slow resync found work that no change told of");
        }
        let now = self.now();
        self.queue.done(&ended.key, ended.outcome, rest_after(ended.weight), now);
        // What is due at a time (a pod that is available, a deadline) does not wait for the back-off of what failed.
        if let Some(at) = ended.look_at {
            self.queue.add(ended.key, at);
        }
    }
}

/// One pass over one key.
struct Pass<K> {
    controller: Arc<dyn Reconciler<K>>,
    registry: Registry,
    executor: Executor,
    counters: Arc<Counters>,
}

/// What a pass did, apart from what becomes of its key.
#[derive(Default)]
struct Progress {
    acted: bool,
    weight: usize,
    requeue_after: Option<Duration>,
    error: Option<ApiError>,
}

impl<K: Key> Pass<K> {
    async fn over(self, key: K) -> Ended<K> {
        self.counters.reconciles.fetch_add(1, Relaxed);
        let span = debug_span!("reconcile", controller = self.controller.name(), ?key);
        let (outcome, result) = match AssertUnwindSafe(self.reconcile(&key)).catch_unwind().instrument(span).await {
            Ok(result) => (self.outcome(&key, &result), result),
            Err(panic) => {
                log_panic(self.controller.name(), &self.counters, &*panic);
                (Outcome::Failed, Progress { acted: true, ..Progress::default() })
            }
        };
        let look_at = result.requeue_after.map(|delay| self.registry.clock().mono() + delay);
        Ended { key, outcome, look_at, acted: result.acted, weight: result.weight }
    }

    async fn reconcile(&self, key: &K) -> Progress {
        let mut result = Progress::default();
        let Some(mut seen) = self.look(key) else { return result };
        result.weight = seen.weight();
        let decision = seen.decide();
        let done = self.carry_out(&decision, &mut result).await;
        if !self.controller.concludes() {
            return result;
        }
        if !decision.is_rest() {
            let Some(after) = self.look(key) else { return result };
            seen = after;
        }
        let closing = seen.conclude(&done);
        drop(seen);
        self.carry_out(&closing, &mut result).await;
        result
    }

    /// Looks, and counts what a pass looks at.
    fn look(&self, key: &K) -> Option<Box<dyn Look + '_>> {
        let seen = self.controller.look(&self.registry, key)?;
        self.counters.looks.fetch_add(u64::try_from(seen.weight()).unwrap_or(u64::MAX), Relaxed);
        Some(seen)
    }

    async fn carry_out(&self, decision: &Decision, result: &mut Progress) -> Done {
        result.acted |= !decision.is_rest();
        result.requeue_after = [result.requeue_after, decision.requeue_after].into_iter().flatten().min();
        let done = self.executor.run(&decision.steps, &decision.events).await;
        match (&result.error, done.error()) {
            (None, Some(err)) => result.error = Some(err.clone()),
            (Some(former), Some(err)) if is_moved(former) => result.error = Some(err.clone()),
            _ => {}
        }
        done
    }

    fn outcome(&self, key: &K, result: &Progress) -> Outcome {
        let controller = self.controller.name();
        match &result.error {
            Some(err) if is_moved(err) => {
                self.counters.moved.fetch_add(1, Relaxed);
                debug!(controller, ?key, %err, "the world moved");
                Outcome::Moved
            }
            Some(err) => {
                self.counters.failures.fetch_add(1, Relaxed);
                warn!(component = "controllers", controller, ?key, err = chain(err), "reconcile failed");
                Outcome::Failed
            }
            None => Outcome::Settled,
        }
    }
}
