//! Volumes on the real engine: what containers write into them harms nobody, and what they mount is as in Kubernetes.

use crate::harness::{
    cluster::Cluster,
    tools::{BUSYBOX, docker, output, text},
    wait::{SOON, eventually, until_equal},
};
use std::{
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Output},
};

/// The newest container of this name, running or not.
fn newest(cluster: &Cluster, container: &str) -> String {
    let mine = format!("label=dev.skiff.cluster={}", cluster.name);
    let name = format!("label=io.kubernetes.container.name={container}");
    let ids = docker(&["ps", "-a", "-q", "--no-trunc", "--filter", &mine, "--filter", &name]);
    ids.lines().next().unwrap_or_default().to_owned()
}

/// Everything that the containers of this name have printed, but for those that go while it is read: helpers come and go.
fn printed(cluster: &Cluster, container: &str) -> String {
    let mine = format!("label=dev.skiff.cluster={}", cluster.name);
    let name = format!("label=io.kubernetes.container.name={container}");
    let ids = docker(&["ps", "-a", "-q", "--filter", &mine, "--filter", &name]);
    let log = |id| output(Command::new("docker").args(["logs", id]));
    ids.lines().map(log).filter(|log| log.status.success()).map(|log| text(&log.stdout)).collect()
}

fn runs(cluster: &Cluster, container: &str) {
    eventually("the container runs", SOON, || {
        let ids = cluster.containers(&format!("io.kubernetes.container.name={container}"));
        if ids.is_empty() {
            Err(cluster.jsonpath(&["pods"], "{.items[*].status.containerStatuses[*].state}"))
        } else {
            Ok(())
        }
    });
}

/// Why a container of the pod waits.
fn waits(cluster: &Cluster, pod: &str, container: &str) -> String {
    let state = format!("{{.status.containerStatuses[?(@.name=={container:?})].state.waiting}}");
    cluster.jsonpath(&["pod", pod], &state)
}

/// A container that lists what it mounts and stays.
fn victim(name: &str, mount: &str) -> String {
    format!(
        "  - name: {name}\n    image: {image}\n    command: [sh, -c, 'ls -a /v; exec sleep 3600']\n    \
         env: [{{name: WHERE, value: expr}}]\n    volumeMounts: [{{mountPath: /v, {mount}}}]\n",
        image = *BUSYBOX
    )
}

#[test]
fn a_container_cannot_turn_a_sub_path_of_another_into_a_way_to_the_host() {
    let cluster = Cluster::start("subpath");
    let host = tempfile::tempdir().unwrap();
    std::fs::set_permissions(host.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    let attack = "until [ -e /d/end ] && [ -e /d/mid/deep ] && [ -e /h/expr ]; do sleep 0.1; done; touch /d/seen; \
         until [ -e /d/go ]; do sleep 0.1; done; \
         mv /d/end /d/end2 && ln -s /etc /d/end && mv /d/mid /d/mid2 && ln -s / /d/mid && mv /h/expr /h/expr2 && ln -s /etc /h/expr \
         && touch /d/turned; exec sleep 3600";
    cluster.apply(&format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: p}}\nspec:\n  volumes:\n  - {{name: d, emptyDir: {{}}}}\n  \
         - {{name: h, hostPath: {{path: {host}}}}}\n  terminationGracePeriodSeconds: 1\n  containers:\n  \
         - name: attacker\n    image: {image}\n    command: [sh, -c, '{attack}']\n    \
         securityContext: {{runAsUser: 65534, capabilities: {{drop: [ALL]}}}}\n    \
         volumeMounts: [{{name: d, mountPath: /d}}, {{name: h, mountPath: /h}}]\n{end}{middle}{expression}",
        host = host.path().display(),
        image = *BUSYBOX,
        end = victim("end", "name: d, subPath: end"),
        middle = victim("middle", "name: d, subPath: mid/deep"),
        expression = victim("expression", "name: h, subPathExpr: $(WHERE)"),
    ));
    let victims = ["end", "middle", "expression"];
    victims.iter().for_each(|name| runs(&cluster, name));
    let attacker = || newest(&cluster, "attacker");
    let has = |file: &str| {
        let out = output(Command::new("docker").args(["exec", &attacker(), "ls", file]));
        if out.status.success() { Ok(()) } else { Err(text(&out.stderr)) }
    };
    eventually("the sub-paths are there", SOON, || has("/d/seen"));
    docker(&["exec", &attacker(), "touch", "/d/go"]);
    eventually("the links are there", SOON, || has("/d/turned"));

    // By hand, behind skiff's back: the old container shows what it showed, or does not start.
    output(Command::new("docker").args(["restart", "-t", "0", &newest(&cluster, "end")]));
    for name in victims {
        output(Command::new("docker").args(["kill", &newest(&cluster, name)]));
    }
    for name in victims {
        let why = eventually("the container is refused", SOON, || {
            // A container that came back between is ended again.
            let why = waits(&cluster, "p", name);
            if why.contains("CreateContainerConfigError") { Ok(why) } else { Err(why) }
        });
        assert!(
            why.contains("failed to prepare subPath for volumeMount") && why.contains("is a symbolic link"),
            "{why}"
        );
        let shown = printed(&cluster, name);
        for secret in ["passwd", "shadow", "root", "proc"] {
            assert!(!shown.contains(secret), "{name} saw the host:\n{shown}");
        }
    }
    let events =
        cluster.kubectl(&["get", "events", "--field-selector", "reason=Failed", "-o", "jsonpath={.items[*].message}"]);
    assert!(events.contains("Error: failed to prepare subPath for volumeMount \"d\" of container \"end\""), "{events}");
}

