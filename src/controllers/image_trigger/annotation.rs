//! The annotation `image.openshift.io/triggers`: a JSON list of which tag gives which container its image. Pure.
//!
//! **Source**: `pkg/image/trigger/annotations/annotations.go` of library-go.

use super::{Images, Tag, Verdict, tag};
use crate::base::{json, ordered::Set};
use serde::Deserialize;
use serde_json::{Value, json};

/// The annotation.
pub(super) const TRIGGERS: &str = "image.openshift.io/triggers";

/// One tag and one container.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct FieldTrigger {
    #[serde(default)]
    from: Value,
    #[serde(default)]
    field_path: String,
    #[serde(default)]
    paused: Paused,
}

/// Clients write the word as text too.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum Paused {
    Is(bool),
    Says(String),
}

impl Default for Paused {
    fn default() -> Self {
        Self::Is(false)
    }
}

impl Paused {
    fn holds(&self) -> bool {
        match self {
            Self::Is(is) => *is,
            Self::Says(text) => text == "true",
        }
    }
}

/// What the annotation says.
fn read(object: &Value) -> Result<Vec<FieldTrigger>, String> {
    let Some(text) = object["metadata"]["annotations"][TRIGGERS].as_str() else { return Ok(Vec::new()) };
    let triggers = json::read::<Vec<FieldTrigger>>(text.as_bytes()).map_err(|err| unreadable(&err))?;
    let mut taken = Set::new();
    match triggers.iter().find(|trigger| !taken.insert(&trigger.field_path)) {
        Some(twice) => Err(format!(
            "annotation {TRIGGERS} gives {:?} an image more than once; none is set until each fieldPath stands once",
            twice.field_path
        )),
        None => Ok(triggers),
    }
}

fn unreadable(err: &serde_json::Error) -> String {
    format!("annotation {TRIGGERS} is no list of triggers: {err}")
}

/// The tags that the annotation names.
pub(super) fn tags(object: &Value) -> Vec<Tag> {
    read(object).unwrap_or_default().iter().filter_map(|trigger| tag(object, &trigger.from)).collect()
}

/// Gives each container that the annotation names the image of its tag. What cannot be resolved yet stays as it is.
pub(super) fn decide(object: &Value, images: &Images, is_cron_job: bool) -> Verdict {
    let triggers = match read(object) {
        Ok(triggers) => triggers,
        Err(wrong) => return Verdict { changed: None, wrong: vec![wrong] },
    };
    let mut changed = object.clone();
    let mut wrong = Vec::new();
    for trigger in triggers.iter().filter(|trigger| !trigger.paused.holds()) {
        let Some(tag) = tag(object, &trigger.from) else {
            let name = &trigger.from["name"];
            wrong
                .push(format!("annotation {TRIGGERS}: from must be an ImageStreamTag named stream:tag, and is {name}"));
            continue;
        };
        match container(&mut changed, &trigger.field_path, is_cron_job) {
            Err(why) => wrong.push(format!("annotation {TRIGGERS}: fieldPath {:?} {why}", trigger.field_path)),
            Ok(container) => {
                if let Some(image) = images.get(&tag) {
                    container["image"] = json!(image);
                }
            }
        }
    }
    Verdict { changed: (changed != *object).then_some(changed), wrong }
}

