//! What a write does to a stream's tags: their generations, and what they mean at once. Pure.
//!
//! Called by the kind, by admission (a tag may name another stream), by the controller and by the views of tags.
//!
//! **Source**: `pkg/image/apiserver/registry/imagestream/strategy.go` and `pkg/image/apiserver/internalimageutil/helpers.go` of
//! openshift-apiserver.

use super::{DOCKER_IMAGE, IMAGE_STREAM_IMAGE, IMAGE_STREAM_TAG, ImageStream, TagEvent, TagEvents, TagReference};
use crate::api::{field::FieldError, meta::ObjectKey};
use k8s_openapi::{api::core::v1::ObjectReference, apimachinery::pkg::apis::meta::v1::Time};
use std::sync::Arc;

/// How many images of a tag are remembered, the newest included: each is kept on the machine. OpenShift remembers them all until an
/// administrator prunes them.
const ITEMS_MAX: usize = 10;

/// Finds another stream.
pub type Find<'a> = dyn Fn(&ObjectKey) -> Option<Arc<ImageStream>> + 'a;

/// Says of each changed tag by which generation of the stream it was set. Clients may only send 0, which means: look again.
///
/// **Source**: `updateSpecTagGenerationsForUpdate` and `ensureSpecTagGenerationsAreSet`.
pub fn give_generations(new: &mut ImageStream, old: &ImageStream) {
    for tag in &mut new.spec.tags {
        if let (Some(before), true) = (old.spec_tag(&tag.name), tag.generation != Some(0)) {
            tag.generation = before.generation;
        }
    }
    let own = old.metadata.generation.unwrap_or(0);
    let generation = if new.spec == old.spec { own } else { own + 1 };
    let namespace = new.metadata.namespace.clone().unwrap_or_default();
    for tag in &mut new.spec.tags {
        let before = old.spec_tag(&tag.name);
        let is_same = before.is_some_and(|before| !is_changed(before, tag, &namespace));
        if !is_same || matches!(tag.generation, None | Some(0)) {
            tag.generation = Some(generation);
        }
    }
}

/// Whether a tag is to be looked for anew.
///
/// **Source**: `tagRefChanged` and `tagRefGenerationChanged`.
fn is_changed(old: &TagReference, new: &TagReference, namespace: &str) -> bool {
    let Some(from) = &new.from else { return false };
    let place = |from: &ObjectReference| {
        let of = from.namespace.clone().filter(|n| !n.is_empty()).unwrap_or_else(|| namespace.to_owned());
        (of, from.name.clone().unwrap_or_default())
    };
    let was = old.from.as_ref().map(place);
    was != Some(place(from))
        || old.reference != new.reference
        || old.import_policy.import_mode != new.import_policy.import_mode
        || (old.generation != new.generation && matches!(new.generation, None | Some(0)))
        || (old.generation.is_none() && new.generation.is_some())
}

/// Gives the tags that a write has changed the meaning that they have at once: names that need no image, and what tags and images of
/// streams mean. `old` is the stream before; `None`: it is new. The generations are set already.
///
/// # Errors
/// What the tags name is no stream, or nothing of the stream.
///
/// **Source**: `tagsChanged`.
pub fn settle(new: &mut ImageStream, old: Option<&ImageStream>, now: &Time, find: &Find<'_>) -> Vec<FieldError> {
    let mut errs = Vec::new();
    let namespace = new.metadata.namespace.clone().unwrap_or_default();
    for (i, tag) in new.spec.tags.clone().iter().enumerate() {
        // A generation that the client sent as 0 is the stream's by now.
        let is_same =
            |before: &TagReference| !is_changed(before, tag, &namespace) && before.generation == tag.generation;
        if old.and_then(|old| old.spec_tag(&tag.name)).is_some_and(is_same) {
            continue;
        }
        let Some(from) = &tag.from else { continue };
        match meaning(new, tag, from, now, find) {
            Ok(Some(event)) => drop(add_event(new, &tag.name, event)),
            Ok(None) => {}
            Err(wrong) => {
                errs.push(wrong(&format!("spec.tags[{i}].from.name"), from.name.as_deref().unwrap_or_default()));
            }
        }
    }
    match old {
        Some(old) => follow_own(new, old),
        None => follow_own(new, &ImageStream::default()),
    }
    errs
}

type Wrong = Box<dyn Fn(&str, &str) -> FieldError>;

/// What a tag means at once; `None`: it is still to be seen.
fn meaning(
    stream: &ImageStream,
    tag: &TagReference,
    from: &ObjectReference,
    now: &Time,
    find: &Find<'_>,
) -> Result<Option<TagEvent>, Wrong> {
    let (kind, name) = (from.kind.as_deref().unwrap_or_default(), from.name.as_deref().unwrap_or_default());
    let generation = tag.generation.unwrap_or(0);
    if kind == DOCKER_IMAGE {
        let event = || TagEvent {
            created: now.clone(),
            docker_image_reference: name.to_owned(),
            image: String::new(),
            generation,
        };
        return Ok((tag.reference && !name.is_empty()).then(event));
    }
    let (Some((other, of)), own) = (parse_from(stream, from), stream.metadata.name.as_deref().unwrap_or_default())
    else {
        let why = "must be of the form <tag>, <repo>:<tag>, <id>, or <repo>@<id>";
        return Err(Box::new(move |path, name| FieldError::invalid(path, name, why)));
    };
    let own_namespace = stream.metadata.namespace.as_deref().unwrap_or_default();
    let namespace = from.namespace.as_deref().filter(|n| !n.is_empty()).unwrap_or(own_namespace);
    let event = if (namespace, other) == (own_namespace, own) {
        event_of(stream, kind, of)?
    } else {
        let found = find(&ObjectKey::new(namespace, other));
        let found = found.ok_or_else(|| -> Wrong { Box::new(|path, name| FieldError::not_found(path, name)) })?;
        event_of(&found, kind, of)?
    };
    Ok(event.map(|event| TagEvent { created: now.clone(), generation, ..event }))
}

