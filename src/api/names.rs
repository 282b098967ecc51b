//! What names, labels, annotations and ports may look like, and the texts that say what is wrong with them.
//!
//! Called by selectors, by kinds' validation and by the pipeline's checks of metadata. Every function gives all that is wrong
//! with one value; an empty list means that it is right. Field paths are the caller's.
//!
//! **Source**: `k8s.io/apimachinery/pkg/api/validate/content/{dns,kube,errors}.go`, `pkg/util/validation/validation.go` and
//! `pkg/api/validation/{objectmeta,generic}.go`, v1.37.

use super::field::{FieldError, FieldErrorKind};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use std::collections::BTreeMap;

/// The longest label value, label name and DNS label, in bytes.
pub const LABEL_MAX: usize = 63;
/// The longest DNS subdomain, and so the longest name of most objects, in bytes.
pub const SUBDOMAIN_MAX: usize = 253;
/// The most bytes that the annotations of an object may have, keys and values together.
pub const ANNOTATIONS_BYTES_MAX: usize = 256 * 1024;

const DNS_1123_LABEL: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";
const DNS_1123_LABEL_TEXT: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', \
     and must start and end with an alphanumeric character";
const DNS_1123_SUBDOMAIN: &str = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*";
const DNS_1123_SUBDOMAIN_TEXT: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, \
     '-' or '.', and must start and end with an alphanumeric character";
const DNS_1035_LABEL: &str = "[a-z]([-a-z0-9]*[a-z0-9])?";
const DNS_1035_LABEL_TEXT: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', \
     start with an alphabetic character, and end with an alphanumeric character";
const LABEL_NAME: &str = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]";
const LABEL_NAME_TEXT: &str = "must consist of alphanumeric characters, '-', '_' or '.', \
     and must start and end with an alphanumeric character";
const LABEL_VALUE: &str = "(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?";
const LABEL_VALUE_TEXT: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', \
     and must start and end with an alphanumeric character";
const CONFIG_KEY: &str = "[-._a-zA-Z0-9]+";
const CONFIG_KEY_TEXT: &str = "a valid config key must consist of alphanumeric characters, '-', '_' or '.'";
const ENV_NAME_TEXT: &str =
    "a valid environment variable name must consist only of printable ASCII characters other than '='";

/// What to say of a value with more than `max` bytes.
pub fn too_long(max: usize) -> String {
    format!("must be no more than {max} bytes")
}

/// What to say of an empty value.
pub fn empty() -> String {
    "must be non-empty".to_owned()
}

/// What to say of a number outside a range.
pub fn out_of_range(low: i64, high: i64) -> String {
    format!("must be between {low} and {high}, inclusive")
}

/// What to say of a value that does not match a pattern; `pattern` is only shown.
pub fn not_matching(text: &str, pattern: &str, examples: &[&str]) -> String {
    if examples.is_empty() {
        return format!("{text} (regex used for validation is '{pattern}')");
    }
    let examples: Vec<String> = examples.iter().map(|e| format!("'{e}', ")).collect();
    format!("{text} (e.g. {}regex used for validation is '{pattern}')", examples.join(" or "))
}

fn is_lower_alnum(b: u8) -> bool {
    b.is_ascii_lowercase() || b.is_ascii_digit()
}

/// Whether the first and last bytes satisfy `edge`, and all satisfy `edge` or are in `inner`. Empty values do not.
fn is_word(value: &str, edge: fn(u8) -> bool, inner: &[u8]) -> bool {
    let bytes = value.as_bytes();
    bytes.first().is_some_and(|b| edge(*b))
        && bytes.last().is_some_and(|b| edge(*b))
        && bytes.iter().all(|b| edge(*b) || inner.contains(b))
}

fn is_dns_label_shape(value: &str) -> bool {
    is_word(value, is_lower_alnum, b"-")
}

fn is_subdomain_shape(value: &str) -> bool {
    value.split('.').all(is_dns_label_shape)
}

fn is_label_shape(value: &str) -> bool {
    is_word(value, |b| b.is_ascii_alphanumeric(), b"-_.")
}

