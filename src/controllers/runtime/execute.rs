//! Carries out decisions: the only place where controllers write.
//!
//! Every write has a precondition (a `resourceVersion` or a UID). A failed one means that the world moved since the decision.
//! **Not here**: what to do about a failure; `run` requeues, and the controller's `conclude` is told.

use super::{
    decision::{Action, EventDraft, Planned, Report, Step},
    metrics::Counters,
};
use crate::{
    api::{
        kind::ErasedKind,
        meta::ObjectKey,
        object::DynObject,
        status::{ApiError, ErrorClass},
    },
    registry::{
        Registry,
        events::{Recorder, Severity},
        pipeline::{Deleted, Part, WriteOptions},
    },
    store::Entry,
};
use futures::future::join_all;
use std::sync::{Arc, atomic::Ordering::Relaxed};
use tracing::debug;

/// How many actions the first slow-start batch has. **Source**: `SlowStartInitialBatchSize`, pkg/controller/controller_utils.go.
const SLOW_START_FIRST: usize = 1;

/// What became of one planned action.
#[derive(Clone, Debug)]
pub struct StepResult {
    /// Why it was planned.
    pub why: &'static str,
    /// The name that the object has, or was to have.
    pub name: String,
    /// The object as written (`None` for a deletion), or why it failed.
    pub result: Result<Option<Arc<Entry>>, ApiError>,
}

/// What became of a decision: the actions that were tried, in order.
#[derive(Clone, Debug, Default)]
pub struct Done {
    /// Their results.
    pub results: Vec<StepResult>,
    /// How many actions were not tried because one before them failed.
    pub skipped: usize,
}

impl Done {
    /// Whether an action of this reason succeeded.
    pub fn succeeded(&self, why: &'static str) -> bool {
        self.results.iter().any(|r| r.why == why && r.result.is_ok())
    }

    /// Why an action of this reason failed, if one did: a real failure rather than a world that moved.
    pub fn error_of(&self, why: &'static str) -> Option<&ApiError> {
        worst(self.results.iter().filter(|r| r.why == why))
    }

    /// The name of the object of the first action of this reason.
    pub fn name_of(&self, why: &'static str) -> Option<&str> {
        self.results.iter().find(|r| r.why == why).map(|r| r.name.as_str())
    }

    /// The failure that matters most: a real one rather than a world that moved.
    pub fn error(&self) -> Option<&ApiError> {
        worst(self.results.iter())
    }
}

fn worst<'a>(results: impl Iterator<Item = &'a StepResult>) -> Option<&'a ApiError> {
    let mut moved = None;
    for error in results.filter_map(|r| r.result.as_ref().err()) {
        if !is_moved(error) {
            return Some(error);
        }
        moved = moved.or(Some(error));
    }
    moved
}

/// Whether an error says that the world moved since the decision, so that deciding again is the answer.
pub fn is_moved(error: &ApiError) -> bool {
    matches!(error.class(), ErrorClass::Conflict | ErrorClass::NotFound)
}

/// Carries out decisions for one controller.
#[derive(Clone, Debug)]
pub struct Executor {
    registry: Registry,
    recorder: Recorder,
    counters: Arc<Counters>,
}

impl Executor {
    /// An executor whose events come from `event_source`.
    pub fn new(registry: Registry, event_source: &'static str, counters: Arc<Counters>) -> Self {
        let recorder = Recorder::new(registry.clone(), event_source);
        Self { registry, recorder, counters }
    }

    /// Records events and does the steps in order. A step in which something fails is the last.
    pub async fn run(&self, steps: &[Step], events: &[EventDraft]) -> Done {
        for event in events {
            self.tell(event);
        }
        let mut done = Done::default();
        for (i, step) in steps.iter().enumerate() {
            self.step(step, &mut done).await;
            if done.results.iter().any(|r| r.result.is_err()) {
                done.skipped += steps[i + 1..].iter().map(len).sum::<usize>();
                break;
            }
        }
        done
    }

    async fn step(&self, step: &Step, done: &mut Done) {
        match step {
            Step::One(planned) => done.results.push(self.perform(planned).await),
            Step::Parallel(many) => done.results.extend(self.batch(many).await),
            Step::SlowStart(many) => self.slow_start(many, done).await,
        }
    }

    async fn batch(&self, many: &[Planned]) -> Vec<StepResult> {
        join_all(many.iter().map(|planned| self.perform(planned))).await
    }

    async fn slow_start(&self, many: &[Planned], done: &mut Done) {
        let (mut rest, mut size) = (many, SLOW_START_FIRST);
        while !rest.is_empty() {
            let (batch, after) = rest.split_at(size.min(rest.len()));
            let results = self.batch(batch).await;
            let failed = results.iter().any(|r| r.result.is_err());
            done.results.extend(results);
            if failed {
                done.skipped += after.len();
                return;
            }
            (rest, size) = (after, size * 2);
        }
    }

