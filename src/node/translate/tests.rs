//! Tables: pods in YAML → specifications, environments and files.

use super::*;
use crate::{engine::CLUSTER_LABEL, node::identity::spec_hash};
use expect_test::{Expect, expect};
use k8s_openapi::api::core::v1::{ConfigMap, Secret, Service};
use std::sync::Arc;

#[derive(Default)]
struct Objects {
    /// What `COLOR` is when it is not blue.
    colour: String,
    services: Vec<(String, Arc<Service>)>,
}

impl Lookup for Objects {
    fn config_map(&self, _: &str, name: &str) -> Option<Arc<ConfigMap>> {
        let colour = if self.colour.is_empty() { "blue" } else { &self.colour };
        let text = format!("{{data: {{COLOR: {colour}, SIZE: big}}}}");
        (name == "cfg").then(|| Arc::new(crate::testing::from_yaml(&text).unwrap()))
    }
    fn secret(&self, _: &str, name: &str) -> Option<Arc<Secret>> {
        (name == "sec").then(|| Arc::new(crate::testing::from_yaml("{data: {PASSWORD: czNjcjN0}}").unwrap()))
    }
    fn services(&self, namespace: &str) -> Vec<Arc<Service>> {
        self.services.iter().filter(|(n, _)| n == namespace).map(|(_, s)| Arc::clone(s)).collect()
    }
}

const NODE: NodeFacts =
    NodeFacts { ip: Ipv4Addr::new(192, 168, 0, 1), cpus: 2, memory_bytes: 1 << 30, disk_bytes: 1 << 40 };

fn config() -> NodeConfig {
    NodeConfig::for_test()
}

fn pod(yaml: &str) -> Pod {
    let meta = "metadata: {namespace: default, name: web-1, uid: u1, labels: {app: web}, annotations: {a/b: note}}\n";
    crate::testing::from_yaml(&format!("{meta}{yaml}")).unwrap()
}

fn env_of(yaml: &str, objects: &Objects) -> Result<String, ConfigError> {
    let pod = pod(yaml);
    let spec = pod.spec.as_ref().unwrap().containers.last().unwrap();
    let env = environment(&pod, spec, objects, NODE, Some(Ipv4Addr::new(10, 244, 0, 7)))?;
    Ok(env.into_iter().map(|(name, value)| format!("{name}={}\n", value.reveal())).collect())
}

fn check_env(yaml: &str, want: Expect) {
    want.assert_eq(&env_of(yaml, &Objects::default()).unwrap());
}