#[test]
fn a_sub_path_has_the_mode_of_its_volume_and_may_be_a_file() {
    let cluster = Cluster::start("submode");
    let script = "id -u; for p in /plain /memory /nested; do stat -c \"%a %g\" $p; touch $p/mine || exit 1; done; cat /file; \
         exec sleep 3600";
    let pod = |name: &str, context: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  securityContext: {{runAsUser: 1000{context}}}\n  \
             terminationGracePeriodSeconds: 1\n  volumes:\n  - {{name: d, emptyDir: {{}}}}\n  \
             - {{name: m, emptyDir: {{medium: Memory}}}}\n  initContainers:\n  - name: init\n    image: {image}\n    \
             command: [sh, -c, 'echo made > /d/made']\n    volumeMounts: [{{name: d, mountPath: /d}}]\n  containers:\n  \
             - name: {name}\n    image: {image}\n    command: [sh, -c, '{script}']\n    volumeMounts:\n    \
             - {{name: d, mountPath: /plain, subPath: plain}}\n    - {{name: m, mountPath: /memory, subPath: in/memory}}\n    \
             - {{name: d, mountPath: /nested, subPath: a/b/c}}\n    - {{name: d, mountPath: /file, subPath: made, readOnly: true}}\n",
            image = *BUSYBOX
        )
    };
    cluster.apply(&pod("plain", ""));
    cluster.apply(&pod("grouped", ", fsGroup: 2000"));
    until_equal("modes of a plain pod", SOON, "1000\n777 0\n777 0\n777 0\nmade\n".to_owned(), || {
        printed(&cluster, "plain")
    });
    let grouped = "1000\n2777 2000\n2777 2000\n2777 2000\nmade\n".to_owned();
    until_equal("modes with fsGroup", SOON, grouped, || printed(&cluster, "grouped"));
    an_image_is_a_volume_that_is_only_read(&cluster);
}

