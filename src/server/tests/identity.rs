//! Who calls and what they may do, as clients see it: roles, tokens of service accounts, requests for certificates.

use super::*;
use crate::server::tls;

const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";
const CSRS: &str = "/apis/certificates.k8s.io/v1/certificatesigningrequests";

impl Desk {
    /// Like [`Desk::ask`], as somebody.
    async fn ask_as(&self, user: &User, method: &str, url: &str, body: &Value) -> Answer {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let response = self.send(Some(user.clone()), method, url, &[], &body).await;
        let (head, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        Answer { code: head.status.as_u16(), headers: head.headers, text: String::from_utf8(bytes.to_vec()).unwrap() }
    }

    /// With nothing but a token.
    async fn with_token(&self, token: &str, method: &str, url: &str, body: &str) -> Answer {
        let credential = format!("Bearer {token}");
        let response = self.send(None, method, url, &[("authorization", &credential)], body).await;
        let (head, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        Answer { code: head.status.as_u16(), headers: head.headers, text: String::from_utf8(bytes.to_vec()).unwrap() }
    }

    async fn post(&self, url: &str, body: Value) -> Answer {
        self.ask("POST", url, &[], &body.to_string()).await
    }

    /// Gives a subject a role with one rule, in `default`.
    async fn grant(&self, name: &str, rule: Value, subject: Value) {
        let rules = format!("{RBAC}/namespaces/default/roles");
        let made = self.post(&rules, json!({ "metadata": { "name": name }, "rules": [rule] })).await;
        assert_eq!(made.code, 201, "{}", made.text);
        let binding = json!({
            "metadata": { "name": name }, "subjects": [subject],
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name },
        });
        let bound = self.post(&format!("{RBAC}/namespaces/default/rolebindings"), binding).await;
        assert_eq!(bound.code, 201, "{}", bound.text);
    }

    async fn account(&self, name: &str) {
        let url = "/api/v1/namespaces/default/serviceaccounts";
        assert_eq!(self.post(url, json!({ "metadata": { "name": name } })).await.code, 201);
    }

    async fn token_of(&self, account: &str, spec: Value) -> Answer {
        let url = format!("/api/v1/namespaces/default/serviceaccounts/{account}/token");
        self.post(&url, json!({ "spec": spec })).await
    }
}

fn rule(verbs: &[&str], group: &str, resource: &str) -> Value {
    json!({ "verbs": verbs, "apiGroups": [group], "resources": [resource] })
}

fn jane() -> User {
    User::new("jane", ["system:authenticated"])
}

#[tokio::test]
async fn a_user_may_what_a_role_grants_from_when_it_is_bound() {
    let desk = Desk::with_roles().await;
    assert_eq!(desk.ask_as(&jane(), "GET", MAPS, &Value::Null).await.code, 403);
    desk.grant("maps", rule(&["list"], "", "configmaps"), json!({ "kind": "User", "name": "jane" })).await;
    assert_eq!(desk.ask_as(&jane(), "GET", MAPS, &Value::Null).await.code, 200);
    assert_eq!(
        desk.ask_as(&jane(), "DELETE", &format!("{MAPS}/a"), &Value::Null).await.refusal(),
        "403 configmaps \"a\" is forbidden: User \"jane\" cannot delete resource \"configmaps\" in API group \"\" \
         in the namespace \"default\""
    );
    let url = format!("{RBAC}/namespaces/default/roles/maps");
    assert_eq!(desk.ask("DELETE", &url, &[], "").await.code, 200);
    assert_eq!(
        desk.ask_as(&jane(), "GET", MAPS, &Value::Null).await.refusal(),
        "403 configmaps is forbidden: User \"jane\" cannot list resource \"configmaps\" in API group \"\" in the namespace \
         \"default\": RBAC: role.rbac.authorization.k8s.io \"maps\" not found"
    );
}

#[tokio::test]
async fn nobody_grants_what_they_lack() {
    let desk = Desk::with_roles().await;
    let to_jane = || json!({ "kind": "User", "name": "jane" });
    desk.grant("roles", rule(&["*"], "rbac.authorization.k8s.io", "*"), to_jane()).await;
    // A wildcard over the group holds `escalate` and `bind` too, so the real delegate gets plain verbs.
    let verbs = &["create", "update", "patch", "get"];
    let max = User::new("max", ["system:authenticated"]);
    let to_max = json!({ "kind": "User", "name": "max" });
    desk.grant("roles-max", rule(verbs, "rbac.authorization.k8s.io", "*"), to_max.clone()).await;
    let roles = format!("{RBAC}/namespaces/default/roles");
    let secrets = json!({ "metadata": { "name": "s" }, "rules": [rule(&["get"], "", "secrets")] });
    assert_eq!(
        desk.ask_as(&max, "POST", &roles, &secrets).await.refusal(),
        "403 roles.rbac.authorization.k8s.io \"s\" is forbidden: user \"max\" (groups=[\"system:authenticated\"]) is attempting to \
         grant RBAC permissions not currently held:\n{APIGroups:[\"\"], Resources:[\"secrets\"], Verbs:[\"get\"]}"
    );
    assert_eq!(desk.ask_as(&jane(), "POST", &roles, &secrets).await.code, 201, "`escalate` lets jane");
    let patch = [("content-type", "application/merge-patch+json"), ("impersonate-user", "max")];
    let more = json!({ "rules": [rule(&["get", "list"], "", "secrets")] }).to_string();
    let refused = desk.ask("PATCH", &format!("{roles}/s"), &patch, &more).await;
    assert_eq!(refused.code, 403, "{}", refused.text);
    let label = json!({ "metadata": { "labels": { "a": "b" } } }).to_string();
    assert_eq!(desk.ask("PATCH", &format!("{roles}/s"), &patch, &label).await.code, 200, "nothing is granted");
    let bindings = format!("{RBAC}/namespaces/default/rolebindings");
    let bind = |kind: &str, role: &str| {
        json!({
            "metadata": { "name": "mine" }, "subjects": [to_max],
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": role },
        })
    };
    let refused = desk.ask_as(&max, "POST", &bindings, &bind("Role", "s")).await.refusal();
    assert!(
        refused.starts_with("403 rolebindings.rbac.authorization.k8s.io \"mine\" is forbidden: user \"max\""),
        "{refused}"
    );
    assert_eq!(
        desk.ask_as(&max, "POST", &bindings, &bind("ClusterRole", "none")).await.refusal(),
        "404 clusterroles.rbac.authorization.k8s.io \"none\" not found"
    );
    let apply = [("content-type", "application/apply-patch+yaml"), ("impersonate-user", "max")];
    let config = format!(
        "apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata: {{name: t}}\nrules: [{}]",
        rule(&["get"], "", "secrets")
    );
    assert_eq!(desk.ask("PATCH", &format!("{roles}/t?fieldManager=m"), &apply, &config).await.code, 403);
    assert_eq!(desk.ask_as(&max, "POST", &bindings, &bind("Role", "roles-max")).await.code, 201, "max holds these");
}

#[tokio::test]
async fn a_token_is_good_for_its_account_until_what_it_is_bound_to_is_gone() {
    let desk = Desk::with_roles().await;
    desk.account("bot").await;
    let bot = json!({ "kind": "ServiceAccount", "name": "bot", "namespace": "default" });
    desk.grant("maps", rule(&["list"], "", "configmaps"), bot).await;
    let issued = desk.token_of("bot", json!({})).await;
    assert_eq!((issued.code, &issued.json()["spec"]["expirationSeconds"]), (201, &json!(3600)), "{}", issued.text);
    let token = issued.json()["status"]["token"].as_str().unwrap().to_owned();
    assert_eq!(desk.with_token(&token, "GET", MAPS, "").await.code, 200);
    assert_eq!(desk.with_token(&token, "GET", "/api/v1/nodes", "").await.code, 403);
    let who = desk.with_token(&token, "POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", "{}").await.json();
    let user = &who["status"]["userInfo"];
    assert_eq!(user["username"], "system:serviceaccount:default:bot");
    assert_eq!(
        user["groups"],
        json!(["system:serviceaccounts", "system:serviceaccounts:default", "system:authenticated"])
    );
    assert!(user["extra"]["authentication.kubernetes.io/credential-id"][0].as_str().unwrap().starts_with("JTI="));
    for spoiled in [format!("{token}x"), token.replace('.', ".."), token[..token.len() - 4].to_owned(), "a.b.c".into()]
    {
        assert_eq!(desk.with_token(&spoiled, "GET", MAPS, "").await.code, 401, "{spoiled}");
    }
    desk.pod("p").await;
    let pod = |desk: &Desk| desk.registry.api::<Pods>().get(&ObjectKey::new("default", "p")).unwrap();
    let to_pod = |name: &str| json!({ "boundObjectRef": { "kind": "Pod", "apiVersion": "v1", "name": name } });
    let refused = desk.token_of("bot", to_pod("p")).await.refusal();
    assert!(refused.starts_with("400 cannot bind token for serviceaccount to pod running with different"), "{refused}");
    assert_eq!(desk.token_of("bot", to_pod("q")).await.refusal(), "404 pods \"q\" not found");
    desk.account("default").await;
    let bound = desk.token_of("default", to_pod("p")).await.json()["status"]["token"].as_str().unwrap().to_owned();
    let url = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    let who = desk.with_token(&bound, "POST", url, "{}").await.json();
    let extra = &who["status"]["userInfo"]["extra"];
    assert_eq!(extra["authentication.kubernetes.io/pod-uid"][0], json!(pod(&desk).metadata.uid));
    let now = DeleteOptions { grace_period_secs: Some(0), ..DeleteOptions::default() };
    desk.registry.api::<Pods>().delete(&ObjectKey::new("default", "p"), &now).await.unwrap();
    assert_eq!(desk.with_token(&bound, "POST", url, "{}").await.code, 401, "its pod is gone");
    assert_eq!(desk.ask("DELETE", "/api/v1/namespaces/default/serviceaccounts/bot", &[], "").await.code, 200);
    assert_eq!(desk.with_token(&token, "GET", MAPS, "").await.code, 401, "its account is gone");
    desk.account("bot").await;
    assert_eq!(desk.with_token(&token, "GET", MAPS, "").await.code, 401, "another account of that name");
}

#[tokio::test]
async fn a_token_is_good_for_whom_it_is_for_and_how_long_it_says() {
    let desk = Desk::with_roles().await;
    desk.account("bot").await;
    for (secs, why) in [(5, "less than 10 minutes"), (1_i64 << 33, "larger than 2^32 seconds")] {
        let refused = desk.token_of("bot", json!({ "expirationSeconds": secs })).await.refusal();
        assert!(refused.ends_with(&format!("may not specify a duration {why}")), "{refused}");
    }
    let vault = desk.token_of("bot", json!({ "audiences": ["vault"] })).await.json();
    let vault = vault["status"]["token"].as_str().unwrap();
    assert_eq!(desk.with_token(vault, "GET", MAPS, "").await.code, 401, "it is not for this server");
    let review = async |spec: Value| {
        desk.post("/apis/authentication.k8s.io/v1/tokenreviews", json!({ "spec": spec })).await.json()["status"].clone()
    };
    let good = review(json!({ "token": vault, "audiences": ["other", "vault"] })).await;
    assert_eq!((&good["authenticated"], &good["audiences"]), (&json!(true), &json!(["vault"])));
    assert_eq!(good["user"]["username"], "system:serviceaccount:default:bot");
    let other = review(json!({ "token": vault })).await;
    assert!(other["error"].as_str().unwrap().contains("is invalid for the target audiences"), "{other}");
    assert!(other.get("authenticated").is_none());
    let keys = desk.get("/openid/v1/jwks").await.json();
    assert_eq!((&keys["keys"][0]["crv"], &keys["keys"][0]["alg"]), (&json!("P-256"), &json!("ES256")));
    let issuer = desk.get("/.well-known/openid-configuration").await.json();
    assert_eq!(issuer["issuer"], "https://kubernetes.default.svc.cluster.local");
}

#[tokio::test]
async fn others_may_be_asked_about() {
    let desk = Desk::with_roles().await;
    desk.grant("maps", rule(&["list"], "", "configmaps"), json!({ "kind": "Group", "name": "dev" })).await;
    let url = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
    let maps = json!({ "namespace": "default", "verb": "list", "resource": "configmaps" });
    let yes = desk.post(url, json!({ "spec": { "user": "x", "groups": ["dev"], "resourceAttributes": maps } })).await;
    let why = "RBAC: allowed by RoleBinding \"maps/default\" of Role \"maps\" to Group \"dev\"";
    assert_eq!(yes.json()["status"], json!({ "allowed": true, "reason": why }));
    let no = desk.post(url, json!({ "spec": { "user": "x", "resourceAttributes": maps } })).await;
    assert_eq!(no.json()["status"], json!({ "allowed": false }));
    let nobody = desk.post(url, json!({ "spec": { "resourceAttributes": maps } })).await.refusal();
    assert!(
        nobody.ends_with("spec.user: Invalid value: \"\": at least one of user or group must be specified"),
        "{nobody}"
    );
    let local = "/apis/authorization.k8s.io/v1/namespaces/kube-system/localsubjectaccessreviews";
    let elsewhere = desk.post(local, json!({ "spec": { "user": "x", "resourceAttributes": maps } })).await;
    assert_eq!(elsewhere.refusal(), "400 spec.resourceAttributes.namespace must match namespace: kube-system");
    assert_eq!(desk.ask_as(&jane(), "POST", url, &json!({})).await.code, 403);
}

#[tokio::test]
async fn a_request_for_a_certificate_says_who_asked_and_is_approved_by_who_may() {
    let desk = Desk::with_roles().await;
    let key = rcgen::KeyPair::generate().unwrap();
    let request = |group: &str| {
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::CommonName, "dev");
        params.distinguished_name.push(rcgen::DnType::OrganizationName, group);
        let pem = params.serialize_request(&key).unwrap().pem().unwrap();
        assert_eq!(tls::requested_groups(&pem), [group]);
        let pem = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, pem);
        json!({
            "metadata": { "name": "c" },
            "spec": { "request": pem, "signerName": "kubernetes.io/kube-apiserver-client", "usages": ["client auth"],
                      "username": "somebody else" },
        })
    };
    let masters = desk.post(CSRS, request("system:masters")).await.refusal();
    assert!(masters.ends_with("signer with system:masters group is not allowed"), "{masters}");
    let made = desk.post(CSRS, request("team")).await;
    assert_eq!((made.code, &made.json()["spec"]["username"]), (201, &json!("kubernetes-admin")), "{}", made.text);
    let mut approved = made.json();
    approved["status"] = json!({
        "conditions": [{ "type": "Approved", "status": "True", "reason": "r", "message": "m" }],
        "certificate": "eA==",
    });
    let url = format!("{CSRS}/c/approval");
    desk.grant("nothing", rule(&["get"], "", "pods"), json!({ "kind": "User", "name": "jane" })).await;
    let role = json!({ "metadata": { "name": "csr" }, "rules": [rule(&["update"], "certificates.k8s.io", "certificatesigningrequests/approval")] });
    assert_eq!(desk.post(&format!("{RBAC}/clusterroles"), role).await.code, 201);
    let binding = json!({
        "metadata": { "name": "csr" }, "subjects": [{ "kind": "User", "name": "jane" }],
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "csr" },
    });
    assert_eq!(desk.post(&format!("{RBAC}/clusterrolebindings"), binding).await.code, 201);
    let refused = desk.ask_as(&jane(), "PUT", &url, &approved).await.refusal();
    assert!(
        refused.ends_with(
            "user not permitted to approve requests with signerName \"kubernetes.io/kube-apiserver-client\""
        ),
        "{refused}"
    );
    let done = desk.ask("PUT", &url, &[], &approved.to_string()).await;
    assert_eq!(done.code, 200, "{}", done.text);
    let done = done.json();
    assert_eq!(done["status"]["conditions"][0]["type"], "Approved");
    assert!(done["status"].get("certificate").is_none(), "approval decides and does not sign");
}

