//! Tables: a pod in YAML and what the engine has, one container a line → what to do, one action a line.

use super::*;
use crate::node::{
    identity::Identity,
    lifecycle::CRASH_BACKOFF,
    observe::{Cause, Exit},
};
use expect_test::{Expect, expect};
use std::fmt::Write as _;

fn now() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().unwrap()
}

fn at(secs: f64) -> Timestamp {
    now() + SignedDuration::from_secs_f64(secs)
}

fn pod(spec: &str) -> Pod {
    let meta = "metadata: {namespace: default, name: web, uid: u1}\n";
    crate::testing::from_yaml(&format!("{meta}{spec}")).unwrap()
}

const WEB: &str = "spec: {nodeName: n, containers: [{name: app, image: 'web:1'}]}";

/// Reads `app/1 exited sandbox=0 failures=2 code=1 cause=outside started=-30 at=-1 gone hash=x ip=10.0.0.1`.
fn observed(pod: &Pod, lines: &str) -> ObservedPod {
    let mut observed = ObservedPod::default();
    for line in lines.lines().map(str::trim).filter(|l| !l.is_empty()) {
        observed.note_created(container(pod, line));
    }
    observed
}

fn container(pod: &Pod, line: &str) -> ObservedContainer {
    let mut words = line.split_whitespace();
    let (name, attempt) = words.next().unwrap().split_once('/').unwrap();
    let attempt: u32 = attempt.parse().unwrap();
    let state = words.next().unwrap();
    let options: Map<&str, &str> = words.map(|w| w.split_once('=').unwrap_or((w, ""))).collect();
    let number = |key: &str, default: f64| options.get(key).map_or(default, |v| v.parse().unwrap());
    let spec = pod.spec.as_ref().unwrap();
    let of_name = spec.containers.iter().chain(spec.init_containers.iter().flatten()).find(|c| c.name == name);
    let identity = Identity {
        pod: PodId::of(pod),
        container: name.into(),
        attempt,
        sandbox: options.get("sandbox").map_or(if name == SANDBOX { attempt } else { 0 }, |v| v.parse().unwrap()),
        failures: options.get("failures").map_or(0, |v| v.parse().unwrap()),
        hash: options.get("hash").map_or_else(|| of_name.map(spec_hash).unwrap_or_default(), |h| (*h).to_owned()),
        volumes: String::new(),
    };
    let mut container = ObservedContainer::created(identity, format!("{name}{attempt}"), at(-100.0));
    container.ip = options.get("ip").map(|ip| ip.parse().unwrap());
    container.is_gone = options.contains_key("gone");
    if state != "created" {
        container.started_at = Some(at(number("started", -60.0)));
        container.state = State::Running;
    }
    if state == "exited" {
        let cause = match options.get("cause").copied() {
            None => Cause::Itself,
            Some("outside") => Cause::Outside,
            Some("changed") => Cause::Stopped(StopReason::Changed),
            Some("liveness") => Cause::Stopped(StopReason::Liveness),
            Some("sandbox") => Cause::Stopped(StopReason::SandboxGone),
            Some(other) => panic!("no such cause: {other}"),
        };
        let code = options.get("code").map_or(1, |v| v.parse().unwrap());
        let exit = Exit { code, oom_killed: false, error: String::new(), cause, at: at(number("at", 0.0)) };
        container.state = State::Exited(exit);
    }
    container
}

fn show(action: &Action) -> String {
    match action {
        Action::CreateSandbox { attempt } => format!("create sandbox {attempt}"),
        Action::StartSandbox { id } => format!("start sandbox {id}"),
        Action::Inspect { id } => format!("inspect {id}"),
        Action::Create { container, attempt, sandbox, failures } => {
            format!("create {container}/{attempt} on sandbox {sandbox}, failures {failures}")
        }
        Action::Start { id, .. } => format!("start {id}"),
        Action::PostStart { id, .. } => format!("postStart {id}"),
        Action::BeginStop { id, reason, grace, .. } => {
            format!("begin stop {id}: {reason:?}, grace {}s", grace.as_secs())
        }
        Action::PreStop { id, deadline, .. } => format!("preStop {id}, {}s", deadline.duration_since(now()).as_secs()),
        Action::Resize { container, .. } => format!("resize {container}"),
        Action::Signal { id, ending, .. } => format!("signal {id}: {ending:?}"),
        Action::Remove { id } => format!("remove {id}"),
        Action::RemoveVolumes => "remove volumes".into(),
        Action::DeletePod => "delete pod".into(),
    }
}

