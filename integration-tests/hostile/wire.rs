//! Bytes that no client library sends: inside TLS, and instead of it.

use crate::harness::{client::Raw, cluster::Cluster};
use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    time::Duration,
};

const HEAD: &str = "Host: localhost\r\nConnection: close\r\n";

/// HTTP/1.1 that breaks rules. Each is answered with a refusal, or its connection is ended.
fn http1() -> Vec<(&'static str, Vec<u8>)> {
    let post = |headers: &str, body: &str| {
        format!("POST /api/v1/namespaces/default/configmaps HTTP/1.1\r\n{HEAD}Content-Type: application/json\r\n{headers}\r\n{body}").into_bytes()
    };
    let get = |path: &str, headers: &str| format!("GET {path} HTTP/1.1\r\n{HEAD}{headers}\r\n").into_bytes();
    vec![
        ("rubbish", b"\x00\x01\x02rubbish\r\n\r\n".to_vec()),
        ("no version", b"GET /\r\n\r\n".to_vec()),
        ("a version that is none", format!("GET / HTTP/9.9\r\n{HEAD}\r\n").into_bytes()),
        ("no path", b"GET  HTTP/1.1\r\n\r\n".to_vec()),
        ("a space in the path", get("/api/v1/ pods", "")),
        ("a path of raw bytes", [b"GET /\xff\xfe HTTP/1.1\r\n".as_slice(), HEAD.as_bytes(), b"\r\n"].concat()),
        ("a path of a megabyte", get(&format!("/{}", "a".repeat(1 << 20)), "")),
        ("a header of two megabytes", get("/api/v1/pods", &format!("X: {}\r\n", "a".repeat(2 << 20)))),
        ("10,000 headers", get("/api/v1/pods", &"X: y\r\n".repeat(10_000))),
        ("a header without a colon", get("/api/v1/pods", "rubbish\r\n")),
        ("a header with NUL", get("/api/v1/pods", "X: a\0b\r\n")),
        ("two lengths", post("Content-Length: 2\r\nContent-Length: 3\r\n", "{}")),
        ("a length below zero", post("Content-Length: -1\r\n", "{}")),
        ("a length beyond all", post("Content-Length: 99999999999999999999999\r\n", "{}")),
        ("a length and chunks", post("Content-Length: 2\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n")),
        ("a chunk of a size that is none", post("Transfer-Encoding: chunked\r\n", "zz\r\n{}\r\n0\r\n\r\n")),
        ("a chunk beyond all", post("Transfer-Encoding: chunked\r\n", "ffffffffffffffffff\r\n")),
        ("an encoding that is none", post("Transfer-Encoding: magic\r\n", "{}")),
        ("a length of a terabyte", post("Content-Length: 1099511627776\r\n", "{}")),
        (
            "an upgrade to what is not there",
            get("/api/v1/namespaces/default/pods/victim/exec?command=x", "Connection: Upgrade\r\nUpgrade: magic/1\r\n"),
        ),
    ]
}

/// A frame of HTTP/2.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// HTTP/2 that breaks rules, or asks for much and takes nothing.
fn http2() -> Vec<(&'static str, Vec<u8>)> {
    let start = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".as_slice(), &frame(4, 0, 0, &[])].concat();
    let with = |frames: Vec<Vec<u8>>| [start.clone(), frames.concat()].concat();
    // `:method: GET`, `:scheme: https`, `:path: /` from the static table.
    let head = [0x82, 0x87, 0x84];
    let odd = |n: u32| 2 * n + 1;
    vec![
        ("rubbish after the preface", with(vec![vec![0xff; 1_000]])),
        ("a preface that is none", b"PRI * HTTP/3.0\r\n\r\nXX\r\n\r\n".to_vec()),
        ("a frame of 16 MiB", with(vec![vec![0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1]])),
        ("data on a stream that is none", with(vec![frame(0, 0, 7, b"x")])),
        (
            "5,000 streams opened and reset",
            with((0..5_000).flat_map(|n| [frame(1, 5, odd(n), &head), frame(3, 0, odd(n), &[0, 0, 0, 8])]).collect()),
        ),
        ("5,000 pings", with((0..5_000).map(|_| frame(6, 0, 0, &[0; 8])).collect())),
        ("5,000 settings", with((0..5_000).map(|_| frame(4, 0, 0, &[])).collect())),
        (
            "a head that never ends",
            with(
                std::iter::once(frame(1, 0, 1, &head)).chain((0..2_000).map(|_| frame(9, 0, 1, &[0; 1_000]))).collect(),
            ),
        ),
        (
            "a window beyond all",
            with(vec![frame(8, 0, 0, &[0x7f, 0xff, 0xff, 0xff]), frame(8, 0, 0, &[0x7f, 0xff, 0xff, 0xff])]),
        ),
        ("a head that refers to nothing", with(vec![frame(1, 5, 1, &[0xff, 0xff, 0xff, 0xff, 0x0f])])),
        (
            "a window of nothing",
            with(vec![frame(4, 0, 0, &[0, 4, 0, 0, 0, 0]), frame(1, 5, 1, &head), frame(8, 0, 0, &[0; 4])]),
        ),
        ("a priority on itself", with(vec![frame(2, 0, 1, &[0, 0, 0, 1, 0])])),
    ]
}