/// Whole and in part, beside an image that is not there; its Docker volume goes with its pod. The pod has a host name, a profile of
/// seccomp and resources of its own, which each of its containers has.
fn an_image_is_a_volume_that_is_only_read(cluster: &Cluster) {
    let profiles = cluster.data_dir().join("seccomp");
    std::fs::create_dir_all(&profiles).unwrap();
    let no_chmod = r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["chmod", "fchmod", "fchmodat"], "action": "SCMP_ACT_ERRNO"}]}"#;
    std::fs::write(profiles.join("no-chmod.json"), no_chmod).unwrap();
    let script = "busybox hostname; touch /mine; busybox chmod 700 /mine 2>/dev/null || echo refused; test -e /whole/.dockerenv || echo clean; \
         touch /whole/x 2>/dev/null || echo read-only; cd /part; ls -d busybox; cd /sys/fs/cgroup; \
         cat memory.max 2>/dev/null || cat memory/memory.limit_in_bytes; exec sleep 3600";
    let image = *BUSYBOX;
    cluster.apply(&format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: shown}}\nspec:\n  hostnameOverride: db.example.com\n  \
         resources: {{limits: {{memory: 64Mi, cpu: 500m}}}}\n  \
         terminationGracePeriodSeconds: 1\n  \
         securityContext: {{seccompProfile: {{type: Localhost, localhostProfile: no-chmod.json}}}}\n  \
         volumes: [{{name: i, image: {{reference: '{image}', pullPolicy: Never}}}}, {{name: gone, image: {{reference: 'none:1', pullPolicy: Never}}}}]\n  \
         containers:\n  - name: shown\n    image: {image}\n    command: [sh, -c, '{script}']\n    volumeMounts: \
         [{{name: i, mountPath: /whole}}, {{name: i, mountPath: /part, subPath: bin}}]\n  - name: lacks\n    image: {image}\n    \
         command: [sleep, '3600']\n    volumeMounts: [{{name: gone, mountPath: /v}}]\n  - name: unsafe\n    image: {image}\n    \
         command: [sleep, '3600']\n    securityContext: {{seccompProfile: {{type: Localhost, localhostProfile: none.json}}}}\n"
    ));
    let said = "db.example.com\nrefused\nclean\nread-only\nbusybox\n67108864\n".to_owned();
    until_equal("what is in the image", SOON, said, || printed(cluster, "shown"));
    let reason = "{.status.containerStatuses[?(@.name==\"lacks\")].state.waiting.reason}";
    until_equal("the other image is not there", SOON, "ErrImageNeverPull".to_owned(), || {
        cluster.jsonpath(&["pod", "shown"], reason)
    });
    let why = waits(cluster, "shown", "unsafe");
    assert!(why.contains("CreateContainerError") && why.contains("cannot load seccomp profile"), "{why}");
    cluster.kubectl(&["delete", "pod", "shown"]);
    let label = format!("label=dev.skiff.cluster={}", cluster.name);
    eventually("its volume is gone", SOON, || {
        let left = docker(&["volume", "ls", "-q", "--filter", &label]);
        if left.contains("_image_") { Err(left) } else { Ok(()) }
    });
}

#[test]
fn a_host_path_is_what_its_type_says_or_the_pod_waits() {
    let cluster = Cluster::start("hostpath");
    let host = tempfile::tempdir().unwrap();
    let at = |name: &str| host.path().join(name);
    std::fs::write(at("file"), "of the host").unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
    let pod = |name: &str, path: &str, kind: &str| {
        format!(
            "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  terminationGracePeriodSeconds: 1\n  \
             volumes: [{{name: h, hostPath: {{path: {path}, type: {kind}}}}}]\n  containers:\n  - name: {name}\n    \
             image: {image}\n    command: [sh, -c, 'exec sleep 3600']\n    volumeMounts: [{{name: h, mountPath: /h}}]\n",
            image = *BUSYBOX
        )
    };
    let path = |name: &str| at(name).display().to_string();
    let good = [
        ("new-dir", path("made/deep"), "DirectoryOrCreate"),
        ("new-file", path("made-file"), "FileOrCreate"),
        ("file", path("file"), "File"),
        ("socket", path("socket"), "Socket"),
        ("char", "/dev/null".to_owned(), "CharDevice"),
    ];
    let bad = [
        ("no-dir", path("missing"), "Directory", "is not a directory"),
        ("no-file", path("absent"), "File", "is not a file"),
        ("no-socket", path("file"), "Socket", "is not a socket file"),
        ("no-block", "/dev/null".to_owned(), "BlockDevice", "is not a block device"),
    ];
    let all = good.iter().map(|(name, path, kind)| pod(name, path, kind));
    let all = all.chain(bad.iter().map(|(name, path, kind, _)| pod(name, path, kind)));
    cluster.apply(&all.collect::<String>());
    good.iter().for_each(|(name, ..)| runs(&cluster, name));
    assert!(at("made/deep").is_dir() && at("made-file").is_file());
    for (name, path, _, why) in &bad {
        let wanted = format!("MountVolume.SetUp failed for volume \"h\" : hostPath type check failed: {path} {why}");
        eventually("the event", SOON, || {
            let selector = format!("involvedObject.name={name},reason=FailedMount");
            let said = cluster.kubectl(&[
                "get",
                "events",
                "--field-selector",
                &selector,
                "-o",
                "jsonpath={.items[*].message}",
            ]);
            if said.contains(&wanted) { Ok(()) } else { Err(said) }
        });
        assert_eq!(newest(&cluster, name), "", "nothing was started");
    }
    assert!(!at("missing").exists() && !at("absent").exists(), "nothing was made");
    what_the_host_mounts_later_is_seen_where_it_is_passed_on(&cluster, &at("tree"));
}

