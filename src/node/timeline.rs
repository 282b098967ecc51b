//! The last starts of a pod's containers: when each ended before, when that was noticed, and when its successor was created, started
//! and ready. In memory: another process begins anew.
//!
//! Kept by the worker, which shows it what is observed before each decision. Pure.
//!
//! **Invariants**: a start is told of once, when it is ready and something had ended before it; what runs already when the agent begins
//! is no start that it saw: of such a run it is told what the engine knows alone. Instants of the engine are by its clock, notice and readiness by ours.

use super::observe::{Cause, ObservedContainer, ObservedPod, Run, StopReason};
use crate::{
    api::timeline::Start,
    base::ordered::{Map, Set},
};
use jiff::Timestamp;
use std::collections::VecDeque;

/// How many starts of a pod are remembered.
const STARTS_MAX: usize = 50;

/// The starts of a pod's containers.
#[derive(Debug, Default)]
pub(super) struct Starts {
    /// When the ends that users see were noticed, and whether it was the engine's own.
    noticed: Map<Run, Timestamp>,
    /// What ended because the engine did.
    with_engine: Set<Run>,
    known: VecDeque<Known>,
}

/// A run of a container: the engine's ID, and when it last ended before, for one that was started again.
type Key = (String, Option<Timestamp>);

#[derive(Clone, Debug)]
struct Known {
    key: Key,
    name: String,
    restart: u32,
    end: Option<End>,
    created: Option<Timestamp>,
    started: Timestamp,
    ready: Option<Timestamp>,
    /// Whether nobody is told when it is ready.
    is_told: bool,
    /// Whether it ran already when the agent began.
    is_adopted: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct End {
    cause: &'static str,
    code: i32,
    at: Timestamp,
    /// `None`: by the process before this one.
    noticed: Option<Timestamp>,
}

/// A container that ended and is ready again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Healed {
    /// Its name.
    pub(super) container: String,
    /// What users read.
    pub(super) message: String,
}

impl Starts {
    /// Takes in what is observed; returns who was healed since.
    pub(super) fn observe(
        &mut self,
        observed: &ObservedPod,
        is_ready: impl Fn(&ObservedContainer) -> bool,
        now: Timestamp,
    ) -> Vec<Healed> {
        self.note_ends(observed, now);
        for name in observed.names() {
            let Some(run) = observed.shown(name).filter(|run| run.is_running()) else { continue };
            self.note_run(run, observed.previous(name));
        }
        self.note_ready(observed, is_ready, now)
    }

    /// Takes in what runs when the agent begins: nobody saw how it came about.
    pub(super) fn adopt(&mut self, observed: &ObservedPod, now: Timestamp) {
        self.observe(observed, |_| false, now);
        for known in &mut self.known {
            (known.is_told, known.is_adopted) = (true, true);
            known.forget_notice();
        }
    }

    /// Notes that the engine was away: what it ended, it ended with itself.
    pub(super) fn note_engine_back(&mut self, gone: impl IntoIterator<Item = Run>) {
        self.with_engine.extend(gone);
    }

    fn note_ends(&mut self, observed: &ObservedPod, now: Timestamp) {
        let ended: Set<Run> = observed.ended_runs().map(ObservedContainer::run).collect();
        self.noticed.retain(|run, _| ended.contains(run));
        self.with_engine
            .retain(|run| ended.contains(run) || observed.by_id(&run.0).is_some_and(ObservedContainer::is_running));
        for run in ended {
            self.noticed.entry(run).or_insert(now);
        }
    }

