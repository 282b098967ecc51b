//! A kubeconfig, as far as skiff writes one: the current context's server and credentials, all of them in the file itself. And what a
//! pod is given in its place.

use crate::api::schema::{document::SyntaxError, read};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// What is wrong with a kubeconfig.
#[derive(Debug, thiserror::Error)]
pub enum KubeconfigError {
    /// No YAML.
    #[error("the kubeconfig is not YAML")]
    Syntax(#[source] SyntaxError),
    /// A part is not there.
    #[error("the kubeconfig has no {0}")]
    Missing(String),
    /// A part cannot be used.
    #[error("the kubeconfig's {part} cannot be used")]
    Bad {
        /// Which.
        part: &'static str,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl KubeconfigError {
    pub(super) fn bad(part: &'static str, why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Bad { part, source: why.into() }
    }
}

/// Where a server is and who asks it.
#[derive(Clone, PartialEq, Eq)]
pub struct Kubeconfig {
    /// The server's URL.
    pub server: String,
    /// The certificates that may have signed the server's, PEM. Needed for https.
    pub ca_pem: Option<Vec<u8>>,
    /// The client's certificate and key, PEM.
    pub identity_pem: Option<(Vec<u8>, Vec<u8>)>,
    /// The file with the client's token. It is read for each request: tokens are replaced before they end.
    pub token_file: Option<PathBuf>,
}

impl std::fmt::Debug for Kubeconfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kubeconfig").field("server", &self.server).finish_non_exhaustive()
    }
}

impl Kubeconfig {
    /// Reads the current context.
    pub fn parse(text: &str) -> Result<Self, KubeconfigError> {
        let documents = read::parse_yaml_documents(text.as_bytes()).map_err(KubeconfigError::Syntax)?;
        let root = documents.into_iter().next().map(|document| document.value).unwrap_or_default();
        let current = text_of(&root, "current-context")?;
        let context = entry(&root, "contexts", "context", current)?;
        let cluster = entry(&root, "clusters", "cluster", text_of(context, "cluster")?)?;
        let user = entry(&root, "users", "user", text_of(context, "user")?)?;
        let certificate = data(user, "client-certificate-data")?;
        let key = data(user, "client-key-data")?;
        Ok(Self {
            server: text_of(cluster, "server")?.to_owned(),
            ca_pem: data(cluster, "certificate-authority-data")?,
            identity_pem: certificate.zip(key),
            token_file: None,
        })
    }

    /// What the service account of the pod gives, in which this program runs. Source: `InClusterConfig`, `k8s.io/client-go/rest`.
    ///
    /// # Errors
    /// It runs in no pod, or in one without a token.
    pub fn in_pod(env: impl Fn(&str) -> Option<String>) -> Result<Self, KubeconfigError> {
        const FOLDER: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
        let variable =
            |name: &str| env(name).ok_or_else(|| KubeconfigError::Missing(format!("${name}: is this a pod?")));
        let (host, port) = (variable("KUBERNETES_SERVICE_HOST")?, variable("KUBERNETES_SERVICE_PORT")?);
        let folder = Path::new(FOLDER);
        let ca = std::fs::read(folder.join("ca.crt")).map_err(|err| KubeconfigError::bad("ca.crt", err))?;
        Ok(Self {
            server: format!("https://{host}:{port}"),
            ca_pem: Some(ca),
            identity_pem: None,
            token_file: Some(folder.join("token")),
        })
    }
}

/// What is called `name` in one of the lists.
fn entry<'a>(root: &'a Value, list: &str, field: &str, name: &str) -> Result<&'a Value, KubeconfigError> {
    let mut entries = root[list].as_array().into_iter().flatten();
    let named = entries.find(|entry| entry["name"] == name);
    let missing = || KubeconfigError::Missing(format!("{name:?} in {list}"));
    named.and_then(|entry| entry.get(field)).ok_or_else(missing)
}

fn text_of<'a>(value: &'a Value, field: &str) -> Result<&'a str, KubeconfigError> {
    value[field].as_str().ok_or_else(|| KubeconfigError::Missing(field.to_owned()))
}

fn data(value: &Value, field: &'static str) -> Result<Option<Vec<u8>>, KubeconfigError> {
    let text = value[field].as_str();
    let bytes = text.map(|text| BASE64_STANDARD.decode(text)).transpose();
    bytes.map_err(|err| KubeconfigError::bad(field, err))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "
apiVersion: v1
kind: Config
current-context: b
contexts:
- {name: a, context: {cluster: ca, user: ua}}
- {name: b, context: {cluster: cb, user: ub}}
clusters:
- {name: ca, cluster: {server: 'https://a:1'}}
- {name: cb, cluster: {server: 'https://b:2', certificate-authority-data: Q0E=}}
users:
- {name: ub, user: {client-certificate-data: Q0VSVA==, client-key-data: S0VZ}}
";

    #[test]
    fn the_current_context_counts() {
        let found = Kubeconfig::parse(FILE).unwrap();
        let identity_pem = Some((b"CERT".to_vec(), b"KEY".to_vec()));
        assert_eq!(
            found,
            Kubeconfig { server: "https://b:2".into(), ca_pem: Some(b"CA".to_vec()), identity_pem, token_file: None }
        );
    }

    #[test]
    fn outside_of_a_pod_there_is_no_access_of_a_pod() {
        let said = Kubeconfig::in_pod(|_| None).unwrap_err().to_string();
        assert_eq!(said, "the kubeconfig has no $KUBERNETES_SERVICE_HOST: is this a pod?");
    }

    #[test]
    fn what_is_missing_or_bad_is_named() {
        let said = |text: &str| crate::base::chain::chain(&Kubeconfig::parse(text).unwrap_err());
        assert_eq!(said("{}"), "the kubeconfig has no current-context");
        assert_eq!(said(&FILE.replace("context: b\n", "context: a\n")), "the kubeconfig has no \"ua\" in users");
        assert_eq!(said(&FILE.replace("server: 'https://b:2', ", "")), "the kubeconfig has no server");
        let bad = said(&FILE.replace("Q0E=", "'?'"));
        assert!(bad.starts_with("the kubeconfig's certificate-authority-data cannot be used: "), "{bad}");
        assert!(said("{").starts_with("the kubeconfig is not YAML: "));
    }
}
