//! Tags of streams as objects of their own: ImageStreamTag, and ImageTag, which shows what was set beside what came of it.
//!
//! A write changes the stream. Without a `resourceVersion` it is unconditional, as `oc tag` has it.

use super::{
    super::{Call, delete, patch::Patch},
    image_of, image_view, json_of, list, metadata, single, stream_of, write_stream,
};
use crate::{
    api::{
        field::FieldError,
        image_name::familiar,
        kind::Kind as _,
        kinds::{
            image_stream::{ImageStream, ImageStreams, TagReference, validate_tag},
            node::Nodes,
        },
        meta::ObjectKey,
        object::{DynObject, Untyped, without_place},
        schema,
        status::ApiError,
    },
    base::{json::typed, ordered::SortList as _},
    registry::pipeline::WriteOptions,
    server::{codec, media::Offer, options::Writing, paths, respond::Response, route::Verb, verbs::write::check_name},
};
use serde_json::{Value, json};
use std::{collections::BTreeMap, sync::Arc};

/// A tag of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Name {
    stream: ObjectKey,
    tag: String,
}

/// Which of the two views is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum View {
    StreamTag,
    Tag,
}

impl View {
    fn of(call: &Call<'_>) -> Self {
        if call.kind.info().kind == "ImageTag" { Self::Tag } else { Self::StreamTag }
    }

    /// The field with what a user has set.
    fn set_field(self) -> &'static str {
        match self {
            Self::StreamTag => "tag",
            Self::Tag => "spec",
        }
    }
}

/// Answers a call on tags.
pub(in crate::server::verbs) async fn answer(call: &mut Call<'_>) -> Result<Response, ApiError> {
    match call.info.verb {
        Verb::Get => get(call).await,
        Verb::List => list_all(call),
        Verb::Create => create(call).await,
        Verb::Update => update(call).await,
        Verb::Patch if call.is_apply() => {
            let what =
                format!("server-side apply of {}: PUT or patch it, or apply the ImageStream", call.kind.info().plural);
            Err(ApiError::Unsupported(what))
        }
        Verb::Patch => patch(call).await,
        Verb::Delete => remove(call).await,
        Verb::DeleteCollection | Verb::Watch | Verb::Other => Err(ApiError::MethodNotAllowed),
    }
}

/// Reads `stream:tag`.
fn parse(call: &Call<'_>, name: &str) -> Result<Name, ApiError> {
    let parts = name.split_once(':').filter(|(s, t)| !s.is_empty() && !t.is_empty() && !t.contains(':'));
    let kind = call.kind.info().kind;
    let (stream, tag) =
        parts.ok_or_else(|| ApiError::BadRequest(format!("{kind}s must be retrieved with <name>:<tag>")))?;
    Ok(Name { stream: ObjectKey::new(&call.info.namespace, stream), tag: tag.to_owned() })
}

/// A tag of a stream as it is shown; `image` is what it means.
fn view(view: View, stream: &ImageStream, tag: &str, image: Value) -> Value {
    let (set, events) = (stream.spec_tag(tag), stream.events(tag));
    let event = stream.latest(tag);
    let name = format!("{}:{tag}", stream.metadata.name.as_deref().unwrap_or_default());
    let mut metadata = metadata(stream, &name, event);
    metadata["labels"] = json!(stream.metadata.labels);
    metadata["annotations"] = json!(set.and_then(|set| set.annotations.as_ref()));
    let set = set.map(json_of);
    match view {
        View::StreamTag => json!({
            "metadata": metadata,
            "tag": set,
            "generation": event.map_or(0, |event| event.generation),
            "lookupPolicy": { "local": stream.spec.lookup_policy.local },
            "conditions": events.filter(|e| !e.conditions.is_empty()).map(|e| json!(e.conditions)),
            "image": image,
        }),
        View::Tag => json!({ "metadata": metadata, "spec": set, "status": events.map(json_of), "image": image }),
    }
}

/// A tag with what the engine knows of its image.
async fn whole(call: &Call<'_>, stream: &ImageStream, tag: &str) -> Result<Value, ApiError> {
    let image = match stream.latest(tag) {
        Some(event) => image_of(call, event).await?,
        None => image_view("", "", None),
    };
    Ok(view(View::of(call), stream, tag, image))
}

/// An ImageStreamTag is there once it means an image; an ImageTag is there once it is set.
fn is_there(view: View, stream: &ImageStream, tag: &str) -> bool {
    match view {
        View::StreamTag => stream.latest(tag).is_some_and(|event| !event.image.is_empty()),
        View::Tag => stream.spec_tag(tag).is_some() || stream.events(tag).is_some(),
    }
}

async fn get(call: &Call<'_>) -> Result<Response, ApiError> {
    let Name { stream, tag } = parse(call, &call.info.name)?;
    let stream = stream_of(call, &stream.name)?;
    if !is_there(View::of(call), &stream, &tag) {
        return Err(ApiError::not_found(call.kind.info(), &call.info.name));
    }
    single(call, 200, whole(call, &stream, &tag).await?)
}

