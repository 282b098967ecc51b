//! Tables: a pod and the objects around it → what its volumes hold and its containers mount.

use super::*;
use crate::base::secret::variable;
use expect_test::{Expect, expect};
use k8s_openapi::api::core::v1::{ConfigMap, Secret, Service};
use std::{fmt::Write as _, io::Read as _, path::Path, sync::Arc};

struct Objects;

impl Lookup for Objects {
    fn config_map(&self, _: &str, name: &str) -> Option<Arc<ConfigMap>> {
        (name == "cfg").then(|| Arc::new(crate::testing::from_yaml("{data: {a: one, b: two}}").unwrap()))
    }
    fn secret(&self, _: &str, name: &str) -> Option<Arc<Secret>> {
        (name == "sec").then(|| Arc::new(crate::testing::from_yaml("{data: {key: czNjcjN0}}").unwrap()))
    }
    fn services(&self, _: &str) -> Vec<Arc<Service>> {
        Vec::new()
    }
}

impl Source for Objects {
    fn token(&self, _: &Pod, _: &ServiceAccountTokenProjection) -> Result<Token, String> {
        Ok(Token { text: "jwt".into(), state: "0".into() })
    }
    fn claim(&self, _: &str, name: &str) -> Result<Claimed, String> {
        match name {
            "data" | "web-e" => Ok(Claimed::Docker { name: format!("claim_{name}"), labels: BTreeMap::new() }),
            "path" => Ok(Claimed::Host(HostPathVolumeSource { path: "/srv/data".into(), type_: None })),
            _ => Err(format!("persistentvolumeclaim {name:?} not found")),
        }
    }
}

const NODE: NodeFacts =
    NodeFacts { ip: Ipv4Addr::new(10, 0, 0, 1), cpus: 2, memory_bytes: 1 << 30, disk_bytes: 1 << 40 };

fn pod(volumes: &str) -> Pod {
    let text = format!("metadata: {{namespace: default, name: web, uid: u1, labels: {{app: web}}}}\nspec: {volumes}");
    crate::testing::from_yaml(&text).unwrap()
}

fn planned(volumes: &str) -> Result<Plan, MountError> {
    plan(&pod(volumes), "skiff", &Objects, NODE, None)
}

fn show(tar: &[u8]) -> String {
    let mut text = String::new();
    for entry in tar::Archive::new(tar).entries().unwrap() {
        let mut entry = entry.unwrap();
        let (path, header) = (entry.path().unwrap().display().to_string(), entry.header().clone());
        write!(text, "{:04o} {} {path}", header.mode().unwrap(), header.gid().unwrap()).unwrap();
        if let Some(link) = entry.link_name().unwrap() {
            write!(text, " -> {}", link.display()).unwrap();
        }
        let mut body = String::new();
        entry.read_to_string(&mut body).unwrap();
        writeln!(text, "{}{body}", if body.is_empty() { "" } else { ": " }).unwrap();
    }
    text
}

fn check(volumes: &str, want: Expect) {
    want.assert_eq(&show(&planned(volumes).unwrap().archive(Timestamp::UNIX_EPOCH).unwrap()));
}