fn render(decision: &Decision) -> String {
    let mut text = String::new();
    for action in &decision.actions {
        writeln!(text, "{}", show(action)).unwrap();
    }
    for (name, waiting) in &decision.waiting {
        writeln!(text, "{name} waits: {} ({})", waiting.reason, waiting.message).unwrap();
    }
    if let Some(over) = &decision.over {
        let how = if over.succeeded { "succeeded" } else { "failed" };
        writeln!(text, "over: {how} {}", over.reason).unwrap();
    }
    if let Some(at) = decision.wake_at {
        writeln!(text, "wake in {}s", at.duration_since(now()).as_secs_f64()).unwrap();
    }
    if decision.is_finished {
        text.push_str("finished\n");
    }
    text
}

fn decide_with(pod: Option<&Pod>, observed: &ObservedPod, memory: &Memory) -> Decision {
    decide(View { pod, observed, memory, backoff: CRASH_BACKOFF, pending: None, now: now() })
}

fn check(spec: &str, lines: &str, want: Expect) {
    check_with(spec, lines, &Memory::default(), want);
}

fn check_with(spec: &str, lines: &str, memory: &Memory, want: Expect) {
    let pod = pod(spec);
    want.assert_eq(&render(&decide_with(Some(&pod), &observed(&pod, lines), memory)));
}

fn busy(slots: &[Slot]) -> Memory {
    Memory { in_flight: slots.iter().cloned().collect(), ..Memory::default() }
}

