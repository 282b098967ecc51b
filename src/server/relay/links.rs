//! Links of a page that came from a pod, so that they lead through the API server again. Pure.
//!
//! A page that says `/style.css` means a path of its pod; whoever sees it through the API must ask for `PREFIX/style.css`. The page is read
//! as it comes; what is no link stays as it was, byte for byte.
//!
//! **Bounds**: of a page no more is kept than a tag, and of a tag no more than [`TAG_BYTES_MAX`]: a longer one passes as it is.
//! **Source**: `k8s.io/apimachinery/pkg/util/proxy/transport.go`, v1.37.

use std::ops::Range;

/// The longest tag that is looked into: pictures may be in one as text.
const TAG_BYTES_MAX: usize = 1 << 20;

/// Which attributes of which elements hold a link. Source: `atomsToAttrs`.
const ATTRIBUTES: &[(&str, &[&str])] = &[
    ("a", &["href"]),
    ("applet", &["codebase"]),
    ("area", &["href"]),
    ("audio", &["src"]),
    ("base", &["href"]),
    ("blockquote", &["cite"]),
    ("body", &["background"]),
    ("button", &["formaction"]),
    ("command", &["icon"]),
    ("del", &["cite"]),
    ("embed", &["src"]),
    ("form", &["action"]),
    ("frame", &["longdesc", "src"]),
    ("head", &["profile"]),
    ("html", &["manifest"]),
    ("iframe", &["longdesc", "src"]),
    ("img", &["longdesc", "src", "usemap"]),
    ("input", &["src", "usemap", "formaction"]),
    ("ins", &["cite"]),
    ("link", &["href"]),
    ("object", &["classid", "codebase", "data", "usemap"]),
    ("q", &["cite"]),
    ("script", &["src"]),
    ("source", &["src"]),
    ("video", &["poster", "src"]),
];

/// Elements whose text is no markup.
const RAW: &[&str] = &["iframe", "noembed", "noframes", "script", "style", "textarea", "title", "xmp"];

/// Where a page came from, and where its links must lead.
#[derive(Clone, Debug)]
pub(super) struct Way {
    /// What the API's path has before the pod's.
    pub(super) prefix: String,
    /// The pod's address and port, as in a URL.
    pub(super) pod: String,
    /// The host that the client asked for.
    pub(super) host: String,
}

impl Way {
    /// The link that leads where `link` was meant to; `None`: it leads there already, or elsewhere.
    ///
    /// Source: `rewriteURL`.
    pub(super) fn rewritten(&self, link: &str) -> Option<String> {
        let (origin, path) = split(link);
        let host = origin.rsplit_once("//").map_or("", |(_, host)| host);
        let is_elsewhere = !host.is_empty() && host != self.pod && host != self.host;
        if is_elsewhere || !path.starts_with('/') {
            return None;
        }
        let origin = if host == self.host { origin } else { "" };
        let is_led = path.starts_with(&self.prefix);
        let new = if is_led { format!("{origin}{path}") } else { format!("{origin}{}{path}", self.prefix) };
        (new != link).then_some(new)
    }
}

/// `scheme://host` and what follows. A link of another form has no origin.
fn split(link: &str) -> (&str, &str) {
    let after_scheme = match link.find("//") {
        Some(0) => 2,
        Some(at) if link[..at].ends_with(':') && !link[..at - 1].contains(['/', '?', '#', ':']) => at + 2,
        _ => return ("", link),
    };
    let end = link[after_scheme..].find(['/', '?', '#']).map_or(link.len(), |at| after_scheme + at);
    link.split_at(end)
}

/// Changes the links of a page as it comes.
#[derive(Debug)]
pub(super) struct Links {
    way: Way,
    /// What has come and was not understood to its end.
    waiting: Vec<u8>,
    within: Within,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Within {
    Text,
    Comment,
    /// The text of an element that has no markup in it.
    Raw(&'static str),
}

/// What was understood of the bytes that wait.
enum Step {
    /// So many bytes pass as they are, and this is what follows.
    Pass(usize, Within),
    /// A tag of so many bytes that begins an element.
    Tag(usize),
    /// So many bytes pass, and the rest needs more to be understood.
    More(usize),
}

impl Links {
    pub(super) fn new(way: Way) -> Self {
        Self { way, waiting: Vec::new(), within: Within::Text }
    }

    /// What may go out now that these bytes have come.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut waiting = std::mem::take(&mut self.waiting);
        waiting.extend_from_slice(bytes);
        let mut out = Vec::with_capacity(waiting.len());
        let mut at = 0;
        loop {
            let rest = &waiting[at..];
            match step(rest, self.within) {
                Step::Pass(n, next) => {
                    out.extend_from_slice(&rest[..n]);
                    self.within = next;
                    at += n;
                }
                Step::Tag(n) => {
                    self.within = self.tag(&rest[..n], &mut out);
                    at += n;
                }
                Step::More(n) => {
                    let n = if rest.len() - n > TAG_BYTES_MAX { rest.len() } else { n };
                    out.extend_from_slice(&rest[..n]);
                    self.waiting = rest[n..].to_vec();
                    return out;
                }
            }
        }
    }

    /// What is left at the page's end.
    pub(super) fn finish(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.waiting)
    }

