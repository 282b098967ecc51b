//! Addresses of a cluster: what becomes of Services and pods when the network is lost that they had theirs from.

use crate::harness::{
    cluster::{Cluster, answers},
    tools::{docker, run},
    wait::{SOON, eventually, until_equal},
};
use std::process::Command;

const DEMO: [&str; 4] = ["-f", "manifests/spring-deployment.yaml", "-f", "manifests/spring-service.yaml"];

/// A Docker network that is not the cluster's.
struct Foreign(String);

impl Foreign {
    fn new(name: &str, subnet: &str) -> Self {
        Self(docker(&["network", "create", "--subnet", subnet, name]).trim().to_owned())
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        drop(Command::new("docker").args(["network", "rm", &self.0]).output());
    }
}

fn network(cluster: &Cluster) -> String {
    format!("skiff-{}", cluster.name)
}

fn subnet(cluster: &Cluster) -> String {
    let format = "{{range .IPAM.Config}}{{.Subnet}}{{end}}";
    docker(&["network", "inspect", "-f", format, &network(cluster)]).trim().to_owned()
}

/// The address of each Service, by name.
fn cluster_ips(cluster: &Cluster) -> Vec<(String, String)> {
    let ips =
        cluster.jsonpath(&["services", "-A"], r#"{range .items[*]}{.metadata.name}{" "}{.spec.clusterIP}{"\n"}{end}"#);
    let pair = |line: &str| line.split_once(' ').map(|(name, ip)| (name.to_owned(), ip.to_owned())).unwrap();
    ips.lines().map(pair).collect()
}

/// What `docker system prune` leaves of a cluster whose containers do not run: nothing.
fn lose_containers_and_network(cluster: &mut Cluster) {
    cluster.stop("TERM");
    let label = format!("label=dev.skiff.cluster={}", cluster.name);
    let ids = docker(&["ps", "-aq", "--filter", &label]);
    run(Command::new("docker").args(["rm", "-fv"]).args(ids.split_whitespace()));
    docker(&["network", "rm", &network(cluster)]);
}

/// Pods and Services work.
#[track_caller]
fn works(cluster: &Cluster) {
    cluster.rolled_out("spring-deployment");
    eventually("the node port is answered", SOON, || match answers(30000).as_str() {
        "" => Err("no answer"),
        _ => Ok(()),
    });
    until_equal("every pod has an address of the range", SOON, true, || {
        let ips = cluster.jsonpath(&["pods"], "{.items[*].status.podIP}");
        ips.split_whitespace().count() == 3 && ips.split_whitespace().all(|ip| is_in(ip, &subnet(cluster)))
    });
}

/// Whether an address is in a /15.
fn is_in(ip: &str, subnet: &str) -> bool {
    let high = |text: &str| {
        let mut parts = text.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
        let first = parts.next().unwrap();
        (first << 8 | parts.next().unwrap()) & !1
    };
    high(ip) == high(subnet)
}

#[test]
fn a_cluster_that_lost_its_network_comes_back_in_its_range_or_in_another() {
    let mut cluster = Cluster::start_alone("range", &DEMO);
    cluster.kubectl(&["create", "configmap", "kept", "--from-literal=a=b"]);
    let (before, range) = (cluster_ips(&cluster), subnet(&cluster));

    lose_containers_and_network(&mut cluster);
    cluster.up(&[]);
    assert_eq!((subnet(&cluster), cluster_ips(&cluster)), (range.clone(), before.clone()), "the range was free");
    works(&cluster);

    lose_containers_and_network(&mut cluster);
    let _foreign = Foreign::new("it-range-foreign", &range);
    cluster.up(&[]);
    let said = cluster.log();
    assert_eq!(said.matches("have new addresses").count(), 1, "{said}");
    let (now, moved_to) = (cluster_ips(&cluster), subnet(&cluster));
    assert_ne!(moved_to, range);
    assert!(now.iter().all(|(_, ip)| is_in(ip, &moved_to)), "{now:?} is not of {moved_to}");
    assert_eq!(now.len(), before.len());
    works(&cluster);
    let told = cluster.kubectl(&["get", "events", "-A", "--field-selector", "reason=ClusterIPOutOfRange"]);
    assert_eq!(told.lines().skip(1).count(), now.len(), "{told}");
    assert_eq!(cluster.jsonpath(&["configmap", "kept"], "{.data.a}"), "b");

    // What was moved stays where it is.
    cluster.stop("TERM");
    cluster.up(&[]);
    assert_eq!(cluster_ips(&cluster), now);
    assert!(!cluster.log().contains("have new addresses"));
}
