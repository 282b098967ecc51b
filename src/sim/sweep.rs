//! Each engine call of a small story fails in turn, in each way; whichever it is, everything converges.

use super::{
    each_in_parallel, failure,
    manifests::{deployment, set_image},
    number, simulate,
    workload::change,
    world::World,
};
use crate::{
    api::{
        kinds::{deployment::Deployments, pod::Pods},
        meta::ObjectKey,
    },
    engine::fake::Fault,
    registry::pipeline::DeleteOptions,
};
use std::{
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    time::Duration,
};

/// The ways in which a call fails. An ordinary test run takes them by turns; one that is asked for seeds takes all.
const FAULTS: [Fault; 5] = [
    Fault::FailBefore,
    Fault::CutReply,
    Fault::LostReply,
    Fault::DaemonRestart { down: Duration::from_secs(2), stop_containers: false },
    Fault::DaemonRestart { down: Duration::from_secs(2), stop_containers: true },
];
/// More calls than the story makes.
const CALLS_MAX: u64 = 1000;
/// Fewer calls than a story makes.
const CALLS_MIN: u64 = 50;

/// Create, roll out, lose a pod, end. True when the story was over before its `n`-th call.
async fn story(n: u64, fault: Fault) -> bool {
    let mut world = World::new(1).await;
    world.engine.fail_nth_call(n, fault);
    let key = ObjectKey::new("default", "web");
    let wanted = deployment(&world, "web", "app:1", 2, true);
    world.registry().api::<Deployments>().create(wanted).await.unwrap();
    world.user_wrote();
    world.complete().await;
    change(&world, &key, |s| set_image(s, "app:2")).await.unwrap();
    world.user_wrote();
    world.complete().await;
    let pods = world.registry().api::<Pods>();
    let victim = ObjectKey::of(&pods.list("default").items[0].metadata);
    pods.delete(&victim, &DeleteOptions::default()).await.unwrap();
    world.user_wrote();
    world.complete().await;
    world.registry().api::<Deployments>().delete(&key, &DeleteOptions::default()).await.unwrap();
    world.user_wrote();
    world.complete().await;
    if world.engine.nth_call_is_pending() {
        return true;
    }
    world.converge().await;
    false
}

fn faults_of(n: u64) -> Vec<Fault> {
    if number("SKIFF_SIM_SEEDS").is_some() {
        return FAULTS.to_vec();
    }
    let turn = usize::try_from(n).unwrap() % FAULTS.len();
    vec![FAULTS[turn]]
}

/// Runs a story with its first, second, third … engine call failing, until it is over before that call: then it says so.
pub(super) fn each_call<F: Future<Output = bool>>(story: impl Fn(u64, Fault) -> F + Sync) {
    let is_over = AtomicBool::new(false);
    each_in_parallel(1..CALLS_MAX, |n| {
        let fails = |fault: &Fault| {
            if is_over.load(Relaxed) {
                return None;
            }
            let run = || {
                let over = simulate(story(n, *fault));
                assert!(!over || n > CALLS_MIN, "the story made fewer calls than it must");
                is_over.fetch_or(over, Relaxed);
            };
            failure(run).map(|why| format!("call {n} with {fault:?}: {why}"))
        };
        faults_of(n).iter().find_map(fails)
    });
    assert!(is_over.into_inner(), "the story makes more calls than are tried");
}

#[test]
fn whichever_engine_call_fails_everything_converges() {
    each_call(story);
}
