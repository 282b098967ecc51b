//! Level 6: the other lives of the binary, each small: what skiff runs inside containers of its own image.
pub mod bind_paths;
mod called;
pub mod demo_server;
pub mod deployer;
pub mod end_processes;
pub mod forward;
pub mod host_paths;
pub mod pause;
pub mod proxy;
pub mod shell;
mod shield;
mod stop;

pub use called::called;
pub use shield::shield;
pub use stop::listen_early;
