//! Which requests the dashboard hears at all. Pure.
//!
//! A page of somebody else's, in the browser of a user who is signed in, can send requests to this address: under a name of its own that
//! it lets point here (DNS rebinding), or from its own origin (cross-site requests and WebSockets). None of them passes here.
//!
//! **Invariants**
//! - Every request names a host that is known: an address, which no name server can let point elsewhere, `localhost`, or a name that the
//!   user gave.
//! - What reads or changes the cluster comes from this origin, and a change carries a header that no form can send.

use http::{HeaderMap, Method, header, request::Parts};
use std::net::IpAddr;

/// The header that the page sends with everything. A page of another origin would need this one's consent to send it.
pub(super) const HEADER: &str = "x-skiff-dashboard";

/// Why a request is not heard.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    /// The host is not one of the dashboard's.
    #[error(
        "the dashboard does not answer as {host:?}: open it by an address or as localhost, or, if the name is yours, \
         start skiff with --dashboard-names {host}"
    )]
    Host {
        /// What the request says.
        host: String,
    },
    /// There is no host at all.
    #[error("the request names no host")]
    NoHost,
    /// It comes from a page of another origin.
    #[error("the request comes from {from}, and the dashboard takes none but its own")]
    Origin {
        /// Where it comes from.
        from: String,
    },
    /// It does not come from a page.
    #[error("a WebSocket needs an Origin")]
    NoOrigin,
    /// It may come from a form.
    #[error("a change needs the header {HEADER}")]
    NoHeader,
}

impl Refusal {
    /// The HTTP status.
    pub(super) fn code(&self) -> u16 {
        match self {
            Self::Host { .. } => 421,
            Self::NoHost => 400,
            Self::Origin { .. } | Self::NoOrigin | Self::NoHeader => 403,
        }
    }
}

/// The host that a request names, with its port, if the dashboard answers as that. `names` are the user's.
pub(super) fn host<'r>(head: &'r Parts, names: &[String]) -> Result<&'r str, Refusal> {
    // HTTP/2 has the host in the URL.
    let said = head.uri.authority().map(http::uri::Authority::as_str).or_else(|| text(&head.headers, header::HOST));
    let host = said.filter(|host| !host.is_empty()).ok_or(Refusal::NoHost)?;
    let is_alone = head.headers.get_all(header::HOST).iter().count() <= 1;
    if is_alone && is_known(name_of(host), names) {
        Ok(host)
    } else {
        Err(Refusal::Host { host: name_of(host).chars().filter(|c| !c.is_control()).collect() })
    }
}

/// Without the port. An IPv6 address keeps its brackets off.
fn name_of(host: &str) -> &str {
    match host.strip_prefix('[') {
        Some(rest) => rest.split_once(']').map_or(host, |(address, _)| address),
        None => host.split_once(':').map_or(host, |(name, _)| name),
    }
}

fn is_known(name: &str, names: &[String]) -> bool {
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    let is_local = name == "localhost" || name.ends_with(".localhost");
    is_local || name.parse::<IpAddr>().is_ok() || names.iter().any(|known| known.eq_ignore_ascii_case(&name))
}

/// Whether a request that reads or changes the cluster comes from the page.
pub(super) fn call(head: &Parts, host: &str, is_upgrade: bool) -> Result<(), Refusal> {
    let site = text(&head.headers, "sec-fetch-site");
    if let Some(site) = site.filter(|site| !matches!(*site, "same-origin" | "none")) {
        return Err(Refusal::Origin { from: format!("another origin ({site})") });
    }
    match head.headers.get(header::ORIGIN).map(|origin| origin.to_str().unwrap_or_default()) {
        Some(origin) if !is_own(origin, host) => {
            return Err(Refusal::Origin { from: origin.chars().filter(|c| !c.is_control()).collect() });
        }
        None if is_upgrade => return Err(Refusal::NoOrigin),
        _ => {}
    }
    let only_reads = matches!(head.method, Method::GET | Method::HEAD);
    if only_reads || head.headers.contains_key(HEADER) { Ok(()) } else { Err(Refusal::NoHeader) }
}

/// Whether an origin is that of the page at this host.
fn is_own(origin: &str, host: &str) -> bool {
    let of = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
    of.is_some_and(|of| of.eq_ignore_ascii_case(host))
}

fn text(headers: &HeaderMap, name: impl header::AsHeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(method: &str, headers: &[(&str, &str)]) -> Parts {
        let mut request = http::Request::builder().method(method).uri("/");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn a_name_that_somebody_else_lets_point_here_is_not_answered() {
        let names = ["Dash.Example".to_owned()];
        let of = |value: &str| match host(&head("GET", &[("host", value)]), &names) {
            Ok(host) => host.to_owned(),
            Err(refusal) => format!("{} {refusal}", refusal.code()),
        };
        for known in [
            "localhost:6444",
            "LOCALHOST",
            "skiff.localhost:80",
            "127.0.0.1:6444",
            "[::1]:6444",
            "[::1]",
            "10.1.2.3",
            "dash.example:1",
        ] {
            assert_eq!(of(known), known);
        }
        assert_eq!(
            of("rebind.example:6444"),
            "421 the dashboard does not answer as \"rebind.example\": open it by an address or as localhost, or, if the name is \
             yours, start skiff with --dashboard-names rebind.example"
        );
        for strange in
            ["localhost.example", "127.0.0.1.example", "1.2.3", "[::1", "notlocalhost", "xlocalhost:1", "@localhost"]
        {
            assert!(of(strange).starts_with("421"), "{strange}: {}", of(strange));
        }
        assert_eq!(host(&head("GET", &[]), &names), Err(Refusal::NoHost));
        let two = head("GET", &[("host", "localhost"), ("host", "rebind.example")]);
        assert!(host(&two, &names).is_err());
    }

    #[test]
    fn calls_come_from_the_page() {
        let own = ("origin", "http://localhost:6444");
        let refused = |method: &str, headers: &[(&str, &str)], is_upgrade| {
            call(&head(method, headers), "localhost:6444", is_upgrade).err().map(|refusal| refusal.to_string())
        };
        assert_eq!(refused("GET", &[], false), None, "a read of a tool that has the session");
        assert_eq!(refused("GET", &[own], true), None);
        assert_eq!(refused("PATCH", &[own, (HEADER, "1")], false), None);
        assert_eq!(refused("DELETE", &[own], false).unwrap(), "a change needs the header x-skiff-dashboard");
        assert_eq!(refused("GET", &[], true).unwrap(), "a WebSocket needs an Origin");
        for origin in
            ["http://evil.example", "http://localhost:30000", "http://localhost", "null", "localhost:6444", "\u{e9}"]
        {
            for (method, is_upgrade) in [("GET", true), ("GET", false), ("POST", false)] {
                let why = refused(method, &[("origin", origin), (HEADER, "1")], is_upgrade);
                assert!(why.is_some(), "{method} from {origin}");
            }
        }
        for site in ["cross-site", "same-site"] {
            assert!(refused("GET", &[("sec-fetch-site", site)], false).is_some(), "{site}");
        }
        assert_eq!(refused("GET", &[("sec-fetch-site", "none")], false), None, "typed into the address line");
    }
}