/// A mount of the engine's host, made in its own namespace; gone with this.
struct Mounted<'p>(&'p Path);

impl<'p> Mounted<'p> {
    fn on_the_host(script: &str) -> Output {
        let here = output(Command::new("sh").args(["-c", script]));
        if here.status.success() {
            return here;
        }
        // Whoever may not mount lets the engine do it.
        let enter =
            ["run", "--rm", "--privileged", "--pid=host", &BUSYBOX, "busybox", "nsenter", "-t", "1", "-m", "--"];
        output(Command::new("docker").args(enter).args(["sh", "-c", script]))
    }

    /// A tree that passes on what is mounted below it.
    fn shared(tree: &'p Path) -> Self {
        let at = tree.display();
        let made = Self::on_the_host(&format!("mount --bind {at} {at} && mount --make-rshared {at}"));
        assert!(made.status.success(), "{}", text(&made.stderr));
        Self(tree)
    }

    fn mount_below(&self, name: &str) {
        let at = self.0.join(name).display().to_string();
        let made = Self::on_the_host(&format!("mount -t tmpfs none {at} && touch {at}/there"));
        assert!(made.status.success(), "{}", text(&made.stderr));
    }
}

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        Self::on_the_host(&format!("umount -l {0}/sub; umount -l {0}", self.0.display()));
    }
}

/// `HostToContainer` beside a mount of the same that keeps to itself.
fn what_the_host_mounts_later_is_seen_where_it_is_passed_on(cluster: &Cluster, tree: &Path) {
    std::fs::create_dir_all(tree.join("sub")).unwrap();
    let mounted = Mounted::shared(tree);
    let script =
        "echo begun; until [ -e /passed/sub/there ]; do sleep 0.1; done; ls /alone/sub; echo seen; exec sleep 3600";
    cluster.apply(&format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: passed}}\nspec:\n  terminationGracePeriodSeconds: 1\n  \
         volumes: [{{name: h, hostPath: {{path: {tree}}}}}]\n  containers:\n  - name: passed\n    image: {image}\n    \
         command: [sh, -c, '{script}']\n    volumeMounts: [{{name: h, mountPath: /passed, mountPropagation: HostToContainer}}, \
         {{name: h, mountPath: /alone}}]\n",
        tree = tree.display(),
        image = *BUSYBOX
    ));
    until_equal("it runs", SOON, "begun\n".to_owned(), || printed(cluster, "passed"));
    mounted.mount_below("sub");
    until_equal("it sees what the host mounted", SOON, "begun\nseen\n".to_owned(), || printed(cluster, "passed"));
    cluster.kubectl(&["delete", "pod", "passed", "--wait=true"]);
}

#[test]
fn a_container_that_sees_other_processes_sees_nothing_of_what_they_mount() {
    const UPDATES: u32 = 12;
    let cluster = Cluster::start("shield");
    let look = "for p in /proc/[0-9]*; do [ -e $p/root/volumes ] || [ -e $p/root/host/etc ] && echo $p leads out";
    let once = format!(
        "{look}; tr \"\\0\" \" \" < $p/cmdline | grep \"skiff pause\" > /dev/null && echo saw a sandbox; done; echo looked"
    );
    let pod = |name: &str, sees: &str| {
        format!(
            "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  {sees}: true\n  terminationGracePeriodSeconds: 1\n  \
             volumes: [{{name: d, configMap: {{name: d}}}}]\n  containers:\n  - name: {name}\n    image: {image}\n    \
             command: [sh, -c, '{once}; while :; do {look}; done; [ $(cat /d/count) = {UPDATES} ] && exec sleep 3600; done']\n    \
             volumeMounts: [{{name: d, mountPath: /d}}]\n",
            image = *BUSYBOX
        )
    };
    let config =
        |n: u32| format!("---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: d}}\ndata: {{count: \"{n}\"}}\n");
    let pods = ["shares", "sees-all"];
    cluster.apply(&(config(0) + &pod(pods[0], "shareProcessNamespace") + &pod(pods[1], "hostPID")));
    for name in pods {
        eventually("it has looked", SOON, || {
            let said = printed(&cluster, name);
            if said.contains("looked") { Ok(()) } else { Err(said) }
        });
    }
    // A program that writes the files anew runs beside the containers, for an instant each time.
    for n in 1..=UPDATES {
        cluster.apply(&config(n));
        for name in pods {
            until_equal("the file is new", SOON, n.to_string(), || {
                cluster.kubectl(&["exec", name, "--", "sh", "-c", "cat /d/count || :"])
            });
        }
    }
    for name in pods {
        let said = printed(&cluster, name);
        assert!(said.contains("saw a sandbox") && !said.contains("leads out"), "{name}:\n{said}");
    }
}

