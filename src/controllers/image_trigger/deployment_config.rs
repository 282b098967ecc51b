//! The ImageChange triggers of a DeploymentConfig. Pure.
//!
//! All or nothing: as long as one automatic trigger has never had an image, none is set, so that a DeploymentConfig of several images
//! starts with all of them. It holds for paused ones too: their template is kept up, and their own controller rolls nothing out.
//!
//! **Source**: `pkg/image/trigger/deploymentconfigs/deploymentconfigs.go` of openshift-controller-manager.

use super::{Images, Tag, Verdict, tag};
use serde_json::{Value, json};

/// The group of DeploymentConfigs.
pub(super) const GROUP: &str = "apps.openshift.io";

/// The parameters of the triggers that set images by themselves.
fn automatic(object: &Value) -> impl Iterator<Item = (usize, &Value)> {
    let triggers = object["spec"]["triggers"].as_array().map_or(&[][..], Vec::as_slice);
    let of =
        |(at, trigger): (usize, &'_ Value)| (at, &triggers[at]["imageChangeParams"], trigger["type"] == "ImageChange");
    triggers
        .iter()
        .enumerate()
        .map(of)
        .filter(|(_, params, is_image)| *is_image && params["automatic"] == true)
        .map(|(at, params, _)| (at, params))
}

/// The tags that set images by themselves.
pub(super) fn tags(object: &Value) -> Vec<Tag> {
    automatic(object).filter_map(|(_, params)| tag(object, &params["from"])).collect()
}

/// Gives the containers of each automatic trigger the image of its tag.
pub(super) fn decide(object: &Value, images: &Images) -> Verdict {
    let mut changed = object.clone();
    for (at, params) in automatic(object) {
        let Some(tag) = tag(object, &params["from"]) else { continue };
        let last = params["lastTriggeredImage"].as_str().filter(|last| !last.is_empty());
        // A tag that is gone leaves what it meant last.
        let Some(image) = images.get(&tag).map(String::as_str).or(last) else { return Verdict::default() };
        if last != Some(image) {
            changed["spec"]["triggers"][at]["imageChangeParams"]["lastTriggeredImage"] = json!(image);
        }
        let names = params["containerNames"].as_array().map_or(&[][..], Vec::as_slice);
        for list in ["containers", "initContainers"] {
            let containers = changed.pointer_mut(&format!("/spec/template/spec/{list}")).and_then(Value::as_array_mut);
            for container in containers.into_iter().flatten().filter(|container| names.contains(&container["name"])) {
                container["image"] = json!(image);
            }
        }
    }
    Verdict { changed: (changed != *object).then_some(changed), wrong: Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trigger(name: &str, containers: &[&str], automatic: bool, last: &str) -> Value {
        let from = json!({ "kind": "ImageStreamTag", "name": name });
        json!({ "type": "ImageChange", "imageChangeParams": {
            "automatic": automatic, "containerNames": containers, "from": from, "lastTriggeredImage": last,
        } })
    }

    fn config(triggers: &[Value]) -> Value {
        json!({
            "metadata": { "name": "a", "namespace": "shop" },
            "spec": { "triggers": triggers, "template": { "spec": {
                "containers": [{ "name": "web", "image": " " }, { "name": "log", "image": "log:0" }],
                "initContainers": [{ "name": "setup", "image": "setup:0" }],
            } } },
        })
    }

    /// The images of the containers after the decision, and those that the triggers had last.
    fn decided(triggers: &[Value], images: &[(&str, &str)]) -> String {
        let before = config(triggers);
        let tag = |name: &str| Tag { namespace: "shop".into(), name: name.into() };
        let images: Images = images.iter().map(|(name, image)| (tag(name), (*image).to_owned())).collect();
        let Some(after) = decide(&before, &images).changed else { return "rest".into() };
        assert_eq!(decide(&after, &images), Verdict::default(), "once is enough");
        let image = |of: &Value| of["image"].as_str().unwrap().trim().to_owned();
        let spec = &after["spec"]["template"]["spec"];
        let containers = [&spec["containers"][0], &spec["containers"][1], &spec["initContainers"][0]].map(image);
        let last = |t: &Value| t["imageChangeParams"]["lastTriggeredImage"].as_str().unwrap_or_default().to_owned();
        let lasts: Vec<String> = after["spec"]["triggers"].as_array().unwrap().iter().map(last).collect();
        format!("{} / {}", containers.join(" "), lasts.join(" "))
    }

    #[test]
    fn automatic_triggers_set_images_all_or_none() {
        let (web, log) = (("web:1", "web@a"), ("log:1", "log@b"));
        let of_web = |last: &str| trigger("web:1", &["web", "setup"], true, last);
        let of_log = |last: &str| trigger("log:1", &["log"], true, last);
        let config_change = json!({ "type": "ConfigChange" });
        for (triggers, images, want) in [
            (vec![of_web("")], vec![web], "web@a log:0 web@a / web@a"),
            (vec![config_change.clone(), of_web("")], vec![web], "web@a log:0 web@a /  web@a"),
            (vec![of_web(""), of_log("")], vec![web], "rest"),
            (vec![of_web(""), of_log("")], vec![web, log], "web@a log@b web@a / web@a log@b"),
            // One that is gone keeps what it meant, and puts that back.
            (vec![of_web("web@0"), of_log("")], vec![log], "web@0 log@b web@0 / web@0 log@b"),
            (vec![of_web("web@0")], vec![web], "web@a log:0 web@a / web@a"),
            (vec![trigger("web:1", &["web"], false, "")], vec![web], "rest"),
            (vec![trigger("web:1", &["web"], false, ""), of_log("")], vec![web, log], " log@b setup:0 /  log@b"),
            (vec![config_change], vec![web], "rest"),
        ] {
            assert_eq!(decided(&triggers, &images), want, "{triggers:?} {images:?}");
        }
    }

    #[test]
    fn tags_are_of_the_own_namespace_unless_another_is_named() {
        let mut elsewhere = trigger("log:1", &["log"], true, "");
        elsewhere["imageChangeParams"]["from"]["namespace"] = json!("base");
        let tags = tags(&config(&[trigger("web:1", &["web"], true, ""), elsewhere, trigger("x:1", &[], false, "")]));
        let text: Vec<String> = tags.iter().map(|tag| format!("{}/{}", tag.namespace, tag.name)).collect();
        assert_eq!(text, ["shop/web:1", "base/log:1"]);
    }
}
