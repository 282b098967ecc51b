//! Connections to the API server.

use super::{ClientError, Kubeconfig, KubeconfigError};
use crate::base::task;
use crate::base::{duplex::Duplex, secret::Secret};
use bytes::Bytes;
use http::{HeaderValue, Request, Response, Uri};
use http_body_util::Full;
use hyper::{
    body::Incoming,
    client::conn::http1::{self, SendRequest},
};
use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
};
use std::{io, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::TlsConnector;

/// How long a connection may take to be there, TLS included.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);

/// Where the server is, and how it is spoken to.
#[derive(Debug)]
pub(super) struct Target {
    host: String,
    port: u16,
    authority: HeaderValue,
    tls: Option<Tls>,
    token: Option<Secret<String>>,
    token_file: Option<PathBuf>,
}

/// A connection before anything is said on it.
pub type Wire = Box<dyn Duplex>;

#[derive(Debug)]
struct Tls {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl Target {
    pub(super) fn new(kubeconfig: &Kubeconfig) -> Result<Self, KubeconfigError> {
        let bad = |why: &str| KubeconfigError::bad("server", format!("{:?}: {why}", kubeconfig.server));
        let uri: Uri = kubeconfig.server.parse().map_err(|err| KubeconfigError::bad("server", err))?;
        let authority = uri.authority().ok_or_else(|| bad("it needs a scheme and a host"))?;
        let host = authority.host().trim_matches(['[', ']']).to_owned();
        let (is_tls, usual_port) = match uri.scheme_str() {
            Some("https") => (true, 443),
            Some("http") => (false, 80),
            _ => return Err(bad("the scheme is neither https nor http")),
        };
        let tls = is_tls.then(|| Tls::new(kubeconfig, &host)).transpose()?;
        let port = authority.port_u16().unwrap_or(usual_port);
        let authority = HeaderValue::from_str(authority.as_str()).map_err(|err| KubeconfigError::bad("server", err))?;
        Ok(Self {
            host,
            port,
            authority,
            tls,
            token: kubeconfig.token.clone(),
            token_file: kubeconfig.token_file.clone(),
        })
    }

    /// What the header `Authorization` says now, if there is a token.
    pub(super) fn authorization(&self) -> Result<Option<HeaderValue>, ClientError> {
        let token = match (&self.token, &self.token_file) {
            (Some(token), _) => token.reveal().clone(),
            (None, Some(file)) => std::fs::read_to_string(file)
                .map_err(|source| ClientError::Token { file: file.display().to_string(), source })?,
            (None, None) => return Ok(None),
        };
        let mut value = HeaderValue::from_str(&format!("Bearer {}", token.trim()))
            .map_err(|err| ClientError::Malformed(err.into()))?;
        value.set_sensitive(true);
        Ok(Some(value))
    }

    /// What the header `Host` says.
    pub(super) fn authority(&self) -> &HeaderValue {
        &self.authority
    }

    pub(super) async fn address(&self) -> io::Result<SocketAddr> {
        let mut found = tokio::net::lookup_host((self.host.as_str(), self.port)).await?;
        found.next().ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("{} has no address", self.host)))
    }

    pub(super) async fn connect(&self) -> Result<Connection, ClientError> {
        Connection::new(self.wire().await?).await.map_err(|source| self.unreachable(source))
    }

    /// The bytes to and from the server, TLS done.
    pub(super) async fn wire(&self) -> Result<Wire, ClientError> {
        let opened = timeout(CONNECT_WITHIN, self.open()).await;
        let opened = opened.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        opened.map_err(|source| self.unreachable(source))
    }

    fn unreachable(&self, source: io::Error) -> ClientError {
        ClientError::Connect { server: format!("{}:{}", self.host, self.port), source }
    }

    async fn open(&self) -> io::Result<Wire> {
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await?;
        // Requests are small and waited for.
        stream.set_nodelay(true)?;
        match &self.tls {
            None => Ok(Box::new(stream)),
            Some(tls) => {
                let connector = TlsConnector::from(Arc::clone(&tls.config));
                Ok(Box::new(connector.connect(tls.name.clone(), stream).await?))
            }
        }
    }
}

impl Tls {
    fn new(kubeconfig: &Kubeconfig, host: &str) -> Result<Self, KubeconfigError> {
        const CA: &str = "certificate-authority-data";
        const IDENTITY: &str = "client-certificate-data or client-key-data";
        let ca_pem = kubeconfig.ca_pem.as_ref().ok_or_else(|| KubeconfigError::Missing(CA.to_owned()))?;
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(ca_pem) {
            let certificate = certificate.map_err(|err| KubeconfigError::bad(CA, err))?;
            roots.add(certificate).map_err(|err| KubeconfigError::bad(CA, err))?;
        }
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("the provider supports the default versions")
            .with_root_certificates(roots);
        let config = match &kubeconfig.identity_pem {
            None => config.with_no_client_auth(),
            Some((certificate, key)) => {
                let bad = |err| KubeconfigError::bad(IDENTITY, err);
                let chain = CertificateDer::pem_slice_iter(certificate).collect::<Result<Vec<_>, _>>().map_err(bad)?;
                let key = PrivateKeyDer::from_pem_slice(key).map_err(bad)?;
                config.with_client_auth_cert(chain, key).map_err(|err| KubeconfigError::bad(IDENTITY, err))?
            }
        };
        let name = ServerName::try_from(host.to_owned()).map_err(|err| KubeconfigError::bad("server", err))?;
        Ok(Self { config: Arc::new(config), name })
    }
}

/// A connection that sends one request at a time. It ends when it is dropped.
#[derive(Debug)]
pub(super) struct Connection(SendRequest<Full<Bytes>>);

/// A request without an answer.
#[derive(Debug)]
pub(super) struct Failed {
    pub(super) error: ClientError,
    /// The request, if it certainly was not sent.
    pub(super) unsent: Option<Request<Full<Bytes>>>,
}

impl Connection {
    async fn new(stream: Wire) -> io::Result<Self> {
        let (sender, driver) = http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        task::spawn("api-connection", async move {
            // Whoever waits for an answer is told why there is none.
            driver.await.ok();
        });
        Ok(Self(sender))
    }

    pub(super) async fn send(&mut self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, Failed> {
        let sent = self.0.try_send_request(request).await;
        sent.map_err(|mut failed| {
            let unsent = failed.take_message();
            Failed { error: ClientError::Broken(failed.into_error().into()), unsent }
        })
    }

    /// Whether another request can be sent.
    pub(super) async fn is_free(&mut self) -> bool {
        self.0.ready().await.is_ok()
    }
}
