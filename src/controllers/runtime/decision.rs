//! What a decision is made of: plain values that can be compared and printed, and that `execute` carries out.

use crate::{
    api::{
        kind::{KindRef, TypedKind},
        meta::ObjectKey,
        object::{DynObject, Object},
    },
    registry::{
        events::{Severity, reference},
        pipeline::{DeleteOptions, Part, Propagation},
    },
};
use k8s_openapi::{api::core::v1::ObjectReference, apimachinery::pkg::apis::meta::v1::OwnerReference};
use std::{fmt, time::Duration};

/// The longest time that a look is put off.
const LOOK_AGAIN_MAX: Duration = Duration::from_hours(24);

/// The erased form of a kind.
pub fn erased<K: TypedKind>() -> KindRef {
    KindRef::BuiltIn(K::erased())
}

/// One write.
pub enum Action {
    /// Creates an object.
    Create {
        /// Its kind.
        kind: KindRef,
        /// The object.
        object: Box<dyn DynObject>,
    },
    /// Replaces an object, whose `resourceVersion` must be current.
    Update {
        /// Its kind.
        kind: KindRef,
        /// Which part.
        part: Part,
        /// The object.
        object: Box<dyn DynObject>,
    },
    /// Deletes an object. That it is gone already is as good.
    Delete {
        /// Its kind.
        kind: KindRef,
        /// Which object.
        key: ObjectKey,
        /// How; the UID is given.
        options: DeleteOptions,
    },
    /// Adds an owner to an object of this UID.
    Adopt {
        /// Its kind.
        kind: KindRef,
        /// Which object.
        key: ObjectKey,
        /// Its UID.
        uid: String,
        /// The owner.
        owner: OwnerReference,
    },
    /// Takes an owner from an object of this UID.
    Release {
        /// Its kind.
        kind: KindRef,
        /// Which object.
        key: ObjectKey,
        /// Its UID.
        uid: String,
        /// The owner's UID.
        owner_uid: String,
    },
}

impl Action {
    /// Creates an object.
    pub fn create<K: TypedKind>(object: K::Object) -> Self {
        Self::Create { kind: erased::<K>(), object: K::pack(object) }
    }

    /// Replaces all but the status of an object.
    pub fn update<K: TypedKind>(object: K::Object) -> Self {
        Self::Update { kind: erased::<K>(), part: Part::Main, object: K::pack(object) }
    }

    /// Replaces the status of an object.
    pub fn update_status<K: TypedKind>(object: K::Object) -> Self {
        Self::Update { kind: erased::<K>(), part: Part::Status, object: K::pack(object) }
    }

    /// Deletes exactly this object, and in the background what it owns.
    pub fn delete<K: TypedKind>(object: &K::Object) -> Self {
        let meta = Object::meta(object);
        let options = DeleteOptions {
            uid: meta.uid.clone(),
            propagation: Some(Propagation::Background),
            ..DeleteOptions::default()
        };
        Self::Delete { kind: erased::<K>(), key: ObjectKey::of(meta), options }
    }

    /// Adds an owner to exactly this object.
    pub fn adopt<K: TypedKind>(object: &K::Object, owner: OwnerReference) -> Self {
        let meta = Object::meta(object);
        Self::Adopt { kind: erased::<K>(), key: ObjectKey::of(meta), uid: meta.uid.clone().unwrap_or_default(), owner }
    }

    /// Takes an owner from exactly this object.
    pub fn release<K: TypedKind>(object: &K::Object, owner_uid: &str) -> Self {
        let meta = Object::meta(object);
        Self::Release {
            kind: erased::<K>(),
            key: ObjectKey::of(meta),
            uid: meta.uid.clone().unwrap_or_default(),
            owner_uid: owner_uid.to_owned(),
        }
    }

    /// The name that the object has, or is to have; empty when it is still to be generated.
    pub fn name(&self) -> String {
        match self {
            Self::Create { object, .. } | Self::Update { object, .. } => object.meta().name.clone().unwrap_or_default(),
            Self::Delete { key, .. } | Self::Adopt { key, .. } | Self::Release { key, .. } => key.name.clone(),
        }
    }

    /// The object to write, when it is given and of this kind. For tests of decisions.
    pub fn object<K: TypedKind>(&self) -> Option<&K::Object> {
        match self {
            Self::Create { object, .. } | Self::Update { object, .. } => object.as_any().downcast_ref(),
            Self::Delete { .. } | Self::Adopt { .. } | Self::Release { .. } => None,
        }
    }

    /// The object to write, when it is given and of this kind, whatever form it has. For tests of decisions.
    #[cfg(test)]
    pub fn read<K: TypedKind>(&self) -> Option<K::Object> {
        match self {
            Self::Create { kind, object } | Self::Update { kind, object, .. } if *kind == erased::<K>() => {
                Some(K::read(&object.to_json()).expect("an object to write is of its kind"))
            }
            Self::Create { .. }
            | Self::Update { .. }
            | Self::Delete { .. }
            | Self::Adopt { .. }
            | Self::Release { .. } => None,
        }
    }

    /// The step that does this and tells no one.
    pub fn because(self, why: &'static str) -> Planned {
        Planned { action: self, why, report: Report::Nothing }
    }
}

fn named(object: &dyn DynObject) -> String {
    let meta = object.meta();
    let name = match (&meta.name, &meta.generate_name) {
        (None, Some(prefix)) => format!("{prefix}*"),
        (name, _) => name.clone().unwrap_or_default(),
    };
    ObjectKey::new(meta.namespace.clone().unwrap_or_default(), name).to_string()
}

