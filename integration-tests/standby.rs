//! A second `skiff up` that waits for the end of the first.

use crate::harness::{
    cluster::{Cluster, answers},
    load::Load,
    tools::BUSYBOX,
    wait::{SOON, eventually, until_equal},
};
use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Stdio},
    time::{Duration, Instant},
};

/// Starts a standby of a cluster; what it prints from then on.
fn stand_by(cluster: &Cluster) -> (Child, impl Iterator<Item = String> + use<>) {
    let address = format!("127.0.0.1:{}", cluster.api_port());
    let mut standby =
        cluster.skiff(&["up", "--standby", "--api-address", &address]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(standby.stdout.take().unwrap()).lines().map_while(Result::ok);
    assert!(lines.any(|line| line.contains("standing by")));
    // It has said so before it asked; it waits once the first one lets nobody else in.
    assert!(cluster.kubectl(&["get", "--raw", "/readyz"]).contains("ok"));
    (standby, lines)
}

#[test]
fn a_standby_takes_the_place_of_one_that_is_killed() {
    let mut cluster = Cluster::start("standby");
    let run = ["run", "app", &format!("--image={}", *BUSYBOX), "--command", "--", "sleep", "3600"];
    cluster.kubectl(&run);
    let started = "{.status.containerStatuses[0].state.running.startedAt} {.status.containerStatuses[0].restartCount}";
    let before = eventually("it runs", SOON, || {
        let told = cluster.jsonpath(&["pod", "app"], started);
        if told.len() > 3 { Ok(told) } else { Err(told) }
    });
    let leader = |cluster: &Cluster| {
        cluster.jsonpath(&["lease", "skiff-controllers", "-n", "kube-system"], "{.spec.holderIdentity}")
    };
    let first = leader(&cluster);
    let (mut standby, _lines) = stand_by(&cluster);
    let killed = Instant::now();
    cluster.stop("KILL");
    let answers =
        |cluster: &Cluster| cluster.kubectl_command(&["get", "--raw", "/readyz"]).output().unwrap().status.success();
    eventually("the standby serves", SOON, || if answers(&cluster) { Ok(()) } else { Err(()) });
    eprintln!("the standby answered {:?} after the kill", killed.elapsed());
    eventually("it leads", SOON, || if leader(&cluster) == first { Err(first.clone()) } else { Ok(()) });
    cluster.kubectl(&["run", "later", &format!("--image={}", *BUSYBOX), "--command", "--", "sleep", "3600"]);
    let phase = || cluster.jsonpath(&["pod", "later"], "{.status.phase}");
    until_equal("it makes pods", SOON, "Running".to_owned(), phase);
    assert_eq!(cluster.jsonpath(&["pod", "app"], started), before, "what ran runs on");
    let (second, (mut next, _lines)) = (leader(&cluster), stand_by(&cluster));
    let stopped = cluster.skiff(&["stop"]).output().unwrap();
    let said = String::from_utf8_lossy(&stopped.stdout);
    assert!(stopped.status.success() && said.contains("one that stood by takes its place"), "{said}");
    assert!(standby.wait().unwrap().success());
    eventually("the next standby serves", SOON, || if answers(&cluster) { Ok(()) } else { Err(()) });
    eventually("it leads", SOON, || if leader(&cluster) == second { Err(second.clone()) } else { Ok(()) });
    // `skiff down` ends it, as it ends any that runs the cluster; one that stood by would end too.
    let out = cluster.skiff(&["down"]).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    assert!(next.wait().unwrap().success());
}

/// The time of a Lease, and a second, within which a standby has ended one that hangs; a start comes after that.
const HUNG_MAX: Duration = Duration::from_secs(16);

#[test]
fn a_standby_ends_one_that_is_stopped_and_takes_its_place() {
    let begun = Instant::now();
    let mut cluster = Cluster::start_with("standby-hung", &["-f", "manifests/hello-openshift"]);
    let start = begun.elapsed();
    cluster.kubectl(&["expose", "deployment", "hello-openshift", "--name=hello", "--port=8080", "--type=NodePort"]);
    let port = cluster.jsonpath(&["service", "hello"], "{.spec.ports[0].nodePort}").parse().unwrap();
    answers(port);
    let life = "{.items[0].metadata.uid} {.items[0].status.containerStatuses[0]['containerID','restartCount']}";
    let pod = |cluster: &Cluster| cluster.jsonpath(&["pods"], life);
    let before = pod(&cluster);
    let (mut standby, mut lines) = stand_by(&cluster);
    let load = Load::on(port, 2);
    load.go_on(50);
    let (stopped, hung) = (Instant::now(), cluster.pid());
    cluster.signal("STOP");
    let told =
        format!("the control plane of process {hung} did not answer for 15 s: it was killed, and its place taken");
    assert!(lines.any(|line| line.contains(&told)), "the standby did not say that it took over");
    let taken = stopped.elapsed();
    assert!(cluster.kubectl(&["get", "--raw", "/readyz"]).contains("ok"));
    eprintln!("the standby had the place of a stopped one {taken:?} after the stop");
    assert!(taken < HUNG_MAX + start, "{taken:?}, and a start takes {start:?}");
    cluster.stop("KILL");
    load.go_on(50);
    let (answered, failed) = load.end().counted();
    assert!(failed.is_empty(), "of {answered} requests failed {failed:?}");
    assert_eq!(pod(&cluster), before, "what ran runs on");
    let events = || cluster.kubectl(&["get", "events", "-n", "kube-system", "--field-selector", "reason=LeaderFenced"]);
    eventually("an Event tells", SOON, || if events().contains(&told) { Ok(()) } else { Err(events()) });
    let out = cluster.skiff(&["down"]).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    assert!(standby.wait().unwrap().success());
}
