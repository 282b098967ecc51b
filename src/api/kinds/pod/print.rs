//! The printed row of a pod.
//!
//! **Source**: `printPod` in `pkg/printers/internalversion/printers.go`, v1.37.

use crate::api::{kinds::part, pod_state, table};
use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{ContainerState, ContainerStateTerminated, ContainerStatus, Pod, PodSpec, PodStatus},
    apimachinery::pkg::apis::meta::v1::Time,
};
use serde_json::{Value, json};

/// The cells of a pod.
pub(super) fn row(pod: &Pod, now: Timestamp) -> Vec<Value> {
    let spec = part(&pod.spec);
    let status = part(&pod.status);
    let summary = summary(pod, &spec, &status);
    let ip = status.pod_ips.iter().flatten().next().map(|ip| ip.ip.as_str()).unwrap_or_default();
    vec![
        table::name(&pod.metadata),
        json!(format!("{}/{}", summary.n_ready, summary.n_containers)),
        json!(summary.reason),
        json!(summary.restarts.text(now)),
        table::age(&pod.metadata, now),
        table::or(ip, table::NONE),
        table::or(spec.node_name.as_deref().unwrap_or_default(), table::NONE),
        table::or(status.nominated_node_name.as_deref().unwrap_or_default(), table::NONE),
        json!(readiness_gates(pod, &spec)),
    ]
}

/// How often containers were restarted, and when last.
#[derive(Clone, Debug, Default)]
struct Restarts {
    n: i32,
    last: Option<Timestamp>,
}

impl Restarts {
    fn add(&mut self, container: &ContainerStatus) {
        self.n += container.restart_count;
        let ended = container.last_state.as_ref().and_then(|s| s.terminated.as_ref());
        let Some(Time(at)) = ended.and_then(|t| t.finished_at.as_ref()) else { return };
        self.last = self.last.max(Some(*at));
    }

    fn text(&self, now: Timestamp) -> String {
        match self.last {
            Some(last) if self.n != 0 => format!("{} ({} ago)", self.n, table::since(last, now)),
            _ => self.n.to_string(),
        }
    }
}

struct Summary {
    n_ready: usize,
    n_containers: usize,
    reason: String,
    restarts: Restarts,
}

fn summary(pod: &Pod, spec: &PodSpec, status: &PodStatus) -> Summary {
    let n_sidecars = spec.init_containers.iter().flatten().filter(|c| pod_state::is_sidecar(c)).count();
    let mut summary = Summary {
        n_ready: 0,
        n_containers: spec.containers.len() + n_sidecars,
        reason: first_reason(status),
        restarts: Restarts::default(),
    };
    let mut of_sidecars = Restarts::default();
    let initializing = init_containers(&mut summary, &mut of_sidecars, spec, status);
    if !initializing || pod_state::is_condition_true(pod, pod_state::INITIALIZED) {
        summary.restarts = of_sidecars;
        containers(&mut summary, pod, status);
    }
    if pod.metadata.deletion_timestamp.is_some() {
        if status.reason.as_deref() == Some("NodeLost") {
            "Unknown".clone_into(&mut summary.reason);
        } else if !pod_state::is_terminal(pod) {
            "Terminating".clone_into(&mut summary.reason);
        }
    }
    summary
}

fn first_reason(status: &PodStatus) -> String {
    let gated = |reason: Option<&str>| reason == Some("SchedulingGated");
    let mut conditions = status.conditions.iter().flatten();
    if conditions.any(|c| c.type_ == pod_state::POD_SCHEDULED && gated(c.reason.as_deref())) {
        return "SchedulingGated".to_owned();
    }
    let reason = status.reason.as_deref().filter(|r| !r.is_empty());
    reason.or(status.phase.as_deref()).unwrap_or_default().to_owned()
}

/// Looks at the init containers up to the first that is not done; says whether there is one.
fn init_containers(summary: &mut Summary, sidecars: &mut Restarts, spec: &PodSpec, status: &PodStatus) -> bool {
    let n_inits = spec.init_containers.iter().flatten().count();
    for (i, container) in status.init_container_statuses.iter().flatten().enumerate() {
        summary.restarts.add(container);
        let mut specs = spec.init_containers.iter().flatten();
        let is_sidecar = specs.any(|c| c.name == container.name && pod_state::is_sidecar(c));
        if is_sidecar {
            sidecars.add(container);
        }
        let state = part(&container.state);
        match &*state {
            ContainerState { terminated: Some(end), .. } if end.exit_code == 0 => continue,
            _ if is_sidecar && container.started == Some(true) => {
                summary.n_ready += usize::from(container.ready);
                continue;
            }
            ContainerState { terminated: Some(end), .. } => summary.reason = format!("Init:{}", end_reason(end)),
            _ => {
                summary.reason = match waiting_reason(&state).filter(|r| *r != "PodInitializing") {
                    Some(reason) => format!("Init:{reason}"),
                    None => format!("Init:{i}/{n_inits}"),
                };
            }
        }
        return true;
    }
    false
}

