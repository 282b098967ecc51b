//! The dashboard: a page for people, on a listener of its own, and the API for it as the user of its session.
//!
//! A browser has no client certificate of the cluster and does not know its CA, so the page has its own door: plain HTTP on loopback.
//! What comes through it to the API is answered by [`handle`](super::handle::handle), in this process, as every other request is: there
//! is no second way to do anything. Only who asks is told by the session.
//!
//! ```text
//! request ──► guard (host; origin and header) ──┬──► assets
//!                                               ├──► /session: a link becomes a cookie, which tells who asks
//!                                               └──► /api, /apis, /openapi, /version ──► handle, as the session's user
//! ```
//!
//! - `guard`: which requests are heard. `session`: links and cookies. `assets`: the files of the page.
//!
//! **Invariants**
//! - Nothing of the cluster is told without a session, and nothing is done with rights other than its user's.
//! - Whatever a browser shows from here may load, send and run nothing but what is here (`CSP`).

mod assets;
mod guard;
mod session;

use super::{
    ServerState,
    handle::{self, Peer},
    respond::{self, Response},
    route::{Query, route},
};
use crate::{
    base::{clock::Clock, task::Drain},
    identity::{
        User,
        user::{AUTHENTICATED, MASTERS},
    },
};
use bytes::Bytes;
use http::{HeaderValue, Method, header, request::Parts};
use http_body_util::{BodyExt as _, Collected, Limited};
use hyper::body::Body as HttpBody;
use serde_json::{Value, json};
use session::{SESSION_SECS, Sessions};
use std::{net::SocketAddr, sync::Arc};

/// What the page may do: load its own files, talk to its own server, show its own terminal, and be in no frame.
const CSP: &str = "default-src 'none'; script-src 'self' BOOT; style-src 'self'; img-src 'self'; connect-src 'self'; frame-src 'self'; \
                   form-action 'none'; frame-ancestors 'none'; base-uri 'none'";
/// The document of a terminal, which the page has in a frame.
const TERMINAL: &str = "/terminal.html";
/// What that may do: be in a frame of the page and have styles that are not in a file, since xterm writes some. It talks to nobody.
const TERMINAL_CSP: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; form-action 'none'; \
                            frame-ancestors 'self'; base-uri 'none'";
/// What holds for every answer.
const HEADERS: [(&str, &str); 4] = [
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
];
/// The role whose sessions need no binding: administrators may do everything.
pub const ADMIN_ROLE: &str = "cluster-admin";
/// What a request for a session may hold.
const LINK_BYTES_MAX: usize = 1024;

/// Whether a request is for a page of a pod's: within this origin it could do all that the session may.
fn is_passed_on(head: &Parts) -> bool {
    route(&head.method, head.uri.path(), &Query::default()).is_ok_and(|info| handle::is_passed_on(&info))
}

/// The dashboard of a cluster. Clones share it.
#[derive(Clone, Debug)]
pub struct Dashboard(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    settings: Settings,
    sessions: Sessions,
    user: User,
}

/// What a dashboard must know.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The cluster's name.
    pub cluster: String,
    /// Where the dashboard listens.
    pub address: SocketAddr,
    /// Names that it answers as, beside addresses and `localhost`.
    pub names: Vec<String>,
    /// The ClusterRole of its sessions.
    pub role: String,
    /// The API's URL, for people.
    pub server_url: String,
}

impl Dashboard {
    /// A dashboard whose sessions are signed by a key that is made of the cluster's `secret`.
    pub fn new(settings: Settings, secret: &[u8], clock: Clock) -> Self {
        let user = user(&settings.role);
        let sessions = Sessions::new(secret, &user.name, clock);
        Self(Arc::new(Inner { settings, sessions, user }))
    }

    /// A URL that opens the page and signs in, once.
    pub fn link(&self) -> String {
        let token = self.0.sessions.link().map(|token| format!("#token={token}")).unwrap_or_default();
        format!("{}/{token}", self.url())
    }

