//! The values that a Route gives to headers: text in which `%[req.hdr(NAME)]` stands for the value of another header. Pure.
//!
//! Checked when a Route is written, and filled by the router.
//!
//! **Source**: `permittedHeaderValueTemplate` in github.com/openshift/library-go, `pkg/route/validation/validation.go`, release 4.20. Of
//! it, flags (`%{+Q}`) and `ssl_c_der` are refused: the router has no use for a client's certificate.

/// Whose headers a value is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Those that go to an endpoint.
    Request,
    /// Those that go to the client.
    Response,
}

/// A part of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// This text.
    Text(String),
    /// The value of a header of the same message, in lower case and in base64 where that is asked.
    Header {
        /// Its name.
        name: String,
        /// What is done to its value, in order.
        converters: Vec<Converter>,
    },
}

/// What is done to a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Converter {
    /// Letters become small ones.
    Lower,
    /// It is written as base64.
    Base64,
}

/// Reads a value.
///
/// # Errors
/// What is wrong with it.
pub fn parse(text: &str, side: Side) -> Result<Vec<Part>, String> {
    let mut parts = Vec::new();
    let mut plain = String::new();
    let mut rest = text;
    while let Some(next) = rest.chars().next() {
        if next.is_control() {
            return Err("a header's value has no control characters".to_owned());
        }
        let Some(after) = rest.strip_prefix('%') else {
            plain.push(next);
            rest = &rest[next.len_utf8()..];
            continue;
        };
        if let Some(after) = after.strip_prefix('%') {
            plain.push('%');
            rest = after;
            continue;
        }
        let (inner, after) = after
            .strip_prefix('[')
            .and_then(|inner| inner.split_once(']'))
            .ok_or("a % begins %[…] or is written %%")?;
        if !plain.is_empty() {
            parts.push(Part::Text(std::mem::take(&mut plain)));
        }
        parts.push(sample(inner, side)?);
        rest = after;
    }
    if !plain.is_empty() {
        parts.push(Part::Text(plain));
    }
    Ok(parts)
}

/// What stands between `%[` and `]`.
fn sample(text: &str, side: Side) -> Result<Part, String> {
    let fetch = if side == Side::Request { "req.hdr(" } else { "res.hdr(" };
    let mut words = text.split(',');
    let first = words.next().unwrap_or_default();
    let name = first.strip_prefix(fetch).and_then(|rest| rest.strip_suffix(')'));
    let is_name = |name: &&str| !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    let name = name.filter(is_name).ok_or_else(|| format!("{first:?} is not {fetch}NAME)"))?;
    let converter = |word| match word {
        "lower" => Ok(Converter::Lower),
        "base64" => Ok(Converter::Base64),
        other => Err(format!("{other:?} is neither lower nor base64")),
    };
    let converters = words.map(converter).collect::<Result<_, _>>()?;
    Ok(Part::Header { name: name.to_owned(), converters })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_text_and_the_values_of_other_headers() {
        let header = |name: &str, converters: &[Converter]| Part::Header {
            name: name.to_owned(),
            converters: converters.to_vec(),
        };
        let read = |text: &str| parse(text, Side::Request);
        assert_eq!(read("a 100%%"), Ok(vec![Part::Text("a 100%".into())]));
        assert_eq!(
            read("x-%[req.hdr(Host),lower,base64]!"),
            Ok(vec![
                Part::Text("x-".into()),
                header("Host", &[Converter::Lower, Converter::Base64]),
                Part::Text("!".into())
            ])
        );
        assert_eq!(parse("%[res.hdr(Server)]", Side::Response), Ok(vec![header("Server", &[])]));
    }

    #[test]
    fn what_is_wrong_with_a_value_is_told() {
        let wrong = |text: &str| parse(text, Side::Request).unwrap_err();
        assert_eq!(wrong("50%"), "a % begins %[…] or is written %%");
        assert_eq!(wrong("%[res.hdr(a)]"), "\"res.hdr(a)\" is not req.hdr(NAME)");
        assert_eq!(wrong("%[req.hdr(a),upper]"), "\"upper\" is neither lower nor base64");
        assert_eq!(wrong("a\nb"), "a header's value has no control characters");
    }
}