    fn note_run(&mut self, run: &ObservedContainer, before: Option<&ObservedContainer>) {
        let Some(started) = run.started_at else { return };
        let of_same = run.former.as_ref().filter(|former| former.id == run.id).and_then(|former| former.exit());
        let key = (run.id.clone(), of_same.map(|exit| exit.at));
        let end = before.and_then(|before| self.end_of(before));
        let created = (of_same.is_none()).then_some(run.created_at);
        if let Some(known) = self.known.iter_mut().rev().find(|known| known.key == key) {
            // The engine's own times come with its events.
            (known.restart, known.started, known.created) = (run.restarts, started, created);
            known.end = end.or(known.end.take());
            known.forget_notice();
            return;
        }
        let (name, restart) = (run.identity.container.clone(), run.restarts);
        let is_told = end.is_none();
        self.known.push_back(Known {
            key,
            name,
            restart,
            end,
            created,
            started,
            ready: None,
            is_told,
            is_adopted: false,
        });
        if self.known.len() > STARTS_MAX {
            self.known.pop_front();
        }
    }

    fn end_of(&self, before: &ObservedContainer) -> Option<End> {
        let exit = before.exit()?;
        let cause = match exit.cause {
            Cause::Outside | Cause::Itself if self.with_engine.contains(&before.run()) => "EngineRestart",
            Cause::Outside => "Killed",
            Cause::Itself if exit.oom_killed => "OOMKilled",
            Cause::Itself => "Exited",
            Cause::Stopped(StopReason::Liveness) => "LivenessProbe",
            Cause::Stopped(StopReason::Startup) => "StartupProbe",
            Cause::Stopped(StopReason::PostStartHook) => "PostStartHook",
            Cause::Stopped(StopReason::SandboxGone) => "SandboxGone",
            Cause::Stopped(StopReason::Changed) => "Changed",
            Cause::Stopped(StopReason::Superseded) => "Superseded",
            Cause::Stopped(StopReason::Resized) => "Resized",
            Cause::Stopped(StopReason::PodDeleted | StopReason::Deadline | StopReason::PodOver) => return None,
        };
        let noticed = *self.noticed.get(&before.run())?;
        Some(End { cause, code: exit.code, at: exit.at, noticed: Some(noticed) })
    }

    fn note_ready(
        &mut self,
        observed: &ObservedPod,
        is_ready: impl Fn(&ObservedContainer) -> bool,
        now: Timestamp,
    ) -> Vec<Healed> {
        let mut healed = Vec::new();
        for known in self.known.iter_mut().filter(|known| known.ready.is_none() && !known.is_adopted) {
            let run =
                observed.by_id(&known.key.0).filter(|run| run.is_running() && run.started_at == Some(known.started));
            if !run.is_some_and(&is_ready) {
                continue;
            }
            known.ready = Some(now.max(known.started));
            if !std::mem::replace(&mut known.is_told, true) {
                healed.extend(known.healed());
            }
        }
        healed
    }

    /// All that are remembered, the latest last.
    pub(super) fn shown(&self) -> Vec<Start> {
        self.known.iter().map(Known::shown).collect()
    }
}

impl Known {
    /// When an end was noticed that another process saw, this one does not know.
    fn forget_notice(&mut self) {
        if let Some(end) = self.end.as_mut().filter(|_| self.is_adopted) {
            end.noticed = None;
        }
    }

    /// Where its times count from: the end before it, or its creation.
    fn since(&self) -> Timestamp {
        self.end.as_ref().map(|end| end.at).or(self.created).unwrap_or(self.started)
    }

    fn after_ms(&self, at: Timestamp) -> i64 {
        i64::try_from(at.duration_since(self.since()).as_millis()).unwrap_or(i64::MAX).max(0)
    }

    fn shown(&self) -> Start {
        let end = self.end.as_ref();
        Start {
            container: self.name.clone(),
            restart: self.restart,
            cause: end.map(|end| end.cause.to_owned()),
            exit_code: end.map(|end| end.code),
            ended: end.map(|end| instant(end.at)),
            noticed: end.and_then(|end| end.noticed).map(instant),
            created: self.created.map(instant),
            started: instant(self.started),
            ready: self.ready.map(instant),
            noticed_after_ms: end.and_then(|end| end.noticed).map(|at| self.after_ms(at)),
            created_after_ms: end.and(self.created).map(|at| self.after_ms(at)),
            started_after_ms: self.after_ms(self.started),
            ready_after_ms: self.ready.map(|at| self.after_ms(at)),
            adopted: self.is_adopted,
            ..Start::default()
        }
    }