/// Checks a DNS-1123 label: the names of namespaces, containers and volumes.
pub fn dns1123_label(value: &str) -> Vec<String> {
    let mut errs = Vec::new();
    if value.len() > LABEL_MAX {
        errs.push(too_long(LABEL_MAX));
    }
    if !is_dns_label_shape(value) {
        errs.push(if is_subdomain_shape(value) {
            "must not contain dots".to_owned()
        } else {
            not_matching(DNS_1123_LABEL_TEXT, DNS_1123_LABEL, &["my-name", "123-abc"])
        });
    }
    errs
}

/// Checks a DNS-1123 subdomain: the names of most objects.
pub fn dns1123_subdomain(value: &str) -> Vec<String> {
    let mut errs = Vec::new();
    if value.len() > SUBDOMAIN_MAX {
        errs.push(too_long(SUBDOMAIN_MAX));
    }
    if !is_subdomain_shape(value) {
        errs.push(not_matching(DNS_1123_SUBDOMAIN_TEXT, DNS_1123_SUBDOMAIN, &["example.com"]));
    }
    errs
}

/// Checks a name that only has to stand in a path: those of roles. Source: `IsValidPathSegmentName`.
pub fn path_segment(value: &str) -> Vec<String> {
    if value == "." || value == ".." {
        return vec![format!("may not be '{value}'")];
    }
    ["/", "%"].into_iter().filter(|part| value.contains(part)).map(|part| format!("may not contain '{part}'")).collect()
}

/// Checks a DNS-1035 label: the names of Services.
pub fn dns1035_label(value: &str) -> Vec<String> {
    let mut errs = Vec::new();
    if value.len() > LABEL_MAX {
        errs.push(too_long(LABEL_MAX));
    }
    if !is_dns_label_shape(value) || !value.starts_with(|c: char| c.is_ascii_lowercase()) {
        errs.push(not_matching(DNS_1035_LABEL_TEXT, DNS_1035_LABEL, &["my-name", "abc-123"]));
    }
    errs
}

/// Checks a qualified name, which is the same as a label key: `name` or `prefix.example.com/name`.
pub fn qualified_name(value: &str) -> Vec<String> {
    let name_text = || not_matching(LABEL_NAME_TEXT, LABEL_NAME, &["MyName", "my.name", "123-abc"]);
    let mut errs = Vec::new();
    let parts: Vec<&str> = value.split('/').collect();
    let name = match parts[..] {
        [name] => name,
        [prefix, name] => {
            if prefix.is_empty() {
                errs.push(format!("prefix part {}", empty()));
            } else {
                errs.extend(dns1123_subdomain(prefix).into_iter().map(|e| format!("prefix part {e}")));
            }
            name
        }
        _ => {
            return vec![format!(
                "a valid label key {} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')",
                name_text()
            )];
        }
    };
    if name.is_empty() {
        errs.push(format!("name part {}", empty()));
    } else if name.len() > LABEL_MAX {
        errs.push(format!("name part {}", too_long(LABEL_MAX)));
    }
    if !is_label_shape(name) {
        errs.push(format!("name part {}", name_text()));
    }
    errs
}

/// Checks a label's value.
pub fn label_value(value: &str) -> Vec<String> {
    let mut errs = Vec::new();
    if value.len() > LABEL_MAX {
        errs.push(too_long(LABEL_MAX));
    }
    if !value.is_empty() && !is_label_shape(value) {
        errs.push(not_matching(LABEL_VALUE_TEXT, LABEL_VALUE, &["MyValue", "my_value", "12345"]));
    }
    errs
}

/// Checks the name of a container's port (an IANA service name).
pub fn port_name(value: &str) -> Vec<String> {
    let mut errs = Vec::new();
    if value.len() > 15 {
        errs.push(too_long(15));
    }
    if value.is_empty() || !value.bytes().all(|b| is_lower_alnum(b) || b == b'-') {
        errs.push("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)".to_owned());
    }
    if !value.bytes().any(|b| b.is_ascii_lowercase()) {
        errs.push("must contain at least one letter (a-z)".to_owned());
    }
    if value.contains("--") {
        errs.push("must not contain consecutive hyphens".to_owned());
    }
    if value.starts_with('-') || value.ends_with('-') {
        errs.push("must not begin or end with a hyphen".to_owned());
    }
    errs
}

