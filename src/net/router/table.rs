//! Which rule a request meets: by its host and path, or by the name that a TLS client asks for. A value, compared and applied whole.
//!
//! Built by `plan`, asked by `serve` for every request.
//!
//! **Precedence**: an exact host before a wildcard, a wildcard before rules without a host, all of them before a default backend. Where
//! a host has no rule for a path, the next kind of host is asked. Of a host's rules the longest path goes first, `Exact` before `Prefix`.
//! Prefixes match whole elements of a path.
//! **Source**: the Ingress documentation, "Path types" and "Hostname wildcards".

use crate::{
    api::{header_template::Part, http_options::HttpOptions, router_certificates::Pair},
    base::ordered::Map,
    net::table::PortRef,
};
use std::{borrow::Cow, cmp::Reverse, fmt, net::IpAddr, sync::Arc};

/// What a rule is part of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum OwnerKind {
    /// A Route.
    Route,
    /// An Ingress.
    Ingress,
}

impl OwnerKind {
    /// The kind's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Route => "Route",
            Self::Ingress => "Ingress",
        }
    }
}

/// The object that a rule is part of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Owner {
    /// Its kind.
    pub kind: OwnerKind,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its UID, to write Events and its status.
    pub uid: String,
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.kind.name(), self.namespace, self.name)
    }
}

/// Which paths a rule is for. In the order in which they are looked at, where they are of one length.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PathRule {
    /// This path.
    Exact(String),
    /// This path and what is below it; without a slash at its end, so that empty means all.
    Prefix(String),
    /// What no rule of the host is for.
    Rest,
}

impl PathRule {
    /// The rule for a path and what is below it.
    pub fn prefix(path: &str) -> Self {
        Self::Prefix(path.trim_end_matches('/').to_owned())
    }

    /// The path, as a user writes it.
    pub fn text(&self) -> &str {
        match self {
            Self::Prefix(path) if path.is_empty() => "/",
            Self::Exact(path) | Self::Prefix(path) => path,
            Self::Rest => "*",
        }
    }

    fn matches(&self, path: &str) -> bool {
        match self {
            Self::Exact(exact) => path == exact,
            Self::Prefix(prefix) => {
                path.strip_prefix(prefix.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            }
            Self::Rest => true,
        }
    }

    fn precedence(&self) -> (Reverse<usize>, u8) {
        match self {
            Self::Exact(path) => (Reverse(path.len()), 0),
            Self::Prefix(path) => (Reverse(path.len()), 1),
            Self::Rest => (Reverse(0), 2),
        }
    }
}

/// Which hosts something is for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Host {
    /// This one.
    Exact(String),
    /// Those with one label more than this.
    Wildcard(String),
    /// All.
    Any,
}

impl Host {
    /// Reads `a.b`, `*.b`, or nothing for all.
    pub fn parse(text: &str) -> Self {
        match (text, text.strip_prefix("*.")) {
            ("", _) => Self::Any,
            (_, Some(suffix)) => Self::Wildcard(suffix.to_ascii_lowercase()),
            (text, None) => Self::Exact(text.to_ascii_lowercase()),
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(host) => f.write_str(host),
            Self::Wildcard(suffix) => write!(f, "*.{suffix}"),
            Self::Any => f.write_str("*"),
        }
    }
}

/// What becomes of plain HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plain {
    /// It is answered.
    Serve,
    /// It is sent to TLS, with this status.
    Redirect(u16),
    /// It is refused.
    Refuse,
}

/// How endpoints are reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wire {
    /// Without TLS.
    Plain,
    /// With TLS, and whom it trusts.
    Tls(Trust),
}

/// Which certificates of endpoints are good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trust {
    /// Those that the cluster's authority signed for the Service's name.
    Cluster,
    /// Those that one of these authorities (PEM) signed, whatever name they have.
    Signed(String),
    /// All.
    Anything,
}

/// A Service that gets a share of the requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backend {
    /// Its name.
    pub service: String,
    /// Its share.
    pub weight: u16,
    /// The ports whose endpoints answer; or why there are none.
    pub ports: Result<Vec<Arc<PortRef>>, String>,
    /// Whether the endpoints speak HTTP/2.
    pub is_http2: bool,
}

