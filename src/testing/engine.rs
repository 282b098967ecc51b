//! What tests share from the engine on.

use crate::engine::{Container, Phase, Resources};
use jiff::Timestamp;
pub use skiff_base::testing::*;
use std::collections::BTreeMap;

/// A container that runs, with these labels and nothing else told of it.
pub fn container(id: &str, labels: BTreeMap<String, String>) -> Container {
    Container {
        id: id.to_owned(),
        name: String::new(),
        labels,
        image: String::new(),
        image_id: String::new(),
        phase: Phase::Running,
        exit_code: 0,
        oom_killed: false,
        error: String::new(),
        created_at: Timestamp::UNIX_EPOCH,
        started_at: None,
        finished_at: None,
        ip: None,
        pid: 0,
        restarts_itself: false,
        resources: Resources::default(),
    }
}
