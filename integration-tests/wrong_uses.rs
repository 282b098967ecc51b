//! Wrong uses of the command line, and what is said: a table, and a golden file that is read aloud before it is accepted.
//!
//! `UPDATE_EXPECT=1` writes the file anew.

use crate::harness::{
    cluster::root,
    ports::free_port,
    tools::{DOCKER, SKIFF, output, text},
};
use std::{
    fs,
    net::TcpListener,
    path::Path,
    process::{Command, Stdio},
};

/// What a use needs beside its words.
type Around = &'static [(&'static str, &'static str)];

/// The words, and variables; `DIR` is a folder with the files below, `PORT` one that is taken.
const USES: &[(&str, Around)] = &[
    // Words.
    ("", &[]),
    ("statsu", &[]),
    ("start", &[]),
    ("up now", &[]),
    ("up --nmae two", &[]),
    ("up --detatch", &[]),
    ("status -o yaml", &[]),
    ("completion tcsh", &[]),
    ("rollout restart dc/web", &[]),
    ("rollout latest", &[]),
    ("process", &[]),
    ("kubeconfig --group ops", &[]),
    // Values.
    ("up --name My_Cluster", &[]),
    ("up --api-address 6443", &[]),
    ("up --api-address localhost:6443", &[]),
    ("up --dashboard-address 6444", &[]),
    ("up --nodes 50", &[]),
    ("up --cluster-cidr 10.0.0.0", &[]),
    ("up --service-node-port-range 31000-30000", &[]),
    ("up --http-ports 0", &[]),
    ("up --restart-backoff 10s", &[]),
    ("up --load-balancer-ip 0.0.0.0", &[]),
    ("up --node-port-addresses everywhere", &[]),
    ("up --without istio", &[]),
    ("up", &[("SKIFF_NODES", "many")]),
    ("logs --since yesterday", &[]),
    ("up", &[("SKIFF_CONFIG", "DIR/missing.yaml")]),
    ("up --config DIR/settings.yaml", &[]),
    ("man DIR/missing", &[]),
    ("promote", &[]),
    ("kubectl edit pod web-0", &[]),
    ("kubectl get podz", &[]),
    ("kubectl delete pod", &[]),
    ("tag app:1 web", &[]),
    ("timeline deployment/web", &[]),
    ("rollout status deployment/web", &[]),
    // Files.
    ("up -f DIR/missing.yaml", &[]),
    ("up -f DIR/broken.yaml", &[]),
    ("up -f DIR/unknown.yaml", &[]),
    ("up -f DIR/empty", &[]),
    ("up -f DIR/broken.yaml -f DIR/unknown.yaml", &[]),
    ("convert DIR/missing.yaml", &[]),
    ("process -f DIR/pod.yaml", &[]),
    ("snapshot restore DIR/missing", &[]),
    ("snapshot restore DIR/pod.yaml", &[]),
    ("up", &[("KUBECONFIG", "DIR/broken.yaml")]),
    ("up", &[("KUBECONFIG", "DIR/others")]),
    // Docker.
    ("up", &[("DOCKER_HOST", "unix://DIR/nothing.sock")]),
    ("up", &[("DOCKER_HOST", "unix://DIR/pod.yaml")]),
    ("down", &[("DOCKER_HOST", "ssh://me@far")]),
    // Clusters.
    ("status", &[]),
    ("status --name two", &[]),
    ("status --data-dir DIR/empty", &[]),
    ("open", &[]),
    ("logs", &[]),
    ("pause", &[]),
    ("kubeconfig", &[]),
    ("timeline web-0", &[("SKIFF_DATA_DIR", "DIR/stopped")]),
    ("up --name wrong-uses --api-address 127.0.0.1:PORT", &[]),
    ("up --name wrong-uses --data-dir DIR/empty/..", &[]),
];

const OTHERS: &str =
    "apiVersion: v1\nkind: Config\nclusters:\n- {name: skiff, cluster: {server: 'https://work:6443'}}\n";

/// The files that the uses name. The access of a cluster that was stopped is one that answers nowhere.
fn write_files(dir: &Path, port: u16) {
    let write = |name: &str, text: &str| fs::write(dir.join(name), text).unwrap();
    write("broken.yaml", "kind: [\n");
    write("unknown.yaml", "apiVersion: v9\nkind: Nothing\nmetadata: {name: a}\n");
    write("pod.yaml", "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\n");
    write("others", OTHERS);
    write("settings.yaml", "up: {api-adress: '127.0.0.1:7443'}\n");
    fs::create_dir(dir.join("empty")).unwrap();
    fs::create_dir(dir.join("stopped")).unwrap();
    let pem = "LS0tLS1CRUdJTiBYLS0tLS0KLS0tLS1FTkQgWC0tLS0tCg==";
    let access = format!(
        "clusters:\n- cluster: {{certificate-authority-data: {pem}, server: 'http://127.0.0.1:{port}'}}\n\
         users:\n- user: {{client-certificate-data: {pem}, client-key-data: {pem}}}\ncurrent-context: skiff\n"
    );
    write("stopped/kubeconfig", &access);
}

#[test]
fn what_is_said_of_wrong_uses_can_be_read_aloud() {
    std::sync::LazyLock::force(&DOCKER);
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("files");
    fs::create_dir(&dir).unwrap();
    let away = free_port();
    write_files(&dir, away);
    let port = free_port();
    let _taken = TcpListener::bind(("127.0.0.1", port)).unwrap();
    let port = port.to_string();
    let (home_text, dir_text) = (home.path().to_str().unwrap(), dir.to_str().unwrap());
    let fill = |text: &str| text.replace("DIR", dir_text).replace("PORT", &port);
    let mut said = String::new();
    for (words, around) in USES {
        let shown: String = around.iter().map(|(name, value)| format!("{name}={value} ")).collect();
        // A use that is none would start a cluster.
        let mut command = Command::new("timeout");
        command.args(["20", SKIFF]);
        let path = std::env::var_os("PATH").unwrap();
        command.env_clear().env("PATH", path).env("HOME", home_text).current_dir(root()).stdin(Stdio::null());
        command.envs(around.iter().map(|(name, value)| {
            (name, if *name == "KUBECONFIG" || value.contains("DIR") { fill(value) } else { (*value).to_owned() })
        }));
        let out = output(command.args(words.split_whitespace().map(fill)));
        let told = text(&out.stdout) + &text(&out.stderr);
        let told = told
            .replace(dir_text, "DIR")
            .replace(home_text, "HOME")
            .replace(&port, "PORT")
            .replace(&away.to_string(), "AWAY");
        let code = out.status.code().unwrap();
        assert_ne!(code, 0, "{words}: {told}");
        said += &format!("$ {shown}skiff {words}\n{}\n({code})\n\n", told.trim_end());
    }
    expect_test::expect_file!["wrong_uses.txt"].assert_eq(&said);
}
