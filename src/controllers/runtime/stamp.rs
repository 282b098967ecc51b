//! The time as objects show it.

use crate::base::clock::whole_seconds;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// The time as it is stored.
pub fn stamp(now: Timestamp) -> Time {
    Time(whole_seconds(now))
}
