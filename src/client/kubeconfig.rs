//! A kubeconfig, as far as skiff writes one: the current context's server and credentials, all of them in the file itself. And what a
//! pod is given in its place.

use crate::{
    api::schema::{document::SyntaxError, read},
    base::secret::Secret,
};
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
    /// It asks for what skiff does not do.
    #[error(
        "the context {context:?} has {field}, which skiff does not serve: make a context with a token or a certificate (`kubectl config set-credentials`)"
    )]
    Unserved {
        /// The context.
        context: String,
        /// The field.
        field: &'static str,
    },
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
    /// The client's token.
    pub token: Option<Secret<String>>,
    /// The file with the client's token. It is read for each request: tokens are replaced before they end.
    pub token_file: Option<PathBuf>,
}

impl std::fmt::Debug for Kubeconfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kubeconfig").field("server", &self.server).finish_non_exhaustive()
    }
}

impl Kubeconfig {
    /// Reads the current context, all of which is in the text.
    pub fn parse(text: &str) -> Result<Self, KubeconfigError> {
        let root = root(text)?;
        let current = text_of(&root, "current-context")?;
        Self::of(&root, current, &|_| Err(std::io::ErrorKind::Unsupported.into()))
    }

    /// Reads this context of a user's own kubeconfig; `read` gives the files that it names.
    ///
    /// # Errors
    /// It is not there, or asks for what skiff does not do: it is said what.
    pub fn of_context(
        text: &str,
        context: &str,
        read: &dyn Fn(&Path) -> std::io::Result<Vec<u8>>,
    ) -> Result<Self, KubeconfigError> {
        Self::of(&root(text)?, context, read)
    }

    fn of(root: &Value, name: &str, read: &dyn Fn(&Path) -> std::io::Result<Vec<u8>>) -> Result<Self, KubeconfigError> {
        let context = entry(root, "contexts", "context", name)?;
        let cluster = entry(root, "clusters", "cluster", text_of(context, "cluster")?)?;
        let user = entry(root, "users", "user", text_of(context, "user")?)?;
        for (place, field) in [
            (cluster, "insecure-skip-tls-verify"),
            (cluster, "proxy-url"),
            (user, "exec"),
            (user, "auth-provider"),
            (user, "username"),
        ] {
            if !matches!(&place[field], Value::Null | Value::Bool(false)) {
                return Err(KubeconfigError::Unserved { context: name.to_owned(), field });
            }
        }
        let certificate = data_or_file(user, "client-certificate-data", "client-certificate", read)?;
        let key = data_or_file(user, "client-key-data", "client-key", read)?;
        Ok(Self {
            server: text_of(cluster, "server")?.to_owned(),
            ca_pem: data_or_file(cluster, "certificate-authority-data", "certificate-authority", read)?,
            identity_pem: certificate.zip(key),
            token: user["token"].as_str().map(|token| Secret::new(token.to_owned())),
            token_file: user["tokenFile"].as_str().map(PathBuf::from),
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
            token: None,
            token_file: Some(folder.join("token")),
        })
    }
}

fn root(text: &str) -> Result<Value, KubeconfigError> {
    let documents = read::parse_yaml_documents(text.as_bytes()).map_err(KubeconfigError::Syntax)?;
    Ok(documents.into_iter().next().map(|document| document.value).unwrap_or_default())
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

/// What is in the text, or in the file that is named in its place.
fn data_or_file(
    value: &Value,
    field: &'static str,
    file: &'static str,
    read: &dyn Fn(&Path) -> std::io::Result<Vec<u8>>,
) -> Result<Option<Vec<u8>>, KubeconfigError> {
    match (data(value, field)?, value[file].as_str()) {
        (None, Some(path)) => read(Path::new(path)).map(Some).map_err(|err| KubeconfigError::bad(file, err)),
        (found, _) => Ok(found),
    }
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
            Kubeconfig {
                server: "https://b:2".into(),
                ca_pem: Some(b"CA".to_vec()),
                identity_pem,
                token: None,
                token_file: None
            }
        );
    }

    #[test]
    fn a_context_of_a_users_own_may_name_files_and_a_token() {
        let file = FILE.replace(
            "{name: ub, user: {client-certificate-data: Q0VSVA==, client-key-data: S0VZ}}",
            "{name: ub, user: {client-certificate: /c, client-key: /k, token: t}}",
        );
        let read = |path: &Path| Ok(path.display().to_string().into_bytes());
        let found = Kubeconfig::of_context(&file, "b", &read).unwrap();
        assert_eq!(found.identity_pem, Some((b"/c".to_vec(), b"/k".to_vec())));
        assert_eq!(found.token.as_ref().map(|token| token.reveal().as_str()), Some("t"));
        let said = |text: &str| Kubeconfig::of_context(text, "b", &read).unwrap_err().to_string();
        let exec = said(&file.replace("token: t", "exec: {command: aws}"));
        assert!(exec.starts_with("the context \"b\" has exec, which skiff does not serve"), "{exec}");
        assert_eq!(said(&file.replace("name: b,", "name: c,")), "the kubeconfig has no \"b\" in contexts");
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