#[test]
fn variables_come_from_values_objects_and_fields() {
    check_env(
        "
spec:
  nodeName: node
  serviceAccountName: robot
  containers:
  - name: app
    resources: {limits: {memory: 64Mi}, requests: {cpu: 250m}}
    envFrom: [{prefix: C_, configMapRef: {name: cfg}}, {secretRef: {name: no, optional: true}}]
    env:
    - {name: PLAIN, value: x}
    - {name: BOTH, value: '$(PLAIN)-$(C_COLOR)-$(NOPE)-$$(PLAIN)'}
    - {name: C_SIZE, value: small}
    - {name: KEY, valueFrom: {configMapKeyRef: {name: cfg, key: COLOR}}}
    - {name: SECRET, valueFrom: {secretKeyRef: {name: sec, key: PASSWORD}}}
    - {name: MAYBE, valueFrom: {configMapKeyRef: {name: no, key: K, optional: true}}}
    - {name: POD, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
    - {name: NOTE, valueFrom: {fieldRef: {fieldPath: \"metadata.annotations['a/b']\"}}}
    - {name: IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
    - {name: NODE, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}
    - {name: SA, valueFrom: {fieldRef: {fieldPath: spec.serviceAccountName}}}
    - {name: MEMORY, valueFrom: {resourceFieldRef: {resource: limits.memory, divisor: 1Mi}}}
    - {name: CPUS, valueFrom: {resourceFieldRef: {resource: limits.cpu}}}
    - {name: MILLI, valueFrom: {resourceFieldRef: {resource: requests.cpu, divisor: 1m}}}",
        expect![[r#"
            C_COLOR=blue
            C_SIZE=small
            PLAIN=x
            BOTH=x-blue-$(NOPE)-$(PLAIN)
            KEY=blue
            SECRET=s3cr3t
            POD=web-1
            NOTE=note
            IP=10.244.0.7
            NODE=node
            SA=robot
            MEMORY=64
            CPUS=2
            MILLI=250
        "#]],
    );
}

#[test]
fn what_a_variable_names_and_is_not_there_is_said_in_the_kubelets_words() {
    let error = |source: &str| {
        let yaml = format!("spec: {{containers: [{{name: app, env: [{{name: X, valueFrom: {{{source}}}}}]}}]}}");
        env_of(&yaml, &Objects::default()).unwrap_err().to_string()
    };
    let cases = [
        ("configMapKeyRef: {name: no, key: k}", "configmap \"no\" not found"),
        ("secretKeyRef: {name: no, key: k}", "secret \"no\" not found"),
        ("configMapKeyRef: {name: cfg, key: k}", "couldn't find key k in ConfigMap default/cfg"),
        ("secretKeyRef: {name: sec, key: k}", "couldn't find key k in Secret default/sec"),
        ("fieldRef: {fieldPath: spec.color}", "unsupported fieldPath: spec.color"),
    ];
    for (source, want) in cases {
        assert_eq!(error(source), want);
    }
}

fn services() -> Objects {
    let service =
        |namespace: &str, yaml: &str| (namespace.to_owned(), Arc::new(crate::testing::from_yaml(yaml).unwrap()));
    Objects {
        services: vec![
            service(
                "default",
                "{metadata: {name: kubernetes}, spec: {clusterIP: 10.245.0.1, ports: [{name: https, port: 443}]}}",
            ),
            service("default", "{metadata: {name: my-db}, spec: {clusterIP: 10.245.0.9, ports: [{port: 5432}]}}"),
            service("default", "{metadata: {name: headless}, spec: {clusterIP: None, ports: [{port: 1}]}}"),
            service("other", "{metadata: {name: kubernetes}, spec: {clusterIP: 10.245.0.66, ports: [{port: 1}]}}"),
        ],
        ..Objects::default()
    }
}

#[test]
fn services_show_as_variables() {
    expect![[r#"
        KUBERNETES_SERVICE_HOST=10.245.0.1
        KUBERNETES_SERVICE_PORT=443
        KUBERNETES_SERVICE_PORT_HTTPS=443
        KUBERNETES_PORT=tcp://10.245.0.1:443
        KUBERNETES_PORT_443_TCP=tcp://10.245.0.1:443
        KUBERNETES_PORT_443_TCP_PROTO=tcp
        KUBERNETES_PORT_443_TCP_PORT=443
        KUBERNETES_PORT_443_TCP_ADDR=10.245.0.1
        MY_DB_SERVICE_HOST=10.245.0.9
        MY_DB_SERVICE_PORT=5432
        MY_DB_PORT=tcp://10.245.0.9:5432
        MY_DB_PORT_5432_TCP=tcp://10.245.0.9:5432
        MY_DB_PORT_5432_TCP_PROTO=tcp
        MY_DB_PORT_5432_TCP_PORT=5432
        MY_DB_PORT_5432_TCP_ADDR=10.245.0.9
    "#]]
    .assert_eq(&env_of("spec: {containers: [{name: app}]}", &services()).unwrap());
}

#[test]
fn without_service_links_only_the_api_shows() {
    let text = env_of("spec: {enableServiceLinks: false, containers: [{name: app}]}", &services()).unwrap();
    assert!(text.contains("KUBERNETES_SERVICE_HOST=10.245.0.1\n"), "{text}");
    assert!(!text.contains("MY_DB"), "{text}");
}

/// Variables of which each is twice the one before.
fn doubling(n: usize) -> String {
    let doubled = (1..n).map(|i| format!("{{name: A{i}, value: '$(A{})$(A{})'}}", i - 1, i - 1));
    ["{name: A0, value: xy}".to_owned()].into_iter().chain(doubled).collect::<Vec<_>>().join(", ")
}

/// Asserts that an environment is refused because of a field, at once and without taking memory for it.
fn check_too_long(container: &str, objects: &Objects, field: &str) {
    let error = env_of(&format!("spec: {{containers: [{{name: other}}, {{name: app, {container}}}]}}"), objects);
    let text = error.unwrap_err().to_string();
    assert!(text.starts_with(&format!("{field}: Too long: ")), "{text:.200}");
}

#[test]
fn an_environment_that_no_program_can_be_given_is_refused_with_its_field() {
    let objects = Objects::default();
    check_too_long(&format!("env: [{}]", doubling(32)), &objects, "spec.containers[1].env[16].value");
    let word = format!("{{name: X, value: {}}}", "x".repeat(128 << 10));
    check_too_long(&format!("env: [{word}]"), &objects, "spec.containers[1].env[0].value");
    // Each as long as it may be, and too many.
    let many: Vec<String> = (0..40).map(|i| format!("{{name: V{i}, value: {}}}", "x".repeat(60_000))).collect();
    check_too_long(&format!("env: [{}]", many.join(", ")), &objects, "spec.containers[1].env[32].value");
    // One ConfigMap under one prefix after the other, and again and again under one.
    let big = Objects { colour: "x".repeat(100_000), ..Objects::default() };
    let sources = |prefix: &dyn Fn(usize) -> String| {
        let all: Vec<String> =
            (0..400).map(|i| format!("{{prefix: {}, configMapRef: {{name: cfg}}}}", prefix(i))).collect();
        format!("envFrom: [{}]", all.join(", "))
    };
    check_too_long(&sources(&|i| format!("P{i}_")), &big, "spec.containers[1].envFrom[19]");
    check_too_long(&sources(&|_| "P_".to_owned()), &big, "spec.containers[1].envFrom[167]");
    let from = "env: [{name: X, valueFrom: {configMapKeyRef: {name: cfg, key: COLOR}}}]";
    let huge = Objects { colour: "x".repeat(140_000), ..Objects::default() };
    check_too_long(from, &huge, "spec.containers[1].env[0].valueFrom");
    let service = |i: usize| {
        let yaml = format!("{{metadata: {{name: s{i}}}, spec: {{clusterIP: 10.245.0.9, ports: [{{port: 80}}]}}}}");
        ("default".to_owned(), Arc::new(crate::testing::from_yaml(&yaml).unwrap()))
    };
    let crowd = Objects { services: (0..10_000).map(service).collect(), ..Objects::default() };
    check_too_long("image: web", &crowd, "spec.enableServiceLinks");
}

#[test]
fn an_environment_that_a_program_can_be_given_is_made() {
    let yaml = format!("spec: {{containers: [{{name: app, env: [{}]}}]}}", doubling(16));
    assert_eq!(env_of(&yaml, &Objects::default()).unwrap().lines().last().unwrap().len(), "A15=".len() + (2 << 15));
}

#[test]
fn commands_and_arguments_are_no_longer_than_a_program_can_take() {
    let who = "x".repeat(100_000);
    let refused = |container: &str| {
        let yaml = format!("spec: {{containers: [{{name: app, {container}}}]}}");
        spec_with(&yaml, &Image::default(), &who).unwrap_err().to_string()
    };
    assert!(refused("command: [a, '$(WHO)$(WHO)']").starts_with("spec.containers[0].command[1]: Too long: "));
    assert!(refused("args: ['$(WHO)$(WHO)']").starts_with("spec.containers[0].args[0]: Too long: "));
    let many = vec!["'$(WHO)'"; 40].join(", ");
    assert!(refused(&format!("args: [{many}]")).starts_with("spec.containers[0].args[18]: Too long: "));
}

fn spec_of(yaml: &str, image: &Image) -> Result<ContainerSpec, ConfigError> {
    spec_with(yaml, image, "you")
}

/// A container's specification, where the variable `WHO` has this value.
fn spec_with(yaml: &str, image: &Image, who: &str) -> Result<ContainerSpec, ConfigError> {
    let pod = pod(yaml);
    let spec = pod.spec.as_ref().unwrap().containers[0].clone();
    let identity = Identity {
        pod: PodId::of(&pod),
        container: spec.name.clone(),
        attempt: 2,
        sandbox: 1,
        failures: 0,
        hash: spec_hash(&spec),
        volumes: String::new(),
    };
    let env = [variable("WHO", who.to_owned())];
    let sandbox = sandbox_name(&pod, 1);
    let from = Ingredients {
        identity: &identity,
        sandbox: &sandbox,
        image,
        image_reference: "web:1",
        env: &env,
        mounts: &[],
        pid_of: None,
        seccomp: seccomp_file(pod.spec.as_ref().unwrap(), &spec).map(|file| if file == "p.json" { "{}" } else { "?" }),
    };
    container_spec(&pod, &spec, &config(), from)
}

#[test]
fn a_container_joins_its_sandbox() {
    let spec = spec_of("spec: {containers: [{name: app, image: 'web:1'}]}", &Image::default()).unwrap();
    assert_eq!(spec.name, "k8s_app_web-1_default_u1_2");
    assert_eq!(spec.network, Some(NetworkMode::Container("k8s_POD_web-1_default_u1_1".into())));
    assert_eq!(spec.ipc, NamespaceMode::Container("k8s_POD_web-1_default_u1_1".into()));
    assert_eq!(spec.pid, NamespaceMode::Private);
    assert_eq!(spec.labels[CLUSTER_LABEL], "skiff");
    assert_eq!((spec.memory_bytes, spec.nano_cpus, spec.cpu_shares), (None, None, Some(2)));
}

#[test]
fn pods_weigh_among_themselves_and_what_serves_the_cluster_as_any_program() {
    let of = |priority: i32, resources: &str| {
        let yaml = format!("spec: {{priority: {priority}, containers: [{{name: app, resources: {resources}}}]}}");
        let spec = spec_of(&yaml, &Image::default()).unwrap();
        (spec.cgroup_parent, spec.cpu_shares.unwrap())
    };
    assert_eq!(of(0, "{}"), ("/skiff".to_owned(), 2));
    assert_eq!(of(1_000_000_000, "{requests: {cpu: 100m}}"), ("/skiff".to_owned(), 102));
    assert_eq!(of(2_000_001_000, "{}"), (String::new(), 1024));
    assert_eq!(of(2_000_000_000, "{requests: {cpu: 2}}"), (String::new(), 2048));
}

#[test]
fn commands_and_arguments_expand_variables() {
    let yaml = "spec: {containers: [{name: app, command: [echo], args: ['hi $(WHO)', '$(NOBODY)']}]}";
    let spec = spec_of(yaml, &Image::default()).unwrap();
    assert_eq!(spec.entrypoint, ["echo"]);
    assert_eq!(spec.command, ["hi you", "$(NOBODY)"]);
}

#[test]
fn limits_and_requests_become_the_engines() {
    let resources = |text: &str| {
        let yaml = format!("spec: {{containers: [{{name: app, resources: {text}}}]}}");
        let spec = spec_of(&yaml, &Image::default()).unwrap();
        (spec.memory_bytes, spec.nano_cpus, spec.cpu_shares)
    };
    assert_eq!(resources("{limits: {cpu: 1500m, memory: 64Mi}}"), (Some(64 << 20), Some(1_500_000_000), Some(1536)));
    assert_eq!(resources("{limits: {cpu: 2}, requests: {cpu: 100m}}"), (None, Some(2_000_000_000), Some(102)));
    assert_eq!(resources("{requests: {cpu: 1m}}"), (None, None, Some(2)));
}

#[test]
fn a_container_stays_within_what_its_pod_as_a_whole_has() {
    let resources = |whole: &str, own: &str, other: &str| {
        let yaml = format!(
            "spec: {{resources: {whole}, containers: [{{name: app, resources: {own}}}, {{name: b, resources: {other}}}]}}"
        );
        let spec = spec_of(&yaml, &Image::default()).unwrap();
        (spec.memory_bytes, spec.nano_cpus, spec.cpu_shares)
    };
    let whole = "{requests: {cpu: '1'}, limits: {cpu: '2', memory: 64Mi}}";
    assert_eq!(resources(whole, "{}", "{}"), (Some(64 << 20), Some(2_000_000_000), Some(512)));
    assert_eq!(resources(whole, "{}", "{requests: {cpu: 250m}}"), (Some(64 << 20), Some(2_000_000_000), Some(768)));
    assert_eq!(
        resources(whole, "{requests: {cpu: 100m}, limits: {memory: 32Mi}}", "{}"),
        (Some(32 << 20), Some(2_000_000_000), Some(102))
    );
}

#[test]
fn a_security_context_says_who_and_with_what_rights() {
    let yaml = "
spec:
  securityContext: {runAsUser: 5, fsGroup: 7, supplementalGroups: [8], seccompProfile: {type: Unconfined}}
  shareProcessNamespace: true
  containers:
  - name: app
    securityContext:
      runAsGroup: 6
      allowPrivilegeEscalation: false
      readOnlyRootFilesystem: true
      capabilities: {add: [NET_ADMIN], drop: [ALL]}";
    let spec = spec_of(yaml, &Image::default()).unwrap();
    assert_eq!((spec.user.as_str(), spec.groups.as_slice()), ("5:6", &[8, 7][..]));
    assert!(spec.no_new_privileges && spec.read_only_root && !spec.privileged);
    assert_eq!((spec.cap_add, spec.cap_drop), (vec!["NET_ADMIN".to_owned()], vec!["ALL".to_owned()]));
    assert_eq!(spec.security_options, ["seccomp=unconfined"]);
    assert_eq!(spec.pid, NamespaceMode::Container("k8s_POD_web-1_default_u1_1".into()));
}

#[test]
fn profiles_are_the_containers_own_or_the_pods() {
    let options = |pod: &str, own: &str| {
        let context = format!("securityContext: {{{own}}}");
        let yaml = format!("spec: {{securityContext: {{{pod}}}, containers: [{{name: app, {context}}}]}}");
        spec_of(&yaml, &Image::default()).map(|spec| spec.security_options).map_err(|error| error.to_string())
    };
    let file = "seccompProfile: {type: Localhost, localhostProfile: p.json}";
    assert_eq!(options(file, "").unwrap(), ["seccomp={}"]);
    assert_eq!(options("seccompProfile: {type: Unconfined}", file).unwrap(), ["seccomp={}"]);
    assert_eq!(options(file, "seccompProfile: {type: RuntimeDefault}").unwrap(), [""; 0]);
    let app_armor = options("", "appArmorProfile: {type: Localhost, localhostProfile: mine}");
    assert_eq!(app_armor.unwrap_err(), "Cannot enforce AppArmor: AppArmor is not enabled on the host");
    assert_eq!(options("", "appArmorProfile: {type: Unconfined}").unwrap(), ["apparmor=unconfined"]);
}

#[test]
fn a_container_that_must_not_be_root_is_refused_when_it_would_be() {
    let refused = |context: &str, user: &str| {
        let yaml = format!("spec: {{containers: [{{name: app, securityContext: {context}}}]}}");
        let image = Image { user: user.into(), ..Image::default() };
        spec_of(&yaml, &image).err().map(|e| e.to_string())
    };
    let who = "(pod: \"web-1_default(u1)\", container: app)";
    let root = Some(format!("container has runAsNonRoot and image will run as root {who}"));
    assert_eq!(refused("{runAsNonRoot: true}", ""), root);
    assert_eq!(refused("{runAsNonRoot: true}", "0:0"), root);
    assert_eq!(refused("{runAsNonRoot: true}", "1000"), None);
    assert_eq!(refused("{runAsNonRoot: true, runAsUser: 5}", ""), None);
    let breaks = Some(format!("container's runAsUser breaks non-root policy {who}"));
    assert_eq!(refused("{runAsNonRoot: true, runAsUser: 0}", ""), breaks);
    let name = format!(
        "container has runAsNonRoot and image has non-numeric user (www), cannot verify user is non-root {who}"
    );
    assert_eq!(refused("{runAsNonRoot: true}", "www"), Some(name));
}

fn sandbox_of(yaml: &str) -> Result<ContainerSpec, ConfigError> {
    let pod = pod(yaml);
    let identity = Identity::sandbox(PodId::of(&pod), 0, String::new());
    sandbox_spec(&pod, &config(), &identity, "skiff:1", None, Vec::new())
}

fn file(spec: &ContainerSpec, name: &str) -> String {
    spec.env.iter().find(|(n, _)| n == name).map(|(_, v)| v.reveal().clone()).unwrap_or_default()
}

#[test]
fn a_sandbox_owns_the_pods_network_and_names() {
    let spec = sandbox_of("spec: {containers: []}").unwrap();
    assert_eq!(spec.network, Some(NetworkMode::Bridge("skiff".into())));
    assert_eq!((spec.hostname.as_str(), &spec.ipc), ("web-1", &NamespaceMode::Shareable));
    expect![[r#"
        search default.svc.cluster.local svc.cluster.local cluster.local
        nameserver 10.245.0.10
        options ndots:5
    "#]]
    .assert_eq(&file(&spec, RESOLV_CONF));
    expect![[r#"
        # Kubernetes-managed hosts file.
        127.0.0.1	localhost
        ::1	localhost ip6-localhost ip6-loopback
        fe00::0	ip6-localnet
        fe00::0	ip6-mcastprefix
        fe00::1	ip6-allnodes
        fe00::2	ip6-allrouters
        ${POD_IP}	web-1
    "#]]
    .assert_eq(&file(&spec, ETC_HOSTS));
}

#[test]
fn names_and_aliases_show_in_the_hosts_file() {
    let yaml = "
spec: {hostname: db, subdomain: sql, containers: [], hostAliases: [{ip: 1.2.3.4, hostnames: [a, b]}]}";
    let spec = sandbox_of(yaml).unwrap();
    assert_eq!(spec.hostname, "db");
    expect![[r#"
        # Kubernetes-managed hosts file.
        127.0.0.1	localhost
        ::1	localhost ip6-localhost ip6-loopback
        fe00::0	ip6-localnet
        fe00::0	ip6-mcastprefix
        fe00::1	ip6-allnodes
        fe00::2	ip6-allrouters
        ${POD_IP}	db.sql.default.svc.cluster.local	db

        # Entries added by HostAliases.
        1.2.3.4	a	b
    "#]]
    .assert_eq(&file(&spec, ETC_HOSTS));
}

#[test]
fn a_pod_on_the_hosts_network_sees_the_hosts_names() {
    let spec = sandbox_of("spec: {hostNetwork: true, containers: []}").unwrap();
    assert_eq!((spec.network, spec.hostname.as_str()), (Some(NetworkMode::Host), ""));
    assert!(spec.env.is_empty(), "{:?}", spec.env);
}

#[test]
fn dns_policies_choose_servers_and_searches() {
    let resolv = |spec: &str| file(&sandbox_of(&format!("spec: {spec}")).unwrap(), RESOLV_CONF);
    assert_eq!(resolv("{containers: [], dnsPolicy: Default}"), "");
    let host = resolv("{containers: [], hostNetwork: true, dnsPolicy: ClusterFirstWithHostNet}");
    assert!(host.contains("nameserver 10.245.0.10\n"), "{host}");
    let config =
        "dnsConfig: {nameservers: [9.9.9.9], searches: [corp], options: [{name: ndots, value: '2'}, {name: rotate}]}";
    expect![[r#"
        search corp
        nameserver 9.9.9.9
        options ndots:2 rotate
    "#]]
    .assert_eq(&resolv(&format!("{{containers: [], dnsPolicy: None, {config}}}")));
    expect![[r#"
        search default.svc.cluster.local svc.cluster.local cluster.local corp
        nameserver 10.245.0.10
        nameserver 9.9.9.9
        options ndots:2 rotate
    "#]]
    .assert_eq(&resolv(&format!("{{containers: [], {config}}}")));
}

#[test]
fn long_host_names_are_cut_and_too_long_full_names_refused() {
    let long = "a".repeat(70);
    let spec = sandbox_of(&format!("spec: {{hostname: {long}, containers: []}}")).unwrap();
    assert_eq!(spec.hostname.len(), 63);
    let yaml = format!("spec: {{hostname: {long}, subdomain: s, setHostnameAsFQDN: true, containers: []}}");
    assert!(sandbox_of(&yaml).unwrap_err().to_string().contains("is too long"));
    // A pod on the host's network has the host's name.
    let on_host = sandbox_of(&yaml.replace("setHostnameAsFQDN", "hostNetwork: true, setHostnameAsFQDN")).unwrap();
    assert_eq!(on_host.hostname, "");
}

#[test]
fn an_override_is_the_whole_host_name() {
    let name = format!("{}.example", "a".repeat(56));
    let spec = sandbox_of(&format!("spec: {{hostname: h, subdomain: s, hostnameOverride: {name}, containers: []}}"));
    let spec = spec.unwrap();
    assert_eq!(spec.hostname, name);
    assert!(file(&spec, ETC_HOSTS).contains(&format!("\n${{POD_IP}}\t{name}\n")));
}

#[test]
fn host_ports_are_published_on_loopback_unless_the_pod_says_otherwise() {
    let ports =
        |text: &str| sandbox_of(&format!("spec: {{containers: [{{name: app, ports: [{text}]}}]}}")).map(|s| s.publish);
    let loopback: IpAddr = "127.0.0.1".parse().unwrap();
    assert_eq!(ports("{containerPort: 80, hostPort: 8080}").unwrap(), [(loopback, 8080, 80)]);
    assert_eq!(ports("{containerPort: 80}").unwrap(), []);
    assert_eq!(
        ports("{containerPort: 80, hostPort: 80, hostIP: 10.0.0.3}").unwrap(),
        [("10.0.0.3".parse().unwrap(), 80, 80)]
    );
    assert!(ports("{containerPort: 80, hostPort: 80, protocol: UDP}").is_err());
}

/// The data plane's pod, or one that says it is.
fn data_plane(name: &str, spec: &str) -> Pod {
    let meta = format!(
        "metadata: {{namespace: kube-system, name: {name}, uid: u1, annotations: {{skiff.dev/service-cidr: 10.245.0.0/16}}}}"
    );
    crate::testing::from_yaml(&format!("{meta}\nspec: {spec}")).unwrap()
}

fn sandbox_spec_of(pod: &Pod) -> ContainerSpec {
    let identity = Identity::sandbox(PodId::of(pod), 0, String::new());
    sandbox_spec(pod, &config(), &identity, "skiff:1", None, Vec::new()).unwrap()
}

#[test]
fn the_data_planes_sandbox_answers_for_cluster_ips_on_the_pods_network() {
    let pod = data_plane("skiff-proxy", "{hostNetwork: true, containers: []}");
    let spec = sandbox_spec_of(&pod);
    assert_eq!(spec.network, Some(NetworkMode::Bridge(config().network)));
    assert_eq!(spec.address, Some(Ipv4Addr::new(10, 245, 255, 254)));
    assert_eq!(spec.cap_add, ["NET_ADMIN", "NET_BIND_SERVICE", "LEASE"]);
    assert_eq!(file(&spec, SERVICE_RANGE), "10.245.0.0/16");
    let others = [("skiff-proxy", "{containers: []}"), ("mine", "{hostNetwork: true, containers: []}")];
    for (name, spec) in others {
        let spec = sandbox_spec_of(&data_plane(name, spec));
        let told = file(&spec, SERVICE_RANGE);
        assert_eq!((spec.address, spec.cap_add, told), (None, vec!["LEASE".to_owned()], String::new()), "{name}");
    }
}
