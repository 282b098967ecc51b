//! What is asked of DeploymentConfigs beside reading and writing, as `oc` asks it.

use super::*;
use crate::api::rollout::{CONFIG, ENCODED, PHASE, VERSION};

const ALL: &str = "/apis/apps.openshift.io/v1/namespaces/default/deploymentconfigs";
const WEB: &str = "/apis/apps.openshift.io/v1/namespaces/default/deploymentconfigs/web";
const LEGACY: &str = "/api/v1/namespaces/default/legacydeploymentconfigs";

fn web(image: &str, triggers: &Value) -> Value {
    json!({
        "apiVersion": "apps.openshift.io/v1", "kind": "DeploymentConfig", "metadata": { "name": "web" },
        "spec": { "replicas": 2, "triggers": triggers, "template": {
            "metadata": { "labels": { "app": "web" } }, "spec": { "containers": [{ "name": "c", "image": image }] },
        } },
    })
}

fn request(latest: bool, force: bool) -> String {
    json!({
        "kind": "DeploymentRequest", "apiVersion": "apps.openshift.io/v1", "name": "web", "latest": latest, "force": force,
    })
    .to_string()
}

/// Makes the rollout that a controller would make: nothing runs here but the server.
async fn roll(desk: &Desk, phase: &str) {
    let config = desk.get(WEB).await.json();
    let version = config["status"]["latestVersion"].as_i64().unwrap();
    let rc = json!({
        "apiVersion": "v1", "kind": "ReplicationController",
        "metadata": { "name": format!("web-{version}"), "labels": { CONFIG: "web" }, "annotations": {
            CONFIG: "web", VERSION: version.to_string(), PHASE: phase, ENCODED: config.to_string(),
        } },
        "spec": { "replicas": 0, "selector": { "app": "web" }, "template": config["spec"]["template"] },
    });
    let made = desk.ask("POST", "/api/v1/namespaces/default/replicationcontrollers", &[], &rc.to_string()).await;
    assert_eq!(made.code, 201, "{}", made.text);
}

async fn instantiate(desk: &Desk, body: &str) -> (u16, Value) {
    let answer = desk.ask("POST", &format!("{WEB}/instantiate"), &[], body).await;
    (answer.code, if answer.text.is_empty() { Value::Null } else { answer.json() })
}

#[tokio::test]
async fn the_old_name_is_another_door_to_the_same_objects() {
    let desk = Desk::open().await;
    let mut object = web("one", &json!([]));
    object["apiVersion"] = json!("v1");
    let made = desk.ask("POST", LEGACY, &[], &object.to_string()).await;
    assert_eq!((made.code, &made.json()["apiVersion"]), (201, &json!("v1")), "{}", made.text);
    let found = desk.get(WEB).await.json();
    assert_eq!(
        (&found["apiVersion"], &found["spec"]["revisionHistoryLimit"]),
        (&json!("apps.openshift.io/v1"), &json!(10))
    );
    assert_eq!(desk.get(LEGACY).await.json()["items"][0]["metadata"]["uid"], found["metadata"]["uid"]);
}

