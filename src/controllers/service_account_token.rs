//! A Secret of type `kubernetes.io/service-account-token` gets the token of the account that its annotation names, and goes with it.
//!
//! **Source**: `pkg/controller/serviceaccount/tokens_controller.go`, v1.37.

use super::runtime::{Action, Controller, Decision, Trigger};
use crate::{
    api::{
        kinds::{secret::Secrets, service_account::ServiceAccounts},
        meta::ObjectKey,
    },
    identity::{
        Tokens,
        tokens::{ACCOUNT_ANNOTATION, ACCOUNT_UID_ANNOTATION, SECRET_TYPE},
    },
    registry::Registry,
};
use k8s_openapi::{
    ByteString,
    api::core::v1::{Secret, ServiceAccount},
};
use std::sync::Arc;

/// A Secret for a token, and its account.
#[derive(Clone, Debug)]
pub struct Observed {
    secret: Arc<Secret>,
    account: Option<Arc<ServiceAccount>>,
    /// Whether the token that is in it is one of this cluster's.
    has_token: bool,
}

/// The controller.
#[derive(Clone, Debug)]
pub struct SecretTokens {
    /// Who signs.
    pub tokens: Tokens,
    /// The certificate of the API server, PEM.
    pub root_ca: String,
}

impl Controller for SecretTokens {
    type Key = ObjectKey;
    type Observed = Observed;

    fn name(&self) -> &'static str {
        "serviceaccount-token"
    }

    fn triggers(&self) -> Vec<Trigger<ObjectKey>> {
        vec![
            Trigger::on::<Secrets>(|_, moved, keys| {
                let of_token = moved.after.iter().filter(|secret| is_for_token(secret));
                keys.extend(of_token.map(|secret| ObjectKey::of(&secret.metadata)));
            }),
            Trigger::on::<ServiceAccounts>(|registry, moved, keys| {
                let Some(account) = moved.last() else { return };
                let namespace = account.metadata.namespace.as_deref().unwrap_or_default();
                let secrets = registry.api::<Secrets>().list(namespace).items;
                let of_account =
                    |s: &&Arc<Secret>| is_for_token(s) && account_of(s) == account.metadata.name.as_deref();
                keys.extend(secrets.iter().filter(of_account).map(|secret| ObjectKey::of(&secret.metadata)));
            }),
        ]
    }

    fn observe(&self, registry: &Registry, key: &ObjectKey) -> Option<Observed> {
        let secret = registry.api::<Secrets>().get(key).filter(|s| is_for_token(s))?;
        let name = account_of(&secret)?;
        let account = registry.api::<ServiceAccounts>().get(&ObjectKey::new(&key.namespace, name));
        let token = secret.data.as_ref().and_then(|data| data.get("token"));
        let has_token = token.is_some_and(|t| std::str::from_utf8(&t.0).is_ok_and(|t| self.tokens.is_ours(t)));
        Some(Observed { secret, account, has_token })
    }

    fn decide(&self, observed: &Observed) -> Decision {
        let mut decision = Decision::rest();
        let secret = &*observed.secret;
        if secret.metadata.deletion_timestamp.is_some() {
            return decision;
        }
        let tied_to = annotation(secret, ACCOUNT_UID_ANNOTATION);
        let Some(account) = &observed.account else {
            if tied_to.is_some() {
                decision.then(Action::delete::<Secrets>(secret).because("its account is gone"));
            }
            return decision;
        };
        let uid = account.metadata.uid.clone().unwrap_or_default();
        if tied_to.is_some_and(|tied_to| tied_to != uid) {
            decision.then(Action::delete::<Secrets>(secret).because("its account is another one by now"));
            return decision;
        }
        if observed.has_token && tied_to.is_some() && self.has_certificate(secret) {
            return decision;
        }
        let filled = self.filled(secret, account, &uid, observed.has_token);
        decision.then(Action::update::<Secrets>(filled).because("its account's token is not in it"));
        decision
    }
}

impl SecretTokens {
    fn has_certificate(&self, secret: &Secret) -> bool {
        let data = secret.data.as_ref().and_then(|data| data.get("ca.crt"));
        data.is_some_and(|held| held.0 == self.root_ca.as_bytes())
    }

    fn filled(&self, secret: &Secret, account: &ServiceAccount, uid: &str, has_token: bool) -> Secret {
        let mut filled = secret.clone();
        let namespace = secret.metadata.namespace.clone().unwrap_or_default();
        let data = filled.data.get_or_insert_default();
        let mut put = |key: &str, text: String| drop(data.insert(key.to_owned(), ByteString(text.into_bytes())));
        if !has_token {
            put("token", self.tokens.of_secret(account, secret.metadata.name.as_deref().unwrap_or_default()));
        }
        put("ca.crt", self.root_ca.clone());
        put("namespace", namespace);
        let annotations = filled.metadata.annotations.get_or_insert_default();
        annotations.insert(ACCOUNT_UID_ANNOTATION.to_owned(), uid.to_owned());
        filled
    }
}

fn is_for_token(secret: &Secret) -> bool {
    secret.type_.as_deref() == Some(SECRET_TYPE)
}

fn annotation<'s>(secret: &'s Secret, name: &str) -> Option<&'s str> {
    secret.metadata.annotations.as_ref()?.get(name).map(String::as_str)
}

fn account_of(secret: &Secret) -> Option<&str> {
    annotation(secret, ACCOUNT_ANNOTATION)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[tokio::test(start_paused = true)]
    async fn a_secret_gets_the_token_of_its_account_and_goes_with_it() {
        let registry = testing::registry().await;
        let tokens = testing::tokens(&registry);
        let account: ServiceAccount = testing::from_yaml("metadata: {name: bot, namespace: default}").unwrap();
        registry.api::<ServiceAccounts>().create(account).await.unwrap();
        let text = format!(
            "metadata: {{name: s, namespace: default, annotations: {{{ACCOUNT_ANNOTATION}: bot}}}}\ntype: {SECRET_TYPE}"
        );
        registry.api::<Secrets>().create(testing::from_yaml(&text).unwrap()).await.unwrap();
        let controller = SecretTokens { tokens: tokens.clone(), root_ca: "PEM".into() };
        let key = ObjectKey::new("default", "s");
        let audiences = [crate::identity::tokens::ISSUER.to_owned()];
        let said = || controller.decide(&controller.observe(&registry, &key).unwrap()).to_text();
        assert_eq!(said(), "update Secret default/s (its account's token is not in it)");
        let observed = controller.observe(&registry, &key).unwrap();
        let account = observed.account.clone().unwrap();
        let uid = account.metadata.uid.clone().unwrap();
        let filled = controller.filled(&observed.secret, &account, &uid, false);
        let token = String::from_utf8(filled.data.as_ref().unwrap()["token"].0.clone()).unwrap();
        assert!(tokens.user(&token, &audiences).is_err(), "a token that is stored nowhere is worth nothing");
        registry.api::<Secrets>().replace(filled).await.unwrap();
        assert_eq!(tokens.user(&token, &audiences).unwrap().0.name, "system:serviceaccount:default:bot");
        assert_eq!(said(), "");
        let options = Default::default();
        registry.api::<ServiceAccounts>().delete(&ObjectKey::new("default", "bot"), &options).await.unwrap();
        assert!(tokens.user(&token, &audiences).is_err(), "its account is gone");
        assert_eq!(said(), "delete Secret default/s (its account is gone)");
    }
}
