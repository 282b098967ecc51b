//! Streams into containers with real clients: exec, attach, cp, port-forward, run; over WebSocket and, by old clients, over SPDY.

use crate::harness::{
    cluster::Cluster,
    ports::free_port,
    tools::{BUSYBOX, KUBECTL, KUBECTL_20, SKIFF, docker, output, text},
    wait::{SOON, eventually},
};
use rustls::{ServerConfig, ServerConnection, StreamOwned, pki_types::PrivateKeyDer};
use std::{
    ffi::OsString,
    io::{BufRead as _, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    sync::Arc,
};

fn pod(name: &str, rest: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, labels: {{app: {name}}}}}\nspec:\n  \
         terminationGracePeriodSeconds: 0\n  containers:\n  - {{name: app, image: {image}, {rest}}}\n",
        image = *BUSYBOX
    )
}

/// What a command prints when it is given this.
fn with_input(command: &mut Command, input: &[u8]) -> (i32, Vec<u8>, String) {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    let mut stdin = child.stdin.take().expect("it is piped");
    let input = input.to_vec();
    let giver = std::thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output().expect("it ends");
    giver.join().expect("no one panics").expect("the command reads all");
    (output.status.code().unwrap_or(-1), output.stdout, text(&output.stderr))
}

/// What a command's environment is beside this process's.
fn environment(of: &Command) -> Vec<(OsString, OsString)> {
    of.get_envs().filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned()))).collect()
}

/// A `kubectl port-forward`, ended with it.
struct Forward(Child);

impl Forward {
    fn to(cluster: &Cluster, what: &str, ports: &[String]) -> Self {
        let ports: Vec<&str> = ports.iter().map(String::as_str).collect();
        Self::by(cluster.kubectl_command(&[&["port-forward", what], &ports[..]].concat()))
    }

    fn by(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().expect("kubectl starts");
        let mut said = BufReader::new(child.stdout.take().expect("it is piped"));
        let mut line = String::new();
        said.read_line(&mut line).expect("kubectl says what it forwards");
        assert!(line.contains("Forwarding from"), "{line}");
        // Nobody reads the rest: kubectl must not wait for that.
        std::thread::spawn(move || std::io::copy(&mut said, &mut std::io::sink()));
        Self(child)
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// What a web server behind a port of this machine says.
fn ask(port: u16) -> Result<String, String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).map_err(|err| err.to_string())?;
    stream.set_read_timeout(Some(SOON)).map_err(|err| err.to_string())?;
    stream.write_all(b"GET /me HTTP/1.0\r\n\r\n").map_err(|err| err.to_string())?;
    let mut said = String::new();
    stream.read_to_string(&mut said).map_err(|err| err.to_string())?;
    if said.is_empty() { Err("no answer".to_owned()) } else { Ok(said) }
}

