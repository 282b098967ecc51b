//! What every controller shares: the work queue, the loop, the triggers, and the execution of what was decided.
//!
//! A controller is `observe → decide → execute → conclude → execute`:
//! - `observe` reads all that the decision needs, from the store's memory, and tells the time;
//! - `decide` is pure and says what to change in the world;
//! - `execute` does it, with preconditions, the same way for all;
//! - `conclude` is pure too and is given the world as it is afterwards and what became of each step: it writes the status.
//!
//! May use `api` and `registry`. **Not here**: any controller's own rules.
//!
//! **Invariants**: a decision never learns why it was woken; a key never runs twice at once; there is no state between two passes.

pub mod claim;
pub mod decision;
pub mod execute;
pub mod metrics;
pub mod queue;
pub mod run;
pub mod stamp;
#[cfg(test)]
mod tests;
pub mod trigger;

pub use claim::{Claim, claim, controller_reference, is_selected, selector_of};
pub use decision::{Action, Decision, EventDraft, Planned, Report, Step, erased};
pub use execute::{Done, is_moved};
pub use metrics::Metrics;
pub use run::{Controller, run};
pub use stamp::stamp;
pub use trigger::{Moved, Trigger, controller_key};
