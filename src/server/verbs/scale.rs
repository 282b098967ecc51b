//! The `scale` sub-resource: any kind that scales, seen as an `autoscaling/v1` `Scale`.
//!
//! **Source**: `pkg/registry/apps/deployment/storage/storage.go` (`ScaleREST`), v1.37.

use super::{Call, patch::Patch, write::check_name};
use crate::{
    api::{
        field::FieldError,
        kind::{ErasedKind, ScaleView},
        object::{DynObject, untyped, without_place},
        schema::packed,
        status::ApiError,
        table::{self, Column},
    },
    base::json::typed,
    registry::pipeline::{Part, Warnings},
    server::{
        codec,
        media::{Offer, Shape},
        print, respond,
        respond::Response,
        route::Verb,
    },
    store::Entry,
};
use k8s_openapi::api::autoscaling::v1::{Scale, ScaleSpec, ScaleStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::json;

/// Source: `scaleColumnDefinitions` in pkg/printers/internalversion/printers.go.
const COLUMNS: [Column<'static>; 4] = [
    Column { format: "", ..Column::name() },
    Column::number("Desired", "How many replicas are wanted."),
    Column::number("Available", "How many replicas there are."),
    Column::age(),
];

const DEFINITION: &str = "io.k8s.api.autoscaling.v1.Scale";

/// Answers a request for the scale of the object that the path names.
pub(super) async fn answer(call: &mut Call<'_>) -> Result<Response, ApiError> {
    match call.info.verb {
        Verb::Update => update(call).await,
        Verb::Patch => patch(call).await,
        _ => get(call),
    }
}

fn get(call: &Call<'_>) -> Result<Response, ApiError> {
    respond_with(call, &*call.entry()?)
}

/// Sets the wanted number of replicas from a `Scale`.
async fn update(call: &mut Call<'_>) -> Result<Response, ApiError> {
    let format = codec::body_format(&call.request.headers)?;
    let scale: Scale = codec::decode_plain(format, &call.request.body, "Scale", "autoscaling/v1")?;
    check_name(&scale.metadata, &call.key())?;
    write(call, "UpdateOptions", &|_| Ok(scale.clone())).await
}

/// Patches the `Scale` of the object that the path names.
async fn patch(call: &mut Call<'_>) -> Result<Response, ApiError> {
    let patch = Patch::read(&call.request.headers, &call.request.body)?;
    let patched = |current: Scale| {
        let unreadable =
            |err: &serde_json::Error| ApiError::BadRequest(format!("error decoding patch: {}", without_place(err)));
        let mut current_value = untyped(&current);
        // A revision that the patch does not set is no precondition.
        if let Some(meta) = current_value["metadata"].as_object_mut() {
            meta.remove("resourceVersion");
        }
        typed(patch.apply(current_value, packed(DEFINITION))?).map_err(|err| unreadable(&err))
    };
    write(call, "PatchOptions", &patched).await
}

async fn write(
    call: &Call<'_>,
    options: &'static str,
    wanted: &(dyn Fn(Scale) -> Result<Scale, ApiError> + Sync),
) -> Result<Response, ApiError> {
    let mut writing = call.writing(options)?;
    // What there is to say of the object does not concern its scale.
    writing.write.warnings = Warnings::default();
    let kind = call.kind.clone();
    let mut change = |entry: &Entry| {
        let mut obj = decode(&*kind, entry)?;
        let scale = wanted(scale_of(&*kind, &*obj)?)?;
        let replicas = scale.spec.and_then(|s| s.replicas).unwrap_or(0);
        if replicas < 0 {
            let cause = FieldError::invalid("spec.replicas", replicas, "must be greater than or equal to 0");
            let name = obj.meta().name.clone().unwrap_or_default();
            return Err(ApiError::Invalid { kind: "Scale.autoscaling".to_owned(), name, causes: vec![cause] });
        }
        obj.meta_mut().resource_version = scale.metadata.resource_version;
        if scale.metadata.uid.is_some() {
            obj.meta_mut().uid = scale.metadata.uid;
        }
        kind.set_scale(&mut *obj, replicas);
        Ok(obj)
    };
    let entry = call.registry().update(&*kind, &call.key(), Part::Main, &mut change, &writing.write).await?;
    respond_with(call, &entry)
}

fn respond_with(call: &Call<'_>, entry: &Entry) -> Result<Response, ApiError> {
    let obj = decode(&*call.kind, entry)?;
    let scale = scale_of(&*call.kind, &*obj)?;
    let value = untyped(&scale);
    let output = call.output(Offer::Objects)?;
    match output.shape {
        Shape::Object | Shape::Aggregated => respond::value(200, output, &value),
        Shape::Metadata(version) => {
            let metadata = &value["metadata"];
            let partial =
                json!({ "kind": "PartialObjectMetadata", "apiVersion": version.api_version(), "metadata": metadata });
            respond::value(200, output, &partial)
        }
        Shape::Table(version) => {
            let cells = vec![
                table::name(&scale.metadata),
                json!(scale.spec.and_then(|s| s.replicas).unwrap_or(0)),
                json!(scale.status.map_or(0, |s| s.replicas)),
                table::age(&scale.metadata, call.registry().clock().now()),
            ];
            respond::object(200, output, print::lone_row(version, &COLUMNS, cells, &value["metadata"]))
        }
    }
}

fn decode(kind: &dyn ErasedKind, entry: &Entry) -> Result<Box<dyn DynObject>, ApiError> {
    kind.decode_bytes(&entry.value).map_err(|err| ApiError::Internal(format!("a stored object cannot be read: {err}")))
}

fn scale_of(kind: &dyn ErasedKind, obj: &dyn DynObject) -> Result<Scale, ApiError> {
    let view: ScaleView = kind.scale(obj).ok_or(ApiError::NoSuchResource)?;
    let meta = obj.meta();
    Ok(Scale {
        metadata: ObjectMeta {
            name: meta.name.clone(),
            namespace: meta.namespace.clone(),
            uid: meta.uid.clone(),
            resource_version: meta.resource_version.clone(),
            creation_timestamp: meta.creation_timestamp.clone(),
            ..ObjectMeta::default()
        },
        spec: Some(ScaleSpec { replicas: Some(view.spec_replicas) }),
        status: Some(ScaleStatus {
            replicas: view.status_replicas,
            selector: (!view.selector.is_empty()).then_some(view.selector),
        }),
    })
}
