//! `EndpointTraffic`, skiff.dev/v1: what the data plane counts at the endpoints of Services, live.
//!
//! The data plane tells it by a `TrafficReport` while somebody looks; the server shows it as objects of this kind and stores nothing. The
//! picture of the dashboard draws connections by it.

use super::timeline::API_VERSION;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// What the data plane counts at an endpoint since it has it. A pod that comes back into the rotation is another endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EndpointTraffic {
    /// The Service's namespace.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// The Service.
    pub service: String,
    /// The name of its port; empty when it has none.
    pub port: String,
    /// `TCP` or `UDP`.
    pub protocol: String,
    /// Where the endpoint listens, with its port.
    pub address: String,
    /// The pod, when it is one.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub pod: String,
    /// The pod's UID.
    #[serde(skip_serializing_if = "String::is_empty", rename = "podUID")]
    pub pod_uid: String,
    /// Whether new connections go there.
    pub in_rotation: bool,
    /// Connections and requests begun, failed ones included.
    pub connections: u64,
    /// Those that are open now.
    pub active: u64,
    /// Connects that failed, after which another endpoint was tried, and what broke.
    pub errors: u64,
    /// Connections and requests that a client lost because the endpoint broke off.
    pub lost: u64,
    /// Bytes that clients sent.
    pub received_bytes: u64,
    /// Bytes that the endpoint sent.
    pub sent_bytes: u64,
    /// When it replied for the first time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_reply: Option<Timestamp>,
    /// When a client last lost a connection or a request there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_lost: Option<Timestamp>,
}

impl EndpointTraffic {
    /// Tells it from every other endpoint of its namespace.
    pub fn name(&self) -> String {
        let place = self.address.replace(['[', ']'], "").replace(':', "-");
        let parts = [self.service.as_str(), &self.port, &self.protocol.to_lowercase(), &place];
        parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(".")
    }

    /// The object that clients see.
    pub fn object(&self) -> Value {
        let mut object = json!(self);
        object["apiVersion"] = json!(API_VERSION);
        object["kind"] = json!("EndpointTraffic");
        object["metadata"] = json!({ "name": self.name(), "namespace": self.namespace });
        if let Some(fields) = object.as_object_mut() {
            fields.remove("namespace");
        }
        object
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_an_object_of_its_services_namespace() {
        let endpoint = EndpointTraffic {
            namespace: "shop".into(),
            service: "web".into(),
            port: "http".into(),
            protocol: "TCP".into(),
            address: "[fd00::5]:8080".into(),
            connections: 3,
            first_reply: Some("2026-01-01T00:00:00.25Z".parse().unwrap()),
            ..EndpointTraffic::default()
        };
        let object = endpoint.object();
        assert_eq!(object["metadata"], json!({ "name": "web.http.tcp.fd00--5-8080", "namespace": "shop" }));
        assert_eq!((&object["connections"], &object["firstReply"]), (&json!(3), &json!("2026-01-01T00:00:00.25Z")));
        assert_eq!((object.get("namespace"), object.get("pod")), (None, None));
    }
}
