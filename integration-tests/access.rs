//! Who may do what, with real clients: roles, users with certificates, service accounts inside and outside of pods.

use crate::harness::{
    cluster::Cluster,
    tools::{BUSYBOX, KUBECTL_IMAGE, PYTHON_CLIENT, output, run, text},
    wait::{SOON, eventually, until_equal},
};
use std::{fs, process::Command, sync::LazyLock};

/// A kubeconfig for a pod that goes to the API by its name.
const BY_NAME: &str = "apiVersion: v1
kind: ConfigMap
metadata: {name: by-name}
data:
  config: |
    apiVersion: v1
    kind: Config
    clusters:
    - name: c
      cluster:
        server: https://kubernetes.default.svc
        certificate-authority: /var/run/secrets/kubernetes.io/serviceaccount/ca.crt
    users:
    - name: u
      user: {tokenFile: /var/run/secrets/kubernetes.io/serviceaccount/token}
    contexts:
    - name: x
      context: {cluster: c, user: u}
    current-context: x
";

#[test]
fn a_user_with_a_certificate_may_what_roles_grant() {
    let cluster = Cluster::start("users");
    let file = cluster.data_dir().join("ann.kubeconfig");
    let issued = run(&mut cluster.skiff(&["kubeconfig", "--user", "ann", "--group", "ops", "--group", "dev"]));
    fs::write(&file, issued).unwrap();
    let ann = |args: &[&str]| {
        let out = output(cluster.kubectl_command(args).arg("--kubeconfig").arg(&file));
        text(&out.stdout) + &text(&out.stderr)
    };
    let who = ann(&["auth", "whoami", "-o", "jsonpath={.status.userInfo.username} {.status.userInfo.groups}"]);
    assert_eq!(who, r#"ann ["ops","dev","system:authenticated"]"#);
    let refused = "Error from server (Forbidden): pods is forbidden: User \"ann\" cannot list resource \"pods\" in API group \"\" \
         in the namespace \"default\"\n";
    assert_eq!(ann(&["get", "pods"]), refused);
    cluster.kubectl(&["create", "rolebinding", "ops", "--clusterrole=edit", "--group=ops"]);
    assert_eq!(ann(&["get", "pods"]), "No resources found in default namespace.\n");
    assert_eq!(ann(&["create", "configmap", "mine"]), "configmap/mine created\n");
    assert_eq!(ann(&["auth", "can-i", "create", "deployments.apps/scale"]), "yes\n");
    assert_eq!(ann(&["auth", "can-i", "get", "pods", "-n", "kube-system"]), "no\n");
    let grant = ann(&["create", "role", "more", "--verb=get", "--resource=pods"]);
    assert!(grant.contains("cannot create resource \"roles\""), "{grant}");
    assert!(ann(&["get", "pods", "--as", "kubernetes-admin"]).contains("cannot impersonate resource \"users\""));
    cluster.kubectl(&["delete", "rolebinding", "ops"]);
    assert_eq!(ann(&["get", "pods"]), refused);
}

#[test]
fn a_request_for_a_certificate_is_approved_and_signed() {
    let cluster = Cluster::start("csr");
    let dir = cluster.data_dir();
    let at = |name: &str| dir.join(name).display().to_string();
    let (key, csr, crt) = (at("dev.key"), at("dev.csr"), at("dev.crt"));
    let subject = ["-subj", "/O=team/CN=dev", "-keyout", &key, "-out", &csr];
    run(Command::new("openssl").args(["req", "-new", "-newkey", "rsa:2048", "-nodes"]).args(subject));
    let request = run(Command::new("base64").args(["-w0", &csr]));
    cluster.apply(&format!(
        "apiVersion: certificates.k8s.io/v1\nkind: CertificateSigningRequest\nmetadata: {{name: dev}}\n\
         spec: {{request: {request}, signerName: kubernetes.io/kube-apiserver-client, usages: [client auth]}}"
    ));
    let state = || {
        let table = cluster.kubectl(&["get", "csr", "dev", "--no-headers"]);
        table.split_whitespace().last().unwrap_or_default().to_owned()
    };
    assert_eq!(state(), "Pending");
    let said = cluster.kubectl(&["certificate", "approve", "dev"]);
    assert_eq!(said, "certificatesigningrequest.certificates.k8s.io/dev approved\n");
    until_equal("the request is signed", SOON, "Approved,Issued".to_owned(), state);
    let signed = cluster.jsonpath(&["csr", "dev"], "{.status.certificate}");
    let signed = run(Command::new("sh").arg("-c").arg("printf %s \"$0\" | base64 -d").arg(signed));
    fs::write(&crt, signed).unwrap();
    let config = at("dev.kubeconfig");
    fs::copy(cluster.kubeconfig(), &config).unwrap();
    let kubectl = |args: &[&str]| run(cluster.kubectl_command(args).args(["--kubeconfig", &config]));
    kubectl(&["config", "set-credentials", "dev", "--embed-certs", "--client-certificate", &crt, "--client-key", &key]);
    let who = kubectl(&["auth", "whoami", "--user", "dev", "-o", "jsonpath={.status.userInfo.username}"]);
    assert_eq!(who, "dev");
    for file in ["dev.key", "dev.csr", "dev.crt", "dev.kubeconfig"] {
        fs::remove_file(dir.join(file)).unwrap();
    }
}

#[test]
fn a_program_in_a_pod_talks_to_the_api_as_its_account() {
    let cluster = Cluster::start("inside");
    cluster.kubectl(&["create", "serviceaccount", "viewer"]);
    cluster.kubectl(&["create", "rolebinding", "viewer", "--clusterrole=view", "--serviceaccount=default:viewer"]);
    cluster.apply(BY_NAME);
    let container = |name: &str, args: &str| {
        format!(
            "{{name: {name}, image: '{}', imagePullPolicy: IfNotPresent, command: [/kubectl, {args}], \
             volumeMounts: [{{name: by-name, mountPath: /by-name}}]}}",
            *KUBECTL_IMAGE
        )
    };
    let pod = |name: &str, more: &str| {
        let containers = [
            container("allowed", "get, configmaps, -o, name"),
            container("refused", "get, secrets"),
            container("named", "--kubeconfig=/by-name/config, auth, whoami, -o, 'jsonpath={.status.userInfo}'"),
        ];
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\n\
             spec: {{restartPolicy: Never, {more} containers: [{}], \
             volumes: [{{name: by-name, configMap: {{name: by-name}}}}]}}",
            containers.join(", ")
        )
    };
    cluster.apply(&pod("inside", "serviceAccountName: viewer,"));
    let phase = |name: &str| cluster.jsonpath(&["pod", name], "{.status.phase}");
    until_equal("the pod ends", SOON, "Failed".to_owned(), || phase("inside"));
    let log = |name: &str| cluster.kubectl(&["logs", "inside", "-c", name]);
    assert_eq!(log("allowed"), "configmap/by-name\nconfigmap/kube-root-ca.crt\n");
    let account = "system:serviceaccount:default:viewer";
    let refusal = format!("User \"{account}\" cannot list resource \"secrets\"");
    assert!(log("refused").contains(&refusal), "{}", log("refused"));
    let user: serde_json::Value = serde_json::from_str(&log("named")).unwrap();
    assert_eq!(
        (&user["username"], &user["extra"]["authentication.kubernetes.io/pod-name"][0]),
        (&account.into(), &"inside".into())
    );

    scripts_find_the_api(&cluster);
    cluster.apply(&pod("without", "automountServiceAccountToken: false,"));
    until_equal("the pod ends", SOON, "Failed".to_owned(), || phase("without"));
    let volumes = cluster.jsonpath(&["pod", "without"], "{.spec.volumes[*].name}");
    assert_eq!(volumes, "by-name", "a pod that wants no token has none");

    let token = cluster.kubectl(&["create", "token", "viewer", "--duration=10m"]);
    let raw = |token: &str, path: &str| {
        let url = format!("https://127.0.0.1:{}{path}", cluster.api_port());
        let header = format!("Authorization: Bearer {}", token.trim());
        run(Command::new("curl").args(["-sk", "-o", "/dev/null", "-w", "%{http_code}", "-H", &header, &url]))
    };
    assert_eq!(raw(&token, "/api/v1/namespaces/default/pods"), "200");
    assert_eq!(raw(&token, "/api/v1/namespaces/default/secrets"), "403");
    cluster.kubectl(&["delete", "serviceaccount", "viewer"]);
    assert_eq!(raw(&token, "/api/v1/namespaces/default/pods"), "401", "its account is gone");
}