#[tokio::test]
async fn a_rollout_is_started_when_it_is_asked_for() {
    let desk = Desk::open().await;
    desk.ask("POST", ALL, &[], &web("one", &json!([])).to_string()).await;
    let generation = desk.get(WEB).await.json()["metadata"]["generation"].clone();
    let (code, config) = instantiate(&desk, &request(true, true)).await;
    assert_eq!((code, &config["status"]["latestVersion"]), (201, &json!(1)));
    assert_eq!(config["status"]["details"], json!({ "message": "manual change", "causes": [{ "type": "Manual" }] }));
    assert_ne!(config["metadata"]["generation"], generation, "whoever waits for it sees that it is another");
    roll(&desk, "Complete").await;

    // Nothing has changed, and nobody insists.
    let (code, said) = instantiate(&desk, &request(false, false)).await;
    // An answer of 204 has no body, and HTTP/2 ends the stream of one that has: its code is in the body.
    let told = (&said["code"], &said["message"]);
    assert_eq!((code, told), (201, (&json!(204), &json!("deployment config \"web\" cannot be instantiated"))));
    assert_eq!(desk.get(WEB).await.json()["status"]["latestVersion"], 1);
    let change = json!({ "spec": { "template": { "metadata": { "annotations": { "a": "b" } } } } });
    desk.ask("PATCH", WEB, &[("content-type", "application/merge-patch+json")], &change.to_string()).await;
    assert_eq!(instantiate(&desk, &request(false, false)).await.1["code"], 204, "nothing says that it is to follow");
    let triggers = json!({ "spec": { "triggers": [{ "type": "ConfigChange" }] } });
    desk.ask("PATCH", WEB, &[("content-type", "application/merge-patch+json")], &triggers.to_string()).await;
    let (code, config) = instantiate(&desk, &request(false, false)).await;
    assert_eq!((code, &config["status"]["details"]["message"]), (201, &json!("config change")));

    let paused = json!({ "spec": { "paused": true } });
    desk.ask("PATCH", WEB, &[("content-type", "application/merge-patch+json")], &paused.to_string()).await;
    let (code, refused) = instantiate(&desk, &request(true, true)).await;
    let said = refused["message"].as_str().unwrap();
    assert_eq!(code, 422);
    assert!(said.contains("deployment config \"web\" is paused - unpause to request a new deployment"), "{said}");
    let (code, refused) = instantiate(&desk, &request(true, true).replace("web", "other")).await;
    assert_eq!(
        (code, &refused["message"]),
        (400, &json!("name in URL does not match name in DeploymentRequest object"))
    );
}

#[tokio::test]
async fn a_rollout_waits_for_images_that_nobody_knows() {
    let desk = Desk::open().await;
    let trigger = |automatic: bool| {
        json!([{ "type": "ImageChange", "imageChangeParams": {
            "automatic": automatic, "containerNames": ["c"], "from": { "kind": "ImageStreamTag", "name": "none:latest" },
        } }])
    };
    desk.ask("POST", ALL, &[], &web(" ", &trigger(false)).to_string()).await;
    let (code, refused) = instantiate(&desk, &request(true, true)).await;
    let said = "cannot trigger a deployment for \"web\" because it contains unresolved images";
    assert_eq!((code, &refused["message"]), (400, &json!(said)));
    // An image of its own will do, where nobody is to bring another.
    desk.ask("DELETE", WEB, &[], "").await;
    desk.ask("POST", ALL, &[], &web("own", &trigger(false)).to_string()).await;
    assert_eq!(instantiate(&desk, &request(true, true)).await.0, 201);
}

#[tokio::test]
async fn an_image_that_is_followed_anew_is_a_cause() {
    let desk = Desk::open().await;
    let trigger = |tag: &str, automatic: bool| {
        json!({ "type": "ImageChange", "imageChangeParams": {
            "automatic": automatic, "containerNames": ["c"], "lastTriggeredImage": "own", "from": {
                "kind": "ImageStreamTag", "namespace": "default", "name": tag,
            },
        } })
    };
    let set = async |triggers: Value| {
        let patch = json!({ "spec": { "triggers": triggers } }).to_string();
        desk.ask("PATCH", WEB, &[("content-type", "application/merge-patch+json")], &patch).await
    };
    desk.ask("POST", ALL, &[], &web("own", &json!([])).to_string()).await;
    assert_eq!(instantiate(&desk, &request(false, true)).await.0, 201);
    roll(&desk, "Complete").await;
    for (triggers, cause) in [
        (json!([trigger("a:1", false)]), Value::Null),
        (json!([trigger("a:1", false), trigger("b:1", true)]), json!("b:1")),
    ] {
        set(triggers).await;
        let told = instantiate(&desk, &request(false, false)).await.1;
        assert_eq!(told["status"]["details"]["causes"][0]["imageTrigger"]["from"]["name"], cause, "{told}");
    }
}

