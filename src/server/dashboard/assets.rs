//! The files of the page, and how they go out: compressed, and only when the browser has not got them.
//!
//! They are plain modules, styles and pictures, as they lie in `assets`; nothing builds them, and nothing comes from elsewhere. To add a
//! file: put it there, and its line into [`FILES`]; what others made needs a line in [`VENDORED`] too, and is kept compressed where it is
//! large: `gzip -9n FILE`, and `gz` before its name.
//!
//! In a debug build `SKIFF_DASHBOARD_ASSETS` names a folder that files are read from instead, for whoever works on the page.

use super::super::{
    compress,
    respond::{self, Response},
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use flate2::{Compression, read::GzDecoder, write::GzEncoder};
use http::{HeaderMap, HeaderValue, header};
use sha2::{Digest as _, Sha256};
use std::{
    borrow::Cow,
    io::{Read as _, Write as _},
    sync::OnceLock,
};

/// A file of the page.
pub(super) struct File {
    /// Its path below `/`.
    path: &'static str,
    bytes: &'static [u8],
    is_gzip: bool,
    sent: OnceLock<Sent>,
}

/// A file as it goes out.
#[derive(Clone, Debug)]
struct Sent {
    gzip: Bytes,
    etag: HeaderValue,
}

macro_rules! files {
    (@gz $path:literal) => {
        File { path: $path, bytes: include_bytes!(concat!("assets/", $path, ".gz")), is_gzip: true, sent: OnceLock::new() }
    };
    (@ $path:literal) => {
        File { path: $path, bytes: include_bytes!(concat!("assets/", $path)), is_gzip: false, sent: OnceLock::new() }
    };
    ($($($gz:ident)? $path:literal),* $(,)?) => {
        [$(files!(@$($gz)? $path)),*]
    };
}

/// The document, which has [`BOOT`] in it instead of this reference to it.
const INDEX: &str = "index.html";
const BOOT: &str = "boot.js";
const BOOT_REFERENCE: &str = "<script src=\"boot.js\"></script>";

/// Every file of the page.
static FILES: [File; N_FILES] = files![
    "index.html",
    "style.css",
    "icon.svg",
    "boot.js",
    "app.js",
    "api.js",
    "cluster.js",
    "model.js",
    "layout.js",
    "map.js",
    "dots.js",
    "traffic.js",
    "table.js",
    "actions.js",
    "panel.js",
    "edit.js",
    "logs.js",
    "story.js",
    "replay.js",
    "shell.js",
    "terminal.html",
    "terminal.css",
    "terminal.js",
    "ui.js",
    "vendor/preact.js",
    gz "vendor/xterm.js",
    "vendor/xterm-addon-fit.js",
    "vendor/xterm.css",
    "vendor/NOTICE.txt",
];
const N_FILES: usize = 29;

/// A file that others made.
#[cfg(test)]
struct Vendored {
    /// Its path below `/`.
    path: &'static str,
    /// The package, its version, and the file in it.
    origin: &'static str,
    /// Under which licences.
    licences: &'static str,
    /// Its SHA-256.
    sha256: &'static str,
}

/// What others made; a test holds the files to it. The licences' texts are in `assets/vendor/NOTICE.txt`.
#[cfg(test)]
const VENDORED: [Vendored; 4] = [
    Vendored {
        path: "vendor/preact.js",
        origin: "npm htm 3.1.1, preact/standalone.mjs",
        licences: "Apache-2.0 (htm), MIT (Preact, which is in it)",
        sha256: "72284e8e9079c87817145df1110f74e8a2aa040b2fc384922e18dfcb46fc1fd7",
    },
    Vendored {
        path: "vendor/xterm.js",
        origin: "npm @xterm/xterm 6.0.0, lib/xterm.mjs",
        licences: "MIT",
        sha256: "b336ec65a086c056d4804b3d4c2347da5663d3f23c3f25be866467bd8857ad59",
    },
    Vendored {
        path: "vendor/xterm-addon-fit.js",
        origin: "npm @xterm/addon-fit 0.11.0, lib/addon-fit.mjs",
        licences: "MIT",
        sha256: "2d87e1bddc73be9111de8beee5370c3bb7aac9c94e18e6f245f02ca741ef1769",
    },
    Vendored {
        path: "vendor/xterm.css",
        origin: "npm @xterm/xterm 6.0.0, css/xterm.css",
        licences: "MIT",
        sha256: "854a7c0fb70e8b1a083c16797ab827299fb18744f5ad34f227b48337e33293c6",
    },
];

/// The answer to a read of a path; `None`: there is no such file.
pub(super) fn answer(path: &str, asked: &HeaderMap) -> Option<Response> {
    let name = path.strip_prefix('/').filter(|name| !name.is_empty()).unwrap_or(INDEX);
    let file = find(name)?;
    let sent = file.sent();
    let has_it = asked.get_all(header::IF_NONE_MATCH).iter().any(|tags| has_tag(tags, &sent.etag));
    let mut response = if has_it {
        respond::respond(304, file.content_type(), respond::full(Bytes::new()))
    } else if compress::is_taken(asked) {
        let mut response = respond::respond(200, file.content_type(), respond::full(sent.gzip));
        response.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        response
    } else {
        respond::respond(200, file.content_type(), respond::full(file.document()))
    };
    response.headers_mut().insert(header::ETAG, sent.etag);
    response.headers_mut().insert(header::VARY, HeaderValue::from_static("Accept-Encoding"));
    Some(response)
}

fn find(name: &str) -> Option<&'static File> {
    FILES.iter().find(|file| file.path == name)
}

