//! What `oc login` with a name and a password asks for, and the refusal of it in words: there are no passwords here.
//!
//! ```text
//! GET /.well-known/oauth-authorization-server ──► where to ask for a token
//! GET /oauth/authorize                        ──► on to /oauth/token/implicit, with the error, which the client prints
//! GET /oauth/token/implicit                   ──► the same for a browser
//! ```
//!
//! Called by `paths`.
//! **Source**: `pkg/oauth/tokenrequest/request_token.go` and `pkg/oauth/oauthdiscovery/discovery.go` of openshift/library-go.

use super::respond::{self, Response};
use crate::api::kinds::Kinds;
use http::{HeaderValue, header};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

/// Why nobody gets a token for a password, and what to do.
pub(super) const NO_PASSWORDS: &str = "skiff has no passwords: use the kubeconfig of `skiff up` as it is, or log in with \
    `oc login --token`; `oc create token NAME` makes one for a service account";

/// Whether clients see OpenShift's groups.
pub(super) fn is_served(kinds: &Kinds) -> bool {
    kinds.infos().any(|info| info.group == "project.openshift.io")
}

/// Where to ask for a token.
pub(super) fn metadata(host: &str) -> Value {
    json!({
        "issuer": format!("https://{host}"),
        "authorization_endpoint": format!("https://{host}/oauth/authorize"),
        "token_endpoint": format!("https://{host}/oauth/token"),
        "scopes_supported": ["user:check-access", "user:full", "user:info", "user:list-projects", "user:list-scoped-projects"],
        "response_types_supported": ["code", "token"],
        "grant_types_supported": ["authorization_code", "implicit"],
        "code_challenge_methods_supported": ["plain", "S256"],
    })
}

/// Sends a client on to where it finds why it gets no token.
pub(super) fn refusal(host: &str) -> Response {
    let why = utf8_percent_encode(NO_PASSWORDS, NON_ALPHANUMERIC);
    let to = format!("https://{host}/oauth/token/implicit?error=access_denied&error_description={why}");
    let mut response = respond::text(302, NO_PASSWORDS);
    if let Ok(to) = HeaderValue::from_str(&to) {
        response.headers_mut().insert(header::LOCATION, to);
    }
    response
}
