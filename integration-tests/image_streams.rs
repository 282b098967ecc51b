//! From `docker tag` to the rollout: image streams on real Docker.

use crate::harness::{
    cluster::Cluster,
    tools::{OwnName, docker, output, run, text},
    wait::{SOON, until_equal},
};
use std::process::Command;

/// What the stream is called, and so the image.
const NAME: &str = "it-streamed";

fn id(image: &str) -> String {
    docker(&["image", "inspect", "--format", "{{.Id}}", image]).trim().to_owned()
}

/// A Deployment and a DeploymentConfig that follow the stream and have no image before.
fn followers() -> String {
    let triggers = format!(
        r#"[{{"from":{{"kind":"ImageStreamTag","name":"{NAME}:latest"}},"fieldPath":"spec.template.spec.containers[?(@.name==\"c\")].image"}}]"#
    );
    let template = |app: &str| {
        format!(
            "  template:\n    metadata: {{labels: {{app: {app}}}}}\n    spec:\n      terminationGracePeriodSeconds: 1\n      \
             containers: [{{name: c, image: ' '}}]\n"
        )
    };
    format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: web\n  annotations:\n    image.openshift.io/triggers: '{triggers}'\n\
         spec:\n  selector: {{matchLabels: {{app: web}}}}\n{}---\n\
         apiVersion: apps.openshift.io/v1\nkind: DeploymentConfig\nmetadata: {{name: config}}\nspec:\n  replicas: 0\n  \
         selector: {{app: config}}\n  triggers:\n  - {{type: ConfigChange}}\n  - type: ImageChange\n    imageChangeParams: \
         {{automatic: true, containerNames: [c], from: {{kind: ImageStreamTag, name: '{NAME}:latest'}}}}\n{}",
        template("web"),
        template("config")
    )
}

#[test]
fn a_tag_in_docker_starts_rollouts_of_what_follows_it() {
    let cluster = Cluster::start("streams");
    run(&mut cluster.skiff(&["demo", "load"]));
    let _named = OwnName("it-streamed:latest");
    cluster.apply(&format!(
        "apiVersion: image.openshift.io/v1\nkind: ImageStream\nmetadata: {{name: {NAME}}}\n---\n{}",
        followers()
    ));
    let image = |what: &str, name: &str| {
        cluster.jsonpath(&[what, name], "{.spec.template.spec.containers[0].image}").trim().to_owned()
    };
    let version = || cluster.jsonpath(&["deploymentconfig", "config"], "{.status.latestVersion}");
    assert_eq!((image("deployment", "web").as_str(), version().as_str()), ("", "0"));
    for (n, source) in ["kubernetes-spring:1.0", "kubernetes-spring:1.1"].into_iter().enumerate() {
        docker(&["tag", source, &format!("{NAME}:latest")]);
        let pinned = format!("{NAME}@{}", id(source));
        until_equal("the Deployment follows", SOON, pinned.clone(), || image("deployment", "web"));
        until_equal("the DeploymentConfig follows", SOON, pinned.clone(), || image("deploymentconfig", "config"));
        until_equal("it rolls out", SOON, (n + 1).to_string(), version);
    }
    // The pod runs that very image, although no registry knows it.
    let image_of = |container: &String| {
        // One of an earlier rollout may go meanwhile.
        text(&output(Command::new("docker").args(["inspect", "--format", "{{.Image}}", container])).stdout)
            .trim()
            .to_owned()
    };
    let runs = || cluster.containers("io.kubernetes.container.name=c").iter().map(image_of).collect::<Vec<_>>();
    until_equal("the image runs", SOON, vec![id("kubernetes-spring:1.1")], runs);
    let said = run(&mut cluster.skiff(&["tag", "kubernetes-spring:1.0", &format!("{NAME}:prod")]));
    assert!(said.contains(&format!("Tag {NAME}:prod set to kubernetes-spring:1.0.")), "{said}");
    let prod = format!("{NAME}:prod");
    let reference = || cluster.jsonpath(&["imagestreamtags", &prod], "{.image.metadata.name}");
    until_equal("the tag means the image", SOON, id("kubernetes-spring:1.0"), reference);
    let streams = cluster.kubectl(&["get", "imagestreams"]);
    assert!(streams.starts_with("NAME          IMAGE REPOSITORY   TAGS"), "{streams}");
    assert!(streams.contains("latest,prod") || streams.contains("prod,latest"), "{streams}");
}
