//! What of a Route the router reads. Ingresses are read as `k8s-openapi` has them.

use k8s_openapi::{
    Metadata, NamespaceResourceScope, Resource,
    apimachinery::pkg::{apis::meta::v1::ObjectMeta, util::intstr::IntOrString},
};
use serde::Deserialize;

/// A Route, defaulted and valid as the API keeps it.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Route {
    /// Standard object metadata.
    pub metadata: ObjectMeta,
    /// What is wanted.
    pub spec: RouteSpec,
    /// What routers said of it, as it is.
    pub status: RouteStatus,
}

/// What is wanted of a Route.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RouteSpec {
    /// The name that it answers for; empty: the subdomain says it.
    pub host: String,
    /// The name below the router's domain.
    pub subdomain: String,
    /// Requests below this path are meant.
    pub path: String,
    /// The Service that answers.
    pub to: Target,
    /// More Services with a share.
    pub alternate_backends: Vec<Target>,
    /// The port of the endpoints.
    pub port: Option<RoutePort>,
    /// How TLS ends.
    pub tls: Option<Tls>,
    /// `None` or `Subdomain`.
    pub wildcard_policy: String,
    /// Changes of headers.
    pub http_headers: HttpHeaders,
}

/// A Service with its share.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Target {
    /// Its name.
    pub name: String,
    /// Its share of the sum of all weights.
    pub weight: Option<u16>,
}

/// A port of endpoints.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RoutePort {
    /// Its number, or its name.
    pub target_port: IntOrString,
}

/// How TLS ends.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Tls {
    /// `edge`, `reencrypt` or `passthrough`.
    pub termination: String,
    /// `None`, `Allow`, `Redirect`, or empty.
    pub insecure_edge_termination_policy: String,
    /// PEM, as the next three.
    pub certificate: String,
    /// The certificate's key.
    pub key: String,
    /// Certificates between it and the authority.
    #[serde(rename = "caCertificate")]
    pub ca_certificate: String,
    /// Who signs the pods' certificates.
    #[serde(rename = "destinationCACertificate")]
    pub destination_ca_certificate: String,
    /// A Secret with certificate and key.
    pub external_certificate: Named,
}

/// An object of the same namespace.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Named {
    /// Its name; empty: none.
    pub name: String,
}

/// Changes of headers.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct HttpHeaders {
    /// What is done.
    pub actions: HeaderActions,
}

/// Changes of headers, in order.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct HeaderActions {
    /// Of requests.
    pub request: Vec<HeaderAction>,
    /// Of answers.
    pub response: Vec<HeaderAction>,
}

/// A change of one header.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct HeaderAction {
    /// The header.
    pub name: String,
    /// What is done to it.
    pub action: Change,
}

/// What is done to a header.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Change {
    /// What it is set to; nothing: it goes.
    pub set: Option<Set>,
}

/// What a header is set to.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Set {
    /// A template (`api::header_template`).
    pub value: String,
}

/// What routers said of a Route.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct RouteStatus {
    /// One of each router, kept as JSON: those of other routers stay as they are.
    pub ingress: Option<Vec<serde_json::Value>>,
}

impl Resource for Route {
    const API_VERSION: &'static str = "route.openshift.io/v1";
    const GROUP: &'static str = "route.openshift.io";
    const KIND: &'static str = "Route";
    const VERSION: &'static str = "v1";
    const URL_PATH_SEGMENT: &'static str = "routes";
    type Scope = NamespaceResourceScope;
}

impl Metadata for Route {
    type Ty = ObjectMeta;

    fn metadata(&self) -> &ObjectMeta {
        &self.metadata
    }
    fn metadata_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}
