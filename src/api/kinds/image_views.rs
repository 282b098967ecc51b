//! What image.openshift.io/v1 shows of image streams and of the engine's images, and never stores: tags, images, imports.
//!
//! **Not here**: the answers (`server/verbs/images`), the streams themselves ([`super::image_stream`]).
//! **Source** of the columns: `pkg/image/printers/internalversion/printer.go` of openshift-apiserver; those of ImageTag are skiff's own.

use super::image_stream::{GROUP, ago};
use crate::api::{
    json_kind::{JsonKind, Rules, text_at},
    kind::{KindInfo, Scope},
    names,
    object::Untyped,
    table::{self, Column},
};
use jiff::Timestamp;
use serde_json::{Value, json};

const CHANGED: &[&str] = &["create", "delete", "get", "list", "patch", "update"];
const REFERENCE: Column<'static> = Column::text("Image Reference", "The name by which its image is used.");
const IMAGE_NAME: Column<'static> = Column::text("Image Name", "The ID of its image.").wide();
const UPDATED: Column<'static> = Column::text("Updated", "When it came to mean its image.");

const fn view(
    names: [&'static str; 3],
    scope: Scope,
    schema: &'static str,
    verbs: &'static [&'static str],
) -> KindInfo<'static> {
    let [kind, plural, singular] = names;
    KindInfo { verbs, ..KindInfo::of((GROUP, "v1", kind), (plural, singular), scope, schema) }
}

/// The kind `ImageStreamTag`: a tag of a stream, `stream:tag`, and its image.
pub static IMAGE_STREAM_TAGS: JsonKind = JsonKind::new(
    KindInfo {
        short_names: &["istag"],
        columns: &[Column::name(), REFERENCE, UPDATED, IMAGE_NAME],
        ..view(
            ["ImageStreamTag", "imagestreamtags", "imagestreamtag"],
            Scope::Namespaced,
            "com.github.openshift.api.image.v1.ImageStreamTag",
            CHANGED,
        )
    },
    Rules {
        validate_name: names::path_segment,
        row: |obj, now| {
            let text = |path| json!(text_at(&obj.rest, path));
            vec![
                table::name(&obj.metadata),
                text("image.dockerImageReference"),
                updated(obj, now),
                text("image.metadata.name"),
            ]
        },
        ..Rules::PLAIN
    },
);

/// The kind `ImageTag`: a tag of a stream, `stream:tag`, as it is set and as it has been.
pub static IMAGE_TAGS: JsonKind = JsonKind::new(
    KindInfo {
        short_names: &["itag"],
        columns: &[
            Column::name(),
            Column::text("Spec", "What it follows."),
            Column::text("Status", "Its image."),
            UPDATED,
        ],
        ..view(
            ["ImageTag", "imagetags", "imagetag"],
            Scope::Namespaced,
            "com.github.openshift.api.image.v1.ImageTag",
            CHANGED,
        )
    },
    Rules { validate_name: names::path_segment, row: tag_row, ..Rules::PLAIN },
);

/// The kind `ImageStreamImage`: an image of a stream, `stream@sha256:…`.
pub static IMAGE_STREAM_IMAGES: JsonKind = JsonKind::new(
    KindInfo {
        short_names: &["isimage"],
        columns: &[Column::name(), UPDATED, REFERENCE.wide(), IMAGE_NAME],
        ..view(
            ["ImageStreamImage", "imagestreamimages", "imagestreamimage"],
            Scope::Namespaced,
            "com.github.openshift.api.image.v1.ImageStreamImage",
            &["get"],
        )
    },
    Rules {
        validate_name: names::path_segment,
        row: |obj, now| {
            let text = |path| json!(text_at(&obj.rest, path));
            let (reference, id) = (text("image.dockerImageReference"), text("image.metadata.name"));
            vec![table::name(&obj.metadata), updated(obj, now), reference, id]
        },
        ..Rules::PLAIN
    },
);

/// The kind `Image`: an image of the engine, by its ID.
pub static IMAGES: JsonKind = JsonKind::new(
    KindInfo {
        columns: &[Column::name(), REFERENCE],
        ..view(
            ["Image", "images", "image"],
            Scope::Cluster,
            "com.github.openshift.api.image.v1.Image",
            &["get", "list"],
        )
    },
    Rules {
        validate_name: names::path_segment,
        row: |obj, _| vec![table::name(&obj.metadata), json!(text_at(&obj.rest, "dockerImageReference"))],
        ..Rules::PLAIN
    },
);

/// The kind `ImageStreamImport`: looks images up, and gives them tags.
pub static IMAGE_STREAM_IMPORTS: JsonKind = JsonKind::new(
    view(
        ["ImageStreamImport", "imagestreamimports", "imagestreamimport"],
        Scope::Namespaced,
        "com.github.openshift.api.image.v1.ImageStreamImport",
        &["create"],
    ),
    Rules::PLAIN,
);

/// The kind `ImageStreamMapping`: says that a tag means an image.
pub static IMAGE_STREAM_MAPPINGS: JsonKind = JsonKind::new(
    view(
        ["ImageStreamMapping", "imagestreammappings", "imagestreammapping"],
        Scope::Namespaced,
        "com.github.openshift.api.image.v1.ImageStreamMapping",
        &["create"],
    ),
    Rules::PLAIN,
);

fn updated(obj: &Untyped, now: Timestamp) -> Value {
    json!(obj.metadata.creation_timestamp.as_ref().map(|then| ago(then.0, now)).unwrap_or_default())
}

fn tag_row(obj: &Untyped, now: Timestamp) -> Vec<Value> {
    let fields = &obj.rest;
    let spec = match (text_at(fields, "spec.from.kind").as_str(), text_at(fields, "spec.from.name")) {
        (_, name) if name.is_empty() => String::new(),
        ("DockerImage", name) => name,
        (kind, name) => format!("{}/{name}", if kind == "ImageStreamTag" { "istag" } else { "isimage" }),
    };
    let events = fields.get("status").and_then(|s| s.get("items")).and_then(Value::as_array);
    let status = events.and_then(|items| items.first()).and_then(|e| e.get("image")).cloned().unwrap_or(json!(""));
    vec![table::name(&obj.metadata), json!(spec), status, updated(obj, now)]
}
