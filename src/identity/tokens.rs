//! Tokens of service accounts: JSON Web Tokens that the API server signs and reads.
//!
//! A token is bound to its account and, if it was asked for so, to a pod, a secret or a node: it is worth nothing once that is gone.
//!
//! `ring` signs (ES256); there is one key, and a token that names another algorithm is none of ours, so that what libraries for such
//! tokens negotiate would only be something to get wrong.
//!
//! **Source**: `pkg/serviceaccount/{claims,legacy,jwt,openidmetadata}.go`, `pkg/registry/core/serviceaccount/storage/token.go`, v1.37.

use super::user::User;
use crate::{
    api::{
        agreements::POD_TOKEN_SECS,
        kind::Kind,
        kinds::{node::Nodes, pod::Pods, secret::Secrets, service_account::ServiceAccounts},
        meta::ObjectKey,
        object::Object as _,
    },
    base::json,
    registry::Registry,
};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use ring::{
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, UnparsedPublicKey,
    },
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::sync::Arc;

/// Who signs, as tokens say; also whom they are for when nobody says.
pub const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";
/// Who signed tokens that are kept in Secrets.
const LEGACY_ISSUER: &str = "kubernetes/serviceaccount";
/// How long a token is good when nobody says. Source: `defaults.go` of authentication/v1.
pub const DEFAULT_SECS: i64 = 3600;
/// A pod that asks for [`POD_TOKEN_SECS`] gets a token that is good for a year, for clients that read theirs once.
const YEAR_SECS: i64 = 365 * 24 * 3600;
/// How long the token of a pod outlives the end of its grace. Source: `validator.go`.
const LEEWAY_SECS: i64 = 60;
/// The annotation that ties a Secret's token to its account.
pub const ACCOUNT_ANNOTATION: &str = "kubernetes.io/service-account.name";
/// The annotation that says which account of that name.
pub const ACCOUNT_UID_ANNOTATION: &str = "kubernetes.io/service-account.uid";
/// The type of a Secret that holds a token.
pub const SECRET_TYPE: &str = "kubernetes.io/service-account-token";

/// The key cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("the key that signs service account tokens cannot be used: {0}")]
pub struct BadKey(String);

/// Why a token is refused. `Display` is for whoever reviews tokens; callers only hear that they are unknown.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It is no token that this server has signed.
    #[error("invalid bearer token")]
    Foreign,
    /// It is not good any more.
    #[error("invalid bearer token, service account token has expired")]
    Expired,
    /// It is not good yet.
    #[error("invalid bearer token, service account token is not valid yet")]
    NotYet,
    /// It is for others.
    #[error("invalid bearer token, token audiences {has:?} is invalid for the target audiences {wanted:?}")]
    Audience {
        /// Whom it is for.
        has: Vec<String>,
        /// Who asks.
        wanted: Vec<String>,
    },
    /// What it is bound to is gone.
    #[error("invalid bearer token, service account token has been invalidated: {0}")]
    Gone(String),
}

/// What a token is bound to beside its account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bound {
    /// A pod, by name and UID, and its node if it has one.
    Pod(Named, Option<Named>),
    /// A secret.
    Secret(Named),
    /// A node.
    Node(Named),
}

/// An object by name and UID.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Named {
    /// Its name.
    pub name: String,
    /// Its UID; may be unknown, for a node that was forgotten.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub uid: String,
}

/// What somebody wants a token for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wish {
    /// Whom it is for; none: this server.
    pub audiences: Vec<String>,
    /// How many seconds it is good.
    pub secs: i64,
    /// What it is bound to.
    pub bound: Option<Bound>,
}

/// A token, and until when the one who asked should take it for good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issued {
    /// The token.
    pub token: String,
    /// When it ends.
    pub expires_at: Timestamp,
}

/// Signs and reads tokens. Clones share the key.
#[derive(Clone)]
pub struct Tokens(Arc<Inner>);

struct Inner {
    registry: Registry,
    key: EcdsaKeyPair,
    key_id: String,
    random: SystemRandom,
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokens").field("key_id", &self.0.key_id).finish_non_exhaustive()
    }
}

