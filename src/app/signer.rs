//! Certificates of the cluster's CA: the seams of the controllers over it.

use crate::{
    api::router_certificates::Pair,
    base::chain::chain,
    controllers::{
        certificate_signing::{Signer, Wish},
        router_certificates::Issuer,
    },
    server::tls::{Credential, Pki, RequestedUse},
};
use std::sync::Arc;

/// The CA as a signer of requests, and as who makes certificates for the router.
pub(super) struct CaSigner(pub(super) Arc<Pki>);

impl Signer for CaSigner {
    fn sign(&self, wish: &Wish) -> Result<String, String> {
        let of = RequestedUse { is_serving: wish.is_serving, is_of_node: wish.is_of_node };
        self.0.sign_request(&wish.request, wish.secs, of)
    }
}

impl Issuer for CaSigner {
    fn issue(&self, host: &str) -> Result<Pair, String> {
        let made = self.0.issue_for_host(host).map_err(|err| chain(&err))?;
        Ok(Pair { certificate: made.cert_pem, key: made.key_pem })
    }

    fn is_good(&self, pair: &Pair, host: &str) -> bool {
        let (cert_pem, key_pem) = (pair.certificate.clone(), pair.key.clone());
        self.0.is_good_for_host(&Credential { cert_pem, key_pem }, host)
    }
}
