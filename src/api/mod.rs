//! Level 1: what objects are. Pure: no I/O, no async, no clock. May use `base`.
pub mod agreements;
pub mod bounds;
pub mod cron;
pub mod disruption;
pub mod ephemeral;
pub mod fence;
pub mod field;
pub mod header_template;
pub mod http_options;
pub mod image_name;
pub mod json_kind;
pub mod kind;
pub mod kinds;
pub mod logical_node;
pub mod managed;
pub mod meta;
pub mod names;
pub mod node_port_range;
pub mod object;
pub mod patch;
pub mod pod_claims;
pub mod pod_resources;
pub mod pod_security;
pub mod pod_state;
pub mod quantity;
pub mod rollout;
pub mod router_certificates;
pub mod schema;
pub mod selector;
pub mod service_range;
pub mod status;
pub mod table;
pub mod template;
pub mod timeline;
pub mod usage;

#[cfg(test)]
mod tests;
