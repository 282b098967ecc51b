//! What annotations of Routes and Ingresses ask of the router. Pure.
//!
//! Read when an object is written, to warn of what has no effect, and by the router (`net::router`), so that both mean the same.
//!
//! **Source** of names, values and defaults: github.com/openshift/router, `images/router/haproxy/conf/haproxy-config.template`, release
//! 4.20; github.com/kubernetes/ingress-nginx, `docs/user-guide/nginx-configuration/annotations.md`, release 1.13.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

/// The annotations of an object.
pub type Annotations = BTreeMap<String, String>;

/// What OpenShift's router is asked begins with one of these.
const ROUTE_PREFIXES: [&str; 2] = ["haproxy.router.openshift.io/", "router.openshift.io/"];
/// What ingress-nginx is asked begins with this.
const NGINX_PREFIX: &str = "nginx.ingress.kubernetes.io/";
/// HAProxy's longest time: what its milliseconds can count.
const TIMEOUT_MAX: Duration = Duration::from_millis(i32::MAX as u64);

/// How the next endpoint is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Balance {
    /// Each in its turn.
    #[default]
    RoundRobin,
    /// The one with the fewest requests under way.
    LeastConnections,
    /// By the client's address.
    Source,
    /// By chance.
    Random,
}

/// What becomes of `X-Forwarded-…` and `Forwarded` that a client sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Forwarded {
    /// The router's words come after the client's.
    #[default]
    Append,
    /// They take their place.
    Replace,
    /// They are there when the client sent none.
    IfNone,
    /// The client's stay as they are.
    Never,
}

/// Which path an endpoint sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rewrite {
    /// What the rule's path matched is replaced, and the rest stays (OpenShift).
    Prefix(String),
    /// All of it is replaced (ingress-nginx).
    Whole(String),
}

/// What endpoints speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackendProtocol {
    /// HTTP/1.1.
    Http,
    /// HTTP/1.1 over TLS.
    Https,
    /// HTTP/2.
    Grpc,
    /// HTTP/2 over TLS.
    Grpcs,
}

/// What an object asks of the router. The default is what an object without annotations asks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HttpOptions {
    /// How the next endpoint is chosen.
    pub balance: Balance,
    /// Whether a cookie keeps a client with its endpoint; `None`: as is usual for the kind.
    pub is_sticky: Option<bool>,
    /// The cookie's name, when it is not the router's to choose.
    pub cookie_name: Option<String>,
    /// How long an endpoint may be silent before it answers.
    pub timeout: Option<Duration>,
    /// How long an upgraded connection may be silent.
    pub tunnel_timeout: Option<Duration>,
    /// Which path an endpoint sees.
    pub rewrite: Option<Rewrite>,
    /// `Strict-Transport-Security` of answers over TLS.
    pub hsts: Option<String>,
    /// Who may ask: an address and how many leading bits of it count. Empty: everybody.
    pub allowed: Vec<(IpAddr, u8)>,
    /// What becomes of forwarding headers.
    pub forwarded: Forwarded,
    /// Whether plain HTTP is sent to TLS; `None`: where the object has TLS.
    pub redirects: Option<bool>,
    /// What endpoints speak, when it is not told by their Service.
    pub backend_protocol: Option<BackendProtocol>,
}

/// What one annotation changes; an error says what is wrong with the value.
type Change = fn(&mut HttpOptions, &str) -> Result<(), String>;

/// What an annotation is to a router.
enum Asked {
    /// Not its business.
    Nothing,
    /// Something that it has not.
    Unknown,
    /// This.
    Known(Change),
}

impl Asked {
    /// Looks an option up by its name; without a name it is not the router's business.
    fn of(name: Option<&str>, options: &[(&str, Change)]) -> Self {
        let Some(name) = name else { return Self::Nothing };
        options.iter().find(|(known, _)| *known == name).map_or(Self::Unknown, |(_, change)| Self::Known(*change))
    }
}

