#![doc = include_str!("ARCHITECTURE.md")]

pub mod api;
pub mod app;
pub mod base;
pub mod cli;
pub mod client;
pub mod controllers;
pub mod engine;
pub mod identity;
pub mod net;
pub mod node;
pub mod registry;
pub mod roles;
pub mod server;
#[cfg(test)]
mod sim;
pub mod store;
#[cfg(test)]
pub mod testing;
#[cfg(test)]
mod tidy;