    /// What is told of it once it is ready: a container that was made anew because its definition changed was not healed.
    fn healed(&self) -> Option<Healed> {
        let end = self.end.as_ref()?;
        let what = match end.cause {
            "Killed" => format!("was killed (exit {})", end.code),
            "EngineRestart" => format!("ended with its engine (exit {})", end.code),
            "Exited" => format!("exited with code {}", end.code),
            "OOMKilled" => format!("ran out of memory (exit {})", end.code),
            "LivenessProbe" => "failed its liveness probe".to_owned(),
            "StartupProbe" => "failed its startup probe".to_owned(),
            "PostStartHook" => "failed in its postStart hook".to_owned(),
            "SandboxGone" => "lost the pod's sandbox".to_owned(),
            _ => return None,
        };
        let after = |at: Timestamp| self.after_ms(at);
        let ready = self.ready.map(|at| format!(", ready after {} ms", after(at))).unwrap_or_default();
        let message = format!(
            "container {} {what}, noticed after {} ms, running after {} ms{ready}",
            self.name,
            after(end.noticed?),
            after(self.started)
        );
        Some(Healed { container: self.name.clone(), message })
    }
}

fn instant(at: Timestamp) -> String {
    format!("{at:.3}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        engine::EventKind,
        node::identity::{Identity, PodId},
    };

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_millisecond(1_800_000_000_000 + ms).unwrap()
    }

    fn container(attempt: u32, created_ms: i64) -> ObservedContainer {
        let pod = PodId { namespace: "default".into(), name: "web".into(), uid: "u".into() };
        let (hash, volumes) = (String::new(), String::new());
        let identity = Identity { pod, container: "app".into(), attempt, sandbox: 0, failures: 0, hash, volumes };
        ObservedContainer::created(identity, format!("app{attempt}"), at(created_ms))
    }

    /// A pod whose container runs since 5 ms, and what is remembered of it.
    fn running() -> (ObservedPod, Starts) {
        let (mut pod, mut starts) = (ObservedPod::default(), Starts::default());
        pod.note_created(container(0, 0));
        pod.note_started("app0", at(5));
        assert!(starts.observe(&pod, |_| true, at(6)).is_empty(), "a first start heals nothing");
        (pod, starts)
    }

    fn replace(pod: &mut ObservedPod, starts: &mut Starts) -> Vec<Healed> {
        assert!(starts.observe(pod, |_| true, at(1_015)).is_empty());
        pod.note_created(container(1, 1_090));
        pod.note_started("app1", at(1_230));
        assert!(starts.observe(pod, |_| false, at(1_231)).is_empty());
        pod.apply("app1", EventKind::Started, at(1_222));
        let healed = starts.observe(pod, |_| true, at(1_252));
        assert!(starts.observe(pod, |_| true, at(1_300)).is_empty(), "it is told once");
        healed
    }

    #[test]
    fn a_heal_is_told_once_it_is_ready() {
        let (mut pod, mut starts) = running();
        pod.apply("app0", EventKind::Killed(9), at(1_000));
        pod.apply("app0", EventKind::Died(137), at(1_012));
        let healed = replace(&mut pod, &mut starts);
        let want = "container app was killed (exit 137), noticed after 3 ms, running after 210 ms, ready after 240 ms";
        assert_eq!(healed.iter().map(|h| h.message.as_str()).collect::<Vec<_>>(), [want]);
        let shown = starts.shown();
        assert_eq!((shown.len(), shown[0].cause.as_deref(), shown[0].ready_after_ms), (2, None, Some(6)));
        let again = &shown[1];
        assert_eq!((again.cause.as_deref(), again.exit_code, again.restart), (Some("Killed"), Some(137), 1));
        assert_eq!((again.noticed_after_ms, again.created_after_ms), (Some(3), Some(78)));
        assert_eq!(again.started, "2027-01-15T08:00:01.222Z");
    }

    #[test]
    fn the_cause_is_told() {
        for (events, cause) in [
            (&[EventKind::Died(1)][..], "exited with code 1"),
            (&[EventKind::OutOfMemory, EventKind::Died(137)], "ran out of memory (exit 137)"),
        ] {
            let (mut pod, mut starts) = running();
            for event in events {
                pod.apply("app0", *event, at(1_012));
            }
            let healed = replace(&mut pod, &mut starts);
            assert!(healed[0].message.contains(cause), "{healed:?}");
        }
        let (mut pod, mut starts) = running();
        starts.note_engine_back([pod.latest("app").unwrap().run()]);
        pod.note_vanished("app0", at(1_012));
        let healed = replace(&mut pod, &mut starts);
        assert!(healed[0].message.contains("ended with its engine"), "{healed:?}");
        let (mut pod, mut starts) = running();
        pod.note_stopping("app0", StopReason::Changed);
        pod.apply("app0", EventKind::Died(143), at(1_012));
        assert!(replace(&mut pod, &mut starts).is_empty(), "a rollout is no heal");
    }

    #[test]
    fn what_the_engine_starts_again_is_a_start_of_its_own() {
        let (mut pod, mut starts) = running();
        pod.apply("app0", EventKind::Killed(15), at(900));
        pod.apply("app0", EventKind::Died(143), at(1_000));
        starts.observe(&pod, |_| true, at(1_001));
        pod.apply("app0", EventKind::Started, at(1_100));
        let healed = starts.observe(&pod, |_| true, at(1_101));
        assert_eq!(healed.len(), 1);
        assert_eq!((starts.shown().len(), starts.shown()[1].created.clone()), (2, None));
    }

    #[test]
    fn the_last_starts_are_remembered() {
        let (mut pod, mut starts) = running();
        for n in 0..60u32 {
            let ms = 1_000 * i64::from(n + 1);
            pod.apply(&format!("app{n}"), EventKind::Died(1), at(ms));
            starts.observe(&pod, |_| true, at(ms));
            pod.note_created(container(n + 1, ms + 1));
            pod.note_started(&format!("app{}", n + 1), at(ms + 2));
            pod.note_removed(&format!("app{n}"), at(ms + 2));
            starts.observe(&pod, |_| true, at(ms + 3));
        }
        assert_eq!((starts.shown().len(), starts.shown()[STARTS_MAX - 1].restart), (STARTS_MAX, 60));
    }

    #[test]
    fn of_what_was_adopted_the_engine_alone_knows() {
        let (mut pod, mut before) = running();
        pod.apply("app0", EventKind::Killed(9), at(1_000));
        pod.apply("app0", EventKind::Died(137), at(1_012));
        replace(&mut pod, &mut before);
        let mut starts = Starts::default();
        starts.adopt(&pod, at(100_000));
        assert!(starts.observe(&pod, |_| true, at(100_001)).is_empty());
        let shown = starts.shown();
        assert_eq!((shown.len(), shown[0].adopted, shown[0].cause.as_deref()), (1, true, Some("Killed")));
        // When its end was noticed and when it was ready, another process saw.
        let after =
            (shown[0].noticed_after_ms, shown[0].created_after_ms, shown[0].started_after_ms, shown[0].ready_after_ms);
        assert_eq!((after, shown[0].noticed.as_ref()), ((None, Some(78), 210, None), None));
        // What ends from now on is seen.
        pod.apply("app1", EventKind::Died(1), at(200_000));
        starts.observe(&pod, |_| true, at(200_003));
        pod.note_created(container(2, 200_010));
        pod.note_started("app2", at(200_020));
        assert_eq!(starts.observe(&pod, |_| true, at(200_021)).len(), 1);
        let again = &starts.shown()[1];
        assert_eq!((again.adopted, again.noticed_after_ms, again.ready_after_ms), (false, Some(3), Some(21)));
    }
}