fn containers(summary: &mut Summary, pod: &Pod, status: &PodStatus) {
    let mut has_running = false;
    for container in status.container_statuses.iter().flatten().rev() {
        summary.restarts.add(container);
        let state = part(&container.state);
        if let Some(reason) = waiting_reason(&state) {
            reason.clone_into(&mut summary.reason);
        } else if let Some(end) = &state.terminated {
            summary.reason = end_reason(end);
        } else if container.ready && state.running.is_some() {
            has_running = true;
            summary.n_ready += 1;
        }
    }
    if summary.reason == "Completed" && has_running {
        let text = if pod_state::is_pod_ready(pod) { "Running" } else { "NotReady" };
        text.clone_into(&mut summary.reason);
    }
}

fn waiting_reason(state: &ContainerState) -> Option<&str> {
    state.waiting.as_ref()?.reason.as_deref().filter(|r| !r.is_empty())
}

/// `Error`, `OOMKilled` …, or the signal or exit code when the engine gave no reason.
fn end_reason(end: &ContainerStateTerminated) -> String {
    match (end.reason.as_deref().filter(|r| !r.is_empty()), end.signal.filter(|s| *s != 0)) {
        (Some(reason), _) => reason.to_owned(),
        (None, Some(signal)) => format!("Signal:{signal}"),
        (None, None) => format!("ExitCode:{}", end.exit_code),
    }
}

fn readiness_gates(pod: &Pod, spec: &PodSpec) -> String {
    let gates = spec.readiness_gates.as_deref().unwrap_or_default();
    if gates.is_empty() {
        return table::NONE.to_owned();
    }
    let open = gates.iter().filter(|g| pod_state::is_condition_true(pod, &g.condition_type)).count();
    format!("{open}/{}", gates.len())
}

#[cfg(test)]
mod tests {
    use crate::api::kinds::{pod::Pods, testing::row};
    use expect_test::{Expect, expect};

    #[track_caller]
    fn check(yaml: &str, expected: &Expect) {
        expected.assert_eq(&row::<Pods>(&format!("metadata: {{name: p}}\n{yaml}")));
    }

    const TWO: &str = "spec: {containers: [{name: a}, {name: b}]}";

    #[test]
    fn a_pod_on_its_way() {
        check(
            &format!("{TWO}\nstatus: {{phase: Pending}}"),
            &expect!["p | 0/2 | Pending | 0 | <unknown> | <none> | <none> | <none> | <none>"],
        );
        let gated = "{phase: Pending, conditions: [{type: PodScheduled, status: 'False', reason: SchedulingGated}]}";
        check(
            &format!("{TWO}\nstatus: {gated}"),
            &expect!["p | 0/2 | SchedulingGated | 0 | <unknown> | <none> | <none> | <none> | <none>"],
        );
        let creating =
            "{phase: Pending, containerStatuses: [{name: a, state: {waiting: {reason: ContainerCreating}}}]}";
        check(
            &format!("{TWO}\nstatus: {creating}"),
            &expect!["p | 0/2 | ContainerCreating | 0 | <unknown> | <none> | <none> | <none> | <none>"],
        );
    }

    #[test]
    fn a_running_pod_shows_where_it_is() {
        let pod = "
spec: {nodeName: skiff, containers: [{name: a}, {name: b}], readinessGates: [{conditionType: g}, {conditionType: h}]}
status:
  phase: Running
  podIPs: [{ip: 10.244.0.7}]
  nominatedNodeName: other
  conditions: [{type: Ready, status: 'True'}, {type: g, status: 'True'}]
  containerStatuses:
  - {name: a, ready: true, restartCount: 1, state: {running: {}}, lastState: {terminated: {exitCode: 1, finishedAt: '2026-03-01T11:59:55Z'}}}
  - {name: b, ready: false, restartCount: 2, state: {running: {}}}
";
        check(pod, &expect!["p | 1/2 | Running | 3 (5s ago) | <unknown> | 10.244.0.7 | skiff | other | 1/2"]);
    }

