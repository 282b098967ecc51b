//! Puts the images that tags of streams mean into what runs them: into DeploymentConfigs by their ImageChange triggers, and into
//! Deployments, StatefulSets, DaemonSets and CronJobs by the annotation `image.openshift.io/triggers`.
//!
//! The rollout that follows is the kind's own controller's. A pass looks at the whole object: what somebody has put in the place of a
//! tag's image is put back.
//!
//! - [`annotation`]: the annotation. [`deployment_config`]: the triggers of a DeploymentConfig. Both are pure, over JSON: the kinds have
//!   nothing else in common.
//!
//! **Source**: `pkg/image/controller/trigger/` of openshift-controller-manager, `pkg/image/trigger/` of library-go.

mod annotation;
mod deployment_config;
#[cfg(test)]
mod tests;

use super::runtime::{Action, Controller, Decision, EventDraft, Trigger};
use crate::{
    api::{
        kind::KindRef,
        kinds::{
            Kinds,
            image_stream::{ImageStream, ImageStreams},
        },
        meta::ObjectKey,
    },
    base::ordered::Map,
    registry::{
        Registry,
        events::Severity,
        keys,
        pipeline::{Part, Selection},
    },
    store::Entry,
};
use k8s_openapi::api::core::v1::ObjectReference;
use serde_json::Value;

/// Group and plural of the kinds whose images follow tags.
const KINDS: [(&str, &str); 5] = [
    (deployment_config::GROUP, "deploymentconfigs"),
    ("apps", "deployments"),
    ("apps", "statefulsets"),
    ("apps", "daemonsets"),
    ("batch", "cronjobs"),
];

/// An object whose images may follow tags: the place of its kind in [`KINDS`], and its name.
type Target = (usize, ObjectKey);

/// A tag of a stream, `stream:tag`, in a namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tag {
    /// The stream's namespace.
    pub namespace: String,
    /// `stream:tag`.
    pub name: String,
}

/// The image that each tag means, of those that mean one.
pub type Images = Map<Tag, String>;

/// All that a pass over an object depends on.
#[derive(Clone, Debug)]
pub struct Observed {
    kind: KindRef,
    object: Value,
    images: Images,
}

/// What is to become of an object.
#[derive(Clone, Debug, Default, PartialEq)]
struct Verdict {
    /// What it is to be; `None`: as it is.
    changed: Option<Value>,
    /// What is wrong with what it says of triggers.
    wrong: Vec<String>,
}

/// The controller.
#[derive(Clone, Copy, Debug)]
pub struct ImageTriggerController;

impl Controller for ImageTriggerController {
    type Key = Target;
    type Observed = Observed;

    const FOLLOWS_KINDS: bool = true;

