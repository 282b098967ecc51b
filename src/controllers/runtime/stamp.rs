//! The time as objects show it.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// The time in whole seconds, as it is stored, so that what is written compares equal to what is read back.
pub fn stamp(now: Timestamp) -> Time {
    Time(Timestamp::from_second(now.as_second()).expect("a timestamp's seconds are in range"))
}
