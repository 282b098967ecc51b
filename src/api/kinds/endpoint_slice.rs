//! `EndpointSlice`, discovery.k8s.io/v1: the addresses that answer for a Service.
//!
//! **Source**: `pkg/apis/discovery/{v1/defaults,validation/validation}.go`,
//! `pkg/registry/discovery/endpointslice/strategy.go`, v1.37.

use super::{
    check::{self, Errors},
    pod_spec::defaults,
};
use crate::{
    api::{
        field::FieldError,
        kind::{ALL_VERBS, Kind, KindInfo, Scope},
        table::{self, Column},
    },
    base::ordered::Set,
};
use jiff::Timestamp;
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointPort, EndpointSlice};
use serde_json::{Value, json};
use std::net::{Ipv4Addr, Ipv6Addr};

const ENDPOINTS_MAX: usize = 1000;
const ADDRESSES_MAX: usize = 100;
const PORTS_MAX: usize = 20_000;

/// The kind `EndpointSlice`.
#[derive(Debug)]
pub struct EndpointSlices;

impl Kind for EndpointSlices {
    type Object = EndpointSlice;
    const INFO: KindInfo<'static> = KindInfo {
        group: "discovery.k8s.io",
        version: "v1",
        kind: "EndpointSlice",
        plural: "endpointslices",
        singular: "endpointslice",
        short_names: &[],
        categories: &[],
        scope: Scope::Namespaced,
        verbs: ALL_VERBS,
        subresources: &[],
        columns: &[
            Column::name(),
            Column::text("AddressType", "What the addresses are."),
            Column::text("Ports", "The ports that answer."),
            Column::text("Endpoints", "The addresses that answer."),
            Column::age(),
        ],
        stored_as: None,
        schema: "io.k8s.api.discovery.v1.EndpointSlice",
    };

    fn set_defaults(obj: &mut EndpointSlice) {
        for port in obj.ports.iter_mut().flatten() {
            port.name.get_or_insert_default();
            defaults::text(&mut port.protocol, "TCP");
        }
    }

    fn validate(obj: &EndpointSlice) -> Errors {
        let mut errs = Errors::new();
        check::one_of(&mut errs, "addressType", Some(&obj.address_type), &["FQDN", "IPv4", "IPv6"]);
        validate_endpoints(&mut errs, obj);
        validate_ports(&mut errs, obj.ports.as_deref().unwrap_or_default());
        errs
    }

    fn validate_update(new: &EndpointSlice, old: &EndpointSlice) -> Errors {
        let mut errs = Errors::new();
        check::immutable(&mut errs, "addressType", &new.address_type, &old.address_type);
        errs
    }

    fn has_generation() -> bool {
        true
    }

    fn same_spec(new: &EndpointSlice, old: &EndpointSlice) -> bool {
        new.endpoints == old.endpoints && new.ports == old.ports && new.address_type == old.address_type
    }

    fn row(obj: &EndpointSlice, now: Timestamp) -> Vec<Value> {
        const UNSET: &str = "<unset>";
        let port = |p: &EndpointPort| match (p.port, &p.name) {
            (Some(number), _) => number.to_string(),
            (None, Some(name)) => name.clone(),
            (None, None) => "*".to_owned(),
        };
        let ports: Vec<String> = obj.ports.iter().flatten().map(port).collect();
        let addresses: Vec<String> = obj.endpoints.iter().flatten().flat_map(|e| e.addresses.clone()).collect();
        vec![
            table::name(&obj.metadata),
            json!(obj.address_type),
            table::up_to_three(&ports, UNSET),
            table::up_to_three(&addresses, UNSET),
            table::age(&obj.metadata, now),
        ]
    }
}

fn validate_endpoints(errs: &mut Errors, obj: &EndpointSlice) {
    let endpoints = obj.endpoints.as_deref().unwrap_or_default();
    if endpoints.len() > ENDPOINTS_MAX {
        errs.push(FieldError::too_many("endpoints", endpoints.len(), ENDPOINTS_MAX));
        return;
    }
    for (i, endpoint) in endpoints.iter().enumerate() {
        validate_endpoint(errs, endpoint, &obj.address_type, &format!("endpoints[{i}]"));
    }
}

fn validate_endpoint(errs: &mut Errors, endpoint: &Endpoint, address_type: &str, path: &str) {
    let at = format!("{path}.addresses");
    match endpoint.addresses.len() {
        0 => errs.push(FieldError::required(&at, "must contain at least 1 address")),
        n if n > ADDRESSES_MAX => errs.push(FieldError::too_many(&at, n, ADDRESSES_MAX)),
        _ => {}
    }
    for (i, address) in endpoint.addresses.iter().enumerate() {
        validate_address(errs, address, address_type, &format!("{at}[{i}]"));
    }
    if let Some(name) = &endpoint.node_name {
        check::subdomain(errs, &format!("{path}.nodeName"), name);
    }
    if let Some(name) = &endpoint.hostname {
        check::label(errs, &format!("{path}.hostname"), name);
    }
}

