//! Requests as a program of a user's own sends them: through the `kube` client, or as bytes inside TLS.

use super::cluster::Cluster;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{Request, Response};
use http_body_util::BodyExt as _;
use kube::{Client, Config, client::Body, config::Kubeconfig};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
};
use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    path::Path,
    sync::Arc,
    time::Duration,
};

/// How long a raw connection waits for an answer.
const PATIENCE: Duration = Duration::from_secs(15);

/// The part of a kubeconfig that is base64 of PEM.
fn pem(kubeconfig: &Path, part: &str) -> Vec<u8> {
    let text = std::fs::read_to_string(kubeconfig).unwrap();
    let line = text.lines().find_map(|line| line.trim().strip_prefix(&format!("{part}:")).map(str::trim));
    STANDARD.decode(line.unwrap()).unwrap()
}

/// A client with the administrator's certificate.
pub async fn client(cluster: &Cluster) -> Client {
    let file = Kubeconfig::read_from(cluster.kubeconfig()).unwrap();
    let config = Config::from_custom_kubeconfig(file, &Default::default()).await.unwrap();
    Client::try_from(config).unwrap()
}

/// Sends a request; the code and the body, or why there is no answer.
pub async fn send(client: &Client, request: Request<Vec<u8>>) -> Result<(u16, String), String> {
    let answer: Response<Body> = client.send(request.map(Body::from)).await.map_err(|e| format!("{e:?}"))?;
    let code = answer.status().as_u16();
    let body = answer.into_body().collect().await.map_err(|e| format!("{e:?}"))?.to_bytes();
    Ok((code, String::from_utf8_lossy(&body).into_owned()))
}

/// A TLS connection with the administrator's certificate, for bytes that no client library would send.
pub struct Raw(StreamOwned<ClientConnection, TcpStream>);

impl Raw {
    /// Connects to the API on this port of loopback, and speaks this protocol (`http/1.1` or `h2`).
    pub fn connect(kubeconfig: &Path, port: u16, protocol: &str) -> Self {
        let certificates =
            |part| CertificateDer::pem_slice_iter(&pem(kubeconfig, part)).map(Result::unwrap).collect::<Vec<_>>();
        let mut roots = RootCertStore::empty();
        for authority in certificates("certificate-authority-data") {
            roots.add(authority).unwrap();
        }
        let chain = certificates("client-certificate-data");
        let key = PrivateKeyDer::from_pem_slice(&pem(kubeconfig, "client-key-data")).unwrap();
        let mut tls = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)
            .unwrap();
        tls.alpn_protocols = vec![protocol.as_bytes().to_vec()];
        let name = ServerName::try_from("localhost").unwrap();
        let session = ClientConnection::new(Arc::new(tls), name).unwrap();
        let socket = TcpStream::connect(("127.0.0.1", port)).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self(StreamOwned::new(session, socket))
    }

    /// Sends bytes and reads nothing.
    pub fn say(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).unwrap();
        self.0.flush().unwrap();
    }

    /// Sends bytes and gives all that comes until the server ends the connection, or the patience ends.
    pub fn exchange(mut self, bytes: &[u8]) -> String {
        // A server may answer and close before it has read everything: that is an answer too.
        drop(self.0.write_all(bytes));
        drop(self.0.flush());
        let mut all = Vec::new();
        drop(self.0.read_to_end(&mut all));
        String::from_utf8_lossy(&all).into_owned()
    }
}