/// Checks a port number.
pub fn port_number(port: i64) -> Vec<String> {
    if (1..=65535).contains(&port) { Vec::new() } else { vec![out_of_range(1, 65535)] }
}

/// Checks a key of a ConfigMap or Secret.
pub fn config_key(value: &str) -> Vec<String> {
    let mut errs = Vec::new();
    if value.len() > SUBDOMAIN_MAX {
        errs.push(too_long(SUBDOMAIN_MAX));
    }
    if value.is_empty() || !value.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b)) {
        errs.push(not_matching(CONFIG_KEY_TEXT, CONFIG_KEY, &["key.name", "KEY_NAME", "key-name"]));
    }
    match value {
        "." => errs.push("must not be '.'".to_owned()),
        ".." => errs.push("must not be '..'".to_owned()),
        _ if value.starts_with("..") => errs.push("must not start with '..'".to_owned()),
        _ => {}
    }
    errs
}

/// Checks the name of an environment variable.
pub fn env_name(value: &str) -> Vec<String> {
    let mut errs = Vec::new();
    if value.is_empty() {
        errs.push(format!("environment variable name {}", empty()));
    }
    if !value.bytes().all(|b| (b.is_ascii_graphic() || b == b' ') && b != b'=') {
        errs.push(ENV_NAME_TEXT.to_owned());
    }
    errs
}

/// A name prefix with its trailing dash replaced, so that it can be checked as a name.
///
/// Source: `maskTrailingDash` in `pkg/api/validation/generic.go`.
pub fn mask_trailing_dash(prefix: &str) -> String {
    let mut chars = prefix.chars();
    let is_masked = chars.next_back() == Some('-') && chars.next_back().is_some();
    if is_masked { format!("{}a", chars.as_str()) } else { prefix.to_owned() }
}

/// All that is wrong with an object's (or a template's) labels.
pub fn check_labels(labels: &BTreeMap<String, String>, path: &str) -> Vec<FieldError> {
    let mut errs = Vec::new();
    for (key, value) in labels {
        errs.extend(qualified_name(key).into_iter().map(|e| FieldError::invalid(path, key, e)));
        errs.extend(label_value(value).into_iter().map(|e| FieldError::invalid(path, value, e)));
    }
    errs
}

/// All that is wrong with a label selector in an object.
///
/// Source: `ValidateLabelSelector` in `pkg/apis/meta/v1/validation/validation.go`.
pub fn check_label_selector(selector: &LabelSelector, path: &str) -> Vec<FieldError> {
    let mut errs =
        check_labels(selector.match_labels.as_ref().unwrap_or(&BTreeMap::new()), &format!("{path}.matchLabels"));
    for (i, expression) in selector.match_expressions.iter().flatten().enumerate() {
        let at = format!("{path}.matchExpressions[{i}]");
        let values = expression.values.as_deref().unwrap_or_default();
        match expression.operator.as_str() {
            "In" | "NotIn" if values.is_empty() => errs.push(FieldError::required(
                format!("{at}.values"),
                "must be specified when `operator` is 'In' or 'NotIn'",
            )),
            "Exists" | "DoesNotExist" if !values.is_empty() => errs.push(FieldError::forbidden(
                format!("{at}.values"),
                "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
            )),
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            other => {
                errs.push(FieldError::invalid(format!("{at}.operator"), other, "not a valid selector operator"));
            }
        }
        let key = qualified_name(&expression.key).into_iter();
        errs.extend(key.map(|e| FieldError::invalid(format!("{at}.key"), &expression.key, e)));
        for (j, value) in values.iter().enumerate() {
            let wrong = label_value(value).into_iter();
            errs.extend(wrong.map(|e| FieldError::invalid(format!("{at}.values[{j}]"), value, e)));
        }
    }
    errs
}

