//! A small registry on loopback, from which engines pull without TLS, for anybody or for one user: images of one layer, some slow, some broken;
//! and whatever is pushed.
//!
//! **Source** of the protocol: github.com/opencontainers/distribution-spec, and Docker's image manifest v2, schema 2.

use super::tools::{BUSYBOX, docker};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use flate2::{Compression, write::GzEncoder};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    process::Command,
    sync::{Arc, Mutex},
};

/// A registry; it ends with its process.
pub struct Registry {
    address: SocketAddr,
    shelf: Arc<Shelf>,
}

struct Shelf {
    /// What requests must have; none: anybody may pull.
    authorization: Option<String>,
    images: Mutex<BTreeMap<String, Image>>,
    /// What was pushed, by its path: blobs and manifests, and uploads that go on.
    pushed: Mutex<BTreeMap<String, Vec<u8>>>,
}

#[derive(Clone)]
struct Image {
    manifest: Vec<u8>,
    config: Vec<u8>,
    layer: Vec<u8>,
    /// How often its layer was given.
    given: usize,
}

impl Registry {
    /// A registry that anybody may pull from, or this user with this password alone.
    pub fn start(user: Option<(&str, &str)>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
        let address = listener.local_addr().expect("it is bound");
        let basic = |(name, password): (&str, &str)| BASE64_STANDARD.encode(format!("{name}:{password}"));
        let authorization = user.map(|user| format!("Basic {}", basic(user)));
        let shelf = Arc::new(Shelf { authorization, images: Mutex::default(), pushed: Mutex::default() });
        let served = Arc::clone(&shelf);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shelf = Arc::clone(&served);
                std::thread::spawn(move || shelf.serve(stream));
            }
        });
        Self { address, shelf }
    }

    /// What images of it begin with.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// Puts an image on the shelf that sleeps; its name says how it is given: `slow` in pieces, `broken` never whole.
    pub fn image(&self, name: &str) -> String {
        let layer = layer(&format!("{name} of {}", self.address));
        let packed = gzip(&layer);
        let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
        let config = json!({
            "architecture": architecture, "os": "linux", "config": { "Cmd": ["/bin/busybox", "sleep", "3600"] },
            "rootfs": { "type": "layers", "diff_ids": [digest(&layer)] },
        });
        let config = config.to_string().into_bytes();
        let blob = |kind: &str, bytes: &[u8]| json!({ "mediaType": format!("application/vnd.docker.{kind}"), "size": bytes.len(), "digest": digest(bytes) });
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST,
            "config": blob("container.image.v1+json", &config),
            "layers": [blob("image.rootfs.diff.tar.gzip", &packed)],
        });
        let image = Image { manifest: manifest.to_string().into_bytes(), config, layer: packed, given: 0 };
        self.shelf.images.lock().expect("no one panics").insert(name.to_owned(), image);
        format!("{}/{name}/app:1", self.address)
    }

    /// The manifests that were pushed: `shop/web/manifests/1`.
    pub fn pushed(&self) -> Vec<String> {
        let pushed = self.shelf.pushed.lock().expect("no one panics");
        let paths = pushed.keys().filter_map(|path| path.strip_prefix("/v2/"));
        paths.filter(|path| path.contains("/manifests/") && !path.contains("sha256:")).map(str::to_owned).collect()
    }

    /// How often the layer of an image was given.
    pub fn layers_given(&self, name: &str) -> usize {
        self.shelf.images.lock().expect("no one panics").get(name).map_or(0, |image| image.given)
    }
}

const MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";

fn digest(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packer = GzEncoder::new(Vec::new(), Compression::fast());
    packer.write_all(bytes).expect("memory takes all");
    packer.finish().expect("memory takes all")
}