impl fmt::Debug for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Create { kind, object } => write!(f, "create {} {}", kind.info().kind, named(&**object)),
            Self::Update { kind, part, object } => {
                let part = if *part == Part::Status { " status of" } else { "" };
                write!(f, "update{part} {} {}", kind.info().kind, named(&**object))
            }
            Self::Delete { kind, key, .. } => write!(f, "delete {} {key}", kind.info().kind),
            Self::Adopt { kind, key, owner, .. } => {
                write!(f, "adopt {} {key} for {} {}", kind.info().kind, owner.kind, owner.name)
            }
            Self::Release { kind, key, .. } => write!(f, "release {} {key}", kind.info().kind),
        }
    }
}

/// An event to record.
#[derive(Clone, Debug, PartialEq)]
pub struct EventDraft {
    /// Which object it is about.
    pub about: ObjectReference,
    /// How much it matters.
    pub severity: Severity,
    /// The machine's word.
    pub reason: &'static str,
    /// The human's sentence.
    pub message: String,
}

impl EventDraft {
    /// Something went as it should.
    pub fn normal<K: TypedKind>(about: &K::Object, reason: &'static str, message: impl Into<String>) -> Self {
        Self { about: reference::<K>(about), severity: Severity::Normal, reason, message: message.into() }
    }

    /// Something that a user may want to act on.
    pub fn warning<K: TypedKind>(about: &K::Object, reason: &'static str, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::normal::<K>(about, reason, message) }
    }
}

/// Which event an action's result becomes.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Report {
    /// None.
    #[default]
    Nothing,
    /// This one, if it succeeds.
    OnSuccess(Box<EventDraft>),
    /// `SuccessfulCreate` or `FailedCreate`, about this object. **Source**: `RealPodControl`, pkg/controller/controller_utils.go.
    Creation(Box<ObjectReference>),
    /// `SuccessfulDelete` or `FailedDelete`, about this object.
    Deletion(Box<ObjectReference>),
    /// The first if it succeeds, the second with the error behind its message if it fails.
    Outcome(Box<[EventDraft; 2]>),
}

/// An action, why it is done, and what is told of it.
#[derive(Debug)]
pub struct Planned {
    /// The write.
    pub action: Action,
    /// A short constant that tests, logs and `conclude` know it by.
    pub why: &'static str,
    /// The event it becomes.
    pub report: Report,
}

impl Planned {
    /// The same, telling this.
    #[must_use]
    pub fn telling(self, report: Report) -> Self {
        Self { report, ..self }
    }
}

/// Actions that are done together.
#[derive(Debug)]
pub enum Step {
    /// One action.
    One(Box<Planned>),
    /// All at once; those that fail do not stop the others.
    Parallel(Vec<Planned>),
    /// One, then two, then four and so on at once; a failure stops what has not begun.
    /// **Source**: `slowStartBatch`, pkg/controller/replicaset/replica_set.go.
    SlowStart(Vec<Planned>),
}

impl From<Planned> for Step {
    fn from(planned: Planned) -> Self {
        Self::One(Box::new(planned))
    }
}

/// What a controller wants. Steps are done in order; a step that fails stops the rest.
#[derive(Debug, Default)]
pub struct Decision {
    /// The writes.
    pub steps: Vec<Step>,
    /// Events that depend on no write; recorded first.
    pub events: Vec<EventDraft>,
    /// When to look again if nothing changes.
    pub requeue_after: Option<Duration>,
}

#[cfg(test)]
impl Decision {
    /// The actions, one a line, with the events that they become: for snapshots.
    pub fn to_text(&self) -> String {
        let mut lines: Vec<String> = Vec::new();
        for planned in self.planned() {
            lines.push(format!("{:?} ({})", planned.action, planned.why));
            if let Report::OnSuccess(event) = &planned.report {
                lines.push(format!("  {}: {}", event.reason, event.message));
            }
        }
        lines.extend(self.events.iter().map(|e| format!("{:?} {}: {}", e.severity, e.reason, e.message)));
        lines.extend(self.requeue_after.map(|d| format!("again after {d:?}")));
        lines.join("\n")
    }
}

impl Decision {
    /// Nothing to do.
    pub fn rest() -> Self {
        Self::default()
    }

    /// Adds a step.
    pub fn then(&mut self, step: impl Into<Step>) {
        self.steps.push(step.into());
    }

    /// Wants another look after this time, or earlier if that is wanted already. Times come from users, who may mean for ever: nothing
    /// is put off for longer than [`LOOK_AGAIN_MAX`], so that no clock overflows.
    pub fn look_again_after(&mut self, delay: Duration) {
        let delay = delay.min(LOOK_AGAIN_MAX);
        self.requeue_after = Some(self.requeue_after.map_or(delay, |d| d.min(delay)));
    }

    /// Every planned action, in order.
    pub fn planned(&self) -> impl Iterator<Item = &Planned> {
        self.steps.iter().flat_map(|step| match step {
            Step::One(one) => std::slice::from_ref(&**one),
            Step::Parallel(many) | Step::SlowStart(many) => many.as_slice(),
        })
    }

    /// Whether it writes nothing and tells nothing.
    pub fn is_rest(&self) -> bool {
        self.events.is_empty() && self.planned().next().is_none()
    }
}