#[tokio::test(start_paused = true)]
async fn a_node_writes_what_is_its_own_and_nothing_that_reads_for_it() {
    let desk = Desk::with_roles().await;
    let node = User::new("system:node:a", ["system:nodes", "system:authenticated"]);
    let said = async |method: &str, url: &str, body: Value| {
        let answer = desk.ask_as(&node, method, url, &body).await;
        if answer.code < 300 { answer.code.to_string() } else { answer.refusal() }
    };
    let nodes = "/api/v1/nodes";
    let of = |name: &str, label: &str| json!({ "metadata": { "name": name, "labels": { label: "x" } } });
    assert_eq!(
        said("POST", nodes, of("b", "app")).await,
        "403 nodes \"b\" is forbidden: node \"a\" is not allowed to modify node \"b\""
    );
    assert_eq!(
        said("POST", nodes, of("a", "node-restriction.kubernetes.io/x")).await,
        "403 nodes \"a\" is forbidden: node \"a\" is not allowed to set the following labels: node-restriction.kubernetes.io/x"
    );
    assert_eq!(said("POST", nodes, of("a", "kubernetes.io/hostname")).await, "201");
    let mut own = desk.get("/api/v1/nodes/a").await.json();
    own["spec"]["taints"] = json!([{ "key": "k", "effect": "NoSchedule" }]);
    assert!(said("PUT", "/api/v1/nodes/a", own).await.ends_with("node \"a\" is not allowed to modify taints"));
    let pods = "/api/v1/namespaces/default/pods";
    let pod = |annotation: &str, more: Value| {
        let mut spec = json!({ "nodeName": "a", "containers": [{ "name": "c", "image": "i" }] });
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({ "metadata": { "name": "p", "annotations": { annotation: "x" } }, "spec": spec })
    };
    let mirror = "kubernetes.io/config.mirror";
    let volumes = |volume: Value| json!({ "volumes": [volume] });
    for (object, why) in [
        (
            pod("x", json!({})),
            "pod does not have \"kubernetes.io/config.mirror\" annotation, node \"a\" can only create mirror pods",
        ),
        (pod(mirror, json!({ "nodeName": "b" })), "node \"a\" can only create pods with spec.nodeName set to itself"),
        (
            pod(mirror, json!({ "serviceAccountName": "s" })),
            "node \"a\" can not create pods that reference a service account",
        ),
        (
            pod(mirror, volumes(json!({ "name": "v", "secret": { "secretName": "s" } }))),
            "node \"a\" can not create pods that reference secrets",
        ),
        (
            pod(mirror, volumes(json!({ "name": "v", "configMap": { "name": "s" } }))),
            "node \"a\" can not create pods that reference configmaps",
        ),
        (
            pod(mirror, volumes(json!({ "name": "v", "persistentVolumeClaim": { "claimName": "s" } }))),
            "node \"a\" can not create pods that reference persistentvolumeclaims",
        ),
    ] {
        assert_eq!(said("POST", pods, object).await, format!("403 pods \"p\" is forbidden: {why}"));
    }
    let secrets = said("GET", "/api/v1/namespaces/default/secrets/s", Value::Null).await;
    assert!(secrets.ends_with("no relationship found between node 'a' and this object"), "{secrets}");
    let list = said("GET", "/api/v1/pods", Value::Null).await;
    assert!(list.ends_with("can only list/watch pods with spec.nodeName field selector"), "{list}");
    assert_eq!(said("GET", "/api/v1/pods?fieldSelector=spec.nodeName%3Da", Value::Null).await, "200");
    let leases = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";
    let lease = said("POST", leases, json!({ "metadata": { "name": "b" } })).await;
    assert!(lease.contains("can only access node lease with the same name") || lease.starts_with("404"), "{lease}");
}
