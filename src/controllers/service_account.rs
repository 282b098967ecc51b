//! What every active namespace gets: the service account `default`, and the ConfigMap by which pods check the API server.
//!
//! **Source**: `pkg/controller/serviceaccount/serviceaccounts_controller.go`,
//! `pkg/controller/certificates/rootcacertpublisher/publisher.go`, v1.37.

use super::runtime::{Action, Controller, Decision, Planned, Step, Trigger};
use crate::{
    api::{
        agreements::ROOT_CA_MAP,
        kind::Kind,
        kinds::{config_map::ConfigMaps, namespace::Namespaces, service_account::ServiceAccounts},
        meta::ObjectKey,
        object::Object as _,
    },
    registry::Registry,
};
use k8s_openapi::{
    api::core::v1::{ConfigMap, ServiceAccount},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use std::{collections::BTreeMap, sync::Arc};

const ACCOUNT: &str = "default";
const DESCRIPTION: &str = "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints \
     such as the internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of \
     Kubernetes clusters.";

/// All that a pass over a namespace depends on.
#[derive(Clone, Debug)]
pub struct Observed {
    /// The namespace's name.
    pub namespace: String,
    /// Whether it has the account.
    pub has_account: bool,
    /// Its certificate map.
    pub root_ca: Option<Arc<ConfigMap>>,
}

/// The controller.
#[derive(Clone, Debug)]
pub struct NamespaceDefaults {
    /// The certificate, PEM.
    pub root_ca: String,
}

impl Controller for NamespaceDefaults {
    /// A namespace's name.
    type Key = String;
    type Observed = Observed;

    fn name(&self) -> &'static str {
        "serviceaccount"
    }

    fn triggers(&self) -> Vec<Trigger<String>> {
        vec![
            Trigger::on::<Namespaces>(|_, moved, keys| {
                keys.extend(moved.after.as_ref().and_then(|n| n.metadata.name.clone()));
            }),
            named::<ServiceAccounts>(ACCOUNT),
            named::<ConfigMaps>(ROOT_CA_MAP),
        ]
    }

    fn observe(&self, registry: &Registry, namespace: &String) -> Option<Observed> {
        let found = registry.api::<Namespaces>().get(&ObjectKey::new("", namespace))?;
        if found.metadata.deletion_timestamp.is_some() {
            return None;
        }
        Some(Observed {
            namespace: namespace.clone(),
            has_account: registry.api::<ServiceAccounts>().get(&ObjectKey::new(namespace, ACCOUNT)).is_some(),
            root_ca: registry.api::<ConfigMaps>().get(&ObjectKey::new(namespace, ROOT_CA_MAP)),
        })
    }

    fn decide(&self, observed: &Observed) -> Decision {
        let mut wanted: Vec<Planned> = Vec::new();
        if !observed.has_account {
            let account = ServiceAccount { metadata: meta(&observed.namespace, ACCOUNT), ..ServiceAccount::default() };
            wanted.push(Action::create::<ServiceAccounts>(account).because("the namespace has no default account"));
        }
        wanted.extend(self.publish(observed));
        let steps = if wanted.is_empty() { Vec::new() } else { vec![Step::Parallel(wanted)] };
        Decision { steps, ..Decision::default() }
    }
}

impl NamespaceDefaults {
    fn publish(&self, observed: &Observed) -> Option<Planned> {
        let data = BTreeMap::from([("ca.crt".to_owned(), self.root_ca.clone())]);
        let Some(found) = &observed.root_ca else {
            let mut metadata = meta(&observed.namespace, ROOT_CA_MAP);
            metadata.annotations = Some([("kubernetes.io/description".to_owned(), DESCRIPTION.to_owned())].into());
            let map = ConfigMap { metadata, data: Some(data), ..ConfigMap::default() };
            return Some(Action::create::<ConfigMaps>(map).because("the namespace has no certificate"));
        };
        if found.data.as_ref() == Some(&data) {
            return None;
        }
        let map = ConfigMap { data: Some(data), ..ConfigMap::clone(found) };
        Some(Action::update::<ConfigMaps>(map).because("the namespace has another certificate"))
    }
}

fn meta(namespace: &str, name: &str) -> ObjectMeta {
    ObjectMeta { namespace: Some(namespace.to_owned()), name: Some(name.to_owned()), ..ObjectMeta::default() }
}

/// Changes of objects of this name wake their namespaces.
fn named<K: Kind>(name: &'static str) -> Trigger<String> {
    Trigger::on::<K>(move |_, moved, keys| {
        let changed = moved.last().map(|o| o.meta()).filter(|m| m.name.as_deref() == Some(name));
        keys.extend(changed.and_then(|m| m.namespace.clone()));
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    fn observed(has_account: bool, certificate: Option<&str>) -> Observed {
        let map = |text: &str| ConfigMap {
            metadata: meta("ns", ROOT_CA_MAP),
            data: Some([("ca.crt".to_owned(), text.to_owned())].into()),
            ..ConfigMap::default()
        };
        Observed { namespace: "ns".into(), has_account, root_ca: certificate.map(|c| Arc::new(map(c))) }
    }

    #[test]
    fn what_is_missing_or_wrong_is_written() {
        let controller = NamespaceDefaults { root_ca: "PEM".into() };
        let text = |o: &Observed| controller.decide(o).to_text();
        expect![[r"
            create ServiceAccount ns/default (the namespace has no default account)
            create ConfigMap ns/kube-root-ca.crt (the namespace has no certificate)"]]
        .assert_eq(&text(&observed(false, None)));
        expect!["update ConfigMap ns/kube-root-ca.crt (the namespace has another certificate)"]
            .assert_eq(&text(&observed(true, Some("old"))));
        expect![""].assert_eq(&text(&observed(true, Some("PEM"))));
    }
}