fn event_of(stream: &ImageStream, kind: &str, of: &str) -> Result<Option<TagEvent>, Wrong> {
    if kind == IMAGE_STREAM_TAG {
        return Ok(stream.latest(of).cloned());
    }
    match image_event(stream, of) {
        Ok(event) => Ok(Some(event.clone())),
        Err(why) => Err(Box::new(move |path, name| {
            FieldError::invalid(path, name, format!("error generating tag event: {why}"))
        })),
    }
}

/// The newest event of a stream whose image has this ID, or an ID that begins so.
///
/// # Errors
/// There is none, or there are several images.
///
/// **Source**: `ResolveImageID`.
pub fn image_event<'s>(stream: &'s ImageStream, id: &str) -> Result<&'s TagEvent, String> {
    let bare = |id: &str| id.strip_prefix("sha256:").unwrap_or(id).to_owned();
    let wanted = bare(id);
    let events = stream.status.tags.iter().flat_map(|tag| &tag.items);
    let found: Vec<&TagEvent> = events.filter(|e| !e.image.is_empty() && bare(&e.image).starts_with(&wanted)).collect();
    let Some(newest) = found.iter().copied().max_by_key(|e| e.created.0).filter(|_| !wanted.is_empty()) else {
        return Err(format!("imagestreamimage.image.openshift.io {id:?} not found"));
    };
    if found.iter().any(|e| e.image != newest.image) {
        return Err(format!("multiple images match the prefix {id:?}"));
    }
    Ok(newest)
}

/// The stream and the tag or ID that a reference names. **Source**: `parseFromReference`.
fn parse_from<'a>(stream: &'a ImageStream, from: &'a ObjectReference) -> Option<(&'a str, &'a str)> {
    let name = from.name.as_deref().filter(|name| !name.is_empty())?;
    let between = match from.kind.as_deref()? {
        IMAGE_STREAM_TAG => ':',
        IMAGE_STREAM_IMAGE => '@',
        _ => return None,
    };
    match name.split_once(between) {
        None => Some((stream.metadata.name.as_deref().unwrap_or_default(), name)),
        Some((_, of)) if of.contains(between) => None,
        Some(parts) => Some(parts),
    }
}

/// Gives tags that follow tags of the same stream what those have come to mean since `old`.
///
/// **Source**: `UpdateChangedTrackingTags` and `UpdateTrackingTags`.
pub fn follow_own(new: &mut ImageStream, old: &ImageStream) {
    let own = new.metadata.name.clone().unwrap_or_default();
    let namespace = new.metadata.namespace.clone().unwrap_or_default();
    let follows = |tag: &TagReference| -> Option<(String, String, i64)> {
        let from = tag.from.as_ref().filter(|from| from.kind.as_deref() == Some(IMAGE_STREAM_TAG))?;
        let is_here = from.namespace.as_deref().is_none_or(|n| n.is_empty() || n == namespace);
        let name = from.name.as_deref()?;
        let (stream, of) = name.split_once(':').unwrap_or((&own, name));
        (is_here && stream == own).then(|| (tag.name.clone(), of.to_owned(), tag.generation.unwrap_or(0)))
    };
    let followers: Vec<_> = new.spec.tags.iter().filter_map(follows).collect();
    // A tag may follow one that follows another; rings come to rest, because what is there already is not added.
    for _ in 0..followers.len() {
        let mut moved = false;
        for (tag, of, generation) in &followers {
            let Some(latest) = new.latest(of).filter(|latest| Some(*latest) != old.latest(of)) else { continue };
            let event = TagEvent { generation: *generation, ..latest.clone() };
            moved |= add_event(new, tag, event);
        }
        if !moved {
            return;
        }
    }
}

/// Says that a tag means an image from now on; returns whether that is news.
///
/// **Source**: `AddTagEventToImageStream`.
pub fn add_event(stream: &mut ImageStream, tag: &str, next: TagEvent) -> bool {
    let tags = &mut stream.status.tags;
    let at = tags.iter().position(|events| events.tag == tag).unwrap_or_else(|| {
        tags.push(TagEvents { tag: tag.to_owned(), ..TagEvents::default() });
        tags.len() - 1
    });
    let events = &mut tags[at];
    match events.items.first_mut() {
        Some(last)
            if last.docker_image_reference == next.docker_image_reference
                && last.image == next.image
                && last.generation == next.generation =>
        {
            return false;
        }
        Some(last) if last.docker_image_reference == next.docker_image_reference || last.image == next.image => {
            *last = TagEvent { created: last.created.clone(), ..next };
        }
        _ => {
            events.items.insert(0, next);
            events.items.truncate(ITEMS_MAX);
        }
    }
    events.conditions.clear();
    true
}
