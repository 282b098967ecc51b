//! Applications that many people run, installed as their documentation says: beside each other in one cluster, each upgraded, and removed
//! without a trace.
//!
//! What they are is in `applications/` and `charts/`; what of one waits for kinds that skiff does not serve yet is said in its file.

use crate::harness::{
    cluster::{Cluster, root},
    tools::{BUSYBOX, HELM, KUBECTL_IMAGE, docker, output, run, text},
    wait::{eventually, until_equal},
};
use std::{collections::BTreeSet, panic::resume_unwind, process::Command, thread::ScopedJoinHandle, time::Duration};

const SOON: Duration = Duration::from_secs(90);
/// The images before and after an upgrade.
const IMAGES: (&str, &str) = ("kubernetes-spring:1.0", "kubernetes-spring:1.1");
const WAIT: &str = "wait --for=condition=available --timeout=90s deployment --all";

/// Installs, upgrades and removes an application.
type Application = fn(&Place<'_>);

/// Each with the namespace that is made for it; none where it brings its own.
const APPLICATIONS: [(&str, Application); 12] = [
    ("guestbook", guestbook),
    ("boutique", boutique),
    ("", sock_shop),
    ("bookinfo", bookinfo),
    ("vote", voting_app),
    ("wordpress", wordpress),
    ("mysql", mysql),
    ("cache", redis),
    ("database", postgresql),
    ("", ingress_nginx),
    ("argocd", argo_cd),
    ("kafka", strimzi),
];
/// A namespace that nobody uses.
const UNTOUCHED: &str = "untouched";

/// Where an application is.
struct Place<'a> {
    cluster: &'a Cluster,
    namespace: &'a str,
}

impl Place<'_> {
    fn command(&self, args: &[&str]) -> Command {
        let mut command = self.cluster.kubectl_command(&[]);
        if !self.namespace.is_empty() {
            command.args(["-n", self.namespace]);
        }
        command.args(args).current_dir(root().join("integration-tests/applications"));
        command
    }

    /// kubectl as one would type it, in the folder of the applications.
    #[track_caller]
    fn kubectl(&self, typed: &str) -> String {
        run(&mut self.command(&typed.split_whitespace().collect::<Vec<_>>()))
    }

    #[track_caller]
    fn get(&self, what: &str, path: &str) -> String {
        self.kubectl(&format!("get {what} -o jsonpath={path}"))
    }

    #[track_caller]
    fn sh(&self, who: &str, script: &str) -> String {
        run(&mut self.command(&["exec", who, "--", "sh", "-c", script]))
    }

    /// Applies what an application is now, with something in it changed.
    #[track_caller]
    fn upgrade(&self, apply: &str, manifest: &str, (from, to): (&str, &str)) {
        assert!(manifest.contains(from), "{from} is not in it");
        let mut args: Vec<&str> = apply.split_whitespace().collect();
        if !self.namespace.is_empty() {
            args.extend(["-n", self.namespace]);
        }
        let out = self.cluster.kubectl_stdin(&args, &manifest.replace(from, to));
        assert!(out.status.success(), "{}", text(&out.stderr));
    }

    /// Waits until a program has said this.
    #[track_caller]
    fn says(&self, who: &str, words: &str) {
        eventually("it says so", SOON, || {
            let said = text(&output(&mut self.command(&["logs", who])).stdout);
            if said.contains(words) { Ok(()) } else { Err(said) }
        });
    }

    fn helm(&self, typed: &str) -> String {
        let mut helm = Command::new(&*HELM);
        helm.args(["-n", self.namespace])
            .args(typed.split_whitespace())
            .current_dir(root().join("integration-tests/charts"));
        run(helm.env("KUBECONFIG", self.cluster.kubeconfig()).env("HOME", self.cluster.data_dir()))
    }
}

/// A file of an application.
fn manifest(file: &str) -> String {
    std::fs::read_to_string(root().join("integration-tests/applications").join(file)).unwrap()
}

/// Waits until somebody answers this at a URL.
#[track_caller]
fn answers(url: &str, words: &str) {
    eventually("it answers", SOON, || {
        let out = output(Command::new("curl").args(["-sS", "--max-time", "5", url]));
        let answer = text(&out.stdout) + &text(&out.stderr);
        if answer.contains(words) { Ok(()) } else { Err(answer) }
    });
}

