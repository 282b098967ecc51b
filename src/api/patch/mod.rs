//! Patches: JSON values in, JSON values out.
