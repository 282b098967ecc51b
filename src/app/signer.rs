//! Signs requests for certificates: the seam of the controller over the cluster's CA.

use crate::{
    controllers::certificate_signing::{Signer, Wish},
    server::tls::{Pki, RequestedUse},
};
use std::sync::Arc;

/// The CA as a signer.
pub(super) struct CaSigner(pub(super) Arc<Pki>);

impl Signer for CaSigner {
    fn sign(&self, wish: &Wish) -> Result<String, String> {
        let of = RequestedUse { is_serving: wish.is_serving, is_of_node: wish.is_of_node };
        self.0.sign_request(&wish.request, wish.secs, of)
    }
}
