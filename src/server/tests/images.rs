//! Image streams and the views of their tags and images, as `oc tag`, `oc import-image`, `oc new-app` and `oc set triggers` send them.

use super::*;
use crate::{
    api::kinds::image_stream::{ImageStreams, TagEvent, tags::add_event},
    node::local_images::{LocalImage, LocalImages},
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use std::sync::Mutex;

const BASE: &str = "/apis/image.openshift.io/v1/namespaces/default";
const TABLE: [(&str, &str); 1] = [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")];
const MERGE: [(&str, &str); 1] = [("content-type", "application/merge-patch+json")];

/// Images of an engine that is none.
#[derive(Default)]
pub(super) struct KnownImages {
    here: Mutex<Vec<LocalImage>>,
    /// Those that a pull brings.
    far: Mutex<Vec<LocalImage>>,
}

#[async_trait]
impl LocalImages for KnownImages {
    async fn image(&self, name: &str) -> Result<Option<LocalImage>, ApiError> {
        let here = self.here.lock().unwrap();
        let is_it = |image: &&LocalImage| {
            let name = if name.contains(':') { name.to_owned() } else { format!("{name}:latest") };
            image.id == name || image.tags.contains(&name) || image.digests.contains(&name)
        };
        Ok(here.iter().find(is_it).cloned())
    }

    async fn all(&self) -> Result<Vec<LocalImage>, ApiError> {
        Ok(self.here.lock().unwrap().clone())
    }

    async fn pull(&self, name: &str) -> Result<(), String> {
        let mut far = self.far.lock().unwrap();
        let at = far.iter().position(|image| image.tags.contains(&name.to_owned()));
        let image = far.remove(at.ok_or_else(|| format!("pull access denied for {name}"))?);
        let mut here = self.here.lock().unwrap();
        here.iter_mut().for_each(|other| other.tags.retain(|tag| tag != name));
        here.push(image);
        Ok(())
    }
}

fn id(c: char) -> String {
    format!("sha256:{}", c.to_string().repeat(64))
}

fn image(c: char, tag: &str, digest: Option<char>) -> LocalImage {
    let repository = tag.split(':').next().unwrap();
    LocalImage {
        id: id(c),
        tags: vec![tag.to_owned()],
        digests: digest.map(|d| format!("{repository}@{}", id(d))).into_iter().collect(),
        layers: vec![id('f')],
        metadata: json!({ "Config": { "ExposedPorts": { "8080/tcp": {} } }, "Created": "2026-01-01T00:00:00Z" }),
    }
}

impl Desk {
    /// Says that a tag of a stream in `default` means an image, as the controller does.
    async fn means(&self, stream: &str, tag: &str, c: char) {
        let event = TagEvent {
            created: Time("2026-01-01T00:00:00Z".parse().unwrap()),
            docker_image_reference: format!("{stream}@{}", id(c)),
            image: id(c),
            generation: 1,
        };
        let key = ObjectKey::new("default", stream);
        let change = |stream: &mut crate::api::kinds::image_stream::ImageStream| {
            add_event(stream, tag, event.clone());
        };
        self.registry.api::<ImageStreams>().modify_status(&key, change).await.unwrap();
    }

    async fn post_image(&self, plural: &str, body: Value) -> Answer {
        self.ask("POST", &format!("{BASE}/{plural}"), &[], &body.to_string()).await
    }

    async fn stream(&self, name: &str) -> Value {
        self.get(&format!("{BASE}/imagestreams/{name}")).await.json()
    }
}

fn tag_body(name: &str, kind: &str, from: &str) -> Value {
    json!({
        "kind": "ImageStreamTag", "apiVersion": "image.openshift.io/v1", "metadata": { "name": name },
        "tag": { "name": "", "annotations": null, "from": { "kind": kind, "name": from }, "generation": 0,
                 "importPolicy": {}, "referencePolicy": { "type": "Source" } },
        "generation": 0, "lookupPolicy": { "local": false },
        "image": { "metadata": { "creationTimestamp": null }, "dockerImageMetadata": null },
    })
}

#[tokio::test]
async fn oc_tag_sets_a_tag_and_makes_the_stream() {
    let desk = Desk::open().await;
    // `oc tag --source=docker app:1 web:prod` writes the tag without having read it.
    let url = format!("{BASE}/imagestreamtags/web:prod");
    let body = tag_body("web:prod", "DockerImage", "app:1").to_string();
    let made = desk.ask("PUT", &url, &[], &body).await;
    assert_eq!(made.code, 201, "{}", made.text);
    let stream = desk.stream("web").await;
    assert_eq!(stream["spec"]["tags"][0]["from"]["name"], "app:1");
    assert_eq!(
        (&stream["spec"]["tags"][0]["name"], &stream["spec"]["tags"][0]["generation"]),
        (&json!("prod"), &json!(1))
    );
    assert_eq!(desk.get(&url).await.refusal(), "404 imagestreamtags.image.openshift.io \"web:prod\" not found");
    // Once more: it is looked for again.
    assert_eq!(desk.ask("PUT", &url, &[], &body).await.code, 200);
    assert_eq!(desk.stream("web").await["spec"]["tags"][0]["generation"], 2);
    // `oc tag web:prod web:live` follows the tag of the same stream.
    desk.means("web", "prod", 'a').await;
    let follows = tag_body("web:live", "ImageStreamTag", "web:prod").to_string();
    assert_eq!(desk.ask("PUT", &format!("{BASE}/imagestreamtags/web:live"), &[], &follows).await.code, 201);
    let live = desk.get(&format!("{BASE}/imagestreamtags/web:live")).await.json();
    assert_eq!(
        (&live["image"]["metadata"]["name"], &live["tag"]["from"]["name"]),
        (&json!(id('a')), &json!("web:prod"))
    );
    // `oc tag other:1 web:x` of a stream that is not there.
    let odd = tag_body("web:odd", "ImageStreamTag", "other:1").to_string();
    let refused = desk.ask("PUT", &format!("{BASE}/imagestreamtags/web:odd"), &[], &odd).await;
    assert_eq!(refused.code, 422, "{}", refused.text);
    assert!(refused.refusal().contains("Not found: \"other:1\""), "{}", refused.text);
}

#[tokio::test]
async fn a_tag_is_shown_with_its_image_and_taken_away() {
    let desk = Desk::open().await;
    desk.images.here.lock().unwrap().push(image('a', "web:latest", None));
    assert_eq!(desk.post_image("imagestreams", json!({ "metadata": { "name": "web" } })).await.code, 201);
    desk.means("web", "latest", 'a').await;
    let url = format!("{BASE}/imagestreamtags/web:latest");
    let tag = desk.get(&url).await.json();
    assert_eq!(tag["kind"], "ImageStreamTag");
    assert_eq!(tag["image"]["dockerImageReference"], json!(format!("web@{}", id('a'))));
    assert_eq!(tag["image"]["dockerImageMetadata"]["Config"]["ExposedPorts"], json!({ "8080/tcp": {} }));
    assert_eq!((&tag["tag"], &tag["lookupPolicy"]), (&Value::Null, &json!({ "local": false })));
    let table = desk.ask("GET", &format!("{BASE}/imagestreamtags"), &TABLE, "").await.json();
    let cells = table["rows"][0]["cells"].as_array().unwrap();
    assert_eq!(cells[..2], [json!("web:latest"), json!(format!("web@{}", id('a')))]);
    let streams = desk.ask("GET", &format!("{BASE}/imagestreams"), &TABLE, "").await.json();
    assert_eq!(streams["rows"][0]["cells"].as_array().unwrap()[..3], [json!("web"), json!(""), json!("latest")]);
    for (selector, n) in [("spec.dockerImageRepository!=other", 1), ("status.dockerImageRepository=other", 0)] {
        let picked = desk.get(&format!("{BASE}/imagestreams?fieldSelector={selector}")).await.json();
        assert_eq!(picked["items"].as_array().map(Vec::len), Some(n), "{selector}: {picked}");
    }
    for (url, code) in [
        (format!("{BASE}/imagestreamtags/web"), "400 ImageStreamTags must be retrieved with <name>:<tag>"),
        (format!("{BASE}/imagestreamtags/none:latest"), "404 imagestreams.image.openshift.io \"none\" not found"),
        (format!("{BASE}/imagestreamimages/web"), "400 ImageStreamImages must be retrieved with <name>@<id>"),
        (
            "/apis/image.openshift.io/v1/images/sha256:00".to_owned(),
            "404 images.image.openshift.io \"sha256:00\" not found",
        ),
    ] {
        assert_eq!(desk.get(&url).await.refusal(), code, "{url}");
    }
    let url_of_image = format!("{BASE}/imagestreamimages/web@{}", &id('a')[..20]);
    let of_stream = desk.get(&url_of_image).await.json();
    assert_eq!(of_stream["image"]["metadata"]["name"], json!(id('a')));
    let table = desk.ask("GET", &url_of_image, &TABLE, "").await.json();
    let columns: Vec<&str> =
        table["columnDefinitions"].as_array().unwrap().iter().map(|c| c["name"].as_str().unwrap()).collect();
    assert_eq!(columns, ["Name", "Updated", "Image Reference", "Image Name"]);
    assert_eq!(table["rows"][0]["cells"][3], json!(id('a')));
    let image = desk.get(&format!("/apis/image.openshift.io/v1/images/{}", id('a'))).await.json();
    assert_eq!(image["dockerImageReference"], json!(format!("web@{}", id('a'))));
    let all = desk.get("/apis/image.openshift.io/v1/images").await.json();
    assert_eq!((&all["kind"], all["items"].as_array().unwrap().len()), (&json!("ImageList"), 1));
    let itag = desk.get(&format!("{BASE}/imagetags/web:latest")).await.json();
    assert_eq!((&itag["status"]["items"][0]["image"], &itag["spec"]), (&json!(id('a')), &Value::Null));
    let gone = desk.ask("DELETE", &url, &[], "").await;
    assert_eq!((gone.code, &gone.json()["status"]), (200, &json!("Success")));
    assert_eq!(desk.get(&url).await.code, 404);
    assert_eq!(desk.stream("web").await["status"], json!({ "dockerImageRepository": "" }));
    assert_eq!(desk.ask("DELETE", &url, &[], "").await.code, 404);
}

#[tokio::test]
async fn a_tag_is_created_once_patched_and_guarded_by_its_revision() {
    let desk = Desk::open().await;
    let made = desk.post_image("imagestreamtags", tag_body("web:v1", "DockerImage", "app:1")).await;
    assert_eq!((made.code, &made.json()["metadata"]["name"]), (201, &json!("web:v1")), "{}", made.text);
    let again = desk.post_image("imagestreamtags", tag_body("web:v1", "DockerImage", "app:1")).await;
    assert_eq!(again.refusal(), "409 imagestreamtags.image.openshift.io \"web:v1\" already exists");
    let url = format!("{BASE}/imagestreamtags/web:v1");
    let patch =
        json!({ "metadata": { "annotations": { "a": "b" } }, "tag": { "from": { "name": "app:2" } } }).to_string();
    let patched = desk.ask("PATCH", &url, &MERGE, &patch).await;
    assert_eq!(patched.code, 200, "{}", patched.text);
    let tag = desk.stream("web").await["spec"]["tags"][0].clone();
    assert_eq!(
        (&tag["from"]["name"], &tag["annotations"], &tag["generation"]),
        (&json!("app:2"), &json!({ "a": "b" }), &json!(2))
    );
    let mut stale = tag_body("web:v1", "DockerImage", "app:3");
    stale["metadata"]["resourceVersion"] = json!("1");
    let refused = desk.ask("PUT", &url, &[], &stale.to_string()).await;
    assert!(
        refused.refusal().starts_with("409 ") && refused.text.contains("another caller has updated"),
        "{}",
        refused.text
    );
    let wrong = desk.ask("PUT", &url, &[], &tag_body("web:v1", "Odd", "app:3").to_string()).await;
    assert!(wrong.refusal().contains("tag.from.kind: Required value: valid values are"), "{}", wrong.text);
    let apply = [("content-type", "application/apply-patch+yaml")];
    let refused = desk.ask("PATCH", &format!("{url}?fieldManager=x"), &apply, "{}").await;
    assert!(refused.refusal().contains("server-side apply of imagestreamtags"), "{}", refused.text);
    let unset = json!({ "metadata": { "name": "web:other" }, "image": {} }).to_string();
    let refused = desk.ask("PUT", &format!("{BASE}/imagestreamtags/web:other"), &[], &unset).await;
    assert!(
        refused.refusal().ends_with("is not a spec tag in imagestream default/web, cannot be updated"),
        "{}",
        refused.text
    );
    // An ImageTag without a spec takes what was set away.
    let itag = format!("{BASE}/imagetags/web:v1");
    assert_eq!(desk.get(&itag).await.json()["spec"]["from"]["name"], "app:2");
    assert_eq!(desk.ask("PUT", &itag, &[], &json!({ "metadata": { "name": "web:v1" } }).to_string()).await.code, 200);
    assert_eq!(desk.stream("web").await["spec"].get("tags"), None);
}

fn import_body(name: &str, is_import: bool, images: Value) -> Value {
    json!({
        "kind": "ImageStreamImport", "apiVersion": "image.openshift.io/v1", "metadata": { "name": name },
        "spec": { "import": is_import, "images": images }, "status": {},
    })
}

#[tokio::test]
async fn oc_import_image_fetches_and_sets_and_new_app_only_looks() {
    let desk = Desk::open().await;
    desk.images.here.lock().unwrap().push(image('a', "app:1", None));
    desk.images.far.lock().unwrap().extend([image('b', "far:2", Some('d')), image('c', "far:2", Some('e'))]);
    let from = |name: &str| json!({ "from": { "kind": "DockerImage", "name": name }, "importPolicy": {} });
    // `oc new-app` looks: nothing is fetched, nothing is written.
    let looked =
        desk.post_image("imagestreamimports", import_body("web", false, json!([from("app:1"), from("far:2")]))).await;
    assert_eq!(looked.code, 201, "{}", looked.text);
    let images = looked.json()["status"]["images"].clone();
    assert_eq!((&images[0]["status"]["status"], &images[0]["tag"]), (&json!("Success"), &json!("1")));
    assert_eq!(images[0]["image"]["dockerImageMetadata"]["Config"]["ExposedPorts"], json!({ "8080/tcp": {} }));
    assert_eq!((&images[1]["status"]["reason"], &images[1]["status"]["code"]), (&json!("NotFound"), &json!(404)));
    assert_eq!(desk.get(&format!("{BASE}/imagestreams/web")).await.code, 404);
    // `oc import-image web:2 --from=far:2 --confirm`.
    let mut far = from("far:2");
    far["to"] = json!({ "name": "2" });
    let body = import_body("web", true, json!([far]));
    let imported = desk.post_image("imagestreamimports", body.clone()).await.json();
    let stream = &imported["status"]["import"];
    assert_eq!(
        stream["status"]["tags"][0]["items"][0]["dockerImageReference"],
        json!(format!("far@{}", id('d'))),
        "{stream}"
    );
    assert_eq!(
        (&stream["spec"]["tags"][0]["name"], &stream["spec"]["tags"][0]["generation"]),
        (&json!("2"), &json!(1))
    );
    // Once more: the registry has another by now.
    let again = desk.post_image("imagestreamimports", body.clone()).await.json();
    let items = &again["status"]["import"]["status"]["tags"][0]["items"];
    assert_eq!(
        (&items[0]["image"], &items[0]["generation"], &items[1]["image"]),
        (&json!(id('c')), &json!(2), &json!(id('b')))
    );
    // And once more: it does not answer, and the one that is here is taken, which is said.
    let kept = desk.post_image("imagestreamimports", body).await;
    let warning = kept.headers["warning"].to_str().unwrap();
    assert!(warning.contains("far:2 is taken as it is here: pull access denied"), "{warning}");
    // One that cannot be had says so in the stream.
    let none = desk.post_image("imagestreamimports", import_body("web", true, json!([from("none:1")]))).await.json();
    assert_eq!(none["status"]["images"][0]["status"]["status"], "Failure");
    let tags = none["status"]["import"]["status"]["tags"].as_array().unwrap();
    let told = &tags.iter().find(|tag| tag["tag"] == "1").unwrap()["conditions"][0];
    assert_eq!(
        (&told["type"], &told["status"], &told["reason"]),
        (&json!("ImportSuccess"), &json!("False"), &json!("NotFound"))
    );
    // A repository stands for its tags that are here.
    let mut whole = import_body("all", true, json!([]));
    whole["spec"]["repository"] = json!({ "from": { "kind": "DockerImage", "name": "app" } });
    let whole = desk.post_image("imagestreamimports", whole).await.json();
    assert_eq!(whole["status"]["repository"]["images"][0]["tag"], "1", "{whole}");
    assert_eq!(desk.stream("all").await["status"]["tags"][0]["items"][0]["image"], json!(id('a')));
    // What has no effect is said, whichever way a tag comes.
    let mut far = from("app:1");
    far["importPolicy"] = json!({ "insecure": true, "importMode": "PreserveOriginal" });
    far["includeManifest"] = json!(true);
    let told = desk.post_image("imagestreamimports", import_body("odd", false, json!([far]))).await;
    let said: Vec<_> = told.headers.get_all("warning").iter().map(|value| value.to_str().unwrap()).collect();
    assert_eq!(said.len(), 3, "{said:?}");
    assert!(said[0].contains("spec.images[0].importPolicy.insecure has no effect: which registries"), "{said:?}");
    assert!(said[2].contains("spec.images[0].includeManifest has no effect"), "{said:?}");
    let tag = json!({ "name": "v1", "from": { "kind": "DockerImage", "name": "app:1" }, "importPolicy": { "insecure": true } });
    let odd = json!({ "metadata": { "name": "odd" }, "spec": { "tags": [tag] } });
    let told = desk.post_image("imagestreams", odd).await;
    let said = told.headers["warning"].to_str().unwrap();
    assert!(said.contains("spec.tags[0].importPolicy.insecure has no effect"), "{said}");
    let wrong = desk.post_image("imagestreamimports", import_body("", true, json!([]))).await;
    assert!(wrong.refusal().contains("you must specify at least one image or repository import"), "{}", wrong.text);
}

#[tokio::test]
async fn an_import_that_is_based_on_another_stream_is_refused() {
    let desk = Desk::open().await;
    desk.images.here.lock().unwrap().push(image('a', "app:1", None));
    let images = json!([{ "from": { "kind": "DockerImage", "name": "app:1" } }]);
    let based_on = |field: &str, value: &Value| {
        let mut body = import_body("web", true, images.clone());
        body["metadata"][field] = value.clone();
        body
    };
    let none = desk.post_image("imagestreamimports", based_on("resourceVersion", &json!("1"))).await;
    assert_eq!(none.refusal(), "404 imagestreams.image.openshift.io \"web\" not found");
    assert_eq!(desk.post_image("imagestreams", json!({ "metadata": { "name": "web" } })).await.code, 201);
    let stream = desk.stream("web").await["metadata"].clone();
    for (field, code) in [("uid", 201), ("resourceVersion", 409)] {
        // The first import has changed the stream.
        let answer = desk.post_image("imagestreamimports", based_on(field, &stream[field])).await;
        assert_eq!(answer.code, code, "{field}: {}", answer.text);
        assert!(code == 201 || answer.text.contains("the image stream was updated from"), "{}", answer.text);
    }
    let now = desk.stream("web").await["metadata"]["resourceVersion"].clone();
    assert_eq!(desk.post_image("imagestreamimports", based_on("resourceVersion", &now)).await.code, 201);
    assert_eq!(desk.post_image("imagestreamimports", based_on("uid", &json!("another"))).await.code, 404);
}

#[tokio::test]
async fn a_stream_tells_what_its_images_are_made_of_and_with_what_they_are_pulled() {
    let desk = Desk::open().await;
    desk.images.here.lock().unwrap().push(image('a', "web:latest", None));
    assert_eq!(desk.post_image("imagestreams", json!({ "metadata": { "name": "web" } })).await.code, 201);
    for (tag, c) in [("latest", 'b'), ("latest", 'a'), ("stable", 'a')] {
        desk.means("web", tag, c).await;
    }
    let layers = desk.get(&format!("{BASE}/imagestreams/web/layers")).await.json();
    assert_eq!((&layers["kind"], &layers["metadata"]["name"]), (&json!("ImageStreamLayers"), &json!("web")));
    let missing = json!({ "imageMissing": true, "config": null });
    let known = json!({ "layers": [id('f')], "config": id('a') });
    assert_eq!(layers["images"], json!({ id('a'): known, id('b'): missing }));
    let blob = |media_type: &str| json!({ "size": null, "mediaType": media_type });
    assert_eq!(
        layers["blobs"],
        json!({
            id('a'): blob("application/vnd.docker.container.image.v1+json"),
            id('f'): blob("application/vnd.docker.image.rootfs.diff.tar"),
        })
    );
    let none = desk.get(&format!("{BASE}/imagestreams/none/layers")).await;
    assert_eq!(none.refusal(), "404 imagestreams.image.openshift.io \"none\" not found");

    let secret = |name: &str, kind: &str, data: &str, annotations: Value| {
        let metadata = json!({ "name": name, "annotations": annotations });
        json!({ "metadata": metadata, "type": kind, "stringData": { data: "{}" } }).to_string()
    };
    let excluded = json!({ "openshift.io/image.excludeSecret": "true" });
    for body in [
        secret("other", "Opaque", "a", json!({})),
        secret("new", "kubernetes.io/dockerconfigjson", ".dockerconfigjson", json!({})),
        secret("old", "kubernetes.io/dockercfg", ".dockercfg", json!({})),
        secret("out", "kubernetes.io/dockercfg", ".dockercfg", excluded),
    ] {
        let made = desk.ask("POST", "/api/v1/namespaces/default/secrets", &[], &body).await;
        assert_eq!(made.code, 201, "{}", made.text);
    }
    let listed = desk.get(&format!("{BASE}/imagestreams/web/secrets")).await.json();
    let names: Vec<&Value> = listed["items"].as_array().unwrap().iter().map(|item| &item["metadata"]["name"]).collect();
    assert_eq!((&listed["kind"], names), (&json!("SecretList"), vec![&json!("new"), &json!("old")]));
    let table = desk.ask("GET", &format!("{BASE}/imagestreams/web/secrets"), &TABLE, "").await.json();
    assert_eq!(table["rows"][0]["cells"][1], "kubernetes.io/dockerconfigjson");
}

#[tokio::test]
async fn a_mapping_is_a_push() {
    let desk = Desk::open().await;
    desk.images.here.lock().unwrap().push(image('a', "app:1", None));
    let body = |c: char| {
        json!({
            "metadata": { "name": "web" }, "tag": "v1",
            "image": { "metadata": { "name": id(c) }, "dockerImageReference": format!("app@{}", id(c)) },
        })
    };
    assert_eq!(
        desk.post_image("imagestreammappings", body('a')).await.refusal(),
        "404 imagestreams.image.openshift.io \"web\" not found"
    );
    assert_eq!(desk.post_image("imagestreams", json!({ "metadata": { "name": "web" } })).await.code, 201);
    let mapped = desk.post_image("imagestreammappings", body('a')).await;
    assert_eq!((mapped.code, &mapped.json()["status"]), (201, &json!("Success")), "{}", mapped.text);
    assert_eq!(desk.stream("web").await["status"]["tags"][0]["items"][0]["image"], json!(id('a')));
    let unknown = desk.post_image("imagestreammappings", body('b')).await;
    assert!(unknown.refusal().contains("image.metadata.name: Not found"), "{}", unknown.text);
}

#[tokio::test]
async fn a_template_may_wait_for_its_image_and_a_pod_may_not() {
    let desk = Desk::open().await;
    // As `oc new-app` makes it, and `oc set triggers deploy/web --from-image=web:latest -c web` changes it.
    let mut web = testing::samples::sample("apps", "Deployment");
    web["metadata"] = json!({ "name": "web" });
    web["spec"]["template"]["spec"]["containers"][0]["image"] = json!(" ");
    let url = "/apis/apps/v1/namespaces/default/deployments";
    assert_eq!(desk.ask("POST", url, &[], &web.to_string()).await.code, 201);
    let triggers = r#"[{"from":{"kind":"ImageStreamTag","name":"web:latest"},"fieldPath":"spec.template.spec.containers[?(@.name==\"web\")].image"}]"#;
    let patch = json!({ "metadata": { "annotations": { "image.openshift.io/triggers": triggers } } }).to_string();
    let strategic = [("content-type", "application/strategic-merge-patch+json")];
    assert_eq!(desk.ask("PATCH", &format!("{url}/web"), &strategic, &patch).await.code, 200);
    let pod = json!({ "metadata": { "name": "web" }, "spec": web["spec"]["template"]["spec"] }).to_string();
    let refused = desk.ask("POST", "/api/v1/namespaces/default/pods", &[], &pod).await;
    assert!(refused.refusal().contains("must not have leading or trailing whitespace"), "{}", refused.text);
}

#[tokio::test]
async fn who_follows_a_stream_of_another_namespace_may_read_its_images() {
    let desk = Desk::with_roles().await;
    let jane = [("impersonate-user", "jane")];
    let made = async |url: &str, object: Value| {
        let made = desk.ask("POST", url, &[], &object.to_string()).await;
        assert_eq!(made.code, 201, "{}", made.text);
    };
    let bound = |kind: &str, name: &str| {
        json!({
            "metadata": { "name": "jane" }, "subjects": [{ "kind": "User", "name": "jane" }],
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name },
        })
    };
    let rbac = "/apis/rbac.authorization.k8s.io/v1/namespaces";
    made("/api/v1/namespaces", json!({ "metadata": { "name": "shop" } })).await;
    for namespace in ["default", "shop"] {
        let tag = json!({ "name": "1", "reference": true, "from": { "kind": "DockerImage", "name": "base:1" } });
        let base = json!({ "metadata": { "name": "base" }, "spec": { "tags": [tag] } });
        made(&format!("/apis/image.openshift.io/v1/namespaces/{namespace}/imagestreams"), base).await;
    }
    let writes = bound("ClusterRole", "system:openshift:aggregate-to-edit");
    made(&format!("{rbac}/default/rolebindings"), writes).await;

    let from = |namespace: &str| json!({ "kind": "ImageStreamTag", "namespace": namespace, "name": "base:1" });
    let stream = |name: &str, namespace: &str| {
        let tags = json!([{ "name": "1", "from": from(namespace) }]);
        json!({ "metadata": { "name": name }, "spec": { "tags": tags } }).to_string()
    };
    let tag = json!({ "metadata": { "name": "by-tag:1" }, "tag": { "from": from("shop") } }).to_string();
    let mut config = testing::samples::sample("apps.openshift.io", "DeploymentConfig");
    config["metadata"] = json!({ "name": "web" });
    config["spec"]["triggers"] = json!([{ "type": "ConfigChange" }, { "type": "ImageChange", "imageChangeParams": {
        "automatic": true, "containerNames": ["web"], "from": from("shop"),
    } }]);
    let configs = "/apis/apps.openshift.io/v1/namespaces/default/deploymentconfigs";
    let writes = [
        (format!("{BASE}/imagestreams"), stream("web", "shop"), "spec.tags[1].from"),
        (format!("{BASE}/imagestreamtags"), tag, "spec.tags[1].from"),
        (configs.to_owned(), config.to_string(), "spec.triggers[1].imageChangeParams.from"),
    ];
    for (url, body, path) in &writes {
        let refusal = desk.ask("POST", url, &jane, body).await.refusal();
        assert!(refusal.ends_with(&format!(" is invalid: {path}: Forbidden: shop/base")), "{refusal}");
    }
    let own = desk.ask("POST", &format!("{BASE}/imagestreams"), &jane, &stream("own", "default")).await;
    assert_eq!(own.code, 201, "{}", own.text);

    let rule = json!({ "verbs": ["get"], "apiGroups": ["image.openshift.io"], "resources": ["imagestreams/layers"] });
    made(&format!("{rbac}/shop/roles"), json!({ "metadata": { "name": "puller" }, "rules": [rule] })).await;
    made(&format!("{rbac}/shop/rolebindings"), bound("Role", "puller")).await;
    for (url, body, _) in &writes {
        let answer = desk.ask("POST", url, &jane, body).await;
        assert_eq!(answer.code, 201, "{}", answer.text);
    }
    // What was there before needs no permission: who may no longer read it changes something else.
    let gone = desk.ask("DELETE", &format!("{rbac}/shop/rolebindings/jane"), &[], "").await;
    assert_eq!(gone.code, 200, "{}", gone.text);
    let labelled = json!({ "metadata": { "labels": { "a": "b" } } }).to_string();
    let merge = [jane[0], MERGE[0]];
    for url in [format!("{BASE}/imagestreams/web"), format!("{configs}/web")] {
        let answer = desk.ask("PATCH", &url, &merge, &labelled).await;
        assert_eq!(answer.code, 200, "{}", answer.text);
    }
}