    /// The page's URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.0.settings.address)
    }

    /// Answers a request of its listener.
    pub(super) async fn answer<B>(
        &self,
        state: ServerState,
        peer: Peer,
        drain: Drain,
        request: http::Request<B>,
    ) -> Response
    where
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let (head, body) = request.into_parts();
        let is_terminal = head.uri.path() == TERMINAL;
        let answered = match self.heard(&head) {
            Ok(Wish::File) => file(&head),
            Ok(Wish::Session) => self.session(&head, body).await,
            Ok(Wish::Api) => self.api(state, peer, drain, (head, body)).await,
            Err(refusal) => respond::text(refusal.code(), format!("{refusal}\n")),
        };
        guarded(answered, is_terminal)
    }

    /// What a request is for, if it is heard.
    fn heard(&self, head: &Parts) -> Result<Wish, guard::Refusal> {
        let host = guard::host(head, &self.0.settings.names)?;
        let wish = Wish::of(head.uri.path());
        if wish != Wish::File {
            guard::call(head, host, head.headers.contains_key(header::UPGRADE))?;
        }
        Ok(wish)
    }

    /// The API, as the session's user.
    async fn api<B>(&self, state: ServerState, peer: Peer, drain: Drain, request: (Parts, B)) -> Response
    where
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let (mut head, body) = request;
        if !self.is_signed_in(&head) {
            return signed_out();
        }
        if is_passed_on(&head) {
            return respond::text(
                403,
                "the dashboard passes nothing on to pods: their pages would act as it; see `kubectl proxy`\n",
            );
        }
        // Who asks is told by the session, and its cookie is nobody else's business.
        head.headers.remove(header::AUTHORIZATION);
        head.headers.remove(header::COOKIE);
        let peer = Peer { user: Some(self.0.user.clone()), ..peer };
        handle::handle(state, peer, drain, http::Request::from_parts(head, body)).await
    }

    /// Makes a session of a link (POST), tells whose it is (GET), or ends it (DELETE).
    async fn session<B>(&self, head: &Parts, body: B) -> Response
    where
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        match head.method {
            Method::GET if self.is_signed_in(head) => json(200, &self.told()),
            Method::GET => signed_out(),
            Method::POST => {
                let token = Limited::new(body, LINK_BYTES_MAX).collect().await.map(Collected::to_bytes).ok();
                let token = token.as_deref().and_then(|token| std::str::from_utf8(token).ok()).unwrap_or_default();
                match self.0.sessions.open(token.trim()) {
                    Some(session) => self.with_cookie(json(200, &self.told()), &session, SESSION_SECS),
                    None => signed_out(),
                }
            }
            Method::DELETE => self.with_cookie(respond::text(200, ""), "", 0),
            _ => respond::text(405, "a session is made by POST, read by GET and ended by DELETE\n"),
        }
    }

    /// What the page must know of its session and cluster.
    fn told(&self) -> Value {
        let Inner { settings, user, .. } = &*self.0;
        json!({
            "cluster": settings.cluster,
            "user": user.name,
            "role": settings.role,
            "server": settings.server_url,
            "version": env!("CARGO_PKG_VERSION"),
        })
    }

    /// Cookies know no ports, so that each cluster has a name of its own for its.
    fn cookie_name(&self) -> String {
        format!("skiff-dashboard-{}", self.0.settings.cluster)
    }

    fn is_signed_in(&self, head: &Parts) -> bool {
        let name = self.cookie_name();
        let lines = head.headers.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
        let mut cookies = lines.flat_map(|line| line.split(';')).filter_map(|cookie| cookie.trim().split_once('='));
        cookies.any(|(key, value)| key == name && self.0.sessions.holds(value))
    }

    fn with_cookie(&self, mut response: Response, value: &str, secs: i64) -> Response {
        let name = self.cookie_name();
        let cookie = format!("{name}={value}; Max-Age={secs}; Path=/; HttpOnly; SameSite=Strict");
        if let Ok(cookie) = HeaderValue::try_from(cookie) {
            response.headers_mut().insert(header::SET_COOKIE, cookie);
        }
        response
    }
}

/// Whose requests the sessions of a role are.
pub fn user(role: &str) -> User {
    let name = format!("skiff:dashboard:{role}");
    let groups = [MASTERS, AUTHENTICATED];
    User::new(&name, groups.into_iter().filter(|group| *group != MASTERS || role == ADMIN_ROLE))
}

/// What a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    File,
    Session,
    Api,
}

impl Wish {
    fn of(path: &str) -> Self {
        match path.trim_start_matches('/').split('/').next() {
            Some("session") => Self::Session,
            Some("api" | "apis" | "openapi" | "version") => Self::Api,
            _ => Self::File,
        }
    }
}

fn file(head: &Parts) -> Response {
    let is_read = matches!(head.method, Method::GET | Method::HEAD);
    let found = is_read.then(|| assets::answer(head.uri.path(), &head.headers)).flatten();
    let response = found.unwrap_or_else(|| respond::text(404, "the dashboard has no such page\n"));
    if head.method == Method::HEAD { respond::without_body(response) } else { response }
}

fn signed_out() -> Response {
    let message = "you are not signed in, or the link was used before: `skiff open` prints a new one";
    json(
        401,
        &json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Unauthorized", "code": 401, "message": message }),
    )
}

fn json(code: u16, value: &Value) -> Response {
    respond::respond(code, "application/json", respond::full(value.to_string()))
}

/// The policy, with the one script that the document has in it.
fn csp() -> String {
    CSP.replace("BOOT", &assets::boot_source())
}

/// The same answer, which a browser can do nothing with but what the page does.
fn guarded(mut response: Response, is_terminal: bool) -> Response {
    let (policy, frames) = if is_terminal { (TERMINAL_CSP.to_owned(), "SAMEORIGIN") } else { (csp(), "DENY") };
    let policy = HeaderValue::try_from(policy).expect("a policy is plain text");
    response.headers_mut().insert("content-security-policy", policy);
    for (name, value) in [("x-frame-options", frames)].into_iter().chain(HEADERS) {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
mod tests;
