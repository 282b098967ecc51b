//! The dashboard's door: where it is, and for whom.

use super::{Config, DashboardConfig};
use crate::{
    base::task::Drain,
    identity::roles,
    registry::Registry,
    server::{
        self, ServerState,
        dashboard::{ADMIN_ROLE, Dashboard, Settings, user},
        tls::Pki,
    },
};
use anyhow::{Context as _, bail};
use futures::{FutureExt as _, future::BoxFuture};
use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};
use tokio::net::TcpListener;

/// Takes the dashboard's port, and gives its user the role.
///
/// # Errors
/// The address that the user chose is taken or cannot be used.
pub(super) async fn open(
    config: &Config,
    wish: &DashboardConfig,
    (registry, pki): (&Registry, &Pki),
    api: SocketAddr,
) -> anyhow::Result<(Arc<TcpListener>, Dashboard)> {
    let listener = bind(wish.address, api).await?;
    let settings = Settings {
        cluster: config.name.clone(),
        address: super::ground::client_address(listener.local_addr().context("cannot read the dashboard's port")?),
        names: wish.names.clone(),
        role: wish.role.clone(),
        server_url: format!("https://{}", super::ground::client_address(api)),
    };
    if wish.role != ADMIN_ROLE {
        roles::bind_user(registry, &wish.role, &user(&wish.role).name).await?;
    }
    Ok((Arc::new(listener), Dashboard::new(settings, &pki.token_key(), registry.clock().clone())))
}

/// The address that the user chose; or else the port after the API's, and any other where that one is taken: another cluster may be
/// there.
async fn bind(wish: Option<SocketAddr>, api: SocketAddr) -> anyhow::Result<TcpListener> {
    let (address, has_choice) = match wish {
        Some(address) => (address, false),
        None => (SocketAddr::new(Ipv4Addr::LOCALHOST.into(), api.port().checked_add(1).unwrap_or(0)), true),
    };
    match TcpListener::bind(address).await {
        Ok(listener) => Ok(listener),
        Err(err) if has_choice && err.kind() == io::ErrorKind::AddrInUse => TcpListener::bind((address.ip(), 0))
            .await
            .context("no port is left for the dashboard: --dashboard-address none"),
        Err(err) if err.kind() == io::ErrorKind::AddrInUse => {
            bail!("{address} is taken by another program: end it, or choose another place with --dashboard-address")
        }
        Err(err) => {
            Err(err).with_context(|| format!("cannot listen on {address}: choose another with --dashboard-address"))
        }
    }
}

/// What a user should know whose dashboard others can reach.
pub(super) fn exposed(wish: &DashboardConfig) -> Option<String> {
    let address = wish.address.filter(|address| !address.ip().is_loopback())?;
    let what = "whoever listens on that network sees what you see, and your session";
    Some(format!("the dashboard is served on {address} without TLS: {what}"))
}

/// What serves it.
pub(super) fn serving(
    listener: Arc<TcpListener>,
    dashboard: &Dashboard,
    state: &ServerState,
    drain: &Drain,
) -> impl FnMut() -> BoxFuture<'static, ()> + Send + use<> {
    let (dashboard, state, drain) = (dashboard.clone(), state.clone(), drain.clone());
    move || {
        let (listener, dashboard) = (Arc::clone(&listener), dashboard.clone());
        server::serve::serve_dashboard(listener, dashboard, state.clone(), drain.clone()).boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_dashboard_is_beside_the_api_and_gives_way_only_where_nobody_chose() {
        let taken = crate::testing::ports::free_address();
        let api = SocketAddr::new(taken.ip(), taken.port() - 1);
        let beside = bind(None, api).await.unwrap();
        assert_eq!(beside.local_addr().unwrap(), taken);
        let other = bind(None, api).await.unwrap().local_addr().unwrap();
        assert!(other.ip().is_loopback() && other.port() != taken.port());
        let why = bind(Some(taken), api).await.unwrap_err().to_string();
        assert!(why.ends_with("choose another place with --dashboard-address"), "{why}");
    }
}