fn list_all(call: &Call<'_>) -> Result<Response, ApiError> {
    let of = View::of(call);
    let streams = call.registry().api::<ImageStreams>().list(&call.info.namespace).items;
    let tags = |stream: &Arc<ImageStream>| {
        let mut tags: Vec<String> = stream.status.tags.iter().map(|events| events.tag.clone()).collect();
        if of == View::Tag {
            tags.extend(stream.spec.tags.iter().map(|set| set.name.clone()).filter(|tag| stream.events(tag).is_none()));
        }
        tags.sort_list();
        let shown = |tag: &String| {
            let event = stream.latest(tag);
            let image = event
                .map_or_else(|| image_view("", "", None), |e| image_view(&e.image, &e.docker_image_reference, None));
            view(of, stream, tag, image)
        };
        tags.iter().map(shown).collect::<Vec<_>>()
    };
    list(call, streams.iter().flat_map(tags).collect())
}

/// What a body wants of a tag.
struct Wanted {
    /// What it is to follow; `None`: the body does not say.
    set: Option<TagReference>,
    annotations: Option<BTreeMap<String, String>>,
    resource_version: Option<String>,
}

fn wanted(call: &Call<'_>, obj: &dyn DynObject, tag: &str) -> Result<Wanted, ApiError> {
    let obj = obj.as_any().downcast_ref::<Untyped>().expect("the kind is served from its schema");
    let field = View::of(call).set_field();
    let set = match obj.rest.get(field) {
        None | Some(Value::Null) => None,
        Some(set) => {
            let mut set: TagReference = typed(set.clone()).map_err(|err| ApiError::BadRequest(without_place(&err)))?;
            tag.clone_into(&mut set.name);
            let mut alone = ImageStream::default();
            alone.spec.tags.push(set);
            ImageStreams::set_defaults(&mut alone);
            let set = alone.spec.tags.remove(0);
            let mut errs = Vec::new();
            validate_tag(&mut errs, &set, field);
            if !errs.is_empty() {
                return Err(ApiError::invalid(
                    call.kind.info(),
                    obj.metadata.name.as_deref().unwrap_or_default(),
                    errs,
                ));
            }
            Some(set)
        }
    };
    let annotations = obj.metadata.annotations.clone();
    Ok(Wanted { set, annotations, resource_version: obj.metadata.resource_version.clone().filter(|v| !v.is_empty()) })
}

async fn create(call: &mut Call<'_>) -> Result<Response, ApiError> {
    let Writing { write, validation, .. } = call.writing("CreateOptions")?;
    let format = codec::body_format(&call.request.headers)?;
    let obj = codec::decode(&*call.kind, format, &call.request.body, validation, &mut call.warnings)?;
    let full = obj.meta().name.clone().unwrap_or_default();
    if full.is_empty() {
        return Err(ApiError::invalid(
            call.kind.info(),
            "",
            vec![FieldError::required("metadata.name", "name is required")],
        ));
    }
    let Name { stream, tag } = parse(call, &full)?;
    let wanted = wanted(call, &*obj, &tag)?;
    let resource = call.kind.info().resource();
    let mut add = |stream: &mut ImageStream| {
        if stream.spec_tag(&tag).is_some() {
            return Err(ApiError::AlreadyExists { resource: resource.clone(), name: full.clone(), is_going: false });
        }
        let unset = || TagReference { name: tag.clone(), ..TagReference::default() };
        let set = wanted.set.clone().unwrap_or_else(unset);
        stream
            .spec
            .tags
            .push(TagReference { annotations: wanted.annotations.clone().or(set.annotations.clone()), ..set });
        Ok(())
    };
    let written = write_stream(call, &stream, &write, &mut add).await?;
    single(call, 201, whole(call, &written, &tag).await?)
}

async fn update(call: &mut Call<'_>) -> Result<Response, ApiError> {
    let Writing { write, validation, .. } = call.writing("UpdateOptions")?;
    let format = codec::body_format(&call.request.headers)?;
    let obj = codec::decode(&*call.kind, format, &call.request.body, validation, &mut call.warnings)?;
    check_name(obj.meta(), &call.key())?;
    let name = parse(call, &call.info.name)?;
    let wanted = wanted(call, &*obj, &name.tag)?;
    put(call, &name, &write, wanted).await
}

