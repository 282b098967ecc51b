//! Tests on the real thing: real Docker, the real binary, real kubectl. One binary, a module per subject.
//!
//! They install what they need (see `harness::tools`) and fail, never skip, when it cannot be had; but for Chromium, which only root can
//! install. Each test has a cluster of its own; those that use the ports which a
//! user's cluster has, or measure, have the machine to themselves (`Cluster::start_alone`), the others run beside each other.
#![allow(unreachable_pub, reason = "a test binary has no outside")]
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test that cannot go on says so and ends")]
#![allow(clippy::disallowed_methods, reason = "these tests run in real time, against real programs")]

mod access;
mod addresses;
mod applications;
mod apply;
mod autoscaling;
mod background;
mod bad_input;
mod clients;
mod commands;
mod crash;
mod dashboard;
mod data_plane;
mod deployments;
mod harness;
mod hostile;
mod identity;
mod image_streams;
mod last_words;
mod logical_nodes;
mod openshift;
mod outside;
mod pages;
mod pods;
mod poison;
mod replica_sets;
mod router;
mod snapshot;
mod standby;
mod story;
mod streams;
mod surroundings;
mod upgrade;
mod volumes;
mod workloads;
mod wrong_uses;