/// A change of one header: what it is set to, or that it goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderChange {
    /// The header.
    pub name: String,
    /// What it is set to; nothing: it goes.
    pub value: Option<Vec<Part>>,
}

/// What is done with the requests for a host and path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Whose it is.
    pub owner: Owner,
    /// For which paths.
    pub path: PathRule,
    /// What becomes of plain HTTP.
    pub plain: Plain,
    /// Whether it answers over TLS that ends here.
    pub serves_tls: bool,
    /// Who answers.
    pub backends: Vec<Backend>,
    /// How they are reached.
    pub wire: Wire,
    /// What annotations ask.
    pub options: HttpOptions,
    /// The cookie that keeps a client with its endpoint.
    pub cookie: Option<String>,
    /// Changes of requests.
    pub request_headers: Vec<HeaderChange>,
    /// Changes of answers.
    pub response_headers: Vec<HeaderChange>,
}

/// Everything that the router answers for; `R` is a rule and `C` a certificate, or what they were made into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table<R, C = Pair> {
    rules: ByHost<Vec<(PathRule, R)>>,
    passthrough: ByHost<R>,
    certificates: ByHost<C>,
    fallback: Option<R>,
}

/// Something for each host that has it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct ByHost<T> {
    exact: Map<String, T>,
    wildcard: Map<String, T>,
    any: Option<T>,
}

impl<T> Default for ByHost<T> {
    fn default() -> Self {
        Self { exact: Map::new(), wildcard: Map::new(), any: None }
    }
}

impl<R, C> Default for Table<R, C> {
    fn default() -> Self {
        Self {
            rules: ByHost::default(),
            passthrough: ByHost::default(),
            certificates: ByHost::default(),
            fallback: None,
        }
    }
}

impl<T> ByHost<T> {
    /// What there is for a host, the more special first.
    fn of<'a>(&'a self, host: &str) -> impl Iterator<Item = &'a T> + use<'a, T> {
        let above = host.split_once('.').and_then(|(_, above)| self.wildcard.get(above));
        self.exact.get(host).into_iter().chain(above).chain(&self.any)
    }

    fn all(&self) -> impl Iterator<Item = &T> {
        self.exact.values().chain(self.wildcard.values()).chain(&self.any)
    }

    fn entry(&mut self, host: &Host) -> &mut T
    where
        T: Default,
    {
        match host {
            Host::Exact(host) => self.exact.entry(host.clone()).or_default(),
            Host::Wildcard(suffix) => self.wildcard.entry(suffix.clone()).or_default(),
            Host::Any => self.any.get_or_insert_default(),
        }
    }

    /// Takes something in unless there is something.
    fn offer(&mut self, host: &Host, value: T) {
        match host {
            Host::Exact(host) => drop(self.exact.entry(host.clone()).or_insert(value)),
            Host::Wildcard(suffix) => drop(self.wildcard.entry(suffix.clone()).or_insert(value)),
            Host::Any => drop(self.any.get_or_insert(value)),
        }
    }

    fn map<U>(&self, mut make: impl FnMut(&T) -> U) -> ByHost<U> {
        let mut all = |of: &Map<String, T>| of.iter().map(|(host, value)| (host.clone(), make(value))).collect();
        let (exact, wildcard) = (all(&self.exact), all(&self.wildcard));
        ByHost { exact, wildcard, any: self.any.as_ref().map(make) }
    }
}

impl<R, C> Table<R, C> {
    /// The rule for a request. `host` is in lower case and without a port ([`host_of`]).
    pub fn lookup(&self, host: &str, path: &str) -> Option<&R> {
        let find = |rules: &'_ [(PathRule, R)]| rules.iter().position(|(rule, _)| rule.matches(path));
        let found = self.rules.of(host).find_map(|rules| Some(&rules[find(rules)?].1));
        found.or(self.fallback.as_ref())
    }

    /// The rule for a TLS client that asks for a name and whose TLS does not end here.
    pub fn passthrough(&self, name: &str) -> Option<&R> {
        self.passthrough.of(name).next()
    }

    /// Whether there is TLS that does not end here.
    pub fn passes_through(&self) -> bool {
        self.passthrough.all().next().is_some()
    }

