//! When a container started is told once. What is known of it gets better by a moment (our clock, then the engine's event, then a look at
//! the container), which may be another second, and users compare what they see: a changed start is a restart to them.
//!
//! **Invariant**: what is told is never before what is known: a start that is later than the told one is another run.

use jiff::SignedDuration;
use k8s_openapi::{
    api::core::v1::{ContainerState, ContainerStatus},
    apimachinery::pkg::apis::meta::v1::Time,
};

/// How much later a start may have been told than it was.
const TOLD_LATE: SignedDuration = SignedDuration::from_secs(2);

/// Keeps the starts that were told of the same runs.
pub(super) fn keep<'a>(told: impl Iterator<Item = &'a ContainerStatus> + Clone, statuses: &mut [ContainerStatus]) {
    for status in statuses {
        let Some(told) = told.clone().find(|told| told.name == status.name) else { continue };
        let id = status.container_id.clone();
        for state in [&mut status.state, &mut status.last_state].into_iter().flatten() {
            keep_in(told, id.as_deref(), state);
        }
    }
}

fn keep_in(told: &ContainerStatus, running: Option<&str>, state: &mut ContainerState) {
    let (id, start, end) = match (&mut state.running, &mut state.terminated) {
        (Some(run), _) => (running, &mut run.started_at, None),
        (None, Some(run)) => (run.container_id.as_deref(), &mut run.started_at, run.finished_at.as_ref()),
        (None, None) => return,
    };
    let (Some(id), Some(known)) = (id, start.as_ref()) else { return };
    let is_same = |at: &&Time| {
        let late = at.0.duration_since(known.0);
        late.is_positive() && late <= TOLD_LATE && end.is_none_or(|end| at.0 <= end.0)
    };
    if let Some(at) = starts(told, id).find(is_same).cloned() {
        *start = Some(at);
    }
}

/// The starts that a status tells of a container.
fn starts<'a>(status: &'a ContainerStatus, id: &str) -> impl Iterator<Item = &'a Time> {
    let runs = status.state.as_ref().and_then(|state| state.running.as_ref());
    let running = runs.filter(|_| status.container_id.as_deref() == Some(id)).and_then(|run| run.started_at.as_ref());
    let ended = [&status.state, &status.last_state].map(|state| state.as_ref().and_then(|s| s.terminated.as_ref()));
    let ended = ended.into_iter().flatten().filter(move |run| run.container_id.as_deref() == Some(id));
    running.into_iter().chain(ended.filter_map(|run| run.started_at.as_ref()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::from_yaml;

    fn status(id: &str, state: &str, last: &str) -> ContainerStatus {
        from_yaml(&format!(
            "{{name: a, image: a, imageID: a, ready: true, restartCount: 0, containerID: {id}, state: {{{state}}}, lastState: {{{last}}}}}"
        ))
        .unwrap()
    }

    fn running(second: u32) -> String {
        format!("running: {{startedAt: '2026-01-01T00:00:{second:02}Z'}}")
    }

    fn ended(id: &str, start: u32, end: u32) -> String {
        let at = |second: u32| format!("'2026-01-01T00:00:{second:02}Z'");
        format!("terminated: {{containerID: {id}, exitCode: 1, startedAt: {}, finishedAt: {}}}", at(start), at(end))
    }

    #[test]
    fn a_start_is_told_once_and_another_run_is_another_start() {
        for (name, told, found, want) in [
            ("a moment earlier", status("x", &running(8), ""), status("x", &running(7), ""), &running(8)),
            ("later", status("x", &running(7), ""), status("x", &running(8), ""), &running(8)),
            ("much earlier", status("x", &running(20), ""), status("x", &running(7), ""), &running(7)),
            ("another container", status("y", &running(8), ""), status("x", &running(7), ""), &running(7)),
            ("its end", status("x", &running(8), ""), status("x", &ended("x", 7, 9), ""), &ended("x", 8, 9)),
            ("an end before", status("x", &running(8), ""), status("x", &ended("x", 7, 7), ""), &ended("x", 7, 7)),
            (
                "after its end",
                status("x", &ended("x", 8, 9), ""),
                status("x", &ended("x", 7, 9), ""),
                &ended("x", 8, 9),
            ),
        ] {
            let mut statuses = [found];
            keep([told].iter(), &mut statuses);
            assert_eq!(statuses[0], status("x", want, ""), "{name}");
        }
        // The run before, which was the one that ran.
        let mut statuses = [status("x", &running(9), &ended("y", 5, 8))];
        keep([status("y", &running(6), "")].iter(), &mut statuses);
        assert_eq!(statuses[0], status("x", &running(9), &ended("y", 6, 8)));
    }
}
