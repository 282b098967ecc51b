//! Tests on the real thing: real Docker, the real binary, real kubectl. One binary, a module per subject.
//!
//! They install what they need (see `harness::tools`) and fail, never skip, when it cannot be had. Each test has a cluster of its own;
//! they take turns, because host ports are shared.

mod bad_input;
mod harness;
mod story;