    /// The certificate that a Route or Ingress brings for a name.
    pub fn certificate(&self, name: &str) -> Option<&C> {
        self.certificates.of(name).next()
    }

    /// All certificates.
    pub fn certificates(&self) -> impl Iterator<Item = &C> {
        self.certificates.all()
    }

    /// All rules, those for TLS that does not end here included.
    pub fn rules(&self) -> impl Iterator<Item = &R> {
        let of_hosts = self.rules.all().flatten().map(|(_, rule)| rule);
        of_hosts.chain(self.passthrough.all()).chain(&self.fallback)
    }

    /// Whether it answers for nothing.
    pub fn is_empty(&self) -> bool {
        self.rules().next().is_none()
    }

    /// The same with something made of each rule and each certificate.
    pub fn map<U, D>(&self, mut make: impl FnMut(&R) -> U, certified: impl FnMut(&C) -> D) -> Table<U, D> {
        Table {
            rules: self.rules.map(|rules| rules.iter().map(|(path, rule)| (path.clone(), make(rule))).collect()),
            passthrough: self.passthrough.map(&mut make),
            certificates: self.certificates.map(certified),
            fallback: self.fallback.as_ref().map(make),
        }
    }

    /// Adds a rule for a host.
    pub(super) fn add(&mut self, host: &Host, path: PathRule, rule: R) {
        let rules = self.rules.entry(host);
        let at = rules.partition_point(|(there, _)| there.precedence() <= path.precedence());
        rules.insert(at, (path, rule));
    }

    /// Adds a rule for TLS that does not end here.
    pub(super) fn add_passthrough(&mut self, host: &Host, rule: R) {
        self.passthrough.offer(host, rule);
    }

    /// Adds a certificate unless there is one for the host.
    pub(super) fn add_certificate(&mut self, host: &Host, pair: C) {
        self.certificates.offer(host, pair);
    }

    /// Sets who answers what nobody else does, unless somebody does.
    pub(super) fn offer_fallback(&mut self, rule: R) {
        self.fallback.get_or_insert(rule);
    }
}

/// The host of a `Host` header or an authority: without its port and a dot at its end, in lower case. An address is no host's name.
pub fn host_of(authority: &str) -> Cow<'_, str> {
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.split_once(']').map_or(rest, |(address, _)| address),
        None => authority.rsplit_once(':').map_or(authority, |(host, _)| host),
    };
    let host = host.strip_suffix('.').unwrap_or(host);
    if host.bytes().any(|b| b.is_ascii_uppercase()) {
        Cow::Owned(host.to_ascii_lowercase())
    } else {
        Cow::Borrowed(host)
    }
}