#[test]
fn the_data_of_a_claim_outlives_containers_and_pods_and_goes_with_the_claim() {
    let cluster = Cluster::start("claims");
    let manifest = format!(
        "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {{name: data}}\nspec:\n  accessModes: [ReadWriteOnce]\n  \
         resources: {{requests: {{storage: 1Gi}}}}\n---\n\
         apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: keeper}}\nspec:\n  strategy: {{type: Recreate}}\n  \
         selector: {{matchLabels: {{app: keeper}}}}\n  template:\n    metadata: {{labels: {{app: keeper}}}}\n    spec:\n      \
         terminationGracePeriodSeconds: 0\n      securityContext: {{runAsUser: 1000, fsGroup: 2000}}\n      \
         volumes:\n      - {{name: d, persistentVolumeClaim: {{claimName: data}}}}\n      \
         - {{name: e, ephemeral: {{volumeClaimTemplate: {{spec: {{accessModes: [ReadWriteOnce], resources: {{requests: {{storage: 1Mi}}}}}}}}}}}}\n      \
         containers:\n      - name: app\n        image: {image}\n        command: [sleep, \"3600\"]\n        volumeMounts:\n        \
         - {{name: d, mountPath: /d}}\n        - {{name: d, mountPath: /part, subPath: a/b}}\n        - {{name: e, mountPath: /e}}\n",
        image = *BUSYBOX
    );
    cluster.apply(&manifest);
    cluster.rolled_out("keeper");
    let sh = |script: &str| cluster.kubectl(&["exec", "deploy/keeper", "--", "sh", "-c", script]);
    let listed = cluster.kubectl(&["get", "pvc", "data"]);
    assert!(listed.contains("Bound") && listed.contains("1Gi") && listed.contains("standard"), "{listed}");
    sh("echo kept > /d/file; echo part > /part/file; echo gone > /e/file");
    assert_eq!(sh("cat /d/a/b/file; stat -c %g /d"), "part\n2000\n");
    let volumes = |claim: &str| {
        let label = format!("label=dev.skiff.claim=default/{claim}");
        let cluster = format!("label=dev.skiff.cluster={}", cluster.name);
        docker(&["volume", "ls", "-q", "--filter", &label, "--filter", &cluster]).lines().count()
    };
    assert_eq!(volumes("data"), 1);
    docker(&["kill", &newest(&cluster, "app")]);
    eventually("it is there after its container", SOON, || {
        let said =
            cluster.kubectl_command(&["exec", "deploy/keeper", "--", "cat", "/d/file", "/e/file"]).output().unwrap();
        if said.stdout == b"kept\ngone\n" { Ok(()) } else { Err(format!("{said:?}")) }
    });
    // A claim that a pod uses stays, whoever deletes it.
    cluster.kubectl(&["delete", "pod", "-l", "app=keeper", "--wait=true"]);
    cluster.rolled_out("keeper");
    assert_eq!(sh("cat /d/file; ls /e"), "kept\n", "what was the pod's own is gone with it");
    cluster.kubectl(&[
        "patch",
        "pvc",
        "data",
        "-p",
        "{\"spec\": {\"resources\": {\"requests\": {\"storage\": \"2Gi\"}}}}",
    ]);
    eventually("it has grown", SOON, || {
        let size = cluster.jsonpath(&["pvc", "data"], "{.status.capacity.storage}");
        if size == "2Gi" { Ok(()) } else { Err(size) }
    });
    cluster.kubectl(&["delete", "pvc", "data", "--wait=false"]);
    assert!(cluster.kubectl(&["get", "pvc", "data"]).contains("Terminating"));
    cluster.kubectl(&["delete", "deployment", "keeper", "--cascade=foreground"]);
    eventually("claims, volumes and Docker volumes are gone", SOON, || {
        let left = cluster.kubectl(&["get", "pvc,pv", "-A", "-o", "name"]);
        let docker = docker(&["volume", "ls", "-q", "--filter", &format!("label=dev.skiff.cluster={}", cluster.name)]);
        let claims: Vec<&str> = docker.lines().filter(|name| name.contains("_claim_")).collect();
        if left.is_empty() && claims.is_empty() { Ok(()) } else { Err(format!("{left} {claims:?}")) }
    });
}
