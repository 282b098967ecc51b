//! Everything that the data plane counts, together.

use crate::net::{
    dns::DnsBounds,
    proxy::{Proxy, Report},
    router::Router,
};
use std::sync::Arc;

/// Who counts. Clones read the same.
#[derive(Clone, Debug)]
pub(super) struct Counted {
    pub(super) proxy: Arc<Proxy>,
    pub(super) router: Arc<Router>,
    /// What the bounds of the name server did, if there is one.
    pub(super) names: Option<Arc<DnsBounds>>,
}

impl Counted {
    /// Takes stock.
    pub(super) fn report(&self) -> Report {
        let of_names = |count: fn(&DnsBounds) -> u64| self.names.as_deref().map_or(0, count);
        Report {
            router: self.router.report(),
            dns_clients_turned_away: of_names(DnsBounds::clients_turned_away),
            dns_questions_refused: of_names(DnsBounds::questions_refused),
            ..self.proxy.report()
        }
    }
}