/// A layer with busybox, and a file that no other layer has.
fn layer(mark: &str) -> Vec<u8> {
    let container = docker(&["create", &BUSYBOX, "sleep"]);
    let copied = Command::new("docker").args(["cp", &format!("{}:/bin/busybox", container.trim()), "-"]).output();
    docker(&["rm", container.trim()]);
    let copied = copied.expect("docker runs").stdout;
    let mut archive = tar::Archive::new(&*copied);
    let mut file = archive.entries().expect("it is an archive").next().expect("it has a file").expect("it can be read");
    let mut program = Vec::new();
    std::io::Read::read_to_end(&mut file, &mut program).expect("it can be read");
    let mut made = tar::Builder::new(Vec::new());
    for (path, bytes, mode) in [("bin/busybox", &*program, 0o755), ("mark", mark.as_bytes(), 0o644)] {
        let mut header = tar::Header::new_gnu();
        header.set_mode(mode);
        header.set_size(bytes.len() as u64);
        made.append_data(&mut header, path, bytes).expect("memory takes all");
    }
    made.into_inner().expect("memory takes all")
}

impl Shelf {
    fn serve(&self, stream: TcpStream) {
        let mut reader = BufReader::new(stream);
        let mut head = Vec::new();
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).unwrap_or(0) == 0 || line.trim().is_empty() {
                break;
            }
            head.push(line.trim().to_owned());
        }
        let mut words = head.first().map(|line| line.split(' ')).into_iter().flatten();
        let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let authorization = head
            .iter()
            .find_map(|line| line.split_once(": ").filter(|(name, _)| name.eq_ignore_ascii_case("authorization")));
        let may =
            self.authorization.is_none() || authorization.map(|(_, value)| value) == self.authorization.as_deref();
        // Whoever has gone needs no answer.
        if may && method != "GET" && method != "HEAD" {
            let body = body(&mut reader, &head);
            drop(self.take(reader.into_inner(), method, path, &body));
        } else {
            drop(self.answer(reader.into_inner(), method == "HEAD", path, may));
        }
    }

    /// Takes a part of what is pushed: an upload is begun by POST, gets pieces by PATCH, and becomes a blob by PUT; a manifest is one PUT.
    fn take(&self, mut to: TcpStream, method: &str, path: &str, body: &[u8]) -> std::io::Result<()> {
        let mut pushed = self.pushed.lock().expect("no one panics");
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        if method == "POST" {
            let upload = format!("{}/{}", path.trim_end_matches('/'), pushed.len());
            pushed.insert(upload.clone(), Vec::new());
            let more = format!("Location: {upload}\r\nDocker-Upload-UUID: {}\r\nRange: 0-0\r\n", pushed.len());
            return send(&mut to, "202 Accepted", &more, b"", false);
        }
        let Some((repository, _)) = path.split_once("/blobs/uploads/") else {
            // By its tag and by its digest.
            let by_digest = format!("{}/{}", path.rsplit_once('/').map_or(path, |(all, _)| all), digest(body));
            pushed.insert(path.to_owned(), body.to_vec());
            pushed.insert(by_digest, body.to_vec());
            let more = format!("Docker-Content-Digest: {}\r\n", digest(body));
            return send(&mut to, "201 Created", &more, b"", false);
        };
        let whole = pushed.entry(path.to_owned()).or_default();
        whole.extend_from_slice(body);
        if method == "PATCH" {
            let more = format!("Location: {path}\r\nRange: 0-{}\r\n", whole.len().saturating_sub(1));
            return send(&mut to, "202 Accepted", &more, b"", false);
        }
        let blob = pushed.remove(path).unwrap_or_default();
        let is_whole = query.contains(&digest(&blob).replace(':', "%3A"));
        pushed.insert(format!("{repository}/blobs/{}", digest(&blob)), blob);
        send(&mut to, if is_whole { "201 Created" } else { "400 Bad Request" }, "", b"", false)
    }

    fn answer(&self, mut to: TcpStream, is_head: bool, path: &str, may: bool) -> std::io::Result<()> {
        if !may {
            return send(&mut to, "401 Unauthorized", "WWW-Authenticate: Basic realm=\"test\"\r\n", b"{}", false);
        }
        if let Some(bytes) = self.pushed.lock().expect("no one panics").get(path).cloned() {
            let more = format!("Content-Type: {MANIFEST}\r\nDocker-Content-Digest: {}\r\n", digest(&bytes));
            return send(&mut to, "200 OK", &more, &bytes, is_head);
        }
        let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        let (name, kind, wanted) = match parts[..] {
            ["v2", name, "app", kind, wanted] => (name, kind, wanted),
            ["v2"] => return send(&mut to, "200 OK", "", b"{}", false),
            _ => return send(&mut to, "404 Not Found", "", b"{}", false),
        };
        let found = self.images.lock().expect("no one panics").get(name).cloned();
        let Some(image) = found else { return send(&mut to, "404 Not Found", "", b"{}", false) };
        if kind == "manifests" {
            let more = format!("Content-Type: {MANIFEST}\r\nDocker-Content-Digest: {}\r\n", digest(&image.manifest));
            return send(&mut to, "200 OK", &more, &image.manifest, is_head);
        }
        if wanted == digest(&image.config) {
            return send(&mut to, "200 OK", "", &image.config, is_head);
        }
        if name == "broken" || wanted != digest(&image.layer) {
            return send(&mut to, "404 Not Found", "", b"{}", is_head);
        }
        if !is_head {
            self.images.lock().expect("no one panics").entry(name.to_owned()).and_modify(|image| image.given += 1);
        }
        if name == "slow" && !is_head {
            return send_slowly(&mut to, &image.layer);
        }
        send(&mut to, "200 OK", "", &image.layer, is_head)
    }
}

