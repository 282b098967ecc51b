//! kubectl's commands for changing one object, each with what it prints in Kubernetes.

use crate::harness::{
    cluster::Cluster,
    tools::{output, run, text},
    wait::{SOON, until_equal},
};

const MANIFEST: &str = "manifests/hello-openshift/deployment.yaml";
const DEPLOYMENT: &str = "deployment/hello-openshift";
const SCALE: &str = "/apis/apps/v1/namespaces/default/deployments/hello-openshift/scale";

/// A cluster with the Deployment in it, as kubectl applied it.
fn cluster(name: &str) -> Cluster {
    let cluster = Cluster::start(name);
    run(&mut cluster.skiff(&["demo", "load"]));
    cluster.kubectl(&["apply", "-f", MANIFEST]);
    cluster.kubectl(&["wait", "--for=condition=Available", DEPLOYMENT, "--timeout=60s"]);
    cluster
}

fn spec(cluster: &Cluster, path: &str) -> String {
    cluster.jsonpath(&[DEPLOYMENT], &format!("{{.spec.{path}}}"))
}

#[test]
fn scale_patch_and_set_change_what_they_name() {
    let cluster = cluster("patch");
    let told = |args: &[&str], wanted: &str| assert_eq!(cluster.kubectl(args), format!("{wanted}\n"), "{args:?}");
    let refused =
        |args: &[&str], wanted: &str| assert_eq!(cluster.kubectl_fails(args), format!("{wanted}\n"), "{args:?}");

    refused(&["scale", DEPLOYMENT, "--current-replicas=5", "--replicas=0"], "error: Expected replicas to be 5, was 1");
    told(&["scale", DEPLOYMENT, "--current-replicas=1", "--replicas=2"], "deployment.apps/hello-openshift scaled");
    let scale: serde_json::Value = serde_json::from_str(&cluster.kubectl(&["get", "--raw", SCALE])).unwrap();
    assert_eq!((scale["kind"].as_str(), scale["spec"]["replicas"].as_i64()), (Some("Scale"), Some(2)), "{scale}");
    assert_eq!(scale["status"]["selector"], "app=hello-openshift");
    let table = cluster.kubectl(&["get", DEPLOYMENT, "--subresource=scale"]);
    let table: Vec<Vec<&str>> = table.lines().map(|l| l.split_whitespace().collect()).collect();
    assert_eq!(table[0], ["NAME", "DESIRED", "AVAILABLE", "AGE"]);
    assert_eq!(table[1][..2], ["hello-openshift", "2"]);

    let patch = |kind: &str, patch: &str| cluster.kubectl(&["patch", DEPLOYMENT, "--type", kind, "-p", patch]);
    let patched = "deployment.apps/hello-openshift patched\n";
    assert_eq!(
        patch(
            "json",
            r#"[{"op": "test", "path": "/spec/replicas", "value": 2}, {"op": "replace", "path": "/spec/replicas", "value": 3}]"#
        ),
        patched
    );
    assert_eq!(spec(&cluster, "replicas"), "3");
    assert_eq!(patch("merge", r#"{"spec": {"replicas": 1}, "metadata": {"labels": {"a": "b"}}}"#), patched);
    assert_eq!(spec(&cluster, "replicas"), "1");
    let env = |value: &str| {
        format!(
            r#"{{"spec": {{"template": {{"spec": {{"containers": [{{"name": "hello-openshift", "env": [{{"name": "RESPONSE", "value": "{value}"}}]}}]}}}}}}}}"#
        )
    };
    assert_eq!(patch("strategic", &env("a")), patched);
    // kubectl compares what it reads before with what it gets back, and the controller may write the status in between.
    let unchanged = "deployment.apps/hello-openshift patched (no change)\n".to_owned();
    until_equal("the same patch changes nothing", SOON, unchanged, || patch("strategic", &env("a")));
    assert_eq!(
        spec(&cluster, "template.spec.containers[*].image"),
        "openshift/hello-openshift:latest",
        "the list is merged"
    );
    told(
        &["patch", DEPLOYMENT, "--subresource=scale", "--type=merge", "-p", r#"{"spec": {"replicas": 2}}"#],
        "scale.autoscaling/hello-openshift patched",
    );
    let wrong = r#"[{"op": "test", "path": "/spec/replicas", "value": 9}]"#;
    let said = cluster.kubectl_fails(&["patch", DEPLOYMENT, "--type=json", "-p", wrong]);
    assert!(
        said.contains("the server rejected our request due to an error in our request") || said.contains("test"),
        "{said}"
    );
    let said =
        cluster.kubectl_fails(&["patch", DEPLOYMENT, "-p", r#"{"spec": {"selector": {"matchLabels": {"app": "x"}}}}"#]);
    assert!(said.contains("spec.selector: Invalid value") && said.contains("field is immutable"), "{said}");
    let said = cluster.kubectl_fails(&["patch", DEPLOYMENT, "-p", r#"{"spec": {"strategy": {"type": "Recreate"}}}"#]);
    let wanted = "spec.strategy.rollingUpdate: Forbidden: may not be specified when strategy `type` is 'Recreate'";
    assert!(said.contains(wanted), "{said}");

    told(
        &["set", "image", DEPLOYMENT, "hello-openshift=kubernetes-spring:1.1"],
        "deployment.apps/hello-openshift image updated",
    );
    told(&["set", "env", DEPLOYMENT, "A=1", "RESPONSE-"], "deployment.apps/hello-openshift env updated");
    told(
        &["set", "resources", DEPLOYMENT, "--requests=cpu=10m", "--limits=memory=128Mi"],
        "deployment.apps/hello-openshift resource requirements updated",
    );
    assert_eq!(spec(&cluster, "template.spec.containers[0].env[*].name"), "A");
    cluster.rolled_out("hello-openshift");
    let pods = ["pods", "--field-selector=status.phase=Running"];
    let images = || cluster.jsonpath(&pods, "{.items[*].spec.containers[0].image}");
    until_equal("both pods run the new image", SOON, "kubernetes-spring:1.1 kubernetes-spring:1.1".to_owned(), images);
    let limits = cluster.jsonpath(&pods, "{.items[*].spec.containers[0].resources.limits.memory}");
    assert_eq!(limits, "128Mi 128Mi");
}

#[test]
fn edit_replace_diff_label_and_annotate_read_as_in_kubernetes() {
    let cluster = cluster("edit");
    let told = |args: &[&str], wanted: &str| assert_eq!(cluster.kubectl(args), format!("{wanted}\n"), "{args:?}");
    let dir = tempfile::tempdir().unwrap();
    let two = dir.path().join("two.yaml");
    let manifest = std::fs::read_to_string(crate::harness::cluster::root().join(MANIFEST)).unwrap();
    std::fs::write(&two, manifest.replace("replicas: 1", "replicas: 2")).unwrap();
    let two = two.to_str().unwrap();

    told(&["apply", "-f", MANIFEST], "deployment.apps/hello-openshift unchanged");
    // kubectl compares two reads, and the controller may write the status in between.
    let difference = || text(&output(&mut cluster.kubectl_command(&["diff", "-f", MANIFEST])).stdout);
    until_equal("what was applied does not differ", SOON, String::new(), difference);
    let out = output(&mut cluster.kubectl_command(&["diff", "-f", two]));
    let diff = text(&out.stdout);
    assert_eq!(out.status.code(), Some(1), "a difference is code 1: {diff}{}", text(&out.stderr));
    assert!(
        diff.contains("\n-  replicas: 1\n+  replicas: 2\n") && diff.contains("\n-  generation: 1\n+  generation: 2\n"),
        "{diff}"
    );
    assert_eq!(spec(&cluster, "replicas"), "1", "a diff changes nothing");

    let uid = || cluster.jsonpath(&[DEPLOYMENT], "{.metadata.uid}");
    let first = uid();
    told(&["replace", "-f", two], "deployment.apps/hello-openshift replaced");
    assert_eq!((uid(), spec(&cluster, "replicas")), (first.clone(), "2".to_owned()));
    told(
        &["replace", "--force", "-f", two],
        "deployment.apps \"hello-openshift\" deleted from default namespace\ndeployment.apps/hello-openshift replaced",
    );
    assert_ne!(uid(), first, "it was made anew");
    let said = cluster.kubectl_fails(&["replace", "-f", "manifests/replica-set"]);
    assert!(
        said.contains("Error from server (NotFound)") && said.contains("replicasets.apps \"frontend-1\" not found"),
        "{said}"
    );

    let editor = dir.path().join("editor");
    std::fs::write(&editor, "sed -i 's/replicas: 2/replicas: 1/' \"$1\"\n").unwrap();
    let edit =
        || output(cluster.kubectl_command(&["edit", DEPLOYMENT]).env("EDITOR", format!("sh {}", editor.display())));
    assert_eq!(text(&edit().stdout), "deployment.apps/hello-openshift edited\n");
    assert_eq!(spec(&cluster, "replicas"), "1");
    let again = edit();
    assert_eq!(text(&again.stdout) + &text(&again.stderr), "Edit cancelled, no changes made.\n");

    told(&["annotate", DEPLOYMENT, "a.b/c=d"], "deployment.apps/hello-openshift annotated");
    assert_eq!(cluster.jsonpath(&[DEPLOYMENT], "{.metadata.annotations.a\\.b/c}"), "d");
    told(&["label", DEPLOYMENT, "x=y"], "deployment.apps/hello-openshift labeled");
    let said = cluster.kubectl_fails(&["label", DEPLOYMENT, "x=z"]);
    assert_eq!(said, "error: 'x' already has a value (y), and --overwrite is false\n");
    told(&["label", DEPLOYMENT, "x=z", "--overwrite"], "deployment.apps/hello-openshift labeled");
    told(&["label", DEPLOYMENT, "x-"], "deployment.apps/hello-openshift unlabeled");
    cluster.rolled_out("hello-openshift");
    let generation = cluster.jsonpath(&[DEPLOYMENT], "{.metadata.generation}");
    assert_eq!(generation, "3", "the edit and the annotation made new generations; the labels and the pods did not");

    told(
        &["wait", DEPLOYMENT, "--for=jsonpath={.status.availableReplicas}=1", "--timeout=60s"],
        "deployment.apps/hello-openshift condition met",
    );
    let said = cluster.kubectl_fails(&["wait", DEPLOYMENT, "--for=condition=Nothing", "--timeout=200ms"]);
    assert!(said.contains("timed out waiting for the condition on deployments/hello-openshift"), "{said}");
    told(&["delete", DEPLOYMENT, "--wait=false"], "deployment.apps \"hello-openshift\" deleted from default namespace");
    cluster.kubectl(&["wait", "--for=delete", DEPLOYMENT, "--timeout=60s"]);
    cluster.kubectl(&["wait", "--for=delete", "pod", "-l", "app=hello-openshift", "--timeout=60s"]);
    assert_eq!(cluster.kubectl(&["get", "deploy,rs,pods", "-o", "name"]), "");
    let said = cluster.kubectl_fails(&["scale", DEPLOYMENT, "--replicas=1"]);
    assert_eq!(said, "Error from server (NotFound): deployments.apps \"hello-openshift\" not found\n");
}

#[test]
fn what_kubectl_creates_by_itself_is_there_and_runs() {
    let cluster = Cluster::start("create");
    run(&mut cluster.skiff(&["demo", "load"]));
    let told = |args: &[&str], wanted: &str| assert_eq!(cluster.kubectl(args), format!("{wanted}\n"), "{args:?}");

    told(&["create", "namespace", "lab"], "namespace/lab created");
    let image = "--image=kubernetes-spring:1.0";
    told(
        &["create", "deployment", "boot", image, "--replicas=2", "--port=8080", "-n", "lab"],
        "deployment.apps/boot created",
    );
    told(&["expose", "deployment/boot", "--port=80", "--target-port=8080", "-n", "lab"], "service/boot exposed");
    told(&["create", "configmap", "colours", "--from-literal=sky=blue"], "configmap/colours created");
    told(&["create", "secret", "generic", "door", "--from-literal=key=opens"], "secret/door created");
    told(&["create", "serviceaccount", "robot"], "serviceaccount/robot created");
    told(&["create", "service", "clusterip", "front", "--tcp=80:8080"], "service/front created");
    cluster.kubectl(&["wait", "--for=condition=Available", "deployment/boot", "-n", "lab", "--timeout=60s"]);

    let of = |object: &[&str], path: &str| cluster.jsonpath(object, path);
    assert_eq!(of(&["deployment/boot", "-n", "lab"], "{.spec.replicas} {.spec.selector.matchLabels.app}"), "2 boot");
    let container =
        "{.spec.template.spec.containers[0].name} {.spec.template.spec.containers[0].ports[0].containerPort}";
    assert_eq!(of(&["deployment/boot", "-n", "lab"], container), "kubernetes-spring 8080");
    assert_eq!(of(&["service/front"], "{.spec.ports[0].name} {.spec.ports[0].targetPort}"), "80-8080 8080");
    assert_eq!(of(&["configmap/colours"], "{.data.sky}"), "blue");
    assert_eq!(of(&["secret/door"], "{.data.key} {.type}"), "b3BlbnM= Opaque");
    let said = cluster.kubectl_fails(&["create", "configmap", "colours"]);
    assert_eq!(said, "error: failed to create configmap: configmaps \"colours\" already exists\n");
    let said = cluster.kubectl_fails(&["create", "deployment", "Wrong", image]);
    assert!(said.contains("metadata.name: Invalid value: \"Wrong\""), "{said}");
}

#[test]
fn skiff_explains_as_kubectl_does_and_a_shell_is_offered_what_there_is() {
    let cluster = cluster("explain");
    for what in [
        "deployment",
        "deployment.spec.strategy",
        "pod.spec.restartPolicy",
        "configmap.data",
        "dc.spec.triggers",
        "cronjob",
    ] {
        assert_eq!(
            run(&mut cluster.skiff(&["kubectl", "explain", what])).trim_end(),
            cluster.kubectl(&["explain", what]).trim_end()
        );
    }
    let whole = ["explain", "pod.spec.containers.env", "--recursive"];
    assert_eq!(
        run(&mut cluster.skiff(&[&["kubectl"], &whole[..]].concat())).trim_end(),
        cluster.kubectl(&whole).trim_end()
    );

    let offered = |line: &str| {
        let words: Vec<&str> = line.split(' ').collect();
        let mut asked = cluster.skiff(&[&["--"], &words[..]].concat());
        let last = (words.len() - 1).to_string();
        let said = run(asked.env("SKIFF_COMPLETE", "bash").env("_CLAP_COMPLETE_INDEX", last).env("_CLAP_IFS", "\n"));
        // Behind the names come flags.
        let names = said.lines().map(str::trim).take_while(|name| !name.starts_with('-'));
        names.map(str::to_owned).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(offered("skiff kubectl get deploy "), "hello-openshift");
    assert_eq!(offered("skiff kubectl describe configmaps kube-r"), "kube-root-ca.crt");
    assert_eq!(offered("skiff kubectl scale deploy/h"), "deploy/hello-openshift");
    assert_eq!(offered("skiff kubectl get deploymentc"), "deploymentconfigs");
    assert_eq!(offered("skiff timeline -n kube-s"), "kube-system");
    assert_eq!(offered("skiff timeline -n kube-system skiff-p"), "skiff-proxy");
    assert_eq!(offered("skiff rollou"), "rollout");
}