#[derive(Deserialize, Serialize)]
struct Header {
    alg: String,
    #[serde(default)]
    kid: String,
}

/// Everything a token says.
#[derive(Debug, Deserialize, Serialize)]
struct Claims {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    aud: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    exp: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    iat: Option<i64>,
    iss: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    jti: Option<String>,
    #[serde(rename = "kubernetes.io", skip_serializing_if = "Option::is_none")]
    bound: Option<BoundClaims>,
    #[serde(skip_serializing_if = "Option::is_none")]
    nbf: Option<i64>,
    sub: String,
    #[serde(flatten)]
    legacy: Option<LegacyClaims>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
struct BoundClaims {
    namespace: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    node: Option<Named>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pod: Option<Named>,
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<Named>,
    serviceaccount: Named,
    #[serde(skip_serializing_if = "Option::is_none")]
    warnafter: Option<i64>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
struct LegacyClaims {
    #[serde(rename = "kubernetes.io/serviceaccount/namespace")]
    namespace: String,
    #[serde(rename = "kubernetes.io/serviceaccount/secret.name")]
    secret: String,
    #[serde(rename = "kubernetes.io/serviceaccount/service-account.name")]
    account: String,
    #[serde(rename = "kubernetes.io/serviceaccount/service-account.uid")]
    uid: String,
}

impl Tokens {
    /// Tokens signed with this key, a P-256 key as PKCS #8 in DER.
    ///
    /// # Errors
    /// The key is none.
    pub fn new(registry: Registry, pkcs8: &[u8]) -> Result<Self, BadKey> {
        let random = SystemRandom::new();
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8, &random);
        let key = key.map_err(|err| BadKey(err.to_string()))?;
        let key_id = BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(key.public_key().as_ref()));
        Ok(Self(Arc::new(Inner { registry, key, key_id, random })))
    }

    /// A token for an account. One for a pod that asks for [`POD_TOKEN_SECS`] is good for a year, and says when it should have been replaced.
    pub fn issue(&self, account: &ServiceAccount, wish: &Wish) -> Issued {
        let now = self.now();
        let is_for_server = wish.audiences.is_empty() || wish.audiences == [ISSUER];
        let is_extended = is_for_server && wish.secs == POD_TOKEN_SECS && matches!(wish.bound, Some(Bound::Pod(..)));
        let meta = &account.metadata;
        let (namespace, name) = (meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default());
        let mut bound = BoundClaims {
            namespace: namespace.clone(),
            node: None,
            pod: None,
            secret: None,
            serviceaccount: Named { name: name.clone(), uid: meta.uid.clone().unwrap_or_default() },
            warnafter: is_extended.then_some(now.saturating_add(POD_TOKEN_SECS)),
        };
        match wish.bound.clone() {
            Some(Bound::Pod(pod, node)) => (bound.pod, bound.node) = (Some(pod), node),
            Some(Bound::Secret(secret)) => bound.secret = Some(secret),
            Some(Bound::Node(node)) => bound.node = Some(node),
            None => {}
        }
        let audiences = if wish.audiences.is_empty() { vec![ISSUER.to_owned()] } else { wish.audiences.clone() };
        let claims = Claims {
            aud: audiences,
            exp: Some(now.saturating_add(if is_extended { YEAR_SECS } else { wish.secs })),
            iat: Some(now),
            iss: ISSUER.to_owned(),
            jti: Some(self.0.registry.rng().uid()),
            bound: Some(bound),
            nbf: Some(now),
            sub: super::user::account_name(&namespace, &name),
            legacy: None,
        };
        let expires_at = Timestamp::from_second(now.saturating_add(wish.secs)).unwrap_or(Timestamp::MAX);
        Issued { token: self.sign(&claims), expires_at }
    }

