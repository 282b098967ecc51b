//! Headers of HTTP that are of one connection, and stay there when a message is passed on. Pure.
//!
//! Called by whoever passes messages on: the router, and the API server's way into pods.
//!
//! **Source**: RFC 9110, 7.6.1.

use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{CONNECTION, EXPECT, TE, TRANSFER_ENCODING, UPGRADE},
};

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
/// Programs behind CGI take it for the proxy of their own requests.
const PROXY: HeaderName = HeaderName::from_static("proxy");

/// The protocol that a request wants its connection to become, if it does.
pub fn upgrade(headers: &HeaderMap) -> Option<HeaderValue> {
    let asks = headers.get_all(CONNECTION).iter().filter_map(|v| v.to_str().ok()).flat_map(|text| text.split(','));
    let is_asked = asks.map(str::trim).any(|word| word.eq_ignore_ascii_case("upgrade"));
    headers.get(UPGRADE).filter(|_| is_asked).cloned()
}

/// Takes away what is of one connection alone.
pub fn remove(headers: &mut HeaderMap) {
    if headers.contains_key(CONNECTION) {
        let named: Vec<HeaderName> = headers
            .get_all(CONNECTION)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|text| text.split(','))
            .filter_map(|word| word.trim().parse().ok())
            .collect();
        named.iter().for_each(|name| drop(headers.remove(name)));
        headers.remove(CONNECTION);
    }
    for name in [&KEEP_ALIVE, &PROXY_CONNECTION, &TRANSFER_ENCODING, &UPGRADE] {
        headers.remove(name);
    }
}

/// Prepares the headers of a request that is passed on.
pub fn prepare_request(headers: &mut HeaderMap) {
    let takes_trailers = headers.get(TE).is_some_and(|te| te.as_bytes().eq_ignore_ascii_case(b"trailers"));
    remove(headers);
    headers.remove(TE);
    if takes_trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
    // The client was told to go on when its body was asked for.
    headers.remove(EXPECT);
    headers.remove(PROXY);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::headers;

    #[test]
    fn what_is_of_one_connection_stays_there() {
        let mut all = headers(&[
            ("connection", "Keep-Alive, X-Mine"),
            ("keep-alive", "timeout=5"),
            ("x-mine", "1"),
            ("te", "trailers"),
            ("expect", "100-continue"),
            ("proxy", "http://evil"),
            ("transfer-encoding", "chunked"),
            ("accept", "*/*"),
        ]);
        prepare_request(&mut all);
        let mut left: Vec<_> = all.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        left.sort_unstable();
        assert_eq!(left, [("accept", "*/*"), ("te", "trailers")]);
    }

    #[test]
    fn an_upgrade_is_asked_for_by_two_headers() {
        let asks = |pairs: &[(&str, &str)]| upgrade(&headers(pairs)).is_some();
        assert!(asks(&[("connection", "keep-alive, Upgrade"), ("upgrade", "websocket")]));
        assert!(!asks(&[("upgrade", "websocket")]));
        assert!(!asks(&[("connection", "upgrade")]));
    }
}