/// What a Route may ask, by the name after either prefix.
const ROUTE_OPTIONS: &[(&str, Change)] = &[
    ("balance", |all, text| balance(text).map(|value| all.balance = value)),
    ("disable_cookies", |all, text| truth(text).map(|value| all.is_sticky = Some(!value))),
    ("cookie_name", |all, text| cookie_name(text).map(|value| all.cookie_name = Some(value))),
    ("timeout", |all, text| duration(text).map(|value| all.timeout = Some(value))),
    ("timeout-tunnel", |all, text| duration(text).map(|value| all.tunnel_timeout = Some(value))),
    ("rewrite-target", |all, text| path(text).map(|value| all.rewrite = Some(Rewrite::Prefix(value)))),
    ("hsts_header", |all, text| header_value(text).map(|value| all.hsts = Some(value))),
    ("ip_allowlist", |all, text| addresses(text, char::is_whitespace).map(|value| all.allowed = value)),
    ("ip_whitelist", |all, text| addresses(text, char::is_whitespace).map(|value| all.allowed = value)),
    ("set-forwarded-headers", |all, text| forwarded(text).map(|value| all.forwarded = value)),
];

/// What an Ingress may ask, by the name after nginx's prefix.
const NGINX_OPTIONS: &[(&str, Change)] = &[
    ("affinity", |all, text| match text {
        "cookie" => {
            all.is_sticky = Some(true);
            Ok(())
        }
        _ => Err("only cookie is supported".to_owned()),
    }),
    ("backend-protocol", |all, text| backend_protocol(text).map(|value| all.backend_protocol = Some(value))),
    ("force-ssl-redirect", |all, text| {
        truth(text).map(|value| all.redirects = if value { Some(true) } else { all.redirects })
    }),
    ("proxy-read-timeout", |all, text| seconds(text).map(|value| all.timeout = Some(value))),
    ("rewrite-target", |all, text| whole_path(text).map(|value| all.rewrite = Some(Rewrite::Whole(value)))),
    ("session-cookie-name", |all, text| cookie_name(text).map(|value| all.cookie_name = Some(value))),
    ("ssl-redirect", |all, text| {
        truth(text).map(|value| all.redirects = if value { all.redirects } else { all.redirects.or(Some(false)) })
    }),
    ("whitelist-source-range", |all, text| addresses(text, |c| c == ',').map(|value| all.allowed = value)),
];

impl HttpOptions {
    /// What a Route asks, and what of it has no effect, one sentence each.
    pub fn of_route(annotations: &Annotations) -> (Self, Vec<String>) {
        Self::read(annotations, |key| {
            let name = ROUTE_PREFIXES.iter().find_map(|prefix| key.strip_prefix(prefix));
            Asked::of(name, ROUTE_OPTIONS)
        })
    }

    /// What an Ingress asks, and what of it has no effect, one sentence each.
    pub fn of_ingress(annotations: &Annotations) -> (Self, Vec<String>) {
        Self::read(annotations, |key| Asked::of(key.strip_prefix(NGINX_PREFIX), NGINX_OPTIONS))
    }

    /// `asked` tells of a key whether it is a router's business, and what it changes.
    fn read(annotations: &Annotations, asked: impl Fn(&str) -> Asked) -> (Self, Vec<String>) {
        let (mut all, mut troubles) = (Self::default(), Vec::new());
        for (key, value) in annotations {
            match asked(key) {
                Asked::Nothing => {}
                Asked::Unknown => {
                    troubles.push(format!(
                        "metadata.annotations[{key}]: skiff's router has no such option: it has no effect"
                    ));
                }
                Asked::Known(change) => {
                    if let Err(why) = change(&mut all, value.trim()) {
                        troubles.push(format!("metadata.annotations[{key}]: {value:?} has no effect: {why}"));
                    }
                }
            }
        }
        (all, troubles)
    }
}

fn balance(text: &str) -> Result<Balance, String> {
    match text {
        "roundrobin" => Ok(Balance::RoundRobin),
        "leastconn" => Ok(Balance::LeastConnections),
        "source" => Ok(Balance::Source),
        "random" => Ok(Balance::Random),
        _ => Err("it is none of roundrobin, leastconn, source, random".to_owned()),
    }
}