    /// The token of a Secret that is one of an account.
    pub fn of_secret(&self, account: &ServiceAccount, secret: &str) -> String {
        let meta = &account.metadata;
        let (namespace, name) = (meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default());
        let legacy = LegacyClaims {
            secret: secret.to_owned(),
            account: name.clone(),
            uid: meta.uid.clone().unwrap_or_default(),
            namespace: namespace.clone(),
        };
        self.sign(&Claims {
            aud: Vec::new(),
            exp: None,
            iat: None,
            iss: LEGACY_ISSUER.to_owned(),
            jti: None,
            bound: None,
            nbf: None,
            sub: super::user::account_name(&namespace, &name),
            legacy: Some(legacy),
        })
    }

    /// Whether this server has signed a token, whatever it says.
    pub fn is_ours(&self, token: &str) -> bool {
        self.open(token).is_ok()
    }

    /// Whose token it is, and for which of these audiences it is good.
    ///
    /// # Errors
    /// It is not good for any of them, not any more, or none of ours.
    pub fn user(&self, token: &str, audiences: &[String]) -> Result<(User, Vec<String>), Refused> {
        let claims = self.open(token)?;
        match (&*claims.iss, &claims.bound, &claims.legacy) {
            (ISSUER, Some(bound), _) => self.bound_user(&claims, bound, audiences),
            (LEGACY_ISSUER, None, Some(legacy)) => {
                let user = self.legacy_user(legacy, token)?;
                let good: Vec<String> = audiences.iter().filter(|a| *a == ISSUER).cloned().collect();
                if good.is_empty() {
                    return Err(Refused::Audience { has: vec![ISSUER.to_owned()], wanted: audiences.to_vec() });
                }
                Ok((user, good))
            }
            _ => Err(Refused::Foreign),
        }
    }

    fn bound_user(
        &self,
        claims: &Claims,
        bound: &BoundClaims,
        audiences: &[String],
    ) -> Result<(User, Vec<String>), Refused> {
        let now = self.now();
        if claims.exp.is_none_or(|exp| exp < now) {
            return Err(Refused::Expired);
        }
        if claims.nbf.is_some_and(|nbf| nbf > now) {
            return Err(Refused::NotYet);
        }
        let good: Vec<String> = audiences.iter().filter(|a| claims.aud.contains(a)).cloned().collect();
        if good.is_empty() {
            return Err(Refused::Audience { has: claims.aud.clone(), wanted: audiences.to_vec() });
        }
        self.account(&bound.namespace, &bound.serviceaccount)?;
        let mut user = User::of_account(&bound.namespace, &bound.serviceaccount.name);
        user.uid.clone_from(&bound.serviceaccount.uid);
        let mut tell = |key: &str, value: &str| {
            if !value.is_empty() {
                user.extra.insert(format!("authentication.kubernetes.io/{key}"), vec![value.to_owned()]);
            }
        };
        if let Some(jti) = &claims.jti {
            tell("credential-id", &format!("JTI={jti}"));
        }
        if let Some(pod) = &bound.pod {
            self.is_there::<Pods>(&bound.namespace, pod)?;
            tell("pod-name", &pod.name);
            tell("pod-uid", &pod.uid);
        }
        if let Some(secret) = &bound.secret {
            self.is_there::<Secrets>(&bound.namespace, secret)?;
        }
        if let Some(node) = &bound.node {
            if bound.pod.is_none() {
                self.is_there::<Nodes>("", node)?;
            }
            tell("node-name", &node.name);
            tell("node-uid", &node.uid);
        }
        Ok((user, good))
    }

    fn legacy_user(&self, claims: &LegacyClaims, token: &str) -> Result<User, Refused> {
        let secret = self.0.registry.api::<Secrets>().get(&ObjectKey::new(&claims.namespace, &claims.secret));
        let secret = secret.filter(|s| s.metadata.deletion_timestamp.is_none());
        let secret = secret.ok_or_else(|| Refused::Gone(format!("secret {:?} not found", claims.secret)))?;
        let held = secret.data.as_ref().and_then(|data| data.get("token"));
        if held.is_none_or(|held| held.0 != token.as_bytes()) {
            return Err(Refused::Gone("token doesn't match server's copy".to_owned()));
        }
        self.account(&claims.namespace, &Named { name: claims.account.clone(), uid: claims.uid.clone() })?;
        let user = User::of_account(&claims.namespace, &claims.account);
        Ok(User { uid: claims.uid.clone(), ..user })
    }

