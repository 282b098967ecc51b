//! How a client reaches a cluster, and the kubeconfig that says so.

use anyhow::{Context as _, bail};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_yaml::{Mapping, Value};
use std::{fs, io::Write as _, os::unix::fs::OpenOptionsExt as _, path::Path};

/// A server and the credentials for it.
#[derive(Clone, PartialEq, Eq)]
pub struct Access {
    /// The name of cluster, user and context.
    pub name: String,
    /// The API server's URL.
    pub server: String,
    /// The CA's certificate, PEM.
    pub ca_pem: String,
    /// The client's certificate, PEM.
    pub cert_pem: String,
    /// The client's key, PEM.
    pub key_pem: String,
}

impl std::fmt::Debug for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Access").field("name", &self.name).field("server", &self.server).finish_non_exhaustive()
    }
}

impl Access {
    /// The entry of `clusters` in a kubeconfig.
    pub fn cluster(&self) -> Value {
        map(vec![("certificate-authority-data", base64(&self.ca_pem)), ("server", self.server.as_str().into())])
    }

    /// The entry of `users` in a kubeconfig.
    pub fn user(&self) -> Value {
        map(vec![("client-certificate-data", base64(&self.cert_pem)), ("client-key-data", base64(&self.key_pem))])
    }

    /// The entry of `contexts` in a kubeconfig.
    pub fn context(&self) -> Value {
        map(vec![("cluster", self.name.as_str().into()), ("user", self.name.as_str().into())])
    }

    /// A kubeconfig with this cluster alone.
    pub fn kubeconfig(&self) -> String {
        let named = |field: &str, content: Value| {
            Value::Sequence(vec![map(vec![(field, content), ("name", self.name.as_str().into())])])
        };
        let root = map(vec![
            ("apiVersion", "v1".into()),
            ("kind", "Config".into()),
            ("clusters", named("cluster", self.cluster())),
            ("users", named("user", self.user())),
            ("contexts", named("context", self.context())),
            ("current-context", self.name.as_str().into()),
        ]);
        serde_yaml::to_string(&root).expect("a kubeconfig is plain YAML")
    }

    /// Writes the kubeconfig into a file for this user alone.
    pub fn save(&self, path: &Path) -> anyhow::Result<()> {
        let write = || -> std::io::Result<()> {
            let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
            file.write_all(self.kubeconfig().as_bytes())
        };
        write().with_context(|| format!("cannot write {}", path.display()))
    }

    /// Reads what [`Access::save`] wrote.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let root: Value = serde_yaml::from_str(&text).with_context(|| format!("{} is damaged", path.display()))?;
        let field = |list: &str, entry: &str, field: &str| root[list][0][entry][field].as_str().map(str::to_owned);
        let pem = |list, entry, name| {
            let bytes = BASE64_STANDARD.decode(field(list, entry, name)?).ok()?;
            String::from_utf8(bytes).ok()
        };
        let access = || {
            Some(Self {
                name: root["current-context"].as_str()?.to_owned(),
                server: field("clusters", "cluster", "server")?,
                ca_pem: pem("clusters", "cluster", "certificate-authority-data")?,
                cert_pem: pem("users", "user", "client-certificate-data")?,
                key_pem: pem("users", "user", "client-key-data")?,
            })
        };
        match access() {
            Some(access) => Ok(access),
            None => bail!("{} is damaged: `skiff up` writes it again", path.display()),
        }
    }
}

fn map(pairs: Vec<(&str, Value)>) -> Value {
    Value::Mapping(pairs.into_iter().map(|(k, v)| (k.into(), v)).collect::<Mapping>())
}

fn base64(pem: &str) -> Value {
    Value::from(BASE64_STANDARD.encode(pem))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_saved_reads_back() {
        let pem = |name: &str| format!("-----BEGIN {name}-----\n");
        let access = Access {
            name: "skiff".into(),
            server: "https://127.0.0.1:6443".into(),
            ca_pem: pem("CA"),
            cert_pem: pem("CERT"),
            key_pem: pem("KEY"),
        };
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kubeconfig");
        access.save(&path).unwrap();
        assert_eq!(Access::read(&path).unwrap(), access);
        fs::write(&path, "clusters: []\n").unwrap();
        assert!(Access::read(&path).is_err());
    }
}
