//! What users are told, as Events, and what is asked for them. Part of the worker.
//! **Source** of reasons and messages: `pkg/kubelet/events/event.go`, `pkg/kubelet/kuberuntime/*.go`, v1.37.

use super::{Done, Worker, container_of};
use crate::{
    api::pod_state::is_sidecar,
    base::ordered::Map,
    engine::{Container as EngineContainer, Phase},
    node::{
        context::stored_pod,
        decide::{Decision, Waiting},
        observe::{Cause, ObservedContainer, Run, StopReason},
        pause::Pause,
        probes::Due,
        termination,
    },
    registry::events::Severity,
};
use jiff::SignedDuration;
use k8s_openapi::api::core::v1::Pod;
use std::{borrow::Cow, sync::Arc};

/// How long before it is seen to be back an engine may have ended what ran.
const ENGINE_ENDS_WITHIN: SignedDuration = SignedDuration::from_secs(60);

impl Worker {
    fn pod(&self) -> Option<Arc<Pod>> {
        stored_pod(&self.context.pods, &self.key, &self.id.uid)
    }

    pub(super) fn tell_pod(&self, severity: Severity, reason: &str, message: &str) {
        if let Some(pod) = self.pod() {
            self.context.tell_pod(&pod, severity, reason, message);
        }
    }

    fn tell_of(&self, container: &str, severity: Severity, reason: &str, message: &str) {
        if let Some(pod) = self.pod() {
            self.context.tell(&pod, container, severity, reason, message);
        }
    }

    pub(super) fn tell_failed(&self, container: &str, message: &str) {
        self.tell_of(container, Severity::Warning, "Failed", message);
    }

    pub(super) fn tell_mount_failed(&self, message: &str) {
        self.tell_pod(Severity::Warning, "FailedMount", message);
    }

    pub(super) fn tell_unhealthy(&self, due: &Due, output: &str) {
        let message = format!("{} probe failed: {output}", due.kind.title());
        self.tell_of(&due.container, Severity::Warning, "Unhealthy", &message);
    }

    pub(super) fn tell_sandbox_changed(&self, pod: &Pod, attempt: u32) {
        if attempt > 0 {
            let message = "Pod sandbox changed, it will be killed and re-created.";
            self.context.tell_pod(pod, Severity::Normal, "SandboxChanged", message);
        }
    }

    pub(super) fn tell_stop(&self, pod: &Pod, name: &str, reason: StopReason) {
        let message = match reason {
            StopReason::Liveness => format!("Container {name} failed liveness probe, will be restarted"),
            StopReason::Startup => format!("Container {name} failed startup probe, will be restarted"),
            StopReason::Changed => format!("Container {name} definition changed, will be restarted"),
            StopReason::Resized => format!("Container {name} resize requires restart"),
            StopReason::PostStartHook => "FailedPostStartHook".to_owned(),
            StopReason::Deadline => {
                let message = "Pod was active on the node longer than the specified deadline";
                self.context.tell_pod(pod, Severity::Normal, "DeadlineExceeded", message);
                format!("Stopping container {name}")
            }
            StopReason::PodDeleted | StopReason::PodOver | StopReason::SandboxGone | StopReason::Superseded => {
                format!("Stopping container {name}")
            }
        };
        self.context.tell(pod, name, Severity::Normal, "Killing", &message);
    }

    /// Notes what ended and started since, and tells of what is well again.
    pub(super) fn note_starts(&self, pod: &Pod) {
        let is_ready = |run: &ObservedContainer| {
            let name = &run.identity.container;
            let is_init = pod
                .spec
                .iter()
                .flat_map(|s| s.init_containers.iter().flatten())
                .any(|c| c.name == *name && !is_sidecar(c));
            let health = container_of(pod, name).map(|spec| self.memory.health_of(&spec, run));
            !is_init && health.is_some_and(|health| health.has_started && health.is_ready)
        };
        let healed = self.starts().observe(&self.observed, is_ready, self.context.now());
        for healed in healed {
            self.context.tell(pod, &healed.container, Severity::Normal, "Healed", &healed.message);
        }
    }

