//! How the API is reached: a kubeconfig in a file, read again when it changes, so that a renewed certificate or another address needs
//! no new data plane.
//!
//! **Invariants**: the private key is in that file alone, never in the environment. A file that cannot be read changes nothing.

use crate::{
    base::chain::chain,
    client::{Client, Kubeconfig},
};
use anyhow::Context as _;
use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::{sync::watch, time::sleep};
use tracing::{info, warn};

/// How often the file is looked at.
const LOOK: Duration = Duration::from_secs(2);

/// The API as it is reached now.
#[derive(Clone)]
pub(super) struct Access {
    pub(super) client: Client,
    /// Where it answers, for the Service `default/kubernetes`.
    pub(super) server: SocketAddr,
    /// The certificate of the cluster's authority, PEM; empty without TLS.
    pub(super) cluster_ca: String,
}

/// The access as it is now; changes with the file.
pub(super) type AccessNow = watch::Receiver<Access>;

impl Access {
    async fn of(kubeconfig: &str) -> anyhow::Result<Self> {
        let kubeconfig = Kubeconfig::parse(kubeconfig)?;
        let client = Client::new(&kubeconfig)?;
        let address = client.server_address().await;
        let server = address.with_context(|| format!("cannot find the API server {}", kubeconfig.server))?;
        let cluster_ca = kubeconfig.ca_pem.as_deref().map(String::from_utf8_lossy).unwrap_or_default().into_owned();
        Ok(Self { client, server, cluster_ca })
    }
}

/// Reads the file now, and follows it from then on for as long as somebody wants to know.
pub(super) async fn open(path: PathBuf) -> anyhow::Result<(AccessNow, impl Future<Output = ()> + Send)> {
    let (text, access) = read(&path).await?;
    let (sender, now) = watch::channel(access);
    Ok((now, follow(path, text, sender)))
}

async fn read(path: &Path) -> anyhow::Result<(String, Access)> {
    let named = || format!("cannot use the kubeconfig {}", path.display());
    let text = std::fs::read_to_string(path).with_context(named)?;
    let access = Access::of(&text).await.with_context(named)?;
    Ok((text, access))
}

async fn follow(path: PathBuf, mut known: String, sender: watch::Sender<Access>) {
    let mut told = false;
    while !sender.is_closed() {
        sleep(LOOK).await;
        if std::fs::read_to_string(&path).is_ok_and(|text| text == known) {
            continue;
        }
        match read(&path).await {
            Ok((text, access)) => {
                info!(component = "proxy", server = %access.server, "the access to the API has changed");
                sender.send_replace(access);
                (known, told) = (text, false);
            }
            Err(err) if !std::mem::replace(&mut told, true) => {
                warn!(component = "proxy", err = chain(&*err), "going on with the last access to the API");
            }
            Err(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kubeconfig(server: &str) -> String {
        format!(
            "{{apiVersion: v1, kind: Config, current-context: c, clusters: [{{name: c, cluster: {{server: '{server}'}}}}], \
             users: [{{name: u, user: {{}}}}], contexts: [{{name: c, context: {{cluster: c, user: u}}}}]}}"
        )
    }

    #[tokio::test(start_paused = true)]
    async fn a_changed_file_is_another_access_and_a_bad_one_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kubeconfig");
        std::fs::write(&path, kubeconfig("http://127.0.0.1:6443")).unwrap();
        let (mut now, follow) = open(path.clone()).await.unwrap();
        crate::base::task::spawn("follow", follow);
        assert_eq!(now.borrow_and_update().server.port(), 6443);
        std::fs::write(&path, "{").unwrap();
        sleep(LOOK * 2).await;
        assert!(!now.has_changed().unwrap());
        std::fs::write(&path, kubeconfig("http://127.0.0.1:7443")).unwrap();
        now.changed().await.unwrap();
        assert_eq!(now.borrow().server.port(), 7443);
    }

    #[tokio::test]
    async fn a_file_that_cannot_be_used_is_named() {
        let err = open("/no/such/kubeconfig".into()).await.err().unwrap();
        assert_eq!(err.to_string(), "cannot use the kubeconfig /no/such/kubeconfig");
    }
}
