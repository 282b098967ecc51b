//! Issues the tokens that pods have in their volumes: the seam of the node agent over the API's own tokens.

use crate::{
    api::{kinds::service_account::ServiceAccounts, meta::ObjectKey},
    identity::{
        Tokens,
        tokens::{DEFAULT_SECS, Wish, bound_to},
    },
    node::TokenSource,
    registry::Registry,
};
use k8s_openapi::api::core::v1::{Pod, ServiceAccountTokenProjection};

/// Tokens for the pods of this registry.
pub(super) struct PodTokens {
    pub(super) registry: Registry,
    pub(super) tokens: Tokens,
}

impl TokenSource for PodTokens {
    fn token(&self, pod: &Pod, projection: &ServiceAccountTokenProjection) -> Result<String, String> {
        let namespace = pod.metadata.namespace.clone().unwrap_or_default();
        let named = pod.spec.as_ref().and_then(|spec| spec.service_account_name.clone());
        let name = named.unwrap_or_else(|| "default".to_owned());
        let account = self.registry.api::<ServiceAccounts>().get(&ObjectKey::new(&namespace, &name));
        let account = account.ok_or_else(|| format!("failed to fetch token: serviceaccounts {name:?} not found"))?;
        let wish = Wish {
            audiences: projection.audience.iter().filter(|a| !a.is_empty()).cloned().collect(),
            secs: projection.expiration_seconds.unwrap_or(DEFAULT_SECS),
            bound: Some(bound_to(pod)),
        };
        Ok(self.tokens.issue(&account, &wish).token)
    }
}
