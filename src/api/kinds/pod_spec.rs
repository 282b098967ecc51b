//! The rules of pod specs, shared by Pods and by every kind with a pod template.
//!
//! - [`defaults`]: what is filled in.
//! - [`validate`]: all that is wrong, in Kubernetes' words; what skiff cannot do (yet) is refused here too, never ignored.
//! - [`warnings`]: what is accepted though it has no effect.
//!
//! **Not here**: the pod's own life (`pod`), what owners ask of templates (`pod_template`).
//! **Source**: `pkg/apis/core/v1/defaults.go`, `pkg/apis/core/validation/validation.go`, v1.37.

mod containers;
pub(super) mod defaults;
mod env;
mod handlers;
mod resources;
pub(super) mod scheduling;
mod security;
mod support;
#[cfg(test)]
mod tests;
mod validate;
mod volumes;
mod warnings;

pub(super) use env::variables as check_env;
pub(super) use handlers::port as port_or_name;
pub(super) use resources::requirements as check_resources;
pub(super) use scheduling::check_taints;
pub(super) use validate::validate;
pub(super) use warnings::warnings;

/// What the rules depend on beside the spec.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Of {
    /// The spec of a Pod.
    Pod,
    /// The spec of a template, which a Pod's defaults have not touched.
    Template,
}

/// The end of every refusal of what skiff cannot do.
fn not_yet(what: &str) -> String {
    format!("skiff does not support {what} yet")
}
