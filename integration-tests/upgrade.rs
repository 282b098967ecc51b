//! An upgrade in place: another build takes over a cluster that runs, and then the first one again.

use crate::harness::{
    cluster::{Cluster, answers},
    load::Load,
    tools::{SKIFF, another_build, docker},
    wait::{SOON, until_equal},
};
use std::{path::Path, time::Duration};

const NODE_PORT: u16 = 30000;
const CLIENTS: usize = 4;

/// The running containers of this name.
fn running(cluster: &Cluster, container: &str) -> Vec<String> {
    let mut all = cluster.containers(&format!("io.kubernetes.container.name={container}"));
    all.sort();
    all
}

/// From which images the data plane runs, asked at once: its containers come and go.
fn data_plane(cluster: &Cluster) -> Vec<String> {
    let mine = format!("label=dev.skiff.cluster={}", cluster.name);
    let (pod, kind) = ("label=io.kubernetes.pod.name=skiff-proxy", "label=io.kubernetes.docker.type=container");
    let images = ["ps", "--format", "{{.Image}}", "--filter", &mine, "--filter", pod, "--filter", kind];
    docker(&images).lines().map(str::to_owned).collect()
}

#[test]
fn another_build_takes_over_while_pods_run_and_no_request_is_lost() {
    // It outlives the cluster, which may be of the build in it.
    let directory = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::start_alone("upgrade", &["-f", "manifests"]);
    answers(NODE_PORT);
    let of_one_image = |cluster: &Cluster| {
        let images = data_plane(cluster);
        if images.len() == 2 && images[0] == images[1] { images[0].clone() } else { format!("{images:?}") }
    };
    let sandboxes = |cluster: &Cluster| cluster.containers("io.kubernetes.docker.type=podsandbox").len();
    let pods = running(&cluster, "spring-container");
    let (first, n_sandboxes) = (of_one_image(&cluster), sandboxes(&cluster));
    assert!(first.starts_with("skiff:") && pods.len() == 3, "{first} {pods:?}");
    let uid = |cluster: &Cluster| cluster.jsonpath(&["pod", "skiff-proxy", "-n", "kube-system"], "{.metadata.uid}");
    let data_planes_pod = uid(&cluster);
    let load = Load::on(NODE_PORT, CLIENTS);
    load.go_on(100);
    // Up, down as a user stops it, and up again as after a crash.
    for (build, signal) in [(another_build(directory.path()), "TERM"), (SKIFF.into(), "KILL")] {
        let is_first = build == Path::new(SKIFF);
        cluster.stop(signal);
        cluster.use_build(build);
        cluster.up(&[]);
        load.go_on(100);
        until_equal("both data planes are of the new build", SOON, is_first, || of_one_image(&cluster) == first);
        until_equal("both data planes run", SOON, true, || of_one_image(&cluster).starts_with("skiff:"));
        load.go_on(100);
        assert_eq!(running(&cluster, "spring-container"), pods, "pods run on as they are");
        assert_eq!((uid(&cluster), sandboxes(&cluster)), (data_planes_pod.clone(), n_sandboxes), "and so do sandboxes");
        assert_eq!(
            cluster.jsonpath(&["pods"], "{.items[*].status.containerStatuses[*].restartCount}"),
            "0 0 0",
            "nothing was restarted"
        );
        // It is no onlooker: what is asked of it is done.
        cluster.kubectl(&["scale", "deployment/spring-deployment", "--replicas=4"]);
        cluster.rolled_out("spring-deployment");
        cluster.kubectl(&["scale", "deployment/spring-deployment", "--replicas=3"]);
        until_equal("three are left", SOON, 3, || running(&cluster, "spring-container").len());
        assert_eq!(running(&cluster, "spring-container"), pods, "the newest went");
    }
    let seen = load.end();
    let gap = seen.gap();
    let (answered, failed) = seen.counted();
    eprintln!("upgrades: {answered} requests answered, {gap:?} without an answer at most");
    assert!(answered > 400 && failed.is_empty(), "{answered} answered, failed: {failed:?}");
    assert!(gap < Duration::from_secs(1), "{gap:?} without an answer");
}
