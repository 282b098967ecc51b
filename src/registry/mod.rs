//! Level 2: the API as functions. Everything that reads or writes objects goes through here. May use `api`, `store`, `base`.
//!
//! - [`pipeline`]: decode → default → admit → validate → write, once, for every kind and verb.
//! - [`client`]: [`client::Api`], the typed in-process client that controllers and the node agent use.
//!
//! Reads come from the store's memory and are exact: a read sees every write that was answered, so callers need no expectations.

pub mod admission;
pub mod alloc;
pub mod client;
pub mod disruption;
mod encode;
pub mod events;
pub mod fence;
pub mod keys;
mod metadata;
pub mod options;
pub mod pipeline;
pub mod quota;

pub use metadata::check_preconditions;
pub use pipeline::Registry;