    /// Writes a tag with its links changed, and tells what follows it.
    fn tag(&self, tag: &[u8], out: &mut Vec<u8>) -> Within {
        let end = tag[1..].iter().position(|b| is_space(*b) || matches!(b, b'/' | b'>')).map_or(tag.len(), |at| at + 1);
        let name = String::from_utf8_lossy(&tag[1..end]).to_ascii_lowercase();
        let links = ATTRIBUTES.iter().find(|(element, _)| *element == name).map_or(&[][..], |(_, links)| links);
        let mut written = 0;
        for (attribute, value) in attributes(tag, end) {
            let is_link = links.iter().any(|link| tag[attribute.clone()].eq_ignore_ascii_case(link.as_bytes()));
            let text = std::str::from_utf8(&tag[value.clone()]).ok().filter(|_| is_link);
            if let Some(new) = text.and_then(|text| self.way.rewritten(text)) {
                out.extend_from_slice(&tag[written..value.start]);
                out.extend_from_slice(new.as_bytes());
                written = value.end;
            }
        }
        out.extend_from_slice(&tag[written..]);
        RAW.iter().find(|raw| **raw == name).map_or(Within::Text, |raw| Within::Raw(raw))
    }
}

fn is_space(byte: u8) -> bool {
    byte.is_ascii_whitespace()
}

fn find(within: &[u8], what: &[u8]) -> Option<usize> {
    within.windows(what.len()).position(|window| window.eq_ignore_ascii_case(what))
}

fn step(rest: &[u8], within: Within) -> Step {
    match within {
        Within::Text => text_step(rest),
        Within::Comment => match find(rest, b"-->") {
            Some(at) => Step::Pass(at + 3, Within::Text),
            None => Step::More(rest.len().saturating_sub(2)),
        },
        Within::Raw(name) => {
            let end = format!("</{name}");
            match find(rest, end.as_bytes()) {
                Some(at) => Step::Pass(at, Within::Text),
                None => Step::More(rest.len().saturating_sub(end.len() - 1)),
            }
        }
    }
}

fn text_step(rest: &[u8]) -> Step {
    let Some(at) = rest.iter().position(|b| *b == b'<') else { return Step::More(rest.len()) };
    if at > 0 {
        return Step::Pass(at, Within::Text);
    }
    match rest.get(1) {
        None => Step::More(0),
        Some(b'!') if rest.starts_with(b"<!--") => Step::Pass(4, Within::Comment),
        Some(b'!') if b"<!--".starts_with(rest) => Step::More(0),
        Some(b'!' | b'?' | b'/') => match rest.iter().position(|b| *b == b'>') {
            Some(end) => Step::Pass(end + 1, Within::Text),
            None => Step::More(0),
        },
        Some(letter) if letter.is_ascii_alphabetic() => tag_end(rest).map_or(Step::More(0), Step::Tag),
        Some(_) => Step::Pass(1, Within::Text),
    }
}

/// The length of a tag: a `>` within quotes does not end it.
fn tag_end(tag: &[u8]) -> Option<usize> {
    let mut at = 1;
    let mut is_value = false;
    while let Some(byte) = tag.get(at) {
        match byte {
            b'>' => return Some(at + 1),
            b'"' | b'\'' if is_value => at += 1 + tag[at + 1..].iter().position(|b| b == byte)?,
            _ => {}
        }
        is_value = *byte == b'=' || (is_value && is_space(*byte));
        at += 1;
    }
    None
}

