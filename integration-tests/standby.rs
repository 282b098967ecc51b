//! A second `skiff up` that waits for the end of the first.

use crate::harness::{
    cluster::Cluster,
    tools::BUSYBOX,
    wait::{eventually, until_equal},
};
use std::{
    io::{BufRead as _, BufReader},
    process::Stdio,
    time::{Duration, Instant},
};

const SOON: Duration = Duration::from_secs(40);

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
    let port = format!("127.0.0.1:{}", cluster.api_port());
    let mut standby =
        cluster.skiff(&["up", "--standby", "--api-address", &port]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(standby.stdout.take().unwrap()).lines().map_while(Result::ok);
    assert!(lines.any(|line| line.contains("standing by")));
    // It has said so before it asked; it waits once the first one lets nobody else in.
    assert!(cluster.kubectl(&["get", "--raw", "/readyz"]).contains("ok"));
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
    // `skiff down` ends it, as it ends any that runs the cluster; one that stood by would end too.
    let out = cluster.skiff(&["down"]).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    assert!(standby.wait().unwrap().success());
}