    fn account(&self, namespace: &str, account: &Named) -> Result<(), Refused> {
        self.is_there::<ServiceAccounts>(namespace, account)
    }

    /// Whether the object is still there, or has not been going for long.
    fn is_there<K: Kind>(&self, namespace: &str, wanted: &Named) -> Result<(), Refused> {
        let what = K::INFO.singular;
        let gone = |why: &str| Err(Refused::Gone(format!("{what} {:?} {why}", wanted.name)));
        let Some(found) = self.0.registry.api::<K>().get(&ObjectKey::new(namespace, &wanted.name)) else {
            return gone("not found");
        };
        let meta = found.meta();
        if meta.uid.as_deref() != Some(&*wanted.uid) {
            return gone("is another one of that name");
        }
        let is_over = meta
            .deletion_timestamp
            .as_ref()
            .is_some_and(|at| self.now() > at.0.as_second().saturating_add(LEEWAY_SECS));
        if is_over { gone("has been deleted") } else { Ok(()) }
    }

    /// The keys by which others read tokens, as a JSON Web Key Set.
    pub fn key_set(&self) -> Value {
        // An uncompressed point: 4, then both coordinates.
        let point = self.0.key.public_key().as_ref();
        let part = |range: std::ops::Range<usize>| {
            BASE64_URL_SAFE_NO_PAD.encode(point.get(range).expect("a P-256 point has 65 bytes"))
        };
        json!({ "keys": [{
            "use": "sig", "kty": "EC", "kid": self.0.key_id, "crv": "P-256", "alg": "ES256",
            "x": part(1..33), "y": part(33..65),
        }] })
    }

    /// What is to be known of the issuer. Source: `openidmetadata.go`.
    pub fn issuer_document(&self) -> Value {
        json!({
            "issuer": ISSUER,
            "jwks_uri": format!("{ISSUER}/openid/v1/jwks"),
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["ES256"],
        })
    }

    fn now(&self) -> i64 {
        self.0.registry.clock().now().as_second()
    }

    fn sign(&self, claims: &Claims) -> String {
        let header = Header { alg: "ES256".to_owned(), kid: self.0.key_id.clone() };
        let encode = |json: Vec<u8>| BASE64_URL_SAFE_NO_PAD.encode(json);
        let text = |json: Result<Vec<u8>, _>| encode(json.expect("texts and numbers are JSON"));
        let signed = format!("{}.{}", text(serde_json::to_vec(&header)), text(serde_json::to_vec(claims)));
        let signature = self.0.key.sign(&self.0.random, signed.as_bytes()).expect("the system has random numbers");
        format!("{signed}.{}", encode(signature.as_ref().to_vec()))
    }

    /// What a token says, if it is signed with the one key, in the one way.
    fn open(&self, token: &str) -> Result<Claims, Refused> {
        let foreign = |_| Refused::Foreign;
        let (signed, signature) = token.rsplit_once('.').ok_or(Refused::Foreign)?;
        let (header, claims) = signed.split_once('.').ok_or(Refused::Foreign)?;
        let bytes = |text: &str| BASE64_URL_SAFE_NO_PAD.decode(text).map_err(|_err| Refused::Foreign);
        let header: Header = json::read(&bytes(header)?).map_err(|_err| Refused::Foreign)?;
        if header.alg != "ES256" {
            return Err(Refused::Foreign);
        }
        let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, self.0.key.public_key().as_ref());
        key.verify(signed.as_bytes(), &bytes(signature)?).map_err(foreign)?;
        json::read(&bytes(claims)?).map_err(|_err| Refused::Foreign)
    }
}

/// The binding to a pod, for tokens that its volumes hold.
pub fn bound_to(pod: &Pod) -> Bound {
    let named = |name: &Option<String>, uid: &Option<String>| Named {
        name: name.clone().unwrap_or_default(),
        uid: uid.clone().unwrap_or_default(),
    };
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone()).filter(|name| !name.is_empty());
    let node = node.map(|name| Named { name, uid: String::new() });
    Bound::Pod(named(&pod.metadata.name, &pod.metadata.uid), node)
}
