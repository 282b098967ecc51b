//! `Endpoints`, core/v1: the older form of EndpointSlices.
//!
//! **Source**: `pkg/apis/core/{v1/defaults,validation/validation}.go`, v1.37.

use super::{
    check::{self, Errors},
    pod_spec::defaults,
};
use crate::api::{
    field::FieldError,
    kind::{ALL_VERBS, Kind, KindInfo, Scope},
    table::{self, Column},
};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{EndpointAddress, EndpointPort, EndpointSubset, Endpoints};
use serde_json::Value;

/// The kind `Endpoints`.
#[derive(Debug)]
pub struct EndpointsKind;

impl Kind for EndpointsKind {
    type Object = Endpoints;
    const INFO: KindInfo<'static> = KindInfo {
        group: "",
        version: "v1",
        kind: "Endpoints",
        plural: "endpoints",
        singular: "endpoints",
        short_names: &["ep"],
        categories: &[],
        scope: Scope::Namespaced,
        verbs: ALL_VERBS,
        subresources: &[],
        columns: &[Column::name(), Column::text("Endpoints", "The addresses and ports that answer."), Column::age()],
        stored_as: None,
        schema: "io.k8s.api.core.v1.Endpoints",
    };

    fn set_defaults(obj: &mut Endpoints) {
        let ports = obj.subsets.iter_mut().flatten().flat_map(|s| s.ports.iter_mut().flatten());
        ports.for_each(|port| defaults::text(&mut port.protocol, "TCP"));
    }

    fn validate(obj: &Endpoints) -> Errors {
        let mut errs = Errors::new();
        for (i, subset) in obj.subsets.iter().flatten().enumerate() {
            validate_subset(&mut errs, subset, &format!("subsets[{i}]"));
        }
        errs
    }

    fn creates_on_update() -> bool {
        true
    }

    fn row(obj: &Endpoints, now: Timestamp) -> Vec<Value> {
        let all: Vec<String> = obj.subsets.iter().flatten().flat_map(endpoints).collect();
        // Subsets without a ready address show as nothing, not even as `<none>`.
        let placeholder = if obj.subsets.as_ref().is_none_or(Vec::is_empty) { table::NONE } else { "" };
        vec![table::name(&obj.metadata), table::up_to_three(&all, placeholder), table::age(&obj.metadata, now)]
    }
}

/// `address:port` for each pair, or the addresses alone when there are no ports.
fn endpoints(subset: &EndpointSubset) -> Vec<String> {
    let addresses = subset.addresses.as_deref().unwrap_or_default();
    let ports = subset.ports.as_deref().unwrap_or_default();
    if ports.is_empty() {
        return addresses.iter().map(|a| a.ip.clone()).collect();
    }
    let host = |ip: &str| if ip.contains(':') { format!("[{ip}]") } else { ip.to_owned() };
    ports.iter().flat_map(|p| addresses.iter().map(move |a| format!("{}:{}", host(&a.ip), p.port))).collect()
}

fn validate_subset(errs: &mut Errors, subset: &EndpointSubset, path: &str) {
    let ready = subset.addresses.as_deref().unwrap_or_default();
    let not_ready = subset.not_ready_addresses.as_deref().unwrap_or_default();
    if ready.is_empty() && not_ready.is_empty() {
        errs.push(FieldError::required(path, "must specify `addresses` or `notReadyAddresses`"));
    }
    for (list, addresses) in [("addresses", ready), ("notReadyAddresses", not_ready)] {
        for (i, address) in addresses.iter().enumerate() {
            validate_address(errs, address, &format!("{path}.{list}[{i}]"));
        }
    }
    let ports = subset.ports.as_deref().unwrap_or_default();
    for (i, port) in ports.iter().enumerate() {
        validate_port(errs, port, ports.len() > 1, &format!("{path}.ports[{i}]"));
    }
}