#[test]
fn commands_run_in_containers_and_files_go_both_ways() {
    let cluster = Cluster::start("exec");
    let term = "command: [sh], stdin: true, tty: true";
    let own = pod("own", "command: [cat], stdin: true, stdinOnce: true");
    cluster.apply(&(pod("web", "command: [sleep, \"3600\"]") + &pod("term", term) + &own));
    for name in ["web", "term", "own"] {
        cluster.kubectl(&["wait", "--for=condition=Ready", &format!("pod/{name}"), "--timeout=60s"]);
    }
    assert_eq!(cluster.kubectl(&["exec", "web", "--", "echo", "hello"]), "hello\n");
    let failed = output(&mut cluster.kubectl_command(&["exec", "web", "--", "sh", "-c", "echo no >&2; exit 7"]));
    assert_eq!((failed.status.code(), &*text(&failed.stderr)), (Some(7), "no\ncommand terminated with exit code 7\n"));
    let missing = cluster.kubectl_fails(&["exec", "web", "--", "bash"]);
    assert!(missing.contains("bash") && missing.contains("not found"), "{missing}");

    // Every byte, 8 MiB of them, to the end of the input.
    let bytes: Vec<u8> = (0..8u32 << 20).map(|n| u8::try_from(n.wrapping_mul(2_654_435_761) >> 24).unwrap()).collect();
    let (code, back, err) = with_input(&mut cluster.kubectl_command(&["exec", "-i", "web", "--", "cat"]), &bytes);
    assert!(code == 0 && back == bytes, "{code} {} bytes {err}", back.len());

    let folder = tempfile::tempdir().unwrap();
    let (there, here) = (folder.path().join("there"), folder.path().join("here"));
    std::fs::write(&there, &bytes).unwrap();
    cluster.kubectl(&["cp", there.to_str().unwrap(), "web:/there"]);
    cluster.kubectl(&["cp", "web:/there", here.to_str().unwrap()]);
    assert!(std::fs::read(&here).unwrap() == bytes, "what came back is not what went");

    // A terminal: `script` gives kubectl one. The engine starts the command first and sets the size then.
    let line = format!(
        "stty rows 31 cols 97; {} --kubeconfig {} exec -it web -- sh -c 'until stty size 2>/dev/null | grep 97; do :; done'",
        KUBECTL.display(),
        cluster.kubeconfig().display()
    );
    let shown = text(&output(Command::new("script").args(["-qec", &line, "/dev/null"]).stdin(Stdio::null())).stdout);
    assert!(shown.contains("31 97"), "{shown:?}");

    // The program itself, over its own terminal.
    let attach = &mut cluster.kubectl_command(&["attach", "-i", "term"]);
    let (_, shown, err) = with_input(attach, b"echo $((6*7))\nexit\n");
    assert!(text(&shown).contains("42"), "{} {err}", text(&shown));

    let ran =
        cluster.kubectl_command(&["run", "once", "-i", "--rm", "--restart=Never", "--image", &BUSYBOX, "--", "cat"]);
    let mut ran = ran;
    let (code, shown, err) = with_input(&mut ran, b"given\n");
    assert!(code == 0 && text(&shown).contains("given"), "{} {err}", text(&shown));

    // skiff's own kubectl.
    let own = |args: &[&str]| cluster.skiff(&[&["kubectl", "exec"], args].concat());
    let (code, back, err) = with_input(&mut own(&["-i", "web", "--", "sh", "-c", "cat; exit 3"]), &bytes);
    assert!(code == 3 && back == bytes, "{code} {} bytes {err}", back.len());
    assert_eq!(err, "error: command terminated with exit code 3\n");
    let (code, _, err) = with_input(&mut own(&["web", "-c", "none", "--", "true"]), b"");
    assert!(code == 6 && err.contains("container none is not valid for pod web"), "{code} {err}");
    let (code, back, err) = with_input(&mut cluster.skiff(&["kubectl", "attach", "-i", "own"]), b"given\n");
    assert!(code == 0 && text(&back) == "given\n", "{code} {} {err}", text(&back));
    let sizes = "until stty size 2>/dev/null | grep 89; do :; done";
    let line = format!("stty rows 31 cols 89; {SKIFF} kubectl exec -it web -- sh -c '{sizes}'");
    let shown = output(
        Command::new("script").args(["-qec", &line, "/dev/null"]).envs(environment(&own(&[]))).stdin(Stdio::null()),
    );
    assert!(text(&shown.stdout).contains("31 89"), "{}", text(&shown.stdout));

    // A client from before WebSockets.
    let old = &*KUBECTL_20;
    let old = |args: &[&str]| {
        let mut command = Command::new(old);
        command.arg("--kubeconfig").arg(cluster.kubeconfig()).args(args);
        command
    };
    let (code, back, err) = with_input(&mut old(&["exec", "-i", "web", "--", "sh", "-c", "cat; exit 3"]), &bytes);
    assert!(code == 3 && back == bytes, "{code} {} bytes {err}", back.len());
}

