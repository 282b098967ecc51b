//! A backend that keeps nothing: for tests and the simulator.