fn validate_address(errs: &mut Errors, address: &EndpointAddress, path: &str) {
    let at = format!("{path}.ip");
    if let Some(ip) = check::ip(errs, &at, &address.ip) {
        check::endpoint_ip(errs, &at, &address.ip, ip);
    }
    if let Some(name) = address.hostname.as_deref().filter(|n| !n.is_empty()) {
        check::label(errs, &format!("{path}.hostname"), name);
    }
    if let Some(name) = &address.node_name {
        check::subdomain(errs, &format!("{path}.nodeName"), name);
    }
}

fn validate_port(errs: &mut Errors, port: &EndpointPort, needs_name: bool, path: &str) {
    match port.name.as_deref().unwrap_or_default() {
        "" if needs_name => errs.push(FieldError::required(format!("{path}.name"), "")),
        "" => {}
        name => check::label(errs, &format!("{path}.name"), name),
    }
    check::port_number(errs, &format!("{path}.port"), port.port);
    check::protocol(errs, format!("{path}.protocol"), port.protocol.as_deref());
    if let Some(protocol) = &port.app_protocol {
        check::qualified_name(errs, &format!("{path}.appProtocol"), protocol);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::kinds::testing::{causes, row};
    use expect_test::expect;

    #[test]
    fn what_is_wrong_is_named() {
        let wrong = "
subsets:
- {}
- addresses: [{ip: 127.0.0.1}, {ip: 169.254.1.1}, {ip: 0.0.0.0}, {ip: 224.0.0.9}, {ip: x, hostname: A, nodeName: B}]
  ports: [{port: 0}, {port: 80, name: A, protocol: X, appProtocol: 'a b'}]
";
        expect![[r#"
            subsets[0]: Required value: must specify `addresses` or `notReadyAddresses`
            subsets[1].addresses[0].ip: Invalid value: "127.0.0.1": may not be in the loopback range (127.0.0.0/8, ::1/128)
            subsets[1].addresses[1].ip: Invalid value: "169.254.1.1": may not be in the link-local range (169.254.0.0/16, fe80::/10)
            subsets[1].addresses[2].ip: Invalid value: "0.0.0.0": may not be unspecified (0.0.0.0)
            subsets[1].addresses[3].ip: Invalid value: "224.0.0.9": may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)
            subsets[1].addresses[4].ip: Invalid value: "x": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)
            subsets[1].addresses[4].hostname: Invalid value: "A": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')
            subsets[1].addresses[4].nodeName: Invalid value: "B": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
            subsets[1].ports[0].name: Required value
            subsets[1].ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive
            subsets[1].ports[1].name: Invalid value: "A": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')
            subsets[1].ports[1].protocol: Unsupported value: "X": supported values: "SCTP", "TCP", "UDP"
            subsets[1].ports[1].appProtocol: Invalid value: "a b": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')
        "#]].assert_eq(&causes::<EndpointsKind>(wrong));
        assert_eq!(causes::<EndpointsKind>("subsets: [{addresses: [{ip: 10.244.0.2}], ports: [{port: 80}]}]"), "");
    }

    #[test]
    fn rows_read_as_in_kubernetes() {
        let row = |subsets: &str| row::<EndpointsKind>(&format!("metadata: {{name: web}}\nsubsets: {subsets}"));
        expect!["web | <none> | <unknown>"].assert_eq(&row("[]"));
        expect!["web | 10.1.2.3:80,[::1]:80,10.1.2.3:81 + 1 more... | <unknown>"]
            .assert_eq(&row("[{addresses: [{ip: 10.1.2.3}, {ip: '::1'}], ports: [{port: 80}, {port: 81}]}]"));
        expect!["web | 10.1.2.3 | <unknown>"].assert_eq(&row("[{addresses: [{ip: 10.1.2.3}]}]"));
        expect!["web |  | <unknown>"].assert_eq(&row("[{notReadyAddresses: [{ip: 10.1.2.3}], ports: [{port: 80}]}]"));
    }
}
