//! A deterministic engine for tests and the simulator.
