//! Small checks that many kinds make: each adds what is wrong with one value to a list.
//!
//! **Source** of the texts: `k8s.io/apimachinery/pkg/api/validation/{generic,objectmeta}.go` and `util/validation/ip.go`, v1.37.

use crate::api::{field::FieldError, names};
use serde::Serialize;
use std::net::IpAddr;

/// What is wrong with an object, as it is collected.
pub(super) type Errors = Vec<FieldError>;

const PROTOCOLS: &[&str] = &["SCTP", "TCP", "UDP"];

/// Each sentence says how `value` is wrong.
pub(super) fn each(errs: &mut Errors, path: &str, value: impl Serialize, wrong: Vec<String>) {
    errs.extend(wrong.into_iter().map(|why| FieldError::invalid(path, &value, why)));
}

/// The number, where given, is not negative.
pub(super) fn non_negative(errs: &mut Errors, path: impl Into<String>, value: Option<impl Into<i64>>) {
    let Some(value) = value.map(Into::into) else { return };
    if value < 0 {
        errs.push(FieldError::invalid(path, value, "must be greater than or equal to 0"));
    }
}

/// The value did not change.
pub(super) fn immutable<T: Serialize + PartialEq>(errs: &mut Errors, path: &str, new: &T, old: &T) {
    if new != old {
        errs.push(FieldError::invalid(path, new, "field is immutable"));
    }
}

/// The text is given and one of a few.
pub(super) fn one_of(errs: &mut Errors, path: impl Into<String>, value: Option<&str>, supported: &[&str]) {
    match value.unwrap_or_default() {
        "" => errs.push(FieldError::required(path, "")),
        given if supported.contains(&given) => {}
        given => errs.push(FieldError::not_supported(path, given, supported)),
    }
}

/// The text is, where given, one of a few.
pub(super) fn maybe_one_of(errs: &mut Errors, path: impl Into<String>, value: Option<&str>, supported: &[&str]) {
    if value.is_some() {
        one_of(errs, path, value, supported);
    }
}

/// The protocol is given and known.
pub(super) fn protocol(errs: &mut Errors, path: impl Into<String>, value: Option<&str>) {
    one_of(errs, path, value, PROTOCOLS);
}

/// The text is a DNS-1123 label.
pub(super) fn label(errs: &mut Errors, path: &str, value: &str) {
    each(errs, path, value, names::dns1123_label(value));
}

/// The text is a DNS-1123 subdomain.
pub(super) fn subdomain(errs: &mut Errors, path: &str, value: &str) {
    each(errs, path, value, names::dns1123_subdomain(value));
}

/// The text is a qualified name.
pub(super) fn qualified_name(errs: &mut Errors, path: &str, value: &str) {
    each(errs, path, value, names::qualified_name(value));
}

/// The number is a port.
pub(super) fn port_number(errs: &mut Errors, path: &str, value: i32) {
    each(errs, path, value, names::port_number(i64::from(value)));
}

/// The text is an IP address.
pub(super) fn ip(errs: &mut Errors, path: &str, value: &str) -> Option<IpAddr> {
    let parsed = value.parse().ok();
    if parsed.is_none() {
        let why = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
        errs.push(FieldError::invalid(path, value, why));
    }
    parsed
}

/// The address may be that of an endpoint.
/// Source: `ValidateEndpointIP` in `pkg/apis/core/validation/validation.go`.
pub(super) fn endpoint_ip(errs: &mut Errors, path: &str, value: &str, ip: IpAddr) {
    let mut refuse = |why: &str| errs.push(FieldError::invalid(path, value, why));
    if ip.is_unspecified() {
        refuse(&format!("may not be unspecified ({value})"));
    }
    if ip.is_loopback() {
        refuse("may not be in the loopback range (127.0.0.0/8, ::1/128)");
    }
    let (unicast, multicast) = match ip {
        IpAddr::V4(v4) => (v4.is_link_local(), v4.octets()[..3] == [224, 0, 0]),
        IpAddr::V6(v6) => (v6.segments()[0] & 0xffc0 == 0xfe80, v6.segments()[0] & 0xff0f == 0xff02),
    };
    if unicast {
        refuse("may not be in the link-local range (169.254.0.0/16, fe80::/10)");
    }
    if multicast {
        refuse("may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)");
    }
}