/// Sets a tag.
async fn put(call: &Call<'_>, name: &Name, write: &WriteOptions, wanted: Wanted) -> Result<Response, ApiError> {
    let (of, full) = (View::of(call), &call.info.name);
    let Name { stream: key, tag } = name;
    let mut was_set = false;
    let mut set = |stream: &mut ImageStream| {
        if let Some(based_on) = &wanted.resource_version {
            match &stream.metadata.resource_version {
                None => return Err(ApiError::not_found(call.kind.info(), full)),
                Some(is) if is != based_on => {
                    let why = format!("another caller has updated the resource version to {is}");
                    return Err(ApiError::Conflict { resource: call.kind.info().resource(), name: full.clone(), why });
                }
                Some(_) => {}
            }
        }
        let at = stream.spec.tags.iter().position(|set| set.name == *tag);
        was_set = at.is_some();
        let before = at.map(|at| stream.spec.tags.remove(at));
        let next = match (of, wanted.set.clone(), before) {
            (_, Some(set), _) => set,
            // Taking away what was set is how an ImageTag is no longer set.
            (View::Tag, None, Some(_)) => return Ok(()),
            (View::StreamTag, None, Some(before)) => before,
            (_, None, None) => {
                return Err(ApiError::BadRequest(format!(
                    "imagestreamtag {tag} is not a spec tag in imagestream {key}, cannot be updated"
                )));
            }
        };
        let annotations = if of == View::StreamTag { wanted.annotations.clone() } else { next.annotations.clone() };
        stream.spec.tags.insert(at.unwrap_or(stream.spec.tags.len()), TagReference { annotations, ..next });
        Ok(())
    };
    let written = write_stream(call, key, write, &mut set).await?;
    single(call, if was_set { 200 } else { 201 }, whole(call, &written, tag).await?)
}

async fn patch(call: &mut Call<'_>) -> Result<Response, ApiError> {
    let patch = Patch::read(&call.request.headers, &call.request.body)?;
    let Writing { write, validation, .. } = call.writing("PatchOptions")?;
    let name = parse(call, &call.info.name)?;
    let stream = stream_of(call, &name.stream.name)?;
    if stream.spec_tag(&name.tag).is_none() && stream.events(&name.tag).is_none() {
        return Err(ApiError::not_found(call.kind.info(), &call.info.name));
    }
    let mut current = whole(call, &stream, &name.tag).await?;
    schema::normalize(call.kind.definition(), &mut current);
    let given = current["metadata"]["resourceVersion"].clone();
    let mut patched = patch.apply(current, call.kind.definition())?;
    // A revision that the patch did not set is no precondition.
    if let Some(meta) = patched.get_mut("metadata").and_then(Value::as_object_mut)
        && meta.get("resourceVersion") == Some(&given)
    {
        meta.remove("resourceVersion");
    }
    let mut warnings = Vec::new();
    let obj = codec::to_object(&*call.kind, patched, &[], validation, &mut warnings).map_err(ApiError::BadRequest)?;
    call.warnings.append(&mut warnings);
    check_name(obj.meta(), &call.key())?;
    let wanted = wanted(call, &*obj, &name.tag)?;
    put(call, &name, &write, wanted).await
}

/// Takes a tag away: what was set, and what came of it.
async fn remove(call: &mut Call<'_>) -> Result<Response, ApiError> {
    let options = delete::delete_options(call)?;
    let Name { stream: key, tag } = parse(call, &call.info.name)?;
    let stream = stream_of(call, &key.name)?;
    if stream.spec_tag(&tag).is_none() && stream.events(&tag).is_none() {
        return Err(ApiError::not_found(call.kind.info(), &call.info.name));
    }
    let of = &stream.metadata;
    for (what, wanted, is) in
        [("UID", &options.uid, &of.uid), ("ResourceVersion", &options.resource_version, &of.resource_version)]
    {
        if wanted.is_some() && wanted != is {
            let (wanted, is) = (wanted.as_deref().unwrap_or_default(), is.as_deref().unwrap_or_default());
            let why = format!("the {what} in the precondition ({wanted}) does not match the {what} in record ({is})");
            return Err(ApiError::Conflict {
                resource: call.kind.info().resource(),
                name: call.info.name.clone(),
                why,
            });
        }
    }
    if !options.dry_run {
        let api = call.registry().api::<ImageStreams>();
        api.modify(&key, |stream| stream.spec.tags.retain(|set| set.name != tag)).await?;
        api.modify_status(&key, |stream| stream.status.tags.retain(|events| events.tag != tag)).await?;
        call.warnings.extend(comes_back(call, &key, &tag));
    }
    let details = json!({ "name": call.info.name, "group": call.kind.info().group, "kind": call.kind.info().plural });
    paths::success(200, call.output(Offer::Objects)?.format, &details)
}

/// The warning that an image which is called as the tag gives it its meaning again.
fn comes_back(call: &Call<'_>, stream: &ObjectKey, tag: &str) -> Option<String> {
    let names =
        [format!("{}:{tag}", stream.name), format!("{}/{}:{tag}", stream.namespace, stream.name)].map(|n| familiar(&n));
    let nodes = call.registry().api::<Nodes>().list("").items;
    let images = nodes.iter().filter_map(|node| node.status.as_ref()?.images.as_ref()).flatten();
    let known = images.flat_map(|image| image.names.iter().flatten()).find(|known| names.contains(known))?;
    Some(format!("the tag comes back, because an image is called {known}: `docker rmi {known}` takes that name away"))
}
