//! What a browser of good will can do, and what a page of somebody else's cannot.

use super::*;
use crate::{
    identity::roles,
    server::{health::ReadyReport, tests::node},
    testing,
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use http_body_util::Full;
use sha2::{Digest as _, Sha256};

/// A dashboard without a socket, and its state.
struct Desk {
    dashboard: Dashboard,
    state: ServerState,
    drain: Drain,
    _trigger: crate::base::task::DrainTrigger,
}

struct Answer {
    code: u16,
    headers: http::HeaderMap,
    text: String,
}

const HOST: (&str, &str) = ("host", "127.0.0.1:6444");
const ORIGIN: (&str, &str) = ("origin", "http://127.0.0.1:6444");
const HEADER: (&str, &str) = (guard::HEADER, "1");

impl Desk {
    async fn open(role: &str) -> Self {
        let registry = testing::registry_with_namespaces(&["kube-public"]).await;
        roles::reconcile(&registry).await.unwrap();
        roles::bind_user(&registry, role, &user(role).name).await.unwrap();
        let tokens = testing::tokens(&registry);
        let ready = Arc::new(ReadyReport::default);
        let state = ServerState::new(registry.clone(), tokens, node(), ready, Arc::new(String::new));
        let settings = Settings {
            cluster: "dev".to_owned(),
            address: "127.0.0.1:6444".parse().unwrap(),
            names: Vec::new(),
            role: role.to_owned(),
            server_url: "https://127.0.0.1:6443".to_owned(),
        };
        let dashboard = Dashboard::new(settings, b"secret", registry.clock().clone());
        let (trigger, drain) = crate::base::task::drain_signal();
        Self { dashboard, state, drain, _trigger: trigger }
    }

    async fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let mut request = http::Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(Bytes::from(body.to_owned()))).unwrap();
        let peer = Peer { user: None, address: "test".to_owned(), ticket: None, room: None, alive: None };
        let response = self.dashboard.answer(self.state.clone(), peer, self.drain.clone(), request).await;
        let (head, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        Answer { code: head.status.as_u16(), headers: head.headers, text: String::from_utf8_lossy(&bytes).into_owned() }
    }

    /// Signs in, and gives the cookie as a browser sends it back.
    async fn sign_in(&self) -> String {
        let link = self.dashboard.link();
        let token = link.strip_prefix("http://127.0.0.1:6444/#token=").unwrap();
        let answer = self.ask("POST", "/session", &[HOST, ORIGIN, HEADER], token).await;
        assert_eq!(answer.code, 200, "{}", answer.text);
        let cookie = answer.headers[header::SET_COOKIE].to_str().unwrap().to_owned();
        assert!(cookie.ends_with("; Max-Age=43200; Path=/; HttpOnly; SameSite=Strict"), "{cookie}");
        let again = self.ask("POST", "/session", &[HOST, ORIGIN, HEADER], token).await;
        assert_eq!(again.code, 401, "a link is good once");
        cookie.split(';').next().unwrap().to_owned()
    }
}

const PODS: &str = "/api/v1/namespaces/default/pods";