#[test]
fn an_empty_dir_is_a_directory_that_anybody_may_write() {
    check(
        "{containers: [], volumes: [{name: d, emptyDir: {}}]}",
        expect![[r#"
            0600 0 ..directories: d 777 0 plain

        "#]],
    );
    check(
        "{containers: [], securityContext: {fsGroup: 7}, volumes: [{name: d, emptyDir: {}}]}",
        expect![[r#"
            0600 0 ..directories: d 2777 7 plain

        "#]],
    );
}

#[test]
fn files_of_config_maps_and_secrets_are_linked_through_one_name() {
    check(
        "{containers: [], volumes: [{name: c, configMap: {name: cfg}}]}",
        expect![[r#"
        0777 0 c/
        0755 0 c/..7d49f1f496bb_0/
        0644 0 c/..7d49f1f496bb_0/a: one
        0644 0 c/..7d49f1f496bb_0/b: two
        0777 0 c/..data_next -> ..7d49f1f496bb_0
    "#]],
    );
    check(
        "{containers: [], volumes: [{name: s, secret: {secretName: sec, defaultMode: 256, items: [{key: key, path: deep/er/k}]}}]}",
        expect![[r#"
            0777 0 s/
            0755 0 s/..daab0d832052_0/
            0755 0 s/..daab0d832052_0/deep/
            0755 0 s/..daab0d832052_0/deep/er/
            0400 0 s/..daab0d832052_0/deep/er/k: s3cr3t
            0777 0 s/..data_next -> ..daab0d832052_0
        "#]],
    );
}

#[test]
fn a_projected_volume_joins_its_sources() {
    let volumes = "
  containers: []
  volumes:
  - name: p
    projected:
      sources:
      - serviceAccountToken: {path: token}
      - configMap: {name: cfg, items: [{key: a, path: a.txt}]}
      - downwardAPI: {items: [{path: labels, fieldRef: {fieldPath: metadata.labels}}]}";
    check(
        &format!("\n{volumes}"),
        expect![[r#"
            0777 0 p/
            0755 0 p/..f0a8e90de256_0/
            0644 0 p/..f0a8e90de256_0/a.txt: one
            0644 0 p/..f0a8e90de256_0/labels: app="web"
            0644 0 p/..f0a8e90de256_0/token: jwt
            0777 0 p/..data_next -> ..f0a8e90de256_0
        "#]],
    );
}

#[test]
fn what_is_missing_is_named_unless_it_is_optional() {
    let error = |volume: &str| planned(&format!("{{containers: [], volumes: [{volume}]}}")).unwrap_err().to_string();
    let prefix = "MountVolume.SetUp failed for volume \"v\" : ";
    let cases = [
        ("{name: v, configMap: {name: no}}", "configmap \"no\" not found"),
        ("{name: v, secret: {secretName: no}}", "secret \"no\" not found"),
        ("{name: v, configMap: {name: cfg, items: [{key: z, path: z}]}}", "references non-existent config key: z"),
        ("{name: v, persistentVolumeClaim: {claimName: no}}", "persistentvolumeclaim \"no\" not found"),
        ("{name: v, nfs: {server: s, path: /}}", "skiff does not support this type of volume"),
    ];
    for (volume, want) in cases {
        assert_eq!(error(volume), format!("{prefix}{want}"));
    }
    assert!(planned("{containers: [], volumes: [{name: v, secret: {secretName: no, optional: true}}]}").is_ok());
}

#[test]
fn a_path_that_no_file_can_have_fails_its_volume_and_nothing_else() {
    let error = |paths: &[&str]| {
        let items: Vec<_> = paths.iter().map(|path| serde_json::json!({"key": "a", "path": path})).collect();
        let volume = serde_json::json!({"name": "v", "configMap": {"name": "cfg", "items": items}});
        planned(&format!("{{containers: [], volumes: [{volume}]}}"))
            .map(|plan| show(&plan.archive(Timestamp::UNIX_EPOCH).unwrap()))
    };
    let long = "n".repeat(256);
    let cases: [(&[&str], &str); 9] = [
        (&["a\0b"], "must not contain NUL"),
        (&["/etc/passwd"], "must be relative path"),
        (&["a/../../b"], "must not contain '..'"),
        (&["..data/x"], "must not start with '..'"),
        (&["./..data_next"], "must not start with '..'"),
        (&["."], "must name a file"),
        (&["a/b", "a"], "is both a file and a directory"),
        (&["a/b/c", "./a//b"], "is both a file and a directory"),
        (&[&long], "filenames must be less than or equal to 255 characters"),
    ];
    for (paths, want) in cases {
        let said = error(paths).unwrap_err().to_string();
        assert!(said.starts_with("MountVolume.SetUp failed for volume \"v\" : invalid path "), "{said}");
        assert!(said.ends_with(want), "{paths:?}: {said}");
    }
    assert!(error(&[&"d/".repeat(2049)]).unwrap_err().to_string().ends_with("4096 characters"));
    let shown = error(&["./a//b/./c", "x..y"]).unwrap();
    assert!(shown.contains("/a/b/c: one"), "{shown}");
}

proptest::proptest! {
    #[test]
    fn no_path_of_a_file_breaks_the_archive(paths in proptest::collection::vec("(/|\\.|\\PC|[a\\x00\n]){0,12}", 1..4)) {
        let files = paths.iter().map(|path| (path.clone(), file(0o644, Vec::new()))).collect();
        let mut tree = Tree::default();
        if tree.add_files("v", files, None).is_ok() {
            let tar = tree.to_tar(Timestamp::UNIX_EPOCH).unwrap();
            for entry in tar::Archive::new(&tar[..]).entries().unwrap() {
                let entry = entry.unwrap();
                let path = entry.path().unwrap().into_owned();
                proptest::prop_assert!(path.starts_with("v") && path.components().all(|c| c.as_os_str() != ".."), "{path:?}");
            }
        }
    }
}

#[test]
fn containers_mount_directories_paths_and_docker_volumes() {
    let pod = pod("
  volumes:
  - {name: d, emptyDir: {}}
  - {name: m, emptyDir: {medium: Memory, sizeLimit: 1Mi}}
  - {name: h, hostPath: {path: /srv}}
  - {name: c, configMap: {name: cfg}}
  - {name: p, persistentVolumeClaim: {claimName: data}}
  - {name: r, persistentVolumeClaim: {claimName: data, readOnly: true}}
  - {name: s, persistentVolumeClaim: {claimName: path}}
  - {name: e, ephemeral: {volumeClaimTemplate: {spec: {}}}}
  containers:
  - name: app
    volumeMounts:
    - {name: d, mountPath: /d}
    - {name: d, mountPath: /sub, subPath: x/y}
    - {name: d, mountPath: /expr, subPathExpr: $(NAME), readOnly: true}
    - {name: m, mountPath: /m}
    - {name: m, mountPath: /m-sub, subPath: s}
    - {name: h, mountPath: /h, readOnly: true}
    - {name: h, mountPath: /h-sub, subPath: s}
    - {name: c, mountPath: /c}
    - {name: c, mountPath: /c-sub, subPath: a}
    - {name: p, mountPath: /p}
    - {name: p, mountPath: /p-sub, subPath: s}
    - {name: r, mountPath: /r}
    - {name: s, mountPath: /s}
    - {name: e, mountPath: /e}");
    let plan = plan(&pod, "skiff", &Objects, NODE, None).unwrap();
    let spec = &pod.spec.unwrap().containers[0];
    let roots = Roots { own: "/docker/own".into(), exchange: "/docker/exchange".into() };
    let (mounts, sub_paths) =
        plan.mounts(spec, 3, &roots, &[variable("NAME", "web".into())], &BTreeMap::new()).unwrap();
    let line = |m: &Mount| format!("{} {:?}{}\n", m.target, m.source, if m.read_only { " ro" } else { "" });
    expect![[r#"
        /d Path("/docker/own/d")
        /sub Existing("/docker/exchange/app.3.0")
        /expr Existing("/docker/exchange/app.3.1") ro
        /m Volume("skiff_skiff_pod_u1_m")
        /m-sub Existing("/docker/exchange/app.3.2")
        /h Path("/srv") ro
        /h-sub Existing("/docker/exchange/app.3.3")
        /c Path("/docker/own/c") ro
        /c-sub Path("/docker/own/c/a") ro
        /p Volume("claim_data")
        /p-sub Existing("/docker/exchange/app.3.4")
        /r Volume("claim_data") ro
        /s Path("/srv/data")
        /e Volume("claim_web-e")
    "#]]
    .assert_eq(&mounts.iter().map(line).collect::<String>());
    let exchange = sub_paths::Exchange { uid: "u1", volume: "x", path: &roots.exchange };
    let helper = sub_paths.helper("skiff:1", "app", 3, &exchange);
    expect![[r#"
        /paths/d Path("/docker/own/d")
        /paths/h Path("/srv")
        /paths/m Volume("skiff_skiff_pod_u1_m")
        /paths/p Volume("claim_data")
        /held Volume("x")
        /exchange Shared("/docker/exchange")
    "#]]
    .assert_eq(&helper.mounts.iter().map(line).collect::<String>());
    let asked: sub_paths::Request = serde_json::from_str(helper.env[0].1.reveal()).unwrap();
    assert_eq!(asked.replaces, "app.");
    let binds: Vec<_> = asked.binds.iter().map(|b| (b.volume.as_str(), b.path.as_str(), b.name.as_str())).collect();
    assert_eq!(binds[..2], [("/paths/d", "x/y", "app.3.0"), ("/paths/d", "web", "app.3.1")]);
    assert_eq!(
        (helper.cap_drop, helper.cap_add),
        (vec!["ALL".into()], vec!["DAC_OVERRIDE".into(), "SYS_ADMIN".into()])
    );
    assert_eq!(
        sub_paths.refusal("app", "refused 0 \"y\" is a symbolic link").unwrap().to_string(),
        "failed to prepare subPath for volumeMount \"d\" of container \"app\": subPath \"x/y\": \"y\" is a symbolic link"
    );
    assert_eq!(
        sub_paths.refusal("app", "refused 1 \"web\" is a symbolic link").unwrap().to_string(),
        "failed to prepare subPath for volumeMount \"d\" of container \"app\": subPath \"$(NAME)\": is a symbolic link",
        "a value of the environment is not told"
    );
    assert!(sub_paths.refusal("app", "ready").is_none() && sub_paths.refusal("app", "refused 9 x").is_none());
    let memory = MemoryVolume { bytes_max: Some(1 << 20), mode: 0o777, group: None };
    assert_eq!(plan.memory, [("skiff_skiff_pod_u1_m".to_owned(), memory)]);
    expect![[r#"
        /volumes Volume("skiff_skiff_pod_u1")
        /memory/skiff_skiff_pod_u1_m Volume("skiff_skiff_pod_u1_m")
        /claims/p Volume("claim_data")
        /claims/r Volume("claim_data")
        /claims/e Volume("claim_web-e")
        /exchange Volume("skiff_skiff_pod_u1_sub.paths")
    "#]]
    .assert_eq(&plan.sandbox_mounts("skiff", "u1").iter().map(line).collect::<String>());
}

#[test]
fn secrets_and_tokens_are_in_memory_and_never_printed() {
    let pod = pod("
  volumes:
  - {name: s, secret: {secretName: sec}}
  - {name: t, projected: {sources: [{configMap: {name: cfg}}, {serviceAccountToken: {path: token}}]}}
  - {name: p, projected: {sources: [{secret: {name: sec}}]}}
  - {name: c, projected: {sources: [{configMap: {name: cfg}}]}}
  containers:
  - name: app
    volumeMounts:
    - {name: s, mountPath: /s}
    - {name: s, mountPath: /key, subPath: key}
    - {name: t, mountPath: /t}
    - {name: c, mountPath: /c}");
    let plan = plan(&pod, "skiff", &Objects, NODE, None).unwrap();
    assert!(plan.has_secrets());
    let roots = Roots { own: "/docker/volumes/skiff_skiff_pod_u1/_data".into(), ..Roots::default() };
    let (mounts, _) = plan.mounts(&pod.spec.unwrap().containers[0], 0, &roots, &[], &BTreeMap::new()).unwrap();
    let line = |m: &Mount| format!("{} {:?}{}\n", m.target, m.source, if m.read_only { " ro" } else { "" });
    expect![[r#"
        /s Volume("skiff_skiff_pod_u1_s") ro
        /key Path("/docker/volumes/skiff_skiff_pod_u1_s/_data/key") ro
        /t Volume("skiff_skiff_pod_u1_t") ro
        /c Path("/docker/volumes/skiff_skiff_pod_u1/_data/c") ro
    "#]]
    .assert_eq(&mounts.iter().map(line).collect::<String>());
    expect![[r#"
        /volumes Volume("skiff_skiff_pod_u1")
        /volumes/p Volume("skiff_skiff_pod_u1_p")
        /volumes/s Volume("skiff_skiff_pod_u1_s")
        /volumes/t Volume("skiff_skiff_pod_u1_t")
    "#]]
    .assert_eq(&plan.sandbox_mounts("skiff", "u1").iter().map(line).collect::<String>());
    let printed = format!("{plan:?}");
    assert!(!printed.contains("jwt") && !printed.contains("s3cr3t") && !printed.contains("115, 51"), "{printed}");
}

#[test]
fn the_files_of_a_pod_are_no_more_than_their_bound() {
    let error = |volumes: &[String]| {
        planned(&format!("{{containers: [], volumes: [{}]}}", volumes.join(", "))).unwrap_err().to_string()
    };
    let items = |n: usize| (0..n).map(|i| format!("{{key: a, path: p{i}}}")).collect::<Vec<_>>().join(", ");
    let one = |name: &str, n: usize| format!("{{name: {name}, configMap: {{name: cfg, items: [{}]}}}}", items(n));
    let want = "the files of the pod's volumes may not take more than 67108864 bytes";
    assert!(error(&[one("v", 70_000)]).ends_with(want));
    let many: Vec<String> = (0..20).map(|i| one(&format!("v{i}"), 4_000)).collect();
    assert!(error(&many).ends_with(want));
    let fields: Vec<String> =
        (0..70_000).map(|i| format!("{{path: p{i}, fieldRef: {{fieldPath: metadata.labels}}}}")).collect();
    assert!(error(&[format!("{{name: v, downwardAPI: {{items: [{}]}}}}", fields.join(", "))]).ends_with(want));
}

#[test]
fn a_sub_path_stays_inside_its_volume() {
    let pod = pod(
        "{volumes: [{name: d, emptyDir: {}}], containers: [{name: a, volumeMounts: [{name: d, mountPath: /d, subPathExpr: a/$(V)/b}]}]}",
    );
    let plan = plan(&pod, "skiff", &Objects, NODE, None).unwrap();
    let spec = pod.spec.unwrap().containers.remove(0);
    let with = |value: &str| plan.mounts(&spec, 0, &Roots::default(), &[variable("V", value.into())], &BTreeMap::new());
    assert!(with("x").is_ok());
    for value in ["..", "../..", "x/../../.."] {
        assert!(with(value).is_err(), "{value}");
    }
}

#[test]
fn host_paths_with_a_type_are_looked_at_and_must_be_there() {
    let types = ["", "Directory", "FileOrCreate", "Socket"];
    let volumes: Vec<String> =
        types.iter().map(|kind| format!("{{name: v{kind}, hostPath: {{path: /p, type: '{kind}'}}}}")).collect();
    let mounts: Vec<String> = types.iter().map(|kind| format!("{{name: v{kind}, mountPath: /m}}")).collect();
    let pod = pod(&format!(
        "{{volumes: [{}], containers: [{{name: a, volumeMounts: [{}]}}]}}",
        volumes.join(","),
        mounts.join(",")
    ));
    let plan = plan(&pod, "skiff", &Objects, NODE, None).unwrap();
    let (mounts, _) =
        plan.mounts(&pod.spec.unwrap().containers[0], 0, &Roots::default(), &[], &BTreeMap::new()).unwrap();
    let sources: Vec<MountSource> = mounts.into_iter().map(|mount| mount.source).collect();
    let there = MountSource::Existing("/p".into());
    assert_eq!(sources, [MountSource::Path("/p".into()), there.clone(), there.clone(), there]);
    let helper = plan.host_paths.helper("u1", "skiff:1");
    expect![[
        r#"[{"path":"/p","kind":"Directory"},{"path":"/p","kind":"FileOrCreate"},{"path":"/p","kind":"Socket"}]"#
    ]]
    .assert_eq(helper.env[0].1.reveal());
    assert!(!helper.mounts[0].read_only, "one of them may be made");
    assert_eq!(helper.cap_add, ["DAC_OVERRIDE", "SYS_CHROOT", "LEASE"]);
    let refusal = plan.host_paths.refusal("refused 2 hostPath type check failed: /p is not a socket file").unwrap();
    assert_eq!(
        refusal.to_string(),
        "MountVolume.SetUp failed for volume \"vSocket\" : hostPath type check failed: /p is not a socket file"
    );
    assert!(planned("{containers: [], volumes: [{name: v, hostPath: {path: /p}}]}").unwrap().host_paths.is_empty());
}

#[test]
fn only_parts_of_what_containers_write_need_to_be_looked_for() {
    let needs = |mount: &str| {
        let pod = pod(&format!(
            "{{volumes: [{{name: d, emptyDir: {{}}}}, {{name: c, configMap: {{name: cfg}}}}], containers: [{{name: a, volumeMounts: [{mount}]}}]}}"
        ));
        needs_binding(&pod, &pod.spec.as_ref().unwrap().containers[0])
    };
    assert!(needs("{name: d, mountPath: /d, subPath: x}") && needs("{name: d, mountPath: /d, subPathExpr: $(X)}"));
    assert!(!needs("{name: d, mountPath: /d, subPath: ''}") && !needs("{name: c, mountPath: /d, subPath: x}"));
}

#[test]
fn the_hash_follows_the_contents() {
    let hash = |volumes: &str| planned(volumes).unwrap().hash();
    let one = "{containers: [], volumes: [{name: c, configMap: {name: cfg}}]}";
    let other = "{containers: [], volumes: [{name: c, configMap: {name: cfg, items: [{key: a, path: a}]}}]}";
    assert_eq!(hash(one), hash(one));
    assert_ne!(hash(one), hash(other));
    assert_eq!(hash("{containers: []}"), "");
}

/// What writes the files of a volume `c`, one writing a second, and tells how many volumes changed.
fn writing(root: &Path) -> impl FnMut(&str) -> usize {
    let mut second = 0;
    move |items| {
        second += 1;
        let volumes = format!("{{containers: [], volumes: [{{name: c, configMap: {{name: cfg, items: [{items}]}}}}]}}");
        let archive = planned(&volumes).unwrap().archive(Timestamp::from_second(second).unwrap()).unwrap();
        for entry in tar::Archive::new(&archive[..]).entries().unwrap() {
            let mut entry = entry.unwrap();
            let path = root.join(entry.path().unwrap());
            let is_volume = path == root.join("c");
            assert!(is_volume || path.symlink_metadata().is_err(), "{} would be there twice", path.display());
            entry.unpack_in(root).unwrap();
        }
        publish_all(root, root).unwrap()
    }
}

#[test]
fn publishing_shows_the_new_files_and_removes_the_old() {
    let root = tempfile::tempdir().unwrap();
    let mut write = writing(root.path());
    assert_eq!(write("{key: a, path: x}, {key: b, path: y}"), 1);
    let read = |name: &str| std::fs::read_to_string(root.path().join("c").join(name));
    assert_eq!((read("x").unwrap(), read("y").unwrap()), ("one".into(), "two".into()));
    assert_eq!(write("{key: b, path: x}"), 1);
    assert_eq!(read("x").unwrap(), "two");
    assert!(read("y").is_err());
    assert_eq!(publish_all(root.path(), root.path()).unwrap(), 0);
    let names = std::fs::read_dir(root.path().join("c")).unwrap().count();
    assert_eq!(names, 3, "one state, ..data and x");
    assert_eq!(write("{key: b, path: x}, {key: a, path: z/z}"), 1);
    assert_eq!(read("z/z").unwrap(), "one");
}

#[test]
fn the_same_files_stay_as_they_are_when_others_are_written() {
    let root = tempfile::tempdir().unwrap();
    let mut write = writing(root.path());
    assert_eq!(write("{key: a, path: x}"), 1);
    let file = || std::fs::canonicalize(root.path().join("c/x")).unwrap();
    let first = file();
    assert_eq!(write("{key: a, path: x}"), 0);
    assert_eq!(file(), first);
    assert_eq!(std::fs::read_dir(root.path().join("c")).unwrap().count(), 3);
    // A sandbox that ended before it had made the link.
    std::fs::remove_file(root.path().join("c/x")).unwrap();
    assert_eq!(write("{key: a, path: x}"), 0);
    assert_eq!(file(), first);
}

#[test]
fn a_writing_that_was_never_shown_is_not_mixed_with_the_next() {
    let root = tempfile::tempdir().unwrap();
    let mut write = writing(root.path());
    write("{key: a, path: x}");
    let volume = root.path().join("c");
    std::fs::create_dir(volume.join("..lost_1")).unwrap();
    std::fs::write(volume.join("..lost_1/y"), "lost").unwrap();
    assert_eq!(write("{key: b, path: x}"), 1);
    assert!(!volume.join("y").exists() && !volume.join("..lost_1").exists());
}

#[test]
fn a_directory_that_containers_write_is_made_once_and_what_they_did_to_it_stands() {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
    let root = tempfile::tempdir().unwrap();
    let own = root.path().metadata().unwrap().gid();
    let mut tree = Tree::default();
    tree.add_directory("scratch", 0o2777, Some(own.into()));
    let write = || {
        tar::Archive::new(&tree.to_tar(Timestamp::UNIX_EPOCH).unwrap()[..]).unpack(root.path()).unwrap();
        assert_eq!(publish_all(root.path(), root.path()).unwrap(), 0);
    };
    let scratch = root.path().join("scratch");
    // A sandbox that ended in between.
    std::fs::create_dir(root.path().join("..scratch")).unwrap();
    write();
    let mode = || scratch.metadata().unwrap().mode() & 0o7777;
    assert_eq!((mode(), scratch.metadata().unwrap().gid()), (0o2777, own));
    std::fs::set_permissions(&scratch, std::fs::Permissions::from_mode(0o700)).unwrap();
    std::fs::write(scratch.join("kept"), "").unwrap();
    write();
    assert_eq!((mode(), scratch.join("kept").exists()), (0o700, true));
    assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 1, "nothing else is left");
}

#[test]
fn a_claims_volume_is_anybodys_when_it_is_new_and_a_groups_when_the_pod_has_one() {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
    let root = tempfile::tempdir().unwrap();
    let claims = tempfile::tempdir().unwrap();
    let volume = claims.path().join("data");
    std::fs::create_dir(&volume).unwrap();
    std::fs::set_permissions(&volume, std::fs::Permissions::from_mode(0o755)).unwrap();
    let take = |group: Option<i64>, always| {
        let mut tree = Tree::default();
        tree.add_claim("data", group, always);
        tar::Archive::new(&tree.to_tar(Timestamp::UNIX_EPOCH).unwrap()[..]).unpack(root.path()).unwrap();
        assert_eq!(publish_all(root.path(), claims.path()).unwrap(), 0);
    };
    let is = |path: &str| {
        let found = volume.join(path).metadata().unwrap();
        (found.mode() & 0o7777, found.gid())
    };
    let own = volume.metadata().unwrap().gid();
    take(None, true);
    // Only root makes directories of nobody else's.
    let opened = if own == 0 { 0o777 } else { 0o755 };
    assert_eq!(is(""), (opened, own));
    if own != 0 {
        return;
    }
    std::fs::create_dir(volume.join("d")).unwrap();
    std::fs::write(volume.join("d/f"), "").unwrap();
    std::os::unix::fs::symlink("/etc/passwd", volume.join("link")).unwrap();
    std::fs::set_permissions(volume.join("d/f"), std::fs::Permissions::from_mode(0o600)).unwrap();
    take(Some(1001), false);
    assert_eq!((is(""), is("d/f")), ((0o2777, 1001), (0o660, 1001)));
    assert_eq!(std::fs::metadata("/etc/passwd").unwrap().gid(), 0, "no link is followed");
    // Its root is the group's: what is below is left as it is, unless all of it is to be given each time.
    std::os::unix::fs::chown(volume.join("d/f"), None, Some(7)).unwrap();
    take(Some(1001), false);
    assert_eq!(is("d/f").1, 7);
    take(Some(1001), true);
    assert_eq!(is("d/f").1, 1001);
}