/// Everything that somebody could delete, but for Events: the namespace, the kind and the name.
fn everything(cluster: &Cluster) -> BTreeSet<(String, String)> {
    let kinds = cluster.kubectl(&["api-resources", "--verbs=list,delete", "-o", "name"]);
    let kinds: Vec<&str> = kinds.lines().filter(|kind| !kind.starts_with("events")).collect();
    let columns = "custom-columns=NS:.metadata.namespace,KIND:.kind,NAME:.metadata.name";
    let all = cluster.kubectl(&["get", &kinds.join(","), "-A", "--no-headers", "-o", columns]);
    let parts = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        (words[0].to_owned(), words[1..].join("/"))
    };
    all.lines().map(parts).collect()
}

/// What of a listing is left that was not there, and what is gone that was: nothing, once all is removed.
fn traces(before: &BTreeSet<(String, String)>, after: &BTreeSet<(String, String)>) -> Vec<String> {
    let ours = |namespace: &str| APPLICATIONS.iter().any(|(name, _)| *name == namespace);
    let of = |namespace: &str| after.iter().filter(|(place, _)| place == namespace).map(|(_, name)| name).collect();
    let own: BTreeSet<&String> = of(UNTOUCHED);
    let inside = after.iter().filter(|(place, name)| ours(place) && !own.contains(name));
    let outside = before.symmetric_difference(after).filter(|(place, _)| !ours(place) && place != UNTOUCHED);
    inside.chain(outside).map(|(place, name)| format!("{place} {name}")).collect()
}

/// The containers and volumes that the engine has for the cluster.
fn of_the_engine(cluster: &Cluster) -> BTreeSet<String> {
    let mine = format!("label=dev.skiff.cluster={}", cluster.name);
    let listed = docker(&["ps", "-a", "--format", "{{.Names}}", "--filter", &mine])
        + &docker(&["volume", "ls", "-q", "--filter", &mine]);
    listed.lines().map(str::to_owned).collect()
}

#[test]
fn applications_are_installed_upgraded_and_removed_without_a_trace() {
    let images = std::thread::spawn(|| (*BUSYBOX, *KUBECTL_IMAGE, HELM.exists()));
    let cluster = Cluster::start_alone("apps", &[]);
    run(&mut cluster.skiff(&["demo", "load"]));
    images.join().unwrap();
    let names = APPLICATIONS.iter().map(|(name, _)| *name).filter(|name| !name.is_empty());
    for name in names.chain([UNTOUCHED]) {
        cluster.kubectl(&["create", "namespace", name]);
    }
    let (before, engine) = (everything(&cluster), of_the_engine(&cluster));
    std::thread::scope(|scope| {
        let running = APPLICATIONS.map(|(namespace, install)| {
            let place = Place { cluster: &cluster, namespace };
            scope.spawn(move || install(&place))
        });
        let ended = running.map(ScopedJoinHandle::join);
        if let Some(why) = ended.into_iter().find_map(Result::err) {
            resume_unwind(why);
        }
    });
    until_equal("no object is left", SOON, Vec::new(), || traces(&before, &everything(&cluster)));
    until_equal("nothing is left on the engine", SOON, engine, || of_the_engine(&cluster));
}

fn guestbook(place: &Place<'_>) {
    place.kubectl("apply -f guestbook.yaml");
    place.kubectl(WAIT);
    let port = place.get("service frontend", "{.spec.ports[0].nodePort}");
    answers(&format!("http://localhost:{port}/"), "guestbook");
    place.says("deployment/redis-follower", "follows");
    place.kubectl("scale deployment frontend --replicas=3");
    place.kubectl("rollout status deployment frontend --timeout=90s");
    let changed = manifest("guestbook.yaml").replace("replicas: 2", "replicas: 3");
    place.upgrade("apply -f -", &changed, ("greeting=guestbook", "greeting=visitors"));
    place.kubectl("rollout status deployment frontend --timeout=90s");
    answers(&format!("http://localhost:{port}/"), "visitors");
    for what in ["deployment -l app=redis", "service -l app=redis", "deployment frontend", "service frontend"] {
        place.kubectl(&format!("delete {what}"));
    }
}

fn boutique(place: &Place<'_>) {
    place.kubectl("apply -k boutique");
    place.kubectl(WAIT);
    let address = place.get("service frontend-external", "{.status.loadBalancer.ingress[0].ip}");
    answers(&format!("http://{address}/"), "boutique");
    place.says("deployment/loadgenerator", "boutique");
    place.upgrade("apply -f -", &place.kubectl("kustomize boutique"), IMAGES);
    for deployment in ["frontend", "productcatalogservice", "redis-cart"] {
        place.kubectl(&format!("rollout status deployment {deployment} --timeout=90s"));
    }
    answers(&format!("http://{address}/"), "boutique");
    place.kubectl("delete -k boutique");
}