/// The Python client and curl, of this machine with their libraries, in a pod: they find the API by its name, and are their account.
fn scripts_find_the_api(cluster: &Cluster) {
    LazyLock::force(&PYTHON_CLIENT);
    let python = run(Command::new("python3").args(["-c", "import sys; print(sys.executable, sys.base_prefix)"]));
    let (python, prefix) = python.trim().split_once(' ').unwrap();
    let script = "from kubernetes import client, config; config.load_incluster_config(); \
                  print([m.metadata.name for m in client.CoreV1Api().list_namespaced_config_map(\"default\").items])";
    let account = "/var/run/secrets/kubernetes.io/serviceaccount";
    let curl = format!(
        "curl -sS --cacert {account}/ca.crt -H \"Authorization: Bearer $(cat {account}/token)\" -o /tmp/body -w \"%{{http_code}} \" \
         https://kubernetes.default.svc/api/v1/namespaces/$(cat {account}/namespace)/configmaps && grep -o ConfigMapList /tmp/body"
    );
    let folders = [
        ("/usr", "/usr"),
        ("/lib", "/lib"),
        ("/lib64", "/lib64"),
        (prefix, prefix),
        (&PYTHON_CLIENT.display().to_string(), "/client"),
    ];
    let mut folders: Vec<_> = folders.iter().filter(|(from, to)| *to == "/usr" || !from.starts_with("/usr/")).collect();
    folders.retain(|(from, _)| std::path::Path::new(from).exists());
    folders.dedup_by(|a, b| a.0 == b.0);
    let volumes: Vec<String> = folders
        .iter()
        .enumerate()
        .map(|(n, (from, _))| format!("{{name: v{n}, hostPath: {{path: {from}}}}}"))
        .collect();
    let mounts: Vec<String> = folders
        .iter()
        .enumerate()
        .map(|(n, (_, to))| format!("{{name: v{n}, mountPath: {to}, readOnly: true}}"))
        .collect();
    let (volumes, mounts) =
        (volumes.join(", ") + ", {name: tmp, emptyDir: {}}", mounts.join(", ") + ", {name: tmp, mountPath: /tmp}");
    cluster.apply(&format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: scripts}}\nspec:\n  serviceAccountName: viewer\n  restartPolicy: Never\n  volumes: [{volumes}]\n  \
         containers:\n  - name: python\n    image: {image}\n    command: [{python}, -c, '{script}']\n    \
         env: [{{name: PYTHONPATH, value: /client}}]\n    volumeMounts: [{mounts}]\n  \
         - name: curl\n    image: {image}\n    command: [/bin/sh, -c, '{curl}']\n    volumeMounts: [{mounts}]\n",
        image = *BUSYBOX
    ));
    let ended = || cluster.jsonpath(&["pod", "scripts"], "{.status.phase}");
    eventually("the scripts end", SOON, || {
        if ["Succeeded", "Failed"].contains(&&*ended()) { Ok(()) } else { Err(ended()) }
    });
    let log = |name: &str| cluster.kubectl(&["logs", "scripts", "-c", name]);
    assert_eq!(log("python"), "['by-name', 'kube-root-ca.crt']\n");
    assert_eq!(log("curl"), "200 ConfigMapList\n");
}
