//! The agent on the fake engine.