fn sock_shop(place: &Place<'_>) {
    place.kubectl("create -f sock-shop.yaml");
    place.kubectl(&format!("{WAIT} -n sock-shop"));
    answers("http://localhost:30001/", "socks");
    place.kubectl("set image deployment/carts carts=kubernetes-spring:1.1 -n sock-shop");
    place.kubectl("rollout status deployment carts --timeout=90s -n sock-shop");
    // Its namespace goes first, and takes what comes after it.
    place.kubectl("delete --ignore-not-found -f sock-shop.yaml");
}

fn bookinfo(place: &Place<'_>) {
    place.kubectl("apply -f bookinfo.yaml");
    place.kubectl(WAIT);
    let page = "busybox wget -qO- productpage:9080/productpage";
    assert_eq!(place.sh("deploy/ratings-v1", page), "<title>Simple Bookstore App</title>\n");
    place.kubectl("apply -f bookinfo-ingress.yaml");
    let port = || place.get("ingress gateway", "{.status.loadBalancer.ingress[0].ports[0].port}").parse::<u16>();
    let port = eventually("it has an address", SOON, port);
    answers(&format!("http://localhost:{port}/productpage"), "Simple Bookstore App");
    answers(&format!("http://localhost:{port}/api/v1/products/0"), "Simple Bookstore App");
    let said = place.kubectl("apply -f bookinfo.yaml -l app=reviews,version=v3");
    assert_eq!(said, "deployment.apps/reviews-v3 unchanged\n");
    place.upgrade("apply -f -", &manifest("bookinfo.yaml"), ("reviews v1", "reviews v2"));
    place.kubectl("rollout status deployment reviews-v1 --timeout=90s");
    let reviews = "for i in 1 2 3 4 5 6 7 8; do busybox wget -qO- reviews:9080; done";
    let said: BTreeSet<String> = place.sh("deploy/ratings-v1", reviews).lines().map(str::to_owned).collect();
    assert_eq!(said, BTreeSet::from(["reviews v2".to_owned(), "reviews v3".to_owned()]));
    place.kubectl("delete -f bookinfo-ingress.yaml -f bookinfo.yaml");
}

fn voting_app(place: &Place<'_>) {
    place.kubectl("create -f voting-app/");
    place.kubectl(WAIT);
    answers("http://localhost:31000/", "cats or dogs");
    answers("http://localhost:31001/", "cats");
    place.says("deployment/worker", "connected");
    place.kubectl("set image deployment/vote vote=kubernetes-spring:1.1");
    place.kubectl("rollout status deployment vote --timeout=90s");
    answers("http://localhost:31000/", "cats or dogs");
    place.kubectl("delete -f voting-app/");
}

fn wordpress(place: &Place<'_>) {
    place.kubectl("apply -k wordpress");
    place.kubectl(WAIT);
    assert!(place.get("secrets", "{.items[*].metadata.name}").starts_with("mysql-pass-"));
    assert_eq!(place.get("pvc", "{.items[*].status.phase}"), "Bound Bound");
    let address = place.get("service wordpress", "{.status.loadBalancer.ingress[0].ip}");
    answers(&format!("http://{address}/"), "Hello world!");
    place.kubectl("set env deployment/wordpress-mysql VERSION=next");
    place.kubectl("rollout status deployment wordpress-mysql --timeout=90s");
    let starts = place.sh("deploy/wordpress-mysql", "cat /var/lib/mysql/starts");
    assert_eq!(starts, "correct-horse \ncorrect-horse next\n", "the second finds what the first has written");
    place.kubectl("delete -k wordpress");
}

fn mysql(place: &Place<'_>) {
    place.kubectl("apply -f mysql.yaml");
    place.kubectl("rollout status statefulset mysql --timeout=90s");
    place.kubectl("scale statefulset mysql --replicas=3");
    place.kubectl("rollout status statefulset mysql --timeout=90s");
    let copied = "cat /var/lib/mysql/copy /etc/mysql/conf.d/*; nc mysql-0.mysql 3306; nc mysql-read 3306";
    let copy = "of the primary\n";
    assert_eq!(place.sh("mysql-2", copied), format!("{copy}super-read-only\nserver-id=102\n{copy}{copy}"));
    let uid = place.get("pod mysql-1", "{.metadata.uid}");
    place.kubectl("delete pod mysql-1");
    place.kubectl("rollout status statefulset mysql --timeout=90s");
    assert_ne!(place.get("pod mysql-1", "{.metadata.uid}"), uid);
    place.kubectl("delete statefulset mysql");
    place.kubectl("delete configmap,service,pvc -l app=mysql");
}

