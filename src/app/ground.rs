//! What a control plane stands on: its folder, store, port, network and keys, and the objects that every cluster has.

use super::{
    Config, Made,
    access::Access,
    bootstrap,
    cidr::{self, Plan},
    data_dir::DataDir,
    host, is_of_openshift, nodes,
    owner::{self, FOLDER_LABEL, Verdict},
};
use crate::{
    api::{kinds::pod::Pods, meta::Revision},
    base::{clock::Clock, log_file, ordered::Set, rng::Rng},
    controllers::cluster_objects::{self, ApiPlace},
    engine::{Engine, EngineInfo, Network},
    identity,
    registry::Registry,
    server::tls::{self, Credential, Pki},
    store::{Store, disk::DiskBackend},
};
use anyhow::{Context as _, bail};
use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
};
use tokio::net::TcpListener;
use tracing::warn;

/// What a control plane stands on.
pub(super) struct Ground {
    pub(super) dir: DataDir,
    pub(super) store: Store,
    pub(super) listener: Arc<TcpListener>,
    pub(super) api_address: SocketAddr,
    pub(super) plan: Plan,
    pub(super) pki: Arc<Pki>,
    pub(super) clock: Clock,
    /// What a user should know about it.
    pub(super) notes: Vec<String>,
}

impl Ground {
    /// Takes and makes it.
    ///
    /// # Errors
    /// The folder, the port or the network cannot be had, the store cannot be read, or the keys cannot be made.
    pub(super) async fn lay(
        config: &Config,
        engine: (&Arc<dyn Engine>, &EngineInfo),
        made: &mut Made,
    ) -> anyhow::Result<Self> {
        let clock = Clock::system();
        let held = made.folder(DataDir::take(&config.data_dir, &config.name).await?);
        let dir = held.dir().clone();
        if let Err(err) = log_file::keep_in(&dir.log()) {
            warn!(component = "app", %err, "the log cannot be kept in {}", dir.log().display());
        }
        let store = Store::open(DiskBackend::open(dir.store())?, true).map_err(anyhow::Error::msg)?;
        let listener = bind(config.api_address).await?;
        let (network, notes) = network(config, engine, &store, made).await?;
        let plan = Plan::of(&network)?;
        let pki = Arc::new(tls::load_or_create(&dir.pki(), &certificate_names(config, &plan), &clock)?);
        let api_address = listener.local_addr().context("cannot read the API's port")?;
        Ok(Self { dir, store, listener: Arc::new(listener), api_address, plan, pki, clock, notes })
    }

    /// The registry over the store, once it has what every cluster has.
    ///
    /// # Errors
    /// The store or the engine refuses.
    pub(super) async fn registry(&mut self, config: &Config, engine: &dyn Engine) -> anyhow::Result<Registry> {
        let rules = self.plan.registry_config(config.node_ports);
        let registry = Registry::new(self.store.clone(), self.clock.clone(), Rng::from_system(), rules);
        if !config.serves_openshift {
            registry.hide_kinds(is_of_openshift);
        }
        if config.adopt {
            owner::remove_unknown(engine, &pod_uids(&registry)).await?;
        }
        self.notes.extend(bootstrap::move_services(&registry, &self.plan).await?);
        let gone = nodes::remove_beyond(&registry, &config.name, config.nodes).await?;
        if !gone.is_empty() {
            let gone = gone.join(", ");
            self.notes.push(format!("nodes that are shown no more: {gone}; their pods end and are made elsewhere"));
        }
        cluster_objects::bring_about(&registry, self.api_place()).await?;
        identity::roles::reconcile(&registry).await?;
        Ok(registry)
    }

    /// Where pods find the API.
    pub(super) fn api_place(&self) -> ApiPlace {
        let plan = &self.plan;
        ApiPlace { service_ip: plan.api_service_ip(), node_ip: plan.node_ip, port: self.api_address.port() }
    }