    fn name(&self) -> &'static str {
        "image-trigger"
    }

    fn event_source(&self) -> &'static str {
        "image-trigger-controller"
    }

    fn triggers(&self) -> Vec<Trigger<Target>> {
        vec![Trigger::on::<ImageStreams>(|registry, moved, keys| {
            let is_news = match (&moved.before, &moved.after) {
                (Some(before), Some(after)) => before.status != after.status || before.spec != after.spec,
                _ => true,
            };
            if is_news {
                let name = moved.last().and_then(|stream| stream.metadata.name.clone()).unwrap_or_default();
                keys.extend(mentioning(registry, &name));
            }
        })]
    }

    fn kind_triggers(&self, kinds: &Kinds) -> Vec<Trigger<Target>> {
        let of = |(at, kind): (usize, KindRef)| {
            Trigger::on_erased(kind.clone(), move |_, _, after, keys| {
                keys.extend(after.filter(|entry| may_follow(at, entry)).and_then(|entry| target(at, &kind, entry)));
            })
        };
        served(kinds).map(of).collect()
    }

    fn observe(&self, registry: &Registry, (at, key): &Target) -> Option<Observed> {
        let (_, kind) = served(&registry.kinds()).find(|(of, _)| of == at)?;
        let entry = registry.entry(&*kind, key)?;
        let object: Value = serde_json::from_slice(&entry.value).expect("stored objects are JSON");
        let tags = if kind.info().group == deployment_config::GROUP {
            deployment_config::tags(&object)
        } else {
            annotation::tags(&object)
        };
        let streams = registry.api::<ImageStreams>();
        let image = |tag: Tag| {
            let (stream, name) = tag.name.split_once(':')?;
            let stream = streams.get(&ObjectKey::new(&tag.namespace, stream))?;
            let image = ImageStream::resolve(&stream, name)?;
            Some((tag, image))
        };
        Some(Observed { images: tags.into_iter().filter_map(image).collect(), kind, object })
    }

    fn decide(&self, observed: &Observed) -> Decision {
        let mut decision = Decision::rest();
        let Observed { kind, object, images } = observed;
        if object["metadata"].get("deletionTimestamp").is_some() {
            return decision;
        }
        let verdict = if kind.info().group == deployment_config::GROUP {
            deployment_config::decide(object, images)
        } else {
            annotation::decide(object, images, kind.info().kind == "CronJob")
        };
        decision.events.extend(verdict.wrong.into_iter().map(|message| EventDraft {
            about: about(kind, object),
            severity: Severity::Warning,
            reason: "InvalidImageTrigger",
            message,
        }));
        let changed = verdict.changed.map(|changed| kind.decode(changed).expect("images are the only change"));
        if let Some(object) = changed {
            let update = Action::Update { kind: kind.clone(), part: Part::Main, object };
            decision.then(update.because("a tag means another image"));
        }
        decision
    }
}

/// The kinds of [`KINDS`] that are served, with their places.
fn served(kinds: &Kinds) -> impl Iterator<Item = (usize, KindRef)> {
    KINDS.iter().enumerate().filter_map(|(at, (group, plural))| Some((at, kinds.stored(group, plural)?.clone())))
}

/// Whether an object's images may follow tags, told from its bytes: most say nothing of it.
fn may_follow(at: usize, entry: &Entry) -> bool {
    KINDS[at].0 == deployment_config::GROUP || says(entry, annotation::TRIGGERS)
}

fn says(entry: &Entry, word: &str) -> bool {
    memchr::memmem::find(&entry.value, word.as_bytes()).is_some()
}

fn target(at: usize, kind: &KindRef, entry: &Entry) -> Option<Target> {
    Some((at, keys::object_key(kind.info(), &entry.key)?))
}

/// The objects of all namespaces that may follow tags of a stream of this name.
fn mentioning(registry: &Registry, stream: &str) -> Vec<Target> {
    let kinds = registry.kinds();
    let of = |(at, kind): (usize, KindRef)| {
        let entries = registry.snapshot(&*kind, "", &Selection::default()).entries;
        let follows = |entry: &&std::sync::Arc<Entry>| may_follow(at, entry) && says(entry, stream);
        entries.iter().filter(follows).filter_map(|entry| target(at, &kind, entry)).collect::<Vec<_>>()
    };
    served(&kinds).flat_map(of).collect()
}

fn about(kind: &KindRef, object: &Value) -> ObjectReference {
    let text = |field: &str| object["metadata"][field].as_str().map(str::to_owned);
    ObjectReference {
        api_version: Some(kind.info().api_version()),
        kind: Some(kind.info().kind.to_owned()),
        namespace: text("namespace"),
        name: text("name"),
        uid: text("uid"),
        resource_version: text("resourceVersion"),
        field_path: None,
    }
}

/// The namespace of an object.
fn namespace(object: &Value) -> &str {
    object["metadata"]["namespace"].as_str().unwrap_or_default()
}

/// The tag that a reference of an object names.
fn tag(object: &Value, from: &Value) -> Option<Tag> {
    if from["kind"].as_str() != Some("ImageStreamTag") {
        return None;
    }
    let name = from["name"].as_str().filter(|name| name.contains(':'))?.to_owned();
    let namespace = from["namespace"].as_str().filter(|n| !n.is_empty()).unwrap_or_else(|| namespace(object));
    Some(Tag { namespace: namespace.to_owned(), name })
}
