//! A certificate of whom several organizations are told, which are a user's groups: the library that signs keeps one of them, so that the whole
//! subject is put in after it, and the certificate signed again.
//!
//! **Source**: RFC 5280, 4.1; X.690 for how it is written.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use rcgen::{KeyPair, SigningKey as _};

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const OBJECT_IDENTIFIER: u8 = 0x06;
const UTF8_STRING: u8 = 0x0c;
const BIT_STRING: u8 = 0x03;
/// The identifiers 2.5.4.10 and 2.5.4.3, as they are written.
const ORGANIZATION: &[u8] = &[0x55, 4, 10];
const COMMON_NAME: &[u8] = &[0x55, 4, 3];
const PEM_LINE: usize = 64;

/// A subject of a name and organizations, as DER.
pub(super) fn of(common_name: &str, organizations: &[String]) -> Vec<u8> {
    let part = |kind: &[u8], text: &str| {
        let pair = [element(OBJECT_IDENTIFIER, kind), element(UTF8_STRING, text.as_bytes())].concat();
        element(SET, &element(SEQUENCE, &pair))
    };
    let mut parts: Vec<u8> = organizations.iter().flat_map(|name| part(ORGANIZATION, name)).collect();
    parts.extend(part(COMMON_NAME, common_name));
    element(SEQUENCE, &parts)
}

/// A certificate (DER) with another subject, signed with this key, as PEM. `None`: it is no certificate, or the key does not sign.
pub(super) fn replaced(certificate: &[u8], subject: &[u8], key: &KeyPair) -> Option<String> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let old = parsed.subject().as_raw();
    let whole = parsed.tbs_certificate.as_ref();
    let at = old.as_ptr().addr().checked_sub(whole.as_ptr().addr())?;
    let head = whole.get(header_len(whole)?..at)?;
    let tail = whole.get(at + old.len()..)?;
    let signed = element(SEQUENCE, &[head, subject, tail].concat());
    // How it is signed is written once more behind what is signed.
    let after = certificate.get(header_len(certificate)? + whole.len()..)?;
    let method = after.get(..header_len(after)? + usize::from(*after.get(1)?))?;
    let signature = [&[0][..], &key.sign(&signed).ok()?].concat();
    let parts = [&signed[..], method, &element(BIT_STRING, &signature)].concat();
    Some(pem(&element(SEQUENCE, &parts)))
}

/// How many bytes an element has before its content.
fn header_len(element: &[u8]) -> Option<usize> {
    let first = *element.get(1)?;
    Some(if first < 0x80 { 2 } else { 2 + usize::from(first & 0x7f) })
}

fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len().to_be_bytes();
    let significant: Vec<u8> = length.iter().copied().skip_while(|byte| *byte == 0).collect();
    let mut written = vec![tag];
    match significant[..] {
        [] => written.push(0),
        [short] if short < 0x80 => written.push(short),
        _ => {
            written.push(0x80 | u8::try_from(significant.len()).expect("a length has at most eight bytes"));
            written.extend(significant);
        }
    }
    written.extend(content);
    written
}

fn pem(der: &[u8]) -> String {
    let text = BASE64_STANDARD.encode(der);
    let lines: Vec<&str> =
        text.as_bytes().chunks(PEM_LINE).map(|line| std::str::from_utf8(line).expect("base64 is ASCII")).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_written_as_short_as_they_are() {
        assert_eq!(element(SET, &[]), [SET, 0]);
        assert_eq!(element(SET, &[7; 127])[..3], [SET, 127, 7]);
        assert_eq!(element(SET, &[7; 128])[..4], [SET, 0x81, 128, 7]);
        assert_eq!(element(SET, &[7; 300])[..5], [SET, 0x82, 1, 44, 7]);
        assert_eq!([header_len(&[SET, 5]), header_len(&[SET, 0x82, 1, 44])], [Some(2), Some(4)]);
    }
}
