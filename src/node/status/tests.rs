//! Tables: a pod and what the engine has → its status, in short.

use super::*;
use crate::{
    engine::EventKind,
    node::{
        decide::{Health, View, decide},
        identity::{Identity, PodId, SANDBOX, spec_hash},
        lifecycle::CRASH_BACKOFF,
        observe::ObservedContainer,
    },
};
use expect_test::{Expect, expect};
use jiff::SignedDuration;
use std::fmt::Write as _;

fn now() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().unwrap()
}

fn pod(yaml: &str) -> Pod {
    let meta = "metadata: {namespace: default, name: web, uid: u1, generation: 2}\n";
    crate::testing::from_yaml(&format!("{meta}{yaml}")).unwrap()
}

const WEB: &str = "spec: {containers: [{name: b, image: 'b:1'}, {name: a, image: 'a:1'}]}";

struct World {
    pod: Pod,
    observed: ObservedPod,
    memory: Memory,
}

impl World {
    fn new(yaml: &str) -> Self {
        Self { pod: pod(yaml), observed: ObservedPod::default(), memory: Memory::default() }
    }

    fn create(mut self, name: &str, attempt: u32) -> Self {
        let spec = self.pod.spec.as_ref().unwrap();
        let of_name = spec.containers.iter().chain(spec.init_containers.iter().flatten()).find(|c| c.name == name);
        let identity = Identity {
            pod: PodId::of(&self.pod),
            container: name.into(),
            attempt,
            sandbox: 0,
            failures: attempt,
            hash: of_name.map(spec_hash).unwrap_or_default(),
            volumes: String::new(),
        };
        let mut container = ObservedContainer::created(identity, format!("{name}{attempt}"), now());
        container.ip = (name == SANDBOX).then(|| Ipv4Addr::new(10, 244, 0, 7));
        container.image_id = format!("sha256:{name}");
        self.observed.note_created(container);
        self
    }

    fn run(self, name: &str, attempt: u32) -> Self {
        let mut world = self.create(name, attempt);
        world.observed.note_started(&format!("{name}{attempt}"), now() - SignedDuration::from_secs(20));
        world
    }

    fn exit(self, name: &str, attempt: u32, code: i32) -> Self {
        let mut world = self.run(name, attempt);
        world.observed.apply(&format!("{name}{attempt}"), EventKind::Died(code), now());
        world
    }

    fn status(&self) -> PodStatus {
        let (observed, memory) = (&self.observed, &self.memory);
        let decision =
            decide(View { pod: Some(&self.pod), observed, memory, backoff: CRASH_BACKOFF, pending: None, now: now() });
        let digests = [("sha256:a".to_owned(), "a@sha256:77".to_owned())].into();
        let node_ip = Ipv4Addr::new(192, 168, 0, 1);
        let facts =
            Facts { pending: None, observed, memory, decision: &decision, node_ip, digests: &digests, now: now() };
        pod_status(&self.pod, facts)
    }

    fn check(&self, want: Expect) {
        want.assert_eq(&render(&self.status()));
    }
}

fn render(status: &PodStatus) -> String {
    let mut text = format!("{} ip={}", status.phase.as_deref().unwrap(), status.pod_ip.as_deref().unwrap_or("-"));
    for part in [&status.reason, &status.message].into_iter().flatten() {
        write!(text, " {part}").unwrap();
    }
    text.push('\n');
    for c in status.conditions.iter().flatten() {
        let why = format!("{} {}", c.reason.as_deref().unwrap_or_default(), c.message.as_deref().unwrap_or_default());
        writeln!(text, "{}", format!("{}={} {}", c.type_, c.status, why.trim()).trim_end()).unwrap();
    }
    let all = status.init_container_statuses.iter().flatten().chain(status.container_statuses.iter().flatten());
    for c in all {
        let flags = (if c.ready { " ready" } else { "" }, if c.started == Some(true) { " started" } else { "" });
        writeln!(text, "{}{}{} restarts={} {}", c.name, flags.0, flags.1, c.restart_count, show(c.state.as_ref()))
            .unwrap();
        let last = show(c.last_state.as_ref());
        if !last.is_empty() {
            writeln!(text, "  last {last}").unwrap();
        }
    }
    text
}