#[tokio::test]
async fn a_rollback_is_told_and_written_by_who_asked() {
    let desk = Desk::open().await;
    let triggers = json!([{ "type": "ImageChange", "imageChangeParams": {
        "automatic": true, "containerNames": ["c"], "from": { "kind": "ImageStreamTag", "name": "web:latest" },
    } }]);
    let rollback = async |revision: i64| {
        let body = json!({
            "kind": "DeploymentConfigRollback", "apiVersion": "apps.openshift.io/v1", "name": "web",
            "updatedAnnotations": { "why": "bad" },
            "spec": { "from": {}, "revision": revision, "includeTemplate": true },
        });
        let answer = desk.ask("POST", &format!("{WEB}/rollback"), &[], &body.to_string()).await;
        (answer.code, answer.json())
    };
    let message = |answer: &Value| answer["message"].as_str().unwrap_or_default().to_owned();
    desk.ask("POST", ALL, &[], &web("one", &json!([])).to_string()).await;
    assert!(message(&rollback(0).await.1).contains("cannot rollback an undeployed config"));
    instantiate(&desk, &request(true, true)).await;
    roll(&desk, "Complete").await;
    assert!(message(&rollback(0).await.1).contains("no previous deployment exists"));
    desk.ask(
        "PATCH",
        WEB,
        &[("content-type", "application/merge-patch+json")],
        &json!({ "spec": {
        "triggers": triggers,
        "template": { "spec": { "containers": [{ "name": "c", "image": "two" }] } },
    } })
        .to_string(),
    )
    .await;
    let forced = json!({ "status": { "latestVersion": 2 } });
    let asked = desk.ask("PATCH", WEB, &[("content-type", "application/merge-patch+json")], &forced.to_string()).await;
    assert_eq!(asked.json()["status"]["latestVersion"], 2, "old clients ask so for the next rollout");
    assert!(message(&rollback(2).await.1).contains("version 2 is already the latest"));
    assert!(message(&rollback(7).await.1).contains("replicationcontrollers \"web-7\" not found"));
    let (code, rolled) = rollback(1).await;
    assert_eq!((code, &rolled["status"]["latestVersion"]), (201, &json!(3)));
    assert_eq!(rolled["spec"]["template"]["spec"]["containers"][0]["image"], "one");
    assert_eq!(rolled["spec"]["triggers"][0]["imageChangeParams"].get("automatic"), None);
    assert_eq!(rolled["metadata"]["annotations"]["why"], "bad");
    assert_eq!(desk.get(WEB).await.json()["status"]["latestVersion"], 2, "nothing is written");
    let put = desk.ask("PUT", WEB, &[], &rolled.to_string()).await;
    assert_eq!((put.code, &put.json()["status"]["latestVersion"]), (200, &json!(3)), "{}", put.text);
}

#[tokio::test]
async fn a_log_is_of_a_rollout_that_there_is() {
    let desk = Desk::open().await;
    desk.ask("POST", ALL, &[], &web("one", &json!([])).to_string()).await;
    let log = async |query: &str| {
        let answer = desk.get(&format!("{WEB}/log?{query}")).await;
        (answer.code, answer.text)
    };
    let (code, text) = log("").await;
    assert!(code == 400 && text.contains("no deployment exists for deploymentConfig \\\"web\\\""), "{text}");
    instantiate(&desk, &request(true, true)).await;
    roll(&desk, "Pending").await;
    assert_eq!(log("nowait=true").await, (200, String::new()));
    for query in ["version=2", "version=0", "previous=true"] {
        let (code, text) = log(query).await;
        assert!(code == 400 && text.contains("invalid version"), "{query}: {text}");
    }
}