/// The script that the document has in it, as its policy names it. Source: W3C Content Security Policy 3, `hash-source`.
pub(super) fn boot_source() -> String {
    // Every answer has it.
    static SOURCE: OnceLock<String> = OnceLock::new();
    let of = |script: Cow<'static, [u8]>| format!("'sha256-{}'", BASE64_STANDARD.encode(Sha256::digest(script)));
    let Some(file) = find(BOOT) else { return String::new() };
    file.of_folder().map_or_else(|| SOURCE.get_or_init(|| of(file.bytes.into())).clone(), |own| of(own.into()))
}

/// Whether the tags of a request have this one, weak or not.
fn has_tag(tags: &HeaderValue, etag: &HeaderValue) -> bool {
    let (tags, etag) = (tags.to_str().unwrap_or_default(), etag.to_str().unwrap_or_default());
    tags.split(',').any(|tag| tag.trim().trim_start_matches("W/") == etag)
}

impl File {
    fn sent(&self) -> Sent {
        if self.of_folder().is_some() {
            return Sent::of(&self.document());
        }
        let packed = || Sent { gzip: Bytes::from_static(self.bytes), etag: etag(self.bytes) };
        self.sent.get_or_init(|| if self.is_gzip { packed() } else { Sent::of(&self.document()) }).clone()
    }

    /// What goes out.
    fn document(&self) -> Bytes {
        let content = self.content();
        if self.path != INDEX {
            return content.into_owned().into();
        }
        let boot = find(BOOT).map(Self::content).unwrap_or_default();
        let script = format!("<script>{}</script>", String::from_utf8_lossy(&boot));
        String::from_utf8_lossy(&content).replace(BOOT_REFERENCE, &script).into()
    }

    /// What is in the file.
    fn content(&self) -> Cow<'static, [u8]> {
        match self.of_folder() {
            Some(own) => own.into(),
            None if self.is_gzip => unpacked(self.bytes).into(),
            None => self.bytes.into(),
        }
    }

    /// What whoever works on the page has in a folder of their own.
    #[cfg(debug_assertions)]
    fn of_folder(&self) -> Option<Vec<u8>> {
        let folder = std::env::var_os("SKIFF_DASHBOARD_ASSETS")?;
        std::fs::read(std::path::Path::new(&folder).join(self.path)).ok()
    }

    #[cfg(not(debug_assertions))]
    #[allow(clippy::unused_self, reason = "the page of a release is in the program")]
    fn of_folder(&self) -> Option<Vec<u8>> {
        None
    }

    fn content_type(&self) -> &'static str {
        match self.path.rsplit_once('.').map(|(_, extension)| extension) {
            Some("html") => "text/html; charset=utf-8",
            Some("css") => "text/css; charset=utf-8",
            Some("js") => "text/javascript; charset=utf-8",
            Some("svg") => "image/svg+xml",
            _ => "text/plain; charset=utf-8",
        }
    }
}

impl Sent {
    fn of(plain: &[u8]) -> Self {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        let written = encoder.write_all(plain).and_then(|()| encoder.finish());
        Self { gzip: written.expect("memory takes all that is written").into(), etag: etag(plain) }
    }
}

fn etag(bytes: &[u8]) -> HeaderValue {
    let hash: String = Sha256::digest(bytes).iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    HeaderValue::try_from(format!("\"{hash}\"")).expect("hexadecimal digits are a header")
}

