//! Tables of the rules of streams.

use super::{tags::*, *};
use crate::api::kinds::testing::{causes, created, read, row, update_causes};
use expect_test::expect;
use std::sync::Arc;

const AT: &str = "2026-01-01T00:00:00Z";

fn now() -> Time {
    Time(AT.parse().unwrap())
}

fn stream(yaml: &str) -> ImageStream {
    let mut stream = read::<ImageStreams>(&format!("metadata: {{name: web, namespace: shop, generation: 3}}\n{yaml}"));
    ImageStreams::set_defaults(&mut stream);
    stream
}

fn event(image: &str, generation: i64) -> TagEvent {
    TagEvent { created: now(), docker_image_reference: format!("web@{image}"), image: image.to_owned(), generation }
}

/// Each tag: its images and their generations.
fn means(stream: &ImageStream) -> String {
    let items = |tag: &TagEvents| {
        let items = tag.items.iter().map(|e| format!("{}={}#{}", e.docker_image_reference, e.image, e.generation));
        format!("{}: {}", tag.tag, items.collect::<Vec<_>>().join(" "))
    };
    stream.status.tags.iter().map(items).collect::<Vec<_>>().join("; ")
}

#[test]
fn what_is_wrong_is_named() {
    let tag = |from: &str| format!("metadata: {{name: web}}\nspec: {{tags: [{{name: v1, {from}}}]}}");
    for good in [
        "from: {kind: DockerImage, name: 'host:5000/web:1'}, importPolicy: {scheduled: true}",
        "from: {kind: ImageStreamTag, name: 'other:1', namespace: base}",
        "from: {kind: ImageStreamImage, name: 'web@sha256:00'}, referencePolicy: {type: Local}",
        "annotations: {a: b}",
    ] {
        assert_eq!(causes::<ImageStreams>(&tag(good)), "", "{good}");
    }
    expect![[r#"
        spec.tags[0].name: Invalid value: "a/b": a tag is letters, digits, '.', '_' and '-'
        spec.tags[0].from.name: Invalid value: "No Such": invalid reference format
        spec.tags[0].importPolicy.importMode: Invalid value: "Odd": valid values are "Legacy", "PreserveOriginal"
        spec.tags[1].from.name: Required value
        spec.tags[1].from.kind: Required value: valid values are 'DockerImage', 'ImageStreamImage', 'ImageStreamTag'
        spec.tags[1].referencePolicy.type: Invalid value: "Odd": valid values are "Source", "Local"
        spec.tags[2].name: Duplicate value: "v1"
        spec.tags[2].importPolicy.scheduled: Invalid value: true: only tags pointing to Docker repositories may be scheduled for background import
    "#]]
    .assert_eq(&causes::<ImageStreams>(
        "
metadata: {name: web}
spec:
  tags:
  - {name: a/b, from: {kind: DockerImage, name: No Such}, importPolicy: {importMode: Odd}}
  - {name: v1, from: {kind: Odd}, referencePolicy: {type: Odd}}
  - {name: v1, from: {kind: ImageStreamTag, name: 'web:2'}, importPolicy: {scheduled: true}}
",
    ));
    let digest = format!(
        "from: {{kind: DockerImage, name: 'web@sha256:{}'}}, importPolicy: {{scheduled: true}}",
        "0".repeat(64)
    );
    assert!(causes::<ImageStreams>(&tag(&digest)).contains("only tags can be scheduled for import"));
    assert!(
        causes::<ImageStreams>("metadata: {name: a..b}\nspec: {dockerImageRepository: 'web:1 '}").lines().count() == 2
    );
    assert_eq!(update_causes::<ImageStreams>("metadata: {name: web}", &tag("reference: true")), "");
}

#[test]
fn a_new_stream_has_no_status_and_generation_1() {
    let made = created::<ImageStreams>(
        "metadata: {name: web}\nspec: {tags: [{name: v1, generation: 7}]}\nstatus: {dockerImageRepository: x}",
    );
    expect![[r#"
        {"apiVersion":"image.openshift.io/v1","kind":"ImageStream","metadata":{"name":"web"},"spec":{"lookupPolicy":{"local":false},"tags":[{"name":"v1","generation":1,"importPolicy":{"importMode":"Legacy"},"referencePolicy":{"type":"Source"}}]},"status":{"dockerImageRepository":""}}"#]]
    .assert_eq(&serde_json::to_string(&made).unwrap());
}

#[test]
fn a_row_reads_as_in_openshift() {
    let item = |at: &str| format!("items: [{{created: '{at}', dockerImageReference: a, image: b, generation: 1}}]");
    let yaml = format!(
        "metadata: {{name: web}}\nstatus: {{dockerImageRepository: '', tags: [{{tag: a, {}}}, {{tag: b, {}}}, {{tag: c, items: []}}]}}",
        item("2026-03-01T11:59:00Z"),
        item("2026-03-01T11:59:50Z"),
    );
    assert_eq!(row::<ImageStreams>(&yaml), "web |  | b,a,c | 10 seconds ago");
    assert_eq!(row::<ImageStreams>("metadata: {name: web}\nspec: {dockerImageRepository: r}"), "web | r |  | ");
}

#[test]
fn times_read_as_in_docker() {
    let now: Timestamp = AT.parse().unwrap();
    for (secs, text) in [
        (0, "Less than a second"),
        (1, "1 second"),
        (59, "59 seconds"),
        (61, "About a minute"),
        (3599, "59 minutes"),
        (3600, "About an hour"),
        (2 * 3600, "2 hours"),
        (72 * 3600, "3 days"),
        (30 * 24 * 3600, "4 weeks"),
        (100 * 24 * 3600, "3 months"),
        (800 * 24 * 3600, "2 years"),
    ] {
        let then = now - jiff::SignedDuration::from_secs(secs);
        assert_eq!(ago(then, now), format!("{text} ago"), "{secs}");
    }
}

#[test]
fn a_changed_tag_has_the_streams_new_generation() {
    let from = |name: &str, more: &str| {
        format!(
            "spec: {{tags: [{{name: v1, from: {{kind: DockerImage, name: '{name}'}}{more}}}, {{name: v2, generation: 1}}]}}"
        )
    };
    let old = stream(&from("a", ", generation: 2"));
    let generations = |new: &str| {
        let mut new = stream(new);
        ImageStreams::prepare_update(&mut new, &old);
        let is_same = ImageStreams::same_spec(&new, &old);
        (new.spec.tags.iter().map(|t| t.generation.unwrap()).collect::<Vec<_>>(), is_same)
    };
    for (new, want) in [
        (from("a", ""), (vec![2, 1], true)),
        (from("a", ", generation: 9"), (vec![2, 1], true)),
        (from("a", ", generation: 0"), (vec![4, 1], false)),
        (from("b", ""), (vec![4, 1], false)),
        (from("a", ", reference: true"), (vec![4, 1], false)),
        (from("a", ", importPolicy: {importMode: PreserveOriginal}"), (vec![4, 1], false)),
        (from("a", ", annotations: {x: y}"), (vec![2, 1], false)),
        ("spec: {tags: [{name: v3}]}".to_owned(), (vec![4], false)),
    ] {
        assert_eq!(generations(&new), want, "{new}");
    }
}

fn settled(yaml: &str, old: Option<&ImageStream>) -> (String, Vec<String>) {
    let mut new = stream(yaml);
    match old {
        Some(old) => ImageStreams::prepare_update(&mut new, old),
        None => ImageStreams::prepare_create(&mut new),
    }
    let mut other = stream("");
    other.metadata.name = Some("base".into());
    add_event(&mut other, "1", event("sha256:b1", 5));
    add_event(&mut other, "1", event("sha256:b2", 6));
    let find =
        move |key: &crate::api::meta::ObjectKey| (key.to_string() == "shop/base").then(|| Arc::new(other.clone()));
    let errs = settle(&mut new, old, &now(), &find);
    (means(&new), errs.iter().map(ToString::to_string).collect())
}

#[test]
fn a_tag_means_at_once_what_needs_no_look_at_the_engine() {
    let tag = |kind: &str, name: &str, more: &str| {
        format!("spec: {{tags: [{{name: v1, from: {{kind: {kind}, name: '{name}'}}{more}}}]}}")
    };
    for (yaml, want) in [
        (tag("DockerImage", "a:1", ""), ""),
        (tag("DockerImage", "a:1", ", reference: true"), "v1: a:1=#1"),
        (tag("ImageStreamTag", "base:1", ""), "v1: web@sha256:b2=sha256:b2#1"),
        (tag("ImageStreamTag", "base:2", ""), ""),
        (tag("ImageStreamImage", "base@sha256:b1", ""), "v1: web@sha256:b1=sha256:b1#1"),
    ] {
        assert_eq!(settled(&yaml, None), (want.to_owned(), vec![]), "{yaml}");
    }
    for (yaml, want) in [
        (tag("ImageStreamTag", "nowhere:1", ""), "spec.tags[0].from.name: Not found: \"nowhere:1\""),
        (
            tag("ImageStreamTag", "a:b:c", ""),
            "spec.tags[0].from.name: Invalid value: \"a:b:c\": must be of the form <tag>, <repo>:<tag>, <id>, or <repo>@<id>",
        ),
        (
            tag("ImageStreamImage", "base@sha256:b", ""),
            "spec.tags[0].from.name: Invalid value: \"base@sha256:b\": error generating tag event: multiple images match the prefix \"sha256:b\"",
        ),
        (
            tag("ImageStreamImage", "base@sha256:c", ""),
            "spec.tags[0].from.name: Invalid value: \"base@sha256:c\": error generating tag event: imagestreamimage.image.openshift.io \"sha256:c\" not found",
        ),
    ] {
        assert_eq!(settled(&yaml, None), (String::new(), vec![want.to_owned()]), "{yaml}");
    }
}

#[test]
fn a_tag_of_another_stream_is_copied_once_and_one_of_its_own_is_followed() {
    let yaml = "
spec:
  tags:
  - {name: prod, generation: 1, from: {kind: ImageStreamTag, name: 'web:test'}}
  - {name: live, generation: 2, from: {kind: ImageStreamTag, name: prod}}
  - {name: copy, generation: 1, from: {kind: ImageStreamTag, name: 'base:1'}}
  - {name: ring, generation: 1, from: {kind: ImageStreamTag, name: 'web:ring'}}
";
    let old = stream(yaml);
    let mut new = old.clone();
    add_event(&mut new, "test", event("sha256:a1", 3));
    ImageStreams::prepare_status(&mut new, &old);
    let a1 = "web@sha256:a1=sha256:a1";
    assert_eq!(means(&new), format!("test: {a1}#3; prod: {a1}#1; live: {a1}#2"));
    let mut again = new.clone();
    add_event(&mut again, "test", event("sha256:a2", 3));
    add_event(&mut again, "ring", event("sha256:a2", 3));
    ImageStreams::prepare_status(&mut again, &new);
    assert_eq!(again.latest("live").unwrap().image, "sha256:a2");
    assert_eq!(again.latest("copy"), None);
    let (unchanged, errs) = settled(yaml, Some(&new));
    assert_eq!((unchanged, errs), (means(&new), vec![]), "what is as it was is looked for no more");
}

#[test]
fn events_replace_or_precede_each_other() {
    let with = |reference: &str, image: &str, generation: i64| TagEvent {
        created: now(),
        docker_image_reference: reference.into(),
        image: image.into(),
        generation,
    };
    for (next, is_news, want) in [
        (with("r1", "i1", 1), false, "t: r1=i1#1"),
        (with("r1", "i1", 2), true, "t: r1=i1#2"),
        (with("r1", "i2", 1), true, "t: r1=i2#1"),
        (with("r2", "i1", 1), true, "t: r2=i1#1"),
        (with("r2", "i2", 2), true, "t: r2=i2#2 r1=i1#1"),
    ] {
        let mut stream = stream("");
        assert!(add_event(&mut stream, "t", with("r1", "i1", 1)));
        assert_eq!(add_event(&mut stream, "t", next), is_news);
        assert_eq!(means(&stream), want);
    }
    let mut stream = stream("");
    for n in 0..30 {
        add_event(&mut stream, "t", with(&format!("r{n}"), &format!("i{n}"), n));
    }
    let items = &stream.events("t").unwrap().items;
    assert_eq!((items.len(), items[0].generation), (10, 29));
}

#[test]
fn a_tag_resolves_to_its_newest_image() {
    let mut stream = stream("spec: {tags: [{name: v1, referencePolicy: {type: Local}}]}");
    assert_eq!(stream.resolve("v1"), None);
    add_event(&mut stream, "v1", event("sha256:a1", 1));
    add_event(&mut stream, "v1", event("sha256:a2", 1));
    assert_eq!(stream.resolve("v1").as_deref(), Some("web@sha256:a2"), "there is no registry of the cluster");
    stream.status.docker_image_repository = "registry/shop/web".into();
    assert_eq!(stream.resolve("v1").as_deref(), Some("registry/shop/web@sha256:a2"));
}

#[test]
fn tags_are_shown_as_many_as_fit() {
    assert_eq!(tags_cell(&[]), "");
    assert_eq!(tags_cell(&["latest", "prod"]), "latest,prod");
    let long = "x".repeat(60);
    assert_eq!(tags_cell(&[&long, "b"]), format!("{long} + 1 more..."), "one in any case");
    // 4 × 9 = 36 fit into 40; one more would leave a gap of less than a quarter, and is not near enough.
    let eight = ["aaaaaaaa", "bbbbbbbb", "cccccccc", "dddddddd", "eeeeeeee"];
    assert_eq!(tags_cell(&eight), "aaaaaaaa,bbbbbbbb,cccccccc,dddddddd + 1 more...");
    // After 25 characters a gap of 15 is wide, and 22 more stand over by 8: they are shown.
    let ragged = ["y".repeat(24), "z".repeat(22), "last".to_owned()];
    let ragged: Vec<&str> = ragged.iter().map(String::as_str).collect();
    assert_eq!(tags_cell(&ragged), format!("{},{} + 1 more...", ragged[0], ragged[1]));
}