fn show(state: Option<&ContainerState>) -> String {
    let state = state.cloned().unwrap_or_default();
    if let Some(w) = state.waiting {
        return format!("waiting {} {}", w.reason.unwrap(), w.message.unwrap_or_default()).trim().to_owned();
    }
    if let Some(t) = state.terminated {
        return format!("terminated {} {}", t.reason.unwrap(), t.exit_code);
    }
    if state.running.is_some() { "running".to_owned() } else { String::new() }
}

#[test]
fn a_new_pod_is_pending_and_its_containers_are_being_created() {
    World::new(WEB).check(expect![[r#"
        Pending ip=-
        PodReadyToStartContainers=False
        Initialized=True
        Ready=False ContainersNotReady containers with unready status: [b a]
        ContainersReady=False ContainersNotReady containers with unready status: [b a]
        PodScheduled=True
        a restarts=0 waiting ContainerCreating
        b restarts=0 waiting ContainerCreating
    "#]]);
}

#[test]
fn a_pod_with_all_containers_up_is_ready() {
    World::new(WEB).run(SANDBOX, 0).run("a", 0).run("b", 0).check(expect![[r#"
        Running ip=10.244.0.7
        PodReadyToStartContainers=True
        Initialized=True
        Ready=True
        ContainersReady=True
        PodScheduled=True
        a ready started restarts=0 running
        b ready started restarts=0 running
    "#]]);
}

#[test]
fn a_pod_with_one_container_still_to_come_is_pending() {
    let world = World::new(WEB).run(SANDBOX, 0).run("a", 0).create("b", 0);
    assert_eq!(world.status().phase.as_deref(), Some("Pending"));
}

#[test]
fn a_crashing_container_waits_in_back_off_with_its_last_end() {
    World::new(WEB).run(SANDBOX, 0).run("a", 0).exit("b", 3, 1).check(expect![[r#"
        Running ip=10.244.0.7
        PodReadyToStartContainers=True
        Initialized=True
        Ready=False ContainersNotReady containers with unready status: [b]
        ContainersReady=False ContainersNotReady containers with unready status: [b]
        PodScheduled=True
        a ready started restarts=0 running
        b restarts=3 waiting CrashLoopBackOff back-off 40s restarting failed container=b pod=web_default(u1)
          last terminated Error 1
    "#]]);
}

#[test]
fn a_restarted_container_shows_its_last_end() {
    let world = World::new(WEB).run(SANDBOX, 0).run("a", 0).exit("b", 0, 137).run("b", 1);
    let status = world.status();
    let b = &status.container_statuses.as_ref().unwrap()[1];
    assert_eq!((b.restart_count, b.ready, show(b.last_state.as_ref())), (1, true, "terminated Error 137".into()));
    assert_eq!(b.container_id.as_deref(), Some("docker://b1"));
}

#[test]
fn the_next_attempt_shows_once_it_runs() {
    let world = World::new(WEB).run(SANDBOX, 0).run("a", 0).exit("b", 0, 137).create("b", 1);
    let status = world.status();
    let b = &status.container_statuses.as_ref().unwrap()[1];
    assert_eq!((b.restart_count, show(b.state.as_ref())), (0, "terminated Error 137".into()));
    assert_eq!(status.phase.as_deref(), Some("Running"));
}

#[test]
fn init_containers_come_first() {
    let yaml = "spec: {initContainers: [{name: i}], containers: [{name: a}]}";
    World::new(yaml).run(SANDBOX, 0).run("i", 0).check(expect![[r#"
        Pending ip=10.244.0.7
        PodReadyToStartContainers=True
        Initialized=False ContainersNotInitialized containers with incomplete status: [i]
        Ready=False ContainersNotReady containers with unready status: [a]
        ContainersReady=False ContainersNotReady containers with unready status: [a]
        PodScheduled=True
        i started restarts=0 running
        a restarts=0 waiting PodInitializing
    "#]]);
    World::new(yaml).run(SANDBOX, 0).exit("i", 0, 0).run("a", 0).check(expect![[r#"
        Running ip=10.244.0.7
        PodReadyToStartContainers=True
        Initialized=True
        Ready=True
        ContainersReady=True
        PodScheduled=True
        i ready restarts=0 terminated Completed 0
        a ready started restarts=0 running
    "#]]);
}

#[test]
fn readiness_waits_for_the_probe() {
    let yaml = "spec: {containers: [{name: a, readinessProbe: {tcpSocket: {port: 80}}}]}";
    let mut world = World::new(yaml).run(SANDBOX, 0).run("a", 0);
    let a = |w: &World| w.status().container_statuses.unwrap()[0].clone();
    assert_eq!((a(&world).started, a(&world).ready), (Some(true), false));
    world.memory.health.insert("a0".into(), Health::GOOD);
    assert!(a(&world).ready);
}

#[test]
fn a_job_pod_succeeds_or_fails() {
    let yaml = "spec: {restartPolicy: Never, containers: [{name: a}]}\nstatus: {podIP: 10.244.0.7}";
    World::new(yaml).exit("a", 0, 0).check(expect![[r#"
        Succeeded ip=10.244.0.7
        PodReadyToStartContainers=False
        Initialized=True PodCompleted
        Ready=False PodCompleted
        ContainersReady=False PodCompleted
        PodScheduled=True
        a restarts=0 terminated Completed 0
    "#]]);
    World::new(yaml).exit("a", 0, 3).check(expect![[r#"
        Failed ip=10.244.0.7
        PodReadyToStartContainers=False
        Initialized=True
        Ready=False PodFailed
        ContainersReady=False PodFailed
        PodScheduled=True
        a restarts=0 terminated Error 3
    "#]]);
}

#[test]
fn a_deleted_pod_whose_containers_ended_says_so_before_it_goes() {
    let mut world = World::new(WEB).run(SANDBOX, 0).exit("a", 0, 0).exit("b", 0, 143);
    world.pod.metadata.deletion_timestamp = Some(Time(now()));
    assert_eq!(world.status().phase.as_deref(), Some("Failed"));
    world.observed.note_removed("a0", now());
    world.observed.note_removed("b0", now());
    let after = world.status();
    assert_eq!(show(after.container_statuses.unwrap()[0].state.as_ref()), "terminated Completed 0");
}

#[test]
fn writing_the_status_changes_nothing_more() {
    let mut world = World::new(WEB).run(SANDBOX, 0).run("a", 0).exit("b", 3, 1);
    let first = world.status();
    world.pod.status = Some(first.clone());
    assert_eq!(world.status(), first);
}

#[test]
fn a_transition_time_moves_with_its_condition_only() {
    let mut world = World::new(WEB).run(SANDBOX, 0).run("a", 0).run("b", 0);
    let mut status = world.status();
    let early = Some(Time("2025-01-01T00:00:00Z".parse().unwrap()));
    status.conditions.as_mut().unwrap().iter_mut().for_each(|c| c.last_transition_time.clone_from(&early));
    world.pod.status = Some(status);
    world.observed.apply("b0", EventKind::Died(1), now());
    let after = world.status();
    let time = |type_: &str| {
        let c = after.conditions.iter().flatten().find(|c| c.type_ == type_).unwrap();
        c.last_transition_time.clone()
    };
    assert_eq!(time("PodScheduled"), early);
    assert_eq!(time("Ready"), Some(Time(now())));
}

#[test]
fn conditions_and_gates_of_others_are_kept_and_heeded() {
    let yaml = "
spec: {readinessGates: [{conditionType: example.com/lb}], containers: [{name: a}]}
status: {conditions: [{type: example.com/lb, status: 'False'}]}";
    World::new(yaml).run(SANDBOX, 0).run("a", 0).check(expect![[r#"
        Running ip=10.244.0.7
        example.com/lb=False
        PodReadyToStartContainers=True
        Initialized=True
        Ready=False ReadinessGatesNotReady the status of pod readiness gate "example.com/lb" is not "True", but False
        ContainersReady=True
        PodScheduled=True
        a ready started restarts=0 running
    "#]]);
}

#[test]
fn image_ids_tell_where_an_image_came_from() {
    let status = World::new(WEB).run(SANDBOX, 0).run("a", 0).run("b", 0).status();
    let ids: Vec<String> = status.container_statuses.unwrap().into_iter().map(|c| c.image_id).collect();
    assert_eq!(ids, ["docker-pullable://a@sha256:77", "docker://sha256:b"]);
}