/// Whether one of these ranges holds an address; none means everybody.
pub(super) fn is_allowed(allowed: &[(IpAddr, u8)], client: IpAddr) -> bool {
    allowed.is_empty()
        || allowed.iter().any(|(base, bits)| crate::net::table::IpRange::new(*base, *bits).contains(client))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(rules: &[(&str, PathRule)]) -> Table<usize> {
        let mut table = Table::default();
        for (at, (host, path)) in rules.iter().enumerate() {
            table.add(&Host::parse(host), path.clone(), at);
        }
        table
    }

    fn exact(path: &str) -> PathRule {
        PathRule::Exact(path.to_owned())
    }

    #[test]
    fn paths_match_as_the_documentation_of_ingress_says() {
        for (rule, path, want) in [
            (PathRule::prefix("/"), "/", true),
            (PathRule::prefix("/"), "/any/thing", true),
            (exact("/foo"), "/foo", true),
            (exact("/foo"), "/bar", false),
            (exact("/foo"), "/foo/", false),
            (exact("/foo/"), "/foo", false),
            (PathRule::prefix("/foo"), "/foo", true),
            (PathRule::prefix("/foo"), "/foo/", true),
            (PathRule::prefix("/foo/"), "/foo", true),
            (PathRule::prefix("/foo/"), "/foo/", true),
            (PathRule::prefix("/aaa/bb"), "/aaa/bbb", false),
            (PathRule::prefix("/aaa/bbb"), "/aaa/bbb", true),
            (PathRule::prefix("/aaa/bbb/"), "/aaa/bbb", true),
            (PathRule::prefix("/aaa/bbb"), "/aaa/bbb/ccc", true),
            (PathRule::prefix("/aaa/bbb"), "/aaa/bbbxyz", false),
            (PathRule::prefix("/foo"), "/Foo", false),
        ] {
            assert_eq!(rule.matches(path), want, "{rule:?} {path}");
        }
    }

    #[test]
    fn the_longest_path_goes_first_and_exact_before_prefix() {
        let table = table(&[
            ("a.b", PathRule::prefix("/")),
            ("a.b", PathRule::prefix("/foo")),
            ("a.b", PathRule::prefix("/foo/bar")),
            ("a.b", exact("/foo")),
            ("a.b", PathRule::Rest),
        ]);
        let of = |path| *table.lookup("a.b", path).unwrap();
        assert_eq!([of("/"), of("/x"), of("/foo"), of("/foo/"), of("/foo/bar/z")], [0, 0, 3, 1, 2]);
    }

    #[test]
    fn an_exact_host_goes_before_a_wildcard_and_a_wildcard_before_none() {
        let mut table = table(&[
            ("*.foo.com", PathRule::prefix("/")),
            ("bar.foo.com", PathRule::prefix("/x")),
            ("", PathRule::prefix("/any")),
        ]);
        let of = |table: &Table<usize>, host, path| table.lookup(host, path).copied();
        assert_eq!(of(&table, "bar.foo.com", "/x"), Some(1));
        assert_eq!(of(&table, "bar.foo.com", "/y"), Some(0), "the host has no rule for the path");
        assert_eq!(of(&table, "other.foo.com", "/"), Some(0));
        assert_eq!(of(&table, "baz.bar.foo.com", "/"), None, "a wildcard is one label");
        assert_eq!(of(&table, "foo.com", "/"), None, "and not none");
        assert_eq!(of(&table, "elsewhere", "/any/x"), Some(2));
        table.offer_fallback(9);
        table.offer_fallback(10);
        assert_eq!(of(&table, "elsewhere", "/"), Some(9), "the first default backend");
    }

    #[test]
    fn what_no_rule_of_a_host_is_for_goes_to_its_own_default_backend() {
        let table = table(&[("a.b", PathRule::prefix("/x")), ("a.b", PathRule::Rest), ("", PathRule::prefix("/"))]);
        assert_eq!(table.lookup("a.b", "/y"), Some(&1));
        assert_eq!(table.lookup("c.d", "/y"), Some(&2));
    }

    #[test]
    fn a_host_is_read_as_clients_write_it() {
        for (authority, host) in [
            ("a.b", "a.b"),
            ("A.b:8080", "a.b"),
            ("a.b.", "a.b"),
            ("a.b.:80", "a.b"),
            ("[::1]:80", "::1"),
            ("127.0.0.1:8080", "127.0.0.1"),
            ("", ""),
        ] {
            assert_eq!(host_of(authority), host, "{authority}");
        }
    }

    #[test]
    fn certificates_and_tls_that_passes_through_go_by_the_name_that_is_asked_for() {
        let mut table = Table::default();
        let pair = |text: &str| Pair { certificate: text.to_owned(), key: String::new() };
        table.add_certificate(&Host::parse("*.a.b"), pair("wild"));
        table.add_certificate(&Host::parse("x.a.b"), pair("x"));
        table.add_certificate(&Host::parse("x.a.b"), pair("late"));
        table.add_passthrough(&Host::parse("p.a.b"), 1);
        let of = |name: &str| table.certificate(name).map(|pair| pair.certificate.as_str());
        assert_eq!([of("x.a.b"), of("y.a.b"), of("a.b")], [Some("x"), Some("wild"), None]);
        assert_eq!((table.passthrough("p.a.b"), table.passthrough("q.a.b")), (Some(&1), None));
        assert_eq!(table.certificates().count(), 2);
    }

    #[test]
    fn who_may_ask_is_in_one_of_the_ranges() {
        let ranges = [("10.0.0.0".parse().unwrap(), 8), ("::1".parse().unwrap(), 128)];
        let may = |client: &str| is_allowed(&ranges, client.parse().unwrap());
        assert_eq!([may("10.1.2.3"), may("::1"), may("127.0.0.1")], [true, true, false]);
        assert!(is_allowed(&[], "127.0.0.1".parse().unwrap()));
    }
}