/// Sends them all, each on a connection of its own; what was answered with success.
pub fn inside_tls(cluster: &Cluster) -> (usize, Vec<String>) {
    let (one, two) = (http1(), http2());
    let sent = one.len() + two.len();
    let (kubeconfig, port) = (&*cluster.kubeconfig(), cluster.api_port());
    let taken = std::thread::scope(|scope| {
        let threads: Vec<_> = one
            .into_iter()
            .map(|(name, bytes)| {
                scope.spawn(move || speak_http1(Raw::connect(kubeconfig, port, "http/1.1"), name, &bytes))
            })
            .collect();
        for (_, bytes) in two {
            // What HTTP/2 answers are frames; that the server lives on is what the innocent client sees.
            scope.spawn(move || drop(Raw::connect(kubeconfig, port, "h2").exchange(&bytes)));
        }
        threads.into_iter().filter_map(|thread| thread.join().unwrap()).collect()
    });
    (sent, taken)
}

/// What is wrong with the answer.
fn speak_http1(raw: Raw, name: &str, bytes: &[u8]) -> Option<String> {
    let answer = raw.exchange(bytes);
    let is_fault = answer.starts_with("HTTP/1.1 2") || answer.starts_with("HTTP/1.1 5");
    is_fault.then(|| format!("HTTP/1.1: {name}: {}", answer.chars().take(200).collect::<String>()))
}

/// Bytes instead of TLS: the server ends each of these connections by itself.
pub fn instead_of_tls(cluster: &Cluster) -> usize {
    let hello = [&[0x16, 0x03, 0x01, 0x02, 0x00, 0x01][..], &[0; 506]].concat();
    let long_record = [&[0x16, 0x03, 0x01, 0xff, 0xff][..], &[0; 4_000]].concat();
    let cases: Vec<Vec<u8>> = vec![
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        b"SSH-2.0-x\r\n".to_vec(),
        vec![0; 10_000],
        vec![0xff; 10_000],
        hello,
        long_record,
        vec![0x15, 3, 1, 0, 2, 2, 40],
    ];
    let port = cluster.api_port();
    std::thread::scope(|scope| {
        for bytes in &cases {
            scope.spawn(move || is_ended(port, bytes));
        }
    });
    cases.len()
}

fn is_ended(port: u16, bytes: &[u8]) {
    let mut socket = TcpStream::connect(("127.0.0.1", port)).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    drop(socket.write_all(bytes));
    match socket.read_to_end(&mut Vec::new()) {
        Err(err) if err.kind() == std::io::ErrorKind::WouldBlock => panic!("kept for 30 s: {bytes:.16?}"),
        _ => {}
    }
}

/// What a watcher that takes nothing asks for.
const WATCHED: &str = "/api/v1/namespaces/default/configmaps?watch=true";

/// Watchers that read nothing, held while they live: most of HTTP/1.1, the others of HTTP/2.
pub fn deaf_watchers(cluster: &Cluster, count: usize) -> Vec<Raw> {
    let http1 = format!("GET {WATCHED} HTTP/1.1\r\nHost: localhost\r\n\r\n").into_bytes();
    // `:method: GET`, `:scheme: https`, and the path as a literal for `:path`, the fourth name of the static table.
    let head = [&[0x82, 0x87, 0x04, u8::try_from(WATCHED.len()).unwrap()], WATCHED.as_bytes()].concat();
    let http2 = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".as_slice(), &frame(4, 0, 0, &[]), &frame(1, 5, 1, &head)].concat();
    let open = |n: usize| {
        let (protocol, bytes) = if n.is_multiple_of(4) { ("h2", &http2) } else { ("http/1.1", &http1) };
        let mut raw = Raw::connect(&cluster.kubeconfig(), cluster.api_port(), protocol);
        raw.say(bytes);
        raw
    };
    (0..count).map(open).collect()
}

/// Connections that begin TLS and say no more, held while they live.
pub fn unfinished(cluster: &Cluster, count: usize) -> Vec<TcpStream> {
    let open = |_| {
        let mut socket = TcpStream::connect(("127.0.0.1", cluster.api_port())).ok()?;
        socket.write_all(&[0x16, 0x03, 0x01]).ok()?;
        Some(socket)
    };
    (0..count).filter_map(open).collect()
}