fn unpacked(gzip: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    GzDecoder::new(gzip).read_to_end(&mut plain).expect("a file of the page is whole");
    plain
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt as _;
    use std::{fs, path::Path};

    /// What the first paint may cost on the wire.
    const FIRST_PAINT_BYTES_MAX: usize = 60_000;
    /// What the page asks for later, or never.
    const LATER: [&str; 10] = [
        // It is in the document.
        "boot.js",
        "dots.js",
        "shell.js",
        "terminal.html",
        "terminal.css",
        "terminal.js",
        "vendor/xterm.js",
        "vendor/xterm-addon-fit.js",
        "vendor/xterm.css",
        "vendor/NOTICE.txt",
    ];

    fn names_below(folder: &Path, prefix: &str) -> Vec<String> {
        let mut names = Vec::new();
        for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
            let name = format!("{prefix}{}", entry.file_name().to_str().unwrap());
            if entry.path().is_dir() {
                names.extend(names_below(&entry.path(), &format!("{name}/")));
            } else {
                names.push(name.trim_end_matches(".gz").to_owned());
            }
        }
        names.sort();
        names
    }

    #[test]
    fn every_file_is_served_and_the_first_paint_is_small() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("dashboard/assets");
        let mut served: Vec<&str> = FILES.iter().map(|file| file.path).collect();
        served.sort_unstable();
        assert_eq!(served, names_below(&folder, ""), "FILES and the folder differ");
        let sizes: Vec<(usize, &str)> = FILES
            .iter()
            .filter(|file| !LATER.contains(&file.path))
            .map(|file| (file.sent().gzip.len(), file.path))
            .collect();
        let total: usize = sizes.iter().map(|(bytes, _)| bytes).sum();
        assert!(total <= FIRST_PAINT_BYTES_MAX, "{total} bytes: {sizes:?}");
    }

    #[test]
    fn what_others_made_is_as_it_was_made() {
        let is_part = |file: &&File| file.path.starts_with("vendor/") && file.path != "vendor/NOTICE.txt";
        let others: Vec<&str> = FILES.iter().filter(is_part).map(|file| file.path).collect();
        assert_eq!(others, VENDORED.map(|vendored| vendored.path), "every file in vendor has its line");
        let notice = FILES.iter().find(|file| file.path == "vendor/NOTICE.txt").unwrap();
        for vendored in VENDORED {
            let file = FILES.iter().find(|file| file.path == vendored.path).unwrap();
            let hash: String = Sha256::digest(file.content()).iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(hash, vendored.sha256, "{} ({}, {})", vendored.path, vendored.origin, vendored.licences);
            assert!(std::str::from_utf8(notice.bytes).unwrap().contains(vendored.path), "{}", vendored.path);
        }
    }

    /// Text of users becomes text, never markup: what would break that is not in the page.
    #[test]
    fn the_page_makes_no_markup_of_text() {
        let banned =
            ["innerHTML", "outerHTML", "insertAdjacentHTML", "dangerously", "document.write", "eval(", "new Function"];
        for file in FILES.iter().filter(|file| !file.path.starts_with("vendor/")) {
            let text = std::str::from_utf8(file.bytes).unwrap();
            for word in banned {
                assert!(!text.contains(word), "{} has {word}", file.path);
            }
        }
    }

    #[tokio::test]
    async fn a_file_goes_out_compressed_and_once() {
        let mut asked = HeaderMap::new();
        let plain = answer("/", &asked).unwrap();
        assert_eq!(plain.headers()[header::CONTENT_TYPE], "text/html; charset=utf-8");
        let etag = plain.headers()[header::ETAG].clone();
        let plain = plain.into_body().collect().await.unwrap().to_bytes();
        asked.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("gzip, br"));
        let packed = answer("/index.html", &asked).unwrap();
        assert_eq!(packed.headers()[header::CONTENT_ENCODING], "gzip");
        let packed = packed.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(unpacked(&packed), plain);
        asked.insert(header::IF_NONE_MATCH, etag);
        assert_eq!(answer("/", &asked).unwrap().status(), 304);
        // What is kept compressed is plain for whoever wants that.
        let kept = answer("/vendor/xterm.js", &HeaderMap::new()).unwrap();
        assert!(!kept.headers().contains_key(header::CONTENT_ENCODING));
        assert!(kept.into_body().collect().await.unwrap().to_bytes().starts_with(b"/**"));
        assert!(answer("/../Cargo.toml", &asked).is_none() && answer("/nothing.js", &asked).is_none());
    }
}
