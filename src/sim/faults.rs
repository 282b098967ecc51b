//! What goes wrong in a run, drawn from its seed: calls that fail, starts that go on failing, replies that are lost, events that are
//! lost, doubled or late.

use super::world::World;
use crate::engine::fake::{CallFault, CallKind, EventFault, EventFaultKind, Fault, FaultPlan};
use std::time::Duration;

/// The faults of calls, each drawn into a run or not.
const CALLS: &[Fault] = &[
    Fault::FailBefore,
    Fault::LostReply,
    Fault::CutReply,
    Fault::Slow(Duration::from_secs(3)),
    Fault::DaemonRestart { down: Duration::from_secs(2), stop_containers: false },
    Fault::DaemonRestart { down: Duration::from_secs(5), stop_containers: true },
];

/// The faults of events, each drawn into a run or not.
const EVENTS: &[EventFaultKind] =
    &[EventFaultKind::Lost, EventFaultKind::Doubled, EventFaultKind::Late(Duration::from_secs(1))];

/// Draws the faults of a run.
pub(super) fn arm(world: &World) {
    world.engine.set_faults(draw(world));
}

/// Faults of any call, and of events.
pub(super) fn draw(world: &World) -> FaultPlan {
    let drawn = |one_in| world.rng.one_in(one_in);
    let calls = CALLS.iter().filter(|_| drawn(3)).map(|fault| CallFault {
        call: None,
        fault: *fault,
        one_in: 20 + world.rng.between(0, 100),
        times: 3,
    });
    // Starts that fail one after the other, for a while.
    let starts = CallFault { call: Some(CallKind::Start), fault: Fault::FailBefore, one_in: 1, times: 40 };
    let calls = calls.chain(drawn(8).then_some(starts)).collect();
    // A lost event is made good by the slow relist alone, so few are lost.
    let events = EVENTS.iter().filter(|_| drawn(4)).map(|fault| EventFault { fault: *fault, one_in: 30, times: 2 });
    FaultPlan { calls, events: events.collect() }
}

/// Ends the faults.
pub(super) fn disarm(world: &World) {
    world.engine.set_faults(FaultPlan::default());
    world.disk.set_full(false);
}