fn validate_address(errs: &mut Errors, address: &str, address_type: &str, path: &str) {
    let parsed = match address_type {
        "IPv4" => address.parse().map(|ip: Ipv4Addr| ip.into()).map_err(|_| "must be a valid IPv4 address"),
        "IPv6" => address.parse().map(|ip: Ipv6Addr| ip.into()).map_err(|_| "must be a valid IPv6 address"),
        "FQDN" => return validate_domain(errs, address, path),
        _ => return,
    };
    match parsed {
        Ok(ip) => check::endpoint_ip(errs, path, address, ip),
        Err(why) => errs.push(FieldError::invalid(path, address, why)),
    }
}

fn validate_domain(errs: &mut Errors, address: &str, path: &str) {
    let name = address.strip_suffix('.').unwrap_or(address);
    check::subdomain(errs, path, name);
    if name.split('.').count() < 2 {
        let why = "should be a domain with at least two segments separated by dots";
        errs.push(FieldError::invalid(path, address, why));
    }
}

fn validate_ports(errs: &mut Errors, ports: &[EndpointPort]) {
    if ports.len() > PORTS_MAX {
        errs.push(FieldError::too_many("ports", ports.len(), PORTS_MAX));
        return;
    }
    let mut taken = Set::new();
    for (i, port) in ports.iter().enumerate() {
        let at = format!("ports[{i}]");
        let name = port.name.as_deref().unwrap_or_default();
        if !name.is_empty() {
            check::label(errs, &format!("{at}.name"), name);
        }
        if !taken.insert(name) {
            errs.push(FieldError::duplicate(format!("{at}.name"), name));
        }
        if let Some(number) = port.port {
            check::port_number(errs, &format!("{at}.port"), number);
        }
        check::protocol(errs, format!("{at}.protocol"), port.protocol.as_deref());
        if let Some(protocol) = &port.app_protocol {
            check::qualified_name(errs, &format!("{at}.appProtocol"), protocol);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::kinds::testing::{causes, created_yaml, row, update_causes};
    use expect_test::expect;

    const WEB: &str = "
metadata: {name: web-1}
addressType: IPv4
endpoints: [{addresses: [10.244.0.2], conditions: {ready: true}}]
ports: [{port: 80}]
";

    #[test]
    fn ports_are_filled_in() {
        expect![[r#"
            apiVersion: discovery.k8s.io/v1
            kind: EndpointSlice
            addressType: IPv4
            endpoints:
            - addresses:
              - 10.244.0.2
              conditions:
                ready: true
            metadata:
              name: web-1
            ports:
            - name: ''
              port: 80
              protocol: TCP
        "#]]
        .assert_eq(&created_yaml::<EndpointSlices>(WEB));
        assert_eq!(causes::<EndpointSlices>(WEB), "");
    }

    #[test]
    fn what_is_wrong_is_named() {
        let wrong = "
addressType: IPv4
endpoints: [{addresses: []}, {addresses: ['::1', 127.0.0.1], hostname: A, nodeName: B}]
ports: [{port: 99999, name: A}, {name: b, protocol: X}, {name: b, appProtocol: 'a b'}]
";
        expect![[r#"
            endpoints[0].addresses: Required value: must contain at least 1 address
            endpoints[1].addresses[0]: Invalid value: "::1": must be a valid IPv4 address
            endpoints[1].addresses[1]: Invalid value: "127.0.0.1": may not be in the loopback range (127.0.0.0/8, ::1/128)
            endpoints[1].nodeName: Invalid value: "B": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
            endpoints[1].hostname: Invalid value: "A": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')
            ports[0].name: Invalid value: "A": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')
            ports[0].port: Invalid value: 99999: must be between 1 and 65535, inclusive
            ports[1].protocol: Unsupported value: "X": supported values: "SCTP", "TCP", "UDP"
            ports[2].name: Duplicate value: "b"
            ports[2].appProtocol: Invalid value: "a b": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')
        "#]].assert_eq(&causes::<EndpointSlices>(wrong));
        expect![[r#"
            endpoints[0].addresses[0]: Invalid value: "host": should be a domain with at least two segments separated by dots
        "#]].assert_eq(&causes::<EndpointSlices>("addressType: FQDN\nendpoints: [{addresses: [host]}]"));
        expect![[r#"
            addressType: Required value
        "#]]
        .assert_eq(&causes::<EndpointSlices>("metadata: {name: a}"));
        expect![[r#"
            addressType: Invalid value: "IPv6": field is immutable
        "#]]
        .assert_eq(&update_causes::<EndpointSlices>(WEB, "addressType: IPv6\nendpoints: []"));
    }

    #[test]
    fn rows_read_as_in_kubernetes() {
        expect!["web-1 | IPv4 | 80 | 10.244.0.2 | <unknown>"].assert_eq(&row::<EndpointSlices>(WEB));
        let many = "
metadata: {name: many}
addressType: IPv4
endpoints: [{addresses: [a, b]}, {addresses: [c]}, {addresses: [d]}]
ports: [{port: 1}, {name: n}, {}, {port: 4}, {port: 5}]
";
        expect!["many | IPv4 | 1,n,* + 2 more... | a,b,c + 1 more... | <unknown>"]
            .assert_eq(&row::<EndpointSlices>(many));
        expect!["none | IPv4 | <unset> | <unset> | <unknown>"]
            .assert_eq(&row::<EndpointSlices>("metadata: {name: none}\naddressType: IPv4"));
    }
}