    /// The way in with a credential, for clients on this machine.
    pub(super) fn access(&self, config: &Config, credential: &Credential) -> Access {
        Access {
            name: config.name.clone(),
            server: format!("https://{}", client_address(self.api_address)),
            ca_pem: self.pki.ca_pem().to_owned(),
            cert_pem: credential.cert_pem.clone(),
            key_pem: credential.key_pem.clone(),
        }
    }

    /// The API on the node's own address, so that pods reach it too. Where the bridge is not on this host, pods do without.
    pub(super) async fn listen_for_pods(&self) -> Option<TcpListener> {
        if self.api_address.ip().is_unspecified() {
            return None;
        }
        let address = SocketAddr::new(self.plan.node_ip.into(), self.api_address.port());
        match TcpListener::bind(address).await {
            Ok(listener) => Some(listener),
            Err(err) => {
                warn!(component = "app", %address, %err, "pods cannot reach the API: its address for them cannot be used");
                None
            }
        }
    }
}

/// The cluster's network, once it is known that the cluster is this state's; and what a user should know about that.
async fn network(
    config: &Config,
    (engine, engine_info): (&Arc<dyn Engine>, &EngineInfo),
    store: &Store,
    made: &mut Made,
) -> anyhow::Result<(Network, Vec<String>)> {
    let held = made.held();
    let folder = std::path::absolute(held.dir().path()).unwrap_or_else(|_| held.dir().path().to_owned());
    let folder = folder.display().to_string();
    let seen = owner::look(&**engine, &config.name, &folder).await?;
    let is_empty = store.revision() == Revision::default();
    let state = owner::State { id: &held.mark.state, is_empty, adopts: config.adopt };
    let mut notes = match owner::decide(&config.name, &seen, state)? {
        Verdict::Ours => Vec::new(),
        Verdict::Noted(note) => vec![note],
        Verdict::Adopted { id, note } => {
            held.become_state(&id)?;
            vec![note]
        }
    };
    let labels =
        BTreeMap::from([(owner::STATE_LABEL.to_owned(), held.mark.state.clone()), (FOLDER_LABEL.to_owned(), folder)]);
    let former = held.mark.range.as_ref().and_then(|range| range.parse().ok());
    if seen.network.is_none() {
        made.network(cidr::network_name(&config.name), is_empty && seen.n_containers == 0);
    }
    let used = host::used(&engine_info.address_pools).await;
    let wish = cidr::Wish { wanted: config.cluster_cidr, former };
    let network = cidr::ensure_network(&**engine, &config.name, seen.network, wish, labels, &used).await?;
    made.held().remember_range(&network.subnet)?;
    notes.extend(cidr::hides(&config.name, &network, &used)?);
    Ok((network, notes))
}

/// The pods that the state knows.
fn pod_uids(registry: &Registry) -> Set<String> {
    registry.api::<Pods>().list("").items.iter().filter_map(|pod| pod.metadata.uid.clone()).collect()
}

/// Takes the API's port.
async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    match TcpListener::bind(address).await {
        Ok(listener) => Ok(listener),
        Err(err) if err.kind() == io::ErrorKind::AddrInUse => {
            bail!("{address} is taken by another program: end it, or choose another port with --api-address")
        }
        Err(err) => Err(err).with_context(|| format!("cannot listen on {address}: choose another with --api-address")),
    }
}

/// The address that clients on this machine use.
pub(super) fn client_address(api: SocketAddr) -> SocketAddr {
    match api.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => SocketAddr::new(Ipv4Addr::LOCALHOST.into(), api.port()),
        _ => api,
    }
}

fn certificate_names(config: &Config, plan: &Plan) -> Vec<String> {
    let own = [plan.api_service_ip().to_string(), plan.node_ip.to_string(), config.api_address.ip().to_string()];
    own.into_iter().chain(config.api_names.iter().cloned()).collect()
}