fn truth(text: &str) -> Result<bool, String> {
    match text {
        "true" | "TRUE" | "True" | "1" => Ok(true),
        "false" | "FALSE" | "False" | "0" => Ok(false),
        _ => Err("it is neither true nor false".to_owned()),
    }
}

fn cookie_name(text: &str) -> Result<String, String> {
    let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    if !text.is_empty() && text.chars().all(is_token) {
        Ok(text.to_owned())
    } else {
        Err("it is no name for a cookie".to_owned())
    }
}

/// A number and a unit of HAProxy; milliseconds without one.
fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || "it is no time such as 500ms, 30s or 5m".to_owned();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..digits].parse().map_err(|_| wrong())?;
    let micros_each: u64 = match &text[digits..] {
        "us" => 1,
        "" | "ms" => 1_000,
        "s" => 1_000_000,
        "m" => 60_000_000,
        "h" => 3_600_000_000,
        "d" => 24 * 3_600_000_000,
        _ => return Err(wrong()),
    };
    if number == 0 {
        return Err(wrong());
    }
    Ok(number.checked_mul(micros_each).map_or(TIMEOUT_MAX, Duration::from_micros).min(TIMEOUT_MAX))
}

fn seconds(text: &str) -> Result<Duration, String> {
    let number = text.trim_end_matches('s').parse().ok().filter(|n| *n > 0);
    number.map(Duration::from_secs).ok_or_else(|| "it is no number of seconds".to_owned())
}

fn path(text: &str) -> Result<String, String> {
    let is_path = text.starts_with('/') && text.bytes().all(|b| b.is_ascii_graphic() && b != b'#');
    if is_path { Ok(text.to_owned()) } else { Err("it is no path".to_owned()) }
}

fn whole_path(text: &str) -> Result<String, String> {
    if text.contains('$') {
        return Err("skiff's router matches no regular expressions, so $1 stands for nothing".to_owned());
    }
    path(text)
}

fn header_value(text: &str) -> Result<String, String> {
    let is_value = !text.is_empty() && text.bytes().all(|b| b == b' ' || b.is_ascii_graphic());
    if is_value { Ok(text.to_owned()) } else { Err("it is no value for a header".to_owned()) }
}

fn forwarded(text: &str) -> Result<Forwarded, String> {
    match text {
        "append" => Ok(Forwarded::Append),
        "replace" => Ok(Forwarded::Replace),
        "if-none" => Ok(Forwarded::IfNone),
        "never" => Ok(Forwarded::Never),
        _ => Err("it is none of append, replace, if-none, never".to_owned()),
    }
}

fn backend_protocol(text: &str) -> Result<BackendProtocol, String> {
    match text.to_ascii_uppercase().as_str() {
        "HTTP" => Ok(BackendProtocol::Http),
        "HTTPS" => Ok(BackendProtocol::Https),
        "GRPC" => Ok(BackendProtocol::Grpc),
        "GRPCS" => Ok(BackendProtocol::Grpcs),
        _ => Err("it is none of HTTP, HTTPS, GRPC, GRPCS".to_owned()),
    }
}

fn addresses(text: &str, is_between: fn(char) -> bool) -> Result<Vec<(IpAddr, u8)>, String> {
    let parts = text.split(is_between).map(str::trim).filter(|part| !part.is_empty());
    let all: Result<Vec<_>, String> = parts.map(|part| range(part).ok_or_else(|| no_range(part))).collect();
    all.and_then(|all| if all.is_empty() { Err("it names nobody".to_owned()) } else { Ok(all) })
}

fn no_range(part: &str) -> String {
    format!("{part:?} is neither an address nor a range such as 10.0.0.0/8")
}

