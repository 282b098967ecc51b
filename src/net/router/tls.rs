//! TLS of the router: which certificate a client is shown, and which of endpoints are good.
//!
//! Called by `live` when the table changes, and by rustls for each handshake.

use super::table::Trust;
use crate::{
    api::router_certificates::Pair,
    base::ordered::{Map, Set},
};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject as _},
    sign::CertifiedKey,
};
use std::sync::{Arc, Mutex, PoisonError};

/// A certificate and its key, ready for use; or what is wrong with them.
pub(super) type Certified = Result<Arc<CertifiedKey>, String>;

/// Certificates that were made ready: each change of the table asks for all of them.
#[derive(Debug, Default)]
pub(super) struct Keys(Mutex<Map<Pair, Certified>>);

impl Keys {
    /// A certificate and its key, ready for use.
    pub(super) fn of(&self, pair: &Pair) -> Certified {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(there) = known.get(pair) {
            return there.clone();
        }
        let made = certified(pair);
        known.insert(pair.clone(), made.clone());
        made
    }

    /// Forgets all but these.
    pub(super) fn retain(&self, used: &Set<&Pair>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|pair, _| used.contains(pair));
    }
}

fn certified(pair: &Pair) -> Certified {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pair.certificate.as_bytes()).collect();
    let chain = chain.map_err(|err| format!("the certificate is no PEM: {err}"))?;
    if chain.is_empty() {
        return Err("there is no certificate in PEM".to_owned());
    }
    let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).map_err(|err| format!("the key is no PEM: {err}"))?;
    let certified = CertifiedKey::from_der(chain, key, &ring::default_provider());
    certified.map(Arc::new).map_err(|err| match err {
        Error::InconsistentKeys(_) => "the key is not that of the certificate".to_owned(),
        other => format!("the certificate or its key cannot be used: {other}"),
    })
}

/// How endpoints are spoken to over TLS. `cluster_ca` is the certificate of the cluster's authority, PEM.
///
/// # Errors
/// What is wrong with the authority's certificate.
pub(super) fn client_config(trust: &Trust, cluster_ca: &str, is_http2: bool) -> Result<Arc<ClientConfig>, String> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|err| err.to_string())?;
    let mut config = match trust {
        Trust::Cluster => builder.with_root_certificates(roots(cluster_ca)?).with_no_client_auth(),
        Trust::Signed(authority) => {
            let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots(authority)?), provider).build();
            let verifier = Arc::new(AnyName(verifier.map_err(|err| err.to_string())?));
            builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth()
        }
        Trust::Anything => {
            let verifier = Arc::new(Anybody(provider));
            builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth()
        }
    };
    config.alpn_protocols = if is_http2 { vec![b"h2".to_vec()] } else { vec![b"http/1.1".to_vec()] };
    Ok(Arc::new(config))
}

fn roots(pem: &str) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for der in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        let der = der.map_err(|err| format!("the authority of the endpoints is no PEM: {err}"))?;
        roots.add(der).map_err(|err| format!("the authority of the endpoints cannot be used: {err}"))?;
    }
    if roots.is_empty() {
        Err("the authority of the endpoints has no certificate in PEM".to_owned())
    } else {
        Ok(roots)
    }
}

/// Takes certificates of an authority, whatever name is in them: what a Route's destinationCACertificate means.
#[derive(Debug)]
struct AnyName(Arc<WebPkiServerVerifier>);

impl ServerCertVerifier for AnyName {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match self.0.verify_server_cert(end_entity, intermediates, name, ocsp, now) {
            // Names are looked at last: all else was good.
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            verdict => verdict,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

/// Takes every certificate, as ingress-nginx does: pods sign their own.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
