//! The files of an image, out of the export of a container that never ran: the stream of a tar archive, without what the engine itself
//! lays into every container. Pure: bytes in, bytes out.
//!
//! **Invariants**: an entry goes on whole or not at all, with the extended headers before it; no more is held than they and the heads of the
//! engine's own directories are long.
//! **Not here**: links, owners and modes: they stay as they are in the archive.
//! **Source**: what the engine lays: `daemon/initlayer/setup_unix.go`, Docker 20.10; the format: POSIX ustar and pax.

use bytes::{Buf as _, Bytes, BytesMut};

const BLOCK: usize = 512;
/// The longest extended header: a path of 4 KiB and attributes.
const EXTENDED_MAX: u64 = 1 << 20;
/// Empty files that the engine makes where an image has none.
const FILES: [&str; 4] = ["dev/console", "etc/hostname", "etc/hosts", "etc/resolv.conf"];
/// Directories that the engine makes where an image has none.
const DIRECTORIES: [&str; 6] = ["dev", "dev/pts", "dev/shm", "etc", "proc", "sys"];

/// Passes the entries of an image on.
#[derive(Debug, Default)]
pub(super) struct ImageFiles {
    /// What has arrived of a header that is not whole yet.
    input: BytesMut,
    /// How many bytes of the entry are still to come.
    left: u64,
    /// What becomes of them.
    into: Into,
    /// The extended headers of the next entry, and what they say of it.
    held: BytesMut,
    extended: BytesMut,
    path: Option<String>,
    size: Option<u64>,
    /// The engine's directories, until something of the image is in them.
    deferred: Vec<(String, Bytes)>,
}

/// Where the bytes of an entry go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Into {
    #[default]
    Output,
    Nowhere,
    /// They are an extended header of this type.
    Extended(u8),
}

impl ImageFiles {
    /// Takes in a part of the archive; returns what goes on.
    ///
    /// # Errors
    /// It is no archive, or has an extended header that is too long.
    pub(super) fn feed(&mut self, chunk: &[u8]) -> std::io::Result<Bytes> {
        self.input.extend_from_slice(chunk);
        let mut output = BytesMut::new();
        loop {
            if self.left > 0 {
                if self.input.is_empty() {
                    return Ok(output.freeze());
                }
                self.take_content(&mut output);
            } else if self.input.len() < BLOCK {
                return Ok(output.freeze());
            } else {
                let head = self.input.split_to(BLOCK).freeze();
                self.take_head(head, &mut output)?;
            }
        }
    }

    fn take_content(&mut self, output: &mut BytesMut) {
        let length = usize::try_from(self.left).unwrap_or(usize::MAX).min(self.input.len());
        let content = self.input.split_to(length);
        self.left -= length as u64;
        match self.into {
            Into::Output => output.extend_from_slice(&content),
            Into::Nowhere => {}
            Into::Extended(kind) => {
                self.held.extend_from_slice(&content);
                self.extended.extend_from_slice(&content);
                if self.left == 0 {
                    self.read_extended(kind);
                }
            }
        }
    }

    fn take_head(&mut self, head: Bytes, output: &mut BytesMut) -> std::io::Result<()> {
        if head.iter().all(|byte| *byte == 0) {
            output.extend_from_slice(&head);
            return Ok(());
        }
        let kind = head[156];
        let bad = || std::io::Error::new(std::io::ErrorKind::InvalidData, "not an archive");
        let size = self.size.or_else(|| number(&head[124..136])).ok_or_else(bad)?;
        let whole = size.checked_next_multiple_of(BLOCK as u64).ok_or_else(bad)?;
        self.left = whole;
        if matches!(kind, b'x' | b'g' | b'L' | b'K') {
            if size > EXTENDED_MAX {
                return Err(std::io::Error::new(std::io::ErrorKind::InvalidData, "an extended header is too long"));
            }
            self.held.extend_from_slice(&head);
            self.extended.clear();
            self.into = Into::Extended(kind);
            return Ok(());
        }
        let path = self.path.take().unwrap_or_else(|| path_of(&head));
        self.size = None;
        let mut entry = self.held.split();
        entry.extend_from_slice(&head);
        self.decide(path.trim_start_matches("./").trim_matches('/'), kind, size, entry.freeze(), output);
        Ok(())
    }

    fn decide(&mut self, path: &str, kind: u8, size: u64, entry: Bytes, output: &mut BytesMut) {
        let is_file = matches!(kind, b'0' | 0);
        let is_engines = path == ".dockerenv"
            || (is_file && size == 0 && FILES.contains(&path))
            || (kind == b'2' && path == "etc/mtab");
        self.into = if is_engines { Into::Nowhere } else { Into::Output };
        if kind == b'5' && DIRECTORIES.contains(&path) {
            self.deferred.push((path.to_owned(), entry));
        } else if !is_engines {
            let is_above = |directory: &str| path.strip_prefix(directory).is_some_and(|rest| rest.starts_with('/'));
            let (above, others) = std::mem::take(&mut self.deferred).into_iter().partition(|(dir, _)| is_above(dir));
            self.deferred = others;
            let above: Vec<(String, Bytes)> = above;
            above.iter().for_each(|(_, head)| output.extend_from_slice(head));
            output.extend_from_slice(&entry);
        }
    }