#[test]
fn a_new_pod_begins_with_its_sandbox() {
    check(
        WEB,
        "",
        expect![[r#"
        create sandbox 0
    "#]],
    );
}

#[test]
fn containers_are_created_while_the_sandbox_starts() {
    check(
        WEB,
        "POD/0 created",
        expect![[r#"
        start sandbox POD0
        create app/0 on sandbox 0, failures 0
    "#]],
    );
    check_with(WEB, "POD/0 created\n app/0 created", &busy(&[Slot::Sandbox]), expect![""]);
}

#[test]
fn containers_start_once_the_sandbox_has_its_address() {
    check(
        WEB,
        "POD/0 running\n app/0 created",
        expect![[r#"
        inspect POD0
    "#]],
    );
    check(
        WEB,
        "POD/0 running ip=10.0.0.1\n app/0 created",
        expect![[r#"
        start app0
    "#]],
    );
}

#[test]
fn a_container_whose_environment_names_the_address_waits_for_it() {
    let spec = "spec: {containers: [{name: app, env: [{name: IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}]}]}";
    check(
        spec,
        "POD/0 created",
        expect![[r#"
        start sandbox POD0
    "#]],
    );
    check(
        spec,
        "POD/0 running ip=10.0.0.1",
        expect![[r#"
        create app/0 on sandbox 0, failures 0
    "#]],
    );
}

#[test]
fn at_rest_there_is_nothing_to_do() {
    check(WEB, "POD/0 running ip=10.0.0.1\n app/0 running", expect![""]);
    check(WEB, "POD/0 running ip=10.0.0.1\n app/0 exited\n app/1 running", expect![""]);
}

#[test]
fn a_first_crash_restarts_at_once_and_the_next_wait() {
    let with = |failures: u32| format!("POD/0 running ip=10.0.0.1\n app/0 exited failures={failures}");
    check(
        WEB,
        &with(0),
        expect![[r#"
        create app/1 on sandbox 0, failures 1
    "#]],
    );
    check(
        WEB,
        &with(1),
        expect![[r#"
        app waits: CrashLoopBackOff (back-off 10s restarting failed container=app pod=web_default(u1))
        wake in 10s
    "#]],
    );
    check(
        WEB,
        &with(4),
        expect![[r#"
        app waits: CrashLoopBackOff (back-off 1m20s restarting failed container=app pod=web_default(u1))
        wake in 80s
    "#]],
    );
    check(
        WEB,
        &with(50),
        expect![[r#"
        app waits: CrashLoopBackOff (back-off 5m0s restarting failed container=app pod=web_default(u1))
        wake in 300s
    "#]],
    );
}

#[test]
fn back_off_ends_in_time_and_is_forgotten_after_ten_good_minutes() {
    check(
        WEB,
        "POD/0 running ip=10.0.0.1\n app/3 exited failures=1 at=-10",
        expect![[r#"
        create app/4 on sandbox 0, failures 2
    "#]],
    );
    check(
        WEB,
        "POD/0 running ip=10.0.0.1\n app/9 exited failures=9 started=-600",
        expect![[r#"
        create app/10 on sandbox 0, failures 1
    "#]],
    );
}

#[test]
fn what_a_user_killed_or_removed_restarts_at_once_and_does_not_count() {
    check(
        WEB,
        "POD/0 running ip=10.0.0.1\n app/7 exited failures=4 code=137 cause=outside",
        expect![[r#"
        create app/8 on sandbox 0, failures 4
    "#]],
    );
    check(
        WEB,
        "POD/0 running ip=10.0.0.1\n app/7 exited gone failures=4 code=137 cause=outside",
        expect![[r#"
        create app/8 on sandbox 0, failures 4
    "#]],
    );
}

#[test]
fn the_last_dead_attempt_stays_and_older_ones_go() {
    check(
        WEB,
        "POD/0 running ip=10.0.0.1\n app/0 exited\n app/1 exited\n app/2 running",
        expect![[r#"
        remove app0
    "#]],
    );
    check(
        WEB,
        "POD/0 running ip=10.0.0.1\n app/0 exited\n app/1 exited\n app/2 created",
        expect![[r#"
        start app2
    "#]],
    );
}

#[test]
fn an_old_attempt_that_somebody_started_again_is_stopped() {
    check(
        WEB,
        "POD/0 running ip=10.0.0.1\n app/0 running started=-5\n app/1 running",
        expect![[r#"
        begin stop app0: Superseded, grace 30s
    "#]],
    );
}

#[test]
fn a_successor_that_came_after_its_forerunner_ran_again_goes() {
    let up = "POD/0 running ip=10.0.0.1\n app/0 running started=-5\n";
    check(
        WEB,
        &format!("{up} app/1 running started=-4"),
        expect![[r#"
        begin stop app1: Superseded, grace 30s
    "#]],
    );
    check(
        WEB,
        &format!("{up} app/1 created"),
        expect![[r#"
        remove app1
    "#]],
    );
    check(
        WEB,
        &format!("{up} app/1 exited"),
        expect![[r#"
        remove app1
    "#]],
    );
    let starting = Memory { in_flight: [Slot::Container("app".into())].into(), ..Memory::default() };
    check_with(WEB, &format!("{up} app/1 created"), &starting, expect![[""]]);
}

#[test]
fn a_dead_sandbox_rebuilds_the_pod_in_place() {
    check(
        WEB,
        "POD/0 exited code=137 cause=outside\n app/0 running",
        expect![[r#"
        create sandbox 1
        begin stop app0: SandboxGone, grace 2s
    "#]],
    );
    check(
        WEB,
        "POD/0 exited\n POD/1 created\n app/0 exited code=143 cause=sandbox",
        expect![[r#"
        start sandbox POD1
        create app/1 on sandbox 1, failures 0
    "#]],
    );
    // The dead one goes once the pod stands again, and those before it at once.
    check(
        WEB,
        "POD/0 exited\n POD/1 running ip=10.0.0.1\n app/1 running sandbox=1",
        expect![[r#"
        remove POD0
    "#]],
    );
    check(
        WEB,
        "POD/0 exited\n POD/1 exited\n POD/2 created\n app/0 exited code=143 cause=sandbox",
        expect![[r#"
        start sandbox POD2
        remove POD0
        create app/1 on sandbox 2, failures 0
    "#]],
    );
    check(
        WEB,
        "POD/0 exited gone\n app/0 exited cause=sandbox failures=3",
        expect![[r#"
        create sandbox 1
    "#]],
    );
}

#[test]
fn a_new_sandbox_needs_no_back_off() {
    check(
        WEB,
        "POD/1 running ip=10.0.0.1\n app/5 exited sandbox=0 failures=5",
        expect![[r#"
        create app/6 on sandbox 1, failures 5
    "#]],
    );
}

#[test]
fn the_number_of_a_lost_sandbox_is_not_used_again() {
    check(
        WEB,
        "app/0 exited sandbox=3",
        expect![[r#"
        create sandbox 4
    "#]],
    );
}

#[test]
fn nothing_is_begun_twice() {
    check_with(WEB, "", &busy(&[Slot::Sandbox]), expect![""]);
    let app = busy(&[Slot::Container("app".into())]);
    check_with(WEB, "POD/0 running ip=10.0.0.1", &app, expect![""]);
    check_with(WEB, "POD/0 running ip=10.0.0.1\n app/0 created", &app, expect![""]);
    check_with(WEB, "POD/0 running ip=10.0.0.1\n app/0 exited", &app, expect![""]);
}

#[test]
fn restart_policies_are_honoured() {
    let with = |policy: &str| format!("spec: {{restartPolicy: {policy}, containers: [{{name: app}}, {{name: b}}]}}");
    let lines = |code: i32| format!("POD/0 running ip=10.0.0.1\n app/0 exited code={code}\n b/0 running");
    check(&with("Never"), &lines(1), expect![""]);
    check(&with("OnFailure"), &lines(0), expect![""]);
    check(
        &with("OnFailure"),
        &lines(1),
        expect![[r#"
        create app/1 on sandbox 0, failures 1
    "#]],
    );
    check(
        &with("Always"),
        &lines(0),
        expect![[r#"
        create app/1 on sandbox 0, failures 1
    "#]],
    );
}

#[test]
fn a_container_may_have_its_own_policy_and_rules() {
    let spec = "
spec:
  restartPolicy: Never
  containers:
  - name: app
    restartPolicy: Never
    restartPolicyRules: [{action: Restart, exitCodes: {operator: In, values: [42]}}]
  - {name: b, restartPolicy: OnFailure}";
    check(
        spec,
        "POD/0 running ip=10.0.0.1\n app/0 exited code=42\n b/0 exited code=1",
        expect![[r#"
        create app/1 on sandbox 0, failures 1
        create b/1 on sandbox 0, failures 1
    "#]],
    );
    check(
        spec,
        "POD/0 running ip=10.0.0.1\n app/0 exited code=1\n b/0 exited code=0",
        expect![[r#"
        remove POD0
        over: failed 
    "#]],
    );
}

#[test]
fn a_pod_whose_containers_all_ended_is_over_and_keeps_its_dead_for_their_logs() {
    let spec = "spec: {restartPolicy: OnFailure, containers: [{name: app}]}";
    check(
        spec,
        "POD/0 running ip=10.0.0.1\n app/0 exited code=0",
        expect![[r#"
        remove POD0
        over: succeeded 
    "#]],
    );
    check(
        spec,
        "app/0 exited code=0",
        expect![[r#"
        over: succeeded 
    "#]],
    );
}

#[test]
fn a_phase_that_was_written_is_final() {
    let spec = "
spec: {containers: [{name: app}]}
status: {phase: Failed, reason: Evicted, message: gone}";
    check(
        spec,
        "POD/0 running ip=10.0.0.1\n app/0 running",
        expect![[r#"
        begin stop app0: PodOver, grace 30s
        over: failed Evicted
    "#]],
    );
}

#[test]
fn a_pod_runs_no_longer_than_its_deadline() {
    let with = |start: &str| {
        format!("spec: {{activeDeadlineSeconds: 60, containers: [{{name: app}}]}}\nstatus: {{startTime: '{start}'}}")
    };
    check(
        &with("2025-12-31T23:59:30Z"),
        "POD/0 running ip=10.0.0.1\n app/0 running",
        expect![[r#"
        wake in 30s
    "#]],
    );
    check(
        &with("2025-12-31T23:59:00Z"),
        "POD/0 running ip=10.0.0.1\n app/0 running",
        expect![[r#"
        begin stop app0: Deadline, grace 30s
        over: failed DeadlineExceeded
    "#]],
    );
}

const INIT: &str = "
spec:
  initContainers: [{name: one}, {name: two}]
  containers: [{name: app}, {name: b}]";

#[test]
fn init_containers_run_in_order_before_the_rest() {
    check(
        INIT,
        "POD/0 created",
        expect![[r#"
        start sandbox POD0
        create one/0 on sandbox 0, failures 0
    "#]],
    );
    check(INIT, "POD/0 running ip=10.0.0.1\n one/0 running", expect![""]);
    check(
        INIT,
        "POD/0 running ip=10.0.0.1\n one/0 exited code=0",
        expect![[r#"
        create two/0 on sandbox 0, failures 0
    "#]],
    );
    check(
        INIT,
        "POD/0 running ip=10.0.0.1\n one/0 exited code=0\n two/0 exited code=0",
        expect![[r#"
        create app/0 on sandbox 0, failures 0
        create b/0 on sandbox 0, failures 0
    "#]],
    );
}

#[test]
fn a_failed_init_container_is_tried_again_or_fails_the_pod() {
    check(
        INIT,
        "POD/0 running ip=10.0.0.1\n one/0 exited code=1",
        expect![[r#"
        create one/1 on sandbox 0, failures 1
    "#]],
    );
    let never = format!("{INIT}\n  restartPolicy: Never");
    check(
        &never,
        "POD/0 running ip=10.0.0.1\n one/0 exited code=1",
        expect![[r#"
        remove POD0
        over: failed 
    "#]],
    );
}

#[test]
fn a_new_sandbox_initialises_again() {
    check(
        INIT,
        "POD/1 running ip=10.0.0.1\n one/0 exited code=0\n two/0 exited code=0\n app/0 exited cause=sandbox\n b/0 running",
        expect![[r#"
            create one/1 on sandbox 1, failures 0
        "#]],
    );
}

#[test]
fn a_removed_init_container_does_not_run_again_beside_the_rest() {
    check(INIT, "POD/0 running ip=10.0.0.1\n app/0 running\n b/0 running", expect![""]);
}

const SIDECAR: &str = "
spec:
  restartPolicy: Never
  initContainers: [{name: side, restartPolicy: Always, startupProbe: {tcpSocket: {port: 1}}}, {name: two}]
  containers: [{name: app}]";

#[test]
fn a_sidecar_lets_the_next_start_once_it_has_started() {
    check(SIDECAR, "POD/0 running ip=10.0.0.1\n side/0 running", expect![""]);
    let mut memory = Memory::default();
    memory.health.insert("side0".into(), Health::GOOD);
    check_with(
        SIDECAR,
        "POD/0 running ip=10.0.0.1\n side/0 running",
        &memory,
        expect![[r#"
        create two/0 on sandbox 0, failures 0
    "#]],
    );
}

#[test]
fn a_sidecar_restarts_whatever_the_policy_and_ends_after_the_rest() {
    check(
        SIDECAR,
        "POD/0 running ip=10.0.0.1\n side/0 exited code=0\n two/0 exited code=0\n app/0 running",
        expect![[r#"
        create side/1 on sandbox 0, failures 1
    "#]],
    );
    check(
        SIDECAR,
        "POD/0 running ip=10.0.0.1\n side/0 running\n two/0 exited code=0\n app/0 exited code=0",
        expect![[r#"
        begin stop side0: PodOver, grace 30s
        over: succeeded 
    "#]],
    );
}

#[test]
fn a_changed_image_restarts_the_container() {
    check(
        WEB,
        "POD/0 running ip=10.0.0.1\n app/0 running hash=old",
        expect![[r#"
        begin stop app0: Changed, grace 30s
    "#]],
    );
    check(
        WEB,
        "POD/0 running ip=10.0.0.1\n app/0 exited code=0 failures=2 cause=changed hash=old",
        expect![[r#"
        create app/1 on sandbox 0, failures 2
    "#]],
    );
}

#[test]
fn a_failed_liveness_probe_restarts_the_container_and_counts() {
    let mut memory = Memory::default();
    memory.health.insert("app0".into(), Health { liveness_failed: true, ..Health::GOOD });
    let spec =
        "spec: {containers: [{name: app, livenessProbe: {terminationGracePeriodSeconds: 3, tcpSocket: {port: 1}}}]}";
    check_with(
        spec,
        "POD/0 running ip=10.0.0.1\n app/0 running",
        &memory,
        expect![[r#"
        begin stop app0: Liveness, grace 3s
    "#]],
    );
    check(
        WEB,
        "POD/0 running ip=10.0.0.1\n app/0 exited code=0 cause=liveness",
        expect![[r#"
        create app/1 on sandbox 0, failures 1
    "#]],
    );
}

fn stop(reason: StopReason, grace_secs: i64) -> Stop {
    Stop {
        reason,
        since: now(),
        grace: SignedDuration::from_secs(grace_secs),
        pre_stop_due: false,
        rotation_until: None,
        asked_at: None,
        killed_at: None,
    }
}

fn stopping(stop: Stop) -> Memory {
    Memory { stops: [("app0".to_owned(), stop)].into(), ..Memory::default() }
}

const DELETED: &str = "
metadata:
  namespace: default
  name: web
  uid: u1
  deletionTimestamp: '2026-01-01T00:00:30Z'
  deletionGracePeriodSeconds: 30
spec: {containers: [{name: app}]}";

fn check_deleted(lines: &str, memory: &Memory, want: Expect) {
    let pod: Pod = crate::testing::from_yaml(DELETED).unwrap();
    want.assert_eq(&render(&decide_with(Some(&pod), &observed(&pod, lines), memory)));
}

const UP: &str = "POD/0 running ip=10.0.0.1\n app/0 running";

#[test]
fn a_deleted_pod_is_asked_to_stop_then_killed() {
    check_deleted(
        UP,
        &Memory::default(),
        expect![[r#"
        begin stop app0: PodDeleted, grace 30s
    "#]],
    );
    let mut step = stop(StopReason::PodDeleted, 30);
    check_deleted(
        UP,
        &stopping(step.clone()),
        expect![[r#"
        signal app0: Ask
    "#]],
    );
    step.asked_at = Some(now());
    check_deleted(
        UP,
        &stopping(step.clone()),
        expect![[r#"
        wake in 30s
    "#]],
    );
    step.since = at(-30.0);
    step.asked_at = Some(at(-30.0));
    check_deleted(
        UP,
        &stopping(step.clone()),
        expect![[r#"
        signal app0: Kill
    "#]],
    );
    step.killed_at = Some(now());
    check_deleted(
        UP,
        &stopping(step),
        expect![[r#"
        wake in 5s
    "#]],
    );
}

#[test]
fn a_hook_and_the_rotation_come_before_the_signal() {
    let mut step = Stop { pre_stop_due: true, rotation_until: Some(at(2.0)), ..stop(StopReason::PodDeleted, 30) };
    check_deleted(
        UP,
        &stopping(step.clone()),
        expect![[r#"
        preStop app0, 30s
        wake in 30s
    "#]],
    );
    step.pre_stop_due = false;
    check_deleted(
        UP,
        &stopping(step.clone()),
        expect![[r#"
        wake in 2s
    "#]],
    );
    let left = Memory { has_left_rotation: true, ..stopping(step.clone()) };
    check_deleted(
        UP,
        &left,
        expect![[r#"
        signal app0: Ask
    "#]],
    );
    step.rotation_until = Some(now());
    check_deleted(
        UP,
        &stopping(step),
        expect![[r#"
        signal app0: Ask
    "#]],
    );
}

#[test]
fn a_hook_that_uses_up_the_grace_leaves_a_minimum() {
    let mut step = Stop { pre_stop_due: true, since: at(-30.0), ..stop(StopReason::PodDeleted, 30) };
    check_deleted(
        UP,
        &stopping(step.clone()),
        expect![[r#"
        signal app0: Ask
    "#]],
    );
    step.asked_at = Some(now());
    check_deleted(
        UP,
        &stopping(step),
        expect![[r#"
        wake in 2s
    "#]],
    );
}

#[test]
fn when_all_is_dead_all_is_removed_and_then_the_pod() {
    check_deleted(
        "POD/0 running ip=10.0.0.1\n app/0 exited",
        &Memory::default(),
        expect![[r#"
        remove POD0
        remove app0
    "#]],
    );
    check_deleted(
        "",
        &Memory::default(),
        expect![[r#"
        remove volumes
    "#]],
    );
    let cleared = Memory { volumes_removed: true, ..Memory::default() };
    check_deleted(
        "",
        &cleared,
        expect![[r#"
        delete pod
    "#]],
    );
    check_deleted("", &Memory { in_flight: [Slot::Delete].into(), ..cleared }, expect![""]);
}

#[test]
fn a_deleted_pod_waits_for_what_is_being_made() {
    check_deleted("POD/0 running ip=10.0.0.1", &busy(&[Slot::Container("app".into())]), expect![""]);
    check_deleted("", &busy(&[Slot::Sandbox]), expect![""]);
}

#[test]
fn without_its_object_everything_goes_at_once() {
    let web = pod(WEB);
    let gone = |lines: &str, memory: &Memory| render(&decide_with(None, &observed(&web, lines), memory));
    expect![[r#"
        remove POD0
        remove app0
    "#]]
    .assert_eq(&gone(UP, &Memory::default()));
    expect![[r#"
        remove volumes
    "#]]
    .assert_eq(&gone("", &Memory::default()));
    expect![[r#"
        finished
    "#]]
    .assert_eq(&gone("", &Memory { volumes_removed: true, ..Memory::default() }));
}

fn blocked(retry_in: f64) -> Blocked {
    Blocked {
        reason: "ErrImagePull".into(),
        message: "no such image".into(),
        later: Some((at(1.0), "ImagePullBackOff".into(), "Back-off pulling image \"web:1\"".into())),
        retry_at: at(retry_in),
        failures: 1,
        kind: BlockKind::Image,
    }
}

#[test]
fn what_is_blocked_waits_and_says_why() {
    let memory = |b: Blocked| Memory { blocked: [("app".to_owned(), b)].into(), ..Memory::default() };
    check_with(
        WEB,
        "POD/0 running ip=10.0.0.1",
        &memory(blocked(10.0)),
        expect![[r#"
        app waits: ErrImagePull (no such image)
        wake in 1s
    "#]],
    );
    let later = Blocked { later: blocked(1.0).later.map(|(_, r, m)| (now(), r, m)), ..blocked(9.0) };
    check_with(
        WEB,
        "POD/0 running ip=10.0.0.1",
        &memory(later),
        expect![[r#"
        app waits: ImagePullBackOff (Back-off pulling image "web:1")
        wake in 9s
    "#]],
    );
    check_with(
        WEB,
        "POD/0 running ip=10.0.0.1",
        &memory(blocked(0.0)),
        expect![[r#"
        create app/0 on sandbox 0, failures 0
    "#]],
    );
}

const HOOK: &str = "
spec:
  containers:
  - {name: app, lifecycle: {postStart: {exec: {command: [x]}}}}
  - {name: b}";

#[test]
fn a_post_start_hook_runs_once_and_holds_back_the_next_container() {
    let lines = "POD/0 running ip=10.0.0.1\n app/0 running";
    check(
        HOOK,
        lines,
        expect![[r#"
        postStart app0
    "#]],
    );
    check_with(HOOK, lines, &busy(&[Slot::PostStart("app0".into())]), expect![""]);
    let done = |hook: Hook| Memory { post_start: [("app0".to_owned(), hook)].into(), ..Memory::default() };
    check_with(
        HOOK,
        lines,
        &done(Hook::Done),
        expect![[r#"
        create b/0 on sandbox 0, failures 0
    "#]],
    );
    check_with(
        HOOK,
        lines,
        &done(Hook::Failed),
        expect![[r#"
        begin stop app0: PostStartHook, grace 30s
        create b/0 on sandbox 0, failures 0
    "#]],
    );
}
