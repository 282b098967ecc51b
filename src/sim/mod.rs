//! The simulator: the whole control plane on the fake engine, in one thread, under paused time, from a seed.
//!
//! A seed fixes the user's actions, the faults and every delay; the same seed gives the same trace. After every step the checkers
//! look; at the end the faults stop, the user asks for something sound, and everything must converge within bounded simulated time.
//!
//! To replay a failure: `SKIFF_SIM_SEED=<seed> cargo test --lib sim::one -- --nocapture`; `RUST_LOG=skiff=debug` adds the log.
//! More seeds: `SKIFF_SIM_SEEDS=500 cargo test --lib sim::many` (`SKIFF_SIM_FIRST` is the first of them). For thousands,
//! `SKIFF_SIM_SEEDS=5000 cargo sim sim::many` runs the same with this package optimised: its build takes many minutes, its seeds a fraction.
//!
//! `panics` lets each loop panic once; `sweep` lets each engine call of a small story fail in turn; `calm` is a rollout in which nothing goes wrong; `configs` are DeploymentConfigs; `workloads` are Jobs, StatefulSets and DaemonSets; `pods` are claims, conversations, resizes and pulls; `fleet` is several
//! nodes, budgets, an autoscaler and a standby, and two that believe to lead; `budgets` evicts on several threads; `scale` counts what many
//! pods cost.
//!
//! To add a user action or a fault: its variant in `workload.rs` or `faults.rs`, and its line in the table there.
//! To add a checker: its file in `checkers/` and its line in `checkers::Checkers`. Plant a bug once to see that it can fail.
#![allow(clippy::print_stderr, reason = "a replay is read by a person")]

mod backend;
mod budgets;
mod calm;
mod checkers;
mod configs;
mod faults;
mod fence;
mod fleet;
mod harm;
mod listening;
mod manifests;
mod network;
mod panics;
mod pods;
mod poison;
mod scale;
mod sweep;
mod trace;
mod workload;
mod workloads;
mod world;

use std::{
    future::Future,
    num::NonZero,
    ops::Range,
    panic::AssertUnwindSafe,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};
use trace::Line;
use tracing_subscriber::{filter::Targets, layer::SubscriberExt as _, util::SubscriberInitExt as _};
use world::World;

/// Seeds of an ordinary test run; the environment asks for more.
const SEEDS: u64 = 24;
/// How many failures are told of at most.
const FAILURES_MAX: usize = 20;
/// Steps of the user in one run.
const STEPS: usize = 25;

/// Runs `work` on a paused clock in this thread alone.
fn simulate<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(work)
}

/// One run: the story of a user whom everything happens to. Returns the trace.
async fn story(seed: u64, steps: usize) -> Vec<Line> {
    let mut world = World::new(seed).await;
    faults::arm(&world);
    for _ in 0..steps {
        workload::step(&mut world).await;
        world.pass_time().await;
    }
    faults::disarm(&world);
    workload::settle(&mut world).await;
    world.converge().await;
    world.trace()
}

/// Runs a seed; how it fails, and how to replay that.
fn check(seed: u64) -> Option<String> {
    let why = failure(|| simulate(story(seed, STEPS)))?;
    Some(format!("seed {seed} fails: {why}\nreplay: SKIFF_SIM_SEED={seed} cargo test --lib sim::one -- --nocapture"))
}

/// What a run that fails says.
fn failure<T>(run: impl FnOnce() -> T) -> Option<String> {
    let panic = std::panic::catch_unwind(AssertUnwindSafe(run)).err()?;
    Some(crate::base::task::panic_text(&*panic).to_owned())
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect("a number"))
}

/// Whether one seed is run for a person to look at.
fn is_replay() -> bool {
    number("SKIFF_SIM_SEED").is_some()
}

/// The seeds to run: so many, or those that the environment asks for.
fn seeds(ordinary: u64) -> Range<u64> {
    let first = number("SKIFF_SIM_FIRST").unwrap_or(0);
    first..first + number("SKIFF_SIM_SEEDS").unwrap_or(ordinary)
}

/// Checks each number, on every processor, and says which of them fail. Past [`FAILURES_MAX`] it has seen enough.
fn each_in_parallel(numbers: Range<u64>, check: impl Fn(u64) -> Option<String> + Sync) {
    let (next, failures) = (AtomicU64::new(numbers.start), Mutex::new(Vec::new()));
    let is_enough = || failures.lock().unwrap().len() >= FAILURES_MAX;
    let work = || {
        let take = || Some(next.fetch_add(1, Relaxed)).filter(|n| *n < numbers.end && !is_enough());
        while let Some(n) = take() {
            if let Some(why) = check(n) {
                eprintln!("{why}");
                failures.lock().unwrap().push(why);
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, NonZero::get);
    std::thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(work))));
    let failures = failures.into_inner().unwrap();
    assert!(failures.is_empty(), "{} failures: {}", failures.len(), failures.join("\n"));
}

#[test]
fn many_seeds_hold_every_checker() {
    each_in_parallel(seeds(SEEDS), check);
}

#[test]
fn one_seed_gives_one_trace() {
    let seed = number("SKIFF_SIM_SEED").unwrap_or(7);
    if is_replay() {
        show_log();
    }
    let (first, second) = (simulate(story(seed, STEPS)), simulate(story(seed, STEPS)));
    let differs = first.iter().zip(&second).position(|(a, b)| a != b);
    assert_eq!(differs.map(|i| (&first[i], &second[i])), None, "the traces of seed {seed} part");
    assert_eq!(first.len(), second.len());
    if is_replay() {
        for line in first {
            eprintln!("{line}");
        }
    }
}

/// Shows the log that `RUST_LOG` asks for.
fn show_log() {
    let asked = std::env::var("RUST_LOG").unwrap_or_default();
    let filter: Targets = asked.parse().expect("RUST_LOG is a filter");
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    // Another test may have been first.
    drop(tracing_subscriber::registry().with(lines).with(filter).try_init());
}