    /// What an extended header says of the next entry. Those for all entries say nothing that is looked at here.
    fn read_extended(&mut self, kind: u8) {
        let text = self.extended.split();
        match kind {
            b'L' => self.path = Some(until_nul(&text)),
            b'x' => {
                let mut rest = &text[..];
                while let Some((key, value)) = record(&mut rest) {
                    match &*key {
                        "path" => self.path = Some(value),
                        "size" => self.size = value.parse().ok(),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
}

/// Takes the next `LENGTH KEY=VALUE\n` off.
fn record(rest: &mut &[u8]) -> Option<(String, String)> {
    let space = rest.iter().position(|byte| *byte == b' ')?;
    let length: usize = std::str::from_utf8(&rest[..space]).ok()?.parse().ok()?;
    let whole = rest.get(space + 1..length.checked_sub(1)?)?;
    let equals = whole.iter().position(|byte| *byte == b'=')?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let pair = (text(&whole[..equals]), text(&whole[equals + 1..]));
    rest.advance(length);
    Some(pair)
}

fn until_nul(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

fn path_of(head: &[u8]) -> String {
    let (name, prefix) = (until_nul(&head[..100]), until_nul(&head[345..500]));
    let is_posix = &head[257..263] == b"ustar\0";
    if is_posix && !prefix.is_empty() { format!("{prefix}/{name}") } else { name }
}

/// A number in octal, or in base 256 where the first bit says so.
fn number(field: &[u8]) -> Option<u64> {
    if field[0] & 0x80 != 0 {
        return field[1..].iter().try_fold(0_u64, |sum, byte| Some(sum.checked_mul(256)? + u64::from(*byte)));
    }
    let text = until_nul(field);
    let text = text.trim();
    if text.is_empty() { Some(0) } else { u64::from_str_radix(text, 8).ok() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;
    use std::io::Read as _;

    /// An archive: a path with a slash at its end is a directory, one with an arrow a link.
    fn archive(entries: &[(&str, &str)]) -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        for (path, content) in entries {
            let mut header = tar::Header::new_ustar();
            header.set_mode(0o640);
            header.set_size(content.len() as u64);
            if let Some((link, target)) = path.split_once(" -> ") {
                header.set_entry_type(tar::EntryType::Symlink);
                tar.append_link(&mut header, link, target).unwrap();
            } else {
                header.set_entry_type(if path.ends_with('/') {
                    tar::EntryType::Directory
                } else {
                    tar::EntryType::Regular
                });
                tar.append_data(&mut header, path, content.as_bytes()).unwrap();
            }
        }
        tar.into_inner().unwrap()
    }

    /// What is in what goes on, fed in pieces of this length.
    fn passed(archive: &[u8], piece: usize) -> String {
        let mut files = ImageFiles::default();
        let parts = archive.chunks(piece).map(|chunk| files.feed(chunk).unwrap());
        let output: Vec<u8> = parts.flat_map(|part| part.to_vec()).collect();
        let mut lines = String::new();
        for entry in tar::Archive::new(&output[..]).entries().unwrap() {
            let mut entry = entry.unwrap();
            let (path, mut content) = (entry.path().unwrap().display().to_string(), String::new());
            entry.read_to_string(&mut content).unwrap();
            let path = if path.len() > 60 { format!("{}…", &path[..20]) } else { path };
            lines.push_str(&format!("{path} {content}\n"));
        }
        lines
    }

    #[test]
    fn the_engines_own_files_stay_behind() {
        let long = format!("data/{}/file", "d".repeat(200));
        let scratch = archive(&[
            (".dockerenv", ""),
            ("data/", ""),
            ("data/a", "hello"),
            (&long, "deep"),
            ("dev/", ""),
            ("dev/console", ""),
            ("dev/pts/", ""),
            ("dev/shm/", ""),
            ("etc/", ""),
            ("etc/hostname", ""),
            ("etc/hosts", ""),
            ("etc/mtab -> /proc/mounts", ""),
            ("etc/resolv.conf", ""),
            ("proc/", ""),
            ("sys/", ""),
            ("z", "end"),
        ]);
        let whole = passed(&scratch, scratch.len());
        expect![[r#"
            data/ 
            data/a hello
            data/ddddddddddddddd… deep
            z end
        "#]]
        .assert_eq(&whole);
        for piece in [1, 7, 511, 512, 513, 4096] {
            assert_eq!(passed(&scratch, piece), whole, "{piece}");
        }
    }

    #[test]
    fn an_images_own_files_there_go_on_with_their_directories() {
        let debian = archive(&[
            ("dev/", ""),
            ("dev/pts/", ""),
            ("etc/", ""),
            ("etc/hosts", "mine"),
            ("etc/passwd", "root"),
            ("proc/", ""),
        ]);
        expect![[r#"
            etc/ 
            etc/hosts mine
            etc/passwd root
        "#]]
        .assert_eq(&passed(&debian, 100));
    }

    #[test]
    fn what_is_no_archive_is_refused() {
        assert!(ImageFiles::default().feed(&[b'?'; 512]).is_err());
    }
}
