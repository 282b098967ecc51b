//! Level 3: who somebody is and what they may do. May use `api`, `registry`, `store` and `base`; never `server`, which asks it.
//!
//! - [`user`]: who calls. [`tokens`]: those of service accounts, issued and read.
//! - [`rbac`]: what roles and their bindings grant. [`node`](mod@node): what nodes may beside that. [`rule`]: one rule of a role. [`escalation`]: nobody grants what they lack.
//! - [`roles`]: the roles and bindings that every cluster has.
//!
//! **Not here**: client certificates (`server/tls`), which headers say what (`server/auth`), the kinds themselves (`api/kinds`).

pub mod escalation;
pub mod node;
pub mod rbac;
pub mod roles;
pub mod rule;
pub mod tokens;
pub mod user;

pub use rbac::Rbac;
pub use tokens::Tokens;
pub use user::User;
