//! What becomes of headers on the way through the router. Pure.
//!
//! Called by `forward` for each request and answer.
//!
//! **Not here**: headers that are of one connection alone (`base::hop_by_hop`).
//! **Source**: RFC 7239 (`Forwarded`); what OpenShift's router adds and takes away:
//! github.com/openshift/router, `images/router/haproxy/conf/haproxy-config.template`, release 4.20.

use super::table::HeaderChange;
use crate::api::{
    header_template::{Converter, Part},
    http_options::Forwarded,
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{CACHE_CONTROL, COOKIE, FORWARDED, SET_COOKIE},
};
use std::net::IpAddr;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// What an endpoint is told of where a request came from.
#[derive(Clone, Debug)]
pub(super) struct Origin {
    /// The client's address.
    pub(super) client: HeaderValue,
    /// The port that it dialed.
    pub(super) port: HeaderValue,
    /// `http` or `https`.
    pub(super) scheme: &'static str,
    address: IpAddr,
}

impl Origin {
    pub(super) fn new(address: IpAddr, port: u16, scheme: &'static str) -> Self {
        let address = address.to_canonical();
        Self { client: value(&address.to_string()), port: HeaderValue::from(port), scheme, address }
    }

    /// What `Forwarded` says.
    pub(super) fn forwarded(&self, host: &str) -> HeaderValue {
        let (address, scheme) = (self.address, self.scheme);
        if address.is_ipv6() {
            value(&format!("for=\"[{address}]\";host={host};proto={scheme}"))
        } else {
            value(&format!("for={address};host={host};proto={scheme}"))
        }
    }
}

fn value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static("unknown"))
}

/// Tells the endpoint where a request came from. `forwarded` is what [`Origin::forwarded`] says.
pub(super) fn tell_origin(
    headers: &mut HeaderMap,
    how: Forwarded,
    origin: &Origin,
    host: &HeaderValue,
    forwarded: &HeaderValue,
) {
    let scheme = HeaderValue::from_static(origin.scheme);
    let said = [
        (FORWARDED_FOR, origin.client.clone()),
        (FORWARDED_HOST, host.clone()),
        (FORWARDED_PORT, origin.port.clone()),
        (FORWARDED_PROTO, scheme),
        (FORWARDED, forwarded.clone()),
    ];
    for (name, value) in said {
        match how {
            Forwarded::Append => drop(headers.append(name, value)),
            Forwarded::Replace => drop(headers.insert(name, value)),
            Forwarded::IfNone => drop(headers.entry(name).or_insert(value)),
            Forwarded::Never => {}
        }
    }
}

/// Does to headers what a Route says.
pub(super) fn change(headers: &mut HeaderMap, changes: &[HeaderChange]) {
    for HeaderChange { name, value } in changes {
        let Ok(name) = name.parse::<HeaderName>() else { continue };
        match value {
            None => drop(headers.remove(name)),
            Some(parts) => {
                let filled: String = parts.iter().map(|part| fill(part, headers)).collect();
                if let Ok(value) = HeaderValue::from_str(&filled) {
                    headers.insert(name, value);
                }
            }
        }
    }
}

fn fill(part: &Part, headers: &HeaderMap) -> String {
    match part {
        Part::Text(text) => text.clone(),
        Part::Header { name, converters } => {
            let there = headers.get(name.as_str()).and_then(|value| value.to_str().ok()).unwrap_or_default();
            converters.iter().fold(there.to_owned(), |text, converter| match converter {
                Converter::Lower => text.to_ascii_lowercase(),
                Converter::Base64 => BASE64_STANDARD.encode(text),
            })
        }
    }
}