/// The names and values of a tag's attributes, as places in it. `at` is the end of its name.
fn attributes(tag: &[u8], mut at: usize) -> Vec<(Range<usize>, Range<usize>)> {
    let until = |from: usize, ends: fn(u8) -> bool| {
        tag[from..].iter().position(|b| ends(*b)).map_or(tag.len(), |found| from + found)
    };
    let mut all = Vec::new();
    loop {
        let name = until(at, |b| !is_space(b) && b != b'/');
        if name >= tag.len() || tag[name] == b'>' {
            return all;
        }
        // An attribute's name has one character at least, whichever that is.
        let name_end = until(name + 1, |b| is_space(b) || matches!(b, b'/' | b'>' | b'='));
        let equals = until(name_end, |b| !is_space(b));
        if tag.get(equals) != Some(&b'=') {
            at = name_end;
            continue;
        }
        let start = until(equals + 1, |b| !is_space(b));
        let value = match tag.get(start) {
            Some(b'"') => start + 1..until(start + 1, |b| b == b'"'),
            Some(b'\'') => start + 1..until(start + 1, |b| b == b'\''),
            _ => start..until(start, |b| is_space(b) || b == b'>'),
        };
        at = if start < value.start { value.end + 1 } else { value.end };
        all.push((name..name_end, value));
        if at >= tag.len() {
            return all;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn way() -> Way {
        Way { prefix: "/p/proxy".to_owned(), pod: "10.0.0.7:80".to_owned(), host: "api:6443".to_owned() }
    }

    /// The page after it came in pieces of so many bytes.
    fn rewritten(page: &[u8], piece: usize) -> Vec<u8> {
        let mut links = Links::new(way());
        let mut out: Vec<u8> = page.chunks(piece).flat_map(|piece| links.push(piece)).collect();
        out.extend(links.finish());
        out
    }

    #[test]
    fn links_to_the_pod_lead_through_the_server() {
        for (link, want) in [
            ("/a/b?x=1#y", Some("/p/proxy/a/b?x=1#y")),
            ("/", Some("/p/proxy/")),
            ("/p/proxy/a", None),
            ("a/b", None),
            ("?x", None),
            ("#top", None),
            ("", None),
            ("mailto:a@b", None),
            ("javascript:x('//a/')", None),
            ("http://10.0.0.7:80/a", Some("/p/proxy/a")),
            ("http://10.0.0.7:80", None),
            ("//10.0.0.7:80/a", Some("/p/proxy/a")),
            ("http://10.0.0.7:80/p/proxy/a", Some("/p/proxy/a")),
            ("https://api:6443/a", Some("https://api:6443/p/proxy/a")),
            ("https://elsewhere/a", None),
            ("//elsewhere/a", None),
            ("/a//b", Some("/p/proxy/a//b")),
        ] {
            assert_eq!(way().rewritten(link).as_deref(), want, "{link}");
        }
    }

    #[test]
    fn a_page_keeps_all_but_its_links() {
        let page = "<!DOCTYPE html><HTML><head><link rel=x HREF = '/s.css'><title><a href=\"/no\"></title>\n\
                    <script src=/j.js>if (a</b/) '<a href=\"/no\">';</script><!-- <a href=\"/no\"> --></head>\
                    <body><a title=\"a > b\" href=\"/x\" data-y='/no'>1 < 2 <b>é</b></a><img src=\"/i.png\"/>\
                    <a href=x><A\nhref=\"http://10.0.0.7:80/z\"></body><p href='/no'><a href=\"/torn";
        let want = "<!DOCTYPE html><HTML><head><link rel=x HREF = '/p/proxy/s.css'><title><a href=\"/no\"></title>\n\
                    <script src=/p/proxy/j.js>if (a</b/) '<a href=\"/no\">';</script><!-- <a href=\"/no\"> --></head>\
                    <body><a title=\"a > b\" href=\"/p/proxy/x\" data-y='/no'>1 < 2 <b>é</b></a><img src=\"/p/proxy/i.png\"/>\
                    <a href=x><A\nhref=\"/p/proxy/z\"></body><p href='/no'><a href=\"/torn";
        for piece in [1, 2, 3, 7, 1000] {
            assert_eq!(String::from_utf8(rewritten(page.as_bytes(), piece)).unwrap(), want, "pieces of {piece}");
        }
    }

    #[test]
    fn a_tag_without_an_end_does_not_pile_up() {
        let mut links = Links::new(way());
        let mut out = links.push(b"<a href='");
        let piece = vec![b'x'; 64 * 1024];
        (0..32).for_each(|_| out.extend(links.push(&piece)));
        assert!(links.waiting.len() <= TAG_BYTES_MAX + piece.len(), "{}", links.waiting.len());
        out.extend(links.finish());
        assert_eq!(out.len(), 9 + 32 * piece.len());
    }

    proptest! {
        #[test]
        fn whatever_comes_in_pieces_comes_out_the_same(
            page in prop::collection::vec(prop::sample::select(&b"<>/!-= '\"ahrefscipt\n?"[..]), 0..200),
            piece in 1usize..20,
        ) {
            prop_assert_eq!(rewritten(&page, piece), rewritten(&page, 1000));
        }
    }
}
