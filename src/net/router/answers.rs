//! What the router answers itself, in words: who has no answer, which Route or Ingress that is, and what to do. Pure.

use super::table::{Owner, Plain, Rule};
use bytes::Bytes;
use http::{
    HeaderValue, Response, StatusCode,
    header::{CACHE_CONTROL, CONTENT_TYPE, LOCATION},
};

/// An answer of the router's own: a status and words for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Words {
    pub(super) code: StatusCode,
    pub(super) text: String,
}

impl Words {
    fn new(code: StatusCode, text: impl Into<String>) -> Self {
        Self { code, text: text.into() }
    }

    /// No rule is for the request.
    pub(super) fn nobody(host: &str, path: &str) -> Self {
        let text = format!(
            "no Route and no Ingress of this cluster answers for {host}{path}\n\
             `kubectl get route,ingress --all-namespaces` shows which hosts there are."
        );
        Self::new(StatusCode::NOT_FOUND, text)
    }

    /// A request does not say which host it is for.
    pub(super) fn no_host() -> Self {
        Self::new(StatusCode::BAD_REQUEST, "the request names no host: the header Host is missing")
    }

    /// The client's address is not among those that may ask.
    pub(super) fn forbidden(owner: &Owner) -> Self {
        Self::new(StatusCode::FORBIDDEN, format!("{owner} is not for your address: an annotation says for which it is"))
    }

    /// The rule is for TLS alone, or for plain HTTP alone.
    pub(super) fn wrong_scheme(rule: &Rule, is_tls: bool) -> Self {
        let owner = &rule.owner;
        let text = if is_tls {
            format!("{owner} has no TLS: ask for http:// instead of https://, or give it `spec.tls`")
        } else {
            format!(
                "{owner} takes no plain HTTP: ask for https://, or set `spec.tls.insecureEdgeTerminationPolicy` to Allow or Redirect"
            )
        };
        Self::new(StatusCode::SERVICE_UNAVAILABLE, text)
    }

    /// No backend has an endpoint. `troubles` says of each why.
    pub(super) fn no_endpoint(owner: &Owner, troubles: &[String]) -> Self {
        let namespace = &owner.namespace;
        let text = format!(
            "{owner} cannot answer: {}\n`kubectl -n {namespace} get services,endpointslices,pods` shows what there is.",
            troubles.join("; ")
        );
        Self::new(StatusCode::SERVICE_UNAVAILABLE, text)
    }

    /// No endpoint took the connection.
    pub(super) fn unreachable(owner: &Owner, n_tried: usize, last: &str) -> Self {
        let endpoints = if n_tried == 1 {
            "its endpoint takes".to_owned()
        } else {
            format!("none of its {n_tried} endpoints takes")
        };
        Self::new(StatusCode::SERVICE_UNAVAILABLE, format!("{owner} cannot answer: {endpoints} a connection: {last}"))
    }

    /// The endpoint broke the exchange off.
    pub(super) fn broken(owner: &Owner, why: &str) -> Self {
        Self::new(StatusCode::BAD_GATEWAY, format!("{owner}: the endpoint did not answer as HTTP wants it: {why}"))
    }

    /// The endpoint did not answer in time.
    pub(super) fn late(owner: &Owner, secs: f64) -> Self {
        Self::new(StatusCode::GATEWAY_TIMEOUT, format!("{owner}: the endpoint did not answer within {secs} s"))
    }

    /// As a response.
    pub(super) fn response(self) -> Response<Bytes> {
        let mut response = Response::new(Bytes::from(format!("{}: {}\n", self.code, self.text)));
        *response.status_mut() = self.code;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }
}

/// Sends a client to TLS. `port` is where that is.
pub(super) fn redirect(plain: Plain, host: &str, port: u16, path_and_query: &str) -> Option<Response<Bytes>> {
    let Plain::Redirect(code) = plain else { return None };
    let port = if port == 443 { String::new() } else { format!(":{port}") };
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = StatusCode::from_u16(code).ok()?;
    let location = HeaderValue::from_str(&format!("https://{host}{port}{path_and_query}")).ok()?;
    response.headers_mut().insert(LOCATION, location);
    Some(response)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::router::table::OwnerKind;

    fn owner() -> Owner {
        Owner { kind: OwnerKind::Route, namespace: "shop".into(), name: "web".into(), uid: "u".into() }
    }

    #[test]
    fn what_is_missing_is_said_with_the_object_that_lacks_it() {
        let words = Words::no_endpoint(&owner(), &["the Service web has no endpoint that is ready".to_owned()]);
        assert_eq!(
            words.text,
            "Route shop/web cannot answer: the Service web has no endpoint that is ready\n\
             `kubectl -n shop get services,endpointslices,pods` shows what there is."
        );
        let response = words.response();
        assert_eq!(response.status(), 503);
        assert!(response.body().starts_with(b"503 Service Unavailable: Route shop/web cannot answer"));
        assert_eq!(
            Words::unreachable(&owner(), 2, "Connection refused").text,
            "Route shop/web cannot answer: none of its 2 endpoints takes a connection: Connection refused"
        );
        assert!(!Words::nobody("a.b", "/").text.contains("shop"), "names of others are not told");
    }

    #[test]
    fn a_redirect_leads_to_the_port_of_tls() {
        let to = |port| {
            let response = redirect(Plain::Redirect(302), "a.b", port, "/x?y=1").unwrap();
            (response.status().as_u16(), response.headers()[LOCATION].to_str().unwrap().to_owned())
        };
        assert_eq!(to(443), (302, "https://a.b/x?y=1".to_owned()));
        assert_eq!(to(8443), (302, "https://a.b:8443/x?y=1".to_owned()));
        assert!(redirect(Plain::Serve, "a.b", 443, "/").is_none());
    }
}