    /// Notes what ended with the engine, which is back: what the list does not show to run any more, and what ended as it went.
    pub(super) fn note_engine_back(&self, listed: &[EngineContainer]) {
        let runs = |id: &str| listed.iter().any(|c| c.id == id && c.phase == Phase::Running);
        let since = self.context.now() - ENGINE_ENDS_WITHIN;
        let went = |run: &&ObservedContainer| match run.exit() {
            Some(exit) => {
                let is_last = self.observed.latest(&run.identity.container).is_some_and(|latest| latest.id == run.id);
                is_last && exit.cause == Cause::Outside && exit.at >= since
            }
            None => run.is_running() && !runs(&run.id),
        };
        self.starts().note_engine_back(self.observed.apps().filter(went).map(ObservedContainer::run));
    }

    /// Notes what ended within a pause of the cluster: it ended as with the engine.
    pub(super) fn note_paused(&self, pause: Pause) {
        let within =
            |run: &&ObservedContainer| run.exit().is_some_and(|exit| (pause.since..=pause.until).contains(&exit.at));
        self.starts().note_engine_back(self.observed.apps().filter(within).map(ObservedContainer::run));
    }

    pub(super) fn tell_run_again(&self, id: &str) {
        if let Some(container) = self.observed.by_id(id) {
            let name = &container.identity.container;
            self.tell_of(name, Severity::Normal, "Started", "Container started again by the engine");
        }
    }

    /// Tells of containers that began to wait in back-off.
    pub(super) fn tell_waiting(&mut self, pod: &Pod, decision: &Decision) {
        for (name, waiting) in &decision.waiting {
            if self.waited.get(name) != Some(waiting) {
                self.tell_back_off(pod, name, waiting);
            }
        }
        self.waited.clone_from(&decision.waiting);
    }

    fn tell_back_off(&self, pod: &Pod, name: &str, waiting: &Waiting) {
        match waiting.reason.as_str() {
            "CrashLoopBackOff" => {
                let message = format!("Back-off restarting failed container {name} in pod {}", self.id);
                self.context.tell(pod, name, Severity::Warning, "BackOff", &message);
            }
            "ImagePullBackOff" => {
                // Which image it is: the container's own, or one that it mounts.
                let (what, _) = waiting.message.split_once(": ErrImagePull").unwrap_or((&waiting.message, ""));
                self.context.tell(pod, name, Severity::Normal, "BackOff", what);
                self.context.tell(pod, name, Severity::Warning, "Failed", "Error: ImagePullBackOff");
            }
            _ => {}
        }
    }

    /// Makes the file for what the next attempt of a container will have to say a new one while this attempt runs: who heals it then
    /// need not.
    pub(super) fn renew_message_file(&mut self, id: &str) {
        let Some(pod) = self.pod() else { return };
        let Some(of) = self.observed.by_id(id).map(|container| container.identity.clone()) else { return };
        let Some(spec) = container_of(&pod, &of.container).map(Cow::into_owned) else { return };
        let next = of.attempt + 1;
        if !termination::is_used_again(next) {
            return;
        }
        let renewal = self.site(&pod).renew_ahead(spec, next, of.sandbox);
        self.renewals.insert(of.container, ((next, of.sandbox), renewal.clone()));
        self.start(None, async move {
            renewal.await;
            Done::MessageFileRenewed
        });
    }

    /// Asks for what containers that ended had to say, once for each run.
    pub(super) fn ask_last_words(&mut self, pod: &Arc<Pod>) {
        let sandbox = self.observed.sandbox().filter(|sandbox| !sandbox.is_gone).map(|sandbox| sandbox.id.clone());
        let ended: Map<Run, ObservedContainer> =
            self.observed.ended_runs().map(|ended| (ended.run(), ended.clone())).collect();
        self.memory.last_words.retain(|run, words| words.is_none() || ended.contains_key(run));
        for (run, ended) in ended {
            let Some(spec) = container_of(pod, &ended.identity.container).map(Cow::into_owned) else { continue };
            if self.memory.last_words.contains_key(&run) {
                continue;
            }
            self.memory.last_words.insert(run.clone(), None);
            let (site, sandbox) = (self.site(pod), sandbox.clone());
            self.start(None, async move {
                let text = site.last_words(&spec, &ended, sandbox.as_deref()).await;
                Done::LastWords(run, text)
            });
        }
    }
}