/// An address, or a range of addresses.
fn range(text: &str) -> Option<(IpAddr, u8)> {
    let (address, bits) = text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
    let address: IpAddr = address.parse().ok()?;
    let bits_max = if address.is_ipv4() { 32 } else { 128 };
    let bits = bits.map_or(Some(bits_max), |bits| bits.parse().ok())?;
    (bits <= bits_max).then_some((address, bits))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(key: &str, value: &str) -> (HttpOptions, Vec<String>) {
        HttpOptions::of_route(&Annotations::from([(key.to_owned(), value.to_owned())]))
    }

    fn nginx(pairs: &[(&str, &str)]) -> (HttpOptions, Vec<String>) {
        let annotations = pairs.iter().map(|(key, value)| (format!("{NGINX_PREFIX}{key}"), (*value).to_owned()));
        HttpOptions::of_ingress(&annotations.collect())
    }

    #[test]
    fn what_openshift_knows_is_read() {
        let of = |name: &str, value: &str| {
            let (options, troubles) = route(&format!("haproxy.router.openshift.io/{name}"), value);
            assert_eq!(troubles, Vec::<String>::new(), "{name}");
            options
        };
        assert_eq!(of("balance", "leastconn").balance, Balance::LeastConnections);
        assert_eq!(of("disable_cookies", "true").is_sticky, Some(false));
        assert_eq!(of("timeout", "5s").timeout, Some(Duration::from_secs(5)));
        assert_eq!(of("timeout", "250").timeout, Some(Duration::from_millis(250)));
        assert_eq!(of("timeout-tunnel", "99999d").tunnel_timeout, Some(TIMEOUT_MAX));
        assert_eq!(of("rewrite-target", "/").rewrite, Some(Rewrite::Prefix("/".into())));
        assert_eq!(of("hsts_header", "max-age=1").hsts.as_deref(), Some("max-age=1"));
        assert_eq!(
            of("ip_allowlist", "10.0.0.0/8  ::1").allowed,
            [("10.0.0.0".parse().unwrap(), 8), ("::1".parse().unwrap(), 128)]
        );
        assert_eq!(of("set-forwarded-headers", "if-none").forwarded, Forwarded::IfNone);
        let (options, _) = route("router.openshift.io/cookie_name", "cart");
        assert_eq!(options.cookie_name.as_deref(), Some("cart"));
    }

    #[test]
    fn what_nginx_knows_and_is_plain_is_read() {
        let (options, troubles) = nginx(&[
            ("affinity", "cookie"),
            ("backend-protocol", "grpc"),
            ("proxy-read-timeout", "7"),
            ("rewrite-target", "/api"),
            ("whitelist-source-range", "10.0.0.0/8, 192.0.2.1"),
        ]);
        assert_eq!(troubles, Vec::<String>::new());
        assert_eq!((options.is_sticky, options.timeout), (Some(true), Some(Duration::from_secs(7))));
        assert_eq!(options.backend_protocol, Some(BackendProtocol::Grpc));
        assert_eq!(options.rewrite, Some(Rewrite::Whole("/api".into())));
        assert_eq!(options.allowed.len(), 2);
        assert_eq!(nginx(&[("ssl-redirect", "false")]).0.redirects, Some(false));
        assert_eq!(nginx(&[("ssl-redirect", "true")]).0.redirects, None);
        assert_eq!(nginx(&[("ssl-redirect", "false"), ("force-ssl-redirect", "true")]).0.redirects, Some(true));
    }

    #[test]
    fn what_has_no_effect_is_told_and_what_is_not_the_routers_business_is_not() {
        let (options, troubles) = route("haproxy.router.openshift.io/rate-limit-connections", "true");
        assert_eq!(options, HttpOptions::default());
        assert_eq!(
            troubles,
            [
                "metadata.annotations[haproxy.router.openshift.io/rate-limit-connections]: skiff's router has no such option: it has no effect"
            ]
        );
        let (_, troubles) = route("haproxy.router.openshift.io/timeout", "soon");
        assert_eq!(
            troubles,
            [
                "metadata.annotations[haproxy.router.openshift.io/timeout]: \"soon\" has no effect: it is no time such as 500ms, 30s or 5m"
            ]
        );
        assert_eq!(nginx(&[("rewrite-target", "/$1")]).1.len(), 1);
        assert_eq!(nginx(&[("use-regex", "true")]).1.len(), 1);
        assert_eq!(route("example.com/x", "1").1, Vec::<String>::new());
    }
}