#[test]
fn ports_of_pods_are_forwarded_and_a_connection_that_fails_ends_no_other() {
    let cluster = Cluster::start("forward");
    // On the pod's own loopback alone, which nobody else reaches.
    let server =
        "command: [sh, -c, \"mkdir /www; echo it is me > /www/me; busybox httpd -f -p 127.0.0.1:7000 -h /www\"]";
    let deployment = format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: up}}\nspec:\n  selector: {{matchLabels: {{app: up}}}}\n  \
         template:\n    metadata: {{labels: {{app: up}}}}\n    spec:\n      terminationGracePeriodSeconds: 0\n      \
         containers:\n      - {{name: app, image: {image}, {server}}}\n      \
         - {{name: open, image: {image}, ports: [{{containerPort: 7002}}], {page}}}\n---\n\
         apiVersion: v1\nkind: Service\nmetadata: {{name: up}}\nspec: {{selector: {{app: up}}, ports: [{{name: http, port: 80, targetPort: 7002}}]}}\n---\n\
         apiVersion: v1\nkind: Service\nmetadata: {{name: alone}}\nspec: {{selector: {{app: none}}, ports: [{{name: http, port: 80}}]}}\n",
        image = *BUSYBOX,
        page = "command: [sh, -c, \"mkdir /www; echo '<a href=\\\"/me\\\">it is me</a>' > /www/page.html; busybox httpd -f -p 7002 -h /www\"]",
    );
    cluster.apply(&deployment);
    cluster.rolled_out("up");
    passes_requests_on(&cluster);
    let (good, bad) = (free_port(), free_port());
    let _forward = Forward::to(&cluster, "deployment/up", &[format!("{good}:7000"), format!("{bad}:7001")]);
    let answers = || eventually("it answers", SOON, || ask(good));
    assert!(answers().ends_with("it is me\n"));
    for _ in 0..3 {
        assert!(ask(bad).is_err(), "nobody listens there");
        answers();
    }
    let own = free_port();
    let ports = [format!("{own}:7000"), format!("{}:7001", free_port())];
    let _own = Forward::by(cluster.skiff(&["kubectl", "port-forward", "deployment/up", &ports[0], &ports[1]]));
    assert!(ask(own).unwrap().ends_with("it is me\n"));
    // Another pod comes in the place of the one that was meant.
    let old = cluster.jsonpath(&["pod", "-l", "app=up"], "{.items[0].metadata.name}");
    cluster.kubectl(&["delete", "pod", &old, "--wait=true"]);
    cluster.rolled_out("up");
    answers();
    eventually("the other pod is found", SOON, || ask(own));
    let id = cluster.containers("io.kubernetes.container.name=app").pop().unwrap();
    docker(&["kill", &id]);
    answers();
}

/// A request and an upgrade go on over TLS, whatever the certificate: to a pod, and to a pod behind a service. `kubectl` proxies at a port.
fn passes_on_to_tls(cluster: &Cluster, kubectl: u16) {
    let port = tls_program();
    cluster.apply(&format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: host, labels: {{app: host}}}}\nspec:\n  hostNetwork: true\n  \
         terminationGracePeriodSeconds: 0\n  containers: [{{name: app, image: {image}, command: [sleep, inf]}}]\n---\n\
         apiVersion: v1\nkind: Service\nmetadata: {{name: host}}\nspec: {{selector: {{app: host}}, ports: [{{port: 443, targetPort: {port}}}]}}\n",
        image = *BUSYBOX,
    ));
    let base = "/api/v1/namespaces/default";
    for way in [format!("{base}/pods/https:host:{port}/proxy/"), format!("{base}/services/https:host:443/proxy/")] {
        let get = || cluster.kubectl_command(&["get", "--raw", &way]);
        let said = eventually("the page is there", SOON, || {
            let answer = output(&mut get());
            if answer.status.success() { Ok(text(&answer.stdout)) } else { Err(text(&answer.stderr)) }
        });
        assert_eq!(said, "secret", "{way}");
        let mut stream = TcpStream::connect(("127.0.0.1", kubectl)).expect("kubectl listens");
        stream.set_read_timeout(Some(SOON)).expect("it is a socket");
        let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==";
        let request = format!("GET {way} HTTP/1.1\r\nHost: localhost\r\n{upgrade}\r\n\r\n");
        stream.write_all(request.as_bytes()).expect("kubectl reads");
        let head = head_of(&mut stream).expect("the upgrade is answered");
        assert!(head.starts_with("HTTP/1.1 101 "), "{way}: {head}");
        for said in [b"ping", b"pong"] {
            stream.write_all(said).expect("kubectl reads");
            let mut back = [0; 4];
            stream.read_exact(&mut back).expect("what was said comes back");
            assert_eq!(&back, said, "{way}");
        }
    }
}

