//! Names of images: `[HOST/]PATH[:TAG][@DIGEST]`, or an image's ID. Pure.
//!
//! Used by kinds that name images and by the node, which looks them up.
//! **Source**: `github.com/distribution/reference` (the grammar of `reference`, and `familiarizeName`).

/// The reference with the tag `latest` when it has neither tag nor digest.
pub fn with_tag(name: &str) -> String {
    let last = name.rsplit('/').next().unwrap_or(name);
    let is_id = name.starts_with("sha256:");
    if is_id || name.contains('@') || last.contains(':') { name.to_owned() } else { format!("{name}:latest") }
}

/// Whether a text may name an image. Source: `github.com/distribution/reference` (grammar of `reference`).
pub fn is_reference(name: &str) -> bool {
    if let Some(id) = name.strip_prefix("sha256:") {
        return id.len() == 64 && id.bytes().all(|b| b.is_ascii_hexdigit());
    }
    let (rest, digest) = name.split_once('@').map_or((name, None), |(rest, digest)| (rest, Some(digest)));
    let last = rest.rfind('/').map_or(0, |slash| slash + 1);
    let (path, tag) = match rest[last..].find(':') {
        Some(colon) => (&rest[..last + colon], Some(&rest[last + colon + 1..])),
        None => (rest, None),
    };
    digest.is_none_or(is_digest) && tag.is_none_or(is_tag) && is_path(path)
}

fn is_digest(digest: &str) -> bool {
    let hex = |text: &str| text.len() >= 32 && text.bytes().all(|b| b.is_ascii_hexdigit());
    digest.split_once(':').is_some_and(|(algorithm, value)| !algorithm.is_empty() && hex(value))
}

/// Whether a text may be a tag.
pub fn is_tag(tag: &str) -> bool {
    let is_word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let mut bytes = tag.bytes();
    bytes.next().is_some_and(is_word) && bytes.all(|b| is_word(b) || matches!(b, b'.' | b'-')) && tag.len() <= 128
}

fn is_path(path: &str) -> bool {
    let mut parts = path.split('/').peekable();
    let first = *parts.peek().unwrap_or(&"");
    // A first part with a dot or a port is a host.
    let is_host = path.contains('/') && (first.contains(['.', ':']) || first == "localhost");
    if is_host {
        parts.next();
        if !first.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b':' | b'[' | b']')) {
            return false;
        }
    }
    path.len() <= 255 && parts.all(is_component)
}

fn is_component(part: &str) -> bool {
    let is_word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let (Some(first), Some(last)) = (part.bytes().next(), part.bytes().last()) else { return false };
    is_word(first)
        && is_word(last)
        && part.bytes().all(|b| is_word(b) || matches!(b, b'.' | b'_' | b'-'))
        && !part.contains("..")
        && !part.contains("___")
}

/// What Docker leaves out of a name: the registry that it asks when none is named, and that registry's own repositories.
const DEFAULT_PLACES: [&str; 4] = ["docker.io/library/", "index.docker.io/library/", "docker.io/", "index.docker.io/"];

/// The name as the engine lists it: without the default registry, and with a tag or a digest.
pub fn familiar(name: &str) -> String {
    with_tag(DEFAULT_PLACES.iter().find_map(|place| name.strip_prefix(place)).unwrap_or(name))
}

/// The name without tag and digest.
pub fn repository(name: &str) -> &str {
    let rest = name.split_once('@').map_or(name, |(rest, _)| rest);
    let last = rest.rfind('/').map_or(0, |slash| slash + 1);
    rest[last..].find(':').map_or(rest, |colon| &rest[..last + colon])
}

/// The digest that the name ends with: `sha256:…`.
pub fn digest(name: &str) -> Option<&str> {
    name.split_once('@').map(|(_, digest)| digest)
}

/// Whether an image's `repository@digest` names say that a registry has it under this name. The registry of one name knows nothing of
/// another's. An engine that keeps images as registries do (containerd's store) names each by a digest that is its ID, wherever it is from:
/// that says nothing.
pub fn is_known_to_registry<'a>(name: &str, id: &str, digests: impl IntoIterator<Item = &'a str>) -> bool {
    registry_digests(name, id, digests).next().is_some()
}