/// The body of a request: as long as it says, or in pieces.
fn body(from: &mut impl std::io::BufRead, head: &[String]) -> Vec<u8> {
    let value = |wanted: &str| {
        let is_it = |line: &&String| line.split_once(": ").is_some_and(|(name, _)| name.eq_ignore_ascii_case(wanted));
        head.iter().find(is_it).and_then(|line| line.split_once(": ")).map(|(_, value)| value.to_owned())
    };
    let mut all = Vec::new();
    let mut read = |n: usize| {
        let mut piece = vec![0; n];
        let is_there = std::io::Read::read_exact(from, &mut piece).is_ok();
        (is_there, piece)
    };
    if let Some(length) = value("content-length").and_then(|text| text.parse().ok()) {
        return read(length).1;
    }
    if value("transfer-encoding").as_deref() != Some("chunked") {
        return all;
    }
    loop {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            let (is_there, byte) = read(1);
            if !is_there {
                return all;
            }
            line.extend(byte);
        }
        let length = usize::from_str_radix(String::from_utf8_lossy(&line).trim(), 16).unwrap_or(0);
        let (is_there, mut piece) = read(length + 2);
        piece.truncate(length);
        all.extend(piece);
        if length == 0 || !is_there {
            return all;
        }
    }
}

fn head(status: &str, more: &str, length: usize) -> String {
    format!(
        "HTTP/1.1 {status}\r\nDocker-Distribution-Api-Version: registry/2.0\r\n{more}Content-Length: {length}\r\nConnection: close\r\n\r\n"
    )
}

fn send(to: &mut TcpStream, status: &str, more: &str, body: &[u8], is_head: bool) -> std::io::Result<()> {
    to.write_all(head(status, more, body.len()).as_bytes())?;
    if is_head { Ok(()) } else { to.write_all(body) }
}

/// In pieces, with a rest after each: that is what makes it slow.
fn send_slowly(to: &mut TcpStream, body: &[u8]) -> std::io::Result<()> {
    to.write_all(head("200 OK", "", body.len()).as_bytes())?;
    for piece in body.chunks(body.len() / 10 + 1) {
        to.write_all(piece)?;
        std::thread::park_timeout(std::time::Duration::from_millis(100));
    }
    Ok(())
}