    #[test]
    fn a_pod_in_its_init_containers() {
        let init = |statuses: &str| {
            format!(
                "spec: {{containers: [{{name: a}}], initContainers: [{{name: i}}, {{name: j}}]}}\nstatus: {{phase: Pending, initContainerStatuses: {statuses}}}"
            )
        };
        let done = "{name: i, restartCount: 3, state: {terminated: {exitCode: 0}}, lastState: {terminated: {exitCode: 1, finishedAt: '2026-03-01T11:00:00Z'}}}";
        check(
            &init("[{name: i, state: {running: {}}}]"),
            &expect!["p | 0/1 | Init:0/2 | 0 | <unknown> | <none> | <none> | <none> | <none>"],
        );
        check(
            &init(&format!("[{done}, {{name: j, state: {{waiting: {{reason: PodInitializing}}}}}}]")),
            &expect!["p | 0/1 | Init:1/2 | 3 (60m ago) | <unknown> | <none> | <none> | <none> | <none>"],
        );
        check(
            &init(&format!("[{done}, {{name: j, state: {{waiting: {{reason: CrashLoopBackOff}}}}}}]")),
            &expect!["p | 0/1 | Init:CrashLoopBackOff | 3 (60m ago) | <unknown> | <none> | <none> | <none> | <none>"],
        );
        check(
            &init("[{name: i, state: {terminated: {exitCode: 3}}}]"),
            &expect!["p | 0/1 | Init:ExitCode:3 | 0 | <unknown> | <none> | <none> | <none> | <none>"],
        );
        check(
            &init("[{name: i, state: {terminated: {exitCode: 3, signal: 9}}}]"),
            &expect!["p | 0/1 | Init:Signal:9 | 0 | <unknown> | <none> | <none> | <none> | <none>"],
        );
        check(
            &init("[{name: i, state: {terminated: {exitCode: 3, reason: Error}}}]"),
            &expect!["p | 0/1 | Init:Error | 0 | <unknown> | <none> | <none> | <none> | <none>"],
        );
    }

    #[test]
    fn a_sidecar_counts_as_a_container() {
        let pod = "
spec: {containers: [{name: a}], initContainers: [{name: s, restartPolicy: Always}]}
status:
  phase: Running
  initContainerStatuses: [{name: s, started: true, ready: true, restartCount: 2, state: {running: {}}}]
  containerStatuses: [{name: a, ready: true, state: {running: {}}}]
";
        check(pod, &expect!["p | 2/2 | Running | 2 | <unknown> | <none> | <none> | <none> | <none>"]);
    }

    #[test]
    fn containers_that_ended_say_how() {
        let ended = |end: &str| {
            format!(
                "spec: {{containers: [{{name: a}}]}}\nstatus: {{phase: Failed, containerStatuses: [{{name: a, state: {{terminated: {end}}}}}]}}"
            )
        };
        check(
            &ended("{exitCode: 0, reason: Completed}"),
            &expect!["p | 0/1 | Completed | 0 | <unknown> | <none> | <none> | <none> | <none>"],
        );
        check(
            &ended("{exitCode: 137, reason: OOMKilled}"),
            &expect!["p | 0/1 | OOMKilled | 0 | <unknown> | <none> | <none> | <none> | <none>"],
        );
        check(
            &ended("{exitCode: 3}"),
            &expect!["p | 0/1 | ExitCode:3 | 0 | <unknown> | <none> | <none> | <none> | <none>"],
        );
        check(
            &ended("{exitCode: 137, signal: 9}"),
            &expect!["p | 0/1 | Signal:9 | 0 | <unknown> | <none> | <none> | <none> | <none>"],
        );
        let loops = "spec: {containers: [{name: a}]}\nstatus: {phase: Running, containerStatuses: [{name: a, restartCount: 4, state: {waiting: {reason: CrashLoopBackOff}}, lastState: {terminated: {exitCode: 1, finishedAt: '2026-03-01T11:58:00Z'}}}]}";
        check(
            loops,
            &expect!["p | 0/1 | CrashLoopBackOff | 4 (2m ago) | <unknown> | <none> | <none> | <none> | <none>"],
        );
    }

    #[test]
    fn a_pod_of_which_one_container_is_done() {
        let pod = |ready: &str| {
            format!(
                "{TWO}\nstatus: {{phase: Running, conditions: [{{type: Ready, status: '{ready}'}}], containerStatuses: [{{name: a, state: {{terminated: {{exitCode: 0, reason: Completed}}}}}}, {{name: b, ready: true, state: {{running: {{}}}}}}]}}"
            )
        };
        check(&pod("True"), &expect!["p | 1/2 | Running | 0 | <unknown> | <none> | <none> | <none> | <none>"]);
        check(&pod("False"), &expect!["p | 1/2 | NotReady | 0 | <unknown> | <none> | <none> | <none> | <none>"]);
    }

    #[test]
    fn a_pod_that_goes() {
        let going = |status: &str| {
            row::<Pods>(&format!(
                "metadata: {{name: p, deletionTimestamp: '2026-03-01T12:00:00Z'}}\nspec: {{containers: [{{name: a}}]}}\nstatus: {status}"
            ))
        };
        expect!["p | 0/1 | Terminating | 0 | <unknown> | <none> | <none> | <none> | <none>"]
            .assert_eq(&going("{phase: Running}"));
        expect!["p | 0/1 | Succeeded | 0 | <unknown> | <none> | <none> | <none> | <none>"]
            .assert_eq(&going("{phase: Succeeded}"));
        expect!["p | 0/1 | Unknown | 0 | <unknown> | <none> | <none> | <none> | <none>"]
            .assert_eq(&going("{phase: Running, reason: NodeLost}"));
        check(
            "status: {phase: Failed, reason: Evicted}",
            &expect!["p | 0/0 | Evicted | 0 | <unknown> | <none> | <none> | <none> | <none>"],
        );
    }
}