/// A program of this process at all addresses, over TLS: it has one page, and gives back what it hears after an upgrade. Returns its port.
fn tls_program() -> u16 {
    let made = rcgen::generate_simple_self_signed(["pod".to_owned()]).expect("a certificate can be made");
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("it is a key");
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring has them")
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .expect("the key is the certificate's");
    let config = Arc::new(config);
    let listener = TcpListener::bind(("0.0.0.0", 0)).expect("a port is free");
    let port = listener.local_addr().expect("it is bound").port();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let connection = ServerConnection::new(Arc::clone(&config)).expect("the configuration is sound");
            std::thread::spawn(move || drop(answer(&mut StreamOwned::new(connection, stream))));
        }
    });
    port
}

fn answer(stream: &mut (impl Read + Write)) -> std::io::Result<()> {
    let head = head_of(stream)?.to_ascii_lowercase();
    if !head.contains("upgrade: websocket") {
        return stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecret");
    }
    stream.write_all(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")?;
    let mut said = [0; 64];
    loop {
        let n = stream.read(&mut said)?;
        if n == 0 {
            return Ok(());
        }
        stream.write_all(&said[..n])?;
        stream.flush()?;
    }
}

/// The head of a request or an answer, and no more.
fn head_of(stream: &mut impl Read) -> std::io::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    Ok(text(&head))
}

/// Requests go on to pods through the API server, by `kubectl get --raw` and through `kubectl proxy`.
fn passes_requests_on(cluster: &Cluster) {
    let pod = cluster.jsonpath(&["pod", "-l", "app=up"], "{.items[0].metadata.name}");
    let base = "/api/v1/namespaces/default";
    for way in [format!("{base}/pods/{pod}:7002/proxy"), format!("{base}/services/http:up:http/proxy")] {
        let get = || cluster.kubectl_command(&["get", "--raw", &format!("{way}/page.html")]);
        let page = eventually("the page is there", SOON, || {
            let answer = output(&mut get());
            if answer.status.success() { Ok(text(&answer.stdout)) } else { Err(text(&answer.stderr)) }
        });
        assert_eq!(page, format!("<a href=\"{way}/me\">it is me</a>\n"), "links lead through the server");
    }
    let nobody = cluster.kubectl_fails(&["get", "--raw", &format!("{base}/services/alone:http/proxy/")]);
    assert!(nobody.contains("no endpoints available for service \"alone:http\""), "{nobody}");
    let refused = cluster.kubectl_fails(&["get", "--raw", &format!("{base}/pods/{pod}:7009/proxy/")]);
    assert!(refused.contains("error trying to reach service: dial tcp"), "{refused}");

    let port = free_port();
    let mut proxy = cluster.kubectl_command(&["proxy", "--port", &port.to_string()]);
    let _proxy = Forward(proxy.stdout(Stdio::null()).spawn().expect("kubectl starts"));
    let path = format!("{base}/services/up:80/proxy/page.html");
    let page = eventually("kubectl proxy answers", SOON, || {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).map_err(|err| err.to_string())?;
        stream
            .write_all(format!("GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n").as_bytes())
            .map_err(|err| err.to_string())?;
        let mut said = String::new();
        stream.read_to_string(&mut said).map_err(|err| err.to_string())?;
        Ok::<_, String>(said)
    });
    assert!(page.ends_with("it is me</a>\n"), "{page}");
    passes_on_to_tls(cluster, port);

    let parts = output(&mut cluster.kubectl_command(&["get", "cs"]));
    assert!(text(&parts.stderr).contains("v1 ComponentStatus is deprecated in v1.19+"), "{}", text(&parts.stderr));
    let healthy = text(&parts.stdout).lines().filter(|line| line.contains(" Healthy ")).count();
    assert_eq!(healthy, 3, "{}", text(&parts.stdout));
}