/// The container whose image a path is: `spec.template.spec.containers[?(@.name=="web")].image`, or `…containers[0].image`.
fn container<'o>(object: &'o mut Value, path: &str, is_cron_job: bool) -> Result<&'o mut Value, &'static str> {
    const FORM: &str = "is not of the form spec.template.spec.containers[?(@.name==\"NAME\")].image";
    let (prefix, pointer) = if is_cron_job {
        ("spec.jobTemplate.spec.template.spec.", "/spec/jobTemplate/spec/template/spec")
    } else {
        ("spec.template.spec.", "/spec/template/spec")
    };
    let rest = path.strip_prefix(prefix).and_then(|rest| rest.strip_suffix("].image")).ok_or(FORM)?;
    let (list, which) =
        rest.split_once('[').filter(|(l, _)| ["containers", "initContainers"].contains(l)).ok_or(FORM)?;
    let missing = "names a container that is not there";
    let containers = object.pointer_mut(&format!("{pointer}/{list}")).and_then(Value::as_array_mut).ok_or(missing)?;
    if let Ok(at) = which.parse::<usize>() {
        return containers.get_mut(at).ok_or(missing);
    }
    let name = which.strip_prefix("?(@.name==").and_then(|name| name.strip_suffix(')')).ok_or(FORM)?;
    let name = ['"', '\''].iter().find_map(|quote| name.strip_prefix(*quote)?.strip_suffix(*quote)).ok_or(FORM)?;
    containers.iter_mut().find(|container| container["name"] == name).ok_or(missing)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WEB: &str = r#"spec.template.spec.containers[?(@.name=="web")].image"#;

    fn object(triggers: &str) -> Value {
        json!({
            "metadata": { "name": "a", "namespace": "shop", "annotations": { TRIGGERS: triggers } },
            "spec": {
                "template": { "spec": {
                    "containers": [{ "name": "web", "image": " " }, { "name": "log", "image": "log:1" }],
                    "initContainers": [{ "name": "setup", "image": "setup:1" }],
                } },
                "jobTemplate": { "spec": { "template": { "spec": { "containers": [{ "name": "web", "image": "job:1" }] } } } },
            },
        })
    }

    fn images() -> Images {
        let tag = |namespace: &str, name: &str| Tag { namespace: namespace.into(), name: name.into() };
        [(tag("shop", "web:latest"), "web@sha256:aa".to_owned()), (tag("base", "log:1"), "log@sha256:bb".to_owned())]
            .into()
    }

    /// The images after the decision, and what was wrong.
    fn decided(triggers: &Value, is_cron_job: bool) -> String {
        let before = object(&triggers.to_string());
        let verdict = decide(&before, &images(), is_cron_job);
        let after = verdict.changed.unwrap_or(before);
        let image = |pointer: &str| after.pointer(pointer).unwrap()["image"].as_str().unwrap().to_owned();
        let [web, log, setup, job] = [
            "/spec/template/spec/containers/0",
            "/spec/template/spec/containers/1",
            "/spec/template/spec/initContainers/0",
            "/spec/jobTemplate/spec/template/spec/containers/0",
        ]
        .map(image);
        format!("{web} {log} {setup} {job} {}", verdict.wrong.join("; ")).trim().to_owned()
    }

    fn trigger(name: &str, path: &str) -> Value {
        json!({ "from": { "kind": "ImageStreamTag", "name": name }, "fieldPath": path })
    }

    #[test]
    fn each_container_gets_the_image_of_its_tag() {
        let mut elsewhere = trigger("log:1", "spec.template.spec.containers[1].image");
        elsewhere["from"]["namespace"] = json!("base");
        let mut paused = trigger("web:latest", WEB);
        paused["paused"] = json!(true);
        let mut paused_in_words = paused.clone();
        paused_in_words["paused"] = json!("true");
        let setup = "spec.template.spec.initContainers[?(@.name=='setup')].image";
        let cron = "spec.jobTemplate.spec.template.spec.containers[0].image";
        for (triggers, is_cron_job, want) in [
            (json!([trigger("web:latest", WEB)]), false, "web@sha256:aa log:1 setup:1 job:1"),
            (json!([trigger("web:latest", WEB), elsewhere]), false, "web@sha256:aa log@sha256:bb setup:1 job:1"),
            (json!([trigger("web:latest", setup)]), false, "log:1 web@sha256:aa job:1"),
            (json!([trigger("web:latest", cron)]), true, "log:1 setup:1 web@sha256:aa"),
            (json!([trigger("web:other", WEB), trigger("web:latest", setup)]), false, "log:1 web@sha256:aa job:1"),
            (json!([paused]), false, "log:1 setup:1 job:1"),
            (json!([paused_in_words]), false, "log:1 setup:1 job:1"),
        ] {
            let is = decided(&triggers, is_cron_job);
            assert_eq!(is.split_whitespace().collect::<Vec<_>>().join(" "), want, "{triggers}");
        }
    }

    #[test]
    fn what_is_wrong_is_told_and_the_rest_is_done() {
        let twice = json!([trigger("web:latest", WEB), trigger("web:other", WEB)]);
        assert!(decided(&twice, false).contains("more than once"));
        let of_nothing = json!([trigger("web:latest", "spec.image"), trigger("web:latest", WEB)]);
        let told = decided(&of_nothing, false);
        assert!(told.starts_with("web@sha256:aa") && told.contains("\"spec.image\" is not of the form"), "{told}");
        let missing = decided(&json!([trigger("web:latest", "spec.template.spec.containers[7].image")]), false);
        assert!(missing.contains("names a container that is not there"), "{missing}");
        let untagged = decided(&json!([trigger("web", WEB)]), false);
        assert!(untagged.contains("must be an ImageStreamTag named stream:tag, and is \"web\""), "{untagged}");
        let verdict = decide(&object("[{"), &images(), false);
        assert!(
            verdict.wrong[0].starts_with("annotation image.openshift.io/triggers is no list of triggers: "),
            "{verdict:?}"
        );
    }

    #[test]
    fn at_rest_nothing_changes() {
        let mut object = object(&json!([trigger("web:latest", WEB)]).to_string());
        object = decide(&object, &images(), false).changed.unwrap();
        assert_eq!(decide(&object, &images(), false), Verdict::default());
        assert_eq!(decide(&json!({ "metadata": {} }), &images(), false), Verdict::default());
    }
}