/// The name by which workloads use an image that has `name`: with a digest, so that another image of that name is another name. An image
/// that the name's own registry has is known by the digest of it, which every engine knows; one that was made here, or may be, by its ID.
/// The registry of another name, where it was pushed too, may be gone tomorrow.
pub fn pinned<'a>(name: &str, id: &str, digests: impl IntoIterator<Item = &'a str>) -> String {
    let known = registry_digests(name, id, digests).next();
    known.map_or_else(|| format!("{}@{id}", repository(name)), str::to_owned)
}

/// Those of an image's `repository@digest` names that the registry of this name gave it. See [`is_known_to_registry`].
fn registry_digests<'a>(
    name: &str,
    id: &str,
    digests: impl IntoIterator<Item = &'a str>,
) -> impl Iterator<Item = &'a str> {
    let known = familiar(name);
    digests.into_iter().filter(move |of| repository(of) == repository(&known) && digest(of) != Some(id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_says_that_a_registry_has_an_image_unless_it_is_the_images_own() {
        for (name, digests, want) in [
            ("web", &["web@sha256:aa"][..], true),
            ("docker.io/library/web:1", &["web@sha256:aa"], true),
            ("web", &["host:5000/web@sha256:aa"], false),
            ("web", &["web@sha256:00"], false),
            ("web", &["web@sha256:00", "web@sha256:aa"], true),
            ("web", &[], false),
        ] {
            assert_eq!(is_known_to_registry(name, "sha256:00", digests.iter().copied()), want, "{name} {digests:?}");
        }
    }

    #[test]
    fn a_pinned_name_is_of_the_registry_that_the_name_says() {
        for (name, digests, want) in [
            ("web:1", &["web@sha256:aa"][..], "web@sha256:aa"),
            ("docker.io/library/web:1", &["host:5000/web@sha256:bb", "web@sha256:aa"], "web@sha256:aa"),
            ("web:1", &["host:5000/shop/web@sha256:bb"], "web@sha256:00"),
            ("host:5000/web:1", &["web@sha256:aa"], "host:5000/web@sha256:00"),
            ("web:1", &["web@sha256:00"], "web@sha256:00"),
            ("web:1", &[], "web@sha256:00"),
        ] {
            assert_eq!(pinned(name, "sha256:00", digests.iter().copied()), want, "{name} {digests:?}");
        }
    }

    #[test]
    fn a_missing_tag_is_latest() {
        let cases = [
            ("web", "web:latest"),
            ("web:1", "web:1"),
            ("host:5000/web", "host:5000/web:latest"),
            ("host:5000/web:1", "host:5000/web:1"),
            ("web@sha256:00", "web@sha256:00"),
        ];
        for (name, want) in cases {
            assert_eq!(with_tag(name), want);
        }
    }

    #[test]
    fn references_follow_the_grammar() {
        let digest = "0".repeat(64);
        let good = ["web", "web:1.0_a-b", "a/b/c", "host:5000/web", "localhost/x", "gcr.io/project-1", "a__b", "a.b-c"];
        for name in good {
            assert!(is_reference(name), "{name}");
        }
        assert!(is_reference(&format!("web@sha256:{digest}")));
        assert!(is_reference(&format!("sha256:{digest}")));
        for name in ["", "Web", "web:", "web: 1", "a//b", "/a", "a/", "-a", "a..b", "web@sha256:xyz", "we b", "a___b"] {
            assert!(!is_reference(name), "{name}");
        }
    }

    #[test]
    fn a_name_is_taken_apart() {
        let id = format!("sha256:{}", "0".repeat(64));
        for (name, listed, repo) in [
            ("web", "web:latest", "web"),
            ("docker.io/library/web:1", "web:1", "docker.io/library/web"),
            ("docker.io/me/web", "me/web:latest", "docker.io/me/web"),
            ("host:5000/web", "host:5000/web:latest", "host:5000/web"),
            ("host:5000/web:1", "host:5000/web:1", "host:5000/web"),
        ] {
            assert_eq!((familiar(name).as_str(), repository(name), digest(name)), (listed, repo, None));
        }
        let pinned = format!("host:5000/web:1@{id}");
        assert_eq!((repository(&pinned), digest(&pinned)), ("host:5000/web", Some(&*id)));
        assert_eq!(familiar(&pinned), pinned);
    }
}