fn redis(place: &Place<'_>) {
    place.helm("install my redis --wait --timeout 90s");
    let password = || place.get("secret my-redis", "{.data.redis-password}");
    let first = password();
    place.helm("upgrade my redis --wait --timeout 90s --set replica.replicaCount=2");
    assert_eq!(place.get("statefulset my-redis-replicas", "{.status.readyReplicas}"), "2");
    assert_eq!(password(), first, "the chart looks it up");
    let asks =
        "nc my-redis-master 6379; nc my-redis-replicas-0.my-redis-headless 6379; stat -L -c %a /opt/scripts/ping.sh";
    assert_eq!(place.sh("my-redis-master-0", asks), "master\nreplicas\n755\n");
    place.helm("uninstall my --wait");
    place.kubectl("delete pvc -l app.kubernetes.io/instance=my");
}

fn postgresql(place: &Place<'_>) {
    place.helm("install my postgresql --wait --timeout 90s");
    place.helm("upgrade my postgresql --wait --timeout 90s --set version=second");
    assert_eq!(place.sh("my-postgresql-0", "cat /bitnami/postgresql/started"), "first\nsecond\n");
    place.helm("rollback my 1 --wait --timeout 90s");
    assert_eq!(place.sh("my-postgresql-0", "cat /bitnami/postgresql/started"), "first\nsecond\nfirst\n");
    place.helm("uninstall my --wait");
    place.kubectl("delete pvc -l app.kubernetes.io/instance=my");
}

fn ingress_nginx(place: &Place<'_>) {
    let place = &Place { namespace: "ingress-nginx", ..*place };
    run(&mut place.cluster.kubectl_command(&["apply", "-f", "integration-tests/applications/ingress-nginx.yaml"]));
    place.kubectl("wait --for=condition=complete --timeout=90s job --all");
    place.kubectl("rollout status deployment ingress-nginx-controller --timeout=90s");
    place.kubectl("wait --for=condition=ready pod --selector=app.kubernetes.io/component=controller --timeout=90s");
    let patched =
        place.get("validatingwebhookconfiguration ingress-nginx-admission", "{.webhooks[0].clientConfig.caBundle}");
    assert_eq!(patched, "Q0E=");
    // What the controller may see, it sees through its account.
    let address = place.get("service ingress-nginx-controller", "{.status.loadBalancer.ingress[0].ip}");
    answers(&format!("http://{address}/apis/networking.k8s.io/v1/ingresses"), "IngressList");
    answers("http://localhost:10254/apis/discovery.k8s.io/v1/endpointslices", "EndpointSliceList");
    answers(&format!("http://{address}/apis/apps/v1/deployments"), "deployments.apps is forbidden");
    place.kubectl("set env deployment/ingress-nginx-controller ROUND=2");
    place.kubectl("rollout status deployment ingress-nginx-controller --timeout=90s");
    place.kubectl("delete --ignore-not-found -f ingress-nginx.yaml");
}

fn argo_cd(place: &Place<'_>) {
    place.kubectl("apply --server-side --force-conflicts -f argo-cd.yaml");
    place.kubectl(WAIT);
    place.kubectl("rollout status statefulset argocd-application-controller --timeout=90s");
    place.kubectl("scale deployment argocd-server --replicas=2");
    place.upgrade("apply --server-side --force-conflicts -f -", &manifest("argo-cd.yaml"), IMAGES);
    place.kubectl("rollout status deployment argocd-server --timeout=90s");
    let managers =
        place.get("deployment argocd-server --show-managed-fields", "{.metadata.managedFields[*].operation}");
    assert!(managers.starts_with("Apply"), "{managers}");
    place.kubectl("delete -f argo-cd.yaml");
    place.kubectl("delete secret argocd-redis");
}

fn strimzi(place: &Place<'_>) {
    place.kubectl("create -f strimzi.yaml");
    place.kubectl(WAIT);
    place.kubectl("wait --for=condition=ready --timeout=90s pod my-cluster-dual-role-0");
    let managers =
        place.get("pod my-cluster-dual-role-0 --show-managed-fields", "{.metadata.managedFields[*].manager}");
    assert!(managers.split(' ').any(|manager| manager == "strimzi-cluster-operator"), "{managers}");
    place.kubectl("set env deployment/strimzi-cluster-operator STRIMZI_FEATURE_GATES=+UseServerSideApply");
    place.kubectl("rollout status deployment strimzi-cluster-operator --timeout=90s");
    place.kubectl("delete pod,service,networkpolicy,pdb,pvc -l strimzi.io/cluster=my-cluster");
    place.kubectl("delete -f strimzi.yaml");
}
