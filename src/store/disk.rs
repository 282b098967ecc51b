//! The `redb` backend.