/// All that is wrong with an object's (or a template's) annotations.
pub fn check_annotations(annotations: &BTreeMap<String, String>, path: &str) -> Vec<FieldError> {
    let mut errs = Vec::new();
    for key in annotations.keys() {
        // The case of annotation keys is free, also in the prefix.
        let checked = qualified_name(&key.to_lowercase());
        errs.extend(checked.into_iter().map(|e| FieldError::invalid(path, key, e)));
    }
    let bytes: usize = annotations.iter().map(|(k, v)| k.len() + v.len()).sum();
    if bytes > ANNOTATIONS_BYTES_MAX {
        let kind = FieldErrorKind::TooLong(ANNOTATIONS_BYTES_MAX);
        errs.push(FieldError { path: path.to_owned(), kind, detail: String::new() });
    }
    errs
}

/// FNV-1a with 32 bits, of which Kubernetes makes parts of names.
pub fn fnv1a(bytes: impl Iterator<Item = u8>) -> u32 {
    bytes.fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(checker: fn(&str) -> Vec<String>, good: &[&str], bad: &[&str]) {
        for value in good {
            assert_eq!(checker(value), Vec::<String>::new(), "{value:?} is right");
        }
        for value in bad {
            assert!(!checker(value).is_empty(), "{value:?} is wrong");
        }
    }

    #[test]
    fn names_are_told_apart() {
        let (long, too_long) = ("a".repeat(63), "a".repeat(64));
        check(dns1123_label, &["a", "a-b", "1a", "0", &long], &["", "-a", "a-", "A", "a.b", "a_b", "é", &too_long]);
        check(dns1123_subdomain, &["a", "a.b", "1.2", "a-b.c"], &["", ".", "a.", ".a", "a..b", "A.b", "a_b", "a.-b"]);
        check(dns1035_label, &["a", "a1", "a-1"], &["", "1a", "a-", "a.b", "A"]);
        check(
            qualified_name,
            &["a", "A_b.c-d", "example.com/Name", "1/2", &long],
            &["", "/a", "a/", "a/b/c", "-a", "a-", "Ex.com/a", "a b", &too_long],
        );
        check(label_value, &["", "a", "A_b.c-d", &long], &["-", "a ", "a/b", &too_long]);
        check(port_name, &["http", "a-1", "1a"], &["", "1", "-a", "a-", "a--b", "A", "a_b", "sixteen-letters1"]);
        check(config_key, &["a", ".a", "A_b.c-d", "..."][..3], &["", ".", "..", "..a", "a/b", "a b"]);
        check(env_name, &["A", "a.b", "a b"], &["", "a=b", "é", "a\n"]);
    }

    #[test]
    fn texts_are_kubernetes_own() {
        assert_eq!(
            dns1123_label("A"),
            [
                "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end \
                 with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is \
                 '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
            ]
        );
        assert_eq!(dns1123_label("a.b"), ["must not contain dots"]);
        assert_eq!(label_value(&"a".repeat(64)), ["must be no more than 63 bytes"]);
        assert_eq!(
            qualified_name("/"),
            [
                "prefix part must be non-empty",
                "name part must be non-empty",
                "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an \
                 alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is \
                 '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
            ]
        );
    }

    #[test]
    fn a_prefix_may_end_in_a_dash() {
        assert_eq!(mask_trailing_dash("web-"), "wea");
        assert_eq!(mask_trailing_dash("web"), "web");
        assert_eq!(mask_trailing_dash("A-"), "a");
        assert_eq!(mask_trailing_dash("-"), "-");
    }

    #[test]
    fn metadata_maps_name_their_fields() {
        let labels = BTreeMap::from([("ok".to_owned(), "b c".to_owned())]);
        let errs = check_labels(&labels, "metadata.labels");
        assert_eq!(errs.len(), 1);
        assert_eq!(errs[0].path, "metadata.labels");
        let annotations = BTreeMap::from([("Example.com/A".to_owned(), "x".repeat(ANNOTATIONS_BYTES_MAX))]);
        let errs = check_annotations(&annotations, "metadata.annotations");
        assert_eq!(errs.len(), 1);
        assert_eq!(errs[0].to_string(), "metadata.annotations: Too long: may not be more than 262144 bytes");
    }

    #[test]
    fn the_hash_of_names_is_fnv_1a() {
        assert_eq!(fnv1a("".bytes()), 0x811c_9dc5);
        assert_eq!(fnv1a("foobar".bytes()), 0xbf9c_f968);
    }
}