#[tokio::test(start_paused = true)]
async fn a_link_becomes_a_session_and_the_session_speaks_to_the_api() {
    let desk = Desk::open(ADMIN_ROLE).await;
    let page = desk.ask("GET", "/", &[HOST], "").await;
    assert_eq!(page.code, 200);
    assert!(
        page.headers["content-security-policy"].to_str().unwrap().starts_with("default-src 'none'; script-src 'self'")
    );
    // What begins the page again is in it, and is the one script that may be.
    let script = page.text.split("<script>").nth(1).and_then(|rest| rest.split("</script>").next()).unwrap();
    let hash = BASE64_STANDARD.encode(Sha256::digest(script));
    let policy = page.headers["content-security-policy"].to_str().unwrap();
    assert!(script.contains("location.reload()") && policy.contains(&format!("script-src 'self' 'sha256-{hash}';")));
    let terminal = desk.ask("GET", "/terminal.html", &[HOST], "").await;
    let policy = |answer: &Answer| answer.headers["content-security-policy"].to_str().unwrap().to_owned();
    assert!(policy(&page).contains("frame-ancestors 'none'") && !policy(&page).contains("unsafe"));
    // What may have styles of its own may not talk to anybody, and only the page may show it.
    assert!(policy(&terminal).contains("frame-ancestors 'self'") && !policy(&terminal).contains("connect-src"));
    for path in [PODS, "/session", "/version", "/apis"] {
        assert_eq!(desk.ask("GET", path, &[HOST], "").await.code, 401, "{path}");
    }
    let cookie = desk.sign_in().await;
    let session = desk.ask("GET", "/session", &[HOST, ("cookie", &cookie)], "").await;
    assert!(session.text.contains(r#""user":"skiff:dashboard:cluster-admin""#), "{}", session.text);
    let pods = desk.ask("GET", PODS, &[HOST, ("cookie", &format!("other=1; {cookie}"))], "").await;
    assert_eq!(pods.code, 200, "{}", pods.text);
    assert_eq!(pods.headers["x-content-type-options"], "nosniff");
    let map = r#"{"metadata":{"name":"a"}}"#;
    let maps = "/api/v1/namespaces/default/configmaps";
    let made = desk.ask("POST", maps, &[HOST, ORIGIN, HEADER, ("cookie", &cookie)], map).await;
    assert_eq!(made.code, 201, "{}", made.text);
    // What is not for the page is not served to it.
    for path in ["/metrics", "/skiff/snapshot", "/readyz", "/nothing"] {
        assert_eq!(desk.ask("GET", path, &[HOST, ("cookie", &cookie)], "").await.code, 404, "{path}");
    }
    let out = desk.ask("DELETE", "/session", &[HOST, ORIGIN, HEADER, ("cookie", &cookie)], "").await;
    assert!(out.headers[header::SET_COOKIE].to_str().unwrap().contains("=; Max-Age=0;"));
}

#[tokio::test(start_paused = true)]
async fn pages_of_others_are_not_heard() {
    let desk = Desk::open(ADMIN_ROLE).await;
    let cookie = desk.sign_in().await;
    let cookie = ("cookie", cookie.as_str());
    let rebound = ("host", "rebind.example:6444");
    for path in ["/", "/style.css", "/session", PODS] {
        let answer = desk.ask("GET", path, &[rebound, cookie], "").await;
        assert_eq!(answer.code, 421, "{path}");
        assert!(answer.text.contains("--dashboard-names rebind.example"), "{}", answer.text);
    }
    let map = r#"{"metadata":{"name":"a"}}"#;
    let maps = "/api/v1/namespaces/default/configmaps";
    let evil = ("origin", "http://localhost:30000");
    for headers in [&[HOST, cookie, evil, HEADER][..], &[HOST, cookie, ORIGIN], &[HOST, cookie]] {
        assert_eq!(desk.ask("POST", maps, headers, map).await.code, 403, "{headers:?}");
        assert_eq!(desk.ask("POST", "/session", headers, "x").await.code, 403, "{headers:?}");
    }
    let upgrade = [("connection", "upgrade"), ("upgrade", "websocket"), ("sec-websocket-version", "13")];
    for origin in [None, Some(evil), Some(("origin", "null"))] {
        let headers: Vec<_> = [HOST, cookie].into_iter().chain(upgrade).chain(origin).collect();
        assert_eq!(desk.ask("GET", &format!("{PODS}?watch=1"), &headers, "").await.code, 403, "{origin:?}");
    }
    assert_eq!(desk.ask("GET", maps, &[HOST, cookie, ("sec-fetch-site", "same-site")], "").await.code, 403);
    // A credential beside the session is nobody's.
    assert_eq!(desk.ask("GET", PODS, &[HOST, ("authorization", "Bearer x")], "").await.code, 401);
}

#[tokio::test(start_paused = true)]
async fn a_session_may_be_one_that_only_looks() {
    // `view` itself is summed up by a controller, which does not run here.
    let desk = Desk::open("system:aggregate-to-view").await;
    let cookie = desk.sign_in().await;
    let headers = [HOST, ORIGIN, HEADER, ("cookie", cookie.as_str())];
    assert_eq!(desk.ask("GET", PODS, &headers, "").await.code, 200);
    for (method, path) in [("GET", "/api/v1/namespaces/default/secrets"), ("DELETE", &format!("{PODS}/p")[..])] {
        let answer = desk.ask(method, path, &headers, "").await;
        assert_eq!(answer.code, 403, "{method} {path}");
        assert!(answer.text.contains("skiff:dashboard:system:aggregate-to-view"), "{}", answer.text);
    }
    // Nor is it a way to act as somebody else.
    let masked: Vec<_> = headers.into_iter().chain([("impersonate-user", "kubernetes-admin")]).collect();
    assert_eq!(desk.ask("GET", PODS, &masked, "").await.code, 403);
    assert!(!user("view").is_master() && user(ADMIN_ROLE).is_master());
}

#[tokio::test(start_paused = true)]
async fn no_page_of_a_pod_comes_from_the_dashboards_origin() {
    let desk = Desk::open(ADMIN_ROLE).await;
    let cookie = desk.sign_in().await;
    let headers = [HOST, ORIGIN, HEADER, ("cookie", &cookie)];
    for path in ["pods/p/proxy/", "pods/p/%70roxy/x", "services/https:s:443/proxy"] {
        let answer = desk.ask("GET", &format!("/api/v1/namespaces/default/{path}"), &headers, "").await;
        assert!(answer.code == 403 && answer.text.contains("kubectl proxy"), "{path}: {} {}", answer.code, answer.text);
    }
    let named = desk.ask("GET", "/api/v1/namespaces/default/configmaps/proxy", &headers, "").await;
    assert_eq!(named.code, 404, "an object may have that name");
}