/// The value of a cookie that the router has set. It goes, because it is not the endpoint's.
pub(super) fn take_cookie(headers: &mut HeaderMap, name: &str) -> Option<String> {
    let all: Vec<&str> = headers
        .get_all(COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|text| text.split(';'))
        .map(str::trim)
        .filter(|pair| !pair.is_empty())
        .collect();
    let of = |pair: &&str| pair.split_once('=').is_some_and(|(key, _)| key == name);
    let found = all.iter().find(|pair| of(pair)).and_then(|pair| pair.split_once('=')).map(|(_, v)| v.to_owned())?;
    let others: Vec<&str> = all.into_iter().filter(|pair| !of(pair)).collect();
    let rest = others.join("; ");
    match HeaderValue::from_str(&rest) {
        Ok(rest) if !rest.is_empty() => drop(headers.insert(COOKIE, rest)),
        _ => drop(headers.remove(COOKIE)),
    }
    Some(found)
}

/// Gives a client a cookie that keeps it with an endpoint.
pub(super) fn give_cookie(headers: &mut HeaderMap, name: &str, mark: &str, is_secure: bool) {
    let secure = if is_secure { "; Secure; SameSite=None" } else { "" };
    if let Ok(value) = HeaderValue::from_str(&format!("{name}={mark}; path=/; HttpOnly{secure}")) {
        headers.append(SET_COOKIE, value);
        // What a cache keeps would give one client's endpoint to others.
        headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("private"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::header_template::{Side, parse};
    use crate::testing::headers;

    fn text(headers: &HeaderMap) -> String {
        let mut lines: Vec<String> =
            headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
        lines.sort();
        lines.join("\n")
    }

    #[test]
    fn the_origin_is_told_after_in_place_of_or_without_what_the_client_said() {
        let origin = Origin::new("192.0.2.7".parse().unwrap(), 8080, "http");
        let host = HeaderValue::from_static("a.b:8080");
        let told = |how| {
            let mut all = headers(&[("x-forwarded-for", "10.0.0.1")]);
            tell_origin(&mut all, how, &origin, &host, &origin.forwarded("a.b:8080"));
            text(&all)
        };
        let ours = "x-forwarded-host: a.b:8080\nx-forwarded-port: 8080\nx-forwarded-proto: http";
        let forwarded = "forwarded: for=192.0.2.7;host=a.b:8080;proto=http";
        assert_eq!(
            told(Forwarded::Append),
            format!("{forwarded}\nx-forwarded-for: 10.0.0.1\nx-forwarded-for: 192.0.2.7\n{ours}")
        );
        assert_eq!(told(Forwarded::Replace), format!("{forwarded}\nx-forwarded-for: 192.0.2.7\n{ours}"));
        assert_eq!(told(Forwarded::IfNone), format!("{forwarded}\nx-forwarded-for: 10.0.0.1\n{ours}"));
        assert_eq!(told(Forwarded::Never), "x-forwarded-for: 10.0.0.1");
        let six = Origin::new("::1".parse().unwrap(), 443, "https");
        assert_eq!(six.forwarded("a.b").to_str().unwrap(), "for=\"[::1]\";host=a.b;proto=https");
    }

    #[test]
    fn a_route_sets_and_deletes_headers() {
        let mut all = headers(&[("x-a", "1"), ("host", "A.B")]);
        let set = parse("for-%[req.hdr(Host),lower]", Side::Request).unwrap();
        let changes =
            [HeaderChange { name: "X-A".into(), value: None }, HeaderChange { name: "X-B".into(), value: Some(set) }];
        change(&mut all, &changes);
        assert_eq!(text(&all), "host: A.B\nx-b: for-a.b");
    }

    #[test]
    fn the_routers_cookie_is_between_it_and_the_client() {
        let mut all = headers(&[("cookie", "a=1; mine=x; b=2")]);
        assert_eq!(take_cookie(&mut all, "mine").as_deref(), Some("x"));
        assert_eq!(text(&all), "cookie: a=1; b=2");
        assert_eq!(take_cookie(&mut all, "mine"), None);
        let mut all = headers(&[("cookie", "mine=x")]);
        assert_eq!(take_cookie(&mut all, "mine").as_deref(), Some("x"));
        assert_eq!(text(&all), "");
        give_cookie(&mut all, "mine", "y", true);
        assert_eq!(text(&all), "cache-control: private\nset-cookie: mine=y; path=/; HttpOnly; Secure; SameSite=None");
    }
}