    async fn perform(&self, planned: &Planned) -> StepResult {
        self.counters.actions.fetch_add(1, Relaxed);
        let result = self.write(&planned.action).await;
        match &result {
            Ok(_) => debug!(action = ?planned.action, why = planned.why, "done"),
            Err(err) => debug!(action = ?planned.action, why = planned.why, %err, "not done"),
        }
        self.report(planned, &result);
        StepResult { why: planned.why, name: planned.action.name(), result }
    }

    async fn write(&self, action: &Action) -> Result<Option<Arc<Entry>>, ApiError> {
        let options = WriteOptions::of_the_cluster();
        match action {
            Action::Create { kind, object } => {
                let namespace = object.meta().namespace.clone().unwrap_or_default();
                self.registry.create(&**kind, &namespace, object.clone_dyn(), &options).await.map(Some)
            }
            Action::Update { kind, part, object } => {
                assert!(object.meta().resource_version.is_some(), "an update says what it is based on: {action:?}");
                let key = ObjectKey::of(object.meta());
                self.registry.update(&**kind, &key, *part, &mut |_| Ok(object.clone_dyn()), &options).await.map(Some)
            }
            Action::Delete { kind, key, options } => match self.registry.delete(&**kind, key, options).await {
                Ok(Deleted::Gone(..) | Deleted::Marked(_)) | Err(ApiError::NotFound { .. }) => Ok(None),
                Err(err) => Err(err),
            },
            Action::Adopt { kind, key, uid, owner } => {
                let add = |object: &mut dyn DynObject| {
                    let owners = object.meta_mut().owner_references.get_or_insert_default();
                    owners.retain(|o| o.uid != owner.uid);
                    owners.push(owner.clone());
                };
                self.rewrite(&**kind, key, uid, add).await
            }
            Action::Release { kind, key, uid, owner_uid } => {
                let drop = |object: &mut dyn DynObject| {
                    let meta = object.meta_mut();
                    let mut owners = meta.owner_references.take().unwrap_or_default();
                    owners.retain(|o| o.uid != *owner_uid);
                    meta.owner_references = if owners.is_empty() { None } else { Some(owners) };
                };
                self.rewrite(&**kind, key, uid, drop).await
            }
        }
    }

    /// Changes the metadata of exactly the object of this UID, whatever else others changed in it meanwhile.
    async fn rewrite(
        &self,
        kind: &dyn ErasedKind,
        key: &ObjectKey,
        uid: &str,
        change: impl Fn(&mut dyn DynObject) + Send + Sync,
    ) -> Result<Option<Arc<Entry>>, ApiError> {
        let mut apply = |entry: &Entry| {
            let mut object = kind.decode_bytes(&entry.value).expect("stored objects decode as their kind");
            if object.meta().uid.as_deref() != Some(uid) {
                return Err(ApiError::not_found(kind.info(), &key.name));
            }
            change(&mut *object);
            // Only the UID matters here; a write that comes between is no reason to give up.
            object.meta_mut().resource_version = None;
            Ok(object)
        };
        self.registry.update(kind, key, Part::Main, &mut apply, &WriteOptions::of_the_cluster()).await.map(Some)
    }

    fn tell(&self, event: &EventDraft) {
        self.recorder.record(&event.about, event.severity, event.reason, &event.message);
    }

    /// Source of the texts: `RealPodControl`, pkg/controller/controller_utils.go, v1.37.
    fn report(&self, planned: &Planned, result: &Result<Option<Arc<Entry>>, ApiError>) {
        let record = |about, severity, reason, message: String| self.recorder.record(about, severity, reason, &message);
        match (&planned.report, result) {
            (Report::OnSuccess(event), Ok(_)) => self.tell(event),
            (Report::Creation(about), Ok(Some(entry))) => {
                let name = entry.key.rsplit('/').next().unwrap_or_default();
                record(about, Severity::Normal, "SuccessfulCreate", format!("Created pod: {name}"));
            }
            (Report::Creation(about), Err(err)) => {
                record(about, Severity::Warning, "FailedCreate", format!("Error creating: {err}"));
            }
            (Report::Deletion(about), Ok(_)) => {
                let Action::Delete { key, .. } = &planned.action else { return };
                record(about, Severity::Normal, "SuccessfulDelete", format!("Deleted pod: {}", key.name));
            }
            (Report::Deletion(about), Err(err)) if !is_moved(err) => {
                record(about, Severity::Warning, "FailedDelete", format!("Error deleting: {err}"));
            }
            (Report::Outcome(events), Ok(_)) => self.tell(&events[0]),
            (Report::Outcome(events), Err(err)) if !is_moved(err) => {
                let failure = &events[1];
                self.tell(&EventDraft { message: format!("{}{err}", failure.message), ..failure.clone() });
            }
            (
                Report::Nothing | Report::OnSuccess(_) | Report::Creation(_) | Report::Deletion(_) | Report::Outcome(_),
                _,
            ) => {}
        }
    }
}

fn len(step: &Step) -> usize {
    match step {
        Step::One(_) => 1,
        Step::Parallel(many) | Step::SlowStart(many) => many.len(),
    }
}
